//! A stand-in between actors and the learner: a learner towards the one and an actor towards the
//! other, that tampers with the unrolls on their way.

use std::path::Path;
use std::pin::Pin;

use rookery_proto::v1;
use rookery_proto::v1::collect_request::Kind;
use rookery_proto::v1::learner_client::LearnerClient;
use rookery_proto::v1::learner_server::{Learner, LearnerServer};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::runtime::{block_on, runtime};

/// What becomes of the `n`-th unroll of a stream, counted from 0: what is passed on in its place.
pub type Tamper = fn(n: u64, v1::Unroll) -> Vec<v1::Unroll>;

/// A running relay; it ends when its handle drops.
#[derive(Debug)]
pub struct Relay {
    server: JoinHandle<()>,
}

impl Relay {
    /// Listens at `socket` for actors and connects each of their calls to the learner at `learner`.
    pub fn start(socket: &Path, learner: &Path, tamper: Tamper) -> Self {
        let endpoint = Endpoint::from_shared(format!("unix://{}", learner.display()))
            .expect("the address of a socket");
        let channel = block_on(endpoint.connect()).expect("the learner listens");
        let _guard = runtime().enter();
        let listener = UnixListener::bind(socket).expect("a free socket");
        let between = Between {
            learner: LearnerClient::new(channel),
            tamper,
        };
        let server = runtime().spawn(async move {
            Server::builder()
                .add_service(LearnerServer::new(between))
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await
                .expect("the relay serves");
        });
        Self { server }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Between {
    learner: LearnerClient<Channel>,
    tamper: Tamper,
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Learner for Between {
    type CollectStream = BoxStream<v1::CollectReply>;
    type ParametersStream = BoxStream<v1::ParametersChunk>;

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinReply>, Status> {
        self.learner.clone().join(request.into_inner()).await
    }

    async fn collect(
        &self,
        request: Request<Streaming<v1::CollectRequest>>,
    ) -> Result<Response<Self::CollectStream>, Status> {
        let mut inbound = request.into_inner();
        let tamper = self.tamper;
        let (sender, outgoing) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut count = 0;
            while let Ok(Some(message)) = inbound.message().await {
                let messages = match message.kind {
                    Some(Kind::Unroll(unroll)) => {
                        let unrolls = tamper(count, unroll);
                        count += 1;
                        unrolls.into_iter().map(Kind::Unroll).map(Some).collect()
                    }
                    other => vec![other],
                };
                for kind in messages {
                    if sender.send(v1::CollectRequest { kind }).await.is_err() {
                        return;
                    }
                }
            }
        });
        let replies = self
            .learner
            .clone()
            .collect(ReceiverStream::new(outgoing))
            .await?;
        Ok(Response::new(Box::pin(replies.into_inner())))
    }

    async fn parameters(
        &self,
        request: Request<v1::ParametersRequest>,
    ) -> Result<Response<Self::ParametersStream>, Status> {
        let chunks = self
            .learner
            .clone()
            .parameters(request.into_inner())
            .await?;
        Ok(Response::new(Box::pin(chunks.into_inner())))
    }

    async fn report_evaluation(
        &self,
        request: Request<v1::ReportEvaluationRequest>,
    ) -> Result<Response<v1::ReportEvaluationReply>, Status> {
        self.learner
            .clone()
            .report_evaluation(request.into_inner())
            .await
    }
}
