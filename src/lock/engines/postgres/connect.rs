//! Connecting: to which of the servers, how encrypted; and whether it is the server that was reached, or a pooler.

use super::password;
use super::settings::{Encryption, Place, Settings, SslMode};
use super::tls::{self, Tls};
use super::wire::{Done, Settled, Wire};
use crate::lock::engines::resolver;
use crate::lock::sys;
use crate::lock::system::{Stat, printable};
use crate::{Error, Result};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::config::{Host, SslMode as WireMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::FromSql;
use tokio_postgres::{Client, Config, Row};

/// How long an answer may take.
pub(super) const BUDGET: Duration = Duration::from_secs(4);

/// Asks the server for encryption: length, and a number that is no version.
const ENCRYPT: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Where something listens, and says nothing of what PostgreSQL would say.
const PORT_ADVICE: &str = " (is it PostgreSQL's port, 5432?)";

/// Where to connect, and as whom.
pub(super) struct Target {
    config: Config,
    places: Vec<Place>,
    encryption: Encryption,
    /// `None`: never encrypted.
    tls: Option<Tls>,
    place: String,
}

/// A connection that is looked after by a task of its own.
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
    /// How it was made: a request to cancel goes the same way.
    way: Way,
}

#[derive(Clone)]
struct Way {
    place: Place,
    /// `None`: a local socket.
    address: Option<IpAddr>,
    encrypted: bool,
}

impl Way {
    /// The same server, whatever its name means now.
    fn place(&self) -> Place {
        Place {
            address: self.address,
            ..self.place.clone()
        }
    }
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    No,
    IfOffered,
    Yes,
}

/// Why there is no connection.
enum Trouble {
    /// The encryption could not be set up.
    Encryption(Error),
    /// The server does not let this user in this way.
    NotLetIn(Error),
    /// The server has no connection left.
    NoRoom(Error),
    Other(Error),
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Encryption(error) | Trouble::NotLetIn(error) | Trouble::NoRoom(error) | Trouble::Other(error) => {
                error
            }
        }
    }
}

/// Both ends of a connection, as we see them.
#[derive(Clone, Copy)]
enum Ends {
    Tcp(SocketAddr, SocketAddr),
    /// The process that listens on the local socket, if it can be seen.
    Local(Option<i32>),
}

impl Ends {
    fn server(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(_, server) => Some(server.ip()),
            Self::Local(_) => None,
        }
    }
}

