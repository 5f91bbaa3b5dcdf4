use std::collections::BTreeMap;

use proptest::prelude::*;
use rookery_common::spaces::Space;

use super::*;
use crate::environments::{Batch, Dynamics, ids, make};

/// Every environment, each map of the lake on which steps draw random numbers, and bits few enough to
/// be flipped into their goal by chance.
fn variants() -> Vec<(&'static str, BTreeMap<String, String>)> {
    let mut variants: Vec<_> = ids().map(|id| (id, BTreeMap::new())).collect();
    for (id, argument, value) in [
        ("FrozenLake-v1", "map_name", "8x8"),
        ("BitFlip-v0", "bits", "3"),
    ] {
        let arguments = BTreeMap::from([(argument.to_owned(), value.to_owned())]);
        variants.push((id, arguments));
    }
    variants
}

fn shard_of(variant: usize, first_env: u32, num_envs: usize, seed: u64) -> Shard {
    let (id, arguments) = &variants()[variant];
    let environment = make(id, arguments, num_envs).unwrap();
    Shard::new(environment, first_env, seed, Purpose::Episode).unwrap()
}

/// What one step wrote.
#[derive(Clone, Debug, Default, PartialEq)]
struct Step {
    rewards: Vec<f32>,
    terminated: Vec<u8>,
    truncated: Vec<u8>,
    next_observations: Vec<f32>,
    finals: FinalObservations,
    episodes: Vec<EpisodeRecord>,
}

impl Shard {
    fn take(&mut self, actions: &[f32]) -> Step {
        let num_envs = self.num_envs();
        // Values that no step writes, so that a row left out is seen.
        let mut step = Step {
            rewards: vec![f32::MAX; num_envs],
            terminated: vec![9; num_envs],
            truncated: vec![9; num_envs],
            next_observations: vec![f32::MAX; num_envs * self.observation_width],
            ..Step::default()
        };
        self.step(
            actions,
            StepRow {
                rewards: &mut step.rewards,
                terminated: &mut step.terminated,
                truncated: &mut step.truncated,
                next_observations: &mut step.next_observations,
                finals: &mut step.finals,
                episodes: &mut step.episodes,
            },
        )
        .unwrap();
        step
    }

    fn shown(&self) -> Vec<f32> {
        let mut observations = vec![f32::MAX; self.num_envs() * self.observation_width];
        self.observe(&mut observations);
        observations
    }
}

/// The action of the environment with global index `env` at `step`, as a collector would draw it.
fn action(space: &Space, env: u32, step: u64) -> Vec<f32> {
    let mut random = Random::derive(99, Purpose::Action, u64::from(env), step);
    match space {
        Space::Discrete { n } => vec![random.below(*n as u64) as f32],
        Space::Box { low, high, .. } => low
            .iter()
            .zip(high)
            .map(|(low, high)| random.uniform(f64::from(*low), f64::from(*high)) as f32)
            .collect(),
        Space::MultiDiscrete { .. } | Space::Frames { .. } => {
            panic!("no environment acts in images")
        }
    }
}

fn run(shard: &mut Shard, steps: std::ops::Range<u64>) -> Vec<Step> {
    let space = shard.spec().action.clone();
    let envs = shard.first_env()..shard.first_env() + shard.num_envs() as u32;
    steps
        .map(|step| {
            let actions: Vec<f32> = envs
                .clone()
                .flat_map(|env| action(&space, env, step))
                .collect();
            shard.take(&actions)
        })
        .collect()
}

/// Rewards the number of the step; an action of 1 ends the episode. Observations are a number drawn
/// for the episode and the number of steps taken in it.
struct Scripted;

impl Dynamics<2> for Scripted {
    type State = [f32; 2];

    fn begin(&self, mut random: Random) -> Self::State {
        [random.unit_f32(), 0.0]
    }

    fn advance(&self, state: &mut Self::State, action: f32) -> (f32, bool) {
        state[1] += 1.0;
        (state[1], action == 1.0)
    }

    fn observe(&self, state: &Self::State) -> [f32; 2] {
        *state
    }

    fn is_possible(&self, _state: &Self::State) -> bool {
        true
    }
}

/// A shard of [`Scripted`] environments, whose first has the global index 5, under a time limit.
fn scripted(num_envs: usize, max_episode_steps: u32) -> Shard {
    let spec = EnvironmentSpec {
        id: "Scripted".to_owned(),
        arguments: BTreeMap::new(),
        observation: Space::bounded(&[0.0, 0.0], &[1.0, f32::INFINITY]),
        action: Space::Discrete { n: 2 },
        max_episode_steps: Some(max_episode_steps),
        goal: None,
        wrappers: Vec::new(),
        action_mask: false,
    };
    let batch = Batch::new(spec, Scripted, num_envs);
    Shard::new(Box::new(batch), 5, 7, Purpose::Episode).unwrap()
}

