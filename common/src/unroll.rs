//! The unroll: what one shard of environments lived through in `T` consecutive steps, and the
//! names by which everybody speaks of it.
//!
//! # The timeline
//! `observation[0..=T]` has `T + 1` rows; `action`, `log_prob`, `reward`, `terminated` and
//! `truncated` have `T`. `reward[t]` follows `action[t]`. When step `t` ends an episode,
//! `observation[t + 1]` is the first observation of the next episode (the reset happens inside
//! the step), and a step that was **truncated** and not terminated carries the observation in
//! which its episode ended, in the sparse `final_observation`.
//!
//! A terminated step bootstraps with zero; a truncated one with the value of its final
//! observation; the last row with the value of `observation[T]`. No bootstrapping ever crosses an
//! episode end, and no advantage ever joins two unrolls that are not consecutive unrolls of the
//! same shard.
//!
//! A recurrent policy's state is zero where an episode begins, so also behind a step that ended one
//! inside the unroll (T17). `initial_state` is the state before step 0: what the parameters of
//! earlier versions have made of the episode so far. Each later state follows from it, the
//! observations and the parameters; that of a truncated step's final observation follows from the
//! state that the step left.
//!
//! # Layout
//! Images are frames of bytes, from which stacks are rebuilt ([`FrameLayout`], [`Observations`]).
//! Columns are row-major `[T, B, ..]` little-endian arrays: time first, then the environment
//! within the shard. An index `t * B + b` names one step.

use std::fmt;
use std::marker::PhantomData;
use std::mem::size_of;

use bytemuck::Pod;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use frames::{
    FrameLayout, ObservationLog, Observations, PixelError, encode_pixels, pixel_value,
};

use crate::spaces::{Space, is_index};

mod frames;

#[cfg(target_endian = "big")]
compile_error!("columns travel as little-endian arrays and are used in place");

macro_rules! identifier {
    ($(#[$documentation:meta])* $name:ident($inner:ty)) => {
        $(#[$documentation])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

identifier! {
    /// A shard: environments with consecutive global indices that are collected together.
    ShardId(u32)
}
identifier! {
    /// The number of an unroll within its shard, from 0 without gaps.
    UnrollIndex(u64)
}
identifier! {
    /// The fencing number of one grant of a shard: a later grant has a larger one.
    LeaseEpoch(u64)
}
identifier! {
    /// One joined actor process.
    SessionId(u64)
}

/// The name of one set of published parameters.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct PolicyVersion {
    /// How often a learner has been started for this run, from 1; never steps back.
    pub learner_epoch: u64,
    /// Number of publications; 0 is the initial policy. Steps back when a checkpoint is resumed.
    pub version: u64,
}

impl fmt::Display for PolicyVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.learner_epoch, self.version)
    }
}

/// The version with which unroll `index` of every shard is collected in a synchronous run.
#[must_use]
pub fn scheduled_version(index: UnrollIndex, lag: u64) -> u64 {
    index.0.saturating_sub(lag)
}

/// What names one unroll, once and for all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnrollKey {
    /// The run it belongs to.
    pub run_id: String,
    /// The shard that was collected.
    pub shard: ShardId,
    /// The lease under which it was collected.
    pub lease_epoch: LeaseEpoch,
    /// Its number within the shard.
    pub index: UnrollIndex,
}

/// The extents of an unroll's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnrollShape {
    /// `T`, steps.
    pub unroll_length: usize,
    /// `B`, environments in the shard.
    pub envs_per_shard: usize,
    /// `W`, values in an observation row.
    pub observation_width: usize,
    /// `A`, values in an action row.
    pub action_width: usize,
    /// `S`, values of an environment's recurrent state; none where the policy remembers nothing.
    pub state_width: usize,
    /// How observations travel, where they are images.
    pub frames: Option<FrameLayout>,
}

impl UnrollShape {
    /// `T * B`.
    #[must_use]
    pub const fn num_steps(&self) -> usize {
        self.unroll_length * self.envs_per_shard
    }

    /// Bytes of the dense columns, without overflow for whatever extents a message holds.
    #[must_use]
    pub const fn num_bytes(&self) -> u128 {
        let [t, b, w, a, s] = [
            self.unroll_length as u128,
            self.envs_per_shard as u128,
            self.observation_width as u128,
            self.action_width as u128,
            self.state_width as u128,
        ];
        let observations = match self.frames {
            None => (t + 1) * b * w * 4,
            // The frames before the first one make its row whole.
            Some(FrameLayout { size, .. }) => t * b * size as u128 + b * w,
        };
        // Observations, states, actions, log-probabilities and rewards are f32; two flags are bytes.
        observations + b * s * 4 + t * b * (a * 4 + 4 + 4 + 2)
    }
}

/// A dense array of `T` in little-endian bytes, owned by whoever received or made it and shared
/// without a copy.
#[derive(Clone, PartialEq, Eq)]
pub struct Column<T> {
    data: Bytes,
    element: PhantomData<T>,
}

/// Lets a vector's memory serve as [`Bytes`].
struct Elements<T>(Vec<T>);

