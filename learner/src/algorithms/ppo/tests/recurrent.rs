//! Golden vectors and invariants of updates of recurrent policies.

use rookery_common::policy::distribution::{Categorical, DiagonalGaussian};
use rookery_common::policy::forward::{Network, Scratch};
use rookery_common::policy::spec::{Activation, Encoder, Head};
use rookery_common::policy::{Inputs, Recurrent, RecurrentCell, TensorSlot};
use rookery_common::seeds::{Purpose, Random};
use serde::Deserialize;

use super::super::loss::losses;
use super::super::update::Columns;
use super::*;
use crate::algorithms::round::ShardColumns;
use crate::algorithms::sequences::Lanes;
use crate::logs::Distributions;
use crate::networks::CriticSpec;

#[derive(Deserialize)]
struct RecurrentCase {
    #[serde(flatten)]
    update: UpdateCase,
    /// Log-probabilities of the actions under the initial parameters.
    exact_log_probs: Vec<f32>,
    /// Values of all observations in their order, under the same.
    values: Vec<f32>,
    /// The gradient of the first step, before it is clipped.
    gradient: Vec<f32>,
}

fn cases() -> Vec<RecurrentCase> {
    serde_json::from_str(include_str!("../../../../tests/golden/ppo_recurrent.json")).unwrap()
}

impl RecurrentCase {
    fn name(&self) -> &str {
        &self.update.options.name
    }

    fn ppo(&self, change: impl FnOnce(&mut PpoConfiguration)) -> Ppo {
        let mut config = self.update.config();
        change(&mut config);
        self.update.options.ppo(config)
    }
}

#[test]
fn t17_a_whole_update_agrees_with_pytorch() {
    for case in cases() {
        let mut ppo = case.ppo(|_| {});
        let got = ppo
            .update(&case.update.round(), 0.0, 0, &mut Distributions::default())
            .unwrap();
        case.update.check(&ppo, &got);
    }
}

fn lanes(ppo: &Ppo, round: &Round) -> Lanes {
    let state_width = ppo.network.spec().policy.state_width();
    Lanes::new(round, state_width, Device::Cpu)
}

/// The minibatches of the first epoch.
fn minibatches(ppo: &Ppo, columns: &Columns) -> (Vec<i64>, Vec<loss::Minibatch>) {
    let mut random = Random::derive(1, Purpose::Minibatch, 0, 0);
    let order = ppo.order(columns, &mut random);
    let minibatches = ppo.minibatches(columns, &order, 0.2);
    (order, minibatches)
}

#[test]
fn t17_the_gradient_through_time_agrees_with_pytorchs() {
    for case in cases() {
        let ppo = case.ppo(|_| {});
        let (columns, _) = columns(&ppo, &case.update.round());
        let (_, minibatches) = minibatches(&ppo, &columns);
        let [minibatch] = &minibatches[..] else {
            panic!("the whole round is one minibatch")
        };
        let (outputs, tape) = ppo
            .network
            .forward(&minibatch.inputs, minibatch.sequences.as_ref());
        let loss = losses(&outputs, minibatch, &loss_options(&ppo.config, 0.0));
        let gradient = ppo.network.gradient(&tape, loss.gradient);
        all_close(case.name(), &to_host(&gradient), &case.gradient);
    }
}

/// Values of every observation: those of the last rows go on with the sequences, and those of final
/// observations branch off from the state that the truncated step left.
#[test]
fn t1_t17_values_bootstrap_from_the_states_that_belong_to_them() {
    for case in cases() {
        let ppo = case.ppo(|_| {});
        let round = case.update.round();
        let inputs = ppo.network.encode(&round.observations).unwrap();
        let values = lanes(&ppo, &round).values(&ppo.network, &round, &inputs);
        all_close(case.name(), &values, &case.values);
        let num_finals = values.len() - round.num_timeline_rows();
        assert!(num_finals > 0, "{}", case.name());
    }
}

