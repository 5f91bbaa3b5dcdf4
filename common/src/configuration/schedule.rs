//! The section that says how collecting and learning interleave.

use serde::{Deserialize, Serialize};

use super::Configuration;
use super::units::{ByteSize, or_none};

/// Who waits for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Unroll `k` of every shard is collected with version `max(0, k - lag)`, exactly; the result
    /// is a function of the configuration alone.
    Synchronous,
    /// Actors collect with the newest version and the learner takes unrolls as they arrive. Each
    /// collector thread works one shard, so the number of environments follows the fleet, up to
    /// `environment.num_envs`.
    Asynchronous,
}

/// `[schedule]`: how collecting and learning interleave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfiguration {
    /// Who waits for whom. \[`"synchronous"`\]
    pub kind: ScheduleKind,
    /// Versions by which collecting trails learning in a synchronous run: 0 is strictly on-policy;
    /// with 1 the actors collect while the learner works. \[`0`\]
    pub lag: u64,
    /// Versions by which an unroll of an asynchronous run may trail the learner when it is trained
    /// on; an older one is refused and collected again (T11). None: 8, and 64 for algorithms that
    /// learn from replay. \[none\]
    #[serde(serialize_with = "or_none")]
    pub max_policy_lag: Option<u64>,
    /// Unrolls, in the order of their arrival, that one update of an asynchronous run consumes;
    /// none: as many as `environment.num_envs` makes shards. \[none\]
    #[serde(serialize_with = "or_none")]
    pub unrolls_per_update: Option<usize>,
    /// Memory of the unrolls of an asynchronous run that wait for their update or are being
    /// trained on; once it is full the environments stand still. None: 256 MiB. \[none\]
    #[serde(serialize_with = "or_none")]
    pub max_queue_bytes: Option<ByteSize>,
}

impl Default for ScheduleConfiguration {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::Synchronous,
            lag: 0,
            max_policy_lag: None,
            unrolls_per_update: None,
            max_queue_bytes: None,
        }
    }
}

/// A schedule with everything that was left open filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Rounds: see [`ScheduleKind::Synchronous`].
    Synchronous {
        /// Versions by which collecting trails learning.
        lag: u64,
    },
    /// First come, first served: see [`ScheduleKind::Asynchronous`].
    Asynchronous {
        /// Versions by which an unroll may trail the learner when it is trained on.
        max_policy_lag: u64,
        /// Unrolls of one update.
        unrolls_per_update: usize,
        /// Memory of what is admitted and not yet trained on.
        max_queue_bytes: u64,
    },
}

impl Schedule {
    /// Versions before the newest that an actor may still need.
    #[must_use]
    pub const fn lag(self) -> u64 {
        match self {
            Self::Synchronous { lag } => lag,
            Self::Asynchronous { .. } => 0,
        }
    }
}

/// Versions that an unroll may be old, where that is left open: few, since an importance weight
/// corrects less and less of a policy that is further and further away.
const MAX_POLICY_LAG: u64 = 8;
/// The same for algorithms that learn from transitions of old policies anyway.
const MAX_REPLAYED_POLICY_LAG: u64 = 64;
/// Memory of the queue, where that is left open.
const MAX_QUEUE_BYTES: ByteSize = ByteSize::from_mib(256);

impl Configuration {
    /// The schedule, with everything that is left open filled in.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        let schedule = &self.schedule;
        match schedule.kind {
            ScheduleKind::Synchronous => Schedule::Synchronous { lag: schedule.lag },
            ScheduleKind::Asynchronous => Schedule::Asynchronous {
                max_policy_lag: schedule.max_policy_lag.unwrap_or(
                    if self.run.algorithm.is_off_policy() {
                        MAX_REPLAYED_POLICY_LAG
                    } else {
                        MAX_POLICY_LAG
                    },
                ),
                unrolls_per_update: self.unrolls_per_update(),
                max_queue_bytes: schedule.max_queue_bytes.unwrap_or(MAX_QUEUE_BYTES).bytes(),
            },
        }
    }

    /// Unrolls that one update consumes: one of each shard in a synchronous run.
    #[must_use]
    pub fn unrolls_per_update(&self) -> usize {
        let num_shards = self.environment.num_envs / self.rollout.envs_per_shard.max(1);
        match self.schedule.kind {
            ScheduleKind::Synchronous => num_shards,
            ScheduleKind::Asynchronous => self.schedule.unrolls_per_update.unwrap_or(num_shards),
        }
    }

    /// Environment steps that one update consumes: in a synchronous run those of one unroll of every
    /// environment.
    #[must_use]
    pub fn rows_per_round(&self) -> usize {
        let num_envs = match self.schedule.kind {
            ScheduleKind::Synchronous => self.environment.num_envs,
            ScheduleKind::Asynchronous => self
                .unrolls_per_update()
                .saturating_mul(self.rollout.envs_per_shard),
        };
        num_envs.saturating_mul(self.rollout.unroll_length)
    }
}
