//! Values as people write them: durations `"30s"`, sizes `"64MiB"`, and `"none"` for an optional
//! value that is not set.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration written with its unit, such as `"30s"`, `"50ms"` or `"1h 30m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct HumanDuration(Duration);

/// A number of bytes written with its unit, such as `"64MiB"`, `"10MB"` or `"4096"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct ByteSize(u64);

/// Why a text is no duration or no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The text is no duration.
    #[error("not a duration ({reason}): write a number with its unit, such as \"30s\" or \"50ms\"")]
    Duration {
        /// What is wrong with it.
        reason: String,
    },
    /// The text is no size.
    #[error("not a size: write a whole number with one of {}", unit_names())]
    Size,
    /// The size does not fit 64 bits.
    #[error("size is larger than 2^64 - 1 bytes")]
    SizeOverflow,
}

impl HumanDuration {
    /// A duration of whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A duration of whole microseconds.
    #[must_use]
    pub const fn from_micros(microseconds: u64) -> Self {
        Self(Duration::from_micros(microseconds))
    }

    /// A duration of whole milliseconds.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// The duration as the standard library has it.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

impl From<HumanDuration> for String {
    fn from(duration: HumanDuration) -> Self {
        duration.to_string()
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(FromText(
            "a duration in quotes, such as \"30s\"",
            PhantomData,
        ))
    }
}

impl FromStr for HumanDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|error| UnitError::Duration {
                reason: error.to_string(),
            })
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(formatter)
    }
}

/// Units of a size, those in which sizes are printed first and the largest of them first.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
];

/// The units with commas between them, for messages.
fn unit_names() -> String {
    UNITS.map(|(name, _)| name).join(", ")
}

impl ByteSize {
    /// A size of whole mebibytes.
    #[must_use]
    pub const fn from_mib(mebibytes: u32) -> Self {
        Self((mebibytes as u64) << 20)
    }

    /// A size of whole bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(FromText("a size in quotes, such as \"64MiB\"", PhantomData))
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let digits = text.trim().trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = text.trim()[digits.len()..].trim();
        let factor = UNITS
            .iter()
            .find(|(name, _)| unit == *name || (unit.is_empty() && *name == "B"))
            .map(|(_, factor)| *factor)
            .ok_or(UnitError::Size)?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(UnitError::Size);
        }
        digits
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(factor))
            .map(Self)
            .ok_or(UnitError::SizeOverflow)
    }
}

impl fmt::Display for ByteSize {
    /// Writes the size in the largest binary unit in which it is a whole number, so that reading
    /// it again gives the same size.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, factor) in &UNITS[..3] {
            if self.0 > 0 && self.0.is_multiple_of(*factor) {
                return write!(formatter, "{}{name}", self.0 / factor);
            }
        }
        write!(formatter, "{}B", self.0)
    }
}

/// Reads a `T` from its text; the first field says what is expected where there is no text.
struct FromText<T>(&'static str, PhantomData<T>);

impl<T: FromStr<Err = UnitError>> Visitor<'_> for FromText<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// The text that unsets an optional key; TOML has no null.
pub(super) const NONE: &str = "none";

/// Writes an optional value that is not set as [`NONE`], so that a key whose default is set can be
/// seen to be unset, and stays so when the text is read again.
#[expect(
    clippy::ref_option,
    reason = "serde calls this with a reference to the field"
)]
pub(super) fn or_none<T: Serialize, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => serializer.serialize_str(NONE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_survive_their_own_text() {
        for bytes in [0, 1, 1023, 1024, 1536, 64 << 20, 3 << 30, u64::MAX] {
            let size = ByteSize::from_bytes(bytes);
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        assert_eq!(ByteSize::from_mib(64).to_string(), "64MiB");
    }

    #[test]
    fn sizes_need_a_whole_number_and_a_known_unit() {
        assert_eq!("10 MB".parse(), Ok(ByteSize::from_bytes(10_000_000)));
        assert_eq!("4096".parse(), Ok(ByteSize::from_bytes(4096)));
        for text in ["", "MiB", "1.5GiB", "-1B", "64mib", "64 Mi", "1 2B"] {
            assert_eq!(text.parse::<ByteSize>(), Err(UnitError::Size), "{text}");
        }
        assert_eq!(
            "99999999999GiB".parse::<ByteSize>(),
            Err(UnitError::SizeOverflow)
        );
    }

    #[test]
    fn durations_survive_their_own_text() {
        for duration in [
            HumanDuration::from_millis(50),
            HumanDuration::from_secs(90),
            HumanDuration::from_millis(3_600_001),
        ] {
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
        assert_eq!("1h 30m".parse(), Ok(HumanDuration::from_secs(5400)));
    }

    #[test]
    fn a_duration_needs_a_unit() {
        for text in ["", "30", "30 parsecs", "-1s"] {
            assert!(
                matches!(
                    text.parse::<HumanDuration>(),
                    Err(UnitError::Duration { .. })
                ),
                "{text}"
            );
        }
    }
}
