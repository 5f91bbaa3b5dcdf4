//! One unroll of a shard, from its first action to its last step.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytemuck::Pod;
use bytes::Bytes;
use rookery_common::policy::{Inputs, Policy, Workspace};
use rookery_common::seeds::{Purpose, Random};
use rookery_common::unroll::{
    Column, ObservationLog, PolicyVersion, ShardId, Unroll, bounded_discontinuity,
};

use super::{ActingPolicy, CollectionPlan, Work};
use crate::environments::EnvironmentFault;
use crate::metrics::{Stage, StageTotals};
use crate::shard::{EpisodeRecord, FinalObservations, StepRow};

/// Environment steps between two that are timed: the clock costs as much as a small batch.
const TIMED_STEP_INTERVAL: usize = 16;

/// An unroll that is being collected.
pub(super) struct Collection {
    pub(super) id: ShardId,
    version: u64,
    held: Arc<ActingPolicy>,
    /// What acts, where that is not what is held.
    noisy: Option<Policy>,
    /// Steps that have been taken.
    taken: usize,
    initial_state: Vec<f32>,
    log: ObservationLog,
    seen: Vec<f32>,
    next: Vec<f32>,
    action: Vec<f32>,
    log_prob: Vec<f32>,
    reward: Vec<f32>,
    terminated: Vec<u8>,
    truncated: Vec<u8>,
    finals: FinalObservations,
    final_index: Vec<u32>,
    episodes: Vec<EpisodeRecord>,
    episode_index: Vec<u32>,
    times: StageTimes,
    /// The time that the policy took for the step in work, if that is timed.
    forward: Option<Duration>,
}

impl Collection {
    pub(super) fn new(
        id: ShardId,
        version: u64,
        held: Arc<ActingPolicy>,
        work: &mut Work,
        plan: &CollectionPlan,
    ) -> Self {
        let shape = &plan.shape;
        let num_steps = shape.num_steps();
        let mut seen = vec![0.0; shape.envs_per_shard * shape.observation_width];
        work.shard.observe(&mut seen);
        Self {
            id,
            version,
            noisy: held.noisy(plan.seed, id, work.next_index),
            held,
            taken: 0,
            initial_state: work.shard.recurrent_state().to_vec(),
            log: ObservationLog::new(shape),
            next: seen.clone(),
            seen,
            action: vec![0.0; num_steps * shape.action_width],
            log_prob: vec![0.0; num_steps],
            reward: vec![0.0; num_steps],
            terminated: vec![0; num_steps],
            truncated: vec![0; num_steps],
            finals: FinalObservations::default(),
            final_index: Vec::new(),
            episodes: Vec::new(),
            episode_index: Vec::new(),
            times: StageTimes::default(),
            forward: None,
        }
    }

    /// Places of the step in work in columns of one value a step of an environment.
    fn steps(&self, work: &Work) -> Range<usize> {
        let num_envs = work.shard.num_envs();
        self.taken * num_envs..(self.taken + 1) * num_envs
    }

    /// Places of its actions.
    fn actions(&self, work: &Work) -> Range<usize> {
        let Range { start, end } = self.steps(work);
        let width = work.shard.spec().action.width();
        start * width..end * width
    }

    /// Chooses the actions of the next step, and has environments that are stepped elsewhere begin it.
    pub(super) fn act(
        &mut self,
        work: &mut Work,
        plan: &CollectionPlan,
        workspace: &mut Workspace,
    ) -> Result<(), EnvironmentFault> {
        let (steps, actions) = (self.steps(work), self.actions(work));
        let step = work.next_index.0 * plan.shape.unroll_length as u64 + self.taken as u64;
        let draw = self.held.acting.draw_of(step);
        let is_timed = self.taken.is_multiple_of(TIMED_STEP_INTERVAL);
        let since = is_timed.then(Instant::now);
        self.log.push(&self.seen)?;
        let policy = self.noisy.as_ref().unwrap_or(&self.held.policy);
        policy.act(
            workspace,
            self.held.acting.behaviour(self.id),
            Inputs {
                observations: &self.seen,
                state: work.shard.recurrent_state(),
            },
            |env| {
                let env = u64::from(work.first_env) + env as u64;
                Random::derive(plan.seed, Purpose::Action, env, draw)
            },
            &mut self.action[actions.clone()],
            &mut self.log_prob[steps],
        );
        self.forward = since.map(|since| since.elapsed());
        work.shard.begin_step(&self.action[actions])
    }

