//! The sections of REINFORCE, A2C and the tables.

use std::fmt::Display;

use super::{Check, MAX_ENV_STEPS, above};
use crate::configuration::{Algorithm, Configuration};

impl Check {
    pub(super) fn a2c(&mut self, configuration: &Configuration) {
        let a2c = &configuration.a2c;
        self.range("a2c.learning_rate", a2c.learning_rate, above(0.0, 1.0));
        self.range("a2c.adam_epsilon", a2c.adam_epsilon, above(0.0, 1.0));
        self.range("a2c.adam_beta1", a2c.adam_beta1, 0.0..1.0);
        self.range("a2c.adam_beta2", a2c.adam_beta2, 0.0..1.0);
        self.range("a2c.discount", a2c.discount, 0.0..=1.0);
        self.range("a2c.gae_lambda", a2c.gae_lambda, 0.0..=1.0);
        for (path, coefficient) in [
            ("a2c.value_coefficient", a2c.value_coefficient),
            ("a2c.entropy_coefficient", a2c.entropy_coefficient),
        ] {
            self.range(path, coefficient, 0.0..=1e6);
        }
        self.optional_range(
            "a2c.max_gradient_norm",
            a2c.max_gradient_norm,
            above(0.0, 1e6),
        );
        let rows = configuration.rows_per_round();
        if configuration.run.algorithm == Algorithm::A2c && a2c.normalise_advantages && rows == 1 {
            self.impossible(
                &[
                    ("a2c.normalise_advantages", &true),
                    ("environment.num_envs", &configuration.environment.num_envs),
                    (
                        "rollout.unroll_length",
                        &configuration.rollout.unroll_length,
                    ),
                ],
                "a round holds one step, whose advantage cannot be normalised",
                "set normalise_advantages = false, or collect more steps",
            );
        }
    }

    pub(super) fn reinforce(&mut self, configuration: &Configuration) {
        let reinforce = &configuration.reinforce;
        self.range(
            "reinforce.learning_rate",
            reinforce.learning_rate,
            above(0.0, 1.0),
        );
        self.range(
            "reinforce.adam_epsilon",
            reinforce.adam_epsilon,
            above(0.0, 1.0),
        );
        self.range("reinforce.adam_beta1", reinforce.adam_beta1, 0.0..1.0);
        self.range("reinforce.adam_beta2", reinforce.adam_beta2, 0.0..1.0);
        self.range("reinforce.discount", reinforce.discount, 0.0..=1.0);
        for (path, coefficient) in [
            ("reinforce.value_coefficient", reinforce.value_coefficient),
            (
                "reinforce.entropy_coefficient",
                reinforce.entropy_coefficient,
            ),
        ] {
            self.range(path, coefficient, 0.0..=1e6);
        }
        self.optional_range(
            "reinforce.max_gradient_norm",
            reinforce.max_gradient_norm,
            above(0.0, 1e6),
        );
        if configuration.run.algorithm == Algorithm::Reinforce
            && configuration.policy.shared_trunk
            && !reinforce.baseline
        {
            self.impossible(
                &[
                    ("policy.shared_trunk", &true),
                    ("reinforce.baseline", &false),
                ],
                "without a baseline there is no value function to share layers with",
                "set policy.shared_trunk = false, or reinforce.baseline = true",
            );
        }
    }

    pub(super) fn tabular(&mut self, configuration: &Configuration) {
        let tabular = &configuration.tabular;
        self.range(
            "tabular.learning_rate",
            tabular.learning_rate,
            above(0.0, 1.0),
        );
        self.range("tabular.discount", tabular.discount, 0.0..=1.0);
        self.range("tabular.initial_value", tabular.initial_value, -1e9..=1e9);
        for (path, epsilon) in [
            ("tabular.epsilon_start", tabular.epsilon_start),
            ("tabular.epsilon_end", tabular.epsilon_end),
        ] {
            self.range(path, epsilon, 0.0..=1.0);
        }
        self.range(
            "tabular.epsilon_decay",
            tabular.epsilon_decay,
            0..=MAX_ENV_STEPS,
        );
        if configuration.run.algorithm.is_tabular() {
            self.tabular_together(configuration);
        }
    }

    /// What a table has no use for.
    fn tabular_together(&mut self, configuration: &Configuration) {
        let algorithm: &dyn Display = &format!("\"{}\"", configuration.run.algorithm.name());
        let policy = &configuration.policy;
        if !policy.hidden.is_empty() {
            self.impossible(
                &[
                    ("run.algorithm", algorithm),
                    ("policy.hidden", &format!("{:?}", policy.hidden)),
                ],
                "a table has no hidden layers",
                "set policy.hidden = [], or train with dqn",
            );
        }
        if policy.shared_trunk {
            self.impossible(
                &[("run.algorithm", algorithm), ("policy.shared_trunk", &true)],
                "a table shares no layers with a state-value function",
                "set policy.shared_trunk = false",
            );
        }
        let normalisation = &configuration.normalisation;
        for (path, is_set, reason) in [
            (
                "normalisation.observations",
                normalisation.observations,
                "a table is looked up by index, and indices have no mean",
            ),
            (
                "normalisation.rewards",
                normalisation.rewards,
                "a table keeps values of early rewards, and statistics that move on would give \
                 them another meaning",
            ),
        ] {
            if is_set {
                self.impossible(
                    &[("run.algorithm", algorithm), (path, &is_set)],
                    reason,
                    format!("set {path} = false"),
                );
            }
        }
    }
}
