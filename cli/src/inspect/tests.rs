//! What is shown of policies whose parameters are written by hand.

use rookery_common::configuration::Algorithm;
use rookery_common::policy::spec::{Activation, Encoder};
use rookery_common::policy::{Head, PolicySpec, Recurrent, RecurrentCell};
use rookery_common::spaces::{EnvironmentSpec, Space};

use super::*;

fn environment(id: &str, arguments: &[(&str, &str)], observation: Space) -> EnvironmentSpec {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    EnvironmentSpec {
        id: id.to_owned(),
        arguments: arguments.iter().map(pair).collect(),
        observation,
        action: Space::Discrete { n: 4 },
        max_episode_steps: Some(100),
        goal: None,
        wrappers: Vec::new(),
        action_mask: false,
    }
}

fn artifact(
    environment: EnvironmentSpec,
    spec: PolicySpec,
    parameters: Vec<f32>,
) -> PolicyArtifact {
    PolicyArtifact {
        spec,
        environment,
        version: 3,
        env_steps: 1_234,
        parameters,
        normaliser: None,
    }
}

fn configured(algorithm: Algorithm) -> Configuration {
    let mut configuration = Configuration::default();
    configuration.run.algorithm = algorithm;
    configuration.policy.hidden = Vec::new();
    configuration
}

/// A table over `states` in which the action `state % 4` is worth `state / 10`, and of the first state
/// nothing is known.
fn table_of(states: usize) -> (PolicySpec, Vec<f32>) {
    let observation = Space::Discrete { n: states };
    let spec = PolicySpec::table(&observation, &Space::Discrete { n: 4 }).unwrap();
    let mut parameters = vec![0.0; 4 * states + 4];
    for state in 1..states {
        parameters[state % 4 * states + state] = state as f32 / 10.0;
    }
    (spec, parameters)
}

fn shown(artifact: &PolicyArtifact, algorithm: Algorithm, learnt: Option<&[f32]>) -> String {
    let configuration = configured(algorithm);
    let knowledge = Knowledge::of(artifact, &configuration, learnt).unwrap();
    let title = title(artifact, &configuration, Checkpoint::Latest);
    describe(&title, &knowledge, true)
}

#[test]
fn a_table_of_frozen_lake_is_its_map_and_all_numbers() {
    let (spec, parameters) = table_of(16);
    let lake = environment("FrozenLake-v1", &[], Space::Discrete { n: 16 });
    let artifact = artifact(lake, spec, parameters);
    insta::assert_snapshot!(shown(&artifact, Algorithm::QLearning, None));
}

#[test]
fn an_environment_without_a_map_is_a_list() {
    let (spec, parameters) = table_of(3);
    let unknown = environment("Taxi-v9", &[], Space::Discrete { n: 3 });
    let artifact = artifact(unknown, spec, parameters);
    insta::assert_snapshot!(shown(&artifact, Algorithm::Sarsa, None));
}

#[test]
fn an_actor_critic_shows_probabilities_and_the_critics_values() {
    // Logits are the action's bias; the value is 2 row + column, in units of a quarter, plus 1.
    let spec = PolicySpec {
        encoder: Encoder::Identity { width: 2 },
        hidden: Vec::new(),
        activation: Activation::Tanh,
        recurrent: None,
        action_mask: false,
        head: Head::Categorical { num_actions: 4 },
    };
    let mut policy = vec![0.0; 8];
    policy.extend([0.0, 0.0, std::f32::consts::LN_2, 0.0]);
    let learnt = [&policy[..], &[2.0, 1.0, 1.0]].concat();
    let position = Space::bounded(&[0.0; 2], &[1.0; 2]);
    let world = environment("GridWorld-v0", &[], position);
    let artifact = artifact(world, spec, policy);
    for algorithm in [
        Algorithm::Ppo,
        Algorithm::Impala,
        Algorithm::A2c,
        Algorithm::Reinforce,
    ] {
        let configuration = configured(algorithm);
        let knowledge = Knowledge::of(&artifact, &configuration, Some(&learnt)).unwrap();
        assert_eq!(knowledge.quantity, Quantity::ActionProbabilities);
        for (index, place) in knowledge.places.iter().enumerate() {
            let (row, column) = (index / 5, index % 5);
            let value = 1.0 + (2 * row + column) as f64 / 4.0;
            assert!((place.value.unwrap() - value).abs() < 1e-6);
            assert_eq!(place.preferred(), Some(2));
            for (action, probability) in place.actions.iter().enumerate() {
                let expected = if action == 2 { 0.4 } else { 0.2 };
                assert!((probability - expected).abs() < 1e-6);
            }
        }
    }
    let without = Knowledge::of(&artifact, &configured(Algorithm::Ppo), None).unwrap();
    assert!(without.places.iter().all(|place| place.value.is_none()));
    // A critic behind the policy's own layers: its head alone stands behind the policy.
    let mut shared = configured(Algorithm::A2c);
    shared.policy.shared_trunk = true;
    let knowledge = Knowledge::of(&artifact, &shared, Some(&learnt)).unwrap();
    assert!((knowledge.places[24].value.unwrap() - 4.0).abs() < 1e-6);
    insta::assert_snapshot!(shown(&artifact, Algorithm::Ppo, Some(&learnt)));
}

