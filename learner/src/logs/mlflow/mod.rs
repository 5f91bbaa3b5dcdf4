//! Sends a run's curves to an MLflow tracking server, over its REST API, version 2.0.
//!
//! A thread does it, so that no answer is waited for in training. What it has no time for waits in a
//! bounded queue, from which the oldest points are dropped, and counted, once it is full. A server that
//! does not answer, or answers with an error, is tried again with jittered backoff.

mod server;
mod session;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use rookery_common::configuration::Configuration;

use self::server::CallError;
pub use self::server::{Server, ServerError};
use self::session::{Identity, MAX_METRICS, Metric, Session};
use super::{Point, Sink};
use crate::metrics;

/// Points that may wait for the server: all of a run, unless it is told to note more.
const WAITING_POINTS: usize = 1_000;
/// Time between two deliveries.
const INTERVAL: Duration = Duration::from_secs(2);
/// First wait for a server that does not answer, about.
const MIN_BACKOFF: Duration = Duration::from_millis(500);
/// Longest wait for a server that does not answer, about.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// How long the end of a run waits for a server that does not answer, or for any where the run was
/// stopped.
const SHORT_PATIENCE: Duration = Duration::from_secs(3);
/// How long the end of a run that is finished waits for a server that takes what it gets.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// All updates are done.
    Finished,
    /// It was stopped, and can go on.
    Killed,
    /// An error has ended it.
    Failed,
}

impl Ending {
    /// MLflow's word for it.
    const fn status(self) -> &'static str {
        match self {
            Self::Finished => "FINISHED",
            Self::Killed => "KILLED",
            Self::Failed => "FAILED",
        }
    }

    const fn patience(self) -> Duration {
        match self {
            Self::Finished => LONG_PATIENCE,
            Self::Killed | Self::Failed => SHORT_PATIENCE,
        }
    }
}

/// The inbox of the thread that sends.
#[derive(Debug)]
pub(super) struct Mlflow {
    points: Sender<Arc<Point>>,
    /// The other end of `points`, from where the oldest is dropped.
    oldest: Receiver<Arc<Point>>,
    ending: Sender<Ending>,
    /// Taken by whoever has said how the run ends.
    ended: Option<Receiver<()>>,
}

impl Mlflow {
    /// Starts the thread. It calls the server once there is something to send.
    ///
    /// # Errors
    /// Where the operating system gives no thread.
    pub(super) fn spawn(
        server: Server,
        run_id: &str,
        configuration: &Configuration,
    ) -> io::Result<Self> {
        let (points, oldest) = bounded(WAITING_POINTS);
        let (ending, told) = bounded(1);
        let (end, ended) = bounded(1);
        let worker = Worker {
            server,
            identity: Identity::new(run_id, configuration),
            points: oldest.clone(),
            told,
            session: None,
            waiting: Vec::new(),
            has_begun: false,
            backoff: None,
        };
        thread::Builder::new()
            .name("mlflow".to_owned())
            .spawn(move || {
                worker.run();
                // Whoever waits may have gone.
                let _ = end.send(());
            })?;
        Ok(Self {
            points,
            oldest,
            ending,
            ended: Some(ended),
        })
    }

    /// Lets a point be sent; where too many wait, the oldest is not.
    pub(super) fn note(&self, point: Arc<Point>) {
        let mut unsent = Some(point);
        while let Some(point) = unsent.take() {
            if let Err(TrySendError::Full(point)) = self.points.try_send(point) {
                if self.oldest.try_recv().is_ok() {
                    metrics::count_dropped_points(Sink::Mlflow, 1);
                }
                unsent = Some(point);
            }
        }
    }

    /// Says how the run has ended and waits until the server knows, or no longer.
    pub(super) fn end(mut self, ending: Ending) {
        self.tell(ending);
    }

    fn tell(&mut self, ending: Ending) {
        if let Some(ended) = self.ended.take() {
            // There is room for one, and it is said once.
            let _ = self.ending.try_send(ending);
            let _ = ended.recv_timeout(ending.patience());
        }
    }
}

