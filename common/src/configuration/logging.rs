//! `[logging]`: where a run's curves go, besides `metrics.jsonl`. It changes no result.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::units::or_none;
use crate::security::{Address, Scheme};

/// `[logging]`: where a run's curves go, besides `metrics.jsonl`, which has every update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoggingConfiguration {
    /// Whether the run directory gets event files for TensorBoard. \[`true`\]
    pub tensorboard: bool,
    /// Updates of the whole run that are noted, evenly spread; one in half a minute is noted in any
    /// case. TensorBoard itself draws 1,000 points of a curve. \[`1_000`\]
    pub points: u64,
    /// Updates of which TensorBoard gets histograms, evenly spread too; 0: none. \[`100`\]
    pub histograms: u64,
    /// The tracking server of MLflow.
    pub mlflow: MlflowConfiguration,
}

impl Default for LoggingConfiguration {
    fn default() -> Self {
        Self {
            tensorboard: true,
            points: 1_000,
            histograms: 100,
            mlflow: MlflowConfiguration::default(),
        }
    }
}

/// `[logging.mlflow]`: the tracking server of MLflow. Its token is in a file or in the environment
/// variable `MLFLOW_TRACKING_TOKEN`; a name and a password are in `MLFLOW_TRACKING_USERNAME` and
/// `MLFLOW_TRACKING_PASSWORD`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlflowConfiguration {
    /// Where the server is, such as `"http://127.0.0.1:5000"`; none: nothing is sent. \[none\]
    #[serde(serialize_with = "or_none")]
    pub tracking_uri: Option<TrackingUri>,
    /// The experiment that the run belongs to; it is made where there is none of this name.
    /// \[`"rookery"`\]
    pub experiment: String,
    /// File whose one line is the token that is shown to the server. \[none\]
    #[serde(serialize_with = "or_none")]
    pub token_file: Option<PathBuf>,
    /// The authority that an `https` server is trusted by, as PEM; none: those of Mozilla's list.
    /// \[none\]
    #[serde(serialize_with = "or_none")]
    pub tls_ca: Option<PathBuf>,
}

impl Default for MlflowConfiguration {
    fn default() -> Self {
        Self {
            tracking_uri: None,
            experiment: "rookery".to_owned(),
            token_file: None,
            tls_ca: None,
        }
    }
}

/// Where a tracking server is: `http://` or `https://`, a host, and where there are any a port and a
/// path. It holds no name and no password, since the configuration is written down in many places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackingUri {
    address: Address,
    path: String,
}

/// Why a text is no [`TrackingUri`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackingUriError {
    /// It is not HTTP.
    #[error("no address of a server, such as \"http://127.0.0.1:5000\"")]
    Scheme,
    /// It holds a name or a password.
    #[error(
        "an address that holds a secret; put it in MLFLOW_TRACKING_USERNAME and \
         MLFLOW_TRACKING_PASSWORD"
    )]
    Secret,
    /// Host or port cannot be.
    #[error("an address whose host or port cannot be read")]
    Host,
    /// What follows the host is no plain path.
    #[error("an address with more than a plain path behind its host")]
    Path,
}

impl TrackingUri {
    /// The address of a call, whose `path` begins with a slash.
    #[must_use]
    pub fn join(&self, path: &str) -> String {
        format!("{self}{path}")
    }

    /// Whether what is sent can be read on the way: plain HTTP to another host.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let is_plain = matches!(
            &self.address,
            Address::Tcp {
                scheme: Scheme::Http,
                ..
            }
        );
        is_plain && !self.address.is_local()
    }

    /// Host and port.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }
}

impl FromStr for TrackingUri {
    type Err = TrackingUriError;

    fn from_str(text: &str) -> Result<Self, TrackingUriError> {
        let (scheme, rest) = text.split_once("://").ok_or(TrackingUriError::Scheme)?;
        let port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return Err(TrackingUriError::Scheme),
        };
        let (host, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        if host.contains('@') {
            return Err(TrackingUriError::Secret);
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
        if !path.chars().all(is_plain) {
            return Err(TrackingUriError::Path);
        }
        let has_port = host.rsplit(']').next().unwrap_or(host).contains(':');
        let address = if has_port {
            format!("{scheme}://{host}").parse()
        } else {
            format!("{scheme}://{host}:{port}").parse()
        };
        Ok(Self {
            address: address.map_err(|_| TrackingUriError::Host)?,
            path: path.trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for TrackingUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.address, self.path)
    }
}

impl Serialize for TrackingUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TrackingUri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_servers_survive_their_own_text() {
        for (text, written, exposed) in [
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000", false),
            ("http://localhost:5000/", "http://localhost:5000", false),
            ("http://[::1]:5000", "http://[::1]:5000", false),
            ("http://mlflow.example", "http://mlflow.example:80", true),
            (
                "https://mlflow.example/team-1/",
                "https://mlflow.example:443/team-1",
                false,
            ),
        ] {
            let uri: TrackingUri = text.parse().unwrap();
            assert_eq!(uri.to_string(), written);
            assert_eq!(written.parse(), Ok(uri.clone()));
            assert_eq!(uri.is_exposed(), exposed, "{text}");
            assert_eq!(uri.join("/api"), format!("{written}/api"));
        }
    }

    #[test]
    fn what_is_no_address_of_a_server_is_refused() {
        for (text, error) in [
            ("127.0.0.1:5000", TrackingUriError::Scheme),
            ("sqlite:///mlflow.db", TrackingUriError::Scheme),
            ("http://me:secret@host:5000", TrackingUriError::Secret),
            ("http://", TrackingUriError::Host),
            ("http://host:port", TrackingUriError::Host),
            ("http://host:5000/a?b=c", TrackingUriError::Path),
        ] {
            assert_eq!(text.parse::<TrackingUri>(), Err(error), "{text}");
        }
    }
}
