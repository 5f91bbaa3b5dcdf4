//! Rows per second of the policy's forward pass on one core.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rookery_common::policy::forward::{Network, Scratch};
use rookery_common::policy::spec::{Activation, PolicySpec};
use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::Space;

fn forward(criterion: &mut Criterion) {
    let spec = PolicySpec::new(
        &Space::bounded(&[-1.0; 4], &[1.0; 4]),
        &Space::Discrete { n: 2 },
        vec![64, 64],
        Activation::Tanh,
    )
    .expect("a valid network");
    let mut random = Random::derive(1, Purpose::Initialisation, 0, 0);
    let mut draw = |count| -> Vec<f32> {
        (0..count)
            .map(|_| random.uniform(-0.5, 0.5) as f32)
            .collect()
    };
    let network = Network::new(&spec, &draw(spec.layout().len())).expect("its parameters");
    let mut scratch = Scratch::default();
    let mut group = criterion.benchmark_group("forward_4_64_64_2_tanh");
    for rows in [1, 8, 64, 4096] {
        let observations = draw(rows * 4);
        let mut outputs = vec![0.0; rows * 2];
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(BenchmarkId::from_parameter(rows), |bencher| {
            bencher.iter(|| network.forward(&mut scratch, &observations, &mut outputs));
        });
    }
    group.finish();
}

criterion_group!(benches, forward);
criterion_main!(benches);
