//! Where training stands, for whoever asks: written by the compute thread, read by `Status`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::diagnosis::{Diagnosis, Verdict};

/// Whether the run goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// No actor has joined yet.
    #[default]
    Waiting,
    /// Rounds are collected and learned from.
    Training,
    /// An operator has paused it.
    Paused,
    /// The last update is done and its checkpoint is on disk.
    Finished,
    /// An error has ended it.
    Failed,
}

/// A snapshot of a run.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Whether it goes on.
    pub state: RunState,
    /// Newest published version.
    pub version: u64,
    /// Environment steps consumed.
    pub env_steps: u64,
    /// Where it will end.
    pub total_env_steps: u64,
    /// Updates done.
    pub updates: u64,
    /// Training episodes that ended.
    pub episodes: u64,
    /// Unrolls whose environments had been reset before them; above 0 elastic determinism is off.
    pub discontinuities: u64,
    /// Why the last of them had been, of those that this process has consumed.
    pub last_discontinuity: Option<String>,
    /// Seconds of training since the first actor came, earlier processes included.
    pub wall_seconds: f64,
    /// Over the last 100 training episodes.
    pub mean_return: Option<f64>,
    /// Over the last 100 training episodes.
    pub mean_length: Option<f64>,
    /// The newest evaluation's mean return.
    pub evaluation_return: Option<f64>,
    /// How old the unrolls of the last update were.
    pub policy_lag: PolicyLag,
    /// When the mean return of the last 100 training episodes first reached the threshold.
    pub solved_at: Option<SolvedAt>,
    /// The newest checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// The compute thread's time by stage, in seconds.
    pub stage_seconds: BTreeMap<&'static str, f64>,
    /// What limits the run; `None` until enough has been seen.
    pub bottleneck: Option<Verdict>,
    /// What looks sick and still holds.
    pub diagnoses: Vec<Diagnosis>,
    /// What ended the run, where it failed.
    pub error: Option<String>,
}

/// How old the unrolls of one update were: its version minus those that chose the actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PolicyLag {
    /// Mean over the unrolls.
    #[serde(rename = "policy_lag_mean")]
    pub mean: f64,
    /// Of the oldest.
    #[serde(rename = "policy_lag_max")]
    pub max: u64,
}

impl PolicyLag {
    /// Sums up the lags of an update's unrolls.
    #[must_use]
    pub fn of(lags: impl Iterator<Item = u64>) -> Self {
        let (mut count, mut sum, mut max) = (0_u64, 0, 0);
        for lag in lags {
            (count, sum, max) = (count + 1, sum + lag, max.max(lag));
        }
        Self {
            mean: sum as f64 / count.max(1) as f64,
            max,
        }
    }
}

/// The first time that training reached the preset's threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SolvedAt {
    /// Seconds since collection began, earlier processes of the run included.
    pub seconds: f64,
    /// Environment steps consumed.
    pub env_steps: u64,
}

/// The place where the newest [`Progress`] hangs.
#[derive(Debug, Default)]
pub struct ProgressBoard(Mutex<Progress>);

impl ProgressBoard {
    /// The newest snapshot.
    #[must_use]
    pub fn read(&self) -> Progress {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes the snapshot.
    pub fn update(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What the compute thread spends its time on, in the order of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Waiting for the round's last unroll: the actors are slower.
    Wait,
    /// Ordering the round, storing it and drawing minibatches from the store: work of the host.
    Batch,
    /// Bringing observations to the device, of on-policy algorithms those of the whole round; REINFORCE,
    /// whose episodes stretch over rounds, books it as a part of [`Stage::Update`].
    Copy,
    /// Gradient steps.
    Update,
    /// Encoding the new parameters.
    Publish,
    /// Episode statistics, metrics, the log.
    Record,
    /// Taking a snapshot for a checkpoint.
    Checkpoint,
}

impl Stage {
    /// Every stage, in the order of a round.
    pub const ALL: [Self; 7] = [
        Self::Wait,
        Self::Batch,
        Self::Copy,
        Self::Update,
        Self::Publish,
        Self::Record,
        Self::Checkpoint,
    ];

    /// Its name in metrics and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Batch => "batch",
            Self::Copy => "copy",
            Self::Update => "update",
            Self::Publish => "publish",
            Self::Record => "record",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// Seconds of the compute thread by stage, in the order of [`Stage::ALL`].
pub type StageSeconds = [f64; Stage::ALL.len()];

/// Adds up the compute thread's time by stage.
#[derive(Debug)]
pub struct StageClock {
    last: Instant,
    total: [Duration; Stage::ALL.len()],
    round: [Duration; Stage::ALL.len()],
}

impl Default for StageClock {
    fn default() -> Self {
        Self {
            last: Instant::now(),
            total: Default::default(),
            round: Default::default(),
        }
    }
}

impl StageClock {
    /// Books the time since the last call under `stage`.
    pub fn lap(&mut self, stage: Stage) {
        let now = Instant::now();
        let elapsed = now - self.last;
        self.last = now;
        self.total[stage as usize] += elapsed;
        self.round[stage as usize] += elapsed;
    }

    /// What has been booked since the last call, of each stage that took any time.
    pub fn end_round(&mut self) -> impl Iterator<Item = (Stage, Duration)> + use<> {
        let round = std::mem::take(&mut self.round);
        Stage::ALL
            .into_iter()
            .zip(round)
            .filter(|(_, time)| !time.is_zero())
    }

    /// The sums in seconds.
    #[must_use]
    pub fn totals(&self) -> StageSeconds {
        self.total.map(|time| time.as_secs_f64())
    }

    /// The sums in seconds by the stages' names.
    #[must_use]
    pub fn seconds(&self) -> BTreeMap<&'static str, f64> {
        Stage::ALL
            .map(Stage::name)
            .into_iter()
            .zip(self.totals())
            .collect()
    }
}
