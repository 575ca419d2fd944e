//! The handle: what a process opens to use a lock.

use crate::lock::acquire::hold::Hold;
use crate::lock::protocol::queue::{self, Sweep, Wakes, Which};
use crate::lock::shm::beacon::Beacon;
use crate::lock::shm::clock::NoteClock;
use crate::lock::shm::files::{self, NewFile, Ownership};
use crate::lock::shm::note::{self, Note};
use crate::lock::shm::real::{NotDone, Objects, Real};
use crate::lock::shm::removal::{self, Removal};
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::shm::table::Table;
use crate::lock::sys;
use crate::lock::system::Stat;
use crate::lock::types::Ended;
use crate::lock::types::get_options::Target;
use crate::{Error, GetOptions, Guard, LockName, Result, UngetOptions};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

/// How long a release may wait for the table (it is the holder's own word that counts; the rest others can mend).
pub(crate) const UNGET_LATCH_NS: u64 = 1_000_000_000;
/// Deleting a lock's files takes microseconds; whoever is still at it after this time is stopped, and that is told.
pub(crate) const REMOVAL_TAKES: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 1 });
pub(crate) const REMOVAL_LOOK: Duration = Duration::from_millis(2);
/// A handle in use looks this often whether the lock's files are still the ones at the lock's paths.
const CHECK_PATHS_NS: u64 = 10_000_000;

/// How to open a lock: what is used if it has to be created.
#[derive(Debug, Clone)]
pub struct Builder {
    name: String,
    owner: Ownership,
    note_size: usize,
}

impl Builder {
    /// Permission bits for a lock that is created now (default 0o600). Not subject to the umask. Who may read the
    /// lock's files may also write them: a reader alone could make a dead holder look alive.
    pub fn mode(mut self, mode: u32) -> Self {
        self.owner.mode = mode & 0o777;
        self
    }

    /// Group (number) for a lock that is created now.
    pub fn group(mut self, gid: u32) -> Self {
        self.owner.gid = Some(gid);
        self
    }

    /// Size in bytes of a note that is created now (default 4096, as in the Python module).
    pub fn note_size(mut self, bytes: usize) -> Self {
        self.note_size = bytes.max(1);
        self
    }

    /// Opens the lock; creates what is missing. Waits for nobody but one who is just removing it.
    ///
    /// # Errors
    /// [`Error::Name`] for a name that cannot be; [`Error::Permission`] if the lock belongs to others;
    /// [`Error::WrongObject`] if something else stands at one of its paths; [`Error::Os`] if the system refuses
    /// (no or full /dev/shm); [`Error::BeingRemoved`] if it is just being removed and that takes longer than 1 s.
    pub fn open(self) -> Result<ResourceLock> {
        let name = LockName::new(&self.name)?;
        let objects = open_objects(&name, &self.owner, self.note_size, REMOVAL_TAKES)?;
        Ok(ResourceLock::with(name, self.owner, self.note_size, objects, true))
    }

    /// Opens an existing lock to look at it; creates nothing, needs permission to read only. A lock that only the
    /// Python module has used so far has no table: it is seen as its semaphore and note.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such lock; else as [`open`](Self::open).
    pub fn open_existing(self) -> Result<Viewer> {
        Viewer::open(LockName::new(&self.name)?)
    }
}

pub use crate::lock::inspect::viewer::Viewer;

/// Opens a lock's objects, and makes what is missing. While the lock is being removed it waits for the end of that, for
/// as long as `patience`, and makes nothing.
pub(crate) fn open_objects(
    name: &LockName,
    owner: &Ownership,
    note_size: usize,
    patience: Duration,
) -> Result<Arc<Objects>> {
    let mut waited = Duration::ZERO;
    loop {
        match open_once(name, owner, note_size) {
            Ok(Some(objects)) => return Ok(objects),
            Ok(None) => {}
            Err(Error::BeingRemoved { .. }) if waited < patience => {
                std::thread::sleep(REMOVAL_LOOK);
                waited += REMOVAL_LOOK;
            }
            Err(error) => return Err(error),
        }
    }
}

