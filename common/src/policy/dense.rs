//! The three products of a fully connected layer, shaped for vector registers: what comes out, the gradient
//! of the input, which is that of a layer with the transposed weights, and the gradient of the weights.
//!
//! Every sum has one order, whatever the width of the vectors and the shape of the tiles.

#![expect(
    clippy::inline_always,
    reason = "a function must be compiled with the vector instructions of its caller"
)]

use std::array::from_fn;
use std::ops::{Deref, DerefMut, Range};

use bytemuck::{Pod, Zeroable};
use pulp::{Arch, Simd, WithSimd};

/// Inputs that are added between two checks of bounds.
const DEPTH: usize = 4;

/// Vectors of gradients of weights that a tile has beside each other.
const PANELS: usize = 2;

/// Rows whose part of a gradient is summed up before it is added to that of the rows before: as many as keep
/// what they are multiplied with in the first-level cache, and the error of a sum over many rows small.
const BLOCK_ROWS: usize = 256;

/// Values that are computed beside each other on this instruction set: the widths of outputs are multiples.
#[must_use]
pub fn lanes(arch: Arch) -> usize {
    arch.dispatch(CountLanes)
}

/// One fully connected layer, packed into panels of as many outputs as a vector has lanes.
#[derive(Clone, Debug)]
pub struct Dense {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Outputs, rounded up to whole panels: the stride of this layer's output rows.
    pub(super) width: usize,
    /// `[panels, lanes]`: the biases, zero beyond the last output.
    bias: Lines,
    /// `[panels, inputs, lanes]`: the weights, zero beyond the last output.
    weights: Lines,
}

/// Values that begin with a line of the cache: none of their vectors lies in two.
#[derive(Clone, Debug)]
struct Lines(Vec<Line>);

/// As much as a line of the cache holds.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Lines {
    /// At least so many zeros.
    fn zeros(len: usize) -> Self {
        Self(vec![Line::zeroed(); len.div_ceil(16)])
    }
}

impl Deref for Lines {
    type Target = [f32];

    #[inline(always)]
    fn deref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }
}

impl DerefMut for Lines {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

impl Dense {
    /// Packs a `[outputs, inputs]` weight and an `[outputs]` bias for so many [`lanes`].
    #[must_use]
    pub fn new(weight: &[f32], bias: &[f32], inputs: usize, lanes: usize) -> Self {
        let mut packed = Self::empty(inputs, bias.len(), lanes);
        packed.bias[..bias.len()].copy_from_slice(bias);
        let panels = packed.weights.chunks_exact_mut(lanes * inputs);
        for (panel, rows) in panels.zip(weight.chunks(lanes * inputs)) {
            match (lanes, rows.len() / inputs) {
                (8, 8) => interleave::<8>(rows, panel),
                (16, 16) => interleave::<16>(rows, panel),
                _ => {
                    for (lane, row) in rows.chunks_exact(inputs).enumerate() {
                        for (lanes, weight) in panel.chunks_exact_mut(lanes).zip(row) {
                            lanes[lane] = *weight;
                        }
                    }
                }
            }
        }
        packed
    }

    /// The layer that carries the gradient of an output back to the input: without bias, and with the
    /// transpose of a `[outputs, inputs]` weight.
    #[must_use]
    pub fn transposed(weight: &[f32], inputs: usize, lanes: usize) -> Self {
        let outputs = weight.len() / inputs;
        let mut packed = Self::empty(outputs, inputs, lanes);
        let panels = packed.weights.chunks_exact_mut(lanes * outputs);
        for (first, panel) in (0..inputs).step_by(lanes).zip(panels) {
            let count = lanes.min(inputs - first);
            let rows = weight.chunks_exact(inputs);
            for (values, row) in panel.chunks_exact_mut(lanes).zip(rows) {
                values[..count].copy_from_slice(&row[first..][..count]);
            }
        }
        packed
    }

    fn empty(inputs: usize, outputs: usize, lanes: usize) -> Self {
        let width = outputs.next_multiple_of(lanes);
        Self {
            inputs,
            outputs,
            width,
            bias: Lines::zeros(width),
            weights: Lines::zeros(width * inputs),
        }
    }

    /// Values of a row of what comes in.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Values of a row of what comes out that mean something.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Values of a row of what comes out: the outputs, and zeros that make whole panels of them.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// `output[row] = bias + weight x[row]` for rows, or for the unit vectors that indices stand for.
    #[inline(always)]
    pub(super) fn forward<S: Simd>(&self, simd: S, input: Input<'_>, output: &mut [f32]) {
        // A call of its own, so that its many tiles are compiled once for an instruction set.
        simd.vectorize(Product {
            layer: self,
            input,
            output,
        });
    }

