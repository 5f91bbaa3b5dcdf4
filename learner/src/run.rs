//! One training run as its threads share it: what was agreed, what is going on, and the inbox of
//! the compute thread.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rookery_common::configuration::Schedule;
use rookery_common::policy::{Exploration, PolicySpec};
use rookery_common::spaces::EnvironmentSpec;
use rookery_common::unroll::PolicyVersion;
use tokio::sync::{mpsc, oneshot};

use crate::accounting::Accounting;
use crate::experience::rollout::QueuedUnroll;
use crate::fleet::Fleet;
use crate::intake::UnrollContract;
use crate::progress::ProgressBoard;
use crate::publish::Publisher;
use crate::queue::Queue;

/// What every actor is told at Join and what every round depends on.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// Names the run in every message.
    pub run_id: String,
    /// How often a learner has been started for it.
    pub learner_epoch: u64,
    /// The seed of everything random.
    pub seed: u64,
    /// `N`; in an asynchronous run the most that there can be.
    pub num_envs: usize,
    /// `B`.
    pub envs_per_shard: usize,
    /// `T`.
    pub unroll_length: usize,
    /// How collecting and learning interleave.
    pub schedule: Schedule,
    /// Unrolls that one update consumes.
    pub unrolls_per_update: usize,
    /// A session that sends nothing for this long is ended.
    pub lease_timeout: Duration,
    /// Environment steps between two evaluations; 0: evaluators are not used.
    pub evaluation_every_env_steps: u64,
    /// Episodes in an evaluation.
    pub evaluation_episodes: u32,
    /// Where the run keeps its files.
    pub directory: PathBuf,
}

impl RunSettings {
    /// Environment steps in a round: what one update consumes.
    #[must_use]
    pub fn steps_per_round(&self) -> u64 {
        (self.unrolls_per_update * self.envs_per_shard * self.unroll_length) as u64
    }

    /// Number of shards.
    #[must_use]
    pub fn num_shards(&self) -> usize {
        self.num_envs / self.envs_per_shard
    }
}

/// What follows from the environment: known from the checkpoint or from the first actor.
#[derive(Clone, Debug)]
pub struct RunSpecification {
    /// What the actors run.
    pub environment: EnvironmentSpec,
    /// What they act with.
    pub policy: PolicySpec,
    /// How they explore.
    pub exploration: Exploration,
    /// What their unrolls look like.
    pub contract: UnrollContract,
}

/// The outcome of one evaluation, as an evaluator reported it.
#[derive(Clone, Debug)]
pub struct EvaluationReport {
    /// The parameters that were evaluated.
    pub version: PolicyVersion,
    /// Environment steps of training before them.
    pub env_steps: u64,
    /// Raw return of each episode.
    pub returns: Vec<f64>,
}

/// What an operator asks for.
#[derive(Debug)]
pub enum ControlCommand {
    /// Write a checkpoint after the round in work; answers with its directory or the error.
    Checkpoint(oneshot::Sender<Result<PathBuf, String>>),
    /// Consume no rounds until resumed.
    Pause,
    /// Go on.
    Resume,
    /// End the run after the round in work.
    Stop,
}

/// What the compute thread is told, through one bounded channel.
#[derive(Debug)]
pub enum Event {
    /// The first actor has said what the environment is.
    Specified(Box<RunSpecification>),
    /// An admitted unroll.
    Unroll(Box<QueuedUnroll>),
    /// An evaluator's result.
    Evaluated(EvaluationReport),
    /// An operator's wish, or SIGTERM.
    Control(ControlCommand),
}

/// What the network side and the compute thread share.
#[derive(Debug)]
pub struct Run {
    /// What was configured.
    pub settings: RunSettings,
    /// What the environment made of it.
    pub specification: OnceLock<RunSpecification>,
    /// The joined actors.
    pub fleet: Arc<Mutex<Fleet>>,
    /// Where the unrolls went.
    pub accounting: Arc<Accounting>,
    /// How much is admitted and not yet trained on.
    pub queue: Queue,
    /// Where the parameters go.
    pub publisher: Publisher,
    /// Where training stands, for whoever asks.
    pub progress: ProgressBoard,
    /// The compute thread's inbox.
    pub events: mpsc::Sender<Event>,
}

impl Run {
    /// The fleet, for a moment.
    pub fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
