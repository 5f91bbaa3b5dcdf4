//! `rookery bench dqn` and `rookery bench sac`: gradient steps, measured by the learner's program.

use std::process::Command;

use anyhow::Context as _;
use clap::Args;
use rookery_common::exit::Exit;
use serde::{Deserialize, Serialize};

use super::{PartArguments, print, row};
use crate::children::Programs;
use crate::failure::Failure;
use crate::format;

/// Numbers of libtorch threads; each is a process of its own, since it can be set but once.
const THREADS: [u32; 2] = [1, 2];

/// Time an off-policy gradient step beside libtorch's matrix products of the same shapes
#[derive(Clone, Debug, Args)]
pub(super) struct OffPolicyArguments {
    #[command(flatten)]
    part: PartArguments,
}

/// What `rookery-learner bench-off-policy` prints: medians of one setting.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Row {
    threads: u32,
    device: String,
    updates_per_second: f64,
    step_microseconds: f64,
    products_microseconds: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    /// Of the faster setting, at one gradient step for each environment step.
    env_steps_per_second: f64,
    updates_per_second: f64,
    results: Vec<Row>,
}

pub(super) fn bench(algorithm: &str, arguments: &OffPolicyArguments) -> anyhow::Result<()> {
    let program = Programs::locate()?.learner()?;
    let seconds = arguments.part.seconds.as_secs_f64() / THREADS.len() as f64;
    let mut results = Vec::new();
    for threads in THREADS {
        let output = Command::new(&program)
            .args(["bench-off-policy", algorithm])
            .args(["--threads", &threads.to_string()])
            .args(["--seconds", &seconds.to_string()])
            .output()
            .with_context(|| format!("cannot start {}", program.display()))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            let message = format!(
                "{} bench-off-policy failed: {}",
                program.display(),
                errors.trim()
            );
            return Err(Failure::new(Exit::Internal, message).into());
        }
        results.push(parse(&String::from_utf8_lossy(&output.stdout))?);
    }
    let report = report(results);
    print(&table(&report), &report, arguments.part.json)
}

fn parse(text: &str) -> anyhow::Result<Row> {
    serde_json::from_str(text)
        .with_context(|| format!("cannot understand what bench-off-policy printed: {text:?}"))
}

fn report(results: Vec<Row>) -> Report {
    let fastest = results
        .iter()
        .map(|row| row.updates_per_second)
        .fold(f64::NAN, f64::max);
    Report {
        env_steps_per_second: fastest,
        updates_per_second: fastest,
        results,
    }
}

fn table(report: &Report) -> Vec<Vec<String>> {
    let mut table = vec![row([
        "threads",
        "updates/s",
        "ms/update",
        "products, ms",
        "ratio",
        "device",
    ])];
    for result in &report.results {
        let milliseconds = |microseconds: f64| format!("{:.3}", microseconds / 1e3);
        table.push(row([
            &result.threads.to_string(),
            &format::rate(result.updates_per_second),
            &milliseconds(result.step_microseconds),
            &milliseconds(result.products_microseconds),
            &format!(
                "{:.2}",
                result.step_microseconds / result.products_microseconds
            ),
            &result.device,
        ]));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learner_s_figures_are_understood() {
        let rows = [
            r#"{"threads":1,"device":"Cpu","updates_per_second":4000.0,"step_microseconds":250.0,
             "products_microseconds":100.0}"#,
            r#"{"threads":2,"device":"Cpu","updates_per_second":2000.0,"step_microseconds":500.0,
             "products_microseconds":100.0}"#,
        ];
        let report = report(rows.map(|row| parse(row).unwrap()).to_vec());
        assert_eq!(report.updates_per_second, 4000.0);
        let line = &table(&report)[1];
        assert_eq!(line[..5], ["1", "4,000", "0.250", "0.100", "2.50"]);
    }
}
