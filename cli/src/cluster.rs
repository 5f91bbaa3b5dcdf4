//! A learner and its actors on this host, as child processes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use rookery_common::configuration::Configuration;
use rookery_common::exit::Exit;
use rookery_proto::v1::StatusReply;
use tokio::time::Instant;

use crate::children::{Child, Launch, Programs, Restarts, Verdict, describe};
use crate::control::Control;
use crate::run_directory::{RunDirectory, Socket};

/// What the learner may take beyond its own deadline: the round in work and its checkpoint.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How long actors may take to end once the learner has.
const ACTOR_PATIENCE: Duration = Duration::from_secs(3);

/// What a cluster is made of.
#[derive(Debug)]
pub(crate) struct ClusterPlan<'a> {
    /// The run's folder, with its `config.toml`.
    pub(crate) run: &'a RunDirectory,
    /// What `config.toml` says.
    pub(crate) configuration: &'a Configuration,
    /// Whether the learner goes on from the newest checkpoint.
    pub(crate) resume: bool,
    /// The configuration file of each actor.
    pub(crate) actors: Vec<PathBuf>,
    /// Whether an evaluator runs beside them.
    pub(crate) evaluator: bool,
}

/// The running processes.
#[derive(Debug)]
pub(crate) struct Cluster {
    learner: Child,
    workers: Vec<Worker>,
    control: Control,
    stop_patience: Duration,
    _socket: Socket,
}

/// An actor or evaluator, which is started again where it dies.
#[derive(Debug)]
struct Worker {
    launch: Launch,
    state: WorkerState,
    restarts: Restarts,
}

#[derive(Debug)]
enum WorkerState {
    Running(Box<Child>),
    Waiting {
        until: Instant,
    },
    /// It ended in good order: there is nothing more for it to do.
    Done,
}

impl Cluster {
    /// Starts the learner and the actors at once; the actors wait for it by themselves.
    ///
    /// # Errors
    /// Where a program is missing or cannot be started.
    pub(crate) fn start(programs: &Programs, plan: &ClusterPlan<'_>) -> anyhow::Result<Self> {
        let socket = plan.run.socket()?;
        let control = Control::new(socket.address.clone(), &plan.configuration.security)?;
        let actor_program = programs.actor(plan.configuration.actor.program.as_deref())?;
        let logs = plan.run.logs();
        let address = OsString::from(socket.address.to_string());

        let mut arguments: Vec<OsString> = vec![
            "--config".into(),
            plan.run.configuration_file().into(),
            "--run-dir".into(),
            plan.run.path().into(),
            "--listen".into(),
            address.clone(),
            "--exit-with-parent".into(),
        ];
        if plan.resume {
            arguments.push("--resume".into());
        }
        let learner = Launch {
            name: "learner".to_owned(),
            program: programs.learner()?,
            arguments,
            logs: logs.clone(),
        };
        let worker = |name: String, configuration: PathBuf, role: Option<&str>| Launch {
            name,
            program: actor_program.clone(),
            arguments: [
                "--config".into(),
                configuration.into(),
                "--learner".into(),
                address.clone(),
            ]
            .into_iter()
            .chain(["--exit-with-parent".into()])
            .chain(role.map(OsString::from))
            .collect(),
            logs: logs.clone(),
        };
        let mut launches: Vec<Launch> = plan
            .actors
            .iter()
            .enumerate()
            .map(|(index, file)| worker(format!("actor-{index}"), file.clone(), None))
            .collect();
        if plan.evaluator {
            let file = plan.run.configuration_file();
            let mut evaluator = worker("evaluator".to_owned(), file, Some("--evaluate"));
            if plan.configuration.evaluation.recordings.is_none() {
                let folder = plan.run.recordings().into();
                evaluator.arguments.extend(["--recordings".into(), folder]);
            }
            launches.push(evaluator);
        }
        let learner = learner.start()?;
        let workers = launches
            .into_iter()
            .map(|launch| {
                let state = WorkerState::Running(Box::new(launch.start()?));
                Ok(Worker {
                    launch,
                    state,
                    restarts: Restarts::default(),
                })
            })
            .collect::<anyhow::Result<_>>()?;
        let deadline: Duration = plan.configuration.learner.shutdown_deadline.into();
        Ok(Self {
            learner,
            workers,
            control,
            stop_patience: deadline + STOP_PATIENCE,
            _socket: socket,
        })
    }

    /// Where training stands; `None` where the learner does not answer.
    pub(crate) async fn status(&mut self) -> Option<StatusReply> {
        self.control.status().await.ok()
    }

    /// Waits until the learner ends. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Where the system does not say.
    pub(crate) async fn learner_ended(&mut self) -> anyhow::Result<ExitStatus> {
        self.learner.wait().await
    }

    /// Starts workers again that have died, and returns what people should know about it.
    ///
    /// # Errors
    /// Where one will not get better.
    pub(crate) fn revive(&mut self) -> anyhow::Result<Vec<String>> {
        let mut notices = Vec::new();
        for worker in &mut self.workers {
            notices.extend(worker.revive()?);
        }
        Ok(notices)
    }

    /// Has the learner finish the round in work and write its checkpoint; `None` where it had to
    /// be ended by force.
    ///
    /// # Errors
    /// Where the system refuses.
    pub(crate) async fn stop_learner(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.learner.terminate();
        self.learner.wait_at_most(self.stop_patience).await
    }

    /// Ends the workers: by themselves where the learner has dismissed them, by word, or by force.
    ///
    /// # Errors
    /// Where the system refuses.
    pub(crate) async fn stop_workers(&mut self) -> anyhow::Result<()> {
        for worker in &self.workers {
            if let WorkerState::Running(child) = &worker.state {
                child.terminate();
            }
        }
        for worker in &mut self.workers {
            if let WorkerState::Running(child) = &mut worker.state {
                child.wait_at_most(ACTOR_PATIENCE).await?;
            }
        }
        Ok(())
    }

    /// The learner's process.
    pub(crate) fn learner(&self) -> &Child {
        &self.learner
    }
}

impl Worker {
    fn revive(&mut self) -> anyhow::Result<Option<String>> {
        match &mut self.state {
            WorkerState::Running(child) => {
                let Some(status) = child.ended()? else {
                    return Ok(None);
                };
                if status.success() {
                    self.state = WorkerState::Done;
                    return Ok(None);
                }
                let exit = status.code().and_then(Exit::from_code);
                match self.restarts.after(exit, child.age()) {
                    Verdict::RestartAfter(delay) => {
                        let notice = format!(
                            "{} {}; starting it again (log: {})",
                            child.name(),
                            describe(status),
                            child.log().path().display()
                        );
                        self.state = WorkerState::Waiting {
                            until: Instant::now() + delay,
                        };
                        Ok(Some(notice))
                    }
                    Verdict::GiveUp => Err(child.failure(status).into()),
                }
            }
            WorkerState::Waiting { until } if *until <= Instant::now() => {
                self.state = WorkerState::Running(Box::new(self.launch.start()?));
                Ok(None)
            }
            WorkerState::Waiting { .. } | WorkerState::Done => Ok(None),
        }
    }
}
