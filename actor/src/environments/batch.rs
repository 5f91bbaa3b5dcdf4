//! One loop for every native environment: [`Batch`] turns the dynamics of a single instance into a
//! [`BatchedEnvironment`], compiled separately for each.

use rookery_common::seeds::{Purpose, Random};
use rookery_common::snapshot;
use rookery_common::spaces::EnvironmentSpec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{BatchedEnvironment, RestoreError, StepOutput};

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
}

/// Instances of one environment, stepped in one loop.
#[derive(Debug)]
pub(crate) struct Batch<D: Dynamics<WIDTH>, const WIDTH: usize> {
    spec: EnvironmentSpec,
    dynamics: D,
    states: Vec<D::State>,
}

impl<D: Dynamics<WIDTH>, const WIDTH: usize> Batch<D, WIDTH> {
    /// A batch of `num_envs` instances in arbitrary valid states.
    ///
    /// # Panics
    /// If the spec's widths are not those of the dynamics.
    pub(crate) fn new(spec: EnvironmentSpec, dynamics: D, num_envs: usize) -> Self {
        assert_eq!(spec.observation.width(), WIDTH, "observation width");
        assert_eq!(spec.action.width(), 1, "action width");
        let states = (0..num_envs as u64)
            .map(|index| dynamics.begin(Random::derive(0, Purpose::Episode, index, 0)))
            .collect();
        Self {
            spec,
            dynamics,
            states,
        }
    }
}

impl<D: Dynamics<WIDTH>, const WIDTH: usize> BatchedEnvironment for Batch<D, WIDTH> {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn num_envs(&self) -> usize {
        self.states.len()
    }

    fn reset(&mut self, index: usize, random: Random, observation: &mut [f32]) {
        self.states[index] = self.dynamics.begin(random);
        observation.copy_from_slice(&self.dynamics.observe(&self.states[index]));
    }

    fn step(&mut self, actions: &[f32], output: StepOutput<'_>) {
        let num_envs = self.states.len();
        assert_eq!(actions.len(), num_envs, "one action an instance");
        assert_eq!(output.observations.len(), num_envs * WIDTH, "[B, W]");
        assert_eq!(output.rewards.len(), num_envs, "[B]");
        assert_eq!(output.terminated.len(), num_envs, "[B]");
        let (rows, _) = output.observations.as_chunks_mut::<WIDTH>();
        let outcomes = output.rewards.iter_mut().zip(output.terminated);
        let instances = self.states.iter_mut().zip(actions);
        for (((state, &action), row), (reward, terminated)) in instances.zip(rows).zip(outcomes) {
            let (step_reward, is_terminal) = self.dynamics.advance(state, action);
            *row = self.dynamics.observe(state);
            *reward = step_reward;
            *terminated = u8::from(is_terminal);
        }
    }

    fn observe(&self, observations: &mut [f32]) {
        assert_eq!(observations.len(), self.states.len() * WIDTH, "[B, W]");
        let (rows, _) = observations.as_chunks_mut::<WIDTH>();
        for (row, state) in rows.iter_mut().zip(&self.states) {
            *row = self.dynamics.observe(state);
        }
    }

    fn save(&self, state: &mut Vec<u8>) {
        snapshot::encode(SNAPSHOT_VERSION, &self.states, state);
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let states: Vec<D::State> = snapshot::decode_all(SNAPSHOT_VERSION, state)?;
        if states.len() != self.states.len() {
            return Err(RestoreError::Mismatch {
                field: "number of environments",
                expected: self.states.len() as u64,
                got: states.len() as u64,
            });
        }
        if let Some(index) = states
            .iter()
            .position(|state| !self.dynamics.is_possible(state))
        {
            return Err(RestoreError::ImpossibleState { index });
        }
        self.states = states;
        Ok(())
    }
}
