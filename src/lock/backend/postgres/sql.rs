//! Every statement that is sent.

use super::connect::{BUDGET, Target};
use crate::backend::url::printable;
use crate::backend::who::Who;
use crate::{Error, LockName, Mode, Result};
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

/// What tells others of the requests, and what tokens are drawn from.
///
/// The table is not logged: its rows mean something only as long as their sessions live, and nobody waits for the disk
/// to write them. One row, without a name, tells from which sequence of which database tokens are drawn, and since which
/// start of the server. When the server has crashed, or another one has taken over, the table is empty; when it was
/// restarted, or the database is a copy, the row tells of something else: what is there now may be older than what was
/// drawn last. Whoever finds that moves the sequence on ([`LEAP`]), to the time of day at least (µs since 1970): tokens
/// grow even if an administrator drops all of it, provided that it may be made anew.
pub(super) const OBJECTS: &str = "CREATE UNLOGGED TABLE IF NOT EXISTS public.resourcelock_session (
    name text NOT NULL, backend integer NOT NULL, token bigint NOT NULL, who text NOT NULL,
    PRIMARY KEY (name, backend));
    CREATE SEQUENCE IF NOT EXISTS public.resourcelock_token";

/// So far the sequence is moved on when it is not known which tokens were drawn last: the server writes 32 numbers
/// ahead, but other sessions can draw on before that is on the disk, and a standby may lag behind.
const LEAP: i64 = 100_000;

/// What the row without a name says of the database and the server.
const EPOCH: &str = "(SELECT oid FROM pg_database WHERE datname = current_database())::text || ' '
    || extract(epoch FROM pg_postmaster_start_time())::text";

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
    // Whole seconds, rounded up; the kernel takes at most 32,767.
    let ttl = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    let seconds = ttl.saturating_mul(2).clamp(2, 32_767);
    let millis = ttl.saturating_mul(2_000).clamp(2_000, i32::MAX as u64);
    let settings = [
        // A grant that waited for standbys could leave a session behind that has the lock and cannot be ended.
        ("synchronous_commit", "local".to_owned()),
        // What a role or a database has as a default would have statements fail that run side by side.
        ("default_transaction_isolation", "read committed".to_owned()),
        ("default_transaction_read_only", "off".to_owned()),
        ("tcp_keepalives_idle", seconds.to_string()),
        // Longer pauses: the more is to be waited for, up to the time for unanswered data.
        ("tcp_keepalives_interval", (seconds / 3).max(1).to_string()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", millis.to_string()),
        ("statement_timeout", "0".to_owned()),
        ("lock_timeout", "0".to_owned()),
        ("idle_session_timeout", "0".to_owned()),
        ("idle_in_transaction_session_timeout", "0".to_owned()),
        ("transaction_timeout", "0".to_owned()),
    ];
    let (names, values): (Vec<&str>, Vec<String>) = settings.into_iter().unzip();
    let text = "SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS s(name, value)
        WHERE current_setting(name, true) IS NOT NULL
        AND NOT (name = 'synchronous_commit' AND current_setting(name) = 'off')";
    let values: [Value<'_>; 2] = [(&names, Type::TEXT_ARRAY), (&values, Type::TEXT_ARRAY)];
    // A waiter whose process has gone is noticed while it waits; where the server's system cannot tell, it refuses.
    let check = "SELECT set_config('client_connection_check_interval', '1000', false)
        WHERE current_setting('client_connection_check_interval', true) IS NOT NULL";
    let (settled, _) = tokio::join!(
        biased;
        query(target, client, text, &values),
        query(target, client, check, &[])
    );
    settled.map(drop)
}

/// Changes what others see of the connection.
pub(super) async fn call(target: &Target, client: &Client, application: &str) -> Result<()> {
    let text = "SELECT set_config('application_name', $1, false)";
    query(target, client, text, &[(&application, Type::TEXT)])
        .await
        .map(drop)
}

/// The longest wait that the server can end by itself: a number of milliseconds with 31 bits.
pub(super) const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

fn suffix(mode: Mode) -> &'static str {
    if mode == Mode::Shared { "_shared" } else { "" }
}

