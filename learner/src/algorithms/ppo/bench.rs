//! Where the time of an update goes; for the benchmark, no part of training.

use std::time::{Duration, Instant};

use rookery_common::policy::spec::{Activation, Encoder, Head};
use rookery_common::policy::{PolicySpec, Recurrent};
use rookery_common::seeds::{Purpose, Random};
use tch::Device;

use super::config::loss_options;
use super::loss::losses;
use super::{Ppo, PpoConfiguration};
use crate::algorithms::on_policy::{OnPolicyError, encoded};
use crate::algorithms::round::{Round, ShardColumns};
use crate::logs::Distributions;
use crate::networks::{ActorCriticSpec, CriticSpec};

/// Environments of each synthetic shard.
const NUM_ENVS: usize = 8;

/// What [`bench_update`] measures.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What the policy sees, and what the critic has for itself unless they share it.
    pub encoder: Encoder,
    /// What the policy draws.
    pub head: Head,
    /// Hidden layers, of the policy and of a separate critic.
    pub hidden: Vec<usize>,
    /// What remembers; the critic shares all layers then.
    pub recurrent: Option<Recurrent>,
    /// Whether the critic shares the policy's layers.
    pub shared_trunk: bool,
    /// Rows of a gradient step.
    pub minibatch_size: usize,
    /// Gradient steps an epoch.
    pub num_minibatches: usize,
    /// Epochs an update.
    pub epochs: u32,
    /// Updates measured, after one that is not.
    pub repetitions: u32,
    /// Where to compute.
    pub device: Device,
}

/// Mean times of one update and, in a second pass that stops after each phase, of the phases of one
/// gradient step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// One update, all included.
    pub update: Duration,
    /// One gradient step, with its share of all else that an update does.
    pub gradient_step: Duration,
    /// Values, advantages and the copies to the device, once an update.
    pub columns: Duration,
    /// Putting the rows of one epoch in order, a gradient step's share.
    pub gather: Duration,
    /// Forward pass of a minibatch.
    pub forward: Duration,
    /// Losses of a minibatch.
    pub loss: Duration,
    /// Backward pass of a minibatch.
    pub backward: Duration,
    /// Clip and optimiser.
    pub optimiser: Duration,
}

/// Measures updates on a synthetic round. On a GPU the phases of a step are those of its launches.
///
/// # Errors
/// [`OnPolicyError`] where the setting makes no valid options.
pub fn bench_update(setting: &Setting) -> Result<Timings, OnPolicyError> {
    let config = PpoConfiguration {
        minibatch_size: setting.minibatch_size,
        epochs: setting.epochs,
        entropy_coefficient: 0.01,
        ..PpoConfiguration::default()
    };
    let spec = ActorCriticSpec {
        policy: PolicySpec {
            encoder: setting.encoder.clone(),
            hidden: setting.hidden.clone(),
            activation: Activation::Tanh,
            recurrent: setting.recurrent,
            action_mask: false,
            head: setting.head.clone(),
        },
        initial_log_std: 0.0,
        critic: if setting.shared_trunk || setting.recurrent.is_some() {
            CriticSpec::Shared
        } else {
            CriticSpec::Separate(setting.hidden.clone())
        },
    };
    let round = synthetic_round(setting, spec.policy.observation_width());
    let mut ppo = Ppo::new(spec, config, 1, setting.device)?;
    let mut timings = Timings::default();
    for repetition in 0..=setting.repetitions {
        let start = Instant::now();
        ppo.update(
            &round,
            0.0,
            u64::from(repetition),
            &mut Distributions::default(),
        )?;
        if repetition > 0 {
            timings.update += start.elapsed();
        }
    }
    timings.update /= setting.repetitions;
    timings.gradient_step = timings.update / setting.epochs / setting.num_minibatches as u32;
    phases(&mut ppo, &round, setting, &mut timings)?;
    Ok(timings)
}

/// The phases of an update in the order in which [`Ppo::update`] runs them.
fn phases(
    ppo: &mut Ppo,
    round: &Round,
    setting: &Setting,
    timings: &mut Timings,
) -> Result<(), OnPolicyError> {
    let options = loss_options(&ppo.config, 0.0);
    for repetition in 0..setting.repetitions {
        let mut clock = Instant::now();
        let mut lap = |total: &mut Duration| {
            *total += clock.elapsed();
            clock = Instant::now();
        };
        let inputs = encoded(&ppo.network, round)?;
        let (columns, _) = ppo.columns(round, inputs, &mut Distributions::default())?;
        lap(&mut timings.columns);
        let mut random = Random::derive(1, Purpose::Minibatch, u64::from(repetition), 0);
        let order = ppo.order(&columns, &mut random);
        let minibatches = ppo.minibatches(&columns, &order, 0.2);
        lap(&mut timings.gather);
        for minibatch in minibatches {
            let (outputs, tape) = ppo
                .network
                .forward(&minibatch.inputs, minibatch.sequences.as_ref());
            lap(&mut timings.forward);
            let losses = losses(&outputs, &minibatch, &options);
            lap(&mut timings.loss);
            let gradient = ppo.network.gradient(&tape, losses.gradient);
            lap(&mut timings.backward);
            ppo.adam.step(ppo.network.parameters_mut(), gradient, 1e-4);
            lap(&mut timings.optimiser);
        }
    }
    timings.columns /= setting.repetitions;
    for phase in [
        &mut timings.gather,
        &mut timings.forward,
        &mut timings.loss,
        &mut timings.backward,
        &mut timings.optimiser,
    ] {
        *phase /= setting.repetitions * setting.num_minibatches as u32;
    }
    Ok(())
}

fn synthetic_round(setting: &Setting, observation_width: usize) -> Round {
    let num_steps = setting.minibatch_size * setting.num_minibatches;
    let num_envs = NUM_ENVS.min(num_steps);
    let mut random = Random::derive(1, Purpose::Episode, 0, 0);
    let mut normals = |count: usize| -> Vec<f32> {
        (0..count)
            .map(|_| random.standard_normals().0 as f32)
            .collect()
    };
    let (actions, log_prob) = if let Some(num_actions) = setting.head.num_actions() {
        let actions = (0..num_steps)
            .map(|step| (step * 7 % num_actions) as f32)
            .collect();
        (actions, -(num_actions as f32).ln())
    } else {
        let dimension = setting.head.action_width();
        (normals(num_steps * dimension), -1.4 * dimension as f32)
    };
    let state_width = setting
        .recurrent
        .map_or(0, |recurrent| recurrent.state_width());
    Round {
        initial_states: vec![0.0; num_envs * state_width],
        observations: normals((num_steps + num_envs) * observation_width),
        actions,
        log_probs: vec![log_prob; num_steps],
        shards: vec![ShardColumns {
            first_env: 0,
            discontinuous: false,
            num_envs,
            rewards: normals(num_steps),
            terminated: (0..num_steps).map(|step| step % 97 == 0).collect(),
            truncated: vec![false; num_steps],
        }],
    }
}
