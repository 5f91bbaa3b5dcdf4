//! One environment around another: [`Wrapped`] makes it of what is inside and of a [`Layer`], which
//! says only what differs.

use rookery_common::seeds::Random;
use rookery_common::snapshot;
use rookery_common::spaces::EnvironmentSpec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::environments::{
    BatchedEnvironment, EnvironmentFault, Frame, Grid, RestoreError, StepOutput,
};

/// The format of [`Wrapped`]'s own part of a snapshot.
const SNAPSHOT_VERSION: u8 = 1;

/// What a wrapper does; everything that it does not say passes unchanged.
pub(super) trait Layer: Send {
    /// What the wrapper remembers of one instance.
    type State: Serialize + DeserializeOwned + Send;

    /// Begins an episode of instance `index`, whose memory is `state`.
    fn reset(
        &mut self,
        state: &mut Self::State,
        inner: &mut dyn BatchedEnvironment,
        index: usize,
        random: Random,
        observation: &mut [f32],
    ) -> Result<(), EnvironmentFault> {
        let _ = state;
        inner.reset(index, random, observation)
    }

    /// Steps the instances that are active.
    fn step(
        &mut self,
        states: &mut [Self::State],
        inner: &mut Inner<'_>,
        actions: &[f32],
        output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        let _ = states;
        inner.step(actions, output)
    }

    /// What [`step`](Self::step) gives the environment inside, `[B, A]`; none where it takes another number of
    /// steps than one or does not know beforehand which actions. A hosted batch checks what it was told.
    fn actions_inside<'a>(&'a mut self, actions: &'a [f32]) -> Option<&'a [f32]> {
        Some(actions)
    }

    /// Whether an instance with this memory has ended its episode and not its game.
    fn can_go_on(&self, state: &Self::State) -> bool {
        let _ = state;
        false
    }

    /// Begins an episode where the game stands that instance `index` shows in `observation`.
    fn go_on(&mut self, state: &mut Self::State, observation: &mut [f32]) {
        let _ = (state, observation);
    }

    /// Writes what is observed now.
    fn observe(
        &self,
        states: &[Self::State],
        inner: &dyn BatchedEnvironment,
        observations: &mut [f32],
    ) {
        let _ = states;
        inner.observe(observations);
    }

    /// What the last step earned in the environment itself, where this layer changes rewards.
    fn raw_rewards(&self) -> Option<&[f32]> {
        None
    }

    /// Whether what is observed is what the environment inside shows.
    fn shows_what_is_inside(&self) -> bool {
        true
    }

    /// Whether an instance can be in this state.
    fn is_possible(&self, state: &Self::State) -> bool {
        let _ = state;
        true
    }
}

/// What is inside, and which of its instances take the step.
pub(super) struct Inner<'a> {
    environment: &'a mut dyn BatchedEnvironment,
    active: Option<&'a [bool]>,
}

impl Inner<'_> {
    /// Steps the active instances.
    pub(super) fn step(
        &mut self,
        actions: &[f32],
        output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        match self.active {
            None => self.environment.step(actions, output),
            Some(active) => self.environment.step_some(active, actions, output),
        }
    }

    /// Whether instance `index` takes the step.
    pub(super) fn is_active(&self, index: usize) -> bool {
        self.active.is_none_or(|active| active[index])
    }

    /// The environment itself.
    pub(super) fn environment(&mut self) -> &mut dyn BatchedEnvironment {
        self.environment
    }
}

/// An environment with a layer around it.
pub(super) struct Wrapped<L: Layer> {
    inner: Box<dyn BatchedEnvironment>,
    spec: EnvironmentSpec,
    layer: L,
    /// What the layer remembers of each instance, `[B]`.
    states: Vec<L::State>,
}

impl<L: Layer> Wrapped<L> {
    /// Puts `layer` around `inner`, which looks like `spec` from then on; `state` is a valid memory
    /// for an instance that has not been reset yet.
    pub(super) fn new(
        inner: Box<dyn BatchedEnvironment>,
        spec: EnvironmentSpec,
        layer: L,
        state: impl Fn() -> L::State,
    ) -> Self {
        let states = (0..inner.num_envs()).map(|_| state()).collect();
        Self {
            inner,
            spec,
            layer,
            states,
        }
    }
}

