//! The store in a checkpoint.
//!
//! A [`ReplaySnapshot`] shares the pages of rows with the store; the store copies a page when it next
//! writes to it. So taking one costs a pointer for each page, and the priorities, and another thread
//! writes it while training goes on.
//!
//! # Format
//! A `u64` with the length of the header; the header as a [snapshot](rookery_common::snapshot); then
//! for each lane its stored rows from the oldest to the pending one, each row's words followed by its
//! frame where there are frames; then, where there are priorities, an `f64` for each of those rows,
//! lane after lane. Numbers are little-endian. All else follows from the rows.

use std::io::{self, Read, Write};

use rookery_common::snapshot::{self, SnapshotError};
use serde::{Deserialize, Serialize};

use super::lane::{Lane, ObservationLayout};
use super::options::{OptionsError, ReplayOptions};
use super::store::{ReplayStore, runs};

const FORMAT: u8 = 1;
/// Errors are `f32`, so that no priority comes near it.
const MAX_PRIORITY: f64 = 1e100;
/// A header beyond this is none of ours: a lane takes a few bytes.
const MAX_HEADER_BYTES: u64 = 64 << 20;

/// A store as it was at one moment.
#[derive(Clone, Debug)]
pub struct ReplaySnapshot {
    store: ReplayStore,
}

/// Why bytes cannot become a store.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The options make no store.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The bytes cannot be read, or end early.
    #[error("the replay store cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The header is no snapshot.
    #[error("the replay store's header is malformed: {0}")]
    Header(#[from] SnapshotError),
    /// The header is larger than any that is ours.
    #[error("the replay store's header has {got} bytes, expected at most {MAX_HEADER_BYTES}")]
    HeaderSize {
        /// Its size.
        got: u64,
    },
    /// It was saved by a run with other extents.
    #[error("the replay store was saved with {field} {got}, this run has {expected}")]
    Mismatch {
        /// What differs.
        field: &'static str,
        /// Of this run.
        expected: String,
        /// Of the one that saved it.
        got: String,
    },
    /// A row that cannot follow the one before it.
    #[error("row {row} of a lane of the replay store cannot occur; the file is damaged")]
    ImpossibleRow {
        /// Its number.
        row: u64,
    },
    /// A priority that is no priority.
    #[error("a priority in the replay store is {got}; the file is damaged")]
    ImpossiblePriority {
        /// The priority.
        got: f64,
    },
    /// Bytes are left where the store should have ended.
    #[error("the replay store is followed by bytes that do not belong to it")]
    TrailingBytes,
}

#[derive(Serialize, Deserialize)]
struct Header {
    observation: ObservationLayout,
    action_width: usize,
    /// Oldest and pending row of each lane that has begun.
    lanes: Vec<Option<(u64, u64)>>,
    /// The highest priority so far, where there are priorities.
    highest_priority: Option<f64>,
}

impl ReplayStore {
    /// What is stored now, unchanged by what is inserted later.
    #[must_use]
    pub fn snapshot(&self) -> ReplaySnapshot {
        ReplaySnapshot {
            store: self.clone(),
        }
    }

    /// Reads a store that [`ReplaySnapshot::write_to`] has written. It samples exactly what the
    /// original does where the options are the same; where they allow fewer rows the oldest are
    /// dropped, where they allow more there is room.
    ///
    /// # Errors
    /// Where the bytes are anything else, or were saved by a run with other extents.
    pub fn restore(options: ReplayOptions, reader: &mut impl Read) -> Result<Self, RestoreError> {
        let mut store = Self::new(options)?;
        let header = read_header(reader)?;
        check(&header, &store)?;
        for (lane, stored) in store.lanes.iter_mut().zip(&header.lanes) {
            let Some((oldest, next)) = *stored else {
                continue;
            };
            let room = store.layout.num_slots as u64 - 1;
            let first = oldest.max(next.saturating_sub(room));
            let mut words = vec![0_u32; store.layout.words()];
            let mut pixels = vec![0_u8; store.layout.row_bytes() - 4 * words.len()];
            for _ in oldest..first {
                reader.read_exact(bytemuck::cast_slice_mut(&mut words))?;
                reader.read_exact(&mut pixels)?;
            }
            *lane = Lane::restore(&store.layout, first, next, |words, frame| {
                reader.read_exact(bytemuck::cast_slice_mut(words))?;
                frame.map_or(Ok(()), |frame| reader.read_exact(frame))?;
                Ok(())
            })?;
        }
        if let Some(highest) = header.highest_priority {
            store.restore_priorities(highest, &header.lanes, reader)?;
        } else {
            store.begin_priorities();
        }
        if reader.read(&mut [0])? > 0 {
            return Err(RestoreError::TrailingBytes);
        }
        store.reindex();
        Ok(store)
    }

