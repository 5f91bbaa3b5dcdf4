//! Whether a checkpoint may be resumed with a configuration.

use std::collections::{BTreeMap, BTreeSet};

use rookery_common::configuration::{Configuration, ConfigurationError};

/// Why a checkpoint cannot be resumed.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The checkpoint's configuration cannot be read.
    #[error("the checkpoint's configuration cannot be read: {0}")]
    Unreadable(#[from] ConfigurationError),
    /// Something that the run's result depends on has changed.
    #[error(
        "the configuration differs from the checkpoint's, so the run could not go on as it was: \
         {}; use the run directory's config.toml, or start a new run",
        .differences.join("; ")
    )]
    Different {
        /// Each key with both values.
        differences: Vec<String>,
    },
    /// The policy that is configured cannot be made for the checkpoint's environment.
    #[error(transparent)]
    Policy(#[from] rookery_common::policy::PolicyError),
}

/// Sections and keys that a resumed run may change: where it runs, how long, and what it reports.
const FREE: &[&str] = &[
    "run.name",
    "run.total_env_steps",
    "run.directory",
    "run.solved_return",
    "run.stop_when_solved",
    "schedule.max_queue_bytes",
    "evaluation",
    "checkpoint",
    "learner",
    "actor",
    "security",
    "telemetry",
    "logging",
];

/// Compares what the run's result depends on.
///
/// # Errors
/// Lists every key that differs, with both values.
pub fn check_compatible(
    checkpoint: &str,
    configuration: &Configuration,
) -> Result<(), ResumeError> {
    let theirs = leaves(&Configuration::parse(checkpoint)?);
    let ours = leaves(configuration);
    let is_free = |key: &str| {
        FREE.iter().any(|free| {
            key == *free
                || key
                    .strip_prefix(free)
                    .is_some_and(|rest| rest.starts_with('.'))
        })
    };
    let absent = || "absent".to_owned();
    let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let differences: Vec<String> = keys
        .into_iter()
        .filter(|key| !is_free(key) && ours.get(*key) != theirs.get(*key))
        .map(|key| {
            format!(
                "`{key}` is {} here and {} in the checkpoint",
                ours.get(key).cloned().unwrap_or_else(absent),
                theirs.get(key).cloned().unwrap_or_else(absent),
            )
        })
        .collect();
    if differences.is_empty() {
        Ok(())
    } else {
        Err(ResumeError::Different { differences })
    }
}

/// Every key with its value, both as text.
fn leaves(configuration: &Configuration) -> BTreeMap<String, String> {
    fn collect(path: &str, value: &toml::Value, leaves: &mut BTreeMap<String, String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let path = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    collect(&path, value, leaves);
                }
            }
            value => {
                leaves.insert(path.to_owned(), value.to_string());
            }
        }
    }
    let mut leaves = BTreeMap::new();
    // What `to_toml` writes is TOML.
    if let Ok(table) = configuration.to_toml().parse::<toml::Table>() {
        collect("", &toml::Value::Table(table), &mut leaves);
    }
    leaves
}
