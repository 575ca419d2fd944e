//! Looking at locks from outside, and breaking a hold.

use super::connect::Link;
use super::sql::{self, Value};
use super::target::Target;
use crate::lock::engines::background::{self, Event};
use crate::lock::engines::follow::Views;
use crate::lock::engines::stored_request::{self, StoredRequest};
use crate::lock::engines::{Follow, PEEK_TIMEOUT};
use crate::lock::sys;
use crate::{Cancel, Change, Holder, LockName, Result, State};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// A watcher looks this often: the server tells nobody of its locks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// So many looks in a row a holder without a token is left out.
const PUT_OFF: u32 = 10;

/// What the connections that only look are called.
pub(super) const APPLICATION: &str = "resourcelock (looks)";

fn runtime() -> Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| crate::Error::Os {
        doing: "start a runtime for",
        path: "postgres".into(),
        source,
    })
}

/// For a call that does all it does at once.
pub(super) fn block_on<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    runtime()?.block_on(what)
}

/// What `what` comes to, unless `cancel` comes first.
pub(super) async fn or_cancelled<T>(what: impl Future<Output = Result<T>>, cancel: &Cancel) -> Result<T> {
    let cancelled = async {
        while !cancel.is_cancelled() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        result = what => result,
        () = cancelled => Err(crate::Error::Cancelled),
    }
}

/// One session that has or wants a lock.
struct Seen {
    /// 0: a prepared transaction, which no session belongs to any more.
    backend: i32,
    granted: bool,
    shared: bool,
    /// µs since 1970: when it began to wait, or its last statement.
    since: i64,
    application: String,
    key: i64,
    /// From the table.
    name: Option<String>,
    token: i64,
    who: Option<String>,
}

/// Sessions with advisory locks of the form that we use, in this database; with the table's rows, if it is there.
async fn sessions(target: &Target, link: &Link) -> Result<Vec<Seen>> {
    let there = sql::is_readable(target, &link.client).await?;
    let rows = match sessions_with(target, link, there).await {
        // Somebody has locked the table: the server's own views do without, tokens stand in the connections' names, too.
        Err(crate::Error::Refused { .. }) if there => sessions_with(target, link, false).await,
        rows => rows,
    }?;
    let mut seen = rows
        .iter()
        .map(|row| read(target, row))
        .collect::<Result<Vec<Seen>>>()?;
    for seen in seen.iter_mut().filter(|seen| seen.token == 0) {
        seen.token = seen.token_in_name().unwrap_or(0);
    }
    seen.sort_by_key(|seen| (seen.token == 0, seen.token, seen.since, seen.backend));
    Ok(seen)
}

