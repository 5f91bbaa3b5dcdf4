//! What one round does to the parameters.

use serde::Serialize;
use tch::Tensor;

use super::Reinforce;
use super::config::loss_options;
use super::episodes::Episode;
use crate::algorithms::on_policy::{OnPolicyError, action_rows};
use crate::algorithms::policy_gradient::{StepStatistics, Steps, gradient_step, normalised};
use crate::algorithms::returns::{discounted_returns, explained_variance};
use crate::algorithms::round::Round;
use crate::logs::Distributions;

/// What one update did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReinforceStatistics {
    /// The gradient step; a round in which no episode ends has none.
    #[serde(flatten)]
    pub step: StepStatistics,
    /// Share of the returns' variance that the baseline explained before the update; none without a
    /// baseline, or where the returns do not vary.
    pub explained_variance: Option<f64>,
    /// Episodes that were learnt from.
    pub complete_episodes: u64,
    /// Steps that wait for the end of their episode.
    pub unfinished_steps: u64,
}

impl Reinforce {
    /// Takes one gradient step on the episodes that end in a round, and keeps the steps of the
    /// others.
    ///
    /// `progress` is the share of the run that is done, for schedules. `distributions` take advantages
    /// and returns of the episodes that end.
    ///
    /// # Errors
    /// [`OnPolicyError`] where the round does not fit the networks; nothing changes.
    ///
    /// # Source
    /// Sutton and Barto 2018, section 13.4, "REINFORCE with baseline", whose updates of one episode
    /// are put together and divided by the number of steps, so that their size does not grow with
    /// the length of the episodes; the factor `gamma^t` is left out, as is usual. The value after a
    /// truncated episode follows Pardo and others 2018 (T1).
    pub fn update(
        &mut self,
        round: &Round,
        progress: f64,
        distributions: &mut Distributions,
    ) -> Result<ReinforceStatistics, OnPolicyError> {
        let policy = &self.network.spec().policy;
        round.check(policy.observation_width(), policy.action_width(), 0)?;
        // What is kept here is used in a later round, which could no longer be refused.
        let _ = action_rows(&policy.head, &round.actions, self.network.device())?;
        let _ = self.network.encode(&round.observations)?;

        let complete = self.episodes.extend(round);
        let learning_rate = self
            .config
            .learning_rate_schedule
            .at(self.config.learning_rate, progress);
        let mut statistics = ReinforceStatistics {
            step: StepStatistics {
                learning_rate,
                ..StepStatistics::default()
            },
            explained_variance: None,
            complete_episodes: complete.len() as u64,
            unfinished_steps: self.episodes.num_steps() as u64,
        };
        if complete.is_empty() {
            return Ok(statistics);
        }
        let (steps, explained) = self.steps(&complete, distributions)?;
        statistics.explained_variance = explained;
        statistics.step = gradient_step(
            &mut self.network,
            &mut self.adam,
            &steps,
            &loss_options(&self.config),
            learning_rate,
        );
        Ok(statistics)
    }

    /// Brings whole episodes to the device, one behind the other, with their returns; and says how
    /// much of the returns' variance the baseline explains.
    pub(super) fn steps(
        &self,
        episodes: &[Episode],
        distributions: &mut Distributions,
    ) -> Result<(Steps, Option<f64>), OnPolicyError> {
        let device = self.network.device();
        let column = |of: fn(&Episode) -> &[f32]| -> Vec<f32> {
            episodes.iter().flat_map(of).copied().collect()
        };
        let num_steps = episodes.iter().map(Episode::len).sum::<usize>();
        let mut observations = column(|episode| &episode.observations);
        for episode in episodes {
            observations.extend(episode.final_observation.iter().flatten());
        }
        let inputs = self.network.encode(&observations)?;
        let values = self.config.baseline.then(|| self.network.values(&inputs));

        let mut finals = values.iter().flat_map(|values| &values[num_steps..]);
        let mut returns = Vec::with_capacity(num_steps);
        for episode in episodes {
            let cut_off = episode.final_observation.is_some();
            let following = cut_off.then(|| finals.next().copied()).flatten();
            returns.extend(discounted_returns(
                &episode.rewards,
                following.unwrap_or(0.0),
                self.config.discount as f32,
            ));
        }
        let advantages: Vec<f32> = match &values {
            None => returns.clone(),
            Some(values) => returns.iter().zip(values).map(|(g, v)| g - v).collect(),
        };
        distributions.note("advantages", &advantages);
        distributions.note("returns", &returns);
        let explained =
            values.and_then(|values| explained_variance(&values[..num_steps], &returns));

        let to_device = |host: &[f32]| Tensor::from_slice(host).to_device(device);
        let advantages = to_device(&advantages);
        let head = &self.network.spec().policy.head;
        let steps = Steps {
            inputs: inputs.narrow(0, 0, num_steps as i64),
            actions: action_rows(head, &column(|episode| &episode.actions), device)?,
            negative_log_probs: to_device(&column(|episode| &episode.log_probs)).neg(),
            advantages: if self.config.normalise_returns {
                normalised(&advantages)
            } else {
                advantages
            },
            returns: to_device(&returns).unsqueeze(-1),
        };
        Ok((steps, explained))
    }
}