impl Drop for Mlflow {
    /// A run whose end was not told has failed.
    fn drop(&mut self) {
        self.tell(Ending::Failed);
    }
}

/// The thread's state.
struct Worker {
    server: Server,
    identity: Identity,
    points: Receiver<Arc<Point>>,
    told: Receiver<Ending>,
    /// `None` where the server is to be asked what it knows.
    session: Option<Session>,
    /// What was taken from the queue and has not arrived.
    waiting: Vec<Metric>,
    /// Whether the server has, or may have, the run.
    has_begun: bool,
    /// Since the server has failed to answer.
    backoff: Option<ExponentialBackoff>,
}

impl Worker {
    fn run(mut self) {
        let ending = self.work();
        self.end(ending);
    }

    /// Delivers what comes, until the run ends.
    fn work(&mut self) -> Ending {
        loop {
            select! {
                recv(self.told) -> ending => return ending.unwrap_or(Ending::Failed),
                recv(self.points) -> point => {
                    if let Ok(point) = point {
                        self.waiting.extend(Metric::of(&point));
                    }
                }
            }
            while self.has_something() {
                let pause = match self.deliver() {
                    Ok(()) => continue,
                    Err(error) => self.failed(&error),
                };
                if let Ok(ending) = self.told.recv_timeout(pause) {
                    return ending;
                }
            }
            if let Ok(ending) = self.told.recv_timeout(INTERVAL) {
                return ending;
            }
        }
    }

    /// Delivers what is left and says how the run has ended.
    fn end(&mut self, ending: Ending) {
        let since = Instant::now();
        loop {
            let is_over = if self.has_something() {
                self.deliver().map(|()| false)
            } else if self.has_begun {
                let session = self.session();
                session.and_then(|session| session.end(ending.status()).map(|()| true))
            } else {
                return;
            };
            let patience = match is_over {
                Ok(true) => return,
                Ok(false) => ending.patience(),
                Err(error) => {
                    thread::sleep(self.failed(&error).min(SHORT_PATIENCE / 4));
                    SHORT_PATIENCE
                }
            };
            if since.elapsed() >= patience {
                break;
            }
        }
        let points = self.points.len() as u64 + u64::from(!self.waiting.is_empty());
        metrics::count_dropped_points(Sink::Mlflow, points);
        tracing::warn!(points, "the run ended before MLflow had all of it");
    }

    fn has_something(&self) -> bool {
        !self.waiting.is_empty() || !self.points.is_empty()
    }

    /// Sends as much as goes at once.
    fn deliver(&mut self) -> Result<(), CallError> {
        while self.waiting.len() < MAX_METRICS
            && let Ok(point) = self.points.try_recv()
        {
            self.waiting.extend(Metric::of(&point));
        }
        let count = self.waiting.len().min(MAX_METRICS);
        let batch = self.waiting[..count].to_vec();
        match self.session()?.send(&batch) {
            Ok(()) => {}
            Err(error) if error.is_about_content() => {
                tracing::warn!(%error, metrics = count, "MLflow takes none of these metrics; training goes on");
                metrics::count_dropped_points(Sink::Mlflow, 1);
                self.session = None;
            }
            Err(error) => return Err(error),
        }
        self.waiting.drain(..count);
        if self.backoff.take().is_some() {
            tracing::info!("MLflow takes the run's curves again");
        }
        Ok(())
    }

    fn session(&mut self) -> Result<&mut Session, CallError> {
        self.has_begun = true;
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::open(self.server.clone(), &self.identity)?,
        };
        Ok(self.session.insert(session))
    }

    /// Says it the first time, and how long to wait. What has arrived in spite of it is asked for
    /// before anything is sent again.
    fn failed(&mut self, error: &CallError) -> Duration {
        self.session = None;
        let backoff = self.backoff.get_or_insert_with(|| {
            tracing::warn!(%error, "MLflow does not get the run's curves; training goes on, and they wait");
            ExponentialBuilder::default()
                .with_min_delay(MIN_BACKOFF)
                .with_max_delay(MAX_BACKOFF)
                .without_max_times()
                .with_jitter()
                .build()
        });
        backoff.next().unwrap_or(MAX_BACKOFF)
    }
}
