//! Encoders of images: convolutions that turn planes of an observation into the features that the
//! fully connected layers see.

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::spec::{SpecError, check_width};
use crate::spaces::Space;

/// Most stages of an encoder.
pub const MAX_STAGES: usize = 16;

/// Most multiply-adds that an encoder may take for one observation: a thousand times those of the
/// largest network here. A few parameters are enough for any number of them.
pub const MAX_MULTIPLY_ADDS: u128 = 1 << 36;

/// Extents of an image, or of what a layer makes of it: `[channels, rows, columns]`, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planes {
    /// Number of planes.
    pub channels: usize,
    /// Rows of a plane.
    pub rows: usize,
    /// Columns of a plane.
    pub columns: usize,
}

impl Planes {
    /// Number of values.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.channels
            .saturating_mul(self.rows)
            .saturating_mul(self.columns)
    }

    /// Positions of a plane.
    #[must_use]
    pub const fn positions(&self) -> usize {
        self.rows.saturating_mul(self.columns)
    }
}

/// One stage of an [`ImageEncoder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Stage {
    /// A convolution without padding, rectified.
    Convolution {
        /// Planes that it makes.
        channels: usize,
        /// Rows and columns of its kernel.
        kernel: usize,
        /// Rows and columns between two of its positions.
        stride: usize,
    },
    /// A 3x3 convolution, the maximum of every 3x3 neighbourhood at a stride of 2, and two residual
    /// blocks, each of which adds `convolution(rectified(convolution(rectified(x))))` to its input
    /// `x`. Everything is padded by one position, convolutions with zeros (Espeholt et al. 2018,
    /// "IMPALA: Scalable distributed deep-RL with importance weighted actor-learner architectures",
    /// figure 3, right).
    Residual {
        /// Planes that it makes.
        channels: usize,
    },
}

/// Convolutions in front of the fully connected layers. What the last stage gives is rectified and
/// flattened in the order `[channels, rows, columns]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageEncoder {
    /// Extents of the observation.
    pub planes: Planes,
    /// From the observation on.
    pub stages: Vec<Stage>,
}

/// Why an [`ImageEncoder`] cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The observation is no image.
    #[error(
        "an encoder of images needs observations of planes [channels, rows, columns] with values \
         from 0 to 1, the environment's are {got}: set policy.encoder = \"mlp\""
    )]
    Space {
        /// The observation space.
        got: String,
    },
    /// There are no stages, or more than [`MAX_STAGES`].
    #[error("encoder.image has {got} stages, expected 1 to {}", MAX_STAGES)]
    Stages {
        /// Number of stages.
        got: usize,
    },
    /// A kernel is larger than what it goes over.
    #[error(
        "encoder.image has a kernel of {kernel}x{kernel} for planes of {rows}x{columns}: choose \
         smaller kernels, such as policy.encoder = \"minatar_cnn\", or \"mlp\""
    )]
    Kernel {
        /// Rows and columns of the kernel.
        kernel: usize,
        /// Rows that are left for it.
        rows: usize,
        /// Columns that are left for it.
        columns: usize,
    },
    /// Convolutions take more than [`MAX_MULTIPLY_ADDS`].
    #[error(
        "encoder.image takes {got} multiply-adds for an observation, expected at most {}: choose \
         fewer channels or longer strides",
        MAX_MULTIPLY_ADDS
    )]
    Work {
        /// Multiply-adds for an observation.
        got: u128,
    },
}

/// Which encoder a policy has, by its name in a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderKind {
    /// None: fully connected layers see the flattened observation.
    #[default]
    Mlp,
    /// Three convolutions: 32 of 8x8 at stride 4, 64 of 4x4 at stride 2, 64 of 3x3 (Mnih et al. 2015,
    /// "Human-level control through deep reinforcement learning", methods; a hidden layer of 512
    /// follows there).
    NatureCnn,
    /// Three residual stages of 16, 32 and 32 planes (Espeholt et al. 2018, figure 3, right; a hidden
    /// layer of 256 follows there).
    ImpalaCnn,
    /// One convolution of 16 planes, 3x3 (Young and Tian 2019, "`MinAtar`: An Atari-inspired testbed for
    /// thorough and reproducible reinforcement learning experiments", section 4; a hidden layer of
    /// 128 follows there).
    MinatarCnn,
}

