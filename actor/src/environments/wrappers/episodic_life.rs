//! `episodic_life`: a life is an episode, and a game is several.
//!
//! The loss of a life ends an episode for the learner (T6): nothing after it counts for what was done
//! before. The game itself goes on, so neither it nor its seed, its sticky actions and its return know
//! of it. Stacks of images begin anew with each life (T27), as they do around `EpisodicLifeEnv`.

use rookery_common::seeds::Random;
use rookery_common::spaces::EnvironmentSpec;
use rookery_common::unroll::FrameLayout;
use rookery_common::wrappers::StackPadding;
use serde::{Deserialize, Serialize};

use super::Refusal;
use super::layer::{Inner, Layer, Wrapped};
use crate::environments::{BatchedEnvironment, EnvironmentFault, StepOutput};

pub(super) fn add(
    inner: Box<dyn BatchedEnvironment>,
    spec: EnvironmentSpec,
) -> Result<Box<dyn BatchedEnvironment>, Refusal> {
    if inner.lives().is_none() {
        return Err(format!(
            "`{}` counts no lives; Atari's games (`ALE/..`) do; leave it out",
            spec.id
        ));
    }
    let layer = EpisodicLife {
        stack: FrameLayout::of(&spec.observation),
    };
    Ok(Box::new(Wrapped::new(inner, spec, layer, Memory::default)))
}

struct EpisodicLife {
    /// Where observations are images.
    stack: Option<FrameLayout>,
}

/// What is remembered of an instance.
#[derive(Default, Serialize, Deserialize)]
struct Memory {
    /// Lives that were left after the last step.
    lives: i32,
    /// Frames of earlier lives that the stack inside holds.
    stale: u32,
    /// Whether the last step lost a life and not the game.
    goes_on: bool,
}

impl EpisodicLife {
    /// Puts padding where a stack holds frames of an earlier life.
    fn pad(&self, stale: u32, row: &mut [f32]) {
        let Some(FrameLayout { size, padding, .. }) = self.stack else {
            return;
        };
        let (older, newer) = row.split_at_mut(stale as usize * size);
        for frame in older.chunks_exact_mut(size) {
            match padding {
                StackPadding::Reset => frame.copy_from_slice(&newer[..size]),
                StackPadding::Zero => frame.fill(0.0),
            }
        }
    }

    /// Frames of an earlier life in the stack in which a life begins.
    fn all_stale(&self) -> u32 {
        self.stack.map_or(0, |layout| layout.stack as u32 - 1)
    }
}

/// The lives that instance `index` has left.
fn lives_of(inner: &dyn BatchedEnvironment, index: usize) -> i32 {
    inner.lives().map_or(0, |lives| lives[index])
}

impl Layer for EpisodicLife {
    type State = Memory;

    fn reset(
        &mut self,
        memory: &mut Memory,
        inner: &mut dyn BatchedEnvironment,
        index: usize,
        random: Random,
        observation: &mut [f32],
    ) -> Result<(), EnvironmentFault> {
        inner.reset(index, random, observation)?;
        *memory = Memory {
            lives: lives_of(inner, index),
            ..Memory::default()
        };
        Ok(())
    }

    fn step(
        &mut self,
        memories: &mut [Memory],
        inner: &mut Inner<'_>,
        actions: &[f32],
        mut output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        inner.step(actions, output.reborrow())?;
        let width = output.observations.len() / memories.len();
        let rows = output.observations.chunks_exact_mut(width);
        for (index, (memory, row)) in memories.iter_mut().zip(rows).enumerate() {
            if !inner.is_active(index) {
                continue;
            }
            memory.stale = memory.stale.saturating_sub(1);
            self.pad(memory.stale, row);
            let is_over = output.terminated[index] | output.truncated[index] != 0;
            // Where the game is over these may be the lives of the next.
            let lives = lives_of(inner.environment(), index);
            // Some games show no life for a moment before they give the last one.
            memory.goes_on = !is_over && 0 < lives && lives < memory.lives;
            memory.lives = lives;
            if memory.goes_on {
                output.terminated[index] = 1;
            }
        }
        Ok(())
    }

    fn can_go_on(&self, memory: &Memory) -> bool {
        memory.goes_on
    }

    fn go_on(&mut self, memory: &mut Memory, observation: &mut [f32]) {
        memory.goes_on = false;
        memory.stale = self.all_stale();
        self.pad(memory.stale, observation);
    }

    fn observe(
        &self,
        memories: &[Memory],
        inner: &dyn BatchedEnvironment,
        observations: &mut [f32],
    ) {
        inner.observe(observations);
        let width = observations.len() / memories.len();
        for (memory, row) in memories.iter().zip(observations.chunks_exact_mut(width)) {
            self.pad(memory.stale, row);
        }
    }

    fn is_possible(&self, memory: &Memory) -> bool {
        memory.stale <= self.all_stale()
    }
}
