//! `rookery evaluate`: plays a trained policy without exploration and without libtorch.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::Args;
use rookery_actor::environments::hosted;
use rookery_actor::evaluator::{self, Evaluation};
use rookery_actor::recording::Order;
use rookery_common::configuration::Configuration;
use rookery_common::policy::PolicyArtifact;
use serde::Serialize;

use crate::children::{Programs, exit_of};
use crate::failure::Failure;
use crate::format;
use crate::run_directory::{Checkpoint, RunDirectory};

/// Play a trained policy and report its returns
///
/// The policy acts deterministically, in environments and with seeds of its own, and raw returns
/// are counted: nothing that training does to rewards or observations flatters the figure.
#[derive(Clone, Debug, Args)]
pub(crate) struct EvaluateArguments {
    /// The run's folder
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
    /// Episodes to play [default: as the run's configuration says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    episodes: Option<u32>,
    /// Seed of the episodes [default: the run's]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Which of the run's policies
    #[arg(long, value_enum, default_value_t)]
    checkpoint: Checkpoint,
    /// Also draw the first episode: a .gif is an animation, a .png a strip of pictures
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Draw so many episodes instead, each in a file of its own: NAME-1.gif, NAME-2.gif and so on
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        requires = "record",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    record_episodes: u32,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct EvaluationReport {
    run_dir: PathBuf,
    checkpoint: &'static str,
    environment: String,
    version: u64,
    env_steps: u64,
    seed: u64,
    episodes: usize,
    evaluation_return: f64,
    standard_deviation: f64,
    minimum: f64,
    maximum: f64,
    mean_length: f64,
    min_length: u32,
    max_length: u32,
}

/// Evaluates and prints.
///
/// # Errors
/// Where the run or its policy cannot be read, or an episode does not end.
pub(crate) fn evaluate(arguments: &EvaluateArguments) -> anyhow::Result<()> {
    let run = RunDirectory::existing(&arguments.run)?;
    let configuration = run.read_configuration()?;
    hosted::configure(&configuration.actor.host);
    let episodes = arguments
        .episodes
        .unwrap_or(configuration.evaluation.episodes);
    let seed = arguments.seed.unwrap_or(configuration.run.seed);
    let artifact = read_policy(&run.policy_file(arguments.checkpoint))?;
    let game = Game {
        episodes,
        seed,
        record: arguments.record.as_deref(),
        record_episodes: arguments.record_episodes,
    };
    let evaluation = play(&run, &configuration, arguments.checkpoint, &game)?;
    let report = report(&run, arguments.checkpoint, &artifact, seed, &evaluation);
    print!("{}", describe(&report));
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// Reads a policy's file.
///
/// # Errors
/// Where it is absent or damaged.
pub(crate) fn read_policy(path: &Path) -> anyhow::Result<PolicyArtifact> {
    if !path.exists() {
        let message = format!(
            "there is no policy at {}; has the run written one yet?",
            path.display()
        );
        return Err(Failure::usage(message).into());
    }
    PolicyArtifact::read(path).with_context(|| format!("cannot use {}", path.display()))
}

/// What is to be played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Game<'a> {
    /// Episodes.
    pub(crate) episodes: u32,
    /// Seed of the episodes.
    pub(crate) seed: u64,
    /// Where the first of them are drawn.
    pub(crate) record: Option<&'a Path>,
    /// How many of them are.
    pub(crate) record_episodes: u32,
}

/// Plays a run's policy: here, or in the actors' program where that is one of the user's own, which
/// alone knows the environment.
///
/// # Errors
/// Where the policy or its environment cannot be made, or an episode does not end.
pub(crate) fn play(
    run: &RunDirectory,
    configuration: &Configuration,
    checkpoint: Checkpoint,
    game: &Game<'_>,
) -> anyhow::Result<Evaluation> {
    let file = run.policy_file(checkpoint);
    let own = configuration.actor.program.as_deref();
    if let Some(program) = own {
        let program = Programs::locate()?.actor(Some(program))?;
        return play_in(&program, &run.configuration_file(), &file, game);
    }
    let artifact = read_policy(&file)?;
    let policy = artifact.policy()?;
    let Game { episodes, seed, .. } = *game;
    let environment = &artifact.environment;
    let order = game
        .record
        .map(|path| Order::new(path, game.record_episodes, episodes, environment))
        .transpose()
        .map_err(|error| Failure::usage(error.to_string()))?;
    let evaluation = evaluator::evaluate(environment, &policy, episodes, seed)?;
    if let Some(order) = order {
        order.carry_out(environment, &policy, seed, &evaluation)?;
    }
    Ok(evaluation)
}

/// Has an actor's program play.
fn play_in(
    program: &Path,
    configuration: &Path,
    policy: &Path,
    game: &Game<'_>,
) -> anyhow::Result<Evaluation> {
    let mut command = Command::new(program);
    command
        .arg("evaluate")
        .arg(policy)
        .arg("--config")
        .arg(configuration)
        .args(["--episodes", &game.episodes.to_string()])
        .args(["--seed", &game.seed.to_string()])
        .arg("--json");
    if let Some(path) = game.record {
        command.arg("--record").arg(path);
        command.args(["--record-episodes", &game.record_episodes.to_string()]);
    }
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let message = format!("{}: {}", program.display(), said.trim());
        return Err(Failure::new(exit_of(output.status), message).into());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or_default();
    serde_json::from_str(last)
        .with_context(|| format!("{} printed no evaluation: {last:?}", program.display()))
}

fn report(
    run: &RunDirectory,
    checkpoint: Checkpoint,
    artifact: &PolicyArtifact,
    seed: u64,
    evaluation: &Evaluation,
) -> EvaluationReport {
    let Evaluation { returns, lengths } = evaluation;
    let episodes = returns.len();
    EvaluationReport {
        run_dir: run.path().to_owned(),
        checkpoint: checkpoint.name(),
        environment: artifact.environment.id.clone(),
        version: artifact.version,
        env_steps: artifact.env_steps,
        seed,
        episodes,
        evaluation_return: evaluation.mean_return(),
        standard_deviation: evaluation.standard_deviation(),
        minimum: returns.iter().copied().fold(f64::INFINITY, f64::min),
        maximum: returns.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        mean_length: lengths.iter().copied().map(f64::from).sum::<f64>() / episodes as f64,
        min_length: lengths.iter().copied().min().unwrap_or(0),
        max_length: lengths.iter().copied().max().unwrap_or(0),
    }
}

/// The report for people.
fn describe(report: &EvaluationReport) -> String {
    let row = |name: &str, value: String| vec![format!("  {name}"), value];
    let title = format!(
        "{}: {} policy after {} steps, {} episodes, seed {}\n",
        report.environment,
        report.checkpoint,
        format::grouped(report.env_steps),
        report.episodes,
        report.seed,
    );
    let rows = [
        row(
            "mean return",
            format::episode_return(report.evaluation_return),
        ),
        row(
            "standard deviation",
            format::episode_return(report.standard_deviation),
        ),
        row(
            "range",
            format!(
                "{} to {}",
                format::episode_return(report.minimum),
                format::episode_return(report.maximum)
            ),
        ),
        row(
            "episode length",
            format!(
                "{:.1} ({} to {})",
                report.mean_length, report.min_length, report.max_length
            ),
        ),
    ];
    title + &format::table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_mean_spread_and_range() {
        let report = EvaluationReport {
            run_dir: PathBuf::from("runs/a"),
            checkpoint: "best",
            environment: "CartPole-v1".to_owned(),
            version: 3,
            env_steps: 262_144,
            seed: 1,
            episodes: 2,
            evaluation_return: 499.0,
            standard_deviation: 1.0,
            minimum: 498.0,
            maximum: 500.0,
            mean_length: 499.0,
            min_length: 498,
            max_length: 500,
        };
        insta::assert_snapshot!(describe(&report));
    }
}