/// The first observation of an episode of [`scripted`]'s environment with this global index.
fn first_observation(env: u64, episode: u64) -> [f32; 2] {
    let mut random = Random::derive(7, Purpose::Episode, env, episode);
    [random.unit_f32(), 0.0]
}

/// Holds T1, T2 and T5: a truncated step ships the observation that it led to, and the row shows
/// the next episode's first.
#[test]
fn a_time_limit_truncates_with_the_final_observation() {
    let mut shard = scripted(2, 3);
    let start = [first_observation(5, 0), first_observation(6, 0)];
    assert_eq!(shard.shown(), start.as_flattened());
    for _ in 0..2 {
        let step = shard.take(&[0.0, 0.0]);
        assert_eq!((step.terminated, step.truncated), (vec![0; 2], vec![0; 2]));
        assert_eq!(step.finals, FinalObservations::default());
        assert!(step.episodes.is_empty());
    }
    let step = shard.take(&[0.0, 0.0]);
    assert_eq!((step.terminated, step.truncated), (vec![0; 2], vec![1; 2]));
    assert_eq!(step.finals.envs, [0, 1]);
    assert_eq!(
        step.finals.observations,
        [start[0][0], 3.0, start[1][0], 3.0]
    );
    let next = [first_observation(5, 1), first_observation(6, 1)];
    assert_eq!(step.next_observations, next.as_flattened());
    assert_eq!(shard.shown(), step.next_observations);
    assert_eq!(step.rewards, [3.0, 3.0]);
    assert_eq!(
        step.episodes[1],
        EpisodeRecord {
            env: 1,
            return_: 6.0,
            length: 3
        }
    );
    // The next episode has the whole limit before it.
    let flags: Vec<u8> = (0..3)
        .map(|_| shard.take(&[0.0, 0.0]).truncated[0])
        .collect();
    assert_eq!(flags, [0, 0, 1]);
}

/// Holds T1 and T5 for terminated steps.
#[test]
fn a_terminated_step_ships_no_final_observation() {
    let mut shard = scripted(2, 3);
    let step = shard.take(&[0.0, 1.0]);
    assert_eq!(step.terminated, [0, 1]);
    assert_eq!(step.truncated, [0, 0]);
    assert_eq!(step.finals, FinalObservations::default());
    assert_eq!(step.next_observations[2..], first_observation(6, 1));
    assert_eq!(step.next_observations[1], 1.0);
    assert_eq!(
        step.episodes,
        [EpisodeRecord {
            env: 1,
            return_: 1.0,
            length: 1
        }]
    );
}

/// Holds T1: what is terminal has no value to bootstrap from, whatever the clock says.
#[test]
fn termination_at_the_limit_sets_both_flags_and_ships_no_final_observation() {
    let mut shard = scripted(1, 2);
    shard.take(&[0.0]);
    let step = shard.take(&[1.0]);
    assert_eq!((step.terminated, step.truncated), (vec![1], vec![1]));
    assert_eq!(step.finals, FinalObservations::default());
    assert_eq!(step.next_observations, first_observation(5, 1));
    assert_eq!(step.episodes.len(), 1);
}

/// Holds T17: whatever ends an episode, the next one begins without a memory of it.
#[test]
fn t17_a_recurrent_state_is_zero_where_an_episode_begins() {
    let mut shard = scripted(3, 3).with_recurrent_state(2);
    assert_eq!(shard.recurrent_state(), [0.0; 6]);
    for actions in [[0.0, 1.0, 0.0], [0.0; 3], [0.0; 3]] {
        shard.recurrent_state().fill(7.0);
        shard.take(&actions);
        // The first and the last one reach the time limit with the third step, the second one has
        // terminated with the first.
        let ended = [shard.progress.elapsed[0] == 0, actions[1] == 1.0];
        let expected = |ended: bool| [if ended { 0.0 } else { 7.0 }; 2];
        let [limit, terminated] = ended.map(expected);
        let states = [limit, terminated, limit];
        assert_eq!(shard.recurrent_state(), states.as_flattened());
    }
    assert_eq!(shard.progress.elapsed, [0, 2, 0]);
}

