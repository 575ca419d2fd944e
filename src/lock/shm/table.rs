//! The table: opening, creating and checking it. One file per lock, `/dev/shm/resourcelock3.NAME`, laid out as [`Layout`]
//! says. Its size is fixed; its space grows ([`growth`](crate::lock::shm::growth)).
//!
//! A new layout gets a new file name prefix and a new magic: then versions are foreign to each other, and exclude each
//! other through the semaphore, where each table has its own mark.

use crate::lock::protocol::word::{Stage, Word};
use crate::lock::shm::files::{self, NewFile, Opened};
use crate::lock::shm::layout::{FIRST_PAGES, Layout, MAGIC, PAGE, Record};
use crate::lock::shm::memory::Memory;
use crate::lock::shm::process;
use crate::lock::shm::random::random;
use crate::lock::shm::room::{Part, Reach};
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::sys::{self, Descriptor, Mapping, Shared, UntouchedWord};
use crate::lock::types::{Error, LockName, Result};
use std::io::{self, ErrorKind};
use std::mem::offset_of;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU32, fence};
use std::time::Duration;

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
    /// What this process may touch. All of a copy.
    pub(super) reach: Reach,
    mark: u16,
    /// Something could not be read since the last look.
    unread: AtomicBool,
}

/// A process that acquires and releases a lock in a loop does so some hundred times meanwhile.
const GIVES_WAY: Duration = Duration::from_micros(20);

/// Draws a mark. Not the one that the semaphore bears, nor that of an older version's table of this lock: holds of that
/// version would look like those of this table. (All layouts have it in the same place.)
fn new_mark(name: &LockName, semaphore: &Semaphore) -> u16 {
    let bears = semaphore.load().mark();
    let others = name.older_table_paths().map(|path| mark_in(&path).unwrap_or(0));
    loop {
        let mark = (random() % u64::from(u16::MAX) + 1) as u16;
        if mark != bears && !others.contains(&mark) {
            return mark;
        }
    }
}

/// The mark of the table of an older layout, if there is one.
fn mark_in(path: &Path) -> Option<u16> {
    let opened = files::open_at_once(path).ok()?;
    let mut bytes = [0; 2];
    std::fs::File::from(opened.file).read_exact_at(&mut bytes, 8).ok()?;
    Some(u16::from_ne_bytes(bytes))
}

