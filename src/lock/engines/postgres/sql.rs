//! Every statement that is sent.
//!
//! In the schema public others may make functions, operators and tables that fit better than the server's own, and
//! would run as this role. So nothing is looked for there: the first thing that a session is told is where to look
//! ([`NOWHERE_ELSE`]), what is sent before has no operators and full names, and our own table and sequence are used
//! only if nobody else can have them run something ([`are_there`]).

use super::target::Target;
use crate::lock::engines::ANSWER_TIMEOUT;
use crate::lock::engines::stored_request::StoredRequest;
use crate::lock::system::printable;
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

/// Where names and operators are looked for: where nobody but a superuser can make any.
const NOWHERE_ELSE: &str = "pg_catalog, pg_temp";

/// How many of ours are there as this role makes them. (It is asked before each grant: what else may be trusted takes the
/// server longer to find out.) With full names, as it is asked before the place is set where they are looked for.
const OUR_OWN: &str = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c
    WHERE (c.relname OPERATOR(pg_catalog.=) 'resourcelock_session' AND c.relkind OPERATOR(pg_catalog.=) 'r'
        OR c.relname OPERATOR(pg_catalog.=) 'resourcelock_token' AND c.relkind OPERATOR(pg_catalog.=) 'S')
    AND c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('public')::pg_catalog.oid
    AND NOT (c.relhasrules OR c.relrowsecurity OR c.relhastriggers)
    AND pg_catalog.pg_get_userbyid(c.relowner) OPERATOR(pg_catalog.=) current_user";

/// What stands where ours are to be: its name and owner, whether it is of the right kind, whether the owner may be
/// trusted, whether something is run when it is used, whether it may be read.
const FOUND: &str = "SELECT c.relname::text, pg_get_userbyid(c.relowner)::text,
        c.relkind = CASE c.relname WHEN 'resourcelock_token' THEN 'S'::\"char\" ELSE 'r'::\"char\" END,
        EXISTS (SELECT FROM pg_roles o WHERE o.oid = c.relowner AND (o.rolsuper OR o.rolname = current_user
            OR o.oid = (SELECT datdba FROM pg_database WHERE datname = current_database()))),
        c.relhasrules OR c.relrowsecurity
            OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal),
        coalesce(has_schema_privilege(c.relnamespace, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), false)
    FROM pg_class c WHERE c.relname IN ('resourcelock_session', 'resourcelock_token')
        AND c.relnamespace = to_regnamespace('public')";

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
    target.answer(client.query_typed(text, values)).await
}

/// Runs statements without values that answer soon.
async fn execute(target: &Target, client: &Client, text: &str) -> Result<()> {
    target.answer(client.batch_execute(text)).await
}

/// Whether the first row, if there is one, says yes.
pub(super) fn says_yes(target: &Target, rows: &[Row]) -> Result<bool> {
    rows.first().map_or(Ok(false), |row| target.value(row, 0))
}

/// Runs a statement that only reads, in a transaction of its own: a pooler may give the session to others then, who
/// must not find what we have set. It is given up soon if somebody has locked the table.
pub(super) async fn look(target: &Target, client: &Client, text: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
    let begin = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL search_path TO {NOWHERE_ELSE}; SET LOCAL lock_timeout TO 500"
    );
    let (begun, rows, _) = tokio::join!(
        biased;
        execute(target, client, &begin),
        query(target, client, text, values),
        execute(target, client, "COMMIT")
    );
    begun.and(rows)
}

/// Whether the table and the sequence are both there.
///
/// # Errors
/// [`Error::Refused`] if another role than this one could have something run through them: whoever may make tables in
/// the schema public could have been the first.
fn are_there(target: &Target, found: &[Row]) -> Result<bool> {
    for row in found {
        let (name, owner): (&str, &str) = (target.value(row, 0)?, target.value(row, 1)?);
        let (fits, trusted, acts): (bool, bool, bool) =
            (target.value(row, 2)?, target.value(row, 3)?, target.value(row, 4)?);
        if !trusted {
            return Err(target.refused(format!(
                "public.{name} belongs to the role {}, who could do through it what only this one may: have it dropped, \
                 and have the schema's owner run: REVOKE CREATE ON SCHEMA public FROM PUBLIC",
                printable(owner)
            )));
        }
        if !fits || acts {
            return Err(target.refused(format!(
                "public.{name} is not as this program makes it (it is something else, or has triggers, rules or row \
                 security): have it dropped, and it is made anew"
            )));
        }
    }
    Ok(found.len() == 2)
}

/// Whether the table is there and may be read, for one that only reads.
pub(super) async fn is_readable(target: &Target, client: &Client) -> Result<bool> {
    let found = look(target, client, FOUND, &[]).await?;
    are_there(target, &found)?;
    for row in &found {
        if target.value::<&str>(row, 0)? == "resourcelock_session" {
            return target.value(row, 5);
        }
    }
    Ok(false)
}

