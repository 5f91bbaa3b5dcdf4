//! What an environment shows and accepts: its observation space, its action space and the
//! [`EnvironmentSpec`] that both ends of a connection must agree on.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::unroll::encode_pixels;
use crate::wrappers::{StackPadding, Wrapper};

/// The set from which observations or actions come; Gymnasium's `Box`, `Discrete`, `MultiDiscrete` and
/// `MultiBinary`, and images.
///
/// A row of a space is [`Space::width`] `f32` values: the flattened box, or for each discrete choice one
/// value that holds the index of its element (exact below 2^24).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Space {
    /// Real vectors within bounds, flattened in row-major order.
    Box {
        /// Extent of each axis.
        shape: Vec<usize>,
        /// Lower bound of each flattened element; may be minus infinity.
        #[serde(with = "bounds")]
        low: Vec<f32>,
        /// Upper bound of each flattened element; may be infinity.
        #[serde(with = "bounds")]
        high: Vec<f32>,
    },
    /// Images: a row is a stack of frames, the oldest first, whose pixels are bytes; the row has each as a
    /// 255th, from 0 to 1. Stacks are as [`crate::unroll::FrameLayout`] has them.
    Frames {
        /// Extents of a frame: `[channels, rows, columns]`.
        frame: [usize; 3],
        /// Frames of a row, at least one.
        stack: usize,
        /// What stands before an episode's first frame.
        #[serde(default)]
        padding: StackPadding,
    },
    /// The integers `0..n`.
    Discrete {
        /// Number of elements, at least one.
        n: usize,
    },
    /// Several choices at once, each out of integers of its own: actions alone. `MultiBinary` is this
    /// with two elements everywhere.
    MultiDiscrete {
        /// Number of elements of each choice, at least one of one.
        nvec: Vec<usize>,
    },
}

impl Space {
    /// A one-dimensional box with these bounds.
    ///
    /// # Panics
    /// If the bounds differ in length.
    #[must_use]
    pub fn bounded(low: &[f32], high: &[f32]) -> Self {
        assert_eq!(low.len(), high.len(), "bounds of one box have one length");
        Self::Box {
            shape: vec![low.len()],
            low: low.to_vec(),
            high: high.to_vec(),
        }
    }

    /// Single images of planes `[channels, rows, columns]`.
    #[must_use]
    pub const fn planes(channels: usize, rows: usize, columns: usize) -> Self {
        Self::Frames {
            frame: [channels, rows, columns],
            stack: 1,
            padding: StackPadding::Reset,
        }
    }

    /// The extents of a row, if it is an image: those of a frame, with the planes of all of a stack.
    #[must_use]
    pub const fn image(&self) -> Option<[usize; 3]> {
        match self {
            Self::Frames {
                frame: [channels, rows, columns],
                stack,
                ..
            } => Some([*stack * *channels, *rows, *columns]),
            Self::Box { .. } | Self::Discrete { .. } | Self::MultiDiscrete { .. } => None,
        }
    }

    /// The same rows as a box: images as planes of values from 0 to 1, everything else as it is.
    #[must_use]
    pub fn as_box(&self) -> Self {
        match self.image() {
            None => self.clone(),
            Some(shape) => Self::Box {
                shape: shape.to_vec(),
                low: vec![0.0; self.width()],
                high: vec![1.0; self.width()],
            },
        }
    }

