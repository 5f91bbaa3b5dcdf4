//! What a learner makes of peers that are not sound: each is told what is wrong, every unroll is
//! counted, and a sound actor that comes after them ends with the result of an undisturbed run.

use bytes::Bytes;
use rookery_proto::v1::collect_reply::Kind as Reply;
use rookery_proto::v1::collect_request::Kind;
use rookery_proto::v1::{self, RefusalReason};
use rookery_tests::{Cluster, Handmade, Learner, Setup, Stream, Unrolls, cart_pole, unroll, wait};
use tonic::Code;

/// A learner of `CartPole-v1`, and a peer that is not sound.
struct Scene {
    learner: Learner,
    peer: Handmade,
    /// Last, since the others' logs are in its directory.
    cluster: Cluster,
}

impl Scene {
    fn new() -> Self {
        Self::of(Setup::cart_pole())
    }

    fn of(setup: Setup) -> Self {
        let cluster = Cluster::new(&setup.set("learner.max_message", "64KiB"));
        let learner = cluster.learner();
        let peer = Handmade::connect(&cluster.socket());
        Self {
            learner,
            peer,
            cluster,
        }
    }

    /// A session that holds every shard, and the first of its leases.
    fn session(&self) -> (v1::JoinReply, v1::Lease, Stream) {
        let (joined, mut stream) = self.peer.session();
        let mut leases: Vec<v1::Lease> =
            (0..Setup::SHARDS).map(|_| stream.expect_lease()).collect();
        (joined, leases.remove(0), stream)
    }

    /// Sends the next unroll after `change`, and gives the learner's refusal. The session ends.
    fn refusal_of(&mut self, change: impl FnOnce(&mut v1::Unroll)) -> v1::Refusal {
        let (joined, lease, mut stream) = self.session();
        let mut unroll = unroll(&joined, &lease);
        change(&mut unroll);
        stream.send_unroll(unroll);
        let refusal = stream.expect_refusal();
        drop(stream);
        self.learner.wait_actors(0);
        refusal
    }

    /// Has a sound actor train to the end, and holds that nothing of what came before shows.
    fn sound_actor_gets_the_undisturbed_result(self, refused: Unrolls) {
        self.sound_actor_gets_the_result_of(&Setup::cart_pole(), refused);
    }

    fn sound_actor_gets_the_result_of(self, setup: &Setup, refused: Unrolls) {
        let expected = Cluster::undisturbed(setup);
        assert_eq!(self.learner.unrolls(), refused);
        drop(self.peer);
        let actor = self.cluster.actor(1);
        let summary = self.learner.finish();
        actor.finish();
        assert_eq!(summary.result, expected.result);
        // How much of the round after the last one arrives is a matter of time.
        let admitted = summary.unrolls.trained + summary.unrolls.queued;
        assert_eq!(
            summary.unrolls,
            Unrolls {
                received: admitted + refused.received,
                trained: Setup::ROUNDS * Setup::SHARDS,
                queued: summary.unrolls.queued,
                ..refused
            }
        );
    }
}

/// The bytes of a column whose first element is `value`.
fn starting_with(column: &v1::Column, value: f32) -> Bytes {
    let mut data = column.data.to_vec();
    data[..4].copy_from_slice(&value.to_le_bytes());
    Bytes::from(data)
}

/// What a test does to an unroll.
type Change = fn(&mut v1::Unroll);

