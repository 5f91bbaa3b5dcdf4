//! Actions that never leave their bounds: the hyperbolic tangent of a draw or of an output,
//! rescaled.

#![expect(
    clippy::inline_always,
    reason = "sampling must be compiled with the vector instructions of its caller"
)]

use super::distribution::LN_SQRT_TAU;
use super::math;
use crate::seeds::Random;

/// Smallest logarithm of a standard deviation; smaller outputs count as this (T25).
pub const MIN_LOG_STD: f32 = -20.0;

/// Largest logarithm of a standard deviation; larger outputs count as this (T25).
pub const MAX_LOG_STD: f32 = 2.0;

/// Bounds of an action, to which values from -1 to 1 are rescaled.
#[derive(Clone, Debug)]
pub struct Bounds {
    dimensions: Vec<Dimension>,
    /// The sum of the logarithms of half the distances.
    log_scale: f64,
}

#[derive(Clone, Copy, Debug)]
struct Dimension {
    low: f32,
    high: f32,
    centre: f64,
    half: f64,
}

impl Bounds {
    /// The box between `low` and `high`, which are finite and in order.
    #[must_use]
    pub fn new(low: &[f32], high: &[f32]) -> Self {
        let dimensions: Vec<Dimension> = low
            .iter()
            .zip(high)
            .map(|(&low, &high)| Dimension {
                low,
                high,
                centre: 0.5 * (f64::from(low) + f64::from(high)),
                half: 0.5 * (f64::from(high) - f64::from(low)),
            })
            .collect();
        Self {
            log_scale: dimensions
                .iter()
                .map(|dimension| libm::log(dimension.half))
                .sum(),
            dimensions,
        }
    }

    /// Number of dimensions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dimensions.len()
    }

    /// Whether there is no dimension.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dimensions.is_empty()
    }

    /// Takes each value from `[-1, 1]` to its bounds, which rounding never leaves; values beyond are
    /// clipped.
    #[inline(always)]
    pub fn rescale(&self, action: &mut [f32]) {
        for (action, dimension) in action.iter_mut().zip(&self.dimensions) {
            let rescaled = dimension.centre + dimension.half * f64::from(*action);
            *action = (rescaled as f32).clamp(dimension.low, dimension.high);
        }
    }

    /// Rescales the hyperbolic tangent of each output: the action of a deterministic policy, and
    /// of the mean of a squashed Gaussian.
    #[inline(always)]
    pub fn squash(&self, outputs: &[f32], action: &mut [f32]) {
        for (action, output) in action.iter_mut().zip(outputs) {
            *action = math::tanh(*output);
        }
        self.rescale(action);
    }

    /// Draws each dimension uniformly between its bounds, in their order, and returns the
    /// logarithm of the density.
    #[inline(always)]
    pub fn sample_uniform(&self, random: &mut Random, action: &mut [f32]) -> f32 {
        for action in action.iter_mut() {
            *action = random.uniform(-1.0, 1.0) as f32;
        }
        self.rescale(action);
        (-self.log_scale - self.len() as f64 * std::f64::consts::LN_2) as f32
    }

    /// Adds normal noise of standard deviation `std`, in units of half the distance between the
    /// bounds, to a deterministic policy's action, and clips the sum to the bounds.
    ///
    /// Returns the logarithm of the density of the action before it was clipped.
    ///
    /// # Source
    /// Fujimoto et al. 2018, "Addressing function approximation error in actor-critic methods",
    /// algorithm 1 and section 6.1, where bounds are -1 and 1.
    #[inline(always)]
    pub fn sample_around(
        &self,
        outputs: &[f32],
        std: f64,
        random: &mut Random,
        action: &mut [f32],
    ) -> f32 {
        standard_normals(random, action);
        let mut squares = 0.0;
        for (action, output) in action.iter_mut().zip(outputs) {
            squares += f64::from(*action) * f64::from(*action);
            *action = (f64::from(math::tanh(*output)) + std * f64::from(*action)) as f32;
        }
        self.rescale(action);
        let log_normaliser = self.len() as f64 * (libm::log(std) + LN_SQRT_TAU);
        (-0.5 * squares - log_normaliser - self.log_scale) as f32
    }
}

