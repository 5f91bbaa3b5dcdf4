//! `check-env`: whether an environment keeps what the rest of the system relies on.
//!
//! [`check`] plays an environment in small batches and asks what Gymnasium's own checker asks and
//! more: what comes out lies in its spaces, equal seeds make equal episodes, nothing is carried over
//! from episode to episode or from instance to instance, a restored state goes on bit for bit, and
//! episodes end the way they say. A [`Report`] has a line for each, with a remedy for what failed.
//!
//! Checks that would only repeat what an earlier one found are skipped: where equal seeds do not make
//! equal episodes, for instance, nothing can be said about restoring.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rookery_common::configuration::EnvironmentConfiguration;

use crate::environments::{self, BatchedEnvironment, EnvironmentError};

mod report;
mod player;
mod spaces;
mod episodes;
mod repetition;
mod company;
mod speed;

#[cfg(test)]
mod tests;

pub use report::{CheckResult, Outcome, Report};

/// How much is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckOptions {
    /// Seed of the episodes and of the actions.
    pub seed: u64,
    /// Steps of each instance in each check.
    pub steps: u32,
    /// Steps after which an episode counts as endless.
    pub max_steps: u32,
    /// How long speed is measured, in milliseconds.
    pub measure_milliseconds: u64,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            steps: 500,
            max_steps: 20_000,
            measure_milliseconds: 300,
        }
    }
}

/// What makes the environment in batches of any size.
pub type Maker<'a> = dyn Fn(usize) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> + 'a;

/// Checks the environment of a configuration, with its wrappers.
///
/// # Errors
/// Where it cannot be made at all.
pub fn check_configured(
    environment: &EnvironmentConfiguration,
    options: &CheckOptions,
) -> Result<Report, EnvironmentError> {
    let EnvironmentConfiguration { id, wrappers, .. } = environment;
    let arguments = environment.all_arguments();
    check(
        &|num_envs| environments::wrap(environments::make(id, &arguments, num_envs)?, wrappers),
        options,
    )
}

/// Checks the environment that `make` makes.
///
/// # Errors
/// Where it cannot be made at all.
pub fn check(make: &Maker<'_>, options: &CheckOptions) -> Result<Report, EnvironmentError> {
    let spec = make(1)?.spec().clone();
    let bench = Bench {
        make,
        spec: &spec,
        options,
    };
    let mut report = Report::new(spec.clone());
    for (name, needs, check) in CHECKS {
        let broken = needs.iter().find(|need| report.has_failed(need));
        let outcome = match broken {
            Some(need) => Outcome::Skipped {
                reason: format!("{need} has failed"),
            },
            None => attempt(*check, &bench),
        };
        report.checks.push(CheckResult { name, outcome });
    }
    Ok(report)
}

/// What every check is given.
struct Bench<'a> {
    make: &'a Maker<'a>,
    spec: &'a rookery_common::spaces::EnvironmentSpec,
    options: &'a CheckOptions,
}

/// What a check finds: an error is a failure with its remedy.
type Finding = Result<Outcome, Failure>;

/// Why a check has failed, and what to do about it.
struct Failure {
    reason: String,
    remedy: String,
}

impl Failure {
    fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

impl From<EnvironmentError> for Failure {
    fn from(error: EnvironmentError) -> Self {
        Self::new(
            error.to_string(),
            "correct the environment, so that it does not break",
        )
    }
}

impl From<environments::EnvironmentFault> for Failure {
    fn from(fault: environments::EnvironmentFault) -> Self {
        EnvironmentError::from(fault).into()
    }
}

type Check = fn(&Bench<'_>) -> Finding;

/// Each check with its name and those without which it says nothing, in their order.
const CHECKS: &[(&str, &[&str], Check)] = &[
    ("spec", &[], spaces::spec),
    ("reset observations", &["spec"], spaces::reset_observations),
    ("step observations", &["spec"], spaces::step_observations),
    ("rewards", &["spec"], spaces::rewards),
    ("flags", &["spec"], spaces::flags),
    ("observe", &["spec"], spaces::observe),
    ("equal seeds", &["spec", "flags"], repetition::equal_seeds),
    (
        "other seeds",
        &["spec", "equal seeds"],
        repetition::other_seeds,
    ),
    (
        "no leaks",
        &["spec", "flags", "equal seeds"],
        repetition::no_leaks,
    ),
    (
        "restore",
        &["spec", "flags", "equal seeds"],
        repetition::restore,
    ),
    (
        "independent instances",
        &["spec", "flags", "equal seeds"],
        company::independent,
    ),
    (
        "single steps",
        &["spec", "flags", "equal seeds", "independent instances"],
        company::step_some,
    ),
    (
        "actions out of bounds",
        &["spec", "flags", "equal seeds"],
        company::out_of_bounds,
    ),
    ("episodes end", &["spec", "flags"], episodes::end),
    (
        "time limit",
        &["spec", "flags", "episodes end"],
        episodes::time_limit,
    ),
    ("speed", &["spec", "flags"], speed::measure),
];

/// Runs a check, whose panic is a failure as well.
fn attempt(check: Check, bench: &Bench<'_>) -> Outcome {
    let found = catch_unwind(AssertUnwindSafe(|| check(bench)));
    let failure = match found {
        Ok(Ok(outcome)) => return outcome,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Failure::new(
                format!("it panicked: {}", text.unwrap_or_default()),
                "correct the environment, so that nothing which it can be given makes it panic",
            )
        }
    };
    Outcome::Failed {
        reason: failure.reason,
        remedy: failure.remedy,
    }
}