/// Unrolls that are not sound: what is done to them, and the refusal.
const MALFORMED: &[(Change, RefusalReason, &str)] = &[
    (
        |u| u.key = None,
        RefusalReason::Invalid,
        "field `key`: expected a value, got nothing",
    ),
    (
        |u| u.version = None,
        RefusalReason::Invalid,
        "field `version`: expected a value, got nothing",
    ),
    (
        |u| u.observation = None,
        RefusalReason::Invalid,
        "field `observation`: expected a value, got nothing",
    ),
    (
        |u| u.observation.as_mut().unwrap().shape = vec![33, 4, 2],
        RefusalReason::Invalid,
        "field `observation`: expected shape [33, 2, 4], got shape [33, 4, 2]",
    ),
    (
        |u| u.reward.as_mut().unwrap().shape = vec![31, 2],
        RefusalReason::Invalid,
        "field `reward`: expected shape [32, 2], got shape [31, 2]",
    ),
    (
        |u| u.action.as_mut().unwrap().element_type = v1::ElementType::F64.into(),
        RefusalReason::Invalid,
        "field `action`: expected ELEMENT_TYPE_F32, got ELEMENT_TYPE_F64",
    ),
    (
        |u| u.action.as_mut().unwrap().element_type = 99,
        RefusalReason::Invalid,
        "field `action`: expected ELEMENT_TYPE_F32, got 99",
    ),
    (
        |u| u.log_prob.as_mut().unwrap().data.truncate(255),
        RefusalReason::Invalid,
        "field `log_prob`: expected 256 bytes for shape [32, 2], got 255 bytes",
    ),
    (
        |u| u.final_index.as_mut().unwrap().shape = vec![u32::MAX],
        RefusalReason::Invalid,
        "field `final_index`: expected 17179869180 bytes for shape [4294967295], got 0 bytes",
    ),
    (
        |u| {
            let column = u.action.as_mut().unwrap();
            column.data = starting_with(column, 2.0);
        },
        RefusalReason::Invalid,
        "field `action`: expected whole numbers in 0..2, got 2",
    ),
    (
        |u| u.terminated.as_mut().unwrap().data = Bytes::from(vec![2; 64]),
        RefusalReason::Invalid,
        "field `terminated`: expected 0 or 1, got 2",
    ),
    (
        |u| u.truncated.as_mut().unwrap().data = Bytes::from(vec![1; 64]),
        RefusalReason::Invalid,
        "field `final_index`: expected step 0, which was truncated, got nothing",
    ),
    (
        |u| {
            let column = u.observation.as_mut().unwrap();
            column.data = starting_with(column, f32::NAN);
        },
        RefusalReason::NonFinite,
        "field `observation`: element 0 is NaN",
    ),
    (
        |u| {
            let column = u.reward.as_mut().unwrap();
            column.data = starting_with(column, f32::INFINITY);
        },
        RefusalReason::NonFinite,
        "field `reward`: element 0 is inf",
    ),
    (
        |u| u.initial_state = u.log_prob.clone(),
        RefusalReason::Invalid,
        "field `initial_state`: expected nothing, because the policy is not recurrent, got shape [32, 2]",
    ),
    (
        |u| u.key.as_mut().unwrap().shard = 77,
        RefusalReason::Invalid,
        "field `key.shard`: expected 0..4, got 77",
    ),
    (
        |u| u.key.as_mut().unwrap().index = 5,
        RefusalReason::Gap,
        "expected unroll 0 of shard 0, got 5",
    ),
];

#[test]
fn unrolls_that_are_not_sound_are_refused_with_the_field_and_both_values() {
    let mut scene = Scene::new();
    for (count, (change, reason, message)) in (1..).zip(MALFORMED) {
        let refusal = scene.refusal_of(change);
        assert_eq!(refusal.reason(), *reason, "{refusal:?}");
        assert!(
            refusal.message.contains(message),
            "expected `{message}`, got {refusal:?}"
        );
        let counts = Unrolls {
            received: count,
            invalid: count,
            ..Unrolls::default()
        };
        assert_eq!(scene.learner.unrolls(), counts);
    }
    let count = MALFORMED.len() as u64;
    scene.sound_actor_gets_the_undisturbed_result(Unrolls {
        received: count,
        invalid: count,
        ..Unrolls::default()
    });
}

/// T17: what a recurrent policy is trained from is checked like every other column.
#[test]
fn recurrent_states_that_are_not_sound_are_refused_with_the_field_and_both_values() {
    let setup = Setup::cart_pole()
        .set("policy.recurrent", "gru")
        .set("policy.recurrent_units", 3)
        .set("policy.shared_trunk", true);
    let mut scene = Scene::of(setup.clone());
    let column = |shape: [u32; 2], data: Vec<u8>| v1::Column {
        element_type: v1::ElementType::F32.into(),
        shape: shape.to_vec(),
        data: Bytes::from(data),
    };
    let nan = [vec![0; 20], f32::NAN.to_le_bytes().to_vec()].concat();
    for (count, (state, reason, message)) in (1..).zip([
        (
            None,
            RefusalReason::Invalid,
            "field `initial_state`: expected a value, got nothing",
        ),
        (
            Some(column([2, 4], vec![0; 32])),
            RefusalReason::Invalid,
            "field `initial_state`: expected shape [2, 3], got shape [2, 4]",
        ),
        (
            Some(column([2, 3], vec![0; 23])),
            RefusalReason::Invalid,
            "field `initial_state`: expected 24 bytes for shape [2, 3], got 23 bytes",
        ),
        (
            Some(column([2, u32::MAX], Vec::new())),
            RefusalReason::Invalid,
            "field `initial_state`: expected shape [2, 3], got shape [2, 4294967295]",
        ),
        (
            Some(column([2, 3], nan)),
            RefusalReason::NonFinite,
            "field `initial_state`: element 5 is NaN",
        ),
    ]) {
        let refusal = scene.refusal_of(|unroll| unroll.initial_state = state);
        assert_eq!(refusal.reason(), reason, "{refusal:?}");
        assert!(refusal.message.contains(message), "{refusal:?}");
        assert_eq!(scene.learner.unrolls().invalid, count);
    }
    let refused = scene.learner.unrolls();
    scene.sound_actor_gets_the_result_of(&setup, refused);
}

