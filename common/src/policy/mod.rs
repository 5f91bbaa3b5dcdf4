//! The acting half of a network, without libtorch: what it is made of ([`spec`], [`image`],
//! [`head`]), where its parameters lie ([`layout`]), how its outputs are computed ([`forward`],
//! [`kernels`], [`math`]) and how they become actions ([`distribution`], [`values`], [`squashed`]) as the run
//! explores ([`exploration`]).
//!
//! One [`Policy`] is one parameter version. It never changes, so collector threads share it in an
//! [`Arc`](std::sync::Arc) and each brings its own [`Workspace`].

pub mod spec;
pub mod image;
pub mod head;
pub mod layout;
pub mod math;
pub mod dense;
pub mod kernels;
mod convolution;
pub mod recurrent;
pub mod forward;
pub mod distribution;
pub mod values;
pub mod squashed;
pub mod exploration;
mod chooser;
pub mod artifact;

pub use self::artifact::{ArtifactError, PolicyArtifact};
pub use self::exploration::{Acting, ApeX, Behaviour, Exploration, ExplorationError};
pub use self::forward::Inputs;
pub use self::head::{Head, ValueDistribution};
pub use self::image::{EncoderKind, ImageEncoder, Stage};
pub use self::layout::{Layout, TensorSlot};
pub use self::recurrent::{Recurrent, RecurrentCell};
pub use self::spec::{Activation, Encoder, PolicySpec, SpecError};

use pulp::{Simd, WithSimd};

use self::chooser::Chooser;
use self::distribution::Possible;
use self::forward::{Forward, Network, Scratch, ShapeMismatch};
use crate::normaliser::ObservationNormaliser;
use crate::seeds::Random;

/// Why parameters make no [`Policy`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// The network cannot be.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// There are too few or too many parameters.
    #[error(transparent)]
    Shape(#[from] ShapeMismatch),
    /// A parameter is NaN or infinite.
    #[error(
        "element {index} of {tensor} is {value}, expected a finite number: did training diverge?"
    )]
    NonFinite {
        /// The tensor it is in.
        tensor: String,
        /// Its index in the flattened tensor.
        index: usize,
        /// What it is.
        value: f32,
    },
    /// The normaliser is for observations of another width.
    #[error("normaliser has {got} features, expected the observation's {expected}")]
    NormaliserWidth {
        /// Width of an observation row.
        expected: usize,
        /// Width of the normaliser.
        got: usize,
    },
    /// An algorithm whose policy makes one choice is asked for several.
    #[error(
        "{algorithm} chooses one of several actions, the environment's are {got}: train with ppo, or make one \
         choice of several with the wrapper \"flatten_action\""
    )]
    SeveralChoices {
        /// Its name.
        algorithm: &'static str,
        /// The action space.
        got: String,
    },
    /// Discrete soft actor-critic takes no action masks.
    #[error(
        "the environment says which actions can be taken (action_mask), which sac does not learn from: train \
         with dqn or ppo"
    )]
    SacMask,
    /// Observations are indices, which have no mean.
    #[error("discrete observations cannot be normalised: switch the observation normaliser off")]
    NormalisedIndices,
}

/// One version of a policy, ready to act.
#[derive(Clone, Debug)]
pub struct Policy {
    spec: PolicySpec,
    network: Network,
    chooser: Chooser,
    /// Values of the action mask at the end of an observation.
    mask_width: usize,
    normaliser: Option<ObservationNormaliser>,
}

/// Buffers of one thread that acts; they grow to the largest batch and never shrink.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    scratch: Scratch,
    observations: Vec<f32>,
    outputs: Vec<f32>,
}