/// What the session has to be: the server keeps it as long as the holder may need to end its command, twice over, and
/// ends it for no other reason. Settings that an older server does not know are left out. Tells whether
/// the table and the sequence are there, see [`are_there`]; and
/// whether the lock was free, and has been taken. `reused`: a pooler may have given the session to others before.
pub(super) async fn settle(
    target: &Target,
    client: &Client,
    ttl: Duration,
    reused: bool,
    (key, mode): (i64, Mode),
) -> Result<(bool, bool)> {
    // Whole seconds, rounded up; the kernel takes at most 32,767.
    let ttl = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    let seconds = ttl.saturating_mul(2).clamp(2, 32_767);
    let millis = ttl.saturating_mul(2_000).clamp(2_000, i32::MAX as u64);
    let settings = [
        ("search_path", NOWHERE_ELSE.to_owned()),
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
    // With full names; this unnest is always the server's own.
    let text = format!(
        "SELECT pg_catalog.count(pg_catalog.set_config(s.name, s.value, false)), ({OUR_OWN})
        FROM unnest($1, $2) AS s(name, value)
        WHERE pg_catalog.current_setting(s.name, true) IS NOT NULL
        AND NOT (s.name OPERATOR(pg_catalog.=) 'synchronous_commit'
            AND pg_catalog.current_setting(s.name) OPERATOR(pg_catalog.=) 'off')"
    );
    let values: [Value<'_>; 2] = [(&names, Type::TEXT_ARRAY), (&values, Type::TEXT_ARRAY)];
    // A waiter whose process has gone is noticed while it waits; where the server's system cannot tell, it refuses.
    let check = "SELECT set_config('client_connection_check_interval', '1000', false)
        WHERE current_setting('client_connection_check_interval', true) IS NOT NULL";
    // One who has been killed may have left the lock, which a session has as often as it takes it.
    let free = async {
        match reused {
            true => execute(target, client, "SELECT pg_catalog.pg_advisory_unlock_all()").await,
            false => Ok(()),
        }
    };
    // All in one go: a grant takes the fewer journeys.
    let (freed, settled, _, had) = tokio::join!(
        biased;
        free,
        query(target, client, &text, &values),
        query(target, client, check, &[]),
        try_lock(target, client, key, mode)
    );
    freed?;
    let own: i64 = settled?.first().map_or(Ok(0), |row| target.value(row, 1))?;
    let there = own == 2 || are_there(target, &query(target, client, FOUND, &[]).await?)?;
    Ok((there, had?))
}

/// The longest wait that the server can end by itself: a number of milliseconds with 31 bits.
pub(super) const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

fn suffix(mode: Mode) -> &'static str {
    if mode == Mode::Shared { "_shared" } else { "" }
}

/// Takes it if it is free.
async fn try_lock(target: &Target, client: &Client, key: i64, mode: Mode) -> Result<bool> {
    let text = format!("SELECT pg_try_advisory_lock{}($1)", suffix(mode));
    let rows = query(target, client, &text, &[(&key, Type::INT8)]).await?;
    says_yes(target, &rows)
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
    /// The tokens of such holders, as far as they have left a row: see [`sweep`].
    pub(super) left: Vec<i64>,
    /// No table tells of it.
    pub(super) bare: bool,
}

/// The next token, and the own row. Only with the lock in hand. `there`: whether there is something to draw it from, as
/// far as is known. What others see of the connection is called `before#TOKENafter` from then on.
pub(super) async fn grant(
    target: &Target,
    client: &Client,
    (name, mode, who): (&LockName, Mode, &StoredRequest),
    (before, after): (&str, &str),
    mut there: bool,
) -> Result<Grant> {
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
        own AS (
            INSERT INTO public.resourcelock_session AS r (name, backend, token, who)
            SELECT $1, pg_backend_pid(), nextval('public.resourcelock_token'), $2 FROM known
            ON CONFLICT (name, backend) DO UPDATE SET token = excluded.token, who = excluded.who RETURNING token)
        SELECT (SELECT token FROM own), pg_backend_pid(),
            ARRAY(SELECT token FROM public.resourcelock_session r
                WHERE name = $1 AND backend <> pg_backend_pid() AND token <> 0 {shared}),
            set_config('application_name', $4 || '#' || (SELECT token FROM own)::text || $5, false)"
    );
    let who = in_ascii(who);
    let key = key(name);
    let values: [Value<'_>; 5] = [
        (&name.as_str(), Type::TEXT),
        (&who, Type::TEXT),
        (&key, Type::INT8),
        (&before, Type::TEXT),
        (&after, Type::TEXT),
    ];
    let mut anew = false;
    // Others may remove all of it again, but not for ever.
    for _ in 0..10 {
        if !there {
            let made = make_objects(client).await;
            // Another one may have been the first, or have made them for us while we waited.
            there = are_there(target, &query(target, client, FOUND, &[]).await?)?;
            if !there && !made {
                return bare_token(target, client, before, after).await;
            }
            continue;
        }
        let error = match timeout(ANSWER_TIMEOUT, client.query_typed_one(&text, &values)).await {
            Ok(Ok(row)) => match target.value::<Option<i64>>(&row, 0)? {
                Some(token) => {
                    let left: Vec<i64> = target.value(&row, 2)?;
                    return Ok(Grant {
                        token,
                        backend: target.value(&row, 1)?,
                        // After a crash nobody knows.
                        abandoned: anew || !left.is_empty(),
                        left,
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
            Err(_) => return Err(target.no_answer()),
        };
        match error.code() {
            Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => there = false,
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => return Err(no_right(target, &error)),
            _ => return Err(target.error(&error)),
        }
    }
    Err(target.refused("public.resourcelock_session and public.resourcelock_token do not stay as they are made"))
}

/// Removes what earlier holders have left behind, once the moment is over for which whoever finds it has to wait.
pub(super) async fn sweep(target: &Target, client: &Client, name: &LockName, left: &[i64]) {
    let text = "DELETE FROM public.resourcelock_session WHERE name = $1 AND token = ANY ($2)";
    let values: [Value<'_>; 2] = [(&name.as_str(), Type::TEXT), (&left, Type::INT8_ARRAY)];
    let _ = briefly(target, client, text, &values).await;
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
                greatest(greatest(nextval('public.resourcelock_token'), txid_current()) + $1,
                    (extract(epoch FROM clock_timestamp()) * 1000000::numeric)::bigint))
        FROM first"
    );
    let values: [Value<'_>; 1] = [(&LEAP, Type::INT8)];
    match timeout(ANSWER_TIMEOUT, client.query_typed(&text, &values)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Err(no_right(target, &error)),
        Ok(Err(error)) => Err(target.error(&error)),
        Err(_) => Err(target.no_answer()),
    }
}

/// A token where there is nothing to draw it from: the server's transaction counter, once it is on the disk.
async fn bare_token(target: &Target, client: &Client, before: &str, after: &str) -> Result<Grant> {
    let objects = OBJECTS.split_whitespace().collect::<Vec<_>>().join(" ");
    log::warn!(
        "'list' does not show the lock, and each grant waits for the disk, as this user may make no table in the \
         schema public; have one who may run: {objects}; {}",
        grants(target)
    );
    // The counter of a standby that takes over has to have reached it, where the server sees to that.
    let text = "SELECT txid_current(), pg_backend_pid(), pg_logical_emit_message(true, 'resourcelock', '')::text,
        set_config('synchronous_commit', CASE reset_val WHEN 'off' THEN 'local' ELSE reset_val END, true),
        set_config('application_name', $1 || '#' || txid_current()::text || $2, false)
        FROM pg_settings WHERE name = 'synchronous_commit'";
    let rows = query(target, client, text, &[(&before, Type::TEXT), (&after, Type::TEXT)]).await?;
    let row = rows.first().ok_or_else(|| target.unreachable("an empty answer"))?;
    Ok(Grant {
        token: target.value(row, 0)?,
        backend: target.value(row, 1)?,
        // Nobody has written down how the earlier holder ended.
        abandoned: true,
        left: Vec::new(),
        bare: true,
    })
}

/// Whether the table and the sequence are there now.
async fn make_objects(client: &Client) -> bool {
    // Together: both or none.
    match timeout(ANSWER_TIMEOUT, client.batch_execute(OBJECTS)).await {
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
pub(super) async fn announce(target: &Target, client: &Client, name: &LockName, who: &StoredRequest) {
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
fn in_ascii(who: &StoredRequest) -> String {
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
    says_yes(target, &rows)
}

/// Releases: whether it was held. First the own row goes, which tells the next one that it was not abandoned; both are
/// sent at once. `there`: whether there is a table with a row.
pub(super) async fn unlock(target: &Target, client: &Client, name: &LockName, mode: Mode, there: bool) -> Result<bool> {
    let text = format!("SELECT pg_advisory_unlock{}($1)", suffix(mode));
    let key = key(name);
    let values: [Value<'_>; 1] = [(&key, Type::INT8)];
    let (_, rows) = tokio::join!(
        biased;
        forget(target, client, name, there),
        query(target, client, &text, &values)
    );
    says_yes(target, &rows?)
}

/// Leaves a session that others may be given to as it was found.
pub(super) async fn restore(target: &Target, client: &Client) {
    if let Err(error) = execute(target, client, "RESET ALL").await {
        log::debug!("{error}");
    }
}

/// Removes the own row, if there is a table.
pub(super) async fn forget(target: &Target, client: &Client, name: &LockName, there: bool) {
    if !there {
        return;
    }
    let text = "DELETE FROM public.resourcelock_session WHERE name = $1 AND backend = pg_backend_pid()";
    let _ = briefly(target, client, text, &[(&name.as_str(), Type::TEXT)]).await;
}
