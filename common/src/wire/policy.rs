//! What to act with, and how, as it is agreed on at Join.

use rookery_proto::v1;

use super::WireError;
use crate::policy::{
    Activation, ApeX, Encoder, Exploration, ExplorationError, Head, PolicySpec, ValueDistribution,
};

impl From<&PolicySpec> for v1::PolicySpec {
    fn from(spec: &PolicySpec) -> Self {
        Self {
            encoder: Some(match spec.encoder {
                Encoder::Identity { width } => {
                    v1::policy_spec::Encoder::IdentityWidth(width as u32)
                }
                Encoder::OneHot { n } => v1::policy_spec::Encoder::OneHot(n as u32),
            }),
            hidden: spec.hidden.iter().map(|width| *width as u32).collect(),
            activation: match spec.activation {
                Activation::Tanh => v1::Activation::Tanh,
                Activation::Relu => v1::Activation::Relu,
            }
            .into(),
            head: Some((&spec.head).into()),
        }
    }
}

impl TryFrom<v1::PolicySpec> for PolicySpec {
    type Error = WireError;

    fn try_from(message: v1::PolicySpec) -> Result<Self, WireError> {
        let activation = match message.activation() {
            v1::Activation::Tanh => Activation::Tanh,
            v1::Activation::Relu => Activation::Relu,
            v1::Activation::Unspecified => {
                return Err(WireError::new(
                    "policy.activation",
                    "an activation that this release knows",
                    message.activation.to_string(),
                ));
            }
        };
        let encoder = match message
            .encoder
            .ok_or_else(|| WireError::missing("policy.encoder"))?
        {
            v1::policy_spec::Encoder::IdentityWidth(width) => Encoder::Identity {
                width: width as usize,
            },
            v1::policy_spec::Encoder::OneHot(n) => Encoder::OneHot { n: n as usize },
        };
        let head = message
            .head
            .ok_or_else(|| WireError::missing("policy.head"))?
            .try_into()?;
        let hidden = message.hidden.iter().map(|width| *width as usize).collect();
        let spec = Self {
            encoder,
            hidden,
            activation,
            head,
        };
        spec.validate()
            .map_err(|error| WireError::new("policy", "a sound network", error.to_string()))?;
        Ok(spec)
    }
}

impl From<&Head> for v1::policy_spec::Head {
    fn from(head: &Head) -> Self {
        let bounds = |low: &Vec<f32>, high: &Vec<f32>| v1::Bounds {
            low: low.clone(),
            high: high.clone(),
        };
        match head {
            Head::Categorical { num_actions } => Self::NumActions(*num_actions as u32),
            Head::DiagonalGaussian { dimension } => Self::ActionDimension(*dimension as u32),
            Head::ActionValues {
                num_actions,
                dueling,
                distribution,
                noisy,
            } => Self::ActionValues(v1::ActionValues {
                num_actions: *num_actions as u32,
                dueling: *dueling,
                distribution: Some((*distribution).into()),
                noisy: *noisy,
            }),
            Head::SquashedGaussian { low, high } => Self::SquashedGaussian(bounds(low, high)),
            Head::Deterministic { low, high } => Self::Deterministic(bounds(low, high)),
        }
    }
}

impl TryFrom<v1::policy_spec::Head> for Head {
    type Error = WireError;

    fn try_from(message: v1::policy_spec::Head) -> Result<Self, WireError> {
        use v1::policy_spec::Head as Message;
        Ok(match message {
            Message::NumActions(num_actions) => Self::Categorical {
                num_actions: num_actions as usize,
            },
            Message::ActionDimension(dimension) => Self::DiagonalGaussian {
                dimension: dimension as usize,
            },
            Message::ActionValues(values) => Self::ActionValues {
                num_actions: values.num_actions as usize,
                dueling: values.dueling,
                distribution: values
                    .distribution
                    .and_then(|distribution| distribution.kind)
                    .ok_or_else(|| WireError::missing("policy.action_values.distribution"))?
                    .into(),
                noisy: values.noisy,
            },
            Message::SquashedGaussian(v1::Bounds { low, high }) => {
                Self::SquashedGaussian { low, high }
            }
            Message::Deterministic(v1::Bounds { low, high }) => Self::Deterministic { low, high },
        })
    }
}

