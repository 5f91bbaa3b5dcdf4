//! `rookery train`: a learner and actors on this host, from a preset to an evaluated policy.

use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rookery_actor::{environments, recording};
use rookery_common::configuration::Configuration;
use rookery_common::exit::Exit;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::children::Programs;
use crate::cluster::{Cluster, ClusterPlan};
use crate::evaluate::{self, Game};
use crate::failure::Failure;
use crate::progress::Reporter;
use crate::run_directory::{Checkpoint, LearnerSummary, Outcome, RunDirectory, stem};
use crate::source::{Overrides, Source};
use crate::summary::{Closing, TrainReport};

/// Time between two questions to the learner.
const POLL_INTERVAL: Duration = Duration::from_millis(125);
/// Evaluations over a run where the configuration does not say when to make them.
const NUM_EVALUATIONS: u64 = 20;

/// Train a policy with a learner and actors on this machine
///
/// Starts one learner and several actors as processes of their own, shows how training goes, and
/// evaluates the final policy. Everything is kept in a run directory: the configuration in effect,
/// metrics, logs, checkpoints. Ctrl-C saves a checkpoint and ends; `--resume` goes on from it.
///
/// The result depends on configuration and seed alone, not on the number of actors and threads.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  rookery train cartpole-ppo
  rookery train cartpole-ppo --seed 7 --set ppo.learning_rate=1e-3
  rookery train mine.toml --actors 4 --run-dir runs/mine
  rookery train mine.toml --actor-program target/release/my-actor
  rookery train runs/mine --resume")]
pub(crate) struct TrainArguments {
    /// A preset (`rookery presets` lists them), a TOML file, or with --resume a run's folder
    #[arg(value_name = "PRESET|FILE", required_unless_present = "resume")]
    source: Option<String>,
    /// Actor processes [default: as many as the processor's cores and the environments allow]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    actors: Option<u32>,
    /// Collector threads of each actor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
    /// The actors' program, where they run environments of your own [default: rookery-actor]
    #[arg(long, value_name = "PATH")]
    actor_program: Option<PathBuf>,
    /// Environment steps to train for
    #[arg(long, value_name = "N")]
    env_steps: Option<u64>,
    #[command(flatten)]
    overrides: Overrides,
    /// Where the run keeps its files [default: a new folder in runs/]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Go on from the newest checkpoint of the run directory
    #[arg(long)]
    resume: bool,
    /// Evaluate versions during training in a process of its own
    #[arg(long)]
    evaluator: bool,
    /// Print one JSON object as the last line of the standard output
    #[arg(long)]
    json: bool,
}

/// What to train, and where.
struct Job {
    configuration: Configuration,
    run: RunDirectory,
    /// The text of `config.toml` before, where the run had one.
    previous: Option<String>,
}

