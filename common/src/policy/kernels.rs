//! The three products of a convolution without padding, shaped for vector registers: what comes out, the
//! gradient of the weights and the gradient of the input. All are sums of a broadcast value times a vector of weights (or
//! of gradients); a tile of [`PANELS`] vectors for each of several rows stays in registers over a sum.
//!
//! No patch is ever gathered: under one row of the kernel lies one piece of memory, where values lie
//! channels last, so a position is an offset and a kernel's row a slice.
//!
//! Every sum has one order, whatever the width of the vectors and the shape of the tiles.

#![expect(
    clippy::inline_always,
    reason = "a function must be compiled with the vector instructions of its caller"
)]

use std::array::from_fn;

use pulp::{Arch, Simd};

use super::dense::{self, add_product, next};
use super::image::{Planes, Window};

/// Vectors of outputs (or of gradients) that a tile has beside each other.
const PANELS: usize = 2;

/// Terms of a sum between two checks of bounds.
const DEPTH: usize = 4;

/// Gradients of outputs that are read over and over while they stay in the first-level cache.
const BLOCK_VALUES: usize = 4096;

/// [`PANELS`] vectors.
type Panels<S> = [<S as Simd>::f32s; PANELS];

/// Frames that are usually stacked.
const FRAMES: usize = 4;

/// Values that are computed beside each other on this instruction set: the widths of outputs are multiples.
#[must_use]
pub fn lanes(arch: Arch) -> usize {
    PANELS * dense::lanes(arch)
}

/// The weights and the bias of one convolution in the order of [`Geometry::output`].
#[derive(Clone, Debug)]
pub struct Packed {
    /// `[panels, kernel, kernel, input width, lanes of a panel]`.
    weights: Vec<f32>,
    /// `[width]`.
    bias: Vec<f32>,
}

/// How the kernel of one convolution goes over values `[rows, columns, input width]`, and in which order its
/// weights lie.
#[derive(Clone, Debug)]
pub struct Geometry {
    window: Window,
    /// Values of a position of the input: its channels, and what pads them.
    input_width: usize,
    /// Where the kernel begins in the input, for each position of the output.
    origins: Vec<usize>,
    /// Values of a position of the output: its channels, rounded up to whole panels.
    width: usize,
    lanes: usize,
}

impl Geometry {
    /// That of `window` over positions of `input_width` values, for as many [`lanes`].
    ///
    /// # Panics
    /// If it is padded.
    #[must_use]
    pub fn new(window: &Window, input_width: usize, lanes: usize) -> Self {
        assert_eq!(window.padding, 0, "a kernel stays within what it sees");
        let rows = 0..window.output.rows;
        let columns = 0..window.output.columns;
        let origins = rows.flat_map(|row| {
            let begin = row * window.input.columns;
            columns
                .clone()
                .map(move |column| window.stride * (begin + column) * input_width)
        });
        Self {
            origins: origins.collect(),
            window: *window,
            input_width,
            width: window.output.channels.next_multiple_of(lanes),
            lanes,
        }
    }

    /// What comes out, without what pads its channels.
    #[must_use]
    pub fn output_planes(&self) -> Planes {
        self.window.output
    }

    /// Values of a position of the output.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Values of a row of the input.
    fn input_row(&self) -> usize {
        self.window.input.columns * self.input_width
    }

    /// The weight `[outputs, inputs, kernel, kernel]` and the bias `[outputs]` as [`Geometry::output`] wants
    /// them.
    #[must_use]
    pub fn packed(&self, weight: &[f32], bias: &[f32]) -> Packed {
        let mut weights = vec![0.0; self.num_weights()];
        self.each_weight(|at, [place, input, output]| {
            weights[self.packed_place(place, input, output)] = weight[at];
        });
        let mut bias = bias.to_vec();
        bias.resize(self.width, 0.0);
        Packed { weights, bias }
    }

    /// Brings a gradient of [packed](Packed) weights back to the order of the weight.
    pub fn unpack(&self, packed: &[f32], weight: &mut [f32]) {
        self.each_weight(|at, [place, input, output]| {
            weight[at] = packed[self.packed_place(place, input, output)];
        });
    }