/// Normal distributions whose draws go through the hyperbolic tangent and are rescaled to bounds;
/// dimensions are independent.
///
/// # Source
/// Haarnoja et al. 2018, "Soft actor-critic algorithms and applications", appendix C, equation 26,
/// with the derivative of the rescaling added.
#[derive(Clone, Debug)]
pub struct SquashedGaussian {
    bounds: Bounds,
}

impl SquashedGaussian {
    /// The distributions over the actions between the bounds.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds }
    }

    /// The bounds.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Draws an action and returns the logarithm of its density.
    ///
    /// Dimensions `2 i` and `2 i + 1` take the `i`-th pair of [`Random::standard_normals`].
    ///
    /// # Shapes
    /// `outputs`: `[2, dimension]`, means and logarithms of standard deviations; `action`:
    /// `[dimension]`.
    #[inline(always)]
    pub fn sample(&self, outputs: &[f32], random: &mut Random, action: &mut [f32]) -> f32 {
        standard_normals(random, action);
        let (mean, log_std) = outputs.split_at(self.bounds.len());
        for ((action, mean), log_std) in action.iter_mut().zip(mean).zip(log_std) {
            let std = math::exp(log_std.clamp(MIN_LOG_STD, MAX_LOG_STD));
            *action = std.mul_add(*action, *mean);
        }
        let log_prob = self.log_prob(outputs, action);
        for action in action.iter_mut() {
            *action = math::tanh(*action);
        }
        self.bounds.rescale(action);
        log_prob
    }

    /// The action of the mean.
    #[inline(always)]
    pub fn mode(&self, outputs: &[f32], action: &mut [f32]) {
        self.bounds.squash(&outputs[..self.bounds.len()], action);
    }

    /// The logarithm of the density of the action that the draw `u` becomes, in the units of the
    /// action: `log N(u) - log(1 - tanh(u)^2) - log(half the distance between the bounds)`, summed
    /// over dimensions.
    ///
    /// The middle term is computed as `2 (log 2 - u - softplus(-2 u))`, which no `u` takes to the
    /// logarithm of zero (T25).
    ///
    /// # Shapes
    /// `outputs`: as [`SquashedGaussian::sample`]; `draw`: `[dimension]`, before the tangent.
    #[inline(always)]
    #[must_use]
    pub fn log_prob(&self, outputs: &[f32], draw: &[f32]) -> f32 {
        let (mean, log_std) = outputs.split_at(self.bounds.len());
        let mut sum = -self.bounds.log_scale;
        for ((u, mean), log_std) in draw.iter().zip(mean).zip(log_std) {
            let log_std = log_std.clamp(MIN_LOG_STD, MAX_LOG_STD);
            let u = f64::from(*u);
            let z = (u - f64::from(*mean)) / f64::from(math::exp(log_std));
            sum += -0.5 * z * z - f64::from(log_std) - LN_SQRT_TAU;
            sum -= 2.0 * (std::f64::consts::LN_2 - u - softplus(-2.0 * u));
        }
        sum as f32
    }
}

/// `log(1 + exp(x))`.
#[inline(always)]
fn softplus(x: f64) -> f64 {
    x.max(0.0) + libm::log1p(libm::exp(-x.abs()))
}

/// Fills `draws` with standard normals, pair by pair.
#[inline(always)]
fn standard_normals(random: &mut Random, draws: &mut [f32]) {
    for pair in draws.chunks_mut(2) {
        let (first, second) = random.standard_normals();
        for (draw, z) in pair.iter_mut().zip([first, second]) {
            *draw = z as f32;
        }
    }
}
