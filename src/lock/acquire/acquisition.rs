//! Acquiring the lock: a try in the latch, a short spin outside the queue, then the queue.

use crate::lock::acquire::handle::{Current, Handle, LATCH_TURN_NS, Locked, visit_now};
use crate::lock::acquire::hold::{self, Grant, Hold, User};
use crate::lock::acquire::queued::{Queued, Waited};
use crate::lock::acquire::share::Share;
use crate::lock::acquire::spin::Spin;
use crate::lock::acquire::table_full;
use crate::lock::protocol::orderings::RETIRED;
use crate::lock::protocol::queue::{self, Ask, Asked, Sweep};
use crate::lock::protocol::word::Word;
use crate::lock::shm::deferred_log::log_unlocked;
use crate::lock::shm::latched::NotDone;
use crate::lock::shm::layout::{pack_command, pack_note};
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::process;
use crate::lock::shm::real_world::Real;
use crate::lock::shm::request::{Request, kind_of};
use crate::lock::shm::tombstone::REMOVAL_CHECK;
use crate::lock::sys::{self, Watched};
use crate::lock::types::get_options::OnWait;
use crate::lock::types::{Cancel, Detached, Ended, Error, GetOptions, PREVIOUS_HOLDER_DIED, Result, Wait};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Even a request that does not wait gives the latch this long. It is normally free within a microsecond, but on a busy
/// machine the process inside may be kept from running for some tens of milliseconds.
const LATCH_LEAST_NS: u64 = 250_000_000;

/// So many times in a row the lock's files may be found replaced or destroyed in one try.
const REOPENS: u32 = 100;

/// The outcome of one try in the latch.
enum Try {
    Granted(Grant),
    Queued(usize, Word),
    Busy,
    /// All records are in use. With the reason why there cannot be more, unless there are as many as there can be.
    Full(Option<Error>),
    /// In use with this other number of slots.
    SlotsDiffer(u32),
    /// The table stayed busy for a turn.
    Latched(NotDone),
}

/// What comes after a try.
enum Next<'h> {
    Again,
    Acquired(Share<&'h Handle>),
    TimedOut,
}

impl Handle {
    /// Acquires the lock for `user`: `None` = not acquired in time.
    pub(crate) fn get(self: &Arc<Self>, options: &GetOptions<'_>, user: User) -> Result<Option<Share>> {
        let share = self.acquire(options, user)?;
        Ok(share.map(|share| share.keeping(self)))
    }

    /// Acquires the lock until the handle is told to release it (a detached one until somebody is): false = not acquired
    /// in time.
    pub(crate) fn get_for_itself(&self, options: &GetOptions<'_>) -> Result<bool> {
        let share = self.acquire(options, User::Handle)?;
        Ok(share.map(Share::leave_to_handle).is_some())
    }

    fn acquire(&self, options: &GetOptions<'_>, user: User) -> Result<Option<Share<&Self>>> {
        self.check_fork()?;
        options.check()?;
        let start = sys::monotonic();
        if options.same_process_ok && self.includes(options.mode) {
            let objects = self.current().objects.clone();
            log::debug!(
                "<{}> lock already acquired   - Prior grant     <{}>",
                self.name(),
                objects.note.text()
            );
            if let Some(share) = self.share_own(options.mode, user) {
                return Ok(Some(share));
            } // else it has just ended
        }
        let bound_start = options.detached.map_or(Ok(0), can_detach)?;
        Acquisition::new(self, options, user, start, bound_start).run()
    }
}

