//! `CartPole-v1`: balance a pole on a cart by pushing left (0) or right (1). `CartPoleNoVelocity-v1`:
//! the same without seeing how fast cart and pole move, which takes a memory.
//!
//! # Source
//! Barto, Sutton and Anderson 1983, "Neuronlike adaptive elements that can solve difficult learning
//! control problems"; Gymnasium 1.4.0's dynamics and constants. Hiding the velocities is the test of
//! Gomez and Miikkulainen 1999, "Solving non-Markovian control tasks with neuroevolution"; RL
//! Baselines3 Zoo's `CartPoleNoVel-v1` shows zeros in their place, here they are left out.

use rookery_common::seeds::Random;
use rookery_common::spaces::Space;

use super::arguments::Arguments;
use super::batch::{Batch, Dynamics};
use super::{BatchedEnvironment, EnvironmentError};

const GRAVITY: f64 = 9.8;
const CART_MASS: f64 = 1.0;
const POLE_MASS: f64 = 0.1;
const TOTAL_MASS: f64 = POLE_MASS + CART_MASS;
/// Half the pole's length.
const POLE_HALF_LENGTH: f64 = 0.5;
const POLE_MASS_LENGTH: f64 = POLE_MASS * POLE_HALF_LENGTH;
const FORCE: f64 = 10.0;
/// Seconds between two states.
const TIME_STEP: f64 = 0.02;
/// Twelve degrees.
const MAX_ANGLE: f64 = 12.0 * 2.0 * std::f64::consts::PI / 360.0;
const MAX_POSITION: f64 = 2.4;
const MAX_EPISODE_STEPS: u32 = 500;
/// Bounds of what is seen: twice what ends an episode.
const HIGHEST_POSITION: f32 = (MAX_POSITION * 2.0) as f32;
const HIGHEST_ANGLE: f32 = (MAX_ANGLE * 2.0) as f32;

pub(super) fn make(
    mut arguments: Arguments<'_>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    let dynamics = CartPole::new(&mut arguments)?;
    let high = [
        HIGHEST_POSITION,
        f32::INFINITY,
        HIGHEST_ANGLE,
        f32::INFINITY,
    ];
    let spec = arguments.into_spec(
        Space::bounded(&high.map(|bound| -bound), &high),
        Space::Discrete { n: 2 },
        MAX_EPISODE_STEPS,
    )?;
    Ok(Box::new(Batch::new(spec, dynamics, num_envs)))
}

pub(super) fn make_without_velocities(
    mut arguments: Arguments<'_>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    let dynamics = WithoutVelocities(CartPole::new(&mut arguments)?);
    let high = [HIGHEST_POSITION, HIGHEST_ANGLE];
    let spec = arguments.into_spec(
        Space::bounded(&high.map(|bound| -bound), &high),
        Space::Discrete { n: 2 },
        MAX_EPISODE_STEPS,
    )?;
    Ok(Box::new(Batch::new(spec, dynamics, num_envs)))
}

/// The rules; the state is position, velocity, angle and angular velocity.
#[derive(Debug)]
struct CartPole {
    /// Rewards 0 a step and -1 for falling, instead of 1 a step.
    sutton_barto_reward: bool,
}

impl CartPole {
    fn new(arguments: &mut Arguments<'_>) -> Result<Self, EnvironmentError> {
        Ok(Self {
            sutton_barto_reward: arguments.flag("sutton_barto_reward", false)?,
        })
    }
}

impl Dynamics<4> for CartPole {
    type State = [f64; 4];

    fn begin(&self, mut random: Random) -> Self::State {
        std::array::from_fn(|_| random.uniform(-0.05, 0.05))
    }

    #[inline]
    fn advance(&self, state: &mut Self::State, action: f32) -> (f32, bool) {
        let [position, velocity, angle, angular_velocity] = *state;
        let force = if action == 1.0 { FORCE } else { -FORCE };
        let (sine, cosine) = libm::sincos(angle);
        let push =
            (force + POLE_MASS_LENGTH * (angular_velocity * angular_velocity) * sine) / TOTAL_MASS;
        let angular_acceleration = (GRAVITY * sine - cosine * push)
            / (POLE_HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * (cosine * cosine) / TOTAL_MASS));
        let acceleration = push - POLE_MASS_LENGTH * angular_acceleration * cosine / TOTAL_MASS;
        *state = [
            position + TIME_STEP * velocity,
            velocity + TIME_STEP * acceleration,
            angle + TIME_STEP * angular_velocity,
            angular_velocity + TIME_STEP * angular_acceleration,
        ];
        let terminated = state[0].abs() > MAX_POSITION || state[2].abs() > MAX_ANGLE;
        let reward = match (self.sutton_barto_reward, terminated) {
            (false, _) => 1.0,
            (true, false) => 0.0,
            (true, true) => -1.0,
        };
        (reward, terminated)
    }

    #[inline]
    fn observe(&self, state: &Self::State) -> [f32; 4] {
        state.map(|value| value as f32)
    }

    fn is_possible(&self, state: &Self::State) -> bool {
        state.iter().all(|value| value.is_finite())
    }
}

/// The same rules for an agent that sees position and angle alone.
#[derive(Debug)]
struct WithoutVelocities(CartPole);

impl Dynamics<2> for WithoutVelocities {
    type State = [f64; 4];

    fn begin(&self, random: Random) -> Self::State {
        self.0.begin(random)
    }

    #[inline]
    fn advance(&self, state: &mut Self::State, action: f32) -> (f32, bool) {
        self.0.advance(state, action)
    }

    #[inline]
    fn observe(&self, state: &Self::State) -> [f32; 2] {
        let [position, _, angle, _] = self.0.observe(state);
        [position, angle]
    }

    fn is_possible(&self, state: &Self::State) -> bool {
        self.0.is_possible(state)
    }
}
