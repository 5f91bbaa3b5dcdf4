//! What Rookery's actors and its learner share, in the order in which the data flows: a run is
//! described by its [`configuration`], an environment by its [`spaces`] and what stands around it,
//! its [`wrappers`]; it draws from its [`seeds`]; what it lives through is an [`unroll`], whose observations are seen through a
//! [`normaliser`] and acted on by a [`policy`]. The [`wire`] carries them, [`security`] guards it,
//! and what must survive its process is kept as a [`snapshot`].
//!
//! Nothing here knows libtorch, and nothing here is an environment.

pub mod configuration;
pub mod spaces;
pub mod wrappers;
pub mod seeds;
pub mod unroll;
pub mod normaliser;
pub mod policy;
pub mod wire;
pub mod security;
pub mod snapshot;
pub mod hash;
pub mod metric;
pub mod telemetry;
pub mod health;
pub mod shutdown;
pub mod exit;
