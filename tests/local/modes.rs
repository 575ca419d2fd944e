//! Exclusive, shared, slots; waiting, time limits, cancelling; tokens; what the next holder is told: each actor is a
//! separate process.

use crate::common::worker::{Hands, Skill};
use crate::common::{Ask, TestLock, Worker, wait_until};
use nix::sys::signal::Signal;
use resourcelock::{Cancel, Error, GetOptions, Mode, ResourceLock, UngetOptions, Wait};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

static CANCEL: Cancel = Cancel::new();

/// Waits without a limit until the handler of SIGUSR1 ends the wait. The only way to test what a signal handler may do
/// is to be one.
fn get_until_signal(hands: &mut Hands, _: &[Value]) -> Value {
    extern "C" fn handler(_: i32) {
        CANCEL.cancel();
    }
    let action = nix::sys::signal::SigAction::new(
        nix::sys::signal::SigHandler::Handler(handler),
        nix::sys::signal::SaFlags::SA_RESTART,
        nix::sys::signal::SigSet::empty(),
    );
    // SAFETY: the handler calls nothing but `Cancel::cancel`, which is documented to be allowed there.
    #[allow(unsafe_code)]
    unsafe { nix::sys::signal::sigaction(Signal::SIGUSR1, &action) }.expect("a handler can be set");
    hands.get_unless(&CANCEL)
}

/// Further requests that this file's workers understand.
pub const SKILLS: &[(&str, Skill)] = &[("get_until_signal", get_until_signal)];

fn waiting(lock: &TestLock) -> usize {
    lock.state().waiters.len()
}

fn wait_for_waiters(lock: &TestLock, n: usize) {
    wait_until("the requests are in the queue", || waiting(lock) == n);
}

#[test]
fn exclusive_excludes_every_mode() {
    let lock = TestLock::new("modes");
    let (mut one, mut other) = (Worker::open(&lock), Worker::open(&lock));
    assert!(one.get(Ask::now()).is_some());
    for mode in [Mode::Exclusive, Mode::Shared, Mode::Slots(3)] {
        let ask = Ask {
            mode: Some(mode),
            ..Ask::now()
        };
        assert_eq!(other.get(ask), None, "{mode:?}");
    }
    assert!(one.release());
    assert!(other.get(Ask::now()).is_some());
    assert_eq!(one.get(Ask::now()), None);
}

#[test]
fn readers_share_and_keep_writers_out() {
    let lock = TestLock::new("modes");
    let mut readers: Vec<Worker> = (0..3).map(|_| Worker::open(&lock)).collect();
    let mut writer = Worker::open(&lock);
    for reader in &mut readers {
        assert!(reader.get(Ask::mode(Mode::Shared)).is_some());
    }
    assert_eq!(lock.state().holders.len(), 3);
    assert_eq!(writer.get(Ask::now()), None);
    let counting = Ask {
        mode: Some(Mode::Slots(2)),
        ..Ask::now()
    };
    assert_eq!(writer.get(counting), None, "a slot beside readers");
    writer.send_get(Ask::default());
    wait_for_waiters(&lock, 1);
    for reader in &mut readers {
        assert_eq!(writer.try_granted(), None, "while a reader is left");
        assert!(reader.release());
    }
    assert!(writer.granted().is_some());
}

#[test]
fn readers_do_not_overtake_a_waiting_writer() {
    let lock = TestLock::new("modes");
    let [mut early, mut writer, mut late, mut later] = [0; 4].map(|_| Worker::open(&lock));
    assert!(early.get(Ask::mode(Mode::Shared)).is_some());
    writer.send_get(Ask::default());
    wait_for_waiters(&lock, 1);
    late.send_get(Ask::mode(Mode::Shared));
    wait_for_waiters(&lock, 2);
    let shared_now = Ask {
        mode: Some(Mode::Shared),
        ..Ask::now()
    };
    assert_eq!(later.get(shared_now), None, "not even one that does not wait");
    later.send_get(Ask::mode(Mode::Shared));
    wait_for_waiters(&lock, 3);
    assert_eq!(lock.state().holders.len(), 1);

    assert!(early.release());
    let writer_has = writer.granted().expect("the writer's turn");
    assert_eq!(waiting(&lock), 2);
    assert!(writer.release());
    let (a, b) = (late.granted().expect("a reader"), later.granted().expect("a reader"));
    assert!(writer_has.token < a.token.min(b.token));
    assert_eq!(lock.state().holders.len(), 2, "both readers at once");
}

