//! A collector thread: it works the shards that are leased to it, one unroll after the other, or two
//! in turn where environments are stepped on another core, each with the version that the schedule
//! asks for. In an asynchronous run it stands still while unrolls that it has sent wait to be
//! acknowledged: so the learner's back-pressure reaches the environments, and no unroll grows old on
//! its way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use rookery_common::policy::{Acting, Policy, Workspace};
use rookery_common::seeds::{Purpose, Random};
use rookery_common::unroll::{
    LeaseEpoch, ShardId, Unroll, UnrollIndex, UnrollKey, UnrollShape, scheduled_version,
};
use rookery_common::wire;
use rookery_common::wrappers::Wrapper;
use rookery_proto::v1;
use tokio::sync::mpsc;

use crate::environments::{self, EnvironmentError, EnvironmentFault};
use crate::metrics::{self, Stage, StageTotals};
use crate::shard::Shard;
use collection::Collection;

mod collection;

/// Faults of a shard's environments, without a whole unroll between them, after which the collector
/// gives up, whatever the environments would still take.
const MAX_FAULTS_IN_A_ROW: u32 = 100;

/// Shards that a collector works on in turn where environments are stepped elsewhere: one is stepped while the
/// policy acts in the other.
pub(crate) const OVERLAPPED_SHARDS: usize = 2;

/// What every collector thread of a session works by.
#[derive(Clone, Debug)]
pub struct CollectionPlan {
    /// The run.
    pub run_id: String,
    /// The learner's epoch, for the versions.
    pub learner_epoch: u64,
    /// The run's seed.
    pub seed: u64,
    /// Extents of an unroll.
    pub shape: UnrollShape,
    /// Which version collects an unroll, and when.
    pub pacing: Pacing,
    /// The environment's id.
    pub environment: String,
    /// The environment's arguments.
    pub arguments: BTreeMap<String, String>,
    /// What stands around it.
    pub wrappers: Vec<Wrapper>,
}

/// Which version collects an unroll, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// Unroll `k` is collected with version `max(0, k - lag)`, as soon as that is there.
    Synchronous {
        /// Rounds by which collection runs ahead of learning.
        lag: u64,
    },
    /// An unroll is collected with the newest version, as soon as fewer of its shard than this are
    /// neither acknowledged nor refused.
    Asynchronous {
        /// Unrolls of a shard that may be on their way.
        max_unacknowledged: u64,
    },
}

impl Pacing {
    /// Versions before the newest that may still be needed.
    const fn lag(self) -> u64 {
        match self {
            Self::Synchronous { lag } => lag,
            Self::Asynchronous { .. } => 0,
        }
    }
}

/// A shard to collect, from where to go on.
#[derive(Clone, Debug)]
pub struct LeasedShard {
    /// The shard.
    pub shard: ShardId,
    /// The fencing epoch of the lease.
    pub epoch: LeaseEpoch,
    /// Global index of its first environment.
    pub first_env: u32,
    /// The unroll to collect next.
    pub next_index: UnrollIndex,
    /// The environments before it; empty before the first.
    pub state: Bytes,
}

/// What a collector thread is told.
#[derive(Clone, Debug)]
pub enum Instruction {
    /// Collect this shard from now on.
    Lease(LeasedShard),
    /// Stop collecting this shard, if it is held under this epoch.
    Revoke(ShardId, LeaseEpoch),
    /// The learner has answered to an unroll of this shard that was collected under this epoch.
    Answered(ShardId, LeaseEpoch),
    /// A published version.
    Policy(u64, Arc<ActingPolicy>),
}

/// A published version with the exploration that is its own.
#[derive(Clone, Debug)]
pub struct ActingPolicy {
    /// What to act with.
    pub policy: Policy,
    /// How.
    pub acting: Acting,
}

impl ActingPolicy {
    /// The policy of a noisy network for an unroll; none of any other. One draw of the noise acts for a
    /// whole unroll, and belongs to the shard: so it is the same whoever collects it.
    fn noisy(&self, seed: u64, shard: ShardId, unroll: UnrollIndex) -> Option<Policy> {
        let mut noise = Random::derive(seed, Purpose::Noise, u64::from(shard.0), unroll.0);
        self.policy.with_noise(&mut noise)
    }
}

