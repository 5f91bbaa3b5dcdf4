//! A policy and a state-value function over one flat tensor of parameters.

use rookery_common::configuration::Configuration;
use rookery_common::policy::PolicySpec;
use rookery_common::policy::layout::Layout;
use rookery_common::policy::spec::{Encoder, SpecError};
use tch::{Device, Kind, Tensor};
use thiserror::Error;

use super::init::{
    HIDDEN_GAIN, POLICY_HEAD_GAIN, RECURRENT_GAIN, VALUE_HEAD_GAIN, orthogonal_layout,
};
use super::recurrent::{RecurrentLayer, RecurrentTape, Sequences};
use super::{ActionMask, Dense, Encoding, EncodingTape, Flat, Tape};
use crate::tensors::to_host;

/// Rows that pass through all layers together on a CPU: few enough that what a few layers of 64 put
/// out stays in a core's second-level cache, enough that the overhead of a call is small.
const BLOCK_ROWS: i64 = 1024;

/// How the critic sees the observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CriticSpec {
    /// Through the policy's hidden layers and its recurrent one; its own is the head only.
    Shared,
    /// Through hidden layers of its own, of these widths, with the policy's activation, and, where
    /// the policy sees images, convolutions of its own in front of them.
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

impl ActorCriticSpec {
    /// What the run's configuration makes of a policy.
    #[must_use]
    pub fn configured(configuration: &Configuration, policy: &PolicySpec) -> Self {
        Self {
            policy: policy.clone(),
            initial_log_std: configuration.policy.initial_log_std as f32,
            critic: if configuration.policy.shared_trunk {
                CriticSpec::Shared
            } else {
                CriticSpec::Separate(configuration.policy.hidden.clone())
            },
        }
    }
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
    /// A recurrent policy whose critic would remember nothing.
    #[error(
        "a critic with layers of its own beside a recurrent policy would need a memory of its own; \
         share the policy's layers (policy.shared_trunk = true)"
    )]
    RecurrentCritic,
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
    /// A policy whose observations go through convolutions, which the critics would lack.
    #[error("the critics have no convolutions; set policy.encoder = \"mlp\"")]
    Image,
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
    /// Logits `[N, num_actions]`, those of several choices one behind the other, without hope for actions
    /// that cannot be taken; or means `[N, dimension]`.
    pub policy: Tensor,
    /// Number of actions of each choice; empty of a Gaussian policy.
    pub choices: Vec<i64>,
    /// Logarithm of the standard deviation, `[dimension]`; only of a Gaussian policy.
    pub log_std: Option<Tensor>,
    /// State values, `[N, 1]`.
    pub values: Tensor,
}

/// The gradient of a loss by the [`Outputs`] that it was made of, each of its output's shape.
#[derive(Debug)]
pub struct OutputGradient {
    /// By the logits or means.
    pub policy: Tensor,
    /// By the logarithm of the standard deviation; only of a Gaussian policy.
    pub log_std: Option<Tensor>,
    /// By the state values.
    pub values: Tensor,
}

/// What a forward pass leaves for its backward pass: for each block of rows, in order.
#[derive(Debug)]
pub struct ActorCriticTape(Vec<BlockTape>);

#[derive(Debug)]
struct BlockTape {
    encoding: EncodingTape,
    trunk: Tape,
    recurrent: Option<RecurrentTape>,
    head: Tape,
    /// Of a critic that has one of its own.
    critic_encoding: Option<EncodingTape>,
    critic: Tape,
}

/// A policy and its critic.
///
/// # Layout
/// The policy's tensors come first, in the order of [`PolicySpec::layout`]; then, where the policy sees
/// images and the critic shares nothing, the critic's own convolutions under `critic.encoder`; then
/// `critic.0.weight`, `critic.0.bias`, ..., `critic.head.weight`, `critic.head.bias`.
#[derive(Debug)]
pub struct ActorCritic {
    spec: ActorCriticSpec,
    layout: Layout,
    num_policy_parameters: usize,
    encoding: Encoding,
    trunk: Dense,
    recurrent: Option<RecurrentLayer>,
    head: Dense,
    /// Index of the logarithm of the standard deviation in the layout.
    log_std: Option<usize>,
    /// Of a critic that shares nothing.
    critic_encoding: Option<Encoding>,
    mask: Option<ActionMask>,
    /// All fully connected layers, or the head that sits on the policy's trunk.
    critic: Dense,
    parameters: Flat,
    gradient: Flat,
    /// That of one block of rows, where there are several.
    block_gradient: Flat,
}

