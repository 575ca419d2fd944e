//! What two or three processes do at once: the shipped functions, composed as in the model's `actor.rs`.

use super::actor::{Mine, Phase, run};
use crate::lock::inspect::snapshot;
use crate::lock::protocol::latch::{Entry, enter, leave};
use crate::lock::protocol::queue::{self, Ask, Asked, Field, Sweep, World as _};
use crate::lock::protocol::word::{Stage, Word};
use crate::lock::shm::ending::Ending;
use crate::lock::shm::events::watch;
use crate::lock::shm::layout::pack_what;
use crate::lock::shm::room::Part;
use crate::lock::sys::atomic::Ordering::Relaxed;
use crate::lock::sys::{self, Watched, life};
use crate::lock::types::{Detached, Ended};
use crate::world::process::BOUND;
use crate::world::{Form, NAPS, Process, TOKEN, World, foreign};
use loom::thread;
use std::sync::Arc;
use std::time::Duration;

/// A scenario: its name, how many preemptions are explored (and how many in the long form), and its function.
pub struct Scenario {
    pub name: &'static str,
    pub preemptions: usize,
    pub long: usize,
    pub run: fn(),
}

macro_rules! scenarios {
    ($($name:ident $preemptions:literal $long:literal;)*) => {
        pub const ALL: &[Scenario] = &[$(Scenario {
            name: stringify!($name),
            preemptions: $preemptions,
            long: $long,
            run: $name,
        }),*];
    };
}

scenarios! {
    try_and_release 4 5;
    queue_and_release 4 5;
    let_go_then_try 4 5;
    let_go_then_offer 3 4;
    release_and_offer 4 5;
    withdraw 3 4;
    withdraw_and_wake 2 3;
    force 2 3;
    foreign_holder 4 5;
    wake_a_foreign_waiter 4 5;
    wake_from_a_foreign_holder 4 5;
    die_holding 4 5;
    die_holding_third_cleans_up 3 4;
    stale_offer 1 2;
    readers_then_writer 3 4;
    writer_then_readers 3 5;
    two_in_the_latch 4 5;
    three_in_the_latch 2 3;
    wake_the_next 4 5;
    wake_the_next_two 3 4;
    watch_a_release 4 6;
    two_watch_a_release 3 4;
    snapshot_of_a_reused_record 3 4;
    snapshot_of_an_offer 1 2;
    token_after_force 4 6;
    ring_entry_overwritten 1 2;
    ring_entries_in_order 2 3;
    grow_in_two_threads 4 6;
    grow_the_queue 2 3;
    grow_the_history 2 3;
    detach_and_die 4 6;
    snapshot_of_a_detached_hold 4 6;
    expiry_of_another_clock 4 6;
    note_of_the_last_holder 4 5;
}

/// Two operations inside the latch in which a process dies before its n-th action.
pub const DEATHS: &[(&str, fn(u32) -> bool)] = &[("die_releasing", die_releasing), ("die_asking", die_asking)];

type Thread = thread::JoinHandle<()>;

fn spawn(process: Process, work: impl FnOnce(&Process) + 'static) -> Thread {
    thread::spawn(move || work(&process))
}

fn finish<const N: usize>(threads: [Thread; N]) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn world() -> Arc<World> {
    World::new(Form::default())
}

fn world_with_futexes() -> Arc<World> {
    World::new(Form {
        futexes: true,
        ..Form::default()
    })
}

const ASK: Phase = Phase::Ask { queue: true };
const TRY: Phase = Phase::Ask { queue: false };

/// Runs one phase. (If the latch stays taken, a hold is released without it.)
fn step(process: &Process, phase: &Phase) -> Phase {
    let next = run(&process.real(), process.kind(), phase).unwrap();
    match (phase, next) {
        (Phase::Release(_), let_go @ Phase::LetGo { .. }) => step(process, &let_go),
        (_, next) => next,
    }
}

