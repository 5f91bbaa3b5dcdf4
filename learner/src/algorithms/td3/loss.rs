//! The losses of TD3 and their gradients, as functions from tensors to tensors. Actions are in units of their
//! bounds, and gradients of means over the `N` rows of the minibatch. The critics' loss is that of
//! [twin critics](crate::algorithms::twin_critics::critic_loss).

use pulp::Arch;
use rookery_common::policy::math::activate;
use rookery_common::policy::spec::Activation;
use tch::Tensor;

use crate::tensors::host_mut;

/// What a deterministic policy does, `tanh` of its outputs, `[N, dimension]`.
pub fn actions(outputs: &Tensor) -> Tensor {
    let mut actions = outputs.copy();
    match host_mut(&mut actions) {
        // In this thread: for libtorch's MKL wakes others.
        Some(values) => Arch::new().dispatch(|| activate(Activation::Tanh, values)),
        None => drop(actions.tanh_()),
    }
    actions
}

/// The actions of the target policy with clipped noise: `clip(tanh(u) + clip(s e, -c, c), -1, 1)`.
///
/// # Shapes
/// `outputs` and `noise`, standard normal, are `[N, dimension]`.
///
/// # Source
/// Fujimoto, van Hoof and Meger 2018, equation 14.
pub fn smoothed_actions(outputs: &Tensor, noise: &Tensor, std: f64, most: f64) -> Tensor {
    let noise = (noise * std).clamp(-most, most);
    (actions(outputs) + noise).clamp(-1.0, 1.0)
}

/// The critics' target: `R + g min Q'(s', a')`, with the n-step return `R` and the factor `g` of what
/// follows, zero after a terminated transition (T1).
///
/// # Shapes
/// All `[N]`.
///
/// # Source
/// Fujimoto, van Hoof and Meger 2018, equation 10.
pub fn target(returns: &Tensor, discounts: &Tensor, least_values: &Tensor) -> Tensor {
    returns.addcmul(discounts, least_values)
}

/// The gradient of the policy's loss `-mean(Q_1(s, tanh(u)))` by its outputs `u`, `[N, dimension]`.
///
/// # Shapes
/// `of_actions` is the gradient of `mean(Q_1)` by the actions, `[N, dimension]`.
///
/// # Source
/// Silver and others 2014, "Deterministic policy gradient algorithms", equation 9, with the first critic.
pub fn policy_gradient(actions: &Tensor, of_actions: &Tensor) -> Tensor {
    of_actions * (actions.square() - 1.0)
}
