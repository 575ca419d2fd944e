//! Opening a lock's objects, and creating what is missing.

use crate::lock::protocol::orderings::RETIRED;
use crate::lock::shm::beacon::Beacon;
use crate::lock::shm::files::{self, NewFile, Ownership};
use crate::lock::shm::found::{Finding, Found, Retry, System};
use crate::lock::shm::layout::KEEPER_LEFT_BEHIND;
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::note::{self, Note};
use crate::lock::shm::real_world::Real;
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::shm::table::Table;
use crate::lock::shm::tombstone::{REMOVAL_CHECK, Removal, being_removed, retire};
use crate::lock::shm::trust::{Named, Trust};
use crate::lock::sys;
use crate::lock::sys::atomic::Ordering::Relaxed;
use crate::lock::system::primary_group;
use crate::lock::types::{Error, LockName, Result};
use nix::unistd::geteuid;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for the table when its semaphore has changed.
const LATCH_NS: u64 = 1_000_000_000;

/// For whom a lock is opened, and what it is created with if it does not exist.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// Whose locks are used besides the caller's own.
    pub(crate) named: Named,
    /// Permission bits of new objects, if they were given.
    pub(crate) mode: Option<u32>,
    /// Their group, where it shall differ from the creator's.
    pub(crate) group: Option<u32>,
    pub(crate) note_size: usize,
    /// The lock is opened to be removed: nothing is created, and the note is left alone.
    pub(crate) to_remove: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            named: Named::default(),
            mode: None,
            group: None,
            note_size: note::DEFAULT_SIZE,
            to_remove: false,
        }
    }
}

impl Terms {
    /// Opens only what exists, of any owner, and leaves the note alone.
    pub(crate) fn for_removal() -> Self {
        let mut terms = Self {
            to_remove: true,
            ..Self::default()
        };
        terms.named.anybody = true;
        terms
    }

    /// Permission bits of new objects. With any for others than owner and group, the lock may be anybody's.
    pub(crate) fn set_mode(&mut self, mode: u32) {
        self.mode = Some(mode & 0o777);
        self.named.anybody = Named::is_for_world(mode);
    }

    /// The group of new objects, whose locks are used, too.
    pub(crate) fn set_group(&mut self, gid: u32) {
        self.group = Some(gid);
        self.named.group = Some(gid);
    }

    /// What the calling process trusts now.
    pub(crate) fn trust(&self) -> Trust<'_> {
        Trust::of(geteuid().as_raw(), &self.named)
    }

    /// Whom a new lock belongs to.
    fn ownership(&self, trust: Trust<'_>) -> Ownership {
        let uid = trust.new_owner();
        Ownership {
            // A group that may not use the lock makes no sense.
            mode: self.mode.unwrap_or(if self.group.is_some() { 0o660 } else { 0o600 }),
            uid,
            gid: self.group.or_else(|| uid.and_then(primary_group)),
        }
    }
}

/// Opens a lock's objects, and creates what is missing. While the lock is being removed, creates nothing and waits for
/// the end of that, for as long as `timeout`. Waits 100 ms for what another process has half made.
pub(crate) fn open_objects(name: &LockName, terms: &Terms, timeout: Duration) -> Result<Arc<Objects>> {
    let mut opening = Opening {
        name,
        terms,
        trust: terms.trust(),
        retry: Retry::default(),
        without_note: false,
    };
    let mut waited = Duration::ZERO;
    loop {
        match opening.once() {
            Ok(Step::Open(objects)) => {
                // Or what is open would be taken for replaced, again and again.
                files::check_sight(&objects.table.path)?;
                return Ok(objects);
            }
            Ok(Step::Again) => {}
            Ok(Step::NotYet(error)) => {
                if !opening.retry.again() {
                    return Err(error);
                }
            }
            Err(Error::BeingRemoved { .. }) if waited < timeout => {
                std::thread::sleep(REMOVAL_CHECK);
                waited += REMOVAL_CHECK;
            }
            Err(error) => return Err(error),
        }
    }
}

struct Opening<'a> {
    name: &'a LockName,
    terms: &'a Terms,
    trust: Trust<'a>,
    retry: Retry,
    /// There is no space for one.
    without_note: bool,
}

/// What one try came to.
enum Step {
    Open(Arc<Objects>),
    /// Something was created, or replaced meanwhile.
    Again,
    /// It failed, but that may change in a moment.
    NotYet(Error),
}

