//! `FrozenLake-v1`: cross a frozen lake without falling into a hole, on ice that may carry you
//! aside. Actions: left (0), down (1), right (2), up (3). The observation is the index of the cell,
//! counted row by row.
//!
//! # Source
//! Gymnasium 1.4.0's maps, probabilities and rewards. The time limit belongs to the map: 100 steps on
//! the 4x4 map, 200 on the 8x8 map, as in Gymnasium's two registrations `FrozenLake-v1` and
//! `FrozenLake8x8-v1`.

use rookery_common::seeds::Random;
use rookery_common::spaces::Space;
use serde::{Deserialize, Serialize};

use super::arguments::Arguments;
use super::batch::{Batch, Dynamics};
use super::{BatchedEnvironment, Cell, CellKind, Direction, EnvironmentError, Grid};

/// A square lake: `S` is the start, `F` ice, `H` a hole, `G` the goal.
#[derive(Debug)]
struct Map {
    name: &'static str,
    side: u8,
    cells: &'static [u8],
    max_episode_steps: u32,
}

static MAPS: [Map; 2] = [
    Map {
        name: "4x4",
        side: 4,
        cells: b"SFFFFHFHFFFHHFFG",
        max_episode_steps: 100,
    },
    Map {
        name: "8x8",
        side: 8,
        cells: b"SFFFFFFFFFFFFFFFFFFHFFFFFFFFFHFFFFFHFFFFFHHFFFHFFHFFHFHFFFFHFFFG",
        max_episode_steps: 200,
    },
];

/// On slippery ice one slides in the direction meant with probability 1/3 and to either side of it
/// with the same; cumulated here with Gymnasium's roundings.
const SIDEWAYS: f64 = (1.0 - FORWARD) / 2.0;
const FORWARD: f64 = 1.0 / 3.0;

pub(super) fn make(
    mut arguments: Arguments<'_>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    let map = arguments.choice("map_name", &MAPS, |map| map.name)?;
    let is_slippery = arguments.flag("is_slippery", true)?;
    let spec = arguments.into_spec(
        Space::Discrete { n: map.cells.len() },
        Space::Discrete { n: 4 },
        map.max_episode_steps,
    )?;
    let dynamics = FrozenLake { map, is_slippery };
    Ok(Box::new(Batch::new(spec, dynamics, num_envs)))
}

/// The rules.
#[derive(Debug)]
struct FrozenLake {
    map: &'static Map,
    is_slippery: bool,
}

/// Where one is, and the stream that decides where one slides.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    cell: u8,
    random: Random,
}

impl FrozenLake {
    /// The cell in which a step ends, its reward and whether it is terminal, given the uniform
    /// number in `[0, 1)` that decides where one slides.
    #[inline]
    fn transition(&self, cell: u8, action: f32, uniform: f64) -> (u8, f32, bool) {
        let Map { side, cells, .. } = *self.map;
        if matches!(cells[usize::from(cell)], b'G' | b'H') {
            return (cell, 0.0, true);
        }
        let turn = match uniform {
            _ if !self.is_slippery => 0,
            u if u < SIDEWAYS => 3,
            u if u < SIDEWAYS + FORWARD => 0,
            _ => 1,
        };
        let (row, column) = (cell / side, cell % side);
        let (row, column) = match (action as u8).wrapping_add(turn) % 4 {
            0 => (row, column.saturating_sub(1)),
            1 => ((row + 1).min(side - 1), column),
            2 => (row, (column + 1).min(side - 1)),
            _ => (row.saturating_sub(1), column),
        };
        let cell = row * side + column;
        match cells[usize::from(cell)] {
            b'G' => (cell, 1.0, true),
            b'H' => (cell, 0.0, true),
            _ => (cell, 0.0, false),
        }
    }
}

impl Dynamics<1> for FrozenLake {
    type State = State;

    fn begin(&self, random: Random) -> State {
        State { cell: 0, random }
    }

