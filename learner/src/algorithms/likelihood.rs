//! What a policy says about actions that were taken: how probable they were, how undecided it is, and
//! the gradient of any loss made of the two. Every policy gradient is one of these.

use tch::{Kind, Reduction, Tensor};

/// `nll_loss` leaves out rows of this class, which is none.
const NO_IGNORED_CLASS: i64 = -100;

/// The likelihood of `N` actions under the policies that a network has put out.
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
    Categorical {
        /// Of every action, `[N, num_actions]`.
        log_probs: Tensor,
        probs: Tensor,
        /// The actions, `[N, 1]`, i64.
        taken: Tensor,
    },
    Gaussian {
        /// `z`, `[N, dimension]`.
        distances: Tensor,
        /// `1 / σ`, `[dimension]`.
        precision: Tensor,
    },
}

impl Likelihood {
    /// Of `actions` under what a network has put out.
    ///
    /// # Shapes
    /// Categorical: `policy` are logits `[N, num_actions]`, `actions` indices `[N]`, i64. Gaussian:
    /// `policy` are means and `actions` vectors, `[N, dimension]`, and `log_std` is `[dimension]`.
    #[must_use]
    pub fn new(policy: &Tensor, log_std: Option<&Tensor>, actions: &Tensor) -> Self {
        match log_std {
            None => {
                let log_probs = policy.log_softmax(-1, None::<Kind>);
                let probs = log_probs.exp();
                Self {
                    negative_log_probs: log_probs.g_nll_loss(
                        actions,
                        None::<Tensor>,
                        Reduction::None,
                        NO_IGNORED_CLASS,
                    ),
                    entropy: (&probs * &log_probs).sum(None::<Kind>)
                        * (-1.0 / log_probs.size()[0] as f64),
                    terms: Terms::Categorical {
                        log_probs,
                        probs,
                        taken: actions.unsqueeze(-1),
                    },
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
            Terms::Categorical {
                log_probs,
                probs,
                taken,
            } => {
                let of_taken = by_log_probs.neg();
                let of_each = if by_entropy == 0.0 {
                    of_taken
                } else {
                    // The entropy of a row is h = -Σ p log p; by the logits it is -p (log p + h).
                    let entropies = (probs * log_probs).sum_dim_intlist(-1, true, None::<Kind>);
                    let share = by_entropy / probs.size()[0] as f64;
                    of_taken - (log_probs - entropies) * share
                };
                let by_logits = (probs * of_each).scatter_add(-1, taken, &by_log_probs);
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

    #[test]
    fn gradients_of_categorical_policies_are_those_of_autograd() {
        let logits = draws(7 * 3, 0).view([7, 3]).set_requires_grad(true);
        let actions = Tensor::from_slice(&[0_i64, 1, 2, 2, 0, 1, 2]);
        let likelihood = Likelihood::new(&logits, None, &actions);
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
        let likelihood = Likelihood::new(&mean, Some(&log_std), &actions);
        let weights = draws(6, 3);
        let expected = by_autograd(&likelihood, &weights, &[&mean, &log_std]);
        let (by_mean, by_log_std) = likelihood.gradient(&weights, 0.3);
        assert!(distance(&by_mean, &expected[0]) < 1e-5);
        assert!(distance(&by_log_std.unwrap(), &expected[1]) < 1e-5);
    }
}
