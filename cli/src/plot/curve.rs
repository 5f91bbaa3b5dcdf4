//! The numbers of a learning curve, and what several of them have in common.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use super::Axis;
use crate::failure::Failure;

/// Points at which several curves are compared.
const GRID_POINTS: usize = 256;

/// The mean training return of one run over time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Curve {
    /// `(x, mean return)`, `x` ascending; at least one.
    pub(super) points: Vec<(f64, f64)>,
}

/// A line of `metrics.jsonl`, as far as it matters here; an evaluation has neither return nor time.
#[derive(Deserialize)]
struct Line {
    env_steps: u64,
    seconds: Option<f64>,
    mean_return: Option<f64>,
}

impl Curve {
    /// Reads a run's `metrics.jsonl`. A last line that is incomplete, as while the run goes on, is
    /// left out.
    ///
    /// # Errors
    /// Where the file cannot be read, a line cannot be understood, or no episode has ended yet.
    pub(super) fn read(path: &Path, axis: Axis) -> anyhow::Result<Self> {
        let file = File::open(path).map_err(|error| {
            Failure::usage(format!(
                "cannot read {}: {error}; has the run begun?",
                path.display()
            ))
        })?;
        let mut reader = BufReader::new(file);
        let mut points: Vec<(f64, f64)> = Vec::new();
        let mut text = String::new();
        for number in 1_usize.. {
            text.clear();
            let length = reader
                .read_line(&mut text)
                .with_context(|| format!("cannot read {}", path.display()))?;
            if length == 0 || !text.ends_with('\n') {
                break;
            }
            let line: Line = serde_json::from_str(&text)
                .with_context(|| format!("{}, line {number}", path.display()))?;
            let (Some(seconds), Some(mean_return)) = (line.seconds, line.mean_return) else {
                continue;
            };
            let x = match axis {
                Axis::Steps => line.env_steps as f64,
                Axis::Time => seconds,
            };
            // A resumed run repeats what came after its checkpoint: the later record holds.
            while points.last().is_some_and(|(last, _)| *last >= x) {
                points.pop();
            }
            points.push((x, mean_return));
        }
        if points.is_empty() {
            let message = format!("{} holds no finished episode yet", path.display());
            return Err(Failure::usage(message).into());
        }
        Ok(Self { points })
    }

    fn first(&self) -> f64 {
        self.points.first().map_or(0.0, |(x, _)| *x)
    }

    fn last(&self) -> f64 {
        self.points.last().map_or(0.0, |(x, _)| *x)
    }

    /// The value at `x` within the curve, linearly between points.
    fn at(&self, x: f64) -> f64 {
        let after = self.points.partition_point(|(point, _)| *point < x);
        match (
            after
                .checked_sub(1)
                .and_then(|before| self.points.get(before)),
            self.points.get(after),
        ) {
            (Some(before), Some(after)) => {
                let share = (x - before.0) / (after.0 - before.0);
                before.1 + share * (after.1 - before.1)
            }
            (Some(only), None) | (None, Some(only)) => only.1,
            (None, None) => f64::NAN,
        }
    }
}

/// One place of a summary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// Where.
    pub(super) x: f64,
    /// The curves' mean.
    pub(super) mean: f64,
    /// Its standard error; zero for a single curve.
    pub(super) standard_error: f64,
}

/// The mean of curves, where all of them are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Summary {
    /// `x` ascending.
    pub(super) points: Vec<Point>,
}

impl Summary {
    /// Sums up curves over the stretch that all of them cover; a mean over changing members would
    /// jump where one ends.
    pub(super) fn of(curves: &[Curve]) -> Self {
        if let [curve] = curves {
            let points = curve.points.iter();
            let points = points.map(|(x, mean)| Point {
                x: *x,
                mean: *mean,
                standard_error: 0.0,
            });
            return Self {
                points: points.collect(),
            };
        }
        let first = curves
            .iter()
            .map(Curve::first)
            .fold(f64::NEG_INFINITY, f64::max);
        let last = curves.iter().map(Curve::last).fold(f64::INFINITY, f64::min);
        if first.is_nan() || first > last || !first.is_finite() {
            return Self { points: Vec::new() };
        }
        let step = (last - first) / (GRID_POINTS - 1) as f64;
        let points = (0..GRID_POINTS)
            .map(|index| {
                // The last point exactly, whatever the rounding.
                let x = if index == GRID_POINTS - 1 {
                    last
                } else {
                    first + step * index as f64
                };
                let values: Vec<f64> = curves.iter().map(|curve| curve.at(x)).collect();
                let count = values.len() as f64;
                let mean = values.iter().sum::<f64>() / count;
                let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
                // The sample's standard deviation over the root of its size.
                let standard_error = (squares / (count - 1.0) / count).sqrt();
                Point {
                    x,
                    mean,
                    standard_error,
                }
            })
            .collect();
        Self { points }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(f64, f64)]) -> Curve {
        Curve {
            points: points.to_vec(),
        }
    }

    #[test]
    fn a_curve_is_linear_between_its_points() {
        let curve = curve(&[(0.0, 0.0), (10.0, 100.0), (20.0, 100.0)]);
        for (x, value) in [
            (0.0, 0.0),
            (5.0, 50.0),
            (10.0, 100.0),
            (15.0, 100.0),
            (20.0, 100.0),
        ] {
            assert_eq!(curve.at(x), value, "{x}");
        }
    }

    #[test]
    fn the_mean_covers_what_all_curves_cover() {
        let summary = Summary::of(&[
            curve(&[(0.0, 0.0), (100.0, 100.0)]),
            curve(&[(20.0, 40.0), (60.0, 80.0)]),
        ]);
        let (first, last) = (summary.points[0], *summary.points.last().unwrap());
        assert_eq!((first.x, last.x), (20.0, 60.0));
        // 20 and 40, then 60 and 80: a standard deviation of sqrt(200) over the root of two.
        assert_eq!((first.mean, last.mean), (30.0, 70.0));
        assert!((first.standard_error - 10.0).abs() < 1e-12);
    }

    #[test]
    fn curves_without_a_common_stretch_have_no_mean() {
        let summary = Summary::of(&[
            curve(&[(0.0, 0.0), (1.0, 1.0)]),
            curve(&[(2.0, 0.0), (3.0, 1.0)]),
        ]);
        assert!(summary.points.is_empty());
    }

    #[test]
    fn what_a_resumed_run_did_again_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let record = |env_steps: u64, mean_return: f64| {
            format!("{{\"env_steps\":{env_steps},\"seconds\":1.0,\"mean_return\":{mean_return}}}\n")
        };
        let lines = [(100, 1.0), (200, 2.0), (300, 3.0), (200, 20.0), (300, 30.0)];
        let text: String = lines.iter().map(|(x, y)| record(*x, *y)).collect();
        std::fs::write(&path, text).unwrap();
        let curve = Curve::read(&path, Axis::Steps).unwrap();
        assert_eq!(curve.points, [(100.0, 1.0), (200.0, 20.0), (300.0, 30.0)]);
    }

    #[test]
    fn a_malformed_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"env_steps\":1}\nnonsense\n").unwrap();
        let error = format!("{:#}", Curve::read(&path, Axis::Steps).unwrap_err());
        assert!(error.contains("line 2"), "{error}");
    }
}
