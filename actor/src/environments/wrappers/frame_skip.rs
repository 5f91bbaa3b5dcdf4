//! `frame_skip`: several steps of what is inside are one.
//!
//! A skip ends where the episode does. Gymnasium's `MaxAndSkipObservation` then compares with frames
//! of an earlier step, which it still holds; here only frames of this one are compared.

use rookery_common::seeds::Random;
use rookery_common::spaces::EnvironmentSpec;
use serde::{Deserialize, Serialize};

use super::layer::{Inner, Layer, Wrapped};
use super::{Refusal, observation_bounds, require_step_some};
use crate::environments::{BatchedEnvironment, EnvironmentFault, StepOutput};

pub(super) fn add(
    mut inner: Box<dyn BatchedEnvironment>,
    mut spec: EnvironmentSpec,
    frames: u32,
    max_pool: bool,
) -> Result<Box<dyn BatchedEnvironment>, Refusal> {
    require_step_some(&mut *inner)?;
    if max_pool && spec.observation.image().is_none() {
        observation_bounds(&spec, "compared")?;
    }
    let limit = spec.max_episode_steps;
    spec.max_episode_steps = limit.map(|limit| limit.div_ceil(frames));
    spec.goal = None;
    let num_envs = inner.num_envs();
    let width = spec.observation.width();
    let layer = Skip {
        frames,
        limit: limit.unwrap_or(u32::MAX),
        width,
        max_pool,
        going_on: vec![false; num_envs],
        before: vec![0.0; num_envs * width],
        sums: vec![[0.0; 2]; num_envs],
        has_raw_rewards: inner.raw_rewards().is_some(),
        raw: vec![0.0; num_envs],
    };
    let pooled = if max_pool { width } else { 0 };
    let state = || Memory {
        elapsed: 0,
        shown: vec![0.0; pooled],
    };
    Ok(Box::new(Wrapped::new(inner, spec, layer, state)))
}

struct Skip {
    frames: u32,
    /// Frames of an episode.
    limit: u32,
    width: usize,
    max_pool: bool,
    /// Which instances take the next frame, `[B]`.
    going_on: Vec<bool>,
    /// Each instance's last frame but one, `[B, W]`.
    before: Vec<f32>,
    /// What the frames of this step have earned, as the layers inside make it and as the environment
    /// gave it, `[B, 2]`.
    sums: Vec<[f64; 2]>,
    has_raw_rewards: bool,
    /// The second of these sums, `[B]`.
    raw: Vec<f32>,
}

/// What is remembered of an episode.
#[derive(Serialize, Deserialize)]
struct Memory {
    /// Frames so far.
    elapsed: u32,
    /// What is shown, where that is not the last frame, `[W]`.
    shown: Vec<f32>,
}

impl Layer for Skip {
    type State = Memory;

    fn actions_inside<'a>(&'a mut self, _actions: &'a [f32]) -> Option<&'a [f32]> {
        None
    }

    fn reset(
        &mut self,
        memory: &mut Memory,
        inner: &mut dyn BatchedEnvironment,
        index: usize,
        random: Random,
        observation: &mut [f32],
    ) -> Result<(), EnvironmentFault> {
        inner.reset(index, random, observation)?;
        memory.elapsed = 0;
        if self.max_pool {
            memory.shown.copy_from_slice(observation);
        }
        Ok(())
    }

    fn step(
        &mut self,
        memories: &mut [Memory],
        inner: &mut Inner<'_>,
        actions: &[f32],
        mut output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        let num_envs = memories.len();
        for index in 0..num_envs {
            self.going_on[index] = inner.is_active(index);
            self.sums[index] = [0.0; 2];
        }
        for frame in 0..self.frames {
            if self.max_pool && frame > 0 {
                // Also of those that have ended: whatever is not rewritten is compared with itself.
                let rows = output.observations.chunks_exact(self.width);
                let befores = self.before.chunks_exact_mut(self.width);
                for ((row, before), going_on) in rows.zip(befores).zip(&self.going_on) {
                    if *going_on {
                        before.copy_from_slice(row);
                    }
                }
            }
            let environment = inner.environment();
            if self.going_on.iter().all(|going_on| *going_on) {
                environment.step(actions, output.reborrow())?;
            } else if self.going_on.iter().any(|going_on| *going_on) {
                environment.step_some(&self.going_on, actions, output.reborrow())?;
            } else {
                break;
            }
            let raw = environment.raw_rewards().unwrap_or(output.rewards);
            for (index, memory) in memories.iter_mut().enumerate() {
                if !self.going_on[index] {
                    continue;
                }
                let sums = &mut self.sums[index];
                sums[0] += f64::from(output.rewards[index]);
                sums[1] += f64::from(raw[index]);
                memory.elapsed += 1;
                if memory.elapsed >= self.limit {
                    output.truncated[index] = 1;
                }
                if frame == 0 && self.max_pool {
                    let row = index * self.width..(index + 1) * self.width;
                    self.before[row.clone()].copy_from_slice(&output.observations[row]);
                }
                self.going_on[index] =
                    output.terminated[index] == 0 && output.truncated[index] == 0;
            }
        }
        let rows = output.observations.chunks_exact_mut(self.width);
        let befores = self.before.chunks_exact(self.width);
        for (index, ((memory, row), before)) in
            memories.iter_mut().zip(rows).zip(befores).enumerate()
        {
            if !inner.is_active(index) {
                continue;
            }
            output.rewards[index] = self.sums[index][0] as f32;
            self.raw[index] = self.sums[index][1] as f32;
            if self.max_pool {
                for (value, before) in row.iter_mut().zip(before) {
                    *value = value.max(*before);
                }
                memory.shown.copy_from_slice(row);
            }
        }
        Ok(())
    }

    fn observe(
        &self,
        memories: &[Memory],
        inner: &dyn BatchedEnvironment,
        observations: &mut [f32],
    ) {
        if !self.max_pool {
            inner.observe(observations);
            return;
        }
        let rows = observations.chunks_exact_mut(self.width);
        for (row, memory) in rows.zip(memories) {
            row.copy_from_slice(&memory.shown);
        }
    }

    fn raw_rewards(&self) -> Option<&[f32]> {
        self.has_raw_rewards.then_some(self.raw.as_slice())
    }

    fn shows_what_is_inside(&self) -> bool {
        !self.max_pool
    }

    fn is_possible(&self, memory: &Memory) -> bool {
        let width = if self.max_pool { self.width } else { 0 };
        memory.elapsed <= self.limit
            && memory.shown.len() == width
            && memory.shown.iter().all(|value| value.is_finite())
    }
}
