//! The convolutions in front of the fully connected layers. Plain ones have kernels of their own on a
//! processor; elsewhere, and where there are residual blocks, they are libtorch's with autograd's gradient,
//! whatever the layers behind them do: see `docs/decisions/0018-image-encoders.md`.

mod host;

use rookery_common::policy::Encoder;
use rookery_common::policy::image::{ImageEncoder, Operation, Window};
use rookery_common::policy::layout::Layout;
use tch::{Device, Kind, Tensor};

use self::host::{HostConvolutions, HostTape};
use super::flat::Flat;
use crate::tensors::{host, host_mut};

/// Values of the largest intermediate result of a pass without gradient, about: 64 MiB.
const MAX_VALUES: usize = 1 << 24;

/// What is between the encoded observations and the first fully connected layer: convolutions, or nothing.
#[derive(Clone, Debug)]
pub struct Encoding(Option<Convolutions>);

/// What a forward pass leaves for its backward pass.
#[derive(Debug)]
pub struct EncodingTape {
    /// What came out, `[N, inputs of the first layer]`, without a graph.
    output: Tensor,
    pass: Pass,
}

/// How the output came about.
#[derive(Debug)]
enum Pass {
    /// There are no convolutions.
    None,
    /// By the processor's own kernels from these images.
    Host { images: Tensor, tape: HostTape },
    /// By libtorch: the parameters, and the output with the graph that leads to it.
    Graph { leaf: Tensor, features: Tensor },
}

impl EncodingTape {
    /// What came out.
    pub fn output(&self) -> &Tensor {
        &self.output
    }
}

impl Encoding {
    /// That of `encoder`, whose first weight, where it has any, is tensor `first` of `layout`.
    #[must_use]
    pub fn existing(encoder: &Encoder, layout: &Layout, first: usize) -> Self {
        Self(match encoder {
            Encoder::Image(encoder) => Some(Convolutions::existing(encoder, layout, first)),
            Encoder::Identity { .. } | Encoder::OneHot { .. } => None,
        })
    }

    /// Number of its tensors.
    #[must_use]
    pub fn num_tensors(&self) -> usize {
        self.0.as_ref().map_or(0, |images| images.shapes.len())
    }

    /// Whether there is anything to learn in it, for which a gradient has to arrive.
    #[must_use]
    pub fn has_parameters(&self) -> bool {
        self.0.is_some()
    }

    /// Rows that can go through at once without claiming much memory.
    #[must_use]
    pub fn rows_at_once(&self) -> i64 {
        self.0.as_ref().map_or(i64::MAX, Convolutions::rows_at_once)
    }

    /// What the first layer sees of encoded rows.
    ///
    /// # Shapes
    /// `inputs` is `[N, inputs]`; the result `[N, inputs of the first layer]`.
    pub fn forward(&self, parameters: &Flat, inputs: &Tensor) -> Tensor {
        let Some(images) = &self.0 else {
            return inputs.shallow_clone();
        };
        let part = images.part(parameters);
        if let Some((features, _)) = images.on_host(&part, inputs, false) {
            return features;
        }
        let tensors = images.cut(&part);
        let chunks: Vec<Tensor> = inputs
            .split(images.rows_at_once(), 0)
            .iter()
            .map(|rows| images.forward(&tensors, rows))
            .collect();
        Tensor::cat(&chunks, 0)
    }

    /// As [`Encoding::forward`], and keeps what [`Encoding::backward`] needs.
    #[must_use]
    pub fn forward_taped(&self, parameters: &Flat, inputs: &Tensor) -> EncodingTape {
        let Some(images) = &self.0 else {
            return EncodingTape {
                output: inputs.shallow_clone(),
                pass: Pass::None,
            };
        };
        let part = images.part(parameters);
        if let Some((output, Some(tape))) = images.on_host(&part, inputs, true) {
            let images = inputs.shallow_clone();
            let pass = Pass::Host { images, tape };
            return EncodingTape { output, pass };
        }
        let leaf = part.detach().set_requires_grad(true);
        let features = images.forward(&images.cut(&leaf), inputs);
        EncodingTape {
            output: features.detach(),
            pass: Pass::Graph { leaf, features },
        }
    }