/// One try; `None` = something was replaced meanwhile.
fn open_once(name: &LockName, owner: &Ownership, note_size: usize) -> Result<Option<Arc<Objects>>> {
    // A semaphore that is made while the rest of the lock is deleted would be left over.
    if files::inode_at(&name.semaphore_path()).is_none()
        && let Ok(table) = Table::open(name, true)
        && let Removal::UnderWay(remover) = removal::look(&table)
    {
        return Err(removal::being_removed(&table, remover));
    }
    // The semaphore is the first object of a new lock and cannot be taken back: somebody may use it at once.
    let semaphore = Semaphore::open_or_create(name, owner, || rehearse(name, owner, note_size))?;
    let note = Note::open_or_create(name, note_size, &semaphore.owner)?;
    let table = Table::open_or_create(name, semaphore.inode, &semaphore.owner)?;
    let dead_remover = match removal::look(&table) {
        Removal::None => 0,
        Removal::Abandoned(remover) => remover,
        // This semaphore must not be taken for the old table's.
        Removal::UnderWay(remover) => return Err(removal::being_removed(&table, remover)),
        Removal::Over => return Ok(None),
    };
    let Some(beacon) = Beacon::light(&table)? else {
        return Ok(None);
    };
    let objects = Arc::new(Objects {
        semaphore,
        note,
        table,
        id: beacon.id,
        beacon: Some(beacon),
    });
    Ok(adopt_semaphore(name, &objects, dead_remover)?.then_some(objects))
}

/// Whether there is room for all three objects.
fn rehearse(name: &LockName, owner: &Ownership, note_size: usize) -> Result<()> {
    let sizes = [
        (name.semaphore_path(), sys::new_semaphore().len()),
        (name.note_path(), note_size),
        (name.table_path(), Table::SIZE),
    ];
    let new = sizes.each_ref().map(|(path, size)| NewFile {
        path,
        size: *size as u64,
        content: &[],
        owner,
    });
    files::rehearse(&new)
}

/// The table records its semaphore's inode. If the semaphore at the path is another one (deleted and made anew): it is
/// taken for the table if anything is held, and recorded. Then a table that was retired by this dead remover (0 = none)
/// is in use again. False = by now there is yet another semaphore, or the lock is being removed: open it all again.
fn adopt_semaphore(name: &LockName, objects: &Objects, dead_remover: u32) -> Result<bool> {
    use std::sync::atomic::Ordering::Relaxed;
    let recorded = &objects.table.header.semaphore_inode;
    if recorded.load(Relaxed) == objects.semaphore.inode && dead_remover == 0 {
        return Ok(true);
    }
    let now = sys::monotonic();
    let real = Real::new(objects, now, now.saturating_add(UNGET_LATCH_NS));
    let done = real.in_latch_of_any(|real, _, _| {
        if objects.table.header.retired.load(SeqCst) != dead_remover {
            return false;
        }
        if recorded.load(Relaxed) != objects.semaphore.inode {
            if files::inode_at(&name.semaphore_path()) != Some(objects.semaphore.inode) {
                return false;
            }
            let is_active = |word: &AtomicU32| crate::lock::protocol::word::Word(word.load(Relaxed)).is_active();
            let held = objects.table.words.iter().any(is_active);
            let mut semaphore = objects.semaphore.load();
            while held && semaphore.value() != 0 {
                match objects
                    .semaphore
                    .swap(semaphore, semaphore.with(0, objects.table.mark()))
                {
                    Ok(()) => break,
                    Err(seen) => semaphore = seen,
                }
            }
            recorded.store(objects.semaphore.inode, Relaxed);
            real.refresh();
        }
        dead_remover == 0 || removal::retire(&objects.table, dead_remover, 0)
    });
    done.map_err(|not_done| busy(objects, not_done))
}

/// The error of a table that stayed busy.
pub(crate) fn busy(objects: &Objects, not_done: NotDone) -> Error {
    let pid = match not_done {
        NotDone::Busy(id) => pid_of(&objects.table, id),
        NotDone::Stale => None,
    };
    Error::Busy { pid }
}

