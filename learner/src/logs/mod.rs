//! Where a run's curves go: every update into `metrics.jsonl`, and a choice of them to
//! [TensorBoard](tensorboard) and to an MLflow server ([`mlflow`]).
//!
//! Whatever goes wrong with any of them is said, and ends no training and holds up none: files and
//! connections belong to threads of their own.

mod scalars;
pub mod histogram;
pub mod tensorboard;
pub mod mlflow;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery_common::configuration::{Configuration, LoggingConfiguration};
use rookery_common::telemetry::unix_seconds;

pub use self::histogram::Distributions;
use self::histogram::Histogram;
use self::mlflow::{Ending, Mlflow, Server};
use self::tensorboard::TensorBoard;
use crate::experience::rollout::CompleteRound;
use crate::metrics_log::{MetricsLog, Record};
use crate::run::{EvaluationReport, RunSettings};
use crate::trainer::Outcome;

/// Longest time in which nothing is noted while there are updates.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// What is noted at one place of the x axis.
#[derive(Debug)]
struct Point {
    /// The place: environment steps consumed.
    env_steps: u64,
    /// When it was noted, in seconds since 1970.
    unix_seconds: f64,
    /// Values by their tags.
    scalars: Vec<(String, f64)>,
    /// Histograms by their tags.
    histograms: Vec<(String, Histogram)>,
}

/// Where points go, in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// Event files.
    TensorBoard,
    /// A tracking server.
    Mlflow,
}

impl Sink {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::TensorBoard, Self::Mlflow];

    /// Its name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::TensorBoard => "tensorboard",
            Self::Mlflow => "mlflow",
        }
    }
}

/// The logs of one learner process.
#[derive(Debug)]
pub struct RunLog {
    lines: MetricsLog,
    tensorboard: Option<TensorBoard>,
    mlflow: Option<Mlflow>,
    options: LoggingConfiguration,
    total_updates: u64,
    distributions: Distributions,
    last_point: Option<Instant>,
    /// Environment steps and seconds at the last point, for the speed between two.
    last_speed: Option<(u64, f64)>,
}

impl RunLog {
    /// Opens the logs of a run that goes on behind `round` updates and `env_steps` environment steps.
    /// MLflow's is at `server`, where there is one.
    ///
    /// # Errors
    /// Where a file cannot be made.
    pub fn open(
        settings: &RunSettings,
        configuration: &Configuration,
        (round, env_steps): (u64, u64),
        server: Option<Server>,
    ) -> io::Result<Self> {
        let options = configuration.logging.clone();
        let directory = &settings.directory;
        let tensorboard = options
            .tensorboard
            .then(|| TensorBoard::open(directory, env_steps, &configuration.to_toml()));
        let mlflow = server.map(|server| Mlflow::spawn(server, &settings.run_id, configuration));
        let total_env_steps = configuration.run.total_env_steps;
        Ok(Self {
            lines: MetricsLog::open(directory, round)?,
            tensorboard: tensorboard.transpose()?,
            mlflow: mlflow.transpose()?,
            options,
            total_updates: total_env_steps.div_ceil(settings.steps_per_round()),
            distributions: Distributions::default(),
            last_point: None,
            last_speed: None,
        })
    }

    /// Takes the distributions of update `number`, counted from 1: some updates' are wanted.
    pub(crate) fn distributions(&mut self, number: u64) -> &mut Distributions {
        let are_wanted = self.tensorboard.is_some()
            && is_due(number, self.total_updates, self.options.histograms);
        self.distributions.begin(are_wanted);
        &mut self.distributions
    }

