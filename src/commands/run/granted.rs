//! From the grant to the moment when the command may be started.

use super::checked::{Checked, Watching};
use super::holds::{Holds, say};
use super::prepared::Prepared;
use super::{LOST_BEFORE, OnAbandoned, Run, Stop, Until};
use crate::commands::job::Variable;
use crate::commands::{Failure, advice};
use crate::exec::{self, GuardProcess, How, Mark, Plan, Program, Rules};
use crate::exit::Exit;
use crate::output::names;
use resourcelock::engines::{Lease, Validity};
use resourcelock::system::boottime;
use resourcelock::{Error, Guard, LockName, PREVIOUS_HOLDER_DIED};
use std::ffi::{CStr, OsStr, OsString};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Marks the processes of a run with `--until tree`, in case it ends before them.
const MARK: &str = "RESOURCELOCK_RUN";

/// What `ps` calls the guard process.
const GUARD: &CStr = c"lock-guard";

/// Holds the lock, and those of `--with`.
pub(super) struct Granted<'r> {
    pub(super) prepared: Prepared<'r>,
    pub(super) holds: Holds,
    /// `--hold-at-least`: until when NAME's lock stays taken in any case (CLOCK_BOOTTIME, ns).
    pub(super) held_until: Option<u64>,
    /// The previous holder of one of them died, and nobody has cleared the mark of that.
    abandoned: bool,
    pub(super) environment: Vec<Variable>,
    mark: Option<Mark>,
}

impl<'r> Granted<'r> {
    pub(super) fn new(prepared: Prepared<'r>, holds: Holds) -> Self {
        let run = prepared.run;
        let capabilities = run.engine.capabilities();
        let held_until = run.args.hold_at_least.map(|least| {
            let least = u64::try_from(least.as_nanos()).unwrap_or(u64::MAX);
            boottime().saturating_add(least)
        });
        let abandoned = holds.abandoned().next().is_some();
        let described: Vec<_> = holds
            .iter()
            .map(|hold| (hold.name(), hold.token(), hold.abandoned()))
            .collect();
        let mut environment = prepared.job.environment(&described, capabilities.remote);
        // Where a lease can end, everything that the command leaves behind has to end in time, too.
        let mark = (run.args.until == Until::Tree && capabilities.lease).then(|| Mark::new(MARK));
        environment.extend(mark.as_ref().map(|mark| (mark.variable, Some(mark_list(mark)))));
        Self {
            prepared,
            holds,
            held_until,
            abandoned,
            environment,
            mark,
        }
    }

    /// All locks were acquired, after a wait for one of them while others were held.
    pub(super) fn begin(self, note: &str) -> Result<Self, Stop> {
        match self.holds.each(|hold| hold.begin(note)) {
            Ok(()) => Ok(self),
            Err((lock, error)) => Err(self.not_kept(&lock, error)),
        }
    }

    /// `--once-every`: the command, which began this long ago, has succeeded.
    pub(super) fn mark_done(&self, began_ago: Duration) {
        let Some(every) = self.run().args.once_every else {
            return;
        };
        match self.holds.first().map(|hold| hold.mark_done(began_ago, every)) {
            None | Some(Ok(()) | Err(Error::NotHeld)) => {} // the release tells
            Some(Err(error)) => self.run().say(&format!(
                "the command has succeeded, but that could not be recorded, so the next run is due as before: {}",
                error.with_source()
            )),
        }
    }

    /// The command has succeeded: skips before that no longer count for `--max-skips`. On an engine that costs a request, so
    /// only runs with the option say so.
    pub(super) fn reset_skips(&self) {
        let run = self.run();
        let capabilities = run.engine.capabilities();
        if !capabilities.skips || (capabilities.remote && run.args.max_skips.is_none()) {
            return;
        }
        match self.holds.first().map(Guard::reset_skips) {
            None | Some(Ok(()) | Err(Error::NotHeld)) => {} // the release tells
            Some(Err(error)) => run.say(&format!(
                "the command has succeeded, but skips before that still count: {}",
                error.with_source()
            )),
        }
    }

    fn run(&self) -> &'r Run<'r> {
        self.prepared.run
    }

