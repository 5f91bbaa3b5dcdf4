//! `rookery bench env`: environment steps a second on one core, resets and bookkeeping included; or an
//! environment through the actor beside a bare loop of Python's.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;
use rookery_actor::environments::{ids, make};
use rookery_actor::throughput::{Case, CompareError, Comparison, Stepper, cases, compare};
use rookery_common::configuration::HostConfiguration;
use serde::Serialize;

use super::{PartArguments, millions, print, row, units_per_second};
use crate::failure::Failure;
use crate::format;

/// Environments in a shard.
const BATCHES: [usize; 4] = [1, 8, 64, 1024];
/// What stands for all of it in one figure.
const HEADLINE: (&str, usize) = ("CartPole-v1", 64);
/// Steps of a shard between two looks at the clock.
const STEPS: usize = 64;

/// Step native environments with random actions, or compare with a loop of Python's own
///
/// With `--python`, environments are stepped through the actor and in a bare loop of Python's, in turns of
/// a quarter of a second: `bare` is the loop that people write, `seeded` one that seeds every episode, as
/// the actor must for runs to be repeatable. There are as many loops as the actor has collectors, each of
/// which has one host process, and where there are more cores than hosts two shards, of which one is
/// stepped while it works on the other; a loop steps as many, one after the other. Rates are those of all
/// together and over all turns, so that the beginning of an episode counts for what it takes. Ids name what
/// to compare; without any it is one of each kind: cheap and dear environments, one after the other and
/// vector environments, Python's and a native one.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  rookery bench env
  rookery bench env --python .venv/bin/python --seconds 120
  rookery bench env --python .venv/bin/python LunarLander-v3 mine:Env --num-envs 16")]
pub(super) struct EnvArguments {
    /// Environments to compare, as `environment.id` has them
    #[arg(value_name = "ID", requires = "python")]
    ids: Vec<String>,
    /// Compare with this interpreter, which has gymnasium and what the environments need
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Folder of modules of environments; may be repeated
    #[arg(long, value_name = "DIR", requires = "python")]
    python_path: Vec<PathBuf>,
    /// Instances that are stepped together in a comparison of named environments
    #[arg(long, value_name = "N", requires = "ids", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    num_envs: u32,
    /// Collector threads of the actor, each with shards of as many instances [default: one for each core]
    #[arg(long, value_name = "N", requires = "python", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    #[command(flatten)]
    part: PartArguments,
}

#[derive(Debug, Serialize)]
struct Report {
    /// Of CartPole in batches of 64.
    env_steps_per_second: f64,
    results: Vec<Measurement>,
}

#[derive(Debug, Serialize)]
struct Measurement {
    environment: &'static str,
    batch: usize,
    env_steps_per_second: f64,
}

#[derive(Debug, Serialize)]
struct ComparisonReport {
    results: Vec<Row>,
}

/// An environment of a comparison: environment steps a second, or why there are none.
#[derive(Debug, Default, Serialize)]
struct Row {
    environment: String,
    arguments: BTreeMap<String, String>,
    num_envs: usize,
    threads: usize,
    actor: Option<f64>,
    bare: Option<f64>,
    bare_seeded: Option<f64>,
    ratio: Option<f64>,
    seeded_ratio: Option<f64>,
    error: Option<String>,
}

pub(super) fn bench(arguments: &EnvArguments) -> anyhow::Result<()> {
    match &arguments.python {
        Some(python) => {
            let settings = HostConfiguration {
                python: python.clone(),
                python_path: arguments.python_path.clone(),
                ..HostConfiguration::default()
            };
            bench_python(&settings, arguments)
        }
        None => bench_native(&arguments.part),
    }
}

fn bench_native(part: &PartArguments) -> anyhow::Result<()> {
    let ids: Vec<&str> = ids().collect();
    let time = part.seconds / (ids.len() * BATCHES.len()) as u32;
    let mut table = vec![row(["steps/s in batches of", "1", "8", "64", "1024"])];
    let mut results = Vec::new();
    for environment in ids {
        let mut line = vec![environment.to_owned()];
        for batch in BATCHES {
            let mut stepper = Stepper::new(make(environment, &BTreeMap::new(), batch)?)?;
            let env_steps_per_second = units_per_second(time, || steps(&mut stepper));
            line.push(millions(env_steps_per_second));
            results.push(Measurement {
                environment,
                batch,
                env_steps_per_second,
            });
        }
        table.push(line);
    }
    let headline = results
        .iter()
        .find(|result| (result.environment, result.batch) == HEADLINE);
    let report = Report {
        env_steps_per_second: headline.map_or(f64::NAN, |result| result.env_steps_per_second),
        results,
    };
    print(&table, &report, part.json)
}

