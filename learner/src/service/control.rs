//! The `Control` service: status, checkpoint, pause, resume, stop.

use std::sync::Arc;

use rookery_common::unroll::PolicyVersion;
use rookery_proto::v1;
use rookery_proto::v1::control_server::Control;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use crate::diagnosis::{Diagnosis, Verdict};
use crate::progress::RunState;
use crate::run::{ControlCommand, Event, Run};

/// Serves `rookery.v1.Control`.
#[derive(Debug)]
pub struct ControlService {
    run: Arc<Run>,
}

impl ControlService {
    /// Serves `run`.
    #[must_use]
    pub fn new(run: Arc<Run>) -> Self {
        Self { run }
    }

    async fn command(&self, command: ControlCommand) -> Result<(), Status> {
        self.run
            .events
            .send(Event::Control(command))
            .await
            .map_err(|_| Status::unavailable("the learner is shutting down"))
    }
}

fn state(state: RunState) -> v1::RunState {
    match state {
        RunState::Waiting => v1::RunState::Waiting,
        RunState::Training => v1::RunState::Training,
        RunState::Paused => v1::RunState::Paused,
        RunState::Finished => v1::RunState::Finished,
        RunState::Failed => v1::RunState::Failed,
    }
}

fn bottleneck(verdict: Verdict) -> v1::Bottleneck {
    v1::Bottleneck {
        stage: verdict.stage.name().to_owned(),
        busy_ratio: verdict.busy_ratio,
        advice: verdict.advice,
        suggested_actors: verdict.suggested_actors,
    }
}

fn diagnosis(diagnosis: Diagnosis) -> v1::Diagnosis {
    v1::Diagnosis {
        name: diagnosis.rule.name().to_owned(),
        cause: diagnosis.cause,
        remedy: diagnosis.remedy,
        since_env_steps: diagnosis.since_env_steps,
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    async fn status(
        &self,
        _request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        let progress = self.run.progress.read();
        let (fleet, collectors) = {
            let fleet = self.run.fleet();
            (fleet.size(), fleet.collector_seconds())
        };
        let counts = self.run.accounting.counts();
        let settings = &self.run.settings;
        let version = PolicyVersion {
            learner_epoch: settings.learner_epoch,
            version: progress.version,
        };
        Ok(Response::new(v1::StatusReply {
            run_id: settings.run_id.clone(),
            state: state(progress.state).into(),
            version: Some(version.into()),
            env_steps: progress.env_steps,
            total_env_steps: progress.total_env_steps,
            updates: progress.updates,
            episodes: progress.episodes,
            discontinuities: progress.discontinuities,
            last_discontinuity: progress.last_discontinuity,
            wall_seconds: progress.wall_seconds,
            mean_return: progress.mean_return,
            mean_length: progress.mean_length,
            evaluation_return: progress.evaluation_return,
            solved_at_seconds: progress.solved_at.map(|solved| solved.seconds),
            solved_at_env_steps: progress.solved_at.map(|solved| solved.env_steps),
            actors: fleet.collectors as u32,
            evaluators: fleet.evaluators as u32,
            shards: fleet.shards as u32,
            shards_leased: fleet.shards_leased as u32,
            unrolls: Some(v1::UnrollAccounting {
                received: counts.received,
                trained: counts.trained,
                queued: counts.queued,
                duplicate: counts.duplicate,
                stale: counts.stale,
                invalid: counts.invalid,
            }),
            learner_seconds: progress
                .stage_seconds
                .into_iter()
                .map(|(stage, seconds)| (stage.to_owned(), seconds))
                .collect(),
            run_directory: settings.directory.display().to_string(),
            checkpoint: progress
                .checkpoint
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            error: progress.error.unwrap_or_default(),
            refused: self
                .run
                .accounting
                .refusals()
                .into_iter()
                .map(|(reason, count)| (reason.name().to_owned(), count))
                .collect(),
            queue: self.run.queue.bound().map(|bound| v1::QueueStatus {
                bytes: self.run.queue.load().bytes,
                max_bytes: bound.max_bytes,
                mean_policy_lag: progress.policy_lag.mean,
                max_policy_lag: progress.policy_lag.max,
            }),
            bottleneck: progress.bottleneck.map(bottleneck),
            diagnoses: progress.diagnoses.into_iter().map(diagnosis).collect(),
            actor_seconds: collectors
                .by_name()
                .map(|(stage, seconds)| (stage.to_owned(), seconds))
                .into(),
        }))
    }

    async fn checkpoint(
        &self,
        _request: Request<v1::CheckpointRequest>,
    ) -> Result<Response<v1::CheckpointReply>, Status> {
        let (answer, written) = oneshot::channel();
        self.command(ControlCommand::Checkpoint(answer)).await?;
        let directory = written
            .await
            .map_err(|_| Status::unavailable("the learner is shutting down"))?
            .map_err(Status::internal)?;
        Ok(Response::new(v1::CheckpointReply {
            directory: directory.display().to_string(),
        }))
    }

    async fn pause(
        &self,
        _request: Request<v1::PauseRequest>,
    ) -> Result<Response<v1::PauseReply>, Status> {
        self.command(ControlCommand::Pause).await?;
        Ok(Response::new(v1::PauseReply {}))
    }

    async fn resume(
        &self,
        _request: Request<v1::ResumeRequest>,
    ) -> Result<Response<v1::ResumeReply>, Status> {
        self.command(ControlCommand::Resume).await?;
        Ok(Response::new(v1::ResumeReply {}))
    }

    async fn stop(
        &self,
        _request: Request<v1::StopRequest>,
    ) -> Result<Response<v1::StopReply>, Status> {
        self.command(ControlCommand::Stop).await?;
        Ok(Response::new(v1::StopReply {}))
    }
}
