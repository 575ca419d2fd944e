//! The advisory lock: acquiring it, checking that it is still held, releasing it.

use super::connect::Link;
use super::sql::{FORGET, NOWHERE_ELSE, Sql, USUALLY, Value, key};
use super::token_objects::TABLE;
use crate::lock::types::{LockName, Mode, Result};
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

/// The longest wait that the server can end by itself: a number of milliseconds with 31 bits.
pub(super) const LONGEST_WAIT: Duration = Duration::from_millis(i32::MAX as u64);

/// A session that is ready.
pub(super) struct Ready {
    /// There is something to draw a token from, as far as is known.
    pub(super) has_objects: bool,
    /// The lock was free, and has been acquired.
    pub(super) acquired: bool,
}

fn suffix(mode: Mode) -> &'static str {
    if mode == Mode::Shared { "_shared" } else { "" }
}

/// Settings that older servers lack, and since which version there are.
const NEWER: [(u32, &str); 2] = [(14, "idle_session_timeout"), (17, "transaction_timeout")];

/// What the session is told first: where to look for names, and that the server keeps it as long as the holder may need to
/// end its command, twice over, and ends it for no other reason.
fn settings(link: &Link, ttl: Duration) -> String {
    // Whole seconds, rounded up; the kernel takes at most 32,767.
    let ttl = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    let seconds = ttl.saturating_mul(2).clamp(2, 32_767);
    let millis = ttl.saturating_mul(2_000).clamp(2_000, i32::MAX as u64);
    // With what a role or a database may have as a default isolation, statements that run side by side would fail. Longer
    // pauses between probes wait longer, up to the time for unanswered data.
    let mut text = format!(
        "SET search_path TO {NOWHERE_ELSE};
        SET default_transaction_isolation TO 'read committed'; SET default_transaction_read_only TO off;
        SET tcp_keepalives_idle TO {seconds}; SET tcp_keepalives_interval TO {};
        SET tcp_keepalives_count TO 3; SET tcp_user_timeout TO {millis};
        SET statement_timeout TO 0; SET lock_timeout TO {USUALLY}; SET idle_in_transaction_session_timeout TO 0",
        (seconds / 3).max(1)
    );
    for (since, setting) in NEWER {
        // A pooler may tell another version than its server.
        if link.direct && link.version >= since {
            text.push_str(&format!("; SET {setting} TO 0"));
        }
    }
    // A grant that waited for standbys could leave a session behind that has the lock and cannot be ended.
    if !link.commits_later {
        text.push_str("; SET synchronous_commit TO local");
    }
    text
}

impl Sql<'_> {
    /// Makes the session ready, and tries to acquire the lock.
    pub(super) async fn settle(self, link: &Link, ttl: Duration, key: i64, mode: Mode) -> Result<Ready> {
        // A pooler may have given the session to others before. One who was killed may have left the lock, which a session
        // has as often as it acquires it.
        let free = async {
            if link.direct && link.version != 0 {
                return Ok(());
            }
            let unlock = if link.direct {
                ""
            } else {
                "SELECT pg_catalog.pg_advisory_unlock_all();"
            };
            let [(_, first), (_, second)] = NEWER;
            let text = format!(
                "{unlock}
                SELECT pg_catalog.set_config(s.name, '0', false) FROM pg_catalog.pg_settings s
                WHERE s.name OPERATOR(pg_catalog.=) '{first}' OR s.name OPERATOR(pg_catalog.=) '{second}'"
            );
            self.execute(&text).await
        };
        let settings = settings(link, ttl);
        // All in one go: a grant takes fewer round trips. What is told in so many words costs the server less than a
        // query over a list of settings.
        let (freed, settled, acquired, table) = tokio::join!(
            biased;
            free,
            self.execute(&settings),
            self.try_lock(key, mode),
            self.query(TABLE, &[])
        );
        freed?;
        settled?;
        Ok(Ready {
            has_objects: self.is_our_own(&table?)? || self.has_objects().await?,
            acquired: acquired?,
        })
    }

    /// Acquires the lock if it is free. With full names, as it is sent together with the settings, which might fail.
    async fn try_lock(self, key: i64, mode: Mode) -> Result<bool> {
        let text = format!("SELECT pg_catalog.pg_try_advisory_lock{}($1)", suffix(mode));
        self.query_bool(&text, &[(&key, Type::INT8)]).await
    }

    /// From now on the server notices while this session waits that its client has gone. Where the server's system cannot tell,
    /// it refuses.
    pub(super) async fn notice_its_end(self) {
        let text = "SELECT set_config('client_connection_check_interval', '1000', false)
            WHERE current_setting('client_connection_check_interval', true) IS NOT NULL";
        let _ = self.query(text, &[]).await;
    }

    /// Waits for the lock, for `time` ([`LONGEST_WAIT`]) at most; false = not in time.
    pub(super) async fn lock(self, key: i64, mode: Mode, time: Option<Duration>) -> Result<bool> {
        // 0 is no limit.
        let millis = time.map_or(0, |time| time.min(LONGEST_WAIT).as_millis().max(1));
        let limit = "SELECT set_config('lock_timeout', $1, false)";
        let millis = millis.to_string();
        let values: [Value<'_>; 1] = [(&millis, Type::TEXT)];
        let (_, limited) = tokio::join!(biased; self.notice_its_end(), self.query(limit, &values));
        limited?;
        // The limit is for the wait only: it goes with the row, which comes after the wait.
        let text = format!(
            "SELECT set_config('lock_timeout', '{USUALLY}', false) FROM pg_advisory_lock{}($1)",
            suffix(mode)
        );
        match self.client.query_typed(&text, &[(&key, Type::INT8)]).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
            Err(error) => Err(self.target.error(&error)),
        }
    }

    /// True if this session still holds the lock, as the server sees it.
    pub(super) async fn still_held(self, key: i64) -> Result<bool> {
        let text =
            "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND granted
            AND classid::bigint = ($1 >> 32) & 4294967295 AND objid::bigint = $1 & 4294967295 AND objsubid = 1)";
        self.query_bool(text, &[(&key, Type::INT8)]).await
    }

    /// Releases; false = it was not held. First this session's row goes, if there is a table, which tells the next holder
    /// that this one has released; both are sent at once. Since the grant, no table is waited for longer than
    /// [`BRIEFLY`](super::sql::BRIEFLY).
    pub(super) async fn unlock(self, name: &LockName, mode: Mode, has_table: bool) -> Result<bool> {
        let text = format!("SELECT pg_advisory_unlock{}($1)", suffix(mode));
        let key = key(name);
        let values: [Value<'_>; 1] = [(&key, Type::INT8)];
        let forget = async {
            if has_table {
                let _ = self.query(FORGET, &[(&name.as_str(), Type::TEXT)]).await;
            }
        };
        let ((), unlocked) = tokio::join!(biased; forget, self.query_bool(&text, &values));
        unlocked
    }
}
