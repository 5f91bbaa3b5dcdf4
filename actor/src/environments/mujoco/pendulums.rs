//! Poles on a cart: `InvertedPendulum-v5` and `InvertedDoublePendulum-v5`.
//!
//! # Source
//! Gymnasium 1.4.0; Barto, Sutton and Anderson 1983 for the first.

use rookery_common::seeds::Random;

use super::batch::Setup;
use super::task::{Body, Field, Step, Task, add_normal, add_uniform};
use crate::environments::arguments::Arguments;
use crate::environments::{BatchedEnvironment, EnvironmentError};

const SINGLE: &str = include_str!("../../../assets/mujoco/inverted_pendulum.xml");
const DOUBLE: &str = include_str!("../../../assets/mujoco/inverted_double_pendulum.xml");

/// The angle beyond which the single pole has fallen.
const MAX_ANGLE: f64 = 0.2;
/// Up to where an observation of the double pole shows velocities and forces.
const LIMIT: f64 = 10.0;

type Made = Result<Box<dyn BatchedEnvironment>, EnvironmentError>;

pub(super) fn single(mut arguments: Arguments<'_>, num_envs: usize) -> Made {
    let task = Single {
        reset_noise_scale: arguments.number("reset_noise_scale", 0.01)?,
    };
    Setup::new(arguments, SINGLE, 2)?.finish(task, 1000, num_envs)
}

pub(super) fn double(mut arguments: Arguments<'_>, num_envs: usize) -> Made {
    let task = Double {
        healthy_reward: arguments.number("healthy_reward", 10.0)?,
        reset_noise_scale: arguments.number("reset_noise_scale", 0.1)?,
    };
    Setup::new(arguments, DOUBLE, 5)?.finish(task, 1000, num_envs)
}

/// The task of balancing one pole.
#[derive(Debug)]
struct Single {
    reset_noise_scale: f64,
}

impl Task for Single {
    fn begin(&self, random: &mut Random, positions: &mut [f64], velocities: &mut [f64]) {
        add_uniform(random, self.reset_noise_scale, positions);
        add_uniform(random, self.reset_noise_scale, velocities);
    }

    fn observe<'a>(&'a self, body: &'a Body<'a>) -> impl Iterator<Item = f64> + 'a {
        body.positions.iter().chain(body.velocities).copied()
    }

    fn judge(&self, step: &Step<'_>) -> (f64, bool) {
        let has_fallen = step.body.positions[1].abs() > MAX_ANGLE
            || !self.observe(&step.body).all(f64::is_finite);
        (if has_fallen { 0.0 } else { 1.0 }, has_fallen)
    }
}

/// The task of balancing a pole on a pole.
#[derive(Debug)]
struct Double {
    healthy_reward: f64,
    reset_noise_scale: f64,
}

impl Task for Double {
    const FIELDS: &'static [Field] = &[Field::SitePositions, Field::ConstraintForces];

    fn begin(&self, random: &mut Random, positions: &mut [f64], velocities: &mut [f64]) {
        add_uniform(random, self.reset_noise_scale, positions);
        add_normal(random, self.reset_noise_scale, velocities);
    }

    fn observe<'a>(&'a self, body: &'a Body<'a>) -> impl Iterator<Item = f64> + 'a {
        let (cart, angles) = body.positions.split_at(1);
        let sines = angles.iter().map(|angle| libm::sin(*angle));
        let cosines = angles.iter().map(|angle| libm::cos(*angle));
        let limited = body.velocities.iter().chain(&body.constraint_forces[..1]);
        cart.iter()
            .copied()
            .chain(sines)
            .chain(cosines)
            .chain(limited.map(|value| value.clamp(-LIMIT, LIMIT)))
    }

    fn judge(&self, step: &Step<'_>) -> (f64, bool) {
        let (x, y) = (step.body.site_positions[0], step.body.site_positions[2]);
        let (first, second) = (step.body.velocities[1], step.body.velocities[2]);
        let has_fallen = y <= 1.0;
        let distance = 0.01 * (x * x) + (y - 2.0) * (y - 2.0);
        let speed = 1e-3 * (first * first) + 5e-3 * (second * second);
        let survived = if has_fallen { 0.0 } else { self.healthy_reward };
        (survived - distance - speed, has_fallen)
    }
}
