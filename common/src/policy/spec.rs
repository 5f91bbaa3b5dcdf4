//! What a policy network is made of: everything that its parameters are not.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use super::head::{Head, ValueDistribution};
use super::image::{ImageEncoder, ImageError, Stage};
use super::layout::Layout;
pub use super::recurrent::{Recurrent, RecurrentCell};
use crate::spaces::Space;

/// Most parameters that a policy may have: 2^31, or 8 GiB.
pub const MAX_PARAMETERS: usize = 1 << 31;

/// Widest layer, encoding or head: up to here every index is exact in `f32`.
pub const MAX_WIDTH: usize = 1 << 24;

/// Most hidden layers.
pub const MAX_HIDDEN_LAYERS: usize = 64;

/// How an observation row becomes the input of the first layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Encoder {
    /// The row is the input.
    Identity {
        /// Values in a row.
        width: usize,
    },
    /// The row is one index, which stands for the unit vector with a one there.
    OneHot {
        /// Number of indices.
        n: usize,
    },
    /// The row is planes, which go through convolutions.
    Image(ImageEncoder),
}

/// What follows every hidden layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The hyperbolic tangent.
    Tanh,
    /// The larger of the value and zero.
    Relu,
}

/// A policy network: encoder, fully connected hidden layers, recurrent layer where there is one,
/// head.
///
/// Fields are public because a spec is data that travels; [`PolicySpec::validate`] says whether
/// it describes a network, and whatever builds one from it calls that first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// How observations enter.
    pub encoder: Encoder,
    /// Width of each hidden layer, from the observation on; empty for a linear policy.
    pub hidden: Vec<usize>,
    /// What follows each hidden layer.
    pub activation: Activation,
    /// What remembers, between the last hidden layer and the head; nothing in policies of releases
    /// that had none.
    #[serde(default)]
    pub recurrent: Option<Recurrent>,
    /// Whether the last values of an observation, one for each action of each choice, are zero where an
    /// action is never taken. The network sees them too.
    #[serde(default)]
    pub action_mask: bool,
    /// What comes out.
    pub head: Head,
}

