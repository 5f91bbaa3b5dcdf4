//! A sum tree: draws a leaf with a probability in proportion to its value, in logarithmic time.
//!
//! # Source
//! Schaul, Quan, Antonoglou and Silver 2016, "Prioritized experience replay", appendix B.2.1.
//! Departures: a node has eight children instead of two, so that a descent touches one cache line a
//! level and seven levels hold two million leaves; sums are recomputed from the children instead of
//! adjusted by differences, so that they cannot drift and follow from the leaves alone.

/// Children of a node: as many `f64` as a cache line holds.
const FAN_OUT: usize = 8;

/// Values in `f64`, none negative, and their sums.
#[derive(Clone, Debug)]
pub(super) struct SumTree {
    /// The leaves, then their sums in groups of eight, and so on up to a level of one group.
    levels: Vec<Level>,
}

/// One level, padded to whole groups that begin on a cache line.
#[derive(Debug)]
struct Level {
    values: Vec<f64>,
    /// Index of the first value: memory comes zeroed and untouched only from where the allocator
    /// puts it, which need not be the beginning of a cache line.
    begin: usize,
}

impl Level {
    fn new(len: usize) -> Self {
        let values = vec![0.0; len.next_multiple_of(FAN_OUT) + FAN_OUT - 1];
        let begin = values.as_ptr().align_offset(FAN_OUT * size_of::<f64>());
        Self {
            // Where alignment cannot be had, it is only slower.
            begin: if begin < FAN_OUT { begin } else { 0 },
            values,
        }
    }

    fn as_slice(&self) -> &[f64] {
        &self.values[self.begin..self.values.len() - (FAN_OUT - 1 - self.begin)]
    }

    fn as_mut_slice(&mut self) -> &mut [f64] {
        let end = self.values.len() - (FAN_OUT - 1 - self.begin);
        &mut self.values[self.begin..end]
    }
}

impl Clone for Level {
    fn clone(&self) -> Self {
        let mut clone = Self::new(self.as_slice().len());
        clone.as_mut_slice().copy_from_slice(self.as_slice());
        clone
    }
}

impl SumTree {
    /// A tree of `len` leaves, all zero; its memory is claimed as leaves are set.
    pub(super) fn new(len: usize) -> Self {
        let mut levels = vec![Level::new(len.max(1))];
        let mut groups = levels[0].as_slice().len() / FAN_OUT;
        while groups > 1 {
            let level = Level::new(groups);
            groups = level.as_slice().len() / FAN_OUT;
            levels.push(level);
        }
        Self { levels }
    }

    /// The sum of all leaves.
    pub(super) fn total(&self) -> f64 {
        let top = &self.levels[self.levels.len() - 1];
        sum(group(top.as_slice(), 0))
    }

    /// The value of a leaf.
    #[inline]
    pub(super) fn get(&self, leaf: usize) -> f64 {
        self.levels[0].as_slice()[leaf]
    }

    /// Sets a leaf.
    pub(super) fn set(&mut self, leaf: usize, value: f64) {
        self.set_range(leaf, &[value]);
    }

    /// Sets the leaves from `first` on.
    pub(super) fn set_range(&mut self, first: usize, values: &[f64]) {
        if values.is_empty() {
            return;
        }
        self.levels[0].as_mut_slice()[first..first + values.len()].copy_from_slice(values);
        let (mut first, mut last) = (first, first + values.len() - 1);
        for level in 1..self.levels.len() {
            first /= FAN_OUT;
            last /= FAN_OUT;
            let (below, above) = self.levels.split_at_mut(level);
            let below = below[level - 1].as_slice();
            let above = above[0].as_mut_slice();
            for (index, value) in above[first..=last].iter_mut().enumerate() {
                *value = sum(group(below, first + index));
            }
        }
    }

    /// Finds for each target, a number in `[0, total)`, the leaf at which the running sum of the
    /// leaves passes it; the targets are used up. Leaves that are zero are never found, whatever
    /// rounding does.
    ///
    /// All descend together, level by level, so that their cache misses overlap.
    ///
    /// # Panics
    /// If the lengths differ.
    pub(super) fn find(&self, targets: &mut [f64], leaves: &mut [usize]) {
        assert_eq!(targets.len(), leaves.len(), "one leaf a target");
        leaves.fill(0);
        for index in (0..self.levels.len()).rev() {
            let values = self.levels[index].as_slice();
            // A target that rounding has pushed beyond the last sum stays in the tree.
            let last = index.checked_sub(1).map_or(values.len(), |below| {
                self.levels[below].as_slice().len() / FAN_OUT
            }) - 1;
            for (target, node) in targets.iter_mut().zip(leaves.iter_mut()) {
                let children = group(values, *node);
                let before = running_sums(children);
                let passed = before.iter().map(|sum| u64::from(*target >= *sum));
                let child = passed.sum::<u64>().saturating_sub(1) as usize & (FAN_OUT - 1);
                *target -= before[child];
                *node = (*node * FAN_OUT + child).min(last);
            }
        }
        for leaf in leaves {
            self.leave_zero(leaf);
        }
    }

