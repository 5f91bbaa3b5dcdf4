//! The forward pass of a policy on the processor, many rows at a time.
//!
//! Every output is the fused multiply-add sum over the inputs in index order, starting from the
//! bias, whatever the batch, the row's place in it or the width of the vectors; an activation is a
//! function of [`math`], and a [recurrent] layer's gates are sums of two such outputs. The same is
//! true of the convolutions that an image goes through first, whose features are added up position by
//! position. So a row's result is a function of the row, its recurrent state and the parameters alone,
//! with the same bits on every processor.
//!
//! [recurrent]: super::recurrent
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
use super::dense::{self, Dense, Input, Rows};
use super::math;
use super::recurrent::Cell;
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

/// What a network computes from.
///
/// A slice alone is what a network sees that remembers nothing.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// What it sees, `[rows, observation width]`.
    pub observations: &'a [f32],
    /// What it remembers, `[rows, S]`: before the step and, once that is computed, after it. Zero
    /// where an episode begins, and empty where a network is not recurrent.
    pub state: &'a mut [f32],
}

impl<'a, T: AsRef<[f32]> + ?Sized> From<&'a T> for Inputs<'a> {
    fn from(observations: &'a T) -> Self {
        Self {
            observations: observations.as_ref(),
            state: &mut [],
        }
    }
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
    /// What remembers, before the head.
    recurrent: Option<Cell>,
    /// Values of the recurrent state of a row.
    state_width: usize,
    /// The standard deviations of each layer of a noisy network.
    sigma: Vec<Dense>,
}

