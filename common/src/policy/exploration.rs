//! How the actions that are collected differ from those that the policy prefers.
//!
//! The run has one [`Exploration`], agreed on at Join; its changing numbers travel with each
//! version as named *acting scalars*. Together they are the version's [`Acting`], which says what
//! the [`Behaviour`] in a shard is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Head, PolicySpec};
use crate::unroll::ShardId;

/// The acting scalar that holds the probability of a uniformly drawn action, from 0 to 1; every
/// version has it where [`Exploration::EpsilonGreedy`] has no epsilon for each shard.
pub const EPSILON: &str = "epsilon";

/// The acting scalar that says whether every action is drawn uniformly from the action space,
/// whatever the exploration: 1 for the versions before learning starts, 0 or absent otherwise.
pub const UNIFORM: &str = "uniform";

/// The acting scalar that says for how many steps of an environment a draw is held: 1, or absent, for
/// independent draws. The same numbers then decide the actions of that many steps, so what a policy
/// tries it tries for long enough to see what comes of it.
pub const NOISE_HOLD: &str = "noise_hold";

/// How a run explores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Exploration {
    /// By the policy's own distribution: draws of a stochastic head, the greedy action of action
    /// values (which a noisy network varies), the output of a deterministic head.
    #[default]
    None,
    /// Action values: a uniformly drawn action with probability epsilon, else the greedy one.
    EpsilonGreedy {
        /// An epsilon for each shard; absent: every version brings its own as [`EPSILON`].
        per_shard: Option<ApeX>,
    },
    /// Deterministic policies: normal noise on every dimension, clipped to the bounds.
    GaussianNoise {
        /// Standard deviation in units of half the distance between the bounds.
        std: f64,
    },
}

/// Epsilons that differ from shard to shard: `base^(1 + alpha i / (N - 1))` for shard `i` of `N`.
///
/// # Source
/// Horgan et al. 2018, "Distributed prioritized experience replay", section 4.1, with `base` 0.4 and
/// `alpha` 7. There an actor has an epsilon; here it is the shard's, so that neither the number of
/// actors nor who holds a shard changes it (T30). Shards beyond `N` begin the series again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApeX {
    /// The largest epsilon, above 0 and at most 1.
    pub base: f64,
    /// How far the exponents spread, at least 0.
    pub alpha: f64,
    /// Shards in the series, `N`, at least 1.
    pub num_shards: u32,
}

impl ApeX {
    /// The epsilon of a shard. A series of one shard has `base`.
    #[must_use]
    pub fn epsilon(&self, shard: ShardId) -> f64 {
        let place = shard.0 % self.num_shards;
        let last = self.num_shards - 1;
        let spread = if last == 0 {
            0.0
        } else {
            self.alpha * f64::from(place) / f64::from(last)
        };
        libm::pow(self.base, 1.0 + spread)
    }
}

/// Why a version cannot be acted with as the run explores.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{field}` is {got}, expected {expected}")]
pub struct ExplorationError {
    /// The exploration's option, or the acting scalar.
    pub field: &'static str,
    /// What would be sound.
    pub expected: String,
    /// What came.
    pub got: String,
}

impl Exploration {
    /// Checks that every number is in range and that the head's actions can be explored like this.
    ///
    /// # Errors
    /// The first violation.
    pub fn validate(&self, head: &Head) -> Result<(), ExplorationError> {
        let (suits, name) = match self {
            Self::None => (true, "none"),
            Self::EpsilonGreedy { .. } => {
                (matches!(head, Head::ActionValues { .. }), "epsilon_greedy")
            }
            Self::GaussianNoise { .. } => {
                (matches!(head, Head::Deterministic { .. }), "gaussian_noise")
            }
        };
        if !suits {
            return Err(ExplorationError {
                field: "exploration",
                expected: format!("one that suits the head {}", head.name()),
                got: name.to_owned(),
            });
        }
        let out_of_range = |field, expected: &str, got: String| {
            Err(ExplorationError {
                field,
                expected: expected.to_owned(),
                got,
            })
        };
        match *self {
            Self::GaussianNoise { std } if !(std > 0.0 && std.is_finite()) => out_of_range(
                "exploration.gaussian_noise.std",
                "a number above 0 (without noise there is no exploration: none)",
                std.to_string(),
            ),
            Self::EpsilonGreedy {
                per_shard: Some(series),
            } => {
                if !(series.base > 0.0 && series.base <= 1.0) {
                    out_of_range(
                        "exploration.epsilon_greedy.per_shard.base",
                        "a number above 0 and at most 1",
                        series.base.to_string(),
                    )
                } else if !(series.alpha >= 0.0 && series.alpha.is_finite()) {
                    out_of_range(
                        "exploration.epsilon_greedy.per_shard.alpha",
                        "a number from 0 on",
                        series.alpha.to_string(),
                    )
                } else if series.num_shards == 0 {
                    out_of_range(
                        "exploration.epsilon_greedy.per_shard.num_shards",
                        "at least 1",
                        "0".to_owned(),
                    )
                } else {
                    Ok(())
                }
            }
            Self::None | Self::EpsilonGreedy { .. } | Self::GaussianNoise { .. } => Ok(()),
        }
    }
}

