//! Plays an environment the way a shard does, and keeps everything that it writes.

use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::{EnvironmentSpec, Space};

use super::{Bench, Failure};
use crate::environments::{BatchedEnvironment, EnvironmentFault, StepOutput};

/// Instances that are played together.
pub(super) const NUM_ENVS: usize = 3;
/// What stands where nothing has been written: no number, and no flag.
const UNWRITTEN: f32 = f32::NAN;
const UNWRITTEN_FLAG: u8 = 0xAA;
/// Half the width of what is drawn where an action has no bound.
const UNBOUNDED: f32 = 1.0;

/// What one step of one instance wrote.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) observation: Vec<f32>,
    pub(super) reward: f32,
    /// What was earned in the environment itself.
    pub(super) raw_reward: f32,
    pub(super) terminated: u8,
    pub(super) truncated: u8,
    /// The first observation of the next episode, where this step was the last of one.
    pub(super) next: Option<Vec<f32>>,
}

impl Step {
    /// Whether both are the same to the bit.
    pub(super) fn equals(&self, other: &Self) -> bool {
        same(&self.observation, &other.observation)
            && self.reward.to_bits() == other.reward.to_bits()
            && self.raw_reward.to_bits() == other.raw_reward.to_bits()
            && (self.terminated, self.truncated) == (other.terminated, other.truncated)
            && match (&self.next, &other.next) {
                (Some(next), Some(other)) => same(next, other),
                (None, None) => true,
                _ => false,
            }
    }

    /// What differs, in words.
    pub(super) fn difference(&self, other: &Self) -> String {
        if !same(&self.observation, &other.observation) {
            return format!(
                "observations {:?} and {:?}",
                self.observation, other.observation
            );
        }
        if self.reward.to_bits() != other.reward.to_bits()
            || self.raw_reward.to_bits() != other.raw_reward.to_bits()
        {
            return format!("rewards {} and {}", self.reward, other.reward);
        }
        if (self.terminated, self.truncated) != (other.terminated, other.truncated) {
            return format!(
                "terminated {} and {}, truncated {} and {}",
                self.terminated, other.terminated, self.truncated, other.truncated
            );
        }
        format!("first observations {:?} and {:?}", self.next, other.next)
    }
}

/// Whether rows are the same to the bit.
pub(super) fn same(one: &[f32], other: &[f32]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(a, b)| a.to_bits() == b.to_bits())
}

/// A batch in play. Instance `i` is environment `first_env + i` of a run.
pub(super) struct Player {
    pub(super) environment: Box<dyn BatchedEnvironment>,
    spec: EnvironmentSpec,
    seed: u64,
    first_env: u64,
    pub(super) episodes: Vec<u64>,
    pub(super) elapsed: Vec<u32>,
    /// What each instance showed last.
    pub(super) shown: Vec<Vec<f32>>,
}

impl Player {
    /// Makes a batch and begins episode 0 of every instance.
    pub(super) fn begin(
        bench: &Bench<'_>,
        num_envs: usize,
        first_env: u64,
        seed: u64,
    ) -> Result<Self, Failure> {
        let mut player = Self {
            environment: (bench.make)(num_envs)?,
            spec: bench.spec.clone(),
            seed,
            first_env,
            episodes: vec![0; num_envs],
            elapsed: vec![0; num_envs],
            shown: vec![Vec::new(); num_envs],
        };
        for index in 0..num_envs {
            player.reset(index, 0)?;
        }
        Ok(player)
    }

    pub(super) fn num_envs(&self) -> usize {
        self.episodes.len()
    }

    /// Begins an episode of one instance; gives its first observation.
    pub(super) fn reset(
        &mut self,
        index: usize,
        episode: u64,
    ) -> Result<Vec<f32>, EnvironmentFault> {
        let env = self.first_env + index as u64;
        let random = Random::derive(self.seed, Purpose::Episode, env, episode);
        let mut first = vec![UNWRITTEN; self.spec.observation.width()];
        self.environment.reset(index, random, &mut first)?;
        self.episodes[index] = episode;
        self.elapsed[index] = 0;
        self.shown[index].clone_from(&first);
        Ok(first)
    }

    /// An action of every instance at `time`, drawn for it whatever it is played with.
    pub(super) fn actions(&self, time: u64) -> Vec<f32> {
        (0..self.num_envs())
            .flat_map(|index| {
                let env = self.first_env + index as u64;
                let drawn = action(&self.spec.action, self.seed, env, time);
                if self.spec.action_mask {
                    self.possible(index, &drawn)
                } else {
                    drawn
                }
            })
            .collect()
    }

    /// For each choice the possible action that `drawn` stands for where an instance is now.
    fn possible(&self, index: usize, drawn: &[f32]) -> Vec<f32> {
        let choices = self.spec.action.choices().unwrap_or_default();
        let shown = &self.shown[index];
        let mut mask = &shown[shown.len() - choices.iter().sum::<usize>()..];
        let mut actions = Vec::with_capacity(drawn.len());
        for (n, drawn) in choices.iter().zip(drawn) {
            let (own, others) = mask.split_at(*n);
            let possible: Vec<usize> = (0..*n).filter(|action| own[*action] != 0.0).collect();
            let place = (*drawn as usize).checked_rem(possible.len());
            actions.push(place.map_or(*drawn, |place| possible[place] as f32));
            mask = others;
        }
        actions
    }