#[cfg(feature = "tokio")]
impl Handle {
    /// One try that waits for nothing, not even for the table, and leaves no trace if it fails: for a caller that asks again
    /// then.
    pub(crate) fn try_once(self: &Arc<Self>, options: &GetOptions<'_>, user: User) -> Result<Option<Share>> {
        self.check_fork()?;
        options.check()?;
        if options.same_process_ok
            && let Some(share) = self.share_own(options.mode, user)
        {
            return Ok(Some(share.keeping(self)));
        }
        let bound_start = options.detached.map_or(Ok(0), can_detach)?;
        let mut try_once = Acquisition::new(self, options, user, sys::monotonic(), bound_start);
        (try_once.queue, try_once.latch_turn_ns) = (false, 0);
        let Some(mut current) = self.current_if_free() else {
            return Ok(None);
        };
        match try_once.attempt(&mut current) {
            Ok(Try::Granted(grant)) => {
                let hold = current.hold(grant, &try_once.request);
                match try_once.granted(current, hold)? {
                    Next::Acquired(share) => Ok(Some(share.keeping(self))),
                    Next::Again | Next::TimedOut => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }
}

/// One request for the lock, from its first try to the answer.
struct Acquisition<'h, 'o> {
    handle: &'h Handle,
    options: &'o GetOptions<'o>,
    /// Those of `options.on_wait` that have not been called yet.
    on_wait: &'o [OnWait<'o>],
    /// Who will have it.
    user: User,
    request: Request,
    /// When the request has to be answered, in monotonic ns.
    deadline: u64,
    /// How long a table that stays busy, or a removal, is waited for, in monotonic ns.
    patient_until: u64,
    /// How long one try waits for the latch.
    latch_turn_ns: u64,
    /// The time, as last read.
    now: u64,
    /// True if nothing has blocked since `now` was read.
    is_now: bool,
    /// The lock's paths are to be checked before the next try: if that is due, or (true) in any case.
    check_paths: Option<bool>,
    /// Join the queue if the lock is taken.
    queue: bool,
    spin: Spin,
    /// A signal has come, which ends the wait.
    interrupted: bool,
    /// The lock was found taken.
    conflict: bool,
    /// Its time is up, and the lock was checked once more, for a dead holder.
    last_check: bool,
    /// The dead were dropped because the number of slots differs.
    swept: bool,
    /// Which holders are checked next, if the table is full.
    cursor: usize,
    /// The user was told that there is no space for more requests.
    told_of_space: bool,
}

impl<'h, 'o> Acquisition<'h, 'o> {
    /// `bound_start`: see [`Request::bound_start`].
    fn new(handle: &'h Handle, options: &'o GetOptions<'o>, user: User, start: u64, bound_start: u64) -> Self {
        let deadline = match options.wait {
            Wait::No => start,
            Wait::For(time) => start.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
            Wait::Forever => u64::MAX,
        };
        process::pid_namespace(); // once; others can watch a process only if they know where its number is meant
        let command = options.command.as_deref();
        let command = command.map_or_else(process::own_command_packed, pack_command);
        Self {
            handle,
            user,
            request: Request {
                mode: options.mode,
                detached: options.detached,
                replaces: options.replaces,
                bound_start,
                requester: handle.requester(command),
                note: pack_note(&options.lock_info),
                queued: start,
                queued_wall_us: 0,
            },
            deadline,
            patient_until: deadline.max(start.saturating_add(LATCH_LEAST_NS)),
            latch_turn_ns: LATCH_TURN_NS,
            now: start,
            is_now: !options.same_process_ok, // whose question blocks
            check_paths: Some(false),
            queue: options.queue_at_once && options.wait != Wait::No,
            spin: Spin::default(),
            interrupted: false,
            conflict: false,
            last_check: false,
            swept: false,
            cursor: 0,
            told_of_space: false,
            on_wait: &options.on_wait,
            options,
        }
    }

    fn run(&mut self) -> Result<Option<Share<&'h Handle>>> {
        loop {
            if self.interrupted || self.options.cancel.is_some_and(Cancel::is_cancelled) {
                if self.conflict {
                    self.gave_up(Ended::Cancelled);
                }
                return Err(Error::Cancelled);
            }
            let current = self.handle.current_if_free().unwrap_or_else(|| {
                self.is_now = false;
                self.handle.current()
            });
            match self.step(current) {
                Ok(Next::Again) => {}
                Ok(Next::Acquired(share)) => return Ok(Some(share)),
                Ok(Next::TimedOut) => {
                    self.timed_out();
                    return Ok(None);
                }
                Err(error) => self.outwait_removal(error)?,
            }
        }
    }

    /// One try, and what follows from it. The handle's other threads have a turn before the next one.
    fn step(&mut self, mut current: Locked<'h>) -> Result<Next<'h>> {
        if let Some(force) = self.check_paths.take() {
            let before = Arc::as_ptr(&current.objects);
            self.handle.refresh(&mut current, self.now, force, Duration::ZERO)?;
            self.is_now &= before == Arc::as_ptr(&current.objects);
        }
        if !std::mem::take(&mut self.is_now) {
            self.now = sys::monotonic(); // after the mutex: what is offered now must not look overdue
        }
        if !self.conflict {
            self.request.queued = self.now;
            self.request.queued_wall_us = current.clock.wall_us(self.now);
        }
        match self.attempt(&mut current)? {
            Try::Granted(grant) => {
                let hold = current.hold(grant, &self.request);
                self.granted(current, hold)
            }
            Try::Queued(i, word) => self.queued(current, i, word),
            Try::Busy => self.busy(current),
            Try::Full(no_space) => self.full(current, no_space),
            Try::SlotsDiffer(in_use) => self.slots_differ(&current, in_use),
            Try::Latched(not_done) => self.latched(current, not_done),
        }
    }

    /// One try in the latch, for one turn at the most.
    fn attempt(&self, current: &mut Current) -> Result<Try> {
        let now = self.now;
        let (kind, slots) = kind_of(self.request.mode);
        let ask = Ask {
            kind,
            slots,
            queue: self.queue,
        };
        let mut opened = 0;
        loop {
            let objects = &current.objects;
            let real = Real::new(objects, now, now.saturating_add(self.latch_turn_ns)).requesting(&self.request);
            let asked = real.in_latch(|real, wakes| {
                let asked = queue::request(real, ask, wakes)?;
                if let Asked::Granted { .. } = asked {
                    objects.table.count_grant(now.saturating_sub(self.request.queued));
                }
                Ok((asked, objects.table.header.abandoned.load(Relaxed)))
            });
            return Ok(match asked {
                Ok((Asked::Granted { i, word, token }, abandoned)) => Try::Granted(Grant {
                    i,
                    word,
                    token,
                    at: now,
                    abandoned,
                }),
                Ok((Asked::Queued { i, word }, _)) => Try::Queued(i, word),
                Ok((Asked::Busy, _)) => Try::Busy,
                Ok((Asked::Full, _)) => match objects.table.add_records() {
                    Ok(true) => continue,
                    Ok(false) => Try::Full(None),
                    Err(source) => Try::Full(Some(objects.table.no_space(source))),
                },
                Ok((Asked::SlotsDiffer { in_use }, _)) => Try::SlotsDiffer(in_use),
                Err(not_done) if not_done.is_lasting() => {
                    if opened == REOPENS {
                        return Err(not_done.error(objects));
                    }
                    opened += 1;
                    self.handle.reopen(current, Duration::ZERO)?;
                    continue;
                }
                Err(not_done) => Try::Latched(not_done),
            });
        }
    }

    /// A grant. If it is still the lock at the paths, the note is written and the hold is ours.
    fn granted(&self, mut current: Locked<'h>, mut hold: Box<Hold>) -> Result<Next<'h>> {
        let check = self.options.queue_at_once || self.handle.is_check_due(&mut current, hold.granted);
        let objects = &hold.objects;
        let is_retired = objects.table.header.retired.load(RETIRED) != 0;
        if !Arc::ptr_eq(objects, &current.objects) || is_retired || (check && !objects.are_current()) {
            // The lock's files were replaced: this was a grant of the old ones. It goes first; opened again, the same
            // table with another semaphore would take it for a hold.
            let real = Real::new(objects, hold.granted, hold.granted);
            let _ = queue::let_go(&real, hold.i, hold.word());
            self.handle.reopen(&mut current, Duration::ZERO)?;
            visit_now(objects, Sweep::Active);
            visit_now(&current.objects, Sweep::Active);
            return Ok(Next::Again);
        }
        let name = self.handle.name();
        let wall_us = current.clock.wall_us(hold.granted);
        let zone = &objects.table.header.zone;
        let text = current.clock.note(wall_us, &self.options.lock_info, zone);
        if !objects.note.write(text) {
            log_unlocked!(Warn, "<{name}> the note is too long for its segment and was cut");
        }
        log_unlocked!(
            Debug,
            "<{name}> lock request successful - Granted         <{}>",
            String::from_utf8_lossy(text)
        );
        if hold.abandoned != 0 {
            log_unlocked!(
                target: "resourcelock::abandoned",
                Warn,
                "<{name}> {PREVIOUS_HOLDER_DIED}"
            );
        }
        let detached = self.options.detached.is_some();
        let user = if detached { User::Guard } else { self.user };
        let share = Share::new(self.handle, hold.token, user);
        hold.add(user);
        current.holds.push(hold);
        // The program's logger may panic in this. Then the hold is released with the share, a detached one as well: nobody
        // has been told of it.
        drop(current);
        if detached {
            share.with(|hold| hold.detached = true);
        }
        Ok(Next::Acquired(share))
    }

    /// It has joined the queue: waits there until it is granted, or leaves.
    fn queued(&mut self, current: Locked<'h>, i: usize, word: Word) -> Result<Next<'h>> {
        let objects = current.objects.clone();
        drop(current);
        self.note_conflict(&objects);
        let queued = Queued::new(self.handle, &objects, &self.request, (i, word), self.deadline);
        let stops = (self.options.cancel, self.options.on_signal.as_ref());
        match queued.wait(stops, &mut self.on_wait, self.options.on_wait_every.as_ref()) {
            Waited::Granted { stood_at } => match granted_in_queue(&objects, i, word, &self.request)? {
                Some(hold) => {
                    let mut current = self.handle.current();
                    self.handle.stood(&mut current, &objects, stood_at);
                    self.granted(current, hold)
                }
                None => Ok(Next::Again), // released by force at once
            },
            Waited::TimedOut => Ok(Next::TimedOut),
            Waited::Cancelled => Err(Error::Cancelled),
            Waited::Superseded => Err(Error::Superseded),
            Waited::Forked => Err(Error::Forked),
            Waited::StoodStill(busy) => Err(busy.error(&objects)),
            Waited::Again => {
                self.now = sys::monotonic();
                self.check_paths = Some(true);
                Ok(if self.now >= self.deadline {
                    self.not_in_time()
                } else {
                    Next::Again
                })
            }
        }
    }

    /// The lock is taken: spins for a while, then joins the queue. If its time is up, it makes sure that the holder is
    /// not a dead one.
    fn busy(&mut self, current: Locked<'h>) -> Result<Next<'h>> {
        let objects = current.objects.clone();
        drop(current);
        self.note_conflict(&objects);
        self.now = sys::monotonic();
        if self.options.wait != Wait::No && self.now < self.deadline {
            self.queue = !self.spin.once(&objects, self.request.mode);
            return Ok(Next::Again);
        }
        if std::mem::replace(&mut self.last_check, true) {
            return Ok(self.not_in_time());
        }
        let _mine = self.handle.current();
        visit_now(&objects, Sweep::All);
        self.check_paths = Some(true);
        Ok(Next::Again)
    }

    /// All records are in use, perhaps by the dead. If there is no space for more, that is an error when its time is up.
    fn full(&mut self, current: Locked<'h>, no_space: Option<Error>) -> Result<Next<'h>> {
        let objects = &current.objects;
        self.note_conflict(objects);
        self.now = sys::monotonic();
        if let Some(what) = table_full::visit_due(objects, self.now, &mut self.cursor) {
            visit_now(objects, what);
            if self.now < self.deadline || !std::mem::replace(&mut self.last_check, true) {
                return Ok(Next::Again);
            }
        }
        drop(current);
        if self.now >= self.deadline {
            return no_space.map_or_else(|| Ok(self.not_in_time()), Err);
        }
        if let Some(error) = no_space
            && !std::mem::replace(&mut self.told_of_space, true)
        {
            let name = self.handle.name();
            log::warn!(
                "<{name}> waits outside the queue until there is space: {}",
                error.with_source()
            );
        }
        self.nap(self.deadline.min(self.now.saturating_add(table_full::TRY_NS)))?;
        self.check_paths = Some(true);
        Ok(Next::Again)
    }

    /// The lock is in use with another number of slots, perhaps by the dead.
    fn slots_differ(&mut self, current: &Current, in_use: u32) -> Result<Next<'h>> {
        if std::mem::replace(&mut self.swept, true) {
            let (_, asked) = kind_of(self.request.mode);
            return Err(Error::SlotsDiffer { asked, in_use });
        }
        visit_now(&current.objects, Sweep::All);
        Ok(Next::Again)
    }

    /// The latch stayed taken for a turn.
    fn latched(&self, current: Locked<'h>, not_done: NotDone) -> Result<Next<'h>> {
        let objects = current.objects.clone();
        drop(current);
        if sys::monotonic() >= self.patient_until {
            return Err(not_done.error(&objects));
        }
        Ok(Next::Again)
    }

    /// It was not granted in time, and is not in the queue.
    fn not_in_time(&self) -> Next<'h> {
        self.gave_up(match self.options.wait {
            Wait::No => Ended::Refused,
            _ => Ended::TimedOut,
        });
        Next::TimedOut
    }

    /// Records that it has given up. Not one in the queue, which does so when it leaves.
    #[cold]
    fn gave_up(&self, how: Ended) {
        let current = self.handle.current();
        let table = &current.objects.table;
        let now = sys::monotonic();
        let real = Real::new(&current.objects, now, now.saturating_add(LATCH_TURN_NS));
        table.make_room(&table.gave_up());
        // Busy, stale or gone: then the history does without it.
        let _ = real.in_latch(|_, _| {
            table.record_gave_up(&self.request.gave_up(0, now, how));
            Ok(())
        });
    }

    /// The answer to a request that was not granted in time.
    #[cold]
    fn timed_out(&self) {
        let objects = self.handle.current().objects.clone();
        let header = &objects.table.header;
        header.timeouts.fetch_add(1, Relaxed);
        header.consecutive_timeouts.fetch_add(1, Relaxed);
        log::debug!(
            "<{}> lock request timed out  - Current owner   <{}>",
            self.handle.name(),
            objects.note.text()
        );
    }

    /// A try has failed. If the lock is being removed, waits a little for the end of that.
    #[cold]
    fn outwait_removal(&mut self, error: Error) -> Result<()> {
        self.now = sys::monotonic();
        if !matches!(error, Error::BeingRemoved { .. }) || self.now >= self.patient_until {
            return Err(error);
        }
        let check = self.now.saturating_add(REMOVAL_CHECK.as_nanos() as u64);
        self.nap(self.patient_until.min(check))?;
        self.check_paths = Some(true);
        Ok(())
    }

    fn note_conflict(&mut self, objects: &Objects) {
        if !std::mem::replace(&mut self.conflict, true) {
            objects.table.header.conflicts.fetch_add(1, Relaxed);
        }
    }

    /// Sleeps until then, or until the wait is cancelled or a signal comes.
    fn nap(&mut self, until: u64) -> Result<()> {
        static NEVER: AtomicU32 = AtomicU32::new(0);
        let word = self.options.cancel.map_or(&NEVER, |cancel| &cancel.0);
        self.is_now = false;
        sys::futex_wait(&[Watched::Word(word, 0)], until);
        self.interrupted = self.options.on_signal.as_ref().is_some_and(|stop| stop());
        // What the program wants to be called may have forked.
        self.handle.check_fork()
    }
}

/// Start time of the process that a detached hold is to be bound to, 0 = none; fails if such a hold would never end.
fn can_detach(detached: Detached) -> Result<u64> {
    process::look_up_namespaces();
    let start = match detached.pid {
        Some(pid) => process::start_of_living(pid).map_err(|source| Error::NoProcess { pid, source })?,
        None => 0,
    };
    if detached.ttl.is_some() {
        hold::can_expire()?;
    }
    Ok(start)
}

/// The hold that a queued request has become; `None` = it was released by force before we could use it. One that is to
/// be detached and cannot be, because the table stays busy, is released.
fn granted_in_queue(objects: &Arc<Objects>, i: usize, word: Word, request: &Request) -> Result<Option<Box<Hold>>> {
    let now = sys::monotonic();
    let table = &objects.table;
    let Some(token) = Real::new(objects, now, now).own_token(i, word) else {
        return Ok(None);
    };
    let grant = Grant {
        i,
        word,
        token,
        at: now,
        abandoned: table.header.abandoned.load(Relaxed),
    };
    let hold = Box::new(Hold::new(objects.clone(), grant, request));
    if !hold.accepted() {
        return Ok(None);
    }
    table.count_queued_grant(now.saturating_sub(request.queued));
    if let Some(detached) = request.detached {
        match hold.detach(detached, request.bound_start) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(busy) => {
                // Or this handle, which forgets it, would wait for its own hold.
                let _ = queue::let_go(&Real::new(objects, now, now), i, word);
                return Err(busy);
            }
        }
    }
    table.header.announce();
    // After what was read of them.
    if !objects.are_intact() {
        let _ = queue::let_go(&Real::new(objects, now, now), i, word);
        return Ok(None); // the next try will tell
    }
    Ok(Some(hold))
}
