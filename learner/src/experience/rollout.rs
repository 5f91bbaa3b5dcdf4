//! On-policy experience: unrolls wait for the others of their round, and a complete round becomes
//! columns in the one order from which everything is computed.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use rookery_common::normaliser::{ObservationNormaliser, RewardScaler, RunningMoments};
use rookery_common::unroll::{Unroll, UnrollIndex, UnrollShape};

use crate::algorithms::round::{Round, ShardColumns};

/// Unrolls of rounds that are not complete. Admission bounds it: of each shard it holds one unroll
/// for each round that collection may run ahead.
#[derive(Debug)]
pub struct RoundAssembler {
    num_shards: usize,
    rounds: BTreeMap<UnrollIndex, PartialRound>,
}

#[derive(Debug)]
struct PartialRound {
    unrolls: Vec<Option<(Unroll, Instant)>>,
    missing: usize,
}

/// One unroll of every shard, ordered by shard.
#[derive(Debug)]
pub struct CompleteRound {
    /// The unrolls.
    pub unrolls: Vec<Unroll>,
    /// When each was admitted.
    pub admitted_at: Vec<Instant>,
}

impl RoundAssembler {
    /// Waits for rounds of `num_shards` unrolls.
    #[must_use]
    pub fn new(num_shards: usize) -> Self {
        Self {
            num_shards,
            rounds: BTreeMap::new(),
        }
    }

    /// Keeps an admitted unroll. Admission has made sure that it comes once.
    pub fn insert(&mut self, unroll: Unroll) {
        let num_shards = self.num_shards;
        let round = self
            .rounds
            .entry(unroll.key.index)
            .or_insert_with(|| PartialRound {
                unrolls: (0..num_shards).map(|_| None).collect(),
                missing: num_shards,
            });
        let slot = &mut round.unrolls[unroll.key.shard.0 as usize];
        debug_assert!(slot.is_none(), "admission lets each unroll in once");
        round.missing -= 1;
        *slot = Some((unroll, Instant::now()));
    }

    /// Hands out round `index` once it is complete.
    pub fn take(&mut self, index: UnrollIndex) -> Option<CompleteRound> {
        if self.rounds.get(&index)?.missing > 0 {
            return None;
        }
        let round = self.rounds.remove(&index)?;
        let (unrolls, admitted_at) = round.unrolls.into_iter().flatten().unzip();
        Some(CompleteRound {
            unrolls,
            admitted_at,
        })
    }
}

impl CompleteRound {
    /// The environments of every shard after the round.
    #[must_use]
    pub fn states(&self) -> Vec<Bytes> {
        self.unrolls
            .iter()
            .map(|unroll| unroll.state_after.clone())
            .collect()
    }

    /// Number of unrolls whose environments had been reset before them, because their state could
    /// not be restored: what such a round holds depends on who collected it.
    #[must_use]
    pub fn num_discontinuous(&self) -> u64 {
        self.unrolls
            .iter()
            .filter(|unroll| unroll.discontinuous)
            .count() as u64
    }

    /// Adds the round's raw observations to `moments`: each shard's rows `0..T`, those that were
    /// acted on, shard after shard (T14).
    pub fn observe(&self, shape: &UnrollShape, moments: &mut RunningMoments) {
        let mut rows = vec![0.0; self.unrolls.first().map_or(0, |u| u.observation.len())];
        let acted_on = shape.num_steps() * shape.observation_width;
        for unroll in &self.unrolls {
            unroll.observation.copy_to(&mut rows);
            moments.update(&rows[..acted_on]);
        }
    }

    /// Makes the columns that an update consumes.
    ///
    /// Observations are normalised as they were when the actions were chosen, so that the policy
    /// that is updated sees what the one that acted saw; rewards by the returns up to and with
    /// this round (T15).
    #[must_use]
    pub fn columns(
        &self,
        shape: &UnrollShape,
        normaliser: Option<&ObservationNormaliser>,
        reward_scaler: Option<&mut RewardScaler>,
    ) -> Round {
        let shards = self.unrolls.len();
        let steps = shape.num_steps();
        let width = shape.observation_width;
        let timeline = (steps + shape.envs_per_shard) * width;
        let num_finals: usize = self
            .unrolls
            .iter()
            .map(|unroll| unroll.final_observation.len())
            .sum();

        let mut round = Round {
            shards: Vec::with_capacity(shards),
            observations: vec![0.0; shards * timeline + num_finals],
            initial_states: Vec::with_capacity(shards * shape.envs_per_shard * shape.state_width),
            actions: vec![0.0; shards * steps * shape.action_width],
            log_probs: vec![0.0; shards * steps],
        };
        let mut next_final = shards * timeline;
        for (shard, unroll) in self.unrolls.iter().enumerate() {
            unroll
                .observation
                .copy_to(&mut round.observations[shard * timeline..(shard + 1) * timeline]);
            let finals = next_final..next_final + unroll.final_observation.len();
            next_final = finals.end;
            unroll
                .final_observation
                .copy_to(&mut round.observations[finals]);
            round.initial_states.extend(unroll.initial_state.iter());
            let width = steps * shape.action_width;
            unroll
                .action
                .copy_to(&mut round.actions[shard * width..(shard + 1) * width]);
            unroll
                .log_prob
                .copy_to(&mut round.log_probs[shard * steps..(shard + 1) * steps]);
            round.shards.push(ShardColumns {
                num_envs: shape.envs_per_shard,
                rewards: unroll.reward.to_vec(),
                terminated: unroll.terminated.iter().map(|flag| flag == 1).collect(),
                // A step that did both bootstraps with zero (T1).
                truncated: unroll
                    .terminated
                    .iter()
                    .zip(unroll.truncated.iter())
                    .map(|(terminated, truncated)| truncated == 1 && terminated == 0)
                    .collect(),
            });
        }
        if let Some(normaliser) = normaliser {
            normaliser.apply(&mut round.observations);
        }
        if let Some(scaler) = reward_scaler {
            scale_rewards(scaler, &mut round.shards, &self.unrolls, shape);
        }
        round
    }
}

/// Updates the return statistics with every shard in order, then scales every reward by them.
fn scale_rewards(
    scaler: &mut RewardScaler,
    columns: &mut [ShardColumns],
    unrolls: &[Unroll],
    shape: &UnrollShape,
) {
    for (shard, unroll) in unrolls.iter().enumerate() {
        let ended: Vec<bool> = unroll
            .terminated
            .iter()
            .zip(unroll.truncated.iter())
            .map(|(terminated, truncated)| terminated | truncated == 1)
            .collect();
        let first_env = shard * shape.envs_per_shard;
        if unroll.discontinuous {
            scaler.reset(first_env, shape.envs_per_shard);
        }
        scaler.update(
            first_env,
            shape.envs_per_shard,
            &columns[shard].rewards,
            &ended,
        );
    }
    for shard in columns {
        scaler.scale(&mut shard.rewards);
    }
}
