//! The store against a model that keeps every transition in plain vectors and knows no ring.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// One environment's life: episodes of observations, with the steps between them.
#[derive(Default)]
struct ModelLane {
    episodes: Vec<Episode>,
    /// Rows that the store has used so far, the pending one not included.
    next_row: u64,
}

/// An episode, up to an end or a cut. One observation more than steps, but for the one after a
/// terminated step, which nobody knows.
#[derive(Default)]
struct Episode {
    observations: Vec<Vec<f32>>,
    steps: Vec<ModelStep>,
    terminated: bool,
    closed: bool,
}

struct ModelStep {
    row: u64,
    action: Vec<f32>,
    reward: f32,
}

/// What an item must hold.
#[derive(Debug, PartialEq)]
struct Expected {
    observation: Vec<f32>,
    action: Vec<f32>,
    return_: f32,
    discount: f32,
    next_observation: Vec<f32>,
}

impl ModelLane {
    fn items(&self, options: &ReplayOptions) -> BTreeMap<u64, Expected> {
        let slots = options.rows_per_lane() as u64;
        let first = (self.next_row + 1).saturating_sub(slots);
        let stack = options.shape.frames.map_or(1, |frames| frames.stack);
        let mut items = BTreeMap::new();
        for episode in &self.episodes {
            for (t, step) in episode.steps.iter().enumerate() {
                let m = options.n_step.min(episode.steps.len() - t);
                let is_whole = m == options.n_step || episode.closed;
                let context = t.min(stack - 1) as u64;
                if !is_whole || step.row < first + context {
                    continue;
                }
                let mut return_ = 0.0;
                for (i, step) in episode.steps[t..t + m].iter().enumerate() {
                    return_ += options.discount.powi(i as i32) * f64::from(step.reward);
                }
                let is_terminal = episode.terminated && t + m == episode.steps.len();
                let observation = episode.stacked(t, options.shape.frames);
                items.insert(
                    step.row,
                    Expected {
                        action: step.action.clone(),
                        return_: return_ as f32,
                        discount: if is_terminal {
                            0.0
                        } else {
                            options.discount.powi(m as i32) as f32
                        },
                        next_observation: if is_terminal {
                            vec![0.0; observation.len()]
                        } else {
                            episode.stacked(t + m, options.shape.frames)
                        },
                        observation,
                    },
                );
            }
        }
        items
    }
}

impl Episode {
    fn stacked(&self, t: usize, layout: Option<FrameLayout>) -> Vec<f32> {
        match layout {
            None => self.observations[t].clone(),
            Some(FrameLayout { stack, padding, .. }) => (0..stack)
                .flat_map(|place| {
                    let is_before = t + place < stack - 1;
                    let scale = if is_before && padding == StackPadding::Zero {
                        0.0
                    } else {
                        1.0
                    };
                    let frame = (t + place).saturating_sub(stack - 1);
                    let pixels = self.observations[frame].iter();
                    pixels.map(move |x| scale * (x / 255.0))
                })
                .collect(),
        }
    }
}

/// Makes unrolls at random, and tells the model.
struct World {
    options: ReplayOptions,
    random: Random,
    lanes: Vec<ModelLane>,
    end_rate: f64,
    cut_rate: f64,
}

impl World {
    fn observation(&mut self) -> Vec<f32> {
        let is_image = self.options.shape.frames.is_some();
        (0..self.options.shape.final_len())
            .map(|_| {
                if is_image {
                    self.random.below(256) as f32
                } else {
                    self.random.unit_f32()
                }
            })
            .collect()
    }

