//! Rows per second of the policy on one core: the forward pass alone, and whole decisions.
//!
//! `cargo bench -p rookery-common --bench policy`

#![expect(
    clippy::expect_used,
    reason = "a benchmark has nobody to report errors to"
)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rookery_common::policy::forward::{Network, Scratch};
use rookery_common::policy::{
    Activation, Behaviour, Policy, PolicySpec, ValueDistribution, Workspace,
};
use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::Space;

const BATCHES: [usize; 4] = [1, 8, 64, 4096];

fn draws(count: usize, position: u64) -> Vec<f32> {
    let mut random = Random::derive(1, Purpose::Initialisation, 0, position);
    (0..count)
        .map(|_| random.uniform(-0.5, 0.5) as f32)
        .collect()
}

fn spec(observation: usize, action: &Space) -> PolicySpec {
    let observation = Space::bounded(&vec![-1.0; observation], &vec![1.0; observation]);
    PolicySpec::new(&observation, action, vec![64, 64], Activation::Tanh).expect("a valid network")
}

/// The network for `CartPole`: 4 -> 64 -> 64 -> 2, tanh.
fn forward(criterion: &mut Criterion) {
    let spec = spec(4, &Space::Discrete { n: 2 });
    let network = Network::new(&spec, &draws(spec.layout().len(), 0)).expect("its parameters");
    let mut scratch = Scratch::default();
    let mut group = criterion.benchmark_group("forward");
    for rows in BATCHES {
        let observations = draws(rows * 4, 1);
        let mut outputs = vec![0.0; rows * 2];
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(BenchmarkId::from_parameter(rows), |bencher| {
            bencher.iter(|| network.forward(&mut scratch, &observations, &mut outputs));
        });
    }
    group.finish();
}

/// Forward pass, sampling and log-probabilities: two discrete actions from 4 values, and six continuous
/// ones from 17.
fn act(criterion: &mut Criterion) {
    let six = Space::bounded(&[-1.0; 6], &[1.0; 6]);
    for (name, spec) in [
        ("act_discrete", spec(4, &Space::Discrete { n: 2 })),
        ("act_continuous", spec(17, &six)),
    ] {
        let parameters = draws(spec.layout().len(), 0);
        let policy = Policy::new(spec, &parameters, None).expect("its parameters");
        let mut workspace = Workspace::default();
        let mut group = criterion.benchmark_group(name);
        for rows in BATCHES {
            let observations = draws(rows * policy.spec().observation_width(), 1);
            let mut actions = vec![0.0; rows * policy.spec().action_width()];
            let mut log_probs = vec![0.0; rows];
            let mut step = 0;
            group.throughput(Throughput::Elements(rows as u64));
            group.bench_function(BenchmarkId::from_parameter(rows), |bencher| {
                bencher.iter(|| {
                    step += 1;
                    policy.act(
                        &mut workspace,
                        Behaviour::OnPolicy,
                        &observations,
                        |row| Random::derive(1, Purpose::Action, row as u64, step),
                        &mut actions,
                        &mut log_probs,
                    );
                });
            });
        }
        group.finish();
    }
}

/// One draw of a noisy network's noise, as every unroll takes it: 4 -> 256 -> 256 -> 2.
fn noise(criterion: &mut Criterion) {
    let observation = Space::bounded(&[-1.0; 4], &[1.0; 4]);
    let spec = PolicySpec::action_values(
        &observation,
        &Space::Discrete { n: 2 },
        vec![256, 256],
        Activation::Relu,
        true,
        ValueDistribution::Expectation,
        true,
    )
    .expect("a valid network");
    let policy =
        Policy::new(spec.clone(), &draws(spec.layout().len(), 0), None).expect("its parameters");
    let mut unroll = 0;
    criterion.bench_function("noise_256x256", |bencher| {
        bencher.iter(|| {
            unroll += 1;
            policy.with_noise(&mut Random::derive(1, Purpose::Noise, 0, unroll))
        });
    });
}

criterion_group!(benches, forward, act, noise);
criterion_main!(benches);
