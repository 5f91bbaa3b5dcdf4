//! How fast it is, on one core.

use std::time::{Duration, Instant};

use super::player::Player;
use super::{Bench, Finding, Outcome};

/// Instances that are stepped together.
const NUM_ENVS: usize = 32;
/// Rows of actions that are cycled through, so that drawing them is not measured.
const ACTION_ROWS: u64 = 64;

/// Steps and resets a second.
pub(super) fn measure(bench: &Bench<'_>) -> Finding {
    let time = Duration::from_millis(bench.options.measure_milliseconds);
    let mut player = Player::begin(bench, NUM_ENVS, 0, bench.options.seed)?;
    let actions: Vec<Vec<f32>> = (0..ACTION_ROWS).map(|time| player.actions(time)).collect();
    let (mut steps, mut resets) = (0_u64, 0_u64);
    let mut stepping = Duration::ZERO;
    let mut resetting = Duration::ZERO;
    let mut rows = actions.iter().cycle();
    while stepping < time {
        let Some(actions) = rows.next() else { break };
        let begin = Instant::now();
        let taken = player.step_without_resets(actions)?;
        stepping += begin.elapsed();
        steps += taken.len() as u64;
        for (index, step) in taken.iter().enumerate() {
            let limit = bench.spec.max_episode_steps.unwrap_or(u32::MAX);
            if step.terminated == 1 || step.truncated == 1 || player.elapsed[index] >= limit {
                player.reset(index, player.episodes[index] + 1)?;
            }
        }
    }
    while resetting < time / 4 {
        let begin = Instant::now();
        for index in 0..NUM_ENVS {
            player.reset(index, resets)?;
        }
        resetting += begin.elapsed();
        resets += NUM_ENVS as u64;
    }
    let rate = |count: u64, time: Duration| count as f64 / time.as_secs_f64();
    Ok(Outcome::Ok {
        note: format!(
            "{:.0} steps/s in batches of {NUM_ENVS}, {:.0} resets/s",
            rate(steps, stepping),
            rate(resets, resetting)
        ),
    })
}
