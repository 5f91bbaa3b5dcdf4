//! Environments of one's own in Rust: the rules of one instance are an [`Environment`], and
//! [`Environments`] holds by which ids a program knows them.
//!
//! A program with environments of its own is an actor in all else: its `main` hands [`Environments`] to
//! [`rookery_actor::run`](crate::run). `examples/own-environment` is a whole one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rookery_common::seeds::Random;
use rookery_common::spaces::Space;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::arguments::Arguments;
use super::batch::{Batch, Rules, Step};
use super::registry::{self, EnvironmentError};
use super::{BatchedEnvironment, Frame};

/// The rules of one instance of an environment.
///
/// Rules are apart from states: one value of this type, which holds what every instance has in common
/// (its arguments), steps all instances of a batch. Whatever changes from step to step belongs to
/// [`State`](Self::State), and is then saved, moved to another actor and restored without further work.
///
/// A run is a function of its seed if `reset` and `step` are functions of what they are given: random
/// numbers come from the generator that `reset` is given, which a state keeps where steps draw too, never
/// from the clock or from threads.
pub trait Environment: Send {
    /// All that the future of an instance depends on, besides actions and resets.
    type State: Serialize + DeserializeOwned + Send;

    /// What is observed.
    fn observation_space(&self) -> Space;

    /// What can be done.
    fn action_space(&self) -> Space;

    /// Whether the last values of an observation are an action mask: one for each action, 0 where it cannot
    /// be taken in that state and 1 where it can. At least one can, unless the episode is over.
    fn has_action_mask(&self) -> bool {
        false
    }

    /// Steps after which an episode is cut short (truncated); none: never.
    fn max_episode_steps(&self) -> Option<u32> {
        None
    }

    /// The first state of an episode.
    fn reset(&self, random: Random) -> Self::State;

    /// Takes one step. It is not called again after a step that terminated or truncated, but reset is.
    ///
    /// # Shapes
    /// `action`: `[A]`, always inside the action space: the index of a discrete one as a whole number,
    /// values of a box clipped to its bounds.
    fn step(&self, state: &mut Self::State, action: &[f32]) -> Step;

    /// Writes what is observed in a state: finite values inside the observation space.
    ///
    /// # Shapes
    /// `observation`: `[W]`, a box flattened in row-major order, a discrete one's index as one value. It
    /// may hold anything before.
    fn observe(&self, state: &Self::State, observation: &mut [f32]);

    /// Whether this is a state that the rules can reach. States come from other actors, and one that
    /// would make `step` panic, such as a place beyond the map, is refused here.
    fn is_possible(&self, state: &Self::State) -> bool {
        let _ = state;
        true
    }

    /// A picture of a state, for recorded evaluations; none: nothing is drawn.
    fn render(&self, state: &Self::State) -> Option<Frame> {
        let _ = state;
        None
    }
}

/// What makes a batch of instances from parsed arguments.
type Constructor = Box<
    dyn Fn(Arguments<'_>, usize) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError>
        + Send
        + Sync,
>;

/// The environments that a program has besides Rookery's, by their ids.
///
/// ```no_run
/// # use rookery_actor::environments::{Arguments, Environment, EnvironmentError, Step};
/// # use rookery_common::{seeds::Random, spaces::Space};
/// # struct Coin;
/// # impl Environment for Coin {
/// #     type State = ();
/// #     fn observation_space(&self) -> Space { Space::Discrete { n: 1 } }
/// #     fn action_space(&self) -> Space { Space::Discrete { n: 2 } }
/// #     fn reset(&self, _: Random) {}
/// #     fn step(&self, _: &mut (), _: &[f32]) -> Step { Step::new(0.0, true) }
/// #     fn observe(&self, _: &(), observation: &mut [f32]) { observation[0] = 0.0; }
/// # }
/// # impl Coin {
/// #     fn new(_: &mut Arguments<'_>) -> Result<Self, EnvironmentError> { Ok(Self) }
/// # }
/// use rookery_actor::environments::Environments;
///
/// fn main() -> std::process::ExitCode {
///     rookery_actor::run(Environments::default().with("Coin-v0", Coin::new))
/// }
/// ```
#[derive(Default)]
pub struct Environments {
    entries: Vec<(String, Constructor)>,
}

impl fmt::Debug for Environments {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.entries.iter().map(|(id, _)| id);
        formatter.debug_set().entries(ids).finish()
    }
}