/// Makes a request before the threads start: it holds the lock, or waits.
fn prepared(process: &Process) -> Mine {
    match step(process, &ASK) {
        Phase::Holding(mine) | Phase::Queued(mine) => mine,
        other => panic!("{other:?}"),
    }
}

/// Goes on until the process holds the lock. Where nothing wakes it, it gives up after some naps. With `checks`, it
/// also does the checks that a waiter does.
fn obtain(process: &Process, start: Phase, checks: bool) -> Option<Mine> {
    let again = if matches!(start, Phase::Ask { .. }) {
        start.clone()
    } else {
        ASK
    };
    let mut phase = start;
    let (mut cursor, mut visited, mut naps) = (0, false, 0);
    let mut nap = |process: &Process| {
        naps += 1;
        process.world().words[0].futex().is_some() || naps <= NAPS
    };
    loop {
        if let Phase::Queued(mine) = phase {
            phase = Phase::Poll(mine);
        }
        let polled = matches!(phase, Phase::Poll(_));
        phase = step(process, &phase);
        match phase {
            Phase::Holding(mine) => return Some(mine),
            Phase::Queued((i, word)) if polled => {
                if checks && !std::mem::take(&mut visited) {
                    let check = queue::check(&process.real(), i, word, true, &mut cursor).unwrap();
                    if let Some(what) = check.visit {
                        visited = true;
                        let back = Some((i, word));
                        phase = step(process, &Phase::Visit { what, back });
                        continue;
                    }
                }
                if !nap(process) {
                    return None;
                }
                let waiting = word.at(Stage::Waiting).0;
                sys::futex_wait(&[Watched::Word(&process.world().words[i], waiting)], 0);
            }
            Phase::Idle => {
                if !nap(process) {
                    return None;
                }
                thread::yield_now();
                phase = again.clone();
            }
            _ => {}
        }
    }
}

/// Obtains the lock, works, and releases.
fn use_lock(process: &Process, start: Phase, checks: bool) {
    if let Some(mine) = obtain(process, start, checks) {
        process.world().touch();
        step(process, &Phase::Release(mine));
    }
}

/// The same without the release.
fn take_lock(process: &Process, start: Phase, checks: bool) {
    if obtain(process, start, checks).is_some() {
        process.world().touch();
    }
}

/// Works under a hold, and releases it.
fn release(process: &Process, mine: Mine) {
    process.world().touch();
    step(process, &Phase::Release(mine));
}

/// The same without the latch.
fn let_go(process: &Process, mine: Mine) {
    process.world().touch();
    step(process, &Phase::LetGo { mine, visit: false });
}

fn visit(process: &Process, what: Sweep) {
    step(process, &Phase::Visit { what, back: None });
}

fn try_and_release() {
    let world = world();
    let [a, b] = [1, 2].map(|id| Process::new(&world, id));
    finish([a, b].map(|process| spawn(process, |process| use_lock(process, TRY, false))));
}

fn queue_and_release() {
    let world = world();
    let [a, b] = [1, 2].map(|id| Process::new(&world, id));
    finish([a, b].map(|process| spawn(process, |process| use_lock(process, ASK, false))));
}

fn let_go_then_try() {
    let world = world();
    let [a, b] = [1, 2].map(|id| Process::new(&world, id));
    let first = prepared(&a);
    finish([
        spawn(a, move |a| let_go(a, first)),
        spawn(b, |b| use_lock(b, TRY, false)),
    ]);
}

/// A releases without the latch, C dispatches, B accepts without the latch.
fn let_go_then_offer() {
    let world = world();
    let [a, b, c] = [1, 2, 3].map(|id| Process::new(&world, id));
    let (first, second) = (prepared(&a), prepared(&b));
    finish([
        spawn(a, move |a| let_go(a, first)),
        spawn(b, move |b| take_lock(b, Phase::Queued(second), true)),
        spawn(c, |c| visit(c, Sweep::Active)),
    ]);
}

fn release_and_offer() {
    let world = world();
    let [a, b] = [1, 2].map(|id| Process::new(&world, id));
    let (first, second) = (prepared(&a), prepared(&b));
    finish([
        spawn(a, move |a| release(a, first)),
        spawn(b, move |b| use_lock(b, Phase::Queued(second), false)),
    ]);
}

