//! Messages become domain types here, and domain types messages; nowhere else.
//!
//! Decoding checks structure (what is there, of which element type, of which shape); the values
//! are checked by [`Unroll::validate`].

use std::mem::size_of;

use bytemuck::Pod;
use rookery_proto::v1;

use crate::unroll::{
    Column, LeaseEpoch, MAX_DISCONTINUITY_BYTES, Observations, PolicyVersion, ShardId, Unroll,
    UnrollError, UnrollIndex, UnrollKey, UnrollShape,
};

mod environment;
mod policy;
mod publication;

pub use publication::{Publication, PublicationAssembler, publication_chunks};

/// A message lacks something or holds something that it must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}`: expected {expected}, got {got}")]
pub struct WireError {
    /// The field of the message.
    pub field: &'static str,
    /// What a sound message holds there.
    pub expected: String,
    /// What came.
    pub got: String,
}

impl WireError {
    /// States what a field should have held.
    pub fn new(field: &'static str, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self {
            field,
            expected: expected.into(),
            got: got.into(),
        }
    }

    /// A field that must be there is not.
    #[must_use]
    pub fn missing(field: &'static str) -> Self {
        Self::new(field, "a value", "nothing")
    }
}

impl From<WireError> for UnrollError {
    fn from(error: WireError) -> Self {
        Self::Malformed {
            field: error.field,
            expected: error.expected,
            got: error.got,
        }
    }
}

/// A type that columns on the wire can hold.
trait Element: Pod + Send {
    const TYPE: v1::ElementType;
}

impl Element for f32 {
    const TYPE: v1::ElementType = v1::ElementType::F32;
}
impl Element for f64 {
    const TYPE: v1::ElementType = v1::ElementType::F64;
}
impl Element for u8 {
    const TYPE: v1::ElementType = v1::ElementType::U8;
}
impl Element for u32 {
    const TYPE: v1::ElementType = v1::ElementType::U32;
}

fn encode_column<T: Element>(column: &Column<T>, shape: &[usize]) -> v1::Column {
    v1::Column {
        element_type: T::TYPE.into(),
        shape: shape.iter().map(|extent| *extent as u32).collect(),
        data: column.bytes(),
    }
}

fn encode_observations(observations: &Observations, shape: &[usize]) -> v1::Column {
    match observations {
        Observations::Rows(column) => encode_column(column, shape),
        Observations::Frames(column) => encode_column(column, shape),
    }
}

/// Decodes rows or, in an unroll of images, frames.
fn decode_observations(
    field: &'static str,
    column: Option<v1::Column>,
    extents: &[Option<usize>],
    shape: &UnrollShape,
) -> Result<Observations, WireError> {
    Ok(match shape.frames {
        None => Observations::Rows(decode_column(field, column, extents)?),
        Some(_) => Observations::Frames(decode_column(field, column, extents)?),
    })
}

/// Decodes a column whose shape must be `shape`, where `None` stands for any extent.
fn decode_column<T: Element>(
    field: &'static str,
    column: Option<v1::Column>,
    shape: &[Option<usize>],
) -> Result<Column<T>, WireError> {
    let column = column.ok_or_else(|| WireError::missing(field))?;
    if column.element_type != i32::from(T::TYPE) {
        let got = v1::ElementType::try_from(column.element_type).map_or_else(
            |_| column.element_type.to_string(),
            |got| got.as_str_name().to_owned(),
        );
        return Err(WireError::new(field, T::TYPE.as_str_name(), got));
    }
    let agrees = column.shape.len() == shape.len()
        && column
            .shape
            .iter()
            .zip(shape)
            .all(|(got, expected)| expected.is_none_or(|expected| *got as usize == expected));
    if !agrees {
        let expected: Vec<String> = shape
            .iter()
            .map(|extent| extent.map_or_else(|| "any".to_owned(), |extent| extent.to_string()))
            .collect();
        return Err(WireError::new(
            field,
            format!("shape [{}]", expected.join(", ")),
            format!("shape {:?}", column.shape),
        ));
    }
    let bytes = column
        .shape
        .iter()
        .try_fold(size_of::<T>(), |bytes, extent| {
            bytes.checked_mul(*extent as usize)
        });
    if bytes != Some(column.data.len()) {
        return Err(WireError::new(
            field,
            format!(
                "{} bytes for shape {:?}",
                bytes.unwrap_or(usize::MAX),
                column.shape
            ),
            format!("{} bytes", column.data.len()),
        ));
    }
    Column::from_bytes(column.data)
        .ok_or_else(|| WireError::new(field, "whole elements", "a part of one"))
}

