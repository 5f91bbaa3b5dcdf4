//! The losses of soft actor-critic and their gradients, as functions from tensors to tensors. `alpha` is
//! the temperature. Gradients are of means over the `N` rows of the minibatch.

use std::f64::consts::{LN_2, TAU};

use tch::{Kind, Tensor};

/// Bounds of the logarithm of a standard deviation (T25); the actors clamp to the same.
pub const LOG_STD_RANGE: (f64, f64) = (-20.0, 2.0);

/// Actions of a squashed Gaussian, drawn with noise that is given.
#[derive(Debug)]
pub struct Drawn {
    /// In (-1, 1), `[N, dimension]`.
    pub actions: Tensor,
    /// Of the squashed action, `[N]`.
    pub log_probs: Tensor,
    std: Tensor,
    noise: Tensor,
    is_clamped: Tensor,
}

/// Draws `a = tanh(m + s e)`, with `ln p(a) = sum(ln N(u; m, s) - ln(1 - tanh(u)^2))` and the last term in
/// its stable form `2 (ln 2 - u - softplus(-2 u))`.
///
/// # Shapes
/// `outputs` is `[N, 2 * dimension]`, means before logarithms of standard deviations; `noise`
/// `[N, dimension]`, standard normal.
///
/// # Source
/// Haarnoja and others 2018, appendix C, equation 26; the form of the last term is that of TensorFlow
/// Probability's `Tanh` bijector (T25). The density is that of the action in (-1, 1), not in the
/// environment's bounds.
#[must_use]
pub fn draw(outputs: &Tensor, noise: Tensor) -> Drawn {
    let halves = outputs.chunk(2, 1);
    let (mean, raw) = (&halves[0], &halves[1]);
    let (least, largest) = LOG_STD_RANGE;
    let log_std = raw.clamp(least, largest);
    let is_clamped = log_std.ne_tensor(raw);
    let std = log_std.exp();
    let u = mean.addcmul(&std, &noise);
    let log_slope = ((&u + (&u * -2.0).softplus()) * -2.0) + 2.0 * LN_2;
    let log_probs = (noise.square() * -0.5 - log_std - log_slope - 0.5 * TAU.ln()).sum_dim_intlist(
        1_i64,
        false,
        Kind::Float,
    );
    Drawn {
        actions: u.tanh(),
        log_probs,
        std,
        noise,
        is_clamped,
    }
}

/// The gradient of the policy's loss `mean(alpha ln p(a) - Q(s, a))` by its outputs, `[N, 2 * dimension]`,
/// through the actions that were drawn.
///
/// With `a = tanh(u)` and `u = m + s e`: `d ln p / du = 2 a`, and `ln s` enters as `u = m + s e` and as
/// `-ln s`. Where the logarithm of the deviation was clamped its gradient is zero.
///
/// # Shapes
/// `of_actions` is the gradient of `mean(Q)` by the actions, `[N, dimension]`.
///
/// # Source
/// Haarnoja and others 2018, equation 7, with the lesser of two critics.
pub fn policy_gradient(drawn: &Drawn, of_actions: &Tensor, alpha: f64) -> Tensor {
    let rows = drawn.actions.size()[0] as f64;
    let slope = drawn.actions.square().neg() + 1.0;
    let of_u = &drawn.actions * (2.0 * alpha / rows) - of_actions * slope;
    let of_log_std =
        (&of_u * &drawn.std * &drawn.noise - alpha / rows).masked_fill(&drawn.is_clamped, 0.0);
    Tensor::cat(&[of_u, of_log_std], 1)
}

/// The critics' target: `R + g (min Q'(s', a') - alpha ln p(a' | s'))`, with the n-step return `R` and the
/// factor `g` of what follows, zero after a terminated transition (T1).
///
/// # Shapes
/// All `[N]`.
///
/// # Source
/// Haarnoja and others 2018, equations 2 and 3, with the lesser of two target critics.
pub fn soft_target(
    returns: &Tensor,
    discounts: &Tensor,
    next_values: &Tensor,
    next_log_probs: &Tensor,
    alpha: f64,
) -> Tensor {
    returns.addcmul(discounts, &(next_values - next_log_probs * alpha))
}

/// The state value of a discrete policy, `sum over actions of p (min Q - alpha ln p)`, `[N]`.
///
/// # Shapes
/// `logits` and `least_values` are `[N, num_actions]`.
///
/// # Source
/// Christodoulou 2019, equation 10; expectations in place of draws (T26).
pub fn discrete_value(logits: &Tensor, least_values: &Tensor, alpha: f64) -> Tensor {
    let log_probs = logits.log_softmax(-1, Kind::Float);
    let soft = least_values - &log_probs * alpha;
    (log_probs.exp() * soft).sum_dim_intlist(-1_i64, false, Kind::Float)
}

/// The entropy of each row, `[N]`, and the gradient of the policy's loss
/// `mean(sum over actions of p (alpha ln p - min Q))` by its logits, `[N, num_actions]`.
///
/// # Source
/// Christodoulou 2019, equation 12. With `f = alpha ln p - Q` the gradient is `p (f - E f)`: the constant
/// that the derivative of `p ln p` adds falls out.
pub fn discrete_policy_gradient(
    logits: &Tensor,
    least_values: &Tensor,
    alpha: f64,
) -> (Tensor, Tensor) {
    let log_probs = logits.log_softmax(-1, Kind::Float);
    let probs = log_probs.exp();
    let entropy = -(&probs * &log_probs).sum_dim_intlist(-1_i64, false, Kind::Float);
    let f = log_probs * alpha - least_values;
    let mean = (&probs * &f).sum_dim_intlist(-1_i64, true, Kind::Float);
    let rows = logits.size()[0] as f64;
    (entropy, probs * (f - mean) / rows)
}

/// The gradient of the temperature's loss `ln(alpha) (entropy - target)` by `ln(alpha)`: descending it, the
/// temperature rises where the entropy is below its target.
///
/// # Source
/// Haarnoja and others 2018, equation 18, in the logarithm of the temperature (T25), as public
/// implementations have it.
#[must_use]
pub fn temperature_gradient(entropy: f64, target_entropy: f64) -> f64 {
    entropy - target_entropy
}
