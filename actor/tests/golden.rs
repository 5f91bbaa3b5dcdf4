//! The native environments against traces of Gymnasium 1.4.0 that `scripts/golden/environments.py`
//! wrote, those that Gymnasium lacks against traces of `scripts/golden/goals.py`, `images.py` and
//! `memory.py`: every recorded transition is replayed from its recorded start state.
//!
//! Tolerances are in roundings: multiples of the precision's `EPSILON`, relative above one and
//! absolute below. They exist because Gymnasium's sines and cosines are `NumPy`'s, which may round
//! the last bit another way. The environments themselves compute the same bits everywhere, so a
//! replay that passes on one machine passes on all.

#![expect(
    clippy::unwrap_used,
    reason = "a trace that cannot be read fails its test"
)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::str::FromStr;

use rookery_actor::environments::{BatchedEnvironment, StepOutput, make};
use rookery_common::snapshot;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The format of the snapshots by which this test sets states and reads them.
const SNAPSHOT_VERSION: u8 = 1;

const F32_EPSILON: f64 = f32::EPSILON as f64;

/// How far a replay may be from its trace, in roundings.
#[derive(Clone, Copy)]
struct Tolerance {
    /// Of the next state, in its own precision.
    state: f64,
    /// Of observations, in float32.
    observation: f64,
    /// Of rewards, in float32.
    reward: f64,
}

const EXACT: Tolerance = Tolerance {
    state: 0.0,
    observation: 0.0,
    reward: 0.0,
};

/// One trace, with its columns by name.
struct Trace<'a> {
    id: &'a str,
    arguments: BTreeMap<String, String>,
    columns: Vec<&'a str>,
    rows: Vec<Vec<&'a str>>,
}

impl<'a> Trace<'a> {
    fn parse(text: &'a str) -> Self {
        let mut lines = text.lines();
        let comment = lines.next().and_then(|line| line.strip_prefix("# "));
        let mut words = comment.unwrap().split(' ');
        let id = words.next().unwrap();
        let arguments = words
            .map(|word| word.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self {
            id,
            arguments,
            columns: lines.next().unwrap().split(',').collect(),
            rows: lines.map(|line| line.split(',').collect()).collect(),
        }
    }

    /// The columns `{prefix}_0`, `{prefix}_1`, .. row by row.
    fn rows<T: FromStr<Err: Debug>>(&self, prefix: &str) -> Vec<Vec<T>> {
        let belongs = |name: &str| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with('_'))
        };
        let indices: Vec<_> = (0..self.columns.len())
            .filter(|&index| belongs(self.columns[index]))
            .collect();
        self.rows
            .iter()
            .map(|row| indices.iter().map(|&i| row[i].parse().unwrap()).collect())
            .collect()
    }

    fn column<T: FromStr<Err: Debug>>(&self, name: &str) -> Vec<T> {
        let index = self.columns.iter().position(|column| *column == name);
        let index = index.unwrap();
        self.rows
            .iter()
            .map(|row| row[index].parse().unwrap())
            .collect()
    }
}

/// Replays a trace as one batch with an instance a row, and compares everything that is recorded.
///
/// `T` is the precision of the state, `epsilon` its rounding.
fn replay<T, const N: usize>(text: &str, epsilon: f64, tolerance: Tolerance)
where
    T: FromStr<Err: Debug> + Copy + Into<f64>,
    [T; N]: Serialize + DeserializeOwned,
{
    let trace = Trace::parse(text);
    let num_rows = trace.rows.len();
    let mut batch = make(trace.id, &trace.arguments, num_rows).unwrap();
    let mut bytes = Vec::new();
    let start: Vec<[T; N]> = arrays(&trace.rows("state"));
    snapshot::encode(SNAPSHOT_VERSION, &start, &mut bytes);
    batch.restore(&bytes).unwrap();

    let width = batch.spec().observation.width();
    let mut observations = vec![f32::NAN; num_rows * width];
    let mut rewards = vec![f32::NAN; num_rows];
    let mut terminated = vec![u8::MAX; num_rows];
    let actions = match trace.rows::<f32>("action").concat() {
        one_each if one_each.is_empty() => trace.column("action"),
        several_each => several_each,
    };
    let mut cut_short = vec![u8::MAX; num_rows];
    batch
        .step(
            &actions,
            StepOutput {
                observations: &mut observations,
                rewards: &mut rewards,
                terminated: &mut terminated,
                truncated: &mut cut_short,
            },
        )
        .unwrap();
    assert_eq!(cut_short, vec![0; num_rows]);

    let close = |name: &str, got: &[f64], expected: &[f64], epsilon: f64, allowed: f64| {
        assert_eq!(got.len(), expected.len());
        let distances = got
            .iter()
            .zip(expected)
            .map(|(got, expected)| (got - expected).abs() / (epsilon * expected.abs().max(1.0)));
        let worst = distances
            .enumerate()
            .max_by(|(_, a), (_, b)| a.total_cmp(b));
        let (index, distance) = worst.unwrap();
        println!("{} {name}: {distance} roundings", trace.id);
        assert!(
            distance <= allowed,
            "value {index} of the {name}s: {distance} roundings, {} instead of {}",
            got[index],
            expected[index]
        );
    };
    let next: Vec<[T; N]> = arrays(&trace.rows("next"));
    let reached: Vec<[T; N]> = states(&*batch);
    close(
        "state",
        &wide(reached.as_flattened()),
        &wide(next.as_flattened()),
        epsilon,
        tolerance.state,
    );
    close(
        "observation",
        &wide(&observations),
        &wide(&trace.rows::<f32>("observation").concat()),
        F32_EPSILON,
        tolerance.observation,
    );
    let recorded: Vec<f64> = trace.column("reward");
    let cast: Vec<f32> = recorded.iter().map(|reward| *reward as f32).collect();
    close(
        "reward",
        &wide(&rewards),
        &wide(&cast),
        F32_EPSILON,
        tolerance.reward,
    );
    assert_eq!(terminated, trace.column::<u8>("terminated"), "terminated");

    // The time limit is the shard's to apply, but the spec's to state.
    let limit = batch.spec().max_episode_steps.unwrap_or(u32::MAX);
    let truncated = trace.column::<u8>("truncated");
    for (elapsed, truncated) in trace.column::<u32>("elapsed").iter().zip(truncated) {
        assert_eq!(truncated != 0, *elapsed >= limit, "at step {elapsed}");
    }

    // What the step wrote is what the batch shows from then on.
    let mut shown = vec![f32::NAN; observations.len()];
    batch.observe(&mut shown);
    assert_eq!(shown, observations);
}