async fn sessions_with(target: &Target, link: &Link, table: bool) -> Result<Vec<Row>> {
    let (columns, join) = if table {
        (
            "r.name, coalesce(r.token, 0), r.who",
            "LEFT JOIN public.resourcelock_session r ON r.backend = l.pid",
        )
    } else {
        ("NULL::text, 0::bigint, NULL::text", "")
    };
    // A prepared transaction keeps its locks without a session. `waitstart` is known from version 14 on; the row as JSON
    // is understood by all.
    let text = format!(
        "SELECT coalesce(l.pid, 0), l.granted, l.mode = 'ShareLock',
            (extract(epoch FROM coalesce((to_jsonb(l) ->> 'waitstart')::timestamptz, a.query_start, now()))::numeric
                * 1000000::numeric)::bigint,
            coalesce(a.application_name, ''), (l.classid::bigint << 32) | l.objid::bigint, {columns}
        FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid {join}
        WHERE l.locktype = 'advisory' AND l.objsubid = 1
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    sql::look(target, &link.client, &text, &[]).await
}

fn read(target: &Target, row: &Row) -> Result<Seen> {
    Ok(Seen {
        backend: target.value(row, 0)?,
        granted: target.value(row, 1)?,
        shared: target.value(row, 2)?,
        since: target.value(row, 3)?,
        application: target.value(row, 4)?,
        key: target.value(row, 5)?,
        name: target.value(row, 6)?,
        token: target.value(row, 7)?,
        who: target.value(row, 8)?,
    })
}

impl Seen {
    /// What the connection of a request of ours is called: `resourcelock PID[#TOKEN]@HOST COMMAND`, in three parts, cut
    /// off somewhere behind the '@'.
    fn ours(&self) -> Option<(&str, &str, &str)> {
        let rest = self.application.strip_prefix("resourcelock ")?;
        let (from, command) = rest.split_once(' ').unwrap_or((rest, ""));
        let (pid, host) = from.split_once('@')?;
        Some((pid, host, command))
    }

    /// The token that stands there.
    fn token_in_name(&self) -> Option<i64> {
        self.ours()?.0.split_once('#')?.1.parse().ok()
    }

    /// Who it is: by the table, else by what the connection is called.
    fn who(&self, name: &LockName) -> StoredRequest {
        let told = self.name.as_deref() == Some(name.as_str());
        let told = told.then(|| self.who.as_deref().and_then(StoredRequest::parse));
        let mut who: StoredRequest = told.flatten().unwrap_or_else(|| {
            // Another program has a name of its own, and no process and host that we could know.
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
        who.mode = if self.shared { "shared" } else { "exclusive" }.to_owned();
        who
    }
}

/// The sessions of one lock as its state. Requests are told apart by their sessions' numbers.
fn state_of(name: &LockName, sessions: &[&Seen]) -> State {
    let (mut holders, mut waiters) = (Vec::new(), Vec::new());
    let mut first = None;
    for seen in sessions {
        let who = seen.who(name);
        let ticket = u64::from(seen.backend.unsigned_abs());
        if seen.granted {
            let mut holder = who.holder(seen.token.unsigned_abs());
            holder.ticket = ticket;
            holders.push(holder);
            first.get_or_insert(who);
        } else {
            waiters.push(who.waiter(ticket));
        }
    }
    stored_request::state(name, holders, waiters, first.as_ref())
}

async fn look(target: &Target, link: &Link, name: &LockName) -> Result<State> {
    let key = sql::key(name);
    let sessions = sessions(target, link).await?;
    // A stale row of another lock may hang on the same session's number.
    let mut own: Vec<&Seen> = sessions.iter().filter(|seen| seen.key == key).collect();
    own.sort_by_key(|seen| (seen.backend, seen.name.as_deref() != Some(name.as_str())));
    own.dedup_by_key(|seen| seen.backend);
    own.sort_by_key(|seen| (!seen.granted, seen.token, seen.since, seen.backend));
    Ok(state_of(name, &own))
}

pub(super) async fn state(target: &Target, name: &LockName) -> Result<State> {
    let link = target.connect(APPLICATION).await?;
    look(target, &link, name).await
}

/// The same, if it can be had soon.
pub(super) async fn glance(target: &Target, name: &LockName) -> Result<State> {
    let looked = timeout(PEEK_TIMEOUT, state(target, name)).await;
    looked.unwrap_or_else(|_| Err(target.no_answer()))
}

/// Locks in use whose names the table knows.
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

/// Ends sessions that hold the lock.
pub(super) async fn break_hold(target: &Target, name: &LockName, token: Option<u64>) -> Result<bool> {
    let link = target.connect(APPLICATION).await?;
    let state = look(target, &link, name).await?;
    let key = sql::key(name);
    let mut broken = false;
    for holder in state.holders {
        if token.is_none() || token == holder.token {
            let backend = i32::try_from(holder.ticket).unwrap_or(0);
            // It may have released since, and the session may be another one's by now, or, behind a pooler, another
            // request's. The connections of other programs tell no token.
            let text = "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
                WHERE l.pid = $1 AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                AND l.classid::bigint = ($2 >> 32) & 4294967295 AND l.objid::bigint = $2 & 4294967295
                AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND ($3 = '0' OR split_part(split_part(a.application_name, '@', 1), '#', 2) = $3)";
            let of = holder.token.unwrap_or(0).to_string();
            let values: [Value<'_>; 3] = [(&backend, Type::INT4), (&key, Type::INT8), (&of, Type::TEXT)];
            let rows = sql::look(target, &link.client, text, &values).await?;
            broken |= sql::says_yes(target, &rows)?;
        }
    }
    Ok(broken)
}

/// Whether it has drawn its token, and its row is there, which is so a moment after the connection tells the token.
fn is_told(holder: &Holder) -> bool {
    let user = holder.requester.user.as_deref();
    holder.token.is_some() && user.is_some_and(|user| user != "?")
}

/// A thread that looks again and again, over one connection.
pub(super) struct Following(Arc<Found>);

#[derive(Default)]
struct Found {
    changes: Mutex<VecDeque<Result<Change>>>,
    news: Event,
    stop: Event,
}

/// Tells of a thread that ends without having told anything, by a mistake of this program's.
struct LastWord(Arc<Found>, Arc<Target>);

impl Drop for LastWord {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what = "this program has failed at following it, which is a mistake of its own";
            self.0.tell([Err(self.1.refused(what))]);
        }
    }
}

impl Found {
    fn tell(&self, changes: impl IntoIterator<Item = Result<Change>>) {
        let mut all = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(changes);
        self.news.set();
    }
}

impl Following {
    pub(super) fn start(target: &Arc<Target>, name: &LockName, cancel: &Cancel) -> Result<Self> {
        let runtime = runtime()?;
        let first = async {
            let link = target.connect(APPLICATION).await?;
            let first = look(target, &link, name).await?;
            Ok((link, first))
        };
        let (link, first) = runtime.block_on(or_cancelled(first, cancel))?;
        let found = Arc::new(Found::default());
        let (told, target, name) = (found.clone(), target.clone(), name.clone());
        // Not joined: it ends at its next look.
        background::spawn("follow", move || {
            let _word = LastWord(told.clone(), target.clone());
            let mut views = Views::first(&first);
            let mut put_off = 0;
            while !told.stop.is_set() {
                let state = runtime.block_on(look(&target, &link, &name));
                let failed = state.is_err();
                if state.as_ref().is_ok_and(|state| state.holders.iter().all(is_told)) {
                    put_off = 0;
                }
                let changes: Vec<Result<Change>> = match state {
                    // A holder that has not drawn its token yet is not told of yet; but another program never will.
                    Ok(state) if put_off < PUT_OFF && !state.holders.iter().all(is_told) => {
                        put_off += 1;
                        Vec::new()
                    }
                    Ok(state) => views.next(&state).into_iter().map(Ok).collect(),
                    Err(error) => vec![Err(error)],
                };
                if !changes.is_empty() {
                    told.tell(changes);
                }
                if failed {
                    return;
                }
                let until = background::later(sys::monotonic(), LOOK_EVERY);
                background::sleep(&[&told.stop], None, until);
            }
        })?;
        Ok(Self(found))
    }
}

impl Follow for Following {
    fn next(&mut self, cancel: &Cancel) -> Result<Option<Change>> {
        loop {
            self.0.news.clear();
            let change = self
                .0
                .changes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            if let Some(change) = change {
                return change.map(Some);
            }
            if cancel.is_cancelled() {
                return Ok(None);
            }
            background::sleep(&[&self.0.news], Some(cancel), u64::MAX);
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.stop.set();
    }
}
