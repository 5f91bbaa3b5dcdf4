//! Environments, stepped in batches: native ones, and through [`hosted`] those of Python.
//!
//! A [`BatchedEnvironment`] is a number of instances of one environment behind one interface: one
//! call steps them all, inside which nothing is dispatched dynamically. It knows neither time
//! limits nor when an episode should begin; that is the [shard](crate::shard)'s part.
//!
//! The native environments are the dynamics of Gymnasium 1.4.0, operation for operation: where
//! Gymnasium computes in float64 so do they, where it rounds to float32 so do they, and
//! observations and rewards are cast to float32 at the end. Sines and cosines come from pure-Rust
//! code (`libm`) instead of the C library, so that a trajectory has the same bits on every machine.
//! Committed traces of Gymnasium hold them to it, transition by transition; the tolerances, a few
//! roundings or none, stand with that test (`actor/tests/golden.rs`). Start states come from the same distributions, but from
//! Rookery's own random numbers.

use rookery_common::seeds::Random;
use rookery_common::snapshot::SnapshotError;
use rookery_common::spaces::EnvironmentSpec;
use rookery_common::unroll::PixelError;
use thiserror::Error;

pub use arguments::Arguments;
pub use batch::Step;
pub use grid::{Cell, CellKind, Direction, Grid};
pub use own::{Environment, Environments};
pub use registry::{EnvironmentError, ids, make, make_visible};
pub use render::Frame;
pub use wrappers::{for_evaluation, wrap};

mod registry;
mod arguments;
mod own;
pub mod hosted;
mod batch;
mod grid;
mod cart_pole;
mod pendulum;
mod mountain_car;
mod mountain_car_continuous;
mod acrobot;
mod frozen_lake;
mod grid_world;
mod bit_flip;
mod point_reach;
mod catch;
mod breakout;
mod t_maze;
#[cfg(feature = "mujoco")]
pub mod mujoco;
mod wrappers;
mod render;

#[cfg(test)]
pub(crate) use batch::{Batch, Dynamics};

/// A batch of instances of one environment, without time limits and without automatic resets.
///
/// A fresh batch holds valid but arbitrary states: [`reset`](Self::reset) every instance first.
pub trait BatchedEnvironment: Send {
    /// What each instance is.
    fn spec(&self) -> &EnvironmentSpec;

    /// The number of instances, `B`; at least one.
    fn num_envs(&self) -> usize;

    /// Begins a new episode of instance `index`, whose start state and dynamics draw from
    /// `random`, and writes its first observation.
    ///
    /// # Shapes
    /// `observation`: `[W]`.
    ///
    /// # Errors
    /// Where the environment fails. The batch cannot be used any more then.
    ///
    /// # Panics
    /// If there is no such instance or the length differs.
    fn reset(
        &mut self,
        index: usize,
        random: Random,
        observation: &mut [f32],
    ) -> Result<(), EnvironmentFault>;

    /// Says what the episode of instance `index` after the current one will draw from, so that a
    /// batch can begin it as soon as the current one ends. The [`reset`](Self::reset) comes all the
    /// same, and may be given something else. Where it is given the same, the episode follows the current
    /// one, and may draw from more than `random`: from what `save` writes of the current one.
    fn prepare(&mut self, _index: usize, _random: &Random) {}

    /// Whether instances are stepped on another core than the calling thread's, which can do something else
    /// between [`begin_step`](Self::begin_step) and [`step`](Self::step).
    fn is_elsewhere(&self) -> bool {
        false
    }

    /// Says what the next [`step`](Self::step) will be given, so that a batch that is stepped
    /// [elsewhere](Self::is_elsewhere) can begin with it. The step comes all the same, before anything else
    /// is asked of the batch and with the same actions.
    ///
    /// # Shapes
    /// `actions`: `[B, A]`.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    ///
    /// # Panics
    /// If the length differs.
    fn begin_step(&mut self, _actions: &[f32]) -> Result<(), EnvironmentFault> {
        Ok(())
    }

