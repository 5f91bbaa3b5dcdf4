//! The sections of off-policy algorithms.

use std::fmt::Display;

use super::{Check, MAX_ENV_STEPS, above};
use crate::configuration::{
    Algorithm, ByteSize, Configuration, DqnConfiguration, ReturnDistribution,
};

/// Most steps of a replay store: 2^40 of a byte each are a tebibyte.
const MAX_REPLAY_STEPS: usize = 1 << 40;
/// Most steps of an n-step return.
const MAX_N_STEP: usize = 1000;
/// Most transitions of a gradient step.
const MAX_MINIBATCH: usize = 1 << 20;
/// Most gradient steps after a round.
const MAX_GRADIENT_STEPS: u32 = 1 << 20;
/// Most atoms or quantiles of a distribution.
const MAX_OUTPUTS: usize = 1 << 12;

impl Check {
    pub(super) fn dqn(&mut self, configuration: &Configuration) {
        let dqn = &configuration.dqn;
        self.range("dqn.learning_rate", dqn.learning_rate, above(0.0, 1.0));
        self.range("dqn.adam_epsilon", dqn.adam_epsilon, above(0.0, 1.0));
        self.optional_range(
            "dqn.max_gradient_norm",
            dqn.max_gradient_norm,
            above(0.0, 1e6),
        );
        self.range("dqn.discount", dqn.discount, 0.0..=1.0);
        self.range("dqn.minibatch_size", dqn.minibatch_size, 1..=MAX_MINIBATCH);
        self.range(
            "dqn.gradient_steps",
            dqn.gradient_steps,
            1..=MAX_GRADIENT_STEPS,
        );
        self.range(
            "dqn.target_update_every",
            dqn.target_update_every,
            1..=MAX_ENV_STEPS,
        );
        self.range("dqn.target_tau", dqn.target_tau, above(0.0, 1.0));
        self.optional_range("dqn.huber_threshold", dqn.huber_threshold, above(0.0, 1e6));
        self.range("dqn.noisy_sigma", dqn.noisy_sigma, above(0.0, 10.0));
        self.range("dqn.num_atoms", dqn.num_atoms, 2..=MAX_OUTPUTS);
        self.range("dqn.num_quantiles", dqn.num_quantiles, 1..=MAX_OUTPUTS);
        for (path, bound) in [("dqn.v_min", dqn.v_min), ("dqn.v_max", dqn.v_max)] {
            self.range(path, bound, -1e9..=1e9);
        }
        for (path, epsilon) in [
            ("dqn.epsilon_start", dqn.epsilon_start),
            ("dqn.epsilon_end", dqn.epsilon_end),
        ] {
            self.range(path, epsilon, 0.0..=1.0);
        }
        self.range("dqn.epsilon_decay", dqn.epsilon_decay, 0..=MAX_ENV_STEPS);
        self.range("dqn.epsilon_base", dqn.epsilon_base, above(0.0, 1.0));
        self.range("dqn.epsilon_alpha", dqn.epsilon_alpha, 0.0..=100.0);
        if configuration.run.algorithm == Algorithm::Dqn {
            self.dqn_together(dqn);
            self.off_policy(configuration);
        }
    }

    /// What does not go together in a run of DQN.
    fn dqn_together(&mut self, dqn: &DqnConfiguration) {
        if dqn.distribution == ReturnDistribution::Categorical
            && dqn.v_min.partial_cmp(&dqn.v_max) != Some(std::cmp::Ordering::Less)
        {
            self.impossible(
                &[("dqn.v_min", &dqn.v_min), ("dqn.v_max", &dqn.v_max)],
                "the returns of a categorical distribution go from v_min up to v_max",
                "set v_min below v_max, to the least and largest return that can occur",
            );
        }
        if dqn.noisy && dqn.epsilon_per_shard {
            self.impossible(
                &[
                    ("dqn.noisy", &dqn.noisy),
                    ("dqn.epsilon_per_shard", &dqn.epsilon_per_shard),
                ],
                "a noisy network explores by itself and takes no random actions",
                "set one of them to false",
            );
        }
    }

    pub(super) fn sac(&mut self, configuration: &Configuration) {
        let sac = &configuration.sac;
        for (path, rate) in [
            ("sac.learning_rate", sac.learning_rate),
            ("sac.critic_learning_rate", sac.critic_learning_rate),
            (
                "sac.temperature_learning_rate",
                sac.temperature_learning_rate,
            ),
            ("sac.adam_epsilon", sac.adam_epsilon),
            ("sac.target_tau", sac.target_tau),
        ] {
            self.range(path, rate, above(0.0, 1.0));
        }
        self.optional_range(
            "sac.max_gradient_norm",
            sac.max_gradient_norm,
            above(0.0, 1e6),
        );
        self.range("sac.discount", sac.discount, 0.0..=1.0);
        self.range("sac.minibatch_size", sac.minibatch_size, 1..=MAX_MINIBATCH);
        self.range(
            "sac.gradient_steps",
            sac.gradient_steps,
            1..=MAX_GRADIENT_STEPS,
        );
        self.range("sac.policy_delay", sac.policy_delay, 1..=1_000);
        self.range(
            "sac.initial_temperature",
            sac.initial_temperature,
            above(0.0, 1e6),
        );
        self.optional_range("sac.target_entropy", sac.target_entropy, -1e6..=1e6);
        self.range("sac.noise_hold", sac.noise_hold, 1..=10_000);
        if configuration.run.algorithm == Algorithm::Sac {
            self.off_policy(configuration);
        }
    }

