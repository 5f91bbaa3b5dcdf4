//! A shard: environments with consecutive indices and everything that collecting from them depends
//! on, so that whoever holds its state can continue it, bit for bit.
//!
//! The shard applies the time limit, begins the next episode inside the step that ended one, and
//! draws that episode from `(run seed, environment index, episode)`. Where an episode is a life of a game
//! that goes on (T6), all of this, and what is reported, is of the game. Hence neither the grouping of
//! environments into shards nor the process that steps them can change a trajectory.

use rookery_common::seeds::{Purpose, Random};
use rookery_common::snapshot;
use rookery_common::spaces::EnvironmentSpec;
use serde::{Deserialize, Serialize};

use crate::environments::{BatchedEnvironment, EnvironmentFault, Frame, RestoreError, StepOutput};

/// The format of [`Shard`]'s snapshots.
const SNAPSHOT_VERSION: u8 = 1;

/// Environments `first_env..first_env + B` of a run, each in the middle of an episode.
pub struct Shard {
    environment: Box<dyn BatchedEnvironment>,
    stream: Stream,
    progress: Progress,
    observation_width: usize,
    /// The recurrent state of whoever acts, `[B, S]`.
    recurrent_state: Vec<f32>,
    /// Whether somebody watches how episodes end.
    is_watched: bool,
    /// How the last one ended, where somebody watches.
    final_frame: Option<Frame>,
}

/// Where the episodes of a shard are drawn from.
#[derive(Clone, Copy, Debug)]
struct Stream {
    seed: u64,
    purpose: Purpose,
    first_env: u32,
}

impl Stream {
    fn episode(self, index: usize, episode: u64) -> Random {
        let env = u64::from(self.first_env) + index as u64;
        Random::derive(self.seed, self.purpose, env, episode)
    }
}

/// How far each environment has come, in columns of `B`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Progress {
    /// Number of games that ended before the current one.
    episodes: Vec<u64>,
    /// Steps of the current game.
    elapsed: Vec<u32>,
    /// Sum of the current game's rewards, before wrappers changed them.
    returns: Vec<f64>,
}

/// The columns of an unroll at one time step `t`, where [`Shard::step`] writes.
#[derive(Debug)]
pub struct StepRow<'a> {
    /// `reward[t]`, as the wrapped environment gives it, `[B]`.
    pub rewards: &'a mut [f32],
    /// `terminated[t]`, zero or one, `[B]`.
    pub terminated: &'a mut [u8],
    /// `truncated[t]`, zero or one, `[B]`: by the environment or by the time limit. Where an episode
    /// reaches its time limit in a terminal state both flags are set.
    pub truncated: &'a mut [u8],
    /// `observation[t + 1]`, `[B, W]`: where step `t` ended an episode, the first of the next.
    pub next_observations: &'a mut [f32],
    /// Takes the final observations of episodes that were truncated and not terminated.
    pub finals: &'a mut FinalObservations,
    /// Takes a record of every episode that ended; of lives, of every game.
    pub episodes: &'a mut Vec<EpisodeRecord>,
}

/// The observations with which truncated episodes ended, whose values stand in for the rest of
/// those episodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FinalObservations {
    /// The environment of each row, as an index within the shard.
    pub envs: Vec<u32>,
    /// The rows one after the other, `[envs.len(), W]`.
    pub observations: Vec<f32>,
}

/// One finished episode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpisodeRecord {
    /// The environment, as an index within the shard.
    pub env: u32,
    /// The undiscounted sum of the environment's own rewards, before wrappers changed them.
    pub return_: f64,
    /// The number of steps.
    pub length: u32,
}

impl Shard {
    /// Begins episode 0 of every environment of the batch, the first of which has the global index
    /// `first_env`.
    ///
    /// `purpose` is [`Purpose::Episode`] for training and [`Purpose::Evaluation`] for evaluation.
    ///
    /// # Errors
    /// Where an environment fails.
    pub fn new(
        environment: Box<dyn BatchedEnvironment>,
        first_env: u32,
        seed: u64,
        purpose: Purpose,
    ) -> Result<Self, EnvironmentFault> {
        Self::starting_at(environment, first_env, seed, purpose, 0)
    }

    /// As [`Shard::new`], from episode `first_episode` on.
    ///
    /// # Errors
    /// Where an environment fails.
    pub fn starting_at(
        environment: Box<dyn BatchedEnvironment>,
        first_env: u32,
        seed: u64,
        purpose: Purpose,
        first_episode: u64,
    ) -> Result<Self, EnvironmentFault> {
        let stream = Stream {
            seed,
            purpose,
            first_env,
        };
        Self::begin(environment, stream, first_episode, false)
    }