    #[inline]
    fn advance(&self, state: &mut State, action: f32) -> (f32, bool) {
        let uniform = state.random.unit_f64();
        let (cell, reward, terminated) = self.transition(state.cell, action, uniform);
        state.cell = cell;
        (reward, terminated)
    }

    #[inline]
    fn observe(&self, state: &State) -> [f32; 1] {
        [f32::from(state.cell)]
    }

    fn is_possible(&self, state: &State) -> bool {
        usize::from(state.cell) < self.map.cells.len()
    }

    fn grid(&self) -> Option<Grid> {
        let cell = |(index, cell): (usize, &u8)| Cell {
            kind: match cell {
                b'S' => CellKind::Start,
                b'H' => CellKind::Hole,
                b'G' => CellKind::Goal,
                _ => CellKind::Floor,
            },
            observation: vec![index as f32],
        };
        Some(Grid {
            num_columns: self.map.side.into(),
            cells: self.map.cells.iter().enumerate().map(cell).collect(),
            directions: [
                Direction::Left,
                Direction::Down,
                Direction::Right,
                Direction::Up,
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = include_str!("../../../tests/golden/environments/frozen_lake_table.csv");
    const SAMPLED: &str =
        include_str!("../../../tests/golden/environments/frozen_lake_sampled.csv");

    /// The rows of a golden file; every field is a number.
    fn rows<const N: usize>(text: &str) -> impl Iterator<Item = [f64; N]> {
        text.lines().skip(2).map(|line| {
            let fields: Vec<f64> = line
                .split(',')
                .map(|field| field.parse().unwrap())
                .collect();
            fields.try_into().unwrap()
        })
    }

    fn lake(side: f64, is_slippery: f64) -> FrozenLake {
        let map = MAPS.iter().find(|map| f64::from(map.side) == side);
        FrozenLake {
            map: map.unwrap(),
            is_slippery: is_slippery != 0.0,
        }
    }

    #[test]
    fn every_outcome_in_gymnasiums_table_has_its_probability() {
        // The outcomes of one action share the unit interval in their order.
        let mut reached = 0.0;
        let mut cells = [0; 2];
        for [
            side,
            slippery,
            cell,
            action,
            outcome,
            probability,
            next,
            reward,
            terminated,
        ] in rows(TABLE)
        {
            let lake = lake(side, slippery);
            if outcome == 0.0 {
                reached = 0.0;
                cells[usize::from(side == 8.0)] += 1;
            }
            for fraction in [1e-9, 0.5, 1.0 - 1e-9] {
                let uniform = reached + fraction * probability;
                assert_eq!(
                    lake.transition(cell as u8, action as f32, uniform),
                    (next as u8, reward as f32, terminated != 0.0),
                    "{side}x{side}, cell {cell}, action {action}, uniform {uniform}"
                );
            }
            reached += probability;
        }
        // Every cell and action, slippery and not.
        assert_eq!(cells, [2 * 16 * 4, 2 * 64 * 4]);
    }

    #[test]
    fn sampled_steps_go_where_gymnasiums_go() {
        let mut count = 0;
        for [
            side,
            slippery,
            cell,
            action,
            uniform,
            next,
            reward,
            terminated,
        ] in rows(SAMPLED)
        {
            assert_eq!(
                lake(side, slippery).transition(cell as u8, action as f32, uniform),
                (next as u8, reward as f32, terminated != 0.0),
                "{side}x{side}, cell {cell}, action {action}, uniform {uniform}"
            );
            count += 1;
        }
        assert!(count > 300, "{count}");
    }

    #[test]
    fn a_step_draws_the_next_number_of_its_episode() {
        let lake = lake(8.0, 1.0);
        let random = Random::derive(1, rookery_common::seeds::Purpose::Episode, 2, 3);
        let mut numbers = random.clone();
        let mut state = lake.begin(random);
        for step in 0..100 {
            let cell = state.cell;
            let action = (step % 3) as f32;
            let outcome = lake.advance(&mut state, action);
            let expected = lake.transition(cell, action, numbers.unit_f64());
            assert_eq!((state.cell, outcome.0, outcome.1), expected);
        }
    }
}
