//! The learner's gRPC service: the door for actors, evaluators and operators.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rookery_common::configuration::{Configuration, Schedule};
use rookery_common::policy::PolicyError;
use rookery_common::spaces::EnvironmentSpec;
use rookery_common::unroll::{FrameLayout, SessionId, UnrollShape};
use rookery_proto::v1::learner_server::Learner;
use rookery_proto::{PROTOCOL_VERSION, v1};
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::algorithms;
use crate::intake::UnrollContract;
use crate::leases::MAX_SESSIONS;
use crate::run::{EvaluationReport, Event, Run, RunSpecification};

mod collect;
mod control;
mod parameters;

pub use control::ControlService;

/// Unrolls of a shard that may be on their way in an asynchronous run: one, and one that is collected
/// meanwhile. What waits at the actors grows old there, so it is no more than keeps them busy.
const MAX_UNACKNOWLEDGED: u32 = 2;

/// Whether the service still takes work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Sessions and unrolls are welcome.
    Open,
    /// The learner is going.
    Draining {
        /// The run is complete.
        finished: bool,
    },
}

/// Serves `rookery.v1.Learner`.
#[derive(Debug)]
pub struct LearnerService {
    run: Arc<Run>,
    configuration: Configuration,
    admission: watch::Receiver<Admission>,
}

impl LearnerService {
    /// Serves `run` until `admission` closes.
    #[must_use]
    pub fn new(
        run: Arc<Run>,
        configuration: Configuration,
        admission: watch::Receiver<Admission>,
    ) -> Self {
        Self {
            run,
            configuration,
            admission,
        }
    }

    /// The run's specification, made from the first actor's environment, which every later one
    /// must match.
    async fn agree(&self, environment: EnvironmentSpec) -> Result<RunSpecification, Status> {
        if self.run.specification.get().is_none() {
            let specification = self.specify(environment.clone())?;
            // Two first actors may race; whoever loses is compared like any later one.
            if self.run.specification.set(specification.clone()).is_ok() {
                self.run
                    .events
                    .send(Event::Specified(Box::new(specification.clone())))
                    .await
                    .map_err(|_| Status::unavailable("the learner is shutting down"))?;
                return Ok(specification);
            }
        }
        let specification = self
            .run
            .specification
            .get()
            .ok_or_else(|| Status::internal("the run's specification is gone"))?;
        match specification.environment.difference(&environment) {
            None => Ok(specification.clone()),
            Some((field, ours, theirs)) => Err(Status::failed_precondition(format!(
                "environment.{field} differs: the run has {ours}, the actor {theirs}; start the \
                 actor with the run's configuration"
            ))),
        }
    }

    fn specify(&self, environment: EnvironmentSpec) -> Result<RunSpecification, Status> {
        let specification = specify(environment, &self.configuration)
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        if let Some(bound) = self.run.queue.bound() {
            bound
                .check(&specification.contract.shape)
                .map_err(|error| Status::failed_precondition(error.to_string()))?;
        }
        Ok(specification)
    }
}

