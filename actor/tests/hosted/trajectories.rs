//! What comes through a host is what Gymnasium does, bit for bit, and can be continued elsewhere.

use std::path::PathBuf;

use rookery_actor::environments::{BatchedEnvironment, RestoreError, StepOutput, make};
use rookery_actor::shard::Shard;
use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::Space;

use crate::support::{
    Bare, actions, arguments, bits, digest, gymnasium_seed, pool, run, shard, shown, try_step,
};

/// Compares a shard with loops of Python's own; gives the number of episodes that ended.
fn compare(id: &str, pairs: &[(&str, &str)], keywords: &str, num_envs: usize, steps: u64) -> usize {
    let shard = shard(&pool(), id, pairs, num_envs);
    compare_with("bare.py", shard, keywords, steps)
}

/// Compares a shard with loops of Python's own, which `script` is; gives the number of episodes that ended.
pub(crate) fn compare_with(script: &str, mut shard: Shard, keywords: &str, steps: u64) -> usize {
    let (num_envs, id) = (shard.num_envs(), shard.spec().id.clone());
    let (width, action_width) = (
        shard.spec().observation.width(),
        shard.spec().action.width(),
    );
    let all: Vec<Vec<f32>> = (0..steps).map(|step| actions(&shard, step)).collect();
    let mut bare: Vec<Bare> = (0..num_envs)
        .map(|index| {
            let own: Vec<Vec<f32>> = all
                .iter()
                .map(|row| row[index * action_width..][..action_width].to_vec())
                .collect();
            let id = id.trim_start_matches("gymnasium:");
            Bare::run(script, id, keywords, index, &own)
        })
        .collect();
    for (row, bare) in shown(&shard).chunks_exact(width).zip(&mut bare) {
        assert_eq!(digest(row), bare.row(), "{id}");
    }
    let mut ended = 0;
    for (number, actions) in all.iter().enumerate() {
        let step = try_step(&mut shard, actions).unwrap();
        let mut finals = step.finals.observations.chunks_exact(width);
        for (index, bare) in bare.iter_mut().enumerate() {
            let row = bare.row();
            let next = &step.next_observations[index * width..][..width];
            let flags = [step.terminated[index], step.truncated[index]].map(f32::from);
            let is = format!("{id}, step {number} of {index}");
            let (observation, outcome) = row.split_at(row.len() - 3);
            assert_eq!(bits(&[step.rewards[index]]), outcome[..1], "{is}");
            assert_eq!(bits(&flags), outcome[1..], "{is}");
            if flags == [0.0, 0.0] {
                assert_eq!(digest(next), observation, "{is}");
                continue;
            }
            ended += 1;
            if flags[0] == 0.0 {
                // T1, T2: the observation with which a truncated episode ends goes to the learner.
                assert_eq!(digest(finals.next().unwrap()), observation, "{is}");
            }
            assert_eq!(digest(next), bare.row(), "{is}");
        }
    }
    ended
}

#[test]
fn scalar_environments_do_what_they_do_in_a_bare_loop() {
    let sync = ("vectorization_mode", "sync");
    assert!(compare("gymnasium:CartPole-v1", &[sync], "{}", 3, 120) > 6);
    let short = [("max_episode_steps", "50")];
    let keywords = r#"{"max_episode_steps": 50}"#;
    assert_eq!(
        compare("gymnasium:Pendulum-v1", &short, keywords, 2, 120),
        4
    );
    let slippery = [("is_slippery", "false"), ("map_name", "8x8")];
    let keywords = r#"{"is_slippery": false, "map_name": "8x8"}"#;
    assert!(compare("gymnasium:FrozenLake-v1", &slippery, keywords, 2, 100) > 2);
    assert!(compare("Blackjack-v1", &[], "{}", 2, 60) > 10);
}