    fn unroll(&mut self, shard: u32) -> Unroll {
        let shape = self.options.shape;
        let (width, envs) = (shape.final_len(), shape.envs_per_shard);
        let discontinuous = self.random.unit_f64() < self.cut_rate;
        let mut columns = Columns {
            observation: vec![0.0; (shape.num_steps() + envs) * width],
            action: (0..shape.num_steps() * shape.action_width)
                .map(|_| self.random.unit_f32())
                .collect(),
            reward: (0..shape.num_steps())
                .map(|_| self.random.unit_f32())
                .collect(),
            terminated: vec![0; shape.num_steps()],
            truncated: vec![0; shape.num_steps()],
            discontinuous,
            ..Columns::default()
        };
        let mut finals = BTreeMap::new();
        for env in 0..envs {
            let index = shard as usize * envs + env;
            let mut lane = std::mem::take(&mut self.lanes[index]);
            self.begin(&mut lane, discontinuous);
            for t in 0..=shape.unroll_length {
                let step = t * envs + env;
                let episode = lane.episodes.last_mut().unwrap();
                let current = episode.observations.last().unwrap();
                columns.observation[step * width..][..width].copy_from_slice(current);
                if t == shape.unroll_length {
                    break;
                }
                episode.steps.push(ModelStep {
                    row: lane.next_row,
                    action: columns.action[step * shape.action_width..][..shape.action_width]
                        .to_vec(),
                    reward: columns.reward[step],
                });
                lane.next_row += 1;
                let has_ended = self.random.unit_f64() < self.end_rate;
                // Terminated, truncated or both at once, which is terminated.
                let kind = self.random.below(3);
                let (terminated, truncated) = (has_ended && kind != 1, has_ended && kind != 0);
                columns.terminated[step] = u8::from(terminated);
                columns.truncated[step] = u8::from(truncated);
                let following = self.observation();
                if terminated {
                    (episode.closed, episode.terminated) = (true, true);
                } else {
                    episode.observations.push(following.clone());
                    if truncated {
                        episode.closed = true;
                        lane.next_row += 1;
                        finals.insert(step, following);
                    }
                }
                if has_ended {
                    lane.episodes.push(Episode {
                        observations: vec![self.observation()],
                        ..Episode::default()
                    });
                }
            }
            self.lanes[index] = lane;
        }
        columns.final_observation = finals.into_values().flatten().collect();
        match shape.frames {
            None => columns.unroll(shard),
            Some(FrameLayout { size, stack, .. }) => {
                columns.images(shard, (stack - 1) * envs * size)
            }
        }
    }

    /// Begins an unroll of a lane: cuts it off from the one before where that is due.
    fn begin(&mut self, lane: &mut ModelLane, discontinuous: bool) {
        if let Some(episode) = lane.episodes.last_mut() {
            if !discontinuous {
                return;
            }
            episode.closed = true;
            // The observation that was pending stays, unless its episode had not begun.
            lane.next_row += u64::from(!episode.steps.is_empty());
        }
        lane.episodes.push(Episode {
            observations: vec![self.observation()],
            ..Episode::default()
        });
    }
}

/// The width of an observation and, of an image, what it is made of.
fn layouts() -> impl Strategy<Value = (usize, Option<FrameLayout>)> {
    prop_oneof![
        (1_usize..4).prop_map(|width| (width, None)),
        (1_usize..4, 1_usize..5, any::<bool>()).prop_map(|(size, stack, zero)| {
            let padding = if zero {
                StackPadding::Zero
            } else {
                StackPadding::Reset
            };
            let layout = FrameLayout {
                size,
                stack,
                padding,
            };
            (size * stack, Some(layout))
        }),
    ]
}

fn worlds() -> impl Strategy<Value = World> {
    (
        (1_usize..3, 1_usize..4, 1_usize..9, layouts(), 1_usize..3),
        (1_usize..6, 0_usize..40, any::<u64>(), any::<bool>()),
        (0.0..0.6_f64, 0.0..0.4_f64),
    )
        .prop_map(
            |(
                (
                    num_shards,
                    envs_per_shard,
                    unroll_length,
                    (observation_width, frames),
                    action_width,
                ),
                (n_step, extra, seed, prioritised),
                (end_rate, cut_rate),
            )| {
                let lanes = num_shards * envs_per_shard;
                let stack = frames.map_or(1, |frames| frames.stack);
                let options = ReplayOptions {
                    shape: UnrollShape {
                        unroll_length,
                        envs_per_shard,
                        observation_width,
                        action_width,
                        state_width: 0,
                        frames,
                    },
                    num_shards,
                    discount: 0.95,
                    n_step,
                    capacity: lanes * (n_step + stack + 1 + extra),
                    capacity_bytes: u64::MAX,
                    prioritised: prioritised.then_some(PrioritisedOptions {
                        alpha: 0.7,
                        epsilon: 0.01,
                    }),
                    hindsight: None,
                };
                World {
                    random: Random::derive(seed, Purpose::Replay, 0, 0),
                    lanes: (0..lanes).map(|_| ModelLane::default()).collect(),
                    options,
                    end_rate,
                    cut_rate,
                }
            },
        )
        .no_shrink()
}

