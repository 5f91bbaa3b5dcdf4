//! The forward pass of a policy on the processor, many rows at a time.
//!
//! Every output is the fused multiply-add sum over the inputs in index order, starting from the
//! bias, whatever the batch, the row's place in it or the width of the vectors; an activation is a
//! function of [`math`]. The same is true of the convolutions that an image goes through first, whose
//! features are added up position by position. So a row's result is a function of the row and the
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

use std::sync::Arc;

use pulp::{Arch, Simd, WithSimd};

use super::convolution::{Convolutions, ImageScratch};
use super::dense::{Dense, Rows};
use super::math;
use super::spec::{Activation, Encoder, PolicySpec};
use crate::seeds::Random;

/// Rows that pass through all layers together.
const BLOCK_ROWS: usize = 8;

/// A flat vector of parameters has the wrong length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{got} parameters do not fit a policy that has {expected}")]
pub struct ShapeMismatch {
    /// Length of the policy's layout.
    pub expected: usize,
    /// Length of the vector.
    pub got: usize,
}

/// The packed network of one parameter version. Immutable: threads share one, each with its own
/// [`Scratch`].
#[derive(Clone, Debug)]
pub struct Network {
    arch: Arch,
    one_hot: bool,
    /// The convolutions in front of the first layer.
    image: Option<Arc<Convolutions>>,
    activation: Activation,
    observation_width: usize,
    outputs: usize,
    /// The hidden layers, the head, and the value stream of a dueling network.
    layers: Vec<Dense>,
    /// Index of the head.
    head: usize,
    /// The standard deviations of each layer of a noisy network.
    sigma: Vec<Dense>,
}

/// Buffers of one thread for [`Network::forward`]; they grow to the widest network they served.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    layers: [Vec<f32>; 2],
    value: Vec<f32>,
    image: ImageScratch,
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
        let is_noisy = spec.head.is_noisy();
        let (convolutions, slots) = layout.tensors().split_at(spec.num_convolution_tensors());
        let image = match &spec.encoder {
            Encoder::Image(encoder) => {
                Some(Convolutions::new(encoder, parameters, convolutions, lanes))
            }
            Encoder::Identity { .. } | Encoder::OneHot { .. } => None,
        };
        let head = spec.hidden.len();
        let slots = slots.chunks_exact(if is_noisy { 4 } else { 2 });
        let (mut layers, mut sigma) = (Vec::new(), Vec::new());
        for (index, ((inputs, _), slots)) in spec.layer_shapes().zip(slots).enumerate() {
            let dense = |weight: usize| {
                let bias = &parameters[slots[weight + 1].range()];
                let weight = &parameters[slots[weight].range()];
                match &image {
                    Some(image) if index.min(head) == 0 => {
                        Dense::new(&image.turned(weight), bias, inputs, lanes)
                    }
                    _ => Dense::new(weight, bias, inputs, lanes),
                }
            };
            layers.push(dense(0));
            if is_noisy {
                sigma.push(dense(2));
            }
        }
        Ok(Self {
            arch,
            one_hot: matches!(spec.encoder, Encoder::OneHot { .. }),
            image: image.map(Arc::new),
            activation: spec.activation,
            observation_width: spec.observation_width(),
            outputs: spec.head_width(),
            layers,
            head,
            sigma,
        })
    }

    /// The instruction set that this network is packed for.
    pub(super) fn arch(&self) -> Arch {
        self.arch
    }

    /// This network with one draw of its noise, or nothing where it is not noisy.
    ///
    /// Each layer in the order of the layout takes a standard normal `x` for each input and then
    /// one for each output, and makes `f(x) = sign(x) sqrt(|x|)` of it; the noise of a weight is
    /// the product of its input's and its output's, that of a bias its output's (factorised noise;
    /// see [`Head::ActionValues`](super::Head)).
    #[must_use]
    pub fn with_noise(&self, random: &mut Random) -> Option<Self> {
        if self.sigma.is_empty() {
            return None;
        }
        let layers = self
            .layers
            .iter()
            .zip(&self.sigma)
            .enumerate()
            .map(|(index, (mean, sigma))| {
                let mut inputs = noise_factors(mean.inputs, mean.inputs, random);
                if let Some(image) = self.image.as_ref().filter(|_| self.is_first(index)) {
                    inputs = image.turned(&inputs);
                }
                let outputs = noise_factors(mean.outputs, mean.width, random);
                self.arch.dispatch(Perturb {
                    mean,
                    sigma,
                    inputs: &inputs,
                    outputs: &outputs,
                })
            })
            .collect();
        Some(Self {
            layers,
            sigma: Vec::new(),
            image: self.image.clone(),
            ..*self
        })
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
        let (x, mut stride) = match &self.image {
            Some(image) => {
                image.features(simd, &mut scratch.image, x);
                (&scratch.image.features[..], image.num_features())
            }
            None => (x, self.observation_width),
        };
        for (index, layer) in self.layers.iter().enumerate() {
            // A value stream sees what the head has seen, which still lies in the buffer that a next
            // layer would overwrite.
            let is_value = index > self.head;
            let (features, output) = if is_value {
                (&*current, &mut scratch.value[..])
            } else {
                (&*previous, &mut current[..])
            };
            let output = &mut output[..rows * layer.width];
            let is_first = self.is_first(index);
            if is_first && self.one_hot {
                layer.apply_one_hot(simd, x, output);
            } else {
                let values = if is_first { x } else { features };
                let x = Rows { values, stride };
                layer.apply(simd, x, output);
            }
            if index < self.head {
                activate(self.activation, output);
                stride = layer.width;
            }
            if !is_value {
                std::mem::swap(&mut previous, &mut current);
            }
        }
        let stride = self.layers[self.head].width;
        for (y, head) in y
            .chunks_exact_mut(self.outputs)
            .zip(previous.chunks_exact(stride))
        {
            y.copy_from_slice(&head[..self.outputs]);
        }
        if let Some(value) = self.value() {
            for (y, state) in y
                .chunks_exact_mut(self.outputs)
                .zip(scratch.value.chunks_exact(value.width))
            {
                join_streams(&state[..value.outputs], y);
            }
        }
    }

    /// Whether a layer sees the observation, or the features of an image: a first hidden layer, or
    /// every layer where none is hidden.
    #[inline(always)]
    fn is_first(&self, layer: usize) -> bool {
        layer.min(self.head) == 0
    }

    /// The value stream of a dueling network.
    #[inline(always)]
    fn value(&self) -> Option<&Dense> {
        self.layers.get(self.head + 1)
    }
}

