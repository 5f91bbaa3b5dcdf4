//! The command line of `rookery-learner`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use rookery_common::security::Address;

/// Trains a policy with libtorch from the unrolls that actors stream to it.
#[derive(Debug, Parser)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
#[command(version, about, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The run's configuration: a TOML file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A built-in configuration instead of a file.
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub(crate) preset: Option<String>,
    /// Where the run keeps its files.
    #[arg(long, value_name = "DIR", default_value = "runs/run")]
    pub(crate) run_dir: PathBuf,
    /// Where to listen: `host:port` or `unix:///path`.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<Address>,
    /// Goes on from the newest checkpoint in the run directory.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Resumes where the run directory holds a checkpoint and begins where it holds none: for
    /// supervisors, which start the same command again.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) resume_if_begun: bool,
    /// Sets one key, such as `--set ppo.epochs=4`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Listens on any address without token and TLS. Anybody who can reach it can spoil the run.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Prints the effective configuration and exits.
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Ends when standard input closes, as it does when the parent process dies.
    #[arg(long)]
    pub(crate) exit_with_parent: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prints the versions of rookery and libtorch as JSON.
    VersionReport,
    /// Asks the learner that serves its metrics at ADDRESS whether it lives; for containers.
    Health {
        /// Its `learner.metrics_listen`, such as 127.0.0.1:9101.
        address: SocketAddr,
    },
    /// Measures gradient steps and prints them as JSON.
    BenchUpdate {
        /// How long to measure each setting.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// Measures gradient steps of an off-policy algorithm and prints the figures as JSON.
    BenchOffPolicy {
        /// Which: dqn or sac.
        algorithm: String,
        /// Threads of one libtorch operation.
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// How long to measure each setting.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// Measures the replay store and prints the figures as JSON.
    BenchReplay {
        /// How long to measure each setting.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// Steps that the store holds.
        #[arg(long, default_value_t = 1_000_000)]
        capacity: usize,
    },
}
