//! Environments of Python, in the processes that really run them.
//!
//! `ROOKERY_TEST_PYTHON` names an interpreter with what `scripts/python-environments` installs; without
//! it that of the checkout's `.venv` is taken.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what helps tests may end them"
)]

mod support;
mod trajectories;
mod spaces;
mod checks;
mod images;
mod atari;
mod pictures;
mod single_steps;
mod faults;
mod processes;
mod throughput;
