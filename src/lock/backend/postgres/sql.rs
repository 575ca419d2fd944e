//! Every statement that is sent.

use super::connect::{BUDGET, Target};
use crate::backend::who::Who;
use crate::{LockName, Mode, Result};
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

/// The table: the row with backend 0 keeps a lock's last token.
pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS resourcelock (
    name text NOT NULL, backend integer NOT NULL, token bigint NOT NULL, who text NOT NULL,
    PRIMARY KEY (name, backend))";

/// The number of the advisory lock.
pub(super) fn key(name: &LockName) -> i64 {
    let hash = Sha256::digest(format!("resourcelock:{name}"));
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    i64::from_be_bytes(first)
}

/// A value with its type, for a statement that is prepared and executed in one go.
pub(super) type Value<'a> = (&'a (dyn ToSql + Sync), Type);

/// Runs a statement that answers soon.
pub(super) async fn query(target: &Target, client: &Client, text: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
    match timeout(BUDGET, client.query_typed(text, values)).await {
        Ok(result) => result.map_err(|error| target.error(&error)),
        Err(_) => Err(target.unreachable("no answer in time")),
    }
}

/// What the session has to be: the server keeps it as long as the holder may need to end its command, twice over, and
/// ends it for no other reason. Settings that an older server does not know are left out.
pub(super) async fn settle(target: &Target, client: &Client, ttl: Duration) -> Result<()> {
    let seconds = ttl.as_secs().max(1) * 2;
    let settings = [
        ("tcp_keepalives_idle", seconds.to_string()),
        ("tcp_keepalives_interval", (ttl.as_secs() / 5).max(1).to_string()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", (seconds * 1000).to_string()),
        // A waiter whose process has gone is noticed while it waits.
        ("client_connection_check_interval", "1000".to_owned()),
        ("statement_timeout", "0".to_owned()),
        ("lock_timeout", "0".to_owned()),
        ("idle_session_timeout", "0".to_owned()),
        ("idle_in_transaction_session_timeout", "0".to_owned()),
        ("transaction_timeout", "0".to_owned()),
    ];
    let (names, values): (Vec<&str>, Vec<String>) = settings.into_iter().unzip();
    let text = "SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS s(name, value)
        WHERE current_setting(name, true) IS NOT NULL";
    query(
        target,
        client,
        text,
        &[(&names, Type::TEXT_ARRAY), (&values, Type::TEXT_ARRAY)],
    )
    .await?;
    Ok(())
}

fn suffix(mode: Mode) -> &'static str {
    if mode == Mode::Shared { "_shared" } else { "" }
}