/// Why a [`PolicySpec`] describes no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A width is zero or beyond [`MAX_WIDTH`].
    #[error("{field} is {got}, expected 1 to {}", MAX_WIDTH)]
    Width {
        /// The field as it is written in a configuration.
        field: String,
        /// Its value.
        got: usize,
    },
    /// There are more hidden layers than [`MAX_HIDDEN_LAYERS`].
    #[error(
        "policy has {got} hidden layers, expected at most {}",
        MAX_HIDDEN_LAYERS
    )]
    Depth {
        /// Number of hidden layers.
        got: usize,
    },
    /// The gates of a recurrent layer together are beyond [`MAX_WIDTH`].
    #[error("recurrent.units is {got}, expected at most {most}")]
    RecurrentUnits {
        /// Its units.
        got: usize,
        /// The most.
        most: usize,
    },
    /// No algorithm trains a recurrent layer with this head.
    #[error(
        "a recurrent layer goes with the heads categorical and diagonal_gaussian, got {head}: train \
         with ppo, or without a recurrent layer"
    )]
    RecurrentHead {
        /// The head.
        head: &'static str,
    },
    /// Observations have no action mask, or there are no actions to be masked.
    #[error(
        "an action mask stands at the end of rows of values, behind other values, and says which of several \
         actions can be taken; got observations of {observation} values and the head {head}"
    )]
    ActionMask {
        /// Values of an observation.
        observation: usize,
        /// The head.
        head: &'static str,
    },
    /// The network has more parameters than [`MAX_PARAMETERS`].
    #[error(
        "policy has {got} parameters, expected at most {}: narrow its layers",
        MAX_PARAMETERS
    )]
    Parameters {
        /// Number of parameters.
        got: u128,
    },
    /// The encoder of images cannot be.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The head cannot give the space's actions.
    #[error("{head} needs {expected}, the environment's actions are {got}: {remedy}")]
    ActionSpace {
        /// The head.
        head: &'static str,
        /// What it acts in.
        expected: &'static str,
        /// The action space.
        got: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// What is looked up in a table must be an index.
    #[error(
        "a table needs discrete observations, the environment's are {got}: choose an environment, \
         or arguments of it, that gives them, or train with dqn or ppo"
    )]
    ObservationSpace {
        /// The observation space.
        got: String,
    },
    /// Observations are several indices.
    #[error("observations are {got}; show each index as a one in its place among zeros")]
    SeveralIndices {
        /// The observation space.
        got: String,
    },
    /// A dimension of an action cannot be rescaled to its bounds.
    #[error(
        "head.{head}: dimension {dimension} is bounded by {low} and {high}, expected finite bounds \
         in ascending order: bound the environment's actions, or train with ppo"
    )]
    Bounds {
        /// The head.
        head: &'static str,
        /// Index of the dimension.
        dimension: usize,
        /// Its lower bound.
        low: String,
        /// Its upper bound.
        high: String,
    },
    /// Lower and upper bounds do not pair, or are too many.
    #[error(
        "head.{head} has {low} lower and {high} upper bounds, expected one of each for at most {} \
         dimensions",
        MAX_WIDTH / 2
    )]
    BoundCount {
        /// The head.
        head: &'static str,
        /// Number of lower bounds.
        low: usize,
        /// Number of upper bounds.
        high: usize,
    },
    /// A categorical distribution over too few returns.
    #[error(
        "head.action_values.distribution.categorical.num_atoms is {got}, expected at least 2: \
         51 is usual"
    )]
    Atoms {
        /// Number of returns.
        got: usize,
    },
    /// The returns of a categorical distribution do not ascend.
    #[error(
        "head.action_values.distribution.categorical spans {v_min} to {v_max}, expected finite \
         bounds in ascending order: set v_min and v_max to what returns can be"
    )]
    Support {
        /// The least return.
        v_min: String,
        /// The largest return.
        v_max: String,
    },
}

impl PolicySpec {
    /// The on-policy network that sees `observation` and acts in `action`.
    ///
    /// Boxes enter flattened and leave as Gaussians; discrete observations enter one-hot and
    /// discrete actions leave as categories.
    ///
    /// # Errors
    /// As [`PolicySpec::validate`].
    pub fn new(
        observation: &Space,
        action: &Space,
        hidden: Vec<usize>,
        activation: Activation,
    ) -> Result<Self, SpecError> {
        let head = match action {
            Space::Box { .. } => Head::DiagonalGaussian {
                dimension: action.width(),
            },
            Space::Discrete { n } => Head::Categorical { num_actions: *n },
            Space::MultiDiscrete { nvec } => Head::MultiCategorical {
                num_actions: nvec.clone(),
            },
            Space::Frames { .. } => {
                return Err(SpecError::ActionSpace {
                    head: "categorical",
                    expected: "a box of actions or discrete ones",
                    got: action.to_string(),
                    remedy: "choose an environment whose actions are no images",
                });
            }
        };
        Self::with_head(observation, hidden, activation, head)
    }

    /// The network that says what each action is worth, for Q-learning and its descendants; its
    /// options are those of [`Head::ActionValues`].
    ///
    /// # Errors
    /// Where actions are not discrete, and as [`PolicySpec::validate`].
    pub fn action_values(
        observation: &Space,
        action: &Space,
        hidden: Vec<usize>,
        activation: Activation,
        dueling: bool,
        distribution: ValueDistribution,
        noisy: bool,
    ) -> Result<Self, SpecError> {
        let refused = |remedy| SpecError::ActionSpace {
            head: "action_values",
            expected: "discrete actions",
            got: action.to_string(),
            remedy,
        };
        let n = match action {
            Space::Discrete { n } => n,
            Space::MultiDiscrete { .. } => {
                return Err(refused(
                    "train with ppo, or make one choice of several with the wrapper \"flatten_action\"",
                ));
            }
            Space::Box { .. } | Space::Frames { .. } => {
                return Err(refused("train with sac or ppo"));
            }
        };
        let head = Head::ActionValues {
            num_actions: *n,
            dueling,
            distribution,
            noisy,
        };
        Self::with_head(observation, hidden, activation, head)
    }

