//! Priorities of items, after which they are drawn.
//!
//! An item with temporal-difference error `td` has the priority `p = (|td| + epsilon)^alpha` and is
//! drawn with probability `P = p / sum(p)`; its importance weight `(N P)^-beta`, divided by the
//! largest of its batch, belongs on the item's **loss** and not inside of it (T28). New items have
//! the highest priority that any item has had.
//!
//! # Source
//! Schaul, Quan, Antonoglou and Silver 2016, "Prioritized experience replay", equations 1 and 2,
//! section 3.4 and appendix B.2.1: a batch of `k` draws one item from each of `k` equal parts of the
//! sum.

use rookery_common::seeds::Random;

use super::sum_tree::SumTree;

/// How priorities follow from errors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrioritisedOptions {
    /// How far priorities count: 0 is uniform, 1 in proportion.
    pub alpha: f64,
    /// What is added to the size of an error, so that no item is lost.
    pub epsilon: f64,
}

/// The priorities of all slots of all lanes, lane after lane.
#[derive(Clone, Debug)]
pub(super) struct Priorities {
    options: PrioritisedOptions,
    tree: SumTree,
    pub(super) highest: f64,
    scratch: Vec<f64>,
}

impl Priorities {
    pub(super) fn new(options: PrioritisedOptions, num_slots: usize) -> Self {
        Self {
            options,
            tree: SumTree::new(num_slots),
            highest: 1.0,
            scratch: Vec::new(),
        }
    }

    /// The priority in a slot; zero where nothing can be sampled from it.
    #[inline]
    pub(super) fn get(&self, slot: usize) -> f64 {
        self.tree.get(slot)
    }

    /// Sets the priorities in the slots from `first` on.
    pub(super) fn set(&mut self, first: usize, priorities: impl Iterator<Item = f64>) {
        self.scratch.clear();
        self.scratch.extend(priorities);
        self.tree.set_range(first, &self.scratch);
    }

    /// Sets the priority in a slot after an item's error. An error that is not finite says nothing
    /// and changes nothing.
    pub(super) fn update(&mut self, slot: usize, td_error: f32) {
        let size = f64::from(td_error).abs() + self.options.epsilon;
        let priority = libm::pow(size, self.options.alpha);
        if priority.is_finite() {
            // Zero is for what cannot be drawn.
            let priority = priority.max(f64::MIN_POSITIVE);
            self.highest = self.highest.max(priority);
            self.tree.set(slot, priority);
        }
    }

    /// Draws as many slots as `slots` is long.
    pub(super) fn draw(&self, random: &mut Random, targets: &mut Vec<f64>, slots: &mut [usize]) {
        let part = self.tree.total() / slots.len() as f64;
        targets.clear();
        targets.extend((0..slots.len()).map(|index| (index as f64 + random.unit_f64()) * part));
        self.tree.find(targets, slots);
    }

    /// Importance weights of items in these slots, the largest of which is 1.
    ///
    /// `(N P)^-beta / max` is `(p / min p)^-beta`: number of items and sum cancel.
    pub(super) fn weigh(&self, slots: &[usize], beta: f64, weights: &mut [f32]) {
        let lowest = slots
            .iter()
            .fold(f64::INFINITY, |lowest, slot| lowest.min(self.get(*slot)));
        // Items that were never updated share one priority: most neighbours do.
        let mut known = (lowest, 1.0);
        for (slot, weight) in slots.iter().zip(weights) {
            let priority = self.get(*slot);
            if priority != known.0 {
                known = (
                    priority,
                    libm::exp(beta * libm::log(lowest / priority)) as f32,
                );
            }
            *weight = known.1;
        }
    }
}
