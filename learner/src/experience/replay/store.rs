//! The store: rounds go in, batches come out.

use std::hint::black_box;
use std::ops::Range;

use rookery_common::seeds::Random;
use rookery_common::unroll::{Observations, Unroll, UnrollShape};

use super::batch::{ItemHandle, ReplayBatch};
use super::lane::{Lane, RowLayout, Step};
use super::options::{OptionsError, ReplayOptions};
use super::priorities::Priorities;
use super::window::window;

/// Rows whose memory is waited for together; processors track between 16 and 48 misses.
const FETCHED_AT_ONCE: usize = 32;

/// Everything that can be sampled. A clone shares what is stored until one of the two changes it.
#[derive(Clone, Debug)]
pub struct ReplayStore {
    pub(super) options: ReplayOptions,
    pub(super) layout: RowLayout,
    pub(super) lanes: Vec<Lane>,
    pub(super) priorities: Option<Priorities>,
    /// Powers 0 to `n` of the discount.
    discounts: Vec<f64>,
    index: Index,
    scratch: Scratch,
}

/// Where the rows that can be sampled are, over all lanes.
#[derive(Clone, Debug, Default)]
struct Index {
    /// Of each lane.
    ranges: Vec<Range<u64>>,
    /// Rows in the lanes before each lane, and in all.
    offsets: Vec<u64>,
    num_items: u64,
}

/// Columns of one unroll, copied to typed memory.
#[derive(Clone, Debug, Default)]
struct Scratch {
    observations: Vec<f32>,
    actions: Vec<f32>,
    finals: Vec<f32>,
}

/// What came of an insertion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// Steps that were stored.
    pub steps: u64,
    /// Items that can be sampled now.
    pub num_items: u64,
}

/// Why nothing was inserted or sampled.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// Nothing is stored that could be sampled.
    #[error("no item can be sampled yet; wait until the store holds its minimum size")]
    Empty,
    /// An unroll is of a shard that the run does not have.
    #[error("the unroll is of shard {got}, the store has {num_shards} shards")]
    Shard {
        /// Shards of the run.
        num_shards: usize,
        /// The unroll's.
        got: u32,
    },
    /// A column has another extent.
    #[error("field `{field}` of the unroll has {got} elements, the store expects {expected}")]
    Extent {
        /// The column.
        field: &'static str,
        /// Elements by the store's shape.
        expected: usize,
        /// Elements that came.
        got: usize,
    },
    /// Observations are images where they should not be, or the other way round.
    #[error("field `{field}` of the unroll is not made of what the store keeps: rows, or frames")]
    Kind {
        /// The column.
        field: &'static str,
    },
}

impl ReplayStore {
    /// An empty store, which has claimed no memory yet.
    ///
    /// # Errors
    /// As [`ReplayOptions::validate`].
    pub fn new(options: ReplayOptions) -> Result<Self, OptionsError> {
        options.validate()?;
        let layout = options.layout();
        let num_lanes = options.num_lanes();
        let discounts = std::iter::successors(Some(1.0), |power| Some(power * options.discount))
            .take(options.n_step + 1)
            .collect();
        let mut store = Self {
            lanes: (0..num_lanes).map(|_| Lane::new(&layout)).collect(),
            priorities: options
                .prioritised
                .map(|prioritised| Priorities::new(prioritised, num_lanes * layout.num_slots)),
            discounts,
            index: Index::default(),
            scratch: Scratch::default(),
            layout,
            options,
        };
        store.reindex();
        Ok(store)
    }

    /// What the store is made of.
    #[must_use]
    pub const fn options(&self) -> &ReplayOptions {
        &self.options
    }

    /// Steps that an item's environment has taken since it.
    #[must_use]
    pub fn age(&self, item: ItemHandle) -> u64 {
        self.lanes[item.lane as usize].next.saturating_sub(item.row)
    }

    /// Items that can be sampled.
    #[must_use]
    pub const fn num_items(&self) -> u64 {
        self.index.num_items
    }