impl Policy {
    /// The policy with these parameters, which lie as [`PolicySpec::layout`] says, and the
    /// normaliser of the same version.
    ///
    /// # Errors
    /// If the spec is invalid, the number of parameters is not the layout's, any of them is not
    /// finite, or the normaliser does not fit the observations.
    pub fn new(
        spec: PolicySpec,
        parameters: &[f32],
        normaliser: Option<ObservationNormaliser>,
    ) -> Result<Self, PolicyError> {
        spec.validate()?;
        let network = Network::new(&spec, parameters)?;
        let layout = spec.layout();
        for tensor in layout.tensors() {
            check_finite(tensor.name(), &parameters[tensor.range()])?;
        }
        if let Some(normaliser) = &normaliser {
            if matches!(spec.encoder, Encoder::OneHot { .. }) {
                return Err(PolicyError::NormalisedIndices);
            }
            if normaliser.mean().len() != spec.observation_width() {
                return Err(PolicyError::NormaliserWidth {
                    expected: spec.observation_width(),
                    got: normaliser.mean().len(),
                });
            }
        }
        let log_std = layout
            .find("policy.log_std")
            .map(|tensor| &parameters[tensor.range()]);
        Ok(Self {
            chooser: Chooser::new(&spec.head, log_std.unwrap_or_default()),
            mask_width: spec.mask_width(),
            spec,
            network,
            normaliser,
        })
    }

    /// The actions that can be taken where a row is seen.
    #[expect(clippy::inline_always, reason = "see `forward`")]
    #[inline(always)]
    fn possible<'a>(&self, seen: &'a [f32]) -> Possible<'a> {
        if self.spec.action_mask {
            Possible::masked(&seen[seen.len() - self.mask_width..])
        } else {
            Possible::ALL
        }
    }

    /// What the network is made of.
    #[must_use]
    pub fn spec(&self) -> &PolicySpec {
        &self.spec
    }

    /// This version with one draw of its networks' noise, or nothing where it has none. The draw
    /// acts for one unroll of one shard; without it a noisy network acts by its means.
    #[must_use]
    pub fn with_noise(&self, random: &mut Random) -> Option<Self> {
        Some(Self {
            network: self.network.with_noise(random)?,
            spec: self.spec.clone(),
            chooser: self.chooser.clone(),
            mask_width: self.mask_width,
            normaliser: self.normaliser.clone(),
        })
    }

    /// Chooses an action for each observation as `behaviour` says, and says how probable it was.
    ///
    /// A row's action and log-probability are functions of its observation, its recurrent state, its
    /// random stream, the behaviour and the parameters: the other rows change no bit of them. Log-probabilities are
    /// those of the behaviour, so of greedy actions too; where an action is continuous they are
    /// log-densities in its units, and zero where it is not drawn at all. An environment may clip
    /// the actions of a [`Head::DiagonalGaussian`] to its bounds afterwards; those of the other
    /// heads lie in the action space. Parameters are finite, but products can overflow: then a
    /// discrete action is legal and its log-probability NaN, and a continuous one is NaN or as far
    /// out as it can be.
    ///
    /// # Shapes
    /// `inputs`: observations `[rows, observation width]`, raw, with the state of a recurrent policy,
    /// which is moved on; `actions`: `[rows, action width]`; `log_probs`: `[rows]`; `random(row)`
    /// gives the stream of a row.
    ///
    /// # Panics
    /// If the shapes disagree, if observations are indices and one is out of range, or if the head
    /// cannot act like that; every behaviour of an [`Acting`] for this spec suits it.
    pub fn act<'a>(
        &self,
        workspace: &mut Workspace,
        behaviour: Behaviour,
        inputs: impl Into<Inputs<'a>>,
        random: impl FnMut(usize) -> Random,
        actions: &mut [f32],
        log_probs: &mut [f32],
    ) {
        let width = self.spec.action_width();
        assert_eq!(actions.len(), log_probs.len() * width, "one action a row");
        assert!(
            self.chooser.can(behaviour),
            "{behaviour:?} does not suit the head {}",
            self.spec.head.name()
        );
        self.network.arch().dispatch(Act {
            policy: self,
            workspace,
            inputs: inputs.into(),
            rows: log_probs.len(),
            choose: Sample {
                behaviour,
                random,
                actions,
                log_probs,
            },
        });
    }

    /// Chooses what the policy prefers for each observation: the first of the largest logits or
    /// values, the mean, or the output itself.
    ///
    /// # Shapes
    /// As [`Policy::act`].
    ///
    /// # Panics
    /// As [`Policy::act`].
    pub fn act_greedily<'a>(
        &self,
        workspace: &mut Workspace,
        inputs: impl Into<Inputs<'a>>,
        actions: &mut [f32],
    ) {
        let rows = actions.len() / self.spec.action_width();
        assert_eq!(
            actions.len(),
            rows * self.spec.action_width(),
            "actions are whole rows"
        );
        self.network.arch().dispatch(Act {
            policy: self,
            workspace,
            inputs: inputs.into(),
            rows,
            choose: Mode { actions },
        });
    }
}

