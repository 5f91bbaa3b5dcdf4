//! The recurrent layer over sequences of rows: what an actor's
//! [cell](rookery_common::policy::recurrent) does step by step, with a backward pass through time that
//! is derived by hand.
//!
//! The products with the inputs need no state, so one product serves the rows of all steps, forward
//! and backward. What is left for each step are the product with the state and what joins the gates;
//! the derivatives of the gates are computed for all steps at once, so that going back through a step
//! takes a handful of operations.

use rookery_common::policy::recurrent::{Recurrent, RecurrentCell};
use tch::{Kind, Tensor};

use super::flat::Flat;

/// Sequences of `B` environments, whose rows lie time-major: row `t * B + b`.
#[derive(Debug)]
pub struct Sequences {
    /// `[B, S]`: the state before the first row.
    initial_state: Tensor,
    /// For each row but the first: zero where an episode begins with it and one elsewhere, `[B, 1]`;
    /// none where no episode begins.
    kept: Vec<Option<Tensor>>,
}

impl Sequences {
    /// Sequences that begin in `initial_state`, in which an episode ended with each row that `ended`
    /// says, so that the next row sees a state of zeros (T17).
    ///
    /// # Shapes
    /// `initial_state` is `[B, S]` on any device, `ended` `[L - 1, B]` or more for rows of `L` steps.
    pub fn new(initial_state: Tensor, ended: &[bool]) -> Self {
        let num_envs = initial_state.size()[0];
        let mask: Vec<f32> = ended.iter().map(|&ended| f32::from(!ended)).collect();
        let kept = Tensor::from_slice(&mask)
            .view([-1, num_envs, 1])
            .to_device(initial_state.device())
            .unbind(0);
        // A product with ones would change no bit either, and costs a step as much as a gate.
        let kept = kept
            .into_iter()
            .zip(ended.chunks(num_envs as usize))
            .map(|(kept, ended)| ended.contains(&true).then_some(kept))
            .collect();
        Self {
            initial_state,
            kept,
        }
    }

    /// Number of environments, `B`.
    fn num_envs(&self) -> i64 {
        self.initial_state.size()[0]
    }

    /// The same tensors.
    fn shallow_clone(&self) -> Self {
        let kept = self.kept.iter();
        Self {
            initial_state: self.initial_state.shallow_clone(),
            kept: kept
                .map(|kept| kept.as_ref().map(Tensor::shallow_clone))
                .collect(),
        }
    }

    /// What row `t` sees of the state that the row before left, and what of a gradient goes back there.
    fn across(&self, t: usize, state: Tensor) -> Tensor {
        match t.checked_sub(1).and_then(|t| self.kept[t].as_ref()) {
            Some(kept) => state * kept,
            None => state,
        }
    }
}

/// The recurrent layer, whose parameters are tensors of a [`Flat`].
#[derive(Clone, Copy, Debug)]
pub(super) struct RecurrentLayer {
    spec: Recurrent,
    /// Index of `weight_ih` `[G, inputs]` in the layout; `bias_ih` `[G]`, `weight_hh` `[G, H]` and
    /// `bias_hh` `[G]` follow it.
    first: usize,
}

/// What a forward pass leaves for its backward pass, with `L` steps of `B` environments.
#[derive(Debug)]
pub(super) struct RecurrentTape {
    /// `[L * B, inputs]`.
    inputs: Tensor,
    /// The outputs, `[L * B, H]`.
    hidden: Tensor,
    /// What each row has seen of the outputs before it, `[L * B, H]`.
    hidden_before: Tensor,
    gates: Gates,
    sequences: Sequences,
}

/// What the gates of all rows were, each `[L * B, H]` or several side by side.
#[derive(Debug)]
enum Gates {
    Lstm {
        /// i, f, g and o, `[L * B, 4 H]`.
        gates: Tensor,
        cell: Tensor,
        cell_before: Tensor,
    },
    Gru {
        /// r, z and n, `[L * B, 3 H]`.
        gates: Tensor,
        /// What the reset gate scales: the state's share of n.
        scaled: Tensor,
    },
}

impl RecurrentTape {
    /// What came out, `[L * B, H]`.
    pub(super) fn output(&self) -> &Tensor {
        &self.hidden
    }