/// The process with this beacon, as far as its requests tell.
pub(crate) fn pid_of(table: &Table, id: u32) -> Option<u32> {
    use std::sync::atomic::Ordering::Relaxed;
    let record = table.requests.iter().find(|record| record.holder.load(Relaxed) == id)?;
    Some(record.pid.load(Relaxed)).filter(|&pid| pid != 0)
}

/// A named lock between processes: a handle to it. Several threads may use one handle; two handles in one process
/// compete like two processes. See the [crate's first page](crate) for what is guaranteed.
pub struct ResourceLock {
    name: LockName,
    owner: Ownership,
    note_size: usize,
    generation: u32,
    pid: u32,
    uid: u32,
    current: Mutex<Current>,
}

/// What changes in a handle. Its mutex is also what the handle's threads pass before they enter the latch, which
/// knows processes (beacons) only.
pub(crate) struct Current {
    pub(crate) objects: Arc<Objects>,
    pub(crate) holds: Vec<Hold>,
    pub(crate) checked: u64,
    pub(crate) clock: NoteClock,
}

impl ResourceLock {
    fn with(name: LockName, owner: Ownership, note_size: usize, objects: Arc<Objects>, say: bool) -> Self {
        let lock = Self {
            name,
            owner,
            note_size,
            generation: sys::fork_generation(),
            pid: std::process::id(),
            uid: nix::unistd::geteuid().as_raw(),
            current: Mutex::new(Current {
                objects,
                holds: Vec::new(),
                checked: sys::monotonic(),
                clock: NoteClock::default(),
            }),
        };
        if say {
            log::debug!("<{}> opened", lock.name);
        }
        lock
    }

