//! The losses of proximal policy optimisation: tensors in, tensors out.
//!
//! | symbol | here |
//! | --- | --- |
//! | `r` | probability ratio of an action, new policy to the one that drew it |
//! | `A` | advantage |
//! | `ε` | clip range |
//! | `V` | state value |
//! | `c1`, `c2` | value and entropy coefficient |
//!
//! Every operation on a small minibatch costs more in bookkeeping than in arithmetic, so what
//! depends on data alone (advantages, the bounds of the ratio) is prepared for a whole epoch by
//! [`surrogate_columns`], and the formulas are arranged for few operations.

use tch::{Kind, Tensor};

use crate::algorithms::likelihood::Likelihood;
use crate::algorithms::policy_gradient::{normalised, value_loss};
use crate::networks::{OutputGradient, Outputs, Sequences};

/// One minibatch of `N` rows.
#[derive(Debug)]
pub struct Minibatch {
    /// Encoded observations, `[N, inputs]`.
    pub inputs: Tensor,
    /// Of a recurrent policy: the sequences that the rows are.
    pub sequences: Option<Sequences>,
    /// Indices `[N]`, i64, or vectors `[N, dimension]`, f32.
    pub actions: Tensor,
    /// `-log` of the probability with which the action was drawn, `[N]`.
    pub negative_log_probs: Tensor,
    /// What the surrogate needs of the advantages.
    pub surrogate: SurrogateColumns,
    /// Targets of the values, `[N, 1]`.
    pub returns: Tensor,
    /// Values at the start of the update, `[N, 1]`; where the value loss is clipped.
    pub old_values: Option<Tensor>,
}

/// The advantages of `N` rows as [`clipped_surrogate`] takes them, each `[N]`.
#[derive(Debug)]
pub struct SurrogateColumns {
    /// `-A / N`: the weight of the row's ratio in the loss.
    pub weights: Tensor,
    /// What the ratio is clipped to from below: `1 - ε` where `A < 0`, else nothing.
    pub low: Tensor,
    /// What the ratio is clipped to from above: `1 + ε` where `A >= 0`, else nothing.
    pub high: Tensor,
}

/// Weights and ranges of the terms of the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossOptions {
    /// How far a value may move from the old one; none: any distance.
    pub value_clip_range: Option<f64>,
    /// `c1`.
    pub value_coefficient: f64,
    /// `c2`.
    pub entropy_coefficient: f64,
}

/// What the loss of one minibatch is made of, and its gradient.
///
/// The loss itself is `policy + c1 * value - c2 * entropy`.
#[derive(Debug)]
pub struct Losses {
    /// The negative clipped surrogate, a scalar.
    pub policy: Tensor,
    /// The mean squared error of the values, a scalar.
    pub value: Tensor,
    /// The mean entropy of the policy, a scalar.
    pub entropy: Tensor,
    /// `log r`, `[N]`.
    pub log_ratios: Tensor,
    /// Of the loss, by what the network has put out.
    pub gradient: OutputGradient,
}

/// The loss of one minibatch under the current parameters.
///
/// # Source
/// Schulman, Wolski, Dhariwal, Radford and Klimov 2017, "Proximal policy optimization algorithms",
/// equation 9, negated. `c1` multiplies the mean squared error itself, without a further half.
pub fn losses(outputs: &Outputs, minibatch: &Minibatch, options: &LossOptions) -> Losses {
    let likelihood = Likelihood::new(outputs, &minibatch.actions);
    let log_ratios = &minibatch.negative_log_probs - &likelihood.negative_log_probs;
    let (policy, by_log_ratios) = clipped_surrogate(&log_ratios, &minibatch.surrogate);
    let (value, by_values) = match options.value_clip_range.zip(minibatch.old_values.as_ref()) {
        None => value_loss(&outputs.values, &minibatch.returns),
        Some((range, old)) => clipped_value_loss(&outputs.values, &minibatch.returns, old, range),
    };
    let (by_policy, by_log_std) = likelihood.gradient(&by_log_ratios, -options.entropy_coefficient);
    Losses {
        policy,
        value,
        entropy: likelihood.entropy,
        log_ratios,
        gradient: OutputGradient {
            policy: by_policy,
            log_std: by_log_std,
            values: by_values * options.value_coefficient,
        },
    }
}

