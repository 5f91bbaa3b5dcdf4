//! What a sample is written to.

/// The name of one stored item. The row number is its generation stamp: no other item of the lane
/// ever has it, so that an update for an overwritten item is recognised (T28).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemHandle {
    /// The environment, by its global index.
    pub lane: u32,
    /// The row within the lane, counted from its beginning.
    pub row: u64,
}

/// One batch of `B` items in flat buffers, which are reused from sample to sample.
#[derive(Clone, Debug, Default)]
pub struct ReplayBatch {
    /// `[B, W]`: what was acted on; raw. Stacked images are scaled by 1/255.
    pub observations: Vec<f32>,
    /// `[B, A]`.
    pub actions: Vec<f32>,
    /// `[B]`: discounted sums of up to `n` raw rewards.
    pub returns: Vec<f32>,
    /// `[B]`: what the value of the next observation counts: `gamma^m`, or 0 after a termination.
    pub discounts: Vec<f32>,
    /// `[B, W]`: what the return is bootstrapped from; zeros after a termination.
    pub next_observations: Vec<f32>,
    /// `[B]`: what each item's loss is multiplied by; ones where sampling is uniform.
    pub weights: Vec<f32>,
    /// `[B]`: by what [priorities are updated](super::ReplayStore::update_priorities).
    pub handles: Vec<ItemHandle>,
    /// `[B]`: whether the goal is one of hindsight.
    pub relabelled: Vec<bool>,
    /// Where in the sum tree each item was found.
    pub(super) slots: Vec<usize>,
    pub(super) targets: Vec<f64>,
}

impl ReplayBatch {
    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whether nothing has been sampled yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }

    pub(super) fn resize(&mut self, size: usize, observation_width: usize, action_width: usize) {
        self.observations.resize(size * observation_width, 0.0);
        self.actions.resize(size * action_width, 0.0);
        self.returns.resize(size, 0.0);
        self.discounts.resize(size, 0.0);
        self.next_observations.resize(size * observation_width, 0.0);
        self.weights.resize(size, 1.0);
        self.handles.resize(size, ItemHandle::default());
        self.relabelled.resize(size, false);
        self.slots.resize(size, 0);
    }
}
