//! `rookery-actor check-env`: says whether an environment can be trained on.

use rookery_actor::check::{CheckOptions, check_configured};
use rookery_actor::environments::hosted;
use rookery_common::configuration::Layers;
use rookery_common::exit::Exit;

use crate::arguments::CheckEnvArguments;

/// Checks and prints.
///
/// # Errors
/// Where the configuration is unsound or the environment cannot be made.
pub(crate) fn check_env(arguments: &CheckEnvArguments) -> anyhow::Result<Exit> {
    let mut layers = Layers::new();
    if let Some(preset) = &arguments.preset {
        layers = layers.preset(preset);
    }
    if let Some(file) = &arguments.config {
        layers = layers.file(file);
    }
    for setting in &arguments.settings {
        layers = layers.set(setting);
    }
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