    /// The weight as [`Geometry::add_by_input`] wants it.
    #[must_use]
    pub fn transposed(&self, weight: &[f32]) -> Vec<f32> {
        let (channels, lanes) = (self.window.output.channels, self.lanes);
        let places = self.window.kernel * self.window.kernel;
        let mut packed = vec![0.0; places * self.input_width * channels];
        self.each_weight(|at, [place, input, output]| {
            let panel = place * (self.input_width / lanes) + input / lanes;
            packed[(panel * channels + output) * lanes + input % lanes] = weight[at];
        });
        packed
    }

    /// Calls `visit` for every weight with where it lies in `[outputs, inputs, kernel, kernel]`, its place in
    /// the kernel, its input and its output.
    fn each_weight(&self, mut visit: impl FnMut(usize, [usize; 3])) {
        let places = self.window.kernel * self.window.kernel;
        let inputs = self.window.input.channels;
        let mut at = 0;
        for output in 0..self.window.output.channels {
            for input in 0..inputs {
                for place in 0..places {
                    visit(at, [place, input, output]);
                    at += 1;
                }
            }
        }
    }

    fn packed_place(&self, place: usize, input: usize, output: usize) -> usize {
        let row = output / self.lanes * self.patch() + place * self.input_width + input;
        row * self.lanes + output % self.lanes
    }

    /// Values under one row of the kernel.
    fn kernel_row(&self) -> usize {
        self.window.kernel * self.input_width
    }

    /// Values under the kernel.
    #[must_use]
    pub fn patch(&self) -> usize {
        self.window.kernel * self.kernel_row()
    }

    /// Values of the weights when they are [packed](Packed).
    #[must_use]
    pub fn num_weights(&self) -> usize {
        self.patch() * self.width
    }

