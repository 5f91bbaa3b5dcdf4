//! Proximal policy optimisation (Schulman and others 2017): a few epochs of minibatch gradient
//! steps on each round, with the ratio to the policy that acted clipped.

pub mod config;
pub mod loss;
mod sequences;
pub mod update;
#[doc(hidden)]
pub mod bench;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rookery_common::configuration::Configuration;
use rookery_common::policy::PolicySpec;
use tch::Device;
use thiserror::Error;

pub use config::{AdvantageNormalisation, PpoConfiguration};
pub use update::PpoStatistics;

use super::returns::ReturnsError;
use super::round::RoundError;
use super::{Algorithm, AlgorithmError, AlgorithmState, RoundContext, Statistics};
use crate::experience::rollout::CompleteRound;
use crate::networks::{ActorCritic, ActorCriticSpec, CriticSpec, NetworkError};
use crate::optimiser::Adam;
use crate::progress::Stage;

/// Why PPO refuses what it is given. Parameters and optimiser are as before.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PpoError {
    /// An option with which no update is possible.
    #[error("option `{option}` is {got}, it must be {expected}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What it may be, in words.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// The columns of the round do not belong together.
    #[error(transparent)]
    Round(#[from] RoundError),
    /// An action that the policy does not have.
    #[error("action {action} of step {step} is no whole number below {num_actions}")]
    Action {
        /// Row of the column of actions.
        step: usize,
        /// What the row holds.
        action: f32,
        /// Number of the policy's actions.
        num_actions: usize,
    },
    /// The network refuses observations or parameters.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A shard's columns do not make a timeline.
    #[error(transparent)]
    Returns(#[from] ReturnsError),
}

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
    /// [`PpoError::Option`], and [`PpoError::Network`] where the spec makes no network.
    pub fn new(
        spec: ActorCriticSpec,
        config: PpoConfiguration,
        seed: u64,
        device: Device,
    ) -> Result<Self, PpoError> {
        for (option, got) in [
            ("minibatch_size", config.minibatch_size),
            ("epochs", config.epochs as usize),
        ] {
            if got == 0 {
                return Err(PpoError::Option {
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
    /// [`PpoError::Option`], and [`PpoError::Network`] where the layers make no network.
    pub fn configured(
        configuration: &Configuration,
        policy: &PolicySpec,
        device: Device,
    ) -> Result<Self, PpoError> {
        let spec = ActorCriticSpec {
            policy: policy.clone(),
            initial_log_std: configuration.policy.initial_log_std as f32,
            critic: if configuration.policy.shared_trunk {
                CriticSpec::Shared
            } else {
                CriticSpec::Separate(configuration.policy.hidden.clone())
            },
        };
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
    /// [`PpoError::Network`] where the observations are no rows of the encoder's.
    pub fn values(&self, observations: &[f32]) -> Result<Vec<f32>, PpoError> {
        Ok(self.network.values(&self.network.encode(observations)?))
    }
}

const ADAM: &str = "adam";

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
        let scaler = context.reward_scaler.take();
        let columns = round.columns(&context.shape, context.normaliser, scaler);
        context.lap(Stage::Batch);
        let statistics = self.update(&columns, context.progress, context.index)?;
        context.lap(Stage::Update);
        Ok(Statistics::Ppo(statistics))
    }

    /// The parameters are the policy's, then the critic's.
    fn state(&self) -> AlgorithmState {
        AlgorithmState {
            arrays: BTreeMap::from([(
                AlgorithmState::PARAMETERS.to_owned(),
                self.network.export(),
            )]),
            ..AlgorithmState::default()
        }
        .with_adam(ADAM, self.adam.state())
    }

    fn restore(&mut self, state: &AlgorithmState) -> Result<(), AlgorithmError> {
        let parameters = state.array(AlgorithmState::PARAMETERS)?;
        let (expected, got) = (self.network.num_parameters(), parameters.len());
        if expected != got {
            return Err(NetworkError::Parameters { expected, got }.into());
        }
        self.adam.restore(&state.adam(ADAM)?)?;
        self.network.import(parameters)?;
        Ok(())
    }
}
