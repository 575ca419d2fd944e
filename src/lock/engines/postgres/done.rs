//! When the last run was that was recorded as done: the table `public.resourcelock_done`, a row for each lock, by the
//! server's clock.
//!
//! It is a table of its own, as it has to outlive a crash of the server, and is made when the first run is recorded: a
//! database whose jobs never ask for that has none. Whoever asks is refused at once if there is none and he may not make
//! it, as nothing could be recorded after the job then.

use super::objects::is_there_now;
use super::sql::{self, BRIEFLY, Sql, Value, in_ascii};
use super::target::Target;
use super::views;
use crate::lock::engines::ANSWER_TIMEOUT;
use crate::lock::engines::stored_request::StoredRequest;
use crate::lock::types::{LastDone, LockName, Result};
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::types::Type;

const NAME: &str = "resourcelock_done";

/// Creates it. `who` is the request, as JSON.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS public.resourcelock_done (
    name text PRIMARY KEY, began timestamptz NOT NULL, who text NOT NULL)";

/// How long somebody else may have the table locked, in ms.
const LOCK_TIMEOUT: &str = "2000";

/// No run takes longer, in seconds: the server's times have an end.
const LONGEST_RUN: f64 = 1e9;

/// What was recorded, over a connection of its own. What nobody understands counts as nothing.
pub(super) async fn recorded(target: &Target, name: &LockName) -> Result<Option<LastDone>> {
    let link = target.connect(views::APPLICATION).await?;
    let sql = link.sql(target);
    let found = sql.find_to_view(&[NAME]).await?;
    let Some(table) = found.first() else {
        return sql.check_may_create().await.map(|()| None);
    };
    if !table.may_write {
        return Err(target.refused(format!(
            "permission denied for public.{NAME}; have the owner run: {}",
            sql.grant_for_done()
        )));
    }
    let text = "SELECT (extract(epoch FROM began)::numeric * 1000000::numeric)::bigint,
            (extract(epoch FROM clock_timestamp())::numeric * 1000000::numeric)::bigint, who
        FROM public.resourcelock_done WHERE name = $1 AND isfinite(began) AND began < timestamptz '10000-01-01 00:00:00+00'";
    let rows = sql.view(text, &[(&name.as_str(), Type::TEXT)]).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let time = |us: i64| Duration::from_micros(us.try_into().unwrap_or(0));
    let who = StoredRequest::parse(target.value(row, 2)?).unwrap_or_default();
    Ok(Some(
        who.last_done(time(target.value(row, 0)?), time(target.value(row, 1)?)),
    ))
}

impl Sql<'_> {
    /// Records a run that began this long ago, in the session that holds the lock; false = it does not hold it any more.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) if there is no table, and none can be made; if it is not used because of whose it is; if somebody
    /// has locked it for too long.
    pub(super) async fn record_done(
        self,
        name: &LockName,
        began_ago: Duration,
        stored: &StoredRequest,
    ) -> Result<bool> {
        let recorded = self.record(name, began_ago, stored).await;
        if recorded.is_err() {
            // The release does not wait longer for that.
            let _ = self.execute(&format!("SET lock_timeout TO {BRIEFLY}")).await;
        }
        recorded
    }

    async fn record(self, name: &LockName, began_ago: Duration, stored: &StoredRequest) -> Result<bool> {
        if self.find(&[NAME]).await?.is_empty() {
            self.check_may_create().await?;
            let create = format!("SET lock_timeout TO {LOCK_TIMEOUT}; {TABLE}");
            let created = timeout(ANSWER_TIMEOUT, self.client.batch_execute(&create)).await;
            match created.map_err(|_| self.target.no_answer())? {
                Err(error) if !is_there_now(&error) => return Err(self.target.error(&error)),
                // Another role may have created it in the same instant.
                _ => _ = self.find(&[NAME]).await?,
            }
        }
        // It is on the disk before the lock is released, or the job could be done twice after a crash.
        let text = format!(
            "WITH done AS (
                INSERT INTO public.resourcelock_done AS d (name, began, who)
                SELECT $1, clock_timestamp() - $2 * interval '1 second', $3
                WHERE EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND granted
                    AND classid::bigint = ($4 >> 32) & 4294967295 AND objid::bigint = $4 & 4294967295 AND objsubid = 1)
                ON CONFLICT (name) DO UPDATE SET began = excluded.began, who = excluded.who RETURNING 1)
            SELECT EXISTS (SELECT FROM done), set_config('synchronous_commit', 'local', true),
                set_config('lock_timeout', '{BRIEFLY}', false)"
        );
        let began_ago = began_ago.as_secs_f64().min(LONGEST_RUN);
        let values: [Value<'_>; 4] = [
            (&name.as_str(), Type::TEXT),
            (&began_ago, Type::FLOAT8),
            (&in_ascii(stored), Type::TEXT),
            (&sql::key(name), Type::INT8),
        ];
        self.says_yes(&self.with_lock_timeout(LOCK_TIMEOUT, &text, &values).await?)
    }

    /// Makes sure that this role may create the table.
    async fn check_may_create(self) -> Result<()> {
        if self.may_create().await? {
            return Ok(());
        }
        let table = TABLE.split_whitespace().collect::<Vec<_>>().join(" ");
        Err(self.target.refused(format!(
            "it cannot be recorded when a run was done, as this user may make no table in the schema public; have one who \
             may run: {table}; {}",
            self.grant_for_done()
        )))
    }

    fn grant_for_done(self) -> String {
        format!(
            "GRANT SELECT, INSERT, UPDATE ON public.{NAME} TO {};",
            self.target.quoted_role()
        )
    }
}
