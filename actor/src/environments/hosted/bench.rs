//! How fast environments of Python are through a host, and in a loop of Python's own beside it.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::Space;
use serde_json::json;

use super::process::set_environment;
use super::{HostPool, HostedError};
use crate::environments::EnvironmentFault;
use crate::shard::{FinalObservations, Shard, StepRow};

/// What the loop of Python needs to make the same environments.
const BARE: [&str; 5] = [
    "import importlib, inspect, json, sys, time\nimport numpy as np\nimport gymnasium",
    include_str!("spaces.py"),
    include_str!("instances.py"),
    include_str!("resets.py"),
    include_str!("bare.py"),
];
/// Rows of actions that are cycled through, so that drawing them is not measured.
const ACTION_ROWS: usize = 64;

/// Why there is nothing to compare.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// There are no such environments.
    #[error(transparent)]
    Hosted(#[from] HostedError),
    /// An environment failed.
    #[error(transparent)]
    Fault(#[from] EnvironmentFault),
    /// The loop of Python's own cannot be run.
    #[error("cannot run a loop of Python's own: {0}")]
    Io(#[from] std::io::Error),
    /// It ended without a figure.
    #[error("the loop of Python's own ended with {status} and said {said:?}")]
    Bare {
        /// How it ended.
        status: ExitStatus,
        /// Its last line.
        said: String,
    },
}

/// Environment steps a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throughput {
    /// Through a host, in a shard.
    pub hosted: f64,
    /// In a loop of Python's own that seeds each episode, as a host must; a vector environment
    /// resets itself there, without seeds.
    pub bare: f64,
    /// In one that seeds only the first.
    pub bare_unseeded: f64,
}

/// Measures all three in turn, `rounds` times for `time` each, and gives the medians.
///
/// # Errors
/// Where there is no such environment, or it fails.
pub fn compare(
    pool: &HostPool,
    id: &str,
    arguments: &BTreeMap<String, String>,
    num_envs: usize,
    rounds: usize,
    time: Duration,
) -> Result<Throughput, BenchError> {
    let batch = pool.make(id, arguments, num_envs)?;
    let shard = Shard::new(Box::new(batch), 0, 1, Purpose::Evaluation)?;
    let mut stepper = Stepper::new(shard);
    stepper.measure(time / 5)?;
    let mut rates: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        rates[0].push(stepper.measure(time)?);
        for (seeded, rates) in [true, false].into_iter().zip(&mut rates[1..]) {
            rates.push(bare(pool, id, arguments, num_envs, seeded, time)?);
        }
    }
    let [hosted, bare, bare_unseeded] = rates.map(median);
    Ok(Throughput {
        hosted,
        bare,
        bare_unseeded,
    })
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    let middle = rates.len() / 2;
    if rates.len().is_multiple_of(2) {
        f64::midpoint(rates[middle - 1], rates[middle])
    } else {
        rates[middle]
    }
}

/// Runs the loop of Python's own.
fn bare(
    pool: &HostPool,
    id: &str,
    arguments: &BTreeMap<String, String>,
    num_envs: usize,
    seeded: bool,
    time: Duration,
) -> Result<f64, BenchError> {
    let settings = pool.settings();
    let request = json!({
        "id": id,
        "arguments": arguments,
        "num_envs": num_envs,
        "seeded": seeded,
        "seconds": time.as_secs_f64(),
    });
    let mut command = Command::new(&settings.python);
    command.arg("-c").arg(BARE.join("\n"));
    set_environment(settings, &mut command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        writeln!(stdin, "{request}")?;
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    last.parse().map_err(|_| BenchError::Bare {
        status: output.status,
        said: last.to_owned(),
    })
}

/// A shard, and where its steps are written.
struct Stepper {
    shard: Shard,
    actions: Vec<f32>,
    rewards: Vec<f32>,
    terminated: Vec<u8>,
    truncated: Vec<u8>,
    next_observations: Vec<f32>,
    finals: FinalObservations,
}

impl Stepper {
    fn new(shard: Shard) -> Self {
        let num_envs = shard.num_envs();
        let width = shard.spec().action.width();
        let mut random = Random::derive(1, Purpose::Action, 0, 0);
        let actions = (0..ACTION_ROWS * num_envs * width)
            .map(|index| match &shard.spec().action {
                Space::Discrete { n } => random.below(*n as u64) as f32,
                Space::Box { low, high, .. } => {
                    let (low, high) = (low[index % width], high[index % width]);
                    low + (high - low) * random.unit_f32()
                }
                Space::Frames { .. } => 0.0,
            })
            .collect();
        Self {
            actions,
            rewards: vec![0.0; num_envs],
            terminated: vec![0; num_envs],
            truncated: vec![0; num_envs],
            next_observations: vec![0.0; num_envs * shard.spec().observation.width()],
            finals: FinalObservations::default(),
            shard,
        }
    }

    /// Steps for about this time; gives environment steps a second.
    fn measure(&mut self, time: Duration) -> Result<f64, EnvironmentFault> {
        let row = self.actions.len() / ACTION_ROWS;
        let (mut steps, begin) = (0, Instant::now());
        while begin.elapsed() < time {
            for actions in self.actions.chunks_exact(row) {
                self.finals.envs.clear();
                self.finals.observations.clear();
                self.shard.step(
                    actions,
                    StepRow {
                        rewards: &mut self.rewards,
                        terminated: &mut self.terminated,
                        truncated: &mut self.truncated,
                        next_observations: &mut self.next_observations,
                        finals: &mut self.finals,
                        episodes: &mut Vec::new(),
                    },
                )?;
            }
            steps += ACTION_ROWS * self.shard.num_envs();
        }
        Ok(steps as f64 / begin.elapsed().as_secs_f64())
    }
}
