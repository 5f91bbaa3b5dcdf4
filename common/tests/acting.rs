//! What acting off policy promises: whatever a run explores by.

#![expect(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use rookery_common::normaliser::ObservationNormaliser;
use rookery_common::policy::exploration::{EPSILON, NOISE_HOLD, UNIFORM};
use rookery_common::policy::values::ActionValues;
use rookery_common::policy::{
    Acting, Activation, ApeX, ArtifactError, Behaviour, Exploration, Policy, PolicyArtifact,
    PolicySpec, ValueDistribution, Workspace,
};
use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::{EnvironmentSpec, Space};
use rookery_common::unroll::ShardId;

const C51: ValueDistribution = ValueDistribution::Categorical {
    num_atoms: 21,
    v_min: -2.0,
    v_max: 2.0,
};

fn draws(count: usize, position: u64) -> Vec<f32> {
    let mut random = Random::derive(17, Purpose::Initialisation, 0, position);
    (0..count)
        .map(|_| random.uniform(-1.0, 1.0) as f32)
        .collect()
}

fn observation() -> Space {
    Space::bounded(&[-1.0; 6], &[1.0; 6])
}

fn values(dueling: bool, distribution: ValueDistribution, noisy: bool) -> PolicySpec {
    let action = Space::Discrete { n: 5 };
    let (hidden, relu) = (vec![32, 16], Activation::Relu);
    PolicySpec::action_values(
        &observation(),
        &action,
        hidden,
        relu,
        dueling,
        distribution,
        noisy,
    )
    .unwrap()
}

fn box_space() -> Space {
    Space::bounded(&[-2.0, 0.0, -0.125], &[2.0, 0.5, 1e6])
}

fn squashed(action: &Space) -> PolicySpec {
    PolicySpec::squashed_gaussian(&observation(), action, vec![24], Activation::Relu).unwrap()
}

fn deterministic(action: &Space) -> PolicySpec {
    PolicySpec::deterministic(&observation(), action, vec![24], Activation::Tanh).unwrap()
}

/// Every head with every behaviour that suits it, and the space of its actions.
fn combinations() -> Vec<(PolicySpec, Behaviour, Space)> {
    let greedy = Behaviour::EpsilonGreedy { epsilon: 0.4 };
    let noise = Behaviour::GaussianNoise { std: 0.5 };
    let discrete = || Space::Discrete { n: 5 };
    let quantiles = ValueDistribution::Quantiles { num_quantiles: 7 };
    vec![
        (
            values(true, ValueDistribution::Expectation, false),
            greedy,
            discrete(),
        ),
        (values(true, C51, true), greedy, discrete()),
        (
            values(false, quantiles, false),
            Behaviour::OnPolicy,
            discrete(),
        ),
        (values(false, C51, false), Behaviour::Uniform, discrete()),
        (squashed(&box_space()), Behaviour::OnPolicy, box_space()),
        (squashed(&box_space()), Behaviour::Uniform, box_space()),
        (
            deterministic(&box_space()),
            Behaviour::OnPolicy,
            box_space(),
        ),
        (deterministic(&box_space()), Behaviour::Uniform, box_space()),
        (deterministic(&box_space()), noise, box_space()),
    ]
}

fn policy(spec: PolicySpec) -> Policy {
    let parameters = draws(spec.layout().len(), 2);
    Policy::new(spec, &parameters, None).unwrap()
}

/// Actions and log-probabilities of the environments from `first` on.
fn act(
    policy: &Policy,
    workspace: &mut Workspace,
    behaviour: Behaviour,
    observations: &[f32],
    first: usize,
) -> (Vec<f32>, Vec<f32>) {
    let rows = observations.len() / policy.spec().observation_width();
    let mut actions = vec![0.0; rows * policy.spec().action_width()];
    let mut log_probs = vec![0.0; rows];
    policy.act(
        workspace,
        behaviour,
        observations,
        |row| Random::derive(3, Purpose::Action, (first + row) as u64, 77),
        &mut actions,
        &mut log_probs,
    );
    (actions, log_probs)
}

fn greedy(policy: &Policy, observations: &[f32]) -> Vec<f32> {
    let rows = observations.len() / policy.spec().observation_width();
    let mut actions = vec![0.0; rows * policy.spec().action_width()];
    policy.act_greedily(&mut Workspace::default(), observations, &mut actions);
    actions
}

