//! The compute thread: it owns the tensors, waits for rounds, updates, publishes, and keeps the
//! books.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery_common::configuration::Configuration;
use rookery_common::hash::sha256_hex;
use rookery_common::unroll::PolicyVersion;
use rookery_common::wire::Publication;
use serde::Serialize;
use tch::Device;
use tokio::sync::{mpsc, oneshot};

use crate::accounting::UnrollCounts;
use crate::algorithms::{AlgorithmError, Statistics};
use crate::checkpoint::{BestPolicy, KeptPublication, LearnerState};
use crate::checkpoint_writer::{CheckpointWriter, Job};
use crate::diagnosis::{Diagnosis, Verdict};
use crate::experience::rollout::{CompleteRound, RoundAssembler};
use crate::logs::RunLog;
use crate::metrics;
use crate::metrics_log::Record;
use crate::observer::Observer;
use crate::progress::{PolicyLag, RunState, SolvedAt, Stage, StageClock};
use crate::run::{ControlCommand, EvaluationReport, Event, Run, RunSpecification};
use crate::training::Training;

/// Updates in a row without one finite gradient after which a run is given up.
const MAX_NON_FINITE_UPDATES: u32 = 5;
/// Time between two snapshots for whoever asks.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);

/// Why training ended before its last update.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// The networks cannot be built.
    #[error(transparent)]
    Build(AlgorithmError),
    /// The algorithm refused a round.
    #[error("round {round}: {source}")]
    Algorithm {
        /// The round.
        round: u64,
        /// Its reason.
        source: AlgorithmError,
    },
    /// Gradients stayed infinite or not a number.
    #[error(
        "no gradient was finite in {updates} updates, the last of round {round}, and the run has been \
         stopped. {}. What helps: {remedy}",
        last_good(checkpoint.as_deref())
    )]
    NonFinite {
        /// The last round.
        round: u64,
        /// Updates in a row.
        updates: u32,
        /// The newest checkpoint, which is of before them.
        checkpoint: Option<PathBuf>,
        /// What helps.
        remedy: String,
    },
    /// The final checkpoint could not be written.
    #[error("{0}")]
    FinalCheckpoint(String),
    /// The network side is gone.
    #[error("the service ended before the training")]
    Disconnected,
}

/// How a run goes on that has been stopped for its gradients.
fn last_good(checkpoint: Option<&Path>) -> String {
    match checkpoint {
        Some(path) => format!(
            "The last good checkpoint is {}; --resume goes on from it, with the same settings: enough \
             where what an environment returned was an accident",
            path.display()
        ),
        None => "There is no checkpoint yet: begin anew, in another run directory".to_owned(),
    }
}

/// How training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All updates are done, or the run is solved and was to stop then.
    Finished,
    /// An operator or a signal ended it; it can be resumed.
    Stopped,
}

/// What a run came to; written to `summary.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// How it ended.
    pub outcome: Outcome,
    /// Environment steps consumed.
    pub env_steps: u64,
    /// Updates done.
    pub updates: u64,
    /// Training episodes that ended.
    pub episodes: u64,
    /// Seconds of training, earlier processes included.
    pub wall_seconds: f64,
    /// Over the last 100 training episodes.
    pub mean_return: Option<f64>,
    /// The newest evaluation by an evaluator.
    pub evaluation_return: Option<f64>,
    /// When the threshold was first reached.
    pub solved_at_seconds: Option<f64>,
    /// When the threshold was first reached.
    pub solved_at_env_steps: Option<u64>,
    /// Of all parameters, in lower-case hexadecimal.
    pub parameters_sha256: String,
    /// Consumed unrolls whose environments had been reset before them; above 0 elastic determinism
    /// is off.
    pub discontinuities: u64,
    /// Why the last of them had been, of those that the last learner process consumed.
    pub last_discontinuity: Option<String>,
    /// Where the unrolls went.
    pub unrolls: UnrollCounts,
    /// What limited the run at its end.
    pub bottleneck: Option<Verdict>,
    /// What looked sick at its end.
    pub diagnoses: Vec<Diagnosis>,
}

