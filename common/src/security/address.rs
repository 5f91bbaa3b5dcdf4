//! Where a process listens or connects.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an address says about TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Nothing, as in `host:port`: the security settings decide.
    Unspecified,
    /// `http://`: the connection is in the clear.
    Http,
    /// `https://`: the connection is TLS.
    Https,
}

/// Where a process listens or connects: `unix:///path`, `host:port`, `http://host:port` or
/// `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// A Unix domain socket.
    Unix(PathBuf),
    /// A TCP port of a host.
    Tcp {
        /// What the address says about TLS.
        scheme: Scheme,
        /// A name or a number; an IPv6 number stands without its brackets.
        host: String,
        /// The port; 0 lets the system choose one to listen on.
        port: u16,
    },
}

/// Why a text is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The scheme is not one of those that are understood.
    #[error(
        "unknown scheme {got}://: use unix:///path, host:port, http://host:port or https://host:port"
    )]
    Scheme {
        /// What stands before `://`.
        got: String,
    },
    /// A Unix socket is not named by an absolute path.
    #[error("a Unix socket is named by an absolute path, such as unix:///run/rookery/learner.sock")]
    RelativePath,
    /// There is no port, or it is no number up to 65,535.
    #[error("no port from 0 to 65535 after the host: write host:port, such as 127.0.0.1:50051")]
    Port,
    /// The host is neither a name nor a number.
    #[error("{got:?} is no host: use a name, an IPv4 number or an IPv6 number in brackets")]
    Host {
        /// What stands in the host's place.
        got: String,
    },
}

impl Address {
    /// The address `host:port`.
    #[must_use]
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::Tcp {
            scheme: Scheme::Unspecified,
            host: host.into(),
            port,
        }
    }

    /// Whether only this host can reach it: a Unix socket, `localhost` or a loopback number.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
            }
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("unix", path)) if path.len() > 1 && path.starts_with('/') => {
                return Ok(Self::Unix(PathBuf::from(path)));
            }
            Some(("unix", _)) => return Err(AddressError::RelativePath),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some((got, _)) => {
                return Err(AddressError::Scheme {
                    got: got.to_owned(),
                });
            }
            None => (Scheme::Unspecified, text),
        };
        let (host, port) = rest.rsplit_once(':').ok_or(AddressError::Port)?;
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AddressError::Port);
        }
        let port = port.parse().map_err(|_| AddressError::Port)?;
        let invalid = || AddressError::Host {
            got: host.to_owned(),
        };
        let host = match host.strip_prefix('[') {
            Some(bracketed) => bracketed
                .strip_suffix(']')
                .filter(|number| number.parse::<std::net::Ipv6Addr>().is_ok())
                .ok_or_else(invalid)?,
            None if is_host_name(host) => host,
            None => return Err(invalid()),
        };
        Ok(Self::Tcp {
            scheme,
            host: host.to_owned(),
            port,
        })
    }
}

/// Whether `host` is an IPv4 number or consists of labels as RFC 1123 allows them, with the
/// underscore that container names may hold.
fn is_host_name(host: &str) -> bool {
    host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp { scheme, host, port } => {
                formatter.write_str(match scheme {
                    Scheme::Unspecified => "",
                    Scheme::Http => "http://",
                    Scheme::Https => "https://",
                })?;
                if host.contains(':') {
                    write!(formatter, "[{host}]:{port}")
                } else {
                    write!(formatter, "{host}:{port}")
                }
            }
        }
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_their_own_text() {
        for text in [
            "127.0.0.1:50051",
            "learner:50051",
            "my_stack_learner.example.org:1",
            "[::1]:50051",
            "http://localhost:0",
            "https://learner.example.org:443",
            "unix:///run/rookery/learner.sock",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "learner",
            ":50051",
            "learner:",
            "learner:65536",
            "learner:+80",
            "http://learner:80/path",
            "user@learner:80",
            "::1:80",
            "[::1:80",
            "[learner]:80",
            "a b:80",
            "-x:80",
            "ftp://learner:80",
            "unix://",
            "unix:///",
            "unix://relative",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_loopback_and_unix_sockets_are_local() {
        for (text, local) in [
            ("unix:///a", true),
            ("localhost:1", true),
            ("127.8.9.1:1", true),
            ("[::1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("localhost.example.org:1", false),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().is_local(), local, "{text}");
        }
    }
}
