//! Instances of a batch have nothing to do with each other, whatever one of them is told to do.

use rookery_common::spaces::Space;

use super::player::{NUM_ENVS, Player, Step};
use super::repetition::first_difference;
use super::{Bench, Failure, Finding, Outcome};

const REMEDY: &str = "keep everything that an instance depends on apart from the others'";

/// Together is as apart.
pub(super) fn independent(bench: &Bench<'_>) -> Finding {
    let (seed, times) = (bench.options.seed, 0..u64::from(bench.options.steps));
    let together = Player::begin(bench, NUM_ENVS, 0, seed)?.play(times.clone())?;
    for (index, together) in together.iter().enumerate() {
        let alone = Player::begin(bench, 1, index as u64, seed)?.play(times.clone())?;
        if let Some(difference) = first_difference(together, &alone[0]) {
            let reason =
                format!("instance {index} of {NUM_ENVS} is not as it is alone: {difference}");
            return Err(Failure::new(reason, REMEDY));
        }
    }
    Ok(Outcome::Ok {
        note: format!("{NUM_ENVS} together are as each is alone"),
    })
}

/// Some can step while the others stand still.
pub(super) fn step_some(bench: &Bench<'_>) -> Finding {
    let seed = bench.options.seed;
    let mut together = Player::begin(bench, NUM_ENVS, 0, seed)?;
    let mut apart = Player::begin(bench, NUM_ENVS, 0, seed)?;
    if let Err(fault) = apart.step_some(&[false; NUM_ENVS], &apart.actions(0)) {
        return Ok(Outcome::Skipped {
            reason: format!("{fault}; frame_skip and noop_starts cannot stand around it"),
        });
    }
    for time in 0..u64::from(bench.options.steps) {
        let actions = together.actions(time);
        let expected = together.step_without_resets(&actions)?;
        for (index, expected) in expected.iter().enumerate() {
            let mut active = [false; NUM_ENVS];
            active[index] = true;
            let mut taken = apart.step_some(&active, &actions)?.swap_remove(index);
            // What was earned inside is not asked for here.
            taken.raw_reward = expected.raw_reward;
            if !taken.equals(expected) {
                return Err(Failure::new(
                    format!(
                        "stepped by itself, instance {index} has {}",
                        taken.difference(expected)
                    ),
                    "let `step_some` do to active instances what `step` does, and nothing to others",
                ));
            }
        }
        let limit = bench.spec.max_episode_steps.unwrap_or(u32::MAX);
        for (index, step) in expected.iter().enumerate() {
            let is_over = step.terminated == 1 || step.truncated == 1;
            if is_over || together.elapsed[index] >= limit {
                let next = together.episodes[index] + 1;
                together.reset(index, next)?;
                apart.reset(index, next)?;
            }
        }
    }
    Ok(Outcome::Ok {
        note: format!("{} steps one instance at a time", bench.options.steps),
    })
}

/// Actions outside their space harm nothing: those of a box are clipped, others are the instance's
/// own problem until its next reset.
pub(super) fn out_of_bounds(bench: &Bench<'_>) -> Finding {
    match &bench.spec.action {
        _ if bench.spec.action_mask => Ok(Outcome::Skipped {
            reason: "a mask says which actions can be taken".to_owned(),
        }),
        Space::Box { low, high, .. } => out_of_box(bench, low, high),
        Space::Discrete { n } => out_of_range(bench, *n),
        Space::MultiDiscrete { nvec } => out_of_range(bench, nvec[0]),
        Space::Frames { .. } => Ok(Outcome::Skipped {
            reason: "actions are images".to_owned(),
        }),
    }
}

