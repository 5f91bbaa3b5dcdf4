//! The options of Q-learning and SARSA: those of the configuration, as actors and update use them.

use rookery_common::configuration::Algorithm;
pub use rookery_common::configuration::TabularConfiguration;

use crate::algorithms::schedules::linear;

/// What a value is moved towards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The best next action (Watkins 1989).
    QLearning,
    /// The next action that was taken (Rummery and Niranjan 1994).
    Sarsa,
}

impl Method {
    /// The method of a run.
    #[must_use]
    pub fn of(algorithm: Algorithm) -> Self {
        if algorithm == Algorithm::Sarsa {
            Self::Sarsa
        } else {
            Self::QLearning
        }
    }
}

/// The probability of a random action after `env_steps` of training (T20).
#[must_use]
pub fn epsilon(config: &TabularConfiguration, env_steps: u64) -> f64 {
    linear(
        config.epsilon_start,
        config.epsilon_end,
        config.epsilon_decay,
        env_steps,
    )
}
