//! What one round does to the parameters.

use serde::Serialize;
use tch::Tensor;

use super::A2c;
use super::config::loss_options;
use crate::algorithms::on_policy::{Estimator, OnPolicyError, RoundBatch, encoded};
use crate::algorithms::policy_gradient::{StepStatistics, Steps, gradient_step, normalised};
use crate::algorithms::round::Round;
use crate::logs::Distributions;

/// What one update did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct A2cStatistics {
    /// The gradient step.
    #[serde(flatten)]
    pub step: StepStatistics,
    /// Share of the returns' variance that the values explained before the update; none where the
    /// returns do not vary.
    pub explained_variance: Option<f64>,
}

impl A2c {
    /// Takes one gradient step on all steps of a round.
    ///
    /// `progress` is the share of the run that is done, for schedules. `distributions` take advantages
    /// and returns.
    ///
    /// # Errors
    /// [`OnPolicyError`] where the round does not fit the networks; nothing changes.
    ///
    /// # Source
    /// Mnih and others 2016, algorithm S3, for all environments at once. With `gae_lambda` 1 the
    /// advantage is that of the paper, the return up to the end of the unroll less the value; terms
    /// are means over the steps and not sums.
    pub fn update(
        &mut self,
        round: &Round,
        progress: f64,
        distributions: &mut Distributions,
    ) -> Result<A2cStatistics, OnPolicyError> {
        let inputs = encoded(&self.network, round)?;
        self.update_encoded(round, inputs, progress, distributions)
    }

    /// [`A2c::update`] with the round's observations on the device.
    pub(super) fn update_encoded(
        &mut self,
        round: &Round,
        inputs: Tensor,
        progress: f64,
        distributions: &mut Distributions,
    ) -> Result<A2cStatistics, OnPolicyError> {
        let config = &self.config;
        let estimator = Estimator::Gae {
            discount: config.discount,
            lambda: config.gae_lambda,
        };
        let batch = RoundBatch::new(&self.network, round, inputs, estimator)?;
        batch.describe(distributions);
        let device = self.network.device();
        let column = |host: &[f32]| Tensor::from_slice(host).to_device(device);
        let rows = Tensor::from_slice(&batch.rows).to_device(device);
        let advantages = column(&batch.advantages);
        let steps = Steps {
            inputs: batch.inputs.index_select(0, &rows),
            actions: batch.actions,
            negative_log_probs: column(&round.log_probs).neg(),
            advantages: if config.normalise_advantages {
                normalised(&advantages)
            } else {
                advantages
            },
            returns: column(&batch.returns).unsqueeze(-1),
        };
        let learning_rate = config
            .learning_rate_schedule
            .at(config.learning_rate, progress);
        let options = loss_options(config);
        Ok(A2cStatistics {
            step: gradient_step(
                &mut self.network,
                &mut self.adam,
                &steps,
                &options,
                learning_rate,
            ),
            explained_variance: batch.explained_variance,
        })
    }
}
