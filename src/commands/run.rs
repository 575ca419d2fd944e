//! `run`: a command under the lock.
//!
//! Order: find the command → open the lock → wait (a signal ends that) → from here on signals are the command's →
//! what a previous holder left behind → the command → give the lock back → end as the command did.

pub mod remote;
mod replace;

use super::job::{self, Job};
use super::waiting::Waiting;
use super::{Failure, bare};
use crate::cli::{Common, OnAbandoned, Payload, RunArgs, Until};
use crate::entry;
use crate::exec::{self, Ended, How, NotRun, Plan, Program, Signals, Watcher};
use crate::exit::Exit;
use crate::output;
use resourcelock::{Cancel, Error, GetOptions, Guard, Lost, ResourceLock};
use std::ffi::OsString;

/// Ends the wait; triggered by the signal handler.
static CANCEL: Cancel = Cancel::new();

/// Carries it out.
pub fn perform(common: &Common, args: RunArgs) -> Result<Exit, Failure> {
    entry::set_subject(bare(&args.name));
    if args.ttl.is_some() {
        let what = "--ttl is for engines with leases (--backend): a lock of this machine lasts as long as its command";
        return Err(Failure::about(&args.name, what));
    }
    let run = Run {
        common,
        args: &args,
        waiting: Waiting::new(common, &args.name),
    };
    let program = match run.program() {
        Ok(program) => program,
        Err(exit) => return Ok(exit),
    };
    let mut signals = Signals::while_waiting(|| CANCEL.cancel());
    // Closed by the end of the process, which is faster and comes at once after.
    let lock = std::mem::ManuallyDrop::new(super::open(&args.name, &args.create)?);
    let job = Job::inherited();
    let own = job.tokens(lock.name(), |token| lock.is_held(token));
    if let (true, Some(token)) = (args.same_process_ok, own.last()) {
        return run.under_inherited(&mut signals, &program, &lock, &job, *token);
    }
    run.waiting
        .check_self_wait(|| lock.state(), &own, args.mode, args.wait)?;
    match run.acquire(&lock, &program, &own) {
        Ok(Some(guard)) => match signals.settle() {
            Ok(()) => run.under(guard, &mut signals, &program, &job),
            // It came when the lock was being granted. The guard gives it back.
            Err(signal) => Ok(Exit::Signal(signal)),
        },
        Ok(None) => Ok(run.waiting.in_vain(Ok(&lock.state()), args.conflict_exit_code)),
        Err(Error::Cancelled) => Ok(Exit::Signal(exec::interrupt().unwrap_or(libc::SIGTERM))),
        Err(error) => Err(run.failed(error)),
    }
}

struct Run<'a> {
    common: &'a Common,
    args: &'a RunArgs,
    waiting: Waiting<'a>,
}