    /// Number of `f32` values that a row of this space takes in a column.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Box { shape, .. } => shape.iter().product(),
            Self::Frames { frame, stack, .. } => frame.iter().product::<usize>() * stack,
            Self::Discrete { .. } => 1,
            Self::MultiDiscrete { nvec } => nvec.len(),
        }
    }

    /// Number of elements of each discrete choice; none where values are real.
    #[must_use]
    pub fn choices(&self) -> Option<&[usize]> {
        match self {
            Self::Discrete { n } => Some(std::slice::from_ref(n)),
            Self::MultiDiscrete { nvec } => Some(nvec),
            Self::Box { .. } | Self::Frames { .. } => None,
        }
    }

    /// Moves a row into the space: indices become whole numbers that exist, values of a box are clipped
    /// to its bounds. What is no number becomes a bound.
    pub fn project(&self, row: &mut [f32]) {
        match self {
            Self::Discrete { .. } | Self::MultiDiscrete { .. } => {
                for (index, n) in row.iter_mut().zip(self.choices().unwrap_or_default()) {
                    // A comparison with what is no number is false, so that the bound is taken instead.
                    *index = index.trunc().max(0.0).min(n.saturating_sub(1) as f32);
                }
            }
            Self::Box { low, high, .. } => {
                for ((value, low), high) in row.iter_mut().zip(low).zip(high) {
                    *value = value.max(*low).min(*high);
                }
            }
            // No environment acts in images.
            Self::Frames { .. } => {}
        }
    }

    /// Whether `row` lies in the space: finite, within the bounds; pixels; a whole number below `n`.
    #[must_use]
    pub fn contains(&self, row: &[f32]) -> bool {
        match self {
            Self::Box { low, high, .. } => {
                row.len() == low.len()
                    && row
                        .iter()
                        .zip(low)
                        .zip(high)
                        .all(|((x, low), high)| x.is_finite() && *x >= *low && *x <= *high)
            }
            Self::Frames { .. } => {
                row.len() == self.width() && encode_pixels(row, &mut Vec::new()).is_ok()
            }
            Self::Discrete { n } => matches!(row, [x] if is_index(*x, *n)),
            Self::MultiDiscrete { nvec } => {
                row.len() == nvec.len() && row.iter().zip(nvec).all(|(x, n)| is_index(*x, *n))
            }
        }
    }
}

/// Whether `value` is a whole number below `n`.
pub(crate) fn is_index(value: f32, n: usize) -> bool {
    value >= 0.0 && value.fract() == 0.0 && (value as usize) < n
}

impl fmt::Display for Space {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Box { shape, .. } => write!(formatter, "Box{shape:?}"),
            Self::Frames {
                frame,
                stack,
                padding,
            } => {
                write!(formatter, "Frames{frame:?}x{stack}")?;
                match padding {
                    StackPadding::Reset => Ok(()),
                    StackPadding::Zero => formatter.write_str(" after zeros"),
                }
            }
            Self::Discrete { n } => write!(formatter, "Discrete({n})"),
            Self::MultiDiscrete { nvec } => write!(formatter, "MultiDiscrete{nvec:?}"),
        }
    }
}

/// Bounds in text formats: JSON has no infinity, so that an infinite bound is written as the text
/// `"inf"` or `"-inf"`. Binary formats hold plain numbers.
mod bounds {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Bound {
        Number(f32),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(
        bounds: &[f32],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return bounds.serialize(serializer);
        }
        serializer.collect_seq(bounds.iter().map(|bound| {
            if bound.is_finite() {
                Bound::Number(*bound)
            } else {
                Bound::Text(bound.to_string())
            }
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<f32>, D::Error> {
        if !deserializer.is_human_readable() {
            return Vec::deserialize(deserializer);
        }
        Vec::<Bound>::deserialize(deserializer)?
            .into_iter()
            .map(|bound| match bound {
                Bound::Number(number) => Ok(number),
                Bound::Text(text) => match text.as_str() {
                    "inf" => Ok(f32::INFINITY),
                    "-inf" => Ok(f32::NEG_INFINITY),
                    _ => Err(D::Error::custom(format!(
                        "expected a number, \"inf\" or \"-inf\", got {text:?}"
                    ))),
                },
            })
            .collect()
    }
}

/// What a goal-conditioned environment wants: that the achieved goal, one part of the observation
/// after a step, comes to lie near the desired goal, another part. Whoever knows it can say what a
/// step would have earned under any other goal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoalSpec {
    /// Where in an observation row the achieved goal stands.
    pub achieved: Range<usize>,
    /// Where the desired one stands.
    pub desired: Range<usize>,
    /// The Euclidean distance up to which the goal counts as reached.
    pub tolerance: f32,
    /// Whether reaching it ends the episode.
    pub terminates: bool,
}

/// Why a goal does not fit its environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GoalError {
    /// The parts of the observation are empty, beyond its end, of different lengths or overlap.
    #[error(
        "the achieved goal stands in {achieved:?} and the desired one in {desired:?}; expected two \
         parts of one length in an observation of {width} values that do not overlap"
    )]
    Ranges {
        /// The part of the achieved goal.
        achieved: Range<usize>,
        /// The part of the desired goal.
        desired: Range<usize>,
        /// The observation's width.
        width: usize,
    },
    /// The tolerance is no distance.
    #[error("the goal's tolerance is {got}; expected a finite number, 0 or more")]
    Tolerance {
        /// The tolerance as text.
        got: String,
    },
}

