//! Rookery actor.

pub mod environments;
