//! Golden vectors of whole updates, and the identity with PPO.

use rookery_common::configuration::Annealing;
use serde::Deserialize;
use tch::Tensor;

use super::*;
use crate::algorithms::likelihood::Likelihood;
use crate::algorithms::ppo::{AdvantageNormalisation, Ppo, PpoConfiguration};
use crate::algorithms::round::Round;
use crate::algorithms::testing::{NetworkCase, RoundCase, all_close, close, optionally_close};
use crate::logs::Distributions;
use crate::networks::Outputs;
use crate::tensors::to_host;

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(flatten)]
    network: NetworkCase,
    discount: f64,
    gae_lambda: f64,
    normalise: bool,
    value_coefficient: f64,
    entropy_coefficient: f64,
    max_gradient_norm: f64,
    learning_rate: f64,
    adam_beta1: f64,
    adam_beta2: f64,
    adam_epsilon: f64,
    initial: Vec<f32>,
    rounds: Vec<RoundCase>,
    expected: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    policy_loss: f64,
    value_loss: f64,
    entropy: f64,
    log_ratio: f64,
    gradient_norm: f64,
    explained_variance: f64,
    parameters: Vec<f32>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../../tests/golden/a2c.json")).unwrap()
}

impl Case {
    fn config(&self) -> A2cConfiguration {
        A2cConfiguration {
            learning_rate: self.learning_rate,
            learning_rate_schedule: Annealing::Constant,
            adam_epsilon: self.adam_epsilon,
            adam_beta1: self.adam_beta1,
            adam_beta2: self.adam_beta2,
            discount: self.discount,
            gae_lambda: self.gae_lambda,
            value_coefficient: self.value_coefficient,
            entropy_coefficient: self.entropy_coefficient,
            max_gradient_norm: Some(self.max_gradient_norm),
            normalise_advantages: self.normalise,
        }
    }

    fn a2c(&self) -> A2c {
        let mut a2c = A2c::new(self.network.spec(), self.config(), 1, Device::Cpu).unwrap();
        a2c.network.import(&self.initial).unwrap();
        a2c
    }
}

#[test]
fn t1_t2_t12_t19_updates_agree_with_pytorch() {
    for case in cases() {
        let mut a2c = case.a2c();
        for (number, (round, expected)) in case.rounds.iter().zip(&case.expected).enumerate() {
            let got = a2c
                .update(&round.round(), 0.0, &mut Distributions::default())
                .unwrap();
            let name = |what: &str| format!("{}, update {number}, {what}", case.name);
            let step = &got.step;
            for (what, got, expected) in [
                ("policy_loss", step.policy_loss, expected.policy_loss),
                ("value_loss", step.value_loss, expected.value_loss),
                ("entropy", step.entropy, expected.entropy),
                ("log_ratio", step.log_ratio, expected.log_ratio),
                ("gradient_norm", step.gradient_norm, expected.gradient_norm),
                (
                    "explained_variance",
                    got.explained_variance,
                    expected.explained_variance,
                ),
            ] {
                optionally_close(&name(what), got, Some(expected));
            }
            assert_eq!((step.gradient_steps, step.skipped_steps), (1, 0));
            all_close(
                &name("parameters"),
                &a2c.network.export(),
                &expected.parameters,
            );
        }
    }
}

/// A round whose log-probabilities are those of the network's own forward pass.
fn on_policy_round(a2c: &A2c, mut round: Round) -> Round {
    let inputs = a2c.network.encode(&round.observations).unwrap();
    let head = &a2c.network.spec().policy.head;
    let actions = on_policy::action_rows(head, &round.actions, Device::Cpu).unwrap();
    let rows = Tensor::from_slice(&round.rows_of_steps());
    let (outputs, _) = a2c.network.forward(&inputs, None);
    let outputs = Outputs {
        policy: outputs.policy.index_select(0, &rows),
        ..outputs
    };
    let likelihood = Likelihood::new(&outputs, &actions);
    round.log_probs = to_host(&likelihood.negative_log_probs.neg());
    round
}

