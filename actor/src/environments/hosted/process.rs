//! One host: the Python process, what it is asked for and what it says.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rookery_common::configuration::HostConfiguration;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};

/// What this side of the protocol speaks.
const PROTOCOL: u64 = 1;
/// The host, in the order in which its parts are read.
const SCRIPT: [&str; 10] = [
    include_str!("start.py"),
    include_str!("seeding.py"),
    include_str!("checks.py"),
    include_str!("spaces.py"),
    include_str!("instances.py"),
    include_str!("resets.py"),
    include_str!("images.py"),
    include_str!("pictures.py"),
    include_str!("goals.py"),
    include_str!("host.py"),
];
/// Reads the script from the control socket, so that the process list shows a line and not a program.
const BOOT: &str = "import os,socket,struct,sys;c=socket.socket(fileno=os.dup(0));\
    r=lambda n:c.recv(n,socket.MSG_WAITALL);\
    exec(compile(r(struct.unpack('<I',r(4))[0]),'rookery-host','exec'))";
/// Lines of what a host has said that are kept for the message about its end.
const TAIL_LINES: usize = 12;
/// Longest line that is logged.
const MAX_LINE_BYTES: u64 = 4096;
/// Longest description of an environment: bounds of a million values and then some.
const MAX_REPLY_BYTES: usize = 64 << 20;
/// Time in which a host that is not needed any more closes its environments.
const CLOSING_TIME: Duration = Duration::from_secs(2);

/// A Python process with environments, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Host {
    control: Mutex<UnixStream>,
    child: Mutex<Option<Child>>,
    tail: Arc<Mutex<VecDeque<String>>>,
    end: Mutex<Option<String>>,
    is_opening: AtomicBool,
    /// Groups that wait for an answer, and when the last of all answers was given, in nanoseconds of the
    /// [monotonic clock](super::kernel::monotonic_time).
    tasks: AtomicUsize,
    last_answer: AtomicU64,
    restarts: Arc<AtomicU32>,
}

/// Why a host made no environments.
#[derive(Debug)]
pub(super) enum OpenError {
    /// It says that there are none of this name.
    Unknown(String),
    /// It says that they cannot be made.
    Refused(String),
    /// It died of it.
    Died(String),
}

/// What a host answers.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) message: Value,
    pub(super) blob: Vec<u8>,
    pub(super) files: Vec<OwnedFd>,
}

impl Host {
    /// Starts a host and waits until it is ready. Its death counts one of `restarts`.
    ///
    /// # Errors
    /// What is missing, with what to do about it.
    pub(super) fn start(
        settings: &HostConfiguration,
        restarts: Arc<AtomicU32>,
    ) -> Result<Self, String> {
        let python = settings.python.display();
        let remedy = "set actor.host.python to an interpreter that has gymnasium";
        let cannot = |error: io::Error| format!("cannot start `{python}`: {error}; {remedy}");
        let (mut control, theirs) = UnixStream::pair().map_err(cannot)?;
        let (reader, writer) = io::pipe().map_err(cannot)?;
        let mut command = Command::new(&settings.python);
        command
            .args(["-u", "-c", BOOT])
            .arg(std::process::id().to_string())
            .stdin(OwnedFd::from(theirs))
            .stdout(writer.try_clone().map_err(cannot)?)
            .stderr(writer)
            // Ctrl-C is for the actor, which decides.
            .process_group(0);
        set_environment(settings, &mut command);
        let child = Keeper::spawn(command).map_err(cannot)?;
        let pid = child.id();
        let tail = Arc::default();
        let kept = Arc::clone(&tail);
        thread::Builder::new()
            .name("host-log".to_owned())
            .spawn(move || log(reader, pid, &kept))
            .map_err(cannot)?;
        let timeout = settings.startup_timeout.get();
        let script = SCRIPT.join("\n") + "\nmain(control, int(sys.argv[1]))\n";
        let sent = control
            .set_read_timeout(Some(timeout))
            .and_then(|()| control.set_write_timeout(Some(timeout)))
            .and_then(|()| control.write_all(&(script.len() as u32).to_le_bytes()))
            .and_then(|()| control.write_all(script.as_bytes()));
        let host = Self {
            control: Mutex::new(control),
            child: Mutex::new(Some(child)),
            tail,
            end: Mutex::default(),
            is_opening: AtomicBool::new(false),
            tasks: AtomicUsize::new(0),
            last_answer: AtomicU64::new(0),
            restarts,
        };
        let hello = sent.and_then(|()| receive(&locked(&host.control)));
        let hello = hello.map_err(|error| {
            if is_timeout(&error) {
                let said = host.last_lines();
                return format!("`{python}` was not ready within {timeout:?}{said}; {remedy}");
            }
            format!("`{python}` {}; {remedy}", host.obituary())
        })?;
        if let Some(error) = hello.message["error"].as_str() {
            return Err(format!("`{python}`: {error}"));
        }
        if hello.message["protocol"].as_u64() != Some(PROTOCOL) {
            let message = &hello.message;
            return Err(format!(
                "`{python}` speaks another protocol than {PROTOCOL}: {message}"
            ));
        }
        tracing::info!(
            host = pid,
            python = %python,
            version = hello.message["python"].as_str(),
            gymnasium = hello.message["gymnasium"].as_str(),
            "started a host of environments"
        );
        Ok(host)
    }

