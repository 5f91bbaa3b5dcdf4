//! The numbers of a curve, and what several of them have in common.

use super::Axis;
use crate::metrics_file::Record;

/// Points at which several curves are compared.
const GRID_POINTS: usize = 256;

/// One metric of one run over time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Curve {
    /// `(x, value)`, `x` ascending.
    pub(super) points: Vec<(f64, f64)>,
}

impl Curve {
    /// The numbers under `metric` in a run's records. An evaluation happened when the update was done
    /// whose policy it measured.
    pub(super) fn of(records: &[Record], metric: &str, axis: Axis) -> Self {
        let mut points: Vec<(f64, f64)> = Vec::new();
        let mut updates: Vec<(u64, f64)> = Vec::new();
        for record in records {
            if let Some(seconds) = record.seconds {
                while updates
                    .last()
                    .is_some_and(|(last, _)| *last >= record.env_steps)
                {
                    updates.pop();
                }
                updates.push((record.env_steps, seconds));
            }
            let x = match axis {
                Axis::Steps => Some(record.env_steps as f64),
                Axis::Time => record.seconds.or_else(|| {
                    let later = updates.partition_point(|(steps, _)| *steps <= record.env_steps);
                    later.checked_sub(1).map(|update| updates[update].1)
                }),
            };
            let (Some(x), Some(value)) = (x, record.number(metric)) else {
                continue;
            };
            // A resumed run repeats what came after its checkpoint: the later record holds.
            while points.last().is_some_and(|(last, _)| *last >= x) {
                points.pop();
            }
            points.push((x, value));
        }
        Self { points }
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

    fn records(lines: &[&str]) -> Vec<Record> {
        let parsed = lines.iter().map(|line| serde_json::from_str(line).unwrap());
        parsed.collect()
    }

    #[test]
    fn what_a_resumed_run_did_again_counts_once() {
        let lines = [(100, 1.0), (200, 2.0), (300, 3.0), (200, 20.0), (300, 30.0)].map(
            |(env_steps, value)| {
                format!("{{\"env_steps\":{env_steps},\"seconds\":1.0,\"mean_return\":{value}}}")
            },
        );
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let curve = Curve::of(&records(&lines), "mean_return", Axis::Steps);
        assert_eq!(curve.points, [(100.0, 1.0), (200.0, 20.0), (300.0, 30.0)]);
    }

    #[test]
    fn an_evaluation_has_the_time_of_the_update_that_it_measured() {
        let records = records(&[
            r#"{"env_steps":100,"seconds":1.5,"mean_return":null}"#,
            r#"{"env_steps":200,"seconds":2.5,"mean_return":3.0}"#,
            r#"{"env_steps":100,"version":1,"evaluation_return":7.0}"#,
            r#"{"env_steps":200,"version":2,"evaluation_return":8.0}"#,
        ]);
        let curve = Curve::of(&records, "evaluation_return", Axis::Time);
        assert_eq!(curve.points, [(1.5, 7.0), (2.5, 8.0)]);
        assert_eq!(
            Curve::of(&records, "mean_return", Axis::Steps).points,
            [(200.0, 3.0)]
        );
        assert_eq!(Curve::of(&records, "nothing", Axis::Steps).points, []);
    }
}
