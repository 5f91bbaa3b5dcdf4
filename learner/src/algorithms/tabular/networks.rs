//! What is learnt: a value for each state and action.

use rookery_common::policy::{Encoder, PolicySpec};

use crate::networks::NetworkError;

/// A table of action values, which lies as the policy's parameters: weights
/// `[num_actions, num_states]`, then biases `[num_actions]`, which are zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    num_states: usize,
    num_actions: usize,
    parameters: Vec<f32>,
}

impl Table {
    /// A table of `initial_value`s for a policy of [`PolicySpec::table`].
    ///
    /// # Errors
    /// [`NetworkError::Head`] where the policy is no table.
    pub fn new(spec: &PolicySpec, initial_value: f32) -> Result<Self, NetworkError> {
        let (Encoder::OneHot { n }, Some(num_actions), true) = (
            &spec.encoder,
            spec.head.num_actions(),
            spec.hidden.is_empty(),
        ) else {
            return Err(NetworkError::Head {
                expected: "action_values over a one-hot observation without hidden layers",
                got: spec.head.name(),
            });
        };
        let mut parameters = vec![initial_value; n * num_actions];
        parameters.resize(spec.layout().len(), 0.0);
        Ok(Self {
            num_states: *n,
            num_actions,
            parameters,
        })
    }

    /// Number of states.
    #[must_use]
    pub fn num_states(&self) -> usize {
        self.num_states
    }

    /// Number of actions.
    #[must_use]
    pub fn num_actions(&self) -> usize {
        self.num_actions
    }

    /// All parameters.
    #[must_use]
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// Overwrites all parameters.
    ///
    /// # Errors
    /// [`NetworkError::Parameters`] where their number differs; nothing changes.
    pub fn import(&mut self, parameters: &[f32]) -> Result<(), NetworkError> {
        let (expected, got) = (self.parameters.len(), parameters.len());
        if expected != got {
            return Err(NetworkError::Parameters { expected, got });
        }
        self.parameters.copy_from_slice(parameters);
        Ok(())
    }

    /// The value of an action in a state.
    ///
    /// # Panics
    /// Where there is no such state or action.
    #[must_use]
    pub fn value(&self, state: usize, action: usize) -> f64 {
        f64::from(self.parameters[action * self.num_states + state])
    }

    /// Changes the value of an action in a state.
    ///
    /// # Panics
    /// Where there is no such state or action.
    pub fn set(&mut self, state: usize, action: usize, value: f64) {
        self.parameters[action * self.num_states + state] = value as f32;
    }

    /// The values of all actions in a state.
    pub fn values(&self, state: usize) -> impl Iterator<Item = f64> + '_ {
        (0..self.num_actions).map(move |action| self.value(state, action))
    }

    /// The largest value in a state.
    #[must_use]
    pub fn largest(&self, state: usize) -> f64 {
        self.values(state).fold(f64::NEG_INFINITY, f64::max)
    }

    /// Mean and largest of all values.
    #[must_use]
    pub fn summary(&self) -> (f64, f64) {
        let values = &self.parameters[..self.num_states * self.num_actions];
        let sum: f64 = values.iter().map(|value| f64::from(*value)).sum();
        let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (sum / values.len() as f64, f64::from(largest))
    }
}
