//! What one round does to the parameters.

use serde::Serialize;
use tch::{Kind, Tensor};

use super::networks::{Actions, SacNetworks, standard_normals};
use super::{Sac, loss};
use crate::algorithms::replayed::{Columns, ReplayStatistics};
use crate::algorithms::{AlgorithmError, RoundContext};
use crate::experience::rollout::CompleteRound;
use crate::optimiser::Step;
use crate::progress::Stage;

/// What one update did; means are over its gradient steps, and absent where it took none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SacStatistics {
    /// Half the mean squared errors of both critics.
    pub critic_loss: Option<f64>,
    /// Mean absolute error of the first critic.
    pub td_error: Option<f64>,
    /// Mean value of the actions that were taken, by the first critic, in the last minibatch.
    pub q_mean: Option<f64>,
    /// The largest of them.
    pub q_max: Option<f64>,
    /// Mean entropy of the policy, in nats; of a continuous one, minus the mean log-probability of the
    /// squashed actions that were drawn.
    pub entropy: Option<f64>,
    /// The entropy that the temperature aims at, in nats.
    pub target_entropy: f64,
    /// The weight of the entropy, alpha.
    pub temperature: f64,
    /// Mean norm of the gradients of the critics' steps, before clipping.
    pub gradient_norm: Option<f64>,
    /// Step size of the policy's optimiser.
    pub learning_rate: f64,
    /// The replay store.
    #[serde(flatten)]
    pub replay: ReplayStatistics,
    /// Gradient steps of the critics.
    pub gradient_steps: u64,
    /// Gradients that were not finite and so moved nothing.
    pub skipped_steps: u64,
}

/// What is kept of each gradient step until the end of the update.
#[derive(Default)]
pub(crate) struct Record {
    losses: Vec<Tensor>,
    errors: Vec<Tensor>,
    entropies: Vec<f64>,
    gradient_norms: Vec<f64>,
    skipped_steps: u64,
    /// Values of the actions of the last minibatch.
    values: Option<Tensor>,
}

/// Streams of noise in one gradient step.
#[derive(Clone, Copy)]
enum Draw {
    /// Of the next actions, for the critics' target.
    Next = 0,
    /// Of the actions that the policy is judged by.
    Policy = 1,
}

impl Sac {
    /// Stores one round, then takes the configured number of gradient steps, once enough has been
    /// collected.
    ///
    /// # Errors
    /// [`AlgorithmError::Replay`] where the round does not fit; nothing changes.
    pub(super) fn update(
        &mut self,
        round: &CompleteRound,
        mut context: RoundContext<'_>,
    ) -> Result<SacStatistics, AlgorithmError> {
        self.replay.insert(&round.unrolls)?;
        context.lap(Stage::Batch);

        let mut record = Record::default();
        let wanted = u64::from(self.config.gradient_steps);
        let mut step = 0;
        while self
            .replay
            .sample(context.index, step, wanted, context.progress)?
        {
            let columns = self.columns()?;
            let surprise = self.gradient_step(&columns, context.index, step, &mut record);
            self.replay.learnt(&surprise);
            step += 1;
        }
        context.lap(Stage::Update);
        Ok(record.finish(self))
    }

    /// The sampled batch on the device, with actions as the critics see them.
    fn columns(&self) -> Result<Columns, AlgorithmError> {
        let mut columns = self.replay.columns(&self.encoder, self.policy.device())?;
        columns.actions = self.networks.actions().scaled(&columns.actions);
        Ok(columns)
    }

    /// One gradient step of the critics; of policy and temperature where it is their turn; and the
    /// targets' step towards the critics. Returns how surprising each row was, `[N]`.
    pub(crate) fn gradient_step(
        &mut self,
        columns: &Columns,
        update: u64,
        step: u64,
        record: &mut Record,
    ) -> Tensor {
        let noise = self.noise(columns, update, step, Draw::Next);
        let surprise = self.critic_step(columns, noise, record);
        self.num_gradient_steps += 1;
        let delay = u64::from(self.config.policy_delay);
        if self.num_gradient_steps.is_multiple_of(delay) {
            // As many steps as were left out (T25).
            for repeat in 0..delay {
                let noise = self.noise(columns, update, step * delay + repeat, Draw::Policy);
                self.policy_step(columns, noise, record);
            }
        }
        self.target_critics
            .follow(&self.critics, self.config.target_tau);
        surprise
    }

