//! Running statistics by which observations and rewards are scaled.
//!
//! The statistics live in the learner alone, are updated from rounds in their one order, and are
//! published with the parameters under the same version (T14); actor and learner normalise with
//! the same function, so both see the same bits.

use serde::{Deserialize, Serialize};

/// Added to variances, so that a constant feature is not divided by zero.
const EPSILON: f64 = 1e-8;

/// Count, mean and sum of squared deviations of each feature of all rows seen.
///
/// # Source
/// Chan, Golub and `LeVeque` 1979, "Updating formulae and a pairwise algorithm for computing sample
/// variances": a batch is summed in two passes and merged, so that merging batches gives what one
/// pass over all rows would give, up to rounding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningMoments {
    count: u64,
    mean: Vec<f64>,
    squared_deviations: Vec<f64>,
}

impl RunningMoments {
    /// Starts without rows of `width` features.
    ///
    /// # Panics
    /// If `width` is zero.
    #[must_use]
    pub fn new(width: usize) -> Self {
        assert!(width > 0, "a row has at least one feature");
        Self {
            count: 0,
            mean: vec![0.0; width],
            squared_deviations: vec![0.0; width],
        }
    }

    /// Adds rows.
    ///
    /// # Shapes
    /// `rows`: `[N, width]`.
    ///
    /// # Panics
    /// If `rows` is not a whole number of rows.
    pub fn update(&mut self, rows: &[f32]) {
        let width = self.mean.len();
        assert!(rows.len().is_multiple_of(width), "rows of {width} features");
        let count = (rows.len() / width) as u64;
        if count == 0 {
            return;
        }
        let mut mean = vec![0.0; width];
        for row in rows.chunks_exact(width) {
            for (sum, x) in mean.iter_mut().zip(row) {
                *sum += f64::from(*x);
            }
        }
        for sum in &mut mean {
            *sum /= count as f64;
        }
        let mut squared_deviations = vec![0.0; width];
        for row in rows.chunks_exact(width) {
            for ((sum, x), mean) in squared_deviations.iter_mut().zip(row).zip(&mean) {
                let deviation = f64::from(*x) - mean;
                *sum += deviation * deviation;
            }
        }
        let total = (self.count + count) as f64;
        let (ours, theirs) = (self.count as f64, count as f64);
        for feature in 0..width {
            let delta = mean[feature] - self.mean[feature];
            self.mean[feature] += delta * theirs / total;
            self.squared_deviations[feature] +=
                squared_deviations[feature] + delta * delta * ours * theirs / total;
        }
        self.count += count;
    }

    /// Rows seen.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Mean of each feature; zero before the first row.
    #[must_use]
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Population variance of each feature; one before the first row.
    #[must_use]
    pub fn variance(&self) -> Vec<f64> {
        if self.count == 0 {
            return vec![1.0; self.mean.len()];
        }
        self.squared_deviations
            .iter()
            .map(|sum| sum / self.count as f64)
            .collect()
    }
}

/// What makes no normaliser.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{field}`: expected {expected}, got {got}")]
pub struct NormaliserError {
    /// The field.
    pub field: &'static str,
    /// What it must be.
    pub expected: String,
    /// What it is.
    pub got: String,
}

/// Brings observations to about zero mean and unit variance, and clips them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObservationNormaliser {
    mean: Vec<f32>,
    inverse_standard_deviation: Vec<f32>,
    clip: f32,
}

impl ObservationNormaliser {
    /// Takes statistics that came over the wire.
    ///
    /// # Errors
    /// Where the lengths differ, a value is not finite, or a scale or the clip is not positive.
    pub fn new(
        mean: Vec<f32>,
        inverse_standard_deviation: Vec<f32>,
        clip: f32,
    ) -> Result<Self, NormaliserError> {
        let error = |field, expected: &str, got: String| NormaliserError {
            field,
            expected: expected.to_owned(),
            got,
        };
        if mean.is_empty() || mean.len() != inverse_standard_deviation.len() {
            return Err(error(
                "inverse_standard_deviation",
                &format!("as many values as `mean`, {}, and at least one", mean.len()),
                inverse_standard_deviation.len().to_string(),
            ));
        }
        if let Some(value) = mean.iter().find(|value| !value.is_finite()) {
            return Err(error("mean", "finite values", value.to_string()));
        }
        let is_scale = |value: f32| value.is_finite() && value > 0.0;
        if let Some(value) = inverse_standard_deviation
            .iter()
            .find(|value| !is_scale(**value))
        {
            return Err(error(
                "inverse_standard_deviation",
                "finite positive values",
                value.to_string(),
            ));
        }
        if !is_scale(clip) {
            return Err(error("clip", "a finite positive value", clip.to_string()));
        }
        Ok(Self {
            mean,
            inverse_standard_deviation,
            clip,
        })
    }

