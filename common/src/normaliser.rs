//! Statistics that bring observations and rewards to a common scale.
//!
//! The learner gathers them from ordered rounds and publishes them with the parameters of the same
//! version; actors only apply them. Sums are taken in `f64` and in a fixed order, so that the
//! state is a function of the data alone.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Added to variances before the square root is taken.
const EPSILON: f64 = 1e-8;

/// Mean and variance of each feature of the rows seen so far.
///
/// # Source
/// Chan, Golub and `LeVeque` 1979, "Updating formulae and a pairwise algorithm for computing sample
/// variances": the formula that combines two samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningMoments {
    count: u64,
    mean: Vec<f64>,
    /// Sum of the squared deviations from the mean.
    squares: Vec<f64>,
}

impl RunningMoments {
    /// The moments of no rows of this width.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self {
            count: 0,
            mean: vec![0.0; width],
            squares: vec![0.0; width],
        }
    }

    /// The moments of these rows, by two passes in row order.
    ///
    /// # Shapes
    /// `rows`: `[rows, width]`, finite.
    ///
    /// # Panics
    /// If `rows` is not whole rows.
    #[must_use]
    pub fn of<T: Copy + Into<f64>>(width: usize, rows: &[T]) -> Self {
        let mut moments = Self::new(width);
        if rows.is_empty() {
            return moments;
        }
        assert!(
            width > 0 && rows.len().is_multiple_of(width),
            "{} values are not rows of {width}",
            rows.len()
        );
        moments.count = (rows.len() / width) as u64;
        for row in rows.chunks_exact(width) {
            for (sum, x) in moments.mean.iter_mut().zip(row) {
                *sum += (*x).into();
            }
        }
        for sum in &mut moments.mean {
            *sum /= moments.count as f64;
        }
        for row in rows.chunks_exact(width) {
            for ((squares, mean), x) in moments.squares.iter_mut().zip(&moments.mean).zip(row) {
                let deviation = (*x).into() - mean;
                *squares += deviation * deviation;
            }
        }
        moments
    }

    /// Adds rows to those seen: [`RunningMoments::merge`] of [`RunningMoments::of`] them.
    ///
    /// # Panics
    /// As [`RunningMoments::of`].
    pub fn update<T: Copy + Into<f64>>(&mut self, rows: &[T]) {
        self.merge(&Self::of(self.mean.len(), rows));
    }

    /// Adds the rows that `other` has seen.
    ///
    /// The order of merges changes the last bits of the result: where those matter, it is the
    /// order of the environments.
    ///
    /// # Panics
    /// If the widths differ.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.mean.len(), other.mean.len(), "moments of one width");
        if other.count == 0 {
            return;
        }
        let (ours, theirs) = (self.count as f64, other.count as f64);
        let total = ours + theirs;
        for i in 0..self.mean.len() {
            let difference = other.mean[i] - self.mean[i];
            self.mean[i] += difference * (theirs / total);
            self.squares[i] +=
                other.squares[i] + difference * difference * (ours * (theirs / total));
        }
        self.count += other.count;
    }

    /// Number of rows seen.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Mean of each feature; zero before any row.
    #[must_use]
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Population variance of each feature; one before any row.
    pub fn variance(&self) -> impl Iterator<Item = f64> + '_ {
        self.squares.iter().map(|squares| match self.count {
            0 => 1.0,
            count => squares / count as f64,
        })
    }
}

/// Shifts and scales observations to mean zero and variance one, and clips them.
///
/// Actor and learner call the same [`ObservationNormaliser::apply`], and the learner publishes
/// this value, already rounded to `f32`, with the parameters: both see the same bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservationNormaliser {
    /// What is subtracted from each feature.
    pub mean: Vec<f32>,
    /// By what the difference is multiplied.
    pub inverse_std: Vec<f32>,
    /// Largest magnitude of a result; not negative.
    pub clip: f32,
}

