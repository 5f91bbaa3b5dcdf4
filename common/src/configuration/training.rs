//! The sections that say what is trained on what: the same on every machine of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::units::{HumanDuration, or_none};
use crate::policy::{Activation, EncoderKind, Recurrent, RecurrentCell, Stage};
use crate::wrappers::Wrapper;

/// What learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Proximal policy optimisation, with the options of `[ppo]`.
    Ppo,
    /// V-trace actor-critic, with the options of `[impala]`.
    Impala,
    /// Deep Q-learning, with the options of `[dqn]` and `[replay]`.
    Dqn,
    /// Soft actor-critic, with the options of `[sac]` and `[replay]`.
    Sac,
    /// Twin delayed deterministic policy gradients, with the options of `[td3]` and `[replay]`.
    Td3,
    /// Advantage actor-critic, with the options of `[a2c]`.
    A2c,
    /// REINFORCE, with the options of `[reinforce]`.
    Reinforce,
    /// Q-learning over a table, with the options of `[tabular]`.
    QLearning,
    /// SARSA over a table, with the options of `[tabular]`.
    Sarsa,
}

impl Algorithm {
    /// Its name in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ppo => "ppo",
            Self::Impala => "impala",
            Self::Dqn => "dqn",
            Self::Sac => "sac",
            Self::Td3 => "td3",
            Self::A2c => "a2c",
            Self::Reinforce => "reinforce",
            Self::QLearning => "q_learning",
            Self::Sarsa => "sarsa",
        }
    }

    /// Whether it learns from transitions of earlier policies, out of `[replay]`.
    #[must_use]
    pub const fn is_off_policy(self) -> bool {
        match self {
            Self::Ppo
            | Self::Impala
            | Self::A2c
            | Self::Reinforce
            | Self::QLearning
            | Self::Sarsa => false,
            Self::Dqn | Self::Sac | Self::Td3 => true,
        }
    }

    /// Whether it learns a table, and so needs discrete observations and actions.
    #[must_use]
    pub const fn is_tabular(self) -> bool {
        matches!(self, Self::QLearning | Self::Sarsa)
    }
}

/// `[run]`: what the run is called, how long it lasts and where it writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfiguration {
    /// Name of the run's folder: letters, digits, `.`, `_` and `-`. Empty: made from the
    /// environment, the algorithm and the seed. \[`""`\]
    pub name: String,
    /// What learns: `"ppo"`, `"impala"`, `"dqn"`, `"sac"`, `"td3"`, `"a2c"`, `"reinforce"`, `"q_learning"` or
    /// `"sarsa"`. \[`"ppo"`\]
    pub algorithm: Algorithm,
    /// Seed of every random stream of the run, below 2^63. \[`1`\]
    pub seed: u64,
    /// Environment steps after which training ends. It ends with the whole round in which the
    /// count is reached, so up to one round less one step is collected beyond it.
    /// \[`1_000_000`\]
    pub total_env_steps: u64,
    /// Folder in which every run gets a folder of its own. \[`"runs"`\]
    pub directory: PathBuf,
    /// Mean raw return of the last 100 training episodes from which the environment counts as
    /// solved. \[none\]
    #[serde(serialize_with = "or_none")]
    pub solved_return: Option<f64>,
    /// Whether to end the run as soon as it counts as solved. \[`false`\]
    pub stop_when_solved: bool,
}

impl Default for RunConfiguration {
    fn default() -> Self {
        Self {
            name: String::new(),
            algorithm: Algorithm::Ppo,
            seed: 1,
            total_env_steps: 1_000_000,
            directory: PathBuf::from("runs"),
            solved_return: None,
            stop_when_solved: false,
        }
    }
}

