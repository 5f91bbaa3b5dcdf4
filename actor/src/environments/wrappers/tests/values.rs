//! Wrappers that change rewards, actions and observations.

use super::*;
use crate::environments::Step as EnvironmentStep;
use crate::environments::batch::Rules;

#[test]
fn episodes_are_reported_by_what_the_environment_gave() {
    let sign = Wrapper::SignReward {
        training_only: false,
    };
    for (wrappers, learnt) in [
        (vec![scale(0.5)], vec![0.5, 1.0, 1.5]),
        (vec![sign.clone(), scale(3.0)], vec![3.0; 3]),
        (vec![scale(-2.0), sign.clone()], vec![-1.0; 3]),
        (vec![scale(2.0), skip(1 + 1), sign], vec![1.0; 3]),
    ] {
        let environment = echo(1, &wrappers);
        let mut shard = Shard::new(environment, 0, 1, Purpose::Episode).unwrap();
        let mut episodes = Vec::new();
        let mut rewards = Vec::new();
        for action in [0.0, 0.0, 2.0] {
            let mut reward = [0.0];
            let row = StepRow {
                rewards: &mut reward,
                terminated: &mut [0],
                truncated: &mut [0],
                next_observations: &mut [0.0; 3],
                finals: &mut FinalObservations::default(),
                episodes: &mut episodes,
            };
            shard.step(&[action], row).unwrap();
            rewards.push(reward[0]);
        }
        assert_eq!(rewards, learnt, "{wrappers:?}");
        // 1 + 2 + 3, and with the skip 1 + 2 + 3 + 4 + 5.
        let expected = if wrappers.len() == 3 { 15.0 } else { 6.0 };
        assert_eq!(episodes[0].return_, expected, "{wrappers:?}");
    }
}

#[test]
fn rewards_are_clipped_into_their_bounds() {
    let mut environment = echo(
        1,
        &[Wrapper::ClipReward {
            low: 1.5,
            high: 2.5,
            training_only: false,
        }],
    );
    reset(&mut *environment, 0, 0);
    let rewards: Vec<f32> = (0..3)
        .map(|_| step(&mut *environment, &[0.0]).rewards[0])
        .collect();
    assert_eq!(rewards, [1.5, 2.0, 2.5]);
    assert_eq!(environment.raw_rewards(), Some([3.0].as_slice()));
}

#[test]
fn actions_are_clipped_and_rescaled() {
    let done = |environment: &mut dyn BatchedEnvironment, action| {
        reset(environment, 0, 0);
        step(environment, &[action]).observations[2]
    };
    let mut bare = continuous_echo(-1.0, 3.0);
    assert_eq!(
        done(&mut *bare, 7.0),
        7.0,
        "this one does not clip by itself"
    );
    let mut clipped = wrap(continuous_echo(-1.0, 3.0), &[Wrapper::ClipAction {}]).unwrap();
    assert_eq!(clipped.spec().action, bare.spec().action);
    assert_eq!(done(&mut *clipped, 7.0), 3.0);
    assert_eq!(done(&mut *clipped, -7.0), -1.0);
    assert_eq!(done(&mut *clipped, 0.5), 0.5);
    let rescale = Wrapper::RescaleAction {
        low: 0.0,
        high: 1.0,
    };
    let mut rescaled = wrap(continuous_echo(-1.0, 3.0), std::slice::from_ref(&rescale)).unwrap();
    assert_eq!(rescaled.spec().action, Space::bounded(&[0.0], &[1.0]));
    for (action, expected) in [(0.0, -1.0), (1.0, 3.0), (0.5, 1.0)] {
        assert_eq!(done(&mut *rescaled, action), expected);
    }
    let both = [Wrapper::ClipAction {}, rescale];
    let mut both = wrap(continuous_echo(-1.0, 3.0), &both).unwrap();
    assert_eq!(done(&mut *both, 1.5), 3.0);
}

/// Shows the choices that were made last.
struct Choices;

impl Rules for Choices {
    type State = [f32; 3];

    fn observation_width(&self) -> usize {
        3
    }

    fn action_width(&self) -> usize {
        3
    }

    fn begin(&self, _: Random) -> [f32; 3] {
        [0.0; 3]
    }

    fn advance(&self, state: &mut [f32; 3], action: &[f32]) -> EnvironmentStep {
        state.copy_from_slice(action);
        EnvironmentStep::new(0.0, false)
    }

