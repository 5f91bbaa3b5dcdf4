//! Distributions over actions: sampling, log-probabilities and modes, one row at a time.
//!
//! Everything a sample depends on is made of functions with the same bits everywhere, so an
//! action is a function of the head's outputs and the random stream.

#![expect(
    clippy::inline_always,
    reason = "sampling must be compiled with the vector instructions of its caller"
)]

use super::math;
use crate::seeds::Random;

/// The logarithm of the square root of two pi.
pub(super) const LN_SQRT_TAU: f64 = 0.918_938_533_204_672_7;

/// The actions of one choice that can be taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Possible<'a>(Option<&'a [f32]>);

impl<'a> Possible<'a> {
    /// All of them.
    pub(super) const ALL: Self = Self(None);

    /// Those where `mask` is not zero.
    #[inline(always)]
    pub(super) fn masked(mask: &'a [f32]) -> Self {
        Self(Some(mask))
    }

    /// Those of the first `n` actions, and those of the others.
    #[inline(always)]
    pub(super) fn split_at(self, n: usize) -> (Self, Self) {
        match self.0 {
            None => (self, self),
            Some(mask) => {
                let (first, others) = mask.split_at(n);
                (Self(Some(first)), Self(Some(others)))
            }
        }
    }

    #[inline(always)]
    pub(super) fn contains(self, action: usize) -> bool {
        self.0.is_none_or(|mask| mask[action] != 0.0)
    }

    /// How many of `n` actions.
    #[inline(always)]
    pub(super) fn count(self, n: usize) -> usize {
        match self.0 {
            None => n,
            Some(_) => (0..n).filter(|action| self.contains(*action)).count(),
        }
    }

    /// The one of `n` actions before which there are `place` others.
    #[inline(always)]
    pub(super) fn nth(self, place: usize, n: usize) -> Option<usize> {
        match self.0 {
            None => (place < n).then_some(place),
            Some(_) => (0..n).filter(|action| self.contains(*action)).nth(place),
        }
    }
}

/// A distribution over the actions `0..n`, given by one logit for each.
///
/// Infinitely negative logits are actions that are never chosen. If a logit is NaN or positive
/// infinity, or all are negative infinity, then no distribution exists: samples are then the last
/// action and log-probabilities NaN, which the learner's validation refuses.
#[derive(Clone, Copy, Debug)]
pub struct Categorical<'a> {
    logits: &'a [f32],
    possible: Possible<'a>,
    max: f32,
    /// The sum of `exp(logit - max)`.
    total: f64,
}

impl<'a> Categorical<'a> {
    /// The softmax of `logits`, of which there must be at least one.
    ///
    /// # Panics
    /// If `logits` is empty.
    #[inline(always)]
    #[must_use]
    pub fn new(logits: &'a [f32]) -> Self {
        Self::among(logits, Possible::ALL)
    }

    /// The softmax of the `possible` logits; where there is none, no distribution exists.
    #[inline(always)]
    pub(super) fn among(logits: &'a [f32], possible: Possible<'a>) -> Self {
        let mut categorical = Self {
            logits,
            possible,
            max: mode_among(logits, possible).map_or(f32::NAN, |mode| logits[mode]),
            total: 0.0,
        };
        categorical.total = (0..logits.len()).map(|i| categorical.weight(i)).sum();
        categorical
    }

    /// Probability of an action times the total weight.
    #[inline(always)]
    fn weight(&self, action: usize) -> f64 {
        if self.possible.contains(action) {
            f64::from(math::exp(self.logits[action] - self.max))
        } else {
            0.0
        }
    }

    /// Draws an action by inverting the cumulative distribution at one uniform number.
    #[inline(always)]
    #[must_use]
    pub fn sample(&self, random: &mut Random) -> usize {
        // The product is strictly below the total, which is what the cumulative weight reaches at
        // the end because both are the same sum: some action is found unless the total is NaN.
        let threshold = random.unit_f64() * self.total;
        let mut cumulative = 0.0;
        for action in 0..self.logits.len() {
            cumulative += self.weight(action);
            if cumulative > threshold {
                return action;
            }
        }
        self.logits.len() - 1
    }

    /// The natural logarithm of the probability of `action`.
    ///
    /// # Panics
    /// If there is no such action.
    #[inline(always)]
    #[must_use]
    pub fn log_prob(&self, action: usize) -> f32 {
        if !self.possible.contains(action) && !self.max.is_nan() {
            return f32::NEG_INFINITY;
        }
        (self.logits[action] - self.max) - math::ln(self.total as f32)
    }
}

