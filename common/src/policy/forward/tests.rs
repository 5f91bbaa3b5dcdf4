//! The forward pass against its definition, in every batch and on every instruction set.

mod recurrent;

use super::*;
use crate::policy::image::{Operation, Planes, Stage, Window};
use crate::policy::math::activate;
use crate::policy::{ImageEncoder, ValueDistribution};
use crate::seeds::{Purpose, Random};
use crate::spaces::Space;

fn draws(count: usize, position: u64) -> Vec<f32> {
    let mut random = Random::derive(9, Purpose::Initialisation, 0, position);
    (0..count)
        .map(|_| random.uniform(-1.0, 1.0) as f32)
        .collect()
}

/// The instruction sets that this processor has, the portable one first.
fn arches() -> Vec<Arch> {
    let mut arches = vec![Arch::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        arches.extend(pulp::x86::V3::try_new().map(Arch::V3));
        arches.extend(pulp::x86::V4::try_new().map(Arch::V4));
    }
    #[cfg(target_arch = "aarch64")]
    arches.push(Arch::new());
    arches
}

/// Networks whose widths hit whole tiles, single panels, and every kind of remainder.
fn specs() -> Vec<PolicySpec> {
    let spec = |observation: usize, hidden: &[usize], actions, activation| {
        let observation = Space::bounded(&vec![-1.0; observation], &vec![1.0; observation]);
        let action = Space::Discrete { n: actions };
        PolicySpec::new(&observation, &action, hidden.to_vec(), activation).unwrap()
    };
    let values = |observation: usize, hidden: &[usize], actions, dueling, distribution, noisy| {
        let observation = Space::bounded(&vec![-1.0; observation], &vec![1.0; observation]);
        let action = Space::Discrete { n: actions };
        let (hidden, relu) = (hidden.to_vec(), Activation::Relu);
        PolicySpec::action_values(
            &observation,
            &action,
            hidden,
            relu,
            dueling,
            distribution,
            noisy,
        )
        .unwrap()
    };
    let atoms = |num_atoms| ValueDistribution::Categorical {
        num_atoms,
        v_min: -1.0,
        v_max: 1.0,
    };
    let quantiles = ValueDistribution::Quantiles { num_quantiles: 17 };
    let three = Space::bounded(&[-1.0; 3], &[1.0; 3]);
    let image = |spec: PolicySpec, planes: [usize; 3], stages: &[Stage]| {
        let image = Space::planes(planes[0], planes[1], planes[2]);
        spec.with_image_encoder(&image, stages.to_vec()).unwrap()
    };
    let convolution = |channels, kernel, stride| Stage::Convolution {
        channels,
        kernel,
        stride,
    };
    let residual = |channels| Stage::Residual { channels };
    let expectation = ValueDistribution::Expectation;
    vec![
        spec(4, &[64, 64], 2, Activation::Tanh),
        spec(17, &[33, 5, 100], 19, Activation::Tanh),
        spec(1, &[1], 1, Activation::Relu),
        spec(7, &[48, 16], 40, Activation::Relu),
        spec(3, &[], 2, Activation::Tanh),
        values(4, &[24], 18, true, ValueDistribution::Expectation, false),
        values(5, &[17, 9], 3, true, atoms(51), true),
        values(6, &[33], 2, false, quantiles, true),
        values(2, &[], 5, true, atoms(2), true),
        PolicySpec::squashed_gaussian(&three, &three, vec![16, 7], Activation::Relu).unwrap(),
        image(
            spec(1, &[33], 3, Activation::Relu),
            [3, 9, 8],
            &[convolution(16, 3, 1), convolution(5, 2, 2)],
        ),
        image(
            values(1, &[7], 3, true, expectation, true),
            [1, 7, 6],
            &[residual(4), convolution(33, 1, 1)],
        ),
        image(
            values(1, &[], 2, true, quantiles, true),
            [2, 5, 9],
            &[residual(17), residual(3)],
        ),
    ]
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn forward(network: &Network, observations: &[f32], outputs: usize) -> Vec<f32> {
    let rows = observations.len() / network.observation_width;
    let mut result = vec![0.0; rows * outputs];
    network.forward(&mut Scratch::default(), observations, &mut result);
    result
}

/// A convolution, padded with zeros, or a maximum, by the definition.
fn slide(window: &Window, layer: Option<(&[f32], &[f32])>, x: &[f32]) -> Vec<f32> {
    let Window {
        input,
        output,
        kernel,
        ..
    } = *window;
    let at = |channel: usize, row: usize, column: usize| {
        let within = |at: usize, extent| at.checked_sub(window.padding).filter(|at| *at < extent);
        let (row, column) = (within(row, input.rows)?, within(column, input.columns)?);
        Some(x[(channel * input.rows + row) * input.columns + column])
    };
    let mut y = Vec::with_capacity(output.width());
    for channel in 0..output.channels {
        for position in 0..output.positions() {
            let row = position / output.columns * window.stride;
            let column = position % output.columns * window.stride;
            let cells = (0..kernel * kernel).map(|cell| (cell / kernel, cell % kernel));
            let Some((weight, bias)) = layer else {
                let values = cells.filter_map(|(r, c)| at(channel, row + r, column + c));
                y.push(values.fold(f32::NEG_INFINITY, f32::max));
                continue;
            };
            let mut sum = bias[channel];
            for (r, c) in cells {
                for from in 0..input.channels {
                    let value = at(from, row + r, column + c).unwrap_or(0.0);
                    let index = ((channel * input.channels + from) * kernel + r) * kernel + c;
                    sum = value.mul_add(weight[index], sum);
                }
            }
            y.push(sum);
        }
    }
    y
}

/// The features of an image by the definition, `[channels, rows, columns]`.
fn features(encoder: &ImageEncoder, layers: &[&[f32]], image: &[f32]) -> Vec<f32> {
    let mut layers = layers.chunks(2);
    let (mut x, mut branch) = (image.to_vec(), Vec::new());
    for operation in encoder.operations() {
        match operation {
            Operation::Convolution(window) => {
                let layer = layers.next().map(|layer| (layer[0], layer[1]));
                x = slide(&window, layer, &x);
            }
            Operation::MaxPool(window) => x = slide(&window, None, &x),
            Operation::Rectify => activate(Activation::Relu, &mut x),
            Operation::Branch => branch.clone_from(&x),
            Operation::Join => x
                .iter_mut()
                .zip(&branch)
                .for_each(|(x, branch)| *x += branch),
        }
    }
    x
}

/// What the first layer sees of an observation, and the order in which it adds it up: that of the
/// indices, except that of an image's features every channel of a position comes before the next.
fn seen(spec: &PolicySpec, parameters: &[f32], observation: &[f32]) -> (Vec<f32>, Vec<usize>) {
    let Encoder::Image(encoder) = &spec.encoder else {
        return (observation.to_vec(), (0..observation.len()).collect());
    };
    let layout = spec.layout();
    let slots = &layout.tensors()[..spec.num_convolution_tensors()];
    let layers: Vec<&[f32]> = slots.iter().map(|slot| &parameters[slot.range()]).collect();
    let planes @ Planes { channels, .. } = encoder.features();
    let order = (0..planes.width())
        .map(|index| index % channels * planes.positions() + index / channels)
        .collect();
    (features(encoder, &layers, observation), order)
}

/// One fully connected layer by the definition: a sum in this order, one value after the other.
fn layer(
    spec: &PolicySpec,
    parameters: &[f32],
    name: &str,
    x: &[f32],
    order: &[usize],
) -> Vec<f32> {
    let tensor = |kind| {
        &parameters[spec
            .layout()
            .find(&format!("policy.{name}.{kind}"))
            .unwrap()
            .range()]
    };
    let outputs = tensor("weight").chunks(x.len()).zip(tensor("bias"));
    outputs
        .map(|(row, bias)| {
            order
                .iter()
                .fold(*bias, |sum, &index| x[index].mul_add(row[index], sum))
        })
        .collect()
}

/// One row by the definition.
fn definition(spec: &PolicySpec, parameters: &[f32], observation: &[f32]) -> Vec<f32> {
    let (mut x, mut order) = seen(spec, parameters, observation);
    for hidden in 0..spec.hidden.len() {
        x = layer(spec, parameters, &hidden.to_string(), &x, &order);
        activate(spec.activation, &mut x);
        order = (0..x.len()).collect();
    }
    let mut head = layer(spec, parameters, "head", &x, &order);
    if let Some(outputs) = spec.head.value_width() {
        let state = layer(spec, parameters, "value", &x, &order);
        let num_actions = head.len() / outputs;
        for output in 0..outputs {
            let advantages: Vec<f32> = (0..num_actions)
                .map(|action| head[action * outputs + output])
                .collect();
            let sum = advantages
                .iter()
                .fold(0.0, |sum, advantage| sum + advantage);
            let mean = sum / num_actions as f32;
            for (action, advantage) in advantages.iter().enumerate() {
                head[action * outputs + output] = state[output] + (advantage - mean);
            }
        }
    }
    head
}

/// The parameters of the same network without noise that one draw makes, by the definition.
fn perturbed(spec: &PolicySpec, parameters: &[f32], random: &mut Random) -> Vec<f32> {
    let mut factors = |count: usize| -> Vec<f32> {
        let pairs = std::iter::repeat_with(|| random.standard_normals());
        let draws: Vec<f64> = pairs
            .take(count.div_ceil(2))
            .flat_map(|(first, second)| [first, second])
            .collect();
        draws[..count]
            .iter()
            .map(|x| (x.signum() * x.abs().sqrt()) as f32)
            .collect()
    };
    let mut noisy = parameters.to_vec();
    for slots in spec.layout().tensors()[spec.num_convolution_tensors()..].chunks(4) {
        let [outputs, inputs] = *slots[0].shape() else {
            panic!("weights are matrices");
        };
        let (input, output) = (factors(inputs), factors(outputs));
        for index in 0..outputs * inputs {
            let noise = output[index / inputs] * input[index % inputs];
            let sigma = parameters[slots[2].offset() + index];
            let weight = &mut noisy[slots[0].offset() + index];
            *weight = sigma.mul_add(noise, *weight);
        }
        for (index, noise) in output.iter().enumerate() {
            let sigma = parameters[slots[3].offset() + index];
            let bias = &mut noisy[slots[1].offset() + index];
            *bias = sigma.mul_add(*noise, *bias);
        }
    }
    noisy
}

#[test]
fn every_instruction_set_gives_the_bits_of_the_definition() {
    for spec in specs() {
        let parameters = draws(spec.layout().len(), 0);
        let observations = draws(21 * spec.observation_width(), 1);
        let expected: Vec<f32> = observations
            .chunks(spec.observation_width())
            .flat_map(|row| definition(&spec, &parameters, row))
            .collect();
        for arch in arches() {
            let network = Network::for_arch(arch, &spec, &parameters).unwrap();
            let got = forward(&network, &observations, spec.head_width());
            assert_eq!(bits(&got), bits(&expected), "{arch:?} {spec:?}");
        }
    }
}

#[test]
fn every_instruction_set_draws_the_same_noise() {
    let random = || Random::derive(4, Purpose::Noise, 2, 9);
    let mut num_noisy = 0;
    for spec in specs() {
        let parameters = draws(spec.layout().len(), 8);
        let observations = draws(9 * spec.observation_width(), 9);
        for arch in arches() {
            let network = Network::for_arch(arch, &spec, &parameters).unwrap();
            let Some(noisy) = network.with_noise(&mut random()) else {
                assert!(!spec.head.is_noisy());
                continue;
            };
            let drawn = perturbed(&spec, &parameters, &mut random());
            assert_ne!(drawn, parameters);
            let expected: Vec<f32> = observations
                .chunks(spec.observation_width())
                .flat_map(|row| definition(&spec, &drawn, row))
                .collect();
            let got = forward(&noisy, &observations, spec.head_width());
            assert_eq!(bits(&got), bits(&expected), "{arch:?} {spec:?}");
            num_noisy += 1;
        }
    }
    assert_eq!(num_noisy, 5 * arches().len());
}

#[test]
fn a_row_has_the_same_bits_in_every_batch_and_place() {
    for spec in specs() {
        let network = Network::new(&spec, &draws(spec.layout().len(), 2)).unwrap();
        let (width, outputs) = (spec.observation_width(), spec.head_width());
        let observations = draws(70 * width, 3);
        let alone: Vec<f32> = observations
            .chunks(width)
            .flat_map(|row| forward(&network, row, outputs))
            .collect();
        // Every batch size, starting at different rows, so that each row stands everywhere.
        for rows in 1..=70 {
            for first in [0, (70 - rows) / 2, 70 - rows] {
                let batch = &observations[first * width..(first + rows) * width];
                let expected = &alone[first * outputs..(first + rows) * outputs];
                let got = forward(&network, batch, outputs);
                assert_eq!(bits(&got), bits(expected), "{rows} rows from {first}");
            }
        }
    }
}

#[test]
fn one_hot_rows_have_the_bits_of_unit_vectors() {
    let one_hot = PolicySpec::new(
        &Space::Discrete { n: 37 },
        &Space::Discrete { n: 3 },
        vec![20, 8],
        Activation::Tanh,
    )
    .unwrap();
    let mut dense = one_hot.clone();
    dense.encoder = Encoder::Identity { width: 37 };
    let parameters = draws(one_hot.layout().len(), 4);
    let indices: Vec<f32> = (0..37).map(|i| i as f32).collect();
    let mut units = vec![0.0; 37 * 37];
    units.iter_mut().step_by(38).for_each(|value| *value = 1.0);
    for arch in arches() {
        let network = |spec| Network::for_arch(arch, spec, &parameters).unwrap();
        let got = forward(&network(&one_hot), &indices, 3);
        let expected = forward(&network(&dense), &units, 3);
        assert_eq!(bits(&got), bits(&expected), "{arch:?}");
    }
}

#[test]
fn an_overflow_under_a_maximum_is_not_lost() {
    let spec = PolicySpec::new(
        &Space::bounded(&[0.0], &[1.0]),
        &Space::Discrete { n: 2 },
        vec![],
        Activation::Relu,
    )
    .unwrap()
    .with_image_encoder(
        &Space::planes(1, 5, 5),
        vec![
            Stage::Convolution {
                channels: 1,
                kernel: 1,
                stride: 1,
            },
            Stage::Residual { channels: 1 },
        ],
    )
    .unwrap();
    // The first convolution overflows in one corner. The second one's weights are zeros, and zero times
    // infinity is no number; elsewhere it gives zeros, which are under the same maxima.
    let mut parameters = vec![0.0; spec.layout().len()];
    parameters[..2].fill(f32::MAX);
    parameters[spec.layout().find("policy.head.weight").unwrap().range()].fill(1.0);
    let mut image = [0.0; 25];
    image[0] = 1.0;
    for arch in arches() {
        let network = Network::for_arch(arch, &spec, &parameters).unwrap();
        let got = forward(&network, &image, 2);
        assert!(got.iter().all(|output| output.is_nan()), "{arch:?} {got:?}");
    }
}

#[test]
fn indices_outside_the_space_are_refused() {
    let spec = PolicySpec::new(
        &Space::Discrete { n: 3 },
        &Space::Discrete { n: 2 },
        vec![],
        Activation::Tanh,
    )
    .unwrap();
    let network = Network::new(&spec, &draws(spec.layout().len(), 5)).unwrap();
    for index in [3.0, -1.0, 0.5, f32::NAN, f32::INFINITY] {
        let refused = std::panic::catch_unwind(|| forward(&network, &[index], 2));
        assert!(refused.is_err(), "{index}");
    }
}

#[test]
fn scratch_serves_networks_of_every_width_in_turn() {
    let mut scratch = Scratch::default();
    for spec in specs().iter().chain(specs().iter().rev()) {
        let network = Network::new(spec, &draws(spec.layout().len(), 6)).unwrap();
        let observations = draws(9 * spec.observation_width(), 7);
        let mut shared = vec![0.0; 9 * spec.head_width()];
        network.forward(&mut scratch, &observations, &mut shared);
        assert_eq!(shared, forward(&network, &observations, spec.head_width()));
    }
}

#[test]
fn wrong_parameter_counts_are_refused() {
    let spec = &specs()[4];
    for got in [0, 7, 9] {
        let refused = Network::new(spec, &vec![0.0; got]).unwrap_err();
        assert_eq!(refused, ShapeMismatch { expected: 8, got });
    }
}
