//! Adam over one flat tensor of parameters, with the global gradient norm clipped before it.
//!
//! The state is two more flat tensors and a count, whatever the network's depth, so a step is a
//! handful of operations and a checkpoint is two arrays. On a processor it is one pass over memory: each of
//! libtorch's operations costs microseconds beside its arithmetic, and small networks take many steps.

use pulp::{Arch, Simd, WithSimd};
use tch::{Device, Kind, Tensor};
use thiserror::Error;

use crate::tensors::{host_mut, to_host};

/// Added to the norm before dividing by it, as `torch.nn.utils.clip_grad_norm_` does.
const NORM_EPSILON: f64 = 1e-6;

/// Constants of [`Adam`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamOptions {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment, outside of the root (T19).
    pub epsilon: f64,
    /// Norm to which longer gradients are scaled; none leaves them as they are.
    pub max_gradient_norm: Option<f64>,
}

/// What became of one gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// The parameters moved.
    Taken {
        /// Euclidean norm of the gradient before clipping.
        gradient_norm: f64,
    },
    /// The gradient's norm was not finite, or its square is no f32; parameters and state are as before.
    Skipped,
}

/// The state of [`Adam`] on the host, for a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamState {
    /// Steps taken.
    pub num_steps: u64,
    /// First moment, in the order of the parameters.
    pub first_moment: Vec<f32>,
    /// Second moment, in the order of the parameters.
    pub second_moment: Vec<f32>,
}

/// Why an [`AdamState`] cannot be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the optimiser's state is for {got} parameters, this network has {expected}; resume with the \
     network options of the checkpoint"
)]
pub struct AdamStateError {
    /// Parameters that the optimiser was made for.
    pub expected: usize,
    /// Length of the moment that differs.
    pub got: usize,
}

/// Adam with bias correction.
///
/// # Source
/// Kingma and Ba 2015, "Adam: a method for stochastic optimization", algorithm 1, in the
/// arrangement of the end of its section 2: the two bias corrections are folded into the step size
/// and into epsilon, which changes nothing but rounding. No weight decay.
#[derive(Debug)]
pub struct Adam {
    options: AdamOptions,
    num_steps: u64,
    first_moment: Tensor,
    second_moment: Tensor,
}

impl Adam {
    /// An optimiser for `num_parameters` parameters that has taken no step.
    pub fn new(num_parameters: usize, options: AdamOptions, device: Device) -> Self {
        let zeros = || Tensor::zeros([num_parameters as i64], (Kind::Float, device));
        Self {
            options,
            num_steps: 0,
            first_moment: zeros(),
            second_moment: zeros(),
        }
    }

    /// Steps taken so far; skipped ones do not count.
    pub fn num_steps(&self) -> u64 {
        self.num_steps
    }

    /// Clips `gradient` and moves `parameters` in place.
    ///
    /// The norm is read back to the host: on a CPU that is free; on a GPU it is the one point of a
    /// gradient step at which the host waits. In return the clip costs nothing where it does not
    /// bite, and a gradient that is not finite leaves no trace, in the step count neither.
    ///
    /// # Shapes
    /// `parameters` and `gradient` are `[num_parameters]`, f32.
    ///
    /// # Source
    /// The clip is that of Pascanu, Mikolov and Bengio 2013, "On the difficulty of training
    /// recurrent neural networks", algorithm 1.
    pub fn step(
        &mut self,
        parameters: &mut Tensor,
        mut gradient: Tensor,
        learning_rate: f64,
    ) -> Step {
        let gradient_norm = norm(&mut gradient);
        // What the second moment cannot hold would stay in it for ever.
        if !((gradient_norm * gradient_norm) as f32).is_finite() {
            return Step::Skipped;
        }
        let AdamOptions {
            beta1,
            beta2,
            epsilon,
            max_gradient_norm,
        } = self.options;
        self.num_steps += 1;
        let exponent = self.num_steps as f64;
        let correction1 = 1.0 - libm::pow(beta1, exponent);
        let correction2 = (1.0 - libm::pow(beta2, exponent)).sqrt();
        let clip = max_gradient_norm.map_or(1.0, |limit| limit / (gradient_norm + NORM_EPSILON));
        let motion = Motion {
            gradient_scale: clip.min(1.0),
            share1: 1.0 - beta1,
            share2: 1.0 - beta2,
            epsilon: epsilon * correction2,
            step_size: learning_rate * correction2 / correction1,
        };
        let (first, second) = (&mut self.first_moment, &mut self.second_moment);
        match [&mut *parameters, &mut gradient, first, second].map(host_mut) {
            [Some(parameters), Some(gradient), Some(first), Some(second)] => {
                motion.on_host(parameters, gradient, first, second);
            }
            _ => motion.by_tensors(
                parameters,
                &gradient,
                &mut self.first_moment,
                &mut self.second_moment,
            ),
        }
        Step::Taken { gradient_norm }
    }

