//! Golden vectors of tables over several rounds.

use rookery_common::configuration::Annealing;
use rookery_common::policy::{Policy, Workspace};
use rookery_common::spaces::Space;
use serde::Deserialize;

use super::*;
use crate::algorithms::testing::{
    RoundCase, all_close, close, context, optionally_close, walking_round,
};
use crate::logs::Distributions;
use crate::networks::NetworkError;
use crate::progress::StageClock;

#[derive(Deserialize)]
struct Case {
    name: String,
    method: String,
    num_states: usize,
    num_actions: usize,
    num_envs: usize,
    discount: f64,
    learning_rate: f64,
    learning_rate_schedule: Annealing,
    initial_value: f64,
    epsilon_start: f64,
    epsilon_end: f64,
    epsilon_decay: u64,
    rounds: Vec<RoundCase>,
    expected: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    table: Vec<f32>,
    num_updates: u64,
    td_error: f64,
    epsilon: f64,
    learning_rate: f64,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../../tests/golden/tabular.json")).unwrap()
}

fn policy(num_states: usize, num_actions: usize) -> PolicySpec {
    let observation = Space::Discrete { n: num_states };
    PolicySpec::table(&observation, &Space::Discrete { n: num_actions }).unwrap()
}

impl Case {
    fn tabular(&self) -> Tabular {
        let method = match self.method.as_str() {
            "q_learning" => Method::QLearning,
            "sarsa" => Method::Sarsa,
            other => panic!("method {other}"),
        };
        let config = TabularConfiguration {
            learning_rate: self.learning_rate,
            learning_rate_schedule: self.learning_rate_schedule,
            discount: self.discount,
            initial_value: self.initial_value,
            epsilon_start: self.epsilon_start,
            epsilon_end: self.epsilon_end,
            epsilon_decay: self.epsilon_decay,
        };
        let policy = policy(self.num_states, self.num_actions);
        Tabular::new(method, config, &policy, self.num_envs).unwrap()
    }

    /// Learns round `number`.
    fn update(&self, tabular: &mut Tabular, number: usize) -> TabularStatistics {
        let round = self.rounds[number].round();
        let env_steps = (number * round.num_steps()) as u64;
        let progress = number as f64 / self.rounds.len() as f64;
        tabular.update(&round, env_steps, progress).unwrap()
    }
}

#[test]
fn t1_t20_tables_agree_with_the_textbook_over_the_ends_of_unrolls() {
    for case in cases() {
        let mut tabular = case.tabular();
        for (number, expected) in case.expected.iter().enumerate() {
            let got = case.update(&mut tabular, number);
            let name = |what: &str| format!("{}, round {number}, {what}", case.name);
            let (table, biases) = tabular.table.parameters().split_at(expected.table.len());
            all_close(&name("table"), table, &expected.table);
            assert_eq!(biases, vec![0.0; case.num_actions]);
            assert_eq!(
                got.gradient_steps,
                expected.num_updates,
                "{}",
                name("updates")
            );
            optionally_close(&name("td_error"), got.td_error, Some(expected.td_error));
            close(&name("epsilon"), got.epsilon, expected.epsilon);
            close(
                &name("learning_rate"),
                got.learning_rate,
                expected.learning_rate,
            );
            let sum: f32 = expected.table.iter().sum();
            let mean = f64::from(sum) / expected.table.len() as f64;
            close(&name("q_mean"), got.q_mean, mean);
            let largest = expected.table.iter().copied().fold(f32::MIN, f32::max);
            close(&name("q_max"), got.q_max, f64::from(largest));
        }
    }
}

#[test]
fn t34_a_resumed_table_knows_the_steps_that_wait_for_their_next_action() {
    for case in cases() {
        let mut reference = case.tabular();
        case.update(&mut reference, 0);
        let state = reference.state();
        let expected = case.update(&mut reference, 1);
        let mut resumed = case.tabular();
        resumed.restore(&state).unwrap();
        assert_eq!(case.update(&mut resumed, 1), expected);
        assert_eq!(resumed.state(), reference.state());
    }
}

#[test]
fn the_table_is_the_policy_that_acts() {
    let case = &cases()[0];
    let mut tabular = case.tabular();
    for number in 0..case.rounds.len() {
        case.update(&mut tabular, number);
    }
    let spec = policy(case.num_states, case.num_actions);
    let policy = Policy::new(spec, &tabular.policy_parameters(), None).unwrap();
    let states: Vec<f32> = (0..case.num_states).map(|state| state as f32).collect();
    let mut actions = vec![0.0; case.num_states];
    policy.act_greedily(&mut Workspace::default(), &states, &mut actions);
    for (state, action) in actions.iter().enumerate() {
        let value = tabular.table.value(state, *action as usize);
        assert_eq!(value, tabular.table.largest(state));
    }
    assert_eq!(tabular.acting(10)[EPSILON], 0.5);
}

#[test]
fn what_does_not_fit_is_refused_before_anything_changes() {
    let case = &cases()[4];
    let mut tabular = case.tabular();
    case.update(&mut tabular, 0);
    let before = tabular.state();

    let mut round = case.rounds[1].round();
    round.observations[2] = case.num_states as f32;
    assert!(matches!(
        tabular.update(&round, 0, 0.0),
        Err(OnPolicyError::Network(NetworkError::Category {
            row: 2,
            ..
        }))
    ));
    let mut round = case.rounds[1].round();
    round.actions[3] = 0.5;
    assert!(matches!(
        tabular.update(&round, 0, 0.0),
        Err(OnPolicyError::Action { step: 3, .. })
    ));
    for (array, values) in [
        ("parameters", vec![0.0; 3]),
        ("pending", vec![0.0; 4]),
        ("pending", [1.0, 99.0, 0.0, 0.0].repeat(case.num_envs)),
    ] {
        let mut damaged = before.clone();
        damaged.arrays.insert(array.to_owned(), values);
        assert!(tabular.restore(&damaged).is_err(), "{array}");
    }
    assert_eq!(tabular.state(), before);

    let hidden = PolicySpec {
        hidden: vec![4],
        ..policy(2, 2)
    };
    let config = TabularConfiguration::default();
    assert!(Tabular::new(Method::Sarsa, config, &hidden, 1).is_err());
}

#[test]
fn a_step_waits_for_the_next_action_of_its_own_environment() {
    let config = TabularConfiguration::default();
    let mut tabular = Tabular::new(Method::Sarsa, config, &policy(4, 2), 2).unwrap();
    let mut clock = StageClock::default();
    let mut updates = |index, unrolls: &[(u32, bool)]| {
        let (round, shape) = walking_round(index, unrolls);
        match tabular
            .learn(
                &round,
                context(shape, index, &mut clock, &mut Distributions::default()),
            )
            .unwrap()
        {
            Statistics::Tabular(statistics) => statistics.gradient_steps,
            other => panic!("{other:?}"),
        }
    };
    // In an asynchronous run a round has no unroll of some shards and several of others.
    assert_eq!(updates(0, &[(1, false)]), 2, "the last step waits");
    assert_eq!(updates(1, &[(0, false)]), 2);
    assert_eq!(updates(2, &[(0, false), (1, false)]), 6);
    assert_eq!(updates(3, &[(1, false), (1, false)]), 6);
    let dropped = updates(4, &[(0, false), (1, true)]);
    assert_eq!(dropped, 5, "nothing follows the step before a reset");
}
