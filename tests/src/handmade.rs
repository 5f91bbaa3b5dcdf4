//! An actor that is written by hand: it says what the test has it say, sound or not.

use std::path::Path;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use rookery_proto::v1::collect_reply::Kind;
use rookery_proto::v1::collect_request;
use rookery_proto::v1::learner_client::LearnerClient;
use rookery_proto::{PROTOCOL_VERSION, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::runtime::block_on;

/// Enough for an answer, little enough to fail a test in time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection that joins and opens streams as it is told to.
#[derive(Clone, Debug)]
pub struct Handmade {
    channel: Channel,
}

/// What an actor of `CartPole-v1` says about itself.
pub fn cart_pole() -> v1::JoinRequest {
    let angle = (24.0 * 2.0 * std::f64::consts::PI / 360.0) as f32;
    let high = vec![4.8, f32::INFINITY, angle, f32::INFINITY];
    let observation = v1::BoxSpace {
        shape: vec![4],
        low: high.iter().map(|bound| -bound).collect(),
        high,
    };
    v1::JoinRequest {
        protocol_version: PROTOCOL_VERSION,
        software_version: "handmade".to_owned(),
        role: v1::Role::Collector.into(),
        environment: Some(v1::EnvironmentSpec {
            id: "CartPole-v1".to_owned(),
            arguments: std::collections::HashMap::new(),
            observation: Some(v1::Space {
                kind: Some(v1::space::Kind::Box(observation)),
            }),
            action: Some(v1::Space {
                kind: Some(v1::space::Kind::Discrete(v1::DiscreteSpace { n: 2 })),
            }),
            max_episode_steps: Some(500),
            goal: None,
            wrappers: Vec::new(),
            action_mask: false,
        }),
        num_threads: 1,
        max_shards: 0,
        name: "handmade".to_owned(),
    }
}

/// The next unroll of a lease, well formed, of an environment that never moves. Nobody but a test
/// that means to spoil its run may send it as it is.
pub fn unroll(joined: &v1::JoinReply, lease: &v1::Lease) -> v1::Unroll {
    let (t, b) = (joined.unroll_length, joined.envs_per_shard);
    let observation_width = 4;
    let column = |element: v1::ElementType, bytes: usize, shape: &[u32]| {
        let elements: usize = shape.iter().map(|extent| *extent as usize).product();
        Some(v1::Column {
            element_type: element.into(),
            shape: shape.to_vec(),
            data: Bytes::from(vec![0; elements * bytes]),
        })
    };
    v1::Unroll {
        key: Some(v1::UnrollKey {
            run_id: joined.run_id.clone(),
            shard: lease.shard,
            lease_epoch: lease.epoch,
            index: lease.next_index,
        }),
        version: Some(v1::PolicyVersion {
            learner_epoch: joined.learner_epoch,
            version: lease.next_index.saturating_sub(u64::from(joined.lag)),
        }),
        observation: column(v1::ElementType::F32, 4, &[t + 1, b, observation_width]),
        action: column(v1::ElementType::F32, 4, &[t, b, 1]),
        log_prob: column(v1::ElementType::F32, 4, &[t, b]),
        reward: column(v1::ElementType::F32, 4, &[t, b]),
        terminated: column(v1::ElementType::U8, 1, &[t, b]),
        truncated: column(v1::ElementType::U8, 1, &[t, b]),
        final_index: column(v1::ElementType::U32, 4, &[0]),
        final_observation: column(v1::ElementType::F32, 4, &[0, observation_width]),
        episode_index: column(v1::ElementType::U32, 4, &[0]),
        episode_return: column(v1::ElementType::F64, 8, &[0]),
        episode_length: column(v1::ElementType::U32, 4, &[0]),
        state_after: Bytes::new(),
        discontinuity: None,
        initial_state: None,
    }
}

impl Handmade {
    /// Connects to the learner at a Unix socket.
    pub fn connect(socket: &Path) -> Self {
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))
            .expect("the address of a socket");
        let channel = block_on(endpoint.connect()).expect("the learner listens");
        Self { channel }
    }

    fn client(&self) -> LearnerClient<Channel> {
        LearnerClient::new(self.channel.clone())
    }

    /// Joins.
    ///
    /// # Errors
    /// The learner's.
    pub fn join(&self, request: v1::JoinRequest) -> Result<v1::JoinReply, Status> {
        block_on(self.client().join(request)).map(tonic::Response::into_inner)
    }

    /// Reports an evaluation.
    ///
    /// # Errors
    /// The learner's.
    pub fn report(&self, report: v1::ReportEvaluationRequest) -> Result<(), Status> {
        block_on(self.client().report_evaluation(report)).map(drop)
    }

    /// Opens the stream of parameters.
    ///
    /// # Errors
    /// The learner's.
    pub fn parameters(&self, session: u64) -> Result<(), Status> {
        block_on(self.client().parameters(v1::ParametersRequest { session })).map(drop)
    }

    /// Opens a stream with `first` as its first message.
    ///
    /// # Errors
    /// The learner's.
    pub fn open(&self, first: collect_request::Kind) -> Result<Stream, Status> {
        let (requests, outgoing) = mpsc::channel(64);
        let first = v1::CollectRequest { kind: Some(first) };
        requests.try_send(first).expect("an empty channel has room");
        let replies = block_on(self.client().collect(ReceiverStream::new(outgoing)))?;
        Ok(Stream {
            requests,
            replies: replies.into_inner(),
        })
    }

    /// Joins as a sound actor of `CartPole-v1` would and opens its stream.
    pub fn session(&self) -> (v1::JoinReply, Stream) {
        let joined = self.join(cart_pole()).expect("a sound actor may join");
        let hello = v1::Hello {
            session: joined.session,
        };
        let stream = self
            .open(collect_request::Kind::Hello(hello))
            .expect("it has a stream");
        (joined, stream)
    }

    /// Opens a session's stream and sends bytes that are no message.
    ///
    /// # Errors
    /// What the learner ends the stream with.
    pub fn send_garbage(&self, garbage: &'static [u8]) -> Result<(), Status> {
        let session = self
            .join(cart_pole())
            .expect("a sound actor may join")
            .session;
        let hello = v1::CollectRequest {
            kind: Some(collect_request::Kind::Hello(v1::Hello { session })),
        };
        let hello = Bytes::from(prost::Message::encode_to_vec(&hello));
        let messages = tokio_stream::iter([hello, Bytes::from_static(garbage)]);
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        block_on(async {
            grpc.ready().await.expect("a connection");
            let path = PathAndQuery::from_static("/rookery.v1.Learner/Collect");
            let request = tonic::Request::new(messages);
            let mut replies = grpc.streaming(request, path, RawCodec).await?.into_inner();
            while replies.message().await?.is_some() {}
            Ok(())
        })
    }
}

