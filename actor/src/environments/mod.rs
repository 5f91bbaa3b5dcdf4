//! Environments, in batches.
