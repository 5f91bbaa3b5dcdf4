//! Looks at a run again and again, on a thread of its own, so that the screen never waits for a learner
//! that does not answer.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use rookery_common::configuration::{Configuration, Layers, SecurityConfiguration};
use rookery_common::exit::Exit;
use rookery_common::security::Address;
use rookery_proto::v1::StatusReply;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::state::View;
use crate::control::{Control, ControlError};
use crate::failure::Failure;
use crate::metrics_file::{MetricsFile, Reading};
use crate::run_directory::{LearnerSummary, RunDirectory};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// What one look has found.
#[derive(Debug)]
pub(super) struct News {
    /// Where training stands, or why nobody says so.
    pub(super) status: Result<StatusReply, String>,
    /// What the run directory has that is new.
    pub(super) metrics: Reading,
    /// How the run ended, where no learner answers.
    pub(super) summary: Option<LearnerSummary>,
}

/// What the watching thread tells the screen.
#[derive(Debug)]
pub(super) enum Message {
    /// A look has been taken.
    News(Box<News>),
    /// Looking does not help any more: what is named cannot be read.
    Failed(anyhow::Error),
    /// This process is to end.
    End,
}

/// What is watched, and how it is reached.
#[derive(Debug)]
pub(super) struct Watch {
    run: Option<RunDirectory>,
    /// Given by name; a run directory says it itself, anew with every learner.
    address: Option<Address>,
    security: SecurityConfiguration,
    metrics: Option<MetricsFile>,
    control: Option<Control>,
    /// How a process that gives up now ends.
    exit: Exit,
}

impl Watch {
    /// Understands `<address | run directory>`, with `settings` over the security of the run's
    /// configuration.
    ///
    /// # Errors
    /// Where it is neither, or a configuration is unsound.
    pub(super) fn new(target: &str, settings: &[String]) -> anyhow::Result<(Self, View)> {
        let path = Path::new(target);
        let run = path
            .is_dir()
            .then(|| RunDirectory::existing(path))
            .transpose()?;
        let address = match &run {
            Some(_) => None,
            None => Some(target.parse::<Address>().map_err(|error| {
                Failure::usage(format!(
                    "{target} is no run directory and no address: {error}"
                ))
            })?),
        };
        let mut layers = match &run {
            // A learner that was started without `rookery` leaves none.
            Some(run) if run.configuration_file().is_file() => {
                Layers::new().file(run.configuration_file())
            }
            _ => Layers::new(),
        };
        for setting in settings {
            layers = layers.set(setting.clone());
        }
        let configuration: Configuration = layers.build()?;
        let view = match &run {
            Some(run) => {
                let path =
                    std::path::absolute(run.path()).unwrap_or_else(|_| run.path().to_owned());
                let name = path
                    .file_name()
                    .unwrap_or(path.as_os_str())
                    .to_string_lossy();
                let is_known = run.configuration_file().is_file();
                let (environment, algorithm) = (
                    &configuration.environment.id,
                    configuration.run.algorithm.name(),
                );
                let subject = is_known.then(|| format!("{environment} {algorithm}"));
                let threshold = configuration.run.solved_return.filter(|_| is_known);
                View::new(name.into_owned(), subject, threshold)
            }
            None => View::new(target.to_owned(), None, None),
        };
        let watch = Self {
            metrics: run
                .as_ref()
                .map(|run| MetricsFile::new(&run.metrics_file())),
            run,
            address,
            security: configuration.security,
            control: None,
            exit: Exit::Unavailable,
        };
        Ok((watch, view))
    }

    /// How a process that gives up after the last look ends.
    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    /// Looks once.
    ///
    /// # Errors
    /// Where files of the run directory, or of the security settings, cannot be understood.
    pub(super) async fn look(&mut self) -> anyhow::Result<News> {
        let metrics = match &mut self.metrics {
            Some(metrics) => metrics.read()?,
            None => Reading::default(),
        };
        let status = self.ask().await?;
        let summary = match (&status, &self.run) {
            (Err(_), Some(run)) => run.read_summary()?,
            _ => None,
        };
        Ok(News {
            status,
            metrics,
            summary,
        })
    }

    async fn ask(&mut self) -> anyhow::Result<Result<StatusReply, String>> {
        let address = match (&self.address, &self.run) {
            (Some(address), _) => Some(address.clone()),
            (None, Some(run)) => run.learner_address()?,
            (None, None) => None,
        };
        let Some(address) = address else {
            self.control = None;
            return Ok(Err("no learner works in this run directory".to_owned()));
        };
        if self
            .control
            .as_ref()
            .is_none_or(|control| *control.address() != address)
        {
            self.control = Some(Control::new(address, &self.security)?);
        }
        let Some(control) = &mut self.control else {
            return Ok(Err("no learner is known".to_owned()));
        };
        Ok(control.status().await.map_err(|error: ControlError| {
            self.exit = error.exit();
            error.to_string()
        }))
    }

    async fn pause(&mut self, is_paused: bool) {
        if let Some(control) = &mut self.control {
            // Where it cannot be had, the next look says why.
            let _ = control.pause(is_paused).await;
        }
    }

    /// Looks every half second on a thread of its own. What is sent pauses training, `true`, or has it
    /// go on.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub(super) fn start(self) -> anyhow::Result<(Receiver<Message>, mpsc::Sender<bool>)> {
        let (messages, heard) = sync_channel(4);
        let (wishes, wished) = mpsc::channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start an event loop")?;
        thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || {
                let ending = messages.clone();
                let message = match runtime.block_on(self.follow(messages, wished)) {
                    Ok(()) => Message::End,
                    Err(error) => Message::Failed(error),
                };
                // A screen that is gone needs no word.
                let _ = ending.send(message);
            })
            .context("cannot start a thread")?;
        Ok((heard, wishes))
    }

    async fn follow(
        mut self,
        messages: SyncSender<Message>,
        mut wished: mpsc::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut hangup = listen(SignalKind::hangup())?;
        let mut turn = tokio::time::interval(INTERVAL);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = turn.tick() => {}
                Some(is_paused) = wished.recv() => self.pause(is_paused).await,
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
            }
            let news = Message::News(Box::new(self.look().await?));
            if messages.send(news).is_err() {
                return Ok(());
            }
        }
    }
}
