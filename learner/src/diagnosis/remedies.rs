//! What helps against what looks sick, with the keys of the configuration as they are.

use rookery_common::configuration::{Algorithm, Configuration};
use toml::{Table, Value};

use super::rules::Rule;

/// Knows the configuration by its keys.
#[derive(Clone, Debug)]
pub(super) struct Remedies {
    algorithm: Algorithm,
    table: Table,
}

impl Remedies {
    pub(super) fn new(configuration: &Configuration) -> Self {
        Self {
            algorithm: configuration.run.algorithm,
            // What `to_toml` writes is TOML.
            table: configuration.to_toml().parse().unwrap_or_default(),
        }
    }

    /// A key with its value.
    fn key(&self, key: &str) -> String {
        let value = key
            .split_once('.')
            .and_then(|(section, name)| self.table.get(section)?.as_table()?.get(name));
        match value {
            Some(Value::Float(value)) => format!("{key} (now {value:?})"),
            Some(value) => format!("{key} (now {value})"),
            None => key.to_owned(),
        }
    }

    /// A key of the algorithm's section with its value.
    fn own(&self, name: &str) -> String {
        let section = if self.algorithm.is_tabular() {
            "tabular"
        } else {
            self.algorithm.name()
        };
        self.key(&format!("{section}.{name}"))
    }

    /// The step size of what learns values.
    fn value_step_size(&self) -> String {
        match self.algorithm {
            Algorithm::Sac | Algorithm::Td3 => self.own("critic_learning_rate"),
            _ => self.own("learning_rate"),
        }
    }

    /// One sentence.
    pub(super) fn of(&self, rule: Rule) -> String {
        let step_size = self.own("learning_rate");
        let rewards = format!(
            "scale the rewards ({} or a wrapper of kind scale_reward)",
            self.key("normalisation.rewards")
        );
        match rule {
            Rule::EntropyCollapsed if self.algorithm == Algorithm::Sac => {
                format!("raise {}, or lower {step_size}", self.own("target_entropy"))
            }
            Rule::EntropyCollapsed => format!(
                "raise {}, or lower {step_size}",
                self.own("entropy_coefficient")
            ),
            Rule::ValueLossDiverges => format!(
                "lower {step_size}, clip harder with {}, or {rewards}",
                self.own("max_gradient_norm")
            ),
            Rule::ValuesUseless => format!(
                "give the values more to learn with: {}, {}, {}; check {} and how returns are computed: {}",
                self.key("policy.hidden"),
                self.key("policy.shared_trunk"),
                self.own("value_coefficient"),
                self.own("discount"),
                self.trace()
            ),
            Rule::PolicyJumps => format!(
                "lower {step_size} or {}, or end updates early with {}",
                self.own("epochs"),
                self.own("target_kl")
            ),
            Rule::ClippedTooOften => format!("lower {step_size} or {}", self.own("epochs")),
            Rule::NeverClipped => format!(
                "raise {step_size} or {}; where the return is as good as it can be, nothing is wrong",
                self.own("epochs")
            ),
            Rule::GradientsNotFinite => format!(
                "lower {step_size}, look for an environment that returns huge observations or rewards, \
                 or {rewards}"
            ),
            Rule::ThroughputFell => format!(
                "look for other work on the same cores and for what the environments have come to do; \
                 {} and {} say what there is to compute with",
                self.key("actor.threads"),
                self.key("learner.threads")
            ),
            Rule::QValuesExplode => {
                let target = match self.algorithm {
                    Algorithm::Dqn => format!("raise {}", self.own("target_update_every")),
                    Algorithm::Sac | Algorithm::Td3 => format!("lower {}", self.own("target_tau")),
                    _ => format!("check {}", self.own("discount")),
                };
                format!("lower {}, or {target}", self.value_step_size())
            }
            Rule::TemperatureExplodes => format!(
                "lower {}, which the policy does not reach, or {}",
                self.own("target_entropy"),
                self.own("temperature_learning_rate")
            ),
            Rule::TemperatureCollapsed => format!(
                "lower {}, or fix the temperature with {} and {}",
                self.own("temperature_learning_rate"),
                self.own("learns_temperature"),
                self.own("initial_temperature")
            ),
            Rule::ReplayStarved => format!(
                "lower {} or {}, or raise {} or {}",
                self.key("replay.minimum_size"),
                self.own("gradient_steps"),
                self.key("replay.samples_per_insert"),
                self.key("replay.samples_per_insert_tolerance")
            ),
        }
    }

    /// What returns are computed with.
    fn trace(&self) -> String {
        match self.algorithm {
            Algorithm::Impala => self.own("lambda"),
            Algorithm::Reinforce => self.own("baseline"),
            _ => self.own("gae_lambda"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules that an algorithm's figures can raise.
    fn rules(algorithm: Algorithm) -> Vec<Rule> {
        use Rule::{
            ClippedTooOften, EntropyCollapsed, GradientsNotFinite, NeverClipped, PolicyJumps,
            QValuesExplode, ReplayStarved, TemperatureCollapsed, TemperatureExplodes,
            ThroughputFell, ValueLossDiverges, ValuesUseless,
        };
        let mut rules = vec![GradientsNotFinite, ThroughputFell];
        rules.extend(match algorithm {
            Algorithm::Ppo => vec![
                EntropyCollapsed,
                ValueLossDiverges,
                ValuesUseless,
                PolicyJumps,
                ClippedTooOften,
                NeverClipped,
            ],
            Algorithm::Impala | Algorithm::A2c | Algorithm::Reinforce => {
                vec![EntropyCollapsed, ValueLossDiverges, ValuesUseless]
            }
            Algorithm::Dqn | Algorithm::Td3 => vec![QValuesExplode, ReplayStarved],
            Algorithm::Sac => vec![
                EntropyCollapsed,
                QValuesExplode,
                TemperatureExplodes,
                TemperatureCollapsed,
                ReplayStarved,
            ],
            Algorithm::QLearning | Algorithm::Sarsa => vec![QValuesExplode],
        });
        rules
    }

    #[test]
    fn every_key_that_a_remedy_names_exists() {
        for algorithm in [
            Algorithm::Ppo,
            Algorithm::Impala,
            Algorithm::Dqn,
            Algorithm::Sac,
            Algorithm::Td3,
            Algorithm::A2c,
            Algorithm::Reinforce,
            Algorithm::QLearning,
            Algorithm::Sarsa,
        ] {
            let mut configuration = Configuration::default();
            configuration.run.algorithm = algorithm;
            let remedies = Remedies::new(&configuration);
            for rule in rules(algorithm) {
                let text = remedies.of(rule);
                assert!(text.contains("(now "), "{text}");
                for word in text.split(' ') {
                    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
                    let is_key = word.contains('.') && !word.starts_with(char::is_numeric);
                    assert!(
                        !is_key || text.contains(&format!("{word} (now ")),
                        "{algorithm:?}, {rule}: there is no {word}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_remedy_says_what_is_configured() {
        let mut configuration = Configuration::default();
        configuration.ppo.learning_rate = 0.025;
        assert_eq!(
            Remedies::new(&configuration).of(Rule::EntropyCollapsed),
            "raise ppo.entropy_coefficient (now 0.0), or lower ppo.learning_rate (now 0.025)"
        );
    }
}
