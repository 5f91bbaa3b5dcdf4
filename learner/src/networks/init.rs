//! The initial parameters, drawn without libtorch's generator, so that a run's start is a function
//! of its seed alone.

use rookery_common::policy::layout::Layout;
use rookery_common::seeds::{Purpose, Random};

/// Gain of a hidden layer, for tanh and for rectified linear units alike.
pub const HIDDEN_GAIN: f64 = std::f64::consts::SQRT_2;

/// Gain of a recurrent layer's matrices (Huang and others 2022, "The 37 implementation details of
/// proximal policy optimization", the first of those for LSTMs).
pub const RECURRENT_GAIN: f64 = 1.0;

/// Gain of the policy's head: so small that the first policy is close to uniform.
pub const POLICY_HEAD_GAIN: f64 = 0.01;

/// Gain of the critic's head.
pub const VALUE_HEAD_GAIN: f64 = 1.0;

/// A random matrix whose shorter side is orthogonal with norm `gain`: `W Wᵀ = gain² I` where there
/// are no more rows than columns, `Wᵀ W = gain² I` where there are no fewer.
///
/// The stream is derived from `(seed, tensor)`, so one tensor's values do not depend on the shapes
/// of the others.
///
/// # Shapes
/// `[rows, columns]`, row-major.
///
/// # Source
/// Saxe and others 2014, "Exact solutions to the nonlinear dynamics of learning in
/// deep linear neural networks", section 3: Gram-Schmidt on normal vectors, which is uniform over
/// the orthonormal frames. Every vector is projected twice, without which rounding would leave an
/// angle between the last ones (Giraud, Langou and Rozloznik 2005).
pub fn orthogonal(rows: usize, columns: usize, gain: f64, seed: u64, tensor: u64) -> Vec<f32> {
    let (count, length) = (rows.min(columns), rows.max(columns));
    let mut random = Random::derive(seed, Purpose::Initialisation, tensor, 0);
    let mut frame: Vec<Vec<f64>> = Vec::with_capacity(count);
    while frame.len() < count {
        let mut vector = normals(&mut random, length);
        let drawn = norm(&vector);
        for _ in 0..2 {
            for unit in &frame {
                let shadow: f64 = unit.iter().zip(&vector).map(|(u, v)| u * v).sum();
                for (v, u) in vector.iter_mut().zip(unit) {
                    *v -= shadow * u;
                }
            }
        }
        let remaining = norm(&vector);
        // A vector that lies in the span of the others (in one dimension: a normal of nearly zero)
        // has no direction left, and another is drawn.
        if remaining > 1e-8 * drawn {
            for element in &mut vector {
                *element /= remaining;
            }
            frame.push(vector);
        }
    }
    let element = |row: usize, column: usize| {
        let (vector, position) = if rows <= columns {
            (row, column)
        } else {
            (column, row)
        };
        (gain * frame[vector][position]) as f32
    };
    (0..rows * columns)
        .map(|index| element(index / columns, index % columns))
        .collect()
}

/// Values for every tensor of `layout`: [`orthogonal`] for each weight, with the gain that `gain` says for
/// it, and zeros for biases and standard deviations. A convolution's weight `[outputs, inputs, kernel,
/// kernel]` is a matrix of one row for each output, as in PyTorch's `orthogonal_`. The first tensor's
/// stream has the index `first_tensor`.
pub fn orthogonal_layout(
    layout: &Layout,
    gain: impl Fn(&str) -> f64,
    seed: u64,
    first_tensor: u64,
) -> Vec<f32> {
    let mut values = vec![0.0; layout.len()];
    for (index, slot) in (first_tensor..).zip(layout.tensors()) {
        let kind = slot.name().rsplit('.').next().unwrap_or_default();
        let is_weight = matches!(kind, "weight" | "weight_ih" | "weight_hh");
        if let [rows, columns @ ..] = slot.shape()
            && is_weight
        {
            let columns = columns.iter().product();
            let drawn = orthogonal(*rows, columns, gain(slot.name()), seed, index);
            values[slot.range()].copy_from_slice(&drawn);
        }
    }
    values
}

fn normals(random: &mut Random, count: usize) -> Vec<f64> {
    let mut drawn = Vec::with_capacity(count + 1);
    while drawn.len() < count {
        let (first, second) = random.standard_normals();
        drawn.extend([first, second]);
    }
    drawn.truncate(count);
    drawn
}

fn norm(vector: &[f64]) -> f64 {
    vector.iter().map(|v| v * v).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest distance of `W Wᵀ` (or `Wᵀ W`, whichever is smaller) from `gain² I`.
    fn departure(rows: usize, columns: usize, gain: f64) -> f64 {
        let matrix = orthogonal(rows, columns, gain, 11, 3);
        assert_eq!(matrix.len(), rows * columns);
        let (count, length) = (rows.min(columns), rows.max(columns));
        let at = |vector: usize, position: usize| {
            f64::from(if rows <= columns {
                matrix[vector * columns + position]
            } else {
                matrix[position * columns + vector]
            })
        };
        let mut worst = 0.0_f64;
        for i in 0..count {
            for j in 0..count {
                let product: f64 = (0..length).map(|k| at(i, k) * at(j, k)).sum();
                let expected = if i == j { gain * gain } else { 0.0 };
                worst = worst.max((product - expected).abs());
            }
        }
        worst
    }

    #[test]
    fn t23_the_shorter_side_is_orthogonal_with_the_gain_as_norm() {
        for (rows, columns) in [(64, 64), (64, 4), (2, 64), (1, 64), (1, 1), (3, 200)] {
            for gain in [HIDDEN_GAIN, POLICY_HEAD_GAIN, VALUE_HEAD_GAIN] {
                let worst = departure(rows, columns, gain);
                assert!(
                    worst < 1e-6 * gain,
                    "{rows}x{columns}, gain {gain}: {worst}"
                );
            }
        }
    }

    #[test]
    fn t34_a_tensor_depends_on_the_seed_and_its_index_alone() {
        let reference = orthogonal(8, 5, 1.0, 1, 2);
        assert_eq!(reference, orthogonal(8, 5, 1.0, 1, 2));
        assert_ne!(reference, orthogonal(8, 5, 1.0, 2, 2));
        assert_ne!(reference, orthogonal(8, 5, 1.0, 1, 3));
    }

    #[test]
    fn signs_are_drawn_too() {
        // A frame from a QR decomposition with its signs left as they come would favour one side.
        let positive = (0..400)
            .filter(|&seed| orthogonal(1, 1, 1.0, seed, 0)[0] > 0.0)
            .count();
        assert!((160..240).contains(&positive), "{positive}");
    }
}
