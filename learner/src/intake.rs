//! The learner's door: an unroll that came over the wire is checked, judged, counted and queued
//! before anything is computed from it.

use std::sync::{Arc, Mutex, PoisonError};

use rookery_common::spaces::Space;
use rookery_common::unroll::{
    LeaseEpoch, SessionId, ShardId, Unroll, UnrollError, UnrollIndex, UnrollKey, UnrollShape,
};
use rookery_common::wire;
use rookery_proto::v1;

use crate::accounting::{Accounting, Outcome, Refused};
use crate::fleet::Fleet;
use crate::leases::Verdict;

/// What the unrolls of a run must look like.
#[derive(Clone, Debug)]
pub struct UnrollContract {
    /// Extents of the columns.
    pub shape: UnrollShape,
    /// Where actions come from.
    pub action_space: Space,
}

/// What the sender of an unroll is to be told.
#[derive(Debug)]
pub enum Answer {
    /// It counts; `Some` is to be queued for its update.
    Acknowledged(v1::Ack, Option<Admitted>),
    /// It does not count.
    Refused {
        /// The message to its sender.
        refusal: v1::Refusal,
        /// Why.
        reason: Refused,
    },
}

/// An unroll that is in.
#[derive(Debug)]
pub struct Admitted {
    /// The update that consumes it.
    pub update: u64,
    /// The unroll.
    pub unroll: Box<Unroll>,
}

/// Checks and admits unrolls.
#[derive(Debug)]
pub struct Intake {
    contract: UnrollContract,
    fleet: Arc<Mutex<Fleet>>,
    accounting: Arc<Accounting>,
}

impl Intake {
    /// Guards a run whose unrolls must be as `contract` says.
    #[must_use]
    pub fn new(
        contract: UnrollContract,
        fleet: Arc<Mutex<Fleet>>,
        accounting: Arc<Accounting>,
    ) -> Self {
        Self {
            contract,
            fleet,
            accounting,
        }
    }

    /// Decides about one unroll. The caller queues what was admitted, then sends the answer.
    pub fn receive(&self, session: SessionId, message: v1::Unroll) -> Answer {
        let key = wire::decode_key(&message).unwrap_or_else(|_| UnrollKey {
            run_id: String::new(),
            shard: ShardId(u32::MAX),
            lease_epoch: LeaseEpoch(0),
            index: UnrollIndex(0),
        });
        let shape = &self.contract.shape;
        let checked = wire::decode_unroll(message, shape)
            .map_err(UnrollError::from)
            .and_then(|unroll| {
                unroll
                    .validate(shape, &self.contract.action_space)
                    .map(|()| unroll)
            });
        match checked {
            Ok(unroll) => self.admit(session, unroll),
            Err(error) => {
                let reason = match error {
                    UnrollError::Malformed { .. } => Refused::Invalid,
                    UnrollError::NonFinite { .. } => Refused::NonFinite,
                };
                self.refuse(&key, reason, error.to_string())
            }
        }
    }

    fn admit(&self, session: SessionId, unroll: Unroll) -> Answer {
        let key = unroll.key.clone();
        let verdict = self
            .fleet
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .admit(session, &key, unroll.version, &unroll.state_after);
        let ack = |duplicate| v1::Ack {
            shard: key.shard.0,
            lease_epoch: key.lease_epoch.0,
            index: key.index.0,
            duplicate,
        };
        match verdict {
            Verdict::Admitted { update } => {
                self.accounting.arrived(Outcome::Queued);
                let unroll = Box::new(unroll);
                Answer::Acknowledged(ack(false), Some(Admitted { update, unroll }))
            }
            Verdict::Duplicate => {
                self.accounting.arrived(Outcome::Duplicate);
                Answer::Acknowledged(ack(true), None)
            }
            Verdict::Stale => self.refuse(
                &key,
                Refused::Stale,
                format!(
                    "lease epoch {} of shard {} (run `{}`, version {}) is over",
                    key.lease_epoch, key.shard, key.run_id, unroll.version
                ),
            ),
            Verdict::WrongVersion { expected } => self.refuse(
                &key,
                Refused::WrongVersion,
                format!(
                    "unroll {} must be collected with version {expected}, got version {}",
                    key.index, unroll.version.version
                ),
            ),
            Verdict::Gap { expected } => self.refuse(
                &key,
                Refused::Gap,
                format!(
                    "expected unroll {expected} of shard {}, got {}",
                    key.shard, key.index
                ),
            ),
            Verdict::Unpublished { newest } => self.refuse(
                &key,
                Refused::Unpublished,
                format!(
                    "version {} is not published yet, the newest is {newest}",
                    unroll.version.version
                ),
            ),
            Verdict::TooOld {
                lag,
                max_policy_lag,
            } => self.refuse(
                &key,
                Refused::TooOld,
                format!(
                    "version {} would be {lag} versions old when it is trained on, more than \
                     schedule.max_policy_lag, {max_policy_lag}",
                    unroll.version
                ),
            ),
            Verdict::UnknownShard { num_shards } => self.refuse(
                &key,
                Refused::Invalid,
                format!(
                    "field `key.shard`: expected 0..{num_shards}, got {}",
                    key.shard
                ),
            ),
        }
    }

    fn refuse(&self, key: &UnrollKey, reason: Refused, message: String) -> Answer {
        self.accounting.refused(reason);
        let refusal = v1::Refusal {
            shard: key.shard.0,
            lease_epoch: key.lease_epoch.0,
            index: key.index.0,
            reason: in_words_of_the_protocol(reason).into(),
            message,
        };
        Answer::Refused { refusal, reason }
    }
}

const fn in_words_of_the_protocol(reason: Refused) -> v1::RefusalReason {
    match reason {
        Refused::Stale => v1::RefusalReason::Stale,
        Refused::WrongVersion | Refused::Unpublished => v1::RefusalReason::WrongVersion,
        Refused::TooOld => v1::RefusalReason::TooOld,
        Refused::Gap => v1::RefusalReason::Gap,
        Refused::Invalid => v1::RefusalReason::Invalid,
        Refused::NonFinite => v1::RefusalReason::NonFinite,
    }
}

/// Counts one session's malformed unrolls: a sound actor sends none, so a few end the session.
#[derive(Debug)]
pub struct Strikes {
    session: SessionId,
    count: u32,
}

/// Malformed unrolls after which a session is ended.
pub const MAX_STRIKES: u32 = 3;

impl Strikes {
    /// Starts without any.
    #[must_use]
    pub fn new(session: SessionId) -> Self {
        Self { session, count: 0 }
    }

    /// Counts one; returns the reason to end the session once there are [`MAX_STRIKES`].
    pub fn strike(&mut self, refusal: &v1::Refusal) -> Option<String> {
        self.count += 1;
        (self.count >= MAX_STRIKES).then(|| {
            format!(
                "session {} sent {} malformed unrolls, the last with {}",
                self.session, self.count, refusal.message
            )
        })
    }
}