    /// The normaliser that the rows seen so far ask for; before the first row, only the clip.
    #[must_use]
    pub fn from_moments(moments: &RunningMoments, clip: f64) -> Self {
        Self {
            mean: moments.mean().iter().map(|mean| *mean as f32).collect(),
            inverse_standard_deviation: moments
                .variance()
                .iter()
                .map(|variance| (1.0 / (variance + EPSILON).sqrt()) as f32)
                .collect(),
            clip: clip as f32,
        }
    }

    /// This one, which leaves the last `count` features as they are.
    #[must_use]
    pub fn sparing_last(mut self, count: usize) -> Self {
        let first = self.mean.len().saturating_sub(count);
        self.mean[first..].fill(0.0);
        self.inverse_standard_deviation[first..].fill(1.0);
        self
    }

    /// Mean of each feature.
    #[must_use]
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// What each feature's deviation from its mean is multiplied by.
    #[must_use]
    pub fn inverse_standard_deviation(&self) -> &[f32] {
        &self.inverse_standard_deviation
    }

    /// The largest magnitude of a normalised value.
    #[must_use]
    pub const fn clip(&self) -> f32 {
        self.clip
    }

    /// Normalises rows in place.
    ///
    /// # Shapes
    /// `rows`: `[N, W]`.
    ///
    /// # Panics
    /// If `rows` is not a whole number of rows.
    pub fn apply(&self, rows: &mut [f32]) {
        assert!(
            rows.len().is_multiple_of(self.mean.len()),
            "rows of {} features",
            self.mean.len()
        );
        for row in rows.chunks_exact_mut(self.mean.len()) {
            for ((x, mean), scale) in row
                .iter_mut()
                .zip(&self.mean)
                .zip(&self.inverse_standard_deviation)
            {
                *x = ((*x - mean) * scale).clamp(-self.clip, self.clip);
            }
        }
    }
}

/// Divides rewards by the standard deviation of the discounted return (T15).
///
/// The mean is not subtracted: that would change which policy is best. Raw returns are what is
/// reported.
///
/// # Source
/// Engstrom and others 2020, "Implementation matters in deep policy gradients", section 2, item 2;
/// the accumulator is reset where an episode ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewardScaler {
    discount: f64,
    clip: f64,
    /// Discounted sum of rewards of each environment's episode in progress.
    returns: Vec<f64>,
    moments: RunningMoments,
}

impl RewardScaler {
    /// Starts without rewards for `num_envs` environments.
    #[must_use]
    pub fn new(num_envs: usize, discount: f64, clip: f64) -> Self {
        Self {
            discount,
            clip,
            returns: vec![0.0; num_envs],
            moments: RunningMoments::new(1),
        }
    }

    /// Follows the environments `first_env..first_env + num_envs` through their next steps. The
    /// order of calls within a round is part of the result's bits: shards ascending.
    ///
    /// # Shapes
    /// `rewards` (raw) and `ended`: `[T, num_envs]`, time-major.
    ///
    /// # Panics
    /// If the lengths differ or an environment does not exist.
    pub fn update(&mut self, first_env: usize, num_envs: usize, rewards: &[f32], ended: &[bool]) {
        assert_eq!(rewards.len(), ended.len(), "a flag for each reward");
        let returns = &mut self.returns[first_env..first_env + num_envs];
        let mut seen = Vec::with_capacity(rewards.len());
        for (rewards, ended) in rewards
            .chunks_exact(num_envs)
            .zip(ended.chunks_exact(num_envs))
        {
            for ((return_, reward), ended) in returns.iter_mut().zip(rewards).zip(ended) {
                *return_ = *return_ * self.discount + f64::from(*reward);
                seen.push(*return_ as f32);
                if *ended {
                    *return_ = 0.0;
                }
            }
        }
        self.moments.update(&seen);
    }

    /// Forgets the episodes in progress of these environments, which were reset.
    ///
    /// # Panics
    /// If an environment does not exist.
    pub fn reset(&mut self, first_env: usize, num_envs: usize) {
        self.returns[first_env..first_env + num_envs].fill(0.0);
    }