/// The offer to B races with B's withdrawal; C is next.
fn withdraw() {
    withdraw_in(world());
}

fn withdraw_and_wake() {
    withdraw_in(world_with_futexes());
}

fn withdraw_in(world: Arc<World>) {
    let [a, b, c] = [1, 2, 3].map(|id| Process::new(&world, id));
    let (first, mine, third) = (prepared(&a), prepared(&b), prepared(&c));
    finish([
        spawn(a, move |a| release(a, first)),
        spawn(b, move |b| match step(b, &Phase::Withdraw { mine, cancelled: false }) {
            Phase::Holding(mine) => release(b, mine),
            visit => drop(step(b, &visit)),
        }),
        spawn(c, move |c| take_lock(c, Phase::Queued(third), false)),
    ]);
}

/// C ends A's hold by force, then asks; B waits. A's own release comes too late.
fn force() {
    let world = world();
    let [a, b, c] = [1, 2, 3].map(|id| Process::new(&world, id));
    let (mine, second) = (prepared(&a), prepared(&b));
    finish([
        spawn(a, move |a| drop(step(a, &Phase::LetGo { mine, visit: false }))),
        spawn(b, move |b| use_lock(b, Phase::Queued(second), false)),
        spawn(c, |c| {
            step(c, &Phase::Force);
            use_lock(c, ASK, false);
        }),
    ]);
}

/// sem_trywait(3), as glibc's __new_sem_wait_fast does it.
fn sem_trywait(process: &Process) -> bool {
    let word = &process.objects.semaphore.word;
    let mut seen = word.load(Relaxed);
    while seen as u32 != 0 {
        match word.compare_exchange(seen, seen - 1, foreign::SEM_WAIT, Relaxed) {
            Ok(_) => return true,
            Err(now) => seen = now,
        }
    }
    false
}

/// sem_post(3), as glibc's __new_sem_post does it.
fn sem_post(process: &Process) {
    let word = &process.objects.semaphore.word;
    let mut seen = word.load(Relaxed);
    while let Err(now) = word.compare_exchange(seen, seen + 1, foreign::SEM_POST, Relaxed) {
        seen = now;
    }
    if seen >> 32 != 0 {
        sys::futex_wake_low(word, 1);
    }
}

/// sem_wait(3): the slow path counts the waiter, sleeps on the value (the low half), and takes both off in one step.
fn sem_wait(process: &Process) {
    if sem_trywait(process) {
        return;
    }
    const WAITER: u64 = 1 << 32;
    let word = &process.objects.semaphore.word;
    let mut seen = word.fetch_add(WAITER, Relaxed) + WAITER;
    loop {
        if seen as u32 == 0 {
            sys::futex_wait(&[Watched::Low(word, 0)], 0);
            seen = word.load(Relaxed);
            continue;
        }
        match word.compare_exchange(seen, seen - 1 - WAITER, foreign::SEM_WAIT, Relaxed) {
            Ok(_) => return,
            Err(now) => seen = now,
        }
    }
}

/// A process of ours and one that uses the Python module take the lock in turn.
fn foreign_holder() {
    let world = world();
    let [ours, theirs] = [1, 2].map(|id| Process::new(&world, id));
    finish([
        spawn(ours, |ours| use_lock(ours, ASK, true)),
        spawn(theirs, |theirs| {
            for _ in 0..=NAPS {
                if sem_trywait(theirs) {
                    theirs.world().touch();
                    return sem_post(theirs);
                }
                thread::yield_now();
            }
        }),
    ]);
}

fn wake_a_foreign_waiter() {
    let world = world_with_futexes();
    let [ours, theirs] = [1, 2].map(|id| Process::new(&world, id));
    let mine = prepared(&ours);
    finish([
        spawn(ours, move |ours| release(ours, mine)),
        spawn(theirs, |theirs| {
            sem_wait(theirs);
            theirs.world().touch();
            sem_post(theirs);
        }),
    ]);
}

