//! What a policy knows about every observation of a small environment.

use anyhow::Context as _;
use rookery_actor::environments::{self, Cell, EnvironmentError, Grid};
use rookery_common::configuration::{Algorithm, Configuration};
use rookery_common::policy::distribution::Categorical;
use rookery_common::policy::forward::{Network, Scratch};
use rookery_common::policy::values::ActionValues;
use rookery_common::policy::{Head, PolicyArtifact, PolicySpec, ValueDistribution};
use rookery_common::spaces::{EnvironmentSpec, Space};
use serde::Serialize;

use crate::failure::Failure;

/// What is known about each action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Quantity {
    /// What it is worth.
    ActionValues,
    /// With what probability it is taken.
    ActionProbabilities,
}

/// What is known about one observation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    /// The raw observation.
    pub(super) observation: Vec<f32>,
    /// What it is worth, where anything says so.
    pub(super) value: Option<f64>,
    /// The quantity, for each action.
    pub(super) actions: Vec<f64>,
}

impl Place {
    /// The action that the policy prefers; none where all are alike.
    pub(super) fn preferred(&self) -> Option<usize> {
        let first = *self.actions.first()?;
        if self.actions.iter().all(|action| *action == first) {
            return None;
        }
        let better = |best: usize, (index, value): (usize, &f64)| {
            if *value > self.actions[best] {
                index
            } else {
                best
            }
        };
        Some(self.actions.iter().enumerate().fold(0, better))
    }
}

/// What is known about all of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Knowledge {
    /// What `actions` of each place are.
    pub(super) quantity: Quantity,
    /// The map, where the places are the cells of one.
    pub(super) grid: Option<Grid>,
    /// In the order of the cells, or of the observations' indices.
    pub(super) places: Vec<Place>,
}

impl Knowledge {
    /// Asks a policy about every observation of its environment. `learnt` are all parameters of the
    /// checkpoint that the policy is of, from which the values of a critic come.
    ///
    /// # Errors
    /// Where the observations cannot be listed or the actions are no list.
    pub(super) fn of(
        artifact: &PolicyArtifact,
        configuration: &Configuration,
        learnt: Option<&[f32]>,
    ) -> anyhow::Result<Self> {
        let environment = &artifact.environment;
        if artifact.spec.recurrent.is_some() {
            let message = "what a recurrent policy does depends on what it has seen before, so it cannot \
                           be listed by observation; inspect shows policies without a recurrent layer";
            return Err(Failure::usage(message.to_owned()).into());
        }
        let grid = grid_of(environment)?;
        let observations = observations_of(environment, grid.as_ref())?;
        let rows = Rows::new(artifact, &observations);
        let outputs = rows.outputs(&artifact.spec, &artifact.parameters)?;
        let heads = outputs.chunks_exact(artifact.spec.head_width());
        let (quantity, actions): (_, Vec<Vec<f64>>) = match artifact.spec.head {
            Head::ActionValues { distribution, .. } => {
                let actions = heads.map(|row| action_values(row, distribution));
                (Quantity::ActionValues, actions.collect())
            }
            Head::Categorical { .. } => {
                let actions = heads.map(probabilities);
                (Quantity::ActionProbabilities, actions.collect())
            }
            Head::DiagonalGaussian { .. }
            | Head::MultiCategorical { .. }
            | Head::SquashedGaussian { .. }
            | Head::Deterministic { .. } => {
                let message = format!(
                    "the actions of {} are {}, which cannot be listed; inspect shows policies with \
                     discrete actions",
                    environment.id, environment.action
                );
                return Err(Failure::usage(message).into());
            }
        };
        let values: Vec<Option<f64>> = match quantity {
            Quantity::ActionValues => actions
                .iter()
                .map(|row| row.iter().copied().reduce(f64::max))
                .collect(),
            Quantity::ActionProbabilities => {
                match learnt.and_then(|all| critic(artifact, configuration, all)) {
                    None => vec![None; observations.len()],
                    Some((spec, parameters)) => rows
                        .outputs(&spec, &parameters)?
                        .into_iter()
                        .map(|value| Some(f64::from(value)))
                        .collect(),
                }
            }
        };
        let places = observations
            .into_iter()
            .zip(values)
            .zip(actions)
            .map(|((observation, value), actions)| Place {
                observation,
                value,
                actions,
            })
            .collect();
        Ok(Self {
            quantity,
            grid,
            places,
        })
    }
}

