//! What people get to see of the configuration: layers, errors, presets and the printed text.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use std::fs;

use insta::assert_snapshot;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use proptest::sample::select;
use rookery_common::configuration::{
    Activation, Annealing, Configuration, ConfigurationError, HumanDuration, Layers, Source,
};
use toml::Table;

/// The message of a configuration that must not build.
fn message(layers: Layers) -> String {
    layers.build().unwrap_err().to_string()
}

/// The errors of a text.
fn errors(text: &str) -> ConfigurationError {
    Configuration::parse(text).unwrap_err()
}

#[test]
fn every_violation_of_every_layer_is_reported_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("train.toml");
    fs::write(
        &path,
        r#"
        [environment]
        num_envs = 6
        [polcy]
        hidden = [32]
        [ppo]
        epochs = "ten"
        gamma = 0.9
        adam_beta1 = 1.0
        [learner]
        max_message = "64 apples"
        lease_timeout = 10
        listen = "learner"
        "#,
    )
    .unwrap();
    let message = message(
        Layers::new()
            .preset("cartpole-ppo")
            .file(&path)
            .set("ppo.clip_rnage=0.1")
            .set("policy.hidden=[64, \"wide\"]")
            .set("schedule.kind=sometimes")
            .set("novalue")
            .value("ppo.minibatch_size", 1024),
    )
    .replace(&directory.path().display().to_string(), "DIRECTORY");
    assert_snapshot!(message, @r#"
    invalid configuration, 13 violations:
      - --set cannot be read: "novalue" is not of the form path.to.key=value
      - `learner.lease_timeout` (file DIRECTORY/train.toml): expected a duration in quotes, such as "30s", got 10
      - `learner.listen` (file DIRECTORY/train.toml): "learner": no port from 0 to 65535 after the host: write host:port, such as 127.0.0.1:50051
      - `learner.max_message` (file DIRECTORY/train.toml): "64 apples": not a size: write a whole number with one of GiB, MiB, KiB, B, GB, MB, kB
      - `policy.hidden[1]` (--set): expected a whole number, 0 or more, got "wide"
      - `ppo.epochs` (file DIRECTORY/train.toml): expected a whole number from 0 to 4294967295, got "ten"
      - `schedule.kind` (--set): expected "synchronous" or "asynchronous", got "sometimes"
      - `polcy` (file DIRECTORY/train.toml): unknown key; did you mean `policy`?
      - `ppo.clip_rnage` (--set): unknown key; did you mean `ppo.clip_range`?
      - `ppo.gamma` (file DIRECTORY/train.toml): unknown key; did you mean `ppo.discount`?
      - `environment.num_envs` = 6 (file DIRECTORY/train.toml), `rollout.envs_per_shard` = 4 (preset cartpole-ppo): environments are dealt out in whole shards; set envs_per_shard to one of 1, 2, 3, 6
      - `ppo.adam_beta1` (file DIRECTORY/train.toml): expected at least 0 and below 1, got 1
      - `ppo.minibatch_size` = 1024 (command line), `environment.num_envs` = 6 (file DIRECTORY/train.toml), `rollout.unroll_length` = 32 (preset cartpole-ppo): a minibatch is drawn from one round, which holds 192 steps; set minibatch_size to at most 192
    "#);
}

