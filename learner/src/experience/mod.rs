//! Where admitted unrolls wait until an algorithm consumes them.

pub mod rollout;
pub mod replay;
