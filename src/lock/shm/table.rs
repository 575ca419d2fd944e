//! The table: opening, creating and checking it. One file of fixed size per lock, `/dev/shm/resourcelock2.NAME`, laid
//! out as [`Layout`] says.
//!
//! A new layout gets a new file name prefix and a new magic: then versions are foreign to each other, and exclude each
//! other through the semaphore, where each table has its own mark.

use crate::lock::shm::files::{self, NewFile, Opened};
use crate::lock::shm::layout::{Layout, MAGIC};
use crate::lock::shm::random::random;
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::sys::{self, Descriptor, Mapping};
use crate::lock::types::{Error, LockName, Result};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::fence;

/// An open table.
pub(crate) struct Table {
    /// For asking about beacons.
    pub(crate) file: Descriptor,
    pub(crate) path: PathBuf,
    pub(crate) inode: u64,
    pub(crate) writable: bool,
    map: Mapping<Layout>,
    mark: u16,
}

/// Draws a mark. Not the one that the semaphore bears, nor that of an older version's table of this lock: holds of that
/// version would look like those of this table.
fn new_mark(name: &LockName, semaphore: &Semaphore) -> u16 {
    let others = [semaphore.load().mark(), older_mark(name).unwrap_or(0)];
    loop {
        let mark = (random() % u64::from(u16::MAX) + 1) as u16;
        if !others.contains(&mark) {
            return mark;
        }
    }
}

/// The mark of the table that version 1 of this layout has made for the lock, if there is one.
fn older_mark(name: &LockName) -> Option<u16> {
    let opened = files::open(&name.older_table_path(), false).ok()?;
    let mut bytes = [0; 2];
    std::fs::File::from(opened.file).read_exact_at(&mut bytes, 8).ok()?;
    Some(u16::from_ne_bytes(bytes))
}

impl std::ops::Deref for Table {
    type Target = Layout;
    fn deref(&self) -> &Layout {
        &self.map
    }
}

impl Table {
    /// Size of the file in bytes.
    pub(crate) const SIZE: usize = size_of::<Layout>();

    /// Opens the table at `name`'s path, or creates one for this semaphore.
    pub(crate) fn open_or_create(name: &LockName, semaphore: &Semaphore) -> Result<Self> {
        loop {
            match Self::open(name, true) {
                Err(Error::NotFound { .. }) => {}
                other => return other,
            }
            let path = name.table_path();
            // Tokens grow across reboots, too, as far as the clock does.
            let first_token = sys::realtime() / 1000;
            files::publish(&NewFile {
                path: &path,
                size: Self::SIZE as u64,
                content: &Layout::initial(new_mark(name, semaphore), semaphore.inode, first_token),
                owner: &semaphore.owner,
            })?;
        }
    }

    /// Opens an existing table.
    pub(crate) fn open(name: &LockName, writable: bool) -> Result<Self> {
        let Opened { file, inode, size } = files::open(&name.table_path(), writable)?;
        Self::from_file(file, inode, size, writable, name)
    }

    /// Maps and checks an open table.
    pub(crate) fn from_file(file: OwnedFd, inode: u64, size: u64, writable: bool, name: &LockName) -> Result<Self> {
        let path = name.table_path();
        let wrong = |what: String| Error::WrongObject {
            path: path.clone(),
            what,
        };
        if size < Self::SIZE as u64 {
            return Err(wrong(format!("it has {size} bytes where a table has {}", Self::SIZE)));
        }
        let map = Mapping::<Layout>::new(file.as_fd(), writable).map_err(|source| Error::Os {
            doing: "map",
            path: path.clone(),
            source,
        })?;
        let magic = map.header.magic.load(Relaxed);
        let mark = map.header.mark.load(Relaxed);
        if magic != MAGIC || map.seal.load(Relaxed) != MAGIC || mark == 0 || mark > u32::from(u16::MAX) {
            return Err(wrong(format!(
                "it is not a lock table of this version (it begins with {magic:#018x})"
            )));
        }
        Ok(Self {
            file: Descriptor::new(file).map_err(|source| Error::Os {
                doing: "examine",
                path: path.clone(),
                source,
            })?,
            path,
            inode,
            writable,
            map,
            mark: mark as u16,
        })
    }

    /// This table's mark on the semaphore.
    pub(crate) fn mark(&self) -> u16 {
        self.mark
    }

    /// True unless the file was truncated or overwritten since it was opened: then what was read of it before this call is
    /// what the table says.
    pub(crate) fn is_intact(&self) -> bool {
        // After that, whose pages may have been replaced by zeros in between.
        fence(Acquire);
        self.header.magic.load(Relaxed) == MAGIC && self.seal.load(Relaxed) == MAGIC
    }

    /// True if the file at the table's path is still this one.
    pub(crate) fn is_at_its_path(&self) -> bool {
        files::inode_at(&self.path) == Some(self.inode)
    }

    /// The process with this beacon, as far as its requests tell.
    pub(crate) fn pid_of(&self, beacon: u32) -> Option<u32> {
        let mut records = self.requests.iter();
        let record = records.find(|record| record.holder.load(Relaxed) == beacon)?;
        Some(record.pid.load(Relaxed)).filter(|&pid| pid != 0)
    }
}
