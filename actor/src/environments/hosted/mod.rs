//! Environments of Python: every one that [Gymnasium](https://gymnasium.farama.org) knows, and any
//! class with its interface.
//!
//! They run in **hosts**, Python processes that the actor starts ([`HostPool`]), so that a crash, a
//! hang or a `sys.exit` in one is a fault of that host and not the end of the actor. A host carries
//! up to `actor.host.groups` batches of a collector thread, each a **group** with its own shared memory and
//! doorbells: one is stepped ([`BatchedEnvironment::begin_step`]) while the policy chooses actions for
//! another.
//!
//! Gymnasium's instances are reset by whoever steps them, which is the [shard](crate::shard) here.
//! It says beforehand what the next episode draws from ([`BatchedEnvironment::prepare`]), so the host
//! begins that episode in the step that ended the one before it, and its first observation comes with
//! the same answer.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytemuck::cast_slice;
use rookery_common::configuration::HostConfiguration;
use rookery_common::seeds::Random;
use rookery_common::spaces::EnvironmentSpec;
use rookery_common::unroll::FrameLayout;

use super::{BatchedEnvironment, EnvironmentFault, Frame, RestoreError, StepOutput};
use group::{Command, Group, Table};
use history::{ActionFormat, Episode};
use stacks::Stacks;

pub use pool::HostPool;
pub(crate) use process::set_environment;

mod pool;
mod process;
mod description;
mod group;
mod kernel;
mod seed_words;
mod shared;
mod history;
mod stacks;

/// The pool out of which [`make`](super::make) takes.
static POOL: RwLock<Option<Arc<HostPool>>> = RwLock::new(None);

/// Held by tests that use that pool, and would see what others do to it.
#[cfg(test)]
pub(crate) static POOL_TESTS: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Says how this process runs its hosts from now on; there are defaults before that. One process has
/// one interpreter, as one machine does.
pub fn configure(settings: &HostConfiguration) {
    let mut pool = POOL.write().unwrap_or_else(PoisonError::into_inner);
    if pool.as_ref().is_none_or(|pool| pool.settings() != settings) {
        *pool = Some(Arc::new(HostPool::new(settings.clone())));
    }
}

/// The pool of this process.
pub(crate) fn pool() -> Arc<HostPool> {
    if let Some(pool) = &*POOL.read().unwrap_or_else(PoisonError::into_inner) {
        return Arc::clone(pool);
    }
    let mut pool = POOL.write().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(pool.get_or_insert_with(|| Arc::new(HostPool::new(HostConfiguration::default()))))
}

/// Why there are no environments of Python.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostedError {
    /// There is no host to ask.
    #[error("{0}")]
    NoPython(String),
    /// Python knows no environment of this name.
    #[error("{0}")]
    Unknown(String),
    /// Python knows it, and it cannot be made.
    #[error("{0}")]
    Refused(String),
}

/// A batch of instances in a host.
#[derive(Debug)]
pub struct HostedBatch {
    spec: EnvironmentSpec,
    group: Group,
    format: ActionFormat,
    episodes: Vec<Episode>,
    /// What the next episode of each instance draws from, where it has been said.
    next: Vec<Option<Next>>,
    /// Which table shows an instance's current observation.
    tables: Vec<Table>,
    /// Which instances have begun another episode within the last step, and wait to be told to.
    began: Vec<u8>,
    /// Which have been brought to an end and not been reset.
    ended: Vec<u8>,
    actions: Vec<f32>,
    /// What a step has been begun with that waits to be told to.
    begun: Option<Vec<f32>>,
    /// Where observations are stacks of images.
    stacks: Option<Stacks>,
    /// Lives that are left, `[B]`, where the environment counts them.
    lives: Option<Vec<i32>>,
}

/// An episode that has been announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Next {
    /// What has been drawn for it.
    drawn: u32,
    /// What it begins from.
    seed: u32,
}

/// A seed that is drawn for an episode, which Gymnasium wants below 2^31.
fn seed_of(random: &Random) -> u32 {
    (random.clone().next_bits() >> 33) as u32
}