    /// Scales rewards in place and clips them.
    pub fn scale(&self, rewards: &mut [f32]) {
        let scale = 1.0 / (self.moments.variance()[0] + EPSILON).sqrt();
        for reward in rewards {
            *reward = (f64::from(*reward) * scale).clamp(-self.clip, self.clip) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds::{Purpose, Random};

    fn rows(count: usize) -> Vec<f32> {
        let mut random = Random::derive(1, Purpose::Episode, 0, 0);
        (0..count)
            .map(|_| random.uniform(-3.0, 7.0) as f32)
            .collect()
    }

    #[test]
    fn t14_merging_batches_gives_what_one_pass_gives() {
        let rows = rows(3 * 1000);
        let mut merged = RunningMoments::new(3);
        for batch in [&rows[..3], &rows[3..600], &[], &rows[600..]] {
            merged.update(batch);
        }
        for feature in 0..3 {
            let values: Vec<f64> = rows
                .iter()
                .skip(feature)
                .step_by(3)
                .map(|x| f64::from(*x))
                .collect();
            let mean = values.iter().sum::<f64>() / 1000.0;
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1000.0;
            assert!((merged.mean()[feature] - mean).abs() < 1e-12);
            assert!((merged.variance()[feature] - variance).abs() < 1e-11);
        }
        assert_eq!(merged.count(), 1000);
    }

    #[test]
    fn normalised_rows_have_zero_mean_and_unit_variance_and_are_clipped() {
        let mut rows = rows(2 * 5000);
        let mut moments = RunningMoments::new(2);
        moments.update(&rows);
        ObservationNormaliser::from_moments(&moments, 10.0).apply(&mut rows);
        let mut after = RunningMoments::new(2);
        after.update(&rows);
        for feature in 0..2 {
            assert!(after.mean()[feature].abs() < 1e-5);
            assert!((after.variance()[feature] - 1.0).abs() < 1e-5);
        }
        let mut outlier = [1e6, -1e6];
        ObservationNormaliser::from_moments(&moments, 10.0).apply(&mut outlier);
        assert_eq!(outlier, [10.0, -10.0]);
    }

    #[test]
    fn before_the_first_row_observations_are_only_clipped() {
        let mut rows = [0.25, -3.0, 40.0];
        ObservationNormaliser::from_moments(&RunningMoments::new(1), 10.0).apply(&mut rows);
        assert_eq!(rows, [0.25, -3.0, 10.0]);
    }

    #[test]
    fn a_constant_feature_becomes_zero() {
        let mut moments = RunningMoments::new(1);
        moments.update(&[5.0; 64]);
        let mut rows = [5.0];
        ObservationNormaliser::from_moments(&moments, 10.0).apply(&mut rows);
        assert_eq!(rows, [0.0]);
    }

    #[test]
    fn unsound_statistics_are_refused() {
        for (mean, scale, clip, field) in [
            (vec![], vec![], 10.0, "inverse_standard_deviation"),
            (
                vec![0.0],
                vec![1.0, 1.0],
                10.0,
                "inverse_standard_deviation",
            ),
            (vec![f32::NAN], vec![1.0], 10.0, "mean"),
            (vec![0.0], vec![0.0], 10.0, "inverse_standard_deviation"),
            (
                vec![0.0],
                vec![f32::INFINITY],
                10.0,
                "inverse_standard_deviation",
            ),
            (vec![0.0], vec![1.0], 0.0, "clip"),
        ] {
            assert_eq!(
                ObservationNormaliser::new(mean, scale, clip)
                    .unwrap_err()
                    .field,
                field
            );
        }
    }

    #[test]
    fn the_last_features_can_be_spared() {
        let mut moments = RunningMoments::new(3);
        moments.update(&[1.0, 0.0, 1.0, 5.0, 1.0, 1.0]);
        let normaliser = ObservationNormaliser::from_moments(&moments, 10.0).sparing_last(2);
        let mut row = [3.0, 1.0, 0.0];
        normaliser.apply(&mut row);
        assert_eq!(row, [0.0, 1.0, 0.0]);
    }

    /// Two environments; the first one's episode ends after its second step.
    #[test]
    fn t15_rewards_are_divided_by_the_deviation_of_the_discounted_return() {
        let discount = 0.5;
        let mut scaler = RewardScaler::new(3, discount, 10.0);
        let rewards = [1.0, 10.0, 2.0, 20.0, 4.0, 40.0];
        let ended = [false, false, true, false, false, false];
        scaler.update(1, 2, &rewards, &ended);
        // Environment 1: 1, 2.5, then anew 4. Environment 2: 10, 25, 52.5.
        let returns = [1.0, 10.0, 2.5, 25.0, 4.0, 52.5_f64];
        let mean = returns.iter().sum::<f64>() / 6.0;
        let deviation = (returns.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 6.0).sqrt();
        let mut scaled = rewards;
        scaler.scale(&mut scaled);
        for (scaled, raw) in scaled.iter().zip(rewards) {
            assert!((f64::from(*scaled) - f64::from(raw) / deviation).abs() < 1e-6);
        }
        // Accumulators go on in the next round.
        assert_eq!(scaler.returns, [0.0, 4.0, 52.5]);
        let mut large = [1e6];
        scaler.scale(&mut large);
        assert_eq!(large, [10.0]);
        // Environments that are reset begin anew, and no others.
        scaler.reset(1, 1);
        assert_eq!(scaler.returns, [0.0, 0.0, 52.5]);
    }

    #[test]
    fn statistics_survive_a_snapshot() {
        let mut scaler = RewardScaler::new(2, 0.99, 10.0);
        scaler.update(0, 2, &rows(64), &[false; 64]);
        let text = serde_json::to_string(&scaler).unwrap();
        assert_eq!(serde_json::from_str::<RewardScaler>(&text).unwrap(), scaler);
    }
}
