//! Forward passes and log-probabilities against binary64 values made by
//! `scripts/golden/policy.py`.

#![expect(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

use rookery_common::normaliser::ObservationNormaliser;
use rookery_common::policy::distribution::{self, Categorical, DiagonalGaussian};
use rookery_common::policy::forward::{Network, Scratch};
use rookery_common::policy::{Head, Policy, PolicySpec, Workspace};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    spec: PolicySpec,
    parameters: Vec<f32>,
    normaliser: Option<ObservationNormaliser>,
    observations: Vec<f32>,
    outputs: Vec<f64>,
    actions: Vec<f32>,
    log_probs: Vec<f64>,
}

fn goldens() -> Vec<Golden> {
    serde_json::from_str(include_str!("golden/policy.json")).unwrap()
}

fn assert_close(got: f32, expected: f64) {
    assert!(
        (f64::from(got) - expected).abs() <= 1e-5 * expected.abs().max(1.0),
        "{got} {expected}"
    );
}

/// The head's outputs as the network computes them.
fn outputs(golden: &Golden) -> Vec<f32> {
    let network = Network::new(&golden.spec, &golden.parameters).unwrap();
    let mut observations = golden.observations.clone();
    if let Some(normaliser) = &golden.normaliser {
        normaliser.apply(&mut observations);
    }
    let mut outputs = vec![0.0; golden.outputs.len()];
    network.forward(&mut Scratch::default(), &observations, &mut outputs);
    outputs
}

#[test]
fn outputs_agree_with_binary64() {
    for golden in goldens() {
        for (got, expected) in outputs(&golden).iter().zip(&golden.outputs) {
            assert_close(*got, *expected);
        }
    }
}

#[test]
fn log_probs_of_given_actions_agree_with_binary64() {
    for golden in goldens() {
        let layout = golden.spec.layout();
        let actions = golden.actions.chunks(golden.spec.action_width());
        let heads = outputs(&golden);
        for ((head, action), expected) in heads
            .chunks(golden.spec.head_width())
            .zip(actions)
            .zip(&golden.log_probs)
        {
            let got = match golden.spec.head {
                Head::Categorical { .. } => Categorical::new(head).log_prob(action[0] as usize),
                Head::DiagonalGaussian { .. } => {
                    let log_std = layout.find("policy.log_std").unwrap().range();
                    DiagonalGaussian::new(&golden.parameters[log_std]).log_prob(head, action)
                }
                _ => panic!("made by another script"),
            };
            assert_close(got, *expected);
        }
    }
}

#[test]
fn greedy_actions_are_the_modes_of_the_outputs() {
    for golden in goldens() {
        let heads = outputs(&golden);
        let expected: Vec<f32> = match golden.spec.head {
            Head::Categorical { num_actions } => heads
                .chunks(num_actions)
                .map(|head| distribution::mode(head) as f32)
                .collect(),
            _ => heads,
        };
        let policy = Policy::new(golden.spec, &golden.parameters, golden.normaliser).unwrap();
        let mut actions = vec![0.0; expected.len()];
        policy.act_greedily(
            &mut Workspace::default(),
            &golden.observations,
            &mut actions,
        );
        assert_eq!(actions, expected);
    }
}
