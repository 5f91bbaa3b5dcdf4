//! What a checkpoint holds of the learner, and its two encodings: dense arrays as safetensors,
//! everything else as a snapshot.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use rookery_common::normaliser::{ObservationNormaliser, RewardScaler, RunningMoments};
use rookery_common::policy::PolicySpec;
use rookery_common::snapshot::{self, SnapshotError};
use rookery_common::spaces::EnvironmentSpec;
use rookery_common::unroll::UnrollIndex;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::algorithms::AlgorithmState;
use crate::algorithms::replayed::ReplayContents;
use crate::episodes::EpisodeWindow;
use crate::leases::ShardPosition;
use crate::progress::SolvedAt;

/// Version of the snapshot's format.
const FORMAT: u8 = 4;
/// A header beyond this is no file of ours: it would cost memory before anything is checked.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// A published version that actors may still need: `lag + 1` of them make the next round.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptPublication {
    /// Its number.
    pub version: u64,
    /// Environment steps consumed before it.
    pub env_steps: u64,
    /// The policy's parameters.
    pub parameters: Vec<f32>,
    /// How observations are normalised for it.
    pub normaliser: Option<ObservationNormaliser>,
    /// Its acting scalars.
    pub acting: BTreeMap<String, f64>,
}

/// Everything that the next round depends on, and what people want to see go on.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnerState {
    /// The run.
    pub run_id: String,
    /// What the actors run.
    pub environment: EnvironmentSpec,
    /// What they act with.
    pub policy: PolicySpec,
    /// Rounds consumed: the next round's number and the newest version.
    pub round: u64,
    /// Environment steps consumed.
    pub env_steps: u64,
    /// Seconds of training so far, over all processes.
    pub wall_seconds: f64,
    /// When the threshold was first reached.
    pub solved_at: Option<SolvedAt>,
    /// Statistics of training episodes.
    pub episodes: EpisodeWindow,
    /// Consumed unrolls whose environments had been reset before them.
    pub discontinuities: u64,
    /// The best mean training return so far.
    pub best_mean_return: Option<f64>,
    /// Every shard after the consumed rounds.
    pub positions: Vec<ShardPosition>,
    /// Statistics of observations, where they are normalised.
    pub observation_moments: Option<RunningMoments>,
    /// Statistics of returns, where rewards are scaled.
    pub reward_scaler: Option<RewardScaler>,
    /// Parameters, optimisers, replay.
    pub algorithm: AlgorithmState,
    /// Kept versions, oldest first.
    pub publications: Vec<KeptPublication>,
}

/// Why a state cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The arrays are no safetensors file.
    #[error("{file} is malformed: {source}", file = LearnerState::TENSORS)]
    Tensors {
        /// What is wrong.
        source: SafeTensorError,
    },
    /// An array is absent or of another type.
    #[error("{file} lacks the f32 array `{name}`", file = LearnerState::TENSORS)]
    MissingTensor {
        /// The array.
        name: String,
    },
    /// The header is larger than any that is ours.
    #[error(
        "{file} has a header of {got} bytes, expected at most {MAX_HEADER_BYTES}",
        file = LearnerState::TENSORS
    )]
    Header {
        /// Its size.
        got: u64,
    },
    /// The replay store cannot be encoded.
    #[error("{file} cannot be encoded: {source}", file = LearnerState::REPLAY)]
    Replay {
        /// What is wrong.
        source: std::io::Error,
    },
    /// The rest is no snapshot.
    #[error("{file} is malformed: {source}", file = LearnerState::STATE)]
    Snapshot {
        /// What is wrong.
        source: SnapshotError,
    },
}

/// What goes into the snapshot.
#[derive(Serialize, Deserialize)]
struct Rest {
    run_id: String,
    environment: EnvironmentSpec,
    policy: PolicySpec,
    round: u64,
    env_steps: u64,
    wall_seconds: f64,
    solved_at: Option<SolvedAt>,
    episodes: EpisodeWindow,
    discontinuities: u64,
    best_mean_return: Option<f64>,
    positions: Vec<(u64, Vec<u8>)>,
    observation_moments: Option<RunningMoments>,
    reward_scaler: Option<RewardScaler>,
    /// Names of the algorithm's arrays, and its counters.
    arrays: Vec<String>,
    counters: BTreeMap<String, u64>,
    publications: Vec<KeptRest>,
}

/// A kept version without its parameters.
#[derive(Serialize, Deserialize)]
struct KeptRest {
    version: u64,
    env_steps: u64,
    normaliser: Option<ObservationNormaliser>,
    acting: BTreeMap<String, f64>,
}

impl LearnerState {
    /// File of the dense arrays.
    pub const TENSORS: &'static str = "learner.safetensors";
    /// File of everything else.
    pub const STATE: &'static str = "state.bin";
    /// File of the replay store, where its contents are kept.
    pub const REPLAY: &'static str = "replay.bin";