#[test]
fn unrolls_of_other_runs_leases_learners_and_versions_are_refused_as_stale() {
    let mut scene = Scene::new();
    let stale = RefusalReason::Stale;
    let cases: &[(Change, RefusalReason, &str)] = &[
        (
            |u| u.key.as_mut().unwrap().lease_epoch -= 1,
            stale,
            "is over",
        ),
        (
            |u| u.key.as_mut().unwrap().lease_epoch = 0,
            stale,
            "lease epoch 0 of shard 0",
        ),
        (
            |u| u.key.as_mut().unwrap().run_id = "\u{0}\n!".to_owned(),
            stale,
            "is over",
        ),
        (
            |u| u.version.as_mut().unwrap().learner_epoch = 9,
            stale,
            "version 9.0",
        ),
        (
            |u| u.version.as_mut().unwrap().version = 3,
            RefusalReason::WrongVersion,
            "unroll 0 must be collected with version 0, got version 3",
        ),
    ];
    for (change, reason, message) in cases {
        let refusal = scene.refusal_of(change);
        assert_eq!(refusal.reason(), *reason, "{refusal:?}");
        assert!(
            refusal.message.contains(message),
            "expected `{message}`, got {refusal:?}"
        );
    }
    let count = cases.len() as u64;
    scene.sound_actor_gets_the_undisturbed_result(Unrolls {
        received: count,
        stale: count,
        ..Unrolls::default()
    });
}

#[test]
fn a_shard_that_was_given_to_another_is_fenced() {
    let scene = Scene::new();
    let (joined, _, mut first) = scene.session();
    let (_, mut second) = scene.peer.session();
    let taken = second.expect_lease();
    let revoked = loop {
        if let Reply::Revoke(revoked) = first.expect_next() {
            break revoked;
        }
    };
    assert_eq!(revoked.shard, taken.shard);
    assert!(revoked.epoch < taken.epoch);
    // The zombie sends what it had under way.
    let lease = v1::Lease {
        epoch: revoked.epoch,
        ..taken
    };
    first.send_unroll(unroll(&joined, &lease));
    let refusal = loop {
        if let Reply::Refusal(refusal) = first.expect_next() {
            break refusal;
        }
    };
    assert_eq!(refusal.reason(), RefusalReason::Stale);
    drop((first, second));
    let refused = Unrolls {
        received: 1,
        stale: 1,
        ..Unrolls::default()
    };
    scene.sound_actor_gets_the_undisturbed_result(refused);
}

#[test]
fn a_session_ends_with_its_third_malformed_unroll() {
    let scene = Scene::new();
    let (joined, lease, mut stream) = scene.session();
    let mut malformed = unroll(&joined, &lease);
    malformed.reward = None;
    for _ in 0..3 {
        stream.send_unroll(malformed.clone());
    }
    let status = stream.expect_end();
    assert_eq!(status.code(), Code::InvalidArgument);
    let reason = "sent 3 malformed unrolls, the last with field `reward`";
    assert!(status.message().contains(reason), "{status}");
    let refused = Unrolls {
        received: 3,
        invalid: 3,
        ..Unrolls::default()
    };
    scene.sound_actor_gets_the_undisturbed_result(refused);
}

#[test]
fn a_shard_is_leased_anew_after_a_malformed_unroll() {
    let scene = Scene::new();
    let (joined, lease, mut stream) = scene.session();
    let mut malformed = unroll(&joined, &lease);
    malformed.reward = None;
    stream.send_unroll(malformed);
    stream.expect_refusal();
    let Reply::Revoke(revoked) = stream.expect_next() else {
        panic!("the old lease is over")
    };
    assert_eq!((revoked.shard, revoked.epoch), (lease.shard, lease.epoch));
    let anew = stream.expect_lease();
    assert!(anew.epoch > lease.epoch);
    assert_eq!(anew.next_index, lease.next_index);
}

#[test]
fn messages_that_are_too_long_or_no_messages_end_the_session_alone() {
    let mut scene = Scene::new();
    let (joined, lease, mut stream) = scene.session();
    let mut oversized = unroll(&joined, &lease);
    oversized.state_after = Bytes::from(vec![0; 70_000]);
    stream.send_unroll(oversized);
    let status = stream.expect_end();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert!(
        status.message().contains("65536"),
        "the limit is named: {status}"
    );
    scene.learner.wait_actors(0);

    let status = scene
        .peer
        .send_garbage(b"\xff\xff\xff\xffnot protobuf")
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(
        status.message().contains("a message cannot be read"),
        "{status}"
    );
    scene.learner.wait_actors(0);
    // Nothing of it claimed to be an unroll.
    scene.sound_actor_gets_the_undisturbed_result(Unrolls::default());
}

