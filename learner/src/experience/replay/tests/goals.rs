//! Hindsight.

use rookery_common::configuration::HindsightStrategy;
use rookery_common::spaces::GoalSpec;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Golden {
    hindsight: Vec<Case>,
}

/// An episode that was truncated after its last position.
#[derive(Deserialize)]
struct Case {
    terminates: bool,
    n_step: usize,
    discount: f64,
    tolerance: f32,
    positions: Vec<[f32; 2]>,
    items: Vec<Item>,
}

/// An item under the goal achieved at one of the positions.
#[derive(Deserialize)]
struct Item {
    step: usize,
    goal: usize,
    #[serde(rename = "return")]
    return_: f32,
    discount: f32,
    next: usize,
}

/// A desired goal that nothing achieves.
const FAR: f32 = 100.0;

fn store(strategy: HindsightStrategy, case: &Case, unroll_length: usize) -> ReplayStore {
    ReplayStore::new(ReplayOptions {
        shape: UnrollShape {
            unroll_length,
            envs_per_shard: 1,
            observation_width: 4,
            action_width: 1,
            state_width: 0,
            frames: None,
        },
        discount: case.discount,
        n_step: case.n_step,
        hindsight: Some(Hindsight {
            strategy,
            goals_per_item: 4,
            goal: GoalSpec {
                achieved: 0..2,
                desired: 2..4,
                tolerance: case.tolerance,
                terminates: case.terminates,
            },
        }),
        ..options(unroll_length, 1000)
    })
    .unwrap()
}

fn row(position: [f32; 2]) -> [f32; 4] {
    [position[0], position[1], FAR, FAR]
}

/// The episode of a case in one unroll, with this end.
fn columns(case: &Case, terminated: bool, truncated: bool) -> Columns {
    let steps = case.positions.len() - 1;
    let mut observation: Vec<f32> = case.positions[..steps]
        .iter()
        .flat_map(|position| row(*position))
        .collect();
    let last = row(case.positions[steps]);
    observation.extend_from_slice(if terminated || truncated {
        &[7.0; 4]
    } else {
        &last
    });
    let mut columns = Columns {
        observation,
        action: vec![0.0; steps],
        reward: vec![-1.0; steps],
        terminated: vec![0; steps],
        truncated: vec![0; steps],
        ..Columns::default()
    };
    columns.terminated[steps - 1] = u8::from(terminated);
    if truncated {
        columns.truncated[steps - 1] = 1;
        columns.final_observation = last.to_vec();
    }
    columns
}

fn cases() -> Vec<Case> {
    let golden: Golden =
        serde_json::from_str(include_str!("../../../../tests/golden/replay.json")).unwrap();
    golden.hindsight
}

/// Samples every item often and gives, for each relabelled one, its step and the position that became
/// its goal (the first of equal ones), and all batches.
fn relabelled(store: &ReplayStore, case: &Case) -> Vec<(usize, usize, f32, f32, [f32; 4])> {
    let mut seen = Vec::new();
    for update in 0..400 {
        let items = store.items();
        let batch = store.read(&items, &mut random(update));
        for (index, item) in batch.handles.iter().enumerate() {
            let (rows, _) = batch.observations.as_chunks::<4>();
            let (next_rows, _) = batch.next_observations.as_chunks::<4>();
            assert_eq!(rows[index][..2], case.positions[item.row as usize]);
            if !batch.relabelled[index] {
                assert_eq!(rows[index][2..], [FAR; 2]);
                continue;
            }
            let goal = &rows[index][2..];
            let place = case.positions[1..].iter().position(|p| p == goal);
            seen.push((
                item.row as usize,
                place.unwrap() + 1,
                batch.returns[index],
                batch.discounts[index],
                next_rows[index],
            ));
        }
    }
    seen
}

#[test]
fn rewards_windows_and_goals_agree_with_the_definitions() {
    for case in cases() {
        let steps = case.positions.len() - 1;
        let mut store = store(HindsightStrategy::Episode, &case, steps);
        store
            .insert(&[columns(&case, false, true).unroll(0)])
            .unwrap();
        let seen = relabelled(&store, &case);
        assert!(seen.len() > 3000, "{}", seen.len());
        for (step, goal, return_, discount, next) in seen {
            let expected = case
                .items
                .iter()
                .find(|item| item.step == step && item.goal == goal)
                .unwrap();
            assert!((return_ - expected.return_).abs() < 1e-6);
            assert!((discount - expected.discount).abs() < 1e-6);
            let mut expected_next = [0.0; 4];
            if expected.discount > 0.0 {
                expected_next[..2].copy_from_slice(&case.positions[expected.next]);
                expected_next[2..].copy_from_slice(&case.positions[goal]);
            }
            assert_eq!(next, expected_next);
        }
    }
}

