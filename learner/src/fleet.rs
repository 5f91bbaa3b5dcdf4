//! The joined actors: their leases, and the outbox through which each one's stream is told.

use std::collections::HashMap;

use rookery_common::unroll::{PolicyVersion, SessionId, ShardId, UnrollKey};
use rookery_proto::v1;
use tokio::sync::mpsc;
use tonic::Status;

use crate::diagnosis::CollectorSeconds;
use crate::leases::{Command, Leases, Verdict};
use crate::metrics;

/// What goes down one session's stream.
pub type Outbox = mpsc::Sender<Result<v1::CollectReply, Status>>;

/// How many sessions with an open stream and how many shards there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FleetSize {
    /// Sessions that collect.
    pub collectors: usize,
    /// Threads that they collect with.
    pub threads: usize,
    /// Sessions that evaluate.
    pub evaluators: usize,
    /// Shards of the run.
    pub shards: usize,
    /// Shards that somebody holds.
    pub shards_leased: usize,
}

/// An open stream.
#[derive(Debug)]
struct Stream {
    outbox: Outbox,
    /// What its collectors had spent their time on at its last heartbeat.
    seconds: CollectorSeconds,
}

/// Sessions with their streams. Every change of a lease is told at once to whom it concerns.
#[derive(Debug)]
pub struct Fleet {
    leases: Leases,
    envs_per_shard: u32,
    streams: HashMap<SessionId, Stream>,
    /// Of all sessions, those that have gone included: it only grows.
    collected: CollectorSeconds,
}

impl Fleet {
    /// Starts without sessions.
    #[must_use]
    pub fn new(leases: Leases, envs_per_shard: u32) -> Self {
        Self {
            leases,
            envs_per_shard,
            streams: HashMap::new(),
            collected: CollectorSeconds::default(),
        }
    }

    /// Makes a session; see [`Leases::open`].
    pub fn open(&mut self, num_threads: u32, max_shards: usize) -> Option<SessionId> {
        self.leases.open(num_threads, max_shards)
    }

    /// Whether there is such a session.
    #[must_use]
    pub fn is_open(&self, session: SessionId) -> bool {
        self.leases.is_open(session)
    }

    /// Messages that a session's outbox must be able to hold without being read: its leases
    /// granted and revoked, and an answer to each unroll under way.
    #[must_use]
    pub fn outbox_capacity(&self) -> usize {
        8 * self.leases.num_shards() + 64
    }

    /// Connects a session's stream and gives it its share of the shards. Returns whether there
    /// was such a session without a stream.
    pub fn attach(&mut self, session: SessionId, outbox: Outbox) -> bool {
        let Some(commands) = self.leases.attach(session) else {
            return false;
        };
        let stream = Stream {
            outbox,
            seconds: CollectorSeconds::default(),
        };
        self.streams.insert(session, stream);
        self.tell(commands);
        true
    }

    /// The outbox of a session whose stream is open.
    #[must_use]
    pub fn outbox(&self, session: SessionId) -> Option<Outbox> {
        self.streams
            .get(&session)
            .map(|stream| stream.outbox.clone())
    }

    /// Notes what the collectors of a session have spent their time on since it began.
    pub fn report(&mut self, session: SessionId, seconds: CollectorSeconds) {
        if let Some(stream) = self.streams.get_mut(&session) {
            self.collected += seconds.since(&stream.seconds);
            stream.seconds = seconds;
        }
    }

    /// What the collectors that are here have spent their time on since their sessions began.
    #[must_use]
    pub fn collector_seconds(&self) -> CollectorSeconds {
        let mut sum = CollectorSeconds::default();
        for stream in self.streams.values() {
            sum += stream.seconds;
        }
        sum
    }

    /// What all collectors that ever came have spent their time on: its differences say what is going on.
    #[must_use]
    pub fn collected(&self) -> CollectorSeconds {
        self.collected
    }

