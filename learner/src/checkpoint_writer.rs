//! Writes checkpoints in a thread of its own, so that training goes on.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Sender, bounded};
use rookery_common::policy::PolicyArtifact;
use tokio::sync::oneshot;

use crate::checkpoint::{BestPolicy, CheckpointStore, LearnerState};
use crate::metrics;

/// One checkpoint to write.
#[derive(Debug)]
pub struct Job {
    /// What to resume from.
    pub state: LearnerState,
    /// What acts.
    pub policy: PolicyArtifact,
    /// The best policy, where it is newer than the one on disk.
    pub best: Option<BestPolicy>,
    /// The configuration in effect.
    pub configuration: String,
    /// Who waits for it.
    pub answers: Vec<oneshot::Sender<Result<PathBuf, String>>>,
}

/// The thread's inbox. The thread ends with it.
#[derive(Debug)]
pub struct CheckpointWriter {
    jobs: Sender<Job>,
    thread: Option<thread::JoinHandle<()>>,
    newest: Arc<Mutex<Option<PathBuf>>>,
}

impl CheckpointWriter {
    /// Starts the thread. `newest` is the checkpoint on disk that the run goes on from.
    ///
    /// # Errors
    /// Where the operating system gives none.
    pub fn spawn(store: CheckpointStore, newest: Option<PathBuf>) -> std::io::Result<Self> {
        // One job at work and none waiting: a disk that is slower than the checkpoints come
        // gets fewer of them, never a queue of copies of the state.
        let (jobs, inbox) = bounded::<Job>(0);
        let newest = Arc::new(Mutex::new(newest));
        let shown = Arc::clone(&newest);
        let thread = thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || {
                let mut unwritten_best = None;
                for mut job in inbox {
                    job.best = job.best.or_else(|| unwritten_best.take());
                    unwritten_best = write(&store, job, &shown);
                }
            })?;
        Ok(Self {
            jobs,
            thread: Some(thread),
            newest,
        })
    }

    /// Starts writing.
    ///
    /// # Errors
    /// Hands the job back where the one before is not done.
    pub fn try_start(&self, job: Job) -> Result<(), Box<Job>> {
        self.jobs
            .try_send(job)
            .map_err(|error| Box::new(error.into_inner()))
    }

    /// Starts writing once the job before is done.
    pub fn start(&self, job: Job) {
        // The thread lives as long as this inbox; where it panicked, the dropped answers tell.
        let _ = self.jobs.send(job);
    }

    /// Waits until the job at work is done, takes no more, and gives the newest checkpoint on disk.
    pub fn finish(&mut self) -> Option<PathBuf> {
        // The thread ends with its inbox.
        self.jobs = bounded(0).0;
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, has said what there is to say.
            let _ = thread.join();
        }
        self.newest()
    }

    /// The newest checkpoint on disk: that which the run goes on from, or a later one of this process.
    #[must_use]
    pub fn newest(&self) -> Option<PathBuf> {
        self.newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Writes one checkpoint, and gives the best policy back where that is not on disk.
fn write(store: &CheckpointStore, job: Job, newest: &Mutex<Option<PathBuf>>) -> Option<BestPolicy> {
    let since = Instant::now();
    let written = store
        .write(&job.state, &job.policy, &job.configuration)
        .and_then(|path| {
            if let Some(best) = &job.best {
                store.write_best(best, &job.state.run_id, &job.configuration)?;
            }
            Ok(path)
        });
    let is_written = written.is_ok();
    metrics::record_checkpoint(is_written, since.elapsed());
    let answer = match written {
        Ok(path) => {
            tracing::debug!(version = job.state.round, path = %path.display(), "wrote checkpoint");
            *newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.clone());
            Ok(path)
        }
        Err(error) => {
            tracing::error!(version = job.state.round, %error, "checkpoint failed; training goes on");
            Err(error.to_string())
        }
    };
    for waiting in job.answers {
        // Whoever asked may have gone.
        let _ = waiting.send(answer.clone());
    }
    job.best.filter(|_| !is_written)
}
