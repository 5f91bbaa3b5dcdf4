//! `rookery-actor check-env`: says whether an environment can be trained on.

use rookery_common::exit::Exit;

use super::arguments::CheckEnvArguments;
use crate::check::{CheckOptions, check_configured};
use crate::environments::hosted;

/// Checks and prints.
///
/// # Errors
/// Where the configuration is unsound or the environment cannot be made.
pub(super) fn check_env(arguments: &CheckEnvArguments) -> anyhow::Result<Exit> {
    let mut layers = arguments.configuration.layers();
    if let Some(id) = &arguments.id {
        layers = layers.value("environment.id", id.as_str());
    }
    let configuration = layers.build()?;
    let options = CheckOptions {
        seed: configuration.run.seed,
        steps: arguments.steps,
        ..CheckOptions::default()
    };
    hosted::configure(&configuration.actor.host);
    let report = check_configured(&configuration.environment, &options)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if report.is_sound() {
        Exit::Ok
    } else {
        Exit::Internal
    })
}
