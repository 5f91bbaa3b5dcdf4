//! An authority and certificates that live as long as a test.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// An authority that signs certificates into a directory.
pub struct Certificates {
    directory: PathBuf,
    name: String,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    /// Makes an authority; `directory/<name>.pem` is its certificate.
    pub fn new(directory: &Path, name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(parameters, key).expect("an authority");
        let certificates = Self {
            directory: directory.to_owned(),
            name: name.to_owned(),
            authority,
        };
        fs::write(certificates.authority(), certificates.authority.pem()).expect("a file");
        certificates
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.directory.join(format!("{}.pem", self.name))
    }

    /// Signs a certificate for `host`, and gives its file and its key's.
    pub fn sign(&self, host: &str) -> (PathBuf, PathBuf) {
        let parameters = CertificateParams::new(vec![host.to_owned()]).expect("a host's name");
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters
            .signed_by(&key, &self.authority)
            .expect("a signature");
        let file = |end: &str| self.directory.join(format!("{}-{host}.{end}", self.name));
        fs::write(file("pem"), certificate.pem()).expect("a file");
        fs::write(file("key"), key.serialize_pem()).expect("a file");
        (file("pem"), file("key"))
    }
}