    /// The contents of the replay store as a file, where they are kept.
    ///
    /// # Errors
    /// Where they cannot be encoded.
    pub fn replay(&self) -> Result<Option<Vec<u8>>, StateError> {
        let contents = self.algorithm.replay.as_ref();
        contents
            .map(ReplayContents::to_bytes)
            .transpose()
            .map_err(|source| StateError::Replay { source })
    }

    /// The dense arrays as a safetensors file.
    ///
    /// # Errors
    /// Where an array cannot be described.
    pub fn tensors(&self) -> Result<Vec<u8>, StateError> {
        let learnt = self.algorithm.arrays.iter();
        let published = self.publications.iter();
        let arrays: Vec<(String, &Vec<f32>)> = learnt
            .map(|(name, values)| (name.clone(), values))
            .chain(published.map(|kept| (published_name(kept.version), &kept.parameters)))
            .collect();
        let views = arrays
            .iter()
            .map(|(name, values)| {
                let bytes = bytemuck::cast_slice(values);
                TensorView::new(Dtype::F32, vec![values.len()], bytes).map(|view| (name, view))
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| StateError::Tensors { source })?;
        safetensors::serialize(views, None::<HashMap<String, String>>)
            .map_err(|source| StateError::Tensors { source })
    }

    /// Everything else as a snapshot.
    ///
    /// # Errors
    /// None today; the caller writes files and handles errors anyway.
    pub fn encode(&self) -> Result<Vec<u8>, StateError> {
        let rest = Rest {
            run_id: self.run_id.clone(),
            environment: self.environment.clone(),
            policy: self.policy.clone(),
            round: self.round,
            env_steps: self.env_steps,
            wall_seconds: self.wall_seconds,
            solved_at: self.solved_at,
            episodes: self.episodes.clone(),
            discontinuities: self.discontinuities,
            best_mean_return: self.best_mean_return,
            positions: self
                .positions
                .iter()
                .map(|position| (position.next_index.0, position.state.to_vec()))
                .collect(),
            observation_moments: self.observation_moments.clone(),
            reward_scaler: self.reward_scaler.clone(),
            arrays: self.algorithm.arrays.keys().cloned().collect(),
            counters: self.algorithm.counters.clone(),
            publications: self
                .publications
                .iter()
                .map(|kept| KeptRest {
                    version: kept.version,
                    env_steps: kept.env_steps,
                    normaliser: kept.normaliser.clone(),
                    acting: kept.acting.clone(),
                })
                .collect(),
        };
        let mut bytes = Vec::new();
        snapshot::encode(FORMAT, &rest, &mut bytes);
        Ok(bytes)
    }

    /// Reads the files, of which that of the replay store may be absent.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn decode(
        state: &[u8],
        tensors: &[u8],
        replay: Option<Vec<u8>>,
    ) -> Result<Self, StateError> {
        let rest: Rest = snapshot::decode_all(FORMAT, state)
            .map_err(|source| StateError::Snapshot { source })?;
        let header = tensors
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if header > MAX_HEADER_BYTES {
            return Err(StateError::Header { got: header });
        }
        let tensors =
            SafeTensors::deserialize(tensors).map_err(|source| StateError::Tensors { source })?;
        let array = |name: &str| read_f32(&tensors, name);
        let publications = rest
            .publications
            .into_iter()
            .map(|kept| {
                Ok(KeptPublication {
                    version: kept.version,
                    env_steps: kept.env_steps,
                    parameters: array(&published_name(kept.version))?,
                    normaliser: kept.normaliser,
                    acting: kept.acting,
                })
            })
            .collect::<Result<_, StateError>>()?;
        Ok(Self {
            run_id: rest.run_id,
            environment: rest.environment,
            policy: rest.policy,
            round: rest.round,
            env_steps: rest.env_steps,
            wall_seconds: rest.wall_seconds,
            solved_at: rest.solved_at,
            episodes: rest.episodes,
            discontinuities: rest.discontinuities,
            best_mean_return: rest.best_mean_return,
            positions: rest
                .positions
                .into_iter()
                .map(|(index, state)| ShardPosition {
                    next_index: UnrollIndex(index),
                    state: Bytes::from(state),
                })
                .collect(),
            observation_moments: rest.observation_moments,
            reward_scaler: rest.reward_scaler,
            algorithm: AlgorithmState {
                arrays: rest
                    .arrays
                    .into_iter()
                    .map(|name| array(&name).map(|values| (name, values)))
                    .collect::<Result<_, StateError>>()?,
                counters: rest.counters,
                replay: replay.map(ReplayContents::Bytes),
            },
            publications,
        })
    }
}

fn published_name(version: u64) -> String {
    format!("published.{version}")
}

fn read_f32(tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<f32>, StateError> {
    let view = tensors
        .tensor(name)
        .ok()
        .filter(|view| view.dtype() == Dtype::F32)
        .ok_or_else(|| StateError::MissingTensor {
            name: name.to_owned(),
        })?;
    let mut values = vec![0.0; view.data().len() / size_of::<f32>()];
    bytemuck::cast_slice_mut(&mut values).copy_from_slice(view.data());
    Ok(values)
}
