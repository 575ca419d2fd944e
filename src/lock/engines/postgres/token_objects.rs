//! The table that tells others of requests, and the sequence that tokens are drawn from.

use super::objects::is_there_now;
use super::sql::Sql;
use crate::lock::engines::ANSWER_TIMEOUT;
use crate::lock::system::printable;
use crate::lock::types::{Error, Result};
use tokio::time::timeout;

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

/// How many of the two are there as this role creates them. (This is asked before each grant: what else may be trusted
/// takes the server longer to find out.) With full names, as it is asked before the session is told where to look.
pub(super) const OUR_OWN: &str = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c
    WHERE (c.relname OPERATOR(pg_catalog.=) 'resourcelock_session' AND c.relkind OPERATOR(pg_catalog.=) 'r'
        OR c.relname OPERATOR(pg_catalog.=) 'resourcelock_token' AND c.relkind OPERATOR(pg_catalog.=) 'S')
    AND c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('public')::pg_catalog.oid
    AND NOT (c.relhasrules OR c.relrowsecurity OR c.relhastriggers)
    AND pg_catalog.pg_get_userbyid(c.relowner) OPERATOR(pg_catalog.=) current_user";

impl Sql<'_> {
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

    /// Creates both; true if they are there now.
    pub(super) async fn create_objects(self) -> bool {
        // Together: both or none.
        match timeout(ANSWER_TIMEOUT, self.client.batch_execute(OBJECTS)).await {
            Ok(Ok(())) => true,
            // Another session has created them in the same instant.
            Ok(Err(error)) => is_there_now(&error),
            Err(_) => false,
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
