//! What one round does to the table.

use serde::Serialize;

use super::config::Method;
use super::loss::{expected_value, greedy_value, move_towards};
use super::{Tabular, config};
use crate::algorithms::on_policy::OnPolicyError;
use crate::algorithms::round::Round;
use crate::networks::NetworkError;

/// What one update did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TabularStatistics {
    /// Mean size of the temporal-difference error; none where no value was moved.
    pub td_error: Option<f64>,
    /// Mean of all values of the table.
    pub q_mean: f64,
    /// The largest of them.
    pub q_max: f64,
    /// Probability with which the collected actions were random.
    pub epsilon: f64,
    /// Share of its error by which a value moves.
    pub learning_rate: f64,
    /// Values moved. Each is a gradient step of a function that is linear in a one-hot observation.
    pub gradient_steps: u64,
}

/// A step whose next action is not known yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pending {
    pub(super) state: usize,
    pub(super) action: usize,
    pub(super) reward: f32,
}

/// How an episode goes on after a step.
enum Next {
    /// It does not.
    Terminated,
    /// It was cut off in this state.
    Truncated(usize),
    /// In this state.
    State(usize),
}

/// The size of the errors of one update.
#[derive(Default)]
struct Errors {
    sum: f64,
    count: u64,
}

impl Tabular {
    /// Moves a value for each step of a round, by shard, then time, then environment.
    ///
    /// SARSA moves a value once the next action is known: the last step of an unroll waits for the
    /// first action of the shard's next one. No action follows a truncated step; there the mean over
    /// the actions that could have does (T1).
    ///
    /// `env_steps` and `progress` say how much of the run is done, for schedules.
    ///
    /// # Errors
    /// [`OnPolicyError`] where the round does not fit the table; nothing changes.
    ///
    /// # Source
    /// Sutton and Barto 2018, sections 6.4 and 6.5. There every action is chosen with the newest
    /// table; here those of one round are chosen with the version that was published before it. With
    /// one environment and unrolls of one step it is the textbook's.
    pub fn update(
        &mut self,
        round: &Round,
        env_steps: u64,
        progress: f64,
    ) -> Result<TabularStatistics, OnPolicyError> {
        round.check(1, 1, 0)?;
        let states = self.states(&round.observations)?;
        let actions = self.actions(&round.actions)?;
        let config = &self.config;
        let learning_rate = config
            .learning_rate_schedule
            .at(config.learning_rate, progress);
        let epsilon = config::epsilon(config, env_steps);

        let mut errors = Errors::default();
        let mut finals = states[round.num_timeline_rows()..].iter();
        let (mut first_step, mut first_row) = (0, 0);
        for shard in &round.shards {
            if shard.discontinuous {
                self.pending[shard.first_env..][..shard.num_envs].fill(None);
            }
            for step in 0..shard.num_steps() {
                let row = first_row + step;
                let cut_off_in = shard.truncated[step].then(|| finals.next()).flatten();
                let next = match cut_off_in {
                    _ if shard.terminated[step] => Next::Terminated,
                    Some(&state) => Next::Truncated(state),
                    None => Next::State(states[row + shard.num_envs]),
                };
                let taken = Pending {
                    state: states[row],
                    action: actions[first_step + step],
                    reward: shard.rewards[step],
                };
                let env = shard.first_env + step % shard.num_envs;
                self.step(env, taken, &next, epsilon, learning_rate, &mut errors);
            }
            first_step += shard.num_steps();
            first_row += shard.num_steps() + shard.num_envs;
        }
        let (q_mean, q_max) = self.table.summary();
        Ok(TabularStatistics {
            td_error: (errors.count > 0).then(|| errors.sum / errors.count as f64),
            q_mean,
            q_max,
            epsilon,
            learning_rate,
            gradient_steps: errors.count,
        })
    }

    /// What one step of one environment teaches.
    fn step(
        &mut self,
        env: usize,
        taken: Pending,
        next: &Next,
        epsilon: f64,
        learning_rate: f64,
        errors: &mut Errors,
    ) {
        let discount = self.config.discount;
        let mut learn = |table: &mut _, of: Pending, following: f64| {
            let target = f64::from(of.reward) + discount * following;
            let error = move_towards(table, (of.state, of.action), target, learning_rate);
            errors.sum += error.abs();
            errors.count += 1;
        };
        let table = &mut self.table;
        match self.method {
            Method::QLearning => {
                let following = match *next {
                    Next::Terminated => 0.0,
                    Next::Truncated(state) | Next::State(state) => greedy_value(table, state),
                };
                learn(table, taken, following);
            }
            Method::Sarsa => {
                if let Some(before) = self.pending[env].take() {
                    let following = table.value(taken.state, taken.action);
                    learn(table, before, following);
                }
                match *next {
                    Next::Terminated => learn(table, taken, 0.0),
                    Next::Truncated(state) => {
                        let following = expected_value(table, state, epsilon);
                        learn(table, taken, following);
                    }
                    Next::State(_) => self.pending[env] = Some(taken),
                }
            }
        }
    }

    pub(super) fn states(&self, observations: &[f32]) -> Result<Vec<usize>, NetworkError> {
        let num_categories = self.table.num_states();
        let state = |(row, &index): (usize, &f32)| {
            whole_below(index, num_categories).ok_or_else(|| NetworkError::Category {
                row,
                index: index.to_string(),
                num_categories,
            })
        };
        observations.iter().enumerate().map(state).collect()
    }

    pub(super) fn actions(&self, actions: &[f32]) -> Result<Vec<usize>, OnPolicyError> {
        let num_actions = self.table.num_actions();
        let action = |(step, &action): (usize, &f32)| {
            whole_below(action, num_actions).ok_or(OnPolicyError::Action {
                step,
                action,
                num_actions,
            })
        };
        actions.iter().enumerate().map(action).collect()
    }
}

/// `value` as an index, where it is a whole number below `n`.
fn whole_below(value: f32, n: usize) -> Option<usize> {
    (value >= 0.0 && value.fract() == 0.0 && (value as usize) < n).then_some(value as usize)
}
