//! The acting half of a network, without libtorch: what it is made of ([`spec`]), where its
//! parameters lie ([`layout`]), how its outputs are computed ([`forward`], [`math`]) and how they
//! become actions ([`distribution`]).
//!
//! One [`Policy`] is one parameter version. It never changes, so collector threads share it in an
//! [`Arc`](std::sync::Arc) and each brings its own [`Workspace`].

pub mod spec;
pub mod head;
pub mod layout;
pub mod math;
pub mod forward;
pub mod distribution;
pub mod exploration;
pub mod artifact;

pub use self::artifact::{ArtifactError, PolicyArtifact};
pub use self::exploration::{Acting, ApeX, Behaviour, Exploration, ExplorationError};
pub use self::head::{Head, ValueDistribution};
pub use self::layout::{Layout, TensorSlot};
pub use self::spec::{Activation, Encoder, PolicySpec, SpecError};

use pulp::{Simd, WithSimd};

use self::distribution::{Categorical, DiagonalGaussian};
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
    /// Observations are indices, which have no mean.
    #[error("discrete observations cannot be normalised: switch the observation normaliser off")]
    NormalisedIndices,
    /// This release does not act with such a head.
    #[error("this release does not act with a policy of head {head}")]
    Head {
        /// The head.
        head: &'static str,
    },
}

/// One version of a policy, ready to act.
#[derive(Clone, Debug)]
pub struct Policy {
    spec: PolicySpec,
    network: Network,
    /// Without dimensions where the head is categorical.
    gaussian: DiagonalGaussian,
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
        if !matches!(
            spec.head,
            Head::Categorical { .. } | Head::DiagonalGaussian { .. }
        ) {
            return Err(PolicyError::Head {
                head: spec.head.name(),
            });
        }
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
            gaussian: DiagonalGaussian::new(log_std.unwrap_or_default()),
            spec,
            network,
            normaliser,
        })
    }

    /// What the network is made of.
    #[must_use]
    pub fn spec(&self) -> &PolicySpec {
        &self.spec
    }

    /// Draws an action for each observation, and says how probable it was.
    ///
    /// A row's action and log-probability are functions of its observation, its random stream and
    /// the parameters: the other rows change no bit of them. Log-probabilities are those of the
    /// action as drawn, which an environment may clip to its bounds afterwards. Parameters are
    /// finite, but products can overflow: what follows then is said at [`Categorical`].
    ///
    /// # Shapes
    /// `observations`: `[rows, observation width]`, raw; `actions`: `[rows, action width]`;
    /// `log_probs`: `[rows]`; `random(row)` gives the stream of a row.
    ///
    /// # Panics
    /// If the shapes disagree, or if observations are indices and one is out of range.
    pub fn act(
        &self,
        workspace: &mut Workspace,
        observations: &[f32],
        random: impl FnMut(usize) -> Random,
        actions: &mut [f32],
        log_probs: &mut [f32],
    ) {
        let width = self.spec.action_width();
        assert_eq!(actions.len(), log_probs.len() * width, "one action a row");
        self.network.arch().dispatch(Act {
            policy: self,
            workspace,
            observations,
            rows: log_probs.len(),
            choose: Sample {
                random,
                actions,
                log_probs,
            },
        });
    }

    /// Chooses the most probable action for each observation: the first of the largest logits, or
    /// the mean.
    ///
    /// # Shapes
    /// `observations`: `[rows, observation width]`, raw; `actions`: `[rows, action width]`.
    ///
    /// # Panics
    /// As [`Policy::act`].
    pub fn act_greedily(
        &self,
        workspace: &mut Workspace,
        observations: &[f32],
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
            observations,
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
    observations: &'a [f32],
    rows: usize,
    choose: C,
}

/// What becomes of a block of outputs.
trait Choose {
    fn choose(self, policy: &Policy, outputs: &[f32]);
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
        let mut observations = self.observations;
        if let Some(normaliser) = &self.policy.normaliser {
            copy.clear();
            copy.extend_from_slice(observations);
            normaliser.apply(copy);
            observations = copy;
        }
        outputs.resize(self.rows * self.policy.spec.head_width(), 0.0);
        let forward = Forward {
            network: &self.policy.network,
            scratch,
            observations,
            outputs,
        };
        forward.with_simd(simd);
        self.choose.choose(self.policy, outputs);
    }
}

struct Sample<'a, R> {
    random: R,
    actions: &'a mut [f32],
    log_probs: &'a mut [f32],
}

impl<R: FnMut(usize) -> Random> Choose for Sample<'_, R> {
    #[expect(clippy::inline_always, reason = "see `forward`")]
    #[inline(always)]
    fn choose(mut self, policy: &Policy, outputs: &[f32]) {
        let heads = outputs.chunks_exact(policy.spec.head_width());
        let actions = self.actions.chunks_exact_mut(policy.spec.action_width());
        for (row, ((head, action), log_prob)) in heads.zip(actions).zip(self.log_probs).enumerate()
        {
            let mut random = (self.random)(row);
            match policy.spec.head {
                Head::Categorical { .. } => {
                    let categorical = Categorical::new(head);
                    let chosen = categorical.sample(&mut random);
                    action[0] = chosen as f32;
                    *log_prob = categorical.log_prob(chosen);
                }
                Head::DiagonalGaussian { .. } => {
                    policy.gaussian.sample(head, &mut random, action);
                    *log_prob = policy.gaussian.log_prob(head, action);
                }
                // Refused by `Policy::new`.
                _ => {}
            }
        }
    }
}

struct Mode<'a> {
    actions: &'a mut [f32],
}

impl Choose for Mode<'_> {
    #[expect(clippy::inline_always, reason = "see `forward`")]
    #[inline(always)]
    fn choose(self, policy: &Policy, outputs: &[f32]) {
        let heads = outputs.chunks_exact(policy.spec.head_width());
        let actions = self.actions.chunks_exact_mut(policy.spec.action_width());
        for (head, action) in heads.zip(actions) {
            match policy.spec.head {
                Head::Categorical { .. } => action[0] = distribution::mode(head) as f32,
                Head::DiagonalGaussian { .. } => action.copy_from_slice(head),
                // Refused by `Policy::new`.
                _ => {}
            }
        }
    }
}