    /// Asks for a group of environments.
    ///
    /// # Errors
    /// The host's refusal, or how it ended.
    pub(super) fn open(
        &self,
        id: &str,
        arguments: &BTreeMap<String, String>,
        num_envs: usize,
        pictures: bool,
    ) -> Result<Reply, OpenError> {
        let request = json!({
            "id": id,
            "arguments": arguments,
            "num_envs": num_envs,
            "pictures": pictures,
        })
        .to_string();
        let mut control = locked(&self.control);
        self.is_opening.store(true, Ordering::Relaxed);
        let answer = control
            .write_all(&(request.len() as u32).to_le_bytes())
            .and_then(|()| control.write_all(request.as_bytes()))
            .and_then(|()| receive(&control));
        self.is_opening.store(false, Ordering::Relaxed);
        match answer {
            Ok(reply) => match reply.message["error"].as_str() {
                None => Ok(reply),
                Some(error) if reply.message["unknown"] == true => {
                    Err(OpenError::Unknown(error.to_owned()))
                }
                Some(error) => Err(OpenError::Refused(error.to_owned())),
            },
            Err(error) if is_timeout(&error) => {
                let what = "did not make its environments within actor.host.startup_timeout";
                Err(OpenError::Died(self.kill(what.to_owned())))
            }
            Err(_) => {
                let obituary = self.obituary();
                Err(OpenError::Died(self.kill(obituary)))
            }
        }
    }

