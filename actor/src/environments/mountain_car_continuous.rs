//! `MountainCarContinuous-v0`: leave a valley with an engine too weak to climb, whose force is any
//! number in `[-1, 1]`, without wasting fuel.
//!
//! # Source
//! Moore 1990, "Efficient memory-based learning for robot control"; Gymnasium 1.4.0's dynamics and
//! constants, whose state is float32. One departure: Gymnasium takes the first step of an episode
//! from a float64 position that nobody observes, here the start is the observed float32 one.

use rookery_common::seeds::Random;
use rookery_common::spaces::Space;

use super::arguments::Arguments;
use super::batch::{Batch, Dynamics};
use super::{BatchedEnvironment, EnvironmentError};

const MIN_POSITION: f32 = -1.2;
const MAX_POSITION: f32 = 0.6;
const MAX_SPEED: f32 = 0.07;
const GOAL_POSITION: f32 = 0.45;
const POWER: f64 = 0.0015;
const GRAVITY: f64 = 0.0025;
const MAX_EPISODE_STEPS: u32 = 999;

pub(super) fn make(
    mut arguments: Arguments<'_>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    let dynamics = MountainCarContinuous {
        goal_velocity: arguments.number("goal_velocity", 0.0)? as f32,
    };
    let spec = arguments.into_spec(
        Space::bounded(&[MIN_POSITION, -MAX_SPEED], &[MAX_POSITION, MAX_SPEED]),
        Space::bounded(&[-1.0], &[1.0]),
        MAX_EPISODE_STEPS,
    )?;
    Ok(Box::new(Batch::new(spec, dynamics, num_envs)))
}

/// The rules; the state is position and velocity.
#[derive(Debug)]
struct MountainCarContinuous {
    /// The least velocity with which the goal counts as reached.
    goal_velocity: f32,
}

impl Dynamics<2> for MountainCarContinuous {
    type State = [f32; 2];

    fn begin(&self, mut random: Random) -> Self::State {
        [random.uniform(-0.6, -0.4) as f32, 0.0]
    }

    #[inline]
    fn advance(&self, state: &mut Self::State, action: f32) -> (f32, bool) {
        let [position, velocity] = *state;
        let pull = GRAVITY * libm::cos(f64::from(3.0 * position));
        // Gymnasium's clipping turns the float32 action into a float64 bound, so that the rounding
        // to float32 comes after the sum there and before it elsewhere.
        let change = if action.abs() > 1.0 {
            (POWER.copysign(f64::from(action)) - pull) as f32
        } else {
            action * POWER as f32 - pull as f32
        };
        let mut velocity = (velocity + change).clamp(-MAX_SPEED, MAX_SPEED);
        let position = (position + velocity).clamp(MIN_POSITION, MAX_POSITION);
        if position == MIN_POSITION && velocity < 0.0 {
            velocity = 0.0;
        }
        *state = [position, velocity];
        let terminated = position >= GOAL_POSITION && velocity >= self.goal_velocity;
        let fuel = f64::from(action) * f64::from(action) * 0.1;
        let reward = if terminated { 100.0 - fuel } else { -fuel };
        (reward as f32, terminated)
    }

    #[inline]
    fn observe(&self, state: &Self::State) -> [f32; 2] {
        *state
    }

    fn is_possible(&self, &[position, velocity]: &Self::State) -> bool {
        (MIN_POSITION..=MAX_POSITION).contains(&position) && velocity.abs() <= MAX_SPEED
    }
}
