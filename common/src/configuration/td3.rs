//! The options of TD3.

use serde::{Deserialize, Serialize};

use super::units::or_none;

/// `[td3]`: twin delayed deep deterministic policy gradients, for continuous actions within bounds.
///
/// # Source
/// Fujimoto, van Hoof and Meger 2018, "Addressing function approximation error in actor-critic methods"
/// (arXiv 1802.09477), algorithm 1. The options of replay stand in `[replay]`. Noise is in units of half
/// the distance between an action's bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Td3Configuration {
    /// Step size of the policy's Adam. \[`1e-3`\]
    pub learning_rate: f64,
    /// Step size of the critics' Adam. \[`1e-3`\]
    pub critic_learning_rate: f64,
    /// Epsilon of Adam. \[`1e-8`\]
    pub adam_epsilon: f64,
    /// Norm to which longer gradients are scaled; `"none"` leaves them. \[none\]
    #[serde(serialize_with = "or_none")]
    pub max_gradient_norm: Option<f64>,
    /// Discount factor of a step, gamma. \[`0.99`\]
    pub discount: f64,
    /// Transitions of one gradient step. \[`256`\]
    pub minibatch_size: usize,
    /// Gradient steps of the critics after each round. \[`16`\]
    pub gradient_steps: u32,
    /// Share by which the targets move whenever the policy has taken a step, tau. \[`0.005`\]
    pub target_tau: f64,
    /// Gradient steps of the critics to one of the policy, d. \[`2`\]
    pub policy_delay: u32,
    /// Standard deviation of the noise on collected actions. \[`0.1`\]
    pub exploration_noise: f64,
    /// Standard deviation of the noise on the targets' actions, by which values are smoothed. \[`0.2`\]
    pub target_noise: f64,
    /// The most of that noise, c. \[`0.5`\]
    pub target_noise_clip: f64,
    /// Steps of an environment for which a draw of the exploration noise is held, as `sac.noise_hold`.
    /// \[`1`\]
    pub noise_hold: u32,
}

impl Default for Td3Configuration {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            critic_learning_rate: 1e-3,
            adam_epsilon: 1e-8,
            max_gradient_norm: None,
            discount: 0.99,
            minibatch_size: 256,
            gradient_steps: 16,
            target_tau: 0.005,
            policy_delay: 2,
            exploration_noise: 0.1,
            target_noise: 0.2,
            target_noise_clip: 0.5,
            noise_hold: 1,
        }
    }
}
