//! The objects of one lock, and the processes that share them. Loom explores those fields on which decisions depend.

use crate::lock::protocol::queue::Kind;
use crate::lock::protocol::word::SemaphoreWord;
use crate::lock::shm::layout::{Layout, PackedRequester};
use crate::lock::shm::real_world::Real;
use crate::lock::shm::request::Request;
use crate::lock::shm::room::{Part, Reach};
use crate::lock::shm::semaphore_word::Count;
use crate::lock::sys::atomic::{AtomicU8, AtomicU32, AtomicU64, Fill, Ordering::Relaxed as Plain, orderings};
use crate::lock::sys::life;
use crate::lock::types::Mode;
use crate::mutant;
use crate::trace;
use loom::cell::UnsafeCell;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as Counter, Ordering::Relaxed};

const MARK: u16 = 7;
/// The first token.
pub(crate) const TOKEN: u64 = 100;
/// How many beacons there are, indexed by id; the ids of processes begin at 1.
const PROCESSES: usize = 5;
/// How many naps in a row a process takes for what stays taken, if its patience is short. Loom's scheduling is not
/// fair: nobody may wait forever.
pub(crate) const NAPS: u32 = 3;

/// Orderings of what others do.
pub mod foreign {
    use super::orderings;
    orderings! {
        /// The kernel unlocks the beacon of a process that has died.
        BEACON_OUT = Release;
        /// The kernel is asked whether a beacon is locked.
        BEACON_ASKED = Acquire;
        /// glibc's sem_post(3).
        SEM_POST = Release;
        /// glibc's sem_wait(3), when it takes the semaphore.
        SEM_WAIT = Acquire;
    }
}

/// What is explored besides the words, the latch, the semaphore and those fields of the records that decisions read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Form {
    /// Sleepers sleep until woken: a lost wake-up is a deadlock. Otherwise they look again.
    pub(crate) futexes: bool,
    /// What a hold depends on besides its handle, and its times.
    pub(crate) lifelines: bool,
    /// The rings of what has ended.
    pub(crate) rings: bool,
    /// Only the table's first pages have space. Otherwise all have.
    pub(crate) small: bool,
}

/// See the module.
pub(crate) struct World {
    layout: Layout,
    count: Count,
    /// By id: 1 if that process's beacon is out.
    out: Vec<AtomicU32>,
    /// By page of the table: 1 if the kernel has allocated it.
    space: Vec<AtomicU32>,
    /// What the lock protects.
    payload: UnsafeCell<u64>,
}

// SAFETY: loom runs all threads in one OS thread, and checks its cells.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

/// Number of sections under the lock, over all executions: shows that there was something to check.
pub(crate) static SECTIONS: Counter = Counter::new(0);

impl World {
    pub(crate) fn new(form: Form) -> Arc<Self> {
        trace::clear();
        let futex = |word: AtomicU32| if form.futexes { word.with_futex() } else { word };
        let mut layout = Layout::fill();
        let header = &mut layout.header;
        header.latch = futex(AtomicU32::modelled("latch", 0));
        header.events = futex(AtomicU32::modelled("events", 0));

        header.next_token = AtomicU64::guarded("next token", TOKEN);
        header.slots = AtomicU64::guarded("slots", 0);
        header.streak = AtomicU64::guarded("streak", 0);
        header.ignore_until = AtomicU64::guarded("ignore until", 0);
        // Read without the latch, too.
        header.next_ticket = AtomicU64::modelled("next ticket", 1);
        header.high_water = AtomicU64::modelled("high water", 0);
        header.pause_until = AtomicU64::modelled("pause until", 0);
        header.abandoned = AtomicU64::modelled("abandoned", 0);
        for word in &mut layout.words {
            *word = futex(AtomicU32::modelled("word", 0));
        }
        for kind in &mut layout.kinds {
            *kind = AtomicU8::modelled("kind", 0);
        }
        for record in &mut layout.all_records {
            record.ticket = AtomicU64::modelled("ticket", 0);
            record.token = AtomicU64::modelled("token", 0);
            record.holder = AtomicU32::modelled("holder", 0);
            if form.lifelines {
                record.keeper = AtomicU32::modelled("keeper", 0);
                record.bound_pid = AtomicU32::modelled("bound PID", 0);
                record.bound_start = AtomicU64::modelled("bound start", 0);
                record.expires = AtomicU64::modelled("expires", 0);
                record.time_namespace = AtomicU32::modelled("time namespace", 0);
            }
        }
        if form.rings {
            layout.header.history_next = AtomicU64::modelled("next end", 0);
            layout.header.gave_up_next = AtomicU64::modelled("next that gave up", 0);
            for past in layout.all_history.iter_mut().chain(&mut layout.all_gave_up) {
                past.sequence = AtomicU64::modelled("sequence", 0);
                past.ticket = AtomicU64::modelled("ticket of the past", 0);
                past.token = AtomicU64::modelled("token of the past", 0);
            }
        }
        let room = |part: Part| {
            if form.small {
                part.at_first()
            } else {
                part.pages().len() as u32
            }
        };
        layout.header.history_room = AtomicU32::modelled("room of the history", room(Part::History));
        layout.header.gave_up_room = AtomicU32::modelled("room of those that gave up", room(Part::GaveUp));
        let word = AtomicU64::modelled("semaphore", SemaphoreWord::new(1, 0, 0).0);
        Arc::new(Self {
            layout,
            count: Count {
                word: if form.futexes { word.with_futex() } else { word },
            },
            out: (0..PROCESSES).map(|_| AtomicU32::modelled("beacon out", 0)).collect(),
            space: (0..Part::GaveUp.pages().end)
                .map(|page| {
                    let has_space = |part: Part| {
                        (part.pages().start..)
                            .take(part.at_first() as usize)
                            .any(|at| at == page)
                    };
                    let is_first = Part::ALL.into_iter().any(has_space);
                    AtomicU32::modelled("space", (is_first || !form.small).into())
                })
                .collect(),
            payload: UnsafeCell::new(0),
        })
    }

