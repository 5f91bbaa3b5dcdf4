//! `Acrobot-v1`: swing the tip of a two-link pendulum above a line with a torque of -1 (0), 0 (1) or
//! 1 (2) at the joint between the links.
//!
//! # Source
//! Sutton and Barto 2018, "Reinforcement Learning: An Introduction" (the "book" equations of
//! motion; those of Sutton 1996 miss a term); Gymnasium 1.4.0's integrator and constants.

use std::array;
use std::f64::consts::{FRAC_PI_2, PI, TAU};

use rookery_common::seeds::Random;
use rookery_common::spaces::Space;

use super::arguments::Arguments;
use super::batch::{Batch, Dynamics};
use super::{BatchedEnvironment, EnvironmentError};

/// Seconds between two states.
const TIME_STEP: f64 = 0.2;
const GRAVITY: f64 = 9.8;
/// Both links have mass 1 and length 1, their centre of mass is in the middle.
const CENTRE_OF_MASS: f64 = 0.5;
const MOMENT_OF_INERTIA: f64 = 1.0;
const MAX_SPEED_1: f64 = 4.0 * PI;
const MAX_SPEED_2: f64 = 9.0 * PI;
const MAX_EPISODE_STEPS: u32 = 500;

pub(super) fn make(
    arguments: Arguments<'_>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    let high = [1.0, 1.0, 1.0, 1.0, MAX_SPEED_1 as f32, MAX_SPEED_2 as f32];
    let spec = arguments.into_spec(
        Space::bounded(&high.map(|bound| -bound), &high),
        Space::Discrete { n: 3 },
        MAX_EPISODE_STEPS,
    )?;
    Ok(Box::new(Batch::new(spec, Acrobot, num_envs)))
}

/// The rules; the state is the angle of each link (the second relative to the first, zero hangs
/// down), then the angular velocity of each.
#[derive(Debug)]
struct Acrobot;

impl Dynamics<6> for Acrobot {
    type State = [f64; 4];

    fn begin(&self, mut random: Random) -> Self::State {
        // Gymnasium rounds the start to float32.
        array::from_fn(|_| f64::from(random.uniform(-0.1, 0.1) as f32))
    }

    #[inline]
    fn advance(&self, state: &mut Self::State, action: f32) -> (f32, bool) {
        // An action that is none of the three must not send the arms around for ever.
        let torque = f64::from(action.clamp(0.0, 2.0)) - 1.0;
        let [angle_1, angle_2, speed_1, speed_2] = integrate(*state, torque);
        *state = [
            wrap(angle_1),
            wrap(angle_2),
            speed_1.clamp(-MAX_SPEED_1, MAX_SPEED_1),
            speed_2.clamp(-MAX_SPEED_2, MAX_SPEED_2),
        ];
        let height = -libm::cos(state[0]) - libm::cos(state[1] + state[0]);
        let terminated = height > 1.0;
        (if terminated { 0.0 } else { -1.0 }, terminated)
    }

    #[inline]
    fn observe(&self, state: &Self::State) -> [f32; 6] {
        let (sine_1, cosine_1) = libm::sincos(state[0]);
        let (sine_2, cosine_2) = libm::sincos(state[1]);
        [cosine_1, sine_1, cosine_2, sine_2, state[2], state[3]].map(|value| value as f32)
    }

    fn is_possible(&self, &[angle_1, angle_2, speed_1, speed_2]: &Self::State) -> bool {
        angle_1.abs() <= PI
            && angle_2.abs() <= PI
            && speed_1.abs() <= MAX_SPEED_1
            && speed_2.abs() <= MAX_SPEED_2
    }
}

/// The state one time step later, by one step of the classical Runge-Kutta method.
fn integrate(state: [f64; 4], torque: f64) -> [f64; 4] {
    let shifted = |by: f64, slope: &[f64; 4]| array::from_fn(|i| state[i] + by * slope[i]);
    let k1 = derivative(&state, torque);
    let k2 = derivative(&shifted(TIME_STEP / 2.0, &k1), torque);
    let k3 = derivative(&shifted(TIME_STEP / 2.0, &k2), torque);
    let k4 = derivative(&shifted(TIME_STEP, &k3), torque);
    array::from_fn(|i| state[i] + TIME_STEP / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]))
}

/// The time derivative of a state under a torque: the book's equations with unit masses and
/// lengths put in, in Gymnasium's order of operations.
fn derivative(state: &[f64; 4], torque: f64) -> [f64; 4] {
    let [angle_1, angle_2, speed_1, speed_2] = *state;
    let (sine_2, cosine_2) = libm::sincos(angle_2);
    let squared = CENTRE_OF_MASS * CENTRE_OF_MASS;
    let d1 = squared
        + (1.0 + squared + 2.0 * CENTRE_OF_MASS * cosine_2)
        + MOMENT_OF_INERTIA
        + MOMENT_OF_INERTIA;
    let d2 = squared + CENTRE_OF_MASS * cosine_2 + MOMENT_OF_INERTIA;
    let phi2 = CENTRE_OF_MASS * GRAVITY * libm::cos(angle_1 + angle_2 - FRAC_PI_2);
    let phi1 = -CENTRE_OF_MASS * (speed_2 * speed_2) * sine_2
        - 2.0 * CENTRE_OF_MASS * speed_2 * speed_1 * sine_2
        + (CENTRE_OF_MASS + 1.0) * GRAVITY * libm::cos(angle_1 - FRAC_PI_2)
        + phi2;
    let acceleration_2 =
        (torque + d2 / d1 * phi1 - CENTRE_OF_MASS * (speed_1 * speed_1) * sine_2 - phi2)
            / (squared + MOMENT_OF_INERTIA - d2 * d2 / d1);
    let acceleration_1 = -(d2 * acceleration_2 + phi1) / d1;
    [speed_1, speed_2, acceleration_1, acceleration_2]
}

/// The same angle in `[-pi, pi]`. One step moves it by a few turns at most.
fn wrap(mut angle: f64) -> f64 {
    while angle > PI {
        angle -= TAU;
    }
    while angle < -PI {
        angle += TAU;
    }
    angle
}
