//! Choosing among discrete actions by what they are worth.

#![expect(
    clippy::inline_always,
    reason = "choosing must be compiled with the vector instructions of its caller"
)]

use super::distribution::Possible;
use super::head::ValueDistribution;
use super::math;

/// What one row of outputs says that each action is worth.
///
/// # Shapes
/// The row is `[num_actions, outputs]`; see [`Head::ActionValues`](super::Head::ActionValues).
#[derive(Clone, Copy, Debug)]
pub struct ActionValues<'a> {
    outputs: &'a [f32],
    distribution: ValueDistribution,
    possible: Possible<'a>,
}

/// The action of the largest value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greedy {
    /// The first possible action of the largest value. NaN counts as smaller than everything, except in
    /// first place, where it wins.
    pub action: usize,
    /// Whether there is a possible action, and the value of every one is finite.
    pub is_sound: bool,
}

impl<'a> ActionValues<'a> {
    /// Reads a row of outputs.
    #[inline(always)]
    #[must_use]
    pub fn new(outputs: &'a [f32], distribution: ValueDistribution) -> Self {
        Self {
            outputs,
            distribution,
            possible: Possible::ALL,
        }
    }

    /// These, of which only `possible` ones are chosen.
    #[inline(always)]
    #[must_use]
    pub(super) fn among(mut self, possible: Possible<'a>) -> Self {
        self.possible = possible;
        self
    }

    /// Number of actions.
    #[inline(always)]
    #[must_use]
    pub fn num_actions(&self) -> usize {
        self.outputs.len() / self.distribution.num_outputs()
    }

    /// The expected return after `action`: the output itself, the mean of the categorical
    /// distribution, or the mean of the quantiles.
    ///
    /// # Panics
    /// If there is no such action.
    #[inline(always)]
    #[must_use]
    pub fn value(&self, action: usize) -> f32 {
        let width = self.distribution.num_outputs();
        let outputs = &self.outputs[action * width..][..width];
        match self.distribution {
            ValueDistribution::Expectation => outputs[0],
            ValueDistribution::Categorical { v_min, v_max, .. } => {
                categorical_mean(outputs, v_min.into(), v_max.into())
            }
            ValueDistribution::Quantiles { .. } => {
                let sum: f64 = outputs.iter().map(|quantile| f64::from(*quantile)).sum();
                (sum / width as f64) as f32
            }
        }
    }

    /// The action of the largest value.
    #[inline(always)]
    #[must_use]
    pub fn greedy(&self) -> Greedy {
        let num_actions = self.num_actions();
        let Some(first) = self.possible.nth(0, num_actions) else {
            return Greedy {
                action: num_actions - 1,
                is_sound: false,
            };
        };
        let mut largest = self.value(first);
        let mut greedy = Greedy {
            action: first,
            is_sound: largest.is_finite(),
        };
        for action in (first + 1..num_actions).filter(|action| self.possible.contains(*action)) {
            let value = self.value(action);
            greedy.is_sound &= value.is_finite();
            if value > largest {
                greedy.action = action;
                largest = value;
            }
        }
        greedy
    }
}

/// The mean of the softmax of `logits` over equally spaced returns.
#[inline(always)]
fn categorical_mean(logits: &[f32], v_min: f64, v_max: f64) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let step = (v_max - v_min) / (logits.len() - 1) as f64;
    let (mut total, mut sum) = (0.0, 0.0);
    for (atom, logit) in logits.iter().enumerate() {
        let weight = f64::from(math::exp(*logit - max));
        total += weight;
        sum += weight * (v_min + atom as f64 * step);
    }
    (sum / total) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_distribution_is_acted_on_by_its_mean() {
        let values = |distribution, outputs: &[f32]| -> Vec<f32> {
            let values = ActionValues::new(outputs, distribution);
            (0..values.num_actions())
                .map(|action| values.value(action))
                .collect()
        };
        let expectation = ValueDistribution::Expectation;
        assert_eq!(values(expectation, &[1.0, -2.0]), [1.0, -2.0]);
        let quantiles = ValueDistribution::Quantiles { num_quantiles: 3 };
        assert_eq!(
            values(quantiles, &[1.0, 2.0, 6.0, 0.0, 0.0, -3.0]),
            [3.0, -1.0]
        );
        let categorical = ValueDistribution::Categorical {
            num_atoms: 3,
            v_min: -10.0,
            v_max: 10.0,
        };
        // Weights 1:1:1, then 1:1:2, then all on the last.
        let ln_2 = std::f32::consts::LN_2;
        let outputs = [5.0, 5.0, 5.0, 0.0, 0.0, ln_2, -1e30, 0.0, 1e30];
        let got = values(categorical, &outputs);
        assert_eq!((got[0], got[2]), (0.0, 10.0));
        assert!((got[1] - 2.5).abs() < 1e-6, "{}", got[1]);
    }

    #[test]
    fn the_greedy_action_is_the_first_of_the_largest_value() {
        let greedy = |outputs: &[f32]| {
            let greedy = ActionValues::new(outputs, ValueDistribution::Expectation).greedy();
            (greedy.action, greedy.is_sound)
        };
        assert_eq!(greedy(&[1.0, 3.0, 3.0, 2.0]), (1, true));
        assert_eq!(greedy(&[-1.0, f32::NAN, 0.0]), (2, false));
        assert_eq!(greedy(&[f32::NAN, 1.0]), (0, false));
        assert_eq!(greedy(&[f32::INFINITY, 1.0]), (0, false));
    }

    #[test]
    fn impossible_actions_are_never_greedy() {
        let greedy = |outputs: &[f32], mask: &[f32]| {
            let values = ActionValues::new(outputs, ValueDistribution::Expectation);
            let greedy = values.among(Possible::masked(mask)).greedy();
            (greedy.action, greedy.is_sound)
        };
        assert_eq!(greedy(&[5.0, 1.0, 2.0], &[0.0, 1.0, 1.0]), (2, true));
        assert_eq!(greedy(&[f32::NAN, 1.0, 2.0], &[0.0, 1.0, 0.0]), (1, true));
        assert_eq!(greedy(&[5.0, 1.0, 2.0], &[0.0; 3]), (2, false));
    }

    #[test]
    fn a_distribution_that_overflowed_is_not_sound() {
        let categorical = ValueDistribution::Categorical {
            num_atoms: 2,
            v_min: 0.0,
            v_max: 1.0,
        };
        for outputs in [
            [f32::NAN, 0.0, 0.0, 0.0],
            [0.0, 0.0, f32::INFINITY, 0.0],
            [f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0, 0.0],
        ] {
            assert!(!ActionValues::new(&outputs, categorical).greedy().is_sound);
        }
    }
}
