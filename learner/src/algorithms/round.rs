//! One round of on-policy experience, in the order in which everything is computed from it.

use std::ops::Range;

use thiserror::Error;

use super::returns::{ReturnsError, RewardColumns};

/// One shard's unroll, `T` steps of `B` environments; its columns are `[T, B]`, time-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardColumns {
    /// Its first environment, among all of the run: what an algorithm keeps of an environment goes by it.
    /// In an asynchronous run a round has no unroll of some shards and several of others.
    pub first_env: usize,
    /// Number of environments `B`.
    pub num_envs: usize,
    /// Whether the environments were reset before the first step, so that it continues nothing.
    pub discontinuous: bool,
    /// Reward of each step.
    pub rewards: Vec<f32>,
    /// Whether the step ended its episode for good.
    pub terminated: Vec<bool>,
    /// Whether the episode was cut off after the step; each such step has a final observation.
    pub truncated: Vec<bool>,
}

impl ShardColumns {
    /// Number of steps of all environments, `T * B`.
    pub fn num_steps(&self) -> usize {
        self.rewards.len()
    }

    /// Number of steps of each environment, `T`.
    pub fn unroll_length(&self) -> usize {
        self.rewards.len() / self.num_envs
    }

    /// Whether each step ended its episode, for good or not, `[T, B]`.
    pub fn ended(&self) -> impl Iterator<Item = bool> {
        let flags = self.terminated.iter().zip(&self.truncated);
        flags.map(|(terminated, truncated)| terminated | truncated)
    }

    /// The truncated steps, as `t * B + b`, ascending.
    pub fn truncated_steps(&self) -> impl Iterator<Item = usize> {
        self.truncated
            .iter()
            .enumerate()
            .filter_map(|(step, &cut)| cut.then_some(step))
    }
}

/// What one update consumes: unroll `k` of every shard.
///
/// # Order
/// Shards by index, time-major inside a shard. `R` is the number of steps of all shards. The
/// observations are `O` rows: first each shard's `T + 1` rows of `B`, shard after shard; then the
/// final observations of the truncated steps, in the order of the steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Round {
    /// The shards, by index.
    pub shards: Vec<ShardColumns>,
    /// Normalised observations, `[O, width]`.
    pub observations: Vec<f32>,
    /// Recurrent state of every environment before its first step, `[N, S]`: shard after shard.
    pub initial_states: Vec<f32>,
    /// Actions as the policy drew them, before any clipping, `[R, width]`; a discrete action is its
    /// index.
    pub actions: Vec<f32>,
    /// Logarithm of the probability (density) with which the action was drawn, `[R]`.
    pub log_probs: Vec<f32>,
}

/// Why a [`Round`] cannot be trained on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RoundError {
    /// Nothing to train on.
    #[error("the round has no steps")]
    Empty,
    /// A shard's rewards do not make whole rows of its environments.
    #[error(
        "shard {shard}: {rewards} rewards are no whole number of steps of {num_envs} environments"
    )]
    Ragged {
        /// Position of the shard in the round.
        shard: usize,
        /// Number of its rewards.
        rewards: usize,
        /// Number of its environments.
        num_envs: usize,
    },
    /// A shard's column has another length than its rewards.
    #[error("shard {shard}: column `{column}` has {got} elements, expected {expected}")]
    ShardColumn {
        /// Position of the shard in the round.
        shard: usize,
        /// Which column.
        column: &'static str,
        /// Number of its rewards.
        expected: usize,
        /// Elements that the column has.
        got: usize,
    },
    /// Environments whose sequences cannot be computed side by side.
    #[error(
        "shard {shard} has {got} steps of each environment and the first one {expected}; sequences \
         of a recurrent policy are equally long"
    )]
    Lengths {
        /// Position of the shard in the round.
        shard: usize,
        /// Steps of each environment of the first shard.
        expected: usize,
        /// Of this one.
        got: usize,
    },
    /// A column of the round has another length than its shards ask for.
    #[error("column `{column}` has {got} values, expected {expected}")]
    Column {
        /// Which column.
        column: &'static str,
        /// Values that the shards ask for.
        expected: usize,
        /// Values that it has.
        got: usize,
    },
}

impl Round {
    /// Number of steps of all shards, `R`.
    pub fn num_steps(&self) -> usize {
        self.shards.iter().map(ShardColumns::num_steps).sum()
    }

    /// Number of environments of all shards, `N`.
    pub fn num_envs(&self) -> usize {
        self.shards.iter().map(|shard| shard.num_envs).sum()
    }

