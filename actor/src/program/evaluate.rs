//! `rookery-actor evaluate`: plays a policy's file, in whatever environment this program knows.

use rookery_common::policy::PolicyArtifact;

use super::arguments::EvaluateArguments;
use crate::environments::hosted;
use crate::evaluator;
use crate::recording::Order;

/// Plays and prints.
///
/// # Errors
/// Where the configuration is unsound, the policy or its environment cannot be made, or an episode does
/// not end.
pub(super) fn evaluate(arguments: &EvaluateArguments) -> anyhow::Result<()> {
    let configuration = arguments.configuration.layers().build()?;
    hosted::configure(&configuration.actor.host);
    let artifact = PolicyArtifact::read(&arguments.policy)?;
    let policy = artifact.policy()?;
    let episodes = arguments.episodes;
    let episodes = episodes.unwrap_or(configuration.evaluation.episodes);
    let seed = arguments.seed.unwrap_or(configuration.run.seed);
    let environment = &artifact.environment;
    let record = arguments.record.as_deref();
    let order = record
        .map(|path| Order::new(path, arguments.record_episodes, episodes, environment))
        .transpose()?;
    let evaluation = evaluator::evaluate(environment, &policy, episodes, seed)?;
    if let Some(order) = order {
        order.carry_out(environment, &policy, seed, &evaluation)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&evaluation)?);
    } else {
        println!(
            "{}: mean return {} with standard deviation {}, {episodes} episodes, seed {seed}",
            artifact.environment.id,
            evaluation.mean_return(),
            evaluation.standard_deviation(),
        );
    }
    Ok(())
}