/// The head of the queue sleeps on the semaphore, as sem_wait(3) does, while a foreign process holds it.
fn wake_from_a_foreign_holder() {
    let world = world_with_futexes();
    let [ours, theirs] = [1, 2].map(|id| Process::new(&world, id));
    assert!(sem_trywait(&theirs));
    let (i, word) = prepared(&ours);
    finish([
        spawn(ours, move |ours| {
            let mut cursor = 0;
            while !matches!(step(ours, &Phase::Poll((i, word))), Phase::Holding(_)) {
                let check = queue::check(&ours.real(), i, word, true, &mut cursor).unwrap();
                if let Some(what) = check.visit {
                    visit(ours, what);
                    continue;
                }
                assert!(check.foreign, "there is nothing to do and nobody to wait for");
                let semaphore = &ours.objects.semaphore;
                if semaphore.join() {
                    sys::futex_wait(&[Watched::Low(&semaphore.word, 0)], 0);
                    semaphore.leave();
                }
            }
            ours.world().touch();
        }),
        spawn(theirs, |theirs| {
            theirs.world().touch();
            sem_post(theirs);
        }),
    ]);
}

/// Obtains the lock from a holder that has died.
fn succeed(process: &Process, mine: Mine) {
    if obtain(process, Phase::Queued(mine), true).is_some() {
        let abandoned = process.real().field(Field::Abandoned).unwrap();
        assert_eq!(abandoned, TOKEN, "the next holder is told");
        process.world().touch();
    }
}

/// A dies holding the lock; B, in the queue, finds out.
fn die_holding() {
    let world = world();
    let [a, b] = [1, 2].map(|id| Process::new(&world, id));
    let (_, second) = (prepared(&a), prepared(&b));
    finish([
        spawn(a, |a| {
            a.world().touch();
            a.die();
        }),
        spawn(b, move |b| succeed(b, second)),
    ]);
}

/// The same, but C may find out first, so that B only accepts.
fn die_holding_third_cleans_up() {
    let world = world();
    let [a, b, c] = [1, 2, 3].map(|id| Process::new(&world, id));
    let (_, second) = (prepared(&a), prepared(&b));
    finish([
        spawn(a, |a| {
            a.world().touch();
            a.die();
        }),
        spawn(b, move |b| succeed(b, second)),
        spawn(c, |c| visit(c, Sweep::All)),
    ]);
}

/// A dies while releasing, before its n-th action; B takes over the latch, repairs, and gets the lock. True if A had
/// that many actions to do.
fn die_releasing(after: u32) -> bool {
    let world = world();
    let (a, b) = (Process::new(&world, 1), Process::new(&world, 2).patient());
    let (mine, second) = (prepared(&a), prepared(&b));
    let died = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let dies = died.clone();
    finish([
        spawn(a, move |a| {
            a.world().touch();
            let done = life::dying(after, || drop(run(&a.real(), a.kind(), &Phase::Release(mine))));
            dies.fetch_or(done.is_none(), std::sync::atomic::Ordering::Relaxed);
            a.die();
        }),
        spawn(b, move |b| take_lock(b, Phase::Queued(second), true)),
    ]);
    died.load(std::sync::atomic::Ordering::Relaxed)
}

/// The same while A asks.
fn die_asking(after: u32) -> bool {
    let world = world();
    let (a, b) = (Process::new(&world, 1), Process::new(&world, 2).patient());
    let died = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let dies = died.clone();
    finish([
        spawn(a, move |a| {
            let asked = life::dying(after, || run(&a.real(), a.kind(), &ASK).unwrap());
            if let Some(Phase::Holding(_)) = asked {
                a.world().touch();
            }
            dies.fetch_or(asked.is_none(), std::sync::atomic::Ordering::Relaxed);
            a.die();
        }),
        spawn(b, |b| take_lock(b, ASK, true)),
    ]);
    died.load(std::sync::atomic::Ordering::Relaxed)
}

