//! Event files for TensorBoard, in the run directory's `tensorboard/`: one for each learner process.
//!
//! A thread writes them: the compute thread hands it events over a bounded channel and never waits for
//! the disk. What a process that died had noted beyond the round at which the next one goes on is made
//! void by that one's start (`SessionLog`), as TensorFlow's own writers do it with `purge_step`.

mod event;
mod record;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use prost::Message;
use rookery_common::telemetry::unix_seconds;

use self::event::{Event, Summary, Value, What};
use super::{Point, Sink};
use crate::metrics;

/// Where a run keeps its event files.
pub const FOLDER: &str = "tensorboard";
/// Time after which what was noted is in the file.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes that are written at once.
const BLOCK_BYTES: usize = 1 << 16;
/// Events that may wait for the disk.
const WAITING_EVENTS: usize = 256;
/// How long the end of a run waits for the disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// The inbox of the thread that writes.
#[derive(Debug)]
pub(super) struct TensorBoard {
    /// Taken at the end.
    events: Option<Sender<Event>>,
    ended: Receiver<()>,
}

impl TensorBoard {
    /// Begins a file whose events stand behind `env_steps`, with the configuration as text.
    ///
    /// # Errors
    /// Where the file cannot be made. That it cannot be written is said later, and ends nothing.
    pub(super) fn open(
        run_directory: &Path,
        env_steps: u64,
        configuration: &str,
    ) -> io::Result<Self> {
        let folder = run_directory.join(FOLDER);
        fs::create_dir_all(&folder)?;
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(folder.join(next_name(&folder)?))?;
        let text = format!("```toml\n{configuration}```\n");
        let mut file = EventFile::begin(
            file,
            &[
                event(unix_seconds(), 0, What::file_version()),
                event(unix_seconds(), env_steps + 1, What::start()),
                event(
                    unix_seconds(),
                    env_steps,
                    What::text("configuration", &text),
                ),
            ],
        );

        let (events, inbox) = bounded(WAITING_EVENTS);
        let (end, ended) = bounded(1);
        thread::Builder::new()
            .name("tensorboard".to_owned())
            .spawn(move || {
                file.flush();
                write(&inbox, file);
                // Whoever waits may have gone.
                let _ = end.send(());
            })?;
        Ok(Self {
            events: Some(events),
            ended,
        })
    }

    /// Notes a point, unless the disk is so slow that too many wait.
    pub(super) fn note(&self, point: &Point) {
        let Some(events) = &self.events else { return };
        let scalars = point.scalars.iter();
        let histograms = point.histograms.iter();
        let values = scalars
            .map(|(tag, value)| Value::scalar(tag, *value))
            .chain(histograms.map(|(tag, histogram)| Value::histogram(tag, histogram)))
            .collect();
        let summary = What::Summary(Summary { values });
        let event = event(point.unix_seconds, point.env_steps, summary);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = events.try_send(event) {
            metrics::count_dropped_points(Sink::TensorBoard, 1);
        }
    }
}

impl Drop for TensorBoard {
    /// Waits until everything is in the file, or for a moment.
    fn drop(&mut self) {
        self.events = None;
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

fn event(wall_time: f64, step: u64, what: What) -> Event {
    Event {
        wall_time,
        step: step as i64,
        what: Some(what),
    }
}

/// What comes before the time in a file's name.
const PREFIX: &str = "events.out.tfevents.";

/// The name of a new file, as TensorFlow gives them: the time, the host, the process. TensorBoard reads
/// files in the order of their names, so the time is later than in any name before, whatever the clock
/// says.
fn next_name(folder: &Path) -> io::Result<String> {
    let mut time = unix_seconds() as u64;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let before = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse().ok());
        time = before.map_or(time, |before: u64| time.max(before + 1));
    }
    // Weights & Biases takes files of its own host only.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "localhost",
        host => host,
    };
    let process = std::process::id();
    Ok(format!("{PREFIX}{time:010}.{host}.{process}"))
}