    /// The table of Q-learning and SARSA: what each action is worth after each observation, without
    /// hidden layers. Its weights `[actions, observations]` are the table; its biases stay zero.
    ///
    /// # Errors
    /// Where observations or actions are not discrete, and as [`PolicySpec::validate`].
    pub fn table(observation: &Space, action: &Space) -> Result<Self, SpecError> {
        if !matches!(observation, Space::Discrete { .. }) {
            return Err(SpecError::ObservationSpace {
                got: observation.to_string(),
            });
        }
        let (hidden, activation) = (Vec::new(), Activation::Tanh);
        let distribution = ValueDistribution::Expectation;
        Self::action_values(
            observation,
            action,
            hidden,
            activation,
            false,
            distribution,
            false,
        )
    }

    /// The stochastic network of soft actor-critic: [`Head::SquashedGaussian`].
    ///
    /// # Errors
    /// Where the action space is no box with finite bounds, and as [`PolicySpec::validate`].
    pub fn squashed_gaussian(
        observation: &Space,
        action: &Space,
        hidden: Vec<usize>,
        activation: Activation,
    ) -> Result<Self, SpecError> {
        let (low, high) = bounds(action, "squashed_gaussian")?;
        let head = Head::SquashedGaussian { low, high };
        Self::with_head(observation, hidden, activation, head)
    }

    /// The deterministic network of TD3: [`Head::Deterministic`].
    ///
    /// # Errors
    /// As [`PolicySpec::squashed_gaussian`].
    pub fn deterministic(
        observation: &Space,
        action: &Space,
        hidden: Vec<usize>,
        activation: Activation,
    ) -> Result<Self, SpecError> {
        let (low, high) = bounds(action, "deterministic")?;
        let head = Head::Deterministic { low, high };
        Self::with_head(observation, hidden, activation, head)
    }

    /// This network with convolutions of these stages in front of its first layer.
    ///
    /// # Errors
    /// Where `observation` is no image that they can see, and as [`PolicySpec::validate`].
    pub fn with_image_encoder(
        mut self,
        observation: &Space,
        stages: Vec<Stage>,
    ) -> Result<Self, SpecError> {
        self.encoder = Encoder::Image(ImageEncoder::new(observation, stages)?);
        self.validate()?;
        Ok(self)
    }

    fn with_head(
        observation: &Space,
        hidden: Vec<usize>,
        activation: Activation,
        head: Head,
    ) -> Result<Self, SpecError> {
        let encoder = match observation {
            Space::Box { .. } | Space::Frames { .. } => Encoder::Identity {
                width: observation.width(),
            },
            Space::Discrete { n } => Encoder::OneHot { n: *n },
            Space::MultiDiscrete { .. } => {
                return Err(SpecError::SeveralIndices {
                    got: observation.to_string(),
                });
            }
        };
        let spec = Self {
            encoder,
            hidden,
            activation,
            recurrent: None,
            action_mask: false,
            head,
        };
        spec.validate()?;
        Ok(spec)
    }

    /// This network with the action mask of the observations, or without one.
    ///
    /// # Errors
    /// [`SpecError::ActionMask`] where there can be none.
    pub fn with_action_mask(mut self, action_mask: bool) -> Result<Self, SpecError> {
        self.action_mask = action_mask;
        self.validate()?;
        Ok(self)
    }

    /// Values of the action mask at the end of an observation; none where there is no mask.
    #[must_use]
    pub fn mask_width(&self) -> usize {
        let choices = self.head.choices().unwrap_or_default();
        if self.action_mask {
            choices.iter().sum()
        } else {
            0
        }
    }

    /// This network with a recurrent layer, or without one.
    ///
    /// # Errors
    /// As [`PolicySpec::validate`].
    pub fn with_recurrent(mut self, recurrent: Option<Recurrent>) -> Result<Self, SpecError> {
        self.recurrent = recurrent;
        self.validate()?;
        Ok(self)
    }

