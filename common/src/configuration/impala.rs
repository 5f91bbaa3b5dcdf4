//! The options of the importance-weighted actor-learner architecture.

use serde::{Deserialize, Serialize};

use super::ppo::Annealing;
use super::units::or_none;

/// `[impala]`: V-trace actor-critic, one gradient step an update.
///
/// # Source
/// Espeholt, Soyer, Munos et al. 2018, "IMPALA: scalable distributed deep-RL with importance
/// weighted actor-learner architectures". Its weights of value loss and entropy and its clips are the
/// defaults; Adam takes the place of its optimiser, and the loss is a mean over the steps of an
/// update, where the paper sums.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImpalaConfiguration {
    /// Step size of Adam. \[`6e-4`\]
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
    /// Factor of the trace, lambda: below 1 the targets lean on the values more and vary less.
    /// \[`1.0`\]
    pub lambda: f64,
    /// Most that a step's importance weight may be in its own temporal difference, rho-bar; it
    /// decides to which policy's values the targets lead. \[`1.0`\]
    pub rho_clip: f64,
    /// Most that it may be in the trace that carries later differences back, c-bar; it decides how
    /// fast they lead there. \[`1.0`\]
    pub c_clip: f64,
    /// Most that it may be in the policy's gradient. \[`1.0`\]
    pub policy_rho_clip: f64,
    /// Weight of the value loss, half the mean squared error. \[`0.5`\]
    pub value_coefficient: f64,
    /// Weight of the entropy bonus. \[`0.01`\]
    pub entropy_coefficient: f64,
    /// How the entropy bonus changes. \[`"constant"`\]
    pub entropy_schedule: Annealing,
    /// Norm to which longer gradients are scaled; `"none"` leaves them. \[`0.5`\]
    #[serde(serialize_with = "or_none")]
    pub max_gradient_norm: Option<f64>,
}

impl Default for ImpalaConfiguration {
    fn default() -> Self {
        Self {
            learning_rate: 6e-4,
            learning_rate_schedule: Annealing::Linear,
            adam_epsilon: 1e-5,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            discount: 0.99,
            lambda: 1.0,
            rho_clip: 1.0,
            c_clip: 1.0,
            policy_rho_clip: 1.0,
            value_coefficient: 0.5,
            entropy_coefficient: 0.01,
            entropy_schedule: Annealing::Constant,
            max_gradient_norm: Some(0.5),
        }
    }
}
