//! Q-learning (Watkins 1989) and SARSA (Rummery and Niranjan 1994) over a table, for discrete
//! observations and actions.
//!
//! The table is the policy's parameters: one-hot observations, no hidden layers, no bias. So it is
//! published, evaluated and saved like every other policy. It is small; all of this runs on the host.

pub mod config;
pub mod networks;
pub mod loss;
pub mod update;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rookery_common::configuration::Configuration;
use rookery_common::policy::exploration::EPSILON;
use rookery_common::policy::{Exploration, PolicySpec};

pub use config::{Method, TabularConfiguration};
pub use networks::Table;
pub use update::TabularStatistics;

use self::update::Pending;
use super::on_policy::OnPolicyError;
use super::{Algorithm, AlgorithmError, AlgorithmState, RoundContext, Statistics};
use crate::experience::rollout::CompleteRound;
use crate::progress::Stage;

/// The learner's half of Q-learning and SARSA.
#[derive(Debug)]
pub struct Tabular {
    method: Method,
    config: TabularConfiguration,
    table: Table,
    /// By environment, the step of SARSA that waits for its next action.
    pending: Vec<Option<Pending>>,
}

impl Tabular {
    /// A start.
    ///
    /// # Errors
    /// [`AlgorithmError::Network`] where the policy is no table.
    pub fn new(
        method: Method,
        config: TabularConfiguration,
        policy: &PolicySpec,
        num_envs: usize,
    ) -> Result<Self, AlgorithmError> {
        Ok(Self {
            method,
            table: Table::new(policy, config.initial_value as f32)?,
            config,
            pending: vec![None; num_envs],
        })
    }

    /// A start as the run's configuration asks for it.
    ///
    /// # Errors
    /// As [`Tabular::new`].
    pub fn configured(
        configuration: &Configuration,
        policy: &PolicySpec,
    ) -> Result<Self, AlgorithmError> {
        Self::new(
            Method::of(configuration.run.algorithm),
            configuration.tabular.clone(),
            policy,
            configuration.environment.num_envs,
        )
    }

    /// What has been learnt.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }
}

/// How the actors explore: with an epsilon that is published.
#[must_use]
pub fn exploration() -> Exploration {
    Exploration::EpsilonGreedy { per_shard: None }
}

/// Steps that wait for their next action: for each environment whether there is one, its state, its
/// action and its reward.
const PENDING: &str = "pending";

impl Algorithm for Tabular {
    fn policy_parameters(&self) -> Vec<f32> {
        self.table.parameters().to_vec()
    }

    fn acting(&self, env_steps: u64) -> BTreeMap<String, f64> {
        let epsilon = config::epsilon(&self.config, env_steps);
        BTreeMap::from([(EPSILON.to_owned(), epsilon)])
    }

    fn learn(
        &mut self,
        round: &CompleteRound,
        mut context: RoundContext<'_>,
    ) -> Result<Statistics, AlgorithmError> {
        let columns = round.columns(&context.shape, None, None);
        context.lap(Stage::Batch);
        let statistics = self.update(&columns, context.env_steps, context.progress)?;
        context.lap(Stage::Update);
        Ok(Statistics::Tabular(statistics))
    }

    fn state(&self) -> AlgorithmState {
        let pending = self.pending.iter().flat_map(|pending| match pending {
            None => [0.0; 4],
            Some(step) => [1.0, step.state as f32, step.action as f32, step.reward],
        });
        AlgorithmState {
            arrays: BTreeMap::from([
                (
                    AlgorithmState::PARAMETERS.to_owned(),
                    self.table.parameters().to_vec(),
                ),
                (PENDING.to_owned(), pending.collect()),
            ]),
            ..AlgorithmState::default()
        }
    }

    fn restore(&mut self, state: &AlgorithmState) -> Result<(), AlgorithmError> {
        let parameters = state.array(AlgorithmState::PARAMETERS)?;
        let (steps, rest) = state.array(PENDING)?.as_chunks::<4>();
        if steps.len() != self.pending.len() || !rest.is_empty() {
            return Err(AlgorithmError::Length {
                array: PENDING.to_owned(),
                expected: 4 * self.pending.len(),
                got: 4 * steps.len() + rest.len(),
            });
        }
        let step = |&[waits, state, action, reward]: &[f32; 4]| {
            let pending = Pending {
                state: self.states(&[state])?[0],
                action: self.actions(&[action])?[0],
                reward,
            };
            Ok((waits != 0.0).then_some(pending))
        };
        let pending = steps
            .iter()
            .map(step)
            .collect::<Result<Vec<_>, OnPolicyError>>()?;
        self.table.import(parameters)?;
        self.pending = pending;
        Ok(())
    }
}
