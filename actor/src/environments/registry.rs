//! Environments by name: [`make`] turns a Gymnasium id and its keyword arguments into a batch.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

use rookery_common::spaces::{EnvironmentSpec, Space};
use thiserror::Error;

use super::{
    BatchedEnvironment, acrobot, bit_flip, breakout, cart_pole, catch, frozen_lake, grid_world,
    mountain_car, mountain_car_continuous, pendulum, point_reach, t_maze,
};

/// What builds a batch of `num_envs` instances from parsed arguments.
type Constructor =
    fn(Arguments<'_>, usize) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError>;

/// Every environment, by its id.
const REGISTRY: [(&str, Constructor); 13] = [
    ("CartPole-v1", cart_pole::make),
    ("Pendulum-v1", pendulum::make),
    ("MountainCar-v0", mountain_car::make),
    ("MountainCarContinuous-v0", mountain_car_continuous::make),
    ("Acrobot-v1", acrobot::make),
    ("FrozenLake-v1", frozen_lake::make),
    ("GridWorld-v0", grid_world::make),
    ("BitFlip-v0", bit_flip::make),
    ("PointReach-v0", point_reach::make),
    ("Catch-v0", catch::make),
    ("Breakout-MinAtar-v0", breakout::make),
    ("CartPoleNoVelocity-v1", cart_pole::make_without_velocities),
    ("TMaze-v0", t_maze::make),
];

/// Similarity (Jaro and Winkler) from which on a name is taken for a misspelling of another.
const SUGGESTION_THRESHOLD: f64 = 0.75;

/// Why an environment cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EnvironmentError {
    /// No environment has this id.
    #[error("unknown environment `{id}`{}; known are {}", did_you_mean(.suggestion.as_deref()), .known.join(", "))]
    UnknownId {
        /// The id that was asked for.
        id: String,
        /// The most similar known id, where one is similar.
        suggestion: Option<String>,
        /// Every known id.
        known: Vec<String>,
    },
    /// The environment takes no argument of this name.
    #[error(
        "`{id}` takes no argument `{argument}`{}; it takes {}",
        did_you_mean(.suggestion.as_deref()),
        if .known.is_empty() { "none".to_owned() } else { .known.join(", ") }
    )]
    UnknownArgument {
        /// The environment's id.
        id: String,
        /// The argument that was given.
        argument: String,
        /// The most similar known argument, where one is similar.
        suggestion: Option<String>,
        /// Every argument of this environment.
        known: Vec<String>,
    },
    /// The value of an argument cannot be used.
    #[error("argument `{argument}` of `{id}` is `{got}`; expected {expected}")]
    InvalidArgument {
        /// The environment's id.
        id: String,
        /// The argument's name.
        argument: String,
        /// What would be accepted, in words.
        expected: String,
        /// The value that was given.
        got: String,
    },
    /// A batch of zero instances was asked for.
    #[error("a batch of `{id}` needs at least one environment, got 0")]
    NoEnvironments {
        /// The environment's id.
        id: String,
    },
}

/// Every id that [`make`] knows.
pub fn ids() -> impl Iterator<Item = &'static str> {
    REGISTRY.iter().map(|(id, _)| *id)
}

/// Makes a batch of `num_envs` instances of the environment `id`.
///
/// `arguments` are Gymnasium's keyword arguments as text, such as `map_name = "8x8"`. The spec holds
/// those that were given, in one spelling, so that equal arguments make equal specs.
///
/// # Errors
/// Where the id or an argument is unknown, a value is unusable, or `num_envs` is zero.
pub fn make(
    id: &str,
    arguments: &BTreeMap<String, String>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    let Some((id, constructor)) = REGISTRY.iter().find(|(known, _)| *known == id) else {
        return Err(EnvironmentError::UnknownId {
            id: id.to_owned(),
            suggestion: most_similar(id, ids()),
            known: ids().map(str::to_owned).collect(),
        });
    };
    if num_envs == 0 {
        return Err(EnvironmentError::NoEnvironments {
            id: (*id).to_owned(),
        });
    }
    constructor(Arguments::new(id, arguments), num_envs)
}

