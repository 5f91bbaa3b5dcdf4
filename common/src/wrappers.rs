//! What can be put around an environment, in the words of a configuration: [`Wrapper`] says which
//! and with what settings, the actor's environments say how.
//!
//! Wrappers stand in a list; the first is put around the environment, the second around both, and
//! so on. So actions pass the list from its end to its beginning, and observations and rewards from
//! its beginning to its end. The list is part of what an environment is
//! ([`EnvironmentSpec::wrappers`](crate::spaces::EnvironmentSpec::wrappers)).
//!
//! In a configuration a wrapper is a table whose `kind` names the variant in `snake_case`:
//!
//! ```toml
//! [[environment.wrappers]]
//! kind = "frame_skip"
//! frames = 4
//!
//! [[environment.wrappers]]
//! kind = "frame_stack"
//! size = 4
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// Most wrappers around one environment.
const MAX_WRAPPERS: usize = 32;
/// Most frames that a skip takes or a stack holds, and most no-ops of a start.
const MAX_FRAMES: u32 = 1024;
/// Largest magnitude of a bound or a factor.
const MAX_MAGNITUDE: f64 = 1e30;

/// Something around an environment that changes what goes in or what comes out.
///
/// Those that change neither what is observed nor what is done can be `training_only`: evaluation
/// then plays without them, as it always does without [`EpisodicLife`](Self::EpisodicLife). For all others there is no such key, because the policy would meet
/// observations or actions that it has not learnt with. Rewards that were changed never change what
/// is reported: the return of an episode is the sum of the environment's own rewards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Wrapper {
    /// Truncates episodes after `max_episode_steps` steps, Gymnasium's `TimeLimit`. It can only
    /// shorten them.
    TimeLimit {
        /// Steps, counted where the wrapper stands.
        max_episode_steps: u32,
        /// Whether evaluation does without it. \[`false`\]
        #[serde(default)]
        training_only: bool,
    },
    /// Takes `frames` steps for one and adds up their rewards, Gymnasium's `MaxAndSkipObservation`
    /// where `max_pool` is set. A skip ends with the episode, also where the time limit of what is
    /// inside, which counts frames, falls into it.
    FrameSkip {
        /// Steps of what is inside that make one.
        frames: u32,
        /// Whether the larger of the last two frames is shown, value by value, instead of the last:
        /// for consoles that draw some things in every other frame. \[`false`\]
        #[serde(default)]
        max_pool: bool,
    },
    /// Shows the last `size` observations, the oldest first, Gymnasium's `FrameStackObservation`. A
    /// stack never reaches over the beginning of an episode.
    FrameStack {
        /// Observations in a stack.
        size: u32,
        /// What stands before an episode's first observation. \[`"reset"`\]
        #[serde(default)]
        padding: StackPadding,
    },
    /// Moves rewards into bounds, Gymnasium's `ClipReward`.
    ClipReward {
        /// Smallest reward.
        low: f64,
        /// Largest reward.
        high: f64,
        /// Whether evaluation does without it. \[`false`\]
        #[serde(default)]
        training_only: bool,
    },
    /// Leaves -1, 0 or 1 of a reward: its sign.
    SignReward {
        /// Whether evaluation does without it. \[`false`\]
        #[serde(default)]
        training_only: bool,
    },
    /// Multiplies rewards, Gymnasium's `TransformReward` with a product.
    ScaleReward {
        /// The factor.
        factor: f64,
        /// Whether evaluation does without it. \[`false`\]
        #[serde(default)]
        training_only: bool,
    },
    /// Moves actions into their bounds, Gymnasium's `ClipAction`; for environments that do not do so
    /// themselves, as the native ones do. The action space keeps its bounds, where Gymnasium's loses
    /// them: every box may be sent what lies outside here, and SAC scales its actions by them.
    ClipAction {},
    /// Takes actions from `low` to `high` and scales them to the environment's bounds, Gymnasium's
    /// `RescaleAction`.
    RescaleAction {
        /// What becomes the environment's lower bounds. \[`-1.0`\]
        #[serde(default = "minus_one")]
        low: f64,
        /// What becomes its upper bounds. \[`1.0`\]
        #[serde(default = "one")]
        high: f64,
    },
    /// Makes one choice of several: every combination is an action of its own, the last choice varying
    /// fastest, as NumPy's `unravel_index` counts; for algorithms that learn what each action is worth.
    FlattenAction {},
    /// Does what was done last instead of what was chosen, with some probability, Gymnasium's
    /// `StickyAction`; never in the first step of an episode.
    ///
    /// # Source
    /// Machado, Bellemare, Talvitie, Veness, Hausknecht and Bowling 2018, "Revisiting the arcade
    /// learning environment", section 5.2.
    StickyActions {
        /// The probability, below 1.
        probability: f64,
        /// Whether evaluation does without it. \[`false`\]
        #[serde(default)]
        training_only: bool,
    },
    /// Shows a box as one row and an index as a row of zeros with a one in its place, Gymnasium's
    /// `FlattenObservation`.
    FlattenObservation {},
    /// Moves observations into bounds, Gymnasium's `TransformObservation` with `numpy.clip`.
    ClipObservation {
        /// Smallest value.
        low: f64,
        /// Largest value.
        high: f64,
    },
    /// Scales observations from their bounds to others, Gymnasium's `RescaleObservation`: bytes to
    /// `0..=1`, for instance.
    RescaleObservation {
        /// What the lower bounds become. \[`0.0`\]
        #[serde(default)]
        low: f64,
        /// What the upper bounds become. \[`1.0`\]
        #[serde(default = "one")]
        high: f64,
    },
    /// Rounds observations to the values of a narrower type, Gymnasium's `DtypeObservation`. They
    /// stay `f32` on their way, as all do.
    CastObservation {
        /// The type.
        to: ElementType,
    },
    /// Appends the action of the last step to a flat observation, a discrete one as a row of zeros
    /// with a one in its place; zeros in the first observation of an episode.
    PreviousAction {},
    /// Appends the reward of the last step, as it is where the wrapper stands, to a flat
    /// observation; 0 in the first observation of an episode.
    PreviousReward {},
    /// Takes from one to `max_steps` steps with one action before an episode is shown, as
    /// Gymnasium's `AtariPreprocessing` does. They count neither for the return nor for the time
    /// limit, except for the frames that a `frame_skip` inside counts.
    NoopStarts {
        /// Most steps.
        max_steps: u32,
        /// The discrete action that does nothing. \[`0`\]
        #[serde(default)]
        action: u32,
        /// Whether evaluation does without it. \[`false`\]
        #[serde(default)]
        training_only: bool,
    },
    /// Ends an episode, terminated, with the loss of a life, and begins the next where the game stands; only
    /// after the game does another begin. It must be the last wrapper, stands around what counts lives (Atari's
    /// games), and is always for training alone: evaluation plays whole games. Returns and lengths are
    /// those of whole games in training too, and a time limit is one of games.
    ///
    /// # Source
    /// Mnih et al. 2015, "Human-level control through deep reinforcement learning", methods; rule for rule
    /// `EpisodicLifeEnv` of `OpenAI` Baselines but for its no-op between two lives, which a batch that steps all of
    /// its instances cannot take: a life begins with the frame in which the last was lost.
    EpisodicLife {},
}