/// The compute thread's state.
pub struct Trainer {
    run: Arc<Run>,
    configuration: Configuration,
    configuration_text: String,
    device: Device,
    events: mpsc::Receiver<Event>,
    assembler: RoundAssembler,
    writer: CheckpointWriter,
    log: RunLog,
    clock: StageClock,
    observer: Observer,
    best: Option<BestPolicy>,
    paused: bool,
    stopping: bool,
    wanted_checkpoints: Vec<oneshot::Sender<Result<PathBuf, String>>>,
    evaluation_return: Option<f64>,
    policy_lag: PolicyLag,
    last_checkpoint: (u64, Instant),
    last_shown: Option<Instant>,
    non_finite_updates: u32,
}

impl Trainer {
    /// Takes the compute side of a run.
    pub fn new(
        run: Arc<Run>,
        configuration: Configuration,
        device: Device,
        events: mpsc::Receiver<Event>,
        writer: CheckpointWriter,
        log: RunLog,
    ) -> Self {
        let assembler = RoundAssembler::new(run.settings.unrolls_per_update);
        let configuration_text = configuration.to_toml();
        let observer = Observer::new(&configuration, &run.settings);
        Self {
            run,
            configuration,
            configuration_text,
            device,
            events,
            assembler,
            writer,
            log,
            clock: StageClock::default(),
            observer,
            best: None,
            paused: false,
            stopping: false,
            wanted_checkpoints: Vec::new(),
            evaluation_return: None,
            policy_lag: PolicyLag::default(),
            last_checkpoint: (0, Instant::now()),
            last_shown: None,
            non_finite_updates: 0,
        }
    }

    /// Trains to the end: from `resumed`, or from the first actor's environment on. Returns `None`
    /// where it was stopped before any actor came.
    ///
    /// # Errors
    /// [`TrainingError`]; checkpoints on disk stay as they are.
    pub fn run(mut self, resumed: Option<LearnerState>) -> Result<Option<Summary>, TrainingError> {
        let mut training = match resumed {
            Some(state) => self.restore(state)?,
            None => match self.wait_for_specification()? {
                Some(specification) => self.begin(specification)?,
                None => return Ok(None),
            },
        };
        for kept in &training.publications {
            self.publish(kept);
        }
        self.last_checkpoint = (training.round, Instant::now());
        self.show(&training, RunState::Training);
        let total_rounds = self.total_rounds();
        while training.round < total_rounds && !self.stopping {
            let Some(round) = self.next_round(&mut training)? else {
                break;
            };
            self.consume(&mut training, &round)?;
            self.after_round(&mut training);
            if self.configuration.run.stop_when_solved && training.solved_at.is_some() {
                break;
            }
        }
        let outcome = if self.stopping {
            Outcome::Stopped
        } else {
            Outcome::Finished
        };
        self.finish(&training, outcome).map(Some)
    }

    /// Rounds of the whole run: as many as consume the configured environment steps.
    fn total_rounds(&self) -> u64 {
        self.configuration
            .run
            .total_env_steps
            .div_ceil(self.run.settings.steps_per_round())
    }

    fn wait_for_specification(&mut self) -> Result<Option<RunSpecification>, TrainingError> {
        loop {
            match self
                .events
                .blocking_recv()
                .ok_or(TrainingError::Disconnected)?
            {
                Event::Specified(specification) => return Ok(Some(*specification)),
                Event::Unroll(unroll) => self.assembler.insert(*unroll),
                Event::Evaluated(_) => {}
                Event::Control(ControlCommand::Stop) => return Ok(None),
                Event::Control(ControlCommand::Pause) => self.paused = true,
                Event::Control(ControlCommand::Resume) => self.paused = false,
                Event::Control(ControlCommand::Checkpoint(answer)) => {
                    // Whoever asked may have gone.
                    let _ = answer.send(Err("training has not begun: no actor has joined".into()));
                }
            }
        }
    }