/// Turns advantages into values: `state + (advantage - mean(advantage))` for each output, the mean
/// over the actions in their order.
///
/// # Shapes
/// `state`: `[outputs]`; `advantages`: `[num_actions, outputs]`.
#[inline(always)]
fn join_streams(state: &[f32], advantages: &mut [f32]) {
    let num_actions = (advantages.len() / state.len()) as f32;
    for (output, value) in state.iter().enumerate() {
        let of_output = advantages.iter().skip(output).step_by(state.len());
        let mean = of_output.fold(0.0, |sum, advantage| sum + advantage) / num_actions;
        for advantage in advantages.iter_mut().skip(output).step_by(state.len()) {
            *advantage = value + (*advantage - mean);
        }
    }
}

/// Draws `count` factors of noise, padded to `width` with zeros.
fn noise_factors(count: usize, width: usize, random: &mut Random) -> Vec<f32> {
    let mut factors = Vec::with_capacity(width + 1);
    while factors.len() < count {
        let (first, second) = random.standard_normals();
        factors.extend([first, second].map(|x| libm::sqrt(x.abs()).copysign(x) as f32));
    }
    factors.truncate(count);
    factors.resize(width, 0.0);
    factors
}

/// [`Dense::perturbed`] as something that can be compiled for an instruction set.
struct Perturb<'a> {
    mean: &'a Dense,
    sigma: &'a Dense,
    inputs: &'a [f32],
    outputs: &'a [f32],
}

impl WithSimd for Perturb<'_> {
    type Output = Dense;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Dense {
        self.mean
            .perturbed(simd, self.sigma, self.inputs, self.outputs)
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
        let value_width = self.network.value().map_or(0, |value| value.width);
        if self.scratch.value.len() < BLOCK_ROWS * value_width {
            self.scratch.value.resize(BLOCK_ROWS * value_width, 0.0);
        }
        if let Some(image) = &self.network.image {
            image.reserve(&mut self.scratch.image, BLOCK_ROWS);
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
mod tests;