    /// Copies the state to the host.
    pub fn state(&self) -> AdamState {
        AdamState {
            num_steps: self.num_steps,
            first_moment: to_host(&self.first_moment),
            second_moment: to_host(&self.second_moment),
        }
    }

    /// Continues from `state`.
    ///
    /// # Errors
    /// [`AdamStateError`] where the state is for another number of parameters; nothing changes.
    pub fn restore(&mut self, state: &AdamState) -> Result<(), AdamStateError> {
        let expected = self.first_moment.numel();
        for moment in [&state.first_moment, &state.second_moment] {
            if moment.len() != expected {
                return Err(AdamStateError {
                    expected,
                    got: moment.len(),
                });
            }
        }
        self.num_steps = state.num_steps;
        self.first_moment
            .copy_(&Tensor::from_slice(&state.first_moment));
        self.second_moment
            .copy_(&Tensor::from_slice(&state.second_moment));
        Ok(())
    }
}

/// Euclidean norm of a gradient.
fn norm(gradient: &mut Tensor) -> f64 {
    match host_mut(gradient) {
        Some(values) => Arch::new().dispatch(SumOfSquares(values)).sqrt(),
        None => gradient.norm().double_value(&[]),
    }
}

/// In f64, compiled for an instruction set.
struct SumOfSquares<'a>(&'a [f32]);

impl WithSimd for SumOfSquares<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        /// Sums that are kept side by side, so that as many can be added at once.
        const LANES: usize = 16;
        let mut sums = [0.0; LANES];
        let (chunks, rest) = self.0.as_chunks::<LANES>();
        for chunk in chunks {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(*value) * f64::from(*value);
            }
        }
        for (sum, value) in sums.iter_mut().zip(rest) {
            *sum += f64::from(*value) * f64::from(*value);
        }
        sums.iter().sum::<f64>()
    }
}

/// What one step does to every parameter.
#[derive(Clone, Copy, Debug)]
struct Motion {
    gradient_scale: f64,
    /// What of the gradient goes into the first moment.
    share1: f64,
    /// What of its square goes into the second.
    share2: f64,
    epsilon: f64,
    step_size: f64,
}

impl Motion {
    fn on_host(
        self,
        parameters: &mut [f32],
        gradient: &[f32],
        first_moment: &mut [f32],
        second_moment: &mut [f32],
    ) {
        let [scale, share1, share2, epsilon, step_size] = [
            self.gradient_scale,
            self.share1,
            self.share2,
            self.epsilon,
            self.step_size,
        ]
        .map(|value| value as f32);
        Arch::new().dispatch(|| {
            let moments = first_moment.iter_mut().zip(second_moment.iter_mut());
            let rows = parameters.iter_mut().zip(gradient).zip(moments);
            for ((parameter, gradient), (first, second)) in rows {
                let gradient = gradient * scale;
                *first += share1 * (gradient - *first);
                *second += share2 * (gradient * gradient - *second);
                *parameter -= *first / (second.sqrt() + epsilon) * step_size;
            }
        });
    }