/// Trains, evaluates and sums up.
///
/// # Errors
/// Where the configuration is unsound or a process fails for good.
pub(crate) fn train(arguments: &TrainArguments) -> anyhow::Result<()> {
    let (source, configuration) = configure(arguments)?;
    let programs = Programs::locate()?;
    // A program that is missing is said before a folder is made.
    programs.learner()?;
    programs.actor(configuration.actor.program.as_deref())?;
    let job = prepare(arguments, &source, configuration)?;
    let num_actors = arguments
        .actors
        .unwrap_or_else(|| fitting_actors(&job.configuration));
    let plan = ClusterPlan {
        run: &job.run,
        configuration: &job.configuration,
        resume: arguments.resume,
        actors: vec![job.run.configuration_file(); num_actors as usize],
        evaluator: arguments.evaluator,
    };
    eprintln!(
        "training {} in {} with {num_actors} actor{}",
        job.configuration.environment.id,
        job.run.path().display(),
        if num_actors == 1 { "" } else { "s" },
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start an event loop")?;
    let trained = runtime.block_on(supervise(&programs, &plan));
    if let (Err(error), Some(previous)) = (&trained, &job.previous)
        && crate::failure::exit_of(error) == Exit::Usage
    {
        // The run is as it was before this attempt, and so is its configuration.
        job.run.write_configuration(previous)?;
    }
    trained?;
    close(arguments, &job)
}

/// Sums up a run whose learner has ended in good order.
fn close(arguments: &TrainArguments, job: &Job) -> anyhow::Result<()> {
    let Job {
        configuration, run, ..
    } = job;
    let Some(summary) = run.read_summary()? else {
        let message = "training had not begun: no actor had joined, and there is nothing to resume";
        return Err(Failure::new(Exit::TryAgain, message).into());
    };
    let evaluation_return = match summary.outcome {
        Outcome::Finished => Some(evaluation_return(configuration, run)?),
        Outcome::Stopped => None,
    };
    let report = TrainReport::new(&summary, evaluation_return, run.path());
    let closing = Closing {
        report: &report,
        outcome: summary.outcome,
        discontinuities: summary.discontinuities,
        last_discontinuity: summary.last_discontinuity.as_deref(),
        configuration,
        policy: &run.policy_file(Checkpoint::Latest),
        program: &program_name(),
    };
    print!("{closing}");
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// Builds the configuration and says where it began.
fn configure(arguments: &TrainArguments) -> anyhow::Result<(Source, Configuration)> {
    let source = source(arguments)?;
    let mut layers = arguments.overrides.lay(source.layers());
    if let Some(threads) = arguments.threads {
        layers = layers.value("actor.threads", i64::from(threads));
    }
    if let Some(env_steps) = arguments.env_steps {
        layers = layers.value(
            "run.total_env_steps",
            i64::try_from(env_steps).unwrap_or(-1),
        );
    }
    if let Some(program) = &arguments.actor_program {
        layers = layers.value("actor.program", program.to_string_lossy().into_owned());
    }
    let mut configuration = layers.build()?;
    if let Some(program) = &mut configuration.actor.program {
        // The run is evaluated and resumed from other folders too.
        *program = std::path::absolute(&program)
            .with_context(|| format!("cannot tell where {} is", program.display()))?;
    }
    if arguments.evaluator && configuration.evaluation.every_env_steps.is_none() {
        let every = configuration.run.total_env_steps / NUM_EVALUATIONS;
        configuration.evaluation.every_env_steps = Some(every.max(1));
    }
    if configuration.evaluation.record_every.is_some() && !arguments.evaluator {
        let message = "evaluation.record_every is for an evaluator; add --evaluator";
        return Err(Failure::usage(message).into());
    }
    check_environment(&configuration)?;
    Ok((source, configuration))
}

/// Says what keeps the environment from being made. Actors would find it out too, each by itself; of
/// environments that only their program knows they are the ones to say it.
fn check_environment(configuration: &Configuration) -> anyhow::Result<()> {
    environments::hosted::configure(&configuration.actor.host);
    if configuration.actor.program.is_some() {
        return Ok(());
    }
    let environment = &configuration.environment;
    let made = environments::make(&environment.id, &environment.all_arguments(), 1)
        .and_then(|bare| environments::wrap(bare, &environment.wrappers))
        .map_err(|error| Failure::usage(error.to_string()))?;
    if configuration.evaluation.record_every.is_some() {
        recording::check_visible(made.spec())
            .map_err(|error| Failure::usage(format!("evaluation.record_every: {error}")))?;
    }
    Ok(())
}

/// Makes the run directory.
fn prepare(
    arguments: &TrainArguments,
    source: &Source,
    configuration: Configuration,
) -> anyhow::Result<Job> {
    let run = run_directory(arguments, source, &configuration)?;
    if run.path().join("checkpoints").exists() && !arguments.resume {
        return Err(Failure::usage(format!(
            "{} holds a run already; add --resume to go on with it, or choose another --run-dir",
            run.path().display()
        ))
        .into());
    }
    let previous = std::fs::read_to_string(run.configuration_file()).ok();
    run.write_configuration(&configuration.to_toml())?;
    run.forget_summary()?;
    Ok(Job {
        configuration,
        run,
        previous,
    })
}

/// The beginning of the configuration: what is named, or that of the run that is resumed.
fn source(arguments: &TrainArguments) -> anyhow::Result<Source> {
    let source = match (&arguments.source, &arguments.run_dir) {
        (Some(source), _) => Source::parse(source)?,
        (None, Some(run)) => Source::Run(RunDirectory::existing(run)?),
        (None, None) => {
            let message = "--resume needs the run: `rookery train <run directory> --resume`";
            return Err(Failure::usage(message).into());
        }
    };
    if let (Source::Run(run), false) = (&source, arguments.resume) {
        return Err(Failure::usage(format!(
            "{path} is a run already; add --resume to go on with it, or train anew from \
             {path}/config.toml",
            path = run.path().display()
        ))
        .into());
    }
    Ok(source)
}

fn run_directory(
    arguments: &TrainArguments,
    source: &Source,
    configuration: &Configuration,
) -> anyhow::Result<RunDirectory> {
    match (&arguments.run_dir, source) {
        (Some(path), _) if arguments.resume => RunDirectory::existing(path),
        (Some(path), _) => RunDirectory::create(path),
        (None, Source::Run(run)) => Ok(run.clone()),
        (None, _) if arguments.resume => {
            let message = "--resume needs --run-dir, or the run's folder instead of a preset";
            Err(Failure::usage(message).into())
        }
        (None, Source::Preset(name)) => new_directory(configuration, name),
        (None, Source::File(path)) => new_directory(configuration, &path.to_string_lossy()),
    }
}

fn new_directory(configuration: &Configuration, source: &str) -> anyhow::Result<RunDirectory> {
    let run = &configuration.run;
    if run.name.is_empty() {
        RunDirectory::claim(&run.directory, &stem(source, run.seed))
    } else {
        RunDirectory::create(&run.directory.join(&run.name))
    }
}

/// Actors that have a core each beside the learner and at least one shard each; two on a machine
/// of two cores, where the learner works while they wait.
fn fitting_actors(configuration: &Configuration) -> u32 {
    let cores = available_parallelism().map_or(1, usize::from);
    let shards = configuration.environment.num_envs / configuration.rollout.envs_per_shard;
    num_actors(
        cores,
        configuration.learner.threads,
        configuration.actor.threads,
        shards,
    )
}

fn num_actors(cores: usize, learner_threads: usize, actor_threads: usize, shards: usize) -> u32 {
    let threads = actor_threads.max(1);
    let spare = cores.saturating_sub(learner_threads).max(cores.min(2));
    let busy = shards.div_ceil(threads);
    (spare / threads).min(busy).max(1) as u32
}

/// Starts the processes, follows them, and ends them in good order.
async fn supervise(programs: &Programs, plan: &ClusterPlan<'_>) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let mut cluster = Cluster::start(programs, plan)?;
    let mut reporter = Reporter::new();
    let outcome = follow(&mut cluster, &mut signals, &mut reporter).await;
    reporter.finish();
    cluster.stop_workers().await?;
    outcome
}

/// Shows progress until the learner has ended.
async fn follow(
    cluster: &mut Cluster,
    signals: &mut Signals,
    reporter: &mut Reporter,
) -> anyhow::Result<()> {
    let mut poll = tokio::time::interval(POLL_INTERVAL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            status = cluster.learner_ended() => {
                let status = status?;
                if status.success() {
                    return Ok(());
                }
                return Err(cluster.learner().failure(status).into());
            }
            () = signals.received() => return stop(cluster, signals, reporter).await,
            _ = poll.tick() => {}
        }
        if let Some(status) = cluster.status().await {
            reporter.update(&status);
        }
        match cluster.revive() {
            Ok(notices) => notices.iter().for_each(|notice| reporter.say(notice)),
            Err(error) => {
                // What was learned so far is kept.
                cluster.stop_learner().await?;
                return Err(error);
            }
        }
    }
}

/// Ends the learner in good order, or by force where a second signal asks for that.
async fn stop(
    cluster: &mut Cluster,
    signals: &mut Signals,
    reporter: &Reporter,
) -> anyhow::Result<()> {
    reporter.say("stopping after the round in work, with a checkpoint; once more ends it at once");
    let status = tokio::select! {
        status = cluster.stop_learner() => status?,
        () = signals.received() => None,
    };
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(cluster.learner().failure(status).into()),
        None => {
            let message = "the learner was ended by force; the last checkpoint is intact, and \
                           --resume goes on from it";
            Err(Failure::new(Exit::TryAgain, message).into())
        }
    }
}