#[test]
fn readers_behind_a_writer_that_gives_up_go_on_at_once() {
    let lock = TestLock::new("modes");
    let [mut early, mut writer, mut late] = [0; 3].map(|_| Worker::open(&lock));
    assert!(early.get(Ask::mode(Mode::Shared)).is_some());
    writer.send_get(Ask {
        wait: Some(2000),
        ..Ask::default()
    });
    wait_for_waiters(&lock, 1);
    late.send_get(Ask::mode(Mode::Shared));
    assert_eq!(writer.granted(), None, "its time was up");
    assert!(late.granted().is_some(), "beside the first reader");
    assert_eq!(lock.state().holders.len(), 2);
}

#[test]
fn slots_count() {
    let lock = TestLock::new("modes");
    let mut workers: Vec<Worker> = (0..4).map(|_| Worker::open(&lock)).collect();
    let three = Ask::mode(Mode::Slots(3));
    for worker in &mut workers[..3] {
        assert!(worker.get(three).is_some());
    }
    assert_eq!(lock.state().slots, Some(3));
    workers[3].send_get(three);
    wait_for_waiters(&lock, 1);
    assert_eq!(lock.state().holders.len(), 3);
    assert!(workers[1].release());
    assert!(workers[3].granted().is_some());
    assert_eq!(lock.state().holders.len(), 3);
}

#[test]
fn another_number_of_slots_is_refused_while_anyone_uses_the_lock() {
    let lock = TestLock::new("modes");
    let [mut one, mut other, mut waiter] = [0; 3].map(|_| Worker::open(&lock));
    assert!(one.get(Ask::mode(Mode::Slots(2))).is_some());
    let text = other.refused(Ask::mode(Mode::Slots(5)));
    assert!(text.contains('2') && text.contains('5'), "names both numbers: {text}");
    assert!(other.get(Ask::mode(Mode::Slots(2))).is_some());

    // A waiting request counts as use, too.
    waiter.send_get(Ask::mode(Mode::Slots(2)));
    wait_for_waiters(&lock, 1);
    assert!(one.release());
    assert!(waiter.granted().is_some());
    assert!(other.release() && waiter.release());
    assert!(one.get(Ask::mode(Mode::Slots(5))).is_some(), "nobody uses it any more");
    assert!(one.release());
}

#[test]
fn slots_differ_is_an_error_of_its_own() {
    let lock = TestLock::new("modes");
    let (one, other) = (lock.open(), lock.open());
    let _held = one
        .acquire_with(&GetOptions::new().mode(Mode::Slots(2)))
        .unwrap()
        .unwrap();
    let error = other.acquire_with(&GetOptions::new().mode(Mode::Slots(7)));
    assert!(
        matches!(error, Err(Error::SlotsDiffer { asked: 7, in_use: 2 })),
        "{error:?}"
    );
}

#[test]
fn a_slot_user_waits_for_an_exclusive_hold() {
    let lock = TestLock::new("modes");
    let [mut one, mut other] = [0; 2].map(|_| Worker::open(&lock));
    assert!(one.get(Ask::default()).is_some());
    other.send_get(Ask::mode(Mode::Slots(2)));
    wait_for_waiters(&lock, 1);
    assert!(one.release());
    assert!(other.granted().is_some());
}

#[test]
fn two_handles_in_one_process_compete() {
    let lock = TestLock::new("modes");
    let (one, other) = (lock.open(), lock.open());
    let held = one.acquire().unwrap();
    assert!(other.try_acquire().unwrap().is_none());
    assert!(
        !other.unget_lock(UngetOptions::new()).unwrap(),
        "not the other handle's to release"
    );
    assert!(one.is_held(held.token()).unwrap() && other.is_held(held.token()).unwrap());
    assert!(one.have_the_lock() && !other.have_the_lock());
    drop(held);
    assert!(other.try_acquire().unwrap().is_some());
}

