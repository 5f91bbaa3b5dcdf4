//! The actor as a process: built from its configuration, run until the run is complete or it is
//! told to stop, reconnecting by itself in between.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use rookery_common::configuration::Configuration;
use rookery_common::security::{ClientSecurity, SecurityError};
use rookery_common::spaces::EnvironmentSpec;
use rookery_proto::v1::learner_client::LearnerClient;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::environments::{self, EnvironmentError, hosted};
use crate::evaluator;
use crate::recording::{self, Recorder, RecordingError, RecordingPlan};
use crate::session::{self, SessionEnd, SessionError};

/// What the process does for the learner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorRole {
    /// Collects unrolls.
    Collector,
    /// Measures policies.
    Evaluator,
}

/// Why an actor does not start or gives up.
#[derive(Debug, thiserror::Error)]
pub enum ActorError {
    /// Token or certificates are unsound.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The environment cannot be made.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// Evaluations cannot be recorded.
    #[error("evaluation.record_every: {0}")]
    Recording(#[from] RecordingError),
    /// The learner's answer will not change.
    #[error("{0}")]
    Refused(SessionError),
    /// The learner could not be reached for too long.
    #[error(
        "no learner answered at {address} for {patience:?}, last: {last}; check that it runs, that \
         the address is right, that both sides agree on TLS (security.tls_ca) and certificates \
         (security.tls_client_certificate), and that no firewall is between"
    )]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// How long.
        patience: Duration,
        /// What the last attempt met.
        last: String,
    },
}

/// An actor that is ready to run.
#[derive(Debug)]
pub struct Actor {
    configuration: Configuration,
    role: ActorRole,
    environment: EnvironmentSpec,
    security: ClientSecurity,
    /// What an evaluator records.
    recordings: Option<RecordingPlan>,
}

impl Actor {
    /// Checks everything and connects to nothing.
    ///
    /// # Errors
    /// [`ActorError`].
    pub fn build(configuration: Configuration, role: ActorRole) -> Result<Self, ActorError> {
        let security = ClientSecurity::load(&configuration.security)?;
        let settings = &configuration.environment;
        hosted::configure(&configuration.actor.host);
        let bare = environments::make(&settings.id, &settings.all_arguments(), 1)?;
        let environment = environments::wrap(bare, &settings.wrappers)?.spec().clone();
        let recordings = match role {
            ActorRole::Collector => None,
            ActorRole::Evaluator => RecordingPlan::new(&configuration.evaluation),
        };
        if let Some(plan) = &recordings {
            recording::check_visible(&environment)?;
            plan.make_folder()?;
        }
        Ok(Self {
            configuration,
            role,
            environment,
            security,
            recordings,
        })
    }

    /// Works for the learner until the run is complete or `shutdown` resolves.
    ///
    /// # Errors
    /// Where the learner refuses for good, or cannot be reached for `actor.give_up_after`.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ActorError> {
        let (stop, stopped) = watch::channel(false);
        let worked = self.work(stopped);
        tokio::pin!(shutdown, worked);
        tokio::select! {
            outcome = &mut worked => return outcome,
            () = &mut shutdown => {}
        }
        // The unroll in work is dropped: the learner has the shard collected again.
        let _ = stop.send(true);
        worked.await
    }

    async fn work(&self, mut stopped: watch::Receiver<bool>) -> Result<(), ActorError> {
        let patience: Duration = self.configuration.actor.give_up_after.into();
        let mut backoff = self.backoff();
        let mut last_contact = Instant::now();
        let mut recorder = Recorder::new(self.recordings.clone());
        loop {
            let was_up = Instant::now();
            let error = match self.session(&mut stopped, &mut recorder).await {
                Ok(SessionEnd::Finished | SessionEnd::ShutDown) => return Ok(()),
                Ok(SessionEnd::Drained) => {
                    last_contact = Instant::now();
                    backoff = self.backoff();
                    "the learner is draining".to_owned()
                }
                Err(Attempt::Security(error)) => return Err(error.into()),
                Err(Attempt::Session(error)) if error.is_permanent() => {
                    return Err(ActorError::Refused(error));
                }
                Err(Attempt::Session(error)) => {
                    if was_up.elapsed() > Duration::from_secs(1) {
                        last_contact = Instant::now();
                        backoff = self.backoff();
                    }
                    error.to_string()
                }
                Err(Attempt::Connect(error)) => error,
            };
            if *stopped.borrow() {
                return Ok(());
            }
            if last_contact.elapsed() >= patience {
                return Err(ActorError::Unreachable {
                    address: self.configuration.actor.learner.to_string(),
                    patience,
                    last: error,
                });
            }
            let delay = backoff
                .next()
                .unwrap_or_else(|| self.configuration.actor.reconnect_backoff_max.into());
            tracing::warn!(
                learner = %self.configuration.actor.learner,
                error,
                retry_in = ?delay,
                "no session with the learner"
            );
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            }
        }
    }

    /// Delays that double up to a maximum, each drawn at random, so that a thousand actors whose
    /// learner restarts do not come back in one moment.
    fn backoff(&self) -> ExponentialBackoff {
        let settings = &self.configuration.actor;
        ExponentialBuilder::default()
            .with_min_delay(settings.reconnect_backoff_initial.into())
            .with_max_delay(settings.reconnect_backoff_max.into())
            .without_max_times()
            .with_jitter()
            .build()
    }

    async fn session(
        &self,
        stopped: &mut watch::Receiver<bool>,
        recorder: &mut Recorder,
    ) -> Result<SessionEnd, Attempt> {
        let settings = &self.configuration.actor;
        let shutdown: Pin<Box<dyn Future<Output = ()> + Send>> = {
            let mut stopped = stopped.clone();
            Box::pin(async move {
                // A sender that is gone means the same.
                let _ = stopped.wait_for(|stopped| *stopped).await;
            })
        };
        let channel = tokio::select! {
            channel = self.security.connect(&settings.learner) => {
                channel.map_err(|error| match error {
                    SecurityError::Unreachable { .. } => Attempt::Connect(error.to_string()),
                    error => Attempt::Security(error),
                })?
            }
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(SessionEnd::ShutDown),
        };
        let max_message = self.configuration.learner.max_message.bytes() as usize;
        let mut client = LearnerClient::with_interceptor(channel, self.security.show_token())
            .max_decoding_message_size(max_message);
        let ended = match self.role {
            ActorRole::Collector => {
                let threads = settings.threads as u32;
                session::collect(
                    &mut client,
                    &self.environment,
                    threads,
                    0,
                    max_message,
                    shutdown,
                )
                .await
            }
            ActorRole::Evaluator => {
                let environment = &self.environment;
                evaluator::serve(&mut client, environment, max_message, recorder, shutdown).await
            }
        };
        ended.map_err(Attempt::Session)
    }
}

/// What an attempt at a session met.
enum Attempt {
    Security(SecurityError),
    Connect(String),
    Session(SessionError),
}
