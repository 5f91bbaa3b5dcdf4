//! Soft actor-critic (Haarnoja and others 2018) with twin critics and a learnt temperature, for continuous
//! actions within bounds and, after Christodoulou 2019, for discrete ones.

pub mod config;
pub mod networks;
pub mod loss;
pub mod update;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rookery_common::configuration::{Configuration, SacConfiguration};
use rookery_common::policy::Encoder;
use rookery_common::policy::exploration::{NOISE_HOLD, UNIFORM};
use tch::{Device, Tensor};

pub use networks::SacNetworks;
pub use update::SacStatistics;

use super::replayed::Replayed;
use super::{Algorithm, AlgorithmError, AlgorithmState, RoundContext, Statistics};
use crate::experience::rollout::CompleteRound;
use crate::networks::{Flat, NetworkError};
use crate::optimiser::Adam;
use crate::run::RunSpecification;
use crate::tensors::to_host;

/// The learner's half of soft actor-critic: the networks, their optimisers and the replay store.
#[derive(Debug)]
pub struct Sac {
    config: SacConfiguration,
    seed: u64,
    encoder: Encoder,
    target_entropy: f64,
    networks: SacNetworks,
    policy: Flat,
    policy_gradient: Flat,
    policy_adam: Adam,
    critics: Flat,
    target_critics: Flat,
    critic_gradient: Flat,
    critic_adam: Adam,
    /// Logarithm of the temperature, `[1]`.
    log_temperature: Tensor,
    temperature_adam: Adam,
    num_gradient_steps: u64,
    replay: Replayed,
}

impl Sac {
    /// A start as the run's configuration asks for it.
    ///
    /// # Errors
    /// [`AlgorithmError`] where networks or replay cannot be made.
    pub fn configured(
        configuration: &Configuration,
        specification: &RunSpecification,
        device: Device,
    ) -> Result<Self, AlgorithmError> {
        let config = configuration.sac.clone();
        let seed = configuration.run.seed;
        let networks = SacNetworks::new(&specification.policy, device)?;
        let (policy, critics) = networks.initial(seed, device);
        let mut target_critics = Flat::zeros(&networks.critic_layout, device);
        target_critics.follow(&critics, 1.0);
        let options = config::adam_options(&config);
        let adam = |len: usize| Adam::new(len, options, device);
        let log_temperature = config.initial_temperature.ln() as f32;
        Ok(Self {
            seed,
            encoder: specification.policy.encoder.clone(),
            target_entropy: config::target_entropy(&config, &specification.policy.head),
            policy_gradient: Flat::zeros(&networks.policy_layout, device),
            policy_adam: adam(networks.policy_layout.len()),
            critic_gradient: Flat::zeros(&networks.critic_layout, device),
            critic_adam: adam(networks.critic_layout.len()),
            log_temperature: Tensor::from_slice(&[log_temperature]),
            // A scalar: it stays on the host.
            temperature_adam: Adam::new(1, options, Device::Cpu),
            policy,
            critics,
            target_critics,
            networks,
            num_gradient_steps: 0,
            replay: Replayed::new(
                configuration,
                specification,
                config.discount,
                config.minibatch_size,
            )?,
            config,
        })
    }

    /// The weight of the entropy, alpha.
    pub fn temperature(&self) -> f64 {
        self.log_temperature.double_value(&[0]).exp()
    }
}

const TARGET: &str = "target_critics";
const POLICY_ADAM: &str = "policy_adam";
const CRITIC_ADAM: &str = "critic_adam";
const TEMPERATURE: &str = "log_temperature";
const TEMPERATURE_ADAM: &str = "temperature_adam";
const GRADIENT_STEPS: &str = "gradient_steps";

impl Algorithm for Sac {
    fn policy_parameters(&self) -> Vec<f32> {
        self.policy.export()
    }

    fn acting(&self, env_steps: u64) -> BTreeMap<String, f64> {
        let is_uniform = env_steps < self.replay.minimum_size();
        BTreeMap::from([
            (UNIFORM.to_owned(), f64::from(u8::from(is_uniform))),
            (NOISE_HOLD.to_owned(), f64::from(self.config.noise_hold)),
        ])
    }

    fn learn(
        &mut self,
        round: &CompleteRound,
        context: RoundContext<'_>,
    ) -> Result<Statistics, AlgorithmError> {
        self.update(round, context).map(Statistics::Sac)
    }

    /// The parameters are the policy's, then the critics'.
    fn state(&self) -> AlgorithmState {
        let mut parameters = self.policy.export();
        parameters.extend(self.critics.export());
        let state = AlgorithmState {
            arrays: BTreeMap::from([
                (AlgorithmState::PARAMETERS.to_owned(), parameters),
                (TARGET.to_owned(), self.target_critics.export()),
                (TEMPERATURE.to_owned(), to_host(&self.log_temperature)),
            ]),
            counters: BTreeMap::from([(GRADIENT_STEPS.to_owned(), self.num_gradient_steps)]),
            replay: None,
        }
        .with_adam(POLICY_ADAM, self.policy_adam.state())
        .with_adam(CRITIC_ADAM, self.critic_adam.state())
        .with_adam(TEMPERATURE_ADAM, self.temperature_adam.state());
        self.replay.save(state)
    }

    fn restore(&mut self, state: &AlgorithmState) -> Result<(), AlgorithmError> {
        let parameters = state.array(AlgorithmState::PARAMETERS)?;
        let num_policy = self.networks.policy_layout.len();
        let expected = num_policy + self.networks.critic_layout.len();
        let got = parameters.len();
        if got != expected {
            return Err(NetworkError::Parameters { expected, got }.into());
        }
        let &[log_temperature] = state.array(TEMPERATURE)? else {
            return Err(AlgorithmError::Missing(TEMPERATURE.to_owned()));
        };
        self.target_critics.import(state.array(TARGET)?)?;
        self.policy_adam.restore(&state.adam(POLICY_ADAM)?)?;
        self.critic_adam.restore(&state.adam(CRITIC_ADAM)?)?;
        self.temperature_adam
            .restore(&state.adam(TEMPERATURE_ADAM)?)?;
        self.num_gradient_steps = state.counter(GRADIENT_STEPS)?;
        self.policy.import(&parameters[..num_policy])?;
        self.critics.import(&parameters[num_policy..])?;
        self.log_temperature = Tensor::from_slice(&[log_temperature]);
        self.replay.restore(state)
    }
}
