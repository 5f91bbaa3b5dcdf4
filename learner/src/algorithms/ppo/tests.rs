//! Golden vectors and invariants of a whole update.

mod recurrent;
mod steps;

use super::config::loss_options;
use crate::logs::Distributions;
use rookery_common::configuration::Annealing;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use super::loss::surrogate_columns;
use super::*;
use crate::algorithms::likelihood::Likelihood;
use crate::algorithms::policy_gradient::normalised;
use crate::algorithms::round::{Round, RoundError};
use crate::algorithms::testing::{
    NetworkCase, ShardCase, all_close, close, optionally_close, shard_columns,
};
use crate::networks::{NetworkError, OutputGradient, Outputs};
use crate::tensors::to_host;

#[derive(Deserialize)]
struct Options {
    name: String,
    #[serde(flatten)]
    network: NetworkCase,
    normalise: bool,
    clip_range: f64,
    value_clip_range: Option<f64>,
    value_coefficient: f64,
    entropy_coefficient: f64,
    max_gradient_norm: f64,
    learning_rate: f64,
    adam_beta1: f64,
    adam_beta2: f64,
    adam_epsilon: f64,
    initial: Vec<f32>,
    observations: Vec<f32>,
    actions: Vec<f32>,
    log_probs: Vec<f32>,
}

/// The columns of a round, brought to the device in both steps.
fn columns(ppo: &Ppo, round: &Round) -> (update::Columns, update::Estimates) {
    let inputs = on_policy::encoded(&ppo.network, round).unwrap();
    ppo.columns(round, inputs, &mut Distributions::default())
        .unwrap()
}

impl Options {
    fn config(&self) -> PpoConfiguration {
        PpoConfiguration {
            learning_rate: self.learning_rate,
            learning_rate_schedule: Annealing::Constant,
            adam_epsilon: self.adam_epsilon,
            adam_beta1: self.adam_beta1,
            adam_beta2: self.adam_beta2,
            minibatch_size: 1_000_000,
            clip_range: self.clip_range,
            value_clip_range: self.value_clip_range,
            value_coefficient: self.value_coefficient,
            entropy_coefficient: self.entropy_coefficient,
            max_gradient_norm: Some(self.max_gradient_norm),
            advantage_normalisation: if self.normalise {
                AdvantageNormalisation::Minibatch
            } else {
                AdvantageNormalisation::None
            },
            ..PpoConfiguration::default()
        }
    }

    fn ppo(&self, config: PpoConfiguration) -> Ppo {
        let mut ppo = Ppo::new(self.network.spec(), config, 1, Device::Cpu).unwrap();
        ppo.network.import(&self.initial).unwrap();
        ppo
    }
}

#[derive(Deserialize)]
struct UpdateCase {
    #[serde(flatten)]
    options: Options,
    discount: f64,
    gae_lambda: f64,
    /// Where advantages are V-trace's.
    vtrace_rho_clip: Option<f64>,
    vtrace_c_clip: Option<f64>,
    epochs: u32,
    shards: Vec<ShardCase>,
    #[serde(default)]
    initial_states: Vec<f32>,
    expected: ExpectedUpdate,
}

#[derive(Deserialize)]
struct ExpectedUpdate {
    policy_loss: f64,
    value_loss: f64,
    entropy: f64,
    approximate_kl: f64,
    clip_fraction: f64,
    gradient_norm: f64,
    explained_variance: f64,
    rho_clip_fraction: Option<f64>,
    c_clip_fraction: Option<f64>,
    parameters: Vec<f32>,
}

fn update_cases() -> Vec<UpdateCase> {
    serde_json::from_str(include_str!("../../../tests/golden/ppo_updates.json")).unwrap()
}

impl UpdateCase {
    fn config(&self) -> PpoConfiguration {
        PpoConfiguration {
            discount: self.discount,
            gae_lambda: self.gae_lambda,
            advantage: match self.vtrace_rho_clip {
                None => AdvantageEstimator::Gae,
                Some(_) => AdvantageEstimator::Vtrace,
            },
            vtrace_rho_clip: self.vtrace_rho_clip.unwrap_or(1.0),
            vtrace_c_clip: self.vtrace_c_clip.unwrap_or(1.0),
            epochs: self.epochs,
            ..self.options.config()
        }
    }

