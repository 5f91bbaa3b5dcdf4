//! The tracking server: where it is, by what it is trusted, and the secret that it is shown.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rookery_common::configuration::{Configuration, TrackingUri};
use rookery_common::exit::Exit;
use rookery_common::telemetry::VERSION;
use serde_json::Value;
use ureq::Agent;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// The environment variable that holds the token where no file is named; it is that of MLflow's own
/// clients.
const TOKEN_VARIABLE: &str = "MLFLOW_TRACKING_TOKEN";
/// The environment variables that hold a name and a password; those of MLflow's own clients too.
const LOGIN_VARIABLES: [&str; 2] = ["MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"];
/// Longest wait for an answer. The end of a run waits for one that is under way.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 4 << 20;
/// Most of an answer that is no JSON which a message repeats.
const MAX_SHOWN_CHARACTERS: usize = 200;

/// Why there can be no connection with what is configured.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file cannot be read.
    #[error("logging.mlflow.{key}: {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file holds no certificate.
    #[error("logging.mlflow.tls_ca: {} holds no certificate that can be read", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
    },
    /// The secret cannot travel in a header.
    #[error("the secret of {origin} must be one line of visible ASCII characters")]
    Secret {
        /// The file or the variable.
        origin: String,
    },
    /// A secret would travel where others can read it.
    #[error(
        "refusing to send the secret of {origin} to {uri} in the clear: use an https address, or \
         security.insecure = true on a network where every host is trusted"
    )]
    InClear {
        /// The file or the variable.
        origin: String,
        /// Where it would have gone.
        uri: TrackingUri,
    },
}

impl ServerError {
    /// How a process that gives up on this ends.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::InClear { .. } => Exit::NotPermitted,
            _ => Exit::Usage,
        }
    }
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// There is no answer, and no telling whether the call has had its effect.
    #[error("no answer from {uri}: {reason}")]
    NoAnswer {
        /// Where it was expected from.
        uri: TrackingUri,
        /// Why there is none.
        reason: String,
    },
    /// The server does not do it.
    #[error("{uri} answers {status} {code}: {message}")]
    Refused {
        /// Who refuses.
        uri: TrackingUri,
        /// The status of HTTP.
        status: u16,
        /// MLflow's name of the error, where it gives one.
        code: String,
        /// Its words.
        message: String,
    },
    /// The answer lacks what it should hold.
    #[error("{uri} answers {call} without `{field}`; is it a tracking server of MLflow?")]
    Incomplete {
        /// Who answers.
        uri: TrackingUri,
        /// What was called.
        call: &'static str,
        /// What is missing.
        field: &'static str,
    },
}

impl CallError {
    /// Whether the server has said that there is no such thing.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "RESOURCE_DOES_NOT_EXIST")
    }

    /// Whether the same call would be refused again: something is wrong with what it holds.
    pub(super) const fn is_about_content(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                status: 400 | 413 | 422,
                ..
            }
        )
    }
}

/// A server that can be called. Printing one shows nothing of the secret.
#[derive(Clone)]
pub struct Server {
    uri: TrackingUri,
    agent: Agent,
    authorization: Option<String>,
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Server({})", self.uri)
    }
}

impl Server {
    /// Loads what `[logging.mlflow]` names; `None` where it names no server. Nothing is called.
    ///
    /// # Errors
    /// If a file cannot be read or does not hold what it should, or a secret would travel in the clear.
    pub fn load(configuration: &Configuration) -> Result<Option<Self>, ServerError> {
        let variable = |name: &str| std::env::var(name).ok();
        Self::resolve(configuration, variable)
    }

    fn resolve(
        configuration: &Configuration,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, ServerError> {
        let mlflow = &configuration.logging.mlflow;
        let Some(uri) = mlflow.tracking_uri.clone() else {
            return Ok(None);
        };
        let secret = secret(mlflow.token_file.as_deref(), variable)?;
        if let Some((_, origin)) = &secret
            && uri.is_exposed()
            && !configuration.security.insecure
        {
            let origin = origin.clone();
            return Err(ServerError::InClear { origin, uri });
        }
        let roots = match &mlflow.tls_ca {
            Some(path) => authority(path)?,
            None => RootCerts::WebPki,
        };
        let agent = Agent::config_builder()
            .user_agent(format!("rookery-learner/{VERSION}"))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .http_status_as_error(false)
            // A secret goes to the configured server and nowhere else.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(TIMEOUT))
            .build()
            .new_agent();
        Ok(Some(Self {
            uri,
            agent,
            authorization: secret.map(|(header, _)| header),
        }))
    }

    /// Asks for something.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) fn get(&self, call: &str, (key, value): (&str, &str)) -> Result<Value, CallError> {
        let mut request = self.agent.get(self.path(call)).query(key, value);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.read(request.call())
    }

