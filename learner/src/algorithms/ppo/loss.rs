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

use tch::{Kind, Reduction, Tensor};

use crate::networks::Outputs;

/// Added to the standard deviation by which advantages are divided.
const ADVANTAGE_EPSILON: f64 = 1e-8;

/// `nll_loss` leaves out rows of this class, which is none.
const NO_IGNORED_CLASS: i64 = -100;

/// One minibatch of `N` rows, without anything to differentiate.
#[derive(Debug)]
pub struct Minibatch {
    /// Encoded observations, `[N, inputs]`.
    pub inputs: Tensor,
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

/// The loss of one minibatch and what it is made of.
#[derive(Debug)]
pub struct Losses {
    /// What is minimised, a scalar: `policy + c1 * value - c2 * entropy`.
    pub total: Tensor,
    /// The negative clipped surrogate, a scalar.
    pub policy: Tensor,
    /// The mean squared error of the values, a scalar.
    pub value: Tensor,
    /// The mean entropy of the policy, a scalar.
    pub entropy: Tensor,
    /// `log r`, `[N]`.
    pub log_ratios: Tensor,
}

/// The loss of one minibatch under the current parameters.
///
/// # Source
/// Schulman, Wolski, Dhariwal, Radford and Klimov 2017, "Proximal policy optimization algorithms",
/// equation 9, negated. `c1` multiplies the mean squared error itself, without a further half.
pub fn losses(outputs: &Outputs, minibatch: &Minibatch, options: &LossOptions) -> Losses {
    let (negative_log_probs, entropy) = match &outputs.log_std {
        None => {
            let log_probs = outputs.policy.log_softmax(-1, None::<Kind>);
            let taken = categorical_negative_log_probs(&log_probs, &minibatch.actions);
            (
                taken,
                with_graph(options.entropy_coefficient, || {
                    categorical_entropy(&log_probs)
                }),
            )
        }
        Some(log_std) => {
            let taken = gaussian_negative_log_probs(&outputs.policy, log_std, &minibatch.actions);
            (
                taken,
                with_graph(options.entropy_coefficient, || gaussian_entropy(log_std)),
            )
        }
    };
    let log_ratios = &minibatch.negative_log_probs - negative_log_probs;
    let policy = clipped_surrogate(&log_ratios, &minibatch.surrogate);
    let value = match options.value_clip_range.zip(minibatch.old_values.as_ref()) {
        None => value_loss(&outputs.values, &minibatch.returns),
        Some((range, old)) => clipped_value_loss(&outputs.values, &minibatch.returns, old, range),
    };
    let mut total = &policy + &value * options.value_coefficient;
    if options.entropy_coefficient != 0.0 {
        total -= &entropy * options.entropy_coefficient;
    }
    Losses {
        total,
        policy,
        value,
        entropy,
        log_ratios,
    }
}

/// Leaves a term out of the graph that has no weight in the loss.
fn with_graph(coefficient: f64, term: impl FnOnce() -> Tensor) -> Tensor {
    if coefficient == 0.0 {
        tch::no_grad(term)
    } else {
        term()
    }
}

/// `-log` of the probability of each action.
///
/// # Shapes
/// `log_probs` is `[N, num_actions]`, `actions` `[N]`, i64; the result `[N]`.
pub fn categorical_negative_log_probs(log_probs: &Tensor, actions: &Tensor) -> Tensor {
    log_probs.g_nll_loss(actions, None::<Tensor>, Reduction::None, NO_IGNORED_CLASS)
}

/// Mean entropy of categorical distributions, in nats.
///
/// # Shapes
/// `log_probs` is `[N, num_actions]`, finite; the result a scalar.
pub fn categorical_entropy(log_probs: &Tensor) -> Tensor {
    (log_probs.exp() * log_probs).sum(None::<Kind>) * (-1.0 / log_probs.size()[0] as f64)
}

/// `-log` of the density of each action under independent normals.
///
/// # Shapes
/// `mean` and `actions` are `[N, dimension]`, `log_std` `[dimension]`; the result `[N]`.
pub fn gaussian_negative_log_probs(mean: &Tensor, log_std: &Tensor, actions: &Tensor) -> Tensor {
    let distances = (actions - mean) * log_std.neg().exp();
    let squares = distances.square().sum_dim_intlist(-1, false, None::<Kind>);
    let dimension = log_std.numel() as f64;
    squares * 0.5 + (log_std.sum(None::<Kind>) + 0.5 * dimension * std::f64::consts::TAU.ln())
}

/// Entropy of independent normals, in nats; the same in every state.
///
/// # Shapes
/// `log_std` is `[dimension]`; the result a scalar.
pub fn gaussian_entropy(log_std: &Tensor) -> Tensor {
    let dimension = log_std.numel() as f64;
    log_std.sum(None::<Kind>) + 0.5 * dimension * (1.0 + std::f64::consts::TAU.ln())
}

/// The negative of the clipped surrogate objective.
///
/// The minimum of `r A` and `clip(r, 1 - ε, 1 + ε) A` bounds the ratio on one side only: from above
/// where `A` is positive, from below where it is negative. So it is `clip(r, low, high) A` with
/// bounds of each row's own, one clip instead of two products and a minimum.
///
/// # Shapes
/// `log_ratios` is `[N]`; the result a scalar.
///
/// # Source
/// Schulman and others 2017, equation 7.
pub fn clipped_surrogate(log_ratios: &Tensor, columns: &SurrogateColumns) -> Tensor {
    log_ratios
        .exp()
        .clamp_tensor(Some(&columns.low), Some(&columns.high))
        .dot(&columns.weights)
}

/// Mean squared error of the values.
///
/// # Shapes
/// Both `[N, 1]`; the result a scalar.
pub fn value_loss(values: &Tensor, returns: &Tensor) -> Tensor {
    values.mse_loss(returns, Reduction::Mean)
}

/// Mean of the larger of two squared errors, that of the value and that of the value held within
/// `range` of the old one.
///
/// # Shapes
/// All `[N, 1]`; the result a scalar.
///
/// # Source
/// Huang and others 2022, "The 37 implementation details of proximal policy optimization", detail
/// 9, without its half.
pub fn clipped_value_loss(
    values: &Tensor,
    returns: &Tensor,
    old_values: &Tensor,
    range: f64,
) -> Tensor {
    let held = old_values + (values - old_values).clamp(-range, range);
    (values - returns)
        .square()
        .maximum(&(held - returns).square())
        .mean(None::<Kind>)
}

/// Advantages at mean zero and standard deviation one along the last dimension. The deviation is
/// the unbiased one; a single element has none and becomes zero.
///
/// # Shapes
/// Any `[.., N]`; the result has the same.
pub fn normalise_advantages(advantages: &Tensor) -> Tensor {
    if advantages.size().last() == Some(&1) {
        return advantages.zeros_like();
    }
    let (deviation, mean) = advantages.std_mean_dim(-1, true, true);
    (advantages - mean) / (deviation + ADVANTAGE_EPSILON)
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
        let block = if normalise {
            normalise_advantages(&block)
        } else {
            block
        };
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
