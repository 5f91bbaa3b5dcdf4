//! What a process says about itself: log lines, and metrics for Prometheus.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::configuration::{LogFormat, TelemetryConfiguration};

/// Gauge that is always 1, whose labels say which build of which program runs.
pub const BUILD_INFO: &str = "rookery_build_info";

/// Version of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Upper bounds, in seconds, for histograms of waits and work: 10 microseconds to a minute.
pub const SECONDS_BUCKETS: [f64; 14] = [
    0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0,
];

/// Time between clean-ups of the recorder, without which what histograms have seen since the last
/// scrape grows without bound.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Scrapes at the same time; a further one waits.
const MAX_CONNECTIONS: usize = 16;
/// Longest wait for the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait after a failure to accept, such as that no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is none.
    #[error("telemetry.log: {log:?} is no filter: {reason}")]
    Filter {
        /// The filter.
        log: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something in this process writes log lines or takes metrics already.
    #[error("{what} of this process are taken already: set telemetry up once")]
    Taken {
        /// What is.
        what: &'static str,
    },
    /// A histogram has no buckets, or its name is empty.
    #[error("histogram {name:?} has no usable buckets")]
    Buckets {
        /// The histogram.
        name: String,
    },
    /// The port for metrics cannot be had.
    #[error("metrics cannot be served on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// Sends log lines to the standard error stream, as the configuration says.
///
/// # Errors
/// If the filter is none, or log lines are taken already.
pub fn init(configuration: &TelemetryConfiguration) -> Result<(), TelemetryError> {
    let filter =
        EnvFilter::try_new(&configuration.log).map_err(|error| TelemetryError::Filter {
            log: configuration.log.clone(),
            reason: error.to_string(),
        })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match configuration.log_format {
        LogFormat::Text => builder
            .with_ansi(io::stderr().is_terminal())
            .finish()
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .map_err(|_| TelemetryError::Taken { what: "log lines" })
}

/// Seconds since 1970, for people to read: the one place that reads the wall clock. No logic may
/// depend on it, since it jumps.
#[expect(
    clippy::disallowed_methods,
    reason = "times that people read come from here"
)]
pub fn unix_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// The metrics of this process.
#[derive(Clone, Debug)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Takes the metrics of this process from now on, and says which `program` it is by
    /// [`BUILD_INFO`]. Histograms that `buckets` does not name get [`SECONDS_BUCKETS`].
    ///
    /// Whoever installs them runs a [`MetricsListener`], which also cleans up after histograms.
    /// Where nobody reads metrics, do not install them: recording then costs next to nothing.
    ///
    /// # Errors
    /// If metrics are taken already, or a histogram has no buckets.
    pub fn install(
        program: &'static str,
        buckets: &[(&str, &[f64])],
    ) -> Result<Self, TelemetryError> {
        let (recorder, metrics) = Self::build(buckets)?;
        metrics::set_global_recorder(recorder)
            .map_err(|_| TelemetryError::Taken { what: "metrics" })?;
        record_build_info(program);
        Ok(metrics)
    }

    fn build(buckets: &[(&str, &[f64])]) -> Result<(PrometheusRecorder, Self), TelemetryError> {
        let unusable = |name: &str| TelemetryError::Buckets {
            name: name.to_owned(),
        };
        let mut builder = PrometheusBuilder::new()
            .set_buckets(&SECONDS_BUCKETS)
            .map_err(|_| unusable("default"))?;
        for (name, bounds) in buckets {
            builder = builder
                .set_buckets_for_metric(Matcher::Full((*name).to_owned()), bounds)
                .map_err(|_| unusable(name))?;
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        Ok((recorder, Self { handle }))
    }

    /// Every metric in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Binds the address at which Prometheus reads the metrics; port 0 lets the system choose one.
    ///
    /// Metrics hold no secrets, but whoever reaches the port can read them.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn listen(&self, address: SocketAddr) -> Result<MetricsListener, TelemetryError> {
        let failed = |source| TelemetryError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(MetricsListener {
            metrics: self.clone(),
            listener,
            address,
        })
    }
}

/// Describes and sets [`BUILD_INFO`].
fn record_build_info(program: &'static str) {
    metrics::describe_gauge!(BUILD_INFO, "Which build of which program runs; always 1.");
    metrics::gauge!(
        BUILD_INFO,
        "program" => program,
        "version" => VERSION,
        "profile" => if cfg!(debug_assertions) { "debug" } else { "release" },
    )
    .set(1.0);
}

