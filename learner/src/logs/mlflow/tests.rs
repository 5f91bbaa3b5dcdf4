//! The client against a stub that keeps runs as a tracking server does, holds every call against the
//! server's limits, and fails as it is told.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rookery_common::configuration::Configuration;
use serde_json::{Value, json};

use super::{Ending, Mlflow, Server, WAITING_POINTS};
use crate::logs::Point;

/// What the stub does with one call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Answers with this status and does nothing.
    Answer(u16),
    /// Does what is asked and hangs up without an answer.
    HangUp,
}

/// What the stub knows.
#[derive(Debug, Default)]
struct Known {
    experiments: Vec<String>,
    runs: Vec<Value>,
    /// Key, step and value of each metric, in the order of their arrival.
    metrics: Vec<(String, i64, f64)>,
    params: Vec<(String, String)>,
    statuses: Vec<String>,
    calls: Vec<String>,
    authorizations: Vec<String>,
    /// For the next calls of the path that each names.
    faults: VecDeque<(&'static str, Fault)>,
}

/// A stub at an address of its own.
struct Stub {
    address: SocketAddr,
    known: Arc<Mutex<Known>>,
}

impl Stub {
    fn new(faults: &[(&'static str, Fault)]) -> Self {
        let stub = Self {
            address: ([127, 0, 0, 1], 0).into(),
            known: Arc::default(),
        };
        stub.known().faults = faults.iter().copied().collect();
        stub.listen()
    }

    /// An address at which nobody listens yet.
    fn absent() -> Self {
        let stub = Self::new(&[]);
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, ..stub }
    }

    fn listen(mut self) -> Self {
        let listener = TcpListener::bind(self.address).unwrap();
        self.address = listener.local_addr().unwrap();
        let known = Arc::clone(&self.known);
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &known);
            }
        });
        self
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, run_id: &str) -> Mlflow {
        let mut configuration = Configuration::default();
        let uri = format!("http://{}", self.address);
        configuration.logging.mlflow.tracking_uri = Some(uri.parse().unwrap());
        let server = Server::load(&configuration).unwrap().unwrap();
        Mlflow::spawn(server, run_id, &configuration).unwrap()
    }

    /// The steps of a metric, in the order of their arrival.
    fn steps(&self, key: &str) -> Vec<i64> {
        let known = self.known();
        let ours = known.metrics.iter().filter(|(k, _, _)| k == key);
        ours.map(|(_, step, _)| *step).collect()
    }

    /// Waits until something is so.
    fn wait(&self, what: &str, condition: impl Fn(&Known) -> bool) {
        for _ in 0..3_000 {
            if condition(&self.known()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("waited in vain until {what}: {:#?}", self.known().calls);
    }
}

/// Answers one call.
fn serve(mut stream: TcpStream, known: &Mutex<Known>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "authorization" => value.trim().clone_into(&mut authorization),
            _ => {}
        }
    }
    assert!(length <= 1_000_000, "a call has {length} bytes");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let call = target.trim_start_matches("/api/2.0/mlflow/");
    let path = call.split('?').next().unwrap_or_default();

    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    known.calls.push(call.to_owned());
    known.authorizations.push(authorization);
    let is_due = known.faults.front().is_some_and(|(at, _)| *at == path);
    let fault = is_due.then(|| known.faults.pop_front()).flatten();
    let (status, answer) = match fault {
        Some((_, Fault::Answer(status))) => (status, json!({ "message": "not now" })),
        Some((_, Fault::HangUp)) => {
            known.answer(path, &body);
            return;
        }
        None => known.answer(path, &body),
    };
    let answer = answer.to_string();
    let length = answer.len();
    // Whoever has asked may have gone.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} Some\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}"
    );
}

