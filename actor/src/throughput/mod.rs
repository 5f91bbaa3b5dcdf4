//! How many steps a second environments take with random actions: [`Stepper`] measures any of them in a
//! shard, and [`compare`] an environment through the actor beside a loop of Python's own.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use rookery_common::configuration::HostConfiguration;
use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::Space;

use crate::collector::OVERLAPPED_SHARDS;
use crate::environments::{self, BatchedEnvironment, EnvironmentError, EnvironmentFault, hosted};
use crate::shard::{FinalObservations, Shard, StepRow};
use bare::Bare;

pub use bare::BareError;

mod bare;

/// Rows of actions that are cycled through, so that drawing them is not measured: so many that bodies do
/// not fall into a gait, of which each has its own price, or for large batches as many as this.
const MIN_ACTION_ROWS: usize = 64;
/// Values in all rows of actions, where those are more.
const ACTION_VALUES: usize = 1 << 16;
/// How long a side of a comparison has its turn: long enough for some steps of anything, and short
/// enough for the machine to be the same one when the others have theirs.
const TURN: Duration = Duration::from_millis(250);
/// Turns that each side has at the least.
const MIN_TURNS: u32 = 7;

/// A shard that is stepped with random actions, and where its steps are written.
pub struct Stepper {
    shard: Shard,
    actions: Vec<f32>,
    next_action: usize,
    observations: Vec<f32>,
    rewards: Vec<f32>,
    terminated: Vec<u8>,
    truncated: Vec<u8>,
    finals: FinalObservations,
}

impl Stepper {
    /// One that begins an episode of each instance.
    ///
    /// # Errors
    /// Where the environment fails.
    pub fn new(environment: Box<dyn BatchedEnvironment>) -> Result<Self, EnvironmentFault> {
        let shard = Shard::new(environment, 0, 1, Purpose::Evaluation)?;
        let num_envs = shard.num_envs();
        let width = shard.spec().action.width();
        let mut random = Random::derive(1, Purpose::Action, 0, 0);
        let row = num_envs * width;
        let num_rows = (ACTION_VALUES / row).max(MIN_ACTION_ROWS);
        let actions = (0..num_rows * row)
            .map(|index| match &shard.spec().action {
                Space::Discrete { n } => random.below(*n as u64) as f32,
                Space::MultiDiscrete { nvec } => random.below(nvec[index % width] as u64) as f32,
                Space::Box { low, high, .. } => {
                    let (low, high) = (low[index % width], high[index % width]);
                    low + (high - low) * random.unit_f32()
                }
                Space::Frames { .. } => 0.0,
            })
            .collect();
        Ok(Self {
            actions,
            next_action: 0,
            observations: vec![0.0; num_envs * shard.spec().observation.width()],
            rewards: vec![0.0; num_envs],
            terminated: vec![0; num_envs],
            truncated: vec![0; num_envs],
            finals: FinalObservations::default(),
            shard,
        })
    }

    /// Has instances that are stepped elsewhere begin the next step.
    ///
    /// # Errors
    /// Where the environment fails.
    fn begin_step(&mut self) -> Result<(), EnvironmentFault> {
        let actions = &self.actions[self.next_action..][..self.action_row()];
        self.shard.begin_step(actions)
    }

    /// Takes one step of every instance, and gives how many there are.
    ///
    /// # Errors
    /// Where the environment fails.
    #[inline]
    pub fn step(&mut self) -> Result<usize, EnvironmentFault> {
        let row = self.action_row();
        let actions = &self.actions[self.next_action..][..row];
        self.next_action = (self.next_action + row) % self.actions.len();
        self.finals.envs.clear();
        self.finals.observations.clear();
        self.shard.step(
            actions,
            StepRow {
                rewards: &mut self.rewards,
                terminated: &mut self.terminated,
                truncated: &mut self.truncated,
                next_observations: &mut self.observations,
                finals: &mut self.finals,
                episodes: &mut Vec::new(),
            },
        )?;
        Ok(self.shard.num_envs())
    }

