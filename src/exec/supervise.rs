//! From the command's start to its end: one loop that accepts signals, children's changes and deadlines.
//!
//! | what arrives | what is done |
//! |---|---|
//! | SIGCHLD: the command ended | the loop ends (with `whole_tree`: when everything it left behind has ended, too) |
//! | SIGCHLD: the command stopped | this process stops as well, so that the shell notices, if there is a terminal |
//! | a signal that a process sent | it is passed on, unless the command or one of its descendants sent it |
//! | a signal that the kernel sent | nothing: the terminal sends to the whole group. It is passed on if only this process got it, or before there was a command |
//! | the limit | the signal and CONT are sent, and KILL later |
//!
//! All signals are blocked and accepted with sigtimedwait(2), one at a time: nothing here runs concurrently, and no
//! signal is lost. The command's PID cannot come to mean another process, because only this loop reaps.

use super::processes::Group;
use super::sys::signal::{self, Received, SignalSet};
use super::sys::spawn::{self, Block, Change, Image, Report, Whose};
use super::terminal::{Terminal, leads_session};
use super::{
    Ended, GuardProcess, How, Limit, NotRun, Plan, Sent, Signals, Watcher, asks_to_end, guard_process, processes, tree,
};
use nix::sys::prctl;
use std::collections::HashSet;
use std::ffi::c_int;
use std::io;
use std::time::{Duration, Instant};

/// How often the watcher is asked whether other processes keep the command alive.
const ELSEWHERE: Duration = Duration::from_millis(100);

/// How often a process group is checked for members.
const GROUP_POLL: Duration = Duration::from_millis(20);

/// Runs the command to its end. [`Signals::settle`] must have been called.
///
/// # Errors
/// It could not be started.
pub fn run(signals: &mut Signals, plan: &Plan<'_>, watcher: &mut dyn Watcher) -> Result<Ended, NotRun> {
    let program = plan.program;
    let image = Image::new(&program.paths, &program.args, plan.environment)
        .map_err(|e| program.not_run(spawn::Failure::NotExecuted(e)))?;
    let own_group = (plan.limit.is_some() || plan.guard.is_some()) && !Terminal::open().is_some_and(|t| t.is_ours());
    let mut strangers = HashSet::new();
    if plan.whole_tree {
        strangers = adopt_orphans();
        strangers.extend(plan.guard.and_then(GuardProcess::pid));
    }
    let inherited = signals.for_child();
    if let Some(guard) = plan.guard {
        guard.set_own_group(own_group);
    }
    let guarded = plan.guard.map(|guard| spawn::Guarded {
        pid_cell: guard.pid_cell(),
        bar: (guard.bar(), guard_process::KILLED),
    });
    let started = spawn::spawn(&image, inherited, own_group, guarded.as_ref());
    let child = started.map_err(|failure| {
        if let Some(guard) = plan.guard {
            guard.command_ended();
        }
        program.not_run(failure)
    })?;
    // Before anything else: what comes from now on finds the command there.
    let early = signal::pending();
    let started = Instant::now();
    if let Some(guard) = plan.guard {
        guard.command_started(child); // nothing has been reaped yet
    }
    watcher.started(child);
    let supervision = Supervision {
        watcher,
        guard: plan.guard,
        accepted: signals.accepted(),
        mask: inherited.mask,
        early,
        deaf: false,
        child,
        own_group,
        whole_tree: plan.whole_tree,
        strangers,
        stopped: false,
        how: None,
        limit: plan.limit,
        stage: plan
            .limit
            .map_or(Stage::Open, |l| Stage::until(started, l.after, Stage::Running)),
        limit_reached: false,
        asked_too_late: None,
        killing: false,
    };
    let ended = supervision.run(started);
    if let Some(guard) = plan.guard {
        if own_group {
            outlast_group(guard, child);
        }
        guard.command_ended();
    }
    Ok(ended)
}

