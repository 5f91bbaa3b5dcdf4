//! What an environment shows and accepts: its observation space, its action space and the
//! [`EnvironmentSpec`] that both ends of a connection must agree on.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The set from which observations or actions come; Gymnasium's `Box` and `Discrete`.
///
/// A row of a space is [`Space::width`] `f32` values: the flattened box, or one value that holds
/// the index of a discrete element (exact below 2^24).
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
    /// The integers `0..n`.
    Discrete {
        /// Number of elements, at least one.
        n: usize,
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

    /// Number of `f32` values that a row of this space takes in a column.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Box { shape, .. } => shape.iter().product(),
            Self::Discrete { .. } => 1,
        }
    }

    /// Whether `row` lies in the space: finite, within the bounds, a whole number below `n`.
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
            Self::Discrete { n } => {
                matches!(row, [x] if *x >= 0.0 && x.fract() == 0.0 && (*x as usize) < *n)
            }
        }
    }
}

impl fmt::Display for Space {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Box { shape, .. } => write!(formatter, "Box{shape:?}"),
            Self::Discrete { n } => write!(formatter, "Discrete({n})"),
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
}

impl EnvironmentSpec {
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
        None
    }
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
        let space = Space::Discrete { n: 3 };
        assert!(space.contains(&[2.0]));
        assert!(!space.contains(&[3.0]));
        assert!(!space.contains(&[0.5]));
        assert!(!space.contains(&[-1.0]));
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
}