impl HostedBatch {
    fn new(spec: EnvironmentSpec, group: Group, num_envs: usize) -> Self {
        Self {
            format: ActionFormat::of(&spec.action),
            episodes: vec![Episode::default(); num_envs],
            next: vec![None; num_envs],
            tables: vec![Table::Shown; num_envs],
            began: vec![0; num_envs],
            ended: vec![1; num_envs],
            actions: vec![0.0; num_envs * spec.action.width()],
            begun: None,
            stacks: FrameLayout::of(&spec.observation)
                .filter(|layout| layout.stack > 1)
                .map(|layout| Stacks::new(layout, num_envs)),
            lives: group.counts_lives().then(|| vec![0; num_envs]),
            spec,
            group,
        }
    }

    /// What the first episode of those that draw from one seed begins from.
    fn first_of_seed(&self, drawn: u32) -> u32 {
        drawn - drawn % self.group.episodes_per_seed()
    }

    /// Puts actions into the space: indices that exist, values within their bounds.
    fn set_actions(&mut self, actions: &[f32]) {
        self.actions.copy_from_slice(actions);
        for action in self.actions.chunks_exact_mut(self.spec.action.width()) {
            self.spec.action.project(action);
        }
        self.group.set_actions(&self.actions);
    }

    /// Names the first instance that shows something that is not finite.
    fn check_finite(
        &self,
        what: &str,
        rows: &[f32],
        width: usize,
        first: usize,
    ) -> Result<(), EnvironmentFault> {
        match rows.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(place) => Err(self.group.fail(&format!(
                "environment {} gave {} in value {} of its {what}; numbers must be finite as 32-bit floats",
                first + place / width,
                rows[place],
                place % width
            ))),
        }
    }

    /// Has what instance `index` shows looked at, where it is a stack.
    fn check_stack(
        &mut self,
        index: usize,
        check: impl FnOnce(&mut Stacks, &[u8]) -> Result<(), String>,
    ) -> Result<(), EnvironmentFault> {
        let Some(stacks) = &mut self.stacks else {
            return Ok(());
        };
        let mut row = vec![0; self.spec.observation.width()];
        self.group.pixels(self.tables[index], index, &mut row);
        check(stacks, &row).map_err(|what| self.group.fail(&what))
    }

    fn read_lives(&mut self) {
        if let Some(lives) = &mut self.lives {
            self.group.lives(lives);
        }
    }

    /// Has the host begin a step of the instances that are active, all of them where none are named.
    fn begin(&mut self, active: Option<&[bool]>, actions: &[f32]) -> Result<(), EnvironmentFault> {
        assert_eq!(actions.len(), self.actions.len(), "[B, A]");
        let num_envs = self.episodes.len();
        let is_active = |index: &usize| active.is_none_or(|active| active[*index]);
        if let Some(index) = (0..num_envs)
            .filter(is_active)
            .find(|index| self.ended[*index] != 0)
        {
            let message = format!("environment {index} was stepped without a reset");
            return Err(EnvironmentFault::new(message));
        }
        self.set_actions(actions);
        let action_width = self.spec.action.width();
        for index in (0..num_envs).filter(is_active) {
            let episode = &mut self.episodes[index];
            // One more than can be saved is enough to know that it is too long.
            if episode.actions.len() <= history::MAX_ACTION_BYTES {
                let action = &self.actions[index * action_width..][..action_width];
                self.format.write(action, &mut episode.actions);
            }
        }
        let command = if active.is_some() {
            self.select(|index| is_active(&index));
            Command::StepSelected
        } else {
            Command::Step
        };
        self.group.send(command)
    }

    /// Steps the instances that are active, all of them where none are named.
    fn advance(
        &mut self,
        active: Option<&[bool]>,
        actions: &[f32],
        output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        match self.begun.take() {
            None => self.begin(active, actions)?,
            Some(begun) => {
                assert!(active.is_none(), "all instances have begun a step");
                assert_eq!(
                    cast_slice::<_, u32>(&begun),
                    cast_slice::<_, u32>(actions),
                    "a step is taken with what it was begun with"
                );
            }
        }
        self.group.receive()?;
        let num_envs = self.episodes.len();
        let is_active = |index: &usize| active.is_none_or(|active| active[*index]);
        let mut earned = vec![0.0; num_envs];
        let (mut ended, mut cut) = (vec![0; num_envs], vec![0; num_envs]);
        let mut began = vec![0; num_envs];
        self.group.rewards(&mut earned);
        self.group.flags(&mut ended, &mut cut, &mut began);
        self.read_lives();
        let width = self.spec.observation.width();
        let StepOutput {
            observations,
            rewards,
            terminated,
            truncated,
        } = output;
        let rows = observations.chunks_exact_mut(width).enumerate();
        for (index, row) in rows.filter(|(index, _)| is_active(index)) {
            self.tables[index] = Table::Shown;
            self.began[index] = began[index];
            self.ended[index] = ended[index] | cut[index];
            rewards[index] = earned[index];
            terminated[index] = ended[index];
            truncated[index] = cut[index];
            self.group.observations(Table::Shown, index, row);
            self.check_finite("reward", &earned[index..=index], 1, index)?;
            if self.group.is_float() {
                self.check_finite("observation", row, width, index)?;
            }
            self.check_stack(index, |stacks, row| stacks.follow(index, row))?;
        }
        Ok(())
    }

    fn select(&self, is_selected: impl Fn(usize) -> bool) {
        let selected: Vec<u8> = (0..self.episodes.len())
            .map(|index| u8::from(is_selected(index)))
            .collect();
        self.group.select(&selected);
    }

    /// Takes every episode again from its beginning. They are moved so that they end together, since
    /// a vector environment steps all instances or none: each begins as many steps before the end as
    /// it has actions.
    fn replay(&mut self, episodes: &[Episode]) -> Result<(), RestoreError> {
        let num_envs = episodes.len();
        let size = self.format.size();
        let lengths: Vec<usize> = episodes
            .iter()
            .map(|episode| episode.actions.len() / size)
            .collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        for (index, episode) in episodes.iter().enumerate() {
            self.group.set_next_seed(index, None);
            self.group.set_seed(index, episode.seed);
        }
        let width = self.spec.action.width();
        let mut actions = vec![0.0; num_envs * width];
        let mut terminated = vec![0; num_envs];
        let mut truncated = vec![0; num_envs];
        let mut began = vec![0; num_envs];
        for step in 0..=longest {
            if lengths.iter().any(|length| longest - length == step) {
                self.select(|index| longest - lengths[index] == step);
                self.group.call(Command::Reset)?;
            }
            if step == longest {
                break;
            }
            let is_begun = |index: usize| longest - lengths[index] <= step;
            for index in (0..num_envs).filter(|index| is_begun(*index)) {
                let action = &mut actions[index * width..][..width];
                let taken = step - (longest - lengths[index]);
                self.format.read(&episodes[index].actions, taken, action);
            }
            self.select(is_begun);
            self.set_actions(&actions);
            self.group.call(Command::StepSelected)?;
            self.group
                .flags(&mut terminated, &mut truncated, &mut began);
            let is_early =
                |index: &usize| is_begun(*index) && terminated[*index] | truncated[*index] != 0;
            // Nothing is saved between the end of an episode and the beginning of the next.
            if let Some(index) = (0..num_envs).find(is_early) {
                return Err(RestoreError::NotDeterministic { index });
            }
        }
        let mut row = vec![0.0; self.spec.observation.width()];
        for (index, episode) in episodes.iter().enumerate() {
            self.group.observations(Table::Shown, index, &mut row);
            if history::checksum(&row) != episode.checksum {
                return Err(RestoreError::NotDeterministic { index });
            }
        }
        Ok(())
    }
}

