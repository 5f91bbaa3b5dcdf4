//! Fully connected layers with a backward pass that is derived by hand: a handful of operations a
//! layer, which write the gradient where the optimiser reads it. Off-policy algorithms take many
//! small gradient steps, where a graph costs as much as the arithmetic. Layers of the usual sizes have kernels of
//! their own on a processor: see `docs/decisions/0031-small-layers.md`.

mod host;

use host::{Layer, Stack};
use rookery_common::policy::layout::Layout;
use rookery_common::policy::spec::Activation;
use tch::{Kind, Tensor};

use super::flat::Flat;

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
        let [output] = Self::forward_each([self], parameters, input);
        output
    }

    /// As [`Dense::forward`] of stacks that have their parameters in one vector and see the same input.
    pub fn forward_each<const N: usize>(
        networks: [&Self; N],
        parameters: &Flat,
        input: &Tensor,
    ) -> [Tensor; N] {
        Self::outputs(networks, parameters, input, false)
            .map(|mut outputs| outputs.pop().unwrap_or_else(|| input.shallow_clone()))
    }

    /// As [`Dense::forward`], and keeps what [`Dense::backward`] needs.
    #[must_use]
    pub fn forward_taped(&self, parameters: &Flat, input: &Tensor) -> Tape {
        let [tape] = Self::forward_each_taped([self], parameters, input);
        tape
    }

    /// As [`Dense::forward_each`], and keeps what [`Dense::backward_each`] needs.
    #[must_use]
    pub fn forward_each_taped<const N: usize>(
        networks: [&Self; N],
        parameters: &Flat,
        input: &Tensor,
    ) -> [Tape; N] {
        let input = input.contiguous();
        Self::outputs(networks, parameters, &input, true).map(|outputs| Tape {
            values: [input.shallow_clone()].into_iter().chain(outputs).collect(),
        })
    }

    /// What comes out of the layers of each stack, of the last one in any case.
    fn outputs<const N: usize>(
        networks: [&Self; N],
        parameters: &Flat,
        input: &Tensor,
        keeps_all: bool,
    ) -> [Vec<Tensor>; N] {
        match stacks(networks, parameters) {
            Some(stacks) => host::forward(&stacks, &input.contiguous(), keeps_all),
            None => networks.map(|network| network.outputs_by_tensors(parameters, input)),
        }
    }

    /// What comes out of each layer by libtorch's operations.
    fn outputs_by_tensors(&self, parameters: &Flat, input: &Tensor) -> Vec<Tensor> {
        let mut outputs: Vec<Tensor> = Vec::with_capacity(self.weights.len());
        for (layer, &index) in self.weights.iter().enumerate() {
            let input = outputs.last().unwrap_or(input);
            let bias = parameters.view(index + 1);
            let mut output = bias.addmm(input, parameters.transposed(index));
            match self.activation_behind(layer) {
                None => {}
                Some(Activation::Tanh) => drop(output.tanh_()),
                Some(Activation::Relu) => drop(output.relu_()),
            }
            outputs.push(output);
        }
        outputs
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
        let (tapes, flowing) = ([tape], [output_gradient]);
        let places = Some(gradient);
        let [by_input] = Self::flow_back([self], parameters, tapes, flowing, places, wants_input);
        wants_input.then_some(by_input)
    }

    /// As [`Dense::backward`] of stacks that have their parameters in one vector, for these alone.
    pub fn backward_each<const N: usize>(
        networks: [&Self; N],
        parameters: &Flat,
        tapes: [&Tape; N],
        output_gradients: [Tensor; N],
        gradient: &Flat,
    ) {
        let places = Some(gradient);
        let _ = Self::flow_back(networks, parameters, tapes, output_gradients, places, false);
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
        let [by_input] = Self::input_gradients([self], parameters, [tape], [output_gradient]);
        by_input
    }

    /// As [`Dense::input_gradient`] of stacks that have their parameters in one vector.
    pub fn input_gradients<const N: usize>(
        networks: [&Self; N],
        parameters: &Flat,
        tapes: [&Tape; N],
        output_gradients: [Tensor; N],
    ) -> [Tensor; N] {
        Self::flow_back(networks, parameters, tapes, output_gradients, None, true)
    }

    /// Carries gradients back to the inputs, or else to the sums of the first layers, and writes those of the
    /// parameters to their places where there are some.
    fn flow_back<const N: usize>(
        networks: [&Self; N],
        parameters: &Flat,
        tapes: [&Tape; N],
        output_gradients: [Tensor; N],
        gradient: Option<&Flat>,
        wants_inputs: bool,
    ) -> [Tensor; N] {
        let flowing = output_gradients.map(|gradient| gradient.contiguous());
        if let Some(stacks) = stacks(networks, parameters) {
            let places = gradient.map(|gradient| networks.map(|network| network.places(gradient)));
            let tapes = tapes.map(|tape| tape.values.as_slice());
            return host::flow_back(&stacks, tapes, flowing, places, wants_inputs);
        }
        let mut each = networks.into_iter().zip(tapes);
        flowing.map(|flowing| match each.next() {
            Some((network, tape)) => {
                network.by_tensors(parameters, tape, flowing, gradient, wants_inputs)
            }
            None => flowing,
        })
    }

    /// Where the gradients of weight and bias of each layer belong.
    fn places(&self, gradient: &Flat) -> Vec<[Tensor; 2]> {
        let of =
            |&index: &usize| [index, index + 1].map(|index| gradient.view(index).shallow_clone());
        self.weights.iter().map(of).collect()
    }

    /// [`Dense::flow_back`] of one stack by libtorch's operations.
    fn by_tensors(
        &self,
        parameters: &Flat,
        tape: &Tape,
        mut flowing: Tensor,
        gradient: Option<&Flat>,
        wants_input: bool,
    ) -> Tensor {
        for (layer, &index) in self.weights.iter().enumerate().rev() {
            if let Some(activation) = self.activation_behind(layer) {
                let output = first_rows(&tape.values[layer + 1], &flowing);
                flowing = match activation {
                    // Both derivatives follow from the output: 1 - y^2, and 1 where y > 0.
                    Activation::Tanh => Tensor::tanh_backward(&flowing, &output),
                    Activation::Relu => output.threshold_backward(&flowing, 0.0),
                };
            }
            if let Some(gradient) = gradient {
                let input = first_rows(&tape.values[layer], &flowing);
                let (by_weight, by_bias) = (gradient.view(index), gradient.view(index + 1));
                let _ = flowing.tr().mm_out(by_weight, &input);
                let _ = flowing.sum_intlist_out(by_bias, 0_i64, false, None::<Kind>);
            }
            if layer > 0 || wants_input {
                flowing = flowing.mm(parameters.view(index));
            }
        }
        flowing
    }
}

