//! Who may connect and who can listen in.

use std::fs;
use std::path::{Path, PathBuf};

use rookery_tests::{Actor, Certificates, Cluster, Program, Setup, wait};

/// A small run whose learner listens on TCP.
struct Scene {
    cluster: Cluster,
    setup: Setup,
}

impl Scene {
    fn new() -> Self {
        let setup = Setup::cart_pole();
        Self {
            cluster: Cluster::new(&setup),
            setup,
        }
    }

    /// With a path in the learner's configuration.
    fn set(mut self, key: &str, path: &Path) -> Self {
        self.setup = self.setup.set_path(key, path);
        self
    }

    fn token(&self, name: &str, token: &str) -> PathBuf {
        let path = self.cluster.path().join(name);
        fs::write(&path, format!("{token}\n")).expect("a file");
        path
    }

    fn authority(&self, name: &str) -> Certificates {
        Certificates::new(self.cluster.path(), name)
    }

    /// With a certificate for `localhost`.
    fn with_tls(self, authority: &Certificates) -> Self {
        let (certificate, key) = authority.sign("localhost");
        self.set("security.tls_certificate", &certificate)
            .set("security.tls_key", &key)
    }

    fn start(&self, listen: &str, arguments: &[&str]) -> Program {
        self.cluster.configure(&self.setup);
        let mut command = self.cluster.learner_command_at(listen);
        command.args(arguments);
        self.cluster.start("learner", command)
    }

    /// Starts the learner at `listen` and gives the port that it got.
    fn listening(&self, listen: &str, arguments: &[&str]) -> (Program, String) {
        let mut learner = self.start(listen, arguments);
        let address = learner.wait_address("listening");
        let (_, port) = address.rsplit_once(':').expect("a port");
        (learner, port.to_owned())
    }

    /// Starts an actor whose configuration has these paths.
    fn actor(&self, address: &str, paths: &[(&str, &Path)]) -> Actor {
        let setup = Setup::cart_pole().set("actor.give_up_after", "1s");
        let setup = paths
            .iter()
            .fold(setup, |setup, (key, path)| setup.set_path(key, path));
        self.cluster.configure(&setup);
        self.cluster.actor_at(address, 1)
    }

    /// Holds that the actor ends with `code` and says each of `messages`.
    fn refused(&self, address: &str, paths: &[(&str, &Path)], code: i32, messages: &[&str]) {
        let log = self.actor(address, paths).expect_exit(code, wait::LONG);
        for message in messages {
            assert!(log.contains(message), "expected `{message}` in:\n{log}");
        }
    }

    /// Holds that the learner and the actor train to the end.
    fn trained(&self, mut learner: Program, actor: Actor) {
        learner.expect_exit(0, wait::LONG);
        actor.finish();
        assert_eq!(self.cluster.summary().result.updates, Setup::ROUNDS);
    }
}

const TOKEN: &str = "security.token_file";
const AUTHORITY: &str = "security.tls_ca";

#[test]
fn a_learner_that_others_can_reach_does_not_listen_without_token_and_tls() {
    let scene = Scene::new();
    let refused = |scene: &Scene, missing: &str| {
        let log = scene.start("0.0.0.0:0", &[]).expect_exit(77, wait::LONG);
        for message in [
            "refusing to listen on 0.0.0.0:0",
            missing,
            "security.insecure = true",
        ] {
            assert!(log.contains(message), "expected `{message}` in:\n{log}");
        }
    };
    refused(
        &scene,
        "neither is a client identified (security.token_file or ROOKERY_TOKEN) nor",
    );
    let token = scene.token("token", "a-secret");
    let scene = scene.set(TOKEN, &token);
    refused(
        &scene,
        "nothing is encrypted (security.tls_certificate and tls_key)",
    );
    let scene = Scene::new();
    let authority = scene.authority("authority");
    let scene = scene.with_tls(&authority);
    refused(&scene, "nothing identifies a client");
}

#[test]
fn a_learner_that_others_can_reach_listens_with_token_and_tls() {
    let scene = Scene::new();
    let authority = scene.authority("authority");
    let token = scene.token("token", "a-secret");
    let scene = scene.with_tls(&authority).set(TOKEN, &token);
    let (learner, port) = scene.listening("0.0.0.0:0", &[]);
    let paths = [(AUTHORITY, &*authority.authority()), (TOKEN, &*token)];
    let actor = scene.actor(&format!("https://localhost:{port}"), &paths);
    scene.trained(learner, actor);
}