/// `[environment]`: what the actors simulate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnvironmentConfiguration {
    /// Gymnasium's id of the environment, which is native where it can be and otherwise Python's;
    /// `"gymnasium:CartPole-v1"` is Python's in any case, `"module:Class"` any class of Python's.
    /// \[`"CartPole-v1"`\]
    pub id: String,
    /// Keyword arguments of the environment: strings, booleans and numbers, kept as text and read
    /// by the environment itself. \[none\]
    #[serde(deserialize_with = "arguments_as_text")]
    pub arguments: BTreeMap<String, String>,
    /// Wrappers of Python, `"module:Wrapper"`, that are put around each instance of an environment of
    /// Python, the first of them innermost. \[`[]`\]
    pub python_wrappers: Vec<String>,
    /// What stands around each instance, the innermost first: a list of tables whose `kind` says
    /// what ([`Wrapper`]). \[none\]
    #[serde(serialize_with = "with_kinds")]
    pub wrappers: Vec<Wrapper>,
    /// Number of instances over all actors together; a part of the result, unlike the number of
    /// actors. In an asynchronous run, where instances come and go with the actors, the most that
    /// there can be. \[`8`\]
    pub num_envs: usize,
}

impl Default for EnvironmentConfiguration {
    fn default() -> Self {
        Self {
            id: "CartPole-v1".to_owned(),
            arguments: BTreeMap::new(),
            python_wrappers: Vec::new(),
            wrappers: Vec::new(),
            num_envs: 8,
        }
    }
}

/// The argument under which the wrappers of Python are a part of what an environment is.
pub const PYTHON_WRAPPERS: &str = "python_wrappers";

impl EnvironmentConfiguration {
    /// All that says what the environment is besides its id: its keyword arguments and, as
    /// [`PYTHON_WRAPPERS`] with commas between them, its wrappers.
    #[must_use]
    pub fn all_arguments(&self) -> BTreeMap<String, String> {
        let mut arguments = self.arguments.clone();
        if !self.python_wrappers.is_empty() {
            let wrappers = self.python_wrappers.join(",");
            arguments.insert(PYTHON_WRAPPERS.to_owned(), wrappers);
        }
        arguments
    }
}

/// `[rollout]`: how experience is cut into pieces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutConfiguration {
    /// Environments that are collected together and leased as one shard; it divides
    /// `environment.num_envs`. At most `num_envs / envs_per_shard` actor threads have work.
    /// \[`4`\]
    pub envs_per_shard: usize,
    /// Steps of one environment in an unroll. \[`128`\]
    pub unroll_length: usize,
}

impl Default for RolloutConfiguration {
    fn default() -> Self {
        Self {
            envs_per_shard: 4,
            unroll_length: 128,
        }
    }
}

/// `[policy]`: the networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfiguration {
    /// What is in front of the hidden layers: nothing with `"mlp"`, to which an image is one flat row;
    /// convolutions with `"nature_cnn"` (usual with `hidden = [512]`), `"impala_cnn"` (`[256]`) or
    /// `"minatar_cnn"` (`[128]`), which need an observation of planes from 0 to 1. \[`"mlp"`\]
    pub encoder: EncoderKind,
    /// How many times the planes of its paper each convolution makes. \[`1`\]
    pub channel_multiplier: usize,
    /// Width of each hidden layer, from the observation (or what the encoder makes of it) on; `[]` is
    /// a linear policy. \[`[64, 64]`\]
    pub hidden: Vec<usize>,
    /// What follows each hidden layer. \[`"tanh"`\]
    pub activation: Activation,
    /// What remembers, between the last hidden layer and the head: `"lstm"`, `"gru"`, or nothing.
    /// For PPO with `shared_trunk`. \[none\]
    #[serde(serialize_with = "or_none")]
    pub recurrent: Option<RecurrentCell>,
    /// Outputs of that layer. \[`64`\]
    pub recurrent_units: usize,
    /// Whether the value function is a second head on the policy's layers, and not a network of its
    /// own with the same encoder and widths. \[`false`\]
    pub shared_trunk: bool,
    /// Logarithm of the standard deviation with which continuous actions start. \[`0.0`\]
    pub initial_log_std: f64,
}

impl PolicyConfiguration {
    /// The stages of the encoder; none of `"mlp"`.
    #[must_use]
    pub fn stages(&self) -> Vec<Stage> {
        self.encoder.stages(self.channel_multiplier)
    }
}

impl Default for PolicyConfiguration {
    fn default() -> Self {
        Self {
            encoder: EncoderKind::Mlp,
            channel_multiplier: 1,
            hidden: vec![64, 64],
            activation: Activation::Tanh,
            recurrent: None,
            recurrent_units: 64,
            shared_trunk: false,
            initial_log_std: 0.0,
        }
    }
}

