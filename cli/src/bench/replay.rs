//! `rookery bench replay`: the replay store, measured by the learner's program.

use std::process::Command;

use anyhow::Context as _;
use clap::Args;
use rookery_common::exit::Exit;
use serde::{Deserialize, Serialize};

use super::{PartArguments, millions, print, row};
use crate::children::Programs;
use crate::failure::Failure;
use crate::format;

/// Settings that the learner measures one after the other.
const NUM_SETTINGS: f64 = 4.0;

/// Time a full replay store of a million transitions on one core
///
/// Batches of 256 transitions of CartPole's and Pendulum's size, drawn uniformly and by priority;
/// insertion, memory and snapshots.
#[derive(Clone, Debug, Args)]
pub(super) struct ReplayArguments {
    #[command(flatten)]
    part: PartArguments,
}

/// What `rookery-learner bench-replay` prints.
#[derive(Debug, Deserialize, Serialize)]
struct Measured {
    rows: Vec<Row>,
}

/// One setting.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Row {
    transitions_of: String,
    prioritised: bool,
    transitions: u64,
    sample_microseconds: f64,
    update_priorities_microseconds: f64,
    inserts_per_second: f64,
    bytes_per_transition: f64,
    snapshot_milliseconds: f64,
    insert_after_snapshot_milliseconds: f64,
    write_milliseconds: f64,
    restore_milliseconds: f64,
}

pub(super) fn bench(arguments: &ReplayArguments) -> anyhow::Result<()> {
    let program = Programs::locate()?.learner()?;
    let seconds = arguments.part.seconds.as_secs_f64() / NUM_SETTINGS;
    let output = Command::new(&program)
        .args(["bench-replay", "--seconds", &seconds.to_string()])
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let message = format!(
            "{} bench-replay failed: {}",
            program.display(),
            errors.trim()
        );
        return Err(Failure::new(Exit::Internal, message).into());
    }
    let measured = parse(&String::from_utf8_lossy(&output.stdout))?;
    print(&table(&measured), &measured, arguments.part.json)
}

fn parse(text: &str) -> anyhow::Result<Measured> {
    serde_json::from_str(text)
        .with_context(|| format!("cannot understand what bench-replay printed: {text:?}"))
}

fn table(measured: &Measured) -> Vec<Vec<String>> {
    let mut table = vec![row([
        "transitions",
        "of",
        "drawn",
        "sample 256, us",
        "priorities, us",
        "inserts/s",
        "bytes each",
        "snapshot, ms",
        "insert after, ms",
        "write, ms",
        "restore, ms",
    ])];
    for row in &measured.rows {
        let one = |value: f64| format!("{value:.1}");
        let drawn = if row.prioritised {
            "by priority"
        } else {
            "uniformly"
        };
        table.push(vec![
            format::grouped(row.transitions),
            row.transitions_of.clone(),
            drawn.to_owned(),
            one(row.sample_microseconds),
            one(row.update_priorities_microseconds),
            millions(row.inserts_per_second),
            one(row.bytes_per_transition),
            format!("{:.2}", row.snapshot_milliseconds),
            format!("{:.2}", row.insert_after_snapshot_milliseconds),
            one(row.write_milliseconds),
            one(row.restore_milliseconds),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learner_s_figures_are_understood() {
        let text = r#"{"rows":[{"transitions_of":"Pendulum-v1","prioritised":true,
            "transitions":995000,"sample_microseconds":40.25,
            "update_priorities_microseconds":30.0,"inserts_per_second":5250000.0,
            "bytes_per_transition":24.1,"snapshot_milliseconds":2.5,
            "insert_after_snapshot_milliseconds":0.5,"write_milliseconds":30.0,
            "restore_milliseconds":50.0}]}"#;
        let measured = parse(text).unwrap();
        let line = &table(&measured)[1];
        assert_eq!(
            line[..7],
            [
                "995,000",
                "Pendulum-v1",
                "by priority",
                "40.2",
                "30.0",
                "5.25 M",
                "24.1"
            ]
        );
        assert!(parse("nothing").is_err());
    }
}