    /// Values of what comes out.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.origins.len() * self.width
    }

    /// `output = bias + weights * input` at every position.
    ///
    /// # Shapes
    /// `input`: `[rows, columns, input width]`; `output`: `[positions, width]`.
    #[inline(always)]
    pub fn output<S: Simd>(&self, simd: S, packed: &Packed, input: &[f32], output: &mut [f32]) {
        let lanes = PANELS * S::F32_LANES;
        let parts = packed.weights.chunks_exact(self.patch() * lanes);
        for (panel, weights) in parts.enumerate() {
            let (weights, bias) = (panels::<S>(weights), panels::<S>(&packed.bias)[panel]);
            let mut position = 0;
            while position < self.origins.len() {
                let left = self.origins.len() - position;
                let tile = (position, panel);
                position += match (S::F32_LANES, left) {
                    (16.., 8..) => {
                        self.output_tile::<S, 8>(simd, weights, bias, input, tile, output)
                    }
                    (_, 6..) => self.output_tile::<S, 6>(simd, weights, bias, input, tile, output),
                    (_, 4..) => self.output_tile::<S, 4>(simd, weights, bias, input, tile, output),
                    _ => self.output_tile::<S, 1>(simd, weights, bias, input, tile, output),
                };
            }
        }
        if self.width > self.window.output.channels {
            // An infinity times a weight of zero is none, and the next layer would see it.
            for output in output.chunks_exact_mut(self.width) {
                output[self.window.output.channels..].fill(0.0);
            }
        }
    }

    /// One tile, which begins at this position and panel. Returns its rows.
    #[inline(always)]
    fn output_tile<S: Simd, const ROWS: usize>(
        &self,
        simd: S,
        weights: &[Panels<S>],
        bias: Panels<S>,
        input: &[f32],
        (position, panel): (usize, usize),
        output: &mut [f32],
    ) -> usize {
        let origins = &self.origins[position..][..ROWS];
        let len = self.kernel_row();
        let mut sums = [bias; ROWS];
        for (row, weights) in weights.chunks_exact(len).enumerate() {
            let rows = from_fn(|r| &input[origins[r] + row * self.input_row()..][..len]);
            accumulate(simd, &mut sums, rows, weights);
        }
        let mut rows = output[position * self.width..].chunks_exact_mut(self.width);
        for sums in &sums {
            panels_mut::<S>(next(&mut rows))[panel] = *sums;
        }
        ROWS
    }

    /// `by_weights += input * by_output`, summed over the positions.
    ///
    /// # Shapes
    /// As those of [`Geometry::output`]; `by_weights` lies as [packed](Packed) weights do.
    #[inline(always)]
    pub fn add_by_weights<S: Simd>(
        &self,
        simd: S,
        input: &[f32],
        by_output: &[f32],
        by_weights: &mut [f32],
    ) {
        let num_blocks = self.output_len().div_ceil(BLOCK_VALUES);
        let positions = self.origins.len().div_ceil(num_blocks);
        let blocks = by_output.chunks(positions * self.width);
        for (origins, by_output) in self.origins.chunks(positions).zip(blocks) {
            let by_output = panels::<S>(by_output);
            let mut first = 0;
            while first < self.patch() {
                let left = self.kernel_row() - first % self.kernel_row();
                let at = &input
                    [first / self.kernel_row() * self.input_row() + first % self.kernel_row()..];
                first += match (S::F32_LANES, left) {
                    // No pair shall be left over: a tile of few rows waits for its own sums.
                    (16.., 8 | 12..) => self
                        .by_weights_tile::<S, 8>(simd, origins, at, by_output, first, by_weights),
                    (_, 6 | 10..) => self
                        .by_weights_tile::<S, 6>(simd, origins, at, by_output, first, by_weights),
                    (_, 4..) => self
                        .by_weights_tile::<S, 4>(simd, origins, at, by_output, first, by_weights),
                    _ => self
                        .by_weights_tile::<S, 1>(simd, origins, at, by_output, first, by_weights),
                };
            }
        }
    }

    /// The weights of `ROWS` values under the kernel from `first` on, which lie at `at` for a position that
    /// begins at zero. Returns `ROWS`.
    #[inline(always)]
    fn by_weights_tile<S: Simd, const ROWS: usize>(
        &self,
        simd: S,
        origins: &[usize],
        at: &[f32],
        by_output: &[Panels<S>],
        first: usize,
        by_weights: &mut [f32],
    ) -> usize {
        let lanes = PANELS * S::F32_LANES;
        let num_panels = self.width / lanes;
        for (panel, by_weights) in by_weights
            .chunks_exact_mut(self.patch() * lanes)
            .enumerate()
        {
            let by_weights = &mut panels_mut::<S>(by_weights)[first..][..ROWS];
            let mut sums: [Panels<S>; ROWS] = from_fn(|r| by_weights[r]);
            let by_output = by_output[panel..].iter().step_by(num_panels);
            for (origin, by_output) in origins.iter().zip(by_output) {
                let Some(values) = at[*origin..].first_chunk() else {
                    unreachable!("what lies under the kernel lies in the input");
                };
                add_product(simd, &mut sums, values, by_output);
            }
            by_weights.copy_from_slice(&sums);
        }
        ROWS
    }

    /// `by_input += weights^T * by_output` at every position.
    ///
    /// # Shapes
    /// `weights`: `[kernel, kernel, panels of the input, channels, lanes of a panel]`; `by_input`: `[rows,
    /// columns, input width]`, where the input's width is whole panels.
    #[inline(always)]
    pub fn add_by_input<S: Simd>(
        &self,
        simd: S,
        weights: &[f32],
        by_output: &[f32],
        by_input: &mut [f32],
    ) {
        let lanes = PANELS * S::F32_LANES;
        let parts = weights.chunks_exact(self.window.output.channels * lanes);
        for (index, weights) in parts.enumerate() {
            let num_panels = self.input_width / lanes;
            let (place, panel) = (index / num_panels, index % num_panels);
            let offset = place / self.window.kernel * self.input_row()
                + place % self.window.kernel * self.input_width
                + panel * lanes;
            let weights = panels::<S>(weights);
            let mut position = 0;
            while position < self.origins.len() {
                let left = self.origins.len() - position;
                position += match (S::F32_LANES, left) {
                    (16.., 8..) => self.by_input_tile::<S, 8>(
                        simd, weights, by_output, position, offset, by_input,
                    ),
                    (_, 6..) => self.by_input_tile::<S, 6>(
                        simd, weights, by_output, position, offset, by_input,
                    ),
                    (_, 4..) => self.by_input_tile::<S, 4>(
                        simd, weights, by_output, position, offset, by_input,
                    ),
                    _ => self.by_input_tile::<S, 1>(
                        simd, weights, by_output, position, offset, by_input,
                    ),
                };
            }
        }
    }

    /// What lies `offset` behind the origins of `ROWS` positions, which are different places. Returns `ROWS`.
    #[inline(always)]
    fn by_input_tile<S: Simd, const ROWS: usize>(
        &self,
        simd: S,
        weights: &[Panels<S>],
        by_output: &[f32],
        position: usize,
        offset: usize,
        by_input: &mut [f32],
    ) -> usize {
        let lanes = PANELS * S::F32_LANES;
        let origins = &self.origins[position..][..ROWS];
        let rows =
            from_fn(|r| &by_output[(position + r) * self.width..][..self.window.output.channels]);
        let mut sums: [Panels<S>; ROWS] =
            from_fn(|r| panels::<S>(&by_input[origins[r] + offset..][..lanes])[0]);
        accumulate(simd, &mut sums, rows, weights);
        for (r, sums) in sums.iter().enumerate() {
            panels_mut::<S>(&mut by_input[origins[r] + offset..][..lanes])[0] = *sums;
        }
        ROWS
    }
}