/// Takes it if it is free.
pub(super) async fn try_lock(target: &Target, client: &Client, key: i64, mode: Mode) -> Result<bool> {
    let text = format!("SELECT pg_try_advisory_lock{}($1)", suffix(mode));
    let rows = query(target, client, &text, &[(&key, Type::INT8)]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// Waits for it, for `time` at most: whether it was had.
pub(super) async fn lock(
    target: &Target,
    client: &Client,
    key: i64,
    mode: Mode,
    time: Option<Duration>,
) -> Result<bool> {
    // The server's limit is a number of milliseconds with 31 bits, and 0 is none.
    let millis = time.map_or(0, |time| time.as_millis().clamp(1, i32::MAX as u128));
    let limit = "SELECT set_config('lock_timeout', $1, false)";
    query(target, client, limit, &[(&millis.to_string(), Type::TEXT)]).await?;
    let text = format!("SELECT 1 FROM pg_advisory_lock{}($1)", suffix(mode));
    match client.query_typed(&text, &[(&key, Type::INT8)]).await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
        Err(error) => Err(target.error(&error)),
    }
}

/// What a grant is told.
pub(super) struct Grant {
    pub(super) token: i64,
    /// An earlier holder's session has ended without a release.
    pub(super) abandoned: bool,
}

/// The next token, and the own row; removes rows of sessions that have gone. In one statement, and only with the lock
/// in hand: no two draw the same token (holders that share draw one after the other, by the row's lock).
pub(super) async fn grant(target: &Target, client: &Client, name: &LockName, who: &Who) -> Result<Grant> {
    let text = "WITH gone AS (
            DELETE FROM resourcelock r WHERE name = $1 AND backend <> 0
            AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = r.backend) RETURNING token),
        counter AS (
            INSERT INTO resourcelock AS r (name, backend, token, who) VALUES ($1, 0, txid_current(), '')
            ON CONFLICT (name, backend) DO UPDATE SET token = greatest(r.token + 1, txid_current()) RETURNING token),
        own AS (
            INSERT INTO resourcelock AS r (name, backend, token, who)
            SELECT $1, pg_backend_pid(), token, $2 FROM counter
            ON CONFLICT (name, backend) DO UPDATE SET token = excluded.token, who = excluded.who RETURNING token)
        SELECT token, EXISTS (SELECT FROM gone WHERE token <> 0) FROM own";
    let who = serde_json::to_string(who).unwrap_or_default();
    let values: [Value<'_>; 2] = [(&name.as_str(), Type::TEXT), (&who, Type::TEXT)];
    loop {
        let error = match timeout(BUDGET, client.query_typed_one(text, &values)).await {
            Ok(Ok(row)) => {
                return Ok(Grant {
                    token: row.get(0),
                    abandoned: row.get(1),
                });
            }
            Ok(Err(error)) => error,
            Err(_) => return Err(target.unreachable("no answer in time")),
        };
        match error.code() {
            Some(&SqlState::UNDEFINED_TABLE) if make_table(client).await => {}
            Some(&SqlState::UNDEFINED_TABLE | &SqlState::INSUFFICIENT_PRIVILEGE) => break,
            _ => return Err(target.error(&error)),
        }
    }
    let table = TABLE.split_whitespace().collect::<Vec<_>>().join(" ");
    log::warn!("who holds the lock is not shown, as the table may not be made or used; have its owner run: {table}");
    let rows = query(target, client, "SELECT txid_current()", &[]).await?;
    Ok(Grant {
        token: rows.first().map_or(0, |row| row.get(0)),
        abandoned: false,
    })
}

/// Whether the table is there now.
async fn make_table(client: &Client) -> bool {
    match timeout(BUDGET, client.batch_execute(TABLE)).await {
        Ok(Ok(())) => true,
        // Another one has made it in the same instant.
        Ok(Err(error)) => matches!(
            error.code(),
            Some(code) if [SqlState::UNIQUE_VIOLATION, SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT].contains(code)
        ),
        Err(_) => false,
    }
}

/// Lets others see who waits. Without a table they see a little less.
pub(super) async fn announce(target: &Target, client: &Client, name: &LockName, who: &Who) {
    let text = "INSERT INTO resourcelock AS r (name, backend, token, who) VALUES ($1, pg_backend_pid(), 0, $2)
        ON CONFLICT (name, backend) DO UPDATE SET token = 0, who = excluded.who";
    let who = serde_json::to_string(who).unwrap_or_default();
    let _ = query(
        target,
        client,
        text,
        &[(&name.as_str(), Type::TEXT), (&who, Type::TEXT)],
    )
    .await;
}

/// Whether this session still holds the lock, as the server sees it.
pub(super) async fn still_held(target: &Target, client: &Client, key: i64) -> Result<bool> {
    let text = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND granted
        AND classid::bigint = ($1 >> 32) & 4294967295 AND objid::bigint = $1 & 4294967295 AND objsubid = 1)";
    let rows = query(target, client, text, &[(&key, Type::INT8)]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// Releases: whether it was held.
pub(super) async fn unlock(target: &Target, client: &Client, key: i64, mode: Mode) -> Result<bool> {
    let text = format!("SELECT pg_advisory_unlock{}($1)", suffix(mode));
    let rows = query(target, client, &text, &[(&key, Type::INT8)]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// Removes the own row. Nobody waits for the disk for that.
pub(super) async fn forget(target: &Target, client: &Client, name: &LockName) {
    let _ = timeout(BUDGET, client.batch_execute("SET synchronous_commit = off")).await;
    let text = "DELETE FROM resourcelock WHERE name = $1 AND backend = pg_backend_pid()";
    let _ = query(target, client, text, &[(&name.as_str(), Type::TEXT)]).await;
}
