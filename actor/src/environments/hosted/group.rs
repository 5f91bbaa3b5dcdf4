//! The actor's end of a group of environments: commands into its shared memory, answers out of it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use bytemuck::AnyBitPattern;
use rookery_common::spaces::Space;
use rookery_common::unroll::pixel_value;
use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::Value;

use super::kernel::{elapsed, monotonic_time, step_aside};
use super::process::{Host, Reply};
use super::seed_words::seed_words;
use super::shared::SharedMemory;
use crate::environments::{EnvironmentFault, Frame};

/// The words at the beginning of the memory; `host.py` lists them too.
#[derive(Clone, Copy)]
enum Word {
    Request = 0,
    Response = 1,
    Command = 2,
    Status = 3,
    HostSleeps = 4,
    ActorSleeps = 5,
    SpinNanoseconds = 6,
    TextLength = 7,
    Nanoseconds = 8,
    Answered = 9,
    Core = 10,
}

/// What a host is told to do with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Step every instance.
    Step = 1,
    /// Step those that are selected.
    StepSelected = 2,
    /// Begin an episode of those that are selected.
    Reset = 3,
    /// Draw the one that is selected.
    Draw = 4,
}

/// How the values of an observation stand in the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    F32,
    F64,
    /// Whole numbers.
    U8,
    /// 255ths, of images.
    Pixel,
}

/// Which of the two tables of observations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// What the last step or reset showed.
    Shown,
    /// The first of the episodes that a step has begun.
    First,
}

/// Status words.
const STATUS_OK: u64 = 0;
/// Values that are made floats at a time: so many stay in the first cache.
const CHUNK: usize = 512;
/// Room for what a host says about a fault.
const TEXT_BYTES: usize = 16_384;
/// How long to sleep at the most before looking again, so that a ring that was lost costs little.
const NAP: Duration = Duration::from_millis(100);
/// How much later than it wanted to whoever sleeps wakes on a virtual machine.
const OVERSLEEPING: Duration = Duration::from_micros(125);
/// Steps without a fault after which earlier restarts are forgotten.
const CALLS_TO_FORGET_RESTARTS: u64 = 1_000;

/// Offsets of the arrays, in bytes.
#[derive(Debug)]
struct Offsets {
    actions: usize,
    selected: usize,
    seeds: usize,
    seed_words: usize,
    next_seeds: usize,
    next_seed_words: usize,
    rewards: usize,
    terminated: usize,
    truncated: usize,
    began: usize,
    lives: usize,
    observations: usize,
    first: usize,
    text: usize,
    picture: Option<usize>,
}

impl Offsets {
    fn read(message: &Value) -> Option<Self> {
        let at = |name: &str| {
            message["offsets"][name]
                .as_u64()
                .map(|offset| offset as usize)
        };
        Some(Self {
            actions: at("actions")?,
            selected: at("selected")?,
            seeds: at("seeds")?,
            seed_words: at("seed_words")?,
            next_seeds: at("next_seeds")?,
            next_seed_words: at("next_seed_words")?,
            rewards: at("rewards")?,
            terminated: at("terminated")?,
            truncated: at("truncated")?,
            began: at("began")?,
            lives: at("lives")?,
            observations: at("observations")?,
            first: at("first")?,
            text: at("text")?,
            picture: at("picture"),
        })
    }
}

/// Environments of a host that are stepped together.
#[derive(Debug)]
pub(super) struct Group {
    host: Arc<Host>,
    /// A socket that the host's end closes.
    line: OwnedFd,
    /// What wakes the host, and what it wakes this side with: both event files.
    bell: OwnedFd,
    own_bell: OwnedFd,
    memory: SharedMemory,
    offsets: Offsets,
    element: Element,
    width: usize,
    counts_lives: bool,
    episodes_per_seed: u32,
    is_vector: bool,
    picture: Option<[usize; 3]>,
    request: u64,
    /// What was sent last, when, and whether it is still to be received.
    command: Command,
    sent: Duration,
    is_pending: bool,
    /// What a step takes the host, as it has been of late.
    step_time: Duration,
    timeout: Duration,
    has_free_core: Arc<AtomicBool>,
    spin: Arc<AtomicU64>,
    restarts: Arc<AtomicU32>,
    /// Its name in messages.
    id: String,
}

/// What a group shares with all others of its actor.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    /// Whether there are fewer hosts than cores, so that a collector can work while its host does.
    pub(super) has_free_core: Arc<AtomicBool>,
    /// Nanoseconds for which both sides look for an answer around the time at which it is expected; they
    /// sleep before that, and after it.
    pub(super) spin: Arc<AtomicU64>,
    /// Hosts that had to be restarted, since it was last forgotten.
    pub(super) restarts: Arc<AtomicU32>,
    /// How long a step may take.
    pub(super) timeout: Duration,
}

