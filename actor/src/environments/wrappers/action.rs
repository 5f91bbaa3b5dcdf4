//! `clip_action`, `rescale_action` and `flatten_action`: what is done is not quite what was chosen.

use rookery_common::spaces::{EnvironmentSpec, Space};

use super::Refusal;
use super::layer::{Inner, Layer, Wrapped};
use crate::environments::{BatchedEnvironment, EnvironmentFault, StepOutput};

pub(super) fn clip(
    inner: Box<dyn BatchedEnvironment>,
    spec: EnvironmentSpec,
) -> Result<Box<dyn BatchedEnvironment>, Refusal> {
    let (low, high) = bounds(&spec, "has no bounds to clip to")?;
    let bounds: Vec<(f32, f32)> = low.iter().copied().zip(high.iter().copied()).collect();
    if let Some((low, high)) = bounds
        .iter()
        .find(|(low, high)| low.is_nan() || high.is_nan() || low > high)
    {
        return Err(format!(
            "an action has the bounds {low} and {high}; correct the environment"
        ));
    }
    let map = Map::Clip(bounds);
    Ok(wrapped(inner, spec, map))
}

pub(super) fn rescale(
    inner: Box<dyn BatchedEnvironment>,
    mut spec: EnvironmentSpec,
    low: f64,
    high: f64,
) -> Result<Box<dyn BatchedEnvironment>, Refusal> {
    let (inner_low, inner_high) = bounds(&spec, "cannot be rescaled")?;
    let lines = inner_low
        .iter()
        .zip(inner_high)
        .map(|(inner_low, inner_high)| Line::between((*inner_low, *inner_high), (low, high)))
        .collect::<Option<_>>()
        .ok_or("an action without finite bounds cannot be rescaled; leave rescale_action out")?;
    if let Space::Box {
        low: lows,
        high: highs,
        ..
    } = &mut spec.action
    {
        lows.fill(low as f32);
        highs.fill(high as f32);
    }
    Ok(wrapped(inner, spec, Map::Rescale(lines)))
}

/// Most combinations that are actions of their own: each is an output of a network.
const MAX_COMBINATIONS: usize = 4096;

pub(super) fn flatten(
    inner: Box<dyn BatchedEnvironment>,
    mut spec: EnvironmentSpec,
) -> Result<Box<dyn BatchedEnvironment>, Refusal> {
    let Space::MultiDiscrete { nvec } = spec.action.clone() else {
        let action = &spec.action;
        return Err(format!(
            "actions are {action}, which is one choice; leave it out"
        ));
    };
    let combinations = nvec.iter().try_fold(1_usize, |all, n| all.checked_mul(*n));
    let Some(n) = combinations.filter(|n| *n <= MAX_COMBINATIONS) else {
        return Err(format!(
            "actions are {}, which has more than {MAX_COMBINATIONS} combinations; leave it out and train with \
             an algorithm that makes several choices, such as ppo",
            spec.action
        ));
    };
    spec.action = Space::Discrete { n };
    Ok(wrapped(inner, spec, Map::Flatten(nvec)))
}

/// The choices of combination `index`, the last varying fastest.
fn unravel(index: f32, nvec: &[usize], choices: &mut Vec<f32>) {
    let first = choices.len();
    let mut rest = index as usize;
    for n in nvec.iter().rev() {
        choices.push((rest % n) as f32);
        rest /= n;
    }
    choices[first..].reverse();
}

/// The bounds of a box of actions.
fn bounds<'a>(spec: &'a EnvironmentSpec, lack: &str) -> Result<(&'a [f32], &'a [f32]), Refusal> {
    match &spec.action {
        Space::Box { low, high, .. } => Ok((low, high)),
        Space::Discrete { .. } | Space::MultiDiscrete { .. } | Space::Frames { .. } => {
            Err(format!(
                "actions are {}, and an index {lack}; leave it out",
                spec.action
            ))
        }
    }
}

/// A straight line from one interval onto another, with Gymnasium's roundings to `f32`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    gradient: f32,
    intercept: f32,
    from: (f32, f32),
    onto: (f32, f32),
}

impl Line {
    /// The line from `from` onto `onto`; none where it is not finite or has no inverse.
    pub(super) fn between(from: (f32, f32), onto: (f64, f64)) -> Option<Self> {
        let length = f64::from(from.1) - f64::from(from.0);
        let gradient = ((onto.1 - onto.0) / length) as f32;
        let intercept = (f64::from(gradient * -from.0) + onto.0) as f32;
        let has_inverse = gradient.is_finite() && gradient > 0.0 && intercept.is_finite();
        has_inverse.then_some(Self {
            gradient,
            intercept,
            from,
            onto: (onto.0 as f32, onto.1 as f32),
        })
    }

    /// Where a value of the first interval lies in the second. It never leaves it by a rounding.
    pub(super) fn forward(self, value: f32) -> f32 {
        (self.gradient * value + self.intercept).clamp(self.onto.0, self.onto.1)
    }

    /// Where a value of the second interval lies in the first; what lies outside is at its ends.
    pub(super) fn backward(self, value: f32) -> f32 {
        if value <= self.onto.0 {
            self.from.0
        } else if value >= self.onto.1 {
            self.from.1
        } else {
            (value - self.intercept) / self.gradient
        }
    }
}

fn wrapped(
    inner: Box<dyn BatchedEnvironment>,
    spec: EnvironmentSpec,
    map: Map,
) -> Box<dyn BatchedEnvironment> {
    let mapped = Vec::new();
    Box::new(Wrapped::new(inner, spec, Actions { map, mapped }, || ()))
}

/// What becomes of an action, value by value.
enum Map {
    Clip(Vec<(f32, f32)>),
    Rescale(Vec<Line>),
    /// Number of elements of each choice.
    Flatten(Vec<usize>),
}

struct Actions {
    map: Map,
    /// Room for what is done, `[B, A]`.
    mapped: Vec<f32>,
}

impl Layer for Actions {
    type State = ();

    fn actions_inside<'a>(&'a mut self, actions: &'a [f32]) -> Option<&'a [f32]> {
        self.map(actions);
        Some(&self.mapped)
    }

    fn step(
        &mut self,
        _states: &mut [()],
        inner: &mut Inner<'_>,
        actions: &[f32],
        output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        self.map(actions);
        inner.step(&self.mapped, output)
    }
}

impl Actions {
    fn map(&mut self, actions: &[f32]) {
        self.mapped.clear();
        match &self.map {
            Map::Clip(bounds) => {
                let pairs = actions.iter().zip(bounds.iter().cycle());
                self.mapped
                    .extend(pairs.map(|(action, (low, high))| action.clamp(*low, *high)));
            }
            Map::Rescale(lines) => {
                let pairs = actions.iter().zip(lines.iter().cycle());
                self.mapped
                    .extend(pairs.map(|(action, line)| line.backward(*action)));
            }
            Map::Flatten(nvec) => {
                for index in actions {
                    unravel(*index, nvec, &mut self.mapped);
                }
            }
        }
    }
}
