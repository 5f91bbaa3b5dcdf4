//! Where a run's curves go: what TensorBoard and an MLflow server know of it afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rookery_tests::{Cluster, Exit, Program, Setup, call, wait};
use serde::Deserialize;
use serde_json::{Value, json};

/// Enough for an MLflow server to start on a machine that is busy with other things.
const SERVER_START: Duration = Duration::from_mins(3);

/// Rounds of a run with several lives: too many for it to end between two looks, and as many as have histograms.
const ROUNDS: u64 = 100;

/// What TensorBoard's own readers say about event files; see `tests/python/events.py`.
#[derive(Debug, Deserialize)]
struct Events {
    scalars: BTreeMap<String, Vec<(u64, f64)>>,
    histograms: BTreeMap<String, Vec<(u64, Histogram)>>,
    texts: BTreeMap<String, Vec<(u64, String)>>,
    plugins: BTreeMap<String, String>,
    /// The earliest time of a scalar, in seconds since 1970.
    start: f64,
}

#[derive(Debug, Deserialize)]
struct Histogram {
    min: f64,
    max: f64,
    num: f64,
    sum: f64,
    bucket_limit: Vec<f64>,
    bucket: Vec<f64>,
}

impl Events {
    /// Has the event files of a run read.
    fn of(cluster: &Cluster) -> Self {
        let python = std::env::var("ROOKERY_TEST_PYTHON")
            .expect("ROOKERY_TEST_PYTHON names an interpreter with TensorBoard, as in `make test`");
        let output = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/events.py"))
            .arg(folder(cluster))
            .output()
            .expect("Python runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "TensorBoard's readers: {error}");
        serde_json::from_slice(&output.stdout).expect("what events.py prints")
    }

    fn steps(&self, tag: &str) -> Vec<u64> {
        let values = self.scalars.get(tag);
        let values = values.unwrap_or_else(|| panic!("no `{tag}` in {:?}", self.scalars.keys()));
        values.iter().map(|(step, _)| *step).collect()
    }
}

fn folder(cluster: &Cluster) -> PathBuf {
    cluster.run_directory().join("tensorboard")
}

/// Number of whole records in all event files.
fn num_records(cluster: &Cluster) -> usize {
    let files = fs::read_dir(folder(cluster)).expect("event files");
    files
        .map(|file| num_records_in(&file.expect("an event file").path()))
        .sum()
}

/// The lines of `metrics.jsonl` that have `key`.
fn lines(cluster: &Cluster, key: &str) -> Vec<Value> {
    let path = cluster.run_directory().join("metrics.jsonl");
    let text = fs::read_to_string(path).expect("metrics.jsonl");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    lines
        .filter(|line: &Value| line.get(key).is_some())
        .collect()
}

/// Number of whole records in an event file.
fn num_records_in(path: &Path) -> usize {
    let file = fs::read(path).unwrap_or_default();
    let (mut rest, mut count) = (file.as_slice(), 0);
    while let Some((length, behind)) = rest.split_first_chunk() {
        let end = u64::from_le_bytes(*length) as usize + 8;
        let Some(behind) = behind.get(end..) else {
            break;
        };
        (rest, count) = (behind, count + 1);
    }
    count
}

#[test]
fn tensorboard_reads_all_of_a_run_whose_learner_was_killed_and_nothing_twice() {
    let setup = Setup::cart_pole()
        .of_rounds(ROUNDS)
        .set("evaluation.every_env_steps", 1_000)
        .set("evaluation.episodes", 2);
    let cluster = Cluster::new(&setup);
    let mut learner = cluster.learner();
    let evaluator = {
        let mut command = cluster.actor_command(&cluster.address());
        command.arg("--evaluate");
        cluster.start("evaluator", command)
    };
    let actor = cluster.actor(1);
    learner.wait_received(8 * Setup::SHARDS);
    learner.pause();
    learner.checkpoint().expect("a checkpoint");
    learner.resume();
    let saved = learner.status().updates;
    learner.wait_status("updates that are lost", |status| {
        status.updates >= saved + 5
    });
    learner.pause();
    let lost = learner.status().updates;
    // Its version, its start, its configuration, and a point for each update.
    wait::until("what is lost, on the disk", wait::LONG, || {
        num_records(&cluster) as u64 >= 3 + lost
    });
    learner.kill();
    let mut learner = cluster.resume();
    learner.pause();
    learner.wait_actors(1);
    learner.resume();
    let summary = learner.finish();
    actor.finish();
    drop(evaluator);
    assert_eq!(summary.result.updates, setup.rounds());

    let events = Events::of(&cluster);
    let updates = lines(&cluster, "update");
    assert_eq!(updates.len() as u64, setup.rounds());
    for (key, tag) in [
        ("mean_return", "charts/episodic_return"),
        ("policy_loss", "losses/policy"),
        ("entropy", "losses/entropy"),
        ("learning_rate", "charts/learning_rate"),
        ("seconds", "time/seconds"),
    ] {
        let expected: Vec<(u64, f64)> = updates
            .iter()
            .filter_map(|line| Some((line["env_steps"].as_u64()?, line[key].as_f64()?)))
            .collect();
        let got = &events.scalars[tag];
        assert_eq!(got.len(), expected.len(), "{tag}");
        for ((step, got), (expected_step, expected)) in got.iter().zip(&expected) {
            assert_eq!(step, expected_step, "{tag}");
            // What was written is an f32, the nearest to what the text says. A text of many digits may be read one bit
            // off as an f64, and where that lies between two f32, as a mean of two often does, the other is as near.
            let distance = (got - expected).abs();
            assert!(
                distance <= f64::from(f32::EPSILON) * expected.abs(),
                "{tag} at {step}: {got} {expected}"
            );
        }
    }
    let evaluations = lines(&cluster, "evaluation_return");
    let evaluated: BTreeSet<u64> = evaluations
        .iter()
        .map(|line| line["env_steps"].as_u64().unwrap())
        .collect();
    let shown = events.steps("evaluation/return");
    assert_eq!(shown.into_iter().collect::<BTreeSet<_>>(), evaluated);
    assert!(!evaluated.is_empty());
    assert!(events.start > 1.7e9, "a time of this century");

    let (step, text) = events.texts["configuration"].last().unwrap();
    assert_eq!(*step, saved * Setup::ROUND_STEPS, "where it goes on");
    assert!(text.contains("[environment]\n"), "{text}");
    assert_eq!(events.plugins["configuration"], "text");
    assert_eq!(events.plugins["losses/policy"], "scalars");
    assert_eq!(events.plugins["advantages"], "histograms");

    let all_steps: Vec<u64> = (1..=setup.rounds())
        .map(|u| u * Setup::ROUND_STEPS)
        .collect();
    for tag in ["advantages", "returns", "actions", "rewards"] {
        let histograms = &events.histograms[tag];
        let steps: Vec<u64> = histograms.iter().map(|(step, _)| *step).collect();
        assert_eq!(steps, all_steps, "{tag}");
        for (_, histogram) in histograms {
            assert_eq!(histogram.num, Setup::ROUND_STEPS as f64, "{tag}");
            assert_eq!(histogram.bucket.iter().sum::<f64>(), histogram.num, "{tag}");
            assert!(histogram.min <= histogram.max && histogram.sum.is_finite());
        }
    }
    let (_, actions) = &events.histograms["actions"][0];
    assert_eq!(actions.bucket_limit, [0.5, 1.5], "left and right");
    assert_eq!(actions.sum, actions.bucket[1], "as often as it was right");
}

#[test]
fn every_algorithm_has_its_curves_and_histograms_and_they_change_no_result() {
    let on_policy = ["actions", "rewards", "advantages", "returns"];
    let off_policy = ["actions", "rewards", "td_errors", "returns"];
    for (name, setup, histograms) in [
        ("ppo", Setup::cart_pole(), &on_policy[..]),
        ("ppo, recurrent", Setup::lstm(), &on_policy),
        ("impala", Setup::impala(), &on_policy),
        ("a2c", Setup::a2c(), &on_policy),
        ("reinforce", Setup::reinforce(), &on_policy),
        ("dqn", Setup::dqn(), &off_policy),
        ("sac", Setup::sac(), &off_policy),
        ("td3", Setup::td3(), &off_policy),
        ("sarsa", Setup::sarsa(), &on_policy[..2]),
    ] {
        let setup = setup.of_rounds(12);
        let without = setup.clone().set("logging.tensorboard", false);
        let expected = Cluster::undisturbed(&without).result;
        let cluster = Cluster::new(&setup.set("logging.histograms", 1_000));
        let (learner, actor) = (cluster.learner(), cluster.actor(1));
        assert_eq!(learner.finish().result, expected, "{name}");
        actor.finish();
        let events = Events::of(&cluster);
        assert_eq!(events.steps("charts/updates").len(), 12, "{name}");
        let other: Vec<&String> = events
            .scalars
            .keys()
            .filter(|tag| tag.starts_with("other/"))
            .collect();
        assert_eq!(other, [""; 0], "{name} has curves without a group");
        for tag in histograms {
            assert!(events.histograms.contains_key(*tag), "{name} has no {tag}");
        }
    }
}

/// An MLflow server with its database, which outlives its processes.
struct Server {
    cluster: Cluster,
    port: u16,
    process: Program,
}

impl Server {
    fn start() -> Self {
        let cluster = Cluster::new(&Setup::cart_pole());
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("a free port").port();
        drop(listener);
        let process = Self::process(&cluster, port);
        Self {
            cluster,
            port,
            process,
        }
    }

