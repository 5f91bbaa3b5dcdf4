//! `previous_action` and `previous_reward`: an observation also says what was done last, or what
//! that earned.

use rookery_common::seeds::Random;
use rookery_common::spaces::{EnvironmentSpec, Space};

use super::Refusal;
use super::layer::{Inner, Layer, Wrapped};
use crate::environments::{BatchedEnvironment, EnvironmentFault, StepOutput};

pub(super) fn previous_action(
    inner: Box<dyn BatchedEnvironment>,
    mut spec: EnvironmentSpec,
) -> Result<Box<dyn BatchedEnvironment>, Refusal> {
    let action = spec.action.clone();
    match &action {
        Space::Discrete { .. } | Space::MultiDiscrete { .. } => {
            let places = action.choices().into_iter().flatten().sum();
            append(&mut spec, &vec![0.0; places], &vec![1.0; places])?;
        }
        Space::Box { low, high, .. } => {
            // Zero is where an episode begins.
            let low: Vec<f32> = low.iter().map(|bound| bound.min(0.0)).collect();
            let high: Vec<f32> = high.iter().map(|bound| bound.max(0.0)).collect();
            append(&mut spec, &low, &high)?;
        }
        Space::Frames { .. } => return Err(format!("actions are {action}; leave it out")),
    }
    Ok(wrapped(inner, spec, What::Action(action)))
}

pub(super) fn previous_reward(
    inner: Box<dyn BatchedEnvironment>,
    mut spec: EnvironmentSpec,
) -> Result<Box<dyn BatchedEnvironment>, Refusal> {
    append(&mut spec, &[f32::NEG_INFINITY], &[f32::INFINITY])?;
    // Another goal would have earned another reward, which the observation would have to show.
    spec.goal = None;
    Ok(wrapped(inner, spec, What::Reward))
}

/// Makes room behind an observation for values within bounds.
fn append(spec: &mut EnvironmentSpec, low: &[f32], high: &[f32]) -> Result<(), Refusal> {
    let Space::Box {
        shape,
        low: lows,
        high: highs,
    } = &spec.observation
    else {
        return Err(not_flat(&spec.observation));
    };
    if shape.len() != 1 {
        return Err(not_flat(&spec.observation));
    }
    let (lows, highs) = ([lows, low].concat(), [highs, high].concat());
    spec.observation = Space::bounded(&lows, &highs);
    Ok(())
}

fn not_flat(space: &Space) -> Refusal {
    format!(
        "observations are {space}, which nothing can be appended to; put flatten_observation before it"
    )
}

fn wrapped(
    inner: Box<dyn BatchedEnvironment>,
    spec: EnvironmentSpec,
    what: What,
) -> Box<dyn BatchedEnvironment> {
    let inner_width = inner.spec().observation.width();
    let memory_width = spec.observation.width() - inner_width;
    let layer = Remembering {
        what,
        inner_width,
        seen: vec![0.0; inner.num_envs() * inner_width],
    };
    let state = || vec![0.0; memory_width];
    Box::new(Wrapped::new(inner, spec, layer, state))
}

/// What is remembered.
enum What {
    /// An action of this space.
    Action(Space),
    Reward,
}

struct Remembering {
    what: What,
    inner_width: usize,
    /// Room for what is inside, `[B, V]`.
    seen: Vec<f32>,
}

impl Remembering {
    /// Writes an observation and what is remembered behind it.
    fn show(&self, seen: &[f32], memory: &[f32], row: &mut [f32]) {
        let (before, behind) = row.split_at_mut(self.inner_width);
        before.copy_from_slice(seen);
        behind.copy_from_slice(memory);
    }
}

impl Layer for Remembering {
    /// What is appended, `[M]`.
    type State = Vec<f32>;

    fn reset(
        &mut self,
        memory: &mut Vec<f32>,
        inner: &mut dyn BatchedEnvironment,
        index: usize,
        random: Random,
        observation: &mut [f32],
    ) -> Result<(), EnvironmentFault> {
        memory.fill(0.0);
        let (before, behind) = observation.split_at_mut(self.inner_width);
        behind.copy_from_slice(memory);
        inner.reset(index, random, before)
    }

    fn step(
        &mut self,
        memories: &mut [Vec<f32>],
        inner: &mut Inner<'_>,
        actions: &[f32],
        output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        let StepOutput {
            observations,
            rewards,
            terminated,
            truncated,
        } = output;
        inner.step(
            actions,
            StepOutput {
                observations: &mut self.seen,
                rewards: &mut *rewards,
                terminated,
                truncated,
            },
        )?;
        let row_width = observations.len() / memories.len();
        let action_width = actions.len() / memories.len();
        let rows = observations.chunks_exact_mut(row_width);
        let seen = self.seen.chunks_exact(self.inner_width);
        for (index, ((memory, row), seen)) in memories.iter_mut().zip(rows).zip(seen).enumerate() {
            if !inner.is_active(index) {
                continue;
            }
            let action = &actions[index * action_width..][..action_width];
            match &self.what {
                What::Action(space @ (Space::Discrete { .. } | Space::MultiDiscrete { .. })) => {
                    memory.fill(0.0);
                    let mut rest = memory.as_mut_slice();
                    for (index, n) in action.iter().zip(space.choices().into_iter().flatten()) {
                        let (places, others) = rest.split_at_mut(*n);
                        // What an action outside the space did is unspecified; none of these is it.
                        if let Some(place) = places.get_mut(*index as usize) {
                            *place = 1.0;
                        }
                        rest = others;
                    }
                }
                What::Action(Space::Frames { .. }) => unreachable!("no action is an image"),
                What::Action(Space::Box { low, high, .. }) => {
                    let bounds = low.iter().zip(high);
                    for ((value, action), (low, high)) in memory.iter_mut().zip(action).zip(bounds)
                    {
                        *value = action.clamp(*low, *high);
                    }
                }
                What::Reward => memory[0] = rewards[index],
            }
            self.show(seen, memory, row);
        }
        Ok(())
    }

    fn observe(
        &self,
        memories: &[Vec<f32>],
        inner: &dyn BatchedEnvironment,
        observations: &mut [f32],
    ) {
        let mut seen = vec![0.0; memories.len() * self.inner_width];
        inner.observe(&mut seen);
        let rows = observations.chunks_exact_mut(observations.len() / memories.len());
        let seen = seen.chunks_exact(self.inner_width);
        for ((row, seen), memory) in rows.zip(seen).zip(memories) {
            self.show(seen, memory, row);
        }
    }

    fn shows_what_is_inside(&self) -> bool {
        false
    }

    fn is_possible(&self, memory: &Vec<f32>) -> bool {
        let width = match &self.what {
            What::Action(space) => space
                .choices()
                .map_or(space.width(), |choices| choices.iter().sum()),
            What::Reward => 1,
        };
        memory.len() == width && memory.iter().all(|value| value.is_finite())
    }
}
