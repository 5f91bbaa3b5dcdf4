//! The options of REINFORCE.

use serde::{Deserialize, Serialize};

use super::ppo::Annealing;
use super::units::or_none;

/// `[reinforce]`: the policy gradient of whole episodes: one gradient step on the episodes that a
/// round completes.
///
/// # Source
/// Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement
/// learning"; with a baseline Sutton and Barto 2018, "Reinforcement learning: an introduction",
/// section 13.4.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReinforceConfiguration {
    /// Step size of Adam. \[`1e-3`\]
    pub learning_rate: f64,
    /// How the step size changes. \[`"constant"`\]
    pub learning_rate_schedule: Annealing,
    /// Epsilon of Adam. \[`1e-5`\]
    pub adam_epsilon: f64,
    /// Decay of Adam's first moment. \[`0.9`\]
    pub adam_beta1: f64,
    /// Decay of Adam's second moment. \[`0.999`\]
    pub adam_beta2: f64,
    /// Discount factor of a step, gamma. \[`0.99`\]
    pub discount: f64,
    /// Whether a learnt value of the state is subtracted from the return. An episode that was cut
    /// off then goes on with the value of its final observation; without a baseline its return
    /// ends where it was cut off. \[`true`\]
    pub baseline: bool,
    /// Weight of the loss of the baseline's values. \[`0.5`\]
    pub value_coefficient: f64,
    /// Weight of the entropy bonus. \[`0.0`\]
    pub entropy_coefficient: f64,
    /// Norm to which longer gradients are scaled; `"none"` leaves them. \[`0.5`\]
    #[serde(serialize_with = "or_none")]
    pub max_gradient_norm: Option<f64>,
    /// Whether returns, less the baseline, are brought to mean zero and standard deviation one over
    /// the steps of an update. \[`false`\]
    pub normalise_returns: bool,
}

impl Default for ReinforceConfiguration {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            learning_rate_schedule: Annealing::Constant,
            adam_epsilon: 1e-5,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            discount: 0.99,
            baseline: true,
            value_coefficient: 0.5,
            entropy_coefficient: 0.0,
            max_gradient_norm: Some(0.5),
            normalise_returns: false,
        }
    }
}
