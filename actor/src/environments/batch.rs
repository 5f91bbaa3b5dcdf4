//! One loop for every native environment: [`Batch`] turns the rules of a single instance into a
//! [`BatchedEnvironment`], compiled separately for each.

use rookery_common::seeds::{Purpose, Random};
use rookery_common::snapshot;
use rookery_common::spaces::EnvironmentSpec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{BatchedEnvironment, EnvironmentFault, Frame, Grid, RestoreError, StepOutput, render};

/// The format of [`Batch`]'s snapshots.
const SNAPSHOT_VERSION: u8 = 1;

/// The rules of one environment whose observations have `WIDTH` values and whose actions have one.
pub(crate) trait Dynamics<const WIDTH: usize>: Send {
    /// All that one instance's future depends on, besides the actions.
    type State: Serialize + DeserializeOwned + Send;

    /// Draws the first state of an episode; keeps `random` where later steps draw too.
    fn begin(&self, random: Random) -> Self::State;

    /// Takes one step; gives the raw reward and whether the new state is terminal.
    fn advance(&self, state: &mut Self::State, action: f32) -> (f32, bool);

    /// The observation of a state.
    fn observe(&self, state: &Self::State) -> [f32; WIDTH];

    /// Whether the rules can reach this state, so that stepping it is safe.
    fn is_possible(&self, state: &Self::State) -> bool;

    /// The map, where observations are the cells of one.
    fn grid(&self) -> Option<Grid> {
        None
    }
}

/// What a step of one instance came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The raw reward.
    pub reward: f32,
    /// Whether the new state is terminal: nothing comes after it.
    pub terminated: bool,
    /// Whether the rules themselves cut the episode short here, in a state from which it would go on.
    pub truncated: bool,
}

impl Step {
    /// A step into a state that may be terminal, and that does not cut the episode short.
    #[must_use]
    pub const fn new(reward: f32, terminated: bool) -> Self {
        Self {
            reward,
            terminated,
            truncated: false,
        }
    }
}

/// The rules of one environment whose rows may be of any width.
pub(crate) trait Rules: Send {
    /// All that one instance's future depends on, besides the actions.
    type State: Serialize + DeserializeOwned + Send;

    /// Values of an observation.
    fn observation_width(&self) -> usize;

    /// Values of an action.
    fn action_width(&self) -> usize;

    /// Draws the first state of an episode; keeps `random` where later steps draw too.
    fn begin(&self, random: Random) -> Self::State;

    /// Takes one step.
    fn advance(&self, state: &mut Self::State, action: &[f32]) -> Step;

    /// Writes the observation of a state.
    fn observe(&self, state: &Self::State, row: &mut [f32]);

    /// Whether the rules can reach this state, so that stepping it is safe.
    fn is_possible(&self, state: &Self::State) -> bool;

    /// The map, where observations are the cells of one.
    fn grid(&self) -> Option<Grid> {
        None
    }

    /// A picture of a state, where it is not drawn from its observation.
    fn render(&self, _state: &Self::State) -> Option<Frame> {
        None
    }
}

/// [`Dynamics`] as [`Rules`] whose widths the compiler knows.
#[derive(Debug)]
pub(crate) struct Fixed<D, const WIDTH: usize>(D);

impl<D: Dynamics<WIDTH>, const WIDTH: usize> Rules for Fixed<D, WIDTH> {
    type State = D::State;

    #[inline]
    fn observation_width(&self) -> usize {
        WIDTH
    }

    #[inline]
    fn action_width(&self) -> usize {
        1
    }

    #[inline]
    fn begin(&self, random: Random) -> Self::State {
        self.0.begin(random)
    }

    #[inline]
    fn advance(&self, state: &mut Self::State, action: &[f32]) -> Step {
        let (reward, is_terminal) = self.0.advance(state, action[0]);
        Step::new(reward, is_terminal)
    }

    #[inline]
    fn observe(&self, state: &Self::State, row: &mut [f32]) {
        row.copy_from_slice(&self.0.observe(state));
    }

    fn is_possible(&self, state: &Self::State) -> bool {
        self.0.is_possible(state)
    }

    fn grid(&self) -> Option<Grid> {
        self.0.grid()
    }
}

/// Instances of one environment, stepped in one loop.
#[derive(Debug)]
pub(crate) struct Batch<R: Rules> {
    spec: EnvironmentSpec,
    rules: R,
    states: Vec<R::State>,
}

