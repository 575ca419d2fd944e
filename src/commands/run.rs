//! `run`: a command under the lock.
//!
//! The order of things, where each type holds what the one before has made, and its method leads to the next:
//!
//! | | what has happened | where |
//! |---|---|---|
//! | [`Prepared`] | the command was found; a signal ends the wait; a wait for oneself is refused | `Prepared::new` (`run/prepared.rs`) |
//! | [`Granted`](granted::Granted) | the lock was acquired, in turn | `Prepared::acquire` (`run/prepared.rs`) |
//! | [`Checked`](checked::Checked) | signals are the command's; what a previous holder left was seen to; what keeps the lock while the command runs is recorded; the hold still stands | `Granted::check` (`run/granted.rs`) |
//! | [`Exit`] | the command was started and has ended; the lock was released | `Checked::start` (`run/checked.rs`) |
//!
//! So a command whose hold was not checked cannot be started. A job that already holds the lock takes another way, with
//! the same last check (`run/inherited.rs`).

mod checked;
mod granted;
mod holds;
mod inherited;
mod period;
mod prepared;
mod replace;

use super::waiting::{Answer, Waiting};
use super::{Failure, bare, not_acquired};
use crate::cli::{Common, OnAbandoned, Payload, RunArgs, Until, quoted};
use crate::entry;
use crate::exec::{self, Ended, How, NotRun, Plan, Program, Sent};
use crate::exit::Exit;
use crate::output::{self, names};
use crate::syslog;
use period::{Due, due};
use prepared::{Prepared, Request};
use resourcelock::engines::Engine;
use resourcelock::{Cancel, CommandEnd, Error, LockName, Lost, Mode};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

/// How often it is checked, while the command runs, that its hold still stands: nobody tells of the deletion of the lock's
/// files.
const STILL_HELD: Duration = Duration::from_secs(5);

/// Ends the wait; triggered by the signal handler.
static CANCEL: Cancel = Cancel::new();

