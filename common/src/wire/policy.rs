//! What to act with, and how, as it is agreed on at Join.

use rookery_proto::v1;

use super::WireError;
use crate::policy::image::Planes;
use crate::policy::{
    Activation, ApeX, Encoder, Exploration, ExplorationError, Head, ImageEncoder, PolicySpec,
    Recurrent, RecurrentCell, Stage, ValueDistribution,
};

impl From<&PolicySpec> for v1::PolicySpec {
    fn from(spec: &PolicySpec) -> Self {
        Self {
            encoder: Some(match &spec.encoder {
                Encoder::Identity { width } => {
                    v1::policy_spec::Encoder::IdentityWidth(*width as u32)
                }
                Encoder::OneHot { n } => v1::policy_spec::Encoder::OneHot(*n as u32),
                Encoder::Image(image) => v1::policy_spec::Encoder::Image(image.into()),
            }),
            hidden: spec.hidden.iter().map(|width| *width as u32).collect(),
            activation: match spec.activation {
                Activation::Tanh => v1::Activation::Tanh,
                Activation::Relu => v1::Activation::Relu,
            }
            .into(),
            recurrent: spec.recurrent.map(Into::into),
            action_mask: spec.action_mask,
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
            v1::policy_spec::Encoder::Image(image) => Encoder::Image(image.try_into()?),
        };
        let head = message
            .head
            .ok_or_else(|| WireError::missing("policy.head"))?
            .try_into()?;
        let hidden = message.hidden.iter().map(|width| *width as usize).collect();
        let recurrent = message.recurrent.map(Recurrent::try_from).transpose()?;
        let spec = Self {
            encoder,
            hidden,
            activation,
            recurrent,
            action_mask: message.action_mask,
            head,
        };
        spec.validate()
            .map_err(|error| WireError::new("policy", "a sound network", error.to_string()))?;
        Ok(spec)
    }
}

impl From<&ImageEncoder> for v1::ImageEncoder {
    fn from(encoder: &ImageEncoder) -> Self {
        use v1::image_encoder::stage::Kind;
        use v1::image_encoder::{Convolution, Residual};
        let stage = |stage: &Stage| match *stage {
            Stage::Convolution {
                channels,
                kernel,
                stride,
            } => Kind::Convolution(Convolution {
                channels: channels as u32,
                kernel: kernel as u32,
                stride: stride as u32,
            }),
            Stage::Residual { channels } => Kind::Residual(Residual {
                channels: channels as u32,
            }),
        };
        let Planes {
            channels,
            rows,
            columns,
        } = encoder.planes;
        Self {
            channels: channels as u32,
            rows: rows as u32,
            columns: columns as u32,
            stages: encoder
                .stages
                .iter()
                .map(|of| v1::image_encoder::Stage {
                    kind: Some(stage(of)),
                })
                .collect(),
        }
    }
}

impl From<Recurrent> for v1::Recurrent {
    fn from(recurrent: Recurrent) -> Self {
        let cell = match recurrent.cell {
            RecurrentCell::Lstm => v1::RecurrentCell::Lstm,
            RecurrentCell::Gru => v1::RecurrentCell::Gru,
        };
        Self {
            cell: cell.into(),
            units: recurrent.units as u32,
        }
    }
}

/// Structure alone: [`PolicySpec::validate`] says whether the stages make a network.
impl TryFrom<v1::ImageEncoder> for ImageEncoder {
    type Error = WireError;

