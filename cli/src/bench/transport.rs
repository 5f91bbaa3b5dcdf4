//! `rookery bench transport`: what the connection between actor and learner carries, without
//! anything at its ends: both in this process, each on a thread of its own.

use std::pin::Pin;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use rookery_common::configuration::SecurityConfiguration;
use rookery_common::security::{Address, ClientSecurity, ServerSecurity};
use rookery_proto::v1;
use rookery_proto::v1::learner_client::LearnerClient;
use rookery_proto::v1::learner_server::{Learner, LearnerServer};
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::{PartArguments, print, row};

/// Bytes of an unroll's largest column.
const SIZES_KIB: [usize; 3] = [64, 256, 1024];
/// Unrolls that may wait for the connection, as in an actor.
const PENDING: usize = 2;
/// Bytes on the wire of one step of CartPole: observation, action, log-probability, reward, flags.
const CART_POLE_STEP_BYTES: f64 = 30.0;

/// Stream unrolls over loopback TCP and a Unix socket
#[derive(Clone, Debug, Args)]
pub(super) struct TransportArguments {
    #[command(flatten)]
    part: PartArguments,
}

#[derive(Debug, Serialize)]
struct Report {
    /// Steps of CartPole that the Unix socket carries in messages of 256 KiB.
    env_steps_per_second: f64,
    results: Vec<Measurement>,
}

#[derive(Clone, Debug, Serialize)]
struct Measurement {
    transport: &'static str,
    /// Of an empty unroll and its ack, the median.
    round_trip_microseconds: f64,
    throughput: Vec<Throughput>,
}

#[derive(Clone, Debug, Serialize)]
struct Throughput {
    message_kib: usize,
    bytes_per_second: f64,
}

pub(super) fn bench(arguments: &TransportArguments) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("rookery-").tempdir()?;
    let socket = Address::Unix(folder.path().join("bench.sock"));
    let places = [("tcp", Address::tcp("127.0.0.1", 0)), ("unix", socket)];
    let time = arguments.part.seconds / (places.len() * (SIZES_KIB.len() + 1)) as u32;
    let mut results = Vec::new();
    for (transport, address) in places {
        results.push(measure(transport, address, time)?);
    }
    let mut table = vec![row([
        "GB/s",
        "tcp",
        "unix socket",
        "reference, tcp / unix socket",
    ])];
    for (index, size) in SIZES_KIB.iter().enumerate() {
        let mut line = vec![format!("messages of {size} KiB")];
        line.extend(
            results
                .iter()
                .map(|result| format!("{:.2}", result.throughput[index].bytes_per_second / 1e9)),
        );
        line.push("1.6-2.3 / 2.4-2.9".to_owned());
        table.push(line);
    }
    let mut line = vec!["round trip, microseconds".to_owned()];
    line.extend(
        results
            .iter()
            .map(|result| format!("{:.0}", result.round_trip_microseconds)),
    );
    line.push("30-66 / 22-67".to_owned());
    table.push(line);
    let carried = results.last().and_then(|result| result.throughput.get(1));
    let report = Report {
        env_steps_per_second: carried.map_or(f64::NAN, |carried| {
            carried.bytes_per_second / CART_POLE_STEP_BYTES
        }),
        results,
    };
    print(&table, &report, arguments.part.json)
}

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start an event loop")
}

fn measure(
    transport: &'static str,
    address: Address,
    time: Duration,
) -> anyhow::Result<Measurement> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (bound, binding) = std::sync::mpsc::sync_channel(1);
    let server = thread::Builder::new()
        .name("learner".to_owned())
        .spawn(move || runtime()?.block_on(serve(address, bound, stopped)))
        .context("cannot start a thread")?;
    // A server that could not listen has dropped its end; joining it says why.
    let measured = binding.recv().ok().map(|address| {
        runtime()?.block_on(async {
            let mut link = Link::open(&address).await?;
            let round_trip_microseconds = link.round_trip(time).await?;
            let mut throughput = Vec::new();
            for message_kib in SIZES_KIB {
                let bytes_per_second = link.throughput(message_kib << 10, time).await?;
                throughput.push(Throughput {
                    message_kib,
                    bytes_per_second,
                });
            }
            anyhow::Ok(Measurement {
                transport,
                round_trip_microseconds,
                throughput,
            })
        })
    });
    drop(stop);
    server
        .join()
        .map_err(|_| anyhow::anyhow!("the server's thread panicked"))??;
    measured.context("the server ended before it listened")?
}

async fn serve(
    address: Address,
    bound: std::sync::mpsc::SyncSender<Address>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let security = ServerSecurity::load(&SecurityConfiguration::default())?;
    let listener = security.listen(&address).await?;
    // Whoever waits for the address holds the other end.
    let _ = bound.send(listener.address().clone());
    security
        .server(&listener)?
        .add_service(LearnerServer::new(Sink))
        .serve_with_incoming_shutdown(listener, async {
            let _ = stopped.await;
        })
        .await
        .context("the service failed")
}

