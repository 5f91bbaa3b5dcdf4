//! The options of deep Q-learning.

use serde::{Deserialize, Serialize};

use super::ppo::Annealing;
use super::units::or_none;

/// What the network says about the return of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReturnDistribution {
    /// Its mean.
    Expectation,
    /// The probabilities of `num_atoms` returns from `v_min` to `v_max` (C51: Bellemare, Dabney and
    /// Munos 2017, "A distributional perspective on reinforcement learning").
    Categorical,
    /// `num_quantiles` quantiles (QR-DQN: Dabney, Rowland, Bellemare and Munos 2018,
    /// "Distributional reinforcement learning with quantile regression").
    Quantiles,
}

/// `[dqn]`: deep Q-learning. With `double`, `dueling`, `noisy`, `distribution = "categorical"`,
/// `replay.n_step = 3` and `replay.prioritised` it is Rainbow.
///
/// # Source
/// Mnih and others 2015, "Human-level control through deep reinforcement learning"; Hessel and others
/// 2018, "Rainbow: combining improvements in deep reinforcement learning". The options of replay stand
/// in `[replay]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, and all combinations mean something"
)]
pub struct DqnConfiguration {
    /// Step size of Adam. \[`1e-3`\]
    pub learning_rate: f64,
    /// How the step size changes. \[`"constant"`\]
    pub learning_rate_schedule: Annealing,
    /// Epsilon of Adam. \[`1e-8`\]
    pub adam_epsilon: f64,
    /// Norm to which longer gradients are scaled; `"none"` leaves them. \[`10.0`\]
    #[serde(serialize_with = "or_none")]
    pub max_gradient_norm: Option<f64>,
    /// Discount factor of a step, gamma. \[`0.99`\]
    pub discount: f64,
    /// Transitions of one gradient step. \[`64`\]
    pub minibatch_size: usize,
    /// Gradient steps after each round. \[`16`\]
    pub gradient_steps: u32,
    /// Environment steps between two updates of the target network. \[`500`\]
    pub target_update_every: u64,
    /// Share by which the target network then moves to the network; 1 copies it. \[`1.0`\]
    pub target_tau: f64,
    /// Error up to which the loss is quadratic, and linear beyond (Huber 1964); `"none"`: quadratic
    /// everywhere. \[`1.0`\]
    #[serde(serialize_with = "or_none")]
    pub huber_threshold: Option<f64>,
    /// Whether the network chooses the next action that the target network values (van Hasselt, Guez
    /// and Silver 2016, "Deep reinforcement learning with double Q-learning"). \[`true`\]
    pub double: bool,
    /// Whether state value and advantages are separate heads (Wang and others 2016, "Dueling network
    /// architectures for deep reinforcement learning"). \[`false`\]
    pub dueling: bool,
    /// Whether noise in the layers explores, in place of random actions (Fortunato and others 2018,
    /// "Noisy networks for exploration"). \[`false`\]
    pub noisy: bool,
    /// Standard deviation of the noise at the start, times the root of a layer's inputs. \[`0.5`\]
    pub noisy_sigma: f64,
    /// What is learnt about the return. \[`"expectation"`\]
    pub distribution: ReturnDistribution,
    /// Returns of a categorical distribution. \[`51`\]
    pub num_atoms: usize,
    /// The least of them. \[`-10.0`\]
    pub v_min: f64,
    /// The largest of them. \[`10.0`\]
    pub v_max: f64,
    /// Quantiles of a distribution by quantiles. \[`51`\]
    pub num_quantiles: usize,
    /// Probability of a random action at the start. \[`1.0`\]
    pub epsilon_start: f64,
    /// Probability of a random action in the end. \[`0.05`\]
    pub epsilon_end: f64,
    /// Environment steps in which the one falls linearly to the other. \[`10_000`\]
    pub epsilon_decay: u64,
    /// Whether every shard has a probability of its own that never changes, in place of a schedule:
    /// `base^(1 + alpha * i / (shards - 1))` for shard `i` (Ape-X: Horgan and others 2018,
    /// "Distributed prioritized experience replay"). \[`false`\]
    pub epsilon_per_shard: bool,
    /// The base. \[`0.4`\]
    pub epsilon_base: f64,
    /// Alpha. \[`7.0`\]
    pub epsilon_alpha: f64,
}

impl Default for DqnConfiguration {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            learning_rate_schedule: Annealing::Constant,
            adam_epsilon: 1e-8,
            max_gradient_norm: Some(10.0),
            discount: 0.99,
            minibatch_size: 64,
            gradient_steps: 16,
            target_update_every: 500,
            target_tau: 1.0,
            huber_threshold: Some(1.0),
            double: true,
            dueling: false,
            noisy: false,
            noisy_sigma: 0.5,
            distribution: ReturnDistribution::Expectation,
            num_atoms: 51,
            v_min: -10.0,
            v_max: 10.0,
            num_quantiles: 51,
            epsilon_start: 1.0,
            epsilon_end: 0.05,
            epsilon_decay: 10_000,
            epsilon_per_shard: false,
            epsilon_base: 0.4,
            epsilon_alpha: 7.0,
        }
    }
}
