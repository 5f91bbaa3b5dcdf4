//! Rookery's learner, in the order in which the data flows: a round of experience reaches an
//! [algorithm](algorithms), which runs its [networks], and the [optimiser] moves their parameters.

mod tensors;
pub mod algorithms;
pub mod networks;
pub mod optimiser;
