//! The options of TD3: those of the configuration, as the update uses them.

pub use rookery_common::configuration::Td3Configuration;
use rookery_common::policy::Exploration;

use crate::optimiser::AdamOptions;

/// How the actors explore.
#[must_use]
pub fn exploration(config: &Td3Configuration) -> Exploration {
    Exploration::GaussianNoise {
        std: config.exploration_noise,
    }
}

/// The part that the optimisers need.
pub(super) fn adam_options(config: &Td3Configuration) -> AdamOptions {
    AdamOptions {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: config.adam_epsilon,
        max_gradient_norm: config.max_gradient_norm,
    }
}