/// The right to run has ended, and so has the command, as it was asked to. The rest of its group gets as much time as
/// the command had, and is then killed, even if the right is renewed meanwhile (when the guard would spare it).
fn outlast_group(guard: &GuardProcess, group: u32) {
    let asked = Instant::now();
    let mut killed: Option<Instant> = None;
    // The number means this group as long as it has members, and no new process has it as its PID.
    while guard.has_acted() && processes::start_time(group).is_none() {
        match processes::group(group) {
            Group::Gone => return,
            // What is left after so much time waits to be reaped.
            Group::Unseen if killed.is_some_and(|at| at.elapsed() >= guard.grace()) => return,
            Group::Unseen | Group::Lives => {}
        }
        guard.check();
        if guard.has_killed() || asked.elapsed() >= guard.grace() {
            let _ = signal::kill_group(group, libc::SIGKILL);
            killed.get_or_insert_with(Instant::now);
        }
        std::thread::sleep(GROUP_POLL);
    }
}

/// From now on orphaned descendants become children of this process. Returns the children that it has already: if a
/// shell with background jobs executed this program in its own place, they are that shell's, not the command's.
fn adopt_orphans() -> HashSet<u32> {
    // Fails on no kernel that this program runs on (Linux 3.4).
    let _ = prctl::set_child_subreaper(true);
    match spawn::wait(Whose::Any, Block::No) {
        Report::NoChildren => HashSet::new(),
        // If they cannot be seen, an empty set is the best guess.
        _ => processes::children(std::process::id()).unwrap_or_default(),
    }
}

/// How far the limit has been enforced.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// There is nothing to enforce (any more).
    Open,
    /// The command is to be asked to end at this instant.
    Running(Instant),
    /// It was asked, and is to be killed at this instant.
    Asked(Instant),
}

impl Stage {
    /// The stage that lasts for `time` from `start`; if that is beyond the clock's end, there is no limit.
    fn until(start: Instant, time: Duration, stage: fn(Instant) -> Self) -> Self {
        start.checked_add(time).map_or(Self::Open, stage)
    }

    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Open => None,
            Self::Running(at) | Self::Asked(at) => Some(at),
        }
    }
}

struct Supervision<'a> {
    watcher: &'a mut dyn Watcher,
    guard: Option<&'a GuardProcess>,
    accepted: SignalSet,
    /// The caller's.
    mask: SignalSet,
    /// Signals that came before the command was there, and have not been accepted yet. (One that came while it was being
    /// started may have reached it, too: rather twice than never.)
    early: SignalSet,
    /// The system does not allow accepting signals.
    deaf: bool,
    child: u32,
    /// The command leads a process group of its own (with its PID as number).
    own_group: bool,
    whole_tree: bool,
    /// Children that are not the command's.
    strangers: HashSet<u32>,
    stopped: bool,
    /// Set when the command has ended and been reaped: its PID must not be used any more.
    how: Option<How>,
    limit: Option<Limit>,
    stage: Stage,
    limit_reached: bool,
    /// See [`Ended`].
    asked_too_late: Option<c_int>,
    /// KILL has been sent.
    killing: bool,
}