    /// Bytes of the stored rows so far, priorities aside.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        self.lanes.iter().map(Lane::num_bytes).sum()
    }

    /// Takes a round apart into the lanes: unroll `u` of shard `s` goes on where the one before it
    /// ended, unless it says that it is discontinuous. New items have the highest priority.
    ///
    /// The unrolls have been [validated](Unroll::validate); their order changes nothing.
    ///
    /// # Errors
    /// Where an unroll is not of the run's shape; nothing of the round is stored then.
    pub fn insert(&mut self, unrolls: &[Unroll]) -> Result<Inserted, ReplayError> {
        for unroll in unrolls {
            self.check(unroll)?;
        }
        let shape = self.options.shape;
        for unroll in unrolls {
            let mut scratch = std::mem::take(&mut self.scratch);
            scratch.copy(unroll, &shape);
            let first = unroll.key.shard.0 as usize * shape.envs_per_shard;
            for env in 0..shape.envs_per_shard {
                self.insert_lane(first + env, env, unroll, &scratch);
            }
            self.scratch = scratch;
        }
        self.reindex();
        Ok(Inserted {
            steps: (unrolls.len() * shape.num_steps()) as u64,
            num_items: self.num_items(),
        })
    }

    /// Appends what environment `env` of an unroll lived through to its lane.
    fn insert_lane(&mut self, index: usize, env: usize, unroll: &Unroll, columns: &Scratch) {
        let shape = self.options.shape;
        let (width, action_width) = (self.layout.observation.row_width(), shape.action_width);
        let envs = shape.envs_per_shard;
        let observation = |t: usize| &columns.observations[(t * envs + env) * width..][..width];
        let (rewards, terminated, truncated) = (
            unroll.reward.bytes(),
            unroll.terminated.bytes(),
            unroll.truncated.bytes(),
        );
        let rewards = rewards.as_chunks().0;
        let lane = &mut self.lanes[index];
        let before = lane.sampleable(&self.layout);
        lane.begin(&self.layout, observation(0), unroll.discontinuity.is_none());
        for t in 0..shape.unroll_length {
            let step = t * envs + env;
            let is_terminated = terminated[step] == 1;
            let is_truncated = truncated[step] == 1 && !is_terminated;
            lane.push(
                &self.layout,
                Step {
                    action: &columns.actions[step * action_width..][..action_width],
                    reward: f32::from_le_bytes(rewards[step]),
                    terminated: is_terminated,
                    final_observation: is_truncated
                        .then(|| columns.final_observation(unroll, step, width)),
                    next_observation: observation(t + 1),
                },
            );
        }
        lane.settle(&self.layout);
        self.prioritise(index, &before);
    }

    /// Takes the priorities of rows away that can no longer be sampled, and gives the highest one to
    /// those that can be now; `before` could be until now.
    fn prioritise(&mut self, index: usize, before: &Range<u64>) {
        let Some(priorities) = &mut self.priorities else {
            return;
        };
        let lane = &self.lanes[index];
        let slots = self.layout.num_slots as u64;
        let base = index * self.layout.num_slots;
        let after = lane.sampleable(&self.layout);
        for (first, rows) in runs(before.start..after.start.min(before.end), slots) {
            priorities.set(base + first, rows.map(|_| 0.0));
        }
        let highest = priorities.highest;
        for (first, rows) in runs(before.end.max(after.start)..after.end, slots) {
            let priority = |row| {
                if lane.row(&self.layout, row).flags().is_final() {
                    0.0
                } else {
                    highest
                }
            };
            priorities.set(base + first, rows.map(priority));
        }
    }

    /// Gives every item that can be sampled the highest priority.
    pub(super) fn begin_priorities(&mut self) {
        for index in 0..self.lanes.len() {
            self.prioritise(index, &(0..0));
        }
    }

    /// Draws `size` items with replacement and writes them to `batch`.
    ///
    /// With priorities, `beta` is how far the weights undo them, from 0 (not) to 1 (wholly); the
    /// caller raises it over the run. All randomness is drawn from `random`.
    ///
    /// # Errors
    /// Where there is nothing to sample.
    pub fn sample(
        &self,
        size: usize,
        beta: f64,
        random: &mut Random,
        batch: &mut ReplayBatch,
    ) -> Result<(), ReplayError> {
        if self.num_items() == 0 {
            return Err(ReplayError::Empty);
        }
        let width = self.layout.observation.batch_width();
        batch.resize(size, width, self.options.shape.action_width);
        match &self.priorities {
            None => {
                for handle in &mut batch.handles {
                    *handle = self.draw(random);
                }
                self.fetch(&batch.handles);
                for handle in &mut batch.handles {
                    while self.is_final(*handle) {
                        *handle = self.draw(random);
                    }
                }
                batch.weights.fill(1.0);
            }
            Some(priorities) => {
                priorities.draw(random, &mut batch.targets, &mut batch.slots);
                priorities.weigh(&batch.slots, beta, &mut batch.weights);
                for (handle, slot) in batch.handles.iter_mut().zip(&batch.slots) {
                    let lane = slot / self.layout.num_slots;
                    let slot = slot - lane * self.layout.num_slots;
                    *handle = ItemHandle {
                        lane: lane as u32,
                        row: self.lanes[lane].row_in(&self.layout, slot),
                    };
                }
                self.fetch(&batch.handles);
            }
        }
        self.fill(random, batch);
        Ok(())
    }

    /// Reads the first word of every row that is about to be copied, and the last one of the row
    /// after it. Nothing depends on what is read and the addresses are there before the first
    /// of them is needed, so that the processor waits for a group of them at once instead of for one
    /// after the other.
    fn fetch(&self, handles: &[ItemHandle]) {
        let pair = 2 * self.layout.words();
        let mut seen = 0;
        for group in handles.chunks(FETCHED_AT_ONCE) {
            let mut rows: [&[u32]; FETCHED_AT_ONCE] = [&[0]; FETCHED_AT_ONCE];
            for (rows, handle) in rows.iter_mut().zip(group) {
                let lane = &self.lanes[handle.lane as usize];
                *rows = lane.rows.rows_from(lane.slot(&self.layout, handle.row));
            }
            for rows in rows {
                seen ^= rows[0] ^ rows[pair.min(rows.len()) - 1];
            }
        }
        black_box(seen);
    }

    /// Sets the priorities of sampled items by their temporal-difference errors. Items that have been
    /// overwritten meanwhile are skipped (T28); returns how many. Without priorities nothing happens.
    ///
    /// # Panics
    /// If there are not as many errors as items.
    pub fn update_priorities(&mut self, handles: &[ItemHandle], td_errors: &[f32]) -> usize {
        assert_eq!(handles.len(), td_errors.len(), "one error an item");
        let Some(priorities) = &mut self.priorities else {
            return 0;
        };
        let mut skipped = 0;
        for (handle, td_error) in handles.iter().zip(td_errors) {
            let lane = handle.lane as usize;
            let is_stored = self
                .index
                .ranges
                .get(lane)
                .is_some_and(|range| range.contains(&handle.row));
            if is_stored {
                let slot = self.lanes[lane].slot(&self.layout, handle.row);
                priorities.update(lane * self.layout.num_slots + slot, *td_error);
            } else {
                skipped += 1;
            }
        }
        skipped
    }

    /// Draws one row uniformly, which may be a final one.
    #[inline]
    fn draw(&self, random: &mut Random) -> ItemHandle {
        let Index {
            ranges, offsets, ..
        } = &self.index;
        let place = random.below(offsets[offsets.len() - 1]);
        let lane = offsets.partition_point(|offset| *offset <= place) - 1;
        ItemHandle {
            lane: lane as u32,
            row: ranges[lane].start + (place - offsets[lane]),
        }
    }

    #[inline]
    fn is_final(&self, item: ItemHandle) -> bool {
        let lane = &self.lanes[item.lane as usize];
        lane.row(&self.layout, item.row).flags().is_final()
    }

    /// Writes the items that the batch's handles name.
    pub(super) fn fill(&self, random: &mut Random, batch: &mut ReplayBatch) {
        let width = self.layout.observation.batch_width();
        let action_width = self.options.shape.action_width;
        let layout = &self.layout;
        for (index, handle) in batch.handles.iter().enumerate() {
            let lane = &self.lanes[handle.lane as usize];
            let observation = &mut batch.observations[index * width..][..width];
            let next_observation = &mut batch.next_observations[index * width..][..width];
            lane.observe(layout, handle.row, observation);
            batch.actions[index * action_width..][..action_width]
                .copy_from_slice(lane.row(layout, handle.row).action());
            let relabelled = self.options.hindsight.as_ref().and_then(|hindsight| {
                let relabelled =
                    hindsight.relabel(lane, layout, handle.row, &self.discounts, random)?;
                hindsight.write_goal(lane, layout, relabelled.goal, observation);
                Some((hindsight, relabelled))
            });
            batch.relabelled[index] = relabelled.is_some();
            let window = relabelled.map_or_else(
                || window(lane, layout, handle.row, &self.discounts),
                |(_, relabelled)| relabelled.window,
            );
            batch.returns[index] = window.return_ as f32;
            batch.discounts[index] = window.discount as f32;
            if window.discount == 0.0 {
                next_observation.fill(0.0);
                continue;
            }
            lane.observe(layout, window.next, next_observation);
            if let Some((hindsight, relabelled)) = relabelled {
                hindsight.write_goal(lane, layout, relabelled.goal, next_observation);
            }
        }
    }

    /// Brings the index up to date after the lanes have changed.
    pub(super) fn reindex(&mut self) {
        let index = &mut self.index;
        index.ranges.clear();
        index.offsets.clear();
        index.offsets.push(0);
        index.num_items = 0;
        let mut rows = 0;
        for lane in &self.lanes {
            let range = lane.sampleable(&self.layout);
            rows += range.end - range.start;
            index.num_items += lane.num_items(&self.layout);
            index.ranges.push(range);
            index.offsets.push(rows);
        }
    }

    fn check(&self, unroll: &Unroll) -> Result<(), ReplayError> {
        let shape = &self.options.shape;
        if unroll.key.shard.0 as usize >= self.options.num_shards {
            return Err(ReplayError::Shard {
                num_shards: self.options.num_shards,
                got: unroll.key.shard.0,
            });
        }
        let steps = shape.num_steps();
        for (field, expected, got) in [
            (
                "observation",
                shape.observation_len(),
                unroll.observation.len(),
            ),
            ("action", steps * shape.action_width, unroll.action.len()),
            ("reward", steps, unroll.reward.len()),
            ("terminated", steps, unroll.terminated.len()),
            ("truncated", steps, unroll.truncated.len()),
            (
                "final_observation",
                unroll.final_index.len() * shape.final_len(),
                unroll.final_observation.len(),
            ),
        ] {
            if expected != got {
                return Err(ReplayError::Extent {
                    field,
                    expected,
                    got,
                });
            }
        }
        for (field, observations) in [
            ("observation", &unroll.observation),
            ("final_observation", &unroll.final_observation),
        ] {
            if observations.pixels().is_some() != shape.frames.is_some() {
                return Err(ReplayError::Kind { field });
            }
        }
        Ok(())
    }
}

