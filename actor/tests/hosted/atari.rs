//! Atari's games, and episodes that are lives.

use std::process::Command;

use rookery_actor::environments::{for_evaluation, wrap};
use rookery_actor::shard::{EpisodeRecord, Shard};
use rookery_common::seeds::Purpose;
use rookery_common::wrappers::Wrapper;

use crate::support::{SEED, Step, arguments, bits, pool, python, run, shown, try_step};
use crate::trajectories::compare_with;

/// A shard with wrappers around its environments, the first of which has the global index 5.
fn wrapped(id: &str, pairs: &[(&str, &str)], num_envs: usize, wrappers: &[Wrapper]) -> Shard {
    let batch = pool().make(id, &arguments(pairs), num_envs).unwrap();
    let batch = wrap(Box::new(batch), wrappers).unwrap();
    Shard::new(batch, 5, SEED, Purpose::Episode).unwrap()
}

fn clip() -> Wrapper {
    Wrapper::ClipReward {
        low: -1.0,
        high: 1.0,
        training_only: false,
    }
}

fn limit(max_episode_steps: u32) -> Wrapper {
    Wrapper::TimeLimit {
        max_episode_steps,
        training_only: false,
    }
}

const LIVES: Wrapper = Wrapper::EpisodicLife {};

/// What [`atari.py`](../python/atari.py) lists, with sticky actions and without, with FIRE and without, with
/// no-ops and without, and through lives: every pixel, reward and end. Without sticky actions also through more
/// games than draw from one seed.
#[test]
fn t6_t27_preprocessing_is_gymnasiums_step_for_step() {
    let whole = "108000";
    for (id, sticky, fires, noops, frames, steps, at_least) in [
        ("ALE/Breakout-v5", "0.25", true, "30", whole, 260, 8),
        ("ALE/Breakout-v5", "0.0", false, "1", whole, 200, 1),
        ("ALE/SpaceInvaders-v5", "0.25", true, "30", whole, 250, 1),
        ("ALE/Pong-v5", "0.0", true, "30", whole, 60, 0),
        ("ALE/Breakout-v5", "0.0", true, "30", "60", 280, 2 * 18),
    ] {
        let fires = fires.to_string();
        let pairs = [
            ("repeat_action_probability", sticky),
            ("use_fire_reset", &fires),
            ("noop_max", noops),
            ("max_num_frames_per_episode", frames),
            ("reward_clipping", "false"),
        ];
        let keywords: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("\"{name}\": {value}"))
            .collect();
        let keywords = format!("{{{}}}", keywords.join(", "));
        let shard = wrapped(id, &pairs, 2, &[clip(), LIVES]);
        let ended = compare_with("atari.py", shard, &keywords, steps);
        assert!(ended >= at_least, "{id}: {ended}");
    }
}

fn records(steps: &[Step]) -> Vec<EpisodeRecord> {
    let records = steps.iter().flat_map(|step| &step.episodes);
    records.copied().collect()
}

fn ends(steps: &[Step]) -> usize {
    let flags = steps.iter().flat_map(|step| &step.terminated);
    flags.map(|flag| usize::from(*flag)).sum()
}

/// T6: the loss of a life changes what terminates and nothing else. Games, their seeds, rewards, returns and
/// lengths are those that are played without it, in a vector environment and in single ones.
#[test]
fn t6_a_life_is_an_episode_and_what_is_reported_is_a_game() {
    for (id, pairs, steps) in [
        ("ALE/Breakout-v5", &[("reward_clipping", "false")][..], 350),
        ("peculiar:Filmed", &[], 120),
    ] {
        let games = run(&mut wrapped(id, pairs, 2, &[]), 0..steps);
        let lives = run(&mut wrapped(id, pairs, 2, &[LIVES]), 0..steps);
        assert!(records(&games).len() >= 2, "{id}");
        assert_eq!(records(&lives), records(&games), "{id}");
        assert!(ends(&lives) > ends(&games) + 3, "{id}");
        for (step, (life, game)) in lives.iter().zip(&games).enumerate() {
            assert_eq!(life.rewards, game.rewards);
            assert_eq!(life.truncated, game.truncated);
            let size = life.next_observations.len() / 2;
            let newest = if id.starts_with("ALE/") {
                84 * 84
            } else {
                size
            };
            for env in 0..2 {
                assert!(game.terminated[env] <= life.terminated[env], "{step}");
                let last = |step: &Step| {
                    step.next_observations[(env + 1) * size - newest..][..newest].to_vec()
                };
                assert!(last(life) == last(game), "{id}, step {step} of {env}");
            }
        }
    }
}

