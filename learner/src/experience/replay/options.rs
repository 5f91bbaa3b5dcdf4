//! What a store is made of: the configuration, together with what the run's environment is.

use rookery_common::configuration::{ByteSize, HindsightStrategy, ReplayConfiguration};
use rookery_common::spaces::GoalSpec;
use rookery_common::unroll::UnrollShape;

use super::hindsight::Hindsight;
use super::lane::{ObservationLayout, RowLayout};
use super::priorities::PrioritisedOptions;

/// Bytes of the sum tree for each row: a leaf, and an eighth of it for each level above, together a
/// seventh.
const TREE_BYTES_PER_ROW: f64 = 8.0 * 8.0 / 7.0;

/// All that a store depends on besides what is inserted.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayOptions {
    /// The extents of every unroll.
    pub shape: UnrollShape,
    /// Shards of the run; each has `envs_per_shard` lanes.
    pub num_shards: usize,
    /// Discount factor of a step, gamma.
    pub discount: f64,
    /// Steps of a window, `n`.
    pub n_step: usize,
    /// Rows at most, all lanes together: each step takes one, and so does the observation in which
    /// a truncated episode ended.
    pub capacity: usize,
    /// Bytes at most, priorities included.
    pub capacity_bytes: u64,
    /// Priorities; none: sampling is uniform.
    pub prioritised: Option<PrioritisedOptions>,
    /// Hindsight; none: items keep their goals.
    pub hindsight: Option<Hindsight>,
}

/// Why a store cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OptionsError {
    /// A lane would not hold even one window.
    #[error(
        "{capacity} rows in {capacity_bytes} leave {rows} for each of {lanes} environments, at least \
         {needed} are needed; raise replay.capacity or replay.capacity_bytes, or use fewer \
         environments"
    )]
    TooSmall {
        /// Rows that were asked for.
        capacity: usize,
        /// Bytes that were allowed.
        capacity_bytes: ByteSize,
        /// Rows for each environment.
        rows: usize,
        /// Environments.
        lanes: usize,
        /// Rows that one window needs.
        needed: usize,
    },
    /// The store would not fit into memory.
    #[error(
        "the replay store would take {needed} once it is full, the machine has {available}; lower \
         replay.capacity or replay.capacity_bytes"
    )]
    Memory {
        /// What the store can grow to.
        needed: ByteSize,
        /// What there is.
        available: ByteSize,
    },
    /// The environment has no goal.
    #[error("hindsight needs an environment with a goal; set replay.hindsight = \"none\"")]
    NoGoal,
    /// Goals are parts of columns.
    #[error("hindsight needs observations in columns, not images; set replay.hindsight = \"none\"")]
    GoalInImages,
}

impl ReplayOptions {
    /// Puts the configuration together with the run's extents, the algorithm's discount and the
    /// environment's goal.
    ///
    /// # Errors
    /// What cannot go together, with the remedy.
    pub fn new(
        configuration: &ReplayConfiguration,
        shape: UnrollShape,
        num_shards: usize,
        discount: f64,
        goal: Option<&GoalSpec>,
    ) -> Result<Self, OptionsError> {
        let hindsight = match configuration.hindsight {
            HindsightStrategy::None => None,
            strategy => Some(Hindsight {
                strategy,
                goals_per_item: configuration.hindsight_goals,
                goal: goal.ok_or(OptionsError::NoGoal)?.clone(),
            }),
        };
        let options = Self {
            shape,
            num_shards,
            discount,
            n_step: configuration.n_step,
            capacity: configuration.capacity,
            capacity_bytes: configuration.capacity_bytes.bytes(),
            prioritised: configuration.prioritised.then_some(PrioritisedOptions {
                alpha: configuration.priority_alpha,
                epsilon: configuration.priority_epsilon,
            }),
            hindsight,
        };
        options.validate()?;
        Ok(options)
    }

    /// Environments, each with a lane of its own.
    #[must_use]
    pub const fn num_lanes(&self) -> usize {
        self.num_shards * self.shape.envs_per_shard
    }

    /// Rows of one lane, the pending one included: as many as both limits allow.
    #[must_use]
    pub fn rows_per_lane(&self) -> usize {
        let lanes = self.num_lanes().max(1);
        let by_bytes = self.capacity_bytes as f64 / self.row_bytes() / lanes as f64;
        (self.capacity / lanes).min(by_bytes as usize)
    }

    /// Bytes that the store grows to.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        ((self.rows_per_lane() * self.num_lanes()) as f64 * self.row_bytes()).ceil() as u64
    }

    /// Checks that the store fits into `available` bytes of memory, such as
    /// [`machine_memory`](super::machine_memory).
    ///
    /// # Errors
    /// With both numbers, where it does not.
    pub fn check_memory(&self, available: u64) -> Result<(), OptionsError> {
        let needed = self.max_bytes();
        if needed > available {
            return Err(OptionsError::Memory {
                needed: ByteSize::from_bytes(needed),
                available: ByteSize::from_bytes(available),
            });
        }
        Ok(())
    }

    /// Checks that the options go together.
    ///
    /// # Errors
    /// What does not.
    pub fn validate(&self) -> Result<(), OptionsError> {
        if self.hindsight.is_some() && self.shape.frames.is_some() {
            return Err(OptionsError::GoalInImages);
        }
        let stack = self.shape.frames.map_or(1, |frames| frames.stack);
        // A whole window, its stack's context and the pending row.
        let needed = self.n_step + stack + 1;
        let rows = self.rows_per_lane();
        if rows < needed {
            return Err(OptionsError::TooSmall {
                capacity: self.capacity,
                capacity_bytes: ByteSize::from_bytes(self.capacity_bytes),
                rows,
                lanes: self.num_lanes(),
                needed,
            });
        }
        Ok(())
    }

    pub(super) fn layout(&self) -> RowLayout {
        RowLayout {
            observation: ObservationLayout::of(&self.shape),
            action_width: self.shape.action_width,
            n_step: self.n_step as u64,
            num_slots: self.rows_per_lane(),
        }
    }

    fn row_bytes(&self) -> f64 {
        let layout = RowLayout {
            observation: ObservationLayout::of(&self.shape),
            action_width: self.shape.action_width,
            n_step: 0,
            num_slots: 0,
        };
        let tree = if self.prioritised.is_some() {
            TREE_BYTES_PER_ROW
        } else {
            0.0
        };
        layout.row_bytes() as f64 + tree
    }
}
