//! Off-policy experience: the replay store, from which DQN, SAC and TD3 sample.
//!
//! Every environment of the run has a [lane], in which its steps stand one after the other, so
//! that n-step returns walk forward, stacks of images backward and hindsight to the episode's end.
//! [`ReplayStore::insert`] takes a round of unrolls apart into the lanes; [`ReplayStore::sample`]
//! draws items, uniformly or after their [priorities](PrioritisedOptions), walks each one's n-step
//! [window], replaces goals by [`Hindsight`] where that is set, and writes flat buffers. The
//! [`RateLimiter`] says when either may happen. A [`ReplaySnapshot`] costs a few pointers and is
//! written by another thread.
//!
//! What is sampled is a function of what was inserted and of the [`Random`] that the caller derives
//! for the update.
//!
//! [`Random`]: rookery_common::seeds::Random

mod pages;
mod lane;
mod window;
mod sum_tree;
mod priorities;
mod hindsight;
mod batch;
mod options;
mod store;
mod snapshot;
mod limiter;
mod memory;
pub mod bench;

#[cfg(test)]
mod tests;

pub use batch::{ItemHandle, ReplayBatch};
pub use hindsight::Hindsight;
pub use lane::ObservationLayout;
pub use limiter::{LimiterError, RateLimiter, SampleRatio};
pub use memory::machine_memory;
pub use options::{OptionsError, ReplayOptions};
pub use priorities::PrioritisedOptions;
pub use snapshot::{ReplaySnapshot, RestoreError};
pub use store::{Inserted, ReplayError, ReplayStore};