struct Work {
    epoch: LeaseEpoch,
    next_index: UnrollIndex,
    /// Unrolls that have been collected under this lease and not been answered.
    unanswered: u64,
    first_env: u32,
    shard: Shard,
    /// Why the next unroll does not continue the one before it.
    discontinuity: Option<String>,
    /// Faults since the last whole unroll.
    faults: Faults,
}

impl Work {
    /// Names the unroll that has been collected, and goes on to the next.
    fn next_key(&mut self, run_id: &str, shard: ShardId) -> UnrollKey {
        let index = self.next_index;
        self.next_index = UnrollIndex(index.0 + 1);
        self.unanswered += 1;
        self.faults = Faults::default();
        UnrollKey {
            run_id: run_id.to_owned(),
            shard,
            lease_epoch: self.epoch,
            index,
        }
    }
}

/// A collector; [`Collector::run`] is its thread.
pub struct Collector {
    plan: Arc<CollectionPlan>,
    instructions: Receiver<Instruction>,
    uplink: mpsc::Sender<v1::CollectRequest>,
    times: Arc<StageTotals>,
    work: BTreeMap<ShardId, Work>,
    policies: BTreeMap<u64, Arc<ActingPolicy>>,
    workspace: Workspace,
}

impl Collector {
    /// Starts a thread that works until `instructions` or `uplink` closes, and books its time in `times`.
    ///
    /// # Errors
    /// Where the operating system gives no thread.
    pub fn spawn(
        plan: Arc<CollectionPlan>,
        instructions: Receiver<Instruction>,
        uplink: mpsc::Sender<v1::CollectRequest>,
        times: Arc<StageTotals>,
    ) -> std::io::Result<thread::JoinHandle<Result<(), EnvironmentError>>> {
        let collector = Self {
            plan,
            instructions,
            uplink,
            times,
            work: BTreeMap::new(),
            policies: BTreeMap::new(),
            workspace: Workspace::default(),
        };
        thread::Builder::new()
            .name("collector".to_owned())
            .spawn(move || collector.run())
    }

    fn run(mut self) -> Result<(), EnvironmentError> {
        loop {
            while let Ok(instruction) = self.instructions.try_recv() {
                self.follow(instruction)?;
            }
            let next = self.next();
            if next.is_empty() {
                let idle_since = Instant::now();
                let Ok(instruction) = self.instructions.recv() else {
                    return Ok(());
                };
                self.times.record(Stage::Wait, idle_since.elapsed());
                self.follow(instruction)?;
                continue;
            }
            for unroll in self.collect(&next)? {
                let message = wire::encode_unroll(&unroll, &self.plan.shape);
                let request = v1::CollectRequest {
                    kind: Some(v1::collect_request::Kind::Unroll(message)),
                };
                let send_since = Instant::now();
                if self.uplink.blocking_send(request).is_err() {
                    return Ok(());
                }
                self.times.record(Stage::Send, send_since.elapsed());
                metrics::count_unroll(&unroll, &self.plan.shape);
            }
        }
    }

    fn follow(&mut self, instruction: Instruction) -> Result<(), EnvironmentError> {
        match instruction {
            Instruction::Lease(lease) => {
                let work = self.begin(&lease)?;
                self.work.insert(lease.shard, work);
            }
            Instruction::Revoke(shard, epoch) => {
                if self
                    .work
                    .get(&shard)
                    .is_some_and(|work| work.epoch == epoch)
                {
                    self.work.remove(&shard);
                }
            }
            Instruction::Answered(shard, epoch) => {
                if let Some(work) = self.work.get_mut(&shard)
                    && work.epoch == epoch
                {
                    work.unanswered = work.unanswered.saturating_sub(1);
                }
            }
            Instruction::Policy(version, policy) => {
                self.policies.insert(version, policy);
                while self.policies.len() > self.plan.pacing.lag() as usize + 1 {
                    self.policies.pop_first();
                }
            }
        }
        Ok(())
    }

