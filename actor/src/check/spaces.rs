//! What comes out is what the spec says.

use rookery_common::spaces::Space;

use super::player::{NUM_ENVS, Player, Step, same};
use super::{Bench, Failure, Finding, Outcome};

/// The spec is sound in itself.
pub(super) fn spec(bench: &Bench<'_>) -> Finding {
    let spec = bench.spec;
    for (name, space) in [("observation", &spec.observation), ("action", &spec.action)] {
        let remedy = format!("correct the {name} space");
        match space {
            Space::Discrete { n: 0 } => {
                return Err(Failure::new(format!("the {name} space is empty"), remedy));
            }
            Space::Frames { .. } if space.width() == 0 => {
                return Err(Failure::new(format!("the {name} space is empty"), remedy));
            }
            Space::MultiDiscrete { nvec } if nvec.is_empty() || nvec.contains(&0) => {
                return Err(Failure::new(
                    format!("the {name} space {space} has a choice of nothing"),
                    remedy,
                ));
            }
            Space::Discrete { .. } | Space::MultiDiscrete { .. } | Space::Frames { .. } => {}
            Space::Box { shape, low, high } => {
                let width: usize = shape.iter().product();
                if width == 0 || low.len() != width || high.len() != width {
                    let bounds = (low.len(), high.len());
                    return Err(Failure::new(
                        format!("the {name} space has shape {shape:?} and {bounds:?} bounds"),
                        remedy,
                    ));
                }
                let mut bounds = low.iter().zip(high).enumerate();
                let is_unsound = |(_, (low, high)): &(usize, (&f32, &f32))| {
                    low.is_nan() || high.is_nan() || low > high
                };
                if let Some((at, (low, high))) = bounds.find(is_unsound) {
                    return Err(Failure::new(
                        format!("bounds {at} of the {name} space are {low} and {high}"),
                        remedy,
                    ));
                }
            }
        }
    }
    spec.validate_parts().map_err(|error| {
        Failure::new(error.to_string(), "correct the spec's goal or action mask")
    })?;
    if spec.max_episode_steps == Some(0) {
        return Err(Failure::new(
            "max_episode_steps is 0",
            "allow a step at least, or say None",
        ));
    }
    for num_envs in [1, NUM_ENVS] {
        let made = (bench.make)(num_envs)?;
        if made.num_envs() != num_envs || made.spec() != spec {
            return Err(Failure::new(
                format!(
                    "a batch of {num_envs} has {} instances or another spec",
                    made.num_envs()
                ),
                "make as many instances as are asked for, with one spec",
            ));
        }
    }
    let limit = spec.max_episode_steps;
    let limit = limit.map_or("no time limit".to_owned(), |limit| {
        format!("at most {limit} steps")
    });
    Ok(Outcome::Ok { note: limit })
}

/// Why a row does not lie in a space.
fn misfit(space: &Space, row: &[f32]) -> Option<String> {
    if space.contains(row) {
        return None;
    }
    match space {
        Space::Discrete { n } => Some(format!("it is {row:?}, not a whole number below {n}")),
        Space::MultiDiscrete { nvec } => {
            Some(format!("it is {row:?}, not whole numbers below {nvec:?}"))
        }
        Space::Frames { .. } => Some("it holds something else than 255ths from 0 to 1".to_owned()),
        Space::Box { low, high, .. } => {
            let mut values = row.iter().zip(low.iter().zip(high)).enumerate();
            let (at, (value, (low, high))) = values.find(|(_, (value, (low, high)))| {
                !(value.is_finite() && *value >= *low && *value <= *high)
            })?;
            Some(if value.is_nan() {
                format!("value {at} is not a number, or was not written")
            } else {
                format!("value {at} is {value}, which does not lie from {low} to {high}")
            })
        }
    }
}

const OBSERVATION_REMEDY: &str = "write a number to every value, and widen the observation space or \
                                  put clip_observation around it where numbers lie outside";

