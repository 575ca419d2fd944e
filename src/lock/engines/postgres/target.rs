//! Where to connect and as whom, and what the errors of a server or a connection mean.

use super::encryption::{Encryption, SslMode};
use super::settings::{Server, Settings};
use super::tls::Tls;
use crate::lock::engines::ANSWER_TIMEOUT;
use crate::lock::system::printable;
use crate::lock::types::{Error, Result};
use std::error::Error as _;
use std::future::Future;
use std::io;
use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::FromSql;
use tokio_postgres::{Config, Row};

/// Where to connect, and as whom.
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) servers: Vec<Server>,
    pub(super) encryption: Encryption,
    /// `None`: connections are never encrypted.
    pub(super) tls: Option<Tls>,
    place: String,
}

impl Target {
    /// Reads the URL and the environment.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Unsupported`], [`Error::NotBuiltIn`]; [`Error::Os`] for a file that they name.
    pub(super) fn new(url: &str) -> Result<Self> {
        let Settings {
            config,
            servers,
            encryption,
        } = Settings::read(url)?;
        let tcp = || servers.iter().filter(|server| matches!(server.host, Host::Tcp(_)));
        let tls = if tcp().next().is_some() && encryption.mode != SslMode::Disable {
            Tls::new(&encryption)?
        } else {
            None
        };
        let is_address = |server: &Server| {
            let address = server.address.map(|address| address.to_string());
            matches!(&server.host, Host::Tcp(name) if Some(name) == address.as_ref())
        };
        let nameless = config.get_hosts().is_empty() && tcp().any(is_address);
        if nameless && encryption.mode == SslMode::VerifyFull {
            return Err(Error::Unsupported {
                engine: "postgres",
                what: "sslmode=verify-full needs the server's name (host=), not only hostaddr".to_owned(),
            });
        }
        Ok(Self {
            place: format!("PostgreSQL at {}", shown(&config, &servers)),
            config,
            servers,
            encryption,
            tls,
        })
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The role that the sessions have.
    pub(super) fn role(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    /// The same as a name in a statement for somebody to paste.
    pub(super) fn quoted_role(&self) -> String {
        format!("\"{}\"", printable(&self.role().replace('"', "\"\"")))
    }

    pub(super) fn unreachable(&self, what: impl Into<String>) -> Error {
        Error::Unreachable {
            engine: self.place.clone(),
            what: what.into(),
        }
    }

    pub(super) fn no_answer(&self) -> Error {
        self.unreachable("no answer in time")
    }

    pub(super) fn refused(&self, what: impl Into<String>) -> Error {
        Error::Refused {
            engine: self.place.clone(),
            what: what.into(),
        }
    }

    /// What the server answers within [`ANSWER_TIMEOUT`].
    pub(super) async fn answer<T>(&self, answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
        match timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer.map_err(|error| self.error(&error)),
            Err(_) => Err(self.no_answer()),
        }
    }

    /// What the server has said, or what has happened to the connection.
    pub(super) fn error(&self, error: &tokio_postgres::Error) -> Error {
        let Some(said) = error.as_db_error() else {
            return self.connection_error(error);
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

    fn connection_error(&self, error: &tokio_postgres::Error) -> Error {
        let cause = error.source();
        // "error connecting to server" alone says nothing.
        let what = format!("{error}{}", cause.map(|cause| format!(": {cause}")).unwrap_or_default());
        if what == "invalid configuration: password missing" {
            return self.refused("it wants a password: postgres://USER:PASSWORD@…, PGPASSWORD or ~/.pgpass");
        }
        let io = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
        // Only the text tells that the login failed on our own side (no password; no channel binding).
        let own = ["authentication error", "invalid configuration"];
        if io.is_some_and(is_refusal) || own.iter().any(|own| what.starts_with(own)) {
            self.refused(what)
        } else {
            self.unreachable(what)
        }
    }

    /// A value of an answer. It may be of another type than ours if the table is somebody else's.
    pub(super) fn value<'a, T: FromSql<'a>>(&self, row: &'a Row, at: usize) -> Result<T> {
        row.try_get(at)
            .map_err(|error| self.refused(format!("an answer of an unexpected type: {error}")))
    }
}

/// True if the two sides do not accept each other's TLS; false if it is the way between them that failed.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// The servers and the database, for messages.
fn shown(config: &Config, servers: &[Server]) -> String {
    let usual = servers.iter().all(|server| server.port == 5432);
    let hosts = servers.iter().map(|server| match &server.host {
        _ if usual => server.name(),
        Host::Tcp(host) if host.contains(':') => format!("[{}]:{}", server.name(), server.port),
        _ => format!("{}:{}", server.name(), server.port),
    });
    let hosts: Vec<String> = hosts.collect();
    let database = config.get_dbname().map(|name| format!("/{}", printable(name)));
    format!("{}{}", hosts.join(","), database.unwrap_or_default())
}
