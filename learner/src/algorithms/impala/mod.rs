//! V-trace actor-critic, the learner's half of IMPALA (Espeholt and others 2018): one gradient step on each
//! round, whose steps are weighed by how probable the present policy finds their actions.

pub mod config;
pub mod loss;
pub mod update;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rookery_common::configuration::Configuration;
use rookery_common::policy::PolicySpec;
use tch::Device;

pub use config::ImpalaConfiguration;
pub use update::ImpalaStatistics;

use super::on_policy;
use super::{Algorithm, AlgorithmError, AlgorithmState, RoundContext, Statistics};
use crate::experience::rollout::CompleteRound;
use crate::networks::{ActorCritic, ActorCriticSpec, NetworkError};
use crate::optimiser::Adam;
use crate::progress::Stage;

/// The networks, their optimiser, and one gradient step a round.
#[derive(Debug)]
pub struct Impala {
    config: ImpalaConfiguration,
    network: ActorCritic,
    adam: Adam,
}

impl Impala {
    /// A start from `seed`.
    ///
    /// # Errors
    /// Where the spec makes no network.
    pub fn new(
        spec: ActorCriticSpec,
        config: ImpalaConfiguration,
        seed: u64,
        device: Device,
    ) -> Result<Self, NetworkError> {
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
    /// Where the layers make no network.
    pub fn configured(
        configuration: &Configuration,
        policy: &PolicySpec,
        device: Device,
    ) -> Result<Self, NetworkError> {
        Self::new(
            ActorCriticSpec::configured(configuration, policy),
            configuration.impala.clone(),
            configuration.run.seed,
            device,
        )
    }
}

impl Algorithm for Impala {
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
            self.update_encoded(&columns, &inputs, context.progress, context.distributions)?;
        context.lap(Stage::Update);
        Ok(Statistics::Impala(statistics))
    }

    fn state(&self) -> AlgorithmState {
        on_policy::state(&self.network, &self.adam)
    }

    fn restore(&mut self, state: &AlgorithmState) -> Result<(), AlgorithmError> {
        on_policy::restore(&mut self.network, &mut self.adam, state)
    }
}
