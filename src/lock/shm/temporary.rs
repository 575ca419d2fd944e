//! Names in /dev/shm that nobody was meant to see.

use crate::lock::types::name::{SHM, TABLE_PREFIX, TEMPORARY};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::DirEntry;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The names by which an object is made before it gets its own, and which are left behind if their maker is killed just
/// then: sem_open(3)'s, `sem.` and six characters, unless a lock is called so; and this library's.
///
/// Not of an object that others may write: they may link it to any name, and what looks temporary may be its own name.
pub fn temporary_names() -> HashMap<u64, PathBuf> {
    let Ok(entries) = std::fs::read_dir(SHM) else {
        return HashMap::new();
    };
    entries
        .flatten()
        .filter(|entry| is_temporary(&entry.file_name()) && is_its_makers(entry))
        .map(|entry| (entry.ino(), entry.path()))
        .collect()
}

/// True if nobody but its owner can have given the object this name.
fn is_its_makers(entry: &DirEntry) -> bool {
    entry.metadata().is_ok_and(|file| file.mode() & 0o022 == 0)
}

fn is_temporary(file: &OsStr) -> bool {
    let alphanumeric = |rest: &[u8], length| rest.len() == length && rest.iter().all(u8::is_ascii_alphanumeric);
    let bytes = file.as_bytes();
    if let Some(rest) = bytes.strip_prefix(TEMPORARY.as_bytes()) {
        return alphanumeric(rest, 16);
    }
    bytes.strip_prefix(b"sem.").is_some_and(|rest| {
        let lock = OsStr::from_bytes(rest);
        let is_lock = || {
            let mut table = PathBuf::from(SHM).join(TABLE_PREFIX).into_os_string();
            table.push(lock);
            let note = Path::new(SHM).join(lock);
            [PathBuf::from(table), note]
                .iter()
                .any(|path| path.symlink_metadata().is_ok())
        };
        alphanumeric(rest, 6) && !is_lock()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_sem_open_and_we_leave_behind() {
        for (name, temporary) in [
            ("sem.a1B2c3", true),
            ("sem.a1B2c", false),
            ("sem.a1B2c3d", false),
            ("sem.a1-2c3", false),
            (".resourcelock-0123456789abcdef", true),
            (".resourcelock-0123456789abcde", false),
            ("a1B2c3", false),
            ("resourcelock.a1B2c3", false),
        ] {
            assert_eq!(is_temporary(OsStr::new(name)), temporary, "{name}");
        }
    }
}
