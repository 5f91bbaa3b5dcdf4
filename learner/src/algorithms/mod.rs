//! The algorithms. Each is one folder with the same files: `config.rs` (its options), `networks.rs`
//! (what is trained, where it is not shared), `loss.rs` (pure functions from tensors to tensors),
//! `update.rs` (what one round of experience does) and `mod.rs`.

pub mod round;
pub mod returns;
pub mod vtrace;
pub mod likelihood;
pub mod schedules;
pub mod sequences;
pub mod on_policy;
pub mod policy_gradient;
pub mod replayed;
pub mod bounded;
pub mod twin_critics;
pub mod ppo;
pub mod impala;
pub mod a2c;
pub mod reinforce;
pub mod tabular;
pub mod dqn;
pub mod sac;
pub mod td3;
#[doc(hidden)]
pub mod bench;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;

use rookery_common::configuration::{Algorithm as Name, Configuration};
use rookery_common::normaliser::{ObservationNormaliser, RewardScaler};
use rookery_common::policy::{Encoder, Exploration, PolicyError, PolicySpec};
use rookery_common::spaces::{EnvironmentSpec, Space};
use rookery_common::unroll::UnrollShape;
use serde::Serialize;
use tch::Device;
use thiserror::Error;

use crate::algorithms::replayed::ReplayContents;
use crate::algorithms::round::Round;
use crate::experience::replay::{LimiterError, OptionsError, ReplayError, RestoreError};
use crate::experience::rollout::CompleteRound;
use crate::logs::Distributions;
use crate::networks::NetworkError;
use crate::optimiser::{AdamState, AdamStateError};
use crate::progress::{Stage, StageClock};
use crate::run::RunSpecification;

/// What the compute thread asks of an algorithm.
pub trait Algorithm {
    /// A copy of the parameters that act, in the order of the policy's layout.
    fn policy_parameters(&self) -> Vec<f32>;

    /// The acting scalars that belong to them, after `env_steps` of training.
    fn acting(&self, env_steps: u64) -> BTreeMap<String, f64>;

    /// Learns from one round.
    ///
    /// # Errors
    /// [`AlgorithmError`] where the round does not fit.
    fn learn(
        &mut self,
        round: &CompleteRound,
        context: RoundContext<'_>,
    ) -> Result<Statistics, AlgorithmError>;

    /// Copies the state to the host.
    fn state(&self) -> AlgorithmState;

    /// Continues from `state`: what follows is bit for bit what would have followed it.
    ///
    /// # Errors
    /// [`AlgorithmError`] where the state is another algorithm's or another network's.
    fn restore(&mut self, state: &AlgorithmState) -> Result<(), AlgorithmError>;
}

/// What one round is learnt in.
pub struct RoundContext<'a> {
    /// Extents of an unroll.
    pub shape: UnrollShape,
    /// The round's number, which is the number of updates before it.
    pub index: u64,
    /// Environment steps consumed before it.
    pub env_steps: u64,
    /// Share of the run that is done before it.
    pub progress: f64,
    /// How observations are normalised: in a synchronous run as they were when the actions were chosen.
    pub normaliser: Option<&'a ObservationNormaliser>,
    /// By what rewards are scaled.
    pub reward_scaler: Option<&'a mut RewardScaler>,
    /// Takes the time of each stage.
    pub clock: &'a mut StageClock,
    /// Take what the update makes of its data, where somebody wants to see it.
    pub distributions: &'a mut Distributions,
}

impl RoundContext<'_> {
    /// The columns of `round`, normalised and scaled as the run does it, whose time is booked.
    pub fn columns(&mut self, round: &CompleteRound) -> Round {
        let columns = round.columns(&self.shape, self.normaliser, self.reward_scaler.take());
        self.lap(Stage::Batch);
        columns
    }

    /// Books the time since the last stage.
    pub fn lap(&mut self, stage: Stage) {
        self.clock.lap(stage);
    }
}