impl GoalSpec {
    /// Whether `achieved` lies within the tolerance of `desired`.
    ///
    /// # Panics
    /// If the lengths differ.
    #[must_use]
    pub fn is_reached(&self, achieved: &[f32], desired: &[f32]) -> bool {
        assert_eq!(achieved.len(), desired.len(), "goals of one environment");
        let square: f64 = achieved
            .iter()
            .zip(desired)
            .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
            .sum();
        square <= f64::from(self.tolerance).powi(2)
    }

    /// The reward of a step after which `achieved` is the case: 0 where the goal is reached, -1
    /// elsewhere (Andrychowicz et al. 2017, section 3.2). Environments and hindsight both call
    /// this, so that they agree to the bit.
    ///
    /// # Panics
    /// If the lengths differ.
    #[must_use]
    pub fn reward(&self, achieved: &[f32], desired: &[f32]) -> f32 {
        if self.is_reached(achieved, desired) {
            0.0
        } else {
            -1.0
        }
    }

    /// Checks the goal against an observation of `width` values.
    ///
    /// # Errors
    /// Names what does not fit.
    pub fn validate(&self, width: usize) -> Result<(), GoalError> {
        let (achieved, desired) = (&self.achieved, &self.desired);
        let is_part = |part: &Range<usize>| part.start < part.end && part.end <= width;
        let overlap = achieved.start < desired.end && desired.start < achieved.end;
        if !is_part(achieved) || !is_part(desired) || achieved.len() != desired.len() || overlap {
            return Err(GoalError::Ranges {
                achieved: achieved.clone(),
                desired: desired.clone(),
                width,
            });
        }
        if !(self.tolerance.is_finite() && self.tolerance >= 0.0) {
            return Err(GoalError::Tolerance {
                got: self.tolerance.to_string(),
            });
        }
        Ok(())
    }
}

/// What an environment is, to whoever cannot see its code. Computed by the actor; the first
/// actor's (or the checkpoint's) is the run's, and a later one must be equal to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentSpec {
    /// Gymnasium's id, such as `CartPole-v1`.
    pub id: String,
    /// The keyword arguments it was made with, as text.
    pub arguments: BTreeMap<String, String>,
    /// Where observations come from.
    pub observation: Space,
    /// Where actions come from.
    pub action: Space,
    /// Steps after which an episode is truncated, where there is a limit.
    pub max_episode_steps: Option<u32>,
    /// What is to be reached, where a goal stands in the observation and decides the reward.
    #[serde(default)]
    pub goal: Option<GoalSpec>,
    /// What stands around the environment, the innermost first; everything else in here is as seen
    /// from outside of them.
    #[serde(default)]
    pub wrappers: Vec<Wrapper>,
    /// Whether the last values of an observation are an action mask: one for each action of each choice,
    /// 0 where it cannot be taken in that state and 1 where it can.
    #[serde(default)]
    pub action_mask: bool,
}

/// Why the parts of an observation do not fit its space.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartsError {
    /// The goal's do not.
    #[error(transparent)]
    Goal(#[from] GoalError),
    /// There is no room for an action mask, or nothing to be masked.
    #[error(
        "observations {observation} end in an action mask and actions are {action}; expected a row of values, \
         longer than a mask with one for each action of each choice"
    )]
    ActionMask {
        /// The observation space.
        observation: String,
        /// The action space.
        action: String,
    },
}

impl EnvironmentSpec {
    /// Checks goal and action mask against the spaces.
    ///
    /// # Errors
    /// Names what does not fit.
    pub fn validate_parts(&self) -> Result<(), PartsError> {
        if let Some(goal) = &self.goal {
            goal.validate(self.observation.width())?;
        }
        let masked: usize = self.action.choices().unwrap_or_default().iter().sum();
        let has_room = matches!(&self.observation, Space::Box { shape, .. } if shape.len() == 1)
            && masked > 0
            && self.observation.width() > masked;
        if self.action_mask && !has_room {
            return Err(PartsError::ActionMask {
                observation: self.observation.to_string(),
                action: self.action.to_string(),
            });
        }
        Ok(())
    }

