//! The lock's objects are deleted while it is in use: by an administrator, or at logout by systemd's RemoveIPC. Never
//! do two processes believe that they hold the lock which is now at the path; waiters ask for the new one.

use crate::common::{Ask, TestLock, Worker, wait_until};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Gone {
    Flag,
    Table,
    Note,
    All,
}

impl Gone {
    const EACH: [Self; 4] = [Self::Flag, Self::Table, Self::Note, Self::All];

    fn paths(self, lock: &TestLock) -> Vec<PathBuf> {
        let name = lock.paths();
        match self {
            Self::Flag => vec![name.semaphore_path()],
            Self::Table => vec![name.table_path()],
            Self::Note => vec![name.note_path()],
            Self::All => vec![name.semaphore_path(), name.table_path(), name.note_path()],
        }
    }

    fn delete(self, lock: &TestLock) {
        for path in self.paths(lock) {
            // The note may be missing since an earlier deletion: open handles do without it.
            if std::fs::remove_file(&path).is_err() {
                assert_eq!(path, lock.paths().note_path());
            }
        }
    }

    /// True if what is now at the lock's paths is another lock.
    fn replaces(self) -> bool {
        self != Self::Note
    }
}

/// How many of them believe that they hold the lock at the path.
fn believers(workers: &mut [&mut Worker]) -> usize {
    let believes = |worker: &mut &mut Worker| worker.ask(json!(["lost"])) == json!("held");
    workers
        .iter_mut()
        .filter_map(|worker| believes(worker).then_some(()))
        .count()
}

#[test]
fn while_it_is_free() {
    for gone in Gone::EACH {
        let lock = TestLock::new("deleted");
        let [mut one, mut other] = [0; 2].map(|_| Worker::open(&lock));
        let before = one.get(Ask::now()).unwrap();
        assert!(one.release());
        gone.delete(&lock);
        let grant = one.get(Ask::now()).unwrap_or_else(|| panic!("{gone:?}: had afresh"));
        assert!(grant.token > before.token, "{gone:?}: tokens go on growing");
        assert_eq!(
            other.get(Ask::now()),
            None,
            "{gone:?}: the other handle finds the new lock"
        );
        let mut late = Worker::open(&lock);
        assert_eq!(late.get(Ask::now()), None, "{gone:?}: so does a new one");
        assert_eq!(one.ask(json!(["lost"])), json!("held"), "{gone:?}");
        assert!(one.release());
        assert!(other.get(Ask::now()).is_some_and(|grant| !grant.abandoned), "{gone:?}");
    }
}

#[test]
fn while_it_is_held() {
    for gone in Gone::EACH {
        let lock = TestLock::new("deleted");
        let [mut holder, mut other] = [0; 2].map(|_| Worker::open(&lock));
        let held = holder.get(Ask::default()).unwrap();
        gone.delete(&lock);
        let expected = if gone.replaces() { "replaced" } else { "held" };
        assert_eq!(holder.ask(json!(["lost"])), json!(expected), "{gone:?}");
        // The table or the flag alone still shows that the lock is taken; without both, a held lock has been deleted.
        let next = other.get(Ask::now());
        assert_eq!(next.is_some(), gone == Gone::All, "{gone:?}");
        assert!(believers(&mut [&mut holder, &mut other]) <= 1, "{gone:?}");
        assert!(next.is_none_or(|next| next.token > held.token), "{gone:?}");
        let _ = holder.ask(json!(["release"]));
        if next.is_none() {
            let next = other
                .get(Ask::default())
                .unwrap_or_else(|| panic!("{gone:?}: free now"));
            assert!(next.token > held.token, "{gone:?}");
        }
        assert_eq!(other.ask(json!(["lost"])), json!("held"), "{gone:?}");
        let mut late = Worker::open(&lock);
        assert_eq!(
            late.get(Ask::now()),
            None,
            "{gone:?}: the old holder's release did not free the new lock"
        );
        assert!(other.release() && late.get(Ask::now()).is_some(), "{gone:?}");
    }
}

#[test]
fn while_it_is_waited_for() {
    for gone in Gone::EACH {
        let lock = TestLock::new("deleted");
        let [mut holder, mut first, mut second] = [0; 3].map(|_| Worker::open(&lock));
        holder.get(Ask::default()).unwrap();
        for (n, waiter) in [&mut first, &mut second].into_iter().enumerate() {
            waiter.send_get(Ask::default());
            wait_until("it waits", || lock.state().waiters.len() == n + 1);
        }
        gone.delete(&lock);
        if gone == Gone::All {
            // Nobody has the new lock, so one of them gets it, whatever the old holder does.
            wait_until("the waiters have asked for the new lock", || {
                lock.objects().len() == 3 && lock.state().waiters.len() == 1
            });
            assert_eq!(holder.ask(json!(["lost"])), json!("replaced"));
        }
        let _ = holder.ask(json!(["release"]));
        let mut pending = vec![first, second];
        let mut last = 0;
        while !pending.is_empty() {
            let mut answer = None;
            wait_until("one of them has it", || {
                answer = pending
                    .iter_mut()
                    .enumerate()
                    .find_map(|(at, waiter)| waiter.try_granted().map(|grant| (at, grant.expect("no limit"))));
                answer.is_some()
            });
            let (at, grant) = answer.expect("one has it");
            let mut next = pending.swap_remove(at);
            assert!(grant.token > last, "{gone:?}");
            last = grant.token;
            assert_eq!(next.ask(json!(["lost"])), json!("held"), "{gone:?}");
            assert_eq!(holder.get(Ask::now()), None, "{gone:?}: it is the next one's");
            for waiter in &mut pending {
                assert_eq!(waiter.try_granted(), None, "{gone:?}: one at a time");
            }
            assert!(next.release(), "{gone:?}");
        }
        let state = lock.state();
        assert!(
            !state.locked && state.value == 1 && state.waiters.is_empty(),
            "{gone:?}: {state:?}"
        );
    }
}

/// The same over many rounds, in which each holder finds out for itself.
#[test]
fn again_and_again_under_load() {
    let lock = TestLock::new("deleted");
    let mut workers: Vec<Worker> = (0..3).map(|_| Worker::open(&lock)).collect();
    for round in 0..40 {
        let gone = Gone::EACH[round % 4];
        for worker in &mut workers {
            worker.send_get(Ask::default());
        }
        wait_until("all have asked", || {
            let state = lock.state();
            state.holders.len() + state.waiters.len() == 3
        });
        gone.delete(&lock);
        let mut left: Vec<&mut Worker> = workers.iter_mut().collect();
        let mut holding: Vec<&mut Worker> = Vec::new();
        // Only the process that had it before the deletion may still hold the old lock.
        while !left.is_empty() {
            wait_until("somebody is granted the lock", || {
                let answered = left.iter_mut().position(|worker| worker.try_granted().is_some());
                if let Some(at) = answered {
                    holding.push(left.swap_remove(at));
                }
                answered.is_some()
            });
            assert!(believers(&mut holding) <= 1, "round {round}, {gone:?}");
            for holder in holding.drain(..) {
                assert!(matches!(holder.ask(json!(["release"])), Value::Bool(_)));
            }
        }
    }
    assert!(!lock.state().locked);
    assert_eq!(lock.flag_word().value, 1);
}
