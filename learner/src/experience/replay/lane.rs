//! A lane: the consecutive steps of one environment, in a ring of rows.
//!
//! A row is an observation and the step taken from it: `[observation, action, reward, flags]`, as
//! `u32` words next to each other, so that a step and its successor share a cache line or two. The
//! observation after a step is the next row's and is not stored twice. Rows are numbered from the
//! lane's beginning and never renumbered; the number of a row is its generation stamp.
//!
//! ```text
//! row      7    8    9     10      11   12          a step was truncated in row 9
//!          step step step  final   step pending
//! elapsed  4    5    6     7       0    1
//! ```
//!
//! The newest row is **pending**: its observation is known, its action is not. A truncated step is
//! followed by a **final** row, which holds the observation in which its episode ended and no step.
//! Where an unroll does not continue the one before it, the pending row becomes a final one: what
//! was cut off there is a truncation. A terminated step is followed by the next episode's first row.
//!
//! Images go to a ring of their own, as bytes, one frame a row, whatever the depth of the stacks.

use std::collections::VecDeque;

use rookery_common::unroll::{FrameLayout, UnrollShape, pixel_value};
use rookery_common::wrappers::StackPadding;
use serde::{Deserialize, Serialize};

use super::pages::PagedRing;
use super::snapshot::RestoreError;

/// What an observation is, and how it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObservationLayout {
    /// Rows of `f32`.
    Columns {
        /// Values of a row.
        width: usize,
    },
    /// Images, kept as bytes and sampled as stacks of the newest ones in `f32`, scaled by 1/255.
    ///
    /// A row is one frame, whole numbers from 0 to 255. A stack is `[stack, size]`, the oldest frame
    /// first, made as [`rookery_common::unroll::FrameLayout`] has it. An episode that had begun before
    /// its lane did is taken to begin with the lane's first frame.
    Frames {
        /// Pixels of a frame, all channels together.
        size: usize,
        /// Frames of a stack.
        stack: usize,
        /// What stands before an episode's first frame.
        padding: StackPadding,
    },
}

impl ObservationLayout {
    /// That of unrolls of this shape.
    #[must_use]
    pub const fn of(shape: &UnrollShape) -> Self {
        match shape.frames {
            None => Self::Columns {
                width: shape.observation_width,
            },
            Some(FrameLayout {
                size,
                stack,
                padding,
            }) => Self::Frames {
                size,
                stack,
                padding,
            },
        }
    }

    /// Values of an observation in a row.
    #[must_use]
    pub const fn row_width(self) -> usize {
        match self {
            Self::Columns { width } => width,
            Self::Frames { size, .. } => size,
        }
    }

    /// Values of an observation in a batch.
    #[must_use]
    pub const fn batch_width(self) -> usize {
        match self {
            Self::Columns { width } => width,
            Self::Frames { size, stack, .. } => size * stack,
        }
    }

    /// Whether zeros stand before an episode's first frame.
    const fn is_zero_padded(self) -> bool {
        matches!(
            self,
            Self::Frames {
                padding: StackPadding::Zero,
                ..
            }
        )
    }

    /// Frames before the newest that an observation in a batch holds.
    const fn context(self) -> u64 {
        match self {
            Self::Columns { .. } => 0,
            Self::Frames { stack, .. } => stack as u64 - 1,
        }
    }
}

/// How rows are laid out, the same in every lane.
#[derive(Clone, Debug)]
pub(super) struct RowLayout {
    pub(super) observation: ObservationLayout,
    pub(super) action_width: usize,
    pub(super) n_step: u64,
    pub(super) num_slots: usize,
}

impl RowLayout {
    /// Words of the observation that stand in the row itself.
    #[inline]
    const fn observation_words(&self) -> usize {
        match self.observation {
            ObservationLayout::Columns { width } => width,
            ObservationLayout::Frames { .. } => 0,
        }
    }

    /// Words of a row.
    pub(super) const fn words(&self) -> usize {
        self.observation_words() + self.action_width + 2
    }

    /// Bytes of a row, its frame included.
    pub(super) const fn row_bytes(&self) -> usize {
        let frame = match self.observation {
            ObservationLayout::Columns { .. } => 0,
            ObservationLayout::Frames { size, .. } => size,
        };
        self.words() * size_of::<u32>() + frame
    }
}