    fn observe(&self, state: &[f32; 3], row: &mut [f32]) {
        row.copy_from_slice(state);
    }

    fn is_possible(&self, _: &[f32; 3]) -> bool {
        true
    }
}

#[test]
fn several_choices_become_one_whose_last_part_varies_fastest() {
    let nvec = vec![2, 3, 4];
    let spec = EnvironmentSpec {
        observation: Space::bounded(&[0.0; 3], &[4.0; 3]),
        ..echo_spec(Space::MultiDiscrete { nvec })
    };
    let several = Box::new(Batch::with_rules(spec, Choices, 2));
    let flat = [Wrapper::FlattenAction {}, Wrapper::PreviousAction {}];
    let mut flat = wrap(several, &flat).unwrap();
    assert_eq!(flat.spec().action, Space::Discrete { n: 24 });
    for index in 0..2 {
        reset(&mut *flat, index, 0);
    }
    let mut seen = Vec::new();
    for first in 0..24 {
        let step = step(&mut *flat, &[first as f32, (23 - first) as f32]);
        let rows: Vec<&[f32]> = step.observations.chunks(3 + 24).collect();
        seen.push(rows[0][..3].to_vec());
        assert_eq!(rows[0][3 + first], 1.0, "the previous action is one choice");
        let digits = |index: usize| [index / 12, index / 4 % 3, index % 4].map(|n| n as f32);
        assert_eq!(rows[0][..3], digits(first));
        assert_eq!(rows[1][..3], digits(23 - first));
    }
    seen.dedup();
    assert_eq!(seen.len(), 24);
}

#[test]
fn sticky_actions_repeat_as_often_as_they_should() {
    let mut environment = echo(1, &[sticky(0.25)]);
    let (mut repeated, mut steps) = (0, 0);
    for episode in 0..400 {
        reset(&mut *environment, 0, episode);
        let mut last = None;
        for time in 0..9_u32 {
            let chosen = (time % 2) as f32;
            let done = step(&mut *environment, &[chosen]).observations[2];
            match last {
                None => assert_eq!(done, chosen, "there is nothing to repeat yet"),
                // Where the last one was the same, nobody sees whether it was repeated.
                Some(last) if last == chosen => {}
                Some(_) => {
                    steps += 1;
                    repeated += u32::from(done != chosen);
                }
            }
            last = Some(done);
        }
    }
    // Standard error: sqrt(0.25 * 0.75 / 2600) = 0.0085.
    let rate = f64::from(repeated) / f64::from(steps);
    assert!((rate - 0.25).abs() < 0.035, "{rate} of {steps}");
}

#[test]
fn what_a_wrapper_draws_changes_nothing_inside() {
    // The ice is as slippery with a wrapper that draws and never repeats.
    let trajectory = |wrappers: &[Wrapper]| {
        let environment = native("FrozenLake-v1", 2, wrappers);
        let mut shard = Shard::new(environment, 0, 5, Purpose::Episode).unwrap();
        run(&mut shard, 0..200)
    };
    assert_eq!(trajectory(&[sticky(0.0)]), trajectory(&[]));
    // Two of them draw different numbers.
    assert_ne!(
        trajectory(&[sticky(0.5)]),
        trajectory(&[sticky(0.0), sticky(0.5)])
    );
    assert_ne!(trajectory(&[sticky(0.5)]), trajectory(&[]));
}

#[test]
fn no_ops_come_before_the_first_observation_and_count_for_nothing() {
    let mut environment = echo(2, &[noops(5, 1)]);
    let mut counts = [0; 6];
    for episode in 0..500 {
        let before = step(&mut *environment, &[0.0; 2]).observations[4];
        let first = reset(&mut *environment, 0, episode);
        counts[first[1] as usize] += 1;
        assert_eq!(first[2], 1.0, "the action that does nothing");
        let draw = Random::derive(7, Purpose::Episode, 0, episode).unit_f32();
        assert_eq!(first[0], draw, "the environment draws as it would without");
        let after = step(&mut *environment, &[0.0; 2]).observations[4];
        assert_eq!(after, before + 1.0, "the neighbour stands still");
    }
    assert_eq!(counts[0], 0);
    assert!(counts[1..].iter().all(|count| *count > 60), "{counts:?}");
    assert_eq!(environment.spec().max_episode_steps, Some(10));
}

