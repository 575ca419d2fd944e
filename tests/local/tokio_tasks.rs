//! Locks in asynchronous programs, under a real runtime, with one thread and with several.

use crate::common::TestLock;
use resourcelock::{Change, Detached, Ended, Error, GetOptions, Guard, Mode, Wait};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// One with the caller's thread alone, and one with threads of its own; neither has more than one for blocking work.
fn runtimes() -> [Runtime; 2] {
    [Builder::new_current_thread(), Builder::new_multi_thread()].map(|mut builder| {
        let builder = builder.worker_threads(2).max_blocking_threads(1).enable_all();
        builder.build().expect("a runtime starts")
    })
}

fn forever() -> GetOptions<'static> {
    GetOptions::new().wait(Wait::Forever)
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "not in a minute: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_wait_does_not_block_the_runtime() {
    for runtime in runtimes() {
        let lock = TestLock::new("tokio");
        let (one, other) = (lock.open(), lock.open());
        runtime.block_on(async {
            let text = format!("request {}", 1); // made at run time, as a service's is
            let held = one.acquire_async(forever().lock_info(text)).await;
            let held = held.unwrap().expect("it is free");
            assert!(one.get_lock_info().unwrap().ends_with(" - request 1"));
            let waiting = tokio::spawn(async move { other.acquire_async(forever()).await });
            until("it waits", || lock.state().waiters.len() == 1).await;
            // The runtime's only thread for blocking work is free for the holder.
            let token = tokio::task::spawn_blocking(move || held.token()).await.unwrap();
            let next = waiting.await.unwrap().unwrap().expect("it waits without limit");
            assert!(next.token() > token && next.lost().is_none());
            assert!(next.release_async().await.unwrap());
        });
        assert!(!lock.state().locked);
    }
}

#[test]
fn dropping_the_future_leaves_the_queue() {
    for runtime in runtimes() {
        let lock = TestLock::new("tokio");
        let (one, other) = (lock.open(), lock.open());
        runtime.block_on(async {
            let held = one.acquire().unwrap();
            for _ in 0..20 {
                let handle = other.clone();
                let waiting = tokio::spawn(async move { handle.acquire_async(forever()).await.map(drop) });
                until("it waits", || lock.state().waiters.len() == 1).await;
                waiting.abort();
                assert!(waiting.await.unwrap_err().is_cancelled());
                until("it has left the queue", || lock.state().waiters.is_empty()).await;
            }
            drop(held);
            let how: Vec<Ended> = one.history().unwrap().iter().map(|record| record.how).collect();
            assert_eq!(
                how.iter().filter(|how| **how == Ended::Cancelled).count(),
                20,
                "{how:?}"
            );
            assert!(other.try_acquire().unwrap().is_some(), "nothing is left held");
        });
    }
}

/// Dropped at any moment, also when it is just being granted.
#[test]
fn a_dropped_future_leaves_nothing_held() {
    for runtime in runtimes() {
        let lock = TestLock::new("tokio");
        let (one, other) = (lock.open(), lock.open());
        runtime.block_on(async {
            for step in 0..100_u64 {
                let held = one.acquire().unwrap();
                let handle = other.clone();
                let waiting = tokio::spawn(async move { handle.acquire_async(forever()).await.map(drop) });
                tokio::time::sleep(Duration::from_micros(step * 20)).await;
                drop(held);
                waiting.abort();
                let _ = waiting.await;
            }
            until("all is released", || {
                let state = lock.state();
                !state.locked && state.waiters.is_empty()
            })
            .await;
        });
    }
}

