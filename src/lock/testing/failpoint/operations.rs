//! The operations. Each of their actions is a point at which their process dies or stops.

use crate::{Detached, GetOptions, Mode, ResourceLock, UngetOptions, Wait};
use std::time::Duration;

/// Something that a process does to a lock, and what there is around it.
pub(super) struct Operation {
    pub(super) name: &'static str,
    /// The test holds the lock before, and releases it when the child waits or is gone.
    pub(super) contended: bool,
    /// The requests of others that wait when the operation begins.
    pub(super) waiters: &'static [Mode],
    /// Which processes die first.
    pub(super) dead: Dead,
    /// A foreign process waits for the semaphore.
    pub(super) foreign_waiter: bool,
    /// What the child does before the points count.
    pub(super) prepare: fn(&ResourceLock),
    /// What it does while they count.
    pub(super) perform: fn(&ResourceLock),
}

#[derive(PartialEq)]
pub(super) enum Dead {
    Nobody,
    /// One while it holds the lock, and one while it waits behind that.
    HolderAndWaiter,
    /// One inside the latch, before this action of an exclusive `get`.
    InLatch(u32),
}

pub(super) fn now() -> GetOptions<'static> {
    GetOptions::new().wait(Wait::No)
}

pub(super) fn forever() -> GetOptions<'static> {
    GetOptions::new().wait(Wait::Forever).queue_at_once(true)
}

pub(super) fn must_get(lock: &ResourceLock) {
    assert!(lock.get_lock(&forever()).unwrap());
}

fn may_get(lock: &ResourceLock) {
    let _ = lock.get_lock(&now()).unwrap();
}

pub(super) fn unget(lock: &ResourceLock) {
    assert!(lock.unget_lock(UngetOptions::new()).unwrap());
}

fn nothing(_: &ResourceLock) {}

const PLAIN: Operation = Operation {
    name: "",
    contended: false,
    waiters: &[],
    dead: Dead::Nobody,
    foreign_waiter: false,
    prepare: nothing,
    perform: nothing,
};

fn operations() -> Vec<Operation> {
    const E: Mode = Mode::Exclusive;
    const S: Mode = Mode::Shared;
    vec![
        Operation {
            name: "get",
            perform: must_get,
            ..PLAIN
        },
        Operation {
            name: "queue_and_accept",
            contended: true,
            perform: must_get,
            ..PLAIN
        },
        Operation {
            name: "withdraw",
            contended: true,
            perform: |lock| {
                let options = forever().wait(Wait::For(Duration::from_millis(3)));
                let _ = lock.get_lock(&options).unwrap();
            },
            ..PLAIN
        },
        Operation {
            name: "unget",
            prepare: must_get,
            perform: unget,
            ..PLAIN
        },
        Operation {
            name: "hand_over",
            waiters: &[E, E],
            prepare: must_get,
            perform: unget,
            ..PLAIN
        },
        Operation {
            name: "dispatch_to_many",
            waiters: &[S, S, S, E, S],
            prepare: must_get,
            perform: unget,
            ..PLAIN
        },
        Operation {
            name: "dispatch_slots",
            waiters: &[Mode::Slots(2), Mode::Slots(2), Mode::Slots(2)],
            prepare: must_get,
            perform: unget,
            ..PLAIN
        },
        // Others have the holder watched, or each other, and do not look besides.
        Operation {
            name: "tell_next",
            waiters: &[E, E, E],
            prepare: must_get,
            perform: unget,
            ..PLAIN
        },
        Operation {
            name: "tell_sharers",
            waiters: &[S, S, S, E, S],
            prepare: must_get,
            perform: unget,
            ..PLAIN
        },
        Operation {
            name: "grow_records",
            prepare: |lock| (0..21).for_each(|_| assert!(lock.get_lock(&forever().mode(S)).unwrap())),
            perform: |lock| assert!(lock.get_lock(&forever().mode(S)).unwrap()),
            ..PLAIN
        },
        Operation {
            name: "grow_history",
            prepare: |lock| {
                for _ in 0..23 {
                    must_get(lock);
                    unget(lock);
                }
            },
            perform: |lock| {
                must_get(lock);
                unget(lock);
            },
            ..PLAIN
        },
        Operation {
            name: "first_refusal",
            contended: true,
            perform: may_get,
            ..PLAIN
        },
        Operation {
            name: "repair",
            dead: Dead::HolderAndWaiter,
            perform: |lock| lock.repair().unwrap(),
            ..PLAIN
        },
        Operation {
            name: "get_after_a_death",
            dead: Dead::HolderAndWaiter,
            perform: must_get,
            ..PLAIN
        },
        Operation {
            name: "take_over_early",
            dead: Dead::InLatch(4),
            perform: must_get,
            ..PLAIN
        },
        Operation {
            name: "take_over_late",
            dead: Dead::InLatch(9),
            perform: must_get,
            ..PLAIN
        },
        Operation {
            name: "force",
            contended: true,
            waiters: &[E, S],
            perform: |lock| {
                lock.unget_lock(UngetOptions::new().force(true)).unwrap();
            },
            ..PLAIN
        },
        Operation {
            name: "foreign_turn",
            foreign_waiter: true,
            perform: |lock| {
                for _ in 0..10 {
                    must_get(lock);
                    unget(lock);
                }
            },
            ..PLAIN
        },
        Operation {
            name: "get_detached",
            perform: |lock| {
                let on_behalf = Detached {
                    pid: Some(std::process::id()),
                    ttl: Some(Duration::from_secs(3600)),
                    ..Detached::default()
                };
                assert!(lock.get_lock(&now().detached(on_behalf)).unwrap());
            },
            ..PLAIN
        },
        Operation {
            name: "wait_detached",
            contended: true,
            perform: |lock| {
                let on_behalf = Detached {
                    pid: Some(std::process::id()),
                    ttl: None,
                    ..Detached::default()
                };
                assert!(lock.get_lock(&forever().detached(on_behalf)).unwrap());
            },
            ..PLAIN
        },
        Operation {
            name: "linger",
            perform: |lock| {
                let mut guard = lock.acquire_with(&now()).unwrap().unwrap();
                guard.mark_crashed();
                guard.linger(Duration::from_secs(3600)).unwrap();
            },
            ..PLAIN
        },
        Operation {
            name: "remove",
            perform: |lock| {
                crate::remove(lock.name().as_str(), false).unwrap();
            },
            ..PLAIN
        },
        Operation {
            name: "sweep_expired",
            prepare: |lock| {
                let soon = Detached {
                    ttl: Some(Duration::from_nanos(1)),
                    ..Detached::default()
                };
                assert!(lock.get_lock(&now().detached(soon)).unwrap());
            },
            perform: may_get,
            ..PLAIN
        },
    ]
}

pub(super) fn operation(name: &str) -> Operation {
    let found = operations().into_iter().find(|operation| operation.name == name);
    found.unwrap_or_else(|| panic!("no operation {name}"))
}
