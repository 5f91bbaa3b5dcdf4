//! What one round does to the parameters.

use rookery_common::seeds::{Purpose, Random};
use serde::Serialize;
use tch::{Kind, Tensor};

use super::Ppo;
use super::config::{AdvantageNormalisation, estimator, loss_options};
use super::loss::{
    LossOptions, Losses, Minibatch, approximate_kl, clip_fraction, losses, surrogate_columns,
};
use crate::algorithms::on_policy::{OnPolicyError, RoundBatch, encoded};
use crate::algorithms::policy_gradient::normalised;
use crate::algorithms::round::Round;
use crate::algorithms::sequences::Lanes;
use crate::algorithms::vtrace::VtraceClips;
use crate::logs::Distributions;
use crate::optimiser::Step;
use crate::tensors::to_host;

/// An update ends over this multiple of the target divergence (Achiam 2018, "Spinning Up in deep
/// reinforcement learning").
const TARGET_KL_MARGIN: f64 = 1.5;

/// What one update did. Means are over the rows of all minibatches that were evaluated, the one at
/// which a target divergence ended the update included.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PpoStatistics {
    /// Mean of the negative clipped surrogate.
    pub policy_loss: f64,
    /// Mean squared error of the values, clipped where that is configured.
    pub value_loss: f64,
    /// Mean entropy of the policy, in nats.
    pub entropy: f64,
    /// Mean estimated divergence from the policy that acted, in nats.
    pub approximate_kl: f64,
    /// Share of the rows whose ratio was outside of the clip range.
    pub clip_fraction: f64,
    /// Share of the returns' variance that the values explained before the update; none where the
    /// returns do not vary.
    pub explained_variance: Option<f64>,
    /// Mean norm of the gradients of the steps taken, before clipping.
    pub gradient_norm: f64,
    /// Mean `|log ratio|` of the first minibatch: how far the learner's probabilities are from
    /// those that the actors sent before any step was taken (T24, T32).
    pub initial_log_ratio: f64,
    /// Share of the steps whose importance weight was over the clip of the temporal differences; with
    /// V-trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rho_clip_fraction: Option<f64>,
    /// Share of the steps whose importance weight was over the clip of the trace; with V-trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub c_clip_fraction: Option<f64>,
    /// Step size of the optimiser.
    pub learning_rate: f64,
    /// Clip range of the ratio.
    pub clip_range: f64,
    /// Gradient steps taken.
    pub gradient_steps: u64,
    /// Gradients that were not finite and so moved nothing.
    pub skipped_steps: u64,
    /// Whether the target divergence ended the update before its last minibatch.
    pub stopped_early: bool,
}

/// The columns of a round on the device, one row for each of its `R` steps.
pub(super) struct Columns {
    /// Encoded observations, all `O` rows.
    inputs: Tensor,
    /// The row of `inputs` for each step, on the host.
    rows: Vec<i64>,
    /// Of a recurrent policy: the environments as sequences.
    lanes: Option<Lanes>,
    actions: Tensor,
    negative_log_probs: Tensor,
    pub(super) advantages: Tensor,
    returns: Tensor,
    old_values: Option<Tensor>,
}

/// What is known of a round's returns before the update.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimates {
    /// Share of the returns' variance that the values explain.
    explained_variance: Option<f64>,
    /// With V-trace.
    clips: Option<VtraceClips>,
}

/// What is kept of each minibatch until the end of the update, so that statistics cost one copy
/// to the host.
#[derive(Default)]
struct Record {
    num_rows: Vec<f64>,
    terms: Vec<Tensor>,
    log_ratios: Vec<Tensor>,
    gradient_norms: Vec<f64>,
    skipped_steps: u64,
    stopped_early: bool,
}

impl Ppo {
    /// Trains on one round.
    ///
    /// Values and advantages are computed once, with the parameters at the start. Each epoch takes
    /// the steps in an order of its own, derived from the seed, `version` and the epoch, and cuts
    /// it into minibatches; the last holds what is left. A recurrent policy's epoch takes whole
    /// environments in such an order, each with all of its steps. Where there is a target divergence, a
    /// minibatch that exceeds it ends the update *before* a step is taken on it.
    ///
    /// `progress` is the share of the run that is done, for schedules; `version` the number of
    /// publications so far. `distributions` take advantages and returns.
    ///
    /// # Errors
    /// [`OnPolicyError`] where the round does not fit the networks; nothing changes.
    pub fn update(
        &mut self,
        round: &Round,
        progress: f64,
        version: u64,
        distributions: &mut Distributions,
    ) -> Result<PpoStatistics, OnPolicyError> {
        let inputs = encoded(&self.network, round)?;
        self.update_encoded(round, inputs, progress, version, distributions)
    }

