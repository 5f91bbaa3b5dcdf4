//! The connecting side: the channel to the learner.

use std::time::Duration;

use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::token::{ShowToken, Token};
use super::{Address, Scheme, SecurityError, tls, with_causes};
use crate::configuration::SecurityConfiguration;

/// Longest wait for a TCP connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a TLS handshake, on both sides.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between HTTP/2 pings. Without them a peer that vanished without a word, as after a power
/// cut, is waited for without end.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Longest wait for the answer to a ping.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of one stream that may be in flight. A window bounds the throughput to its size per round
/// trip: 4 MiB carry 160 MB/s at 25 ms.
pub(super) const STREAM_WINDOW: u32 = 4 << 20;
/// Bytes of all streams of a connection that may be in flight: more than one stream's, so that the
/// parameters do not wait for the unrolls.
pub(super) const CONNECTION_WINDOW: u32 = 8 << 20;

/// What a client needs to reach a learner, loaded from its files.
#[derive(Clone, Debug)]
pub struct ClientSecurity {
    token: Option<Token>,
    tls: Option<ClientTlsConfig>,
    insecure: bool,
}

impl ClientSecurity {
    /// Loads the token, and the authority and certificate of the client.
    ///
    /// # Errors
    /// If a file cannot be read or does not hold what it should.
    pub fn load(configuration: &SecurityConfiguration) -> Result<Self, SecurityError> {
        Ok(Self {
            token: Token::load(configuration)?,
            tls: tls::client(configuration)?,
            insecure: configuration.insecure,
        })
    }

    /// What shows the token with every call, for `Client::with_interceptor`.
    #[must_use]
    pub fn show_token(&self) -> ShowToken {
        ShowToken(self.token.clone())
    }

    /// Opens a channel. Once open it connects again by itself when the connection is lost.
    ///
    /// # Errors
    /// [`SecurityError::Unreachable`] while the peer does not answer; anything else is a setting
    /// that no repetition mends.
    pub async fn connect(&self, address: &Address) -> Result<Channel, SecurityError> {
        self.endpoint(address)?
            .connect()
            .await
            .map_err(|error| SecurityError::Unreachable {
                address: address.clone(),
                reason: with_causes(&error),
            })
    }

    /// The settings of a connection.
    fn endpoint(&self, address: &Address) -> Result<Endpoint, SecurityError> {
        let tls = match address {
            Address::Unix(_) => None,
            Address::Tcp { scheme, .. } => match (scheme, &self.tls) {
                (Scheme::Http, _) | (Scheme::Unspecified, None) => None,
                (Scheme::Https | Scheme::Unspecified, Some(tls)) => Some(tls.clone()),
                (Scheme::Https, None) => {
                    return Err(SecurityError::NoAuthority {
                        address: address.clone(),
                    });
                }
            },
        };
        if tls.is_none() && self.token.is_some() && !self.insecure && !address.is_local() {
            return Err(SecurityError::TokenInClear {
                address: address.clone(),
            });
        }
        let uri = match address {
            Address::Unix(_) => address.to_string(),
            Address::Tcp { host, port, .. } => {
                let scheme = if tls.is_some() { "https" } else { "http" };
                format!("{scheme}://{}", Address::tcp(host, *port))
            }
        };
        let unreachable = |error: tonic::transport::Error| SecurityError::Unreachable {
            address: address.clone(),
            reason: with_causes(&error),
        };
        let endpoint = Endpoint::from_shared(uri)
            .map_err(unreachable)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        match tls {
            Some(tls) => endpoint.tls_config(tls).map_err(unreachable),
            None => Ok(endpoint),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(token: bool, insecure: bool) -> ClientSecurity {
        ClientSecurity {
            token: token.then(|| Token::new("secret", "test").unwrap()),
            tls: None,
            insecure,
        }
    }

    #[test]
    fn a_token_does_not_travel_in_the_clear() {
        let endpoint = |security: &ClientSecurity, text: &str| {
            security.endpoint(&text.parse().unwrap()).map(drop)
        };
        let careful = security(true, false);
        for local in ["127.0.0.1:1", "localhost:1", "unix:///socket"] {
            endpoint(&careful, local).unwrap();
        }
        for remote in ["learner:1", "http://10.0.0.1:1"] {
            let error = endpoint(&careful, remote).unwrap_err();
            assert!(
                matches!(error, SecurityError::TokenInClear { .. }),
                "{error}"
            );
            endpoint(&security(true, true), remote).unwrap();
            endpoint(&security(false, false), remote).unwrap();
        }
    }

    #[test]
    fn tls_needs_an_authority() {
        let error = security(false, false)
            .endpoint(&"https://localhost:1".parse().unwrap())
            .unwrap_err();
        assert!(
            matches!(error, SecurityError::NoAuthority { .. }),
            "{error}"
        );
    }
}
