//! `clip_reward`, `sign_reward` and `scale_reward`: what is learnt from is another reward than what
//! is reported.

use rookery_common::spaces::EnvironmentSpec;

use super::layer::{Inner, Layer, Wrapped};
use crate::environments::{BatchedEnvironment, EnvironmentFault, StepOutput};

/// What becomes of a reward.
#[derive(Clone, Copy, Debug)]
pub(super) enum Map {
    Clip { low: f32, high: f32 },
    Sign,
    Scale { factor: f64 },
}

impl Map {
    fn apply(self, reward: f32) -> f32 {
        match self {
            Self::Clip { low, high } => reward.clamp(low, high),
            // The sign of what is not a number stays not a number, so that it is noticed.
            Self::Sign if reward == 0.0 => 0.0,
            Self::Sign => reward.signum(),
            Self::Scale { factor } => (f64::from(reward) * factor) as f32,
        }
    }
}

pub(super) fn add(
    inner: Box<dyn BatchedEnvironment>,
    mut spec: EnvironmentSpec,
    map: Map,
) -> Box<dyn BatchedEnvironment> {
    spec.goal = None;
    let raw = vec![0.0; inner.num_envs()];
    Box::new(Wrapped::new(inner, spec, Rewards { map, raw }, || ()))
}

struct Rewards {
    map: Map,
    /// What the environment itself gave, `[B]`.
    raw: Vec<f32>,
}

impl Layer for Rewards {
    type State = ();

    fn step(
        &mut self,
        _states: &mut [()],
        inner: &mut Inner<'_>,
        actions: &[f32],
        mut output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        inner.step(actions, output.reborrow())?;
        let earned = inner.environment().raw_rewards().unwrap_or(output.rewards);
        self.raw.copy_from_slice(earned);
        for (index, reward) in output.rewards.iter_mut().enumerate() {
            if inner.is_active(index) {
                *reward = self.map.apply(*reward);
            }
        }
        Ok(())
    }

    fn raw_rewards(&self) -> Option<&[f32]> {
        Some(&self.raw)
    }
}
