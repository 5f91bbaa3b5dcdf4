//! The forward pass of a policy on the processor, many rows at a time.
//!
//! Every output is the fused multiply-add sum over the inputs in index order, starting from the
//! bias, whatever the batch, the row's place in it or the width of the vectors; an activation is a
//! function of [`math`](super::math). So a row's result is a function of the row and the
//! parameters alone, with the same bits on every processor.
//!
//! The work is shaped for vector registers: weights are repacked once into panels of
//! [`LANES`] outputs, and a tile of rows x panels is accumulated in registers over all inputs. All
//! layers are computed for one block of rows before the next, so that activations stay in the
//! first-level cache. One source serves every instruction set: [`pulp`] compiles it once for each
//! and chooses at run time.

#![expect(
    clippy::inline_always,
    reason = "a function must be compiled with the vector instructions of its caller"
)]

use pulp::{Arch, Simd, WithSimd};

use super::math;
use super::spec::{Activation, Encoder, PolicySpec};

/// Outputs in a panel: one AVX-512 register, two of AVX2, four of NEON.
const LANES: usize = 16;

/// Rows that pass through all layers together.
const BLOCK_ROWS: usize = 8;

const DEPTH: usize = 4;

type Lanes = [f32; LANES];

/// A flat vector of parameters has the wrong length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{got} parameters do not fit a policy that has {expected}")]
pub struct ShapeMismatch {
    /// Length of the policy's layout.
    pub expected: usize,
    /// Length of the vector.
    pub got: usize,
}

/// One fully connected layer, packed.
#[derive(Clone, Debug)]
struct Dense {
    inputs: usize,
    /// `[panels]`: the biases, zero beyond the last output.
    bias: Vec<Lanes>,
    /// `[panels, inputs]`: the weights, zero beyond the last output.
    weights: Vec<Lanes>,
}

impl Dense {
    /// Packs a `[outputs, inputs]` weight and an `[outputs]` bias.
    fn new(weight: &[f32], bias: &[f32], inputs: usize) -> Self {
        let panels = bias.len().div_ceil(LANES);
        let mut packed = Self {
            inputs,
            bias: vec![[0.0; LANES]; panels],
            weights: vec![[0.0; LANES]; panels * inputs],
        };
        for (output, (row, bias)) in weight.chunks_exact(inputs).zip(bias).enumerate() {
            let (panel, lane) = (output / LANES, output % LANES);
            packed.bias[panel][lane] = *bias;
            let panel = &mut packed.weights[panel * inputs..][..inputs];
            for (lanes, weight) in panel.iter_mut().zip(row) {
                lanes[lane] = *weight;
            }
        }
        packed
    }

    /// Number of panels, which is the stride of this layer's output rows in [`Lanes`].
    #[inline(always)]
    fn panels(&self) -> usize {
        self.bias.len()
    }

    /// `output[row][panel] = bias[panel] + sum of x[row][i] * weights[panel][i]`, in tiles of
    /// `ROWS x PANELS` and what is left over in tiles of one row or one panel.
    #[inline(always)]
    fn apply<const ROWS: usize, const PANELS: usize>(
        &self,
        x: Rows<'_>,
        rows: usize,
        output: &mut [Lanes],
    ) {
        let mut row = 0;
        while row + ROWS <= rows {
            self.apply_rows::<ROWS, PANELS>(x, row, output);
            row += ROWS;
        }
        while row < rows {
            self.apply_rows::<1, PANELS>(x, row, output);
            row += 1;
        }
    }

    #[inline(always)]
    fn apply_rows<const ROWS: usize, const PANELS: usize>(
        &self,
        x: Rows<'_>,
        row: usize,
        output: &mut [Lanes],
    ) {
        let mut panel = 0;
        while panel + PANELS <= self.panels() {
            self.tile::<ROWS, PANELS>(x, row, panel, output);
            panel += PANELS;
        }
        while panel < self.panels() {
            self.tile::<ROWS, 1>(x, row, panel, output);
            panel += 1;
        }
    }