impl Supervision<'_> {
    fn run(mut self, started: Instant) -> Ended {
        let mut next_tick = started + self.watcher.every();
        loop {
            // A new guard is our child, but not the command's.
            self.strangers.extend(self.guard.and_then(GuardProcess::check));
            self.reap_children();
            let mut timeout = self.watcher.every();
            if let Some(how) = self.how
                && (!self.whole_tree || self.tree_is_gone())
            {
                if !(self.whole_tree && self.watcher.kept_alive_elsewhere()) {
                    return Ended {
                        how,
                        limit_reached: self.limit_reached,
                        asked_too_late: self.asked_too_late,
                    };
                }
                timeout = ELSEWHERE;
            }
            if let (true, Some(_), Some(guard)) = (self.whole_tree, self.how, self.guard) {
                // The guard can follow the command's descendants only while the command lives; now they are ours.
                if guard.has_killed() {
                    self.signal_tree(libc::SIGKILL);
                }
                timeout = ELSEWHERE;
            }
            let now = Instant::now();
            self.enforce_limit(now);
            if now >= next_tick {
                self.watcher.tick();
                next_tick = now + self.watcher.every();
            }
            let next = self
                .stage
                .deadline()
                .map_or(next_tick, |deadline| deadline.min(next_tick));
            timeout = timeout.min(next.saturating_duration_since(now));
            self.accept(timeout);
        }
    }

    /// Waits for a signal, and passes it on if that is due.
    fn accept(&mut self, timeout: Duration) {
        if self.deaf {
            std::thread::sleep(timeout.min(GROUP_POLL));
            return;
        }
        match signal::accept(self.accepted, timeout) {
            Ok(Some(received)) => self.deliver(&received),
            // What was pending has been accepted, or is gone (a stop and its continuation undo each other).
            Ok(None) => self.early = SignalSet::of(&[]),
            Err(error) => {
                log::warn!("signals are not passed on to the command: rt_sigtimedwait(2) is refused: {error}");
                self.pass_on_early();
                // What is sent to this program ends it, then; the lock is kept as long as the command runs.
                signal::set_mask(self.mask);
                self.deaf = true;
            }
        }
    }

    /// Sends the command what came before it was there.
    fn pass_on_early(&self) {
        if self.how.is_some() {
            return;
        }
        let is_meant = |signal: c_int| self.early.contains(signal) && self.accepted.contains(signal);
        for signal in (1..=64).filter(|signal| is_meant(*signal) && *signal != libc::SIGCHLD) {
            let _ = signal::kill(self.child, signal);
        }
    }

    /// Takes all that is reported of children.
    fn reap_children(&mut self) {
        let whose = if self.whole_tree {
            Whose::Any
        } else {
            Whose::Child(self.child)
        };
        while self.whole_tree || self.how.is_none() {
            match spawn::wait(whose, Block::No) {
                Report::Of(pid, change) if pid == self.child && self.how.is_none() => match change {
                    Change::Exited(status) => self.has_ended(How::Exited(status)),
                    Change::Killed(signal) => self.has_ended(How::Killed(signal)),
                    Change::Continued => self.stopped = false,
                    Change::Stopped(signal) => {
                        self.stopped = true;
                        self.stop_along(signal);
                    }
                },
                Report::Of(pid, change) => {
                    if matches!(change, Change::Exited(_) | Change::Killed(_)) {
                        // Another process may have this number from now on.
                        self.strangers.remove(&pid);
                    }
                    let another = self.guard.and_then(|guard| guard.child_changed(pid, change));
                    self.strangers.extend(another);
                }
                Report::Nothing | Report::NoChildren => break,
            }
        }
    }

    /// The command has ended and was just reaped.
    fn has_ended(&mut self, how: How) {
        if let Some(guard) = self.guard {
            guard.command_reaped();
        }
        self.watcher.ended();
        self.how = Some(how);
    }

    /// The command was stopped by `signal`. The shell sees only this process, which must stop, too.
    fn stop_along(&mut self, signal: c_int) {
        if self.killing || self.guard.is_some_and(GuardProcess::has_killed) {
            return; // part of a kill
        }
        let Some(terminal) = Terminal::open() else {
            return;
        };
        let asks_for_terminal = matches!(signal, libc::SIGTTIN | libc::SIGTTOU);
        if self.own_group && asks_for_terminal && terminal.is_ours() {
            // It was started in the background, and has been brought to the foreground together with us.
            if terminal.lend(self.child) {
                let _ = signal::kill_group(self.child, libc::SIGCONT);
                return;
            }
        }
        self.take_terminal_back(&terminal);
        // Not SIGSTOP, which would stop us even where nobody could continue us (an orphaned process group).
        signal::stop_by(if signal == libc::SIGSTOP { libc::SIGTSTP } else { signal });
    }

    fn take_terminal_back(&self, terminal: &Terminal) {
        if self.own_group {
            let mask = signal::block(SignalSet::of(&[libc::SIGTTOU]));
            terminal.take_back(self.child);
            signal::set_mask(mask);
        }
    }

    /// Decides about a signal that was sent to this process.
    fn deliver(&mut self, received: &Received) {
        let signal = received.signal();
        if signal == libc::SIGCHLD {
            return; // the loop reaps anyway
        }
        let is_early = self.early.remove(signal);
        // The command may have ended before the signal came: its children's changes are accepted last.
        let was_stopped = self.stopped;
        self.reap_children();
        if signal == libc::SIGCONT && was_stopped && !self.stopped {
            return; // the whole group was continued
        }
        if self.how.is_some() {
            if !self.whole_tree && asks_to_end(signal) {
                self.asked_too_late = Some(signal);
            }
            if is_early || !received.is_from_kernel() {
                self.signal_tree(signal);
            }
        } else if received.is_from_kernel() {
            // The terminal's signals go to its whole foreground group, to which the command belongs like us.
            // Exceptions:
            let to_us_alone = match signal {
                libc::SIGALRM => true, // an alarm(2) set before this program was executed
                libc::SIGHUP | libc::SIGCONT => is_early || leads_session(),
                _ => is_early,
            };
            if self.own_group {
                let _ = signal::kill_group(self.child, signal);
            } else if to_us_alone {
                let _ = signal::kill(self.child, signal);
            }
        } else if self.own_group && signal == libc::SIGCONT {
            // The shell's fg or bg, meant for the job.
            let _ = signal::kill_group(self.child, signal);
        } else if !received
            .sender()
            .is_some_and(|sender| processes::descends_from(sender, self.child))
        {
            // If it fails, the command has changed its user and we may not signal it: nothing can be done.
            let _ = received.pass_on(self.child);
        }
    }

    fn enforce_limit(&mut self, now: Instant) {
        let (Some(limit), Some(deadline)) = (self.limit, self.stage.deadline()) else {
            return;
        };
        if now < deadline {
            return;
        }
        self.limit_reached = true;
        if matches!(self.stage, Stage::Running(_)) {
            self.stage = limit
                .kill_after
                .map_or(Stage::Open, |time| Stage::until(now, time, Stage::Asked));
            self.end_by(limit.signal);
            self.watcher
                .limit_enforced(self.child, self.how.is_some(), Sent::Signal(limit.signal, limit.after));
            // What is stopped reacts only when it is continued.
            if !matches!(limit.signal, libc::SIGKILL | libc::SIGCONT) {
                self.end_by(libc::SIGCONT);
            }
        } else {
            self.stage = Stage::Open;
            self.end_by(libc::SIGKILL);
            self.watcher.limit_enforced(
                self.child,
                self.how.is_some(),
                Sent::Kill(limit.kill_after.unwrap_or_default()),
            );
        }
    }

    /// Sends `signal` to the command and whatever it started.
    fn end_by(&mut self, signal: c_int) {
        self.killing |= signal == libc::SIGKILL;
        let whole_group = self.own_group && !self.whole_tree;
        // Without a group of its own after all, or where groups may not be signalled: one by one.
        if !(whole_group && signal::kill_group(self.child, signal).is_ok()) {
            self.signal_tree(signal);
        }
    }

    /// Sends `signal` to the command and its descendants.
    fn signal_tree(&self, signal: c_int) {
        if self.how.is_none() && !processes::are_seen() {
            let _ = signal::kill(self.child, signal);
        }
        let command = || self.how.is_none().then_some(self.child).into_iter().collect();
        tree::signal(|| self.roots().unwrap_or_else(|_| command()), signal);
    }

    /// The roots of the command's tree: itself while it lives, and with `whole_tree` what has become our child.
    fn roots(&self) -> io::Result<HashSet<u32>> {
        let mut roots = HashSet::new();
        if self.whole_tree {
            roots = processes::children(std::process::id())?;
            roots.retain(|pid| !self.strangers.contains(pid));
        }
        if self.how.is_none() {
            roots.insert(self.child);
        }
        Ok(roots)
    }

    fn tree_is_gone(&self) -> bool {
        if self.strangers.is_empty() {
            spawn::wait(Whose::Any, Block::No) == Report::NoChildren
        } else {
            self.roots().is_ok_and(|roots| roots.is_empty())
        }
    }
}
