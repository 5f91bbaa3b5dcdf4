//! `Breakout-MinAtar-v0`: keep a ball in play with a paddle and break bricks with it, on a board of 10
//! rows and 10 columns. Actions: stay (0), left (1), right (2).
//!
//! The ball moves by one cell diagonally every step, after the paddle has. A wall turns it round in its
//! own direction. A brick gives +1, is gone, and throws the ball back, which stays in its row for that
//! step; after a brick the ball must leave the bricks before the next one counts, and goes through those
//! in between. The paddle throws it back along the column in which it was, or the way it came where it
//! meets the paddle's corner. A ball that reaches the lowest row anywhere else ends the episode. When
//! every brick is gone, three new rows appear as soon as the ball comes down to the lowest row.
//!
//! The observation is four planes `[4, 10, 10]` of zeros and ones: paddle, ball, where the ball was
//! before the step (its trail), bricks.
//!
//! # Source
//! Young and Tian 2019, "`MinAtar`: An Atari-inspired testbed for thorough and reproducible reinforcement
//! learning experiments"; the authors' repository at 63e2e0f, with the three actions of its minimal set,
//! which are those that do something here. Departures: planes come first instead of last, episodes are truncated
//! after `max_episode_steps` (there never, so that a perfect player's never end), and `sticky_actions`,
//! the probability with which the previous action is repeated (0.1 as there), draws from the episode's
//! stream and forgets the action at its end (there it is repeated into the next episode).

use rookery_common::seeds::Random;
use rookery_common::spaces::Space;
use serde::{Deserialize, Serialize};

use super::arguments::Arguments;
use super::batch::{Batch, Rules, Step};
use super::{BatchedEnvironment, EnvironmentError};

const SIDE: u8 = 10;
const LAST: u8 = SIDE - 1;
const CELLS: usize = SIDE as usize * SIDE as usize;
/// Rows 1, 2 and 3 hold bricks.
const FIRST_BRICK_ROW: u8 = 1;
const ALL_BRICKS: u32 = (1 << (3 * SIDE)) - 1;
const DEFAULT_STICKINESS: f64 = 0.1;
const DEFAULT_MAX_EPISODE_STEPS: u32 = 1000;
const STAY: u8 = 0;

pub(super) fn make(
    mut arguments: Arguments<'_>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    let stickiness = arguments.probability("sticky_actions", DEFAULT_STICKINESS)?;
    let limit = arguments.whole_number(
        "max_episode_steps",
        DEFAULT_MAX_EPISODE_STEPS,
        1..=u32::MAX - 1,
    )?;
    let spec = arguments.into_spec(
        Space::planes(4, SIDE.into(), SIDE.into()),
        Space::Discrete { n: 3 },
        limit,
    )?;
    Ok(Box::new(Batch::with_rules(
        spec,
        Breakout { stickiness },
        num_envs,
    )))
}

/// The rules.
#[derive(Debug)]
struct Breakout {
    /// Probability with which an action gives way to the one before it.
    stickiness: f64,
}

/// An episode.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    board: Board,
    /// What was done last.
    action: u8,
    /// Decides which actions stick.
    random: Random,
}

/// What lies where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Board {
    /// Row and column of the ball.
    ball: [u8; 2],
    /// Whether it moves down, and whether it moves right.
    direction: [bool; 2],
    /// Row and column of the ball before the last step.
    trail: [u8; 2],
    /// Column of the paddle.
    paddle: u8,
    /// A bit for each brick, row by row.
    bricks: u32,
    /// Whether the ball has broken a brick and not left the bricks since.
    has_struck: bool,
}

impl Board {
    /// A ball in the left or right edge below the bricks, on its way down and inwards.
    const fn start(is_right: bool) -> Self {
        let ball = [3, if is_right { LAST } else { 0 }];
        Self {
            ball,
            direction: [true, !is_right],
            trail: ball,
            paddle: 4,
            bricks: ALL_BRICKS,
            has_struck: false,
        }
    }

    /// The bit of the brick in a cell; none where bricks never are.
    const fn brick([row, column]: [u8; 2]) -> u32 {
        match row.checked_sub(FIRST_BRICK_ROW) {
            Some(row) if row < 3 => 1 << (row * SIDE + column),
            _ => 0,
        }
    }

