//! `TMaze-v0`: read a sign, walk down a corridor, and turn at its end to the side that the sign has
//! shown. Actions: north (0), east (1), south (2), west (3).
//!
//! The corridor has `length` cells (10) before the junction at its east end, and the episode begins in
//! the first of them. Only there the sign is seen: the observation is `[0, 1, 1]` where the goal is
//! north of the junction and `[1, 1, 0]` where it is south, each in half of the episodes. Every other
//! cell looks like `[1, 0, 1]` and the junction like `[0, 1, 0]`. North or south at the junction ends
//! the episode, with a reward of 4 on the side of the goal and of -0.1 on the other; standing still,
//! which is what a step against a wall does, gives -0.1 as well, and every other step 0.
//!
//! What to do at the junction is seen at the beginning alone, so a policy without a memory chooses the
//! wrong side in half of the episodes and has a mean return of at most 1.95; with one it reaches 4.
//!
//! # Source
//! Bakker 2002, "Reinforcement learning with long short-term memory", section 4.1, the task without
//! noise. It states no time limit; here an episode is truncated after ten steps for each cell and the
//! junction, so that no policy walks about for ever.

use rookery_common::seeds::Random;
use rookery_common::spaces::Space;

use super::arguments::Arguments;
use super::batch::{Batch, Dynamics};
use super::{BatchedEnvironment, EnvironmentError};

const DEFAULT_LENGTH: u32 = 10;
/// Bakker's longest corridor has 70 cells.
const MAX_LENGTH: u32 = 1000;
const STEPS_PER_CELL: u32 = 10;
const GOAL_REWARD: f32 = 4.0;
/// For the wrong side, and for standing still.
const PENALTY: f32 = -0.1;

pub(super) fn make(
    mut arguments: Arguments<'_>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    let length = arguments.whole_number("length", DEFAULT_LENGTH, 1..=MAX_LENGTH)?;
    let spec = arguments.into_spec(
        Space::bounded(&[0.0; 3], &[1.0; 3]),
        Space::Discrete { n: 4 },
        STEPS_PER_CELL * (length + 1),
    )?;
    Ok(Box::new(Batch::new(spec, TMaze { length }, num_envs)))
}

/// The rules; the state is the cell, counted from the west, and 1 where the goal is in the south.
#[derive(Debug)]
struct TMaze {
    /// The cell of the junction.
    length: u32,
}

impl Dynamics<3> for TMaze {
    type State = [u32; 2];

    fn begin(&self, mut random: Random) -> Self::State {
        [0, random.below(2) as u32]
    }

    #[inline]
    fn advance(&self, state: &mut Self::State, action: f32) -> (f32, bool) {
        let [cell, goal] = *state;
        match action as u8 {
            1 if cell < self.length => state[0] += 1,
            3 if cell > 0 => state[0] -= 1,
            side @ (0 | 2) if cell == self.length => {
                let is_right = (side == 2) == (goal == 1);
                return (if is_right { GOAL_REWARD } else { PENALTY }, true);
            }
            _ => return (PENALTY, false),
        }
        (0.0, false)
    }

    #[inline]
    fn observe(&self, state: &Self::State) -> [f32; 3] {
        match *state {
            [0, 0] => [0.0, 1.0, 1.0],
            [0, _] => [1.0, 1.0, 0.0],
            [cell, _] if cell == self.length => [0.0, 1.0, 0.0],
            _ => [1.0, 0.0, 1.0],
        }
    }

    fn is_possible(&self, state: &Self::State) -> bool {
        let [cell, goal] = *state;
        cell <= self.length && goal <= 1
    }
}

#[cfg(test)]
mod tests {
    use rookery_common::seeds::Purpose;

    use super::*;

    #[test]
    fn both_signs_are_shown_and_only_at_the_beginning() {
        let maze = TMaze { length: 3 };
        let mut shown = [0; 2];
        for episode in 0..100 {
            let mut state = maze.begin(Random::derive(1, Purpose::Episode, 0, episode));
            shown[state[1] as usize] += 1;
            let mut seen = vec![maze.observe(&state)];
            for _ in 0..3 {
                maze.advance(&mut state, 1.0);
                seen.push(maze.observe(&state));
            }
            let corridor = [1.0, 0.0, 1.0];
            assert_eq!(seen[1..], [corridor, corridor, [0.0, 1.0, 0.0]]);
            let (right, wrong) = if seen[0] == [0.0, 1.0, 1.0] {
                (0.0, 2.0)
            } else {
                (2.0, 0.0)
            };
            assert_eq!(maze.advance(&mut state.clone(), right), (4.0, true));
            assert_eq!(maze.advance(&mut state, wrong), (-0.1, true));
        }
        assert!(shown.iter().all(|count| *count > 30), "{shown:?}");
    }

    #[test]
    fn states_outside_the_maze_cannot_be_restored() {
        let maze = TMaze { length: 3 };
        assert!(maze.is_possible(&[3, 1]));
        assert!(!maze.is_possible(&[4, 0]));
        assert!(!maze.is_possible(&[0, 2]));
    }
}
