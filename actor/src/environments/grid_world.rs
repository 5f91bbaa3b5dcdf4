//! `GridWorld-v0`: walk from one corner of a 5x5 grid to the opposite one. Actions: up (0),
//! right (1), down (2), left (3); a step against a wall stays in place.
//!
//! The start is `(0, 0)`, the goal `(4, 4)`. Reaching it gives +10 and ends the episode, every other
//! step gives -0.1. The observation is `[row, column] / 4`, or with the
//! argument `observation = "cell"` the index of the cell, counted row by row. It has no counterpart in
//! Gymnasium.

use rookery_common::seeds::Random;
use rookery_common::spaces::Space;

use super::arguments::Arguments;
use super::batch::{Batch, Dynamics, Fixed};
use super::{BatchedEnvironment, Cell, CellKind, Direction, EnvironmentError, Grid};

/// The last row and the last column.
const LAST: u8 = 4;
const SIDE: u8 = LAST + 1;
const NUM_CELLS: usize = (SIDE as usize) * (SIDE as usize);
const GOAL: [u8; 2] = [LAST, LAST];
const GOAL_REWARD: f32 = 10.0;
const STEP_REWARD: f32 = -0.1;
const MAX_EPISODE_STEPS: u32 = 100;

/// What is observed; the default comes first.
static OBSERVATIONS: [&str; 2] = ["position", "cell"];

pub(super) fn make(
    mut arguments: Arguments<'_>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    let observation = *arguments.choice("observation", &OBSERVATIONS, |name| name)?;
    let sees_cell = observation == "cell";
    let observation = if sees_cell {
        Space::Discrete { n: NUM_CELLS }
    } else {
        Space::bounded(&[0.0, 0.0], &[1.0, 1.0])
    };
    let action = Space::Discrete { n: 4 };
    let spec = arguments.into_spec(observation, action, MAX_EPISODE_STEPS)?;
    Ok(if sees_cell {
        Box::new(Batch::<Fixed<_, 1>>::new(spec, GridWorld, num_envs))
    } else {
        Box::new(Batch::<Fixed<_, 2>>::new(spec, GridWorld, num_envs))
    })
}

/// The rules; the state is row and column. With a `WIDTH` of 2 they are what is observed, with 1 the
/// index of the cell is.
#[derive(Debug)]
struct GridWorld;

impl<const WIDTH: usize> Dynamics<WIDTH> for GridWorld {
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
    fn observe(&self, state: &Self::State) -> [f32; WIDTH] {
        std::array::from_fn(|value| {
            if WIDTH == 1 {
                f32::from(state[0] * SIDE + state[1])
            } else {
                f32::from(state[value]) / f32::from(LAST)
            }
        })
    }

    fn is_possible(&self, state: &Self::State) -> bool {
        state.iter().all(|index| *index <= LAST)
    }

    fn grid(&self) -> Option<Grid> {
        let states = (0..SIDE).flat_map(|row| (0..SIDE).map(move |column| [row, column]));
        let cell = |state: [u8; 2]| Cell {
            kind: match state {
                [0, 0] => CellKind::Start,
                GOAL => CellKind::Goal,
                _ => CellKind::Floor,
            },
            observation: Dynamics::<WIDTH>::observe(self, &state).to_vec(),
        };
        Some(Grid {
            num_columns: SIDE.into(),
            cells: states.map(cell).collect(),
            directions: [
                Direction::Up,
                Direction::Right,
                Direction::Down,
                Direction::Left,
            ],
        })
    }
}
