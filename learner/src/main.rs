//! `rookery-learner`: trains a policy from the unrolls of its actors.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use rookery_common::configuration::{ConfigurationError, Layers};
use rookery_common::exit::Exit;
use rookery_common::security::Address;
use rookery_common::telemetry::TelemetryError;
use rookery_common::{metric, shutdown, telemetry};
use rookery_learner::learner::{Learner, LearnerError};
use rookery_learner::{bench, device, metrics};

/// Trains a policy with libtorch from the unrolls that actors stream to it.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The run's configuration: a TOML file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A built-in configuration instead of a file.
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    preset: Option<String>,
    /// Where the run keeps its files.
    #[arg(long, value_name = "DIR", default_value = "runs/run")]
    run_dir: PathBuf,
    /// Where to listen: `host:port` or `unix:///path`.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<Address>,
    /// Goes on from the newest checkpoint in the run directory.
    #[arg(long)]
    resume: bool,
    /// Sets one key, such as `--set ppo.epochs=4`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Listens on any address without token and TLS. Anybody who can reach it can spoil the run.
    #[arg(long)]
    insecure: bool,
    /// Prints the effective configuration and exits.
    #[arg(long)]
    print_config: bool,
    /// Ends when standard input closes, as it does when the parent process dies.
    #[arg(long)]
    exit_with_parent: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the versions of rookery and libtorch as JSON.
    VersionReport,
    /// Measures gradient steps and prints them as JSON.
    BenchUpdate {
        /// How long to measure each setting.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(arguments) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            eprintln!("rookery-learner: {error:#}");
            exit_code(&error).into()
        }
    }
}

fn start(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Some(Command::VersionReport) => {
            println!("{}", device::version_report());
            return Ok(());
        }
        Some(Command::BenchUpdate { seconds }) => return bench::update(seconds),
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
    let learner = Learner::build(configuration, &arguments.run_dir, arguments.resume)?;
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
            LearnerError::Resume(_)
            | LearnerError::Checkpoint(_)
            | LearnerError::DirectoryInUse(_)
            | LearnerError::Device(_),
        ) => Exit::Usage,
        Some(LearnerError::Security(error)) => error.exit(),
        Some(LearnerError::DirectoryLocked(_) | LearnerError::Deadline(_)) => Exit::TryAgain,
        _ => Exit::Internal,
    }
}
