//! Fully connected layers with a backward pass that is derived by hand: a handful of operations a
//! layer, which write the gradient where the optimiser reads it. Off-policy algorithms take many
//! small gradient steps, where a graph costs as much as the arithmetic. Layers of the usual sizes have kernels of
//! their own on a processor: see `docs/decisions/0031-small-layers.md`.

mod host;

use rookery_common::policy::layout::Layout;
use rookery_common::policy::spec::Activation;
use tch::{Kind, Tensor};

use super::flat::Flat;

/// Multiply-adds of a layer from which on libtorch is better where it has several threads.
const WORTH_THREADS: usize = 4_000_000;

/// Weights of a layer that stay in a core's second-level cache. Of more libtorch carries a part at a time there.
const NEAR_WEIGHTS: usize = 1 << 17;

/// A stack of fully connected layers whose weights and biases are tensors of a [`Flat`]; every layer
/// but the last has an activation behind it, and the last has one where the stack is a trunk.
///
/// Layers are `y = x W^T + b` with `W` of shape `[outputs, inputs]`, as everywhere in this project.
#[derive(Clone, Debug)]
pub struct Dense {
    /// Index of each layer's weight in the layout; its bias is the next.
    weights: Vec<usize>,
    activation: Activation,
    is_trunk: bool,
}

/// What a forward pass leaves for its backward pass.
#[derive(Debug)]
pub struct Tape {
    /// The input of each layer, `[N, inputs]`, then the output of the last.
    values: Vec<Tensor>,
}

/// Whose products are taken. What lies on a GPU is libtorch's either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Host,
    Libtorch,
}

impl Way {
    /// What `compute` gives where this is the way.
    fn on_host<T>(self, compute: impl FnOnce() -> Option<T>) -> Option<T> {
        match self {
            Self::Host => compute(),
            Self::Libtorch => None,
        }
    }
}

impl Tape {
    /// What came out, `[N, outputs]`.
    pub fn output(&self) -> &Tensor {
        &self.values[self.values.len() - 1]
    }
}

impl Dense {
    /// Lays `widths.len()` layers out behind what `layout` holds: `prefix.0.weight`,
    /// `prefix.0.bias`, ... and, where the stack is no trunk, `prefix.head.weight` and
    /// `prefix.head.bias` for the last.
    pub fn push(
        layout: &mut Layout,
        prefix: &str,
        mut inputs: usize,
        widths: &[usize],
        activation: Activation,
        is_trunk: bool,
    ) -> Self {
        let mut weights = Vec::with_capacity(widths.len());
        for (index, &outputs) in widths.iter().enumerate() {
            let name = if index + 1 == widths.len() && !is_trunk {
                "head".to_owned()
            } else {
                index.to_string()
            };
            weights.push(layout.tensors().len());
            layout.push(format!("{prefix}.{name}.weight"), &[outputs, inputs]);
            layout.push(format!("{prefix}.{name}.bias"), &[outputs]);
            inputs = outputs;
        }
        Self {
            weights,
            activation,
            is_trunk,
        }
    }

    /// Layers that a layout has already: `weights` are the indices of their weights.
    #[must_use]
    pub fn existing(weights: Vec<usize>, activation: Activation, is_trunk: bool) -> Self {
        Self {
            weights,
            activation,
            is_trunk,
        }
    }

    /// What comes out for `input`.
    ///
    /// # Shapes
    /// `input` is `[N, inputs]`; the result `[N, outputs]`.
    pub fn forward(&self, parameters: &Flat, input: &Tensor) -> Tensor {
        let way = self.way(parameters, input);
        let mut value = input.shallow_clone();
        for layer in 0..self.weights.len() {
            value = self.layer(parameters, layer, &value, way);
        }
        value
    }

    /// As [`Dense::forward`], and keeps what [`Dense::backward`] needs.
    #[must_use]
    pub fn forward_taped(&self, parameters: &Flat, input: &Tensor) -> Tape {
        let way = self.way(parameters, input);
        let mut values = Vec::with_capacity(self.weights.len() + 1);
        values.push(input.shallow_clone());
        for layer in 0..self.weights.len() {
            let next = self.layer(parameters, layer, &values[layer], way);
            values.push(next);
        }
        Tape { values }
    }

    /// How rows go through.
    fn way(&self, parameters: &Flat, rows: &Tensor) -> Way {
        let of_layers = self
            .weights
            .iter()
            .map(|&index| parameters.view(index).numel());
        let largest = of_layers.max().unwrap_or(0);
        let work = largest * rows.size()[0] as usize;
        if largest > NEAR_WEIGHTS || (work >= WORTH_THREADS && tch::get_num_threads() > 1) {
            Way::Libtorch
        } else {
            Way::Host
        }
    }

    fn layer(&self, parameters: &Flat, layer: usize, input: &Tensor, way: Way) -> Tensor {
        let index = self.weights[layer];
        let activation = self.activation_behind(layer);
        let (weight, bias) = (parameters.view(index), parameters.view(index + 1));
        if let Some(output) = way.on_host(|| host::forward(weight, bias, activation, input)) {
            return output;
        }
        let mut output = bias.addmm(input, parameters.transposed(index));
        match activation {
            None => {}
            Some(Activation::Tanh) => drop(output.tanh_()),
            Some(Activation::Relu) => drop(output.relu_()),
        }
        output
    }

