//! The networks that are trained: what acts, which is published to the actors, and the critic,
//! which never leaves the learner.
//!
//! All parameters of an [`ActorCritic`] are one flat leaf tensor. The layers are views that the
//! forward pass cuts from it, so the gradient comes back as one flat tensor too, the optimiser is a
//! handful of operations, and publishing is one copy of the prefix that belongs to the policy.
//!
//! Off-policy algorithms build theirs of [`Dense`] layers over [`Flat`] parameters, whose gradients are
//! derived by hand.

pub mod init;
mod flat;
mod dense;
mod actor_critic;

pub use actor_critic::{ActorCritic, ActorCriticSpec, CriticSpec, NetworkError, Outputs, encode};
pub use dense::{Dense, Tape};
pub use flat::Flat;
