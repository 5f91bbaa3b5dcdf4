//! How many steps a second environments take with random actions: [`Stepper`] measures any of them in a
//! shard, and [`compare`] an environment through the actor beside a loop of Python's own.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use rookery_common::configuration::HostConfiguration;
use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::Space;
use serde::Deserialize;

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

    /// It with an argument.
    fn with(mut self, name: &str, value: &str) -> Self {
        self.arguments.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// One of each kind: scalar and vector environments, cheap and dear ones, and a native one.
#[must_use]
pub fn cases() -> Vec<Case> {
    // The games of the presets are those without sticky actions.
    let pong =
        |num_envs| Case::new("ALE/Pong-v5", num_envs).with("repeat_action_probability", "0.0");
    vec![
        Case::new("gymnasium:CartPole-v1", 32).with("vectorization_mode", "sync"),
        Case::new("gymnasium:CartPole-v1", 32),
        pong(8),
        pong(32),
        Case::new("gymnasium:HalfCheetah-v5", 8),
        Case::new("HalfCheetah-v5", 8),
    ]
}

/// Environment steps a second of both sides, over all their turns together: what takes long and comes seldom, as the
/// beginning of an episode does, counts for what it takes.
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
}

impl Comparison {
    /// The actor's rate by that of the loops.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.actor / self.bare
    }

    /// The same by that of the loops that seed every episode.
    #[must_use]
    pub fn seeded_ratio(&self) -> Option<f64> {
        self.bare_seeded.map(|seeded| self.actor / seeded)
    }
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

    /// Steps all shards for about this time.
    fn measure(&mut self, time: Duration) -> Result<Measured, EnvironmentFault> {
        thread::scope(|scope| {
            let collectors = self.0.iter_mut();
            let threads: Vec<_> = collectors
                .map(|steppers| scope.spawn(move || measure(steppers, time)))
                .collect();
            threads.into_iter().map(joined).sum()
        })
    }
}

/// Steps the shards of a collector for about this time, one while the others are stepped elsewhere.
fn measure(steppers: &mut [Stepper], time: Duration) -> Result<Measured, EnvironmentFault> {
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
    Ok(Measured {
        steps: steps as f64,
        seconds: since.elapsed().as_secs_f64(),
    })
}

/// Environment steps, and the seconds that threads or processes took for them, one after the other or all at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
struct Measured {
    steps: f64,
    seconds: f64,
}

impl Measured {
    /// Steps a second of so many threads or processes together.
    fn rate(self, threads: usize) -> f64 {
        self.steps / self.seconds * threads as f64
    }
}

impl Sum for Measured {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            steps: sum.steps + one.steps,
            seconds: sum.seconds + one.seconds,
        })
    }
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
    let (mut actor, mut bare, mut seeded) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..num_turns {
        actor.push(collectors.measure(turn)?);
        bare.push(Bare::measure(&mut loops, turn, false)?);
        if !is_vector {
            seeded.push(Bare::measure(&mut loops, turn, true)?);
        }
    }
    let rate = |turns: Vec<Measured>, threads| turns.into_iter().sum::<Measured>().rate(threads);
    Ok(Comparison {
        actor: rate(actor, collectors.0.len()),
        bare: rate(bare, num_loops),
        bare_seeded: (!is_vector).then(|| rate(seeded, num_loops)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_took_long_counts_for_what_it_took() {
        let turns = [(100.0, 1.0), (100.0, 1.0), (40.0, 2.0)];
        let all: Measured = turns
            .map(|(steps, seconds)| Measured { steps, seconds })
            .into_iter()
            .sum();
        assert_eq!(all.rate(1), 60.0);
        // Two threads at once that take as many seconds between them.
        assert_eq!(all.rate(2), 120.0);
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
