//! Wrapped native environments against traces of Gymnasium 1.4.0 under its own wrappers, which
//! `scripts/golden/wrappers.py` wrote: whole episodes, from the recorded start states on.
//!
//! The tolerances are those of the environments (`golden.rs`), which may differ from Gymnasium's by a
//! rounding of their state; the car does not, and so neither may its wrappers.

#![expect(
    clippy::unwrap_used,
    reason = "a trace that cannot be read fails its test"
)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use rookery_actor::environments::{
    BatchedEnvironment, EnvironmentFault, RestoreError, StepOutput, make, wrap,
};
use rookery_common::configuration::Configuration;
use rookery_common::seeds::{Purpose, Random};
use rookery_common::snapshot;
use rookery_common::spaces::EnvironmentSpec;

/// Start states that are still to come.
type Starts = Arc<Mutex<VecDeque<[f64; 2]>>>;

/// One instance that begins in recorded states instead of drawn ones, where there are any.
struct Recorded {
    environment: Box<dyn BatchedEnvironment>,
    starts: Starts,
}

impl BatchedEnvironment for Recorded {
    fn spec(&self) -> &EnvironmentSpec {
        self.environment.spec()
    }

    fn num_envs(&self) -> usize {
        1
    }

    fn reset(
        &mut self,
        index: usize,
        random: Random,
        observation: &mut [f32],
    ) -> Result<(), EnvironmentFault> {
        let Some(start) = self.starts.lock().unwrap().pop_front() else {
            return self.environment.reset(index, random, observation);
        };
        let mut state = Vec::new();
        snapshot::encode(1, &vec![start], &mut state);
        self.environment.restore(&state).unwrap();
        self.environment.observe(observation);
        Ok(())
    }

    fn step(&mut self, actions: &[f32], output: StepOutput<'_>) -> Result<(), EnvironmentFault> {
        self.environment.step(actions, output)
    }

    fn step_some(
        &mut self,
        active: &[bool],
        actions: &[f32],
        output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        self.environment.step_some(active, actions, output)
    }

    fn observe(&self, observations: &mut [f32]) {
        self.environment.observe(observations);
    }

    fn save(&self, state: &mut Vec<u8>) {
        self.environment.save(state);
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        self.environment.restore(state)
    }
}

/// Plays a trace. Values may be this many roundings of `f32` away from it.
fn replay(text: &str, tolerance: f32) {
    let mut lines = text.lines();
    let mut words = lines.next().unwrap().strip_prefix("# ").unwrap().split(' ');
    let id = words.next().unwrap();
    let arguments = words
        .map(|word| word.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let configuration = lines.next().unwrap().strip_prefix("# ").unwrap();
    let wrappers = Configuration::parse(configuration)
        .unwrap()
        .environment
        .wrappers;
    assert!(!wrappers.is_empty());

    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let columns = |prefix: &str| -> Vec<usize> {
        let belongs = |index: &usize| names[*index].starts_with(prefix);
        (0..names.len()).filter(belongs).collect()
    };
    let (starts, seen) = (columns("start"), columns("observation"));
    let [action, reward, terminated, truncated] =
        ["action", "reward", "terminated", "truncated"].map(|name| columns(name)[0]);

    let recorded = Starts::default();
    let environment = Box::new(Recorded {
        environment: make(id, &arguments, 1).unwrap(),
        starts: Arc::clone(&recorded),
    });
    let mut environment = wrap(environment, &wrappers).unwrap();
    let limit = environment.spec().max_episode_steps.unwrap();
    let space = environment.spec().observation.clone();
    assert_eq!(space.width(), seen.len());

    let close = |got: f32, expected: f32, what: &str, line: usize| {
        let distance = (got - expected).abs() / (f32::EPSILON * expected.abs().max(1.0));
        assert!(
            distance <= tolerance,
            "{what} in row {line}: {got} instead of {expected}"
        );
    };
    let mut observation = vec![0.0; seen.len()];
    let (mut elapsed, mut num_ended, mut num_compared) = (0, 0, 0);
    for (line, row) in lines.enumerate() {
        let row: Vec<&str> = row.split(',').collect();
        if row[action].is_empty() {
            let start: Vec<f64> = starts.iter().map(|&at| row[at].parse().unwrap()).collect();
            if let Ok(start) = start.try_into() {
                recorded.lock().unwrap().push_back(start);
            }
            let random = Random::derive(1, Purpose::Episode, 0, line as u64);
            environment.reset(0, random, &mut observation).unwrap();
            elapsed = 0;
        } else {
            let (mut rewards, mut ends) = ([f32::NAN], ([9], [9]));
            let output = StepOutput {
                observations: &mut observation,
                rewards: &mut rewards,
                terminated: &mut ends.0,
                truncated: &mut ends.1,
            };
            environment
                .step(&[row[action].parse().unwrap()], output)
                .unwrap();
            elapsed += 1;
            close(
                rewards[0],
                row[reward].parse::<f64>().unwrap() as f32,
                "reward",
                line,
            );
            assert_eq!(ends.0[0].to_string(), row[terminated], "row {line}");
            // The limit is the shard's to apply, but the spec's to state.
            let is_truncated = ends.1[0] == 1 || elapsed >= limit;
            assert_eq!(is_truncated, row[truncated] == "1", "row {line}");
            num_ended += u32::from(is_truncated || ends.0[0] == 1);
        }
        assert!(space.contains(&observation), "row {line}: {observation:?}");
        if row[seen[0]].is_empty() {
            continue;
        }
        for (&at, got) in seen.iter().zip(&observation) {
            close(*got, row[at].parse().unwrap(), names[at], line);
            num_compared += 1;
        }
    }
    println!("{id}: {num_compared} values, {num_ended} episodes ended");
    assert!(num_compared > 50);
}

macro_rules! golden {
    ($file:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/golden/wrappers/",
            $file,
            ".csv"
        ))
    };
}

/// Where nothing but the car computes.
const EXACT: f32 = 0.0;
/// Of a pendulum's sines and cosines, after up to 80 steps.
const PENDULUM: f32 = 2.0;

#[test]
fn time_limits_are_gymnasiums() {
    replay(golden!("time_limit"), EXACT);
}

#[test]
fn frame_skips_are_gymnasiums() {
    replay(golden!("frame_skip"), EXACT);
    replay(golden!("frame_skip_goal"), EXACT);
}

#[test]
fn frame_stacks_are_gymnasiums() {
    replay(golden!("frame_stack"), EXACT);
    replay(golden!("frame_stack_zero"), EXACT);
}

#[test]
fn clipped_and_scaled_rewards_are_gymnasiums() {
    replay(golden!("clip_reward"), PENDULUM);
    replay(golden!("scale_reward"), PENDULUM);
}

#[test]
fn clipped_and_rescaled_actions_are_gymnasiums() {
    replay(golden!("clip_action"), PENDULUM);
    replay(golden!("rescale_action"), PENDULUM);
}

#[test]
fn sticky_actions_are_gymnasiums() {
    replay(golden!("sticky_actions"), EXACT);
}

#[test]
fn flattened_observations_are_gymnasiums() {
    replay(golden!("flatten_observation"), EXACT);
}

#[test]
fn clipped_rescaled_and_cast_observations_are_gymnasiums() {
    replay(golden!("clip_observation"), EXACT);
    replay(golden!("rescale_observation"), EXACT);
    replay(golden!("cast_float16"), EXACT);
    replay(golden!("cast_uint8"), EXACT);
}

#[test]
fn wrappers_around_wrappers_are_gymnasiums() {
    replay(golden!("together"), EXACT);
}
