//! The `Collect` stream: one for each session, unrolls up, leases and answers down.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery_common::unroll::{SessionId, ShardId};
use rookery_proto::v1;
use rookery_proto::v1::collect_request::Kind;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{Admission, BoxStream};
use crate::accounting::{Outcome, Refused};
use crate::diagnosis::CollectorSeconds;
use crate::experience::rollout::QueuedUnroll;
use crate::intake::{Answer, Intake, Strikes};
use crate::metrics;
use crate::queue::Place;
use crate::run::{Event, Run};

/// How long a fresh stream may take to say whose it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// An unroll larger than this is checked outside the async threads: at about 5 GB/s, 500
/// microseconds.
const LARGE_UNROLL_BYTES: usize = 2 << 20;

/// Attaches the stream to its session and serves it in a task of its own.
pub(super) async fn open(
    run: Arc<Run>,
    admission: watch::Receiver<Admission>,
    mut inbound: Streaming<v1::CollectRequest>,
) -> Result<Response<BoxStream<v1::CollectReply>>, Status> {
    let hello = tokio::time::timeout(HELLO_TIMEOUT, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no `hello` came on the stream"))??;
    let Some(v1::CollectRequest {
        kind: Some(Kind::Hello(hello)),
    }) = hello
    else {
        return Err(Status::invalid_argument(
            "the first message of a stream must be `hello`",
        ));
    };
    let session = SessionId(hello.session);
    let specification = run
        .specification
        .get()
        .ok_or_else(|| Status::failed_precondition("join before opening a stream"))?;
    let intake = Intake::new(
        specification.contract.clone(),
        Arc::clone(&run.fleet),
        Arc::clone(&run.accounting),
    );
    let outgoing = {
        let mut fleet = run.fleet();
        let (outbox, outgoing) = mpsc::channel(fleet.outbox_capacity());
        if !fleet.attach(session, outbox) {
            return Err(Status::not_found(format!(
                "session {session} is unknown or has a stream already; join again"
            )));
        }
        outgoing
    };
    tokio::spawn(async move {
        let connection = Connection {
            run,
            intake,
            session,
            strikes: Strikes::new(session),
            admission,
        };
        connection.serve(inbound).await;
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
}

struct Connection {
    run: Arc<Run>,
    intake: Intake,
    session: SessionId,
    strikes: Strikes,
    admission: watch::Receiver<Admission>,
}

impl Connection {
    /// Reads the stream to its end, whatever ends it, and closes the session.
    async fn serve(mut self, mut inbound: Streaming<v1::CollectRequest>) {
        let timeout = self.run.settings.lease_timeout;
        let session = self.session.0;
        loop {
            let message = tokio::select! {
                message = tokio::time::timeout(timeout, inbound.message()) => message,
                // The drain message went to every outbox; what still comes is not admitted.
                _ = self.admission.wait_for(|admission| *admission != Admission::Open) => break,
            };
            match message {
                Ok(Ok(Some(v1::CollectRequest {
                    kind: Some(Kind::Unroll(unroll)),
                }))) => {
                    if !self.receive(unroll).await {
                        break;
                    }
                }
                Ok(Ok(Some(v1::CollectRequest {
                    kind: Some(Kind::Heartbeat(heartbeat)),
                }))) => {
                    let seconds = CollectorSeconds::reported(&heartbeat.stage_seconds);
                    self.run.fleet().report(self.session, seconds);
                }
                Ok(Ok(Some(v1::CollectRequest {
                    kind: Some(Kind::Leave(_)),
                }))) => {
                    tracing::info!(session, "actor left");
                    break;
                }
                Ok(Ok(Some(v1::CollectRequest {
                    kind: Some(Kind::Hello(_)) | None,
                }))) => {
                    self.expel(Status::invalid_argument(
                        "expected an unroll, heartbeat or leave",
                    ));
                    break;
                }
                Ok(Ok(None)) => {
                    tracing::info!(session, "actor closed its stream");
                    break;
                }
                Ok(Err(status)) => {
                    let (code, reason) = (status.code(), status.message());
                    tracing::warn!(session, ?code, reason, "lost an actor");
                    match status.code() {
                        // Larger than the limit, which the status names.
                        tonic::Code::OutOfRange => self.expel(status),
                        tonic::Code::Internal => self.expel(Status::invalid_argument(format!(
                            "a message cannot be read: {}",
                            status.message()
                        ))),
                        // Nobody is left to tell.
                        _ => {}
                    }
                    break;
                }
                Err(_) => {
                    tracing::warn!(session, ?timeout, "actor is silent, its leases are over");
                    self.expel(Status::deadline_exceeded(format!(
                        "nothing was heard for {timeout:?}; join again"
                    )));
                    break;
                }
            }
        }
        self.run.fleet().close(self.session);
    }

    /// Handles one unroll; `false` ends the session.
    async fn receive(&mut self, message: v1::Unroll) -> bool {
        let num_bytes = prost::Message::encoded_len(&message);
        metrics::count_received_bytes(num_bytes as u64);
        let Some(place) = self.place(num_bytes as u64).await else {
            return false;
        };
        let answer = if num_bytes > LARGE_UNROLL_BYTES {
            tokio::task::block_in_place(|| self.intake.receive(self.session, message))
        } else {
            self.intake.receive(self.session, message)
        };
        let reply = match answer {
            Answer::Acknowledged(ack, admitted) => {
                if let Some(admitted) = admitted {
                    let queued = QueuedUnroll {
                        update: admitted.update,
                        unroll: *admitted.unroll,
                        admitted_at: Instant::now(),
                        place,
                    };
                    let event = Event::Unroll(Box::new(queued));
                    if self.run.events.send(event).await.is_err() {
                        // The compute thread is done. The actor is about to be told so, and must
                        // not lose its stream before.
                        return true;
                    }
                }
                v1::collect_reply::Kind::Ack(ack)
            }
            Answer::Refused { refusal, reason } => {
                log_refusal(self.session, &refusal, reason);
                let is_malformed = reason.outcome() == Outcome::Invalid;
                if is_malformed && let Some(reason) = self.strikes.strike(&refusal) {
                    self.expel(Status::invalid_argument(reason));
                    return false;
                }
                let mut fleet = self.run.fleet();
                let shard = ShardId(refusal.shard);
                fleet.reply(self.session, v1::collect_reply::Kind::Refusal(refusal));
                if is_malformed || reason == Refused::TooOld {
                    fleet.restart(self.session, shard);
                }
                return true;
            }
        };
        self.run.fleet().reply(self.session, reply);
        true
    }

    /// Waits for room in the queue. Meanwhile nothing is read from the stream, so that flow control
    /// holds up the sender and with it its environments; nor is its silence counted, since what it
    /// says is not heard. `None` where the actor has gone or the learner is going.
    async fn place(&mut self, num_bytes: u64) -> Option<Place> {
        if let Some(place) = self.run.queue.try_place(num_bytes) {
            return Some(place);
        }
        let outbox = self.run.fleet().outbox(self.session)?;
        let waiting_since = Instant::now();
        let place = tokio::select! {
            place = self.run.queue.place(num_bytes) => Some(place),
            () = outbox.closed() => {
                tracing::info!(session = self.session.0, "actor went while its unroll waited");
                None
            }
            _ = self.admission.wait_for(|admission| *admission != Admission::Open) => None,
        };
        self.run.queue.note_wait(waiting_since.elapsed());
        place
    }

    fn expel(&self, status: Status) {
        self.run.fleet().expel(self.session, status);
    }
}

/// Says what was refused: quietly where it is the ordinary end of a lease whose shard somebody else
/// has taken over.
fn log_refusal(session: SessionId, refusal: &v1::Refusal, why: Refused) {
    let v1::Refusal {
        shard,
        index,
        message: detail,
        ..
    } = refusal;
    let reason = refusal.reason().as_str_name();
    if matches!(why, Refused::Stale | Refused::TooOld) {
        tracing::debug!(
            session = session.0,
            shard,
            index,
            reason,
            detail,
            "refused an unroll"
        );
    } else {
        tracing::warn!(
            session = session.0,
            shard,
            index,
            reason,
            detail,
            "refused an unroll"
        );
    }
}
