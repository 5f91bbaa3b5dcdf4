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

pub use networks::SacPolicy;
pub use update::SacStatistics;

use super::bounded::initial_policy;
use super::replayed::Replayed;
use super::twin_critics::TwinCritics;
use super::{Algorithm, AlgorithmError, AlgorithmState, RoundContext, Statistics};
use crate::experience::rollout::CompleteRound;
use crate::networks::Flat;
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
    network: SacPolicy,
    policy: Flat,
    policy_gradient: Flat,
    policy_adam: Adam,
    critics: TwinCritics,
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
        let spec = &specification.policy;
        let network = SacPolicy::new(spec, device)?;
        let (num_inputs, num_outputs) = match spec.head.num_actions() {
            Some(num_actions) => (spec.input_width(), num_actions),
            None => (spec.input_width() + spec.head.action_width(), 1),
        };
        let options = config::adam_options(&config);
        let log_temperature = config.initial_temperature.ln() as f32;
        Ok(Self {
            seed,
            encoder: spec.encoder.clone(),
            target_entropy: config::target_entropy(&config, &spec.head),
            policy: initial_policy(&network.layout, seed, device),
            policy_gradient: Flat::zeros(&network.layout, device),
            policy_adam: Adam::new(network.layout.len(), options, device),
            critics: TwinCritics::new(spec, num_inputs, num_outputs, seed, options, device),
            log_temperature: Tensor::from_slice(&[log_temperature]),
            // A scalar: it stays on the host.
            temperature_adam: Adam::new(1, options, Device::Cpu),
            network,
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

const POLICY_ADAM: &str = "policy_adam";
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
        let state = AlgorithmState {
            arrays: BTreeMap::from([
                (AlgorithmState::PARAMETERS.to_owned(), self.policy.export()),
                (TEMPERATURE.to_owned(), to_host(&self.log_temperature)),
            ]),
            counters: BTreeMap::from([(GRADIENT_STEPS.to_owned(), self.num_gradient_steps)]),
            replay: None,
        }
        .with_adam(POLICY_ADAM, self.policy_adam.state())
        .with_adam(TEMPERATURE_ADAM, self.temperature_adam.state());
        self.replay.save(self.critics.save(state))
    }

    fn restore(&mut self, state: &AlgorithmState) -> Result<(), AlgorithmError> {
        let policy = self.critics.restore(state, self.network.layout.len())?;
        let &[log_temperature] = state.array(TEMPERATURE)? else {
            return Err(AlgorithmError::Missing(TEMPERATURE.to_owned()));
        };
        self.policy_adam.restore(&state.adam(POLICY_ADAM)?)?;
        self.temperature_adam
            .restore(&state.adam(TEMPERATURE_ADAM)?)?;
        self.num_gradient_steps = state.counter(GRADIENT_STEPS)?;
        self.policy.import(policy)?;
        self.log_temperature = Tensor::from_slice(&[log_temperature]);
        self.replay.restore(state)
    }
}