/// A learner that acknowledges unrolls and does nothing with them.
struct Sink;

#[tonic::async_trait]
impl Learner for Sink {
    type CollectStream = Pin<Box<dyn Stream<Item = Result<v1::CollectReply, Status>> + Send>>;
    type ParametersStream = tokio_stream::Empty<Result<v1::ParametersChunk, Status>>;

    async fn join(
        &self,
        _request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinReply>, Status> {
        Err(Status::unimplemented(
            "this learner only acknowledges unrolls",
        ))
    }

    async fn collect(
        &self,
        request: Request<Streaming<v1::CollectRequest>>,
    ) -> Result<Response<Self::CollectStream>, Status> {
        let replies = request.into_inner().map(|message| {
            let index = match message?.kind {
                Some(v1::collect_request::Kind::Unroll(unroll)) => {
                    unroll.key.map_or(0, |key| key.index)
                }
                _ => 0,
            };
            let ack = v1::Ack {
                shard: 0,
                lease_epoch: 0,
                index,
                duplicate: false,
            };
            Ok(v1::CollectReply {
                kind: Some(v1::collect_reply::Kind::Ack(ack)),
            })
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn parameters(
        &self,
        _request: Request<v1::ParametersRequest>,
    ) -> Result<Response<Self::ParametersStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }

    async fn report_evaluation(
        &self,
        _request: Request<v1::ReportEvaluationRequest>,
    ) -> Result<Response<v1::ReportEvaluationReply>, Status> {
        Ok(Response::new(v1::ReportEvaluationReply {}))
    }
}

/// The actor's end of an open stream.
struct Link {
    uplink: mpsc::Sender<v1::CollectRequest>,
    downlink: Streaming<v1::CollectReply>,
    _client: LearnerClient<Channel>,
}

impl Link {
    async fn open(address: &Address) -> anyhow::Result<Self> {
        let security = ClientSecurity::load(&SecurityConfiguration::default())?;
        let mut client = LearnerClient::new(security.connect(address).await?);
        let (uplink, outgoing) = mpsc::channel(PENDING);
        let downlink = client
            .collect(ReceiverStream::new(outgoing))
            .await?
            .into_inner();
        Ok(Self {
            uplink,
            downlink,
            _client: client,
        })
    }

    async fn ack(&mut self) -> anyhow::Result<()> {
        self.downlink
            .message()
            .await?
            .context("the server closed the stream")?;
        Ok(())
    }

    /// Microseconds from an empty unroll to its ack, the median.
    async fn round_trip(&mut self, time: Duration) -> anyhow::Result<f64> {
        let begin = Instant::now();
        let mut times = Vec::new();
        while begin.elapsed() < time {
            let sent = Instant::now();
            self.uplink.send(unroll(&Bytes::new())).await?;
            self.ack().await?;
            times.push(sent.elapsed());
        }
        times.sort_unstable();
        Ok(times
            .get(times.len() / 2)
            .map_or(f64::NAN, |time| 1e6 * time.as_secs_f64()))
    }

    /// Bytes a second of unrolls of this size that are acknowledged.
    async fn throughput(&mut self, num_bytes: usize, time: Duration) -> anyhow::Result<f64> {
        let message = unroll(&Bytes::from(vec![1; num_bytes]));
        let begin = Instant::now();
        let (mut sent, mut acked) = (0_usize, 0_usize);
        while begin.elapsed() < time {
            tokio::select! {
                room = self.uplink.reserve() => {
                    room?.send(message.clone());
                    sent += 1;
                }
                ack = self.downlink.message() => {
                    ack?.context("the server closed the stream")?;
                    acked += 1;
                }
            }
        }
        let bytes_per_second = (acked * num_bytes) as f64 / begin.elapsed().as_secs_f64();
        // The next measurement begins with nothing under way.
        for _ in acked..sent {
            self.ack().await?;
        }
        Ok(bytes_per_second)
    }
}

fn unroll(data: &Bytes) -> v1::CollectRequest {
    let observation = v1::Column {
        element_type: v1::ElementType::F32.into(),
        shape: vec![data.len() as u32 / 4],
        data: data.clone(),
    };
    let unroll = v1::Unroll {
        observation: Some(observation),
        ..v1::Unroll::default()
    };
    v1::CollectRequest {
        kind: Some(v1::collect_request::Kind::Unroll(unroll)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_transports_carry_unrolls() {
        let folder = tempfile::tempdir().unwrap();
        let socket = Address::Unix(folder.path().join("bench.sock"));
        for (name, address) in [("tcp", Address::tcp("127.0.0.1", 0)), ("unix", socket)] {
            let measured = measure(name, address, Duration::from_millis(20)).unwrap();
            assert!(measured.round_trip_microseconds > 0.0);
            assert!(
                measured
                    .throughput
                    .iter()
                    .all(|one| one.bytes_per_second > 0.0)
            );
        }
    }
}