#[test]
fn one_epoch_of_ppo_on_the_whole_round_is_the_same_update() {
    for case in cases() {
        let mut a2c = case.a2c();
        let config = case.config();
        let options = PpoConfiguration {
            learning_rate: config.learning_rate,
            learning_rate_schedule: Annealing::Constant,
            adam_epsilon: config.adam_epsilon,
            adam_beta1: config.adam_beta1,
            adam_beta2: config.adam_beta2,
            discount: config.discount,
            gae_lambda: config.gae_lambda,
            epochs: 1,
            minibatch_size: 1_000_000,
            value_clip_range: None,
            value_coefficient: config.value_coefficient,
            entropy_coefficient: config.entropy_coefficient,
            max_gradient_norm: config.max_gradient_norm,
            advantage_normalisation: if case.normalise {
                AdvantageNormalisation::Batch
            } else {
                AdvantageNormalisation::None
            },
            ..PpoConfiguration::default()
        };
        let mut ppo = Ppo::new(case.network.spec(), options, 1, Device::Cpu).unwrap();
        Algorithm::restore(&mut ppo, &a2c.state()).unwrap();
        for (version, round) in case.rounds.iter().enumerate() {
            let round = on_policy_round(&a2c, round.round());
            let ours = a2c
                .update(&round, 0.0, &mut Distributions::default())
                .unwrap();
            let theirs = ppo
                .update(&round, 0.0, version as u64, &mut Distributions::default())
                .unwrap();
            close(
                &case.name,
                ours.step.gradient_norm.unwrap(),
                theirs.gradient_norm,
            );
            assert!(ours.step.log_ratio.unwrap() < 1e-6, "{}", case.name);
            all_close(&case.name, &a2c.network.export(), &ppo.network().export());
        }
    }
}

#[test]
fn a_gradient_that_is_not_finite_moves_nothing_and_is_counted() {
    let case = &cases()[0];
    let mut a2c = case.a2c();
    let mut round = case.rounds[0].round();
    round.shards[0].rewards[0] = f32::INFINITY;
    let before = a2c.state();
    let step = a2c
        .update(&round, 0.0, &mut Distributions::default())
        .unwrap()
        .step;
    assert_eq!((step.gradient_steps, step.skipped_steps), (0, 1));
    assert_eq!(a2c.state(), before);
}

#[test]
fn t34_a_resumed_state_goes_on_alike_and_another_networks_is_refused() {
    let cases = cases();
    let mut reference = cases[0].a2c();
    let round = cases[0].rounds[0].round();
    reference
        .update(&round, 0.0, &mut Distributions::default())
        .unwrap();
    let state = reference.state();
    reference
        .update(&round, 0.5, &mut Distributions::default())
        .unwrap();
    let mut resumed = cases[0].a2c();
    resumed.restore(&state).unwrap();
    resumed
        .update(&round, 0.5, &mut Distributions::default())
        .unwrap();
    assert_eq!(resumed.state(), reference.state());

    let mut other = cases[1].a2c();
    let before = other.state();
    assert!(other.restore(&state).is_err());
    assert_eq!(other.state(), before);
}

#[test]
fn t20_the_step_size_follows_progress() {
    let case = &cases()[0];
    let mut a2c = case.a2c();
    a2c.config.learning_rate_schedule = Annealing::Linear;
    let round = case.rounds[0].round();
    let step = a2c
        .update(&round, 0.75, &mut Distributions::default())
        .unwrap()
        .step;
    close(
        "learning_rate",
        step.learning_rate,
        0.25 * case.learning_rate,
    );
    let moved = Tensor::from_slice(&a2c.network.export()) - Tensor::from_slice(&case.initial);
    assert!(moved.abs().max().double_value(&[]) > 0.0);
    let before = a2c.network.export();
    a2c.update(&round, 1.0, &mut Distributions::default())
        .unwrap();
    assert_eq!(
        a2c.network.export(),
        before,
        "a step size of zero moves nothing"
    );
}
