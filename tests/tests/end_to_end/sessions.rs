//! Sessions: who may speak, for how long, and what becomes of the shards that a session leaves
//! behind.

use bytes::Bytes;
use rookery_proto::v1;
use rookery_proto::v1::collect_reply::Kind as Reply;
use rookery_tests::{Cluster, Handmade, Setup, cart_pole, unroll};
use tonic::Code;

#[test]
fn a_silent_session_loses_its_leases() {
    let cluster = Cluster::new(&Setup::cart_pole().set("learner.lease_timeout", "200ms"));
    let mut learner = cluster.learner();
    let (_, mut stream) = Handmade::connect(&cluster.socket()).session();
    let status = stream.expect_end();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(
        status.message().contains("nothing was heard for 200ms"),
        "{status}"
    );
    learner.wait_actors(0);
}

#[test]
fn evaluations_that_say_nothing_are_refused() {
    let cluster = Cluster::new(&Setup::cart_pole());
    let learner = cluster.learner();
    let peer = Handmade::connect(&cluster.socket());
    let joined = peer.join(cart_pole()).expect("a sound actor may join");
    let report = v1::ReportEvaluationRequest {
        session: joined.session,
        version: Some(v1::PolicyVersion {
            learner_epoch: 1,
            version: 0,
        }),
        env_steps: 0,
        returns: vec![1.0],
        lengths: vec![1],
    };
    let without_version = v1::ReportEvaluationRequest {
        version: None,
        ..report.clone()
    };
    let without_returns = v1::ReportEvaluationRequest {
        returns: Vec::new(),
        ..report.clone()
    };
    let not_finite = v1::ReportEvaluationRequest {
        returns: vec![f64::NAN],
        ..report
    };
    for (report, field) in [
        (without_version, "field `version`"),
        (without_returns, "field `returns`"),
        (not_finite, "field `returns`"),
    ] {
        let status = peer.report(report).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(field), "{status}");
    }
    assert_eq!(learner.status().evaluation_return, None);
}

#[test]
fn who_has_not_joined_gets_no_parameters_and_reports_nothing() {
    let cluster = Cluster::new(&Setup::cart_pole());
    let learner = cluster.learner();
    let peer = Handmade::connect(&cluster.socket());
    let joined = peer.join(cart_pole()).expect("a sound actor may join");
    peer.parameters(joined.session)
        .expect("who has joined may follow the parameters");

    let stranger = joined.session + 1;
    let report = v1::ReportEvaluationRequest {
        session: stranger,
        version: Some(v1::PolicyVersion {
            learner_epoch: 1,
            version: 0,
        }),
        env_steps: 0,
        returns: vec![1e9],
        lengths: vec![1],
    };
    for refused in [peer.report(report), peer.parameters(stranger)] {
        let status = refused.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status}");
        let reason = format!("session {stranger} is unknown or over; join again");
        assert!(status.message().contains(&reason), "{status}");
    }
    assert_eq!(learner.status().evaluation_return, None);
}

#[test]
fn what_one_session_sends_costs_no_other_its_shards() {
    let cluster = Cluster::new(&Setup::cart_pole());
    let mut learner = cluster.learner();
    let peer = Handmade::connect(&cluster.socket());
    let (joined, mut victim) = peer.session();
    let lease = victim.expect_lease();
    for _ in 1..Setup::SHARDS {
        victim.expect_lease();
    }
    let (_, mut intruder) = peer.session();
    let taken = (0..Setup::SHARDS / 2)
        .map(|_| intruder.expect_lease().shard)
        .collect::<Vec<_>>();
    assert!(!taken.contains(&lease.shard), "the first shard stays put");
    for _ in &taken {
        let moved = victim.expect_next();
        assert!(matches!(moved, Reply::Revoke(_)), "{moved:?}");
    }

    let mut malformed = unroll(&joined, &lease);
    malformed.reward = None;
    intruder.send_unroll(malformed);
    assert_eq!(intruder.expect_refusal().shard, lease.shard);
    // The lease is as good as it was: had it been granted anew, this would be stale.
    victim.send_unroll(unroll(&joined, &lease));
    let answer = victim.expect_next();
    assert!(
        matches!(&answer, Reply::Ack(ack) if ack.shard == lease.shard && !ack.duplicate),
        "{answer:?}"
    );
    learner.wait_received(2);
}

#[test]
fn a_state_that_cannot_be_restored_starts_its_environments_over_and_the_run_says_so() {
    let cluster = Cluster::new(&Setup::cart_pole());
    let mut learner = cluster.learner();
    let (joined, mut stream) = Handmade::connect(&cluster.socket()).session();
    let leases: Vec<v1::Lease> = (0..Setup::SHARDS).map(|_| stream.expect_lease()).collect();
    // One shard is left with a state that means nothing, one without any.
    for (lease, state) in leases.iter().zip([&b"spoilt"[..], b""]) {
        let mut unroll = unroll(&joined, lease);
        unroll.state_after = Bytes::from_static(state);
        stream.send_unroll(unroll);
        let answer = stream.expect_next();
        assert!(matches!(answer, Reply::Ack(_)), "{answer:?}");
    }
    drop(stream);
    learner.wait_actors(0);

    let actor = cluster.actor(1);
    let status = learner.wait_status("a discontinuity", |status| status.discontinuities > 0);
    assert!(status.discontinuities <= 2, "{status:?}");
    let log = learner.wait_log("elastic determinism is off");
    assert!(log.contains("discontinuous=2"), "{log}");
    let summary = learner.finish();
    actor.finish();
    assert_eq!(summary.discontinuities, 2);
    assert_eq!(status.last_discontinuity, summary.last_discontinuity);
    let reason = summary.last_discontinuity.unwrap();
    assert!(
        reason.contains("its state was not restored: the snapshot"),
        "{reason}"
    );
    assert_eq!(summary.unrolls.trained, Setup::ROUNDS * Setup::SHARDS);
}