/// The last word of a row: two flags, and above them the steps since the episode began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(u32);

impl Flags {
    const TERMINATED: u32 = 1;
    const FINAL: u32 = 2;
    const MAX_ELAPSED: u32 = u32::MAX >> 2;

    const fn new(elapsed: u32) -> Self {
        Self(elapsed << 2)
    }

    const fn with(self, flag: u32) -> Self {
        Self(self.0 | flag)
    }

    /// Whether the row's step ended its episode in a terminal state.
    pub(super) const fn is_terminated(self) -> bool {
        self.0 & Self::TERMINATED != 0
    }

    /// Whether the row holds the observation in which a truncated episode ended, and no step.
    pub(super) const fn is_final(self) -> bool {
        self.0 & Self::FINAL != 0
    }

    /// What `elapsed` is one step later.
    const fn following(self) -> u32 {
        if self.elapsed() < Self::MAX_ELAPSED {
            self.elapsed() + 1
        } else {
            Self::MAX_ELAPSED
        }
    }

    /// Steps of the episode before this row, up to 2^30 - 1.
    pub(super) const fn elapsed(self) -> u32 {
        self.0 >> 2
    }
}

/// One step as it comes out of an unroll.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    pub(super) action: &'a [f32],
    pub(super) reward: f32,
    pub(super) terminated: bool,
    /// Where it was truncated and not terminated.
    pub(super) final_observation: Option<&'a [f32]>,
    /// The one to act on next.
    pub(super) next_observation: &'a [f32],
}

/// A view of one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    words: &'a [u32],
    observation_words: usize,
}

impl<'a> Row<'a> {
    /// The observation, where it is columns.
    #[inline]
    pub(super) fn observation(self) -> &'a [f32] {
        bytemuck::cast_slice(&self.words[..self.observation_words])
    }

    #[inline]
    pub(super) fn action(self) -> &'a [f32] {
        bytemuck::cast_slice(&self.words[self.observation_words..self.words.len() - 2])
    }

    #[inline]
    pub(super) fn reward(self) -> f32 {
        f32::from_bits(self.words[self.words.len() - 2])
    }

    #[inline]
    pub(super) fn flags(self) -> Flags {
        Flags(self.words[self.words.len() - 1])
    }
}

/// The steps of one environment. Cloning shares what is stored.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) rows: PagedRing<u32>,
    pub(super) frames: Option<PagedRing<u8>>,
    /// The oldest row that is stored.
    pub(super) first: u64,
    /// The pending row; where there is one, rows `first..=next` are stored.
    pub(super) next: u64,
    /// Whether there is a pending row.
    pub(super) has_begun: bool,
    /// The newest row in slot 0.
    origin: u64,
    /// The oldest row that can be sampled: all it needs is stored.
    sampleable_from: u64,
    /// Final rows at or after `sampleable_from`.
    num_finals: u64,
    /// Rows of the last steps of episodes, ascending.
    ends: VecDeque<u64>,
}

impl Lane {
    pub(super) fn new(layout: &RowLayout) -> Self {
        let frames = match layout.observation {
            ObservationLayout::Columns { .. } => None,
            ObservationLayout::Frames { size, .. } => Some(PagedRing::new(size, layout.num_slots)),
        };
        Self {
            rows: PagedRing::new(layout.words(), layout.num_slots),
            frames,
            first: 0,
            next: 0,
            has_begun: false,
            origin: 0,
            sampleable_from: 0,
            num_finals: 0,
            ends: VecDeque::new(),
        }
    }

    /// Begins with this observation at an episode's start, or goes on from the observation that is
    /// pending. Nothing before it joins with anything after it where `is_continuous` is false.
    pub(super) fn begin(&mut self, layout: &RowLayout, observation: &[f32], is_continuous: bool) {
        if !self.has_begun {
            self.has_begun = true;
            return self.write(layout, observation, Flags::new(0));
        }
        if is_continuous {
            return;
        }
        let flags = self.row(layout, self.next).flags();
        if flags.elapsed() > 0 {
            self.ends.push_back(self.next - 1);
            self.num_finals += 1;
            let slot = self.slot(layout, self.next);
            self.set_flags(slot, flags.with(Flags::FINAL));
            self.advance(layout);
        }
        self.write(layout, observation, Flags::new(0));
    }

