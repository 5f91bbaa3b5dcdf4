//! What a policy says about actions that were taken: how probable they were, how undecided it is, and
//! the gradient of any loss made of the two. Every policy gradient is one of these.

use tch::{Kind, Reduction, Tensor};

use crate::networks::Outputs;

/// `nll_loss` leaves out rows of this class, which is none.
const NO_IGNORED_CLASS: i64 = -100;

/// The likelihood of `N` actions under the policies that a network has put out. Choices that are made at
/// once are independent: their likelihoods multiply and their entropies add up.
///
/// # Source
/// The gradients are those of the categorical distribution's logits, `∇ log p(a) = e_a - p`, and of
/// the normal's mean and logarithm of the deviation, `z / σ` and `z² - 1` for `z = (a - μ) / σ`.
#[derive(Debug)]
pub struct Likelihood {
    /// `-log` of each action's probability (density), `[N]`.
    pub negative_log_probs: Tensor,
    /// Mean entropy of the policies, in nats, a scalar.
    pub entropy: Tensor,
    terms: Terms,
}

#[derive(Debug)]
enum Terms {
    /// Of each choice.
    Categorical(Vec<Choice>),
    Gaussian {
        /// `z`, `[N, dimension]`.
        distances: Tensor,
        /// `1 / σ`, `[dimension]`.
        precision: Tensor,
    },
}

/// One choice among actions.
#[derive(Debug)]
struct Choice {
    /// Of every action, `[N, num_actions]`.
    log_probs: Tensor,
    probs: Tensor,
    /// The actions, `[N, 1]`, i64.
    taken: Tensor,
}

impl Choice {
    /// Of `taken`, indices `[N]`, among actions with these logits, `[N, num_actions]`.
    fn new(logits: &Tensor, taken: &Tensor) -> Self {
        let log_probs = logits.log_softmax(-1, None::<Kind>);
        Self {
            probs: log_probs.exp(),
            log_probs,
            taken: taken.unsqueeze(-1),
        }
    }

    /// `[N]`.
    fn negative_log_probs(&self) -> Tensor {
        self.log_probs.g_nll_loss(
            &self.taken.squeeze_dim(-1),
            None::<Tensor>,
            Reduction::None,
            NO_IGNORED_CLASS,
        )
    }

    /// The mean, a scalar.
    fn entropy(&self) -> Tensor {
        (&self.probs * &self.log_probs).sum(None::<Kind>) * (-1.0 / self.log_probs.size()[0] as f64)
    }

    /// By the logits; `by_log_probs` is `[N, 1]`.
    fn gradient(&self, by_log_probs: &Tensor, by_entropy: f64) -> Tensor {
        let of_taken = by_log_probs.neg();
        let of_each = if by_entropy == 0.0 {
            of_taken
        } else {
            // The entropy of a row is h = -Σ p log p; by the logits it is -p (log p + h).
            let entropies = (&self.probs * &self.log_probs).sum_dim_intlist(-1, true, None::<Kind>);
            let share = by_entropy / self.probs.size()[0] as f64;
            of_taken - (&self.log_probs - entropies) * share
        };
        (&self.probs * of_each).scatter_add(-1, &self.taken, by_log_probs)
    }
}

/// The sum of what `of` gives for each choice, of which there is at least one.
fn sum(choices: &[Choice], of: fn(&Choice) -> Tensor) -> Tensor {
    let others = choices[1..].iter().map(of);
    others.fold(of(&choices[0]), |sum, of_choice| sum + of_choice)
}

impl Likelihood {
    /// Of `actions` under what a network has put out.
    ///
    /// # Shapes
    /// `actions` are indices `[N, choices]`, i64, or of a Gaussian policy vectors `[N, dimension]`.
    #[must_use]
    pub fn new(outputs: &Outputs, actions: &Tensor) -> Self {
        let policy = &outputs.policy;
        match &outputs.log_std {
            None => {
                let mut first = 0;
                let choices: Vec<Choice> = (0..)
                    .zip(&outputs.choices)
                    .map(|(choice, &num_actions)| {
                        let logits = policy.narrow(-1, first, num_actions);
                        first += num_actions;
                        Choice::new(&logits, &actions.select(-1, choice))
                    })
                    .collect();
                Self {
                    negative_log_probs: sum(&choices, Choice::negative_log_probs),
                    entropy: sum(&choices, Choice::entropy),
                    terms: Terms::Categorical(choices),
                }
            }
            Some(log_std) => {
                let precision = log_std.neg().exp();
                let distances = (actions - policy) * &precision;
                let squares = distances.square().sum_dim_intlist(-1, false, None::<Kind>);
                let sum = log_std.sum(None::<Kind>);
                let dimension = log_std.numel() as f64;
                Self {
                    negative_log_probs: squares * 0.5
                        + (&sum + 0.5 * dimension * std::f64::consts::TAU.ln()),
                    entropy: sum + 0.5 * dimension * (1.0 + std::f64::consts::TAU.ln()),
                    terms: Terms::Gaussian {
                        distances,
                        precision,
                    },
                }
            }
        }
    }

