//! What one round does to the parameters.

use serde::Serialize;
use tch::Tensor;

use super::{Td3, loss};
use crate::algorithms::bounded::standard_normals;
use crate::algorithms::replayed::{Columns, ReplayStatistics};
use crate::algorithms::twin_critics::{CriticRecord, CriticStatistics, TwinCritics, mean};
use crate::algorithms::{AlgorithmError, RoundContext};
use crate::experience::rollout::CompleteRound;
use crate::optimiser::Step;
use crate::progress::Stage;

/// What one update did; means are over its gradient steps, and absent where it took none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Td3Statistics {
    /// The critics' gradient steps.
    #[serde(flatten)]
    pub critics: CriticStatistics,
    /// Mean value of the policy's actions by the first critic, which the policy climbs.
    pub policy_value: Option<f64>,
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
    policy_values: Vec<f64>,
}

impl Td3 {
    /// Stores one round, then takes the configured number of gradient steps, once enough has been
    /// collected.
    ///
    /// # Errors
    /// [`AlgorithmError::Replay`] where the round does not fit; nothing changes.
    pub(super) fn update(
        &mut self,
        round: &CompleteRound,
        mut context: RoundContext<'_>,
    ) -> Result<Td3Statistics, AlgorithmError> {
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
            let mut columns = self.replay.columns(&self.encoder, self.policy.device())?;
            context.lap(Stage::Copy);
            columns.actions = self.network.bounds.scaled(&columns.actions);
            let extents = columns.actions.size();
            let noise = standard_normals(
                self.seed,
                context.index,
                step,
                extents[0] as usize,
                extents[1] as usize,
                self.policy.device(),
            );
            let surprise = self.gradient_step(&columns, &noise, &mut record);
            self.replay.learnt(surprise);
            step += 1;
            context.lap(Stage::Update);
        }
        let statistics = record.finish(self);
        self.replay.describe(context.distributions);
        context.lap(Stage::Update);
        Ok(statistics)
    }

    /// One gradient step of the critics; where it is its turn one of the policy, after which the targets
    /// follow. `noise`, `[N, dimension]`, is standard normal. Returns how surprising each row was, `[N]`.
    pub(super) fn gradient_step(
        &mut self,
        columns: &Columns,
        noise: &Tensor,
        record: &mut Record,
    ) -> Tensor {
        let surprise = self.critic_step(columns, noise, record);
        self.num_gradient_steps += 1;
        let delay = u64::from(self.config.policy_delay);
        if self.num_gradient_steps.is_multiple_of(delay) {
            self.policy_step(columns, record);
            self.critics.follow(self.config.target_tau);
            self.target_policy
                .follow(&self.policy, self.config.target_tau);
        }
        surprise
    }

    /// One gradient step of the critics. Returns the mean absolute error of both for each row, `[N]`.
    pub(super) fn critic_step(
        &mut self,
        columns: &Columns,
        noise: &Tensor,
        record: &mut Record,
    ) -> Tensor {
        let Columns {
            inputs,
            next_inputs,
            actions,
            returns,
            discounts,
            weights,
        } = columns;
        let config = &self.config;
        let next = self
            .network
            .network
            .forward(&self.target_policy, next_inputs);
        let next =
            loss::smoothed_actions(&next, noise, config.target_noise, config.target_noise_clip);
        let least = self
            .critics
            .least_target(&TwinCritics::inputs(next_inputs, Some(&next)));
        let targets = loss::target(returns, discounts, &least.squeeze_dim(-1));
        self.critics.step(
            &TwinCritics::inputs(inputs, Some(actions)),
            None,
            &targets,
            weights,
            config.critic_learning_rate,
            &mut record.critics,
        )
    }

    /// One gradient step of the policy, up the first critic's values.
    pub(super) fn policy_step(&mut self, columns: &Columns, record: &mut Record) {
        let network = &self.network.network;
        let tape = network.forward_taped(&self.policy, &columns.inputs);
        let actions = loss::actions(tape.output());
        let extents = actions.size();
        let (rows, dimension) = (extents[0], extents[1]);
        let critic = self
            .critics
            .value(0, &TwinCritics::inputs(&columns.inputs, Some(&actions)));
        let share = critic.output().full_like(1.0 / rows as f64);
        let width = columns.inputs.size()[1];
        let of_actions = self
            .critics
            .input_gradient(0, &critic, share)
            .narrow(1, width, dimension);
        let of_outputs = loss::policy_gradient(&actions, &of_actions);
        let _ = network.backward(
            &self.policy,
            &tape,
            of_outputs,
            &self.policy_gradient,
            false,
        );
        let value = critic.output().mean(tch::Kind::Float).double_value(&[]);
        let gradient = self.policy_gradient.values().shallow_clone();
        match self.policy_adam.step(
            self.policy.values_mut(),
            gradient,
            self.config.learning_rate,
        ) {
            Step::Taken { .. } => record.policy_values.push(value),
            Step::Skipped => record.critics.skipped_steps += 1,
        }
    }
}

impl Record {
    pub(super) fn finish(self, td3: &Td3) -> Td3Statistics {
        Td3Statistics {
            skipped_steps: self.critics.skipped_steps,
            critics: self.critics.finish(),
            policy_value: mean(&self.policy_values),
            learning_rate: td3.config.learning_rate,
            replay: td3.replay.statistics(),
        }
    }
}
