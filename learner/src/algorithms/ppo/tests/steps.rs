//! Golden vectors of the losses and of one gradient step.

use serde::Deserialize;
use tch::Tensor;

use super::super::Ppo;
use super::super::loss::{Minibatch, approximate_kl, clip_fraction, losses, surrogate_columns};
use super::{Options, actions, all_close, close, loss_options, to_host};
use crate::optimiser::Step;

#[derive(Deserialize)]
struct StepCase {
    #[serde(flatten)]
    options: Options,
    advantages: Vec<f32>,
    returns: Vec<f32>,
    old_values: Vec<f32>,
    steps: Vec<ExpectedStep>,
}

#[derive(Deserialize)]
struct ExpectedStep {
    total: f64,
    policy_loss: f64,
    value_loss: f64,
    entropy: f64,
    approximate_kl: f64,
    clip_fraction: f64,
    gradient: Vec<f32>,
    gradient_norm: f64,
    parameters: Vec<f32>,
}

fn step_cases() -> Vec<StepCase> {
    serde_json::from_str(include_str!("../../../../tests/golden/ppo_steps.json")).unwrap()
}

impl StepCase {
    fn minibatch(&self, ppo: &Ppo) -> Minibatch {
        let options = &self.options;
        let advantages = Tensor::from_slice(&self.advantages);
        let rows = advantages.numel() as i64;
        Minibatch {
            inputs: ppo.network.encode(&options.observations).unwrap(),
            sequences: None,
            actions: actions(ppo, &options.actions),
            negative_log_probs: Tensor::from_slice(&options.log_probs).neg(),
            surrogate: surrogate_columns(&advantages, rows, options.clip_range, options.normalise)
                .remove(0),
            returns: Tensor::from_slice(&self.returns).unsqueeze(-1),
            old_values: Some(Tensor::from_slice(&self.old_values).unsqueeze(-1)),
        }
    }
}

#[test]
fn t19_t23_losses_gradients_and_steps_agree_with_pytorch() {
    for case in step_cases() {
        let options = &case.options;
        let mut ppo = options.ppo(options.config());
        let minibatch = case.minibatch(&ppo);
        for (number, expected) in case.steps.iter().enumerate() {
            let name = |what: &str| format!("{}, step {number}, {what}", options.name);
            let (outputs, tape) = ppo.network.forward(&minibatch.inputs, None);
            let weights = loss_options(&ppo.config, 0.0);
            let got = losses(&outputs, &minibatch, &weights);
            let total = &got.policy + &got.value * weights.value_coefficient
                - &got.entropy * weights.entropy_coefficient;
            let divergence = approximate_kl(&got.log_ratios);
            let clipped = clip_fraction(&got.log_ratios, options.clip_range);
            for (what, got, expected) in [
                ("total", &total, expected.total),
                ("policy", &got.policy, expected.policy_loss),
                ("value", &got.value, expected.value_loss),
                ("entropy", &got.entropy, expected.entropy),
                ("approximate_kl", &divergence, expected.approximate_kl),
                ("clip_fraction", &clipped, expected.clip_fraction),
            ] {
                close(&name(what), got.double_value(&[]), expected);
            }
            let gradient = ppo.network.gradient(&tape, got.gradient);
            all_close(&name("gradient"), &to_host(&gradient), &expected.gradient);
            let step = ppo.adam.step(
                ppo.network.parameters_mut(),
                gradient,
                options.learning_rate,
            );
            let Step::Taken { gradient_norm } = step else {
                panic!("{}", name("skipped"))
            };
            close(&name("norm"), gradient_norm, expected.gradient_norm);
            all_close(
                &name("parameters"),
                &ppo.network.export(),
                &expected.parameters,
            );
        }
    }
}
