//! A policy and a state-value function over one flat tensor of parameters.

use rookery_common::policy::PolicySpec;
use rookery_common::policy::layout::{Layout, TensorSlot};
use rookery_common::policy::spec::{Activation, Encoder, Head, SpecError};
use tch::{Device, Kind, Tensor};
use thiserror::Error;

use super::init::{HIDDEN_GAIN, POLICY_HEAD_GAIN, VALUE_HEAD_GAIN, orthogonal};
use crate::tensors::to_host;

/// Rows of which values are computed at once where no gradient is wanted: few enough that a hidden
/// layer of 64 stays in a core's second-level cache, enough that a call's overhead is small.
const VALUE_ROWS: i64 = 2048;

/// How the critic sees the observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CriticSpec {
    /// Through the policy's hidden layers; its own is the head only.
    Shared,
    /// Through hidden layers of its own, of these widths, with the policy's activation.
    Separate(Vec<usize>),
}

/// What an [`ActorCritic`] looks like.
#[derive(Clone, Debug, PartialEq)]
pub struct ActorCriticSpec {
    /// The acting half, shared with the actors.
    pub policy: PolicySpec,
    /// Logarithm of the standard deviation with which a continuous policy starts.
    pub initial_log_std: f32,
    /// The critic.
    pub critic: CriticSpec,
}

/// Why an [`ActorCritic`] refuses what it is given.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// A policy that is no network.
    #[error(transparent)]
    Policy(#[from] SpecError),
    /// A hidden layer of the critic without a width.
    #[error("hidden layer {layer} of the critic has width 0, expected at least 1")]
    CriticWidth {
        /// Index of the layer.
        layer: usize,
    },
    /// Parameters for another network.
    #[error(
        "{got} parameters given, this network has {expected}; resume with the network options of \
         the checkpoint"
    )]
    Parameters {
        /// Parameters of this network.
        expected: usize,
        /// Parameters given.
        got: usize,
    },
    /// Observations that make no whole number of rows.
    #[error("{got} observation values are no whole number of rows of {width}")]
    Observations {
        /// Values of one row.
        width: usize,
        /// Values given.
        got: usize,
    },
    /// A policy whose head is another algorithm's.
    #[error("the policy's head is {got}, expected {expected}")]
    Head {
        /// What would suit.
        expected: &'static str,
        /// The head.
        got: &'static str,
    },
    /// An index outside of a one-hot encoder.
    #[error("observation {index} of row {row} is no whole number below {num_categories}")]
    Category {
        /// The row.
        row: usize,
        /// What the row holds.
        index: String,
        /// Number of categories.
        num_categories: usize,
    },
}

/// What one forward pass gives for `N` rows.
#[derive(Debug)]
pub struct Outputs {
    /// Logits `[N, num_actions]` or means `[N, dimension]`.
    pub policy: Tensor,
    /// Logarithm of the standard deviation, `[dimension]`; only of a Gaussian policy.
    pub log_std: Option<Tensor>,
    /// State values, `[N, 1]`.
    pub values: Tensor,
}

/// One linear map as views of the flat parameters.
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn forward(&self, input: &Tensor) -> Tensor {
        input.linear(&self.weight, Some(&self.bias))
    }
}

/// All layers as views of the flat parameters.
struct Layers {
    policy_hidden: Vec<Linear>,
    policy_head: Linear,
    log_std: Option<Tensor>,
    critic_hidden: Vec<Linear>,
    critic_head: Linear,
}

/// A policy and its critic.
///
/// # Layout
/// The policy's tensors come first, in the order of [`PolicySpec::layout`]; then `critic.0.weight`,
/// `critic.0.bias`, ..., `critic.head.weight`, `critic.head.bias`.
#[derive(Debug)]
pub struct ActorCritic {
    spec: ActorCriticSpec,
    layout: Layout,
    split_sizes: Vec<i64>,
    num_policy_parameters: usize,
    parameters: Tensor,
}

impl ActorCritic {
    /// A network whose parameters are drawn from `seed`: orthogonal weights, zero biases, and the
    /// configured standard deviation.
    ///
    /// # Errors
    /// [`NetworkError::Policy`], [`NetworkError::Head`] and [`NetworkError::CriticWidth`].
    pub fn new(spec: ActorCriticSpec, seed: u64, device: Device) -> Result<Self, NetworkError> {
        spec.policy.validate()?;
        if !matches!(
            spec.policy.head,
            Head::Categorical { .. } | Head::DiagonalGaussian { .. }
        ) {
            return Err(NetworkError::Head {
                expected: "categorical or diagonal_gaussian",
                got: spec.policy.head.name(),
            });
        }
        let mut layout = spec.policy.layout();
        let num_policy_parameters = layout.len();
        push_critic(&mut layout, &spec)?;
        let mut values = Vec::with_capacity(layout.len());
        for (index, slot) in layout.tensors().iter().enumerate() {
            values.extend(initial_values(slot, &spec, seed, index as u64));
        }
        let split_sizes = layout
            .tensors()
            .iter()
            .map(|slot| slot.range().len() as i64)
            .collect();
        let parameters = Tensor::from_slice(&values)
            .to_device(device)
            .set_requires_grad(true);
        Ok(Self {
            spec,
            layout,
            split_sizes,
            num_policy_parameters,
            parameters,
        })
    }

