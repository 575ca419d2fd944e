//! Connecting: where to, as whom, with which password; and whether it is the server that was reached, or a pooler.

use crate::backend::url::{PostgresUrl, without_password};
use crate::{Error, Result, sys};
use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

/// How long an answer may take.
pub(super) const BUDGET: Duration = Duration::from_secs(4);

/// PostgreSQL's port.
const PORT: u16 = 5432;

/// Where to connect, and as whom.
pub(super) struct Target {
    config: Config,
    place: String,
}

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// A connection that is looked after by a task of its own.
pub(super) struct Link {
    pub(super) client: Client,
    /// Ends when the connection does.
    pub(super) ended: JoinHandle<()>,
    /// The same socket: open as long as anybody has it open.
    pub(super) socket: OwnedFd,
    /// Our end's port; 0 for a local socket.
    port: u16,
}

impl Target {
    pub(super) fn new(url: &PostgresUrl) -> Result<Self> {
        let shown = without_password(&url.secret);
        let mut config: Config = url.secret.parse().map_err(|error: tokio_postgres::Error| Error::Url {
            url: shown.clone(),
            // It names the part that is wrong, not what stands there.
            reason: std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string),
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            match environment("PGHOST") {
                Some(host) => config.host(host),
                None => config.host_path("/var/run/postgresql"),
            };
        }
        if config.get_user().is_none() {
            config.user(environment("PGUSER").unwrap_or_else(crate::backend::who::user_name));
        }
        if config.get_dbname().is_none()
            && let Some(database) = environment("PGDATABASE")
        {
            config.dbname(database);
        }
        Ok(Self {
            place: format!("PostgreSQL at {}", place(&config)),
            config,
        })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn unreachable(&self, what: impl Into<String>) -> Error {
        Error::Unreachable {
            engine: self.place.clone(),
            what: what.into(),
        }
    }

    pub(super) fn refused(&self, what: impl Into<String>) -> Error {
        Error::Refused {
            engine: self.place.clone(),
            what: what.into(),
        }
    }

    /// What the server or the connection has to say.
    pub(super) fn error(&self, error: &tokio_postgres::Error) -> Error {
        let Some(said) = error.as_db_error() else {
            // "error connecting to server" alone says nothing.
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
            return self.unreachable(format!("{error}{}", cause.unwrap_or_default()));
        };
        let passing = [
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::TOO_MANY_CONNECTIONS,
        ];
        let what = said.message().escape_debug().to_string();
        if passing.contains(said.code()) {
            self.unreachable(what)
        } else {
            self.refused(what)
        }
    }

    /// Connects to the first host that answers.
    pub(super) async fn connect(&self, application: &str) -> Result<Link> {
        let mut last = self.unreachable("no host is named");
        for (i, host) in self.hosts().into_iter().enumerate() {
            let port = self.port(i);
            match timeout(BUDGET, self.connect_to(&host, port, application)).await {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(error @ Error::Unreachable { .. })) => last = error,
                Ok(Err(error)) => return Err(error),
                Err(_) => last = self.unreachable("no answer in time"),
            }
        }
        Err(last)
    }

    fn hosts(&self) -> Vec<Host> {
        let addresses = self.config.get_hostaddrs();
        if addresses.is_empty() {
            self.config.get_hosts().to_vec()
        } else {
            addresses.iter().map(|address| Host::Tcp(address.to_string())).collect()
        }
    }

    fn port(&self, i: usize) -> u16 {
        let ports = self.config.get_ports();
        ports.get(i).or(ports.first()).copied().unwrap_or(PORT)
    }

    async fn connect_to(&self, host: &Host, port: u16, application: &str) -> Result<Link> {
        let (wire, socket, own_port) = match host {
            Host::Unix(folder) => {
                let path = folder.join(format!(".s.PGSQL.{port}"));
                let stream = std::os::unix::net::UnixStream::connect(&path);
                let stream = stream.map_err(|e| self.unreachable(format!("{}: {e}", path.display())))?;
                self.unix(stream)
            }
            Host::Tcp(name) => {
                let io = |e: std::io::Error| self.unreachable(format!("{name}: {e}"));
                let mut stream = Err(std::io::Error::other("it has no address"));
                for address in (name.as_str(), port).to_socket_addrs().map_err(io)? {
                    stream = std::net::TcpStream::connect_timeout(&address, BUDGET);
                    if stream.is_ok() {
                        break;
                    }
                }
                self.tcp(stream.map_err(io)?)
            }
        }
        .map_err(|e| self.unreachable(e.to_string()))?;
        let mut config = self.config.clone();
        config.application_name(application);
        if config.get_password().is_none()
            && let Some(password) = self.password(host, port)
        {
            config.password(password);
        }
        let (client, connection) = config.connect_raw(wire, NoTls).await.map_err(|e| self.error(&e))?;
        let ended = tokio::spawn(async {
            let _ = connection.await;
        });
        Ok(Link {
            client,
            ended,
            socket,
            port: own_port,
        })
    }

    fn unix(&self, stream: std::os::unix::net::UnixStream) -> std::io::Result<(Box<dyn Wire>, OwnedFd, u16)> {
        stream.set_nonblocking(true)?;
        let socket = stream.as_fd().try_clone_to_owned()?;
        Ok((Box::new(tokio::net::UnixStream::from_std(stream)?), socket, 0))
    }

