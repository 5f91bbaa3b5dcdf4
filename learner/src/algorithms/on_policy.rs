//! What algorithms with a policy and a state-value function make of a round of their own
//! experience: columns on the device, values, advantages and returns; and what they go on from.

use std::collections::BTreeMap;

use rookery_common::policy::spec::Head;
use tch::{Device, Tensor};
use thiserror::Error;

use super::returns::{ReturnsError, RewardColumns, explained_variance, generalised_advantages};
use super::round::{Round, RoundError};
use super::{AlgorithmError, AlgorithmState};
use crate::networks::{ActorCritic, NetworkError};
use crate::optimiser::Adam;

/// Why an on-policy algorithm refuses what it is given. Parameters and optimiser are as before.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum OnPolicyError {
    /// An option with which no update is possible.
    #[error("option `{option}` is {got}, it must be {expected}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What it may be, in words.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// The columns of the round do not belong together.
    #[error(transparent)]
    Round(#[from] RoundError),
    /// An action that the policy does not have.
    #[error("action {action} of step {step} is no whole number below {num_actions}")]
    Action {
        /// Row of the column of actions.
        step: usize,
        /// What the row holds.
        action: f32,
        /// Number of the policy's actions.
        num_actions: usize,
    },
    /// The network refuses observations or parameters.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A shard's columns do not make a timeline.
    #[error(transparent)]
    Returns(#[from] ReturnsError),
}

/// A round on the network's device, and what its critic makes of it; one element for each of the
/// `R` steps unless said otherwise.
#[derive(Debug)]
pub struct RoundBatch {
    /// Encoded observations, all `O` rows.
    pub inputs: Tensor,
    /// The row of `inputs` that each step has acted on.
    pub rows: Vec<i64>,
    /// Indices `[R]`, i64, or vectors `[R, dimension]`, f32.
    pub actions: Tensor,
    /// Values of the observations that were acted on.
    pub values: Vec<f32>,
    /// Generalised advantages.
    pub advantages: Vec<f32>,
    /// Advantage plus value: the target of the values.
    pub returns: Vec<f32>,
    /// Share of the returns' variance that the values explain.
    pub explained_variance: Option<f64>,
}

impl RoundBatch {
    /// Brings a round to the device and computes its values, advantages and returns with the
    /// network as it is.
    ///
    /// # Errors
    /// Where the round does not fit the network.
    pub fn new(
        network: &ActorCritic,
        round: &Round,
        discount: f64,
        gae_lambda: f64,
    ) -> Result<Self, OnPolicyError> {
        let policy = &network.spec().policy;
        round.check(policy.observation_width(), policy.action_width())?;
        let actions = action_rows(&policy.head, &round.actions, network.device())?;
        let inputs = network.encode(&round.observations)?;
        let all_values = network.values(&inputs);

        let num_steps = round.num_steps();
        let mut advantages = vec![0.0; num_steps];
        let mut returns = vec![0.0; num_steps];
        let mut values = Vec::with_capacity(num_steps);
        let (mut first_step, mut first_row) = (0, 0);
        let mut finals = all_values[round.num_timeline_rows()..].iter();
        for shard in &round.shards {
            let steps = first_step..first_step + shard.num_steps();
            let rows = first_row..first_row + shard.num_steps() + shard.num_envs;
            let final_values: Vec<(usize, f32)> = shard
                .truncated_steps()
                .zip(finals.by_ref().copied())
                .collect();
            let columns = RewardColumns {
                num_envs: shard.num_envs,
                rewards: &shard.rewards,
                terminated: &shard.terminated,
                truncated: &shard.truncated,
                values: &all_values[rows.clone()],
                final_values: &final_values,
            };
            generalised_advantages(
                &columns,
                discount as f32,
                gae_lambda as f32,
                &mut advantages[steps.clone()],
                &mut returns[steps.clone()],
            )?;
            values.extend_from_slice(&all_values[rows.start..rows.end - shard.num_envs]);
            (first_step, first_row) = (steps.end, rows.end);
        }
        Ok(Self {
            inputs,
            rows: round.rows_of_steps(),
            actions,
            explained_variance: explained_variance(&values, &returns),
            values,
            advantages,
            returns,
        })
    }
}

/// A column of actions on `device`: indices `[R]`, i64, or vectors `[R, dimension]`, f32.
///
/// # Errors
/// [`OnPolicyError::Action`] at the first that is none of the head's.
pub fn action_rows(head: &Head, actions: &[f32], device: Device) -> Result<Tensor, OnPolicyError> {
    let Some(num_actions) = head.num_actions() else {
        return Ok(Tensor::from_slice(actions)
            .view([-1, head.action_width() as i64])
            .to_device(device));
    };
    let mut indices = Vec::with_capacity(actions.len());
    for (step, &action) in actions.iter().enumerate() {
        if !(action >= 0.0 && action.fract() == 0.0 && (action as usize) < num_actions) {
            return Err(OnPolicyError::Action {
                step,
                action,
                num_actions,
            });
        }
        indices.push(action as i64);
    }
    Ok(Tensor::from_slice(&indices).to_device(device))
}

const ADAM: &str = "adam";

/// The state of a network and its optimiser. The parameters are the policy's, then the critic's.
#[must_use]
pub fn state(network: &ActorCritic, adam: &Adam) -> AlgorithmState {
    AlgorithmState {
        arrays: BTreeMap::from([(AlgorithmState::PARAMETERS.to_owned(), network.export())]),
        ..AlgorithmState::default()
    }
    .with_adam(ADAM, adam.state())
}

/// Puts network and optimiser where [`state`] has found them.
///
/// # Errors
/// Where the state is another network's; nothing changes.
pub fn restore(
    network: &mut ActorCritic,
    adam: &mut Adam,
    state: &AlgorithmState,
) -> Result<(), AlgorithmError> {
    let parameters = state.array(AlgorithmState::PARAMETERS)?;
    let (expected, got) = (network.num_parameters(), parameters.len());
    if expected != got {
        return Err(NetworkError::Parameters { expected, got }.into());
    }
    adam.restore(&state.adam(ADAM)?)?;
    network.import(parameters)?;
    Ok(())
}