    /// The gradient of a loss, given its gradient by the logarithm of each action's probability and by
    /// the mean entropy.
    ///
    /// # Shapes
    /// `by_log_probs` is `[N]`; the results are the gradient by the logits or means, and that by the
    /// logarithm of the deviation, each of its shape.
    pub fn gradient(&self, by_log_probs: &Tensor, by_entropy: f64) -> (Tensor, Option<Tensor>) {
        let by_log_probs = by_log_probs.unsqueeze(-1);
        match &self.terms {
            Terms::Categorical(choices) => {
                let by_logits: Vec<Tensor> = choices
                    .iter()
                    .map(|choice| choice.gradient(&by_log_probs, by_entropy))
                    .collect();
                let by_logits = match &by_logits[..] {
                    [only] => only.shallow_clone(),
                    several => Tensor::cat(several, -1),
                };
                (by_logits, None)
            }
            Terms::Gaussian {
                distances,
                precision,
            } => {
                let by_log_std = ((distances.square() - 1.0) * &by_log_probs).sum_dim_intlist(
                    0,
                    false,
                    None::<Kind>,
                ) + by_entropy;
                (distances * &by_log_probs * precision, Some(by_log_std))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rookery_common::seeds::{Purpose, Random};

    use super::*;

    fn draws(count: usize, position: u64) -> Tensor {
        let mut random = Random::derive(5, Purpose::Initialisation, 1, position);
        let values: Vec<f32> = (0..count)
            .map(|_| random.uniform(-1.5, 1.5) as f32)
            .collect();
        Tensor::from_slice(&values)
    }

    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    /// The gradient that autograd finds for the same loss.
    fn by_autograd(likelihood: &Likelihood, weights: &Tensor, leaves: &[&Tensor]) -> Vec<Tensor> {
        let loss = -likelihood.negative_log_probs.dot(weights) + &likelihood.entropy * 0.3;
        Tensor::run_backward(&[loss], leaves, false, false)
    }

    fn categorical(logits: &Tensor, choices: &[i64]) -> Outputs {
        Outputs {
            policy: logits.shallow_clone(),
            choices: choices.to_vec(),
            log_std: None,
            values: Tensor::zeros([logits.size()[0], 1], (Kind::Float, tch::Device::Cpu)),
        }
    }

    /// Two choices at once are two policies: likelihoods multiply, entropies add up, and each one's
    /// gradient is its own.
    #[test]
    fn several_choices_are_independent() {
        let logits = draws(5 * 7, 3).view([5, 7]).set_requires_grad(true);
        let actions = Tensor::from_slice(&[0_i64, 3, 2, 1, 1, 0, 2, 2, 0, 3]).view([5, 2]);
        let both = Likelihood::new(&categorical(&logits, &[3, 4]), &actions);
        let each = [(0, 3), (1, 4)].map(|(choice, num_actions)| {
            let own = logits.narrow(-1, 3 * choice, num_actions);
            let outputs = categorical(&own, &[num_actions]);
            Likelihood::new(&outputs, &actions.narrow(-1, choice, 1))
        });
        let sum = &each[0].negative_log_probs + &each[1].negative_log_probs;
        assert_eq!(distance(&both.negative_log_probs, &sum), 0.0);
        assert_eq!(
            distance(&both.entropy, &(&each[0].entropy + &each[1].entropy)),
            0.0
        );
        let weights = draws(5, 4);
        let (by_logits, _) = both.gradient(&weights, 0.3);
        let own = each.map(|likelihood| likelihood.gradient(&weights, 0.3).0);
        assert_eq!(distance(&by_logits, &Tensor::cat(&own, -1)), 0.0);
        let expected = by_autograd(&both, &weights, &[&logits]);
        assert!(distance(&by_logits, &expected[0]) < 1e-6);
    }

    #[test]
    fn gradients_of_categorical_policies_are_those_of_autograd() {
        let logits = draws(7 * 3, 0).view([7, 3]).set_requires_grad(true);
        let actions = Tensor::from_slice(&[0_i64, 1, 2, 2, 0, 1, 2]).view([7, 1]);
        let likelihood = Likelihood::new(&categorical(&logits, &[3]), &actions);
        let weights = draws(7, 1);
        let expected = by_autograd(&likelihood, &weights, &[&logits]);
        let (by_logits, by_log_std) = likelihood.gradient(&weights, 0.3);
        assert!(distance(&by_logits, &expected[0]) < 1e-6);
        assert!(by_log_std.is_none());
        let (without_entropy, _) = likelihood.gradient(&weights, 0.0);
        assert!(distance(&by_logits, &without_entropy) > 1e-3);
    }

    #[test]
    fn gradients_of_gaussian_policies_are_those_of_autograd() {
        let mean = draws(6 * 2, 0).view([6, 2]).set_requires_grad(true);
        let log_std = draws(2, 1).set_requires_grad(true);
        let actions = draws(6 * 2, 2).view([6, 2]);
        let outputs = Outputs {
            policy: mean.shallow_clone(),
            choices: Vec::new(),
            log_std: Some(log_std.shallow_clone()),
            values: Tensor::zeros([6, 1], (Kind::Float, tch::Device::Cpu)),
        };
        let likelihood = Likelihood::new(&outputs, &actions);
        let weights = draws(6, 3);
        let expected = by_autograd(&likelihood, &weights, &[&mean, &log_std]);
        let (by_mean, by_log_std) = likelihood.gradient(&weights, 0.3);
        assert!(distance(&by_mean, &expected[0]) < 1e-5);
        assert!(distance(&by_log_std.unwrap(), &expected[1]) < 1e-5);
    }
}
