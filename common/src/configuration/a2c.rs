//! The options of advantage actor-critic.

use serde::{Deserialize, Serialize};

use super::ppo::Annealing;
use super::units::or_none;

/// `[a2c]`: synchronous advantage actor-critic: one gradient step on each round.
///
/// # Source
/// Mnih and others 2016, "Asynchronous methods for deep reinforcement learning", section 4, without
/// the asynchrony. The defaults are those of Stable-Baselines3's A2C. Its optimiser is RMSProp;
/// here it is Adam without a first moment, which is RMSProp with the second moment's start
/// corrected (Kingma and Ba 2015, section 5). Epsilon is added outside of the root (T19).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct A2cConfiguration {
    /// Step size of Adam. \[`7e-4`\]
    pub learning_rate: f64,
    /// How the step size changes. \[`"constant"`\]
    pub learning_rate_schedule: Annealing,
    /// Epsilon of Adam. \[`1e-5`\]
    pub adam_epsilon: f64,
    /// Decay of Adam's first moment; 0 leaves RMSProp. \[`0.0`\]
    pub adam_beta1: f64,
    /// Decay of Adam's second moment. \[`0.99`\]
    pub adam_beta2: f64,
    /// Discount factor of a step, gamma. \[`0.99`\]
    pub discount: f64,
    /// Lambda of generalised advantage estimation; 1 is the paper's return of as many steps as are
    /// left in the unroll. \[`1.0`\]
    pub gae_lambda: f64,
    /// Weight of the value loss. \[`0.5`\]
    pub value_coefficient: f64,
    /// Weight of the entropy bonus. \[`0.0`\]
    pub entropy_coefficient: f64,
    /// Norm to which longer gradients are scaled; `"none"` leaves them. \[`0.5`\]
    #[serde(serialize_with = "or_none")]
    pub max_gradient_norm: Option<f64>,
    /// Whether advantages are brought to mean zero and standard deviation one over the round.
    /// \[`false`\]
    pub normalise_advantages: bool,
}

impl Default for A2cConfiguration {
    fn default() -> Self {
        Self {
            learning_rate: 7e-4,
            learning_rate_schedule: Annealing::Constant,
            adam_epsilon: 1e-5,
            adam_beta1: 0.0,
            adam_beta2: 0.99,
            discount: 0.99,
            gae_lambda: 1.0,
            value_coefficient: 0.5,
            entropy_coefficient: 0.0,
            max_gradient_norm: Some(0.5),
            normalise_advantages: false,
        }
    }
}