impl From<PolicyVersion> for v1::PolicyVersion {
    fn from(version: PolicyVersion) -> Self {
        Self {
            learner_epoch: version.learner_epoch,
            version: version.version,
        }
    }
}

impl From<v1::PolicyVersion> for PolicyVersion {
    fn from(version: v1::PolicyVersion) -> Self {
        Self {
            learner_epoch: version.learner_epoch,
            version: version.version,
        }
    }
}

/// Makes the message of an unroll; the columns' memory is shared, not copied.
#[must_use]
pub fn encode_unroll(unroll: &Unroll, shape: &UnrollShape) -> v1::Unroll {
    let (t, b, w) = (shape.unroll_length, shape.envs_per_shard, shape.final_len());
    let context = shape.frames.map_or(0, |frames| frames.stack - 1);
    let finals = unroll.final_index.len();
    let episodes = unroll.episode_index.len();
    v1::Unroll {
        key: Some(v1::UnrollKey {
            run_id: unroll.key.run_id.clone(),
            shard: unroll.key.shard.0,
            lease_epoch: unroll.key.lease_epoch.0,
            index: unroll.key.index.0,
        }),
        version: Some(unroll.version.into()),
        observation: Some(encode_observations(
            &unroll.observation,
            &[context + t + 1, b, w],
        )),
        initial_state: (shape.state_width > 0)
            .then(|| encode_column(&unroll.initial_state, &[b, shape.state_width])),
        action: Some(encode_column(&unroll.action, &[t, b, shape.action_width])),
        log_prob: Some(encode_column(&unroll.log_prob, &[t, b])),
        reward: Some(encode_column(&unroll.reward, &[t, b])),
        terminated: Some(encode_column(&unroll.terminated, &[t, b])),
        truncated: Some(encode_column(&unroll.truncated, &[t, b])),
        final_index: Some(encode_column(&unroll.final_index, &[finals])),
        final_observation: Some(encode_observations(&unroll.final_observation, &[finals, w])),
        episode_index: Some(encode_column(&unroll.episode_index, &[episodes])),
        episode_return: Some(encode_column(&unroll.episode_return, &[episodes])),
        episode_length: Some(encode_column(&unroll.episode_length, &[episodes])),
        state_after: unroll.state_after.clone(),
        discontinuity: unroll.discontinuity.clone(),
    }
}

/// Reads the name of an unroll, with which even a refusal of the rest can be addressed.
///
/// # Errors
/// Where the key is missing.
pub fn decode_key(message: &v1::Unroll) -> Result<UnrollKey, WireError> {
    let key = message
        .key
        .as_ref()
        .ok_or_else(|| WireError::missing("key"))?;
    Ok(UnrollKey {
        run_id: key.run_id.clone(),
        shard: ShardId(key.shard),
        lease_epoch: LeaseEpoch(key.lease_epoch),
        index: UnrollIndex(key.index),
    })
}

