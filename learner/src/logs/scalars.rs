//! What the keys of `metrics.jsonl` are called among curves: in groups, by the names that people know.

use serde::Serialize;
use serde_json::Value;

/// Keys and their tags. A key that is not here keeps its name, in the group `other`.
const TAGS: &[(&str, &str)] = &[
    ("update", "charts/updates"),
    ("episodes", "charts/episodes"),
    ("mean_return", "charts/episodic_return"),
    ("mean_length", "charts/episodic_length"),
    ("policy_lag_mean", "charts/policy_lag_mean"),
    ("policy_lag_max", "charts/policy_lag_max"),
    ("learning_rate", "charts/learning_rate"),
    ("clip_range", "charts/clip_range"),
    ("epsilon", "charts/epsilon"),
    ("gradient_steps", "charts/gradient_steps"),
    ("skipped_steps", "charts/skipped_steps"),
    ("stopped_early", "charts/stopped_early"),
    ("complete_episodes", "charts/complete_episodes"),
    ("unfinished_steps", "charts/unfinished_steps"),
    ("seconds", "time/seconds"),
    ("loss", "losses/values"),
    ("policy_loss", "losses/policy"),
    ("value_loss", "losses/value"),
    ("critic_loss", "losses/critic"),
    ("entropy", "losses/entropy"),
    ("target_entropy", "losses/target_entropy"),
    ("temperature", "losses/temperature"),
    ("approximate_kl", "losses/approximate_kl"),
    ("clip_fraction", "losses/clip_fraction"),
    ("explained_variance", "losses/explained_variance"),
    ("gradient_norm", "losses/gradient_norm"),
    ("initial_log_ratio", "losses/initial_log_ratio"),
    ("log_ratio", "losses/log_ratio"),
    ("rho_clip_fraction", "losses/rho_clip_fraction"),
    ("c_clip_fraction", "losses/c_clip_fraction"),
    ("td_error", "losses/td_error"),
    ("q_mean", "values/q_mean"),
    ("q_max", "values/q_max"),
    ("policy_value", "values/policy"),
    ("replay_size", "replay/size"),
    ("replay_age", "replay/age"),
    ("samples_per_insert", "replay/samples_per_insert"),
    ("importance_weight", "replay/importance_weight"),
];

/// What is the x axis and no curve.
const X_AXIS: &str = "env_steps";

/// Every number and flag of `record`, by its tag. What is absent or not finite is left out.
pub(super) fn of(record: &impl Serialize) -> Vec<(String, f64)> {
    let mut scalars = Vec::new();
    // A record that cannot be written as JSON is not in metrics.jsonl either, where that is reported.
    if let Ok(Value::Object(fields)) = serde_json::to_value(record) {
        for (key, value) in fields.iter().filter(|(key, _)| *key != X_AXIS) {
            collect(tag(key), value, &mut scalars);
        }
    }
    scalars
}

fn collect(tag: String, value: &Value, scalars: &mut Vec<(String, f64)>) {
    match value {
        Value::Number(number) => scalars.extend(number.as_f64().map(|value| (tag, value))),
        Value::Bool(flag) => scalars.push((tag, f64::from(u8::from(*flag)))),
        Value::Object(fields) => {
            for (key, value) in fields {
                collect(format!("{tag}/{key}"), value, scalars);
            }
        }
        Value::Null | Value::String(_) | Value::Array(_) => {}
    }
}

fn tag(key: &str) -> String {
    TAGS.iter()
        .find(|(known, _)| *known == key)
        .map_or_else(|| format!("other/{key}"), |(_, tag)| (*tag).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::{Statistics, a2c, dqn, impala, ppo, reinforce, sac, tabular, td3};
    use crate::metrics_log::Record;
    use crate::progress::PolicyLag;

    #[test]
    fn every_key_of_every_algorithm_has_its_tag() {
        for statistics in [
            Statistics::Ppo(ppo::PpoStatistics::default()),
            Statistics::Impala(impala::ImpalaStatistics::default()),
            Statistics::Dqn(dqn::DqnStatistics::default()),
            Statistics::Sac(sac::SacStatistics::default()),
            Statistics::Td3(td3::Td3Statistics::default()),
            Statistics::A2c(a2c::A2cStatistics::default()),
            Statistics::Reinforce(reinforce::ReinforceStatistics::default()),
            Statistics::Tabular(tabular::TabularStatistics::default()),
        ] {
            let record = Record {
                update: 1,
                env_steps: 2,
                seconds: 0.5,
                episodes: 3,
                mean_return: Some(4.0),
                mean_length: None,
                policy_lag: PolicyLag::default(),
                statistics: &statistics,
            };
            let Ok(Value::Object(fields)) = serde_json::to_value(&record) else {
                panic!("a record is an object");
            };
            for key in fields.keys().filter(|key| *key != X_AXIS) {
                assert!(!tag(key).starts_with("other/"), "{key} has no tag");
            }
            let scalars = of(&record);
            assert!(scalars.contains(&("charts/episodic_return".to_owned(), 4.0)));
            assert!(
                scalars
                    .iter()
                    .all(|(tag, _)| tag != "charts/episodic_length")
            );
        }
    }

    #[test]
    fn numbers_flags_and_what_is_nested_are_scalars() {
        let record = serde_json::json!({
            "env_steps": 7, "stopped_early": true, "stage": {"wait": 0.5}, "loss": null, "name": "x",
        });
        let mut scalars = of(&record);
        scalars.sort_by(|(a, _), (b, _)| a.cmp(b));
        assert_eq!(
            scalars,
            [
                ("charts/stopped_early".to_owned(), 1.0),
                ("other/stage/wait".to_owned(), 0.5),
            ]
        );
    }
}
