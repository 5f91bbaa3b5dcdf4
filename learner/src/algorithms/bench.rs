//! Measures the gradient steps of off-policy algorithms, beside the products of matrices that they cannot
//! do without: what is left over is the price of everything else.

use std::time::{Duration, Instant};

use rookery_common::configuration::{Algorithm, Configuration};
use rookery_common::policy::Activation;
use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::{EnvironmentSpec, Space};
use tch::{Device, Kind, Tensor};

use super::replayed::Columns;
use super::{AlgorithmError, dqn, sac};
use crate::run::RunSpecification;
use crate::service::specify;

/// Gradient steps between two looks at the clock.
const STEPS_PER_SAMPLE: u64 = 20;

/// Medians of one setting.
#[derive(Clone, Copy, Debug)]
pub struct StepFigures {
    /// One gradient step with everything that belongs to it.
    pub step: Duration,
    /// The same products of matrices, and nothing else.
    pub products: Duration,
}

/// Products of random matrices of given shapes, into memory that is there already.
struct Products(Vec<[Tensor; 3]>);

impl Products {
    /// Products `[m, k] x [k, n]`, each as `(m, k, n)`.
    fn new(shapes: &[(i64, i64, i64)], device: Device) -> Self {
        let random = |rows: i64, columns: i64| Tensor::rand([rows, columns], (Kind::Float, device));
        let make = |&(m, k, n): &(i64, i64, i64)| [random(m, k), random(k, n), random(m, n)];
        Self(shapes.iter().map(make).collect())
    }

    fn run(&self) {
        for [a, b, out] in &self.0 {
            let _ = a.mm_out(out, b);
        }
    }
}

/// Shapes of a stack of layers for `rows`, forward.
fn forward(rows: i64, widths: &[i64]) -> Vec<(i64, i64, i64)> {
    widths
        .windows(2)
        .map(|pair| (rows, pair[0], pair[1]))
        .collect()
}

/// Shapes of its backward pass: the weights' gradients and, but for the first layer unless it is wanted,
/// the inputs'.
fn backward(
    rows: i64,
    widths: &[i64],
    wants_weights: bool,
    wants_input: bool,
) -> Vec<(i64, i64, i64)> {
    let mut shapes = Vec::new();
    for (layer, pair) in widths.windows(2).enumerate() {
        let (inputs, outputs) = (pair[0], pair[1]);
        if wants_weights {
            shapes.push((outputs, rows, inputs));
        }
        if layer > 0 || wants_input {
            shapes.push((rows, outputs, inputs));
        }
    }
    shapes
}

fn specification(
    configuration: &Configuration,
    observation_width: usize,
    action: Space,
) -> Result<RunSpecification, AlgorithmError> {
    let bounds = vec![1.0; observation_width];
    let low: Vec<f32> = bounds.iter().map(|bound| -bound).collect();
    let environment = EnvironmentSpec {
        id: "Bench-v0".to_owned(),
        arguments: std::collections::BTreeMap::new(),
        observation: Space::bounded(&low, &bounds),
        action,
        max_episode_steps: None,
        goal: None,
        wrappers: Vec::new(),
        action_mask: false,
    };
    Ok(specify(environment, configuration)?)
}

fn rows_of(random: &mut Random, rows: usize, width: usize) -> Tensor {
    let host: Vec<f32> = (0..rows * width)
        .map(|_| random.uniform(-1.0, 1.0) as f32)
        .collect();
    Tensor::from_slice(&host).view([rows as i64, width as i64])
}

