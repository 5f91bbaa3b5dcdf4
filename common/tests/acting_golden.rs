//! How action values, squashed Gaussians and deterministic policies act, against binary64 values
//! made by `scripts/golden/acting.py`.

#![expect(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

use rookery_common::policy::forward::{Network, Scratch};
use rookery_common::policy::squashed::{Bounds, SquashedGaussian};
use rookery_common::policy::values::ActionValues;
use rookery_common::policy::{
    ApeX, Behaviour, Head, Policy, PolicySpec, ValueDistribution, Workspace,
};
use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::Space;
use rookery_common::unroll::ShardId;
use serde::Deserialize;

#[derive(Deserialize)]
struct Goldens {
    networks: Vec<NetworkCase>,
    behaviours: Vec<BehaviourCase>,
    epsilon_counts: Vec<EpsilonCount>,
    squashed_log_probs: Vec<SquashedLogProb>,
    ape_x: Vec<ApeXSeries>,
}

#[derive(Deserialize)]
struct NetworkCase {
    spec: PolicySpec,
    parameters: Vec<f32>,
    observations: Vec<f32>,
    outputs: Vec<f64>,
    values: Option<Vec<f64>>,
    noise: Option<NoiseAddress>,
    noisy_outputs: Option<Vec<f64>>,
}

#[derive(Deserialize)]
struct NoiseAddress {
    seed: u64,
    shard: u64,
    unroll: u64,
}

#[derive(Deserialize)]
struct BehaviourCase {
    network: usize,
    observations: Vec<f32>,
    behaviour: GoldenBehaviour,
    seed: u64,
    step: u64,
    actions: Vec<f32>,
    log_probs: Vec<f64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum GoldenBehaviour {
    OnPolicy,
    Uniform,
    EpsilonGreedy { epsilon: f64 },
    GaussianNoise { std: f64 },
}

impl From<GoldenBehaviour> for Behaviour {
    fn from(behaviour: GoldenBehaviour) -> Self {
        match behaviour {
            GoldenBehaviour::OnPolicy => Self::OnPolicy,
            GoldenBehaviour::Uniform => Self::Uniform,
            GoldenBehaviour::EpsilonGreedy { epsilon } => Self::EpsilonGreedy { epsilon },
            GoldenBehaviour::GaussianNoise { std } => Self::GaussianNoise { std },
        }
    }
}

#[derive(Deserialize)]
struct EpsilonCount {
    seed: u64,
    step: u64,
    epsilon: f64,
    greedy: usize,
    counts: Vec<u32>,
}

#[derive(Deserialize)]
struct SquashedLogProb {
    low: Vec<f32>,
    high: Vec<f32>,
    outputs: Vec<f32>,
    draw: Vec<f32>,
    log_prob: f64,
}

#[derive(Deserialize)]
struct ApeXSeries {
    base: f64,
    alpha: f64,
    num_shards: u32,
    epsilons: Vec<f64>,
}

fn goldens() -> Goldens {
    serde_json::from_str(include_str!("golden/acting.json")).unwrap()
}

fn assert_close(got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!(
            (f64::from(*got) - expected).abs() <= 1e-5 * expected.abs().max(1.0),
            "{got} {expected}"
        );
    }
}

fn outputs(network: &Network, case: &NetworkCase) -> Vec<f32> {
    let mut outputs = vec![0.0; case.outputs.len()];
    network.forward(&mut Scratch::default(), &case.observations, &mut outputs);
    outputs
}

#[test]
fn outputs_agree_with_binary64() {
    for case in goldens().networks {
        let network = Network::new(&case.spec, &case.parameters).unwrap();
        assert_close(&outputs(&network, &case), &case.outputs);
    }
}

#[test]
fn t29_noise_perturbs_every_layer_as_the_paper_says() {
    let mut num_noisy = 0;
    for case in goldens().networks {
        let network = Network::new(&case.spec, &case.parameters).unwrap();
        let (Some(address), Some(expected)) = (&case.noise, &case.noisy_outputs) else {
            assert!(network.with_noise(&mut noise(0, 0, 0)).is_none());
            continue;
        };
        let mut random = noise(address.seed, address.shard, address.unroll);
        let noisy = network.with_noise(&mut random).unwrap();
        assert_close(&outputs(&noisy, &case), expected);
        num_noisy += 1;
    }
    assert_eq!(num_noisy, 4);
}