    /// Values of one row of actions, `B * A`.
    fn action_row(&self) -> usize {
        self.shard.num_envs() * self.shard.spec().action.width()
    }

    /// Rows of actions.
    fn num_action_rows(&self) -> usize {
        self.actions.len() / self.action_row()
    }

    /// What was observed last, `[B, W]`.
    #[must_use]
    pub fn observations(&self) -> &[f32] {
        &self.observations
    }
}

/// An environment that both sides make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its id, which [`make`](environments::make) and Python understand: where it is native, that is what
    /// is compared with Python's.
    pub id: String,
    /// Its arguments.
    pub arguments: BTreeMap<String, String>,
    /// Instances that are stepped together.
    pub num_envs: usize,
}

impl Case {
    /// One without arguments.
    #[must_use]
    pub fn new(id: impl Into<String>, num_envs: usize) -> Self {
        Self {
            id: id.into(),
            arguments: BTreeMap::new(),
            num_envs,
        }
    }
}

/// One of each kind: scalar and vector environments, cheap and dear ones, and a native one.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut scalar = Case::new("gymnasium:CartPole-v1", 32);
    let (mode, sync) = ("vectorization_mode".to_owned(), "sync".to_owned());
    scalar.arguments.insert(mode, sync);
    vec![
        scalar,
        Case::new("gymnasium:CartPole-v1", 32),
        Case::new("ALE/Pong-v5", 8),
        Case::new("ALE/Pong-v5", 32),
        Case::new("gymnasium:HalfCheetah-v5", 8),
        Case::new("HalfCheetah-v5", 8),
    ]
}

/// Environment steps a second of both sides: medians over the turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// In the actor: of all its collectors together, or in one native shard.
    pub actor: f64,
    /// In loops of Python's own that seed the first episode alone: as many as the actor has host processes, each
    /// of which steps as many groups of instances in turn.
    pub bare: f64,
    /// In such that seed every episode, as a repeatable run must; none of vector environments, which reset
    /// themselves there.
    pub bare_seeded: Option<f64>,
    /// The actor's rate by the bare loops' of the same turn.
    pub ratio: f64,
    /// The same by that of the loops that seed every episode.
    pub seeded_ratio: Option<f64>,
}

/// The collectors of an actor, each with the shards that it steps in turn, as a collector would: two where
/// there is a core for their host beside its own. A native environment is one shard, and one core.
struct Collectors(Vec<Vec<Stepper>>);

impl Collectors {
    fn new(case: &Case, threads: usize) -> Result<Self, CompareError> {
        let make = || -> Result<Stepper, CompareError> {
            let made = environments::make(&case.id, &case.arguments, case.num_envs)?;
            Ok(Stepper::new(made)?)
        };
        let all_have_one = Barrier::new(threads);
        // Whoever makes environments has hosts of its own.
        let make_some = || -> Result<Vec<Stepper>, CompareError> {
            let first = make();
            all_have_one.wait();
            let mut made = vec![first?];
            if made[0].shard.is_elsewhere() {
                for _ in 1..OVERLAPPED_SHARDS {
                    made.push(make()?);
                }
            }
            Ok(made)
        };
        let mut made = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(make_some)).collect();
            threads
                .into_iter()
                .map(joined)
                .collect::<Result<Vec<_>, _>>()
        })?;
        if hosted::pool().num_hosts() == 0 {
            made.truncate(1);
        }
        Ok(Self(made))
    }

    /// Shards of each collector.
    fn num_groups(&self) -> usize {
        self.0[0].len()
    }

    /// Rows of actions that each shard has.
    fn num_action_rows(&self) -> usize {
        self.0[0][0].num_action_rows()
    }

    /// Steps all shards for about this time, and gives the environment steps a second of all together.
    fn measure(&mut self, time: Duration) -> Result<f64, EnvironmentFault> {
        thread::scope(|scope| {
            let collectors = self.0.iter_mut();
            let threads: Vec<_> = collectors
                .map(|steppers| scope.spawn(move || measure(steppers, time)))
                .collect();
            threads.into_iter().map(joined).sum()
        })
    }
}

