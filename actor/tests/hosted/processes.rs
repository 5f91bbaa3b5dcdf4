//! Hosts are as many as are needed, and none outlives its actor.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rookery_actor::environments::hosted::HostPool;
use rookery_common::configuration::HostConfiguration;

use crate::support::{actions, pool, run, settings, shard, try_step};

/// Environment variables by which the test below is told to be the actor that is killed.
const PID_FILE: &str = "ROOKERY_TEST_HOST_PID_FILE";
const HANGS: &str = "ROOKERY_TEST_HOST_HANGS";

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the process is there and no zombie.
fn lives(pid: &str) -> bool {
    std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn two_batches_share_a_host_and_a_third_gets_another() {
    let pool = pool();
    let mut shards: Vec<_> = (0..3)
        .map(|_| shard(&pool, "peculiar:Scripted", &[], 2))
        .collect();
    assert_eq!(pool.num_hosts(), 2);
    // Stepped from threads of their own, each sees only its own.
    let alone = run(&mut shards.pop().unwrap(), 0..300);
    std::thread::scope(|scope| {
        let threads: Vec<_> = shards
            .iter_mut()
            .map(|shard| scope.spawn(|| run(shard, 0..300)))
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), alone);
        }
    });
    drop(shards);
    assert_eq!(pool.num_hosts(), 0);
}

#[test]
fn each_thread_has_hosts_of_its_own_unless_they_are_shared() {
    for (shared, num_hosts) in [(false, 2), (true, 1)] {
        let pool = HostPool::new(HostConfiguration {
            shared,
            ..settings()
        });
        let ours = shard(&pool, "peculiar:Scripted", &[], 1);
        let theirs = std::thread::scope(|scope| {
            let thread = scope.spawn(|| shard(&pool, "peculiar:Scripted", &[], 1));
            thread.join().unwrap()
        });
        assert_eq!(pool.num_hosts(), num_hosts);
        drop((ours, theirs));
    }
}

/// While a step of one batch takes its time, the other's shard can act: what it last saw is its own.
#[test]
fn one_batch_can_be_read_while_the_other_is_stepped() {
    let pool = pool();
    let mut slow = shard(&pool, "peculiar:Scripted", &[], 2);
    let mut other = shard(&pool, "peculiar:Scripted", &[], 2);
    run(&mut other, 0..2);
    let seen = crate::support::shown(&other);
    std::thread::scope(|scope| {
        let stepping = scope.spawn(|| run(&mut slow, 0..200));
        for _ in 0..200 {
            assert_eq!(crate::support::shown(&other), seen);
            assert_eq!(other.save(), other.save());
        }
        stepping.join().unwrap();
    });
    run(&mut other, 2..4);
}

/// With so many instances a step takes a millisecond or more, for which a thread that has another shard in the
/// same host sleeps without being rung; with one it looks.
#[test]
fn shards_in_turn_show_what_each_shows_alone() {
    for num_envs in [1, 200] {
        let pool = pool();
        let make = || shard(&pool, "peculiar:Scripted", &[], num_envs);
        let alone = run(&mut make(), 0..40);
        let mut shards = [make(), make()];
        assert_eq!(pool.num_hosts(), 1);
        for shard in &mut shards {
            shard.begin_step(&actions(shard, 0)).unwrap();
        }
        for (step, alone) in alone.iter().enumerate() {
            for shard in &mut shards {
                let given = actions(shard, step as u64);
                assert_eq!(try_step(shard, &given).unwrap(), *alone);
                let next = actions(shard, step as u64 + 1);
                shard.begin_step(&next).unwrap();
            }
        }
    }
}

#[test]
#[should_panic(expected = "a step is taken with what it was begun with")]
fn a_step_that_is_not_the_one_that_was_begun_is_a_mistake() {
    let pool = pool();
    let mut shard = shard(&pool, "peculiar:Scripted", &[], 2);
    shard.begin_step(&[0.0, 1.0]).unwrap();
    let _ = try_step(&mut shard, &[1.0, 1.0]);
}

#[test]
fn a_host_that_is_not_needed_any_more_ends() {
    let folder = std::env::temp_dir().join(format!("rookery-host-ends-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("pid");
    let quoted = format!("{:?}", file.display().to_string());
    let shard = shard(&pool(), "peculiar:Scripted", &[("pid_file", &quoted)], 1);
    let pid = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(lives(&pid));
    drop(shard);
    wait_until("the host's end", || !lives(&pid));
}

/// Not a test by itself.
#[test]
#[ignore = "what `a_host_ends_with_its_actor_even_where_it_hangs` starts and kills"]
fn an_actor_to_be_killed() {
    let file = std::env::var(PID_FILE).expect("the test that starts this says where");
    let quoted = format!("{file:?}");
    let pool = pool();
    let shard = shard(&pool, "peculiar:Scripted", &[("pid_file", &quoted)], 1);
    if std::env::var_os(HANGS).is_some() {
        let mut hanging = crate::support::shard(&pool, "peculiar:Failing", &[("how", "hang")], 1);
        for _ in 0..3 {
            // The last of them does not return while the parent waits.
            let _ = try_step(&mut hanging, &[0.0]);
        }
    }
    std::thread::sleep(Duration::from_mins(1));
    drop(shard);
}

#[test]
fn a_host_ends_with_its_actor_even_where_it_hangs() {
    let folder = std::env::temp_dir().join(format!("rookery-actor-dies-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for hangs in [false, true] {
        let file = folder.join(format!("pid-{hangs}"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--ignored", "--exact", "processes::an_actor_to_be_killed"])
            .env(PID_FILE, &file)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if hangs {
            command.env(HANGS, "1");
        }
        let mut actor = command.spawn().unwrap();
        let mut pid = String::new();
        wait_until("a host", || {
            pid = std::fs::read_to_string(&file).unwrap_or_default();
            pid.ends_with('\n')
        });
        if hangs {
            // Long enough for the third step to be in its sleep; where it is not yet, the host is idle,
            // which the first round has tested.
            std::thread::sleep(Duration::from_secs(1));
        }
        let pid = pid.trim();
        assert!(lives(pid));
        actor.kill().unwrap();
        actor.wait().unwrap();
        wait_until("the host's end", || !lives(pid));
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
