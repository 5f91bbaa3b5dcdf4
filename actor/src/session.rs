//! One session with the learner, from `Join` to its end: the uplink of unrolls and the downlink
//! of leases, answers and parameters.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;
use rookery_common::policy::{Acting, Exploration, Policy, PolicySpec};
use rookery_common::security::ShowToken;
use rookery_common::spaces::EnvironmentSpec;
use rookery_common::unroll::{LeaseEpoch, PolicyVersion, ShardId, UnrollIndex};
use rookery_common::wire::{Publication, PublicationAssembler, WireError};
use rookery_proto::v1::learner_client::LearnerClient;
use rookery_proto::{PROTOCOL_VERSION, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::collector::{ActingPolicy, CollectionPlan, Collector, Instruction, LeasedShard, Pacing};
use crate::environments::EnvironmentError;
use crate::evaluator::EvaluationError;
use crate::joined::Joined;
use crate::metrics::{self, StageTotals};

/// The client with which everything is called.
pub type Client = LearnerClient<InterceptedService<Channel, ShowToken>>;

/// How long a goodbye may wait behind unrolls that nobody reads; the end of the stream says the same.
const LEAVE_PATIENCE: Duration = Duration::from_millis(500);

/// Most time between two heartbeats: they also tell what the collectors spend their time on.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// How a session ended.
#[derive(Debug)]
pub enum SessionEnd {
    /// The run is complete.
    Finished,
    /// The learner goes, and may come back.
    Drained,
    /// This process was told to stop.
    ShutDown,
}

/// Why a session broke.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A call or a stream failed.
    #[error("{call}: {}", describe(status))]
    Rpc {
        /// The call.
        call: &'static str,
        /// Its status.
        status: Status,
    },
    /// The learner closed the stream without a word.
    #[error("the learner closed the stream `{0}`")]
    Closed(&'static str),
    /// The learner sent something that does not fit.
    #[error("the learner sent a malformed {message}: {source}")]
    Malformed {
        /// Which message.
        message: &'static str,
        /// What is wrong with it.
        source: WireError,
    },
    /// The learner's parameters cannot be acted with.
    #[error("version {version} cannot be used: {source}")]
    Policy {
        /// The version.
        version: PolicyVersion,
        /// What is wrong with it.
        source: rookery_common::policy::PolicyError,
    },
    /// A collector thread cannot make its environments.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// An evaluation cannot be made.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// No thread could be started.
    #[error("cannot start a collector thread: {0}")]
    Thread(std::io::Error),
    /// A collector thread panicked.
    #[error("a collector thread panicked; its message is above")]
    Panicked,
}

/// Code and message of a status, and what caused it where the transport says more.
fn describe(status: &Status) -> String {
    let mut text = format!("{} ({:?})", status.message(), status.code());
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl SessionError {
    /// Whether trying again can help.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Rpc { status, .. } => matches!(
                status.code(),
                Code::FailedPrecondition
                    | Code::Unauthenticated
                    | Code::PermissionDenied
                    | Code::InvalidArgument
                    | Code::OutOfRange
                    | Code::Unimplemented
            ),
            Self::Closed(_) => false,
            Self::Malformed { .. }
            | Self::Policy { .. }
            | Self::Environment(_)
            | Self::Evaluation(_)
            | Self::Thread(_)
            | Self::Panicked => true,
        }
    }
}

/// Joins the run; unrolls must fit a message of `max_message_bytes`.
///
/// # Errors
/// The learner's refusal, or a reply that makes no sense.
pub async fn join(
    client: &mut Client,
    role: v1::Role,
    environment: &EnvironmentSpec,
    num_threads: u32,
    max_shards: u32,
    max_message_bytes: usize,
) -> Result<Joined, SessionError> {
    let request = v1::JoinRequest {
        protocol_version: PROTOCOL_VERSION,
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        role: role.into(),
        environment: Some(environment.into()),
        num_threads,
        max_shards,
        name: format!("{}", std::process::id()),
    };
    let reply = client
        .join(request)
        .await
        .map_err(|status| SessionError::Rpc {
            call: "join",
            status,
        })?
        .into_inner();
    Joined::read(reply, environment, max_message_bytes).map_err(|source| SessionError::Malformed {
        message: "join reply",
        source,
    })
}