    fn begin(&self, specification: RunSpecification) -> Result<Training, TrainingError> {
        Training::begin(
            &self.configuration,
            &self.run.settings,
            specification,
            self.device,
        )
        .map_err(TrainingError::Build)
    }

    fn restore(&self, state: LearnerState) -> Result<Training, TrainingError> {
        let specification = self
            .run
            .specification
            .get()
            .cloned()
            .ok_or(TrainingError::Disconnected)?;
        let round = state.round;
        Training::restore(
            &self.configuration,
            &self.run.settings,
            specification,
            state,
            self.device,
        )
        .map_err(|source| TrainingError::Algorithm { round, source })
    }

    /// Waits until the next round is complete; `None` where the run is to stop first.
    fn next_round(
        &mut self,
        training: &mut Training,
    ) -> Result<Option<CompleteRound>, TrainingError> {
        loop {
            if self.stopping {
                return Ok(None);
            }
            self.answer_checkpoints(training);
            if !self.paused
                && let Some(round) = self.assembler.take(training.round)
            {
                self.clock.lap(Stage::Wait);
                return Ok(Some(round));
            }
            let event = self
                .events
                .blocking_recv()
                .ok_or(TrainingError::Disconnected)?;
            self.handle(event, training);
        }
    }

    fn handle(&mut self, event: Event, training: &Training) {
        match event {
            Event::Unroll(unroll) => self.assembler.insert(*unroll),
            Event::Evaluated(report) => self.evaluated(&report),
            Event::Control(ControlCommand::Stop) => self.stopping = true,
            Event::Control(ControlCommand::Pause) => {
                self.paused = true;
                self.show(training, RunState::Paused);
            }
            Event::Control(ControlCommand::Resume) => {
                self.paused = false;
                self.observer.interrupt();
                self.show(training, RunState::Training);
            }
            Event::Control(ControlCommand::Checkpoint(answer)) => {
                self.wanted_checkpoints.push(answer);
            }
            // The specification is known before training begins.
            Event::Specified(_) => {}
        }
    }

    /// Learns from one round, publishes what came of it and keeps the books.
    fn consume(
        &mut self,
        training: &mut Training,
        round: &CompleteRound,
    ) -> Result<(), TrainingError> {
        let index = training.round;
        self.policy_lag = PolicyLag::of(round.policy_lags(index));
        let progress = index as f64 / self.total_rounds() as f64;
        let statistics = training
            .consume(
                round,
                progress,
                &mut self.clock,
                self.log.distributions(index + 1),
            )
            .map_err(|source| TrainingError::Algorithm {
                round: index,
                source,
            })?;
        if let Some(newest) = training.publications.back() {
            self.publish(newest);
        }
        self.clock.lap(Stage::Publish);

        self.run.accounting.trained(round.unrolls.len() as u64);
        self.record(training, round, &statistics);
        let share = training.round as f64 / self.total_rounds() as f64;
        let learnt = (round, &statistics);
        self.observer
            .updated(&self.run, training, learnt, share, &self.clock);
        self.clock.lap(Stage::Record);
        for (stage, time) in self.clock.end_round() {
            metrics::record_stage(stage, time);
        }
        let checked = self.check_finite(index, &statistics);
        if checked.is_err() {
            self.show(training, RunState::Training);
        }
        checked
    }

    fn publish(&self, kept: &KeptPublication) {
        self.run.fleet().published(kept.version);
        self.run.publisher.publish(&Publication {
            version: PolicyVersion {
                learner_epoch: self.run.settings.learner_epoch,
                version: kept.version,
            },
            env_steps: kept.env_steps,
            parameters: kept.parameters.clone(),
            normaliser: kept.normaliser.clone(),
            acting: kept.acting.clone(),
        });
        metrics::record_publication(kept.version, kept.parameters.len());
    }