/// Takes it if it is free.
pub(super) async fn try_lock(target: &Target, client: &Client, key: i64, mode: Mode) -> Result<bool> {
    let text = format!("SELECT pg_try_advisory_lock{}($1)", suffix(mode));
    let rows = query(target, client, &text, &[(&key, Type::INT8)]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// Waits for it, for `time` ([`LONGEST`]) at most: whether it was had.
pub(super) async fn lock(
    target: &Target,
    client: &Client,
    key: i64,
    mode: Mode,
    time: Option<Duration>,
) -> Result<bool> {
    // 0 is no limit.
    let millis = time.map_or(0, |time| time.min(LONGEST).as_millis().max(1));
    let limit = "SELECT set_config('lock_timeout', $1, false)";
    query(target, client, limit, &[(&millis.to_string(), Type::TEXT)]).await?;
    // What comes after the wait has no such limit; the row comes after the wait.
    let text = format!(
        "SELECT set_config('lock_timeout', '0', false) FROM pg_advisory_lock{}($1)",
        suffix(mode)
    );
    match client.query_typed(&text, &[(&key, Type::INT8)]).await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
        Err(error) => Err(target.error(&error)),
    }
}

/// What a grant is told.
pub(super) struct Grant {
    pub(super) token: i64,
    /// The session in which it was granted.
    pub(super) backend: i32,
    /// An earlier holder may have ended without a release, a moment ago.
    pub(super) abandoned: bool,
    /// No table tells of it.
    pub(super) bare: bool,
}

/// The next token, and the own row; removes the rows of earlier holders. Only with the lock in hand.
pub(super) async fn grant(target: &Target, client: &Client, name: &LockName, mode: Mode, who: &Who) -> Result<Grant> {
    // A holder removes its row before it releases: one that is still there belongs to one that did not; unless it
    // shares the lock with us. (To ask for that takes the server a millisecond.)
    let shared = if mode == Mode::Shared {
        "AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = r.backend AND l.locktype = 'advisory' AND l.granted
            AND l.objsubid = 1 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND l.classid::bigint = ($3 >> 32) & 4294967295 AND l.objid::bigint = $3 & 4294967295)"
    } else {
        "AND $3::bigint IS NOT NULL"
    };
    let text = format!(
        "WITH known AS (
            SELECT FROM public.resourcelock_session WHERE name = '' AND backend = 0
            AND token = 'public.resourcelock_token'::regclass::oid::bigint AND who = {EPOCH}),
        gone AS (
            DELETE FROM public.resourcelock_session r
            WHERE name = $1 AND backend <> pg_backend_pid() AND token <> 0 {shared} RETURNING 1),
        own AS (
            INSERT INTO public.resourcelock_session AS r (name, backend, token, who)
            SELECT $1, pg_backend_pid(), nextval('public.resourcelock_token'), $2 FROM known
            ON CONFLICT (name, backend) DO UPDATE SET token = excluded.token, who = excluded.who RETURNING token)
        SELECT (SELECT token FROM own), EXISTS (SELECT FROM gone), pg_backend_pid()"
    );
    let who = in_ascii(who);
    let key = key(name);
    let values: [Value<'_>; 3] = [(&name.as_str(), Type::TEXT), (&who, Type::TEXT), (&key, Type::INT8)];
    let mut anew = false;
    loop {
        let error = match timeout(BUDGET, client.query_typed_one(&text, &values)).await {
            Ok(Ok(row)) => match row.get::<_, Option<i64>>(0) {
                Some(token) => {
                    return Ok(Grant {
                        token,
                        backend: row.get(2),
                        // After a crash nobody knows.
                        abandoned: anew || row.get(1),
                        bare: false,
                    });
                }
                None => {
                    move_on(target, client).await?;
                    anew = true;
                    continue;
                }
            },
            Ok(Err(error)) => error,
            Err(_) => return Err(target.unreachable("no answer in time")),
        };
        match error.code() {
            Some(&SqlState::UNDEFINED_TABLE) if make_objects(client).await => {}
            Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => break,
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => return Err(no_right(target, &error)),
            _ => return Err(target.error(&error)),
        }
    }
    bare_token(target, client).await
}

/// What the role needs, as lines to run.
fn grants(target: &Target) -> String {
    let role = printable(&target.role().replace('"', "\"\""));
    format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON public.resourcelock_session TO \"{role}\"; \
         GRANT USAGE, UPDATE ON SEQUENCE public.resourcelock_token TO \"{role}\";"
    )
}

/// There are tokens already, and this user may not draw one: another count would not fit to them.
fn no_right(target: &Target, error: &tokio_postgres::Error) -> Error {
    let said = error.as_db_error().map_or("permission denied", |said| said.message());
    target.refused(format!("{}; have the owner run: {}", printable(said), grants(target)))
}

/// Sees to it that the next token is higher than every earlier one, and says so in the table. The disk is waited for.
async fn move_on(target: &Target, client: &Client) -> Result<()> {
    // Tokens of an earlier version of this program stand in a table of its own.
    let old = "SELECT to_regclass('resourcelock') IS NOT NULL AND has_table_privilege('resourcelock', 'SELECT')";
    let old = query(target, client, old, &[]).await;
    let old = if old.is_ok_and(|rows| rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false))) {
        let highest = query(target, client, "SELECT max(token) FROM resourcelock", &[]).await;
        let highest = highest
            .ok()
            .and_then(|rows| rows.first().and_then(|row| row.try_get(0).ok()));
        highest.unwrap_or(0)
    } else {
        0_i64
    };
    // One who does it at the same time waits for the row, and then finds it.
    let text = format!(
        "WITH first AS (
            INSERT INTO public.resourcelock_session AS r (name, backend, token, who)
            VALUES ('', 0, 'public.resourcelock_token'::regclass::oid::bigint, {EPOCH})
            ON CONFLICT (name, backend) DO UPDATE SET token = excluded.token, who = excluded.who
            WHERE r.token <> excluded.token OR r.who <> excluded.who
            RETURNING 1)
        SELECT set_config('synchronous_commit', 'local', true),
            setval('public.resourcelock_token',
                greatest(greatest(nextval('public.resourcelock_token'), txid_current(), $1) + $2,
                    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint))
        FROM first"
    );
    let values: [Value<'_>; 2] = [(&old, Type::INT8), (&LEAP, Type::INT8)];
    match timeout(BUDGET, client.query_typed(&text, &values)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Err(no_right(target, &error)),
        Ok(Err(error)) => Err(target.error(&error)),
        Err(_) => Err(target.unreachable("no answer in time")),
    }
}

