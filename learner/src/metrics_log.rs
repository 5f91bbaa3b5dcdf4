//! `metrics.jsonl` in the run directory: one JSON object for each update, for curves and for
//! whoever has no Prometheus.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use rookery_common::unroll::ShardId;
use serde::Serialize;

use crate::algorithms::Statistics;
use crate::progress::PolicyLag;
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
    /// How old the unrolls were.
    #[serde(flatten)]
    pub policy_lag: PolicyLag,
    /// The algorithm's.
    #[serde(flatten)]
    pub statistics: &'a Statistics,
}

#[derive(Serialize)]
struct DiscontinuityLine<'a> {
    update: u64,
    env_steps: u64,
    shard: u32,
    discontinuity: &'a str,
}

#[derive(Serialize)]
struct EvaluationLine {
    env_steps: u64,
    version: u64,
    evaluation_return: f64,
    evaluation_episodes: usize,
}

/// The open file. Writing is best effort: a full disk must not end training.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
    has_failed: bool,
}

impl MetricsLog {
    /// Opens the file of a run that goes on after `round` updates: what a process that died had
    /// noted beyond them is dropped, since they are done again.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn open(run_directory: &Path, round: u64) -> io::Result<Self> {
        let path = run_directory.join("metrics.jsonl");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let kept: String = text
                    .split_inclusive('\n')
                    .filter(|line| line.ends_with('\n') && is_up_to(line, round))
                    .collect();
                if kept.len() < text.len() {
                    let temporary = run_directory.join(".metrics.jsonl");
                    fs::write(&temporary, kept)?;
                    fs::rename(&temporary, &path)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            file,
            has_failed: false,
        })
    }

    /// Notes an update.
    pub fn write(&mut self, record: &Record<'_>) {
        self.write_line(record);
    }

    /// Notes why a shard did not continue before the unroll that update number `update` was made of.
    pub fn write_discontinuity(
        &mut self,
        update: u64,
        env_steps: u64,
        shard: ShardId,
        reason: &str,
    ) {
        self.write_line(&DiscontinuityLine {
            update,
            env_steps,
            shard: shard.0,
            discontinuity: reason,
        });
    }

    /// Notes an evaluation.
    pub fn write_evaluation(&mut self, report: &EvaluationReport, mean: f64) {
        self.write_line(&EvaluationLine {
            env_steps: report.env_steps,
            version: report.version.version,
            evaluation_return: mean,
            evaluation_episodes: report.returns.len(),
        });
    }

    /// Writes whole lines, each at once, so that a process that dies leaves no half of one.
    fn write_line(&mut self, line: &impl Serialize) {
        let written = serde_json::to_vec(line)
            .map_err(io::Error::from)
            .and_then(|mut line| {
                line.push(b'\n');
                self.file.write_all(&line)
            });
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

/// Whether a line is whole and speaks of an update or a version up to `round`.
fn is_up_to(line: &str, round: u64) -> bool {
    let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else {
        return false;
    };
    ["update", "version"]
        .into_iter()
        .find_map(|key| line.get(key)?.as_u64())
        .is_some_and(|number| number <= round)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_drops_what_it_does_again_and_what_is_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        let text = "{\"update\":1}\n{\"version\":1}\n{\"update\":2}\n{\"update\":3}\n{\"upd";
        fs::write(&path, text).unwrap();
        let mut log = MetricsLog::open(directory.path(), 2).unwrap();
        log.write_line(&serde_json::json!({ "update": 3 }));
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"update\":1}\n{\"version\":1}\n{\"update\":2}\n{\"update\":3}\n"
        );
    }
}