    /// Notes that it has been told to do something.
    pub(super) fn begin_task(&self) {
        self.tasks.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that it has done that, and when.
    pub(super) fn end_task(&self, answered: Duration) {
        let answered = answered.as_nanos() as u64;
        self.last_answer.fetch_max(answered, Ordering::Relaxed);
        self.tasks.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many things it has to do, or has done without anybody having noticed.
    pub(super) fn num_tasks(&self) -> usize {
        self.tasks.load(Ordering::Relaxed)
    }

    /// When it was done last with anything that has been noticed.
    pub(super) fn last_answer(&self) -> Duration {
        Duration::from_nanos(self.last_answer.load(Ordering::Relaxed))
    }

    /// Whether it is busy making a group, for which its other groups wait.
    pub(super) fn is_opening(&self) -> bool {
        self.is_opening.load(Ordering::Relaxed)
    }

    /// Why it has ended, where it has.
    pub(super) fn end(&self) -> Option<String> {
        locked(&self.end).clone()
    }

    /// Ends it at once, because of `why`; gives the first reason that there was.
    pub(super) fn kill(&self, why: String) -> String {
        let mut end = locked(&self.end);
        if end.is_none() {
            self.restarts.fetch_add(1, Ordering::Relaxed);
            if let Some(child) = &mut *locked(&self.child) {
                kill(child);
            }
        }
        end.get_or_insert(why).clone()
    }

    /// How a process that has closed its sockets ended, with the last that it said.
    pub(super) fn obituary(&self) -> String {
        if let Some(end) = self.end() {
            return end;
        }
        let deadline = Instant::now() + CLOSING_TIME;
        let mut status = None;
        while status.is_none() && Instant::now() < deadline {
            if let Some(child) = &mut *locked(&self.child) {
                status = child.try_wait().ok().flatten();
            }
            thread::sleep(Duration::from_millis(2));
        }
        let how = status.map_or_else(|| "closed its sockets".to_owned(), described);
        // What it said last is on its way through the pipe.
        thread::sleep(Duration::from_millis(50));
        format!("{how}{}", self.last_lines())
    }

    fn last_lines(&self) -> String {
        let tail = locked(&self.tail);
        let lines: Vec<&str> = tail.iter().map(String::as_str).collect();
        if lines.is_empty() {
            String::new()
        } else {
            format!("; the last that it said: {}", lines.join(" | "))
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The end of the control socket tells it; the keeper sees to it that it listens.
        let _ = locked(&self.control).shutdown(std::net::Shutdown::Both);
        if let Some(child) = locked(&self.child).take() {
            Keeper::reap(child);
        }
    }
}

/// A lock whose holder never panics in a way that would spoil what it holds.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets the environment variables with which the interpreter is run.
pub(crate) fn set_environment(settings: &HostConfiguration, command: &mut Command) {
    if std::env::var_os("OMP_NUM_THREADS").is_none() {
        // There are as many hosts as cores have work.
        command.env("OMP_NUM_THREADS", "1");
    }
    if !settings.python_path.is_empty() {
        let folders = settings
            .python_path
            .iter()
            .map(|folder| folder.as_os_str().to_owned());
        let path: Vec<OsString> = folders.chain(std::env::var_os("PYTHONPATH")).collect();
        command.env("PYTHONPATH", path.join(OsStr::new(":")));
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn described(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Ends a host together with whatever it has started, and waits for it.
fn kill(child: &mut Child) {
    if matches!(child.try_wait(), Ok(Some(_))) {
        return;
    }
    if let Some(pid) = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
}

/// Receives one answer: the lengths of text and blob with files beside them, then both.
fn receive(control: &UnixStream) -> io::Result<Reply> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut head = [0; 8];
    let buffers = &mut [io::IoSliceMut::new(&mut head)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    let received = rustix::net::recvmsg(control, buffers, &mut ancillary, flags)?.bytes;
    let mut files = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files.extend(rights);
        }
    }
    if received < head.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let length = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let (text_length, blob_length) = (length(&head[..4]), length(&head[4..]));
    if text_length + blob_length > MAX_REPLY_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "an answer of absurd length",
        ));
    }
    let mut control = control;
    let mut text = vec![0; text_length];
    control.read_exact(&mut text)?;
    let mut blob = vec![0; blob_length];
    control.read_exact(&mut blob)?;
    let message = serde_json::from_slice(&text)?;
    Ok(Reply {
        message,
        blob,
        files,
    })
}

/// Passes on what a host prints, until it ends: so it cannot spoil the protocol, and is not lost.
fn log(reader: PipeReader, pid: u32, tail: &Mutex<VecDeque<String>>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader
            .by_ref()
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)
        {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if text.is_empty() {
            continue;
        }
        tracing::info!(host = pid, line = text, "a host says");
        let mut tail = locked(tail);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(text);
    }
}

/// The thread that starts and reaps hosts. The kernel ends a host when the thread that started it
/// ends, so that thread is one that lasts as long as the process.
struct Keeper {
    reaping: Vec<(Child, Instant)>,
}

enum Task {
    Spawn(Box<Command>, Sender<io::Result<Child>>),
    Reap(Child),
}

impl Keeper {
    fn tasks() -> &'static Sender<Task> {
        static TASKS: OnceLock<Sender<Task>> = OnceLock::new();
        TASKS.get_or_init(|| {
            let (sender, receiver) = crossbeam_channel::bounded(64);
            let keeper = Self {
                reaping: Vec::new(),
            };
            // Without the thread the receiver is gone, which `spawn` reports.
            let _ = thread::Builder::new()
                .name("host-keeper".to_owned())
                .spawn(move || keeper.run(&receiver));
            sender
        })
    }

    fn spawn(command: Command) -> io::Result<Child> {
        let gone = || io::Error::other("the thread that starts hosts is gone");
        let (answer, answered) = crossbeam_channel::bounded(1);
        let task = Task::Spawn(Box::new(command), answer);
        Self::tasks().send(task).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }

    fn reap(child: Child) {
        let _ = Self::tasks().send(Task::Reap(child));
    }

    fn run(mut self, tasks: &Receiver<Task>) {
        loop {
            let task = if self.reaping.is_empty() {
                tasks.recv().ok()
            } else {
                tasks.recv_timeout(Duration::from_millis(20)).ok()
            };
            match task {
                Some(Task::Spawn(mut command, answer)) => {
                    let _ = answer.send(command.spawn());
                }
                Some(Task::Reap(child)) => {
                    self.reaping.push((child, Instant::now() + CLOSING_TIME));
                }
                None => {}
            }
            self.reaping.retain_mut(|(child, deadline)| {
                let ended = !matches!(child.try_wait(), Ok(None));
                if !ended && Instant::now() >= *deadline {
                    kill(child);
                    return false;
                }
                !ended
            });
        }
    }
}
