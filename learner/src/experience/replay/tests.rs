//! Tests of the whole store; those of its parts are with them.

mod golden;
mod goals;
mod model;
mod saved;

use bytes::Bytes;
use rookery_common::seeds::{Purpose, Random};
use rookery_common::unroll::{
    FrameLayout, LeaseEpoch, PolicyVersion, ShardId, Unroll, UnrollIndex, UnrollKey, UnrollShape,
};
use rookery_common::wrappers::StackPadding;

use super::*;

/// The columns of one unroll, as a test writes them down.
#[derive(Clone, Debug, Default)]
struct Columns {
    observation: Vec<f32>,
    action: Vec<f32>,
    reward: Vec<f32>,
    terminated: Vec<u8>,
    truncated: Vec<u8>,
    final_observation: Vec<f32>,
    discontinuous: bool,
}

impl Columns {
    fn unroll(self, shard: u32) -> Unroll {
        let finals = self
            .truncated
            .iter()
            .zip(&self.terminated)
            .enumerate()
            .filter(|(_, (truncated, terminated))| **truncated == 1 && **terminated == 0)
            .map(|(step, _)| step as u32);
        Unroll {
            key: UnrollKey {
                run_id: "run".to_owned(),
                shard: ShardId(shard),
                lease_epoch: LeaseEpoch(1),
                index: UnrollIndex(0),
            },
            version: PolicyVersion::default(),
            log_prob: vec![0.0; self.reward.len()].into(),
            final_index: finals.collect::<Vec<_>>().into(),
            observation: self.observation.into(),
            initial_state: Vec::new().into(),
            action: self.action.into(),
            reward: self.reward.into(),
            terminated: self.terminated.into(),
            truncated: self.truncated.into(),
            final_observation: self.final_observation.into(),
            episode_index: Vec::new().into(),
            episode_return: Vec::new().into(),
            episode_length: Vec::new().into(),
            state_after: Bytes::new(),
            discontinuity: self.discontinuous.then(|| "spoilt".to_owned()),
        }
    }
}

impl Columns {
    /// The same as images whose pixels are the observations' values; before them stand `older` pixels that
    /// belong to no row's newest frame.
    fn images(self, shard: u32, older: usize) -> Unroll {
        let pixels = |values: &[f32]| values.iter().map(|x| *x as u8).collect::<Vec<_>>();
        let mut observation = vec![77; older];
        observation.extend(pixels(&self.observation));
        let finals = pixels(&self.final_observation);
        Unroll {
            observation: observation.into(),
            final_observation: finals.into(),
            ..self.unroll(shard)
        }
    }
}

/// The shape of unrolls like those of `shape` whose observations are stacks of frames.
fn images(shape: UnrollShape, size: usize, stack: usize) -> UnrollShape {
    UnrollShape {
        observation_width: stack * size,
        frames: Some(FrameLayout {
            size,
            stack,
            padding: StackPadding::Reset,
        }),
        ..shape
    }
}

/// One environment with observations and actions of one value.
fn options(unroll_length: usize, capacity: usize) -> ReplayOptions {
    ReplayOptions {
        shape: UnrollShape {
            unroll_length,
            envs_per_shard: 1,
            observation_width: 1,
            action_width: 1,
            state_width: 0,
            frames: None,
        },
        num_shards: 1,
        discount: 0.9,
        n_step: 1,
        capacity,
        capacity_bytes: u64::MAX,
        prioritised: None,
        hindsight: None,
    }
}

/// An unroll of [`options`]'s environment in which nothing ends; observation `t` is `first + t`.
fn steps(first: usize, unroll_length: usize) -> Columns {
    Columns {
        observation: (first..=first + unroll_length).map(|x| x as f32).collect(),
        action: vec![0.0; unroll_length],
        reward: vec![1.0; unroll_length],
        terminated: vec![0; unroll_length],
        truncated: vec![0; unroll_length],
        ..Columns::default()
    }
}

fn random(update: u64) -> Random {
    Random::derive(1, Purpose::Replay, update, 0)
}

