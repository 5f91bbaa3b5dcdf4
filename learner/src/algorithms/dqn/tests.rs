//! Golden vectors of the losses and of one gradient step.

use rookery_common::configuration::ReturnDistribution;
use rookery_common::policy::ImageEncoder;
use rookery_common::policy::forward::{Network, Scratch};
use rookery_common::spaces::{EnvironmentSpec, Space};
use serde::Deserialize;
use tch::Tensor;

use super::networks::Noise;
use super::update::{Record, StepNoise};
use super::*;
use crate::algorithms::replayed::Columns;
use crate::networks::NetworkError;
use crate::service::specify;
use crate::tensors::to_host;

const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Case {
    name: String,
    width: usize,
    /// Convolutions that the observation goes through.
    image: Option<ImageEncoder>,
    hidden: Vec<usize>,
    activation: rookery_common::policy::Activation,
    actions: usize,
    outputs: usize,
    double: bool,
    dueling: bool,
    noisy: bool,
    distribution: ReturnDistribution,
    v_min: f64,
    v_max: f64,
    huber_threshold: Option<f64>,
    learning_rate: f64,
    adam_epsilon: f64,
    max_gradient_norm: f64,
    initial: Vec<f32>,
    target: Vec<f32>,
    observations: Vec<f32>,
    next_observations: Vec<f32>,
    batch_actions: Vec<f32>,
    returns: Vec<f32>,
    discounts: Vec<f32>,
    weights: Vec<f32>,
    noises: Vec<Vec<f32>>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    loss: f64,
    surprise: Vec<f32>,
    gradient_norm: f64,
    parameters: Vec<f32>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../../tests/golden/dqn_steps.json")).unwrap()
}

impl Case {
    fn configuration(&self) -> Configuration {
        let mut configuration = Configuration::default();
        configuration.run.algorithm = rookery_common::configuration::Algorithm::Dqn;
        configuration.policy.hidden.clone_from(&self.hidden);
        configuration.policy.activation = self.activation;
        let dqn = &mut configuration.dqn;
        dqn.double = self.double;
        dqn.dueling = self.dueling;
        dqn.noisy = self.noisy;
        dqn.distribution = self.distribution;
        (dqn.num_atoms, dqn.num_quantiles) = (self.outputs, self.outputs);
        (dqn.v_min, dqn.v_max) = (self.v_min, self.v_max);
        dqn.huber_threshold = self.huber_threshold;
        dqn.learning_rate = self.learning_rate;
        dqn.adam_epsilon = self.adam_epsilon;
        dqn.max_gradient_norm = Some(self.max_gradient_norm);
        configuration
    }

    fn specification(&self) -> RunSpecification {
        let environment = EnvironmentSpec {
            id: "Golden-v0".to_owned(),
            arguments: BTreeMap::new(),
            observation: match &self.image {
                Some(image) => {
                    let planes = image.planes;
                    Space::planes(planes.channels, planes.rows, planes.columns)
                }
                None => Space::bounded(&vec![-9.0; self.width], &vec![9.0; self.width]),
            },
            action: Space::Discrete { n: self.actions },
            max_episode_steps: None,
            goal: None,
            wrappers: Vec::new(),
            action_mask: false,
        };
        let mut specification = specify(environment, &self.configuration()).unwrap();
        if let Some(image) = &self.image {
            let observation = &specification.environment.observation;
            let policy = specification.policy.clone();
            specification.policy = policy
                .with_image_encoder(observation, image.stages.clone())
                .unwrap();
        }
        specification
    }

    fn dqn(&self) -> Dqn {
        let (configuration, specification) = (self.configuration(), self.specification());
        let mut dqn = Dqn::configured(&configuration, &specification, Device::Cpu).unwrap();
        dqn.online.import(&self.initial).unwrap();
        dqn.target.import(&self.target).unwrap();
        dqn
    }

    fn columns(&self) -> Columns {
        let rows = |values: &[f32]| Tensor::from_slice(values).view([-1, self.width as i64]);
        let actions: Vec<i64> = self
            .batch_actions
            .iter()
            .map(|action| *action as i64)
            .collect();
        Columns {
            inputs: rows(&self.observations),
            next_inputs: rows(&self.next_observations),
            actions: Tensor::from_slice(&actions),
            returns: Tensor::from_slice(&self.returns),
            discounts: Tensor::from_slice(&self.discounts),
            weights: Tensor::from_slice(&self.weights),
        }
    }

    fn noise(&self, dqn: &Dqn) -> Option<StepNoise> {
        let noise = |values: &[f32]| Noise::from_host(dqn.network.layout(), values).unwrap();
        let [trained, chooses, target] = self.noises.as_slice() else {
            return None;
        };
        Some(StepNoise {
            trained: noise(trained),
            chooses: noise(chooses),
            target: noise(target),
        })
    }
}