impl EncoderKind {
    /// Its name in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mlp => "mlp",
            Self::NatureCnn => "nature_cnn",
            Self::ImpalaCnn => "impala_cnn",
            Self::MinatarCnn => "minatar_cnn",
        }
    }

    /// Its stages with `multiplier` times the planes of the paper; none of a multilayer perceptron.
    #[must_use]
    pub fn stages(self, multiplier: usize) -> Vec<Stage> {
        let convolution = |channels: usize, kernel, stride| Stage::Convolution {
            channels: channels.saturating_mul(multiplier),
            kernel,
            stride,
        };
        let residual = |channels: usize| Stage::Residual {
            channels: channels.saturating_mul(multiplier),
        };
        match self {
            Self::Mlp => Vec::new(),
            Self::NatureCnn => vec![
                convolution(32, 8, 4),
                convolution(64, 4, 2),
                convolution(64, 3, 1),
            ],
            Self::ImpalaCnn => vec![residual(16), residual(32), residual(32)],
            Self::MinatarCnn => vec![convolution(16, 3, 1)],
        }
    }
}

/// How a square kernel goes over planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// What it sees.
    pub input: Planes,
    /// What it makes.
    pub output: Planes,
    /// Rows and columns of the kernel.
    pub kernel: usize,
    /// Rows and columns between two positions of the kernel.
    pub stride: usize,
    /// Rows and columns that are added on every side.
    pub padding: usize,
}

impl Window {
    fn new(input: Planes, channels: usize, kernel: usize, stride: usize, padding: usize) -> Self {
        let positions = |extent: usize| {
            (extent.saturating_add(2 * padding)).saturating_sub(kernel) / stride.max(1) + 1
        };
        let output = Planes {
            channels,
            rows: positions(input.rows),
            columns: positions(input.columns),
        };
        Self {
            input,
            output,
            kernel,
            stride,
            padding,
        }
    }

    /// Values under the kernel of a convolution: `[channels, kernel, kernel]`.
    #[must_use]
    pub const fn patch(&self) -> usize {
        self.input
            .channels
            .saturating_mul(self.kernel)
            .saturating_mul(self.kernel)
    }
}

/// One step of an encoder's forward pass. Whoever computes one goes through
/// [`ImageEncoder::operations`] in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A convolution with the next weight `[output channels, input channels, kernel, kernel]` and bias
    /// of the layout, padded with zeros.
    Convolution(Window),
    /// The largest value under the kernel, plane by plane; padding never is.
    MaxPool(Window),
    /// The larger of each value and zero.
    Rectify,
    /// Keeps a copy of the values.
    Branch,
    /// Adds the copy.
    Join,
}

/// Extents of what can be looked at as an image: stacks of frames, and boxes of planes.
fn extents(space: &Space) -> Option<[usize; 3]> {
    match space {
        Space::Box { shape, .. } => shape[..].try_into().ok(),
        Space::Frames { .. } => space.image(),
        Space::Discrete { .. } | Space::MultiDiscrete { .. } => None,
    }
}

impl ImageEncoder {
    /// The encoder of these stages for observations of `space`.
    ///
    /// # Errors
    /// [`ImageError::Space`] where they are no planes of values from 0 to 1, and as
    /// [`ImageEncoder::validate`].
    pub fn new(space: &Space, stages: Vec<Stage>) -> Result<Self, SpecError> {
        let refused = |got: String| SpecError::Image(ImageError::Space { got });
        let Some([channels, rows, columns]) = extents(space) else {
            return Err(refused(space.to_string()));
        };
        if let Space::Box { low, high, .. } = space
            && let Some(bound) = low.iter().chain(high).find(|x| !(0.0..=1.0).contains(*x))
        {
            return Err(refused(format!("{space} with a bound of {bound}")));
        }
        let encoder = Self {
            planes: Planes {
                channels,
                rows,
                columns,
            },
            stages,
        };
        encoder.validate()?;
        Ok(encoder)
    }

    /// Whether these are the observations that it sees.
    pub(super) fn fits(&self, observation: &Space) -> bool {
        let Planes {
            channels,
            rows,
            columns,
        } = self.planes;
        extents(observation) == Some([channels, rows, columns])
    }

