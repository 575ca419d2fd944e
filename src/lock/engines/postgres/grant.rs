//! A grant: its token, and the row that tells others of it.

use super::sql::{self, BRIEFLY, Sql, Value, in_ascii};
use super::token_objects::OBJECTS;
use crate::lock::engines::ANSWER_TIMEOUT;
use crate::lock::engines::stored_request::StoredRequest;
use crate::lock::types::{Error, LockName, Mode, Result};
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

/// The sequence is moved on by so much when it is not known which tokens were drawn last: the server writes 32 numbers
/// ahead, but other sessions can draw on before that is on the disk, and a standby may lag behind.
const LEAP: i64 = 100_000;

/// What the row without a name says of the database and the server.
pub(super) const EPOCH: &str = "(SELECT oid FROM pg_database WHERE datname = current_database())::text || ' '
    || extract(epoch FROM pg_postmaster_start_time())::text";

/// Others may drop the table and the sequence again and again, but this does not go on for ever.
const TRIES: u32 = 10;

/// A request whose session has the lock.
pub(super) struct Granted<'a> {
    pub(super) name: &'a LockName,
    pub(super) mode: Mode,
    pub(super) stored: &'a StoredRequest,
    /// What others see of the connection: `before#TOKENafter`.
    pub(super) application: (&'a str, &'a str),
    /// [`EPOCH`], if it is known.
    pub(super) epoch: Option<&'a str>,
}

impl Granted<'_> {
    /// [`EPOCH`] in a statement whose value `$at` is what is known of it.
    fn epoch(&self, at: u32) -> String {
        match self.epoch {
            Some(_) => format!("${at}"),
            None => format!("coalesce(${at}, {EPOCH})"),
        }
    }
}

/// What a request is told when it is granted.
pub(super) struct Grant {
    pub(super) token: i64,
    /// The session in which it was granted.
    pub(super) backend: i32,
    /// An earlier holder may have ended without a release, a moment ago.
    pub(super) abandoned: bool,
    /// The tokens of such holders, as far as they have left a row: see [`Sql::sweep`].
    pub(super) left: Vec<i64>,
    /// A table tells of the hold.
    pub(super) has_table: bool,
}

/// Why no token was drawn.
enum Undrawn {
    /// The table or the sequence is missing.
    NoObjects,
    /// It is not known which tokens were drawn last.
    EpochUnknown,
}

