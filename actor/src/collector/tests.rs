use rookery_common::policy::exploration::{EPSILON, NOISE_HOLD, UNIFORM};
use rookery_common::policy::{
    Activation, ApeX, Behaviour, Exploration, Inputs, PolicySpec, Recurrent, RecurrentCell,
    SpecError, ValueDistribution,
};
use rookery_common::spaces::EnvironmentSpec;
use rookery_common::unroll::FrameLayout;
use rookery_common::wrappers::StackPadding;

use super::*;

mod faults;
mod overlap;

const UNROLL_LENGTH: usize = 5;
const ENVS_PER_SHARD: usize = 3;
const SEED: u64 = 21;

const APE_X: Exploration = Exploration::EpsilonGreedy {
    per_shard: Some(ApeX {
        base: 0.6,
        alpha: 1.0,
        num_shards: 4,
    }),
};

fn spec_of(id: &str) -> EnvironmentSpec {
    let environment = environments::make(id, &BTreeMap::new(), 1).unwrap();
    environment.spec().clone()
}

fn values(environment: &EnvironmentSpec, noisy: bool) -> Result<PolicySpec, SpecError> {
    PolicySpec::action_values(
        &environment.observation,
        &environment.action,
        vec![16],
        Activation::Relu,
        true,
        ValueDistribution::Quantiles { num_quantiles: 5 },
        noisy,
    )
}

/// One version of a run: its parameters differ from those of the others.
fn version(
    spec: &PolicySpec,
    exploration: Exploration,
    number: u64,
    scalars: &[(&str, f64)],
) -> Instruction {
    let mut random = Random::derive(SEED, Purpose::Initialisation, number, 0);
    let parameters: Vec<f32> = (0..spec.layout().len())
        .map(|_| random.uniform(-1.0, 1.0) as f32)
        .collect();
    let scalars = scalars
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect();
    let version = ActingPolicy {
        policy: Policy::new(spec.clone(), &parameters, None).unwrap(),
        acting: Acting::new(spec, &exploration, &scalars).unwrap(),
    };
    Instruction::Policy(number, Arc::new(version))
}

fn collector(environment: &EnvironmentSpec, lag: u64) -> Collector {
    remembering(environment, lag, 0)
}

fn remembering(environment: &EnvironmentSpec, lag: u64, state_width: usize) -> Collector {
    let plan = CollectionPlan {
        run_id: "run".to_owned(),
        learner_epoch: 1,
        seed: SEED,
        shape: UnrollShape {
            unroll_length: UNROLL_LENGTH,
            envs_per_shard: ENVS_PER_SHARD,
            observation_width: environment.observation.width(),
            action_width: environment.action.width(),
            state_width,
            frames: FrameLayout::of(&environment.observation),
        },
        pacing: Pacing::Synchronous { lag },
        environment: environment.id.clone(),
        arguments: BTreeMap::new(),
        wrappers: environment.wrappers.clone(),
    };
    // These tests give instructions and take unrolls by calls, not through the channels.
    let (_, instructions) = crossbeam_channel::bounded(1);
    let (uplink, _) = mpsc::channel(1);
    Collector {
        plan: Arc::new(plan),
        instructions,
        uplink,
        times: Arc::default(),
        work: BTreeMap::new(),
        policies: BTreeMap::new(),
        workspace: Workspace::default(),
    }
}

/// The grant of a shard that goes on behind `previous`.
fn lease(shard: u32, previous: Option<&Unroll>) -> Instruction {
    Instruction::Lease(LeasedShard {
        shard: ShardId(shard),
        epoch: LeaseEpoch(1),
        first_env: shard * ENVS_PER_SHARD as u32,
        next_index: previous.map_or(UnrollIndex(0), |unroll| UnrollIndex(unroll.key.index.0 + 1)),
        state: previous.map_or_else(Bytes::new, |unroll| unroll.state_after.clone()),
    })
}

