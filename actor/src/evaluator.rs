//! Measuring a policy apart from training: the deterministic policy in environments of its own,
//! with seeds of their own, counted in raw returns.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use rookery_common::policy::{Inputs, Policy, Workspace};
use rookery_common::seeds::Purpose;
use rookery_common::spaces::EnvironmentSpec;
use rookery_common::wire::Publication;
use rookery_proto::v1;
use serde::{Deserialize, Serialize};

use crate::collector::ActingPolicy;
use crate::environments::{self, EnvironmentError, EnvironmentFault};
use crate::joined::Joined;
use crate::metrics;
use crate::recording::{Episode, Recorder, Scene};
use crate::session::{self, Client, SessionEnd, SessionError, Streams};
use crate::shard::{FinalObservations, Shard, StepRow};

/// What one evaluation found, an entry for each episode.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Sums of raw rewards.
    pub returns: Vec<f64>,
    /// Steps.
    pub lengths: Vec<u32>,
}

impl Evaluation {
    /// Mean return; not a number without an episode.
    #[must_use]
    pub fn mean_return(&self) -> f64 {
        self.returns.iter().sum::<f64>() / self.returns.len() as f64
    }

    /// Standard deviation of the returns.
    #[must_use]
    pub fn standard_deviation(&self) -> f64 {
        let mean = self.mean_return();
        let squares: f64 = self
            .returns
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum();
        (squares / self.returns.len() as f64).sqrt()
    }
}

/// Why an evaluation cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// The environment cannot be made.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// An environment failed.
    #[error(transparent)]
    Fault(#[from] EnvironmentFault),
    /// An episode would never end.
    #[error(
        "{ended} of {episodes} episodes ended within {steps} steps; `{id}` has no time limit that \
         ends them"
    )]
    Endless {
        /// The environment.
        id: String,
        /// Episodes that ended.
        ended: usize,
        /// Episodes asked for.
        episodes: usize,
        /// Steps that were taken in each.
        steps: u32,
    },
}

/// Steps after which an episode without a time limit is given up.
pub(crate) const MAX_STEPS: u32 = 1_000_000;

/// Plays one episode in each of `episodes` environments with the policy's mode.
///
/// Wrappers that are for training alone are left out. Returns are sums of the environment's own
/// rewards, before wrappers changed them.
///
/// Every environment counts once, with its first episode: taking whichever episodes end first
/// would favour short ones.
///
/// # Errors
/// Where the environment cannot be made or an episode does not end.
pub fn evaluate(
    environment: &EnvironmentSpec,
    policy: &Policy,
    episodes: u32,
    seed: u64,
) -> Result<Evaluation, EvaluationError> {
    let num_envs = episodes as usize;
    let bare = environments::make(&environment.id, &environment.arguments, num_envs)?;
    let batch = environments::wrap(bare, &environments::for_evaluation(&environment.wrappers))?;
    let max_steps = batch.spec().max_episode_steps.unwrap_or(MAX_STEPS);
    let mut shard = Shard::new(batch, 0, seed, Purpose::Evaluation)?
        .with_recurrent_state(policy.spec().state_width());
    let mut workspace = Workspace::default();
    let mut observations = vec![0.0; num_envs * environment.observation.width()];
    shard.observe(&mut observations);
    let mut actions = vec![0.0; num_envs * environment.action.width()];
    let mut rewards = vec![0.0; num_envs];
    let mut terminated = vec![0; num_envs];
    let mut truncated = vec![0; num_envs];
    let mut first: Vec<Option<(f64, u32)>> = vec![None; num_envs];
    let mut num_ended = 0;
    for _ in 0..max_steps {
        if num_ended == num_envs {
            break;
        }
        let inputs = Inputs {
            observations: &observations,
            state: shard.recurrent_state(),
        };
        policy.act_greedily(&mut workspace, inputs, &mut actions);
        let mut ended = Vec::new();
        shard.step(
            &actions,
            StepRow {
                next_observations: &mut observations,
                rewards: &mut rewards,
                terminated: &mut terminated,
                truncated: &mut truncated,
                finals: &mut FinalObservations::default(),
                episodes: &mut ended,
            },
        )?;
        for episode in ended {
            let outcome = &mut first[episode.env as usize];
            if outcome.is_none() {
                *outcome = Some((episode.return_, episode.length));
                num_ended += 1;
            }
        }
    }
    if num_ended < num_envs {
        return Err(EvaluationError::Endless {
            id: environment.id.clone(),
            ended: num_ended,
            episodes: num_envs,
            steps: max_steps,
        });
    }
    let (returns, lengths) = first.into_iter().flatten().unzip();
    Ok(Evaluation { returns, lengths })
}

