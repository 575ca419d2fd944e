//! `run` under a lock that an engine on another machine keeps.
//!
//! The order is the same as with a lock of this machine. What is added: a guard process stands by before the command
//! is started, and ends it before the lease can.

use super::{CANCEL, Run, exit_of};
use crate::cli::{Common, OnAbandoned, RunArgs, Until};
use crate::commands::engine::{is_for_files, name, refuse};
use crate::commands::job::Job;
use crate::commands::waiting::Waiting;
use crate::commands::{Failure, bare};
use crate::entry;
use crate::exec::{self, Ended, GuardProcess, How, Mark, Program, Rules, Signals, Watcher};
use crate::exit::Exit;
use resourcelock::engines::{Engine, Held, Validity};
use resourcelock::{Error, GetOptions, LockName, State};
use std::ffi::{CStr, OsString};

const LOST: &str = "the lock was lost while the command ran: others may have had it at the same time";
const ENDED: &str = "the lock was lost, or could not be renewed in time: the command was ended";
const ASKED: &str = "the lock could not be renewed for so long that the command was asked to end";

/// What the processes of a run with `--until tree` are known by, should it end before them.
const MARK: &str = "RESOURCELOCK_RUN";

/// What `ps` calls the guard process.
const GUARD: &CStr = c"lock-guard";

/// Carries it out.
pub fn perform(engine: &dyn Engine, common: &Common, args: &RunArgs) -> Result<Exit, Failure> {
    entry::set_subject(bare(&args.name));
    refuse_what_is_local(engine, args)?;
    let lock = name(&args.name)?;
    let run = Remote {
        run: Run {
            common,
            args,
            waiting: Waiting::new(common, &args.name),
        },
        engine,
        lock,
    };
    let program = match run.run.program() {
        Ok(program) => program,
        Err(exit) => return Ok(exit),
    };
    let mut signals = Signals::while_waiting(|| CANCEL.cancel());
    let job = Job::inherited();
    if job.mentions(&run.lock) {
        let state = match engine.look(&run.lock, &CANCEL) {
            Err(Error::Cancelled) => return Ok(interrupted()),
            state => state.map_err(|e| run.run.failed(e))?,
        };
        let own = job.tokens_in(&state);
        if let (true, Some(token)) = (args.same_process_ok, own.last()) {
            return run.under_inherited(&mut signals, &program, &job, *token);
        }
        run.run.waiting.check_self_wait(|| state, &own, args.mode, args.wait)?;
    }
    match run.acquire(&program) {
        Ok(Some(held)) => match signals.settle() {
            Ok(()) => run.under(held, &mut signals, &program, &job),
            // It came when the lock was being granted; dropping it gives it back.
            Err(signal) => Ok(Exit::Signal(signal)),
        },
        Ok(None) => {
            let state = engine.glance(&run.lock);
            Ok(run.run.waiting.in_vain(state.as_ref(), args.conflict_exit_code))
        }
        Err(Error::Cancelled) => Ok(interrupted()),
        Err(error) => Err(run.run.failed(error)),
    }
}

/// Ended by the signal that came.
fn interrupted() -> Exit {
    Exit::Signal(exec::interrupt().unwrap_or(libc::SIGTERM))
}

/// Whether the command was, as it seems, asked to end: killed by a signal, or with the status that a shell makes of one.
///
/// Whoever did that wants this program to end soon, and learns from its status that the work was broken off. Whether the
/// lock was lost as well (76) is then not worth waiting for. Else it is: a command that says that its work is done had to
/// have the lock to its end.
fn was_asked_to_end(ended: Ended) -> bool {
    !ended.limit_reached
        && match ended.how {
            How::Killed(_) => true,
            How::Exited(status) => status > 128,
        }
}

fn refuse_what_is_local(engine: &dyn Engine, args: &RunArgs) -> Result<(), Failure> {
    let tells = engine.capabilities().tells_abandoned;
    let refused = [
        (args.no_fork, "-F: nobody would be left to keep the lock"),
        (args.replace, "--replace: the holder may run on another machine"),
        (
            !tells && args.on_abandoned == OnAbandoned::Fail,
            "--on-abandoned: it does not tell whether the previous holder died",
        ),
        (
            !tells && args.recover.is_some(),
            "--recover: it does not tell whether the previous holder died",
        ),
        (
            is_for_files(&args.create),
            "--mode and --group are for the files of a lock of this machine",
        ),
        (
            args.until == Until::Tree && !exec::processes_are_seen(),
            "--until tree: what the command leaves behind is seen in /proc, which is not mounted",
        ),
    ];
    refuse(engine, &args.name, &refused)
}

fn holds(state: &State, token: u64) -> bool {
    state.holders.iter().any(|holder| holder.token == token)
}

struct Remote<'a> {
    run: Run<'a>,
    engine: &'a dyn Engine,
    lock: LockName,
}

