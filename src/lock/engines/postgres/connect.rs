//! Connecting: to which of the servers, how encrypted, as whom.

use super::encryption::SslMode;
use super::password;
use super::settings::Server;
use super::socket::{Connected, Ends, Wire};
use super::sql::Sql;
use super::target::{Target, is_refusal};
use crate::lock::engines::ANSWER_TIMEOUT;
use crate::lock::sys;
use crate::lock::types::{Error, Result};
use std::error::Error as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::config::{Host, SslMode as WireMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Connection, NoTls};

/// Where something listens, and says nothing of what PostgreSQL would say.
const PORT_ADVICE: &str = " (is it PostgreSQL's port, 5432?)";

/// A connection. A task of its own looks after it.
pub(super) struct Link {
    pub(super) client: Client,
    /// Ends when the connection does.
    pub(super) ended: JoinHandle<()>,
    /// The same socket: open as long as anybody has it open.
    socket: OwnedFd,
    /// The server process that serves it.
    pub(super) backend: i32,
    /// The server sees the very connection that we see: nothing is in between.
    pub(super) direct: bool,
    /// The server's version: 15 for 15.18. 0: it did not say.
    pub(super) version: u32,
    /// Commits do not wait for anything here, as somebody has configured.
    pub(super) commits_later: bool,
    /// See [`EPOCH`](super::grant::EPOCH); `None`: the server has to look it up.
    pub(super) epoch: Option<String>,
    /// The server, with the address that it had: a request to cancel has to reach the same, whatever the name means by
    /// then.
    server: Server,
}

impl Link {
    /// Runs statements over it.
    pub(super) fn sql<'a>(&'a self, target: &'a Target) -> Sql<'a> {
        Sql {
            target,
            client: &self.client,
        }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Lets a silent connection last as long as a lease of this length.
    pub(super) fn last_for(&self, ttl: Duration) {
        if self.server.address.is_some() {
            let seconds = i32::try_from(ttl.as_secs()).unwrap_or(i32::MAX).clamp(5, 32_000);
            sys::keep_alive(self.socket(), seconds, (seconds / 3).max(2), 3);
        }
    }
}

/// Why there is no connection.
enum ConnectError {
    /// The encryption could not be set up.
    Encryption(Error),
    /// The server does not let this user in this way.
    Rejected(Error),
    /// The server has no connection left.
    Full(Error),
    Other(Error),
}

impl From<Error> for ConnectError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Encryption(error)
            | ConnectError::Rejected(error)
            | ConnectError::Full(error)
            | ConnectError::Other(error) => error,
        }
    }
}

/// Why there is no TLS.
#[derive(Debug)]
pub(super) struct HandshakeFailed(pub(super) io::Error);

impl fmt::Display for HandshakeFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for HandshakeFailed {}

impl Target {
    /// Connects to the first server that answers and is no standby: a standby would keep locks of its own.
    pub(super) async fn connect(&self, application: &str) -> Result<Link> {
        self.connect_until(Instant::now() + ANSWER_TIMEOUT, application).await
    }

    /// The same until `end`.
    pub(super) async fn connect_until(&self, end: Instant, application: &str) -> Result<Link> {
        let (mut silent, mut standbys) = (None, false);
        for (i, server) in self.servers.iter().enumerate() {
            // Those that are left share the time that is left. The last one has it until `end` exactly: what waits for this
            // as well knows less of the reason.
            let now = Instant::now();
            let share = end.saturating_duration_since(now) / u32::try_from(self.servers.len() - i).unwrap_or(1);
            let share = self.config.get_connect_timeout().map_or(share, |most| share.min(*most));
            let until = now + share;
            match timeout_at(until, self.connect_to(server, until, application)).await {
                Ok(Ok((link, false))) => return Ok(link),
                Ok(Ok((_, true))) => standbys = true,
                Ok(Err(error)) => match error.into() {
                    error @ Error::Unreachable { .. } => silent = Some(error),
                    error => return Err(error),
                },
                Err(_) => silent = Some(self.no_answer()),
            }
        }
        // One that cannot be reached may be the primary: there is something to wait for.
        Err(silent.unwrap_or_else(|| {
            if standbys {
                self.refused("this server is a standby: locks are kept by the primary")
            } else {
                self.unreachable("no host is named")
            }
        }))
    }

    /// Makes sure within `time` that the server at the other end of `link` still serves others. The link itself may be
    /// silent for a good reason.
    pub(super) async fn still_serves(&self, link: &Link, application: &str, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        if !link.direct {
            // A pooler whose sessions are all in use lets others wait; but it ends ours when it has lost it.
            return match timeout_at(until, self.reach(&link.server, until)).await {
                Ok(reached) => reached.map(drop),
                Err(_) => Err(self.no_answer()),
            };
        }
        match timeout_at(until, self.connect_to(&link.server, until, application)).await {
            // A server that has no connection left serves those who have one.
            Ok(Ok(_) | Err(ConnectError::Full(_))) => Ok(()),
            Ok(Err(error)) => match error.into() {
                error @ Error::Unreachable { .. } => Err(error),
                refused => {
                    log::debug!("{refused}");
                    Ok(())
                }
            },
            Err(_) => Err(self.no_answer()),
        }
    }

