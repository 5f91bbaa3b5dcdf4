//! What a policy promises to those who act with it.

#![expect(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use rookery_common::normaliser::{ObservationNormaliser, RunningMoments};
use rookery_common::policy::forward::ShapeMismatch;
use rookery_common::policy::{
    Activation, Behaviour, Policy, PolicyArtifact, PolicyError, PolicySpec, Stage, Workspace,
};
use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::{EnvironmentSpec, Space};

fn draws(count: usize, position: u64) -> Vec<f32> {
    let mut random = Random::derive(13, Purpose::Initialisation, 0, position);
    (0..count)
        .map(|_| random.uniform(-1.0, 1.0) as f32)
        .collect()
}

fn boxed(width: usize) -> Space {
    Space::bounded(&vec![-1.0; width], &vec![1.0; width])
}

fn discrete_spec() -> PolicySpec {
    let action = Space::Discrete { n: 5 };
    PolicySpec::new(&boxed(6), &action, vec![32, 32], Activation::Tanh).unwrap()
}

fn continuous_spec() -> PolicySpec {
    PolicySpec::new(&boxed(6), &boxed(3), vec![24], Activation::Relu).unwrap()
}

fn normaliser() -> ObservationNormaliser {
    let mut moments = RunningMoments::new(6);
    moments.update(&draws(6 * 50, 1));
    ObservationNormaliser::from_moments(&moments, 10.0)
}

fn policy(spec: PolicySpec) -> Policy {
    let parameters = draws(spec.layout().len(), 2);
    Policy::new(spec, &parameters, Some(normaliser())).unwrap()
}

/// The stream of the `row`-th of the environments from `first` on.
fn streams(first: usize) -> impl FnMut(usize) -> Random {
    move |row| Random::derive(1, Purpose::Action, (first + row) as u64, 77)
}

/// Actions and log-probabilities as bits.
fn act(
    policy: &Policy,
    workspace: &mut Workspace,
    rows: &[f32],
    first: usize,
) -> (Vec<u32>, Vec<u32>) {
    let count = rows.len() / policy.spec().observation_width();
    let mut actions = vec![0.0; count * policy.spec().action_width()];
    let mut log_probs = vec![0.0; count];
    policy.act(
        workspace,
        Behaviour::OnPolicy,
        rows,
        streams(first),
        &mut actions,
        &mut log_probs,
    );
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    (bits(actions), bits(log_probs))
}

proptest! {
    /// However a fleet's environments are cut into batches, each gets the same action.
    #[test]
    fn cutting_a_batch_changes_no_bit(cuts in prop::collection::vec(1_usize..20, 1..8), seed: u64) {
        for spec in [discrete_spec(), continuous_spec()] {
            let policy = policy(spec);
            let rows: usize = cuts.iter().sum();
            let observations = draws(rows * 6, seed);
            let mut workspace = Workspace::default();
            let whole = act(&policy, &mut workspace, &observations, 0);
            let mut joined = (Vec::new(), Vec::new());
            let mut first = 0;
            for cut in &cuts {
                let part = &observations[first * 6..(first + cut) * 6];
                let (actions, log_probs) = act(&policy, &mut workspace, part, first);
                joined.0.extend(actions);
                joined.1.extend(log_probs);
                first += cut;
            }
            prop_assert_eq!(whole, joined);
        }
    }

    #[test]
    fn actions_lie_in_the_space_and_log_probs_are_those_of_a_distribution(seed: u64, scale in 0.0_f32..100.0) {
        let spec = discrete_spec();
        let parameters: Vec<f32> = draws(spec.layout().len(), seed).iter().map(|x| x * scale).collect();
        let policy = Policy::new(spec, &parameters, None).unwrap();
        let (mut actions, mut log_probs) = ([0.0; 30], [0.0; 30]);
        let observations = draws(180, seed ^ 1);
        policy.act(&mut Workspace::default(), Behaviour::OnPolicy, &observations, streams(0), &mut actions, &mut log_probs);
        let space = Space::Discrete { n: 5 };
        for (action, log_prob) in actions.iter().zip(log_probs) {
            prop_assert!(space.contains(&[*action]));
            prop_assert!(log_prob <= 0.0 && log_prob.is_finite());
        }
    }
}