    fn activation_behind(&self, layer: usize) -> Option<Activation> {
        let has_one = layer + 1 < self.weights.len() || self.is_trunk;
        has_one.then_some(self.activation)
    }

    /// Writes the gradient of every weight and bias to its place in `gradient`, given that of the
    /// output. Returns the gradient of the input where it is wanted.
    ///
    /// # Shapes
    /// `output_gradient` is `[N, outputs]` and is overwritten; the result `[N, inputs]`. Where the tape has
    /// more rows, these are its first.
    pub fn backward(
        &self,
        parameters: &Flat,
        tape: &Tape,
        output_gradient: Tensor,
        gradient: &Flat,
        wants_input: bool,
    ) -> Option<Tensor> {
        let way = self.way(parameters, &output_gradient);
        let mut flowing = output_gradient;
        for (layer, &index) in self.weights.iter().enumerate().rev() {
            flowing = self.through_activation(tape, layer, flowing, way);
            let input = &tape.values[layer];
            let (by_weight, by_bias) = (gradient.view(index), gradient.view(index + 1));
            let written = way.on_host(|| host::by_parameters(input, &flowing, by_weight, by_bias));
            if written.is_none() {
                let input = first_rows(input, &flowing);
                let _ = flowing.tr().mm_out(by_weight, &input);
                let _ = flowing.sum_intlist_out(by_bias, 0_i64, false, None::<Kind>);
            }
            if layer == 0 && !wants_input {
                return None;
            }
            flowing = by_input(parameters.view(index), &flowing, way);
        }
        Some(flowing)
    }

    /// The gradient of the input alone, where the parameters are to stay as they are.
    ///
    /// # Shapes
    /// As [`Dense::backward`].
    pub fn input_gradient(
        &self,
        parameters: &Flat,
        tape: &Tape,
        output_gradient: Tensor,
    ) -> Tensor {
        let way = self.way(parameters, &output_gradient);
        let mut flowing = output_gradient;
        for (layer, &index) in self.weights.iter().enumerate().rev() {
            flowing = self.through_activation(tape, layer, flowing, way);
            flowing = by_input(parameters.view(index), &flowing, way);
        }
        flowing
    }

    /// Turns the gradient of a layer's output into that of its sum.
    fn through_activation(
        &self,
        tape: &Tape,
        layer: usize,
        mut flowing: Tensor,
        way: Way,
    ) -> Tensor {
        let Some(activation) = self.activation_behind(layer) else {
            return flowing;
        };
        let output = &tape.values[layer + 1];
        let changed = way.on_host(|| host::back_through(activation, output, &mut flowing));
        if changed.is_some() {
            return flowing;
        }
        let output = first_rows(output, &flowing);
        match activation {
            // Both derivatives follow from the output: 1 - y^2, and 1 where y > 0.
            Activation::Tanh => Tensor::tanh_backward(&flowing, &output),
            Activation::Relu => output.threshold_backward(&flowing, 0.0),
        }
    }
}

/// The gradient of a layer's input, given that of its sum.
fn by_input(weight: &Tensor, by_output: &Tensor, way: Way) -> Tensor {
    way.on_host(|| host::by_input(weight, by_output))
        .unwrap_or_else(|| by_output.mm(weight))
}

/// As many rows of a tape's value as the gradient has.
fn first_rows(value: &Tensor, gradient: &Tensor) -> Tensor {
    let rows = gradient.size()[0];
    if value.size()[0] == rows {
        value.shallow_clone()
    } else {
        value.narrow(0, 0, rows)
    }
}

#[cfg(test)]
mod tests {
    use rookery_common::seeds::{Purpose, Random};
    use tch::Device;

    use super::*;

    fn draws(count: usize, position: u64) -> Vec<f32> {
        let mut random = Random::derive(3, Purpose::Initialisation, 7, position);
        (0..count)
            .map(|_| random.uniform(-1.0, 1.0) as f32)
            .collect()
    }

