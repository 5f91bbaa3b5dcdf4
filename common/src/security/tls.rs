//! Certificates and keys from PEM files.

use std::fs;
use std::path::Path;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};

use super::client::HANDSHAKE_TIMEOUT;
use super::{SecurityError, with_causes};
use crate::configuration::SecurityConfiguration;

/// The listener's side of TLS; `None` where no certificate is set.
pub(super) fn server(
    configuration: &SecurityConfiguration,
) -> Result<Option<ServerTlsConfig>, SecurityError> {
    let identity = identity(
        ("tls_certificate", configuration.tls_certificate.as_deref()),
        ("tls_key", configuration.tls_key.as_deref()),
    )?;
    let Some(identity) = identity else {
        return match configuration.tls_client_ca {
            Some(_) => Err(SecurityError::Incomplete {
                set: "tls_client_ca",
                missing: "tls_certificate",
            }),
            None => Ok(None),
        };
    };
    let mut tls = ServerTlsConfig::new()
        .identity(identity)
        .timeout(HANDSHAKE_TIMEOUT);
    if let Some(path) = &configuration.tls_client_ca {
        tls = tls.client_ca_root(Certificate::from_pem(certificates("tls_client_ca", path)?));
    }
    Server::builder()
        .tls_config(tls.clone())
        .map_err(|error| SecurityError::Tls {
            keys: "tls_certificate, tls_key and tls_client_ca",
            reason: with_causes(&error),
        })?;
    Ok(Some(tls))
}

/// The connecting side of TLS; `None` where no authority is set.
pub(super) fn client(
    configuration: &SecurityConfiguration,
) -> Result<Option<ClientTlsConfig>, SecurityError> {
    let identity = identity(
        (
            "tls_client_certificate",
            configuration.tls_client_certificate.as_deref(),
        ),
        ("tls_client_key", configuration.tls_client_key.as_deref()),
    )?;
    let Some(path) = &configuration.tls_ca else {
        return match identity {
            Some(_) => Err(SecurityError::Incomplete {
                set: "tls_client_certificate",
                missing: "tls_ca",
            }),
            None => Ok(None),
        };
    };
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(certificates("tls_ca", path)?))
        .timeout(HANDSHAKE_TIMEOUT);
    if let Some(identity) = identity {
        tls = tls.identity(identity);
    }
    if let Some(domain) = &configuration.tls_domain {
        tls = tls.domain_name(domain);
    }
    Endpoint::from_static("https://localhost")
        .tls_config(tls.clone())
        .map_err(|error| SecurityError::Tls {
            keys: "tls_ca, tls_client_certificate, tls_client_key and tls_domain",
            reason: with_causes(&error),
        })?;
    Ok(Some(tls))
}

/// A key that names a file, and the file.
type Named<'a> = (&'static str, Option<&'a Path>);

/// Loads a certificate chain and its private key; `None` where neither is set.
fn identity(
    (certificate_key, certificate): Named<'_>,
    (key_key, key): Named<'_>,
) -> Result<Option<Identity>, SecurityError> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(Identity::from_pem(
            certificates(certificate_key, certificate)?,
            private_key(key_key, key)?,
        ))),
        (Some(_), None) => Err(SecurityError::Incomplete {
            set: certificate_key,
            missing: key_key,
        }),
        (None, Some(_)) => Err(SecurityError::Incomplete {
            set: key_key,
            missing: certificate_key,
        }),
        (None, None) => Ok(None),
    }
}

/// Reads a file and makes sure that it holds at least one certificate.
fn certificates(key: &'static str, path: &Path) -> Result<Vec<u8>, SecurityError> {
    let text = read(key, path)?;
    let mut blocks = CertificateDer::pem_slice_iter(&text);
    let checked = match blocks.next() {
        None => Err(pem::Error::NoItemsFound),
        Some(first) => first.and_then(|_| blocks.try_for_each(|block| block.map(drop))),
    };
    match checked {
        Ok(()) => Ok(text),
        Err(error) => Err(fault(key, path, "certificate", &error)),
    }
}

/// Reads a file and makes sure that it holds a private key.
fn private_key(key: &'static str, path: &Path) -> Result<Vec<u8>, SecurityError> {
    let text = read(key, path)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(fault(key, path, "private key", &error)),
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, SecurityError> {
    fs::read(path).map_err(|source| SecurityError::Unreadable {
        key,
        path: path.to_owned(),
        source,
    })
}

fn fault(
    key: &'static str,
    path: &Path,
    expected: &'static str,
    error: &pem::Error,
) -> SecurityError {
    SecurityError::Pem {
        key,
        path: path.to_owned(),
        expected,
        reason: error.to_string(),
    }
}
