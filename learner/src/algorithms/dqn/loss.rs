//! The losses of Q-learning and their gradients, as functions from tensors to tensors. `z` are the
//! network's outputs for the actions that were taken, `y` those of the target network for the next
//! actions; a transition has the n-step return `R` and the factor `g` of what follows it (the discount to
//! the power of the steps, zero after a terminated one: T1).
//!
//! Every gradient is that of `sum(w * loss) / N` by `z`: importance weights `w` multiply the *loss*, not
//! the error inside of it (T28), and the mean is over all rows of the minibatch (T27).

use tch::{Kind, Reduction, Tensor};

use crate::algorithms::replayed::Columns;
use crate::tensors::{host, host_mut};

/// What a loss gives for `N` rows.
#[derive(Debug)]
pub struct Loss {
    /// The loss of each row, without its weight, `[N]`.
    pub rows: Tensor,
    /// How surprising each row is, for its priority, `[N]`, at least zero.
    pub surprise: Tensor,
    /// The gradient of the weighted mean by the outputs, `[N, outputs]`.
    pub gradient: Tensor,
}

/// Squared error, linear beyond `threshold`, of the expectation: `y = R + g max Q`.
///
/// # Shapes
/// `outputs` and `next` are `[N, 1]`, `returns`, `discounts` and `weights` `[N]`.
///
/// # Source
/// Mnih and others 2015, algorithm 1, where the error is clipped: the gradient of Huber's loss with
/// threshold 1. The surprise is the absolute error (Schaul and others 2016, section 3.3).
#[must_use]
pub fn expectation(
    outputs: &Tensor,
    next: &Tensor,
    returns: &Tensor,
    discounts: &Tensor,
    weights: &Tensor,
    threshold: Option<f64>,
) -> Loss {
    let outputs = outputs.squeeze_dim(-1);
    let target = returns.addcmul(discounts, &next.squeeze_dim(-1));
    let error = &outputs - &target;
    let share = weights / outputs.size()[0] as f64;
    let (rows, gradient) = match threshold {
        None => (error.square() * 0.5, &error * share),
        // 0.5 e^2 inside and threshold (|e| - 0.5 threshold) outside.
        Some(threshold) => (
            outputs.huber_loss(&target, Reduction::None, threshold),
            outputs.huber_loss_backward(&share, &target, Reduction::None, threshold),
        ),
    };
    Loss {
        rows,
        surprise: error.abs(),
        gradient: gradient.unsqueeze(-1),
    }
}

/// [`expectation`] with everything around it, in one pass over values in this process's memory: the choice of the
/// next action (of the largest of `values`; NaN counts as that, as in libtorch), and the gradient by the outputs of
/// all actions. None where a tensor lies elsewhere.
///
/// # Shapes
/// `outputs`, `next` and `values` are `[N, actions]`, and so is the gradient.
#[must_use]
pub(crate) fn expectation_on_host(
    outputs: &Tensor,
    next: &Tensor,
    values: &Tensor,
    columns: &Columns,
    threshold: Option<f64>,
) -> Option<Loss> {
    let num_actions = values.size()[1] as usize;
    let num_rows = columns.returns.numel();
    let mut loss = Loss {
        rows: columns.returns.empty_like(),
        surprise: columns.returns.empty_like(),
        gradient: outputs.zeros_like(),
    };
    let rows = host_mut(&mut loss.rows)?.iter_mut();
    let rows = rows.zip(host_mut(&mut loss.surprise)?);
    let table = host_mut(&mut loss.gradient)?.chunks_exact_mut(num_actions);
    let table = table.zip(host(outputs)?.chunks_exact(num_actions));
    let following = host(next)?.chunks_exact(num_actions);
    let following = following.zip(host(values)?.chunks_exact(num_actions));
    let returned = host(&columns.returns)?
        .iter()
        .zip(host(&columns.discounts)?);
    let taken = host(&columns.actions)?.iter().zip(host(&columns.weights)?);
    let threshold = threshold.map_or(f32::INFINITY, |threshold| threshold as f32);
    for ((((row, table), following), returned), taken) in
        rows.zip(table).zip(following).zip(returned).zip(taken)
    {
        let ((loss, surprise), (gradient, outputs)) = (row, table);
        let ((next, values), (returned, discount), (action, weight)) = (following, returned, taken);
        let target = returned + discount * next[largest(values)];
        let error = outputs[*action as usize] - target;
        let size = error.abs();
        *surprise = size;
        *loss = if size <= threshold {
            0.5 * error * error
        } else {
            threshold * (size - 0.5 * threshold)
        };
        let share = weight / num_rows as f32;
        gradient[*action as usize] = error.clamp(-threshold, threshold) * share;
    }
    Some(loss)
}