/// A token where there is nothing to draw it from: the server's transaction counter, once it is on the disk.
async fn bare_token(target: &Target, client: &Client) -> Result<Grant> {
    let objects = OBJECTS.split_whitespace().collect::<Vec<_>>().join(" ");
    log::warn!(
        "'list' does not show the lock, and each grant waits for the disk, as this user may make no table in the \
         schema public; have one who may run: {objects}; {}",
        grants(target)
    );
    // The counter of a standby that takes over has to have reached it, where the server sees to that.
    let text = "SELECT txid_current(), pg_backend_pid(), pg_logical_emit_message(true, 'resourcelock', '')::text,
        set_config('synchronous_commit', CASE reset_val WHEN 'off' THEN 'local' ELSE reset_val END, true)
        FROM pg_settings WHERE name = 'synchronous_commit'";
    let rows = query(target, client, text, &[]).await?;
    let row = rows.first().ok_or_else(|| target.unreachable("an empty answer"))?;
    Ok(Grant {
        token: row.get(0),
        backend: row.get(1),
        // Nobody has written down how the earlier holder ended.
        abandoned: true,
        bare: true,
    })
}

/// Whether the table and the sequence are there now.
async fn make_objects(client: &Client) -> bool {
    // Together: both or none.
    match timeout(BUDGET, client.batch_execute(OBJECTS)).await {
        Ok(Ok(())) => true,
        // Another one has made it in the same instant.
        Ok(Err(error)) => matches!(
            error.code(),
            Some(code) if [SqlState::UNIQUE_VIOLATION, SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT].contains(code)
        ),
        Err(_) => false,
    }
}

/// Lets others see who waits; removes the rows of waiters that have gone. Without a table others see a little less.
pub(super) async fn announce(target: &Target, client: &Client, name: &LockName, who: &Who) {
    let text = "WITH gone AS (
            DELETE FROM public.resourcelock_session r WHERE name = $1 AND token = 0 AND backend <> pg_backend_pid()
            AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = r.backend))
        INSERT INTO public.resourcelock_session AS r (name, backend, token, who)
        VALUES ($1, pg_backend_pid(), 0, $2)
        ON CONFLICT (name, backend) DO UPDATE SET token = 0, who = excluded.who";
    let who = in_ascii(who);
    let values: [Value<'_>; 2] = [(&name.as_str(), Type::TEXT), (&who, Type::TEXT)];
    let _ = briefly(target, client, text, &values).await;
}

/// JSON that fits into a database of any encoding.
fn in_ascii(who: &Who) -> String {
    let json = serde_json::to_string(who).unwrap_or_default();
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            ascii.push(c);
            continue;
        }
        // Outside of ASCII there is nothing in JSON but the characters of its texts.
        for unit in c.encode_utf16(&mut [0; 2]) {
            ascii.push_str(&format!("\\u{unit:04x}"));
        }
    }
    ascii
}

/// Runs a statement that is for the eyes of others, and gives it up soon if somebody has locked the table. Whatever is
/// sent behind it has to set the limit itself if it waits for locks.
pub(super) async fn briefly(target: &Target, client: &Client, text: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
    let limit = "SELECT set_config('lock_timeout', '500', false)";
    let (limited, rows) = tokio::join!(biased; query(target, client, limit, &[]), query(target, client, text, values));
    limited.and(rows)
}

/// Whether this session still holds the lock, as the server sees it.
pub(super) async fn still_held(target: &Target, client: &Client, key: i64) -> Result<bool> {
    let text = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND granted
        AND classid::bigint = ($1 >> 32) & 4294967295 AND objid::bigint = $1 & 4294967295 AND objsubid = 1)";
    let rows = query(target, client, text, &[(&key, Type::INT8)]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// Releases: whether it was held. First the own row goes, which tells the next one that it was not abandoned; both are
/// sent at once.
pub(super) async fn unlock(target: &Target, client: &Client, name: &LockName, mode: Mode) -> Result<bool> {
    let text = format!("SELECT pg_advisory_unlock{}($1)", suffix(mode));
    let key = key(name);
    let values: [Value<'_>; 1] = [(&key, Type::INT8)];
    let (_, rows) = tokio::join!(
        biased;
        forget(target, client, name),
        query(target, client, &text, &values)
    );
    Ok(rows?.first().is_some_and(|row| row.get(0)))
}

/// Removes the own row.
pub(super) async fn forget(target: &Target, client: &Client, name: &LockName) {
    let text = "DELETE FROM public.resourcelock_session WHERE name = $1 AND backend = pg_backend_pid()";
    let _ = briefly(target, client, text, &[(&name.as_str(), Type::TEXT)]).await;
}
