//! What a step says that an action is worth: targets as functions of the table. `r` is the reward,
//! `g` the discount.

use super::networks::Table;

/// What a state is worth to Q-learning: its best action.
///
/// # Source
/// Watkins 1989; Sutton and Barto 2018, equation 6.8: the target is `r + g max_a Q(S', a)`.
#[must_use]
pub fn greedy_value(table: &Table, state: usize) -> f64 {
    table.largest(state)
}

/// What a state is worth to a policy that takes a uniformly drawn action with probability `epsilon`,
/// else the best.
///
/// # Source
/// Sutton and Barto 2018, equation 6.9 (expected SARSA; van Seijen and others 2009): what SARSA's
/// target `r + g Q(S', A')` is on average over the next action `A'`.
#[must_use]
pub fn expected_value(table: &Table, state: usize, epsilon: f64) -> f64 {
    let mean = table.values(state).sum::<f64>() / table.num_actions() as f64;
    epsilon * mean + (1.0 - epsilon) * table.largest(state)
}

/// Moves the value of an action by the share `learning_rate` of its distance from `target`, which is
/// returned: the temporal-difference error.
///
/// # Source
/// Sutton and Barto 2018, equations 6.7 and 6.8.
pub fn move_towards(
    table: &mut Table,
    (state, action): (usize, usize),
    target: f64,
    learning_rate: f64,
) -> f64 {
    let value = table.value(state, action);
    let error = target - value;
    table.set(state, action, value + learning_rate * error);
    error
}
