//! Observations of an unroll. Images travel and are kept as single frames of bytes, and the stacks that a
//! policy sees are rebuilt from them: by the function here, wherever that is.
//!
//! # Stacks
//! A stack holds the newest `stack` frames of an episode, the oldest first. Where the episode is younger,
//! its first frame is repeated, as Gymnasium's `FrameStackObservation` does, or frames of zeros stand before
//! it, as in ale-py's vector environment; the layout says which. So no stack ever holds a frame of another
//! episode (T27). Before row 0 of an unroll stand the `stack - 1` older frames of row 0's
//! stack, whatever they are.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Column, Unroll, UnrollShape};
use crate::spaces::Space;
use crate::wrappers::StackPadding;

/// How an observation row is made of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameLayout {
    /// Pixels of a frame, all channels together.
    pub size: usize,
    /// Frames of a row.
    pub stack: usize,
    /// What stands before an episode's first frame.
    #[serde(default)]
    pub padding: StackPadding,
}

impl FrameLayout {
    /// That of a space of images; none of any other.
    #[must_use]
    pub fn of(observation: &Space) -> Option<Self> {
        match observation {
            Space::Frames {
                frame,
                stack,
                padding,
            } => Some(Self {
                size: frame.iter().product(),
                stack: *stack,
                padding: *padding,
            }),
            Space::Box { .. } | Space::Discrete { .. } | Space::MultiDiscrete { .. } => None,
        }
    }
}

/// A value in an observation of images that is no pixel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an image holds {value}, expected pixels: whole numbers of 255ths from 0 to 1")]
pub struct PixelError {
    /// The value, as text.
    pub value: String,
}

/// A pixel as a policy sees it.
#[inline]
#[must_use]
pub fn pixel_value(pixel: u8) -> f32 {
    f32::from(pixel) / 255.0
}

/// The pixels of values that a policy sees, appended to `pixels`.
///
/// # Errors
/// The first value that is no pixel.
pub fn encode_pixels(values: &[f32], pixels: &mut Vec<u8>) -> Result<(), PixelError> {
    pixels.reserve(values.len());
    for &value in values {
        // Casts saturate, and what is not a number becomes 0: both differ from the value.
        let pixel = (value * 255.0).round() as u8;
        if pixel_value(pixel) != value {
            return Err(PixelError {
                value: value.to_string(),
            });
        }
        pixels.push(pixel);
    }
    Ok(())
}

/// Observations of an unroll, as they travel.
#[derive(Clone, Debug, PartialEq)]
pub enum Observations {
    /// Rows, `[.., B, W]`.
    Rows(Column<f32>),
    /// Frames, `[.., B, size]`: a byte for each pixel.
    Frames(Column<u8>),
}

impl Observations {
    /// Number of elements: values of rows, or pixels.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Rows(column) => column.len(),
            Self::Frames(column) => column.len(),
        }
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory, shared.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Rows(column) => column.bytes(),
            Self::Frames(column) => column.bytes(),
        }
    }

    /// The rows, where these are rows.
    #[must_use]
    pub const fn rows(&self) -> Option<&Column<f32>> {
        match self {
            Self::Rows(column) => Some(column),
            Self::Frames(_) => None,
        }
    }

    /// The pixels, where these are frames.
    #[must_use]
    pub fn pixels(&self) -> Option<&[u8]> {
        match self {
            Self::Rows(_) => None,
            Self::Frames(column) => Some(&column.data),
        }
    }
}

impl From<Vec<f32>> for Observations {
    fn from(rows: Vec<f32>) -> Self {
        Self::Rows(rows.into())
    }
}

impl From<Vec<u8>> for Observations {
    fn from(frames: Vec<u8>) -> Self {
        Self::Frames(frames.into())
    }
}

impl UnrollShape {
    /// Values or pixels that an unroll's observations have.
    #[must_use]
    pub const fn observation_len(&self) -> usize {
        let rows = self.unroll_length + 1;
        match self.frames {
            None => rows * self.envs_per_shard * self.observation_width,
            Some(FrameLayout { size, stack, .. }) => {
                (stack - 1 + rows) * self.envs_per_shard * size
            }
        }
    }

    /// Values or pixels of one final observation.
    #[must_use]
    pub const fn final_len(&self) -> usize {
        match self.frames {
            None => self.observation_width,
            Some(FrameLayout { size, .. }) => size,
        }
    }
}

impl Unroll {
    /// Writes the observations as a policy sees them.
    ///
    /// # Shapes
    /// `rows` is `[T + 1, B, W]`.
    ///
    /// # Panics
    /// If the length differs or the unroll has another shape; [`Unroll::validate`] checks that.
    pub fn copy_observations(&self, shape: &UnrollShape, rows: &mut [f32]) {
        let pixels = match &self.observation {
            Observations::Rows(column) => return column.copy_to(rows),
            Observations::Frames(column) => &column.data[..],
        };
        let stacks = Stacks::new(self, shape);
        assert_eq!(
            rows.len(),
            (shape.unroll_length + 1) * shape.envs_per_shard * shape.observation_width,
            "[T + 1, B, W]"
        );
        let mut rows = rows.chunks_exact_mut(shape.observation_width);
        for t in 0..=shape.unroll_length {
            for env in 0..shape.envs_per_shard {
                let Some(row) = rows.next() else { return };
                stacks.write(t, env, row.chunks_exact_mut(stacks.layout.size), pixels);
            }
        }
    }