    /// Takes the step whose actions have been chosen.
    pub(super) fn step(&mut self, work: &mut Work) -> Result<(), EnvironmentFault> {
        let (steps, actions) = (self.steps(work), self.actions(work));
        let since = self.forward.map(|_| Instant::now());
        work.shard.step(
            &self.action[actions],
            StepRow {
                next_observations: &mut self.next,
                rewards: &mut self.reward[steps.clone()],
                terminated: &mut self.terminated[steps.clone()],
                truncated: &mut self.truncated[steps.clone()],
                finals: &mut self.finals,
                episodes: &mut self.episodes,
            },
        )?;
        self.log.push_finals(&self.finals.observations)?;
        self.finals.observations.clear();
        std::mem::swap(&mut self.seen, &mut self.next);
        let first = steps.start as u32;
        let envs = self.finals.envs.drain(..);
        self.final_index.extend(envs.map(|env| first + env));
        let ended = &self.episodes[self.episode_index.len()..];
        self.episode_index
            .extend(ended.iter().map(|episode| first + episode.env));
        if let (Some(forward), Some(since)) = (self.forward, since) {
            self.times.add(forward, since.elapsed());
        }
        self.taken += 1;
        Ok(())
    }

    /// The unroll, once all of its steps have been taken.
    pub(super) fn finish(
        mut self,
        work: &mut Work,
        plan: &CollectionPlan,
        times: &StageTotals,
    ) -> Result<Unroll, EnvironmentFault> {
        self.log.push(&self.seen)?;
        self.times.record(plan.shape.unroll_length, times);
        let (observation, final_observation) = self.log.finish();
        Ok(Unroll {
            key: work.next_key(&plan.run_id, self.id),
            version: PolicyVersion {
                learner_epoch: plan.learner_epoch,
                version: self.version,
            },
            observation,
            initial_state: self.initial_state.into(),
            action: self.action.into(),
            log_prob: self.log_prob.into(),
            reward: self.reward.into(),
            terminated: self.terminated.into(),
            truncated: self.truncated.into(),
            final_index: self.final_index.into(),
            final_observation,
            episode_index: self.episode_index.into(),
            episode_return: column(&self.episodes, |episode| episode.return_),
            episode_length: column(&self.episodes, |episode| episode.length),
            state_after: Bytes::from(work.shard.save()),
            discontinuity: work.discontinuity.take().map(bounded_discontinuity),
        })
    }
}

/// One field of every record.
fn column<T: Pod + Send>(episodes: &[EpisodeRecord], field: fn(&EpisodeRecord) -> T) -> Column<T> {
    episodes.iter().map(field).collect::<Vec<_>>().into()
}

/// Time of the steps that were timed.
#[derive(Default)]
struct StageTimes {
    forward: Duration,
    environment: Duration,
    timed_steps: u32,
}

impl StageTimes {
    fn add(&mut self, forward: Duration, environment: Duration) {
        self.forward += forward;
        self.environment += environment;
        self.timed_steps += 1;
    }

    /// Books the whole unroll's share, in proportion.
    fn record(&self, unroll_length: usize, totals: &StageTotals) {
        let scale = unroll_length as f64 / f64::from(self.timed_steps.max(1));
        totals.record(Stage::Forward, self.forward.mul_f64(scale));
        totals.record(Stage::Environment, self.environment.mul_f64(scale));
    }
}
