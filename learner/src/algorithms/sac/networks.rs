//! The networks of soft actor-critic: a policy, beside [twin critics](crate::algorithms::twin_critics).

use rookery_common::policy::layout::Layout;
use rookery_common::policy::{Head, PolicySpec};
use tch::{Device, Tensor};

use crate::algorithms::bounded::{ActionBounds, policy_network};
use crate::networks::{Dense, Flat, NetworkError, Tape};

/// The layers of the policy, without parameters.
#[derive(Debug)]
pub struct SacPolicy {
    /// The layout, as the actors know it.
    pub layout: Layout,
    network: Dense,
    actions: Actions,
}

/// What actions are.
#[derive(Debug)]
pub enum Actions {
    /// Vectors within bounds.
    Continuous(ActionBounds),
    /// Indices.
    Discrete,
}

impl SacPolicy {
    /// The layers for `policy`.
    ///
    /// # Errors
    /// [`NetworkError::Head`] where the head is neither squashed Gaussian nor categorical, and as
    /// [`policy_network`].
    pub fn new(policy: &PolicySpec, device: Device) -> Result<Self, NetworkError> {
        let network = policy_network(policy)?;
        let actions = match &policy.head {
            Head::SquashedGaussian { low, high } => {
                Actions::Continuous(ActionBounds::new(low, high, device))
            }
            Head::Categorical { .. } => Actions::Discrete,
            other => {
                return Err(NetworkError::Head {
                    expected: "squashed_gaussian or categorical",
                    got: other.name(),
                });
            }
        };
        Ok(Self {
            layout: policy.layout(),
            network,
            actions,
        })
    }

    /// What actions are.
    #[must_use]
    pub fn actions(&self) -> &Actions {
        &self.actions
    }

    /// What the policy says: `[N, 2 * dimension]`, means before logarithms of standard deviations, or
    /// logits `[N, num_actions]`.
    pub fn outputs(&self, parameters: &Flat, inputs: &Tensor) -> Tensor {
        self.network.forward(parameters, inputs)
    }

    /// As [`SacPolicy::outputs`], and keeps what [`SacPolicy::backward`] needs.
    #[must_use]
    pub fn forward(&self, parameters: &Flat, inputs: &Tensor) -> Tape {
        self.network.forward_taped(parameters, inputs)
    }

    /// Writes the gradient of the parameters, given that of the outputs.
    pub fn backward(
        &self,
        parameters: &Flat,
        tape: &Tape,
        output_gradient: Tensor,
        gradient: &Flat,
    ) {
        let _ = self
            .network
            .backward(parameters, tape, output_gradient, gradient, false);
    }
}

impl Actions {
    /// Actions of the environment as the critics see them: in `[-1, 1]`.
    pub fn scaled(&self, actions: &Tensor) -> Tensor {
        match self {
            Self::Continuous(bounds) => bounds.scaled(actions),
            Self::Discrete => actions.shallow_clone(),
        }
    }
}
