//! What comes out of a policy network, and how its last layers' outputs are arranged.

use serde::{Deserialize, Serialize};

use super::spec::{MAX_WIDTH, SpecError, check_width};
use crate::spaces::Space;

/// What the last layers give, and so how an action comes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Head {
    /// One logit for each action; an action is its index as `f32`.
    Categorical {
        /// Number of actions.
        num_actions: usize,
    },
    /// The mean of each dimension, which are independent; the logarithm of the standard deviation
    /// is a parameter of its own that no observation changes.
    DiagonalGaussian {
        /// Values in an action.
        dimension: usize,
    },
    /// What each action is worth; an action is its index as `f32`.
    ///
    /// # Shapes
    /// A row is `[num_actions, outputs]` with the [outputs of one
    /// action](ValueDistribution::num_outputs); a dueling network's value stream gives `[outputs]`.
    ActionValues {
        /// Number of actions.
        num_actions: usize,
        /// Whether a second last layer gives the value of the state, and the head the advantage of
        /// each action over it: `Q = V + A - mean(A)` for each output, the mean over the actions.
        /// Both layers see the last hidden one; the hidden layers are shared (Wang et al. 2016,
        /// "Dueling network architectures for deep reinforcement learning", equation 9; there each
        /// stream has a hidden layer of its own).
        dueling: bool,
        /// What is known of an action's return.
        distribution: ValueDistribution,
        /// Whether every fully connected layer (the hidden ones, the head and a value stream) is
        /// noisy, as in Rainbow (Hessel et al. 2018): each then has standard deviations
        /// `weight_sigma` and `bias_sigma` beside its means `weight` and `bias` (Fortunato et al.
        /// 2018, "Noisy networks for exploration", factorised noise, equations 10 and 11).
        noisy: bool,
    },
    /// The mean of each dimension of a normal distribution, then the logarithm of each one's
    /// standard deviation, both functions of the observation; a draw goes through the hyperbolic
    /// tangent and is rescaled to the bounds (Haarnoja et al. 2018, "Soft actor-critic algorithms
    /// and applications", appendix C).
    ///
    /// # Shapes
    /// A row is `[2, dimension]`: means, then logarithms of standard deviations.
    SquashedGaussian {
        /// The least value of each dimension.
        low: Vec<f32>,
        /// The largest value of each dimension.
        high: Vec<f32>,
    },
    /// One value for each dimension, which goes through the hyperbolic tangent and is rescaled to
    /// the bounds (Fujimoto et al. 2018, "Addressing function approximation error in actor-critic
    /// methods").
    Deterministic {
        /// The least value of each dimension.
        low: Vec<f32>,
        /// The largest value of each dimension.
        high: Vec<f32>,
    },
    /// Independent categorical distributions, one for each of several choices; an action is the index of
    /// each as `f32`.
    ///
    /// # Shapes
    /// A row has the logits of the first choice, then those of the second, and so on.
    MultiCategorical {
        /// Number of actions of each choice.
        num_actions: Vec<usize>,
    },
}

/// What an action-value network says about the return that follows an action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ValueDistribution {
    /// Its expectation.
    #[default]
    Expectation,
    /// The logits of a distribution over `num_atoms` returns at equal distances from `v_min` to
    /// `v_max` (C51: Bellemare, Dabney and Munos 2017, "A distributional perspective on
    /// reinforcement learning").
    Categorical {
        /// Number of returns, at least two.
        num_atoms: usize,
        /// The least return.
        v_min: f32,
        /// The largest return.
        v_max: f32,
    },
    /// Its quantiles at the fractions `(i + 1/2) / num_quantiles`, in that order (Dabney et al.
    /// 2018, "Distributional reinforcement learning with quantile regression", lemma 2).
    Quantiles {
        /// Number of quantiles.
        num_quantiles: usize,
    },
}