/// The two streams of a session, open.
pub(crate) struct Streams {
    pub(crate) uplink: mpsc::Sender<v1::CollectRequest>,
    pub(crate) downlink: Streaming<v1::CollectReply>,
    pub(crate) parameters: Parameters,
}

impl Streams {
    /// Opens both streams of a session that has joined.
    pub(crate) async fn open(client: &mut Client, joined: &Joined) -> Result<Self, SessionError> {
        // Two unrolls: one on its way and one ready; beyond that the collectors wait.
        let (uplink, outgoing) = mpsc::channel(2);
        let hello = v1::collect_request::Kind::Hello(v1::Hello {
            session: joined.session,
        });
        let hello = v1::CollectRequest { kind: Some(hello) };
        // Fresh and empty, the channel has room.
        let _ = uplink.send(hello).await;
        let parameters = client
            .parameters(v1::ParametersRequest {
                session: joined.session,
            })
            .await
            .map_err(|status| SessionError::Rpc {
                call: "parameters",
                status,
            })?
            .into_inner();
        let downlink = client
            .collect(ReceiverStream::new(outgoing))
            .await
            .map_err(|status| SessionError::Rpc {
                call: "collect",
                status,
            })?
            .into_inner();
        let parameters = Parameters {
            stream: parameters,
            assembler: PublicationAssembler::new(joined.policy.layout().len()),
            spec: joined.policy.clone(),
            exploration: joined.exploration,
        };
        Ok(Self {
            uplink,
            downlink,
            parameters,
        })
    }

    /// Says that this side is alive, and what its collectors have spent their time on.
    pub(crate) fn heartbeat(&self, stage_seconds: HashMap<String, f64>) {
        let kind = v1::collect_request::Kind::Heartbeat(v1::Heartbeat { stage_seconds });
        // A full channel means that unrolls are waiting to be sent: they say it as well.
        let _ = self
            .uplink
            .try_send(v1::CollectRequest { kind: Some(kind) });
    }

    /// Says that this side is going.
    pub(crate) async fn leave(&self) {
        let kind = v1::collect_request::Kind::Leave(v1::Leave {});
        let goodbye = self.uplink.send(v1::CollectRequest { kind: Some(kind) });
        let _ = tokio::time::timeout(LEAVE_PATIENCE, goodbye).await;
    }
}

/// The stream of published versions.
pub(crate) struct Parameters {
    stream: Streaming<v1::ParametersChunk>,
    assembler: PublicationAssembler,
    spec: PolicySpec,
    exploration: Exploration,
}

impl Parameters {
    /// Waits for the next complete version. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<(Publication, Arc<ActingPolicy>), SessionError> {
        loop {
            let chunk = self
                .stream
                .message()
                .await
                .map_err(|status| SessionError::Rpc {
                    call: "parameters",
                    status,
                })?
                .ok_or(SessionError::Closed("parameters"))?;
            let publication =
                self.assembler
                    .push(chunk)
                    .map_err(|source| SessionError::Malformed {
                        message: "parameters",
                        source,
                    })?;
            let Some(publication) = publication else {
                continue;
            };
            let policy = Policy::new(
                self.spec.clone(),
                &publication.parameters,
                publication.normaliser.clone(),
            )
            .map_err(|source| SessionError::Policy {
                version: publication.version,
                source,
            })?;
            let acting = Acting::new(&self.spec, &self.exploration, &publication.acting).map_err(
                |error| SessionError::Malformed {
                    message: "parameters",
                    source: error.into(),
                },
            )?;
            metrics::set_policy_version(publication.version.version);
            return Ok((publication, Arc::new(ActingPolicy { policy, acting })));
        }
    }
}

