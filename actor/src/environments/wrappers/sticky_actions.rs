//! `sticky_actions`: now and then the last action is done again.

use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::EnvironmentSpec;
use serde::{Deserialize, Serialize};

use super::layer::{Inner, Layer, Wrapped};
use crate::environments::{BatchedEnvironment, EnvironmentFault, StepOutput};

pub(super) fn add(
    inner: Box<dyn BatchedEnvironment>,
    spec: EnvironmentSpec,
    probability: f64,
) -> Box<dyn BatchedEnvironment> {
    let layer = Sticky {
        probability,
        branch: spec.wrappers.len() as u64,
        action_width: spec.action.width(),
        done: Vec::new(),
    };
    let state = || Memory {
        random: Random::derive(0, Purpose::Episode, 0, 0),
        last: Vec::new(),
    };
    Box::new(Wrapped::new(inner, spec, layer, state))
}

struct Sticky {
    probability: f64,
    /// The branch of an episode's random numbers that is this wrapper's.
    branch: u64,
    action_width: usize,
    /// Room for what is done, `[B, A]`.
    done: Vec<f32>,
}

/// What is remembered of an episode.
#[derive(Serialize, Deserialize)]
struct Memory {
    random: Random,
    /// What was done last, `[A]`; empty before the first step.
    last: Vec<f32>,
}

impl Layer for Sticky {
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
        memory.random = random.branch(self.branch);
        memory.last.clear();
        inner.reset(index, random, observation)
    }

    fn step(
        &mut self,
        memories: &mut [Memory],
        inner: &mut Inner<'_>,
        actions: &[f32],
        output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        self.done.clear();
        self.done.extend_from_slice(actions);
        let rows = self.done.chunks_exact_mut(self.action_width);
        for (index, (memory, action)) in memories.iter_mut().zip(rows).enumerate() {
            if !inner.is_active(index) {
                continue;
            }
            if !memory.last.is_empty() && memory.random.unit_f64() < self.probability {
                action.copy_from_slice(&memory.last);
            }
            memory.last.clear();
            memory.last.extend_from_slice(action);
        }
        inner.step(&self.done, output)
    }

    fn is_possible(&self, memory: &Memory) -> bool {
        let is_action = memory.last.is_empty() || memory.last.len() == self.action_width;
        is_action && memory.last.iter().all(|value| value.is_finite())
    }
}