    /// Makes the environments of a lease and brings them to where it goes on.
    ///
    /// A state that cannot be restored, as one from another release or a spoilt one, must not end
    /// every actor that is given it: the environments are reset, and the next unroll says so.
    fn begin(&self, lease: &LeasedShard) -> Result<Work, EnvironmentError> {
        let plan = &self.plan;
        let (mut shard, mut faults) = self.make_shard(lease.first_env, 0, Faults::default())?;
        // Another episode than the first, if nothing is restored.
        let mut discontinuity = faults.last.clone();
        if lease.next_index.0 > 0 || !lease.state.is_empty() {
            discontinuity = None;
            if let Err(error) = shard.restore(&lease.state) {
                discontinuity = Some(format!("its state was not restored: {error}"));
                tracing::error!(
                    shard = lease.shard.0,
                    unroll = lease.next_index.0,
                    %error,
                    "cannot restore the shard: its environments are reset, and the result of the \
                     run now depends on who collects what"
                );
                // What is left of the environments goes before new ones come.
                drop(shard);
                // An episode takes a step at least, so that these numbers have not been drawn before.
                let first_episode = lease.next_index.0 * plan.shape.unroll_length as u64;
                (shard, faults) = self.make_shard(lease.first_env, first_episode, faults)?;
            }
        }
        Ok(Work {
            epoch: lease.epoch,
            next_index: lease.next_index,
            unanswered: 0,
            first_env: lease.first_env,
            shard,
            discontinuity,
            faults,
        })
    }

    /// Makes the environments of a shard, which begin with `first_episode` or, where they fail at
    /// that, with one after it. Gives them with the faults in a row, of which there have been `faults`.
    fn make_shard(
        &self,
        first_env: u32,
        mut first_episode: u64,
        mut faults: Faults,
    ) -> Result<(Shard, Faults), EnvironmentError> {
        let plan = &self.plan;
        let num_envs = plan.shape.envs_per_shard;
        loop {
            let bare = environments::make(&plan.environment, &plan.arguments, num_envs)?;
            let environment = environments::wrap(bare, &plan.wrappers)?;
            let made = Shard::starting_at(
                environment,
                first_env,
                plan.seed,
                Purpose::Episode,
                first_episode,
            );
            match made {
                Ok(shard) => {
                    return Ok((shard.with_recurrent_state(plan.shape.state_width), faults));
                }
                Err(fault) => {
                    tracing::error!(first_env, error = %fault, "environments failed as they began");
                    faults = faults.and(fault)?;
                    first_episode += 1;
                }
            }
        }
    }

    /// The shard that is furthest behind among those that can be collected now, with its version; and
    /// where its environments are stepped elsewhere, the one after it, of which the policy chooses the
    /// actions meanwhile.
    fn next(&self) -> Vec<(ShardId, u64)> {
        let ready = self.work.iter();
        let mut ready: Vec<_> = ready
            .filter_map(|(shard, work)| Some((work.next_index, *shard, self.version_for(work)?)))
            .collect();
        ready.sort_unstable();
        let is_elsewhere = |shard: &ShardId| self.work[shard].shard.is_elsewhere();
        let count = match ready.first() {
            Some((_, first, _)) if is_elsewhere(first) => OVERLAPPED_SHARDS,
            _ => 1,
        };
        let next = ready.into_iter().take(count);
        next.map(|(_, shard, version)| (shard, version)).collect()
    }

    /// The version of a shard's next unroll; `None` where it must wait.
    fn version_for(&self, work: &Work) -> Option<u64> {
        match self.plan.pacing {
            Pacing::Synchronous { lag } => {
                let version = scheduled_version(work.next_index, lag);
                self.policies.contains_key(&version).then_some(version)
            }
            Pacing::Asynchronous { max_unacknowledged } => {
                let newest = self.policies.last_key_value().map(|(version, _)| *version);
                newest.filter(|_| work.unanswered < max_unacknowledged)
            }
        }
    }

