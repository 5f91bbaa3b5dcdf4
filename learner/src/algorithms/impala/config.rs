//! The options of V-trace actor-critic: those of the configuration, as the update uses them.

pub use rookery_common::configuration::ImpalaConfiguration;

use super::loss::LossOptions;
use crate::algorithms::vtrace::VtraceOptions;
use crate::optimiser::AdamOptions;

/// The part that the optimiser needs.
pub(super) fn adam_options(config: &ImpalaConfiguration) -> AdamOptions {
    AdamOptions {
        beta1: config.adam_beta1,
        beta2: config.adam_beta2,
        epsilon: config.adam_epsilon,
        max_gradient_norm: config.max_gradient_norm,
    }
}

/// The part that the targets need.
pub(super) fn vtrace_options(config: &ImpalaConfiguration) -> VtraceOptions {
    VtraceOptions {
        discount: config.discount as f32,
        lambda: config.lambda as f32,
        rho_clip: config.rho_clip as f32,
        c_clip: config.c_clip as f32,
        policy_rho_clip: Some(config.policy_rho_clip as f32),
    }
}

/// The part that the loss needs, at `progress`.
pub(super) fn loss_options(config: &ImpalaConfiguration, progress: f64) -> LossOptions {
    LossOptions {
        value_coefficient: config.value_coefficient,
        entropy_coefficient: config
            .entropy_schedule
            .at(config.entropy_coefficient, progress),
    }
}