    /// Ends a session that has not opened its stream. Returns whether it had not.
    pub fn expire_unattached(&mut self, session: SessionId) -> bool {
        self.leases.expire_unattached(session)
    }

    /// Ends a session and hands its shards on.
    pub fn close(&mut self, session: SessionId) {
        self.streams.remove(&session);
        let commands = self.leases.close(session);
        self.tell(commands);
    }

    /// Ends a session with an error that its actor is to see.
    pub fn expel(&mut self, session: SessionId, status: Status) {
        if let Some(stream) = self.streams.get(&session) {
            // A full outbox means that the actor reads nothing: the end of the stream must do.
            let _ = stream.outbox.try_send(Err(status));
        }
        self.close(session);
    }

    /// Lets unrolls of a version in; see [`Leases::published`].
    pub fn published(&mut self, version: u64) {
        self.leases.published(version);
    }

    /// Judges an unroll by its name; see [`Leases::admit`].
    pub fn admit(
        &mut self,
        session: SessionId,
        key: &UnrollKey,
        version: PolicyVersion,
        state: &bytes::Bytes,
    ) -> Verdict {
        self.leases.admit(session, key, version, state)
    }

    /// Has a shard that the session holds collected again from its last admitted unroll.
    pub fn restart(&mut self, session: SessionId, shard: ShardId) {
        let commands = self.leases.restart(session, shard);
        self.tell(commands);
    }

    /// Sends a message to one session.
    pub fn reply(&mut self, session: SessionId, message: v1::collect_reply::Kind) {
        if !self.try_send(session, message) {
            self.close(session);
        }
    }

    /// Tells every session that the learner is going.
    pub fn drain(&mut self, finished: bool) {
        let sessions: Vec<SessionId> = self.streams.keys().copied().collect();
        for session in sessions {
            self.reply(
                session,
                v1::collect_reply::Kind::Drain(v1::Drain { finished }),
            );
        }
    }

    /// How many there are of everything.
    #[must_use]
    pub fn size(&self) -> FleetSize {
        let (collectors, evaluators) = self.leases.num_sessions();
        FleetSize {
            collectors,
            threads: self.leases.num_threads(),
            evaluators,
            shards: self.leases.num_shards(),
            shards_leased: self.leases.num_leased(),
        }
    }

    /// Delivers commands; a session that cannot take one is ended, which makes more commands.
    fn tell(&mut self, commands: Vec<Command>) {
        let mut pending = std::collections::VecDeque::from(commands);
        while let Some(command) = pending.pop_front() {
            let (session, message) = match command {
                Command::Grant { session, lease } => (
                    session,
                    v1::collect_reply::Kind::Lease(v1::Lease {
                        shard: lease.shard.0,
                        epoch: lease.epoch.0,
                        first_env: lease.shard.0 * self.envs_per_shard,
                        next_index: lease.next_index.0,
                        state: lease.state,
                    }),
                ),
                Command::Revoke {
                    session,
                    shard,
                    epoch,
                } => (
                    session,
                    v1::collect_reply::Kind::Revoke(v1::Revoke {
                        shard: shard.0,
                        epoch: epoch.0,
                    }),
                ),
            };
            if self.streams.contains_key(&session) && !self.try_send(session, message) {
                self.streams.remove(&session);
                pending.extend(self.leases.close(session));
            }
        }
        metrics::set_fleet(self.size());
    }

