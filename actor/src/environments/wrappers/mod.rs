//! What stands around an environment and changes what goes in or what comes out: the working side
//! of [`Wrapper`], whose variants say what each does.
//!
//! A wrapped environment is an environment. Its spec is as seen from outside, its snapshot holds
//! what the wrapper remembers before that of what is inside, and what a wrapper draws comes from a
//! branch of the episode's random numbers, so that what is inside draws as it would without. A goal
//! stays in the spec only where hindsight would still compute what the environment gives: as soon
//! as a wrapper changes rewards or what stands where the goal does, there is none.

use rookery_common::spaces::{EnvironmentSpec, Space};
use rookery_common::wrappers::{self, Wrapper};

use super::{BatchedEnvironment, EnvironmentError, EnvironmentFault, StepOutput};

mod layer;
mod time_limit;
mod frame_skip;
mod frame_stack;
mod reward;
mod action;
mod sticky_actions;
mod observation;
mod memory;
mod noop_starts;
mod episodic_life;

#[cfg(test)]
mod tests;

/// Puts `wrappers` around an environment, the first one innermost.
///
/// # Errors
/// Where a setting is out of range or a wrapper does not fit what it stands around.
pub fn wrap(
    environment: Box<dyn BatchedEnvironment>,
    wrappers: &[Wrapper],
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    let refused = |index: usize, id: &str, reason| EnvironmentError::Wrapper {
        id: id.to_owned(),
        place: index + 1,
        wrapper: wrappers[index].to_string(),
        reason,
    };
    if let Some(fault) = wrappers::validate(wrappers).first() {
        let id = &environment.spec().id;
        return Err(refused(fault.index, id, fault.to_string()));
    }
    let mut wrapped = environment;
    for (index, wrapper) in wrappers.iter().enumerate() {
        let mut spec = wrapped.spec().clone();
        let id = spec.id.clone();
        spec.wrappers.push(wrapper.clone());
        if spec.action_mask && !keeps_masks(wrapper) {
            let reason = "an action mask ends each observation and says what can be done with it, which would \
                          not be so any more; leave it out, or do the same inside the environment";
            return Err(refused(index, &id, reason.to_owned()));
        }
        if !keeps_frames(wrapper, &spec.observation) {
            spec.observation = spec.observation.as_box();
        }
        wrapped = add(wrapped, spec, wrapper).map_err(|reason| refused(index, &id, reason))?;
    }
    Ok(wrapped)
}

/// Whether what a wrapper makes of images are stacks of frames again: each a shift of the one before it,
/// and at an episode's beginning its first frame after its padding.
fn keeps_frames(wrapper: &Wrapper, observation: &Space) -> bool {
    let is_single = matches!(observation, Space::Frames { stack: 1, .. });
    match wrapper {
        Wrapper::TimeLimit { .. }
        | Wrapper::ClipReward { .. }
        | Wrapper::SignReward { .. }
        | Wrapper::ScaleReward { .. }
        | Wrapper::ClipAction {}
        | Wrapper::RescaleAction { .. }
        | Wrapper::FlattenAction {}
        | Wrapper::StickyActions { .. }
        | Wrapper::EpisodicLife {} => true,
        Wrapper::FrameSkip { .. } | Wrapper::NoopStarts { .. } | Wrapper::FrameStack { .. } => {
            is_single
        }
        Wrapper::FlattenObservation {}
        | Wrapper::ClipObservation { .. }
        | Wrapper::RescaleObservation { .. }
        | Wrapper::CastObservation { .. }
        | Wrapper::PreviousAction {}
        | Wrapper::PreviousReward {} => false,
    }
}

/// Whether an action mask still ends the observations and says which actions can be taken.
const fn keeps_masks(wrapper: &Wrapper) -> bool {
    match wrapper {
        Wrapper::TimeLimit { .. }
        | Wrapper::ClipReward { .. }
        | Wrapper::SignReward { .. }
        | Wrapper::ScaleReward { .. }
        | Wrapper::EpisodicLife {}
        | Wrapper::FlattenObservation {} => true,
        // These do what was not chosen where they do it.
        Wrapper::FrameSkip { .. }
        | Wrapper::StickyActions { .. }
        | Wrapper::NoopStarts { .. }
        | Wrapper::ClipAction {}
        | Wrapper::RescaleAction { .. }
        | Wrapper::FlattenAction {}
        | Wrapper::FrameStack { .. }
        | Wrapper::ClipObservation { .. }
        | Wrapper::RescaleObservation { .. }
        | Wrapper::CastObservation { .. }
        | Wrapper::PreviousAction {}
        | Wrapper::PreviousReward {} => false,
    }
}

