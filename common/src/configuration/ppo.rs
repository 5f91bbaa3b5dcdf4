//! The options of proximal policy optimisation.

use serde::{Deserialize, Serialize};

use super::units::or_none;

/// How an option changes over the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Annealing {
    /// It does not.
    Constant,
    /// Linearly, from its value at the start to zero at `run.total_env_steps`.
    Linear,
}

impl Annealing {
    /// The option's value at `progress`, the share of the run's environment steps that is done (T20).
    #[must_use]
    pub fn at(self, initial: f64, progress: f64) -> f64 {
        match self {
            Self::Constant => initial,
            Self::Linear => initial * (1.0 - progress.clamp(0.0, 1.0)),
        }
    }
}

/// How advantages are estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdvantageEstimator {
    /// Generalised advantage estimation: every step counts as the present policy's.
    Gae,
    /// V-trace: what follows a step counts as far as the present policy would have done it.
    Vtrace,
}

/// Over which rows advantages are brought to mean zero and standard deviation one (T18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdvantageNormalisation {
    /// Over the rows of each minibatch.
    Minibatch,
    /// Over the rows of the round.
    Batch,
    /// Not at all.
    None,
}

/// `[ppo]`: proximal policy optimisation.
///
/// # Source
/// Schulman, Wolski, Dhariwal, Radford and Klimov 2017, "Proximal policy optimization algorithms";
/// the defaults are the widespread ones for control tasks, with Adam's epsilon of Huang et al.
/// 2022, "The 37 implementation details of proximal policy optimization" (T19, T23).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PpoConfiguration {
    /// Step size of Adam. \[`3e-4`\]
    pub learning_rate: f64,
    /// How the step size changes. \[`"linear"`\]
    pub learning_rate_schedule: Annealing,
    /// Epsilon of Adam. \[`1e-5`\]
    pub adam_epsilon: f64,
    /// Decay of Adam's first moment. \[`0.9`\]
    pub adam_beta1: f64,
    /// Decay of Adam's second moment. \[`0.999`\]
    pub adam_beta2: f64,
    /// Discount factor of a step, gamma. \[`0.99`\]
    pub discount: f64,
    /// How advantages are estimated; an asynchronous run needs `"vtrace"`. \[`"gae"`\]
    pub advantage: AdvantageEstimator,
    /// Lambda of generalised advantage estimation, and of the trace of V-trace. \[`0.95`\]
    pub gae_lambda: f64,
    /// Most that a step's importance weight may be in its own temporal difference of V-trace,
    /// rho-bar. \[`1.0`\]
    pub vtrace_rho_clip: f64,
    /// Most that it may be in the trace that carries later differences back, c-bar. \[`1.0`\]
    pub vtrace_c_clip: f64,
    /// Passes over a round. \[`10`\]
    pub epochs: u32,
    /// Rows of one gradient step. Where it does not divide the rows of a round, the last minibatch
    /// of each epoch holds the rows that are left. \[`64`\]
    pub minibatch_size: usize,
    /// Half-width of the interval around one to which probability ratios are clipped. \[`0.2`\]
    pub clip_range: f64,
    /// How the clip range changes. \[`"constant"`\]
    pub clip_range_schedule: Annealing,
    /// How far a value may move from its value at the start of the update, in units of the
    /// return; none: any distance. \[none\]
    #[serde(serialize_with = "or_none")]
    pub value_clip_range: Option<f64>,
    /// Weight of the value loss. \[`0.5`\]
    pub value_coefficient: f64,
    /// Weight of the entropy bonus. \[`0.0`\]
    pub entropy_coefficient: f64,
    /// How the entropy bonus changes. \[`"constant"`\]
    pub entropy_schedule: Annealing,
    /// Norm to which longer gradients are scaled; `"none"` leaves them. \[`0.5`\]
    #[serde(serialize_with = "or_none")]
    pub max_gradient_norm: Option<f64>,
    /// How advantages are normalised. \[`"minibatch"`\]
    pub advantage_normalisation: AdvantageNormalisation,
    /// An update ends once a minibatch's approximate divergence is over 1.5 times this, in nats;
    /// none: never. \[none\]
    #[serde(serialize_with = "or_none")]
    pub target_kl: Option<f64>,
}

impl Default for PpoConfiguration {
    fn default() -> Self {
        Self {
            learning_rate: 3e-4,
            learning_rate_schedule: Annealing::Linear,
            adam_epsilon: 1e-5,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            discount: 0.99,
            advantage: AdvantageEstimator::Gae,
            gae_lambda: 0.95,
            vtrace_rho_clip: 1.0,
            vtrace_c_clip: 1.0,
            epochs: 10,
            minibatch_size: 64,
            clip_range: 0.2,
            clip_range_schedule: Annealing::Constant,
            value_clip_range: None,
            value_coefficient: 0.5,
            entropy_coefficient: 0.0,
            entropy_schedule: Annealing::Constant,
            max_gradient_norm: Some(0.5),
            advantage_normalisation: AdvantageNormalisation::Minibatch,
            target_kl: None,
        }
    }
}