/// The signals that ask for an end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Plays the final policy; what training reports comes from a policy that explores and changes.
fn evaluation_return(configuration: &Configuration, run: &RunDirectory) -> anyhow::Result<f64> {
    let game = Game {
        episodes: configuration.evaluation.episodes,
        seed: configuration.run.seed,
        record: None,
        record_episodes: 0,
    };
    let evaluation = evaluate::play(run, configuration, Checkpoint::Latest, &game)?;
    Ok(evaluation.mean_return())
}

/// This program as its user has called it, for the commands that come next.
fn program_name() -> String {
    let called = std::env::args().next().unwrap_or_default();
    if Path::new(&called).components().count() > 1 {
        called
    } else {
        "rookery".to_owned()
    }
}

impl TrainReport {
    fn new(summary: &LearnerSummary, evaluation_return: Option<f64>, run: &Path) -> Self {
        Self {
            env_steps: summary.env_steps,
            updates: summary.updates,
            wall_seconds: summary.wall_seconds,
            env_steps_per_second: summary.env_steps as f64 / summary.wall_seconds,
            mean_return: summary.mean_return,
            evaluation_return,
            solved_at_seconds: summary.solved_at_seconds,
            solved_at_env_steps: summary.solved_at_env_steps,
            parameters_sha256: summary.parameters_sha256.clone(),
            bottleneck: summary.bottleneck.clone(),
            diagnoses: summary.diagnoses.clone(),
            run_dir: run.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: TrainArguments,
    }

    fn parse(line: &[&str]) -> Result<TrainArguments, clap::Error> {
        let line = std::iter::once(&"train").chain(line);
        Line::try_parse_from(line).map(|line| line.arguments)
    }

    /// All that happens before processes are started.
    fn begin(line: &[&str]) -> anyhow::Result<Job> {
        let arguments = parse(line)?;
        let (source, configuration) = configure(&arguments)?;
        prepare(&arguments, &source, configuration)
    }

    #[test]
    fn actors_fit_cores_and_shards() {
        for (cores, learner_threads, actor_threads, shards, expected) in [
            (1, 1, 1, 8, 1),
            (2, 1, 1, 8, 2),
            (2, 1, 2, 8, 1),
            (16, 1, 1, 8, 8),
            (16, 4, 2, 100, 6),
            (16, 1, 1, 1, 1),
        ] {
            let got = num_actors(cores, learner_threads, actor_threads, shards);
            assert_eq!(got, expected, "{cores} cores, {shards} shards");
        }
    }

    #[test]
    fn flags_change_the_configuration_and_the_folder_holds_it() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("run");
        let job = begin(&[
            Configuration::presets()[0].name,
            "--threads",
            "3",
            "--env-steps",
            "5000",
            "--seed",
            "9",
            "--evaluator",
            "--run-dir",
            folder.to_str().unwrap(),
        ])
        .unwrap();
        assert_eq!(job.configuration.actor.threads, 3);
        assert_eq!(job.configuration.run.total_env_steps, 5000);
        assert_eq!(job.configuration.run.seed, 9);
        assert!(job.configuration.evaluation.every_env_steps.is_some());
        assert_eq!(job.run.read_configuration().unwrap(), job.configuration);
    }

    #[test]
    fn a_folder_that_holds_a_run_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("checkpoints")).unwrap();
        std::fs::write(folder.path().join("config.toml"), "[run]\nseed = 5\n").unwrap();
        let path = folder.path().to_str().unwrap();
        for line in [
            vec![Configuration::presets()[0].name, "--run-dir", path],
            vec![path],
        ] {
            let error = begin(&line).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("--resume"), "{error}");
        }
        let job = begin(&["--resume", "--run-dir", path]).unwrap();
        assert_eq!(job.configuration.run.seed, 5);
        assert_eq!(job.previous.as_deref(), Some("[run]\nseed = 5\n"));
    }

    #[test]
    fn resuming_needs_a_run() {
        assert!(parse(&[]).is_err());
        let preset = Configuration::presets()[0].name;
        for line in [vec!["--resume"], vec![preset, "--resume"]] {
            assert!(begin(&line).is_err());
        }
    }
}