    /// Writes the final observations as a policy sees them.
    ///
    /// # Shapes
    /// `rows` is `[F, W]`.
    ///
    /// # Panics
    /// As [`Unroll::copy_observations`].
    pub fn copy_finals(&self, shape: &UnrollShape, rows: &mut [f32]) {
        let (pixels, finals) = match (&self.observation, &self.final_observation) {
            (Observations::Frames(pixels), Observations::Frames(finals)) => {
                (&pixels.data[..], &finals.data[..])
            }
            (_, Observations::Rows(column)) => return column.copy_to(rows),
            (Observations::Rows(_), Observations::Frames(_)) => {
                unreachable!("a validated unroll holds one kind of observations")
            }
        };
        let stacks = Stacks::new(self, shape);
        let size = stacks.layout.size;
        assert_eq!(
            rows.len(),
            self.final_index.len() * shape.observation_width,
            "[F, W]"
        );
        let newest = (stacks.layout.stack - 1) * size;
        for ((step, row), last) in self
            .final_index
            .iter()
            .zip(rows.chunks_exact_mut(shape.observation_width))
            .zip(finals.chunks_exact(size))
        {
            let (t, env) = (
                step as usize / shape.envs_per_shard,
                step as usize % shape.envs_per_shard,
            );
            // The stack before the step without its oldest frame, and then the last one.
            let older = row[..newest].chunks_exact_mut(size);
            stacks.write(t, env, older, pixels);
            write_frame(&mut row[newest..], last);
        }
    }
}

/// Where the frames of each row's stack stand.
struct Stacks {
    layout: FrameLayout,
    num_envs: usize,
    /// For each row, the row in which its episode began; `None` where that was before the unroll.
    began: Vec<Option<usize>>,
}

impl Stacks {
    fn new(unroll: &Unroll, shape: &UnrollShape) -> Self {
        let layout = shape.frames.unwrap_or(FrameLayout {
            size: shape.observation_width,
            stack: 1,
            padding: StackPadding::Reset,
        });
        let num_envs = shape.envs_per_shard;
        let mut began = vec![None; (shape.unroll_length + 1) * num_envs];
        for row in num_envs..began.len() {
            let step = row - num_envs;
            let ended = unroll.terminated.data[step] | unroll.truncated.data[step] != 0;
            began[row] = if ended {
                Some(row / num_envs)
            } else {
                began[step]
            };
        }
        Self {
            layout,
            num_envs,
            began,
        }
    }

    /// Writes as many of the newest frames of a row's stack as there are `places`, the oldest first.
    fn write<'a>(
        &self,
        t: usize,
        env: usize,
        places: impl ExactSizeIterator<Item = &'a mut [f32]>,
        pixels: &[u8],
    ) {
        let FrameLayout {
            size,
            stack,
            padding,
        } = self.layout;
        let context = stack - 1;
        let first = self.began[t * self.num_envs + env].map_or(0, |began| began + context);
        let num = places.len();
        for (place, age) in places.zip((0..num).rev()) {
            let frame = t + context - age;
            if frame < first && padding == StackPadding::Zero {
                place.fill(0.0);
                continue;
            }
            let frame = frame.max(first);
            let start = (frame * self.num_envs + env) * size;
            write_frame(place, &pixels[start..start + size]);
        }
    }
}

fn write_frame(values: &mut [f32], pixels: &[u8]) {
    for (value, pixel) in values.iter_mut().zip(pixels) {
        *value = pixel_value(*pixel);
    }
}

/// Takes the observations of an unroll as they are seen and gives them as they travel.
#[derive(Debug)]
pub struct ObservationLog {
    frames: Option<FrameLayout>,
    width: usize,
    rows: Vec<f32>,
    pixels: Vec<u8>,
    finals: Vec<f32>,
    final_pixels: Vec<u8>,
}

impl ObservationLog {
    /// Room for an unroll of this shape.
    #[must_use]
    pub fn new(shape: &UnrollShape) -> Self {
        let len = shape.observation_len();
        let (rows, pixels) = match shape.frames {
            None => (Vec::with_capacity(len), Vec::new()),
            Some(_) => (Vec::new(), Vec::with_capacity(len)),
        };
        Self {
            frames: shape.frames,
            width: shape.observation_width,
            rows,
            pixels,
            finals: Vec::new(),
            final_pixels: Vec::new(),
        }
    }

    /// Takes the next row of every environment, `[B, W]`: of images its newest frames, and before the
    /// first row those that are older.
    ///
    /// # Errors
    /// Where images hold something else than pixels.
    pub fn push(&mut self, rows: &[f32]) -> Result<(), PixelError> {
        let Some(FrameLayout { size, stack, .. }) = self.frames else {
            self.rows.extend_from_slice(rows);
            return Ok(());
        };
        let oldest = if self.pixels.is_empty() { 0 } else { stack - 1 };
        for frame in oldest..stack {
            for row in rows.chunks_exact(self.width) {
                encode_pixels(&row[frame * size..][..size], &mut self.pixels)?;
            }
        }
        Ok(())
    }

