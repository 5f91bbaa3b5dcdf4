//! The options of the replay store.

use serde::{Deserialize, Serialize};

use super::units::{ByteSize, or_none};

/// Which goals that an episode did achieve take the place of the one that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HindsightStrategy {
    /// None: every item keeps its goal.
    None,
    /// The goal achieved at the end of the episode.
    Final,
    /// A goal achieved from the item's own step on.
    Future,
    /// A goal achieved anywhere in the episode.
    Episode,
}

/// `[replay]`: what off-policy algorithms keep and how they sample it. On-policy ones ignore it.
///
/// # Source
/// Schaul, Quan, Antonoglou and Silver 2016, "Prioritized experience replay", for priorities;
/// Andrychowicz et al. 2017, "Hindsight experience replay"; Cassirer et al. 2021, "Reverb: a
/// framework for experience replay", for the ratio of samples to insertions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayConfiguration {
    /// Steps that are kept, over all environments; the oldest make room for new ones. The
    /// observation in which a truncated episode ended counts as one more. \[`1000000`\]
    pub capacity: usize,
    /// Memory that they may take, priorities included; whichever limit is reached first holds.
    /// \[`"4GiB"`\]
    pub capacity_bytes: ByteSize,
    /// Steps of reward that are summed before the value of a later observation is taken. \[`1`\]
    pub n_step: usize,
    /// Whether items are drawn after the size of their error instead of uniformly. \[`false`\]
    pub prioritised: bool,
    /// How far priorities count: 0 is uniform, 1 in proportion. \[`0.6`\]
    pub priority_alpha: f64,
    /// How far importance weights undo the priorities at the start of the run; 1 is wholly. \[`0.4`\]
    pub priority_beta_start: f64,
    /// The same at `run.total_env_steps`; between the two it changes linearly. \[`1.0`\]
    pub priority_beta_end: f64,
    /// What is added to an error's size, in units of the error. \[`1e-6`\]
    pub priority_epsilon: f64,
    /// Where goals of hindsight come from; needs an environment with a goal. \[`"none"`\]
    pub hindsight: HindsightStrategy,
    /// Items with a goal of hindsight for each one with its own. \[`4`\]
    pub hindsight_goals: u32,
    /// Items that must be there before the first is sampled. \[`1000`\]
    pub minimum_size: u64,
    /// Items sampled for each one inserted, which bounds both sides of an asynchronous run; none:
    /// neither waits for the other. \[none\]
    #[serde(serialize_with = "or_none")]
    pub samples_per_insert: Option<f64>,
    /// How far the samples may be ahead or behind, in sampled items; none: as far as half of
    /// `minimum_size` insertions bring. \[none\]
    #[serde(serialize_with = "or_none")]
    pub samples_per_insert_tolerance: Option<f64>,
    /// Whether checkpoints hold the store; without it a resumed run fills it anew and differs from
    /// one that was never interrupted. \[`true`\]
    pub in_checkpoint: bool,
}

impl ReplayConfiguration {
    /// The tolerance that is set, or half of the samples that the minimum size stands for; none
    /// where the ratio is not bounded.
    #[must_use]
    pub fn tolerance(&self) -> Option<f64> {
        let ratio = self.samples_per_insert?;
        Some(
            self.samples_per_insert_tolerance
                .unwrap_or(0.5 * ratio * self.minimum_size as f64),
        )
    }

    /// How far importance weights undo the priorities after this share of the run.
    #[must_use]
    pub fn beta(&self, progress: f64) -> f64 {
        let (start, end) = (self.priority_beta_start, self.priority_beta_end);
        start + (end - start) * progress.clamp(0.0, 1.0)
    }
}

impl Default for ReplayConfiguration {
    fn default() -> Self {
        Self {
            capacity: 1_000_000,
            capacity_bytes: ByteSize::from_mib(4096),
            n_step: 1,
            prioritised: false,
            priority_alpha: 0.6,
            priority_beta_start: 0.4,
            priority_beta_end: 1.0,
            priority_epsilon: 1e-6,
            hindsight: HindsightStrategy::None,
            hindsight_goals: 4,
            minimum_size: 1000,
            samples_per_insert: None,
            samples_per_insert_tolerance: None,
            in_checkpoint: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t28_beta_is_annealed_linearly_and_stays_at_its_end() {
        let replay = ReplayConfiguration::default();
        assert_eq!(replay.beta(0.0), 0.4);
        assert!((replay.beta(0.5) - 0.7).abs() < 1e-12);
        assert_eq!(replay.beta(1.0), 1.0);
        assert_eq!(replay.beta(7.0), 1.0);
    }

    #[test]
    fn the_tolerance_follows_the_minimum_size_unless_it_is_set() {
        let mut replay = ReplayConfiguration::default();
        assert_eq!(replay.tolerance(), None);
        replay.samples_per_insert = Some(8.0);
        assert_eq!(replay.tolerance(), Some(4000.0));
        replay.samples_per_insert_tolerance = Some(100.0);
        assert_eq!(replay.tolerance(), Some(100.0));
    }
}