    /// Writes the gradient of every weight and bias to its place in `gradient`, given that of the
    /// output, which is wanted where the encoding [has parameters](Encoding::has_parameters). The
    /// `parameters` are those of the forward pass.
    pub fn backward(
        &self,
        parameters: &Flat,
        tape: &EncodingTape,
        by_output: Option<Tensor>,
        gradient: &Flat,
    ) {
        let (Some(convolutions), Some(by_output)) = (&self.0, by_output) else {
            return;
        };
        let mut part = convolutions.part(gradient);
        match &tape.pass {
            Pass::None => {}
            Pass::Graph { leaf, features } => {
                let inner = (features * by_output).sum(Kind::Float);
                let by_leaf = Tensor::run_backward(&[inner], &[leaf], false, false).swap_remove(0);
                part.copy_(&by_leaf);
            }
            Pass::Host { images, tape } => {
                let parameters = convolutions.part(parameters);
                let by_output = by_output.contiguous();
                let slices = [&parameters, images, &by_output].map(host);
                let ([Some(parameters), Some(images), Some(by_output)], Some(by_hand)) =
                    (slices, &convolutions.by_hand)
                else {
                    unreachable!("the forward pass read the same from this processor's memory");
                };
                let Some(gradient) = host_mut(&mut part) else {
                    unreachable!("a gradient lies where its parameters do");
                };
                by_hand.backward(parameters, images, tape, by_output, gradient);
            }
        }
    }
}

/// The convolutions of an [`ImageEncoder`], whose weights and biases are consecutive tensors of a layout.
#[derive(Clone, Debug)]
struct Convolutions {
    encoder: ImageEncoder,
    /// Where the first weight begins in the flat parameters.
    offset: i64,
    /// The shape of every weight and bias.
    shapes: Vec<Vec<i64>>,
    /// What computes them on a processor, where it can.
    by_hand: Option<HostConvolutions>,
}

impl Convolutions {
    fn existing(encoder: &ImageEncoder, layout: &Layout, first: usize) -> Self {
        let count = 2 * encoder.convolutions().count();
        let slots = &layout.tensors()[first..first + count];
        let shape = |shape: &[usize]| shape.iter().map(|extent| *extent as i64).collect();
        Self {
            encoder: encoder.clone(),
            offset: slots[0].offset() as i64,
            shapes: slots.iter().map(|slot| shape(slot.shape())).collect(),
            by_hand: HostConvolutions::new(encoder),
        }
    }

    /// What comes out for `images`, by the processor's own kernels; none where they cannot compute it.
    fn on_host(
        &self,
        parameters: &Tensor,
        images: &Tensor,
        wants_tape: bool,
    ) -> Option<(Tensor, Option<HostTape>)> {
        let by_hand = self.by_hand.as_ref()?;
        let shape = [images.size()[0], self.encoder.features().width() as i64];
        let mut features = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let (parameters, images) = (host(parameters)?, host(images)?);
        let tape = by_hand.forward(parameters, images, host_mut(&mut features)?, wants_tape);
        Some((features, tape))
    }

    fn rows_at_once(&self) -> i64 {
        let largest = self
            .encoder
            .convolutions()
            .map(|window| window.output.width())
            .max();
        (MAX_VALUES / largest.unwrap_or(1)).max(1) as i64
    }

