//! `rookery-actor evaluate` as a process: how it plays a policy's file, and what it refuses.

#![expect(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rookery_actor::environments::make;
use rookery_actor::evaluator::{self, Evaluation};
use rookery_common::policy::{Activation, PolicyArtifact, PolicySpec, ValueDistribution};

/// A policy that pushes the cart to one side, and where it is written.
fn written(name: &str) -> (PolicyArtifact, PathBuf) {
    let environment = make("CartPole-v1", &BTreeMap::new(), 1).unwrap();
    let environment = environment.spec().clone();
    let spec = PolicySpec::action_values(
        &environment.observation,
        &environment.action,
        vec![8],
        Activation::Relu,
        false,
        ValueDistribution::Expectation,
        false,
    )
    .unwrap();
    let artifact = PolicyArtifact {
        parameters: vec![0.25; spec.layout().len()],
        spec,
        environment,
        version: 3,
        env_steps: 100,
        normaliser: None,
    };
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, artifact.to_bytes().unwrap()).unwrap();
    (artifact, path)
}

fn evaluate(policy: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rookery-actor"))
        .arg("evaluate")
        .arg(policy)
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn a_policy_is_played_as_in_this_process_and_drawn() {
    let (artifact, path) = written("played.safetensors");
    let gif = path.with_extension("gif");
    let output = evaluate(
        &path,
        &[
            "--episodes",
            "5",
            "--seed",
            "9",
            "--record",
            gif.to_str().unwrap(),
            "--record-episodes",
            "2",
            "--json",
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let played: Evaluation = serde_json::from_slice(&output.stdout).unwrap();
    let policy = artifact.policy().unwrap();
    let expected = evaluator::evaluate(&artifact.environment, &policy, 5, 9).unwrap();
    assert_eq!(played, expected);
    for number in 1..=2 {
        let gif = gif.with_file_name(format!("played-{number}.gif"));
        assert_eq!(std::fs::read(gif).unwrap()[..6], *b"GIF89a");
    }
}

#[test]
fn the_configuration_says_what_the_command_line_does_not() {
    let (_, path) = written("configured.safetensors");
    let settings = ["--set", "evaluation.episodes=3", "--set", "run.seed=4"];
    let output = evaluate(&path, &settings);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.starts_with("CartPole-v1: mean return ") && said.contains("3 episodes, seed 4"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_played_is_named() {
    let output = evaluate(Path::new("nowhere.safetensors"), &[]);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot read nowhere.safetensors"), "{said}");

    let (mut artifact, path) = written("unknown.safetensors");
    artifact.environment.id = "Nothing-v0".to_owned();
    std::fs::write(&path, artifact.to_bytes().unwrap()).unwrap();
    let output = evaluate(&path, &["--set", "actor.host.python=/nowhere"]);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("unknown environment `Nothing-v0`"), "{said}");

    let (_, path) = written("unrecorded.safetensors");
    for (arguments, message) in [
        (["--record", "a.webp", "--episodes", "1"], "neither .gif"),
        (
            ["--record", "a.gif", "--record-episodes", "21"],
            "21 episodes",
        ),
    ] {
        let output = evaluate(&path, &arguments);
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(message), "{said}");
    }
}
