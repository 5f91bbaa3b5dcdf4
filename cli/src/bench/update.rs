//! `rookery bench update`: milliseconds a gradient step, measured by the learner's program.

use std::process::Command;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::{PartArguments, print, row};
use crate::children::Programs;
use crate::failure::Failure;
use crate::format;
use rookery_common::exit::Exit;

/// What the development machine reaches with one thread and autograd, in milliseconds.
const REFERENCE: [(u64, &str); 4] = [(64, "0.58"), (256, "0.73"), (1024, "2.1"), (16_384, "25")];

/// Time PPO's gradient step in libtorch, separate 64x64 networks
#[derive(Clone, Debug, Args)]
pub(super) struct UpdateArguments {
    #[command(flatten)]
    part: PartArguments,
}

pub(super) fn bench(arguments: &UpdateArguments) -> anyhow::Result<()> {
    let program = Programs::locate()?.learner()?;
    let output = Command::new(&program)
        .args(["bench-update", "--seconds", &arguments.part.seconds.as_secs_f64().to_string()])
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        let message = format!(
            "{} bench-update failed: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        return Err(Failure::new(Exit::Internal, message).into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let report: Value = serde_json::from_str(last)
        .with_context(|| format!("cannot understand what bench-update printed: {last:?}"))?;
    print(&table(&report), &report, arguments.part.json)
}

/// A line for each setting: whatever was reported of it, and the reference.
fn table(report: &Value) -> Vec<Vec<String>> {
    let empty = Vec::new();
    let results = report["results"].as_array().unwrap_or(&empty);
    let mut table = vec![row(["minibatch", "ms/step", "rows/s", "reference, ms/step"])];
    for result in results {
        let minibatch = result["minibatch"].as_u64().unwrap_or_default();
        let milliseconds = result["milliseconds"].as_f64().unwrap_or(f64::NAN);
        let reference = REFERENCE.iter().find(|(size, _)| *size == minibatch);
        table.push(row([
            &format::grouped(minibatch),
            &format!("{milliseconds:.3}"),
            &format::rate(minibatch as f64 / milliseconds * 1e3),
            reference.map_or("", |(_, text)| text),
        ]));
    }
    table
}
