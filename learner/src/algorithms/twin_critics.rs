//! Twin critics, as [soft actor-critic](super::sac) and [TD3](super::td3) train them: two networks of one
//! shape learn from the same targets, the lesser of their values counts, and copies follow them.
//!
//! # Source
//! Fujimoto, van Hoof and Meger 2018, "Addressing function approximation error in actor-critic methods",
//! section 4.2.

use rookery_common::policy::PolicySpec;
use rookery_common::policy::layout::Layout;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::bounded::initial;
use super::{AlgorithmError, AlgorithmState};
use crate::networks::init::VALUE_HEAD_GAIN;
use crate::networks::{Dense, Flat, NetworkError, Tape};
use crate::optimiser::{Adam, AdamOptions, Step};

const TARGET: &str = "target_critics";
const ADAM: &str = "critic_adam";

/// Two critics, those that follow them, and their optimiser. Both are in one flat vector, so that one
/// optimiser trains them and one operation moves their targets.
#[derive(Debug)]
pub struct TwinCritics {
    layout: Layout,
    networks: [Dense; 2],
    parameters: Flat,
    target: Flat,
    gradient: Flat,
    adam: Adam,
}

/// What a forward pass of both critics leaves for its backward pass.
#[derive(Debug)]
pub struct CriticTapes([Tape; 2]);

impl CriticTapes {
    /// The values that one critic gave, `[N, 1]` or `[N, num_actions]`.
    pub fn values(&self, critic: usize) -> &Tensor {
        self.0[critic].output()
    }

    /// The lesser of both critics' values, element by element.
    pub fn least(&self) -> Tensor {
        self.values(0).minimum(self.values(1))
    }
}

/// What the critics' gradient steps of one update did; means are over its gradient steps, and absent where
/// it took none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CriticStatistics {
    /// Half the mean squared errors of both critics.
    pub critic_loss: Option<f64>,
    /// Mean absolute error of the first critic.
    pub td_error: Option<f64>,
    /// Mean value of the actions that were taken, by the first critic, in the last minibatch.
    pub q_mean: Option<f64>,
    /// The largest of them.
    pub q_max: Option<f64>,
    /// Mean norm of the gradients, before clipping.
    pub gradient_norm: Option<f64>,
    /// Gradient steps of the critics.
    pub gradient_steps: u64,
}

/// What is kept of each gradient step until the end of the update.
#[derive(Default)]
pub(crate) struct CriticRecord {
    losses: Vec<Tensor>,
    errors: Vec<Tensor>,
    gradient_norms: Vec<f64>,
    /// Values of the actions of the last minibatch.
    values: Option<Tensor>,
    /// Gradients that were not finite and so moved nothing.
    pub(crate) skipped_steps: u64,
}

impl CriticRecord {
    pub(crate) fn finish(self) -> CriticStatistics {
        let mean_of = |tensors: &[Tensor]| {
            (!tensors.is_empty()).then(|| {
                Tensor::stack(tensors, 0)
                    .mean(Kind::Float)
                    .double_value(&[])
            })
        };
        let (q_mean, q_max) = self
            .values
            .map(|values| {
                let mean = values.mean(Kind::Float).double_value(&[]);
                (mean, values.max().double_value(&[]))
            })
            .unzip();
        CriticStatistics {
            critic_loss: mean_of(&self.losses),
            td_error: mean_of(&self.errors),
            q_mean,
            q_max,
            gradient_norm: mean(&self.gradient_norms),
            gradient_steps: self.gradient_norms.len() as u64,
        }
    }
}

/// The mean, where there is something to take it of.
pub(crate) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

impl TwinCritics {
    /// Critics with hidden layers of the widths and the activation of `policy`, whose parameters are drawn
    /// from `seed` after the policy's, and whose targets equal them.
    #[must_use]
    pub fn new(
        policy: &PolicySpec,
        num_inputs: usize,
        num_outputs: usize,
        seed: u64,
        options: AdamOptions,
        device: Device,
    ) -> Self {
        let widths: Vec<usize> = policy.hidden.iter().copied().chain([num_outputs]).collect();
        let mut layout = Layout::new();
        let networks = [0, 1].map(|critic| {
            let name = format!("critic.{critic}");
            Dense::push(
                &mut layout,
                &name,
                num_inputs,
                &widths,
                policy.activation,
                false,
            )
        });
        let num_policy_tensors = policy.layout().tensors().len();
        let parameters = initial(&layout, VALUE_HEAD_GAIN, num_policy_tensors, seed, device);
        let mut target = Flat::zeros(&layout, device);
        target.follow(&parameters, 1.0);
        Self {
            gradient: Flat::zeros(&layout, device),
            adam: Adam::new(layout.len(), options, device),
            layout,
            networks,
            parameters,
            target,
        }
    }

    /// What a critic sees: the encoded observation, and beside it a continuous action in `[-1, 1]`.
    pub fn inputs(observations: &Tensor, actions: Option<&Tensor>) -> Tensor {
        match actions {
            Some(actions) => Tensor::cat(&[observations, actions], 1),
            None => observations.shallow_clone(),
        }
    }

    /// Both critics' values of what [`TwinCritics::inputs`] made.
    #[must_use]
    pub fn values(&self, inputs: &Tensor) -> CriticTapes {
        self.forward(&self.parameters, inputs)
    }

    /// The values of those that follow them.
    #[must_use]
    pub fn target_values(&self, inputs: &Tensor) -> CriticTapes {
        self.forward(&self.target, inputs)
    }

    fn forward(&self, parameters: &Flat, inputs: &Tensor) -> CriticTapes {
        CriticTapes(
            [0, 1].map(|critic: usize| self.networks[critic].forward_taped(parameters, inputs)),
        )
    }

