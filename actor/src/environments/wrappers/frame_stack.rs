//! `frame_stack`: the last few observations are one.
//!
//! As in Gymnasium a stack has a new first axis. Only planes, which have three axes and are what
//! convolutions take, keep three: their channels stand one observation after the other. The values
//! and their order are the same either way.

use rookery_common::seeds::Random;
use rookery_common::spaces::{EnvironmentSpec, Space};
use rookery_common::wrappers::StackPadding;

use super::layer::{Inner, Layer, Wrapped};
use super::{Refusal, observation_bounds};
use crate::environments::{BatchedEnvironment, EnvironmentFault, StepOutput};

/// Most values of a stack, which are exact as an index in `f32`.
const MAX_WIDTH: usize = 1 << 24;

pub(super) fn add(
    inner: Box<dyn BatchedEnvironment>,
    mut spec: EnvironmentSpec,
    size: u32,
    padding: StackPadding,
) -> Result<Box<dyn BatchedEnvironment>, Refusal> {
    let size = size as usize;
    let width = spec.observation.width();
    if size.saturating_mul(width) > MAX_WIDTH {
        return Err(format!(
            "a stack would hold {size} times {width} values, more than {MAX_WIDTH}; set a smaller \
             size"
        ));
    }
    spec.observation = if let Space::Frames { frame, .. } = spec.observation {
        Space::Frames {
            frame,
            stack: size,
            padding,
        }
    } else {
        stacked(&spec, size, padding)?
    };
    // Which of the frames a goal should be changed in nobody knows.
    spec.goal = None;
    let layer = Stack {
        size,
        width,
        padding,
        newest: vec![0.0; inner.num_envs() * width],
    };
    let state = || vec![0.0; size * width];
    Ok(Box::new(Wrapped::new(inner, spec, layer, state)))
}

/// The space of stacks of boxes.
fn stacked(spec: &EnvironmentSpec, size: usize, padding: StackPadding) -> Result<Space, Refusal> {
    let (low, high) = observation_bounds(spec, "stacked")?;
    let (mut low, mut high) = (low.repeat(size), high.repeat(size));
    if padding == StackPadding::Zero {
        for (low, high) in low.iter_mut().zip(&mut high) {
            (*low, *high) = (low.min(0.0), high.max(0.0));
        }
    }
    let shape = match &spec.observation {
        Space::Box { shape, .. } if shape.len() == 3 => [&[size * shape[0]], &shape[1..]].concat(),
        Space::Box { shape, .. } => [&[size], shape.as_slice()].concat(),
        Space::Discrete { .. } | Space::MultiDiscrete { .. } | Space::Frames { .. } => {
            unreachable!("these have no bounds")
        }
    };
    Ok(Space::Box { shape, low, high })
}

struct Stack {
    size: usize,
    width: usize,
    padding: StackPadding,
    /// Room for the newest frame of each instance, `[B, W]`.
    newest: Vec<f32>,
}

impl Layer for Stack {
    /// The frames, the oldest first, `[S, W]`.
    type State = Vec<f32>;

    fn reset(
        &mut self,
        frames: &mut Vec<f32>,
        inner: &mut dyn BatchedEnvironment,
        index: usize,
        random: Random,
        observation: &mut [f32],
    ) -> Result<(), EnvironmentFault> {
        let first = &mut observation[..self.width];
        inner.reset(index, random, first)?;
        match self.padding {
            StackPadding::Reset => *frames = first.repeat(self.size),
            StackPadding::Zero => {
                frames.fill(0.0);
                frames[(self.size - 1) * self.width..].copy_from_slice(first);
            }
        }
        observation.copy_from_slice(frames);
        Ok(())
    }

    fn step(
        &mut self,
        stacks: &mut [Vec<f32>],
        inner: &mut Inner<'_>,
        actions: &[f32],
        output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        let (observations, output) = output.observed_in(&mut self.newest);
        inner.step(actions, output)?;
        let rows = observations.chunks_exact_mut(self.size * self.width);
        let newest = self.newest.chunks_exact(self.width);
        for (index, ((frames, row), newest)) in stacks.iter_mut().zip(rows).zip(newest).enumerate()
        {
            if inner.is_active(index) {
                frames.copy_within(self.width.., 0);
                frames[(self.size - 1) * self.width..].copy_from_slice(newest);
                row.copy_from_slice(frames);
            }
        }
        Ok(())
    }

    fn observe(
        &self,
        stacks: &[Vec<f32>],
        _inner: &dyn BatchedEnvironment,
        observations: &mut [f32],
    ) {
        let rows = observations.chunks_exact_mut(self.size * self.width);
        for (row, frames) in rows.zip(stacks) {
            row.copy_from_slice(frames);
        }
    }

    fn shows_what_is_inside(&self) -> bool {
        false
    }

    fn is_possible(&self, frames: &Vec<f32>) -> bool {
        frames.len() == self.size * self.width && frames.iter().all(|value| value.is_finite())
    }
}
