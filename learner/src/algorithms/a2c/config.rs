//! The options of advantage actor-critic: those of the configuration, as the update uses them.

pub use rookery_common::configuration::A2cConfiguration;

use crate::algorithms::policy_gradient::LossOptions;
use crate::optimiser::AdamOptions;

/// The part that the optimiser needs.
pub(super) fn adam_options(config: &A2cConfiguration) -> AdamOptions {
    AdamOptions {
        beta1: config.adam_beta1,
        beta2: config.adam_beta2,
        epsilon: config.adam_epsilon,
        max_gradient_norm: config.max_gradient_norm,
    }
}

/// The part that the loss needs.
pub(super) fn loss_options(config: &A2cConfiguration) -> LossOptions {
    LossOptions {
        value_coefficient: Some(config.value_coefficient),
        entropy_coefficient: config.entropy_coefficient,
    }
}
