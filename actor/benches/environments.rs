//! Steps a second of every environment in a shard, resets and bookkeeping included.
//!
//! `cargo bench -p rookery-actor --bench environments`; an element is one step of one environment.

#![expect(
    clippy::expect_used,
    reason = "a benchmark that cannot run should stop"
)]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rookery_actor::environments::{ids, make};
use rookery_actor::shard::{FinalObservations, Shard, StepRow};
use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::Space;

/// Rows of actions that are cycled through, so that drawing them is not measured.
const ACTION_ROWS: usize = 64;

fn shard(id: &str, num_envs: usize) -> Shard {
    let environment = make(id, &BTreeMap::new(), num_envs).expect("a known id");
    Shard::new(environment, 0, 1, Purpose::Episode).expect("native environments begin")
}

fn actions(space: &Space, num_envs: usize) -> Vec<f32> {
    let mut random = Random::derive(1, Purpose::Action, 0, 0);
    (0..ACTION_ROWS * num_envs)
        .map(|_| match space {
            Space::MultiDiscrete { .. } | Space::Frames { .. } => {
                unreachable!("no native environment acts like that")
            }
            Space::Discrete { n } => random.below(*n as u64) as f32,
            Space::Box { low, high, .. } => low[0] + (high[0] - low[0]) * random.unit_f32(),
        })
        .collect()
}

fn step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard_step");
    for id in ids() {
        for num_envs in [32, 1024] {
            let mut shard = shard(id, num_envs);
            let actions = actions(&shard.spec().action, num_envs);
            let mut rows = actions.chunks_exact(num_envs).cycle();
            let mut rewards = vec![0.0; num_envs];
            let mut terminated = vec![0; num_envs];
            let mut truncated = vec![0; num_envs];
            let mut next_observations = vec![0.0; num_envs * shard.spec().observation.width()];
            let mut finals = FinalObservations::default();
            let mut episodes = Vec::new();
            group.throughput(Throughput::Elements(num_envs as u64));
            group.bench_function(BenchmarkId::new(id, num_envs), |bencher| {
                bencher.iter(|| {
                    finals.envs.clear();
                    finals.observations.clear();
                    episodes.clear();
                    shard
                        .step(
                            rows.next().expect("the rows are cycled"),
                            StepRow {
                                rewards: &mut rewards,
                                terminated: &mut terminated,
                                truncated: &mut truncated,
                                next_observations: &mut next_observations,
                                finals: &mut finals,
                                episodes: &mut episodes,
                            },
                        )
                        .expect("native environments step");
                    black_box(&next_observations);
                });
            });
        }
    }
    group.finish();
}

fn snapshot(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard_snapshot");
    let mut shard = shard("CartPole-v1", 4096);
    let state = shard.save();
    group.throughput(Throughput::Bytes(state.len() as u64));
    group.bench_function("save/CartPole-v1/4096", |bencher| {
        bencher.iter(|| shard.save());
    });
    group.bench_function("restore/CartPole-v1/4096", |bencher| {
        bencher.iter(|| shard.restore(black_box(&state)).expect("its own state"));
    });
    group.finish();
}

criterion_group!(benches, step, snapshot);
criterion_main!(benches);
