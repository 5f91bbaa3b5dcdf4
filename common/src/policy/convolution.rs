//! The forward pass of an [`ImageEncoder`] on the processor, one image at a time.
//!
//! A position's output is the fused multiply-add sum over the kernel's rows, its columns and the
//! input's channels, in that order, starting from the bias; positions in the padding count as zeros.
//! So it has the same bits on every processor, and images have no part in each other.
//!
//! Values lie channels last, `[rows, columns, channels]`, with the channels padded to whole vectors:
//! then a kernel's row is one piece of memory. A convolution without padding goes over such pieces where
//! they lie ([`Geometry`]); one with padding is [`Dense`] over rows of gathered pieces. What either gives lies
//! as the next layer wants it. Weights are turned to that order once.

#![expect(
    clippy::inline_always,
    reason = "a function must be compiled with the vector instructions of its caller"
)]

use pulp::{Arch, Simd, WithSimd};

use super::dense::{Dense, Rows};
use super::image::{ImageEncoder, Operation, Planes, Window};
use super::kernels::{self, Geometry, Packed};
use super::layout::TensorSlot;
use super::math;

/// Positions of a convolution that are gathered together: enough that a panel of weights is used
/// more than once while it is near, few enough that they stay near.
const POSITIONS: usize = 32;

/// The packed convolutions of one parameter version.
#[derive(Clone, Debug)]
pub(super) struct Convolutions {
    planes: Planes,
    features: Planes,
    steps: Vec<Step>,
    /// Values of the largest intermediate result.
    largest: usize,
    /// Values of the largest gathering of positions.
    gathered: usize,
}

#[derive(Clone, Debug)]
enum Step {
    /// One without padding.
    Convolution(Geometry, Packed),
    Padded(Window, Dense),
    MaxPool(Window),
    Rectify,
    Branch,
    Join,
}

/// Buffers of one thread for [`Convolutions::features`].
#[derive(Clone, Debug, Default)]
pub(super) struct ImageScratch {
    current: Vec<f32>,
    next: Vec<f32>,
    branch: Vec<f32>,
    gathered: Vec<f32>,
    /// What came out for each row of a block.
    pub(super) features: Vec<f32>,
}

impl Convolutions {
    /// Packs the tensors that `slots` name, which are those of [`ImageEncoder::push`].
    pub(super) fn new(
        encoder: &ImageEncoder,
        parameters: &[f32],
        slots: &[TensorSlot],
        arch: Arch,
        lanes: usize,
    ) -> Self {
        let mut slots = slots.chunks_exact(2);
        let mut stride = encoder.planes.channels;
        let mut largest = encoder.planes.width();
        let mut gathered = 0;
        let steps = encoder
            .operations()
            .into_iter()
            .map(|operation| match operation {
                Operation::Convolution(window) => {
                    let (weight, bias) = match slots.next() {
                        Some([weight, bias]) => {
                            (&parameters[weight.range()], &parameters[bias.range()])
                        }
                        _ => unreachable!("the layout is the encoder's"),
                    };
                    if window.padding == 0 {
                        let geometry = Geometry::new(&window, stride, kernels::lanes(arch));
                        stride = geometry.width();
                        largest = largest.max(geometry.output_len());
                        let packed = geometry.packed(weight, bias);
                        return Step::Convolution(geometry, packed);
                    }
                    let kernel = Planes {
                        channels: window.input.channels,
                        rows: window.kernel,
                        columns: window.kernel,
                    };
                    let weight = channels_last(weight, kernel);
                    let layer = Dense::new(&weight, bias, window.patch(), lanes);
                    stride = layer.width;
                    largest = largest.max(window.output.positions() * layer.width);
                    gathered = gathered.max(POSITIONS * window.patch());
                    Step::Padded(window, layer)
                }
                Operation::MaxPool(window) => Step::MaxPool(window),
                Operation::Rectify => Step::Rectify,
                Operation::Branch => Step::Branch,
                Operation::Join => Step::Join,
            })
            .collect();
        Self {
            planes: encoder.planes,
            features: encoder.features(),
            steps,
            largest,
            gathered,
        }
    }

    /// Values of an image's features, `[rows, columns, channels]`.
    pub(super) fn num_features(&self) -> usize {
        self.features.width()
    }

    /// Turns rows of weights (or a row of factors) of the layer behind the features to their order.
    pub(super) fn turned(&self, values: &[f32]) -> Vec<f32> {
        channels_last(values, self.features)
    }

    /// Makes room for the features of `rows` images.
    pub(super) fn reserve(&self, scratch: &mut ImageScratch, rows: usize) {
        for (buffer, len) in [
            (&mut scratch.current, self.largest),
            (&mut scratch.next, self.largest),
            (&mut scratch.branch, self.largest),
            (&mut scratch.gathered, self.gathered),
            (&mut scratch.features, rows * self.num_features()),
        ] {
            if buffer.len() < len {
                buffer.resize(len, 0.0);
            }
        }
    }

    /// Computes the features of each image into `scratch.features`.
    ///
    /// # Shapes
    /// `images`: `[rows, channels, rows, columns]`; the features `[rows, rows, columns, channels]`.
    #[inline(always)]
    pub(super) fn features<S: Simd>(&self, simd: S, scratch: &mut ImageScratch, images: &[f32]) {
        for (row, image) in images.chunks_exact(self.planes.width()).enumerate() {
            let stride = self.image(simd, scratch, image);
            let width = self.num_features();
            let features = &mut scratch.features[row * width..][..width];
            let channels = self.features.channels;
            for (position, values) in features
                .chunks_exact_mut(channels)
                .zip(scratch.current.chunks_exact(stride))
            {
                position.copy_from_slice(&values[..channels]);
            }
        }
    }

