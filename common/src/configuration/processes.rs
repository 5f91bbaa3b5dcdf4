//! The sections that say how the processes run; what they hold may differ from machine to machine
//! and changes no result.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units::{ByteSize, HumanDuration, or_none};
use crate::security::Address;

/// Where the learner computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The first GPU where there is one, the processor otherwise.
    Auto,
    /// The processor.
    Cpu,
    /// The first GPU; the learner does not start without one.
    Cuda,
}

/// `[learner]`: the process that updates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearnerConfiguration {
    /// Where tensors live. \[`"auto"`\]
    pub device: Device,
    /// Threads of one libtorch operation, and of convolutions on a processor; more than one pays where a
    /// policy sees images, and otherwise from batches of about 4,096 rows on, on cores that nobody
    /// shares. \[`1`\]
    pub threads: usize,
    /// Where actors connect: `host:port`, or `unix:///path` for actors on the same host.
    /// \[`"127.0.0.1:50051"`\]
    pub listen: Address,
    /// Where Prometheus reads metrics; none: nowhere. \[none\]
    #[serde(serialize_with = "or_none")]
    pub metrics_listen: Option<SocketAddr>,
    /// Longest message that is taken from an actor. \[`"64MiB"`\]
    pub max_message: ByteSize,
    /// Silence after which an actor's leases go to another. \[`"10s"`\]
    pub lease_timeout: HumanDuration,
    /// Time in which an orderly shutdown saves its checkpoint and lets the actors go; after it the
    /// process ends all the same. \[`"8s"`\]
    pub shutdown_deadline: HumanDuration,
}

impl Default for LearnerConfiguration {
    fn default() -> Self {
        Self {
            device: Device::Auto,
            threads: 1,
            listen: Address::tcp("127.0.0.1", 50_051),
            metrics_listen: None,
            max_message: ByteSize::from_mib(64),
            lease_timeout: HumanDuration::from_secs(10),
            shutdown_deadline: HumanDuration::from_secs(8),
        }
    }
}

/// `[actor]`: the processes that collect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActorConfiguration {
    /// Where the learner listens: `host:port`, `http://host:port`, `https://host:port` or
    /// `unix:///path`. \[`"127.0.0.1:50051"`\]
    pub learner: Address,
    /// Collector threads; each works on one shard at a time, or on two in turn where environments are stepped
    /// in processes that have cores of their own. \[`1`\]
    pub threads: usize,
    /// Where Prometheus reads metrics; none: nowhere. \[none\]
    #[serde(serialize_with = "or_none")]
    pub metrics_listen: Option<SocketAddr>,
    /// The program that `rookery` starts as actor, such as one with environments of its own; none:
    /// `rookery-actor`. \[none\]
    #[serde(serialize_with = "or_none")]
    pub program: Option<PathBuf>,
    /// Wait before the first attempt to connect again. \[`"50ms"`\]
    pub reconnect_backoff_initial: HumanDuration,
    /// Longest wait between attempts. \[`"5s"`\]
    pub reconnect_backoff_max: HumanDuration,
    /// Time without a learner after which the process ends with an error. \[`"10m"`\]
    pub give_up_after: HumanDuration,
    /// The processes in which environments of Python run.
    pub host: HostConfiguration,
}

impl Default for ActorConfiguration {
    fn default() -> Self {
        Self {
            learner: Address::tcp("127.0.0.1", 50_051),
            threads: 1,
            metrics_listen: None,
            program: None,
            reconnect_backoff_initial: HumanDuration::from_millis(50),
            reconnect_backoff_max: HumanDuration::from_secs(5),
            give_up_after: HumanDuration::from_secs(600),
            host: HostConfiguration::default(),
        }
    }
}

/// `[actor.host]`: the processes in which environments of Python run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostConfiguration {
    /// The interpreter, by path or as it is found on the `PATH`, that has gymnasium and whatever the
    /// environment needs. \[`"python3"`\]
    pub python: PathBuf,
    /// Folders in which modules of environments are looked for, after the working directory. \[`[]`\]
    pub python_path: Vec<PathBuf>,
    /// Shards that one process carries; it is what fails together. \[`2`\]
    pub groups: usize,
    /// Whether they may be shards of different collector threads, of which one is stepped while the policy
    /// acts in another. That saves memory; threads that have processes of their own are faster.
    /// \[`false`\]
    pub shared: bool,
    /// Time in which a step or a reset of a shard must be done; a process that takes longer is ended.
    /// \[`"1m"`\]
    pub step_timeout: HumanDuration,
    /// Time in which a process must be ready, and in which it must have made a shard's environments.
    /// \[`"2m"`\]
    pub startup_timeout: HumanDuration,
    /// Failed processes, without a thousand steps in between, that are started again; after one more
    /// the actor ends. With 0 it ends at the first. \[`5`\]
    pub max_restarts: u32,
    /// How long actor and process look for each other's answer, from before it is expected until after, in
    /// place of sleeping; `"0s"`: not at all. They do not where there are as many processes as cores.
    /// \[`"100us"`\]
    pub spin: HumanDuration,
}

impl Default for HostConfiguration {
    fn default() -> Self {
        Self {
            python: PathBuf::from("python3"),
            python_path: Vec::new(),
            groups: 2,
            shared: false,
            step_timeout: HumanDuration::from_secs(60),
            startup_timeout: HumanDuration::from_secs(120),
            max_restarts: 5,
            spin: HumanDuration::from_micros(100),
        }
    }
}

/// `[security]`: who may connect, and who can listen in. Every file is read relative to the
/// working directory; certificates and keys are PEM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecurityConfiguration {
    /// File whose one line is the token that actors show and the learner asks for. Without it,
    /// the environment variable `ROOKERY_TOKEN` is read. \[none\]
    #[serde(serialize_with = "or_none")]
    pub token_file: Option<PathBuf>,
    /// The listener's certificate chain; with it and `tls_key` the learner speaks TLS only.
    /// \[none\]
    #[serde(serialize_with = "or_none")]
    pub tls_certificate: Option<PathBuf>,
    /// The private key of `tls_certificate`. \[none\]
    #[serde(serialize_with = "or_none")]
    pub tls_key: Option<PathBuf>,
    /// The authority whose certificate every client must show to the listener. \[none\]
    #[serde(serialize_with = "or_none")]
    pub tls_client_ca: Option<PathBuf>,
    /// The authority that the connecting side trusts; with it connections are TLS. \[none\]
    #[serde(serialize_with = "or_none")]
    pub tls_ca: Option<PathBuf>,
    /// The certificate chain that the connecting side shows. \[none\]
    #[serde(serialize_with = "or_none")]
    pub tls_client_certificate: Option<PathBuf>,
    /// The private key of `tls_client_certificate`. \[none\]
    #[serde(serialize_with = "or_none")]
    pub tls_client_key: Option<PathBuf>,
    /// The name that the listener's certificate must hold; none: the host of the address.
    /// \[none\]
    #[serde(serialize_with = "or_none")]
    pub tls_domain: Option<String>,
    /// Whether a listener that other hosts can reach may go without a token or without TLS, and a
    /// token may travel in the clear. \[`false`\]
    pub insecure: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[telemetry]`: what the processes say about themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfiguration {
    /// What is logged: a level, or directives such as `"info,rookery_learner=debug"`. \[`"info"`\]
    pub log: String,
    /// How log lines look. \[`"text"`\]
    pub log_format: LogFormat,
}

impl Default for TelemetryConfiguration {
    fn default() -> Self {
        Self {
            log: "info".to_owned(),
            log_format: LogFormat::Text,
        }
    }
}
