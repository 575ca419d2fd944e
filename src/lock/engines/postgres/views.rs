//! Viewing locks from outside, and breaking a hold.

use super::connect::Link;
use super::sql::{self, Value};
use super::target::Target;
use crate::lock::engines::PEEK_TIMEOUT;
use crate::lock::engines::stored_request::{self, StoredRequest};
use crate::lock::types::{Cancel, Error, LockName, Result, State};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// Between checks for a cancellation.
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// The name of the connections that only view.
pub(super) const APPLICATION: &str = "resourcelock (looks)";

pub(super) fn runtime() -> Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| Error::Os {
        doing: "start a runtime for",
        path: "postgres".into(),
        source,
    })
}

/// For a call that does everything at once.
pub(super) fn block_on<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    runtime()?.block_on(what)
}

/// The result of `what`, unless `cancel` comes first.
pub(super) async fn or_cancelled<T>(what: impl Future<Output = Result<T>>, cancel: &Cancel) -> Result<T> {
    let cancelled = async {
        while !cancel.is_cancelled() {
            tokio::time::sleep(CHECK_EVERY).await;
        }
    };
    tokio::select! {
        result = what => result,
        () = cancelled => Err(Error::Cancelled),
    }
}

/// One session that holds or waits for a lock.
struct Seen {
    /// 0: a prepared transaction, which belongs to no session any more.
    backend: i32,
    granted: bool,
    shared: bool,
    /// µs since 1970: when it began to wait, or its last statement.
    since: i64,
    application: String,
    key: i64,
    /// What the table tells.
    name: Option<String>,
    token: Option<i64>,
    stored: Option<String>,
}

impl Seen {
    fn read(target: &Target, row: &Row) -> Result<Self> {
        let mut seen = Self {
            backend: target.value(row, 0)?,
            granted: target.value(row, 1)?,
            shared: target.value(row, 2)?,
            since: target.value(row, 3)?,
            application: target.value(row, 4)?,
            key: target.value(row, 5)?,
            name: target.value(row, 6)?,
            token: target.value::<Option<i64>>(row, 7)?.filter(|token| *token != 0),
            stored: target.value(row, 8)?,
        };
        seen.token = seen.token.or(seen.token_in_application());
        Ok(seen)
    }

    /// The parts of a name that the connection of one of our requests has: `resourcelock PID[#TOKEN]@HOST COMMAND`, cut
    /// off somewhere behind the '@'.
    fn ours(&self) -> Option<(&str, &str, &str)> {
        let rest = self.application.strip_prefix("resourcelock ")?;
        let (from, command) = rest.split_once(' ').unwrap_or((rest, ""));
        let (pid, host) = from.split_once('@')?;
        Some((pid, host, command))
    }

    fn token_in_application(&self) -> Option<i64> {
        let token: i64 = self.ours()?.0.split_once('#')?.1.parse().ok()?;
        (token != 0).then_some(token)
    }

    /// The request, by the table, else by the name of the connection.
    fn request(&self, name: &LockName) -> StoredRequest {
        let in_table = self.stored.as_deref().filter(|_| self.is_row_of(name));
        let mut request = in_table.and_then(StoredRequest::parse).unwrap_or_else(|| {
            // Another program's name is its own, and tells no process and host.
            let (pid, host, command) = self.ours().unwrap_or(("", "", &self.application));
            let (pid, _) = pid.split_once('#').unwrap_or((pid, ""));
            StoredRequest {
                pid: pid.parse().unwrap_or(0),
                host: host.to_owned(),
                command: command.to_owned(),
                // A holder has made other statements since.
                asked: if self.granted { 0 } else { self.since.unsigned_abs() },
                ..StoredRequest::default()
            }
        });
        request.mode = if self.shared { "shared" } else { "exclusive" }.to_owned();
        request
    }

    /// True if the row that the table has of it is of this lock.
    fn is_row_of(&self, name: &LockName) -> bool {
        self.name.as_deref() == Some(name.as_str())
    }
}

/// Sessions with advisory locks of the form that we use, in this database; with the table's rows, if it is there.
async fn sessions(target: &Target, link: &Link) -> Result<Vec<Seen>> {
    let has_table = link.sql(target).has_readable_table().await?;
    let rows = match sessions_with(target, link, has_table).await {
        // Somebody has locked the table: the server's own views do without, and connections' names tell tokens, too.
        Err(Error::Refused { .. }) if has_table => sessions_with(target, link, false).await,
        rows => rows,
    }?;
    let seen = rows.iter().map(|row| Seen::read(target, row));
    let mut seen = seen.collect::<Result<Vec<Seen>>>()?;
    seen.sort_by_key(|seen| (seen.token.is_none(), seen.token, seen.since, seen.backend));
    Ok(seen)
}

