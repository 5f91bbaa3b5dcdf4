//! What is wrong with a configuration, in words that say where it was written and what to write.

use std::fmt;
use std::path::PathBuf;

/// Where a value was written. Later ones in this list win.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A preset, by name.
    Preset(String),
    /// A file.
    File(PathBuf),
    /// A text that the program itself had, such as the one in a checkpoint.
    Text(String),
    /// A `--set path.to.key=value`.
    Set,
    /// A named flag of the command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preset(name) => write!(formatter, "preset {name}"),
            Self::File(path) => write!(formatter, "file {}", path.display()),
            Self::Text(name) => formatter.write_str(name),
            Self::Set => formatter.write_str("--set"),
            Self::Flag => formatter.write_str("command line"),
        }
    }
}

/// A key that has a part in a violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Dotted path, such as `ppo.clip_range`.
    pub path: String,
    /// Its value, where the problem does not say it already.
    pub value: Option<String>,
    /// Who wrote it; `None` where it has its default.
    pub source: Option<Source>,
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`", self.path)?;
        if let Some(value) = &self.value {
            write!(formatter, " = {value}")?;
        }
        match &self.source {
            Some(source) => write!(formatter, " ({source})"),
            None => formatter.write_str(" (default)"),
        }
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Violation {
    /// The keys that have a part in it; none where a whole layer cannot be read.
    pub keys: Vec<Key>,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, key) in self.keys.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(formatter, "{separator}{key}")?;
        }
        let separator = if self.keys.is_empty() { "" } else { ": " };
        write!(formatter, "{separator}{}", self.problem)
    }
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No key has this name.
    UnknownKey {
        /// The key that was probably meant.
        suggestion: Option<String>,
    },
    /// No key has this name in its kind of table.
    UnknownSetting {
        /// The key that was probably meant.
        suggestion: Option<String>,
        /// Every key that this kind has.
        known: Vec<String>,
    },
    /// No kind has this name.
    UnknownKind {
        /// What it was given.
        got: String,
        /// The kind that was probably meant.
        suggestion: Option<String>,
        /// Every kind.
        known: &'static [&'static str],
    },
    /// A key without a default is not there.
    Missing {
        /// Its name.
        key: &'static str,
    },
    /// The value has the wrong type, or is none of the values that the key can take.
    Unexpected {
        /// What the key takes.
        expected: String,
        /// What it was given.
        got: String,
    },
    /// The value is a text that does not say what it should.
    Invalid {
        /// The value.
        got: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Values that cannot go together.
    Impossible {
        /// Why they cannot.
        reason: String,
        /// What to write.
        remedy: String,
    },
    /// No preset has this name.
    UnknownPreset {
        /// The name.
        name: String,
        /// The preset that was probably meant.
        suggestion: Option<String>,
    },
    /// A layer cannot be read at all.
    Unreadable {
        /// The layer.
        source: Source,
        /// Why not.
        reason: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { suggestion } => {
                formatter.write_str("unknown key")?;
                did_you_mean(formatter, suggestion.as_deref())
            }
            Self::UnknownSetting { suggestion, known } => {
                formatter.write_str("unknown key")?;
                did_you_mean(formatter, suggestion.as_deref())?;
                match known.as_slice() {
                    [] => formatter.write_str("; this kind takes no other keys"),
                    known => write!(formatter, "; this kind takes {}", known.join(", ")),
                }
            }
            Self::UnknownKind {
                got,
                suggestion,
                known,
            } => {
                write!(formatter, "no kind is {got}")?;
                did_you_mean(formatter, suggestion.as_deref())?;
                write!(formatter, "; known are {}", known.join(", "))
            }
            Self::Missing { key } => write!(formatter, "the key `{key}` is missing"),
            Self::Unexpected { expected, got } => {
                write!(formatter, "expected {expected}, got {got}")
            }
            Self::Invalid { got, reason } => write!(formatter, "{got}: {reason}"),
            Self::Impossible { reason, remedy } => write!(formatter, "{reason}; {remedy}"),
            Self::UnknownPreset { name, suggestion } => {
                write!(formatter, "unknown preset {name:?}")?;
                did_you_mean(formatter, suggestion.as_deref())
            }
            Self::Unreadable { source, reason } => {
                write!(formatter, "{source} cannot be read: {}", reason.trim_end())
            }
        }
    }
}

fn did_you_mean(formatter: &mut fmt::Formatter<'_>, suggestion: Option<&str>) -> fmt::Result {
    match suggestion {
        Some(suggestion) => write!(formatter, "; did you mean `{suggestion}`?"),
        None => Ok(()),
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigurationError {
    /// At least one.
    pub violations: Vec<Violation>,
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.violations.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(
            formatter,
            "invalid configuration, {count} violation{plural}:"
        )?;
        for violation in &self.violations {
            // The lines of a message that has several stay together.
            let message = violation.to_string().replace('\n', "\n    ");
            write!(formatter, "\n  - {message}")?;
        }
        Ok(())
    }
}
