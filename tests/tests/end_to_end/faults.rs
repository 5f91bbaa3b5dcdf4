//! Faults of processes, and what a run makes of them. Every reading of the status also checks that
//! each unroll is accounted for.

use std::fs;
use std::time::Duration;

use rookery_tests::{Cluster, Relay, Setup, wait};

/// What is over within this time leaves room in the ten seconds that container runtimes give.
const LEARNER_SHUTDOWN: Duration = Duration::from_secs(8);
const ACTOR_SHUTDOWN: Duration = Duration::from_secs(3);

#[test]
fn an_actor_killed_in_the_middle_costs_nothing() {
    let setup = Setup::cart_pole();
    let expected = Cluster::undisturbed(&setup);
    let cluster = Cluster::new(&setup);
    let mut learner = cluster.learner();
    let survivor = cluster.actor(1);
    let mut victim = cluster.actor(2);
    learner.wait_received(Setup::SHARDS);
    learner.pause();
    learner.wait_actors(2);
    learner.resume();
    learner.wait_received(Setup::SHARDS * 10);
    victim.kill();
    // Gone at once: the kernel closes its connection.
    let status = learner.wait_status("one actor less", |status| status.actors == 1);
    assert_eq!(
        status.shards_leased, status.shards,
        "the survivor has taken over"
    );
    let summary = learner.finish();
    survivor.finish();
    assert_eq!(summary.result, expected.result);
    assert_eq!(summary.unrolls.trained, expected.unrolls.trained);
}

#[test]
fn a_learner_killed_while_it_writes_checkpoints_resumes_from_a_whole_one() {
    let setup = Setup::cart_pole().of_rounds(400);
    let expected = Cluster::undisturbed(&setup).result;
    let cluster = Cluster::new(&setup.set("checkpoint.every_updates", 1));
    let mut learner = cluster.learner();
    let actor = cluster.actor(2);
    let is_writing = || {
        let entries = fs::read_dir(cluster.run_directory().join("checkpoints"));
        entries.is_ok_and(|entries| {
            entries
                .flatten()
                .any(|entry| entry.file_name().to_string_lossy().starts_with(".writing-"))
        })
    };
    for _ in 0..6 {
        let checkpoints = cluster.checkpoints();
        wait::until("a new checkpoint", wait::LONG, || {
            cluster.checkpoints() != checkpoints
        });
        // Its files take longer to reach the disk than this loop takes to see them.
        while !is_writing() {
            assert_eq!(
                learner.exit(),
                None,
                "the run ended before it could be disturbed"
            );
        }
        learner.kill();
        learner = cluster.resume();
    }
    let summary = learner.finish();
    actor.finish();
    assert_eq!(summary.result, expected);
}

#[test]
fn a_learner_told_to_stop_saves_its_run_and_goes_on_later() {
    let setup = Setup::pendulum();
    let expected = Cluster::undisturbed(&setup).result;
    let cluster = Cluster::new(&setup);
    let mut learner = cluster.learner();
    let actor = cluster.actor(2);
    learner.wait_received(Setup::SHARDS * 10);
    learner.terminate();
    learner.expect_exit(0, LEARNER_SHUTDOWN);
    let stopped = cluster.summary();
    assert_eq!(stopped.outcome, "stopped");
    assert_eq!(cluster.checkpoints().last(), Some(&stopped.result.updates));
    assert!(
        stopped.result.updates < Setup::ROUNDS,
        "it was stopped in the middle"
    );
    let summary = cluster.resume().finish();
    actor.finish();
    assert_eq!(summary.result, expected);
}

#[test]
fn one_command_begins_a_run_and_goes_on_with_it() {
    let setup = Setup::pendulum();
    let expected = Cluster::undisturbed(&setup).result;
    let cluster = Cluster::new(&setup);
    let start = || {
        let mut command = cluster.learner_command();
        command.arg("--resume-if-begun");
        cluster.start_learner(command)
    };
    let mut learner = start();
    let actor = cluster.actor(2);
    learner.wait_received(Setup::SHARDS * 10);
    learner.terminate();
    learner.expect_exit(0, LEARNER_SHUTDOWN);
    assert_eq!(cluster.summary().outcome, "stopped");
    let summary = start().finish();
    actor.finish();
    assert_eq!(summary.result, expected);
}

#[test]
fn a_learner_without_actors_stops_when_told_to() {
    let cluster = Cluster::new(&Setup::pendulum());
    let mut learner = cluster.learner();
    learner.terminate();
    learner.expect_exit(0, LEARNER_SHUTDOWN);
    assert!(
        cluster.checkpoints().is_empty(),
        "there was nothing to save"
    );
}

#[test]
fn an_actor_told_to_stop_leaves_at_once() {
    let setup = Setup::pendulum();
    let expected = Cluster::undisturbed(&setup).result;
    let cluster = Cluster::new(&setup);
    let mut learner = cluster.learner();
    let mut leaving = cluster.actor(2);
    learner.wait_received(Setup::SHARDS * 10);
    leaving.terminate();
    leaving.expect_exit(0, ACTOR_SHUTDOWN);
    learner.wait_actors(0);
    let actor = cluster.actor(1);
    let summary = learner.finish();
    actor.finish();
    assert_eq!(summary.result, expected);
}

#[test]
fn an_actor_without_a_learner_stops_when_told_to() {
    let cluster = Cluster::new(&Setup::pendulum());
    let mut actor = cluster.actor(1);
    actor.wait_log("no session with the learner");
    actor.terminate();
    actor.expect_exit(0, ACTOR_SHUTDOWN);
}

