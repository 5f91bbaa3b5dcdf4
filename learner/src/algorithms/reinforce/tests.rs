//! Golden vectors of updates whose episodes stretch over rounds.

use rookery_common::configuration::Annealing;
use rookery_common::policy::spec::{Activation, Encoder, Head};
use serde::Deserialize;

use super::*;
use crate::algorithms::testing::{
    NetworkCase, RoundCase, all_close, context, optionally_close, walking_round,
};
use crate::logs::Distributions;
use crate::networks::CriticSpec;
use crate::progress::StageClock;

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(flatten)]
    network: NetworkCase,
    baseline: bool,
    discount: f64,
    normalise: bool,
    value_coefficient: Option<f64>,
    entropy_coefficient: f64,
    max_gradient_norm: f64,
    learning_rate: f64,
    adam_beta1: f64,
    adam_beta2: f64,
    adam_epsilon: f64,
    initial: Vec<f32>,
    rounds: Vec<RoundCase>,
    expected: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    policy_loss: Option<f64>,
    value_loss: Option<f64>,
    entropy: Option<f64>,
    log_ratio: Option<f64>,
    gradient_norm: Option<f64>,
    explained_variance: Option<f64>,
    complete_episodes: u64,
    unfinished_steps: u64,
    parameters: Vec<f32>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../../tests/golden/reinforce.json")).unwrap()
}

impl Case {
    fn reinforce(&self) -> Reinforce {
        let config = ReinforceConfiguration {
            learning_rate: self.learning_rate,
            learning_rate_schedule: Annealing::Constant,
            adam_epsilon: self.adam_epsilon,
            adam_beta1: self.adam_beta1,
            adam_beta2: self.adam_beta2,
            discount: self.discount,
            baseline: self.baseline,
            value_coefficient: self.value_coefficient.unwrap_or(0.5),
            entropy_coefficient: self.entropy_coefficient,
            max_gradient_norm: Some(self.max_gradient_norm),
            normalise_returns: self.normalise,
        };
        let spec = self.network.spec();
        let mut reinforce = Reinforce::new(spec, config, 5, 1, Device::Cpu).unwrap();
        reinforce.network.import(&self.initial).unwrap();
        reinforce
    }
}

#[test]
fn t1_updates_on_episodes_that_stretch_over_rounds_agree_with_pytorch() {
    for case in cases() {
        let mut reinforce = case.reinforce();
        for (number, (round, expected)) in case.rounds.iter().zip(&case.expected).enumerate() {
            let got = reinforce
                .update(&round.round(), 0.0, &mut Distributions::default())
                .unwrap();
            let name = |what: &str| format!("{}, round {number}, {what}", case.name);
            let step = &got.step;
            for (what, got, expected) in [
                ("policy_loss", step.policy_loss, expected.policy_loss),
                ("value_loss", step.value_loss, expected.value_loss),
                ("entropy", step.entropy, expected.entropy),
                ("log_ratio", step.log_ratio, expected.log_ratio),
                ("gradient_norm", step.gradient_norm, expected.gradient_norm),
                (
                    "explained_variance",
                    got.explained_variance,
                    expected.explained_variance,
                ),
            ] {
                optionally_close(&name(what), got, expected);
            }
            assert_eq!(got.complete_episodes, expected.complete_episodes);
            assert_eq!(got.unfinished_steps, expected.unfinished_steps);
            assert_eq!(step.gradient_steps, u64::from(expected.entropy.is_some()));
            all_close(
                &name("parameters"),
                &reinforce.network.export(),
                &expected.parameters,
            );
        }
    }
}

#[test]
fn t34_a_resumed_state_holds_the_steps_of_unfinished_episodes() {
    for case in cases() {
        let rounds: Vec<_> = case.rounds.iter().map(RoundCase::round).collect();
        let mut reference = case.reinforce();
        for round in &rounds[..2] {
            reference
                .update(round, 0.0, &mut Distributions::default())
                .unwrap();
        }
        let state = reference.state();
        let expected = reference
            .update(&rounds[2], 0.0, &mut Distributions::default())
            .unwrap();
        let mut resumed = case.reinforce();
        resumed.restore(&state).unwrap();
        assert_eq!(
            resumed
                .update(&rounds[2], 0.0, &mut Distributions::default())
                .unwrap(),
            expected
        );
        assert_eq!(resumed.state(), reference.state());

        // Without them, the episodes that end in the round would be others.
        let mut forgetful = case.reinforce();
        forgetful.restore(&state).unwrap();
        let mut reset = rounds[2].clone();
        for shard in &mut reset.shards {
            shard.discontinuous = true;
        }
        forgetful
            .update(&reset, 0.0, &mut Distributions::default())
            .unwrap();
        assert_ne!(forgetful.state(), reference.state());
    }
}

#[test]
fn a_state_of_other_environments_is_refused_and_changes_nothing() {
    let case = &cases()[0];
    let mut trained = case.reinforce();
    trained
        .update(&case.rounds[0].round(), 0.0, &mut Distributions::default())
        .unwrap();
    let state = trained.state();
    for (array, values) in [
        ("unfinished.lengths", vec![1.0; 4]),
        ("unfinished.rewards", Vec::new()),
        ("unfinished.observations", vec![0.0; 1]),
    ] {
        let mut damaged = state.clone();
        damaged.arrays.insert(array.to_owned(), values);
        let mut resumed = case.reinforce();
        let before = resumed.state();
        let error = resumed.restore(&damaged).unwrap_err();
        assert!(error.to_string().contains(array), "{error}");
        assert_eq!(resumed.state(), before);
    }
}

#[test]
fn without_a_baseline_the_critic_stays_as_it_was() {
    let case = cases().into_iter().find(|case| !case.baseline).unwrap();
    let mut reinforce = case.reinforce();
    reinforce
        .update(&case.rounds[0].round(), 0.0, &mut Distributions::default())
        .unwrap();
    let policy = reinforce.network.num_policy_parameters();
    let parameters = reinforce.network.export();
    assert_eq!(parameters[policy..], case.initial[policy..]);
    assert_ne!(parameters[..policy], case.initial[..policy]);
}

#[test]
fn steps_join_the_episode_of_their_own_environment_until_it_is_reset() {
    let spec = ActorCriticSpec {
        policy: PolicySpec {
            encoder: Encoder::OneHot { n: 4 },
            hidden: Vec::new(),
            activation: Activation::Tanh,
            recurrent: None,
            action_mask: false,
            head: Head::Categorical { num_actions: 2 },
        },
        initial_log_std: 0.0,
        critic: CriticSpec::Shared,
    };
    let config = ReinforceConfiguration::default();
    let mut reinforce = Reinforce::new(spec, config, 2, 1, Device::Cpu).unwrap();
    let mut clock = StageClock::default();
    let mut unfinished = |index, unrolls: &[(u32, bool)]| {
        let (round, shape) = walking_round(index, unrolls);
        match reinforce
            .learn(
                &round,
                context(shape, index, &mut clock, &mut Distributions::default()),
            )
            .unwrap()
        {
            Statistics::Reinforce(statistics) => statistics.unfinished_steps,
            other => panic!("{other:?}"),
        }
    };
    // In an asynchronous run a round has no unroll of some shards and several of others.
    assert_eq!(unfinished(0, &[(1, false)]), 3);
    assert_eq!(unfinished(1, &[(0, false)]), 6);
    let again = unfinished(2, &[(1, true)]);
    assert_eq!(again, 6, "the second shard has three steps again");
    assert_eq!(unfinished(3, &[(1, false), (1, false)]), 12);
}
