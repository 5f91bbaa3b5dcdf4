//! The token that actors show and the learner asks for.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::process::geteuid;
use subtle::ConstantTimeEq;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use super::SecurityError;
use crate::configuration::SecurityConfiguration;

/// The environment variable that holds the token where no file is named.
pub const TOKEN_VARIABLE: &str = "ROOKERY_TOKEN";

/// A shared secret. Printing one shows nothing of it.
#[derive(Clone)]
pub struct Token(MetadataValue<Ascii>);

impl Token {
    /// Loads the token from `security.token_file` or else from [`TOKEN_VARIABLE`]; `None` where
    /// neither is set.
    ///
    /// # Errors
    /// If the file cannot be read, or the token is empty or cannot travel in a header.
    pub fn load(configuration: &SecurityConfiguration) -> Result<Option<Self>, SecurityError> {
        Self::resolve(configuration, std::env::var_os(TOKEN_VARIABLE))
    }

    /// Loads the token from the file or else from the text of the variable.
    fn resolve(
        configuration: &SecurityConfiguration,
        variable: Option<OsString>,
    ) -> Result<Option<Self>, SecurityError> {
        match (&configuration.token_file, variable) {
            (Some(path), _) => Self::from_file(path).map(Some),
            (None, Some(text)) => Self::new(&text.to_string_lossy(), TOKEN_VARIABLE).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Reads the token that is the one line of a file.
    fn from_file(path: &Path) -> Result<Self, SecurityError> {
        let unreadable = |source| SecurityError::Unreadable {
            key: "token_file",
            path: path.to_owned(),
            source,
        };
        let text = fs::read_to_string(path).map_err(unreadable)?;
        let metadata = fs::metadata(path).map_err(unreadable)?;
        let mode = metadata.permissions().mode();
        // Only its owner can change that: who mounts secrets in a container chooses their permissions.
        if mode & 0o077 != 0 && metadata.uid() == geteuid().as_raw() {
            tracing::warn!(
                path = %path.display(),
                mode = format!("{:o}", mode & 0o777),
                "other users may read the token file; chmod 600 it"
            );
        }
        Self::new(&text, &path.display().to_string())
    }

    /// Takes `text` without the line end and the spaces around it for a token; `origin` says in
    /// messages where it comes from.
    ///
    /// # Errors
    /// If it is empty or holds anything but visible ASCII.
    pub fn new(text: &str, origin: &str) -> Result<Self, SecurityError> {
        let fault = |reason| SecurityError::Token {
            origin: origin.to_owned(),
            reason,
        };
        let text = text.trim();
        if text.is_empty() {
            return Err(fault("is empty"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(fault("holds a character that cannot travel in a header"));
        }
        let mut header: MetadataValue<Ascii> = format!("Bearer {text}")
            .parse()
            .map_err(|_| fault("cannot travel in a header"))?;
        header.set_sensitive(true);
        Ok(Self(header))
    }

    /// Whether `header` shows this token. The time that it takes depends on lengths only.
    fn matches(&self, header: &MetadataValue<Ascii>) -> bool {
        self.0
            .as_encoded_bytes()
            .ct_eq(header.as_encoded_bytes())
            .into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

/// Shows the token, where there is one, with every call of a client.
#[derive(Clone, Debug)]
pub struct ShowToken(pub(super) Option<Token>);

impl Interceptor for ShowToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", token.0.clone());
        }
        Ok(request)
    }
}

/// Refuses every call to a server that does not show its token, where it has one.
#[derive(Clone, Debug)]
pub struct RequireToken(pub(super) Option<Token>);

impl Interceptor for RequireToken {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(token) = &self.0 else {
            return Ok(request);
        };
        match request.metadata().get("authorization") {
            Some(shown) if token.matches(shown) => Ok(request),
            Some(_) => Err(Status::unauthenticated(
                "wrong token: give the client the token of the learner",
            )),
            None => Err(Status::unauthenticated(
                "no token: set security.token_file or ROOKERY_TOKEN to the token of the learner",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, SecurityConfiguration) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, text).unwrap();
        let configuration = SecurityConfiguration {
            token_file: Some(path),
            ..SecurityConfiguration::default()
        };
        (directory, configuration)
    }

    #[test]
    fn a_token_file_is_one_line() {
        let (_directory, configuration) = file("secret\r\n");
        let token = Token::load(&configuration).unwrap().unwrap();
        assert!(token.matches(&"Bearer secret".parse().unwrap()));
        for wrong in [
            "Bearer secre",
            "Bearer secrets",
            "bearer secret",
            "secret",
            "",
        ] {
            assert!(!token.matches(&wrong.parse().unwrap()), "{wrong}");
        }
    }

    #[test]
    fn the_variable_holds_the_token_where_no_file_is_named() {
        let (_directory, with_file) = file("from-file");
        let without = SecurityConfiguration::default();
        for (configuration, variable, expected) in [
            (&with_file, Some("from-variable"), Some("Bearer from-file")),
            (
                &without,
                Some("from-variable"),
                Some("Bearer from-variable"),
            ),
            (&without, None, None),
        ] {
            let token = Token::resolve(configuration, variable.map(OsString::from)).unwrap();
            assert_eq!(token.is_some(), expected.is_some());
            if let (Some(token), Some(expected)) = (token, expected) {
                assert!(token.matches(&expected.parse().unwrap()));
            }
        }
        // A variable that is set and empty is a mistake, not the wish to go without.
        let error = Token::resolve(&without, Some(OsString::new())).unwrap_err();
        assert!(error.to_string().contains(TOKEN_VARIABLE), "{error}");
    }

    #[test]
    fn what_is_no_token_is_refused_with_its_origin() {
        for (text, reason) in [
            ("", "is empty"),
            ("\n", "is empty"),
            ("two words", "cannot travel"),
            ("two\nlines", "cannot travel"),
            ("geheimnisvoll\u{e4}", "cannot travel"),
        ] {
            let (directory, configuration) = file(text);
            let message = Token::load(&configuration).unwrap_err().to_string();
            assert!(message.contains(reason), "{message}");
            assert!(message.contains(&directory.path().display().to_string()));
        }
        let missing = SecurityConfiguration {
            token_file: Some("no/such/token".into()),
            ..SecurityConfiguration::default()
        };
        let message = Token::load(&missing).unwrap_err().to_string();
        assert!(
            message.contains("security.token_file: no/such/token"),
            "{message}"
        );
    }

    #[test]
    fn a_token_is_never_printed() {
        let token = Token::new("secret", "test").unwrap();
        let shown = format!(
            "{token:?} {:?} {:?}",
            token.0,
            ShowToken(Some(token.clone()))
        );
        assert!(!shown.contains("secret"), "{shown}");
    }
}
