//! A session with a learner made by hand: what is said at Join and published is what is acted by,
//! and what makes no sense ends the session with the field named.

#![expect(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

use std::collections::BTreeMap;
use std::pin::Pin;

use rookery_actor::actor::{Actor, ActorRole};
use rookery_actor::environments::{
    self, Arguments, Environment, EnvironmentError, Environments, Step,
};
use rookery_actor::session::{self, SessionEnd, SessionError};
use rookery_common::configuration::{Configuration, SecurityConfiguration};
use rookery_common::policy::exploration::EPSILON;
use rookery_common::policy::{Activation, Exploration, PolicySpec, ValueDistribution};
use rookery_common::security::{Address, ClientSecurity, ServerSecurity};
use rookery_common::seeds::Random;
use rookery_common::spaces::{EnvironmentSpec, Space};
use rookery_common::unroll::{PolicyVersion, UnrollShape};
use rookery_common::wire::{self, Publication, publication_chunks};
use rookery_proto::v1;
use rookery_proto::v1::learner_client::LearnerClient;
use rookery_proto::v1::learner_server::{Learner, LearnerServer};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

const MAX_MESSAGE_BYTES: usize = 1 << 20;

fn environment(id: &str) -> EnvironmentSpec {
    let environment = environments::make(id, &BTreeMap::new(), 1).unwrap();
    environment.spec().clone()
}

fn cart_pole() -> EnvironmentSpec {
    environment("CartPole-v1")
}

fn policy(environment: &EnvironmentSpec) -> PolicySpec {
    PolicySpec::action_values(
        &environment.observation,
        &environment.action,
        vec![8],
        Activation::Relu,
        false,
        ValueDistribution::Expectation,
        false,
    )
    .unwrap()
}

fn join_reply(environment: &EnvironmentSpec) -> v1::JoinReply {
    v1::JoinReply {
        run_id: "run".to_owned(),
        learner_epoch: 1,
        session: 1,
        policy: Some((&policy(environment)).into()),
        seed: 5,
        envs_per_shard: 2,
        unroll_length: 3,
        lag: 0,
        lease_timeout_milliseconds: 60_000,
        evaluation_every_env_steps: 0,
        evaluation_episodes: 1,
        exploration: Some(Exploration::EpsilonGreedy { per_shard: None }.into()),
        max_unacknowledged: None,
    }
}

/// Says and publishes what it was given, leases one shard, and hands on the unrolls that come.
struct Handmade {
    reply: v1::JoinReply,
    num_parameters: usize,
    /// What the actor has said that its environment is.
    joined: mpsc::Sender<v1::JoinRequest>,
    acting: BTreeMap<String, f64>,
    unrolls: mpsc::Sender<v1::Unroll>,
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Learner for Handmade {
    type CollectStream = BoxStream<v1::CollectReply>;
    type ParametersStream = BoxStream<v1::ParametersChunk>;

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinReply>, Status> {
        // Nobody may be listening.
        let _ = self.joined.try_send(request.into_inner());
        Ok(Response::new(self.reply.clone()))
    }

    async fn collect(
        &self,
        request: Request<Streaming<v1::CollectRequest>>,
    ) -> Result<Response<Self::CollectStream>, Status> {
        let mut requests = request.into_inner();
        let unrolls = self.unrolls.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = requests.next().await {
                if let Some(v1::collect_request::Kind::Unroll(unroll)) = message.kind
                    && unrolls.send(unroll).await.is_err()
                {
                    return;
                }
            }
        });
        let lease = v1::CollectReply {
            kind: Some(v1::collect_reply::Kind::Lease(v1::Lease::default())),
        };
        let replies = tokio_stream::once(Ok(lease)).chain(tokio_stream::pending());
        Ok(Response::new(Box::pin(replies)))
    }

    async fn parameters(
        &self,
        _request: Request<v1::ParametersRequest>,
    ) -> Result<Response<Self::ParametersStream>, Status> {
        let publication = Publication {
            version: PolicyVersion {
                learner_epoch: 1,
                version: 0,
            },
            env_steps: 0,
            parameters: vec![0.25; self.num_parameters],
            normaliser: None,
            acting: self.acting.clone(),
        };
        let chunks = tokio_stream::iter(publication_chunks(&publication)).map(Ok);
        Ok(Response::new(Box::pin(
            chunks.chain(tokio_stream::pending()),
        )))
    }

    async fn report_evaluation(
        &self,
        _request: Request<v1::ReportEvaluationRequest>,
    ) -> Result<Response<v1::ReportEvaluationReply>, Status> {
        Ok(Response::new(v1::ReportEvaluationReply {}))
    }
}