    /// Completes the pending row by its step, and makes the observation after it pending.
    pub(super) fn push(&mut self, layout: &RowLayout, step: Step<'_>) {
        let slot = self.slot(layout, self.next);
        let words = self.rows.row_mut(slot);
        let (before, last) = words.split_at_mut(words.len() - 2);
        bytemuck::cast_slice_mut(&mut before[layout.observation_words()..])
            .copy_from_slice(step.action);
        let flags = Flags(last[1]);
        last[0] = step.reward.to_bits();
        let mut elapsed = flags.following();
        if step.terminated {
            last[1] = flags.with(Flags::TERMINATED).0;
            self.ends.push_back(self.next);
            elapsed = 0;
        } else if let Some(observation) = step.final_observation {
            self.ends.push_back(self.next);
            self.num_finals += 1;
            self.advance(layout);
            self.write(layout, observation, Flags::new(elapsed).with(Flags::FINAL));
            elapsed = 0;
        }
        self.advance(layout);
        self.write(layout, step.next_observation, Flags::new(elapsed));
    }

    /// Brings the range of what can be sampled up to date after insertions.
    pub(super) fn settle(&mut self, layout: &RowLayout) {
        // A stack needs its context, as far as the episode has any.
        while self.sampleable_from < self.next {
            let flags = self.row(layout, self.sampleable_from).flags();
            let context = u64::from(flags.elapsed()).min(layout.observation.context());
            if self.sampleable_from >= self.first + context {
                break;
            }
            self.num_finals -= u64::from(flags.is_final());
            self.sampleable_from += 1;
        }
    }

    /// The rows that can be sampled, but for the final ones among them: those that have `n`
    /// successors in their episode, or its end before that.
    pub(super) fn sampleable(&self, layout: &RowLayout) -> std::ops::Range<u64> {
        if !self.has_begun {
            return 0..0;
        }
        let episode = self.next - u64::from(self.row(layout, self.next).flags().elapsed());
        let end = episode.max((self.next + 1).saturating_sub(layout.n_step));
        self.sampleable_from..end.clamp(self.sampleable_from, self.next)
    }

    /// Number of rows that can be sampled.
    pub(super) fn num_items(&self, layout: &RowLayout) -> u64 {
        let range = self.sampleable(layout);
        // Every episode that ended ended before the range does.
        (range.end - range.start).saturating_sub(self.num_finals)
    }