impl Environments {
    /// Adds an environment. `constructor` reads its arguments (`environment.arguments` in the
    /// configuration); one that it does not read is refused where it is given.
    #[must_use]
    pub fn with<E, F>(self, id: impl Into<String>, constructor: F) -> Self
    where
        E: Environment + 'static,
        F: Fn(&mut Arguments<'_>) -> Result<E, EnvironmentError> + Send + Sync + 'static,
    {
        self.with_batches(id, move |mut arguments, num_envs| {
            let rules = Own::new(constructor(&mut arguments)?);
            let environment = &rules.environment;
            let (observation, action) = (environment.observation_space(), &rules.action_space);
            if observation.width() == 0 || action.width() == 0 {
                return Err(EnvironmentError::Unavailable {
                    id: arguments.id().to_owned(),
                    reason: format!("its spaces are {observation} and {action}, and one is empty"),
                });
            }
            let limit = environment.max_episode_steps();
            let id = arguments.id().to_owned();
            let mut spec = arguments.into_spec(observation, action.clone(), limit)?;
            spec.action_mask = environment.has_action_mask();
            spec.validate_parts()
                .map_err(|error| EnvironmentError::Unavailable {
                    id,
                    reason: error.to_string(),
                })?;
            Ok(Box::new(Batch::with_rules(spec, rules, num_envs)))
        })
    }

    /// Adds an environment that steps its batches itself, where one instance after the other is too slow.
    #[must_use]
    pub fn with_batches<F>(mut self, id: impl Into<String>, constructor: F) -> Self
    where
        F: Fn(Arguments<'_>, usize) -> Result<Box<dyn BatchedEnvironment>, EnvironmentError>
            + Send
            + Sync
            + 'static,
    {
        self.entries.push((id.into(), Box::new(constructor)));
        self
    }

    /// Has [`make`](super::make) know these environments from now on, in this process and in place of
    /// those that it was told before. [`rookery_actor::run`](crate::run) does it.
    ///
    /// # Errors
    /// Where an id is empty, has a colon, is there twice, or is that of a native environment.
    pub fn install(self) -> Result<(), EnvironmentError> {
        for (index, (id, _)) in self.entries.iter().enumerate() {
            let unusable = |reason| EnvironmentError::UnusableId {
                id: id.clone(),
                reason,
            };
            if id.is_empty() {
                return Err(unusable("is empty; give it a name, such as `Mine-v0`"));
            }
            if id.contains(':') {
                return Err(unusable(
                    "has a colon, which stands between module and class of Python's environments",
                ));
            }
            if registry::is_native(id) {
                return Err(unusable(
                    "is a native environment's already; choose another",
                ));
            }
            if self.entries[..index].iter().any(|(other, _)| other == id) {
                return Err(unusable("is registered twice"));
            }
        }
        *INSTALLED.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(self));
        Ok(())
    }

    /// Makes a batch, where `id` is one of these.
    pub(super) fn make(
        &self,
        id: &str,
        arguments: &BTreeMap<String, String>,
        num_envs: usize,
    ) -> Option<Result<Box<dyn BatchedEnvironment>, EnvironmentError>> {
        let (id, constructor) = self.entries.iter().find(|(known, _)| known == id)?;
        Some(
            registry::refuse_python_wrappers(id, arguments)
                .and_then(|()| constructor(Arguments::new(id, arguments), num_envs)),
        )
    }

    /// Every id.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(id, _)| id.as_str())
    }
}

/// What [`Environments::install`] was called with last.
static INSTALLED: RwLock<Option<Arc<Environments>>> = RwLock::new(None);

/// The environments that this program has besides Rookery's.
pub(super) fn installed() -> Arc<Environments> {
    let installed = INSTALLED.read().unwrap_or_else(PoisonError::into_inner);
    installed.as_ref().map(Arc::clone).unwrap_or_default()
}

/// An [`Environment`] as the rules of a batch: its actions are put into their space.
#[derive(Debug)]
struct Own<E> {
    environment: E,
    observation_width: usize,
    action_space: Space,
    /// The action of one instance at a time.
    action: RefCell<Vec<f32>>,
}

impl<E: Environment> Own<E> {
    fn new(environment: E) -> Self {
        let action_space = environment.action_space();
        Self {
            observation_width: environment.observation_space().width(),
            action: RefCell::new(vec![0.0; action_space.width()]),
            action_space,
            environment,
        }
    }
}

impl<E: Environment> Rules for Own<E> {
    type State = E::State;

    fn observation_width(&self) -> usize {
        self.observation_width
    }

    fn action_width(&self) -> usize {
        self.action_space.width()
    }

    fn begin(&self, random: Random) -> Self::State {
        self.environment.reset(random)
    }

    fn advance(&self, state: &mut Self::State, action: &[f32]) -> Step {
        let mut inside = self.action.borrow_mut();
        inside.copy_from_slice(action);
        self.action_space.project(&mut inside);
        self.environment.step(state, &inside)
    }

    fn observe(&self, state: &Self::State, row: &mut [f32]) {
        self.environment.observe(state, row);
    }

    fn is_possible(&self, state: &Self::State) -> bool {
        self.environment.is_possible(state)
    }

    fn render(&self, state: &Self::State) -> Option<Frame> {
        self.environment.render(state)
    }
}

#[cfg(test)]
mod tests {
    use super::super::StepOutput;
    use super::*;

    /// Adds what it is told; truncates beyond ten, and cannot be where it is negative.
    struct Sum {
        action: Space,
    }

