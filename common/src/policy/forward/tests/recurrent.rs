//! The recurrent layer against its definition, in every batch and on every instruction set.

use super::*;
use crate::policy::{Recurrent, RecurrentCell};

/// Layers whose gates hit whole panels and every kind of remainder, on every kind of input.
fn recurrent_specs() -> Vec<PolicySpec> {
    let two = Space::bounded(&[-1.0; 2], &[1.0; 2]);
    let mut specs = Vec::new();
    for cell in [RecurrentCell::Lstm, RecurrentCell::Gru] {
        for (observation, hidden, units, action) in [
            (
                Space::bounded(&[-1.0; 3], &[1.0; 3]),
                vec![16],
                16,
                two.clone(),
            ),
            (two.clone(), vec![5, 9], 7, Space::Discrete { n: 3 }),
            (two.clone(), vec![], 33, Space::Discrete { n: 18 }),
            (Space::Discrete { n: 6 }, vec![], 1, two.clone()),
        ] {
            let spec = PolicySpec::new(&observation, &action, hidden, Activation::Tanh).unwrap();
            let recurrent = Some(Recurrent { cell, units });
            specs.push(spec.with_recurrent(recurrent).unwrap());
        }
        let planes = Space::planes(2, 5, 6);
        for hidden in [vec![7], vec![]] {
            let spec = PolicySpec::new(&planes, &two, hidden, Activation::Relu).unwrap();
            let stages = vec![Stage::Residual { channels: 5 }];
            let spec = spec.with_image_encoder(&planes, stages).unwrap();
            let recurrent = Some(Recurrent { cell, units: 6 });
            specs.push(spec.with_recurrent(recurrent).unwrap());
        }
    }
    specs
}

/// Observations of `rows` rows.
fn observations(spec: &PolicySpec, rows: usize) -> Vec<f32> {
    match spec.encoder {
        Encoder::OneHot { n } => (0..rows).map(|row| (row % n) as f32).collect(),
        Encoder::Identity { .. } | Encoder::Image(_) => draws(rows * spec.observation_width(), 11),
    }
}

/// Outputs and next state of one row by the definition: sums in index order, then gate by gate.
fn step(
    spec: &PolicySpec,
    parameters: &[f32],
    observation: &[f32],
    state: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let Recurrent { cell, units } = spec.recurrent.unwrap();
    let encoded: Vec<f32> = match spec.encoder {
        Encoder::OneHot { n } => (0..n)
            .map(|i| f32::from(u8::from(i as f32 == observation[0])))
            .collect(),
        Encoder::Identity { .. } | Encoder::Image(_) => observation.to_vec(),
    };
    let (mut x, mut order) = seen(spec, parameters, &encoded);
    for hidden in 0..spec.hidden.len() {
        x = layer(spec, parameters, &hidden.to_string(), &x, &order);
        activate(spec.activation, &mut x);
        order = (0..x.len()).collect();
    }
    let gates = |kind: &str, x: &[f32], order: &[usize]| -> Vec<f32> {
        let tensor = |name: &str| {
            let name = format!("policy.recurrent.{name}_{kind}");
            &parameters[spec.layout().find(&name).unwrap().range()]
        };
        let rows = tensor("weight").chunks(x.len()).zip(tensor("bias"));
        rows.map(|(row, bias)| {
            let sum = |sum, &index: &usize| x[index].mul_add(row[index], sum);
            order.iter().fold(*bias, sum)
        })
        .collect()
    };
    let in_order: Vec<usize> = (0..units).collect();
    let from_input = gates("ih", &x, &order);
    let from_state = gates("hh", &state[..units], &in_order);
    let both = |gate: usize, j: usize| from_input[gate * units + j] + from_state[gate * units + j];
    let mut hidden = Vec::new();
    let mut memory = Vec::new();
    for j in 0..units {
        if cell == RecurrentCell::Lstm {
            let [input, forget, output] = [0, 1, 3].map(|gate| math::sigmoid(both(gate, j)));
            let candidate = math::tanh(both(2, j));
            let kept = forget.mul_add(state[units + j], input * candidate);
            memory.push(kept);
            hidden.push(output * math::tanh(kept));
        } else {
            let [reset, update] = [0, 1].map(|gate| math::sigmoid(both(gate, j)));
            let last = 2 * units + j;
            let candidate = math::tanh(reset.mul_add(from_state[last], from_input[last]));
            hidden.push(update.mul_add(state[j] - candidate, candidate));
        }
    }
    let outputs = layer(spec, parameters, "head", &hidden, &in_order);
    (outputs, [hidden, memory].concat())
}

/// Outputs and next states of rows.
fn steps(network: &Network, observations: &[f32], mut state: Vec<f32>) -> (Vec<f32>, Vec<f32>) {
    let rows = observations.len() / network.observation_width;
    let mut outputs = vec![0.0; rows * network.outputs];
    let inputs = Inputs {
        observations,
        state: &mut state,
    };
    network.forward(&mut Scratch::default(), inputs, &mut outputs);
    (outputs, state)
}

#[test]
fn every_instruction_set_gives_the_bits_of_the_recurrent_definition() {
    for spec in recurrent_specs() {
        let parameters = draws(spec.layout().len(), 10);
        let (width, state_width) = (spec.observation_width(), spec.state_width());
        let observations = observations(&spec, 21);
        let states = draws(21 * state_width, 12);
        let rows = observations.chunks(width).zip(states.chunks(state_width));
        let (outputs, next): (Vec<_>, Vec<_>) = rows
            .map(|(observation, state)| step(&spec, &parameters, observation, state))
            .unzip();
        for arch in arches() {
            let network = Network::for_arch(arch, &spec, &parameters).unwrap();
            let got = steps(&network, &observations, states.clone());
            assert_eq!(bits(&got.0), bits(&outputs.concat()), "{arch:?} {spec:?}");
            assert_eq!(bits(&got.1), bits(&next.concat()), "{arch:?} {spec:?}");
        }
    }
}

#[test]
fn a_row_remembers_the_same_bits_in_every_batch_and_place() {
    for spec in recurrent_specs() {
        let network = Network::new(&spec, &draws(spec.layout().len(), 13)).unwrap();
        let (width, outputs) = (spec.observation_width(), spec.head_width());
        let state_width = spec.state_width();
        let observations = observations(&spec, 40);
        let states = draws(40 * state_width, 14);
        let rows = observations.chunks(width).zip(states.chunks(state_width));
        let (alone, next): (Vec<_>, Vec<_>) = rows
            .map(|(observation, state)| steps(&network, observation, state.to_vec()))
            .unzip();
        let (alone, next) = (alone.concat(), next.concat());
        for rows in 1..=40 {
            for first in [0, (40 - rows) / 2, 40 - rows] {
                let of = |values: &[f32], width: usize| {
                    values[first * width..(first + rows) * width].to_vec()
                };
                let got = steps(
                    &network,
                    &of(&observations, width),
                    of(&states, state_width),
                );
                assert_eq!(bits(&got.0), bits(&of(&alone, outputs)), "{rows} {first}");
                assert_eq!(
                    bits(&got.1),
                    bits(&of(&next, state_width)),
                    "{rows} {first}"
                );
            }
        }
    }
}

#[test]
fn a_recurrent_network_without_its_states_is_refused() {
    let spec = &recurrent_specs()[0];
    let network = Network::new(spec, &draws(spec.layout().len(), 15)).unwrap();
    for got in [0, 31, 33] {
        let refused = std::panic::catch_unwind(|| steps(&network, &[0.0; 3], vec![0.0; got]));
        assert!(refused.is_err(), "{got}");
    }
}
