//! What a live run exports: every metric that a program declares, with its help and type, and
//! values that agree with the status.

use std::fs;
use std::path::Path;
use std::process::Command;

use rookery_tests::{Cluster, Scrape, Setup, binary, scrape, wait};

/// Says which build of which program runs; every program exports it.
const BUILD_INFO: &str = "rookery_build_info";

/// A metric as the snapshot test of its crate lists it.
struct Declared {
    name: String,
    kind: String,
    help: String,
}

/// Reads the list that `crate_`'s own snapshot test holds against its declarations.
fn declared(crate_: &str) -> Vec<Declared> {
    let file = format!(
        "{crate_}/src/snapshots/rookery_{crate_}__metrics__tests__every_metric_is_listed_with_its_help.snap"
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let metrics: Vec<Declared> = text
        .lines()
        .filter(|line| line.starts_with("rookery_"))
        .map(|line| {
            let (name, rest) = line.split_once(" (").expect("a name");
            let (kind, help) = rest.split_once("): ").expect("a kind and the help");
            Declared {
                name: name.to_owned(),
                kind: kind.to_owned(),
                help: help.to_owned(),
            }
        })
        .collect();
    assert!(metrics.len() > 5, "the list of {crate_} is {text}");
    metrics
}

/// Holds that some of `scrapes` has each metric of `declared` with its kind and help and a value,
/// and that none has any other.
fn all_are_exported(declared: &[Declared], scrapes: &[&Scrape]) {
    for metric in declared {
        let name = metric.name.as_str();
        let found: Vec<_> = scrapes
            .iter()
            .filter(|scrape| scrape.kinds.contains_key(name))
            .collect();
        assert!(!found.is_empty(), "{name} is declared and not exported");
        for scrape in found {
            assert_eq!(scrape.kinds[name], metric.kind, "{name}");
            assert_eq!(scrape.help.get(name), Some(&metric.help), "{name}");
            let has_value = scrape.samples.keys().any(|series| series.starts_with(name));
            assert!(has_value, "{name} has no value");
        }
    }
    for scrape in scrapes {
        assert!(scrape.kinds.contains_key(BUILD_INFO));
        for name in scrape.kinds.keys().filter(|name| *name != BUILD_INFO) {
            let is_declared = declared.iter().any(|metric| metric.name == *name);
            assert!(is_declared, "{name} is exported and not declared");
        }
    }
}

/// What the learner of another algorithm exports once it has learnt something.
fn learner_of(setup: Setup) -> Scrape {
    let cluster = Cluster::new(&setup.set("learner.metrics_listen", "127.0.0.1:0"));
    let mut learner = cluster.learner();
    let _actor = cluster.actor(1);
    learner.wait_received(10 * Setup::SHARDS);
    learner.pause();
    scrape(&learner.wait_address("serving metrics"))
}

/// An asynchronous run whose queue holds no more than one update, so that unrolls wait for room.
fn stalled_for_a_moment() -> Setup {
    Setup::impala()
        .asynchronous()
        .set("schedule.max_policy_lag", 0)
}

#[test]
fn a_process_says_whether_it_lives() {
    let cluster = Cluster::new(
        &Setup::cart_pole()
            .set("learner.metrics_listen", "127.0.0.1:0")
            .set("actor.metrics_listen", "127.0.0.1:0"),
    );
    let mut learner = cluster.learner();
    let mut actor = cluster.actor(1);
    learner.wait_received(Setup::SHARDS);
    learner.pause();
    for (name, process) in [
        ("rookery-actor", &mut *actor),
        ("rookery-learner", &mut *learner),
    ] {
        let address = process.wait_address("serving metrics");
        let lives = || {
            let mut health = Command::new(binary(name));
            health
                .args(["health", &address])
                .status()
                .unwrap()
                .success()
        };
        assert!(lives(), "{name} answers");
        process.kill();
        assert!(!lives(), "{name} is dead");
    }
}

#[test]
fn a_live_run_exports_every_metric_and_agrees_with_its_status() {
    let cluster = Cluster::new(
        &Setup::cart_pole()
            .set("learner.metrics_listen", "127.0.0.1:0")
            .set("actor.metrics_listen", "127.0.0.1:0")
            .set("evaluation.every_env_steps", 1)
            .set("evaluation.episodes", 2),
    );
    let mut learner = cluster.learner();
    let mut evaluator = {
        let mut command = cluster.actor_command(&cluster.address());
        command.arg("--evaluate");
        cluster.start("evaluator", command)
    };
    learner.wait_status("an evaluator", |status| status.evaluators == 1);
    let mut actor = cluster.actor(1);
    learner.wait_received(10 * Setup::SHARDS);
    learner.pause();
    learner.checkpoint().expect("a checkpoint");
    let address = learner.wait_address("serving metrics");
    wait::until("an evaluation", wait::LONG, || {
        scrape(&address)
            .samples
            .contains_key("rookery_evaluation_return")
    });
    // The round ahead is collected, and then nothing moves any more.
    let status = learner.wait_status("a full round", |status| {
        status
            .unrolls
            .is_some_and(|unrolls| unrolls.queued == Setup::SHARDS)
    });

    let [ours, collector, evaluations] = [&mut *learner, &mut *actor, &mut evaluator]
        .map(|program| scrape(&program.wait_address("serving metrics")));
    let others = [
        stalled_for_a_moment(),
        Setup::dqn(),
        Setup::sac(),
        Setup::td3(),
        Setup::a2c(),
        Setup::reinforce(),
        Setup::sarsa(),
    ]
    .map(learner_of);
    let learners: Vec<&Scrape> = std::iter::once(&ours).chain(&others).collect();
    all_are_exported(&declared("learner"), &learners);
    all_are_exported(&declared("actor"), &[&collector, &evaluations]);

    let unrolls = status.unrolls.unwrap();
    let agree = |series: &str, expected: u64| {
        assert_eq!(ours.value(series), expected as f64, "{series}");
    };
    agree("rookery_env_steps_total", status.env_steps);
    agree("rookery_episodes_total", status.episodes);
    agree("rookery_updates_total", status.updates);
    agree("rookery_policy_version", status.version.unwrap().version);
    agree("rookery_actors", 1);
    agree("rookery_evaluators", 1);
    agree("rookery_shards", Setup::SHARDS);
    agree("rookery_shards_leased", Setup::SHARDS);
    agree("rookery_unrolls_total{result=\"queued\"}", unrolls.received);
    agree("rookery_unrolls_total{result=\"invalid\"}", 0);
    agree("rookery_unrolls_trained_total", unrolls.trained);
    agree("rookery_unrolls_queued", unrolls.queued);
    agree("rookery_checkpoints_total{result=\"written\"}", 1);
    agree(
        "rookery_learner_stage_seconds_count{stage=\"update\"}",
        status.updates,
    );
    let sent = collector.value("rookery_actor_unrolls_total");
    assert_eq!(sent, unrolls.received as f64);
    let steps = Setup::ROUND_STEPS / Setup::SHARDS;
    assert_eq!(
        collector.value("rookery_actor_env_steps_total"),
        sent * steps as f64
    );
    assert_eq!(collector.value("rookery_actor_joins_total"), 1.0);
    assert!(evaluations.value("rookery_actor_evaluations_total") >= 1.0);

    learner.resume();
    learner.finish();
    actor.finish();
    evaluator.expect_exit(0, wait::LONG);
}
