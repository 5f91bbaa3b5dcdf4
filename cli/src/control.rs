//! The learner's `Control` service, asked over its socket.

use std::time::Duration;

use rookery_common::configuration::SecurityConfiguration;
use rookery_common::security::{Address, ClientSecurity};
use rookery_proto::v1::control_client::ControlClient;
use rookery_proto::v1::{StatusReply, StatusRequest};
use tonic::transport::Channel;

/// Time in which a learner that is there answers.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection to a learner, made when it is first needed and again when it breaks.
#[derive(Debug)]
pub(crate) struct Control {
    security: ClientSecurity,
    address: Address,
    channel: Option<Channel>,
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

    /// Where training stands; `None` where no learner answers, as before it listens and after it
    /// has ended.
    pub(crate) async fn status(&mut self) -> Option<StatusReply> {
        let answered = tokio::time::timeout(PATIENCE, self.ask())
            .await
            .ok()
            .flatten();
        if answered.is_none() {
            self.channel = None;
        }
        answered
    }

    async fn ask(&mut self) -> Option<StatusReply> {
        let channel = if let Some(channel) = &self.channel {
            channel.clone()
        } else {
            let channel = self.security.connect(&self.address).await.ok()?;
            self.channel.insert(channel).clone()
        };
        let mut client = ControlClient::with_interceptor(channel, self.security.show_token());
        client
            .status(StatusRequest {})
            .await
            .ok()
            .map(tonic::Response::into_inner)
    }
}
