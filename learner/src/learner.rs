//! The learner as a process: built from its configuration, run on a listener until the training
//! or a shutdown ends it.

use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rookery_common::configuration::Configuration;
use rookery_common::security::{Listener, SecurityError, ServerSecurity};
use rookery_proto::v1::control_server::ControlServer;
use rookery_proto::v1::learner_server::LearnerServer;
use tch::Device;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::service::interceptor::InterceptedService;

use crate::accounting::Accounting;
use crate::address_file::AddressFile;
use crate::checkpoint::{CheckpointError, CheckpointStore, LearnerState, Manifest};
use crate::checkpoint_writer::CheckpointWriter;
use crate::device;
use crate::fleet::Fleet;
use crate::leases::{Leases, ShardPosition};
use crate::logs::RunLog;
use crate::logs::mlflow::{Server, ServerError};
use crate::progress::{ProgressBoard, RunState};
use crate::publish::Publisher;
use crate::queue::{Queue, QueueBound, QueueTooSmall};
use crate::resume::{ResumeError, check_compatible};
use crate::run::{ControlCommand, Event, Run, RunSettings};
use crate::service::{Admission, ControlService, LearnerService, specify};
use crate::trainer::{Summary, Trainer, TrainingError};

/// Events that may wait for the compute thread beyond one unroll of every shard and round.
const SPARE_EVENTS: usize = 64;
/// How long drained actors may take to close their streams.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);

/// Why a learner does not start or ends early.
#[derive(Debug, thiserror::Error)]
pub enum LearnerError {
    /// Token or certificates are unsound, or too little for the address.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The run directory holds a run already.
    #[error("{0} holds a run already; add --resume to go on with it, or choose another --run-dir")]
    DirectoryInUse(PathBuf),
    /// Another learner works in the run directory.
    #[error("another learner works in {0}; wait for it to end, or choose another --run-dir")]
    DirectoryLocked(PathBuf),
    /// A file of the run cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The file system's reason.
        source: io::Error,
    },
    /// There is nothing whole to resume from.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint is of another configuration.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// The configured queue is too small for the checkpoint's environment.
    #[error(transparent)]
    Queue(#[from] QueueTooSmall),
    /// MLflow cannot be reached as it is configured.
    #[error(transparent)]
    Mlflow(#[from] ServerError),
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] device::DeviceError),
    /// Training ended early.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// The compute thread panicked.
    #[error("the compute thread panicked; its message is above, the checkpoints are intact")]
    Panicked,
    /// The round in work or its checkpoint took too long.
    #[error(
        "the round in work did not end within learner.shutdown_deadline, {0:?}; the run goes on \
         from the last checkpoint with --resume"
    )]
    Deadline(Duration),
    /// The network side failed.
    #[error("the service failed: {0}")]
    Service(#[from] tonic::transport::Error),
}

/// A learner that is ready to run.
#[derive(Debug)]
pub struct Learner {
    run: Arc<Run>,
    configuration: Configuration,
    security: ServerSecurity,
    mlflow: Option<Server>,
    device: Device,
    store: CheckpointStore,
    events: mpsc::Receiver<Event>,
    resumed: Option<LearnerState>,
    /// Held as long as the learner lives, so that no second one writes here.
    _lock: File,
}

impl Learner {
    /// Checks everything, reads the checkpoint where one is to be resumed, and listens nowhere.
    ///
    /// # Errors
    /// [`LearnerError`]; a directory that holds a run is left as it is.
    pub fn build(
        configuration: Configuration,
        run_directory: &Path,
        resume: bool,
    ) -> Result<Self, LearnerError> {
        let security = ServerSecurity::load(&configuration.security)?;
        let mlflow = Server::load(&configuration)?;
        let device = device::choose(configuration.learner.device, configuration.learner.threads)?;
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |source| LearnerError::Io { path, source }
        };
        fs::create_dir_all(run_directory).map_err(io_error(run_directory))?;
        let lock = lock(run_directory)?;