impl Known {
    fn answer(&mut self, path: &str, body: &Value) -> (u16, Value) {
        let list = |key: &str| body[key].as_array().cloned().unwrap_or_default();
        match path {
            "experiments/get-by-name" => match self.experiments.first() {
                Some(_) => (200, json!({ "experiment": { "experiment_id": "7" } })),
                None => (404, json!({ "error_code": "RESOURCE_DOES_NOT_EXIST" })),
            },
            "experiments/create" => {
                self.experiments
                    .push(body["name"].as_str().unwrap().to_owned());
                (200, json!({ "experiment_id": "7" }))
            }
            "runs/search" => {
                assert_eq!(body["experiment_ids"], json!(["7"]));
                let filter = body["filter"].as_str().unwrap();
                let id = filter.split('\'').nth(1).unwrap();
                let found = self.runs.iter().find(|run| run["info"]["run_name"] == id);
                let runs: Vec<Value> = found.into_iter().map(|run| self.with_data(run)).collect();
                (200, json!({ "runs": runs }))
            }
            "runs/create" => {
                let run_id = format!("run-{}", self.runs.len());
                let run = json!({
                    "info": { "run_id": run_id, "run_name": body["run_name"] },
                    "tags": body["tags"],
                });
                self.runs.push(run.clone());
                (200, json!({ "run": run }))
            }
            "runs/log-batch" => {
                let (metrics, params) = (list("metrics"), list("params"));
                assert!(metrics.len() <= 1_000 && params.len() <= 100);
                for metric in metrics {
                    let key = metric["key"].as_str().unwrap().to_owned();
                    let step = metric["step"].as_i64().unwrap();
                    assert!(metric["timestamp"].as_i64().unwrap() > 1_600_000_000_000);
                    self.metrics
                        .push((key, step, metric["value"].as_f64().unwrap()));
                }
                for param in params {
                    let [key, value] = ["key", "value"].map(|field| param[field].as_str().unwrap());
                    assert!(value.len() <= 500 && self.params.iter().all(|(k, _)| k != key));
                    self.params.push((key.to_owned(), value.to_owned()));
                }
                (200, json!({}))
            }
            "runs/update" => {
                self.statuses
                    .push(body["status"].as_str().unwrap().to_owned());
                (200, json!({}))
            }
            other => panic!("no call of MLflow: {other}"),
        }
    }

    /// A run with the last value of each metric, as a server shows it.
    fn with_data(&self, run: &Value) -> Value {
        let mut metrics: Vec<Value> = Vec::new();
        for (key, step, value) in self.metrics.iter().rev() {
            if metrics.iter().all(|metric| metric["key"] != json!(key)) {
                metrics.push(json!({ "key": key, "step": step, "value": value }));
            }
        }
        let params: Vec<Value> = self
            .params
            .iter()
            .map(|(key, value)| json!({ "key": key, "value": value }))
            .collect();
        let mut run = run.clone();
        run["data"] = json!({ "metrics": metrics, "params": params });
        run
    }
}

fn point(step: u64) -> Arc<Point> {
    point_of(step, vec![("losses/policy".to_owned(), step as f64 / 2.0)])
}

fn point_of(env_steps: u64, scalars: Vec<(String, f64)>) -> Arc<Point> {
    Arc::new(Point {
        env_steps,
        unix_seconds: 1_700_000_000.25,
        scalars,
        histograms: Vec::new(),
    })
}

fn steps(range: std::ops::RangeInclusive<i64>) -> Vec<i64> {
    range.collect()
}

#[test]
fn a_run_has_its_experiment_its_configuration_its_curves_and_its_end() {
    let stub = Stub::new(&[]);
    let log = stub.log("cartpole-1");
    (1..=3).for_each(|step| log.note(point(step)));
    log.end(Ending::Finished);
    let known = stub.known();
    assert_eq!(known.experiments, ["rookery"]);
    assert_eq!(known.runs.len(), 1);
    let tags = known.runs[0]["tags"].to_string();
    assert!(tags.contains("rookery.run_id"), "{tags}");
    assert_eq!(
        known.metrics,
        [1, 2, 3].map(|step| ("losses/policy".to_owned(), step, step as f64 / 2.0))
    );
    let parameter = ("ppo.epochs".to_owned(), "10".to_owned());
    assert!(known.params.contains(&parameter), "{:?}", known.params);
    assert!(known.params.len() > 100, "more than go at once");
    assert_eq!(known.statuses, ["RUNNING", "FINISHED"]);
}

#[test]
fn a_run_without_points_is_not_made_and_one_that_breaks_off_has_failed() {
    let stub = Stub::new(&[]);
    drop(stub.log("idle"));
    assert_eq!(stub.known().calls, [""; 0]);
    let log = stub.log("broken");
    log.note(point(1));
    drop(log);
    assert_eq!(stub.known().statuses, ["RUNNING", "FAILED"]);
}