    fn tcp(&self, stream: std::net::TcpStream) -> std::io::Result<(Box<dyn Wire>, OwnedFd, u16)> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        // While it waits for the lock nothing is sent: a server that has vanished is noticed by these.
        sys::keep_alive(stream.as_fd(), 5, 2, 3);
        let socket = stream.as_fd().try_clone_to_owned()?;
        let port = stream.local_addr()?.port();
        Ok((Box::new(tokio::net::TcpStream::from_std(stream)?), socket, port))
    }

    /// From `PGPASSWORD`, else from the password file, as libpq does.
    fn password(&self, host: &Host, port: u16) -> Option<String> {
        if let Some(password) = environment("PGPASSWORD") {
            return Some(password);
        }
        let path = environment("PGPASSFILE").map(PathBuf::from);
        let path = path.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pgpass")))?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().ok()?.permissions());
        if mode & 0o077 != 0 {
            log::warn!("{} is readable by others and was ignored: chmod 600", path.display());
            return None;
        }
        let host = match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(_) => "localhost".to_owned(),
        };
        let user = self.config.get_user().unwrap_or_default();
        let database = self.config.get_dbname().unwrap_or(user);
        let wanted = [host.as_str(), &port.to_string(), database, user];
        let text = std::fs::read_to_string(&path).ok()?;
        text.lines().find_map(|line| password_in(line, wanted))
    }

    /// Asks the server to end what this connection waits for.
    pub(super) async fn cancel(&self, link: &Link) {
        for (i, host) in self.hosts().into_iter().enumerate() {
            let wire = match &host {
                Host::Unix(folder) => {
                    let path = folder.join(format!(".s.PGSQL.{}", self.port(i)));
                    let stream = std::os::unix::net::UnixStream::connect(path);
                    stream.and_then(|stream| self.unix(stream))
                }
                Host::Tcp(name) => {
                    let addresses = (name.as_str(), self.port(i)).to_socket_addrs();
                    let stream = addresses.and_then(|mut all| {
                        let address = all.next().ok_or_else(|| std::io::Error::other("no address"))?;
                        std::net::TcpStream::connect_timeout(&address, BUDGET)
                    });
                    stream.and_then(|stream| self.tcp(stream))
                }
            };
            if let Ok((wire, ..)) = wire {
                // A server that this is not meant for does not know the key.
                let _ = timeout(BUDGET, link.client.cancel_token().cancel_query_raw(wire, NoTls)).await;
            }
        }
    }

    /// Makes sure that this connection is one session of the server. A pooler that gives each transaction another
    /// session would let two have the lock.
    pub(super) async fn refuse_pooler(&self, link: &Link) -> Result<()> {
        let (pid, port) = self.session_of(&link.client).await?;
        if port != 0 && port == i32::from(link.port) {
            return Ok(()); // the server sees our own end of the connection: nothing is in between
        }
        // Something is: it may be harmless (a forwarded port), or a pooler. While another connection keeps a session
        // busy, a pooler has to give this one another.
        let other = self.connect("resourcelock").await?;
        let begun = timeout(BUDGET, other.client.batch_execute("BEGIN")).await;
        let again = match begun {
            Ok(Ok(())) => Some((
                self.session_of(&other.client).await?.0,
                self.session_of(&link.client).await,
            )),
            _ => None,
        };
        match again {
            Some((others, Ok((own, _)))) if own == pid && others != pid => Ok(()),
            _ => Err(self.refused(
                "a connection pooler in transaction mode is in between: sessions are not kept, two could have the \
                 lock; connect to the server itself, or to a pooler in session mode",
            )),
        }
    }

    /// The server process that serves this connection, and the port that it sees at our end (0: a local socket).
    async fn session_of(&self, client: &Client) -> Result<(i32, i32)> {
        let query = "SELECT pg_backend_pid(), coalesce(inet_client_port(), 0)";
        match timeout(BUDGET, client.query_typed_one(query, &[])).await {
            Ok(Ok(row)) => Ok((row.get(0), row.get(1))),
            Ok(Err(error)) => Err(self.error(&error)),
            Err(_) => Err(self.unreachable("no answer in time")),
        }
    }
}

impl Link {
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The password in a line of the password file, if the line is meant for these (host, port, database, user).
fn password_in(line: &str, wanted: [&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields: Vec<String> = Vec::new();
    let mut field = String::new();
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => field.extend(letters.next()),
            // The password is the rest, whatever it contains.
            ':' if fields.len() < 4 => fields.push(std::mem::take(&mut field)),
            letter => field.push(letter),
        }
    }
    fields.push(field);
    let [parts @ .., password] = fields.as_slice() else {
        return None;
    };
    let fits = parts.len() == 4
        && parts
            .iter()
            .zip(wanted)
            .all(|(part, wanted)| part == "*" || part == wanted);
    fits.then(|| password.clone())
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn place(config: &Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let hosts: Vec<String> = hosts
        .chain(config.get_hostaddrs().iter().map(ToString::to_string))
        .collect();
    let ports: Vec<String> = config.get_ports().iter().map(ToString::to_string).collect();
    let port = if ports.is_empty() {
        String::new()
    } else {
        format!(":{}", ports.join(","))
    };
    let database = config.get_dbname().map(|name| format!("/{name}")).unwrap_or_default();
    format!("{}{port}{database}", hosts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_password_file() {
        let wanted = ["db1", "5432", "jobs", "ann"];
        assert_eq!(
            password_in("db1:5432:jobs:ann:s3:cret", wanted).as_deref(),
            Some("s3:cret")
        );
        assert_eq!(password_in(r"*:*:*:ann:a\\b\:c", wanted).as_deref(), Some(r"a\b:c"));
        for other in ["db2:*:*:*:x", "# *:*:*:*:x", "db1:5432", "", "*:*:*:bob:x"] {
            assert_eq!(password_in(other, wanted), None, "{other}");
        }
    }
}
