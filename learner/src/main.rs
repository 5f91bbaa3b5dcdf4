//! `rookery-learner`: trains a policy from the unrolls of its actors.

mod arguments;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use rookery_common::configuration::{ConfigurationError, Layers};
use rookery_common::exit::Exit;
use rookery_common::telemetry::TelemetryError;
use rookery_common::{health, metric, shutdown, telemetry};
use rookery_learner::checkpoint::CheckpointStore;
use rookery_learner::learner::{Learner, LearnerError};
use rookery_learner::trainer::TrainingError;
use rookery_learner::{bench, device, memory, metrics};

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    memory::keep_freed();
    let arguments = Arguments::parse();
    match start(&arguments) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            eprintln!("rookery-learner: {error:#}");
            exit_code(&error).into()
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Some(Command::VersionReport) => {
            println!("{}", device::version_report());
            return Ok(());
        }
        Some(Command::Health { address }) => {
            return health::ask(*address).with_context(|| format!("no learner lives at {address}"));
        }
        Some(Command::BenchUpdate { seconds }) => return bench::update(*seconds),
        Some(Command::BenchOffPolicy {
            algorithm,
            threads,
            seconds,
        }) => return bench::off_policy(algorithm, *threads, *seconds),
        Some(Command::BenchReplay { seconds, capacity }) => {
            return bench::replay(*seconds, *capacity);
        }
        None => {}
    }
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
    if let Some(listen) = &arguments.listen {
        layers = layers.value("learner.listen", listen.to_string());
    }
    if arguments.insecure {
        layers = layers.value("security.insecure", true);
    }
    let configuration = layers.build()?;
    if arguments.print_config {
        print!("{}", configuration.to_toml());
        return Ok(());
    }
    telemetry::init(&configuration.telemetry)?;
    let metrics_listen = configuration.learner.metrics_listen;
    let has_begun = !CheckpointStore::new(&arguments.run_dir, 1).is_empty();
    let resume = arguments.resume || (arguments.resume_if_begun && has_begun);
    let learner = Learner::build(configuration, &arguments.run_dir, resume)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the network threads")?;
    let outcome = runtime.block_on(async {
        let shutdown = shutdown::requested(arguments.exit_with_parent);
        if let Some(listen) = metrics_listen {
            let address = metric::serve("rookery-learner", listen, metrics::ALL).await?;
            tracing::info!(%address, "serving metrics");
            metrics::describe();
        }
        let listener = learner.listen().await?;
        tracing::info!(address = %listener.address(), "listening");
        learner.run(listener, shutdown).await?;
        anyhow::Ok(())
    });
    runtime.shutdown_background();
    outcome
}

fn exit_code(error: &anyhow::Error) -> Exit {
    if error.is::<ConfigurationError>() || error.is::<TelemetryError>() {
        return Exit::Usage;
    }
    match error.downcast_ref::<LearnerError>() {
        Some(
            LearnerError::Queue(_)
            | LearnerError::Resume(_)
            | LearnerError::Checkpoint(_)
            | LearnerError::DirectoryInUse(_)
            | LearnerError::Device(_)
            // The environment that the first actor brought, and what is configured for it, do not go together.
            | LearnerError::Training(TrainingError::Build(_)),
        ) => Exit::Usage,
        Some(LearnerError::Mlflow(error)) => error.exit(),
        Some(LearnerError::Security(error)) => error.exit(),
        Some(LearnerError::DirectoryLocked(_) | LearnerError::Deadline(_)) => Exit::TryAgain,
        _ => Exit::Internal,
    }
}