    /// Checks that the stages make a network and that neither its memory nor its work is absurd.
    ///
    /// # Errors
    /// The first violation, from the observation on.
    pub fn validate(&self) -> Result<(), SpecError> {
        check_width("encoder.image.planes", self.planes.width())?;
        if !(1..=MAX_STAGES).contains(&self.stages.len()) {
            let got = self.stages.len();
            return Err(ImageError::Stages { got }.into());
        }
        for (index, stage) in self.stages.iter().enumerate() {
            let field = |name| format!("encoder.image.stages[{index}].{name}");
            match *stage {
                Stage::Convolution {
                    channels,
                    kernel,
                    stride,
                } => {
                    check_width(field("convolution.channels"), channels)?;
                    check_width(field("convolution.kernel"), kernel)?;
                    check_width(field("convolution.stride"), stride)?;
                }
                Stage::Residual { channels } => {
                    check_width(field("residual.channels"), channels)?;
                }
            }
        }
        let mut work = 0;
        for operation in self.operations() {
            let (Operation::Convolution(window) | Operation::MaxPool(window)) = operation else {
                continue;
            };
            let Planes { rows, columns, .. } = window.input;
            if window.kernel > rows.min(columns) + 2 * window.padding {
                let kernel = window.kernel;
                return Err(ImageError::Kernel {
                    kernel,
                    rows,
                    columns,
                }
                .into());
            }
            check_width(
                "the output of a stage of encoder.image",
                window.output.width(),
            )?;
            if matches!(operation, Operation::Convolution(_)) {
                check_width("the kernel of a stage of encoder.image", window.patch())?;
                work += window.output.width() as u128 * window.patch() as u128;
            }
        }
        if work > MAX_MULTIPLY_ADDS {
            return Err(ImageError::Work { got: work }.into());
        }
        Ok(())
    }

