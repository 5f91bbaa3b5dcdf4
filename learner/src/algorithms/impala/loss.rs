//! The losses of V-trace actor-critic: tensors in, tensors out.
//!
//! | symbol | here |
//! | --- | --- |
//! | `π` | probability of an action under the policy that is trained |
//! | `A` | advantage, its clipped importance weight included |
//! | `v` | target of a value |
//! | `c1`, `c2` | value and entropy coefficient |

use tch::{Kind, Tensor};

use crate::algorithms::likelihood::Likelihood;
use crate::networks::OutputGradient;

/// What V-trace makes of `R` steps; nothing is differentiated through it.
#[derive(Debug)]
pub struct Targets {
    /// `A`, `[R]`.
    pub advantages: Tensor,
    /// `v`, `[R, 1]`.
    pub values: Tensor,
}

/// Weights of the terms of the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossOptions {
    /// `c1`.
    pub value_coefficient: f64,
    /// `c2`.
    pub entropy_coefficient: f64,
}

/// What the loss is made of, and its gradient.
///
/// The loss itself is `policy + c1 * value - c2 * entropy`.
#[derive(Debug)]
pub struct Losses {
    /// `-mean(A log π(a))`, a scalar.
    pub policy: Tensor,
    /// Half the mean squared error of the values, a scalar.
    pub value: Tensor,
    /// The mean entropy of the policy, a scalar.
    pub entropy: Tensor,
    /// Of the loss, by what the network has put out.
    pub gradient: OutputGradient,
}

/// The loss of the steps of an update.
///
/// # Shapes
/// `likelihood` is that of `R` actions, `values` `[R, 1]`.
///
/// # Source
/// Espeholt and others 2018, "IMPALA", section 4.2: the three gradients, as means over the steps where
/// the paper sums them.
pub fn losses(
    likelihood: Likelihood,
    values: &Tensor,
    targets: &Targets,
    options: &LossOptions,
) -> Losses {
    let rows = targets.advantages.numel() as f64;
    let weights = &targets.advantages * (1.0 / rows);
    let errors = values - &targets.values;
    let (by_policy, by_log_std) = likelihood.gradient(&weights.neg(), -options.entropy_coefficient);
    Losses {
        policy: likelihood.negative_log_probs.dot(&weights),
        value: errors.square().mean(None::<Kind>) * 0.5,
        entropy: likelihood.entropy,
        gradient: OutputGradient {
            policy: by_policy,
            log_std: by_log_std,
            values: errors * (options.value_coefficient / rows),
        },
    }
}