impl From<ValueDistribution> for v1::ValueDistribution {
    fn from(distribution: ValueDistribution) -> Self {
        use v1::value_distribution::{Categorical, Expectation, Kind, Quantiles};
        let kind = match distribution {
            ValueDistribution::Expectation => Kind::Expectation(Expectation {}),
            ValueDistribution::Categorical {
                num_atoms,
                v_min,
                v_max,
            } => Kind::Categorical(Categorical {
                num_atoms: num_atoms as u32,
                v_min,
                v_max,
            }),
            ValueDistribution::Quantiles { num_quantiles } => Kind::Quantiles(Quantiles {
                num_quantiles: num_quantiles as u32,
            }),
        };
        Self { kind: Some(kind) }
    }
}

impl From<v1::value_distribution::Kind> for ValueDistribution {
    fn from(kind: v1::value_distribution::Kind) -> Self {
        use v1::value_distribution::Kind;
        match kind {
            Kind::Expectation(_) => Self::Expectation,
            Kind::Categorical(categorical) => Self::Categorical {
                num_atoms: categorical.num_atoms as usize,
                v_min: categorical.v_min,
                v_max: categorical.v_max,
            },
            Kind::Quantiles(quantiles) => Self::Quantiles {
                num_quantiles: quantiles.num_quantiles as usize,
            },
        }
    }
}

impl From<Exploration> for v1::Exploration {
    fn from(exploration: Exploration) -> Self {
        use v1::exploration::{EpsilonGreedy, EpsilonSeries, GaussianNoise, Kind, OnPolicy};
        let kind = match exploration {
            Exploration::None => Kind::OnPolicy(OnPolicy {}),
            Exploration::EpsilonGreedy { per_shard } => Kind::EpsilonGreedy(EpsilonGreedy {
                per_shard: per_shard.map(|series| EpsilonSeries {
                    base: series.base,
                    alpha: series.alpha,
                    num_shards: series.num_shards,
                }),
            }),
            Exploration::GaussianNoise { std } => Kind::GaussianNoise(GaussianNoise {
                standard_deviation: std,
            }),
        };
        Self { kind: Some(kind) }
    }
}

/// Structure alone: whether the numbers are sound depends on the policy, and
/// [`Exploration::validate`] says it.
impl TryFrom<v1::Exploration> for Exploration {
    type Error = WireError;

    fn try_from(message: v1::Exploration) -> Result<Self, WireError> {
        use v1::exploration::Kind;
        let kind = message.kind.ok_or_else(|| {
            WireError::new(
                "exploration",
                "an exploration that this release knows",
                "another",
            )
        })?;
        Ok(match kind {
            Kind::OnPolicy(_) => Self::None,
            Kind::EpsilonGreedy(greedy) => Self::EpsilonGreedy {
                per_shard: greedy.per_shard.map(|series| ApeX {
                    base: series.base,
                    alpha: series.alpha,
                    num_shards: series.num_shards,
                }),
            },
            Kind::GaussianNoise(noise) => Self::GaussianNoise {
                std: noise.standard_deviation,
            },
        })
    }
}

impl From<ExplorationError> for WireError {
    fn from(error: ExplorationError) -> Self {
        Self::new(error.field, error.expected, error.got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_spec_survives_the_wire_and_an_absurd_one_does_not() {
        let spec = PolicySpec {
            encoder: Encoder::OneHot { n: 16 },
            hidden: vec![64, 32],
            activation: Activation::Relu,
            head: Head::DiagonalGaussian { dimension: 3 },
        };
        let message = v1::PolicySpec::from(&spec);
        assert_eq!(PolicySpec::try_from(message.clone()).unwrap(), spec);
        let mut absurd = message.clone();
        absurd.hidden = vec![u32::MAX; 3];
        assert_eq!(PolicySpec::try_from(absurd).unwrap_err().field, "policy");
        let mut unknown = message;
        unknown.activation = 77;
        assert_eq!(
            PolicySpec::try_from(unknown).unwrap_err().field,
            "policy.activation"
        );
    }
}