/// The map of an environment. One that this program does not know has none.
fn grid_of(environment: &EnvironmentSpec) -> anyhow::Result<Option<Grid>> {
    let bare = environments::make(&environment.id, &environment.arguments, 1);
    match bare.and_then(|bare| environments::wrap(bare, &environment.wrappers)) {
        Ok(batch) => Ok(batch.grid()),
        Err(EnvironmentError::UnknownId { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Everything that can be observed.
fn observations_of(
    environment: &EnvironmentSpec,
    grid: Option<&Grid>,
) -> anyhow::Result<Vec<Vec<f32>>> {
    match (grid, &environment.observation) {
        (Some(grid), _) => Ok(grid
            .cells
            .iter()
            .map(|Cell { observation, .. }| observation.clone())
            .collect()),
        (None, Space::Discrete { n }) => Ok((0..*n).map(|index| vec![index as f32]).collect()),
        (None, observation) => {
            let message = format!(
                "the observations of {} are {observation}, which cannot be listed; inspect shows \
                 environments with discrete observations, and FrozenLake-v1 and GridWorld-v0 as grids",
                environment.id
            );
            Err(Failure::usage(message).into())
        }
    }
}

/// Observations as the networks see them.
struct Rows {
    normalised: Vec<f32>,
    count: usize,
}

impl Rows {
    fn new(artifact: &PolicyArtifact, observations: &[Vec<f32>]) -> Self {
        let mut normalised = observations.concat();
        if let Some(normaliser) = &artifact.normaliser {
            normaliser.apply(&mut normalised);
        }
        Self {
            normalised,
            count: observations.len(),
        }
    }

    /// What a network says about every row.
    fn outputs(&self, spec: &PolicySpec, parameters: &[f32]) -> anyhow::Result<Vec<f32>> {
        let network = Network::new(spec, parameters).context("cannot use the checkpoint")?;
        let mut outputs = vec![0.0; self.count * spec.head_width()];
        network.forward(&mut Scratch::default(), &self.normalised, &mut outputs);
        Ok(outputs)
    }
}

fn action_values(row: &[f32], distribution: ValueDistribution) -> Vec<f64> {
    let values = ActionValues::new(row, distribution);
    (0..values.num_actions())
        .map(|action| values.value(action).into())
        .collect()
}

fn probabilities(row: &[f32]) -> Vec<f64> {
    let categorical = Categorical::new(row);
    (0..row.len())
        .map(|action| f64::from(categorical.log_prob(action)).exp())
        .collect()
}

/// The state-value function of an actor-critic as a network with one output, and its parameters out of
/// all that is learnt: the critic's lie behind the policy's; a shared one has the policy's hidden layers.
/// None where the algorithm has learnt none.
fn critic(
    artifact: &PolicyArtifact,
    configuration: &Configuration,
    learnt: &[f32],
) -> Option<(PolicySpec, Vec<f32>)> {
    let has_critic = match configuration.run.algorithm {
        Algorithm::Ppo | Algorithm::Impala | Algorithm::A2c => true,
        Algorithm::Reinforce => configuration.reinforce.baseline,
        Algorithm::Dqn
        | Algorithm::Sac
        | Algorithm::Td3
        | Algorithm::QLearning
        | Algorithm::Sarsa => false,
    };
    if !has_critic {
        return None;
    }
    let spec = PolicySpec {
        head: Head::ActionValues {
            num_actions: 1,
            dueling: false,
            distribution: ValueDistribution::Expectation,
            noisy: false,
        },
        ..artifact.spec.clone()
    };
    let layout = artifact.spec.layout();
    let head = layout.find("policy.head.weight")?.offset();
    let shared = if configuration.policy.shared_trunk {
        head
    } else {
        0
    };
    let parameters = [learnt.get(..shared)?, learnt.get(layout.len()..)?].concat();
    Some((spec, parameters))
}
