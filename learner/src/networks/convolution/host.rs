//! Convolutions on the processor, with gradients that are derived by hand, image by image: what an image
//! leaves between its layers stays in a core's second-level cache, where libtorch's operations would
//! carry the whole minibatch through memory for each of them.

#![expect(
    clippy::inline_always,
    reason = "a function must be compiled with the vector instructions of its caller"
)]

use std::iter::repeat_with;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rookery_common::policy::image::{ImageEncoder, Planes, Stage};
use rookery_common::policy::kernels::{
    Geometry, Packed, channels_last, lanes, rectify, rectify_gradient,
};

use crate::threads;

/// Images whose gradients are summed up in turn before those of others are added. No sum depends on the
/// number of threads.
const GROUP: usize = 16;

/// The convolutions of an encoder that has nothing else, each rectified.
#[derive(Clone, Debug)]
pub(super) struct HostConvolutions {
    arch: Arch,
    planes: Planes,
    layers: Vec<Layer>,
}

#[derive(Clone, Debug)]
struct Layer {
    geometry: Geometry,
    /// Where the weight `[outputs, inputs, kernel, kernel]` and the bias lie among the encoder's parameters.
    weight: Range<usize>,
    bias: Range<usize>,
}

/// What a forward pass leaves for its backward pass: of every image what came out of each layer in turn,
/// `[positions, width]`.
#[derive(Debug)]
pub(super) struct HostTape(Vec<f32>);

impl HostConvolutions {
    /// Those of `encoder`, where it has nothing but convolutions.
    pub(super) fn new(encoder: &ImageEncoder) -> Option<Self> {
        let is_plain = |stage: &Stage| matches!(stage, Stage::Convolution { .. });
        if !encoder.stages.iter().all(is_plain) {
            return None;
        }
        let arch = Arch::new();
        let lanes = lanes(arch);
        let mut input_width = encoder.planes.channels;
        let mut offset = 0;
        let mut next = |len: usize| {
            offset += len;
            offset - len..offset
        };
        let layers = encoder
            .convolutions()
            .map(|window| {
                let channels = window.output.channels;
                let geometry = Geometry::new(&window, input_width, lanes);
                input_width = geometry.width();
                Layer {
                    geometry,
                    weight: next(channels * window.patch()),
                    bias: next(channels),
                }
            })
            .collect();
        Some(Self {
            arch,
            planes: encoder.planes,
            layers,
        })
    }

    /// Features of each image, and what the backward pass needs of them where that is wanted.
    ///
    /// # Shapes
    /// `parameters` are the encoder's; `images`: `[N, channels, rows, columns]`; `features`: `[N, channels,
    /// rows, columns]`.
    pub(super) fn forward(
        &self,
        parameters: &[f32],
        images: &[f32],
        features: &mut [f32],
        wants_tape: bool,
    ) -> Option<HostTape> {
        let packed: Vec<Packed> = self
            .layers
            .iter()
            .map(|layer| {
                let [weight, bias] = [&layer.weight, &layer.bias];
                let [weight, bias] = [weight, bias].map(|range| &parameters[range.clone()]);
                layer.geometry.packed(weight, bias)
            })
            .collect();
        let num_images = images.len() / self.planes.width();
        let kept = if wants_tape { num_images } else { 0 };
        let mut values = vec![0.0; kept * self.num_values()];
        let tapes = values.chunks_mut(GROUP * self.num_values()).map(Some);
        let groups = images
            .chunks(GROUP * self.planes.width())
            .zip(features.chunks_mut(GROUP * self.num_features()))
            .zip(tapes.chain(repeat_with(|| None)));
        let threads = self.threads(num_images);
        threads::in_parallel(threads, groups, |((images, features), values)| {
            self.arch.dispatch(Forward {
                convolutions: self,
                packed: &packed,
                images,
                features,
                values,
            });
        });
        wants_tape.then_some(HostTape(values))
    }

