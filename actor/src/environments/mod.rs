//! Environments, stepped in batches.
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
use thiserror::Error;

pub use grid::{Cell, CellKind, Direction, Grid};
pub use registry::{EnvironmentError, ids, make};

mod registry;
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
    /// # Panics
    /// If there is no such instance or the length differs.
    fn reset(&mut self, index: usize, random: Random, observation: &mut [f32]);

    /// Takes one step of every instance. An episode that ends here is not reset.
    ///
    /// An action must lie in the action space, except that values of a box are clipped to its
    /// bounds. What an action outside a discrete space does is unspecified, but it harms nothing
    /// else.
    ///
    /// # Shapes
    /// `actions`: `[B, A]`, a discrete action being its index as one value.
    ///
    /// # Panics
    /// If a length differs.
    fn step(&mut self, actions: &[f32], output: StepOutput<'_>);

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
    /// Where `state` is anything else; the batch is then unchanged.
    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError>;

    /// The map, where observations are the cells of one.
    fn grid(&self) -> Option<Grid> {
        None
    }
}

/// Where [`BatchedEnvironment::step`] writes, one row per instance.
#[derive(Debug)]
pub struct StepOutput<'a> {
    /// The observations after the step, `[B, W]`.
    pub observations: &'a mut [f32],
    /// The raw rewards, `[B]`.
    pub rewards: &'a mut [f32],
    /// One where the episode ended in a terminal state, zero elsewhere, `[B]`.
    pub terminated: &'a mut [u8],
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
    /// A state that the environment can never be in.
    #[error("the state of environment {index} of the batch cannot occur; the snapshot is damaged")]
    ImpossibleState {
        /// The index within the batch.
        index: usize,
    },
}