    /// Episode statistics, the threshold, the best policy, the log.
    fn record(&mut self, training: &mut Training, round: &CompleteRound, statistics: &Statistics) {
        for unroll in &round.unrolls {
            for (return_, length) in unroll
                .episode_return
                .iter()
                .zip(unroll.episode_length.iter())
            {
                training.episodes.push(return_, length);
                metrics::record_episode(return_, length);
            }
        }
        let seconds = training.seconds();
        let mean_return = training.episodes.mean_return();
        if let Some(mean_return) = mean_return.filter(|_| training.episodes.is_full()) {
            let threshold = self.configuration.run.solved_return;
            if training.solved_at.is_none() && threshold.is_some_and(|t| mean_return >= t) {
                training.solved_at = Some(SolvedAt {
                    seconds,
                    env_steps: training.env_steps,
                });
                tracing::info!(
                    mean_return,
                    env_steps = training.env_steps,
                    seconds,
                    "solved"
                );
            }
            if training
                .best_mean_return
                .is_none_or(|best| mean_return > best)
            {
                training.best_mean_return = Some(mean_return);
                self.best = Some(BestPolicy {
                    policy: training.artifact(),
                    mean_return,
                });
            }
        }
        metrics::record_update(training.env_steps, statistics);
        self.log
            .write_discontinuities(training.round, training.env_steps, round);
        self.log.write(&Record {
            update: training.round,
            env_steps: training.env_steps,
            seconds,
            episodes: training.episodes.total,
            mean_return,
            mean_length: training.episodes.mean_length(),
            policy_lag: self.policy_lag,
            statistics,
        });
    }

    fn check_finite(&mut self, round: u64, statistics: &Statistics) -> Result<(), TrainingError> {
        if statistics.skipped_steps() > 0 {
            tracing::warn!(
                round,
                skipped = statistics.skipped_steps(),
                "skipped gradient steps that were not finite"
            );
        }
        let all_skipped = statistics.gradient_steps() == 0 && statistics.skipped_steps() > 0;
        self.non_finite_updates = if all_skipped {
            self.non_finite_updates + 1
        } else {
            0
        };
        if self.non_finite_updates >= MAX_NON_FINITE_UPDATES {
            return Err(TrainingError::NonFinite {
                round,
                updates: self.non_finite_updates,
                checkpoint: self.writer.finish(),
                remedy: self.observer.remedy_of_gradients(),
            });
        }
        Ok(())
    }

    fn evaluated(&mut self, report: &EvaluationReport) {
        let mean = report.returns.iter().sum::<f64>() / report.returns.len() as f64;
        self.evaluation_return = Some(mean);
        // Said at once: where the run is paused, no round will.
        self.run
            .progress
            .update(|progress| progress.evaluation_return = Some(mean));
        metrics::record_evaluation(mean);
        self.log.write_evaluation(report, mean);
    }

    /// What is due between two rounds.
    fn after_round(&mut self, training: &mut Training) {
        while let Ok(event) = self.events.try_recv() {
            self.handle(event, training);
        }
        let checkpoint = &self.configuration.checkpoint;
        let (last_round, last_time) = self.last_checkpoint;
        let due_by_updates = checkpoint
            .every_updates
            .is_some_and(|every| training.round - last_round >= every);
        let due_by_time = checkpoint
            .every
            .is_some_and(|every| last_time.elapsed() >= Duration::from(every));
        // What follows a gradient that was not finite may be lost already, and must not push out what is
        // not.
        let is_sound = self.non_finite_updates == 0;
        if (due_by_updates || due_by_time) && is_sound && self.wanted_checkpoints.is_empty() {
            self.try_checkpoint(training);
        }
        self.answer_checkpoints(training);
        if self
            .last_shown
            .is_none_or(|shown| shown.elapsed() >= PROGRESS_INTERVAL)
        {
            self.show(training, RunState::Training);
        }
    }

