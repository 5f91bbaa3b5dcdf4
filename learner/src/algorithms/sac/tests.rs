//! Golden vectors of the losses and of one gradient step.

use rookery_common::policy::forward::{Network, Scratch};
use rookery_common::spaces::{EnvironmentSpec, Space};
use serde::Deserialize;
use tch::Kind;

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
    actions: usize,
    learning_rate: f64,
    critic_learning_rate: f64,
    temperature_learning_rate: f64,
    adam_epsilon: f64,
    initial_temperature: f64,
    target_tau: f64,
    policy: Vec<f32>,
    critics: Vec<f32>,
    target_critics: Vec<f32>,
    observations: Vec<f32>,
    next_observations: Vec<f32>,
    batch_actions: Vec<f32>,
    returns: Vec<f32>,
    discounts: Vec<f32>,
    weights: Vec<f32>,
    next_noise: Vec<f32>,
    policy_noise: Vec<f32>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    critic_loss: f64,
    critic_gradient: Vec<f32>,
    critics: Vec<f32>,
    policy_gradient: Vec<f32>,
    policy: Vec<f32>,
    entropy: f64,
    log_temperature: f64,
    target_critics: Vec<f32>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../../tests/golden/sac_steps.json")).unwrap()
}

impl Case {
    fn configuration(&self) -> Configuration {
        let mut configuration = Configuration::default();
        configuration.run.algorithm = rookery_common::configuration::Algorithm::Sac;
        configuration.policy.hidden.clone_from(&self.hidden);
        configuration.policy.activation = self.activation;
        configuration.sac = SacConfiguration {
            learning_rate: self.learning_rate,
            critic_learning_rate: self.critic_learning_rate,
            temperature_learning_rate: self.temperature_learning_rate,
            adam_epsilon: self.adam_epsilon,
            initial_temperature: self.initial_temperature,
            target_tau: self.target_tau,
            ..SacConfiguration::default()
        };
        configuration
    }

    fn specification(&self) -> RunSpecification {
        let action = if self.actions > 0 {
            Space::Discrete { n: self.actions }
        } else {
            Space::bounded(&self.low, &self.high)
        };
        let environment = EnvironmentSpec {
            id: "Golden-v0".to_owned(),
            arguments: BTreeMap::new(),
            observation: Space::bounded(&vec![-9.0; self.width], &vec![9.0; self.width]),
            action,
            max_episode_steps: None,
            goal: None,
            wrappers: Vec::new(),
            action_mask: false,
        };
        specify(environment, &self.configuration()).unwrap()
    }

    fn sac(&self) -> Sac {
        let (configuration, specification) = (self.configuration(), self.specification());
        let mut sac = Sac::configured(&configuration, &specification, Device::Cpu).unwrap();
        sac.policy.import(&self.policy).unwrap();
        sac.critics.import(&self.critics, &self.target_critics);
        sac
    }

    fn columns(&self, sac: &Sac) -> Columns {
        let num_rows = self.returns.len() as i64;
        let rows = |values: &[f32]| Tensor::from_slice(values).view([num_rows, -1]);
        Columns {
            inputs: rows(&self.observations),
            next_inputs: rows(&self.next_observations),
            actions: sac.network.actions().scaled(&rows(&self.batch_actions)),
            returns: Tensor::from_slice(&self.returns),
            discounts: Tensor::from_slice(&self.discounts),
            weights: Tensor::from_slice(&self.weights),
        }
    }

