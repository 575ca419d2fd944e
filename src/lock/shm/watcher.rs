//! Being told that a process has ended: one thread, which sleeps until one of the processes ends that this process's
//! waiting requests depend on, and then has the request look at the lock ([`Alarm`]).
//!
//! It decides nothing, so whatever it does wrong costs time only: a request that is alarmed for no reason looks and sleeps
//! on; one that is not alarmed looks by itself, some seconds later.
//!
//! The thread is started when the first process is to be watched, and ends soon after the last one no longer is, with its
//! descriptors. A program may have closed those meanwhile, and their numbers may be those of other files: so each is closed
//! only if epoll(7) confirms that it still is what it was. All signals are blocked in it: those of the program are
//! its other threads'. The child of a fork, which has no such thread, starts one of its own.
//!
//! A futex wake-up reaches whoever sleeps at that moment, so one that comes just before is lost: that is why it is
//! repeated, at growing intervals, until the request says that it was heard. If it has reached a sleeper, the first interval
//! is a longer one: the kernel takes time to set a timer that is due before its next tick, and the sleeper may be waiting
//! for this very processor.

use crate::lock::shm::layout::REQUESTS;
use crate::lock::shm::lock_objects::Objects;
use crate::lock::sys;
use crate::lock::system::Process;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::Duration;

/// How long the thread stays when nothing is to be watched, since a program that waits often need not start it each time. As
/// soon it closes what is no longer watched.
const IDLE: Duration = Duration::from_millis(100);
/// No more descriptors than these are left to it.
const LEFT: usize = 64;
const STACK: usize = 64 * 1024;
/// The event of the timer; processes have those from 1 on.
const TIMER: u64 = 0;
/// How often a wake-up is repeated: after 1 ms, 2 ms, ... until it is heard. Then the request looks by itself.
const REPEATS: u32 = 9;
/// As if it had been repeated so often before, if it has woken somebody: for the first time after 8 ms.
const REPEATS_OF_WOKEN: u32 = 3;

/// What has one request look at the lock.
#[derive(Debug)]
pub(crate) struct Alarm(Arc<Bell>);

#[derive(Debug)]
struct Bell {
    /// Not kept open for this.
    objects: Weak<Objects>,
    /// The request's record, on whose word its owner sleeps.
    i: usize,
    /// Since it was last heard.
    rung: AtomicBool,
}

impl Bell {
    /// True if that has woken somebody.
    fn ring(&self) -> bool {
        self.rung.store(true, Release);
        self.wake()
    }

    fn is_rung(&self) -> bool {
        self.rung.load(Acquire)
    }

    fn wake(&self) -> bool {
        let objects = self.objects.upgrade();
        objects.is_some_and(|objects| sys::futex_wake(&objects.table.words[self.i & (REQUESTS - 1)], 1))
    }
}

impl Alarm {
    /// For the request in record `i`.
    pub(crate) fn new(objects: &Arc<Objects>, i: usize) -> Self {
        Self(Arc::new(Bell {
            objects: Arc::downgrade(objects),
            i,
            rung: AtomicBool::new(false),
        }))
    }

    /// True if it has rung and was not heard yet.
    pub(crate) fn is_rung(&self) -> bool {
        self.0.is_rung()
    }

    /// It was heard, if it has rung: a look follows.
    pub(crate) fn hear(&self) -> bool {
        self.0.rung.swap(false, AcqRel)
    }

    /// Rings when the process ends, at once if it has.
    ///
    /// # Errors
    /// The system's, for lack of descriptors, memory or threads, or because it does not allow this.
    pub(crate) fn watch(&self, process: Process) -> io::Result<Watch> {
        let watcher = Watcher::of_this_process()?;
        let mut state = watcher.state();
        state.last += 1;
        let number = state.last;
        state.bells.insert(number, self.0.clone());
        let once = EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT;
        let added = watcher.epoll.add(&process, EpollEvent::new(once, number));
        // From here on the destructor takes it back.
        let watch = Watch {
            watcher: watcher.clone(),
            number,
            process: Some(process),
        };
        let started = added.map_err(io::Error::from).and_then(|()| {
            if !state.runs {
                watcher.has_timer()?;
                start(&watcher)?;
                state.runs = true;
            }
            Ok(())
        });
        drop(state);
        started.map(|()| watch)
    }
}

/// A process that is watched until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: Arc<Watcher>,
    number: u64,
    /// Taken when this is dropped.
    process: Option<Process>,
}

impl Watch {
    /// True if the process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.process.as_ref().is_none_or(Process::has_ended)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let watcher = &*self.watcher;
        if watcher.generation != sys::fork_generation() {
            return; // a child's copy
        }
        let mut state = watcher.state();
        state.bells.remove(&self.number);
        let process = self.process.take();
        if state.runs && state.left.len() < LEFT {
            // Saves system calls before a grant: the thread does them later.
            state.left.extend(process);
        } else if let Some(process) = process {
            watcher.close(process);
        }
        if !std::mem::replace(&mut state.cleans_up, true) {
            // If that fails, the thread stays.
            let _ = watcher
                .timer
                .set(Expiration::OneShot(IDLE.into()), TimerSetTimeFlags::empty());
        }
    }
}