#[test]
fn lunar_lander_does_what_it_does_in_a_bare_loop() {
    let batch = pool().make("LunarLander-v3", &arguments(&[]), 1).unwrap();
    assert_eq!(batch.spec().observation.width(), 8);
    assert_eq!(batch.spec().action, Space::Discrete { n: 4 });
    assert_eq!(batch.spec().max_episode_steps, Some(1000));
    assert!(compare("LunarLander-v3", &[], "{}", 2, 220) > 2);
    let continuous = [("continuous", "true"), ("gravity", "-8.0")];
    let keywords = r#"{"continuous": true, "gravity": -8.0}"#;
    assert!(compare("LunarLander-v3", &continuous, keywords, 1, 220) > 0);
}

#[test]
fn mujoco_does_what_it_does_in_a_bare_loop() {
    assert!(compare("gymnasium:Hopper-v5", &[], "{}", 2, 100) > 2);
}

#[test]
fn atari_does_what_its_vector_environment_does() {
    // Games end one after the other, so one instance begins while the other goes on.
    assert!(compare("ALE/Breakout-v5", &[], "{}", 2, 280) >= 2);
}

/// The states of Gymnasium's CartPole come from the same code as the native environment's, so both
/// keep to the same trace.
#[test]
fn cartpole_keeps_to_the_golden_trace() {
    let trace = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/golden/environments/cart_pole.csv"
    );
    let text = std::fs::read_to_string(trace).unwrap();
    let mut lines = text.lines().skip(1);
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let place = |name: &str| names.iter().position(|other| *other == name).unwrap();
    let (action, observation, terminated) =
        (place("action"), place("observation_0"), place("terminated"));
    let mut shard = shard(&pool(), "peculiar:Traced", &[("trace", trace)], 1);
    let mut rows = 0;
    for line in lines {
        let words: Vec<&str> = line.split(',').collect();
        let step = try_step(&mut shard, &[words[action].parse().unwrap()]).unwrap();
        assert_eq!(step.terminated[0], words[terminated].parse::<u8>().unwrap());
        assert_eq!(step.truncated, [1]);
        assert_eq!(step.rewards, [1.0]);
        if step.terminated == [0] {
            let expected: Vec<f32> = words[observation..observation + 4]
                .iter()
                .map(|word| word.parse().unwrap())
                .collect();
            assert_eq!(bits(&step.finals.observations), bits(&expected), "{line}");
        }
        rows += 1;
    }
    assert!(rows > 100);
}

/// T4: the vector environment's own mode is `NEXT_STEP`, of whose fake transitions none comes through:
/// every step moves as the equations say, from a start within its bounds.
#[test]
fn t4_the_vector_cartpole_has_no_fake_transitions() {
    let mut shard = shard(&pool(), "gymnasium:CartPole-v1", &[], 4);
    let is_start = |row: &[f32]| row.iter().all(|value| (-0.05..=0.05).contains(value));
    assert!(shown(&shard).chunks_exact(4).all(is_start));
    let (mut ended, mut elapsed) = (0, [0; 4]);
    for step in 0..150 {
        let before = shown(&shard);
        let actions = actions(&shard, step);
        let taken = try_step(&mut shard, &actions).unwrap();
        assert_eq!(taken.rewards, [1.0; 4], "a fake transition rewards nothing");
        assert_eq!(taken.truncated, [0; 4]);
        let mut lengths = taken.episodes.iter().map(|episode| episode.length);
        for (index, next) in taken.next_observations.chunks_exact(4).enumerate() {
            elapsed[index] += 1;
            if taken.terminated[index] == 1 {
                assert!(is_start(next), "{next:?}");
                assert_eq!(lengths.next(), Some(elapsed[index]));
                (ended, elapsed[index]) = (ended + 1, 0);
                continue;
            }
            let before = &before[4 * index..][..4];
            for (position, speed) in [(0, 1), (2, 3)] {
                let moved = before[position] + 0.02 * before[speed];
                assert!(
                    (moved - next[position]).abs() < 1e-5,
                    "step {step}: {before:?} {next:?}"
                );
            }
            let push = if actions[index] == 1.0 { 1.0 } else { -1.0 };
            assert!(
                (next[1] - before[1]) * push > 0.1,
                "step {step}: {before:?} {next:?}"
            );
        }
    }
    assert!(ended > 12, "{ended}");
}