impl Scratch {
    /// Takes an unroll's columns; of images each row's newest frame, without those before the first row.
    fn copy(&mut self, unroll: &Unroll, shape: &UnrollShape) {
        let older = shape.frames.map_or(0, |frames| {
            (frames.stack - 1) * shape.envs_per_shard * frames.size
        });
        copy_rows(&unroll.observation, older, &mut self.observations);
        copy_rows(&unroll.final_observation, 0, &mut self.finals);
        self.actions.resize(unroll.action.len(), 0.0);
        unroll.action.copy_to(&mut self.actions);
    }

    /// The observation in which the episode ended that step `step` truncated.
    fn final_observation(&self, unroll: &Unroll, step: usize, width: usize) -> &[f32] {
        let indices = unroll.final_index.bytes();
        let place = indices
            .as_chunks()
            .0
            .partition_point(|index| (u32::from_le_bytes(*index) as usize) < step);
        &self.finals[place * width..][..width]
    }
}

/// Copies rows, or the pixels behind the first `skipped` as numbers from 0 to 255.
fn copy_rows(observations: &Observations, skipped: usize, values: &mut Vec<f32>) {
    match observations {
        Observations::Rows(column) => {
            values.resize(column.len(), 0.0);
            column.copy_to(values);
        }
        Observations::Frames(column) => {
            values.clear();
            values.extend(column.iter().skip(skipped).map(f32::from));
        }
    }
}

/// Cuts rows into runs of consecutive slots, each with its first slot.
pub(super) fn runs(rows: Range<u64>, slots: u64) -> impl Iterator<Item = (usize, Range<u64>)> {
    let mut next = rows.start;
    std::iter::from_fn(move || {
        (next < rows.end).then(|| {
            let slot = next % slots;
            let run = next..rows.end.min(next + slots - slot);
            next = run.end;
            (slot as usize, run)
        })
    })
}