/// The thread, and what it watches.
#[derive(Debug)]
struct Watcher {
    /// The generation of forks whose thread it is.
    generation: u32,
    epoll: Epoll,
    timer: TimerFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The thread runs, and will look at `bells` again before it ends.
    runs: bool,
    /// The number that was last given to a process.
    last: u64,
    /// By the numbers of the processes: whose end rings it.
    bells: HashMap<u64, Arc<Bell>>,
    /// The thread will soon clean up, and end if nothing is to be watched.
    cleans_up: bool,
    /// Processes that need not be watched any more.
    left: Vec<Process>,
}

/// That of this process. In the child of a fork it may be locked for ever.
static CURRENT: Mutex<Option<Arc<Watcher>>> = Mutex::new(None);

impl Watcher {
    fn of_this_process() -> io::Result<Arc<Self>> {
        const TRIES: u32 = 20;
        for _ in 0..TRIES {
            let mut current = match CURRENT.try_lock() {
                Ok(current) => current,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    std::thread::yield_now();
                    continue;
                }
            };
            let generation = sys::fork_generation();
            if let Some(watcher) = &*current
                && watcher.generation == generation
            {
                return Ok(watcher.clone());
            }
            let watcher = Arc::new(Self::new(generation)?);
            // A parent's may have been copied in the middle of a change.
            std::mem::forget(current.replace(watcher.clone()));
            return Ok(watcher);
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn new(generation: u32) -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let watcher = Self {
            generation,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?,
            state: Mutex::default(),
        };
        watcher.has_timer()?;
        Ok(watcher)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the timer wake the thread.
    fn has_timer(&self) -> io::Result<()> {
        match self.epoll.add(&self.timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER)) {
            Err(nix::errno::Errno::EEXIST) => Ok(()),
            added => Ok(added?),
        }
    }

    /// Closes a process that is no longer watched, unless the program has done so.
    fn close(&self, process: Process) {
        // Where a forked child has a copy of the descriptor, closing this one would not be enough.
        if self.epoll.delete(&process).is_err() {
            std::mem::forget(process);
        }
    }

    /// Cleans up. True if nothing is to be watched: then the thread has ended, as others see it, and what it needs is closed
    /// with the last reference.
    fn has_ended(self: &Arc<Self>) -> bool {
        let mut state = self.state();
        state.cleans_up = false;
        for process in std::mem::take(&mut state.left) {
            self.close(process);
        }
        if !state.bells.is_empty() {
            return false;
        }
        state.runs = false;
        if self.epoll.delete(&self.timer).is_err() {
            std::mem::forget(self.clone()); // the program has closed them
        }
        drop(state);
        if let Ok(mut current) = CURRENT.try_lock()
            && current.as_ref().is_some_and(|current| Arc::ptr_eq(current, self))
        {
            *current = None;
        }
        true
    }

    fn run(self: &Arc<Self>) {
        let mut events = [EpollEvent::empty(); 64];
        // Rung and not heard yet, and how often it was repeated.
        let mut unheard: Vec<(Arc<Bell>, u32)> = Vec::new();
        // After an event it cleans up without the timer, which would have to be set.
        let mut cleans_up = false;
        loop {
            let soonest = unheard.iter().map(|(_, repeats)| 1u16 << repeats).min();
            let timeout = match soonest {
                Some(ms) => EpollTimeout::from(ms),
                None if cleans_up => EpollTimeout::try_from(IDLE).unwrap_or(EpollTimeout::ZERO),
                None => EpollTimeout::NONE,
            };
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(_) => {
                    // Closed by somebody: requests look by themselves.
                    let mut state = self.state();
                    (state.runs, state.cleans_up) = (false, false);
                    state.left.drain(..).for_each(std::mem::forget);
                    return;
                }
            };
            if count == 0 && soonest.is_none() {
                cleans_up = false;
                if self.has_ended() {
                    return;
                }
            } else if count == 0 {
                // All of them, also those that need it later: that costs them a look.
                unheard.retain_mut(|(bell, repeats)| {
                    *repeats += 1;
                    let again = bell.is_rung() && *repeats <= REPEATS;
                    if again {
                        bell.wake();
                    }
                    again
                });
                // All has been heard, so what was watched is over. The thread need not stay: a process dies faster that has
                // only one.
                if unheard.is_empty() && cleans_up {
                    cleans_up = false;
                    if self.has_ended() {
                        return;
                    }
                }
            }
            for event in &events[..count] {
                if event.data() == TIMER {
                    // Not waited for: it may have been set again.
                    let _ = nix::unistd::read(&self.timer, &mut [0; 8]);
                    if self.has_ended() {
                        return;
                    }
                    continue;
                }
                let mut state = self.state();
                (state.cleans_up, cleans_up) = (true, true);
                let bell = state.bells.get(&event.data()).cloned();
                drop(state);
                if let Some(bell) = bell {
                    let repeats = if bell.ring() { REPEATS_OF_WOKEN } else { 0 };
                    unheard.push((bell, repeats));
                }
            }
        }
    }
}

fn start(watcher: &Arc<Watcher>) -> io::Result<()> {
    let watcher = watcher.clone();
    let thread = std::thread::Builder::new()
        .name("lock watcher".to_owned())
        .stack_size(STACK);
    sys::spawn_without_signals(thread, move || watcher.run()).map(drop)
}
