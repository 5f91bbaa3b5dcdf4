//! What brings hosted environments back to where they were: the seed of each episode and the actions
//! since its beginning.
//!
//! A Python environment can hold anything, so its state cannot be read. But what it shows is a
//! function of its seed and its actions if it keeps to Gymnasium's rules; so an episode is taken
//! again, and what it shows in the end is compared with what was shown.

use rookery_common::snapshot;
use rookery_common::spaces::Space;
use serde::{Deserialize, Serialize};

use crate::environments::RestoreError;

/// The format of the snapshots.
const SNAPSHOT_VERSION: u8 = 1;

/// Bytes of actions up to which a batch can be saved. A message to the learner holds 64 MiB.
pub(super) const MAX_ACTION_BYTES: usize = 8 << 20;

/// One instance since its episode began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Episode {
    /// What it began from.
    pub(super) seed: u32,
    /// Its actions, one after the other.
    pub(super) actions: Vec<u8>,
    /// [`checksum`] of what it shows.
    pub(super) checksum: u64,
}

/// A batch, or how large it had become.
#[derive(Debug, Serialize, Deserialize)]
enum Saved {
    Episodes(Vec<Episode>),
    TooLong { action_bytes: u64 },
}

/// How an action is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ActionFormat {
    /// This many indices of one byte.
    Bytes(usize),
    /// This many indices of four bytes.
    Indices(usize),
    /// This many values of four bytes.
    Values(usize),
}

impl ActionFormat {
    /// The shortest for a space.
    pub(super) fn of(space: &Space) -> Self {
        match space.choices() {
            Some(choices) if choices.iter().all(|n| *n <= 256) => Self::Bytes(choices.len()),
            Some(choices) => Self::Indices(choices.len()),
            None => Self::Values(space.width()),
        }
    }

    /// Bytes of an action.
    pub(super) const fn size(self) -> usize {
        match self {
            Self::Bytes(width) => width,
            Self::Indices(width) | Self::Values(width) => 4 * width,
        }
    }

    /// Appends an action.
    pub(super) fn write(self, action: &[f32], actions: &mut Vec<u8>) {
        match self {
            Self::Bytes(_) => actions.extend(action.iter().map(|index| *index as u8)),
            Self::Indices(_) => {
                actions.extend(
                    action
                        .iter()
                        .flat_map(|index| (*index as u32).to_le_bytes()),
                );
            }
            Self::Values(_) => actions.extend(action.iter().flat_map(|value| value.to_le_bytes())),
        }
    }