    /// Whether the network sees `observation` and acts in `action`.
    #[must_use]
    pub fn fits(&self, observation: &Space, action: &Space) -> bool {
        let sees = match (&self.encoder, observation) {
            (Encoder::Identity { width }, Space::Box { .. } | Space::Frames { .. }) => {
                *width == observation.width()
            }
            (Encoder::OneHot { n }, Space::Discrete { n: elements }) => n == elements,
            (Encoder::Image(image), observation) => image.fits(observation),
            _ => false,
        };
        sees && self.head.fits(action)
    }

    /// Checks that every width, the depth and the number of parameters are within bounds.
    ///
    /// # Errors
    /// The first violation, from the observation on.
    pub fn validate(&self) -> Result<(), SpecError> {
        if self.hidden.len() > MAX_HIDDEN_LAYERS {
            return Err(SpecError::Depth {
                got: self.hidden.len(),
            });
        }
        let encoder = match &self.encoder {
            Encoder::Identity { .. } => "encoder.identity.width",
            Encoder::OneHot { .. } => "encoder.one_hot.n",
            Encoder::Image(image) => {
                image.validate()?;
                "the features of encoder.image"
            }
        };
        check_width(encoder, self.input_width())?;
        for (index, width) in self.hidden.iter().enumerate() {
            check_width(format_args!("hidden[{index}]"), *width)?;
        }
        self.head.validate()?;
        if let Some(recurrent) = &self.recurrent {
            recurrent.validate()?;
            if !self.head.is_likelihood() {
                let head = self.head.name();
                return Err(SpecError::RecurrentHead { head });
            }
        }

        let has_mask = matches!(self.encoder, Encoder::Identity { .. })
            && (1..self.observation_width()).contains(&self.mask_width());
        if self.action_mask && !has_mask {
            return Err(SpecError::ActionMask {
                observation: self.observation_width(),
                head: self.head.name(),
            });
        }

        let dense = |(inputs, outputs): (usize, usize)| (inputs as u128 + 1) * outputs as u128;
        let mut parameters: u128 = self.layer_shapes().map(dense).sum();
        if self.head.is_noisy() {
            parameters *= 2;
        }
        if let Some(recurrent) = &self.recurrent {
            parameters += recurrent.num_parameters(self.trunk_width());
        }
        if let Head::DiagonalGaussian { dimension } = self.head {
            parameters += dimension as u128;
        }
        if let Encoder::Image(image) = &self.encoder {
            parameters += image.num_parameters();
        }
        if parameters > MAX_PARAMETERS as u128 {
            return Err(SpecError::Parameters { got: parameters });
        }
        Ok(())
    }

    /// Number of `f32` values in an observation row.
    #[must_use]
    pub fn observation_width(&self) -> usize {
        match &self.encoder {
            Encoder::Identity { width } => *width,
            Encoder::OneHot { .. } => 1,
            Encoder::Image(image) => image.planes.width(),
        }
    }

    /// Number of `f32` values in an action row.
    #[must_use]
    pub fn action_width(&self) -> usize {
        self.head.action_width()
    }

    /// Inputs of the first fully connected layer.
    #[must_use]
    pub fn input_width(&self) -> usize {
        match &self.encoder {
            Encoder::Identity { width } => *width,
            Encoder::OneHot { n } => *n,
            Encoder::Image(image) => image.features().width(),
        }
    }

    /// Outputs of the network for a row, arranged as the [`Head`] says.
    #[must_use]
    pub fn head_width(&self) -> usize {
        self.head.width()
    }

    /// Outputs of the last hidden layer, or of the encoder where there is none: what a recurrent
    /// layer sees.
    #[must_use]
    pub fn trunk_width(&self) -> usize {
        self.hidden.last().copied().unwrap_or(self.input_width())
    }

    /// Outputs of the last layer before the head, the recurrent one where there is one: what the
    /// head sees, and what a critic may see too.
    #[must_use]
    pub fn feature_width(&self) -> usize {
        self.recurrent
            .map_or(self.trunk_width(), |recurrent| recurrent.units)
    }

