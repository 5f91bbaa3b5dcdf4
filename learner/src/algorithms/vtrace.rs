//! V-trace: targets for values, and advantages, from steps that another policy has chosen.
//!
//! | symbol | here |
//! | --- | --- |
//! | `μ`, `π` | the policy that chose the actions, the one that is trained |
//! | `ρ_t`, `c_t` | importance weights, `min(clip, π(a_t) / μ(a_t))` |
//! | `V` | values under the present parameters |
//! | `v_t` | the target of `V(x_t)` |
//!
//! The timeline is that of [`RewardColumns`]: the flags of step `t` say whether it *ended* an episode, and
//! the row after it, the bootstrap row included, is there (T8, T8b). No trace crosses an episode's end
//! or the unroll's.

use super::returns::{ReturnsError, RewardColumns};

/// Constants of [`vtrace`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VtraceOptions {
    /// Discount factor of a step, `γ`.
    pub discount: f32,
    /// Factor of the trace, `λ`.
    pub lambda: f32,
    /// Clip of `ρ` in the temporal differences, rho-bar.
    pub rho_clip: f32,
    /// Clip of `c`, c-bar.
    pub c_clip: f32,
    /// Clip of the weight that multiplies the advantage; none: the advantage comes without it, for a
    /// loss that has the ratio in itself.
    pub policy_rho_clip: Option<f32>,
}

/// How many importance weights were cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VtraceClips {
    /// Steps in all.
    pub steps: u64,
    /// Those whose ratio was over the clip of `ρ`.
    pub rho: u64,
    /// Those whose ratio was over the clip of `c`.
    pub c: u64,
}

impl VtraceClips {
    /// Adds another shard's.
    pub fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.rho += other.rho;
        self.c += other.c;
    }

    /// Share of the steps whose ratio was over the clip of `ρ`.
    #[must_use]
    pub fn rho_fraction(&self) -> f64 {
        self.rho as f64 / self.steps.max(1) as f64
    }

    /// Share of the steps whose ratio was over the clip of `c`.
    #[must_use]
    pub fn c_fraction(&self) -> f64 {
        self.c as f64 / self.steps.max(1) as f64
    }
}

