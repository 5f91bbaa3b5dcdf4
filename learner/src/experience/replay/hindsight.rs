//! Hindsight: an item is sampled as if its goal had been one that its episode did achieve.
//!
//! With probability `k / (k + 1)` the desired goal of an item is replaced by the achieved goal after
//! a step of the same episode: the last one (`final`), one that is drawn from the item's own step on
//! (`future`), or any (`episode`). Rewards of the item's window are computed anew by
//! [`GoalSpec::reward`]; where the environment terminates on success, so does the window at the
//! first step that reaches the new goal, and not where only the old one was reached. Of an episode
//! that goes on, the newest step stands for the last.
//!
//! The observation in which a terminated step ended is not sent. So it is never a goal, and an item
//! whose window would run through such a step keeps its own goal. Nothing is lost where success
//! terminates: that episode has reached the goal that it had.
//!
//! # Source
//! Andrychowicz et al. 2017, "Hindsight experience replay", section 3.3 and 4.5. Departure: goals are
//! drawn when an item is sampled and not when its episode is stored, once for each time that it is
//! sampled, which in expectation is the same mixture.

use rookery_common::configuration::HindsightStrategy;
use rookery_common::seeds::Random;
use rookery_common::spaces::GoalSpec;

use super::lane::{Lane, RowLayout};
use super::window::Window;

/// How goals are replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct Hindsight {
    /// Which achieved goals are taken.
    pub strategy: HindsightStrategy,
    /// `k`: items with a replaced goal for each one with its own.
    pub goals_per_item: u32,
    /// What the environment rewards.
    pub goal: GoalSpec,
}

/// An item under another goal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Relabelled {
    pub(super) window: Window,
    /// The row whose achieved goal is desired now.
    pub(super) goal: u64,
}

impl Hindsight {
    /// Draws whether and to what the goal of an item is replaced.
    pub(super) fn relabel(
        &self,
        lane: &Lane,
        layout: &RowLayout,
        row: u64,
        discounts: &[f64],
        random: &mut Random,
    ) -> Option<Relabelled> {
        let k = u64::from(self.goals_per_item);
        if random.below(k + 1) == 0 {
            return None;
        }
        let (first, last) = lane.episode(layout, row);
        let is_known = !lane.row(layout, last).flags().is_terminated();
        // Goals are achieved after steps of `first..end`, which are rows one later.
        let end = last + u64::from(is_known);
        let step = match self.strategy {
            HindsightStrategy::None => return None,
            HindsightStrategy::Final => is_known.then_some(last)?,
            HindsightStrategy::Future => row + draw(random, end.checked_sub(row)?)?,
            HindsightStrategy::Episode => first + draw(random, end.checked_sub(first)?)?,
        };
        self.under(lane, layout, row, step + 1, discounts)
    }

    /// The window of an item with the goal that is achieved in row `goal`; `None` where it runs
    /// through a step after which the achieved goal is not known.
    fn under(
        &self,
        lane: &Lane,
        layout: &RowLayout,
        row: u64,
        goal: u64,
        discounts: &[f64],
    ) -> Option<Relabelled> {
        let achieved = |row| &lane.row(layout, row).observation()[self.goal.achieved.clone()];
        let desired = achieved(goal);
        let mut window = Window {
            return_: 0.0,
            discount: 0.0,
            next: row,
        };
        for (factor, after) in discounts.iter().zip(&discounts[1..]) {
            if lane.row(layout, window.next).flags().is_terminated() {
                return None;
            }
            window.next += 1;
            let reached = achieved(window.next);
            window.return_ += factor * f64::from(self.goal.reward(reached, desired));
            if self.goal.terminates && self.goal.is_reached(reached, desired) {
                window.discount = 0.0;
                break;
            }
            window.discount = *after;
            if lane.row(layout, window.next).flags().is_final() {
                break;
            }
        }
        Some(Relabelled { window, goal })
    }

    /// Writes the goal achieved in row `goal` over the desired one of an observation.
    pub(super) fn write_goal(&self, lane: &Lane, layout: &RowLayout, goal: u64, row: &mut [f32]) {
        let achieved = &lane.row(layout, goal).observation()[self.goal.achieved.clone()];
        row[self.goal.desired.clone()].copy_from_slice(achieved);
    }
}

/// Draws from `0..bound`; `None` where that is empty.
fn draw(random: &mut Random, bound: u64) -> Option<u64> {
    (bound > 0).then(|| random.below(bound))
}