#[test]
fn same_process_ok_takes_nothing_twice() {
    let lock = TestLock::new("modes");
    let one = lock.open();
    assert!(one.get_lock(&GetOptions::new()).unwrap());
    let token = one.token();
    assert!(
        !one.get_lock(&GetOptions::new().wait(Wait::No)).unwrap(),
        "without it, it competes with itself"
    );
    assert!(
        one.get_lock(&GetOptions::new().same_process_ok(true).wait(Wait::No))
            .unwrap()
    );
    assert_eq!(one.token(), token);
    assert!(one.unget_lock(UngetOptions::new()).unwrap());
    assert!(!one.have_the_lock() && !one.is_locked().unwrap());
}

#[test]
fn threads_share_a_handle() {
    const THREADS: usize = 6;
    const ROUNDS: usize = 300;
    let lock = TestLock::new("modes");
    let handle = lock.open();
    // Not one atomic step: with two threads inside, counts would get lost.
    let (count, tokens) = (
        std::sync::atomic::AtomicUsize::new(0),
        std::sync::Mutex::new(Vec::new()),
    );
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let guard = handle.acquire().unwrap();
                    let now = count.load(std::sync::atomic::Ordering::Relaxed);
                    std::thread::yield_now();
                    count.store(now + 1, std::sync::atomic::Ordering::Relaxed);
                    tokens.lock().unwrap().push(guard.token());
                    assert!(guard.release().unwrap(), "this thread's own hold");
                }
            });
        }
    });
    assert_eq!(count.into_inner(), THREADS * ROUNDS);
    let tokens = tokens.into_inner().unwrap();
    assert!(
        tokens.is_sorted_by(|a, b| a < b),
        "each grant's token is larger than the last"
    );
    assert_eq!(lock.state().counters.unwrap().acquisitions, (THREADS * ROUNDS) as u64);
}

#[test]
fn time_limits_are_kept() {
    let lock = TestLock::new("modes");
    let (one, other) = (lock.open(), lock.open());
    let _held = one.acquire().unwrap();
    for queue_at_once in [false, true] {
        for ms in [0, 1, 30, 250] {
            let limit = Duration::from_millis(ms);
            let options = || GetOptions::new().queue_at_once(queue_at_once);
            let start = Instant::now();
            let wait = if ms == 0 { Wait::No } else { Wait::For(limit) };
            assert!(!other.get_lock(&options().wait(wait)).unwrap());
            assert!(start.elapsed() >= limit, "gave up {ms} ms too early");
            assert!(other.acquire_with(&options().wait(wait)).unwrap().is_none());
        }
    }
    assert!(
        other.state().unwrap().waiters.is_empty(),
        "who gave up has left the queue"
    );
    assert_eq!(other.state().unwrap().counters.unwrap().timeouts, 16);
    assert_eq!(other.state().unwrap().counters.unwrap().consecutive_timeouts, 16);
}

#[test]
fn a_wait_without_limit_ends_with_the_lock() {
    let lock = TestLock::new("modes");
    let [mut one, mut other] = [0; 2].map(|_| Worker::open(&lock));
    assert!(one.get(Ask::default()).is_some());
    other.send_get(Ask::default());
    wait_for_waiters(&lock, 1);
    // Longer than the library's default of one second.
    wait_until("it has waited for a while", || {
        lock.state().waiters[0].waited > Some(Duration::from_millis(1500))
    });
    assert_eq!(other.try_granted(), None);
    assert!(one.release());
    assert!(other.granted().is_some());
}

#[test]
fn another_thread_cancels_a_wait() {
    let lock = TestLock::new("modes");
    let (one, other, cancel) = (lock.open(), lock.open(), Cancel::new());
    let held = one.acquire().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| other.get_lock(&GetOptions::new().wait(Wait::Forever).cancel(&cancel)));
        wait_for_waiters(&lock, 1);
        cancel.cancel();
        let result = waiter.join().unwrap();
        assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    });
    assert_eq!(waiting(&lock), 0, "it has left the queue");
    let again = other.get_lock(&GetOptions::new().cancel(&cancel));
    assert!(
        matches!(again, Err(Error::Cancelled)),
        "once cancelled, for good: {again:?}"
    );
    drop(held);
    assert!(other.get_lock(&GetOptions::new()).unwrap());
}

