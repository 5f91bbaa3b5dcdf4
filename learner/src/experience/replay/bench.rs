//! Times a full store, for `rookery bench replay`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rookery_common::seeds::{Purpose, Random};
use rookery_common::unroll::{
    LeaseEpoch, PolicyVersion, ShardId, Unroll, UnrollIndex, UnrollKey, UnrollShape,
};

use super::{PrioritisedOptions, ReplayBatch, ReplayOptions, ReplayStore, RestoreError};

const NUM_SHARDS: usize = 2;
const ENVS_PER_SHARD: usize = 4;
const UNROLL_LENGTH: usize = 64;
const BATCH_SIZE: usize = 256;
/// Errors that priorities are updated with, cycled through.
const NUM_ERRORS: usize = 8 * BATCH_SIZE;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct ReplaySetting {
    /// Values of an observation.
    pub observation_width: usize,
    /// Values of an action.
    pub action_width: usize,
    /// Steps of an episode.
    pub episode_length: usize,
    /// Whether episodes are truncated, and not terminated.
    pub truncates: bool,
    /// Whether items are drawn by priority.
    pub prioritised: bool,
    /// Rows of the store, which is filled before anything is measured.
    pub capacity: usize,
    /// How long to sample.
    pub time: Duration,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct ReplayFigures {
    /// Items in the full store.
    pub num_items: u64,
    /// One sample of 256 items, the median.
    pub sample: Duration,
    /// One update of 256 priorities, the median.
    pub update: Duration,
    /// Steps inserted a second while the store was filled and once around again.
    pub inserts_per_second: f64,
    /// Bytes of stored rows for each item, priorities aside.
    pub bytes_per_item: f64,
    /// Taking a snapshot.
    pub snapshot: Duration,
    /// The insertion of the first round after it, which copies the pages that it writes to.
    pub insert_after_snapshot: Duration,
    /// Writing the snapshot to memory.
    pub write: Duration,
    /// Restoring the store from it.
    pub restore: Duration,
}

/// Fills a store and measures it.
///
/// # Errors
/// Where the setting makes no store.
pub fn bench_replay(setting: &ReplaySetting) -> Result<ReplayFigures, RestoreError> {
    let shape = UnrollShape {
        unroll_length: UNROLL_LENGTH,
        envs_per_shard: ENVS_PER_SHARD,
        observation_width: setting.observation_width,
        action_width: setting.action_width,
        state_width: 0,
        frames: None,
    };
    let mut store = ReplayStore::new(ReplayOptions {
        shape,
        num_shards: NUM_SHARDS,
        discount: 0.99,
        n_step: 1,
        capacity: setting.capacity,
        capacity_bytes: u64::MAX,
        prioritised: setting.prioritised.then_some(PrioritisedOptions {
            alpha: 0.6,
            epsilon: 1e-6,
        }),
        hindsight: None,
    })?;
    let rounds = synthetic_rounds(&shape, setting);
    let mut next_round = rounds.iter().cycle();
    let mut insert = |store: &mut ReplayStore| {
        next_round
            .next()
            .map_or(0, |round| store.insert(round).map_or(0, |i| i.steps))
    };

    let (mut steps, begin) = (0, Instant::now());
    while steps < 2 * setting.capacity as u64 {
        steps += insert(&mut store);
    }
    let inserts_per_second = steps as f64 / begin.elapsed().as_secs_f64();

    let mut random = Random::derive(1, Purpose::Replay, 0, 0);
    let errors: Vec<f32> = (0..NUM_ERRORS)
        .map(|_| random.standard_normals().0 as f32)
        .collect();
    let mut batch = ReplayBatch::default();
    let (mut samples, mut updates) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    while begin.elapsed() < setting.time || samples.is_empty() {
        let mut random = Random::derive(1, Purpose::Replay, samples.len() as u64, 0);
        let clock = Instant::now();
        let sampled = store.sample(BATCH_SIZE, 0.4, &mut random, &mut batch);
        samples.push(clock.elapsed());
        black_box((&batch, sampled.is_ok()));
        let errors = &errors[samples.len() * BATCH_SIZE % NUM_ERRORS..][..BATCH_SIZE];
        let clock = Instant::now();
        black_box(store.update_priorities(&batch.handles, errors));
        updates.push(clock.elapsed());
    }

    let clock = Instant::now();
    let snapshot = store.snapshot();
    let snapshot_time = clock.elapsed();
    let clock = Instant::now();
    insert(&mut store);
    let insert_after_snapshot = clock.elapsed();
    let mut bytes = Vec::with_capacity(snapshot.num_bytes() as usize + 4096);
    let clock = Instant::now();
    snapshot.write_to(&mut bytes)?;
    let write = clock.elapsed();
    let clock = Instant::now();
    black_box(ReplayStore::restore(
        store.options().clone(),
        &mut bytes.as_slice(),
    )?);
    Ok(ReplayFigures {
        num_items: store.num_items(),
        sample: median(&mut samples),
        update: median(&mut updates),
        inserts_per_second,
        bytes_per_item: store.num_bytes() as f64 / store.num_items() as f64,
        snapshot: snapshot_time,
        insert_after_snapshot,
        write,
        restore: clock.elapsed(),
    })
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Enough rounds that every lane has whole episodes, with ends that differ from lane to lane.
fn synthetic_rounds(shape: &UnrollShape, setting: &ReplaySetting) -> Vec<Vec<Unroll>> {
    let num_rounds = setting.episode_length.div_ceil(UNROLL_LENGTH).max(16);
    let mut random = Random::derive(1, Purpose::Episode, 0, 0);
    (0..num_rounds)
        .map(|round| {
            (0..NUM_SHARDS)
                .map(|shard| unroll(shape, setting, round, shard, &mut random))
                .collect()
        })
        .collect()
}

fn unroll(
    shape: &UnrollShape,
    setting: &ReplaySetting,
    round: usize,
    shard: usize,
    random: &mut Random,
) -> Unroll {
    let steps = shape.num_steps();
    let mut normals = |count: usize| -> Vec<f32> {
        (0..count)
            .map(|_| random.standard_normals().0 as f32)
            .collect()
    };
    let ends: Vec<u8> = (0..steps)
        .map(|step| {
            let lane = shard * shape.envs_per_shard + step % shape.envs_per_shard;
            let time = round * shape.unroll_length + step / shape.envs_per_shard + 17 * lane;
            u8::from(time.is_multiple_of(setting.episode_length))
        })
        .collect();
    let finals: Vec<u32> = (0..steps as u32)
        .filter(|step| setting.truncates && ends[*step as usize] == 1)
        .collect();
    let none = vec![0; steps];
    let (terminated, truncated) = if setting.truncates {
        (none, ends)
    } else {
        (ends, none)
    };
    Unroll {
        key: UnrollKey {
            run_id: String::new(),
            shard: ShardId(shard as u32),
            lease_epoch: LeaseEpoch(1),
            index: UnrollIndex(round as u64),
        },
        version: PolicyVersion::default(),
        observation: normals((steps + shape.envs_per_shard) * shape.observation_width).into(),
        initial_state: Vec::new().into(),
        action: normals(steps * shape.action_width).into(),
        log_prob: normals(steps).into(),
        reward: normals(steps).into(),
        terminated: terminated.into(),
        truncated: truncated.into(),
        final_observation: normals(finals.len() * shape.observation_width).into(),
        final_index: finals.into(),
        episode_index: Vec::new().into(),
        episode_return: Vec::new().into(),
        episode_length: Vec::new().into(),
        state_after: Bytes::new(),
        discontinuity: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_store_can_be_measured() {
        for (prioritised, truncates) in [(false, true), (true, false)] {
            let figures = bench_replay(&ReplaySetting {
                observation_width: 3,
                action_width: 1,
                episode_length: 50,
                truncates,
                prioritised,
                capacity: 4000,
                time: Duration::ZERO,
            })
            .unwrap();
            assert!(figures.num_items > 3900 && figures.num_items < 4000);
            assert!(figures.bytes_per_item < 26.0);
        }
    }
}