    fn try_send(&self, session: SessionId, kind: v1::collect_reply::Kind) -> bool {
        let message = v1::CollectReply { kind: Some(kind) };
        self.streams
            .get(&session)
            .is_some_and(|stream| stream.outbox.try_send(Ok(message)).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use rookery_common::configuration::Schedule;
    use rookery_common::unroll::{LeaseEpoch, UnrollIndex};

    use super::*;
    use crate::leases::ShardPosition;

    fn fleet(num_shards: usize) -> Fleet {
        let leases = Leases::new(
            "run".to_owned(),
            1,
            Schedule::Synchronous { lag: 0 },
            0,
            vec![ShardPosition::default(); num_shards],
        );
        Fleet::new(leases, 4)
    }

    fn leases_in(inbox: &mut mpsc::Receiver<Result<v1::CollectReply, Status>>) -> Vec<v1::Lease> {
        let mut leases = Vec::new();
        while let Ok(Ok(message)) = inbox.try_recv() {
            if let Some(v1::collect_reply::Kind::Lease(lease)) = message.kind {
                leases.push(lease);
            }
        }
        leases
    }

    #[test]
    fn a_session_that_reads_nothing_loses_its_shards_to_one_that_does() {
        let mut fleet = fleet(4);
        let deaf = fleet.open(1, usize::MAX).unwrap();
        let (outbox, _unread) = mpsc::channel(2);
        assert!(fleet.attach(deaf, outbox));
        assert_eq!(
            fleet.size(),
            FleetSize {
                shards: 4,
                ..FleetSize::default()
            }
        );

        let sound = fleet.open(1, usize::MAX).unwrap();
        let (outbox, mut inbox) = mpsc::channel(64);
        assert!(fleet.attach(sound, outbox));
        let leases = leases_in(&mut inbox);
        assert_eq!(leases.len(), 4);
        assert_eq!(leases[3].first_env, 12);
    }

    #[test]
    fn the_time_of_collectors_is_that_of_all_who_came_and_of_those_who_are_here() {
        let of = |environment: f64, wait: f64| CollectorSeconds {
            environment,
            wait,
            ..CollectorSeconds::default()
        };
        let mut fleet = fleet(4);
        let mut inboxes = Vec::new();
        let mut join = |fleet: &mut Fleet| {
            let session = fleet.open(3, usize::MAX).unwrap();
            let (outbox, inbox) = mpsc::channel(64);
            assert!(fleet.attach(session, outbox));
            inboxes.push(inbox);
            session
        };
        let first = join(&mut fleet);
        fleet.report(first, of(2.0, 1.0));
        let second = join(&mut fleet);
        fleet.report(second, of(10.0, 0.5));
        fleet.report(first, of(3.0, 1.5));
        assert_eq!(fleet.size().threads, 6);
        assert_eq!(fleet.collector_seconds(), of(13.0, 2.0));
        assert_eq!(fleet.collected(), of(13.0, 2.0));
        fleet.close(first);
        fleet.report(first, of(99.0, 99.0));
        assert_eq!(fleet.collector_seconds(), of(10.0, 0.5));
        assert_eq!(fleet.collected(), of(13.0, 2.0));
        // Whoever counts backwards has done nothing meanwhile.
        fleet.report(second, of(1.0, 0.75));
        assert_eq!(fleet.collector_seconds(), of(1.0, 0.75));
        assert_eq!(fleet.collected(), of(13.0, 2.25));
    }

    #[test]
    fn an_expelled_session_sees_why() {
        let mut fleet = fleet(1);
        let session = fleet.open(1, usize::MAX).unwrap();
        let (outbox, mut inbox) = mpsc::channel(8);
        assert!(fleet.attach(session, outbox));
        fleet.expel(session, Status::invalid_argument("three strikes"));
        assert!(inbox.try_recv().unwrap().is_ok());
        assert_eq!(
            inbox.try_recv().unwrap().unwrap_err().message(),
            "three strikes"
        );
        assert!(inbox.try_recv().is_err());
        let key = UnrollKey {
            run_id: "run".to_owned(),
            shard: ShardId(0),
            lease_epoch: LeaseEpoch(1 << 32),
            index: UnrollIndex(0),
        };
        let version = PolicyVersion {
            learner_epoch: 1,
            version: 0,
        };
        assert_eq!(
            fleet.admit(session, &key, version, &bytes::Bytes::new()),
            Verdict::Stale
        );
    }
}