    /// Works under an exclusive hold.
    pub(crate) fn touch(&self) {
        trace::say(|| "WORKS UNDER THE LOCK".to_owned());
        SECTIONS.fetch_add(1, Relaxed);
        // SAFETY: loom checks that nobody else has access at the same time.
        self.payload.with_mut(|payload| unsafe { *payload += 1 });
    }

    /// Reads under a shared hold.
    pub(crate) fn read(&self) {
        trace::say(|| "reads under the lock".to_owned());
        SECTIONS.fetch_add(1, Relaxed);
        // SAFETY: loom checks that nobody writes at the same time.
        self.payload.with(|payload| unsafe { std::ptr::read_volatile(payload) });
    }

    fn is_out(&self, id: u32) -> bool {
        let beacon = self.out.get(id as usize);
        beacon.is_some_and(|out| out.load(foreign::BEACON_ASKED) != 0)
    }
}

impl Deref for World {
    type Target = Layout;
    fn deref(&self) -> &Layout {
        &self.layout
    }
}

/// A process with one handle.
pub(crate) struct Process {
    pub(crate) objects: Objects,
    request: Request,
    /// True if it waits for the latch until it gets it; otherwise it takes only some naps.
    patient: bool,
    /// How far ahead its clock is, in ns.
    late: u64,
}

impl Process {
    pub(crate) fn new(world: &Arc<World>, id: u32) -> Self {
        let now = life::BEGIN;
        Self {
            objects: Objects {
                semaphore: Semaphore {
                    world: world.clone(),
                    inode: 0,
                    ownership: Ownership { uid: None },
                },
                note: Note,
                table: Table::new(world),
                id,
            },
            request: Request {
                mode: Mode::Exclusive,
                detached: None,
                replaces: false,
                bound_start: 0,
                requester: PackedRequester {
                    pid: id,
                    uid: 0,
                    command: [0; 2],
                },
                note: [0; 10],
                queued: now,
                queued_wall_us: 0,
            },
            patient: false,
            late: 0,
        }
    }

    pub(crate) fn shared(mut self) -> Self {
        self.request.mode = Mode::Shared;
        self
    }

    pub(crate) fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    /// Makes all offers made so far look overdue to it.
    pub(crate) fn late(mut self) -> Self {
        self.late = 500_000_000;
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.request.mode {
            Mode::Shared => Kind::Shared,
            _ => Kind::Exclusive,
        }
    }

    pub(crate) fn world(&self) -> &World {
        &self.objects.table.world
    }

    /// What the protocol works on, beginning now.
    pub(crate) fn real(&self) -> Real<'_> {
        let now = life::now() + self.late;
        let deadline = if self.patient { u64::MAX } else { now + u64::from(NAPS) };
        Real::new(&self.objects, now, deadline).requesting(&self.request)
    }

    /// Puts its beacon out, as the kernel does. Everything that it did happens before that.
    pub(crate) fn die(&self) {
        trace::say(|| "dies".to_owned());
        self.world().out[self.objects.id as usize].store(1, foreign::BEACON_OUT);
    }
}

/// Replaces the open objects.
pub(crate) struct Objects {
    pub(crate) semaphore: Semaphore,
    /// Needed by functions that are not called here.
    #[allow(dead_code)]
    pub(crate) note: Note,
    pub(crate) table: Table,
    pub(crate) id: u32,
}

impl Objects {
    pub(crate) fn is_out(&self, id: u32) -> bool {
        id != self.id && self.table.world.is_out(id)
    }
}

/// Replaces an open semaphore.
pub(crate) struct Semaphore {
    world: Arc<World>,
    pub(crate) inode: u64,
    pub(crate) ownership: Ownership,
}

/// Whose it is: nobody asks here.
pub(crate) struct Ownership {
    pub(crate) uid: Option<u32>,
}