/// Carries it out.
pub fn perform(engine: &dyn Engine, common: &Common, args: RunArgs) -> Result<Exit, Failure> {
    entry::set_subject(bare(&args.name));
    let run = Run {
        engine,
        common,
        args: &args,
        wanted: Wanted::new(common, &args.name, args.request.mode)?,
        others: others(common, &args)?,
    };
    match run.perform() {
        Ok(exit) | Err(Stop::With(exit)) => Ok(exit),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

/// Why there is no next step.
enum Stop {
    /// With this status; everything has been said.
    With(Exit),
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What stays the same from the beginning to the end.
struct Run<'a> {
    engine: &'a dyn Engine,
    common: &'a Common,
    args: &'a RunArgs,
    /// NAME's lock.
    wanted: Wanted<'a>,
    /// Those of `--with`.
    others: Vec<Wanted<'a>>,
}

/// A lock that the command is to run under.
struct Wanted<'a> {
    lock: LockName,
    mode: Mode,
    waiting: Waiting<'a>,
}

impl<'a> Wanted<'a> {
    fn new(common: &'a Common, name: &'a str, mode: Mode) -> Result<Self, Failure> {
        Ok(Self {
            lock: super::name(name)?,
            mode,
            waiting: Waiting::new(common, name),
        })
    }
}

/// The locks of `--with`, each of which is another one.
fn others<'a>(common: &'a Common, args: &'a RunArgs) -> Result<Vec<Wanted<'a>>, Failure> {
    let mut names = BTreeSet::from([super::name(&args.name)?]);
    let mut others = Vec::with_capacity(args.with.len());
    for (name, mode) in &args.with {
        let other = Wanted::new(common, name, *mode)?;
        if !names.insert(other.lock.clone()) {
            let what = "this run asks for the lock twice and would wait for itself: name it once";
            return Err(Failure::about(name, what));
        }
        others.push(other);
    }
    Ok(others)
}

impl Run<'_> {
    fn perform(&self) -> Result<Exit, Stop> {
        match Prepared::new(self)?.request()? {
            Request::Own(inherited) => inherited.check()?.start(),
            Request::New(prepared) => prepared.acquire()?.check()?.start(),
        }
    }

    /// What others read: the message, else the command. Its arguments may be secret, and so may the text of `-c`: they
    /// are shown only if that was asked for.
    fn note(&self, command: &str) -> String {
        if let Some(message) = &self.args.message {
            return message.clone();
        }
        let quoted = |word: &OsString| quoted(word);
        match &self.args.payload {
            Payload::Words(words) if self.args.show_args => words.iter().map(quoted).collect::<Vec<_>>().join(" "),
            Payload::Shell(text) if self.args.show_args => format!("{command} -c {}", quoted(text)),
            Payload::Shell(_) => format!("{command} -c"),
            Payload::Words(_) => command.to_owned(),
        }
    }

    /// For the system's log: the run has ended, with the command's end if that was started.
    fn log_end(&self, exit: Exit, ended: Option<Ended>) {
        let signal = match ended.map(|ended| ended.how) {
            Some(How::Killed(signal)) => names::signal(signal),
            _ => String::new(),
        };
        let why = match exit {
            Exit::Lost => "lost",
            Exit::Limit | Exit::LimitKilled => "limit",
            _ => "",
        };
        for wanted in self.all() {
            syslog::tell(self.common, wanted.lock.as_str(), "ended", || {
                let status = exit.status().to_string();
                [("status", status), ("signal", signal.clone()), ("why", why.to_owned())]
            });
        }
    }

    /// All locks that the command is to run under, NAME's first.
    fn all(&self) -> impl Iterator<Item = &Wanted<'_>> {
        std::iter::once(&self.wanted).chain(&self.others)
    }

    /// `--once-every`: there is nothing to do if the job has been done in this period. `speaks`: says why it is due in spite of
    /// a run that is said to be done.
    fn check_due(&self, speaks: bool) -> Result<(), Stop> {
        let Some(every) = self.args.once_every else {
            return Ok(());
        };
        let last = self.engine.last_done(&self.wanted.lock, &CANCEL);
        let Some(last) = last.map_err(|error| self.failed(error))? else {
            return Ok(());
        };
        match due(last.began, last.now, every) {
            Due::Now => Ok(()),
            Due::NotByTheirClock(ahead) => {
                if speaks && !self.common.quiet {
                    self.say(&format!(
                        "the last run with --once-every is said to have begun {} from now, so it does not count: was a clock set \
                         back, or do the hosts' clocks differ?",
                        output::duration(ahead)
                    ));
                }
                Ok(())
            }
            Due::Later { ago, left } => {
                let who = names::process_on(last.pid, &last.host);
                Err(Stop::With(self.wanted.waiting.not_due(
                    &format!(
                        "done {} ago by {who}, due in {}",
                        output::duration(ago),
                        output::duration(left)
                    ),
                    self.args.request.conflict_exit_code,
                )))
            }
        }
    }

    /// The lock was not acquired in time: counts that for `--max-skips`. By the number of this skip, so that of several at
    /// the same time one is the last straw.
    fn count_skip(&self) -> Result<Answer, Stop> {
        let code = self.args.request.conflict_exit_code;
        let Some(most) = self.args.max_skips else {
            return Ok(Answer::Usual(code));
        };
        match self.engine.count_skip(&self.wanted.lock, &CANCEL) {
            Ok(skips) if skips.is_multiple_of(most.into()) => Ok(Answer::Skips(skips)),
            Ok(_) => Ok(Answer::Skip(code)),
            Err(Error::Cancelled) => Err(self.failed(Error::Cancelled)),
            Err(error) => {
                // It may be the last straw.
                if !self.common.quiet {
                    self.say(&format!("the skip could not be counted: {}", error.with_source()));
                }
                Ok(Answer::Usual(None))
            }
        }
    }

    fn failed(&self, error: Error) -> Stop {
        self.failed_on(&self.wanted.lock, error)
    }

    fn failed_on(&self, lock: &LockName, error: Error) -> Stop {
        let code = self.args.request.conflict_exit_code;
        let wanted = self.all().find(|wanted| wanted.lock == *lock).unwrap_or(&self.wanted);
        match error {
            Error::Cancelled => Stop::With(super::interrupted()),
            Error::Busy { pid } => Stop::With(wanted.waiting.stood_still(lock, pid, code)),
            Error::Superseded => Stop::With(wanted.waiting.superseded(code)),
            error => not_acquired(lock.as_str(), self.common, error).into(),
        }
    }

    /// One line about the lock on standard error.
    fn say(&self, what: &str) {
        holds::say(&self.wanted.lock, what);
    }

    /// Says what was done about a command that reached its limit, or (`ended`) about what it has left behind: cron mails
    /// what is said, not statuses.
    fn say_limit(&self, pid: u32, ended: bool, sent: Sent) {
        if self.common.quiet {
            return;
        }
        let command = match &self.args.payload {
            Payload::Words(words) => words.first().map(|word| word.to_string_lossy().into_owned()),
            Payload::Shell(_) => None,
        };
        let command = resourcelock::system::printable(command.as_deref().unwrap_or("-c"));
        let left_behind = if ended { "what was left behind by " } else { "" };
        self.say(&match sent {
            Sent::Signal(signal, after) => format!(
                "sent {} to {left_behind}{pid} ({command}), which reached its limit of {}",
                names::signal(signal),
                output::duration(after)
            ),
            Sent::Kill(after) => format!(
                "sent KILL to {left_behind}{pid} ({command}), which still ran {} later",
                output::duration(after)
            ),
        });
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

    fn plan<'p>(&self, program: &'p Program, environment: &'p exec::Environment) -> Plan<'p> {
        Plan {
            program,
            environment,
            limit: self.args.limit.map(|after| exec::Limit {
                after,
                signal: self.args.signal,
                kill_after: self.args.kill_after,
            }),
            guard: None,
            whole_tree: self.args.until == Until::Tree,
        }
    }
}

