//! `GridWorld-v0`: walk from one corner of a 5x5 grid to the opposite one. Actions: up (0),
//! right (1), down (2), left (3); a step against a wall stays in place.
//!
//! The start is `(0, 0)`, the goal `(4, 4)`. Reaching it gives +10 and ends the episode, every other
//! step gives -0.1. The observation is `[row, column] / 4`. It has no counterpart in Gymnasium.

use rookery_common::seeds::Random;
use rookery_common::spaces::Space;

use super::batch::{Batch, Dynamics};
use super::registry::Arguments;
use super::{BatchedEnvironment, EnvironmentError};

/// The last row and the last column.
const LAST: u8 = 4;
const GOAL: [u8; 2] = [LAST, LAST];
const GOAL_REWARD: f32 = 10.0;
const STEP_REWARD: f32 = -0.1;
const MAX_EPISODE_STEPS: u32 = 100;

pub(super) fn make(
    arguments: Arguments<'_>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    let spec = arguments.into_spec(
        Space::bounded(&[0.0, 0.0], &[1.0, 1.0]),
        Space::Discrete { n: 4 },
        MAX_EPISODE_STEPS,
    )?;
    Ok(Box::new(Batch::new(spec, GridWorld, num_envs)))
}

/// The rules; the state is row and column.
#[derive(Debug)]
struct GridWorld;

impl Dynamics<2> for GridWorld {
    type State = [u8; 2];

    fn begin(&self, _random: Random) -> Self::State {
        [0, 0]
    }

    #[inline]
    fn advance(&self, state: &mut Self::State, action: f32) -> (f32, bool) {
        let [row, column] = *state;
        *state = match action as u8 {
            0 => [row.saturating_sub(1), column],
            1 => [row, (column + 1).min(LAST)],
            2 => [(row + 1).min(LAST), column],
            _ => [row, column.saturating_sub(1)],
        };
        if *state == GOAL {
            (GOAL_REWARD, true)
        } else {
            (STEP_REWARD, false)
        }
    }

    #[inline]
    fn observe(&self, state: &Self::State) -> [f32; 2] {
        state.map(|index| f32::from(index) / f32::from(LAST))
    }

    fn is_possible(&self, state: &Self::State) -> bool {
        state.iter().all(|index| *index <= LAST)
    }
}