/// Takes turns between `step` and the products for `time` and gives the medians of both.
fn measure(time: Duration, products: &Products, mut step: impl FnMut(u64)) -> StepFigures {
    let (mut steps, mut baseline) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    let mut done = 0;
    while steps.len() < 3 || begin.elapsed() < time {
        let since = Instant::now();
        for _ in 0..STEPS_PER_SAMPLE {
            step(done);
            done += 1;
        }
        steps.push(since.elapsed() / STEPS_PER_SAMPLE as u32);
        let since = Instant::now();
        for _ in 0..STEPS_PER_SAMPLE {
            products.run();
        }
        baseline.push(since.elapsed() / STEPS_PER_SAMPLE as u32);
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    StepFigures {
        step: median(&mut steps),
        products: median(&mut baseline),
    }
}

/// Double Q-learning on CartPole's spaces with two hidden layers of 128 and minibatches of 64.
///
/// # Errors
/// None that a fixed setting can meet.
pub fn bench_dqn(time: Duration, device: Device) -> Result<StepFigures, AlgorithmError> {
    let mut configuration = Configuration::default();
    configuration.run.algorithm = Algorithm::Dqn;
    configuration.policy.hidden = vec![128, 128];
    configuration.policy.activation = Activation::Relu;
    let specification = specification(&configuration, 4, Space::Discrete { n: 2 })?;
    let mut dqn = dqn::Dqn::configured(&configuration, &specification, device)?;
    let rows = configuration.dqn.minibatch_size;
    let mut random = Random::derive(1, Purpose::Minibatch, 0, 0);
    let mut column = || rows_of(&mut random, rows, 1).view([-1]).to_device(device);
    let (returns, discounts) = (column(), column().abs());
    let columns = Columns {
        actions: column().gt(0.0).to_kind(Kind::Float),
        weights: column().ones_like(),
        returns,
        discounts,
        inputs: rows_of(&mut random, rows, 4).to_device(device),
        next_inputs: rows_of(&mut random, rows, 4).to_device(device),
    };
    let widths = [4, 128, 128, 2];
    let rows = rows as i64;
    // The target network for the next observations, the online one for both.
    let mut shapes = forward(rows, &widths);
    shapes.extend(forward(2 * rows, &widths));
    shapes.extend(backward(rows, &widths, true, false));
    let mut record = dqn::update::Record::default();
    Ok(measure(time, &Products::new(&shapes, device), |_| {
        let _ = dqn.gradient_step(&columns, None, 1e-3, &mut record);
        record = dqn::update::Record::default();
    }))
}

/// Soft actor-critic on Pendulum's spaces with two hidden layers of 256 and minibatches of 256.
///
/// # Errors
/// None that a fixed setting can meet.
pub fn bench_sac(time: Duration, device: Device) -> Result<StepFigures, AlgorithmError> {
    let mut configuration = Configuration::default();
    configuration.run.algorithm = Algorithm::Sac;
    configuration.policy.hidden = vec![256, 256];
    configuration.policy.activation = Activation::Relu;
    let action = Space::bounded(&[-2.0], &[2.0]);
    let specification = specification(&configuration, 3, action)?;
    let mut sac = sac::Sac::configured(&configuration, &specification, device)?;
    let rows = configuration.sac.minibatch_size;
    let mut random = Random::derive(1, Purpose::Minibatch, 0, 0);
    let mut of = |width| rows_of(&mut random, rows, width).to_device(device);
    let columns = Columns {
        inputs: of(3),
        next_inputs: of(3),
        actions: of(1),
        returns: of(1).view([-1]),
        discounts: of(1).view([-1]).abs(),
        weights: of(1).view([-1]).ones_like(),
    };
    let rows = rows as i64;
    let (policy, critic) = ([3, 256, 256, 2], [4, 256, 256, 1]);
    let mut shapes: Vec<_> = (0..2).flat_map(|_| forward(rows, &policy)).collect();
    shapes.extend(backward(rows, &policy, true, false));
    for _ in 0..2 {
        // Targets, values, and the values of the policy's actions.
        shapes.extend((0..3).flat_map(|_| forward(rows, &critic)));
        shapes.extend(backward(rows, &critic, true, false));
        shapes.extend(backward(rows, &critic, false, true));
    }
    let mut record = sac::update::Record::default();
    Ok(measure(time, &Products::new(&shapes, device), |step| {
        let _ = sac.gradient_step(&columns, 0, step, &mut record);
        record = sac::update::Record::default();
    }))
}