impl<D: Dynamics<WIDTH>, const WIDTH: usize> Batch<Fixed<D, WIDTH>> {
    /// A batch of `num_envs` instances in arbitrary valid states.
    ///
    /// # Panics
    /// If the spec's widths are not those of the dynamics.
    pub(crate) fn new(spec: EnvironmentSpec, dynamics: D, num_envs: usize) -> Self {
        Self::with_rules(spec, Fixed(dynamics), num_envs)
    }
}

impl<R: Rules> Batch<R> {
    /// A batch of `num_envs` instances in arbitrary valid states.
    ///
    /// # Panics
    /// If the spec's widths are not those of the rules.
    pub(crate) fn with_rules(spec: EnvironmentSpec, rules: R, num_envs: usize) -> Self {
        let observation_width = rules.observation_width();
        assert_eq!(spec.observation.width(), observation_width, "[W]");
        assert_eq!(spec.action.width(), rules.action_width(), "[A]");
        let states = (0..num_envs as u64)
            .map(|index| rules.begin(Random::derive(0, Purpose::Episode, index, 0)))
            .collect();
        Self {
            spec,
            rules,
            states,
        }
    }

    /// Steps the instances whose turn it is, of as many as there are.
    #[inline]
    fn advance(
        &mut self,
        active: impl Iterator<Item = bool>,
        actions: &[f32],
        output: StepOutput<'_>,
    ) {
        let num_envs = self.states.len();
        let (width, action_width) = (self.rules.observation_width(), self.rules.action_width());
        assert_eq!(actions.len(), num_envs * action_width, "[B, A]");
        assert_eq!(output.observations.len(), num_envs * width, "[B, W]");
        assert_eq!(output.rewards.len(), num_envs, "[B]");
        assert_eq!(output.terminated.len(), num_envs, "[B]");
        assert_eq!(output.truncated.len(), num_envs, "[B]");
        let rows = output.observations.chunks_exact_mut(width);
        let ends = output.terminated.iter_mut().zip(output.truncated);
        let outcomes = output.rewards.iter_mut().zip(ends);
        let instances = self
            .states
            .iter_mut()
            .zip(actions.chunks_exact(action_width));
        let places = instances.zip(rows).zip(outcomes).zip(active);
        for ((((state, action), row), (reward, (terminated, truncated))), is_active) in places {
            if !is_active {
                continue;
            }
            let step = self.rules.advance(state, action);
            self.rules.observe(state, row);
            *reward = step.reward;
            *terminated = u8::from(step.terminated);
            *truncated = u8::from(step.truncated);
        }
    }
}

impl<R: Rules> BatchedEnvironment for Batch<R> {
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
        self.states[index] = self.rules.begin(random);
        self.rules.observe(&self.states[index], observation);
        Ok(())
    }

    fn step(&mut self, actions: &[f32], output: StepOutput<'_>) -> Result<(), EnvironmentFault> {
        self.advance(std::iter::repeat(true), actions, output);
        Ok(())
    }

    fn step_some(
        &mut self,
        active: &[bool],
        actions: &[f32],
        output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        assert_eq!(active.len(), self.states.len(), "[B]");
        self.advance(active.iter().copied(), actions, output);
        Ok(())
    }

    fn observe(&self, observations: &mut [f32]) {
        let width = self.rules.observation_width();
        assert_eq!(observations.len(), self.states.len() * width, "[B, W]");
        for (row, state) in observations.chunks_exact_mut(width).zip(&self.states) {
            self.rules.observe(state, row);
        }
    }

    fn save(&self, state: &mut Vec<u8>) {
        snapshot::encode(SNAPSHOT_VERSION, &self.states, state);
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let states: Vec<R::State> = snapshot::decode_all(SNAPSHOT_VERSION, state)?;
        if states.len() != self.states.len() {
            return Err(RestoreError::Mismatch {
                field: "number of environments",
                expected: self.states.len() as u64,
                got: states.len() as u64,
            });
        }
        if let Some(index) = states
            .iter()
            .position(|state| !self.rules.is_possible(state))
        {
            return Err(RestoreError::ImpossibleState { index });
        }
        self.states = states;
        Ok(())
    }

    fn grid(&self) -> Option<Grid> {
        self.rules.grid()
    }

    fn render(&mut self, index: usize) -> Result<Option<Frame>, EnvironmentFault> {
        let own = self.rules.render(&self.states[index]);
        if own.is_some() {
            return Ok(own);
        }
        let mut observation = vec![0.0; self.rules.observation_width()];
        self.rules.observe(&self.states[index], &mut observation);
        Ok(render::draw(&self.spec, &observation, self.grid().as_ref()))
    }
}
