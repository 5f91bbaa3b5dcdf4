//! The other programs as child processes: where they are, how they start, and how they end.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rookery_common::exit::Exit;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{ChildStdin, Command};

use crate::failure::Failure;

/// Environment variable that names the folder of the programs.
pub(crate) const BIN_DIR: &str = "ROOKERY_BIN_DIR";
/// Lines of a log that are shown when its process fails.
const SHOWN_LINES: usize = 15;
/// Bytes of a log that are read to find them.
const SHOWN_BYTES: u64 = 16 << 10;

/// The programs that do the work.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Looks in the folder that `ROOKERY_BIN_DIR` names, or else beside this program.
    ///
    /// # Errors
    /// Where the system does not say where this program is.
    pub(crate) fn locate() -> anyhow::Result<Self> {
        if let Some(directory) = std::env::var_os(BIN_DIR) {
            return Ok(Self {
                directory: directory.into(),
            });
        }
        let own = std::env::current_exe().context("cannot tell where this program is")?;
        let directory = own.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self { directory })
    }

    /// The program that updates.
    ///
    /// # Errors
    /// Where it is not there.
    pub(crate) fn learner(&self) -> Result<PathBuf, Failure> {
        self.find("rookery-learner")
    }

    /// The program that collects: the `configured` one (`actor.program`), where there is one.
    ///
    /// # Errors
    /// Where it is not there.
    pub(crate) fn actor(&self, configured: Option<&Path>) -> Result<PathBuf, Failure> {
        match configured {
            None => self.find("rookery-actor"),
            Some(program) if program.is_file() => {
                // A name without a folder would be looked for on the PATH.
                Ok(std::path::absolute(program).unwrap_or_else(|_| program.to_owned()))
            }
            Some(program) => Err(Failure::usage(format!(
                "actor.program is {}, where there is no program; build it, or correct the path, which \
                 is read relative to the working directory",
                program.display()
            ))),
        }
    }

    fn find(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.directory.join(name);
        if path.is_file() {
            return Ok(path);
        }
        Err(Failure::usage(format!(
            "there is no {name} in {}; build it with `cargo build --release -p {name}`, or name the \
             folder where it is in {BIN_DIR}",
            self.directory.display()
        )))
    }
}

/// How one child is started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// What people call it; its log is `<name>.log`.
    pub(crate) name: String,
    /// The program.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// The folder of its log.
    pub(crate) logs: PathBuf,
}

impl Launch {
    /// Starts it. Its output goes behind what is in its log already.
    ///
    /// # Errors
    /// Where the log cannot be opened or the program cannot be started.
    pub(crate) fn start(&self) -> anyhow::Result<Child> {
        fs::create_dir_all(&self.logs)
            .with_context(|| format!("cannot make {}", self.logs.display()))?;
        let path = self.logs.join(format!("{}.log", self.name));
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let log_start = log.metadata().map_or(0, |metadata| metadata.len());
        let errors = log
            .try_clone()
            .with_context(|| format!("cannot open {}", path.display()))?;
        let mut process = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C in a terminal goes to a whole process group; what it means to the children is
            // this process's to say.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let lifeline = process.stdin.take();
        Ok(Child {
            name: self.name.clone(),
            process,
            started: Instant::now(),
            log: Log {
                path,
                start: log_start,
            },
            _lifeline: lifeline,
        })
    }
}

/// A running child.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    process: tokio::process::Child,
    started: Instant,
    log: Log,
    /// The child's standard input: it closes with this process, however this process ends, and
    /// then a child that was started with `--exit-with-parent` ends too.
    _lifeline: Option<ChildStdin>,
}

impl Child {
    /// What people call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it said since it was started.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// How long it has been there.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    /// Where the system does not say.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.process
            .try_wait()
            .with_context(|| format!("cannot wait for {}", self.name))
    }

    /// Waits until it ends. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Where the system does not say.
    pub(crate) async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        self.process
            .wait()
            .await
            .with_context(|| format!("cannot wait for {}", self.name))
    }

    /// Asks it to end in good order.
    pub(crate) fn terminate(&self) {
        let pid = self
            .process
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // It may have ended by itself in the meantime.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits until it ends, and ends it by force after `patience`; `None` where that was needed.
    ///
    /// # Errors
    /// Where the system refuses.
    pub(crate) async fn wait_at_most(
        &mut self,
        patience: Duration,
    ) -> anyhow::Result<Option<ExitStatus>> {
        if let Ok(status) = tokio::time::timeout(patience, self.process.wait()).await {
            return status
                .map(Some)
                .with_context(|| format!("cannot wait for {}", self.name));
        }
        self.process
            .kill()
            .await
            .with_context(|| format!("cannot end {}", self.name))?;
        Ok(None)
    }

    /// The error that its end stands for: its exit, and the last lines of its log.
    pub(crate) fn failure(&self, status: ExitStatus) -> Failure {
        let exit = exit_of(status);
        let mut message = format!("{} {}; its last words:\n", self.name, describe(status));
        for line in self.log.last_lines() {
            message.push_str("  ");
            message.push_str(&line);
            message.push('\n');
        }
        Failure::new(
            exit,
            format!("{message}The whole log: {}", self.log.path.display()),
        )
    }
}

/// The exit by which this process passes on how a child ended.
pub(crate) fn exit_of(status: ExitStatus) -> Exit {
    status
        .code()
        .and_then(Exit::from_code)
        .unwrap_or(Exit::Internal)
}

