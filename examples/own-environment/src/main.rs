//! `shop-actor`: an actor that knows `Shop-v0` besides Rookery's environments.

use std::process::ExitCode;

fn main() -> ExitCode {
    rookery_actor::run(own_environment::environments())
}