    /// Takes one step; gives the reward and whether the ball is lost.
    fn advance(&mut self, action: u8) -> (f32, bool) {
        self.paddle = match action {
            1 => self.paddle.saturating_sub(1),
            2 => (self.paddle + 1).min(LAST),
            _ => self.paddle,
        };
        let was = self.ball;
        self.trail = was;
        let [down, right] = self.direction;
        let column = match (right, was[1]) {
            (true, LAST) | (false, 0) => {
                self.direction[1] = !right;
                was[1]
            }
            (true, column) => column + 1,
            (false, column) => column - 1,
        };
        // A ball in the lowest row is lost, so that there is always a row below.
        let row = if down {
            (was[0] + 1).min(LAST)
        } else {
            was[0].saturating_sub(1)
        };
        self.ball = [row, column];
        let (mut reward, mut is_lost) = (0.0, false);
        let brick = self.bricks & Self::brick(self.ball);
        if !down && was[0] == 0 {
            self.direction[0] = true;
        } else if brick != 0 {
            if !self.has_struck {
                reward = 1.0;
                self.bricks ^= brick;
                self.bounce(was[0]);
            }
        } else if row == LAST {
            if self.bricks == 0 {
                self.bricks = ALL_BRICKS;
            }
            if was[1] == self.paddle {
                self.bounce(was[0]);
            } else if column == self.paddle {
                self.bounce(was[0]);
                self.direction[1] = !self.direction[1];
            } else {
                is_lost = true;
            }
        }
        self.has_struck = brick != 0;
        (reward, is_lost)
    }

    /// Turns the ball round in the row that it came from.
    fn bounce(&mut self, row: u8) {
        self.ball[0] = row;
        self.direction[0] = !self.direction[0];
    }

    fn observe(&self, planes: &mut [f32]) {
        planes.fill(0.0);
        let cell = |[row, column]: [u8; 2]| usize::from(row * SIDE + column);
        planes[cell([LAST, self.paddle])] = 1.0;
        planes[CELLS + cell(self.ball)] = 1.0;
        planes[2 * CELLS + cell(self.trail)] = 1.0;
        let bricks = &mut planes[3 * CELLS + cell([FIRST_BRICK_ROW, 0])..];
        for (bit, value) in bricks[..3 * usize::from(SIDE)].iter_mut().enumerate() {
            *value = f32::from((self.bricks >> bit & 1) as u8);
        }
    }

    fn is_possible(&self) -> bool {
        let coordinates = [self.ball, self.trail].concat();
        coordinates.iter().all(|at| *at < SIDE) && self.paddle < SIDE && self.bricks <= ALL_BRICKS
    }
}

impl Rules for Breakout {
    type State = State;

    #[inline]
    fn observation_width(&self) -> usize {
        4 * CELLS
    }

    #[inline]
    fn action_width(&self) -> usize {
        1
    }

    fn begin(&self, mut random: Random) -> State {
        State {
            board: Board::start(random.below(2) == 1),
            action: STAY,
            random,
        }
    }

    #[inline]
    fn advance(&self, state: &mut State, action: &[f32]) -> Step {
        if state.random.unit_f64() >= self.stickiness {
            state.action = action[0] as u8;
        }
        let (reward, is_lost) = state.board.advance(state.action);
        Step::new(reward, is_lost)
    }

    #[inline]
    fn observe(&self, state: &State, row: &mut [f32]) {
        state.board.observe(row);
    }

