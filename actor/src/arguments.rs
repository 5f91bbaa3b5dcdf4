//! The command line of `rookery-actor`.

use std::path::PathBuf;

use clap::Parser;
use rookery_common::security::Address;

/// Runs environments and streams unrolls to a learner, or evaluates its policies.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Arguments {
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