/// Where the first of the largest values is, or the first NaN.
fn largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if values[best].is_nan() {
            break;
        }
        if *value > values[best] || value.is_nan() {
            best = index;
        }
    }
    best
}

/// Cross-entropy of the projected target distribution: the next one's atoms are moved to `R + g a`,
/// clamped to the support, and their probability is dealt out to the two nearest atoms.
///
/// # Shapes
/// `outputs` and `next` are logits `[N, num_atoms]`, `support` `[num_atoms]` ascending in equal steps.
///
/// # Source
/// Bellemare, Dabney and Munos 2017, algorithm 1. Where a moved atom falls onto an atom, all of its
/// probability stays there, which the formula with floor and ceiling would lose (T29). The surprise is
/// the loss (Hessel and others 2018).
#[must_use]
pub fn categorical(
    outputs: &Tensor,
    next: &Tensor,
    returns: &Tensor,
    discounts: &Tensor,
    weights: &Tensor,
    support: &Tensor,
) -> Loss {
    let target = projected(next, returns, discounts, support);
    let log_probs = outputs.log_softmax(-1, Kind::Float);
    let rows = -(&target * &log_probs).sum_dim_intlist(-1_i64, false, Kind::Float);
    let scale = (weights / rows.size()[0] as f64).unsqueeze(-1);
    Loss {
        surprise: rows.copy(),
        gradient: (log_probs.exp() - target) * scale,
        rows,
    }
}

/// The target distribution of [`categorical`], `[N, num_atoms]`.
pub fn projected(next: &Tensor, returns: &Tensor, discounts: &Tensor, support: &Tensor) -> Tensor {
    let num_atoms = support.size()[0];
    let least = support.double_value(&[0]);
    let largest = support.double_value(&[num_atoms - 1]);
    let distance = (largest - least) / (num_atoms - 1) as f64;
    let moved = (returns.unsqueeze(-1) + discounts.unsqueeze(-1) * support).clamp(least, largest);
    let position = ((moved - least) / distance).clamp(0.0, (num_atoms - 1) as f64);
    let lower = position.floor();
    let share = &position - &lower;
    let probabilities = next.softmax(-1, Kind::Float);
    let lower = lower.to_kind(Kind::Int64);
    let upper = (&lower + 1).clamp_max(num_atoms - 1);
    let of_upper = &probabilities * share;
    let of_lower = probabilities - &of_upper;
    Tensor::zeros_like(next)
        .scatter_add_(-1, &lower, &of_lower)
        .scatter_add_(-1, &upper, &of_upper)
}

