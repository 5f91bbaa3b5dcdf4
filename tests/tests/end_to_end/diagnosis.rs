//! A run says whether it looks sick and what holds it back; one whose gradients are lost ends at its last
//! good checkpoint.

use std::time::Duration;

use rookery_proto::v1;
use rookery_tests::{Cluster, Relay, Setup, scrape, wait};
use toml::{Table, Value};

/// From this unroll on the relay spoils rewards: the first of round 20.
const FIRST_SPOILT: u64 = 20 * Setup::SHARDS;

/// What a log says of a run that looks sick.
const LOOKS_SICK: &str = "the run looks sick";

#[test]
fn a_policy_that_stops_exploring_is_said_to_be_sick_and_why() {
    // Steps some hundred times too large, and nothing that rewards entropy.
    let setup = Setup::cart_pole()
        .of_rounds(200)
        .set("ppo.learning_rate", 1.0)
        .set("ppo.max_gradient_norm", "none")
        .set("learner.metrics_listen", "127.0.0.1:0");
    let cluster = Cluster::new(&setup);
    let mut learner = cluster.learner();
    let actor = cluster.actor(1);
    let line = learner.wait_log("rule=\"entropy_collapsed\"");
    for part in [
        "WARN",
        LOOKS_SICK,
        "nats",
        "ppo.entropy_coefficient (now 0.0)",
        "ppo.learning_rate (now 1.0)",
    ] {
        assert!(line.contains(part), "`{part}` in {line}");
    }
    learner.pause();
    let status = learner.status();
    let diagnosis = status
        .diagnoses
        .iter()
        .find(|diagnosis| diagnosis.name == "entropy_collapsed")
        .unwrap_or_else(|| panic!("{:?}", status.diagnoses));
    assert!(diagnosis.cause.contains("nats"), "{diagnosis:?}");
    assert!(diagnosis.since_env_steps < status.env_steps);
    let ours = scrape(&learner.wait_address("serving metrics"));
    assert_eq!(
        ours.value("rookery_diagnosis{rule=\"entropy_collapsed\"}"),
        1.0
    );
    assert_eq!(
        ours.value("rookery_diagnosis{rule=\"throughput_fell\"}"),
        0.0
    );
    learner.resume();
    let summary = learner.finish();
    actor.finish();
    let names: Vec<&str> = summary
        .diagnoses
        .iter()
        .map(|diagnosis| diagnosis.name.as_str())
        .collect();
    assert!(names.contains(&"entropy_collapsed"), "{names:?}");
}

#[test]
fn runs_that_learn_look_well() {
    for setup in [
        Setup::cart_pole().of_rounds(200),
        Setup::dqn().of_rounds(200),
        Setup::sac().of_rounds(200),
    ] {
        let cluster = Cluster::new(&setup);
        let mut learner = cluster.learner();
        let actor = cluster.actor(1);
        let log = learner.expect_exit(0, wait::LONG);
        actor.finish();
        assert!(!log.contains(LOOKS_SICK), "{log}");
        let diagnoses = cluster.summary().diagnoses;
        assert!(diagnoses.is_empty(), "{diagnoses:?}");
    }
}

/// An environment each of whose steps is `frames` of the native one's.
fn slowed_down(setup: Setup, frames: i64) -> Setup {
    let wrapper = Table::from_iter([
        ("kind".to_owned(), Value::from("frame_skip")),
        ("frames".to_owned(), Value::from(frames)),
    ]);
    setup.set("environment.wrappers", vec![Value::Table(wrapper)])
}