impl ReplayStore {
    /// Every item that can be sampled.
    fn items(&self) -> Vec<ItemHandle> {
        let mut items = Vec::new();
        for (index, lane) in self.lanes.iter().enumerate() {
            let rows = lane.sampleable(&self.layout);
            items.extend(
                rows.filter(|row| !lane.row(&self.layout, *row).flags().is_final())
                    .map(|row| ItemHandle {
                        lane: index as u32,
                        row,
                    }),
            );
        }
        assert_eq!(items.len() as u64, self.num_items());
        items
    }

    /// These items as they are sampled, without hindsight or with it.
    fn read(&self, items: &[ItemHandle], random: &mut Random) -> ReplayBatch {
        let mut batch = ReplayBatch::default();
        let width = self.options.shape.observation_width;
        batch.resize(items.len(), width, self.options.shape.action_width);
        batch.handles.copy_from_slice(items);
        self.fill(random, &mut batch);
        batch
    }

    fn priority(&self, item: ItemHandle) -> f64 {
        let lane = item.lane as usize;
        let slot = self.lanes[lane].slot(&self.layout, item.row);
        let priorities = self.priorities.as_ref().unwrap();
        priorities.get(lane * self.layout.num_slots + slot)
    }
}

#[test]
fn an_empty_store_has_nothing_to_sample_and_has_claimed_nothing() {
    let store = ReplayStore::new(options(4, 1_000_000)).unwrap();
    assert_eq!(store.num_bytes(), 0);
    let mut batch = ReplayBatch::default();
    assert_eq!(
        store.sample(1, 1.0, &mut random(0), &mut batch),
        Err(ReplayError::Empty)
    );
}

#[test]
fn t34_a_sample_is_a_function_of_the_store_and_the_stream() {
    let mut store = ReplayStore::new(options(100, 1000)).unwrap();
    for unroll in 0..15 {
        store.insert(&[steps(100 * unroll, 100).unroll(0)]).unwrap();
    }
    let sample = |update| {
        let mut batch = ReplayBatch::default();
        let outcome = store.sample(64, 1.0, &mut random(update), &mut batch);
        outcome.map(|()| batch.handles)
    };
    assert_eq!(sample(3), sample(3));
    assert_ne!(sample(3), sample(4));
}

#[test]
fn uniform_sampling_reaches_every_item_equally() {
    let mut options = options(10, 45);
    options.shape.envs_per_shard = 3;
    let mut store = ReplayStore::new(options).unwrap();
    let mut columns = Columns {
        observation: vec![0.0; 33],
        action: vec![0.0; 30],
        reward: vec![0.0; 30],
        terminated: vec![0; 30],
        truncated: vec![0; 30],
        ..Columns::default()
    };
    // Final rows stand between the items of lane 1.
    columns.truncated[4] = 1;
    columns.truncated[13] = 1;
    columns.final_observation = vec![0.0; 2];
    for _ in 0..2 {
        store.insert(&[columns.clone().unroll(0)]).unwrap();
    }
    let items = store.items();
    let mut counts = vec![0_u32; items.len()];
    let mut batch = ReplayBatch::default();
    for update in 0..200 {
        store
            .sample(500, 1.0, &mut random(update), &mut batch)
            .unwrap();
        for handle in &batch.handles {
            counts[items.binary_search(handle).unwrap()] += 1;
        }
    }
    let expected = 100_000.0 / items.len() as f64;
    let worst = counts
        .iter()
        .map(|count| (f64::from(*count) - expected).abs() / expected.sqrt())
        .fold(0.0, f64::max);
    assert!(worst < 5.0, "{worst} standard deviations: {counts:?}");
}

#[test]
fn t28_items_are_drawn_in_proportion_to_their_priorities() {
    let mut options = options(8, 100);
    options.prioritised = Some(PrioritisedOptions {
        alpha: 1.0,
        epsilon: 1e-9,
    });
    let mut store = ReplayStore::new(options).unwrap();
    store.insert(&[steps(0, 8).unroll(0)]).unwrap();
    let items = store.items();
    let errors = [0.0, 1.0, -2.0, 3.0, 0.5, 0.0, 1.5, -8.0];
    assert_eq!(store.update_priorities(&items, &errors), 0);
    let total: f64 = errors.iter().map(|error| f64::from(error.abs())).sum();
    let mut counts = [0_u32; 8];
    let mut batch = ReplayBatch::default();
    for update in 0..100 {
        store
            .sample(256, 1.0, &mut random(update), &mut batch)
            .unwrap();
        for handle in &batch.handles {
            counts[handle.row as usize] += 1;
        }
    }
    for (count, error) in counts.iter().zip(errors) {
        let expected = 25_600.0 * f64::from(error.abs()) / total;
        // Stratified draws vary less than independent ones.
        assert!(
            (f64::from(*count) - expected).abs() <= 4.0 * expected.sqrt() + 0.5,
            "{count} draws instead of {expected}"
        );
    }
}

