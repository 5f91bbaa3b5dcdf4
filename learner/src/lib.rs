//! Rookery learner.
