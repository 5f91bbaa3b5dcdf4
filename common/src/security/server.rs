//! The listening side: what guards the learner's port.

use tonic::transport::{Server, ServerTlsConfig};

use super::client::{CONNECTION_WINDOW, PING_INTERVAL, PING_TIMEOUT, STREAM_WINDOW};
use super::listener::Listener;
use super::token::{RequireToken, Token};
use super::{Address, SecurityError, tls, with_causes};
use crate::configuration::SecurityConfiguration;

/// Streams that one connection may hold open; an actor needs two and a call or so beside them.
const MAX_STREAMS: u32 = 64;
/// Streams of one connection that may be reset by our errors, or before they were accepted, until
/// the connection is closed: bounds of the "rapid reset" attacks (RUSTSEC-2024-0003,
/// CVE-2023-44487), the first of which tonic leaves open.
const MAX_LOCAL_ERROR_RESETS: usize = 1024;
/// See [`MAX_LOCAL_ERROR_RESETS`].
const MAX_PENDING_RESETS: usize = 20;

/// What guards a learner's port, loaded from its files.
#[derive(Clone, Debug)]
pub struct ServerSecurity {
    token: Option<Token>,
    tls: Option<ServerTlsConfig>,
    clients_are_certified: bool,
    insecure: bool,
}

impl ServerSecurity {
    /// Loads the token, and the listener's certificate, key and authority of clients.
    ///
    /// # Errors
    /// If a file cannot be read or does not hold what it should.
    pub fn load(configuration: &SecurityConfiguration) -> Result<Self, SecurityError> {
        Ok(Self {
            token: Token::load(configuration)?,
            tls: tls::server(configuration)?,
            clients_are_certified: configuration.tls_client_ca.is_some(),
            insecure: configuration.insecure,
        })
    }

    /// What refuses calls without the token, for `Server::with_interceptor`.
    #[must_use]
    pub fn require_token(&self) -> RequireToken {
        RequireToken(self.token.clone())
    }

    /// Starts to listen. Port 0 lets the system choose one, which [`Listener::address`] tells.
    ///
    /// # Errors
    /// If the address cannot be bound, or if other hosts can reach it and clients are not
    /// identified by a token or a certificate over TLS, unless `security.insecure` is set.
    pub async fn listen(&self, address: &Address) -> Result<Listener, SecurityError> {
        self.refuse_exposed(address, address.is_local())?;
        let listener = Listener::bind(address).await?;
        // What a name resolves to is known only now.
        self.refuse_exposed(address, listener.is_local())?;
        Ok(listener)
    }

    /// A server for `listener` with its TLS, keepalive, windows and limits set. Unix sockets are
    /// guarded by the file system and go without TLS.
    ///
    /// # Errors
    /// If the TLS settings cannot be used.
    pub fn server(&self, listener: &Listener) -> Result<Server, SecurityError> {
        let server = Server::builder()
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_local_error_reset_streams(Some(MAX_LOCAL_ERROR_RESETS))
            .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS));
        match (&self.tls, listener.address()) {
            (Some(tls), Address::Tcp { .. }) => {
                server
                    .tls_config(tls.clone())
                    .map_err(|error| SecurityError::Tls {
                        keys: "tls_certificate, tls_key and tls_client_ca",
                        reason: with_causes(&error),
                    })
            }
            _ => Ok(server),
        }
    }

    fn refuse_exposed(&self, address: &Address, is_local: bool) -> Result<(), SecurityError> {
        if is_local || self.insecure {
            return Ok(());
        }
        let identified = self.token.is_some() || self.clients_are_certified;
        let missing = match (identified, self.tls.is_some()) {
            (true, true) => return Ok(()),
            (false, true) => {
                "nothing identifies a client (security.token_file, ROOKERY_TOKEN or \
                 security.tls_client_ca)"
            }
            (true, false) => "nothing is encrypted (security.tls_certificate and tls_key)",
            (false, false) => {
                "neither is a client identified (security.token_file or ROOKERY_TOKEN) nor \
                 anything encrypted (security.tls_certificate and tls_key)"
            }
        };
        Err(SecurityError::Exposed {
            address: address.clone(),
            missing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security([token, tls, certified, insecure]: [bool; 4]) -> ServerSecurity {
        ServerSecurity {
            token: token.then(|| Token::new("secret", "test").unwrap()),
            tls: tls.then(ServerTlsConfig::new),
            clients_are_certified: certified,
            insecure,
        }
    }

    #[tokio::test]
    async fn an_exposed_listener_needs_identity_and_encryption() {
        let everywhere = Address::tcp("0.0.0.0", 0);
        // Token, TLS, client certificates, insecure.
        for (settings, allowed, missing) in [
            ([false, false, false, false], false, "neither"),
            ([true, false, false, false], false, "encrypted"),
            ([false, true, false, false], false, "identifies"),
            ([true, true, false, false], true, ""),
            ([false, true, true, false], true, ""),
            ([false, false, false, true], true, ""),
        ] {
            let security = security(settings);
            match security.listen(&everywhere).await {
                Ok(_) => assert!(allowed, "{security:?}"),
                Err(error) => {
                    let message = error.to_string();
                    assert!(!allowed && message.contains(missing), "{message}");
                    assert!(message.contains("security.insecure = true"), "{message}");
                }
            }
            // A listener that only this host can reach needs nothing.
            security
                .listen(&Address::tcp("127.0.0.1", 0))
                .await
                .unwrap();
            security
                .listen(&Address::tcp("localhost", 0))
                .await
                .unwrap();
        }
    }
}
