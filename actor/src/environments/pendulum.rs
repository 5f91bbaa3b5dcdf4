//! `Pendulum-v1`: swing a pendulum up and hold it with a torque in `[-2, 2]` newton metres.
//!
//! # Source
//! Gymnasium 1.4.0's dynamics and constants. The action stays float32 until it meets the float64
//! state, as NumPy 2 promotes it there.

use std::f64::consts::{PI, TAU};

use rookery_common::seeds::Random;
use rookery_common::spaces::Space;

use super::arguments::Arguments;
use super::batch::{Batch, Dynamics};
use super::{BatchedEnvironment, EnvironmentError};

const MAX_SPEED: f64 = 8.0;
const MAX_TORQUE: f32 = 2.0;
/// Seconds between two states.
const TIME_STEP: f64 = 0.05;
/// Metres per second squared, unless `g` says otherwise.
const DEFAULT_GRAVITY: f64 = 10.0;
const MAX_EPISODE_STEPS: u32 = 200;

pub(super) fn make(
    mut arguments: Arguments<'_>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    let dynamics = Pendulum {
        gravity: arguments.number("g", DEFAULT_GRAVITY)?,
    };
    let high = [1.0, 1.0, MAX_SPEED as f32];
    let spec = arguments.into_spec(
        Space::bounded(&high.map(|bound| -bound), &high),
        Space::bounded(&[-MAX_TORQUE], &[MAX_TORQUE]),
        MAX_EPISODE_STEPS,
    )?;
    Ok(Box::new(Batch::new(spec, dynamics, num_envs)))
}

/// The rules; the state is the angle (zero is upright, never wrapped) and the angular velocity.
#[derive(Debug)]
struct Pendulum {
    /// Metres per second squared.
    gravity: f64,
}

impl Dynamics<3> for Pendulum {
    type State = [f64; 2];

    fn begin(&self, mut random: Random) -> Self::State {
        [random.uniform(-PI, PI), random.uniform(-1.0, 1.0)]
    }

    #[inline]
    fn advance(&self, state: &mut Self::State, action: f32) -> (f32, bool) {
        let [angle, velocity] = *state;
        let torque = action.clamp(-MAX_TORQUE, MAX_TORQUE);
        let from_upright = (angle + PI).rem_euclid(TAU) - PI;
        let cost = from_upright * from_upright
            + 0.1 * (velocity * velocity)
            + f64::from(0.001_f32 * (torque * torque));
        let acceleration =
            3.0 * self.gravity / 2.0 * libm::sin(angle) + f64::from(3.0_f32 * torque);
        let velocity = (velocity + acceleration * TIME_STEP).clamp(-MAX_SPEED, MAX_SPEED);
        *state = [angle + velocity * TIME_STEP, velocity];
        (-cost as f32, false)
    }

    #[inline]
    fn observe(&self, state: &Self::State) -> [f32; 3] {
        let (sine, cosine) = libm::sincos(state[0]);
        [cosine as f32, sine as f32, state[1] as f32]
    }

    fn is_possible(&self, &[angle, velocity]: &Self::State) -> bool {
        angle.is_finite() && velocity.abs() <= MAX_SPEED
    }
}
