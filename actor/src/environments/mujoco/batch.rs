//! One loop for every MuJoCo environment: a [`Task`] on a model becomes a [`BatchedEnvironment`].

use std::ops::Range;

use rookery_common::seeds::Random;
use rookery_common::snapshot;
use rookery_common::spaces::{EnvironmentSpec, Space};
use serde::{Deserialize, Serialize};

use super::library::{Component, Model, Simulations};
use super::locate;
use super::task::{Body, Field, Fields, Step, Task};
use crate::environments::arguments::Arguments;
use crate::environments::{
    BatchedEnvironment, EnvironmentError, EnvironmentFault, RestoreError, StepOutput,
};

/// The format of [`TaskBatch`]'s snapshots.
const SNAPSHOT_VERSION: u8 = 1;

/// The argument that says with which MuJoCo an environment is simulated: another one rounds, or
/// collides, another way.
const VERSION_ARGUMENT: &str = "mujoco_version";

/// Steps of the clock in one of the environment, at most.
const MAX_FRAME_SKIP: u32 = 1000;

/// A model that is compiled, for a task to be set on it.
pub(super) struct Setup<'a> {
    id: &'a str,
    arguments: Arguments<'a>,
    pub(super) model: Model,
    frame_skip: u32,
}

impl<'a> Setup<'a> {
    /// Compiles `xml`; `frame_skip` is Gymnasium's default.
    ///
    /// Arguments of the task are read before, so that their errors need no MuJoCo.
    pub(super) fn new(
        mut arguments: Arguments<'a>,
        xml: &str,
        frame_skip: u32,
    ) -> Result<Self, EnvironmentError> {
        let id = arguments.id();
        let frame_skip = arguments.whole_number("frame_skip", frame_skip, 1..=MAX_FRAME_SKIP)?;
        let unavailable = |reason: String| EnvironmentError::Unavailable {
            id: id.to_owned(),
            reason,
        };
        let library = locate::library().map_err(|error| unavailable(error.to_string()))?;
        arguments.settled(
            VERSION_ARGUMENT,
            library.version(),
            "the version of the MuJoCo that is loaded here; install the other, or let MUJOCO_LIBRARY \
             name it",
        )?;
        let model = Model::compile(library, xml).map_err(|fault| unavailable(fault.message))?;
        Ok(Self {
            id,
            arguments,
            model,
            frame_skip,
        })
    }

    /// The index of a part of the model, which its task is about.
    pub(super) fn part(&self, name: &str) -> Result<usize, EnvironmentError> {
        self.model
            .body(name)
            .ok_or_else(|| self.unavailable(format!("the model has no body `{name}`")))
    }

    /// The values of a field of the model.
    pub(super) fn constants(&self, field: &str) -> Result<Vec<f64>, EnvironmentError> {
        let constants = self.model.constants(field);
        constants.map_err(|fault| self.unavailable(fault.message))
    }

    /// The batch, once every argument has been read.
    pub(super) fn finish<T: Task + 'static>(
        self,
        task: T,
        max_episode_steps: u32,
        num_envs: usize,
    ) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
        let bounds = self.constants("actuator_ctrlrange")?;
        let time_step: f64 = self.constants("opt.timestep")?.iter().sum();
        let (low, high): (Vec<_>, Vec<_>) = bounds
            .chunks_exact(2)
            .map(|bound| (bound[0] as f32, bound[1] as f32))
            .unzip();
        let bodies = Bodies::new(&self.model, num_envs, T::FIELDS);
        let bodies = bodies.map_err(|fault| self.unavailable(fault.message))?;
        let width = task.observe(&bodies.show(0)).count();
        let spec = self.arguments.into_spec(
            Space::bounded(&vec![f32::NEG_INFINITY; width], &vec![f32::INFINITY; width]),
            Space::bounded(&low, &high),
            max_episode_steps,
        )?;
        let actions = vec![0.0; num_envs * low.len()];
        Ok(Box::new(TaskBatch {
            spec,
            task,
            frame_skip: self.frame_skip,
            seconds: time_step * f64::from(self.frame_skip),
            bounds: (low, high),
            bodies,
            actions,
            places: vec![[0.0; 2]; num_envs],
            observations: vec![0.0; num_envs * width],
        }))
    }

    fn unavailable(&self, reason: String) -> EnvironmentError {
        EnvironmentError::Unavailable {
            id: self.id.to_owned(),
            reason,
        }
    }
}