    /// Notes an update, with the distributions that were taken of it.
    pub(crate) fn write(&mut self, record: &Record<'_>) {
        self.lines.write(record);
        if self.tensorboard.is_none() && self.mlflow.is_none() {
            return;
        }
        let is_due = self.distributions.are_wanted()
            || is_due(record.update, self.total_updates, self.options.points)
            || self
                .last_point
                .is_some_and(|last| last.elapsed() >= LONGEST_SILENCE);
        if !is_due {
            return;
        }
        self.last_point = Some(Instant::now());
        let mut scalars = scalars::of(record);
        let (steps, seconds) = (record.env_steps, record.seconds);
        if let Some((steps_before, seconds_before)) = self.last_speed.replace((steps, seconds))
            && seconds > seconds_before
        {
            let speed = (steps - steps_before) as f64 / (seconds - seconds_before);
            scalars.push(("time/env_steps_per_second".to_owned(), speed));
        }
        let histograms = self.distributions.take();
        self.note(steps, scalars, histograms);
    }

    /// Notes which shards of an update did not continue, and why.
    pub(crate) fn write_discontinuities(
        &mut self,
        update: u64,
        env_steps: u64,
        round: &CompleteRound,
    ) {
        for (shard, reason) in round.discontinuities() {
            self.lines
                .write_discontinuity(update, env_steps, shard, reason);
        }
    }

    /// Notes an evaluation.
    pub(crate) fn write_evaluation(&mut self, report: &EvaluationReport, mean: f64) {
        self.lines.write_evaluation(report, mean);
        let returns = report.returns.iter().copied();
        let scalars = [
            ("evaluation/return", mean),
            (
                "evaluation/return_min",
                returns.clone().fold(mean, f64::min),
            ),
            ("evaluation/return_max", returns.fold(mean, f64::max)),
            ("evaluation/episodes", report.returns.len() as f64),
        ];
        let scalars = scalars
            .into_iter()
            .filter(|(_, value)| value.is_finite())
            .map(|(tag, value)| (tag.to_owned(), value))
            .collect();
        self.note(report.env_steps, scalars, Vec::new());
    }

    fn note(
        &self,
        env_steps: u64,
        scalars: Vec<(String, f64)>,
        histograms: Vec<(String, Histogram)>,
    ) {
        let point = Arc::new(Point {
            env_steps,
            unix_seconds: unix_seconds(),
            scalars,
            histograms,
        });
        if let Some(tensorboard) = &self.tensorboard {
            tensorboard.note(&point);
        }
        if let Some(mlflow) = &self.mlflow {
            mlflow.note(point);
        }
    }

    /// Says how the run has ended. Logs that are dropped without are those of a run that has failed.
    pub(crate) fn finish(self, outcome: Outcome) {
        if let Some(mlflow) = self.mlflow {
            mlflow.end(match outcome {
                Outcome::Finished => Ending::Finished,
                Outcome::Stopped => Ending::Killed,
            });
        }
    }
}

/// Whether update `number`, counted from 1, is one of `points` that are spread evenly over `total`: all
/// where there are no more. The first is among them, and the last.
fn is_due(number: u64, total: u64, points: u64) -> bool {
    let at = |number: u64| u128::from(number) * u128::from(points) / u128::from(total.max(1));
    points > 0 && (number == 1 || at(number) > at(number - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(total: u64, points: u64) -> Vec<u64> {
        (1..=total)
            .filter(|number| is_due(*number, total, points))
            .collect()
    }

    #[test]
    fn points_are_spread_evenly_and_the_ends_are_among_them() {
        assert_eq!(due(4, 1000), [1, 2, 3, 4]);
        assert_eq!(due(10, 5), [1, 2, 4, 6, 8, 10]);
        assert_eq!(due(10, 0), [0; 0]);
        let many = due(1_000_003, 1000);
        assert!((1000..=1001).contains(&many.len()), "{}", many.len());
        assert_eq!(many.last(), Some(&1_000_003));
        let gaps = many[1..].windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.clone().max().unwrap() - gaps.min().unwrap() <= 1);
    }

    #[test]
    fn a_run_that_goes_on_past_its_end_still_has_points() {
        assert!(is_due(1_002, 1_000, 1_000));
    }
}