impl PolicyConfiguration {
    /// The recurrent layer, where there is one.
    #[must_use]
    pub fn recurrent_layer(&self) -> Option<Recurrent> {
        self.recurrent.map(|cell| Recurrent {
            cell,
            units: self.recurrent_units,
        })
    }
}

/// `[normalisation]`: running statistics by which inputs are scaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NormalisationConfiguration {
    /// Whether observations are brought to mean zero and standard deviation one. \[`false`\]
    pub observations: bool,
    /// Bound of a normalised observation on both sides, in standard deviations. \[`10.0`\]
    pub observation_clip: f64,
    /// Whether rewards are divided by the standard deviation of the discounted return (T15);
    /// reported returns stay raw. \[`false`\]
    pub rewards: bool,
    /// Bound of a normalised reward on both sides. \[`10.0`\]
    pub reward_clip: f64,
}

impl Default for NormalisationConfiguration {
    fn default() -> Self {
        Self {
            observations: false,
            observation_clip: 10.0,
            rewards: false,
            reward_clip: 10.0,
        }
    }
}

/// `[evaluation]`: how well the policy acts when it does not explore.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationConfiguration {
    /// Environment steps of training between evaluations; none: only the last version is
    /// evaluated. \[none\]
    #[serde(serialize_with = "or_none")]
    pub every_env_steps: Option<u64>,
    /// Episodes of one evaluation. \[`20`\]
    pub episodes: u32,
    /// Evaluations from one of which an evaluator records the first episode, as a GIF, to the next
    /// such; the first one is recorded. The environment must draw pictures. None: it records nothing.
    /// \[none\]
    #[serde(serialize_with = "or_none")]
    pub record_every: Option<u32>,
    /// The folder of the evaluator's recordings; none: `recordings`, in the run directory of an
    /// evaluator that `rookery train` starts, and otherwise in the working directory. \[none\]
    #[serde(serialize_with = "or_none")]
    pub recordings: Option<PathBuf>,
    /// Newest recordings that stay there. \[`100`\]
    pub keep_recordings: u32,
}

impl Default for EvaluationConfiguration {
    fn default() -> Self {
        Self {
            every_env_steps: None,
            episodes: 20,
            record_every: None,
            recordings: None,
            keep_recordings: 100,
        }
    }
}

/// `[checkpoint]`: when the learner's state is saved. It is also saved at the end of a run and on
/// an orderly shutdown, whatever is set here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfiguration {
    /// Updates between checkpoints; none: as `every` says. \[none\]
    #[serde(serialize_with = "or_none")]
    pub every_updates: Option<u64>,
    /// Time between checkpoints, each taken after the update during which it has passed; `"none"`:
    /// as `every_updates` says. \[`"30s"`\]
    #[serde(serialize_with = "or_none")]
    pub every: Option<HumanDuration>,
    /// Newest checkpoints that stay on disk. \[`3`\]
    pub keep: u32,
}

impl Default for CheckpointConfiguration {
    fn default() -> Self {
        Self {
            every_updates: None,
            every: Some(HumanDuration::from_secs(30)),
            keep: 3,
        }
    }
}

/// Writes each wrapper as a table that names its `kind`, as the decoder reads it.
fn with_kinds<S: Serializer>(wrappers: &[Wrapper], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(wrappers.iter().map(|wrapper| {
        let (kind, mut table) = wrapper.settings();
        table.insert("kind".to_owned(), kind.into());
        table
    }))
}

/// Reads a table of strings, booleans and numbers, each as the text that stands for it.
fn arguments_as_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    struct Arguments;

    impl<'de> Visitor<'de> for Arguments {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a table")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut arguments = BTreeMap::new();
            while let Some((key, Text(value))) = map.next_entry()? {
                arguments.insert(key, value);
            }
            Ok(arguments)
        }
    }

    deserializer.deserialize_map(Arguments)
}

/// One argument of an environment as text.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;

        impl Visitor<'_> for Scalar {
            type Value = Text;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("text, a number, or true or false")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Text, E> {
                // `{:?}` keeps the point: 1.0 stays a float for whoever reads it.
                Ok(Text(format!("{value:?}")))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Text, E> {
                Ok(Text(value.to_owned()))
            }
        }

        deserializer.deserialize_any(Scalar)
    }
}