/// Joins as an evaluator and measures versions as training goes on, until the session ends. `recorder`
/// makes pictures of them.
///
/// # Errors
/// Whatever broke the session; [`SessionError::is_permanent`] says whether to try again.
pub async fn serve(
    client: &mut Client,
    environment: &EnvironmentSpec,
    max_message_bytes: usize,
    recorder: &mut Recorder,
    shutdown: impl Future<Output = ()>,
) -> Result<SessionEnd, SessionError> {
    let joined = session::join(
        client,
        v1::Role::Evaluator,
        environment,
        1,
        0,
        max_message_bytes,
    )
    .await?;
    let mut streams = Streams::open(client, &joined).await?;
    tracing::info!(
        session = joined.session,
        run = joined.plan.run_id,
        "joined as evaluator"
    );
    metrics::count_join();
    let mut heartbeat = tokio::time::interval(joined.lease_timeout / 4);
    let mut next_at = 0;
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => {
                streams.leave().await;
                recorder.finish().await;
                return Ok(SessionEnd::ShutDown);
            }
            _ = heartbeat.tick() => streams.heartbeat(HashMap::new()),
            published = streams.parameters.next() => {
                let (publication, version) = published?;
                if joined.evaluation_every_env_steps == 0 || publication.env_steps < next_at {
                    continue;
                }
                next_at = publication.env_steps + joined.evaluation_every_env_steps;
                let evaluation =
                    measure(environment, &version, &joined).await?;
                let first = Episode {
                    seed: joined.plan.seed,
                    index: 0,
                    length: evaluation.lengths.first().copied().unwrap_or(0),
                };
                recorder.evaluated(|| Scene::new(environment, &version, &publication, first));
                report(client, joined.session, &publication, evaluation).await?;
            }
            message = streams.downlink.message() => {
                let kind = message
                    .map_err(|status| SessionError::Rpc { call: "collect", status })?
                    .ok_or(SessionError::Closed("collect"))?
                    .kind;
                if let Some(v1::collect_reply::Kind::Drain(drain)) = kind {
                    recorder.finish().await;
                    return Ok(if drain.finished {
                        SessionEnd::Finished
                    } else {
                        SessionEnd::Drained
                    });
                }
            }
        }
    }
}

/// Evaluates outside the async threads.
async fn measure(
    environment: &EnvironmentSpec,
    version: &Arc<ActingPolicy>,
    joined: &Joined,
) -> Result<Evaluation, SessionError> {
    let environment = environment.clone();
    let version = Arc::clone(version);
    let (episodes, seed) = (joined.evaluation_episodes, joined.plan.seed);
    tokio::task::spawn_blocking(move || evaluate(&environment, &version.policy, episodes, seed))
        .await
        .map_err(|_| SessionError::Panicked)?
        .map_err(SessionError::from)
}