    /// Overwrites the gradient of the encoder's parameters, given that of the features.
    ///
    /// # Shapes
    /// As those of [`HostConvolutions::forward`]; `gradient` is that of `parameters`.
    pub(super) fn backward(
        &self,
        parameters: &[f32],
        images: &[f32],
        tape: &HostTape,
        by_features: &[f32],
        gradient: &mut [f32],
    ) {
        // Nobody wants the gradient of the images.
        let behind = self.layers.iter().skip(1);
        let transposed: Vec<Vec<f32>> = behind
            .map(|layer| {
                let weight = &parameters[layer.weight.clone()];
                layer.geometry.transposed(weight)
            })
            .collect();
        let num_images = images.len() / self.planes.width();
        let len: usize = self.layers.iter().map(Layer::num_sums).sum();
        let mut sums = vec![0.0; num_images.div_ceil(GROUP) * len];
        let groups = images
            .chunks(GROUP * self.planes.width())
            .zip(tape.0.chunks(GROUP * self.num_values()))
            .zip(by_features.chunks(GROUP * self.num_features()))
            .zip(sums.chunks_mut(len));
        // Each multiply-add of the forward pass has two in the backward pass.
        let threads = self.threads(2 * num_images);
        threads::in_parallel(
            threads,
            groups,
            |(((images, values), by_features), sums)| {
                self.arch.dispatch(Backward {
                    convolutions: self,
                    transposed: &transposed,
                    images,
                    values,
                    by_features,
                    sums,
                });
            },
        );
        let (total, others) = sums.split_at_mut(len);
        for other in others.chunks_exact(len) {
            for (total, other) in total.iter_mut().zip(other) {
                *total += other;
            }
        }
        self.unpack(total, gradient);
    }

    /// Features of an image.
    fn num_features(&self) -> usize {
        self.last().output_planes().width()
    }

    /// Values of an image on a [`HostTape`].
    fn num_values(&self) -> usize {
        let layers = self.layers.iter();
        layers.map(|layer| layer.geometry.output_len()).sum()
    }

    /// Threads that the forward pass of so many images is worth.
    fn threads(&self, num_images: usize) -> usize {
        let layers = self.layers.iter();
        let work: usize = layers
            .map(|layer| layer.geometry.output_len() * layer.geometry.patch())
            .sum();
        threads::worth(num_images.saturating_mul(work))
    }

    /// Brings sums that lie as the kernels want them to the order of the parameters.
    fn unpack(&self, sums: &[f32], gradient: &mut [f32]) {
        let mut rest = sums;
        for layer in &self.layers {
            let geometry = &layer.geometry;
            let (weights, behind) = rest.split_at(geometry.num_weights());
            let bias;
            (bias, rest) = behind.split_at(geometry.width());
            geometry.unpack(weights, &mut gradient[layer.weight.clone()]);
            gradient[layer.bias.clone()].copy_from_slice(&bias[..layer.bias.len()]);
        }
    }

    fn last(&self) -> &Geometry {
        &self.layers[self.layers.len() - 1].geometry
    }

    /// # Shapes
    /// `image`: `[rows, columns, channels]`; `values`: those of an image on a tape.
    #[inline(always)]
    fn forward_image<S: Simd>(
        &self,
        simd: S,
        packed: &[Packed],
        image: &[f32],
        features: &mut [f32],
        mut values: &mut [f32],
    ) {
        let mut input = image;
        for (layer, packed) in self.layers.iter().zip(packed) {
            let geometry = &layer.geometry;
            let output;
            (output, values) = values.split_at_mut(geometry.output_len());
            geometry.output(simd, packed, input, output);
            rectify(simd, output);
            input = output;
        }
        let (output, width) = (self.last().output_planes(), self.last().width());
        for (channel, plane) in features.chunks_exact_mut(output.positions()).enumerate() {
            for (feature, values) in plane.iter_mut().zip(input.chunks_exact(width)) {
                *feature = values[channel];
            }
        }
    }
}

