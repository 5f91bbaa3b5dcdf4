//! What a host says about environments, as a specification.

use std::collections::BTreeMap;

use rookery_common::spaces::{EnvironmentSpec, GoalSpec, Space};
use rookery_common::wrappers::StackPadding;
use serde::Deserialize;

use super::process::Reply;

/// A space as `spaces.py` describes it, and images as `images.py` does.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum SpaceInWords {
    Box {
        shape: Vec<usize>,
    },
    Discrete {
        n: usize,
    },
    MultiDiscrete {
        nvec: Vec<usize>,
    },
    Frames {
        frame: [usize; 3],
        stack: usize,
        padding: StackPadding,
    },
}

/// A goal as `goals.py` has found it.
#[derive(Debug, Deserialize)]
struct GoalInWords {
    achieved: (usize, usize),
    desired: (usize, usize),
    tolerance: f32,
    terminates: bool,
}

/// What is read of a description.
#[derive(Debug, Deserialize)]
struct Description {
    observation: SpaceInWords,
    action: SpaceInWords,
    max_episode_steps: Option<u32>,
    goal: Option<GoalInWords>,
    action_mask: bool,
    parts: Vec<(String, usize, usize)>,
    mode: String,
    notes: Vec<String>,
}

/// The specification of the environment `id` that a host has described.
///
/// # Errors
/// What does not fit.
pub(super) fn read(
    id: &str,
    arguments: &BTreeMap<String, String>,
    reply: &Reply,
) -> Result<EnvironmentSpec, String> {
    let description: Description =
        serde_json::from_value(reply.message.clone()).map_err(|error| {
            format!("a host described `{id}` in a way that makes no sense: {error}")
        })?;
    let mut bounds = reply
        .blob
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let mut space = |words| match words {
        SpaceInWords::Discrete { n } => Space::Discrete { n },
        SpaceInWords::MultiDiscrete { nvec } => Space::MultiDiscrete { nvec },
        SpaceInWords::Frames {
            frame,
            stack,
            padding,
        } => Space::Frames {
            frame,
            stack,
            padding,
        },
        SpaceInWords::Box { shape } => {
            let width = shape.iter().product();
            let low = bounds.by_ref().take(width).collect();
            let high = bounds.by_ref().take(width).collect();
            Space::Box { shape, low, high }
        }
    };
    let spec = EnvironmentSpec {
        id: id.to_owned(),
        arguments: arguments.clone(),
        observation: space(description.observation),
        action: space(description.action),
        max_episode_steps: description.max_episode_steps,
        goal: description.goal.map(|goal| GoalSpec {
            achieved: goal.achieved.0..goal.achieved.1,
            desired: goal.desired.0..goal.desired.1,
            tolerance: goal.tolerance,
            terminates: goal.terminates,
        }),
        wrappers: Vec::new(),
        action_mask: description.action_mask,
    };
    for (name, space) in [("observation", &spec.observation), ("action", &spec.action)] {
        let complete = match space {
            Space::Box { low, high, .. } => {
                low.len() == space.width() && high.len() == space.width() && !low.is_empty()
            }
            Space::Discrete { n } => *n > 0,
            Space::MultiDiscrete { nvec } => !nvec.is_empty() && !nvec.contains(&0),
            Space::Frames { .. } => space.width() > 0,
        };
        if !complete {
            return Err(format!(
                "a host described the {name} space of `{id}` without its bounds"
            ));
        }
    }
    spec.validate_parts()
        .map_err(|error| format!("`{id}`: {error}"))?;
    tracing::debug!(
        environment = id,
        mode = description.mode,
        observation = %spec.observation,
        action = %spec.action,
        parts = ?description.parts,
        "a host made environments"
    );
    for note in description.notes {
        tracing::info!(environment = id, note, "a host says about an environment");
    }
    Ok(spec)
}