impl Run<'_> {
    fn name(&self) -> &str {
        bare(&self.args.name)
    }

    /// Before the wait: a command that does not exist is not worth queueing for.
    fn program(&self) -> Result<Program, Exit> {
        let program = match &self.args.payload {
            Payload::Words(words) => exec::resolve(words.clone()),
            Payload::Shell(text) => Program::shell(text.clone()),
        };
        program.map_err(|not_run| self.not_run(&not_run))
    }

    /// What others read: the message, else the command.
    fn note(&self, command: &str) -> String {
        match (&self.args.message, &self.args.payload) {
            (Some(message), _) => message.clone(),
            (None, Payload::Shell(text)) => text.to_string_lossy().into_owned(),
            (None, Payload::Words(_)) => command.to_owned(),
        }
    }

    fn failed(&self, error: Error) -> Failure {
        Failure::lock(&self.args.name, error)
    }

    /// One line about the lock on standard error.
    fn say(&self, what: &str) {
        output::message(&format!("resourcelock: {}: {what}", self.name().escape_debug()));
    }

    fn not_run(&self, not_run: &NotRun) -> Exit {
        let hint = if self.args.meant_signal() {
            " (-s asks for a shared lock; the signal for --limit is chosen by --signal)"
        } else {
            ""
        };
        self.say(&format!("{not_run}{hint}"));
        if not_run.system_failed() {
            Exit::Failed
        } else if not_run.not_found() {
            Exit::NotFound
        } else {
            Exit::CannotExecute
        }
    }

    fn acquire<'l>(&self, lock: &'l ResourceLock, program: &Program, own: &[u64]) -> Result<Option<Guard<'l>>, Error> {
        let args = self.args;
        let command = program.name();
        let note = self.note(&command);
        if args.replace {
            replace::ask_holders_to_end(lock, own, self.common.quiet);
        }
        let options = GetOptions::new()
            .wait(args.wait)
            .mode(args.mode)
            .lock_info(&note)
            .command(&command)
            .cancel(&CANCEL)
            .queue_at_once(true);
        let guard = lock.try_acquire(self.waiting.told_by(options))?;
        if guard.is_some() {
            self.waiting.over();
        }
        Ok(guard)
    }

    /// With the lock in hand.
    fn under(&self, guard: Guard<'_>, signals: &mut Signals, program: &Program, job: &Job) -> Result<Exit, Failure> {
        let abandoned = guard.abandoned();
        let environment = job.environment(self.name(), guard.token(), abandoned);
        if abandoned && self.args.on_abandoned == OnAbandoned::Fail {
            self.say("its previous holder died while it had the lock; see to the resource, then 'unget' the lock");
            self.give_back(guard, false)?;
            return Ok(Exit::Abandoned);
        }
        if abandoned && self.args.recover.is_none() && !self.common.quiet {
            self.say(output::ABANDONED);
        }
        if let Err(error) = guard.keep_alive_descriptor() {
            return self.not_kept(guard, error);
        }
        if let (true, Some(text)) = (abandoned, &self.args.recover)
            && let Err(failure) = self.recover(text, &guard, signals, &environment)
        {
            self.give_back(guard, false)?;
            return Err(failure);
        }
        if self.args.no_fork {
            match guard.bind(std::process::id()) {
                Ok(()) => {}
                // Nobody is left to try again.
                Err(error @ Error::Busy { .. }) => return self.not_kept(guard, error),
                // Without /proc the inherited descriptor alone keeps the lock.
                Err(error) => log::info!("<{}> {error}", self.name()),
            }
            if let Err(error) = guard.let_lapse() {
                return self.not_kept(guard, error);
            }
            // The guard gives the lock back if this returns.
            return Ok(self.not_run(&exec::exec_here(signals, program, &environment)));
        }
        let plan = self.plan(program, &environment);
        let mut watcher = Holding::new(self, &guard);
        let ended = match exec::run(signals, &plan, &mut watcher) {
            Ok(ended) => ended,
            Err(not_run) => {
                self.give_back(guard, !abandoned)?;
                return Ok(self.not_run(&not_run));
            }
        };
        let still_ours = !watcher.is_lost();
        let released = self.give_back(guard, ended.well() || !abandoned)?;
        if still_ours && !released {
            self.say(LOST);
        }
        Ok(if still_ours && released {
            exit_of(ended)
        } else {
            Exit::Lost
        })
    }

    /// What keeps the lock while the command runs could not be recorded: were this program killed, the lock would be
    /// another's beside the command. So there is no command.
    fn not_kept(&self, guard: Guard<'_>, error: Error) -> Result<Exit, Failure> {
        self.give_back(guard, false)?;
        Err(self.failed(error))
    }

    /// Whether it was still ours.
    fn give_back(&self, guard: Guard<'_>, mended: bool) -> Result<bool, Failure> {
        let released = if mended {
            guard.release()
        } else {
            guard.release_unmended()
        };
        released.map_err(|e| self.failed(e))
    }

    fn plan<'p>(&self, program: &'p Program, environment: &'p exec::Environment) -> Plan<'p> {
        Plan {
            program,
            environment,
            limit: self.args.limit.map(|after| exec::Limit {
                after,
                signal: self.args.signal.unwrap_or(libc::SIGTERM),
                kill_after: self.args.kill_after,
            }),
            guard: None,
            whole_tree: self.args.until == Until::Tree,
        }
    }

    /// `--recover`: brings the resource into order before the command, under the lock.
    fn recover(
        &self,
        text: &OsString,
        guard: &Guard<'_>,
        signals: &mut Signals,
        environment: &exec::Environment,
    ) -> Result<(), Failure> {
        let about = |what: String| Failure::about(&self.args.name, what);
        let program = Program::shell(text.clone()).map_err(|e| about(format!("--recover: {e}")))?;
        let plan = Plan {
            limit: None,
            whole_tree: false,
            ..self.plan(&program, environment)
        };
        let ended =
            exec::run(signals, &plan, &mut Holding::new(self, guard)).map_err(|e| about(format!("--recover: {e}")))?;
        match ended.how {
            How::Exited(0) => Ok(()),
            How::Exited(status) => Err(about(format!(
                "--recover ended with status {status}: the command was not run, the lock stays marked as abandoned"
            ))),
            How::Killed(signal) => Err(about(format!(
                "--recover was killed by signal {signal}: the command was not run, the lock stays marked as abandoned"
            ))),
        }
    }

    /// `--same-process-ok` for a lock that this job has already: the command runs under that hold, which is given
    /// back by the one who took it.
    fn under_inherited(
        &self,
        signals: &mut Signals,
        program: &Program,
        lock: &ResourceLock,
        job: &Job,
        token: u64,
    ) -> Result<Exit, Failure> {
        let innermost = std::env::var(job::TOKEN).is_ok_and(|t| t.parse() == Ok(token));
        let abandoned = innermost && std::env::var_os(job::ABANDONED).is_some();
        let environment = job.environment(self.name(), token, abandoned);
        if let Err(signal) = signals.settle() {
            return Ok(Exit::Signal(signal));
        }
        if self.args.no_fork {
            return Ok(self.not_run(&exec::exec_here(signals, program, &environment)));
        }
        let mut watcher = Inherited {
            run: self,
            lock,
            token,
            lost: false,
        };
        match exec::run(signals, &self.plan(program, &environment), &mut watcher) {
            Ok(ended) => {
                watcher.tick();
                Ok(if watcher.lost { Exit::Lost } else { exit_of(ended) })
            }
            Err(not_run) => Ok(self.not_run(&not_run)),
        }
    }
}