impl Opening<'_> {
    fn once(&mut self) -> Result<Step> {
        let name = self.name;
        let found = Found::open(name, true)?;
        match found.examine(name, &mut self.retry)? {
            Finding::Good => {}
            Finding::Replaced => return Ok(Step::Again),
            Finding::NotYet(error) => return Ok(Step::NotYet(error)),
        }
        found
            .check_trust(name, self.trust)?
            .map_err(|refusal| refusal.error())?;
        let left_over = found.first(name);
        let table = found.table.map(|table| Table::new(table, name)).transpose()?;
        let dead_remover = match table.as_ref().map(|table| (table, Removal::of(table))) {
            None | Some((_, Removal::None)) => 0,
            Some((_, Removal::Abandoned(remover))) => remover,
            // Whatever is created while the rest of the lock is deleted would be left over; and the semaphore that is
            // there must not be taken for the old table's.
            Some((table, Removal::UnderWay(remover))) => return Err(being_removed(table, remover)),
            Some((_, Removal::Over)) => return Ok(Step::Again),
        };
        let Some(semaphore) = found.semaphore else {
            return self.begin(left_over);
        };
        let semaphore = Semaphore::new(&semaphore, name)?;
        let needs_note = found.note.is_none() && !self.without_note && !self.terms.to_remove;
        let table = match table {
            Some(table) if !needs_note => table,
            table => return self.complete(&semaphore, table.is_none(), needs_note),
        };
        let Some(beacon) = Beacon::light(&table)? else {
            return Ok(Step::Again);
        };
        // Only now, as it allocates space; and last, as a lock does without it for want of memory, but not without the rest.
        let note = match found.note.filter(|_| !self.terms.to_remove) {
            Some(note) => Note::new(note, true, name)?,
            None => Note::Absent,
        };
        let objects = Arc::new(Objects {
            semaphore,
            note,
            table,
            id: beacon.id,
            beacon: Some(beacon),
        });
        Ok(if adopt_semaphore(name, &objects, dead_remover)? {
            Step::Open(objects)
        } else {
            Step::Again
        })
    }

    /// Creates the semaphore. It is the first object of a new lock, and cannot be taken back: somebody may use it at
    /// once. `left_over`: another object that is there without it, and its owner.
    fn begin(&self, left_over: Option<(PathBuf, u32)>) -> Result<Step> {
        let name = self.name;
        if self.terms.to_remove {
            return Err(Error::NotFound {
                path: name.semaphore_path(),
            });
        }
        let owner = self.terms.ownership(self.trust);
        let uid = owner.uid.unwrap_or(self.trust.uid());
        if let Some((path, _)) = left_over.filter(|(_, other)| *other != uid) {
            let what = format!("it is left over, and the lock would now be user {uid}'s");
            return Err(files::wrong(&path, &what));
        }
        rehearse(name, &owner, self.terms.note_size)?;
        Semaphore::create(name, &owner)?;
        Ok(Step::Again)
    }

    /// Creates what is missing beside the semaphore.
    fn complete(&mut self, semaphore: &Semaphore, table: bool, note: bool) -> Result<Step> {
        let (name, ownership) = (self.name, &semaphore.ownership);
        if self.terms.to_remove {
            return Err(Error::NotFound {
                path: name.table_path(),
            });
        }
        let owner = ownership.uid.unwrap_or(self.trust.uid());
        if !self.trust.may_complete(owner, &System) {
            let path = if table { name.table_path() } else { name.note_path() };
            return Ok(Step::NotYet(Error::HalfMade { path, owner }));
        }
        if note {
            self.without_note = !Note::create(name, self.terms.note_size, ownership)?;
        }
        if table {
            Table::create(name, semaphore)?;
        }
        Ok(Step::Again)
    }
}

/// Makes sure that there is enough space for all three objects.
fn rehearse(name: &LockName, owner: &Ownership, note_size: usize) -> Result<()> {
    let space = Table::space_at_first();
    let sizes = [
        (name.semaphore_path(), sys::NEW_SEMAPHORE.len(), None),
        (name.note_path(), note_size, None),
        (name.table_path(), Table::SIZE, Some(&space[..])),
    ];
    let new = sizes.each_ref().map(|(path, size, space)| NewFile {
        path,
        size: *size as u64,
        space: *space,
        content: &[],
        owner,
    });
    files::rehearse(&new)
}

/// The table records its semaphore's inode. If the semaphore at the path is another one (deleted and created again), it
/// is taken for the table if anything is held, and recorded. Then a table that this dead remover (0 = none) has retired
/// is in use again. False = by now there is yet another semaphore, or the lock is being removed: open everything again.
fn adopt_semaphore(name: &LockName, objects: &Objects, dead_remover: u32) -> Result<bool> {
    let table = &objects.table;
    let recorded = &table.header.semaphore_inode;
    if recorded.load(Relaxed) == objects.semaphore.inode && dead_remover == 0 {
        return Ok(true);
    }
    let now = sys::monotonic();
    let real = Real::new(objects, now, now.saturating_add(LATCH_NS));
    let done = real.in_latch_of_any(|real, _, _| {
        if table.header.retired.load(RETIRED) != dead_remover {
            return Ok(false);
        }
        if recorded.load(Relaxed) != objects.semaphore.inode {
            if files::inode_at(&name.semaphore_path()) != Some(objects.semaphore.inode) {
                return Ok(false);
            }
            take_for_holds(objects);
            leave_keepers_behind(objects);
            recorded.store(objects.semaphore.inode, Relaxed);
            real.refresh();
        }
        Ok(dead_remover == 0 || retire(table, dead_remover, 0))
    });
    done.map_err(|not_done| not_done.error(objects))
}

/// In the latch. Takes the semaphore for the table, if anything is held or offered.
fn take_for_holds(objects: &Objects) {
    if objects.table.is_free() {
        return;
    }
    let mut semaphore = objects.semaphore.load();
    while semaphore.value() != 0 {
        match objects
            .semaphore
            .swap(semaphore, semaphore.with(0, objects.table.mark()))
        {
            Ok(()) => break,
            Err(seen) => semaphore = seen,
        }
    }
}

/// In the latch. The beacons that commands have inherited lie on the old semaphore, where nobody can probe them any
/// more: what cannot be proven dead is alive.
fn leave_keepers_behind(objects: &Objects) {
    for record in objects.table.used_records() {
        if record.keeper.load(Relaxed) != 0 {
            record.keeper.fetch_or(KEEPER_LEFT_BEHIND, Relaxed);
        }
    }
}
