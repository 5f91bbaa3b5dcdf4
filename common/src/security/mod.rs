//! Who may connect, and who can listen in.
//!
//! The learner holds a [`ServerSecurity`]: it binds a [`Listener`], refuses one that other hosts
//! can reach unguarded, and checks the token of every call. An actor holds a [`ClientSecurity`]:
//! it opens the channel and shows the token. Each loads only the files that its side needs, so one
//! configuration serves both.

mod address;
mod token;
mod tls;
mod listener;
mod client;
mod server;

use std::error::Error;
use std::io;
use std::path::PathBuf;

pub use address::{Address, AddressError, Scheme};
pub use client::ClientSecurity;
pub use listener::{Connection, Listener, Peer, peer};
pub use server::ServerSecurity;
pub use token::{RequireToken, ShowToken, TOKEN_VARIABLE, Token};

use crate::exit::Exit;

/// Why a connection or a listener could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// A file of the security settings cannot be read.
    #[error("security.{key}: {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A token is empty or cannot travel in a header.
    #[error("the token of {origin} {reason}: use one line of visible ASCII characters")]
    Token {
        /// The file or the variable.
        origin: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file does not hold the PEM blocks that it should.
    #[error("security.{key}: {} holds no {expected} that can be read: {reason}", path.display())]
    Pem {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// One of two keys that belong together is missing.
    #[error("security.{set} is set without security.{missing}: set both or neither")]
    Incomplete {
        /// The key that is there.
        set: &'static str,
        /// The key that is not.
        missing: &'static str,
    },
    /// Certificates and keys that are fine one by one do not go together.
    #[error("security.{keys} cannot be used together: {reason}")]
    Tls {
        /// The keys that name the files.
        keys: &'static str,
        /// Why not.
        reason: String,
    },
    /// A listener that other hosts can reach would let anyone in, or anyone listen in.
    #[error(
        "refusing to listen on {address}: other hosts can reach it, and {missing}; set what is \
         missing, listen on 127.0.0.1 or unix:///path, or set security.insecure = true on a network \
         where every host is trusted"
    )]
    Exposed {
        /// Where it would have listened.
        address: Address,
        /// What is missing.
        missing: &'static str,
    },
    /// A token would travel where others can read it.
    #[error(
        "refusing to send the token to {address} in the clear: set security.tls_ca, or \
         security.insecure = true on a network where every host is trusted"
    )]
    TokenInClear {
        /// Where it would have gone.
        address: Address,
    },
    /// An `https` address without an authority to trust.
    #[error("{address} asks for TLS: set security.tls_ca to the authority of its certificate")]
    NoAuthority {
        /// The address.
        address: Address,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: Address,
        /// Why not.
        source: io::Error,
    },
    /// Another process listens on the socket.
    #[error("cannot listen on {address}: another process listens there")]
    InUse {
        /// The address.
        address: Address,
    },
    /// What stands at the path of a socket is something else.
    #[error("cannot listen on {address}: the path holds something that is no socket; remove it")]
    NotASocket {
        /// The address.
        address: Address,
    },
    /// The peer does not answer, for now.
    #[error("cannot connect to {address}: {reason}")]
    Unreachable {
        /// The address.
        address: Address,
        /// Why not.
        reason: String,
    },
}

impl SecurityError {
    /// How a process that gives up on this ends.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } => Exit::Unavailable,
            Self::Bind { .. } | Self::InUse { .. } => Exit::TryAgain,
            Self::Exposed { .. } | Self::TokenInClear { .. } => Exit::NotPermitted,
            _ => Exit::Usage,
        }
    }
}

/// An error with everything that it was caused by, outermost first, each said once.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}