impl<L: Layer> BatchedEnvironment for Wrapped<L> {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn num_envs(&self) -> usize {
        self.states.len()
    }

    fn reset(
        &mut self,
        index: usize,
        random: Random,
        observation: &mut [f32],
    ) -> Result<(), EnvironmentFault> {
        assert_eq!(observation.len(), self.spec.observation.width(), "[W]");
        let state = &mut self.states[index];
        self.layer
            .reset(state, &mut *self.inner, index, random, observation)
    }

    fn prepare(&mut self, index: usize, random: &Random) {
        self.inner.prepare(index, random);
    }

    fn is_elsewhere(&self) -> bool {
        self.inner.is_elsewhere()
    }

    fn begin_step(&mut self, actions: &[f32]) -> Result<(), EnvironmentFault> {
        match self.layer.actions_inside(actions) {
            Some(actions) => self.inner.begin_step(actions),
            None => Ok(()),
        }
    }

    fn step(&mut self, actions: &[f32], output: StepOutput<'_>) -> Result<(), EnvironmentFault> {
        self.advance(None, actions, output)
    }

    fn step_some(
        &mut self,
        active: &[bool],
        actions: &[f32],
        output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        assert_eq!(active.len(), self.states.len(), "[B]");
        self.advance(Some(active), actions, output)
    }

    fn lives(&self) -> Option<&[i32]> {
        self.inner.lives()
    }

    fn can_go_on(&self, index: usize) -> bool {
        self.layer.can_go_on(&self.states[index])
    }

    fn go_on(&mut self, index: usize, observation: &mut [f32]) -> Result<(), EnvironmentFault> {
        let width = self.spec.observation.width();
        assert_eq!(observation.len(), width, "[W]");
        if !self.can_go_on(index) {
            return Err(EnvironmentFault::new(format!(
                "the game of environment {index} is over; reset it"
            )));
        }
        let mut rows = vec![0.0; self.states.len() * width];
        self.inner.observe(&mut rows);
        observation.copy_from_slice(&rows[index * width..][..width]);
        self.layer.go_on(&mut self.states[index], observation);
        Ok(())
    }

    fn raw_rewards(&self) -> Option<&[f32]> {
        self.layer
            .raw_rewards()
            .or_else(|| self.inner.raw_rewards())
    }

    fn observe(&self, observations: &mut [f32]) {
        let width = self.spec.observation.width();
        assert_eq!(observations.len(), self.states.len() * width, "[B, W]");
        self.layer.observe(&self.states, &*self.inner, observations);
    }

    fn save(&self, state: &mut Vec<u8>) {
        snapshot::encode(SNAPSHOT_VERSION, &self.states, state);
        self.inner.save(state);
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let (states, inside) = snapshot::decode::<Vec<L::State>>(SNAPSHOT_VERSION, state)?;
        if states.len() != self.states.len() {
            return Err(RestoreError::Mismatch {
                field: "number of wrapped environments",
                expected: self.states.len() as u64,
                got: states.len() as u64,
            });
        }
        let impossible = states.iter().position(|one| !self.layer.is_possible(one));
        if let Some(index) = impossible {
            return Err(RestoreError::ImpossibleState { index });
        }
        self.inner.restore(inside)?;
        self.states = states;
        Ok(())
    }

    fn grid(&self) -> Option<Grid> {
        if self.layer.shows_what_is_inside() {
            self.inner.grid()
        } else {
            None
        }
    }

    fn render(&mut self, index: usize) -> Result<Option<Frame>, EnvironmentFault> {
        self.inner.render(index)
    }
}

impl<L: Layer> Wrapped<L> {
    fn advance(
        &mut self,
        active: Option<&[bool]>,
        actions: &[f32],
        output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        let num_envs = self.states.len();
        let (width, action_width) = (self.spec.observation.width(), self.spec.action.width());
        assert_eq!(actions.len(), num_envs * action_width, "[B, A]");
        assert_eq!(output.observations.len(), num_envs * width, "[B, W]");
        assert_eq!(output.rewards.len(), num_envs, "[B]");
        let mut inner = Inner {
            environment: &mut *self.inner,
            active,
        };
        self.layer
            .step(&mut self.states, &mut inner, actions, output)
    }
}