/// Writes what comes until nobody is left who could send.
fn write(inbox: &Receiver<Event>, mut file: EventFile) {
    let mut last_flush = Instant::now();
    loop {
        let wait = FLUSH_INTERVAL.saturating_sub(last_flush.elapsed());
        match inbox.recv_timeout(wait) {
            Ok(event) => file.push(&event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break file.flush(),
        }
        if last_flush.elapsed() >= FLUSH_INTERVAL || file.block.len() >= BLOCK_BYTES {
            file.flush();
            last_flush = Instant::now();
        }
    }
}

/// A file of whole records. Writing is best effort: a full disk must not end training, and leaves no
/// half of a record behind, at which a reader would stop.
struct EventFile {
    file: File,
    /// The records without which no others can be read.
    head: Vec<u8>,
    /// Bytes in the file that are whole records.
    num_bytes: u64,
    /// Records that are not in the file yet, and their number.
    block: Vec<u8>,
    num_waiting: u64,
    has_failed: bool,
}

impl EventFile {
    fn begin(file: File, events: &[Event]) -> Self {
        let mut head = Vec::new();
        for event in events {
            record::push(&mut head, &event.encode_to_vec());
        }
        Self {
            file,
            block: head.clone(),
            head,
            num_bytes: 0,
            num_waiting: 0,
            has_failed: false,
        }
    }

    fn push(&mut self, event: &Event) {
        record::push(&mut self.block, &event.encode_to_vec());
        self.num_waiting += 1;
    }

    /// Writes what waits, and says once that the file is incomplete.
    fn flush(&mut self) {
        let Err(error) = self.try_flush() else { return };
        if !self.has_failed {
            self.has_failed = true;
            tracing::error!(%error, "the event file for TensorBoard lacks points from here on");
        }
        metrics::count_dropped_points(Sink::TensorBoard, self.num_waiting);
        self.num_waiting = 0;
        self.block.clear();
        if self.num_bytes == 0 {
            self.block.extend(&self.head);
        }
        // Where this fails too, the next attempt writes over what is left all the same.
        let _ = self.file.set_len(self.num_bytes);
        let _ = self.file.seek(SeekFrom::Start(self.num_bytes));
    }

    fn try_flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.block)?;
        self.num_bytes += self.block.len() as u64;
        self.num_waiting = 0;
        self.block.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: u64) -> Event {
        let values = vec![Value::scalar("losses/policy", 0.5)];
        event(1.7e9, step, What::Summary(Summary { values }))
    }

    /// Lengths of the records in a file.
    fn records(mut file: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while let Some((length, rest)) = file.split_first_chunk() {
            let length = u64::from_le_bytes(*length) as usize;
            lengths.push(length);
            file = &rest[length + 8..];
        }
        lengths
    }

    #[test]
    fn a_full_disk_leaves_whole_records_and_what_comes_later_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).write(true).open(path)
        };
        let mut file =
            EventFile::begin(open(&path).unwrap(), &[event(0.0, 0, What::file_version())]);
        file.push(&point(1));
        file.flush();
        let disk = std::mem::replace(&mut file.file, open(Path::new("/dev/full")).unwrap());
        file.push(&point(2));
        file.flush();
        assert!(file.has_failed && file.block.is_empty());
        file.file = disk;
        file.push(&point(3));
        file.flush();
        let written = fs::read(&path).unwrap();
        let expected = [event(0.0, 0, What::file_version()), point(1), point(3)];
        assert_eq!(
            records(&written),
            expected.each_ref().map(Message::encoded_len)
        );
    }

    #[test]
    fn a_file_whose_first_record_did_not_fit_begins_with_it_later() {
        let folder = tempfile::tempdir().unwrap();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let version = event(0.0, 0, What::file_version());
        let mut file = EventFile::begin(full, std::slice::from_ref(&version));
        file.push(&point(1));
        file.flush();
        let path = folder.path().join("file");
        file.file = File::create(&path).unwrap();
        file.push(&point(2));
        file.flush();
        let written = fs::read(&path).unwrap();
        assert_eq!(
            records(&written),
            [version.encoded_len(), point(2).encoded_len()]
        );
    }

    #[test]
    fn a_later_file_has_a_later_name() {
        let folder = tempfile::tempdir().unwrap();
        let first = next_name(folder.path()).unwrap();
        assert!(first.starts_with(PREFIX), "{first}");
        let ahead = format!("{PREFIX}9999999998.somewhere.1");
        for name in [&first, &ahead, "notes.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let next = next_name(folder.path()).unwrap();
        assert!(next.starts_with(&format!("{PREFIX}9999999999.")), "{next}");
    }
}
