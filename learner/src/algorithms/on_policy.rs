//! What algorithms with a policy and a state-value function make of a round of their own
//! experience: columns on the device, values, advantages and returns; and what they go on from.

use std::collections::BTreeMap;

use rookery_common::policy::spec::Head;
use tch::{Device, Tensor};
use thiserror::Error;

use super::likelihood::Likelihood;
use super::returns::{ReturnsError, explained_variance, generalised_advantages};
use super::round::{Round, RoundError};
use super::sequences::Lanes;
use super::vtrace::{VtraceClips, VtraceOptions, vtrace};
use super::{AlgorithmError, AlgorithmState};
use crate::logs::Distributions;
use crate::networks::{ActorCritic, NetworkError};
use crate::optimiser::Adam;
use crate::tensors::to_host;

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
    /// Of a recurrent policy: the environments as sequences.
    pub lanes: Option<Lanes>,
    /// Indices `[R, choices]`, i64, or vectors `[R, dimension]`, f32.
    pub actions: Tensor,
    /// Values of the observations that were acted on.
    pub values: Vec<f32>,
    /// Advantages.
    pub advantages: Vec<f32>,
    /// The targets of the values.
    pub returns: Vec<f32>,
    /// Share of the returns' variance that the values explain.
    pub explained_variance: Option<f64>,
    /// With V-trace.
    pub clips: Option<VtraceClips>,
}

/// How advantages and returns are estimated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Estimator {
    /// Generalised advantage estimation: every step counts as the present policy's.
    Gae {
        /// Discount factor of a step.
        discount: f64,
        /// Factor of the trace.
        lambda: f64,
    },
    /// V-trace: what follows a step counts as far as the present policy would have done it.
    Vtrace(VtraceOptions),
}

/// Checks a round and brings its observations to the network's device, encoded, all `O` rows.
///
/// # Errors
/// Where the round does not fit the network.
pub fn encoded(network: &ActorCritic, round: &Round) -> Result<Tensor, OnPolicyError> {
    let policy = &network.spec().policy;
    round.check(
        policy.observation_width(),
        policy.action_width(),
        policy.state_width(),
    )?;
    Ok(network.encode(&round.observations)?)
}

impl RoundBatch {
    /// Computes the values, advantages and returns of a round, whose observations are on the device as
    /// [`encoded`] brings them there, with the network as it is.
    ///
    /// # Errors
    /// Where the round does not fit the network.
    pub fn new(
        network: &ActorCritic,
        round: &Round,
        inputs: Tensor,
        estimator: Estimator,
    ) -> Result<Self, OnPolicyError> {
        let policy = &network.spec().policy;
        let state_width = policy.state_width();
        if state_width > 0 && matches!(estimator, Estimator::Vtrace(_)) {
            return Err(OnPolicyError::Option {
                option: "advantage",
                expected: "gae, because the policy is recurrent",
                got: "vtrace".to_owned(),
            });
        }
        let actions = action_rows(&policy.head, &round.actions, network.device())?;
        let lanes = (state_width > 0).then(|| Lanes::new(round, state_width, network.device()));
        let all_values = match &lanes {
            None => network.values(&inputs),
            Some(lanes) => lanes.values(network, round, &inputs),
        };
        let rows = round.rows_of_steps();

        let mut advantages = vec![0.0; rows.len()];
        let mut returns = advantages.clone();
        let clips = match estimator {
            Estimator::Gae { discount, lambda } => {
                round.for_each_shard(&all_values, |shard, steps| {
                    let (discount, lambda) = (discount as f32, lambda as f32);
                    let advantages = &mut advantages[steps.clone()];
                    generalised_advantages(shard, discount, lambda, advantages, &mut returns[steps])
                })?;
                None
            }
            Estimator::Vtrace(options) => {
                let at_steps = Tensor::from_slice(&rows).to_device(network.device());
                let (outputs, _) = network.forward(&inputs.index_select(0, &at_steps), None);
                let likelihood = Likelihood::new(&outputs, &actions);
                let log_ratios = log_ratios(&likelihood, round);
                let traced = Traced::new(round, &all_values, &log_ratios, &options)?;
                (advantages, returns) = (traced.advantages, traced.targets);
                Some(traced.clips)
            }
        };
        let values: Vec<f32> = rows.iter().map(|row| all_values[*row as usize]).collect();
        Ok(Self {
            inputs,
            rows,
            lanes,
            actions,
            explained_variance: explained_variance(&values, &returns),
            values,
            advantages,
            returns,
            clips,
        })
    }

    /// Notes how advantages and returns are distributed.
    pub fn describe(&self, distributions: &mut Distributions) {
        distributions.note("advantages", &self.advantages);
        distributions.note("returns", &self.returns);
    }
}

/// What V-trace makes of a round, one element for each of its steps.
#[derive(Debug)]
pub struct Traced {
    /// Advantages.
    pub advantages: Vec<f32>,
    /// The targets of the values.
    pub targets: Vec<f32>,
    /// How often weights were clipped.
    pub clips: VtraceClips,
}

impl Traced {
    /// Every shard of `round` by itself, with the values of all its observations and the ratios of
    /// its steps.
    ///
    /// # Errors
    /// Where a shard's columns do not make a timeline.
    pub fn new(
        round: &Round,
        values: &[f32],
        log_ratios: &[f32],
        options: &VtraceOptions,
    ) -> Result<Self, ReturnsError> {
        let mut targets = vec![0.0; log_ratios.len()];
        let mut advantages = targets.clone();
        let mut clips = VtraceClips::default();
        round.for_each_shard(values, |shard, steps| {
            clips.add(vtrace(
                shard,
                &log_ratios[steps.clone()],
                options,
                &mut targets[steps.clone()],
                &mut advantages[steps],
            )?);
            Ok(())
        })?;
        Ok(Self {
            advantages,
            targets,
            clips,
        })
    }
}

/// `log` of the ratio of each step's action, the present policy to the one that acted, `[R]` on the host.
#[must_use]
pub fn log_ratios(likelihood: &Likelihood, round: &Round) -> Vec<f32> {
    to_host(&likelihood.negative_log_probs)
        .iter()
        .zip(&round.log_probs)
        .map(|(negative, theirs)| -negative - theirs)
        .collect()
}

/// A column of actions on `device`: indices `[R, choices]`, i64, or vectors `[R, dimension]`, f32.
///
/// # Errors
/// [`OnPolicyError::Action`] at the first that is none of the head's.
pub fn action_rows(head: &Head, actions: &[f32], device: Device) -> Result<Tensor, OnPolicyError> {
    let width = head.action_width();
    let rows = |column: Tensor| column.view([-1, width as i64]).to_device(device);
    let Some(choices) = head.choices() else {
        return Ok(rows(Tensor::from_slice(actions)));
    };
    let mut indices = Vec::with_capacity(actions.len());
    for (place, (&action, &num_actions)) in actions.iter().zip(choices.iter().cycle()).enumerate() {
        if !(action >= 0.0 && action.fract() == 0.0 && (action as usize) < num_actions) {
            return Err(OnPolicyError::Action {
                step: place / width,
                action,
                num_actions,
            });
        }
        indices.push(action as i64);
    }
    Ok(rows(Tensor::from_slice(&indices)))
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
