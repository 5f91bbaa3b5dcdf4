//! Advantages and returns over the timeline of one shard's unroll.
//!
//! `observation[0..=T]` has one row more than the steps; a step that ends an episode is followed
//! by the first observation of the next one. So what follows a step in its own episode is worth
//!
//! * nothing after a **terminated** step;
//! * the value of its final observation after a **truncated** one, which is not a row of the
//!   timeline and comes in a sparse list;
//! * the value of the next row otherwise, the last of which is the bootstrap.

use thiserror::Error;

/// Why advantages cannot be made of columns.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReturnsError {
    /// A column's length does not follow from the number of environments and of rewards.
    #[error("column `{column}` has {got} elements, expected {expected}")]
    Length {
        /// Which column.
        column: &'static str,
        /// Elements that the other columns ask for.
        expected: usize,
        /// Elements that it has.
        got: usize,
    },
    /// The rewards do not make whole rows of environments.
    #[error("{rewards} rewards are no whole number of steps of {num_envs} environments")]
    Ragged {
        /// Elements of the column of rewards.
        rewards: usize,
        /// Environments of the shard.
        num_envs: usize,
    },
    /// The list of final values is not that of the truncated steps.
    #[error(
        "the truncated steps and the values of final observations differ: expected a value for \
         step {expected:?} (t * B + b), got one for {got:?}; list them in ascending order, one \
         for each truncated step"
    )]
    FinalValue {
        /// The truncated step that comes next; none where there is no further one.
        expected: Option<usize>,
        /// The step that the list names; none where the list has ended.
        got: Option<usize>,
    },
}

/// One shard's unroll as far as returns are concerned; time-major, `T` steps of `B` environments.
#[derive(Clone, Copy, Debug)]
pub struct RewardColumns<'a> {
    /// Number of environments `B`.
    pub num_envs: usize,
    /// Reward of each step, `[T, B]`.
    pub rewards: &'a [f32],
    /// Whether the step ended its episode for good, `[T, B]`.
    pub terminated: &'a [bool],
    /// Whether the episode was cut off after the step, `[T, B]`.
    pub truncated: &'a [bool],
    /// Value of each observation, `[T + 1, B]`; the last row is the bootstrap.
    pub values: &'a [f32],
    /// `(t * B + b, value of the final observation)` of every truncated step, ascending.
    pub final_values: &'a [(usize, f32)],
}

