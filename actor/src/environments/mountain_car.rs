//! `MountainCar-v0`: leave a valley with an engine too weak to climb, by accelerating left (0), not
//! at all (1) or right (2).
//!
//! # Source
//! Moore 1990, "Efficient memory-based learning for robot control"; Gymnasium 1.4.0's dynamics and
//! constants.

use rookery_common::seeds::Random;
use rookery_common::spaces::Space;

use super::arguments::Arguments;
use super::batch::{Batch, Dynamics};
use super::{BatchedEnvironment, EnvironmentError};

const MIN_POSITION: f64 = -1.2;
const MAX_POSITION: f64 = 0.6;
const MAX_SPEED: f64 = 0.07;
const GOAL_POSITION: f64 = 0.5;
const FORCE: f64 = 0.001;
const GRAVITY: f64 = 0.0025;
const MAX_EPISODE_STEPS: u32 = 200;

pub(super) fn make(
    mut arguments: Arguments<'_>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    let dynamics = MountainCar {
        goal_velocity: arguments.number("goal_velocity", 0.0)?,
    };
    let spec = arguments.into_spec(
        Space::bounded(
            &[MIN_POSITION as f32, -MAX_SPEED as f32],
            &[MAX_POSITION as f32, MAX_SPEED as f32],
        ),
        Space::Discrete { n: 3 },
        MAX_EPISODE_STEPS,
    )?;
    Ok(Box::new(Batch::new(spec, dynamics, num_envs)))
}

/// The rules; the state is position and velocity.
#[derive(Debug)]
struct MountainCar {
    /// The least velocity with which the goal counts as reached.
    goal_velocity: f64,
}

impl Dynamics<2> for MountainCar {
    type State = [f64; 2];

    fn begin(&self, mut random: Random) -> Self::State {
        [random.uniform(-0.6, -0.4), 0.0]
    }

    #[inline]
    fn advance(&self, state: &mut Self::State, action: f32) -> (f32, bool) {
        let [position, velocity] = *state;
        let change = (f64::from(action) - 1.0) * FORCE + libm::cos(3.0 * position) * -GRAVITY;
        let mut velocity = (velocity + change).clamp(-MAX_SPEED, MAX_SPEED);
        let position = (position + velocity).clamp(MIN_POSITION, MAX_POSITION);
        if position == MIN_POSITION && velocity < 0.0 {
            velocity = 0.0;
        }
        *state = [position, velocity];
        let terminated = position >= GOAL_POSITION && velocity >= self.goal_velocity;
        (-1.0, terminated)
    }

    #[inline]
    fn observe(&self, state: &Self::State) -> [f32; 2] {
        state.map(|value| value as f32)
    }

    fn is_possible(&self, &[position, velocity]: &Self::State) -> bool {
        (MIN_POSITION..=MAX_POSITION).contains(&position) && velocity.abs() <= MAX_SPEED
    }
}