impl ObservationNormaliser {
    /// The normaliser for data with these moments. Before any data it only clips.
    #[must_use]
    pub fn new(moments: &RunningMoments, clip: f32) -> Self {
        let inverse_std = |variance: f64| (1.0 / (variance + EPSILON).sqrt()) as f32;
        Self {
            mean: moments.mean.iter().map(|mean| *mean as f32).collect(),
            inverse_std: moments.variance().map(inverse_std).collect(),
            clip,
        }
    }

    /// Replaces every value by `(value - mean) * inverse_std`, clipped to `-clip..=clip`.
    ///
    /// # Shapes
    /// `rows`: `[rows, width]`.
    ///
    /// # Panics
    /// If `rows` is not whole rows, or `clip` is negative or NaN.
    #[inline]
    pub fn apply(&self, rows: &mut [f32]) {
        let width = self.mean.len();
        assert!(
            rows.len().is_multiple_of(width),
            "{} values are not rows of {width}",
            rows.len()
        );
        for row in rows.chunks_exact_mut(width) {
            for ((x, mean), inverse_std) in row.iter_mut().zip(&self.mean).zip(&self.inverse_std) {
                *x = ((*x - mean) * inverse_std).clamp(-self.clip, self.clip);
            }
        }
    }
}

/// Divides rewards by the standard deviation of the discounted return, and clips them.
///
/// Every environment has an accumulator `G <- discount * G + reward`, which starts at zero and
/// returns there when an episode ends; the deviation is that of all values which the
/// accumulators have taken. Rewards are never shifted: that would change which policy is best.
///
/// A round is scaled with statistics that include it: the learner calls
/// [`RewardScaler::update`] for each shard in ascending order of environments, then
/// [`RewardScaler::scale`]. Another order changes the statistics in their last bits.
///
/// # Source
/// Engstrom et al. 2020, "Implementation matters in deep policy gradients", algorithm 1. Departs
/// from it where an episode ends: there the accumulator starts again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardScaler {
    discount: f64,
    clip: f32,
    /// Discounted return so far of each environment that was seen.
    returns: Vec<f64>,
    moments: RunningMoments,
}

impl RewardScaler {
    /// A scaler that has seen nothing.
    ///
    /// `discount` is the algorithm's, `clip` the largest magnitude of a scaled reward; it must not
    /// be negative.
    #[must_use]
    pub fn new(discount: f64, clip: f32) -> Self {
        Self {
            discount,
            clip,
            returns: Vec::new(),
            moments: RunningMoments::new(1),
        }
    }

    /// Adds one unroll of the environments `environments` to the statistics.
    ///
    /// `episode_ended(t * B + b)` says whether step `t` of the `b`-th of them ended its episode,
    /// by termination or by truncation.
    ///
    /// # Shapes
    /// `rewards`: `[T, B]`, finite, with `B` the number of environments.
    ///
    /// # Panics
    /// If `rewards` is not whole rows.
    pub fn update(
        &mut self,
        environments: Range<usize>,
        rewards: &[f32],
        episode_ended: impl Fn(usize) -> bool,
    ) {
        let width = environments.len();
        assert!(
            width > 0 && rewards.len().is_multiple_of(width),
            "{} rewards are not steps of {width} environments",
            rewards.len()
        );
        if self.returns.len() < environments.end {
            self.returns.resize(environments.end, 0.0);
        }
        let returns = &mut self.returns[environments];
        let mut seen = Vec::with_capacity(rewards.len());
        for (index, reward) in rewards.iter().enumerate() {
            let accumulated = &mut returns[index % width];
            *accumulated = self.discount * *accumulated + f64::from(*reward);
            seen.push(*accumulated);
            if episode_ended(index) {
                *accumulated = 0.0;
            }
        }
        self.moments.update(&seen);
    }

    /// Forgets the unfinished episodes of these environments, whose next unroll does not continue
    /// their last.
    pub fn restart(&mut self, environments: Range<usize>) {
        for index in environments {
            if let Some(accumulated) = self.returns.get_mut(index) {
                *accumulated = 0.0;
            }
        }
    }