    /// Computes the features of one image into `scratch.current` and returns the values from one
    /// position to the next.
    #[inline(always)]
    fn image<S: Simd>(&self, simd: S, scratch: &mut ImageScratch, image: &[f32]) -> usize {
        let mut planes = self.planes;
        let mut stride = planes.channels;
        kernels::channels_last(planes, image, &mut scratch.current[..planes.width()]);
        for step in &self.steps {
            let len = planes.positions() * stride;
            match step {
                Step::Convolution(geometry, packed) => {
                    let output = &mut scratch.next[..geometry.output_len()];
                    // A call of its own, so that its many tiles are compiled once for an instruction set.
                    simd.vectorize(Product {
                        geometry,
                        packed,
                        input: &scratch.current[..len],
                        output,
                    });
                    (planes, stride) = (geometry.output_planes(), geometry.width());
                    std::mem::swap(&mut scratch.current, &mut scratch.next);
                }
                Step::Padded(window, layer) => {
                    convolve(simd, window, layer, stride, scratch);
                    (planes, stride) = (window.output, layer.width);
                    std::mem::swap(&mut scratch.current, &mut scratch.next);
                }
                Step::MaxPool(window) => {
                    max_pool(window, stride, &scratch.current[..len], &mut scratch.next);
                    planes = window.output;
                    std::mem::swap(&mut scratch.current, &mut scratch.next);
                }
                Step::Rectify => scratch.current[..len]
                    .iter_mut()
                    .for_each(|value| *value = math::relu(*value)),
                Step::Branch => scratch.branch[..len].copy_from_slice(&scratch.current[..len]),
                Step::Join => {
                    let values = scratch.current[..len].iter_mut();
                    for (value, branch) in values.zip(&scratch.branch) {
                        *value += branch;
                    }
                }
            }
        }
        stride
    }
}

/// Turns rows of `[channels, rows, columns]` into rows of `[rows, columns, channels]`.
fn channels_last(values: &[f32], planes: Planes) -> Vec<f32> {
    let mut turned = vec![0.0; values.len()];
    let rows = values.chunks_exact(planes.width());
    for (turned, row) in turned.chunks_exact_mut(planes.width()).zip(rows) {
        kernels::channels_last(planes, row, turned);
    }
    turned
}

/// A convolution without padding, to be compiled for an instruction set.
struct Product<'a> {
    geometry: &'a Geometry,
    packed: &'a Packed,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.geometry
            .output(simd, self.packed, self.input, self.output);
    }
}

/// `next = layer(current)` at every position.
#[inline(always)]
fn convolve<S: Simd>(
    simd: S,
    window: &Window,
    layer: &Dense,
    stride: usize,
    scratch: &mut ImageScratch,
) {
    let positions = window.output.positions();
    let output = &mut scratch.next[..positions * layer.width];
    let [mut row, mut column] = [0, 0];
    for output in output.chunks_mut(POSITIONS * layer.width) {
        let count = output.len() / layer.width;
        let patches = &mut scratch.gathered[..count * layer.inputs];
        for patch in patches.chunks_exact_mut(layer.inputs) {
            gather(window, stride, [row, column], &scratch.current, patch);
            column += 1;
            if column == window.output.columns {
                [row, column] = [row + 1, 0];
            }
        }
        let x = Rows {
            values: patches,
            stride: layer.inputs,
        };
        layer.apply(simd, x, output);
    }
}

/// Copies what lies under the kernel at a row and column of the output: `[kernel, kernel, channels]`.
#[inline(always)]
fn gather(
    window: &Window,
    stride: usize,
    [row, column]: [usize; 2],
    current: &[f32],
    patch: &mut [f32],
) {
    let (input, channels) = (window.input, window.input.channels);
    let rows = under(window, row, input.rows);
    let columns = under(window, column, input.columns);
    // The part of a kernel's row that lies within the planes.
    let before = (columns.start + window.padding - column * window.stride) * channels;
    let inside = before..before + columns.len() * channels;
    let first_row = row * window.stride;
    for (offset, part) in patch.chunks_exact_mut(window.kernel * channels).enumerate() {
        let row = (first_row + offset).wrapping_sub(window.padding);
        if !rows.contains(&row) {
            part.fill(0.0);
            continue;
        }
        part[..inside.start].fill(0.0);
        part[inside.end..].fill(0.0);
        let part = &mut part[inside.clone()];
        let values = &current[(row * input.columns + columns.start) * stride..];
        if stride == channels {
            part.copy_from_slice(&values[..part.len()]);
        } else {
            for (part, values) in part.chunks_exact_mut(channels).zip(values.chunks(stride)) {
                part.copy_from_slice(&values[..channels]);
            }
        }
    }
}

/// The rows (or columns) of the input, `extent` in all, that lie under the kernel at this row (or
/// column) of the output.
#[inline(always)]
fn under(window: &Window, position: usize, extent: usize) -> std::ops::Range<usize> {
    let first = position * window.stride;
    let end = (first + window.kernel).saturating_sub(window.padding);
    first.saturating_sub(window.padding)..end.min(extent)
}

/// `next = the largest value under the kernel`; NaN where there is one.
#[inline(always)]
fn max_pool(window: &Window, stride: usize, current: &[f32], next: &mut [f32]) {
    let (input, output) = (window.input, window.output);
    for position in 0..output.positions() {
        let largest = &mut next[position * stride..][..stride];
        largest.fill(f32::NEG_INFINITY);
        for row in under(window, position / output.columns, input.rows) {
            for column in under(window, position % output.columns, input.columns) {
                let values = &current[(row * input.columns + column) * stride..][..stride];
                for (largest, value) in largest.iter_mut().zip(values) {
                    if *value > *largest || value.is_nan() {
                        *largest = *value;
                    }
                }
            }
        }
    }
}