/// What one update did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Statistics {
    /// Of PPO.
    Ppo(ppo::PpoStatistics),
    /// Of V-trace actor-critic.
    Impala(impala::ImpalaStatistics),
    /// Of deep Q-learning.
    Dqn(dqn::DqnStatistics),
    /// Of soft actor-critic.
    Sac(sac::SacStatistics),
    /// Of TD3.
    Td3(td3::Td3Statistics),
    /// Of advantage actor-critic.
    A2c(a2c::A2cStatistics),
    /// Of REINFORCE.
    Reinforce(reinforce::ReinforceStatistics),
    /// Of Q-learning and SARSA.
    Tabular(tabular::TabularStatistics),
}

impl Statistics {
    /// Gradient steps taken.
    #[must_use]
    pub fn gradient_steps(&self) -> u64 {
        match self {
            Self::Ppo(statistics) => statistics.gradient_steps,
            Self::Impala(statistics) => statistics.gradient_steps,
            Self::Dqn(statistics) => statistics.gradient_steps,
            Self::Sac(statistics) => statistics.critics.gradient_steps,
            Self::Td3(statistics) => statistics.critics.gradient_steps,
            Self::A2c(statistics) => statistics.step.gradient_steps,
            Self::Reinforce(statistics) => statistics.step.gradient_steps,
            Self::Tabular(statistics) => statistics.gradient_steps,
        }
    }

    /// Gradients that were not finite and so moved nothing.
    #[must_use]
    pub fn skipped_steps(&self) -> u64 {
        match self {
            Self::Ppo(statistics) => statistics.skipped_steps,
            Self::Impala(statistics) => statistics.skipped_steps,
            Self::Dqn(statistics) => statistics.skipped_steps,
            Self::Sac(statistics) => statistics.skipped_steps,
            Self::Td3(statistics) => statistics.skipped_steps,
            Self::A2c(statistics) => statistics.step.skipped_steps,
            Self::Reinforce(statistics) => statistics.step.skipped_steps,
            Self::Tabular(_) => 0,
        }
    }
}

/// All that the next update depends on, besides its round: named arrays and counters, and the contents of
/// a replay store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlgorithmState {
    /// Arrays, the first of which is called [`AlgorithmState::PARAMETERS`].
    pub arrays: BTreeMap<String, Vec<f32>>,
    /// Counters.
    pub counters: BTreeMap<String, u64>,
    /// The replay store, where there is one and its contents are to be kept.
    pub replay: Option<ReplayContents>,
}

impl AlgorithmState {
    /// The array of every parameter that is learnt: its hash is a run's digest.
    pub const PARAMETERS: &'static str = "parameters";

    /// Adds the state of an optimiser under `name`.
    #[must_use]
    pub fn with_adam(mut self, name: &str, adam: AdamState) -> Self {
        self.arrays
            .insert(format!("{name}.first_moment"), adam.first_moment);
        self.arrays
            .insert(format!("{name}.second_moment"), adam.second_moment);
        self.counters
            .insert(format!("{name}.steps"), adam.num_steps);
        self
    }

    /// The state of the optimiser `name`.
    ///
    /// # Errors
    /// [`AlgorithmError::Missing`].
    pub fn adam(&self, name: &str) -> Result<AdamState, AlgorithmError> {
        Ok(AdamState {
            num_steps: self.counter(&format!("{name}.steps"))?,
            first_moment: self.array(&format!("{name}.first_moment"))?.to_vec(),
            second_moment: self.array(&format!("{name}.second_moment"))?.to_vec(),
        })
    }

    /// An array.
    ///
    /// # Errors
    /// [`AlgorithmError::Missing`].
    pub fn array(&self, name: &str) -> Result<&[f32], AlgorithmError> {
        self.arrays
            .get(name)
            .map(Vec::as_slice)
            .ok_or_else(|| AlgorithmError::Missing(name.to_owned()))
    }

    /// A counter.
    ///
    /// # Errors
    /// [`AlgorithmError::Missing`].
    pub fn counter(&self, name: &str) -> Result<u64, AlgorithmError> {
        self.counters
            .get(name)
            .copied()
            .ok_or_else(|| AlgorithmError::Missing(name.to_owned()))
    }
}

