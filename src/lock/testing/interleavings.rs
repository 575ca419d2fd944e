//! Tests that each force one interleaving, from inside: what otherwise only bad luck would show.

use crate::lock::acquire::handle::visit_now;
use crate::lock::acquire::queued::checks_every;
use crate::lock::api::removal::{claim, seize};
use crate::lock::protocol::queue::{self, Place, World};
use crate::lock::protocol::word::{Stage, Word};
use crate::lock::shm::opening::{Terms, open_objects};
use crate::lock::shm::real_world::Real;
use crate::lock::shm::room::Part;
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::shm::tombstone::{Removal, retire};
use crate::lock::sys;
use crate::{Cancel, Error, GetOptions, Mode, ResourceLock, UngetOptions, Wait};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// After this long a test stops waiting.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A lock of a test's own, removed at the end.
struct Own(String);

impl Own {
    fn new(subject: &str) -> Self {
        Self(format!("test-inter-{subject}-{}", std::process::id()))
    }

    fn open(&self) -> ResourceLock {
        ResourceLock::open(&self.0).unwrap()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = crate::remove(&self.0, true);
    }
}

/// Puts a living handle into the latch, or takes it out.
fn occupy(lock: &ResourceLock, occupied: bool) {
    let objects = lock.handle().current().objects.clone();
    let latch = &objects.table.header.latch;
    latch.store(if occupied { objects.id } else { 0 }, SeqCst);
    sys::futex_wake(latch, i32::MAX);
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A thread that waits for the latch does not keep the other threads from using the handle as long as it waits.
#[test]
fn threads_take_turns_while_the_latch_is_busy() {
    let own = Own::new("turns");
    let (lock, inside) = (own.open(), own.open());
    occupy(&inside, true);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| lock.get_lock(&GetOptions::new().wait(Wait::Forever)));
        let latch = &inside.handle().current().objects.clone();
        until("it sleeps for the latch", || {
            latch.table.header.latch.load(SeqCst) & crate::lock::protocol::latch::SLEEPERS != 0
        });
        let (say, said) = channel();
        let lock = &lock;
        scope.spawn(move || {
            for _ in 0..3 {
                let _ = say.send((lock.state().unwrap().locked, lock.token()));
            }
        });
        for _ in 0..3 {
            let answer = said.recv_timeout(TIMEOUT);
            if answer.is_err() {
                occupy(&inside, false); // or the test would never end
            }
            assert_eq!(answer, Ok((false, None)));
        }
        assert!(!waits.is_finished());
        occupy(&inside, false);
        assert!(waits.join().unwrap().unwrap());
    });
}

/// The latch is normally free within a microsecond, but the process in it may be kept from running for a while.
#[test]
fn a_request_that_does_not_wait_gives_the_latch_some_time() {
    let own = Own::new("least");
    let (lock, inside) = (own.open(), own.open());
    occupy(&inside, true);
    let start = Instant::now();
    let result = lock.get_lock(&GetOptions::new().wait(Wait::No));
    assert!(matches!(result, Err(Error::Busy { .. })), "{result:?}");
    assert!(start.elapsed() >= Duration::from_millis(250));
    occupy(&inside, false);
    assert!(lock.get_lock(&GetOptions::new().wait(Wait::No)).unwrap());
}

