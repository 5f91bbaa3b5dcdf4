//! The section of the schedule, and which algorithms can learn from what it collects.

use std::fmt::Display;

use super::{Check, MAX_EXTENT};
use crate::configuration::{AdvantageEstimator, Algorithm, ByteSize, Configuration, Schedule};

/// Most versions that an unroll may be old.
const MAX_POLICY_LAG: u64 = 10_000;
/// Bytes that a step has at least: a number of an observation, one of an action, its
/// log-probability, its reward and two flags.
const MIN_STEP_BYTES: u64 = 4 * 4 + 2;

/// The key and its value by which a policy's gradient is estimated as if the present policy had chosen
/// every action, and the remedy; none where older policies are corrected for or do no harm.
fn takes_all_for_its_own(
    configuration: &Configuration,
) -> Option<(&'static str, String, &'static str)> {
    let algorithm = configuration.run.algorithm;
    match algorithm {
        Algorithm::Ppo => (configuration.ppo.advantage == AdvantageEstimator::Gae).then(|| {
            let remedy = "set ppo.advantage = \"vtrace\"";
            ("ppo.advantage", "\"gae\"".to_owned(), remedy)
        }),
        Algorithm::A2c | Algorithm::Reinforce => {
            let remedy = "learn with impala, which corrects for that";
            let name = format!("\"{}\"", algorithm.name());
            Some(("run.algorithm", name, remedy))
        }
        // IMPALA weighs what older policies did. The others learn the values of a greedy or of a present policy
        // from anybody's transitions; SARSA those of whoever acted.
        Algorithm::Impala
        | Algorithm::Dqn
        | Algorithm::Sac
        | Algorithm::Td3
        | Algorithm::QLearning
        | Algorithm::Sarsa => None,
    }
}

impl Check {
    pub(super) fn schedule(&mut self, configuration: &Configuration) {
        let schedule = &configuration.schedule;
        self.range("schedule.lag", schedule.lag, 0..=1);
        self.optional_range(
            "schedule.max_policy_lag",
            schedule.max_policy_lag,
            0..=MAX_POLICY_LAG,
        );
        self.optional_range(
            "schedule.unrolls_per_update",
            schedule.unrolls_per_update,
            1..=MAX_EXTENT,
        );
        self.optional_range(
            "schedule.max_queue_bytes",
            schedule.max_queue_bytes,
            ByteSize::from_bytes(1 << 10)..=ByteSize::from_bytes(1 << 50),
        );
        match configuration.schedule() {
            Schedule::Synchronous { .. } => self.synchronous(configuration),
            Schedule::Asynchronous {
                max_policy_lag,
                max_queue_bytes,
                ..
            } => self.asynchronous(configuration, max_policy_lag, max_queue_bytes),
        }
    }

    /// What a synchronous run has no use for.
    fn synchronous(&mut self, configuration: &Configuration) {
        let schedule = &configuration.schedule;
        let options: [(&str, Option<&dyn Display>, &str); 3] = [
            (
                "schedule.max_policy_lag",
                schedule
                    .max_policy_lag
                    .as_ref()
                    .map(|value| value as &dyn Display),
                "lag says exactly how old every unroll is",
            ),
            (
                "schedule.unrolls_per_update",
                schedule
                    .unrolls_per_update
                    .as_ref()
                    .map(|value| value as &dyn Display),
                "an update consumes one unroll of each shard",
            ),
            (
                "schedule.max_queue_bytes",
                schedule
                    .max_queue_bytes
                    .as_ref()
                    .map(|value| value as &dyn Display),
                "lag + 1 unrolls of each shard are all that can wait",
            ),
        ];
        for (path, value, reason) in options {
            if let Some(value) = value {
                self.impossible(
                    &[("schedule.kind", &"\"synchronous\""), (path, value)],
                    format!("in a synchronous run {reason}"),
                    format!("leave {path} out, or set kind = \"asynchronous\""),
                );
            }
        }
    }

    fn asynchronous(
        &mut self,
        configuration: &Configuration,
        max_policy_lag: u64,
        max_queue_bytes: u64,
    ) {
        let schedule = &configuration.schedule;
        let kind: (&str, &dyn Display) = ("schedule.kind", &"\"asynchronous\"");
        if schedule.lag != 0 {
            self.impossible(
                &[kind, ("schedule.lag", &schedule.lag)],
                "in an asynchronous run nobody decides in advance how old an unroll is",
                "leave lag out and bound the age with max_policy_lag",
            );
        }
        if max_policy_lag > 0
            && let Some((key, value, remedy)) = takes_all_for_its_own(configuration)
        {
            self.impossible(
                &[
                    kind,
                    ("schedule.max_policy_lag", &max_policy_lag),
                    (key, &value),
                ],
                "it takes every unroll for the present policy's, and those of an asynchronous run are up \
                 to max_policy_lag versions older",
                format!(
                    "{remedy}, set max_policy_lag = 0, or kind = \"synchronous\", with lag = 1 to \
                     collect while the learner works"
                ),
            );
        }
        let unrolls = configuration.unrolls_per_update();
        let update_bytes = (configuration.rows_per_round() as u64).saturating_mul(MIN_STEP_BYTES);
        if update_bytes > max_queue_bytes {
            self.impossible(
                &[
                    ("schedule.max_queue_bytes", &ByteSize::from_bytes(max_queue_bytes)),
                    ("schedule.unrolls_per_update", &unrolls),
                ],
                format!(
                    "the {unrolls} unrolls of one update take {update_bytes} bytes at the least, and \
                     {max_queue_bytes} may wait: no update would ever be whole"
                ),
                "raise max_queue_bytes, lower unrolls_per_update, or make unrolls smaller",
            );
        }
    }
}