    /// Takes final observations, `[_, W]`: of images their last frames.
    ///
    /// # Errors
    /// As [`ObservationLog::push`].
    pub fn push_finals(&mut self, rows: &[f32]) -> Result<(), PixelError> {
        let Some(FrameLayout { size, .. }) = self.frames else {
            self.finals.extend_from_slice(rows);
            return Ok(());
        };
        for row in rows.chunks_exact(self.width) {
            encode_pixels(&row[self.width - size..], &mut self.final_pixels)?;
        }
        Ok(())
    }

    /// The observations and the final ones.
    #[must_use]
    pub fn finish(self) -> (Observations, Observations) {
        match self.frames {
            None => (self.rows.into(), self.finals.into()),
            Some(_) => (self.pixels.into(), self.final_pixels.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::unroll::tests::unroll;

    const SIZE: usize = 2;

    /// Plays environments whose frames say what they are, keeps every stack as an environment would, and
    /// checks that an unroll gives the same ones back.
    fn round_trip(
        stack: usize,
        padding: StackPadding,
        num_envs: usize,
        ends: &[u8],
        warmup: usize,
    ) {
        let unroll_length = ends.len() / num_envs;
        let shape = UnrollShape {
            unroll_length,
            envs_per_shard: num_envs,
            observation_width: stack * SIZE,
            action_width: 1,
            state_width: 0,
            frames: Some(FrameLayout {
                size: SIZE,
                stack,
                padding,
            }),
        };
        let mut next = 0_u8;
        let mut frame = || {
            next = next.wrapping_add(7);
            [pixel_value(next), pixel_value(next ^ 0x5a)]
        };
        let begun = |frame: [f32; SIZE]| match padding {
            StackPadding::Reset => frame.repeat(stack),
            StackPadding::Zero => [vec![0.0; (stack - 1) * SIZE], frame.to_vec()].concat(),
        };
        let mut stacks: Vec<Vec<f32>> = (0..num_envs).map(|_| begun(frame())).collect();
        let shift = |stack: &mut Vec<f32>, frame: [f32; SIZE]| {
            stack.drain(..SIZE);
            stack.extend(frame);
        };
        for _ in 0..warmup {
            for stack in &mut stacks {
                shift(stack, frame());
            }
        }
        let mut log = ObservationLog::new(&shape);
        let (mut rows, mut finals) = (stacks.concat(), Vec::new());
        log.push(&rows).unwrap();
        let mut spoilt = unroll();
        let (mut terminated, mut truncated, mut final_index) = (vec![], vec![], vec![]);
        for (step, &end) in ends[..unroll_length * num_envs].iter().enumerate() {
            let env = step % num_envs;
            terminated.push(u8::from(end == 1));
            truncated.push(u8::from(end == 2));
            if end == 2 {
                let mut last = stacks[env].clone();
                shift(&mut last, frame());
                final_index.push(step as u32);
                log.push_finals(&last).unwrap();
                finals.extend(last);
            }
            if end > 0 {
                stacks[env] = begun(frame());
            } else {
                shift(&mut stacks[env], frame());
            }
            if env + 1 == num_envs {
                log.push(&stacks.concat()).unwrap();
                rows.extend(stacks.concat());
            }
        }
        (spoilt.observation, spoilt.final_observation) = log.finish();
        spoilt.terminated = terminated.into();
        spoilt.truncated = truncated.into();
        spoilt.final_index = final_index.into();
        assert_eq!(spoilt.observation.len(), shape.observation_len());
        let mut got = vec![0.0; rows.len()];
        spoilt.copy_observations(&shape, &mut got);
        assert_eq!(got, rows);
        let mut got = vec![0.0; finals.len()];
        spoilt.copy_finals(&shape, &mut got);
        assert_eq!(got, finals);
    }

    proptest! {
        #[test]
        fn t27_stacks_survive_and_never_cross_an_episode_s_start(
            stack in 1_usize..5,
            padding in prop_oneof![Just(StackPadding::Reset), Just(StackPadding::Zero)],
            num_envs in 1_usize..4,
            ends in prop::collection::vec(prop_oneof![6 => Just(0_u8), 1 => Just(1), 1 => Just(2)], 3..60),
            warmup in 0_usize..6,
        ) {
            round_trip(stack, padding, num_envs, &ends, warmup);
        }
    }

    #[test]
    fn every_pixel_survives_and_nothing_else_does() {
        let values: Vec<f32> = (0..=255).map(pixel_value).collect();
        let mut pixels = Vec::new();
        encode_pixels(&values, &mut pixels).unwrap();
        assert_eq!(pixels, (0..=255).collect::<Vec<u8>>());
        for value in [0.5, -0.25, 1.5, f32::NAN, f32::INFINITY, 1.0 / 254.0] {
            let error = encode_pixels(&[0.0, value], &mut Vec::new()).unwrap_err();
            assert_eq!(error.value, value.to_string());
        }
    }
}
