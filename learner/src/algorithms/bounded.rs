//! What [soft actor-critic](super::sac) and [TD3](super::td3) share around their policies: actions within
//! bounds, the noise that they are drawn with, and how networks begin.

use rookery_common::policy::layout::Layout;
use rookery_common::policy::{Encoder, PolicySpec};
use rookery_common::seeds::{Purpose, Random};
use tch::{Device, Tensor};

use crate::networks::init::{HIDDEN_GAIN, orthogonal_layout};
use crate::networks::{Dense, Flat, NetworkError};

/// Gain of the policy's output layer: small, so that the first actions are spread over the bounds and none
/// of them is at one.
const POLICY_HEAD_GAIN: f64 = 0.01;

/// Bounds of an action: `a = centre + u half_range` for `u` in `[-1, 1]`, which is what networks see.
#[derive(Debug)]
pub struct ActionBounds {
    /// `(high + low) / 2`, `[dimension]`.
    centre: Tensor,
    /// `(high - low) / 2`, `[dimension]`.
    half_range: Tensor,
}

impl ActionBounds {
    /// The box between `low` and `high`, which are finite and in order.
    #[must_use]
    pub fn new(low: &[f32], high: &[f32], device: Device) -> Self {
        let half = |sign: f32| {
            let host: Vec<f32> = low
                .iter()
                .zip(high)
                .map(|(low, high)| 0.5 * high + sign * 0.5 * low)
                .collect();
            Tensor::from_slice(&host).to_device(device)
        };
        Self {
            centre: half(1.0),
            half_range: half(-1.0),
        }
    }

    /// Actions of the environment, `[N, dimension]`, in units of the bounds: in `[-1, 1]`.
    pub fn scaled(&self, actions: &Tensor) -> Tensor {
        (actions - &self.centre) / &self.half_range
    }
}

/// Checks that `policy` is a network without convolutions, and gives its layers.
///
/// # Errors
/// [`NetworkError::Policy`] where the spec is no network, [`NetworkError::Image`] where it has convolutions.
pub fn policy_network(policy: &PolicySpec) -> Result<Dense, NetworkError> {
    policy.validate()?;
    if matches!(policy.encoder, Encoder::Image(_)) {
        return Err(NetworkError::Image);
    }
    let weights = (0..=policy.hidden.len()).map(|layer| 2 * layer).collect();
    Ok(Dense::existing(weights, policy.activation, false))
}

/// A policy's first parameters, drawn from `seed`.
#[must_use]
pub fn initial_policy(layout: &Layout, seed: u64, device: Device) -> Flat {
    initial(layout, POLICY_HEAD_GAIN, 0, seed, device)
}

/// Orthogonal weights and zero biases for networks whose output layers are called `head`. `first_tensor`
/// says how many tensors of the same seed were drawn before.
#[must_use]
pub fn initial(
    layout: &Layout,
    head_gain: f64,
    first_tensor: usize,
    seed: u64,
    device: Device,
) -> Flat {
    let gain = |name: &str| {
        if name.ends_with(".head.weight") {
            head_gain
        } else {
            HIDDEN_GAIN
        }
    };
    let host = orthogonal_layout(layout, gain, seed, first_tensor as u64);
    let mut flat = Flat::zeros(layout, device);
    flat.values_mut().copy_(&Tensor::from_slice(&host));
    flat
}

/// Standard normals for the actions of one gradient step, `[rows, dimension]`.
pub fn standard_normals(
    seed: u64,
    update: u64,
    draw: u64,
    rows: usize,
    dimension: usize,
    device: Device,
) -> Tensor {
    let mut random = Random::derive(seed, Purpose::LearnerNoise, update, draw);
    let count = rows * dimension;
    let mut host = Vec::with_capacity(count + 1);
    while host.len() < count {
        let (first, second) = random.standard_normals();
        host.extend([first as f32, second as f32]);
    }
    host.truncate(count);
    Tensor::from_slice(&host)
        .view([rows as i64, dimension as i64])
        .to_device(device)
}