/// T4, T5: vector environments that begin the next episode by themselves are not stepped; `Vectors`
/// would fail if they were.
#[test]
fn t5_only_vector_environments_that_leave_resets_to_the_caller_are_used() {
    let pool = pool();
    for id in ["NextStep-v0", "SameStep-v0", "Disabled-v0"] {
        let mut shard = shard(&pool, &format!("peculiar:{id}"), &[("limit", "3")], 3);
        let mut finals = 0;
        let mut counts = [0.0_f32; 3];
        for step in 0..40_u64 {
            let actions: Vec<f32> = (0..3)
                .map(|env| f32::from(u8::from((step + env) % 7 == 3)))
                .collect();
            let taken = try_step(&mut shard, &actions).unwrap();
            let mut rows = taken.finals.observations.chunks_exact(2);
            for index in 0..3 {
                counts[index] += 1.0;
                assert_eq!(taken.rewards[index], counts[index], "{id}");
                assert_eq!(taken.terminated[index], actions[index] as u8, "{id}");
                assert_eq!(taken.truncated[index] == 1, counts[index] == 3.0, "{id}");
                let next = taken.next_observations[2 * index + 1];
                if taken.terminated[index] == 1 || taken.truncated[index] == 1 {
                    if taken.terminated[index] == 0 {
                        assert_eq!(rows.next().unwrap()[1], counts[index], "{id}");
                        finals += 1;
                    }
                    counts[index] = 0.0;
                }
                assert_eq!(next, counts[index], "{id}");
            }
        }
        assert!(finals > 10, "{id}: {finals}");
    }
    let error = pool
        .make("peculiar:SameStepOnly-v0", &arguments(&[]), 2)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("SAME_STEP") && error.contains("reset_mask"),
        "{error}"
    );
}

#[test]
fn an_environment_may_cut_episodes_short_by_itself() {
    let mut shard = shard(&pool(), "peculiar:Scripted", &[("limit", "4")], 1);
    assert_eq!(shard.spec().max_episode_steps, None);
    for episode in 0..3 {
        for count in 1..=4 {
            let step = try_step(&mut shard, &[0.0]).unwrap();
            assert_eq!(step.truncated, [u8::from(count == 4)]);
            assert_eq!(step.terminated, [0]);
            if count == 4 {
                assert_eq!(step.finals.observations[1], 4.0);
                assert_eq!(step.episodes[0].length, 4);
                assert_eq!(step.episodes[0].return_, 10.0);
                assert_eq!(step.next_observations[1], 0.0, "episode {episode}");
            }
        }
    }
}

/// What can be saved, in the middle of episodes, is continued bit for bit: in the same process, where
/// other episodes have run in between, and in another one.
#[test]
fn a_restored_shard_goes_on_like_the_one_that_was_saved() {
    for (id, pairs, num_envs, before) in [
        (
            "gymnasium:CartPole-v1",
            &[("vectorization_mode", "sync")][..],
            3,
            37,
        ),
        ("gymnasium:CartPole-v1", &[], 4, 37),
        ("LunarLander-v3", &[], 2, 100),
        ("gymnasium:Hopper-v5", &[], 2, 30),
        (
            "ALE/Breakout-v5",
            &[("max_num_frames_per_episode", "400")],
            2,
            120,
        ),
        ("peculiar:Disabled-v0", &[("limit", "5")], 3, 8),
        ("Blackjack-v1", &[], 3, 9),
    ] {
        let pool = pool();
        let mut original = shard(&pool, id, pairs, num_envs);
        run(&mut original, 0..before);
        let state = original.save();
        let here = shown(&original);
        let expected = run(&mut original, before..before + 60);
        let mut elsewhere = shard(&self::pool(), id, pairs, num_envs);
        run(&mut elsewhere, 0..5);
        for other in [&mut original, &mut elsewhere] {
            other.restore(&state).unwrap();
            assert_eq!(bits(&shown(other)), bits(&here), "{id}");
            assert_eq!(other.save(), state, "{id}");
            assert_eq!(run(other, before..before + 60), expected, "{id}");
        }
    }
}