/// The first action with the largest logit.
///
/// NaN counts as smaller than everything, except in first place, where it wins.
///
/// # Panics
/// If `logits` is empty.
#[inline(always)]
#[must_use]
pub fn mode(logits: &[f32]) -> usize {
    let mut best = 0;
    let mut largest = logits[0];
    for (action, logit) in logits.iter().enumerate().skip(1) {
        if *logit > largest {
            best = action;
            largest = *logit;
        }
    }
    best
}

/// The first of the `possible` actions with the largest logit, where there is one; NaN as in [`mode`].
#[inline(always)]
pub(super) fn mode_among(logits: &[f32], possible: Possible<'_>) -> Option<usize> {
    let mut actions = (0..logits.len()).filter(|action| possible.contains(*action));
    let first = actions.next()?;
    Some(actions.fold(first, |best, action| {
        if logits[action] > logits[best] {
            action
        } else {
            best
        }
    }))
}

/// Independent normal distributions, one for each dimension of an action, whose standard
/// deviations do not depend on the observation. The mode is the mean.
#[derive(Clone, Debug)]
pub struct DiagonalGaussian {
    std: Vec<f32>,
    /// The part of the log-density that no action changes.
    log_normaliser: f64,
}

impl DiagonalGaussian {
    /// The distributions with these logarithms of standard deviations.
    #[must_use]
    pub fn new(log_std: &[f32]) -> Self {
        Self {
            std: log_std.iter().map(|log_std| math::exp(*log_std)).collect(),
            log_normaliser: log_std
                .iter()
                .map(|log_std| -f64::from(*log_std) - LN_SQRT_TAU)
                .sum(),
        }
    }

    /// Draws an action around `mean`: `mean + std * z`. Dimensions `2 i` and `2 i + 1` take the
    /// `i`-th pair of [`Random::standard_normals`].
    #[inline(always)]
    pub fn sample(&self, mean: &[f32], random: &mut Random, action: &mut [f32]) {
        let rows = mean.chunks(2).zip(self.std.chunks(2));
        for ((mean, std), action) in rows.zip(action.chunks_mut(2)) {
            let (first, second) = random.standard_normals();
            let draws = [first as f32, second as f32];
            for (((action, mean), std), z) in action.iter_mut().zip(mean).zip(std).zip(draws) {
                *action = std.mul_add(z, *mean);
            }
        }
    }

