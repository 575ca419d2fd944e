//! Running statements.
//!
//! In the schema public others may create functions, operators and tables that fit better than the server's own, and
//! would run as this role. So names are not looked for there: the first thing that a session is told is where to look
//! ([`NOWHERE_ELSE`]); what is sent before that has no operators and full names; and our own tables and sequence are used
//! only if nobody else can have them run something (`objects.rs`).

use super::target::Target;
use crate::lock::engines::stored_request::StoredRequest;
use crate::lock::types::{LockName, Result};
use sha2::{Digest, Sha256};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

/// Where names and operators are looked for: where nobody but a superuser can create any.
pub(super) const NOWHERE_ELSE: &str = "pg_catalog, pg_temp";

/// How long a statement that is only for others to see waits for a table that somebody has locked, in ms.
pub(super) const BRIEFLY: &str = "500";

/// How long each statement of a request waits for a table, in ms, but for those that wait for the lock itself. Without a
/// limit, the session of a request that was killed meanwhile would keep the lock until it has the table.
pub(super) const USUALLY: &str = "2000";

/// Removes this session's row.
pub(super) const FORGET: &str =
    "DELETE FROM public.resourcelock_session WHERE name = $1 AND backend = pg_backend_pid()";

/// The number of a lock's advisory lock.
pub(super) fn key(name: &LockName) -> i64 {
    let hash = Sha256::digest(format!("resourcelock:{name}"));
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    i64::from_be_bytes(first)
}

/// A value with its type, for a statement that is prepared and executed in one go.
pub(super) type Value<'a> = (&'a (dyn ToSql + Sync), Type);

/// A session to run statements in. Each has to be answered within the usual time.
#[derive(Clone, Copy)]
pub(super) struct Sql<'a> {
    pub(super) target: &'a Target,
    pub(super) client: &'a Client,
}

impl Sql<'_> {
    /// Runs a statement.
    pub(super) async fn query(self, text: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
        self.target.answer(self.client.query_typed(text, values)).await
    }

    /// Runs a statement: true if it answers with a row that says so.
    pub(super) async fn query_bool(self, text: &str, values: &[Value<'_>]) -> Result<bool> {
        let rows = self.query(text, values).await?;
        self.says_yes(&rows)
    }

    /// True if the first row, if there is one, says so.
    pub(super) fn says_yes(self, rows: &[Row]) -> Result<bool> {
        rows.first().map_or(Ok(false), |row| self.target.value(row, 0))
    }

    /// Runs statements without values.
    pub(super) async fn execute(self, text: &str) -> Result<()> {
        self.target.answer(self.client.batch_execute(text)).await
    }

    /// Runs a statement that only reads, in a transaction of its own: a pooler may give the session to others afterwards,
    /// who must not find what we have set. It gives up soon if somebody has locked the table.
    pub(super) async fn view(self, text: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL search_path TO {NOWHERE_ELSE};
            SET LOCAL lock_timeout TO 500"
        );
        let (begun, rows, _) = tokio::join!(
            biased;
            self.execute(&begin),
            self.query(text, values),
            self.execute("COMMIT")
        );
        begun.and(rows)
    }

    /// Runs a statement that gives up if somebody has locked the table for so many ms. Whatever is sent after it has to set
    /// the limit itself if it waits for locks.
    pub(super) async fn with_lock_timeout(self, millis: &str, text: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
        let limit = "SELECT set_config('lock_timeout', $1, false)";
        let limit_values: [Value<'_>; 1] = [(&millis, Type::TEXT)];
        let (limited, rows) = tokio::join!(biased; self.query(limit, &limit_values), self.query(text, values));
        limited.and(rows)
    }

    /// Runs a statement that is only for others to see, and gives up soon if somebody has locked the table.
    async fn briefly(self, text: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
        self.with_lock_timeout(BRIEFLY, text, values).await
    }

    /// Lets others see that a request waits; removes the rows of waiters that have gone. Without a table others see a
    /// little less.
    pub(super) async fn announce(self, name: &LockName, stored: &StoredRequest) {
        let text = "WITH gone AS (
                DELETE FROM public.resourcelock_session r WHERE name = $1 AND token = 0 AND backend <> pg_backend_pid()
                AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = r.backend))
            INSERT INTO public.resourcelock_session AS r (name, backend, token, who)
            VALUES ($1, pg_backend_pid(), 0, $2)
            ON CONFLICT (name, backend) DO UPDATE SET token = 0, who = excluded.who";
        let stored = in_ascii(stored);
        let _ = self
            .briefly(text, &[(&name.as_str(), Type::TEXT), (&stored, Type::TEXT)])
            .await;
    }

    /// Removes this session's row.
    pub(super) async fn forget(self, name: &LockName) {
        let _ = self.briefly(FORGET, &[(&name.as_str(), Type::TEXT)]).await;
    }

    /// Removes the rows that earlier holders have left behind. Whoever finds one waits for a moment: this is for after
    /// that.
    pub(super) async fn sweep(self, name: &LockName, tokens: &[i64]) {
        let text = "DELETE FROM public.resourcelock_session WHERE name = $1 AND token = ANY ($2)";
        let values: [Value<'_>; 2] = [(&name.as_str(), Type::TEXT), (&tokens, Type::INT8_ARRAY)];
        let _ = self.briefly(text, &values).await;
    }

    /// Leaves a session that others may get next as it was found.
    pub(super) async fn restore(self) {
        if let Err(error) = self.execute("RESET ALL").await {
            log::debug!("{error}");
        }
    }
}

/// JSON that fits into a database of any encoding.
pub(super) fn in_ascii(stored: &StoredRequest) -> String {
    let json = serde_json::to_string(stored).unwrap_or_default();
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            ascii.push(c);
            continue;
        }
        // In JSON there is nothing outside of ASCII but the characters of texts.
        for unit in c.encode_utf16(&mut [0; 2]) {
            ascii.push_str(&format!("\\u{unit:04x}"));
        }
    }
    ascii
}