#[test]
fn a_recurrent_state_is_saved_with_the_shard() {
    let shard = |width| shard_of(0, 4, 2, 1).with_recurrent_state(width);
    let mut original = shard(3);
    let remembered = [0.5, -0.0, 1e-40, 0.0, 3.0, -7.5];
    original.recurrent_state().copy_from_slice(&remembered);
    let state = original.save();
    let mut restored = shard(3);
    restored.restore(&state).unwrap();
    assert_eq!(restored.save(), state);
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(restored.recurrent_state()), bits(&remembered));

    // Of another width it is refused, and so is a shard that remembers nothing.
    for width in [0, 2, 6] {
        assert!(shard(width).restore(&state).is_err(), "{width}");
        assert!(restored.restore(&shard(width).save()).is_err(), "{width}");
    }
    original.recurrent_state()[4] = f32::NAN;
    let damaged = original.save();
    assert_eq!(
        restored.restore(&damaged),
        Err(RestoreError::ImpossibleState { index: 1 })
    );
    assert_eq!(restored.save(), state, "what is refused changes nothing");
}

#[test]
fn a_shard_that_remembers_nothing_is_saved_as_it_always_was() {
    let shard = shard_of(0, 4, 2, 1);
    assert_eq!(
        shard.save(),
        shard_of(0, 4, 2, 1).with_recurrent_state(0).save()
    );
}

#[test]
fn sinks_are_appended_to() {
    let mut shard = scripted(1, 1);
    let mut finals = FinalObservations::default();
    let mut episodes = Vec::new();
    for _ in 0..2 {
        shard
            .step(
                &[0.0],
                StepRow {
                    rewards: &mut [0.0],
                    terminated: &mut [0],
                    truncated: &mut [0],
                    next_observations: &mut [0.0; 2],
                    finals: &mut finals,
                    episodes: &mut episodes,
                },
            )
            .unwrap();
    }
    assert_eq!(finals.envs, [0, 0]);
    assert_eq!(finals.observations.len(), 4);
    assert_eq!(episodes.len(), 2);
}

#[test]
fn returns_are_sums_of_raw_rewards_and_lengths_count_steps() {
    for variant in 0..variants().len() {
        let mut shard = shard_of(variant, 0, 3, 1);
        // Where there is no limit, episodes are short.
        let limit = shard.spec().max_episode_steps.unwrap_or(100);
        let mut sums = [(0.0_f64, 0_u32); 3];
        let mut finished = 0;
        for step in run(&mut shard, 0..u64::from(limit) + 10) {
            for (sum, reward) in sums.iter_mut().zip(&step.rewards) {
                *sum = (sum.0 + f64::from(*reward), sum.1 + 1);
            }
            for episode in step.episodes {
                let sum = &mut sums[episode.env as usize];
                assert_eq!((episode.return_, episode.length), *sum);
                *sum = (0.0, 0);
                finished += 1;
            }
        }
        assert!(finished >= 3, "{:?}", variants()[variant]);
    }
}

/// Holds T34: a trajectory depends on the run's seed and the environment's index alone.
#[test]
fn grouping_environments_into_shards_changes_nothing() {
    for variant in 0..variants().len() {
        let columns = |size: usize| {
            // Per environment: its observations, rewards and flags, step by step.
            let mut columns = Vec::new();
            for first in (0..8).step_by(size) {
                let mut shard = shard_of(variant, first as u32, size, 3);
                let start = shard.shown();
                let steps = run(&mut shard, 0..250);
                let width = start.len() / size;
                for index in 0..size {
                    let row = index * width..(index + 1) * width;
                    let mut column = start[row.clone()].to_vec();
                    for step in &steps {
                        column.extend_from_slice(&step.next_observations[row.clone()]);
                        column.push(step.rewards[index]);
                        column.push(f32::from(step.terminated[index]));
                        column.push(f32::from(step.truncated[index]));
                    }
                    columns.push(column);
                }
            }
            columns
        };
        let together = columns(8);
        assert_eq!(together, columns(4), "{:?}", variants()[variant]);
        assert_eq!(together, columns(1), "{:?}", variants()[variant]);
    }
}

#[test]
fn the_seed_the_environment_and_the_purpose_draw_different_starts() {
    for variant in 0..variants().len() {
        // Enough that a few kinds of starts do not come in the same order twice.
        let count = 32;
        let start = |first_env, seed| shard_of(variant, first_env, count, seed).shown();
        let reference = start(0, 1);
        assert_eq!(reference, start(0, 1));
        // The lake and the grid begin in the same cell whatever is drawn, the maze in one of two.
        let (id, arguments) = &variants()[variant];
        if matches!(*id, "FrozenLake-v1" | "GridWorld-v0" | "TMaze-v0") {
            continue;
        }
        assert_ne!(reference, start(0, 2));
        assert_ne!(reference, start(count as u32, 1));
        let environment = make(id, arguments, count).unwrap();
        let evaluation = Shard::new(environment, 0, 1, Purpose::Evaluation).unwrap();
        assert_ne!(reference, evaluation.shown());
    }
}

