//! Wrappers around native environments, and around one that shows what it was told.

use std::collections::BTreeMap;

use rookery_common::seeds::{Purpose, Random};
use rookery_common::wrappers::{ElementType, StackPadding};

use super::*;
use crate::environments::{Batch, Dynamics, RestoreError, make};
use crate::shard::{EpisodeRecord, FinalObservations, Shard, StepRow};

mod always;
mod time;
mod values;
mod fit;

/// Shows a number drawn for the episode, the steps taken and the last action, and rewards the number
/// of the step; an action of 2 ends the episode.
struct Echo;

impl Dynamics<3> for Echo {
    type State = [f32; 3];

    fn begin(&self, mut random: Random) -> [f32; 3] {
        [random.unit_f32(), 0.0, 0.0]
    }

    fn advance(&self, state: &mut [f32; 3], action: f32) -> (f32, bool) {
        state[1] += 1.0;
        state[2] = action;
        (state[1], action == 2.0)
    }

    fn observe(&self, state: &[f32; 3]) -> [f32; 3] {
        *state
    }

    fn is_possible(&self, _state: &[f32; 3]) -> bool {
        true
    }
}

fn echo_spec(action: Space) -> EnvironmentSpec {
    EnvironmentSpec {
        id: "Echo".to_owned(),
        arguments: BTreeMap::new(),
        observation: Space::bounded(&[0.0, 0.0, -9.0], &[1.0, 500.0, 9.0]),
        action,
        max_episode_steps: Some(10),
        goal: None,
        wrappers: Vec::new(),
        action_mask: false,
    }
}

fn echo(num_envs: usize, wrappers: &[Wrapper]) -> Box<dyn BatchedEnvironment> {
    let batch = Batch::new(echo_spec(Space::Discrete { n: 3 }), Echo, num_envs);
    wrap(Box::new(batch), wrappers).unwrap()
}

/// As [`echo`], with real actions.
fn continuous_echo(low: f32, high: f32) -> Box<dyn BatchedEnvironment> {
    let spec = echo_spec(Space::bounded(&[low], &[high]));
    Box::new(Batch::new(spec, Echo, 1))
}

fn native(id: &str, num_envs: usize, wrappers: &[Wrapper]) -> Box<dyn BatchedEnvironment> {
    wrap(make(id, &BTreeMap::new(), num_envs).unwrap(), wrappers).unwrap()
}

fn stream(episode: u64) -> Random {
    Random::derive(7, Purpose::Episode, 0, episode)
}

/// What one step wrote.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    observations: Vec<f32>,
    rewards: Vec<f32>,
    terminated: Vec<u8>,
    truncated: Vec<u8>,
}

/// Values that no step writes.
fn untouched(environment: &dyn BatchedEnvironment) -> Step {
    let num_envs = environment.num_envs();
    Step {
        observations: vec![f32::MAX; num_envs * environment.spec().observation.width()],
        rewards: vec![f32::MAX; num_envs],
        terminated: vec![9; num_envs],
        truncated: vec![9; num_envs],
    }
}

impl Step {
    fn output(&mut self) -> StepOutput<'_> {
        StepOutput {
            observations: &mut self.observations,
            rewards: &mut self.rewards,
            terminated: &mut self.terminated,
            truncated: &mut self.truncated,
        }
    }
}

fn step(environment: &mut dyn BatchedEnvironment, actions: &[f32]) -> Step {
    let mut step = untouched(environment);
    environment.step(actions, step.output()).unwrap();
    let mut shown = vec![f32::MAX; step.observations.len()];
    environment.observe(&mut shown);
    assert_eq!(
        shown, step.observations,
        "what a step wrote is what is shown"
    );
    step
}

fn reset(environment: &mut dyn BatchedEnvironment, index: usize, episode: u64) -> Vec<f32> {
    let mut first = vec![f32::MAX; environment.spec().observation.width()];
    environment
        .reset(index, stream(episode), &mut first)
        .unwrap();
    let mut shown = vec![f32::MAX; environment.num_envs() * first.len()];
    environment.observe(&mut shown);
    assert_eq!(shown[index * first.len()..][..first.len()], first);
    first
}

fn skip(frames: u32) -> Wrapper {
    Wrapper::FrameSkip {
        frames,
        max_pool: false,
    }
}

fn stack(size: u32) -> Wrapper {
    Wrapper::FrameStack {
        size,
        padding: StackPadding::Reset,
    }
}

fn time_limit(max_episode_steps: u32) -> Wrapper {
    Wrapper::TimeLimit {
        max_episode_steps,
        training_only: false,
    }
}

fn sticky(probability: f64) -> Wrapper {
    Wrapper::StickyActions {
        probability,
        training_only: false,
    }
}

fn noops(max_steps: u32, action: u32) -> Wrapper {
    Wrapper::NoopStarts {
        max_steps,
        action,
        training_only: false,
    }
}

fn scale(factor: f64) -> Wrapper {
    Wrapper::ScaleReward {
        factor,
        training_only: false,
    }
}

