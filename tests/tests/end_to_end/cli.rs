//! The commands that people type.

use std::path::Path;
use std::process::{Command, Output};

use rookery_tests::{Cluster, Setup, binary, wait};
use serde_json::Value;

/// Runs `rookery` in the cluster's directory.
pub(crate) fn rookery(cluster: &Cluster, arguments: &[&str]) -> Output {
    Command::new(binary("rookery"))
        .args(arguments)
        .current_dir(cluster.path())
        .env_remove("ROOKERY_TOKEN")
        .output()
        .expect("the command line runs")
}

pub(crate) fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// What a command that must succeed prints.
fn printed(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = rookery(cluster, arguments);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(
        output.status.code(),
        Some(0),
        "rookery {arguments:?}\n{stdout}\n{stderr}"
    );
    stdout
}

/// The object in the last line that a command prints.
fn object(cluster: &Cluster, arguments: &[&str]) -> serde_json::Map<String, Value> {
    let stdout = printed(cluster, arguments);
    let last = stdout.lines().last().unwrap_or_default();
    let Ok(Value::Object(object)) = serde_json::from_str(last) else {
        panic!("the last line is no object: {stdout}");
    };
    object
}

/// Holds that a command ends with `code` and says each of `messages`.
fn refused(cluster: &Cluster, arguments: &[&str], code: i32, messages: &[&str]) {
    let output = rookery(cluster, arguments);
    let stderr = text(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(code),
        "rookery {arguments:?}\n{stderr}"
    );
    for message in messages {
        assert!(
            stderr.contains(message),
            "expected `{message}` in:\n{stderr}"
        );
    }
}