    /// Replaces every reward by `reward / sqrt(variance + 1e-8)`, clipped. Before any data it only
    /// clips.
    pub fn scale(&self, rewards: &mut [f32]) {
        let variance: f64 = self.moments.variance().sum();
        let deviation = (variance + EPSILON).sqrt();
        for reward in rewards {
            *reward = ((f64::from(*reward) / deviation) as f32).clamp(-self.clip, self.clip);
        }
    }

    /// Statistics of the discounted returns seen so far.
    #[must_use]
    pub fn moments(&self) -> &RunningMoments {
        &self.moments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds::{Purpose, Random};

    fn draws(count: usize, position: u64) -> Vec<f32> {
        let mut random = Random::derive(2, Purpose::Episode, 0, position);
        (0..count)
            .map(|_| (1000.0 + 3.0 * random.standard_normals().0) as f32)
            .collect()
    }

    /// Mean and population variance of one feature, by the textbook formula.
    fn textbook(rows: &[f32], width: usize, feature: usize) -> (f64, f64) {
        let column = || {
            rows.iter()
                .skip(feature)
                .step_by(width)
                .map(|x| f64::from(*x))
        };
        let count = column().count() as f64;
        let mean = column().sum::<f64>() / count;
        (
            mean,
            column().map(|x| (x - mean).powi(2)).sum::<f64>() / count,
        )
    }

    fn assert_close(got: f64, expected: f64) {
        let scale = expected.abs().max(1.0);
        assert!(
            (got - expected).abs() <= 1e-12 * scale,
            "got {got}, expected {expected}"
        );
    }

    #[test]
    fn merged_batches_equal_one_pass_t14() {
        let rows = draws(3 * 500, 0);
        // Batches of 1, 2, 3, ... rows, the last one shorter.
        let mut merged = RunningMoments::new(3);
        let (mut rest, mut batch) = (&rows[..], 1);
        while !rest.is_empty() {
            let (head, tail) = rest.split_at((3 * batch).min(rest.len()));
            merged.update(head);
            (rest, batch) = (tail, batch + 1);
        }
        assert_eq!(merged.count(), 500);
        for (feature, (mean, variance)) in merged.mean().iter().zip(merged.variance()).enumerate() {
            let (expected_mean, expected_variance) = textbook(&rows, 3, feature);
            assert_close(*mean, expected_mean);
            assert_close(variance, expected_variance);
        }
    }

    #[test]
    fn merging_nothing_changes_no_bit() {
        let mut moments = RunningMoments::of(2, &draws(40, 1));
        let before = moments.clone();
        moments.merge(&RunningMoments::new(2));
        assert_eq!(moments, before);
        let mut empty = RunningMoments::new(2);
        empty.merge(&before);
        assert_eq!(empty, before);
    }

    #[test]
    fn normalised_data_has_mean_zero_and_variance_one() {
        let mut rows = draws(2 * 4000, 2);
        ObservationNormaliser::new(&RunningMoments::of(2, &rows), 10.0).apply(&mut rows);
        for feature in 0..2 {
            let (mean, variance) = textbook(&rows, 2, feature);
            assert!(
                mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-4,
                "{mean} {variance}"
            );
        }
    }

    #[test]
    fn normaliser_clips_and_keeps_nan() {
        let moments = RunningMoments::of(1, &[-1.0_f32, 1.0]);
        let mut rows = [100.0, -100.0, 0.5, f32::NAN];
        ObservationNormaliser::new(&moments, 10.0).apply(&mut rows);
        assert_eq!(rows[..3], [10.0, -10.0, 0.5]);
        assert!(rows[3].is_nan());
    }

    #[test]
    fn before_any_data_values_pass_unchanged() {
        let normaliser = ObservationNormaliser::new(&RunningMoments::new(1), 1e30);
        let scaler = RewardScaler::new(0.99, 1e30);
        let original = draws(1000, 3);
        let (mut observations, mut rewards) = (original.clone(), original.clone());
        normaliser.apply(&mut observations);
        scaler.scale(&mut rewards);
        assert_eq!(observations, original);
        assert_eq!(rewards, original);
    }

    #[test]
    fn constant_features_become_zero() {
        let moments = RunningMoments::of(1, &[1234.567_f32; 77]);
        let mut rows = [1234.567];
        ObservationNormaliser::new(&moments, 10.0).apply(&mut rows);
        assert!(rows[0].abs() < 1e-3, "{}", rows[0]);
    }

    const STEPS: usize = 40;

    /// Rewards and episode ends of 6 environments, time-major.
    fn round() -> (Vec<f32>, Vec<bool>) {
        let mut random = Random::derive(4, Purpose::Episode, 0, 0);
        (0..STEPS * 6)
            .map(|_| (random.uniform(-1.0, 3.0) as f32, random.unit_f64() < 0.1))
            .unzip()
    }

    /// The columns `first..first + 2` of a time-major block of 6 environments.
    fn shard<T: Copy>(block: &[T], first: usize) -> Vec<T> {
        block
            .chunks(6)
            .flat_map(|row| row[first..first + 2].iter().copied())
            .collect()
    }

    #[test]
    fn returns_are_discounted_and_restart_at_episode_ends_t15() {
        let (rewards, ends) = round();
        let mut scaler = RewardScaler::new(0.9, 10.0);
        // Two unrolls of each of three shards: returns continue from one to the next.
        let half = STEPS / 2 * 6;
        for part in [0..half, half..2 * half] {
            for first in [0, 2, 4] {
                let ends = shard(&ends[part.clone()], first);
                scaler.update(
                    first..first + 2,
                    &shard(&rewards[part.clone()], first),
                    |i| ends[i],
                );
            }
        }
        // Every return written out as the sum over its episode so far.
        let mut returns = Vec::new();
        for environment in 0..6 {
            let at = |t: usize| t * 6 + environment;
            let mut start = 0;
            for t in 0..STEPS {
                returns.push(
                    (start..=t)
                        .map(|s| 0.9_f64.powi((t - s) as i32) * f64::from(rewards[at(s)]))
                        .sum::<f64>(),
                );
                if ends[at(t)] {
                    start = t + 1;
                }
            }
        }
        let count = returns.len() as f64;
        let mean = returns.iter().sum::<f64>() / count;
        let variance = returns.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        assert_eq!(scaler.moments().count(), returns.len() as u64);
        assert_close(scaler.moments().variance().next().unwrap(), variance);

        let mut scaled = rewards.clone();
        scaler.scale(&mut scaled);
        for (scaled, reward) in scaled.iter().zip(&rewards) {
            // Divided only: a reward keeps its sign and zero stays zero.
            let expected = f64::from(*reward) / (variance + 1e-8).sqrt();
            assert!((f64::from(*scaled) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn scaled_rewards_are_clipped_t15() {
        let mut scaler = RewardScaler::new(0.0, 10.0);
        scaler.update(0..1, &[1.0, -1.0], |_| false);
        let mut rewards = [1e6, -1e6, 0.0, 2.0];
        scaler.scale(&mut rewards);
        assert_eq!(rewards, [10.0, -10.0, 0.0, 2.0]);
    }

    #[test]
    fn a_restarted_environment_forgets_its_episode() {
        let mut continued = RewardScaler::new(1.0, 10.0);
        continued.update(0..2, &[5.0, 7.0], |_| false);
        let mut restarted = continued.clone();
        restarted.restart(1..9);
        for scaler in [&mut continued, &mut restarted] {
            scaler.update(0..2, &[1.0, 1.0], |_| false);
        }
        assert_close(continued.moments().mean()[0], (5.0 + 7.0 + 6.0 + 8.0) / 4.0);
        assert_close(restarted.moments().mean()[0], (5.0 + 7.0 + 6.0 + 1.0) / 4.0);
    }

    #[test]
    fn a_serialised_scaler_continues_with_the_same_bits() {
        let (rewards, ends) = round();
        let mut original = RewardScaler::new(0.99, 10.0);
        original.update(0..6, &rewards, |i| ends[i]);
        let text = serde_json::to_string(&original).unwrap();
        let mut restored: RewardScaler = serde_json::from_str(&text).unwrap();
        for scaler in [&mut original, &mut restored] {
            scaler.update(0..6, &rewards, |i| ends[i]);
        }
        assert_eq!(original, restored);
    }
}