/// Quantile regression with Huber's loss: the sum over the quantiles of the mean over the targets.
///
/// # Shapes
/// `outputs` and `next` are quantiles `[N, num_quantiles]`.
///
/// # Source
/// Dabney and others 2018, equation 10 and algorithm 1, with fractions `(i + 1/2) / num_quantiles`; the
/// loss is divided by the threshold, as in their code. Without a threshold it is the plain quantile
/// regression loss (kappa = 0). The surprise is the absolute error of the mean.
#[must_use]
pub fn quantiles(
    outputs: &Tensor,
    next: &Tensor,
    returns: &Tensor,
    discounts: &Tensor,
    weights: &Tensor,
    threshold: Option<f64>,
) -> Loss {
    let num_quantiles = outputs.size()[1];
    let num_rows = outputs.size()[0] as f64;
    let targets = returns.unsqueeze(-1) + discounts.unsqueeze(-1) * next;
    // [N, quantile, target]
    let errors = targets.unsqueeze(1) - outputs.unsqueeze(2);
    let fractions: Vec<f32> = (0..num_quantiles)
        .map(|i| ((i as f64 + 0.5) / num_quantiles as f64) as f32)
        .collect();
    let fractions = Tensor::from_slice(&fractions)
        .to_device(outputs.device())
        .view([1, num_quantiles, 1]);
    let asymmetry = (fractions - errors.lt(0.0).to_kind(Kind::Float)).abs();
    let size = errors.abs();
    let (losses, slope) = match threshold {
        None => (size, errors.sign()),
        Some(threshold) => {
            let inside = size.clamp_max(threshold);
            (
                &inside * (&size - &inside * 0.5) / threshold,
                errors.clamp(-threshold, threshold) / threshold,
            )
        }
    };
    let rows = (&asymmetry * losses)
        .mean_dim(-1_i64, false, Kind::Float)
        .sum_dim_intlist(-1_i64, false, Kind::Float);
    let gradient = -(asymmetry * slope).mean_dim(-1_i64, false, Kind::Float)
        * (weights / num_rows).unsqueeze(-1);
    let mean = |quantiles: &Tensor| quantiles.mean_dim(-1_i64, false, Kind::Float);
    Loss {
        rows,
        surprise: (mean(&targets) - mean(outputs)).abs(),
        gradient,
    }
}

#[cfg(test)]
mod tests {
    use rookery_common::seeds::{Purpose, Random};

    use super::*;
    use crate::tensors::to_host;

    #[test]
    fn both_ways_to_the_loss_of_an_expectation_are_one() {
        const ROWS: usize = 37;
        const ACTIONS: i64 = 3;
        let draws = |count: usize, position| {
            let mut random = Random::derive(1, Purpose::Minibatch, 3, position);
            let values: Vec<f32> = (0..count)
                .map(|_| random.uniform(-3.0, 3.0) as f32)
                .collect();
            Tensor::from_slice(&values)
        };
        let table = |position| draws(ROWS * ACTIONS as usize, position).view([-1, ACTIONS]);
        let column = |position| draws(ROWS, position);
        let (outputs, next, values) = (table(1), table(2), table(3));
        let columns = Columns {
            inputs: table(4),
            next_inputs: table(5),
            actions: column(6).abs().floor().clamp_max(2.0),
            returns: column(7),
            discounts: column(8).abs(),
            weights: column(9).abs(),
        };
        let taken = |of: &Tensor, actions: &Tensor| of.gather(1, &actions.view([-1, 1]), false);
        let actions = columns.actions.to_kind(Kind::Int64);
        let of_taken = taken(&outputs, &actions);
        let of_next = taken(&next, &values.argmax(-1, false));
        for threshold in [None, Some(0.5), Some(2.0)] {
            let Columns {
                returns,
                discounts,
                weights,
                ..
            } = &columns;
            let theirs = expectation(&of_taken, &of_next, returns, discounts, weights, threshold);
            let ours = expectation_on_host(&outputs, &next, &values, &columns, threshold).unwrap();
            let gradient =
                outputs
                    .zeros_like()
                    .scatter_(1, &actions.view([-1, 1]), &theirs.gradient);
            for (ours, theirs) in [
                (&ours.rows, &theirs.rows),
                (&ours.surprise, &theirs.surprise),
                (&ours.gradient, &gradient),
            ] {
                for (ours, theirs) in to_host(ours).iter().zip(to_host(theirs)) {
                    assert!((ours - theirs).abs() <= 1e-6 * theirs.abs().max(1.0));
                }
            }
        }
    }

    #[test]
    fn the_first_of_the_largest_is_chosen_and_nan_is_larger() {
        assert_eq!(largest(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(largest(&[f32::NAN, 3.0]), 0);
        assert_eq!(largest(&[4.0, f32::NAN, 3.0, f32::NAN]), 1);
    }
}