/// The next unroll of one shard.
fn collect_one(collector: &mut Collector, shard: ShardId, version: u64) -> Unroll {
    let unrolls = collector.collect(&[(shard, version)]).unwrap();
    assert_eq!(unrolls.len(), 1);
    unrolls.into_iter().next().unwrap()
}

/// Three rounds of four shards on one collector, by round and shard.
fn rounds(environment: &EnvironmentSpec, versions: &[Instruction]) -> Vec<Vec<Unroll>> {
    rounds_of(collector(environment, 0), versions)
}

fn rounds_of(mut collector: Collector, versions: &[Instruction]) -> Vec<Vec<Unroll>> {
    for shard in 0..4 {
        collector.follow(lease(shard, None)).unwrap();
    }
    let mut rounds = Vec::new();
    for version in versions {
        collector.follow(version.clone()).unwrap();
        let round = std::iter::from_fn(|| {
            let next = collector.next();
            (!next.is_empty()).then(|| collector.collect(&next).unwrap())
        });
        rounds.push(round.flatten().collect());
    }
    rounds
}

/// Wrappers that remember frames, draw random numbers and change rewards.
fn wrapped(id: &str) -> EnvironmentSpec {
    let sticky = Wrapper::StickyActions {
        probability: 0.5,
        training_only: true,
    };
    let stack = Wrapper::FrameStack {
        size: 3,
        padding: StackPadding::Reset,
    };
    let scale = Wrapper::ScaleReward {
        factor: 0.25,
        training_only: true,
    };
    let bare = environments::make(id, &BTreeMap::new(), 1).unwrap();
    let wrapped = environments::wrap(bare, &[sticky, stack, scale]).unwrap();
    wrapped.spec().clone()
}

#[test]
fn wrapped_environments_go_on_wherever_they_are_collected() {
    let environment = wrapped("CartPole-v1");
    let spec = values(&environment, false).unwrap();
    let versions: Vec<Instruction> = (0..6)
        .map(|number| version(&spec, APE_X, number, &[]))
        .collect();
    let rounds = rounds(&environment, &versions);
    let mut num_episodes = 0;
    for (k, round) in rounds.iter().enumerate().skip(1) {
        for (shard, expected) in round.iter().enumerate() {
            let mut other = collector(&environment, 0);
            other.follow(versions[k].clone()).unwrap();
            let previous = &rounds[k - 1][shard];
            other.follow(lease(shard as u32, Some(previous))).unwrap();
            let again = collect_one(&mut other, expected.key.shard, k as u64);
            assert_eq!(&again, expected);
            assert!(
                expected
                    .reward
                    .to_vec()
                    .iter()
                    .all(|reward| *reward == 0.25)
            );
            // Reported as the environment counts: 1 a step.
            let lengths = expected.episode_length.to_vec();
            for (return_, length) in expected.episode_return.to_vec().iter().zip(lengths) {
                assert_eq!(*return_, f64::from(length));
                num_episodes += 1;
            }
        }
    }
    assert!(num_episodes > 5, "{num_episodes}");
}

/// T30, T34: noise, epsilons and actions belong to shard and step.
#[test]
fn t30_an_unroll_does_not_depend_on_who_collects_it() {
    let environment = spec_of("CartPole-v1");
    let spec = values(&environment, true).unwrap();
    let versions: Vec<Instruction> = (0..3)
        .map(|number| version(&spec, APE_X, number, &[]))
        .collect();
    let rounds = rounds(&environment, &versions);
    // The same unrolls again, last shard first, each by a collector that holds nothing else.
    for (k, round) in rounds.iter().enumerate() {
        assert_eq!(round.len(), 4);
        for shard in (0..4).rev() {
            let expected = &round[shard];
            let previous = k.checked_sub(1).map(|before| &rounds[before][shard]);
            let mut other = collector(&environment, 0);
            other.follow(versions[k].clone()).unwrap();
            other.follow(lease(shard as u32, previous)).unwrap();
            assert_eq!(other.next(), [(expected.key.shard, k as u64)]);
            assert_eq!(
                &collect_one(&mut other, expected.key.shard, k as u64),
                expected
            );
        }
    }
}