/// Steps a while; returns the steps of all instances.
#[expect(clippy::expect_used, reason = "native environments have no faults")]
fn steps(stepper: &mut Stepper) -> usize {
    let mut steps = 0;
    for _ in 0..STEPS {
        steps += stepper.step().expect("a native environment steps");
        black_box(stepper.observations());
    }
    steps
}

fn bench_python(settings: &HostConfiguration, arguments: &EnvArguments) -> anyhow::Result<()> {
    let cases = if arguments.ids.is_empty() {
        cases()
    } else {
        let num_envs = arguments.num_envs as usize;
        let ids = arguments.ids.iter();
        ids.map(|id| Case::new(id, num_envs)).collect()
    };
    let time = arguments.part.seconds / cases.len() as u32;
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments
        .threads
        .map_or_else(cores, |threads| threads as usize);
    let mut table = vec![row([
        "steps/s", "envs", "actor", "bare", "ratio", "seeded", "ratio",
    ])];
    let mut results = Vec::new();
    for case in &cases {
        let (cells, result) = measure(settings, case, threads, time)?;
        table.push(cells);
        results.push(result);
    }
    for Row {
        environment, error, ..
    } in &results
    {
        if let Some(error) = error {
            eprintln!("{environment} was not measured: {error}");
        }
    }
    let none_measured = results.iter().all(|row| row.error.is_some());
    print(&table, &ComparisonReport { results }, arguments.part.json)?;
    if none_measured {
        let message = "none of these environments could be measured";
        return Err(Failure::usage(message).into());
    }
    Ok(())
}

/// Compares one environment. One that cannot be made, say because its package is not installed, is a row
/// of the table all the same.
fn measure(
    settings: &HostConfiguration,
    case: &Case,
    threads: usize,
    time: Duration,
) -> anyhow::Result<(Vec<String>, Row)> {
    let result = Row {
        environment: case.id.clone(),
        arguments: case.arguments.clone(),
        num_envs: case.num_envs,
        threads,
        ..Row::default()
    };
    let mut name = case.id.clone();
    for (argument, value) in &case.arguments {
        name = format!("{name}, {argument} = {value}");
    }
    let name = vec![name, case.num_envs.to_string()];
    match compare(settings, case, threads, time) {
        Ok(comparison) => {
            let cells = name.into_iter().chain(cells(&comparison)).collect();
            let result = Row {
                actor: Some(comparison.actor),
                bare: Some(comparison.bare),
                bare_seeded: comparison.bare_seeded,
                ratio: Some(comparison.ratio()),
                seeded_ratio: comparison.seeded_ratio(),
                ..result
            };
            Ok((cells, result))
        }
        Err(CompareError::Environment(error)) => {
            let result = Row {
                error: Some(error.to_string()),
                ..result
            };
            Ok((name, result))
        }
        Err(error) => Err(error.into()),
    }
}

fn cells(comparison: &Comparison) -> [String; 5] {
    let rate = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), format::rate);
    let ratio = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), format::percent);
    [
        rate(Some(comparison.actor)),
        rate(Some(comparison.bare)),
        ratio(Some(comparison.ratio())),
        rate(comparison.bare_seeded),
        ratio(comparison.seeded_ratio()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_environment_can_be_stepped_in_every_batch() {
        for id in ids() {
            for batch in BATCHES {
                let environment = make(id, &BTreeMap::new(), batch).unwrap();
                let mut stepper = Stepper::new(environment).unwrap();
                assert_eq!(steps(&mut stepper), STEPS * batch);
                let observations = stepper.observations();
                assert!(observations.iter().all(|value| value.is_finite()), "{id}");
            }
        }
    }

    #[test]
    fn an_environment_that_cannot_be_made_is_a_row() {
        let settings = HostConfiguration {
            python: "/nowhere/python".into(),
            ..HostConfiguration::default()
        };
        let case = Case::new("Nothing-v0", 2);
        let (cells, row) = measure(&settings, &case, 1, Duration::from_millis(1)).unwrap();
        assert_eq!(cells, ["Nothing-v0", "2"]);
        assert!(row.error.is_some_and(|error| error.contains("Nothing-v0")));
    }

    #[test]
    fn what_has_no_second_loop_has_dashes() {
        let comparison = Comparison {
            actor: 96_000.0,
            bare: 100_000.0,
            bare_seeded: None,
        };
        assert_eq!(
            cells(&comparison),
            ["96,000", "100,000", "96.0 %", "-", "-"]
        );
    }
}
