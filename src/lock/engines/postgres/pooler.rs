//! Poolers: between this program and the server there may be one, and a lock needs a session of its own.

use super::connect::Link;
use super::socket::Ends;
use super::target::Target;
use crate::lock::engines::ANSWER_TIMEOUT;
use crate::lock::system::Stat;
use crate::lock::types::{Error, Result};
use std::net::{IpAddr, SocketAddr};
use tokio::time::timeout;
use tokio_postgres::Client;

impl Target {
    /// Asks which session it is, and whether the server is a standby: `(link, standby)`.
    pub(super) async fn identify(&self, mut link: Link, ends: Ends) -> Result<(Link, bool)> {
        // With full names and without an operator: others may have made some of the same name, see `sql.rs`.
        let query = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(),
            pg_catalog.host(pg_catalog.inet_client_addr()), coalesce(pg_catalog.inet_client_port(), 0),
            pg_catalog.host(pg_catalog.inet_server_addr()), coalesce(pg_catalog.inet_server_port(), 0)";
        let row = self.answer(link.client.query_typed_one(query, &[])).await?;
        let end = |address: Option<String>, port: i32| {
            let address: IpAddr = address?.parse().ok()?;
            Some(SocketAddr::new(address, u16::try_from(port).ok()?))
        };
        let client = end(self.value(&row, 2)?, self.value(&row, 3)?);
        let seen = client.zip(end(self.value(&row, 4)?, self.value(&row, 5)?));
        link.backend = self.value(&row, 0)?;
        link.direct = match ends {
            Ends::Tcp { own, server } => seen == Some((own, server)),
            // A server's sessions are children of the process that listens; a pooler has none.
            Ends::Local { listener } => listener.is_some_and(|listener| is_child(link.backend, listener)),
        };
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

/// True if the process `child` of this machine is a child of `parent`.
fn is_child(child: i32, parent: i32) -> bool {
    let stat = u32::try_from(child).ok().and_then(|pid| Stat::of(pid).ok());
    stat.is_some_and(|stat| stat.parent != 0 && i32::try_from(stat.parent) == Ok(parent))
}
