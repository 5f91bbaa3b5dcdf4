//! What the rules look at, whatever the algorithm calls it.

use crate::algorithms::Statistics;

/// Updates over which a figure is averaged: one update says little.
pub(super) const SMOOTHED_UPDATES: u32 = 20;

/// One update's figures; what an algorithm does not know is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Signals {
    pub(super) entropy: Option<f64>,
    pub(super) value_loss: Option<f64>,
    pub(super) explained_variance: Option<f64>,
    pub(super) approximate_kl: Option<f64>,
    pub(super) clip_fraction: Option<f64>,
    pub(super) q_mean: Option<f64>,
    pub(super) temperature: Option<f64>,
    pub(super) target_entropy: Option<f64>,
    pub(super) learning_rate: f64,
    pub(super) replay_size: Option<u64>,
    pub(super) gradient_steps: u64,
    pub(super) skipped_steps: u64,
}

impl From<&Statistics> for Signals {
    fn from(statistics: &Statistics) -> Self {
        let counted = Self {
            gradient_steps: statistics.gradient_steps(),
            skipped_steps: statistics.skipped_steps(),
            ..Self::default()
        };
        match statistics {
            Statistics::Ppo(of) => Self {
                entropy: Some(of.entropy),
                value_loss: Some(of.value_loss),
                explained_variance: of.explained_variance,
                approximate_kl: Some(of.approximate_kl),
                clip_fraction: Some(of.clip_fraction),
                learning_rate: of.learning_rate,
                ..counted
            },
            Statistics::Impala(of) => Self {
                entropy: Some(of.entropy),
                value_loss: Some(of.value_loss),
                explained_variance: of.explained_variance,
                learning_rate: of.learning_rate,
                ..counted
            },
            Statistics::A2c(of) => Self {
                entropy: of.step.entropy,
                value_loss: of.step.value_loss,
                explained_variance: of.explained_variance,
                learning_rate: of.step.learning_rate,
                ..counted
            },
            Statistics::Reinforce(of) => Self {
                entropy: of.step.entropy,
                value_loss: of.step.value_loss,
                explained_variance: of.explained_variance,
                learning_rate: of.step.learning_rate,
                ..counted
            },
            Statistics::Dqn(of) => Self {
                q_mean: of.q_mean,
                learning_rate: of.learning_rate,
                replay_size: Some(of.replay.replay_size),
                ..counted
            },
            Statistics::Sac(of) => Self {
                entropy: of.entropy,
                q_mean: of.critics.q_mean,
                temperature: Some(of.temperature),
                target_entropy: Some(of.target_entropy),
                learning_rate: of.learning_rate,
                replay_size: Some(of.replay.replay_size),
                ..counted
            },
            Statistics::Td3(of) => Self {
                q_mean: of.critics.q_mean,
                learning_rate: of.learning_rate,
                replay_size: Some(of.replay.replay_size),
                ..counted
            },
            Statistics::Tabular(of) => Self {
                q_mean: Some(of.q_mean),
                learning_rate: of.learning_rate,
                ..counted
            },
        }
    }
}

/// A running mean: of all values until there are [`SMOOTHED_UPDATES`], then exponential with that
/// constant. Values that are not finite are another rule's business.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Smoothed {
    mean: f64,
    count: u32,
}

impl Smoothed {
    pub(super) fn push(&mut self, value: Option<f64>) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            self.count = (self.count + 1).min(SMOOTHED_UPDATES);
            self.mean += (value - self.mean) / f64::from(self.count);
        }
    }

    pub(super) fn get(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_follows_within_twenty_values_and_passes_over_what_is_none() {
        let mut smoothed = Smoothed::default();
        assert_eq!(smoothed.get(), None);
        for value in [1.0, 2.0, 3.0] {
            smoothed.push(Some(value));
            smoothed.push(None);
            smoothed.push(Some(f64::NAN));
            smoothed.push(Some(f64::INFINITY));
        }
        assert_eq!(smoothed.get(), Some(2.0));
        for _ in 0..20 {
            smoothed.push(Some(10.0));
        }
        let mean = smoothed.get().unwrap();
        assert!((6.0..10.0).contains(&mean), "{mean}");
    }
}
