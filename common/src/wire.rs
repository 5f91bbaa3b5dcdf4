//! Messages become domain types here, and domain types messages; nowhere else.
//!
//! Decoding checks structure (what is there, of which element type, of which shape); the values
//! are checked by [`Unroll::validate`].

use std::mem::size_of;
use std::ops::Range;

use bytemuck::Pod;
use rookery_proto::v1;

use crate::spaces::{EnvironmentSpec, GoalSpec, Space};
use crate::unroll::{
    Column, LeaseEpoch, PolicyVersion, ShardId, Unroll, UnrollError, UnrollIndex, UnrollKey,
    UnrollShape,
};

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
    let (t, b, w) = (
        shape.unroll_length,
        shape.envs_per_shard,
        shape.observation_width,
    );
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
        observation: Some(encode_column(&unroll.observation, &[t + 1, b, w])),
        initial_state: (shape.state_width > 0)
            .then(|| encode_column(&unroll.initial_state, &[b, shape.state_width])),
        action: Some(encode_column(&unroll.action, &[t, b, shape.action_width])),
        log_prob: Some(encode_column(&unroll.log_prob, &[t, b])),
        reward: Some(encode_column(&unroll.reward, &[t, b])),
        terminated: Some(encode_column(&unroll.terminated, &[t, b])),
        truncated: Some(encode_column(&unroll.truncated, &[t, b])),
        final_index: Some(encode_column(&unroll.final_index, &[finals])),
        final_observation: Some(encode_column(&unroll.final_observation, &[finals, w])),
        episode_index: Some(encode_column(&unroll.episode_index, &[episodes])),
        episode_return: Some(encode_column(&unroll.episode_return, &[episodes])),
        episode_length: Some(encode_column(&unroll.episode_length, &[episodes])),
        state_after: unroll.state_after.clone(),
        discontinuous: unroll.discontinuous,
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
    let rows = Some(shape.unroll_length + 1);
    let (w, a) = (Some(shape.observation_width), Some(shape.action_width));
    let key = decode_key(&message)?;
    let version = message
        .version
        .ok_or_else(|| WireError::missing("version"))?
        .into();
    Ok(Unroll {
        key,
        version,
        observation: decode_column("observation", message.observation, &[rows, b, w])?,
        initial_state: decode_state(message.initial_state, shape)?,
        action: decode_column("action", message.action, &[t, b, a])?,
        log_prob: decode_column("log_prob", message.log_prob, &[t, b])?,
        reward: decode_column("reward", message.reward, &[t, b])?,
        terminated: decode_column("terminated", message.terminated, &[t, b])?,
        truncated: decode_column("truncated", message.truncated, &[t, b])?,
        final_index: decode_column("final_index", message.final_index, &[None])?,
        final_observation: decode_column(
            "final_observation",
            message.final_observation,
            &[None, w],
        )?,
        episode_index: decode_column("episode_index", message.episode_index, &[None])?,
        episode_return: decode_column("episode_return", message.episode_return, &[None])?,
        episode_length: decode_column("episode_length", message.episode_length, &[None])?,
        state_after: message.state_after,
        discontinuous: message.discontinuous,
    })
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

impl From<&Space> for v1::Space {
    fn from(space: &Space) -> Self {
        let kind = match space {
            Space::Box { shape, low, high } => v1::space::Kind::Box(v1::BoxSpace {
                shape: shape.iter().map(|extent| *extent as u32).collect(),
                low: low.clone(),
                high: high.clone(),
            }),
            Space::Discrete { n } => v1::space::Kind::Discrete(v1::DiscreteSpace { n: *n as u32 }),
        };
        Self { kind: Some(kind) }
    }
}

/// Values in one row of a space beyond which a specification is refused: no environment that
/// anybody has is near it, and memory is claimed in proportion.
const MAX_SPACE_WIDTH: usize = 1 << 24;

fn decode_space(field: &'static str, space: Option<v1::Space>) -> Result<Space, WireError> {
    match space
        .and_then(|space| space.kind)
        .ok_or_else(|| WireError::missing(field))?
    {
        v1::space::Kind::Box(space) => {
            let width = space
                .shape
                .iter()
                .try_fold(1_usize, |width, extent| width.checked_mul(*extent as usize))
                .filter(|width| (1..=MAX_SPACE_WIDTH).contains(width));
            let Some(width) = width else {
                return Err(WireError::new(
                    field,
                    format!("a shape of 1 to {MAX_SPACE_WIDTH} elements"),
                    format!("{:?}", space.shape),
                ));
            };
            if space.low.len() != width || space.high.len() != width {
                return Err(WireError::new(
                    field,
                    format!("{width} lower and upper bounds"),
                    format!("{} and {}", space.low.len(), space.high.len()),
                ));
            }
            let shape = space.shape.iter().map(|extent| *extent as usize).collect();
            Ok(Space::Box {
                shape,
                low: space.low,
                high: space.high,
            })
        }
        v1::space::Kind::Discrete(space) => {
            let n = space.n as usize;
            if !(1..=MAX_SPACE_WIDTH).contains(&n) {
                return Err(WireError::new(
                    field,
                    format!("1 to {MAX_SPACE_WIDTH} elements"),
                    n.to_string(),
                ));
            }
            Ok(Space::Discrete { n })
        }
    }
}

