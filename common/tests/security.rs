//! Tokens and TLS between a real server and a real client on loopback.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rookery_common::configuration::SecurityConfiguration;
use rookery_common::security::{Address, ClientSecurity, SecurityError, ServerSecurity, peer};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;

/// A folder with an authority, a server's certificate for `localhost` and a client's, and a
/// second authority that has signed nothing.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let authority = || {
            let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
        };
        let ours = authority();
        files.write("ca.pem", &ours.pem());
        files.write("other-ca.pem", &authority().pem());
        for (name, usage) in [
            ("server", ExtendedKeyUsagePurpose::ServerAuth),
            ("client", ExtendedKeyUsagePurpose::ClientAuth),
        ] {
            let key = KeyPair::generate().unwrap();
            let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            parameters.extended_key_usages = vec![usage];
            let certificate = parameters.signed_by(&key, &ours).unwrap();
            files.write(&format!("{name}.pem"), &certificate.pem());
            files.write(&format!("{name}.key"), &key.serialize_pem());
        }
        files.write("token", "secret\n");
        files.write("wrong-token", "sacred\n");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The settings of a server with TLS.
    fn tls_server(&self) -> SecurityConfiguration {
        SecurityConfiguration {
            tls_certificate: Some(self.path("server.pem")),
            tls_key: Some(self.path("server.key")),
            ..SecurityConfiguration::default()
        }
    }

    /// The settings of a client with TLS.
    fn tls_client(&self) -> SecurityConfiguration {
        SecurityConfiguration {
            tls_ca: Some(self.path("ca.pem")),
            ..SecurityConfiguration::default()
        }
    }

    /// Settings with this token.
    fn token(&self, name: &str) -> SecurityConfiguration {
        SecurityConfiguration {
            token_file: Some(self.path(name)),
            ..SecurityConfiguration::default()
        }
    }
}

/// A health service behind the security settings.
struct Running {
    address: Address,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Running {
    async fn start(configuration: &SecurityConfiguration, address: &str) -> Self {
        let security = ServerSecurity::load(configuration).unwrap();
        let listener = security.listen(&address.parse().unwrap()).await.unwrap();
        let address = listener.address().clone();
        let (reporter, _) = tonic_health::server::health_reporter();
        let mut require_token = security.require_token();
        let service = HealthServer::with_interceptor(
            HealthService::from_health_reporter(reporter),
            move |request: Request<()>| {
                if peer(request.extensions()).is_none() {
                    return Err(Status::internal("the peer is unknown"));
                }
                tonic::service::Interceptor::call(&mut require_token, request)
            },
        );
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(
            security
                .server(&listener)
                .unwrap()
                .add_service(service)
                .serve_with_incoming_shutdown(listener, async {
                    stopped.await.ok();
                }),
        );
        Self {
            address,
            stop,
            serving,
        }
    }

    /// Calls the service once.
    async fn call(&self, configuration: &SecurityConfiguration) -> Result<(), Failure> {
        let security = ClientSecurity::load(configuration).unwrap();
        let channel = security
            .connect(&self.address)
            .await
            .map_err(Failure::Connect)?;
        HealthClient::with_interceptor(channel, security.show_token())
            .check(HealthCheckRequest::default())
            .await
            .map(drop)
            .map_err(Failure::Call)
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap().unwrap();
    }
}

/// Where a call failed.
#[derive(Debug)]
enum Failure {
    Connect(SecurityError),
    Call(Status),
}

impl Failure {
    /// Whether the call was refused for its token.
    fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::Call(status) if status.code() == Code::Unauthenticated)
    }

    /// Whether no call came through at all.
    fn is_transport(&self) -> bool {
        match self {
            Self::Connect(error) => matches!(error, SecurityError::Unreachable { .. }),
            Self::Call(status) => matches!(status.code(), Code::Unavailable | Code::Unknown),
        }
    }
}