/// Why an algorithm refuses what it is given. Parameters and optimiser are as before.
#[derive(Debug, Error)]
pub enum AlgorithmError {
    /// An on-policy algorithm's reason.
    #[error(transparent)]
    OnPolicy(#[from] on_policy::OnPolicyError),
    /// No policy of the algorithm can act in the environment.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The network refuses observations or parameters.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The optimiser's state is for another network.
    #[error(transparent)]
    Adam(#[from] AdamStateError),
    /// The replay store refuses a round.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The replay store cannot be made.
    #[error(transparent)]
    ReplayOptions(#[from] OptionsError),
    /// The replay store's limiter cannot be made.
    #[error(transparent)]
    Limiter(#[from] LimiterError),
    /// The replay store cannot be restored.
    #[error(transparent)]
    ReplayRestore(#[from] RestoreError),
    /// The replay store's contents cannot be encoded.
    #[error("the replay store cannot be encoded: {0}")]
    ReplayEncoding(#[from] std::io::Error),
    /// A checkpoint lacks what the algorithm goes on from.
    #[error("the checkpoint lacks `{0}`; resume with the algorithm that wrote it")]
    Missing(String),
    /// An array of a checkpoint is for other environments or another network.
    #[error(
        "array `{array}` of the checkpoint has {got} elements, expected {expected}; resume with the \
         configuration of the checkpoint"
    )]
    Length {
        /// Its name.
        array: String,
        /// Elements that the configuration asks for.
        expected: usize,
        /// Elements that it has.
        got: usize,
    },
}

/// The configured algorithm, at its start.
///
/// # Errors
/// [`AlgorithmError`] where the options and the environment make none.
pub fn build(
    configuration: &Configuration,
    specification: &RunSpecification,
    device: Device,
) -> Result<Box<dyn Algorithm>, AlgorithmError> {
    let policy = &specification.policy;
    Ok(match configuration.run.algorithm {
        Name::Ppo => Box::new(ppo::Ppo::configured(configuration, policy, device)?),
        Name::Impala => Box::new(impala::Impala::configured(configuration, policy, device)?),
        Name::Dqn => Box::new(dqn::Dqn::configured(configuration, specification, device)?),
        Name::Sac => Box::new(sac::Sac::configured(configuration, specification, device)?),
        Name::Td3 => Box::new(td3::Td3::configured(configuration, specification, device)?),
        Name::A2c => Box::new(a2c::A2c::configured(configuration, policy, device)?),
        Name::Reinforce => Box::new(reinforce::Reinforce::configured(
            configuration,
            policy,
            device,
        )?),
        Name::QLearning | Name::Sarsa => {
            Box::new(tabular::Tabular::configured(configuration, policy)?)
        }
    })
}

/// The network that acts, as the configured algorithm wants it for an environment.
///
/// # Errors
/// Where no such network can see and act in it; the message names the remedy.
pub fn policy_spec(
    configuration: &Configuration,
    environment: &EnvironmentSpec,
) -> Result<PolicySpec, PolicyError> {
    let hidden = configuration.policy.hidden.clone();
    let activation = configuration.policy.activation;
    let (observation, action) = (&environment.observation, &environment.action);
    let spec = match configuration.run.algorithm {
        Name::Ppo | Name::Impala | Name::A2c | Name::Reinforce => {
            PolicySpec::new(observation, action, hidden, activation)?
                .with_recurrent(configuration.policy.recurrent_layer())?
        }
        Name::QLearning | Name::Sarsa => PolicySpec::table(observation, action)?,
        Name::Dqn => {
            let dqn = &configuration.dqn;
            PolicySpec::action_values(
                observation,
                action,
                hidden,
                activation,
                dqn.dueling,
                dqn::config::distribution(dqn),
                dqn.noisy,
            )?
        }
        Name::Sac => match action {
            // Discrete actions are drawn from the same categorical head as PPO's (T26).
            Space::Discrete { .. } => PolicySpec::new(observation, action, hidden, activation)?,
            Space::MultiDiscrete { .. } => {
                return Err(PolicyError::SeveralChoices {
                    algorithm: configuration.run.algorithm.name(),
                    got: action.to_string(),
                });
            }
            Space::Box { .. } | Space::Frames { .. } => {
                PolicySpec::squashed_gaussian(observation, action, hidden, activation)?
            }
        },
        Name::Td3 => PolicySpec::deterministic(observation, action, hidden, activation)?,
    };
    if environment.action_mask && configuration.run.algorithm == Name::Sac {
        return Err(PolicyError::SacMask);
    }
    let spec = spec.with_action_mask(environment.action_mask)?;
    let stages = configuration.policy.stages();
    let spec = if stages.is_empty() {
        spec
    } else {
        spec.with_image_encoder(observation, stages)?
    };
    if configuration.normalisation.observations && matches!(spec.encoder, Encoder::OneHot { .. }) {
        return Err(PolicyError::NormalisedIndices);
    }
    Ok(spec)
}

/// How the actors explore.
#[must_use]
pub fn exploration(configuration: &Configuration) -> Exploration {
    match configuration.run.algorithm {
        Name::Dqn => dqn::config::exploration(configuration),
        Name::Td3 => td3::config::exploration(&configuration.td3),
        Name::QLearning | Name::Sarsa => tabular::exploration(),
        Name::Ppo | Name::Impala | Name::A2c | Name::Reinforce | Name::Sac => Exploration::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(observation: Space, action: Space) -> EnvironmentSpec {
        EnvironmentSpec {
            id: "Some-v0".to_owned(),
            arguments: BTreeMap::new(),
            observation,
            action,
            max_episode_steps: None,
            goal: None,
            wrappers: Vec::new(),
            action_mask: false,
        }
    }

    fn configured(algorithm: Name) -> Configuration {
        let mut configuration = Configuration::default();
        configuration.run.algorithm = algorithm;
        configuration
    }

    #[test]
    fn an_algorithm_chooses_the_head_that_it_learns() {
        let torque = Space::bounded(&[-2.0], &[2.0]);
        let buttons = Space::Discrete { n: 3 };
        let several = Space::MultiDiscrete { nvec: vec![3, 2] };
        for (algorithm, action, head) in [
            (Name::Ppo, &torque, "diagonal_gaussian"),
            (Name::Ppo, &buttons, "categorical"),
            (Name::Impala, &torque, "diagonal_gaussian"),
            (Name::Impala, &buttons, "categorical"),
            (Name::Dqn, &buttons, "action_values"),
            (Name::Sac, &torque, "squashed_gaussian"),
            (Name::Sac, &buttons, "categorical"),
            (Name::Td3, &torque, "deterministic"),
            (Name::A2c, &torque, "diagonal_gaussian"),
            (Name::A2c, &buttons, "categorical"),
            (Name::Reinforce, &buttons, "categorical"),
            (Name::Ppo, &several, "multi_categorical"),
            (Name::A2c, &several, "multi_categorical"),
        ] {
            let seen = environment(Space::bounded(&[-1.0], &[1.0]), action.clone());
            let spec = policy_spec(&configured(algorithm), &seen).unwrap();
            assert_eq!(spec.head.name(), head);
        }
    }

    #[test]
    fn an_environment_that_an_algorithm_cannot_act_in_is_refused_with_the_remedy() {
        let observation = Space::bounded(&[-1.0], &[1.0]);
        let refused = |algorithm, action: Space, remedy: &str| {
            let seen = environment(observation.clone(), action);
            let error = policy_spec(&configured(algorithm), &seen).unwrap_err();
            assert!(error.to_string().contains(remedy), "{error}");
        };
        let torque = Space::bounded(&[-2.0], &[2.0]);
        refused(Name::Dqn, torque, "train with sac or ppo");
        for algorithm in [Name::QLearning, Name::Sarsa] {
            refused(algorithm, Space::Discrete { n: 2 }, "discrete observations");
        }
        let unbounded = Space::bounded(&[f32::NEG_INFINITY], &[2.0]);
        refused(
            Name::Sac,
            unbounded.clone(),
            "bound the environment's actions",
        );
        refused(Name::Td3, unbounded, "bound the environment's actions");
        refused(Name::Td3, Space::Discrete { n: 2 }, "train");
        for algorithm in [Name::Dqn, Name::Sac] {
            refused(
                algorithm,
                Space::MultiDiscrete { nvec: vec![3, 2] },
                "flatten_action",
            );
        }
    }
}
