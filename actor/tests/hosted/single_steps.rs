//! Instances of a loop are stepped apart, so that wrappers may skip frames and act before an episode is shown.

use rookery_actor::environments::wrap;
use rookery_actor::shard::Shard;
use rookery_common::seeds::Purpose;
use rookery_common::wrappers::Wrapper;

use crate::support::{SEED, arguments, pool, run, shown, try_step};

fn scripted(wrappers: &[Wrapper]) -> Shard {
    let batch = pool()
        .make("peculiar:Scripted", &arguments(&[]), 2)
        .unwrap();
    let batch = wrap(Box::new(batch), wrappers).unwrap();
    Shard::new(batch, 5, SEED, Purpose::Episode).unwrap()
}

fn skip(frames: u32) -> Wrapper {
    Wrapper::FrameSkip {
        frames,
        max_pool: false,
    }
}

fn noops(max_steps: u32) -> Wrapper {
    Wrapper::NoopStarts {
        max_steps,
        action: 0,
        training_only: false,
    }
}

/// Where one ends in the first frame of a skip, the other takes all of them, and a new episode begins where the
/// ended one is.
#[test]
fn a_skip_ends_with_the_episode_of_one_and_goes_on_for_the_other() {
    let mut shard = scripted(&[skip(3)]);
    let starts = shown(&shard);
    let first = try_step(&mut shard, &[0.0, 0.0]).unwrap();
    assert_eq!(first.rewards, [6.0, 6.0]);
    assert_eq!(first.next_observations, [starts[0], 3.0, starts[2], 3.0]);
    let second = try_step(&mut shard, &[1.0, 0.0]).unwrap();
    assert_eq!(second.rewards, [4.0, 15.0]);
    assert_eq!(second.terminated, [1, 0]);
    assert_eq!(second.next_observations[1..], [0.0, starts[2], 6.0]);
    assert_ne!(second.next_observations[0], starts[0]);
    let third = try_step(&mut shard, &[0.0, 0.0]).unwrap();
    assert_eq!(third.rewards, [6.0, 24.0]);
}

#[test]
fn doing_nothing_before_an_episode_is_shown_is_of_one_instance() {
    let mut shard = scripted(&[noops(5)]);
    let mut seen = std::collections::BTreeSet::new();
    let mut other = shown(&shard)[3];
    assert!((1.0..=5.0).contains(&other));
    for _ in 0..30 {
        let step = try_step(&mut shard, &[1.0, 0.0]).unwrap();
        assert_eq!(step.terminated, [1, 0]);
        seen.insert(step.next_observations[1] as u32);
        other += 1.0;
        assert_eq!(step.next_observations[3], other);
    }
    assert_eq!(Vec::from_iter(seen), [1, 2, 3, 4, 5]);
}

#[test]
fn what_was_stepped_apart_is_restored() {
    let wrappers = [noops(3), skip(2)];
    for before in [0, 1, 4, 9] {
        let mut original = scripted(&wrappers);
        run(&mut original, 0..before);
        let state = original.save();
        let expected = run(&mut original, before..before + 30);
        let mut other = scripted(&wrappers);
        run(&mut other, 0..3);
        other.restore(&state).unwrap();
        assert_eq!(run(&mut other, before..before + 30), expected);
    }
}

#[test]
fn a_vector_environment_refuses_and_says_how_it_goes() {
    let batch = pool().make("ALE/Pong-v5", &arguments(&[]), 2).unwrap();
    let error = wrap(Box::new(batch), &[noops(5)])
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("vectorization_mode = \"sync\""), "{error}");
}