/// What stands in a stack of frames before an episode's first observation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StackPadding {
    /// The first observation itself.
    #[default]
    Reset,
    /// Zeros.
    Zero,
}

/// A type that observations can be rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ElementType {
    /// Half precision: 11 significant bits. What is too large becomes its largest number, 65,504,
    /// where `NumPy` makes it infinite.
    Float16,
    /// Whole numbers from 0 to 255, by cutting off what follows the point, as `NumPy` does.
    Uint8,
}

const fn one() -> f64 {
    1.0
}

const fn minus_one() -> f64 {
    -1.0
}

impl Wrapper {
    /// Whether evaluation does without it.
    #[must_use]
    pub const fn is_training_only(&self) -> bool {
        match self {
            Self::TimeLimit { training_only, .. }
            | Self::ClipReward { training_only, .. }
            | Self::SignReward { training_only }
            | Self::ScaleReward { training_only, .. }
            | Self::StickyActions { training_only, .. }
            | Self::NoopStarts { training_only, .. } => *training_only,
            Self::EpisodicLife {} => true,
            Self::FrameSkip { .. }
            | Self::FrameStack { .. }
            | Self::ClipAction {}
            | Self::RescaleAction { .. }
            | Self::FlattenAction {}
            | Self::FlattenObservation {}
            | Self::ClipObservation { .. }
            | Self::RescaleObservation { .. }
            | Self::CastObservation { .. }
            | Self::PreviousAction {}
            | Self::PreviousReward {} => false,
        }
    }

    /// Its `kind` and the value of every setting, as they stand in a configuration.
    ///
    /// # Panics
    /// Never: a wrapper is made of numbers, names and truth values.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "every variant has named fields that TOML can write"
    )]
    pub fn settings(&self) -> (String, Table) {
        let written = Value::try_from(self).expect("a wrapper is made of what TOML can write");
        let variant = match written {
            Value::Table(variant) => variant.into_iter().next(),
            _ => None,
        };
        match variant {
            Some((kind, Value::Table(settings))) => (kind, settings),
            _ => unreachable!("a variant with fields is a table with a table"),
        }
    }

    /// The wrapper of this `kind` with settings as text, which [`settings`](Self::settings) has
    /// given.
    ///
    /// # Errors
    /// What does not fit, in the words of TOML.
    pub fn from_text(
        kind: &str,
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, toml::de::Error> {
        let value = |text: String| text.parse().unwrap_or(Value::String(text));
        let settings: Table = settings
            .into_iter()
            .map(|(key, text)| (key, value(text)))
            .collect();
        let variant = Table::from_iter([(kind.to_owned(), Value::Table(settings))]);
        Self::deserialize(Value::Table(variant))
    }

    /// The settings as text, which [`from_text`](Self::from_text) reads.
    #[must_use]
    pub fn to_text(&self) -> (String, BTreeMap<String, String>) {
        let (kind, settings) = self.settings();
        let text = settings
            .into_iter()
            .map(|(key, value)| (key, value.to_string()));
        (kind, text.collect())
    }
}

