//! Environments by name: [`make`] turns a Gymnasium id and its keyword arguments into a batch.

use std::collections::BTreeMap;

use thiserror::Error;

use rookery_common::configuration::PYTHON_WRAPPERS;

use super::arguments::{Arguments, most_similar};
use super::hosted::{self, HostedError};
use super::own::{self, Environments};
use super::{
    BatchedEnvironment, EnvironmentFault, acrobot, bit_flip, breakout, cart_pole, catch,
    frozen_lake, grid_world, mountain_car, mountain_car_continuous, pendulum, point_reach, t_maze,
};

/// What builds a batch of `num_envs` instances from parsed arguments.
pub(super) type Constructor =
    fn(Arguments<'_>, usize) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError>;

/// Every environment that needs nothing else, by its id.
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

/// Why an environment cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EnvironmentError {
    /// No environment has this id.
    #[error(
        "unknown environment `{id}`{}; this program knows {}; Python does not know it either: {python}",
        did_you_mean(.suggestion.as_deref()),
        .known.join(", ")
    )]
    UnknownId {
        /// The id that was asked for.
        id: String,
        /// The most similar known id, where one is similar.
        suggestion: Option<String>,
        /// Every id of this program's own and every native one.
        known: Vec<String>,
        /// What Python says.
        python: String,
    },
    /// Python knows the environment, and cannot make it.
    #[error("`{id}`: {message}")]
    Hosted {
        /// The id that was asked for.
        id: String,
        /// What Python says.
        message: String,
    },
    /// An environment that is not Python's was asked for with wrappers of Python.
    #[error(
        "`{id}` is not Python's and takes no python_wrappers; Gymnasium's of that name, which takes them, is `gymnasium:{id}`"
    )]
    NativeWithWrappers {
        /// The environment's id.
        id: String,
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
    /// An environment fails again and again.
    #[error(transparent)]
    Fault(#[from] EnvironmentFault),
    /// An environment of one's own cannot be registered under this id.
    #[error("the id `{id}` {reason}")]
    UnusableId {
        /// The id.
        id: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What the environment runs on is not there or refuses.
    #[error("`{id}` cannot be made: {reason}")]
    Unavailable {
        /// The environment's id.
        id: String,
        /// What is missing, with the remedy.
        reason: String,
    },
    /// A batch of zero instances was asked for.
    #[error("a batch of `{id}` needs at least one environment, got 0")]
    NoEnvironments {
        /// The environment's id.
        id: String,
    },
    /// A wrapper cannot stand around what is inside of it.
    #[error("wrapper {place} of `{id}`, {wrapper}: {reason}")]
    Wrapper {
        /// The environment's id.
        id: String,
        /// The wrapper's place in the list; the innermost has place 1.
        place: usize,
        /// The wrapper with its settings.
        wrapper: String,
        /// Why it cannot, and what to do about it.
        reason: String,
    },
}

/// Every native id that works wherever this program does.
pub fn ids() -> impl Iterator<Item = &'static str> {
    REGISTRY.iter().map(|(id, _)| *id)
}

/// Every native environment.
fn native() -> impl Iterator<Item = &'static (&'static str, Constructor)> {
    let native = REGISTRY.iter();
    #[cfg(feature = "mujoco")]
    let native = native.chain(&super::mujoco::REGISTRY);
    native
}

/// Whether a native environment has this id.
pub(super) fn is_native(id: &str) -> bool {
    native().any(|(known, _)| *known == id)
}

/// Refuses wrappers of Python around what is none of Python's.
pub(super) fn refuse_python_wrappers(
    id: &str,
    arguments: &BTreeMap<String, String>,
) -> Result<(), EnvironmentError> {
    if arguments.contains_key(PYTHON_WRAPPERS) {
        return Err(EnvironmentError::NativeWithWrappers { id: id.to_owned() });
    }
    Ok(())
}

