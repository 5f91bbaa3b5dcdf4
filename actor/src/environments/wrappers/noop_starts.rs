//! `noop_starts`: before an episode is shown, nothing is done for a while.
//!
//! In Gymnasium these steps count for a time limit inside; here the limit begins where the episode
//! is shown.

use rookery_common::seeds::Random;
use rookery_common::spaces::{EnvironmentSpec, Space};

use super::layer::{Layer, Wrapped};
use super::{Refusal, require_step_some};
use crate::environments::{BatchedEnvironment, EnvironmentFault, StepOutput};

pub(super) fn add(
    mut inner: Box<dyn BatchedEnvironment>,
    spec: EnvironmentSpec,
    max_steps: u32,
    action: u32,
) -> Result<Box<dyn BatchedEnvironment>, Refusal> {
    match spec.action {
        Space::Discrete { n } if (action as usize) < n => {}
        Space::Discrete { n } => {
            let largest = n - 1;
            return Err(format!(
                "action is {action}, and actions are {}; set it to at most {largest}",
                spec.action
            ));
        }
        Space::Box { .. } | Space::MultiDiscrete { .. } | Space::Frames { .. } => {
            return Err(format!(
                "actions are {}, none of which is known to do nothing; leave noop_starts out",
                spec.action
            ));
        }
    }
    require_step_some(&mut *inner)?;
    let num_envs = inner.num_envs();
    let layer = NoopStarts {
        max_steps,
        branch: spec.wrappers.len() as u64,
        actions: vec![action as f32; num_envs],
        active: vec![false; num_envs],
        observations: vec![0.0; num_envs * spec.observation.width()],
        rewards: vec![0.0; num_envs],
        terminated: vec![0; num_envs],
        truncated: vec![0; num_envs],
    };
    Ok(Box::new(Wrapped::new(inner, spec, layer, || ())))
}

struct NoopStarts {
    max_steps: u32,
    /// The branch of an episode's random numbers that is this wrapper's.
    branch: u64,
    /// Nothing but no-ops, `[B]`.
    actions: Vec<f32>,
    /// All false between resets, `[B]`.
    active: Vec<bool>,
    // Room for what steps write.
    observations: Vec<f32>,
    rewards: Vec<f32>,
    terminated: Vec<u8>,
    truncated: Vec<u8>,
}

impl Layer for NoopStarts {
    type State = ();

    fn actions_inside<'a>(&'a mut self, _actions: &'a [f32]) -> Option<&'a [f32]> {
        None
    }

    fn reset(
        &mut self,
        _state: &mut (),
        inner: &mut dyn BatchedEnvironment,
        index: usize,
        random: Random,
        observation: &mut [f32],
    ) -> Result<(), EnvironmentFault> {
        let own = random.branch(self.branch);
        let num_steps = 1 + own.clone().below(u64::from(self.max_steps));
        inner.reset(index, random, observation)?;
        self.active.fill(false);
        self.active[index] = true;
        let width = observation.len();
        for step in 0..num_steps {
            inner.step_some(
                &self.active,
                &self.actions,
                StepOutput {
                    observations: &mut self.observations,
                    rewards: &mut self.rewards,
                    terminated: &mut self.terminated,
                    truncated: &mut self.truncated,
                },
            )?;
            observation.copy_from_slice(&self.observations[index * width..][..width]);
            if self.terminated[index] != 0 || self.truncated[index] != 0 {
                // Another start, as doing nothing has ended this one.
                inner.reset(index, own.branch(step), observation)?;
            }
        }
        Ok(())
    }
}