impl fmt::Display for Wrapper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, settings) = self.settings();
        formatter.write_str(&kind)?;
        for (index, (key, value)) in settings.iter().enumerate() {
            let separator = if index == 0 { "(" } else { ", " };
            write!(formatter, "{separator}{key} = {value}")?;
        }
        if settings.is_empty() {
            Ok(())
        } else {
            formatter.write_str(")")
        }
    }
}

/// A setting that no environment could be wrapped with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` is {got}; expected {expected}")]
pub struct WrapperFault {
    /// The wrapper's place in the list.
    pub index: usize,
    /// The setting; none where the list itself is at fault.
    pub key: &'static str,
    /// What would be accepted.
    pub expected: String,
    /// What was found.
    pub got: String,
}

/// Everything in a list of wrappers that no environment could be wrapped with.
#[must_use]
pub fn validate(wrappers: &[Wrapper]) -> Vec<WrapperFault> {
    let mut faults = Faults::default();
    if wrappers.len() > MAX_WRAPPERS {
        faults.add(
            "kind",
            format!("at most {MAX_WRAPPERS} wrappers"),
            &wrappers.len(),
        );
    }
    for (index, wrapper) in wrappers.iter().enumerate() {
        faults.index = index;
        faults.settings(wrapper);
        let changes_rewards = matches!(
            wrapper,
            Wrapper::ClipReward { .. } | Wrapper::SignReward { .. } | Wrapper::ScaleReward { .. }
        );
        let is_seen = wrappers[index + 1..].contains(&Wrapper::PreviousReward {});
        if wrapper.is_training_only() && changes_rewards && is_seen {
            faults.add(
                "training_only",
                "false, because the policy sees this reward by the previous_reward after it",
                &true,
            );
        }
        if *wrapper == (Wrapper::EpisodicLife {}) && index + 1 < wrappers.len() {
            faults.add(
                "kind",
                "episodic_life as the last wrapper, since those after it would take a life for a game",
                &format!("{} after it", wrappers[index + 1]),
            );
        }
    }
    faults.found
}

/// Collects faults of the wrapper at `index`.
#[derive(Default)]
struct Faults {
    index: usize,
    found: Vec<WrapperFault>,
}

impl Faults {
    fn add(&mut self, key: &'static str, expected: impl Into<String>, got: &impl ToString) {
        self.found.push(WrapperFault {
            index: self.index,
            key,
            expected: expected.into(),
            got: got.to_string(),
        });
    }

    fn count(&mut self, key: &'static str, value: u32, range: RangeInclusive<u32>) {
        if !range.contains(&value) {
            let (low, high) = range.into_inner();
            self.add(key, format!("at least {low} and at most {high}"), &value);
        }
    }

    fn number(&mut self, key: &'static str, value: f64) {
        if value.is_nan() || value.abs() > MAX_MAGNITUDE {
            let expected = format!("a number of at most {MAX_MAGNITUDE:e} on either side of 0");
            self.add(key, expected, &value);
        }
    }

    fn bounds(&mut self, low: f64, high: f64) {
        let before = self.found.len();
        self.number("low", low);
        self.number("high", high);
        // In the precision that values have.
        if self.found.len() == before && low as f32 >= high as f32 {
            self.add("high", format!("a number above low = {low}"), &high);
        }
    }

    fn settings(&mut self, wrapper: &Wrapper) {
        match *wrapper {
            Wrapper::TimeLimit {
                max_episode_steps, ..
            } => self.count("max_episode_steps", max_episode_steps, 1..=u32::MAX),
            Wrapper::FrameSkip { frames, .. } => self.count("frames", frames, 2..=MAX_FRAMES),
            Wrapper::FrameStack { size, .. } => self.count("size", size, 2..=MAX_FRAMES),
            Wrapper::ClipReward { low, high, .. }
            | Wrapper::RescaleAction { low, high }
            | Wrapper::ClipObservation { low, high }
            | Wrapper::RescaleObservation { low, high } => self.bounds(low, high),
            Wrapper::ScaleReward { factor, .. } => {
                self.number("factor", factor);
                if factor as f32 == 0.0 {
                    self.add("factor", "a number other than 0", &factor);
                }
            }
            Wrapper::StickyActions { probability, .. } => {
                if !(0.0..1.0).contains(&probability) {
                    self.add("probability", "at least 0 and below 1", &probability);
                }
            }
            Wrapper::NoopStarts { max_steps, .. } => {
                self.count("max_steps", max_steps, 1..=MAX_FRAMES);
            }
            Wrapper::SignReward { .. }
            | Wrapper::ClipAction {}
            | Wrapper::FlattenAction {}
            | Wrapper::FlattenObservation {}
            | Wrapper::CastObservation { .. }
            | Wrapper::PreviousAction {}
            | Wrapper::PreviousReward {}
            | Wrapper::EpisodicLife {} => {}
        }
    }
}

#[cfg(test)]
mod tests;