impl From<&EnvironmentSpec> for v1::EnvironmentSpec {
    fn from(spec: &EnvironmentSpec) -> Self {
        Self {
            id: spec.id.clone(),
            arguments: spec.arguments.clone().into_iter().collect(),
            observation: Some((&spec.observation).into()),
            action: Some((&spec.action).into()),
            max_episode_steps: spec.max_episode_steps,
            goal: spec.goal.as_ref().map(Into::into),
        }
    }
}

impl From<&GoalSpec> for v1::GoalSpec {
    fn from(goal: &GoalSpec) -> Self {
        let range = |range: &Range<usize>| v1::IndexRange {
            begin: range.start as u32,
            end: range.end as u32,
        };
        Self {
            achieved: Some(range(&goal.achieved)),
            desired: Some(range(&goal.desired)),
            tolerance: goal.tolerance,
            terminates: goal.terminates,
        }
    }
}

fn decode_goal(goal: v1::GoalSpec) -> Result<GoalSpec, WireError> {
    let range = |field, range: Option<v1::IndexRange>| {
        let range = range.ok_or_else(|| WireError::missing(field))?;
        Ok::<_, WireError>(range.begin as usize..range.end as usize)
    };
    Ok(GoalSpec {
        achieved: range("environment.goal.achieved", goal.achieved)?,
        desired: range("environment.goal.desired", goal.desired)?,
        tolerance: goal.tolerance,
        terminates: goal.terminates,
    })
}

impl TryFrom<v1::EnvironmentSpec> for EnvironmentSpec {
    type Error = WireError;

    fn try_from(message: v1::EnvironmentSpec) -> Result<Self, WireError> {
        let spec = Self {
            id: message.id,
            arguments: message.arguments.into_iter().collect(),
            observation: decode_space("environment.observation", message.observation)?,
            action: decode_space("environment.action", message.action)?,
            max_episode_steps: message.max_episode_steps,
            goal: message.goal.map(decode_goal).transpose()?,
        };
        spec.validate_goal().map_err(|error| {
            WireError::new(
                "environment.goal",
                "a goal that fits the observation",
                error.to_string(),
            )
        })?;
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::unroll::tests::{SHAPE, unroll};

    #[test]
    fn an_unroll_survives_the_wire() {
        let bytes = encode_unroll(&unroll(), &SHAPE).encode_to_vec();
        let message = v1::Unroll::decode(bytes::Bytes::from(bytes)).unwrap();
        assert_eq!(decode_unroll(message, &SHAPE).unwrap(), unroll());
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

    #[test]
    fn an_environment_spec_survives_the_wire_and_absurd_ones_do_not() {
        let spec = EnvironmentSpec {
            id: "Pendulum-v1".to_owned(),
            arguments: [("g".to_owned(), "9.81".to_owned())].into(),
            observation: Space::bounded(&[-1.0, -1.0, -8.0], &[1.0, 1.0, 8.0]),
            action: Space::bounded(&[-2.0], &[2.0]),
            max_episode_steps: Some(200),
            goal: Some(GoalSpec {
                achieved: 0..1,
                desired: 2..3,
                tolerance: 0.5,
                terminates: true,
            }),
        };
        let message = v1::EnvironmentSpec::from(&spec);
        assert_eq!(EnvironmentSpec::try_from(message.clone()).unwrap(), spec);

        let mut absurd = message.clone();
        absurd.goal.as_mut().unwrap().desired = Some(v1::IndexRange { begin: 3, end: 4 });
        assert_eq!(
            EnvironmentSpec::try_from(absurd).unwrap_err().field,
            "environment.goal"
        );
        let mut absurd = message.clone();
        absurd.goal.as_mut().unwrap().achieved = None;
        assert_eq!(
            EnvironmentSpec::try_from(absurd).unwrap_err().field,
            "environment.goal.achieved"
        );

        let mut absurd = message.clone();
        absurd.action = Some(v1::Space {
            kind: Some(v1::space::Kind::Discrete(v1::DiscreteSpace { n: 0 })),
        });
        assert_eq!(
            EnvironmentSpec::try_from(absurd).unwrap_err().field,
            "environment.action"
        );
        let mut absurd = message;
        absurd.observation = Some(v1::Space {
            kind: Some(v1::space::Kind::Box(v1::BoxSpace {
                shape: vec![u32::MAX; 8],
                low: Vec::new(),
                high: Vec::new(),
            })),
        });
        assert_eq!(
            EnvironmentSpec::try_from(absurd).unwrap_err().field,
            "environment.observation"
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
                let _ = unroll.validate(&SHAPE, &crate::unroll::tests::ACTIONS);
            }
        }
    }
}
