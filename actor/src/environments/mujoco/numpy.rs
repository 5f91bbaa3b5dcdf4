//! Sums as `NumPy` computes them. Gymnasium's rewards are made of them, and a sum of rounded
//! numbers depends on its order.

use std::ops::{Add, Range};

/// Up to here `NumPy` adds in one loop, beyond it halves the sum.
const BLOCK: usize = 128;

/// The sum of `value(index)` over `range` in the order of `numpy.sum` over one contiguous axis:
/// pairwise, with eight running sums.
pub(super) fn sum<T: Copy + Default + Add<Output = T>>(
    range: Range<usize>,
    value: &impl Fn(usize) -> T,
) -> T {
    let count = range.len();
    if count < 8 {
        return range.map(value).fold(T::default(), Add::add);
    }
    if count > BLOCK {
        let half = range.start + (count / 2 - count / 2 % 8);
        return sum(range.start..half, value) + sum(half..range.end, value);
    }
    let mut running: [T; 8] = std::array::from_fn(|offset| value(range.start + offset));
    let whole = range.end - count % 8;
    for first in (range.start + 8..whole).step_by(8) {
        for (offset, running) in running.iter_mut().enumerate() {
            *running = *running + value(first + offset);
        }
    }
    let [a, b, c, d, e, f, g, h] = running;
    let total = ((a + b) + (c + d)) + ((e + f) + (g + h));
    (whole..range.end).map(value).fold(total, Add::add)
}

/// `numpy.sum(numpy.square(values))` of float32 values.
pub(super) fn sum_of_squares_f32(values: &[f32]) -> f32 {
    sum(0..values.len(), &|index| values[index] * values[index])
}

/// `numpy.sum(numpy.square(values))` of float64 values.
pub(super) fn sum_of_squares(values: &[f64]) -> f64 {
    sum(0..values.len(), &|index| values[index] * values[index])
}

/// `numpy.linalg.norm` of the difference of two points.
pub(super) fn distance(a: &[f64], b: &[f64]) -> f64 {
    let square = a.iter().zip(b).fold(0.0, |sum, (a, b)| {
        let difference = a - b;
        sum + difference * difference
    });
    square.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_sum_is_numpys() {
        // `numpy.sum(numpy.sqrt(numpy.arange(count)), dtype)` of NumPy 2.4.6.
        let wide = |count| sum(0..count, &|index| (index as f64).sqrt());
        let narrow = |count| sum(0..count, &|index| (index as f32).sqrt());
        for (count, in_f64, in_f32) in SUMS {
            assert_eq!(wide(count).to_bits(), in_f64, "{count} values");
            assert_eq!(narrow(count).to_bits(), in_f32, "{count} values");
        }
    }

    const SUMS: [(usize, u64, u32); 6] = [
        (0, 0x0, 0x0),
        (7, 0x4025_a9e4_95c3_3684, 0x412d_4f25),
        (17, 0x4046_3c0e_a25a_80e1, 0x4231_e076),
        (84, 0x407f_c766_a787_c316, 0x43fe_3b36),
        (129, 0x408e_571c_e56a_434a, 0x4472_b8e8),
        (1000, 0x40d4_9275_51b0_4add, 0x46a4_93ab),
    ];
}
