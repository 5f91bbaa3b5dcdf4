//! The networks of TD3: a deterministic policy, beside [twin critics](crate::algorithms::twin_critics).

use rookery_common::policy::layout::Layout;
use rookery_common::policy::{Head, PolicySpec};
use tch::Device;

use crate::algorithms::bounded::{ActionBounds, policy_network};
use crate::networks::{Dense, NetworkError};

/// The layers of the policy, without parameters.
#[derive(Debug)]
pub struct Td3Policy {
    /// The layout, as the actors know it.
    pub layout: Layout,
    /// The layers.
    pub network: Dense,
    /// The actions' bounds.
    pub bounds: ActionBounds,
}

impl Td3Policy {
    /// The layers for `policy`.
    ///
    /// # Errors
    /// [`NetworkError::Head`] where the head is not deterministic, and as [`policy_network`].
    pub fn new(policy: &PolicySpec, device: Device) -> Result<Self, NetworkError> {
        let network = policy_network(policy)?;
        let Head::Deterministic { low, high } = &policy.head else {
            return Err(NetworkError::Head {
                expected: "deterministic",
                got: policy.head.name(),
            });
        };
        Ok(Self {
            layout: policy.layout(),
            network,
            bounds: ActionBounds::new(low, high, device),
        })
    }
}