        let store = CheckpointStore::new(run_directory, configuration.checkpoint.keep as usize);
        let resumed = if resume {
            Some(read_checkpoint(&store, &configuration)?)
        } else if store.is_empty() {
            None
        } else {
            return Err(LearnerError::DirectoryInUse(run_directory.to_owned()));
        };
        store.remove_leftovers();
        let learner_epoch = next_epoch(run_directory)?;

        let run_id = resumed
            .as_ref()
            .map_or_else(|| new_run_id(&configuration), |state| state.run_id.clone());
        let settings = RunSettings {
            run_id,
            learner_epoch,
            seed: configuration.run.seed,
            num_envs: configuration.environment.num_envs,
            envs_per_shard: configuration.rollout.envs_per_shard,
            unroll_length: configuration.rollout.unroll_length,
            schedule: configuration.schedule(),
            unrolls_per_update: configuration.unrolls_per_update(),
            lease_timeout: configuration.learner.lease_timeout.into(),
            evaluation_every_env_steps: configuration.evaluation.every_env_steps.unwrap_or(0),
            evaluation_episodes: configuration.evaluation.episodes,
            directory: run_directory.to_owned(),
        };
        let (run, events) = make_run(settings, &configuration, resumed.as_ref())?;
        Ok(Self {
            run: Arc::new(run),
            configuration,
            security,
            mlflow,
            device,
            store,
            events,
            resumed,
            _lock: lock,
        })
    }

    /// Starts to listen where the configuration says.
    ///
    /// # Errors
    /// Where the address cannot be bound or is not guarded enough.
    pub async fn listen(&self) -> Result<Listener, LearnerError> {
        Ok(self
            .security
            .listen(&self.configuration.learner.listen)
            .await?)
    }

    /// Serves on `listener` and trains, until the training ends or `shutdown` resolves. Returns
    /// the summary that it wrote to `summary.json`; `None` where no actor ever came.
    ///
    /// # Errors
    /// Whatever ended the training early.
    pub async fn run(
        self,
        listener: Listener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Option<Summary>, LearnerError> {
        let Self {
            run,
            configuration,
            security,
            mlflow,
            device,
            store,
            events,
            resumed,
            _lock,
        } = self;
        let directory = run.settings.directory.clone();
        let io_error = |path: PathBuf| move |source| LearnerError::Io { path, source };
        let begins_at = resumed
            .as_ref()
            .map_or((0, 0), |state| (state.round, state.env_steps));
        let log = RunLog::open(&run.settings, &configuration, begins_at, mlflow)
            .map_err(io_error(directory.clone()))?;
        let _address = AddressFile::write(&directory, listener.address())
            .map_err(io_error(directory.clone()))?;
        let newest = resumed.as_ref().map(|state| store.directory(state.round));
        let writer = CheckpointWriter::spawn(store, newest).map_err(io_error(directory.clone()))?;

        let (admission, admitted) = watch::channel(Admission::Open);
        let (stop_server, stopped) = oneshot::channel::<()>();
        let server = serve(&run, &configuration, &security, listener, admitted, stopped);
        let server = tokio::spawn(server?);

        let (ended, mut training_ended) = oneshot::channel();
        let trainer = Trainer::new(
            Arc::clone(&run),
            configuration.clone(),
            device,
            events,
            writer,
            log,
        );
        std::thread::Builder::new()
            .name("compute".to_owned())
            .spawn(move || {
                // A receiver that is gone has given up on the outcome.
                let _ = ended.send(trainer.run(resumed));
            })
            .map_err(io_error(directory.clone()))?;

        let outcome = tokio::select! {
            outcome = &mut training_ended => outcome,
            () = shutdown => {
                tracing::info!("shutting down after the round in work");
                let stop = Event::Control(ControlCommand::Stop);
                // A compute thread that has ended needs no word.
                let _ = run.events.send(stop).await;
                let deadline = configuration.learner.shutdown_deadline.into();
                match tokio::time::timeout(deadline, training_ended).await {
                    Ok(outcome) => outcome,
                    Err(_) => return Err(LearnerError::Deadline(deadline)),
                }
            }
        };
        let outcome = outcome.map_err(|_| LearnerError::Panicked)?;
        let finished =
            matches!(&outcome, Ok(Some(s)) if s.outcome == crate::trainer::Outcome::Finished);
        if let Err(error) = &outcome {
            run.progress.update(|progress| {
                progress.state = RunState::Failed;
                progress.error = Some(error.to_string());
            });
        }
        drain(&run, &admission, finished).await;
        let _ = stop_server.send(());
        let deadline = configuration.learner.shutdown_deadline.into();
        match tokio::time::timeout(deadline, server).await {
            Ok(Ok(served)) => served?,
            Ok(Err(_)) => return Err(LearnerError::Panicked),
            Err(_) => tracing::warn!("some connections did not close in time"),
        }
        let summary = outcome?;
        if let Some(summary) = &summary {
            let path = directory.join("summary.json");
            let text = serde_json::to_vec_pretty(summary).map_err(io::Error::from);
            text.and_then(|text| fs::write(&path, text))
                .map_err(io_error(path))?;
        }
        Ok(summary)
    }
}