    /// Names the first field in which `self` (the run's) differs from `other`, with both values:
    /// `(field, ours, theirs)`. `None` where they are equal.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        if self.id != other.id {
            return Some(("id", self.id.clone(), other.id.clone()));
        }
        if self.arguments != other.arguments {
            return Some((
                "arguments",
                format!("{:?}", self.arguments),
                format!("{:?}", other.arguments),
            ));
        }
        // Before what they change: this is the cause.
        if self.wrappers != other.wrappers {
            return Some(("wrappers", list(&self.wrappers), list(&other.wrappers)));
        }
        for (field, ours, theirs) in [
            ("observation", &self.observation, &other.observation),
            ("action", &self.action, &other.action),
        ] {
            if ours != theirs {
                return Some((field, format!("{ours:?}"), format!("{theirs:?}")));
            }
        }
        if self.max_episode_steps != other.max_episode_steps {
            return Some((
                "max_episode_steps",
                format!("{:?}", self.max_episode_steps),
                format!("{:?}", other.max_episode_steps),
            ));
        }
        if self.goal != other.goal {
            return Some((
                "goal",
                format!("{:?}", self.goal),
                format!("{:?}", other.goal),
            ));
        }
        if self.action_mask != other.action_mask {
            return Some((
                "action_mask",
                self.action_mask.to_string(),
                other.action_mask.to_string(),
            ));
        }
        None
    }
}