fn noise(seed: u64, shard: u64, unroll: u64) -> Random {
    Random::derive(seed, Purpose::Noise, shard, unroll)
}

#[test]
fn t29_actions_are_worth_their_expected_return() {
    for case in goldens().networks {
        let Head::ActionValues {
            num_actions,
            distribution,
            ..
        } = case.spec.head
        else {
            continue;
        };
        let network = Network::new(&case.spec, &case.parameters).unwrap();
        let values: Vec<f32> = outputs(&network, &case)
            .chunks(case.spec.head_width())
            .flat_map(|row| {
                let values = ActionValues::new(row, distribution);
                (0..num_actions)
                    .map(|action| values.value(action))
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_close(&values, case.values.as_ref().unwrap());
    }
}

#[test]
fn every_behaviour_draws_the_actions_and_log_probs_of_binary64() {
    let goldens = goldens();
    for case in &goldens.behaviours {
        let NetworkCase {
            spec, parameters, ..
        } = &goldens.networks[case.network];
        let policy = Policy::new(spec.clone(), parameters, None).unwrap();
        let mut actions = vec![0.0; case.actions.len()];
        let mut log_probs = vec![0.0; case.log_probs.len()];
        policy.act(
            &mut Workspace::default(),
            case.behaviour.into(),
            &case.observations,
            |env| Random::derive(case.seed, Purpose::Action, env as u64, case.step),
            &mut actions,
            &mut log_probs,
        );
        if spec.head.num_actions().is_some() {
            assert_eq!(actions, case.actions);
        } else {
            let expected: Vec<f64> = case.actions.iter().copied().map(f64::from).collect();
            assert_close(&actions, &expected);
        }
        assert_close(&log_probs, &case.log_probs);
    }
}

#[test]
fn epsilon_greedy_takes_each_action_as_often_as_its_streams_say() {
    for case in goldens().epsilon_counts {
        // A linear network without weights: its biases are the values.
        let num_actions = case.counts.len();
        let spec = PolicySpec::action_values(
            &Space::bounded(&[0.0], &[1.0]),
            &Space::Discrete { n: num_actions },
            vec![],
            rookery_common::policy::Activation::Relu,
            false,
            ValueDistribution::Expectation,
            false,
        )
        .unwrap();
        let mut parameters = vec![0.0; 2 * num_actions];
        parameters[num_actions + case.greedy] = 1.0;
        let policy = Policy::new(spec, &parameters, None).unwrap();
        let rows = case.counts.iter().sum::<u32>() as usize;
        let (mut actions, mut log_probs) = (vec![0.0; rows], vec![0.0; rows]);
        policy.act(
            &mut Workspace::default(),
            Behaviour::EpsilonGreedy {
                epsilon: case.epsilon,
            },
            &vec![0.0; rows],
            |env| Random::derive(case.seed, Purpose::Action, env as u64, case.step),
            &mut actions,
            &mut log_probs,
        );
        let mut counts = vec![0; num_actions];
        for (action, log_prob) in actions.iter().zip(&log_probs) {
            let action = *action as usize;
            counts[action] += 1;
            let by_chance = case.epsilon / num_actions as f64;
            let greedy = if action == case.greedy {
                1.0 - case.epsilon
            } else {
                0.0
            };
            assert!((f64::from(*log_prob).exp() - by_chance - greedy).abs() < 1e-7);
        }
        assert_eq!(counts, case.counts);
    }
}

#[test]
fn t25_squashed_log_probs_agree_with_binary64_far_out_in_the_tails() {
    for case in goldens().squashed_log_probs {
        let gaussian = SquashedGaussian::new(Bounds::new(&case.low, &case.high));
        let got = gaussian.log_prob(&case.outputs, &case.draw);
        assert_close(&[got], &[case.log_prob]);
    }
}

#[test]
fn t30_each_shard_has_the_epsilon_of_ape_x() {
    for case in goldens().ape_x {
        let series = ApeX {
            base: case.base,
            alpha: case.alpha,
            num_shards: case.num_shards,
        };
        assert_eq!(case.epsilons.len(), case.num_shards as usize);
        for (shard, expected) in (0..).zip(&case.epsilons) {
            let got = series.epsilon(ShardId(shard));
            assert!(
                (got - expected).abs() <= 1e-14 * expected,
                "{got} {expected}"
            );
            // A fleet that outgrows the series begins it again.
            assert_eq!(series.epsilon(ShardId(shard + case.num_shards)), got);
        }
    }
}
