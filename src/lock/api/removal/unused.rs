//! Locks that nobody has used for a while, and removing them.
//!
//! A lock that is removed while a process has it open is no danger, since that process is never granted the old one; but
//! a user of the Python module would wait for it in vain. So a lock that any process has open is in use here. Removing
//! one goes through the same steps as ever, and what is asked of the lock is asked again when it is taken: whoever
//! acquires the lock in between keeps it, and whoever opens it then is led to the new one.

use super::remains::may_delete;
use super::{Condition, Removed, older_tables, remove_if};
use crate::lock::inspect::sight::Sight;
use crate::lock::inspect::snapshot;
use crate::lock::shm::done;
use crate::lock::shm::files;
use crate::lock::shm::note::Note;
use crate::lock::shm::opening::Terms;
use crate::lock::shm::table::Table;
use crate::lock::sys;
use crate::lock::types::{Error, LockName, Result, State};
use chrono::{Local, NaiveDateTime};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

/// A lock that nobody uses.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unused {
    /// When it was last used, as far as is known.
    pub since: SystemTime,
    /// How long it has not been used: by the wall clock, but no longer than the machine has been running.
    pub time: Duration,
    /// Its owner's user ID.
    pub owner: u32,
    /// How many bytes of /dev/shm it occupies.
    pub size: u64,
}

/// Returns since when a lock has not been used. `None` = it is in use, or not the caller's to remove, or does not exist.
///
/// It is in use if somebody holds it or waits for it, if its last holder died and nobody has said that what was left is in
/// order, if it keeps when a job was done whose period is not over ([`Guard::mark_done`](crate::Guard::mark_done)), and if a
/// process has it open, in whatever container: through this library or the Python module. Root may remove everybody's
/// locks, others their own.
///
/// Disturbs nobody; blocks for the file system, and for up to 100 ms if the lock is half made.
///
/// # Errors
/// [`Error::Name`]; those of [`Viewer`](crate::Viewer) if the objects at the lock's paths cannot be those of a lock;
/// [`Error::Os`] if the kernel does not tell whether a process has it open: root needs CAP_LEASE for that.
pub fn unused(name: impl AsRef<str>) -> Result<Option<Unused>> {
    let name = LockName::new(name)?;
    let sight = match Sight::open(&name, Terms::default().trust()) {
        Err(Error::NotFound { .. }) => return Ok(None),
        sight => sight?,
    };
    let owner = sight.owner();
    let table = sight.objects().map(|objects| &objects.table);
    let is_needed = table.is_some_and(|table| done::is_recent(&table.header));
    if !may_delete(owner) || !is_idle(&sight.state()) || is_needed || is_open(&sight)? {
        return Ok(None);
    }
    let since = last_use(&name, sight.note(), table);
    Ok(Some(Unused {
        since,
        time: time_since(since),
        owner,
        size: occupied(&name, owner),
    }))
}

/// Removes a lock as [`remove`](crate::remove) does, if it has been [`unused`] for `time` at least. Otherwise it stays:
/// [`Removed::Nothing`].
///
/// # Errors
/// Those of [`unused`] and of [`remove`](crate::remove).
pub fn remove_unused(name: impl AsRef<str>, time: Duration) -> Result<Removed> {
    let name = LockName::new(name)?;
    match unused(&name)? {
        Some(unused) if unused.time >= time => remove_if(&name, Condition::Unused(time)),
        _ => Ok(Removed::Nothing),
    }
}

/// True if nobody holds it or waits for it, and nothing is left of somebody who did.
fn is_idle(state: &State) -> bool {
    state.value == 1
        && state.holders.is_empty()
        && state.waiters.is_empty()
        && state.foreign_waiters == 0
        && state.abandoned.is_none()
        && state.inside.is_none()
}

/// True if a process has the lock open to use it.
fn is_open(sight: &Sight) -> Result<bool> {
    let path = &sight.semaphore().path;
    let semaphore = match files::open(path, false) {
        Ok(semaphore) if semaphore.inode == sight.semaphore().inode => semaphore,
        // It is just being replaced.
        Ok(_) | Err(Error::NotFound { .. }) => return Ok(true),
        Err(error) => return Err(error),
    };
    sys::is_open_for_writing(&semaphore.file).map_err(|source| Error::Os {
        doing: "find out who uses",
        path: path.clone(),
        source,
    })
}

/// When the lock was made or used, whichever was last.
pub(super) fn last_use(name: &LockName, note: &Note, table: Option<&Table>) -> SystemTime {
    let made = name.semaphore_path().symlink_metadata().ok().map(|found| {
        let second = Duration::from_secs(found.ctime().try_into().unwrap_or(0));
        SystemTime::UNIX_EPOCH + second
    });
    let noted = dated(&note.brief_text());
    let made = made.unwrap_or_else(SystemTime::now);
    made.max(noted.unwrap_or(made))
        .max(table.and_then(snapshot::last_end).unwrap_or(made))
}

/// The date with which a note begins, in local time.
fn dated(note: &str) -> Option<SystemTime> {
    let (date, _) = NaiveDateTime::parse_and_remainder(note, "%Y-%m-%d %H:%M:%S%.f").ok()?;
    Some(date.and_local_timezone(Local).latest()?.into())
}