    /// Takes one step of every instance. An episode that ends here is not reset.
    ///
    /// An action must lie in the action space, except that values of a box are clipped to its
    /// bounds. What an action outside a discrete space does is unspecified, but it harms nothing
    /// else.
    ///
    /// # Shapes
    /// `actions`: `[B, A]`, a discrete action being its index as one value.
    ///
    /// # Errors
    /// Where the environment fails. The batch cannot be used any more then.
    ///
    /// # Panics
    /// If a length differs.
    fn step(&mut self, actions: &[f32], output: StepOutput<'_>) -> Result<(), EnvironmentFault>;

    /// As [`step`](Self::step), of the instances that are `active` alone: nothing happens to the
    /// others, and their rows are not written. Wrappers that skip frames or act before an episode
    /// is shown need it.
    ///
    /// # Shapes
    /// `active`: `[B]`.
    ///
    /// # Errors
    /// As [`step`](Self::step), and always where the environment can only step all instances
    /// together.
    ///
    /// # Panics
    /// If a length differs.
    fn step_some(
        &mut self,
        active: &[bool],
        actions: &[f32],
        output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        let _ = (active, actions, output);
        Err(EnvironmentFault::new(format!(
            "`{}` can only step all instances of a batch together",
            self.spec().id
        )))
    }

    /// Lives that are left in the game of each instance after its last step or reset, `[B]`, where the
    /// environment counts them.
    fn lives(&self) -> Option<&[i32]> {
        None
    }

    /// Whether the last step of instance `index` ended its episode and not its game, so that
    /// [`go_on`](Self::go_on) can begin the next episode where the game stands. A [`reset`](Self::reset)
    /// begins another game all the same.
    ///
    /// # Panics
    /// If there is no such instance.
    fn can_go_on(&self, index: usize) -> bool {
        let _ = index;
        false
    }

    /// Begins a new episode of instance `index` where its game stands, and writes its first observation.
    ///
    /// # Shapes
    /// `observation`: `[W]`.
    ///
    /// # Errors
    /// As [`reset`](Self::reset), and where the game cannot [go on](Self::can_go_on).
    ///
    /// # Panics
    /// If there is no such instance or the length differs.
    fn go_on(&mut self, index: usize, observation: &mut [f32]) -> Result<(), EnvironmentFault> {
        let _ = observation;
        Err(EnvironmentFault::new(format!(
            "the game of environment {index} is over; reset it"
        )))
    }

    /// What the last step earned in the environment itself, `[B]`, where a wrapper has made another
    /// reward of it: episodes are reported by the former and learnt from by the latter.
    fn raw_rewards(&self) -> Option<&[f32]> {
        None
    }

    /// Writes the current observation of every instance: what the last reset or step wrote.
    ///
    /// # Shapes
    /// `observations`: `[B, W]`.
    ///
    /// # Panics
    /// If the length differs.
    fn observe(&self, observations: &mut [f32]);

    /// Appends the state of every instance to `state`: all that the future depends on besides
    /// actions and resets.
    fn save(&self, state: &mut Vec<u8>);

    /// Takes on the state that another batch of the same environment and size has
    /// [saved](Self::save).
    ///
    /// # Errors
    /// Where `state` is anything else; a native batch is then unchanged, and of a
    /// batch of [`hosted`] ones every instance must be reset.
    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError>;

    /// The map, where observations are the cells of one.
    fn grid(&self) -> Option<Grid> {
        None
    }

    /// A picture of instance `index`, where somebody has said how it is drawn; of one of Python where it is
    /// [made to be seen](make_visible).
    ///
    /// # Errors
    /// Where drawing fails. The batch cannot be used any more then.
    ///
    /// # Panics
    /// If there is no such instance.
    fn render(&mut self, index: usize) -> Result<Option<Frame>, EnvironmentFault> {
        let _ = index;
        Ok(None)
    }
}

/// Where [`BatchedEnvironment::step`] writes, one row per instance.
#[derive(Debug)]
pub struct StepOutput<'a> {
    /// The observations after the step, `[B, W]`.
    pub observations: &'a mut [f32],
    /// The rewards, `[B]`.
    pub rewards: &'a mut [f32],
    /// One where the episode ended in a terminal state, zero elsewhere, `[B]`.
    pub terminated: &'a mut [u8],
    /// One where the environment itself cut the episode short, zero elsewhere, `[B]`.
    pub truncated: &'a mut [u8],
}

impl<'a> StepOutput<'a> {
    /// Its place for observations, and the same output with `inside` in that place: for what makes its
    /// observations of others.
    pub(crate) fn observed_in<'b>(self, inside: &'b mut [f32]) -> (&'a mut [f32], StepOutput<'b>)
    where
        'a: 'b,
    {
        let output = StepOutput {
            observations: inside,
            rewards: self.rewards,
            terminated: self.terminated,
            truncated: self.truncated,
        };
        (self.observations, output)
    }

    /// The same places, for a call inside the one that has them.
    pub(crate) fn reborrow(&mut self) -> StepOutput<'_> {
        StepOutput {
            observations: self.observations,
            rewards: self.rewards,
            terminated: self.terminated,
            truncated: self.truncated,
        }
    }
}

/// A failure of an environment while it runs. Native environments have none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct EnvironmentFault {
    /// What failed, with what to do about it.
    pub message: String,
    /// What its author wants to see beside that, such as Python's traceback.
    pub details: Option<String>,
}

impl EnvironmentFault {
    /// One without details.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            details: None,
        }
    }
}

impl From<PixelError> for EnvironmentFault {
    fn from(error: PixelError) -> Self {
        Self::new(error.to_string())
    }
}

/// Why bytes cannot become the state of a batch or a shard.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RestoreError {
    /// The bytes are not a snapshot of the expected kind.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The snapshot belongs elsewhere.
    #[error("the state has {field} {got}, here it is {expected}; restore it where it was saved")]
    Mismatch {
        /// What differs.
        field: &'static str,
        /// The value here.
        expected: u64,
        /// The value in the snapshot.
        got: u64,
    },
    /// The environment shows something else after the same actions.
    #[error(
        "environment {index} of the batch does not show what it showed before after the same seed and \
         actions: it is not deterministic under its seed, or it is another version of it"
    )]
    NotDeterministic {
        /// The index within the batch.
        index: usize,
    },
    /// An episode that is too long to be kept.
    #[error(
        "the actions since the episodes' beginnings take {action_bytes} bytes, of which at most \
         {limit_bytes} are kept"
    )]
    TooLong {
        /// Bytes of the actions.
        action_bytes: u64,
        /// Bytes that are kept.
        limit_bytes: u64,
    },
    /// The environment failed.
    #[error(transparent)]
    Fault(#[from] EnvironmentFault),
    /// A state that the environment can never be in.
    #[error("the state of environment {index} of the batch cannot occur; the snapshot is damaged")]
    ImpossibleState {
        /// The index within the batch.
        index: usize,
    },
}