    /// The natural logarithm of the density at `action`, summed over its dimensions.
    ///
    /// `action` is what [`DiagonalGaussian::sample`] gave, before any clipping to bounds.
    #[inline(always)]
    #[must_use]
    pub fn log_prob(&self, mean: &[f32], action: &[f32]) -> f32 {
        let mut squares = 0.0;
        for ((action, mean), std) in action.iter().zip(mean).zip(&self.std) {
            let z = (f64::from(*action) - f64::from(*mean)) / f64::from(*std);
            squares += z * z;
        }
        (self.log_normaliser - 0.5 * squares) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds::Purpose;

    fn stream(position: u64) -> Random {
        Random::derive(11, Purpose::Action, 0, position)
    }

    #[test]
    fn samples_follow_the_softmax() {
        let logits = [0.3_f32, -1.2, 2.0, 0.0, 1.1];
        let categorical = Categorical::new(&logits);
        let draws = 100_000;
        let mut counts = [0_u32; 5];
        for position in 0..draws {
            counts[categorical.sample(&mut stream(position))] += 1;
        }
        let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let chi_square: f64 = logits
            .iter()
            .zip(counts)
            .map(|(logit, count)| {
                let expected = draws as f64 * f64::from(*logit).exp() / total;
                (f64::from(count) - expected).powi(2) / expected
            })
            .sum();
        // The 99.9th percentile of chi-square with four degrees of freedom.
        assert!(chi_square < 18.47, "{chi_square} from {counts:?}");
    }

    #[test]
    fn categorical_log_probs_agree_with_binary64() {
        for logits in [
            vec![0.0_f32],
            vec![1.5, -0.5],
            vec![1000.0, 999.0, -1000.0],
            (0..300).map(|i| (i as f32 * 0.37).sin() * 8.0).collect(),
        ] {
            let max = logits.iter().copied().fold(f32::MIN, f32::max);
            let total: f64 = logits
                .iter()
                .map(|l| (f64::from(*l) - f64::from(max)).exp())
                .sum();
            let categorical = Categorical::new(&logits);
            for (action, logit) in logits.iter().enumerate() {
                let exact = f64::from(*logit) - f64::from(max) - total.ln();
                let got = f64::from(categorical.log_prob(action));
                assert!(
                    (got - exact).abs() <= 3e-7 * exact.abs().max(1.0),
                    "{got} {exact}"
                );
            }
        }
    }

    #[test]
    fn impossible_actions_are_never_drawn() {
        let logits = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
        let categorical = Categorical::new(&logits);
        assert!((0..1000).all(|position| categorical.sample(&mut stream(position)) == 1));
        assert_eq!(categorical.log_prob(1), 0.0);
        assert_eq!(categorical.log_prob(0), f32::NEG_INFINITY);
    }

    #[test]
    fn what_a_mask_forbids_is_as_if_it_were_not_there() {
        let (logits, mask) = ([9.0, 0.3, f32::NAN, -1.2], [0.0, 1.0, 0.0, 1.0]);
        let masked = Categorical::among(&logits, Possible::masked(&mask));
        let rest = [0.3, -1.2];
        let rest = Categorical::new(&rest);
        for position in 0..1000 {
            let drawn = masked.sample(&mut stream(position));
            assert_eq!(drawn, 2 * rest.sample(&mut stream(position)) + 1);
        }
        for (action, expected) in [(1, rest.log_prob(0)), (3, rest.log_prob(1))] {
            assert_eq!(masked.log_prob(action).to_bits(), expected.to_bits());
        }
        assert_eq!(masked.log_prob(0), f32::NEG_INFINITY);
        assert_eq!(mode_among(&logits, Possible::masked(&mask)), Some(1));
        let none = Categorical::among(&logits, Possible::masked(&[0.0; 4]));
        assert!(none.log_prob(none.sample(&mut stream(0))).is_nan());
    }

    #[test]
    fn logits_without_a_distribution_give_the_last_action_and_nan() {
        for logits in [
            [f32::NAN, 0.0, 1.0],
            [0.0, f32::NAN, 1.0],
            [0.0, f32::INFINITY, 1.0],
            [f32::NEG_INFINITY; 3],
        ] {
            let categorical = Categorical::new(&logits);
            assert_eq!(categorical.sample(&mut stream(0)), 2);
            assert!(categorical.log_prob(2).is_nan(), "{logits:?}");
        }
    }

    #[test]
    fn the_mode_is_the_first_of_the_largest() {
        assert_eq!(mode(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(mode(&[0.0, f32::NAN, 1.0]), 2);
        assert_eq!(mode(&[f32::NAN, 0.0, 1.0]), 0);
    }

    #[test]
    fn gaussian_samples_have_their_mean_and_deviation() {
        let mean = [0.5_f32, -2.0, 10.0];
        let log_std = [0.0_f32, -1.0, 0.7];
        let gaussian = DiagonalGaussian::new(&log_std);
        let draws = 50_000_u64;
        let (mut sum, mut squares, mut products) = ([0.0; 3], [0.0; 3], 0.0);
        for position in 0..draws {
            let mut action = [0.0; 3];
            gaussian.sample(&mean, &mut stream(position), &mut action);
            let z: [f64; 3] = std::array::from_fn(|i| {
                (f64::from(action[i]) - f64::from(mean[i])) / f64::from(log_std[i]).exp()
            });
            for i in 0..3 {
                sum[i] += z[i];
                squares[i] += z[i] * z[i];
            }
            products += z[0] * z[1] + z[1] * z[2];
        }
        let draws = draws as f64;
        for i in 0..3 {
            // Four standard errors: 4 / sqrt(n) and 4 sqrt(2 / n).
            assert!((sum[i] / draws).abs() < 0.018, "{i}: {}", sum[i] / draws);
            assert!(
                (squares[i] / draws - 1.0).abs() < 0.026,
                "{i}: {}",
                squares[i] / draws
            );
        }
        assert!((products / draws).abs() < 0.026);
    }

    #[test]
    fn gaussian_log_probs_agree_with_binary64() {
        let mean = [0.5_f32, -2.0, 10.0];
        let log_std = [0.0_f32, -1.0, 0.7];
        let gaussian = DiagonalGaussian::new(&log_std);
        for position in 0..100 {
            let mut action = [0.0; 3];
            gaussian.sample(&mean, &mut stream(position), &mut action);
            let exact: f64 = (0..3)
                .map(|i| {
                    let (log_std, std) = (f64::from(log_std[i]), f64::from(log_std[i]).exp());
                    let z = (f64::from(action[i]) - f64::from(mean[i])) / std;
                    -0.5 * z * z - log_std - 0.5 * std::f64::consts::TAU.ln()
                })
                .sum();
            let got = f64::from(gaussian.log_prob(&mean, &action));
            assert!(
                (got - exact).abs() <= 5e-7 * exact.abs().max(1.0),
                "{got} {exact}"
            );
        }
    }
}
