//! Rookery's actor, in the order in which the data flows: [`environments`] are stepped in batches,
//! and a [`shard`] is a batch with everything that collecting from it depends on.

pub mod environments;
pub mod shard;
