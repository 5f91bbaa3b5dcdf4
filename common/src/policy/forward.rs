//! The forward pass of a policy on the processor, many rows at a time.
//!
//! Every output is the fused multiply-add sum over the inputs in index order, starting from the
//! bias, whatever the batch, the row's place in it or the width of the vectors; an activation is a
//! function of [`math`]. So a row's result is a function of the row and the
//! parameters alone, with the same bits on every processor.
//!
//! The work is shaped for vector registers: weights are repacked once into panels of as many
//! outputs as a vector has lanes, and a tile of rows x panels is accumulated in registers over all
//! inputs. All layers are computed for one block of rows before the next, so that activations stay
//! in the first-level cache. One source serves every instruction set: [`pulp`] compiles it once for
//! each and chooses at run time.

#![expect(
    clippy::inline_always,
    reason = "a function must be compiled with the vector instructions of its caller"
)]

use pulp::{Arch, Simd, WithSimd};

use super::math;
use super::spec::{Activation, Encoder, PolicySpec};

/// Rows that pass through all layers together.
const BLOCK_ROWS: usize = 8;

/// Inputs that are added between two checks of bounds.
const DEPTH: usize = 4;

/// A flat vector of parameters has the wrong length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{got} parameters do not fit a policy that has {expected}")]
pub struct ShapeMismatch {
    /// Length of the policy's layout.
    pub expected: usize,
    /// Length of the vector.
    pub got: usize,
}

/// One fully connected layer, packed into panels of as many outputs as a vector has lanes.
#[derive(Clone, Debug)]
struct Dense {
    inputs: usize,
    /// Outputs, rounded up to whole panels: the stride of this layer's output rows.
    width: usize,
    /// `[panels, lanes]`: the biases, zero beyond the last output.
    bias: Vec<f32>,
    /// `[panels, inputs, lanes]`: the weights, zero beyond the last output.
    weights: Vec<f32>,
}

impl Dense {
    /// Packs a `[outputs, inputs]` weight and an `[outputs]` bias.
    fn new(weight: &[f32], bias: &[f32], inputs: usize, lanes: usize) -> Self {
        let width = bias.len().next_multiple_of(lanes);
        let mut packed = Self {
            inputs,
            width,
            bias: vec![0.0; width],
            weights: vec![0.0; width * inputs],
        };
        packed.bias[..bias.len()].copy_from_slice(bias);
        for (output, row) in weight.chunks_exact(inputs).enumerate() {
            let (panel, lane) = (output / lanes, output % lanes);
            let panel = &mut packed.weights[panel * lanes * inputs..][..lanes * inputs];
            for (lanes, weight) in panel.chunks_exact_mut(lanes).zip(row) {
                lanes[lane] = *weight;
            }
        }
        packed
    }

    /// `output[row] = bias + weight x[row]`, in tiles of `ROWS x PANELS` and, for what is left
    /// over, of one row or one panel.
    #[inline(always)]
    fn apply<S: Simd, const ROWS: usize, const PANELS: usize>(
        &self,
        simd: S,
        x: Rows<'_>,
        output: &mut [f32],
    ) {
        let rows = output.len() / self.width;
        let whole = rows - rows % ROWS;
        for row in (0..whole).step_by(ROWS) {
            self.apply_rows::<S, ROWS, PANELS>(simd, x, row, output);
        }
        for row in whole..rows {
            self.apply_rows::<S, 1, PANELS>(simd, x, row, output);
        }
    }