fn arrays<T: Copy, const N: usize>(rows: &[Vec<T>]) -> Vec<[T; N]> {
    rows.iter()
        .map(|row| row.as_slice().try_into().unwrap())
        .collect()
}

fn states<S: DeserializeOwned>(batch: &dyn BatchedEnvironment) -> Vec<S> {
    let mut bytes = Vec::new();
    batch.save(&mut bytes);
    snapshot::decode_all(SNAPSHOT_VERSION, &bytes).unwrap()
}

fn wide<T: Copy + Into<f64>>(values: &[T]) -> Vec<f64> {
    values.iter().map(|&value| value.into()).collect()
}

macro_rules! golden {
    ($file:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/golden/environments/",
            $file,
            ".csv"
        ))
    };
}

#[test]
fn cart_pole_is_gymnasiums() {
    let tolerance = Tolerance {
        state: 1.0,
        ..EXACT
    };
    replay::<f64, 4>(golden!("cart_pole"), f64::EPSILON, tolerance);
    replay::<f64, 4>(golden!("cart_pole_sutton_barto"), f64::EPSILON, tolerance);
}

#[test]
fn pendulum_is_gymnasiums() {
    let tolerance = Tolerance {
        state: 1.0,
        ..EXACT
    };
    replay::<f64, 2>(golden!("pendulum"), f64::EPSILON, tolerance);
    replay::<f64, 2>(golden!("pendulum_g"), f64::EPSILON, tolerance);
}

#[test]
fn mountain_car_is_gymnasiums() {
    replay::<f64, 2>(golden!("mountain_car"), f64::EPSILON, EXACT);
    replay::<f64, 2>(golden!("mountain_car_goal_velocity"), f64::EPSILON, EXACT);
}

#[test]
fn mountain_car_continuous_is_gymnasiums() {
    replay::<f32, 2>(golden!("mountain_car_continuous"), F32_EPSILON, EXACT);
    replay::<f32, 2>(
        golden!("mountain_car_continuous_goal_velocity"),
        F32_EPSILON,
        EXACT,
    );
}

#[test]
fn mountain_car_continuous_starts_within_a_rounding_of_gymnasiums() {
    // Gymnasium takes the first step of an episode in float64, the environment in float32.
    let tolerance = Tolerance {
        state: 1.0,
        observation: 1.0,
        ..EXACT
    };
    replay::<f32, 2>(
        golden!("mountain_car_continuous_first"),
        F32_EPSILON,
        tolerance,
    );
}

#[test]
fn acrobot_is_gymnasiums() {
    let tolerance = Tolerance {
        state: 4.0,
        ..EXACT
    };
    replay::<f64, 4>(golden!("acrobot"), f64::EPSILON, tolerance);
}

#[test]
fn grid_world_is_the_independent_one() {
    replay::<u8, 2>(golden!("grid_world"), 1.0, EXACT);
}

#[test]
fn bit_flip_is_the_independent_one() {
    replay::<u32, 2>(golden!("bit_flip"), 1.0, EXACT);
    replay::<u32, 2>(golden!("bit_flip_4"), 1.0, EXACT);
}

#[test]
fn point_reach_is_the_independent_one() {
    replay::<f32, 4>(golden!("point_reach"), F32_EPSILON, EXACT);
}

#[test]
fn catch_is_the_independent_one() {
    replay::<u8, 3>(golden!("catch"), 1.0, EXACT);
}

#[test]
fn cart_pole_without_velocities_is_the_independent_one() {
    let tolerance = Tolerance {
        state: 1.0,
        ..EXACT
    };
    replay::<f64, 4>(golden!("cart_pole_no_velocity"), f64::EPSILON, tolerance);
}

#[test]
fn t_maze_is_the_independent_one() {
    replay::<u32, 2>(golden!("t_maze"), 1.0, EXACT);
    replay::<u32, 2>(golden!("t_maze_3"), 1.0, EXACT);
}