impl<T: Pod> AsRef<[u8]> for Elements<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl<T: Pod + Send> From<Vec<T>> for Column<T> {
    fn from(values: Vec<T>) -> Self {
        Self {
            data: Bytes::from_owner(Elements(values)),
            element: PhantomData,
        }
    }
}

impl<T: Pod> Column<T> {
    /// Reads `data` as a column; `None` where its length is no multiple of the element's size.
    #[must_use]
    pub fn from_bytes(data: Bytes) -> Option<Self> {
        data.len().is_multiple_of(size_of::<T>()).then_some(Self {
            data,
            element: PhantomData,
        })
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len() / size_of::<T>()
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The memory, shared.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.data.clone()
    }

    /// Copies all elements to `destination`. Received bytes may lie at any address, so this is
    /// the way to typed memory.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn copy_to(&self, destination: &mut [T]) {
        bytemuck::cast_slice_mut(destination).copy_from_slice(&self.data);
    }

    /// All elements.
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        let mut values = vec![T::zeroed(); self.len()];
        self.copy_to(&mut values);
        values
    }

    /// The elements in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + '_ {
        self.data
            .chunks_exact(size_of::<T>())
            .map(bytemuck::pod_read_unaligned)
    }
}

impl Column<f32> {
    /// The position of the first element that is infinite or not a number.
    fn first_non_finite(&self) -> Option<usize> {
        const EXPONENT: u32 = 0x7f80_0000;
        let is_bad = |x: f32| x.to_bits() & EXPONENT == EXPONENT;
        // The common case in one pass without a branch in it.
        if !self.iter().fold(false, |any, x| any | is_bad(x)) {
            return None;
        }
        self.iter().position(is_bad)
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Column<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

/// One unroll. See the [module's documentation](self) for the timeline and the layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Unroll {
    /// Its name.
    pub key: UnrollKey,
    /// The parameters that chose its actions.
    pub version: PolicyVersion,
    /// `[T + 1, B, W]`, raw; of images `[stack - 1 + T + 1, B, size]`.
    pub observation: Observations,
    /// `[B, S]`: the recurrent state before step 0.
    pub initial_state: Column<f32>,
    /// `[T, B, A]`, as given to the environment, which may clip it to its bounds.
    pub action: Column<f32>,
    /// `[T, B]`, of that action as it was chosen: under the version's policy, or as the run
    /// [explores](crate::policy::exploration).
    pub log_prob: Column<f32>,
    /// `[T, B]`, raw.
    pub reward: Column<f32>,
    /// `[T, B]`, 0 or 1.
    pub terminated: Column<u8>,
    /// `[T, B]`, 0 or 1.
    pub truncated: Column<u8>,
    /// `[F]`: `t * B + b` of each truncated, not terminated step, ascending.
    pub final_index: Column<u32>,
    /// `[F, W]`: the observation in which that step's episode ended, raw; of images its last frame,
    /// `[F, size]`.
    pub final_observation: Observations,
    /// `[E]`: `t * B + b` of the last step of each episode that ended, ascending; where episodes are lives,
    /// of each game.
    pub episode_index: Column<u32>,
    /// `[E]`: its sum of raw rewards since it began.
    pub episode_return: Column<f64>,
    /// `[E]`: its steps since it began.
    pub episode_length: Column<u32>,
    /// The shard's environments after the last step, opaque.
    pub state_after: Bytes,
    /// Why the shard did not continue where its previous unroll had ended: a line, and perhaps more of
    /// them; none where it did. At most [`MAX_DISCONTINUITY_BYTES`].
    pub discontinuity: Option<String>,
}

/// Longest reason for which a shard does not continue.
pub const MAX_DISCONTINUITY_BYTES: usize = 4_096;

/// Makes a reason short enough: what a traceback says first and last is what matters.
#[must_use]
pub fn bounded_discontinuity(reason: String) -> String {
    const GAP: &str = "\n[..]\n";
    if reason.len() <= MAX_DISCONTINUITY_BYTES {
        return reason;
    }
    let half = (MAX_DISCONTINUITY_BYTES - GAP.len()) / 2;
    let head = reason.floor_char_boundary(half);
    let tail = reason.ceil_char_boundary(reason.len() - half);
    format!("{}{GAP}{}", &reason[..head], &reason[tail..])
}

/// Why an unroll cannot be trained on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnrollError {
    /// A field has another extent, type or range than the run's.
    #[error("field `{field}`: expected {expected}, got {got}")]
    Malformed {
        /// The field of the message.
        field: &'static str,
        /// What the run asks for.
        expected: String,
        /// What came.
        got: String,
    },
    /// A value is infinite or not a number.
    #[error(
        "field `{field}`: element {position} is {value}; expected finite values \
         (an environment or a policy that diverged)"
    )]
    NonFinite {
        /// The field of the message.
        field: &'static str,
        /// The flat position in the column.
        position: usize,
        /// The value as text.
        value: String,
    },
}