    /// What comes out for `images`, with the graph that leads to `tensors` where they want one.
    ///
    /// # Shapes
    /// `tensors` are weights `[outputs, inputs, kernel, kernel]` and biases `[outputs]` in turn;
    /// `images` is `[N, channels * rows * columns]`; the result `[N, features]`.
    fn forward(&self, tensors: &[Tensor], images: &Tensor) -> Tensor {
        let mut layers = tensors.chunks_exact(2);
        let mut branch = None;
        let planes = self.encoder.planes;
        let shape = [planes.channels, planes.rows, planes.columns].map(|extent| extent as i64);
        let mut value = images.view([-1, shape[0], shape[1], shape[2]]);
        for operation in self.encoder.operations() {
            value = match operation {
                Operation::Convolution(window) => {
                    let Some([weight, bias]) = layers.next() else {
                        unreachable!("`existing` has counted them");
                    };
                    let [stride, padding] = steps(&window);
                    value.conv2d(weight, Some(bias), [stride; 2], [padding; 2], [1, 1], 1)
                }
                Operation::MaxPool(window) => {
                    let [stride, padding] = steps(&window);
                    let kernel = [window.kernel as i64; 2];
                    value.max_pool2d(kernel, [stride; 2], [padding; 2], [1, 1], false)
                }
                Operation::Rectify => value.relu(),
                Operation::Branch => {
                    branch = Some(value.shallow_clone());
                    value
                }
                Operation::Join => match branch.take() {
                    Some(branch) => value + branch,
                    None => unreachable!("a join follows its branch"),
                },
            };
        }
        value.flatten(1, -1)
    }

    /// The part of a flat vector that is the convolutions'.
    fn part(&self, flat: &Flat) -> Tensor {
        let len = self
            .shapes
            .iter()
            .map(|shape| shape.iter().product::<i64>());
        flat.values().narrow(0, self.offset, len.sum())
    }

    /// Weights and biases as views of their part of a flat vector.
    fn cut(&self, part: &Tensor) -> Vec<Tensor> {
        let sizes: Vec<i64> = self
            .shapes
            .iter()
            .map(|shape| shape.iter().product())
            .collect();
        part.split_with_sizes(&sizes, 0)
            .iter()
            .zip(&self.shapes)
            .map(|(tensor, shape)| tensor.view(shape.as_slice()))
            .collect()
    }
}

