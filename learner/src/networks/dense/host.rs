//! Fully connected layers on the processor. Each product with what belongs to it is one pass in place of several of
//! libtorch's operations, of which each costs microseconds, as much as the arithmetic of a small layer. A few rows
//! go through all layers together, so that what one layer leaves for the next is near, and threads share the rows.
//! No sum depends on who computes it: the bits are the same for every number of threads.

#![expect(
    clippy::inline_always,
    reason = "a function must be compiled with the vector instructions of its caller"
)]

use std::ops::Range;
use std::sync::OnceLock;

use pulp::{Arch, Simd, WithSimd};
use rookery_common::policy::dense::{Dense, Rows, lanes, weight_gradient};
use rookery_common::policy::math::{activate, activation_gradient};
use rookery_common::policy::spec::Activation;
use tch::{Device, Kind, Tensor};

use crate::tensors::{host, host_mut};
use crate::threads;

/// Rows that go through all layers together.
const GROUP_ROWS: usize = 64;

/// Outputs whose weights' gradients are computed together.
const GROUP_OUTPUTS: usize = 64;

/// Rows of a bias' gradient that are summed up before they are added to those of the rows before.
const SUMMED_ROWS: usize = 64;

/// A stack of layers whose parameters lie in this process's memory.
#[derive(Debug)]
pub(super) struct Stack<'a>(pub(super) Vec<Layer<'a>>);

/// One of its layers.
#[derive(Debug)]
pub(super) struct Layer<'a> {
    /// `[outputs, inputs]`.
    weight: &'a [f32],
    /// `[outputs]`.
    bias: &'a [f32],
    activation: Option<Activation>,
}

/// Where the gradients of a stack's weights and biases are written to, layer by layer.
pub(super) type Gradients = Vec<[Tensor; 2]>;

impl<'a> Layer<'a> {
    /// None where the parameters are not in this process's memory.
    pub(super) fn new(
        weight: &'a Tensor,
        bias: &'a Tensor,
        activation: Option<Activation>,
    ) -> Option<Self> {
        Some(Self {
            weight: host(weight)?,
            bias: host(bias)?,
            activation,
        })
    }

    fn inputs(&self) -> usize {
        self.weight.len() / self.bias.len()
    }

    fn outputs(&self) -> usize {
        self.bias.len()
    }
}

impl Stack<'_> {
    /// Weights of all layers: multiply-adds of one row on its way forward.
    fn num_weights(&self) -> usize {
        self.0.iter().map(|layer| layer.weight.len()).sum()
    }
}

/// Every layer of some stacks, packed by the first who needs it.
struct Packed<'a> {
    stacks: &'a [Stack<'a>],
    layers: Vec<Vec<OnceLock<Dense>>>,
    pack: fn(&Layer<'_>, usize) -> Dense,
    arch: Arch,
}

impl<'a> Packed<'a> {
    fn new(stacks: &'a [Stack<'a>], pack: fn(&Layer<'_>, usize) -> Dense) -> Self {
        let of = |stack: &Stack<'_>| stack.0.iter().map(|_| OnceLock::new()).collect();
        Self {
            stacks,
            layers: stacks.iter().map(of).collect(),
            pack,
            arch: Arch::new(),
        }
    }

    fn get(&self, stack: usize, layer: usize) -> &Dense {
        let pack = || (self.pack)(&self.stacks[stack].0[layer], lanes(self.arch));
        self.layers[stack][layer].get_or_init(pack)
    }
}

/// Some rows on their way forward.
struct Forward<'a> {
    stack: usize,
    input: &'a [f32],
    /// Where what comes out goes: of all layers in turn, or of the last alone.
    outputs: Vec<&'a mut [f32]>,
}

/// Some rows on their way back.
struct Back<'a> {
    stack: usize,
    /// What came out of each layer on the way forward.
    outputs: Vec<&'a [f32]>,
    /// Gradients by the input, where it is wanted, by the sums of the first layer, and so on: of all layers, or of the
    /// last alone, whose are those of its output at first.
    flows: Vec<&'a mut [f32]>,
}

