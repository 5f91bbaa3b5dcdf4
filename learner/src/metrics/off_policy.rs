//! Metrics of the algorithms that learn from replay.

use metrics::Unit;
use rookery_common::metric::Metric;

use super::set_known;
use crate::algorithms::dqn::DqnStatistics;
use crate::algorithms::replayed::ReplayStatistics;
use crate::algorithms::sac::SacStatistics;
use crate::algorithms::td3::Td3Statistics;
use crate::algorithms::twin_critics::CriticStatistics;

pub(super) const DQN_LOSS: Metric = Metric::gauge(
    "rookery_dqn_loss",
    Unit::Count,
    "Mean weighted loss of the action values.",
);
pub(super) const EPSILON: Metric = Metric::gauge(
    "rookery_dqn_epsilon_ratio",
    Unit::Count,
    "Probability with which a collected action was random, where all shards have the same.",
);
pub(super) const CRITIC_LOSS: Metric = Metric::gauge(
    "rookery_critic_loss",
    Unit::Count,
    "Half the mean squared errors of both critics.",
);
pub(super) const SAC_ENTROPY: Metric = Metric::gauge(
    "rookery_sac_entropy_nats",
    Unit::Count,
    "Mean entropy of the policy, of a continuous one estimated from drawn actions.",
);
pub(super) const TARGET_ENTROPY: Metric = Metric::gauge(
    "rookery_sac_target_entropy_nats",
    Unit::Count,
    "Entropy that the temperature aims at.",
);
pub(super) const TEMPERATURE: Metric = Metric::gauge(
    "rookery_sac_temperature",
    Unit::Count,
    "Weight of the entropy beside the reward, alpha.",
);
pub(super) const POLICY_VALUE: Metric = Metric::gauge(
    "rookery_td3_policy_value",
    Unit::Count,
    "Mean value of the policy's own actions by the first critic, which the policy climbs.",
);
pub(super) const TD_ERROR: Metric = Metric::gauge(
    "rookery_td_error",
    Unit::Count,
    "Mean size of the temporal-difference error, or of what stands for it in a distribution.",
);
pub(super) const Q_MEAN: Metric = Metric::gauge(
    "rookery_q_value_mean",
    Unit::Count,
    "Mean action value in the last minibatch, or of a whole table.",
);
pub(super) const Q_MAX: Metric = Metric::gauge(
    "rookery_q_value_max",
    Unit::Count,
    "Largest action value in the last minibatch, or of a whole table.",
);
pub(super) const OFF_POLICY_GRADIENT_NORM: Metric = Metric::gauge(
    "rookery_off_policy_gradient_norm",
    Unit::Count,
    "Mean norm of the gradients of action values or critics before clipping.",
);
pub(super) const REPLAY_SIZE: Metric = Metric::gauge(
    "rookery_replay_size",
    Unit::Count,
    "Transitions that can be sampled.",
);
pub(super) const REPLAY_AGE: Metric = Metric::gauge(
    "rookery_replay_age_steps",
    Unit::Count,
    "Mean age of the transitions sampled last, in steps of their environment.",
);
pub(super) const SAMPLES_PER_INSERT: Metric = Metric::gauge(
    "rookery_replay_samples_per_insert_ratio",
    Unit::Count,
    "Transitions sampled so far for each one inserted.",
);
pub(super) const IMPORTANCE_WEIGHT: Metric = Metric::gauge(
    "rookery_replay_importance_weight_ratio",
    Unit::Count,
    "Mean importance weight of the transitions sampled last; 1 where sampling is uniform.",
);

pub(super) fn record_dqn(statistics: &DqnStatistics) {
    set_known(&[
        (DQN_LOSS, statistics.loss),
        (TD_ERROR, statistics.td_error),
        (Q_MEAN, statistics.q_mean),
        (Q_MAX, statistics.q_max),
        (EPSILON, statistics.epsilon),
        (OFF_POLICY_GRADIENT_NORM, statistics.gradient_norm),
    ]);
    record_replay(&statistics.replay);
}

pub(super) fn record_sac(statistics: &SacStatistics) {
    set_known(&[
        (SAC_ENTROPY, statistics.entropy),
        (TARGET_ENTROPY, Some(statistics.target_entropy)),
        (TEMPERATURE, Some(statistics.temperature)),
    ]);
    record_critics(&statistics.critics);
    record_replay(&statistics.replay);
}

pub(super) fn record_td3(statistics: &Td3Statistics) {
    set_known(&[(POLICY_VALUE, statistics.policy_value)]);
    record_critics(&statistics.critics);
    record_replay(&statistics.replay);
}

fn record_critics(statistics: &CriticStatistics) {
    set_known(&[
        (CRITIC_LOSS, statistics.critic_loss),
        (TD_ERROR, statistics.td_error),
        (Q_MEAN, statistics.q_mean),
        (Q_MAX, statistics.q_max),
        (OFF_POLICY_GRADIENT_NORM, statistics.gradient_norm),
    ]);
}

fn record_replay(statistics: &ReplayStatistics) {
    set_known(&[
        (REPLAY_SIZE, Some(statistics.replay_size as f64)),
        (REPLAY_AGE, statistics.replay_age),
        (SAMPLES_PER_INSERT, Some(statistics.samples_per_insert)),
        (IMPORTANCE_WEIGHT, statistics.importance_weight),
    ]);
}
