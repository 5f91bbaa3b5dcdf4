//! `rookery bench policy`: rows a second of the actors' forward pass on one core.

use std::hint::black_box;

use clap::Args;
use rookery_common::policy::{Activation, Policy, PolicySpec, Workspace};
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
/// What stands for all of it in one figure.
const HEADLINE_BATCH: usize = 64;
const OBSERVATION_WIDTH: usize = 4;

/// Choose actions with two hidden layers of 64, tanh, on one core
#[derive(Clone, Debug, Args)]
pub(super) struct PolicyArguments {
    #[command(flatten)]
    part: PartArguments,
}

#[derive(Debug, Serialize)]
struct Report {
    /// One row is one decision: of batches of 64.
    env_steps_per_second: f64,
    results: Vec<Measurement>,
}

#[derive(Debug, Serialize)]
struct Measurement {
    batch: usize,
    rows_per_second: f64,
}

pub(super) fn bench(arguments: &PolicyArguments) -> anyhow::Result<()> {
    let policy = policy()?;
    let time = arguments.part.seconds / BATCHES.len() as u32;
    let mut table = vec![row(["batch", "rows/s", "reference, million rows/s"])];
    let mut results = Vec::new();
    for (batch, reference) in BATCHES {
        let mut random = Random::derive(1, Purpose::Episode, 0, 0);
        let observations: Vec<f32> = (0..batch * OBSERVATION_WIDTH)
            .map(|_| random.unit_f32() - 0.5)
            .collect();
        let mut actions = vec![0.0; batch];
        let mut workspace = Workspace::default();
        let rows_per_second = units_per_second(time, || {
            policy.act_greedily(&mut workspace, &observations, &mut actions);
            black_box(&actions);
            batch
        });
        table.push(row([
            &batch.to_string(),
            &millions(rows_per_second),
            reference,
        ]));
        results.push(Measurement {
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

/// CartPole's usual policy, with random parameters.
fn policy() -> anyhow::Result<Policy> {
    let bound = [1.0; OBSERVATION_WIDTH];
    let observation = Space::bounded(&bound.map(|value: f32| -value), &bound);
    let action = Space::Discrete { n: 2 };
    let spec = PolicySpec::new(&observation, &action, vec![64, 64], Activation::Tanh)?;
    let mut random = Random::derive(1, Purpose::Initialisation, 0, 0);
    let parameters: Vec<f32> = (0..spec.layout().len())
        .map(|_| 0.4 * random.unit_f32() - 0.2)
        .collect();
    Ok(Policy::new(spec, &parameters, None)?)
}