#[test]
fn a_call_whose_answer_is_lost_has_its_effect_once() {
    for path in [
        "experiments/create",
        "runs/create",
        "runs/log-batch",
        "runs/update",
    ] {
        let stub = Stub::new(&[(path, Fault::HangUp)]);
        let log = stub.log("cartpole-1");
        log.note(point(1));
        log.note(point(2));
        stub.wait("both points are there", |known| known.metrics.len() >= 2);
        log.end(Ending::Finished);
        assert_eq!(stub.steps("losses/policy"), [1, 2], "{path}");
        let known = stub.known();
        assert_eq!(
            (known.experiments.len(), known.runs.len()),
            (1, 1),
            "{path}"
        );
        assert_eq!(known.statuses.last().unwrap(), "FINISHED");
    }
}

#[test]
fn an_outage_delays_curves_and_loses_nothing() {
    let stub = Stub::new(&[
        ("experiments/get-by-name", Fault::Answer(503)),
        ("runs/search", Fault::Answer(500)),
        ("runs/log-batch", Fault::Answer(429)),
    ]);
    let log = stub.log("cartpole-1");
    (1..=20).for_each(|step| log.note(point(step)));
    stub.wait("all points are there", |known| known.metrics.len() >= 20);
    log.end(Ending::Killed);
    assert_eq!(stub.steps("losses/policy"), steps(1..=20));
    assert_eq!(stub.known().statuses.last().unwrap(), "KILLED");
}

#[test]
fn a_resumed_run_goes_on_in_the_same_run_and_repeats_nothing() {
    let stub = Stub::new(&[]);
    let log = stub.log("cartpole-1");
    (1..=5).for_each(|step| log.note(point(step)));
    log.end(Ending::Killed);
    let log = stub.log("cartpole-1");
    (4..=8).for_each(|step| log.note(point(step)));
    log.end(Ending::Finished);
    assert_eq!(stub.steps("losses/policy"), steps(1..=8));
    let known = stub.known();
    assert_eq!(known.runs.len(), 1);
    assert_eq!(known.statuses, ["RUNNING", "KILLED", "RUNNING", "FINISHED"]);
}

#[test]
fn more_than_goes_at_once_goes_in_pieces() {
    let stub = Stub::new(&[]);
    let log = stub.log("cartpole-1");
    let scalars = |step: u64| (0..70).map(move |i| (format!("group/{i}"), (step * i) as f64));
    for step in 1..=50 {
        log.note(point_of(step, scalars(step).collect()));
    }
    log.end(Ending::Finished);
    assert_eq!(stub.known().metrics.len(), 50 * 70);
    assert_eq!(stub.steps("group/69"), steps(1..=50));
}

#[test]
fn what_a_server_refuses_does_not_stop_what_follows() {
    let stub = Stub::new(&[]);
    let log = stub.log("cartpole-1");
    log.note(point(1));
    stub.wait("the first point is there", |known| known.metrics.len() == 1);
    stub.known()
        .faults
        .push_back(("runs/log-batch", Fault::Answer(400)));
    log.note(point(2));
    stub.wait("it is refused", |known| known.faults.is_empty());
    log.note(point(3));
    log.end(Ending::Finished);
    assert_eq!(stub.steps("losses/policy"), [1, 3]);
}

#[test]
fn a_full_queue_drops_its_oldest_and_whoever_notes_does_not_wait() {
    let stub = Stub::absent();
    let log = stub.log("cartpole-1");
    let count = 4 * WAITING_POINTS as i64;
    (1..=count).for_each(|step| log.note(point(step as u64)));
    let stub = stub.listen();
    stub.wait("the last point is there", |known| {
        known
            .metrics
            .last()
            .is_some_and(|(_, step, _)| *step == count)
    });
    log.end(Ending::Finished);
    let arrived = stub.steps("losses/policy");
    let newest = steps(count - WAITING_POINTS as i64 + 1..=count);
    assert!(arrived.len() < count as usize, "some were dropped");
    assert!(arrived.ends_with(&newest), "{} arrived", arrived.len());
    assert!(arrived.is_sorted_by(|a, b| a < b));
}

#[test]
fn a_server_that_never_answers_does_not_keep_a_run_from_ending() {
    let log = Stub::absent().log("cartpole-1");
    log.note(point(1));
    log.end(Ending::Finished);
}