    /// The states that these rows have left, `[N, S]`.
    pub(super) fn states_after(&self, rows: &[i64]) -> Tensor {
        let rows = Tensor::from_slice(rows).to_device(self.hidden.device());
        let hidden = self.hidden.index_select(0, &rows);
        match &self.gates {
            Gates::Lstm { cell, .. } => Tensor::cat(&[hidden, cell.index_select(0, &rows)], 1),
            Gates::Gru { .. } => hidden,
        }
    }
}

impl RecurrentLayer {
    /// A layer that a layout has already: `first` is the index of its first tensor.
    pub(super) fn existing(spec: Recurrent, first: usize) -> Self {
        Self { spec, first }
    }

    /// Carries the states of `sequences` through rows of inputs.
    ///
    /// # Shapes
    /// `inputs` is `[L * B, inputs]`, time-major.
    pub(super) fn forward(
        &self,
        parameters: &Flat,
        inputs: &Tensor,
        sequences: &Sequences,
    ) -> RecurrentTape {
        match self.spec.cell {
            RecurrentCell::Lstm => self.forward_lstm(parameters, inputs, sequences),
            RecurrentCell::Gru => self.forward_gru(parameters, inputs, sequences),
        }
    }

    fn forward_lstm(
        &self,
        parameters: &Flat,
        inputs: &Tensor,
        sequences: &Sequences,
    ) -> RecurrentTape {
        let units = self.spec.units as i64;
        let num_envs = sequences.num_envs();
        let weight = parameters.view(self.first + 2).tr();
        // Both biases of every gate are added, so they need not wait for the state.
        let bias = parameters.view(self.first + 1) + parameters.view(self.first + 3);
        let gates = inputs.linear(parameters.view(self.first), Some(&bias));
        let mut before = sequences.initial_state.split(units, 1);
        let (mut hidden_before, mut cell_before) = (Vec::new(), Vec::new());
        let (mut hidden, mut cell) = (Vec::new(), Vec::new());
        for (t, mut gates) in gates.split(num_envs, 0).into_iter().enumerate() {
            let c_before = sequences.across(t, before.remove(1));
            let h_before = sequences.across(t, before.remove(0));
            let _ = gates.addmm_(&h_before, &weight);
            let mut parts = gates.split_with_sizes([2 * units, units, units], 1);
            let _ = (parts[0].sigmoid_(), parts[1].tanh_(), parts[2].sigmoid_());
            let (input, forget) = (
                parts[0].narrow(1, 0, units),
                parts[0].narrow(1, units, units),
            );
            let c = (forget * &c_before).addcmul(&input, &parts[1]);
            let h = &parts[2] * c.tanh();
            before = vec![h.shallow_clone(), c.shallow_clone()];
            hidden_before.push(h_before);
            cell_before.push(c_before);
            hidden.push(h);
            cell.push(c);
        }
        RecurrentTape {
            inputs: inputs.shallow_clone(),
            hidden: Tensor::cat(&hidden, 0),
            hidden_before: Tensor::cat(&hidden_before, 0),
            gates: Gates::Lstm {
                gates,
                cell: Tensor::cat(&cell, 0),
                cell_before: Tensor::cat(&cell_before, 0),
            },
            sequences: sequences.shallow_clone(),
        }
    }

