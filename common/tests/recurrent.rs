//! Recurrent policies: forward passes over sequences against binary64 values made by
//! `scripts/golden/recurrent.py`, and what is laid out, written and refused.

#![expect(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

use std::collections::BTreeMap;

use rookery_common::configuration::Configuration;
use rookery_common::policy::forward::{Network, Scratch};
use rookery_common::policy::{
    Activation, Head, Inputs, PolicyArtifact, PolicySpec, Recurrent, RecurrentCell, SpecError,
};
use rookery_common::spaces::{EnvironmentSpec, Space};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    spec: PolicySpec,
    parameters: Vec<f32>,
    initial_state: Vec<f32>,
    observations: Vec<f32>,
    ended: Vec<bool>,
    outputs: Vec<f64>,
    last_state: Vec<f64>,
}

fn goldens() -> Vec<Golden> {
    serde_json::from_str(include_str!("golden/recurrent.json")).unwrap()
}

fn assert_close(got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        let distance = (f64::from(*got) - expected).abs();
        assert!(
            distance <= 1e-5 * expected.abs().max(1.0),
            "{got} {expected}"
        );
    }
}

#[test]
fn t17_sequences_with_episode_ends_agree_with_binary64() {
    for golden in goldens() {
        let network = Network::new(&golden.spec, &golden.parameters).unwrap();
        let state_width = golden.spec.state_width();
        let mut state = golden.initial_state.clone();
        let num_envs = state.len() / state_width;
        let mut outputs = Vec::new();
        let rows = num_envs * golden.spec.observation_width();
        for (observations, ended) in golden
            .observations
            .chunks(rows)
            .zip(golden.ended.chunks(num_envs))
        {
            let mut step = vec![0.0; num_envs * golden.spec.head_width()];
            let inputs = Inputs {
                observations,
                state: &mut state,
            };
            network.forward(&mut Scratch::default(), inputs, &mut step);
            outputs.extend(step);
            for (state, ended) in state.chunks_mut(state_width).zip(ended) {
                if *ended {
                    state.fill(0.0);
                }
            }
        }
        assert_close(&outputs, &golden.outputs);
        assert_close(&state, &golden.last_state);
    }
}

fn spec(cell: RecurrentCell, units: usize) -> Result<PolicySpec, SpecError> {
    let observation = Space::bounded(&[-1.0; 3], &[1.0; 3]);
    let action = Space::bounded(&[-1.0; 2], &[1.0; 2]);
    PolicySpec::new(&observation, &action, vec![4], Activation::Relu)?
        .with_recurrent(Some(Recurrent { cell, units }))
}

#[test]
fn the_layer_lies_before_the_head_with_pytorchs_names() {
    for (cell, gates, state_width) in [(RecurrentCell::Lstm, 20, 10), (RecurrentCell::Gru, 15, 5)] {
        let spec = spec(cell, 5).unwrap();
        let layout = spec.layout();
        let listed: Vec<_> = layout
            .tensors()
            .iter()
            .map(|tensor| (tensor.name(), tensor.shape()))
            .collect();
        let expected: [(&str, &[usize]); 9] = [
            ("policy.0.weight", &[4, 3]),
            ("policy.0.bias", &[4]),
            ("policy.recurrent.weight_ih", &[gates, 4]),
            ("policy.recurrent.bias_ih", &[gates]),
            ("policy.recurrent.weight_hh", &[gates, 5]),
            ("policy.recurrent.bias_hh", &[gates]),
            ("policy.head.weight", &[2, 5]),
            ("policy.head.bias", &[2]),
            ("policy.log_std", &[2]),
        ];
        assert_eq!(listed, expected);
        assert_eq!(spec.state_width(), state_width);
        assert_eq!((spec.trunk_width(), spec.feature_width()), (4, 5));
    }
}

#[test]
fn layers_that_cannot_be_are_refused_before_anything_is_laid_out() {
    use RecurrentCell::{Gru, Lstm};
    assert!(
        matches!(spec(Gru, 0), Err(SpecError::Width { field, .. }) if field == "recurrent.units")
    );
    assert_eq!(
        spec(Lstm, 1 << 23),
        Err(SpecError::RecurrentUnits {
            got: 1 << 23,
            most: 1 << 22
        })
    );
    // 4 (2^15)^2 of them meet the state alone.
    assert!(matches!(
        spec(Lstm, 1 << 15),
        Err(SpecError::Parameters { got }) if got > 1 << 32
    ));
    let mut values = spec(Gru, 5).unwrap();
    values.head = Head::Deterministic {
        low: vec![0.0],
        high: vec![1.0],
    };
    let head = "deterministic";
    assert_eq!(values.validate(), Err(SpecError::RecurrentHead { head }));
}

#[test]
fn a_recurrent_policy_survives_its_file() {
    for cell in [RecurrentCell::Lstm, RecurrentCell::Gru] {
        let spec = spec(cell, 5).unwrap();
        let artifact = PolicyArtifact {
            parameters: (0..spec.layout().len()).map(|i| i as f32).collect(),
            spec,
            environment: EnvironmentSpec {
                id: "Some-v0".to_owned(),
                arguments: BTreeMap::new(),
                observation: Space::bounded(&[-1.0; 3], &[1.0; 3]),
                action: Space::bounded(&[-1.0; 2], &[1.0; 2]),
                max_episode_steps: None,
                goal: None,
                wrappers: Vec::new(),
                action_mask: false,
            },
            version: 3,
            env_steps: 77,
            normaliser: None,
        };
        let bytes = artifact.to_bytes().unwrap();
        let read = PolicyArtifact::from_bytes(&bytes).unwrap();
        assert_eq!(read, artifact);
        assert_eq!(read.policy().unwrap().spec(), &artifact.spec);
    }
}

#[test]
fn what_a_recurrent_layer_does_not_go_with_is_refused_with_the_remedy() {
    let reasons = |text: &str| {
        let error = Configuration::parse(text).unwrap_err();
        let violations = error.violations.iter();
        violations.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        reasons("[policy]\nrecurrent = \"gru\"\nrecurrent_units = 0\n[ppo]\nminibatch_size = 200"),
        [
            "`policy.recurrent_units` (configuration): expected at least 1 and at most 65536, got 0",
            "`policy.recurrent` = \"gru\" (configuration), `policy.shared_trunk` = false (default): a \
             critic of its own would need a memory of its own; set policy.shared_trunk = true",
            "`policy.recurrent` = \"gru\" (configuration), `ppo.minibatch_size` = 200 (configuration), \
             `rollout.unroll_length` = 128 (default): minibatches are made of whole unrolls of \
             environments, whose steps are computed one after the other; set minibatch_size to a \
             multiple of 128, such as 256",
        ]
    );
    let text = "[policy]\nrecurrent = \"lstm\"\nshared_trunk = true\n[ppo]\nminibatch_size = 256";
    let configuration = Configuration::parse(text).unwrap();
    let recurrent = configuration.policy.recurrent_layer().unwrap();
    assert_eq!((recurrent.units, recurrent.state_width()), (64, 128));
    assert_eq!(
        Configuration::parse(&configuration.to_toml()).unwrap(),
        configuration
    );
}