#[test]
fn a_signal_handler_cancels_a_wait() {
    let lock = TestLock::new("modes");
    let [mut one, mut other] = [0; 2].map(|_| Worker::open(&lock));
    assert!(one.get(Ask::default()).is_some());
    other.send(json!(["get_until_signal"]));
    wait_for_waiters(&lock, 1);
    other.signal(Signal::SIGUSR1);
    let answer = other.answer();
    assert!(
        answer["refused"]
            .as_str()
            .is_some_and(|text| text.contains("cancelled")),
        "{answer}"
    );
    assert_eq!(waiting(&lock), 0);
}

#[test]
fn on_wait_is_told_who_holds() {
    let lock = TestLock::new("modes");
    let mut holder = Worker::open(&lock);
    assert!(holder.get(Ask::default()).is_some());
    let (handle, told) = (lock.open(), std::sync::Mutex::new(Vec::new()));
    let options = GetOptions::new().wait(Wait::For(Duration::from_secs(2)));
    let had = handle.get_lock(&options.on_wait(Duration::from_millis(50), |state| {
        told.lock().unwrap().push(state.clone())
    }));
    assert!(!had.unwrap());
    let told = told.into_inner().unwrap();
    assert_eq!(told.len(), 1, "once");
    assert_eq!(told[0].holders[0].requester.pid, Some(holder.id()));
    assert_eq!(told[0].waiters[0].requester.pid, Some(std::process::id()));
    assert!(told[0].waiters[0].waited >= Some(Duration::from_millis(50)));
}