    /// Connects to this server: `(link, standby)`.
    async fn connect_to(
        &self,
        server: &Server,
        until: Instant,
        application: &str,
    ) -> Result<(Link, bool), ConnectError> {
        let (first, second) = match self.encryption.mode {
            _ if self.tls.is_none() || matches!(server.host, Host::Unix(_)) => (WireMode::Disable, None),
            SslMode::Disable => (WireMode::Disable, None),
            SslMode::Allow => (WireMode::Disable, Some(WireMode::Require)),
            SslMode::Prefer => (WireMode::Prefer, Some(WireMode::Disable)),
            _ => (WireMode::Require, None),
        };
        let error = match (self.log_in(server, until, application, first).await, second) {
            (Ok((link, ends)), _) => return Ok(self.identify(link, ends).await?),
            (Err(ConnectError::Rejected(error) | ConnectError::Encryption(error)), Some(_)) => error,
            (Err(error), _) => return Err(error),
        };
        log::debug!("{error}; trying the other way, as sslmode allows it");
        let second = second.unwrap_or(first);
        match self.log_in(server, until, application, second).await {
            Ok((link, ends)) => Ok(self.identify(link, ends).await?),
            // The first answer says more.
            Err(ConnectError::Encryption(_)) => Err(error.into()),
            Err(error) => Err(error),
        }
    }

    async fn log_in(
        &self,
        server: &Server,
        until: Instant,
        application: &str,
        mode: WireMode,
    ) -> Result<(Link, Ends), ConnectError> {
        let Connected { wire, socket, ends } = self.reach(server, until).await?;
        let server = Server {
            address: ends.address(),
            ..server.clone()
        };
        let mut config = self.config.clone();
        config.application_name(application).ssl_mode(mode);
        if config.get_password().is_none()
            && let Some(password) = password::find(&config, &server)
        {
            config.password(password);
        }
        // A local socket is not another program's by mistake.
        let advice = if server.address.is_some() { PORT_ADVICE } else { "" };
        let started = timeout_at(until, self.start(wire, &config, &server)).await;
        let started = started.map_err(|_| self.unreachable(format!("no answer in time{advice}")))?;
        let Started { client, ended, version } = started.map_err(|error| self.login_error(&error, &server, advice))?;
        let link = Link {
            client,
            ended,
            socket,
            backend: 0,
            direct: false,
            version,
            commits_later: false,
            epoch: None,
            server,
        };
        Ok((link, ends))
    }

    /// Encrypts `wire` if `config` asks for that, and logs in.
    async fn start(
        &self,
        wire: Box<dyn Wire>,
        config: &Config,
        server: &Server,
    ) -> Result<Started, tokio_postgres::Error> {
        match &self.tls {
            Some(tls) if config.get_ssl_mode() != WireMode::Disable => {
                config.connect_raw(wire, tls.handshake(server)).await.map(look_after)
            }
            _ => config.connect_raw(wire, NoTls).await.map(look_after),
        }
    }

    /// Why [`start`](Self::start) failed.
    fn login_error(&self, error: &tokio_postgres::Error, server: &Server, advice: &str) -> ConnectError {
        let cause = error.source();
        if let Some(HandshakeFailed(error)) = cause.and_then(|cause| cause.downcast_ref()) {
            let what = format!("TLS with {}: {error}", server.name());
            return ConnectError::Encryption(if is_refusal(error) {
                self.refused(what)
            } else {
                self.unreachable(what)
            });
        }
        // Only the text tells.
        if cause.is_some_and(|cause| cause.to_string() == "server does not support TLS") {
            return ConnectError::Encryption(self.refused("it does not offer encryption, and sslmode asks for it"));
        }
        if error.is_closed() {
            return self.unreachable(format!("{error}{advice}")).into();
        }
        match error.code() {
            Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => ConnectError::Rejected(self.error(error)),
            Some(&SqlState::TOO_MANY_CONNECTIONS) => ConnectError::Full(self.error(error)),
            _ => self.error(error).into(),
        }
    }

    /// Asks the server to end what this connection waits for.
    pub(super) async fn cancel(&self, link: &Link) {
        let ask = async {
            let Connected { wire, .. } = self.reach(&link.server, Instant::now() + ANSWER_TIMEOUT).await?;
            let token = link.client.cancel_token();
            let sent = match &self.tls {
                Some(tls) => token.cancel_query_raw(wire, tls.handshake(&link.server)).await,
                None => token.cancel_query_raw(wire, NoTls).await,
            };
            sent.map_err(|error| self.error(&error))
        };
        match timeout(ANSWER_TIMEOUT, ask).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::debug!("{error}"),
            Err(_) => log::debug!("{}: the request to cancel had no answer", self.place()),
        }
    }
}

/// A session that has begun.
struct Started {
    client: Client,
    /// Ends when the connection does.
    ended: JoinHandle<()>,
    /// See [`Link::version`].
    version: u32,
}

/// Has a task read and write what goes over the connection.
fn look_after<S, T>((client, connection): (Client, Connection<S, T>)) -> Started
where
    Connection<S, T>: Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let version = connection.parameter("server_version").map_or(0, major);
    let ended = tokio::spawn(async {
        let _ = connection.await;
    });
    Started { client, ended, version }
}

/// The first number of a server's version.
fn major(version: &str) -> u32 {
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_number_of_a_version() {
        for (version, major) in [
            ("15.18 (Debian 15.18-0+deb12u1)", 15),
            ("17beta1", 17),
            ("12.3", 12),
            ("18", 18),
            ("", 0),
            ("devel", 0),
            ("99999999999999999999.1", 0),
        ] {
            assert_eq!(super::major(version), major, "{version}");
        }
    }
}
