//! A bound port or Unix socket, and the connections that arrive at it.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;
use tonic::Extensions;
use tonic::transport::server::{Connected, TlsConnectInfo};

use super::{Address, SecurityError};

/// Wait after a failure to accept, such as that no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound port or Unix socket: a stream of connections for `serve_with_incoming`. It does not end
/// and yields no errors; where accepting fails it waits a moment and goes on.
///
/// The file of a Unix socket goes when the listener goes.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    socket: Socket,
    pause: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener, SocketAddr),
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

/// Removes the file of a Unix socket when dropped.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "socket file is gone already");
        }
    }
}

impl Listener {
    /// Binds `address`. A Unix socket is open to its owner only, and replaces the file that a
    /// process which is no more has left.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub(super) async fn bind(address: &Address) -> Result<Self, SecurityError> {
        let failed = |source| SecurityError::Bind {
            address: address.clone(),
            source,
        };
        match address {
            Address::Tcp { scheme, host, port } => {
                let listener = TcpListener::bind((host.as_str(), *port))
                    .await
                    .map_err(failed)?;
                let bound = listener.local_addr().map_err(failed)?;
                Ok(Self {
                    address: Address::Tcp {
                        scheme: *scheme,
                        host: host.clone(),
                        port: bound.port(),
                    },
                    socket: Socket::Tcp(listener, bound),
                    pause: None,
                })
            }
            Address::Unix(path) => {
                remove_stale(address, path).await?;
                let listener = UnixListener::bind(path).map_err(failed)?;
                let file = SocketFile(path.clone());
                fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
                Ok(Self {
                    address: address.clone(),
                    socket: Socket::Unix {
                        listener,
                        _file: file,
                    },
                    pause: None,
                })
            }
        }
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Whether only this host can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match &self.socket {
            Socket::Tcp(_, bound) => bound.ip().is_loopback(),
            Socket::Unix { .. } => true,
        }
    }
}

/// Removes the socket file at `path` if nobody listens there.
async fn remove_stale(address: &Address, path: &Path) -> Result<(), SecurityError> {
    let failed = |source| SecurityError::Bind {
        address: address.clone(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SecurityError::NotASocket {
                address: address.clone(),
            });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(SecurityError::InUse {
            address: address.clone(),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

impl Stream for Listener {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(context));
                this.pause = None;
            }
            let accepted = match &this.socket {
                Socket::Tcp(listener, _) => {
                    ready!(listener.poll_accept(context)).and_then(|(stream, _)| {
                        stream.set_nodelay(true)?;
                        Ok(Connection::Tcp(stream))
                    })
                }
                Socket::Unix { listener, .. } => ready!(listener.poll_accept(context))
                    .map(|(stream, _)| Connection::Unix(stream)),
            };
            match accepted {
                Ok(connection) => return Poll::Ready(Some(Ok(connection))),
                Err(error) => {
                    tracing::warn!(address = %this.address, %error, "connection not accepted");
                    this.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}

/// A connection that was accepted.
#[derive(Debug)]
pub enum Connection {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Who is at the other end of a connection, for log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP port; `None` where the connection was gone before it could be asked.
    Tcp(Option<SocketAddr>),
    /// A process of this host.
    Unix,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        match self {
            Self::Tcp(stream) => Peer::Tcp(stream.peer_addr().ok()),
            Self::Unix(_) => Peer::Unix,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(Some(address)) => address.fmt(formatter),
            Self::Tcp(None) => formatter.write_str("unknown"),
            Self::Unix => formatter.write_str("unix"),
        }
    }
}

/// Who sent the request with these extensions, over a [`Connection`] with or without TLS.
#[must_use]
pub fn peer(extensions: &Extensions) -> Option<Peer> {
    extensions.get::<Peer>().copied().or_else(|| {
        extensions
            .get::<TlsConnectInfo<Peer>>()
            .map(|info| *info.get_ref())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(path: PathBuf) -> Address {
        Address::Unix(path)
    }

    #[tokio::test]
    async fn a_unix_socket_is_its_owners_and_goes_with_the_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = Listener::bind(&unix(path.clone())).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        // The standard library's listener leaves its file behind, as a killed process does.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = Listener::bind(&unix(path.clone())).await.unwrap();
        let error = Listener::bind(&unix(path.clone())).await.unwrap_err();
        assert!(matches!(error, SecurityError::InUse { .. }), "{error}");
        // The refused one has not removed the file of the live one.
        UnixStream::connect(&path).await.unwrap();
        drop(listener);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.txt");
        fs::write(&path, "keep me").unwrap();
        let error = Listener::bind(&unix(path.clone())).await.unwrap_err();
        assert!(matches!(error, SecurityError::NotASocket { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "keep me");
    }

    #[tokio::test]
    async fn port_zero_becomes_the_port_that_was_bound() {
        let listener = Listener::bind(&Address::tcp("127.0.0.1", 0)).await.unwrap();
        let Address::Tcp { host, port, .. } = listener.address() else {
            panic!("a TCP address stays one")
        };
        assert_ne!(*port, 0);
        TcpStream::connect((host.as_str(), *port)).await.unwrap();
    }
}