/// Tells every actor and gives them a moment to close their streams.
async fn drain(run: &Run, admission: &watch::Sender<Admission>, finished: bool) {
    run.fleet().drain(finished);
    let _ = admission.send(Admission::Draining { finished });
    let patience = tokio::time::Instant::now() + DRAIN_PATIENCE;
    while tokio::time::Instant::now() < patience {
        let size = run.fleet().size();
        if size.collectors + size.evaluators == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The gRPC server with all its limits.
fn serve(
    run: &Arc<Run>,
    configuration: &Configuration,
    security: &ServerSecurity,
    listener: Listener,
    admitted: watch::Receiver<Admission>,
    stopped: oneshot::Receiver<()>,
) -> Result<impl Future<Output = Result<(), tonic::transport::Error>> + use<>, LearnerError> {
    let mut draining = admitted.clone();
    let max_message = configuration.learner.max_message.bytes() as usize;
    let learner = LearnerServer::new(LearnerService::new(
        Arc::clone(run),
        configuration.clone(),
        admitted,
    ))
    .max_decoding_message_size(max_message);
    let control = ControlServer::new(ControlService::new(Arc::clone(run)));
    let mut builder = security.server(&listener)?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let guard = security.require_token();
    // Health is for probes, which have no token.
    let router = builder
        .add_service(health)
        .add_service(InterceptedService::new(learner, guard.clone()))
        .add_service(InterceptedService::new(control, guard));
    Ok(async move {
        reporter
            .set_serving::<LearnerServer<LearnerService>>()
            .await;
        tokio::spawn(async move {
            // A sender that is gone means the same.
            let _ = draining
                .wait_for(|admission| *admission != Admission::Open)
                .await;
            reporter
                .set_not_serving::<LearnerServer<LearnerService>>()
                .await;
        });
        router
            .serve_with_incoming_shutdown(listener, async {
                let _ = stopped.await;
            })
            .await
    })
}

/// Makes what the threads share; the compute thread's end of the channel comes with it.
fn make_run(
    settings: RunSettings,
    configuration: &Configuration,
    resumed: Option<&LearnerState>,
) -> Result<(Run, mpsc::Receiver<Event>), LearnerError> {
    let positions = resumed.map_or_else(
        || vec![ShardPosition::default(); settings.num_shards()],
        |state| state.positions.clone(),
    );
    let queue = Queue::new(QueueBound::of(settings.schedule));
    let specification = OnceLock::new();
    if let Some(state) = resumed {
        let known = specify(state.environment.clone(), configuration).map_err(ResumeError::from)?;
        if let Some(bound) = queue.bound() {
            bound.check(&known.contract.shape)?;
        }
        let _ = specification.set(known);
    }
    let leases = Leases::new(
        settings.run_id.clone(),
        settings.learner_epoch,
        settings.schedule,
        resumed.map_or(0, |state| state.round),
        positions,
    );
    let capacity = (settings.schedule.lag() as usize + 2) * settings.num_shards() + SPARE_EVENTS;
    let (events, inbox) = mpsc::channel(capacity);
    let run = Run {
        fleet: Arc::new(Mutex::new(Fleet::new(
            leases,
            settings.envs_per_shard as u32,
        ))),
        accounting: Arc::new(Accounting::default()),
        queue,
        publisher: Publisher::new(settings.schedule.lag()),
        progress: shown(resumed),
        specification,
        events,
        settings,
    };
    Ok((run, inbox))
}

/// What is known of a run before its compute thread has begun.
fn shown(resumed: Option<&LearnerState>) -> ProgressBoard {
    let board = ProgressBoard::default();
    if let Some(state) = resumed {
        board.update(|progress| {
            progress.version = state.round;
            progress.updates = state.round;
            progress.env_steps = state.env_steps;
            progress.episodes = state.episodes.total;
            progress.discontinuities = state.discontinuities;
            progress.wall_seconds = state.wall_seconds;
            progress.mean_return = state.episodes.mean_return();
            progress.mean_length = state.episodes.mean_length();
            progress.solved_at = state.solved_at;
        });
    }
    board
}

fn read_checkpoint(
    store: &CheckpointStore,
    configuration: &Configuration,
) -> Result<LearnerState, LearnerError> {
    let (state, manifest, faults): (LearnerState, Manifest, Vec<String>) = store.read_newest()?;
    for fault in faults {
        tracing::error!(fault, "skipped a damaged checkpoint");
    }
    check_compatible(&manifest.configuration, configuration)?;
    tracing::info!(
        version = state.round,
        env_steps = state.env_steps,
        "resuming"
    );
    Ok(state)
}

/// Claims the run directory for this process.
fn lock(run_directory: &Path) -> Result<File, LearnerError> {
    let path = run_directory.join("learner.lock");
    let file = File::create(&path).map_err(|source| LearnerError::Io {
        path: path.clone(),
        source,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(LearnerError::DirectoryLocked(run_directory.to_owned()))
        }
        Err(fs::TryLockError::Error(source)) => Err(LearnerError::Io { path, source }),
    }
}

/// Counts the starts of a run's learner on disk, so that no two ever share an epoch, whatever
/// checkpoint they resume from.
fn next_epoch(run_directory: &Path) -> Result<u64, LearnerError> {
    let path = run_directory.join("learner_epoch");
    let io_error = |source| LearnerError::Io {
        path: path.clone(),
        source,
    };
    let last = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse::<u64>().map_err(|_| {
            io_error(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("expected a whole number, got `{}`", text.trim()),
            ))
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(io_error(error)),
    };
    let epoch = last + 1;
    let temporary = run_directory.join(".learner_epoch");
    fs::write(&temporary, epoch.to_string())
        .and_then(|()| File::open(&temporary)?.sync_all())
        .and_then(|()| fs::rename(&temporary, &path))
        .and_then(|()| File::open(run_directory)?.sync_all())
        .map_err(io_error)?;
    Ok(epoch)
}

/// A name that no other run has.
fn new_run_id(configuration: &Configuration) -> String {
    use std::hash::{BuildHasher, Hasher};
    // The hasher's keys come from the operating system's random numbers.
    let unique = std::hash::RandomState::new().build_hasher().finish();
    let name = &configuration.run.name;
    let name = if name.is_empty() {
        &configuration.environment.id
    } else {
        name
    };
    format!("{name}-{unique:016x}")
}