fn bounds(space: &Space) -> (&[usize], &[f32], &[f32]) {
    match space {
        Space::Box { shape, low, high } => (shape, low, high),
        Space::Discrete { .. } | Space::MultiDiscrete { .. } | Space::Frames { .. } => {
            panic!("{space} has no bounds")
        }
    }
}

/// Wrappers around environments that they fit, every kind at least once, and some together.
fn variants() -> Vec<(&'static str, Vec<Wrapper>)> {
    let pooled = Wrapper::FrameSkip {
        frames: 3,
        max_pool: true,
    };
    let zeros = Wrapper::FrameStack {
        size: 3,
        padding: StackPadding::Zero,
    };
    let clip = |low, high| Wrapper::ClipObservation { low, high };
    let bytes = Wrapper::RescaleObservation {
        low: 0.0,
        high: 255.0,
    };
    let units = Wrapper::RescaleObservation {
        low: 0.0,
        high: 1.0,
    };
    let cast = |to| Wrapper::CastObservation { to };
    let sign = Wrapper::SignReward {
        training_only: false,
    };
    let clip_reward = Wrapper::ClipReward {
        low: -0.5,
        high: 0.5,
        training_only: false,
    };
    let rescale = Wrapper::RescaleAction {
        low: -1.0,
        high: 1.0,
    };
    vec![
        ("CartPole-v1", vec![time_limit(30)]),
        ("CartPole-v1", vec![skip(4)]),
        (
            "CartPole-v1",
            vec![clip(-3.0, 3.0), pooled.clone(), stack(4)],
        ),
        ("CartPole-v1", vec![sticky(0.25), zeros, noops(8, 0)]),
        (
            "CartPole-v1",
            vec![noops(40, 1), Wrapper::PreviousAction {}],
        ),
        (
            "FrozenLake-v1",
            vec![Wrapper::FlattenObservation {}, stack(2)],
        ),
        (
            "FrozenLake-v1",
            vec![sticky(0.5), sticky(0.5), time_limit(20)],
        ),
        ("Breakout-MinAtar-v0", vec![pooled, stack(2), sticky(0.1)]),
        ("Catch-v0", vec![Wrapper::FlattenObservation {}, sign]),
        (
            "Acrobot-v1",
            vec![bytes.clone(), cast(ElementType::Uint8), units],
        ),
        (
            "Acrobot-v1",
            vec![cast(ElementType::Float16), skip(3), stack(3)],
        ),
        (
            "Pendulum-v1",
            vec![
                rescale,
                sticky(0.3),
                Wrapper::PreviousAction {},
                clip_reward,
                Wrapper::PreviousReward {},
                skip(7),
                scale(0.1),
            ],
        ),
        (
            "PointReach-v0",
            vec![Wrapper::ClipAction {}, Wrapper::PreviousAction {}],
        ),
        (
            "TMaze-v0",
            vec![skip(2), time_limit(9), Wrapper::PreviousReward {}],
        ),
    ]
}

fn shard(variant: usize, first_env: u32, num_envs: usize) -> Shard {
    let (id, wrappers) = &variants()[variant];
    let environment = native(id, num_envs, wrappers);
    Shard::new(environment, first_env, 11, Purpose::Episode).unwrap()
}

/// The columns of one time step of a shard.
#[derive(Clone, Debug, Default, PartialEq)]
struct Columns {
    observations: Vec<f32>,
    rewards: Vec<f32>,
    flags: [Vec<u8>; 2],
    finals: FinalObservations,
    episodes: Vec<EpisodeRecord>,
}

fn action(space: &Space, env: u64, step: u64) -> Vec<f32> {
    let mut random = Random::derive(99, Purpose::Action, env, step);
    match space {
        Space::Frames { .. } => panic!("no environment acts in images"),
        Space::Discrete { .. } | Space::MultiDiscrete { .. } => {
            let choices = space.choices().into_iter().flatten();
            choices.map(|n| random.below(*n as u64) as f32).collect()
        }
        // Some lie outside.
        Space::Box { low, high, .. } => {
            let bounds = low.iter().zip(high);
            bounds
                .map(|(low, high)| random.uniform(f64::from(*low), f64::from(*high)) as f32 * 1.2)
                .collect()
        }
    }
}

fn run(shard: &mut Shard, steps: std::ops::Range<u64>) -> Vec<Columns> {
    let (num_envs, first) = (shard.num_envs(), u64::from(shard.first_env()));
    let spec = shard.spec().clone();
    let mut take = |time| {
        let actions: Vec<f32> = (first..first + num_envs as u64)
            .flat_map(|env| action(&spec.action, env, time))
            .collect();
        let mut columns = Columns {
            observations: vec![f32::MAX; num_envs * spec.observation.width()],
            rewards: vec![f32::MAX; num_envs],
            flags: [vec![9; num_envs], vec![9; num_envs]],
            ..Columns::default()
        };
        let [terminated, truncated] = &mut columns.flags;
        let row = StepRow {
            rewards: &mut columns.rewards,
            terminated,
            truncated,
            next_observations: &mut columns.observations,
            finals: &mut columns.finals,
            episodes: &mut columns.episodes,
        };
        shard.step(&actions, row).unwrap();
        columns
    };
    steps.map(&mut take).collect()
}