#[test]
fn two_threads_share_one_version_and_agree() {
    let policy = std::sync::Arc::new(policy(discrete_spec()));
    let observations = draws(6 * 11, 3);
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (policy, observations) = (policy.clone(), observations.clone());
            std::thread::spawn(move || act(&policy, &mut Workspace::default(), &observations, 0))
        })
        .collect();
    let results: Vec<_> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(results[0], results[1]);
}

#[test]
fn the_normaliser_is_applied_to_a_copy() {
    let spec = continuous_spec();
    let parameters = draws(spec.layout().len(), 4);
    let observations = draws(6 * 4, 5);
    let mut normalised = observations.clone();
    normaliser().apply(&mut normalised);
    let greedy = |normaliser, observations: &[f32]| {
        let mut actions = [0.0; 12];
        let policy = Policy::new(spec.clone(), &parameters, normaliser).unwrap();
        policy.act_greedily(&mut Workspace::default(), observations, &mut actions);
        actions
    };
    assert_eq!(
        greedy(Some(normaliser()), &observations),
        greedy(None, &normalised)
    );
    assert_ne!(greedy(None, &observations), greedy(None, &normalised));
}

#[test]
fn sampled_frequencies_match_the_log_probs_reported_with_them() {
    let policy = policy(discrete_spec());
    let rows = 20_000;
    let observations = draws(6, 6).repeat(rows);
    let (mut actions, mut log_probs) = (vec![0.0; rows], vec![0.0; rows]);
    policy.act(
        &mut Workspace::default(),
        Behaviour::OnPolicy,
        &observations,
        streams(0),
        &mut actions,
        &mut log_probs,
    );
    let (mut chi_square, mut total) = (0.0, 0.0);
    for action in 0..5 {
        let chosen = || {
            actions
                .iter()
                .zip(&log_probs)
                .filter(|(a, _)| **a as usize == action)
        };
        let (_, log_prob) = chosen().next().expect("every action is drawn");
        let expected = rows as f64 * f64::from(*log_prob).exp();
        chi_square += (chosen().count() as f64 - expected).powi(2) / expected;
        total += expected / rows as f64;
    }
    assert!(
        (total - 1.0).abs() < 1e-6,
        "probabilities add up to {total}"
    );
    // The 99.9th percentile of chi-square with four degrees of freedom.
    assert!(chi_square < 18.47, "{chi_square}");
}

/// T24: the log-probability is that of the action as drawn, which lies beyond the bounds often
/// enough to be noticed.
#[test]
fn log_probs_are_those_of_unclipped_actions_t24() {
    let spec = PolicySpec::new(&boxed(1), &boxed(1), vec![], Activation::Tanh).unwrap();
    // Weight 0, mean 0.5, log standard deviation 1: most actions lie outside [-1, 1].
    let policy = Policy::new(spec, &[0.0, 0.5, 1.0], None).unwrap();
    let (mut actions, mut log_probs) = ([0.0; 200], [0.0; 200]);
    policy.act(
        &mut Workspace::default(),
        Behaviour::OnPolicy,
        &[0.0; 200],
        streams(0),
        &mut actions,
        &mut log_probs,
    );
    assert!(actions.iter().filter(|action| action.abs() > 1.0).count() > 100);
    for (action, log_prob) in actions.iter().zip(log_probs) {
        let z = (f64::from(*action) - 0.5) / std::f64::consts::E;
        let exact = -0.5 * z * z - 1.0 - 0.5 * std::f64::consts::TAU.ln();
        assert!((f64::from(log_prob) - exact).abs() < 1e-6);
    }
}