/// A life lost at step 4, the game cut at step 10, and at step 10 both at once.
#[test]
fn t6_a_time_limit_is_one_of_games() {
    let mut shard = wrapped("peculiar:Filmed", &[], 1, &[limit(10), LIVES]);
    for (losses, terminated) in [([4_u8, 0], 0), ([4, 10], 1)] {
        for step in 1..=10_u8 {
            let action = f32::from(u8::from(losses.contains(&step)));
            let taken = try_step(&mut shard, &[action]).unwrap();
            if step < 10 {
                assert_eq!(taken.terminated, [u8::from(step == 4)]);
                assert_eq!((&taken.truncated[..], taken.episodes.len()), (&[0][..], 0));
                assert_eq!(
                    shown(&shard)[0],
                    f32::from(step) / 255.0,
                    "the game goes on"
                );
                continue;
            }
            assert_eq!(
                (taken.terminated, taken.truncated),
                (vec![terminated], vec![1])
            );
            assert_eq!(taken.episodes[0].length, 10);
            assert_eq!(taken.episodes[0].return_, 55.0);
            assert_eq!(shown(&shard)[0], 0.0, "another game has begun");
        }
    }
}

/// In the middle of a life, and with a stack that still reaches into the one before.
#[test]
fn a_shard_is_restored_through_lives() {
    let stacked = [("python_wrappers", "peculiar:stack")];
    for (id, pairs, before) in [
        ("ALE/Breakout-v5", &[][..], vec![60, 130]),
        ("peculiar:Filmed", &stacked[..], (3..16).collect()),
    ] {
        for before in before {
            let mut original = wrapped(id, pairs, 2, &[clip(), LIVES]);
            run(&mut original, 0..before);
            let (state, here) = (original.save(), shown(&original));
            let expected = run(&mut original, before..before + 60);
            assert!(ends(&expected) > 1, "{id}");
            let mut other = wrapped(id, pairs, 2, &[clip(), LIVES]);
            run(&mut other, 0..5);
            other.restore(&state).unwrap();
            assert_eq!(bits(&shown(&other)), bits(&here), "{id} {before}");
            assert_eq!(other.save(), state, "{id} {before}");
            assert!(
                run(&mut other, before..before + 60) == expected,
                "{id} {before}"
            );
        }
    }
}

/// Without sticky actions games in a row draw from one seed; each can be come back to, the first after another seed
/// included, from wherever the instances are.
#[test]
fn a_shard_is_restored_to_any_of_the_games_that_draw_from_one_seed() {
    let pairs = [
        ("repeat_action_probability", "0.0"),
        ("max_num_frames_per_episode", "60"),
    ];
    let make = || wrapped("ALE/Pong-v5", &pairs, 2, &[]);
    let mut original = make();
    let mut other = make();
    let (mut step, mut games) = (0, 0);
    for steps in [4, 14, 60, 130, 25] {
        games += records(&run(&mut original, step..step + steps)).len();
        step += steps;
        let (state, here) = (original.save(), shown(&original));
        other.restore(&state).unwrap();
        assert_eq!(bits(&shown(&other)), bits(&here), "{step}");
        assert_eq!(other.save(), state, "{step}");
        let expected = run(&mut original, step..step + 20);
        assert_eq!(run(&mut other, step..step + 20), expected, "{step}");
        games += records(&expected).len();
        step += 20;
        // The other goes its own way meanwhile.
        run(&mut other, 0..7);
    }
    assert!(games > 2 * 16, "{games}");
}

/// A watched shard lets no game begin by itself, and plays the same ones.
#[test]
fn games_that_are_watched_are_those_that_nobody_sees() {
    let pairs = arguments(&[
        ("repeat_action_probability", "0.0"),
        ("max_num_frames_per_episode", "60"),
    ]);
    let make = || Box::new(pool().make("ALE/Pong-v5", &pairs, 2).unwrap());
    let mut unseen = Shard::new(make(), 0, SEED, Purpose::Evaluation).unwrap();
    let mut watched = Shard::watched(make(), 0, SEED, Purpose::Evaluation).unwrap();
    let played = run(&mut unseen, 0..50);
    assert_eq!(records(&played).len(), 6);
    assert!(run(&mut watched, 0..50) == played);
}

/// Games are the same whatever was played before, but for those that `resets.py` names:
/// `cargo test --release -p rookery-actor --test hosted -- --ignored games_without_memory`.
#[test]
#[ignore = "takes ten minutes: run it with a new version of ale-py"]
fn games_without_memory_begin_alike_after_any_other() {
    let output = Command::new(python())
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/python/remembering.py"
        ))
        .output()
        .unwrap();
    let found = String::from_utf8_lossy(&output.stdout);
    let script = include_str!("../../src/environments/hosted/resets.py");
    let line = script
        .lines()
        .find(|line| line.starts_with("REMEMBERING = "));
    assert_eq!(line.unwrap(), format!("REMEMBERING = {}", found.trim()));
}

#[test]
fn evaluation_plays_whole_games_and_only_what_has_lives_can_lose_one() {
    assert_eq!(for_evaluation(&[clip(), LIVES]), [clip()]);
    let batch = pool()
        .make("peculiar:Scripted", &arguments(&[]), 1)
        .unwrap();
    let error = wrap(Box::new(batch), &[LIVES]).err().unwrap().to_string();
    assert!(
        error.contains("`peculiar:Scripted` counts no lives"),
        "{error}"
    );
    for argument in ["episodic_life", "life_loss_info"] {
        let error = pool()
            .make("ALE/Pong-v5", &arguments(&[(argument, "true")]), 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains("{kind = \"episodic_life\"}"), "{error}");
    }
}