/// To C, the offer to B looks stale; B comes back.
fn stale_offer() {
    let world = world();
    let [a, b, c] = [1, 2, 3].map(|id| Process::new(&world, id));
    let (first, second) = (prepared(&a), prepared(&b));
    finish([
        spawn(a, move |a| release(a, first)),
        spawn(b, move |b| take_lock(b, Phase::Queued(second), true)),
        spawn(c.late(), |c| visit(c, Sweep::Active)),
    ]);
}

/// Two readers release, one of them without the latch; a writer waits.
fn readers_then_writer() {
    let world = world();
    let [a, b] = [1, 2].map(|id| Process::new(&world, id).shared());
    let c = Process::new(&world, 3);
    let (mine, second, third) = (prepared(&a), prepared(&b), prepared(&c));
    finish([
        spawn(a, move |a| {
            a.world().read();
            step(a, &Phase::LetGo { mine, visit: false });
        }),
        spawn(b, move |b| {
            b.world().read();
            step(b, &Phase::Release(second));
        }),
        spawn(c, move |c| take_lock(c, Phase::Queued(third), true)),
    ]);
}

/// A writer releases; two readers wait.
fn writer_then_readers() {
    let world = world();
    let a = Process::new(&world, 1);
    let [b, c] = [2, 3].map(|id| Process::new(&world, id).shared());
    let (first, second, third) = (prepared(&a), prepared(&b), prepared(&c));
    let reader = |process: Process, mine: Mine| {
        spawn(process, move |reader| {
            if let Some(mine) = obtain(reader, Phase::Queued(mine), false) {
                reader.world().read();
                step(reader, &Phase::LetGo { mine, visit: false });
            }
        })
    };
    finish([
        reader(b, second),
        reader(c, third),
        spawn(a, move |a| release(a, first)),
    ]);
}

/// The latch alone, with its futex.
fn in_the_latch(process: &Process) {
    let real = process.real();
    assert_eq!(enter(&real), Ok(Entry::Clean));
    process.world().touch();
    leave(&real).unwrap();
}

fn two_in_the_latch() {
    let world = world_with_futexes();
    finish([1, 2].map(|id| spawn(Process::new(&world, id).patient(), in_the_latch)));
}

fn three_in_the_latch() {
    let world = world_with_futexes();
    finish([1, 2, 3].map(|id| spawn(Process::new(&world, id).patient(), in_the_latch)));
}

/// A release wakes a waiter that sleeps until then.
fn wake_the_next() {
    let world = world_with_futexes();
    let [a, b] = [1, 2].map(|id| Process::new(&world, id).patient());
    let first = prepared(&a);
    finish([
        spawn(a, move |a| release(a, first)),
        spawn(b, |b| use_lock(b, ASK, false)),
    ]);
}

fn wake_the_next_two() {
    let world = world_with_futexes();
    let [a, b, c] = [1, 2, 3].map(|id| Process::new(&world, id).patient());
    let (first, second, third) = (prepared(&a), prepared(&b), prepared(&c));
    finish([
        spawn(a, move |a| release(a, first)),
        spawn(b, move |b| use_lock(b, Phase::Queued(second), false)),
        spawn(c, move |c| use_lock(c, Phase::Queued(third), false)),
    ]);
}

/// Releases inside the latch, and announces that.
fn release_and_announce(process: &Process, (i, word): Mine) {
    let done = process.real().in_latch(|real, _| queue::let_go(real, i, word));
    assert_eq!(done, Ok(true));
}

/// Watches until record 0 is vacant. Nothing but the announcement wakes the watcher.
fn watch_until_released(process: &Process) {
    let world = process.world();
    loop {
        let seen = watch(&world.header.events);
        if Word(world.words[0].load(Relaxed)).stage() == Stage::Vacant {
            return;
        }
        sys::futex_wait(&[Watched::Word(&world.header.events, seen)], 0);
    }
}

