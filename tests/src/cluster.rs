//! A run's directory, configuration and socket, and the processes that use them.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::actor::Actor;
use crate::learner::{Learner, Summary};
use crate::program::{Program, binary};
use crate::setup::Setup;

/// One run in a temporary directory.
#[derive(Debug)]
pub struct Cluster {
    directory: TempDir,
    started: Cell<u32>,
}

impl Cluster {
    /// Prepares a run of `setup`; nothing is started.
    pub fn new(setup: &Setup) -> Self {
        // A socket's path must be short.
        let directory = tempfile::Builder::new()
            .prefix("rk-")
            .tempdir_in("/tmp")
            .expect("a temporary directory");
        let cluster = Self {
            directory,
            started: Cell::new(0),
        };
        cluster.configure(setup);
        cluster
    }

    /// Runs `setup` with one learner and one actor of one thread, undisturbed: the run that every
    /// other one is held against.
    pub fn undisturbed(setup: &Setup) -> Summary {
        let cluster = Self::new(setup);
        let learner = cluster.learner();
        let actor = cluster.actor(1);
        let summary = learner.finish();
        actor.finish();
        summary
    }

    /// Replaces the configuration that the next processes read.
    pub fn configure(&self, setup: &Setup) {
        fs::write(self.configuration(), setup.to_string()).expect("a configuration file");
    }

    /// The temporary directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration file.
    pub fn configuration(&self) -> PathBuf {
        self.path().join("config.toml")
    }

    /// The run directory.
    pub fn run_directory(&self) -> PathBuf {
        self.path().join("run")
    }

    /// Where the learner listens.
    pub fn socket(&self) -> PathBuf {
        self.path().join("learner.sock")
    }

    /// The address of [`socket`](Self::socket).
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The command that starts the learner, for tests that change it.
    pub fn learner_command(&self) -> Command {
        self.learner_command_at(&self.address())
    }

    /// The command that starts the learner and has it listen at `address`.
    pub fn learner_command_at(&self, address: &str) -> Command {
        let mut command = program("rookery-learner");
        command
            .arg("--config")
            .arg(self.configuration())
            .arg("--run-dir")
            .arg(self.run_directory())
            .args(["--listen", address, "--exit-with-parent"]);
        command
    }

    /// The command that starts an actor, for tests that change it.
    pub fn actor_command(&self, learner: &str) -> Command {
        let mut command = program("rookery-actor");
        command.arg("--config").arg(self.configuration()).args([
            "--learner",
            learner,
            "--exit-with-parent",
        ]);
        command
    }

    /// Starts `command` as a process of this run.
    pub fn start(&self, name: &str, command: Command) -> Program {
        self.started.set(self.started.get() + 1);
        Program::start(
            &format!("{}-{name}", self.started.get()),
            command,
            self.path(),
        )
    }

    /// Takes a learner that `command` starts, once it listens.
    pub fn start_learner(&self, command: Command) -> Learner {
        let program = self.start("learner", command);
        Learner::new(program, &self.socket(), &self.run_directory())
    }

    /// Starts the learner.
    pub fn learner(&self) -> Learner {
        self.start_learner(self.learner_command())
    }

    /// Starts the learner again, from its newest checkpoint.
    pub fn resume(&self) -> Learner {
        let mut command = self.learner_command();
        command.arg("--resume");
        self.start_learner(command)
    }

    /// Starts an actor.
    pub fn actor(&self, threads: u32) -> Actor {
        self.actor_at(&self.address(), threads)
    }

    /// Starts an actor that looks for its learner at `address`.
    pub fn actor_at(&self, address: &str, threads: u32) -> Actor {
        let mut command = self.actor_command(address);
        command.args(["--threads", &threads.to_string()]);
        Actor(self.start("actor", command))
    }

    /// What the learner wrote at its end.
    pub fn summary(&self) -> Summary {
        Summary::read(&self.run_directory())
    }

    /// The versions of the checkpoints that have their names, ascending.
    pub fn checkpoints(&self) -> Vec<u64> {
        let Ok(entries) = fs::read_dir(self.run_directory().join("checkpoints")) else {
            return Vec::new();
        };
        let mut versions: Vec<u64> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        versions.sort_unstable();
        versions
    }

    /// The directory of the checkpoint `version`.
    pub fn checkpoint(&self, version: u64) -> PathBuf {
        self.run_directory()
            .join("checkpoints")
            .join(format!("{version:08}"))
    }
}

/// A program of this workspace that the test's own environment does not colour.
fn program(name: &str) -> Command {
    let mut command = Command::new(binary(name));
    command.env_remove("ROOKERY_TOKEN");
    command
}
