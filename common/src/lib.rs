//! What Rookery's actors and its learner share, in the order in which the data flows:
//! an environment is described by its [`spaces`], draws from its [`seeds`] and is acted on by a
//! [`policy`]; what must survive its process is kept as a [`snapshot`].
//!
//! Nothing here knows libtorch, and nothing here is an environment.

pub mod seeds;
pub mod spaces;
pub mod unroll;
pub mod policy;
pub mod wire;
pub mod snapshot;
pub mod metric;
