//! A program of Rookery as a process of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// Finds a program of this workspace: in `ROOKERY_BIN_DIR`, or beside the tests.
///
/// # Panics
/// Where it has not been built.
pub fn binary(name: &str) -> PathBuf {
    let directory = std::env::var_os("ROOKERY_BIN_DIR").map_or_else(
        || {
            let test = std::env::current_exe().expect("the path of this test");
            let directory = test
                .ancestors()
                .nth(2)
                .expect("target/<profile>/deps/<test>");
            directory.to_owned()
        },
        PathBuf::from,
    );
    let path = directory.join(name);
    assert!(
        path.is_file(),
        "{} is missing; build it with `cargo build --release --workspace`, or name the directory \
         that holds it in ROOKERY_BIN_DIR",
        path.display()
    );
    path
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// A running process. It ends when this handle drops; its log is shown when the test fails.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    /// `--exit-with-parent`: the kernel closes it when the test dies, however it dies.
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl Program {
    /// Starts `command` with its output in `directory/<name>.log`; messages call it `name`.
    pub fn start(name: &str, mut command: Command, directory: &Path) -> Self {
        let log = directory.join(format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log file");
        let errors = output.try_clone().expect("a log file");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        Self {
            name: name.to_owned(),
            stdin: child.stdin.take(),
            child,
            log,
        }
    }

    /// Everything that it has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; `None` while it runs.
    pub fn exit(&mut self) -> Option<Exit> {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.try_wait().expect("the state of a child")?;
        Some(match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or(0)),
        })
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// Where it still runs after `deadline`.
    pub fn wait_exit(&mut self, deadline: Duration) -> Exit {
        let what = format!("the end of {}", self.name);
        wait::wait(&what, deadline, || self.exit())
    }

    /// Waits until it ends with `code`, and gives its log.
    ///
    /// # Panics
    /// Where it ends otherwise, or still runs after `deadline`.
    pub fn expect_exit(&mut self, code: i32, deadline: Duration) -> String {
        let exit = self.wait_exit(deadline);
        assert_eq!(
            exit,
            Exit::Code(code),
            "how {} ended; its log is below",
            self.name
        );
        self.log()
    }

    /// Waits until its log has a line with `text`, and gives the first such line.
    ///
    /// # Panics
    /// Where it ends before, or after a minute.
    pub fn wait_log(&mut self, text: &str) -> String {
        let what = format!("`{text}` in the log of {}", self.name);
        wait::wait(&what, wait::LONG, || {
            let has_ended = self.exit();
            let log = self.log();
            let line = log
                .lines()
                .find(|line| line.contains(text))
                .map(str::to_owned);
            assert!(
                line.is_some() || has_ended.is_none(),
                "{} ended with {has_ended:?} before it logged `{text}`",
                self.name
            );
            line
        })
    }

    /// The address in the first line of its log that has `text`, once it is there.
    pub fn wait_address(&mut self, text: &str) -> String {
        let line = self.wait_log(text);
        let address = line.split("address=").nth(1).unwrap_or_default();
        let address = address
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .trim_matches('"');
        assert!(!address.is_empty(), "no address in `{line}`");
        address.to_owned()
    }

    /// Sends SIGKILL, as `kill -9` does, and waits until the kernel has ended it.
    ///
    /// # Panics
    /// Where it had ended before: then the test has missed the moment it was for.
    pub fn kill(&mut self) {
        assert_eq!(
            self.exit(),
            None,
            "{} was to be killed but had ended already",
            self.name
        );
        self.child.kill().expect("SIGKILL is sent");
        self.child.wait().expect("the kernel ends it");
    }

    /// Closes its standard input, as the kernel does when the test dies.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Sends SIGTERM.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGSTOP: it runs no further.
    pub fn stop(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGCONT: it runs on, as if no time had passed.
    pub fn cont(&mut self) {
        self.signal(Signal::CONT);
    }

    fn signal(&mut self, signal: Signal) {
        assert_eq!(
            self.exit(),
            None,
            "{} has ended, {signal:?} is too late",
            self.name
        );
        let id = Pid::from_child(&self.child);
        kill_process(id, signal).expect("a signal to a child");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A process that has ended already needs no end.
        let _ = self.child.kill();
        let status = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n  ");
            eprintln!("log of {} ({status:?}):\n  {tail}", self.name);
        }
    }
}