    fn forward_gru(
        &self,
        parameters: &Flat,
        inputs: &Tensor,
        sequences: &Sequences,
    ) -> RecurrentTape {
        let units = self.spec.units as i64;
        let num_envs = sequences.num_envs();
        let (weight, bias) = (
            parameters.view(self.first + 2),
            parameters.view(self.first + 3),
        );
        let weight = weight.tr();
        let gates = inputs.linear(
            parameters.view(self.first),
            Some(parameters.view(self.first + 1)),
        );
        let mut before = sequences.initial_state.shallow_clone();
        let (mut hidden_before, mut hidden, mut scaled) = (Vec::new(), Vec::new(), Vec::new());
        for (t, gates) in gates.split(num_envs, 0).into_iter().enumerate() {
            let h_before = sequences.across(t, before);
            let from_state = bias
                .addmm(&h_before, &weight)
                .split_with_sizes([2 * units, units], 1);
            let mut parts = gates.split_with_sizes([2 * units, units], 1);
            parts[0] += &from_state[0];
            let _ = parts[0].sigmoid_();
            let (reset, update) = (
                parts[0].narrow(1, 0, units),
                parts[0].narrow(1, units, units),
            );
            let _ = parts[1].addcmul_(&reset, &from_state[1]).tanh_();
            let h = parts[1].lerp_tensor(&h_before, &update);
            before = h.shallow_clone();
            hidden_before.push(h_before);
            hidden.push(h);
            scaled.push(from_state[1].shallow_clone());
        }
        RecurrentTape {
            inputs: inputs.shallow_clone(),
            hidden: Tensor::cat(&hidden, 0),
            hidden_before: Tensor::cat(&hidden_before, 0),
            gates: Gates::Gru {
                gates,
                scaled: Tensor::cat(&scaled, 0),
            },
            sequences: sequences.shallow_clone(),
        }
    }

    /// Writes the gradient of the layer's parameters to their places in `gradient`, given that of the
    /// outputs, and returns that of the inputs. The initial state is data and has none.
    ///
    /// # Shapes
    /// `by_outputs` is `[L * B, H]`; the result `[L * B, inputs]`.
    ///
    /// # Source
    /// Backpropagation through time (Werbos 1990), cut where an episode begins and where the unroll
    /// does. With `a` the sums in the gates, the factors are, for the LSTM,
    /// `dL/da = dL/dc [g i (1 - i), c' f (1 - f), i (1 - g^2)]` of i, f and g, where `c'` is the state
    /// before, and `dL/dh tanh(c) o (1 - o)` of o; for the GRU with `A = (1 - z)(1 - n^2)` they are
    /// `dL/dh [A u r (1 - r), (h' - n) z (1 - z), A]`, the last one times r towards the state.
    pub(super) fn backward(
        &self,
        parameters: &Flat,
        tape: &RecurrentTape,
        by_outputs: &Tensor,
        gradient: &Flat,
    ) -> Tensor {
        let (by_input_gates, by_state_gates) = match &tape.gates {
            Gates::Lstm {
                gates,
                cell,
                cell_before,
            } => {
                let by_gates =
                    self.backward_lstm(parameters, tape, by_outputs, [gates, cell, cell_before]);
                (by_gates.shallow_clone(), by_gates)
            }
            Gates::Gru { gates, scaled } => {
                self.backward_gru(parameters, tape, by_outputs, [gates, scaled])
            }
        };
        for (index, by_gates, seen) in [
            (self.first, &by_input_gates, &tape.inputs),
            (self.first + 2, &by_state_gates, &tape.hidden_before),
        ] {
            let _ = by_gates.tr().mm_out(gradient.view(index), seen);
            let _ = by_gates.sum_intlist_out(gradient.view(index + 1), 0_i64, false, None::<Kind>);
        }
        by_input_gates.mm(parameters.view(self.first))
    }

    /// The gradient of the sums in the gates, `[L * B, 4 H]`.
    fn backward_lstm(
        &self,
        parameters: &Flat,
        tape: &RecurrentTape,
        by_outputs: &Tensor,
        [gates, cell, cell_before]: [&Tensor; 3],
    ) -> Tensor {
        let units = self.spec.units as i64;
        let weight = parameters.view(self.first + 2);
        let parts = gates.split(units, 1);
        let [input, forget, candidate, output] = [&parts[0], &parts[1], &parts[2], &parts[3]];
        let squashed = cell.tanh();
        // What a gradient of the output is one of the cell by.
        let through_cell = Tensor::tanh_backward(output, &squashed);
        let factors = Tensor::cat(
            &[
                Tensor::sigmoid_backward(candidate, input),
                Tensor::sigmoid_backward(cell_before, forget),
                Tensor::tanh_backward(input, candidate),
                Tensor::sigmoid_backward(&squashed, output),
            ],
            1,
        );
        let steps = |all: &Tensor| all.split(tape.sequences.num_envs(), 0);
        let (by_outputs, through_cell) = (steps(by_outputs), steps(&through_cell));
        let (factors, forget) = (steps(&factors), steps(forget));
        let mut by_gates = Vec::with_capacity(by_outputs.len());
        // What the step behind sends back by its h and c.
        let mut behind: Option<(Tensor, Tensor)> = None;
        for t in (0..by_outputs.len()).rev() {
            let (by_hidden, by_cell) = match behind {
                None => (by_outputs[t].shallow_clone(), None),
                Some((by_hidden, by_cell)) => (&by_outputs[t] + by_hidden, Some(by_cell)),
            };
            let by_cell = match by_cell {
                None => &by_hidden * &through_cell[t],
                Some(by_cell) => by_cell.addcmul(&by_hidden, &through_cell[t]),
            };
            let by = Tensor::cat(&[&by_cell, &by_cell, &by_cell, &by_hidden], 1) * &factors[t];
            behind = (t > 0).then(|| {
                (
                    tape.sequences.across(t, by.mm(weight)),
                    tape.sequences.across(t, by_cell * &forget[t]),
                )
            });
            by_gates.push(by);
        }
        by_gates.reverse();
        Tensor::cat(&by_gates, 0)
    }

