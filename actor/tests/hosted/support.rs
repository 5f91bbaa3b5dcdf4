//! The interpreter, shards to step, and what they should show.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rookery_actor::environments::hosted::HostPool;
use rookery_actor::shard::{EpisodeRecord, FinalObservations, Shard, StepRow};
use rookery_common::configuration::{HostConfiguration, HumanDuration};
use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::Space;
use rookery_common::unroll::{
    LeaseEpoch, Observations, PolicyVersion, ShardId, Unroll, UnrollIndex, UnrollKey,
};

pub(crate) const SEED: u64 = 11;

/// The interpreter that has Gymnasium and the environments that are tested.
pub(crate) fn python() -> PathBuf {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let of_checkout = root.join(".venv/bin/python");
    std::env::var_os("ROOKERY_TEST_PYTHON")
        .map(PathBuf::from)
        .or_else(|| of_checkout.exists().then_some(of_checkout))
        .expect(
            "no Python with Gymnasium: run `make python-environments`, or set ROOKERY_TEST_PYTHON to \
             an interpreter that has what scripts/python-environments.txt lists",
        )
}

/// The folder of the environments that are made for these tests.
pub(crate) fn modules() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python"))
}

pub(crate) fn settings() -> HostConfiguration {
    HostConfiguration {
        python: python(),
        python_path: vec![modules()],
        step_timeout: HumanDuration::from_secs(30),
        ..HostConfiguration::default()
    }
}

pub(crate) fn pool() -> HostPool {
    HostPool::new(settings())
}

pub(crate) fn arguments(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// A shard whose first environment has the global index 5.
pub(crate) fn shard(pool: &HostPool, id: &str, pairs: &[(&str, &str)], num_envs: usize) -> Shard {
    let batch = pool.make(id, &arguments(pairs), num_envs).unwrap();
    Shard::new(Box::new(batch), 5, SEED, Purpose::Episode).unwrap()
}

/// What Gymnasium is given as the seed of an episode of a [`shard`]'s environment.
pub(crate) fn gymnasium_seed(index: usize, episode: u64) -> u32 {
    let env = 5 + index as u64;
    (Random::derive(SEED, Purpose::Episode, env, episode).next_bits() >> 33) as u32
}

/// What one step wrote.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Step {
    pub(crate) rewards: Vec<f32>,
    pub(crate) terminated: Vec<u8>,
    pub(crate) truncated: Vec<u8>,
    pub(crate) next_observations: Vec<f32>,
    pub(crate) finals: FinalObservations,
    pub(crate) episodes: Vec<EpisodeRecord>,
}

/// Takes a step, whose rows are first filled with what no step writes.
pub(crate) fn try_step(
    shard: &mut Shard,
    actions: &[f32],
) -> Result<Step, rookery_actor::environments::EnvironmentFault> {
    let (num_envs, width) = (shard.num_envs(), shard.spec().observation.width());
    let mut step = Step {
        rewards: vec![f32::MAX; num_envs],
        terminated: vec![9; num_envs],
        truncated: vec![9; num_envs],
        next_observations: vec![f32::MAX; num_envs * width],
        ..Step::default()
    };
    shard.step(
        actions,
        StepRow {
            rewards: &mut step.rewards,
            terminated: &mut step.terminated,
            truncated: &mut step.truncated,
            next_observations: &mut step.next_observations,
            finals: &mut step.finals,
            episodes: &mut step.episodes,
        },
    )?;
    Ok(step)
}

/// Actions of all environments at a step, drawn within their space.
pub(crate) fn actions(shard: &Shard, step: u64) -> Vec<f32> {
    (0..shard.num_envs() as u64)
        .flat_map(|env| {
            let mut random = Random::derive(99, Purpose::Action, env, step);
            match &shard.spec().action {
                Space::Discrete { .. } | Space::MultiDiscrete { .. } => {
                    let choices = shard.spec().action.choices().unwrap_or_default();
                    let choices = choices.iter();
                    choices
                        .map(|n| random.below(*n as u64) as f32)
                        .collect::<Vec<_>>()
                }
                Space::Frames { .. } => panic!("no environment acts in images"),
                Space::Box { low, high, .. } => low
                    .iter()
                    .zip(high)
                    .map(|(low, high)| random.uniform(f64::from(*low), f64::from(*high)) as f32)
                    .collect(),
            }
        })
        .collect()
}

