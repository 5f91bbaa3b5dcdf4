//! What one round does to the parameters.

use rookery_common::policy::ValueDistribution;
use serde::Serialize;
use tch::{Kind, Tensor};

use super::Dqn;
use super::loss::{self, Loss};
use super::networks::Noise;
use crate::algorithms::replayed::{Columns, ReplayStatistics};
use crate::algorithms::{AlgorithmError, RoundContext};
use crate::experience::rollout::CompleteRound;
use crate::networks::Flat;
use crate::optimiser::Step;
use crate::progress::Stage;

/// What one update did; means are over its gradient steps, and absent where it took none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DqnStatistics {
    /// Mean weighted loss.
    pub loss: Option<f64>,
    /// Mean absolute error of the value, or what stands for it in a distribution.
    pub td_error: Option<f64>,
    /// Mean value of all actions in the last minibatch.
    pub q_mean: Option<f64>,
    /// The largest of them.
    pub q_max: Option<f64>,
    /// Probability with which the collected actions were random, where it is one for all shards.
    pub epsilon: Option<f64>,
    /// Mean norm of the gradients of the steps taken, before clipping.
    pub gradient_norm: Option<f64>,
    /// Step size of the optimiser.
    pub learning_rate: f64,
    /// The replay store.
    #[serde(flatten)]
    pub replay: ReplayStatistics,
    /// Gradient steps taken.
    pub gradient_steps: u64,
    /// Gradients that were not finite and so moved nothing.
    pub skipped_steps: u64,
}

/// What is kept of each gradient step until the end of the update, so that statistics cost one copy
/// to the host.
#[derive(Default)]
pub(crate) struct Record {
    /// Of each step the loss of each row, `[N]`, its weight and how surprising it was.
    losses: Vec<Tensor>,
    weights: Vec<Tensor>,
    surprises: Vec<Tensor>,
    gradient_norms: Vec<f64>,
    skipped_steps: u64,
    /// What the network said for the last minibatch, `[N, num_actions, outputs]`.
    outputs: Option<Tensor>,
}

/// Noise of one gradient step: of the network that is trained, of the one that chooses the next action and
/// of the target network.
pub(crate) struct StepNoise {
    pub(super) trained: Noise,
    pub(super) chooses: Noise,
    pub(super) target: Noise,
}

impl Dqn {
    /// Stores one round, then takes the configured number of gradient steps, once enough has been
    /// collected.
    ///
    /// # Errors
    /// [`AlgorithmError::Replay`] where the round does not fit; nothing changes.
    pub(super) fn update(
        &mut self,
        round: &CompleteRound,
        mut context: RoundContext<'_>,
    ) -> Result<DqnStatistics, AlgorithmError> {
        let before = context.env_steps;
        let steps_per_round = (round.unrolls.len() * context.shape.num_steps()) as u64;
        self.replay.insert(&round.unrolls)?;
        context.lap(Stage::Batch);

        let mut record = Record::default();
        let schedule = self.config.learning_rate_schedule;
        let learning_rate = schedule.at(self.config.learning_rate, context.progress);
        let wanted = u64::from(self.config.gradient_steps);
        let mut step = 0;
        while self
            .replay
            .sample(context.index, step, wanted, context.progress)?
        {
            context.lap(Stage::Batch);
            let columns = self.columns()?;
            context.lap(Stage::Copy);
            let noise = self.noise(context.index, step);
            let surprise = self.gradient_step(&columns, noise.as_ref(), learning_rate, &mut record);
            self.replay.learnt(surprise);
            // The schedule of the target network is one of environment steps (T27): each gradient step
            // stands for its share of the round's.
            let at = |step: u64| before + steps_per_round * step.min(wanted) / wanted;
            let every = self.config.target_update_every;
            if at(step + 1) / every > at(step) / every {
                self.target.follow(&self.online, self.config.target_tau);
            }
            step += 1;
            context.lap(Stage::Update);
        }
        let statistics = record.finish(self, before, learning_rate);
        self.replay.describe(context.distributions);
        context.lap(Stage::Update);
        Ok(statistics)
    }

    fn shown_epsilon(&self, env_steps: u64) -> Option<f64> {
        let is_shared = !self.config.noisy && !self.config.epsilon_per_shard;
        is_shared.then(|| super::config::epsilon(&self.config, env_steps))
    }

    /// The sampled batch on the device, with actions `[N]`.
    fn columns(&self) -> Result<Columns, AlgorithmError> {
        let mut columns = self.replay.columns(&self.encoder, self.online.device())?;
        columns.actions = columns.actions.view([-1]);
        Ok(columns)
    }

    fn noise(&self, update: u64, step: u64) -> Option<StepNoise> {
        let draw = |which| {
            let device = self.online.device();
            self.network
                .noise(self.seed, update, 3 * step + which, device)
        };
        self.network.is_noisy().then(|| StepNoise {
            trained: draw(0),
            chooses: draw(1),
            target: draw(2),
        })
    }