/// Simulations with the layout of their states.
struct Bodies {
    simulations: Simulations,
    fields: Fields,
    /// Whether the forces of contacts are computed after each step, which a step alone does not.
    contact_forces: bool,
    positions: Range<usize>,
    velocities: Range<usize>,
    controls: Range<usize>,
}

impl Bodies {
    fn new(model: &Model, num_envs: usize, fields: &[Field]) -> Result<Self, EnvironmentFault> {
        let contact_forces = fields.contains(&Field::ContactForces);
        let mut simulations = Simulations::new(model, num_envs, contact_forces)?;
        Ok(Self {
            fields: Fields::of(&mut simulations, fields)?,
            contact_forces,
            positions: simulations.component(Component::Positions),
            velocities: simulations.component(Component::Velocities),
            controls: simulations.component(Component::Controls),
            simulations,
        })
    }

    fn show(&self, index: usize) -> Body<'_> {
        let row = self.simulations.row(index);
        let parts = [&self.positions, &self.velocities, &self.controls];
        let parts = parts.map(|part| &row[part.clone()]);
        self.fields.show(&self.simulations, index, parts)
    }
}

/// Instances of one model with one task, stepped in one thread.
struct TaskBatch<T> {
    spec: EnvironmentSpec,
    task: T,
    /// Steps of the simulation's clock in one of the environment.
    frame_skip: u32,
    /// The same in seconds.
    seconds: f64,
    /// Of an action, `[A]` each.
    bounds: (Vec<f32>, Vec<f32>),
    bodies: Bodies,
    /// The last actions within their bounds, `[B, A]`.
    actions: Vec<f32>,
    /// [`Task::place`] of every body.
    places: Vec<[f64; 2]>,
    /// What the last reset or step showed, `[B, W]`.
    observations: Vec<f32>,
}

/// What an instance's future depends on. Derived fields are not part of a simulation's state and lag
/// behind it, so that what was made of them is kept.
#[derive(Serialize, Deserialize)]
struct Instance {
    row: Vec<f64>,
    place: [f64; 2],
    observation: Vec<f32>,
}

impl<T: Task> TaskBatch<T> {
    /// Takes up what there is to see of an instance.
    fn look(&mut self, index: usize) {
        let body = self.bodies.show(index);
        self.places[index] = self.task.place(&body);
        let width = self.spec.observation.width();
        let row = &mut self.observations[index * width..][..width];
        for (shown, value) in row.iter_mut().zip(self.task.observe(&body)) {
            *shown = value as f32;
        }
    }
}

impl<T: Task> BatchedEnvironment for TaskBatch<T> {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn num_envs(&self) -> usize {
        self.places.len()
    }

    fn reset(
        &mut self,
        index: usize,
        mut random: Random,
        observation: &mut [f32],
    ) -> Result<(), EnvironmentFault> {
        let width = self.spec.observation.width();
        assert_eq!(observation.len(), width, "[W]");
        let bodies = &mut self.bodies;
        bodies.simulations.reset(index)?;
        let row = bodies.simulations.row_mut(index);
        let mut positions = row[bodies.positions.clone()].to_vec();
        let mut velocities = row[bodies.velocities.clone()].to_vec();
        self.task
            .begin(&mut random, &mut positions, &mut velocities);
        row[bodies.positions.clone()].copy_from_slice(&positions);
        row[bodies.velocities.clone()].copy_from_slice(&velocities);
        bodies.simulations.forward(index)?;
        self.look(index);
        observation.copy_from_slice(&self.observations[index * width..][..width]);
        Ok(())
    }