/// How long ago that was. Nothing in /dev/shm is older than the machine's last start, whatever the wall clock says: on a
/// machine without a battery it is set some time later.
fn time_since(since: SystemTime) -> Duration {
    let by_the_clock = SystemTime::now().duration_since(since).unwrap_or_default();
    by_the_clock.min(Duration::from_nanos(sys::boottime()))
}

/// True if the lock has not been used for `time`.
pub(super) fn is_unused(name: &LockName, note: &Note, table: Option<&Table>, time: Duration) -> bool {
    time_since(last_use(name, note, table)) >= time
}

/// The same by the table of a lock that has been taken since to be removed; and the last holder left nothing behind, nor
/// anything that is still needed.
pub(super) fn is_still_unused(table: &Table, time: Duration) -> bool {
    table.header.abandoned.load(Relaxed) == 0
        && !done::is_recent(&table.header)
        && snapshot::last_end(table).is_none_or(|end| time_since(end) >= time)
}

/// The bytes that the lock's files occupy, with those of older versions.
fn occupied(name: &LockName, owner: u32) -> u64 {
    let blocks = |path: PathBuf| path.symlink_metadata().map_or(0, |found| found.blocks());
    let files = [name.semaphore_path(), name.note_path(), name.table_path()];
    let files = files
        .into_iter()
        .chain(older_tables(name, Some(owner)).map(|(path, _)| path));
    files.map(blocks).sum::<u64>() * 512
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::acquire::handle::Handle;
    use crate::lock::api::removal::remove_opened;

    /// Used between the look at a lock and its removal: what was asked is asked again, of the note and of the table.
    #[test]
    fn used_between_the_look_and_the_removal() {
        let name = LockName::new(format!("unused-{}", std::process::id())).unwrap();
        let lock = crate::ResourceLock::open(name.as_str()).unwrap();
        let hour = Condition::Unused(Duration::from_secs(3600));
        let guard = lock.try_acquire().unwrap().unwrap();
        assert_eq!(remove_if(&name, hour).unwrap(), Removed::Nothing, "held");
        assert_eq!(
            remove_if(&name, Condition::Unused(Duration::ZERO)).unwrap(),
            Removed::Nothing,
            "held"
        );
        drop(guard);
        assert_eq!(remove_if(&name, hour).unwrap(), Removed::Nothing, "just used");
        assert_eq!(unused(&name).unwrap(), None, "open");
        assert_eq!(
            remove_if(&name, Condition::Unused(Duration::ZERO)).unwrap(),
            Removed::Lock
        );
        assert_eq!(
            remove_if(&name, Condition::Unused(Duration::ZERO)).unwrap(),
            Removed::Nothing,
            "gone"
        );
        // By the table alone.
        let lock = crate::ResourceLock::open(name.as_str()).unwrap();
        drop(lock.try_acquire().unwrap());
        let sight = Sight::open(&name, Terms::default().trust()).unwrap();
        let table = &sight.objects().unwrap().table;
        table.look();
        assert!(!is_still_unused(table, Duration::from_secs(3600)) && is_still_unused(table, Duration::ZERO));
        // A job was done whose period is not over.
        let (hour, moment) = (Duration::from_secs(3600), Duration::from_nanos(1));
        let done = |every| {
            let guard = lock.try_acquire().unwrap().unwrap();
            guard.mark_done(Duration::ZERO, every).unwrap();
        };
        done(hour);
        table.look();
        assert!(!is_still_unused(table, Duration::ZERO));
        done(moment);
        table.look();
        assert!(is_still_unused(table, Duration::ZERO));
        done(hour);
        drop(lock);
        assert_eq!(unused(&name).unwrap(), None);
        assert_eq!(remove_unused(&name, Duration::ZERO).unwrap(), Removed::Nothing);
        assert_eq!(crate::remove(&name, false).unwrap(), Removed::Lock);
    }

    /// Somebody else removes it after it was opened to be removed: it is looked for once more, and then is not there.
    #[test]
    fn removed_by_somebody_else_meanwhile() {
        let name = LockName::new(format!("unused-twice-{}", std::process::id())).unwrap();
        drop(crate::ResourceLock::open(name.as_str()).unwrap());
        let handle = std::sync::Arc::new(Handle::open(name.clone(), Terms::for_removal()).unwrap());
        assert_eq!(crate::remove(&name, false).unwrap(), Removed::Lock);
        for condition in [Condition::Unused(Duration::ZERO), Condition::Idle] {
            assert_eq!(remove_opened(&handle, &name, condition).unwrap(), None);
        }
        assert_eq!(remove_unused(&name, Duration::ZERO).unwrap(), Removed::Nothing);
    }

    #[test]
    fn notes_of_all_kinds() {
        let now = SystemTime::now();
        let date = chrono::DateTime::<Local>::from(now).format("%Y-%m-%d %H:%M:%S%.6f");
        let read = dated(&format!("{date} - cli")).unwrap();
        assert!(now.duration_since(read).unwrap() < Duration::from_micros(1));
        for note in [
            "",
            "cli",
            "2024-13-01 00:00:00.000000 - x",
            "9999999-01-01 00:00:00.0",
            "\u{1b}",
        ] {
            assert_eq!(dated(note), None, "{note}");
        }
        assert_eq!(time_since(now + Duration::from_secs(60)), Duration::ZERO);
        assert!(time_since(SystemTime::UNIX_EPOCH) <= Duration::from_nanos(sys::boottime()));
    }
}
