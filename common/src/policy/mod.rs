//! The acting half of a network.
