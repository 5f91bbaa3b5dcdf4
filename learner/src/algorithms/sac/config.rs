//! The options of soft actor-critic: those of the configuration, as the update uses them.

pub use rookery_common::configuration::SacConfiguration;
use rookery_common::policy::Head;

use crate::optimiser::AdamOptions;

/// Share of the largest entropy that a discrete policy is brought to (Huang and others 2022, "`CleanRL`:
/// high-quality single-file implementations of deep reinforcement learning algorithms"; Christodoulou 2019
/// has 0.98; T26).
const DISCRETE_ENTROPY_SHARE: f64 = 0.89;

/// The entropy that the temperature brings the policy to, in nats: as configured, or what suits the head
/// (Haarnoja and others 2018, appendix D; T25, T26).
#[must_use]
pub fn target_entropy(config: &SacConfiguration, head: &Head) -> f64 {
    config
        .target_entropy
        .unwrap_or_else(|| match head.num_actions() {
            Some(num_actions) => DISCRETE_ENTROPY_SHARE * (num_actions as f64).ln(),
            None => -(head.action_width() as f64),
        })
}

/// The part that the optimisers need.
pub(super) fn adam_options(config: &SacConfiguration) -> AdamOptions {
    AdamOptions {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: config.adam_epsilon,
        max_gradient_norm: config.max_gradient_norm,
    }
}