#[test]
fn a_frozen_actor_loses_its_shards_and_comes_back() {
    let setup = Setup::cart_pole();
    let expected = Cluster::undisturbed(&setup).result;
    let cluster = Cluster::new(&setup.set("learner.lease_timeout", "1s"));
    let mut learner = cluster.learner();
    let mut frozen = cluster.actor(2);
    let other = cluster.actor(1);
    learner.wait_received(Setup::SHARDS);
    learner.pause();
    learner.wait_actors(2);
    learner.resume();
    learner.wait_received(Setup::SHARDS * 8);
    frozen.stop();
    let status = learner.wait_status("the end of the lease", |status| status.actors == 1);
    assert_eq!(
        status.shards_leased, status.shards,
        "the other one has taken over"
    );
    let received = status.unrolls.unwrap().received;
    learner.wait_received(received + Setup::SHARDS);
    learner.pause();
    frozen.cont();
    // What it had under way is refused with its session; it joins again by itself.
    learner.wait_actors(2);
    learner.resume();
    let summary = learner.finish();
    frozen.finish();
    other.finish();
    assert_eq!(summary.result, expected);
    assert_eq!(summary.unrolls.trained, Setup::ROUNDS * Setup::SHARDS);
}

#[test]
fn a_learner_whose_actors_are_all_gone_waits_for_one() {
    let setup = Setup::pendulum();
    let expected = Cluster::undisturbed(&setup).result;
    let cluster = Cluster::new(&setup);
    let mut learner = cluster.learner();
    let mut actors = [cluster.actor(1), cluster.actor(1)];
    learner.wait_received(Setup::SHARDS * 10);
    for actor in &mut actors {
        actor.kill();
    }
    let status = learner.wait_status("no actors", |status| status.actors == 0);
    assert_eq!(status.shards_leased, 0);
    assert!(status.updates < Setup::ROUNDS, "there was more to learn");
    let actor = cluster.actor(1);
    let summary = learner.finish();
    actor.finish();
    assert_eq!(summary.result, expected);
}

#[test]
fn unrolls_that_arrive_twice_are_learned_from_once() {
    let setup = Setup::cart_pole();
    let expected = Cluster::undisturbed(&setup).result;
    let cluster = Cluster::new(&setup);
    let learner = cluster.learner();
    let socket = cluster.path().join("relay.sock");
    let _relay = Relay::start(&socket, &cluster.socket(), |_, unroll| {
        vec![unroll.clone(), unroll]
    });
    let actor = cluster.actor_at(&format!("unix://{}", socket.display()), 1);
    let summary = learner.finish();
    actor.finish();
    assert_eq!(summary.result, expected);
    assert_eq!(summary.unrolls.trained, Setup::ROUNDS * Setup::SHARDS);
    // The twin of the very last one may meet a learner that is done.
    let twins = summary.unrolls.duplicate;
    let admitted = summary.unrolls.trained + summary.unrolls.queued;
    assert!(
        (admitted - 1..=admitted).contains(&twins),
        "{twins} twins of {admitted} recognised"
    );
}

#[test]
fn an_unroll_damaged_on_its_way_is_collected_again() {
    let setup = Setup::cart_pole();
    let expected = Cluster::undisturbed(&setup).result;
    let cluster = Cluster::new(&setup);
    let learner = cluster.learner();
    let socket = cluster.path().join("relay.sock");
    // Two, since the third would end the session.
    let _relay = Relay::start(&socket, &cluster.socket(), |n, mut unroll| {
        if n == 5 || n == 17 {
            unroll.reward = None;
        }
        vec![unroll]
    });
    let mut actor = cluster.actor_at(&format!("unix://{}", socket.display()), 1);
    actor.wait_log("the learner refused an unroll");
    let summary = learner.finish();
    actor.finish();
    assert_eq!(summary.result, expected);
    assert_eq!(summary.unrolls.invalid, 2);
    assert_eq!(summary.unrolls.trained, Setup::ROUNDS * Setup::SHARDS);
}

#[test]
fn an_actor_gives_up_on_a_learner_that_never_answers() {
    let cluster = Cluster::new(&Setup::pendulum().set("actor.give_up_after", "500ms"));
    let mut actor = cluster.actor(1);
    let log = actor.expect_exit(69, wait::LONG);
    let address = cluster.address();
    assert!(
        log.contains(&format!("no learner answered at {address} for 500ms")),
        "{log}"
    );
}

#[test]
fn actors_that_lost_their_learner_do_not_come_back_all_at_once() {
    let cluster = Cluster::new(&Setup::pendulum());
    let waits = [cluster.actor(1), cluster.actor(1)].map(|mut actor| {
        let line = actor.wait_log("no session with the learner");
        line.split("retry_in=").nth(1).expect("the wait").to_owned()
    });
    assert_ne!(waits[0], waits[1], "each draws its own wait");
}

#[test]
fn processes_end_when_the_one_that_started_them_has() {
    let cluster = Cluster::new(&Setup::pendulum());
    let mut learner = cluster.learner();
    learner.close_input();
    learner.expect_exit(0, LEARNER_SHUTDOWN);
    let mut actor = cluster.actor(1);
    actor.wait_log("no session with the learner");
    actor.close_input();
    actor.expect_exit(0, ACTOR_SHUTDOWN);
}
