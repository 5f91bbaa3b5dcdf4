//! The network of action values: forward pass, backward pass and noise, over flat parameters.

use rookery_common::policy::layout::Layout;
use rookery_common::policy::{Head, PolicySpec, ValueDistribution};
use rookery_common::seeds::{Purpose, Random};
use tch::{Device, Kind, Tensor};

use crate::networks::init::{HIDDEN_GAIN, VALUE_HEAD_GAIN, orthogonal_layout};
use crate::networks::{ActionMask, Dense, Encoding, EncodingTape, Flat, NetworkError, Tape};

/// The layers of a [`Head::ActionValues`] policy, without parameters: online and target network are
/// two [`Flat`] vectors of one layout.
#[derive(Debug)]
pub struct QNetwork {
    layout: Layout,
    encoding: Encoding,
    trunk: Dense,
    head: Dense,
    value: Option<Dense>,
    num_actions: i64,
    distribution: ValueDistribution,
    is_noisy: bool,
    mask: Option<ActionMask>,
}

/// What a forward pass leaves for its backward pass.
#[derive(Debug)]
pub struct QTape {
    encoding: EncodingTape,
    trunk: Tape,
    head: Tape,
    value: Option<Tape>,
    /// What came out, `[N, num_actions, outputs]`.
    pub outputs: Tensor,
}

/// Factorised noise for every layer, `[layout]`: what each standard deviation is multiplied by, at the
/// place of that standard deviation, and zero elsewhere.
#[derive(Debug)]
pub struct Noise(Flat);

impl Noise {
    /// Noise that is given.
    ///
    /// # Errors
    /// [`NetworkError::Parameters`] where the number of values is not the layout's.
    #[cfg(test)]
    pub(super) fn from_host(layout: &Layout, host: &[f32]) -> Result<Self, NetworkError> {
        Flat::from_host(layout, host, Device::Cpu).map(Self)
    }

    /// Copies the noise to the host.
    #[cfg(test)]
    pub(super) fn export(&self) -> Vec<f32> {
        self.0.export()
    }
}

impl QNetwork {
    /// The layers of `policy`.
    ///
    /// # Errors
    /// [`NetworkError::Head`] where its head gives no action values, [`NetworkError::Policy`] where it
    /// is no network.
    pub fn new(policy: &PolicySpec) -> Result<Self, NetworkError> {
        policy.validate()?;
        let Head::ActionValues {
            num_actions,
            dueling,
            distribution,
            noisy,
        } = policy.head
        else {
            return Err(NetworkError::Head {
                expected: "action_values",
                got: policy.head.name(),
            });
        };
        let slots_per_layer = if noisy { 4 } else { 2 };
        let num_hidden = policy.hidden.len();
        let layout = policy.layout();
        let encoding = Encoding::existing(&policy.encoder, &layout, 0);
        let first = encoding.num_tensors();
        let weight = |layer: usize| first + layer * slots_per_layer;
        let trunk = (0..num_hidden).map(weight).collect();
        let single = |layer| Dense::existing(vec![weight(layer)], policy.activation, false);
        Ok(Self {
            layout,
            encoding,
            trunk: Dense::existing(trunk, policy.activation, true),
            head: single(num_hidden),
            value: dueling.then(|| single(num_hidden + 1)),
            num_actions: num_actions as i64,
            distribution,
            is_noisy: noisy,
            mask: ActionMask::of(policy),
        })
    }

    /// Where each tensor lies.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What is learnt about a return.
    #[must_use]
    pub fn distribution(&self) -> ValueDistribution {
        self.distribution
    }

    /// Whether layers are noisy.
    #[must_use]
    pub fn is_noisy(&self) -> bool {
        self.is_noisy
    }

    /// Parameters drawn from `seed`: orthogonal weights and zero biases as elsewhere, the output layers
    /// with gain 1; standard deviations of noisy layers at `sigma / sqrt(inputs)` (Fortunato and others
    /// 2018, section 3.2; there the means are drawn uniformly).
    #[must_use]
    pub fn initial(&self, seed: u64, sigma: f64, device: Device) -> Flat {
        let gain = |name: &str| match name {
            "policy.head.weight" | "policy.value.weight" => VALUE_HEAD_GAIN,
            _ => HIDDEN_GAIN,
        };
        let mut host = orthogonal_layout(&self.layout, gain, seed, 0);
        let mut inputs = 1;
        for slot in self.layout.tensors() {
            if let ([_, columns], true) = (slot.shape(), slot.name().ends_with(".weight")) {
                inputs = *columns;
            }
            if slot.name().ends_with("_sigma") {
                host[slot.range()].fill((sigma / (inputs as f64).sqrt()) as f32);
            }
        }
        let mut flat = Flat::zeros(&self.layout, device);
        flat.values_mut().copy_(&Tensor::from_slice(&host));
        flat
    }