/// A recurrent policy for an environment.
fn recurrent(environment: &EnvironmentSpec, cell: RecurrentCell) -> PolicySpec {
    let (observation, action) = (&environment.observation, &environment.action);
    let spec = PolicySpec::new(observation, action, vec![8], Activation::Tanh).unwrap();
    let layer = Recurrent { cell, units: 6 };
    spec.with_recurrent(Some(layer)).unwrap()
}

/// T17, T34: the recurrent state belongs to the shard, whoever holds it.
#[test]
fn t17_an_unroll_goes_on_with_the_recurrent_state_whoever_collects_it() {
    for (id, cell) in [
        ("CartPoleNoVelocity-v1", RecurrentCell::Lstm),
        ("Pendulum-v1", RecurrentCell::Gru),
    ] {
        let environment = spec_of(id);
        let spec = recurrent(&environment, cell);
        let versions: Vec<Instruction> = (0..3)
            .map(|number| version(&spec, Exploration::None, number, &[]))
            .collect();
        let new = || remembering(&environment, 0, spec.state_width());
        let rounds = rounds_of(new(), &versions);
        for (k, round) in rounds.iter().enumerate() {
            for shard in (0..4).rev() {
                let expected = &round[shard];
                let begins_at_zero = expected.initial_state.iter().all(|value| value == 0.0);
                assert_eq!(begins_at_zero, k == 0, "an episode outlasts these unrolls");
                let previous = k.checked_sub(1).map(|before| &rounds[before][shard]);
                let mut other = new();
                other.follow(versions[k].clone()).unwrap();
                other.follow(lease(shard as u32, previous)).unwrap();
                assert_eq!(
                    &collect_one(&mut other, expected.key.shard, k as u64),
                    expected
                );
            }
        }
    }
}

/// T17: what an actor did follows from the unroll alone, so a learner can compute it again.
#[test]
fn t17_log_probs_follow_from_the_initial_state_and_the_episode_ends() {
    let environment = spec_of("CartPoleNoVelocity-v1");
    for cell in [RecurrentCell::Lstm, RecurrentCell::Gru] {
        let spec = recurrent(&environment, cell);
        let versions: Vec<Instruction> = (0..12)
            .map(|number| version(&spec, Exploration::None, number, &[]))
            .collect();
        let width = spec.state_width();
        let rounds = rounds_of(remembering(&environment, 0, width), &versions);
        let mut ends_inside = 0;
        for (k, unroll) in rounds.iter().enumerate().flat_map(|(k, round)| {
            let unrolls = round.iter();
            unrolls.map(move |unroll| (k, unroll))
        }) {
            let Instruction::Policy(_, version) = &versions[k] else {
                panic!("these are versions");
            };
            let mut state = unroll.initial_state.to_vec();
            let (observations, log_probs) = (
                unroll.observation.rows().unwrap().to_vec(),
                unroll.log_prob.to_vec(),
            );
            let (terminated, truncated) = (unroll.terminated.to_vec(), unroll.truncated.to_vec());
            let rows = observations.chunks(ENVS_PER_SHARD * 2);
            for (t, observations) in rows.take(UNROLL_LENGTH).enumerate() {
                let steps = t * ENVS_PER_SHARD..(t + 1) * ENVS_PER_SHARD;
                let mut actions = [0.0; ENVS_PER_SHARD];
                let mut got = [0.0; ENVS_PER_SHARD];
                let inputs = Inputs {
                    observations,
                    state: &mut state,
                };
                let step = unroll.key.index.0 * UNROLL_LENGTH as u64 + t as u64;
                let first_env = u64::from(unroll.key.shard.0) * ENVS_PER_SHARD as u64;
                version.policy.act(
                    &mut Workspace::default(),
                    Behaviour::OnPolicy,
                    inputs,
                    |env| Random::derive(SEED, Purpose::Action, first_env + env as u64, step),
                    &mut actions,
                    &mut got,
                );
                assert_eq!(got, log_probs[steps.clone()]);
                for (env, step) in steps.enumerate() {
                    if terminated[step] | truncated[step] == 1 {
                        state[env * width..(env + 1) * width].fill(0.0);
                        ends_inside += usize::from(t + 1 < UNROLL_LENGTH);
                    }
                }
            }
        }
        assert!(ends_inside > 0);
    }
}