fn watch_a_release() {
    let world = world_with_futexes();
    let [a, b] = [1, 2].map(|id| Process::new(&world, id).patient());
    let mine = prepared(&a);
    finish([
        spawn(a, move |a| release_and_announce(a, mine)),
        spawn(b, watch_until_released),
    ]);
}

fn two_watch_a_release() {
    let world = world_with_futexes();
    let [a, b, c] = [1, 2, 3].map(|id| Process::new(&world, id).patient());
    let mine = prepared(&a);
    finish([
        spawn(a, move |a| release_and_announce(a, mine)),
        spawn(b, watch_until_released),
        spawn(c, watch_until_released),
    ]);
}

/// Asserts that each holder in a reader's copy is a single request: its word, ticket and token belong together.
fn copy_holders(process: &Process) {
    for (_, word, holder) in snapshot::holders(&process.objects) {
        let same = Word::new(Stage::Held, holder.ticket) == word;
        assert!(same, "a mix of two requests: {word:?} and ticket {}", holder.ticket);
        assert_eq!(holder.token, Some(TOKEN + holder.ticket - 1), "another request's token");
    }
}

/// A releases, and asks again using the same record.
fn snapshot_of_a_reused_record() {
    let world = world();
    let [a, reader] = [1, 2].map(|id| Process::new(&world, id));
    let mine = prepared(&a);
    finish([
        spawn(a, move |a| {
            step(a, &Phase::Release(mine));
            step(a, &TRY);
        }),
        spawn(reader, copy_holders),
    ]);
}

/// Two readers hold the lock. A releases without the latch and waits, as a writer, in the same record. There, B's
/// release offers it the lock.
fn snapshot_of_an_offer() {
    let world = world();
    let [a, b] = [1, 2].map(|id| Process::new(&world, id).shared());
    let [writer, reader] = [1, 3].map(|id| Process::new(&world, id));
    let (mine, second) = (prepared(&a), prepared(&b));
    finish([
        spawn(a, move |a| {
            step(a, &Phase::LetGo { mine, visit: false });
            if let Phase::Queued(again) = step(&writer, &ASK) {
                assert_eq!(again.0, mine.0, "not the same record");
                step(&writer, &Phase::Poll(again));
            }
        }),
        spawn(b, move |b| drop(step(b, &Phase::Release(second)))),
        spawn(reader, copy_holders),
    ]);
}

/// A has been granted the lock and reads its token. B ends that hold by force and reuses the record.
fn token_after_force() {
    let world = world();
    let [a, b] = [1, 2].map(|id| Process::new(&world, id));
    let (i, word) = prepared(&a);
    finish([
        spawn(a, move |a| {
            let token = a.real().own_token(i, word);
            assert!(token.is_none_or(|token| token == TOKEN), "another request's token");
        }),
        spawn(b, |b| {
            step(b, &Phase::Force);
            step(b, &TRY);
        }),
    ]);
}

fn world_with_rings() -> Arc<World> {
    World::new(Form {
        rings: true,
        ..Form::default()
    })
}

/// What is recorded about the `n`th request that ended.
fn ending(n: u64) -> Ending {
    Ending {
        ticket: n,
        token: n,
        queued_wall_us: 0,
        waited_ns: 0,
        held_ns: 0,
        ended_wall_us: 0,
        requester: crate::lock::shm::layout::PackedRequester {
            pid: 1,
            uid: 0,
            command: [0; 2],
        },
        what: pack_what(0, Ended::Released, 0),
        command_end: 0,
        note: [0; 10],
    }
}

/// Two requests that gave up are recorded in a ring with room for one.
fn ring_entry_overwritten() {
    let world = world_with_rings();
    let [a, b, reader] = [1, 2, 3].map(|id| Process::new(&world, id).patient());
    let record = |process: &Process| {
        let done = process.real().in_latch(|real, _| {
            let table = &real.objects.table;
            table.record_gave_up(&ending(table.header.gave_up_next.load(Relaxed) + 1));
            Ok(())
        });
        assert_eq!(done, Ok(()));
    };
    finish([
        spawn(a, record),
        spawn(b, record),
        spawn(reader, |reader| {
            for found in snapshot::gave_up_from(&reader.objects.table, 0) {
                let numbers = (found.ticket, found.token);
                assert_eq!(
                    numbers,
                    (found.sequence + 1, Some(found.sequence + 1)),
                    "a mix of two entries"
                );
            }
        }),
    ]);
}

