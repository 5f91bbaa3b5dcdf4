//! Arms that reach and push: `Reacher-v5` and `Pusher-v5`.
//!
//! # Source
//! Gymnasium 1.4.0. The cost of an action is computed in float32, as `NumPy` 2 promotes it.

use rookery_common::seeds::Random;

use super::batch::Setup;
use super::numpy;
use super::task::{Body, Field, Step, Task, add_uniform};
use crate::environments::arguments::Arguments;
use crate::environments::{BatchedEnvironment, EnvironmentError};

const REACHER: &str = include_str!("../../../assets/mujoco/reacher.xml");
const PUSHER: &str = include_str!("../../../assets/mujoco/pusher_v5.xml");

/// Of velocities at the beginning.
const NOISE: f64 = 5e-3;

type Made = Result<Box<dyn BatchedEnvironment>, EnvironmentError>;

pub(super) fn reacher(mut arguments: Arguments<'_>, num_envs: usize) -> Made {
    let mut task = Reacher {
        distance_weight: arguments.number("reward_dist_weight", 1.0)?,
        control_weight: arguments.number("reward_control_weight", 1.0)?,
        parts: [0; 2],
    };
    let setup = Setup::new(arguments, REACHER, 2)?;
    task.parts = [setup.part("fingertip")?, setup.part("target")?];
    setup.finish(task, 50, num_envs)
}

pub(super) fn pusher(mut arguments: Arguments<'_>, num_envs: usize) -> Made {
    let mut task = Pusher {
        near_weight: arguments.number("reward_near_weight", 0.5)?,
        distance_weight: arguments.number("reward_dist_weight", 1.0)?,
        control_weight: arguments.number("reward_control_weight", 0.1)?,
        parts: [0; 3],
    };
    let setup = Setup::new(arguments, PUSHER, 5)?;
    task.parts = [
        setup.part("tips_arm")?,
        setup.part("object")?,
        setup.part("goal")?,
    ];
    setup.finish(task, 100, num_envs)
}

/// Minus the weighted squares of an action.
fn control_reward(action: &[f32], weight: f64) -> f64 {
    f64::from(-numpy::sum_of_squares_f32(action) * weight as f32)
}

/// The task of bringing a fingertip to a target.
#[derive(Debug)]
struct Reacher {
    distance_weight: f64,
    control_weight: f64,
    /// Fingertip and target.
    parts: [usize; 2],
}

impl Task for Reacher {
    const FIELDS: &'static [Field] = &[Field::PartPositions];

    fn begin(&self, random: &mut Random, positions: &mut [f64], velocities: &mut [f64]) {
        /// Within which the target lies.
        const RADIUS: f64 = 0.2;
        add_uniform(random, 0.1, positions);
        let target = loop {
            let target = [(); 2].map(|()| random.uniform(-RADIUS, RADIUS));
            if numpy::distance(&target, &[0.0; 2]) < RADIUS {
                break target;
            }
        };
        let (_, target_positions) = positions.split_at_mut(positions.len() - 2);
        target_positions.copy_from_slice(&target);
        add_uniform(random, NOISE, velocities);
        let (_, target_velocities) = velocities.split_at_mut(velocities.len() - 2);
        target_velocities.fill(0.0);
    }

    fn observe<'a>(&'a self, body: &'a Body<'a>) -> impl Iterator<Item = f64> + 'a {
        let (angles, target) = body.positions.split_at(2);
        let [fingertip, aim] = self.parts.map(|part| body.part(part));
        let gap = fingertip.iter().zip(aim).take(2).map(|(a, b)| a - b);
        let cosines = angles.iter().map(|angle| libm::cos(*angle));
        let sines = angles.iter().map(|angle| libm::sin(*angle));
        cosines
            .chain(sines)
            .chain(target.iter().copied())
            .chain(body.velocities[..2].iter().copied())
            .chain(gap)
    }

    fn judge(&self, step: &Step<'_>) -> (f64, bool) {
        let [fingertip, target] = self.parts.map(|part| step.body.part(part));
        let distance = -numpy::distance(fingertip, target) * self.distance_weight;
        (
            distance + control_reward(step.action, self.control_weight),
            false,
        )
    }
}

/// The task of pushing an object to a goal.
#[derive(Debug)]
struct Pusher {
    near_weight: f64,
    distance_weight: f64,
    control_weight: f64,
    /// Tip of the arm, object and goal.
    parts: [usize; 3],
}

impl Task for Pusher {
    const FIELDS: &'static [Field] = &[Field::PartPositions];

    fn begin(&self, random: &mut Random, positions: &mut [f64], velocities: &mut [f64]) {
        /// Nearer to the goal than this the object does not begin.
        const MIN_DISTANCE: f64 = 0.17;
        let object = loop {
            let object = [random.uniform(-0.3, 0.0), random.uniform(-0.2, 0.2)];
            if numpy::distance(&object, &[0.0; 2]) > MIN_DISTANCE {
                break object;
            }
        };
        let (_, moved) = positions.split_at_mut(positions.len() - 4);
        moved[..2].copy_from_slice(&object);
        moved[2..].fill(0.0);
        add_uniform(random, NOISE, velocities);
        let (_, moved) = velocities.split_at_mut(velocities.len() - 4);
        moved.fill(0.0);
    }

    fn observe<'a>(&'a self, body: &'a Body<'a>) -> impl Iterator<Item = f64> + 'a {
        let parts = self.parts.iter().flat_map(|part| body.part(*part));
        body.positions[..7]
            .iter()
            .chain(&body.velocities[..7])
            .chain(parts)
            .copied()
    }

    fn judge(&self, step: &Step<'_>) -> (f64, bool) {
        let [tip, object, goal] = self.parts.map(|part| step.body.part(part));
        let near = -numpy::distance(object, tip) * self.near_weight;
        let distance = -numpy::distance(object, goal) * self.distance_weight;
        let control = control_reward(step.action, self.control_weight);
        (distance + control + near, false)
    }
}
