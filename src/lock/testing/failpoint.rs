//! Points at which a test makes a process die or stop: before each single action that changes a lock's objects.
//!
//! There is one child process for each number n: it performs an operation and dies before its n-th action (or, beyond
//! the last one, after all of them). Then the others go on: every waiter is served, no holds overlap, a new handle
//! acquires the lock, tokens have grown, and nothing is left over.

use nix::sys::signal::{Signal, raise};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};

/// Actions since [`arm`].
static PASSED: AtomicU32 = AtomicU32::new(0);
/// The action before which the signal comes; 0 = none.
static AT: AtomicU32 = AtomicU32::new(0);
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// Called before each action.
pub(crate) fn here() {
    if PASSED.fetch_add(1, SeqCst) + 1 == AT.load(SeqCst)
        && let Ok(signal) = Signal::try_from(SIGNAL.load(SeqCst))
    {
        let _ = raise(signal);
    }
}

/// From now on: `signal` comes before action `at`.
fn arm(at: u32, signal: Signal) {
    SIGNAL.store(signal as i32, SeqCst);
    PASSED.store(0, SeqCst);
    AT.store(at, SeqCst);
}

#[cfg(test)]
mod operations;

#[cfg(test)]
mod tests {
    use super::operations::{Dead, Operation, forever, must_get, now, operation, unget};
    use super::*;
    use crate::lock::acquire::handle::visit_now;
    use crate::lock::protocol::queue::Sweep;
    use crate::{GetOptions, Mode, ResourceLock, State, UngetOptions, Wait};
    use nix::sys::signal::kill;
    use nix::unistd::Pid;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, ChildStdin, Command, Stdio};
    use std::sync::atomic::AtomicU64;
    use std::sync::mpsc::{Receiver, channel};
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    /// Tells a child what to do: `OPERATION AT SIGNAL LOCK`.
    const ORDER: &str = "RESOURCELOCK_FAILPOINT";
    /// The test [`child`], as it is named on the command line of a test program.
    const CHILD: &str = "lock::testing::failpoint::tests::child";
    /// After this long a test stops waiting.
    const TIMEOUT: Duration = Duration::from_secs(60);
    /// More actions than any of the operations has.
    const MANY: u32 = 400;

    /// The body of a child. Run by itself, it checks that points are passed at all.
    #[test]
    fn child() {
        let Ok(order) = std::env::var(ORDER) else {
            let name = fresh_name("points");
            let lock = ResourceLock::open(&name).unwrap();
            let before = PASSED.load(SeqCst);
            must_get(&lock);
            assert!(PASSED.load(SeqCst) >= before + 5, "a get takes several actions");
            crate::remove(&name, true).unwrap();
            return;
        };
        let words: Vec<&str> = order.split(' ').collect();
        let [name, at, signal, lock] = words[..] else {
            panic!("{order}")
        };
        let operation = operation(name);
        let lock = ResourceLock::open(lock).unwrap();
        (operation.prepare)(&lock);
        say("ready");
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).unwrap();
        arm(at.parse().unwrap(), signal.parse().unwrap());
        (operation.perform)(&lock);
        let passed = PASSED.load(SeqCst);
        say(&format!("passed {passed}"));
        let _ = raise(Signal::SIGKILL);
    }

    fn say(line: &str) {
        let mut out = std::io::stdout().lock();
        writeln!(out, "> {line}").and_then(|()| out.flush()).unwrap();
    }

    fn fresh_name(subject: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!(
            "test-fail-{subject}-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, SeqCst)
        )
    }

    fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < TIMEOUT, "timed out: {what}");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// A child that has prepared itself.
    struct Doomed {
        child: Child,
        input: ChildStdin,
        lines: Receiver<String>,
    }

    impl Doomed {
        fn start(operation: &str, at: u32, signal: Signal, lock: &str) -> Self {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([CHILD, "--exact", "--quiet", "--nocapture"])
                .env(ORDER, format!("{operation} {at} {signal} {lock}"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let input = child.stdin.take().unwrap();
            let output = BufReader::new(child.stdout.take().unwrap());
            let (sender, lines) = channel();
            std::thread::spawn(move || {
                for line in output.lines().map_while(Result::ok) {
                    if let Some((_, told)) = line.split_once("> ")
                        && sender.send(told.to_owned()).is_err()
                    {
                        break;
                    }
                }
            });
            let doomed = Self { child, input, lines };
            assert_eq!(doomed.lines.recv_timeout(TIMEOUT).unwrap(), "ready");
            doomed
        }

        fn go(&mut self) {
            writeln!(self.input, "go").unwrap();
        }

        fn pid(&self) -> Pid {
            Pid::from_raw(self.child.id() as i32)
        }

        fn is_gone(&mut self) -> bool {
            self.child.try_wait().unwrap().is_some()
        }

        /// Waits for its end; returns how many actions it had, if it performed all of them.
        fn passed(mut self) -> Option<u32> {
            until("the child has ended", || self.is_gone());
            let told = self.lines.recv_timeout(TIMEOUT).ok()?;
            Some(told.strip_prefix("passed ")?.parse().unwrap())
        }
    }

    impl Drop for Doomed {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// The other users of the lock, besides the doomed one: threads of this process, each with its own handle.
    struct Others {
        name: String,
        /// Exclusive and other holds right now.
        inside: Arc<Mutex<(i32, i32)>>,
        largest: Arc<AtomicU64>,
        threads: Vec<std::thread::JoinHandle<()>>,
    }

    impl Others {
        fn new(name: String) -> Self {
            Self {
                name,
                inside: Arc::default(),
                largest: Arc::default(),
                threads: Vec::new(),
            }
        }

        fn state(&self) -> State {
            ResourceLock::builder(&self.name)
                .open_existing()
                .unwrap()
                .state()
                .unwrap()
        }

        /// Adds one that waits for the lock, holds it for a moment, and releases.
        fn wait_for_it(&mut self, mode: Mode) {
            let before = self.state().waiters.len();
            let (name, inside, largest) = (self.name.clone(), self.inside.clone(), self.largest.clone());
            self.threads.push(std::thread::spawn(move || {
                let lock = ResourceLock::open(&name).unwrap();
                let guard = lock.acquire_with(&forever().mode(mode)).unwrap().unwrap();
                largest.fetch_max(guard.token(), SeqCst);
                let step = |by: i32| {
                    let mut inside = inside.lock().unwrap();
                    match mode {
                        Mode::Exclusive => inside.0 += by,
                        _ => inside.1 += by,
                    }
                    assert!(inside.0 <= 1 && (inside.0 == 0 || inside.1 == 0), "overlap: {inside:?}");
                    assert!(
                        !matches!(mode, Mode::Slots(n) if inside.1 > n as i32),
                        "too many: {inside:?}"
                    );
                };
                step(1);
                std::thread::sleep(Duration::from_micros(300));
                step(-1);
                guard.release().unwrap();
            }));
            until("it waits", || self.state().waiters.len() == before + 1);
        }

        /// Checks that everybody is served, and that a new handle then finds the lock in order.
        fn all_is_well(self) {
            for thread in self.threads {
                until("a waiter is served", || thread.is_finished());
                thread.join().unwrap();
            }
            let fresh = ResourceLock::open(&self.name).unwrap();
            if fresh
                .state()
                .unwrap()
                .holders
                .iter()
                .any(|holder| holder.detached && holder.bound_pid.is_none())
            {
                fresh.unget_lock(UngetOptions::new().force(true)).unwrap();
            }
            let known = self.largest.load(SeqCst).max(
                fresh
                    .history()
                    .unwrap()
                    .iter()
                    .filter_map(|r| r.token)
                    .max()
                    .unwrap_or(0),
            );
            let wait = Wait::For(TIMEOUT);
            assert!(
                fresh.get_lock(&GetOptions::new().wait(wait)).unwrap(),
                "{:?}",
                fresh.state().unwrap()
            );
            let state = fresh.state().unwrap();
            assert!(state.holders.len() == 1 && state.waiters.is_empty(), "{state:?}");
            assert!(state.locked && state.value == 0 && !state.foreign, "{state:?}");
            assert!(state.holders[0].token > Some(known), "{state:?} after {known}");
            let other = ResourceLock::open(&self.name).unwrap();
            assert!(!other.get_lock(&now()).unwrap(), "held twice");
            unget(&fresh);
            let state = fresh.state().unwrap();
            assert!(
                !state.locked && state.value == 1 && state.holders.is_empty(),
                "{state:?}"
            );
            let tokens: Vec<u64> = fresh
                .history()
                .unwrap()
                .iter()
                .filter_map(|record| record.token)
                .collect();
            let mut sorted = tokens.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), tokens.len(), "a token was used twice: {tokens:?}");
            crate::remove(&self.name, true).unwrap();
        }
    }

    /// Sets the scene for `operation`, lets a child perform it, and has it killed before action `at`. True = there were
    /// fewer actions than that.
    fn kill_before(operation: &Operation, at: u32) -> bool {
        let name = fresh_name(operation.name);
        let own = ResourceLock::open(&name).unwrap();
        match operation.dead {
            Dead::Nobody => {}
            Dead::HolderAndWaiter => {
                let mut holder = Doomed::start("get", MANY, Signal::SIGKILL, &name);
                holder.go();
                holder.passed();
                let mut waiter = Doomed::start("queue_and_accept", MANY, Signal::SIGKILL, &name);
                waiter.go();
                until("it waits", || {
                    !own.state().unwrap().waiters.is_empty() || waiter.is_gone()
                });
            }
            Dead::InLatch(at) => {
                let mut inside = Doomed::start("get", at, Signal::SIGKILL, &name);
                inside.go();
                assert_eq!(inside.passed(), None, "it died on the way");
            }
        }
        let mut others = Others::new(name.clone());
        if operation.contended {
            must_get(&own);
        }
        let mut doomed = Doomed::start(operation.name, at, Signal::SIGKILL, &name);
        let foreign = operation.foreign_waiter.then(|| own.handle().current().objects.clone());
        for mode in operation.waiters {
            others.wait_for_it(*mode);
        }
        if let Some(objects) = &foreign {
            count_foreign_waiter(objects, 1);
        }
        if operation.name.starts_with("tell") {
            // By then they sleep; those that do not would hear of it anyway.
            std::thread::sleep(Duration::from_millis(2));
        }
        doomed.go();
        if operation.contended {
            let crowd = operation.waiters.len();
            until("it waits or is gone", || {
                own.state().unwrap().waiters.len() > crowd || doomed.is_gone()
            });
            if operation.name == "withdraw" {
                until("it is gone", || doomed.is_gone());
            }
            let _ = own.unget_lock(UngetOptions::new()).unwrap(); // perhaps released by force
        }
        let passed = doomed.passed();
        if let Some(objects) = &foreign {
            count_foreign_waiter(objects, -1);
        }
        others.all_is_well();
        passed.is_some()
    }

    /// Raises or lowers the semaphore's waiter count, as a process in sem_wait(3) does.
    fn count_foreign_waiter(objects: &crate::lock::shm::lock_objects::Objects, by: i32) {
        loop {
            let semaphore = objects.semaphore.load();
            let waiters = semaphore.waiters().checked_add_signed(by as i16).unwrap();
            if objects
                .semaphore
                .swap(semaphore, semaphore.with_waiters(waiters))
                .is_ok()
            {
                return;
            }
        }
    }

    /// A remover is killed before each of its actions, while the Python module has the semaphore open, and creates and
    /// takes a new one if there is none: never can both be taken.
    #[test]
    fn a_killed_remover_leaves_one_semaphore_to_be_taken() {
        let operation = operation("remove");
        let killed = |at: u32| {
            let name = fresh_name("semaphores");
            let own = ResourceLock::open(&name).unwrap();
            let old = own.handle().current().objects.clone();
            let mut doomed = Doomed::start(operation.name, at, Signal::SIGKILL, &name);
            doomed.go();
            let passed = doomed.passed();
            let python = crate::lock::shm::semaphore::Semaphore::as_by_others(own.name());
            let replaced = python.inode != old.semaphore.inode;
            visit_now(&old, Sweep::All);
            if replaced {
                let free = python.load();
                assert_eq!(free.value(), 1);
                python.swap(free, free.with(0, 0)).unwrap();
            }
            let fresh = ResourceLock::open(&name).unwrap();
            for lock in [&own, &fresh] {
                visit_now(&old, Sweep::All);
                lock.repair().unwrap();
                visit_now(&old, Sweep::All);
                assert!(!replaced || !lock.get_lock(&now()).unwrap(), "Python has it");
            }
            if replaced {
                assert_eq!((python.load().value(), python.load().mark()), (0, 0), "it is Python's");
                python.swap(python.load(), python.load().with(1, 0)).unwrap();
                assert_eq!(old.semaphore.load().value(), 0, "nobody is granted the old semaphore");
            }
            drop(own);
            Others::new(name).all_is_well();
            assert!(!replaced || old.semaphore.load().value() == 0);
            passed.is_some()
        };
        assert!((1..MANY).any(killed));
    }

    fn kill_before_each(name: &str) {
        let operation = operation(name);
        let last = (1..MANY).find(|&at| kill_before(&operation, at));
        let actions = last.expect("the operation ends") - 1;
        println!("{name}: killed before each of {actions} actions and after the last");
        assert!(actions >= 3, "{name} has {actions} actions only");
    }

    /// The same with a child that is stopped before action `at`, in the latch or not, and continues later.
    fn stop_before(operation: &Operation, at: u32) -> bool {
        let name = fresh_name(operation.name);
        let own = ResourceLock::open(&name).unwrap();
        let mut others = Others::new(name.clone());
        let mut doomed = Doomed::start(operation.name, at, Signal::SIGSTOP, &name);
        for mode in operation.waiters {
            others.wait_for_it(*mode);
        }
        doomed.go();
        let stat = format!("/proc/{}/stat", doomed.child.id());
        let is_stopped = || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "));
        until("it is stopped or gone", || is_stopped() || doomed.is_gone());
        let pid = doomed.child.id();
        // A remover's hold means nothing when the table is gone.
        let table = own.handle().current().objects.table.inode;
        let there = crate::lock::shm::files::inode_at(&own.name().table_path()) == Some(table);
        let its_own = is_stopped()
            && there
            && own
                .state()
                .unwrap()
                .holders
                .iter()
                .any(|holder| holder.requester.pid == Some(pid));
        let crowd = !operation.waiters.is_empty();
        let limited = std::thread::spawn(move || {
            match own.get_lock(&GetOptions::new().wait(Wait::For(Duration::from_millis(20)))) {
                Ok(true) => assert!(!its_own, "stolen from a stopped holder"),
                Ok(false) => {}
                Err(crate::Error::Busy { pid: inside }) => assert!(crowd || inside.is_none_or(|inside| inside == pid)),
                Err(crate::Error::BeingRemoved { pid: by }) => assert_eq!(by, Some(pid)),
                Err(other) => panic!("{other}"),
            }
            drop(own);
        });
        until("a request with a time limit returns", || limited.is_finished());
        limited.join().unwrap();
        if !doomed.is_gone() {
            kill(doomed.pid(), Signal::SIGCONT).unwrap();
        }
        let passed = doomed.passed().expect("it continues to the end");
        others.all_is_well();
        passed < at
    }

    fn stop_before_each(name: &str) {
        let operation = operation(name);
        let last = (1..MANY).find(|&at| stop_before(&operation, at));
        println!(
            "{name}: stopped before each of {} actions",
            last.expect("the operation ends") - 1
        );
    }

    /// The owner of a lock's files may delete them while somebody else, root, removes the lock; and another user may make a
    /// lock of that name. That one is left alone, wherever the remover stood.
    #[test]
    fn a_lock_that_was_made_anew_during_a_removal_is_left_alone() {
        let removed_itself = (1..MANY).find(|&at| {
            let name = fresh_name("anew");
            let old = ResourceLock::open(&name).unwrap();
            let mut remover = Doomed::start("remove", at, Signal::SIGSTOP, &name);
            remover.go();
            let stat = format!("/proc/{}/stat", remover.child.id());
            let is_stopped = || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "));
            until("it is stopped or gone", || is_stopped() || remover.is_gone());
            let of = old.name();
            let paths = [of.semaphore_path(), of.note_path(), of.table_path()];
            for path in &paths {
                let _ = std::fs::remove_file(path);
            }
            let new = ResourceLock::open(&name).unwrap();
            must_get(&new);
            let inodes = || paths.each_ref().map(|path| crate::lock::shm::files::inode_at(path));
            let before = inodes();
            let is_over = remover.is_gone();
            if !is_over {
                kill(remover.pid(), Signal::SIGCONT).unwrap();
            }
            until("the remover has ended", || remover.is_gone());
            assert_eq!(inodes(), before, "stopped before action {at}");
            unget(&new);
            crate::remove(&name, true).unwrap();
            is_over
        });
        assert!(removed_itself.is_some_and(|actions| actions > 5), "{removed_itself:?}");
    }

    /// One test for each operation.
    macro_rules! tests {
        ($each:ident: $($name:ident)*) => {
            use super::$each;
            $(
                #[test]
                fn $name() {
                    $each(stringify!($name));
                }
            )*
        };
    }

    mod stopped_in {
        tests!(stop_before_each: get unget hand_over dispatch_to_many get_detached linger grow_history remove);
    }

    mod killed_in {
        tests!(kill_before_each: get queue_and_accept withdraw unget hand_over dispatch_to_many dispatch_slots repair
            tell_next tell_sharers
            get_after_a_death take_over_early take_over_late force foreign_turn get_detached wait_detached
            linger sweep_expired grow_records grow_history first_refusal remove);
    }
}