    /// Takes one step of every instance and begins the next episode where one ends.
    pub(super) fn step(&mut self, actions: &[f32]) -> Result<Vec<Step>, EnvironmentFault> {
        let mut steps = self.step_without_resets(actions)?;
        let limit = self.spec.max_episode_steps.unwrap_or(u32::MAX);
        for (index, step) in steps.iter_mut().enumerate() {
            let is_over = step.terminated == 1 || step.truncated == 1;
            if is_over || self.elapsed[index] >= limit {
                step.next = Some(self.reset(index, self.episodes[index] + 1)?);
            }
        }
        Ok(steps)
    }

    /// Takes one step of every instance and leaves it there.
    pub(super) fn step_without_resets(
        &mut self,
        actions: &[f32],
    ) -> Result<Vec<Step>, EnvironmentFault> {
        let mut rows = Rows::new(&self.spec, self.num_envs());
        self.environment.step(actions, rows.output())?;
        self.take(&rows, |_| true);
        Ok(rows.steps(self.environment.raw_rewards()))
    }

    /// Takes one step of some instances; the others' steps hold what was never written.
    pub(super) fn step_some(
        &mut self,
        active: &[bool],
        actions: &[f32],
    ) -> Result<Vec<Step>, EnvironmentFault> {
        let mut rows = Rows::new(&self.spec, self.num_envs());
        self.environment.step_some(active, actions, rows.output())?;
        self.take(&rows, |index| active[index]);
        Ok(rows.steps(None))
    }

    fn take(&mut self, rows: &Rows, stepped: impl Fn(usize) -> bool) {
        for index in (0..self.num_envs()).filter(|index| stepped(*index)) {
            self.elapsed[index] += 1;
            self.shown[index] = rows.observation(index).to_vec();
        }
    }

    /// Plays the steps at these times; gives those of every instance, one list an instance.
    pub(super) fn play(
        &mut self,
        times: std::ops::Range<u64>,
    ) -> Result<Vec<Vec<Step>>, EnvironmentFault> {
        let mut played = vec![Vec::new(); self.num_envs()];
        for time in times {
            let actions = self.actions(time);
            for (steps, step) in played.iter_mut().zip(self.step(&actions)?) {
                steps.push(step);
            }
        }
        Ok(played)
    }
}

/// Room for what a step writes.
struct Rows {
    width: usize,
    observations: Vec<f32>,
    rewards: Vec<f32>,
    terminated: Vec<u8>,
    truncated: Vec<u8>,
}

impl Rows {
    fn new(spec: &EnvironmentSpec, num_envs: usize) -> Self {
        let width = spec.observation.width();
        Self {
            width,
            observations: vec![UNWRITTEN; num_envs * width],
            rewards: vec![UNWRITTEN; num_envs],
            terminated: vec![UNWRITTEN_FLAG; num_envs],
            truncated: vec![UNWRITTEN_FLAG; num_envs],
        }
    }

    fn output(&mut self) -> StepOutput<'_> {
        StepOutput {
            observations: &mut self.observations,
            rewards: &mut self.rewards,
            terminated: &mut self.terminated,
            truncated: &mut self.truncated,
        }
    }

    fn observation(&self, index: usize) -> &[f32] {
        &self.observations[index * self.width..][..self.width]
    }

    fn steps(&self, raw_rewards: Option<&[f32]>) -> Vec<Step> {
        let raw = raw_rewards.unwrap_or(&self.rewards);
        (0..self.rewards.len())
            .map(|index| Step {
                observation: self.observation(index).to_vec(),
                reward: self.rewards[index],
                raw_reward: raw[index],
                terminated: self.terminated[index],
                truncated: self.truncated[index],
                next: None,
            })
            .collect()
    }
}

/// The action of environment `env` at `time`.
pub(super) fn action(space: &Space, seed: u64, env: u64, time: u64) -> Vec<f32> {
    let mut random = Random::derive(seed, Purpose::Action, env, time);
    match space {
        Space::Discrete { .. } | Space::MultiDiscrete { .. } => {
            let choices = space.choices().into_iter().flatten();
            choices.map(|n| random.below(*n as u64) as f32).collect()
        }
        Space::Frames { .. } => vec![0.0; space.width()],
        Space::Box { low, high, .. } => low
            .iter()
            .zip(high)
            .map(|(low, high)| {
                let (low, high) = match (low.is_finite(), high.is_finite()) {
                    (true, true) => (*low, *high),
                    (true, false) => (*low, low + 2.0 * UNBOUNDED),
                    (false, true) => (high - 2.0 * UNBOUNDED, *high),
                    (false, false) => (-UNBOUNDED, UNBOUNDED),
                };
                random.uniform(f64::from(low), f64::from(high)) as f32
            })
            .collect(),
    }
}