    fn try_from(message: v1::ImageEncoder) -> Result<Self, WireError> {
        use v1::image_encoder::stage::Kind;
        let stage = |stage: v1::image_encoder::Stage| match stage.kind {
            Some(Kind::Convolution(convolution)) => Ok(Stage::Convolution {
                channels: convolution.channels as usize,
                kernel: convolution.kernel as usize,
                stride: convolution.stride as usize,
            }),
            Some(Kind::Residual(residual)) => Ok(Stage::Residual {
                channels: residual.channels as usize,
            }),
            None => Err(WireError::new(
                "policy.image.stages",
                "stages that this release knows",
                "another",
            )),
        };
        Ok(Self {
            planes: Planes {
                channels: message.channels as usize,
                rows: message.rows as usize,
                columns: message.columns as usize,
            },
            stages: message
                .stages
                .into_iter()
                .map(stage)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<v1::Recurrent> for Recurrent {
    type Error = WireError;

    fn try_from(message: v1::Recurrent) -> Result<Self, WireError> {
        let cell = match message.cell() {
            v1::RecurrentCell::Lstm => RecurrentCell::Lstm,
            v1::RecurrentCell::Gru => RecurrentCell::Gru,
            v1::RecurrentCell::Unspecified => {
                return Err(WireError::new(
                    "policy.recurrent.cell",
                    "a cell that this release knows",
                    message.cell.to_string(),
                ));
            }
        };
        Ok(Self {
            cell,
            units: message.units as usize,
        })
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
            Head::MultiCategorical { num_actions } => {
                Self::MultiCategorical(v1::MultiDiscreteSpace {
                    nvec: num_actions.iter().map(|n| *n as u32).collect(),
                })
            }
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
            Message::MultiCategorical(v1::MultiDiscreteSpace { nvec }) => Self::MultiCategorical {
                num_actions: nvec.into_iter().map(|n| n as usize).collect(),
            },
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
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn distributions() -> impl Strategy<Value = ValueDistribution> {
        prop_oneof![
            Just(ValueDistribution::Expectation),
            (2_usize..100, -100.0_f32..0.0, 0.5_f32..100.0).prop_map(
                |(num_atoms, v_min, v_max)| {
                    ValueDistribution::Categorical {
                        num_atoms,
                        v_min,
                        v_max,
                    }
                }
            ),
            (1_usize..300).prop_map(|num_quantiles| ValueDistribution::Quantiles { num_quantiles }),
        ]
    }

    fn heads() -> impl Strategy<Value = Head> {
        let bounds = || {
            prop::collection::vec((-9.0_f32..0.0, 0.5_f32..9.0), 1..5)
                .prop_map(|bounds| bounds.into_iter().unzip())
        };
        prop_oneof![
            (1_usize..50).prop_map(|num_actions| Head::Categorical { num_actions }),
            (1_usize..50).prop_map(|dimension| Head::DiagonalGaussian { dimension }),
            (1_usize..50, any::<bool>(), distributions(), any::<bool>()).prop_map(
                |(num_actions, dueling, distribution, noisy)| Head::ActionValues {
                    num_actions,
                    dueling,
                    distribution,
                    noisy,
                }
            ),
            bounds().prop_map(|(low, high)| Head::SquashedGaussian { low, high }),
            bounds().prop_map(|(low, high)| Head::Deterministic { low, high }),
            prop::collection::vec(1_usize..9, 1..5)
                .prop_map(|num_actions| Head::MultiCategorical { num_actions }),
        ]
    }

    fn encoders() -> impl Strategy<Value = Encoder> {
        let stage = prop_oneof![
            (1_usize..40, 1_usize..4, 1_usize..3).prop_map(|(channels, kernel, stride)| {
                Stage::Convolution {
                    channels,
                    kernel,
                    stride,
                }
            }),
            (1_usize..40).prop_map(|channels| Stage::Residual { channels }),
        ];
        let planes = (1_usize..5, 12_usize..40, 12_usize..40);
        // Two kernels of three at a stride of two still fit on twelve rows.
        let image = (planes, prop::collection::vec(stage, 1..3)).prop_map(|(planes, stages)| {
            let (channels, rows, columns) = planes;
            Encoder::Image(ImageEncoder {
                planes: Planes {
                    channels,
                    rows,
                    columns,
                },
                stages,
            })
        });
        prop_oneof![
            (1_usize..50).prop_map(|width| Encoder::Identity { width }),
            (1_usize..50).prop_map(|n| Encoder::OneHot { n }),
            image,
        ]
    }

    fn recurrent_layers() -> impl Strategy<Value = Recurrent> {
        let cells = prop_oneof![Just(RecurrentCell::Lstm), Just(RecurrentCell::Gru)];
        (cells, 1_usize..300).prop_map(|(cell, units)| Recurrent { cell, units })
    }

    fn explorations() -> impl Strategy<Value = Exploration> {
        let series =
            (0.01_f64..1.0, 0.0_f64..10.0, 1_u32..500).prop_map(|(base, alpha, num_shards)| ApeX {
                base,
                alpha,
                num_shards,
            });
        prop_oneof![
            Just(Exploration::None),
            prop::option::of(series).prop_map(|per_shard| Exploration::EpsilonGreedy { per_shard }),
            (0.01_f64..2.0).prop_map(|std| Exploration::GaussianNoise { std }),
        ]
    }

    proptest! {
        #[test]
        fn every_policy_spec_survives_the_wire(
            head in heads(),
            hidden in prop::collection::vec(1_usize..300, 0..4),
            encoder in encoders(),
            recurrent in prop::option::of(recurrent_layers()),
        ) {
            // The other heads have no recurrent layer.
            let recurrent = recurrent.filter(|_| head.is_likelihood());
            let spec = PolicySpec {
                encoder,
                hidden,
                activation: Activation::Relu,
                recurrent,
                action_mask: false,
                head,
            };
            let bytes = v1::PolicySpec::from(&spec).encode_to_vec();
            let message = v1::PolicySpec::decode(&bytes[..]).unwrap();
            prop_assert_eq!(PolicySpec::try_from(message).unwrap(), spec);
        }

        #[test]
        fn every_exploration_survives_the_wire(exploration in explorations()) {
            let bytes = v1::Exploration::from(exploration).encode_to_vec();
            let message = v1::Exploration::decode(&bytes[..]).unwrap();
            prop_assert_eq!(Exploration::try_from(message).unwrap(), exploration);
        }

        #[test]
        fn no_bytes_make_an_unsound_policy(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(message) = v1::PolicySpec::decode(&bytes[..])
                && let Ok(spec) = PolicySpec::try_from(message)
            {
                prop_assert_eq!(spec.validate(), Ok(()));
            }
        }
    }

    #[test]
    fn what_this_release_does_not_know_is_refused() {
        assert_eq!(
            Exploration::try_from(v1::Exploration { kind: None })
                .unwrap_err()
                .field,
            "exploration"
        );
        let values = v1::ActionValues {
            num_actions: 2,
            dueling: false,
            distribution: Some(v1::ValueDistribution { kind: None }),
            noisy: false,
        };
        let head = v1::policy_spec::Head::ActionValues(values);
        assert_eq!(
            Head::try_from(head).unwrap_err().field,
            "policy.action_values.distribution"
        );
    }

    #[test]
    fn an_absurd_policy_spec_does_not_survive_the_wire() {
        let spec = PolicySpec {
            action_mask: false,
            encoder: Encoder::OneHot { n: 16 },
            hidden: vec![64, 32],
            activation: Activation::Relu,
            recurrent: Some(Recurrent {
                cell: RecurrentCell::Gru,
                units: 5,
            }),
            head: Head::DiagonalGaussian { dimension: 3 },
        };
        let message = v1::PolicySpec::from(&spec);
        assert_eq!(PolicySpec::try_from(message.clone()).unwrap(), spec);
        let mut absurd = message.clone();
        absurd.hidden = vec![u32::MAX; 3];
        assert_eq!(PolicySpec::try_from(absurd).unwrap_err().field, "policy");
        let mut unbounded = message.clone();
        unbounded.head = Some(v1::policy_spec::Head::Deterministic(v1::Bounds {
            low: vec![0.0],
            high: vec![f32::INFINITY],
        }));
        assert_eq!(PolicySpec::try_from(unbounded).unwrap_err().field, "policy");
        let image = |rows: u32, kind| v1::PolicySpec {
            encoder: Some(v1::policy_spec::Encoder::Image(v1::ImageEncoder {
                channels: 1,
                rows,
                columns: rows,
                stages: vec![v1::image_encoder::Stage { kind }; 2],
            })),
            ..message.clone()
        };
        let residual = |channels| {
            let residual = v1::image_encoder::Residual { channels };
            Some(v1::image_encoder::stage::Kind::Residual(residual))
        };
        assert!(PolicySpec::try_from(image(8, residual(4))).is_ok());
        for absurd in [image(u32::MAX, residual(1)), image(8, residual(u32::MAX))] {
            assert_eq!(PolicySpec::try_from(absurd).unwrap_err().field, "policy");
        }
        assert_eq!(
            PolicySpec::try_from(image(8, None)).unwrap_err().field,
            "policy.image.stages"
        );
        let mut wide = message.clone();
        wide.recurrent.as_mut().unwrap().units = u32::MAX;
        assert_eq!(PolicySpec::try_from(wide).unwrap_err().field, "policy");
        let mut unknown = message.clone();
        unknown.recurrent.as_mut().unwrap().cell = 77;
        assert_eq!(
            PolicySpec::try_from(unknown).unwrap_err().field,
            "policy.recurrent.cell"
        );
        let mut unknown = message;
        unknown.activation = 77;
        assert_eq!(
            PolicySpec::try_from(unknown).unwrap_err().field,
            "policy.activation"
        );
    }
}
