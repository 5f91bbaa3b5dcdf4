//! Metrics of REINFORCE, A2C and the tables.

use metrics::{Unit, gauge};
use rookery_common::metric::Metric;

use super::off_policy::{Q_MAX, Q_MEAN, TD_ERROR};
use super::set_known;
use crate::algorithms::a2c::A2cStatistics;
use crate::algorithms::reinforce::ReinforceStatistics;
use crate::algorithms::tabular::TabularStatistics;

pub(super) const A2C_POLICY_LOSS: Metric = Metric::gauge(
    "rookery_a2c_policy_loss",
    Unit::Count,
    "Mean of minus the advantage times the logarithm of the action's probability.",
);
pub(super) const A2C_VALUE_LOSS: Metric = Metric::gauge(
    "rookery_a2c_value_loss",
    Unit::Count,
    "Squared error of the values.",
);
pub(super) const A2C_ENTROPY: Metric = Metric::gauge(
    "rookery_a2c_entropy_nats",
    Unit::Count,
    "Mean entropy of the policy.",
);
pub(super) const A2C_EXPLAINED_VARIANCE: Metric = Metric::gauge(
    "rookery_a2c_explained_variance_ratio",
    Unit::Count,
    "Share of the returns' variance that the values explain; 1 is perfect, below 0 is useless.",
);
pub(super) const A2C_GRADIENT_NORM: Metric = Metric::gauge(
    "rookery_a2c_gradient_norm",
    Unit::Count,
    "Norm of the gradient before clipping.",
);
pub(super) const A2C_LEARNING_RATE: Metric = Metric::gauge(
    "rookery_a2c_learning_rate",
    Unit::Count,
    "Step size of the optimiser.",
);
pub(super) const A2C_LOG_RATIO: Metric = Metric::gauge(
    "rookery_a2c_log_ratio",
    Unit::Count,
    "Mean |log ratio| to the policy that acted: at lag 0 only rounding, below 1e-5.",
);
pub(super) const REINFORCE_POLICY_LOSS: Metric = Metric::gauge(
    "rookery_reinforce_policy_loss",
    Unit::Count,
    "Mean of minus the return, less the baseline, times the logarithm of the action's probability.",
);
pub(super) const REINFORCE_VALUE_LOSS: Metric = Metric::gauge(
    "rookery_reinforce_value_loss",
    Unit::Count,
    "Squared error of the baseline.",
);
pub(super) const REINFORCE_ENTROPY: Metric = Metric::gauge(
    "rookery_reinforce_entropy_nats",
    Unit::Count,
    "Mean entropy of the policy.",
);
pub(super) const REINFORCE_EXPLAINED_VARIANCE: Metric = Metric::gauge(
    "rookery_reinforce_explained_variance_ratio",
    Unit::Count,
    "Share of the returns' variance that the baseline explains; 1 is perfect, below 0 is useless.",
);
pub(super) const REINFORCE_GRADIENT_NORM: Metric = Metric::gauge(
    "rookery_reinforce_gradient_norm",
    Unit::Count,
    "Norm of the gradient before clipping.",
);
pub(super) const REINFORCE_LEARNING_RATE: Metric = Metric::gauge(
    "rookery_reinforce_learning_rate",
    Unit::Count,
    "Step size of the optimiser.",
);
pub(super) const REINFORCE_LOG_RATIO: Metric = Metric::gauge(
    "rookery_reinforce_log_ratio",
    Unit::Count,
    "Mean |log ratio| to the policies that acted; larger the longer episodes wait for their end.",
);
pub(super) const REINFORCE_UNFINISHED: Metric = Metric::gauge(
    "rookery_reinforce_unfinished_steps",
    Unit::Count,
    "Steps that wait for the end of their episode.",
);
pub(super) const TABULAR_EPSILON: Metric = Metric::gauge(
    "rookery_tabular_epsilon_ratio",
    Unit::Count,
    "Probability with which a collected action was random.",
);
pub(super) const TABULAR_LEARNING_RATE: Metric = Metric::gauge(
    "rookery_tabular_learning_rate_ratio",
    Unit::Count,
    "Share of its error by which a value moves.",
);

pub(super) fn record_a2c(statistics: &A2cStatistics) {
    let step = &statistics.step;
    set_known(&[
        (A2C_POLICY_LOSS, step.policy_loss),
        (A2C_VALUE_LOSS, step.value_loss),
        (A2C_ENTROPY, step.entropy),
        (A2C_EXPLAINED_VARIANCE, statistics.explained_variance),
        (A2C_GRADIENT_NORM, step.gradient_norm),
        (A2C_LEARNING_RATE, Some(step.learning_rate)),
        (A2C_LOG_RATIO, step.log_ratio),
    ]);
}

pub(super) fn record_reinforce(statistics: &ReinforceStatistics) {
    let step = &statistics.step;
    set_known(&[
        (REINFORCE_POLICY_LOSS, step.policy_loss),
        (REINFORCE_VALUE_LOSS, step.value_loss),
        (REINFORCE_ENTROPY, step.entropy),
        (REINFORCE_EXPLAINED_VARIANCE, statistics.explained_variance),
        (REINFORCE_GRADIENT_NORM, step.gradient_norm),
        (REINFORCE_LEARNING_RATE, Some(step.learning_rate)),
        (REINFORCE_LOG_RATIO, step.log_ratio),
    ]);
    gauge!(REINFORCE_UNFINISHED.name).set(statistics.unfinished_steps as f64);
}

pub(super) fn record_tabular(statistics: &TabularStatistics) {
    set_known(&[
        (TD_ERROR, statistics.td_error),
        (Q_MEAN, Some(statistics.q_mean)),
        (Q_MAX, Some(statistics.q_max)),
        (TABULAR_EPSILON, Some(statistics.epsilon)),
        (TABULAR_LEARNING_RATE, Some(statistics.learning_rate)),
    ]);
}
