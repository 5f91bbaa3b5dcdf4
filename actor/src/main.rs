//! `rookery-actor`: runs environments for a learner.

use std::process::ExitCode;

use rookery_actor::environments::Environments;

fn main() -> ExitCode {
    rookery_actor::run(Environments::default())
}