#[test]
fn t28_new_items_have_the_highest_priority_that_any_had() {
    let mut options = options(4, 100);
    options.prioritised = Some(PrioritisedOptions {
        alpha: 1.0,
        epsilon: 0.0,
    });
    let mut store = ReplayStore::new(options).unwrap();
    store.insert(&[steps(0, 4).unroll(0)]).unwrap();
    let items = store.items();
    assert!(items.iter().all(|item| store.priority(*item) == 1.0));
    store.update_priorities(&items, &[0.5, 7.0, 0.25, 0.5]);
    store.update_priorities(&items[1..2], &[2.0]);
    store.insert(&[steps(4, 4).unroll(0)]).unwrap();
    let items = store.items();
    let priorities: Vec<f64> = items.iter().map(|item| store.priority(*item)).collect();
    assert_eq!(priorities, [0.5, 2.0, 0.25, 0.5, 7.0, 7.0, 7.0, 7.0]);
}

#[test]
fn t28_updates_of_overwritten_items_are_skipped() {
    let mut options = options(4, 9);
    options.prioritised = Some(PrioritisedOptions {
        alpha: 1.0,
        epsilon: 0.0,
    });
    let mut store = ReplayStore::new(options).unwrap();
    store.insert(&[steps(0, 4).unroll(0)]).unwrap();
    let old = store.items();
    for unroll in 1..3 {
        store.insert(&[steps(4 * unroll, 4).unroll(0)]).unwrap();
    }
    // Nine rows, one of them pending: rows 0 to 3 are gone, and others stand in their slots.
    let items = store.items();
    assert_eq!((store.age(items[0]), store.age(items[7])), (8, 1));
    assert_eq!(items.len(), 8);
    assert_eq!(store.update_priorities(&old, &[100.0; 4]), 4);
    assert!(items.iter().all(|item| store.priority(*item) == 1.0));
    assert_eq!(store.priorities.as_ref().unwrap().highest, 1.0);
}

#[test]
fn errors_that_are_not_finite_change_no_priority() {
    let mut options = options(4, 9);
    options.prioritised = Some(PrioritisedOptions {
        alpha: 0.6,
        epsilon: 1e-6,
    });
    let mut store = ReplayStore::new(options).unwrap();
    store.insert(&[steps(0, 4).unroll(0)]).unwrap();
    let items = store.items();
    store.update_priorities(&items[..2], &[f32::NAN, f32::INFINITY]);
    assert!(items.iter().all(|item| store.priority(*item) == 1.0));
}

#[test]
fn t27_a_stack_repeats_its_episode_s_first_frame_and_never_shows_another_s() {
    let mut options = options(6, 100);
    options.shape = images(options.shape, 1, 3);
    let mut store = ReplayStore::new(options).unwrap();
    // Step 1 terminates and step 4 is truncated in frame 255.
    let mut columns = steps(10, 6);
    columns.terminated[1] = 1;
    columns.truncated[4] = 1;
    columns.final_observation = vec![255.0];
    store.insert(&[columns.images(0, 2)]).unwrap();
    let batch = store.read(&store.items(), &mut random(0));
    let frames = |values: &[f32]| -> Vec<Vec<u8>> {
        let stacks = values.as_chunks::<3>().0.iter();
        stacks
            .map(|stack| stack.map(|x| (x * 255.0).round() as u8).to_vec())
            .collect()
    };
    assert_eq!(
        frames(&batch.observations),
        [
            [10, 10, 10],
            [10, 10, 11],
            [12, 12, 12],
            [12, 12, 13],
            [12, 13, 14],
            [15, 15, 15]
        ]
    );
    assert_eq!(
        frames(&batch.next_observations),
        [
            [10, 10, 11],
            [0, 0, 0],
            [12, 12, 13],
            [12, 13, 14],
            [13, 14, 255],
            [15, 15, 16]
        ]
    );
    assert_eq!(batch.discounts, [0.9, 0.0, 0.9, 0.9, 0.9, 0.9]);
    // A byte a frame: seven steps' worth of rows, one final and one pending, 12 + 1 bytes each.
    assert!(store.num_bytes() <= 100 * 13 + 64);
}