/// Buffers of one thread for [`Network::forward`]; they grow to the widest network they served.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    layers: [Vec<f32>; 2],
    gates: [Vec<f32>; 2],
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
        let lanes = dense::lanes(arch);
        let is_noisy = spec.head.is_noisy();
        let (convolutions, slots) = layout.tensors().split_at(spec.num_convolution_tensors());
        let image = match &spec.encoder {
            Encoder::Image(encoder) => Some(Convolutions::new(
                encoder,
                parameters,
                convolutions,
                arch,
                lanes,
            )),
            Encoder::Identity { .. } | Encoder::OneHot { .. } => None,
        };
        let head = spec.hidden.len();
        let mut slots = slots.chunks_exact(2);
        // A layer's tensors are pairs of a weight and a bias, in the order of the layout. Where it
        // sees what convolutions give, its inputs are turned as those lie.
        let mut next = |inputs, sees_features: bool| {
            slots.next().map(|slots| {
                let [weight, bias] = [0, 1].map(|index: usize| &parameters[slots[index].range()]);
                match image.as_ref().filter(|_| sees_features) {
                    Some(image) => Dense::new(&image.turned(weight), bias, inputs, lanes),
                    None => Dense::new(weight, bias, inputs, lanes),
                }
            })
        };
        let (mut layers, mut sigma) = (Vec::new(), Vec::new());
        let mut recurrent = None;
        for (index, (inputs, _)) in spec.layer_shapes().enumerate() {
            if let Some(of) = spec.recurrent.filter(|_| index == head) {
                let parts = next(spec.trunk_width(), head == 0).zip(next(of.units, false));
                recurrent = parts.map(|(from_input, from_state)| Cell {
                    spec: of,
                    from_input,
                    from_state,
                });
            }
            let is_first = index.min(head) == 0 && (head > 0 || recurrent.is_none());
            layers.extend(next(inputs, is_first));
            if is_noisy {
                sigma.extend(next(inputs, is_first));
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
            recurrent,
            state_width: spec.state_width(),
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
            recurrent: self.recurrent.clone(),
            sigma: Vec::new(),
            image: self.image.clone(),
            ..*self
        })
    }

    /// Computes the head's outputs for each observation, and moves the recurrent states on.
    ///
    /// # Shapes
    /// `inputs`: [`Inputs`] of as many rows as `outputs`, `[rows, head width]`.
    ///
    /// # Panics
    /// If the shapes disagree, or if the encoder is one-hot and an observation is no index.
    pub fn forward<'a>(
        &self,
        scratch: &mut Scratch,
        inputs: impl Into<Inputs<'a>>,
        outputs: &mut [f32],
    ) {
        self.arch.dispatch(Forward {
            network: self,
            scratch,
            inputs: inputs.into(),
            outputs,
        });
    }

    #[inline(always)]
    fn forward_block<S: Simd>(
        &self,
        simd: S,
        scratch: &mut Scratch,
        inputs: Inputs<'_>,
        y: &mut [f32],
    ) {
        let rows = y.len() / self.outputs;
        let Inputs {
            observations: x,
            state,
        } = inputs;
        let [mut previous, mut current] = scratch.layers.each_mut().map(|buffer| &mut buffer[..]);
        let (x, mut stride) = match &self.image {
            Some(image) => {
                image.features(simd, &mut scratch.image, x);
                (&scratch.image.features[..], image.num_features())
            }
            None => (x, self.observation_width),
        };
        let seen = if self.one_hot {
            Input::Indices(x)
        } else {
            Input::Rows(Rows { values: x, stride })
        };
        let (hidden, rest) = self.layers.split_at(self.head);
        for (index, layer) in hidden.iter().enumerate() {
            let values = &*previous;
            let input = match index {
                0 => seen,
                _ => Input::Rows(Rows { values, stride }),
            };
            let output = &mut current[..rows * layer.width];
            layer.forward(simd, input, output);
            math::activate(self.activation, output);
            stride = layer.width;
            std::mem::swap(&mut previous, &mut current);
        }
        let mut features = match hidden {
            [] => seen,
            _ => Input::Rows(Rows {
                values: previous,
                stride,
            }),
        };
        if let Some(cell) = &self.recurrent {
            cell.step(simd, features, state, &mut scratch.gates);
            features = Input::Rows(Rows {
                values: state,
                stride: self.state_width,
            });
        }

        let head = &rest[0];
        let output = &mut current[..rows * head.width];
        head.forward(simd, features, output);
        let rows_of_head = output.chunks_exact(head.width);
        for (y, head) in y.chunks_exact_mut(self.outputs).zip(rows_of_head) {
            y.copy_from_slice(&head[..self.outputs]);
        }
        if let Some(value) = self.value() {
            let output = &mut scratch.value[..rows * value.width];
            value.forward(simd, features, output);
            let states = output.chunks_exact(value.width);
            for (y, state) in y.chunks_exact_mut(self.outputs).zip(states) {
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

/// [`Network::forward`] as something that can be compiled for an instruction set.
pub(super) struct Forward<'a> {
    pub(super) network: &'a Network,
    pub(super) scratch: &'a mut Scratch,
    pub(super) inputs: Inputs<'a>,
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
            recurrent,
            state_width,
            ..
        } = self.network;
        let Inputs {
            observations,
            mut state,
        } = self.inputs;
        let rows = self.outputs.len() / head;
        assert_eq!(self.outputs.len(), rows * head, "outputs are whole rows");
        assert_eq!(
            observations.len(),
            rows * observation_width,
            "one observation a row"
        );
        assert_eq!(
            state.len(),
            rows * state_width,
            "a recurrent state of {state_width} values a row"
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
        let gate_width = recurrent.as_ref().map_or(0, |cell| cell.from_input.width);
        for buffer in &mut self.scratch.gates {
            if buffer.len() < BLOCK_ROWS * gate_width {
                buffer.resize(BLOCK_ROWS * gate_width, 0.0);
            }
        }
        let blocks = observations.chunks(BLOCK_ROWS * observation_width);
        for (observations, y) in blocks.zip(self.outputs.chunks_mut(BLOCK_ROWS * head)) {
            let block;
            (block, state) = std::mem::take(&mut state).split_at_mut(y.len() / head * state_width);
            let inputs = Inputs {
                observations,
                state: block,
            };
            self.network.forward_block(simd, self.scratch, inputs, y);
        }
    }
}

#[cfg(test)]
mod tests;