/// The first two in line may both be dead or stopped: the third finds out soon, those behind it eventually.
#[test]
fn the_third_in_line_watches_more_closely_than_those_behind_it() {
    let own = Own::new("third");
    let lock = own.open();
    assert!(lock.get_lock(&GetOptions::new()).unwrap());
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let options = GetOptions::new()
                .wait(Wait::Forever)
                .queue_at_once(true)
                .cancel(&cancel);
            let waiter = own.open();
            scope.spawn(move || waiter.get_lock(&options).unwrap_err());
            until("it waits", || lock.state().unwrap().waiters.len() == n + 1);
        }
        let objects = lock.handle().current().objects.clone();
        let mut queued: Vec<(usize, Word)> = (0..objects.table.words.len())
            .map(|i| (i, Word(objects.table.words[i].load(SeqCst))))
            .filter(|(_, word)| word.stage() == Stage::Waiting)
            .collect();
        queued.sort_by_key(|(_, word)| std::cmp::Reverse(word.age(1 << 20)));
        let now = sys::monotonic();
        let real = Real::new(&objects, now, now);
        let places: Vec<Place> = queued
            .iter()
            .map(|&(i, word)| queue::check(&real, i, word, false, &mut 0).unwrap().place)
            .collect();
        assert_eq!(places, [Place::Head, Place::Second, Place::Third, Place::Further]);
        cancel.cancel();
    });
    let every: Vec<u64> = [
        (Place::Second, 1),
        (Place::Third, 2),
        (Place::Further, 3),
        (Place::Further, 999),
    ]
    .map(|(place, ahead)| checks_every(place, ahead, 0) / 1_000_000)
    .to_vec();
    assert_eq!(every, [20, 100, 1_000, 9_990]);
}

/// A lock is opened while somebody removes it. However long the removal takes, the new semaphore is not taken for the
/// old table, whose hold by the remover would keep it taken for ever.
#[test]
fn a_lock_that_is_opened_during_its_removal_is_a_new_one() {
    let own = Own::new("removal");
    let remover = own.open();
    assert!(remover.get_lock(&GetOptions::new()).unwrap());
    assert!(claim(remover.handle()).unwrap());
    let paths = remover.name().clone();
    std::fs::remove_file(paths.semaphore_path()).unwrap();
    let open_at_once = || {
        let opened = open_objects(&paths, &Terms::default(), Duration::ZERO);
        let by = opened.map(|_| ()).unwrap_err();
        assert!(
            matches!(by, Error::BeingRemoved { pid } if pid == Some(std::process::id())),
            "{by:?}"
        );
    };
    open_at_once();
    assert!(
        !paths.semaphore_path().exists(),
        "nothing is made that would be left over"
    );
    let python = Semaphore::as_by_others(&paths); // which knows nothing of tables
    open_at_once();
    assert_eq!(python.load().value(), 1, "nor taken");
    std::thread::scope(|scope| {
        let opener = scope.spawn(|| own.open());
        std::fs::remove_file(paths.note_path()).unwrap();
        std::fs::remove_file(paths.table_path()).unwrap();
        remover.handle().leave_everything();
        drop(remover);
        let opened = opener.join().unwrap();
        let acquired = opened
            .get_lock(&GetOptions::new().wait(Wait::For(Duration::from_secs(5))))
            .unwrap();
        assert!(acquired, "{:?}", opened.state());
        assert_eq!(python.load().value(), 0);
        assert!(!own.open().get_lock(&GetOptions::new().wait(Wait::No)).unwrap());
        assert!(opened.unget_lock(UngetOptions::new()).unwrap());
    });
}

/// Between its grant and the deletion of the first file, a remover may lose the lock like any holder.
#[test]
fn a_lock_that_was_taken_from_its_remover_is_not_removed() {
    let own = Own::new("taken-from");
    let now = || GetOptions::new().wait(Wait::No);
    let take = || {
        let remover = own.open();
        assert!(remover.get_lock(&now()).unwrap());
        remover
    };
    let (user, force) = (own.open(), UngetOptions::new().force(true));
    let remover = take();
    assert!(user.unget_lock(force).unwrap() && user.get_lock(&now()).unwrap());
    assert!(!claim(remover.handle()).unwrap(), "another has it");
    assert!(user.unget_lock(UngetOptions::new()).unwrap());
    let remover = take();
    let semaphore = remover.handle().current().objects.semaphore.load();
    remover
        .handle()
        .current()
        .objects
        .semaphore
        .swap(semaphore, semaphore.with(1, semaphore.mark()))
        .unwrap();
    assert!(!claim(remover.handle()).unwrap(), "the Python module has posted it");
    drop(remover);
    let remover = take();
    let paths = remover.name();
    for path in [paths.semaphore_path(), paths.note_path(), paths.table_path()] {
        std::fs::remove_file(path).unwrap();
    }
    assert!(own.open().get_lock(&now()).unwrap());
    assert!(!claim(remover.handle()).unwrap(), "another lock stands there");
    assert!(own.open().name().table_path().exists());
}

