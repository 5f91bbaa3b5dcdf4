//! Metrics of V-trace, and of the algorithm that is made of it.

use metrics::Unit;
use rookery_common::metric::Metric;

use super::set_known;
use crate::algorithms::impala::ImpalaStatistics;

pub(super) const POLICY_LOSS: Metric = Metric::gauge(
    "rookery_impala_policy_loss",
    Unit::Count,
    "Weighted policy-gradient loss.",
);
pub(super) const VALUE_LOSS: Metric = Metric::gauge(
    "rookery_impala_value_loss",
    Unit::Count,
    "Half the squared error of the values.",
);
pub(super) const ENTROPY: Metric = Metric::gauge(
    "rookery_impala_entropy_nats",
    Unit::Count,
    "Mean entropy of the policy.",
);
pub(super) const EXPLAINED_VARIANCE: Metric = Metric::gauge(
    "rookery_impala_explained_variance_ratio",
    Unit::Count,
    "Share of the targets' variance that the values explain; 1 is perfect, below 0 is useless.",
);
pub(super) const GRADIENT_NORM: Metric = Metric::gauge(
    "rookery_impala_gradient_norm",
    Unit::Count,
    "Norm of the gradient before clipping.",
);
pub(super) const LEARNING_RATE: Metric = Metric::gauge(
    "rookery_impala_learning_rate",
    Unit::Count,
    "Step size of the optimiser.",
);
pub(super) const LOG_RATIO: Metric = Metric::gauge(
    "rookery_impala_log_ratio",
    Unit::Count,
    "Mean |log ratio| of the policy that is trained to those that acted.",
);
pub(super) const RHO_CLIP_FRACTION: Metric = Metric::gauge(
    "rookery_vtrace_rho_clip_fraction_ratio",
    Unit::Count,
    "Share of the steps whose importance weight was cut off in V-trace's temporal differences.",
);
pub(super) const C_CLIP_FRACTION: Metric = Metric::gauge(
    "rookery_vtrace_c_clip_fraction_ratio",
    Unit::Count,
    "Share of the steps whose importance weight was cut off in V-trace's trace.",
);
pub(super) fn record(statistics: &ImpalaStatistics) {
    set_known(&[
        (POLICY_LOSS, Some(statistics.policy_loss)),
        (VALUE_LOSS, Some(statistics.value_loss)),
        (ENTROPY, Some(statistics.entropy)),
        (EXPLAINED_VARIANCE, statistics.explained_variance),
        (GRADIENT_NORM, statistics.gradient_norm),
        (LEARNING_RATE, Some(statistics.learning_rate)),
        (LOG_RATIO, Some(statistics.log_ratio)),
        (RHO_CLIP_FRACTION, Some(statistics.rho_clip_fraction)),
        (C_CLIP_FRACTION, Some(statistics.c_clip_fraction)),
    ]);
}
