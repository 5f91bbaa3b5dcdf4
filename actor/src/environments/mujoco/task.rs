//! What makes an environment of a simulated model: where episodes begin, what is observed and what
//! is rewarded.

use rookery_common::seeds::Random;

use super::library::{Output, Simulations};
use crate::environments::EnvironmentFault;

/// The task that is set on a model; the rest is the same for all of them.
pub(super) trait Task: Send {
    /// The derived fields that observations and rewards are made of.
    const FIELDS: &'static [Field] = &[];

    /// Moves the model's default state to where an episode begins.
    fn begin(&self, random: &mut Random, positions: &mut [f64], velocities: &mut [f64]);

    /// Whose movement over a step is rewarded.
    fn place(&self, body: &Body<'_>) -> [f64; 2] {
        [body.positions[0], 0.0]
    }

    /// The values of an observation; how many there are depends on the model and the task alone.
    fn observe<'a>(&'a self, body: &'a Body<'a>) -> impl Iterator<Item = f64> + 'a;

    /// The reward for a step and whether it ended in a terminal state.
    fn judge(&self, step: &Step<'_>) -> (f64, bool);
}

/// A derived field of `mjData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Field {
    PartPositions,
    PartCentres,
    PartInertias,
    PartVelocities,
    ContactForces,
    SitePositions,
    ActuatorForces,
    ConstraintForces,
}

/// Number of [`Field`]s.
const NUM_FIELDS: usize = 8;

impl Field {
    const fn name(self) -> &'static str {
        match self {
            Self::PartPositions => "xpos",
            Self::PartCentres => "xipos",
            Self::PartInertias => "cinert",
            Self::PartVelocities => "cvel",
            Self::ContactForces => "cfrc_ext",
            Self::SitePositions => "site_xpos",
            Self::ActuatorForces => "qfrc_actuator",
            Self::ConstraintForces => "qfrc_constraint",
        }
    }
}

/// The fields of a task among the outputs of its simulations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields([Option<Output>; NUM_FIELDS]);

impl Fields {
    /// Asks for the fields.
    pub(super) fn of(
        simulations: &mut Simulations,
        fields: &[Field],
    ) -> Result<Self, EnvironmentFault> {
        let mut outputs = [None; NUM_FIELDS];
        for field in fields {
            outputs[*field as usize] = Some(simulations.output(field.name())?);
        }
        Ok(Self(outputs))
    }

    /// What they show of a simulation; a field that was not asked for is empty.
    pub(super) fn show<'a>(
        &self,
        simulations: &'a Simulations,
        index: usize,
        [positions, velocities, controls]: [&'a [f64]; 3],
    ) -> Body<'a> {
        let field = |field: Field| {
            let output = self.0[field as usize];
            output.map_or(&[][..], |output| simulations.shown(output, index))
        };
        Body {
            positions,
            velocities,
            controls,
            part_positions: field(Field::PartPositions),
            part_centres: field(Field::PartCentres),
            part_inertias: field(Field::PartInertias),
            part_velocities: field(Field::PartVelocities),
            contact_forces: field(Field::ContactForces),
            site_positions: field(Field::SitePositions),
            actuator_forces: field(Field::ActuatorForces),
            constraint_forces: field(Field::ConstraintForces),
        }
    }
}

/// A simulated body after a step or at the beginning of an episode. As in Gymnasium, derived fields
/// are those before the last step of the simulation's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body<'a> {
    /// `qpos`.
    pub(super) positions: &'a [f64],
    /// `qvel`.
    pub(super) velocities: &'a [f64],
    /// `ctrl`.
    pub(super) controls: &'a [f64],
    /// `xpos`, three values for each part.
    pub(super) part_positions: &'a [f64],
    /// `xipos`, three values for each part.
    pub(super) part_centres: &'a [f64],
    /// `cinert`, ten values for each part.
    pub(super) part_inertias: &'a [f64],
    /// `cvel`, six values for each part.
    pub(super) part_velocities: &'a [f64],
    /// `cfrc_ext`, six values for each part.
    pub(super) contact_forces: &'a [f64],
    /// `site_xpos`, three values for each site.
    pub(super) site_positions: &'a [f64],
    /// `qfrc_actuator`.
    pub(super) actuator_forces: &'a [f64],
    /// `qfrc_constraint`.
    pub(super) constraint_forces: &'a [f64],
}

impl Body<'_> {
    /// Where a part is.
    pub(super) fn part(&self, index: usize) -> &[f64] {
        &self.part_positions[3 * index..][..3]
    }
}

/// One step of the environment, when it has been taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    /// The body after it.
    pub(super) body: Body<'a>,
    /// The action, clipped to its bounds.
    pub(super) action: &'a [f32],
    /// By how much [`Task::place`] moved.
    pub(super) moved: [f64; 2],
    /// Seconds that it took.
    pub(super) seconds: f64,
}

impl Step<'_> {
    /// The velocity of [`Task::place`] in the first direction.
    pub(super) fn forward_velocity(&self) -> f64 {
        self.moved[0] / self.seconds
    }
}

/// Adds noise that is uniform on `[-scale, scale)`.
pub(super) fn add_uniform(random: &mut Random, scale: f64, values: &mut [f64]) {
    for value in values {
        *value += random.uniform(-scale, scale);
    }
}

/// Adds normal noise of this deviation.
pub(super) fn add_normal(random: &mut Random, deviation: f64, values: &mut [f64]) {
    for pair in values.chunks_mut(2) {
        let (first, second) = random.standard_normals();
        for (value, noise) in pair.iter_mut().zip([first, second]) {
            *value += deviation * noise;
        }
    }
}