/// The arguments of one environment while its constructor reads them.
#[derive(Debug)]
pub(super) struct Arguments<'a> {
    id: &'static str,
    given: &'a BTreeMap<String, String>,
    known: Vec<&'static str>,
    canonical: BTreeMap<String, String>,
}

impl<'a> Arguments<'a> {
    fn new(id: &'static str, given: &'a BTreeMap<String, String>) -> Self {
        Self {
            id,
            given,
            known: Vec::new(),
            canonical: BTreeMap::new(),
        }
    }

    /// The boolean argument `name`, in Rust's or Python's spelling.
    pub(super) fn flag(
        &mut self,
        name: &'static str,
        default: bool,
    ) -> Result<bool, EnvironmentError> {
        self.read(name, default, "true or false", |text| {
            let value = match text {
                "true" | "True" => true,
                "false" | "False" => false,
                _ => return None,
            };
            Some((value, value.to_string()))
        })
    }

    /// The finite number `name`.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        default: f64,
    ) -> Result<f64, EnvironmentError> {
        self.read(name, default, "a finite number", |text| {
            let number = f64::from_str(text).ok()?;
            number.is_finite().then(|| (number, number.to_string()))
        })
    }

    /// The number `name` from 0 to 1.
    pub(super) fn probability(
        &mut self,
        name: &'static str,
        default: f64,
    ) -> Result<f64, EnvironmentError> {
        self.read(name, default, "a number from 0 to 1", |text| {
            let number = f64::from_str(text).ok()?;
            (0.0..=1.0)
                .contains(&number)
                .then(|| (number, number.to_string()))
        })
    }

    /// The whole number `name`, which lies in `range`.
    pub(super) fn whole_number(
        &mut self,
        name: &'static str,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> Result<u32, EnvironmentError> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(name, default, &expected, |text| {
            let number = u32::from_str(text).ok()?;
            range
                .contains(&number)
                .then(|| (number, number.to_string()))
        })
    }

    /// The argument `name`, which names one of `choices`; the first is the default.
    pub(super) fn choice<T>(
        &mut self,
        name: &'static str,
        choices: &'static [T],
        name_of: fn(&T) -> &'static str,
    ) -> Result<&'static T, EnvironmentError> {
        let names: Vec<_> = choices.iter().map(name_of).collect();
        let expected = format!("one of {}", names.join(", "));
        let index = self.read(name, 0, &expected, |text| {
            let index = names.iter().position(|name| *name == text)?;
            Some((index, text.to_owned()))
        })?;
        Ok(&choices[index])
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        default: T,
        expected: &str,
        parse: impl Fn(&str) -> Option<(T, String)>,
    ) -> Result<T, EnvironmentError> {
        self.known.push(name);
        let Some(text) = self.given.get(name) else {
            return Ok(default);
        };
        let (value, canonical) = parse(text).ok_or_else(|| EnvironmentError::InvalidArgument {
            id: self.id.to_owned(),
            argument: name.to_owned(),
            expected: expected.to_owned(),
            got: text.clone(),
        })?;
        self.canonical.insert(name.to_owned(), canonical);
        Ok(value)
    }

    /// Completes the spec, once every argument that the environment takes has been read.
    ///
    /// # Errors
    /// Where an argument was given that nothing read.
    pub(super) fn into_spec(
        self,
        observation: Space,
        action: Space,
        max_episode_steps: impl Into<Option<u32>>,
    ) -> Result<EnvironmentSpec, EnvironmentError> {
        let mut names = self.given.keys();
        if let Some(unknown) = names.find(|name| !self.known.contains(&name.as_str())) {
            return Err(EnvironmentError::UnknownArgument {
                id: self.id.to_owned(),
                argument: unknown.clone(),
                suggestion: most_similar(unknown, self.known.iter().copied()),
                known: self.known.iter().map(|&name| name.to_owned()).collect(),
            });
        }
        Ok(EnvironmentSpec {
            id: self.id.to_owned(),
            arguments: self.canonical,
            observation,
            action,
            max_episode_steps: max_episode_steps.into(),
            goal: None,
        })
    }
}

