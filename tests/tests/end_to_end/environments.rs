//! Runs in environments of Python that ask for more than one free choice, or fail.

use std::fs;

use rookery_tests::{Cluster, Setup};
use toml::Value;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../actor/tests/python");

/// The traceback of an environment that has failed is in the actor's log, and in the run's own report too.
#[test]
fn an_environment_that_fails_is_made_again_and_the_run_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup::hosted()
        .of_rounds(6)
        .set("environment.id", "peculiar:Failing")
        .set("environment.arguments.how", "raise")
        .set_path(
            "environment.arguments.only_once",
            &directory.path().join("happened"),
        )
        .set("actor.host.python_path", vec![Value::from(SCRIPTS)]);
    let cluster = Cluster::new(&setup);
    let mut learner = cluster.learner();
    let mut actor = cluster.actor(1);
    let said = actor.wait_log("ValueError: the cart fell off");
    assert!(said.contains("a host says"), "{said}");
    let log = learner.wait_log("a shard did not continue");
    assert!(log.contains("the cart fell off"), "{log}");
    let summary = learner.finish();
    actor.finish();
    assert_eq!(summary.result.updates, 6);
    // The host carried both shards.
    assert_eq!(summary.discontinuities, 2);
    let last = summary.last_discontinuity.unwrap();
    assert!(last.contains("ValueError: the cart fell off"), "{last}");

    let metrics = fs::read_to_string(cluster.run_directory().join("metrics.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = metrics
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line.get("discontinuity").is_some())
        .collect();
    let shards: Vec<_> = lines.iter().map(|line| &line["shard"]).collect();
    assert_eq!(shards, [0, 1]);
    assert!(lines.iter().all(|line| line["update"] == 1), "{lines:?}");
    let reason = lines[0]["discontinuity"].as_str().unwrap();
    let first = "`peculiar:Failing`: a step of environment 0 raised ValueError: the cart fell off\nTraceback";
    assert!(reason.starts_with(first), "{reason}");
    assert!(reason.contains("peculiar.py\", line "), "{reason}");
    assert_eq!(lines[1]["discontinuity"], last);
}

/// An action that a mask forbids would end the host, and the unroll would say so.
#[test]
fn what_a_mask_forbids_is_not_done_whatever_is_learnt() {
    let masked = |kind: &str, algorithm: &str| {
        Setup::hosted()
            .of_rounds(12)
            .set("run.algorithm", algorithm)
            .set("environment.id", "peculiar:Masked")
            .set("environment.arguments.kind", kind)
            .set("environment.arguments.action_mask", true)
            .set("actor.host.python_path", vec![Value::from(SCRIPTS)])
    };
    let dqn = masked("one", "dqn")
        .set("normalisation.observations", false)
        .set("replay.minimum_size", 300)
        .set("dqn.epsilon_decay", 2_000);
    for setup in [
        masked("one", "ppo"),
        masked("several", "ppo"),
        masked("several", "impala"),
        dqn,
    ] {
        let summary = Cluster::undisturbed(&setup);
        assert_eq!(summary.result.updates, 12, "{setup}");
        assert_eq!(summary.discontinuities, 0, "{setup}");
    }
}
