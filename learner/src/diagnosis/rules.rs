//! The rules: names, thresholds and how long each one waits.

use std::fmt;

use rookery_common::configuration::Configuration;
use rookery_common::policy::PolicySpec;
use rookery_common::policy::spec::Head;
use serde::Serialize;

use super::standing::Patience;

/// What can look sick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The policy hardly explores any more, early in the run, and does not get better.
    EntropyCollapsed,
    /// The loss of the values grows, and they err by more than the returns vary.
    ValueLossDiverges,
    /// For long the values have told less than their mean would.
    ValuesUseless,
    /// Updates move the policy too far from the one that acted.
    PolicyJumps,
    /// Most rows are clipped and teach nothing.
    ClippedTooOften,
    /// Updates hardly move the policy.
    NeverClipped,
    /// Gradients were not finite.
    GradientsNotFinite,
    /// Training is much slower than it was, with as many collector threads.
    ThroughputFell,
    /// Action values are larger than any return can be.
    QValuesExplode,
    /// Entropy counts for more than any reward.
    TemperatureExplodes,
    /// Entropy counts for nothing although there is too little of it.
    TemperatureCollapsed,
    /// Too few gradient steps are taken for want of what can be sampled.
    ReplayStarved,
}

/// The share of the largest entropy of discrete actions, and of the standard deviation of continuous ones
/// at the start, below which a policy explores no more.
pub(super) const COLLAPSED_RATIO: f64 = 0.05;
/// The share of the run up to which a collapse is early.
pub(super) const EARLY_SHARE: f64 = 0.5;
/// The least loss of the values so far, times this, is too much.
pub(super) const DIVERGED_RATIO: f64 = 10.0;
/// Explained variance below which the values do not merely lag behind returns that grow: their errors vary
/// twice as much as the returns do.
pub(super) const DIVERGED_VARIANCE: f64 = -1.0;
/// Approximate divergence, in nats, that no run that learns comes to, where no target is configured.
pub(super) const MAX_APPROXIMATE_KL: f64 = 0.1;
/// The configured target of the divergence, times this, is too much: PPO ends an update there.
pub(super) const TARGET_KL_MARGIN: f64 = 1.5;
/// Share of clipped rows that is too large.
pub(super) const MAX_CLIP_FRACTION: f64 = 0.5;
/// Share of clipped rows that is too small.
pub(super) const MIN_CLIP_FRACTION: f64 = 0.001;
/// Share of the configured step size below which updates are meant to hardly move the policy.
pub(super) const ANNEALED_RATIO: f64 = 0.25;
/// Action values beyond this multiple of the largest possible return are overestimated.
pub(super) const MAX_Q_RATIO: f64 = 2.0;
/// A temperature beyond this multiple of both its start and the largest reward leaves the reward no say.
pub(super) const MAX_TEMPERATURE_RATIO: f64 = 10.0;
/// A temperature below this share of the largest reward has no say.
pub(super) const MIN_TEMPERATURE_RATIO: f64 = 1e-4;
/// Share of the configured gradient steps below which too few are taken.
pub(super) const STARVED_RATIO: f64 = 0.5;

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 12] = [
        Self::EntropyCollapsed,
        Self::ValueLossDiverges,
        Self::ValuesUseless,
        Self::PolicyJumps,
        Self::ClippedTooOften,
        Self::NeverClipped,
        Self::GradientsNotFinite,
        Self::ThroughputFell,
        Self::QValuesExplode,
        Self::TemperatureExplodes,
        Self::TemperatureCollapsed,
        Self::ReplayStarved,
    ];

    /// Its name in metrics and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EntropyCollapsed => "entropy_collapsed",
            Self::ValueLossDiverges => "value_loss_diverges",
            Self::ValuesUseless => "values_useless",
            Self::PolicyJumps => "policy_jumps",
            Self::ClippedTooOften => "clipped_too_often",
            Self::NeverClipped => "never_clipped",
            Self::GradientsNotFinite => "gradients_not_finite",
            Self::ThroughputFell => "throughput_fell",
            Self::QValuesExplode => "q_values_explode",
            Self::TemperatureExplodes => "temperature_explodes",
            Self::TemperatureCollapsed => "temperature_collapsed",
            Self::ReplayStarved => "replay_starved",
        }
    }

    /// How long it must look so before it is said.
    #[must_use]
    pub const fn patience(self) -> Patience {
        let (updates, share, minutes) = match self {
            Self::GradientsNotFinite | Self::ThroughputFell => return Patience::NONE,
            Self::PolicyJumps | Self::QValuesExplode => (20, 0.05, 5.0),
            Self::EntropyCollapsed
            | Self::ValueLossDiverges
            | Self::ClippedTooOften
            | Self::TemperatureExplodes
            | Self::TemperatureCollapsed => (20, 0.05, 10.0),
            Self::ReplayStarved => (50, 0.2, 10.0),
            Self::ValuesUseless | Self::NeverClipped => (50, 0.25, 30.0),
        };
        Patience {
            updates,
            share,
            seconds: 60.0 * minutes,
        }
    }

    /// How long it must look well before that is said.
    #[must_use]
    pub const fn clearance(self) -> Patience {
        match self {
            Self::GradientsNotFinite => Self::PolicyJumps.patience(),
            _ => self.patience(),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The entropy, in nats, below which a policy explores no more; `None` of one that has none.
///
/// Of discrete actions that is a share of the largest that there is, `ln n` for each choice. The entropy of
/// continuous ones has no least value: there it is that of a policy all of whose standard deviations are
/// that share of what they start with, or, of a squashed one, of those of uniform actions.
pub(super) fn collapsed_entropy(configuration: &Configuration, policy: &PolicySpec) -> Option<f64> {
    let nats = |num_actions: usize| (num_actions as f64).ln();
    match &policy.head {
        Head::Categorical { num_actions } => Some(COLLAPSED_RATIO * nats(*num_actions)),
        Head::MultiCategorical { num_actions } => {
            Some(COLLAPSED_RATIO * num_actions.iter().map(|n| nats(*n)).sum::<f64>())
        }
        Head::DiagonalGaussian { dimension } => {
            // The entropy of a normal distribution, ln(sigma sqrt(2 pi e)).
            let of_unit = 0.5 * (2.0 * std::f64::consts::PI * std::f64::consts::E).ln();
            let at_start = of_unit + configuration.policy.initial_log_std;
            Some(*dimension as f64 * (at_start + COLLAPSED_RATIO.ln()))
        }
        Head::SquashedGaussian { low, .. } => {
            // Uniform on (-1, 1).
            Some(low.len() as f64 * (std::f64::consts::LN_2 + COLLAPSED_RATIO.ln()))
        }
        Head::ActionValues { .. } | Head::Deterministic { .. } => None,
    }
}