/// Neither the id of a dead remover's beacon nor a table that it has deleted comes to life again.
#[test]
fn a_removed_table_stays_retired() {
    let own = Own::new("retired");
    let remover = own.open();
    let old = own.open().handle().current().objects.clone();
    assert!(remover.get_lock(&GetOptions::new()).unwrap() && claim(remover.handle()).unwrap());
    let id = old.table.header.retired.load(SeqCst);
    assert_eq!(Removal::of(&old.table), Removal::UnderWay(id));
    let aside = remover.name().table_path().with_extension("aside");
    std::fs::rename(remover.name().table_path(), &aside).unwrap();
    remover.handle().leave_everything();
    drop(remover);
    assert_eq!(Removal::of(&old.table), Removal::Over);
    std::fs::rename(&aside, own_table(&own)).unwrap();
    assert_eq!(Removal::of(&old.table), Removal::Abandoned(id), "it died before");
    assert!(own.open().get_lock(&GetOptions::new().wait(Wait::No)).unwrap());
    assert_eq!(Removal::of(&old.table), Removal::None);
}

/// A remover has died, and the semaphore is deleted. A process that has that open must not be able to release it as
/// soon as the table is no longer retired.
#[test]
fn a_table_comes_back_into_use_with_the_semaphore_at_the_path() {
    let own = Own::new("comes-back");
    let (remover, inside) = (own.open(), own.open());
    let old = inside.handle().current().objects.clone();
    assert!(remover.get_lock(&GetOptions::new()).unwrap() && claim(remover.handle()).unwrap());
    std::fs::remove_file(remover.name().semaphore_path()).unwrap();
    remover.handle().leave_everything();
    drop(remover);
    occupy(&inside, true);
    let opened = std::thread::scope(|scope| {
        let open = || std::iter::repeat_with(|| ResourceLock::open(&own.0)).find_map(Result::ok);
        let opener = scope.spawn(open);
        until("it sleeps for the latch", || {
            old.table.header.latch.load(SeqCst) & crate::lock::protocol::latch::SLEEPERS != 0
        });
        let retired = old.table.header.retired.load(SeqCst);
        occupy(&inside, false);
        let opened = opener.join().unwrap().unwrap();
        assert_ne!(retired, 0, "in use before its semaphore was known");
        opened
    });
    assert_eq!(old.table.header.retired.load(SeqCst), 0);
    visit_now(&old, queue::Sweep::All);
    assert_eq!(old.semaphore.load().value(), 0);
    assert!(opened.get_lock(&GetOptions::new().wait(Wait::No)).unwrap());
    assert!(!inside.get_lock(&GetOptions::new().wait(Wait::No)).unwrap());
}

/// A holder's `lost`: the lock is not lost before its files are deleted, which may be refused.
#[test]
fn a_hold_is_not_lost_before_its_lock_is_removed() {
    let own = Own::new("not-lost");
    let (holder, remover, other) = (own.open(), own.open(), own.open());
    let guard = holder.acquire().unwrap();
    assert!(seize(remover.handle()).unwrap());
    assert_eq!(guard.lost(), None);
    let refused = seize(other.handle());
    assert!(matches!(refused, Err(Error::BeingRemoved { .. })), "{refused:?}");
    let objects = remover.handle().current().objects.clone();
    assert!(retire(&objects.table, objects.id, 0));
    assert_eq!(crate::remove(&own.0, true).unwrap(), crate::Removed::Lock);
    assert_eq!(guard.lost(), Some(crate::Lost::Replaced));
}

fn own_table(own: &Own) -> std::path::PathBuf {
    crate::LockName::new(&own.0).unwrap().table_path()
}

