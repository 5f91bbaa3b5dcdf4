//! What holds whatever stands around whatever.

use super::*;

#[test]
fn what_comes_out_lies_in_the_space() {
    for variant in 0..variants().len() {
        let mut shard = shard(variant, 0, 3);
        let space = shard.spec().observation.clone();
        let mut num_episodes = 0;
        for columns in run(&mut shard, 0..600) {
            for row in columns.observations.chunks(space.width()) {
                assert!(space.contains(row), "{:?}: {row:?}", variants()[variant]);
            }
            for row in columns.finals.observations.chunks(space.width()) {
                assert!(space.contains(row), "{:?}: {row:?}", variants()[variant]);
            }
            assert!(columns.rewards.iter().all(|reward| reward.is_finite()));
            num_episodes += columns.episodes.len();
        }
        assert!(num_episodes >= 3, "{:?}", variants()[variant]);
    }
}

#[test]
fn the_spec_says_what_stands_around_the_environment() {
    for (id, wrappers) in variants() {
        let bare = make(id, &BTreeMap::new(), 2).unwrap().spec().clone();
        let wrapped = native(id, 2, &wrappers);
        assert_eq!(wrapped.spec().wrappers, wrappers);
        assert_eq!(wrapped.num_envs(), 2);
        assert_eq!(bare.difference(wrapped.spec()).unwrap().0, "wrappers");
    }
}

#[test]
fn a_restored_environment_goes_on_bit_for_bit() {
    for variant in 0..variants().len() {
        for before in [0, 1, 57] {
            let mut original = shard(variant, 3, 3);
            run(&mut original, 0..before);
            let state = original.save();
            let mut restored = shard(variant, 3, 3);
            run(&mut restored, 5..25);
            restored.restore(&state).unwrap();
            assert_eq!(restored.save(), state);
            let steps = before..before + 120;
            let after = run(&mut restored, steps.clone());
            assert_eq!(
                after,
                run(&mut original, steps),
                "{:?}",
                variants()[variant]
            );
            assert_eq!(restored.save(), original.save());
        }
    }
}

/// Holds T34 with wrappers.
#[test]
fn grouping_wrapped_environments_changes_nothing() {
    for variant in 0..variants().len() {
        let together = run(&mut shard(variant, 0, 3), 0..150);
        for env in 0..3 {
            let alone = run(&mut shard(variant, env, 1), 0..150);
            let env = env as usize;
            for (together, alone) in together.iter().zip(alone) {
                let width = alone.observations.len();
                let row = &together.observations[env * width..][..width];
                assert_eq!(row, alone.observations, "{:?}", variants()[variant]);
                assert_eq!(together.rewards[env], alone.rewards[0]);
                assert_eq!(together.flags[0][env], alone.flags[0][0]);
                assert_eq!(together.flags[1][env], alone.flags[1][0]);
            }
        }
    }
}

#[test]
fn states_that_are_cut_lengthened_or_of_another_size_are_refused() {
    for variant in 0..variants().len() {
        let mut shard = shard(variant, 0, 2);
        run(&mut shard, 0..20);
        let state = shard.save();
        run(&mut shard, 20..27);
        let before = shard.save();
        for length in 0..state.len() {
            assert!(shard.restore(&state[..length]).is_err());
        }
        assert!(shard.restore(&[state.as_slice(), &[0]].concat()).is_err());
        assert_eq!(shard.save(), before, "what is refused changes nothing");
        // Whatever byte is damaged: refused, or a state that can be gone on with.
        for place in (0..state.len()).step_by(7) {
            let mut damaged = state.clone();
            damaged[place] ^= 0x55;
            if shard.restore(&damaged).is_ok() {
                run(&mut shard, 0..5);
            }
        }
    }
    let mut three = echo(3, &[stack(2)]);
    let mut state = Vec::new();
    echo(2, &[stack(2)]).save(&mut state);
    assert_eq!(
        three.restore(&state),
        Err(RestoreError::Mismatch {
            field: "number of wrapped environments",
            expected: 3,
            got: 2
        })
    );
    let mut state = Vec::new();
    echo(3, &[stack(4)]).save(&mut state);
    assert_eq!(
        three.restore(&state),
        Err(RestoreError::ImpossibleState { index: 0 })
    );
}

#[test]
fn only_active_instances_step() {
    for (id, wrappers) in variants() {
        let begin = || {
            let mut environment = native(id, 3, &wrappers);
            for index in 0..3 {
                reset(&mut *environment, index, index as u64);
            }
            environment
        };
        let space = begin().spec().action.clone();
        let actions: Vec<f32> = (0..3).flat_map(|env| action(&space, env, 0)).collect();
        let mut all = begin();
        let everyone = step(&mut *all, &actions);
        let mut some = begin();
        let mut written = untouched(&*some);
        some.step_some(&[true, false, true], &actions, written.output())
            .unwrap();
        let width = some.spec().observation.width();
        let rows = |step: &Step, index: usize| {
            let row = step.observations[index * width..][..width].to_vec();
            (
                row,
                step.rewards[index],
                step.terminated[index],
                step.truncated[index],
            )
        };
        assert_eq!(rows(&written, 0), rows(&everyone, 0), "{id} {wrappers:?}");
        assert_eq!(rows(&written, 2), rows(&everyone, 2), "{id} {wrappers:?}");
        assert_eq!(rows(&written, 1), rows(&untouched(&*some), 1));
        // The one that was left out takes the same step later.
        some.step_some(&[false, true, false], &actions, written.output())
            .unwrap();
        assert_eq!(written, everyone, "{id} {wrappers:?}");
    }
}
