//! The learner's `Control` service, asked over its socket.

use std::time::Duration;

use rookery_common::configuration::SecurityConfiguration;
use rookery_common::exit::Exit;
use rookery_common::security::ShowToken;
use rookery_common::security::{Address, ClientSecurity, SecurityError};
use rookery_proto::v1::control_client::ControlClient;
use rookery_proto::v1::{PauseRequest, ResumeRequest, StatusReply, StatusRequest};
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

/// Time in which a learner that is there answers.
const PATIENCE: Duration = Duration::from_secs(2);

type Client = ControlClient<InterceptedService<Channel, ShowToken>>;

/// A connection to a learner, made when it is first needed and again when it breaks.
#[derive(Debug)]
pub(crate) struct Control {
    security: ClientSecurity,
    address: Address,
    channel: Option<Channel>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// Nobody listens, or settings keep the connection from being made.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The learner, or whatever listens there, has refused.
    #[error("{} ({:?})", .0.message(), .0.code())]
    Refused(Box<tonic::Status>),
    /// Somebody listens and says nothing.
    #[error("no answer within {PATIENCE:?}")]
    Silent,
}

impl ControlError {
    /// How a process that gives up on this ends.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Security(error) => error.exit(),
            Self::Refused(status) => match status.code() {
                Code::Unauthenticated | Code::PermissionDenied => Exit::NotPermitted,
                _ => Exit::Unavailable,
            },
            Self::Silent => Exit::Unavailable,
        }
    }
}

impl From<tonic::Status> for ControlError {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl Control {
    /// Prepares to ask the learner at `address`.
    ///
    /// # Errors
    /// Where token or certificates are unsound.
    pub(crate) fn new(address: Address, security: &SecurityConfiguration) -> anyhow::Result<Self> {
        Ok(Self {
            security: ClientSecurity::load(security)?,
            address,
            channel: None,
        })
    }

    /// Where it asks.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Where training stands.
    ///
    /// # Errors
    /// Where no learner answers, as before it listens and after it has ended.
    pub(crate) async fn status(&mut self) -> Result<StatusReply, ControlError> {
        self.ask(async |mut client| Ok(client.status(StatusRequest {}).await?.into_inner()))
            .await
    }

    /// Has training rest after the round in work, or go on.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub(crate) async fn pause(&mut self, is_paused: bool) -> Result<(), ControlError> {
        self.ask(async |mut client| {
            if is_paused {
                client.pause(PauseRequest {}).await?;
            } else {
                client.resume(ResumeRequest {}).await?;
            }
            Ok(())
        })
        .await
    }

    async fn ask<T>(
        &mut self,
        call: impl AsyncFnOnce(Client) -> Result<T, tonic::Status>,
    ) -> Result<T, ControlError> {
        let asked = tokio::time::timeout(PATIENCE, async {
            let client = self.client().await?;
            Ok(call(client).await?)
        });
        let answered = asked.await.unwrap_or(Err(ControlError::Silent));
        if answered.is_err() {
            self.channel = None;
        }
        answered
    }

    async fn client(&mut self) -> Result<Client, SecurityError> {
        let channel = if let Some(channel) = &self.channel {
            channel.clone()
        } else {
            let channel = self.security.connect(&self.address).await?;
            self.channel.insert(channel).clone()
        };
        let token = self.security.show_token();
        Ok(ControlClient::with_interceptor(channel, token))
    }
}