    /// As [`Shard::new`], for whoever watches: [`Shard::take_final_frame`] shows how an episode ended, though
    /// the next one has begun inside the same step.
    ///
    /// # Errors
    /// Where an environment fails.
    pub fn watched(
        environment: Box<dyn BatchedEnvironment>,
        first_env: u32,
        seed: u64,
        purpose: Purpose,
    ) -> Result<Self, EnvironmentFault> {
        let stream = Stream {
            seed,
            purpose,
            first_env,
        };
        Self::begin(environment, stream, 0, true)
    }

    fn begin(
        environment: Box<dyn BatchedEnvironment>,
        stream: Stream,
        first_episode: u64,
        is_watched: bool,
    ) -> Result<Self, EnvironmentFault> {
        let num_envs = environment.num_envs();
        let observation_width = environment.spec().observation.width();
        let mut shard = Self {
            environment,
            stream,
            progress: Progress {
                episodes: vec![first_episode; num_envs],
                elapsed: vec![0; num_envs],
                returns: vec![0.0; num_envs],
            },
            observation_width,
            recurrent_state: Vec::new(),
            is_watched,
            final_frame: None,
        };
        let mut observation = vec![0.0; observation_width];
        for index in 0..num_envs {
            let random = stream.episode(index, first_episode);
            shard.environment.reset(index, random, &mut observation)?;
            shard.prepare(index, first_episode + 1);
        }
        Ok(shard)
    }

    /// Says what episode `episode` will draw from. Of a watched shard it is said only when the last one has
    /// ended: a batch that began the next by itself would show that one and no longer how the last ended.
    fn prepare(&mut self, index: usize, episode: u64) {
        if !self.is_watched {
            let random = self.stream.episode(index, episode);
            self.environment.prepare(index, &random);
        }
    }

    /// This shard with `width` values of recurrent state for each environment, all zero as at the
    /// beginning of an episode. Without it there are none.
    #[must_use]
    pub fn with_recurrent_state(mut self, width: usize) -> Self {
        self.recurrent_state = vec![0.0; self.num_envs() * width];
        self
    }

    /// What whoever acts remembers of each episode so far, `[B, S]`: zero where an episode begins
    /// (T17), and otherwise what was last written here. It is saved with the environments, so that
    /// whoever goes on with them remembers the same.
    #[must_use]
    pub fn recurrent_state(&mut self) -> &mut [f32] {
        &mut self.recurrent_state
    }

    /// What each environment is.
    #[must_use]
    pub fn spec(&self) -> &EnvironmentSpec {
        self.environment.spec()
    }

    /// The number of environments, `B`.
    #[must_use]
    pub fn num_envs(&self) -> usize {
        self.progress.episodes.len()
    }

    /// The global index of the first environment.
    #[must_use]
    pub fn first_env(&self) -> u32 {
        self.stream.first_env
    }

    /// Writes the current observations: `observation[0]` of the next unroll.
    ///
    /// # Shapes
    /// `observations`: `[B, W]`.
    ///
    /// # Panics
    /// If the length differs.
    pub fn observe(&self, observations: &mut [f32]) {
        self.environment.observe(observations);
    }

    /// A picture of the environment at `index` of the shard, where it draws any.
    ///
    /// # Errors
    /// As [`BatchedEnvironment::render`].
    ///
    /// # Panics
    /// If there is no such environment.
    pub fn render(&mut self, index: usize) -> Result<Option<Frame>, EnvironmentFault> {
        self.environment.render(index)
    }

    /// The picture with which the last episode ended, of a [watched](Self::watched) shard whose
    /// environment draws any.
    #[must_use]
    pub fn take_final_frame(&mut self) -> Option<Frame> {
        self.final_frame.take()
    }