/// What reaches a learner, and where it is.
struct Reached {
    address: Address,
    joined: mpsc::Receiver<v1::JoinRequest>,
    unrolls: mpsc::Receiver<v1::Unroll>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Starts a learner of `environment`.
async fn learner(
    reply: v1::JoinReply,
    environment: &EnvironmentSpec,
    acting: &[(&str, f64)],
) -> Reached {
    let (unrolls, received) = mpsc::channel(4);
    let (joined, said) = mpsc::channel(1);
    let acting = acting.iter();
    let learner = Handmade {
        reply,
        num_parameters: policy(environment).layout().len(),
        joined,
        acting: acting
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect(),
        unrolls,
    };
    let security = ServerSecurity::load(&SecurityConfiguration::default()).unwrap();
    let listener = security
        .listen(&Address::tcp("127.0.0.1", 0))
        .await
        .unwrap();
    let address = listener.address().clone();
    let server = security
        .server(&listener)
        .unwrap()
        .add_service(LearnerServer::new(learner))
        .serve_with_incoming(listener);
    Reached {
        address,
        joined: said,
        unrolls: received,
        server: tokio::spawn(server),
    }
}

/// Runs a session until it ends, or until the learner has got an unroll.
async fn session(
    reply: v1::JoinReply,
    acting: &[(&str, f64)],
) -> (Result<SessionEnd, SessionError>, Option<v1::Unroll>) {
    let environment = cart_pole();
    let mut learner = learner(reply, &environment, acting).await;
    let security = ClientSecurity::load(&SecurityConfiguration::default()).unwrap();
    let channel = security.connect(&learner.address).await.unwrap();
    let mut client = LearnerClient::with_interceptor(channel, security.show_token());
    let mut first = None;
    let shutdown = async {
        first = learner.unrolls.recv().await;
    };
    let ended =
        session::collect(&mut client, &environment, 1, 0, MAX_MESSAGE_BYTES, shutdown).await;
    learner.server.abort();
    (ended, first)
}

/// The field of what the learner said and should not have.
fn refused_field(ended: Result<SessionEnd, SessionError>) -> (&'static str, &'static str) {
    let error = ended.unwrap_err();
    assert!(error.is_permanent());
    match error {
        SessionError::Malformed { message, source } => (message, source.field),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn unrolls_are_collected_as_the_version_explores() {
    let (ended, unroll) = session(join_reply(&cart_pole()), &[(EPSILON, 0.5)]).await;
    assert!(matches!(ended, Ok(SessionEnd::ShutDown)), "{ended:?}");
    let shape = UnrollShape {
        unroll_length: 3,
        envs_per_shard: 2,
        observation_width: 4,
        action_width: 1,
        state_width: 0,
        frames: None,
    };
    let unroll = wire::decode_unroll(unroll.unwrap(), &shape).unwrap();
    assert_eq!(unroll.validate(&shape, &cart_pole().action), Ok(()));
    // Equal values: the greedy action is the first.
    for (action, log_prob) in unroll.action.iter().zip(unroll.log_prob.iter()) {
        let probability = if action == 0.0 { 0.75_f32 } else { 0.25 };
        assert!((log_prob - probability.ln()).abs() < 1e-6);
    }
}

#[tokio::test]
async fn a_version_without_its_scalars_ends_the_session() {
    for acting in [&[][..], &[(EPSILON, 1.5)], &[("epsilom", 0.5)]] {
        let (ended, unroll) = session(join_reply(&cart_pole()), acting).await;
        assert_eq!(refused_field(ended), ("parameters", "acting.epsilon"));
        assert_eq!(unroll, None);
    }
}

#[tokio::test]
async fn an_absurd_reply_ends_the_session_before_anything_is_allocated() {
    let mut reply = join_reply(&cart_pole());
    reply.unroll_length = u32::MAX;
    let (ended, _) = session(reply, &[(EPSILON, 0.5)]).await;
    assert_eq!(refused_field(ended), ("join reply", "unroll_length"));
}

/// Shows a number that was drawn, which a step draws again.
struct Dice {
    sides: u32,
}

impl Dice {
    fn new(arguments: &mut Arguments<'_>) -> Result<Self, EnvironmentError> {
        Ok(Self {
            sides: arguments.whole_number("sides", 6, 2..=100)?,
        })
    }

    fn throw(&self, random: &mut Random) -> u32 {
        random.below(self.sides.into()) as u32
    }
}

impl Environment for Dice {
    type State = (u32, Random);

    fn observation_space(&self) -> Space {
        Space::Discrete {
            n: self.sides as usize,
        }
    }

    fn action_space(&self) -> Space {
        Space::Discrete { n: 2 }
    }

    fn reset(&self, mut random: Random) -> Self::State {
        (self.throw(&mut random), random)
    }

    fn step(&self, state: &mut Self::State, _action: &[f32]) -> Step {
        state.0 = self.throw(&mut state.1);
        Step::new(1.0, state.0 == 0)
    }

    fn observe(&self, state: &Self::State, observation: &mut [f32]) {
        observation[0] = state.0 as f32;
    }
}

#[tokio::test]
async fn a_learner_that_has_never_heard_of_it_trains_on_an_environment_of_ones_own() {
    let environments = Environments::default().with("Dice-v0", Dice::new);
    environments.install().unwrap();
    let environment = environment("Dice-v0");
    let mut learner = learner(join_reply(&environment), &environment, &[(EPSILON, 0.5)]).await;
    let mut configuration = Configuration::default();
    configuration.environment.id = "Dice-v0".to_owned();
    configuration.actor.learner = learner.address.clone();
    let actor = Actor::build(configuration, ActorRole::Collector).unwrap();
    let mut first = None;
    actor
        .run(async {
            first = learner.unrolls.recv().await;
        })
        .await
        .unwrap();
    learner.server.abort();
    // The learner is told the spaces by whoever joins.
    let said = learner.joined.recv().await.unwrap().environment.unwrap();
    assert_eq!(EnvironmentSpec::try_from(said).unwrap(), environment);
    let shape = UnrollShape {
        unroll_length: 3,
        envs_per_shard: 2,
        observation_width: 1,
        action_width: 1,
        state_width: 0,
        frames: None,
    };
    let unroll = wire::decode_unroll(first.unwrap(), &shape).unwrap();
    assert_eq!(unroll.validate(&shape, &environment.action), Ok(()));
    assert!(unroll.reward.iter().all(|reward| reward == 1.0));
}