    /// The gradient of the input's and of the state's share of the gates, each `[L * B, 3 H]`.
    fn backward_gru(
        &self,
        parameters: &Flat,
        tape: &RecurrentTape,
        by_outputs: &Tensor,
        [gates, scaled]: [&Tensor; 2],
    ) -> (Tensor, Tensor) {
        let units = self.spec.units as i64;
        let weight = parameters.view(self.first + 2);
        let parts = gates.split(units, 1);
        let [reset, update, candidate] = [&parts[0], &parts[1], &parts[2]];
        let of_candidate = Tensor::tanh_backward(&(1.0 - update), candidate);
        let of_reset = Tensor::sigmoid_backward(&(&of_candidate * scaled), reset);
        let of_update = Tensor::sigmoid_backward(&(&tape.hidden_before - candidate), update);
        let to_state = &of_candidate * reset;
        let input_factors = Tensor::cat(&[&of_reset, &of_update, &of_candidate], 1);
        let state_factors = Tensor::cat(&[&of_reset, &of_update, &to_state], 1);
        let steps = |all: &Tensor| all.split(tape.sequences.num_envs(), 0);
        let (by_outputs, update) = (steps(by_outputs), steps(update));
        let factors = steps(&state_factors);
        let (mut by_hidden_all, mut by_gates) = (Vec::new(), Vec::new());
        let mut behind: Option<Tensor> = None;
        for t in (0..by_outputs.len()).rev() {
            let by_hidden = match behind {
                None => by_outputs[t].shallow_clone(),
                Some(behind) => &by_outputs[t] + behind,
            };
            let by = by_hidden.repeat([1, 3]) * &factors[t];
            behind = (t > 0).then(|| {
                let kept = &by_hidden * &update[t];
                tape.sequences.across(t, kept.addmm(&by, weight))
            });
            by_hidden_all.push(by_hidden);
            by_gates.push(by);
        }
        by_hidden_all.reverse();
        by_gates.reverse();
        let by_input_gates = Tensor::cat(&by_hidden_all, 0).repeat([1, 3]) * input_factors;
        (by_input_gates, Tensor::cat(&by_gates, 0))
    }
}

#[cfg(test)]
mod tests {
    use rookery_common::policy::forward::{Network, Scratch};
    use rookery_common::policy::layout::Layout;
    use rookery_common::policy::{Activation, Inputs, PolicySpec};
    use rookery_common::seeds::{Purpose, Random};
    use rookery_common::spaces::Space;
    use tch::Device;

    use super::*;
    use crate::networks::{ActorCritic, ActorCriticSpec, CriticSpec, NetworkError};
    use crate::tensors::to_host;

    const INPUTS: usize = 5;
    const UNITS: usize = 9;
    const STEPS: usize = 12;
    const ENVS: usize = 4;

    fn draws(count: usize, position: u64) -> Vec<f32> {
        let mut random = Random::derive(3, Purpose::Initialisation, 0, position);
        (0..count)
            .map(|_| random.uniform(-1.0, 1.0) as f32)
            .collect()
    }