    /// Writes a checkpoint for whoever has asked, once the one before is on disk: nothing else may
    /// ever come that would be an occasion to try again.
    fn answer_checkpoints(&mut self, training: &Training) {
        if self.wanted_checkpoints.is_empty() {
            return;
        }
        let answers = std::mem::take(&mut self.wanted_checkpoints);
        if self.non_finite_updates > 0 {
            for answer in answers {
                let reason = "no gradient of the last update was finite: the checkpoint before stays the newest";
                // Whoever asked may have gone.
                let _ = answer.send(Err(reason.to_owned()));
            }
            return;
        }
        let job = self.job(training, answers);
        self.writer.start(job);
        self.last_checkpoint = (training.round, Instant::now());
        self.clock.lap(Stage::Checkpoint);
    }

    fn job(
        &mut self,
        training: &Training,
        answers: Vec<oneshot::Sender<Result<PathBuf, String>>>,
    ) -> Job {
        Job {
            state: training.state(&self.run.settings.run_id),
            policy: training.artifact(),
            best: self.best.take(),
            configuration: self.configuration_text.clone(),
            answers,
        }
    }

    /// Snapshots the state and leaves the writing to another thread. Where that is still at work,
    /// the next round tries again.
    fn try_checkpoint(&mut self, training: &Training) {
        let job = self.job(training, Vec::new());
        match self.writer.try_start(job) {
            Ok(()) => self.last_checkpoint = (training.round, Instant::now()),
            Err(unwritten) => self.best = unwritten.best,
        }
        self.clock.lap(Stage::Checkpoint);
    }

    /// Writes the last checkpoint, waits until it is on disk and sums up.
    fn finish(mut self, training: &Training, outcome: Outcome) -> Result<Summary, TrainingError> {
        let (answer, written) = oneshot::channel();
        let mut answers = std::mem::take(&mut self.wanted_checkpoints);
        answers.push(answer);
        let job = self.job(training, answers);
        self.writer.start(job);
        written
            .blocking_recv()
            .unwrap_or_else(|_| Err("the writer has ended".to_owned()))
            .map_err(TrainingError::FinalCheckpoint)?;
        let state = match outcome {
            Outcome::Finished => RunState::Finished,
            Outcome::Stopped => RunState::Paused,
        };
        self.show(training, state);
        self.log.finish(outcome);
        Ok(Summary {
            outcome,
            env_steps: training.env_steps,
            updates: training.round,
            episodes: training.episodes.total,
            discontinuities: training.discontinuities,
            last_discontinuity: training.last_discontinuity.clone(),
            wall_seconds: training.seconds(),
            mean_return: training.episodes.mean_return(),
            evaluation_return: self.evaluation_return,
            solved_at_seconds: training.solved_at.map(|solved| solved.seconds),
            solved_at_env_steps: training.solved_at.map(|solved| solved.env_steps),
            parameters_sha256: sha256_hex(bytemuck::cast_slice(&training.parameters())),
            unrolls: self.run.accounting.counts(),
            bottleneck: self.observer.verdict(),
            diagnoses: self.observer.diagnoses(),
        })
    }

    fn show(&mut self, training: &Training, state: RunState) {
        self.last_shown = Some(Instant::now());
        let stage_seconds = self.clock.seconds();
        let checkpoint = self.writer.newest();
        let evaluation_return = self.evaluation_return;
        let policy_lag = self.policy_lag;
        let total_env_steps = self.total_rounds() * self.run.settings.steps_per_round();
        let observer = &self.observer;
        self.run.progress.update(|progress| {
            observer.show(progress);
            progress.state = state;
            progress.version = training.round;
            progress.env_steps = training.env_steps;
            progress.total_env_steps = total_env_steps;
            progress.updates = training.round;
            progress.episodes = training.episodes.total;
            progress.discontinuities = training.discontinuities;
            progress
                .last_discontinuity
                .clone_from(&training.last_discontinuity);
            progress.wall_seconds = training.seconds();
            progress.mean_return = training.episodes.mean_return();
            progress.mean_length = training.episodes.mean_length();
            progress.evaluation_return = evaluation_return;
            progress.policy_lag = policy_lag;
            progress.solved_at = training.solved_at;
            progress.checkpoint = checkpoint;
            progress.stage_seconds = stage_seconds;
        });
    }
}
