//! `rookery learner` and `rookery actor`: become one of the other programs, with the same
//! configuration as `rookery train` would give it; for runs over several machines.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::Args;
use rookery_common::configuration::Configuration;
use rookery_common::security::Address;

use crate::children::Programs;
use crate::run_directory::RunDirectory;
use crate::source::{Overrides, Source};

/// Run the learner of a run by hand
///
/// It waits for actors, trains, and ends when the run is complete. An address that other hosts can
/// reach needs a token and TLS (`[security]` in the configuration), or `--insecure`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example, with actors on other machines:
  rookery learner cartpole-ppo --listen 0.0.0.0:50051 --insecure --run-dir runs/shared
  rookery actor cartpole-ppo --learner learner.example.org:50051 --threads 8   # elsewhere")]
pub(crate) struct LearnerArguments {
    /// A preset, a TOML file, or a run's folder
    #[arg(value_name = "PRESET|FILE|RUN_DIR")]
    source: String,
    /// Where to listen: `host:port` or `unix:///path` [default: as configured, 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<Address>,
    /// Where the run keeps its files
    #[arg(long, value_name = "DIR")]
    run_dir: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    /// Go on from the newest checkpoint of the run directory
    #[arg(long)]
    resume: bool,
    /// Go on where the run directory holds a checkpoint, begin where it holds none: for
    /// supervisors, which start the same command again
    #[arg(long, conflicts_with = "resume")]
    resume_if_begun: bool,
    /// Listen on any address without token and TLS: anybody who reaches it can spoil the run
    #[arg(long)]
    insecure: bool,
}

/// Run an actor by hand
///
/// It is `rookery-actor`, or what the configuration names in `actor.program`. It connects to the
/// learner, collects for it, connects again by itself where the learner is away, and ends when the
/// run is complete. Actors may join and leave at any time.
#[derive(Clone, Debug, Args)]
pub(crate) struct ActorArguments {
    /// A preset, a TOML file, or a run's folder: the learner's
    #[arg(value_name = "PRESET|FILE|RUN_DIR")]
    source: String,
    /// Where the learner is: `host:port`, `https://host:port` or `unix:///path`
    /// [default: as configured, 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS")]
    learner: Option<Address>,
    /// Collector threads
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
    #[command(flatten)]
    overrides: Overrides,
    /// Measure policies instead of collecting
    #[arg(long)]
    evaluate: bool,
    /// Where an evaluator keeps its recordings, where `evaluation.record_every` asks for them
    /// [default: as configured, `recordings`]
    #[arg(long, value_name = "DIR", requires = "evaluate")]
    recordings: Option<PathBuf>,
}

/// Becomes the learner.
///
/// # Errors
/// Where the configuration is unsound or the program cannot be started; on success it does not
/// return.
pub(crate) fn learner(arguments: &LearnerArguments) -> anyhow::Result<()> {
    let program = Programs::locate()?.learner()?;
    let source = Source::parse(&arguments.source)?;
    let mut layers = arguments.overrides.lay(source.layers());
    if let Some(listen) = &arguments.listen {
        layers = layers.value("learner.listen", listen.to_string());
    }
    if arguments.insecure {
        layers = layers.value("security.insecure", true);
    }
    let configuration = layers.build()?;
    let run = RunDirectory::create(&arguments.run_dir)?;
    // The learner itself refuses a folder that is in use; its configuration is not to be changed.
    let is_fresh = !run.path().join("checkpoints").exists();
    if is_fresh || arguments.resume || arguments.resume_if_begun {
        run.write_configuration(&configuration.to_toml())?;
    }
    let mut options: Vec<OsString> = vec!["--run-dir".into(), arguments.run_dir.clone().into()];
    if arguments.resume {
        options.push("--resume".into());
    }
    if arguments.resume_if_begun {
        options.push("--resume-if-begun".into());
    }
    become_program(&program, &options, &configuration)
}

/// Becomes an actor.
///
/// # Errors
/// As [`learner`].
pub(crate) fn actor(arguments: &ActorArguments) -> anyhow::Result<()> {
    let source = Source::parse(&arguments.source)?;
    let mut layers = arguments.overrides.lay(source.layers());
    if let Some(learner) = &arguments.learner {
        layers = layers.value("actor.learner", learner.to_string());
    }
    if let Some(threads) = arguments.threads {
        layers = layers.value("actor.threads", i64::from(threads));
    }
    if let Some(folder) = &arguments.recordings {
        let folder = folder.to_string_lossy().into_owned();
        layers = layers.value("evaluation.recordings", folder);
    }
    let configuration = layers.build()?;
    let program = Programs::locate()?.actor(configuration.actor.program.as_deref())?;
    let options: &[OsString] = if arguments.evaluate {
        &["--evaluate".into()]
    } else {
        &[]
    };
    become_program(&program, options, &configuration)
}

/// Replaces this process, so that its signals and its process id are the other program's. The
/// configuration stands on its standard input, in a file without a name that ends with it.
pub(crate) fn become_program(
    program: &Path,
    options: &[OsString],
    configuration: &Configuration,
) -> anyhow::Result<()> {
    let program = fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    let mut file = tempfile::tempfile().context("cannot make a temporary file")?;
    file.write_all(configuration.to_toml().as_bytes())
        .context("cannot write a temporary file")?;
    let error = Command::new(&program)
        .args(options)
        .args(["--config", "/dev/stdin"])
        .stdin(file)
        .exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}