#[test]
fn a_critic_shares_the_policys_hidden_layers_where_it_is_configured() {
    let spec = PolicySpec {
        encoder: Encoder::OneHot { n: 16 },
        hidden: vec![1],
        activation: Activation::Relu,
        recurrent: None,
        action_mask: false,
        head: Head::Categorical { num_actions: 4 },
    };
    let hidden: Vec<f32> = (0..16).map(|state| state as f32).chain([0.5]).collect();
    let head = [0.0; 8];
    let critic = [3.0, -1.0];
    let learnt = [&hidden[..], &head, &critic].concat();
    let policy = learnt[..learnt.len() - 2].to_vec();
    let lake = environment("FrozenLake-v1", &[], Space::Discrete { n: 16 });
    let artifact = artifact(lake, spec, policy);
    let mut configuration = configured(Algorithm::Ppo);
    configuration.policy.hidden = vec![1];
    configuration.policy.shared_trunk = true;
    let knowledge = Knowledge::of(&artifact, &configuration, Some(&learnt)).unwrap();
    for (state, place) in knowledge.places.iter().enumerate() {
        let expected = 3.0 * (state as f64 + 0.5) - 1.0;
        assert!((place.value.unwrap() - expected).abs() < 1e-5);
        assert_eq!(place.preferred(), None, "all are as probable");
    }
    // What lies behind the policy is no such critic.
    configuration.policy.shared_trunk = false;
    assert!(Knowledge::of(&artifact, &configuration, Some(&learnt)).is_err());
}

#[test]
fn what_cannot_be_listed_is_refused_with_what_can() {
    let refused = |environment: EnvironmentSpec, spec: PolicySpec| {
        let parameters = vec![0.0; spec.layout().len()];
        let artifact = artifact(environment, spec, parameters);
        let error = Knowledge::of(&artifact, &configured(Algorithm::Ppo), None).unwrap_err();
        error.to_string()
    };
    let box_ = Space::bounded(&[-1.0; 4], &[1.0; 4]);
    let pole = environment("CartPole-v1", &[], box_.clone());
    let spec = PolicySpec::new(&box_, &Space::Discrete { n: 4 }, vec![], Activation::Tanh).unwrap();
    assert!(refused(pole, spec).contains("FrozenLake-v1 and GridWorld-v0 as grids"));

    let lake = environment("FrozenLake-v1", &[], Space::Discrete { n: 16 });
    let spec = PolicySpec::new(&lake.observation, &box_, vec![], Activation::Tanh).unwrap();
    assert!(refused(lake.clone(), spec).contains("policies with discrete actions"));

    let layer = Recurrent {
        cell: RecurrentCell::Lstm,
        units: 2,
    };
    let spec = PolicySpec::new(&lake.observation, &lake.action, vec![], Activation::Tanh)
        .and_then(|spec| spec.with_recurrent(Some(layer)))
        .unwrap();
    assert!(refused(lake, spec).contains("policies without a recurrent layer"));
}