    /// [`Ppo::update`] with the round's observations on the device.
    pub(super) fn update_encoded(
        &mut self,
        round: &Round,
        inputs: Tensor,
        progress: f64,
        version: u64,
        distributions: &mut Distributions,
    ) -> Result<PpoStatistics, OnPolicyError> {
        let config = &self.config;
        let learning_rate = config
            .learning_rate_schedule
            .at(config.learning_rate, progress);
        let clip_range = config.clip_range_schedule.at(config.clip_range, progress);
        let loss_options = loss_options(config, progress);
        let (columns, estimates) = self.columns(round, inputs, distributions)?;
        let mut record = Record::default();
        for epoch in 0..self.config.epochs {
            let mut random =
                Random::derive(self.seed, Purpose::Minibatch, version, u64::from(epoch));
            let order = self.order(&columns, &mut random);
            for minibatch in self.minibatches(&columns, &order, clip_range) {
                self.minibatch_step(&minibatch, &loss_options, learning_rate, &mut record);
                if record.stopped_early {
                    return Ok(record.finish(estimates, learning_rate, clip_range));
                }
            }
        }
        Ok(record.finish(estimates, learning_rate, clip_range))
    }

    /// One gradient step, unless the divergence is over its target.
    fn minibatch_step(
        &mut self,
        minibatch: &Minibatch,
        loss_options: &LossOptions,
        learning_rate: f64,
        record: &mut Record,
    ) {
        let (outputs, tape) = self
            .network
            .forward(&minibatch.inputs, minibatch.sequences.as_ref());
        let losses = losses(&outputs, minibatch, loss_options);
        record.keep(minibatch, &losses);
        if let Some(target) = self.config.target_kl {
            let divergence = approximate_kl(&losses.log_ratios);
            if divergence.double_value(&[]) > TARGET_KL_MARGIN * target {
                record.stopped_early = true;
                return;
            }
        }
        let gradient = self.network.gradient(&tape, losses.gradient);
        match self
            .adam
            .step(self.network.parameters_mut(), gradient, learning_rate)
        {
            Step::Taken { gradient_norm } => record.gradient_norms.push(gradient_norm),
            Step::Skipped => record.skipped_steps += 1,
        }
    }

    /// Brings the rest of a round to the device, with its advantages and returns, and says what is known
    /// of them.
    pub(super) fn columns(
        &self,
        round: &Round,
        inputs: Tensor,
        distributions: &mut Distributions,
    ) -> Result<(Columns, Estimates), OnPolicyError> {
        let config = &self.config;
        let batch = RoundBatch::new(&self.network, round, inputs, estimator(config))?;
        batch.describe(distributions);
        self.check_minibatches(batch.lanes.as_ref())?;
        let device = self.network.device();
        let column = |host: &[f32]| Tensor::from_slice(host).to_device(device);
        let advantages = column(&batch.advantages);
        let columns = Columns {
            negative_log_probs: column(&round.log_probs).neg(),
            advantages: match config.advantage_normalisation {
                AdvantageNormalisation::Batch => normalised(&advantages),
                AdvantageNormalisation::Minibatch | AdvantageNormalisation::None => advantages,
            },
            returns: column(&batch.returns).unsqueeze(-1),
            old_values: config
                .value_clip_range
                .map(|_| column(&batch.values).unsqueeze(-1)),
            inputs: batch.inputs,
            rows: batch.rows,
            lanes: batch.lanes,
            actions: batch.actions,
        };
        let estimates = Estimates {
            explained_variance: batch.explained_variance,
            clips: batch.clips,
        };
        Ok((columns, estimates))
    }

