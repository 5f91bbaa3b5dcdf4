//! Experience of one update: unrolls wait for the others of their round, and a complete round becomes
//! columns in the one order from which everything is computed.

use std::collections::BTreeMap;
use std::time::Instant;

use rookery_common::normaliser::{ObservationNormaliser, RewardScaler, RunningMoments};
use rookery_common::unroll::{Column, ShardId, Unroll, UnrollShape};

use crate::algorithms::round::{Round, ShardColumns};
use crate::logs::Distributions;
use crate::queue::Place;

/// An admitted unroll on its way to its update.
#[derive(Debug)]
pub struct QueuedUnroll {
    /// The update that consumes it.
    pub update: u64,
    /// The unroll.
    pub unroll: Unroll,
    /// When it was admitted.
    pub admitted_at: Instant,
    /// Its room in the queue, until it has been trained on.
    pub place: Place,
}

/// Unrolls of rounds that are not complete: what an update consumes is a round of its own. Admission
/// bounds it, and says for each unroll which round it belongs to: in a synchronous run the one of its
/// index, in an asynchronous one that of its turn.
#[derive(Debug)]
pub struct RoundAssembler {
    unrolls_per_round: usize,
    rounds: BTreeMap<u64, Vec<QueuedUnroll>>,
}

/// The unrolls of one update, ordered by shard and, where there are several of one, by index. In a
/// synchronous run there is exactly one of every shard.
#[derive(Debug)]
pub struct CompleteRound {
    /// The unrolls.
    pub unrolls: Vec<Unroll>,
    /// When each was admitted.
    pub admitted_at: Vec<Instant>,
    /// Their room in the queue.
    pub(crate) places: Vec<Place>,
}

impl RoundAssembler {
    /// Waits for rounds of this many unrolls.
    #[must_use]
    pub fn new(unrolls_per_round: usize) -> Self {
        Self {
            unrolls_per_round,
            rounds: BTreeMap::new(),
        }
    }

    /// Keeps an admitted unroll. Admission has made sure that it comes once.
    pub fn insert(&mut self, queued: QueuedUnroll) {
        let round = self.rounds.entry(queued.update).or_default();
        debug_assert!(
            round.len() < self.unrolls_per_round,
            "admission gives an update no more unrolls than it takes"
        );
        round.push(queued);
    }

    /// Hands out the round of an update once it is complete.
    pub fn take(&mut self, update: u64) -> Option<CompleteRound> {
        if self.rounds.get(&update)?.len() < self.unrolls_per_round {
            return None;
        }
        self.rounds.remove(&update).map(CompleteRound::new)
    }
}

impl CompleteRound {
    /// Orders the unrolls of an update.
    fn new(mut queued: Vec<QueuedUnroll>) -> Self {
        queued.sort_by_key(|queued| (queued.unroll.key.shard, queued.unroll.key.index));
        let mut round = Self {
            unrolls: Vec::with_capacity(queued.len()),
            admitted_at: Vec::with_capacity(queued.len()),
            places: Vec::with_capacity(queued.len()),
        };
        for queued in queued {
            round.unrolls.push(queued.unroll);
            round.admitted_at.push(queued.admitted_at);
            round.places.push(queued.place);
        }
        round
    }

    /// By how many versions each unroll trails `version`, which is to be updated (T10).
    pub fn policy_lags(&self, version: u64) -> impl Iterator<Item = u64> {
        self.unrolls
            .iter()
            .map(move |unroll| version.saturating_sub(unroll.version.version))
    }
}

impl CompleteRound {
    /// Shards whose environments had been reset before their unrolls, and why: what such a round holds
    /// depends on who collected it.
    pub fn discontinuities(&self) -> impl Iterator<Item = (ShardId, &str)> {
        self.unrolls
            .iter()
            .filter_map(|unroll| Some((unroll.key.shard, unroll.discontinuity.as_deref()?)))
    }

    /// Number of them.
    #[must_use]
    pub fn num_discontinuous(&self) -> u64 {
        self.discontinuities().count() as u64
    }

    /// Notes how actions and raw rewards are distributed.
    pub fn describe(&self, shape: &UnrollShape, distributions: &mut Distributions) {
        if !distributions.are_wanted() {
            return;
        }
        let actions: Vec<f32> = self.values(|unroll| &unroll.action);
        distributions.note_columns("actions", &actions, shape.action_width);
        distributions.note("rewards", &self.values(|unroll| &unroll.reward));
    }

    /// A column of all unrolls, one behind the other.
    fn values(&self, column: impl Fn(&Unroll) -> &Column<f32>) -> Vec<f32> {
        let columns = self.unrolls.iter().map(column);
        columns.flat_map(Column::iter).collect()
    }

    /// Adds the round's raw observations to `moments`: each shard's rows `0..T`, those that were
    /// acted on, shard after shard (T14).
    pub fn observe(&self, shape: &UnrollShape, moments: &mut RunningMoments) {
        let acted_on = shape.num_steps() * shape.observation_width;
        let bootstrap = shape.envs_per_shard * shape.observation_width;
        let mut rows = vec![0.0; acted_on + bootstrap];
        for unroll in &self.unrolls {
            unroll.copy_observations(shape, &mut rows);
            moments.update(&rows[..acted_on]);
        }
    }

    /// Makes the columns that an update consumes.
    ///
    /// Observations are normalised as `normaliser` says; rewards by the returns up to and with this
    /// round (T15).
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
            .map(|unroll| unroll.final_index.len() * width)
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
            let rows = shard * timeline..(shard + 1) * timeline;
            unroll.copy_observations(shape, &mut round.observations[rows]);
            let finals = next_final..next_final + unroll.final_index.len() * width;
            next_final = finals.end;
            unroll.copy_finals(shape, &mut round.observations[finals]);
            round.initial_states.extend(unroll.initial_state.iter());
            let width = steps * shape.action_width;
            unroll
                .action
                .copy_to(&mut round.actions[shard * width..(shard + 1) * width]);
            unroll
                .log_prob
                .copy_to(&mut round.log_probs[shard * steps..(shard + 1) * steps]);
            round.shards.push(ShardColumns {
                first_env: unroll.key.shard.0 as usize * shape.envs_per_shard,
                num_envs: shape.envs_per_shard,
                discontinuous: unroll.discontinuity.is_some(),
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
            scale_rewards(scaler, &mut round.shards, &self.unrolls);
        }
        round
    }
}

/// Updates the return statistics with every shard in order, then scales every reward by them.
fn scale_rewards(scaler: &mut RewardScaler, columns: &mut [ShardColumns], unrolls: &[Unroll]) {
    for (columns, unroll) in columns.iter().zip(unrolls) {
        let ended: Vec<bool> = unroll
            .terminated
            .iter()
            .zip(unroll.truncated.iter())
            .map(|(terminated, truncated)| terminated | truncated == 1)
            .collect();
        let (first_env, num_envs) = (columns.first_env, columns.num_envs);
        if columns.discontinuous {
            scaler.reset(first_env, num_envs);
        }
        scaler.update(first_env, num_envs, &columns.rewards, &ended);
    }
    for shard in columns {
        scaler.scale(&mut shard.rewards);
    }
}