    /// Does everything that comes before the start of the command; last, checks that the hold still stands.
    pub(super) fn check(mut self) -> Result<Checked<'r>, Stop> {
        let run = self.run();
        if let Err(signal) = self.prepared.signals.settle() {
            // It came when the lock was being granted.
            return Err(self.give_up(Stop::With(Exit::Signal(signal))));
        }
        if let Err(stop) = run.check_due(true) {
            // Somebody has done it while this run waited.
            return Err(self.give_up(stop));
        }
        if self.abandoned && run.args.on_abandoned == OnAbandoned::Fail {
            for lock in self.holds.abandoned() {
                say(
                    lock,
                    &format!(
                        "{PREVIOUS_HOLDER_DIED}; the command was not run: repair the resource, and then: {}",
                        advice::command_line(run.common, lock.as_str(), "unget")
                    ),
                );
            }
            return Err(self.give_up(Stop::With(Exit::Abandoned)));
        }
        if run.args.recover.is_none() && !run.common.quiet {
            for lock in self.holds.abandoned().filter(|lock| run.engine.report_death(lock)) {
                say(lock, PREVIOUS_HOLDER_DIED);
            }
        }
        if let Err((lock, error)) = self.holds.each(Guard::keep_alive_in_children) {
            return Err(self.not_kept(&lock, error));
        }
        if let (true, Some(text)) = (self.abandoned, &run.args.recover)
            && let Err(stop) = self.recover(text)
        {
            return Err(self.give_up(stop));
        }
        if run.args.no_fork
            && let Err((lock, error)) = self.holds.each(keep_without_this_program)
        {
            return Err(self.not_kept(&lock, error));
        }
        let guard = match self.guard() {
            Ok(guard) => guard,
            Err(stop) => return Err(self.give_up(stop)),
        };
        match self.holds.confirm() {
            Ok(None) => Ok(Checked::new(self, guard)),
            Ok(Some(lock)) => Err(self.lost(&lock)),
            Err((lock, error)) => Err(self.give_up(run.failed_on(&lock, error))),
        }
    }

    /// Releases without a command having run, so the mark of a dead holder stays.
    fn give_up(self, stop: Stop) -> Stop {
        self.holds.release(None);
        stop
    }

    /// The hold has ended, so there is no command.
    fn lost(self, lock: &LockName) -> Stop {
        say(lock, LOST_BEFORE);
        self.give_up(Stop::With(Exit::Lost))
    }

    /// What keeps the lock while the command runs could not be recorded. If this program were killed, somebody else would
    /// be granted the lock beside the command: so there is no command.
    fn not_kept(self, lock: &LockName, error: Error) -> Stop {
        if matches!(error, Error::NotHeld) {
            return self.lost(lock);
        }
        let run = self.run();
        self.give_up(run.failed_on(lock, error))
    }

    /// `--recover`: repairs the resource before the command, under the lock.
    fn recover(&mut self, text: &OsStr) -> Result<(), Stop> {
        let run = self.run();
        let about = |what: String| Stop::Failed(Failure::about(&run.args.name, what));
        let not_done = |how: String| {
            let unget = advice::command_line(run.common, &run.args.name, "unget");
            format!(
                "--recover {how}: the command was not run; the next run with --recover tries again; or repair the resource \
                 yourself, and then: {unget}"
            )
        };
        let program = Program::shell(text.to_owned()).map_err(|e| about(format!("--recover: {e}")))?;
        let plan = Plan {
            limit: None,
            whole_tree: false,
            ..run.plan(&program, &self.environment)
        };
        let ended = exec::run(
            &mut self.prepared.signals,
            &plan,
            &mut Watching::new(run, &self.holds, true),
        )
        .map_err(|e| about(format!("--recover: {e}")))?;
        match ended.how {
            // Or whoever asks this program to end while it repairs would see it begin.
            How::Exited(0) => {
                let asked = ended.asked_too_late.or_else(|| self.prepared.signals.asked_to_end());
                asked.map_or(Ok(()), |signal| Err(Stop::With(Exit::Signal(signal))))
            }
            How::Exited(status) => Err(about(not_done(format!("failed with status {status}")))),
            How::Killed(signal) => {
                let what = not_done(format!("was killed by {}", names::signal(signal)));
                if !exec::asks_to_end(signal) {
                    return Err(about(what));
                }
                // It was sent to this program, which passed it on, or to both.
                run.say(&what);
                Err(Stop::With(Exit::Signal(signal)))
            }
        }
    }

    /// The guard process, if the hold can end by itself.
    fn guard(&mut self) -> Result<Option<GuardProcess>, Stop> {
        if !self.run().engine.capabilities().lease {
            return Ok(None);
        }
        // The lease that ends first is what counts.
        let leases: Option<Vec<Lease>> = self.holds.iter().map(|hold| lease_of(hold.validity())).collect();
        let leases = leases.unwrap_or_default();
        let begun: Vec<u64> = leases.iter().map(|lease| lease.begun).collect();
        let (Some(lease), Some(earliest)) = (leases.first(), begun.iter().copied().min()) else {
            return Ok(None);
        };
        let rules = Rules {
            name: GUARD,
            ask_after: lease.ask_after(),
            kill_after: lease.kill_after(),
            mark: self.mark.take(),
        };
        let guard = GuardProcess::start(rules, earliest, &self.holds.keep_open())
            .map_err(|e| Failure::about(&self.run().args.name, format!("cannot start the guard process: {e}")))?;
        let begun = Arc::new(Mutex::new(begun));
        for (i, hold) in self.holds.iter_mut().enumerate() {
            let (line, begun) = (guard.line(), begun.clone());
            hold.on_change(move |validity| {
                // Held while the guard is told, so that no older time follows a newer one.
                let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
                match validity {
                    Validity::Until(lease) => begun[i] = lease.begun,
                    // For good, whatever is renewed beside it.
                    Validity::Lost => begun[i] = 0,
                    Validity::Unlimited => return,
                }
                match begun.iter().copied().min().unwrap_or(0) {
                    0 => line.lost(),
                    earliest => line.renewed(earliest),
                }
            });
        }
        Ok(Some(guard))
    }
}

fn lease_of(validity: Validity) -> Option<Lease> {
    match validity {
        Validity::Until(lease) => Some(lease),
        Validity::Lost | Validity::Unlimited => None,
    }
}

/// For `-F`: nobody is left to release, so the hold ends with the process.
fn keep_without_this_program(hold: &Guard) -> Result<(), Error> {
    match hold.bind(std::process::id()) {
        Ok(()) => {}
        // Nobody is left to retry; or there is nothing left to keep.
        Err(error @ (Error::Busy { .. } | Error::NotHeld)) => return Err(error),
        // Without /proc the inherited descriptor alone keeps the lock.
        Err(error) => log::info!("<{}> {}", hold.name(), error.with_source()),
    }
    hold.let_lapse()
}

/// The list with the mark, after those of the runs that this one is part of.
fn mark_list(mark: &Mark) -> OsString {
    let mut list = exec::variable(mark.variable).unwrap_or_default();
    if !list.is_empty() {
        list.push("/");
    }
    list.push(&mark.word);
    list
}