/// The candidate most like `name`, if it is similar enough to have been meant.
fn most_similar<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let name = name.to_lowercase();
    candidates
        .map(|candidate| {
            let similarity = strsim::jaro_winkler(&name, &candidate.to_lowercase());
            (similarity, candidate)
        })
        .filter(|(similarity, _)| *similarity >= SUGGESTION_THRESHOLD)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.to_owned())
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"))
}

#[cfg(test)]
mod tests {
    use rookery_common::seeds::{Purpose, Random};

    use super::super::{CellKind, Direction, StepOutput};
    use super::*;

    fn arguments(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn error(id: &str, pairs: &[(&str, &str)]) -> String {
        match make(id, &arguments(pairs), 1) {
            Ok(_) => panic!("`{id}` with {pairs:?} was made"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_id_makes_a_batch_that_carries_it() {
        for id in ids() {
            let batch = make(id, &BTreeMap::new(), 3).unwrap();
            assert_eq!(batch.spec().id, id);
            assert_eq!(batch.num_envs(), 3);
            assert!(batch.spec().arguments.is_empty());
        }
    }

    #[test]
    fn time_limits_are_gymnasiums() {
        let limit = |id: &str, pairs: &[(&str, &str)]| {
            let batch = make(id, &arguments(pairs), 1).unwrap();
            batch.spec().max_episode_steps.unwrap()
        };
        assert_eq!(limit("CartPole-v1", &[]), 500);
        assert_eq!(limit("Pendulum-v1", &[]), 200);
        assert_eq!(limit("MountainCar-v0", &[]), 200);
        assert_eq!(limit("MountainCarContinuous-v0", &[]), 999);
        assert_eq!(limit("Acrobot-v1", &[]), 500);
        assert_eq!(limit("FrozenLake-v1", &[]), 100);
        assert_eq!(limit("FrozenLake-v1", &[("map_name", "8x8")]), 200);
        assert_eq!(limit("GridWorld-v0", &[]), 100);
        assert_eq!(limit("Breakout-MinAtar-v0", &[]), 1000);
        let catch = make("Catch-v0", &BTreeMap::new(), 1).unwrap();
        assert_eq!(catch.spec().max_episode_steps, None);
        assert_eq!(limit("CartPoleNoVelocity-v1", &[]), 500);
        assert_eq!(limit("TMaze-v0", &[]), 110);
        assert_eq!(limit("TMaze-v0", &[("length", "4")]), 50);
    }

    #[test]
    fn goals_fit_their_observations_and_bits_set_the_time_limit() {
        let bits = make("BitFlip-v0", &arguments(&[("bits", "7")]), 1).unwrap();
        assert_eq!(bits.spec().max_episode_steps, Some(7));
        assert_eq!(bits.spec().observation.width(), 14);
        let point = make("PointReach-v0", &BTreeMap::new(), 1).unwrap();
        assert_eq!(point.spec().max_episode_steps, Some(50));
        for batch in [bits, point] {
            assert!(batch.spec().goal.is_some());
            assert_eq!(batch.spec().validate_goal(), Ok(()));
        }
    }

    #[test]
    fn errors_name_what_was_meant() {
        let message = error("cartpole-v0", &[]);
        assert!(
            message.starts_with("unknown environment `cartpole-v0` (did you mean `CartPole-v1`?);"),
            "{message}"
        );
        assert!(
            message.ends_with("Catch-v0, Breakout-MinAtar-v0, CartPoleNoVelocity-v1, TMaze-v0"),
            "{message}"
        );
        assert!(!error("Hopper", &[]).contains("did you mean"));
        assert_eq!(
            error("FrozenLake-v1", &[("map", "4x4")]),
            "`FrozenLake-v1` takes no argument `map` (did you mean `map_name`?); it takes \
             map_name, is_slippery"
        );
        assert_eq!(
            error("FrozenLake-v1", &[("map_name", "5x5")]),
            "argument `map_name` of `FrozenLake-v1` is `5x5`; expected one of 4x4, 8x8"
        );
        assert_eq!(
            error("FrozenLake-v1", &[("is_slippery", "1")]),
            "argument `is_slippery` of `FrozenLake-v1` is `1`; expected true or false"
        );
        assert_eq!(
            error("Pendulum-v1", &[("g", "inf")]),
            "argument `g` of `Pendulum-v1` is `inf`; expected a finite number"
        );
        assert_eq!(
            error("BitFlip-v0", &[("bits", "65")]),
            "argument `bits` of `BitFlip-v0` is `65`; expected a whole number from 1 to 64"
        );
        assert_eq!(
            error("GridWorld-v0", &[("size", "7")]),
            "`GridWorld-v0` takes no argument `size`; it takes observation"
        );
    }

    #[test]
    fn a_grid_is_what_steps_and_observations_say() {
        for (id, pairs, goal, goal_reward) in [
            ("FrozenLake-v1", &[("is_slippery", "false")][..], 15, 1.0),
            (
                "FrozenLake-v1",
                &[("is_slippery", "false"), ("map_name", "8x8")],
                63,
                1.0,
            ),
            ("GridWorld-v0", &[], 24, 10.0),
            ("GridWorld-v0", &[("observation", "cell")], 24, 10.0),
        ] {
            let mut batch = make(id, &arguments(pairs), 1).unwrap();
            let grid = batch.grid().unwrap();
            let num_rows = grid.cells.len() / grid.num_columns;
            assert_eq!(grid.cells.len(), num_rows * grid.num_columns);
            let width = batch.spec().observation.width();
            let mut seen = vec![0.0; width];
            batch.reset(0, Random::derive(1, Purpose::Episode, 0, 0), &mut seen);
            assert_eq!(grid.cells[0].observation, seen);
            assert_eq!(grid.cells[0].kind, CellKind::Start);
            // A walk over the whole grid by actions that mean what their directions say.
            let (mut cell, mut random, mut goals) =
                (0, Random::derive(2, Purpose::Episode, 0, 0), 0);
            for _ in 0..300_000 {
                let action = random.below(4) as usize;
                let (mut rewards, mut terminated) = ([0.0], [0]);
                batch.step(
                    &[action as f32],
                    StepOutput {
                        observations: &mut seen,
                        rewards: &mut rewards,
                        terminated: &mut terminated,
                    },
                );
                let (row, column) = (cell / grid.num_columns, cell % grid.num_columns);
                let (row, column) = match grid.directions[action] {
                    Direction::Up => (row.saturating_sub(1), column),
                    Direction::Right => (row, (column + 1).min(grid.num_columns - 1)),
                    Direction::Down => ((row + 1).min(num_rows - 1), column),
                    Direction::Left => (row, column.saturating_sub(1)),
                };
                cell = row * grid.num_columns + column;
                let there = &grid.cells[cell];
                assert_eq!(there.observation, seen);
                assert_eq!(there.kind.is_terminal(), terminated == [1]);
                assert_eq!(there.kind == CellKind::Goal, cell == goal);
                if terminated == [1] {
                    goals += usize::from(rewards == [goal_reward]);
                    batch.reset(0, Random::derive(1, Purpose::Episode, 0, 0), &mut seen);
                    cell = 0;
                }
            }
            assert!(goals > 0, "{id} {pairs:?}");
        }
        assert!(
            make("CartPole-v1", &BTreeMap::new(), 1)
                .unwrap()
                .grid()
                .is_none()
        );
    }

    #[test]
    fn an_empty_batch_is_refused() {
        assert!(matches!(
            make("CartPole-v1", &BTreeMap::new(), 0),
            Err(EnvironmentError::NoEnvironments { .. })
        ));
    }

    #[test]
    fn equal_arguments_make_equal_specs() {
        let spec = |value: &str| {
            let batch = make("Pendulum-v1", &arguments(&[("g", value)]), 1).unwrap();
            batch.spec().clone()
        };
        assert_eq!(spec("9.81"), spec("9.810"));
        assert_ne!(spec("9.81"), spec("9.8"));
    }
}