fn check_finite(tensor: &str, values: &[f32]) -> Result<(), PolicyError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(PolicyError::NonFinite {
            tensor: tensor.to_owned(),
            index,
            value: values[index],
        }),
    }
}

/// Normalise, compute, choose: as one thing that can be compiled for an instruction set.
struct Act<'a, C> {
    policy: &'a Policy,
    workspace: &'a mut Workspace,
    inputs: Inputs<'a>,
    rows: usize,
    choose: C,
}

/// What becomes of a block of outputs for what was seen.
trait Choose {
    fn choose(self, policy: &Policy, seen: &[f32], outputs: &[f32]);
}

impl<C: Choose> WithSimd for Act<'_, C> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "see `forward`")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Workspace {
            scratch,
            observations: copy,
            outputs,
        } = self.workspace;
        let mut inputs = self.inputs;
        if let Some(normaliser) = &self.policy.normaliser {
            copy.clear();
            copy.extend_from_slice(inputs.observations);
            normaliser.apply(copy);
            inputs.observations = copy;
        }
        outputs.resize(self.rows * self.policy.spec.head_width(), 0.0);
        let seen = inputs.observations;
        let forward = Forward {
            network: &self.policy.network,
            scratch,
            inputs,
            outputs,
        };
        forward.with_simd(simd);
        self.choose.choose(self.policy, seen, outputs);
    }
}

struct Sample<'a, R> {
    behaviour: Behaviour,
    random: R,
    actions: &'a mut [f32],
    log_probs: &'a mut [f32],
}

impl<R: FnMut(usize) -> Random> Choose for Sample<'_, R> {
    #[expect(clippy::inline_always, reason = "see `forward`")]
    #[inline(always)]
    fn choose(mut self, policy: &Policy, seen: &[f32], outputs: &[f32]) {
        let rows = seen.chunks_exact(policy.spec.observation_width());
        let heads = outputs.chunks_exact(policy.spec.head_width());
        let actions = self.actions.chunks_exact_mut(policy.spec.action_width());
        let rows = rows.zip(heads).zip(actions).zip(self.log_probs);
        for (row, (((seen, head), action), log_prob)) in rows.enumerate() {
            let mut random = (self.random)(row);
            let possible = policy.possible(seen);
            *log_prob = policy
                .chooser
                .sample(self.behaviour, head, possible, &mut random, action);
        }
    }
}

struct Mode<'a> {
    actions: &'a mut [f32],
}

impl Choose for Mode<'_> {
    #[expect(clippy::inline_always, reason = "see `forward`")]
    #[inline(always)]
    fn choose(self, policy: &Policy, seen: &[f32], outputs: &[f32]) {
        let rows = seen.chunks_exact(policy.spec.observation_width());
        let heads = outputs.chunks_exact(policy.spec.head_width());
        let actions = self.actions.chunks_exact_mut(policy.spec.action_width());
        for ((seen, head), action) in rows.zip(heads).zip(actions) {
            policy.chooser.mode(head, policy.possible(seen), action);
        }
    }
}