#[tokio::test]
async fn only_the_right_token_is_let_in() {
    let files = Files::new();
    let unix = format!("unix://{}", files.path("socket").display());
    for address in ["127.0.0.1:0", &unix] {
        let server = Running::start(&files.token("token"), address).await;
        server.call(&files.token("token")).await.unwrap();
        for stranger in [files.token("wrong-token"), SecurityConfiguration::default()] {
            let failure = server.call(&stranger).await.unwrap_err();
            assert!(failure.is_unauthenticated(), "{failure:?}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_server_without_a_token_takes_every_client() {
    let files = Files::new();
    let server = Running::start(&SecurityConfiguration::default(), "127.0.0.1:0").await;
    server
        .call(&SecurityConfiguration::default())
        .await
        .unwrap();
    server.call(&files.token("token")).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn tls_lets_in_who_trusts_the_authority_and_nobody_else() {
    let files = Files::new();
    let server = Running::start(&files.tls_server(), "localhost:0").await;
    server.call(&files.tls_client()).await.unwrap();
    let mut stranger = files.tls_client();
    stranger.tls_ca = Some(files.path("other-ca.pem"));
    let failure = server.call(&stranger).await.unwrap_err();
    assert!(failure.is_transport(), "{failure:?}");
    let mut misled = files.tls_client();
    misled.tls_domain = Some("elsewhere.example.org".to_owned());
    let failure = server.call(&misled).await.unwrap_err();
    assert!(failure.is_transport(), "{failure:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_client_in_the_clear_gets_nothing_from_a_tls_server() {
    let files = Files::new();
    let server = Running::start(&files.tls_server(), "localhost:0").await;
    let failure = server
        .call(&SecurityConfiguration::default())
        .await
        .unwrap_err();
    assert!(failure.is_transport(), "{failure:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_asks_for_certificates_refuses_clients_without_one() {
    let files = Files::new();
    let mut configuration = files.tls_server();
    configuration.tls_client_ca = Some(files.path("ca.pem"));
    let server = Running::start(&configuration, "localhost:0").await;
    let failure = server.call(&files.tls_client()).await.unwrap_err();
    assert!(failure.is_transport(), "{failure:?}");
    let certified = SecurityConfiguration {
        tls_client_certificate: Some(files.path("client.pem")),
        tls_client_key: Some(files.path("client.key")),
        ..files.tls_client()
    };
    server.call(&certified).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_unix_socket_goes_without_tls() {
    let files = Files::new();
    let address = format!("unix://{}", files.path("socket").display());
    let server = Running::start(&files.tls_server(), &address).await;
    server.call(&files.tls_client()).await.unwrap();
    server.stop().await;
    assert!(!files.path("socket").exists());
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_unreachable() {
    let files = Files::new();
    let security = ClientSecurity::load(&SecurityConfiguration::default()).unwrap();
    let socket = Address::Unix(files.path("nobody"));
    let error = security.connect(&socket).await.unwrap_err();
    assert!(
        matches!(error, SecurityError::Unreachable { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("No such file"), "{error}");
}

/// The message of settings that a server does not start with.
fn refusal(configuration: &SecurityConfiguration, directory: &Path) -> String {
    ServerSecurity::load(configuration)
        .unwrap_err()
        .to_string()
        .replace(&directory.display().to_string(), "DIRECTORY")
}

#[test]
fn bad_certificates_and_keys_are_named() {
    let files = Files::new();
    files.write("notes.txt", "no certificate here");
    files.write(
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
    );
    let with = |certificate: &str, key: &str| SecurityConfiguration {
        tls_certificate: Some(files.path(certificate)),
        tls_key: Some(files.path(key)),
        ..SecurityConfiguration::default()
    };
    let directory = files.directory.path();
    insta::assert_snapshot!(
        [
            with("missing.pem", "server.key"),
            with("notes.txt", "server.key"),
            with("broken.pem", "server.key"),
            with("server.pem", "server.pem"),
            with("server.pem", "client.key"),
            SecurityConfiguration { tls_key: None, ..files.tls_server() },
            SecurityConfiguration { tls_client_ca: Some(files.path("ca.pem")), ..SecurityConfiguration::default() },
        ]
        .map(|configuration| refusal(&configuration, directory))
        .join("\n"),
        @r#"
    security.tls_certificate: DIRECTORY/missing.pem cannot be read: No such file or directory (os error 2)
    security.tls_certificate: DIRECTORY/notes.txt holds no certificate that can be read: no items found
    security.tls_certificate: DIRECTORY/broken.pem holds no certificate that can be read: base64 decode error: InvalidCharacter(33)
    security.tls_key: DIRECTORY/server.pem holds no private key that can be read: no items found
    security.tls_certificate, tls_key and tls_client_ca cannot be used together: transport error: keys may not be consistent: KeyMismatch
    security.tls_certificate is set without security.tls_key: set both or neither
    security.tls_client_ca is set without security.tls_certificate: set both or neither
    "#
    );
}
