//! The networks that are trained: what acts, which is published to the actors, and the critic,
//! which never leaves the learner.
//!
//! All parameters of a network are one [`Flat`] tensor, and its layers are views of it: the optimiser is a
//! handful of operations whatever the depth, and publishing is one copy of the prefix that belongs to the
//! policy. Gradients are derived by hand and written where the optimiser reads them: a loss says how it
//! changes with what a network has put out, and the network carries that back to its parameters. Inside of
//! an encoder of images autograd does that.

pub mod init;
mod flat;
mod dense;
mod convolution;
mod recurrent;
mod actor_critic;
mod masks;

pub use actor_critic::{
    ActorCritic, ActorCriticSpec, ActorCriticTape, CriticSpec, NetworkError, OutputGradient,
    Outputs, encode,
};
pub use convolution::{Encoding, EncodingTape};
pub use dense::{Dense, Tape};
pub use flat::Flat;
pub use masks::ActionMask;
pub use recurrent::Sequences;
