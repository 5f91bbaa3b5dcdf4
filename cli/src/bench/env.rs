//! `rookery bench env`: environment steps a second on one core, resets and bookkeeping included.

use std::collections::BTreeMap;
use std::hint::black_box;

use clap::Args;
use rookery_actor::environments::{ids, make};
use rookery_actor::shard::{FinalObservations, Shard, StepRow};
use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::Space;
use serde::Serialize;

use super::{PartArguments, millions, print, row, units_per_second};

/// Environments in a shard.
const BATCHES: [usize; 4] = [1, 8, 64, 1024];
/// What stands for all of it in one figure.
const HEADLINE: (&str, usize) = ("CartPole-v1", 64);
/// Rows of actions that are cycled through, so that drawing them is not measured.
const ACTION_ROWS: usize = 64;

/// Step every environment with random actions on one core
#[derive(Clone, Debug, Args)]
pub(super) struct EnvArguments {
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

pub(super) fn bench(arguments: &EnvArguments) -> anyhow::Result<()> {
    let ids: Vec<&str> = ids().collect();
    let time = arguments.part.seconds / (ids.len() * BATCHES.len()) as u32;
    let mut table = vec![row(["steps/s in batches of", "1", "8", "64", "1024"])];
    let mut results = Vec::new();
    for environment in ids {
        let mut line = vec![environment.to_owned()];
        for batch in BATCHES {
            let mut stepper = Stepper::new(environment, batch)?;
            let env_steps_per_second = units_per_second(time, || stepper.step());
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
    print(&table, &report, arguments.part.json)
}

/// A shard, and where its steps are written.
struct Stepper {
    shard: Shard,
    actions: Vec<f32>,
    action_row: usize,
    rewards: Vec<f32>,
    terminated: Vec<u8>,
    truncated: Vec<u8>,
    next_observations: Vec<f32>,
    finals: FinalObservations,
}

impl Stepper {
    fn new(id: &str, num_envs: usize) -> anyhow::Result<Self> {
        let environment = make(id, &BTreeMap::new(), num_envs)?;
        let shard = Shard::new(environment, 0, 1, Purpose::Evaluation)?;
        let width = shard.spec().action.width();
        let mut random = Random::derive(1, Purpose::Action, 0, 0);
        let actions = (0..ACTION_ROWS * num_envs * width)
            .map(|index| match &shard.spec().action {
                Space::Discrete { n } => random.below(*n as u64) as f32,
                Space::Box { low, high, .. } => {
                    let (low, high) = (low[index % width], high[index % width]);
                    low + (high - low) * random.unit_f32()
                }
                Space::MultiDiscrete { nvec } => random.below(nvec[index % width] as u64) as f32,
                Space::Frames { .. } => unreachable!("no environment acts in images"),
            })
            .collect();
        Ok(Self {
            actions,
            action_row: 0,
            rewards: vec![0.0; num_envs],
            terminated: vec![0; num_envs],
            truncated: vec![0; num_envs],
            next_observations: vec![0.0; num_envs * shard.spec().observation.width()],
            finals: FinalObservations::default(),
            shard,
        })
    }

    /// Steps every environment as often as there are rows of actions; returns the steps.
    #[expect(clippy::expect_used, reason = "native environments have no faults")]
    fn step(&mut self) -> usize {
        let row_width = self.actions.len() / ACTION_ROWS;
        for _ in 0..ACTION_ROWS {
            let actions = &self.actions[self.action_row * row_width..][..row_width];
            self.action_row = (self.action_row + 1) % ACTION_ROWS;
            self.finals.envs.clear();
            self.finals.observations.clear();
            self.shard
                .step(
                    actions,
                    StepRow {
                        rewards: &mut self.rewards,
                        terminated: &mut self.terminated,
                        truncated: &mut self.truncated,
                        next_observations: &mut self.next_observations,
                        finals: &mut self.finals,
                        episodes: &mut Vec::new(),
                    },
                )
                .expect("a native environment steps");
            black_box(&self.next_observations);
        }
        ACTION_ROWS * self.shard.num_envs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_environment_can_be_stepped_in_every_batch() {
        for id in ids() {
            for batch in BATCHES {
                let mut stepper = Stepper::new(id, batch).unwrap();
                assert_eq!(stepper.step(), ACTION_ROWS * batch);
                assert!(
                    stepper
                        .next_observations
                        .iter()
                        .all(|value| value.is_finite()),
                    "{id}"
                );
            }
        }
    }
}