/// Two holds end, and the ring has room: a reader that sees the second end also sees the first.
fn ring_entries_in_order() {
    let world = world_with_rings();
    let [a, b, reader] = [1, 2, 3].map(|id| Process::new(&world, id).patient());
    let record = |process: &Process| {
        let done = process.real().in_latch(|real, _| {
            let table = &real.objects.table;
            table.record_end(&ending(table.header.history_next.load(Relaxed) + 1));
            Ok(())
        });
        assert_eq!(done, Ok(()));
    };
    finish([
        spawn(a, record),
        spawn(b, record),
        spawn(reader, |reader| {
            let found = snapshot::history_from(&reader.objects.table, 0);
            let complete = found.last().map_or(0, |last| last.sequence + 1);
            assert_eq!(
                found.len() as u64,
                complete,
                "an end that is recorded would be reported as missed"
            );
        }),
    ]);
}

fn small_world() -> Arc<World> {
    World::new(Form {
        rings: true,
        small: true,
        ..Form::default()
    })
}

/// One thread of a process makes room for a record; another one touches what is in reach.
fn grow_in_two_threads() {
    let world = small_world();
    let process = Arc::new(Process::new(&world, 1));
    let other = process.clone();
    finish([
        thread::spawn(move || assert!(other.objects.table.add_records().is_ok_and(|added| added))),
        thread::spawn(move || process.objects.table.touch(Part::Records)),
    ]);
}

/// The first page has two records: of A, who reads twice. B, who is to write, makes room and queues there; A, who has not
/// made sure of B's page, releases.
fn grow_the_queue() {
    let world = World::new(Form {
        small: true,
        ..Form::default()
    });
    let a = Process::new(&world, 1).shared().patient();
    let b = Process::new(&world, 2).patient();
    let holds = [prepared(&a), prepared(&a)];
    finish([
        spawn(a, move |a| {
            holds.map(|mine| release_as_shipped(a, mine)).into_iter().collect()
        }),
        spawn(b, grow_and_take),
    ]);
}

/// As `Phase::Release`, in the latch as it is shipped.
fn release_as_shipped(process: &Process, (i, word): Mine) {
    process.world().read();
    let done = process.real().in_latch(|real, wakes| {
        let owned = queue::settle(real)?;
        queue::let_go(real, i, word)?;
        queue::dispatch(real, None, owned, false, wakes)
    });
    assert_eq!(done, Ok(()));
}

fn grow_and_take(process: &Process) {
    let table = &process.objects.table;
    let ask = Ask {
        kind: process.kind(),
        slots: 0,
        queue: true,
    };
    let (i, word) = loop {
        match process.real().in_latch(|real, wakes| queue::request(real, ask, wakes)) {
            Ok(Asked::Full) => assert!(table.add_records().is_ok_and(|added| added)),
            Ok(Asked::Queued { i, word } | Asked::Granted { i, word, .. }) => break (i, word),
            other => panic!("{other:?}"),
        }
    };
    table.touch(Part::Records);
    for _ in 0..=NAPS {
        if let Some(token) = process.real().own_token(i, word) {
            assert!(token > TOKEN + 1, "granted without a token");
            return process.world().touch();
        }
        let _ = queue::poll(&process.real(), i, word);
        thread::yield_now();
    }
}