    /// What this network looks like.
    pub fn spec(&self) -> &ActorCriticSpec {
        &self.spec
    }

    /// Where each tensor lies in the flat parameters.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Number of all parameters.
    pub fn num_parameters(&self) -> usize {
        self.parameters.numel()
    }

    /// Number of the parameters that are published; they come first.
    pub fn num_policy_parameters(&self) -> usize {
        self.num_policy_parameters
    }

    /// The flat leaf tensor, `[num_parameters]`, f32.
    pub fn parameters(&self) -> &Tensor {
        &self.parameters
    }

    /// The flat leaf tensor, for the optimiser.
    pub fn parameters_mut(&mut self) -> &mut Tensor {
        &mut self.parameters
    }

    /// Where the parameters live.
    pub fn device(&self) -> Device {
        self.parameters.device()
    }

    /// Copies all parameters to the host.
    pub fn export(&self) -> Vec<f32> {
        to_host(&self.parameters)
    }

    /// Copies the parameters that act to the host, in the order of [`PolicySpec::layout`].
    pub fn export_policy(&self) -> Vec<f32> {
        to_host(
            &self
                .parameters
                .detach()
                .narrow(0, 0, self.num_policy_parameters as i64),
        )
    }

    /// Overwrites all parameters.
    ///
    /// # Errors
    /// [`NetworkError::Parameters`] where their number differs.
    pub fn import(&mut self, parameters: &[f32]) -> Result<(), NetworkError> {
        let expected = self.num_parameters();
        if parameters.len() != expected {
            return Err(NetworkError::Parameters {
                expected,
                got: parameters.len(),
            });
        }
        tch::no_grad(|| self.parameters.copy_(&Tensor::from_slice(parameters)));
        Ok(())
    }

    /// Turns rows of raw observation values into what [`ActorCritic::forward`] takes, on the
    /// network's device: the rows themselves, or their one-hot code.
    ///
    /// # Shapes
    /// `observations` is `[N, width]`, row-major; the result `[N, inputs]`, f32.
    ///
    /// # Errors
    /// [`NetworkError::Observations`] and [`NetworkError::Category`].
    pub fn encode(&self, observations: &[f32]) -> Result<Tensor, NetworkError> {
        encode(&self.spec.policy.encoder, observations, self.device())
    }

    /// Policy outputs and values of encoded rows, with the graph that leads to the parameters.
    ///
    /// # Shapes
    /// `inputs` is `[N, inputs]`, from [`ActorCritic::encode`].
    pub fn forward(&self, inputs: &Tensor) -> Outputs {
        let layers = self.layers();
        let features = self.hidden(inputs, &layers.policy_hidden);
        let values = match self.spec.critic {
            CriticSpec::Shared => layers.critic_head.forward(&features),
            CriticSpec::Separate(_) => layers
                .critic_head
                .forward(&self.hidden(inputs, &layers.critic_hidden)),
        };
        Outputs {
            policy: layers.policy_head.forward(&features),
            log_std: layers.log_std,
            values,
        }
    }

    /// The gradient of a scalar that [`ActorCritic::forward`] has led to, `[num_parameters]`; the
    /// graph is consumed.
    pub fn gradient(&self, loss: &Tensor) -> Tensor {
        let mut gradients = Tensor::run_backward(&[loss], &[&self.parameters], false, false);
        gradients.swap_remove(0)
    }

    /// Values of encoded rows on the host, without a graph.
    ///
    /// # Shapes
    /// `inputs` is `[N, inputs]`, from [`ActorCritic::encode`]; the result has `N` elements.
    pub fn values(&self, inputs: &Tensor) -> Vec<f32> {
        tch::no_grad(|| {
            let layers = self.layers();
            let hidden = match self.spec.critic {
                CriticSpec::Shared => &layers.policy_hidden,
                CriticSpec::Separate(_) => &layers.critic_hidden,
            };
            let chunks: Vec<Tensor> = inputs
                .split(VALUE_ROWS, 0)
                .iter()
                .map(|rows| layers.critic_head.forward(&self.hidden(rows, hidden)))
                .collect();
            to_host(&Tensor::cat(&chunks, 0))
        })
    }

    fn hidden(&self, inputs: &Tensor, layers: &[Linear]) -> Tensor {
        layers.iter().fold(inputs.shallow_clone(), |input, layer| {
            let sum = layer.forward(&input);
            match self.spec.policy.activation {
                Activation::Tanh => sum.tanh(),
                Activation::Relu => sum.relu(),
            }
        })
    }