fn out_of_box(bench: &Bench<'_>, low: &[f32], high: &[f32]) -> Finding {
    let seed = bench.options.seed;
    if low.iter().chain(high).all(|bound| bound.is_infinite()) {
        return Ok(Outcome::Skipped {
            reason: "actions have no bounds".to_owned(),
        });
    }
    let mut wild = Player::begin(bench, NUM_ENVS, 0, seed)?;
    let mut tame = Player::begin(bench, NUM_ENVS, 0, seed)?;
    let mut rewards_differ = false;
    for time in 0..u64::from(bench.options.steps) {
        if time % STEPS_IN_STEP == 0 {
            for index in 0..NUM_ENVS {
                wild.reset(index, time)?;
                tame.reset(index, time)?;
            }
        }
        let scale = [1.5, 10.0, 1e6][time as usize % 3];
        let actions: Vec<f32> = wild.actions(time).iter().map(|x| x * scale).collect();
        let bounds = low.iter().zip(high).cycle();
        let clipped: Vec<f32> = actions
            .iter()
            .zip(bounds)
            .map(|(action, (low, high))| action.clamp(*low, *high))
            .collect();
        let (after_wild, after_tame) = (wild.step(&actions)?, tame.step(&clipped)?);
        for (wild, tame) in after_wild.iter().zip(&after_tame) {
            let is_alike = are_close(&wild.observation, &tame.observation)
                && (wild.terminated, wild.truncated) == (tame.terminated, tame.truncated);
            // An infinite reward that is no matter of bounds has failed already.
            let is_earned = wild.reward.is_finite() || !tame.reward.is_finite();
            if !(is_alike && is_earned) {
                return Err(Failure::new(
                    format!(
                        "actions {actions:?} do not do what {clipped:?} do: {}",
                        wild.difference(tame)
                    ),
                    "clip actions to their bounds, or put clip_action around it",
                ));
            }
            rewards_differ |= !are_close(&[wild.reward], &[tame.reward]);
        }
    }
    let note = if rewards_differ {
        "they are clipped, but earn what they would unclipped; clip_action around it changes that"
    } else {
        "they are clipped"
    };
    Ok(Outcome::Ok {
        note: note.to_owned(),
    })
}

/// Steps after which an episode is begun anew, so that what an environment rounds differently where it
/// clips, as Gymnasium's continuous mountain car does, cannot add up.
const STEPS_IN_STEP: u64 = 10;
/// The largest difference that is taken for one of rounding, relative above one.
const ROUNDING: f32 = 1e-4;

fn are_close(one: &[f32], other: &[f32]) -> bool {
    let mut pairs = one.iter().zip(other);
    pairs.all(|(a, b)| a.to_bits() == b.to_bits() || (a - b).abs() <= ROUNDING * b.abs().max(1.0))
}

fn out_of_range(bench: &Bench<'_>, n: usize) -> Finding {
    let (seed, steps) = (bench.options.seed, u64::from(bench.options.steps));
    let mut wild = Player::begin(bench, NUM_ENVS, 0, seed)?;
    let mut tame = Player::begin(bench, NUM_ENVS, 0, seed)?;
    let mut neighbours: [Vec<Vec<Step>>; 2] = [Vec::new(), Vec::new()];
    for time in 0..steps {
        let actions = tame.actions(time);
        let mut wild_actions = actions.clone();
        wild_actions[0] = [n as f32, -1.0, 0.5, 1e9][time as usize % 4];
        for (player, actions, seen) in [(&mut tame, &actions, 0), (&mut wild, &wild_actions, 1)] {
            neighbours[seen].push(player.step(actions)?.split_off(1));
        }
    }
    let harmed = |what: String| {
        Failure::new(
            what,
            "keep an action that is none of them to its own instance, and let it do anything there",
        )
    };
    for index in 0..NUM_ENVS - 1 {
        let [tame, wild]: [Vec<Step>; 2] = [0, 1].map(|seen| {
            let steps = neighbours[seen].iter();
            steps
                .map(|steps: &Vec<Step>| steps[index].clone())
                .collect()
        });
        if let Some(difference) = first_difference(&tame, &wild) {
            return Err(harmed(format!(
                "a neighbour of an instance with actions outside of {n} differs: {difference}"
            )));
        }
    }
    // The next episode of the instance itself is as if nothing had been.
    wild.reset(0, 0)?;
    let mut fresh = Player::begin(bench, NUM_ENVS, 0, seed)?;
    let (after, fresh) = (wild.play(0..steps)?, fresh.play(0..steps)?);
    match first_difference(&fresh[0], &after[0]) {
        None => Ok(Outcome::Ok {
            note: "they harm nothing else".to_owned(),
        }),
        Some(difference) => Err(harmed(format!(
            "after actions outside of {n}, a new episode differs: {difference}"
        ))),
    }
}