#[test]
fn insecure_listens_anywhere() {
    let scene = Scene::new();
    let (learner, port) = scene.listening("0.0.0.0:0", &["--insecure"]);
    let actor = scene.actor(&format!("127.0.0.1:{port}"), &[]);
    scene.trained(learner, actor);
}

#[test]
fn the_right_token_trains_and_another_one_or_none_does_not() {
    let scene = Scene::new();
    let right = scene.token("right", "a-secret");
    let wrong = scene.token("wrong", "another-secret");
    let scene = scene.set(TOKEN, &right);
    let (learner, port) = scene.listening("127.0.0.1:0", &[]);
    let address = format!("127.0.0.1:{port}");
    scene.refused(&address, &[(TOKEN, &wrong)], 77, &["token"]);
    scene.refused(&address, &[], 77, &["token"]);
    let actor = scene.actor(&address, &[(TOKEN, &right)]);
    scene.trained(learner, actor);
}

#[test]
fn the_token_may_come_from_the_environment() {
    let scene = Scene::new();
    let with_token = |mut command: std::process::Command, token: &str| {
        command.env("ROOKERY_TOKEN", token);
        command
    };
    let cluster = &scene.cluster;
    let learner = with_token(cluster.learner_command(), "a-secret");
    let mut learner = cluster.start("learner", learner);
    learner.wait_log("listening");
    let stranger = with_token(cluster.actor_command(&cluster.address()), "another-secret");
    cluster
        .start("stranger", stranger)
        .expect_exit(77, wait::LONG);
    let actor = with_token(cluster.actor_command(&cluster.address()), "a-secret");
    let mut actor = cluster.start("actor", actor);
    learner.expect_exit(0, wait::LONG);
    actor.expect_exit(0, wait::LONG);
}

#[test]
fn tls_trains_with_those_who_trust_its_authority() {
    let scene = Scene::new();
    let [trusted, other] = ["trusted", "other"].map(|name| scene.authority(name));
    let scene = scene.with_tls(&trusted);
    let (learner, port) = scene.listening("127.0.0.1:0", &[]);
    let address = format!("localhost:{port}");
    let untrusted = [(AUTHORITY, &*other.authority())];
    scene.refused(
        &address,
        &untrusted,
        69,
        &[&address, "invalid peer certificate"],
    );
    // The certificate is for `localhost` alone.
    let elsewhere = format!("127.0.0.1:{port}");
    let trusting = [(AUTHORITY, &*trusted.authority())];
    scene.refused(&elsewhere, &trusting, 69, &["invalid peer certificate"]);
    let actor = scene.actor(&address, &trusting);
    scene.trained(learner, actor);
}

#[test]
fn a_plain_connection_to_a_tls_learner_says_so() {
    let scene = Scene::new();
    let authority = scene.authority("authority");
    let scene = scene.with_tls(&authority);
    let (mut learner, port) = scene.listening("127.0.0.1:0", &[]);
    let address = format!("127.0.0.1:{port}");
    scene.refused(&address, &[], 69, &[&address, "TLS (security.tls_ca)"]);
    assert_eq!(learner.exit(), None);
}

#[test]
fn a_learner_that_asks_for_certificates_trains_with_those_who_show_one() {
    let scene = Scene::new();
    let [servers, clients] = ["servers", "clients"].map(|name| scene.authority(name));
    let scene = scene
        .with_tls(&servers)
        .set("security.tls_client_ca", &clients.authority());
    let (learner, port) = scene.listening("127.0.0.1:0", &[]);
    let address = format!("localhost:{port}");
    let trusting = (AUTHORITY, &*servers.authority());
    scene.refused(
        &address,
        &[trusting],
        69,
        &[&address, "security.tls_client_certificate"],
    );

    let showing = |(certificate, key): &(PathBuf, PathBuf)| {
        [
            (trusting.0, trusting.1.to_owned()),
            ("security.tls_client_certificate", certificate.clone()),
            ("security.tls_client_key", key.clone()),
        ]
    };
    let stranger = showing(&servers.sign("stranger"));
    let stranger = stranger
        .each_ref()
        .map(|(key, path)| (*key, path.as_path()));
    scene.refused(&address, &stranger, 69, &[&address]);
    let member = showing(&clients.sign("member"));
    let member = member.each_ref().map(|(key, path)| (*key, path.as_path()));
    let actor = scene.actor(&address, &member);
    scene.trained(learner, actor);
}