    fn is_possible(&self, state: &State) -> bool {
        state.board.is_possible()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rookery_common::seeds::Purpose;

    use super::*;
    use crate::environments::make;

    const TRACE: &str = include_str!("../../../tests/golden/environments/minatar_breakout.csv");

    /// Row, column, down, right, row and column before, paddle, bricks, struck.
    fn board(fields: &[&str]) -> Board {
        let number = |index: usize| fields[index].parse::<u32>().unwrap();
        let cell = |row: usize| [row, row + 1].map(|index| number(index) as u8);
        Board {
            ball: cell(0),
            direction: [2, 3].map(|index| number(index) == 1),
            trail: cell(4),
            paddle: number(6) as u8,
            bricks: number(7),
            has_struck: number(8) == 1,
        }
    }

    #[test]
    fn every_step_is_that_of_the_independent_one() {
        let (mut lines, mut rewards, mut lost, mut renewed) = (0, 0.0, 0, 0);
        for line in TRACE.lines().skip(2) {
            let fields: Vec<&str> = line.split(',').collect();
            let before = board(&fields[..9]);
            let mut reached = before;
            let (reward, is_lost) = reached.advance(fields[9].parse().unwrap());
            assert_eq!(reached, board(&fields[10..19]), "{line}");
            let mut planes = vec![f32::NAN; 4 * CELLS];
            reached.observe(&mut planes);
            let shown: String = planes.iter().map(ToString::to_string).collect();
            let expected: String = fields[19]
                .chars()
                .flat_map(|digit| {
                    let bits = digit.to_digit(16).unwrap();
                    (0..4)
                        .rev()
                        .map(move |bit| if bits >> bit & 1 == 1 { '1' } else { '0' })
                })
                .collect();
            assert_eq!(shown, expected, "{line}");
            assert_eq!(reward, fields[20].parse::<f32>().unwrap(), "{line}");
            assert_eq!(u8::from(is_lost).to_string(), fields[21], "{line}");
            assert!(reached.is_possible());
            lines += 1;
            rewards += reward;
            lost += u32::from(is_lost);
            renewed += u32::from(before.bricks == 0 && reached.bricks == ALL_BRICKS);
        }
        // The trace reaches every rule.
        assert!(lines > 500 && rewards > 60.0 && lost > 5 && renewed > 0);
    }

    #[test]
    fn episodes_begin_on_either_side_and_with_all_bricks() {
        let rules = Breakout { stickiness: 0.0 };
        let starts: Vec<Board> = (0..100)
            .map(|episode| {
                rules
                    .begin(Random::derive(1, Purpose::Episode, 0, episode))
                    .board
            })
            .collect();
        let left = starts.iter().filter(|board| board.ball == [3, 0]).count();
        assert!((30..70).contains(&left), "{left}");
        assert!(
            starts
                .iter()
                .all(|board| board.direction == [true, board.ball[1] == 0])
        );
        assert_eq!(starts[0].bricks.count_ones(), 30);
    }

    #[test]
    fn an_action_sticks_with_its_probability() {
        let rules = Breakout { stickiness: 0.25 };
        let mut state = rules.begin(Random::derive(1, Purpose::Episode, 0, 0));
        let mut stuck = 0;
        for step in 0..10_000 {
            let (wanted, before) = ((1 + step % 2) as u8, state.action);
            rules.advance(&mut state, &[f32::from(wanted)]);
            assert!([wanted, before].contains(&state.action));
            if before != wanted {
                stuck += u32::from(state.action == before);
            }
            state.board = Board::start(false);
        }
        // The action before differs in four of five steps: it stuck itself in the fifth.
        assert!((1800..2200).contains(&stuck), "{stuck}");
    }

    #[test]
    fn arguments_are_read_and_bounded() {
        let arguments =
            |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let id = "Breakout-MinAtar-v0";
        let batch = make(id, &arguments("max_episode_steps", "77"), 1).unwrap();
        assert_eq!(batch.spec().max_episode_steps, Some(77));
        assert!(make(id, &arguments("sticky_actions", "0.0"), 1).is_ok());
        for (name, value) in [("sticky_actions", "1.5"), ("max_episode_steps", "0")] {
            let refused = make(id, &arguments(name, value), 1).err().unwrap();
            assert!(refused.to_string().contains(name), "{refused}");
        }
    }

    #[test]
    fn boards_with_anything_beyond_them_cannot_be_restored() {
        assert!(Board::start(true).is_possible());
        let with = |change: fn(&mut Board)| {
            let mut board = Board::start(true);
            change(&mut board);
            board.is_possible()
        };
        assert!(!with(|board| board.ball = [3, 10]));
        assert!(!with(|board| board.trail = [10, 3]));
        assert!(!with(|board| board.paddle = 10));
        assert!(!with(|board| board.bricks = 1 << 30));
    }
}
