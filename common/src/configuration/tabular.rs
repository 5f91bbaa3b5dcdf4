//! The options of the algorithms that learn a table.

use serde::{Deserialize, Serialize};

use super::ppo::Annealing;

/// `[tabular]`: Q-learning and SARSA over a table with a value for each observation and action.
///
/// # Source
/// Watkins 1989, "Learning from delayed rewards" (Q-learning); Rummery and Niranjan 1994, "On-line
/// Q-learning using connectionist systems" (SARSA); both as in Sutton and Barto 2018,
/// "Reinforcement learning: an introduction", sections 6.4 and 6.5.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TabularConfiguration {
    /// Share of its error by which a value moves, alpha. \[`0.1`\]
    pub learning_rate: f64,
    /// How the share changes. \[`"constant"`\]
    pub learning_rate_schedule: Annealing,
    /// Discount factor of a step, gamma. \[`0.99`\]
    pub discount: f64,
    /// What every value starts at; above every possible return it makes the learner try all
    /// actions (Sutton and Barto 2018, section 2.6). \[`0.0`\]
    pub initial_value: f64,
    /// Probability of a random action at the start. \[`1.0`\]
    pub epsilon_start: f64,
    /// Probability of a random action in the end. \[`0.05`\]
    pub epsilon_end: f64,
    /// Environment steps in which the one falls linearly to the other. \[`10_000`\]
    pub epsilon_decay: u64,
}

impl Default for TabularConfiguration {
    fn default() -> Self {
        Self {
            learning_rate: 0.1,
            learning_rate_schedule: Annealing::Constant,
            discount: 0.99,
            initial_value: 0.0,
            epsilon_start: 1.0,
            epsilon_end: 0.05,
            epsilon_decay: 10_000,
        }
    }
}
