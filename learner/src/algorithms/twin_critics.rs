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
use crate::tensors::{host, host_mut};

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
        let networks = self.networks.each_ref();
        CriticTapes(Dense::forward_each_taped(
            networks,
            &self.parameters,
            inputs,
        ))
    }

    /// The lesser of the values of both that follow them, element by element.
    pub fn least_target(&self, inputs: &Tensor) -> Tensor {
        let [first, second] = Dense::forward_each(self.networks.each_ref(), &self.target, inputs);
        first.minimum(&second)
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
        let networks = self.networks.each_ref();
        let tapes = tapes.0.each_ref();
        let [mut total, second] =
            Dense::input_gradients(networks, &self.parameters, tapes, of_values);
        total += second;
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
        let loss = critic_loss([&taken[0], &taken[1]], targets, weights);
        let gradients = loss.gradients.map(|gradient| {
            let gradient = gradient.unsqueeze(-1);
            match index {
                Some(index) => tapes.values(0).zeros_like().scatter_(1, index, &gradient),
                None => gradient,
            }
        });
        Dense::backward_each(
            self.networks.each_ref(),
            &self.parameters,
            tapes.0.each_ref(),
            gradients,
            &self.gradient,
        );
        record.losses.push(loss.mean);
        record.errors.push(loss.error);
        record.values = Some(taken[0].shallow_clone());
        let gradient = self.gradient.values().shallow_clone();
        match self
            .adam
            .step(self.parameters.values_mut(), gradient, learning_rate)
        {
            Step::Taken { gradient_norm } => record.gradient_norms.push(gradient_norm),
            Step::Skipped => record.skipped_steps += 1,
        }
        loss.surprise
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

/// What [`critic_loss`] gives.
#[derive(Debug)]
pub struct CriticLoss {
    /// By the values of each critic, `[N]`.
    pub gradients: [Tensor; 2],
    /// Mean absolute error of both critics, `[N]`.
    pub surprise: Tensor,
    /// The loss, a scalar.
    pub mean: Tensor,
    /// Mean absolute error of the first critic, a scalar.
    pub error: Tensor,
}

/// Half the weighted squared error of both critics, `sum over critics of mean(w (Q - y)^2) / 2`, and its
/// gradients.
///
/// # Shapes
/// All are `[N]`.
pub fn critic_loss(values: [&Tensor; 2], targets: &Tensor, weights: &Tensor) -> CriticLoss {
    critic_loss_on_host(values, targets, weights)
        .unwrap_or_else(|| critic_loss_by_tensors(values, targets, weights))
}

fn critic_loss_by_tensors(values: [&Tensor; 2], targets: &Tensor, weights: &Tensor) -> CriticLoss {
    let errors = values.map(|values| values - targets);
    let scale = weights / targets.size()[0] as f64;
    let squares = errors[0].square() + errors[1].square();
    let size = errors[0].abs();
    CriticLoss {
        gradients: errors.each_ref().map(|error| error * &scale),
        mean: (squares * weights).mean(Kind::Float) * 0.5,
        error: size.mean(Kind::Float),
        surprise: (size + errors[1].abs()) * 0.5,
    }
}

/// In one pass, where dozens of small operations would cost as much as a layer.
fn critic_loss_on_host(
    values: [&Tensor; 2],
    targets: &Tensor,
    weights: &Tensor,
) -> Option<CriticLoss> {
    let mut gradients = values.map(Tensor::empty_like);
    let mut surprise = targets.empty_like();
    let [of_first, of_second] = &mut gradients;
    let written = host_mut(of_first)?.iter_mut().zip(host_mut(of_second)?);
    let written = written.zip(host_mut(&mut surprise)?);
    let values = host(values[0])?.iter().zip(host(values[1])?);
    let (targets, weights) = (host(targets)?, host(weights)?);
    let rows = targets.len() as f32;
    let (mut squares, mut sizes) = (0.0, 0.0);
    for ((((of_first, of_second), surprise), (first, second)), (target, weight)) in
        written.zip(values).zip(targets.iter().zip(weights))
    {
        let (first, second) = (first - target, second - target);
        *of_first = first * (weight / rows);
        *of_second = second * (weight / rows);
        *surprise = 0.5 * (first.abs() + second.abs());
        squares += f64::from((first * first + second * second) * weight);
        sizes += f64::from(first.abs());
    }
    let mean = |sum: f64| Tensor::from((sum / f64::from(rows)) as f32);
    Some(CriticLoss {
        gradients,
        surprise,
        mean: mean(0.5 * squares),
        error: mean(sizes),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::to_host;

    #[test]
    fn a_loss_in_one_pass_is_that_of_tensors() {
        let column = |seed: usize| {
            let of = |index: usize| ((index * 7 + seed * 13) % 29) as f32 / 29.0 - 0.5;
            Tensor::from_slice(&(0..37).map(of).collect::<Vec<f32>>())
        };
        let (first, second, targets) = (column(1), column(2), column(3));
        let weights = column(4).abs();
        let ours = critic_loss_on_host([&first, &second], &targets, &weights).unwrap();
        let theirs = critic_loss_by_tensors([&first, &second], &targets, &weights);
        for (ours, theirs) in [
            (&ours.gradients[0], &theirs.gradients[0]),
            (&ours.gradients[1], &theirs.gradients[1]),
            (&ours.surprise, &theirs.surprise),
            (&ours.mean, &theirs.mean),
            (&ours.error, &theirs.error),
        ] {
            assert_eq!(ours.size(), theirs.size());
            for (ours, theirs) in to_host(ours).iter().zip(to_host(theirs)) {
                assert!((ours - theirs).abs() <= 1e-6, "{ours} {theirs}");
            }
        }
    }
}
