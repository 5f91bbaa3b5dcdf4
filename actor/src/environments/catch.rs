//! `Catch-v0`: a ball falls down a board of 10 rows and 5 columns, one row a step, and a paddle in the
//! lowest row is to be under it when it arrives. Actions: left (0), stay (1), right (2); a step against
//! the edge stays in place.
//!
//! The ball starts in the top row, in a column drawn uniformly, the paddle in the middle. The step that
//! takes the ball to the lowest row ends the episode, with +1 where the paddle is under it and -1
//! elsewhere; every other step gives 0. An episode has 9 steps, and the best return is 1. The
//! observation is one plane `[1, 10, 5]` with ones where ball and paddle are.
//!
//! # Source
//! Osband et al. 2020, "Behaviour suite for reinforcement learning", `catch`, rule for rule; there the
//! observation has no axis of planes. The task is that of Mnih et al. 2014, "Recurrent models of visual
//! attention", section 4.2.

use rookery_common::seeds::Random;
use rookery_common::spaces::Space;

use super::arguments::Arguments;
use super::batch::{Batch, Dynamics};
use super::{BatchedEnvironment, EnvironmentError};

const ROWS: u8 = 10;
const COLUMNS: u8 = 5;
const CELLS: usize = ROWS as usize * COLUMNS as usize;

pub(super) fn make(
    arguments: Arguments<'_>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    let spec = arguments.into_spec(
        Space::planes(1, ROWS.into(), COLUMNS.into()),
        Space::Discrete { n: 3 },
        None,
    )?;
    Ok(Box::new(Batch::new(spec, Catch, num_envs)))
}

/// The rules; the state is the ball's row and column, and the paddle's column.
#[derive(Debug)]
struct Catch;

impl Dynamics<CELLS> for Catch {
    type State = [u8; 3];

    fn begin(&self, mut random: Random) -> Self::State {
        [0, random.below(COLUMNS.into()) as u8, COLUMNS / 2]
    }

    #[inline]
    fn advance(&self, state: &mut Self::State, action: f32) -> (f32, bool) {
        let [row, column, paddle] = *state;
        let paddle = match action as u8 {
            0 => paddle.saturating_sub(1),
            1 => paddle,
            _ => (paddle + 1).min(COLUMNS - 1),
        };
        // A ball that has arrived stays where it is.
        let row = (row + 1).min(ROWS - 1);
        *state = [row, column, paddle];
        let has_arrived = row == ROWS - 1;
        let reward = match (has_arrived, paddle == column) {
            (false, _) => 0.0,
            (true, true) => 1.0,
            (true, false) => -1.0,
        };
        (reward, has_arrived)
    }

    #[inline]
    fn observe(&self, state: &Self::State) -> [f32; CELLS] {
        let [row, column, paddle] = *state;
        let mut plane = [0.0; CELLS];
        for (row, column) in [(row, column), (ROWS - 1, paddle)] {
            plane[usize::from(row * COLUMNS + column)] = 1.0;
        }
        plane
    }

    fn is_possible(&self, state: &Self::State) -> bool {
        let [row, column, paddle] = *state;
        row < ROWS && column < COLUMNS && paddle < COLUMNS
    }
}

#[cfg(test)]
mod tests {
    use rookery_common::seeds::Purpose;

    use super::*;

    #[test]
    fn balls_start_in_every_column_alike() {
        let mut counts = [0; COLUMNS as usize];
        for episode in 0..5000 {
            let [row, column, paddle] =
                Catch.begin(Random::derive(1, Purpose::Episode, 0, episode));
            assert_eq!((row, paddle), (0, 2));
            counts[usize::from(column)] += 1;
        }
        // Five standard deviations of a fifth of 5000 draws are 141.
        assert!(
            counts.iter().all(|count: &i32| (count - 1000).abs() < 141),
            "{counts:?}"
        );
    }

    #[test]
    fn states_beyond_the_board_cannot_be_restored() {
        assert!(Catch.is_possible(&[9, 4, 0]));
        for state in [[10, 0, 0], [0, 5, 0], [0, 0, 5]] {
            assert!(!Catch.is_possible(&state));
        }
    }
}