impl std::fmt::Debug for World {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{:?}, {:?}, ends {}, cuts {}",
            self.options, self.random, self.end_rate, self.cut_rate
        )
    }
}

/// Compares every item of the store with the model's.
fn compare(store: &ReplayStore, world: &World) -> Result<(), TestCaseError> {
    let width = world.options.shape.observation_width;
    let action_width = world.options.shape.action_width;
    let items = store.items();
    let expected: Vec<(ItemHandle, Expected)> = world
        .lanes
        .iter()
        .enumerate()
        .flat_map(|(index, lane)| {
            let lane_items = lane.items(&world.options).into_iter();
            lane_items.map(move |(row, item)| {
                let lane = index as u32;
                (ItemHandle { lane, row }, item)
            })
        })
        .collect();
    let handles: Vec<ItemHandle> = expected.iter().map(|(handle, _)| *handle).collect();
    prop_assert_eq!(&items, &handles);
    let batch = store.read(&items, &mut random(0));
    for (index, (handle, expected)) in expected.into_iter().enumerate() {
        let got = Expected {
            observation: batch.observations[index * width..][..width].to_vec(),
            action: batch.actions[index * action_width..][..action_width].to_vec(),
            return_: expected.return_,
            discount: expected.discount,
            next_observation: batch.next_observations[index * width..][..width].to_vec(),
        };
        prop_assert_eq!(&got, &expected, "{:?}", handle);
        prop_assert!((batch.returns[index] - expected.return_).abs() < 1e-5);
        prop_assert!((batch.discounts[index] - expected.discount).abs() < 1e-6);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn t27_every_item_is_what_a_plain_list_of_transitions_gives(
        mut world in worlds(),
        rounds in 1_usize..12,
    ) {
        let mut store = ReplayStore::new(world.options.clone()).unwrap();
        for _ in 0..rounds {
            let shards = 0..world.options.num_shards as u32;
            let unrolls: Vec<Unroll> = shards.map(|shard| world.unroll(shard)).collect();
            store.insert(&unrolls).unwrap();
            compare(&store, &world)?;
        }
        prop_assert!(store.num_bytes() as u64 <= 64 * 8 * 9 + store.options().max_bytes());
    }

    #[test]
    fn t28_priorities_follow_their_items_and_no_others(
        mut world in worlds(),
        rounds in 1_usize..12,
    ) {
        world.options.prioritised = Some(PrioritisedOptions { alpha: 1.0, epsilon: 0.0 });
        let mut store = ReplayStore::new(world.options.clone()).unwrap();
        let mut model = BTreeMap::<ItemHandle, f64>::new();
        let mut highest = 1.0_f64;
        for _ in 0..rounds {
            let stale: Vec<ItemHandle> = model.keys().copied().collect();
            let shards = 0..world.options.num_shards as u32;
            let unrolls: Vec<Unroll> = shards.map(|shard| world.unroll(shard)).collect();
            store.insert(&unrolls).unwrap();
            let items = store.items();
            let before = std::mem::take(&mut model);
            for item in &items {
                model.insert(*item, before.get(item).copied().unwrap_or(highest));
            }
            // Errors arrive for items of the round before, of which some are gone.
            let errors: Vec<f32> = stale.iter().map(|_| world.random.below(9) as f32 + 1.0).collect();
            let skipped = store.update_priorities(&stale, &errors);
            let mut gone = 0;
            for (item, error) in stale.iter().zip(errors) {
                match model.get_mut(item) {
                    Some(priority) => {
                        *priority = f64::from(error);
                        highest = highest.max(f64::from(error));
                    }
                    None => gone += 1,
                }
            }
            prop_assert_eq!(skipped, gone);
            for (item, priority) in &model {
                prop_assert_eq!(store.priority(*item), *priority, "{:?}", item);
            }
            // Nothing else has any: the sum is that of the items.
            let slots = store.lanes.len() * store.layout.num_slots;
            let priorities = store.priorities.as_ref().unwrap();
            let sum: f64 = (0..slots).map(|slot| priorities.get(slot)).sum();
            prop_assert_eq!(sum, model.values().sum::<f64>());
        }
    }

    #[test]
    fn what_is_sampled_can_be_sampled(mut world in worlds(), rounds in 1_usize..12) {
        let mut store = ReplayStore::new(world.options.clone()).unwrap();
        let mut batch = ReplayBatch::default();
        for round in 0..rounds {
            let shards = 0..world.options.num_shards as u32;
            let unrolls: Vec<Unroll> = shards.map(|shard| world.unroll(shard)).collect();
            store.insert(&unrolls).unwrap();
            let items = store.items();
            if items.is_empty() {
                continue;
            }
            store.sample(40, 0.5, &mut random(round as u64), &mut batch).unwrap();
            prop_assert!(batch.handles.iter().all(|handle| items.contains(handle)));
            prop_assert!(batch.weights.iter().all(|weight| *weight > 0.0 && *weight <= 1.0));
            let read = store.read(&batch.handles, &mut random(0));
            prop_assert_eq!(&read.observations, &batch.observations);
            prop_assert_eq!(&read.returns, &batch.returns);
        }
    }

    #[test]
    fn a_restored_store_goes_on_exactly_as_the_original(
        mut world in worlds(),
        before in 0_usize..10,
        after in 1_usize..6,
    ) {
        let mut original = ReplayStore::new(world.options.clone()).unwrap();
        let mut batch = ReplayBatch::default();
        let insert = |world: &mut World, stores: &mut [&mut ReplayStore]| {
            let shards = 0..world.options.num_shards as u32;
            let unrolls: Vec<Unroll> = shards.map(|shard| world.unroll(shard)).collect();
            for store in stores {
                store.insert(&unrolls).unwrap();
            }
        };
        for round in 0..before {
            insert(&mut world, &mut [&mut original]);
            if original.sample(8, 0.5, &mut random(round as u64), &mut batch).is_ok() {
                let errors: Vec<f32> = (0..8).map(|x| x as f32).collect();
                original.update_priorities(&batch.handles, &errors);
            }
        }
        let mut bytes = Vec::new();
        original.snapshot().write_to(&mut bytes).unwrap();
        let mut restored =
            ReplayStore::restore(world.options.clone(), &mut bytes.as_slice()).unwrap();
        compare(&restored, &world)?;
        for round in 0..after {
            prop_assert_eq!(restored.items(), original.items());
            prop_assert_eq!(restored.num_items(), original.num_items());
            let mut samples = [ReplayBatch::default(), ReplayBatch::default()];
            for (store, batch) in [&mut original, &mut restored].into_iter().zip(&mut samples) {
                if store.sample(16, 0.5, &mut random(round as u64), batch).is_ok() {
                    let errors: Vec<f32> = (0..16).map(|x| 3.0 - x as f32).collect();
                    store.update_priorities(&batch.handles, &errors);
                }
            }
            prop_assert_eq!(format!("{:?}", samples[0]), format!("{:?}", samples[1]));
            insert(&mut world, &mut [&mut original, &mut restored]);
        }
        let saved = |store: &ReplayStore| {
            let mut bytes = Vec::new();
            store.snapshot().write_to(&mut bytes).unwrap();
            bytes
        };
        prop_assert_eq!(saved(&restored), saved(&original));
    }
}