impl Unroll {
    /// Bytes of its columns and its state.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        self.observation.bytes().len()
            + self.initial_state.data.len()
            + self.action.data.len()
            + self.log_prob.data.len()
            + self.reward.data.len()
            + self.terminated.data.len()
            + self.truncated.data.len()
            + self.final_index.data.len()
            + self.final_observation.bytes().len()
            + self.episode_index.data.len()
            + self.episode_return.data.len()
            + self.episode_length.data.len()
            + self.state_after.len()
    }

    /// Checks every extent and every value, so that nothing after it needs to.
    ///
    /// # Errors
    /// Names the first field that is not as the run's `shape` and `action_space` ask.
    pub fn validate(&self, shape: &UnrollShape, action_space: &Space) -> Result<(), UnrollError> {
        let steps = shape.num_steps();
        let finals = self.final_index.len();
        let episodes = self.episode_index.len();
        for (field, expected, got) in [
            (
                "observation",
                shape.observation_len(),
                self.observation.len(),
            ),
            (
                "initial_state",
                shape.envs_per_shard * shape.state_width,
                self.initial_state.len(),
            ),
            ("action", steps * shape.action_width, self.action.len()),
            ("log_prob", steps, self.log_prob.len()),
            ("reward", steps, self.reward.len()),
            ("terminated", steps, self.terminated.len()),
            ("truncated", steps, self.truncated.len()),
            (
                "final_observation",
                finals * shape.final_len(),
                self.final_observation.len(),
            ),
            ("episode_return", episodes, self.episode_return.len()),
            ("episode_length", episodes, self.episode_length.len()),
        ] {
            if expected != got {
                return Err(UnrollError::Malformed {
                    field,
                    expected: format!("{expected} elements"),
                    got: format!("{got}"),
                });
            }
        }
        for (field, observations) in [
            ("observation", &self.observation),
            ("final_observation", &self.final_observation),
        ] {
            let are_frames = observations.pixels().is_some();
            if are_frames != shape.frames.is_some() {
                let name = |are_frames| if are_frames { "frames" } else { "rows" };
                return Err(UnrollError::Malformed {
                    field,
                    expected: name(!are_frames).to_owned(),
                    got: name(are_frames).to_owned(),
                });
            }
        }
        for (field, column) in [
            ("observation", self.observation.rows()),
            ("initial_state", Some(&self.initial_state)),
            ("action", Some(&self.action)),
            ("log_prob", Some(&self.log_prob)),
            ("reward", Some(&self.reward)),
            ("final_observation", self.final_observation.rows()),
        ] {
            let Some(column) = column else { continue };
            if let Some(position) = column.first_non_finite() {
                let value = column.iter().nth(position).unwrap_or(f32::NAN).to_string();
                return Err(UnrollError::NonFinite {
                    field,
                    position,
                    value,
                });
            }
        }
        if let Some(position) = self
            .episode_return
            .iter()
            .position(|value| !value.is_finite())
        {
            return Err(UnrollError::NonFinite {
                field: "episode_return",
                position,
                value: self
                    .episode_return
                    .iter()
                    .nth(position)
                    .unwrap_or(f64::NAN)
                    .to_string(),
            });
        }
        if let Some(choices) = action_space.choices() {
            let mut actions = self.action.iter().zip(choices.iter().cycle());
            if let Some((action, n)) = actions.find(|(action, n)| !is_index(*action, **n)) {
                return Err(UnrollError::Malformed {
                    field: "action",
                    expected: format!("whole numbers in 0..{n}"),
                    got: action.to_string(),
                });
            }
        }
        self.validate_episode_ends()
    }

    /// Checks the flags and that the sparse fields name exactly the steps that they must.
    fn validate_episode_ends(&self) -> Result<(), UnrollError> {
        for (field, flags) in [
            ("terminated", &self.terminated),
            ("truncated", &self.truncated),
        ] {
            if let Some(flag) = flags.iter().find(|flag| *flag > 1) {
                return Err(UnrollError::Malformed {
                    field,
                    expected: "0 or 1".to_owned(),
                    got: flag.to_string(),
                });
            }
        }
        let (terminated, truncated) = (&self.terminated.data, &self.truncated.data);
        let mut named = self.final_index.iter();
        for (step, (&terminated, &truncated)) in terminated.iter().zip(truncated).enumerate() {
            if truncated == 1 && terminated == 0 {
                let got = named.next();
                if got != Some(step as u32) {
                    return Err(UnrollError::Malformed {
                        field: "final_index",
                        expected: format!("step {step}, which was truncated"),
                        got: got.map_or_else(|| "nothing".to_owned(), |got| got.to_string()),
                    });
                }
            }
        }
        if let Some(extra) = named.next() {
            return Err(UnrollError::Malformed {
                field: "final_index",
                expected: "only steps that were truncated and not terminated".to_owned(),
                got: extra.to_string(),
            });
        }
        let mut previous = None;
        for index in self.episode_index.iter() {
            let step = index as usize;
            let ended = step < terminated.len() && terminated[step] | truncated[step] == 1;
            if !ended || previous.is_some_and(|previous| previous >= index) {
                return Err(UnrollError::Malformed {
                    field: "episode_index",
                    expected: "ascending steps that ended an episode".to_owned(),
                    got: index.to_string(),
                });
            }
            previous = Some(index);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