    /// `output[row] = bias + weight x[row]`.
    ///
    /// # Shapes
    /// `x`: `[rows, inputs]`; `output`: `[rows, width]`.
    #[inline(always)]
    pub fn apply<S: Simd>(&self, simd: S, x: Rows<'_>, output: &mut [f32]) {
        // Tiles whose sums fit the registers of the instruction set and keep both multiply-add
        // units busy; chosen by measurement.
        if self.width < 2 * S::F32_LANES {
            self.apply_tiles::<S, 8, 1>(simd, x, output);
        } else if S::F32_LANES < 16 {
            self.apply_tiles::<S, 4, 2>(simd, x, output);
        } else if self.width < 4 * S::F32_LANES {
            self.apply_tiles::<S, 8, 2>(simd, x, output);
        } else {
            self.apply_tiles::<S, 4, 4>(simd, x, output);
        }
    }

    /// Goes over the outputs in tiles of `ROWS x PANELS` and, for what is left over, of one row or
    /// one panel. The weights of a tile serve every row before the next ones are read: those of a
    /// large layer come from far.
    #[inline(always)]
    fn apply_tiles<S: Simd, const ROWS: usize, const PANELS: usize>(
        &self,
        simd: S,
        x: Rows<'_>,
        output: &mut [f32],
    ) {
        let panels = self.width / S::F32_LANES;
        let whole = panels - panels % PANELS;
        for panel in (0..whole).step_by(PANELS) {
            self.apply_panels::<S, ROWS, PANELS>(simd, x, panel, output);
        }
        for panel in whole..panels {
            self.apply_panels::<S, ROWS, 1>(simd, x, panel, output);
        }
    }

    #[inline(always)]
    fn apply_panels<S: Simd, const ROWS: usize, const PANELS: usize>(
        &self,
        simd: S,
        x: Rows<'_>,
        panel: usize,
        output: &mut [f32],
    ) {
        let rows = output.len() / self.width;
        let whole = rows - rows % ROWS;
        for row in (0..whole).step_by(ROWS) {
            self.tile::<S, ROWS, PANELS>(simd, x, row, panel, output);
        }
        for row in whole..rows {
            self.tile::<S, 1, PANELS>(simd, x, row, panel, output);
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize, const PANELS: usize>(
        &self,
        simd: S,
        x: Rows<'_>,
        row: usize,
        panel: usize,
        output: &mut [f32],
    ) {
        let x: [&[f32]; ROWS] = from_fn(|r| &x.row(row + r)[..self.inputs]);
        let output = &mut output[row * self.width..][..ROWS * self.width];
        let (weights, _) = S::as_simd_f32s(&self.weights);
        let weights: [&[S::f32s]; PANELS] =
            from_fn(|p| &weights[(panel + p) * self.inputs..][..self.inputs]);
        let (bias, _) = S::as_simd_f32s(&self.bias);
        let bias: [S::f32s; PANELS] = from_fn(|p| bias[panel + p]);
        let mut sums = [bias; ROWS];

        let x = x.map(<[f32]>::as_chunks::<DEPTH>);
        let weights = weights.map(<[S::f32s]>::as_chunks::<DEPTH>);
        for i in 0..self.inputs / DEPTH {
            let x: [&[f32; DEPTH]; ROWS] = x.map(|(chunks, _)| &chunks[i]);
            let weights: [&[S::f32s; DEPTH]; PANELS] = weights.map(|(chunks, _)| &chunks[i]);
            for k in 0..DEPTH {
                let weights = weights.map(|weights| weights[k]);
                add_product(simd, &mut sums, &x.map(|x| x[k]), &weights);
            }
        }
        for k in 0..self.inputs % DEPTH {
            let weights = weights.map(|(_, rest)| rest[k]);
            add_product(simd, &mut sums, &x.map(|(_, rest)| rest[k]), &weights);
        }
        let mut rows = output.chunks_exact_mut(self.width);
        for sums in &sums {
            let (output, _) = S::as_mut_simd_f32s(next(&mut rows));
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

    /// This layer with `weight + weight_sigma * (outputs * inputs^T)` and
    /// `bias + bias_sigma * outputs`, where `sigma` holds the standard deviations.
    ///
    /// # Shapes
    /// `inputs`: one factor an input; `outputs`: one a lane of each panel.
    #[inline(always)]
    pub(super) fn perturbed<S: Simd>(
        &self,
        simd: S,
        sigma: &Self,
        inputs: &[f32],
        outputs: &[f32],
    ) -> Self {
        let mut noisy = self.clone();
        let (outputs, _) = S::as_simd_f32s(outputs);
        let (bias, _) = S::as_mut_simd_f32s(&mut noisy.bias);
        let (bias_sigma, _) = S::as_simd_f32s(&sigma.bias);
        let (weights, _) = S::as_mut_simd_f32s(&mut noisy.weights);
        let (weight_sigma, _) = S::as_simd_f32s(&sigma.weights);
        for ((bias, sigma), output) in bias.iter_mut().zip(bias_sigma).zip(outputs) {
            *bias = simd.mul_add_f32s(*sigma, *output, *bias);
        }
        let panels = weights
            .chunks_exact_mut(self.inputs)
            .zip(weight_sigma.chunks_exact(self.inputs));
        for ((weights, sigma), output) in panels.zip(outputs) {
            for ((weight, sigma), input) in weights.iter_mut().zip(sigma).zip(inputs) {
                let noise = simd.mul_f32s(*output, simd.splat_f32s(*input));
                *weight = simd.mul_add_f32s(*sigma, noise, *weight);
            }
        }
        noisy
    }
}

/// Writes the values of `LANES` rows by turns.
fn interleave<const LANES: usize>(rows: &[f32], interleaved: &mut [f32]) {
    let len = rows.len() / LANES;
    let rows: [&[f32]; LANES] = from_fn(|lane| &rows[lane * len..][..len]);
    let interleaved = &mut interleaved.as_chunks_mut::<LANES>().0[..len];
    for (index, values) in interleaved.iter_mut().enumerate() {
        *values = from_fn(|lane| rows[lane][index]);
    }
}

/// [`Dense::forward`] as something that can be compiled for an instruction set.
struct Product<'a> {
    layer: &'a Dense,
    input: Input<'a>,
    output: &'a mut [f32],
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            layer,
            input,
            output,
        } = self;
        match input {
            Input::Indices(indices) => layer.apply_one_hot(simd, indices, output),
            Input::Rows(x) => layer.apply(simd, x, output),
        }
    }
}

/// `sums[row] += values[row] * vectors`.
#[inline(always)]
pub(super) fn add_product<S: Simd, const ROWS: usize, const PANELS: usize>(
    simd: S,
    sums: &mut [[S::f32s; PANELS]; ROWS],
    values: &[f32; ROWS],
    vectors: &[S::f32s; PANELS],
) {
    for row in 0..ROWS {
        let value = simd.splat_f32s(values[row]);
        for panel in 0..PANELS {
            sums[row][panel] = simd.mul_add_f32s(value, vectors[panel], sums[row][panel]);
        }
    }
}

/// The next row of a tile. A tile's rows are counted by its sums alone, and not by what they are written to: only an
/// array whose elements are all named by constants, once the loop is unrolled, stays in registers.
#[inline(always)]
pub(super) fn next<'a>(rows: &mut impl Iterator<Item = &'a mut [f32]>) -> &'a mut [f32] {
    match rows.next() {
        Some(row) => row,
        None => unreachable!("a tile lies within what it is written to"),
    }
}