impl Remote<'_> {
    fn acquire(&self, program: &Program) -> Result<Option<Box<dyn Held>>, Error> {
        let args = self.run.args;
        let command = program.name();
        let note = self.run.note(&command);
        let mut options = GetOptions::new()
            .wait(args.wait)
            .mode(args.mode)
            .lock_info(&note)
            .command(&command)
            .cancel(&CANCEL);
        if let Some(ttl) = args.ttl {
            options = options.lease(ttl);
        }
        let held = self
            .engine
            .acquire(&self.lock, self.run.waiting.told_from_afar(options))?;
        if held.is_some() {
            self.run.waiting.over();
        }
        Ok(held)
    }

    /// With the lock in hand.
    fn under(
        &self,
        mut held: Box<dyn Held>,
        signals: &mut Signals,
        program: &Program,
        job: &Job,
    ) -> Result<Exit, Failure> {
        let mark = (self.run.args.until == Until::Tree).then(|| Mark::new(MARK));
        let mut environment = job.environment_afar(self.run.name(), held.token()).to_vec();
        environment.extend(mark.as_ref().map(|mark| (mark.variable, Some(mark_list(mark)))));
        let guard = self.guard(&mut *held, mark)?;
        let mut plan = self.run.plan(program, &environment);
        plan.guard = guard.as_ref();
        let ended = match exec::run(signals, &plan, &mut Unwatched) {
            Ok(ended) => ended,
            Err(not_run) => {
                let barred = guard.as_ref().is_some_and(GuardProcess::has_acted);
                self.give_back(held);
                return if barred {
                    Err(self.lost_before())
                } else {
                    Ok(self.run.not_run(&not_run))
                };
            }
        };
        let asked = guard.as_ref().is_some_and(GuardProcess::has_acted);
        let killed = guard.as_ref().is_some_and(GuardProcess::has_killed);
        let was_certain = held.validity().is_certain();
        // Before the answer of a server that may be gone is waited for.
        if let Some(guard) = &guard {
            guard.dismiss();
        }
        if was_asked_to_end(ended) {
            held.hurry();
        }
        let released = self.give_back(held);
        let kept = was_certain && released == Some(true);
        Ok(if asked {
            self.run.say(if killed || !kept { ENDED } else { ASKED });
            Exit::Lost
        } else if !was_certain || released == Some(false) {
            self.run.say(LOST);
            Exit::Lost
        } else {
            exit_of(ended)
        })
    }

    fn lost_before(&self) -> Failure {
        self.run.failed(Error::Unreachable {
            engine: self.engine.place(),
            what: "the lock was lost before the command was started".to_owned(),
        })
    }

    /// The guard process, if the hold can end by itself.
    fn guard(&self, held: &mut dyn Held, mark: Option<Mark>) -> Result<Option<GuardProcess>, Failure> {
        let lease = match held.validity() {
            Validity::Unlimited => return Ok(None),
            Validity::Until(lease) => lease,
            Validity::Lost => {
                return Err(self.lost_before());
            }
        };
        let rules = Rules {
            name: GUARD,
            ask_after: lease.ask_after(),
            kill_after: lease.kill_after(),
            mark,
        };
        let guard = GuardProcess::start(rules, lease.begun, held.keep_open())
            .map_err(|e| Failure::about(self.run.name(), format!("cannot start the guard process: {e}")))?;
        let line = guard.line();
        held.on_change(Box::new(move |validity| match validity {
            Validity::Until(lease) => line.renewed(lease.begun),
            Validity::Lost => line.lost(),
            Validity::Unlimited => {}
        }));
        Ok(Some(guard))
    }

    /// Whether it was ours until now; `None` = not known, since the engine cannot be reached.
    fn give_back(&self, held: Box<dyn Held>) -> Option<bool> {
        match held.release() {
            Ok(released) => Some(released),
            Err(error) => {
                self.run.say(&format!("not released, it ends by itself: {error}"));
                None
            }
        }
    }

    /// `--same-process-ok` for a lock that this job has already: whoever took it sees to its lease.
    fn under_inherited(
        &self,
        signals: &mut Signals,
        program: &Program,
        job: &Job,
        token: u64,
    ) -> Result<Exit, Failure> {
        let environment = job.environment_as_it_was(self.run.name(), token);
        if let Err(signal) = signals.settle() {
            return Ok(Exit::Signal(signal));
        }
        let ended = match exec::run(signals, &self.run.plan(program, &environment), &mut Unwatched) {
            Ok(ended) => ended,
            Err(not_run) => return Ok(self.run.not_run(&not_run)),
        };
        let state = if was_asked_to_end(ended) {
            self.engine.glance(&self.lock)
        } else {
            self.engine.state(&self.lock)
        };
        Ok(match state {
            Ok(state) if holds(&state, token) => exit_of(ended),
            Ok(_) => {
                self.run.say(LOST);
                Exit::Lost
            }
            // Whoever took the lock finds out whether it was lost.
            Err(error) => {
                self.run
                    .say(&format!("whether the lock was held to the end is not known: {error}"));
                exit_of(ended)
            }
        })
    }
}

/// The list that the mark stands in, behind those of the runs that this one is a part of.
fn mark_list(mark: &Mark) -> OsString {
    let mut list = std::env::var_os(mark.variable).unwrap_or_default();
    if !list.is_empty() {
        list.push("/");
    }
    list.push(&mark.word);
    list
}

/// Nothing is to be done while the command runs: the library renews, the guard process ends.
struct Unwatched;

impl Watcher for Unwatched {
    fn started(&mut self, _pid: u32) {}
    fn tick(&mut self) {}
    fn kept_alive_elsewhere(&mut self) -> bool {
        false
    }
}
