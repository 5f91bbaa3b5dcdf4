//! Who collects what: a state machine without I/O, clock or thread.
//!
//! The run's environments are split into shards; a **lease** grants one shard to one session under
//! a fencing epoch that only grows. Whatever happens to a session, its shards can be granted
//! again at once: unrolls that still come under the old epoch are refused, and the next holder
//! starts from the state after the last admitted unroll, so it collects exactly what the old one
//! would have. That is why shards may also be moved between living sessions, to spread the work
//! when an actor joins late.
//!
//! In a synchronous run every shard is granted, however few the sessions. In an asynchronous one a
//! session gets one shard for each of its threads, as long as there are any, so that as many are
//! collected as the fleet can carry: a shard that nobody holds keeps its position, and whoever gets
//! it goes on from there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rookery_common::configuration::Schedule;
use rookery_common::unroll::{
    LeaseEpoch, PolicyVersion, SessionId, ShardId, UnrollIndex, UnrollKey, scheduled_version,
};

/// Threads beyond which a session's claim to a larger share is not believed.
const MAX_THREADS: u32 = 1024;

/// Most sessions at a time, so that joining without end claims no memory without end.
pub const MAX_SESSIONS: usize = 1 << 14;

/// What a session is to be told, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The shard is the session's from now on.
    Grant {
        /// Whom to tell.
        session: SessionId,
        /// What it collects.
        lease: Lease,
    },
    /// The shard is somebody else's from now on.
    Revoke {
        /// Whom to tell.
        session: SessionId,
        /// The shard it loses.
        shard: ShardId,
        /// The epoch that is over.
        epoch: LeaseEpoch,
    },
}

/// A granted shard and where to go on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The shard.
    pub shard: ShardId,
    /// The fencing epoch of this grant.
    pub epoch: LeaseEpoch,
    /// The unroll to collect next.
    pub next_index: UnrollIndex,
    /// The environments after the unroll before it; empty at the beginning of the run.
    pub state: Bytes,
}

/// Where a shard stands: the next unroll and the state that it starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardPosition {
    /// The next unroll.
    pub next_index: UnrollIndex,
    /// The environments before it; empty at the beginning of the run.
    pub state: Bytes,
}

/// What becomes of an unroll that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one: it will be trained on.
    Admitted {
        /// The update that consumes it, which is the learner's version then.
        update: u64,
    },
    /// It had been admitted before: acknowledge it again and drop it.
    Duplicate,
    /// Its run, lease or learner epoch is not the current one.
    Stale,
    /// The unroll `expected` must come first.
    Gap {
        /// The next unroll of the shard.
        expected: UnrollIndex,
    },
    /// The schedule asks for the version `expected`.
    WrongVersion {
        /// Version for this unroll.
        expected: u64,
    },
    /// The version has not been published: nobody can have collected with it.
    Unpublished {
        /// Newest published version.
        newest: u64,
    },
    /// It would be older than an asynchronous run allows when its update consumes it.
    TooOld {
        /// Versions by which it would trail the learner.
        lag: u64,
        /// Most versions by which it may.
        max_policy_lag: u64,
    },
    /// The run has no such shard.
    UnknownShard {
        /// Number of shards.
        num_shards: usize,
    },
}

#[derive(Debug)]
struct Shard {
    epoch: LeaseEpoch,
    holder: Option<SessionId>,
    position: ShardPosition,
}

#[derive(Debug)]
struct Session {
    num_threads: u32,
    max_shards: usize,
    /// Whether its stream is open: only then can it be given anything.
    attached: bool,
    shards: BTreeSet<ShardId>,
}

impl Session {
    /// Shards for each thread if it held `extra` more.
    fn load(&self, extra: usize) -> f64 {
        (self.shards.len() + extra) as f64 / f64::from(self.num_threads)
    }

    fn has_room(&self) -> bool {
        self.attached && self.shards.len() < self.max_shards
    }
}

/// The sessions, the shards and who holds which.
#[derive(Debug)]
pub struct Leases {
    run_id: String,
    learner_epoch: u64,
    schedule: Schedule,
    /// Updates before this learner began.
    first_update: u64,
    /// Unrolls admitted since: in an asynchronous run they are consumed in this order.
    num_admitted: u64,
    /// Newest version that anybody can have collected with.
    newest_version: u64,
    shards: Vec<Shard>,
    sessions: BTreeMap<SessionId, Session>,
    next_session: u64,
    last_epoch: u64,
}

