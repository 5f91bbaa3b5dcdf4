//! Golden vectors and invariants of a whole update.

use rookery_common::configuration::Annealing;
use serde::Deserialize;

use super::config::loss_options;
use super::*;
use crate::algorithms::on_policy::OnPolicyError;
use crate::algorithms::testing::{NetworkCase, RoundCase, all_close, close};
use crate::logs::Distributions;
use crate::tensors::to_host;

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(flatten)]
    network: NetworkCase,
    #[serde(flatten)]
    round: RoundCase,
    value_coefficient: f64,
    entropy_coefficient: f64,
    max_gradient_norm: f64,
    learning_rate: f64,
    adam_beta1: f64,
    adam_beta2: f64,
    adam_epsilon: f64,
    initial: Vec<f32>,
    discount: f64,
    lambda: f64,
    rho_clip: f64,
    c_clip: f64,
    policy_rho_clip: f64,
    steps: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    total: f64,
    policy_loss: f64,
    value_loss: f64,
    entropy: f64,
    rho_clip_fraction: f64,
    c_clip_fraction: f64,
    log_ratio: f64,
    explained_variance: f64,
    gradient: Vec<f32>,
    gradient_norm: f64,
    parameters: Vec<f32>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../../tests/golden/impala_steps.json")).unwrap()
}

impl Case {
    fn config(&self) -> ImpalaConfiguration {
        ImpalaConfiguration {
            learning_rate: self.learning_rate,
            learning_rate_schedule: Annealing::Constant,
            adam_epsilon: self.adam_epsilon,
            adam_beta1: self.adam_beta1,
            adam_beta2: self.adam_beta2,
            discount: self.discount,
            lambda: self.lambda,
            rho_clip: self.rho_clip,
            c_clip: self.c_clip,
            policy_rho_clip: self.policy_rho_clip,
            value_coefficient: self.value_coefficient,
            entropy_coefficient: self.entropy_coefficient,
            entropy_schedule: Annealing::Constant,
            max_gradient_norm: Some(self.max_gradient_norm),
        }
    }

    fn impala(&self) -> Impala {
        let mut impala = Impala::new(self.network.spec(), self.config(), 1, Device::Cpu).unwrap();
        impala.network.import(&self.initial).unwrap();
        impala
    }
}

#[test]
fn t7_t8_t9_gradients_and_steps_agree_with_pytorch() {
    for case in cases() {
        let mut impala = case.impala();
        let round = case.round.round();
        for (number, expected) in case.steps.iter().enumerate() {
            let name = |what: &str| format!("{}, step {number}, {what}", case.name);
            let options = loss_options(&impala.config, 0.0);
            let inputs = on_policy::encoded(&impala.network, &round).unwrap();
            let evaluation = impala
                .evaluate(&round, &inputs, &options, &mut Distributions::default())
                .unwrap();
            let gradient = impala
                .network
                .gradient(&evaluation.tape, evaluation.losses.gradient);
            let gradient = to_host(&gradient);
            all_close(&name("gradient"), &gradient, &expected.gradient);

            let got = impala
                .update(&round, 0.0, &mut Distributions::default())
                .unwrap();
            let total = got.policy_loss + options.value_coefficient * got.value_loss
                - options.entropy_coefficient * got.entropy;
            for (what, got, expected) in [
                ("total", total, expected.total),
                ("policy_loss", got.policy_loss, expected.policy_loss),
                ("value_loss", got.value_loss, expected.value_loss),
                ("entropy", got.entropy, expected.entropy),
                ("rho", got.rho_clip_fraction, expected.rho_clip_fraction),
                ("c", got.c_clip_fraction, expected.c_clip_fraction),
                ("log_ratio", got.log_ratio, expected.log_ratio),
                (
                    "explained_variance",
                    got.explained_variance.unwrap(),
                    expected.explained_variance,
                ),
                (
                    "gradient_norm",
                    got.gradient_norm.unwrap(),
                    expected.gradient_norm,
                ),
            ] {
                close(&name(what), got, expected);
            }
            let parameters = impala.network.export();
            all_close(&name("parameters"), &parameters, &expected.parameters);
            assert_eq!((got.gradient_steps, got.skipped_steps), (1, 0));
        }
    }
}

#[test]
fn t20_schedules_follow_progress() {
    let case = &cases()[0];
    let config = ImpalaConfiguration {
        learning_rate_schedule: Annealing::Linear,
        entropy_schedule: Annealing::Linear,
        ..case.config()
    };
    assert_eq!(
        loss_options(&config, 0.25).entropy_coefficient,
        0.75 * config.entropy_coefficient
    );
    let mut impala = Impala::new(case.network.spec(), config.clone(), 1, Device::Cpu).unwrap();
    let statistics = impala
        .update(&case.round.round(), 0.25, &mut Distributions::default())
        .unwrap();
    assert_eq!(statistics.learning_rate, 0.75 * config.learning_rate);
}

#[test]
fn t34_an_update_is_a_function_of_state_round_and_progress() {
    let case = &cases()[0];
    let round = case.round.round();
    let mut reference = case.impala();
    reference
        .update(&round, 0.0, &mut Distributions::default())
        .unwrap();
    let state = reference.state();
    reference
        .update(&round, 0.5, &mut Distributions::default())
        .unwrap();

    // Another start, whose parameters the state overwrites.
    let mut resumed = Impala::new(case.network.spec(), case.config(), 1, Device::Cpu).unwrap();
    resumed.restore(&state).unwrap();
    resumed
        .update(&round, 0.5, &mut Distributions::default())
        .unwrap();
    assert_eq!(resumed.state(), reference.state());
}

#[test]
fn a_gradient_that_is_not_finite_moves_nothing_and_is_counted() {
    let case = &cases()[0];
    let mut impala = case.impala();
    let before = impala.state();
    let mut round = case.round.round();
    round.shards[0].rewards[0] = f32::INFINITY;
    let statistics = impala
        .update(&round, 0.0, &mut Distributions::default())
        .unwrap();
    assert_eq!(
        (statistics.gradient_steps, statistics.skipped_steps),
        (0, 1)
    );
    assert_eq!(statistics.gradient_norm, None);
    assert_eq!(impala.state(), before);
}

#[test]
fn what_does_not_fit_is_refused_before_anything_changes() {
    let case = &cases()[0];
    let mut impala = case.impala();
    let before = impala.state();

    let mut round = case.round.round();
    round.actions[3] = 3.0;
    assert!(matches!(
        impala.update(&round, 0.0, &mut Distributions::default()),
        Err(OnPolicyError::Action { step: 3, .. })
    ));
    let mut round = case.round.round();
    round.observations.pop();
    assert!(matches!(
        impala.update(&round, 0.0, &mut Distributions::default()),
        Err(OnPolicyError::Round(_))
    ));
    assert!(matches!(
        impala.restore(&AlgorithmState::default()),
        Err(AlgorithmError::Missing(_))
    ));
    assert_eq!(impala.state(), before);
}