/// A process that has a removed lock open, and has checked its paths a moment ago, is granted the new one. One that has
/// only its semaphore open (the Python module) is granted nothing: the old semaphore stays at 0.
#[test]
fn nobody_is_granted_a_removed_lock() {
    let own = Own::new("removed");
    let (late, other) = (own.open(), own.open());
    let old = late.handle().current().objects.clone();
    assert_eq!(crate::remove(&own.0, false).unwrap(), crate::Removed::Lock);
    for lock in [&late, &other] {
        lock.handle().current().checked = u64::MAX;
        visit_now(&old, queue::Sweep::All);
    }
    assert_eq!(
        old.semaphore.load().value(),
        0,
        "the remover's hold is not a dead one's"
    );
    let now = || GetOptions::new().wait(Wait::No);
    assert!(late.get_lock(&now()).unwrap());
    assert!(!other.get_lock(&now()).unwrap() && !own.open().get_lock(&now()).unwrap());
    assert!(late.unget_lock(UngetOptions::new()).unwrap());
    assert!(other.get_lock(&now()).unwrap());
    assert_eq!(old.semaphore.load().value(), 0);
}

/// The lock is offered to a request that has checked the paths a moment ago, and at that moment somebody begins to remove it
/// by force: the request does not use the grant, but waits for what becomes of the lock.
#[test]
fn nobody_accepts_a_lock_that_is_being_removed() {
    let own = Own::new("accept-removed");
    let (holder, waiter) = (own.open(), own.open());
    assert!(holder.get_lock(&GetOptions::new()).unwrap());
    let old = holder.handle().current().objects.clone();
    let header = &old.table.header;
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let granted = waiter.get_lock(&GetOptions::new().wait(Wait::Forever)).unwrap();
            (granted, header.retired.load(SeqCst))
        });
        until("it waits", || holder.state().unwrap().waiters.len() == 1);
        let (i, word) = {
            let hold = &holder.handle().current().holds[0];
            (hold.i, hold.word())
        };
        let now = sys::monotonic();
        let offered = Real::new(&old, now, u64::MAX).in_latch(|real, wakes| {
            let owned = queue::settle(real)?;
            assert!(queue::let_go(real, i, word)?);
            queue::dispatch(real, None, owned, false, wakes)?;
            header.retired.store(old.id, SeqCst);
            Ok(())
        });
        assert_eq!(offered, Ok(()));
        until("the offer is not used", || old.table.is_free());
        header.retired.store(0, SeqCst); // the removal was refused
        assert_eq!(waits.join().unwrap(), (true, 0));
    });
}

/// A request that waits looks at the paths meanwhile, so the grant need not: but only at the objects that it waits for, and
/// not if somebody has found the paths to lead elsewhere.
#[test]
fn paths_that_a_waiter_has_checked_are_checked() {
    let own = Own::new("checked");
    let (holder, waiter) = (own.open(), own.open());
    assert!(holder.get_lock(&GetOptions::new()).unwrap());
    let before = sys::monotonic();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| waiter.get_lock(&GetOptions::new().wait(Wait::Forever)));
        let objects = holder.handle().current().objects.clone();
        // It looks at the paths first.
        until("it has looked", || {
            objects.table.header.head_checked.load(SeqCst) >= before
        });
        assert!(holder.unget_lock(UngetOptions::new()).unwrap());
        assert!(waits.join().unwrap().unwrap());
    });
    let handle = waiter.handle();
    let mut current = handle.current();
    assert!(current.checked >= before);
    let own = current.objects.clone();
    let others = holder.handle().current().objects.clone();
    for (objects, checked, at, expected) in [(&own, 5, 7, 7), (&own, 7, 5, 7), (&own, 0, 7, 0), (&others, 5, 7, 5)] {
        current.checked = checked;
        handle.stood(&mut current, objects, at);
        assert_eq!(current.checked, expected);
    }
}

