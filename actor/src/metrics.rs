//! Every metric that an actor exports: declared here and named nowhere else.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Unit, counter, gauge};
use rookery_common::metric::Metric;
use rookery_common::unroll::{Unroll, UnrollShape};
use rookery_proto::v1::RefusalReason;

use crate::evaluator::Evaluation;

const ENV_STEPS: Metric = Metric::counter(
    "rookery_actor_env_steps_total",
    Unit::Count,
    "Environment steps taken and handed to the uplink.",
);
const UNROLLS: Metric = Metric::counter(
    "rookery_actor_unrolls_total",
    Unit::Count,
    "Unrolls handed to the uplink.",
);
const SENT_BYTES: Metric = Metric::counter(
    "rookery_actor_sent_bytes_total",
    Unit::Bytes,
    "Bytes of columns and states handed to the uplink.",
);
const ACKS: Metric = Metric::counter(
    "rookery_actor_acks_total",
    Unit::Count,
    "Unrolls that the learner acknowledged, by result: admitted or duplicate.",
);
const REFUSALS: Metric = Metric::counter(
    "rookery_actor_refusals_total",
    Unit::Count,
    "Unrolls that the learner refused, by reason.",
);
const STAGE_SECONDS: Metric = Metric::gauge(
    "rookery_actor_stage_seconds_total",
    Unit::Seconds,
    "Time of all collector threads by stage: forward, environment, send, wait (for parameters, \
     a lease or an acknowledgement).",
);
const POLICY_VERSION: Metric = Metric::gauge(
    "rookery_actor_policy_version",
    Unit::Count,
    "Newest version received.",
);
const JOINS: Metric = Metric::counter(
    "rookery_actor_joins_total",
    Unit::Count,
    "Sessions begun; all but the first are reconnections.",
);
const EVALUATIONS: Metric = Metric::counter(
    "rookery_actor_evaluations_total",
    Unit::Count,
    "Evaluations made by an evaluator.",
);
const EVALUATION_RETURN: Metric = Metric::gauge(
    "rookery_actor_evaluation_return",
    Unit::Count,
    "Mean raw return of this evaluator's newest evaluation.",
);

/// Every metric, in the order of the data's route.
pub const ALL: &[Metric] = &[
    ENV_STEPS,
    UNROLLS,
    SENT_BYTES,
    ACKS,
    REFUSALS,
    STAGE_SECONDS,
    POLICY_VERSION,
    JOINS,
    EVALUATIONS,
    EVALUATION_RETURN,
];

/// What a collector thread spends its time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Choosing actions.
    Forward,
    /// Stepping environments.
    Environment,
    /// Waiting for room in the uplink.
    Send,
    /// Waiting for parameters or a lease.
    Wait,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Forward, Self::Environment, Self::Send, Self::Wait];

    /// Its name in the metric.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Environment => "environment",
            Self::Send => "send",
            Self::Wait => "wait",
        }
    }
}

/// Time of all collector threads of a session by stage: what the learner is told.
#[derive(Debug, Default)]
pub struct StageTotals([AtomicU64; Stage::ALL.len()]);

impl StageTotals {
    /// Adds to a stage's time, here and in the metric.
    pub(crate) fn record(&self, stage: Stage, time: Duration) {
        // Centuries of nanoseconds fit in.
        self.0[stage as usize].fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        record_stage(stage, time);
    }

    /// Seconds by the stages' names.
    #[must_use]
    pub fn seconds(&self) -> HashMap<String, f64> {
        let seconds = |stage: Stage| {
            let nanoseconds = self.0[stage as usize].load(Ordering::Relaxed);
            Duration::from_nanos(nanoseconds).as_secs_f64()
        };
        Stage::ALL
            .map(|stage| (stage.name().to_owned(), seconds(stage)))
            .into()
    }
}

/// Adds to a stage's time. The crate's counters hold whole numbers; a gauge that only grows holds
/// fractions and serves `rate()` as well.
fn record_stage(stage: Stage, time: Duration) {
    gauge!(STAGE_SECONDS.name, "stage" => stage.name()).increment(time.as_secs_f64());
}

pub(crate) fn count_unroll(unroll: &Unroll, shape: &UnrollShape) {
    counter!(ENV_STEPS.name).increment(shape.num_steps() as u64);
    counter!(UNROLLS.name).increment(1);
    counter!(SENT_BYTES.name).increment(unroll.num_bytes() as u64);
}

pub(crate) fn count_ack(duplicate: bool) {
    let result = if duplicate { "duplicate" } else { "admitted" };
    counter!(ACKS.name, "result" => result).increment(1);
}

pub(crate) fn count_refusal(reason: RefusalReason) {
    counter!(REFUSALS.name, "reason" => reason_name(reason)).increment(1);
}

const fn reason_name(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::Unspecified => "unspecified",
        RefusalReason::Stale => "stale",
        RefusalReason::Gap => "gap",
        RefusalReason::WrongVersion => "wrong_version",
        RefusalReason::Invalid => "invalid",
        RefusalReason::NonFinite => "non_finite",
        RefusalReason::TooOld => "too_old",
    }
}

pub(crate) fn set_policy_version(version: u64) {
    gauge!(POLICY_VERSION.name).set(version as f64);
}

pub(crate) fn count_join() {
    counter!(JOINS.name).increment(1);
}

pub(crate) fn record_evaluation(evaluation: &Evaluation) {
    counter!(EVALUATIONS.name).increment(1);
    gauge!(EVALUATION_RETURN.name).set(evaluation.mean_return());
}

/// Makes every series exist from the start, so that a rate over it is zero and not absent.
pub fn describe() {
    for metric in ALL {
        metric.describe();
    }
    for metric in [ENV_STEPS, UNROLLS, SENT_BYTES, JOINS, EVALUATIONS] {
        counter!(metric.name).increment(0);
    }
    for result in ["admitted", "duplicate"] {
        counter!(ACKS.name, "result" => result).increment(0);
    }
    for reason in [
        RefusalReason::Stale,
        RefusalReason::Gap,
        RefusalReason::WrongVersion,
        RefusalReason::Invalid,
        RefusalReason::NonFinite,
        RefusalReason::TooOld,
    ] {
        counter!(REFUSALS.name, "reason" => reason_name(reason)).increment(0);
    }
    for stage in Stage::ALL {
        record_stage(stage, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_listed_with_its_help() {
        let list: Vec<String> = ALL.iter().map(Metric::summary).collect();
        insta::assert_snapshot!(list.join("\n"));
    }

    #[test]
    fn a_session_tells_the_seconds_of_every_stage() {
        let totals = StageTotals::default();
        totals.record(Stage::Environment, Duration::from_millis(1_500));
        totals.record(Stage::Environment, Duration::from_millis(500));
        totals.record(Stage::Wait, Duration::from_millis(250));
        let expected = [
            ("forward", 0.0),
            ("environment", 2.0),
            ("send", 0.0),
            ("wait", 0.25),
        ];
        let expected = expected.map(|(stage, seconds)| (stage.to_owned(), seconds));
        assert_eq!(totals.seconds(), HashMap::from(expected));
    }
}