    fn restore_priorities(
        &mut self,
        highest: f64,
        stored: &[Option<(u64, u64)>],
        reader: &mut impl Read,
    ) -> Result<(), RestoreError> {
        let valid = |priority: f64| {
            if (0.0..=MAX_PRIORITY).contains(&priority) {
                Ok(priority)
            } else {
                Err(RestoreError::ImpossiblePriority { got: priority })
            }
        };
        let highest = valid(highest)?.max(f64::MIN_POSITIVE);
        let slots = self.layout.num_slots as u64;
        for (index, (lane, stored)) in self.lanes.iter().zip(stored).enumerate() {
            let Some((oldest, next)) = *stored else {
                continue;
            };
            let mut values = Vec::new();
            for row in oldest..=next {
                let mut bytes = [0; 8];
                reader.read_exact(&mut bytes)?;
                if row >= lane.first {
                    values.push(valid(f64::from_le_bytes(bytes))?);
                }
            }
            let Some(priorities) = &mut self.priorities else {
                continue;
            };
            let range = lane.sampleable(&self.layout);
            for (slot, rows) in runs(range, slots) {
                let priority = |row: u64| {
                    let value = values[(row - lane.first) as usize];
                    if lane.row(&self.layout, row).flags().is_final() {
                        0.0
                    } else if value > 0.0 {
                        value
                    } else {
                        // Other windows than those that it was saved with reach further.
                        highest
                    }
                };
                priorities.set(index * slots as usize + slot, rows.map(priority));
            }
        }
        if let Some(priorities) = &mut self.priorities {
            priorities.highest = highest;
        }
        Ok(())
    }
}

impl ReplaySnapshot {
    /// Bytes that [`write_to`](Self::write_to) writes, but for the header's few.
    #[must_use]
    pub fn num_bytes(&self) -> u64 {
        let priority = if self.store.priorities.is_some() {
            8
        } else {
            0
        };
        let row = (self.store.layout.row_bytes() + priority) as u64;
        let lanes = self.store.lanes.iter().filter(|lane| lane.has_begun);
        lanes.map(|lane| (lane.next + 1 - lane.first) * row).sum()
    }

    /// Writes everything that [`ReplayStore::restore`] needs. Many small writes: give it a buffered
    /// writer.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_to(&self, writer: &mut impl Write) -> io::Result<()> {
        let store = &self.store;
        let header = Header {
            observation: store.layout.observation,
            action_width: store.layout.action_width,
            lanes: store
                .lanes
                .iter()
                .map(|lane| lane.has_begun.then_some((lane.first, lane.next)))
                .collect(),
            highest_priority: store
                .priorities
                .as_ref()
                .map(|priorities| priorities.highest),
        };
        let mut bytes = Vec::new();
        snapshot::encode(FORMAT, &header, &mut bytes);
        writer.write_all(&(bytes.len() as u64).to_le_bytes())?;
        writer.write_all(&bytes)?;
        let begun = || {
            let lanes = store.lanes.iter().enumerate();
            lanes.filter(|(_, lane)| lane.has_begun)
        };
        for (_, lane) in begun() {
            for row in lane.first..=lane.next {
                let slot = lane.slot(&store.layout, row);
                writer.write_all(bytemuck::cast_slice(lane.rows.row(slot)))?;
                if let Some(frames) = &lane.frames {
                    writer.write_all(frames.row(slot))?;
                }
            }
        }
        if let Some(priorities) = &store.priorities {
            for (index, lane) in begun() {
                for row in lane.first..=lane.next {
                    let slot = lane.slot(&store.layout, row);
                    let priority = priorities.get(index * store.layout.num_slots + slot);
                    writer.write_all(&priority.to_le_bytes())?;
                }
            }
        }
        Ok(())
    }
}

fn read_header(reader: &mut impl Read) -> Result<Header, RestoreError> {
    let mut length = [0; 8];
    reader.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Err(RestoreError::HeaderSize { got: length });
    }
    // Memory is claimed as bytes come, not as the length says.
    let mut bytes = Vec::new();
    reader.take(length).read_to_end(&mut bytes)?;
    Ok(snapshot::decode_all(FORMAT, &bytes)?)
}

/// Checks that what was saved fits the store that is to hold it.
fn check(header: &Header, store: &ReplayStore) -> Result<(), RestoreError> {
    let differs = |field, expected: String, got: String| {
        if expected == got {
            Ok(())
        } else {
            Err(RestoreError::Mismatch {
                field,
                expected,
                got,
            })
        }
    };
    differs(
        "observations",
        format!("{:?}", store.layout.observation),
        format!("{:?}", header.observation),
    )?;
    differs(
        "actions of width",
        store.layout.action_width.to_string(),
        header.action_width.to_string(),
    )?;
    differs(
        "environments:",
        store.lanes.len().to_string(),
        header.lanes.len().to_string(),
    )?;
    for (first, next) in header.lanes.iter().flatten() {
        // Far from the end of `u64`, so that rows can be counted on.
        if first > next || *next > u64::MAX / 4 {
            return Err(RestoreError::ImpossibleRow { row: *next });
        }
    }
    Ok(())
}