    /// Goes from a leaf that is zero, where rounding may have led, to the nearest one before it that
    /// is not, or else after it.
    fn leave_zero(&self, leaf: &mut usize) {
        let values = self.levels[0].as_slice();
        if values[*leaf] == 0.0 {
            let before = values[..*leaf].iter().rposition(|value| *value > 0.0);
            let after = || values.iter().position(|value| *value > 0.0);
            *leaf = before.or_else(after).unwrap_or(*leaf);
        }
    }
}

/// What is to the left of each child.
#[inline]
fn running_sums([a, b, c, d, e, f, g, _]: &[f64; FAN_OUT]) -> [f64; FAN_OUT] {
    let (ab, ef) = (a + b, e + f);
    let abcd = ab + (c + d);
    [
        0.0,
        *a,
        ab,
        ab + c,
        abcd,
        abcd + e,
        abcd + ef,
        (abcd + ef) + g,
    ]
}

#[inline]
fn group(values: &[f64], index: usize) -> &[f64; FAN_OUT] {
    &values.as_chunks().0[index]
}

/// The sum in the order in which [`SumTree::find`] adds up.
#[inline]
fn sum([a, b, c, d, e, f, g, h]: &[f64; FAN_OUT]) -> f64 {
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn t28_a_leaf_owns_the_interval_of_its_value() {
        let mut tree = SumTree::new(20);
        tree.set_range(0, &[0.0, 1.0, 0.0, 2.0]);
        tree.set(19, 4.0);
        assert_eq!(tree.total(), 7.0);
        let mut targets = [0.0, 0.999, 1.0, 2.999, 3.0, 6.999, 7.0];
        let mut leaves = [0; 7];
        tree.find(&mut targets, &mut leaves);
        assert_eq!(leaves, [1, 1, 3, 3, 19, 19, 19]);
    }

    #[test]
    fn values_of_very_different_size_never_lead_to_a_zero_leaf() {
        let mut tree = SumTree::new(100);
        tree.set(3, 1e-300);
        tree.set(40, 1e300);
        tree.set(41, 1e-10);
        let total = tree.total();
        for target in [0.0, 1e-301, total * 0.5, total.next_down(), total] {
            let mut leaf = [0];
            tree.find(&mut [target], &mut leaf);
            assert!([3, 40, 41].contains(&leaf[0]), "{target} led to {leaf:?}");
        }
    }

    proptest! {
        #[test]
        fn t28_the_tree_agrees_with_a_scan_of_its_leaves(
            len in 1_usize..700,
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0_u32..5, 1_usize..30), 1..40),
            draws in prop::collection::vec(0.0..1.0_f64, 1..20),
        ) {
            let mut tree = SumTree::new(len);
            let mut naive = vec![0.0; len];
            for (place, value, count) in changes {
                let first = place.index(len);
                let count = count.min(len - first);
                // Small whole numbers: sums are exact in any order.
                let values = vec![f64::from(value); count];
                tree.set_range(first, &values);
                naive[first..first + count].copy_from_slice(&values);
            }
            let total: f64 = naive.iter().sum();
            prop_assert_eq!(tree.total(), total);
            prop_assume!(total > 0.0);
            let mut targets: Vec<f64> = draws.iter().map(|draw| draw * total).collect();
            let expected: Vec<usize> = targets
                .iter()
                .map(|target| {
                    let mut running = 0.0;
                    naive.iter().position(|value| { running += value; *target < running }).unwrap()
                })
                .collect();
            let mut leaves = vec![0; targets.len()];
            tree.find(&mut targets, &mut leaves);
            prop_assert_eq!(leaves, expected);
            let clone = tree.clone();
            for (leaf, value) in naive.iter().enumerate() {
                prop_assert_eq!(clone.get(leaf), *value);
            }
        }
    }
}