/// Writes the targets of the values and the advantages of one shard's unroll.
///
/// With `δ[t] = ρ[t] * (reward[t] + γ * V(next of t) - V(t))`, the target is
/// `v[t] = V(t) + δ[t] + γ * c[t] * (v[t + 1] - V(t + 1))`, the last term only where step `t` ended no
/// episode and is not the last. The advantage is `reward[t] + γ * v(next of t) - V(t)`, where the
/// row after a step of the same episode has its target and any other its value; it is multiplied by
/// the clipped ratio where `policy_rho_clip` says so (T7: a clip of its own, and the *next* target).
///
/// # Shapes
/// `log_ratios` is `log π(a) - log μ(a)`, `[T, B]`, time-major like the columns and finite; so are
/// `targets` and `advantages`, which are written.
///
/// # Errors
/// [`ReturnsError`] where the columns do not belong together.
///
/// # Source
/// Espeholt and others 2018, "IMPALA: scalable distributed deep-RL with importance weighted
/// actor-learner architectures", equation 1 in the recursive form of remark 1, with `λ` of remark 2,
/// `c[t] = λ min(c-bar, ratio)`, and the advantage of section 4.2. The paper knows episodes that end
/// for good only; the value after a truncated step follows Pardo and others 2018, as in
/// [`generalised_advantages`](super::returns::generalised_advantages).
pub fn vtrace(
    columns: &RewardColumns<'_>,
    log_ratios: &[f32],
    options: &VtraceOptions,
    targets: &mut [f32],
    advantages: &mut [f32],
) -> Result<VtraceClips, ReturnsError> {
    columns.check(&[
        ("log_ratios", log_ratios.len()),
        ("targets", targets.len()),
        ("advantages", advantages.len()),
    ])?;
    let (steps, width) = (columns.rewards.len(), columns.num_envs);
    let mut clips = VtraceClips {
        steps: steps as u64,
        ..VtraceClips::default()
    };
    let mut final_values = columns.final_values.iter().rev();
    for step in (0..steps).rev() {
        let following = step + width;
        let is_last = following >= steps;
        let ended = columns.terminated[step] || columns.truncated[step];
        // What follows the step in its episode is worth this much, by its value and by its target.
        let mut next_value = columns.values[following];
        let mut next_target = if is_last {
            next_value
        } else {
            targets[following]
        };
        if columns.truncated[step]
            && let Some((_, value)) = final_values.next()
        {
            (next_value, next_target) = (*value, *value);
        }
        if columns.terminated[step] {
            (next_value, next_target) = (0.0, 0.0);
        }
        let ratio = log_ratios[step].exp();
        clips.rho += u64::from(ratio > options.rho_clip);
        clips.c += u64::from(ratio > options.c_clip);
        let carried = if ended || is_last {
            0.0
        } else {
            options.lambda * ratio.min(options.c_clip) * (next_target - next_value)
        };
        let value = columns.values[step];
        let difference = columns.rewards[step] + options.discount * next_value - value;
        targets[step] =
            value + ratio.min(options.rho_clip) * difference + options.discount * carried;
        let weight = options.policy_rho_clip.map_or(1.0, |clip| ratio.min(clip));
        advantages[step] =
            weight * (columns.rewards[step] + options.discount * next_target - value);
    }
    Ok(clips)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::super::returns::generalised_advantages;
    use super::*;

    #[derive(Deserialize)]
    struct Case {
        name: String,
        num_envs: usize,
        discount: f32,
        lambda: f32,
        rho_clip: f32,
        c_clip: f32,
        policy_rho_clip: Option<f32>,
        rewards: Vec<f32>,
        terminated: Vec<bool>,
        truncated: Vec<bool>,
        values: Vec<f32>,
        final_values: Vec<(usize, f32)>,
        log_ratios: Vec<f32>,
        targets: Vec<f32>,
        advantages: Vec<f32>,
        rho_fraction: f64,
        c_fraction: f64,
    }

    const ON_POLICY: VtraceOptions = VtraceOptions {
        discount: 0.5,
        lambda: 1.0,
        rho_clip: 1.0,
        c_clip: 1.0,
        policy_rho_clip: Some(1.0),
    };

    /// Targets, advantages and clips.
    fn of(
        columns: &RewardColumns<'_>,
        log_ratios: &[f32],
        options: &VtraceOptions,
    ) -> (Vec<f32>, Vec<f32>, VtraceClips) {
        let mut targets = vec![f32::NAN; columns.rewards.len()];
        let mut advantages = targets.clone();
        let clips = vtrace(columns, log_ratios, options, &mut targets, &mut advantages).unwrap();
        (targets, advantages, clips)
    }

    fn assert_close(name: &str, got: &[f32], expected: &[f32]) {
        assert_eq!(got.len(), expected.len(), "{name}");
        for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
            let tolerance = 1e-5 * expected.abs().max(1.0);
            assert!(
                (got - expected).abs() < tolerance,
                "{name}, {index}: {got}, expected {expected}"
            );
        }
    }

    #[test]
    fn t7_t8_targets_and_advantages_agree_with_the_sums_of_the_paper() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../tests/golden/vtrace.json")).unwrap();
        assert!(cases.len() > 5);
        for case in cases {
            let columns = RewardColumns {
                num_envs: case.num_envs,
                rewards: &case.rewards,
                terminated: &case.terminated,
                truncated: &case.truncated,
                values: &case.values,
                final_values: &case.final_values,
            };
            let options = VtraceOptions {
                discount: case.discount,
                lambda: case.lambda,
                rho_clip: case.rho_clip,
                c_clip: case.c_clip,
                policy_rho_clip: case.policy_rho_clip,
            };
            let (targets, advantages, clips) = of(&columns, &case.log_ratios, &options);
            assert_close(&case.name, &targets, &case.targets);
            assert_close(&case.name, &advantages, &case.advantages);
            assert!((clips.rho_fraction() - case.rho_fraction).abs() < 1e-12);
            assert!((clips.c_fraction() - case.c_fraction).abs() < 1e-12);
        }
    }

    #[test]
    fn t7_rho_and_c_and_the_policys_rho_have_clips_of_their_own() {
        let columns = RewardColumns {
            num_envs: 1,
            rewards: &[1.0, 1.0],
            terminated: &[false, false],
            truncated: &[false, false],
            values: &[0.0, 0.0, 0.0],
            final_values: &[],
        };
        let options = VtraceOptions {
            rho_clip: 3.0,
            c_clip: 2.0,
            policy_rho_clip: Some(1.5),
            ..ON_POLICY
        };
        // The ratio is 4 everywhere.
        let (targets, advantages, clips) = of(&columns, &[4.0_f32.ln(); 2], &options);
        // v1 = 3 * 1; v0 = 3 * 1 + 0.5 * 2 * v1.
        assert_close("targets", &targets, &[6.0, 3.0]);
        // 1.5 * (1 + 0.5 * v1 - 0) with the next target, not with this step's.
        assert_close("advantages", &advantages, &[3.75, 1.5]);
        assert_eq!((clips.rho, clips.c, clips.steps), (2, 2, 2));
    }

    #[test]
    fn t8_the_flag_of_a_step_cuts_what_follows_it_and_not_what_comes_before() {
        let columns = RewardColumns {
            num_envs: 1,
            rewards: &[1.0, 2.0, 4.0],
            terminated: &[false, true, false],
            truncated: &[false; 3],
            // What the next episode is worth must not be seen.
            values: &[0.0, 0.0, 1000.0, 1000.0],
            final_values: &[],
        };
        let (targets, advantages, _) = of(&columns, &[0.0; 3], &ON_POLICY);
        assert_eq!(&targets[..2], [2.0, 2.0]);
        assert_eq!(&advantages[..2], [2.0, 2.0]);
    }

    #[test]
    fn t8b_the_last_step_bootstraps_from_the_row_after_it() {
        let columns = RewardColumns {
            num_envs: 1,
            rewards: &[1.0],
            terminated: &[false],
            truncated: &[false],
            values: &[3.0, 10.0],
            final_values: &[],
        };
        // 1 + 0.5 * 10, and not what 3 and the reward would suggest.
        let (targets, advantages, _) = of(&columns, &[0.0], &ON_POLICY);
        assert_eq!((targets[0], advantages[0]), (6.0, 3.0));
    }

    #[test]
    fn t1_t2_a_truncated_step_bootstraps_from_its_final_observation_alone() {
        let columns = RewardColumns {
            num_envs: 1,
            rewards: &[1.0, 0.0],
            terminated: &[false, false],
            truncated: &[true, false],
            values: &[10.0, 1000.0, 1000.0],
            final_values: &[(0, 20.0)],
        };
        let (targets, advantages, _) = of(&columns, &[0.0; 2], &ON_POLICY);
        assert_eq!((targets[0], advantages[0]), (11.0, 1.0));
    }

    #[test]
    fn columns_that_do_not_belong_together_are_refused() {
        let columns = RewardColumns {
            num_envs: 1,
            rewards: &[0.0; 2],
            terminated: &[false; 2],
            truncated: &[false; 2],
            values: &[0.0; 3],
            final_values: &[],
        };
        let mut out = [0.0; 2];
        let error = vtrace(&columns, &[0.0], &ON_POLICY, &mut out, &mut [0.0; 2]);
        let expected = ReturnsError::Length {
            column: "log_ratios",
            expected: 2,
            got: 1,
        };
        assert_eq!(error, Err(expected));
    }

    /// Steps of two environments: reward, value, whether terminated, whether truncated, log-ratio.
    fn steps() -> impl Strategy<Value = Vec<(f32, f32, bool, bool, f32)>> {
        let flag = || prop::bool::weighted(0.2);
        let step = (-2.0_f32..2.0, -2.0_f32..2.0, flag(), flag(), -2.0_f32..2.0);
        prop::collection::vec(step, 1..20).prop_map(|mut steps| {
            let again = steps.clone();
            steps.extend(again);
            steps
        })
    }

    fn with_columns<R>(
        steps: &[(f32, f32, bool, bool, f32)],
        use_them: impl FnOnce(&RewardColumns<'_>, &[f32]) -> R,
    ) -> R {
        let rewards: Vec<f32> = steps.iter().map(|step| step.0).collect();
        let mut values: Vec<f32> = steps.iter().map(|step| step.1).collect();
        values.extend([0.7, -0.4]);
        let terminated: Vec<bool> = steps.iter().map(|step| step.2).collect();
        let truncated: Vec<bool> = steps.iter().map(|step| step.3 && !step.2).collect();
        let final_values: Vec<(usize, f32)> = (0..steps.len())
            .filter(|step| truncated[*step])
            .map(|step| (step, 0.1 * step as f32 - 0.5))
            .collect();
        let log_ratios: Vec<f32> = steps.iter().map(|step| step.4).collect();
        let columns = RewardColumns {
            num_envs: 2,
            rewards: &rewards,
            terminated: &terminated,
            truncated: &truncated,
            values: &values,
            final_values: &final_values,
        };
        use_them(&columns, &log_ratios)
    }

    proptest! {
        /// Where the policies agree and nothing is clipped below one, V-trace is the return over n
        /// steps with lambda, and its advantage, with lambda one, generalised advantage estimation.
        #[test]
        fn on_policy_it_is_generalised_advantage_estimation(steps in steps(), lambda in 0.0_f32..1.0) {
            with_columns(&steps, |columns, _| {
                let on_policy = vec![0.0; steps.len()];
                let mut expected = (vec![0.0; steps.len()], vec![0.0; steps.len()]);
                for lambda in [lambda, 1.0] {
                    generalised_advantages(columns, 0.9, lambda, &mut expected.0, &mut expected.1)
                        .unwrap();
                    let options = VtraceOptions { discount: 0.9, lambda, ..ON_POLICY };
                    let (targets, advantages, clips) = of(columns, &on_policy, &options);
                    assert_close("targets", &targets, &expected.1);
                    if lambda == 1.0 {
                        assert_close("advantages", &advantages, &expected.0);
                    }
                    assert_eq!((clips.rho, clips.c), (0, 0));
                }
            });
        }

        /// Nothing that an unroll holds is counted for more than the clips allow: with rho cut off at
        /// nothing, targets are the values.
        #[test]
        fn without_weight_the_targets_are_the_values(steps in steps()) {
            with_columns(&steps, |columns, _| {
                let never = vec![-100.0; steps.len()];
                let (targets, _, _) = of(columns, &never, &ON_POLICY);
                assert_close("targets", &targets, &columns.values[..steps.len()]);
            });
        }
    }
}
