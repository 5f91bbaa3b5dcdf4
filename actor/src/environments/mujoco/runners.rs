//! Planar bodies that are paid for moving forward: `HalfCheetah-v5`, `Hopper-v5`, `Walker2d-v5` and
//! `Swimmer-v5`.
//!
//! # Source
//! Gymnasium 1.4.0. The cheetah is Wawrzynski's 2009, hopper and walker are those of Erez, Tassa and
//! Todorov 2011, the swimmer is Coulom's 2002. Gymnasium computes the cost of an action in float32,
//! as `NumPy` 2 promotes it, and everything else in float64.

use rookery_common::seeds::Random;

use super::batch::Setup;
use super::numpy;
use super::task::{Body, Step, Task, add_normal, add_uniform};
use crate::environments::arguments::Arguments;
use crate::environments::{BatchedEnvironment, EnvironmentError};

/// What [`Runner`] is made with where no argument says otherwise.
struct Defaults {
    xml: &'static str,
    control_cost_weight: f64,
    reset_noise_scale: f64,
    frame_skip: u32,
    /// Positions at the beginning that say where the body is.
    num_absolute_positions: usize,
    /// Whether velocities begin with normal noise instead of uniform.
    normal_velocities: bool,
    /// Whether an observation shows velocities within 10 only.
    clipped_velocities: bool,
    health: Option<Health>,
}

const CHEETAH: Defaults = Defaults {
    xml: include_str!("../../../assets/mujoco/half_cheetah.xml"),
    control_cost_weight: 0.1,
    reset_noise_scale: 0.1,
    frame_skip: 5,
    num_absolute_positions: 1,
    normal_velocities: true,
    clipped_velocities: false,
    health: None,
};

const HOPPER: Defaults = Defaults {
    xml: include_str!("../../../assets/mujoco/hopper.xml"),
    control_cost_weight: 1e-3,
    reset_noise_scale: 5e-3,
    frame_skip: 4,
    num_absolute_positions: 1,
    normal_velocities: false,
    clipped_velocities: true,
    health: Some(Health {
        reward: 1.0,
        terminates: true,
        state: Some([-100.0, 100.0]),
        height: [0.7, f64::INFINITY],
        angle: [-0.2, 0.2],
    }),
};

const WALKER: Defaults = Defaults {
    xml: include_str!("../../../assets/mujoco/walker2d_v5.xml"),
    health: Some(Health {
        reward: 1.0,
        terminates: true,
        state: None,
        height: [0.8, 2.0],
        angle: [-1.0, 1.0],
    }),
    ..HOPPER
};

const SWIMMER: Defaults = Defaults {
    xml: include_str!("../../../assets/mujoco/swimmer.xml"),
    control_cost_weight: 1e-4,
    reset_noise_scale: 0.1,
    frame_skip: 4,
    num_absolute_positions: 2,
    normal_velocities: false,
    clipped_velocities: false,
    health: None,
};

type Made = Result<Box<dyn BatchedEnvironment>, EnvironmentError>;

pub(super) fn half_cheetah(arguments: Arguments<'_>, num_envs: usize) -> Made {
    make(arguments, &CHEETAH, num_envs)
}

pub(super) fn hopper(arguments: Arguments<'_>, num_envs: usize) -> Made {
    make(arguments, &HOPPER, num_envs)
}

pub(super) fn walker(arguments: Arguments<'_>, num_envs: usize) -> Made {
    make(arguments, &WALKER, num_envs)
}

pub(super) fn swimmer(arguments: Arguments<'_>, num_envs: usize) -> Made {
    make(arguments, &SWIMMER, num_envs)
}

fn make(mut arguments: Arguments<'_>, defaults: &Defaults, num_envs: usize) -> Made {
    let hides_place = arguments.flag("exclude_current_positions_from_observation", true)?;
    let task = Runner {
        forward_weight: arguments.number("forward_reward_weight", 1.0)?,
        control_cost_weight: arguments.number("ctrl_cost_weight", defaults.control_cost_weight)?,
        reset_noise_scale: arguments.number("reset_noise_scale", defaults.reset_noise_scale)?,
        normal_velocities: defaults.normal_velocities,
        num_hidden: if hides_place {
            defaults.num_absolute_positions
        } else {
            0
        },
        velocity_limit: if defaults.clipped_velocities {
            10.0
        } else {
            f64::INFINITY
        },
        health: match &defaults.health {
            Some(health) => Some(health.with(&mut arguments)?),
            None => None,
        },
    };
    Setup::new(arguments, defaults.xml, defaults.frame_skip)?.finish(task, 1000, num_envs)
}

/// When a body stands as it should, and what that is worth.
#[derive(Clone, Debug)]
struct Health {
    /// For each step in health.
    reward: f64,
    /// Whether the episode ends without it.
    terminates: bool,
    /// Within which all positions but the first two, and all velocities, must lie.
    state: Option<[f64; 2]>,
    /// Within which the second position must lie.
    height: [f64; 2],
    /// Within which the third position must lie.
    angle: [f64; 2],
}

impl Health {
    /// This with what arguments say.
    fn with(&self, arguments: &mut Arguments<'_>) -> Result<Self, EnvironmentError> {
        Ok(Self {
            reward: arguments.number("healthy_reward", self.reward)?,
            terminates: arguments.flag("terminate_when_unhealthy", self.terminates)?,
            state: match self.state {
                Some(state) => Some(arguments.range("healthy_state_range", state)?),
                None => None,
            },
            height: arguments.range("healthy_z_range", self.height)?,
            angle: arguments.range("healthy_angle_range", self.angle)?,
        })
    }

    fn holds(&self, body: &Body<'_>) -> bool {
        let within = |value: f64, [low, high]: [f64; 2]| low < value && value < high;
        let mut state = body.positions[2..].iter().chain(body.velocities);
        within(body.positions[1], self.height)
            && within(body.positions[2], self.angle)
            && self
                .state
                .is_none_or(|range| state.all(|value| within(*value, range)))
    }
}

/// The task of running along the first axis.
#[derive(Debug)]
struct Runner {
    forward_weight: f64,
    control_cost_weight: f64,
    reset_noise_scale: f64,
    normal_velocities: bool,
    /// Positions at the beginning that an observation leaves out.
    num_hidden: usize,
    /// Up to where an observation shows velocities.
    velocity_limit: f64,
    health: Option<Health>,
}

impl Task for Runner {
    fn begin(&self, random: &mut Random, positions: &mut [f64], velocities: &mut [f64]) {
        add_uniform(random, self.reset_noise_scale, positions);
        if self.normal_velocities {
            add_normal(random, self.reset_noise_scale, velocities);
        } else {
            add_uniform(random, self.reset_noise_scale, velocities);
        }
    }

    fn observe<'a>(&'a self, body: &'a Body<'a>) -> impl Iterator<Item = f64> + 'a {
        let limit = self.velocity_limit;
        let velocities = body.velocities.iter();
        let velocities = velocities.map(move |velocity| velocity.clamp(-limit, limit));
        body.positions[self.num_hidden..]
            .iter()
            .copied()
            .chain(velocities)
    }

    fn judge(&self, step: &Step<'_>) -> (f64, bool) {
        let forward = self.forward_weight * step.forward_velocity();
        let cost = self.control_cost_weight as f32 * numpy::sum_of_squares_f32(step.action);
        let Some(health) = &self.health else {
            return (forward - f64::from(cost), false);
        };
        let is_healthy = health.holds(&step.body);
        let survived = if is_healthy { health.reward } else { 0.0 };
        let reward = forward + survived - f64::from(cost);
        (reward, !is_healthy && health.terminates)
    }
}