    fn round(&self) -> Round {
        Round {
            shards: shard_columns(&self.shards),
            observations: self.options.observations.clone(),
            initial_states: self.initial_states.clone(),
            actions: self.options.actions.clone(),
            log_probs: self.options.log_probs.clone(),
        }
    }

    /// Holds an update of this round against PyTorch's.
    fn check(&self, ppo: &Ppo, got: &PpoStatistics) {
        let (name, expected) = (&self.options.name, &self.expected);
        for (what, got, expected) in [
            ("policy_loss", got.policy_loss, expected.policy_loss),
            ("value_loss", got.value_loss, expected.value_loss),
            ("entropy", got.entropy, expected.entropy),
            (
                "approximate_kl",
                got.approximate_kl,
                expected.approximate_kl,
            ),
            ("clip_fraction", got.clip_fraction, expected.clip_fraction),
            ("gradient_norm", got.gradient_norm, expected.gradient_norm),
            (
                "explained_variance",
                got.explained_variance.unwrap(),
                expected.explained_variance,
            ),
        ] {
            close(&format!("{name}, {what}"), got, expected);
        }
        for (what, got, expected) in [
            ("rho", got.rho_clip_fraction, expected.rho_clip_fraction),
            ("c", got.c_clip_fraction, expected.c_clip_fraction),
        ] {
            optionally_close(&format!("{name}, {what}"), got, expected);
        }
        all_close(name, &ppo.network.export(), &expected.parameters);
        assert_eq!(got.gradient_steps, u64::from(self.epochs));
    }
}

#[test]
fn t1_t2_t12_a_whole_update_agrees_with_pytorch() {
    agree_with_pytorch(update_cases());
}

#[test]
fn t7_t8_t9_a_whole_update_on_advantages_of_vtrace_agrees_with_pytorch() {
    let cases = include_str!("../../../tests/golden/ppo_vtrace_updates.json");
    let cases: Vec<UpdateCase> = serde_json::from_str(cases).unwrap();
    assert!(cases.iter().all(|case| case.vtrace_rho_clip.is_some()));
    agree_with_pytorch(cases);
}

fn agree_with_pytorch(cases: Vec<UpdateCase>) {
    for case in cases {
        let mut ppo = case.options.ppo(case.config());
        let got = ppo
            .update(&case.round(), 0.0, 0, &mut Distributions::default())
            .unwrap();
        case.check(&ppo, &got);
    }
}

fn actions(ppo: &Ppo, actions: &[f32]) -> Tensor {
    let head = &ppo.network.spec().policy.head;
    on_policy::action_rows(head, actions, Device::Cpu).unwrap()
}

/// A round whose log-probabilities are those of the network's own forward pass.
fn on_policy(ppo: &Ppo, case: &UpdateCase) -> Round {
    let mut round = case.round();
    let inputs = ppo.network.encode(&round.observations).unwrap();
    let (outputs, _) = ppo.network.forward(&inputs, None);
    let rows = Tensor::from_slice(&round.rows_of_steps());
    let outputs = Outputs {
        policy: outputs.policy.index_select(0, &rows),
        ..outputs
    };
    let actions = actions(ppo, &round.actions);
    let negative = Likelihood::new(&outputs, &actions).negative_log_probs;
    round.log_probs = to_host(&negative.neg());
    round
}

#[test]
fn t24_the_ratio_of_the_first_minibatch_is_one() {
    for case in update_cases() {
        let mut ppo = case.options.ppo(PpoConfiguration {
            epochs: 1,
            ..case.config()
        });
        let round = on_policy(&ppo, &case);
        let statistics = ppo
            .update(&round, 0.0, 0, &mut Distributions::default())
            .unwrap();
        // The log-probabilities come from one pass over all rows. On some processors libtorch's
        // products of matrices round a row differently in another batch, and that is all that may
        // be left here.
        let log_ratio = statistics.initial_log_ratio;
        assert!(log_ratio < 1e-6, "{}: {log_ratio}", case.options.name);
        assert!(statistics.approximate_kl.abs() < 1e-6);
        assert_eq!(statistics.clip_fraction, 0.0);
    }
}

