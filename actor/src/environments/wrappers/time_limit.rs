//! `time_limit`: episodes end earlier. The limit itself is the shard's to apply, or that of a
//! `frame_skip` around it; this only states it.

use rookery_common::spaces::EnvironmentSpec;

use super::Refusal;
use super::layer::{Layer, Wrapped};
use crate::environments::BatchedEnvironment;

pub(super) fn add(
    inner: Box<dyn BatchedEnvironment>,
    mut spec: EnvironmentSpec,
    max_episode_steps: u32,
) -> Result<Box<dyn BatchedEnvironment>, Refusal> {
    if let Some(limit) = spec.max_episode_steps.filter(|at| *at < max_episode_steps) {
        return Err(format!(
            "episodes end after {limit} steps already; set max_episode_steps to at most {limit}"
        ));
    }
    spec.max_episode_steps = Some(max_episode_steps);
    Ok(Box::new(Wrapped::new(inner, spec, Stated, || ())))
}

/// Nothing happens here.
struct Stated;

impl Layer for Stated {
    type State = ();
}
