//! The same again is the same: under one seed, after other episodes, from a saved state.

use super::player::{NUM_ENVS, Player, Step, action, same};
use super::{Bench, Failure, Finding, Outcome};

const SEED_REMEDY: &str = "draw everything from the `random` that a reset is given, and nothing from \
                           the clock, the process or global state";
const LEAK_REMEDY: &str = "set everything that steps depend on in `reset`";
const STATE_REMEDY: &str = "save everything that the future depends on: positions, hidden variables, \
                            clocks, random numbers";

/// Finds the first step at which trajectories differ, in words.
pub(super) fn first_difference(one: &[Step], other: &[Step]) -> Option<String> {
    let mut pairs = one.iter().zip(other).enumerate();
    let (time, (one, other)) = pairs.find(|(_, (one, other))| !one.equals(other))?;
    Some(format!("step {} has {}", time + 1, one.difference(other)))
}

/// Equal seeds make equal episodes.
pub(super) fn equal_seeds(bench: &Bench<'_>) -> Finding {
    let seed = bench.options.seed;
    let [mut one, mut other] = [
        Player::begin(bench, NUM_ENVS, 0, seed)?,
        Player::begin(bench, NUM_ENVS, 0, seed)?,
    ];
    for (index, (one, other)) in one.shown.iter().zip(&other.shown).enumerate() {
        if !same(one, other) {
            return Err(Failure::new(
                format!("two resets of instance {index} show {one:?} and {other:?}"),
                SEED_REMEDY,
            ));
        }
    }
    let times = 0..u64::from(bench.options.steps);
    let (one, other) = (one.play(times.clone())?, other.play(times)?);
    for (index, (one, other)) in one.iter().zip(&other).enumerate() {
        if let Some(difference) = first_difference(one, other) {
            let reason = format!("played twice, instance {index} differs: {difference}");
            return Err(Failure::new(reason, SEED_REMEDY));
        }
    }
    Ok(Outcome::Ok {
        note: format!("{} steps of {NUM_ENVS} instances", bench.options.steps),
    })
}

/// Other seeds make other episodes, as far as anything is drawn.
pub(super) fn other_seeds(bench: &Bench<'_>) -> Finding {
    const SEEDS: u64 = 16;
    let mut first = Vec::new();
    let mut later = Vec::new();
    for seed in 0..SEEDS {
        let mut player = Player::begin(bench, 1, 0, bench.options.seed.wrapping_add(seed))?;
        let starts = player.shown.clone();
        // The same actions whatever the seed.
        let mut steps = Vec::new();
        for time in 0..u64::from(bench.options.steps.min(100)) {
            let action = action(&bench.spec.action, 0, 0, time);
            steps.extend(player.step(&action)?);
        }
        first.push(starts);
        later.push(steps);
    }
    let starts_differ = first[1..]
        .iter()
        .any(|start| !same(&start[0], &first[0][0]));
    if starts_differ {
        return Ok(Outcome::Ok {
            note: "episodes start differently".to_owned(),
        });
    }
    let steps_differ = later[1..]
        .iter()
        .any(|steps| first_difference(steps, &later[0]).is_some());
    if steps_differ {
        return Ok(Outcome::Ok {
            note: "episodes start alike and go on differently".to_owned(),
        });
    }
    Ok(Outcome::Skipped {
        reason: format!(
            "{SEEDS} seeds give one episode: nothing is drawn, or the `random` of a reset is ignored"
        ),
    })
}

/// An episode is the same whatever was played before it.
pub(super) fn no_leaks(bench: &Bench<'_>) -> Finding {
    let (seed, steps) = (bench.options.seed, u64::from(bench.options.steps));
    let mut fresh = Player::begin(bench, 1, 0, seed)?;
    let mut used = Player::begin(bench, 1, 0, seed)?;
    // Other episodes with other actions, the last of them left in its middle.
    for time in 0..steps {
        let actions = used.actions(1_000_000 + time);
        used.step(&actions)?;
    }
    let played = used.episodes[0] + 1;
    let first = used.reset(0, 0)?;
    if !same(&first, &fresh.shown[0]) {
        return Err(Failure::new(
            format!(
                "episode 0 shows {:?} first, and later {first:?}",
                fresh.shown[0]
            ),
            LEAK_REMEDY,
        ));
    }
    let (fresh, used) = (fresh.play(0..steps)?, used.play(0..steps)?);
    match first_difference(&fresh[0], &used[0]) {
        None => Ok(Outcome::Ok {
            note: format!("after {played} other episodes"),
        }),
        Some(difference) => Err(Failure::new(
            format!("after other episodes, episode 0 differs: {difference}"),
            LEAK_REMEDY,
        )),
    }
}

/// What is restored goes on as what was saved, bit for bit, and what is no state is refused.
pub(super) fn restore(bench: &Bench<'_>) -> Finding {
    let (seed, steps) = (bench.options.seed, u64::from(bench.options.steps));
    let mut original = Player::begin(bench, NUM_ENVS, 0, seed)?;
    let half = steps / 2 + 1;
    original.play(0..half)?;
    let mut state = Vec::new();
    original.environment.save(&mut state);
    let mut restored = Player::begin(bench, NUM_ENVS, 0, seed)?;
    restored.play(0..3.min(half))?;
    if let Err(error) = restored.environment.restore(&state) {
        if state.is_empty() {
            return Ok(Outcome::Skipped {
                reason:
                    "it cannot save its state: after an actor's death its episodes begin anew, \
                         and the result then depends on who collected what"
                        .to_owned(),
            });
        }
        return Err(Failure::new(
            format!("it refuses its own state: {error}"),
            "let `restore` take what `save` has given",
        ));
    }
    restored.episodes.clone_from(&original.episodes);
    restored.elapsed.clone_from(&original.elapsed);
    let mut again = Vec::new();
    restored.environment.save(&mut again);
    if again != state {
        return Err(Failure::new(
            "saved again at once, the restored state is other bytes",
            STATE_REMEDY,
        ));
    }
    let times = half..half + steps;
    let (gone_on, restored) = (original.play(times.clone())?, restored.play(times)?);
    for (index, (one, other)) in gone_on.iter().zip(&restored).enumerate() {
        if let Some(difference) = first_difference(one, other) {
            let reason =
                format!("instance {index} went on and the restored one differ: {difference}");
            return Err(Failure::new(reason, STATE_REMEDY));
        }
    }
    for cut in [0, state.len() / 2, state.len().saturating_sub(1)] {
        if cut < state.len() && original.environment.restore(&state[..cut]).is_ok() {
            return Err(Failure::new(
                format!(
                    "it takes {cut} of the {} bytes of a state for a state",
                    state.len()
                ),
                "refuse bytes that are no whole state, and change nothing",
            ));
        }
    }
    let bytes = state.len() / NUM_ENVS;
    Ok(Outcome::Ok {
        note: format!("{steps} steps later still equal; {bytes} bytes an instance"),
    })
}