impl Leases {
    /// Starts with every shard free at its position, after `first_update` updates.
    ///
    /// Lease epochs begin above those of every earlier learner of the run, so a lease of a dead
    /// learner fences itself.
    #[must_use]
    pub fn new(
        run_id: String,
        learner_epoch: u64,
        schedule: Schedule,
        first_update: u64,
        positions: Vec<ShardPosition>,
    ) -> Self {
        let last_epoch = learner_epoch << 32;
        let shards = positions
            .into_iter()
            .map(|position| Shard {
                epoch: LeaseEpoch(last_epoch),
                holder: None,
                position,
            })
            .collect();
        Self {
            run_id,
            learner_epoch,
            schedule,
            first_update,
            num_admitted: 0,
            newest_version: 0,
            shards,
            sessions: BTreeMap::new(),
            next_session: 0,
            last_epoch,
        }
    }

    /// Makes a session that holds nothing until [`Leases::attach`]. `None` where there are
    /// [`MAX_SESSIONS`].
    pub fn open(&mut self, num_threads: u32, max_shards: usize) -> Option<SessionId> {
        if self.sessions.len() >= MAX_SESSIONS {
            return None;
        }
        self.next_session += 1;
        // Session numbers of different learners differ too: a late message of an old session
        // must not speak for a new one.
        let id = SessionId((self.learner_epoch << 32) + self.next_session);
        let num_threads = num_threads.clamp(1, MAX_THREADS);
        let max_shards = match self.schedule {
            Schedule::Synchronous { .. } => max_shards,
            Schedule::Asynchronous { .. } => max_shards.min(num_threads as usize),
        };
        let session = Session {
            num_threads,
            max_shards,
            attached: false,
            shards: BTreeSet::new(),
        };
        self.sessions.insert(id, session);
        Some(id)
    }

