//! REINFORCE (Williams 1992): one gradient step along the policy gradient on the whole episodes that a
//! round completes, with or without a learnt baseline.
//!
//! The loss is that of [`policy_gradient`](super::policy_gradient). An episode that stretches over
//! rounds has steps that earlier versions have chosen. Nothing corrects for that; it is measured
//! (`log_ratio`), and rounds longer than episodes keep it small.

pub mod config;
pub mod episodes;
pub mod update;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rookery_common::configuration::Configuration;
use rookery_common::policy::PolicySpec;
use tch::Device;

pub use config::ReinforceConfiguration;
pub use update::ReinforceStatistics;

use self::episodes::UnfinishedEpisodes;
use super::on_policy::{self, OnPolicyError};
use super::{Algorithm, AlgorithmError, AlgorithmState, RoundContext, Statistics};
use crate::experience::rollout::CompleteRound;
use crate::networks::{ActorCritic, ActorCriticSpec};
use crate::optimiser::Adam;
use crate::progress::Stage;

/// The learner's half of REINFORCE: the networks, their optimiser, and the steps of episodes that
/// have not ended. Without a baseline the critic stays as it was drawn, and nothing depends on it.
#[derive(Debug)]
pub struct Reinforce {
    config: ReinforceConfiguration,
    network: ActorCritic,
    adam: Adam,
    episodes: UnfinishedEpisodes,
}

impl Reinforce {
    /// A start from `seed`.
    ///
    /// # Errors
    /// [`OnPolicyError::Network`] where the spec makes no network.
    pub fn new(
        spec: ActorCriticSpec,
        config: ReinforceConfiguration,
        num_envs: usize,
        seed: u64,
        device: Device,
    ) -> Result<Self, OnPolicyError> {
        let episodes = UnfinishedEpisodes::new(
            num_envs,
            spec.policy.observation_width(),
            spec.policy.action_width(),
        );
        let network = ActorCritic::new(spec, seed, device)?;
        let adam = Adam::new(
            network.num_parameters(),
            config::adam_options(&config),
            device,
        );
        Ok(Self {
            config,
            network,
            adam,
            episodes,
        })
    }

    /// A start as the run's configuration asks for it.
    ///
    /// # Errors
    /// [`OnPolicyError::Network`] where the layers make no network.
    pub fn configured(
        configuration: &Configuration,
        policy: &PolicySpec,
        device: Device,
    ) -> Result<Self, OnPolicyError> {
        Self::new(
            ActorCriticSpec::configured(configuration, policy),
            configuration.reinforce.clone(),
            configuration.environment.num_envs,
            configuration.run.seed,
            device,
        )
    }
}

impl Algorithm for Reinforce {
    fn policy_parameters(&self) -> Vec<f32> {
        self.network.export_policy()
    }

    fn acting(&self, _env_steps: u64) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    fn learn(
        &mut self,
        round: &CompleteRound,
        mut context: RoundContext<'_>,
    ) -> Result<Statistics, AlgorithmError> {
        let columns = context.columns(round);
        let statistics = self.update(&columns, context.progress, context.distributions)?;
        context.lap(Stage::Update);
        Ok(Statistics::Reinforce(statistics))
    }

    fn state(&self) -> AlgorithmState {
        self.episodes
            .save(on_policy::state(&self.network, &self.adam))
    }

    fn restore(&mut self, state: &AlgorithmState) -> Result<(), AlgorithmError> {
        let episodes = self.episodes.restored(state)?;
        on_policy::restore(&mut self.network, &mut self.adam, state)?;
        self.episodes = episodes;
        Ok(())
    }
}
