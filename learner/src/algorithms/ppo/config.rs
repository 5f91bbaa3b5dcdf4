//! The options of proximal policy optimisation: those of the configuration, as the update uses
//! them.

pub use rookery_common::configuration::{
    AdvantageEstimator, AdvantageNormalisation, PpoConfiguration,
};

use super::loss::LossOptions;
use crate::algorithms::on_policy::Estimator;
use crate::algorithms::vtrace::VtraceOptions;
use crate::optimiser::AdamOptions;

/// The part that the optimiser needs.
pub(super) fn adam_options(config: &PpoConfiguration) -> AdamOptions {
    AdamOptions {
        beta1: config.adam_beta1,
        beta2: config.adam_beta2,
        epsilon: config.adam_epsilon,
        max_gradient_norm: config.max_gradient_norm,
    }
}

/// How advantages are estimated. The surrogate has the ratio in itself, so V-trace's advantage comes
/// without it.
pub(super) fn estimator(config: &PpoConfiguration) -> Estimator {
    match config.advantage {
        AdvantageEstimator::Gae => Estimator::Gae {
            discount: config.discount,
            lambda: config.gae_lambda,
        },
        AdvantageEstimator::Vtrace => Estimator::Vtrace(VtraceOptions {
            discount: config.discount as f32,
            lambda: config.gae_lambda as f32,
            rho_clip: config.vtrace_rho_clip as f32,
            c_clip: config.vtrace_c_clip as f32,
            policy_rho_clip: None,
        }),
    }
}

/// The part that the loss needs, at `progress`.
pub(super) fn loss_options(config: &PpoConfiguration, progress: f64) -> LossOptions {
    LossOptions {
        value_clip_range: config.value_clip_range,
        value_coefficient: config.value_coefficient,
        entropy_coefficient: config
            .entropy_schedule
            .at(config.entropy_coefficient, progress),
    }
}