    /// Number of rows of the shards' timelines, without the final observations.
    pub fn num_timeline_rows(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.num_steps() + shard.num_envs)
            .sum()
    }

    /// The row of the observations that each step has acted on, `R` elements.
    pub fn rows_of_steps(&self) -> Vec<i64> {
        let mut rows = Vec::with_capacity(self.num_steps());
        let mut first = 0;
        for shard in &self.shards {
            rows.extend((first..first + shard.num_steps()).map(|row| row as i64));
            first += shard.num_steps() + shard.num_envs;
        }
        rows
    }

    /// Hands each shard's columns of rewards and values to `estimate`, with the range of its steps among
    /// the round's, shard after shard.
    ///
    /// # Shapes
    /// `values` is `[O]`: those of all observations, in their order.
    ///
    /// # Errors
    /// The first of `estimate`.
    pub fn for_each_shard(
        &self,
        values: &[f32],
        mut estimate: impl FnMut(&RewardColumns<'_>, Range<usize>) -> Result<(), ReturnsError>,
    ) -> Result<(), ReturnsError> {
        let (mut first_step, mut first_row) = (0, 0);
        let mut finals = values[self.num_timeline_rows()..].iter();
        for shard in &self.shards {
            let steps = first_step..first_step + shard.num_steps();
            let rows = first_row..first_row + shard.num_steps() + shard.num_envs;
            (first_step, first_row) = (steps.end, rows.end);
            let final_values: Vec<(usize, f32)> = shard
                .truncated_steps()
                .zip(finals.by_ref().copied())
                .collect();
            let columns = RewardColumns {
                num_envs: shard.num_envs,
                rewards: &shard.rewards,
                terminated: &shard.terminated,
                truncated: &shard.truncated,
                values: &values[rows],
                final_values: &final_values,
            };
            estimate(&columns, steps)?;
        }
        Ok(())
    }

    /// Checks that all columns belong together, for rows of these widths.
    ///
    /// # Errors
    /// [`RoundError`], naming the first column that differs.
    pub fn check(
        &self,
        observation_width: usize,
        action_width: usize,
        state_width: usize,
    ) -> Result<(), RoundError> {
        let mut finals = 0;
        for (index, shard) in self.shards.iter().enumerate() {
            let (rewards, num_envs) = (shard.rewards.len(), shard.num_envs);
            if num_envs == 0 || !rewards.is_multiple_of(num_envs) {
                return Err(RoundError::Ragged {
                    shard: index,
                    rewards,
                    num_envs,
                });
            }
            for (column, got) in [
                ("terminated", shard.terminated.len()),
                ("truncated", shard.truncated.len()),
            ] {
                if got != rewards {
                    let expected = rewards;
                    return Err(RoundError::ShardColumn {
                        shard: index,
                        column,
                        expected,
                        got,
                    });
                }
            }
            finals += shard.truncated_steps().count();
        }
        let steps = self.num_steps();
        if steps == 0 {
            return Err(RoundError::Empty);
        }
        let lengths = || self.shards.iter().map(ShardColumns::unroll_length);
        if let Some(shard) = lengths().position(|length| Some(length) != lengths().next())
            && state_width > 0
        {
            return Err(RoundError::Lengths {
                shard,
                expected: self.shards[0].unroll_length(),
                got: self.shards[shard].unroll_length(),
            });
        }
        let observations = (self.num_timeline_rows() + finals) * observation_width;
        for (column, expected, got) in [
            ("observations", observations, self.observations.len()),
            (
                "initial_states",
                self.num_envs() * state_width,
                self.initial_states.len(),
            ),
            ("actions", steps * action_width, self.actions.len()),
            ("log_probs", steps, self.log_probs.len()),
        ] {
            if expected != got {
                return Err(RoundError::Column {
                    column,
                    expected,
                    got,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round() -> Round {
        let shard = |num_envs, truncated: &[bool]| ShardColumns {
            first_env: 0,
            num_envs,
            discontinuous: false,
            rewards: vec![0.0; truncated.len()],
            terminated: vec![false; truncated.len()],
            truncated: truncated.to_vec(),
        };
        Round {
            shards: vec![shard(2, &[false, true, false, false]), shard(1, &[true])],
            observations: vec![0.0; (6 + 2 + 2) * 3],
            initial_states: Vec::new(),
            actions: vec![0.0; 5 * 2],
            log_probs: vec![0.0; 5],
        }
    }

    #[test]
    fn steps_skip_the_bootstrap_rows() {
        assert_eq!(round().check(3, 2, 0), Ok(()));
        assert_eq!(round().rows_of_steps(), [0, 1, 2, 3, 6]);
        assert_eq!(round().num_timeline_rows(), 8);
    }

    #[test]
    fn a_column_that_does_not_fit_is_named() {
        let mut wrong = round();
        wrong.observations.pop();
        let error = RoundError::Column {
            column: "observations",
            expected: 30,
            got: 29,
        };
        assert_eq!(wrong.check(3, 2, 0), Err(error));

        let mut wrong = round();
        wrong.shards[1].terminated.clear();
        let error = RoundError::ShardColumn {
            shard: 1,
            column: "terminated",
            expected: 1,
            got: 0,
        };
        assert_eq!(wrong.check(3, 2, 0), Err(error));

        let mut wrong = round();
        wrong.shards[0].num_envs = 3;
        assert_eq!(
            wrong.check(3, 2, 0),
            Err(RoundError::Ragged {
                shard: 0,
                rewards: 4,
                num_envs: 3
            })
        );

        assert_eq!(Round::default().check(3, 2, 0), Err(RoundError::Empty));
    }

    #[test]
    fn sequences_are_equally_long_and_each_has_a_state() {
        let mut states = round();
        states.initial_states = vec![0.0; 3 * 4];
        let error = RoundError::Lengths {
            shard: 1,
            expected: 2,
            got: 1,
        };
        assert_eq!(states.check(3, 2, 4), Err(error));
        states.shards.truncate(1);
        states.observations.truncate((6 + 1) * 3);
        states.actions.truncate(4 * 2);
        states.log_probs.truncate(4);
        let error = RoundError::Column {
            column: "initial_states",
            expected: 8,
            got: 12,
        };
        assert_eq!(states.check(3, 2, 4), Err(error));
        states.initial_states.truncate(8);
        assert_eq!(states.check(3, 2, 4), Ok(()));
    }
}