    /// Noise for the actions of one draw; none is needed where they are discrete.
    fn noise(&self, columns: &Columns, update: u64, step: u64, draw: Draw) -> Option<Tensor> {
        match self.networks.actions() {
            Actions::Discrete => None,
            Actions::Continuous { .. } => {
                let extents = columns.actions.size();
                let (rows, dimension) = (extents[0] as usize, extents[1] as usize);
                let draw = 2 * step + draw as u64;
                let device = self.policy.device();
                Some(standard_normals(
                    self.seed, update, draw, rows, dimension, device,
                ))
            }
        }
    }

    /// What the target critics and the policy say about what follows, `[N]`.
    fn targets(&self, columns: &Columns, noise: Option<Tensor>) -> Tensor {
        let alpha = self.temperature();
        let networks = &self.networks;
        let next = networks.policy(&self.policy, &columns.next_inputs);
        if let Some(noise) = noise {
            let drawn = loss::draw(next.output(), noise);
            let inputs = SacNetworks::critic_inputs(&columns.next_inputs, Some(&drawn.actions));
            let values = networks.critics(&self.target_critics, &inputs).least();
            loss::soft_target(
                &columns.returns,
                &columns.discounts,
                &values.squeeze_dim(-1),
                &drawn.log_probs,
                alpha,
            )
        } else {
            let values = networks
                .critics(&self.target_critics, &columns.next_inputs)
                .least();
            let value = loss::discrete_value(next.output(), &values, alpha);
            columns.returns.addcmul(&columns.discounts, &value)
        }
    }

    /// One gradient step of the critics. Returns the mean absolute error of both for each row, `[N]`.
    pub(super) fn critic_step(
        &mut self,
        columns: &Columns,
        noise: Option<Tensor>,
        record: &mut Record,
    ) -> Tensor {
        let targets = self.targets(columns, noise);
        let networks = &self.networks;
        let is_discrete = matches!(networks.actions(), Actions::Discrete);
        let inputs =
            SacNetworks::critic_inputs(&columns.inputs, (!is_discrete).then_some(&columns.actions));
        let tapes = networks.critics(&self.critics, &inputs);
        // A discrete critic says the value of every action, a continuous one of that which was taken.
        let index = is_discrete.then(|| columns.actions.to_kind(Kind::Int64));
        let taken = [0, 1].map(|critic| {
            let values = tapes.values(critic);
            match &index {
                Some(index) => values.gather(1, index, false).squeeze_dim(-1),
                None => values.squeeze_dim(-1),
            }
        });
        let (errors, gradients) =
            loss::critic_errors([&taken[0], &taken[1]], &targets, &columns.weights);
        let mut critic = 0;
        let output_gradients = gradients.map(|gradient| {
            let gradient = gradient.unsqueeze(-1);
            let values = tapes.values(critic);
            critic += 1;
            match &index {
                Some(index) => Tensor::zeros_like(values).scatter_(1, index, &gradient),
                None => gradient,
            }
        });
        networks.critics_backward(
            &self.critics,
            &tapes,
            output_gradients,
            &self.critic_gradient,
        );
        let squares = errors[0].square() + errors[1].square();
        record
            .losses
            .push((squares * &columns.weights).mean(Kind::Float) * 0.5);
        let size = errors[0].abs();
        record.errors.push(size.mean(Kind::Float));
        record.values = Some(taken[0].shallow_clone());
        let surprise = (size + errors[1].abs()) * 0.5;
        let gradient = self.critic_gradient.values().shallow_clone();
        let learning_rate = self.config.critic_learning_rate;
        match self
            .critic_adam
            .step(self.critics.values_mut(), gradient, learning_rate)
        {
            Step::Taken { gradient_norm } => record.gradient_norms.push(gradient_norm),
            Step::Skipped => record.skipped_steps += 1,
        }
        surprise
    }