    /// Minibatches of a recurrent policy hold whole environments.
    fn check_minibatches(&self, lanes: Option<&Lanes>) -> Result<(), OnPolicyError> {
        let size = self.config.minibatch_size;
        match lanes {
            Some(lanes) if !size.is_multiple_of(lanes.length()) => Err(OnPolicyError::Option {
                option: "minibatch_size",
                expected: "a multiple of the steps of an unroll, because the policy is recurrent",
                got: size.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// The steps of one epoch in the order that its minibatches are cut from.
    pub(super) fn order(&self, columns: &Columns, random: &mut Random) -> Vec<i64> {
        let num_drawn = match &columns.lanes {
            None => columns.rows.len(),
            Some(lanes) => lanes.num_envs(),
        };
        let mut drawn: Vec<i64> = (0..num_drawn as i64).collect();
        random.shuffle(&mut drawn);
        match &columns.lanes {
            None => drawn,
            Some(lanes) => lanes.steps(&drawn, self.config.minibatch_size),
        }
    }

    /// Cuts the steps into minibatches: every column is put into `order` once, and the minibatches
    /// are views of the result.
    pub(super) fn minibatches(
        &self,
        columns: &Columns,
        order: &[i64],
        clip_range: f64,
    ) -> Vec<Minibatch> {
        let size = self.config.minibatch_size.min(order.len()) as i64;
        let device = self.network.device();
        let rows: Vec<i64> = order
            .iter()
            .map(|&step| columns.rows[step as usize])
            .collect();
        let rows = Tensor::from_slice(&rows).to_device(device);
        let lanes = columns.lanes.as_ref();
        let mut sequences = order
            .chunks(size as usize)
            .map(|steps| lanes.map(|lanes| lanes.sequences(steps)));
        let order = Tensor::from_slice(order).to_device(device);
        let cut = |column: &Tensor| column.index_select(0, &order).split(size, 0).into_iter();

        let normalise = self.config.advantage_normalisation == AdvantageNormalisation::Minibatch;
        let advantages = columns.advantages.index_select(0, &order);
        let mut inputs = columns
            .inputs
            .index_select(0, &rows)
            .split(size, 0)
            .into_iter();
        let mut actions = cut(&columns.actions);
        let mut negative_log_probs = cut(&columns.negative_log_probs);
        let mut returns = cut(&columns.returns);
        let mut old_values = columns.old_values.as_ref().map(cut);
        surrogate_columns(&advantages, size, clip_range, normalise)
            .into_iter()
            .map_while(|surrogate| {
                Some(Minibatch {
                    inputs: inputs.next()?,
                    sequences: sequences.next()?,
                    actions: actions.next()?,
                    negative_log_probs: negative_log_probs.next()?,
                    surrogate,
                    returns: returns.next()?,
                    old_values: old_values.as_mut().and_then(Iterator::next),
                })
            })
            .collect()
    }
}

impl Record {
    fn keep(&mut self, minibatch: &Minibatch, losses: &Losses) {
        self.num_rows.push(minibatch.inputs.size()[0] as f64);
        for term in [&losses.policy, &losses.value, &losses.entropy] {
            self.terms.push(term.shallow_clone());
        }
        self.log_ratios.push(losses.log_ratios.shallow_clone());
    }

    fn finish(self, estimates: Estimates, learning_rate: f64, clip_range: f64) -> PpoStatistics {
        let log_ratios = Tensor::cat(&self.log_ratios, 0);
        let mut scalars = self.terms;
        scalars.push(approximate_kl(&log_ratios));
        scalars.push(clip_fraction(&log_ratios, clip_range));
        scalars.push(self.log_ratios[0].abs().mean(None::<Kind>));
        let scalars = to_host(&Tensor::stack(&scalars, 0));

        let mut means = [0.0; 3];
        let total_rows: f64 = self.num_rows.iter().sum();
        for (terms, num_rows) in scalars.chunks_exact(3).zip(&self.num_rows) {
            for (mean, &term) in means.iter_mut().zip(terms) {
                *mean += f64::from(term) * num_rows / total_rows;
            }
        }
        let last = &scalars[3 * self.num_rows.len()..];
        let gradient_steps = self.gradient_norms.len();
        PpoStatistics {
            policy_loss: means[0],
            value_loss: means[1],
            entropy: means[2],
            approximate_kl: f64::from(last[0]),
            clip_fraction: f64::from(last[1]),
            explained_variance: estimates.explained_variance,
            gradient_norm: self.gradient_norms.iter().sum::<f64>() / gradient_steps.max(1) as f64,
            initial_log_ratio: f64::from(last[2]),
            rho_clip_fraction: estimates.clips.map(|clips| clips.rho_fraction()),
            c_clip_fraction: estimates.clips.map(|clips| clips.c_fraction()),
            learning_rate,
            clip_range,
            gradient_steps: gradient_steps as u64,
            skipped_steps: self.skipped_steps,
            stopped_early: self.stopped_early,
        }
    }
}
