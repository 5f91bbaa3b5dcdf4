//! The losses of soft actor-critic and their gradients, as functions from tensors to tensors. `alpha` is
//! the temperature. Gradients are of means over the `N` rows of the minibatch. What is computed of a continuous
//! policy's actions is one pass where tensors lie in this process's memory: dozens of operations else, for some of
//! which MKL wakes threads that then look for work beside those that compute.

#![expect(
    clippy::inline_always,
    reason = "a function must be compiled with the vector instructions of its caller"
)]

use std::f64::consts::{LN_2, TAU};

use pulp::{Arch, Simd, WithSimd};
use rookery_common::policy::math;
use tch::{Kind, Tensor};

use crate::tensors::{host, host_mut};

/// Bounds of the logarithm of a standard deviation (T25); the actors clamp to the same.
pub const LOG_STD_RANGE: (f64, f64) = (-20.0, 2.0);

/// Actions of a squashed Gaussian, drawn with noise that is given.
#[derive(Debug)]
pub struct Drawn {
    /// In (-1, 1), `[N, dimension]`.
    pub actions: Tensor,
    /// Of the squashed action, `[N]`.
    pub log_probs: Tensor,
    /// How far the noise moved the action's argument, `[N, dimension]`.
    moved: Tensor,
    /// 1 where the logarithm of the deviation lies within its bounds, 0 elsewhere, `[N, dimension]`.
    is_free: Tensor,
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
pub fn draw(outputs: &Tensor, noise: &Tensor) -> Drawn {
    draw_on_host(outputs, noise).unwrap_or_else(|| draw_by_tensors(outputs, noise))
}

fn draw_by_tensors(outputs: &Tensor, noise: &Tensor) -> Drawn {
    let halves = outputs.chunk(2, 1);
    let (mean, raw) = (&halves[0], &halves[1]);
    let (least, largest) = LOG_STD_RANGE;
    let log_std = raw.clamp(least, largest);
    let moved = log_std.exp() * noise;
    let u = mean + &moved;
    let log_slope = ((&u + (&u * -2.0).softplus()) * -2.0) + 2.0 * LN_2;
    let is_free = log_std.eq_tensor(raw).to_kind(Kind::Float);
    let log_probs = (noise.square() * -0.5 - log_std - log_slope - 0.5 * TAU.ln()).sum_dim_intlist(
        1_i64,
        false,
        Kind::Float,
    );
    Drawn {
        actions: u.tanh(),
        log_probs,
        moved,
        is_free,
    }
}

fn draw_on_host(outputs: &Tensor, noise: &Tensor) -> Option<Drawn> {
    let dimension = noise.size()[1] as usize;
    let mut drawn = Drawn {
        actions: noise.empty_like(),
        log_probs: Tensor::empty([noise.size()[0]], (Kind::Float, noise.device())),
        moved: noise.empty_like(),
        is_free: noise.empty_like(),
    };
    Arch::new().dispatch(Draw {
        dimension,
        outputs: host(outputs)?,
        noise: host(noise)?,
        actions: host_mut(&mut drawn.actions)?,
        log_probs: host_mut(&mut drawn.log_probs)?,
        moved: host_mut(&mut drawn.moved)?,
        is_free: host_mut(&mut drawn.is_free)?,
    });
    Some(drawn)
}

/// [`draw`], compiled for an instruction set.
struct Draw<'a> {
    dimension: usize,
    outputs: &'a [f32],
    noise: &'a [f32],
    actions: &'a mut [f32],
    log_probs: &'a mut [f32],
    moved: &'a mut [f32],
    is_free: &'a mut [f32],
}

impl WithSimd for Draw<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let dimension = self.dimension;
        let (least, largest) = (LOG_STD_RANGE.0 as f32, LOG_STD_RANGE.1 as f32);
        let (ln_2, half_ln_tau) = (LN_2 as f32, (0.5 * TAU.ln()) as f32);
        let rows = self.outputs.chunks_exact(2 * dimension);
        let rows = rows.zip(self.noise.chunks_exact(dimension));
        let actions = self.actions.chunks_exact_mut(dimension);
        let actions = actions.zip(self.log_probs);
        let moved = self.moved.chunks_exact_mut(dimension);
        let moved = moved.zip(self.is_free.chunks_exact_mut(dimension));
        for (((outputs, noise), (actions, log_prob)), (moved, is_free)) in
            rows.zip(actions).zip(moved)
        {
            let (mean, raw) = outputs.split_at(dimension);
            *log_prob = 0.0;
            for axis in 0..dimension {
                let log_std = raw[axis].clamp(least, largest);
                is_free[axis] = if log_std == raw[axis] { 1.0 } else { 0.0 };
                moved[axis] = math::exp(log_std) * noise[axis];
                let u = mean[axis] + moved[axis];
                actions[axis] = math::tanh(u);
                // softplus(x) = max(x, 0) + ln(1 + exp(-|x|))
                let softplus = (-2.0 * u).max(0.0) + math::ln(1.0 + math::exp(-2.0 * u.abs()));
                let log_slope = 2.0 * (ln_2 - u - softplus);
                let of_noise = -0.5 * noise[axis] * noise[axis] - log_std - half_ln_tau;
                *log_prob += of_noise - log_slope;
            }
        }
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
    let share = alpha / drawn.actions.size()[0] as f64;
    policy_gradient_on_host(drawn, of_actions, share)
        .unwrap_or_else(|| policy_gradient_by_tensors(drawn, of_actions, share))
}

