//! What one round does to the parameters.

use rookery_common::policy::spec::Head;
use rookery_common::seeds::{Purpose, Random};
use serde::Serialize;
use tch::{Kind, Tensor};

use super::config::{AdvantageNormalisation, loss_options};
use super::loss::{
    LossOptions, Losses, Minibatch, approximate_kl, clip_fraction, losses, normalise_advantages,
    surrogate_columns,
};
use super::sequences::Lanes;
use super::{Ppo, PpoError};
use crate::algorithms::returns::{RewardColumns, explained_variance, generalised_advantages};
use crate::algorithms::round::Round;
use crate::optimiser::Step;
use crate::tensors::to_host;

/// An update ends over this multiple of the target divergence (Achiam 2018, "Spinning Up in deep
/// reinforcement learning").
const TARGET_KL_MARGIN: f64 = 1.5;

/// What one update did. Means are over the rows of all minibatches that were evaluated, the one at
/// which a target divergence ended the update included.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    /// publications so far.
    ///
    /// # Errors
    /// [`PpoError`] where the round does not fit the networks; nothing changes.
    pub fn update(
        &mut self,
        round: &Round,
        progress: f64,
        version: u64,
    ) -> Result<PpoStatistics, PpoError> {
        let config = &self.config;
        let learning_rate = config
            .learning_rate_schedule
            .at(config.learning_rate, progress);
        let clip_range = config.clip_range_schedule.at(config.clip_range, progress);
        let loss_options = loss_options(config, progress);
        let (columns, explained_variance) = self.columns(round)?;
        let mut record = Record::default();
        for epoch in 0..self.config.epochs {
            let mut random =
                Random::derive(self.seed, Purpose::Minibatch, version, u64::from(epoch));
            let order = self.order(&columns, &mut random);
            for minibatch in self.minibatches(&columns, &order, clip_range) {
                self.minibatch_step(&minibatch, &loss_options, learning_rate, &mut record);
                if record.stopped_early {
                    return Ok(record.finish(explained_variance, learning_rate, clip_range));
                }
            }
        }
        Ok(record.finish(explained_variance, learning_rate, clip_range))
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

    /// Brings a round to the device, with its advantages and returns, and says how much of the
    /// returns' variance the critic explains.
    pub(super) fn columns(&self, round: &Round) -> Result<(Columns, Option<f64>), PpoError> {
        let policy = &self.network.spec().policy;
        round.check(
            policy.observation_width(),
            policy.action_width(),
            policy.state_width(),
        )?;
        let lanes = self.lanes(round)?;
        let actions = self.actions(&round.actions)?;
        let inputs = self.network.encode(&round.observations)?;
        let values = match &lanes {
            None => self.network.values(&inputs),
            Some(lanes) => lanes.values(&self.network, round, &inputs),
        };

        let num_steps = round.num_steps();
        let mut advantages = vec![0.0; num_steps];
        let mut returns = vec![0.0; num_steps];
        let mut old_values = Vec::with_capacity(num_steps);
        let (mut first_step, mut first_row) = (0, 0);
        let mut finals = values[round.num_timeline_rows()..].iter();
        for shard in &round.shards {
            let steps = first_step..first_step + shard.num_steps();
            let rows = first_row..first_row + shard.num_steps() + shard.num_envs;
            let final_values: Vec<(usize, f32)> = shard
                .truncated_steps()
                .zip(finals.by_ref().copied())
                .collect();
            let columns = RewardColumns {
                num_envs: shard.num_envs,
                rewards: &shard.rewards,
                terminated: &shard.terminated,
                truncated: &shard.truncated,
                values: &values[rows.clone()],
                final_values: &final_values,
            };
            generalised_advantages(
                &columns,
                self.config.discount as f32,
                self.config.gae_lambda as f32,
                &mut advantages[steps.clone()],
                &mut returns[steps.clone()],
            )?;
            old_values.extend_from_slice(&values[rows.start..rows.end - shard.num_envs]);
            (first_step, first_row) = (steps.end, rows.end);
        }
        let explained_variance = explained_variance(&old_values, &returns);

        let device = self.network.device();
        let column = |host: &[f32]| Tensor::from_slice(host).to_device(device);
        let advantages = column(&advantages);
        let columns = Columns {
            inputs,
            rows: round.rows_of_steps(),
            lanes,
            actions,
            negative_log_probs: column(&round.log_probs).neg(),
            advantages: match self.config.advantage_normalisation {
                AdvantageNormalisation::Batch => normalise_advantages(&advantages),
                AdvantageNormalisation::Minibatch | AdvantageNormalisation::None => advantages,
            },
            returns: column(&returns).unsqueeze(-1),
            old_values: self
                .config
                .value_clip_range
                .map(|_| column(&old_values).unsqueeze(-1)),
        };
        Ok((columns, explained_variance))
    }

    /// Of a recurrent policy: the environments of a checked round as sequences, whole ones of which
    /// fill a minibatch.
    pub(super) fn lanes(&self, round: &Round) -> Result<Option<Lanes>, PpoError> {
        let state_width = self.network.spec().policy.state_width();
        if state_width == 0 {
            return Ok(None);
        }
        let length = round.num_steps() / round.num_envs();
        if !self.config.minibatch_size.is_multiple_of(length) {
            return Err(PpoError::Option {
                option: "minibatch_size",
                expected: "a multiple of the steps of an unroll, because the policy is recurrent",
                got: self.config.minibatch_size.to_string(),
            });
        }
        let lanes = Lanes::new(round, state_width, self.network.device());
        Ok(Some(lanes))
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

    /// Indices `[R]`, i64, or vectors `[R, dimension]`, f32.
    pub(super) fn actions(&self, actions: &[f32]) -> Result<Tensor, PpoError> {
        let device = self.network.device();
        match self.network.spec().policy.head {
            Head::Categorical { num_actions } | Head::ActionValues { num_actions, .. } => {
                let mut indices = Vec::with_capacity(actions.len());
                for (step, &action) in actions.iter().enumerate() {
                    if !(action >= 0.0 && action.fract() == 0.0 && (action as usize) < num_actions)
                    {
                        return Err(PpoError::Action {
                            step,
                            action,
                            num_actions,
                        });
                    }
                    indices.push(action as i64);
                }
                Ok(Tensor::from_slice(&indices).to_device(device))
            }
            Head::DiagonalGaussian { .. }
            | Head::SquashedGaussian { .. }
            | Head::Deterministic { .. } => Ok(Tensor::from_slice(actions)
                .view([-1, self.network.spec().policy.action_width() as i64])
                .to_device(device)),
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

    fn finish(
        self,
        explained_variance: Option<f64>,
        learning_rate: f64,
        clip_range: f64,
    ) -> PpoStatistics {
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
            explained_variance,
            gradient_norm: self.gradient_norms.iter().sum::<f64>() / gradient_steps.max(1) as f64,
            initial_log_ratio: f64::from(last[2]),
            learning_rate,
            clip_range,
            gradient_steps: gradient_steps as u64,
            skipped_steps: self.skipped_steps,
            stopped_early: self.stopped_early,
        }
    }
}