    #[inline(always)]
    fn apply_rows<S: Simd, const ROWS: usize, const PANELS: usize>(
        &self,
        simd: S,
        x: Rows<'_>,
        row: usize,
        output: &mut [f32],
    ) {
        let x: [&[f32]; ROWS] = std::array::from_fn(|r| &x.row(row + r)[..self.inputs]);
        let output = &mut output[row * self.width..][..ROWS * self.width];
        let panels = self.width / S::F32_LANES;
        let whole = panels - panels % PANELS;
        for panel in (0..whole).step_by(PANELS) {
            self.tile::<S, ROWS, PANELS>(simd, x, panel, output);
        }
        for panel in whole..panels {
            self.tile::<S, ROWS, 1>(simd, x, panel, output);
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize, const PANELS: usize>(
        &self,
        simd: S,
        x: [&[f32]; ROWS],
        panel: usize,
        output: &mut [f32],
    ) {
        let (weights, _) = S::as_simd_f32s(&self.weights);
        let weights: [&[S::f32s]; PANELS] =
            std::array::from_fn(|p| &weights[(panel + p) * self.inputs..][..self.inputs]);
        let (bias, _) = S::as_simd_f32s(&self.bias);
        let bias: [S::f32s; PANELS] = std::array::from_fn(|p| bias[panel + p]);
        let mut sums = [bias; ROWS];

        let x = x.map(<[f32]>::as_chunks::<DEPTH>);
        let weights = weights.map(<[S::f32s]>::as_chunks::<DEPTH>);
        for i in 0..self.inputs / DEPTH {
            let x: [&[f32; DEPTH]; ROWS] = x.map(|(chunks, _)| &chunks[i]);
            let weights: [&[S::f32s; DEPTH]; PANELS] = weights.map(|(chunks, _)| &chunks[i]);
            for k in 0..DEPTH {
                accumulate(
                    simd,
                    &mut sums,
                    x.map(|x| x[k]),
                    weights.map(|weights| weights[k]),
                );
            }
        }
        for k in 0..self.inputs % DEPTH {
            let weights = weights.map(|(_, rest)| rest[k]);
            accumulate(simd, &mut sums, x.map(|(_, rest)| rest[k]), weights);
        }
        for (sums, output) in sums.iter().zip(output.chunks_exact_mut(self.width)) {
            let (output, _) = S::as_mut_simd_f32s(output);
            output[panel..][..PANELS].copy_from_slice(sums);
        }
    }

    /// What [`Dense::apply`] gives for unit vectors: the sum of the bias and one weight column.
    #[inline(always)]
    fn apply_one_hot<S: Simd>(&self, simd: S, indices: &[f32], output: &mut [f32]) {
        let (weights, _) = S::as_simd_f32s(&self.weights);
        let (bias, _) = S::as_simd_f32s(&self.bias);
        for (index, output) in indices.iter().zip(output.chunks_exact_mut(self.width)) {
            let at = *index as usize;
            assert!(
                at < self.inputs && at as f32 == *index,
                "observation {index} is not an index below {}",
                self.inputs
            );
            let (output, _) = S::as_mut_simd_f32s(output);
            let columns = weights.chunks_exact(self.inputs).map(|panel| panel[at]);
            for ((output, bias), weight) in output.iter_mut().zip(bias).zip(columns) {
                *output = simd.add_f32s(*bias, weight);
            }
        }
    }
}

/// Adds one input of each row, times its weights, to a tile of sums.
#[inline(always)]
fn accumulate<S: Simd, const ROWS: usize, const PANELS: usize>(
    simd: S,
    sums: &mut [[S::f32s; PANELS]; ROWS],
    x: [f32; ROWS],
    weights: [S::f32s; PANELS],
) {
    for (sums, x) in sums.iter_mut().zip(x) {
        let x = simd.splat_f32s(x);
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum = simd.mul_add_f32s(x, weight, *sum);
        }
    }
}

/// Rows of equal stride in a slice.
#[derive(Clone, Copy)]
struct Rows<'a> {
    values: &'a [f32],
    stride: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn row(self, row: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..self.stride]
    }
}

/// The packed network of one parameter version. Immutable: threads share one, each with its own
/// [`Scratch`].
#[derive(Clone, Debug)]
pub struct Network {
    arch: Arch,
    one_hot: bool,
    activation: Activation,
    observation_width: usize,
    outputs: usize,
    layers: Vec<Dense>,
}

/// Buffers of one thread for [`Network::forward`]; they grow to the widest network they served.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    layers: [Vec<f32>; 2],
}

impl Network {
    /// Packs `parameters`, which lie as [`PolicySpec::layout`] says, for this processor. The spec
    /// must be valid.
    ///
    /// # Errors
    /// If there are more or fewer parameters than the layout has.
    pub fn new(spec: &PolicySpec, parameters: &[f32]) -> Result<Self, ShapeMismatch> {
        Self::for_arch(Arch::new(), spec, parameters)
    }

    /// As [`Network::new`], for one instruction set that this processor has.
    pub(super) fn for_arch(
        arch: Arch,
        spec: &PolicySpec,
        parameters: &[f32],
    ) -> Result<Self, ShapeMismatch> {
        let layout = spec.layout();
        if parameters.len() != layout.len() {
            return Err(ShapeMismatch {
                expected: layout.len(),
                got: parameters.len(),
            });
        }
        let lanes = arch.dispatch(CountLanes);
        let layers = spec
            .layer_shapes()
            .zip(layout.tensors().chunks_exact(2))
            .map(|((inputs, _), tensors)| {
                let [weight, bias] = [0, 1].map(|i| &parameters[tensors[i].range()]);
                Dense::new(weight, bias, inputs, lanes)
            })
            .collect();
        Ok(Self {
            arch,
            one_hot: matches!(spec.encoder, Encoder::OneHot { .. }),
            activation: spec.activation,
            observation_width: spec.observation_width(),
            outputs: spec.head_width(),
            layers,
        })
    }

