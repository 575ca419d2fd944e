//! The table: opening, creating and checking it. One file of fixed size per lock, `/dev/shm/resourcelock2.NAME`, laid
//! out as [`Layout`] says.
//!
//! A new layout gets a new file name prefix and a new magic: then versions are foreign to each other, and exclude each
//! other through the semaphore, where each table has its own mark.

use crate::lock::protocol::word::Word;
use crate::lock::shm::files::{self, NewFile, Opened};
use crate::lock::shm::layout::{Layout, MAGIC};
use crate::lock::shm::process;
use crate::lock::shm::random::random;
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::sys::{self, Descriptor, Mapping, Shared, UntouchedWord};
use crate::lock::types::{Error, LockName, Result};
use std::io::{self, ErrorKind};
use std::mem::offset_of;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, fence};

/// An open table: mapped by those who use the lock, copied by those who only inspect it. These must not depend on who can
/// truncate the file.
pub(crate) struct Table {
    /// For asking about beacons, and for reading.
    pub(crate) file: Descriptor,
    pub(crate) path: PathBuf,
    pub(crate) inode: u64,
    /// False: it is a copy, of what was [looked at](Self::look) and [renewed](Self::renew).
    pub(crate) writable: bool,
    map: Mapping<Layout>,
    mark: u16,
    /// Something could not be read since the last look.
    unread: AtomicBool,
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

    /// Creates a table at `name`'s path for this semaphore, unless there is one.
    pub(crate) fn create(name: &LockName, semaphore: &Semaphore) -> Result<()> {
        // Tokens grow across reboots, too, as far as the clock does.
        let first_token = sys::realtime() / 1000;
        files::publish(&NewFile {
            path: &name.table_path(),
            size: Self::SIZE as u64,
            content: &Layout::initial(new_mark(name, semaphore), semaphore.inode, first_token),
            owner: &semaphore.ownership,
        })
    }

    /// Maps and checks the table that was found at `name`'s path, or copies it.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    pub(crate) fn new(opened: Opened, writable: bool, name: &LockName) -> Result<Self> {
        let path = name.table_path();
        let damaged = |what| Error::Damaged {
            path: path.clone(),
            what,
            owner: Some(opened.facts.owner),
        };
        if opened.size < Self::SIZE as u64 {
            let size = opened.size;
            return Err(damaged(format!("it has {size} bytes where a table has {}", Self::SIZE)));
        }
        let map = if writable {
            Mapping::<Layout>::new(opened.file.as_fd())
        } else {
            Mapping::<Layout>::copy()
        };
        let mut table = Self {
            map: map.map_err(|source| Error::Os {
                doing: "map",
                path: path.clone(),
                source,
            })?,
            file: Descriptor::of(opened.file, opened.device, opened.inode),
            path: path.clone(),
            inode: opened.inode,
            writable,
            mark: 0,
            unread: AtomicBool::new(false),
        };
        if writable {
            table.map.touch();
        }
        match table.renew_ends() {
            // What cannot be read is not damaged. (One that has become too short in this moment begins with zeros.)
            Err(source) if source.kind() != ErrorKind::UnexpectedEof => {
                let doing = "read";
                return Err(Error::Os { doing, path, source });
            }
            _ => {}
        }
        let mark = table.header.mark.load(Relaxed);
        let magic = table.header.magic.load(Relaxed);
        if magic != MAGIC || table.seal.load(Relaxed) != MAGIC || mark == 0 || mark > u32::from(u16::MAX) {
            return Err(damaged(format!(
                "it is not a lock table of this version (it begins with {magic:#018x})"
            )));
        }
        table.mark = mark as u16;
        Ok(table)
    }

    /// Before a copy is inspected: makes sure of its file, and renews its header.
    pub(crate) fn look(&self) {
        if self.writable {
            return;
        }
        if !self.file.is_ours()
            && let Ok(opened) = files::open(&self.path, false)
        {
            self.file.renew(opened.file);
        }
        self.unread.store(self.renew_ends().is_err(), Relaxed);
    }

    /// Renews in a copy what shows that it is a table.
    fn renew_ends(&self) -> io::Result<()> {
        self.map.renew(&self.header, &self.file)?;
        self.map.renew(&self.seal, &self.file)
    }

    /// Has a part of a copy show what stands in the table now.
    pub(crate) fn renew<P: Shared + ?Sized>(&self, part: &P) {
        if self.map.renew(part, &self.file).is_err() {
            self.unread.store(true, Relaxed);
        }
    }

    /// Checks that the file can be a table.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    pub(crate) fn check(opened: &Opened, name: &LockName) -> Result<()> {
        let again = opened.try_clone(&name.table_path())?;
        Self::new(again, false, name).map(drop)
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

    /// The same of a copy, and of what was [renewed](Self::renew) since the last look.
    pub(crate) fn is_intact_copy(&self) -> bool {
        self.renew(&self.header.magic);
        self.renew(&self.seal);
        let all_read = self.writable || !self.unread.load(Relaxed) && self.file.is_ours();
        all_read && self.is_intact()
    }

    /// The word that watchers sleep on, to be changed by the kernel only. `None`: this process may not write the table.
    pub(crate) fn events(&self) -> Option<UntouchedWord> {
        let opened = files::open(&self.path, true).ok()?;
        let is_ours = opened.inode == self.inode;
        let word = UntouchedWord::new(opened.file.as_fd(), offset_of!(Layout, header.events)).ok()?;
        is_ours.then_some(word)
    }

    /// True if the file at the table's path is still this one.
    pub(crate) fn is_at_its_path(&self) -> bool {
        files::inode_at(&self.path) == Some(self.inode)
    }

    /// True if nobody holds the lock, nor is offered it, by the words as they are now.
    pub(crate) fn is_free(&self) -> bool {
        !self.words.iter().any(|word| Word(word.load(Relaxed)).is_active())
    }

    /// The process with this beacon, as far as its requests tell. Not one of another PID namespace.
    pub(crate) fn pid_of(&self, beacon: u32) -> Option<u32> {
        let mut records = self.requests.iter();
        let record = records.find(|record| record.holder.load(Relaxed) == beacon)?;
        let namespace = record.pid_namespace.load(Relaxed); // 0: not known yet
        let is_ours = namespace == 0 || namespace == process::pid_namespace();
        Some(record.pid.load(Relaxed)).filter(|&pid| pid != 0 && is_ours)
    }
}
