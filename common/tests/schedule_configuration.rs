//! What people get to see of the schedule, and of the algorithms that an asynchronous one needs.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use insta::assert_snapshot;
use rookery_common::configuration::{Configuration, Schedule};

/// The errors of a text.
fn errors(text: &str) -> String {
    Configuration::parse(text).unwrap_err().to_string()
}

const ASYNCHRONOUS: &str = "[schedule]\nkind = \"asynchronous\"\n";

#[test]
fn options_of_an_asynchronous_run_are_refused_in_a_synchronous_one_with_the_reason() {
    assert_snapshot!(errors(r#"
        [schedule]
        max_policy_lag = 4
        unrolls_per_update = 8
        max_queue_bytes = "1MiB"
    "#), @r#"
    invalid configuration, 3 violations:
      - `schedule.kind` = "synchronous" (default), `schedule.max_policy_lag` = 4 (configuration): in a synchronous run lag says exactly how old every unroll is; leave schedule.max_policy_lag out, or set kind = "asynchronous"
      - `schedule.kind` = "synchronous" (default), `schedule.unrolls_per_update` = 8 (configuration): in a synchronous run an update consumes one unroll of each shard; leave schedule.unrolls_per_update out, or set kind = "asynchronous"
      - `schedule.kind` = "synchronous" (default), `schedule.max_queue_bytes` = 1MiB (configuration): in a synchronous run lag + 1 unrolls of each shard are all that can wait; leave schedule.max_queue_bytes out, or set kind = "asynchronous"
    "#);
}

#[test]
fn what_an_asynchronous_run_cannot_do_is_refused_with_the_remedy() {
    assert_snapshot!(errors(r#"
        [rollout]
        unroll_length = 1000
        [schedule]
        kind = "asynchronous"
        lag = 1
        unrolls_per_update = 8
        max_queue_bytes = "100kB"
        max_policy_lag = 3
    "#), @r#"
    invalid configuration, 3 violations:
      - `schedule.kind` = "asynchronous" (configuration), `schedule.lag` = 1 (configuration): in an asynchronous run nobody decides in advance how old an unroll is; leave lag out and bound the age with max_policy_lag
      - `schedule.kind` = "asynchronous" (configuration), `schedule.max_policy_lag` = 3 (configuration), `ppo.advantage` = "gae" (default): it takes every unroll for the present policy's, and those of an asynchronous run are up to max_policy_lag versions older; set ppo.advantage = "vtrace", set max_policy_lag = 0, or kind = "synchronous", with lag = 1 to collect while the learner works
      - `schedule.max_queue_bytes` = 100000B (configuration), `schedule.unrolls_per_update` = 8 (configuration): the 8 unrolls of one update take 576000 bytes at the least, and 100000 may wait: no update would ever be whole; raise max_queue_bytes, lower unrolls_per_update, or make unrolls smaller
    "#);
}

#[test]
fn values_out_of_range_name_the_range() {
    assert_snapshot!(errors(r#"
        run.algorithm = "impala"
        schedule.kind = "asynchronous"
        schedule.max_policy_lag = 20000
        schedule.unrolls_per_update = 0
        schedule.max_queue_bytes = "1B"
        impala.learning_rate = 0
        impala.lambda = 1.5
        impala.c_clip = 2
        impala.policy_rho_clip = -1
        impala.value_coefficient = nan
        ppo.vtrace_rho_clip = 0.5
    "#), @r#"
    invalid configuration, 9 violations:
      - `schedule.max_policy_lag` (configuration): expected at least 0 and at most 10000, got 20000
      - `schedule.unrolls_per_update` (configuration): expected at least 1 and at most 1048576, got 0
      - `schedule.max_queue_bytes` (configuration): expected at least 1KiB and at most 1048576GiB, got 1B
      - `ppo.vtrace_rho_clip` = 0.5 (configuration), `ppo.vtrace_c_clip` = 1 (default): the targets of V-trace lead to a fixed point only where rho is clipped no lower than c; set ppo.vtrace_c_clip to at most 0.5
      - `impala.learning_rate` (configuration): expected above 0 and at most 1, got 0
      - `impala.lambda` (configuration): expected at least 0 and at most 1, got 1.5
      - `impala.rho_clip` = 1 (default), `impala.c_clip` = 2 (configuration): the targets of V-trace lead to a fixed point only where rho is clipped no lower than c; set impala.c_clip to at most 1
      - `impala.policy_rho_clip` (configuration): expected above 0 and at most 1000000, got -1
      - `impala.value_coefficient` (configuration): expected at least 0 and at most 1000000, got NaN
    "#);
}

#[test]
fn every_algorithm_can_be_asynchronous_where_it_corrects_or_does_not_care() {
    for change in [
        "[run]\nalgorithm = \"impala\"",
        "[run]\nalgorithm = \"dqn\"",
        "[run]\nalgorithm = \"sac\"",
        "[run]\nalgorithm = \"q_learning\"\n[policy]\nhidden = []",
        "[run]\nalgorithm = \"sarsa\"\n[policy]\nhidden = []",
        "[ppo]\nadvantage = \"vtrace\"",
        // Strictly on policy, there is nothing to correct.
        "max_policy_lag = 0",
        "max_policy_lag = 0\n[run]\nalgorithm = \"a2c\"",
        "max_policy_lag = 0\n[run]\nalgorithm = \"reinforce\"",
    ] {
        let configuration = Configuration::parse(&format!("{ASYNCHRONOUS}{change}"));
        assert!(configuration.is_ok(), "{change}: {configuration:?}");
    }
    assert!(Configuration::parse("run.algorithm = \"impala\"").is_ok());
    for algorithm in ["a2c", "reinforce"] {
        let message = errors(&format!("run.algorithm = \"{algorithm}\"\n{ASYNCHRONOUS}"));
        let reason = "it takes every unroll for the present policy's";
        assert!(message.contains(reason), "{message}");
        let remedy = "learn with impala, which corrects for that, set max_policy_lag = 0";
        assert!(message.contains(remedy), "{message}");
    }
}

#[test]
fn t11_what_is_left_open_of_an_asynchronous_schedule_has_bounded_lag_and_bytes() {
    let schedule = |algorithm: &str| {
        let text =
            format!("run.algorithm = \"{algorithm}\"\nenvironment.num_envs = 32\n{ASYNCHRONOUS}");
        Configuration::parse(&text).unwrap().schedule()
    };
    let expected = |max_policy_lag| Schedule::Asynchronous {
        max_policy_lag,
        unrolls_per_update: 8,
        max_queue_bytes: 256 << 20,
    };
    assert_eq!(schedule("impala"), expected(8));
    assert_eq!(schedule("dqn"), expected(64));
    assert_eq!(
        Configuration::default().schedule(),
        Schedule::Synchronous { lag: 0 }
    );
}

#[test]
fn an_update_of_an_asynchronous_run_holds_its_own_number_of_unrolls() {
    let text = format!("{ASYNCHRONOUS}unrolls_per_update = 3\n[ppo]\nadvantage = \"vtrace\"");
    let configuration = Configuration::parse(&text).unwrap();
    assert_eq!(configuration.unrolls_per_update(), 3);
    assert_eq!(configuration.rows_per_round(), 3 * 4 * 128);
    let synchronous = Configuration::default();
    assert_eq!(synchronous.unrolls_per_update(), 2);
    assert_eq!(synchronous.rows_per_round(), 8 * 128);
}