/// A bound address at which metrics are read: `/metrics`, and `/health` that says the process
/// lives.
#[derive(Debug)]
pub struct MetricsListener {
    metrics: Metrics,
    listener: TcpListener,
    address: SocketAddr,
}

impl MetricsListener {
    /// Where it listens, with the port that it got.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers, and keeps the recorder tidy, until `shutdown` completes. Answers that are on
    /// their way then are dropped.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut upkeep = interval(UPKEEP_INTERVAL);
        let mut connections = JoinSet::new();
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                _ = upkeep.tick() => self.metrics.handle.run_upkeep(),
                Some(_) = connections.join_next() => {}
                (accepted, permit) = accept(&self.listener, &permits) => match accepted {
                    Ok(stream) => {
                        connections.spawn(answer(stream, self.metrics.clone(), permit));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "metrics connection not accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }
}

/// Waits for a free place, then for a connection.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (io::Result<TcpStream>, Option<OwnedSemaphorePermit>) {
    let permit = Arc::clone(permits).acquire_owned().await.ok();
    (listener.accept().await.map(|(stream, _)| stream), permit)
}

/// Answers the requests of one connection.
async fn answer(stream: TcpStream, metrics: Metrics, permit: Option<OwnedSemaphorePermit>) {
    let service = service_fn(|request| {
        let response = respond(&request, &metrics);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "metrics connection ended early");
    }
    drop(permit);
}

/// The answer to one request.
fn respond(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, content_type, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            metrics.render(),
        ),
        (&Method::GET | &Method::HEAD, "/health") => {
            (StatusCode::OK, "text/plain", "ok\n".to_owned())
        }
        (&Method::GET | &Method::HEAD, _) => (
            StatusCode::NOT_FOUND,
            "text/plain",
            "see /metrics and /health\n".to_owned(),
        ),
        _ => (
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "use GET\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;

    async fn get(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn metrics_are_served_where_the_listener_says() {
        let (recorder, metrics) = Metrics::build(&[("batch_rows", &[8.0, 64.0])]).unwrap();
        metrics::with_local_recorder(&recorder, || {
            record_build_info("test");
            metrics::histogram!("batch_rows").record(10.0);
            metrics::histogram!("wait_seconds").record(0.002);
        });
        let listener = metrics.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.address();
        assert_ne!(address.port(), 0);
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(listener.run(async {
            stopped.await.ok();
        }));
        let response = get(address, "GET /metrics").await;
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        for line in [
            &format!("rookery_build_info{{program=\"test\",version=\"{VERSION}\",profile="),
            "# TYPE batch_rows histogram",
            "batch_rows_bucket{le=\"8\"} 0",
            "batch_rows_bucket{le=\"64\"} 1",
            "wait_seconds_bucket{le=\"0.003\"} 1",
        ] {
            assert!(response.contains(line), "{line} is missing in {response}");
        }
        assert!(get(address, "GET /health").await.ends_with("ok\n"));
        assert!(get(address, "GET /").await.starts_with("HTTP/1.1 404"));
        assert!(
            get(address, "POST /metrics")
                .await
                .starts_with("HTTP/1.1 405")
        );
        stop.send(()).unwrap();
        running.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let (_recorder, metrics) = Metrics::build(&[]).unwrap();
        let message = metrics.listen(address).await.unwrap_err().to_string();
        assert!(message.contains(&address.to_string()), "{message}");
    }

    #[test]
    fn a_histogram_without_buckets_is_refused() {
        let error = Metrics::build(&[("empty", &[])]).unwrap_err();
        assert!(matches!(error, TelemetryError::Buckets { name } if name == "empty"));
    }

    #[test]
    fn a_filter_that_is_none_is_refused() {
        let configuration = TelemetryConfiguration {
            log: "rookery=loud".to_owned(),
            ..TelemetryConfiguration::default()
        };
        let error = init(&configuration).unwrap_err();
        assert!(matches!(error, TelemetryError::Filter { .. }), "{error}");
    }

    #[test]
    fn the_wall_clock_is_past_the_year_2020() {
        assert!(unix_seconds() > 1_577_836_800.0);
    }
}