    /// Whether there is such a session.
    #[must_use]
    pub fn is_open(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id)
    }

    /// Marks the session's stream as open and gives it its share.
    ///
    /// Returns `None` where there is no such session or its stream is open already.
    pub fn attach(&mut self, id: SessionId) -> Option<Vec<Command>> {
        let session = self
            .sessions
            .get_mut(&id)
            .filter(|session| !session.attached)?;
        session.attached = true;
        Some(self.balance())
    }

    /// Ends a session that never opened its stream. Returns whether there was one.
    pub fn expire_unattached(&mut self, id: SessionId) -> bool {
        let waiting = self
            .sessions
            .get(&id)
            .is_some_and(|session| !session.attached);
        waiting && self.sessions.remove(&id).is_some()
    }

    /// Ends the session; its shards go to whoever has room.
    pub fn close(&mut self, id: SessionId) -> Vec<Command> {
        let Some(session) = self.sessions.remove(&id) else {
            return Vec::new();
        };
        for shard in session.shards {
            self.shards[shard.0 as usize].holder = None;
        }
        self.balance()
    }

    /// Takes a shard from the session and grants it anew, so that it is collected again from its
    /// position: for an unroll that was refused for what it holds. Where another session holds the
    /// shard nothing happens: what one sends never costs another its work.
    pub fn restart(&mut self, id: SessionId, shard: ShardId) -> Vec<Command> {
        let holder = self.shards.get(shard.0 as usize).map(|shard| shard.holder);
        if holder != Some(Some(id)) {
            return Vec::new();
        }
        let mut commands = vec![self.release(shard, id)];
        commands.extend(self.balance());
        commands
    }

    /// Lets unrolls in that were collected with versions up to this one. In a synchronous run it
    /// bounds what is admitted and not yet trained on: `lag + 1` unrolls of each shard.
    pub fn published(&mut self, version: u64) {
        self.newest_version = version;
    }

    /// Judges an unroll by its sender, its name and its version. An admitted one moves the shard
    /// on: `state` is where its next unroll starts.
    pub fn admit(
        &mut self,
        session: SessionId,
        key: &UnrollKey,
        version: PolicyVersion,
        state: &Bytes,
    ) -> Verdict {
        let num_shards = self.shards.len();
        let Some(shard) = self.shards.get(key.shard.0 as usize) else {
            return Verdict::UnknownShard { num_shards };
        };
        if key.run_id != self.run_id
            || key.lease_epoch != shard.epoch
            || shard.holder != Some(session)
            || version.learner_epoch != self.learner_epoch
        {
            return Verdict::Stale;
        }
        let expected = shard.position.next_index;
        if key.index < expected {
            return Verdict::Duplicate;
        }
        if key.index > expected {
            return Verdict::Gap { expected };
        }
        match self.update_for(key.index, version.version) {
            Ok(update) => {
                self.num_admitted += 1;
                self.shards[key.shard.0 as usize].position = ShardPosition {
                    next_index: UnrollIndex(key.index.0 + 1),
                    state: state.clone(),
                };
                Verdict::Admitted { update }
            }
            Err(verdict) => verdict,
        }
    }

    /// The update that would consume the next unroll of a shard, or why none would.
    fn update_for(&self, index: UnrollIndex, version: u64) -> Result<u64, Verdict> {
        let update = match self.schedule {
            Schedule::Synchronous { lag } => {
                let expected = scheduled_version(index, lag);
                if version != expected {
                    return Err(Verdict::WrongVersion { expected });
                }
                index.0
            }
            // Known now, since what is admitted is consumed in this order (T10).
            Schedule::Asynchronous {
                unrolls_per_update, ..
            } => self.first_update + self.num_admitted / unrolls_per_update as u64,
        };
        if version > self.newest_version {
            return Err(Verdict::Unpublished {
                newest: self.newest_version,
            });
        }
        let lag = update.saturating_sub(version);
        match self.schedule {
            Schedule::Asynchronous { max_policy_lag, .. } if lag > max_policy_lag => {
                Err(Verdict::TooOld {
                    lag,
                    max_policy_lag,
                })
            }
            _ => Ok(update),
        }
    }

    /// Number of shards.
    #[must_use]
    pub fn num_shards(&self) -> usize {
        self.shards.len()
    }

    /// Number of shards that somebody holds.
    #[must_use]
    pub fn num_leased(&self) -> usize {
        self.shards
            .iter()
            .filter(|shard| shard.holder.is_some())
            .count()
    }

    /// Number of sessions whose stream is open: those that can carry shards, and the others.
    #[must_use]
    pub fn num_sessions(&self) -> (usize, usize) {
        let attached = || self.sessions.values().filter(|session| session.attached);
        let collectors = attached().filter(|session| session.max_shards > 0).count();
        (collectors, attached().count() - collectors)
    }

    /// Threads of the sessions that can carry shards and whose stream is open.
    #[must_use]
    pub fn num_threads(&self) -> usize {
        self.sessions
            .values()
            .filter(|session| session.attached && session.max_shards > 0)
            .map(|session| session.num_threads as usize)
            .sum()
    }

    fn grant(&mut self, shard: ShardId, id: SessionId) -> Command {
        self.last_epoch += 1;
        let granted = &mut self.shards[shard.0 as usize];
        granted.epoch = LeaseEpoch(self.last_epoch);
        granted.holder = Some(id);
        let lease = Lease {
            shard,
            epoch: granted.epoch,
            next_index: granted.position.next_index,
            state: granted.position.state.clone(),
        };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.shards.insert(shard);
        }
        Command::Grant { session: id, lease }
    }

    fn release(&mut self, shard: ShardId, id: SessionId) -> Command {
        let released = &mut self.shards[shard.0 as usize];
        released.holder = None;
        if let Some(session) = self.sessions.get_mut(&id) {
            session.shards.remove(&shard);
        }
        Command::Revoke {
            session: id,
            shard,
            epoch: released.epoch,
        }
    }

    /// The session that one more shard would load least.
    fn least_loaded(&self) -> Option<(SessionId, f64)> {
        self.sessions
            .iter()
            .filter(|(_, session)| session.has_room())
            .map(|(id, session)| (*id, session.load(1)))
            .min_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// Grants free shards, then, in a synchronous run, moves shards while that lowers the highest
    /// load: every move makes the sum of squared loads smaller, so it ends. In an asynchronous run
    /// every granted shard has a thread of its own, and nobody would win by a move.
    fn balance(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        let free: Vec<ShardId> = (0..self.shards.len())
            .filter(|shard| self.shards[*shard].holder.is_none())
            .map(|shard| ShardId(shard as u32))
            .collect();
        for shard in free {
            let Some((id, _)) = self.least_loaded() else {
                break;
            };
            commands.push(self.grant(shard, id));
        }
        if matches!(self.schedule, Schedule::Asynchronous { .. }) {
            return commands;
        }
        while let Some((recipient, load_after)) = self.least_loaded() {
            let donor = self
                .sessions
                .iter()
                .max_by(|(_, a), (_, b)| a.load(0).total_cmp(&b.load(0)))
                .filter(|(id, donor)| **id != recipient && donor.load(0) > load_after)
                .and_then(|(id, donor)| donor.shards.last().map(|shard| (*id, *shard)));
            let Some((donor, shard)) = donor else { break };
            commands.push(self.release(shard, donor));
            commands.push(self.grant(shard, recipient));
        }
        commands
    }
}

#[cfg(test)]
mod tests;