impl RewardColumns<'_> {
    /// Checks that the columns belong together, and others of one element a step with them.
    ///
    /// # Errors
    /// [`ReturnsError`], naming the first that does not.
    pub(super) fn check(&self, others: &[(&'static str, usize)]) -> Result<(), ReturnsError> {
        let (steps, num_envs) = (self.rewards.len(), self.num_envs);
        if num_envs == 0 || !steps.is_multiple_of(num_envs) {
            return Err(ReturnsError::Ragged {
                rewards: steps,
                num_envs,
            });
        }
        let others = others.iter().map(|(column, got)| (*column, steps, *got));
        for (column, expected, got) in [
            ("terminated", steps, self.terminated.len()),
            ("truncated", steps, self.truncated.len()),
            ("values", steps + num_envs, self.values.len()),
        ]
        .into_iter()
        .chain(others)
        {
            if expected != got {
                return Err(ReturnsError::Length {
                    column,
                    expected,
                    got,
                });
            }
        }
        let mut listed = self.final_values.iter().map(|(step, _)| *step);
        let mut truncated = (0..steps).filter(|&step| self.truncated[step]);
        loop {
            match (truncated.next(), listed.next()) {
                (None, None) => return Ok(()),
                (expected, got) if expected == got => {}
                (expected, got) => return Err(ReturnsError::FinalValue { expected, got }),
            }
        }
    }
}

/// Writes the advantages and the returns (advantage plus value) of one shard's unroll.
///
/// With `δ[t] = reward[t] + discount * V(next of t) - V(observation[t])`,
/// `advantage[t] = δ[t] + discount * lambda * advantage[t + 1]`, the second term only where step
/// `t` ended no episode. A step that is both terminated and truncated counts as terminated.
///
/// # Shapes
/// `advantages` and `returns` are `[T, B]`, time-major like the columns.
///
/// # Errors
/// [`ReturnsError`] where the columns do not belong together.
///
/// # Source
/// Schulman, Moritz, Levine, Jordan and Abbeel 2016, "High-dimensional continuous control using
/// generalized advantage estimation", equation 16, cut at episode ends; the value after a
/// truncated step follows Pardo, Tavakoli, Levdik and Kormushev 2018, "Time limits in reinforcement
/// learning", equation 6.
pub fn generalised_advantages(
    columns: &RewardColumns<'_>,
    discount: f32,
    lambda: f32,
    advantages: &mut [f32],
    returns: &mut [f32],
) -> Result<(), ReturnsError> {
    columns.check(&[("advantages", advantages.len()), ("returns", returns.len())])?;
    let width = columns.num_envs;
    let decay = discount * lambda;
    let mut trace = vec![0.0; width];
    let mut next_values = vec![0.0; width];
    let mut final_values = columns.final_values;
    for start in (0..columns.rewards.len()).step_by(width).rev() {
        let row = start..start + width;
        next_values.copy_from_slice(&columns.values[start + width..start + 2 * width]);
        while let Some((&(step, value), earlier)) = final_values.split_last()
            && step >= start
        {
            next_values[step - start] = value;
            final_values = earlier;
        }
        // Slices of one length, so that the loop has no bounds checks and becomes vector code.
        let rewards = &columns.rewards[row.clone()];
        let terminated = &columns.terminated[row.clone()];
        let truncated = &columns.truncated[row.clone()];
        let values = &columns.values[row.clone()];
        let advantages = &mut advantages[row.clone()];
        let returns = &mut returns[row];
        let (trace, next_values) = (&mut trace[..width], &next_values[..width]);
        for b in 0..width {
            // Choices rather than products with a mask: a product would let a value that is not
            // finite through an episode's end.
            let next_value = if terminated[b] { 0.0 } else { next_values[b] };
            let carried = if terminated[b] | truncated[b] {
                0.0
            } else {
                trace[b]
            };
            let delta = rewards[b] + discount * next_value - values[b];
            trace[b] = delta + decay * carried;
            advantages[b] = trace[b];
            returns[b] = trace[b] + values[b];
        }
    }
    Ok(())
}

/// The discounted returns of one whole episode: `return[t] = reward[t] + discount * return[t + 1]`,
/// behind whose last step `following` would come.
///
/// # Shapes
/// As long as `rewards`.
///
/// # Source
/// Sutton and Barto 2018, "Reinforcement learning: an introduction", equation 3.9.
#[must_use]
pub fn discounted_returns(rewards: &[f32], following: f32, discount: f32) -> Vec<f32> {
    let mut returns = vec![0.0; rewards.len()];
    let mut following = following;
    for (return_, reward) in returns.iter_mut().zip(rewards).rev() {
        following = reward + discount * following;
        *return_ = following;
    }
    returns
}

/// The share of the returns' variance that the values explain: 1 for a perfect critic, 0 for a
/// constant one, negative for one that is worse. `None` where the returns do not vary.
pub fn explained_variance(values: &[f32], returns: &[f32]) -> Option<f64> {
    let variance = |samples: &mut dyn Iterator<Item = f64>| {
        // Welford 1962: one pass, without the cancellation of a difference of squares.
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for sample in samples {
            count += 1.0;
            let distance = sample - mean;
            mean += distance / count;
            squares += distance * (sample - mean);
        }
        squares / count
    };
    let total = variance(&mut returns.iter().map(|&r| f64::from(r)));
    let residuals = returns
        .iter()
        .zip(values)
        .map(|(&r, &v)| f64::from(r) - f64::from(v));
    let left = variance(&mut { residuals });
    (total > 0.0).then(|| 1.0 - left / total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Case {
        name: String,
        num_envs: usize,
        discount: f32,
        lambda: f32,
        rewards: Vec<f32>,
        terminated: Vec<bool>,
        truncated: Vec<bool>,
        values: Vec<f32>,
        final_values: Vec<(usize, f32)>,
        advantages: Vec<f32>,
        returns: Vec<f32>,
    }

    impl Case {
        fn columns(&self) -> RewardColumns<'_> {
            RewardColumns {
                num_envs: self.num_envs,
                rewards: &self.rewards,
                terminated: &self.terminated,
                truncated: &self.truncated,
                values: &self.values,
                final_values: &self.final_values,
            }
        }
    }

    fn advantages(columns: &RewardColumns<'_>, discount: f32, lambda: f32) -> Vec<f32> {
        let mut advantages = vec![0.0; columns.rewards.len()];
        let mut returns = advantages.clone();
        generalised_advantages(columns, discount, lambda, &mut advantages, &mut returns).unwrap();
        advantages
    }

    fn assert_close(name: &str, got: &[f32], expected: &[f32]) {
        assert_eq!(got.len(), expected.len(), "{name}");
        for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
            assert!(
                (got - expected).abs() < 1e-5,
                "{name}, {index}: {got}, expected {expected}"
            );
        }
    }

    #[test]
    fn t1_t5_t12_advantages_agree_with_sums_over_each_episode() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../tests/golden/returns.json")).unwrap();
        for case in cases {
            let mut advantages = vec![f32::NAN; case.rewards.len()];
            let mut returns = advantages.clone();
            let (discount, lambda) = (case.discount, case.lambda);
            let columns = case.columns();
            generalised_advantages(&columns, discount, lambda, &mut advantages, &mut returns)
                .unwrap();
            assert_close(&case.name, &advantages, &case.advantages);
            assert_close(&case.name, &returns, &case.returns);
        }
    }

    #[test]
    fn t2_a_truncated_step_bootstraps_from_its_final_observation_alone() {
        let columns = RewardColumns {
            num_envs: 1,
            rewards: &[1.0, 0.0],
            terminated: &[false, false],
            truncated: &[true, false],
            // What the next episode starts from is worth 1,000 and must not be seen.
            values: &[10.0, 1000.0, 1000.0],
            final_values: &[(0, 20.0)],
        };
        // 1 + 0.5 * 20 - 10
        assert_eq!(advantages(&columns, 0.5, 1.0)[0], 1.0);
    }

    #[test]
    fn t1_a_terminated_step_sees_nothing_after_it() {
        let columns = RewardColumns {
            num_envs: 1,
            rewards: &[3.0, f32::NAN],
            terminated: &[true, false],
            truncated: &[false, false],
            values: &[1.0, f32::NAN, f32::INFINITY],
            final_values: &[],
        };
        assert_eq!(advantages(&columns, 0.9, 0.9)[0], 2.0);
    }

    #[test]
    fn columns_that_do_not_belong_together_are_refused() {
        let fits = RewardColumns {
            num_envs: 2,
            rewards: &[0.0; 4],
            terminated: &[false; 4],
            truncated: &[false, true, true, false],
            values: &[0.0; 6],
            final_values: &[(1, 0.0), (2, 0.0)],
        };
        let check = |columns: RewardColumns<'_>| {
            generalised_advantages(&columns, 0.9, 0.9, &mut [0.0; 4], &mut [0.0; 4])
        };
        assert_eq!(check(fits), Ok(()));
        assert_eq!(
            check(RewardColumns {
                values: &[0.0; 4],
                ..fits
            }),
            Err(ReturnsError::Length {
                column: "values",
                expected: 6,
                got: 4
            })
        );
        assert_eq!(
            check(RewardColumns {
                num_envs: 3,
                ..fits
            }),
            Err(ReturnsError::Ragged {
                rewards: 4,
                num_envs: 3
            })
        );
        assert_eq!(
            check(RewardColumns {
                final_values: &[(1, 0.0)],
                ..fits
            }),
            Err(ReturnsError::FinalValue {
                expected: Some(2),
                got: None
            })
        );
        assert_eq!(
            check(RewardColumns {
                final_values: &[(1, 0.0), (3, 0.0)],
                ..fits
            }),
            Err(ReturnsError::FinalValue {
                expected: Some(2),
                got: Some(3)
            })
        );
    }

    #[test]
    fn explained_variance_is_one_for_perfect_and_zero_for_constant_values() {
        let returns = [1.0, 2.0, 4.0];
        assert_eq!(explained_variance(&returns, &returns), Some(1.0));
        assert!(explained_variance(&[7.0; 3], &returns).unwrap().abs() < 1e-12);
        assert!(explained_variance(&[4.0, 2.0, 1.0], &returns).unwrap() < 0.0);
        assert_eq!(explained_variance(&returns, &[2.0; 3]), None);
    }
}