/// Times in the table that are another time namespace's, or nobody's: a free lock is not left to foreign waiters until
/// then, nor are these ignored until then.
#[test]
fn turns_of_another_clock_are_void() {
    let own = Own::new("other-clock");
    let lock = own.open();
    let objects = lock.handle().current().objects.clone();
    let header = &objects.table.header;
    let free = objects.semaphore.load();
    objects.semaphore.swap(free, free.with_waiters(1)).unwrap();
    let days_ahead = sys::monotonic() + 864_000_000_000_000;
    let shared = || GetOptions::new().mode(Mode::Shared).wait(Wait::No);
    header.pause_until.store(days_ahead, SeqCst);
    assert!(lock.get_lock(&shared()).unwrap());
    let ignored = |until| {
        header.streak.store(queue::FOREIGN_TURN_AFTER, SeqCst);
        header.ignore_until.store(until, SeqCst);
        lock.get_lock(&shared()).unwrap()
    };
    assert!(ignored(sys::monotonic() + 500_000_000) && !ignored(days_ahead));
}

/// Each killed waiter of the Python module leaves the semaphore's waiter count one too high, for ever.
#[test]
fn leaked_waiters_of_the_semaphore_do_not_add_up_to_the_mark() {
    let own = Own::new("leaks");
    let lock = own.open();
    let objects = lock.handle().current().objects.clone();
    let free = objects.semaphore.load();
    objects.semaphore.swap(free, free.with_waiters(u16::MAX)).unwrap();
    for _ in 0..3 {
        let options = GetOptions::new().wait(Wait::For(TIMEOUT));
        assert!(lock.get_lock(&options).unwrap());
        assert!(
            objects.semaphore.load().waiters() < u16::MAX,
            "one more would change the mark"
        );
        assert!(lock.unget_lock(UngetOptions::new()).unwrap());
    }
}

/// A queued request that was granted writes down when it accepted. If it was released by force at that moment, its record
/// is another request's.
#[test]
fn a_late_acceptance_does_not_touch_the_next_ones_record() {
    let own = Own::new("accept");
    let (lock, other) = (own.open(), own.open());
    assert!(lock.get_lock(&GetOptions::new()).unwrap());
    assert!(other.unget_lock(UngetOptions::new().force(true)).unwrap());
    assert!(other.get_lock(&GetOptions::new().wait(Wait::No)).unwrap());
    let mut current = lock.handle().current();
    let hold = &mut current.holds[0];
    hold.granted = u64::MAX;
    assert!(!hold.accepted());
    let current = other.handle().current();
    let (next, record) = (&current.holds[0], hold.record().unwrap());
    assert_eq!(next.i, hold.i, "it has the same record");
    assert_eq!(record.granted.load(SeqCst), next.granted);
}

/// What others have added to the table costs a waiter no time when it is granted the lock: it has that in reach before it
/// sleeps.
#[test]
fn a_waiter_catches_up_before_it_sleeps() {
    let own = Own::new("catches-up");
    let (holder, waiter) = (own.open(), own.open());
    let objects = |lock: &ResourceLock| lock.handle().current().objects.clone();
    let (ours, theirs) = (objects(&holder), objects(&waiter));
    let guard = holder.try_acquire().unwrap().unwrap();
    let options = GetOptions::new().wait(Wait::Forever).queue_at_once(true);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| waiter.acquire_with(&options).unwrap().is_some());
        until("it waits", || holder.state().unwrap().waiters.len() == 1);
        let header = &ours.table.header;
        ours.table.assure(Part::Records, Part::Records.needed(50)).unwrap();
        ours.table.assure(Part::History, 2).unwrap();
        header.history_room.store(2, Relaxed);
        header.high_water.store(50, Relaxed);
        let now = sys::monotonic();
        until("it has it in reach", || {
            (0..2).for_each(|i| Real::new(&ours, now, now).wake_request(i));
            let table = &theirs.table;
            table.reaches_used_records() && table.history().entries(table).len() == Part::History.fit(2)
        });
        drop(guard);
        assert!(waits.join().unwrap());
    });
}
