//! The options of proximal policy optimisation.

use crate::optimiser::AdamOptions;

/// How an option changes over the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// It does not.
    Constant,
    /// Linearly from its value at the start to zero at the end.
    Linear,
}

impl Schedule {
    /// The value at `progress`, the share of the run's environment steps that is done (T20).
    pub fn value(self, initial: f64, progress: f64) -> f64 {
        match self {
            Self::Constant => initial,
            Self::Linear => initial * (1.0 - progress.clamp(0.0, 1.0)),
        }
    }
}

/// Over which rows advantages are brought to mean zero and standard deviation one (T18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdvantageNormalisation {
    /// Over the rows of each minibatch.
    Minibatch,
    /// Over the rows of the round.
    Batch,
    /// Not at all.
    None,
}

/// The options of one [`Ppo`](super::Ppo).
#[derive(Clone, Debug, PartialEq)]
pub struct PpoConfig {
    /// Step size of Adam.
    pub learning_rate: f64,
    /// How the step size changes.
    pub learning_rate_schedule: Schedule,
    /// Epsilon of Adam.
    pub adam_epsilon: f64,
    /// Decay of Adam's first moment.
    pub adam_beta1: f64,
    /// Decay of Adam's second moment.
    pub adam_beta2: f64,
    /// Discount factor of a step.
    pub discount: f64,
    /// Lambda of generalised advantage estimation.
    pub gae_lambda: f64,
    /// Passes over a round.
    pub epochs: u32,
    /// Rows of one gradient step. The last minibatch of an epoch holds the rows that are left.
    pub minibatch_size: usize,
    /// Half-width of the interval around one to which probability ratios are clipped.
    pub clip_range: f64,
    /// How the clip range changes.
    pub clip_range_schedule: Schedule,
    /// How far a value may move from its value at the start of the update; none: any distance.
    pub value_clip_range: Option<f64>,
    /// Weight of the value loss.
    pub value_coefficient: f64,
    /// Weight of the entropy bonus.
    pub entropy_coefficient: f64,
    /// Norm to which longer gradients are scaled; none leaves them.
    pub max_gradient_norm: Option<f64>,
    /// How advantages are normalised.
    pub advantage_normalisation: AdvantageNormalisation,
    /// An update ends once a minibatch's approximate divergence is over 1.5 times this; none never.
    pub target_kl: Option<f64>,
}

impl Default for PpoConfig {
    fn default() -> Self {
        Self {
            learning_rate: 3e-4,
            learning_rate_schedule: Schedule::Constant,
            adam_epsilon: 1e-5,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            discount: 0.99,
            gae_lambda: 0.95,
            epochs: 10,
            minibatch_size: 64,
            clip_range: 0.2,
            clip_range_schedule: Schedule::Constant,
            value_clip_range: None,
            value_coefficient: 0.5,
            entropy_coefficient: 0.0,
            max_gradient_norm: Some(0.5),
            advantage_normalisation: AdvantageNormalisation::Minibatch,
            target_kl: None,
        }
    }
}

impl PpoConfig {
    /// The part that the optimiser needs.
    pub fn adam(&self) -> AdamOptions {
        AdamOptions {
            beta1: self.adam_beta1,
            beta2: self.adam_beta2,
            epsilon: self.adam_epsilon,
            max_gradient_norm: self.max_gradient_norm,
        }
    }
}