    /// The instruction set that this network is packed for.
    pub(super) fn arch(&self) -> Arch {
        self.arch
    }

    /// Computes the head's outputs for each observation.
    ///
    /// # Shapes
    /// `observations`: `[rows, observation width]`; `outputs`: `[rows, head width]`.
    ///
    /// # Panics
    /// If the shapes disagree, or if the encoder is one-hot and an observation is no index.
    pub fn forward(&self, scratch: &mut Scratch, observations: &[f32], outputs: &mut [f32]) {
        self.arch.dispatch(Forward {
            network: self,
            scratch,
            observations,
            outputs,
        });
    }

    #[inline(always)]
    fn forward_block<S: Simd>(&self, simd: S, scratch: &mut Scratch, x: &[f32], y: &mut [f32]) {
        let rows = y.len() / self.outputs;
        let [mut previous, mut current] = scratch.layers.each_mut().map(|buffer| &mut buffer[..]);
        let mut stride = self.observation_width;
        for (index, layer) in self.layers.iter().enumerate() {
            let output = &mut current[..rows * layer.width];
            if index == 0 && self.one_hot {
                layer.apply_one_hot(simd, x, output);
            } else {
                let values = if index == 0 { x } else { &*previous };
                let x = Rows { values, stride };
                // Tiles whose sums fit the registers of the instruction set and keep both
                // multiply-add units busy; chosen by measurement.
                if layer.width < 2 * S::F32_LANES {
                    layer.apply::<S, 8, 1>(simd, x, output);
                } else if S::F32_LANES < 16 {
                    layer.apply::<S, 4, 2>(simd, x, output);
                } else {
                    layer.apply::<S, 4, 4>(simd, x, output);
                }
            }
            if index + 1 < self.layers.len() {
                activate(self.activation, output);
            }
            stride = layer.width;
            std::mem::swap(&mut previous, &mut current);
        }
        for (y, head) in y
            .chunks_exact_mut(self.outputs)
            .zip(previous.chunks_exact(stride))
        {
            y.copy_from_slice(&head[..self.outputs]);
        }
    }
}

/// Gives the `f32` lanes of an instruction set's vectors.
struct CountLanes;

impl WithSimd for CountLanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// [`Network::forward`] as something that can be compiled for an instruction set.
pub(super) struct Forward<'a> {
    pub(super) network: &'a Network,
    pub(super) scratch: &'a mut Scratch,
    pub(super) observations: &'a [f32],
    pub(super) outputs: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Network {
            observation_width,
            outputs: head,
            layers,
            ..
        } = self.network;
        let rows = self.outputs.len() / head;
        assert_eq!(self.outputs.len(), rows * head, "outputs are whole rows");
        assert_eq!(
            self.observations.len(),
            rows * observation_width,
            "one observation a row"
        );

        let widest = layers.iter().map(|layer| layer.width).max().unwrap_or(0);
        for buffer in &mut self.scratch.layers {
            if buffer.len() < BLOCK_ROWS * widest {
                buffer.resize(BLOCK_ROWS * widest, 0.0);
            }
        }
        let blocks = self.observations.chunks(BLOCK_ROWS * observation_width);
        for (x, y) in blocks.zip(self.outputs.chunks_mut(BLOCK_ROWS * head)) {
            self.network.forward_block(simd, self.scratch, x, y);
        }
    }
}

#[inline(always)]
fn activate(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Tanh => values
            .iter_mut()
            .for_each(|value| *value = math::tanh(*value)),
        Activation::Relu => values
            .iter_mut()
            .for_each(|value| *value = math::relu(*value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        vec![
            spec(4, &[64, 64], 2, Activation::Tanh),
            spec(17, &[33, 5, 100], 19, Activation::Tanh),
            spec(1, &[1], 1, Activation::Relu),
            spec(7, &[48, 16], 40, Activation::Relu),
            spec(3, &[], 2, Activation::Tanh),
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

    /// One row by the definition: a sum in index order, one value after the other.
    fn definition(spec: &PolicySpec, parameters: &[f32], observation: &[f32]) -> Vec<f32> {
        let layout = spec.layout();
        let mut x = observation.to_vec();
        for (layer, tensors) in layout.tensors().chunks_exact(2).enumerate() {
            let weight = &parameters[tensors[0].range()];
            let bias = &parameters[tensors[1].range()];
            let dense = weight.chunks(x.len()).zip(bias).map(|(row, bias)| {
                x.iter()
                    .zip(row)
                    .fold(*bias, |sum, (x, weight)| x.mul_add(*weight, sum))
            });
            let mut outputs: Vec<f32> = dense.collect();
            if layer < spec.hidden.len() {
                activate(spec.activation, &mut outputs);
            }
            x = outputs;
        }
        x
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
}
