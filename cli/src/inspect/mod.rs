//! `rookery inspect`: what a policy of a small environment knows, readable at a glance.

mod draw;
mod knowledge;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use rookery_common::configuration::Configuration;
use rookery_common::policy::PolicyArtifact;
use serde::Serialize;

use self::knowledge::{Knowledge, Quantity};
use crate::digest::read_parameters;
use crate::evaluate::read_policy;
use crate::format;
use crate::run_directory::{Checkpoint, RunDirectory};

/// Print the values and preferences of a policy in a small environment
///
/// FrozenLake and GridWorld are drawn as their grids, with what every cell is worth and where the
/// policy goes from it; other environments with discrete observations are listed. Action values come
/// from tables and DQN, probabilities from policies that draw their actions; an actor-critic's values
/// from the critic in the newest checkpoint.
#[derive(Clone, Debug, Args)]
pub(crate) struct InspectArguments {
    /// The run's folder
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
    /// Which of the run's policies
    #[arg(long, value_enum, default_value_t)]
    checkpoint: Checkpoint,
    /// Print the number of every action too
    #[arg(long)]
    table: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// Prints.
///
/// # Errors
/// Where the run cannot be read or its environment cannot be listed.
pub(crate) fn inspect(arguments: &InspectArguments) -> anyhow::Result<()> {
    let run = RunDirectory::existing(&arguments.run)?;
    let configuration = run.read_configuration()?;
    let artifact = read_policy(&run.policy_file(arguments.checkpoint))?;
    // The best policy is kept without its critic.
    let learnt = match arguments.checkpoint {
        Checkpoint::Latest => Some(read_parameters(&run.learner_file())?),
        Checkpoint::Best => None,
    };
    let knowledge = Knowledge::of(&artifact, &configuration, learnt.as_deref())?;
    let title = title(&artifact, &configuration, arguments.checkpoint);
    print!("{}", describe(&title, &knowledge, arguments.table));
    if arguments.json {
        let report = report(
            &run,
            arguments.checkpoint,
            &configuration,
            &artifact,
            &knowledge,
        );
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

fn title(
    artifact: &PolicyArtifact,
    configuration: &Configuration,
    checkpoint: Checkpoint,
) -> String {
    format!(
        "{}: {} policy of {} after {} steps",
        artifact.environment.id,
        checkpoint.name(),
        configuration.run.algorithm.name(),
        format::grouped(artifact.env_steps),
    )
}

/// The report for people.
fn describe(title: &str, knowledge: &Knowledge, with_table: bool) -> String {
    let has_values = knowledge.places.iter().any(|place| place.value.is_some());
    let (actions, values) = match (knowledge.quantity, has_values) {
        (Quantity::ActionValues, _) => ("action values", "the best action's value"),
        (Quantity::ActionProbabilities, true) => ("action probabilities", "the critic's value"),
        (Quantity::ActionProbabilities, false) => ("action probabilities", "no value is known"),
    };
    let legend = format!("{actions}, and {values}");
    let table = draw::table(knowledge);
    let Some(grid) = &knowledge.grid else {
        return format!("{title}\n{legend}\n{table}");
    };
    let below = match knowledge.quantity {
        Quantity::ActionValues => "the best action",
        Quantity::ActionProbabilities => "the most probable action and its probability",
    };
    let mut text = format!(
        "{title}\neach cell: {values}; below it {below}\n\
         S start, H hole, G goal, · no action preferred\n\n{}",
        draw::map(grid, knowledge)
    );
    if with_table {
        text = format!("{text}\n{legend}\n{table}");
    }
    text
}

/// The report for programs.
#[derive(Debug, Serialize)]
struct Report {
    run_dir: PathBuf,
    checkpoint: &'static str,
    environment: String,
    arguments: BTreeMap<String, String>,
    algorithm: &'static str,
    version: u64,
    env_steps: u64,
    quantity: Quantity,
    actions: Vec<String>,
    num_columns: Option<usize>,
    places: Vec<PlaceReport>,
}

/// One place in it.
#[derive(Debug, Serialize)]
struct PlaceReport {
    observation: Vec<f32>,
    kind: Option<&'static str>,
    value: Option<f64>,
    preferred: Option<usize>,
    actions: Vec<f64>,
}

fn report(
    run: &RunDirectory,
    checkpoint: Checkpoint,
    configuration: &Configuration,
    artifact: &PolicyArtifact,
    knowledge: &Knowledge,
) -> Report {
    let grid = knowledge.grid.as_ref();
    let num_actions = knowledge
        .places
        .first()
        .map_or(0, |place| place.actions.len());
    let place = |(index, place): (usize, &knowledge::Place)| PlaceReport {
        observation: place.observation.clone(),
        kind: grid.map(|grid| grid.cells[index].kind.name()),
        value: place.value,
        preferred: place.preferred(),
        actions: place.actions.clone(),
    };
    Report {
        run_dir: run.path().to_owned(),
        checkpoint: checkpoint.name(),
        environment: artifact.environment.id.clone(),
        arguments: artifact.environment.arguments.clone(),
        algorithm: configuration.run.algorithm.name(),
        version: artifact.version,
        env_steps: artifact.env_steps,
        quantity: knowledge.quantity,
        actions: (0..num_actions)
            .map(|action| draw::action_name(grid, action))
            .collect(),
        num_columns: grid.map(|grid| grid.num_columns),
        places: knowledge.places.iter().enumerate().map(place).collect(),
    }
}

#[cfg(test)]
mod tests;