/// Reads an unroll whose columns must have the run's `shape`.
///
/// # Errors
/// Names the first field that is missing or has another element type, shape or size.
pub fn decode_unroll(message: v1::Unroll, shape: &UnrollShape) -> Result<Unroll, WireError> {
    let (t, b) = (Some(shape.unroll_length), Some(shape.envs_per_shard));
    let context = shape.frames.map_or(0, |frames| frames.stack - 1);
    let rows = Some(context + shape.unroll_length + 1);
    let (w, a) = (Some(shape.final_len()), Some(shape.action_width));
    let key = decode_key(&message)?;
    let version = message
        .version
        .ok_or_else(|| WireError::missing("version"))?
        .into();
    Ok(Unroll {
        key,
        version,
        observation: decode_observations("observation", message.observation, &[rows, b, w], shape)?,
        initial_state: decode_state(message.initial_state, shape)?,
        action: decode_column("action", message.action, &[t, b, a])?,
        log_prob: decode_column("log_prob", message.log_prob, &[t, b])?,
        reward: decode_column("reward", message.reward, &[t, b])?,
        terminated: decode_column("terminated", message.terminated, &[t, b])?,
        truncated: decode_column("truncated", message.truncated, &[t, b])?,
        final_index: decode_column("final_index", message.final_index, &[None])?,
        final_observation: decode_observations(
            "final_observation",
            message.final_observation,
            &[None, w],
            shape,
        )?,
        episode_index: decode_column("episode_index", message.episode_index, &[None])?,
        episode_return: decode_column("episode_return", message.episode_return, &[None])?,
        episode_length: decode_column("episode_length", message.episode_length, &[None])?,
        state_after: message.state_after,
        discontinuity: decode_discontinuity(message.discontinuity)?,
    })
}

/// Reads why a shard did not continue, and keeps it from being long.
fn decode_discontinuity(reason: Option<String>) -> Result<Option<String>, WireError> {
    match reason {
        Some(reason) if reason.len() > MAX_DISCONTINUITY_BYTES => Err(WireError::new(
            "discontinuity",
            format!("at most {MAX_DISCONTINUITY_BYTES} bytes"),
            reason.len().to_string(),
        )),
        reason => Ok(reason),
    }
}