#[test]
fn a_trained_run_can_be_named_played_and_not_trained_over() {
    let setup = Setup::cart_pole();
    let expected = Cluster::undisturbed(&setup).result;
    let cluster = Cluster::new(&setup);
    let train = [
        "train",
        "config.toml",
        "--actors",
        "2",
        "--run-dir",
        "trained",
        "--json",
    ];
    let report = object(&cluster, &train);
    let mut keys: Vec<&str> = report.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "bottleneck",
            "diagnoses",
            "env_steps",
            "env_steps_per_second",
            "evaluation_return",
            "mean_return",
            "parameters_sha256",
            "run_dir",
            "solved_at_env_steps",
            "solved_at_seconds",
            "updates",
            "wall_seconds",
        ]
    );
    assert_eq!(
        report["parameters_sha256"],
        expected.parameters_sha256.as_str()
    );
    assert_eq!(report["env_steps"], expected.env_steps);
    assert_eq!(report["updates"], expected.updates);
    assert_eq!(report["mean_return"].as_f64(), expected.mean_return);
    assert!(report["evaluation_return"].is_number());
    assert!(
        report["solved_at_seconds"].is_null(),
        "there is no threshold"
    );
    assert!(report["env_steps_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(report["run_dir"], "trained");

    let digest = printed(&cluster, &["digest", "trained"]);
    assert_eq!(digest.trim(), expected.parameters_sha256);

    let evaluate = ["evaluate", "trained", "--episodes", "3", "--json"];
    let evaluation = object(&cluster, &evaluate);
    assert_eq!(evaluation["episodes"], 3);
    assert_eq!(evaluation["env_steps"], expected.env_steps);
    assert_eq!(
        evaluation["evaluation_return"],
        object(&cluster, &evaluate)["evaluation_return"]
    );

    let files = [
        "config.toml",
        "metrics.jsonl",
        "summary.json",
        "logs",
        "checkpoints/latest",
    ];
    for file in files {
        assert!(
            cluster.path().join("trained").join(file).exists(),
            "{file} is missing"
        );
    }
    refused(
        &cluster,
        &train,
        64,
        &["trained holds a run already; add --resume"],
    );
    assert_eq!(printed(&cluster, &["digest", "trained"]), digest);
}

#[test]
fn a_finished_run_that_is_resumed_with_more_steps_goes_on_to_them() {
    let setup = Setup::pendulum().set("ppo.learning_rate_schedule", "constant");
    let expected = Cluster::undisturbed(&setup).result;
    let cluster = Cluster::new(&setup);
    let half = (Setup::ROUNDS / 2 * Setup::ROUND_STEPS).to_string();
    let all = (Setup::ROUNDS * Setup::ROUND_STEPS).to_string();
    let train = [
        "train",
        "config.toml",
        "--run-dir",
        "run",
        "--json",
        "--env-steps",
    ];
    let report = object(&cluster, &[&train[..], &[&half]].concat());
    assert_eq!(report["updates"], Setup::ROUNDS / 2);
    let resume = ["train", "run", "--resume", "--json", "--env-steps", &all];
    let report = object(&cluster, &resume);
    assert_eq!(report["updates"], Setup::ROUNDS);
    assert_eq!(
        report["parameters_sha256"],
        expected.parameters_sha256.as_str()
    );
}

#[test]
fn the_number_of_actors_and_threads_changes_no_digest() {
    // Layers and minibatches that are worth a second thread of the learner.
    let setup = Setup::pendulum()
        .set("policy.hidden", vec![256, 256])
        .set("ppo.minibatch_size", 256);
    let cluster = Cluster::new(&setup);
    let digests = [["1", "1"], ["3", "2"]].map(|[actors, threads]| {
        let run = format!("run-{actors}");
        let fixed = ["train", "config.toml", "--json", "--run-dir", &run];
        let learner = format!("learner.threads={threads}");
        let fleet = ["--actors", actors, "--threads", threads, "--set", &learner];
        object(&cluster, &[&fixed[..], &fleet].concat())["parameters_sha256"].clone()
    });
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn training_that_is_interrupted_goes_on_where_it_was() {
    let setup = Setup::cart_pole();
    let expected = Cluster::undisturbed(&setup).result;
    let cluster = Cluster::new(&setup);
    let mut command = Command::new(binary("rookery"));
    command.args(["train", "config.toml", "--run-dir", "run", "--actors", "1"]);
    // Early enough to find it at work on any machine.
    command
        .args(["--set", "checkpoint.every_updates=1"])
        .current_dir(cluster.path());
    let mut training = cluster.start("train", command);
    let checkpoints = cluster.path().join("run/checkpoints");
    wait::until("a checkpoint", wait::LONG, || {
        checkpoints.join("latest").exists()
    });
    training.terminate();
    let log = training.expect_exit(0, wait::LONG);
    assert!(log.contains("--resume"), "it says how to go on: {log}");
    let report = object(&cluster, &["train", "run", "--resume", "--json"]);
    assert_eq!(
        report["parameters_sha256"],
        expected.parameters_sha256.as_str()
    );
}

#[test]
fn presets_are_listed_and_each_can_be_used() {
    let cluster = Cluster::new(&Setup::pendulum());
    let list = printed(&cluster, &["presets"]);
    for preset in [
        "acrobot-ppo",
        "cartpole-a2c",
        "cartpole-memory-ppo",
        "cartpole-ppo",
        "cartpole-reinforce",
        "frozenlake-ppo",
        "frozenlake-q",
        "gridworld-ppo",
        "gridworld-sarsa",
        "mountaincar-ppo",
        "mountaincarcontinuous-ppo",
        "mountaincarcontinuous-sac",
        "pendulum-ppo",
        "pendulum-td3",
        "tmaze-ppo",
    ] {
        assert!(list.contains(preset), "{preset} is missing in:\n{list}");
        let toml: toml::Table = printed(&cluster, &["presets", preset])
            .parse()
            .expect("TOML");
        // One round of everything that it configures.
        let extent = |section: &str, key: &str| toml[section][key].as_integer().expect("a count");
        let round = extent("environment", "num_envs") * extent("rollout", "unroll_length");
        let (run, steps) = (format!("run-{preset}"), round.to_string());
        let train = [
            "train",
            preset,
            "--run-dir",
            &run,
            "--json",
            "--env-steps",
            &steps,
        ];
        let evaluation = ["--set", "evaluation.episodes=1"];
        let report = object(&cluster, &[&train[..], &evaluation].concat());
        assert_eq!(report["updates"], 1, "{preset}");
    }
}

/// The lines of a drawn grid without their numbers: borders, marks and arrows.
fn drawn(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.starts_with(['+', '|']))
        .map(|line| line.replace(|c: char| c.is_ascii_digit() || ".- ".contains(c), ""))
        .collect()
}

#[test]
fn inspect_draws_a_table_and_an_actor_critic_on_the_map() {
    let cluster = Cluster::new(&Setup::q_learning());
    let train = |run: &str, settings: &[&str]| {
        let fixed = ["train", "config.toml", "--run-dir", run, "--json"];
        printed(&cluster, &[&fixed[..], settings].concat());
    };
    train("lake", &[]);
    let text = printed(&cluster, &["inspect", "lake"]);
    assert!(text.starts_with("FrozenLake-v1: latest policy of q_learning after 15,360 steps\n"));
    let lines = drawn(&text);
    assert_eq!(lines.len(), 4 * 3 + 1, "{text}");
    let widths: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with(['+', '|']))
        .map(|line| line.chars().count())
        .collect();
    assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
    for (row, marks) in ["|S||||", "||H||H|", "||||H|", "|H|||G|"]
        .iter()
        .enumerate()
    {
        assert_eq!(lines[3 * row], "+++++");
        assert_eq!(lines[3 * row + 1], *marks, "{text}");
    }

    let report = object(&cluster, &["inspect", "lake", "--table", "--json"]);
    assert_eq!(report["quantity"], "action_values");
    assert_eq!(report["num_columns"], 4);
    assert_eq!(
        report["actions"],
        serde_json::json!(["left", "down", "right", "up"])
    );
    let places = report["places"].as_array().expect("a list");
    assert_eq!(places.len(), 16);
    for place in places {
        let actions = place["actions"].as_array().expect("a list");
        let largest = actions.iter().map(|value| value.as_f64().unwrap());
        assert_eq!(place["value"].as_f64(), largest.reduce(f64::max));
    }
    let is_known = |place: &Value| place["value"].as_f64().unwrap() > 0.0;
    assert!(places.iter().any(is_known), "something has been learnt");

    train(
        "world",
        &[
            "--set",
            "run.algorithm=a2c",
            "--set",
            "environment.id=GridWorld-v0",
            "--set",
            "policy.hidden=[16]",
            "--set",
            "normalisation.observations=true",
        ],
    );
    let world = object(&cluster, &["inspect", "world", "--json"]);
    assert_eq!(world["quantity"], "action_probabilities");
    for place in world["places"].as_array().expect("a list") {
        let actions = place["actions"].as_array().expect("a list");
        let sum: f64 = actions.iter().map(|value| value.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{place}");
        assert!(place["value"].is_number(), "the critic's: {place}");
    }
    assert_eq!(
        drawn(&printed(&cluster, &["inspect", "world"])).len(),
        5 * 3 + 1
    );

    train(
        "pole",
        &[
            "--set",
            "run.algorithm=a2c",
            "--set",
            "environment.id=CartPole-v1",
        ],
    );
    let grids = ["FrozenLake-v1 and GridWorld-v0 as grids"];
    refused(&cluster, &["inspect", "pole"], 64, &grids);
    refused(
        &cluster,
        &["inspect", "nowhere"],
        64,
        &["nowhere is no run directory"],
    );
}

#[test]
fn doctor_finds_this_machine_fit() {
    let cluster = Cluster::new(&Setup::pendulum());
    let report = printed(&cluster, &["doctor"]);
    for subject in ["rookery-actor", "rookery-learner", "libtorch"] {
        assert!(
            report.contains(subject),
            "{subject} is missing in:\n{report}"
        );
    }
    assert!(!report.contains("FAIL"), "{report}");
}

#[test]
fn what_cannot_be_done_is_said_with_a_remedy() {
    let cluster = Cluster::new(&Setup::pendulum());
    refused(
        &cluster,
        &["train", "cartpol-ppo"],
        64,
        &["did you mean `cartpole-ppo`?"],
    );
    refused(&cluster, &["train", "missing.toml"], 64, &["missing.toml"]);
    let misspelt = ["train", "cartpole-ppo", "--set", "ppo.epoch=3"];
    refused(&cluster, &misspelt, 64, &["did you mean `ppo.epochs`?"]);
    refused(
        &cluster,
        &["digest", "nowhere"],
        64,
        &["nowhere is no run directory"],
    );
    refused(
        &cluster,
        &["evaluate", "nowhere"],
        64,
        &["nowhere is no run directory"],
    );
    refused(
        &cluster,
        &["train", "config.toml", "--resume"],
        64,
        &["--resume needs --run-dir"],
    );
    refused(&cluster, &["tran"], 64, &["train"]);
    assert!(
        !Path::new(&cluster.path().join("runs")).exists(),
        "nothing was begun"
    );
}

#[test]
fn actors_of_a_program_of_ones_own_train_and_play_what_only_they_know() {
    let setup = Setup::cart_pole()
        .of_rounds(3)
        .set("environment.id", "Shop-v0")
        .set_path("actor.program", &binary("shop-actor"));
    let cluster = Cluster::new(&setup);
    let train = [
        "train",
        "config.toml",
        "--actors",
        "2",
        "--run-dir",
        "trained",
        "--json",
    ];
    let report = object(&cluster, &train);
    let evaluate = ["evaluate", "trained", "--record", "shop.gif", "--json"];
    let evaluation = object(&cluster, &evaluate);
    assert_eq!(evaluation["environment"], "Shop-v0");
    assert_eq!(evaluation["max_length"], 28);
    assert_eq!(evaluation["evaluation_return"], report["evaluation_return"]);
    assert!(cluster.path().join("shop.gif").is_file());

    let check = ["check-env", "--from", "trained", "--steps", "50"];
    assert!(printed(&cluster, &check).contains("It can be trained on."));

    let message = "unknown environment `Shop-v0`";
    let without = ["train", "config.toml", "--set", "actor.program=none"];
    refused(&cluster, &without, 64, &[message]);
    let missing = ["train", "config.toml", "--actor-program", "nowhere"];
    refused(&cluster, &missing, 64, &["actor.program is "]);
}
