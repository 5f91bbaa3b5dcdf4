//! What tests of several algorithms share: networks and rounds out of golden files, and rounds as the
//! intake hands them over.

use std::time::Instant;

use bytes::Bytes;
use rookery_common::policy::spec::{Activation, Encoder, Head};
use rookery_common::policy::{ImageEncoder, PolicySpec, Recurrent};
use rookery_common::unroll::{
    LeaseEpoch, PolicyVersion, ShardId, Unroll, UnrollIndex, UnrollKey, UnrollShape,
};
use serde::Deserialize;

use super::RoundContext;
use super::round::{Round, ShardColumns};
use crate::experience::rollout::CompleteRound;
use crate::logs::Distributions;
use crate::networks::{ActorCriticSpec, CriticSpec};
use crate::progress::StageClock;

pub(crate) const TOLERANCE: f64 = 1e-5;

/// A network of a golden file.
#[derive(Deserialize)]
pub(crate) struct NetworkCase {
    width: usize,
    num_categories: usize,
    encoder: String,
    /// Of the encoder that is called `image`.
    image: Option<ImageEncoder>,
    hidden: Vec<usize>,
    #[serde(default)]
    recurrent: Option<Recurrent>,
    activation: String,
    head: String,
    outputs: usize,
    critic: String,
}

impl NetworkCase {
    pub(crate) fn spec(&self) -> ActorCriticSpec {
        ActorCriticSpec {
            policy: PolicySpec {
                encoder: match self.encoder.as_str() {
                    "identity" => Encoder::Identity { width: self.width },
                    "one_hot" => Encoder::OneHot {
                        n: self.num_categories,
                    },
                    "image" => Encoder::Image(self.image.clone().unwrap()),
                    other => panic!("encoder {other}"),
                },
                hidden: self.hidden.clone(),
                activation: match self.activation.as_str() {
                    "tanh" => Activation::Tanh,
                    "relu" => Activation::Relu,
                    other => panic!("activation {other}"),
                },
                recurrent: self.recurrent,
                action_mask: false,
                head: match self.head.as_str() {
                    "categorical" => Head::Categorical {
                        num_actions: self.outputs,
                    },
                    "diagonal_gaussian" => Head::DiagonalGaussian {
                        dimension: self.outputs,
                    },
                    other => panic!("head {other}"),
                },
            },
            initial_log_std: 0.0,
            critic: match self.critic.as_str() {
                "shared" => CriticSpec::Shared,
                "separate" => CriticSpec::Separate(self.hidden.clone()),
                other => panic!("critic {other}"),
            },
        }
    }
}

/// A shard of a golden file.
#[derive(Deserialize)]
pub(crate) struct ShardCase {
    num_envs: usize,
    rewards: Vec<f32>,
    terminated: Vec<bool>,
    truncated: Vec<bool>,
}

/// The columns of all shards of a round.
pub(crate) fn shard_columns(shards: &[ShardCase]) -> Vec<ShardColumns> {
    let mut next_env = 0;
    let mut columns = Vec::with_capacity(shards.len());
    for shard in shards {
        columns.push(ShardColumns {
            first_env: next_env,
            num_envs: shard.num_envs,
            discontinuous: false,
            rewards: shard.rewards.clone(),
            terminated: shard.terminated.clone(),
            truncated: shard.truncated.clone(),
        });
        next_env += shard.num_envs;
    }
    columns
}

/// A round of a golden file.
#[derive(Deserialize)]
pub(crate) struct RoundCase {
    shards: Vec<ShardCase>,
    observations: Vec<f32>,
    actions: Vec<f32>,
    log_probs: Vec<f32>,
}

impl RoundCase {
    pub(crate) fn round(&self) -> Round {
        Round {
            shards: shard_columns(&self.shards),
            observations: self.observations.clone(),
            initial_states: Vec::new(),
            actions: self.actions.clone(),
            log_probs: self.log_probs.clone(),
        }
    }
}

pub(crate) fn close(name: &str, got: f64, expected: f64) {
    assert!(
        (got - expected).abs() < TOLERANCE,
        "{name}: {got}, expected {expected}"
    );
}

pub(crate) fn all_close(name: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        close(
            &format!("{name}[{index}]"),
            f64::from(*got),
            f64::from(*expected),
        );
    }
}

/// Both absent, or both there and close.
pub(crate) fn optionally_close(name: &str, got: Option<f64>, expected: Option<f64>) {
    assert_eq!(got.is_some(), expected.is_some(), "{name}");
    if let (Some(got), Some(expected)) = (got, expected) {
        close(name, got, expected);
    }
}

/// Unrolls of these shards, each discontinuous or not: one environment with one-value observations walks
/// three steps without an end, choosing action 0 for reward 1.
pub(crate) fn walking_round(index: u64, unrolls: &[(u32, bool)]) -> (CompleteRound, UnrollShape) {
    let shape = UnrollShape {
        unroll_length: 3,
        envs_per_shard: 1,
        observation_width: 1,
        action_width: 1,
        state_width: 0,
        frames: None,
    };
    let unroll = |&(shard, discontinuous): &(u32, bool)| Unroll {
        key: UnrollKey {
            run_id: "walk".to_owned(),
            shard: ShardId(shard),
            lease_epoch: LeaseEpoch(1),
            index: UnrollIndex(index),
        },
        version: PolicyVersion::default(),
        observation: vec![0.0, 1.0, 2.0, 3.0].into(),
        initial_state: Vec::new().into(),
        action: vec![0.0; 3].into(),
        log_prob: vec![-0.7; 3].into(),
        reward: vec![1.0; 3].into(),
        terminated: vec![0; 3].into(),
        truncated: vec![0; 3].into(),
        final_index: Vec::new().into(),
        final_observation: Vec::<f32>::new().into(),
        episode_index: Vec::new().into(),
        episode_return: Vec::new().into(),
        episode_length: Vec::new().into(),
        state_after: Bytes::new(),
        discontinuity: discontinuous.then(|| "spoilt".to_owned()),
    };
    let round = CompleteRound {
        unrolls: unrolls.iter().map(unroll).collect(),
        admitted_at: vec![Instant::now(); unrolls.len()],
        places: Vec::new(),
    };
    (round, shape)
}

/// The context of round `index`, without normalisation.
pub(crate) fn context<'a>(
    shape: UnrollShape,
    index: u64,
    clock: &'a mut StageClock,
    distributions: &'a mut Distributions,
) -> RoundContext<'a> {
    RoundContext {
        shape,
        index,
        env_steps: index * 2 * shape.num_steps() as u64,
        progress: 0.0,
        normaliser: None,
        reward_scaler: None,
        clock,
        distributions,
    }
}
