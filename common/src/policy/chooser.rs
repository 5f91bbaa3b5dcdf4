//! From a row of outputs to an action.

#![expect(
    clippy::inline_always,
    reason = "choosing must be compiled with the vector instructions of its caller"
)]

use super::distribution::{self, Categorical, DiagonalGaussian, Possible};
use super::exploration::Behaviour;
use super::head::{Head, ValueDistribution};
use super::squashed::{Bounds, SquashedGaussian};
use super::values::ActionValues;
use crate::seeds::Random;

/// A head with what one version's parameters make of it.
#[derive(Clone, Debug)]
pub(super) enum Chooser {
    /// Number of actions of each choice.
    Categorical(Vec<usize>),
    DiagonalGaussian(DiagonalGaussian),
    ActionValues(ValueDistribution),
    SquashedGaussian(SquashedGaussian),
    Deterministic(Bounds),
}

impl Chooser {
    /// For a valid head; `log_std` is that of a diagonal Gaussian, and empty for others.
    pub(super) fn new(head: &Head, log_std: &[f32]) -> Self {
        match head {
            Head::Categorical { num_actions } => Self::Categorical(vec![*num_actions]),
            Head::MultiCategorical { num_actions } => Self::Categorical(num_actions.clone()),
            Head::DiagonalGaussian { .. } => Self::DiagonalGaussian(DiagonalGaussian::new(log_std)),
            Head::ActionValues { distribution, .. } => Self::ActionValues(*distribution),
            Head::SquashedGaussian { low, high } => {
                Self::SquashedGaussian(SquashedGaussian::new(Bounds::new(low, high)))
            }
            Head::Deterministic { low, high } => Self::Deterministic(Bounds::new(low, high)),
        }
    }

    /// Whether actions can be chosen like this.
    pub(super) fn can(&self, behaviour: Behaviour) -> bool {
        match behaviour {
            Behaviour::OnPolicy => true,
            Behaviour::Uniform => !matches!(self, Self::DiagonalGaussian(_)),
            Behaviour::EpsilonGreedy { .. } => matches!(self, Self::ActionValues(_)),
            Behaviour::GaussianNoise { .. } => matches!(self, Self::Deterministic(_)),
        }
    }

    /// Chooses as the behaviour says, and returns the logarithm of the probability or density with
    /// which it does. The action of a behaviour that the head cannot follow is on policy.
    #[inline(always)]
    pub(super) fn sample(
        &self,
        behaviour: Behaviour,
        outputs: &[f32],
        possible: Possible<'_>,
        random: &mut Random,
        action: &mut [f32],
    ) -> f32 {
        match (self, behaviour) {
            (Self::Categorical(choices), Behaviour::Uniform) => {
                let (mut possible, mut log_prob) = (possible, 0.0);
                for (n, action) in choices.iter().zip(action) {
                    let (own, others) = possible.split_at(*n);
                    log_prob += sample_index(*n, own, random, action);
                    possible = others;
                }
                log_prob
            }
            (Self::Categorical(choices), _) => {
                let (mut rest, mut possible, mut log_prob) = (outputs, possible, 0.0);
                for (n, action) in choices.iter().zip(action) {
                    let (logits, other_logits) = rest.split_at(*n);
                    let (own, others) = possible.split_at(*n);
                    let categorical = Categorical::among(logits, own);
                    let chosen = categorical.sample(random);
                    *action = chosen as f32;
                    log_prob += categorical.log_prob(chosen);
                    (rest, possible) = (other_logits, others);
                }
                log_prob
            }
            (Self::DiagonalGaussian(gaussian), _) => {
                gaussian.sample(outputs, random, action);
                gaussian.log_prob(outputs, action)
            }
            (Self::ActionValues(distribution), Behaviour::Uniform) => {
                let num_actions = ActionValues::new(outputs, *distribution).num_actions();
                sample_index(num_actions, possible, random, &mut action[0])
            }
            (Self::ActionValues(distribution), _) => {
                let epsilon = match behaviour {
                    Behaviour::EpsilonGreedy { epsilon } => epsilon,
                    _ => 0.0,
                };
                let values = ActionValues::new(outputs, *distribution).among(possible);
                sample_epsilon_greedy(values, possible, epsilon, random, action)
            }
            (Self::SquashedGaussian(gaussian), Behaviour::Uniform) => {
                gaussian.bounds().sample_uniform(random, action)
            }
            (Self::SquashedGaussian(gaussian), _) => gaussian.sample(outputs, random, action),
            (Self::Deterministic(bounds), Behaviour::Uniform) => {
                bounds.sample_uniform(random, action)
            }
            (Self::Deterministic(bounds), Behaviour::GaussianNoise { std }) => {
                bounds.sample_around(outputs, std, random, action)
            }
            (Self::Deterministic(bounds), _) => {
                bounds.squash(outputs, action);
                0.0
            }
        }
    }

    /// What the policy prefers.
    #[inline(always)]
    pub(super) fn mode(&self, outputs: &[f32], possible: Possible<'_>, action: &mut [f32]) {
        match self {
            Self::Categorical(choices) => {
                let (mut rest, mut possible) = (outputs, possible);
                for (n, action) in choices.iter().zip(action) {
                    let (logits, other_logits) = rest.split_at(*n);
                    let (own, others) = possible.split_at(*n);
                    *action = distribution::mode_among(logits, own).unwrap_or(n - 1) as f32;
                    (rest, possible) = (other_logits, others);
                }
            }
            Self::DiagonalGaussian(_) => action.copy_from_slice(outputs),
            Self::ActionValues(distribution) => {
                let greedy = ActionValues::new(outputs, *distribution)
                    .among(possible)
                    .greedy();
                action[0] = greedy.action as f32;
            }
            Self::SquashedGaussian(gaussian) => gaussian.mode(outputs, action),
            Self::Deterministic(bounds) => bounds.squash(outputs, action),
        }
    }
}

/// Draws one of the `possible` ones of `n` actions uniformly; NaN where there is none.
#[inline(always)]
fn sample_index(n: usize, possible: Possible<'_>, random: &mut Random, action: &mut f32) -> f32 {
    let count = possible.count(n);
    let place = random.below(count.max(1) as u64) as usize;
    let Some(chosen) = possible.nth(place, n) else {
        *action = (n - 1) as f32;
        return f32::NAN;
    };
    *action = chosen as f32;
    -libm::log(count as f64) as f32
}

/// With probability `epsilon` draws one of all actions uniformly, else takes the greedy one, whose
/// probability is therefore `epsilon / n + 1 - epsilon`. NaN where a value is not finite.
#[inline(always)]
fn sample_epsilon_greedy(
    values: ActionValues<'_>,
    possible: Possible<'_>,
    epsilon: f64,
    random: &mut Random,
    action: &mut [f32],
) -> f32 {
    let greedy = values.greedy();
    let num_actions = possible.count(values.num_actions());
    let explores = random.unit_f64() < epsilon;
    let chosen = if explores {
        let place = random.below(num_actions.max(1) as u64) as usize;
        let drawn = possible.nth(place, values.num_actions());
        drawn.unwrap_or(greedy.action)
    } else {
        greedy.action
    };
    action[0] = chosen as f32;
    if !greedy.is_sound {
        return f32::NAN;
    }
    let by_chance = epsilon / num_actions as f64;
    let probability = if chosen == greedy.action {
        by_chance + (1.0 - epsilon)
    } else {
        by_chance
    };
    libm::log(probability) as f32
}