/// Reads the recurrent state, which is there where the run's policy remembers something.
fn decode_state(column: Option<v1::Column>, shape: &UnrollShape) -> Result<Column<f32>, WireError> {
    const FIELD: &str = "initial_state";
    match (shape.state_width, column) {
        (0, None) => Ok(Vec::new().into()),
        (0, Some(column)) => Err(WireError::new(
            FIELD,
            "nothing, because the policy is not recurrent",
            format!("shape {:?}", column.shape),
        )),
        (width, column) => decode_column(FIELD, column, &[Some(shape.envs_per_shard), Some(width)]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::unroll::FrameLayout;
    use crate::unroll::tests::{ACTIONS, SHAPE, unroll};
    use crate::wrappers::StackPadding;

    #[test]
    fn an_unroll_survives_the_wire() {
        let bytes = encode_unroll(&unroll(), &SHAPE).encode_to_vec();
        let message = v1::Unroll::decode(bytes::Bytes::from(bytes)).unwrap();
        assert_eq!(decode_unroll(message, &SHAPE).unwrap(), unroll());
    }

    #[test]
    fn an_unroll_of_images_travels_as_single_frames() {
        let shape = UnrollShape {
            observation_width: 6,
            frames: Some(FrameLayout {
                size: 2,
                stack: 3,
                padding: StackPadding::Reset,
            }),
            ..SHAPE
        };
        let unroll = Unroll {
            observation: (0..24).collect::<Vec<u8>>().into(),
            final_observation: vec![90_u8, 91].into(),
            ..unroll()
        };
        assert_eq!(unroll.validate(&shape, &ACTIONS), Ok(()));
        let message = encode_unroll(&unroll, &shape);
        let column = message.observation.as_ref().unwrap();
        // Two frames before the first of four rows, for each of two environments.
        assert_eq!(column.shape, [6, 2, 2]);
        assert_eq!(column.data.len(), 24);
        assert_eq!(decode_unroll(message.clone(), &shape).unwrap(), unroll);
        assert_eq!(
            decode_unroll(message, &SHAPE).unwrap_err().to_string(),
            "field `observation`: expected ELEMENT_TYPE_F32, got ELEMENT_TYPE_U8"
        );
        assert_eq!(
            unroll.validate(&SHAPE, &ACTIONS).unwrap_err().to_string(),
            "field `observation`: expected 16 elements, got 24"
        );
    }

    #[test]
    fn a_wrong_shape_or_type_or_size_names_field_expected_and_got() {
        let mut message = encode_unroll(&unroll(), &SHAPE);
        message.reward.as_mut().unwrap().shape = vec![2, 3];
        assert_eq!(
            decode_unroll(message, &SHAPE).unwrap_err().to_string(),
            "field `reward`: expected shape [3, 2], got shape [2, 3]"
        );
        let mut message = encode_unroll(&unroll(), &SHAPE);
        message.reward.as_mut().unwrap().element_type = v1::ElementType::F64.into();
        assert_eq!(
            decode_unroll(message, &SHAPE).unwrap_err().to_string(),
            "field `reward`: expected ELEMENT_TYPE_F32, got ELEMENT_TYPE_F64"
        );
        let mut message = encode_unroll(&unroll(), &SHAPE);
        let column = message.action.as_mut().unwrap();
        column.data = column.data.slice(..20);
        assert_eq!(
            decode_unroll(message, &SHAPE).unwrap_err().to_string(),
            "field `action`: expected 24 bytes for shape [3, 2, 1], got 20 bytes"
        );
        let mut message = encode_unroll(&unroll(), &SHAPE);
        message.version = None;
        assert_eq!(
            decode_unroll(message, &SHAPE).unwrap_err().to_string(),
            "field `version`: expected a value, got nothing"
        );
        let mut message = encode_unroll(&unroll(), &SHAPE);
        message.initial_state.as_mut().unwrap().shape = vec![2, u32::MAX];
        assert_eq!(
            decode_unroll(message, &SHAPE).unwrap_err().to_string(),
            "field `initial_state`: expected shape [2, 3], got shape [2, 4294967295]"
        );
        let mut message = encode_unroll(&unroll(), &SHAPE);
        message.initial_state = None;
        assert_eq!(
            decode_unroll(message, &SHAPE).unwrap_err().to_string(),
            "field `initial_state`: expected a value, got nothing"
        );
        let mut message = encode_unroll(&unroll(), &SHAPE);
        message.discontinuity = Some("x".repeat(4_097));
        assert_eq!(
            decode_unroll(message, &SHAPE).unwrap_err().to_string(),
            "field `discontinuity`: expected at most 4096 bytes, got 4097"
        );
        // A shape whose size overflows claims nothing.
        let mut message = encode_unroll(&unroll(), &SHAPE);
        message.final_index.as_mut().unwrap().shape = vec![u32::MAX];
        assert_eq!(
            decode_unroll(message, &SHAPE).unwrap_err().field,
            "final_index"
        );
    }

    #[test]
    fn a_policy_that_remembers_nothing_has_no_initial_state() {
        let shape = UnrollShape {
            state_width: 0,
            ..SHAPE
        };
        let mut forgetful = unroll();
        forgetful.initial_state = Vec::new().into();
        let message = encode_unroll(&forgetful, &shape);
        assert_eq!(message.initial_state, None);
        assert_eq!(decode_unroll(message, &shape).unwrap(), forgetful);
        let message = encode_unroll(&unroll(), &SHAPE);
        assert_eq!(
            decode_unroll(message, &shape).unwrap_err().to_string(),
            "field `initial_state`: expected nothing, because the policy is not recurrent, got \
             shape [2, 3]"
        );
    }

    proptest! {
        #[test]
        fn decoding_never_panics(
            damage in prop::collection::vec((0_usize..600, any::<u8>()), 0..8),
            length in 0_usize..600,
        ) {
            let mut bytes = encode_unroll(&unroll(), &SHAPE).encode_to_vec();
            for (position, value) in damage {
                let position = position % bytes.len();
                bytes[position] = value;
            }
            bytes.truncate(length.max(bytes.len() / 2));
            if let Ok(message) = v1::Unroll::decode(bytes::Bytes::from(bytes))
                && let Ok(unroll) = decode_unroll(message, &SHAPE)
            {
                // Whatever it holds, the check of the values ends in a verdict.
                let _ = unroll.validate(&SHAPE, &ACTIONS);
            }
        }
    }
}