    /// One gradient step. Returns how surprising each row was, `[N]`.
    pub(crate) fn gradient_step(
        &mut self,
        columns: &Columns,
        noise: Option<&StepNoise>,
        learning_rate: f64,
        record: &mut Record,
    ) -> Tensor {
        let Columns {
            inputs,
            next_inputs,
            ..
        } = columns;
        let network = &self.network;
        let moved = |parameters: &Flat, noise: &Noise| network.perturbed(parameters, noise);
        let trained = noise.map(|noise| moved(&self.online, &noise.trained));
        let trained = trained.as_ref().unwrap_or(&self.online);
        let target = noise.map(|noise| moved(&self.target, &noise.target));
        let target = target.as_ref().unwrap_or(&self.target);

        let next = network.forward(target, next_inputs);
        let (tape, chooser) = match (self.config.double, noise) {
            (false, _) => (network.forward_taped(trained, inputs), None),
            (true, None) => {
                let (tape, chooser) = network.forward_both(trained, inputs, next_inputs);
                (tape, Some(chooser))
            }
            (true, Some(noise)) => {
                let chooses = moved(&self.online, &noise.chooses);
                let chooser = network.forward(&chooses, next_inputs);
                (network.forward_taped(trained, inputs), Some(chooser))
            }
        };
        let chooser = chooser.as_ref().unwrap_or(&next);
        let loss = self.loss(&tape.outputs, &next, chooser, columns);
        network.backward(trained, &tape, &loss.gradient, &self.gradient);
        if let Some(noise) = noise {
            network.spread_gradient(&noise.trained, &self.gradient);
        }
        record.outputs = Some(tape.outputs.shallow_clone());
        record.losses.push(loss.rows);
        record.weights.push(columns.weights.shallow_clone());
        record.surprises.push(loss.surprise.shallow_clone());

        let gradient = self.gradient.values().shallow_clone();
        match self
            .adam
            .step(self.online.values_mut(), gradient, learning_rate)
        {
            Step::Taken { gradient_norm } => record.gradient_norms.push(gradient_norm),
            Step::Skipped => record.skipped_steps += 1,
        }
        loss.surprise
    }

    /// The loss of what the network says, with its gradient by all outputs.
    ///
    /// # Shapes
    /// `outputs`, `next` and `chooser`, of which the next actions are the largest, are `[N, actions, outputs]`.
    fn loss(&self, outputs: &Tensor, next: &Tensor, chooser: &Tensor, columns: &Columns) -> Loss {
        let network = &self.network;
        let values = network.choices(chooser, &columns.next_inputs);
        let threshold = self.config.huber_threshold;
        let distribution = network.distribution();
        if distribution == ValueDistribution::Expectation
            && let Some(loss) =
                loss::expectation_on_host(outputs, next, &values, columns, threshold)
        {
            return loss;
        }
        let Columns {
            returns,
            discounts,
            weights,
            ..
        } = columns;
        let next = taken(next, &index_of(&values.argmax(-1, false), next));
        let index = index_of(&columns.actions.to_kind(Kind::Int64), outputs);
        let of_taken = taken(outputs, &index);
        let loss = match distribution {
            ValueDistribution::Expectation => {
                loss::expectation(&of_taken, &next, returns, discounts, weights, threshold)
            }
            ValueDistribution::Categorical { .. } => {
                let support = network.support(outputs.device());
                loss::categorical(&of_taken, &next, returns, discounts, weights, &support)
            }
            ValueDistribution::Quantiles { .. } => {
                loss::quantiles(&of_taken, &next, returns, discounts, weights, threshold)
            }
        };
        Loss {
            gradient: outputs
                .zeros_like()
                .scatter_(1, &index, &loss.gradient.unsqueeze(1)),
            ..loss
        }
    }
}

/// `actions` `[N]` as an index into the second axis of `outputs` `[N, actions, outputs]`.
fn index_of(actions: &Tensor, outputs: &Tensor) -> Tensor {
    let index = actions.view([-1, 1, 1]);
    match outputs.size()[2] {
        1 => index,
        num_outputs => index.expand([-1, 1, num_outputs], false),
    }
}

/// The outputs at an [index](index_of), `[N, outputs]`.
fn taken(outputs: &Tensor, index: &Tensor) -> Tensor {
    outputs.gather(1, index, false).squeeze_dim(1)
}

impl Record {
    pub(super) fn finish(self, dqn: &Dqn, env_steps: u64, learning_rate: f64) -> DqnStatistics {
        let stack = |tensors: &[Tensor]| {
            let is_any = !tensors.is_empty();
            is_any.then(|| Tensor::stack(tensors, 0))
        };
        let mean = |values: Tensor| values.mean(Kind::Float).double_value(&[]);
        let losses = stack(&self.losses).zip(stack(&self.weights));
        let num_taken = self.gradient_norms.len();
        let gradient_norm =
            (num_taken > 0).then(|| self.gradient_norms.iter().sum::<f64>() / num_taken as f64);
        let (q_mean, q_max) = self
            .outputs
            .map(|outputs| {
                let values = dqn.network.expected(&outputs);
                let mean = values.mean(Kind::Float).double_value(&[]);
                (mean, values.max().double_value(&[]))
            })
            .unzip();
        DqnStatistics {
            loss: losses.map(|(losses, weights)| mean(losses * weights)),
            td_error: stack(&self.surprises).map(mean),
            q_mean,
            q_max,
            epsilon: dqn.shown_epsilon(env_steps),
            gradient_norm,
            learning_rate,
            replay: dqn.replay.statistics(),
            gradient_steps: num_taken as u64,
            skipped_steps: self.skipped_steps,
        }
    }
}