    /// Collects the next unrolls of the shards that [`Collector::next`] named, step by step in turn.
    fn collect(&mut self, next: &[(ShardId, u64)]) -> Result<Vec<Unroll>, EnvironmentError> {
        let collected = self.try_collect(next);
        let pairs = next.iter().zip(collected);
        pairs
            .map(|((id, version), collected)| {
                collected.or_else(|fault| self.collect_anew(*id, *version, fault))
            })
            .collect()
    }

    /// Collects an unroll of a shard whose environments have failed: they are made again at episodes that
    /// nobody has begun.
    fn collect_anew(
        &mut self,
        id: ShardId,
        version: u64,
        mut fault: EnvironmentFault,
    ) -> Result<Unroll, EnvironmentError> {
        loop {
            // `try_collect` has found it there.
            let Some(mut work) = self.work.remove(&id) else {
                return Err(fault.into());
            };
            tracing::error!(
                shard = id.0,
                unroll = work.next_index.0,
                error = %fault,
                "environments failed: they are made again, and the result of the run now depends on \
                 who collects what"
            );
            let faults = work.faults.and(fault)?;
            let first_episode = work.shard.next_episode();
            // What is left of the environments goes before new ones come.
            drop(work.shard);
            (work.shard, work.faults) = self.make_shard(work.first_env, first_episode, faults)?;
            work.discontinuity.clone_from(&work.faults.last);
            self.work.insert(id, work);
            match self.try_collect(&[(id, version)]).pop() {
                Some(Ok(unroll)) => return Ok(unroll),
                Some(Err(next)) => fault = next,
                None => unreachable!("as many results as shards"),
            }
        }
    }

    #[expect(
        clippy::expect_used,
        reason = "`next` names only shards and versions that are held"
    )]
    fn try_collect(&mut self, next: &[(ShardId, u64)]) -> Vec<Result<Unroll, EnvironmentFault>> {
        let mut collections: Vec<Result<Collection, EnvironmentFault>> = next
            .iter()
            .map(|(id, version)| {
                let work = self.work.get_mut(id).expect("the shard is held");
                let held = self.policies.get(version).expect("the version is held");
                Ok(Collection::new(
                    *id,
                    *version,
                    Arc::clone(held),
                    work,
                    &self.plan,
                ))
            })
            .collect();
        let rounds = (0..=self.plan.shape.unroll_length)
            .flat_map(|t| (0..next.len()).map(move |place| (t, place)));
        for (t, place) in rounds {
            let Ok(collection) = &mut collections[place] else {
                continue;
            };
            let work = self
                .work
                .get_mut(&collection.id)
                .expect("the shard is held");
            let mut advance = || {
                if t > 0 {
                    collection.step(work)?;
                }
                if t < self.plan.shape.unroll_length {
                    collection.act(work, &self.plan, &mut self.workspace)?;
                }
                Ok(())
            };
            if let Err(fault) = advance() {
                collections[place] = Err(fault);
            }
        }
        let finished = collections.into_iter().map(|collection| {
            let collection = collection?;
            let work = self
                .work
                .get_mut(&collection.id)
                .expect("the shard is held");
            collection.finish(work, &self.plan, &self.times)
        });
        finished.collect()
    }
}

/// Faults of a shard's environments in a row.
#[derive(Debug, Default)]
struct Faults {
    count: u32,
    /// What the last one was.
    last: Option<String>,
}

impl Faults {
    /// One more; an error where there have been too many.
    fn and(self, fault: EnvironmentFault) -> Result<Self, EnvironmentError> {
        if self.count >= MAX_FAULTS_IN_A_ROW {
            return Err(fault.into());
        }
        let EnvironmentFault { message, details } = fault;
        let reason = match details {
            Some(details) => format!("{message}\n{details}"),
            None => message,
        };
        Ok(Self {
            count: self.count + 1,
            last: Some(reason),
        })
    }
}

#[cfg(test)]
mod tests;
