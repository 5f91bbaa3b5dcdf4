//! What an environment is, as messages.

use std::ops::Range;

use rookery_proto::v1;

use super::WireError;
use crate::spaces::{EnvironmentSpec, GoalSpec, PartsError, Space};
use crate::wrappers::{StackPadding, Wrapper};

impl From<&Space> for v1::Space {
    fn from(space: &Space) -> Self {
        let kind = match space {
            Space::Box { shape, low, high } => v1::space::Kind::Box(v1::BoxSpace {
                shape: shape.iter().map(|extent| *extent as u32).collect(),
                low: low.clone(),
                high: high.clone(),
            }),
            Space::Frames {
                frame,
                stack,
                padding,
            } => v1::space::Kind::Frames(v1::FrameSpace {
                frame: frame.iter().map(|extent| *extent as u32).collect(),
                stack: *stack as u32,
                zero_padding: *padding == StackPadding::Zero,
            }),
            Space::Discrete { n } => v1::space::Kind::Discrete(v1::DiscreteSpace { n: *n as u32 }),
            Space::MultiDiscrete { nvec } => {
                v1::space::Kind::MultiDiscrete(v1::MultiDiscreteSpace {
                    nvec: nvec.iter().map(|n| *n as u32).collect(),
                })
            }
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
        v1::space::Kind::Frames(space) => {
            let extents = |count: &[u32]| {
                let frame: [u32; 3] = count.try_into().ok()?;
                let frame = frame.map(|extent| extent as usize);
                let stack = space.stack as usize;
                frame
                    .iter()
                    .try_fold(stack, |width, extent| width.checked_mul(*extent))
                    .filter(|width| (1..=MAX_SPACE_WIDTH).contains(width))?;
                let padding = if space.zero_padding {
                    StackPadding::Zero
                } else {
                    StackPadding::Reset
                };
                Some(Space::Frames {
                    frame,
                    stack,
                    padding,
                })
            };
            extents(&space.frame).ok_or_else(|| {
                WireError::new(
                    field,
                    format!(
                        "frames [channels, rows, columns] whose stack has 1 to {MAX_SPACE_WIDTH} \
                         pixels"
                    ),
                    format!("a stack of {} of {:?}", space.stack, space.frame),
                )
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
        v1::space::Kind::MultiDiscrete(space) => {
            let nvec: Vec<usize> = space.nvec.iter().map(|n| *n as usize).collect();
            let is_sound = (1..=MAX_SPACE_WIDTH).contains(&nvec.len())
                && nvec.iter().all(|n| (1..=MAX_SPACE_WIDTH).contains(n));
            if !is_sound {
                return Err(WireError::new(
                    field,
                    format!("one choice or more, each of 1 to {MAX_SPACE_WIDTH} elements"),
                    format!("{nvec:?}"),
                ));
            }
            Ok(Space::MultiDiscrete { nvec })
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
            wrappers: spec.wrappers.iter().map(Into::into).collect(),
            action_mask: spec.action_mask,
        }
    }
}

impl From<&Wrapper> for v1::Wrapper {
    fn from(wrapper: &Wrapper) -> Self {
        let (kind, settings) = wrapper.to_text();
        Self {
            kind,
            settings: settings.into_iter().collect(),
        }
    }
}

fn decode_wrapper(wrapper: v1::Wrapper) -> Result<Wrapper, WireError> {
    Wrapper::from_text(&wrapper.kind, wrapper.settings).map_err(|error| {
        WireError::new(
            "environment.wrappers",
            "wrappers that this release knows",
            format!("`{}` ({})", wrapper.kind, error.message()),
        )
    })
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
            wrappers: message
                .wrappers
                .into_iter()
                .map(decode_wrapper)
                .collect::<Result<_, _>>()?,
            action_mask: message.action_mask,
        };
        spec.validate_parts().map_err(|error| {
            let (field, expected) = match &error {
                PartsError::Goal(_) => ("environment.goal", "a goal that fits the observation"),
                PartsError::ActionMask { .. } => (
                    "environment.action_mask",
                    "a mask that fits the observation",
                ),
            };
            WireError::new(field, expected, error.to_string())
        })?;
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_of_images_survive_and_absurd_ones_are_refused() {
        let space = Space::Frames {
            frame: [1, 84, 84],
            stack: 4,
            padding: StackPadding::Zero,
        };
        assert_eq!(space.width(), 28_224);
        assert_eq!(decode_space("s", Some((&space).into())).unwrap(), space);
        for (frame, stack) in [
            (vec![84, 84], 4),
            (vec![1, 84, 84], 0),
            (vec![0, 84, 84], 1),
            (vec![u32::MAX; 3], u32::MAX),
        ] {
            let frames = v1::FrameSpace {
                frame,
                stack,
                zero_padding: false,
            };
            let kind = Some(v1::space::Kind::Frames(frames));
            assert!(decode_space("s", Some(v1::Space { kind })).is_err());
        }
    }

    #[test]
    fn several_choices_survive_and_empty_ones_are_refused() {
        let space = Space::MultiDiscrete { nvec: vec![3, 2] };
        assert_eq!(decode_space("s", Some((&space).into())).unwrap(), space);
        for nvec in [vec![], vec![2, 0], vec![u32::MAX]] {
            let kind = Some(v1::space::Kind::MultiDiscrete(v1::MultiDiscreteSpace {
                nvec,
            }));
            assert!(decode_space("s", Some(v1::Space { kind })).is_err());
        }
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
            wrappers: vec![
                Wrapper::FrameStack {
                    size: 4,
                    padding: StackPadding::Zero,
                },
                Wrapper::ScaleReward {
                    factor: 0.1,
                    training_only: true,
                },
            ],
            action_mask: false,
        };
        let message = v1::EnvironmentSpec::from(&spec);
        assert_eq!(EnvironmentSpec::try_from(message.clone()).unwrap(), spec);

        let mut unknown = message.clone();
        unknown.wrappers[1].kind = "scale_rewards".to_owned();
        let error = EnvironmentSpec::try_from(unknown).unwrap_err();
        assert_eq!(error.field, "environment.wrappers");
        assert!(error.to_string().contains("`scale_rewards`"), "{error}");

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
        absurd.action_mask = true;
        assert_eq!(
            EnvironmentSpec::try_from(absurd).unwrap_err().field,
            "environment.action_mask",
            "there is nothing to choose from"
        );
        let mut masked = message.clone();
        masked.action = Some((&Space::Discrete { n: 2 }).into());
        masked.action_mask = true;
        assert!(EnvironmentSpec::try_from(masked).unwrap().action_mask);

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
}
