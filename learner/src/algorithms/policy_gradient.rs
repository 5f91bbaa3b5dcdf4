//! One gradient step along the policy gradient: what REINFORCE and A2C share. They differ in what
//! weighs an action: the return of the episode, or an advantage that the critic has cut short.

use serde::Serialize;
use tch::{Kind, Tensor};

use super::likelihood::Likelihood;
use crate::networks::{ActorCritic, OutputGradient, Outputs};
use crate::optimiser::{Adam, Step};
use crate::tensors::to_host;

/// Added to the standard deviation by which advantages are divided.
const ADVANTAGE_EPSILON: f64 = 1e-8;

/// `N` steps on the device.
#[derive(Debug)]
pub struct Steps {
    /// Encoded observations, `[N, inputs]`.
    pub inputs: Tensor,
    /// Indices `[N]`, i64, or vectors `[N, dimension]`, f32.
    pub actions: Tensor,
    /// `-log` of the probability with which the action was drawn, `[N]`.
    pub negative_log_probs: Tensor,
    /// By how much the action was better than what it is compared with, `[N]`.
    pub advantages: Tensor,
    /// Targets of the values, `[N, 1]`.
    pub returns: Tensor,
}

/// Weights of the terms of the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossOptions {
    /// Weight of the value loss; none where no value is learnt.
    pub value_coefficient: Option<f64>,
    /// Weight of the entropy.
    pub entropy_coefficient: f64,
}

/// What the loss is made of, all scalars, and its gradient.
#[derive(Debug)]
pub struct Losses {
    /// Mean of `-advantage * log pi(action)`.
    pub policy: Tensor,
    /// The mean squared error of the values, where they are learnt.
    pub value: Option<Tensor>,
    /// The mean entropy of the policy.
    pub entropy: Tensor,
    /// Mean `|log ratio|` of the policy to the one that acted.
    pub log_ratio: Tensor,
    /// Of the loss, by what the network has put out.
    pub gradient: OutputGradient,
}

/// What one gradient step did; absent where none could be taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepStatistics {
    /// Mean of `-advantage * log pi(action)`.
    pub policy_loss: Option<f64>,
    /// Mean squared error of the values, where they are learnt.
    pub value_loss: Option<f64>,
    /// Mean entropy of the policy, in nats.
    pub entropy: Option<f64>,
    /// Norm of the gradient before clipping, where it is finite.
    pub gradient_norm: Option<f64>,
    /// Mean `|log ratio|` of the learner's probabilities to those with which the actions were drawn:
    /// of steps that the present policy has chosen only rounding (T24).
    pub log_ratio: Option<f64>,
    /// Step size of the optimiser.
    pub learning_rate: f64,
    /// Gradient steps taken.
    pub gradient_steps: u64,
    /// Gradients that were not finite and so moved nothing.
    pub skipped_steps: u64,
}

/// The loss whose gradient is minus the policy gradient, with the values' squared error and an
/// entropy bonus: `policy + c1 * value - c2 * entropy` with the weights of `options`.
///
/// # Source
/// Sutton, `McAllester`, Singh and Mansour 2000, "Policy gradient methods for reinforcement learning
/// with function approximation", theorem 1, without the discount on the distribution of states, as
/// is usual; entropy bonus of Williams and Peng 1991. All terms are means over the steps (T16).
#[must_use]
pub fn losses(outputs: &Outputs, steps: &Steps, options: &LossOptions) -> Losses {
    let likelihood = Likelihood::new(outputs, &steps.actions);
    let weights = &steps.advantages / steps.advantages.numel() as f64;
    let policy = likelihood.negative_log_probs.dot(&weights);
    let (by_policy, by_log_std) = likelihood.gradient(&weights.neg(), -options.entropy_coefficient);
    let (value, by_values) = match options.value_coefficient {
        None => (None, outputs.values.zeros_like()),
        Some(coefficient) => {
            let (loss, by_values) = value_loss(&outputs.values, &steps.returns);
            (Some(loss), by_values * coefficient)
        }
    };
    Losses {
        policy,
        value,
        entropy: likelihood.entropy,
        log_ratio: (likelihood.negative_log_probs - &steps.negative_log_probs)
            .abs()
            .mean(None::<Kind>),
        gradient: OutputGradient {
            policy: by_policy,
            log_std: by_log_std,
            values: by_values,
        },
    }
}

/// Takes one gradient step on all of `steps`.
pub fn gradient_step(
    network: &mut ActorCritic,
    adam: &mut Adam,
    steps: &Steps,
    options: &LossOptions,
    learning_rate: f64,
) -> StepStatistics {
    let (outputs, tape) = network.forward(&steps.inputs, None);
    let losses = losses(&outputs, steps, options);
    let gradient = network.gradient(&tape, losses.gradient);
    let step = adam.step(network.parameters_mut(), gradient, learning_rate);
    let scalars = [
        Some(&losses.policy),
        Some(&losses.entropy),
        Some(&losses.log_ratio),
        losses.value.as_ref(),
    ];
    let scalars: Vec<Tensor> = scalars
        .into_iter()
        .flatten()
        .map(Tensor::shallow_clone)
        .collect();
    let scalars = to_host(&Tensor::stack(&scalars, 0));
    let scalar = |index: usize| scalars.get(index).copied().map(f64::from);
    let (gradient_norm, taken) = match step {
        Step::Taken { gradient_norm } => (Some(gradient_norm), 1),
        Step::Skipped => (None, 0),
    };
    StepStatistics {
        policy_loss: scalar(0),
        entropy: scalar(1),
        log_ratio: scalar(2),
        value_loss: scalar(3),
        gradient_norm,
        learning_rate,
        gradient_steps: taken,
        skipped_steps: 1 - taken,
    }
}

/// Mean squared error of the values, and its gradient by them.
///
/// # Shapes
/// Both `[N, 1]`; the results a scalar and `[N, 1]`.
pub fn value_loss(values: &Tensor, returns: &Tensor) -> (Tensor, Tensor) {
    let errors = values - returns;
    let loss = errors.square().mean(None::<Kind>);
    let share = 2.0 / errors.numel() as f64;
    (loss, errors * share)
}

/// Advantages at mean zero and standard deviation one along the last dimension. The deviation is
/// the unbiased one; a single element has none and becomes zero.
///
/// # Shapes
/// Any `[.., N]`; the result has the same.
pub fn normalised(advantages: &Tensor) -> Tensor {
    if advantages.size().last() == Some(&1) {
        return advantages.zeros_like();
    }
    let (deviation, mean) = advantages.std_mean_dim(-1, true, true);
    (advantages - mean) / (deviation + ADVANTAGE_EPSILON)
}