impl BatchedEnvironment for HostedBatch {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn num_envs(&self) -> usize {
        self.episodes.len()
    }

    fn reset(
        &mut self,
        index: usize,
        random: Random,
        observation: &mut [f32],
    ) -> Result<(), EnvironmentFault> {
        let drawn = seed_of(&random);
        let next = self.next[index].filter(|next| next.drawn == drawn);
        let seed = next.map_or_else(|| self.first_of_seed(drawn), |next| next.seed);
        if self.began[index] != 0 && next.is_some() {
            self.tables[index] = Table::First;
        } else {
            self.group.set_seed(index, seed);
            self.select(|other| other == index);
            self.group.call(Command::Reset)?;
            self.tables[index] = Table::Shown;
        }
        self.began[index] = 0;
        self.ended[index] = 0;
        self.group.set_next_seed(index, None);
        self.next[index] = None;
        let episode = &mut self.episodes[index];
        episode.seed = seed;
        episode.actions.clear();
        self.group
            .observations(self.tables[index], index, observation);
        if self.group.is_float() {
            self.check_finite("first observation", observation, observation.len(), index)?;
        }
        self.read_lives();
        self.check_stack(index, |stacks, row| stacks.begin(index, row))
    }

    fn prepare(&mut self, index: usize, random: &Random) {
        let drawn = seed_of(random);
        let following = self.episodes[index].seed + 1;
        let seed = if following.is_multiple_of(self.group.episodes_per_seed()) {
            self.first_of_seed(drawn)
        } else {
            following
        };
        self.next[index] = Some(Next { drawn, seed });
        self.group.set_next_seed(index, Some(seed));
    }