#[test]
fn a_start_that_doing_nothing_ends_is_another_start() {
    // This action ends every episode with its first step.
    let mut environment = echo(1, &[noops(5, 2)]);
    for episode in 0..20 {
        let first = reset(&mut *environment, 0, episode);
        assert_eq!(first[1], 0.0);
        let draw = Random::derive(7, Purpose::Episode, 0, episode).unit_f32();
        assert_ne!(first[0], draw);
        assert_eq!(reset(&mut *environment, 0, episode), first);
    }
}

#[test]
fn an_index_becomes_a_one_among_zeros_and_planes_become_a_row() {
    let mut lake = native("FrozenLake-v1", 1, &[Wrapper::FlattenObservation {}]);
    let (shape, ..) = bounds(&lake.spec().observation);
    assert_eq!(shape, [16]);
    let first = reset(&mut *lake, 0, 0);
    assert_eq!(first[0], 1.0);
    assert_eq!(first.iter().sum::<f32>(), 1.0);
    assert!(lake.grid().is_none());
    let catch = native("Catch-v0", 1, &[Wrapper::FlattenObservation {}]);
    assert_eq!(bounds(&catch.spec().observation).0, [50]);
    assert!(
        native("GridWorld-v0", 1, &[sticky(0.1), skip(2)])
            .grid()
            .is_some()
    );
}

#[test]
fn observations_are_clipped_rescaled_and_cast() {
    let clip = Wrapper::ClipObservation {
        low: 0.25,
        high: 2.5,
    };
    let mut environment = echo(1, &[clip]);
    let (_, low, high) = bounds(&environment.spec().observation);
    assert_eq!(
        (low, high),
        ([0.25; 3].as_slice(), [1.0, 2.5, 2.5].as_slice())
    );
    reset(&mut *environment, 0, 0);
    let seen: Vec<f32> = (0..3)
        .map(|_| step(&mut *environment, &[1.0]).observations[1])
        .collect();
    assert_eq!(seen, [1.0, 2.0, 2.5]);

    let bytes = Wrapper::RescaleObservation {
        low: 0.0,
        high: 255.0,
    };
    let cast = Wrapper::CastObservation {
        to: ElementType::Uint8,
    };
    let mut environment = echo(1, &[bytes, cast]);
    let (_, low, high) = bounds(&environment.spec().observation);
    assert_eq!((low, high), ([0.0; 3].as_slice(), [255.0; 3].as_slice()));
    let first = reset(&mut *environment, 0, 0);
    // Zero of -9..=9 is the middle, 127.5.
    assert_eq!(first[1..], [0.0, 127.0]);
    assert_eq!(first[0], (stream(0).unit_f32() * 255.0).trunc());
}

#[test]
fn the_last_action_and_its_reward_can_be_seen() {
    let both = [Wrapper::PreviousAction {}, Wrapper::PreviousReward {}];
    let mut environment = echo(1, &both);
    let (shape, low, high) = bounds(&environment.spec().observation);
    assert_eq!(shape, [7]);
    assert_eq!(low[3..], [0.0, 0.0, 0.0, f32::NEG_INFINITY]);
    assert_eq!(high[3..], [1.0, 1.0, 1.0, f32::INFINITY]);
    assert_eq!(reset(&mut *environment, 0, 0)[3..], [0.0; 4]);
    let seen = |step: &Step| step.observations[3..].to_vec();
    assert_eq!(seen(&step(&mut *environment, &[1.0])), [0.0, 1.0, 0.0, 1.0]);
    assert_eq!(seen(&step(&mut *environment, &[2.0])), [0.0, 0.0, 1.0, 2.0]);
    assert_eq!(reset(&mut *environment, 0, 1)[3..], [0.0; 4]);

    // Of a box it is what was done, within the bounds, whose space has room for the zero.
    let mut environment = wrap(continuous_echo(1.0, 3.0), &[Wrapper::PreviousAction {}]).unwrap();
    let (_, low, high) = bounds(&environment.spec().observation);
    assert_eq!((low[3], high[3]), (0.0, 3.0));
    assert_eq!(reset(&mut *environment, 0, 0)[3], 0.0);
    assert_eq!(step(&mut *environment, &[9.0]).observations[3], 3.0);
}
