//! Deep Q-learning (Mnih and others 2015) with double, dueling, noisy and distributional networks,
//! n-step returns and prioritised replay, each a switch; all of them are Rainbow (Hessel and others
//! 2018).

pub mod config;
pub mod networks;
pub mod loss;
pub mod update;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rookery_common::configuration::{Configuration, DqnConfiguration};
use rookery_common::policy::Encoder;
use rookery_common::policy::exploration::EPSILON;
use tch::Device;

pub use networks::QNetwork;
pub use update::DqnStatistics;

use super::replayed::Replayed;
use super::{Algorithm, AlgorithmError, AlgorithmState, RoundContext, Statistics};
use crate::experience::rollout::CompleteRound;
use crate::networks::Flat;
use crate::optimiser::Adam;
use crate::run::RunSpecification;

/// The learner's half of deep Q-learning: the networks, their optimiser and the replay store.
#[derive(Debug)]
pub struct Dqn {
    config: DqnConfiguration,
    seed: u64,
    encoder: Encoder,
    network: QNetwork,
    online: Flat,
    target: Flat,
    gradient: Flat,
    adam: Adam,
    replay: Replayed,
}

impl Dqn {
    /// A start as the run's configuration asks for it.
    ///
    /// # Errors
    /// [`AlgorithmError`] where policy or replay cannot be made.
    pub fn configured(
        configuration: &Configuration,
        specification: &RunSpecification,
        device: Device,
    ) -> Result<Self, AlgorithmError> {
        let config = configuration.dqn.clone();
        let seed = configuration.run.seed;
        let network = QNetwork::new(&specification.policy)?;
        let online = network.initial(seed, config.noisy_sigma, device);
        let mut target = Flat::zeros(network.layout(), device);
        target.follow(&online, 1.0);
        let gradient = Flat::zeros(network.layout(), device);
        let adam = Adam::new(
            network.layout().len(),
            config::adam_options(&config),
            device,
        );
        Ok(Self {
            seed,
            encoder: specification.policy.encoder.clone(),
            network,
            online,
            target,
            gradient,
            adam,
            replay: Replayed::new(
                configuration,
                specification,
                config.discount,
                config.minibatch_size,
            )?,
            config,
        })
    }
}

const TARGET: &str = "target";
const ADAM: &str = "adam";

impl Algorithm for Dqn {
    fn policy_parameters(&self) -> Vec<f32> {
        self.online.export()
    }

    fn acting(&self, env_steps: u64) -> BTreeMap<String, f64> {
        if self.config.noisy || self.config.epsilon_per_shard {
            return BTreeMap::new();
        }
        let epsilon = config::epsilon(&self.config, env_steps);
        BTreeMap::from([(EPSILON.to_owned(), epsilon)])
    }

    fn learn(
        &mut self,
        round: &CompleteRound,
        context: RoundContext<'_>,
    ) -> Result<Statistics, AlgorithmError> {
        self.update(round, context).map(Statistics::Dqn)
    }

    fn state(&self) -> AlgorithmState {
        let state = AlgorithmState {
            arrays: BTreeMap::from([
                (AlgorithmState::PARAMETERS.to_owned(), self.online.export()),
                (TARGET.to_owned(), self.target.export()),
            ]),
            ..AlgorithmState::default()
        };
        self.replay.save(state.with_adam(ADAM, self.adam.state()))
    }

    fn restore(&mut self, state: &AlgorithmState) -> Result<(), AlgorithmError> {
        let parameters = state.array(AlgorithmState::PARAMETERS)?;
        let target = state.array(TARGET)?;
        self.adam.restore(&state.adam(ADAM)?)?;
        self.online.import(parameters)?;
        self.target.import(target)?;
        self.replay.restore(state)
    }
}