#[test]
fn every_step_is_in_one_minibatch_of_each_epoch() {
    let case = &update_cases()[0];
    let ppo = case.options.ppo(PpoConfiguration {
        minibatch_size: 4,
        ..case.config()
    });
    let round = case.round();
    let (columns, _) = columns(&ppo, &round);
    let order: Vec<i64> = (0..round.num_steps() as i64).rev().collect();
    let minibatches = ppo.minibatches(&columns, &order, 0.2);
    let sizes: Vec<i64> = minibatches.iter().map(|m| m.inputs.size()[0]).collect();
    assert_eq!(sizes, [4, 4, 4, 4, 1]);
    let drawn: Vec<f32> = minibatches
        .iter()
        .flat_map(|m| to_host(&m.negative_log_probs.neg()))
        .collect();
    let expected: Vec<f32> = round.log_probs.iter().rev().copied().collect();
    assert_eq!(drawn, expected);
    // Each row still stands beside its own observation.
    let rows = round.rows_of_steps();
    for (minibatch, steps) in minibatches.iter().zip(order.chunks(4)) {
        for (row, step) in to_host(&minibatch.inputs).chunks(3).zip(steps) {
            let at = rows[*step as usize] as usize * 3;
            assert_eq!(row, &round.observations[at..at + 3]);
        }
    }
}

#[test]
fn t34_an_update_is_a_function_of_state_round_progress_and_version() {
    let case = &update_cases()[0];
    let config = PpoConfiguration {
        minibatch_size: 5,
        ..case.config()
    };
    let round = case.round();
    let mut reference = case.options.ppo(config.clone());
    reference
        .update(&round, 0.0, 0, &mut Distributions::default())
        .unwrap();
    let state = reference.state();
    reference
        .update(&round, 0.5, 1, &mut Distributions::default())
        .unwrap();

    // Another start, whose parameters the state overwrites.
    let mut resumed =
        Ppo::new(case.options.network.spec(), config.clone(), 1, Device::Cpu).unwrap();
    resumed.restore(&state).unwrap();
    resumed
        .update(&round, 0.5, 1, &mut Distributions::default())
        .unwrap();
    assert_eq!(resumed.state(), reference.state());

    resumed.restore(&state).unwrap();
    resumed
        .update(&round, 0.5, 2, &mut Distributions::default())
        .unwrap();
    assert_ne!(
        resumed.state(),
        reference.state(),
        "the version decides the order"
    );
}

#[test]
fn t20_schedules_follow_progress() {
    let case = &update_cases()[0];
    let config = PpoConfiguration {
        learning_rate_schedule: Annealing::Linear,
        clip_range_schedule: Annealing::Linear,
        ..case.config()
    };
    let mut ppo = case.options.ppo(config.clone());
    let statistics = ppo
        .update(&case.round(), 0.25, 0, &mut Distributions::default())
        .unwrap();
    assert_eq!(statistics.learning_rate, 0.75 * config.learning_rate);
    assert_eq!(statistics.clip_range, 0.75 * config.clip_range);

    let before = ppo.state();
    ppo.update(&case.round(), 1.0, 1, &mut Distributions::default())
        .unwrap();
    assert_eq!(
        ppo.network.export(),
        before.array(AlgorithmState::PARAMETERS).unwrap(),
        "a step size of zero moves nothing"
    );
    assert_ne!(ppo.state(), before);
}

