//! What people get to see of the sections of off-policy algorithms.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use insta::assert_snapshot;
use rookery_common::configuration::{Configuration, ConfigurationError};

/// The errors of a text.
fn errors(text: &str) -> ConfigurationError {
    Configuration::parse(text).unwrap_err()
}

#[test]
fn a_replay_store_that_cannot_work_is_refused_with_the_remedy() {
    assert_snapshot!(errors(r#"
        [replay]
        capacity = 0
        capacity_bytes = "1B"
        n_step = 0
        priority_alpha = 1.5
        priority_beta_start = -0.1
        priority_beta_end = nan
        priority_epsilon = 0
        hindsight = "always"
        hindsight_goals = 0
        minimum_size = 0
        samples_per_insert = 0
    "#), @r#"
    invalid configuration, 11 violations:
      - `replay.hindsight` (configuration): expected "none" or "final" or "future" or "episode", got "always"
      - `replay.capacity` (configuration): expected at least 1 and at most 1099511627776, got 0
      - `replay.capacity_bytes` (configuration): expected at least 1KiB and at most 1048576GiB, got 1B
      - `replay.n_step` (configuration): expected at least 1 and at most 1000, got 0
      - `replay.priority_alpha` (configuration): expected at least 0 and at most 1, got 1.5
      - `replay.priority_beta_start` (configuration): expected at least 0 and at most 1, got -0.1
      - `replay.priority_beta_end` (configuration): expected at least 0 and at most 1, got NaN
      - `replay.priority_epsilon` (configuration): expected above 0 and at most 1, got 0
      - `replay.hindsight_goals` (configuration): expected at least 1 and at most 1000, got 0
      - `replay.minimum_size` (configuration): expected at least 1 and at most 1099511627776, got 0
      - `replay.samples_per_insert` (configuration): expected above 0 and at most 1000000, got 0
    "#);
    assert_snapshot!(errors(r"
        [replay]
        capacity = 500
        samples_per_insert_tolerance = 64
    "), @r#"
    invalid configuration, 2 violations:
      - `replay.minimum_size` = 1000 (default), `replay.capacity` = 500 (configuration): the store would never hold the items that sampling waits for; set minimum_size to at most 500
      - `replay.samples_per_insert_tolerance` = 64 (configuration), `replay.samples_per_insert` = "none" (default): there is no ratio that it could be a tolerance of; set samples_per_insert, or leave the tolerance out
    "#);
}

/// Holds that a text is refused for exactly these reasons.
fn refused(text: &str, reasons: &[&str]) {
    let errors = errors(text);
    let message = errors.to_string();
    for reason in reasons {
        assert!(
            message.contains(reason),
            "expected `{reason}` in: {message}"
        );
    }
    assert_eq!(errors.violations.len(), reasons.len(), "{message}");
}

#[test]
fn what_no_off_policy_run_can_do_is_refused_with_the_remedy() {
    for algorithm in ["dqn", "sac", "td3"] {
        let text = format!(
            "[run]\nalgorithm = \"{algorithm}\"\n[normalisation]\nobservations = true\nrewards = true\n\
             [policy]\nshared_trunk = true\nrecurrent = \"gru\"\n"
        );
        refused(
            &text,
            &[
                "set normalisation.observations = false",
                "set normalisation.rewards = false",
                "set policy.shared_trunk = false",
                "train with ppo, or set policy.recurrent = \"none\"",
            ],
        );
    }
    // Of PPO, nothing of it is a fault; and its minibatches bound no other algorithm's rounds.
    assert!(Configuration::parse("[normalisation]\nrewards = true").is_ok());
    let short = "[rollout]\nunroll_length = 2\n";
    refused(short, &["a minibatch is drawn from one round"]);
    assert!(Configuration::parse(&format!("{short}[run]\nalgorithm = \"dqn\"")).is_ok());
}

#[test]
fn switches_of_dqn_that_contradict_each_other_are_refused() {
    refused(
        r#"
            [run]
            algorithm = "dqn"
            [dqn]
            noisy = true
            epsilon_per_shard = true
            distribution = "categorical"
            v_min = 5
            v_max = -5
        "#,
        &[
            "set v_min below v_max",
            "a noisy network explores by itself",
        ],
    );
}

#[test]
fn options_out_of_range_are_named() {
    refused(
        r"
            [dqn]
            gradient_steps = 0
            target_tau = 1.5
            epsilon_end = -0.1
            num_atoms = 1
            [sac]
            policy_delay = 0
            initial_temperature = 0
            target_tau = 0
            [td3]
            exploration_noise = 0
            target_noise_clip = -1
        ",
        &[
            "`dqn.gradient_steps` (configuration): expected at least 1",
            "`dqn.target_tau` (configuration): expected above 0 and at most 1, got 1.5",
            "`dqn.epsilon_end` (configuration): expected at least 0",
            "`dqn.num_atoms` (configuration): expected at least 2",
            "`sac.policy_delay` (configuration): expected at least 1",
            "`sac.initial_temperature` (configuration): expected above 0",
            "`sac.target_tau` (configuration): expected above 0",
            "`td3.exploration_noise` (configuration): expected above 0",
            "`td3.target_noise_clip` (configuration): expected at least 0",
        ],
    );
}