#[test]
fn the_ice_is_another_for_every_seed_and_episode() {
    // Walking right on slippery ice from the same cell: only the draws differ.
    let path = |seed| {
        let mut shard = shard_of(5, 0, 1, seed);
        assert_eq!(shard.spec().id, "FrozenLake-v1");
        let mut episodes = vec![Vec::new()];
        for _ in 0..200 {
            let step = shard.take(&[2.0]);
            episodes
                .last_mut()
                .unwrap()
                .extend_from_slice(&step.next_observations);
            if !step.episodes.is_empty() {
                episodes.push(Vec::new());
            }
        }
        episodes
    };
    let paths = path(1);
    assert_ne!(paths, path(2));
    assert!(paths.len() > 5);
    assert!(paths.iter().any(|episode| *episode != paths[0]));
}

#[test]
fn a_state_of_another_shard_is_refused() {
    let state = shard_of(0, 4, 4, 1).save();
    let refusal = |first_env, num_envs, seed| {
        let mut shard = shard_of(0, first_env, num_envs, seed);
        shard.restore(&state)
    };
    assert_eq!(refusal(4, 4, 1), Ok(()));
    for (first_env, num_envs, seed, expected_field) in [
        (4, 4, 2, "run seed"),
        (0, 4, 1, "first environment"),
        (4, 3, 1, "episode count"),
    ] {
        match refusal(first_env, num_envs, seed) {
            Err(RestoreError::Mismatch { field, .. }) => assert_eq!(field, expected_field),
            other => panic!("{other:?}"),
        }
    }
    // Of another environment, whose states are longer.
    let cart_poles = shard_of(0, 0, 1, 1);
    let mut pendulums = shard_of(1, 0, 1, 1);
    assert!(pendulums.restore(&cart_poles.save()).is_err());
}

#[test]
fn a_snapshot_of_cart_poles_is_small() {
    let mut shard = shard_of(0, 0, 4096, 1);
    run(&mut shard, 0..40);
    let bytes = shard.save().len();
    assert!(bytes <= 44 * 4096, "{bytes}");
}

/// Asserts that `shard` refuses these bytes and goes on as if it had never seen them.
fn refuses(shard: &mut Shard, bytes: &[u8]) -> Result<(), TestCaseError> {
    let before = shard.save();
    prop_assert!(shard.restore(bytes).is_err());
    prop_assert_eq!(shard.save(), before);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_restored_shard_continues_bit_for_bit(
        variant in 0..variants().len(),
        num_envs in 1..6_usize,
        before in 0..600_u64,
        after in 1..300_u64,
    ) {
        let mut original = shard_of(variant, 3, num_envs, 11);
        run(&mut original, 0..before);
        let state = original.save();
        let mut restored = shard_of(variant, 3, num_envs, 11);
        restored.restore(&state).unwrap();
        prop_assert_eq!(restored.save(), state);
        prop_assert_eq!(restored.shown(), original.shown());
        let steps = before..before + after;
        prop_assert_eq!(run(&mut restored, steps.clone()), run(&mut original, steps));
        prop_assert_eq!(restored.save(), original.save());
    }

    #[test]
    fn cut_and_lengthened_states_are_refused(
        variant in 0..variants().len(),
        cut in any::<prop::sample::Index>(),
        extra in prop::collection::vec(any::<u8>(), 1..9),
    ) {
        let mut shard = shard_of(variant, 0, 3, 1);
        run(&mut shard, 0..20);
        let state = shard.save();
        run(&mut shard, 20..27);
        refuses(&mut shard, &state[..cut.index(state.len())])?;
        refuses(&mut shard, &[state, extra].concat())?;
    }

    #[test]
    fn garbage_is_refused(
        variant in 0..variants().len(),
        garbage in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut shard = shard_of(variant, 0, 3, 1);
        refuses(&mut shard, &garbage)?;
        // The same behind a good version.
        refuses(&mut shard, &[vec![SNAPSHOT_VERSION], garbage].concat())?;
    }

    #[test]
    fn a_state_with_a_damaged_byte_never_panics(
        variant in 0..variants().len(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut shard = shard_of(variant, 0, 3, 1);
        run(&mut shard, 0..20);
        let mut state = shard.save();
        let place = place.index(state.len());
        state[place] = byte;
        run(&mut shard, 20..27);
        let before = shard.save();
        if shard.restore(&state).is_err() {
            prop_assert_eq!(shard.save(), before);
        }
        // Whatever was taken on can be stepped.
        run(&mut shard, 0..20);
    }
}