    /// Reads the action at `step`.
    pub(super) fn read(self, actions: &[u8], step: usize, action: &mut [f32]) {
        let bytes = &actions[step * self.size()..][..self.size()];
        match self {
            Self::Bytes(_) => {
                for (index, byte) in action.iter_mut().zip(bytes) {
                    *index = f32::from(*byte);
                }
            }
            Self::Indices(_) => {
                for (index, bytes) in action.iter_mut().zip(bytes.as_chunks().0) {
                    *index = u32::from_le_bytes(*bytes) as f32;
                }
            }
            Self::Values(_) => {
                for (value, bytes) in action.iter_mut().zip(bytes.as_chunks().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
        }
    }
}

/// A number that tells observations apart (FNV-1a over their bits).
pub(super) fn checksum(observation: &[f32]) -> u64 {
    observation
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |sum, value| {
            (sum ^ u64::from(value.to_bits())).wrapping_mul(0x0000_0100_0000_01B3)
        })
}

/// Appends the snapshot of a batch.
pub(super) fn save(episodes: Vec<Episode>, state: &mut Vec<u8>) {
    let action_bytes: usize = episodes.iter().map(|episode| episode.actions.len()).sum();
    let saved = if action_bytes > MAX_ACTION_BYTES {
        let action_bytes = action_bytes as u64;
        Saved::TooLong { action_bytes }
    } else {
        Saved::Episodes(episodes)
    };
    snapshot::encode(SNAPSHOT_VERSION, &saved, state);
}

/// Reads the snapshot of a batch of `num_envs`.
///
/// # Errors
/// Where it is anything else.
pub(super) fn read(
    state: &[u8],
    num_envs: usize,
    format: ActionFormat,
    space: &Space,
) -> Result<Vec<Episode>, RestoreError> {
    let episodes = match snapshot::decode_all(SNAPSHOT_VERSION, state)? {
        Saved::Episodes(episodes) => episodes,
        Saved::TooLong { action_bytes } => {
            return Err(RestoreError::TooLong {
                action_bytes,
                limit_bytes: MAX_ACTION_BYTES as u64,
            });
        }
    };
    if episodes.len() != num_envs {
        return Err(RestoreError::Mismatch {
            field: "number of environments",
            expected: num_envs as u64,
            got: episodes.len() as u64,
        });
    }
    let mut action = vec![0.0; space.width()];
    let is_possible = |episode: &Episode, action: &mut [f32]| {
        i32::try_from(episode.seed).is_ok()
            && episode.actions.len().is_multiple_of(format.size())
            && (0..episode.actions.len() / format.size()).all(|step| {
                format.read(&episode.actions, step, action);
                match space {
                    Space::Discrete { .. } | Space::MultiDiscrete { .. } | Space::Frames { .. } => {
                        space.contains(action)
                    }
                    Space::Box { .. } => action.iter().all(|value| !value.is_nan()),
                }
            })
    };
    if let Some(index) = episodes
        .iter()
        .position(|episode| !is_possible(episode, &mut action))
    {
        return Err(RestoreError::ImpossibleState { index });
    }
    Ok(episodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_come_back_as_they_were() {
        for (space, size, actions) in [
            (Space::Discrete { n: 256 }, 1, vec![vec![0.0], vec![255.0]]),
            (Space::Discrete { n: 300 }, 4, vec![vec![299.0], vec![1.0]]),
            (
                Space::MultiDiscrete { nvec: vec![256, 2] },
                2,
                vec![vec![255.0, 0.0], vec![1.0, 1.0]],
            ),
            (
                Space::MultiDiscrete { nvec: vec![2, 257] },
                8,
                vec![vec![1.0, 256.0], vec![0.0, 3.0]],
            ),
            (
                Space::bounded(&[-1.0; 2], &[1.0; 2]),
                8,
                vec![vec![-0.0, 0.1], vec![1.0, -0.3]],
            ),
        ] {
            let format = ActionFormat::of(&space);
            assert_eq!(format.size(), size);
            let mut bytes = Vec::new();
            for action in &actions {
                format.write(action, &mut bytes);
            }
            for (step, action) in actions.iter().enumerate() {
                let mut read = vec![f32::NAN; action.len()];
                format.read(&bytes, step, &mut read);
                let bits =
                    |row: &[f32]| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&read), bits(action));
            }
        }
    }

    #[test]
    fn snapshots_that_make_no_sense_are_refused() {
        let space = Space::Discrete { n: 3 };
        let format = ActionFormat::of(&space);
        let episode = Episode {
            seed: 5,
            actions: vec![0, 2, 1],
            checksum: 9,
        };
        let snapshot_of = |episodes: &[Episode]| {
            let mut state = Vec::new();
            save(episodes.to_vec(), &mut state);
            state
        };
        let good = snapshot_of(&[episode.clone(), Episode::default()]);
        assert_eq!(read(&good, 2, format, &space).unwrap()[0], episode);
        assert!(matches!(
            read(&good, 1, format, &space),
            Err(RestoreError::Mismatch {
                expected: 1,
                got: 2,
                ..
            })
        ));
        for spoilt in [
            Episode {
                actions: vec![3],
                ..episode.clone()
            },
            Episode {
                seed: 1 << 31,
                ..episode.clone()
            },
        ] {
            let state = snapshot_of(&[episode.clone(), spoilt]);
            assert_eq!(
                read(&state, 2, format, &space),
                Err(RestoreError::ImpossibleState { index: 1 })
            );
        }
        for length in 0..good.len() {
            assert!(read(&good[..length], 2, format, &space).is_err());
        }
        let long = Episode {
            actions: vec![0; MAX_ACTION_BYTES + 1],
            ..episode
        };
        let state = snapshot_of(&[long]);
        assert!(state.len() < 16, "what cannot be restored is not kept");
        assert!(matches!(
            read(&state, 1, format, &space),
            Err(RestoreError::TooLong { .. })
        ));
    }
}