/// What a layer computes from.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    /// Values.
    Rows(Rows<'a>),
    /// An index for each row, which stands for the unit vector with a one there.
    Indices(&'a [f32]),
}

/// Rows of equal stride in a slice.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// What the rows are of.
    pub values: &'a [f32],
    /// Values from one row to the next.
    pub stride: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn row(self, row: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..self.stride]
    }
}

/// `by_weights = by_output^T * input` of some of all outputs.
///
/// # Shapes
/// `by_output`: `[rows, all outputs]`; `input`: `[rows, inputs]`; `by_weights`: `[outputs, inputs]`.
#[inline(always)]
pub fn weight_gradient<S: Simd>(
    simd: S,
    by_output: Rows<'_>,
    outputs: Range<usize>,
    input: Rows<'_>,
    by_weights: &mut [f32],
) {
    let lanes = PANELS * S::F32_LANES;
    let num_rows = input.values.len() / input.stride;
    let mut panel = Lines::zeros(lanes * BLOCK_ROWS.min(num_rows));
    let mut sums = Lines::zeros(lanes);
    let sums = &mut sums[..lanes];
    by_weights.fill(0.0);
    for first_row in (0..num_rows).step_by(BLOCK_ROWS) {
        let rows = first_row..num_rows.min(first_row + BLOCK_ROWS);
        for column in (0..input.stride).step_by(lanes) {
            let columns = column..input.stride.min(column + lanes);
            let panel = &mut panel[..rows.len() * lanes];
            for (values, row) in panel.chunks_exact_mut(lanes).zip(rows.clone()) {
                values[..columns.len()].copy_from_slice(&input.row(row)[columns.clone()]);
                values[columns.len()..].fill(0.0);
            }
            let mut tile = Tile {
                by_output,
                rows: rows.clone(),
                columns,
                output: outputs.start,
            };
            let mut rest = by_weights.chunks_exact_mut(input.stride);
            while rest.len() > 0 {
                tile.output += match (S::F32_LANES, rest.len()) {
                    (16.., 8..) => tile.add::<S, 8>(simd, panel, sums, &mut rest),
                    (_, 6..) => tile.add::<S, 6>(simd, panel, sums, &mut rest),
                    (_, 4..) => tile.add::<S, 4>(simd, panel, sums, &mut rest),
                    _ => tile.add::<S, 1>(simd, panel, sums, &mut rest),
                };
            }
        }
    }
}