    /// One gradient step of the policy, then one of the temperature.
    pub(super) fn policy_step(
        &mut self,
        columns: &Columns,
        noise: Option<Tensor>,
        record: &mut Record,
    ) {
        let alpha = self.temperature();
        let networks = &self.networks;
        let tape = networks.policy(&self.policy, &columns.inputs);
        let (entropy, output_gradient) = if let Some(noise) = noise {
            let drawn = loss::draw(tape.output(), noise);
            let of_actions = self.action_gradient(columns, &drawn.actions);
            let entropy = -drawn.log_probs.mean(Kind::Float).double_value(&[]);
            (entropy, loss::policy_gradient(&drawn, &of_actions, alpha))
        } else {
            let values = networks.critics(&self.critics, &columns.inputs).least();
            let (entropy, gradient) = loss::discrete_policy_gradient(tape.output(), &values, alpha);
            (entropy.mean(Kind::Float).double_value(&[]), gradient)
        };
        networks.policy_backward(&self.policy, &tape, output_gradient, &self.policy_gradient);
        let gradient = self.policy_gradient.values().shallow_clone();
        let learning_rate = self.config.learning_rate;
        if self
            .policy_adam
            .step(self.policy.values_mut(), gradient, learning_rate)
            == Step::Skipped
        {
            record.skipped_steps += 1;
            return;
        }
        record.entropies.push(entropy);
        if self.config.learns_temperature {
            let gradient = loss::temperature_gradient(entropy, self.target_entropy) as f32;
            self.temperature_adam.step(
                &mut self.log_temperature,
                Tensor::from_slice(&[gradient]),
                self.config.temperature_learning_rate,
            );
        }
    }

    /// The gradient of the mean of the lesser critic's values by the actions, `[N, dimension]`.
    fn action_gradient(&self, columns: &Columns, actions: &Tensor) -> Tensor {
        let networks = &self.networks;
        let inputs = SacNetworks::critic_inputs(&columns.inputs, Some(actions));
        let tapes = networks.critics(&self.critics, &inputs);
        let rows = actions.size()[0] as f64;
        // Each row's gradient goes through the critic that values it less; equal ones share it.
        let (first, second) = (tapes.values(0), tapes.values(1));
        let share = (first.lt_tensor(second).to_kind(Kind::Float)
            + first.le_tensor(second).to_kind(Kind::Float))
            / (2.0 * rows);
        let rest = share.neg() + 1.0 / rows;
        let width = columns.inputs.size()[1];
        networks
            .critics_input_gradient(&self.critics, &tapes, [share, rest])
            .narrow(1, width, actions.size()[1])
    }
}

impl Record {
    pub(super) fn finish(self, sac: &Sac) -> SacStatistics {
        let mean_of = |tensors: &[Tensor]| {
            (!tensors.is_empty()).then(|| {
                Tensor::stack(tensors, 0)
                    .mean(Kind::Float)
                    .double_value(&[])
            })
        };
        let mean = |values: &[f64]| {
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let (q_mean, q_max) = self
            .values
            .map(|values| {
                let mean = values.mean(Kind::Float).double_value(&[]);
                (mean, values.max().double_value(&[]))
            })
            .unzip();
        SacStatistics {
            critic_loss: mean_of(&self.losses),
            td_error: mean_of(&self.errors),
            q_mean,
            q_max,
            entropy: mean(&self.entropies),
            target_entropy: sac.target_entropy,
            temperature: sac.temperature(),
            gradient_norm: mean(&self.gradient_norms),
            learning_rate: sac.config.learning_rate,
            replay: sac.replay.statistics(),
            gradient_steps: self.gradient_norms.len() as u64,
            skipped_steps: self.skipped_steps,
        }
    }
}