/// Which thread holds which shard.
struct Threads {
    senders: Vec<Sender<Instruction>>,
    handles: Vec<thread::JoinHandle<Result<(), EnvironmentError>>>,
    shards: BTreeMap<ShardId, usize>,
    times: Arc<StageTotals>,
    /// Whether they wait for answers to what they have sent.
    wait_for_answers: bool,
}

impl Threads {
    /// Instructions that a thread may lag behind: it reads them between unrolls, and each lease
    /// makes two at most between two reads.
    const MAX_PENDING: usize = 65_536;

    fn start(
        plan: &Arc<CollectionPlan>,
        num_threads: u32,
        uplink: &mpsc::Sender<v1::CollectRequest>,
    ) -> Result<Self, SessionError> {
        let mut threads = Self {
            senders: Vec::new(),
            handles: Vec::new(),
            shards: BTreeMap::new(),
            times: Arc::default(),
            wait_for_answers: matches!(plan.pacing, Pacing::Asynchronous { .. }),
        };
        for _ in 0..num_threads {
            let (sender, receiver) = crossbeam_channel::bounded(Self::MAX_PENDING);
            let times = Arc::clone(&threads.times);
            let handle = Collector::spawn(Arc::clone(plan), receiver, uplink.clone(), times)
                .map_err(SessionError::Thread)?;
            threads.senders.push(sender);
            threads.handles.push(handle);
        }
        Ok(threads)
    }

    /// Whether a thread has ended while its channel is open: it failed.
    fn any_ended(&self) -> bool {
        self.handles.iter().any(thread::JoinHandle::is_finished)
    }

    fn tell(&self, thread: usize, instruction: Instruction) {
        // A thread that has ended is noticed by `any_ended`.
        let _ = self.senders[thread].try_send(instruction);
    }

    fn lease(&mut self, lease: LeasedShard) {
        let load = |thread: usize| self.shards.values().filter(|held| **held == thread).count();
        let thread = match self.shards.get(&lease.shard) {
            Some(thread) => *thread,
            None => (0..self.senders.len())
                .min_by_key(|thread| load(*thread))
                .unwrap_or(0),
        };
        self.shards.insert(lease.shard, thread);
        self.tell(thread, Instruction::Lease(lease));
    }

    fn revoke(&mut self, shard: ShardId, epoch: LeaseEpoch) {
        if let Some(thread) = self.shards.remove(&shard) {
            self.tell(thread, Instruction::Revoke(shard, epoch));
        }
    }

    fn answered(&self, shard: u32, epoch: u64) {
        let shard = ShardId(shard);
        if self.wait_for_answers
            && let Some(thread) = self.shards.get(&shard)
        {
            self.tell(*thread, Instruction::Answered(shard, LeaseEpoch(epoch)));
        }
    }

    fn publish(&self, version: u64, policy: &Arc<ActingPolicy>) {
        for thread in 0..self.senders.len() {
            self.tell(thread, Instruction::Policy(version, Arc::clone(policy)));
        }
    }

    /// Ends the threads and returns the first failure. The uplink must be closed, so that none
    /// waits on it.
    fn stop(self) -> Result<(), SessionError> {
        drop(self.senders);
        let mut outcome = Ok(());
        for handle in self.handles {
            let ended = match handle.join() {
                Ok(result) => result.map_err(SessionError::from),
                Err(_) => Err(SessionError::Panicked),
            };
            outcome = outcome.and(ended);
        }
        outcome
    }
}

