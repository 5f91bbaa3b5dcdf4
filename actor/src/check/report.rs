//! What was found, for people and for programs.

use std::fmt;

use rookery_common::spaces::EnvironmentSpec;
use serde::Serialize;

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It holds.
    Ok {
        /// What was seen.
        note: String,
    },
    /// It does not hold.
    Failed {
        /// What was seen instead.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// It cannot be said.
    Skipped {
        /// Why not.
        reason: String,
    },
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// What it is called.
    pub name: &'static str,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What was found about an environment. Its text has a line for each check, and another one with
/// the remedy where it has failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What the environment says it is.
    pub environment: EnvironmentSpec,
    /// Every check, in their order.
    pub checks: Vec<CheckResult>,
}

impl Report {
    pub(super) fn new(environment: EnvironmentSpec) -> Self {
        Self {
            environment,
            checks: Vec::new(),
        }
    }

    /// Whether no check has failed.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.num_failed() == 0
    }

    /// How many checks have failed.
    #[must_use]
    pub fn num_failed(&self) -> usize {
        let outcomes = self.checks.iter().map(|check| &check.outcome);
        outcomes
            .filter(|outcome| matches!(outcome, Outcome::Failed { .. }))
            .count()
    }

    /// Whether the check of this name has failed, or could not be made because another has.
    pub(super) fn has_failed(&self, name: &str) -> bool {
        self.checks
            .iter()
            .any(|check| check.name == name && matches!(check.outcome, Outcome::Failed { .. }))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = &self.environment;
        writeln!(
            formatter,
            "{}: observations {}, actions {}",
            spec.id, spec.observation, spec.action
        )?;
        for wrapper in &spec.wrappers {
            writeln!(formatter, "  in {wrapper}")?;
        }
        let width = self.checks.iter().map(|check| check.name.len()).max();
        let width = width.unwrap_or(0);
        for CheckResult { name, outcome } in &self.checks {
            match outcome {
                Outcome::Ok { note } => writeln!(formatter, "  ok      {name:width$}  {note}")?,
                Outcome::Skipped { reason } => {
                    writeln!(formatter, "  skipped {name:width$}  {reason}")?;
                }
                Outcome::Failed { reason, remedy } => {
                    writeln!(formatter, "  FAILED  {name:width$}  {reason}")?;
                    writeln!(formatter, "          {:width$}  -> {remedy}", "")?;
                }
            }
        }
        match self.num_failed() {
            0 => writeln!(formatter, "It can be trained on."),
            1 => writeln!(formatter, "1 check has failed."),
            count => writeln!(formatter, "{count} checks have failed."),
        }
    }
}