/// Steps the shards of a collector for about this time, one while the others are stepped elsewhere, and
/// gives environment steps a second.
fn measure(steppers: &mut [Stepper], time: Duration) -> Result<f64, EnvironmentFault> {
    let (mut steps, since) = (0, Instant::now());
    for stepper in &mut *steppers {
        stepper.begin_step()?;
    }
    while since.elapsed() < time {
        for stepper in &mut *steppers {
            steps += stepper.step()?;
            stepper.begin_step()?;
        }
    }
    for stepper in &mut *steppers {
        steps += stepper.step()?;
    }
    Ok(steps as f64 / since.elapsed().as_secs_f64())
}

/// What a thread came to.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Why there is nothing to compare.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The environment cannot be made.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// It failed.
    #[error(transparent)]
    Fault(#[from] EnvironmentFault),
    /// The loop of Python's own failed.
    #[error(transparent)]
    Bare(#[from] BareError),
}

/// Measures all sides in turn for about `time`, so that all see the same machine; the actor's side with as
/// many collector `threads` as given.
///
/// It [configures](hosted::configure) this process's hosts.
///
/// # Errors
/// Where the environment cannot be made, or fails.
pub fn compare(
    settings: &HostConfiguration,
    case: &Case,
    threads: usize,
    time: Duration,
) -> Result<Comparison, CompareError> {
    hosted::configure(settings);
    let mut collectors = Collectors::new(case, threads)?;
    // Like for like: as many processes on both sides, each with as many instances.
    let num_loops = hosted::pool().num_hosts().max(1);
    let (num_groups, num_rows) = (collectors.num_groups(), collectors.num_action_rows());
    let mut loops = (0..num_loops)
        .map(|_| Bare::start(settings, case, num_groups, num_rows))
        .collect::<Result<Vec<_>, _>>()?;
    let is_vector = loops[0].is_vector();
    let num_sides = if is_vector { 2 } else { 3 };
    let num_turns = (time.div_duration_f64(TURN * num_sides) as u32).max(MIN_TURNS);
    let turn = time / (num_turns * num_sides);
    collectors.measure(turn)?;
    Bare::measure(&mut loops, turn, false)?;
    let mut measured = Measured::default();
    for _ in 0..num_turns {
        let actor = collectors.measure(turn)?;
        let unseeded = Bare::measure(&mut loops, turn, false)?;
        measured.actor.push(actor);
        measured.bare.push(unseeded);
        measured.ratio.push(actor / unseeded);
        if !is_vector {
            let seeded = Bare::measure(&mut loops, turn, true)?;
            measured.bare_seeded.push(seeded);
            measured.seeded_ratio.push(actor / seeded);
        }
    }
    Ok(Comparison {
        actor: median(measured.actor).unwrap_or(f64::NAN),
        bare: median(measured.bare).unwrap_or(f64::NAN),
        bare_seeded: median(measured.bare_seeded),
        ratio: median(measured.ratio).unwrap_or(f64::NAN),
        seeded_ratio: median(measured.seeded_ratio),
    })
}

/// What the turns came to, in the terms of a [`Comparison`].
#[derive(Debug, Default)]
struct Measured {
    actor: Vec<f64>,
    bare: Vec<f64>,
    bare_seeded: Vec<f64>,
    ratio: Vec<f64>,
    seeded_ratio: Vec<f64>,
}

/// The middle one, or what lies between the middle two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count.is_multiple_of(2) => Some(f64::midpoint(values[middle - 1], values[middle])),
        _ => Some(values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn every_native_environment_can_be_stepped() {
        for id in environments::ids() {
            for num_envs in [1, 3] {
                let made = environments::make(id, &BTreeMap::new(), num_envs).unwrap();
                let mut stepper = Stepper::new(made).unwrap();
                for _ in 0..=stepper.num_action_rows() {
                    assert_eq!(stepper.step(), Ok(num_envs));
                }
                let observations = stepper.observations();
                assert!(observations.iter().all(|value| value.is_finite()), "{id}");
            }
        }
    }
}