/// Two holds end; the history has room for one at first, which a reader finds whether or not it has grown.
fn grow_the_history() {
    let world = small_world();
    let [a, b, reader] = [1, 2, 3].map(|id| Process::new(&world, id).patient());
    let record = |process: &Process| {
        let done = process.real().in_latch(|real, _| {
            let table = &real.objects.table;
            table.record_end(&ending(table.header.history_next.load(Relaxed) + 1));
            Ok(())
        });
        assert_eq!(done, Ok(()));
    };
    record(&a);
    finish([
        spawn(b, record),
        spawn(reader, |reader| {
            let found = snapshot::history_from(&reader.objects.table, 0);
            reader.objects.table.touch(Part::History);
            let first = found.first().map(|first| first.sequence);
            assert_eq!(first, Some(0), "nothing was overwritten, but the first end is missing");
        }),
    ]);
}

fn world_with_lifelines() -> Arc<World> {
    World::new(Form {
        lifelines: true,
        ..Form::default()
    })
}

/// The terms of a detached hold that is bound to a living process.
const DETACHED: Detached = Detached {
    pid: Some(BOUND.0),
    must_unget: false,
    ttl: None,
};
/// The id of a keeper whose beacon stays lit.
const KEEPER: u32 = 4;

/// A hold is kept by a command, then detached and bound to a process; then its owner exits. Nobody finds the hold gone.
fn detach_and_die() {
    let world = world_with_lifelines();
    let [a, b] = [1, 2].map(|id| Process::new(&world, id));
    let (i, _) = prepared(&a);
    finish([
        spawn(a, move |a| {
            a.real().keep(i, KEEPER);
            a.real().detach(i, DETACHED, BOUND.1);
            a.die();
        }),
        spawn(b, move |b| assert_eq!(b.real().is_gone(i), Ok(false), "it is kept")),
    ]);
}

/// A hold is detached and bound to a process: nobody sees it detached but not bound.
fn snapshot_of_a_detached_hold() {
    let world = world_with_lifelines();
    let [a, reader] = [1, 2].map(|id| Process::new(&world, id));
    let (i, _) = prepared(&a);
    finish([
        spawn(a, move |a| a.real().detach(i, DETACHED, BOUND.1)),
        spawn(reader, |reader| {
            for (_, _, holder) in snapshot::holders(&reader.objects) {
                let bound = holder.bound_pid.zip(holder.bound_start);
                assert!(bound.is_none_or(|bound| bound == BOUND), "{bound:?}");
                assert!(
                    !holder.detached || bound.is_some(),
                    "the hold seems to depend on nothing"
                );
            }
        }),
    ]);
}

/// A hold is detached, to expire by the clock of another time namespace, in a record last used from our own namespace.
fn expiry_of_another_clock() {
    let world = world_with_lifelines();
    let expires = Detached {
        ttl: Some(Duration::ZERO),
        ..Detached::default()
    };
    let [a, b, c] = [1, 2, 3].map(|id| Process::new(&world, id));
    let (i, word) = prepared(&a);
    a.real().detach(i, expires, 0);
    assert_eq!(queue::let_go(&a.real(), i, word), Ok(true));
    assert_eq!(prepared(&b).0, i);
    finish([
        spawn(b, move |b| {
            life::enter_time_namespace(2);
            b.real().detach(i, expires, 0);
        }),
        spawn(c, move |c| {
            assert_eq!(c.real().is_expired(i), Ok(false), "nobody here can tell")
        }),
    ]);
}

/// The note, byte by byte: a holder reads what the previous holder wrote.
fn note_of_the_last_holder() {
    use crate::lock::sys::atomic::AtomicU8;
    let world = world();
    let bytes: Arc<[AtomicU8; 2]> = Arc::new(["1st byte", "2nd byte"].map(|name| AtomicU8::modelled(name, 0)));
    let [a, b] = [1, 2].map(|id| Process::new(&world, id));
    let mine = prepared(&a);
    let (written, read) = (bytes.clone(), bytes);
    finish([
        spawn(a, move |a| {
            written.iter().for_each(|byte| byte.store(b'a', Relaxed));
            step(a, &Phase::LetGo { mine, visit: false });
        }),
        spawn(b, move |b| {
            if obtain(b, TRY, false).is_some() {
                assert!(read.iter().all(|byte| byte.load(Relaxed) == b'a'), "an older note");
            }
        }),
    ]);
}
