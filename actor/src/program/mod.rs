//! The program of an actor: its command line, and what each command does. `rookery-actor` is one, and so
//! is every program that hands [`run`] environments of its own.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use rookery_common::configuration::ConfigurationError;
use rookery_common::exit::Exit;
use rookery_common::policy::ArtifactError;
use rookery_common::{health, metric, shutdown, telemetry};

use crate::actor::{Actor, ActorError, ActorRole};
use crate::environments::{EnvironmentError, Environments};
use crate::evaluator::EvaluationError;
use crate::metrics;
use crate::recording::RecordingError;
use crate::session::SessionError;

use arguments::{Arguments, Command};

mod arguments;
mod check_env;
mod evaluate;

/// Does what the command line says, with Rookery's environments and `environments`: all of an actor's
/// `main`.
pub fn run(environments: Environments) -> ExitCode {
    let arguments = Arguments::parse();
    match dispatch(environments, &arguments) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("rookery-actor: {error:#}");
            exit_code(&error).into()
        }
    }
}

fn dispatch(environments: Environments, arguments: &Arguments) -> anyhow::Result<Exit> {
    environments.install()?;
    match &arguments.command {
        Some(Command::CheckEnv(arguments)) => check_env::check_env(arguments),
        Some(Command::Evaluate(arguments)) => evaluate::evaluate(arguments).map(|()| Exit::Ok),
        Some(Command::Health { address }) => health::ask(*address)
            .with_context(|| format!("no actor lives at {address}"))
            .map(|()| Exit::Ok),
        None => work(arguments).map(|()| Exit::Ok),
    }
}

/// Collects or evaluates for a learner.
fn work(arguments: &Arguments) -> anyhow::Result<()> {
    let mut layers = arguments.configuration.layers();
    if let Some(learner) = &arguments.learner {
        layers = layers.value("actor.learner", learner.to_string());
    }
    if let Some(threads) = arguments.threads {
        layers = layers.value("actor.threads", threads as i64);
    }
    if let Some(folder) = &arguments.recordings {
        let folder = folder.to_string_lossy().into_owned();
        layers = layers.value("evaluation.recordings", folder);
    }
    let configuration = layers.build()?;
    if arguments.print_config {
        print!("{}", configuration.to_toml());
        return Ok(());
    }
    telemetry::init(&configuration.telemetry)?;
    let role = if arguments.evaluate {
        ActorRole::Evaluator
    } else {
        ActorRole::Collector
    };
    let metrics_listen = configuration.actor.metrics_listen;
    let actor = Actor::build(configuration, role)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the network threads")?;
    runtime.block_on(async {
        let shutdown = shutdown::requested(arguments.exit_with_parent);
        if let Some(listen) = metrics_listen {
            let address = metric::serve("rookery-actor", listen, metrics::ALL).await?;
            tracing::info!(%address, "serving metrics");
            metrics::describe();
        }
        actor.run(shutdown).await?;
        anyhow::Ok(())
    })?;
    // A collector thread in the middle of a long unroll must not hold the process up.
    runtime.shutdown_background();
    Ok(())
}

fn exit_code(error: &anyhow::Error) -> Exit {
    if error.is::<ConfigurationError>()
        || error.is::<EnvironmentError>()
        || matches!(error.downcast_ref(), Some(EvaluationError::Environment(_)))
        || matches!(error.downcast_ref(), Some(error) if is_wish(error))
        || matches!(error.downcast_ref(), Some(ArtifactError::Io { .. }))
    {
        return Exit::Usage;
    }
    match error.downcast_ref::<ActorError>() {
        Some(ActorError::Unreachable { .. }) => Exit::Unavailable,
        Some(ActorError::Refused(SessionError::Rpc { status, .. }))
            if matches!(
                status.code(),
                tonic::Code::Unauthenticated | tonic::Code::PermissionDenied
            ) =>
        {
            Exit::NotPermitted
        }
        Some(ActorError::Refused(SessionError::Rpc { status, .. }))
            if status.code() == tonic::Code::FailedPrecondition =>
        {
            Exit::Usage
        }
        Some(ActorError::Security(error)) => error.exit(),
        Some(ActorError::Environment(_)) => Exit::Usage,
        Some(ActorError::Recording(error)) if is_wish(error) => Exit::Usage,
        Some(ActorError::Refused(_) | ActorError::Recording(_)) | None => Exit::Internal,
    }
}

/// Whether something was asked for that cannot be had, other than a failure on the way.
fn is_wish(error: &RecordingError) -> bool {
    matches!(
        error,
        RecordingError::Environment(_)
            | RecordingError::Invisible { .. }
            | RecordingError::Format { .. }
            | RecordingError::TooFew { .. }
            | RecordingError::File { .. }
    )
}