    fn step(&mut self, actions: &[f32], output: StepOutput<'_>) -> Result<(), EnvironmentFault> {
        let num_envs = self.num_envs();
        let (width, action_width) = (self.spec.observation.width(), self.bounds.0.len());
        assert_eq!(actions.len(), num_envs * action_width, "[B, A]");
        assert_eq!(output.observations.len(), num_envs * width, "[B, W]");
        assert_eq!(output.rewards.len(), num_envs, "[B]");
        assert_eq!(output.terminated.len(), num_envs, "[B]");
        assert_eq!(output.truncated.len(), num_envs, "[B]");
        let bodies = &mut self.bodies;
        let instances = actions.chunks_exact(action_width);
        let clipped = self.actions.chunks_exact_mut(action_width);
        for (index, (action, clipped)) in instances.zip(clipped).enumerate() {
            let controls = &mut bodies.simulations.row_mut(index)[bodies.controls.clone()];
            let bounds = self.bounds.0.iter().zip(&self.bounds.1);
            for (((action, (low, high)), clipped), control) in
                action.iter().zip(bounds).zip(clipped).zip(controls)
            {
                *clipped = action.clamp(*low, *high);
                *control = f64::from(*clipped);
            }
        }
        bodies.simulations.step(self.frame_skip)?;
        if bodies.contact_forces {
            bodies.simulations.compute_contact_forces()?;
        }
        for index in 0..num_envs {
            let before = self.places[index];
            self.look(index);
            let after = self.places[index];
            let (reward, terminated) = self.task.judge(&Step {
                body: self.bodies.show(index),
                action: &self.actions[index * action_width..][..action_width],
                moved: [after[0] - before[0], after[1] - before[1]],
                seconds: self.seconds,
            });
            output.rewards[index] = reward as f32;
            output.terminated[index] = u8::from(terminated);
        }
        output.truncated.fill(0);
        output.observations.copy_from_slice(&self.observations);
        Ok(())
    }

    fn observe(&self, observations: &mut [f32]) {
        observations.copy_from_slice(&self.observations);
    }

    fn save(&self, state: &mut Vec<u8>) {
        let width = self.spec.observation.width();
        let rows = self.observations.chunks_exact(width);
        let instances: Vec<_> = rows
            .zip(&self.places)
            .enumerate()
            .map(|(index, (observation, place))| Instance {
                row: self.bodies.simulations.row(index).to_vec(),
                place: *place,
                observation: observation.to_vec(),
            })
            .collect();
        snapshot::encode(SNAPSHOT_VERSION, &instances, state);
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let instances: Vec<Instance> = snapshot::decode_all(SNAPSHOT_VERSION, state)?;
        if instances.len() != self.num_envs() {
            return Err(RestoreError::Mismatch {
                field: "number of environments",
                expected: self.num_envs() as u64,
                got: instances.len() as u64,
            });
        }
        let width = self.spec.observation.width();
        let state_width = self.bodies.simulations.row(0).len();
        // MuJoCo resets what is not finite in the step that meets it, so that no step leaves any.
        let is_possible = |instance: &Instance| {
            instance.row.len() == state_width
                && instance.observation.len() == width
                && instance.row.iter().all(|value| value.is_finite())
        };
        if let Some(index) = instances.iter().position(|instance| !is_possible(instance)) {
            return Err(RestoreError::ImpossibleState { index });
        }
        let rows = self.observations.chunks_exact_mut(width);
        for (index, (instance, row)) in instances.iter().zip(rows).enumerate() {
            let simulation = self.bodies.simulations.row_mut(index);
            simulation.copy_from_slice(&instance.row);
            self.places[index] = instance.place;
            row.copy_from_slice(&instance.observation);
        }
        Ok(())
    }
}