    /// Outputs of every action.
    ///
    /// # Shapes
    /// `inputs` is `[N, inputs]`, encoded; the result `[N, num_actions, outputs]`.
    pub fn forward(&self, parameters: &Flat, inputs: &Tensor) -> Tensor {
        let seen = self.encoding.forward(parameters, inputs);
        let features = self.trunk.forward(parameters, &seen);
        let head = self.head.forward(parameters, &features);
        let value = self
            .value
            .as_ref()
            .map(|value| value.forward(parameters, &features));
        self.combine(&head, value.as_ref())
    }

    /// As [`QNetwork::forward`], and keeps what [`QNetwork::backward`] needs.
    #[must_use]
    pub fn forward_taped(&self, parameters: &Flat, inputs: &Tensor) -> QTape {
        let encoding = self.encoding.forward_taped(parameters, inputs);
        let trunk = self.trunk.forward_taped(parameters, encoding.output());
        let head = self.head.forward_taped(parameters, trunk.output());
        let value = self
            .value
            .as_ref()
            .map(|value| value.forward_taped(parameters, trunk.output()));
        let outputs = self.combine(head.output(), value.as_ref().map(Tape::output));
        QTape {
            encoding,
            trunk,
            head,
            value,
            outputs,
        }
    }

    /// [`QNetwork::forward_taped`] of `inputs` and [`QNetwork::forward`] of `next_inputs`, in one pass where
    /// there are no convolutions: half as many operations, each of which costs microseconds beside its
    /// arithmetic. With convolutions the arithmetic is what costs, and a joint pass would be carried back whole.
    pub fn forward_both(
        &self,
        parameters: &Flat,
        inputs: &Tensor,
        next_inputs: &Tensor,
    ) -> (QTape, Tensor) {
        if self.encoding.has_parameters() {
            let next = self.forward(parameters, next_inputs);
            return (self.forward_taped(parameters, inputs), next);
        }
        let joint = self.forward_taped(parameters, &Tensor::cat(&[inputs, next_inputs], 0));
        let [rows, next_rows] = [inputs, next_inputs].map(|inputs| inputs.size()[0]);
        let next = joint.outputs.narrow(0, rows, next_rows);
        let tape = QTape {
            outputs: joint.outputs.narrow(0, 0, rows),
            ..joint
        };
        (tape, next)
    }

    /// `Q = V + A - mean(A)`, for each output (Wang and others 2016, equation 9; T29).
    fn combine(&self, head: &Tensor, value: Option<&Tensor>) -> Tensor {
        let outputs = head.view([-1, self.num_actions, self.num_outputs()]);
        match value {
            None => outputs,
            Some(value) => {
                let mean = outputs.mean_dim(1_i64, true, Kind::Float);
                outputs + (value.unsqueeze(1) - mean)
            }
        }
    }

    fn num_outputs(&self) -> i64 {
        self.distribution.num_outputs() as i64
    }

    /// Writes the gradient of all means to `gradient`, given that of the outputs.
    ///
    /// # Shapes
    /// `output_gradient` is `[N, num_actions, outputs]`.
    pub fn backward(
        &self,
        parameters: &Flat,
        tape: &QTape,
        output_gradient: &Tensor,
        gradient: &Flat,
    ) {
        let width = self.num_actions * self.num_outputs();
        let mut of_features = None;
        let of_head = match (&self.value, &tape.value) {
            (Some(value), Some(value_tape)) => {
                let of_value = output_gradient.sum_dim_intlist(1_i64, false, Kind::Float);
                let of_mean = of_value.unsqueeze(1) / self.num_actions as f64;
                of_features = value.backward(parameters, value_tape, of_value, gradient, true);
                (output_gradient - of_mean).view([-1, width])
            }
            _ => output_gradient.view([-1, width]),
        };
        let through_head = self
            .head
            .backward(parameters, &tape.head, of_head, gradient, true);
        if let Some(mut flowing) = through_head {
            if let Some(other) = of_features {
                flowing += other;
            }
            let wants_input = self.encoding.has_parameters();
            let by_input =
                self.trunk
                    .backward(parameters, &tape.trunk, flowing, gradient, wants_input);
            self.encoding
                .backward(parameters, &tape.encoding, by_input, gradient);
        }
    }