    /// The server as one process: the command `mlflow server` would start another one.
    fn process(cluster: &Cluster, port: u16) -> Program {
        let python = std::env::var("ROOKERY_TEST_MLFLOW")
            .expect("ROOKERY_TEST_MLFLOW names an interpreter with MLflow, as in `make test`");
        let database = format!("sqlite:///{}", cluster.path().join("mlflow.db").display());
        let mut command = Command::new(python);
        command
            .args([
                "-m",
                "uvicorn",
                "--host",
                "127.0.0.1",
                "--port",
                &port.to_string(),
            ])
            .arg("mlflow.server.fastapi_app:app")
            .env("_MLFLOW_SERVER_FILE_STORE", &database)
            .env("_MLFLOW_SERVER_REGISTRY_STORE", &database)
            .env(
                "_MLFLOW_SERVER_ARTIFACT_ROOT",
                cluster.path().join("artifacts"),
            )
            .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
            .env("MLFLOW_DISABLE_TELEMETRY", "true");
        let mut process = cluster.start("mlflow", command);
        wait::until("a server that answers", SERVER_START, || {
            assert_eq!(
                process.exit(),
                None,
                "how the server ended: {}",
                process.log()
            );
            call(&format!("127.0.0.1:{port}"), "GET", "/health", None).is_ok()
        });
        process
    }