    /// Opens the lock `name`; creates it, free, if it does not exist.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(name: &str) -> Result<Self> {
        Self::builder(name).open()
    }

    /// Opens with choices.
    pub fn builder(name: &str) -> Builder {
        Builder {
            name: name.to_owned(),
            owner: Ownership {
                mode: 0o600,
                uid: None,
                gid: None,
            },
            note_size: note::DEFAULT_SIZE,
        }
    }

    /// The lock's name (Python: `lockname`).
    pub fn name(&self) -> &LockName {
        &self.name
    }

    pub(crate) fn pid_uid(&self) -> (u32, u32) {
        (self.pid, self.uid)
    }

    /// A handle of an ancestor process has lost its beacon at the fork.
    pub(crate) fn check_fork(&self) -> Result<()> {
        if self.generation == sys::fork_generation() {
            Ok(())
        } else {
            Err(Error::Forked)
        }
    }

    /// Not in the child of a fork, where a thread that exists in the parent only may have it locked for ever.
    pub(crate) fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for what a child may do as well: `None` = locked for ever, or for a moment by another thread of it.
    pub(crate) fn current_unless_stuck(&self) -> Option<MutexGuard<'_, Current>> {
        if self.check_fork().is_ok() {
            return Some(self.current());
        }
        match self.current.try_lock() {
            Ok(current) => Some(current),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The objects in use now; opened afresh if `force`d to look, or not looked for a while, and the lock's paths
    /// lead elsewhere. Waits so long for one who is removing the lock.
    pub(crate) fn fresh(&self, current: &mut Current, now: u64, force: bool, patience: Duration) -> Result<bool> {
        let due = self.is_check_due(current, now);
        if !(force || due) || self.is_current(&current.objects) {
            return Ok(false);
        }
        self.reopen(current, patience)
    }

    /// Whether the paths have not been looked at for a while; from now on they count as looked at.
    pub(crate) fn is_check_due(&self, current: &mut Current, now: u64) -> bool {
        let due = now.saturating_sub(current.checked) >= CHECK_PATHS_NS;
        if due {
            current.checked = now;
        }
        due
    }

    /// Opens the lock's objects afresh. Waits so long for one who is removing the lock.
    pub(crate) fn reopen(&self, current: &mut Current, patience: Duration) -> Result<bool> {
        current.objects = open_objects(&self.name, &self.owner, self.note_size, patience)?;
        log::debug!("<{}> the lock's files were replaced: opened afresh", self.name);
        Ok(true)
    }

    /// Whether the lock's paths still lead to these objects, and nobody is about to change that.
    pub(crate) fn is_current(&self, objects: &Objects) -> bool {
        objects.table.header.retired.load(SeqCst) == 0 && self.stand(objects)
    }

    /// Whether the lock's paths still lead to these objects.
    pub(crate) fn stand(&self, objects: &Objects) -> bool {
        files::inode_at(&self.name.semaphore_path()) == Some(objects.semaphore.inode)
            && files::inode_at(&self.name.table_path()) == Some(objects.table.inode)
    }

    /// Requests the lock (Python: `get_lock`): true = this handle has it now; false = it was not had in time.
    /// Blocks up to [`GetOptions::wait`] (1 s by default).
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::SlotsDiffer`], [`Error::NoProcess`], [`Error::Forked`], [`Error::Busy`] if a
    /// process that is stopped in the middle of an operation blocks the table, [`Error::BeingRemoved`] if one is
    /// stopped in the middle of the lock's removal, and those of [`Builder::open`] if the lock's files were deleted and
    /// have to be made anew.
    pub fn get_lock(&self, options: GetOptions<'_>) -> Result<bool> {
        self.get(options).map(|token| token.is_some())
    }

    /// Like [`get_lock`](Self::get_lock), with a guard that releases on drop. `None` = not had in time.
    ///
    /// # Errors
    /// As [`get_lock`](Self::get_lock).
    pub fn try_acquire(&self, options: GetOptions<'_>) -> Result<Option<Guard<'_>>> {
        Ok(self.get(options)?.map(|(token, owned)| Guard {
            lock: self,
            token,
            owned,
        }))
    }

    /// Like [`try_acquire`](Self::try_acquire), for callers to whom a lock that was not had in time is an error.
    ///
    /// # Errors
    /// [`Error::TimedOut`], and as [`get_lock`](Self::get_lock).
    pub fn acquire(&self, options: GetOptions<'_>) -> Result<Guard<'_>> {
        self.try_acquire(options)?.ok_or(Error::TimedOut)
    }

    /// Releases the lock (Python: `unget_lock`): true = released; false = it was free, or not this handle's (then
    /// it is left alone and that is logged). Waits up to 1 s for the table, never for a holder.
    ///
    /// # Errors
    /// [`Error::Busy`] if somebody else's hold is to be released and the table stays busy; [`Error::Forked`].
    pub fn unget_lock(&self, options: UngetOptions<'_>) -> Result<bool> {
        self.check_fork()?;
        let text = options.where_called;
        let name = &self.name;
        match options.target {
            Target::Own => {
                let hold = self.current().holds.pop();
                if let Some(hold) = hold {
                    let released = self.end_hold(hold, true)?;
                    if released {
                        log::debug!("<{name}> lock released  <{text}>");
                    } else {
                        log::info!("<{name}> lock unget request ignored - lock not owned by current process  <{text}>");
                    }
                    return Ok(released);
                }
                if self.current().objects.semaphore.load().value() == 0 {
                    log::info!("<{name}> lock unget request ignored - lock not owned by current process  <{text}>");
                } else {
                    log::debug!("<{name}> Extraneous lock unget request ignored  <{text}>");
                }
                Ok(false)
            }
            Target::Force => {
                let released = self.force(|_| Some(Which::Every))?;
                if released {
                    log::debug!("<{name}> lock force released  <{text}>");
                } else {
                    log::debug!("<{name}> Extraneous lock unget request ignored  <{text}>");
                }
                Ok(released)
            }
            Target::Token(token) => self.force_matching(text, |holder| holder.token == Some(token)),
            Target::BoundTo(pid) => {
                // The process that bears the number now, if any; not another's, of another time or PID namespace.
                let start = Stat::of(pid).ok().map(|stat| stat.start_time);
                self.force_matching(text, |holder| {
                    holder.bound_pid == Some(pid)
                        && holder.requester.same_pid_namespace
                        && (start.is_none() || holder.bound_start == start)
                })
            }
        }
    }

    fn force_matching(&self, text: &str, meant: impl Fn(&crate::Holder) -> bool) -> Result<bool> {
        use std::sync::atomic::Ordering::Relaxed;
        let released = self.force(|objects| {
            let holders = crate::lock::inspect::snapshot::holders(objects);
            let holder = holders.iter().find(|(_, _, holder)| meant(holder))?;
            // The token once more: the record may have been taken again since.
            let (i, word, token) = (holder.0, holder.1, holder.2.token);
            let same = objects
                .table
                .requests
                .get(i)
                .is_some_and(|record| Some(record.token.load(Relaxed)) == token);
            same.then_some(Which::One(i, word))
        })?;
        if released {
            log::debug!("<{}> lock released  <{text}>", self.name);
        } else {
            log::info!(
                "<{}> lock unget request ignored - not held so any more  <{text}>",
                self.name
            );
        }
        Ok(released)
    }

    fn force(&self, which: impl Fn(&Objects) -> Option<Which>) -> Result<bool> {
        use std::sync::atomic::Ordering::Relaxed;
        self.work_in_latch(|real, wakes| {
            let table = &real.objects.table;
            let Some(which) = which(real.objects) else {
                return false;
            };
            // A detached hold has no process that could release it: this is its ordinary end.
            let how = |i: usize| match table.requests.get(i) {
                Some(record) if record.holder.load(Relaxed) != 0 => Ended::Forced,
                _ => Ended::Released,
            };
            let released = crate::lock::shm::real::go(queue::force(real, which, how, wakes));
            table.header.abandoned.store(0, Relaxed); // somebody has seen to it
            released
        })
    }

    /// Runs `work` in the latch of the lock that stands at the paths now. Blocks for the table up to 1 s.
    fn work_in_latch<R>(&self, work: impl Fn(&Real<'_>, &mut Wakes) -> R) -> Result<R> {
        let mut current = self.current();
        let now = sys::monotonic();
        self.fresh(&mut current, now, true, REMOVAL_TAKES)?;
        loop {
            let objects = current.objects.clone();
            let real = Real::new(&objects, now, now.saturating_add(UNGET_LATCH_NS));
            let done = real.in_latch(|real, wakes| {
                real.refresh();
                work(real, wakes)
            });
            match done {
                Ok(result) => return Ok(result),
                Err(NotDone::Stale) => {
                    self.reopen(&mut current, REMOVAL_TAKES)?;
                }
                Err(not_done) => return Err(busy(&objects, not_done)),
            }
        }
    }

    /// Whether this handle has the lock (Python: `I_have_the_lock`). False in the child of a fork: the hold is its
    /// parent's.
    pub fn have_the_lock(&self) -> bool {
        self.check_fork().is_ok() && self.current().holds.iter().any(|hold| hold.is_held())
    }

    /// Turns this handle's hold into a detached one: the lock stays taken, this handle has it no longer (in Python:
    /// `I_have_the_lock = False`). False = there was none. Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Forked`]; [`Error::Busy`] if the table stayed busy: the hold is still this handle's.
    pub fn leave_taken(&self) -> Result<bool> {
        self.check_fork()?;
        let mut current = self.current();
        let Some(hold) = current.holds.last() else {
            return Ok(false);
        };
        let detached = hold.detach(crate::Detached::default(), 0)?;
        current.holds.pop();
        Ok(detached)
    }

    /// Mends what crashed processes left behind, so that a lone user of the Python module need not wait for it: the
    /// dead are dropped, the next in line is told. Every request does this by itself.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Forked`].
    pub fn repair(&self) -> Result<()> {
        self.check_fork()?;
        self.work_in_latch(|real, wakes| crate::lock::shm::real::go(queue::visit(real, Sweep::All, wakes)))
    }

    /// Does not release at the end.
    pub(crate) fn leave_everything(self) {
        for hold in &mut self.current().holds {
            hold.left = true;
        }
    }

    /// Closes the handle (Python: `close`); what it holds is released. Dropping it does the same without the log
    /// line.
    pub fn close(self) {
        log::debug!("<{}> semaphore closed", self.name);
    }
}

impl Drop for ResourceLock {
    /// Releases what this handle still holds.
    fn drop(&mut self) {
        if self.check_fork().is_err() {
            return;
        }
        let holds = std::mem::take(&mut self.current().holds);
        for hold in holds {
            if !hold.left {
                let _ = self.end_hold(hold, true);
            }
        }
    }
}

impl std::fmt::Debug for ResourceLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResourceLock")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