/// First observations lie in the observation space.
pub(super) fn reset_observations(bench: &Bench<'_>) -> Finding {
    let mut player = Player::begin(bench, NUM_ENVS, 0, bench.options.seed)?;
    for episode in 0..100 {
        for index in 0..NUM_ENVS {
            let first = player.reset(index, episode)?;
            if let Some(reason) = misfit(&bench.spec.observation, &first) {
                let reason = format!("in the first observation of episode {episode}, {reason}");
                return Err(Failure::new(reason, OBSERVATION_REMEDY));
            }
        }
    }
    Ok(Outcome::Ok {
        note: "100 episodes".to_owned(),
    })
}

/// Looks at every step of some episodes.
fn steps(bench: &Bench<'_>, mut look: impl FnMut(&Step) -> Result<(), Failure>) -> Finding {
    let mut player = Player::begin(bench, NUM_ENVS, 0, bench.options.seed)?;
    for time in 0..u64::from(bench.options.steps) {
        let actions = player.actions(time);
        let elapsed = player.elapsed.clone();
        for (step, elapsed) in player.step(&actions)?.iter().zip(elapsed) {
            look(step).map_err(|failure| Failure {
                reason: format!(
                    "after step {} of an episode, {}",
                    elapsed + 1,
                    failure.reason
                ),
                ..failure
            })?;
        }
    }
    let episodes: u64 = player.episodes.iter().sum();
    let steps = u64::from(bench.options.steps) * NUM_ENVS as u64;
    Ok(Outcome::Ok {
        note: format!("{steps} steps, {episodes} episodes"),
    })
}

/// Observations of steps lie in the observation space.
pub(super) fn step_observations(bench: &Bench<'_>) -> Finding {
    steps(bench, |step| {
        match misfit(&bench.spec.observation, &step.observation) {
            None => Ok(()),
            Some(reason) => Err(Failure::new(reason, OBSERVATION_REMEDY)),
        }
    })
}

/// Rewards are finite.
pub(super) fn rewards(bench: &Bench<'_>) -> Finding {
    let (mut lowest, mut highest) = (f32::INFINITY, f32::NEG_INFINITY);
    let found = steps(bench, |step| {
        if !(step.reward.is_finite() && step.raw_reward.is_finite()) {
            let unwritten = if step.reward.is_nan() {
                ", or was not written"
            } else {
                ""
            };
            return Err(Failure::new(
                format!("the reward is {}{unwritten}", step.reward),
                "give a finite reward for every step",
            ));
        }
        lowest = lowest.min(step.reward);
        highest = highest.max(step.reward);
        Ok(())
    })?;
    Ok(match found {
        Outcome::Ok { .. } => Outcome::Ok {
            note: format!("from {lowest} to {highest}"),
        },
        other => other,
    })
}

/// Both flags are written, and are zero or one.
pub(super) fn flags(bench: &Bench<'_>) -> Finding {
    steps(bench, |step| {
        for (name, flag) in [
            ("terminated", step.terminated),
            ("truncated", step.truncated),
        ] {
            if flag > 1 {
                return Err(Failure::new(
                    format!("`{name}` is {flag}, or was not written"),
                    format!("write 0 or 1 to `{name}` in every step"),
                ));
            }
        }
        Ok(())
    })
}

/// What is shown is what was written last.
pub(super) fn observe(bench: &Bench<'_>) -> Finding {
    let mut player = Player::begin(bench, NUM_ENVS, 0, bench.options.seed)?;
    let width = bench.spec.observation.width();
    for time in 0..u64::from(bench.options.steps) {
        let mut shown = vec![f32::NAN; NUM_ENVS * width];
        player.environment.observe(&mut shown);
        for (index, (shown, written)) in shown.chunks(width).zip(&player.shown).enumerate() {
            if !same(shown, written) {
                return Err(Failure::new(
                    format!("instance {index} shows {shown:?} and has written {written:?}"),
                    "let `observe` write what the last reset or step has written",
                ));
            }
        }
        let actions = player.actions(time);
        player.step(&actions)?;
    }
    Ok(Outcome::Ok {
        note: format!("{} times", bench.options.steps),
    })
}
