//! What a run is: one tree of sections that mirrors the rooms of the program, read from TOML.
//!
//! A configuration is built from [`Layers`]: defaults < preset < file < `--set` < named flags.
//! Whatever is wrong with them is said at once, as a [`ConfigurationError`] with one
//! [`Violation`] for each thing. [`Configuration::to_toml`] writes the effective configuration,
//! and [`Configuration::parse`] reads it back, equal.
//!
//! Sections up to `[checkpoint]` say what is trained and how; the result of a synchronous run is a
//! function of them. Sections from `[learner]` on say how processes run and may differ from
//! machine to machine.

mod training;
mod schedule;
mod ppo;
mod impala;
mod dqn;
mod sac;
mod td3;
mod a2c;
mod reinforce;
mod tabular;
mod replay;
mod logging;
mod processes;
mod units;
mod presets;
mod layers;
mod decode;
mod validate;
mod violation;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use crate::policy::{Activation, EncoderKind, RecurrentCell};
pub use a2c::A2cConfiguration;
pub use dqn::{DqnConfiguration, ReturnDistribution};
pub use impala::ImpalaConfiguration;
pub use layers::Layers;
pub use logging::{LoggingConfiguration, MlflowConfiguration, TrackingUri, TrackingUriError};
pub use ppo::{AdvantageEstimator, AdvantageNormalisation, Annealing, PpoConfiguration};
pub use presets::Preset;
pub use processes::{
    ActorConfiguration, Device, HostConfiguration, LearnerConfiguration, LogFormat,
    SecurityConfiguration, TelemetryConfiguration,
};
pub use reinforce::ReinforceConfiguration;
pub use replay::{HindsightStrategy, ReplayConfiguration};
pub use sac::SacConfiguration;
pub use schedule::{Schedule, ScheduleConfiguration, ScheduleKind};
pub use tabular::TabularConfiguration;
pub use td3::Td3Configuration;
pub use training::{
    Algorithm, CheckpointConfiguration, EnvironmentConfiguration, EvaluationConfiguration,
    NormalisationConfiguration, PYTHON_WRAPPERS, PolicyConfiguration, RolloutConfiguration,
    RunConfiguration,
};
pub use units::{ByteSize, HumanDuration, UnitError};
pub use violation::{ConfigurationError, Key, Problem, Source, Violation};

/// Everything that can be set, one field for each section of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Configuration {
    /// What the run is called, how long it lasts and where it writes.
    pub run: RunConfiguration,
    /// What the actors simulate.
    pub environment: EnvironmentConfiguration,
    /// How experience is cut into pieces.
    pub rollout: RolloutConfiguration,
    /// How collecting and learning interleave.
    pub schedule: ScheduleConfiguration,
    /// The networks.
    pub policy: PolicyConfiguration,
    /// Proximal policy optimisation.
    pub ppo: PpoConfiguration,
    /// V-trace actor-critic.
    pub impala: ImpalaConfiguration,
    /// Deep Q-learning.
    pub dqn: DqnConfiguration,
    /// Soft actor-critic.
    pub sac: SacConfiguration,
    /// Twin delayed deterministic policy gradients.
    pub td3: Td3Configuration,
    /// Advantage actor-critic.
    pub a2c: A2cConfiguration,
    /// REINFORCE.
    pub reinforce: ReinforceConfiguration,
    /// Q-learning and SARSA over a table.
    pub tabular: TabularConfiguration,
    /// What off-policy algorithms keep and how they sample it.
    pub replay: ReplayConfiguration,
    /// Running statistics by which inputs are scaled.
    pub normalisation: NormalisationConfiguration,
    /// How well the policy acts when it does not explore.
    pub evaluation: EvaluationConfiguration,
    /// When the learner's state is saved.
    pub checkpoint: CheckpointConfiguration,
    /// The process that updates.
    pub learner: LearnerConfiguration,
    /// The processes that collect.
    pub actor: ActorConfiguration,
    /// Who may connect, and who can listen in.
    pub security: SecurityConfiguration,
    /// What the processes say about themselves.
    pub telemetry: TelemetryConfiguration,
    /// Where a run's curves go.
    pub logging: LoggingConfiguration,
}

impl Configuration {
    /// Reads a text that [`to_toml`](Self::to_toml) or a person has written. Keys that it lacks
    /// have their defaults.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ConfigurationError> {
        Layers::new().text("configuration", text).build()
    }

    /// The whole configuration as TOML, defaults included; optional keys that are not set are
    /// `"none"`.
    ///
    /// # Panics
    /// If a count is 2^63 or more, which [`validate`](Self::validate) refuses.
    #[must_use]
    pub fn to_toml(&self) -> String {
        to_table(self).to_string()
    }

    /// Everything that is wrong with the configuration beyond its types; empty where it can run.
    #[must_use]
    pub fn validate(&self) -> Vec<Violation> {
        validate::validate(self)
    }

    /// The presets that come with the program, in alphabetical order.
    #[must_use]
    pub const fn presets() -> &'static [Preset] {
        presets::PRESETS
    }

    /// Discount factor of a step, gamma, of the algorithm that learns.
    #[must_use]
    pub const fn discount(&self) -> f64 {
        match self.run.algorithm {
            Algorithm::Ppo => self.ppo.discount,
            Algorithm::Impala => self.impala.discount,
            Algorithm::Dqn => self.dqn.discount,
            Algorithm::Sac => self.sac.discount,
            Algorithm::Td3 => self.td3.discount,
            Algorithm::A2c => self.a2c.discount,
            Algorithm::Reinforce => self.reinforce.discount,
            Algorithm::QLearning | Algorithm::Sarsa => self.tabular.discount,
        }
    }
}

/// The configuration as a table, with every section and every key.
#[expect(
    clippy::expect_used,
    reason = "sections hold only what TOML can write; counts are validated to be below 2^63"
)]
fn to_table(configuration: &Configuration) -> Table {
    match Value::try_from(configuration).expect("a configuration is a TOML table") {
        Value::Table(table) => table,
        _ => unreachable!("a struct is written as a table"),
    }
}
