//! The command line of an actor.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use rookery_common::configuration::Layers;
use rookery_common::security::Address;

/// Runs environments and streams unrolls to a learner, or evaluates its policies.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) configuration: ConfigurationArguments,
    /// Where the learner is: `host:port`, `https://host:port` or `unix:///path`.
    #[arg(long, value_name = "ADDRESS")]
    pub(super) learner: Option<Address>,
    /// Collector threads.
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,
    /// Evaluates policies instead of collecting unrolls.
    #[arg(long)]
    pub(super) evaluate: bool,
    /// Where an evaluator keeps its recordings [default: as configured].
    #[arg(long, value_name = "DIR", requires = "evaluate")]
    pub(super) recordings: Option<PathBuf>,
    /// Prints the effective configuration and exits.
    #[arg(long)]
    pub(super) print_config: bool,
    /// Ends when standard input closes, as it does when the parent process dies.
    #[arg(long)]
    pub(super) exit_with_parent: bool,
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub(super) struct ConfigurationArguments {
    /// The run's configuration: a TOML file, the same as the learner's.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A built-in configuration instead of a file.
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    preset: Option<String>,
    /// Sets one key, such as `--set environment.num_envs=16`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

impl ConfigurationArguments {
    /// Its layers, the lowest first.
    pub(super) fn layers(&self) -> Layers {
        let mut layers = Layers::new();
        if let Some(preset) = &self.preset {
            layers = layers.preset(preset);
        }
        if let Some(file) = &self.config {
            layers = layers.file(file);
        }
        for setting in &self.settings {
            layers = layers.set(setting);
        }
        layers
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    CheckEnv(CheckEnvArguments),
    Evaluate(EvaluateArguments),
    /// Asks the actor that serves its metrics at ADDRESS whether it lives; for containers.
    Health {
        /// Its `actor.metrics_listen`, such as 127.0.0.1:9102.
        address: SocketAddr,
    },
}

/// Checks whether an environment keeps what training relies on.
///
/// Ends with 0 where it does, with 70 where a check has failed, and with 64 where the environment
/// cannot be made.
#[derive(Debug, Args)]
pub(super) struct CheckEnvArguments {
    /// The environment, such as CartPole-v1 [default: the configuration's].
    #[arg(value_name = "ID")]
    pub(super) id: Option<String>,
    #[command(flatten)]
    pub(super) configuration: ConfigurationArguments,
    /// Steps of each instance in each check.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..))]
    pub(super) steps: u32,
    /// Prints the report as one JSON object instead.
    #[arg(long)]
    pub(super) json: bool,
}

/// Plays a policy's file and reports its returns.
///
/// `rookery evaluate` calls it for runs whose actors are a program of their own.
#[derive(Debug, Args)]
pub(super) struct EvaluateArguments {
    /// The policy: a run's `policy.safetensors`, or `best/policy.safetensors`.
    #[arg(value_name = "FILE")]
    pub(super) policy: PathBuf,
    #[command(flatten)]
    pub(super) configuration: ConfigurationArguments,
    /// Episodes to play [default: as configured].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) episodes: Option<u32>,
    /// Seed of the episodes [default: as configured].
    #[arg(long, value_name = "S")]
    pub(super) seed: Option<u64>,
    /// Also draws the first episode: a .gif is an animation, a .png a strip of pictures.
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,
    /// Draws so many episodes instead, each in a file of its own: NAME-1.gif, NAME-2.gif and so on.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "record", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) record_episodes: u32,
    /// Prints one JSON object instead: the return and the length of each episode.
    #[arg(long)]
    pub(super) json: bool,
}
