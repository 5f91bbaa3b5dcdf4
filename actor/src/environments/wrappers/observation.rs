//! `flatten_observation`, `clip_observation`, `rescale_observation` and `cast_observation`: each
//! observation becomes another, whatever was before.

use rookery_common::seeds::Random;
use rookery_common::spaces::{EnvironmentSpec, Space};
use rookery_common::wrappers::ElementType;

use super::action::Line;
use super::layer::{Inner, Layer, Wrapped};
use super::{Refusal, observation_bounds};
use crate::environments::{BatchedEnvironment, EnvironmentFault, StepOutput};

pub(super) fn flatten(
    inner: Box<dyn BatchedEnvironment>,
    mut spec: EnvironmentSpec,
) -> Box<dyn BatchedEnvironment> {
    let width = inner.spec().observation.width();
    let (map, flat) = match &spec.observation {
        Space::Discrete { n } => (Map::OneHot, Space::bounded(&vec![0.0; *n], &vec![1.0; *n])),
        Space::Box { low, high, .. } => (Map::Same, Space::bounded(low, high)),
        Space::MultiDiscrete { .. } => unreachable!("observations are never several indices"),
        Space::Frames { .. } => unreachable!("`wrap` has made a box of it"),
    };
    spec.observation = flat;
    wrapped(inner, spec, map, width)
}

pub(super) fn clip(
    inner: Box<dyn BatchedEnvironment>,
    mut spec: EnvironmentSpec,
    low: f64,
    high: f64,
) -> Result<Box<dyn BatchedEnvironment>, Refusal> {
    observation_bounds(&spec, "clipped")?;
    let (low, high) = (low as f32, high as f32);
    let width = change_bounds(&mut spec, |bound| bound.clamp(low, high));
    spec.goal = None;
    Ok(wrapped(inner, spec, Map::Clip { low, high }, width))
}

pub(super) fn rescale(
    inner: Box<dyn BatchedEnvironment>,
    mut spec: EnvironmentSpec,
    low: f64,
    high: f64,
) -> Result<Box<dyn BatchedEnvironment>, Refusal> {
    let (inner_low, inner_high) = observation_bounds(&spec, "rescaled")?;
    let lines: Vec<Line> = inner_low
        .iter()
        .zip(inner_high)
        .map(|(inner_low, inner_high)| Line::between((*inner_low, *inner_high), (low, high)))
        .collect::<Option<_>>()
        .ok_or(
            "an observation without finite bounds cannot be rescaled; put clip_observation before \
             it",
        )?;
    let width = lines.len();
    if let Space::Box {
        low: lows,
        high: highs,
        ..
    } = &mut spec.observation
    {
        lows.fill(low as f32);
        highs.fill(high as f32);
    }
    spec.goal = None;
    Ok(wrapped(inner, spec, Map::Rescale(lines), width))
}

pub(super) fn cast(
    inner: Box<dyn BatchedEnvironment>,
    mut spec: EnvironmentSpec,
    to: ElementType,
) -> Result<Box<dyn BatchedEnvironment>, Refusal> {
    let (low, high) = observation_bounds(&spec, "cast")?;
    let mut bounds = low.iter().chain(high);
    let outside = bounds.find(|bound| !(0.0..=255.0).contains(*bound));
    if let (ElementType::Uint8, Some(outside)) = (to, outside) {
        return Err(format!(
            "observations have a bound of {outside}, and bytes go from 0 to 255; put \
             rescale_observation before it, with low = 0 and high = 255"
        ));
    }
    let width = change_bounds(&mut spec, |bound| {
        if bound.is_finite() {
            cast_value(to, bound)
        } else {
            bound
        }
    });
    spec.goal = None;
    Ok(wrapped(inner, spec, Map::Cast(to), width))
}

/// Changes the bounds of a box of observations, and gives its width.
fn change_bounds(spec: &mut EnvironmentSpec, change: impl Fn(f32) -> f32) -> usize {
    if let Space::Box { low, high, .. } = &mut spec.observation {
        for bound in low.iter_mut().chain(high) {
            *bound = change(*bound);
        }
    }
    spec.observation.width()
}

fn wrapped(
    inner: Box<dyn BatchedEnvironment>,
    spec: EnvironmentSpec,
    map: Map,
    inner_width: usize,
) -> Box<dyn BatchedEnvironment> {
    let layer = Observations {
        map,
        width: spec.observation.width(),
        inner_width,
        seen: vec![0.0; inner.num_envs() * inner_width],
    };
    Box::new(Wrapped::new(inner, spec, layer, || ()))
}

/// What becomes of an observation.
enum Map {
    Same,
    OneHot,
    Clip { low: f32, high: f32 },
    Rescale(Vec<Line>),
    Cast(ElementType),
}