/// Stride and padding.
fn steps(window: &Window) -> [i64; 2] {
    [window.stride, window.padding].map(|extent| extent as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::Dense;
    use crate::networks::init::{HIDDEN_GAIN, orthogonal_layout};
    use crate::tensors::to_host;
    use rookery_common::policy::forward::{Network, Scratch};
    use rookery_common::policy::{Activation, EncoderKind, PolicySpec, Stage};
    use rookery_common::seeds::{Purpose, Random};
    use rookery_common::spaces::Space;

    fn draws(count: usize, low: f64, position: u64) -> Vec<f32> {
        let mut random = Random::derive(5, Purpose::Initialisation, 9, position);
        (0..count)
            .map(|_| random.uniform(low, 1.0) as f32)
            .collect()
    }

    fn spec(stages: Vec<Stage>, shape: [usize; 3], hidden: usize) -> PolicySpec {
        let image = Space::planes(shape[0], shape[1], shape[2]);
        let actions = Space::Discrete { n: 6 };
        PolicySpec::new(&image, &actions, vec![hidden], Activation::Relu)
            .unwrap()
            .with_image_encoder(&image, stages)
            .unwrap()
    }

    /// Orthogonal weights, and biases that are not all zero.
    fn initial(layout: &Layout, position: u64) -> Vec<f32> {
        let mut host = orthogonal_layout(layout, |_| HIDDEN_GAIN, position, 0);
        let slots = layout.tensors().iter();
        for slot in slots.filter(|slot| slot.shape().len() == 1) {
            let biases = draws(slot.range().len(), -0.5, position);
            host[slot.range()].copy_from_slice(&biases);
        }
        host
    }

    fn encoding(spec: &PolicySpec) -> Encoding {
        Encoding::existing(&spec.encoder, &spec.layout(), 0)
    }

    #[test]
    fn the_actors_forward_pass_is_libtorchs_within_a_hundred_thousandth() {
        for (kind, shape, hidden) in [
            (EncoderKind::NatureCnn, [4, 84, 84], 512),
            (EncoderKind::ImpalaCnn, [4, 84, 84], 256),
            (EncoderKind::ImpalaCnn, [3, 11, 7], 19),
            (EncoderKind::MinatarCnn, [4, 10, 10], 128),
            (EncoderKind::MinatarCnn, [1, 10, 5], 33),
            (EncoderKind::NatureCnn, [2, 41, 36], 20),
        ] {
            let spec = spec(kind.stages(1), shape, hidden);
            let layout = spec.layout();
            let host = initial(&layout, 1);
            let rows = 3;
            let images = draws(rows * spec.observation_width(), 0.0, 2);
            let mut got = vec![0.0; rows * spec.head_width()];
            Network::new(&spec, &host)
                .unwrap()
                .forward(&mut Scratch::default(), &images, &mut got);

            let parameters = Flat::from_host(&layout, &host, Device::Cpu).unwrap();
            let images = Tensor::from_slice(&images).view([rows as i64, -1]);
            let encoding = encoding(&spec);
            let convolutions = encoding.0.as_ref().unwrap();
            let tensors = convolutions.cut(&convolutions.part(&parameters));
            let features = convolutions.forward(&tensors, &images);
            let first = encoding.num_tensors();
            let weights = vec![first, first + 2];
            let dense = Dense::existing(weights, spec.activation, false);
            let expected = to_host(&dense.forward(&parameters, &features));
            let scale = expected.iter().fold(1.0_f32, |max, x| max.max(x.abs()));
            for (got, expected) in got.iter().zip(&expected) {
                let distance = (got - expected).abs() / scale;
                assert!(distance < 1e-5, "{kind:?} {shape:?}: {got} {expected}");
            }
        }
    }

    /// Features and gradient of an encoding.
    fn pass(
        encoding: &Encoding,
        layout: &Layout,
        [host, images, cotangent]: [&[f32]; 3],
    ) -> [Vec<f32>; 2] {
        let parameters = Flat::from_host(layout, host, Device::Cpu).unwrap();
        let width = encoding.0.as_ref().unwrap().encoder.planes.width();
        let images = Tensor::from_slice(images).view([-1, width as i64]);
        let tape = encoding.forward_taped(&parameters, &images);
        let gradient = Flat::zeros(layout, Device::Cpu);
        let cotangent = Tensor::from_slice(cotangent).view([images.size()[0], -1]);
        encoding.backward(&parameters, &tape, Some(cotangent), &gradient);
        [to_host(tape.output()), gradient.export()]
    }

    #[test]
    fn the_processors_kernels_agree_with_libtorch_and_with_themselves_in_any_number_of_threads() {
        let convolution = |channels, kernel, stride| Stage::Convolution {
            channels,
            kernel,
            stride,
        };
        let odd = vec![
            convolution(33, 3, 1),
            convolution(5, 2, 2),
            convolution(18, 1, 1),
        ];
        for (stages, shape, rows) in [
            (EncoderKind::NatureCnn.stages(1), [4, 84, 84], 35),
            (EncoderKind::NatureCnn.stages(1), [3, 44, 52], 16),
            (EncoderKind::MinatarCnn.stages(1), [4, 10, 10], 64),
            (odd, [2, 9, 6], 17),
        ] {
            let spec = spec(stages, shape, 4);
            let layout = spec.layout();
            let host = initial(&layout, 1);
            let images = draws(rows * spec.observation_width(), 0.0, 2);
            let cotangent = draws(rows * spec.input_width(), -1.0, 3);
            let inputs = [&host[..], &images, &cotangent];
            let by_hand = encoding(&spec);
            assert!(by_hand.0.as_ref().unwrap().by_hand.is_some());
            let mut by_graph = by_hand.clone();
            by_graph.0.as_mut().unwrap().by_hand = None;

            tch::set_num_threads(1);
            let got = pass(&by_hand, &layout, inputs);
            for (got, expected) in got.iter().zip(pass(&by_graph, &layout, inputs)) {
                let scale = expected.iter().fold(1.0_f32, |max, x| max.max(x.abs()));
                for (got, expected) in got.iter().zip(expected) {
                    let distance = (got - expected).abs() / scale;
                    assert!(distance < 1e-5, "{shape:?}: {got} {expected}");
                }
            }
            tch::set_num_threads(3);
            let bits = |[features, gradient]: [Vec<f32>; 2]| {
                [features, gradient]
                    .map(|values| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
            };
            assert_eq!(
                bits(pass(&by_hand, &layout, inputs)),
                bits(got),
                "{shape:?}"
            );
        }
    }

    #[test]
    fn what_is_no_number_comes_through() {
        let spec = spec(EncoderKind::MinatarCnn.stages(1), [4, 10, 10], 4);
        let layout = spec.layout();
        let mut images = draws(2 * spec.observation_width(), 0.0, 2);
        images[5] = f32::NAN;
        let cotangent = draws(2 * spec.input_width(), -1.0, 3);
        let host = initial(&layout, 1);
        let [features, gradient] = pass(&encoding(&spec), &layout, [&host, &images, &cotangent]);
        let (first, second) = features.split_at(features.len() / 2);
        assert!(first.iter().any(|value| value.is_nan()));
        assert!(second.iter().all(|value| value.is_finite()));
        assert!(gradient.iter().any(|value| value.is_nan()));
    }

    #[test]
    fn gradients_are_those_of_one_graph_from_images_to_outputs() {
        let convolution = Stage::Convolution {
            channels: 3,
            kernel: 2,
            stride: 2,
        };
        let residual = Stage::Residual { channels: 4 };
        for (stages, shape) in [
            (vec![convolution], [2, 6, 5]),
            (vec![residual, convolution], [1, 9, 6]),
            (vec![convolution, residual], [2, 9, 6]),
        ] {
            let spec = spec(stages, shape, 4);
            let encoding = encoding(&spec);
            let layout = spec.layout();
            let host = initial(&layout, 3);
            let parameters = Flat::from_host(&layout, &host, Device::Cpu).unwrap();
            let images = Tensor::from_slice(&draws(5 * spec.observation_width(), 0.0, 4));
            let images = images.view([5, -1]);
            let features = spec.input_width();
            let cotangent = Tensor::from_slice(&draws(5 * features, -1.0, 5)).view([5, -1]);

            let tape = encoding.forward_taped(&parameters, &images);
            assert!(!tape.output().requires_grad());
            assert_eq!(*tape.output(), encoding.forward(&parameters, &images));
            let gradient = Flat::zeros(&layout, Device::Cpu);
            encoding.backward(
                &parameters,
                &tape,
                Some(cotangent.shallow_clone()),
                &gradient,
            );

            // Central differences in double precision, for a few parameters of every tensor.
            let convolutions = encoding.0.as_ref().unwrap();
            let value = |host: &[f64]| {
                let part = Tensor::from_slice(host);
                let tensors = convolutions.cut(&part);
                let output = convolutions.forward(&tensors, &images.to_kind(Kind::Double));
                (output * &cotangent).sum(Kind::Double).double_value(&[])
            };
            let got = gradient.export();
            let len = layout.tensors()[encoding.num_tensors()].offset();
            let host: Vec<f64> = host[..len].iter().copied().map(f64::from).collect();
            for slot in &layout.tensors()[..encoding.num_tensors()] {
                for index in [slot.range().start, slot.range().end - 1] {
                    let moved = |by: f64| {
                        let mut host = host.clone();
                        host[index] += by;
                        value(&host)
                    };
                    let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                    let distance = (f64::from(got[index]) - expected).abs();
                    let name = slot.name();
                    assert!(
                        distance < 1e-3 * expected.abs().max(1.0),
                        "{name} {distance}"
                    );
                }
            }
            // Nothing is written beyond the convolutions.
            assert!(got[len..].iter().all(|value| *value == 0.0));
        }
    }
}
