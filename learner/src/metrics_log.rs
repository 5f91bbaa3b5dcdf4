//! `metrics.jsonl` in the run directory: one JSON object for each update, for curves and for
//! whoever has no Prometheus.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use crate::algorithms::ppo::PpoStatistics;
use crate::run::EvaluationReport;

/// What one update is worth noting.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    /// Updates done.
    pub update: u64,
    /// Environment steps consumed.
    pub env_steps: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// Training episodes that ended.
    pub episodes: u64,
    /// Over the last 100 training episodes.
    pub mean_return: Option<f64>,
    /// Over the last 100 training episodes.
    pub mean_length: Option<f64>,
    /// The algorithm's.
    #[serde(flatten)]
    pub statistics: &'a PpoStatistics,
}

#[derive(Serialize)]
struct Evaluation {
    env_steps: u64,
    version: u64,
    evaluation_return: f64,
    evaluation_episodes: usize,
}

/// The open file. Writing is best effort: a full disk must not end training.
#[derive(Debug)]
pub struct MetricsLog {
    file: BufWriter<File>,
    has_failed: bool,
}

impl MetricsLog {
    /// Opens the file; a resumed run goes on behind what is there.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn open(run_directory: &Path) -> io::Result<Self> {
        let path = run_directory.join("metrics.jsonl");
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            file: BufWriter::new(file),
            has_failed: false,
        })
    }

    /// Notes an update.
    pub fn write(&mut self, record: &Record<'_>) {
        self.write_line(record);
    }

    /// Notes an evaluation.
    pub fn write_evaluation(&mut self, report: &EvaluationReport, mean: f64) {
        self.write_line(&Evaluation {
            env_steps: report.env_steps,
            version: report.version.version,
            evaluation_return: mean,
            evaluation_episodes: report.returns.len(),
        });
    }

    /// Hands what is buffered to the operating system.
    pub fn flush(&mut self) {
        let flushed = self.file.flush();
        self.note(flushed);
    }

    fn write_line(&mut self, line: &impl Serialize) {
        let written = serde_json::to_writer(&mut self.file, line)
            .map_err(io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"));
        self.note(written);
    }

    /// Says once that the log is incomplete.
    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result
            && !self.has_failed
        {
            self.has_failed = true;
            tracing::error!(%error, "metrics.jsonl is incomplete from here on");
        }
    }
}