#[test]
fn an_update_stops_before_the_step_whose_divergence_is_over_the_target() {
    let case = &update_cases()[0];
    let run = |target_kl| {
        let mut ppo = case.options.ppo(PpoConfiguration {
            target_kl,
            ..case.config()
        });
        ppo.update(&case.round(), 0.0, 0, &mut Distributions::default())
            .unwrap()
    };
    let first = run(Some(1e-9));
    assert_eq!((first.gradient_steps, first.stopped_early), (0, true));
    // One evaluation, so its mean is what the target is compared to.
    let divergence = first.approximate_kl;
    let all = run(None);
    assert_eq!((all.gradient_steps, all.stopped_early), (3, false));
    assert!(run(Some(divergence / 1.5 * 1.01)).gradient_steps > 0);
    assert_eq!(run(Some(divergence / 1.5 * 0.99)).gradient_steps, 0);
}

#[test]
fn a_gradient_that_is_not_finite_moves_nothing_and_is_counted() {
    let case = &update_cases()[0];
    let mut ppo = case.options.ppo(case.config());
    let mut round = case.round();
    round.shards[0].rewards[0] = f32::INFINITY;
    let before = ppo.state();
    let statistics = ppo
        .update(&round, 0.0, 0, &mut Distributions::default())
        .unwrap();
    assert_eq!(
        (statistics.gradient_steps, statistics.skipped_steps),
        (0, 3)
    );
    assert_eq!(ppo.state(), before);
}

#[test]
fn what_does_not_fit_is_refused_before_anything_changes() {
    let cases = update_cases();
    let case = &cases[0];
    let mut ppo = case.options.ppo(case.config());
    let before = ppo.state();

    let mut round = case.round();
    round.actions[3] = 3.0;
    let error = OnPolicyError::Action {
        step: 3,
        action: 3.0,
        num_actions: 3,
    };
    assert_eq!(
        ppo.update(&round, 0.0, 0, &mut Distributions::default()),
        Err(error)
    );

    let mut round = case.round();
    round.observations.pop();
    assert!(matches!(
        ppo.update(&round, 0.0, 0, &mut Distributions::default()),
        Err(OnPolicyError::Round(RoundError::Column { .. }))
    ));

    assert!(matches!(
        ppo.values(&[0.0; 4]),
        Err(OnPolicyError::Network(_))
    ));
    let damaged = |array: &str, values: Option<Vec<f32>>| {
        let mut state = before.clone();
        match values {
            Some(values) => state.arrays.insert(array.to_owned(), values),
            None => state.arrays.remove(array),
        };
        state
    };
    assert!(matches!(
        ppo.restore(&damaged("parameters", Some(vec![0.0]))),
        Err(AlgorithmError::Network(_))
    ));
    assert!(matches!(
        ppo.restore(&damaged("adam.second_moment", Some(Vec::new()))),
        Err(AlgorithmError::Adam(_))
    ));
    assert!(matches!(
        ppo.restore(&damaged("adam.first_moment", None)),
        Err(AlgorithmError::Missing(name)) if name == "adam.first_moment"
    ));
    assert_eq!(ppo.state(), before);

    let one_hot = &cases[2];
    let mut ppo = one_hot.options.ppo(one_hot.config());
    let mut round = one_hot.round();
    round.observations[2] = 5.0;
    assert!(matches!(
        ppo.update(&round, 0.0, 0, &mut Distributions::default()),
        Err(OnPolicyError::Network(NetworkError::Category {
            row: 2,
            num_categories: 5,
            ..
        }))
    ));

    let config = PpoConfiguration {
        minibatch_size: 0,
        ..PpoConfiguration::default()
    };
    assert!(matches!(
        Ppo::new(case.options.network.spec(), config, 1, Device::Cpu),
        Err(OnPolicyError::Option {
            option: "minibatch_size",
            ..
        })
    ));
}

#[test]
fn the_policy_comes_first_in_the_flat_parameters() {
    for case in update_cases() {
        let ppo = case.options.ppo(case.config());
        let slots = ppo.network.layout().tensors();
        let first_of_critic = slots
            .iter()
            .position(|slot| slot.name().starts_with("critic."))
            .unwrap();
        let (policy, critic) = slots.split_at(first_of_critic);
        assert_eq!(policy, ppo.network.spec().policy.layout().tensors());
        assert!(critic.iter().all(|slot| slot.name().starts_with("critic.")));
        let prefix = critic[0].offset();
        assert_eq!(ppo.policy_parameters(), ppo.network.export()[..prefix]);
        assert_eq!(prefix, ppo.network.num_policy_parameters());
    }
}

