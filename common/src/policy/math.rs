//! Elementary functions that give the same bits on every processor.
//!
//! C libraries differ in their last bits, and so do the vector libraries of compilers. These
//! functions are built from IEEE 754 binary32 additions, multiplications, divisions, fused
//! multiply-adds, comparisons and integer operations only, in a fixed order; the compiler neither
//! reorders nor contracts those, so a value does not depend on whether it was computed alone or in
//! a vector, or on how wide that was. They have no branches: a loop over a slice becomes vector
//! code for whatever instructions the surrounding function is compiled for.
//!
//! The coefficients are minimax ones, derived by `scripts/coefficients/policy_math.py` with
//! Remez's algorithm (Remez 1934; for quotients see Muller, "Elementary Functions", 3rd edition,
//! 2016, section 3.9). Errors are measured against binary64 over every thirteenth binary32 number.
//!
//! NaN gives NaN everywhere; its payload is unspecified. Subnormal results need the processor's
//! default rounding state, in which Rust runs.

#![expect(
    clippy::inline_always,
    reason = "a function must be compiled with the vector instructions of its caller"
)]

use super::spec::Activation;

/// Evaluates a polynomial, lowest coefficient first, by Horner's rule in fused multiply-adds.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut value = coefficients[N - 1];
    for coefficient in coefficients[..N - 1].iter().rev() {
        value = value.mul_add(x, *coefficient);
    }
    value
}

/// From here on the hyperbolic tangent rounds to one.
const TANH_LIMIT: f32 = 9.02;
const TANH_NUMERATOR: [f32; 5] = [
    1.0,
    0.133_797_17,
    3.494_033_8e-3,
    2.058_346_8e-5,
    1.331_905_3e-8,
];
const TANH_DENOMINATOR: [f32; 5] = [
    1.0,
    0.467_130_33,
    2.587_107e-2,
    3.283_091_4e-4,
    7.762_011_5e-7,
];

/// The hyperbolic tangent.
///
/// `x P(x^2) / Q(x^2)` with both of degree 4. The largest error is measured at 4.6 units in the
/// last place; the result never leaves `[-1, 1]`, is exactly odd, and is `x` where `x` is tiny.
#[inline(always)]
#[must_use]
pub fn tanh(x: f32) -> f32 {
    let x = x.clamp(-TANH_LIMIT, TANH_LIMIT);
    let square = x * x;
    let numerator = x * polynomial(square, TANH_NUMERATOR);
    (numerator / polynomial(square, TANH_DENOMINATOR)).clamp(-1.0, 1.0)
}

/// The natural logarithm of two in two parts: the first has 15 bits, so that its product with an
/// exponent is exact (Cody and Waite 1980).
const LN_2_HIGH: f32 = 0.693_145_75;
const LN_2_LOW: f32 = 1.428_606_8e-6;

/// Adding this rounds a small `f32` to an integer, which then lies in the low bits of the sum.
const ROUNDER: f32 = 12_582_912.0;

const EXP_COEFFICIENTS: [f32; 5] = [
    0.499_999_94,
    0.166_665_21,
    4.166_839e-2,
    8.368_717e-3,
    1.381_459_6e-3,
];