    #[inline(always)]
    fn tile<const ROWS: usize, const PANELS: usize>(
        &self,
        x: Rows<'_>,
        row: usize,
        panel: usize,
        output: &mut [Lanes],
    ) {
        let inputs = self.inputs;
        let x: [&[f32]; ROWS] = std::array::from_fn(|r| &x.row(row + r)[..inputs]);
        let weights: [&[Lanes]; PANELS] =
            std::array::from_fn(|p| &self.weights[(panel + p) * inputs..][..inputs]);
        let bias: [Lanes; PANELS] = std::array::from_fn(|p| self.bias[panel + p]);
        let mut sums = [bias; ROWS];
        let whole = inputs - inputs % DEPTH;
        for i in (0..whole).step_by(DEPTH) {
            for p in 0..PANELS {
                let weights: &[Lanes; DEPTH] = weights[p][i..].first_chunk().unwrap();
                let x: [&[f32; DEPTH]; ROWS] = x.map(|x| x[i..].first_chunk().unwrap());
                for k in 0..DEPTH {
                    for r in 0..ROWS {
                        for lane in 0..LANES {
                            sums[r][p][lane] = x[r][k].mul_add(weights[k][lane], sums[r][p][lane]);
                        }
                    }
                }
            }
        }
        for i in whole..inputs {
            for p in 0..PANELS {
                let weight = &weights[p][i];
                for r in 0..ROWS {
                    let value = x[r][i];
                    for lane in 0..LANES {
                        sums[r][p][lane] = value.mul_add(weight[lane], sums[r][p][lane]);
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            output[(row + r) * self.panels() + panel..][..PANELS].copy_from_slice(sums);
        }
    }

    /// What [`Dense::apply`] gives for unit vectors: the sum of the bias and one weight column.
    #[inline(always)]
    fn apply_one_hot(&self, indices: &[f32], output: &mut [Lanes]) {
        for (index, output) in indices.iter().zip(output.chunks_exact_mut(self.panels())) {
            let at = *index as usize;
            assert!(
                at < self.inputs && at as f32 == *index,
                "observation {index} is not an index below {}",
                self.inputs
            );
            for (panel, output) in output.iter_mut().enumerate() {
                let weight = &self.weights[panel * self.inputs + at];
                for lane in 0..LANES {
                    output[lane] = self.bias[panel][lane] + weight[lane];
                }
            }
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
    layers: [Vec<Lanes>; 2],
}

impl Network {
    /// Packs `parameters`, which lie as [`PolicySpec::layout`] says. The spec must be valid.
    ///
    /// # Errors
    /// If there are more or fewer parameters than the layout has.
    pub fn new(spec: &PolicySpec, parameters: &[f32]) -> Result<Self, ShapeMismatch> {
        let layout = spec.layout();
        if parameters.len() != layout.len() {
            return Err(ShapeMismatch {
                expected: layout.len(),
                got: parameters.len(),
            });
        }
        let layers = spec
            .layer_shapes()
            .zip(layout.tensors().chunks_exact(2))
            .map(|((inputs, _), tensors)| {
                let [weight, bias] = [0, 1].map(|i| &parameters[tensors[i].range()]);
                Dense::new(weight, bias, inputs)
            })
            .collect();
        Ok(Self {
            arch: Arch::new(),
            one_hot: matches!(spec.encoder, Encoder::OneHot { .. }),
            activation: spec.activation,
            observation_width: spec.observation_width(),
            outputs: spec.head_width(),
            layers,
        })
    }

    /// The instruction set that this network runs on.
    #[must_use]
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// Runs on `arch` instead of the best instruction set of this processor; for tests.
    #[cfg(test)]
    pub(super) fn set_arch(&mut self, arch: Arch) {
        self.arch = arch;
    }

    /// Computes the head's outputs for each observation.
    ///
    /// # Shapes
    /// `observations`: `[rows, observation width]`; `outputs`: `[rows, head width]`.
    ///
    /// # Panics
    /// If the shapes disagree, or if the encoder is one-hot and an observation is no index.
    pub fn forward(&self, scratch: &mut Scratch, observations: &[f32], outputs: &mut [f32]) {
        struct Forward<'a> {
            network: &'a Network,
            scratch: &'a mut Scratch,
            observations: &'a [f32],
            outputs: &'a mut [f32],
        }

        impl WithSimd for Forward<'_> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) {
                self.network
                    .forward_with::<S>(self.scratch, self.observations, self.outputs);
            }
        }

        self.arch.dispatch(Forward {
            network: self,
            scratch,
            observations,
            outputs,
        });
    }

    /// [`Network::forward`] inside a function that is compiled for the instruction set `S`.
    #[inline(always)]
    pub(super) fn forward_with<S: Simd>(
        &self,
        scratch: &mut Scratch,
        observations: &[f32],
        outputs: &mut [f32],
    ) {
        let rows = outputs.len() / self.outputs;
        assert_eq!(outputs.len(), rows * self.outputs, "whole rows of outputs");
        assert_eq!(observations.len(), rows * self.observation_width, "one observation a row");

        let widest = self.layers.iter().map(Dense::panels).max().unwrap_or(0);
        for buffer in &mut scratch.layers {
            if buffer.len() < BLOCK_ROWS * widest {
                buffer.resize(BLOCK_ROWS * widest, [0.0; LANES]);
            }
        }
        let blocks = observations.chunks(BLOCK_ROWS * self.observation_width);
        for (x, y) in blocks.zip(outputs.chunks_mut(BLOCK_ROWS * self.outputs)) {
            self.forward_block::<S>(scratch, x, y);
        }
    }

    #[inline(always)]
    fn forward_block<S: Simd>(&self, scratch: &mut Scratch, x: &[f32], y: &mut [f32]) {
        let rows = y.len() / self.outputs;
        let [mut previous, mut current] = scratch.layers.each_mut().map(|buffer| &mut buffer[..]);
        let mut stride = self.observation_width;
        for (index, layer) in self.layers.iter().enumerate() {
            let output = &mut current[..rows * layer.panels()];
            if index == 0 && self.one_hot {
                layer.apply_one_hot(x, output);
            } else {
                let values = if index == 0 { x } else { previous.as_flattened() };
                // Tiles whose sums fit the registers of the instruction set and keep both
                // multiply-add units busy; chosen by measurement.
                let rows_of = Rows { values, stride };
                if S::F32_LANES < LANES {
                    layer.apply::<8, 1>(rows_of, rows, output);
                } else if layer.panels() < 4 {
                    layer.apply::<8, 1>(rows_of, rows, output);
                } else {
                    layer.apply::<8, 1>(rows_of, rows, output);
                }
            }
            if index + 1 < self.layers.len() {
                activate(self.activation, output.as_flattened_mut());
            }
            stride = layer.panels() * LANES;
            std::mem::swap(&mut previous, &mut current);
        }
        let heads = previous.as_flattened().chunks_exact(stride);
        for (y, head) in y.chunks_exact_mut(self.outputs).zip(heads) {
            y.copy_from_slice(&head[..self.outputs]);
        }
    }
}

#[inline(always)]
fn activate(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Tanh => values.iter_mut().for_each(|value| *value = math::tanh(*value)),
        Activation::Relu => values.iter_mut().for_each(|value| *value = math::relu(*value)),
    }
}