/// One environment, one unit, three steps of which the second is truncated; by hand.
#[test]
fn t1_t17_the_value_of_a_final_observation_is_one_more_step_from_its_own_state() {
    let policy = PolicySpec {
        action_mask: false,
        encoder: Encoder::Identity { width: 1 },
        hidden: Vec::new(),
        activation: Activation::Tanh,
        recurrent: Some(Recurrent {
            cell: RecurrentCell::Gru,
            units: 1,
        }),
        head: Head::Categorical { num_actions: 2 },
    };
    let spec = ActorCriticSpec {
        policy,
        initial_log_std: 0.0,
        critic: CriticSpec::Shared,
    };
    let config = PpoConfiguration {
        minibatch_size: 3,
        ..PpoConfiguration::default()
    };
    let mut ppo = Ppo::new(spec, config, 1, Device::Cpu).unwrap();
    // weight_ih, bias_ih, weight_hh, bias_hh of r, z, n: without a reset, and halfway between the state
    // and a candidate that is the observation's tanh. Then the policy's head, and twice the unit.
    let parameters = [
        [0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    ];
    let head = [0.0, 0.0, 0.0, 0.0, 2.0, 0.0];
    ppo.network
        .import(&[parameters.as_flattened(), &head].concat())
        .unwrap();
    let round = Round {
        shards: vec![ShardColumns {
            first_env: 0,
            discontinuous: false,
            num_envs: 1,
            rewards: vec![0.0; 3],
            terminated: vec![false; 3],
            truncated: vec![false, true, false],
        }],
        // Four rows of the timeline, then the final observation.
        observations: vec![0.5, -0.25, 1.0, 0.75, 2.0],
        initial_states: vec![0.8],
        actions: vec![0.0; 3],
        log_probs: vec![0.5_f32.ln(); 3],
    };
    let half = |state: f32, observation: f32| 0.5 * state + 0.5 * observation.tanh();
    let first = half(0.8, 0.5);
    let second = half(first, -0.25);
    let third = half(0.0, 1.0);
    let last = half(third, 0.75);
    let following = half(second, 2.0);
    let expected = [first, second, third, last, following].map(|state| 2.0 * state);

    let inputs = ppo.network.encode(&round.observations).unwrap();
    let values = lanes(&ppo, &round).values(&ppo.network, &round, &inputs);
    all_close("values", &values, &expected);
    // Its advantage: the next value is the final observation's, and nothing is carried from behind.
    let (columns, _) = columns(&ppo, &round);
    let advantages = to_host(&columns.advantages);
    let discount = ppo.config.discount as f32;
    close(
        "advantage",
        f64::from(advantages[1]),
        f64::from(discount * expected[4] - expected[1]),
    );
}

/// What the actor's forward pass says of the actions of a round, one step after the other.
fn acted(ppo: &Ppo, round: &Round) -> Vec<f32> {
    let spec = &ppo.network.spec().policy;
    let parameters = ppo.network.export_policy();
    let network = Network::new(spec, &parameters).unwrap();
    let log_std = spec.layout().find("policy.log_std").map(TensorSlot::range);
    let (state_width, width) = (spec.state_width(), spec.observation_width());
    let mut states = round.initial_states.clone();
    let (mut first_row, mut first_env, mut log_probs) = (0, 0, Vec::new());
    for shard in &round.shards {
        let envs = first_env..first_env + shard.num_envs;
        let state = &mut states[envs.start * state_width..envs.end * state_width];
        let ended: Vec<bool> = shard.ended().collect();
        for (t, ended) in ended.chunks(shard.num_envs).enumerate() {
            let row = first_row + t * shard.num_envs;
            let observations = &round.observations[row * width..][..shard.num_envs * width];
            let mut outputs = vec![0.0; shard.num_envs * spec.head_width()];
            let inputs = Inputs {
                observations,
                state,
            };
            network.forward(&mut Scratch::default(), inputs, &mut outputs);
            for (env, outputs) in outputs.chunks(spec.head_width()).enumerate() {
                let width = spec.action_width();
                let action = &round.actions[log_probs.len() * width..][..width];
                log_probs.push(match &log_std {
                    None => Categorical::new(outputs).log_prob(action[0] as usize),
                    Some(range) => {
                        let log_std = &parameters[range.clone()];
                        DiagonalGaussian::new(log_std).log_prob(outputs, action)
                    }
                });
                if ended[env] {
                    state[env * state_width..(env + 1) * state_width].fill(0.0);
                }
            }
        }
        first_row += shard.num_steps() + shard.num_envs;
        first_env = envs.end;
    }
    log_probs
}

#[test]
fn t17_t24_the_ratio_to_what_the_actor_computed_is_one() {
    for case in cases() {
        for envs in [1, 2, 5] {
            let mut ppo = case.ppo(|config| {
                config.epochs = 1;
                config.minibatch_size = 5 * envs;
                // A minibatch of one step would have no deviation, but here they have five each.
                config.advantage_normalisation = AdvantageNormalisation::Minibatch;
            });
            let mut round = case.update.round();
            round.log_probs = acted(&ppo, &round);
            all_close(case.name(), &round.log_probs, &case.exact_log_probs);
            let statistics = ppo
                .update(&round, 0.0, 0, &mut Distributions::default())
                .unwrap();
            let log_ratio = statistics.initial_log_ratio;
            assert!(log_ratio < 1e-5, "{}: {log_ratio}", case.name());

            // Without the resets, or from another state, it is not.
            let mut endless = round.clone();
            for shard in &mut endless.shards {
                shard.terminated.fill(false);
            }
            let mut strange = round.clone();
            strange.initial_states.fill(0.3);
            for spoilt in [endless, strange] {
                let mut ppo = case.ppo(|config| config.epochs = 1);
                let statistics = ppo
                    .update(&spoilt, 0.0, 0, &mut Distributions::default())
                    .unwrap();
                assert!(statistics.initial_log_ratio > 1e-3, "{}", case.name());
            }
        }
    }
}

#[test]
fn t17_minibatches_are_whole_sequences_of_environments_in_a_new_order() {
    let case = &cases()[0];
    let ppo = case.ppo(|config| config.minibatch_size = 10);
    let round = case.update.round();
    let (columns, _) = columns(&ppo, &round);
    let (order, minibatches) = minibatches(&ppo, &columns);
    // Five environments of five steps: two, two and one.
    let sizes: Vec<i64> = minibatches.iter().map(|m| m.inputs.size()[0]).collect();
    assert_eq!(sizes, [10, 10, 5]);
    let mut once = order.clone();
    once.sort_unstable();
    assert_eq!(once, (0..25).collect::<Vec<i64>>());
    // Two environments in the first shard, three in the second: a step's successor is as far away.
    let mut seen = Vec::new();
    for steps in order.chunks(10) {
        let envs = steps.len() / 5;
        for (index, step) in steps.iter().enumerate() {
            let stride = if *step < 10 { 2 } else { 3 };
            if index >= envs {
                assert_eq!(*step, steps[index - envs] + stride);
            } else {
                seen.push(*step);
            }
        }
    }
    assert_ne!(seen, [0, 1, 10, 11, 12], "environments are shuffled");
    let mut random = Random::derive(1, Purpose::Minibatch, 1, 0);
    assert_ne!(ppo.order(&columns, &mut random), order);
    // Each row still stands beside its own observation.
    let rows = round.rows_of_steps();
    for (minibatch, steps) in minibatches.iter().zip(order.chunks(10)) {
        for (row, step) in to_host(&minibatch.inputs).chunks(3).zip(steps) {
            let at = rows[*step as usize] as usize * 3;
            assert_eq!(row, &round.observations[at..at + 3]);
        }
    }
}

#[test]
fn rounds_that_make_no_sequences_are_refused() {
    let case = &cases()[0];
    let mut ppo = case.ppo(|config| config.minibatch_size = 12);
    let error = ppo
        .update(&case.update.round(), 0.0, 0, &mut Distributions::default())
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a multiple of the steps of an unroll"),
        "{error}"
    );
    let mut ppo = case.ppo(|_| {});
    let mut round = case.update.round();
    round.initial_states.pop();
    assert!(matches!(
        ppo.update(&round, 0.0, 0, &mut Distributions::default()),
        Err(OnPolicyError::Round(RoundError::Column {
            column: "initial_states",
            ..
        }))
    ));
}