/// Where a tile of a gradient of weights lies.
struct Tile<'a> {
    by_output: Rows<'a>,
    /// Those that are summed over.
    rows: Range<usize>,
    /// Its inputs.
    columns: Range<usize>,
    /// Its first output.
    output: usize,
}

impl Tile<'_> {
    /// Adds what these rows contribute to the weights of `OUTPUTS` outputs. Returns `OUTPUTS`.
    ///
    /// # Shapes
    /// `panel`: `[rows, lanes]`, the columns of the input; `sums`: `[lanes]`; `by_weights`: each `[inputs]`.
    #[inline(always)]
    fn add<'a, S: Simd, const OUTPUTS: usize>(
        &self,
        simd: S,
        panel: &[f32],
        sums: &mut [f32],
        by_weights: &mut impl Iterator<Item = &'a mut [f32]>,
    ) -> usize {
        let mut tile = [[simd.splat_f32s(0.0); PANELS]; OUTPUTS];
        let panel = S::as_simd_f32s(panel).0.as_chunks::<PANELS>().0;
        for (vectors, row) in panel.iter().zip(self.rows.clone()) {
            let Some(values) = self.by_output.row(row)[self.output..].first_chunk() else {
                unreachable!("a tile lies within the outputs");
            };
            add_product::<S, OUTPUTS, PANELS>(simd, &mut tile, values, vectors);
        }
        for tile in &tile {
            S::as_mut_simd_f32s(sums).0.copy_from_slice(tile);
            let weights = &mut next(by_weights)[self.columns.clone()];
            for (weight, sum) in weights.iter_mut().zip(&*sums) {
                *weight += sum;
            }
        }
        OUTPUTS
    }
}

struct CountLanes;

impl WithSimd for CountLanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds::{Purpose, Random};

    struct Gradient<'a>([&'a [f32]; 2], [usize; 2], &'a mut [f32]);

    impl WithSimd for Gradient<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let [by_output, input] = [0, 1].map(|index: usize| Rows {
                values: self.0[index],
                stride: self.1[index],
            });
            weight_gradient(simd, by_output, 0..self.1[0], input, self.2);
        }
    }

    #[test]
    fn the_gradient_of_a_weight_has_the_same_bits_on_every_processor() {
        for (rows, outputs, inputs) in [(1, 1, 1), (5, 3, 70), (300, 37, 33), (513, 8, 64)] {
            let draws = |count: usize, position| -> Vec<f32> {
                let mut random = Random::derive(2, Purpose::Initialisation, 4, position);
                (0..count)
                    .map(|_| random.uniform(-1.0, 1.0) as f32)
                    .collect()
            };
            let (by_output, input) = (draws(rows * outputs, 0), draws(rows * inputs, 1));
            let gradient = |arch: Arch| {
                let mut got = vec![f32::NAN; outputs * inputs];
                let tables = [&by_output[..], &input];
                arch.dispatch(Gradient(tables, [outputs, inputs], &mut got));
                got
            };
            let got = gradient(Arch::new());
            assert_eq!(got, gradient(Arch::Scalar));
            for (index, got) in got.iter().enumerate() {
                let (output, input_index) = (index / inputs, index % inputs);
                let terms = (0..rows).map(|row| {
                    let by_output = f64::from(by_output[row * outputs + output]);
                    by_output * f64::from(input[row * inputs + input_index])
                });
                let expected: f64 = terms.sum();
                assert!((f64::from(*got) - expected).abs() < 2e-5);
            }
        }
    }

    #[test]
    fn a_transposed_layer_is_that_of_the_transposed_weight() {
        let (inputs, outputs) = (21, 35);
        let weight: Vec<f32> = (0..inputs * outputs).map(|index| index as f32).collect();
        let mut turned = vec![0.0; weight.len()];
        for (index, value) in weight.iter().enumerate() {
            turned[index % inputs * outputs + index / inputs] = *value;
        }
        for lanes in [1, 4, 8, 16] {
            let expected = Dense::new(&turned, &vec![0.0; inputs], outputs, lanes);
            let got = Dense::transposed(&weight, inputs, lanes);
            assert_eq!(got.weights[..], expected.weights[..]);
            assert_eq!((got.inputs, got.width), (outputs, expected.width));
        }
    }
}