#[test]
fn streams_without_a_session_of_their_own_are_refused() {
    let scene = Scene::new();
    let refused = |kind: Kind, code: Code, message: &str| {
        let status = scene.peer.open(kind).map(|_| ()).unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(
            status.message().contains(message),
            "expected `{message}`, got {status}"
        );
    };
    let hello = |session| Kind::Hello(v1::Hello { session });
    refused(
        hello(1),
        Code::FailedPrecondition,
        "join before opening a stream",
    );
    let (joined, stream) = scene.peer.session();
    let heartbeat = Kind::Heartbeat(v1::Heartbeat::default());
    refused(
        heartbeat,
        Code::InvalidArgument,
        "the first message of a stream must be `hello`",
    );
    refused(hello(12_345), Code::NotFound, "session 12345 is unknown");
    refused(
        hello(joined.session),
        Code::NotFound,
        "has a stream already; join again",
    );
    drop(stream);
    scene.sound_actor_gets_the_undisturbed_result(Unrolls::default());
}

#[test]
fn a_second_hello_ends_the_session() {
    let scene = Scene::new();
    let (joined, _, mut stream) = scene.session();
    stream.send(Kind::Hello(v1::Hello {
        session: joined.session,
    }));
    assert_eq!(stream.expect_end().code(), Code::InvalidArgument);
}

fn environment(join: &mut v1::JoinRequest) -> &mut v1::EnvironmentSpec {
    join.environment
        .as_mut()
        .expect("an actor says what its environment is")
}

#[test]
fn peers_that_differ_from_the_run_are_refused_with_both_values() {
    let scene = Scene::new();
    let refused = |change: &dyn Fn(&mut v1::JoinRequest), code: Code, messages: &[&str]| {
        let mut request = cart_pole();
        change(&mut request);
        let status = scene.peer.join(request).unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        for message in messages {
            assert!(
                status.message().contains(message),
                "expected `{message}`, got {status}"
            );
        }
    };
    let precondition = Code::FailedPrecondition;
    refused(
        &|join| join.protocol_version = 2,
        precondition,
        &[
            "protocol version differs",
            "speaks 1",
            "(rookery handmade) 2",
            "same release",
        ],
    );
    refused(
        &|join| join.role = 0,
        Code::InvalidArgument,
        &["field `role`"],
    );
    refused(
        &|join| join.environment = None,
        Code::InvalidArgument,
        &["field `environment`"],
    );

    // The first sound one says what the run's environment is.
    scene
        .peer
        .join(cart_pole())
        .expect("a sound actor may join");
    refused(
        &|join| environment(join).id = "Acrobot-v1".to_owned(),
        precondition,
        &["environment.id differs: the run has CartPole-v1, the actor Acrobot-v1"],
    );
    refused(
        &|join| environment(join).max_episode_steps = Some(200),
        precondition,
        &["environment.max_episode_steps differs", "500", "200"],
    );
    refused(
        &|join| {
            let arguments = [("sutton_barto_reward".to_owned(), "true".to_owned())];
            environment(join).arguments = arguments.into();
        },
        precondition,
        &["environment.arguments differs", "sutton_barto_reward"],
    );
    refused(
        &|join| {
            let action = v1::DiscreteSpace { n: 3 };
            let kind = Some(v1::space::Kind::Discrete(action));
            environment(join).action = Some(v1::Space { kind });
        },
        precondition,
        &[
            "environment.action differs",
            "Discrete { n: 2 }",
            "Discrete { n: 3 }",
        ],
    );
    refused(
        &|join| {
            let Some(v1::space::Kind::Box(space)) =
                &mut environment(join).observation.as_mut().unwrap().kind
            else {
                panic!("CartPole is observed in a box")
            };
            space.high[0] = 9.5;
        },
        precondition,
        &["environment.observation differs", "4.8", "9.5"],
    );
    refused(
        &|join| environment(join).observation.as_mut().unwrap().kind = None,
        Code::InvalidArgument,
        &["field `environment.observation`"],
    );
    scene.sound_actor_gets_the_undisturbed_result(Unrolls::default());
}

#[test]
fn an_actor_with_another_environment_ends_and_says_why() {
    let scene = Scene::new();
    scene
        .peer
        .join(cart_pole())
        .expect("a sound actor may join");
    let mut command = scene.cluster.actor_command(&scene.cluster.address());
    command.args(["--set", "environment.id=Pendulum-v1"]);
    let mut actor = scene.cluster.start("stranger", command);
    let log = actor.expect_exit(64, wait::LONG);
    let message = "environment.id differs: the run has CartPole-v1, the actor Pendulum-v1";
    assert!(log.contains(message), "{log}");
}