/// The larger of each value and zero; NaN stays.
#[inline(always)]
pub fn rectify<S: Simd>(simd: S, values: &mut [f32]) {
    let zero = simd.splat_f32s(0.0);
    for value in S::as_mut_simd_f32s(values).0 {
        let is_negative = simd.less_than_f32s(*value, zero);
        *value = simd.select_f32s(is_negative, zero, *value);
    }
}

/// The gradient by what was [rectified](rectify) to `values`: zero where nothing came through. Behind a NaN it
/// goes on, as in libtorch, and is found not to be finite.
#[inline(always)]
pub fn rectify_gradient<S: Simd>(simd: S, values: &[f32], gradient: &mut [f32]) {
    let zero = simd.splat_f32s(0.0);
    let values = S::as_simd_f32s(values).0;
    for (gradient, value) in S::as_mut_simd_f32s(gradient).0.iter_mut().zip(values) {
        let is_zero = simd.less_than_or_equal_f32s(*value, zero);
        *gradient = simd.select_f32s(is_zero, zero, *gradient);
    }
}

/// `sums[row] += sum over k of rows[row][k] * weights[k]`.
#[inline(always)]
fn accumulate<S: Simd, const ROWS: usize>(
    simd: S,
    sums: &mut [Panels<S>; ROWS],
    rows: [&[f32]; ROWS],
    weights: &[Panels<S>],
) {
    let (chunks, rest) = weights.as_chunks::<DEPTH>();
    for (i, weights) in chunks.iter().enumerate() {
        for (k, vectors) in weights.iter().enumerate() {
            let mut values = [0.0; ROWS];
            for (value, row) in values.iter_mut().zip(&rows) {
                *value = row.as_chunks::<DEPTH>().0[i][k];
            }
            add_product(simd, sums, &values, vectors);
        }
    }
    let done = DEPTH * chunks.len();
    for (k, vectors) in rest.iter().enumerate() {
        let mut values = [0.0; ROWS];
        for (value, row) in values.iter_mut().zip(&rows) {
            *value = row[done + k];
        }
        add_product(simd, sums, &values, vectors);
    }
}

#[inline(always)]
fn panels<S: Simd>(values: &[f32]) -> &[Panels<S>] {
    S::as_simd_f32s(values).0.as_chunks().0
}

#[inline(always)]
fn panels_mut<S: Simd>(values: &mut [f32]) -> &mut [Panels<S>] {
    S::as_mut_simd_f32s(values).0.as_chunks_mut().0
}

/// Turns an image from `[channels, rows, columns]` to `[rows, columns, channels]`.
pub fn channels_last(planes: Planes, image: &[f32], turned: &mut [f32]) {
    let positions = planes.positions();
    if planes.channels == FRAMES {
        // The usual stack of frames, with a length that is known to the compiler: several times as fast.
        let [a, b, c, d] = from_fn(|frame| &image[frame * positions..][..positions]);
        let turned = turned.as_chunks_mut::<FRAMES>().0.iter_mut();
        for ((((turned, a), b), c), d) in turned.zip(a).zip(b).zip(c).zip(d) {
            *turned = [*a, *b, *c, *d];
        }
        return;
    }
    for (channel, plane) in image.chunks_exact(positions).enumerate() {
        let at = turned[channel..].iter_mut().step_by(planes.channels);
        for (value, pixel) in at.zip(plane) {
            *value = *pixel;
        }
    }
}