    /// The largest distance between two tensors, relative to the larger of one and the second's
    /// largest element.
    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        let scale = b.abs().max().double_value(&[]).max(1.0);
        (a - b).abs().max().double_value(&[]) / scale
    }

    #[test]
    fn gradients_are_those_of_autograd() {
        for activation in [Activation::Tanh, Activation::Relu] {
            for (rows, inputs, widths, is_trunk) in [
                (9, 7, &[5_usize, 4, 3][..], false),
                (9, 7, &[6, 2], true),
                (1, 1, &[1], false),
                // More than a tile, a panel and a block of rows of each, and a remainder.
                (301, 37, &[70, 33, 2], false),
                // More weights than are near.
                (3, 400, &[400], true),
            ] {
                let mut layout = Layout::new();
                let stack = Dense::push(&mut layout, "stack", inputs, widths, activation, is_trunk);
                let scale = 1.0 / (inputs as f32).sqrt();
                let host: Vec<f32> = draws(layout.len(), 0)
                    .into_iter()
                    .map(|x| x * scale)
                    .collect();
                let parameters = Flat::from_host(&layout, &host, Device::Cpu).unwrap();
                let table = |width: usize, position| {
                    Tensor::from_slice(&draws(rows * width, position)).view([rows as i64, -1])
                };
                let input = table(inputs, 1);
                let cotangent = table(*widths.last().unwrap(), 2);

                let leaf = Tensor::from_slice(&host).set_requires_grad(true);
                let leaf_input = input.copy().set_requires_grad(true);
                let mut value = leaf_input.shallow_clone();
                for (layer, slots) in layout.tensors().chunks_exact(2).enumerate() {
                    let [weight, bias] = slots else {
                        unreachable!()
                    };
                    let cut = |range: std::ops::Range<usize>| {
                        leaf.narrow(0, range.start as i64, range.len() as i64)
                    };
                    let shape: Vec<i64> = weight.shape().iter().map(|n| *n as i64).collect();
                    value = value.linear(
                        &cut(weight.range()).view(shape.as_slice()),
                        Some(cut(bias.range())),
                    );
                    if layer + 1 < widths.len() || is_trunk {
                        value = match activation {
                            Activation::Tanh => value.tanh(),
                            Activation::Relu => value.relu(),
                        };
                    }
                }
                let total = (&value * &cotangent).sum(None::<Kind>);
                let expected = Tensor::run_backward(&[total], &[&leaf, &leaf_input], false, false);

                let tape = stack.forward_taped(&parameters, &input);
                assert!(distance(tape.output(), &value.detach()) < 2e-6);
                assert!(distance(&stack.forward(&parameters, &input), tape.output()) == 0.0);
                let gradient = Flat::zeros(&layout, Device::Cpu);
                let of_input = stack
                    .backward(&parameters, &tape, cotangent.copy(), &gradient, true)
                    .unwrap();
                assert!(distance(gradient.values(), &expected[0]) < 2e-6);
                assert!(distance(&of_input, &expected[1]) < 2e-6);
                let alone = stack.input_gradient(&parameters, &tape, cotangent.copy());
                assert!(distance(&alone, &expected[1]) < 2e-6);
            }
        }
    }

    #[test]
    fn a_tape_of_more_rows_gives_the_gradient_of_its_first() {
        let mut layout = Layout::new();
        let stack = Dense::push(&mut layout, "stack", 5, &[40, 3], Activation::Relu, true);
        let host = draws(layout.len(), 0);
        let parameters = Flat::from_host(&layout, &host, Device::Cpu).unwrap();
        let input = Tensor::from_slice(&draws(11 * 5, 1)).view([11, 5]);
        let cotangent = Tensor::from_slice(&draws(4 * 3, 2)).view([4, 3]);
        let gradient = |rows: i64| {
            let tape = stack.forward_taped(&parameters, &input.narrow(0, 0, rows));
            let gradient = Flat::zeros(&layout, Device::Cpu);
            let _ = stack.backward(&parameters, &tape, cotangent.copy(), &gradient, false);
            gradient.export()
        };
        assert_eq!(gradient(11), gradient(4));
    }

    #[test]
    fn several_threads_make_no_difference_to_a_small_layer_and_little_to_a_large_one() {
        for (widths, tolerance) in [(&[32_usize, 8][..], 0.0), (&[256, 256, 1], 2e-6)] {
            let mut layout = Layout::new();
            let stack = Dense::push(&mut layout, "stack", 4, widths, Activation::Tanh, false);
            let host: Vec<f32> = draws(layout.len(), 0).iter().map(|x| x * 0.1).collect();
            let parameters = Flat::from_host(&layout, &host, Device::Cpu).unwrap();
            let input = Tensor::from_slice(&draws(256 * 4, 1)).view([256, 4]);
            let pass = |threads| {
                tch::set_num_threads(threads);
                let tape = stack.forward_taped(&parameters, &input);
                let gradient = Flat::zeros(&layout, Device::Cpu);
                let cotangent = tape.output().copy();
                let _ = stack.backward(&parameters, &tape, cotangent, &gradient, false);
                gradient.values().copy()
            };
            assert!(distance(&pass(2), &pass(1)) <= tolerance, "{widths:?}");
        }
    }

    #[test]
    fn a_flat_vector_follows_another() {
        let mut layout = Layout::new();
        layout.push("a", &[2, 2]);
        let source = Flat::from_host(&layout, &[1.0, 2.0, 3.0, 4.0], Device::Cpu).unwrap();
        let mut target = Flat::zeros(&layout, Device::Cpu);
        target.follow(&source, 0.25);
        assert_eq!(target.export(), [0.25, 0.5, 0.75, 1.0]);
        target.follow(&source, 1.0);
        assert_eq!(target.export(), source.export());
        assert_eq!(target.view(0).size(), [2, 2]);
        assert_eq!(target.export_prefix(3), [1.0, 2.0, 3.0]);
        assert!(target.import(&[0.0]).is_err());
    }
}