/// Makes a batch of `num_envs` instances of the environment `id`: a native one, where there is one, or
/// one of [the program's own](super::Environments), otherwise [Python's](hosted).
///
/// `arguments` are Gymnasium's keyword arguments as text, such as `map_name = "8x8"`. The spec holds
/// those that were given, of native environments in one spelling, so that equal arguments make equal
/// specs.
///
/// # Errors
/// Where the id or an argument is unknown, a value is unusable, `num_envs` is zero, or what the
/// environment runs on is missing.
pub fn make(
    id: &str,
    arguments: &BTreeMap<String, String>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    build(id, arguments, num_envs, false)
}

/// As [`make`], of environments that are to be [drawn](BatchedEnvironment::render): those of Python then
/// are slower and take more memory. Native ones are the same.
///
/// # Errors
/// As [`make`].
pub fn make_visible(
    id: &str,
    arguments: &BTreeMap<String, String>,
    num_envs: usize,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    build(id, arguments, num_envs, true)
}

fn build(
    id: &str,
    arguments: &BTreeMap<String, String>,
    num_envs: usize,
    pictures: bool,
) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError> {
    if num_envs == 0 {
        return Err(EnvironmentError::NoEnvironments { id: id.to_owned() });
    }
    if let Some((id, constructor)) = native().find(|(known, _)| *known == id) {
        refuse_python_wrappers(id, arguments)?;
        return constructor(Arguments::new(id, arguments), num_envs);
    }
    let own = own::installed();
    if let Some(made) = own.make(id, arguments, num_envs) {
        return made;
    }
    hosted::make(id, arguments, num_envs, pictures).map_err(|error| not_hosted(id, &own, error))
}

/// What keeps an environment that is not native from being Python's.
fn not_hosted(id: &str, own: &Environments, error: HostedError) -> EnvironmentError {
    match error {
        HostedError::NoPython(python) | HostedError::Unknown(python) => {
            let known = || own.ids().chain(native().map(|(id, _)| *id));
            EnvironmentError::UnknownId {
                id: id.to_owned(),
                suggestion: most_similar(id, known()),
                known: known().map(str::to_owned).collect(),
                python,
            }
        }
        HostedError::Refused(message) => EnvironmentError::Hosted {
            id: id.to_owned(),
            message,
        },
    }
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
            assert_eq!(batch.spec().validate_parts(), Ok(()));
        }
    }

    #[test]
    fn errors_name_what_was_meant() {
        let _alone = hosted::POOL_TESTS.lock();
        let message = error("cartpole-v0", &[]);
        assert!(
            message.starts_with("unknown environment `cartpole-v0` (did you mean `CartPole-v1`?);"),
            "{message}"
        );
        assert!(
            message.contains("Catch-v0, Breakout-MinAtar-v0, CartPoleNoVelocity-v1, TMaze-v0")
                && message.contains("; Python does not know it either: "),
            "{message}"
        );
        assert!(!error("Seaquest", &[]).contains("did you mean"));
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
            batch
                .reset(0, Random::derive(1, Purpose::Episode, 0, 0), &mut seen)
                .unwrap();
            assert_eq!(grid.cells[0].observation, seen);
            assert_eq!(grid.cells[0].kind, CellKind::Start);
            // A walk over the whole grid by actions that mean what their directions say.
            let (mut cell, mut random, mut goals) =
                (0, Random::derive(2, Purpose::Episode, 0, 0), 0);
            for _ in 0..300_000 {
                let action = random.below(4) as usize;
                let (mut rewards, mut terminated) = ([0.0], [0]);
                batch
                    .step(
                        &[action as f32],
                        StepOutput {
                            observations: &mut seen,
                            rewards: &mut rewards,
                            terminated: &mut terminated,
                            truncated: &mut [0],
                        },
                    )
                    .unwrap();
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
                    batch
                        .reset(0, Random::derive(1, Purpose::Episode, 0, 0), &mut seen)
                        .unwrap();
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
