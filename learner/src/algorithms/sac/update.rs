//! What one round does to the parameters.

use serde::Serialize;
use tch::{Kind, Tensor};

use super::networks::Actions;
use super::{Sac, loss};
use crate::algorithms::bounded::standard_normals;
use crate::algorithms::replayed::{Columns, ReplayStatistics};
use crate::algorithms::twin_critics::{CriticRecord, CriticStatistics, TwinCritics, mean};
use crate::algorithms::{AlgorithmError, RoundContext};
use crate::experience::rollout::CompleteRound;
use crate::optimiser::Step;
use crate::progress::Stage;

/// What one update did; means are over its gradient steps, and absent where it took none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SacStatistics {
    /// The critics' gradient steps.
    #[serde(flatten)]
    pub critics: CriticStatistics,
    /// Mean entropy of the policy, in nats; of a continuous one, minus the mean log-probability of the
    /// squashed actions that were drawn.
    pub entropy: Option<f64>,
    /// The entropy that the temperature aims at, in nats.
    pub target_entropy: f64,
    /// The weight of the entropy, alpha.
    pub temperature: f64,
    /// Step size of the policy's optimiser.
    pub learning_rate: f64,
    /// The replay store.
    #[serde(flatten)]
    pub replay: ReplayStatistics,
    /// Gradients that were not finite and so moved nothing.
    pub skipped_steps: u64,
}

/// What is kept of each gradient step until the end of the update.
#[derive(Default)]
pub(crate) struct Record {
    critics: CriticRecord,
    entropies: Vec<f64>,
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
            context.lap(Stage::Batch);
            let columns = self.columns()?;
            context.lap(Stage::Copy);
            let surprise = self.gradient_step(&columns, context.index, step, &mut record);
            self.replay.learnt(surprise);
            step += 1;
            context.lap(Stage::Update);
        }
        let statistics = record.finish(self);
        self.replay.describe(context.distributions);
        context.lap(Stage::Update);
        Ok(statistics)
    }

    /// The sampled batch on the device, with actions as the critics see them.
    fn columns(&self) -> Result<Columns, AlgorithmError> {
        let mut columns = self.replay.columns(&self.encoder, self.policy.device())?;
        columns.actions = self.network.actions().scaled(&columns.actions);
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
        self.critics.follow(self.config.target_tau);
        surprise
    }

    /// Noise for the actions of one draw; none is needed where they are discrete.
    fn noise(&self, columns: &Columns, update: u64, step: u64, draw: Draw) -> Option<Tensor> {
        match self.network.actions() {
            Actions::Discrete => None,
            Actions::Continuous(_) => {
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
        let next = self.network.outputs(&self.policy, &columns.next_inputs);
        if let Some(noise) = noise {
            let drawn = loss::draw(&next, &noise);
            let inputs = TwinCritics::inputs(&columns.next_inputs, Some(&drawn.actions));
            let values = self.critics.least_target(&inputs);
            loss::soft_target(
                &columns.returns,
                &columns.discounts,
                &values.squeeze_dim(-1),
                &drawn.log_probs,
                alpha,
            )
        } else {
            let values = self.critics.least_target(&columns.next_inputs);
            let value = loss::discrete_value(&next, &values, alpha);
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
        // A discrete critic says the value of every action, a continuous one of that which was taken.
        let (actions, index) = match self.network.actions() {
            Actions::Discrete => (None, Some(columns.actions.to_kind(Kind::Int64))),
            Actions::Continuous(_) => (Some(&columns.actions), None),
        };
        self.critics.step(
            &TwinCritics::inputs(&columns.inputs, actions),
            index.as_ref(),
            &targets,
            &columns.weights,
            self.config.critic_learning_rate,
            &mut record.critics,
        )
    }

    /// One gradient step of the policy, then one of the temperature.
    pub(super) fn policy_step(
        &mut self,
        columns: &Columns,
        noise: Option<Tensor>,
        record: &mut Record,
    ) {
        let alpha = self.temperature();
        let tape = self.network.forward(&self.policy, &columns.inputs);
        let (entropy, output_gradient) = if let Some(noise) = noise {
            let drawn = loss::draw(tape.output(), &noise);
            let of_actions = self.action_gradient(columns, &drawn.actions);
            let entropy = -drawn.log_probs.mean(Kind::Float).double_value(&[]);
            (entropy, loss::policy_gradient(&drawn, &of_actions, alpha))
        } else {
            let values = self.critics.values(&columns.inputs).least();
            let (entropy, gradient) = loss::discrete_policy_gradient(tape.output(), &values, alpha);
            (entropy.mean(Kind::Float).double_value(&[]), gradient)
        };
        self.network
            .backward(&self.policy, &tape, output_gradient, &self.policy_gradient);
        let gradient = self.policy_gradient.values().shallow_clone();
        let learning_rate = self.config.learning_rate;
        if self
            .policy_adam
            .step(self.policy.values_mut(), gradient, learning_rate)
            == Step::Skipped
        {
            record.critics.skipped_steps += 1;
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
        let inputs = TwinCritics::inputs(&columns.inputs, Some(actions));
        let tapes = self.critics.values(&inputs);
        // Each row's gradient goes through the critic that values it less.
        let of_values = loss::gradient_of_least(tapes.values(0), tapes.values(1));
        let width = columns.inputs.size()[1];
        self.critics
            .input_gradients(&tapes, of_values)
            .narrow(1, width, actions.size()[1])
            .contiguous()
    }
}

impl Record {
    pub(super) fn finish(self, sac: &Sac) -> SacStatistics {
        SacStatistics {
            skipped_steps: self.critics.skipped_steps,
            critics: self.critics.finish(),
            entropy: mean(&self.entropies),
            target_entropy: sac.target_entropy,
            temperature: sac.temperature(),
            learning_rate: sac.config.learning_rate,
            replay: sac.replay.statistics(),
        }
    }
}