/// An open stream.
#[derive(Debug)]
pub struct Stream {
    requests: mpsc::Sender<v1::CollectRequest>,
    replies: Streaming<v1::CollectReply>,
}

impl Stream {
    /// Sends a message.
    pub fn send(&self, kind: collect_request::Kind) {
        let message = v1::CollectRequest { kind: Some(kind) };
        self.requests
            .try_send(message)
            .expect("nobody fills the stream");
    }

    /// Sends an unroll.
    pub fn send_unroll(&self, unroll: v1::Unroll) {
        self.send(collect_request::Kind::Unroll(unroll));
    }

    /// The learner's next message; `None` where it has closed the stream.
    ///
    /// # Errors
    /// What it ended the stream with.
    pub fn receive(&mut self) -> Result<Option<Kind>, Status> {
        let message = async { tokio::time::timeout(PATIENCE, self.replies.message()).await };
        let message = block_on(message).expect("the learner says something");
        Ok(message?.and_then(|message| message.kind))
    }

    /// The learner's next message, which must be there.
    pub fn expect_next(&mut self) -> Kind {
        let next = self
            .receive()
            .unwrap_or_else(|status| panic!("the stream ended: {status}"));
        next.expect("the stream is open")
    }

    /// The next message, which must be a lease.
    pub fn expect_lease(&mut self) -> v1::Lease {
        match self.expect_next() {
            Kind::Lease(lease) => lease,
            other => panic!("expected a lease, got {other:?}"),
        }
    }

    /// The next message, which must be a refusal.
    pub fn expect_refusal(&mut self) -> v1::Refusal {
        match self.expect_next() {
            Kind::Refusal(refusal) => refusal,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    /// What the learner ends the stream with; leases and the like on the way are passed over.
    pub fn expect_end(&mut self) -> Status {
        loop {
            match self.receive() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream was closed without a word"),
                Err(status) => return status,
            }
        }
    }
}

/// Sends bytes as they are, and reads replies as they should be.
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = v1::CollectReply;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = v1::CollectReply;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let reply = prost::Message::decode(buffer);
        reply
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}
