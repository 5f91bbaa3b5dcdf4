//! End-to-end tests: what Rookery promises, held by real processes.

mod determinism;
mod faults;
mod crafted;
mod bad_input;
mod security;
mod metrics;
mod dependencies;
mod cli;