/// Those of `wrappers` with which a policy is evaluated.
#[must_use]
pub fn for_evaluation(wrappers: &[Wrapper]) -> Vec<Wrapper> {
    let kept = wrappers.iter().filter(|one| !one.is_training_only());
    kept.cloned().collect()
}

/// Why a wrapper does not fit, with what to do about it.
type Refusal = String;

/// Puts one wrapper around an environment; `spec` is that of what is inside, for the wrapper to
/// change.
fn add(
    inner: Box<dyn BatchedEnvironment>,
    spec: EnvironmentSpec,
    wrapper: &Wrapper,
) -> Result<Box<dyn BatchedEnvironment>, Refusal> {
    match *wrapper {
        Wrapper::TimeLimit {
            max_episode_steps, ..
        } => time_limit::add(inner, spec, max_episode_steps),
        Wrapper::FrameSkip { frames, max_pool } => frame_skip::add(inner, spec, frames, max_pool),
        Wrapper::FrameStack { size, padding } => frame_stack::add(inner, spec, size, padding),
        Wrapper::ClipReward { low, high, .. } => {
            let (low, high) = (low as f32, high as f32);
            Ok(reward::add(inner, spec, reward::Map::Clip { low, high }))
        }
        Wrapper::SignReward { .. } => Ok(reward::add(inner, spec, reward::Map::Sign)),
        Wrapper::ScaleReward { factor, .. } => {
            Ok(reward::add(inner, spec, reward::Map::Scale { factor }))
        }
        Wrapper::ClipAction {} => action::clip(inner, spec),
        Wrapper::RescaleAction { low, high } => action::rescale(inner, spec, low, high),
        Wrapper::FlattenAction {} => action::flatten(inner, spec),
        Wrapper::StickyActions { probability, .. } => {
            Ok(sticky_actions::add(inner, spec, probability))
        }
        Wrapper::FlattenObservation {} => Ok(observation::flatten(inner, spec)),
        Wrapper::ClipObservation { low, high } => observation::clip(inner, spec, low, high),
        Wrapper::RescaleObservation { low, high } => observation::rescale(inner, spec, low, high),
        Wrapper::CastObservation { to } => observation::cast(inner, spec, to),
        Wrapper::PreviousAction {} => memory::previous_action(inner, spec),
        Wrapper::PreviousReward {} => memory::previous_reward(inner, spec),
        Wrapper::NoopStarts {
            max_steps, action, ..
        } => noop_starts::add(inner, spec, max_steps, action),
        Wrapper::EpisodicLife {} => episodic_life::add(inner, spec),
    }
}

/// The bounds of a box of observations.
///
/// # Errors
/// Where they are indices; `verb` says what was to be done with them.
fn observation_bounds<'a>(
    spec: &'a EnvironmentSpec,
    verb: &str,
) -> Result<(&'a [f32], &'a [f32]), Refusal> {
    match &spec.observation {
        Space::Box { low, high, .. } => Ok((low, high)),
        Space::Frames { .. } => unreachable!("`wrap` has made a box of it"),
        Space::Discrete { .. } | Space::MultiDiscrete { .. } => Err(format!(
            "observations are {}, and an index cannot be {verb}; put flatten_observation before it",
            spec.observation
        )),
    }
}

/// Checks that an environment can step some of its instances without the others.
///
/// # Errors
/// Where it cannot.
fn require_step_some(inner: &mut dyn BatchedEnvironment) -> Result<(), Refusal> {
    let num_envs = inner.num_envs();
    let spec = inner.spec();
    let actions = vec![0.0; num_envs * spec.action.width()];
    let mut observations = vec![0.0; num_envs * spec.observation.width()];
    let output = StepOutput {
        observations: &mut observations,
        rewards: &mut vec![0.0; num_envs],
        terminated: &mut vec![0; num_envs],
        truncated: &mut vec![0; num_envs],
    };
    // No instance takes a step, so that nothing happens where this works.
    inner
        .step_some(&vec![false; num_envs], &actions, output)
        .map_err(|EnvironmentFault { message, .. }| {
            format!("{message}; leave it out, or do the same inside the environment")
        })
}
