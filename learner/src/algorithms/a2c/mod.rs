//! Synchronous advantage actor-critic (Mnih and others 2016): one gradient step on each round, along
//! the policy gradient with advantages from the critic.
//!
//! It is PPO with one epoch of one minibatch (Huang and others 2022, "A2C is a special case of PPO"),
//! which a test holds. The loss is that of [`policy_gradient`](super::policy_gradient).

pub mod config;
pub mod update;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rookery_common::configuration::Configuration;
use rookery_common::policy::PolicySpec;
use tch::Device;

pub use config::A2cConfiguration;
pub use update::A2cStatistics;

use super::on_policy::{self, OnPolicyError};
use super::{Algorithm, AlgorithmError, AlgorithmState, RoundContext, Statistics};
use crate::experience::rollout::CompleteRound;
use crate::networks::{ActorCritic, ActorCriticSpec};
use crate::optimiser::Adam;
use crate::progress::Stage;

/// The learner's half of A2C: the networks, their optimiser, and one call a round.
#[derive(Debug)]
pub struct A2c {
    config: A2cConfiguration,
    network: ActorCritic,
    adam: Adam,
}

impl A2c {
    /// A start from `seed`.
    ///
    /// # Errors
    /// [`OnPolicyError::Network`] where the spec makes no network.
    pub fn new(
        spec: ActorCriticSpec,
        config: A2cConfiguration,
        seed: u64,
        device: Device,
    ) -> Result<Self, OnPolicyError> {
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
        let spec = ActorCriticSpec::configured(configuration, policy);
        let seed = configuration.run.seed;
        Self::new(spec, configuration.a2c.clone(), seed, device)
    }
}

impl Algorithm for A2c {
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
        let inputs = on_policy::encoded(&self.network, &columns)?;
        context.lap(Stage::Copy);
        let statistics =
            self.update_encoded(&columns, inputs, context.progress, context.distributions)?;
        context.lap(Stage::Update);
        Ok(Statistics::A2c(statistics))
    }

    fn state(&self) -> AlgorithmState {
        on_policy::state(&self.network, &self.adam)
    }

    fn restore(&mut self, state: &AlgorithmState) -> Result<(), AlgorithmError> {
        on_policy::restore(&mut self.network, &mut self.adam, state)
    }
}
