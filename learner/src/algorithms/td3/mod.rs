//! Twin delayed deep deterministic policy gradients, TD3 (Fujimoto, van Hoof and Meger 2018): a
//! deterministic policy climbs the first of two critics, which learn from smoothed and delayed targets.

pub mod config;
pub mod networks;
pub mod loss;
pub mod update;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rookery_common::configuration::{Configuration, Td3Configuration};
use rookery_common::policy::Encoder;
use rookery_common::policy::exploration::{NOISE_HOLD, UNIFORM};
use tch::Device;

pub use networks::Td3Policy;
pub use update::Td3Statistics;

use super::bounded::initial_policy;
use super::replayed::Replayed;
use super::twin_critics::TwinCritics;
use super::{Algorithm, AlgorithmError, AlgorithmState, RoundContext, Statistics};
use crate::experience::rollout::CompleteRound;
use crate::networks::Flat;
use crate::optimiser::Adam;
use crate::run::RunSpecification;

/// The learner's half of TD3: the networks, their optimisers and the replay store.
#[derive(Debug)]
pub struct Td3 {
    config: Td3Configuration,
    seed: u64,
    encoder: Encoder,
    network: Td3Policy,
    policy: Flat,
    target_policy: Flat,
    policy_gradient: Flat,
    policy_adam: Adam,
    critics: TwinCritics,
    num_gradient_steps: u64,
    replay: Replayed,
}

impl Td3 {
    /// A start as the run's configuration asks for it.
    ///
    /// # Errors
    /// [`AlgorithmError`] where networks or replay cannot be made.
    pub fn configured(
        configuration: &Configuration,
        specification: &RunSpecification,
        device: Device,
    ) -> Result<Self, AlgorithmError> {
        let config = configuration.td3.clone();
        let seed = configuration.run.seed;
        let spec = &specification.policy;
        let network = Td3Policy::new(spec, device)?;
        let num_inputs = spec.input_width() + spec.head.action_width();
        let options = config::adam_options(&config);
        let policy = initial_policy(&network.layout, seed, device);
        let mut target_policy = Flat::zeros(&network.layout, device);
        target_policy.follow(&policy, 1.0);
        Ok(Self {
            seed,
            encoder: spec.encoder.clone(),
            policy,
            target_policy,
            policy_gradient: Flat::zeros(&network.layout, device),
            policy_adam: Adam::new(network.layout.len(), options, device),
            critics: TwinCritics::new(spec, num_inputs, 1, seed, options, device),
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
}

const TARGET_POLICY: &str = "target_policy";
const POLICY_ADAM: &str = "policy_adam";
const GRADIENT_STEPS: &str = "gradient_steps";

impl Algorithm for Td3 {
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
        self.update(round, context).map(Statistics::Td3)
    }

    /// The parameters are the policy's, then the critics'.
    fn state(&self) -> AlgorithmState {
        let state = AlgorithmState {
            arrays: BTreeMap::from([
                (AlgorithmState::PARAMETERS.to_owned(), self.policy.export()),
                (TARGET_POLICY.to_owned(), self.target_policy.export()),
            ]),
            counters: BTreeMap::from([(GRADIENT_STEPS.to_owned(), self.num_gradient_steps)]),
            replay: None,
        }
        .with_adam(POLICY_ADAM, self.policy_adam.state());
        self.replay.save(self.critics.save(state))
    }

    fn restore(&mut self, state: &AlgorithmState) -> Result<(), AlgorithmError> {
        let policy = self.critics.restore(state, self.network.layout.len())?;
        self.target_policy.import(state.array(TARGET_POLICY)?)?;
        self.policy_adam.restore(&state.adam(POLICY_ADAM)?)?;
        self.num_gradient_steps = state.counter(GRADIENT_STEPS)?;
        self.policy.import(policy)?;
        self.replay.restore(state)
    }
}