    /// Whether the environments are stepped on another core, as [`BatchedEnvironment::is_elsewhere`] has it.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        self.environment.is_elsewhere()
    }

    /// Has environments that are stepped elsewhere begin the step that [`step`](Self::step) takes next,
    /// which nothing may come before.
    ///
    /// # Shapes
    /// `actions`: `[B, A]`, the same as that step's.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    ///
    /// # Panics
    /// If the length differs.
    pub fn begin_step(&mut self, actions: &[f32]) -> Result<(), EnvironmentFault> {
        self.environment.begin_step(actions)
    }

    /// Takes one step of every environment and begins the next episode where one ends.
    ///
    /// # Shapes
    /// `actions`: `[B, A]`; those of `row` stand with its fields.
    ///
    /// # Errors
    /// Where an environment fails. The shard cannot be used any more then.
    ///
    /// # Panics
    /// If a length differs.
    pub fn step(&mut self, actions: &[f32], row: StepRow<'_>) -> Result<(), EnvironmentFault> {
        let StepRow {
            rewards,
            terminated,
            truncated,
            next_observations,
            finals,
            episodes,
        } = row;
        let num_envs = self.num_envs();
        assert_eq!(truncated.len(), num_envs, "one truncated flag an instance");
        self.environment.step(
            actions,
            StepOutput {
                observations: next_observations,
                rewards,
                terminated,
                truncated,
            },
        )?;
        let earned = self.environment.raw_rewards().unwrap_or(rewards);
        for (return_, reward) in self.progress.returns.iter_mut().zip(earned) {
            *return_ += f64::from(*reward);
        }
        let limit = self.max_episode_steps();
        let state_width = self.recurrent_state.len() / num_envs;
        for index in 0..num_envs {
            let elapsed = self.progress.elapsed[index] + 1;
            let is_terminated = terminated[index] != 0;
            let is_truncated = truncated[index] != 0 || elapsed >= limit;
            truncated[index] = u8::from(is_truncated);
            if !(is_terminated || is_truncated) {
                self.progress.elapsed[index] = elapsed;
                continue;
            }
            let first = index * self.observation_width;
            let observation = &mut next_observations[first..first + self.observation_width];
            if !is_terminated {
                finals.envs.push(index as u32);
                finals.observations.extend_from_slice(observation);
            }
            self.recurrent_state[index * state_width..][..state_width].fill(0.0);
            if !is_truncated && self.environment.can_go_on(index) {
                self.environment.go_on(index, observation)?;
                self.progress.elapsed[index] = elapsed;
                continue;
            }
            episodes.push(EpisodeRecord {
                env: index as u32,
                return_: self.progress.returns[index],
                length: elapsed,
            });
            let episode = self.progress.episodes[index] + 1;
            let random = self.stream.episode(index, episode);
            if self.is_watched {
                self.final_frame = self.environment.render(index)?;
                self.environment.prepare(index, &random);
            }
            self.environment.reset(index, random, observation)?;
            self.prepare(index, episode + 1);
            self.progress.episodes[index] = episode;
            self.progress.elapsed[index] = 0;
            self.progress.returns[index] = 0.0;
        }
        Ok(())
    }

    /// The number of an episode that no environment has begun, and none after it.
    #[must_use]
    pub fn next_episode(&self) -> u64 {
        self.progress
            .episodes
            .iter()
            .max()
            .map_or(0, |last| last + 1)
    }

    /// Steps after which an episode is truncated.
    fn max_episode_steps(&self) -> u32 {
        self.spec().max_episode_steps.unwrap_or(u32::MAX)
    }

    /// The state of the shard: all that its future depends on besides the actions and what
    /// [`Shard::new`] is given.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        // Room for a handful of floats an environment, so that small states never grow the vector.
        let mut state = Vec::with_capacity(64 * (1 + self.num_envs()));
        let identity = (self.stream.seed, self.stream.first_env);
        snapshot::encode(SNAPSHOT_VERSION, &(identity, &self.progress), &mut state);
        if !self.recurrent_state.is_empty() {
            snapshot::encode(SNAPSHOT_VERSION, &self.recurrent_state, &mut state);
        }
        self.environment.save(&mut state);
        state
    }

    /// Takes on a state that [`Shard::save`] gave for the same environments of the same run;
    /// continuing from it equals continuing the shard that was saved.
    ///
    /// # Errors
    /// Where `state` is anything else; the shard is then unchanged.
    pub fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let (((seed, first_env), progress), rest) =
            snapshot::decode::<((u64, u32), Progress)>(SNAPSHOT_VERSION, state)?;
        let (recurrent_state, environment) = if self.recurrent_state.is_empty() {
            (Vec::new(), rest)
        } else {
            snapshot::decode::<Vec<f32>>(SNAPSHOT_VERSION, rest)?
        };
        let num_envs = self.num_envs() as u64;
        for (field, expected, got) in [
            ("run seed", self.stream.seed, seed),
            (
                "first environment",
                u64::from(self.stream.first_env),
                u64::from(first_env),
            ),
            ("episode count", num_envs, progress.episodes.len() as u64),
            ("elapsed count", num_envs, progress.elapsed.len() as u64),
            ("return count", num_envs, progress.returns.len() as u64),
            (
                "recurrent state of size",
                self.recurrent_state.len() as u64,
                recurrent_state.len() as u64,
            ),
        ] {
            if got != expected {
                return Err(RestoreError::Mismatch {
                    field,
                    expected,
                    got,
                });
            }
        }
        let limit = self.max_episode_steps();
        let mut counters = progress.elapsed.iter().zip(&progress.returns);
        if let Some(index) =
            counters.position(|(elapsed, return_)| *elapsed >= limit || !return_.is_finite())
        {
            return Err(RestoreError::ImpossibleState { index });
        }
        if let Some(value) = recurrent_state.iter().position(|value| !value.is_finite()) {
            let index = value / (recurrent_state.len() / self.num_envs());
            return Err(RestoreError::ImpossibleState { index });
        }
        self.environment.restore(environment)?;
        for (index, episode) in progress.episodes.iter().enumerate() {
            self.prepare(index, episode + 1);
        }
        self.progress = progress;
        self.recurrent_state = recurrent_state;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