pub(crate) fn run(shard: &mut Shard, steps: std::ops::Range<u64>) -> Vec<Step> {
    steps
        .map(|step| {
            let actions = actions(shard, step);
            try_step(shard, &actions).unwrap()
        })
        .collect()
}

pub(crate) fn shown(shard: &Shard) -> Vec<f32> {
    let width = shard.num_envs() * shard.spec().observation.width();
    let mut observations = vec![f32::MAX; width];
    shard.observe(&mut observations);
    observations
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The bits of an observation as `bare.py` shows them: of a long one a sum in which each has a weight.
pub(crate) fn digest(row: &[f32]) -> Vec<u32> {
    let bits = bits(row);
    if bits.len() <= 64 {
        return bits;
    }
    let weights = (0..).map(|place: u32| 2 * place + 1);
    let products = bits
        .iter()
        .zip(weights)
        .map(|(bits, weight)| bits.wrapping_mul(weight));
    vec![products.fold(0, u32::wrapping_add)]
}

/// What `bare.py` says of one environment: rows of numbers as bits.
pub(crate) struct Bare {
    lines: Vec<Vec<u32>>,
    next: usize,
}

impl Bare {
    /// Steps environment `index` of a [`shard`] in a loop of Python's own, which `script` is.
    pub(crate) fn run(
        script: &str,
        id: &str,
        keywords: &str,
        index: usize,
        actions: &[Vec<f32>],
    ) -> Self {
        let mut input = format!("{id}\n{keywords}\n");
        let seeds: Vec<String> = (0..=actions.len() as u64)
            .map(|episode| gymnasium_seed(index, episode).to_string())
            .collect();
        writeln!(input, "{}", seeds.join(" ")).unwrap();
        for action in actions {
            let values: Vec<String> = action.iter().map(|value| format!("{value:e}")).collect();
            writeln!(input, "{}", values.join(" ")).unwrap();
        }
        let mut child = Command::new(python())
            .arg(modules().join(script))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{script} failed");
        let lines = String::from_utf8(output.stdout).unwrap();
        let lines = lines
            .lines()
            .map(|line| {
                line.split(' ')
                    .map(|word| u32::from_str_radix(word, 16).unwrap())
                    .collect()
            })
            .collect();
        Self { lines, next: 0 }
    }

    /// The next row.
    pub(crate) fn row(&mut self) -> &[u32] {
        self.next += 1;
        &self.lines[self.next - 1]
    }
}

/// An unroll of these observations and ends (terminated, truncated, index of final observations); the rest is nothing.
pub(crate) fn unroll_of(
    observation: Observations,
    final_observation: Observations,
    (terminated, truncated, final_index): (Vec<u8>, Vec<u8>, Vec<u32>),
) -> Unroll {
    Unroll {
        key: UnrollKey {
            run_id: "run".to_owned(),
            shard: ShardId(0),
            lease_epoch: LeaseEpoch(0),
            index: UnrollIndex(0),
        },
        version: PolicyVersion::default(),
        observation,
        initial_state: Vec::new().into(),
        action: Vec::new().into(),
        log_prob: Vec::new().into(),
        reward: Vec::new().into(),
        terminated: terminated.into(),
        truncated: truncated.into(),
        final_index: final_index.into(),
        final_observation,
        episode_index: Vec::new().into(),
        episode_return: Vec::new().into(),
        episode_length: Vec::new().into(),
        state_after: bytes::Bytes::new(),
        discontinuity: None,
    }
}
