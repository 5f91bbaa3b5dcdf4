//! What goes wrong in Python is a fault with its reason, and never the end of the actor.

use rookery_actor::environments::hosted::{HostPool, HostedError};
use rookery_common::configuration::HumanDuration;

use crate::support::{arguments, pool, run, settings, shard, try_step};

/// The message of the fault that `how` ends in.
fn fault(pool: &HostPool, how: &str) -> String {
    let mut shard = shard(pool, "peculiar:Failing", &[("how", how)], 2);
    run(&mut shard, 0..0);
    for _ in 0..2 {
        try_step(&mut shard, &[0.0; 2]).unwrap();
    }
    let message = try_step(&mut shard, &[0.0; 2]).unwrap_err().to_string();
    // The batch is no more, and says why.
    assert!(try_step(&mut shard, &[0.0; 2]).is_err());
    message
}

#[test]
fn every_failure_is_told_in_its_own_words() {
    let pool = HostPool::new(rookery_common::configuration::HostConfiguration {
        max_restarts: 100,
        ..settings()
    });
    for (how, words) in [
        (
            "raise",
            "a step of environment 0 raised ValueError: the cart fell off",
        ),
        (
            "nan",
            "environment 0 gave NaN in value 1 of its observation",
        ),
        ("reward", "environment 0 gave inf in value 0 of its reward"),
        (
            "shape",
            "an array of shape [1] and dtype float32; its space declares an array of shape [2]",
        ),
        (
            "dtype",
            "dtype float64; its space declares an array of shape [2] and dtype float32",
        ),
        ("four", "not enough values to unpack (expected 5, got 4)"),
        (
            "reset",
            "a reset of environment 0 raised ValueError: cannot begin again",
        ),
        ("sys_exit", "a step of environment 0 called sys.exit(3)"),
        ("os_exit", "its host ended with exit code 7"),
        ("kill", "its host was ended by signal 9"),
    ] {
        let message = fault(&pool, how);
        assert!(message.starts_with("`peculiar:Failing`: "), "{message}");
        assert!(message.contains(words), "{how}: {message}");
    }
}

#[test]
fn a_step_that_hangs_ends_at_its_time_limit() {
    let mut settings = settings();
    settings.step_timeout = HumanDuration::from_millis(300);
    let message = fault(&HostPool::new(settings), "hang");
    assert!(
        message.contains("no answer within actor.host.step_timeout, 300ms"),
        "{message}"
    );
}

#[test]
fn what_is_printed_does_not_harm() {
    let mut shard = shard(&pool(), "peculiar:Failing", &[("how", "print")], 2);
    for count in 1..=6 {
        let step = try_step(&mut shard, &[0.0; 2]).unwrap();
        assert_eq!(step.next_observations[1], count as f32);
    }
}

#[test]
fn a_fault_ends_the_host_and_with_it_the_neighbour_and_the_next_batch_gets_another() {
    let pool = pool();
    let mut neighbour = shard(&pool, "peculiar:Scripted", &[], 1);
    assert_eq!(pool.num_hosts(), 1);
    fault(&pool, "raise");
    assert_eq!(pool.num_hosts(), 0);
    let message = try_step(&mut neighbour, &[0.0]).unwrap_err().to_string();
    assert!(
        message.contains("a group of `peculiar:Failing` failed on it"),
        "{message}"
    );
    let mut again = shard(&pool, "peculiar:Scripted", &[], 1);
    run(&mut again, 0..3);
    assert_eq!(pool.num_hosts(), 1);
}

#[test]
fn hosts_that_fail_again_and_again_are_given_up() {
    for max_restarts in [0, 1] {
        let mut settings = settings();
        settings.max_restarts = max_restarts;
        let pool = HostPool::new(settings);
        for _ in 0..=max_restarts {
            fault(&pool, "os_exit");
        }
        let error = pool
            .make("peculiar:Scripted", &arguments(&[]), 1)
            .unwrap_err();
        let limit = format!("actor.host.max_restarts = {max_restarts}");
        assert!(error.to_string().contains(&limit), "{error}");
    }
    // A thousand steps between them make them two matters.
    let mut settings = settings();
    settings.max_restarts = 1;
    let pool = HostPool::new(settings);
    for _ in 0..3 {
        fault(&pool, "raise");
        let mut shard = shard(&pool, "peculiar:Scripted", &[], 1);
        for _ in 0..1000 {
            try_step(&mut shard, &[0.0]).unwrap();
        }
    }
}

#[test]
fn what_is_missing_is_named_with_the_command_that_brings_it() {
    let pool = pool();
    let error = pool.make("Hopefully-v3", &arguments(&[]), 1).unwrap_err();
    assert!(
        matches!(&error, HostedError::Unknown(words) if words.contains("Hopefully")),
        "{error}"
    );
    let error = pool.make("nowhere:Class", &arguments(&[]), 1).unwrap_err();
    assert!(
        error.to_string().contains("No module named 'nowhere'"),
        "{error}"
    );
    let life = arguments(&[("episodic_life", "true")]);
    let error = pool.make("ALE/Pong-v5", &life, 1).unwrap_err();
    assert!(
        error.to_string().contains("episodic_life ends episodes"),
        "{error}"
    );
    let wrong = arguments(&[("lim", "3")]);
    let error = pool.make("peculiar:Scripted", &wrong, 1).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("unexpected keyword argument 'lim'"),
        "{error}"
    );

    let mut without = settings();
    without.python = "/nowhere/python3".into();
    let error = HostPool::new(without)
        .make("Hopper-v4", &arguments(&[]), 1)
        .unwrap_err();
    assert!(
        matches!(&error, HostedError::NoPython(words) if words.contains("actor.host.python")),
        "{error}"
    );
    // An interpreter that finds no packages, as one that nobody has installed anything for.
    let folder = std::env::temp_dir().join(format!("rookery-bare-python-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let bare = folder.join("python3");
    let script = format!(
        "#!/bin/sh\nexec '{}' -S \"$@\"\n",
        crate::support::python().display()
    );
    std::fs::write(&bare, script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&bare, executable).unwrap();
    let mut without = settings();
    without.python = bare;
    let error = HostPool::new(without)
        .make("Hopper-v4", &arguments(&[]), 1)
        .unwrap_err();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(
        error
            .to_string()
            .contains("-m pip install \"gymnasium==1.4.0\" numpy"),
        "{error}"
    );
}