    impl Sum {
        fn new(arguments: &mut Arguments<'_>) -> Result<Self, EnvironmentError> {
            let highest = arguments.number("highest", 2.0)? as f32;
            let action =
                match *arguments.choice("actions", &["pair", "three", "none"], |name| name)? {
                    "pair" => Space::bounded(&[-1.0, -1.0], &[highest, 2.0]),
                    "three" => Space::Discrete { n: 3 },
                    _ => Space::bounded(&[], &[]),
                };
            Ok(Self { action })
        }
    }

    impl Environment for Sum {
        type State = f32;

        fn observation_space(&self) -> Space {
            Space::bounded(&[0.0], &[100.0])
        }

        fn action_space(&self) -> Space {
            self.action.clone()
        }

        fn reset(&self, _random: Random) -> f32 {
            0.0
        }

        fn step(&self, sum: &mut f32, action: &[f32]) -> Step {
            *sum += action.iter().sum::<f32>();
            Step {
                truncated: *sum > 10.0,
                ..Step::new(*sum, false)
            }
        }

        fn observe(&self, sum: &f32, observation: &mut [f32]) {
            observation[0] = *sum;
        }

        fn is_possible(&self, sum: &f32) -> bool {
            *sum >= 0.0
        }

        fn render(&self, sum: &f32) -> Option<Frame> {
            Some(Frame {
                width: 1,
                height: 1,
                rgb: vec![*sum as u8; 3],
            })
        }
    }

    fn environments() -> Environments {
        Environments::default().with("Sum-v0", Sum::new)
    }

    fn make(arguments: &[(&str, &str)]) -> Result<Box<dyn BatchedEnvironment>, String> {
        let arguments = arguments.iter();
        let arguments = arguments
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let made = environments().make("Sum-v0", &arguments, 1);
        made.expect("it is known")
            .map_err(|error| error.to_string())
    }

    /// The sum after an action, and whether that truncated.
    fn step(batch: &mut dyn BatchedEnvironment, action: &[f32]) -> (f32, bool) {
        let (mut observations, mut truncated) = ([0.0], [0]);
        let output = StepOutput {
            observations: &mut observations,
            rewards: &mut [0.0],
            terminated: &mut [0],
            truncated: &mut truncated,
        };
        batch.step(action, output).unwrap();
        (observations[0], truncated == [1])
    }

    #[test]
    fn actions_are_put_into_their_space() {
        let mut sum = make(&[]).unwrap();
        assert_eq!(step(&mut *sum, &[9.0, 1.0]), (3.0, false));
        assert_eq!(step(&mut *sum, &[f32::NAN, -9.0]), (1.0, false));
        let mut count = make(&[("actions", "three")]).unwrap();
        for (action, expected) in [(2.0, 2.0), (7.0, 4.0), (-1.0, 4.0), (f32::NAN, 4.0)] {
            assert_eq!(step(&mut *count, &[action]), (expected, false));
        }
    }

    #[test]
    fn rules_truncate_draw_and_say_what_cannot_be() {
        let mut count = make(&[("actions", "three")]).unwrap();
        let sums: Vec<_> = (0..6).map(|_| step(&mut *count, &[2.0])).collect();
        assert_eq!(sums[4..], [(10.0, false), (12.0, true)]);
        assert_eq!(count.render(0).unwrap().unwrap().rgb, [12; 3]);
        let mut state = Vec::new();
        count.save(&mut state);
        assert_eq!(count.restore(&state), Ok(()));
        let sign = state.len() - 1;
        state[sign] |= 0x80;
        assert!(count.restore(&state).is_err());
        assert_eq!(step(&mut *count, &[0.0]), (12.0, true));
    }

    #[test]
    fn arguments_are_read_refused_and_kept() {
        let sum = make(&[("highest", "5")]).unwrap();
        assert_eq!(sum.spec().arguments["highest"], "5");
        assert_eq!(sum.spec().id, "Sum-v0");
        let refused = |pairs: &[(&str, &str)]| make(pairs).err().unwrap();
        assert_eq!(
            refused(&[("hihgest", "5")]),
            "`Sum-v0` takes no argument `hihgest` (did you mean `highest`?); it takes highest, \
             actions"
        );
        assert!(refused(&[("python_wrappers", "a:B")]).contains("is not Python's"));
        assert!(refused(&[("actions", "none")]).contains("one is empty"));
    }

    #[test]
    fn ids_that_mean_something_else_are_refused() {
        let refused = |id: &str| {
            let more = environments().with(id, Sum::new);
            more.install().unwrap_err().to_string()
        };
        assert_eq!(refused("Sum-v0"), "the id `Sum-v0` is registered twice");
        assert_eq!(
            refused("CartPole-v1"),
            "the id `CartPole-v1` is a native environment's already; choose another"
        );
        assert!(refused("").contains("is empty"));
        assert!(refused("mine:Sum").contains("colon"));
    }
}