impl Group {
    /// Takes over what a host has answered about environments that show `observation`.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub(super) fn new(
        host: Arc<Host>,
        shared: Shared,
        id: &str,
        reply: Reply,
        observation: &Space,
    ) -> Result<Self, String> {
        let message = &reply.message;
        let absurd = || format!("a host sent an answer that makes no sense: {message}");
        let offsets = Offsets::read(message).ok_or_else(absurd)?;
        let size = message["size"].as_u64().ok_or_else(absurd)? as usize;
        let element = match message["element"].as_str() {
            Some("f32") => Element::F32,
            Some("f64") => Element::F64,
            Some("u8") if observation.image().is_some() => Element::Pixel,
            Some("u8") => Element::U8,
            _ => return Err(absurd()),
        };
        let Ok([file, line, bell, own_bell]) = <[OwnedFd; 4]>::try_from(reply.files) else {
            return Err(absurd());
        };
        let broken = |error: io::Error| format!("cannot share memory with a host: {error}");
        let memory = SharedMemory::map(&file, size).map_err(broken)?;
        Ok(Self {
            host,
            line,
            bell,
            own_bell,
            memory,
            offsets,
            element,
            width: observation.width(),
            counts_lives: message["counts_lives"] == true,
            episodes_per_seed: message["episodes_per_seed"]
                .as_u64()
                .and_then(|count| u32::try_from(count).ok())
                .filter(|count| *count > 0)
                .ok_or_else(absurd)?,
            is_vector: message["mode"] == "vector",
            picture: serde_json::from_value(message["picture"].clone()).map_err(|_| absurd())?,
            request: 0,
            command: Command::Reset,
            sent: Duration::ZERO,
            is_pending: false,
            step_time: Duration::ZERO,
            timeout: shared.timeout,
            has_free_core: shared.has_free_core,
            spin: shared.spin,
            restarts: shared.restarts,
            id: id.to_owned(),
        })
    }

    /// Writes the actions of all instances, `[B, A]`.
    pub(super) fn set_actions(&self, actions: &[f32]) {
        self.memory.write(self.offsets.actions, actions);
    }

    /// Selects instances for the commands that ask for it, `[B]`.
    pub(super) fn select(&self, selected: &[u8]) {
        self.memory.write(self.offsets.selected, selected);
    }

    /// Sets what the episode that a reset begins in an instance draws from.
    pub(super) fn set_seed(&self, index: usize, seed: u32) {
        let Offsets {
            seeds, seed_words, ..
        } = self.offsets;
        self.memory.write(seeds + index * 4, &[seed]);
        self.write_words(seed_words, index, seed);
    }

    /// Sets what the next episode of an instance draws from, which then begins when this one ends.
    pub(super) fn set_next_seed(&self, index: usize, seed: Option<u32>) {
        let word = seed.map_or(-1, i64::from);
        self.memory
            .write(self.offsets.next_seeds + index * 8, &[word]);
        if let Some(seed) = seed {
            self.write_words(self.offsets.next_seed_words, index, seed);
        }
    }

    fn write_words(&self, start: usize, index: usize, seed: u32) {
        let words = seed_words(seed);
        self.memory
            .write(start + index * size_of_val(&words), &words);
    }

    /// Reads the rewards of the last step, `[B]`.
    pub(super) fn rewards(&self, rewards: &mut [f32]) {
        self.memory.read(self.offsets.rewards, rewards);
    }

    /// Reads which instances the last step brought to a terminal state, cut short and began anew,
    /// `[B]` each.
    pub(super) fn flags(&self, terminated: &mut [u8], truncated: &mut [u8], began: &mut [u8]) {
        self.memory.read(self.offsets.terminated, terminated);
        self.memory.read(self.offsets.truncated, truncated);
        self.memory.read(self.offsets.began, began);
    }

    /// Whether a collector can work while its host does.
    pub(super) fn has_free_core(&self) -> bool {
        self.has_free_core.load(Ordering::Relaxed)
    }

    /// Whether all instances can only be stepped together.
    pub(super) fn is_vector(&self) -> bool {
        self.is_vector
    }

    /// Episodes in a row of an instance that draw from one seed, which is a multiple of this: the seed of each
    /// is one more than that of the one before.
    pub(super) fn episodes_per_seed(&self) -> u32 {
        self.episodes_per_seed
    }

    /// Whether the environments count lives.
    pub(super) fn counts_lives(&self) -> bool {
        self.counts_lives
    }

    /// Has instance `index` drawn, of as many as there are; none where it draws nothing.
    ///
    /// # Errors
    /// How that failed; the host has been ended then.
    pub(super) fn draw(
        &mut self,
        index: usize,
        num_envs: usize,
    ) -> Result<Option<Frame>, EnvironmentFault> {
        let (Some([rows, columns, colours]), Some(start)) = (self.picture, self.offsets.picture)
        else {
            return Ok(None);
        };
        let selected: Vec<u8> = (0..num_envs)
            .map(|other| u8::from(other == index))
            .collect();
        self.select(&selected);
        self.call(Command::Draw)?;
        let mut rgb = vec![0; rows * columns * colours];
        self.memory.read(start, &mut rgb);
        Ok(Some(Frame {
            width: columns as u32,
            height: rows as u32,
            rgb,
        }))
    }

    /// Reads the lives that are left after the last step or reset, `[B]`.
    pub(super) fn lives(&self, lives: &mut [i32]) {
        self.memory.read(self.offsets.lives, lives);
    }

    /// Reads observations from that of instance `first` on.
    pub(super) fn observations(&self, table: Table, first: usize, rows: &mut [f32]) {
        let start = self.start(table);
        let skipped = first * self.width;
        match self.element {
            Element::F32 => self.memory.read(start + skipped * 4, rows),
            Element::F64 => self.converted(start + skipped * 8, rows, |value: f64| value as f32),
            Element::U8 => self.converted(start + skipped, rows, |value: u8| f32::from(value)),
            Element::Pixel => self.converted(start + skipped, rows, pixel_value),
        }
    }

    /// Reads values of another kind as floats.
    fn converted<T: AnyBitPattern>(
        &self,
        start: usize,
        rows: &mut [f32],
        convert: impl Fn(T) -> f32,
    ) {
        let mut values = [T::zeroed(); CHUNK];
        for (chunk, rows) in rows.chunks_mut(CHUNK).enumerate() {
            let values = &mut values[..rows.len()];
            self.memory
                .read(start + chunk * CHUNK * size_of::<T>(), values);
            for (row, value) in rows.iter_mut().zip(values) {
                *row = convert(*value);
            }
        }
    }

    /// Reads the pixels of instance `index`, `[W]`.
    ///
    /// # Panics
    /// Where observations are no images.
    pub(super) fn pixels(&self, table: Table, index: usize, row: &mut [u8]) {
        assert!(self.element == Element::Pixel, "pixels are of images");
        self.memory
            .read(self.start(table) + index * self.width, row);
    }

    fn start(&self, table: Table) -> usize {
        match table {
            Table::Shown => self.offsets.observations,
            Table::First => self.offsets.first,
        }
    }

    /// Whether observations can be anything but finite.
    pub(super) fn is_float(&self) -> bool {
        matches!(self.element, Element::F32 | Element::F64)
    }

    /// Has the host do something, and waits until it is done.
    ///
    /// # Errors
    /// How it failed; the host has been ended then.
    pub(super) fn call(&mut self, command: Command) -> Result<(), EnvironmentFault> {
        self.send(command)?;
        self.receive()
    }

    /// Has the host do something.
    ///
    /// # Errors
    /// Where the host has ended.
    pub(super) fn send(&mut self, command: Command) -> Result<(), EnvironmentFault> {
        if let Some(end) = self.host.end() {
            return Err(self.fault(&end));
        }
        assert!(self.is_answered(), "one thing after the other");
        self.request += 1;
        self.command = command;
        self.store(Word::SpinNanoseconds, self.spin.load(Ordering::Relaxed));
        self.store(Word::Command, command as u64);
        self.word(Word::Request)
            .store(self.request, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.word(Word::HostSleeps).load(Ordering::Acquire) != 0 {
            // Where this fails the host is gone, which waiting finds out.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
        self.sent = monotonic_time();
        self.is_pending = true;
        self.host.begin_task();
        Ok(())
    }

    /// Waits until what was sent is done.
    ///
    /// # Errors
    /// How it failed; the host has been ended then.
    pub(super) fn receive(&mut self) -> Result<(), EnvironmentFault> {
        let is_step = self.command == Command::Step;
        self.wait(if is_step {
            self.step_time
        } else {
            Duration::ZERO
        })?;
        self.is_pending = false;
        let answered = Duration::from_nanos(self.word(Word::Answered).load(Ordering::Acquire));
        self.host.end_task(answered.min(monotonic_time()));
        if self.has_free_core() {
            step_aside(self.word(Word::Core).load(Ordering::Acquire));
        }
        if is_step {
            let taken = Duration::from_nanos(self.word(Word::Nanoseconds).load(Ordering::Acquire));
            self.step_time = (self.step_time * 7 + taken.min(self.timeout)) / 8;
        }
        if self.word(Word::Status).load(Ordering::Acquire) != STATUS_OK {
            let length = self.word(Word::TextLength).load(Ordering::Acquire) as usize;
            let mut text = vec![0; length.min(TEXT_BYTES)];
            self.memory.read(self.offsets.text, &mut text);
            let text = String::from_utf8_lossy(&text);
            let (what, story) = text.split_once('\0').unwrap_or((&text, ""));
            return Err(EnvironmentFault {
                details: Some(story.trim_end().to_owned()).filter(|story| !story.is_empty()),
                ..self.fail(what)
            });
        }
        if self.request == CALLS_TO_FORGET_RESTARTS {
            self.restarts.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Ends the host because of what came of a command.
    pub(super) fn fail(&self, what: &str) -> EnvironmentFault {
        let neighbours = format!(
            "was ended, since a group of `{}` failed on it: {what}",
            self.id
        );
        self.host.kill(neighbours);
        EnvironmentFault::new(format!("`{}`: {what}", self.id))
    }

    fn fault(&self, end: &str) -> EnvironmentFault {
        EnvironmentFault::new(format!("`{}`: its host {end}", self.id))
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        self.memory.word(word as usize)
    }

    fn store(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Relaxed);
    }

    fn is_answered(&self) -> bool {
        self.word(Word::Response).load(Ordering::Acquire) == self.request
    }

    /// Waits for the answer, for which the host works for the time `expected`: asleep until shortly before it
    /// is due, then awake for a moment, then asleep until the doorbell rings. Whoever is woken comes tens of
    /// microseconds late, and an answer that is seen comes at once; where nobody may look, all of the time is
    /// slept.
    ///
    /// While the host has something else to do, coming late costs nothing: then nobody looks or rings, since a
    /// thread that is rung often wakes on the ringer's core, and interrupts it.
    fn wait(&mut self, expected: Duration) -> Result<(), EnvironmentFault> {
        let spin = Duration::from_nanos(self.spin.load(Ordering::Relaxed));
        // It has worked at this since it was told to, or since it was done with another group.
        let mut since = self.sent.max(self.host.last_answer());
        if expected > 2 * OVERSLEEPING && self.host.num_tasks() > 1 {
            let mut rest = expected.saturating_sub(elapsed(since));
            while elapsed(since) < 2 * expected {
                if self.sleep(rest.min(NAP), false)? {
                    return Ok(());
                }
                rest = expected / 8;
            }
        }
        let early = expected.saturating_sub(spin);
        while let Some(rest) = early.checked_sub(elapsed(since)) {
            if self.sleep(rest.min(NAP), true)? {
                return Ok(());
            }
        }
        while elapsed(since) < expected + spin {
            for _ in 0..64 {
                if self.is_answered() {
                    return Ok(());
                }
                std::hint::spin_loop();
            }
        }
        loop {
            if self.sleep(NAP.min(self.timeout), true)? {
                return Ok(());
            }
            if self.host.is_opening() {
                // It makes environments for another, which takes as long as it takes.
                since = monotonic_time();
            }
            if elapsed(since) > self.timeout {
                return Err(self.fail(&format!(
                    "no answer within actor.host.step_timeout, {:?}; its host was ended",
                    self.timeout
                )));
            }
        }
    }

    /// Sleeps for so long, or, if `is_rung`, until the doorbell rings before that; says whether there is an
    /// answer.
    ///
    /// # Errors
    /// Where the host has closed the line.
    fn sleep(&mut self, nap: Duration, is_rung: bool) -> Result<bool, EnvironmentFault> {
        self.store(Word::ActorSleeps, u64::from(is_rung));
        fence(Ordering::SeqCst);
        let is_closed = !self.is_answered() && self.is_closed_after(nap);
        self.store(Word::ActorSleeps, 0);
        if self.is_answered() {
            return Ok(true);
        }
        if is_closed {
            let obituary = self.host.obituary();
            let end = self.host.kill(obituary);
            return Err(self.fault(&end));
        }
        Ok(false)
    }

    /// Waits for a ring, for so long at the most; says whether the host has closed the line.
    fn is_closed_after(&self, nap: Duration) -> bool {
        let timeout = Timespec {
            tv_sec: nap.as_secs() as i64,
            tv_nsec: i64::from(nap.subsec_nanos()),
        };
        let mut files = [&self.own_bell, &self.line].map(|file| PollFd::new(file, PollFlags::IN));
        if rustix::event::poll(&mut files, Some(&timeout)).is_err() {
            return false;
        }
        let [bell, line] = files.map(|file| !file.revents().is_empty());
        if bell {
            // Nobody else takes rings, so that there is one.
            let _ = rustix::io::read(&self.own_bell, &mut [0; 8]);
        }
        line
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.is_pending {
            self.host.end_task(Duration::ZERO);
        }
    }
}
