//! Fully connected layers with a backward pass that is derived by hand: a handful of operations a
//! layer, which write the gradient where the optimiser reads it. Off-policy algorithms take many
//! small gradient steps, where a graph costs as much as the arithmetic.

use rookery_common::policy::layout::Layout;
use rookery_common::policy::spec::Activation;
use tch::{Kind, Tensor};

use super::flat::Flat;

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

impl Tape {
    /// What came out, `[N, outputs]`.
    pub fn output(&self) -> &Tensor {
        &self.values[self.values.len() - 1]
    }

    /// What a pass over the first `rows` rows alone would have left: views of this.
    #[must_use]
    pub fn first(&self, rows: i64) -> Self {
        let values = self.values.iter();
        Self {
            values: values.map(|value| value.narrow(0, 0, rows)).collect(),
        }
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
        let mut value = input.shallow_clone();
        for layer in 0..self.weights.len() {
            value = self.layer(parameters, layer, &value);
        }
        value
    }

    /// As [`Dense::forward`], and keeps what [`Dense::backward`] needs.
    #[must_use]
    pub fn forward_taped(&self, parameters: &Flat, input: &Tensor) -> Tape {
        let mut values = Vec::with_capacity(self.weights.len() + 1);
        values.push(input.shallow_clone());
        for layer in 0..self.weights.len() {
            let next = self.layer(parameters, layer, &values[layer]);
            values.push(next);
        }
        Tape { values }
    }

    fn layer(&self, parameters: &Flat, layer: usize, input: &Tensor) -> Tensor {
        let index = self.weights[layer];
        let mut output = parameters
            .view(index + 1)
            .addmm(input, parameters.transposed(index));
        if layer + 1 < self.weights.len() || self.is_trunk {
            match self.activation {
                Activation::Tanh => drop(output.tanh_()),
                Activation::Relu => drop(output.relu_()),
            }
        }
        output
    }

    /// Writes the gradient of every weight and bias to its place in `gradient`, given that of the
    /// output. Returns the gradient of the input where it is wanted.
    ///
    /// # Shapes
    /// `output_gradient` is `[N, outputs]` and is overwritten; the result `[N, inputs]`.
    pub fn backward(
        &self,
        parameters: &Flat,
        tape: &Tape,
        output_gradient: Tensor,
        gradient: &Flat,
        wants_input: bool,
    ) -> Option<Tensor> {
        let mut flowing = output_gradient;
        for (layer, &index) in self.weights.iter().enumerate().rev() {
            flowing = self.through_activation(tape, layer, flowing);
            let _ = flowing
                .tr()
                .mm_out(gradient.view(index), &tape.values[layer]);
            let _ = flowing.sum_intlist_out(gradient.view(index + 1), 0_i64, false, None::<Kind>);
            if layer == 0 && !wants_input {
                return None;
            }
            flowing = flowing.mm(parameters.view(index));
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
        let mut flowing = output_gradient;
        for (layer, &index) in self.weights.iter().enumerate().rev() {
            flowing = self
                .through_activation(tape, layer, flowing)
                .mm(parameters.view(index));
        }
        flowing
    }

    /// Turns the gradient of a layer's output into that of its sum.
    fn through_activation(&self, tape: &Tape, layer: usize, flowing: Tensor) -> Tensor {
        if layer + 1 == self.weights.len() && !self.is_trunk {
            return flowing;
        }
        let output = &tape.values[layer + 1];
        match self.activation {
            // Both derivatives follow from the output: 1 - y^2, and 1 where y > 0.
            Activation::Tanh => Tensor::tanh_backward(&flowing, output),
            Activation::Relu => output.threshold_backward(&flowing, 0.0),
        }
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
            for (widths, is_trunk) in [
                (&[5_usize, 4, 3][..], false),
                (&[6, 2], true),
                (&[1], false),
            ] {
                let mut layout = Layout::new();
                let stack = Dense::push(&mut layout, "stack", 7, widths, activation, is_trunk);
                let host = draws(layout.len(), 0);
                let parameters = Flat::from_host(&layout, &host, Device::Cpu).unwrap();
                let input = Tensor::from_slice(&draws(9 * 7, 1)).view([9, 7]);
                let outputs = *widths.last().unwrap() as i64;
                let cotangent =
                    Tensor::from_slice(&draws(9 * outputs as usize, 2)).view([9, outputs]);

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
                assert!(distance(tape.output(), &value.detach()) < 1e-6);
                assert!(distance(&stack.forward(&parameters, &input), tape.output()) == 0.0);
                let gradient = Flat::zeros(&layout, Device::Cpu);
                let of_input = stack
                    .backward(&parameters, &tape, cotangent.copy(), &gradient, true)
                    .unwrap();
                assert!(distance(gradient.values(), &expected[0]) < 1e-6);
                assert!(distance(&of_input, &expected[1]) < 1e-6);
                let alone = stack.input_gradient(&parameters, &tape, cotangent.copy());
                assert!(distance(&alone, &expected[1]) < 1e-6);
            }
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