impl Target {
    pub(super) fn new(url: &str) -> Result<Self> {
        let Settings {
            config,
            places,
            encryption,
        } = Settings::read(url)?;
        let goes_out = places.iter().any(|place| matches!(place.host, Host::Tcp(_)));
        let tls = if goes_out && encryption.mode != SslMode::Disable {
            Tls::new(&encryption)?
        } else {
            None
        };
        let addresses = places.iter().filter(|place| matches!(place.host, Host::Tcp(_)));
        let nameless = addresses.clone().any(|place| {
            let address = place.address.map(|address| address.to_string());
            matches!(&place.host, Host::Tcp(name) if Some(name) == address.as_ref()) && config.get_hosts().is_empty()
        });
        if nameless && encryption.mode == SslMode::VerifyFull {
            return Err(Error::Unsupported {
                engine: "postgres",
                what: "sslmode=verify-full needs the server's name (host=), not only hostaddr".to_owned(),
            });
        }
        Ok(Self {
            place: format!("PostgreSQL at {}", shown(&config, &places)),
            config,
            places,
            encryption,
            tls,
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
            let cause = std::error::Error::source(error);
            // "error connecting to server" alone says nothing.
            let what = format!("{error}{}", cause.map(|cause| format!(": {cause}")).unwrap_or_default());
            if what == "invalid configuration: password missing" {
                return self.refused("it wants a password: postgres://USER:PASSWORD@…, PGPASSWORD or ~/.pgpass");
            }
            let by_tls = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
            // Only the text tells that the login failed on our own side (no password; no channel binding).
            let own = ["authentication error", "invalid configuration"];
            return if by_tls.is_some_and(tls::is_refusal) || own.iter().any(|own| what.starts_with(own)) {
                self.refused(what)
            } else {
                self.unreachable(what)
            };
        };
        let passing = [
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::TOO_MANY_CONNECTIONS,
        ];
        let what = printable(said.message());
        if passing.contains(said.code()) {
            self.unreachable(what)
        } else {
            self.refused(what)
        }
    }

    /// A value of an answer. It may be of another kind than ours, if the table is another one's.
    pub(super) fn value<'a, T: FromSql<'a>>(&self, row: &'a Row, at: usize) -> Result<T> {
        row.try_get(at)
            .map_err(|error| self.refused(format!("an answer of an unexpected kind: {error}")))
    }

    /// Who is asked: the role.
    pub(super) fn role(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    /// Connects to the first server that answers and is no standby: a standby would keep locks of its own.
    pub(super) async fn connect(&self, application: &str) -> Result<Link> {
        self.connect_until(Instant::now() + BUDGET, application).await
    }

    /// The same until then.
    pub(super) async fn connect_until(&self, end: Instant, application: &str) -> Result<Link> {
        let (mut silent, mut standbys) = (None, false);
        for (i, place) in self.places.iter().enumerate() {
            // What is left is shared by those that are left.
            let left = end.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(self.places.len() - i).unwrap_or(1);
            let share = self.config.get_connect_timeout().map_or(share, |most| share.min(*most));
            let until = Instant::now() + share;
            match timeout_at(until, self.connect_to(place, until, application)).await {
                Ok(Ok((link, false))) => return Ok(link),
                Ok(Ok((_, true))) => standbys = true,
                Ok(Err(trouble)) => match trouble.into() {
                    error @ Error::Unreachable { .. } => silent = Some(error),
                    error => return Err(error),
                },
                Err(_) => silent = Some(self.unreachable("no answer in time")),
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

    /// Makes sure that the server at the other end of `link` still serves others. The link itself may be silent for a
    /// good reason. It has `time` for that.
    pub(super) async fn still_serves(&self, link: &Link, application: &str, time: Duration) -> Result<()> {
        let place = link.way.place();
        let until = Instant::now() + time;
        if !link.direct {
            // A pooler that has given away all its sessions has others wait; but it ends ours when it has lost it.
            return match timeout_at(until, self.reach(&place, until)).await {
                Ok(reached) => reached.map(drop),
                Err(_) => Err(self.unreachable("no answer in time")),
            };
        }
        match timeout_at(until, self.connect_to(&place, until, application)).await {
            // Who says that there is no room serves those who have found some.
            Ok(Ok(_) | Err(Trouble::NoRoom(_))) => Ok(()),
            Ok(Err(trouble)) => match trouble.into() {
                error @ Error::Unreachable { .. } => Err(error),
                refused => {
                    log::debug!("{refused}");
                    Ok(())
                }
            },
            Err(_) => Err(self.unreachable("no answer in time")),
        }
    }

    /// Also tells whether it is a standby.
    async fn connect_to(&self, place: &Place, until: Instant, application: &str) -> Result<(Link, bool), Trouble> {
        use SslMode::{Allow, Disable, Prefer};
        let mode = self.encryption.mode;
        let local = matches!(place.host, Host::Unix(_));
        let want = match mode {
            _ if local || self.tls.is_none() => Want::No,
            Disable | Allow => Want::No,
            Prefer => Want::IfOffered,
            _ => Want::Yes,
        };
        let again = match self.log_in(place, until, application, want).await {
            Ok((link, ends)) => return self.ask_who_serves(link, ends).await.map_err(Trouble::Other),
            Err(Trouble::NotLetIn(error)) if mode == Allow && self.tls.is_some() && !local => (Want::Yes, error),
            Err(Trouble::NotLetIn(error) | Trouble::Encryption(error)) if want == Want::IfOffered => (Want::No, error),
            Err(trouble) => return Err(trouble),
        };
        log::debug!("{}; trying the other way, as sslmode allows it", again.1);
        match self.log_in(place, until, application, again.0).await {
            Ok((link, ends)) => self.ask_who_serves(link, ends).await.map_err(Trouble::Other),
            // The first answer says more.
            Err(Trouble::Encryption(_)) => Err(Trouble::Other(again.1)),
            Err(trouble) => Err(trouble),
        }
    }

    async fn log_in(
        &self,
        place: &Place,
        until: Instant,
        application: &str,
        want: Want,
    ) -> Result<(Link, Ends), Trouble> {
        let (wire, socket, ends) = self.reach(place, until).await.map_err(Trouble::Other)?;
        let address = ends.server();
        let silent = |advice: &str| Trouble::Other(self.unreachable(format!("no answer in time{advice}")));
        // A file is not another program's by mistake; nor is a server that has answered to the wish for encryption.
        let advice = if address.is_some() { PORT_ADVICE } else { "" };
        let encrypted = timeout_at(until, self.encrypt(wire, place, address, want)).await;
        let (wire, encrypted) = encrypted.map_err(|_| silent(advice))??;
        let advice = if want == Want::No { advice } else { "" };
        let mut config = self.config.clone();
        config.application_name(application);
        if encrypted {
            config.ssl_mode(WireMode::Require);
        }
        if config.get_password().is_none()
            && let Some(password) = password::find(&config, place)
        {
            config.password(password);
        }
        let connected = timeout_at(until, config.connect_raw(wire, Done))
            .await
            .map_err(|_| silent(advice))?;
        let (client, connection) = connected.map_err(|error| {
            let told = if error.is_closed() {
                self.unreachable(format!("{error}{advice}"))
            } else {
                self.error(&error)
            };
            match error.code() {
                Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => Trouble::NotLetIn(told),
                Some(&SqlState::TOO_MANY_CONNECTIONS) => Trouble::NoRoom(told),
                _ => Trouble::Other(told),
            }
        })?;
        let ended = tokio::spawn(async {
            let _ = connection.await;
        });
        let link = Link {
            client,
            ended,
            socket,
            backend: 0,
            direct: false,
            way: Way {
                place: place.clone(),
                address,
                encrypted,
            },
        };
        Ok((link, ends))
    }

    /// A socket that is connected, the same once more, and its ends.
    async fn reach(&self, place: &Place, end: Instant) -> Result<(Box<dyn Wire>, OwnedFd, Ends)> {
        let io = |e: io::Error| self.unreachable(format!("{}: {e}", name(place)));
        match &place.host {
            Host::Unix(folder) => {
                let path = folder.join(format!(".s.PGSQL.{}", place.port));
                let stream = tokio::net::UnixStream::connect(&path).await;
                let stream = stream.map_err(|e| self.unreachable(format!("{}: {e}", path.display())))?;
                let socket = stream.as_fd().try_clone_to_owned().map_err(io)?;
                let listener = stream.peer_cred().ok().and_then(|peer| peer.pid());
                Ok((Box::new(stream), socket, Ends::Local(listener)))
            }
            Host::Tcp(host) => {
                let addresses = match place.address {
                    Some(address) => vec![SocketAddr::new(address, place.port)],
                    None => {
                        let time = end.saturating_duration_since(Instant::now());
                        self.addresses(host, place.port, time).await?
                    }
                };
                let mut stream = Err(io::Error::other("it has no address"));
                for (i, address) in addresses.iter().enumerate() {
                    let left = end.saturating_duration_since(Instant::now());
                    let until = Instant::now() + left / u32::try_from(addresses.len() - i).unwrap_or(1);
                    stream = match timeout_at(until, tokio::net::TcpStream::connect(address)).await {
                        Ok(stream) => stream,
                        Err(_) => Err(io::ErrorKind::TimedOut.into()),
                    };
                    if stream.is_ok() {
                        break;
                    }
                }
                let stream = stream.map_err(io)?;
                stream.set_nodelay(true).map_err(io)?;
                // While it waits for the lock nothing is sent: a server that has vanished is noticed by these.
                sys::keep_alive(stream.as_fd(), 5, 2, 3);
                let ends = Ends::Tcp(stream.local_addr().map_err(io)?, stream.peer_addr().map_err(io)?);
                let socket = stream.as_fd().try_clone_to_owned().map_err(io)?;
                Ok((Box::new(stream), socket, ends))
            }
        }
    }

    async fn addresses(&self, host: &str, port: u16, time: Duration) -> Result<Vec<SocketAddr>> {
        let (tell, told) = tokio::sync::oneshot::channel();
        resolver::look_up(host, port, time, |found| drop(tell.send(found)))?;
        match told.await {
            Ok(found) => found.map_err(|e| self.unreachable(e.to_string())),
            Err(_) => Err(self.unreachable("the look-up of its name was given up")),
        }
    }

    /// Sets up the encryption, if it is wanted: whether it is encrypted now.
    async fn encrypt(
        &self,
        mut wire: Box<dyn Wire>,
        place: &Place,
        address: Option<IpAddr>,
        want: Want,
    ) -> Result<(Settled, bool), Trouble> {
        let plain = |wire| Ok((Settled::new(wire, None), false));
        let (Some(tls), Some(address)) = (&self.tls, address) else {
            return plain(wire);
        };
        if want == Want::No {
            return plain(wire);
        }
        let lost = |e: io::Error| Trouble::Other(self.unreachable(format!("{}: {e}", name(place))));
        wire.write_all(&ENCRYPT).await.map_err(lost)?;
        let mut answer = [0];
        wire.read_exact(&mut answer).await.map_err(lost)?;
        match (&answer, want) {
            (b"S", _) => {}
            (b"N", Want::IfOffered) => return plain(wire),
            _ => {
                return Err(Trouble::Encryption(
                    self.refused("it does not offer encryption, and sslmode asks for it"),
                ));
            }
        }
        match tls.secure(wire, place, address).await {
            Ok((wire, binding)) => Ok((Settled::new(wire, binding), true)),
            Err(error) => {
                let what = format!("TLS with {}: {error}", name(place));
                let refused = tls::is_refusal(&error);
                Err(Trouble::Encryption(if refused {
                    self.refused(what)
                } else {
                    self.unreachable(what)
                }))
            }
        }
    }

    /// Which session it is, and whether this is a standby.
    async fn ask_who_serves(&self, mut link: Link, ends: Ends) -> Result<(Link, bool)> {
        // In full, and without an operator: others may have made some of that name, see `sql.rs`.
        let query = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(),
            pg_catalog.host(pg_catalog.inet_client_addr()), coalesce(pg_catalog.inet_client_port(), 0),
            pg_catalog.host(pg_catalog.inet_server_addr()), coalesce(pg_catalog.inet_server_port(), 0)";
        let row = match timeout(BUDGET, link.client.query_typed_one(query, &[])).await {
            Ok(Ok(row)) => row,
            Ok(Err(error)) => return Err(self.error(&error)),
            Err(_) => return Err(self.unreachable("no answer in time")),
        };
        let end = |address: Option<String>, port: i32| {
            let address: IpAddr = address?.parse().ok()?;
            Some(SocketAddr::new(address, u16::try_from(port).ok()?))
        };
        let client = end(self.value(&row, 2)?, self.value(&row, 3)?);
        let seen = client.zip(end(self.value(&row, 4)?, self.value(&row, 5)?));
        link.backend = self.value(&row, 0)?;
        link.direct = match ends {
            Ends::Tcp(own, server) => seen == Some((own, server)),
            // A server's sessions are children of the process that listens; a pooler has none.
            Ends::Local(listener) => listener.is_some_and(|listener| is_child(link.backend, listener)),
        };
        Ok((link, self.value(&row, 1)?))
    }

    /// Asks the server to end what this connection waits for.
    pub(super) async fn cancel(&self, link: &Link) {
        let Way { address, encrypted, .. } = link.way;
        let place = link.way.place();
        let ask = async {
            let (wire, ..) = self.reach(&place, Instant::now() + BUDGET).await?;
            let want = if encrypted { Want::Yes } else { Want::No };
            let (wire, _) = self.encrypt(wire, &place, address, want).await?;
            let sent = link.client.cancel_token().cancel_query_raw(wire, Done).await;
            sent.map_err(|error| self.error(&error))
        };
        match timeout(BUDGET, ask).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::debug!("{error}"),
            Err(_) => log::debug!("{}: the request to cancel had no answer", self.place),
        }
    }

    /// Makes sure that this connection is one session of the server. A pooler that gives each transaction another
    /// session would let two have the lock.
    pub(super) async fn refuse_pooler(&self, link: &Link) -> Result<()> {
        if link.direct {
            return Ok(());
        }
        // Something may be in between: harmless (a forwarded port), or a pooler. While another connection keeps a
        // session busy, a pooler has to give this one another. Twice, since one that takes sessions in turn may come
        // back to the same.
        let other = self.connect("resourcelock").await?;
        let mut kept = link.backend != other.backend;
        for _ in 0..2 {
            match timeout(BUDGET, other.client.batch_execute("BEGIN")).await {
                Ok(Ok(())) => {}
                // A pooler that gives each statement another session knows no transactions.
                Ok(Err(error)) if matches!(self.error(&error), Error::Refused { .. }) => return Err(self.pooler()),
                Ok(Err(error)) => return Err(self.error(&error)),
                Err(_) => return Err(self.unreachable("no answer in time")),
            }
            for _ in 0..2 {
                kept &= self.backend(&link.client).await? == link.backend;
            }
            kept &= self.backend(&other.client).await? == other.backend;
            let ended = timeout(BUDGET, other.client.batch_execute("COMMIT")).await;
            kept &= matches!(ended, Ok(Ok(())));
        }
        if kept { Ok(()) } else { Err(self.pooler()) }
    }

    /// The session is not kept.
    pub(super) fn pooler(&self) -> Error {
        self.refused(
            "a connection pooler in transaction mode is in between: sessions are not kept, two could have the lock; \
             connect to the server itself, or to a pooler in session mode",
        )
    }

    /// The server process that serves this connection now.
    async fn backend(&self, client: &Client) -> Result<i32> {
        match timeout(
            BUDGET,
            client.query_typed_one("SELECT pg_catalog.pg_backend_pid()", &[]),
        )
        .await
        {
            Ok(Ok(row)) => self.value(&row, 0),
            Ok(Err(error)) => Err(self.error(&error)),
            Err(_) => Err(self.unreachable("no answer in time")),
        }
    }
}

impl Link {
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Has a silent connection last as long as a lease of this length.
    pub(super) fn last_for(&self, ttl: Duration) {
        if self.way.address.is_some() {
            let seconds = i32::try_from(ttl.as_secs()).unwrap_or(i32::MAX).clamp(5, 32_000);
            sys::keep_alive(self.socket(), seconds, (seconds / 3).max(2), 3);
        }
    }
}

/// True if the process `child` of this machine is a child of `parent`.
fn is_child(child: i32, parent: i32) -> bool {
    let stat = u32::try_from(child).ok().and_then(|pid| Stat::of(pid).ok());
    stat.is_some_and(|stat| stat.parent != 0 && i32::try_from(stat.parent) == Ok(parent))
}

fn name(place: &Place) -> String {
    match &place.host {
        Host::Tcp(name) => printable(name),
        Host::Unix(path) => path.display().to_string(),
    }
}

/// The servers and the database, for messages.
fn shown(config: &Config, places: &[Place]) -> String {
    let usual = places.iter().all(|place| place.port == 5432);
    let hosts = places.iter().map(|place| match &place.host {
        _ if usual => name(place),
        Host::Tcp(host) if host.contains(':') => format!("[{}]:{}", name(place), place.port),
        _ => format!("{}:{}", name(place), place.port),
    });
    let hosts: Vec<String> = hosts.collect();
    let database = config.get_dbname().map(|name| format!("/{}", printable(name)));
    format!("{}{}", hosts.join(","), database.unwrap_or_default())
}