#[test]
fn a_slow_environment_limits_the_run_and_more_actors_are_suggested() {
    let setup = slowed_down(
        Setup::pendulum()
            .of_rounds(100_000)
            .set("ppo.epochs", 1)
            .set("ppo.minibatch_size", 256)
            .set("learner.metrics_listen", "127.0.0.1:0"),
        600,
    );
    let cluster = Cluster::new(&setup);
    let mut learner = cluster.learner();
    let actor = cluster.actor(1);
    let status = learner.wait_status("a verdict", |status| {
        let stage = status.bottleneck.as_ref().map(|limit| limit.stage.as_str());
        stage == Some("environment")
    });
    let limit = status.bottleneck.unwrap();
    assert!((0.1..=1.0).contains(&limit.busy_ratio), "{limit:?}");
    assert!(limit.advice.contains("step environments"), "{limit:?}");
    assert!(
        (1..=4).contains(&limit.suggested_actors.unwrap()),
        "{limit:?}"
    );
    assert!(status.actor_seconds["environment"] > status.actor_seconds["forward"]);
    let line = learner.wait_log("what limits the run");
    assert!(line.contains("environment"), "{line}");
    learner.pause();
    let ours = scrape(&learner.wait_address("serving metrics"));
    assert_eq!(ours.value("rookery_bottleneck{stage=\"environment\"}"), 1.0);
    assert_eq!(ours.value("rookery_bottleneck{stage=\"update\"}"), 0.0);
    learner.terminate();
    learner.expect_exit(0, Duration::from_secs(8));
    drop(actor);
}

#[test]
fn a_slow_learner_limits_the_run_with_its_gradient_steps() {
    let setup = Setup::cart_pole()
        .of_rounds(100_000)
        .set("ppo.epochs", 50)
        .set("schedule.lag", 1);
    let cluster = Cluster::new(&setup);
    let mut learner = cluster.learner();
    let actor = cluster.actor(2);
    let status = learner.wait_status("a verdict with what the actors do", |status| {
        let limit = status.bottleneck.as_ref();
        limit.is_some_and(|limit| limit.suggested_actors.is_some())
    });
    let limit = status.bottleneck.unwrap();
    assert_eq!(limit.stage, "update");
    assert_eq!(limit.suggested_actors, Some(1), "{limit:?}");
    learner.terminate();
    learner.expect_exit(0, Duration::from_secs(8));
    drop(actor);
}

/// Rewards that are finite, and whose squares are not.
fn with_huge_rewards(mut unroll: v1::Unroll) -> v1::Unroll {
    let reward = unroll.reward.as_mut().unwrap();
    let huge: Vec<u8> = reward
        .data
        .chunks_exact(4)
        .flat_map(|bytes| {
            let value = f32::from_le_bytes(bytes.try_into().unwrap());
            (value * 1e30).to_le_bytes()
        })
        .collect();
    reward.data = huge.into();
    unroll
}

#[test]
fn a_run_that_loses_its_gradients_ends_at_its_last_good_checkpoint_and_goes_on_from_it() {
    let setup = Setup::pendulum();
    let expected = Cluster::undisturbed(&setup).result;
    let cluster = Cluster::new(&setup.set("checkpoint.every_updates", 1));
    let mut learner = cluster.learner();
    let socket = cluster.path().join("relay.sock");
    let relay = Relay::start(&socket, &cluster.socket(), |n, unroll| {
        let is_spoilt = n >= FIRST_SPOILT;
        vec![if is_spoilt {
            with_huge_rewards(unroll)
        } else {
            unroll
        }]
    });
    let spoilt = cluster.actor_at(&format!("unix://{}", socket.display()), 1);
    let log = learner.expect_exit(70, wait::LONG);
    drop((spoilt, relay));
    let newest = *cluster.checkpoints().last().expect("a checkpoint");
    assert!(
        newest <= FIRST_SPOILT / Setup::SHARDS,
        "{newest} is of before the rewards were spoilt"
    );
    for part in [
        "no gradient was finite in 5 updates".to_owned(),
        format!(
            "The last good checkpoint is {}",
            cluster.checkpoint(newest).display()
        ),
        "--resume".to_owned(),
        "ppo.learning_rate (now 0.003)".to_owned(),
        "rule=\"gradients_not_finite\"".to_owned(),
    ] {
        assert!(log.contains(&part), "`{part}` in {log}");
    }
    let learner = cluster.resume();
    let actor = cluster.actor(1);
    let summary = learner.finish();
    actor.finish();
    assert_eq!(summary.result, expected);
}
