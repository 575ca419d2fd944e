//! Our tables and our sequence in the schema public, where another role may have been the first to create something of
//! their name: what is there, and whether it may be used.

use super::sql::{Sql, Value};
use crate::lock::system::printable;
use crate::lock::types::Result;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

/// What is there under these names: its name and owner, whether it is of the right kind, whether the owner may be trusted,
/// whether something is run when it is used, whether this role may read it, and whether it may also insert and update.
const FOUND: &str = "SELECT c.relname::text, pg_get_userbyid(c.relowner)::text,
        c.relkind = CASE c.relname WHEN 'resourcelock_token' THEN 'S'::\"char\" ELSE 'r'::\"char\" END,
        EXISTS (SELECT FROM pg_roles o WHERE o.oid = c.relowner AND (o.rolsuper OR o.rolname = current_user
            OR o.oid = (SELECT datdba FROM pg_database WHERE datname = current_database()))),
        c.relhasrules OR c.relrowsecurity
            OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal),
        may.read, may.read AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
    FROM pg_class c, LATERAL (SELECT coalesce(has_schema_privilege(c.relnamespace, 'USAGE')
        AND has_table_privilege(c.oid, 'SELECT'), false) AS read) may
    WHERE c.relname = ANY ($1) AND c.relnamespace = to_regnamespace('public')";

/// Something that is there and may be used.
pub(super) struct Object {
    pub(super) name: String,
    /// This role may read it.
    pub(super) may_read: bool,
    /// This role may read, insert and update.
    pub(super) may_write: bool,
}

impl Sql<'_> {
    /// Which of these are there.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) if another role could have something run through them: whoever may create tables
    /// in the schema public could have been the first.
    pub(super) async fn find(self, names: &[&str]) -> Result<Vec<Object>> {
        let values: [Value<'_>; 1] = [(&names, Type::NAME_ARRAY)];
        let found = self.query(FOUND, &values).await?;
        found.iter().map(|row| self.check(row)).collect()
    }

    /// The same for one that only reads.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub(super) async fn find_to_view(self, names: &[&str]) -> Result<Vec<Object>> {
        let values: [Value<'_>; 1] = [(&names, Type::NAME_ARRAY)];
        let found = self.view(FOUND, &values).await?;
        found.iter().map(|row| self.check(row)).collect()
    }

    /// True if this role may create something there.
    pub(super) async fn may_create(self) -> Result<bool> {
        let text = "SELECT coalesce(has_schema_privilege(to_regnamespace('public')::oid, 'CREATE'), false)";
        self.says_yes(&self.view(text, &[]).await?)
    }

    fn check(self, row: &Row) -> Result<Object> {
        let target = self.target;
        let (name, owner): (&str, &str) = (target.value(row, 0)?, target.value(row, 1)?);
        let (fits, trusted, acts): (bool, bool, bool) =
            (target.value(row, 2)?, target.value(row, 3)?, target.value(row, 4)?);
        if !trusted {
            return Err(target.refused(format!(
                "public.{name} belongs to the role {}, who could use it to do what only this role may: have it \
                 dropped, and have the schema's owner run: REVOKE CREATE ON SCHEMA public FROM PUBLIC",
                printable(owner)
            )));
        }
        if !fits || acts {
            return Err(target.refused(format!(
                "public.{name} is not as this program creates it (it is something else, or has triggers, rules or \
                 row security): have it dropped, and it is created again"
            )));
        }
        Ok(Object {
            name: name.to_owned(),
            may_read: target.value(row, 5)?,
            may_write: target.value(row, 6)?,
        })
    }
}

/// True if something could not be created because another session has done so in the same instant.
pub(super) fn is_there_now(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(&SqlState::UNIQUE_VIOLATION | &SqlState::DUPLICATE_TABLE | &SqlState::DUPLICATE_OBJECT)
    )
}
