//! Episodes end, and say why.

use super::player::{NUM_ENVS, Player};
use super::{Bench, Failure, Finding, Outcome};

/// Episodes that reach the time limit before anything is said about it.
const ENOUGH_AT_THE_LIMIT: u32 = 2;

/// Episodes end by themselves or by a time limit.
pub(super) fn end(bench: &Bench<'_>) -> Finding {
    if let Some(limit) = bench.spec.max_episode_steps {
        return Ok(Outcome::Ok {
            note: format!("after {limit} steps at the latest"),
        });
    }
    let mut player = Player::begin(bench, NUM_ENVS, 0, bench.options.seed)?;
    let mut longest = 0;
    for time in 0..u64::from(bench.options.max_steps) {
        let actions = player.actions(time);
        let lengths = player.elapsed.clone();
        for (step, length) in player.step(&actions)?.iter().zip(lengths) {
            if step.next.is_some() {
                longest = longest.max(length + 1);
            }
        }
        if player.episodes.iter().all(|episode| *episode >= 4) {
            return Ok(Outcome::Ok {
                note: format!("without a time limit, after at most {longest} random steps"),
            });
        }
    }
    Err(Failure::new(
        format!(
            "there is no time limit, and no {NUM_ENVS} instances had four episodes in {} random \
             steps",
            bench.options.max_steps
        ),
        "put time_limit around it, so that evaluation ends",
    ))
}

/// What the time limit ends is truncated and not terminated.
pub(super) fn time_limit(bench: &Bench<'_>) -> Finding {
    let Some(limit) = bench.spec.max_episode_steps else {
        return Ok(Outcome::Skipped {
            reason: "there is no time limit".to_owned(),
        });
    };
    let mut player = Player::begin(bench, NUM_ENVS, 0, bench.options.seed)?;
    let steps = limit
        .saturating_mul(ENOUGH_AT_THE_LIMIT)
        .max(bench.options.steps)
        .min(bench.options.max_steps);
    let (mut earlier, mut cut, mut terminated) = (0, 0, 0);
    for time in 0..u64::from(steps) {
        let actions = player.actions(time);
        let lengths = player.elapsed.clone();
        for (step, length) in player.step(&actions)?.iter().zip(lengths) {
            match (step.next.is_some(), length + 1 >= limit) {
                (false, _) => {}
                (true, false) => earlier += 1,
                (true, true) if step.terminated == 1 => terminated += 1,
                (true, true) => cut += 1,
            }
        }
    }
    // Where an episode can end earlier, or be cut, the others may have reached something.
    if terminated >= ENOUGH_AT_THE_LIMIT && earlier == 0 && cut == 0 {
        return Err(Failure::new(
            format!(
                "all of {terminated} episodes say that they terminated, after exactly the {limit} \
                 steps of the time limit"
            ),
            "write 1 to `truncated` and 0 to `terminated` where only the time is up, or leave the \
             limit to the spec",
        ));
    }
    Ok(match cut + terminated {
        0 => Outcome::Skipped {
            reason: format!("no episode lasted for its {limit} steps; {earlier} ended earlier"),
        },
        reached => Outcome::Ok {
            note: format!("{cut} of {reached} episodes that reached it were truncated"),
        },
    })
}
