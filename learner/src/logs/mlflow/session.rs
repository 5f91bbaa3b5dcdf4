//! A run on the server, as far as it is known there.
//!
//! A run is found by its tag `rookery.run_id`, and made where there is none: so a run that goes on, and a
//! learner that does not know whether its call has had an effect, both come to the same one. What the
//! server says that it has of a metric is not sent again.

use std::collections::{BTreeSet, HashMap};

use rookery_common::configuration::Configuration;
use rookery_common::telemetry::{VERSION, unix_seconds};
use serde_json::{Value, json};

use super::server::{CallError, Server};
use crate::logs::Point;

/// Most metrics that a server takes at once. With the longest tags they are a third of the megabyte that
/// it takes as well.
pub(super) const MAX_METRICS: usize = 1_000;
/// Most parameters that a server takes at once.
const MAX_PARAMETERS: usize = 100;
/// Longest value of a parameter that servers of every version take.
const MAX_PARAMETER_CHARACTERS: usize = 500;
/// The tag by which a run is found again.
const RUN_ID_TAG: &str = "rookery.run_id";

/// What a run is called, and what it is made of.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    experiment: String,
    run_id: String,
    environment: String,
    algorithm: &'static str,
    /// Every key of the configuration with its value.
    parameters: Vec<(String, String)>,
}

/// One metric at one step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Metric {
    key: String,
    value: f64,
    timestamp: i64,
    step: i64,
}

/// A run that the server knows.
#[derive(Debug)]
pub(super) struct Session {
    server: Server,
    run_id: String,
    /// The last step of each metric that the server has.
    last_steps: HashMap<String, i64>,
}

impl Identity {
    pub(super) fn new(run_id: &str, configuration: &Configuration) -> Self {
        let mut parameters = Vec::new();
        // What `to_toml` writes is TOML.
        if let Ok(table) = configuration.to_toml().parse() {
            flatten("", &toml::Value::Table(table), &mut parameters);
        }
        Self {
            experiment: configuration.logging.mlflow.experiment.clone(),
            // What a search may hold between its quotes.
            run_id: run_id.replace(['\'', '"', '`', '\\'], "_"),
            environment: configuration.environment.id.clone(),
            algorithm: configuration.run.algorithm.name(),
            parameters,
        }
    }
}

fn flatten(path: &str, value: &toml::Value, parameters: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                flatten(&path, value, parameters);
            }
        }
        toml::Value::String(text) => parameters.push((path.to_owned(), shortened(text))),
        value => parameters.push((path.to_owned(), shortened(&value.to_string()))),
    }
}

/// A text as far as it is taken.
fn shortened(text: &str) -> String {
    if text.chars().count() <= MAX_PARAMETER_CHARACTERS {
        return text.to_owned();
    }
    let kept: String = text.chars().take(MAX_PARAMETER_CHARACTERS - 1).collect();
    format!("{kept}\u{2026}")
}

impl Metric {
    /// What a point holds.
    pub(super) fn of(point: &Point) -> impl Iterator<Item = Self> + '_ {
        point.scalars.iter().map(|(tag, value)| Self {
            key: tag.clone(),
            value: *value,
            timestamp: milliseconds(point.unix_seconds),
            step: point.env_steps as i64,
        })
    }
}

fn milliseconds(unix_seconds: f64) -> i64 {
    (unix_seconds * 1e3) as i64
}

impl Session {
    /// Finds the run, or makes it, with its experiment where that is missing; it goes on from here.
    ///
    /// # Errors
    /// The first call that comes to nothing. Trying again makes no second run.
    pub(super) fn open(server: Server, identity: &Identity) -> Result<Self, CallError> {
        let experiment_id = experiment(&server, &identity.experiment)?;
        let run = match find(&server, &experiment_id, &identity.run_id)? {
            Some(run) => run,
            None => create(&server, &experiment_id, identity)?,
        };
        let run_id = server.field("runs", &run, "/info/run_id")?.to_owned();
        let running = json!({ "run_id": run_id, "status": "RUNNING" });
        server.post("runs/update", &running)?;
        let known = |field: &str| {
            let list = run.pointer(field).and_then(Value::as_array);
            list.into_iter().flatten()
        };
        let parameters: BTreeSet<&str> = known("/data/params")
            .filter_map(|parameter| parameter.get("key")?.as_str())
            .collect();
        let missing: Vec<Value> = identity
            .parameters
            .iter()
            .filter(|(key, _)| !parameters.contains(key.as_str()))
            .map(|(key, value)| json!({ "key": key, "value": value }))
            .collect();
        for chunk in missing.chunks(MAX_PARAMETERS) {
            let body = json!({ "run_id": run_id, "params": chunk });
            server.post("runs/log-batch", &body)?;
        }
        let last_steps = known("/data/metrics")
            .filter_map(|metric| Some((metric.get("key")?.as_str()?.to_owned(), step(metric)?)))
            .collect();
        Ok(Self {
            server,
            run_id,
            last_steps,
        })
    }

