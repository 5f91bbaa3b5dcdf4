//! Asynchronous runs: actors that come and go, a learner that is too slow, and unrolls that are too old.
//! Every reading of the status also checks that each unroll is accounted for.

use std::fs;
use std::time::{Duration, Instant};

use rookery_proto::v1::{self, RefusalReason, RunState};
use rookery_tests::{Cluster, Handmade, Learner, Setup, Summary, scrape, unroll, wait};
use serde::Deserialize;

/// What an update says of its unrolls in `metrics.jsonl`.
#[derive(Debug, Deserialize)]
struct Line {
    update: u64,
    policy_lag_mean: f64,
    policy_lag_max: u64,
}

fn updates(cluster: &Cluster) -> Vec<Line> {
    let path = cluster.run_directory().join("metrics.jsonl");
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Holds that every update was whole, that no unroll was older than allowed, and that none of a
/// shard was missing or came twice.
fn keeps_its_promises(cluster: &Cluster, summary: &Summary, max_policy_lag: u64) {
    let rounds = Setup::ROUNDS;
    assert_eq!(summary.result.updates, rounds);
    assert_eq!(summary.result.env_steps, rounds * Setup::ROUND_STEPS);
    assert_eq!(summary.unrolls.duplicate, 0);
    assert_eq!(summary.unrolls.invalid, 0);
    assert_eq!(summary.discontinuities, 0);
    let updates = updates(cluster);
    assert!(updates.iter().map(|update| update.update).eq(1..=rounds));
    for update in updates {
        assert!(update.policy_lag_max <= max_policy_lag, "{update:?}");
        assert!(update.policy_lag_mean <= update.policy_lag_max as f64);
    }
}

/// The bound on the queue, as the learner says it, and what is in it.
fn queue(status: &v1::StatusReply) -> v1::QueueStatus {
    status.queue.expect("the run is asynchronous")
}

#[test]
fn every_algorithm_learns_from_actors_that_wait_for_nobody() {
    for (setup, max_policy_lag) in [
        (Setup::impala(), 8),
        (Setup::ppo_vtrace(), 8),
        (Setup::cart_pole().set("schedule.max_policy_lag", 0), 0),
        (Setup::dqn(), 64),
        (Setup::sac(), 64),
        (Setup::td3(), 64),
        (Setup::a2c().set("schedule.max_policy_lag", 0), 0),
        (Setup::reinforce().set("schedule.max_policy_lag", 0), 0),
        (Setup::q_learning(), 8),
        (Setup::sarsa(), 8),
    ] {
        let cluster = Cluster::new(&setup.asynchronous());
        let learner = cluster.learner();
        let actors = [1, 3].map(|threads| cluster.actor(threads));
        let summary = learner.finish();
        actors.into_iter().for_each(rookery_tests::Actor::finish);
        assert_eq!(summary.unrolls.trained, Setup::ROUNDS * Setup::SHARDS);
        keeps_its_promises(&cluster, &summary, max_policy_lag);
    }
}

#[test]
fn shards_follow_the_fleet_and_are_taken_over_where_they_were_left() {
    let cluster = Cluster::new(&Setup::impala().asynchronous());
    let mut learner = cluster.learner();
    let mut first = cluster.actor(3);
    let status = learner.wait_status("a shard a thread", |status| status.shards_leased == 3);
    assert_eq!(status.shards, 8, "there may be as many");
    learner.pause();
    let second = cluster.actor(2);
    learner.wait_status("the fleet grows", |status| status.shards_leased == 5);
    learner.resume();
    learner.wait_received(Setup::SHARDS * 10);
    first.kill();
    learner.wait_status("the fleet shrinks", |status| status.shards_leased == 2);
    learner.pause();
    let third = cluster.actor(8);
    learner.wait_status("no more than there may be", |status| {
        status.actors == 2 && status.shards_leased == 8
    });
    learner.resume();
    let summary = learner.finish();
    second.finish();
    third.finish();
    keeps_its_promises(&cluster, &summary, 8);
}

#[test]
fn a_learner_that_stands_still_makes_the_environments_stand_still_and_loses_nothing() {
    let lease_timeout = Duration::from_millis(300);
    let threads = 2;
    // The four unrolls of one update find room, and no fifth: 33 rows of 2 observations, 32 of 2
    // steps, and something for each episode that ends.
    let least_bytes = 4 * (33 * 2 * 16 + 32 * 2 * (4 + 4 + 4 + 2));
    let cluster = Cluster::new(
        &Setup::impala()
            .asynchronous()
            .set("schedule.max_queue_bytes", format!("{least_bytes}B"))
            .set("schedule.max_policy_lag", 100)
            .set("learner.lease_timeout", "300ms")
            .set("learner.metrics_listen", "127.0.0.1:0")
            .set("actor.metrics_listen", "127.0.0.1:0"),
    );
    let mut learner = cluster.learner();
    let mut actor = cluster.actor(threads);
    let address = actor.wait_address("serving metrics");
    let sent = || scrape(&address).value("rookery_actor_unrolls_total");
    // The queue is full, and two unrolls of each shard wait, one of them at the learner's door.
    let stand_still = |learner: &mut Learner| {
        learner.pause();
        learner.wait_status("environments that stand still", |status| {
            let unrolls = status.unrolls.unwrap();
            status.state() == RunState::Paused
                && unrolls.queued == 4
                && sent() - unrolls.received as f64 == 2.0 * f64::from(threads)
        })
    };
    learner.wait_received(Setup::SHARDS * 5);
    let full = stand_still(&mut learner);
    let (bytes, received) = (queue(&full).bytes, full.unrolls.unwrap().received);
    assert!(bytes >= least_bytes, "{full:?}");
    // Nothing moves, for much longer than a silent actor would be given.
    let since = Instant::now();
    wait::until("several lease timeouts", wait::LONG, || {
        let status = learner.status();
        assert_eq!(status.unrolls.unwrap().received, received);
        assert_eq!(queue(&status).bytes, bytes);
        assert_eq!(status.shards_leased, threads, "no lease has ended");
        since.elapsed() > 4 * lease_timeout
    });
    assert_eq!(sent(), received as f64 + 2.0 * f64::from(threads));
    assert_eq!(scrape(&address).value("rookery_actor_joins_total"), 1.0);

    learner.resume();
    learner.wait_received(received + Setup::SHARDS * 2);
    stand_still(&mut learner);
    let scraped = scrape(&learner.wait_address("serving metrics"));
    assert!(scraped.value("rookery_back_pressure_seconds_count") >= 1.0);
    // One that is told to stop while it stands still goes at once, and its shards are free.
    actor.terminate();
    actor.expect_exit(0, Duration::from_secs(3));
    learner.wait_status("its shards are free", |status| status.shards_leased == 0);
    let other = cluster.actor(1);
    learner.resume();
    let summary = learner.finish();
    other.finish();
    keeps_its_promises(&cluster, &summary, 100);
    assert_eq!(summary.unrolls.stale, 0);
}

#[test]
fn a_killed_learner_goes_on_from_its_checkpoint_with_what_was_trained_on() {
    let cluster = Cluster::new(&Setup::impala().asynchronous());
    let actors = [cluster.actor(1), cluster.actor(2)];
    let mut learner = cluster.learner();
    for _ in 0..3 {
        learner.wait_received(Setup::SHARDS * 4);
        learner.pause();
        learner.checkpoint().expect("a checkpoint");
        learner.resume();
        let received = learner.unrolls().received;
        learner.wait_received(received + Setup::SHARDS);
        learner.kill();
        learner = cluster.resume();
    }
    learner.pause();
    learner.wait_actors(2);
    learner.resume();
    let summary = learner.finish();
    actors.into_iter().for_each(rookery_tests::Actor::finish);
    keeps_its_promises(&cluster, &summary, 8);
}

#[test]
fn an_unroll_that_is_too_old_is_refused_and_its_shard_goes_on_from_the_last_one_before_it() {
    let setup = Setup::impala()
        .asynchronous()
        .set("schedule.unrolls_per_update", 1)
        .set("schedule.max_policy_lag", 1);
    let cluster = Cluster::new(&setup);
    let mut learner = cluster.learner();
    let peer = Handmade::connect(&cluster.socket());
    let (joined, mut stream) = peer.session();
    assert_eq!(joined.max_unacknowledged, Some(2));
    let mut lease = stream.expect_lease();
    let of_version = |lease: &v1::Lease, version| {
        let mut unroll = unroll(&joined, lease);
        unroll.version.as_mut().unwrap().version = version;
        unroll.state_after = lease.next_index.to_le_bytes().to_vec().into();
        unroll
    };
    // The first is consumed by version 0, the second by version 1: both may be of version 0.
    for index in 0..2 {
        lease.next_index = index;
        stream.send_unroll(of_version(&lease, 0));
        assert!(matches!(
            stream.expect_next(),
            v1::collect_reply::Kind::Ack(ack) if ack.index == index
        ));
    }
    lease.next_index = 2;
    stream.send_unroll(of_version(&lease, 0));
    let refusal = stream.expect_refusal();
    assert_eq!(refusal.reason(), RefusalReason::TooOld);
    let reason =
        "would be 2 versions old when it is trained on, more than schedule.max_policy_lag, 1";
    assert!(refusal.message.contains(reason), "{refusal:?}");
    let v1::collect_reply::Kind::Revoke(revoked) = stream.expect_next() else {
        panic!("the old lease is over");
    };
    assert_eq!(revoked.epoch, lease.epoch);
    let anew = stream.expect_lease();
    assert_eq!((anew.shard, anew.next_index), (lease.shard, 2));
    assert_eq!(anew.state, 1_u64.to_le_bytes().to_vec());
    let trained = |status: &v1::StatusReply| status.unrolls.unwrap().trained;
    learner.wait_status("two updates", |status| trained(status) == 2);
    stream.send_unroll(of_version(&anew, 2));
    assert!(matches!(
        stream.expect_next(),
        v1::collect_reply::Kind::Ack(_)
    ));
    let status = learner.wait_status("a third", |status| trained(status) == 3);
    assert_eq!(status.refused["too_old"], 1);
    let unrolls = learner.unrolls();
    assert_eq!((unrolls.trained, unrolls.stale, unrolls.invalid), (3, 1, 0));
}

#[test]
fn a_queue_that_no_update_fits_into_is_refused_with_both_numbers() {
    let setup = Setup::impala()
        .asynchronous()
        .set("schedule.max_queue_bytes", "6kB");
    let cluster = Cluster::new(&setup);
    let _learner = cluster.learner();
    let mut actor = cluster.actor(1);
    let log = actor.expect_exit(64, wait::LONG);
    // 33 rows of 2 observations, 32 of 2 steps; 4 unrolls.
    let bytes = 4 * (33 * 2 * 16 + 32 * 2 * (4 + 4 + 4 + 2));
    let message = format!("the 4 unrolls of one update take {bytes} bytes");
    assert!(log.contains(&message), "{log}");
    assert!(log.contains("lets 6000 wait"), "{log}");
}