fn exit_of(ended: Ended) -> Exit {
    match ended.how {
        How::Killed(libc::SIGKILL) if ended.limit_reached => Exit::LimitKilled,
        _ if ended.limit_reached => Exit::Limit,
        How::Exited(status) => Exit::Command(u8::try_from(status).unwrap_or(u8::MAX)),
        How::Killed(signal) => Exit::Signal(signal),
    }
}

const LOST: &str = "somebody released the lock by force while the command ran: others may have had it at the same time";
const REPLACED: &str = "the lock's objects in /dev/shm were deleted while the command ran: others may have had a lock \
                        of this name at the same time";

/// Looks after this program's own hold while its command runs.
struct Holding<'a> {
    run: &'a Run<'a>,
    guard: &'a Guard<'a>,
    lost: bool,
    /// The command's process, while it could not be recorded yet.
    unrecorded: Option<u32>,
}

impl<'a> Holding<'a> {
    fn new(run: &'a Run<'a>, guard: &'a Guard<'a>) -> Self {
        Self {
            run,
            guard,
            lost: false,
            unrecorded: None,
        }
    }

    /// Records the command's process in the table: a second proof of life beside the inherited descriptor. Without it a
    /// command that closes all its descriptors is not covered if this program is killed.
    fn record(&mut self, pid: u32) {
        self.unrecorded = None;
        match self.guard.bind(pid) {
            Ok(()) => {}
            Err(error) => {
                log::info!("<{}> {error}", self.run.name()); // most often: it has ended already
                self.unrecorded = matches!(error, Error::Busy { .. }).then_some(pid);
            }
        }
    }

    /// Looks, and says so at the first time.
    fn is_lost(&mut self) -> bool {
        if !self.lost
            && let Some(how) = self.guard.lost()
        {
            self.lost = true;
            self.run.say(if how == Lost::Replaced { REPLACED } else { LOST });
        }
        self.lost
    }
}

impl Watcher for Holding<'_> {
    fn started(&mut self, pid: u32) {
        self.record(pid);
    }

    fn tick(&mut self) {
        if let Some(pid) = self.unrecorded {
            self.record(pid);
        }
        self.is_lost();
    }

    fn kept_alive_elsewhere(&mut self) -> bool {
        self.guard.kept_alive_elsewhere()
    }
}

/// Looks after a hold that was inherited.
struct Inherited<'a> {
    run: &'a Run<'a>,
    lock: &'a ResourceLock,
    token: u64,
    lost: bool,
}

impl Watcher for Inherited<'_> {
    fn started(&mut self, _pid: u32) {}

    fn tick(&mut self) {
        if !self.lost && !self.lock.is_held(self.token) {
            self.lost = true;
            self.run.say(LOST);
        }
    }

    fn kept_alive_elsewhere(&mut self) -> bool {
        false
    }
}