/// How the actions of one shard are chosen with one version.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    /// As [`Exploration::None`] says.
    OnPolicy,
    /// Uniformly from the action space.
    Uniform,
    /// As [`Exploration::EpsilonGreedy`] says.
    EpsilonGreedy {
        /// Probability of a uniformly drawn action.
        epsilon: f64,
    },
    /// As [`Exploration::GaussianNoise`] says.
    GaussianNoise {
        /// Standard deviation in units of half the distance between the bounds.
        std: f64,
    },
}

/// The exploration of one version: the run's, with the version's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Acting {
    exploration: Exploration,
    epsilon: f64,
    uniform: bool,
    noise_hold: u64,
}

impl Acting {
    /// Takes what it needs from the acting scalars of a version; others are left alone.
    ///
    /// # Errors
    /// Where the exploration does not suit the policy, or a scalar is absent or out of range.
    pub fn new(
        spec: &PolicySpec,
        exploration: &Exploration,
        scalars: &BTreeMap<String, f64>,
    ) -> Result<Self, ExplorationError> {
        exploration.validate(&spec.head)?;
        let epsilon = match exploration {
            Exploration::EpsilonGreedy { per_shard: None } => match scalars.get(EPSILON) {
                Some(epsilon) if (0.0..=1.0).contains(epsilon) => *epsilon,
                other => {
                    return Err(ExplorationError {
                        field: "acting.epsilon",
                        expected: "a probability from 0 to 1 with every version".to_owned(),
                        got: other.map_or_else(|| "absent".to_owned(), f64::to_string),
                    });
                }
            },
            _ => 0.0,
        };
        let uniform = scalars.get(UNIFORM).copied().unwrap_or(0.0);
        let bounded = spec.head.num_actions().is_some() || spec.head.bounds().is_some();
        if !(uniform == 0.0 || uniform == 1.0 && bounded) {
            let expected = if bounded {
                "0 or 1".to_owned()
            } else {
                format!("0: {} has no bounds to draw between", spec.head.name())
            };
            return Err(ExplorationError {
                field: "acting.uniform",
                expected,
                got: uniform.to_string(),
            });
        }
        let noise_hold = scalars.get(NOISE_HOLD).copied().unwrap_or(1.0);
        if !(noise_hold.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&noise_hold)) {
            return Err(ExplorationError {
                field: "acting.noise_hold",
                expected: "a whole number of steps, at least 1".to_owned(),
                got: noise_hold.to_string(),
            });
        }
        Ok(Self {
            exploration: *exploration,
            epsilon,
            uniform: uniform == 1.0,
            noise_hold: noise_hold as u64,
        })
    }

    /// The step whose draw decides the action of `step`: the first of those that share it.
    #[must_use]
    pub fn draw_of(&self, step: u64) -> u64 {
        step - step % self.noise_hold
    }

    /// How actions are chosen in a shard, whoever holds it.
    #[must_use]
    pub fn behaviour(&self, shard: ShardId) -> Behaviour {
        match self.exploration {
            _ if self.uniform => Behaviour::Uniform,
            Exploration::None => Behaviour::OnPolicy,
            Exploration::EpsilonGreedy { per_shard } => Behaviour::EpsilonGreedy {
                epsilon: per_shard.map_or(self.epsilon, |series| series.epsilon(shard)),
            },
            Exploration::GaussianNoise { std } => Behaviour::GaussianNoise { std },
        }
    }
}
