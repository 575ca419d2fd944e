//! The table that tells others of requests, and the sequence that tokens are drawn from.

use super::objects::is_there_now;
use super::sql::Sql;
use crate::lock::engines::ANSWER_TIMEOUT;
use crate::lock::system::printable;
use crate::lock::types::{Error, Result};
use tokio::time::timeout;
use tokio_postgres::Row;

const SESSION: &str = "resourcelock_session";
const TOKEN: &str = "resourcelock_token";

/// Creates both.
///
/// The table is not logged: its rows mean something only as long as their sessions live, and nobody waits for the disk to
/// write them. One row, without a name, tells from which sequence of which database tokens are drawn, and since which
/// start of the server. When the server has crashed, or another one has taken over, the table is empty; when it was
/// restarted, or the database is a copy, the row tells of something else: the sequence may be behind the last token that
/// was drawn. Whoever finds that moves the sequence on (`grant.rs`), to the time of day at least (µs since 1970): tokens
/// grow even if an administrator drops all of it, provided that it may be created again.
pub(super) const OBJECTS: &str = "CREATE UNLOGGED TABLE IF NOT EXISTS public.resourcelock_session (
    name text NOT NULL, backend integer NOT NULL, token bigint NOT NULL, who text NOT NULL,
    PRIMARY KEY (name, backend));
    CREATE SEQUENCE IF NOT EXISTS public.resourcelock_token";

/// Whoever creates them has this advisory lock until the end of the transaction. It is one of two numbers, so it is none of
/// the locks that have a name. Without it, several could create them at the same time, and all but one in vain: until the
/// next checkpoint such a table leaves an empty file behind, which keeps PostgreSQL (at least until 15) from recovering if it
/// crashes before it has written down that the table went again ("could not create file …: File exists").
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(1919251571, 1)";

/// Asks for the table, before each grant: [`is_our_own`](Sql::is_our_own) tells whether it is as this role creates it. What
/// else may be trusted takes the server longer to find out, and so would comparing these. It has full names, as it is sent together with the settings, which might fail; and it needs no
/// right on the schema.
///
/// It does not ask for the sequence, which cannot make anybody run anything. The row without a name says which sequence was
/// found to be trustworthy; if there is another one, that is looked at before the next token is drawn (`grant.rs`).
pub(super) const TABLE: &str = "SELECT c.relkind, c.relhasrules, c.relrowsecurity, c.relhastriggers,
        pg_catalog.pg_get_userbyid(c.relowner), current_user
    FROM pg_catalog.pg_class c
    WHERE c.relname OPERATOR(pg_catalog.=) 'resourcelock_session'
    AND c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('public')::pg_catalog.oid";

impl Sql<'_> {
    /// True if the table is as this role creates it; `rows`: the answer to [`TABLE`].
    pub(super) fn is_our_own(self, rows: &[Row]) -> Result<bool> {
        let Some(row) = rows.first() else { return Ok(false) };
        let kind: i8 = self.target.value(row, 0)?;
        let mut plain = u8::try_from(kind) == Ok(b'r');
        for acts in 1..=3 {
            plain &= !self.target.value::<bool>(row, acts)?;
        }
        let (owner, own): (&str, &str) = (self.target.value(row, 4)?, self.target.value(row, 5)?);
        Ok(plain && owner == own)
    }

    /// True if the table and the sequence are both there.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub(super) async fn has_objects(self) -> Result<bool> {
        Ok(self.find(&[SESSION, TOKEN]).await?.len() == 2)
    }

    /// True if the table is there and this role may read it, for one that only reads.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub(super) async fn has_readable_table(self) -> Result<bool> {
        let found = self.find_to_view(&[SESSION, TOKEN]).await?;
        Ok(found.iter().any(|found| found.name == SESSION && found.may_read))
    }

    /// Creates both; true if they are there now, false if this role may not.
    ///
    /// # Errors
    /// The server does not answer in time, as may be if somebody has locked what this needs.
    pub(super) async fn create_objects(self) -> Result<bool> {
        if !self.may_create().await? {
            return Ok(false);
        }
        // A limit that strikes while something is made would make it in vain. So there is none, and the server looks whether
        // anybody still waits for it.
        self.notice_its_end().await;
        // Together: both or none.
        let text = format!("SELECT set_config('lock_timeout', '0', true); {ONE_AT_A_TIME}; {OBJECTS}");
        match timeout(ANSWER_TIMEOUT, self.client.batch_execute(&text)).await {
            Ok(Ok(())) => Ok(true),
            // Another program has created them in the same instant.
            Ok(Err(error)) => Ok(is_there_now(&error)),
            Err(_) => Err(self.target.no_answer()),
        }
    }

    /// What to run to give this role its rights.
    pub(super) fn grants(self) -> String {
        let role = self.target.quoted_role();
        format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON public.resourcelock_session TO {role}; \
             GRANT USAGE, UPDATE ON SEQUENCE public.resourcelock_token TO {role};"
        )
    }

    /// There are tokens already, and this role may not draw one: another count would not go with them.
    pub(super) fn no_right(self, error: &tokio_postgres::Error) -> Error {
        let said = error.as_db_error().map_or("permission denied", |said| said.message());
        let grants = self.grants();
        self.target
            .refused(format!("{}; have the owner run: {grants}", printable(said)))
    }
}
