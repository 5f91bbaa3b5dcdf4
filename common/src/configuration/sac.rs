//! The options of soft actor-critic.

use serde::{Deserialize, Serialize};

use super::units::or_none;

/// `[sac]`: soft actor-critic, for continuous actions within bounds and for discrete ones.
///
/// # Source
/// Haarnoja and others 2018, "Soft actor-critic algorithms and applications" (arXiv 1812.05905), with
/// twin critics and the temperature learnt; for discrete actions Christodoulou 2019, "Soft actor-critic
/// for discrete action settings". The options of replay stand in `[replay]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SacConfiguration {
    /// Step size of the policy's Adam. \[`3e-4`\]
    pub learning_rate: f64,
    /// Step size of the critics' Adam. \[`1e-3`\]
    pub critic_learning_rate: f64,
    /// Step size of the temperature's Adam. \[`3e-4`\]
    pub temperature_learning_rate: f64,
    /// Epsilon of Adam. \[`1e-8`\]
    pub adam_epsilon: f64,
    /// Norm to which longer gradients are scaled; `"none"` leaves them. \[none\]
    #[serde(serialize_with = "or_none")]
    pub max_gradient_norm: Option<f64>,
    /// Discount factor of a step, gamma. \[`0.99`\]
    pub discount: f64,
    /// Transitions of one gradient step. \[`256`\]
    pub minibatch_size: usize,
    /// Gradient steps after each round; above the steps of a round, more than one for each of them.
    /// \[`16`\]
    pub gradient_steps: u32,
    /// Share by which the target critics move to the critics after each gradient step, tau. \[`0.005`\]
    pub target_tau: f64,
    /// Gradient steps of the critics to one of the policy, which is then taken as many times. \[`1`\]
    pub policy_delay: u32,
    /// Temperature at the start, alpha: the weight of the entropy beside the reward. \[`1.0`\]
    pub initial_temperature: f64,
    /// Whether the temperature is learnt, so that the entropy comes to its target. \[`true`\]
    pub learns_temperature: bool,
    /// Entropy that the temperature brings the policy to, in nats; none: minus the number of an
    /// action's dimensions, of the action squashed to (-1, 1), or for discrete actions
    /// `0.89 * ln(actions)`. \[none\]
    #[serde(serialize_with = "or_none")]
    pub target_entropy: Option<f64>,
    /// Steps of an environment for which a draw of the policy's noise is held while collecting: 1 for
    /// independent draws. Where a goal takes a long push in one direction, as on MountainCarContinuous,
    /// independent noise cancels itself out (Raffin, Kober and Stulp 2022, "Smooth exploration for
    /// robotic reinforcement learning", whose noise depends on the state besides). \[`1`\]
    pub noise_hold: u32,
}

impl Default for SacConfiguration {
    fn default() -> Self {
        Self {
            learning_rate: 3e-4,
            critic_learning_rate: 1e-3,
            temperature_learning_rate: 3e-4,
            adam_epsilon: 1e-8,
            max_gradient_norm: None,
            discount: 0.99,
            minibatch_size: 256,
            gradient_steps: 16,
            target_tau: 0.005,
            policy_delay: 1,
            initial_temperature: 1.0,
            learns_temperature: true,
            target_entropy: None,
            noise_hold: 1,
        }
    }
}