    fn tensor(position: u64, shape: &[usize]) -> Tensor {
        let shape_of: Vec<i64> = shape.iter().map(|extent| *extent as i64).collect();
        Tensor::from_slice(&draws(shape.iter().product(), position)).view(shape_of.as_slice())
    }

    /// A layer with its parameters.
    fn layer(cell: RecurrentCell) -> (RecurrentLayer, Layout, Flat) {
        let spec = Recurrent { cell, units: UNITS };
        let mut layout = Layout::new();
        for (name, inputs) in [("ih", INPUTS), ("hh", UNITS)] {
            let gates = spec.gate_width();
            layout.push(format!("weight_{name}"), &[gates, inputs]);
            layout.push(format!("bias_{name}"), &[gates]);
        }
        let parameters = Flat::from_host(&layout, &draws(layout.len(), 1), Device::Cpu);
        let layer = RecurrentLayer::existing(spec, 0);
        (layer, layout, parameters.unwrap())
    }

    fn close(got: &[f32], expected: &[f32]) {
        assert_eq!(got.len(), expected.len());
        for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
            let scale = expected.abs().max(1.0);
            let distance = (got - expected).abs();
            assert!(distance < 1e-5 * scale, "{index}: {got}, {expected}");
        }
    }

    /// libtorch's own layer over the rows of `inputs`, `[L, B, inputs]`, with a graph where the
    /// parameters, in the order of the layout, have one.
    fn libtorch(
        cell: RecurrentCell,
        parameters: &[Tensor],
        inputs: &Tensor,
        state: &Tensor,
    ) -> Tensor {
        let [weight_ih, bias_ih, weight_hh, bias_hh] = parameters else {
            panic!("a layer has four tensors")
        };
        let parameters = [weight_ih, weight_hh, bias_ih, bias_hh].map(Tensor::shallow_clone);
        let parts = state.unsqueeze(0).split(UNITS as i64, -1);
        match cell {
            RecurrentCell::Lstm => {
                let (outputs, ..) =
                    inputs.lstm(&parts, &parameters, true, 1, 0.0, false, false, false);
                outputs
            }
            RecurrentCell::Gru => {
                let (outputs, _) =
                    inputs.gru(&parts[0], &parameters, true, 1, 0.0, false, false, false);
                outputs
            }
        }
    }

    /// libtorch's layer over pieces that end where `ended` says, `[L, B, H]`.
    fn in_pieces(
        cell: RecurrentCell,
        parameters: &[Tensor],
        inputs: &Tensor,
        state: &Tensor,
        ended: &[bool],
    ) -> Tensor {
        let envs: Vec<Tensor> = (0..ENVS)
            .map(|env| {
                let mut state = state.narrow(0, env as i64, 1);
                let (mut first, mut pieces) = (0, Vec::new());
                for t in 0..STEPS {
                    if ended[t * ENVS + env] || t == STEPS - 1 {
                        let piece = inputs
                            .narrow(0, first as i64, (t + 1 - first) as i64)
                            .narrow(1, env as i64, 1);
                        pieces.push(libtorch(cell, parameters, &piece, &state));
                        (state, first) = (state.zeros_like(), t + 1);
                    }
                }
                Tensor::cat(&pieces, 0)
            })
            .collect();
        Tensor::cat(&envs, 1)
    }

    /// T17: environment 1 ends with step 4, environment 2 with steps 0 and 4, environment 3 with the
    /// last step; or none of them ends.
    #[test]
    fn t17_outputs_and_gradients_are_those_of_libtorchs_layers_and_autograd() {
        let mut ends = vec![false; STEPS * ENVS];
        for (t, env) in [(4, 1), (0, 2), (4, 2), (STEPS - 1, 3)] {
            ends[t * ENVS + env] = true;
        }
        for kind in [RecurrentCell::Lstm, RecurrentCell::Gru] {
            for ended in [&vec![false; STEPS * ENVS], &ends] {
                let (layer, layout, flat) = layer(kind);
                let state = tensor(6, &[ENVS, layer.spec.state_width()]);
                let inputs = tensor(5, &[STEPS, ENVS, INPUTS]).set_requires_grad(true);
                let leaves: Vec<Tensor> = (0..4)
                    .map(|index| flat.view(index).copy().set_requires_grad(true))
                    .collect();
                let expected = in_pieces(kind, &leaves, &inputs, &state, ended);
                let by_outputs = tensor(7, &[STEPS, ENVS, UNITS]);
                let loss = (&expected * &by_outputs).sum(None::<Kind>);
                let all: Vec<&Tensor> = leaves.iter().chain([&inputs]).collect();
                let gradients = Tensor::run_backward(&[loss], &all, false, false);

                let sequences = Sequences::new(state, ended);
                let rows = inputs.detach().view([-1, INPUTS as i64]);
                let tape = layer.forward(&flat, &rows, &sequences);
                close(&to_host(tape.output()), &to_host(&expected));
                let gradient = Flat::zeros(&layout, Device::Cpu);
                let by_outputs = by_outputs.view([-1, UNITS as i64]);
                let by_inputs = layer.backward(&flat, &tape, &by_outputs, &gradient);
                close(&to_host(&by_inputs), &to_host(&gradients[4]));
                for (index, expected) in gradients[..4].iter().enumerate() {
                    close(&to_host(gradient.view(index)), &to_host(expected));
                }
            }
        }
    }

    fn spec(cell: RecurrentCell, critic: CriticSpec) -> ActorCriticSpec {
        let observation = Space::bounded(&[-1.0; INPUTS], &[1.0; INPUTS]);
        let action = Space::bounded(&[-1.0; 2], &[1.0; 2]);
        let policy = PolicySpec::new(&observation, &action, vec![7], Activation::Tanh).unwrap();
        let recurrent = Recurrent { cell, units: UNITS };
        ActorCriticSpec {
            policy: policy.with_recurrent(Some(recurrent)).unwrap(),
            initial_log_std: 0.0,
            critic,
        }
    }

    #[test]
    fn the_actors_forward_pass_is_libtorchs() {
        for kind in [RecurrentCell::Lstm, RecurrentCell::Gru] {
            let network = ActorCritic::new(spec(kind, CriticSpec::Shared), 5, Device::Cpu).unwrap();
            let policy = &network.spec().policy;
            let actor = Network::new(policy, &network.export_policy()).unwrap();
            let observations = draws(STEPS * ENVS * INPUTS, 7);
            let mut state = draws(ENVS * policy.state_width(), 8);
            let initial = Tensor::from_slice(&state).view([ENVS as i64, -1]);
            let mut expected = Vec::new();
            for observations in observations.chunks(ENVS * INPUTS) {
                let mut outputs = vec![0.0; ENVS * policy.head_width()];
                let inputs = Inputs {
                    observations,
                    state: &mut state,
                };
                actor.forward(&mut Scratch::default(), inputs, &mut outputs);
                expected.extend(outputs);
            }
            let sequences = Sequences::new(initial, &[false; (STEPS - 1) * ENVS]);
            let inputs = network.encode(&observations).unwrap();
            let (got, _) = network.forward(&inputs, Some(&sequences));
            close(&to_host(&got.policy), &expected);
        }
    }

    #[test]
    fn t23_a_recurrent_layer_begins_orthogonal_and_without_biases() {
        let spec = spec(RecurrentCell::Lstm, CriticSpec::Shared);
        let network = ActorCritic::new(spec, 5, Device::Cpu).unwrap();
        let parameters = network.export();
        let of = |name: &str| {
            let slot = network.layout().find(&format!("policy.recurrent.{name}"));
            &parameters[slot.unwrap().range()]
        };
        assert!(of("bias_ih").iter().chain(of("bias_hh")).all(|b| *b == 0.0));
        for (name, columns) in [("weight_ih", 7), ("weight_hh", UNITS)] {
            let weight = Tensor::from_slice(of(name)).view([-1, columns as i64]);
            let squares = to_host(&weight.tr().matmul(&weight));
            let unit = Tensor::eye(columns as i64, (Kind::Float, Device::Cpu));
            close(&squares, &to_host(&unit));
        }
    }

    #[test]
    fn a_critic_with_layers_of_its_own_is_refused() {
        let spec = spec(RecurrentCell::Gru, CriticSpec::Separate(vec![7]));
        let refused = ActorCritic::new(spec, 5, Device::Cpu).unwrap_err();
        assert_eq!(refused, NetworkError::RecurrentCritic);
    }
}
