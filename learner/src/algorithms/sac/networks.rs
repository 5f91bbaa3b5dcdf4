//! The networks of soft actor-critic: a policy and two critics, over flat parameters.

use rookery_common::policy::layout::Layout;
use rookery_common::policy::{Encoder, Head, PolicySpec};
use rookery_common::seeds::{Purpose, Random};
use tch::{Device, Tensor};

use crate::networks::init::{HIDDEN_GAIN, VALUE_HEAD_GAIN, orthogonal_layout};
use crate::networks::{Dense, Flat, NetworkError, Tape};

/// Gain of the policy's output layer: small, so that the first actions are spread over the bounds and none
/// of them is at one.
const POLICY_HEAD_GAIN: f64 = 0.01;

/// The layers of policy and critics, without parameters. Both critics are in one flat vector, so that one
/// optimiser trains them and one operation moves their targets.
#[derive(Debug)]
pub struct SacNetworks {
    /// The policy's layout, as the actors know it.
    pub policy_layout: Layout,
    /// The critics' layout: `critic.0.*`, then `critic.1.*`.
    pub critic_layout: Layout,
    policy: Dense,
    critics: [Dense; 2],
    actions: Actions,
}

/// What actions are.
#[derive(Debug)]
pub enum Actions {
    /// Vectors within bounds: `a = low + (1 + u) (high - low) / 2` for `u` in (-1, 1).
    Continuous {
        /// `(high + low) / 2`, `[dimension]`.
        centre: Tensor,
        /// `(high - low) / 2`, `[dimension]`.
        half_range: Tensor,
    },
    /// Indices.
    Discrete,
}

/// What a forward pass of both critics leaves for its backward pass.
#[derive(Debug)]
pub struct CriticTapes([Tape; 2]);

impl CriticTapes {
    /// The values that one critic gave, `[N, 1]` or `[N, num_actions]`.
    pub fn values(&self, critic: usize) -> &Tensor {
        self.0[critic].output()
    }

    /// The lesser of both critics' values, element by element.
    pub fn least(&self) -> Tensor {
        self.values(0).minimum(self.values(1))
    }
}

impl SacNetworks {
    /// The layers for `policy`; the critics have hidden layers of the same widths and activation.
    ///
    /// # Errors
    /// [`NetworkError::Head`] where the head is neither squashed Gaussian nor categorical,
    /// [`NetworkError::Image`] where the policy has convolutions,
    /// [`NetworkError::Policy`] where the spec is no network.
    pub fn new(policy: &PolicySpec, device: Device) -> Result<Self, NetworkError> {
        policy.validate()?;
        if matches!(policy.encoder, Encoder::Image(_)) {
            return Err(NetworkError::Image);
        }
        let (actions, critic_inputs, critic_outputs) = match &policy.head {
            Head::SquashedGaussian { low, high } => {
                let half = |sign: f32| -> Vec<f32> {
                    low.iter()
                        .zip(high)
                        .map(|(low, high)| 0.5 * high + sign * 0.5 * low)
                        .collect()
                };
                let actions = Actions::Continuous {
                    centre: Tensor::from_slice(&half(1.0)).to_device(device),
                    half_range: Tensor::from_slice(&half(-1.0)).to_device(device),
                };
                (actions, policy.input_width() + low.len(), 1)
            }
            Head::Categorical { num_actions } => {
                (Actions::Discrete, policy.input_width(), *num_actions)
            }
            other => {
                return Err(NetworkError::Head {
                    expected: "squashed_gaussian or categorical",
                    got: other.name(),
                });
            }
        };
        let widths = |outputs: usize| -> Vec<usize> {
            policy.hidden.iter().copied().chain([outputs]).collect()
        };
        let policy_layout = policy.layout();
        let weights = (0..=policy.hidden.len()).map(|layer| 2 * layer).collect();
        let mut critic_layout = Layout::new();
        let critics = [0, 1].map(|critic| {
            Dense::push(
                &mut critic_layout,
                &format!("critic.{critic}"),
                critic_inputs,
                &widths(critic_outputs),
                policy.activation,
                false,
            )
        });
        Ok(Self {
            policy_layout,
            critic_layout,
            policy: Dense::existing(weights, policy.activation, false),
            critics,
            actions,
        })
    }

    /// What actions are.
    #[must_use]
    pub fn actions(&self) -> &Actions {
        &self.actions
    }

    /// Parameters of policy and critics, drawn from `seed`: orthogonal weights, zero biases.
    #[must_use]
    pub fn initial(&self, seed: u64, device: Device) -> (Flat, Flat) {
        let draw = |layout: &Layout, head_gain: f64, first_tensor: usize| {
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
        };
        let num_policy_tensors = self.policy_layout.tensors().len();
        (
            draw(&self.policy_layout, POLICY_HEAD_GAIN, 0),
            draw(&self.critic_layout, VALUE_HEAD_GAIN, num_policy_tensors),
        )
    }

    /// What the policy says: `[N, 2 * dimension]`, means before logarithms of standard deviations, or
    /// logits `[N, num_actions]`.
    #[must_use]
    pub fn policy(&self, parameters: &Flat, inputs: &Tensor) -> Tape {
        self.policy.forward_taped(parameters, inputs)
    }

    /// Writes the gradient of the policy's parameters, given that of its outputs.
    pub fn policy_backward(
        &self,
        parameters: &Flat,
        tape: &Tape,
        output_gradient: Tensor,
        gradient: &Flat,
    ) {
        let _ = self
            .policy
            .backward(parameters, tape, output_gradient, gradient, false);
    }

    /// What a critic sees: the encoded observation, and beside it a continuous action in (-1, 1).
    pub fn critic_inputs(inputs: &Tensor, actions: Option<&Tensor>) -> Tensor {
        match actions {
            Some(actions) => Tensor::cat(&[inputs, actions], 1),
            None => inputs.shallow_clone(),
        }
    }

    /// Both critics' values.
    #[must_use]
    pub fn critics(&self, parameters: &Flat, inputs: &Tensor) -> CriticTapes {
        CriticTapes(
            [0, 1].map(|critic: usize| self.critics[critic].forward_taped(parameters, inputs)),
        )
    }

    /// Writes the gradient of the critics' parameters, given that of their values.
    pub fn critics_backward(
        &self,
        parameters: &Flat,
        tapes: &CriticTapes,
        output_gradients: [Tensor; 2],
        gradient: &Flat,
    ) {
        for ((critic, tape), of_values) in self.critics.iter().zip(&tapes.0).zip(output_gradients) {
            let _ = critic.backward(parameters, tape, of_values, gradient, false);
        }
    }

    /// The gradient of the critics' inputs, given that of their values; no parameter is touched (T25).
    pub fn critics_input_gradient(
        &self,
        parameters: &Flat,
        tapes: &CriticTapes,
        output_gradients: [Tensor; 2],
    ) -> Tensor {
        let [first, second] = output_gradients;
        let mut total = self.critics[0].input_gradient(parameters, &tapes.0[0], first);
        total += self.critics[1].input_gradient(parameters, &tapes.0[1], second);
        total
    }
}

impl Actions {
    /// Actions of the environment as the critics see them: in `[-1, 1]`.
    pub fn scaled(&self, actions: &Tensor) -> Tensor {
        match self {
            Self::Continuous { centre, half_range } => (actions - centre) / half_range,
            Self::Discrete => actions.shallow_clone(),
        }
    }
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
