//! `rookery bench policy`: rows a second of the actors' forward pass on one core.

use std::hint::black_box;
use std::time::Duration;

use clap::Args;
use rookery_common::policy::{
    Activation, Behaviour, EncoderKind, Head, Policy, PolicySpec, ValueDistribution, Workspace,
};
use rookery_common::seeds::{Purpose, Random};
use rookery_common::spaces::Space;
use serde::Serialize;

use super::{PartArguments, millions, print, row, units_per_second};

/// Rows in a call, and what the development machine reaches, in million rows a second.
const BATCHES: [(usize, &str); 5] = [
    (1, "0.5-1.5"),
    (8, "2.9-3.2"),
    (64, "3.8-7.4"),
    (1024, ""),
    (4096, ""),
];
/// Rows in a call of the networks that act off policy, for which there is no reference.
const OFF_POLICY_BATCHES: [usize; 3] = [1, 8, 64];
/// Rows in a call of the networks that see images, and what the development machine reaches with the
/// matrix products of the first alone.
const IMAGE_BATCHES: [(usize, &str); 2] = [(1, ""), (8, "0.0041-0.0044")];
/// What stands for all of it in one figure.
const HEADLINE_BATCH: usize = 64;
/// `CartPole`'s, and a small robot's.
const OBSERVATION_WIDTHS: [usize; 2] = [4, 17];

/// Choose actions with networks of the usual sizes, on one core
#[derive(Clone, Debug, Args)]
pub(super) struct PolicyArguments {
    #[command(flatten)]
    part: PartArguments,
}

#[derive(Debug, Serialize)]
struct Report {
    /// One row is one decision: of batches of 64, the first network.
    env_steps_per_second: f64,
    results: Vec<Measurement>,
}

#[derive(Debug, Serialize)]
struct Measurement {
    network: &'static str,
    batch: usize,
    rows_per_second: f64,
}

pub(super) fn bench(arguments: &PolicyArguments) -> anyhow::Result<()> {
    let categorical = ("64x64 tanh categorical", categorical()?);
    let values = ("256x256 relu action values", action_values()?);
    let squashed = ("256x256 relu squashed Gaussian", squashed_gaussian()?);
    let images = [
        image(
            "Nature CNN, 4x84x84",
            EncoderKind::NatureCnn,
            [4, 84, 84],
            512,
        )?,
        image(
            "IMPALA CNN, 4x84x84",
            EncoderKind::ImpalaCnn,
            [4, 84, 84],
            256,
        )?,
        image(
            "MinAtar CNN, 4x10x10",
            EncoderKind::MinatarCnn,
            [4, 10, 10],
            128,
        )?,
    ];
    let on_policy = BATCHES.map(|(batch, reference)| (&categorical, batch, reference));
    let off_policy = [&values, &squashed]
        .into_iter()
        .flat_map(|network| OFF_POLICY_BATCHES.map(|batch| (network, batch, "")));
    let of_images = images.iter().enumerate().flat_map(|(index, network)| {
        IMAGE_BATCHES.map(|(batch, reference)| {
            let reference = if index == 0 { reference } else { "" };
            (network, batch, reference)
        })
    });
    let settings: Vec<_> = on_policy
        .into_iter()
        .chain(off_policy)
        .chain(of_images)
        .collect();

    let time = arguments.part.seconds / settings.len() as u32;
    let mut table = vec![row([
        "network",
        "batch",
        "rows/s",
        "reference, million rows/s",
    ])];
    let mut results = Vec::new();
    for (&(network, ref policy), batch, reference) in settings {
        let rows_per_second = rows_per_second(policy, batch, time);
        table.push(row([
            network,
            &batch.to_string(),
            &if rows_per_second < 1e5 {
                format!("{rows_per_second:.0}")
            } else {
                millions(rows_per_second)
            },
            reference,
        ]));
        results.push(Measurement {
            network,
            batch,
            rows_per_second,
        });
    }
    let headline = results.iter().find(|result| result.batch == HEADLINE_BATCH);
    let report = Report {
        env_steps_per_second: headline.map_or(f64::NAN, |result| result.rows_per_second),
        results,
    };
    print(&table, &report, arguments.part.json)
}

/// Deterministic actions, except that those of a squashed Gaussian are drawn: a sample costs about
/// as much as a small network.
fn rows_per_second(policy: &Policy, batch: usize, time: Duration) -> f64 {
    let mut random = Random::derive(1, Purpose::Episode, 0, 0);
    let observations: Vec<f32> = (0..batch * policy.spec().observation_width())
        .map(|_| random.unit_f32() - 0.5)
        .collect();
    let mut actions = vec![0.0; batch * policy.spec().action_width()];
    let mut log_probs = vec![0.0; batch];
    let mut workspace = Workspace::default();
    let is_drawn = matches!(policy.spec().head, Head::SquashedGaussian { .. });
    let mut step = 0;
    units_per_second(time, || {
        if is_drawn {
            step += 1;
            policy.act(
                &mut workspace,
                Behaviour::OnPolicy,
                &observations,
                |row| Random::derive(1, Purpose::Action, row as u64, step),
                &mut actions,
                &mut log_probs,
            );
        } else {
            policy.act_greedily(&mut workspace, &observations, &mut actions);
        }
        black_box((&actions, &log_probs));
        batch
    })
}

/// `CartPole`'s usual policy.
fn categorical() -> anyhow::Result<Policy> {
    let action = Space::Discrete { n: 2 };
    let observation = bounded(OBSERVATION_WIDTHS[0]);
    policy(PolicySpec::new(
        &observation,
        &action,
        vec![64, 64],
        Activation::Tanh,
    )?)
}

/// DQN's usual network for `CartPole`.
fn action_values() -> anyhow::Result<Policy> {
    policy(PolicySpec::action_values(
        &bounded(OBSERVATION_WIDTHS[0]),
        &Space::Discrete { n: 2 },
        vec![256, 256],
        Activation::Relu,
        false,
        ValueDistribution::Expectation,
        false,
    )?)
}

/// SAC's usual network for a robot with six joints.
fn squashed_gaussian() -> anyhow::Result<Policy> {
    policy(PolicySpec::squashed_gaussian(
        &bounded(OBSERVATION_WIDTHS[1]),
        &bounded(6),
        vec![256, 256],
        Activation::Relu,
    )?)
}

/// Values of Atari's 18 actions.
fn image(
    name: &'static str,
    kind: EncoderKind,
    [channels, rows, columns]: [usize; 3],
    hidden: usize,
) -> anyhow::Result<(&'static str, Policy)> {
    let observation = Space::planes(channels, rows, columns);
    let spec = PolicySpec::action_values(
        &observation,
        &Space::Discrete { n: 18 },
        vec![hidden],
        Activation::Relu,
        false,
        ValueDistribution::Expectation,
        false,
    )?;
    let spec = spec.with_image_encoder(&observation, kind.stages(1))?;
    Ok((name, policy(spec)?))
}

fn bounded(width: usize) -> Space {
    Space::bounded(&vec![-1.0; width], &vec![1.0; width])
}

/// The policy with random parameters.
fn policy(spec: PolicySpec) -> anyhow::Result<Policy> {
    let mut random = Random::derive(1, Purpose::Initialisation, 0, 0);
    let parameters: Vec<f32> = (0..spec.layout().len())
        .map(|_| 0.4 * random.unit_f32() - 0.2)
        .collect();
    Ok(Policy::new(spec, &parameters, None)?)
}