/// A case whose positions are all different, so that a goal says from which step it came.
fn distinct() -> Case {
    Case {
        terminates: true,
        n_step: 1,
        discount: 0.9,
        tolerance: 0.1,
        positions: (0..9).map(|step| [step as f32, 0.5]).collect(),
        items: Vec::new(),
    }
}

/// The goals that each strategy takes, as (step, goal) pairs without repetition.
fn pairs(strategy: HindsightStrategy, terminated: bool, truncated: bool) -> Vec<(usize, usize)> {
    let case = distinct();
    let mut store = store(strategy, &case, 8);
    store
        .insert(&[columns(&case, terminated, truncated).unroll(0)])
        .unwrap();
    let mut pairs: Vec<_> = relabelled(&store, &case)
        .into_iter()
        .map(|(step, goal, ..)| (step, goal))
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

fn all(
    goals: impl Fn(usize) -> std::ops::RangeInclusive<usize>,
    steps: usize,
) -> Vec<(usize, usize)> {
    (0..steps)
        .flat_map(|step| goals(step).map(move |goal| (step, goal)))
        .collect()
}

#[test]
fn each_strategy_takes_the_goals_that_it_names() {
    for truncated in [true, false] {
        // An episode that goes on counts up to its newest step.
        assert_eq!(
            pairs(HindsightStrategy::Final, false, truncated),
            all(|_| 8..=8, 8)
        );
        assert_eq!(
            pairs(HindsightStrategy::Future, false, truncated),
            all(|step| step + 1..=8, 8)
        );
        assert_eq!(
            pairs(HindsightStrategy::Episode, false, truncated),
            all(|_| 1..=8, 8)
        );
    }
}

#[test]
fn a_terminated_step_keeps_its_goal_because_its_end_is_not_known() {
    assert_eq!(pairs(HindsightStrategy::Final, true, false), []);
    assert_eq!(
        pairs(HindsightStrategy::Future, true, false),
        all(|step| step + 1..=7, 7)
    );
    assert_eq!(
        pairs(HindsightStrategy::Episode, true, false),
        all(|_| 1..=7, 7)
    );
}

#[test]
fn goals_never_come_from_another_episode_or_from_overwritten_steps() {
    let case = distinct();
    let mut store = store(HindsightStrategy::Episode, &case, 8);
    store.options.capacity = 14;
    let mut store = ReplayStore::new(store.options).unwrap();
    for round in 0..5 {
        let mut columns = columns(&case, false, round % 2 == 0);
        for row in columns
            .observation
            .as_chunks_mut::<4>()
            .0
            .iter_mut()
            .chain(columns.final_observation.as_chunks_mut::<4>().0)
        {
            // The episode is told by the second coordinate.
            row[1] = round as f32;
        }
        columns.discontinuous = true;
        store.insert(&[columns.unroll(0)]).unwrap();
        let items = store.items();
        for update in 0..50 {
            let batch = store.read(&items, &mut random(update));
            for (index, row) in batch.observations.as_chunks::<4>().0.iter().enumerate() {
                if batch.relabelled[index] {
                    assert_eq!(row[1], row[3], "of another episode");
                }
            }
        }
    }
}

#[test]
fn the_share_of_relabelled_items_is_k_of_k_and_one() {
    let case = distinct();
    let mut store = store(HindsightStrategy::Future, &case, 8);
    store
        .insert(&[columns(&case, false, true).unroll(0)])
        .unwrap();
    let mut batch = ReplayBatch::default();
    store
        .sample(50_000, 1.0, &mut random(0), &mut batch)
        .unwrap();
    let count = batch.relabelled.iter().filter(|flag| **flag).count();
    // Five standard deviations of 0.0018.
    assert!((count as f64 / 50_000.0 - 0.8).abs() < 0.009, "{count}");
}

#[test]
fn hindsight_needs_a_goal_and_columns() {
    use rookery_common::configuration::ReplayConfiguration;

    let configuration = ReplayConfiguration {
        hindsight: HindsightStrategy::Future,
        ..ReplayConfiguration::default()
    };
    let shape = options(4, 100).shape;
    let made = ReplayOptions::new(&configuration, shape, 1, 0.9, None);
    assert_eq!(made, Err(OptionsError::NoGoal));
    let goal = GoalSpec {
        achieved: 0..1,
        desired: 1..2,
        tolerance: 0.0,
        terminates: true,
    };
    let images = images(shape, 1, 4);
    let made = ReplayOptions::new(&configuration, images, 1, 0.9, Some(&goal));
    assert_eq!(made, Err(OptionsError::GoalInImages));
}
