//! Golden vectors of the losses and of one gradient step.

use rookery_common::policy::forward::{Network, Scratch};
use rookery_common::spaces::{EnvironmentSpec, Space};
use serde::Deserialize;
use tch::Tensor;

use super::update::Record;
use super::*;
use crate::algorithms::replayed::Columns;
use crate::networks::NetworkError;
use crate::service::specify;

const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Case {
    name: String,
    width: usize,
    hidden: Vec<usize>,
    activation: rookery_common::policy::Activation,
    low: Vec<f32>,
    high: Vec<f32>,
    learning_rate: f64,
    critic_learning_rate: f64,
    adam_epsilon: f64,
    target_tau: f64,
    target_noise: f64,
    target_noise_clip: f64,
    policy: Vec<f32>,
    target_policy: Vec<f32>,
    critics: Vec<f32>,
    target_critics: Vec<f32>,
    observations: Vec<f32>,
    next_observations: Vec<f32>,
    batch_actions: Vec<f32>,
    returns: Vec<f32>,
    discounts: Vec<f32>,
    weights: Vec<f32>,
    noise: Vec<f32>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    critic_loss: f64,
    critic_gradient: Vec<f32>,
    critics: Vec<f32>,
    policy_value: f64,
    policy_gradient: Vec<f32>,
    policy: Vec<f32>,
    target_critics: Vec<f32>,
    target_policy: Vec<f32>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../../tests/golden/td3_steps.json")).unwrap()
}

impl Case {
    fn configuration(&self) -> Configuration {
        let mut configuration = Configuration::default();
        configuration.run.algorithm = rookery_common::configuration::Algorithm::Td3;
        configuration.policy.hidden.clone_from(&self.hidden);
        configuration.policy.activation = self.activation;
        configuration.td3 = Td3Configuration {
            learning_rate: self.learning_rate,
            critic_learning_rate: self.critic_learning_rate,
            adam_epsilon: self.adam_epsilon,
            target_tau: self.target_tau,
            target_noise: self.target_noise,
            target_noise_clip: self.target_noise_clip,
            ..Td3Configuration::default()
        };
        configuration
    }

    fn specification(&self) -> RunSpecification {
        let environment = EnvironmentSpec {
            id: "Golden-v0".to_owned(),
            arguments: BTreeMap::new(),
            observation: Space::bounded(&vec![-9.0; self.width], &vec![9.0; self.width]),
            action: Space::bounded(&self.low, &self.high),
            max_episode_steps: None,
            goal: None,
            wrappers: Vec::new(),
            action_mask: false,
        };
        specify(environment, &self.configuration()).unwrap()
    }

    fn td3(&self) -> Td3 {
        let (configuration, specification) = (self.configuration(), self.specification());
        let mut td3 = Td3::configured(&configuration, &specification, Device::Cpu).unwrap();
        td3.policy.import(&self.policy).unwrap();
        td3.target_policy.import(&self.target_policy).unwrap();
        td3.critics.import(&self.critics, &self.target_critics);
        td3
    }

    fn rows(&self, values: &[f32]) -> Tensor {
        Tensor::from_slice(values).view([self.returns.len() as i64, -1])
    }

    fn columns(&self, td3: &Td3) -> Columns {
        Columns {
            inputs: self.rows(&self.observations),
            next_inputs: self.rows(&self.next_observations),
            actions: td3.network.bounds.scaled(&self.rows(&self.batch_actions)),
            returns: Tensor::from_slice(&self.returns),
            discounts: Tensor::from_slice(&self.discounts),
            weights: Tensor::from_slice(&self.weights),
        }
    }
}

fn close(name: &str, got: f64, expected: f64) {
    assert!(
        (got - expected).abs() < TOLERANCE * expected.abs().max(1.0),
        "{name}: {got}, expected {expected}"
    );
}

fn all_close(name: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        close(
            &format!("{name}[{index}]"),
            f64::from(*got),
            f64::from(*expected),
        );
    }
}

/// The gradient of Adam's first step: its step is nearly the sign, its first moment a tenth.
fn gradient(adam: &Adam) -> Vec<f32> {
    let moment = adam.state().first_moment;
    moment.iter().map(|value| value / 0.1).collect()
}