    fn restart(&mut self) {
        self.process = Self::process(&self.cluster, self.port);
    }

    fn uri(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The answer to a call; nothing where it is refused.
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let address = format!("127.0.0.1:{}", self.port);
        let body = body.map(Value::to_string);
        let path = format!("/api/2.0/mlflow/{path}");
        let answer = call(&address, method, &path, body.as_deref());
        let answer = answer.unwrap_or_else(|error| {
            eprintln!("{path}: {error}");
            "null".to_owned()
        });
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{path} answers {answer}"))
    }

    /// The runs of an experiment.
    fn runs(&self, experiment: &str) -> Vec<Value> {
        let name = format!("experiments/get-by-name?experiment_name={experiment}");
        let id = self.call("GET", &name, None)["experiment"]["experiment_id"].clone();
        let body = json!({ "experiment_ids": [id] });
        let answer = self.call("POST", "runs/search", Some(&body));
        answer["runs"].as_array().cloned().unwrap_or_default()
    }

    /// Step and value of all that a run has of a metric, in the order of the steps.
    fn history(&self, run_id: &str, metric: &str) -> Vec<(u64, f64)> {
        let path =
            format!("metrics/get-history?run_id={run_id}&metric_key={metric}&max_results=10000");
        let answer = self.call("GET", &path, None);
        let metrics = answer["metrics"].as_array().cloned().unwrap_or_default();
        let mut history: Vec<(u64, f64)> = metrics
            .iter()
            .map(|metric| {
                let step = &metric["step"];
                let step = step.as_u64().or_else(|| step.as_str()?.parse().ok());
                (
                    step.expect("a step"),
                    metric["value"].as_f64().expect("a value"),
                )
            })
            .collect();
        history.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
        history
    }
}

#[test]
fn mlflow_has_one_run_whole_though_learner_and_server_were_killed_on_the_way() {
    let mut server = Server::start();
    let undisturbed = Setup::cart_pole().of_rounds(ROUNDS);
    let expected = Cluster::undisturbed(&undisturbed).result;
    let setup = undisturbed
        .set("run.name", "two-lives")
        .set("logging.mlflow.tracking_uri", server.uri())
        .set("logging.mlflow.experiment", "tests")
        .set("checkpoint.every_updates", 1);
    let cluster = Cluster::new(&setup);
    let actor = cluster.actor(1);
    let mut learner = cluster.learner();
    learner.wait_received(10 * Setup::SHARDS);
    learner.pause();
    let before = learner.status().updates;
    let has = |server: &Server, steps: u64| {
        let runs = server.runs("tests");
        let run_id = runs.first().and_then(|run| run["info"]["run_id"].as_str());
        run_id.is_some_and(|run_id| server.history(run_id, "losses/policy").len() as u64 >= steps)
    };
    wait::until("the first curves", SERVER_START, || has(&server, before));
    assert_eq!(server.runs("tests")[0]["info"]["status"], "RUNNING");

    server.process.kill();
    learner.resume();
    learner.wait_received(20 * Setup::SHARDS);
    learner.pause();
    let during = learner.status().updates;
    learner.wait_log("MLflow does not get the run's curves");
    server.restart();
    wait::until("what was noted without it", SERVER_START, || {
        has(&server, during)
    });
    learner.wait_log("MLflow takes the run's curves again");
    learner.kill();
    let mut learner = cluster.resume();
    learner.pause();
    learner.wait_actors(1);
    learner.resume();
    assert_eq!(learner.finish().result, expected);
    actor.finish();

    let runs = server.runs("tests");
    assert_eq!(runs.len(), 1, "{runs:#?}");
    let (info, data) = (&runs[0]["info"], &runs[0]["data"]);
    assert_eq!(info["status"], "FINISHED");
    let name = info["run_name"].as_str().expect("a name");
    assert!(name.starts_with("two-lives-"), "{name}");
    let holds = |list: &str, key: &str, value: &str| {
        let list = data[list].as_array().expect("a list");
        list.iter()
            .any(|item| item["key"] == key && item["value"] == value)
    };
    assert!(holds("params", "environment.id", "CartPole-v1"), "{data}");
    assert!(holds("params", "ppo.epochs", "2"), "{data}");
    assert!(holds("tags", "rookery.algorithm", "ppo"), "{data}");
    let run_id = info["run_id"].as_str().expect("an id");
    for (key, metric) in [
        ("policy_loss", "losses/policy"),
        ("mean_return", "charts/episodic_return"),
    ] {
        let expected: Vec<(u64, f64)> = lines(&cluster, "update")
            .iter()
            .filter_map(|line| Some((line["env_steps"].as_u64()?, line[key].as_f64()?)))
            .collect();
        assert_eq!(server.history(run_id, metric), expected, "{metric}");
    }
}

#[test]
fn a_server_that_is_not_there_costs_a_warning_and_a_few_seconds_at_the_end() {
    let expected = Cluster::undisturbed(&Setup::cart_pole()).result;
    let nobody = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let uri = format!("http://{}", nobody.local_addr().expect("a free port"));
    drop(nobody);
    let cluster = Cluster::new(&Setup::cart_pole().set("logging.mlflow.tracking_uri", uri));
    let mut learner = cluster.learner();
    let actor = cluster.actor(1);
    learner.wait_log("MLflow does not get the run's curves");
    assert_eq!(learner.finish().result, expected);
    actor.finish();
}

#[test]
fn a_secret_that_would_travel_in_the_clear_keeps_a_learner_from_starting() {
    let uri = "http://mlflow.example:5000";
    let cluster = Cluster::new(&Setup::cart_pole().set("logging.mlflow.tracking_uri", uri));
    let mut command = cluster.learner_command();
    command.env("MLFLOW_TRACKING_TOKEN", "not-to-be-seen");
    let mut learner = cluster.start("learner", command);
    assert_eq!(learner.wait_exit(wait::LONG), Exit::Code(77));
    let log = learner.log();
    assert!(log.contains("refusing to send the secret"), "{log}");
    assert!(!log.contains("not-to-be-seen"), "{log}");
}
