//! What Rookery's actors and its learner share, in the order in which the data flows:
//! an environment is described by its [`spaces`], draws from its [`seeds`], shows observations that
//! a [`normaliser`] brings to scale, and is acted on by a [`policy`].
//!
//! Nothing here knows libtorch, and nothing here is an environment.

pub mod seeds;
pub mod spaces;
pub mod normaliser;
pub mod policy;
