//! `rookery bench update`: milliseconds a gradient step, measured by the learner's program.

use std::process::Command;

use anyhow::Context as _;
use clap::Args;
use rookery_common::exit::Exit;
use serde::{Deserialize, Serialize};

use super::{PartArguments, print, row};
use crate::children::Programs;
use crate::failure::Failure;
use crate::format;

/// What the development machine reaches with one thread and autograd, in milliseconds.
const REFERENCE: [(&str, u64, &str); 4] = [
    (PLAIN, 64, "0.58"),
    (PLAIN, 256, "0.73"),
    (PLAIN, 1024, "2.1"),
    (PLAIN, 16_384, "25"),
];
/// Rows that are measured: those, and one for images.
const NUM_ROWS: usize = REFERENCE.len() + 1;
/// Two hidden layers, apart for policy and critic.
const PLAIN: &str = "64x64";
/// What stands for all of it in one figure: the common setting's minibatches and epochs.
const HEADLINE_MINIBATCH: u64 = 256;
const HEADLINE_EPOCHS: f64 = 4.0;

/// Time PPO's gradient step, with separate 64x64 networks and with a shared Nature CNN
#[derive(Clone, Debug, Args)]
pub(super) struct UpdateArguments {
    #[command(flatten)]
    part: PartArguments,
}

/// What `rookery-learner bench-update` prints.
#[derive(Debug, Deserialize)]
struct Measured {
    device: String,
    rows: Vec<Row>,
}

/// Medians of one setting, in microseconds a gradient step.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Row {
    network: String,
    minibatch_size: u64,
    gradient_step_microseconds: f64,
    gather_microseconds: f64,
    forward_microseconds: f64,
    loss_microseconds: f64,
    backward_microseconds: f64,
    optimiser_microseconds: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    /// Environment steps that a learner gets through in 4 epochs with minibatches of 256.
    env_steps_per_second: f64,
    device: String,
    results: Vec<Row>,
}

pub(super) fn bench(arguments: &UpdateArguments) -> anyhow::Result<()> {
    let program = Programs::locate()?.learner()?;
    let seconds = arguments.part.seconds.as_secs_f64() / NUM_ROWS as f64;
    let output = Command::new(&program)
        .args(["bench-update", "--seconds", &seconds.to_string()])
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let message = format!(
            "{} bench-update failed: {}",
            program.display(),
            errors.trim()
        );
        return Err(Failure::new(Exit::Internal, message).into());
    }
    let report = report(&String::from_utf8_lossy(&output.stdout))?;
    print(&table(&report), &report, arguments.part.json)
}

fn report(text: &str) -> anyhow::Result<Report> {
    let measured: Measured = serde_json::from_str(text)
        .with_context(|| format!("cannot understand what bench-update printed: {text:?}"))?;
    let headline = measured
        .rows
        .iter()
        .find(|row| row.network == PLAIN && row.minibatch_size == HEADLINE_MINIBATCH);
    Ok(Report {
        env_steps_per_second: headline
            .map_or(f64::NAN, |row| row.rows_per_second() / HEADLINE_EPOCHS),
        device: measured.device,
        results: measured.rows,
    })
}

impl Row {
    fn rows_per_second(&self) -> f64 {
        1e6 * self.minibatch_size as f64 / self.gradient_step_microseconds
    }
}

fn table(report: &Report) -> Vec<Vec<String>> {
    let mut table = vec![row([
        "network",
        "minibatch",
        "ms/step",
        "rows/s",
        "reference, ms/step",
        "gather",
        "forward",
        "loss",
        "backward",
        "optimiser",
    ])];
    let milliseconds = |microseconds: f64| format!("{:.3}", microseconds / 1e3);
    for result in &report.results {
        let reference = REFERENCE.iter().find(|(network, size, _)| {
            (*network, *size) == (&result.network, result.minibatch_size)
        });
        table.push(row([
            &result.network,
            &format::grouped(result.minibatch_size),
            &milliseconds(result.gradient_step_microseconds),
            &format::rate(result.rows_per_second()),
            reference.map_or("", |(_, _, text)| text),
            &milliseconds(result.gather_microseconds),
            &milliseconds(result.forward_microseconds),
            &milliseconds(result.loss_microseconds),
            &milliseconds(result.backward_microseconds),
            &milliseconds(result.optimiser_microseconds),
        ]));
    }
    table.push(vec![format!("on {}", report.device)]);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learner_s_figures_are_understood() {
        let text = r#"{"device":"Cpu","rows":[{"network":"64x64","minibatch_size":256,
            "gradient_step_microseconds":800.0,"gather_microseconds":50.0,
            "forward_microseconds":250.0,"loss_microseconds":100.0,
            "backward_microseconds":300.0,"optimiser_microseconds":100.0}]}"#;
        let report = report(text).unwrap();
        assert_eq!(report.env_steps_per_second, 80_000.0);
        let line = &table(&report)[1];
        assert_eq!(line[..5], ["64x64", "256", "0.800", "320,000", "0.73"]);
    }
}