    pub(super) fn td3(&mut self, configuration: &Configuration) {
        let td3 = &configuration.td3;
        for (path, rate) in [
            ("td3.learning_rate", td3.learning_rate),
            ("td3.critic_learning_rate", td3.critic_learning_rate),
            ("td3.adam_epsilon", td3.adam_epsilon),
            ("td3.target_tau", td3.target_tau),
        ] {
            self.range(path, rate, above(0.0, 1.0));
        }
        self.optional_range(
            "td3.max_gradient_norm",
            td3.max_gradient_norm,
            above(0.0, 1e6),
        );
        self.range("td3.discount", td3.discount, 0.0..=1.0);
        self.range("td3.minibatch_size", td3.minibatch_size, 1..=MAX_MINIBATCH);
        self.range(
            "td3.gradient_steps",
            td3.gradient_steps,
            1..=MAX_GRADIENT_STEPS,
        );
        self.range("td3.policy_delay", td3.policy_delay, 1..=1_000);
        self.range(
            "td3.exploration_noise",
            td3.exploration_noise,
            above(0.0, 10.0),
        );
        for (path, noise) in [
            ("td3.target_noise", td3.target_noise),
            ("td3.target_noise_clip", td3.target_noise_clip),
        ] {
            self.range(path, noise, 0.0..=10.0);
        }
        self.range("td3.noise_hold", td3.noise_hold, 1..=10_000);
        if configuration.run.algorithm == Algorithm::Td3 {
            self.off_policy(configuration);
        }
    }

    /// What no algorithm that learns from replay can do with the on-policy sections.
    fn off_policy(&mut self, configuration: &Configuration) {
        let algorithm: &dyn Display = &format!("\"{}\"", configuration.run.algorithm.name());
        let normalisation = &configuration.normalisation;
        for (path, is_set) in [
            ("normalisation.observations", normalisation.observations),
            ("normalisation.rewards", normalisation.rewards),
        ] {
            if is_set {
                self.impossible(
                    &[("run.algorithm", algorithm), (path, &is_set)],
                    "transitions are kept raw, and statistics that move on would give them another \
                     meaning",
                    format!("set {path} = false"),
                );
            }
        }
        if configuration.policy.shared_trunk {
            self.impossible(
                &[
                    ("run.algorithm", algorithm),
                    ("policy.shared_trunk", &configuration.policy.shared_trunk),
                ],
                "its networks share no layers with a state-value function",
                "set policy.shared_trunk = false",
            );
        }
    }

    pub(super) fn replay(&mut self, configuration: &Configuration) {
        let replay = &configuration.replay;
        self.range("replay.capacity", replay.capacity, 1..=MAX_REPLAY_STEPS);
        self.range(
            "replay.capacity_bytes",
            replay.capacity_bytes,
            ByteSize::from_bytes(1 << 10)..=ByteSize::from_bytes(1 << 50),
        );
        self.range("replay.n_step", replay.n_step, 1..=MAX_N_STEP);
        self.range("replay.priority_alpha", replay.priority_alpha, 0.0..=1.0);
        for (path, beta) in [
            ("replay.priority_beta_start", replay.priority_beta_start),
            ("replay.priority_beta_end", replay.priority_beta_end),
        ] {
            self.range(path, beta, 0.0..=1.0);
        }
        self.range(
            "replay.priority_epsilon",
            replay.priority_epsilon,
            above(0.0, 1.0),
        );
        self.range("replay.hindsight_goals", replay.hindsight_goals, 1..=1000);
        self.range("replay.minimum_size", replay.minimum_size, 1..=1 << 40);
        self.optional_range(
            "replay.samples_per_insert",
            replay.samples_per_insert,
            above(0.0, 1e6),
        );
        self.optional_range(
            "replay.samples_per_insert_tolerance",
            replay.samples_per_insert_tolerance,
            above(0.0, 1e15),
        );
        if replay.minimum_size > replay.capacity as u64 {
            self.impossible(
                &[
                    ("replay.minimum_size", &replay.minimum_size),
                    ("replay.capacity", &replay.capacity),
                ],
                "the store would never hold the items that sampling waits for",
                format!("set minimum_size to at most {}", replay.capacity),
            );
        }
        if let (Some(tolerance), None) = (
            replay.samples_per_insert_tolerance,
            replay.samples_per_insert,
        ) {
            self.impossible(
                &[
                    ("replay.samples_per_insert_tolerance", &tolerance),
                    ("replay.samples_per_insert", &"\"none\""),
                ],
                "there is no ratio that it could be a tolerance of",
                "set samples_per_insert, or leave the tolerance out",
            );
        }
    }
}