#[test]
fn t29_each_unroll_of_each_shard_draws_its_own_noise() {
    let environment = spec_of("CartPole-v1");
    let spec = values(&environment, true).unwrap();
    let versions: Vec<Instruction> = (0..3)
        .map(|number| version(&spec, Exploration::None, number, &[]))
        .collect();
    let mut num_differences = 0;
    for (k, round) in rounds(&environment, &versions).iter().enumerate() {
        let Instruction::Policy(_, version) = &versions[k] else {
            panic!("these are versions");
        };
        for unroll in round {
            let (shard, index) = (u64::from(unroll.key.shard.0), unroll.key.index.0);
            let mut random = Random::derive(SEED, Purpose::Noise, shard, index);
            let noisy = version.policy.with_noise(&mut random).unwrap();
            let observations = unroll.observation.rows().unwrap().to_vec();
            let decided = &observations[..UNROLL_LENGTH * ENVS_PER_SHARD * 4];
            let mut actions = vec![0.0; unroll.action.len()];
            noisy.act_greedily(&mut Workspace::default(), decided, &mut actions);
            assert_eq!(unroll.action.to_vec(), actions);
            version
                .policy
                .act_greedily(&mut Workspace::default(), decided, &mut actions);
            num_differences += usize::from(unroll.action.to_vec() != actions);
        }
    }
    assert!(num_differences > 0);
}

#[test]
fn t30_log_probs_are_those_of_the_shards_epsilon() {
    let environment = spec_of("CartPole-v1");
    let spec = values(&environment, false).unwrap();
    let versions: Vec<Instruction> = (0..40)
        .map(|number| version(&spec, APE_X, number, &[]))
        .collect();
    let rounds = rounds(&environment, &versions);
    for (shard, epsilon) in [
        0.6_f64,
        0.6_f64.powf(4.0 / 3.0),
        0.6_f64.powf(5.0 / 3.0),
        0.36,
    ]
    .into_iter()
    .enumerate()
    {
        let (mut by_chance, mut preferred) = (0, 0);
        for unroll in rounds.iter().map(|round| &round[shard]) {
            for log_prob in unroll.log_prob.iter() {
                let probability = f64::from(log_prob).exp();
                if (probability - epsilon / 2.0).abs() < 1e-6 {
                    by_chance += 1;
                } else {
                    assert!((probability - (1.0 - epsilon / 2.0)).abs() < 1e-6);
                    preferred += 1;
                }
            }
        }
        assert!(preferred > by_chance && by_chance > 0);
    }
}

#[test]
fn each_version_acts_by_its_own_scalars() {
    let environment = spec_of("CartPole-v1");
    let spec = values(&environment, false).unwrap();
    let scheduled = Exploration::EpsilonGreedy { per_shard: None };
    let versions = [
        version(&spec, scheduled, 0, &[(EPSILON, 1.0), (UNIFORM, 1.0)]),
        version(&spec, scheduled, 1, &[(EPSILON, 0.0)]),
    ];
    let rounds = rounds(&environment, &versions);
    for unroll in &rounds[0] {
        let half = -std::f32::consts::LN_2;
        assert!(unroll.log_prob.iter().all(|log_prob| log_prob == half));
    }
    for unroll in &rounds[1] {
        assert!(unroll.log_prob.iter().all(|log_prob| log_prob == 0.0));
    }
}