impl Semaphore {
    pub(crate) fn is_gone(&self) -> bool {
        false
    }

    /// Nothing to copy: the semaphore itself is inspected here.
    pub(crate) fn look(&self) -> Result<(), ()> {
        Ok(())
    }
}

impl Deref for Semaphore {
    type Target = Count;
    fn deref(&self) -> &Count {
        &self.world.count
    }
}

/// Replaces an open table.
pub(crate) struct Table {
    world: Arc<World>,
    pub(crate) path: PathBuf,
    pub(crate) reach: Reach,
}

impl Table {
    /// Opens it.
    fn new(world: &Arc<World>) -> Self {
        let reach = Part::ALL.map(|part| {
            let pages = part.pages();
            let has_space = |page: &u32| world.space[*page as usize].load(Plain) != 0;
            let known = pages.take_while(has_space).count();
            AtomicU32::modelled("reach", part.fit(known as u32) as u32)
        });
        Self {
            world: world.clone(),
            path: PathBuf::new(),
            reach: Reach(reach),
        }
    }

    /// Has the kernel allocate these pages.
    /// Fault `no reach`: what others have allocated does not come into reach.
    pub(crate) fn assure(&self, part: Part, pages: u32) -> std::io::Result<()> {
        let last = part.pages().take(pages as usize).last();
        if mutant::is("no reach") && last.is_some_and(|page| self.world.space[page as usize].load(Plain) != 0) {
            return Ok(());
        }
        for page in part.pages().take(pages as usize) {
            self.world.space[page as usize].store(1, Plain);
        }
        self.reach.extend(part, pages);
        Ok(())
    }

    /// Touches all that is in reach. Without space that would be a SIGBUS.
    pub(crate) fn touch(&self, part: Part) {
        for page in part.pages().take(self.reach.of(part)) {
            let has_space = self.world.space[page as usize].load(Plain) != 0;
            assert!(has_space, "page {page} has no space");
        }
    }

    pub(crate) fn mark(&self) -> u16 {
        MARK
    }

    pub(crate) fn pid_of(&self, _beacon: u32) -> Option<u32> {
        None
    }

    /// Nobody truncates it here.
    pub(crate) fn is_intact(&self) -> bool {
        true
    }

    pub(crate) fn is_intact_copy(&self) -> bool {
        true
    }

    /// Nothing to copy: the table itself is inspected here, read in the order in which pread(2) would copy it.
    pub(crate) fn look(&self) {}

    /// As above.
    pub(crate) fn renew_requests(&self) {}

    /// Whoever reads the table itself does so at any time.
    pub(crate) fn give_way(&self) {}

    /// As above.
    pub(crate) fn renew<P: ?Sized>(&self, _part: &P) {}
}

impl Deref for Table {
    type Target = Layout;
    fn deref(&self) -> &Layout {
        &self.world.layout
    }
}

/// A command keeps a hold while its beacon, whose id is like that of a process, is lit.
pub(crate) fn is_keeper_out(semaphore: &Semaphore, keeper: u32) -> bool {
    semaphore.world.is_out(keeper)
}

/// Nobody is looked for here.
pub(crate) fn heir(_semaphore: &Semaphore, _keeper: u32) -> Option<u32> {
    None
}

/// Beacons can always be probed here.
pub(crate) fn is_blind() -> bool {
    false
}

/// Replaces an open note.
pub(crate) struct Note;

impl Note {
    pub(crate) fn text(&self) -> String {
        String::new()
    }

    pub(crate) fn brief_text(&self) -> String {
        String::new()
    }

    pub(crate) fn message_written_at(&self, _wall_us: u64) -> Option<Vec<u8>> {
        None
    }
}

/// Replaces what the system says about processes.
pub mod process {
    use crate::lock::sys::life;

    /// The process that holds are bound to, which is alive, and its start time.
    pub(crate) const BOUND: (u32, u64) = (42, 4242);

    pub(crate) fn pid_namespace() -> u64 {
        1
    }

    pub(crate) fn pid_namespace_if_known() -> u64 {
        1
    }

    pub(crate) fn time_namespace() -> u32 {
        life::time_namespace()
    }

    pub(crate) fn is_own_time(namespace: u32) -> bool {
        namespace == time_namespace()
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    #[allow(dead_code)] // here everybody lives
    pub(crate) enum Life {
        Gone,
        Lives,
        Unknown,
    }

    pub(crate) fn life(pid: u32, start: u64, _namespace: u64, time: u32) -> Life {
        assert_eq!((pid, start), BOUND, "a process that nothing is bound to is asked after");
        assert_eq!(time, 1, "its start time is taken for one of another clock");
        Life::Lives
    }

    pub(crate) fn command_of(_pid: u32) -> Option<String> {
        None
    }

    pub(crate) fn drop_doubts() {}

    pub(crate) fn settle_doubts() -> bool {
        false
    }
}