impl ActorCritic {
    /// A network whose parameters are drawn from `seed`: orthogonal weights, zero biases, and the
    /// configured standard deviation.
    ///
    /// # Errors
    /// [`NetworkError::Policy`], [`NetworkError::Head`], [`NetworkError::RecurrentCritic`] and
    /// [`NetworkError::CriticWidth`].
    pub fn new(spec: ActorCriticSpec, seed: u64, device: Device) -> Result<Self, NetworkError> {
        spec.policy.validate()?;
        if !spec.policy.head.is_likelihood() {
            return Err(NetworkError::Head {
                expected: "categorical, multi_categorical or diagonal_gaussian",
                got: spec.policy.head.name(),
            });
        }
        if spec.policy.recurrent.is_some() && spec.critic != CriticSpec::Shared {
            return Err(NetworkError::RecurrentCritic);
        }
        let activation = spec.policy.activation;
        let mut layout = spec.policy.layout();
        let num_policy_parameters = layout.len();
        let log_std = layout
            .tensors()
            .iter()
            .position(|slot| slot.name() == "policy.log_std");
        let encoding = Encoding::existing(&spec.policy.encoder, &layout, 0);
        // A layer is a weight and its bias; a recurrent one, which lies behind the hidden ones, has
        // two pairs of them.
        let first = encoding.num_tensors();
        let num_hidden = spec.policy.hidden.len();
        let behind = first + 2 * num_hidden;
        let recurrent = spec
            .policy
            .recurrent
            .map(|of| RecurrentLayer::existing(of, behind));
        let head = behind + recurrent.as_ref().map_or(0, |_| 4);
        let (critic_encoding, critic) = push_critic(&mut layout, &spec)?;
        let values = initial_values(&layout, spec.initial_log_std, seed);
        Ok(Self {
            num_policy_parameters,
            encoding,
            trunk: Dense::existing(
                (0..num_hidden).map(|layer| first + 2 * layer).collect(),
                activation,
                true,
            ),
            recurrent,
            head: Dense::existing(vec![head], activation, false),
            log_std,
            critic_encoding,
            critic,
            mask: ActionMask::of(&spec.policy),
            parameters: Flat::from_host(&layout, &values, device)?,
            gradient: Flat::zeros(&layout, device),
            block_gradient: Flat::zeros(&layout, device),
            spec,
            layout,
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
        self.layout.len()
    }

    /// Number of the parameters that are published; they come first.
    pub fn num_policy_parameters(&self) -> usize {
        self.num_policy_parameters
    }

    /// The flat parameters, `[num_parameters]`, f32, for the optimiser.
    pub fn parameters_mut(&mut self) -> &mut Tensor {
        self.parameters.values_mut()
    }

    /// Where the parameters live.
    pub fn device(&self) -> Device {
        self.parameters.device()
    }

    /// Copies all parameters to the host.
    pub fn export(&self) -> Vec<f32> {
        self.parameters.export()
    }

    /// Copies the parameters that act to the host, in the order of [`PolicySpec::layout`].
    pub fn export_policy(&self) -> Vec<f32> {
        self.parameters.export_prefix(self.num_policy_parameters)
    }

    /// Overwrites all parameters.
    ///
    /// # Errors
    /// [`NetworkError::Parameters`] where their number differs.
    pub fn import(&mut self, parameters: &[f32]) -> Result<(), NetworkError> {
        self.parameters.import(parameters)
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

    /// Policy outputs and values of encoded rows, and what [`ActorCritic::gradient`] needs.
    ///
    /// # Shapes
    /// `inputs` is `[N, inputs]`, from [`ActorCritic::encode`]; of a recurrent network they are the
    /// rows of `sequences`, which no other network looks at.
    ///
    /// # Panics
    /// If the network is recurrent and there are no sequences.
    pub fn forward(
        &self,
        inputs: &Tensor,
        sequences: Option<&Sequences>,
    ) -> (Outputs, ActorCriticTape) {
        let blocks: Vec<BlockTape> = self
            .blocks(inputs)
            .iter()
            .map(|rows| self.forward_block(rows, sequences))
            .collect();
        let join = |part: fn(&BlockTape) -> &Tensor| match blocks.as_slice() {
            [block] => part(block).shallow_clone(),
            blocks => Tensor::cat(&blocks.iter().map(part).collect::<Vec<_>>(), 0),
        };
        let policy = join(|block| block.head.output());
        let outputs = Outputs {
            policy: match &self.mask {
                None => policy,
                Some(mask) => mask.apply(inputs, &policy),
            },
            choices: self.choices().collect(),
            log_std: self
                .log_std
                .map(|index| self.parameters.view(index).shallow_clone()),
            values: join(|block| block.critic.output()),
        };
        (outputs, ActorCriticTape(blocks))
    }

    /// Number of actions of each choice; none of a Gaussian policy.
    fn choices(&self) -> impl Iterator<Item = i64> {
        let choices = self.spec.policy.head.choices().unwrap_or_default();
        choices.iter().map(|num_actions| *num_actions as i64)
    }

    fn forward_block(&self, inputs: &Tensor, sequences: Option<&Sequences>) -> BlockTape {
        let parameters = &self.parameters;
        let encoding = self.encoding.forward_taped(parameters, inputs);
        let trunk = self.trunk.forward_taped(parameters, encoding.output());
        #[expect(clippy::expect_used, reason = "the caller knows what it has built")]
        let recurrent = self.recurrent.as_ref().map(|layer| {
            let sequences = sequences.expect("a recurrent network computes sequences");
            layer.forward(parameters, trunk.output(), sequences)
        });
        let features = recurrent
            .as_ref()
            .map_or(trunk.output(), RecurrentTape::output);
        let head = self.head.forward_taped(parameters, features);
        let critic_encoding = self
            .critic_encoding
            .as_ref()
            .map(|encoding| encoding.forward_taped(parameters, inputs));
        let seen = critic_encoding
            .as_ref()
            .map_or(features, EncodingTape::output);
        let critic = self.critic.forward_taped(parameters, seen);
        BlockTape {
            encoding,
            trunk,
            recurrent,
            head,
            critic_encoding,
            critic,
        }
    }

    /// The gradient of a loss by all parameters, `[num_parameters]`, given that by the outputs of
    /// the forward pass that left `tape`. The next call overwrites it.
    pub fn gradient(&self, tape: &ActorCriticTape, outputs: OutputGradient) -> Tensor {
        let mut total = self.gradient.values().shallow_clone();
        let by_policy = self.blocks(&outputs.policy);
        let by_values = self.blocks(&outputs.values);
        let blocks = tape.0.iter().zip(by_policy).zip(by_values);
        for (index, ((block, by_policy), by_values)) in blocks.enumerate() {
            if index == 0 {
                self.backward_block(block, by_policy, by_values, &self.gradient);
            } else {
                self.backward_block(block, by_policy, by_values, &self.block_gradient);
                total += self.block_gradient.values();
            }
        }
        if let Some((index, by_log_std)) = self.log_std.zip(outputs.log_std) {
            self.gradient.view(index).shallow_clone().copy_(&by_log_std);
        }
        total
    }

    /// Writes the gradient by every parameter but the standard deviation's to `gradient`.
    fn backward_block(
        &self,
        tape: &BlockTape,
        by_policy: Tensor,
        by_values: Tensor,
        gradient: &Flat,
    ) {
        let parameters = &self.parameters;
        let through_head = self
            .head
            .backward(parameters, &tape.head, by_policy, gradient, true);
        let own = self.critic_encoding.as_ref();
        let wants_input = own.is_none_or(Encoding::has_parameters);
        let mut through_critic =
            self.critic
                .backward(parameters, &tape.critic, by_values, gradient, wants_input);
        if let Some((encoding, tape)) = own.zip(tape.critic_encoding.as_ref()) {
            encoding.backward(parameters, tape, through_critic.take(), gradient);
        }
        let by_features = through_head
            .into_iter()
            .chain(through_critic)
            .reduce(|a, b| a + b);
        let recurrent = self.recurrent.as_ref().zip(tape.recurrent.as_ref());
        let by_trunk = match (by_features, recurrent) {
            (Some(by_features), Some((layer, tape))) => {
                Some(layer.backward(parameters, tape, &by_features, gradient))
            }
            (by_features, _) => by_features,
        };
        if let Some(by_trunk) = by_trunk {
            let wants_input = self.encoding.has_parameters();
            let by_input =
                self.trunk
                    .backward(parameters, &tape.trunk, by_trunk, gradient, wants_input);
            self.encoding
                .backward(parameters, &tape.encoding, by_input, gradient);
        }
    }

    /// Cuts rows into those that go through the layers together. The rows of sequences do so step by
    /// step, which leaves nothing to gain.
    fn blocks(&self, rows: &Tensor) -> Vec<Tensor> {
        if self.device() == Device::Cpu && self.recurrent.is_none() {
            rows.split(BLOCK_ROWS.min(self.encoding.rows_at_once()), 0)
        } else {
            vec![rows.shallow_clone()]
        }
    }

    /// Values of encoded rows on the host; of a network that is not recurrent.
    ///
    /// # Shapes
    /// `inputs` is `[N, inputs]`, from [`ActorCritic::encode`]; the result has `N` elements.
    ///
    /// # Panics
    /// If it is.
    pub fn values(&self, inputs: &Tensor) -> Vec<f32> {
        assert!(self.recurrent.is_none(), "values depend on a state");
        let chunks: Vec<Tensor> = self
            .blocks(inputs)
            .iter()
            .map(|rows| {
                let parameters = &self.parameters;
                let seen = if let Some(encoding) = &self.critic_encoding {
                    encoding.forward(parameters, rows)
                } else {
                    let seen = self.encoding.forward(parameters, rows);
                    self.trunk.forward(parameters, &seen)
                };
                self.critic.forward(parameters, &seen)
            })
            .collect();
        to_host(&Tensor::cat(&chunks, 0))
    }

    /// Values of the rows of sequences, and of rows each of which follows one of them in its episode, on
    /// the host; of a recurrent network.
    ///
    /// Where a step was truncated, the state that it left would see the final observation next, if
    /// the episode went on: one more step from there gives the value to bootstrap from (T1, T17).
    ///
    /// # Shapes
    /// `inputs` is `[L * B, inputs]`, time-major; `following` is `[F, inputs]`, and `after` names the
    /// row before each of them. The results have `L * B` and `F` elements.
    ///
    /// # Panics
    /// If the network is not recurrent.
    pub fn sequence_values(
        &self,
        inputs: &Tensor,
        sequences: &Sequences,
        following: &Tensor,
        after: &[i64],
    ) -> (Vec<f32>, Vec<f32>) {
        #[expect(clippy::expect_used, reason = "the caller knows what it has built")]
        let layer = self.recurrent.as_ref().expect("the network is recurrent");
        let run = |inputs: &Tensor, sequences: &Sequences| {
            let encoded = self.encoding.forward(&self.parameters, inputs);
            let features = self.trunk.forward(&self.parameters, &encoded);
            layer.forward(&self.parameters, &features, sequences)
        };
        let value =
            |tape: &RecurrentTape| to_host(&self.critic.forward(&self.parameters, tape.output()));
        let tape = run(inputs, sequences);
        let values = value(&tape);
        if after.is_empty() {
            return (values, Vec::new());
        }
        let branches = Sequences::new(tape.states_after(after), &[]);
        (values, value(&run(following, &branches)))
    }
}

/// Turns rows of raw observation values into what layers take, on `device`: the rows themselves, of images
/// too, or their one-hot code.
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
        Encoder::Image(image) => image.planes.width(),
    };
    if !observations.len().is_multiple_of(width) {
        return Err(NetworkError::Observations {
            width,
            got: observations.len(),
        });
    }
    let num_rows = (observations.len() / width) as i64;
    match encoder {
        Encoder::Identity { .. } | Encoder::Image(_) => Ok(Tensor::from_slice(observations)
            .view([num_rows, width as i64])
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
fn push_critic(
    layout: &mut Layout,
    spec: &ActorCriticSpec,
) -> Result<(Option<Encoding>, Dense), NetworkError> {
    let (inputs, hidden) = match &spec.critic {
        CriticSpec::Shared => (spec.policy.feature_width(), &[][..]),
        CriticSpec::Separate(widths) => (spec.policy.input_width(), widths.as_slice()),
    };
    if let Some(layer) = hidden.iter().position(|&width| width == 0) {
        return Err(NetworkError::CriticWidth { layer });
    }
    let encoding = match &spec.critic {
        CriticSpec::Shared => None,
        CriticSpec::Separate(_) => {
            let first = layout.tensors().len();
            if let Encoder::Image(image) = &spec.policy.encoder {
                image.push(layout, "critic.encoder");
            }
            Some(Encoding::existing(&spec.policy.encoder, layout, first))
        }
    };
    let widths: Vec<usize> = hidden.iter().copied().chain([1]).collect();
    let activation = spec.policy.activation;
    let dense = Dense::push(layout, "critic", inputs, &widths, activation, false);
    Ok((encoding, dense))
}

/// Orthogonal weights; everything that is no matrix starts at zero (Huang and others 2022, "The 37
/// implementation details of proximal policy optimization", details 2 and 23; T23).
fn initial_values(layout: &Layout, initial_log_std: f32, seed: u64) -> Vec<f32> {
    let gain = |name: &str| match name {
        "policy.head.weight" => POLICY_HEAD_GAIN,
        "critic.head.weight" => VALUE_HEAD_GAIN,
        "policy.recurrent.weight_ih" | "policy.recurrent.weight_hh" => RECURRENT_GAIN,
        _ => HIDDEN_GAIN,
    };
    let mut values = orthogonal_layout(layout, gain, seed, 0);
    if let Some(slot) = layout.find("policy.log_std") {
        values[slot.range()].fill(initial_log_std);
    }
    values
}