impl ValueDistribution {
    /// Number of outputs that an action has.
    #[must_use]
    pub fn num_outputs(&self) -> usize {
        match *self {
            Self::Expectation => 1,
            Self::Categorical { num_atoms, .. } => num_atoms,
            Self::Quantiles { num_quantiles } => num_quantiles,
        }
    }

    fn validate(&self) -> Result<(), SpecError> {
        match *self {
            Self::Expectation => Ok(()),
            Self::Quantiles { num_quantiles } => check_width(
                "head.action_values.distribution.quantiles.num_quantiles",
                num_quantiles,
            ),
            Self::Categorical {
                num_atoms,
                v_min,
                v_max,
            } => {
                if num_atoms < 2 {
                    return Err(SpecError::Atoms { got: num_atoms });
                }
                check_width(
                    "head.action_values.distribution.categorical.num_atoms",
                    num_atoms,
                )?;
                if !(v_min.is_finite() && v_max.is_finite() && v_min < v_max) {
                    return Err(SpecError::Support {
                        v_min: v_min.to_string(),
                        v_max: v_max.to_string(),
                    });
                }
                Ok(())
            }
        }
    }
}

impl Head {
    /// The head's name as it is written in a file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Categorical { .. } => "categorical",
            Self::DiagonalGaussian { .. } => "diagonal_gaussian",
            Self::ActionValues { .. } => "action_values",
            Self::SquashedGaussian { .. } => "squashed_gaussian",
            Self::Deterministic { .. } => "deterministic",
            Self::MultiCategorical { .. } => "multi_categorical",
        }
    }

    /// Whether it is a distribution whose probabilities policy gradients are made of, with nothing
    /// between its outputs and the action: what actor-critics learn.
    #[must_use]
    pub const fn is_likelihood(&self) -> bool {
        matches!(
            self,
            Self::Categorical { .. }
                | Self::MultiCategorical { .. }
                | Self::DiagonalGaussian { .. }
        )
    }

    /// Number of `f32` values in an action row.
    #[must_use]
    pub fn action_width(&self) -> usize {
        match self {
            Self::Categorical { .. } | Self::ActionValues { .. } => 1,
            Self::DiagonalGaussian { dimension } => *dimension,
            Self::SquashedGaussian { low, .. } | Self::Deterministic { low, .. } => low.len(),
            Self::MultiCategorical { num_actions } => num_actions.len(),
        }
    }

    /// Number of actions, where one of them is chosen.
    #[must_use]
    pub fn num_actions(&self) -> Option<usize> {
        match self {
            Self::Categorical { num_actions } | Self::ActionValues { num_actions, .. } => {
                Some(*num_actions)
            }
            Self::DiagonalGaussian { .. }
            | Self::SquashedGaussian { .. }
            | Self::Deterministic { .. }
            | Self::MultiCategorical { .. } => None,
        }
    }

    /// Number of actions of each discrete choice; none where values are real.
    #[must_use]
    pub fn choices(&self) -> Option<&[usize]> {
        match self {
            Self::Categorical { num_actions } | Self::ActionValues { num_actions, .. } => {
                Some(std::slice::from_ref(num_actions))
            }
            Self::MultiCategorical { num_actions } => Some(num_actions),
            Self::DiagonalGaussian { .. }
            | Self::SquashedGaussian { .. }
            | Self::Deterministic { .. } => None,
        }
    }

    /// Least and largest value of each dimension, where actions never leave them.
    #[must_use]
    pub fn bounds(&self) -> Option<(&[f32], &[f32])> {
        match self {
            Self::SquashedGaussian { low, high } | Self::Deterministic { low, high } => {
                Some((low, high))
            }
            Self::Categorical { .. }
            | Self::DiagonalGaussian { .. }
            | Self::ActionValues { .. }
            | Self::MultiCategorical { .. } => None,
        }
    }

    /// Whether each layer has standard deviations beside its means.
    #[must_use]
    pub fn is_noisy(&self) -> bool {
        matches!(self, Self::ActionValues { noisy: true, .. })
    }

    /// Outputs of the last layer, and of the whole network for a row.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Categorical { num_actions } => *num_actions,
            Self::DiagonalGaussian { dimension } => *dimension,
            Self::ActionValues {
                num_actions,
                distribution,
                ..
            } => num_actions.saturating_mul(distribution.num_outputs()),
            Self::SquashedGaussian { low, .. } => 2 * low.len(),
            Self::Deterministic { low, .. } => low.len(),
            Self::MultiCategorical { num_actions } => num_actions
                .iter()
                .fold(0, |sum, num_actions| sum.saturating_add(*num_actions)),
        }
    }

    /// Outputs of the value stream, where there is one.
    #[must_use]
    pub fn value_width(&self) -> Option<usize> {
        match self {
            Self::ActionValues {
                dueling: true,
                distribution,
                ..
            } => Some(distribution.num_outputs()),
            _ => None,
        }
    }

    /// Whether these are the actions of `space`.
    #[must_use]
    pub fn fits(&self, space: &Space) -> bool {
        match (self, space) {
            (Self::DiagonalGaussian { dimension }, Space::Box { .. }) => {
                *dimension == space.width()
            }
            (_, Space::Box { low, high, .. }) => self.bounds() == Some((low, high)),
            (_, Space::Discrete { n }) => self.num_actions() == Some(*n),
            (Self::MultiCategorical { num_actions }, Space::MultiDiscrete { nvec }) => {
                num_actions == nvec
            }
            (_, Space::MultiDiscrete { .. } | Space::Frames { .. }) => false,
        }
    }

    /// Checks that every extent is within bounds and every bound is finite and in order.
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        match self {
            Self::Categorical { num_actions } => {
                check_width("head.categorical.num_actions", *num_actions)
            }
            Self::DiagonalGaussian { dimension } => {
                check_width("head.diagonal_gaussian.dimension", *dimension)
            }
            Self::ActionValues {
                num_actions,
                distribution,
                ..
            } => {
                check_width("head.action_values.num_actions", *num_actions)?;
                distribution.validate()?;
                check_width("head.action_values, all outputs together,", self.width())
            }
            Self::SquashedGaussian { low, high } | Self::Deterministic { low, high } => {
                let name = self.name();
                check_width(format_args!("head.{name}.low"), low.len())?;
                if 2 * low.len() > MAX_WIDTH || high.len() != low.len() {
                    return Err(SpecError::BoundCount {
                        head: name,
                        low: low.len(),
                        high: high.len(),
                    });
                }
                check_bounds(name, low, high)
            }
            Self::MultiCategorical { num_actions } => {
                let choices = "head.multi_categorical.num_actions";
                check_width(choices, num_actions.len())?;
                for (choice, num_actions) in num_actions.iter().enumerate() {
                    check_width(format_args!("{choices}[{choice}]"), *num_actions)?;
                }
                check_width(
                    "head.multi_categorical, all outputs together,",
                    self.width(),
                )
            }
        }
    }
}

