//! Proximal policy optimisation (Schulman and others 2017): a few epochs of minibatch gradient
//! steps on each round, with the ratio to the policy that acted clipped.

pub mod config;
pub mod loss;
pub mod update;
#[doc(hidden)]
pub mod bench;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rookery_common::configuration::Configuration;
use rookery_common::policy::PolicySpec;
use tch::Device;

pub use config::{AdvantageEstimator, AdvantageNormalisation, PpoConfiguration};
pub use update::PpoStatistics;

use super::on_policy::{self, OnPolicyError};
use super::{Algorithm, AlgorithmError, AlgorithmState, RoundContext, Statistics};
use crate::experience::rollout::CompleteRound;
use crate::networks::{ActorCritic, ActorCriticSpec};
use crate::optimiser::Adam;
use crate::progress::Stage;

/// The learner's half of PPO: the networks, their optimiser, and one call a round.
#[derive(Debug)]
pub struct Ppo {
    config: PpoConfiguration,
    seed: u64,
    network: ActorCritic,
    adam: Adam,
}

impl Ppo {
    /// A start from `seed`, which also decides the order of every minibatch.
    ///
    /// # Errors
    /// [`OnPolicyError::Option`], and [`OnPolicyError::Network`] where the spec makes no network.
    pub fn new(
        spec: ActorCriticSpec,
        config: PpoConfiguration,
        seed: u64,
        device: Device,
    ) -> Result<Self, OnPolicyError> {
        for (option, got) in [
            ("minibatch_size", config.minibatch_size),
            ("epochs", config.epochs as usize),
        ] {
            if got == 0 {
                return Err(OnPolicyError::Option {
                    option,
                    expected: "at least 1",
                    got: got.to_string(),
                });
            }
        }
        let network = ActorCritic::new(spec, seed, device)?;
        let adam = Adam::new(
            network.num_parameters(),
            config::adam_options(&config),
            device,
        );
        Ok(Self {
            config,
            seed,
            network,
            adam,
        })
    }

    /// A start as the run's configuration asks for it.
    ///
    /// # Errors
    /// [`OnPolicyError::Option`], and [`OnPolicyError::Network`] where the layers make no network.
    pub fn configured(
        configuration: &Configuration,
        policy: &PolicySpec,
        device: Device,
    ) -> Result<Self, OnPolicyError> {
        let spec = ActorCriticSpec::configured(configuration, policy);
        Self::new(
            spec,
            configuration.ppo.clone(),
            configuration.run.seed,
            device,
        )
    }

    /// The networks.
    pub fn network(&self) -> &ActorCritic {
        &self.network
    }

    /// Values of normalised observations.
    ///
    /// # Shapes
    /// `observations` is `[N, width]`; the result has `N` elements.
    ///
    /// # Errors
    /// [`OnPolicyError::Network`] where the observations are no rows of the encoder's.
    pub fn values(&self, observations: &[f32]) -> Result<Vec<f32>, OnPolicyError> {
        Ok(self.network.values(&self.network.encode(observations)?))
    }
}

impl Algorithm for Ppo {
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
        let statistics = self.update_encoded(
            &columns,
            inputs,
            context.progress,
            context.index,
            context.distributions,
        )?;
        context.lap(Stage::Update);
        Ok(Statistics::Ppo(statistics))
    }

    fn state(&self) -> AlgorithmState {
        on_policy::state(&self.network, &self.adam)
    }

    fn restore(&mut self, state: &AlgorithmState) -> Result<(), AlgorithmError> {
        on_policy::restore(&mut self.network, &mut self.adam, state)
    }
}
