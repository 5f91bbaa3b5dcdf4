//! The layer that remembers: between the hidden layers and the head of a recurrent policy, with a
//! state for each environment that is zero where an episode begins.
//!
//! Both cells are PyTorch's, in its order of the gates and with both of its biases, so that
//! `torch.nn.LSTMCell` and `GRUCell` take a policy's tensors as they are. The two biases of a gate
//! are always added, except for the candidate of a GRU, whose recurrent one the reset gate scales;
//! one layout serves both cells.

#![expect(
    clippy::inline_always,
    reason = "a function must be compiled with the vector instructions of its caller"
)]

use pulp::Simd;
use serde::{Deserialize, Serialize};

use super::dense::{Dense, Input, Rows};
use super::layout::Layout;
use super::math;
use super::spec::{MAX_WIDTH, SpecError, check_width};

/// Widest recurrent layer: the gates of all units are one row, and as wide as a layer may be.
const MAX_UNITS: usize = MAX_WIDTH / 4;

/// What a recurrent layer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecurrentCell {
    /// Long short-term memory with input, forget and output gates, without peepholes.
    ///
    /// With `a` the sums of both products and both biases: `c' = σ(a_f) c + σ(a_i) tanh(a_g)` and
    /// `h' = σ(a_o) tanh(c')`. The gates lie in the order i, f, g, o; the state is `[h, c]`.
    ///
    /// # Source
    /// Hochreiter and Schmidhuber 1997, "Long short-term memory"; the forget gate is that of Gers,
    /// Schmidhuber and Cummins 2000, "Learning to forget".
    Lstm,
    /// The gated recurrent unit.
    ///
    /// With `x` the input's product and bias and `u` the state's: `r = σ(x_r + u_r)`,
    /// `z = σ(x_z + u_z)`, `n = tanh(x_n + r u_n)` and `h' = (1 - z) n + z h`. The gates lie in the
    /// order r, z, n; the state is `[h]`.
    ///
    /// # Source
    /// Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder"; as in PyTorch
    /// the reset gate scales the product, and not the state before it.
    Gru,
}

impl RecurrentCell {
    /// Its name in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lstm => "lstm",
            Self::Gru => "gru",
        }
    }

    const fn num_gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }
}

/// The recurrent layer of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recurrent {
    /// Its equations.
    pub cell: RecurrentCell,
    /// Outputs, `H`.
    pub units: usize,
}

impl Recurrent {
    /// Values that a step leaves to the next one; the first `H` of them are the layer's outputs.
    #[must_use]
    pub const fn state_width(&self) -> usize {
        match self.cell {
            RecurrentCell::Lstm => 2 * self.units,
            RecurrentCell::Gru => self.units,
        }
    }

    /// Values that all gates together have, `G`.
    #[must_use]
    pub const fn gate_width(&self) -> usize {
        self.cell.num_gates() * self.units
    }

    pub(super) fn validate(&self) -> Result<(), SpecError> {
        check_width("recurrent.units", self.units)?;
        if self.units > MAX_UNITS {
            return Err(SpecError::RecurrentUnits {
                got: self.units,
                most: MAX_UNITS,
            });
        }
        Ok(())
    }

    /// Parameters of the layer on so many inputs.
    pub(super) fn num_parameters(&self, inputs: usize) -> u128 {
        self.gate_width() as u128 * (inputs as u128 + self.units as u128 + 2)
    }

    /// Lays out the layer on so many inputs: `weight_ih` `[G, inputs]` and `bias_ih` `[G]`, which
    /// the input meets, then `weight_hh` `[G, H]` and `bias_hh` `[G]`, which the state meets.
    pub(super) fn push(&self, layout: &mut Layout, inputs: usize) {
        for (name, inputs) in [("ih", inputs), ("hh", self.units)] {
            let gates = self.gate_width();
            layout.push(format!("policy.recurrent.weight_{name}"), &[gates, inputs]);
            layout.push(format!("policy.recurrent.bias_{name}"), &[gates]);
        }
    }
}

/// The packed recurrent layer of one parameter version.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) spec: Recurrent,
    /// What the input meets.
    pub(super) from_input: Dense,
    /// What the state meets.
    pub(super) from_state: Dense,
}

impl Cell {
    /// Takes one step of each row: `state` is before it the state that the step starts from, and
    /// after it the one that it leaves, whose first values of each row are the layer's outputs.
    ///
    /// Each gate adds the two sums that [`Dense`] gives; all that follows is a function of one unit
    /// of one row.
    ///
    /// # Shapes
    /// `state`: `[rows, S]`; each of `gates` has room for `[rows, width]` of the packed layers.
    #[inline(always)]
    pub(super) fn step<S: Simd>(
        &self,
        simd: S,
        input: Input<'_>,
        state: &mut [f32],
        gates: &mut [Vec<f32>; 2],
    ) {
        let stride = self.spec.state_width();
        let width = self.from_input.width;
        let rows = state.len() / stride;
        let [x, u] = gates.each_mut().map(|gates| &mut gates[..rows * width]);
        self.from_input.forward(simd, input, x);
        let before = Rows {
            values: state,
            stride,
        };
        self.from_state.forward(simd, Input::Rows(before), u);
        let gates = x.chunks_exact(width).zip(u.chunks_exact(width));
        for (state, (x, u)) in state.chunks_exact_mut(stride).zip(gates) {
            match self.spec.cell {
                RecurrentCell::Lstm => lstm(x, u, state),
                RecurrentCell::Gru => gru(x, u, state),
            }
        }
    }
}

/// The gates of one row, each of which has a value for each unit.
#[inline(always)]
fn split<const GATES: usize>(gates: &[f32], units: usize) -> [&[f32]; GATES] {
    std::array::from_fn(|gate| &gates[gate * units..][..units])
}

/// [`RecurrentCell::Lstm`] for one row, `state` being `[h, c]`.
#[inline(always)]
fn lstm(x: &[f32], u: &[f32], state: &mut [f32]) {
    let units = state.len() / 2;
    let (hidden, cell) = state.split_at_mut(units);
    let [x_i, x_f, x_g, x_o] = split(x, units);
    let [u_i, u_f, u_g, u_o] = split(u, units);
    for j in 0..units {
        let input = math::sigmoid(x_i[j] + u_i[j]);
        let forget = math::sigmoid(x_f[j] + u_f[j]);
        let candidate = math::tanh(x_g[j] + u_g[j]);
        let output = math::sigmoid(x_o[j] + u_o[j]);
        cell[j] = forget.mul_add(cell[j], input * candidate);
        hidden[j] = output * math::tanh(cell[j]);
    }
}

/// [`RecurrentCell::Gru`] for one row, `state` being `[h]`.
#[inline(always)]
fn gru(x: &[f32], u: &[f32], state: &mut [f32]) {
    let units = state.len();
    let [x_r, x_z, x_n] = split(x, units);
    let [u_r, u_z, u_n] = split(u, units);
    for j in 0..units {
        let reset = math::sigmoid(x_r[j] + u_r[j]);
        let update = math::sigmoid(x_z[j] + u_z[j]);
        let candidate = math::tanh(reset.mul_add(u_n[j], x_n[j]));
        state[j] = update.mul_add(state[j] - candidate, candidate);
    }
}
