//! `rookery-actor check-env` as a process: what it prints, and how it ends.

#![expect(
    clippy::unwrap_used,
    reason = "a process that cannot be started fails its test"
)]

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any of these takes on a busy machine.
const DEADLINE: Duration = Duration::from_mins(2);

/// Runs the program to its end; gives its exit code and both outputs.
fn check_env(arguments: &[&str]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rookery-actor"))
        .arg("check-env")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    // What it prints fits a pipe.
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() > DEADLINE {
            child.kill().unwrap();
            panic!("{arguments:?} did not end within {DEADLINE:?}");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let (mut output, mut errors) = (String::new(), String::new());
    child.stdout.unwrap().read_to_string(&mut output).unwrap();
    child.stderr.unwrap().read_to_string(&mut errors).unwrap();
    (status.code().unwrap(), output, errors)
}

#[test]
fn a_sound_environment_ends_with_0() {
    let (code, output, errors) = check_env(&["GridWorld-v0", "--steps", "50"]);
    assert_eq!((code, errors.as_str()), (0, ""), "{output}");
    assert!(
        output.starts_with("GridWorld-v0: observations Box[2], actions Discrete(4)\n"),
        "{output}"
    );
    assert!(output.ends_with("It can be trained on.\n"), "{output}");
    assert_eq!(output.matches("  ok      ").count(), 15, "{output}");
}

#[test]
fn wrappers_are_checked_with_their_environment_and_json_is_one_object() {
    let stack = r#"environment.wrappers=[{kind = "frame_stack", size = 2}]"#;
    let arguments = [
        "--preset",
        "cartpole-ppo",
        "--set",
        stack,
        "--steps",
        "50",
        "--json",
    ];
    let (code, output, errors) = check_env(&arguments);
    assert_eq!((code, errors.as_str()), (0, ""), "{output}");
    assert!(output.starts_with('{') && output.trim_end().ends_with('}'));
    assert!(
        output.contains(r#""observation":{"box":{"shape":[2,4]"#),
        "{output}"
    );
    assert!(
        output.contains(r#"{"name":"restore","outcome":"ok""#),
        "{output}"
    );
}

#[test]
fn what_is_no_environment_ends_with_64() {
    for (arguments, message) in [
        (&["CartPol-v1"][..], "did you mean `CartPole-v1`?"),
        (
            &[
                "CartPole-v1",
                "--set",
                "environment.wrappers=[{kind = \"clip_action\"}]",
            ],
            "wrapper 1 of `CartPole-v1`, clip_action: ",
        ),
        (
            &[
                "CartPole-v1",
                "--set",
                "environment.wrappers=[{kind = \"clip_actions\"}]",
            ],
            "did you mean `clip_action`?",
        ),
        (&["--steps", "0"], "0 is not in"),
    ] {
        let (code, output, errors) = check_env(arguments);
        assert!(errors.contains(message), "{errors}");
        // Clap's own code for a command line that it does not understand is 2.
        assert_eq!(
            (code, output.as_str()),
            (if message == "0 is not in" { 2 } else { 64 }, "")
        );
    }
}