impl Map {
    fn apply(&self, seen: &[f32], shown: &mut [f32]) {
        match self {
            Self::Same => shown.copy_from_slice(seen),
            Self::OneHot => {
                shown.fill(0.0);
                shown[seen[0] as usize] = 1.0;
            }
            Self::Clip { low, high } => map_each(seen, shown, |value| value.clamp(*low, *high)),
            Self::Rescale(lines) => {
                for ((value, shown), line) in seen.iter().zip(shown).zip(lines) {
                    *shown = line.forward(*value);
                }
            }
            Self::Cast(to) => map_each(seen, shown, |value| cast_value(*to, value)),
        }
    }
}

fn map_each(seen: &[f32], shown: &mut [f32], map: impl Fn(f32) -> f32) {
    for (value, shown) in seen.iter().zip(shown) {
        *shown = map(*value);
    }
}

fn cast_value(to: ElementType, value: f32) -> f32 {
    match to {
        ElementType::Float16 => to_half_precision(value),
        ElementType::Uint8 => value.trunc(),
    }
}

/// The nearest number of half precision, of two equally near ones the even one.
fn to_half_precision(value: f32) -> f32 {
    /// The largest.
    const MAX: f32 = 65_504.0;
    /// The smallest with all its bits.
    const MIN_NORMAL: f32 = 1.0 / 16_384.0;
    /// The distance of those below it.
    const STEP: f32 = 1.0 / 16_777_216.0;
    /// Bits that `f32` has in addition.
    const EXTRA_BITS: u32 = 13;
    if value.abs() < MIN_NORMAL {
        return (value / STEP).round_ties_even() * STEP;
    }
    let bits = value.to_bits();
    let is_odd = bits >> EXTRA_BITS & 1;
    let half_a_step = (1 << (EXTRA_BITS - 1)) - 1 + is_odd;
    let rounded = f32::from_bits((bits + half_a_step) >> EXTRA_BITS << EXTRA_BITS);
    rounded.clamp(-MAX, MAX)
}

struct Observations {
    map: Map,
    width: usize,
    inner_width: usize,
    /// Room for what is inside, `[B, V]`.
    seen: Vec<f32>,
}

impl Layer for Observations {
    type State = ();

    fn reset(
        &mut self,
        _state: &mut (),
        inner: &mut dyn BatchedEnvironment,
        index: usize,
        random: Random,
        observation: &mut [f32],
    ) -> Result<(), EnvironmentFault> {
        let seen = &mut self.seen[index * self.inner_width..][..self.inner_width];
        inner.reset(index, random, seen)?;
        self.map.apply(seen, observation);
        Ok(())
    }

    fn step(
        &mut self,
        _states: &mut [()],
        inner: &mut Inner<'_>,
        actions: &[f32],
        output: StepOutput<'_>,
    ) -> Result<(), EnvironmentFault> {
        let (observations, output) = output.observed_in(&mut self.seen);
        inner.step(actions, output)?;
        let rows = observations.chunks_exact_mut(self.width);
        let seen = self.seen.chunks_exact(self.inner_width);
        for (index, (row, seen)) in rows.zip(seen).enumerate() {
            if inner.is_active(index) {
                self.map.apply(seen, row);
            }
        }
        Ok(())
    }

    fn observe(&self, states: &[()], inner: &dyn BatchedEnvironment, observations: &mut [f32]) {
        let mut seen = vec![0.0; states.len() * self.inner_width];
        inner.observe(&mut seen);
        let rows = observations.chunks_exact_mut(self.width);
        for (row, seen) in rows.zip(seen.chunks_exact(self.inner_width)) {
            self.map.apply(seen, row);
        }
    }

    fn shows_what_is_inside(&self) -> bool {
        matches!(self.map, Map::Same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_rounds_to_the_nearest_and_to_even() {
        for (value, rounded) in [
            (0.0, 0.0),
            (-0.0, -0.0),
            (1.0, 1.0),
            (-0.1, -0.099_975_586),
            // Halfway between 1 and its successor 1 + 2^-10, and between that and 1 + 2^-9.
            (1.0 + 2.0_f32.powi(-11), 1.0),
            (1.0 + 3.0 * 2.0_f32.powi(-11), 1.0 + 2.0_f32.powi(-9)),
            (1.0 + 2.0_f32.powi(-11) + 2.0_f32.powi(-20), 1.000_976_6),
            (2.0_f32.powi(-24), 2.0_f32.powi(-24)),
            (2.0_f32.powi(-25), 0.0),
            (3.0 * 2.0_f32.powi(-25), 2.0_f32.powi(-23)),
            (65_519.0, 65_504.0),
            (1e30, 65_504.0),
            (-1e30, -65_504.0),
        ] {
            assert_eq!(
                to_half_precision(value).to_bits(),
                f32::to_bits(rounded),
                "{value}"
            );
        }
        assert!(to_half_precision(f32::NAN).is_nan());
    }
}
