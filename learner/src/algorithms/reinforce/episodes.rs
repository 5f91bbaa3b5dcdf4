//! Episodes put together from the rounds over which they stretch.
//!
//! An unroll cuts episodes anywhere. Steps are kept until their episode ends, and then all of them
//! are learnt from at once. To learn only from episodes that begin and end in one round would favour
//! short ones.

use crate::algorithms::round::Round;
use crate::algorithms::{AlgorithmError, AlgorithmState};

/// The steps of one episode, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Episode {
    /// Normalised observations that were acted on, `[L, observation_width]`.
    pub observations: Vec<f32>,
    /// `[L, action_width]`.
    pub actions: Vec<f32>,
    /// Logarithm of the probability (density) with which each action was drawn, `[L]`.
    pub log_probs: Vec<f32>,
    /// `[L]`.
    pub rewards: Vec<f32>,
    /// Where the episode was cut off: the observation in which it was.
    pub final_observation: Option<Vec<f32>>,
}

impl Episode {
    /// Number of steps `L`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rewards.len()
    }

    /// Whether there is no step.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rewards.is_empty()
    }
}

/// The steps of every environment since its last episode ended.
#[derive(Debug)]
pub struct UnfinishedEpisodes {
    observation_width: usize,
    action_width: usize,
    /// By global index of the environment.
    unfinished: Vec<Episode>,
}

const OBSERVATIONS: &str = "unfinished.observations";
const ACTIONS: &str = "unfinished.actions";
const LOG_PROBS: &str = "unfinished.log_probs";
const REWARDS: &str = "unfinished.rewards";
const LENGTHS: &str = "unfinished.lengths";

impl UnfinishedEpisodes {
    /// Nothing yet, of rows of these widths.
    #[must_use]
    pub fn new(num_envs: usize, observation_width: usize, action_width: usize) -> Self {
        Self {
            observation_width,
            action_width,
            unfinished: vec![Episode::default(); num_envs],
        }
    }

    /// Steps that wait for the end of their episode.
    #[must_use]
    pub fn num_steps(&self) -> usize {
        self.unfinished.iter().map(Episode::len).sum()
    }

    /// Adds a round's steps and hands out the episodes that end in it, by shard, then time, then
    /// environment. What an environment has done is dropped where a shard does not continue it. The
    /// round's columns belong together.
    pub fn extend(&mut self, round: &Round) -> Vec<Episode> {
        let (width, action_width) = (self.observation_width, self.action_width);
        let row = |index: usize| &round.observations[index * width..][..width];
        let mut next_final = round.num_timeline_rows();
        let mut complete = Vec::new();
        let (mut first_step, mut first_row) = (0, 0);
        for shard in &round.shards {
            if shard.discontinuous {
                self.unfinished[shard.first_env..][..shard.num_envs].fill(Episode::default());
            }
            for step in 0..shard.num_steps() {
                let env = shard.first_env + step % shard.num_envs;
                let at = first_step + step;
                let episode = &mut self.unfinished[env];
                episode.observations.extend(row(first_row + step));
                let action = &round.actions[at * action_width..][..action_width];
                episode.actions.extend(action);
                episode.log_probs.push(round.log_probs[at]);
                episode.rewards.push(shard.rewards[step]);
                if shard.truncated[step] {
                    // A step that did both counts as terminated.
                    episode.final_observation =
                        (!shard.terminated[step]).then(|| row(next_final).to_vec());
                    next_final += 1;
                }
                if shard.terminated[step] || shard.truncated[step] {
                    complete.push(std::mem::take(episode));
                }
            }
            first_step += shard.num_steps();
            first_row += shard.num_steps() + shard.num_envs;
        }
        complete
    }

    /// Adds the kept steps to `state`.
    #[must_use]
    pub fn save(&self, mut state: AlgorithmState) -> AlgorithmState {
        let all = |column: fn(&Episode) -> &[f32]| -> Vec<f32> {
            self.unfinished.iter().flat_map(column).copied().collect()
        };
        // Lengths are exact in f32: an episode of 2^24 kept steps would be gigabytes.
        let lengths = self.unfinished.iter().map(|episode| episode.len() as f32);
        for (name, array) in [
            (OBSERVATIONS, all(|episode| &episode.observations)),
            (ACTIONS, all(|episode| &episode.actions)),
            (LOG_PROBS, all(|episode| &episode.log_probs)),
            (REWARDS, all(|episode| &episode.rewards)),
            (LENGTHS, lengths.collect()),
        ] {
            state.arrays.insert(name.to_owned(), array);
        }
        state
    }

    /// The steps that [`save`](Self::save) has kept.
    ///
    /// # Errors
    /// Where an array is absent or is not as long as the others ask for.
    pub fn restored(&self, state: &AlgorithmState) -> Result<Self, AlgorithmError> {
        let lengths = state.array(LENGTHS)?;
        let fits = |array: &str, expected: usize, got: usize| {
            if expected == got {
                return Ok(());
            }
            Err(AlgorithmError::Length {
                array: array.to_owned(),
                expected,
                got,
            })
        };
        fits(LENGTHS, self.unfinished.len(), lengths.len())?;
        let lengths: Vec<usize> = lengths.iter().map(|length| *length as usize).collect();
        let total: usize = lengths.iter().sum();
        let column = |name: &str, width: usize| {
            let array = state.array(name)?;
            fits(name, total * width, array.len())?;
            let mut rest = array;
            let mut cut = Vec::with_capacity(lengths.len());
            for length in &lengths {
                let (part, after) = rest.split_at(length * width);
                cut.push(part.to_vec());
                rest = after;
            }
            Ok::<_, AlgorithmError>(cut)
        };
        let unfinished = column(OBSERVATIONS, self.observation_width)?
            .into_iter()
            .zip(column(ACTIONS, self.action_width)?)
            .zip(column(LOG_PROBS, 1)?)
            .zip(column(REWARDS, 1)?)
            .map(|(((observations, actions), log_probs), rewards)| Episode {
                observations,
                actions,
                log_probs,
                rewards,
                final_observation: None,
            })
            .collect();
        Ok(Self {
            unfinished,
            ..*self
        })
    }
}