/// Every head that chooses, with every behaviour, where masks forbid what they forbid.
#[test]
fn what_a_mask_forbids_is_never_done_and_the_rest_is_as_probable_as_it_is_often_done() {
    let several = Space::MultiDiscrete { nvec: vec![3, 2] };
    let (relu, hidden) = (Activation::Relu, || vec![8]);
    let wide = Space::bounded(&[-1.0; 11], &[1.0; 11]);
    let choices = PolicySpec::new(&wide, &several, hidden(), relu).unwrap();
    let one = PolicySpec::new(&wide, &Space::Discrete { n: 5 }, hidden(), relu).unwrap();
    let values = |distribution| {
        let action = Space::Discrete { n: 5 };
        PolicySpec::action_values(&wide, &action, hidden(), relu, true, distribution, false)
            .unwrap()
    };
    let greedily = Behaviour::EpsilonGreedy { epsilon: 0.5 };
    for (spec, behaviour) in [
        (choices.clone(), Behaviour::OnPolicy),
        (choices, Behaviour::Uniform),
        (one, Behaviour::OnPolicy),
        (values(ValueDistribution::Expectation), greedily),
        (values(C51), greedily),
        (values(C51), Behaviour::Uniform),
    ] {
        let policy = policy(spec.with_action_mask(true).unwrap());
        let is_several = policy.spec().action_width() == 2;
        let mut seen = draws(11, 5);
        seen[6..].copy_from_slice(&[0.0, 1.0, 1.0, 0.0, 1.0]);
        let possible = |action: &[f32]| {
            let second = if is_several {
                3 + action[1] as usize
            } else {
                2
            };
            seen[6 + action[0] as usize] == 1.0 && seen[6 + second] == 1.0
        };
        let rows = 4_000;
        let batch = seen.repeat(rows);
        let (actions, log_probs) = act(&policy, &mut Workspace::default(), behaviour, &batch, 0);
        let width = policy.spec().action_width();
        let mut seen_often: BTreeMap<Vec<u32>, (f64, usize)> = BTreeMap::new();
        for (action, log_prob) in actions.chunks_exact(width).zip(&log_probs) {
            assert!(possible(action), "{action:?}");
            let entry = seen_often.entry(bits(action)).or_default();
            *entry = (f64::from(*log_prob).exp(), entry.1 + 1);
        }
        let total: f64 = seen_often
            .values()
            .map(|(probability, _)| probability)
            .sum();
        assert!((total - 1.0).abs() < 1e-5, "{total} of {seen_often:?}");
        for (probability, count) in seen_often.values() {
            let expected = probability * rows as f64;
            let error = 5.0 * (expected * (1.0 - probability)).sqrt() + 1.0;
            assert!((*count as f64 - expected).abs() < error, "{seen_often:?}");
        }
        assert!(possible(&greedy(&policy, &seen)));
        // Where nothing can be done there is no probability, which no learner takes.
        seen[6..].fill(0.0);
        let (_, log_probs) = act(&policy, &mut Workspace::default(), behaviour, &seen, 0);
        assert!(log_probs[0].is_nan());
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    /// However a fleet's environments are cut into batches, each gets the same action.
    #[test]
    fn cutting_a_batch_changes_no_bit(cuts in prop::collection::vec(1_usize..20, 1..6), seed: u64) {
        let rows: usize = cuts.iter().sum();
        let observations = draws(rows * 6, seed);
        let mut workspace = Workspace::default();
        for (spec, behaviour, _) in combinations() {
            let policy = policy(spec);
            let whole = act(&policy, &mut workspace, behaviour, &observations, 0);
            let (mut actions, mut log_probs, mut first) = (Vec::new(), Vec::new(), 0);
            for cut in &cuts {
                let part = &observations[first * 6..(first + cut) * 6];
                let part = act(&policy, &mut workspace, behaviour, part, first);
                actions.extend(part.0);
                log_probs.extend(part.1);
                first += cut;
            }
            prop_assert_eq!(bits(&whole.0), bits(&actions));
            prop_assert_eq!(bits(&whole.1), bits(&log_probs));
        }
    }

    /// However large the outputs and wherever the bounds, no rounding takes an action over them.
    #[test]
    fn t25_actions_never_leave_their_bounds(
        bounds in prop::collection::vec((-1e30_f32..1e30, 0.0_f32..1e30, -30_i32..1), 3),
        scale in 0.0_f32..1e4,
        seed: u64,
    ) {
        let (low, high): (Vec<f32>, Vec<f32>) = bounds
            .into_iter()
            .map(|(low, extent, shrink)| {
                let low = low * 10_f32.powi(shrink);
                (low, (low + extent * 10_f32.powi(shrink)).max(low.next_up()))
            })
            .unzip();
        let space = Space::bounded(&low, &high);
        for (spec, behaviour) in [
            (squashed(&space), Behaviour::OnPolicy),
            (squashed(&space), Behaviour::Uniform),
            (deterministic(&space), Behaviour::OnPolicy),
            (deterministic(&space), Behaviour::Uniform),
            (deterministic(&space), Behaviour::GaussianNoise { std: 2.0 }),
        ] {
            let parameters: Vec<f32> = draws(spec.layout().len(), seed)
                .iter()
                .map(|parameter| parameter * scale)
                .collect();
            let policy = Policy::new(spec, &parameters, None).unwrap();
            let observations = draws(60, seed ^ 1);
            let (actions, log_probs) =
                act(&policy, &mut Workspace::default(), behaviour, &observations, 0);
            for action in actions.chunks(3).chain(greedy(&policy, &observations).chunks(3)) {
                prop_assert!(space.contains(action), "{action:?} {space:?}");
            }
            prop_assert!(log_probs.iter().all(|log_prob| log_prob.is_finite()));
        }
    }
}

#[test]
fn actions_lie_in_the_space_and_differ_from_those_that_are_preferred() {
    let observations = draws(6 * 200, 4);
    for (spec, behaviour, space) in combinations() {
        let policy = policy(spec);
        let (actions, log_probs) = act(
            &policy,
            &mut Workspace::default(),
            behaviour,
            &observations,
            0,
        );
        let width = space.width();
        assert!(actions.chunks(width).all(|action| space.contains(action)));
        assert!(log_probs.iter().all(|log_prob| log_prob.is_finite()));
        let preferred = greedy(&policy, &observations);
        let has_chance = behaviour != Behaviour::OnPolicy
            || matches!(
                policy.spec().head,
                rookery_common::policy::Head::SquashedGaussian { .. }
            );
        assert_eq!(actions != preferred, has_chance, "{behaviour:?}");
    }
}

#[test]
fn t29_noise_is_that_of_its_shard_and_unroll() {
    let policy = policy(values(true, C51, true));
    let observations = draws(6 * 300, 5);
    let noisy = |seed, shard, unroll| {
        let noisy = policy
            .with_noise(&mut Random::derive(seed, Purpose::Noise, shard, unroll))
            .unwrap();
        // A draw has no noise left to draw.
        assert!(
            noisy
                .with_noise(&mut Random::derive(seed, Purpose::Noise, shard, unroll))
                .is_none()
        );
        act(
            &noisy,
            &mut Workspace::default(),
            Behaviour::OnPolicy,
            &observations,
            0,
        )
        .0
    };
    let reference = noisy(1, 2, 3);
    assert_eq!(reference, noisy(1, 2, 3));
    let means = greedy(&policy, &observations);
    for other in [noisy(1, 2, 4), noisy(1, 3, 3), noisy(2, 2, 3), means] {
        assert_ne!(reference, other);
    }
}

#[test]
fn noise_without_standard_deviation_is_none() {
    let spec = values(false, ValueDistribution::Expectation, true);
    let mut parameters = draws(spec.layout().len(), 6);
    for tensor in spec.layout().tensors() {
        if tensor.name().ends_with("_sigma") {
            parameters[tensor.range()].fill(0.0);
        }
    }
    let policy = Policy::new(spec, &parameters, None).unwrap();
    let noisy = policy
        .with_noise(&mut Random::derive(1, Purpose::Noise, 0, 0))
        .unwrap();
    let observations = draws(6 * 50, 7);
    assert_eq!(
        greedy(&noisy, &observations),
        greedy(&policy, &observations)
    );
}

/// Tabular Q-learning is a network without hidden layers over unit vectors.
#[test]
fn a_table_acts_as_a_table() {
    let (num_states, num_actions) = (16, 4);
    let table = draws(num_states * num_actions, 8);
    let value = |state: usize, action: usize| table[state * num_actions + action];
    let spec = PolicySpec::action_values(
        &Space::Discrete { n: num_states },
        &Space::Discrete { n: num_actions },
        vec![],
        Activation::Relu,
        false,
        ValueDistribution::Expectation,
        false,
    )
    .unwrap();
    // The head's weight is `[num_actions, num_states]`, its bias zero.
    let mut parameters = vec![0.0; (num_states + 1) * num_actions];
    for state in 0..num_states {
        for action in 0..num_actions {
            parameters[action * num_states + state] = value(state, action);
        }
    }
    let network = rookery_common::policy::forward::Network::new(&spec, &parameters).unwrap();
    let states: Vec<f32> = (0..num_states).map(|state| state as f32).collect();
    let mut outputs = vec![0.0; table.len()];
    network.forward(
        &mut rookery_common::policy::forward::Scratch::default(),
        &states,
        &mut outputs,
    );
    assert_eq!(bits(&outputs), bits(&table));

    let policy = Policy::new(spec, &parameters, None).unwrap();
    for (state, action) in greedy(&policy, &states).into_iter().enumerate() {
        let best = (0..num_actions)
            .map(|action| value(state, action))
            .fold(f32::MIN, f32::max);
        assert_eq!(value(state, action as usize), best);
    }
}

#[test]
fn values_that_overflowed_give_a_legal_action_and_a_nan_log_prob() {
    let spec = values(false, ValueDistribution::Expectation, false);
    let policy = Policy::new(spec.clone(), &vec![f32::MAX; spec.layout().len()], None).unwrap();
    for behaviour in [
        Behaviour::OnPolicy,
        Behaviour::EpsilonGreedy { epsilon: 0.5 },
    ] {
        let (actions, log_probs) = act(&policy, &mut Workspace::default(), behaviour, &[1.0; 6], 0);
        assert!(Space::Discrete { n: 5 }.contains(&actions));
        assert!(log_probs[0].is_nan());
    }
}

#[test]
#[should_panic(expected = "does not suit the head squashed_gaussian")]
fn a_behaviour_that_does_not_suit_the_head_is_refused() {
    let policy = policy(squashed(&box_space()));
    let epsilon = Behaviour::EpsilonGreedy { epsilon: 0.1 };
    act(&policy, &mut Workspace::default(), epsilon, &[0.0; 6], 0);
}

fn scalars(entries: &[(&str, f64)]) -> BTreeMap<String, f64> {
    entries
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect()
}

const PER_SHARD: Exploration = Exploration::EpsilonGreedy {
    per_shard: Some(ApeX {
        base: 0.4,
        alpha: 7.0,
        num_shards: 4,
    }),
};

#[test]
fn a_version_says_how_its_shards_behave() {
    let behaviour =
        |spec: &PolicySpec, exploration: Exploration, entries: &[(&str, f64)], shard| {
            Acting::new(spec, &exploration, &scalars(entries))
                .unwrap()
                .behaviour(ShardId(shard))
        };
    let values = values(false, ValueDistribution::Expectation, false);
    let scheduled = Exploration::EpsilonGreedy { per_shard: None };
    assert_eq!(
        behaviour(&values, scheduled, &[(EPSILON, 0.25), ("loss", -1.0)], 9),
        Behaviour::EpsilonGreedy { epsilon: 0.25 }
    );
    assert_eq!(
        behaviour(&values, scheduled, &[(EPSILON, 0.25), (UNIFORM, 1.0)], 9),
        Behaviour::Uniform
    );
    assert_eq!(
        behaviour(&values, PER_SHARD, &[(UNIFORM, 0.0)], 0),
        Behaviour::EpsilonGreedy { epsilon: 0.4 }
    );
    assert_eq!(
        behaviour(&values, Exploration::None, &[], 0),
        Behaviour::OnPolicy
    );
    let td3 = deterministic(&box_space());
    let noise = Exploration::GaussianNoise { std: 0.1 };
    assert_eq!(
        behaviour(&td3, noise, &[], 0),
        Behaviour::GaussianNoise { std: 0.1 }
    );
    assert_eq!(
        behaviour(&td3, noise, &[(UNIFORM, 1.0)], 0),
        Behaviour::Uniform
    );
}

/// T30: an environment keeps its epsilon whoever collects it and however many collect.
#[test]
fn t30_epsilon_depends_on_the_shard_alone() {
    let values = values(false, ValueDistribution::Expectation, false);
    let epsilon = |version: &Acting, shard| match version.behaviour(ShardId(shard)) {
        Behaviour::EpsilonGreedy { epsilon } => epsilon,
        other => panic!("{other:?}"),
    };
    let first = Acting::new(&values, &PER_SHARD, &scalars(&[])).unwrap();
    let later = Acting::new(&values, &PER_SHARD, &scalars(&[(EPSILON, 0.9)])).unwrap();
    let epsilons: Vec<f64> = (0..4).map(|shard| epsilon(&first, shard)).collect();
    assert!(epsilons.is_sorted_by(|a, b| a > b), "{epsilons:?}");
    for shard in 0..4 {
        assert_eq!(epsilon(&later, shard), epsilons[shard as usize]);
    }
}

#[test]
fn versions_without_sound_scalars_are_refused_with_the_field() {
    let values = values(false, ValueDistribution::Expectation, false);
    let gaussian =
        PolicySpec::new(&observation(), &box_space(), vec![4], Activation::Tanh).unwrap();
    let scheduled = Exploration::EpsilonGreedy { per_shard: None };
    for (spec, exploration, entries, field) in [
        (&values, scheduled, vec![], "acting.epsilon"),
        (&values, scheduled, vec![(UNIFORM, 1.0)], "acting.epsilon"),
        (&values, scheduled, vec![(EPSILON, -0.1)], "acting.epsilon"),
        (&values, scheduled, vec![(EPSILON, 1.1)], "acting.epsilon"),
        (
            &values,
            scheduled,
            vec![(EPSILON, f64::NAN)],
            "acting.epsilon",
        ),
        (&values, PER_SHARD, vec![(UNIFORM, 0.5)], "acting.uniform"),
        (
            &values,
            Exploration::None,
            vec![(UNIFORM, f64::NAN)],
            "acting.uniform",
        ),
        (
            &gaussian,
            Exploration::None,
            vec![(UNIFORM, 1.0)],
            "acting.uniform",
        ),
        (
            &gaussian,
            Exploration::None,
            vec![(NOISE_HOLD, 0.0)],
            "acting.noise_hold",
        ),
        (
            &gaussian,
            Exploration::None,
            vec![(NOISE_HOLD, 2.5)],
            "acting.noise_hold",
        ),
        (&gaussian, scheduled, vec![(EPSILON, 0.1)], "exploration"),
    ] {
        let refused = Acting::new(spec, &exploration, &scalars(&entries)).unwrap_err();
        assert_eq!(refused.field, field, "{refused}");
    }
    assert_eq!(
        Acting::new(&values, &scheduled, &scalars(&[]))
            .unwrap_err()
            .to_string(),
        "`acting.epsilon` is absent, expected a probability from 0 to 1 with every version"
    );
}

#[test]
fn explorations_out_of_range_are_refused_with_the_option() {
    let head = values(false, ValueDistribution::Expectation, false).head;
    let series = |base, alpha, num_shards| Exploration::EpsilonGreedy {
        per_shard: Some(ApeX {
            base,
            alpha,
            num_shards,
        }),
    };
    assert_eq!(series(1.0, 0.0, 1).validate(&head), Ok(()));
    for (exploration, option) in [
        (series(0.0, 7.0, 4), "base"),
        (series(1.5, 7.0, 4), "base"),
        (series(f64::NAN, 7.0, 4), "base"),
        (series(0.4, -1.0, 4), "alpha"),
        (series(0.4, f64::INFINITY, 4), "alpha"),
        (series(0.4, 7.0, 0), "num_shards"),
    ] {
        let refused = exploration.validate(&head).unwrap_err();
        assert_eq!(
            refused.field,
            format!("exploration.epsilon_greedy.per_shard.{option}")
        );
    }
    let head = deterministic(&box_space()).head;
    for std in [0.0, -0.1, f64::NAN, f64::INFINITY] {
        let refused = Exploration::GaussianNoise { std }.validate(&head);
        assert_eq!(refused.unwrap_err().field, "exploration.gaussian_noise.std");
    }
}

#[test]
fn a_policy_file_holds_every_head() {
    for (spec, _, action) in combinations() {
        let artifact = PolicyArtifact {
            parameters: draws(spec.layout().len(), 9),
            spec,
            environment: EnvironmentSpec {
                id: "Handmade-v0".to_owned(),
                arguments: BTreeMap::new(),
                observation: observation(),
                action,
                max_episode_steps: None,
                goal: None,
                wrappers: Vec::new(),
                action_mask: false,
            },
            version: 12,
            env_steps: 3456,
            normaliser: Some(ObservationNormaliser::new(vec![0.5; 6], vec![2.0; 6], 10.0).unwrap()),
        };
        let bytes = artifact.to_bytes().unwrap();
        let read = PolicyArtifact::from_bytes(&bytes).unwrap();
        assert_eq!(read, artifact);
        let observations = draws(6 * 20, 10);
        assert_eq!(
            greedy(&read.policy().unwrap(), &observations),
            greedy(&artifact.policy().unwrap(), &observations)
        );
        let cut = PolicyArtifact::from_bytes(&bytes[..bytes.len() - 4]);
        assert!(matches!(cut, Err(ArtifactError::Tensors(_))));
    }
}

#[test]
fn expected_values_and_greedy_actions_agree() {
    for distribution in [ValueDistribution::Expectation, C51] {
        for position in 0..50 {
            let outputs = draws(5 * distribution.num_outputs(), 100 + position);
            let values = ActionValues::new(&outputs, distribution);
            let greedy = values.greedy();
            assert!(greedy.is_sound);
            for action in 0..5 {
                assert!(values.value(action) <= values.value(greedy.action));
            }
        }
    }
}