async fn sessions_with(target: &Target, link: &Link, table: bool) -> Result<Vec<Row>> {
    let (columns, join) = if table {
        (
            "r.name, r.token, r.who",
            "LEFT JOIN public.resourcelock_session r ON r.backend = l.pid",
        )
    } else {
        ("NULL::text, NULL::bigint, NULL::text", "")
    };
    // A prepared transaction keeps its locks without a session. `waitstart` exists from version 14 on; every version has
    // the row as JSON.
    let text = format!(
        "SELECT coalesce(l.pid, 0), l.granted, l.mode = 'ShareLock',
            (extract(epoch FROM coalesce((to_jsonb(l) ->> 'waitstart')::timestamptz, a.query_start, now()))::numeric
                * 1000000::numeric)::bigint,
            coalesce(a.application_name, ''), (l.classid::bigint << 32) | l.objid::bigint, {columns}
        FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid {join}
        WHERE l.locktype = 'advisory' AND l.objsubid = 1
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    link.sql(target).view(&text, &[]).await
}

/// The sessions of one lock as its state. Requests are told apart by the numbers of their sessions.
fn state_of(name: &LockName, sessions: &[&Seen]) -> State {
    let (mut holders, mut waiters) = (Vec::new(), Vec::new());
    let mut first = None;
    for seen in sessions {
        let request = seen.request(name);
        let ticket = u64::from(seen.backend.unsigned_abs());
        if seen.granted {
            let mut holder = request.holder(seen.token.unwrap_or(0).unsigned_abs());
            holder.ticket = ticket;
            holders.push(holder);
            first.get_or_insert(request);
        } else {
            waiters.push(request.waiter(ticket));
        }
    }
    stored_request::state(name, holders, waiters, first.as_ref())
}

/// The state of a lock, over this connection.
pub(super) async fn view(target: &Target, link: &Link, name: &LockName) -> Result<State> {
    let key = sql::key(name);
    let sessions = sessions(target, link).await?;
    let mut own: Vec<&Seen> = sessions.iter().filter(|seen| seen.key == key).collect();
    // The table may have a stale row of another lock under the same session's number.
    own.sort_by_key(|seen| (seen.backend, !seen.is_row_of(name)));
    own.dedup_by_key(|seen| seen.backend);
    own.sort_by_key(|seen| (!seen.granted, seen.token, seen.since, seen.backend));
    Ok(state_of(name, &own))
}

pub(super) async fn state(target: &Target, name: &LockName) -> Result<State> {
    let link = target.connect(APPLICATION).await?;
    view(target, &link, name).await
}

/// The same, if the answer comes soon.
pub(super) async fn peek(target: &Target, name: &LockName) -> Result<State> {
    let state = timeout(PEEK_TIMEOUT, state(target, name)).await;
    state.unwrap_or_else(|_| Err(target.no_answer()))
}

/// Locks in use whose names the table tells.
pub(super) async fn list(target: &Target) -> Result<Vec<State>> {
    let link = target.connect(APPLICATION).await?;
    let sessions = sessions(target, &link).await?;
    let mut locks: BTreeMap<LockName, Vec<&Seen>> = BTreeMap::new();
    for seen in &sessions {
        let name = seen.name.as_deref().and_then(|name| LockName::new(name).ok());
        if let Some(name) = name.filter(|name| sql::key(name) == seen.key) {
            locks.entry(name).or_default().push(seen);
        }
    }
    Ok(locks.iter().map(|(name, sessions)| state_of(name, sessions)).collect())
}

/// Ends the session that holds the lock under this token, or all that hold it; false = there was none.
pub(super) async fn break_hold(target: &Target, name: &LockName, token: Option<u64>) -> Result<bool> {
    // It may have released since, and the session may be another one's by now, or, behind a pooler, another request's.
    // The connections of other programs tell no token.
    const END: &str = "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.pid = $1 AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
        AND l.classid::bigint = ($2 >> 32) & 4294967295 AND l.objid::bigint = $2 & 4294967295
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND ($3 = '0' OR split_part(split_part(a.application_name, '@', 1), '#', 2) = $3)";
    let link = target.connect(APPLICATION).await?;
    let state = view(target, &link, name).await?;
    let key = sql::key(name);
    let mut broken = false;
    for holder in state.holders {
        if token.is_none() || token == holder.token {
            let backend = i32::try_from(holder.ticket).unwrap_or(0);
            let of = holder.token.unwrap_or(0).to_string();
            let values: [Value<'_>; 3] = [(&backend, Type::INT4), (&key, Type::INT8), (&of, Type::TEXT)];
            let sql = link.sql(target);
            broken |= sql.says_yes(&sql.view(END, &values).await?)?;
        }
    }
    Ok(broken)
}