#[test]
fn an_environment_that_ignores_its_seed_is_found_out() {
    let pool = pool();
    let mut shard = shard(&pool, "peculiar:Unseeded", &[], 2);
    run(&mut shard, 0..1);
    let state = shard.save();
    assert_eq!(
        shard.restore(&state),
        Err(RestoreError::NotDeterministic { index: 0 })
    );
}

#[test]
fn a_saved_state_grows_by_the_actions_of_its_episodes() {
    let mut discrete = shard(&pool(), "peculiar:Scripted", &[("limit", "100000")], 1);
    let fresh = discrete.save().len();
    for _ in 0..1000 {
        try_step(&mut discrete, &[0.0]).unwrap();
    }
    let grown = discrete.save().len() - fresh;
    assert!(
        (1000..1020).contains(&grown),
        "{grown} bytes for a thousand actions"
    );
}

/// A reset that was not announced, as that of a shard's own time limit, begins the episode it says.
#[test]
fn a_reset_may_come_unannounced_or_be_another_than_was_announced() {
    let pool = pool();
    let mut batch = pool.make("peculiar:Scripted", &arguments(&[]), 1).unwrap();
    let episode = |number| Random::derive(3, Purpose::Episode, 0, number);
    let mut row = [0.0; 2];
    let mut first = |batch: &mut dyn BatchedEnvironment, number| {
        batch.reset(0, episode(number), &mut row).unwrap();
        row[0]
    };
    let starts: Vec<f32> = (0..3).map(|number| first(&mut batch, number)).collect();
    assert!(starts[0] != starts[1] && starts[1] != starts[2]);
    let end = |batch: &mut dyn BatchedEnvironment| {
        let output = StepOutput {
            observations: &mut [0.0; 2],
            rewards: &mut [0.0],
            terminated: &mut [0],
            truncated: &mut [0],
        };
        batch.step(&[1.0], output).unwrap();
    };
    // Announced and the same; announced and another; not announced.
    batch.prepare(0, &episode(0));
    end(&mut batch);
    assert_eq!(first(&mut batch, 0), starts[0]);
    batch.prepare(0, &episode(1));
    end(&mut batch);
    assert_eq!(first(&mut batch, 2), starts[2]);
    end(&mut batch);
    assert_eq!(first(&mut batch, 1), starts[1]);
    let seeds = [
        gymnasium_seed(0, 0),
        gymnasium_seed(0, 1),
        gymnasium_seed(1, 0),
    ];
    assert!(seeds[0] != seeds[1] && seeds[0] != seeds[2]);
}

/// What the template of the documentation shows can be trained on.
#[test]
fn the_template_is_an_environment() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python"));
    let mut settings = crate::support::settings();
    settings.python_path = vec![folder];
    let pool = rookery_actor::environments::hosted::HostPool::new(settings);
    let mut shard = shard(&pool, "grid_world:GridWorld", &[("size", "4")], 2);
    assert_eq!(shard.spec().observation.width(), 4);
    let steps = run(&mut shard, 0..200);
    let ended: usize = steps.iter().map(|step| step.episodes.len()).sum();
    assert!(ended > 0);
    assert!(steps.iter().any(|step| step.rewards.contains(&1.0)));
}

/// The ids of native environments stay theirs, and others are looked for in Python.
#[test]
fn native_environments_do_not_need_python() {
    let batch = make("CartPole-v1", &arguments(&[]), 2).unwrap();
    assert_eq!(batch.spec().id, "CartPole-v1");
    let with_wrappers = arguments(&[("python_wrappers", "peculiar:Doubled")]);
    let error = make("CartPole-v1", &with_wrappers, 2)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("`gymnasium:CartPole-v1`"), "{error}");
}
