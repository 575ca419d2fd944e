//! The socket: connecting it, and which two ends it joins.

use super::settings::Server;
use super::target::Target;
use crate::lock::engines::resolver;
use crate::lock::sys;
use crate::lock::types::Result;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::config::Host;

/// What the protocol is spoken over.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// A socket that is connected.
pub(super) struct Connected {
    pub(super) wire: Box<dyn Wire>,
    /// The same socket, once more.
    pub(super) socket: OwnedFd,
    pub(super) ends: Ends,
}

/// Both ends of a connection, as this side sees them.
#[derive(Clone, Copy)]
pub(super) enum Ends {
    Tcp {
        own: SocketAddr,
        server: SocketAddr,
    },
    /// The process that listens on the local socket, if it can be seen.
    Local {
        listener: Option<i32>,
    },
}

impl Ends {
    /// The server's address.
    pub(super) fn address(self) -> Option<IpAddr> {
        match self {
            Self::Tcp { server, .. } => Some(server.ip()),
            Self::Local { .. } => None,
        }
    }
}

impl Target {
    /// Connects a socket to this server until `end`.
    pub(super) async fn reach(&self, server: &Server, end: Instant) -> Result<Connected> {
        match &server.host {
            Host::Unix(directory) => self.reach_locally(directory, server).await,
            Host::Tcp(host) => {
                let addresses = match server.address {
                    Some(address) => vec![SocketAddr::new(address, server.port)],
                    None => {
                        let time = end.saturating_duration_since(Instant::now());
                        self.addresses(host, server.port, time).await?
                    }
                };
                let connected = match first_to_answer(&addresses, end).await {
                    Ok(stream) => connected(stream),
                    Err(error) => Err(error),
                };
                connected.map_err(|e| self.unreachable(format!("{}: {e}", server.name())))
            }
        }
    }

    async fn reach_locally(&self, directory: &Path, server: &Server) -> Result<Connected> {
        let path = directory.join(format!(".s.PGSQL.{}", server.port));
        let fail = |e: io::Error| self.unreachable(format!("{}: {e}", path.display()));
        let stream = UnixStream::connect(&path).await.map_err(fail)?;
        let listener = stream.peer_cred().ok().and_then(|peer| peer.pid());
        Ok(Connected {
            socket: stream.as_fd().try_clone_to_owned().map_err(fail)?,
            wire: Box::new(stream),
            ends: Ends::Local { listener },
        })
    }

    async fn addresses(&self, host: &str, port: u16, time: Duration) -> Result<Vec<SocketAddr>> {
        let (tell, told) = tokio::sync::oneshot::channel();
        resolver::resolve(host, port, time, |found| drop(tell.send(found)))?;
        match told.await {
            Ok(found) => found.map_err(|e| self.unreachable(e.to_string())),
            Err(_) => Err(self.unreachable("resolving its name was given up")),
        }
    }
}

/// Tries one address after the other; those that are left share the time that is left.
async fn first_to_answer(addresses: &[SocketAddr], end: Instant) -> io::Result<TcpStream> {
    let mut result = Err(io::Error::other("it has no address"));
    for (i, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let share = end.saturating_duration_since(now) / u32::try_from(addresses.len() - i).unwrap_or(1);
        let until = now + share;
        result = match timeout_at(until, TcpStream::connect(address)).await {
            Ok(stream) => stream,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        if result.is_ok() {
            break;
        }
    }
    result
}

fn connected(stream: TcpStream) -> io::Result<Connected> {
    stream.set_nodelay(true)?;
    // Nothing is sent while it waits for the lock: these probes notice a server that has vanished.
    sys::keep_alive(stream.as_fd(), 5, 2, 3);
    Ok(Connected {
        ends: Ends::Tcp {
            own: stream.local_addr()?,
            server: stream.peer_addr()?,
        },
        socket: stream.as_fd().try_clone_to_owned()?,
        wire: Box::new(stream),
    })
}
