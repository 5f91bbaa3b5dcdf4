//! End-to-end tests: what Rookery promises, held by real processes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what is unexpected fails the test, in its helpers too"
)]

mod determinism;
mod asynchronous;
mod faults;
mod crafted;
mod sessions;
mod bad_input;
mod security;
mod metrics;
mod diagnosis;
mod dependencies;
mod environments;
mod logs;
mod cli;
mod looking;
