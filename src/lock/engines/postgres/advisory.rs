//! The advisory lock: acquiring it, checking that it is still held, releasing it.

use super::sql::{NOWHERE_ELSE, Sql, Value, key};
use super::token_objects::OUR_OWN;
use crate::lock::types::{LockName, Mode, Result};
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

/// The longest wait that the server can end by itself: a number of milliseconds with 31 bits.
pub(super) const LONGEST_WAIT: Duration = Duration::from_millis(i32::MAX as u64);

/// A session that is ready.
pub(super) struct Ready {
    /// The table and the sequence are both there.
    pub(super) has_objects: bool,
    /// The lock was free, and has been acquired.
    pub(super) acquired: bool,
}

fn suffix(mode: Mode) -> &'static str {
    if mode == Mode::Shared { "_shared" } else { "" }
}

/// What the session has to be like: the server keeps it as long as the holder may need to end its command, twice over, and
/// ends it for no other reason.
fn settings(ttl: Duration) -> (Vec<&'static str>, Vec<String>) {
    // Whole seconds, rounded up; the kernel takes at most 32,767.
    let ttl = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    let seconds = ttl.saturating_mul(2).clamp(2, 32_767);
    let millis = ttl.saturating_mul(2_000).clamp(2_000, i32::MAX as u64);
    let settings = [
        ("search_path", NOWHERE_ELSE.to_owned()),
        // A grant that waited for standbys could leave a session behind that has the lock and cannot be ended.
        ("synchronous_commit", "local".to_owned()),
        // With what a role or a database may have as a default, statements that run side by side would fail.
        ("default_transaction_isolation", "read committed".to_owned()),
        ("default_transaction_read_only", "off".to_owned()),
        ("tcp_keepalives_idle", seconds.to_string()),
        // Longer pauses wait longer, up to the time for unanswered data.
        ("tcp_keepalives_interval", (seconds / 3).max(1).to_string()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", millis.to_string()),
        ("statement_timeout", "0".to_owned()),
        ("lock_timeout", "0".to_owned()),
        ("idle_session_timeout", "0".to_owned()),
        ("idle_in_transaction_session_timeout", "0".to_owned()),
        ("transaction_timeout", "0".to_owned()),
    ];
    settings.into_iter().unzip()
}

impl Sql<'_> {
    /// Makes the session ready, and tries to acquire the lock. Settings that an older server does not know are left out.
    /// `reused`: a pooler may have given the session to others before.
    pub(super) async fn settle(self, ttl: Duration, reused: bool, key: i64, mode: Mode) -> Result<Ready> {
        let (names, values) = settings(ttl);
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
        // One who was killed may have left the lock, which a session has as often as it acquires it.
        let free = async {
            match reused {
                true => self.execute("SELECT pg_catalog.pg_advisory_unlock_all()").await,
                false => Ok(()),
            }
        };
        // All in one go: a grant takes fewer round trips.
        let (freed, settled, _, acquired) = tokio::join!(
            biased;
            free,
            self.query(&text, &values),
            self.query(check, &[]),
            self.try_lock(key, mode)
        );
        freed?;
        let own: i64 = settled?.first().map_or(Ok(0), |row| self.target.value(row, 1))?;
        Ok(Ready {
            has_objects: own == 2 || self.has_objects().await?,
            acquired: acquired?,
        })
    }

    /// Acquires the lock if it is free.
    async fn try_lock(self, key: i64, mode: Mode) -> Result<bool> {
        let text = format!("SELECT pg_try_advisory_lock{}($1)", suffix(mode));
        self.query_bool(&text, &[(&key, Type::INT8)]).await
    }

    /// Waits for the lock, for `time` ([`LONGEST_WAIT`]) at most; false = not in time.
    pub(super) async fn lock(self, key: i64, mode: Mode, time: Option<Duration>) -> Result<bool> {
        // 0 is no limit.
        let millis = time.map_or(0, |time| time.min(LONGEST_WAIT).as_millis().max(1));
        let limit = "SELECT set_config('lock_timeout', $1, false)";
        self.query(limit, &[(&millis.to_string(), Type::TEXT)]).await?;
        // The limit is for the wait only: it goes with the row, which comes after the wait.
        let text = format!(
            "SELECT set_config('lock_timeout', '0', false) FROM pg_advisory_lock{}($1)",
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
    /// that this one has released; both are sent at once.
    pub(super) async fn unlock(self, name: &LockName, mode: Mode, has_table: bool) -> Result<bool> {
        let text = format!("SELECT pg_advisory_unlock{}($1)", suffix(mode));
        let key = key(name);
        let values: [Value<'_>; 1] = [(&key, Type::INT8)];
        let forget = async {
            if has_table {
                self.forget(name).await;
            }
        };
        let ((), unlocked) = tokio::join!(biased; forget, self.query_bool(&text, &values));
        unlocked
    }
}
