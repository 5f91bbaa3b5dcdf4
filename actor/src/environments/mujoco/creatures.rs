//! Bodies that move freely in space: `Ant-v5`, `Humanoid-v5` and `HumanoidStandup-v5`.
//!
//! # Source
//! Gymnasium 1.4.0. The ant is that of Schulman, Moritz, Levine, Jordan and Abbeel 2015, the humanoid
//! that of Tassa, Erez and Todorov 2012.

use rookery_common::seeds::Random;

use super::batch::Setup;
use super::numpy;
use super::task::{Body, Field, Step, Task, add_normal, add_uniform};
use crate::environments::arguments::Arguments;
use crate::environments::{BatchedEnvironment, EnvironmentError};

const ANT: &str = include_str!("../../../assets/mujoco/ant.xml");
const HUMANOID: &str = include_str!("../../../assets/mujoco/humanoid.xml");
const HUMANOID_LYING: &str = include_str!("../../../assets/mujoco/humanoidstandup.xml");

/// Values of `cfrc_ext` and `cvel` for each part.
const FORCE: usize = 6;
/// Values of `cinert` for each part.
const INERTIA: usize = 10;

type Made = Result<Box<dyn BatchedEnvironment>, EnvironmentError>;

pub(super) fn ant(mut arguments: Arguments<'_>, num_envs: usize) -> Made {
    let mut task = Ant {
        forward_weight: arguments.number("forward_reward_weight", 1.0)?,
        control_cost_weight: arguments.number("ctrl_cost_weight", 0.5)?,
        contact_cost_weight: arguments.number("contact_cost_weight", 5e-4)?,
        healthy_reward: arguments.number("healthy_reward", 1.0)?,
        terminates: arguments.flag("terminate_when_unhealthy", true)?,
        healthy_heights: arguments.range("healthy_z_range", [0.2, 1.0])?,
        force_range: arguments.range("contact_force_range", [-1.0, 1.0])?,
        reset_noise_scale: arguments.number("reset_noise_scale", 0.1)?,
        num_hidden: num_hidden(&mut arguments)?,
        shows_forces: arguments.flag("include_cfrc_ext_in_observation", true)?,
        main_part: 1,
    };
    let main_part = arguments.text("main_body", "1", "the name or the index of a body")?;
    let setup = Setup::new(arguments, ANT, 5)?;
    let num_parts = setup.model.num_bodies();
    let index = main_part.parse().ok().filter(|index| *index < num_parts);
    task.main_part = match index {
        Some(index) => index,
        None => setup.part(&main_part)?,
    };
    setup.finish(task, 1000, num_envs)
}

pub(super) fn humanoid(mut arguments: Arguments<'_>, num_envs: usize) -> Made {
    let goal = Goal::Walk {
        forward_weight: arguments.number("forward_reward_weight", 1.25)?,
        healthy_reward: arguments.number("healthy_reward", 5.0)?,
        terminates: arguments.flag("terminate_when_unhealthy", true)?,
        healthy_heights: arguments.range("healthy_z_range", [1.0, 2.0])?,
    };
    let costs = ["contact_cost_weight", "contact_cost_range"];
    make_humanoid(arguments, goal, costs, HUMANOID, num_envs)
}

/// Gymnasium takes `uph_cost_weight` and computes nothing from it; here it is refused.
pub(super) fn humanoid_standup(arguments: Arguments<'_>, num_envs: usize) -> Made {
    let goal = Goal::Rise { time_step: 0.0 };
    let costs = ["impact_cost_weight", "impact_cost_range"];
    make_humanoid(arguments, goal, costs, HUMANOID_LYING, num_envs)
}

fn make_humanoid(
    mut arguments: Arguments<'_>,
    goal: Goal,
    [contact_cost_weight, contact_cost_range]: [&'static str; 2],
    xml: &str,
    num_envs: usize,
) -> Made {
    let mut task = Humanoid {
        control_cost_weight: arguments.number("ctrl_cost_weight", 0.1)?,
        contact_cost_weight: arguments.number(contact_cost_weight, 5e-7)?,
        contact_cost_range: arguments.range(contact_cost_range, [f64::NEG_INFINITY, 10.0])?,
        reset_noise_scale: arguments.number("reset_noise_scale", 1e-2)?,
        num_hidden: num_hidden(&mut arguments)?,
        shows: [
            arguments.flag("include_cinert_in_observation", true)?,
            arguments.flag("include_cvel_in_observation", true)?,
            arguments.flag("include_qfrc_actuator_in_observation", true)?,
            arguments.flag("include_cfrc_ext_in_observation", true)?,
        ],
        masses: Vec::new(),
        goal,
    };
    let setup = Setup::new(arguments, xml, 5)?;
    task.masses = setup.constants("body_mass")?;
    if let Goal::Rise { time_step } = &mut task.goal {
        *time_step = setup.constants("opt.timestep")?.iter().sum();
    }
    setup.finish(task, 1000, num_envs)
}

/// How many of the first positions an observation leaves out.
fn num_hidden(arguments: &mut Arguments<'_>) -> Result<usize, EnvironmentError> {
    let hides = arguments.flag("exclude_current_positions_from_observation", true)?;
    Ok(if hides { 2 } else { 0 })
}

/// `values` where they are shown, else nothing.
fn shown(values: &[f64], is_shown: bool) -> impl Iterator<Item = f64> {
    let values = if is_shown { values } else { &[] };
    values.iter().copied()
}

/// The task of walking on four legs.
#[derive(Debug)]
struct Ant {
    forward_weight: f64,
    control_cost_weight: f64,
    contact_cost_weight: f64,
    healthy_reward: f64,
    /// Whether the episode ends out of health.
    terminates: bool,
    healthy_heights: [f64; 2],
    /// To which the forces of contacts are clipped.
    force_range: [f64; 2],
    reset_noise_scale: f64,
    /// Positions at the beginning that an observation leaves out.
    num_hidden: usize,
    shows_forces: bool,
    /// The part whose movement is rewarded.
    main_part: usize,
}

impl Task for Ant {
    const FIELDS: &'static [Field] = &[Field::PartPositions, Field::ContactForces];

    fn begin(&self, random: &mut Random, positions: &mut [f64], velocities: &mut [f64]) {
        add_uniform(random, self.reset_noise_scale, positions);
        add_normal(random, self.reset_noise_scale, velocities);
    }

    fn place(&self, body: &Body<'_>) -> [f64; 2] {
        let place = body.part(self.main_part);
        [place[0], place[1]]
    }

    fn observe<'a>(&'a self, body: &'a Body<'a>) -> impl Iterator<Item = f64> + 'a {
        let [low, high] = self.force_range;
        let forces = shown(&body.contact_forces[FORCE..], self.shows_forces);
        body.positions[self.num_hidden..]
            .iter()
            .chain(body.velocities)
            .copied()
            .chain(forces.map(move |force| clip(force, low, high)))
    }

    fn judge(&self, step: &Step<'_>) -> (f64, bool) {
        let body = &step.body;
        let [low, high] = self.healthy_heights;
        let is_finite = body
            .positions
            .iter()
            .chain(body.velocities)
            .all(|x| x.is_finite());
        let is_healthy = is_finite && low <= body.positions[2] && body.positions[2] <= high;
        let survived = if is_healthy { self.healthy_reward } else { 0.0 };
        let rewards = step.forward_velocity() * self.forward_weight + survived;
        let [low, high] = self.force_range;
        let forces = numpy::sum(0..body.contact_forces.len(), &|index| {
            let force = clip(body.contact_forces[index], low, high);
            force * force
        });
        let control = self.control_cost_weight as f32 * numpy::sum_of_squares_f32(step.action);
        let costs = f64::from(control) + self.contact_cost_weight * forces;
        (rewards - costs, !is_healthy && self.terminates)
    }
}

