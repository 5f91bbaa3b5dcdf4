//! One fully connected layer, shaped for vector registers.

#![expect(
    clippy::inline_always,
    reason = "a function must be compiled with the vector instructions of its caller"
)]

use pulp::{Simd, WithSimd};

/// Inputs that are added between two checks of bounds.
const DEPTH: usize = 4;

/// One fully connected layer, packed into panels of as many outputs as a vector has lanes.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Outputs, rounded up to whole panels: the stride of this layer's output rows.
    pub(super) width: usize,
    /// `[panels, lanes]`: the biases, zero beyond the last output.
    bias: Vec<f32>,
    /// `[panels, inputs, lanes]`: the weights, zero beyond the last output.
    weights: Vec<f32>,
}

impl Dense {
    /// Packs a `[outputs, inputs]` weight and an `[outputs]` bias.
    pub(super) fn new(weight: &[f32], bias: &[f32], inputs: usize, lanes: usize) -> Self {
        let width = bias.len().next_multiple_of(lanes);
        let mut packed = Self {
            inputs,
            outputs: bias.len(),
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
    #[inline(always)]
    pub(super) fn apply<S: Simd>(&self, simd: S, x: Rows<'_>, output: &mut [f32]) {
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
        let x: [&[f32]; ROWS] = std::array::from_fn(|r| &x.row(row + r)[..self.inputs]);
        let output = &mut output[row * self.width..][..ROWS * self.width];
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

/// What a layer computes from.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    /// Values.
    Rows(Rows<'a>),
    /// An index for each row, which stands for the unit vector with a one there.
    Indices(&'a [f32]),
}

/// Rows of equal stride in a slice.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn row(self, row: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..self.stride]
    }
}