/// Checks that a dimension can be rescaled to its bounds.
fn check_bounds(head: &'static str, low: &[f32], high: &[f32]) -> Result<(), SpecError> {
    let is_sound = |(low, high): (&f32, &f32)| low.is_finite() && high.is_finite() && *low < *high;
    match low.iter().zip(high).position(|pair| !is_sound(pair)) {
        None => Ok(()),
        Some(dimension) => Err(SpecError::Bounds {
            head,
            dimension,
            low: low[dimension].to_string(),
            high: high[dimension].to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Activation, PolicySpec};

    const C51: ValueDistribution = ValueDistribution::Categorical {
        num_atoms: 51,
        v_min: -10.0,
        v_max: 10.0,
    };

    fn values(
        action: &Space,
        dueling: bool,
        distribution: ValueDistribution,
        noisy: bool,
    ) -> Result<PolicySpec, SpecError> {
        let observation = Space::bounded(&[-1.0; 3], &[1.0; 3]);
        let (hidden, relu) = (vec![4], Activation::Relu);
        PolicySpec::action_values(
            &observation,
            action,
            hidden,
            relu,
            dueling,
            distribution,
            noisy,
        )
    }

    fn squashed(low: &[f32], high: &[f32]) -> Result<PolicySpec, SpecError> {
        let observation = Space::bounded(&[-1.0; 3], &[1.0; 3]);
        let action = Space::bounded(low, high);
        PolicySpec::squashed_gaussian(&observation, &action, vec![4], Activation::Relu)
    }

    fn listed(spec: &PolicySpec) -> Vec<(String, Vec<usize>)> {
        let layout = spec.layout();
        let tensors = layout.tensors().iter();
        tensors
            .map(|tensor| (tensor.name().to_owned(), tensor.shape().to_vec()))
            .collect()
    }

    fn named(slots: &[(&str, &[usize])]) -> Vec<(String, Vec<usize>)> {
        let slots = slots.iter();
        slots
            .map(|(name, shape)| (format!("policy.{name}"), shape.to_vec()))
            .collect()
    }

    #[test]
    fn a_dueling_network_has_a_value_layer_behind_the_head() {
        let spec = values(&Space::Discrete { n: 2 }, true, C51, false).unwrap();
        assert_eq!(
            listed(&spec),
            named(&[
                ("0.weight", &[4, 3]),
                ("0.bias", &[4]),
                ("head.weight", &[102, 4]),
                ("head.bias", &[102]),
                ("value.weight", &[51, 4]),
                ("value.bias", &[51]),
            ])
        );
        assert_eq!((spec.head_width(), spec.action_width()), (102, 1));
    }

    #[test]
    fn each_layer_of_a_noisy_network_has_its_standard_deviations() {
        let spec = values(
            &Space::Discrete { n: 2 },
            true,
            ValueDistribution::Expectation,
            true,
        )
        .unwrap();
        assert_eq!(
            listed(&spec),
            named(&[
                ("0.weight", &[4, 3]),
                ("0.bias", &[4]),
                ("0.weight_sigma", &[4, 3]),
                ("0.bias_sigma", &[4]),
                ("head.weight", &[2, 4]),
                ("head.bias", &[2]),
                ("head.weight_sigma", &[2, 4]),
                ("head.bias_sigma", &[2]),
                ("value.weight", &[1, 4]),
                ("value.bias", &[1]),
                ("value.weight_sigma", &[1, 4]),
                ("value.bias_sigma", &[1]),
            ])
        );
    }

    #[test]
    fn squashed_heads_take_their_bounds_from_the_action_space() {
        let spec = squashed(&[-2.0, 0.0], &[2.0, 0.5]).unwrap();
        assert_eq!((spec.head_width(), spec.action_width()), (4, 2));
        assert_eq!(
            listed(&spec)[2..],
            named(&[("head.weight", &[4, 4]), ("head.bias", &[4])])
        );
        let action = Space::bounded(&[-2.0, 0.0], &[2.0, 0.5]);
        assert!(spec.head.fits(&action));
        assert!(!spec.head.fits(&Space::bounded(&[-2.0, 0.0], &[2.0, 0.25])));
        assert!(!spec.head.fits(&Space::Discrete { n: 2 }));
        let observation = Space::Discrete { n: 7 };
        let deterministic =
            PolicySpec::deterministic(&observation, &action, vec![], Activation::Relu).unwrap();
        assert_eq!(deterministic.head_width(), 2);
        assert!(deterministic.fits(&observation, &action));
        assert!(!deterministic.fits(&Space::Discrete { n: 6 }, &action));
    }

    #[test]
    fn spaces_that_do_not_suit_the_head_are_refused_with_the_remedy() {
        let refused = |built: Result<PolicySpec, SpecError>| built.unwrap_err().to_string();
        let boxed = Space::bounded(&[-1.0; 2], &[1.0; 2]);
        assert_eq!(
            refused(values(&boxed, false, ValueDistribution::Expectation, false)),
            "action_values needs discrete actions, the environment's actions are Box[2]: train \
             with sac or ppo"
        );
        let discrete = Space::Discrete { n: 3 };
        assert_eq!(
            refused(PolicySpec::table(&boxed, &discrete)),
            "a table needs discrete observations, the environment's are Box[2]: choose an \
             environment, or arguments of it, that gives them, or train with dqn or ppo"
        );
        assert!(refused(PolicySpec::table(&discrete, &boxed)).contains("needs discrete actions"));
        assert_eq!(
            refused(PolicySpec::deterministic(
                &boxed,
                &discrete,
                vec![],
                Activation::Relu
            )),
            "deterministic needs a box of actions, the environment's actions are Discrete(3): train \
             with dqn or ppo"
        );
        assert_eq!(
            refused(squashed(&[-1.0, f32::NEG_INFINITY], &[1.0, 1.0])),
            "head.squashed_gaussian: dimension 1 is bounded by -inf and 1, expected finite bounds \
             in ascending order: bound the environment's actions, or train with ppo"
        );
        for (low, high) in [(1.0, 1.0), (1.0, -1.0), (f32::NAN, 1.0), (0.0, f32::NAN)] {
            let built = squashed(&[low], &[high]);
            assert!(matches!(built, Err(SpecError::Bounds { dimension: 0, .. })));
        }
        let uneven = Head::Deterministic {
            low: vec![0.0; 2],
            high: vec![1.0],
        };
        assert!(matches!(
            uneven.validate(),
            Err(SpecError::BoundCount {
                low: 2,
                high: 1,
                ..
            })
        ));
    }

    #[test]
    fn distributions_that_cannot_be_are_refused() {
        let built = |distribution| values(&Space::Discrete { n: 2 }, false, distribution, false);
        let atoms = |num_atoms, v_min, v_max| {
            built(ValueDistribution::Categorical {
                num_atoms,
                v_min,
                v_max,
            })
        };
        assert_eq!(atoms(1, 0.0, 1.0), Err(SpecError::Atoms { got: 1 }));
        for (v_min, v_max) in [
            (1.0, 1.0),
            (2.0, -2.0),
            (0.0, f32::INFINITY),
            (f32::NAN, 0.0),
        ] {
            let refused = atoms(51, v_min, v_max);
            assert!(matches!(refused, Err(SpecError::Support { .. })));
        }
        for num_quantiles in [0, usize::MAX] {
            let refused = built(ValueDistribution::Quantiles { num_quantiles });
            assert!(matches!(refused, Err(SpecError::Width { .. })));
        }
        // Each within bounds, but not together.
        let many = ValueDistribution::Quantiles {
            num_quantiles: MAX_WIDTH,
        };
        assert!(matches!(built(many), Err(SpecError::Width { .. })));
    }

    #[test]
    fn serialised_heads_read_back() {
        let head = Head::ActionValues {
            num_actions: 2,
            dueling: true,
            distribution: C51,
            noisy: false,
        };
        let text = serde_json::to_string(&head).unwrap();
        assert_eq!(
            text,
            r#"{"action_values":{"num_actions":2,"dueling":true,"distribution":{"categorical":{"num_atoms":51,"v_min":-10.0,"v_max":10.0}},"noisy":false}}"#
        );
        assert_eq!(serde_json::from_str::<Head>(&text).unwrap(), head);
        let head = squashed(&[-0.1], &[f32::MAX]).unwrap().head;
        let text = serde_json::to_string(&head).unwrap();
        assert_eq!(serde_json::from_str::<Head>(&text).unwrap(), head);
    }
}
