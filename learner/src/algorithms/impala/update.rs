//! What one round does to the parameters.

use serde::Serialize;
use tch::Tensor;

use super::Impala;
use super::config::{loss_options, vtrace_options};
use super::loss::{LossOptions, Losses, Targets, losses};
use crate::algorithms::likelihood::Likelihood;
use crate::algorithms::on_policy::{OnPolicyError, Traced, action_rows, encoded, log_ratios};
use crate::algorithms::returns::explained_variance;
use crate::algorithms::round::Round;
use crate::algorithms::vtrace::VtraceClips;
use crate::logs::Distributions;
use crate::networks::ActorCriticTape;
use crate::optimiser::Step;
use crate::tensors::to_host;

/// What one update did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ImpalaStatistics {
    /// Mean of the weighted `-log` probabilities.
    pub policy_loss: f64,
    /// Half the mean squared error of the values.
    pub value_loss: f64,
    /// Mean entropy of the policy, in nats.
    pub entropy: f64,
    /// Share of the steps whose importance weight was over the clip of the temporal differences.
    pub rho_clip_fraction: f64,
    /// Share of the steps whose importance weight was over the clip of the trace.
    pub c_clip_fraction: f64,
    /// Mean `|log ratio|` of the policy to those that acted.
    pub log_ratio: f64,
    /// Share of the targets' variance that the values explained before the update; none where the
    /// targets do not vary.
    pub explained_variance: Option<f64>,
    /// Norm of the gradient before clipping; none where it was not finite.
    pub gradient_norm: Option<f64>,
    /// Step size of the optimiser.
    pub learning_rate: f64,
    /// Gradient steps taken.
    pub gradient_steps: u64,
    /// Gradients that were not finite and so moved nothing.
    pub skipped_steps: u64,
}

/// The loss of a round, with what is known of it on the host.
pub(super) struct Evaluation {
    pub(super) losses: Losses,
    pub(super) tape: ActorCriticTape,
    clips: VtraceClips,
    log_ratio: f64,
    explained_variance: Option<f64>,
}

impl Impala {
    /// Takes one gradient step on a whole round.
    ///
    /// The rows stay in the order of their timelines, so that the trace sees them so (T9). `distributions`
    /// take advantages, and the targets of the values as returns.
    ///
    /// # Errors
    /// [`OnPolicyError`] where the round does not fit the networks; nothing changes.
    pub fn update(
        &mut self,
        round: &Round,
        progress: f64,
        distributions: &mut Distributions,
    ) -> Result<ImpalaStatistics, OnPolicyError> {
        let inputs = encoded(&self.network, round)?;
        self.update_encoded(round, &inputs, progress, distributions)
    }

    /// [`Impala::update`] with the round's observations on the device.
    pub(super) fn update_encoded(
        &mut self,
        round: &Round,
        inputs: &Tensor,
        progress: f64,
        distributions: &mut Distributions,
    ) -> Result<ImpalaStatistics, OnPolicyError> {
        let config = &self.config;
        let learning_rate = config
            .learning_rate_schedule
            .at(config.learning_rate, progress);
        let options = loss_options(config, progress);
        let evaluation = self.evaluate(round, inputs, &options, distributions)?;
        let Evaluation {
            losses,
            tape,
            clips,
            log_ratio,
            explained_variance,
        } = evaluation;
        let scalars = [&losses.policy, &losses.value, &losses.entropy];
        let scalars = Tensor::stack(&scalars, 0);
        let gradient = self.network.gradient(&tape, losses.gradient);
        let step = self
            .adam
            .step(self.network.parameters_mut(), gradient, learning_rate);
        let gradient_norm = match step {
            Step::Taken { gradient_norm } => Some(gradient_norm),
            Step::Skipped => None,
        };
        let scalars = to_host(&scalars);
        Ok(ImpalaStatistics {
            policy_loss: f64::from(scalars[0]),
            value_loss: f64::from(scalars[1]),
            entropy: f64::from(scalars[2]),
            rho_clip_fraction: clips.rho_fraction(),
            c_clip_fraction: clips.c_fraction(),
            log_ratio,
            explained_variance,
            gradient_norm,
            learning_rate,
            gradient_steps: u64::from(gradient_norm.is_some()),
            skipped_steps: u64::from(gradient_norm.is_none()),
        })
    }

    /// The loss of a round under the present parameters.
    pub(super) fn evaluate(
        &self,
        round: &Round,
        inputs: &Tensor,
        options: &LossOptions,
        distributions: &mut Distributions,
    ) -> Result<Evaluation, OnPolicyError> {
        let policy = &self.network.spec().policy;
        let device = self.network.device();
        let actions = action_rows(&policy.head, &round.actions, device)?;
        let values = self.network.values(inputs);
        let rows = round.rows_of_steps();
        let column = |host: &[f32]| Tensor::from_slice(host).to_device(device);

        let at_steps = inputs.index_select(0, &Tensor::from_slice(&rows).to_device(device));
        let (outputs, tape) = self.network.forward(&at_steps, None);
        let likelihood = Likelihood::new(&outputs, &actions);
        let log_ratios = log_ratios(&likelihood, round);

        let Traced {
            advantages,
            targets,
            clips,
        } = Traced::new(round, &values, &log_ratios, &vtrace_options(&self.config))?;
        distributions.note("advantages", &advantages);
        distributions.note("returns", &targets);
        let before: Vec<f32> = rows.iter().map(|row| values[*row as usize]).collect();
        let explained_variance = explained_variance(&before, &targets);
        let targets = Targets {
            advantages: column(&advantages),
            values: column(&targets).unsqueeze(-1),
        };
        Ok(Evaluation {
            losses: losses(likelihood, &outputs.values, &targets, options),
            tape,
            clips,
            log_ratio: mean_size(&log_ratios),
            explained_variance,
        })
    }
}

/// Mean of the absolute values.
fn mean_size(values: &[f32]) -> f64 {
    let sum: f64 = values.iter().map(|value| f64::from(value.abs())).sum();
    sum / values.len().max(1) as f64
}