    fn noise(&self, values: &[f32]) -> Option<Tensor> {
        let dimension = self.low.len() as i64;
        (dimension > 0).then(|| Tensor::from_slice(values).view([-1, dimension]))
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

#[test]
fn t1_t25_t26_losses_gradients_and_steps_agree_with_pytorch() {
    for case in cases() {
        let mut sac = case.sac();
        let columns = case.columns(&sac);
        let name = |what: &str| format!("{}, {what}", case.name);
        let mut record = Record::default();
        let expected = &case.expected;

        let _ = sac.critic_step(&columns, case.noise(&case.next_noise), &mut record);
        all_close(
            &name("critics"),
            &sac.critics.export()[0],
            &expected.critics,
        );
        sac.policy_step(&columns, case.noise(&case.policy_noise), &mut record);
        all_close(&name("policy"), &sac.policy.export(), &expected.policy);
        close(
            &name("temperature"),
            sac.log_temperature.double_value(&[0]),
            expected.log_temperature,
        );
        sac.critics.follow(case.target_tau);
        all_close(
            &name("targets"),
            &sac.critics.export()[1],
            &expected.target_critics,
        );
        let statistics = record.finish(&sac);
        close(
            &name("loss"),
            statistics.critics.critic_loss.unwrap(),
            expected.critic_loss,
        );
        close(
            &name("entropy"),
            statistics.entropy.unwrap(),
            expected.entropy,
        );
    }
}

/// Adam's first step is nearly the sign of the gradient, so the gradients are compared themselves.
#[test]
fn t25_gradients_are_those_of_autograd() {
    for case in cases() {
        let mut sac = case.sac();
        let columns = case.columns(&sac);
        let name = |what: &str| format!("{}, {what}", case.name);
        let mut record = Record::default();
        // A step size of zero leaves parameters, and the moments hold the gradients.
        let _ = sac.critic_step(&columns, case.noise(&case.next_noise), &mut record);
        let moment: Vec<f32> = sac.critics.adam().state().first_moment;
        let gradient: Vec<f32> = moment.iter().map(|value| value / 0.1).collect();
        all_close(
            &name("critic gradient"),
            &gradient,
            &case.expected.critic_gradient,
        );
        sac.policy_step(&columns, case.noise(&case.policy_noise), &mut record);
        let moment: Vec<f32> = sac.policy_adam.state().first_moment;
        let gradient: Vec<f32> = moment.iter().map(|value| value / 0.1).collect();
        all_close(
            &name("policy gradient"),
            &gradient,
            &case.expected.policy_gradient,
        );
    }
}

#[test]
fn t25_a_policy_that_is_delayed_takes_as_many_steps() {
    let case = &cases()[0];
    let mut sac = case.sac();
    sac.config.policy_delay = 3;
    let columns = case.columns(&sac);
    let mut record = Record::default();
    for step in 0..6 {
        let _ = sac.gradient_step(&columns, 0, step, &mut record);
    }
    assert_eq!(sac.policy_adam.num_steps(), 6);
    assert_eq!(sac.critics.adam().num_steps(), 6);
    assert_eq!(sac.temperature_adam.num_steps(), 6);
}

#[test]
fn the_temperature_rises_where_the_entropy_is_below_its_target() {
    let case = &cases()[0];
    for (target_entropy, rises) in [(1e3, true), (-1e3, false)] {
        let mut sac = case.sac();
        sac.target_entropy = target_entropy;
        let before = sac.temperature();
        let columns = case.columns(&sac);
        let noise = case.noise(&case.policy_noise);
        sac.policy_step(&columns, noise, &mut Record::default());
        assert_eq!(sac.temperature() > before, rises);
    }
}

#[test]
fn a_density_far_out_is_finite() {
    let outputs = Tensor::from_slice(&[60.0_f32, -60.0, 2.0, -20.0]).view([2, 2]);
    let noise = Tensor::from_slice(&[3.0_f32, -3.0]).view([2, 1]);
    let drawn = loss::draw(&outputs, &noise);
    let log_probs = to_host(&drawn.log_probs);
    assert!(
        log_probs.iter().all(|value| value.is_finite()),
        "{log_probs:?}"
    );
    let largest = drawn.actions.abs().max().double_value(&[]);
    assert!(largest <= 1.0);
    assert_eq!(drawn.actions.kind(), Kind::Float);
}

#[test]
fn a_state_is_restored() {
    let case = &cases()[0];
    let mut trained = case.sac();
    let columns = case.columns(&trained);
    let _ = trained.gradient_step(&columns, 0, 0, &mut Record::default());
    let state = trained.state();
    let mut resumed = case.sac();
    assert_ne!(resumed.state(), state);
    resumed.restore(&state).unwrap();
    assert_eq!(resumed.state(), state);
    assert!(matches!(
        cases()[2].sac().restore(&state),
        Err(AlgorithmError::Network(NetworkError::Parameters { .. }))
    ));
}

#[test]
fn uniform_actions_are_asked_for_until_the_store_can_be_sampled() {
    let sac = cases()[0].sac();
    assert_eq!(sac.acting(0)[UNIFORM], 1.0);
    assert_eq!(sac.acting(sac.replay.minimum_size())[UNIFORM], 0.0);
}

#[test]
fn what_acts_computes_what_is_trained() {
    for case in cases() {
        let sac = case.sac();
        let spec = case.specification().policy;
        let acts = Network::new(&spec, &sac.policy_parameters()).unwrap();
        let mut outputs = vec![0.0; case.returns.len() * spec.head_width()];
        acts.forward(&mut Scratch::default(), &case.observations, &mut outputs);
        let trained = sac.network.forward(&sac.policy, &case.columns(&sac).inputs);
        all_close(&case.name, &outputs, &to_host(trained.output()));
    }
}