/// What an environment makes of the configured algorithm and unroll.
///
/// # Errors
/// Where the algorithm can make no policy that acts in it.
pub fn specify(
    environment: EnvironmentSpec,
    configuration: &Configuration,
) -> Result<RunSpecification, PolicyError> {
    let policy = algorithms::policy_spec(configuration, &environment)?;
    let contract = UnrollContract {
        shape: UnrollShape {
            unroll_length: configuration.rollout.unroll_length,
            envs_per_shard: configuration.rollout.envs_per_shard,
            observation_width: environment.observation.width(),
            action_width: environment.action.width(),
            state_width: policy.state_width(),
            frames: FrameLayout::of(&environment.observation),
        },
        action_space: environment.action.clone(),
    };
    Ok(RunSpecification {
        policy,
        exploration: algorithms::exploration(configuration),
        environment,
        contract,
    })
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Learner for LearnerService {
    type CollectStream = BoxStream<v1::CollectReply>;
    type ParametersStream = BoxStream<v1::ParametersChunk>;

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinReply>, Status> {
        let request = request.into_inner();
        if *self.admission.borrow() != Admission::Open {
            return Err(Status::unavailable("the learner is draining"));
        }
        if request.protocol_version != PROTOCOL_VERSION {
            return Err(Status::failed_precondition(format!(
                "protocol version differs: the learner (rookery {}) speaks {PROTOCOL_VERSION}, the \
                 actor (rookery {}) {}; run the same release on both sides",
                env!("CARGO_PKG_VERSION"),
                request.software_version,
                request.protocol_version,
            )));
        }
        let role = request.role();
        let max_shards = match role {
            v1::Role::Collector if request.max_shards == 0 => usize::MAX,
            v1::Role::Collector => request.max_shards as usize,
            v1::Role::Evaluator => 0,
            v1::Role::Unspecified => {
                return Err(Status::invalid_argument(
                    "field `role`: expected a role, got none",
                ));
            }
        };
        let environment = request
            .environment
            .ok_or_else(|| {
                Status::invalid_argument("field `environment`: expected a value, got nothing")
            })
            .and_then(|spec| {
                EnvironmentSpec::try_from(spec)
                    .map_err(|error| Status::invalid_argument(error.to_string()))
            })?;
        let specification = self.agree(environment).await?;
        let opened = self.run.fleet().open(request.num_threads, max_shards);
        let session = opened.ok_or_else(|| {
            Status::resource_exhausted(format!(
                "{MAX_SESSIONS} sessions are open, which is the most; try again when some have ended"
            ))
        })?;
        self.expire_unless_attached(session);
        tracing::info!(session = session.0, name = request.name, role = ?role, "actor joined");

        let settings = &self.run.settings;
        Ok(Response::new(v1::JoinReply {
            run_id: settings.run_id.clone(),
            learner_epoch: settings.learner_epoch,
            session: session.0,
            policy: Some((&specification.policy).into()),
            seed: settings.seed,
            envs_per_shard: settings.envs_per_shard as u32,
            unroll_length: settings.unroll_length as u32,
            lag: settings.schedule.lag() as u32,
            lease_timeout_milliseconds: settings.lease_timeout.as_millis() as u64,
            evaluation_every_env_steps: settings.evaluation_every_env_steps,
            evaluation_episodes: settings.evaluation_episodes,
            exploration: Some(specification.exploration.into()),
            max_unacknowledged: match settings.schedule {
                Schedule::Synchronous { .. } => None,
                Schedule::Asynchronous { .. } => Some(MAX_UNACKNOWLEDGED),
            },
        }))
    }

    async fn collect(
        &self,
        request: Request<Streaming<v1::CollectRequest>>,
    ) -> Result<Response<Self::CollectStream>, Status> {
        collect::open(
            Arc::clone(&self.run),
            self.admission.clone(),
            request.into_inner(),
        )
        .await
    }

    async fn parameters(
        &self,
        request: Request<v1::ParametersRequest>,
    ) -> Result<Response<Self::ParametersStream>, Status> {
        self.check_session(request.into_inner().session)?;
        Ok(Response::new(parameters::stream(
            self.run.publisher.subscribe(),
        )))
    }

    async fn report_evaluation(
        &self,
        request: Request<v1::ReportEvaluationRequest>,
    ) -> Result<Response<v1::ReportEvaluationReply>, Status> {
        let report = request.into_inner();
        self.check_session(report.session)?;
        if report.returns.is_empty() || report.returns.iter().any(|value| !value.is_finite()) {
            return Err(Status::invalid_argument(
                "field `returns`: expected at least one return, all finite",
            ));
        }
        let version = report
            .version
            .ok_or_else(|| {
                Status::invalid_argument("field `version`: expected a value, got nothing")
            })?
            .into();
        let event = Event::Evaluated(EvaluationReport {
            version,
            env_steps: report.env_steps,
            returns: report.returns,
        });
        self.run
            .events
            .send(event)
            .await
            .map_err(|_| Status::unavailable("the learner is shutting down"))?;
        Ok(Response::new(v1::ReportEvaluationReply {}))
    }
}

impl LearnerService {
    /// Lets only those in who have joined this learner: its restart ends every session.
    fn check_session(&self, session: u64) -> Result<(), Status> {
        if self.run.fleet().is_open(SessionId(session)) {
            return Ok(());
        }
        Err(Status::not_found(format!(
            "field `session`: session {session} is unknown or over; join again"
        )))
    }

    /// An actor that joined and then died leaves nothing behind.
    fn expire_unless_attached(&self, session: SessionId) {
        let run = Arc::clone(&self.run);
        let patience = run.settings.lease_timeout.max(Duration::from_secs(1));
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            if run.fleet().expire_unattached(session) {
                tracing::warn!(session = session.0, "actor joined but opened no stream");
            }
        });
    }
}
