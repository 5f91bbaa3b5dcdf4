//! The options of deep Q-learning: those of the configuration, as actors and update use them.

use rookery_common::configuration::Configuration;
pub use rookery_common::configuration::{DqnConfiguration, ReturnDistribution};
use rookery_common::policy::{ApeX, Exploration, ValueDistribution};

use crate::algorithms::schedules::linear;
use crate::optimiser::AdamOptions;

/// What the network says about a return.
#[must_use]
pub fn distribution(config: &DqnConfiguration) -> ValueDistribution {
    match config.distribution {
        ReturnDistribution::Expectation => ValueDistribution::Expectation,
        ReturnDistribution::Categorical => ValueDistribution::Categorical {
            num_atoms: config.num_atoms,
            v_min: config.v_min as f32,
            v_max: config.v_max as f32,
        },
        ReturnDistribution::Quantiles => ValueDistribution::Quantiles {
            num_quantiles: config.num_quantiles,
        },
    }
}

/// How the actors explore: by the noise of the layers, with an epsilon for each shard, or with one that
/// is published.
#[must_use]
pub fn exploration(configuration: &Configuration) -> Exploration {
    let config = &configuration.dqn;
    if config.noisy {
        return Exploration::None;
    }
    let num_shards = configuration.environment.num_envs / configuration.rollout.envs_per_shard;
    Exploration::EpsilonGreedy {
        per_shard: config.epsilon_per_shard.then_some(ApeX {
            base: config.epsilon_base,
            alpha: config.epsilon_alpha,
            num_shards: num_shards as u32,
        }),
    }
}

/// The probability of a random action after `env_steps` of training (T20).
#[must_use]
pub fn epsilon(config: &DqnConfiguration, env_steps: u64) -> f64 {
    linear(
        config.epsilon_start,
        config.epsilon_end,
        config.epsilon_decay,
        env_steps,
    )
}

/// The part that the optimiser needs.
pub(super) fn adam_options(config: &DqnConfiguration) -> AdamOptions {
    AdamOptions {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: config.adam_epsilon,
        max_gradient_norm: config.max_gradient_norm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noisy_network_explores_by_itself() {
        let mut configuration = Configuration::default();
        assert_eq!(
            exploration(&configuration),
            Exploration::EpsilonGreedy { per_shard: None }
        );
        configuration.dqn.epsilon_per_shard = true;
        let Exploration::EpsilonGreedy {
            per_shard: Some(series),
        } = exploration(&configuration)
        else {
            panic!("an epsilon for each shard")
        };
        assert_eq!(series.num_shards, 2);
        configuration.dqn.noisy = true;
        assert_eq!(exploration(&configuration), Exploration::None);
    }
}
