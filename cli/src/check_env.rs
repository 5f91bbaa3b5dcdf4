//! `rookery check-env`: says whether an environment can be trained on.

use std::ffi::OsString;

use clap::Args;
use rookery_actor::check::{CheckOptions, check_configured};
use rookery_actor::environments::hosted;
use rookery_common::configuration::Layers;
use rookery_common::exit::Exit;

use crate::children::Programs;
use crate::failure::Failure;
use crate::launch::become_program;
use crate::source::{Overrides, Source};

/// Check whether an environment keeps what training relies on
///
/// It is played in small batches: what comes out must lie in its spaces, equal seeds must make equal
/// episodes, a restored state must go on bit for bit, and so on. What fails is shown with what to do
/// about it. Where the configuration names an `actor.program`, that program checks.
#[derive(Clone, Debug, Args)]
pub(crate) struct CheckEnvArguments {
    /// The environment, such as CartPole-v1 [default: the configuration's]
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// A configuration whose environment, arguments and wrappers are meant
    #[arg(long, value_name = "PRESET|FILE|RUN_DIR")]
    from: Option<String>,
    #[command(flatten)]
    overrides: Overrides,
    /// Steps of each instance in each check
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..))]
    steps: u32,
    /// Print the report as one JSON object instead
    #[arg(long)]
    json: bool,
}

/// Checks and prints.
///
/// # Errors
/// Where the configuration is unsound, the environment cannot be made, or a check has failed.
pub(crate) fn check_env(arguments: &CheckEnvArguments) -> anyhow::Result<()> {
    let layers = match &arguments.from {
        Some(source) => Source::parse(source)?.layers(),
        None => Layers::new(),
    };
    let mut layers = arguments.overrides.lay(layers);
    if let Some(id) = &arguments.id {
        layers = layers.value("environment.id", id.as_str());
    }
    let configuration = layers.build()?;
    if let Some(program) = &configuration.actor.program {
        let program = Programs::locate()?.actor(Some(program))?;
        let steps = arguments.steps.to_string();
        let mut options: Vec<OsString> = vec!["check-env".into(), "--steps".into(), steps.into()];
        if arguments.json {
            options.push("--json".into());
        }
        return become_program(&program, &options, &configuration);
    }
    hosted::configure(&configuration.actor.host);
    let options = CheckOptions {
        seed: configuration.run.seed,
        steps: arguments.steps,
        ..CheckOptions::default()
    };
    let report = check_configured(&configuration.environment, &options)
        .map_err(|error| Failure::usage(error.to_string()))?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    if report.is_sound() {
        Ok(())
    } else {
        let message = format!("{} cannot be trained on", report.environment.id);
        Err(Failure::new(Exit::Internal, message).into())
    }
}