/// What comes out of each layer of each stack for rows that all of them see, or of the last layer alone.
///
/// # Shapes
/// `input`: `[N, inputs]`; of the results each is `[N, outputs]`.
///
/// # Panics
/// Where the input is not in this process's memory.
pub(super) fn forward<const N: usize>(
    stacks: &[Stack<'_>; N],
    input: &Tensor,
    keeps_all: bool,
) -> [Vec<Tensor>; N] {
    let [num_rows, width] = [0, 1].map(|axis: usize| input.size()[axis]);
    let mut outputs = stacks.each_ref().map(|Stack(layers)| -> Vec<Tensor> {
        let forgotten = if keeps_all {
            0
        } else {
            layers.len().saturating_sub(1)
        };
        let kept = layers.iter().skip(forgotten);
        kept.map(|layer| empty(num_rows, layer.outputs())).collect()
    });
    let input = values(input);
    let mut jobs = Vec::new();
    for (stack, outputs) in outputs.iter_mut().enumerate() {
        let mut groups: Vec<Forward<'_>> = input
            .chunks(GROUP_ROWS * width as usize)
            .map(|input| Forward {
                stack,
                input,
                outputs: Vec::with_capacity(outputs.len()),
            })
            .collect();
        for output in outputs {
            for (group, rows) in groups.iter_mut().zip(groups_of_rows(output)) {
                group.outputs.push(rows);
            }
        }
        jobs.push(groups);
    }
    let packed = Packed::new(stacks, |layer, lanes| {
        Dense::new(layer.weight, layer.bias, layer.inputs(), lanes)
    });
    let threads = threads::worth(work(stacks, num_rows as usize));
    threads::in_parallel(threads, by_turns(jobs), |job| {
        let layers = &stacks[job.stack].0;
        let num_rows = job.input.len() / width as usize;
        let forgotten = &layers[..layers.len() - job.outputs.len()];
        let mut forgotten: Vec<Vec<f32>> = forgotten
            .iter()
            .map(|layer| vec![0.0; num_rows * layer.outputs()])
            .collect();
        let forgotten = forgotten.iter_mut().map(Vec::as_mut_slice);
        let mut input = job.input;
        for ((index, layer), output) in layers.iter().enumerate().zip(forgotten.chain(job.outputs))
        {
            packed.arch.dispatch(Product {
                layer: packed.get(job.stack, index),
                activation: layer.activation,
                input,
                output: &mut *output,
            });
            input = output;
        }
    });
    outputs
}

/// Carries gradients back to the inputs, or else to the sums of the first layers, and writes those of the parameters
/// to their places where there are some.
///
/// # Shapes
/// `tapes`: of each stack the input of each layer, then the output of the last, all `[N or more, width]`; where they
/// have more rows, these are their first. `output_gradients`: `[N, outputs]`, overwritten. The results are `[N,
/// inputs]`.
pub(super) fn flow_back<const N: usize>(
    stacks: &[Stack<'_>; N],
    tapes: [&[Tensor]; N],
    output_gradients: [Tensor; N],
    gradients: Option<[Gradients; N]>,
    wants_inputs: bool,
) -> [Tensor; N] {
    let num_rows = output_gradients.first().map_or(0, |rows| rows.size()[0]);
    // Of each stack the gradients by the input, where it is wanted, by the sums of the first layer, and so on.
    let mut of_stacks = stacks.iter();
    let mut flows = output_gradients.map(|by_output| -> Vec<Tensor> {
        let layers = of_stacks
            .next()
            .into_iter()
            .flat_map(|Stack(layers)| layers);
        let kept = layers.enumerate().filter(|(index, _)| match index {
            0 => wants_inputs,
            _ => gradients.is_some(),
        });
        let kept = kept.map(|(_, layer)| empty(num_rows, layer.inputs()));
        kept.chain([by_output]).collect()
    });
    let mut jobs = Vec::new();
    for (stack, (flows, tape)) in flows.iter_mut().zip(tapes).enumerate() {
        let layers = &stacks[stack].0;
        let mut groups: Vec<Back<'_>> = (0..(num_rows as usize).div_ceil(GROUP_ROWS))
            .map(|_| Back {
                stack,
                outputs: Vec::with_capacity(layers.len()),
                flows: Vec::with_capacity(flows.len()),
            })
            .collect();
        for (layer, output) in layers.iter().zip(&tape[1..]) {
            let len = num_rows as usize * layer.outputs();
            let rows = values(output)[..len].chunks(GROUP_ROWS * layer.outputs());
            for (group, rows) in groups.iter_mut().zip(rows) {
                group.outputs.push(rows);
            }
        }
        for flow in flows {
            for (group, rows) in groups.iter_mut().zip(groups_of_rows(flow)) {
                group.flows.push(rows);
            }
        }
        jobs.push(groups);
    }
    let is_kept = gradients.is_some();
    let packed = Packed::new(stacks, |layer, lanes| {
        Dense::transposed(layer.weight, layer.inputs(), lanes)
    });
    let threads = threads::worth(work(stacks, num_rows as usize));
    threads::in_parallel(threads, by_turns(jobs), |job| {
        let layers = &stacks[job.stack].0;
        let mut kept = job.flows.into_iter().rev();
        let Some(mut flow) = kept.next() else {
            return;
        };
        // What flows between layers is forgotten where no parameter's gradient is made of it.
        let inner = layers.iter().skip(1).filter(|_| !is_kept);
        let mut forgotten: Vec<Vec<f32>> = inner
            .zip(&job.outputs)
            .map(|(_, output)| vec![0.0; output.len()])
            .collect();
        let forgotten = forgotten.iter_mut().map(Vec::as_mut_slice).rev();
        let mut flows = forgotten.chain(kept);
        let layers = layers.iter().zip(job.outputs).enumerate();
        for (index, (layer, output)) in layers.rev() {
            if let Some(activation) = layer.activation {
                packed
                    .arch
                    .dispatch(|| activation_gradient(activation, output, flow));
            }
            let Some(next) = flows.next() else {
                return;
            };
            packed.arch.dispatch(Product {
                layer: packed.get(job.stack, index),
                activation: None,
                input: flow,
                output: &mut *next,
            });
            flow = next;
        }
    });
    if let Some(mut gradients) = gradients {
        let mut parts = Vec::new();
        for ((flows, tape), gradients) in flows.iter().zip(tapes).zip(&mut gradients) {
            let flows = &flows[usize::from(wants_inputs)..];
            for ((flow, input), gradient) in flows.iter().zip(tape.iter()).zip(gradients) {
                push_parts(&mut parts, values(flow), values(input), gradient);
            }
        }
        threads::in_parallel(threads, parts.into_iter(), |part| {
            packed.arch.dispatch(part);
        });
    }
    flows.map(|mut flows| flows.swap_remove(0))
}

/// Cuts what is to do for the gradients of a layer's parameters in parts.
///
/// # Shapes
/// `by_output`: `[N, outputs]`; `input`: `[N or more, inputs]`.
fn push_parts<'a>(
    parts: &mut Vec<ByParameters<'a>>,
    by_output: &'a [f32],
    input: &'a [f32],
    [by_weight, by_bias]: &'a mut [Tensor; 2],
) {
    let [outputs, inputs] = [0, 1].map(|axis: usize| by_weight.size()[axis] as usize);
    let num_rows = by_output.len() / outputs;
    let by_output = Rows {
        values: by_output,
        stride: outputs,
    };
    let input = Rows {
        values: &input[..num_rows * inputs],
        stride: inputs,
    };
    let by_weights = values_mut(by_weight).chunks_mut(GROUP_OUTPUTS * inputs);
    let by_biases = values_mut(by_bias).chunks_mut(GROUP_OUTPUTS);
    let firsts = (0..outputs).step_by(GROUP_OUTPUTS);
    for (first, (by_weight, by_bias)) in firsts.zip(by_weights.zip(by_biases)) {
        parts.push(ByParameters {
            by_output,
            outputs: first..first + by_bias.len(),
            input,
            by_weight,
            by_bias,
        });
    }
}

/// Multiply-adds of so many rows on their way through all stacks.
fn work(stacks: &[Stack<'_>], num_rows: usize) -> usize {
    num_rows * stacks.iter().map(Stack::num_weights).sum::<usize>()
}

/// The first of each, then the second of each, and so on: who begins at the same time begins with another stack.
fn by_turns<T>(jobs: Vec<Vec<T>>) -> impl Iterator<Item = T> {
    let mut jobs: Vec<(usize, T)> = jobs
        .into_iter()
        .flat_map(|of| of.into_iter().enumerate())
        .collect();
    jobs.sort_by_key(|(turn, _)| *turn);
    jobs.into_iter().map(|(_, job)| job)
}

/// The values of a tensor of which the caller knows that they are f32 in this process's memory in row-major order.
fn values(tensor: &Tensor) -> &[f32] {
    let Some(values) = host(tensor) else {
        unreachable!("what stacks on the processor compute with is there too");
    };
    values
}

/// As [`values`], to be changed in place.
fn values_mut(tensor: &mut Tensor) -> &mut [f32] {
    let Some(values) = host_mut(tensor) else {
        unreachable!("what stacks on the processor compute is there too");
    };
    values
}

/// The rows of a `[N, width]` tensor, a group at a time.
fn groups_of_rows(tensor: &mut Tensor) -> impl Iterator<Item = &mut [f32]> {
    let width = tensor.size()[1] as usize;
    values_mut(tensor).chunks_mut(GROUP_ROWS * width)
}

fn empty(num_rows: i64, width: usize) -> Tensor {
    Tensor::empty([num_rows, width as i64], (Kind::Float, Device::Cpu))
}

/// What comes out of a layer for some rows, without what pads it, compiled for an instruction set.
struct Product<'a> {
    layer: &'a Dense,
    activation: Option<Activation>,
    /// `[rows, inputs]`.
    input: &'a [f32],
    /// `[rows, outputs]`.
    output: &'a mut [f32],
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (width, outputs) = (self.layer.width(), self.layer.outputs());
        let input = Rows {
            values: self.input,
            stride: self.layer.inputs(),
        };
        if outputs == width {
            self.layer.apply(simd, input, self.output);
        } else {
            let mut padded = vec![0.0; self.output.len() / outputs * width];
            self.layer.apply(simd, input, &mut padded);
            let rows = self.output.chunks_exact_mut(outputs);
            for (row, padded) in rows.zip(padded.chunks_exact(width)) {
                row.copy_from_slice(&padded[..outputs]);
            }
        }
        if let Some(activation) = self.activation {
            activate(activation, self.output);
        }
    }
}

/// The gradients of the weights and biases of some outputs, compiled for an instruction set.
struct ByParameters<'a> {
    /// Gradients of all sums.
    by_output: Rows<'a>,
    outputs: Range<usize>,
    input: Rows<'a>,
    /// `[outputs, inputs]`.
    by_weight: &'a mut [f32],
    /// `[outputs]`.
    by_bias: &'a mut [f32],
}

impl WithSimd for ByParameters<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Rows { values, stride } = self.by_output;
        let mut sums = vec![0.0; self.by_bias.len()];
        self.by_bias.fill(0.0);
        for rows in values.chunks(SUMMED_ROWS * stride) {
            sums.fill(0.0);
            for row in rows.chunks_exact(stride) {
                for (sum, value) in sums.iter_mut().zip(&row[self.outputs.clone()]) {
                    *sum += value;
                }
            }
            for (total, sum) in self.by_bias.iter_mut().zip(&sums) {
                *total += sum;
            }
        }
        weight_gradient(
            simd,
            self.by_output,
            self.outputs,
            self.input,
            self.by_weight,
        );
    }
}
