//! Configurations, run directories and disks that a run cannot work with: each gets an error that
//! says what to do, and what was on disk stays.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rookery_tests::{Cluster, Learner, Outcome, Setup, scrape, wait};

/// Holds that the learner does not start with `arguments`, ends with `code` and says each of
/// `messages`.
fn refused(cluster: &Cluster, arguments: &[&str], code: i32, messages: &[&str]) {
    let mut command = cluster.learner_command();
    command.args(arguments);
    let log = cluster
        .start("learner", command)
        .expect_exit(code, wait::LONG);
    for message in messages {
        assert!(log.contains(message), "expected `{message}` in:\n{log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn an_unknown_key_is_refused_with_the_key_that_was_meant() {
    let cluster = Cluster::new(&Setup::cart_pole().set("ppo.learning_rat", 1e-3));
    let message = "`ppo.learning_rat` (file ";
    refused(
        &cluster,
        &[],
        64,
        &[message, "unknown key; did you mean `ppo.learning_rate`?"],
    );
    let mut actor = cluster.actor(1);
    let log = actor.expect_exit(64, wait::LONG);
    assert!(log.contains("did you mean `ppo.learning_rate`?"), "{log}");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let setup = Setup::cart_pole()
        .set("rollout.envs_per_shard", 3)
        .set("ppo.minibatch_size", 1000)
        .set("ppo.clip_range", -1.0)
        .set("schedule.kind", "asynchronous");
    let messages = [
        "4 violations",
        "`environment.num_envs` = 8",
        "`rollout.envs_per_shard` = 3",
        "set envs_per_shard to one of 1, 2, 4, 8",
        "`ppo.minibatch_size` = 1000",
        "which holds 192 steps",
        "`ppo.clip_range`",
        "got -1",
        "set ppo.advantage = \"vtrace\"",
    ];
    refused(&Cluster::new(&setup), &[], 64, &messages);
}

#[test]
fn an_environment_that_nobody_knows_is_refused_by_the_actor() {
    let cluster = Cluster::new(&Setup::cart_pole().set("environment.id", "CartPol-v1"));
    let log = cluster.actor(1).expect_exit(64, wait::LONG);
    assert!(
        log.contains("unknown environment `CartPol-v1` (did you mean `CartPole-v1`?)"),
        "{log}"
    );
}

#[test]
fn a_run_directory_that_holds_a_run_is_not_trained_in_anew() {
    let (cluster, _) = stopped_run(&Setup::cart_pole());
    let before = contents(&cluster.run_directory().join("checkpoints"));
    refused(&cluster, &[], 64, &["holds a run already; add --resume"]);
    assert_eq!(
        contents(&cluster.run_directory().join("checkpoints")),
        before
    );
}

#[test]
fn a_run_without_a_checkpoint_cannot_be_resumed() {
    let cluster = Cluster::new(&Setup::cart_pole());
    refused(
        &cluster,
        &["--resume"],
        64,
        &["there is no checkpoint in", "start without --resume"],
    );
}

#[test]
fn two_learners_never_work_in_one_run_directory() {
    let setup = Setup::cart_pole();
    let expected = Cluster::undisturbed(&setup).result;
    let cluster = Cluster::new(&setup);
    let learner = cluster.learner();
    refused(&cluster, &[], 75, &["another learner works in"]);
    refused(&cluster, &["--resume"], 75, &["another learner works in"]);
    // The first one has not noticed.
    let actor = cluster.actor(1);
    assert_eq!(learner.finish().result, expected);
    actor.finish();
}

#[test]
fn a_run_is_not_resumed_with_settings_that_would_change_its_result() {
    let (cluster, expected) = stopped_run(&Setup::cart_pole());
    let changed = [
        "--resume",
        "--set",
        "ppo.learning_rate=0.5",
        "--set",
        "run.seed=9",
    ];
    let messages = [
        "`ppo.learning_rate` is 0.5 here and 0.003 in the checkpoint",
        "`run.seed` is 9 here and 7 in the checkpoint",
    ];
    refused(&cluster, &changed, 64, &messages);
    // What changes no result may differ.
    cluster.configure(
        &Setup::cart_pole()
            .set("checkpoint.keep", 9)
            .set("actor.threads", 2),
    );
    finishes(&cluster, cluster.resume(), &expected);
}

/// What a test does to a file.
type Damage = fn(&Path);

#[test]
fn a_run_falls_back_to_the_newest_checkpoint_that_is_whole() {
    let damages: [(&str, Damage); 5] = [
        ("learner.safetensors", |file| truncate(file, 100)),
        ("state.bin", |file| truncate(file, 0)),
        ("policy.safetensors", flip_last_byte),
        ("manifest.json", |file| truncate(file, 40)),
        ("state.bin", |file| fs::remove_file(file).unwrap()),
    ];
    let (cluster, expected) = stopped_run(&Setup::cart_pole().set("checkpoint.keep", 10));
    let checkpoints = cluster.checkpoints();
    assert!(checkpoints.len() > damages.len(), "only {checkpoints:?}");
    for ((name, damage), version) in damages.iter().zip(checkpoints.iter().rev()) {
        damage(&cluster.checkpoint(*version).join(name));
    }
    let learner = cluster.resume();
    let log = learner.log();
    assert_eq!(
        log.matches("skipped a damaged checkpoint").count(),
        damages.len(),
        "{log}"
    );
    for ((name, _), version) in damages.iter().zip(checkpoints.iter().rev()) {
        let fault = format!("{version:08}: {name}");
        assert!(log.contains(&fault), "expected `{fault}` in:\n{log}");
    }
    let whole = checkpoints[checkpoints.len() - 1 - damages.len()];
    assert_eq!(learner.status().updates, whole);
    finishes(&cluster, learner, &expected);
}

#[test]
fn a_run_without_a_whole_checkpoint_never_starts_from_scratch() {
    let (cluster, _) = stopped_run(&Setup::cart_pole());
    let checkpoints = cluster.checkpoints();
    for version in &checkpoints {
        flip_last_byte(&cluster.checkpoint(*version).join("learner.safetensors"));
    }
    let faults: Vec<String> = checkpoints
        .iter()
        .map(|version| format!("{version:08}: learner.safetensors does not have the hash"))
        .collect();
    let mut messages: Vec<&str> = faults.iter().map(String::as_str).collect();
    messages.push("is whole");
    refused(&cluster, &["--resume"], 64, &messages);
}

#[test]
fn training_goes_on_while_the_disk_is_full() {
    let setup = Setup::cart_pole();
    let expected = Cluster::undisturbed(&setup).result;
    let cluster = Cluster::new(
        &setup
            .set("checkpoint.every_updates", 1)
            .set("learner.metrics_listen", "127.0.0.1:0"),
    );
    let mut learner = cluster.start_learner(on_a_small_disk(&cluster, "1m"));
    let metrics = learner.wait_address("serving metrics");
    let failed = "rookery_checkpoints_total{result=\"failed\"}";
    let actor = cluster.actor(1);
    // The file system is visible in the learner's namespace alone.
    let root = PathBuf::from(format!("/proc/{}/root", learner.id()));
    let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap());
    let directory = inside(&cluster.run_directory().join("checkpoints"));
    wait::until("a checkpoint", wait::LONG, || {
        directory.join("latest").exists()
    });
    learner.pause();
    learner.checkpoint().expect("there is room");
    let before = contents(&directory);
    assert!(
        before.keys().any(|file| file.ends_with("manifest.json")),
        "{:?}",
        before.keys()
    );
    assert_eq!(scrape(&metrics).value(failed), 0.0);

    let ballast = directory.join("ballast");
    fill(&ballast);
    let error = learner.checkpoint().unwrap_err();
    assert!(
        error
            .message()
            .contains("the earlier checkpoints are intact"),
        "{error}"
    );
    let updates = learner.status().updates;
    learner.resume();
    learner.wait_status("updates without a disk", |status| {
        status.updates > updates + 2
    });
    learner.wait_log("checkpoint failed; training goes on");
    learner.pause();
    assert!(learner.checkpoint().is_err(), "the disk is still full");
    assert!(scrape(&metrics).value(failed) > 0.0);
    fs::remove_file(&ballast).unwrap();
    // Whole checkpoints are as they were, and nothing half-written is left.
    assert_eq!(contents(&directory), before);

    learner.checkpoint().expect("there is room again");
    learner.resume();
    finishes_with(learner, actor, &expected);
}

/// A run that was told to stop somewhere in the middle and has several checkpoints, and what it
/// would have come to undisturbed.
fn stopped_run(setup: &Setup) -> (Cluster, Outcome) {
    let expected = Cluster::undisturbed(setup).result;
    let cluster = Cluster::new(setup);
    let mut learner = cluster.learner();
    let mut actor = cluster.actor(1);
    for checkpoints in 1..=7 {
        learner.resume();
        learner.wait_received(checkpoints * 3 * Setup::SHARDS);
        learner.pause();
        learner.checkpoint().expect("a checkpoint");
    }
    learner.terminate();
    learner.expect_exit(0, wait::LONG);
    assert_eq!(cluster.summary().outcome, "stopped");
    actor.kill();
    (cluster, expected)
}

fn finishes(cluster: &Cluster, learner: Learner, expected: &Outcome) {
    let actor = cluster.actor(1);
    finishes_with(learner, actor, expected);
}

fn finishes_with(learner: Learner, actor: rookery_tests::Actor, expected: &Outcome) {
    assert_eq!(learner.finish().result, *expected);
    actor.finish();
}

/// The learner with a file system of `size` for its checkpoints, in a mount namespace of its own.
fn on_a_small_disk(cluster: &Cluster, size: &str) -> Command {
    let directory = cluster.run_directory().join("checkpoints");
    fs::create_dir_all(&directory).expect("a directory");
    // Whoever is not root becomes it in a user namespace.
    let works = |flag: &str| {
        let probe = ["unshare", flag, "mount", "-t", "tmpfs", "tmpfs"];
        let status = Command::new(probe[0])
            .args(&probe[1..])
            .arg(&directory)
            .status();
        status.is_ok_and(|status| status.success())
    };
    let flag = ["-m", "-rm"]
        .into_iter()
        .find(|flag| works(flag))
        .unwrap_or_else(|| {
            panic!(
                "this test fills a file system of its own, and neither `unshare -m` (as root) nor \
             `unshare -rm` (user namespaces) may mount one here; run it where one of them may"
            )
        });
    let learner = cluster.learner_command();
    let mut command = Command::new("unshare");
    command
        .args([
            flag,
            "sh",
            "-c",
            "mount -t tmpfs -o \"size=$1\" tmpfs \"$2\" && shift 2 && exec \"$@\"",
            "sh",
        ])
        .arg(size)
        .arg(directory)
        .arg(learner.get_program())
        .args(learner.get_args());
    command
}

/// Writes until the file system is full.
fn fill(path: &Path) {
    let mut file = File::create(path).expect("a file");
    let block = [0_u8; 4096];
    let error = loop {
        if let Err(error) = file.write_all(&block) {
            break error;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
}

fn truncate(path: &Path, bytes: u64) {
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(bytes)
        .unwrap();
}

fn flip_last_byte(path: &Path) {
    let mut content = fs::read(path).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::write(path, content).unwrap();
}

/// Every file below `directory` with its content.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            files.insert(
                path.clone(),
                fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes(),
            );
        } else if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}
