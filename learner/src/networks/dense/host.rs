//! Fully connected layers on the processor, in one thread: each product with what belongs to it is one pass in
//! place of several of libtorch's operations, of which each costs microseconds, as much as the arithmetic of a small
//! layer. Every function gives none, and does nothing, where a tensor does not lie in this process's memory in
//! row-major order.

#![expect(
    clippy::inline_always,
    reason = "a function must be compiled with the vector instructions of its caller"
)]

use pulp::{Arch, Simd, WithSimd};
use rookery_common::policy::dense::{Dense, Rows, lanes, weight_gradient};
use rookery_common::policy::math::{activate, activation_gradient};
use rookery_common::policy::spec::Activation;
use tch::{Device, Kind, Tensor};

use crate::tensors::{host, host_mut};

/// Rows that are worked on together, so that what a product gives is activated while it is near.
const BLOCK_ROWS: usize = 64;

/// `activation(input weight^T + bias)`.
///
/// # Shapes
/// `weight`: `[outputs, inputs]`; `bias`: `[outputs]`; `input`: `[N, inputs]`; the result `[N, outputs]`.
pub(super) fn forward(
    weight: &Tensor,
    bias: &Tensor,
    activation: Option<Activation>,
    input: &Tensor,
) -> Option<Tensor> {
    let inputs = weight.size()[1] as usize;
    let layer = Dense::new(host(weight)?, host(bias)?, inputs, lanes(Arch::new()));
    product(&layer, activation, input, weight.size()[0])
}

/// `by_output weight`.
///
/// # Shapes
/// `weight`: `[outputs, inputs]`; `by_output`: `[N, outputs]`; the result `[N, inputs]`.
pub(super) fn by_input(weight: &Tensor, by_output: &Tensor) -> Option<Tensor> {
    let inputs = weight.size()[1];
    let layer = Dense::transposed(host(weight)?, inputs as usize, lanes(Arch::new()));
    product(&layer, None, by_output, inputs)
}

/// Writes the gradients of weight and bias.
///
/// # Shapes
/// `input`: `[N or more, inputs]`; `by_output`: `[N, outputs]`, the gradient of the sums; `by_weight`: `[outputs,
/// inputs]`; `by_bias`: `[outputs]`.
pub(super) fn by_parameters(
    input: &Tensor,
    by_output: &Tensor,
    by_weight: &Tensor,
    by_bias: &Tensor,
) -> Option<()> {
    let [inputs, outputs] = [input, by_output].map(|tensor| tensor.size()[1] as usize);
    let rows = by_output.size()[0] as usize;
    let input = Rows {
        values: &host(input)?[..rows * inputs],
        stride: inputs,
    };
    let by_output = Rows {
        values: host(by_output)?,
        stride: outputs,
    };
    let (mut by_weight, mut by_bias) = (by_weight.shallow_clone(), by_bias.shallow_clone());
    Arch::new().dispatch(ByParameters {
        by_output,
        input,
        by_weight: host_mut(&mut by_weight)?,
        by_bias: host_mut(&mut by_bias)?,
    });
    Some(())
}

/// Carries the gradient of an activation's `output` back to its arguments, in place.
///
/// # Shapes
/// `by_output`: `[N, outputs]`; `output`: `[N or more, outputs]`.
pub(super) fn back_through(
    activation: Activation,
    output: &Tensor,
    by_output: &mut Tensor,
) -> Option<()> {
    let (output, by_output) = (host(output)?, host_mut(by_output)?);
    Arch::new().dispatch(|| activation_gradient(activation, output, by_output));
    Some(())
}

/// What comes out of a layer, without what pads it, `[N, outputs]`.
fn product(
    layer: &Dense,
    activation: Option<Activation>,
    input: &Tensor,
    outputs: i64,
) -> Option<Tensor> {
    let [rows, stride] = [0, 1].map(|axis: usize| input.size()[axis]);
    let mut result = Tensor::empty([rows, outputs], (Kind::Float, Device::Cpu));
    let [stride, output_width] = [stride, outputs].map(|extent| extent as usize);
    let blocks = host(input)?.chunks(BLOCK_ROWS * stride);
    let blocks = blocks.zip(host_mut(&mut result)?.chunks_mut(BLOCK_ROWS * output_width));
    for (values, output) in blocks {
        Arch::new().dispatch(Product {
            layer,
            activation,
            input: Rows { values, stride },
            output,
            output_width,
        });
    }
    Some(result)
}

/// What comes out of a layer for some rows, compiled for an instruction set.
struct Product<'a> {
    layer: &'a Dense,
    activation: Option<Activation>,
    input: Rows<'a>,
    output: &'a mut [f32],
    output_width: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.layer.width();
        if self.output_width == width {
            self.layer.apply(simd, self.input, self.output);
        } else {
            let mut padded = vec![0.0; self.output.len() / self.output_width * width];
            self.layer.apply(simd, self.input, &mut padded);
            let rows = self.output.chunks_exact_mut(self.output_width);
            for (row, padded) in rows.zip(padded.chunks_exact(width)) {
                row.copy_from_slice(&padded[..row.len()]);
            }
        }
        if let Some(activation) = self.activation {
            activate(activation, self.output);
        }
    }
}

/// The gradients of weight and bias, compiled for an instruction set.
struct ByParameters<'a> {
    by_output: Rows<'a>,
    input: Rows<'a>,
    by_weight: &'a mut [f32],
    by_bias: &'a mut [f32],
}

impl WithSimd for ByParameters<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Rows { values, stride } = self.by_output;
        let mut sums = vec![0.0; self.by_bias.len()];
        self.by_bias.fill(0.0);
        for rows in values.chunks(BLOCK_ROWS * stride) {
            sums.fill(0.0);
            for row in rows.chunks_exact(stride) {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += value;
                }
            }
            for (total, sum) in self.by_bias.iter_mut().zip(&sums) {
                *total += sum;
            }
        }
        weight_gradient(simd, self.by_output, self.input, self.by_weight);
    }
}
