//! The command line of `rookery-actor`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use rookery_common::security::Address;

/// Runs environments and streams unrolls to a learner, or evaluates its policies.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The run's configuration: a TOML file, the same as the learner's.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A built-in configuration instead of a file.
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub(crate) preset: Option<String>,
    /// Where the learner is: `host:port`, `https://host:port` or `unix:///path`.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) learner: Option<Address>,
    /// Collector threads.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Evaluates policies instead of collecting unrolls.
    #[arg(long)]
    pub(crate) evaluate: bool,
    /// Sets one key, such as `--set environment.num_envs=16`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Prints the effective configuration and exits.
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Ends when standard input closes, as it does when the parent process dies.
    #[arg(long)]
    pub(crate) exit_with_parent: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    CheckEnv(CheckEnvArguments),
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
pub(crate) struct CheckEnvArguments {
    /// The environment, such as CartPole-v1 [default: the configuration's].
    #[arg(value_name = "ID")]
    pub(crate) id: Option<String>,
    /// A configuration whose environment, arguments and wrappers are meant: a TOML file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A built-in configuration instead of a file.
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub(crate) preset: Option<String>,
    /// Sets one key, such as `--set environment.arguments.map_name=8x8`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Steps of each instance in each check.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..))]
    pub(crate) steps: u32,
    /// Prints the report as one JSON object instead.
    #[arg(long)]
    pub(crate) json: bool,
}