    /// Has something done.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) fn post(&self, call: &str, body: &Value) -> Result<Value, CallError> {
        let mut request = self
            .agent
            .post(self.path(call))
            .header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.read(request.send(body.to_string()))
    }

    /// The text at the place `field` of an answer to `call`.
    ///
    /// # Errors
    /// [`CallError::Incomplete`].
    pub(super) fn field<'a>(
        &self,
        call: &'static str,
        answer: &'a Value,
        field: &'static str,
    ) -> Result<&'a str, CallError> {
        answer
            .pointer(field)
            .and_then(Value::as_str)
            .ok_or_else(|| CallError::Incomplete {
                uri: self.uri.clone(),
                call,
                field,
            })
    }

    fn path(&self, call: &str) -> String {
        self.uri.join(&format!("/api/2.0/mlflow/{call}"))
    }

    fn read(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value, CallError> {
        let no_answer = |error: ureq::Error| CallError::NoAnswer {
            uri: self.uri.clone(),
            reason: error.to_string(),
        };
        let mut answer = answer.map_err(no_answer)?;
        let status = answer.status();
        let text = answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER_BYTES)
            .read_to_string()
            .map_err(no_answer)?;
        let json: Option<Value> = serde_json::from_str(&text).ok();
        if let (true, Some(json)) = (status.is_success(), &json) {
            return Ok(json.clone());
        }
        let word = |key: &str| json.as_ref()?.get(key)?.as_str().map(str::to_owned);
        Err(CallError::Refused {
            uri: self.uri.clone(),
            status: status.as_u16(),
            code: word("error_code").unwrap_or_default(),
            message: word("message")
                .unwrap_or(text)
                .chars()
                .take(MAX_SHOWN_CHARACTERS)
                .collect(),
        })
    }
}

/// The header that shows the secret, and where that comes from: a token from its file or variable, or
/// else a name with its password.
fn secret(
    token_file: Option<&Path>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<(String, String)>, ServerError> {
    let checked = |secret: &str, origin: String| {
        let secret = secret.trim();
        if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ServerError::Secret { origin });
        }
        Ok(Some((format!("Bearer {secret}"), origin)))
    };
    if let Some(path) = token_file {
        let text = fs::read_to_string(path).map_err(|source| ServerError::Unreadable {
            key: "token_file",
            path: path.to_owned(),
            source,
        })?;
        return checked(&text, path.display().to_string());
    }
    if let Some(text) = variable(TOKEN_VARIABLE) {
        return checked(&text, TOKEN_VARIABLE.to_owned());
    }
    let [user, password] = LOGIN_VARIABLES.map(variable);
    Ok(user.map(|user| {
        let login = format!("{user}:{}", password.unwrap_or_default());
        let header = format!("Basic {}", STANDARD.encode(login));
        (header, LOGIN_VARIABLES[1].to_owned())
    }))
}

/// The certificates of a file.
fn authority(path: &Path) -> Result<RootCerts, ServerError> {
    let pem = fs::read(path).map_err(|source| ServerError::Unreadable {
        key: "tls_ca",
        path: path.to_owned(),
        source,
    })?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        let path = path.to_owned();
        return Err(ServerError::Certificate { path });
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(uri: &str) -> Configuration {
        let mut configuration = Configuration::default();
        configuration.logging.mlflow.tracking_uri = Some(uri.parse().unwrap());
        configuration
    }

    fn resolve(
        configuration: &Configuration,
        variables: &[(&str, &str)],
    ) -> Result<Option<String>, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Server::resolve(configuration, variable)
            .map(|server| server.and_then(|server| server.authorization))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_secret_comes_from_its_file_or_the_variables_of_mlflow() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "from-file\n").unwrap();
        let mut configuration = configuration("http://127.0.0.1:5000");
        let variables = [
            (TOKEN_VARIABLE, "from-variable"),
            (LOGIN_VARIABLES[0], "me"),
            (LOGIN_VARIABLES[1], "secret"),
        ];
        assert_eq!(resolve(&configuration, &[]), Ok(None));
        let login = resolve(&configuration, &variables[1..]);
        assert_eq!(login, Ok(Some("Basic bWU6c2VjcmV0".to_owned())));
        let token = resolve(&configuration, &variables);
        assert_eq!(token, Ok(Some("Bearer from-variable".to_owned())));
        configuration.logging.mlflow.token_file = Some(path);
        let token = resolve(&configuration, &variables);
        assert_eq!(token, Ok(Some("Bearer from-file".to_owned())));
    }

    #[test]
    fn a_secret_goes_to_no_other_host_in_the_clear() {
        let variables = [(TOKEN_VARIABLE, "secret")];
        let mut exposed = configuration("http://mlflow.example:5000");
        let message = resolve(&exposed, &variables).unwrap_err();
        assert!(message.contains("http://mlflow.example:5000"), "{message}");
        assert!(message.contains("https"), "{message}");
        assert!(resolve(&configuration("https://mlflow.example"), &variables).is_ok());
        exposed.security.insecure = true;
        assert!(resolve(&exposed, &variables).is_ok());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "two words").unwrap();
        let mut token = configuration("https://mlflow.example");
        token.logging.mlflow.token_file = Some(path.clone());
        let message = resolve(&token, &[]).unwrap_err();
        assert!(message.contains(&path.display().to_string()), "{message}");

        let mut authority = configuration("https://mlflow.example");
        authority.logging.mlflow.tls_ca = Some(path);
        let message = resolve(&authority, &[]).unwrap_err();
        assert!(message.contains("holds no certificate"), "{message}");
        authority.logging.mlflow.tls_ca = Some("no/such/file".into());
        let message = resolve(&authority, &[]).unwrap_err();
        assert!(
            message.contains("logging.mlflow.tls_ca: no/such/file"),
            "{message}"
        );
    }

    #[test]
    fn a_secret_is_never_printed() {
        let variable = |name: &str| (name == TOKEN_VARIABLE).then(|| "secret".to_owned());
        let server = Server::resolve(&configuration("http://localhost:1"), variable);
        let shown = format!("{:?}", server.unwrap().unwrap());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