#[test]
fn wrong_types_name_what_was_expected_and_what_was_found() {
    assert_snapshot!(errors(r#"
        run = 3
        ppo.discount = "high"
        ppo.epochs = -1
        ppo.max_gradient_norm = true
        ppo.minibatch_size = 64.5
        environment.id = 5
        environment.arguments.size = [4, 4]
        normalisation.rewards = "yes"
        policy.hidden = 64
        policy.activation = 1
        learner.device = "gpu"
        learner.metrics_listen = "everywhere"
        learner.max_message = 64
        actor.learner = "ftp://learner:1"
        checkpoint.every = 1979-05-27
    "#), @r#"
    invalid configuration, 15 violations:
      - `actor.learner` (configuration): "ftp://learner:1": unknown scheme ftp://: use unix:///path, host:port, http://host:port or https://host:port
      - `checkpoint.every` (configuration): expected a duration in quotes, such as "30s", got 1979-05-27
      - `environment.arguments.size` (configuration): expected text, a number, or true or false, got [4, 4]
      - `environment.id` (configuration): expected text in quotes, got 5
      - `learner.device` (configuration): expected "auto" or "cpu" or "cuda", got "gpu"
      - `learner.max_message` (configuration): expected a size in quotes, such as "64MiB", got 64
      - `learner.metrics_listen` (configuration): "everywhere": not a numeric address with a port, such as "127.0.0.1:9464"
      - `normalisation.rewards` (configuration): expected true or false, got "yes"
      - `policy.activation` (configuration): expected "tanh" or "relu", got 1
      - `policy.hidden` (configuration): expected a list, got 64
      - `ppo.discount` (configuration): expected a number, got "high"
      - `ppo.epochs` (configuration): expected a whole number from 0 to 4294967295, got -1
      - `ppo.max_gradient_norm` (configuration): expected a number, got true
      - `ppo.minibatch_size` (configuration): expected a whole number, 0 or more, got 64.5
      - `run` (configuration): expected a table, got 3
    "#);
}

#[test]
fn values_out_of_range_name_the_range() {
    assert_snapshot!(errors(r#"
        run.name = "../elsewhere"
        run.solved_return = nan
        run.total_env_steps = 0
        environment.id = ""
        schedule.lag = 2
        policy.hidden = [64, 0]
        policy.initial_log_std = 3
        ppo.learning_rate = 0
        ppo.discount = 1.5
        ppo.gae_lambda = nan
        ppo.clip_range = inf
        ppo.target_kl = 0
        evaluation.episodes = 0
        evaluation.record_every = 0
        evaluation.recordings = ""
        evaluation.keep_recordings = 0
        checkpoint.keep = 0
        learner.threads = 0
        learner.max_message = "4GiB"
        actor.learner = "learner:0"
        telemetry.log = "rookery=loud"
    "#), @r#"
    invalid configuration, 21 violations:
      - `run.name` (configuration): expected at most 128 letters, digits, `.`, `_` and `-` that do not start with `.`, got "../elsewhere"
      - `run.total_env_steps` (configuration): expected at least 1 and at most 4503599627370496, got 0
      - `run.solved_return` (configuration): expected a finite number, got NaN
      - `environment.id` (configuration): expected an environment, such as "CartPole-v1", got ""
      - `schedule.lag` (configuration): expected at least 0 and at most 1, got 2
      - `policy.hidden[1]` (configuration): expected at least 1 and at most 65536, got 0
      - `policy.initial_log_std` (configuration): expected at least -20 and at most 2, got 3
      - `ppo.learning_rate` (configuration): expected above 0 and at most 1, got 0
      - `ppo.discount` (configuration): expected at least 0 and at most 1, got 1.5
      - `ppo.gae_lambda` (configuration): expected at least 0 and at most 1, got NaN
      - `ppo.clip_range` (configuration): expected above 0 and at most 1, got inf
      - `ppo.target_kl` (configuration): expected above 0 and at most 1000, got 0
      - `evaluation.episodes` (configuration): expected at least 1 and at most 1000000, got 0
      - `evaluation.record_every` (configuration): expected at least 1 and at most 1000000, got 0
      - `evaluation.recordings` (configuration): expected a folder, such as "recordings", got ""
      - `evaluation.keep_recordings` (configuration): expected at least 1 and at most 1000000, got 0
      - `checkpoint.keep` (configuration): expected at least 1 and at most 1000000, got 0
      - `learner.threads` (configuration): expected at least 1 and at most 1024, got 0
      - `learner.max_message` (configuration): expected at least 64KiB and at most 2GiB, got 4GiB
      - `actor.learner` (configuration): expected a port from 1 to 65535, got learner:0
      - `telemetry.log` (configuration): expected a level or directives such as "info,rookery_learner=debug" (error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5), got "rookery=loud"
    "#);
}

#[test]
fn impossible_combinations_name_the_reason_and_the_remedy() {
    assert_snapshot!(errors(r#"
        run.total_env_steps = 100
        run.stop_when_solved = true
        environment.num_envs = 6
        schedule.kind = "asynchronous"
        ppo.minibatch_size = 5000
        learner.listen = "https://0.0.0.0:50051"
        actor.reconnect_backoff_initial = "10s"
        security.tls_key = "key.pem"
        security.tls_client_certificate = "actor.pem"
    "#), @r#"
    invalid configuration, 10 violations:
      - `run.stop_when_solved` = true (configuration), `run.solved_return` = "none" (default): no return is set that would count as solved; set solved_return, or stop_when_solved = false
      - `environment.num_envs` = 6 (configuration), `rollout.envs_per_shard` = 4 (default): environments are dealt out in whole shards; set envs_per_shard to one of 1, 2, 3, 6
      - `run.total_env_steps` = 100 (configuration), `schedule.unrolls_per_update` = 1 (default), `rollout.unroll_length` = 128 (default): the run would end before its first round of 512 steps is whole; set total_env_steps to at least 512
      - `schedule.kind` = "asynchronous" (configuration), `schedule.max_policy_lag` = 8 (default), `ppo.advantage` = "gae" (default): it takes every unroll for the present policy's, and those of an asynchronous run are up to max_policy_lag versions older; set ppo.advantage = "vtrace", set max_policy_lag = 0, or kind = "synchronous", with lag = 1 to collect while the learner works
      - `ppo.minibatch_size` = 5000 (configuration), `schedule.unrolls_per_update` = 1 (default), `rollout.unroll_length` = 128 (default): a minibatch is drawn from one round, which holds 512 steps; set minibatch_size to at most 512
      - `learner.listen` = https://0.0.0.0:50051 (configuration): a listener speaks TLS where security.tls_certificate is set, whatever its address; write 0.0.0.0:50051
      - `actor.reconnect_backoff_initial` = 10s (configuration), `actor.reconnect_backoff_max` = 5s (default): the first wait is longer than the longest; raise reconnect_backoff_max or lower reconnect_backoff_initial
      - `security.tls_key` = "key.pem" (configuration), `security.tls_certificate` = "none" (default): tls_key has no use without tls_certificate; set both or neither
      - `security.tls_client_certificate` = "actor.pem" (configuration), `security.tls_client_key` = "none" (default): tls_client_certificate has no use without tls_client_key; set both or neither
      - `security.tls_client_certificate` = "actor.pem" (configuration), `security.tls_ca` = "none" (default): tls_client_certificate has no use without tls_ca; set both or neither
    "#);
}

#[test]
fn a_last_minibatch_of_one_step_cannot_be_normalised() {
    let text = "environment.num_envs = 1\nrollout = { envs_per_shard = 1, unroll_length = 65 }";
    assert_snapshot!(errors(text), @r#"
    invalid configuration, 1 violation:
      - `ppo.minibatch_size` = 64 (default), `environment.num_envs` = 1 (configuration), `rollout.unroll_length` = 65 (configuration): the last minibatch of the 65 steps of a round would hold one step, whose advantage cannot be normalised; choose a size that leaves none or more than one over, or ppo.advantage_normalisation = "batch"
    "#);
    let batch = format!("{text}\nppo.advantage_normalisation = \"batch\"");
    assert!(Configuration::parse(&batch).is_ok());
    let two_left = text.replace("65", "66");
    assert!(Configuration::parse(&two_left).is_ok());
}

#[test]
fn unreadable_layers_are_named_with_their_reason() {
    assert_snapshot!(message(
        Layers::new()
            .preset("cartpole-pp")
            .file("no/such/file.toml")
            .text("checkpoint", "[run\nseed = 1")
            .set("run..seed=1")
            .set("run.name=\"open")
    ), @r#"
    invalid configuration, 5 violations:
      - unknown preset "cartpole-pp"; did you mean `cartpole-ppo`?
      - file no/such/file.toml cannot be read: No such file or directory (os error 2)
      - checkpoint cannot be read: TOML parse error at line 1, column 5
          |
        1 | [run
          |     ^
        unclosed table, expected `]`
      - --set cannot be read: "run..seed=1" has an empty name in its path
      - --set cannot be read: "run.name=\"open": invalid basic string, expected `"`
    "#);
}

#[test]
fn names_of_other_trainers_lead_to_ours() {
    for (foreign, ours) in [
        ("ppo.gamma", "ppo.discount"),
        ("ppo.batch_size", "ppo.minibatch_size"),
        ("n_steps", "rollout.unroll_length"),
        ("environment.n_envs", "environment.num_envs"),
        ("ppo.seed", "run.seed"),
        ("environment.num-envs", "environment.num_envs"),
        ("enviroment", "environment"),
        ("replay.buffer_size", "replay.capacity"),
        ("learning_starts", "replay.minimum_size"),
    ] {
        let message = message(Layers::new().set(format!("{foreign}=1")));
        let expected = format!("`{foreign}` (--set): unknown key; did you mean `{ours}`?");
        assert!(message.contains(&expected), "{message}");
    }
    let message = message(Layers::new().set("ppo.zebra=1"));
    assert!(
        message.ends_with("`ppo.zebra` (--set): unknown key"),
        "{message}"
    );
}

#[test]
fn a_stronger_layer_wins_whatever_the_order_of_the_calls() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("train.toml");
    fs::write(
        &path,
        "[run]\nseed = 3\nname = \"file\"\n[ppo]\nclip_range = 0.3\nepochs = 5\ndiscount = 0.5",
    )
    .unwrap();
    let configuration = Layers::new()
        .value("run.seed", 5)
        .set("run.seed=4")
        .set("run.name=set")
        .set("ppo.clip_range = 0.4")
        .file(&path)
        .preset("cartpole-ppo")
        .build()
        .unwrap();
    assert_eq!(configuration.run.seed, 5); // flag over all
    assert_eq!(configuration.run.name, "set"); // --set over file
    assert_eq!(configuration.ppo.clip_range, 0.4);
    assert_eq!(configuration.ppo.epochs, 5); // file over preset
    assert_eq!(configuration.ppo.discount, 0.5);
    assert_eq!(configuration.ppo.minibatch_size, 128); // preset over default
    assert_eq!(configuration.ppo.adam_epsilon, 1e-5); // default
}

#[test]
fn assignments_take_toml_and_plain_words() {
    let configuration = Layers::new()
        .set("environment.id=Acrobot-v1")
        .set("run.total_env_steps=1e6")
        .set("policy.hidden=[256, 256]")
        .set("policy.activation=relu")
        .set("ppo.learning_rate=1")
        .set("checkpoint.every=none")
        .set("ppo.max_gradient_norm=\"none\"")
        .set("ppo.target_kl=0.02")
        .set("environment.arguments.is_slippery=false")
        .set("environment.arguments.scale=1.0")
        .set("environment.arguments.map_name=8x8")
        .set("learner.lease_timeout=1m 30s")
        .build()
        .unwrap();
    assert_eq!(configuration.environment.id, "Acrobot-v1");
    assert_eq!(configuration.run.total_env_steps, 1_000_000);
    assert_eq!(configuration.policy.hidden, [256, 256]);
    assert_eq!(configuration.policy.activation, Activation::Relu);
    assert_eq!(configuration.ppo.learning_rate, 1.0);
    assert_eq!(configuration.checkpoint.every, None);
    assert_eq!(configuration.ppo.max_gradient_norm, None);
    assert_eq!(configuration.ppo.target_kl, Some(0.02));
    assert_eq!(
        configuration.learner.lease_timeout,
        HumanDuration::from_secs(90)
    );
    let arguments: Vec<_> = configuration
        .environment
        .arguments
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        arguments,
        [
            ("is_slippery", "false"),
            ("map_name", "8x8"),
            ("scale", "1.0")
        ]
    );
}

#[test]
fn the_printed_configuration_reads_back_equal() {
    let mut configuration = Configuration::default();
    assert_eq!(
        Configuration::parse(&configuration.to_toml()).unwrap(),
        configuration
    );
    configuration.run.seed = i64::MAX as u64;
    configuration.run.solved_return = Some(-0.1);
    configuration.checkpoint.every = None;
    configuration.ppo.max_gradient_norm = None;
    configuration.ppo.learning_rate = 2.5e-4;
    configuration.ppo.entropy_schedule = Annealing::Linear;
    configuration.learner.listen = "unix:///run/rookery.sock".parse().unwrap();
    configuration.learner.metrics_listen = Some("[::1]:9464".parse().unwrap());
    configuration.security.token_file = Some("token".into());
    configuration
        .environment
        .arguments
        .insert("quoted \"key\"".to_owned(), "a = 'b'\n".to_owned());
    assert_eq!(
        Configuration::parse(&configuration.to_toml()).unwrap(),
        configuration
    );
}

#[test]
fn a_violation_names_the_layer_that_wrote_the_value() {
    let error = Layers::new()
        .preset("cartpole-ppo")
        .set("environment.num_envs=1")
        .build()
        .unwrap_err();
    let sources: Vec<_> = error
        .violations
        .iter()
        .flat_map(|violation| &violation.keys)
        .map(|key| (key.path.as_str(), key.source.clone()))
        .collect();
    let preset = Source::Preset("cartpole-ppo".to_owned());
    assert_eq!(
        sources,
        [
            ("environment.num_envs", Some(Source::Set)),
            ("rollout.envs_per_shard", Some(preset.clone())),
            ("ppo.minibatch_size", Some(preset.clone())),
            ("environment.num_envs", Some(Source::Set)),
            ("rollout.unroll_length", Some(preset)),
        ]
    );
}

#[test]
fn every_preset_file_is_embedded_and_can_run() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");
    let mut files: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let presets = Configuration::presets();
    let names: Vec<String> = presets
        .iter()
        .map(|preset| format!("{}.toml", preset.name))
        .collect();
    assert_eq!(files, names);
    for preset in presets {
        let configuration = Layers::new().preset(preset.name).build().unwrap();
        assert!(configuration.run.solved_return.is_some(), "{}", preset.name);
        assert!(configuration.evaluation.every_env_steps.is_some());
        assert!(preset.description().contains(&configuration.environment.id));
        assert!(preset.description().ends_with('.'));
        // A preset is about learning: how processes run is the machine's business.
        let sections: Table = preset.text.parse().unwrap();
        for section in ["learner", "actor", "security", "telemetry"] {
            assert!(!sections.contains_key(section), "{}", preset.name);
        }
    }
}

/// Every key that has a default, as a dotted path.
fn paths() -> Vec<String> {
    let table: Table = Configuration::default().to_toml().parse().unwrap();
    table
        .iter()
        .flat_map(|(section, keys)| {
            let keys = keys.as_table().unwrap().keys();
            keys.map(move |key| format!("{section}.{key}"))
        })
        .collect()
}

/// Values of every kind, and the edges of what can be counted.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        (0_i64..4096).prop_map(|integer| integer.to_string()),
        any::<i64>().prop_map(|integer| integer.to_string()),
        select(vec![i64::MAX, i64::MIN, 1 << 53, 1 << 32]).prop_map(|edge| edge.to_string()),
        any::<f64>().prop_map(|float| format!("{float:?}")),
        "[a-z0-9:/. \"\\[\\]]{0,12}",
        "[0-9]{1,20}(ms|s|d|B|MiB|GiB)",
        vec(any::<i32>(), 0..4).prop_map(|list| format!("{list:?}")),
        any::<bool>().prop_map(|boolean| boolean.to_string()),
    ]
}

proptest! {
    #[test]
    fn whatever_is_set_is_refused_in_words_or_reads_back_equal(
        assignments in vec((select(paths()), value()), 1..5)
    ) {
        let layers = assignments
            .iter()
            .fold(Layers::new(), |layers, (path, value)| layers.set(format!("{path}={value}")));
        match layers.build() {
            Ok(configuration) => {
                assert_eq!(configuration.validate(), []);
                let again = Configuration::parse(&configuration.to_toml()).unwrap();
                assert_eq!(again, configuration);
            }
            Err(error) => assert!(!error.violations.is_empty()),
        }
    }
}