fn policy_gradient_by_tensors(drawn: &Drawn, of_actions: &Tensor, share: f64) -> Tensor {
    let slope = drawn.actions.square().neg() + 1.0;
    let of_u = &drawn.actions * (2.0 * share) - of_actions * slope;
    let of_log_std = (&of_u * &drawn.moved - share) * &drawn.is_free;
    Tensor::cat(&[of_u, of_log_std], 1)
}

fn policy_gradient_on_host(drawn: &Drawn, of_actions: &Tensor, share: f64) -> Option<Tensor> {
    let [rows, dimension] = [0, 1].map(|axis: usize| drawn.actions.size()[axis]);
    let options = (Kind::Float, drawn.actions.device());
    let mut gradient = Tensor::empty([rows, 2 * dimension], options);
    let dimension = dimension as usize;
    let of_rows = host_mut(&mut gradient)?.chunks_exact_mut(2 * dimension);
    let of_actions = host(of_actions)?.chunks_exact(dimension);
    let actions = host(&drawn.actions)?.chunks_exact(dimension);
    let moved = host(&drawn.moved)?.chunks_exact(dimension);
    let moved = moved.zip(host(&drawn.is_free)?.chunks_exact(dimension));
    let share = share as f32;
    for (((gradient, of_action), action), (moved, is_free)) in
        of_rows.zip(of_actions).zip(actions).zip(moved)
    {
        let (of_u, of_log_std) = gradient.split_at_mut(dimension);
        for axis in 0..dimension {
            let slope = 1.0 - action[axis] * action[axis];
            of_u[axis] = 2.0 * share * action[axis] - of_action[axis] * slope;
            of_log_std[axis] = (of_u[axis] * moved[axis] - share) * is_free[axis];
        }
    }
    Some(gradient)
}

/// The gradient of the mean over rows of the lesser of two critics' values by those of each, `[N]`: equal ones
/// share it.
///
/// # Shapes
/// The values are `[N, 1]`, and so is each gradient.
pub fn gradient_of_least(first: &Tensor, second: &Tensor) -> [Tensor; 2] {
    let share = 1.0 / first.size()[0] as f64;
    gradient_of_least_on_host(first, second, share as f32)
        .unwrap_or_else(|| gradient_of_least_by_tensors(first, second, share))
}

fn gradient_of_least_by_tensors(first: &Tensor, second: &Tensor, share: f64) -> [Tensor; 2] {
    let of_first = (first.lt_tensor(second).to_kind(Kind::Float)
        + first.le_tensor(second).to_kind(Kind::Float))
        * (0.5 * share);
    let of_second = of_first.neg() + share;
    [of_first, of_second]
}

fn gradient_of_least_on_host(first: &Tensor, second: &Tensor, share: f32) -> Option<[Tensor; 2]> {
    let mut gradients = [first, second].map(Tensor::empty_like);
    let [of_first, of_second] = &mut gradients;
    let gradient = host_mut(of_first)?.iter_mut().zip(host_mut(of_second)?);
    let values = host(first)?.iter().zip(host(second)?);
    for ((of_first, of_second), (first, second)) in gradient.zip(values) {
        *of_first = if first < second {
            share
        } else if first == second {
            0.5 * share
        } else {
            0.0
        };
        *of_second = share - *of_first;
    }
    Some(gradients)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::to_host;

    #[test]
    fn what_is_computed_in_one_pass_is_what_tensors_give() {
        // Within the bounds of the deviation and beyond both, and where tanh is one.
        let outputs = [
            0.3, -1.2, -0.5, 0.1, 0.0, 2.0, 3.0, -25.0, -9.0, 40.0, 1.9, 2.0, -0.1, 0.2, -20.0,
            -3.0,
        ];
        let noise = [0.1, -0.7, 1.3, 2.0, -3.0, 0.4, -1.0, 0.0];
        let of_actions = [0.5, -0.25, 0.125, 1.0, -2.0, 0.0, 0.75, -0.5];
        let table = |values: &[f32], width| Tensor::from_slice(values).view([4, width]);
        let (outputs, noise) = (table(&outputs, 4), table(&noise, 2));
        let of_actions = table(&of_actions, 2);
        let ours = draw_on_host(&outputs, &noise).unwrap();
        let theirs = draw_by_tensors(&outputs, &noise);
        let of_ours = policy_gradient_on_host(&ours, &of_actions, 0.05).unwrap();
        let of_theirs = policy_gradient_by_tensors(&theirs, &of_actions, 0.05);
        for (ours, theirs) in [
            (&ours.actions, &theirs.actions),
            (&ours.log_probs, &theirs.log_probs),
            (&ours.moved, &theirs.moved),
            (&ours.is_free, &theirs.is_free),
            (&of_ours, &of_theirs),
        ] {
            assert_eq!(ours.size(), theirs.size());
            for (ours, theirs) in to_host(ours).iter().zip(to_host(theirs)) {
                let most = 1e-5 * theirs.abs().max(1.0);
                assert!((ours - theirs).abs() <= most, "{ours} {theirs}");
            }
        }
    }

    #[test]
    fn the_lesser_of_two_values_gets_the_gradient_and_equal_ones_share_it() {
        let column = |values: &[f32]| Tensor::from_slice(values).view([-1, 1]);
        let (first, second) = (
            column(&[1.0, 3.0, 2.0, -1.0]),
            column(&[2.0, 1.0, 2.0, 0.0]),
        );
        for gradients in [
            gradient_of_least(&first, &second),
            gradient_of_least_on_host(&first, &second, 0.25).unwrap(),
            gradient_of_least_by_tensors(&first, &second, 0.25),
        ] {
            assert_eq!(to_host(&gradients[0]), [0.25, 0.0, 0.125, 0.25]);
            assert_eq!(to_host(&gradients[1]), [0.0, 0.25, 0.125, 0.0]);
        }
    }
}
