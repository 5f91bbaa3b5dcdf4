//! How a metric is declared: once, as a constant, with its kind, unit and help.

use std::net::SocketAddr;

use metrics::Unit;

use crate::telemetry::{Metrics, TelemetryError};

/// What a metric measures with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets with these upper bounds.
    Histogram(&'static [f64]),
}

/// One metric of one program.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its Prometheus name.
    pub name: &'static str,
    /// What it measures with.
    pub kind: Kind,
    /// The unit of its values.
    pub unit: Unit,
    /// What it says, for people.
    pub help: &'static str,
}

impl Metric {
    /// Declares a counter.
    #[must_use]
    pub const fn counter(name: &'static str, unit: Unit, help: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Counter,
            unit,
            help,
        }
    }

    /// Declares a gauge.
    #[must_use]
    pub const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            unit,
            help,
        }
    }

    /// Declares a histogram with these upper bounds.
    #[must_use]
    pub const fn histogram(
        name: &'static str,
        unit: Unit,
        buckets: &'static [f64],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: Kind::Histogram(buckets),
            unit,
            help,
        }
    }

    /// Tells the exporter about it.
    pub fn describe(&self) {
        match self.kind {
            Kind::Counter => metrics::describe_counter!(self.name, self.unit, self.help),
            Kind::Gauge => metrics::describe_gauge!(self.name, self.unit, self.help),
            Kind::Histogram(_) => metrics::describe_histogram!(self.name, self.unit, self.help),
        }
    }

    /// One line for a list of metrics.
    #[must_use]
    pub fn summary(&self) -> String {
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        format!("{} ({kind}): {}", self.name, self.help)
    }
}

/// Takes the metrics of this process, answers scrapes at `listen` as long as the process lives,
/// and returns the address with the port that it got.
///
/// # Errors
/// If metrics are taken already or the address cannot be bound.
pub async fn serve(
    program: &'static str,
    listen: SocketAddr,
    all: &[Metric],
) -> Result<SocketAddr, TelemetryError> {
    let buckets: Vec<(&str, &[f64])> = all
        .iter()
        .filter_map(|metric| match metric.kind {
            Kind::Histogram(buckets) => Some((metric.name, buckets)),
            Kind::Counter | Kind::Gauge => None,
        })
        .collect();
    let listener = Metrics::install(program, &buckets)?.listen(listen).await?;
    let address = listener.address();
    tokio::spawn(listener.run(std::future::pending()));
    Ok(address)
}

/// Upper bounds in seconds for the stages of a round, from 10 microseconds to a minute.
pub const STAGE_SECONDS: &[f64] = &[
    1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0,
];
