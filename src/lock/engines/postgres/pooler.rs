//! Poolers: between this program and the server there may be one, and a lock needs a session of its own.

use super::connect::Link;
use super::socket::Ends;
use super::target::Target;
use crate::lock::engines::ANSWER_TIMEOUT;
use crate::lock::system::Stat;
use crate::lock::types::{Error, Result};
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;
use tokio::time::timeout;
use tokio_postgres::Client;

impl Target {
    /// Asks which session it is, and whether the server is a standby: `(link, standby)`.
    pub(super) async fn identify(&self, mut link: Link, ends: Ends) -> Result<(Link, bool)> {
        // With full names and without an operator: others may have made some of the same name, see `sql.rs`. Each function
        // that the server has to look up takes it some 20 µs. 1259 is pg_class.
        let query = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(),
            pg_catalog.inet_client_addr(), pg_catalog.inet_client_port(),
            pg_catalog.inet_server_addr(), pg_catalog.inet_server_port(),
            pg_catalog.current_setting('synchronous_commit'), pg_catalog.pg_postmaster_start_time(),
            pg_catalog.pg_relation_filepath(1259)";
        let row = self.answer(link.client.query_typed_one(query, &[])).await?;
        let end = |at: usize| -> Result<Option<SocketAddr>> {
            let (address, port): (Option<IpAddr>, Option<i32>) = (self.value(&row, at)?, self.value(&row, at + 1)?);
            let port = port.and_then(|port| u16::try_from(port).ok());
            Ok(address.zip(port).map(SocketAddr::from))
        };
        let seen = end(2)?.zip(end(4)?);
        link.backend = self.value(&row, 0)?;
        link.direct = match ends {
            Ends::Tcp { own, server } => seen == Some((own, server)),
            // A server's sessions are children of the process that listens; a pooler has none.
            Ends::Local { listener } => listener.is_some_and(|listener| is_child(link.backend, listener)),
        };
        link.commits_later = self.value::<&str>(&row, 6)? == "off";
        // Elsewhere the text of a number depends on the role; and behind a pooler another server may answer next.
        if link.direct && link.version >= 14 {
            link.epoch = epoch(self.value(&row, 8)?, self.value(&row, 7)?);
        }
        Ok((link, self.value(&row, 1)?))
    }

    /// Makes sure that this connection is one session of the server. If a pooler gave each transaction another session,
    /// two could have the lock.
    pub(super) async fn refuse_pooler(&self, link: &Link) -> Result<()> {
        if link.direct {
            return Ok(());
        }
        // What is in between may be harmless (a forwarded port), or a pooler. While another connection keeps a session
        // busy, a pooler has to give this one another. Twice, since one that takes sessions in turn may come back to the
        // same.
        let other = self.connect("resourcelock").await?;
        let mut kept = link.backend != other.backend;
        for _ in 0..2 {
            match self.answer(other.client.batch_execute("BEGIN")).await {
                Ok(()) => {}
                // A pooler that gives each statement another session knows no transactions.
                Err(Error::Refused { .. }) => return Err(self.pooler()),
                Err(error) => return Err(error),
            }
            for _ in 0..2 {
                kept &= self.backend(&link.client).await? == link.backend;
            }
            kept &= self.backend(&other.client).await? == other.backend;
            let ended = timeout(ANSWER_TIMEOUT, other.client.batch_execute("COMMIT")).await;
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
        let query = "SELECT pg_catalog.pg_backend_pid()";
        let row = self.answer(client.query_typed_one(query, &[])).await?;
        self.value(&row, 0)
    }
}

/// What [`EPOCH`](super::grant::EPOCH) is, if it can be told from where the server keeps a table of this database (beneath
/// a folder that is named after the database's number) and when it was started. To look it up takes the server longer.
fn epoch(path: Option<&str>, started: SystemTime) -> Option<String> {
    let database: u32 = path?.rsplit('/').nth(1)?.parse().ok()?;
    let us = started.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_micros();
    Some(format!("{database} {}.{:06}", us / 1_000_000, us % 1_000_000))
}

/// True if the process `child` of this machine is a child of `parent`.
fn is_child(child: i32, parent: i32) -> bool {
    let stat = u32::try_from(child).ok().and_then(|pid| Stat::of(pid).ok());
    stat.is_some_and(|stat| stat.parent != 0 && i32::try_from(stat.parent) == Ok(parent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_epoch_as_the_server_would_write_it() {
        let started = SystemTime::UNIX_EPOCH + Duration::from_micros(1_764_459_285_000_120);
        for (path, told) in [
            (Some("base/16385/1259"), Some("16385 1764459285.000120")),
            (
                Some("pg_tblspc/16400/PG_15_202209061/16385/1259"),
                Some("16385 1764459285.000120"),
            ),
            (Some("1259"), None),
            (Some("base/x/1259"), None),
            (None, None),
        ] {
            assert_eq!(epoch(path, started).as_deref(), told, "{path:?}");
        }
    }
}