/// Wrappers in their order, as people read them.
fn list(wrappers: &[Wrapper]) -> String {
    let names: Vec<String> = wrappers.iter().map(Wrapper::to_string).collect();
    format!("[{}]", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_contains_what_lies_in_it() {
        let space = Space::bounded(&[-1.0, 0.0], &[1.0, f32::INFINITY]);
        assert_eq!(space.width(), 2);
        assert!(space.contains(&[0.5, 1e30]));
        assert!(!space.contains(&[1.5, 0.0]));
        assert!(!space.contains(&[f32::NAN, 0.0]));
        assert!(!space.contains(&[0.0]));
        let space = Space::planes(1, 1, 2);
        assert!(space.contains(&[0.0, 1.0]));
        assert!(!space.contains(&[0.0, 0.5]));
        assert!(!space.contains(&[0.0]));
        let space = Space::Discrete { n: 3 };
        assert!(space.contains(&[2.0]));
        assert!(!space.contains(&[3.0]));
        assert!(!space.contains(&[0.5]));
        assert!(!space.contains(&[-1.0]));
        let space = Space::MultiDiscrete { nvec: vec![3, 2] };
        assert_eq!((space.width(), space.choices()), (2, Some(&[3, 2][..])));
        assert!(space.contains(&[2.0, 1.0]));
        assert!(!space.contains(&[1.0, 2.0]));
        assert!(!space.contains(&[1.0]));
    }

    #[test]
    fn what_lies_outside_of_a_space_is_moved_into_it() {
        let moved = |space: &Space, row: &[f32]| {
            let mut row = row.to_vec();
            space.project(&mut row);
            row
        };
        let several = Space::MultiDiscrete { nvec: vec![3, 2] };
        assert_eq!(moved(&several, &[2.9, 7.0]), [2.0, 1.0]);
        assert_eq!(moved(&several, &[-1.0, f32::NAN]), [0.0, 0.0]);
        let bounded = Space::bounded(&[-1.0, 0.0], &[1.0, f32::INFINITY]);
        assert_eq!(moved(&bounded, &[-3.0, 1e9]), [-1.0, 1e9]);
        assert_eq!(moved(&bounded, &[f32::NAN, -0.5]), [-1.0, 0.0]);
    }

    #[test]
    fn infinite_bounds_survive_text_and_binary_formats() {
        let space = Space::bounded(&[f32::NEG_INFINITY, -4.8], &[f32::INFINITY, f32::MAX]);
        let text = serde_json::to_string(&space).unwrap();
        assert!(text.contains(r#""low":["-inf",-4.8]"#), "{text}");
        assert_eq!(serde_json::from_str::<Space>(&text).unwrap(), space);
        assert!(serde_json::from_str::<Space>(&text.replace("-inf", "low")).is_err());

        let mut bytes = Vec::new();
        crate::snapshot::encode(1, &space, &mut bytes);
        assert_eq!(
            crate::snapshot::decode_all::<Space>(1, &bytes).unwrap(),
            space
        );
    }

    fn goal() -> GoalSpec {
        GoalSpec {
            achieved: 0..2,
            desired: 2..4,
            tolerance: 5.0,
            terminates: false,
        }
    }

    #[test]
    fn a_goal_is_reached_within_the_tolerance_and_on_its_border() {
        let goal = goal();
        assert_eq!(goal.reward(&[0.0, 0.0], &[3.0, 4.0]), 0.0);
        assert_eq!(goal.reward(&[0.0, 0.0], &[3.0, 4.001]), -1.0);
        let exact = GoalSpec {
            tolerance: 0.0,
            ..goal
        };
        assert!(exact.is_reached(&[1.0, 0.0], &[1.0, 0.0]));
        assert!(!exact.is_reached(&[1.0, 0.0], &[1.0, 1.0]));
    }

    #[test]
    fn goals_that_do_not_fit_the_observation_are_refused() {
        assert_eq!(goal().validate(4), Ok(()));
        let with = |achieved, desired| GoalSpec {
            achieved,
            desired,
            ..goal()
        };
        for (spoiled, width) in [
            (goal(), 3),
            (with(0..0, 2..2), 4),
            (with(0..1, 2..4), 4),
            (with(0..2, 1..3), 4),
            (with(Range { start: 3, end: 1 }, 0..2), 4),
            (with(0..2, usize::MAX - 1..usize::MAX), 4),
        ] {
            assert!(
                matches!(spoiled.validate(width), Err(GoalError::Ranges { .. })),
                "{spoiled:?}"
            );
        }
        for tolerance in [f32::NAN, f32::INFINITY, -0.5] {
            let spoiled = GoalSpec {
                tolerance,
                ..goal()
            };
            assert!(matches!(
                spoiled.validate(4),
                Err(GoalError::Tolerance { .. })
            ));
        }
    }

    #[test]
    fn a_difference_of_goals_is_named() {
        let spec = |goal| EnvironmentSpec {
            id: "PointReach-v0".to_owned(),
            arguments: BTreeMap::new(),
            observation: Space::bounded(&[-1.0; 4], &[1.0; 4]),
            action: Space::bounded(&[-1.0; 2], &[1.0; 2]),
            max_episode_steps: Some(50),
            goal,
            wrappers: Vec::new(),
            action_mask: false,
        };
        let ours = spec(Some(goal()));
        assert_eq!(ours.difference(&ours.clone()), None);
        let (field, _, theirs) = ours.difference(&spec(None)).unwrap();
        assert_eq!((field, theirs.as_str()), ("goal", "None"));
        assert_eq!(ours.validate_parts(), Ok(()));
        // Descriptions from before goals were known have none.
        let mut json = serde_json::to_value(spec(None)).unwrap();
        json.as_object_mut().unwrap().remove("goal");
        json.as_object_mut().unwrap().remove("wrappers");
        assert_eq!(
            serde_json::from_value::<EnvironmentSpec>(json).unwrap(),
            spec(None)
        );
    }

    #[test]
    fn a_difference_of_wrappers_is_named_before_what_they_change() {
        let bare = EnvironmentSpec {
            id: "PointReach-v0".to_owned(),
            arguments: BTreeMap::new(),
            observation: Space::bounded(&[-1.0; 4], &[1.0; 4]),
            action: Space::bounded(&[-1.0; 2], &[1.0; 2]),
            max_episode_steps: Some(50),
            goal: None,
            wrappers: Vec::new(),
            action_mask: false,
        };
        let mut wrapped = bare.clone();
        wrapped.observation = Space::bounded(&[-1.0; 6], &[1.0; 6]);
        wrapped.wrappers = vec![Wrapper::ClipAction {}, Wrapper::PreviousAction {}];
        assert_eq!(
            bare.difference(&wrapped),
            Some((
                "wrappers",
                "[]".to_owned(),
                "[clip_action, previous_action]".to_owned()
            ))
        );
    }
}