/// Also one that is to stay without a process, if its task never learns of it.
#[test]
fn a_dropped_future_releases_what_it_was_just_granted() {
    for runtime in runtimes() {
        let lock = TestLock::new("tokio");
        let (one, other) = (lock.open(), lock.open());
        runtime.block_on(async {
            for options in [forever(), forever().detached(Detached::default())] {
                let held = one.acquire().unwrap();
                let token = held.token();
                let mut waiting = Box::pin(other.acquire_async(options));
                let nothing = tokio::time::timeout(Duration::from_millis(1), &mut waiting).await;
                assert!(nothing.is_err());
                until("it waits", || lock.state().waiters.len() == 1).await;
                drop(held);
                until("it is granted", || {
                    let holders = lock.state().holders;
                    holders.iter().any(|holder| holder.token > Some(token))
                })
                .await;
                drop(waiting);
                until("it is released", || !lock.state().locked).await;
            }
            assert!(!one.try_acquire().unwrap().expect("it is free").abandoned());
        });
    }
}

#[test]
fn tasks_exclude_each_other() {
    for runtime in runtimes() {
        let lock = TestLock::new("tokio");
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        NUMBER.store(0, SeqCst);
        runtime.block_on(async {
            let mut tasks = Vec::new();
            for _ in 0..20 {
                let handle = lock.open();
                tasks.push(tokio::spawn(async move {
                    for _ in 0..10 {
                        let guard: Guard = handle.acquire_async(forever()).await.unwrap().expect("no limit");
                        let before = NUMBER.load(SeqCst);
                        tokio::task::yield_now().await;
                        NUMBER.store(before + 1, SeqCst);
                        drop(guard);
                    }
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert_eq!(NUMBER.load(SeqCst), 200);
    }
}

#[test]
fn in_time_or_not_and_errors() {
    for runtime in runtimes() {
        let lock = TestLock::new("tokio");
        let (one, other) = (lock.open(), lock.open());
        runtime.block_on(async {
            let held = one.acquire().unwrap();
            let now = GetOptions::new().wait(Wait::No);
            assert!(other.acquire_async(now.clone()).await.unwrap().is_none());
            let short = GetOptions::new().wait(Wait::For(Duration::from_millis(20)));
            assert!(other.acquire_async(short).await.unwrap().is_none());
            let again = now.clone().same_process_ok(true);
            let shared = one.acquire_async(again).await.unwrap().expect("it has it already");
            assert_eq!(shared.token(), held.token());
            let none = other.acquire_async(now.mode(Mode::Slots(0))).await;
            assert!(matches!(none, Err(Error::NoSlots)), "{none:?}");
        });
        // The first look of a task leaves no trace: one refusal, one time-out.
        let counters = one.state().unwrap().counters.unwrap();
        assert_eq!((counters.timeouts, counters.conflicts), (2, 2));
    }
}

#[test]
fn a_panic_while_it_waits_is_the_tasks() {
    for runtime in runtimes() {
        let lock = TestLock::new("tokio");
        let (one, other) = (lock.open(), lock.open());
        runtime.block_on(async {
            let _held = one.acquire().unwrap();
            let options = forever().on_wait(Duration::from_millis(1), |_| panic!("on purpose"));
            let waiting = tokio::spawn(async move { other.acquire_async(options).await.map(drop) });
            assert!(waiting.await.unwrap_err().is_panic());
            until("it has left the queue", || lock.state().waiters.is_empty()).await;
        });
    }
}

#[test]
fn changes_are_a_stream() {
    for runtime in runtimes() {
        let lock = TestLock::new("tokio");
        let handle = lock.open();
        runtime.block_on(async {
            let mut changes = handle.changes().await.unwrap();
            let token = handle.acquire().unwrap().token();
            let granted = changes.next().await.expect("it goes on").unwrap();
            assert!(matches!(granted, Change::Granted(holder) if holder.token == Some(token)));
            let ended = changes.next().await.expect("it goes on").unwrap();
            assert!(matches!(ended, Change::Ended(record) if record.how == Ended::Released));
            // It may be given up in the middle of a wait.
            let nothing = tokio::time::timeout(Duration::from_millis(20), changes.next()).await;
            assert!(nothing.is_err());
            drop(handle.acquire().unwrap());
            assert!(matches!(changes.next().await, Some(Ok(Change::Granted(_)))));
        });
    }
}