    /// While there is a core for it: otherwise two shards in turn would only take each other's place in the
    /// caches of the one that there is.
    fn is_elsewhere(&self) -> bool {
        self.group.has_free_core()
    }

    fn begin_step(&mut self, actions: &[f32]) -> Result<(), EnvironmentFault> {
        self.begin(None, actions)?;
        self.begun = Some(actions.to_vec());
        Ok(())
    }

    fn step(&mut self, actions: &[f32], output: StepOutput<'_>) -> Result<(), EnvironmentFault> {
        self.advance(None, actions, output)
    }

    fn step_some(
        &mut self,
        active: &[bool],
        actions: &[f32],
        output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        assert_eq!(active.len(), self.episodes.len(), "[B]");
        if self.group.is_vector() {
            return Err(EnvironmentFault::new(format!(
                "`{}` is a vector environment, which can only step all instances of a batch together; \
                 arguments.vectorization_mode = \"sync\" steps single ones, more slowly",
                self.spec.id
            )));
        }
        if active.contains(&true) {
            self.advance(Some(active), actions, output)?;
        }
        Ok(())
    }

    fn render(&mut self, index: usize) -> Result<Option<Frame>, EnvironmentFault> {
        self.group.draw(index, self.episodes.len())
    }

    fn lives(&self) -> Option<&[i32]> {
        self.lives.as_deref()
    }

    fn observe(&self, observations: &mut [f32]) {
        let width = self.spec.observation.width();
        for (index, row) in observations.chunks_exact_mut(width).enumerate() {
            self.group.observations(self.tables[index], index, row);
        }
    }

    fn save(&self, state: &mut Vec<u8>) {
        let mut row = vec![0.0; self.spec.observation.width()];
        let mut episodes = self.episodes.clone();
        for (index, episode) in episodes.iter_mut().enumerate() {
            self.group.observations(self.tables[index], index, &mut row);
            episode.checksum = history::checksum(&row);
        }
        history::save(episodes, state);
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let num_envs = self.episodes.len();
        let episodes = history::read(state, num_envs, self.format, &self.spec.action)?;
        self.replay(&episodes)?;
        self.episodes = episodes;
        self.next.fill(None);
        self.tables.fill(Table::Shown);
        self.began.fill(0);
        self.ended.fill(0);
        self.read_lives();
        for index in 0..num_envs {
            self.check_stack(index, |stacks, row| {
                stacks.take(index, row);
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Makes a batch out of the pool of this process, with pictures where they are wanted.
pub(super) fn make(
    id: &str,
    arguments: &BTreeMap<String, String>,
    num_envs: usize,
    pictures: bool,
) -> Result<Box<dyn BatchedEnvironment>, HostedError> {
    let batch = if pictures {
        pool().make_visible(id, arguments, num_envs)?
    } else {
        pool().make(id, arguments, num_envs)?
    };
    Ok(Box::new(batch))
}