    /// The row with this number, which is stored.
    #[inline]
    pub(super) fn row(&self, layout: &RowLayout, row: u64) -> Row<'_> {
        Row {
            words: self.rows.row(self.slot(layout, row)),
            observation_words: layout.observation_words(),
        }
    }

    /// Writes the observation of a row as a batch has it.
    #[inline]
    pub(super) fn observe(&self, layout: &RowLayout, row: u64, observation: &mut [f32]) {
        let Some(frames) = &self.frames else {
            observation.copy_from_slice(self.row(layout, row).observation());
            return;
        };
        let size = layout.observation.row_width();
        let elapsed = u64::from(self.row(layout, row).flags().elapsed());
        let is_zero_padded = layout.observation.is_zero_padded();
        for (age, part) in (0..=layout.observation.context())
            .rev()
            .zip(observation.chunks_exact_mut(size))
        {
            if age > elapsed && is_zero_padded {
                part.fill(0.0);
                continue;
            }
            let frame = frames.row(self.slot(layout, row - age.min(elapsed)));
            for (value, byte) in part.iter_mut().zip(frame) {
                *value = pixel_value(*byte);
            }
        }
    }

    /// The first and the last stored step of the episode that `row` is a step of; of an episode that
    /// goes on, the newest one is the last.
    pub(super) fn episode(&self, layout: &RowLayout, row: u64) -> (u64, u64) {
        let elapsed = u64::from(self.row(layout, row).flags().elapsed());
        let begin = row.saturating_sub(elapsed).max(self.first);
        let end = self.ends.partition_point(|end| *end < row);
        (begin, self.ends.get(end).copied().unwrap_or(self.next - 1))
    }

    /// The slot of a row.
    #[inline]
    pub(super) fn slot(&self, layout: &RowLayout, row: u64) -> usize {
        if row >= self.origin {
            (row - self.origin) as usize
        } else {
            (row + layout.num_slots as u64 - self.origin) as usize
        }
    }

    /// The row in a slot that holds a stored one.
    #[inline]
    pub(super) fn row_in(&self, layout: &RowLayout, slot: usize) -> u64 {
        let row = self.origin + slot as u64;
        if row <= self.next {
            row
        } else {
            row - layout.num_slots as u64
        }
    }

    /// Bytes claimed so far.
    pub(super) fn num_bytes(&self) -> usize {
        let frames = self.frames.as_ref().map_or(0, PagedRing::num_bytes);
        self.rows.num_bytes() + frames + self.ends.capacity() * size_of::<u64>()
    }

    /// Moves on to the next row, dropping the oldest where the ring is full.
    fn advance(&mut self, layout: &RowLayout) {
        self.next += 1;
        if self.next - self.origin == layout.num_slots as u64 {
            self.origin = self.next;
        }
        if self.next - self.first < layout.num_slots as u64 {
            return;
        }
        if self.sampleable_from == self.first {
            // Still there: it is the row that will be overwritten.
            let is_final = Flags(self.rows.row(self.next_slot())[layout.words() - 1]).is_final();
            self.num_finals -= u64::from(is_final);
            self.sampleable_from += 1;
        }
        self.first += 1;
        while self.ends.front().is_some_and(|end| *end < self.first) {
            self.ends.pop_front();
        }
    }

    const fn next_slot(&self) -> usize {
        (self.next - self.origin) as usize
    }

    /// Writes observation and flags of the pending row.
    fn write(&mut self, layout: &RowLayout, observation: &[f32], flags: Flags) {
        let slot = self.next_slot();
        if let Some(frames) = &mut self.frames {
            for (byte, value) in frames.row_mut(slot).iter_mut().zip(observation) {
                *byte = *value as u8;
            }
        }
        let words = self.rows.row_mut(slot);
        let width = layout.observation_words();
        bytemuck::cast_slice_mut(&mut words[..width]).copy_from_slice(&observation[..width]);
        // Nothing of the row that was here before shows through a final or a pending one.
        words[width..].fill(0);
        words[layout.words() - 1] = flags.0;
    }

    fn set_flags(&mut self, slot: usize, flags: Flags) {
        if let Some(last) = self.rows.row_mut(slot).last_mut() {
            *last = flags.0;
        }
    }

    /// Takes on rows `first..=next`, whose words and frames `read` writes to their slots, and derives
    /// the rest from them. The first error of `read` ends it, as do rows that no lane can hold.
    pub(super) fn restore(
        layout: &RowLayout,
        first: u64,
        next: u64,
        mut read: impl FnMut(&mut [u32], Option<&mut [u8]>) -> Result<(), RestoreError>,
    ) -> Result<Self, RestoreError> {
        let mut lane = Self::new(layout);
        (lane.first, lane.next, lane.has_begun) = (first, next, true);
        lane.origin = next - next % layout.num_slots as u64;
        // Pages are claimed in the order of the slots, whatever row comes first.
        let highest = if first >= lane.origin {
            lane.next_slot()
        } else {
            layout.num_slots - 1
        };
        lane.rows.row_mut(highest);
        if let Some(frames) = &mut lane.frames {
            frames.row_mut(highest);
        }
        let mut expected = None;
        for row in first..=next {
            let slot = lane.slot(layout, row);
            let frame = lane.frames.as_mut().map(|frames| frames.row_mut(slot));
            read(lane.rows.row_mut(slot), frame)?;
            let flags = lane.row(layout, row).flags();
            let is_possible = match expected {
                None => u64::from(flags.elapsed()) <= first,
                Some(elapsed) => flags.elapsed() == elapsed,
            };
            if !is_possible || (flags.is_final() && (flags.is_terminated() || row == next)) {
                return Err(RestoreError::ImpossibleRow { row });
            }
            let ended = flags.is_final() || flags.is_terminated();
            expected = Some(if ended { 0 } else { flags.following() });
            lane.num_finals += u64::from(flags.is_final());
            if ended && row >= first + u64::from(flags.is_final()) {
                lane.ends.push_back(row - u64::from(flags.is_final()));
            }
        }
        lane.sampleable_from = first;
        lane.settle(layout);
        Ok(lane)
    }
}