#[test]
fn whichever_capacity_is_reached_first_holds() {
    // A row is an observation, an action, a reward and flags: 16 bytes.
    let mut options = options(10, 500);
    assert_eq!(options.rows_per_lane(), 500);
    assert_eq!(options.max_bytes(), 8000);
    options.capacity_bytes = 1600;
    assert_eq!(options.rows_per_lane(), 100);
    options.num_shards = 7;
    assert_eq!(options.rows_per_lane(), 14);
    assert!(options.max_bytes() <= 1600);
    options.prioritised = Some(PrioritisedOptions {
        alpha: 1.0,
        epsilon: 0.0,
    });
    assert_eq!(options.rows_per_lane(), 9);

    let mut store = ReplayStore::new(options.clone()).unwrap();
    for unroll in 0..4 {
        store
            .insert(
                &(0..7)
                    .map(|s| steps(10 * unroll, 10).unroll(s))
                    .collect::<Vec<_>>(),
            )
            .unwrap();
    }
    assert!(store.num_bytes() as u64 <= options.max_bytes());
    assert_eq!(store.num_items(), 7 * 8);
}

#[test]
fn a_store_larger_than_memory_is_refused_with_both_numbers() {
    let options = options(10, 1 << 20);
    assert_eq!(options.check_memory(16 << 20), Ok(()));
    assert_eq!(
        options.check_memory(8 << 20).unwrap_err().to_string(),
        "the replay store would take 16MiB once it is full, the machine has 8MiB; lower \
         replay.capacity or replay.capacity_bytes"
    );
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let mut small = options(10, 4);
    small.n_step = 3;
    assert!(matches!(
        ReplayStore::new(small),
        Err(OptionsError::TooSmall {
            rows: 4,
            needed: 5,
            ..
        })
    ));
}

#[test]
fn unrolls_of_another_shape_are_refused_and_store_nothing() {
    let mut store = ReplayStore::new(options(4, 100)).unwrap();
    let refused = store.insert(&[steps(0, 4).unroll(0), steps(0, 5).unroll(0)]);
    assert!(matches!(
        refused,
        Err(ReplayError::Extent {
            field: "observation",
            expected: 5,
            got: 6
        })
    ));
    assert_eq!(
        store.insert(&[steps(0, 4).unroll(1)]),
        Err(ReplayError::Shard {
            num_shards: 1,
            got: 1
        })
    );
    assert_eq!(store.num_items(), 0);
    let field = "observation";
    let kind = Err(ReplayError::Kind { field });
    assert_eq!(store.insert(&[steps(0, 4).images(0, 0)]), kind);
    let mut options = options(4, 100);
    options.shape = images(options.shape, 1, 1);
    let mut store = ReplayStore::new(options).unwrap();
    assert_eq!(store.insert(&[steps(0, 4).unroll(0)]), kind);
}

#[test]
fn a_million_pendulum_steps_take_less_than_60_megabytes() {
    let shape = UnrollShape {
        unroll_length: 10_000,
        envs_per_shard: 4,
        observation_width: 3,
        action_width: 1,
        state_width: 0,
        frames: None,
    };
    let mut store = ReplayStore::new(ReplayOptions {
        shape,
        ..options(10_000, 1_005_004)
    })
    .unwrap();
    let truncated: Vec<u8> = (0..40_000).map(|i| u8::from(i / 4 % 200 == 199)).collect();
    let columns = Columns {
        observation: vec![0.5; 120_012],
        action: vec![0.5; 40_000],
        reward: vec![0.5; 40_000],
        terminated: vec![0; 40_000],
        final_observation: vec![0.5; 3 * 200],
        truncated,
        ..Columns::default()
    };
    for round in 1..=25 {
        store.insert(&[columns.clone().unroll(0)]).unwrap();
        let bytes = store.num_bytes();
        assert!(bytes < 30 * 40_000 * round, "{bytes} in round {round}");
    }
    assert_eq!(store.num_items(), 1_000_000);
    assert!(store.num_bytes() < 60_000_000, "{}", store.num_bytes());
}