    /// What each action is worth.
    ///
    /// # Shapes
    /// `outputs` is `[N, num_actions, outputs]`; the result `[N, num_actions]`.
    pub fn expected(&self, outputs: &Tensor) -> Tensor {
        match self.distribution {
            ValueDistribution::Expectation => outputs.squeeze_dim(-1),
            ValueDistribution::Categorical { .. } => {
                let support = self.support(outputs.device());
                outputs.softmax(-1, Kind::Float).matmul(&support)
            }
            ValueDistribution::Quantiles { .. } => outputs.mean_dim(-1_i64, false, Kind::Float),
        }
    }

    /// What each action is worth, without hope for those that cannot be taken: the action of the largest is
    /// chosen.
    ///
    /// # Shapes
    /// `outputs` is `[N, num_actions, outputs]`, for `inputs` `[N, inputs]`; the result `[N, num_actions]`.
    pub fn choices(&self, outputs: &Tensor, inputs: &Tensor) -> Tensor {
        let values = self.expected(outputs);
        match &self.mask {
            None => values,
            Some(mask) => mask.apply(inputs, &values),
        }
    }

    /// The returns of a categorical distribution, `[num_atoms]`; one zero for the others.
    pub fn support(&self, device: Device) -> Tensor {
        match self.distribution {
            ValueDistribution::Categorical {
                num_atoms,
                v_min,
                v_max,
            } => {
                let distance = f64::from(v_max - v_min) / (num_atoms - 1) as f64;
                let atoms: Vec<f32> = (0..num_atoms)
                    .map(|atom| (f64::from(v_min) + atom as f64 * distance) as f32)
                    .collect();
                Tensor::from_slice(&atoms).to_device(device)
            }
            _ => Tensor::zeros([1], (Kind::Float, device)),
        }
    }

    /// Draws noise for every layer: `f(x) f(y)^T` with `f(x) = sgn(x) sqrt(|x|)` of standard normals, one
    /// for each input and each output (Fortunato and others 2018, equations 10 and 11; T29).
    #[must_use]
    pub fn noise(&self, seed: u64, update: u64, draw: u64, device: Device) -> Noise {
        let mut random = Random::derive(seed, Purpose::LearnerNoise, update, draw);
        let mut host = vec![0.0; self.layout.len()];
        let mut outputs: Vec<f32> = Vec::new();
        for slot in self.layout.tensors() {
            if !slot.name().ends_with("_sigma") {
                continue;
            }
            let values = &mut host[slot.range()];
            match *slot.shape() {
                [num_outputs, num_inputs] => {
                    let inputs = scaled_normals(&mut random, num_inputs);
                    outputs = scaled_normals(&mut random, num_outputs);
                    for (row, output) in values.chunks_exact_mut(num_inputs).zip(&outputs) {
                        for (value, input) in row.iter_mut().zip(&inputs) {
                            *value = input * output;
                        }
                    }
                }
                _ => values.copy_from_slice(&outputs),
            }
        }
        let mut flat = Flat::zeros(&self.layout, device);
        flat.values_mut().copy_(&Tensor::from_slice(&host));
        Noise(flat)
    }

    /// The means moved by `noise`: what a noisy network computes with. Standard deviations are left out.
    #[must_use]
    pub fn perturbed(&self, parameters: &Flat, noise: &Noise) -> Flat {
        let mut moved = Flat::zeros(&self.layout, parameters.device());
        moved.values_mut().copy_(parameters.values());
        for mean in self.means() {
            let shift = parameters.view(mean + 2) * noise.0.view(mean + 2);
            let _ = moved.view(mean).shallow_clone().g_add_(&shift);
        }
        moved
    }

    /// Writes the gradient of the standard deviations, which follows from that of the means.
    pub fn spread_gradient(&self, noise: &Noise, gradient: &Flat) {
        for mean in self.means() {
            gradient
                .view(mean + 2)
                .shallow_clone()
                .copy_(&(gradient.view(mean) * noise.0.view(mean + 2)));
        }
    }

    /// Index of every noisy weight and bias; its standard deviation is two further.
    fn means(&self) -> impl Iterator<Item = usize> {
        let first = self.encoding.num_tensors();
        (first..self.layout.tensors().len()).filter(move |index| (index - first) % 4 < 2)
    }
}

/// `sgn(x) sqrt(|x|)` of standard normals.
fn scaled_normals(random: &mut Random, count: usize) -> Vec<f32> {
    let mut drawn = Vec::with_capacity(count + 1);
    while drawn.len() < count {
        let (first, second) = random.standard_normals();
        drawn.extend([first, second].map(|x| (x.signum() * x.abs().sqrt()) as f32));
    }
    drawn.truncate(count);
    drawn
}
