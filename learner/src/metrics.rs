//! Every metric that the learner exports: declared here and named nowhere else.

mod impala;
mod off_policy;
mod simple;

use std::time::Duration;

use metrics::{Unit, counter, gauge, histogram};
use rookery_common::metric::{Metric, STAGE_SECONDS};

use crate::accounting::{Outcome, Refused};
use crate::algorithms::Statistics;
use crate::algorithms::ppo::PpoStatistics;
use crate::diagnosis::{Limit, Rule, Verdict};
use crate::experience::rollout::CompleteRound;
use crate::fleet::FleetSize;
use crate::logs::Sink;
use crate::progress::Stage;
use crate::queue::QueueLoad;

const ENV_STEPS: Metric = Metric::counter(
    "rookery_env_steps_total",
    Unit::Count,
    "Environment steps consumed by updates.",
);
const EPISODES: Metric = Metric::counter(
    "rookery_episodes_total",
    Unit::Count,
    "Training episodes that ended in consumed rounds.",
);
const UPDATES: Metric = Metric::counter(
    "rookery_updates_total",
    Unit::Count,
    "Rounds that were learned from.",
);
const UNROLLS: Metric = Metric::counter(
    "rookery_unrolls_total",
    Unit::Count,
    "Unrolls received, by result: queued, duplicate, stale or invalid.",
);
const UNROLLS_REFUSED: Metric = Metric::counter(
    "rookery_unrolls_refused_total",
    Unit::Count,
    "Unrolls refused, by reason: stale (lease or learner is over), wrong_version, too_old, \
     unpublished, gap, invalid or non_finite.",
);
const UNROLLS_TRAINED: Metric = Metric::counter(
    "rookery_unrolls_trained_total",
    Unit::Count,
    "Unrolls consumed by updates; each queued unroll at most once.",
);
const UNROLLS_QUEUED: Metric = Metric::gauge(
    "rookery_unrolls_queued",
    Unit::Count,
    "Admitted unrolls that wait for their round.",
);
const QUEUE_BYTES: Metric = Metric::gauge(
    "rookery_queue_bytes",
    Unit::Bytes,
    "Unrolls that are admitted and not yet trained on; schedule.max_queue_bytes bounds an \
     asynchronous run's.",
);
const BACK_PRESSURE: Metric = Metric::histogram(
    "rookery_back_pressure_seconds",
    Unit::Seconds,
    STAGE_SECONDS,
    "Time for which an unroll waited for room in the queue, and its stream and its environments with \
     it; of those that found none at once.",
);
const DISCONTINUITIES: Metric = Metric::counter(
    "rookery_unrolls_discontinuous_total",
    Unit::Count,
    "Consumed unrolls whose environments had been reset before them; elastic determinism is off \
     from the first on.",
);
const RECEIVED_BYTES: Metric = Metric::counter(
    "rookery_received_bytes_total",
    Unit::Bytes,
    "Bytes of unroll messages received.",
);
const STAGE: Metric = Metric::histogram(
    "rookery_learner_stage_seconds",
    Unit::Seconds,
    STAGE_SECONDS,
    "Time of the compute thread in each round, by stage: wait, batch, copy, update, publish, record, \
     checkpoint.",
);
const BOTTLENECK: Metric = Metric::gauge(
    "rookery_bottleneck",
    Unit::Count,
    "1 for the stage that limits the run, 0 for the others: environment, forward, wire, queue, batch, \
     copy, update, publish.",
);
const BOTTLENECK_BUSY: Metric = Metric::gauge(
    "rookery_bottleneck_busy_ratio",
    Unit::Count,
    "How busy that stage is: the share of its side's time, of wire and queue the share in which neither \
     side works.",
);
const SUGGESTED_ACTORS: Metric = Metric::gauge(
    "rookery_suggested_actors",
    Unit::Count,
    "Actors like those of now that would collect as fast as the learner learns; as many as there are where \
     that cannot be said.",
);
const DIAGNOSIS: Metric = Metric::gauge(
    "rookery_diagnosis",
    Unit::Count,
    "1 while a rule says that the run looks sick, by rule.",
);
const QUEUE_WAIT: Metric = Metric::histogram(
    "rookery_queue_wait_seconds",
    Unit::Seconds,
    STAGE_SECONDS,
    "Time from the admission of an unroll to its consumption.",
);
const POLICY_LAG: Metric = Metric::histogram(
    "rookery_policy_lag_updates",
    Unit::Count,
    &[0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
    "Version at consumption minus the version that chose the actions, for each unroll.",
);
const POLICY_VERSION: Metric = Metric::gauge(
    "rookery_policy_version",
    Unit::Count,
    "Newest published version.",
);
const PUBLISHED_BYTES: Metric = Metric::counter(
    "rookery_published_bytes_total",
    Unit::Bytes,
    "Bytes of parameters published, each version counted once.",
);
const ACTORS: Metric = Metric::gauge(
    "rookery_actors",
    Unit::Count,
    "Actor sessions with an open stream.",
);
const EVALUATORS: Metric = Metric::gauge(
    "rookery_evaluators",
    Unit::Count,
    "Evaluator sessions with an open stream.",
);
const SHARDS: Metric = Metric::gauge("rookery_shards", Unit::Count, "Shards of the run.");
const SHARDS_LEASED: Metric = Metric::gauge(
    "rookery_shards_leased",
    Unit::Count,
    "Shards that an actor holds.",
);
const EPISODE_RETURN: Metric = Metric::histogram(
    "rookery_episode_return",
    Unit::Count,
    &[
        -1e4, -3e3, -1e3, -500.0, -200.0, -100.0, -50.0, -20.0, -10.0, -1.0, 0.0, 1.0, 10.0, 20.0,
        50.0, 100.0, 200.0, 500.0, 1e3, 3e3, 1e4,
    ],
    "Raw return of each training episode.",
);
const EPISODE_LENGTH: Metric = Metric::histogram(
    "rookery_episode_length_steps",
    Unit::Count,
    &[
        1.0, 3.0, 10.0, 30.0, 100.0, 200.0, 300.0, 500.0, 1e3, 3e3, 1e4, 3e4, 1e5,
    ],
    "Length of each training episode in environment steps.",
);
const EVALUATION_RETURN: Metric = Metric::gauge(
    "rookery_evaluation_return",
    Unit::Count,
    "Mean raw return of the newest evaluation.",
);
const CHECKPOINTS: Metric = Metric::counter(
    "rookery_checkpoints_total",
    Unit::Count,
    "Checkpoints, by result: written or failed.",
);
const CHECKPOINT_SECONDS: Metric = Metric::histogram(
    "rookery_checkpoint_seconds",
    Unit::Seconds,
    STAGE_SECONDS,
    "Time to write a checkpoint, beside training.",
);
const CHECKPOINT_TIME: Metric = Metric::gauge(
    "rookery_checkpoint_last_success_timestamp_seconds",
    Unit::Seconds,
    "When the newest checkpoint was written, in seconds since 1970.",
);
const POLICY_LOSS: Metric = Metric::gauge(
    "rookery_ppo_policy_loss",
    Unit::Count,
    "Clipped surrogate loss.",
);
const VALUE_LOSS: Metric = Metric::gauge(
    "rookery_ppo_value_loss",
    Unit::Count,
    "Squared error of the values.",
);
const ENTROPY: Metric = Metric::gauge(
    "rookery_ppo_entropy_nats",
    Unit::Count,
    "Mean entropy of the policy.",
);
const APPROX_KL: Metric = Metric::gauge(
    "rookery_ppo_approx_kl_nats",
    Unit::Count,
    "Estimated divergence from the policy that acted.",
);
const CLIP_FRACTION: Metric = Metric::gauge(
    "rookery_ppo_clip_fraction_ratio",
    Unit::Count,
    "Share of the rows whose probability ratio was clipped.",
);
const EXPLAINED_VARIANCE: Metric = Metric::gauge(
    "rookery_ppo_explained_variance_ratio",
    Unit::Count,
    "Share of the returns' variance that the values explain; 1 is perfect, below 0 is useless.",
);
const GRADIENT_NORM: Metric = Metric::gauge(
    "rookery_ppo_gradient_norm",
    Unit::Count,
    "Mean norm of the gradients before clipping.",
);
const LEARNING_RATE: Metric = Metric::gauge(
    "rookery_ppo_learning_rate",
    Unit::Count,
    "Step size of the optimiser.",
);
const INITIAL_LOG_RATIO: Metric = Metric::gauge(
    "rookery_ppo_initial_log_ratio",
    Unit::Count,
    "Mean |log ratio| before the first gradient step: at lag 0 only rounding, below 1e-5.",
);
const GRADIENT_STEPS: Metric = Metric::counter(
    "rookery_gradient_steps_total",
    Unit::Count,
    "Gradient steps taken.",
);
const SKIPPED_STEPS: Metric = Metric::counter(
    "rookery_gradient_steps_skipped_total",
    Unit::Count,
    "Gradient steps that were not taken because the gradient was not finite.",
);

const LOG_POINTS_DROPPED: Metric = Metric::counter(
    "rookery_log_points_dropped_total",
    Unit::Count,
    "Points that no experiment log has got, by log: tensorboard (the disk is full or too slow) or mlflow \
     (the server was away for too long, or refused them).",
);

/// Every metric, in the order of the data's route.
pub const ALL: &[Metric] = &[
    ENV_STEPS,
    EPISODES,
    UPDATES,
    UNROLLS,
    UNROLLS_REFUSED,
    UNROLLS_TRAINED,
    UNROLLS_QUEUED,
    QUEUE_BYTES,
    BACK_PRESSURE,
    DISCONTINUITIES,
    RECEIVED_BYTES,
    STAGE,
    BOTTLENECK,
    BOTTLENECK_BUSY,
    SUGGESTED_ACTORS,
    DIAGNOSIS,
    QUEUE_WAIT,
    POLICY_LAG,
    POLICY_VERSION,
    PUBLISHED_BYTES,
    ACTORS,
    EVALUATORS,
    SHARDS,
    SHARDS_LEASED,
    EPISODE_RETURN,
    EPISODE_LENGTH,
    EVALUATION_RETURN,
    CHECKPOINTS,
    CHECKPOINT_SECONDS,
    CHECKPOINT_TIME,
    POLICY_LOSS,
    VALUE_LOSS,
    ENTROPY,
    APPROX_KL,
    CLIP_FRACTION,
    EXPLAINED_VARIANCE,
    GRADIENT_NORM,
    LEARNING_RATE,
    INITIAL_LOG_RATIO,
    impala::POLICY_LOSS,
    impala::VALUE_LOSS,
    impala::ENTROPY,
    impala::EXPLAINED_VARIANCE,
    impala::GRADIENT_NORM,
    impala::LEARNING_RATE,
    impala::LOG_RATIO,
    impala::RHO_CLIP_FRACTION,
    impala::C_CLIP_FRACTION,
    off_policy::DQN_LOSS,
    off_policy::EPSILON,
    off_policy::CRITIC_LOSS,
    off_policy::SAC_ENTROPY,
    off_policy::TARGET_ENTROPY,
    off_policy::TEMPERATURE,
    off_policy::POLICY_VALUE,
    off_policy::TD_ERROR,
    off_policy::Q_MEAN,
    off_policy::Q_MAX,
    off_policy::OFF_POLICY_GRADIENT_NORM,
    off_policy::REPLAY_SIZE,
    off_policy::REPLAY_AGE,
    off_policy::SAMPLES_PER_INSERT,
    off_policy::IMPORTANCE_WEIGHT,
    simple::A2C_POLICY_LOSS,
    simple::A2C_VALUE_LOSS,
    simple::A2C_ENTROPY,
    simple::A2C_EXPLAINED_VARIANCE,
    simple::A2C_GRADIENT_NORM,
    simple::A2C_LEARNING_RATE,
    simple::A2C_LOG_RATIO,
    simple::REINFORCE_POLICY_LOSS,
    simple::REINFORCE_VALUE_LOSS,
    simple::REINFORCE_ENTROPY,
    simple::REINFORCE_EXPLAINED_VARIANCE,
    simple::REINFORCE_GRADIENT_NORM,
    simple::REINFORCE_LEARNING_RATE,
    simple::REINFORCE_LOG_RATIO,
    simple::REINFORCE_UNFINISHED,
    simple::TABULAR_EPSILON,
    simple::TABULAR_LEARNING_RATE,
    GRADIENT_STEPS,
    SKIPPED_STEPS,
    LOG_POINTS_DROPPED,
];

pub(crate) fn count_unroll(outcome: Outcome) {
    let result = match outcome {
        Outcome::Queued => "queued",
        Outcome::Duplicate => "duplicate",
        Outcome::Stale => "stale",
        Outcome::Invalid => "invalid",
    };
    counter!(UNROLLS.name, "result" => result).increment(1);
    if outcome == Outcome::Queued {
        gauge!(UNROLLS_QUEUED.name).increment(1.0);
    }
}

pub(crate) fn count_refusal(reason: Refused) {
    counter!(UNROLLS_REFUSED.name, "reason" => reason.name()).increment(1);
}

pub(crate) fn set_queue(load: QueueLoad) {
    gauge!(QUEUE_BYTES.name).set(load.bytes as f64);
}

pub(crate) fn record_back_pressure(time: Duration) {
    histogram!(BACK_PRESSURE.name).record(time.as_secs_f64());
}

pub(crate) fn count_trained(count: u64) {
    counter!(UNROLLS_TRAINED.name).increment(count);
    gauge!(UNROLLS_QUEUED.name).decrement(count as f64);
}

pub(crate) fn count_received_bytes(count: u64) {
    counter!(RECEIVED_BYTES.name).increment(count);
}

pub(crate) fn record_stage(stage: Stage, time: Duration) {
    histogram!(STAGE.name, "stage" => stage.name()).record(time.as_secs_f64());
}

/// Says what limits a run with `actors`.
pub(crate) fn set_bottleneck(verdict: Option<&Verdict>, actors: usize) {
    for limit in Limit::ALL {
        let is_it = verdict.is_some_and(|verdict| verdict.stage == limit);
        gauge!(BOTTLENECK.name, "stage" => limit.name()).set(f64::from(u8::from(is_it)));
    }
    gauge!(BOTTLENECK_BUSY.name).set(verdict.map_or(0.0, |verdict| verdict.busy_ratio));
    let suggested = verdict.and_then(|verdict| verdict.suggested_actors);
    gauge!(SUGGESTED_ACTORS.name).set(suggested.map_or(actors as f64, f64::from));
}

pub(crate) fn set_diagnosis(rule: Rule, is_raised: bool) {
    gauge!(DIAGNOSIS.name, "rule" => rule.name()).set(f64::from(u8::from(is_raised)));
}

pub(crate) fn record_round(round: &CompleteRound, version: u64) {
    let queue_wait = histogram!(QUEUE_WAIT.name);
    for admitted_at in &round.admitted_at {
        queue_wait.record(admitted_at.elapsed().as_secs_f64());
    }
    let policy_lag = histogram!(POLICY_LAG.name);
    for lag in round.policy_lags(version) {
        policy_lag.record(lag as f64);
    }
    counter!(DISCONTINUITIES.name).increment(round.num_discontinuous());
}

pub(crate) fn record_publication(version: u64, num_parameters: usize) {
    gauge!(POLICY_VERSION.name).set(version as f64);
    counter!(PUBLISHED_BYTES.name).increment((num_parameters * size_of::<f32>()) as u64);
}

pub(crate) fn set_fleet(size: FleetSize) {
    gauge!(ACTORS.name).set(size.collectors as f64);
    gauge!(EVALUATORS.name).set(size.evaluators as f64);
    gauge!(SHARDS.name).set(size.shards as f64);
    gauge!(SHARDS_LEASED.name).set(size.shards_leased as f64);
}

pub(crate) fn record_episode(return_: f64, length: u32) {
    counter!(EPISODES.name).increment(1);
    histogram!(EPISODE_RETURN.name).record(return_);
    histogram!(EPISODE_LENGTH.name).record(f64::from(length));
}

pub(crate) fn record_evaluation(mean_return: f64) {
    gauge!(EVALUATION_RETURN.name).set(mean_return);
}

pub(crate) fn record_checkpoint(written: bool, time: Duration) {
    let result = if written { "written" } else { "failed" };
    counter!(CHECKPOINTS.name, "result" => result).increment(1);
    histogram!(CHECKPOINT_SECONDS.name).record(time.as_secs_f64());
    if written {
        gauge!(CHECKPOINT_TIME.name).set(rookery_common::telemetry::unix_seconds());
    }
}

pub(crate) fn count_dropped_points(log: Sink, count: u64) {
    counter!(LOG_POINTS_DROPPED.name, "log" => log.name()).increment(count);
}

pub(crate) fn record_update(env_steps: u64, statistics: &Statistics) {
    counter!(ENV_STEPS.name).absolute(env_steps);
    counter!(UPDATES.name).increment(1);
    counter!(GRADIENT_STEPS.name).increment(statistics.gradient_steps());
    counter!(SKIPPED_STEPS.name).increment(statistics.skipped_steps());
    match statistics {
        Statistics::Ppo(statistics) => record_ppo(statistics),
        Statistics::Impala(statistics) => impala::record(statistics),
        Statistics::Dqn(statistics) => off_policy::record_dqn(statistics),
        Statistics::Sac(statistics) => off_policy::record_sac(statistics),
        Statistics::Td3(statistics) => off_policy::record_td3(statistics),
        Statistics::A2c(statistics) => simple::record_a2c(statistics),
        Statistics::Reinforce(statistics) => simple::record_reinforce(statistics),
        Statistics::Tabular(statistics) => simple::record_tabular(statistics),
    }
}

/// Sets what is known; what is not yet known keeps its value.
fn set_known(values: &[(Metric, Option<f64>)]) {
    for (metric, value) in values {
        if let Some(value) = value {
            gauge!(metric.name).set(*value);
        }
    }
}

fn record_ppo(statistics: &PpoStatistics) {
    for (metric, value) in [
        (POLICY_LOSS, statistics.policy_loss),
        (VALUE_LOSS, statistics.value_loss),
        (ENTROPY, statistics.entropy),
        (APPROX_KL, statistics.approximate_kl),
        (CLIP_FRACTION, statistics.clip_fraction),
        (GRADIENT_NORM, statistics.gradient_norm),
        (LEARNING_RATE, statistics.learning_rate),
        (INITIAL_LOG_RATIO, statistics.initial_log_ratio),
    ] {
        gauge!(metric.name).set(value);
    }
    set_known(&[
        (EXPLAINED_VARIANCE, statistics.explained_variance),
        (impala::RHO_CLIP_FRACTION, statistics.rho_clip_fraction),
        (impala::C_CLIP_FRACTION, statistics.c_clip_fraction),
    ]);
}

/// Makes every series exist from the start, so that a rate over it is zero and not absent.
pub fn describe() {
    for metric in ALL {
        metric.describe();
    }
    for result in ["queued", "duplicate", "stale", "invalid"] {
        counter!(UNROLLS.name, "result" => result).increment(0);
    }
    for reason in Refused::ALL {
        counter!(UNROLLS_REFUSED.name, "reason" => reason.name()).increment(0);
    }
    for result in ["written", "failed"] {
        counter!(CHECKPOINTS.name, "result" => result).increment(0);
    }
    for log in Sink::ALL {
        count_dropped_points(log, 0);
    }
    for metric in [
        ENV_STEPS,
        EPISODES,
        UPDATES,
        UNROLLS_TRAINED,
        DISCONTINUITIES,
        RECEIVED_BYTES,
        GRADIENT_STEPS,
        SKIPPED_STEPS,
    ] {
        counter!(metric.name).increment(0);
    }
    set_bottleneck(None, 0);
    for rule in Rule::ALL {
        set_diagnosis(rule, false);
    }
    set_fleet(FleetSize::default());
    set_queue(QueueLoad::default());
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
    fn names_follow_prometheus_practice() {
        for metric in ALL {
            assert!(metric.name.starts_with("rookery_"), "{}", metric.name);
            let counts = matches!(metric.kind, rookery_common::metric::Kind::Counter);
            assert_eq!(counts, metric.name.ends_with("_total"), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