/// Joins and collects until the session ends.
///
/// # Errors
/// Whatever broke the session; [`SessionError::is_permanent`] says whether to try again.
pub async fn collect(
    client: &mut Client,
    environment: &EnvironmentSpec,
    num_threads: u32,
    max_shards: u32,
    max_message_bytes: usize,
    shutdown: impl Future<Output = ()>,
) -> Result<SessionEnd, SessionError> {
    let joined = join(
        client,
        v1::Role::Collector,
        environment,
        num_threads,
        max_shards,
        max_message_bytes,
    )
    .await?;
    let mut streams = Streams::open(client, &joined).await?;
    tracing::info!(
        session = joined.session,
        run = joined.plan.run_id,
        learner_epoch = joined.plan.learner_epoch,
        "joined"
    );
    metrics::count_join();
    let plan = Arc::new(joined.plan.clone());
    let mut threads = Threads::start(&plan, num_threads, &streams.uplink)?;
    let ended = serve(&mut streams, &mut threads, joined.lease_timeout, shutdown).await;
    if matches!(ended, Ok(SessionEnd::ShutDown)) {
        streams.leave().await;
    }
    // Closing the downlink too releases a collector that waits for room in the uplink.
    drop(streams);
    let stopped = tokio::task::spawn_blocking(|| threads.stop()).await;
    let stopped = stopped.unwrap_or(Err(SessionError::Panicked));
    stopped.and(ended)
}

/// Passes messages between the learner and the collector threads.
async fn serve(
    streams: &mut Streams,
    threads: &mut Threads,
    lease_timeout: Duration,
    shutdown: impl Future<Output = ()>,
) -> Result<SessionEnd, SessionError> {
    let mut heartbeat = tokio::time::interval(HEARTBEAT_INTERVAL.min(lease_timeout / 4));
    heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(SessionEnd::ShutDown),
            _ = heartbeat.tick() => {
                if threads.any_ended() {
                    return Err(SessionError::Closed("collectors"));
                }
                streams.heartbeat(threads.times.seconds());
            }
            published = streams.parameters.next() => {
                let (publication, policy) = published?;
                threads.publish(publication.version.version, &policy);
            }
            message = streams.downlink.message() => {
                let kind = message
                    .map_err(|status| SessionError::Rpc { call: "collect", status })?
                    .ok_or(SessionError::Closed("collect"))?
                    .kind;
                if let Some(end) = kind.and_then(|kind| obey(threads, kind)) {
                    return Ok(end);
                }
            }
        }
    }
}

/// Follows one message of the learner; `Some` ends the session.
fn obey(threads: &mut Threads, message: v1::collect_reply::Kind) -> Option<SessionEnd> {
    match message {
        v1::collect_reply::Kind::Lease(lease) => threads.lease(LeasedShard {
            shard: ShardId(lease.shard),
            epoch: LeaseEpoch(lease.epoch),
            first_env: lease.first_env,
            next_index: UnrollIndex(lease.next_index),
            state: lease.state,
        }),
        v1::collect_reply::Kind::Revoke(revoke) => {
            threads.revoke(ShardId(revoke.shard), LeaseEpoch(revoke.epoch));
        }
        v1::collect_reply::Kind::Ack(ack) => {
            metrics::count_ack(ack.duplicate);
            threads.answered(ack.shard, ack.lease_epoch);
        }
        v1::collect_reply::Kind::Refusal(refusal) => {
            metrics::count_refusal(refusal.reason());
            threads.answered(refusal.shard, refusal.lease_epoch);
            if matches!(
                refusal.reason(),
                v1::RefusalReason::Stale | v1::RefusalReason::TooOld
            ) {
                // The ordinary end of a lease whose shard somebody else has taken over, or of an unroll
                // for which the learner was too fast.
                tracing::debug!(
                    shard = refusal.shard,
                    index = refusal.index,
                    reason = refusal.reason().as_str_name(),
                    "unroll was refused"
                );
            } else {
                tracing::error!(
                    shard = refusal.shard,
                    index = refusal.index,
                    reason = refusal.reason().as_str_name(),
                    detail = refusal.message,
                    "the learner refused an unroll"
                );
            }
        }
        v1::collect_reply::Kind::Drain(drain) if drain.finished => {
            return Some(SessionEnd::Finished);
        }
        v1::collect_reply::Kind::Drain(_) => return Some(SessionEnd::Drained),
    }
    None
}