/// Where these pages lie in the file.
fn bytes(pages: &Range<u32>) -> Range<u64> {
    u64::from(pages.start) * PAGE as u64..u64::from(pages.end) * PAGE as u64
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
    /// How much of it has space at first.
    pub(crate) const SIZE_AT_FIRST: usize = (FIRST_PAGES + 1) * PAGE;

    /// Where in the file that is.
    pub(crate) fn space_at_first() -> [Range<u64>; 2] {
        [Part::Records, Part::History].map(|part| bytes(&(part.pages().start..part.pages().start + part.at_first())))
    }

    /// Creates a table at `name`'s path for this semaphore, unless there is one.
    pub(crate) fn create(name: &LockName, semaphore: &Semaphore) -> Result<()> {
        // Tokens grow across reboots, too, as far as the clock does.
        let first_token = sys::realtime() / 1000;
        let mark = new_mark(name, semaphore);
        let publish = |space: Option<&[Range<u64>]>, room| {
            files::publish(&NewFile {
                path: &name.table_path(),
                size: Self::SIZE as u64,
                space,
                content: &Layout::initial(mark, semaphore.inode, first_token, room),
                owner: &semaphore.ownership,
            })
        };
        match publish(
            Some(&Self::space_at_first()),
            [Part::History, Part::GaveUp].map(Part::at_first),
        ) {
            // Who may not allocate space now may not do so later: all of it is written.
            Err(Error::Os { source, .. }) if files::is_refused(&source) => publish(
                None,
                [Part::History, Part::GaveUp].map(|part| part.pages().len() as u32),
            ),
            done => done,
        }
    }

    /// Maps and checks the table that was found at `name`'s path.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    pub(crate) fn new(opened: Opened, name: &LockName) -> Result<Self> {
        Self::with(opened, name, None)
    }

    /// The same as a copy, in this memory. What it shows of the table's beginning has just been read.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn copy(opened: Opened, name: &LockName, memory: &mut Memory) -> Result<Self> {
        Self::with(opened, name, Some(memory))
    }

    /// Mapped, or copied into this memory.
    fn with(opened: Opened, name: &LockName, memory: Option<&mut Memory>) -> Result<Self> {
        let writable = memory.is_none();
        let path = name.table_path();
        let owner = Some(opened.facts.owner);
        let damaged = |what| Error::Damaged {
            path: path.clone(),
            what,
            owner,
        };
        if opened.size < Self::SIZE as u64 {
            let size = opened.size;
            return Err(damaged(format!("it has {size} bytes where a table has {}", Self::SIZE)));
        }
        let no_table = |magic: u64| {
            damaged(format!(
                "it is not a lock table of this version (it begins with {magic:#018x})"
            ))
        };
        // What lacks space gets it only if it is a table: another program's file is not changed.
        if writable && opened.space < Self::SIZE_AT_FIRST as u64 {
            let magic = files::beginning(&opened, &path, 8)?;
            let magic = magic.try_into().map_or(0, u64::from_ne_bytes);
            if magic != MAGIC {
                return Err(no_table(magic));
            }
        }
        let map = match memory {
            None => Mapping::new(opened.file.as_fd()),
            Some(memory) => memory.for_table(),
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
            reach: Reach::of_nothing(),
            mark: 0,
            unread: AtomicBool::new(false),
        };
        let mut spare = opened.space / PAGE as u64;
        // First the header, which tells how many there are of the rest.
        let reached = table.reach_at_first(&mut spare, Part::at_first);
        reached.map_err(|source| table.no_space(source))?;
        match table.renew_beginning() {
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
            return Err(no_table(magic));
        }
        table.mark = mark as u16;
        let reached = table.reach_at_first(&mut spare, |part| table.used_pages(part));
        reached.map_err(|source| table.no_space(source))?;
        Ok(table)
    }

    /// When it is opened: has in reach what `pages` says of each part. `spare`: how many pages the file occupies besides those
    /// that are in reach; if there are enough, nothing needs to be allocated. All of a copy is in reach.
    fn reach_at_first(&self, spare: &mut u64, pages: impl Fn(Part) -> u32) -> io::Result<()> {
        for part in Part::ALL {
            let most = part.pages().len() as u32;
            if !self.writable {
                self.reach.extend(part, most);
                continue;
            }
            let known = part.needed(self.reach.of(part));
            let pages = pages(part).clamp(known, most);
            match spare.checked_sub(u64::from(pages - known)) {
                Some(rest) => {
                    *spare = rest;
                    self.touch(part, known..pages);
                }
                None => self.assure(part, pages)?,
            }
        }
        Ok(())
    }

    /// How many pages of a part are in use, as the header says.
    fn used_pages(&self, part: Part) -> u32 {
        let room = match part {
            Part::Records => return part.needed(self.in_use()),
            Part::History => &self.header.history_room,
            Part::GaveUp => &self.header.gave_up_room,
        };
        room.load(Relaxed).min(part.pages().len() as u32)
    }

    /// Makes sure that the first `pages` pages of a part have their space: see [`growth`](crate::lock::shm::growth).
    ///
    /// # Errors
    /// There is no space for all of them.
    pub(crate) fn assure(&self, part: Part, pages: u32) -> io::Result<()> {
        let known = part.needed(self.reach.of(part));
        let pages = pages.clamp(known, part.pages().len() as u32);
        let start = part.pages().start;
        if self.map.populate(&bytes(&(start + known..start + pages))).is_ok() {
            self.reach.extend(part, pages);
            return Ok(());
        }
        self.allocate(part, known..pages)
    }

    /// The same of these pages, one by one, as older kernels can do it; the others say what is the matter.
    #[cold]
    fn allocate(&self, part: Part, pages: Range<u32>) -> io::Result<()> {
        let file = match self.file.duplicate() {
            Ok(file) => file,
            // The program has closed it.
            Err(error) => files::open_again(&self.path, self.inode, true)
                .ok()
                .flatten()
                .ok_or(error)?,
        };
        for page in pages {
            let at = part.pages().start + page;
            files::allocate(&file, &bytes(&(at..at + 1)))?;
            self.touch(part, page..page + 1);
        }
        Ok(())
    }

    /// These pages of a part have their space. From now on they are in reach, and ready.
    fn touch(&self, part: Part, pages: Range<u32>) {
        let start = part.pages().start;
        self.map.touch(&bytes(&(start + pages.start..start + pages.end)));
        self.reach.extend(part, pages.end);
    }

    /// The error of a table that cannot grow.
    pub(crate) fn no_space(&self, source: io::Error) -> Error {
        Error::Os {
            doing: "allocate space for",
            path: self.path.clone(),
            source,
        }
    }

    /// Leaves the memory of a copy to the next one.
    pub(crate) fn return_memory(self, memory: &mut Memory) {
        memory.keep_table(self.map);
    }

    /// Before a copy is inspected: makes sure of its file, and renews its beginning: header, words and kinds.
    pub(crate) fn look(&self) {
        if self.writable {
            return;
        }
        if !self.file.is_ours()
            && let Ok(opened) = files::open(&self.path, false)
        {
            self.file.renew(opened.file);
        }
        self.unread.store(self.renew_beginning().is_err(), Relaxed);
    }

    /// Renews in a copy all that lies before the records, with the magic and the seal.
    fn renew_beginning(&self) -> io::Result<()> {
        self.map.renew_bytes(0..offset_of!(Layout, all_records), &self.file)
    }

    /// After a look at a copy: renews the requests' kinds and records, unless they are all vacant.
    pub(crate) fn renew_requests(&self) {
        let top = self.in_use();
        let is_vacant = |word: &AtomicU32| Word(word.load(Relaxed)).stage() == Stage::Vacant;
        if self.writable || self.words[..top].iter().all(is_vacant) {
            return;
        }
        // In one piece, although the seal lies between them. They come after the words: what describes a request is there
        // before its word is.
        let end = offset_of!(Layout, all_records) + top * size_of::<Record>();
        self.note_unread(self.map.renew_bytes(offset_of!(Layout, kinds)..end, &self.file));
    }

    /// Makes a part of a copy show what stands in the table now.
    pub(crate) fn renew<P: Shared + ?Sized>(&self, part: &P) {
        self.note_unread(self.map.renew(part, &self.file));
    }

    fn note_unread(&self, renewed: io::Result<()>) {
        if renewed.is_err() {
            self.unread.store(true, Relaxed);
        }
    }

    /// Before a part of a copy is renewed once more, because somebody is just changing the lock: waits a moment. Each look
    /// at what others write slows them down, since they have to get it back into their processor's cache.
    pub(crate) fn give_way(&self) {
        if !self.writable {
            std::thread::sleep(GIVES_WAY);
        }
    }

    /// Checks that the file can be a table.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    pub(crate) fn check(opened: &Opened, name: &LockName) -> Result<()> {
        let again = opened.try_clone(&name.table_path())?;
        Self::copy(again, name, &mut Memory::default()).map(drop)
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
        let record = self
            .records()
            .iter()
            .find(|record| record.holder.load(Relaxed) == beacon)?;
        let namespace = record.pid_namespace.load(Relaxed); // 0: not known yet
        let is_ours = namespace == 0 || namespace == process::pid_namespace();
        Some(record.pid.load(Relaxed)).filter(|&pid| pid != 0 && is_ours)
    }
}