    /// Sends metrics, at most [`MAX_METRICS`], but for those that the server has.
    ///
    /// # Errors
    /// [`CallError`]; whether they have arrived only a session that is opened anew can tell.
    pub(super) fn send(&mut self, metrics: &[Metric]) -> Result<(), CallError> {
        let is_news = |metric: &&Metric| {
            let last = self.last_steps.get(&metric.key);
            last.is_none_or(|last| metric.step > *last)
        };
        let news: Vec<&Metric> = metrics.iter().filter(is_news).collect();
        if news.is_empty() {
            return Ok(());
        }
        let list: Vec<Value> = news
            .iter()
            .map(|metric| {
                json!({
                    "key": metric.key,
                    "value": metric.value,
                    "timestamp": metric.timestamp,
                    "step": metric.step,
                })
            })
            .collect();
        let body = json!({ "run_id": self.run_id, "metrics": list });
        self.server.post("runs/log-batch", &body)?;
        for metric in news {
            let last = self.last_steps.entry(metric.key.clone()).or_insert(0);
            *last = metric.step.max(*last);
        }
        Ok(())
    }

    /// Says how the run has ended.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) fn end(&self, status: &str) -> Result<(), CallError> {
        let body = json!({
            "run_id": self.run_id,
            "status": status,
            "end_time": milliseconds(unix_seconds()),
        });
        self.server.post("runs/update", &body).map(drop)
    }
}

/// A metric's step, which some versions write as a text.
fn step(metric: &Value) -> Option<i64> {
    let step = metric.get("step")?;
    step.as_i64().or_else(|| step.as_str()?.parse().ok())
}

/// The id of the experiment, which is made where there is none.
fn experiment(server: &Server, name: &str) -> Result<String, CallError> {
    const GET: &str = "experiments/get-by-name";
    const CREATE: &str = "experiments/create";
    match server.get(GET, ("experiment_name", name)) {
        Ok(answer) => Ok(server
            .field(GET, &answer, "/experiment/experiment_id")?
            .to_owned()),
        Err(error) if error.is_absence() => {
            let answer = server.post(CREATE, &json!({ "name": name }))?;
            Ok(server.field(CREATE, &answer, "/experiment_id")?.to_owned())
        }
        Err(error) => Err(error),
    }
}

fn find(server: &Server, experiment_id: &str, run_id: &str) -> Result<Option<Value>, CallError> {
    let body = json!({
        "experiment_ids": [experiment_id],
        "filter": format!("tags.`{RUN_ID_TAG}` = '{run_id}'"),
        "max_results": 1,
    });
    let answer = server.post("runs/search", &body)?;
    Ok(answer.pointer("/runs/0").cloned())
}

fn create(server: &Server, experiment_id: &str, identity: &Identity) -> Result<Value, CallError> {
    let tags = [
        (RUN_ID_TAG, identity.run_id.as_str()),
        ("rookery.version", VERSION),
        ("rookery.environment", &identity.environment),
        ("rookery.algorithm", identity.algorithm),
        ("mlflow.source.name", "rookery-learner"),
    ];
    let tags: Vec<Value> = tags
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": value }))
        .collect();
    let body = json!({
        "experiment_id": experiment_id,
        "run_name": identity.run_id,
        "start_time": milliseconds(unix_seconds()),
        "tags": tags,
    });
    let answer = server.post("runs/create", &body)?;
    Ok(answer.get("run").cloned().unwrap_or_default())
}