    /// Cuts the flat parameters into layers. One operation of the graph splits them, so its
    /// backward pass puts the whole gradient together in one.
    fn layers(&self) -> Layers {
        let mut tensors = self
            .parameters
            .split_with_sizes(&self.split_sizes, 0)
            .into_iter()
            .zip(self.layout.tensors())
            .map(|(tensor, slot)| match *slot.shape() {
                [rows, columns] => tensor.view([rows as i64, columns as i64]),
                _ => tensor,
            });
        // The order of the slots, which `new` has built from the same spec.
        #[expect(
            clippy::expect_used,
            reason = "the slots are built from the spec in `new`"
        )]
        let mut next = || tensors.next().expect("a slot for every tensor of the spec");
        let mut linear = || Linear {
            weight: next(),
            bias: next(),
        };
        let policy_hidden = self.spec.policy.hidden.iter().map(|_| linear()).collect();
        let policy_head = linear();
        let log_std =
            matches!(self.spec.policy.head, Head::DiagonalGaussian { .. }).then(&mut next);
        let mut linear = || Linear {
            weight: next(),
            bias: next(),
        };
        let critic_hidden = match &self.spec.critic {
            CriticSpec::Shared => Vec::new(),
            CriticSpec::Separate(widths) => widths.iter().map(|_| linear()).collect(),
        };
        let critic_head = linear();
        Layers {
            policy_hidden,
            policy_head,
            log_std,
            critic_hidden,
            critic_head,
        }
    }
}

/// Turns rows of raw observation values into what layers take, on `device`: the rows themselves, or their
/// one-hot code.
///
/// # Shapes
/// `observations` is `[N, width]`, row-major; the result `[N, inputs]`, f32.
///
/// # Errors
/// [`NetworkError::Observations`] and [`NetworkError::Category`].
pub fn encode(
    encoder: &Encoder,
    observations: &[f32],
    device: Device,
) -> Result<Tensor, NetworkError> {
    let width = match encoder {
        Encoder::Identity { width } => *width,
        Encoder::OneHot { .. } => 1,
    };
    if !observations.len().is_multiple_of(width) {
        return Err(NetworkError::Observations {
            width,
            got: observations.len(),
        });
    }
    let num_rows = (observations.len() / width) as i64;
    match encoder {
        Encoder::Identity { width } => Ok(Tensor::from_slice(observations)
            .view([num_rows, *width as i64])
            .to_device(device)),
        Encoder::OneHot { n } => {
            let is_category = |x: f32| x >= 0.0 && x.fract() == 0.0 && (x as usize) < *n;
            if let Some(row) = observations.iter().position(|&x| !is_category(x)) {
                let index = observations[row].to_string();
                return Err(NetworkError::Category {
                    row,
                    index,
                    num_categories: *n,
                });
            }
            Ok(Tensor::from_slice(observations)
                .to_device(device)
                .to_kind(Kind::Int64)
                .one_hot(*n as i64)
                .to_kind(Kind::Float))
        }
    }
}

/// Lays the critic behind the policy.
fn push_critic(layout: &mut Layout, spec: &ActorCriticSpec) -> Result<(), NetworkError> {
    let mut linear = |name: &str, outputs: usize, inputs: usize| {
        layout.push(format!("critic.{name}.weight"), &[outputs, inputs]);
        layout.push(format!("critic.{name}.bias"), &[outputs]);
    };
    let mut inputs = spec.policy.input_width();
    match &spec.critic {
        CriticSpec::Shared => inputs = spec.policy.hidden.last().copied().unwrap_or(inputs),
        CriticSpec::Separate(widths) => {
            for (layer, &outputs) in widths.iter().enumerate() {
                if outputs == 0 {
                    return Err(NetworkError::CriticWidth { layer });
                }
                linear(&layer.to_string(), outputs, inputs);
                inputs = outputs;
            }
        }
    }
    linear("head", 1, inputs);
    Ok(())
}

/// Orthogonal weights; everything that is no matrix starts at zero (Huang and others 2022, "The 37
/// implementation details of proximal policy optimization", details 2 and 23; T23).
fn initial_values(slot: &TensorSlot, spec: &ActorCriticSpec, seed: u64, index: u64) -> Vec<f32> {
    let gain = match slot.name() {
        "policy.head.weight" => POLICY_HEAD_GAIN,
        "critic.head.weight" => VALUE_HEAD_GAIN,
        _ => HIDDEN_GAIN,
    };
    match *slot.shape() {
        [rows, columns] => orthogonal(rows, columns, gain, seed, index),
        _ if slot.name() == "policy.log_std" => vec![spec.initial_log_std; slot.range().len()],
        _ => vec![0.0; slot.range().len()],
    }
}