/// The negative of the clipped surrogate objective, and its gradient by the logarithms of the ratios.
///
/// The minimum of `r A` and `clip(r, 1 - ε, 1 + ε) A` bounds the ratio on one side only: from above
/// where `A` is positive, from below where it is negative. So it is `clip(r, low, high) A` with
/// bounds of each row's own, one clip instead of two products and a minimum.
///
/// # Shapes
/// `log_ratios` is `[N]`; the results a scalar and `[N]`.
///
/// # Source
/// Schulman and others 2017, equation 7.
pub fn clipped_surrogate(log_ratios: &Tensor, columns: &SurrogateColumns) -> (Tensor, Tensor) {
    let ratios = log_ratios.exp();
    let clipped = ratios.clamp_tensor(Some(&columns.low), Some(&columns.high));
    let loss = clipped.dot(&columns.weights);
    // The derivative of exp is itself; a ratio that is clipped has none.
    let is_free = ratios.eq_tensor(&clipped);
    (loss, &columns.weights * ratios * is_free)
}

/// Mean of the larger of two squared errors, that of the value and that of the value held within
/// `range` of the old one; and its gradient by the values.
///
/// # Shapes
/// All `[N, 1]`; the results a scalar and `[N, 1]`.
///
/// # Source
/// Huang and others 2022, "The 37 implementation details of proximal policy optimization", detail
/// 9, without its half.
pub fn clipped_value_loss(
    values: &Tensor,
    returns: &Tensor,
    old_values: &Tensor,
    range: f64,
) -> (Tensor, Tensor) {
    let moved = values - old_values;
    let errors = values - returns;
    let held_errors = old_values + moved.clamp(-range, range) - returns;
    let (squares, held_squares) = (errors.square(), held_errors.square());
    let loss = squares.maximum(&held_squares).mean(None::<Kind>);
    // A value that is held does not move; within the range both errors are one.
    let by_held = held_errors * moved.abs().le(range);
    let by_values = errors.where_self(&squares.ge_tensor(&held_squares), &by_held);
    let share = 2.0 / values.numel() as f64;
    (loss, by_values * share)
}

/// Cuts an epoch's advantages into minibatches and prepares each for [`clipped_surrogate`], all of
/// one size at once.
///
/// # Shapes
/// `advantages` is `[R]`; every minibatch has `size` rows, except for the last, which has those
/// that are left.
pub fn surrogate_columns(
    advantages: &Tensor,
    size: i64,
    clip_range: f64,
    normalise: bool,
) -> Vec<SurrogateColumns> {
    let rows = advantages.numel() as i64;
    let (full, left) = (rows / size, rows % size);
    let mut minibatches = Vec::new();
    for (start, count, size) in [(0, full, size), (full * size, left.min(1), left)] {
        if count == 0 {
            continue;
        }
        let block = advantages
            .narrow(0, start, count * size)
            .view([count, size]);
        let block = if normalise { normalised(&block) } else { block };
        let worse = block.lt(0.0);
        let low = Tensor::where_scalar(&worse, 1.0 - clip_range, f64::NEG_INFINITY);
        let high = Tensor::where_scalar(&worse, f64::INFINITY, 1.0 + clip_range);
        let weights = block * (-1.0 / size as f64);
        let columns = weights
            .unbind(0)
            .into_iter()
            .zip(low.unbind(0))
            .zip(high.unbind(0));
        minibatches.extend(columns.map(|((weights, low), high)| SurrogateColumns {
            weights,
            low,
            high,
        }));
    }
    minibatches
}

/// Mean of an estimate of the divergence from the policy that acted to the current one, never
/// negative and of low variance: `(r - 1) - log r`.
///
/// # Shapes
/// `log_ratios` is `[N]`; the result a scalar.
///
/// # Source
/// Schulman 2020, "Approximating KL divergence", estimator `k3`.
pub fn approximate_kl(log_ratios: &Tensor) -> Tensor {
    (log_ratios.expm1() - log_ratios).mean(None::<Kind>)
}

/// Share of the rows whose ratio is outside of the clip range, on either side.
///
/// # Shapes
/// `log_ratios` is `[N]`; the result a scalar.
pub fn clip_fraction(log_ratios: &Tensor, clip_range: f64) -> Tensor {
    log_ratios.expm1().abs().gt(clip_range).mean(Kind::Float)
}