#[test]
fn t1_losses_gradients_and_steps_agree_with_pytorch() {
    for case in cases() {
        let mut td3 = case.td3();
        // The policy's turn comes with the first step.
        td3.config.policy_delay = 1;
        let columns = case.columns(&td3);
        let name = |what: &str| format!("{}, {what}", case.name);
        let mut record = Record::default();
        let expected = &case.expected;

        let _ = td3.gradient_step(&columns, &case.rows(&case.noise), &mut record);
        let [critics, target_critics] = td3.critics.export();
        for (what, got, expected) in [
            (
                "critic gradient",
                gradient(td3.critics.adam()),
                &expected.critic_gradient,
            ),
            ("critics", critics, &expected.critics),
            (
                "policy gradient",
                gradient(&td3.policy_adam),
                &expected.policy_gradient,
            ),
            ("policy", td3.policy.export(), &expected.policy),
            ("target critics", target_critics, &expected.target_critics),
            (
                "target policy",
                td3.target_policy.export(),
                &expected.target_policy,
            ),
        ] {
            all_close(&name(what), &got, expected);
        }
        let statistics = record.finish(&td3);
        let loss = statistics.critics.critic_loss.unwrap();
        close(&name("loss"), loss, expected.critic_loss);
        let value = statistics.policy_value.unwrap();
        close(&name("policy value"), value, expected.policy_value);
    }
}

#[test]
fn policy_and_targets_move_once_for_several_steps_of_the_critics() {
    let case = &cases()[0];
    let mut td3 = case.td3();
    td3.config.policy_delay = 3;
    let columns = case.columns(&td3);
    let noise = case.rows(&case.noise);
    let mut record = Record::default();
    let held = |td3: &Td3| {
        let [_, target_critics] = td3.critics.export();
        (
            td3.policy.export(),
            td3.target_policy.export(),
            target_critics,
        )
    };
    let before = held(&td3);
    for _ in 0..2 {
        let _ = td3.gradient_step(&columns, &noise, &mut record);
        assert_eq!(held(&td3), before);
    }
    for _ in 2..6 {
        let _ = td3.gradient_step(&columns, &noise, &mut record);
    }
    assert_ne!(held(&td3), before);
    assert_eq!(td3.policy_adam.num_steps(), 2);
    assert_eq!(td3.critics.adam().num_steps(), 6);
    assert_eq!(record.finish(&td3).critics.gradient_steps, 6);
}

#[test]
fn a_policy_climbs_the_first_critic() {
    let case = &cases()[0];
    let mut td3 = case.td3();
    let columns = case.columns(&td3);
    let value = |td3: &mut Td3| {
        let mut record = Record::default();
        td3.policy_step(&columns, &mut record);
        record.finish(td3).policy_value.unwrap()
    };
    let before = value(&mut td3);
    for _ in 0..50 {
        let _ = value(&mut td3);
    }
    let after = value(&mut td3);
    assert!(after > before + 1e-3, "{before}, {after}");
}

#[test]
fn a_state_is_restored() {
    let case = &cases()[0];
    let mut trained = case.td3();
    let columns = case.columns(&trained);
    for _ in 0..3 {
        let _ = trained.gradient_step(&columns, &case.rows(&case.noise), &mut Record::default());
    }
    let state = trained.state();
    let mut resumed = case.td3();
    assert_ne!(resumed.state(), state);
    resumed.restore(&state).unwrap();
    assert_eq!(resumed.state(), state);

    let mut other = case.configuration();
    other.policy.hidden = vec![7];
    let specification = specify(case.specification().environment, &other).unwrap();
    let mut other = Td3::configured(&other, &specification, Device::Cpu).unwrap();
    assert!(matches!(
        other.restore(&state),
        Err(AlgorithmError::Network(NetworkError::Parameters { .. }))
    ));
}

#[test]
fn uniform_actions_are_asked_for_until_the_store_can_be_sampled() {
    let td3 = cases()[0].td3();
    assert_eq!(td3.acting(0)[UNIFORM], 1.0);
    assert_eq!(td3.acting(td3.replay.minimum_size())[UNIFORM], 0.0);
}

#[test]
fn what_acts_computes_what_is_trained() {
    for case in cases() {
        let td3 = case.td3();
        let spec = case.specification().policy;
        let acts = Network::new(&spec, &td3.policy_parameters()).unwrap();
        let mut outputs = vec![0.0; case.returns.len() * spec.head_width()];
        acts.forward(&mut Scratch::default(), &case.observations, &mut outputs);
        let trained = td3
            .network
            .network
            .forward(&td3.policy, &case.columns(&td3).inputs);
        all_close(&case.name, &outputs, &crate::tensors::to_host(&trained));
    }
}
