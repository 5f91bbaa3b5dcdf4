//! The section of the policy.

use std::fmt::Display;

use super::Check;
use crate::configuration::{AdvantageEstimator, Algorithm, Configuration};
use crate::policy::EncoderKind;

/// Most hidden layers.
const MAX_HIDDEN_LAYERS: usize = 64;
/// Most times that the planes of an encoder are multiplied.
const MAX_CHANNEL_MULTIPLIER: usize = 64;
/// Widest hidden layer.
const MAX_HIDDEN_WIDTH: usize = 1 << 16;

impl Check {
    pub(super) fn policy(&mut self, configuration: &Configuration) {
        let policy = &configuration.policy;
        if policy.hidden.len() > MAX_HIDDEN_LAYERS {
            self.unexpected(
                "policy.hidden",
                format!("at most {MAX_HIDDEN_LAYERS} layers"),
                policy.hidden.len(),
            );
        }
        for (layer, width) in policy.hidden.iter().enumerate() {
            self.range(
                &format!("policy.hidden[{layer}]"),
                *width,
                1..=MAX_HIDDEN_WIDTH,
            );
        }
        self.range(
            "policy.initial_log_std",
            policy.initial_log_std,
            -20.0..=2.0,
        );
        self.encoder(configuration);
        self.range(
            "policy.recurrent_units",
            policy.recurrent_units,
            1..=MAX_HIDDEN_WIDTH,
        );
        if let Some(cell) = policy.recurrent {
            self.recurrent(configuration, &format!("\"{}\"", cell.name()));
        }
    }

    fn encoder(&mut self, configuration: &Configuration) {
        let multiplier = configuration.policy.channel_multiplier;
        self.range(
            "policy.channel_multiplier",
            multiplier,
            1..=MAX_CHANNEL_MULTIPLIER,
        );
        let kind = configuration.policy.encoder;
        let name = format!("{:?}", kind.name());
        let encoder: (&str, &dyn Display) = ("policy.encoder", &name);
        if kind == EncoderKind::Mlp {
            if multiplier > 1 {
                self.impossible(
                    &[encoder, ("policy.channel_multiplier", &multiplier)],
                    "there are no convolutions to widen",
                    "choose an encoder of images, or channel_multiplier = 1",
                );
            }
            return;
        }
        let algorithm = configuration.run.algorithm;
        let lack = match algorithm {
            Algorithm::Sac | Algorithm::Td3 => Some("its critics have no convolutions"),
            Algorithm::QLearning | Algorithm::Sarsa => Some("a table has no convolutions"),
            _ => None,
        };
        if let Some(lack) = lack {
            let algorithm = format!("{:?}", algorithm.name());
            self.impossible(
                &[encoder, ("run.algorithm", &algorithm)],
                lack,
                "train with \"dqn\" or \"ppo\", or set encoder = \"mlp\"",
            );
        }
        let normalised = configuration.normalisation.observations;
        if normalised {
            self.impossible(
                &[encoder, ("normalisation.observations", &normalised)],
                "planes come scaled from 0 to 1, and a position that is the same in every \
                 observation has no deviation to be divided by",
                "set normalisation.observations = false, or encoder = \"mlp\"",
            );
        }
    }

    /// What a recurrent layer does not go with.
    fn recurrent(&mut self, configuration: &Configuration, cell: &str) {
        let Configuration {
            run,
            rollout,
            policy,
            ppo,
            ..
        } = configuration;
        let recurrent: (&str, &dyn Display) = ("policy.recurrent", &cell);
        if run.algorithm != Algorithm::Ppo {
            let name = run.algorithm.name();
            self.impossible(
                &[recurrent, ("run.algorithm", &format!("\"{name}\""))],
                format!(
                    "{name} computes every step by itself, without the state that it was chosen from"
                ),
                "train with ppo, or set policy.recurrent = \"none\"",
            );
            return;
        }
        if !policy.shared_trunk {
            self.impossible(
                &[recurrent, ("policy.shared_trunk", &policy.shared_trunk)],
                "a critic of its own would need a memory of its own",
                "set policy.shared_trunk = true",
            );
        }
        if ppo.advantage == AdvantageEstimator::Vtrace {
            self.impossible(
                &[recurrent, ("ppo.advantage", &"\"vtrace\"")],
                "the importance weights of V-trace are computed step by step, without a state",
                "set ppo.advantage = \"gae\", with a synchronous schedule",
            );
        }
        let length = rollout.unroll_length;
        if length > 0 && !ppo.minibatch_size.is_multiple_of(length) {
            let least = ppo.minibatch_size.next_multiple_of(length);
            self.impossible(
                &[
                    recurrent,
                    ("ppo.minibatch_size", &ppo.minibatch_size),
                    ("rollout.unroll_length", &length),
                ],
                "minibatches are made of whole unrolls of environments, whose steps are computed one \
                 after the other",
                format!("set minibatch_size to a multiple of {length}, such as {least}"),
            );
        }
    }
}