    fn by_tensors(
        self,
        parameters: &mut Tensor,
        gradient: &Tensor,
        first_moment: &mut Tensor,
        second_moment: &mut Tensor,
    ) {
        tch::no_grad(|| {
            let gradient = gradient * self.gradient_scale;
            let _ = first_moment.lerp_(&gradient, self.share1);
            let _ = second_moment.lerp_(&gradient.square(), self.share2);
            let denominator = second_moment.sqrt().g_add_scalar_(self.epsilon);
            *parameters -= &*first_moment / &denominator * self.step_size;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_a_step_are_one() {
        const LEN: usize = 37;
        let column = |seed: usize| -> Vec<f32> {
            let of = |index| ((index * 7 + seed * 13) % 29) as f32 / 29.0 - 0.5;
            (0..LEN).map(of).collect()
        };
        let motion = Motion {
            gradient_scale: 0.7,
            share1: 0.1,
            share2: 0.001,
            epsilon: 1e-5,
            step_size: 0.01,
        };
        let mut host = [column(1), column(2), column(3), column(4)];
        host[3].iter_mut().for_each(|value| *value = value.abs());
        let mut tensors = host.each_ref().map(|column| Tensor::from_slice(column));
        let [parameters, gradient, first, second] = &mut host;
        motion.on_host(parameters, gradient, first, second);
        let [parameters, gradient, first, second] = &mut tensors;
        motion.by_tensors(parameters, gradient, first, second);
        for (ours, theirs) in host.iter().zip(&tensors) {
            for (ours, theirs) in ours.iter().zip(to_host(theirs)) {
                assert!(
                    (ours - theirs).abs() <= 1e-6 * theirs.abs().max(0.1),
                    "{ours} {theirs}"
                );
            }
        }
        let mut gradient = Tensor::from_slice(&column(5));
        let theirs = gradient.norm().double_value(&[]);
        assert!((norm(&mut gradient) - theirs).abs() < 1e-6);
    }

    const OPTIONS: AdamOptions = AdamOptions {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-5,
        max_gradient_norm: Some(0.5),
    };

    #[test]
    fn a_first_step_has_the_length_of_the_learning_rate() {
        let mut parameters = Tensor::from_slice(&[1.0_f32, 1.0]);
        let mut adam = Adam::new(2, OPTIONS, Device::Cpu);
        let step = adam.step(&mut parameters, Tensor::from_slice(&[30.0_f32, -40.0]), 0.1);
        assert_eq!(
            step,
            Step::Taken {
                gradient_norm: 50.0
            }
        );
        let moved = to_host(&parameters);
        assert!(
            (moved[0] - 0.9).abs() < 1e-4 && (moved[1] - 1.1).abs() < 1e-4,
            "{moved:?}"
        );
        // Clipped to 0.5, then a tenth of it.
        let moment = adam.state().first_moment;
        assert!(
            (moment[0] - 0.03).abs() < 1e-6 && (moment[1] + 0.04).abs() < 1e-6,
            "{moment:?}"
        );
    }

    #[test]
    fn t19_epsilon_is_outside_of_the_root() {
        // A gradient as large as epsilon: half a step; within the root it would be nearly none.
        let mut parameters = Tensor::from_slice(&[0.0_f32]);
        let mut adam = Adam::new(1, OPTIONS, Device::Cpu);
        adam.step(&mut parameters, Tensor::from_slice(&[1e-5_f32]), 0.1);
        assert!((to_host(&parameters)[0] + 0.05).abs() < 1e-5);
    }

    #[test]
    fn a_gradient_that_is_not_finite_leaves_no_trace() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2e19] {
            let mut parameters = Tensor::from_slice(&[1.0_f32, 2.0]);
            let mut adam = Adam::new(2, OPTIONS, Device::Cpu);
            adam.step(&mut parameters, Tensor::from_slice(&[0.1_f32, 0.2]), 0.1);
            let before = (to_host(&parameters), adam.state());
            let step = adam.step(&mut parameters, Tensor::from_slice(&[0.0, bad]), 0.1);
            assert_eq!(step, Step::Skipped);
            assert_eq!((to_host(&parameters), adam.state()), before);
        }
    }

    #[test]
    fn a_restored_state_continues_and_another_networks_is_refused() {
        let gradient = || Tensor::from_slice(&[0.3_f32, -0.1]);
        let mut parameters = Tensor::from_slice(&[1.0_f32, 2.0]);
        let mut adam = Adam::new(2, OPTIONS, Device::Cpu);
        adam.step(&mut parameters, gradient(), 0.1);
        let mut copy = parameters.copy();
        let mut restored = Adam::new(2, OPTIONS, Device::Cpu);
        restored.restore(&adam.state()).unwrap();
        adam.step(&mut parameters, gradient(), 0.1);
        restored.step(&mut copy, gradient(), 0.1);
        assert_eq!(to_host(&parameters), to_host(&copy));
        assert_eq!(adam.state(), restored.state());

        let mut other = Adam::new(3, OPTIONS, Device::Cpu);
        assert_eq!(
            other.restore(&adam.state()),
            Err(AdamStateError {
                expected: 3,
                got: 2
            })
        );
    }
}
