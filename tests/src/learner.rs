//! A learner as a process, and what it says about its run.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use rookery_proto::v1;
use rookery_proto::v1::control_client::ControlClient;
use serde::Deserialize;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::program::{Exit, Program};
use crate::runtime::{block_on, runtime};
use crate::wait;

/// What a run came to: the file `summary.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Summary {
    /// `finished` or `stopped`.
    pub outcome: String,
    /// What determinism promises.
    #[serde(flatten)]
    pub result: Outcome,
    /// Where the unrolls went, by result, in the learner's last process.
    pub unrolls: Unrolls,
    /// Consumed unrolls whose environments had been reset before them.
    pub discontinuities: u64,
    /// Why the last of them had been.
    pub last_discontinuity: Option<String>,
    /// What looked sick at the end.
    pub diagnoses: Vec<Diagnosis>,
}

/// Something that looks sick.
#[derive(Clone, Debug, Deserialize)]
pub struct Diagnosis {
    /// The rule.
    pub name: String,
}

impl Summary {
    /// Reads it in a run directory.
    pub(crate) fn read(run_directory: &Path) -> Self {
        let path = run_directory.join("summary.json");
        let text = std::fs::read(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        serde_json::from_slice(&text)
            .unwrap_or_else(|error| panic!("{} is malformed: {error}", path.display()))
    }
}

/// What must be equal between two runs of one configuration, whatever happened to their processes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Outcome {
    /// Of every parameter of policy and value function.
    pub parameters_sha256: String,
    /// Environment steps that were learned from.
    pub env_steps: u64,
    /// Rounds that were learned from.
    pub updates: u64,
    /// Training episodes that ended.
    pub episodes: u64,
    /// Over the last hundred of them.
    pub mean_return: Option<f64>,
}

/// Where the unrolls went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Unrolls {
    /// All that arrived.
    pub received: u64,
    /// Learned from.
    pub trained: u64,
    /// Admitted and waiting for the others of their round.
    pub queued: u64,
    /// Admitted before.
    pub duplicate: u64,
    /// Refused for their name or version.
    pub stale: u64,
    /// Refused for what they hold.
    pub invalid: u64,
}

impl Unrolls {
    /// Checks that every unroll is accounted for.
    ///
    /// # Panics
    /// Where one is not.
    pub fn check(&self) {
        let Self {
            received,
            trained,
            queued,
            duplicate,
            stale,
            invalid,
        } = *self;
        assert_eq!(
            received,
            trained + queued + duplicate + stale + invalid,
            "received = trained + queued + duplicate + stale + invalid: {self:?}"
        );
    }
}

impl From<v1::UnrollAccounting> for Unrolls {
    fn from(counts: v1::UnrollAccounting) -> Self {
        let v1::UnrollAccounting {
            received,
            trained,
            queued,
            duplicate,
            stale,
            invalid,
        } = counts;
        Self {
            received,
            trained,
            queued,
            duplicate,
            stale,
            invalid,
        }
    }
}

/// A running learner that listens.
#[derive(Debug)]
pub struct Learner {
    program: Program,
    run_directory: PathBuf,
    control: ControlClient<Channel>,
}

impl Learner {
    /// Takes a learner that has just been started, once it listens.
    pub(crate) fn new(mut program: Program, socket: &Path, run_directory: &Path) -> Self {
        program.wait_log("listening");
        let _guard = runtime().enter();
        let channel = Endpoint::from_shared(format!("unix://{}", socket.display()))
            .expect("the address of a socket")
            .connect_lazy();
        Self {
            program,
            run_directory: run_directory.to_owned(),
            control: ControlClient::new(channel),
        }
    }

    /// Where the run stands. Checks on the way that every unroll is accounted for.
    ///
    /// # Panics
    /// Where the learner does not answer, or has lost count.
    pub fn status(&self) -> v1::StatusReply {
        self.try_status()
            .unwrap_or_else(|status| panic!("the learner does not answer: {status}"))
    }

    fn try_status(&self) -> Result<v1::StatusReply, Status> {
        let mut control = self.control.clone();
        let status = block_on(control.status(v1::StatusRequest {}))?.into_inner();
        Unrolls::from(status.unrolls.expect("a status counts unrolls")).check();
        Ok(status)
    }

    /// Where the unrolls went so far.
    pub fn unrolls(&self) -> Unrolls {
        self.status()
            .unrolls
            .expect("a status counts unrolls")
            .into()
    }

    /// Reads the status until `condition` holds, and gives the one in which it did.
    ///
    /// # Panics
    /// Where the learner ends before, or after a minute.
    pub fn wait_status(
        &mut self,
        what: &str,
        mut condition: impl FnMut(&v1::StatusReply) -> bool,
    ) -> v1::StatusReply {
        wait::wait(what, wait::LONG, || match self.try_status() {
            Ok(status) => condition(&status).then_some(status),
            Err(status) => {
                let exit = self.program.exit();
                assert!(
                    exit.is_none(),
                    "the learner ended with {exit:?} before this: {what}"
                );
                panic!("the learner does not answer ({status}) while waiting for this: {what}");
            }
        })
    }

    /// Waits until `count` unrolls have arrived at this learner process.
    pub fn wait_received(&mut self, count: u64) {
        self.wait_status(&format!("{count} unrolls"), |status| {
            status
                .unrolls
                .is_some_and(|unrolls| unrolls.received >= count)
        });
    }

    /// Waits until `count` collecting actors have an open stream.
    pub fn wait_actors(&mut self, count: u32) {
        self.wait_status(&format!("{count} actors"), |status| status.actors == count);
    }

    /// Has it consume no rounds until [`resume`](Self::resume), and waits until that is so.
    pub fn pause(&mut self) {
        let mut control = self.control.clone();
        block_on(control.pause(v1::PauseRequest {})).expect("the learner pauses");
        self.wait_status("the pause", |status| status.state() == v1::RunState::Paused);
    }

    /// Has it go on.
    pub fn resume(&mut self) {
        let mut control = self.control.clone();
        block_on(control.resume(v1::ResumeRequest {})).expect("the learner goes on");
    }

    /// Has it write a checkpoint, and gives its directory once it is on disk, or the reason why it
    /// is not.
    ///
    /// # Errors
    /// The learner's.
    pub fn checkpoint(&mut self) -> Result<PathBuf, Status> {
        let mut control = self.control.clone();
        let reply = block_on(control.checkpoint(v1::CheckpointRequest {}))?;
        Ok(PathBuf::from(reply.into_inner().directory))
    }

    /// Waits until the run is complete and the process has ended well.
    pub fn finish(mut self) -> Summary {
        let exit = self.program.wait_exit(wait::LONG);
        assert_eq!(exit, Exit::Code(0), "how the learner ended");
        let summary = Summary::read(&self.run_directory);
        assert_eq!(summary.outcome, "finished");
        summary.unrolls.check();
        summary
    }
}

impl Deref for Learner {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for Learner {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}
