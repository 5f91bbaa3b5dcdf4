//! What can be said about environments of Python, and what is refused.

use rookery_common::configuration::{Configuration, HumanDuration, PYTHON_WRAPPERS};

#[test]
fn wrappers_are_a_part_of_what_the_environment_is_and_the_interpreter_is_not() {
    let text = r#"
        environment.id = "LunarLander-v3"
        environment.arguments.gravity = -8.0
        environment.python_wrappers = ["mine:First", "mine:Second"]
        actor.host.python = ".venv/bin/python"
        actor.host.step_timeout = "5s"
        actor.host.spin = "20us"
    "#;
    let configuration = Configuration::parse(text).unwrap();
    let arguments = configuration.environment.all_arguments();
    assert_eq!(arguments["gravity"], "-8.0");
    assert_eq!(arguments[PYTHON_WRAPPERS], "mine:First,mine:Second");
    assert_eq!(arguments.len(), 2);
    let host = &configuration.actor.host;
    assert_eq!(host.spin, HumanDuration::from_micros(20));
    assert_eq!(
        Configuration::parse(&configuration.to_toml()).unwrap(),
        configuration
    );
}

#[test]
fn what_hosts_cannot_be_run_with_is_refused_all_at_once() {
    let error = Configuration::parse(
        r#"
        environment.python_wrappers = ["NoModule"]
        actor.host.python = ""
        actor.host.python_path = ["a:b"]
        actor.host.groups = 0
        actor.host.step_timeout = "1ms"
        actor.host.spin = "1s"
        actor.host.interpreter = "python3"
        "#,
    )
    .unwrap_err()
    .to_string();
    for words in [
        "`actor.host.python` (configuration): expected an interpreter",
        "`actor.host.python_path` (configuration): expected folders",
        "`actor.host.groups` (configuration): expected",
        "`actor.host.step_timeout` (configuration): expected",
        "`actor.host.spin` (configuration): expected",
        "`environment.python_wrappers` (configuration): expected import paths",
        "actor.host.interpreter",
    ] {
        assert!(error.contains(words), "{words} is not in {error}");
    }
}