impl Layer {
    /// Values of a gradient of its weights and bias in the order of the kernels.
    fn num_sums(&self) -> usize {
        self.geometry.num_weights() + self.geometry.width()
    }
}

/// The forward pass of some images, compiled for an instruction set.
struct Forward<'a> {
    convolutions: &'a HostConvolutions,
    packed: &'a [Packed],
    images: &'a [f32],
    features: &'a mut [f32],
    /// The tape, where one is wanted.
    values: Option<&'a mut [f32]>,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let of = self.convolutions;
        let mut turned = vec![0.0; of.planes.width()];
        let num_values = of.num_values();
        let mut forgotten = vec![0.0; if self.values.is_none() { num_values } else { 0 }];
        let images = self.images.chunks_exact(turned.len());
        let features = self.features.chunks_exact_mut(of.num_features());
        for (index, (image, features)) in images.zip(features).enumerate() {
            let values = match &mut self.values {
                Some(tape) => &mut tape[index * num_values..][..num_values],
                None => &mut forgotten[..],
            };
            channels_last(of.planes, image, &mut turned);
            of.forward_image(simd, self.packed, &turned, features, values);
        }
    }
}

/// The backward pass of some images, compiled for an instruction set.
struct Backward<'a> {
    convolutions: &'a HostConvolutions,
    /// Of every layer but the first.
    transposed: &'a [Vec<f32>],
    images: &'a [f32],
    values: &'a [f32],
    by_features: &'a [f32],
    sums: &'a mut [f32],
}

impl Backward<'_> {
    /// Adds what an image contributes to the sums. Gradients by outputs are in `scratch`, the one in work first.
    #[inline(always)]
    fn image<S: Simd>(
        &mut self,
        simd: S,
        image: &[f32],
        mut values: &[f32],
        by_features: &[f32],
        scratch: &mut [Vec<f32>; 2],
    ) {
        let of = self.convolutions;
        let mut sums = &mut *self.sums;
        let (output, width) = (of.last().output_planes(), of.last().width());
        for (channel, plane) in by_features.chunks_exact(output.positions()).enumerate() {
            for (by_feature, values) in plane.iter().zip(scratch[0].chunks_exact_mut(width)) {
                values[channel] = *by_feature;
            }
        }
        for (index, layer) in of.layers.iter().enumerate().rev() {
            let geometry = &layer.geometry;
            let [by_output, by_input] = &mut *scratch;
            let (below, output) = values.split_at(values.len() - geometry.output_len());
            values = below;
            let by_output = &mut by_output[..output.len()];
            rectify_gradient(simd, output, by_output);
            let (others, of_layer) = sums.split_at_mut(sums.len() - layer.num_sums());
            sums = others;
            let (by_weights, by_bias) = of_layer.split_at_mut(geometry.num_weights());
            for by_output in by_output.chunks_exact(geometry.width()) {
                for (sum, by_output) in by_bias.iter_mut().zip(by_output) {
                    *sum += by_output;
                }
            }
            let Some(before) = index.checked_sub(1) else {
                geometry.add_by_weights(simd, image, by_output, by_weights);
                continue;
            };
            let input_len = of.layers[before].geometry.output_len();
            let input = &below[below.len() - input_len..];
            geometry.add_by_weights(simd, input, by_output, by_weights);
            let by_input = &mut by_input[..input_len];
            by_input.fill(0.0);
            geometry.add_by_input(simd, &self.transposed[before], by_output, by_input);
            scratch.swap(0, 1);
        }
    }
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let of = self.convolutions;
        let mut turned = vec![0.0; of.planes.width()];
        let mut scratch = [(); 2].map(|()| vec![0.0; of.num_values()]);
        let images = self.images.chunks_exact(turned.len());
        let values = self.values.chunks_exact(of.num_values());
        let by_features = self.by_features.chunks_exact(of.num_features());
        for ((image, values), by_features) in images.zip(values).zip(by_features) {
            channels_last(of.planes, image, &mut turned);
            self.image(simd, &turned, values, by_features, &mut scratch);
        }
    }
}