fn all_close(name: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let distance = f64::from(got - expected).abs();
        assert!(
            distance < TOLERANCE,
            "{name}[{index}]: {got}, expected {expected}"
        );
    }
}

#[test]
fn t1_t27_t28_t29_losses_gradients_and_steps_agree_with_pytorch() {
    for case in cases() {
        let mut dqn = case.dqn();
        let noise = case.noise(&dqn);
        let mut record = Record::default();
        let surprise = dqn.gradient_step(
            &case.columns(),
            noise.as_ref(),
            case.learning_rate,
            &mut record,
        );
        let name = |what: &str| format!("{}, {what}", case.name);
        all_close(
            &name("surprise"),
            &to_host(&surprise),
            &case.expected.surprise,
        );
        all_close(
            &name("parameters"),
            &dqn.online.export(),
            &case.expected.parameters,
        );
        let statistics = record.finish(&dqn, 0, case.learning_rate);
        for (what, got, expected) in [
            ("loss", statistics.loss, case.expected.loss),
            (
                "norm",
                statistics.gradient_norm,
                case.expected.gradient_norm,
            ),
        ] {
            let got = got.unwrap();
            assert!(
                (got - expected).abs() < TOLERANCE,
                "{}: {got}, expected {expected}",
                name(what)
            );
        }
        assert_eq!(statistics.gradient_steps, 1);
        // The target network stands still.
        all_close(&name("target"), &dqn.target.export(), &case.target);
    }
}

#[test]
fn t29_probability_on_an_atom_stays_there_and_all_of_it_is_dealt_out() {
    let support = Tensor::from_slice(&[-1.0_f32, 0.0, 1.0]);
    // Certain of the return 1, which is discounted to an atom, between atoms, and beyond the support.
    let certain = Tensor::from_slice(&[-99.0_f32, -99.0, 99.0]).repeat([3, 1]);
    let returns = Tensor::from_slice(&[0.0_f32, 0.0, 7.0]);
    let discounts = Tensor::from_slice(&[0.0_f32, 0.25, 1.0]);
    let target = loss::projected(&certain, &returns, &discounts, &support);
    assert_eq!(
        to_host(&target),
        [0.0, 1.0, 0.0, 0.0, 0.75, 0.25, 0.0, 0.0, 1.0]
    );
}

#[test]
fn t29_noise_is_factorised_and_a_function_of_seed_update_and_draw() {
    let case = &cases()[3];
    let dqn = case.dqn();
    let draw = |seed, update, draw| dqn.network.noise(seed, update, draw, Device::Cpu).export();
    let noise = draw(1, 2, 3);
    assert_eq!(noise, draw(1, 2, 3));
    for other in [draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4)] {
        assert_ne!(noise, other);
    }
    let layout = dqn.network.layout();
    let slot = |name: &str| &noise[layout.find(name).unwrap().range()];
    assert!(slot("policy.0.weight").iter().all(|value| *value == 0.0));
    let (weight, bias) = (slot("policy.0.weight_sigma"), slot("policy.0.bias_sigma"));
    // Rank one: every row is the same inputs' noise times its own output's, which the bias has alone.
    let inputs: Vec<f32> = weight[..3].iter().map(|value| value / bias[0]).collect();
    for (row, output) in weight.chunks(3).zip(bias) {
        for (value, input) in row.iter().zip(&inputs) {
            assert!((value - input * output).abs() < 1e-5);
        }
    }
}

#[test]
fn what_acts_computes_what_is_trained() {
    for case in cases() {
        let dqn = case.dqn();
        let spec = case.specification().policy;
        let acts = Network::new(&spec, &dqn.policy_parameters()).unwrap();
        let mut outputs = vec![0.0; case.returns.len() * spec.head_width()];
        acts.forward(&mut Scratch::default(), &case.observations, &mut outputs);
        let trained = dqn.network.forward(&dqn.online, &case.columns().inputs);
        all_close(&case.name, &outputs, &to_host(&trained.contiguous()));
    }
}

#[test]
fn a_state_is_restored_and_another_networks_is_refused() {
    let cases = cases();
    let mut trained = cases[0].dqn();
    let _ = trained.gradient_step(&cases[0].columns(), None, 1e-3, &mut Record::default());
    let state = trained.state();
    let mut resumed = cases[0].dqn();
    assert_ne!(resumed.state(), state);
    resumed.restore(&state).unwrap();
    assert_eq!(resumed.state(), state);

    let mut other = cases[4].dqn();
    let before = other.state();
    assert!(matches!(
        other.restore(&state),
        Err(AlgorithmError::Adam(_) | AlgorithmError::Network(NetworkError::Parameters { .. }))
    ));
    assert_eq!(other.state(), before);
}
