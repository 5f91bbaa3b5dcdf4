//! Rookery's actor, in the order in which the data flows: [`environments`] are stepped in batches,
//! and a [`shard`] is a batch with everything that collecting from it depends on; a [`collector`]
//! thread makes unrolls of leased shards as was [`joined`], and a [`session`] carries them to the
//! learner and brings leases and parameters back. An [`evaluator`] only measures, a [`recording`] only
//! watches, [`check`] only asks whether an environment can be trained on, and [`throughput`] how fast
//! it is. [`actor`] is the process, and [`run`] the whole program, to which others bring environments of
//! their own.

pub mod environments;
pub mod shard;
pub mod collector;
pub mod joined;
pub mod session;
pub mod evaluator;
pub mod recording;
pub mod check;
pub mod throughput;
pub mod actor;
pub mod metrics;
mod program;

pub use program::run;