#[test]
fn overflowing_logits_give_a_legal_action_and_a_nan_log_prob() {
    let spec = PolicySpec::new(
        &boxed(1),
        &Space::Discrete { n: 2 },
        vec![],
        Activation::Tanh,
    )
    .unwrap();
    let policy = Policy::new(spec, &[f32::MAX, -f32::MAX, 0.0, 0.0], None).unwrap();
    let (mut action, mut log_prob) = ([0.0], [0.0]);
    policy.act(
        &mut Workspace::default(),
        Behaviour::OnPolicy,
        &[10.0],
        streams(0),
        &mut action,
        &mut log_prob,
    );
    assert_eq!(action, [1.0]);
    assert!(log_prob[0].is_nan());
}

#[test]
fn parameters_that_do_not_fit_are_refused() {
    let spec = continuous_spec();
    let count = spec.layout().len();
    let built = |parameters: &[f32], normaliser| {
        Policy::new(spec.clone(), parameters, normaliser).map(drop)
    };
    let good = draws(count, 7);
    assert_eq!(built(&good, Some(normaliser())), Ok(()));
    assert_eq!(
        built(&good[1..], None),
        Err(PolicyError::Shape(ShapeMismatch {
            expected: count,
            got: count - 1
        }))
    );
    let mut infinite = good.clone();
    infinite[6 * 24 + 3] = f32::INFINITY;
    assert_eq!(
        built(&infinite, None),
        Err(PolicyError::NonFinite {
            tensor: "policy.0.bias".to_owned(),
            index: 3,
            value: f32::INFINITY
        })
    );
    let narrow = ObservationNormaliser::from_moments(&RunningMoments::new(5), 10.0);
    assert_eq!(
        built(&good, Some(narrow)),
        Err(PolicyError::NormaliserWidth {
            expected: 6,
            got: 5
        })
    );
}

#[test]
fn indices_are_not_normalised() {
    let spec = PolicySpec::new(
        &Space::Discrete { n: 4 },
        &Space::Discrete { n: 2 },
        vec![8],
        Activation::Tanh,
    )
    .unwrap();
    let parameters = draws(spec.layout().len(), 8);
    let normaliser = ObservationNormaliser::from_moments(&RunningMoments::new(1), 10.0);
    let refused = Policy::new(spec, &parameters, Some(normaliser)).map(drop);
    assert_eq!(refused, Err(PolicyError::NormalisedIndices));
}

#[test]
fn a_policy_file_holds_convolutions() {
    let image = Space::planes(2, 7, 5);
    let action = Space::Discrete { n: 3 };
    let stages = [
        Stage::Convolution {
            channels: 5,
            kernel: 2,
            stride: 2,
        },
        Stage::Residual { channels: 3 },
    ];
    let spec = PolicySpec::new(&image, &action, vec![9], Activation::Relu).unwrap();
    let spec = spec.with_image_encoder(&image, stages.to_vec()).unwrap();
    assert!(spec.fits(&image, &action));
    assert!(!spec.fits(&Space::planes(2, 5, 7), &action));
    assert!(!spec.fits(&boxed(70), &action));
    let artifact = PolicyArtifact {
        parameters: draws(spec.layout().len(), 3),
        spec,
        environment: EnvironmentSpec {
            id: "Some-v0".to_owned(),
            arguments: BTreeMap::new(),
            observation: image,
            action,
            max_episode_steps: None,
            goal: None,
            wrappers: Vec::new(),
            action_mask: false,
        },
        version: 1,
        env_steps: 2,
        normaliser: None,
    };
    let bytes = artifact.to_bytes().unwrap();
    let read = PolicyArtifact::from_bytes(&bytes).unwrap();
    assert_eq!(read, artifact);
    let observations = draws(4 * 70, 5);
    let [ours, theirs] = [&artifact, &read].map(|artifact| {
        let policy = artifact.policy().unwrap();
        act(&policy, &mut Workspace::default(), &observations, 0)
    });
    assert_eq!(ours, theirs);
}
