//! The n-step window: what followed an item, up to `n` steps and never past its episode's end.
//!
//! With rewards `r` and the discount `gamma`, the window of an item at step `t` has length `m`, the
//! smaller of `n` and the steps up to the end of the episode, and
//!
//! * the return `r[t] + gamma r[t+1] + .. + gamma^(m-1) r[t+m-1]`, summed in `f64`;
//! * the discount of the value after it: 0 where its last step terminated, else `gamma^m`;
//! * the observation of that value: after a truncation the one in which the episode ended, else
//!   the one `m` steps later (T1, T27).
//!
//! # Source
//! Sutton and Barto 2018, "Reinforcement learning: an introduction", equation 7.1.

use super::lane::{Lane, RowLayout};

/// What followed one item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    pub(super) return_: f64,
    /// Of the value of the observation in row `next`; zero where the window terminated.
    pub(super) discount: f64,
    /// The row of the observation after the window.
    pub(super) next: u64,
}

/// Rewards of a window as they are stored.
///
/// `discounts` are the powers 0 to `n` of gamma; `row` can be sampled.
#[inline]
pub(super) fn window(lane: &Lane, layout: &RowLayout, row: u64, discounts: &[f64]) -> Window {
    let steps = discounts.len() - 1;
    let mut window = Window {
        return_: 0.0,
        discount: 0.0,
        next: row,
    };
    let mut current = lane.row(layout, row);
    for length in 1..=steps {
        window.return_ += discounts[length - 1] * f64::from(current.reward());
        window.next += 1;
        if current.flags().is_terminated() {
            window.discount = 0.0;
            break;
        }
        window.discount = discounts[length];
        if length < steps {
            current = lane.row(layout, window.next);
            if current.flags().is_final() {
                break;
            }
        }
    }
    window
}