#[test]
fn t23_a_new_policy_is_nearly_uniform_and_does_not_depend_on_libtorchs_generator() {
    let options = &update_cases()[0].options;
    let new = |seed| {
        tch::manual_seed(seed);
        Ppo::new(
            options.network.spec(),
            PpoConfiguration::default(),
            7,
            Device::Cpu,
        )
        .unwrap()
    };
    let ppo = new(1);
    assert_eq!(ppo.state(), new(2).state());
    let inputs = ppo.network.encode(&options.observations).unwrap();
    let logits = to_host(&ppo.network.forward(&inputs, None).0.policy);
    assert!(logits.iter().all(|logit| logit.abs() < 0.05), "{logits:?}");
    assert!(logits.iter().any(|logit| *logit != 0.0));
}

#[test]
fn t18_normalised_advantages_have_mean_zero_and_deviation_one_in_each_minibatch() {
    let advantages = Tensor::from_slice(&[1.0_f32, 2.0, 6.0, -4.0, 0.0, 10.0, 5.0]);
    for columns in surrogate_columns(&advantages, 3, 0.2, true).iter().take(2) {
        let advantages = &columns.weights * -3.0;
        assert!(advantages.mean(None::<Kind>).double_value(&[]).abs() < 1e-6);
        assert!((advantages.std(true).double_value(&[]) - 1.0).abs() < 1e-6);
    }
    let last = surrogate_columns(&advantages, 3, 0.2, true).pop().unwrap();
    assert_eq!(to_host(&last.weights), [0.0], "one row has no deviation");
    let untouched = surrogate_columns(&advantages, 3, 0.2, false).pop().unwrap();
    assert_eq!(to_host(&untouched.weights), [-5.0]);
    let all = normalised(&advantages);
    assert!((all.std(true).double_value(&[]) - 1.0).abs() < 1e-6);
}

#[test]
fn values_in_chunks_are_values_of_each_row() {
    let options = &update_cases()[0].options;
    let ppo = options.ppo(options.config());
    let rows = 5000;
    let observations: Vec<f32> = (0..3 * rows).map(|i| (i as f32 * 0.37).sin()).collect();
    let values = ppo.values(&observations).unwrap();
    assert_eq!(values.len(), rows);
    for row in [0, 1023, 1024, 4999] {
        let alone = ppo.values(&observations[3 * row..3 * row + 3]).unwrap()[0];
        close("value", f64::from(values[row]), f64::from(alone));
    }
}

#[test]
fn a_gradient_in_blocks_is_that_of_all_rows() {
    let options = &update_cases()[0].options;
    let ppo = options.ppo(options.config());
    let rows = 2500;
    let observations: Vec<f32> = (0..3 * rows).map(|i| (i as f32 * 0.37).sin()).collect();
    let inputs = ppo.network.encode(&observations).unwrap();
    let gradient = |inputs: &Tensor| {
        let (outputs, tape) = ppo.network.forward(inputs, None);
        // That of the sum of all squares.
        let gradient = OutputGradient {
            policy: outputs.policy * 2.0,
            log_std: outputs.log_std.map(|log_std| log_std * 0.0),
            values: outputs.values * 2.0,
        };
        ppo.network.gradient(&tape, gradient).copy()
    };
    let whole = gradient(&inputs);
    let parts: Vec<Tensor> = inputs.split(500, 0).iter().map(gradient).collect();
    let sum = Tensor::stack(&parts, 0).sum_dim_intlist(0, false, None::<Kind>);
    let scale = sum.abs().max().double_value(&[]);
    let distance = (&whole - &sum).abs().max().double_value(&[]);
    assert!(distance < 1e-5 * scale, "{distance} of {scale}");
    assert!(scale > 0.0);
}