impl Sql<'_> {
    /// Draws the next token and writes the row; later statements wait for tables only [briefly](BRIEFLY). `has_objects`: as
    /// far as is known, there is something to draw it from.
    pub(super) async fn grant(self, granted: Granted<'_>, mut has_objects: bool) -> Result<Grant> {
        let mut moved_on = false;
        for _ in 0..TRIES {
            if !has_objects {
                let created = self.create_objects().await?;
                // Another session may have been the first, or have created them for us while we waited.
                has_objects = self.has_objects().await?;
                if !has_objects && !created {
                    return self.bare_token(&granted).await;
                }
                continue;
            }
            match self.draw(&granted).await? {
                Ok(grant) => {
                    return Ok(Grant {
                        // After a crash nobody knows.
                        abandoned: moved_on || grant.abandoned,
                        ..grant
                    });
                }
                Err(Undrawn::NoObjects) => has_objects = false,
                // Perhaps it is another sequence: whose it is must be known before it is used.
                Err(Undrawn::EpochUnknown) if !self.has_objects().await? => has_objects = false,
                Err(Undrawn::EpochUnknown) => {
                    self.move_on(&granted).await?;
                    moved_on = true;
                }
            }
        }
        Err(self
            .target
            .refused("public.resourcelock_session and public.resourcelock_token do not stay as they are created"))
    }

    async fn draw(self, granted: &Granted<'_>) -> Result<Result<Grant, Undrawn>> {
        // A holder removes its row before it releases: one that is still there belongs to one that did not; unless it
        // shares the lock with us. (To ask for that takes the server a millisecond.)
        let unshared = if granted.mode == Mode::Shared {
            "AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = other.backend AND l.locktype = 'advisory' AND l.granted
                AND l.objsubid = 1 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND l.classid::bigint = ($3 >> 32) & 4294967295 AND l.objid::bigint = $3 & 4294967295)"
        } else {
            "AND $3::bigint IS NOT NULL"
        };
        let epoch = granted.epoch(6);
        // The row without a name is read before the number is drawn: if another session moves the sequence on in between,
        // this statement has not seen its row. No row comes back if it is not known which tokens were drawn last.
        let text = format!(
            "INSERT INTO public.resourcelock_session AS own (name, backend, token, who)
            SELECT $1, pg_backend_pid(), nextval('public.resourcelock_token'), $2 FROM public.resourcelock_session
                WHERE name = '' AND backend = 0
                AND token = 'public.resourcelock_token'::regclass::oid::bigint AND who = {epoch}
            ON CONFLICT (name, backend) DO UPDATE SET token = excluded.token, who = excluded.who
            RETURNING token, pg_backend_pid(),
                ARRAY(SELECT other.token FROM public.resourcelock_session other
                    WHERE other.name = $1 AND other.backend <> pg_backend_pid() AND other.token <> 0 {unshared}),
                set_config('application_name', $4 || '#' || token::text || $5, false),
                set_config('lock_timeout', '{BRIEFLY}', false)"
        );
        let (before, after) = granted.application;
        let values: [Value<'_>; 6] = [
            (&granted.name.as_str(), Type::TEXT),
            (&in_ascii(granted.stored), Type::TEXT),
            (&sql::key(granted.name), Type::INT8),
            (&before, Type::TEXT),
            (&after, Type::TEXT),
            (&granted.epoch, Type::TEXT),
        ];
        match timeout(ANSWER_TIMEOUT, self.client.query_typed(&text, &values)).await {
            Ok(Ok(rows)) => match rows.first() {
                Some(row) => self.drawn(row).map(Ok),
                None => Ok(Err(Undrawn::EpochUnknown)),
            },
            Ok(Err(error)) => match error.code() {
                Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => Ok(Err(Undrawn::NoObjects)),
                Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Err(self.no_right(&error)),
                _ => Err(self.not_in_time(&error)),
            },
            Err(_) => Err(self.target.no_answer()),
        }
    }

    fn drawn(self, row: &Row) -> Result<Grant> {
        let left: Vec<i64> = self.target.value(row, 2)?;
        Ok(Grant {
            token: self.target.value(row, 0)?,
            backend: self.target.value(row, 1)?,
            abandoned: !left.is_empty(),
            left,
            has_table: true,
        })
    }

    /// Makes the next token larger than every earlier one, and says so in the table. Waits for the disk.
    async fn move_on(self, granted: &Granted<'_>) -> Result<()> {
        // One who does it at the same time waits for the row, and then finds it.
        let epoch = granted.epoch(2);
        let text = format!(
            "WITH first AS (
                INSERT INTO public.resourcelock_session AS r (name, backend, token, who)
                VALUES ('', 0, 'public.resourcelock_token'::regclass::oid::bigint, {epoch})
                ON CONFLICT (name, backend) DO UPDATE SET token = excluded.token, who = excluded.who
                WHERE r.token <> excluded.token OR r.who <> excluded.who
                RETURNING 1)
            SELECT set_config('synchronous_commit', 'local', true),
                setval('public.resourcelock_token',
                    greatest(greatest(nextval('public.resourcelock_token'), txid_current()) + $1,
                        (extract(epoch FROM clock_timestamp()) * 1000000::numeric)::bigint))
            FROM first"
        );
        let values: [Value<'_>; 2] = [(&LEAP, Type::INT8), (&granted.epoch, Type::TEXT)];
        match timeout(ANSWER_TIMEOUT, self.client.query_typed(&text, &values)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Err(self.no_right(&error)),
            Ok(Err(error)) => Err(self.not_in_time(&error)),
            Err(_) => Err(self.target.no_answer()),
        }
    }

    /// An error of a statement that may have waited for the table.
    fn not_in_time(self, error: &tokio_postgres::Error) -> Error {
        if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
            let what = "somebody has locked public.resourcelock_session, for maintenance perhaps";
            return self.target.unreachable(what);
        }
        self.target.error(error)
    }

    /// A token where there is nothing to draw it from: the server's transaction counter, once it is on the disk.
    async fn bare_token(self, granted: &Granted<'_>) -> Result<Grant> {
        let objects = OBJECTS.split_whitespace().collect::<Vec<_>>().join(" ");
        log::warn!(
            "'list' does not show the lock, and each grant waits for the disk, as this user may make no table in the \
             schema public; have one who may run: {objects}; {}",
            self.grants()
        );
        // Where the server waits for standbys, the counter has to have reached the one that takes over.
        let text = "SELECT txid_current(), pg_backend_pid(), pg_logical_emit_message(true, 'resourcelock', '')::text,
            set_config('synchronous_commit', CASE reset_val WHEN 'off' THEN 'local' ELSE reset_val END, true),
            set_config('application_name', $1 || '#' || txid_current()::text || $2, false)
            FROM pg_settings WHERE name = 'synchronous_commit'";
        let (before, after) = granted.application;
        let rows = self.query(text, &[(&before, Type::TEXT), (&after, Type::TEXT)]).await?;
        let row = rows.first().ok_or_else(|| self.target.unreachable("an empty answer"))?;
        Ok(Grant {
            token: self.target.value(row, 0)?,
            backend: self.target.value(row, 1)?,
            // Nobody has written down how the earlier holder ended.
            abandoned: true,
            left: Vec::new(),
            has_table: false,
        })
    }
}
