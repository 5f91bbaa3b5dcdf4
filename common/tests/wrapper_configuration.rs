//! How wrappers are written in a configuration, and what is said about those that cannot be.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use insta::assert_snapshot;
use rookery_common::configuration::{Configuration, Layers};
use rookery_common::wrappers::{StackPadding, Wrapper};

/// The message of a text that is no configuration.
fn message(text: &str) -> String {
    Configuration::parse(text).unwrap_err().to_string()
}

fn skip_and_stack() -> Vec<Wrapper> {
    vec![
        Wrapper::FrameSkip {
            frames: 4,
            max_pool: false,
        },
        Wrapper::FrameStack {
            size: 3,
            padding: StackPadding::Zero,
        },
    ]
}

#[test]
fn wrappers_are_tables_in_their_order() {
    let configuration = Configuration::parse(
        r#"
        [[environment.wrappers]]
        kind = "frame_skip"
        frames = 4
        [[environment.wrappers]]
        kind = "frame_stack"
        size = 3
        padding = "zero"
        "#,
    )
    .unwrap();
    assert_eq!(configuration.environment.wrappers, skip_and_stack());
    let written = configuration.to_toml();
    assert!(
        written.contains("[[environment.wrappers]]\nframes = 4\nkind = \"frame_skip\"\n"),
        "{written}"
    );
    assert_eq!(Configuration::parse(&written).unwrap(), configuration);
}

#[test]
fn wrappers_can_be_set_on_the_command_line_and_unset() {
    let skip = r#"environment.wrappers=[{kind = "frame_skip", frames = 4}, {kind = "frame_stack", size = 3, padding = "zero"}]"#;
    let layers = Layers::new().set(skip);
    let configuration = layers.clone().build().unwrap();
    assert_eq!(configuration.environment.wrappers, skip_and_stack());
    let configuration = layers.set("environment.wrappers=[]").build().unwrap();
    assert_eq!(configuration.environment.wrappers, []);
}

#[test]
fn misspelt_kinds_and_settings_are_named_with_what_was_meant() {
    assert_snapshot!(message(r#"
        environment.wrappers = [
            { kind = "frame_stack", sise = 4, size = 2 },
            { kind = "clip_action", training_only = true },
            { kind = "frame_skip", frames = 2, training_only = true },
            { kind = "stick_actions", probability = 0.25 },
        ]
        environment.num_env = 3
    "#), @r#"
    invalid configuration, 5 violations:
      - `environment.wrappers[3].kind` (configuration): no kind is "stick_actions"; did you mean `sticky_actions`?; known are time_limit, frame_skip, frame_stack, clip_reward, sign_reward, scale_reward, clip_action, rescale_action, flatten_action, sticky_actions, flatten_observation, clip_observation, rescale_observation, cast_observation, previous_action, previous_reward, noop_starts, episodic_life
      - `environment.num_env` (configuration): unknown key; did you mean `environment.num_envs`?
      - `environment.wrappers[0].sise` (configuration): unknown key; did you mean `size`?; this kind takes padding, size
      - `environment.wrappers[1].training_only` (configuration): a policy that has learnt with this kind cannot do without it in evaluation; remove training_only
      - `environment.wrappers[2].training_only` (configuration): a policy that has learnt with this kind cannot do without it in evaluation; remove training_only
    "#);
}

#[test]
fn settings_that_are_missing_or_of_another_type_are_named() {
    assert_snapshot!(message(r#"environment.wrappers = [{ kind = "frame_stack" }]"#), @r"
    invalid configuration, 1 violation:
      - `environment.wrappers[0]` (configuration): the key `size` is missing
    ");
    assert_snapshot!(message(r"environment.wrappers = [{ size = 3 }]"), @r"
    invalid configuration, 1 violation:
      - `environment.wrappers[0]` (configuration): the key `kind` is missing
    ");
    assert_snapshot!(message(r#"environment.wrappers = ["clip_action"]"#), @r#"
    invalid configuration, 1 violation:
      - `environment.wrappers[0]` (configuration): expected a table, got "clip_action"
    "#);
    assert_snapshot!(message(r#"environment.wrappers = "clip_action""#), @r#"
    invalid configuration, 1 violation:
      - `environment.wrappers` (configuration): expected a list, got "clip_action"
    "#);
    assert_snapshot!(message(r#"environment.wrappers = [{ kind = "frame_stack", size = "four" }]"#), @r#"
    invalid configuration, 1 violation:
      - `environment.wrappers[0].size` (configuration): expected a whole number from 0 to 4294967295, got "four"
    "#);
    assert_snapshot!(message(r#"environment.wrappers = [{ kind = "frame_stack", size = 4, padding = "ones" }]"#), @r#"
    invalid configuration, 1 violation:
      - `environment.wrappers[0].padding` (configuration): expected "reset" or "zero", got "ones"
    "#);
    assert_snapshot!(message(r"environment.wrappers = [{ kind = 3 }]"), @r"
    invalid configuration, 1 violation:
      - `environment.wrappers[0].kind` (configuration): no kind is 3; known are time_limit, frame_skip, frame_stack, clip_reward, sign_reward, scale_reward, clip_action, rescale_action, flatten_action, sticky_actions, flatten_observation, clip_observation, rescale_observation, cast_observation, previous_action, previous_reward, noop_starts, episodic_life
    ");
    assert_snapshot!(message(r#"policy.activation = { kind = "tanh" }"#), @r#"
    invalid configuration, 1 violation:
      - `policy.activation` (configuration): expected "tanh" or "relu", got a table
    "#);
}

#[test]
fn settings_out_of_range_are_named_all_at_once() {
    assert_snapshot!(message(r#"
        environment.wrappers = [
            { kind = "time_limit", max_episode_steps = 0 },
            { kind = "frame_stack", size = 1 },
            { kind = "clip_reward", low = 1, high = -1 },
            { kind = "scale_reward", factor = inf, training_only = true },
            { kind = "sticky_actions", probability = 1 },
            { kind = "previous_reward" },
        ]
    "#), @r"
    invalid configuration, 6 violations:
      - `environment.wrappers[0].max_episode_steps` (configuration): expected at least 1 and at most 4294967295, got 0
      - `environment.wrappers[1].size` (configuration): expected at least 2 and at most 1024, got 1
      - `environment.wrappers[2].high` (configuration): expected a number above low = 1, got -1
      - `environment.wrappers[3].factor` (configuration): expected a number of at most 1e30 on either side of 0, got inf
      - `environment.wrappers[3].training_only` (configuration): expected false, because the policy sees this reward by the previous_reward after it, got true
      - `environment.wrappers[4].probability` (configuration): expected at least 0 and below 1, got 1
    ");
}
