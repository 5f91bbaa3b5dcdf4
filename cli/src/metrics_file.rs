//! `metrics.jsonl` as it is read: an object for each update and each evaluation, of a run that may
//! still go on.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Map, Value};

/// One line: an update's, or an evaluation's, which has no time.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Record {
    /// Environment steps consumed.
    pub(crate) env_steps: u64,
    /// Seconds of training.
    pub(crate) seconds: Option<f64>,
    #[serde(flatten)]
    values: Map<String, Value>,
}

impl Record {
    /// The number that stands under `key`, where one does.
    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        match key {
            "env_steps" => Some(self.env_steps as f64),
            "seconds" => self.seconds,
            _ => self.values.get(key)?.as_f64(),
        }
    }

    /// What stands here beside steps and seconds, known or not yet.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let is_number = |value: &Value| value.is_number() || value.is_null();
        let values = self
            .values
            .iter()
            .filter(move |(_, value)| is_number(value));
        values.map(|(key, _)| key.as_str())
    }
}

/// The file, and how far it has been read.
#[derive(Debug)]
pub(crate) struct MetricsFile {
    path: PathBuf,
    inode: u64,
    offset: u64,
    lines: usize,
}

/// What was new in the file.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Whether this is another file than before, as after a run was resumed: what was read before is void.
    pub(crate) is_anew: bool,
    /// In the file's order.
    pub(crate) records: Vec<Record>,
}

impl MetricsFile {
    /// The file of a run, from its beginning.
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            inode: 0,
            offset: 0,
            lines: 0,
        }
    }

    /// Reads the whole lines that are new since the last call; nothing where there is no file yet.
    ///
    /// # Errors
    /// Where the file cannot be read or a line cannot be understood.
    pub(crate) fn read(&mut self) -> anyhow::Result<Reading> {
        let reading = || format!("cannot read {}", self.path.display());
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Reading::default()),
            Err(error) => return Err(error).with_context(reading),
        };
        let metadata = file.metadata().with_context(reading)?;
        let mut new = Reading {
            is_anew: metadata.ino() != self.inode || metadata.len() < self.offset,
            records: Vec::new(),
        };
        if new.is_anew {
            (self.inode, self.offset, self.lines) = (metadata.ino(), 0, 0);
        }
        let mut reader = BufReader::new(file);
        let place = SeekFrom::Start(self.offset);
        reader
            .seek(place)
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        let mut text = String::new();
        loop {
            text.clear();
            let length = reader
                .read_line(&mut text)
                .with_context(|| format!("cannot read {}", self.path.display()))?;
            // A last line without its end is still being written.
            if !text.ends_with('\n') {
                return Ok(new);
            }
            self.offset += length as u64;
            self.lines += 1;
            let record = serde_json::from_str(&text)
                .with_context(|| format!("{}, line {}", self.path.display(), self.lines))?;
            new.records.push(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_appended_is_read_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = MetricsFile::new(&path);
        assert_eq!(metrics.read().unwrap().records, []);
        let mut file = File::create(&path).unwrap();
        write!(
            file,
            "{{\"env_steps\":1,\"seconds\":0.5,\"entropy\":0.7}}\n{{\"env_st"
        )
        .unwrap();
        let first = metrics.read().unwrap();
        assert!(first.is_anew);
        assert_eq!(first.records.len(), 1);
        assert_eq!(first.records[0].number("entropy"), Some(0.7));
        assert_eq!(first.records[0].keys().collect::<Vec<_>>(), ["entropy"]);
        writeln!(file, "eps\":2,\"evaluation_return\":3}}").unwrap();
        let second = metrics.read().unwrap();
        assert!(!second.is_anew);
        assert_eq!(
            (second.records[0].env_steps, second.records[0].seconds),
            (2, None)
        );

        let other = folder.path().join("other");
        fs::write(&other, "{\"env_steps\":1}\nnonsense\n").unwrap();
        fs::rename(&other, &path).unwrap();
        let error = format!("{:#}", metrics.read().unwrap_err());
        assert!(error.contains("line 2"), "{error}");
    }
}