#[test]
fn tokens_grow_across_everything() {
    let lock = TestLock::new("modes");
    let mut tokens = Vec::new();
    let mut workers: Vec<Worker> = (0..3).map(|_| Worker::open(&lock)).collect();
    for mode in [Mode::Exclusive, Mode::Shared, Mode::Slots(3)] {
        for worker in &mut workers {
            tokens.push(worker.get(Ask::mode(mode)).expect("free").token);
            if mode == Mode::Exclusive {
                assert!(worker.release());
            }
        }
        if mode != Mode::Exclusive {
            workers.iter_mut().for_each(|worker| assert!(worker.release()));
        }
    }
    // A queued grant, a forced release, a death, a detached hold.
    let (mut one, mut other) = (workers.pop().unwrap(), workers.pop().unwrap());
    tokens.push(one.get(Ask::default()).unwrap().token);
    other.send_get(Ask::default());
    wait_for_waiters(&lock, 1);
    assert!(one.release());
    tokens.push(other.granted().unwrap().token);
    assert_eq!(one.ask(json!(["force"])), json!(true));
    tokens.push(one.get(Ask::now()).unwrap().token);
    one.kill();
    let after_death = workers[0].get(Ask::default()).unwrap();
    assert!(after_death.abandoned);
    tokens.push(after_death.token);
    assert!(workers[0].release());
    assert!(
        lock.open()
            .get_lock(&GetOptions::new().detached(Default::default()))
            .unwrap()
    );
    tokens.push(lock.state().holders[0].token.expect("ours"));
    assert!(lock.open().unget_lock(UngetOptions::new().force(true)).unwrap());
    // And when all objects are re-created.
    drop(workers);
    assert_eq!(
        resourcelock::remove(lock.name(), false).unwrap(),
        resourcelock::Removed::Lock
    );
    tokens.push(Worker::open(&lock).get(Ask::now()).unwrap().token);
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

#[test]
fn is_held_knows_a_token_until_its_end() {
    let lock = TestLock::new("modes");
    let [mut one, mut other] = [0; 2].map(|_| Worker::open(&lock));
    let grant = one.get(Ask::default()).unwrap();
    assert_eq!(other.ask(json!(["is_held", grant.token])), json!(true));
    assert_eq!(other.ask(json!(["is_held", grant.token + 1])), json!(false));
    assert!(one.release());
    assert_eq!(other.ask(json!(["is_held", grant.token])), json!(false));
    let again = one.get(Ask::default()).unwrap();
    one.kill();
    assert_eq!(
        other.ask(json!(["is_held", again.token])),
        json!(false),
        "its holder is dead"
    );
}

#[test]
fn a_death_is_told_until_somebody_says_that_it_is_repaired() {
    let lock = TestLock::new("modes");
    let [mut dying, mut one] = [0; 2].map(|_| Worker::open(&lock));
    let token = dying.get(Ask::default()).unwrap().token;
    dying.kill();
    assert!(
        one.get(Ask::now()).unwrap().abandoned,
        "even a request that does not wait is told"
    );
    assert_eq!(lock.state().abandoned, Some(token));
    assert!(one.release());
    assert!(one.get(Ask::now()).unwrap().abandoned, "kept");
    assert_eq!(one.ask(json!(["release_recovered"])), json!(true));
    assert_eq!(lock.state().abandoned, None);
    assert!(!one.get(Ask::now()).unwrap().abandoned);
    assert!(one.release());
    assert_eq!(lock.state().counters.unwrap().abandoned, 1);
    let ends: Vec<_> = lock
        .open()
        .history()
        .unwrap()
        .iter()
        .map(|record| (record.token, record.how))
        .collect();
    assert_eq!(ends[0], (Some(token), resourcelock::Ended::Abandoned));
}

#[test]
fn a_forced_release_clears_the_mark_of_a_death() {
    let lock = TestLock::new("modes");
    let [mut dying, mut one] = [0; 2].map(|_| Worker::open(&lock));
    dying.get(Ask::default()).unwrap();
    dying.kill();
    assert!(one.get(Ask::now()).unwrap().abandoned);
    assert!(one.release());
    assert!(lock.state().abandoned.is_some());
    let _ = one.ask(json!(["force"])); // it is free: nothing to release, but somebody has looked after it
    assert_eq!(lock.state().abandoned, None);
    assert!(!one.get(Ask::now()).unwrap().abandoned);
}

#[test]
fn a_holder_that_dies_twice_over_is_marked_anew() {
    let lock = TestLock::new("modes");
    let [mut first, mut second, mut third] = [0; 3].map(|_| Worker::open(&lock));
    first.get(Ask::default()).unwrap();
    first.kill();
    let again = second.get(Ask::now()).unwrap();
    assert!(again.abandoned);
    second.kill();
    assert!(third.get(Ask::now()).unwrap().abandoned);
    assert_eq!(lock.state().abandoned, Some(again.token));
    assert_eq!(lock.state().counters.unwrap().abandoned, 2);
}

#[test]
fn a_forced_release_ends_every_hold_and_its_holders_notice() {
    let lock = TestLock::new("modes");
    let [mut one, mut other, mut third] = [0; 3].map(|_| Worker::open(&lock));
    assert!(one.get(Ask::mode(Mode::Shared)).is_some() && other.get(Ask::mode(Mode::Shared)).is_some());
    assert_eq!(third.ask(json!(["force"])), json!(true));
    assert_eq!(third.ask(json!(["force"])), json!(false), "nothing left to release");
    assert_eq!(one.ask(json!(["lost"])), json!("forced"));
    assert_eq!(other.ask(json!(["have"])), json!(false));
    assert!(third.get(Ask::now()).is_some());
    assert!(!one.release() && !other.release(), "ignored: it is another's now");
    assert_eq!(third.ask(json!(["lost"])), json!("held"));
    assert_eq!(lock.state().counters.unwrap().forced, 2);
}

#[test]
fn a_dropped_guard_and_a_closed_handle_release() {
    let lock = TestLock::new("modes");
    let handle = lock.open();
    drop(handle.acquire().unwrap());
    assert!(!lock.state().locked);
    assert!(handle.get_lock(&GetOptions::new()).unwrap());
    handle.close();
    assert!(!lock.state().locked);
    let other = ResourceLock::open(lock.name()).unwrap();
    assert!(other.get_lock(&GetOptions::new()).unwrap());
    drop(other);
    assert!(!lock.state().locked);
}
