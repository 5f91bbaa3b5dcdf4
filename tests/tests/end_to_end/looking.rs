//! What people see of a run: recordings, and the dashboard.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rookery_tests::{Cluster, Setup, wait};

use crate::cli::{rookery, text};

/// The pictures of a GIF, decoded, each with its changes only.
fn pictures(path: &Path) -> usize {
    let bytes = fs::read(path).expect("a recording");
    let mut decoder = gif::DecodeOptions::new()
        .read_info(bytes.as_slice())
        .expect("a GIF");
    let mut count = 0;
    while decoder.read_next_frame().expect("a sound GIF").is_some() {
        count += 1;
    }
    count
}

fn recordings(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("a folder of recordings")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

#[test]
fn an_evaluator_records_while_training_goes_on_and_changes_nothing_of_it() {
    let setup = Setup::cart_pole().of_rounds(Setup::MANY_ROUNDS);
    let undisturbed = Cluster::undisturbed(&setup).result;
    let cluster = Cluster::new(&setup);
    let train = [
        "train",
        "config.toml",
        "--evaluator",
        "--actors",
        "1",
        "--run-dir",
        "run",
        "--set",
        "evaluation.record_every=1",
        "--set",
        "evaluation.keep_recordings=3",
    ];
    let output = rookery(&cluster, &train);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(cluster.summary().result, undisturbed);
    let files = recordings(&cluster.run_directory().join("recordings"));
    assert!((1..=3).contains(&files.len()), "{files:?}");
    for file in &files {
        let name = file.file_name().unwrap().to_string_lossy();
        let parts: Vec<&str> = name.trim_end_matches(".gif").split('-').collect();
        let ["steps", steps, "version", _, "return", episode_return] = parts[..] else {
            panic!("{name}");
        };
        assert_eq!(steps.len(), 12, "{name}");
        // CartPole pays 1 for each step; there is a picture before each, and one after the last.
        let steps: f64 = episode_return.parse().unwrap();
        assert_eq!(pictures(file), steps as usize + 1, "{name}");
    }
}

#[test]
fn what_cannot_be_recorded_is_said_before_training() {
    let cluster = Cluster::new(&Setup::cart_pole());
    for (more, message) in [
        (
            &["--evaluator", "--set", "environment.id=TMaze-v0"][..],
            "evaluation.record_every: `TMaze-v0` draws no pictures",
        ),
        (
            &[][..],
            "evaluation.record_every is for an evaluator; add --evaluator",
        ),
    ] {
        let mut train = vec!["train", "config.toml", "--set", "evaluation.record_every=2"];
        train.extend(more);
        let output = rookery(&cluster, &train);
        assert_eq!(output.status.code(), Some(64));
        let said = text(&output.stderr);
        assert!(said.contains(message), "{said}");
    }
    let mut command = cluster.actor_command(&cluster.address());
    command.args(["--evaluate", "--set", "environment.id=TMaze-v0"]);
    command.args(["--set", "evaluation.record_every=2"]);
    let mut evaluator = cluster.start("evaluator", command);
    let log = evaluator.expect_exit(64, wait::LONG);
    assert!(
        log.contains("evaluation.record_every: `TMaze-v0` draws no pictures"),
        "{log}"
    );
}

#[test]
fn a_run_is_seen_while_it_goes_on_and_after_it() {
    let setup = Setup::cart_pole().of_rounds(Setup::MANY_ROUNDS);
    let cluster = Cluster::new(&setup);
    let learner = cluster.learner();
    let address = cluster.run_directory().join("learner_address");
    wait::wait("the learner's address", wait::LONG, || {
        fs::read_to_string(&address)
            .ok()
            .filter(|text| text.trim() == cluster.address())
    });
    let run = cluster.run_directory();
    let run = run.to_str().unwrap();
    for target in [run, &cluster.address()] {
        let seen = rookery(&cluster, &["top", target]);
        assert_eq!(seen.status.code(), Some(0), "{}", text(&seen.stderr));
        let seen = text(&seen.stdout);
        assert!(seen.contains("waiting for actors"), "{seen}");
        assert!(
            seen.contains("0 actors, 0 evaluators, 0/4 shards"),
            "{seen}"
        );
    }
    let actor = cluster.actor(1);
    // The run is of a known environment, hence training, a moment before its actor has its shards.
    wait::wait("training", wait::LONG, || {
        let seen = text(&rookery(&cluster, &["top", run, "--once"]).stdout);
        (seen.contains(": training") && seen.contains("1 actor, 0 evaluators, 4/4 shards"))
            .then_some(())
    });
    learner.finish();
    actor.finish();
    assert!(!address.exists());
    let seen = rookery(&cluster, &["top", run]);
    assert_eq!(seen.status.code(), Some(0), "{}", text(&seen.stderr));
    let seen = text(&seen.stdout);
    assert!(
        seen.contains("finished") && seen.contains("The run is complete."),
        "{seen}"
    );

    let seen = rookery(&cluster, &["top", &cluster.address()]);
    assert_eq!(seen.status.code(), Some(69), "{}", text(&seen.stdout));
    let seen = rookery(&cluster, &["top", "nowhere"]);
    assert_eq!(seen.status.code(), Some(64), "{}", text(&seen.stdout));
}

#[test]
fn a_learner_that_was_killed_is_missed_and_a_token_is_asked_for() {
    let setup = Setup::cart_pole().of_rounds(Setup::MANY_ROUNDS);
    let cluster = Cluster::new(&setup);
    let token = cluster.path().join("token");
    fs::write(
        &token,
        "a token of more than enough letters\n".replace(' ', "-"),
    )
    .unwrap();
    let setup = setup.set_path("security.token_file", &token);
    cluster.configure(&setup);
    let mut learner = cluster.learner();
    let run = cluster.run_directory();
    let run = run.to_str().unwrap();
    let address = cluster.run_directory().join("learner_address");
    wait::wait("the learner's address", Duration::from_secs(10), || {
        address.exists().then_some(())
    });
    let stranger = rookery(&cluster, &["top", run]);
    assert_eq!(
        stranger.status.code(),
        Some(77),
        "{}",
        text(&stranger.stderr)
    );
    let shown = format!("security.token_file={}", token.display());
    let friend = rookery(&cluster, &["top", run, "--set", &shown]);
    assert_eq!(friend.status.code(), Some(0), "{}", text(&friend.stderr));
    learner.kill();
    assert!(address.exists(), "nobody took it away");
    let missed = rookery(&cluster, &["top", run, "--set", &shown]);
    assert_eq!(missed.status.code(), Some(69), "{}", text(&missed.stderr));
    let said = text(&missed.stdout);
    assert!(said.contains("No learner answers"), "{said}");
}