    /// The forward pass, step by step.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        let mut operations = Vec::new();
        let mut planes = self.planes;
        for stage in &self.stages {
            match *stage {
                Stage::Convolution {
                    channels,
                    kernel,
                    stride,
                } => {
                    let window = Window::new(planes, channels, kernel, stride, 0);
                    operations.extend([Operation::Convolution(window), Operation::Rectify]);
                    planes = window.output;
                }
                Stage::Residual { channels } => {
                    let first = Window::new(planes, channels, 3, 1, 1);
                    let pool = Window::new(first.output, channels, 3, 2, 1);
                    planes = pool.output;
                    let inner = Operation::Convolution(Window::new(planes, channels, 3, 1, 1));
                    operations.extend([Operation::Convolution(first), Operation::MaxPool(pool)]);
                    for _ in 0..2 {
                        operations.push(Operation::Branch);
                        operations.extend([Operation::Rectify, inner, Operation::Rectify, inner]);
                        operations.push(Operation::Join);
                    }
                }
            }
        }
        if operations.last() != Some(&Operation::Rectify) {
            operations.push(Operation::Rectify);
        }
        operations
    }

    /// The convolutions among the operations.
    pub fn convolutions(&self) -> impl Iterator<Item = Window> {
        self.operations()
            .into_iter()
            .filter_map(|operation| match operation {
                Operation::Convolution(window) => Some(window),
                _ => None,
            })
    }

    /// Extents of the features.
    #[must_use]
    pub fn features(&self) -> Planes {
        self.operations()
            .iter()
            .rev()
            .find_map(|operation| match operation {
                Operation::Convolution(window) | Operation::MaxPool(window) => Some(window.output),
                _ => None,
            })
            .unwrap_or(self.planes)
    }

    /// Number of parameters.
    pub(super) fn num_parameters(&self) -> u128 {
        self.convolutions()
            .map(|window| (window.patch() as u128 + 1) * window.output.channels as u128)
            .sum()
    }

    /// Lays weight and bias of every convolution behind what `layout` holds: `prefix.0.weight`
    /// `[output channels, input channels, kernel, kernel]`, `prefix.0.bias`, ...
    pub fn push(&self, layout: &mut Layout, prefix: &str) {
        for (index, window) in self.convolutions().enumerate() {
            let (outputs, kernel) = (window.output.channels, window.kernel);
            layout.push(
                format!("{prefix}.{index}.weight"),
                &[outputs, window.input.channels, kernel, kernel],
            );
            layout.push(format!("{prefix}.{index}.bias"), &[outputs]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(kind: EncoderKind, space: &Space) -> Result<ImageEncoder, SpecError> {
        ImageEncoder::new(space, kind.stages(1))
    }

    #[test]
    fn the_networks_of_the_papers_have_their_sizes() {
        let atari = Space::planes(4, 84, 84);
        let nature = encoder(EncoderKind::NatureCnn, &atari).unwrap();
        let shapes: Vec<_> = nature.convolutions().map(|window| window.output).collect();
        let of = |channels, rows| Planes {
            channels,
            rows,
            columns: rows,
        };
        assert_eq!(shapes, [of(32, 20), of(64, 9), of(64, 7)]);
        assert_eq!(nature.features().width(), 3136);
        // 8224 + 32832 + 36928.
        assert_eq!(nature.num_parameters(), 77_984);

        let impala = encoder(EncoderKind::ImpalaCnn, &atari).unwrap();
        assert_eq!(impala.features(), of(32, 11));
        assert_eq!(impala.convolutions().count(), 15);
        let minatar = encoder(EncoderKind::MinatarCnn, &Space::planes(4, 10, 10)).unwrap();
        assert_eq!(minatar.features(), of(16, 8));

        let mut layout = Layout::new();
        nature.push(&mut layout, "policy.encoder");
        assert_eq!(layout.len() as u128, nature.num_parameters());
        assert_eq!(layout.tensors()[2].name(), "policy.encoder.1.weight");
        assert_eq!(layout.tensors()[2].shape(), [64, 32, 4, 4]);
    }

    #[test]
    fn a_multiplier_widens_every_stage() {
        let wide = EncoderKind::ImpalaCnn.stages(4);
        assert_eq!(wide[0], Stage::Residual { channels: 64 });
        assert_eq!(wide[2], Stage::Residual { channels: 128 });
    }

    #[test]
    fn observations_that_are_no_planes_are_refused_with_the_remedy() {
        let bytes = Space::Box {
            shape: vec![1, 10, 10],
            low: vec![0.0; 100],
            high: vec![255.0; 100],
        };
        for (space, got) in [
            (Space::bounded(&[0.0; 4], &[1.0; 4]), "are Box[4]"),
            (Space::Discrete { n: 3 }, "are Discrete(3)"),
            (bytes, "are Box[1, 10, 10] with a bound of 255"),
        ] {
            let message = encoder(EncoderKind::MinatarCnn, &space)
                .unwrap_err()
                .to_string();
            assert!(message.contains(got), "{message}");
            assert!(message.contains("policy.encoder = \"mlp\""), "{message}");
        }
    }

    #[test]
    fn images_too_small_for_a_kernel_are_refused_with_the_remedy() {
        let board = Space::planes(1, 10, 5);
        let error = encoder(EncoderKind::NatureCnn, &board).unwrap_err();
        let expected = ImageError::Kernel {
            kernel: 8,
            rows: 10,
            columns: 5,
        };
        assert_eq!(error, expected.into());
        assert!(error.to_string().contains("minatar_cnn"), "{error}");
        // The second convolution sees what the first has left.
        let error = encoder(EncoderKind::NatureCnn, &Space::planes(1, 16, 16)).unwrap_err();
        assert!(
            matches!(
                error,
                SpecError::Image(ImageError::Kernel {
                    kernel: 4,
                    rows: 3,
                    ..
                })
            ),
            "{error}"
        );
        // Padding lets a residual stage see a single position.
        assert!(encoder(EncoderKind::ImpalaCnn, &Space::planes(1, 1, 1)).is_ok());
    }

    #[test]
    fn absurd_encoders_are_refused_before_anything_is_claimed() {
        let with = |planes: Planes, stages: Vec<Stage>| ImageEncoder { planes, stages }.validate();
        let convolution = |channels, kernel, stride| Stage::Convolution {
            channels,
            kernel,
            stride,
        };
        let square = |channels, rows| Planes {
            channels,
            rows,
            columns: rows,
        };
        let small = square(1, 8);
        for stages in [vec![], vec![Stage::Residual { channels: 1 }; 17]] {
            let got = stages.len();
            assert_eq!(with(small, stages), Err(ImageError::Stages { got }.into()));
        }
        for (planes, stage, field) in [
            (square(0, 8), convolution(1, 1, 1), "planes"),
            (square(1, usize::MAX), convolution(1, 1, 1), "planes"),
            (
                small,
                convolution(0, 1, 1),
                "stages[0].convolution.channels",
            ),
            (small, convolution(1, 0, 1), "stages[0].convolution.kernel"),
            (small, convolution(1, 1, 0), "stages[0].convolution.stride"),
            (small, Stage::Residual { channels: 0 }, "stages[0].residual"),
            (
                small,
                Stage::Residual {
                    channels: usize::MAX,
                },
                "stages[0]",
            ),
            (square(1, 4096), convolution(2, 1, 1), "the output"),
            (
                square(1 << 21, 2),
                Stage::Residual { channels: 1 },
                "the kernel",
            ),
        ] {
            let refused = with(planes, vec![stage]);
            assert!(
                matches!(&refused, Err(SpecError::Width { field: got, .. }) if got.contains(field)),
                "{refused:?} {field}"
            );
        }
        let widest = with(square(1 << 20, 4), vec![convolution(1, 4, 4)]);
        assert_eq!(widest, Ok(()));
        let heavy = vec![Stage::Residual { channels: 1024 }; 2];
        assert!(matches!(
            with(square(1, 128), heavy),
            Err(SpecError::Image(ImageError::Work { .. }))
        ));
    }
}