    /// What one critic alone says.
    #[must_use]
    pub fn value(&self, critic: usize, inputs: &Tensor) -> Tape {
        self.networks[critic].forward_taped(&self.parameters, inputs)
    }

    /// The gradient of one critic's inputs, given that of its values; no parameter is touched (T25).
    pub fn input_gradient(&self, critic: usize, tape: &Tape, of_values: Tensor) -> Tensor {
        self.networks[critic].input_gradient(&self.parameters, tape, of_values)
    }

    /// The gradient of both critics' inputs, as [`TwinCritics::input_gradient`].
    pub fn input_gradients(&self, tapes: &CriticTapes, of_values: [Tensor; 2]) -> Tensor {
        let [first, second] = of_values;
        let mut total = self.input_gradient(0, &tapes.0[0], first);
        total += self.input_gradient(1, &tapes.0[1], second);
        total
    }

    /// One gradient step towards `targets`. Returns the mean absolute error of both critics for each row,
    /// `[N]`.
    ///
    /// # Shapes
    /// `targets` and `weights` are `[N]`. `index` holds the actions that were taken, `[N, 1]`, where
    /// critics say the values of all of them; where they say one there is none.
    pub(crate) fn step(
        &mut self,
        inputs: &Tensor,
        index: Option<&Tensor>,
        targets: &Tensor,
        weights: &Tensor,
        learning_rate: f64,
        record: &mut CriticRecord,
    ) -> Tensor {
        let tapes = self.values(inputs);
        let taken = [0, 1].map(|critic| {
            let values = tapes.values(critic);
            match index {
                Some(index) => values.gather(1, index, false).squeeze_dim(-1),
                None => values.squeeze_dim(-1),
            }
        });
        let (errors, gradients) = critic_errors([&taken[0], &taken[1]], targets, weights);
        for ((critic, tape), gradient) in self.networks.iter().zip(&tapes.0).zip(gradients) {
            let gradient = gradient.unsqueeze(-1);
            let of_values = match index {
                Some(index) => Tensor::zeros_like(tape.output()).scatter_(1, index, &gradient),
                None => gradient,
            };
            let _ = critic.backward(&self.parameters, tape, of_values, &self.gradient, false);
        }
        let squares = errors[0].square() + errors[1].square();
        record
            .losses
            .push((squares * weights).mean(Kind::Float) * 0.5);
        let size = errors[0].abs();
        record.errors.push(size.mean(Kind::Float));
        record.values = Some(taken[0].shallow_clone());
        let gradient = self.gradient.values().shallow_clone();
        match self
            .adam
            .step(self.parameters.values_mut(), gradient, learning_rate)
        {
            Step::Taken { gradient_norm } => record.gradient_norms.push(gradient_norm),
            Step::Skipped => record.skipped_steps += 1,
        }
        (size + errors[1].abs()) * 0.5
    }

    /// Moves those that follow by the share `tau`.
    pub fn follow(&mut self, tau: f64) {
        self.target.follow(&self.parameters, tau);
    }

    /// Adds what a checkpoint keeps of them to `state`, whose parameters end with theirs.
    #[must_use]
    pub fn save(&self, mut state: AlgorithmState) -> AlgorithmState {
        let target = self.target.export();
        state.arrays.insert(TARGET.to_owned(), target);
        if let Some(parameters) = state.arrays.get_mut(AlgorithmState::PARAMETERS) {
            parameters.extend(self.parameters.export());
        }
        state.with_adam(ADAM, self.adam.state())
    }

    /// Goes on from what [`TwinCritics::save`] kept. Returns the parameters before theirs, of which there
    /// must be `num_before`.
    ///
    /// # Errors
    /// [`AlgorithmError`] where the state is another network's.
    pub fn restore<'a>(
        &mut self,
        state: &'a AlgorithmState,
        num_before: usize,
    ) -> Result<&'a [f32], AlgorithmError> {
        let parameters = state.array(AlgorithmState::PARAMETERS)?;
        let expected = num_before + self.layout.len();
        let got = parameters.len();
        if got != expected {
            return Err(NetworkError::Parameters { expected, got }.into());
        }
        let (before, ours) = parameters.split_at(num_before);
        self.target.import(state.array(TARGET)?)?;
        self.adam.restore(&state.adam(ADAM)?)?;
        self.parameters.import(ours)?;
        Ok(before)
    }
}

/// Half the weighted squared error of both critics, `sum over critics of mean(w (Q - y)^2) / 2`.
///
/// Returns the errors of the first critic and of the second, `[N]` each, with the gradients of the loss by
/// their values.
pub fn critic_errors(
    values: [&Tensor; 2],
    targets: &Tensor,
    weights: &Tensor,
) -> ([Tensor; 2], [Tensor; 2]) {
    let errors = values.map(|values| values - targets);
    let scale = weights / targets.size()[0] as f64;
    let gradients = [0, 1].map(|critic: usize| &errors[critic] * &scale);
    (errors, gradients)
}

#[cfg(test)]
impl TwinCritics {
    /// Takes on parameters and those of the targets.
    pub(crate) fn import(&mut self, parameters: &[f32], target: &[f32]) {
        self.parameters.import(parameters).unwrap();
        self.target.import(target).unwrap();
    }

    /// The parameters, and those of the targets.
    pub(crate) fn export(&self) -> [Vec<f32>; 2] {
        [self.parameters.export(), self.target.export()]
    }

    /// The optimiser.
    pub(crate) fn adam(&self) -> &Adam {
        &self.adam
    }
}