    /// Values of the recurrent state of an environment, `S`; none where nothing is remembered.
    #[must_use]
    pub fn state_width(&self) -> usize {
        self.recurrent
            .map_or(0, |recurrent| recurrent.state_width())
    }

    /// `(inputs, outputs)` of every fully connected layer: the hidden ones, the head, and the value
    /// stream of a dueling network.
    pub fn layer_shapes(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let inputs = std::iter::once(self.input_width()).chain(self.hidden.iter().copied());
        let hidden = inputs.zip(self.hidden.iter().copied());
        let features = self.feature_width();
        let last = [Some(self.head_width()), self.head.value_width()];
        let last = last.into_iter().flatten();
        hidden.chain(last.map(move |outputs| (features, outputs)))
    }

    /// Number of the layout's first tensors that are those of convolutions.
    #[must_use]
    pub fn num_convolution_tensors(&self) -> usize {
        match &self.encoder {
            Encoder::Image(image) => 2 * image.convolutions().count(),
            Encoder::Identity { .. } | Encoder::OneHot { .. } => 0,
        }
    }

    /// The flat layout of the acting parameters: the convolutions of an image's encoder as
    /// [`ImageEncoder::push`] lays them out, under `policy.encoder`; then `policy.0.weight`, `policy.0.bias`, ...,
    /// `policy.head.weight`, `policy.head.bias`; then, for a dueling network, `policy.value.weight`
    /// and `policy.value.bias`; then, for a diagonal Gaussian, `policy.log_std`. In a noisy network
    /// each fully connected layer's `weight_sigma` and `bias_sigma` follow its `bias`. Before the head of
    /// a recurrent network lie `policy.recurrent.weight_ih`, `bias_ih`, `weight_hh` and `bias_hh`, which
    /// are PyTorch's, see [`RecurrentCell`].
    ///
    /// A critic goes behind it, so that what acts is a prefix of what is learnt.
    #[must_use]
    pub fn layout(&self) -> Layout {
        let mut layout = Layout::new();
        if let Encoder::Image(image) = &self.encoder {
            image.push(&mut layout, "policy.encoder");
        }
        for (index, (inputs, outputs)) in self.layer_shapes().enumerate() {
            if let Some(recurrent) = self.recurrent.filter(|_| index == self.hidden.len()) {
                recurrent.push(&mut layout, self.trunk_width());
            }
            let layer = match index.checked_sub(self.hidden.len()) {
                None => index.to_string(),
                Some(0) => "head".to_owned(),
                Some(_) => "value".to_owned(),
            };
            layout.push(format!("policy.{layer}.weight"), &[outputs, inputs]);
            layout.push(format!("policy.{layer}.bias"), &[outputs]);
            if self.head.is_noisy() {
                layout.push(format!("policy.{layer}.weight_sigma"), &[outputs, inputs]);
                layout.push(format!("policy.{layer}.bias_sigma"), &[outputs]);
            }
        }
        if let Head::DiagonalGaussian { dimension } = self.head {
            layout.push("policy.log_std", &[dimension]);
        }
        layout
    }
}

/// The bounds of a box.
fn bounds(action: &Space, head: &'static str) -> Result<(Vec<f32>, Vec<f32>), SpecError> {
    match action {
        Space::Box { low, high, .. } => Ok((low.clone(), high.clone())),
        Space::Discrete { .. } | Space::MultiDiscrete { .. } | Space::Frames { .. } => {
            Err(SpecError::ActionSpace {
                head,
                expected: "a box of actions",
                got: action.to_string(),
                remedy: "train with dqn or ppo",
            })
        }
    }
}

pub(super) fn check_width(field: impl fmt::Display, got: usize) -> Result<(), SpecError> {
    if (1..=MAX_WIDTH).contains(&got) {
        Ok(())
    } else {
        Err(SpecError::Width {
            field: field.to_string(),
            got,
        })
    }
}

#[cfg(test)]
mod tests;