/// The stacks where they have kernels of their own.
fn stacks<'a, const N: usize>(
    networks: [&Dense; N],
    parameters: &'a Flat,
) -> Option<[Stack<'a>; N]> {
    let of = |network: &Dense| -> Option<Stack<'a>> {
        let layers = network.weights.iter().enumerate().map(|(layer, &index)| {
            let (weight, bias) = (parameters.view(index), parameters.view(index + 1));
            let is_near = weight.numel() <= NEAR_WEIGHTS;
            let layer = Layer::new(weight, bias, network.activation_behind(layer));
            layer.filter(|_| is_near)
        });
        layers.collect::<Option<Vec<_>>>().map(Stack)
    };
    let stacks: Option<Vec<Stack<'a>>> = networks.into_iter().map(of).collect();
    stacks?.try_into().ok()
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
    use crate::tensors::to_host;

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
    fn the_number_of_threads_makes_no_difference() {
        let mut layout = Layout::new();
        let [first, second] = ["first", "second"].map(|name| {
            Dense::push(
                &mut layout,
                name,
                4,
                &[256, 256, 1],
                Activation::Tanh,
                false,
            )
        });
        let networks = [&first, &second];
        let host: Vec<f32> = draws(layout.len(), 0).iter().map(|x| x * 0.1).collect();
        let parameters = Flat::from_host(&layout, &host, Device::Cpu).unwrap();
        let input = Tensor::from_slice(&draws(301 * 4, 1)).view([301, 4]);
        let pass = |threads| {
            tch::set_num_threads(threads);
            let tapes = Dense::forward_each_taped(networks, &parameters, &input);
            let tapes = tapes.each_ref();
            let cotangents = || tapes.map(|tape| tape.output().copy());
            let gradient = Flat::zeros(&layout, Device::Cpu);
            Dense::backward_each(networks, &parameters, tapes, cotangents(), &gradient);
            let by_input = Dense::input_gradients(networks, &parameters, tapes, cotangents());
            let outputs = Dense::forward_each(networks, &parameters, &input);
            let [by_input, outputs] = [by_input, outputs].map(|of| of.map(|of| to_host(&of)));
            (gradient.export(), by_input, outputs)
        };
        let alone = pass(1);
        assert!(alone.0.iter().all(|value| *value != 0.0));
        assert_eq!(pass(2), alone);
        assert_eq!(pass(5), alone);
    }

    #[test]
    fn a_stack_without_layers_changes_nothing() {
        let layout = Layout::new();
        let stack = Dense::existing(Vec::new(), Activation::Relu, true);
        let parameters = Flat::zeros(&layout, Device::Cpu);
        let input = Tensor::from_slice(&draws(6, 0)).view([2, 3]);
        assert_eq!(stack.forward(&parameters, &input), input);
        let tape = stack.forward_taped(&parameters, &input);
        assert_eq!(*tape.output(), input);
        let gradient = Flat::zeros(&layout, Device::Cpu);
        let by_input = stack.backward(&parameters, &tape, input.copy(), &gradient, true);
        assert_eq!(by_input, Some(input.copy()));
        assert_eq!(
            stack.input_gradient(&parameters, &tape, input.copy()),
            input
        );
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
