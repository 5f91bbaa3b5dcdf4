//! Checkpoints: everything that the next round depends on, on disk in a form that is whole or
//! absent.
//!
//! ```text
//! <run>/checkpoints/00000042/     one checkpoint, named by its version
//!     policy.safetensors          what acts: parameters, normaliser, specification
//!     learner.safetensors         all parameters, the optimiser's moments, kept versions
//!     state.bin                   shards, statistics, counters
//!     replay.bin                  the replay store, where its contents are kept
//!     manifest.json               sizes and SHA-256 of the above, written last
//! <run>/checkpoints/latest        symbolic link to the newest
//! <run>/checkpoints/best/         the policy of the best mean training return
//! ```
//!
//! A directory is written under a temporary name, every file and the directory are flushed to
//! disk, and only then it gets its name; so a crash leaves whole checkpoints and, at worst, a
//! temporary directory that the next start removes.

mod store;
mod state;

pub use state::{KeptPublication, LearnerState, StateError};
pub use store::{BestPolicy, CheckpointError, CheckpointStore, Manifest, WriteError};