#[test]
fn a_held_draw_decides_the_actions_of_several_steps() {
    let environment = spec_of("Pendulum-v1");
    let (observation, action) = (&environment.observation, &environment.action);
    let spec = PolicySpec::deterministic(observation, action, vec![4], Activation::Relu).unwrap();
    let scalars = [(UNIFORM, 1.0), (NOISE_HOLD, 3.0)];
    let versions = [version(&spec, Exploration::None, 0, &scalars)];
    let shape = collector(&environment, 0).plan.shape;
    for unroll in rounds(&environment, &versions).remove(0) {
        let actions = unroll.action.to_vec();
        let rows: Vec<&[f32]> = actions.chunks(shape.envs_per_shard).collect();
        assert!(rows.len() > 3);
        for (t, pair) in rows.windows(2).enumerate() {
            let shares_the_draw = (t + 1) % 3 != 0;
            assert_eq!(
                pair[0] == pair[1],
                shares_the_draw,
                "steps {t} and {}",
                t + 1
            );
        }
    }
}

#[test]
fn bounded_actions_reach_the_learner_as_they_were_taken() {
    let environment = spec_of("Pendulum-v1");
    let (observation, action) = (&environment.observation, &environment.action);
    let hidden = || vec![16];
    let deterministic =
        PolicySpec::deterministic(observation, action, hidden(), Activation::Relu).unwrap();
    let squashed =
        PolicySpec::squashed_gaussian(observation, action, hidden(), Activation::Relu).unwrap();
    for (spec, exploration, scalars) in [
        (
            &deterministic,
            Exploration::GaussianNoise { std: 1.0 },
            &[][..],
        ),
        (&deterministic, Exploration::None, &[(UNIFORM, 1.0)]),
        (&squashed, Exploration::None, &[]),
    ] {
        let versions = [version(spec, exploration, 0, scalars)];
        for unroll in rounds(&environment, &versions).remove(0) {
            let actions = unroll.action.to_vec();
            assert!(actions.iter().all(|a| action.contains(&[*a])));
            assert!(actions.iter().any(|a| *a != actions[0]));
            let shape = collector(&environment, 0).plan.shape;
            assert_eq!(unroll.validate(&shape, action), Ok(()));
        }
    }
}

#[test]
fn an_asynchronous_shard_takes_the_newest_version_and_waits_for_answers() {
    let environment = spec_of("CartPole-v1");
    let spec = values(&environment, false).unwrap();
    let version = |number| version(&spec, APE_X, number, &[]);
    let mut collector = collector(&environment, 0);
    Arc::make_mut(&mut collector.plan).pacing = Pacing::Asynchronous {
        max_unacknowledged: 2,
    };
    let shard = ShardId(3);
    let answered = |epoch| Instruction::Answered(shard, LeaseEpoch(epoch));
    collector.follow(lease(3, None)).unwrap();
    assert!(collector.next().is_empty(), "there is no version yet");
    collector.follow(version(7)).unwrap();
    collector.follow(version(9)).unwrap();
    assert_eq!(collector.next(), [(shard, 9)]);
    let first = collect_one(&mut collector, shard, 9);
    assert_eq!(first.version.version, 9);
    collector.follow(version(12)).unwrap();
    assert_eq!(collector.next(), [(shard, 12)], "one may be on its way");
    collect_one(&mut collector, shard, 12);
    assert!(collector.next().is_empty(), "and no more");
    collector.follow(version(13)).unwrap();
    collector.follow(answered(0)).unwrap();
    assert!(collector.next().is_empty(), "that was of another lease");
    collector.follow(answered(1)).unwrap();
    assert_eq!(collector.next(), [(shard, 13)]);
    collect_one(&mut collector, shard, 13);
    assert!(collector.next().is_empty());
    // A new lease has nothing on its way.
    collector.follow(lease(3, Some(&first))).unwrap();
    assert_eq!(collector.next(), [(shard, 13)]);
}
