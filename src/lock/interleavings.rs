//! Tests that force one interleaving each, from inside: what only bad luck would show otherwise.

use crate::get::watches_every;
use crate::live::{Live, go};
use crate::queue::{self, Place};
use crate::word::{Stage, Word};
use crate::{Cancel, Error, GetOptions, ResourceLock, UngetOptions, Wait, sys};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// After this long a test stops waiting.
const PATIENCE: Duration = Duration::from_secs(60);

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
    let objects = lock.current().objects.clone();
    let latch = &objects.table.header.latch;
    latch.store(if occupied { objects.id } else { 0 }, SeqCst);
    sys::futex_wake(latch, i32::MAX);
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A thread that waits for the latch does not keep the handle from the other threads for as long as it waits.
#[test]
fn threads_take_turns_while_the_latch_is_busy() {
    let own = Own::new("turns");
    let (lock, inside) = (own.open(), own.open());
    occupy(&inside, true);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| lock.get_lock(GetOptions::new().wait(Wait::Forever)));
        let latch = &inside.current().objects.clone();
        until("it sleeps for the latch", || {
            latch.table.header.latch.load(SeqCst) & crate::latch::SLEEPERS != 0
        });
        let (say, said) = channel();
        let lock = &lock;
        scope.spawn(move || {
            for _ in 0..3 {
                let _ = say.send((lock.state().locked, lock.token()));
            }
        });
        for _ in 0..3 {
            let answer = said.recv_timeout(PATIENCE);
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

/// The latch is normally free within a microsecond; whoever is in it may be kept from running for a while.
#[test]
fn a_request_that_does_not_wait_gives_the_latch_some_time() {
    let own = Own::new("least");
    let (lock, inside) = (own.open(), own.open());
    occupy(&inside, true);
    let start = Instant::now();
    let result = lock.get_lock(GetOptions::new().wait(Wait::No));
    assert!(matches!(result, Err(Error::Busy { .. })), "{result:?}");
    assert!(start.elapsed() >= Duration::from_millis(250));
    occupy(&inside, false);
    assert!(lock.get_lock(GetOptions::new().wait(Wait::No)).unwrap());
}

/// The first two in line may both be dead or stopped: the third finds out soon, those behind it in the end.
#[test]
fn the_third_in_line_watches_more_closely_than_those_behind_it() {
    let own = Own::new("third");
    let lock = own.open();
    assert!(lock.get_lock(GetOptions::new()).unwrap());
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let options = GetOptions::new()
                .wait(Wait::Forever)
                .queue_at_once(true)
                .cancel(&cancel);
            let waiter = own.open();
            scope.spawn(move || waiter.get_lock(options).unwrap_err());
            until("it waits", || lock.state().waiters.len() == n + 1);
        }
        let objects = lock.current().objects.clone();
        let mut queued: Vec<(usize, Word)> = (0..objects.table.words.len())
            .map(|i| (i, Word(objects.table.words[i].load(SeqCst))))
            .filter(|(_, word)| word.stage() == Stage::Waiting)
            .collect();
        queued.sort_by_key(|(_, word)| std::cmp::Reverse(word.age(1 << 20)));
        let now = sys::monotonic();
        let live = Live::new(&objects, now, now);
        let places: Vec<Place> = queued
            .iter()
            .map(|&(i, word)| go(queue::look(&live, i, word, false, &mut 0)).place)
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
    .map(|(place, ahead)| watches_every(place, ahead, 0) / 1_000_000)
    .to_vec();
    assert_eq!(every, [20, 100, 1_000, 9_990]);
}

/// A lock that is opened while somebody removes it: the new flag is not taken for the old table's, whose hold by the
/// remover would keep it taken for ever.
#[test]
fn a_lock_that_is_opened_during_its_removal_is_a_new_one() {
    let own = Own::new("removal");
    let remover = own.open();
    assert!(remover.get_lock(GetOptions::new()).unwrap());
    let paths = remover.name().clone();
    remover.current().objects.table.header.retired.store(1, SeqCst);
    std::fs::remove_file(paths.flag_path()).unwrap();
    std::thread::scope(|scope| {
        let opener = scope.spawn(|| own.open());
        until("it has made a new flag", || paths.flag_path().exists());
        std::thread::sleep(Duration::from_millis(20)); // it goes on to the table, which is still the old one
        std::fs::remove_file(paths.note_path()).unwrap();
        std::fs::remove_file(paths.table_path()).unwrap();
        remover.leave_everything();
        let opened = opener.join().unwrap();
        let had = opened
            .get_lock(GetOptions::new().wait(Wait::For(Duration::from_secs(5))))
            .unwrap();
        assert!(had, "{:?}", opened.state());
        assert!(!own.open().get_lock(GetOptions::new().wait(Wait::No)).unwrap());
        assert!(opened.unget_lock(UngetOptions::new()).unwrap());
    });
}

/// Killed waiters of the Python module leave the flag's waiter count too high, each by one, for ever.
#[test]
fn leaked_waiters_of_the_flag_do_not_add_up_to_the_mark() {
    let own = Own::new("leaks");
    let lock = own.open();
    let objects = lock.current().objects.clone();
    let free = objects.flag.load();
    objects.flag.swap(free, free.with_waiters(u16::MAX)).unwrap();
    for _ in 0..3 {
        let patient = GetOptions::new().wait(Wait::For(PATIENCE));
        assert!(lock.get_lock(patient).unwrap());
        assert!(
            objects.flag.load().waiters() < u16::MAX,
            "one more would change the mark"
        );
        assert!(lock.unget_lock(UngetOptions::new()).unwrap());
    }
}
