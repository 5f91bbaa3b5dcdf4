//! What a configuration may say about encoders of images.

#![expect(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

use rookery_common::configuration::{Configuration, EncoderKind};
use rookery_common::policy::Stage;

fn errors(text: &str) -> String {
    Configuration::parse(text).unwrap_err().to_string()
}

#[test]
fn an_encoder_is_chosen_by_name_and_widened() {
    let configuration = Configuration::parse(
        r#"
        policy.encoder = "impala_cnn"
        policy.channel_multiplier = 2
    "#,
    )
    .unwrap();
    assert_eq!(configuration.policy.encoder, EncoderKind::ImpalaCnn);
    let stages = [32, 64, 64].map(|channels| Stage::Residual { channels });
    assert_eq!(configuration.policy.stages(), stages);
    let written = Configuration::parse(&configuration.to_toml()).unwrap();
    assert_eq!(written, configuration);
    assert!(Configuration::default().policy.stages().is_empty());
}

#[test]
fn encoders_that_there_are_not_and_multipliers_out_of_range_are_refused() {
    insta::assert_snapshot!(errors(r#"
        policy.encoder = "resnet"
        policy.channel_multiplier = 0
    "#), @r#"
    invalid configuration, 2 violations:
      - `policy.encoder` (configuration): expected "mlp" or "nature_cnn" or "impala_cnn" or "minatar_cnn", got "resnet"
      - `policy.channel_multiplier` (configuration): expected at least 1 and at most 64, got 0
    "#);
}

#[test]
fn combinations_that_cannot_be_name_the_reason_and_the_remedy() {
    insta::assert_snapshot!(errors(r#"
        run.algorithm = "sac"
        policy.encoder = "minatar_cnn"
        normalisation.observations = true
    "#), @r#"
    invalid configuration, 3 violations:
      - `policy.encoder` = "minatar_cnn" (configuration), `run.algorithm` = "sac" (configuration): its critics have no convolutions; train with "dqn" or "ppo", or set encoder = "mlp"
      - `policy.encoder` = "minatar_cnn" (configuration), `normalisation.observations` = true (configuration): planes come scaled from 0 to 1, and a position that is the same in every observation has no deviation to be divided by; set normalisation.observations = false, or encoder = "mlp"
      - `run.algorithm` = "sac" (configuration), `normalisation.observations` = true (configuration): transitions are kept raw, and statistics that move on would give them another meaning; set normalisation.observations = false
    "#);
    insta::assert_snapshot!(errors("policy.channel_multiplier = 2"), @r#"
    invalid configuration, 1 violation:
      - `policy.encoder` = "mlp" (default), `policy.channel_multiplier` = 2 (configuration): there are no convolutions to widen; choose an encoder of images, or channel_multiplier = 1
    "#);
}

#[test]
fn a_table_has_no_encoder_of_images() {
    for algorithm in ["q_learning", "sarsa"] {
        let text = format!("run.algorithm = \"{algorithm}\"\npolicy.encoder = \"nature_cnn\"");
        let message = errors(&text);
        assert!(message.contains("a table has no convolutions"), "{message}");
    }
}
