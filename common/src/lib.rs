//! What Rookery's actors and its learner share, in the order in which the data flows:
//! a run is described by its [`configuration`], an environment by its [`spaces`]; it draws from
//! its [`seeds`] and is acted on by a [`policy`]. [`security`] guards the connections,
//! [`telemetry`] says what happens and [`exit`] how a process ended.
//!
//! Nothing here knows libtorch, and nothing here is an environment.

pub mod configuration;
pub mod seeds;
pub mod spaces;
pub mod policy;
pub mod security;
pub mod telemetry;
pub mod exit;