/// How a child ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => match Exit::from_code(code) {
            Some(exit) => format!("ended with exit code {code} ({exit})"),
            None => format!("ended with exit code {code}"),
        },
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The part of a log that one process wrote.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    path: PathBuf,
    start: u64,
}

impl Log {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The last lines that the process wrote; none where the log cannot be read.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(
                self.start.max(end.saturating_sub(SHOWN_BYTES)),
            ))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let first = lines.len().saturating_sub(SHOWN_LINES);
        lines[first..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect()
    }
}

/// When a child that ended is started again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restarts {
    /// Ends in a row, each soon after a start.
    failures: u32,
}

/// What is done about a child that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is started again after this time.
    RestartAfter(Duration),
    /// Starting it again would change nothing.
    GiveUp,
}

impl Restarts {
    /// A child that lived this long had been in order.
    const SOUND_AFTER: Duration = Duration::from_secs(10);
    /// Ends in a row after which it is given up.
    const MAX_FAILURES: u32 = 6;
    const FIRST_DELAY: Duration = Duration::from_millis(100);

    /// Decides about a child that ended with `exit` (`None`: a signal or an unknown code) after
    /// it had `lived` for some time.
    pub(crate) fn after(&mut self, exit: Option<Exit>, lived: Duration) -> Verdict {
        if matches!(exit, Some(Exit::Usage | Exit::NotPermitted)) {
            return Verdict::GiveUp;
        }
        if lived >= Self::SOUND_AFTER {
            self.failures = 0;
        }
        self.failures += 1;
        if self.failures > Self::MAX_FAILURES {
            return Verdict::GiveUp;
        }
        Verdict::RestartAfter(Self::FIRST_DELAY * 2_u32.pow(self.failures - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_come_later_and_later_and_end() {
        let mut restarts = Restarts::default();
        let soon = Duration::from_millis(5);
        let delays: Vec<_> = (0..6).map(|_| restarts.after(None, soon)).collect();
        let expected = [100, 200, 400, 800, 1600, 3200]
            .map(|milliseconds| Verdict::RestartAfter(Duration::from_millis(milliseconds)));
        assert_eq!(delays, expected);
        assert_eq!(restarts.after(None, soon), Verdict::GiveUp);
    }

    #[test]
    fn a_long_life_makes_up_for_earlier_failures() {
        let mut restarts = Restarts::default();
        for _ in 0..100 {
            let verdict = restarts.after(None, Duration::from_secs(11));
            assert_eq!(verdict, Verdict::RestartAfter(Restarts::FIRST_DELAY));
        }
    }

    #[test]
    fn what_cannot_get_better_is_not_tried_again() {
        for exit in [Exit::Usage, Exit::NotPermitted] {
            let verdict = Restarts::default().after(Some(exit), Duration::from_mins(1));
            assert_eq!(verdict, Verdict::GiveUp);
        }
    }

    #[test]
    fn a_missing_program_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs {
            directory: folder.path().to_owned(),
        };
        let message = programs.learner().unwrap_err().to_string();
        assert!(
            message.contains("rookery-learner") && message.contains(BIN_DIR),
            "{message}"
        );
    }

    #[test]
    fn an_actor_of_ones_own_is_started_where_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs {
            directory: folder.path().to_owned(),
        };
        let own = folder.path().join("own-actor");
        let message = programs.actor(Some(&own)).unwrap_err().to_string();
        assert!(message.contains("actor.program"), "{message}");
        fs::write(&own, "").unwrap();
        assert_eq!(programs.actor(Some(&own)).unwrap(), own);
        assert!(programs.actor(None).is_err(), "it stands in for no other");
    }

    /// A child that runs a line of shell.
    fn shell(logs: &Path, line: &str) -> Child {
        let launch = Launch {
            name: "learner".to_owned(),
            program: "/bin/sh".into(),
            arguments: ["-c", line].map(OsString::from).into(),
            logs: logs.to_owned(),
        };
        launch.start().unwrap()
    }

    #[tokio::test]
    async fn a_failed_child_is_quoted_without_what_an_earlier_one_said() {
        let logs = tempfile::tempdir().unwrap();
        fs::write(logs.path().join("learner.log"), "an older story\n").unwrap();
        let mut child = shell(logs.path(), "echo out; echo 'no luck' >&2; exit 77");
        let status = child.wait().await.unwrap();
        let failure = child.failure(status);
        assert_eq!(failure.exit, Exit::NotPermitted);
        let message = failure.to_string();
        assert!(
            message.contains("no luck") && !message.contains("older"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn a_child_is_asked_to_end_before_it_is_made_to() {
        let logs = tempfile::tempdir().unwrap();
        let mut asked = shell(logs.path(), "exec sleep 600");
        asked.terminate();
        let status = asked.wait_at_most(Duration::from_mins(1)).await.unwrap();
        assert_eq!(status.and_then(|status| status.signal()), Some(15));

        let mut forced = shell(logs.path(), "exec sleep 600");
        assert_eq!(
            forced.wait_at_most(Duration::from_millis(1)).await.unwrap(),
            None
        );
        assert_eq!(
            forced.ended().unwrap().and_then(|status| status.signal()),
            Some(9)
        );
    }

    #[tokio::test]
    async fn waiting_does_not_close_the_lifeline() {
        let logs = tempfile::tempdir().unwrap();
        let mut child = shell(logs.path(), "cat");
        let patience = Duration::from_millis(100);
        assert!(tokio::time::timeout(patience, child.wait()).await.is_err());
    }
}