/// A task of a humanoid.
#[derive(Debug)]
struct Humanoid {
    control_cost_weight: f64,
    contact_cost_weight: f64,
    contact_cost_range: [f64; 2],
    reset_noise_scale: f64,
    /// Positions at the beginning that an observation leaves out.
    num_hidden: usize,
    /// Whether an observation shows inertias and velocities of the parts, forces of the actuators,
    /// and forces of contacts.
    shows: [bool; 4],
    /// Of each part.
    masses: Vec<f64>,
    goal: Goal,
}

/// What the humanoid is rewarded for.
#[derive(Debug)]
enum Goal {
    /// Moving its centre of mass forward, upright.
    Walk {
        forward_weight: f64,
        healthy_reward: f64,
        /// Whether the episode ends out of health.
        terminates: bool,
        healthy_heights: [f64; 2],
    },
    /// Being high above the ground.
    Rise {
        /// Seconds of the simulation's clock.
        time_step: f64,
    },
}

impl Task for Humanoid {
    const FIELDS: &'static [Field] = &[
        Field::PartCentres,
        Field::PartInertias,
        Field::PartVelocities,
        Field::ActuatorForces,
        Field::ContactForces,
    ];

    fn begin(&self, random: &mut Random, positions: &mut [f64], velocities: &mut [f64]) {
        add_uniform(random, self.reset_noise_scale, positions);
        add_uniform(random, self.reset_noise_scale, velocities);
    }

    /// The centre of mass, summed as `numpy.einsum` does.
    fn place(&self, body: &Body<'_>) -> [f64; 2] {
        let mass = numpy::sum(0..self.masses.len(), &|part| self.masses[part]);
        let parts = || self.masses.iter().zip(body.part_centres.chunks_exact(3));
        [0, 1].map(|axis| {
            let moment = parts().fold(0.0, |sum, (mass, centre)| sum + mass * centre[axis]);
            moment / mass
        })
    }

    fn observe<'a>(&'a self, body: &'a Body<'a>) -> impl Iterator<Item = f64> + 'a {
        let [inertias, velocities, actuators, contacts] = self.shows;
        // The world and the six directions in which the whole moves are left out.
        body.positions[self.num_hidden..]
            .iter()
            .chain(body.velocities)
            .copied()
            .chain(shown(&body.part_inertias[INERTIA..], inertias))
            .chain(shown(&body.part_velocities[FORCE..], velocities))
            .chain(shown(&body.actuator_forces[6..], actuators))
            .chain(shown(&body.contact_forces[FORCE..], contacts))
    }

    fn judge(&self, step: &Step<'_>) -> (f64, bool) {
        let body = &step.body;
        let control = self.control_cost_weight * numpy::sum_of_squares(body.controls);
        let [low, high] = self.contact_cost_range;
        let forces = self.contact_cost_weight * numpy::sum_of_squares(body.contact_forces);
        let contact = clip(forces, low, high);
        match self.goal {
            Goal::Walk {
                forward_weight,
                healthy_reward,
                terminates,
                healthy_heights: [low, high],
            } => {
                let is_healthy = low < body.positions[2] && body.positions[2] < high;
                let survived = if is_healthy { healthy_reward } else { 0.0 };
                let rewards = forward_weight * step.forward_velocity() + survived;
                (rewards - (control + contact), !is_healthy && terminates)
            }
            Goal::Rise { time_step } => {
                let height = body.positions[2] / time_step;
                (height - control - contact + 1.0, false)
            }
        }
    }
}

/// `numpy.clip`, to which no order of the bounds is wrong.
fn clip(value: f64, low: f64, high: f64) -> f64 {
    value.max(low).min(high)
}
