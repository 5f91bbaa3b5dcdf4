//! What people get to see of the sections of REINFORCE, A2C and the tables.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use rookery_common::configuration::{Algorithm, Configuration};

/// Holds that a text is refused for exactly these reasons.
fn refused(text: &str, reasons: &[&str]) {
    let errors = Configuration::parse(text).unwrap_err();
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
fn options_out_of_range_are_named() {
    refused(
        r"
            [a2c]
            learning_rate = 0
            gae_lambda = 1.5
            adam_beta1 = 1.0
            value_coefficient = -1
            max_gradient_norm = 0
            [reinforce]
            learning_rate = 2
            discount = -0.5
            adam_epsilon = 0
            entropy_coefficient = nan
            [tabular]
            learning_rate = 0
            discount = 1.5
            initial_value = inf
            epsilon_start = 1.1
            epsilon_end = -0.1
        ",
        &[
            "`a2c.learning_rate` (configuration): expected above 0 and at most 1, got 0",
            "`a2c.gae_lambda` (configuration): expected at least 0 and at most 1, got 1.5",
            "`a2c.adam_beta1` (configuration): expected at least 0 and below 1, got 1",
            "`a2c.value_coefficient` (configuration): expected at least 0",
            "`a2c.max_gradient_norm` (configuration): expected above 0",
            "`reinforce.learning_rate` (configuration): expected above 0 and at most 1, got 2",
            "`reinforce.discount` (configuration): expected at least 0",
            "`reinforce.adam_epsilon` (configuration): expected above 0",
            "`reinforce.entropy_coefficient` (configuration): expected at least 0",
            "`tabular.learning_rate` (configuration): expected above 0 and at most 1, got 0",
            "`tabular.discount` (configuration): expected at least 0 and at most 1, got 1.5",
            "`tabular.initial_value` (configuration): expected at least",
            "`tabular.epsilon_start` (configuration): expected at least 0 and at most 1",
            "`tabular.epsilon_end` (configuration): expected at least 0 and at most 1",
        ],
    );
}

#[test]
fn what_a_table_has_no_use_for_is_refused_with_the_remedy() {
    for algorithm in ["q_learning", "sarsa"] {
        let text = format!(
            "[run]\nalgorithm = \"{algorithm}\"\n[normalisation]\nobservations = true\n\
             rewards = true\n[policy]\nshared_trunk = true\n"
        );
        refused(
            &text,
            &[
                "a table has no hidden layers; set policy.hidden = []",
                "set policy.shared_trunk = false",
                "set normalisation.observations = false",
                "set normalisation.rewards = false",
            ],
        );
        let text = format!("[run]\nalgorithm = \"{algorithm}\"\n[policy]\nhidden = []\n");
        let configuration = Configuration::parse(&text).unwrap();
        assert!(configuration.run.algorithm.is_tabular());
        assert_eq!(configuration.run.algorithm.name(), algorithm);
    }
}

#[test]
fn layers_are_shared_with_a_value_function_that_there_is() {
    let text = "[run]\nalgorithm = \"reinforce\"\n[policy]\nshared_trunk = true\n";
    assert!(Configuration::parse(text).is_ok());
    let without = format!("{text}[reinforce]\nbaseline = false\n");
    refused(
        &without,
        &["without a baseline there is no value function to share layers with"],
    );
}

#[test]
fn a_round_of_one_step_has_no_advantage_to_normalise() {
    let text = "[run]\nalgorithm = \"a2c\"\n[environment]\nnum_envs = 1\n[rollout]\n\
                envs_per_shard = 1\nunroll_length = 1\n[a2c]\nnormalise_advantages = ";
    assert!(Configuration::parse(&format!("{text}false\n")).is_ok());
    refused(
        &format!("{text}true\n"),
        &["a round holds one step, whose advantage cannot be normalised"],
    );
}

#[test]
fn rewards_are_scaled_with_the_discount_of_the_algorithm_that_learns() {
    let text = "[ppo]\ndiscount = 0.1\n[dqn]\ndiscount = 0.2\n[sac]\ndiscount = 0.3\n[a2c]\n\
                discount = 0.4\n[reinforce]\ndiscount = 0.5\n[tabular]\ndiscount = 0.6\n";
    let mut configuration = Configuration::parse(text).unwrap();
    for (algorithm, discount) in [
        (Algorithm::Ppo, 0.1),
        (Algorithm::Dqn, 0.2),
        (Algorithm::Sac, 0.3),
        (Algorithm::A2c, 0.4),
        (Algorithm::Reinforce, 0.5),
        (Algorithm::QLearning, 0.6),
        (Algorithm::Sarsa, 0.6),
    ] {
        configuration.run.algorithm = algorithm;
        assert_eq!(configuration.discount(), discount);
    }
}