async fn report(
    client: &mut Client,
    session: u64,
    publication: &Publication,
    evaluation: Evaluation,
) -> Result<(), SessionError> {
    tracing::info!(
        version = %publication.version,
        env_steps = publication.env_steps,
        mean_return = evaluation.mean_return(),
        "evaluated"
    );
    metrics::record_evaluation(&evaluation);
    client
        .report_evaluation(v1::ReportEvaluationRequest {
            session,
            version: Some(publication.version.into()),
            env_steps: publication.env_steps,
            returns: evaluation.returns,
            lengths: evaluation.lengths,
        })
        .await
        .map_err(|status| SessionError::Rpc {
            call: "report_evaluation",
            status,
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rookery_common::policy::{Activation, PolicySpec, Recurrent, RecurrentCell};
    use rookery_common::wrappers::{StackPadding, Wrapper};

    use super::*;

    /// A policy for `TMaze-v0` made by hand. Its first unit adds up what the sign shows, +1 for north
    /// and -1 for south; its second one is up at the junction alone.
    fn reader_of_signs(environment: &EnvironmentSpec) -> Policy {
        let (observation, action) = (&environment.observation, &environment.action);
        let spec = PolicySpec::new(observation, action, Vec::new(), Activation::Tanh).unwrap();
        let layer = Recurrent {
            cell: RecurrentCell::Lstm,
            units: 2,
        };
        let spec = spec.with_recurrent(Some(layer)).unwrap();
        let layout = spec.layout();
        let mut parameters = vec![0.0; layout.len()];
        let mut set = |name: &str, values: &[f32]| {
            let tensor = layout.find(&format!("policy.{name}")).unwrap();
            parameters[tensor.range()].copy_from_slice(values);
        };
        let (open, shut) = (20.0, -20.0);
        set(
            "recurrent.weight_ih",
            &[
                [0.0; 12].as_slice(),
                // The candidates are rows 4 and 5 of the gates i, f, g, o.
                &[-5.0, 0.0, 5.0, -5.0, 5.0, -5.0],
                &[0.0; 6],
            ]
            .concat(),
        );
        set(
            "recurrent.bias_ih",
            &[open, open, open, shut, 0.0, 0.0, open, open],
        );
        // North, east, south, west.
        set("head.weight", &[2.0, 10.0, 0.0, 0.0, -2.0, 10.0, 0.0, 0.0]);
        set("head.bias", &[0.0, 3.0, 0.0, -9.0]);
        Policy::new(spec, &parameters, None).unwrap()
    }

    #[test]
    fn t17_a_policy_that_remembers_is_evaluated_with_its_memory() {
        let arguments = [("length".to_owned(), "6".to_owned())].into();
        let maze = environments::make("TMaze-v0", &arguments, 1).unwrap();
        let policy = reader_of_signs(maze.spec());
        let evaluation = evaluate(maze.spec(), &policy, 60, 3).unwrap();
        assert_eq!(evaluation.returns, [4.0; 60]);
        assert_eq!(evaluation.lengths, [7; 60]);
    }

    #[test]
    fn wrappers_for_training_alone_are_left_out_and_returns_are_the_environments() {
        let stack = Wrapper::FrameStack {
            size: 2,
            padding: StackPadding::Reset,
        };
        let limit = |training_only| Wrapper::TimeLimit {
            max_episode_steps: 5,
            training_only,
        };
        let scale = |training_only| Wrapper::ScaleReward {
            factor: 0.5,
            training_only,
        };
        let play = |wrappers: &[Wrapper]| {
            let bare = environments::make("CartPole-v1", &BTreeMap::new(), 1).unwrap();
            let environment = environments::wrap(bare, wrappers).unwrap().spec().clone();
            let (observation, action) = (&environment.observation, &environment.action);
            let spec = PolicySpec::new(observation, action, vec![4], Activation::Tanh).unwrap();
            let policy = Policy::new(spec.clone(), &vec![0.0; spec.layout().len()], None).unwrap();
            evaluate(&environment, &policy, 20, 3).unwrap()
        };
        // Always pushing to one side, a pole stands for about nine steps.
        let for_training = play(&[limit(true), stack.clone(), scale(true)]);
        assert!(for_training.lengths.iter().all(|length| *length > 5));
        let always = play(&[limit(false), stack.clone(), scale(false)]);
        assert_eq!(always.lengths, [5; 20]);
        assert_eq!(always.returns, [5.0; 20]);
        assert_eq!(for_training, play(&[stack]));
        assert!(for_training.mean_return() > 8.0);
    }
}