/// The exponential function.
///
/// `2^n exp(r)` with `|r| <= ln(2) / 2` and `exp(r) = 1 + r + r^2 P(r)`. The largest error is
/// measured at 1.01 units in the last place. Overflows to infinity and underflows gradually to
/// zero.
#[inline(always)]
#[must_use]
pub fn exp(x: f32) -> f32 {
    // Beyond these bounds the result is infinity or zero anyway, and the exponent stays small.
    let x = x.clamp(-104.5, 89.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let value = (r * r).mul_add(polynomial(r, EXP_COEFFICIENTS), r) + 1.0;
    // Two factors, because 2^n alone may be neither finite nor normal where the product is.
    let n = shifted
        .to_bits()
        .wrapping_sub(ROUNDER.to_bits())
        .cast_signed();
    let half = n >> 1;
    value * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// `2^n` for `-126 <= n <= 127`; any bits otherwise.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127).cast_unsigned()) << 23)
}

const LN_COEFFICIENTS: [f32; 8] = [
    0.333_333_3,
    -0.250_008_2,
    0.200_012_27,
    -0.166_233_57,
    0.142_017_54,
    -0.131_601_77,
    0.127_615_97,
    -7.634_538e-2,
];

/// Bits of the square root of one half.
const SQRT_HALF_BITS: u32 = 0x3f35_04f3;

/// The natural logarithm.
///
/// `k ln(2) + ln(1 + f)` with `1 + f` between the square roots of one half and two, and
/// `ln(1 + f) = f - f^2 / 2 + f^3 P(f)`. The largest error is measured at 0.89 units in the last
/// place. Minus infinity at zero and NaN below.
#[inline(always)]
#[must_use]
pub fn ln(x: f32) -> f32 {
    // Subnormal numbers are scaled into the normal ones first.
    let subnormal = x < f32::MIN_POSITIVE;
    let scaled = if subnormal { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits();
    let k = bits.wrapping_sub(SQRT_HALF_BITS).cast_signed() >> 23;
    let f = f32::from_bits(bits.wrapping_sub(k.cast_unsigned() << 23)) - 1.0;
    let k = k as f32 - if subnormal { 23.0 } else { 0.0 };
    let square = f * f;
    let low = k.mul_add(LN_2_LOW, -0.5 * square);
    let tail = (f * square).mul_add(polynomial(f, LN_COEFFICIENTS), low);
    let value = k.mul_add(LN_2_HIGH, f + tail);
    // Whatever is not a positive finite number.
    let value = if x < f32::INFINITY { value } else { x };
    let value = if x < 0.0 { f32::NAN } else { value };
    if x == 0.0 { f32::NEG_INFINITY } else { value }
}

/// The logistic function, `1 / (1 + exp(-x))`.
///
/// `exp(-|x|)` never overflows, and is the small one of the two terms of the denominator; so results
/// underflow as gradually as those of [`exp`]. The largest error is measured at 2.41 units in the
/// last place; the result never leaves `[0, 1]`.
#[inline(always)]
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    let small = exp(-x.abs());
    let numerator = if x >= 0.0 { 1.0 } else { small };
    numerator / (1.0 + small)
}

/// The larger of `x` and zero.
#[inline(always)]
#[must_use]
pub fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// Puts an activation's values in the place of its arguments.
#[inline(always)]
pub fn activate(activation: Activation, values: &mut [f32]) {
    let values = values.iter_mut();
    match activation {
        Activation::Tanh => values.for_each(|value| *value = tanh(*value)),
        Activation::Relu => values.for_each(|value| *value = relu(*value)),
    }
}

/// Carries a gradient back through an [activation](activate), given what came out of it: `1 - y^2`, and 1
/// where `y > 0`. Behind a NaN it goes on, as in libtorch, and is found not to be finite.
#[inline(always)]
pub fn activation_gradient(activation: Activation, outputs: &[f32], gradient: &mut [f32]) {
    let pairs = gradient.iter_mut().zip(outputs);
    match activation {
        Activation::Tanh => pairs.for_each(|(gradient, y)| *gradient *= 1.0 - y * y),
        Activation::Relu => pairs.for_each(|(gradient, y)| {
            *gradient = if *y <= 0.0 { 0.0 } else { *gradient };
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `visit` with every `stride`-th binary32 number of both signs, infinities included.
    fn each_number(stride: usize, mut visit: impl FnMut(f32)) {
        for bits in (0..=f32::INFINITY.to_bits()).step_by(stride) {
            visit(f32::from_bits(bits));
            visit(-f32::from_bits(bits));
        }
    }

    /// Distance from `value` to `exact` in units of the last place of `exact` rounded.
    fn ulps(value: f32, exact: f64) -> f64 {
        let rounded = exact as f32;
        if value == rounded {
            return 0.0;
        }
        let unit = f64::from(rounded.abs().next_up()) - f64::from(rounded.abs());
        (f64::from(value) - exact).abs() / unit
    }

    /// The largest error in ulps over the stride, and where.
    fn worst(stride: usize, function: fn(f32) -> f32, exact: fn(f64) -> f64) -> (f64, f32) {
        let mut worst = (0.0, 0.0);
        each_number(stride, |x| {
            let exact = exact(f64::from(x));
            let error = ulps(function(x), exact);
            if error > worst.0 || (error.is_nan() && !exact.is_nan()) {
                worst = (error, x);
            }
        });
        worst
    }

    // A prime stride visits two million numbers of each sign with every pattern of low bits.
    const STRIDE: usize = 1009;

    #[test]
    fn errors_stay_within_the_documented_ulps() {
        assert_errors_within_documented_ulps(STRIDE);
    }

    #[test]
    #[ignore = "takes a minute in an optimised build: run it after any change to the functions"]
    fn errors_stay_within_the_documented_ulps_at_every_thirteenth_number() {
        assert_errors_within_documented_ulps(13);
    }

    fn assert_errors_within_documented_ulps(stride: usize) {
        for (name, function, exact, bound) in [
            (
                "tanh",
                tanh as fn(f32) -> f32,
                libm::tanh as fn(f64) -> f64,
                4.6,
            ),
            ("exp", exp, libm::exp, 1.01),
            ("sigmoid", sigmoid, |x| 1.0 / (1.0 + libm::exp(-x)), 2.41),
            ("ln", ln, libm::log, 0.89),
        ] {
            let (error, x) = worst(stride, function, exact);
            assert!(error <= bound, "{name}({x:e}) is {error} ulp off");
        }
    }

    #[test]
    fn every_exponent_near_the_edges_of_the_range_is_exact_to_an_ulp() {
        // Neighbours of the overflow, underflow and subnormal thresholds and of ln's poles.
        for centre in [
            88.722_84_f32,
            -87.336_55,
            -103.972_08,
            -104.5,
            89.0,
            1.0,
            f32::MIN_POSITIVE,
        ] {
            let mut x = centre;
            for _ in 0..2000 {
                x = x.next_down();
            }
            for _ in 0..4000 {
                assert!(ulps(exp(x), libm::exp(f64::from(x))) <= 1.0, "exp({x:e})");
                assert!(
                    x < 0.0 || ulps(ln(x), libm::log(f64::from(x))) <= 0.9,
                    "ln({x:e})"
                );
                x = x.next_up();
            }
        }
    }

    #[test]
    fn special_values_follow_the_limits() {
        assert_eq!(tanh(f32::INFINITY), 1.0_f32.next_down());
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0_f32.next_down());
        assert_eq!(tanh(1e-30), 1e-30);
        assert_eq!(tanh(-0.0).to_bits(), (-0.0_f32).to_bits());
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert_eq!(exp(-104.0), 0.0);
        assert_eq!(ln(0.0), f32::NEG_INFINITY);
        assert_eq!(ln(-0.0), f32::NEG_INFINITY);
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(ln(f32::INFINITY), f32::INFINITY);
        assert!(ln(-1.0).is_nan() && ln(f32::NEG_INFINITY).is_nan());
        assert_eq!(sigmoid(f32::INFINITY), 1.0);
        assert_eq!(sigmoid(f32::NEG_INFINITY), 0.0);
        assert_eq!(sigmoid(0.0), 0.5);
        assert_eq!(relu(-2.0), 0.0);
        assert_eq!(relu(2.0), 2.0);
        for function in [tanh, exp, ln, sigmoid, relu] {
            assert!(function(f32::NAN).is_nan());
        }
    }

    #[test]
    fn tanh_is_odd_and_bounded() {
        each_number(STRIDE, |x| {
            assert_eq!(tanh(-x).to_bits(), (-tanh(x)).to_bits(), "{x:e}");
            assert!(tanh(x).abs() <= 1.0, "{x:e}");
        });
    }

    #[test]
    fn values_are_pinned_on_every_platform() {
        // The same bits on every processor: checksums over the inputs, made once.
        let first = checksum(&[tanh, exp, ln]);
        assert_eq!(first, 0xa88e_113d_4bef_29a4, "{first:#x}");
        let second = checksum(&[sigmoid]);
        assert_eq!(second, 0xd768_5382_ed2e_ed62, "{second:#x}");
    }

    fn checksum(functions: &[fn(f32) -> f32]) -> u64 {
        let mut checksum = 0_u64;
        each_number(STRIDE, |x| {
            for function in functions {
                let value = function(x);
                let bits = if value.is_nan() {
                    u32::MAX
                } else {
                    value.to_bits()
                };
                checksum = checksum.rotate_left(5) ^ u64::from(bits);
                checksum = checksum.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            }
        });
        checksum
    }
}