/// For the history.
fn command_end(how: How) -> CommandEnd {
    match how {
        How::Exited(status) => CommandEnd::Exited(status),
        How::Killed(signal) => CommandEnd::Killed(signal),
    }
}

/// This program's status after the command's end.
fn exit_of(ended: Ended) -> Exit {
    match ended.how {
        How::Killed(libc::SIGKILL) if ended.limit_reached => Exit::LimitKilled,
        _ if ended.limit_reached => Exit::Limit,
        How::Exited(status) => Exit::Command(u8::try_from(status).unwrap_or(u8::MAX)),
        How::Killed(signal) => Exit::Signal(signal),
    }
}

/// True if the command was apparently asked to end: it was killed by a signal, or has the status that a shell makes of
/// that.
///
/// Whoever did that wants this program to end soon, and sees from its status that the work was interrupted. To find out
/// if the lock was lost as well (76) is not worth waiting for then. Otherwise it is: a command that reports success must
/// have held the lock until its end.
fn was_asked_to_end(ended: Ended) -> bool {
    !ended.limit_reached
        && match ended.how {
            How::Killed(_) => true,
            How::Exited(status) => status > 128,
        }
}

/// The message that the lock was lost, and how.
fn lost(how: Lost) -> &'static str {
    match how {
        Lost::Forced => {
            "somebody released the lock by force while the command ran: others may have had it at the same time"
        }
        Lost::Replaced => {
            "the lock's objects in /dev/shm were deleted while the command ran: others may have had a lock of this name \
             at the same time"
        }
        Lost::Damaged => {
            "the lock's objects in /dev/shm were truncated or overwritten while the command ran: others may have had a lock \
             of this name at the same time; 'remove --force' makes room for a new one"
        }
        _ => "the lock was lost while the command ran: others may have had it at the same time",
    }
}

/// Reported instead of a start.
const LOST_BEFORE: &str = "the lock was lost before the command was started: it was not run";
