//! `get`: acquires the lock and leaves it taken, as the Python tool does; with `-a` only for a time.

use super::job::{self, Job};
use super::waiting::{Answer, Waiting};
use super::{Failure, advice, bare, interrupted, not_acquired};
use crate::cli::{Common, GetArgs};
use crate::exec;
use crate::exit::Exit;
use crate::output::{self, shown, view};
use crate::syslog;
use resourcelock::engines::{Engine, Validity};
use resourcelock::{Cancel, Detached, Error, GetOptions, Guard, LockName, PREVIOUS_HOLDER_DIED, State, UngetOptions};
use std::io;
use std::time::{Duration, Instant};

/// Ends the wait; triggered by the signal handler.
static CANCEL: Cancel = Cancel::new();

/// Carries it out.
pub fn perform(engine: &dyn Engine, common: &Common, args: &GetArgs) -> Result<Exit, Failure> {
    exec::catch_interrupts(|| CANCEL.cancel());
    let get = Get {
        engine,
        common,
        args,
        lock: super::name(&args.name)?,
        waiting: Waiting::new(common, &args.name),
    };
    let job = Job::inherited();
    let remote = engine.capabilities().remote;
    if job.mentions(&get.lock, remote) {
        engine.check_trust(&get.lock).map_err(|error| get.failed(error))?;
        let state = match engine.state(&get.lock, &CANCEL) {
            Err(Error::Cancelled) => return Ok(interrupted()),
            state => state.map_err(|error| get.failed(error))?,
        };
        let own = state.as_ref().map(|state| job.holds(state, remote)).unwrap_or_default();
        if let Some(state) = state {
            if args.request.same_process_ok
                && let Some(token) = job::including(&state, &own, args.request.mode)
            {
                return get.report(token, "held by this job already");
            }
            get.waiting
                .check_self_wait(&state, &own, args.request.mode, args.request.wait)?;
        }
    }
    let hold = match get.acquire() {
        Ok(Some(hold)) => hold,
        Ok(None) => return get.timed_out(|state, code| get.waiting.timed_out(state, Answer::Usual(code))),
        Err(Error::Busy { pid }) => return get.timed_out(|_, code| get.waiting.stood_still(&get.lock, pid, code)),
        Err(Error::Cancelled) => return Ok(interrupted()),
        Err(error) if exec::interrupt().is_some() => {
            // The lock may stay taken, which whoever ended this program should know.
            output::message(&format!("resourcelock: {}", get.failed(error)));
            return Ok(interrupted());
        }
        Err(error) => return Err(get.failed(error)),
    };
    get.waiting.over();
    get.waiting.granted(hold.token(), "", &args.message);
    if hold.abandoned() && !common.quiet && engine.report_death(&get.lock) {
        output::message(&format!("resourcelock: {}: {}", get.name(), PREVIOUS_HOLDER_DIED));
    }
    match (exec::interrupt(), args.auto_unget) {
        // It came when the lock was being granted.
        (Some(signal), _) => {
            hold.release(&get)?;
            Ok(Exit::Signal(signal))
        }
        (None, Some(time)) => get.keep(hold, time),
        (None, None) => get.leave(hold),
    }
}

/// What was granted.
enum Hold {
    /// To this process: it is released also if this process is killed.
    Own(Guard),
    /// To no process, with this token.
    Detached { token: u64, abandoned: bool },
}

impl Hold {
    fn token(&self) -> u64 {
        match self {
            Self::Own(held) => held.token(),
            Self::Detached { token, .. } => *token,
        }
    }

    fn abandoned(&self) -> bool {
        match self {
            Self::Own(held) => held.abandoned(),
            Self::Detached { abandoned, .. } => *abandoned,
        }
    }

    /// False if it was lost, or is about to be: its lease could not be renewed and is nearly over.
    fn lasts(&self) -> bool {
        match self {
            Self::Own(held) => match held.validity() {
                // As long as a command would not be killed yet.
                Validity::Until(lease) => lease.left() > lease.ttl.saturating_sub(lease.kill_after()),
                other => other.is_certain(),
            },
            Self::Detached { .. } => true,
        }
    }

    fn shorten_release(&mut self) {
        if let Self::Own(held) = self {
            held.shorten_release();
        }
    }

    /// False: somebody else had done so already.
    fn release(self, get: &Get<'_>) -> Result<bool, Failure> {
        let where_called = format!("{} - auto unget", get.args.message);
        let released = match self {
            Self::Own(held) => held.release(),
            Self::Detached { token, .. } => {
                let target = UngetOptions::new().token(token).where_called(&where_called);
                get.engine.break_hold(&get.lock, target)
            }
        };
        released.map_err(|error| get.failed(error))
    }
}

struct Get<'a> {
    engine: &'a dyn Engine,
    common: &'a Common,
    args: &'a GetArgs,
    lock: LockName,
    waiting: Waiting<'a>,
}

impl Get<'_> {
    fn name(&self) -> &str {
        bare(&self.args.name)
    }

    fn failed(&self, error: Error) -> Failure {
        let advice = match &error {
            Error::MayStayTaken { token, .. } => {
                let words = format!("unget --token {token}");
                Some(advice::command_line(self.common, self.name(), &words))
            }
            _ => None,
        };
        let failure = not_acquired(&self.args.name, self.common, error);
        match advice {
            Some(line) => failure.advising(format!("to release it: {line}")),
            None => failure,
        }
    }

    /// True if the hold is to outlive this process. With `-a`, `--ttl` is the length of a lease where there are leases.
    fn is_detached(&self) -> bool {
        let expires = self.args.ttl.is_some() && !self.engine.capabilities().lease;
        self.args.auto_unget.is_none() || self.args.pid.is_some() || expires
    }

    fn acquire(&self) -> Result<Option<Hold>, Error> {
        let args = self.args;
        let capabilities = self.engine.capabilities();
        let detached = self.is_detached();
        let command = (detached || capabilities.remote).then(|| command_name(args.pid));
        let mut options = GetOptions::new()
            .wait(args.request.wait)
            .mode(args.request.mode)
            .lock_info(&args.message)
            .cancel(&CANCEL)
            .queue_at_once(true);
        if let Some(command) = &command {
            options = options.command(command);
        }
        let options = self.waiting.told_by(options, self.engine, args.request.wait);
        if detached {
            let detached = Detached {
                pid: args.pid,
                must_unget: args.must_unget,
                ttl: args.ttl,
            };
            let hold = self.engine.acquire_detached(&self.lock, &options, detached)?;
            return Ok(hold.map(|hold| Hold::Detached {
                token: hold.token,
                abandoned: hold.abandoned,
            }));
        }
        let options = match args.ttl {
            Some(ttl) => options.lease(ttl),
            None => options,
        };
        Ok(self.engine.acquire(&self.lock, &options)?.map(Hold::Own))
    }

    /// Not acquired in time: says why.
    fn timed_out(&self, say: impl FnOnce(&Result<Option<State>, Error>, Option<u8>) -> Exit) -> Result<Exit, Failure> {
        let state = self.engine.peek(&self.lock);
        if self.args.json {
            output::print_json(&view::GotView {
                version: view::VERSION,
                lock: self.name().to_owned(),
                got: false,
                token: None,
                state: state
                    .as_ref()
                    .ok()
                    .and_then(|state: &Option<State>| state.as_ref())
                    .map(view::LockView::from),
            })?;
        }
        Ok(say(&state, self.args.request.conflict_exit_code))
    }

    /// Acquired: says so.
    fn report(&self, token: u64, what: &str) -> Result<Exit, Failure> {
        let name = self.name();
        let read = if self.args.json {
            output::print_json(&view::GotView {
                version: view::VERSION,
                lock: name.to_owned(),
                got: true,
                token: Some(token),
                state: None,
            })?
        } else if self.common.quiet {
            true
        } else {
            output::print(&format!("{}: {what} (token {token})\n", shown(name)))?
        };
        if read {
            Ok(Exit::Done)
        } else {
            // Whoever should have read it does not know that the lock is taken.
            Err(io::Error::from_raw_os_error(libc::EPIPE).into())
        }
    }

    /// Reports that the lock is taken, and leaves it so. If that cannot be printed, releases it: nobody expects to hold a
    /// lock after a failure.
    fn leave(&self, hold: Hold) -> Result<Exit, Failure> {
        match self.report(hold.token(), "taken") {
            Ok(exit) => Ok(exit),
            Err(failure) => {
                hold.release(self)?;
                Err(failure)
            }
        }
    }

    /// `-a`: keeps the lock for `time`, or until a signal comes, or until it is lost or is about to be.
    fn keep(&self, mut hold: Hold, time: Duration) -> Result<Exit, Failure> {
        if let Err(failure) = self.report(hold.token(), &format!("taken for {}", output::duration(time))) {
            hold.release(self)?;
            return Err(failure);
        }
        let since = Instant::now();
        while exec::interrupt().is_none()
            && hold.lasts()
            && let Some(left) = time.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
        {
            exec::pause(left);
        }
        let lasted = hold.lasts();
        if !lasted || exec::interrupt().is_some() {
            hold.shorten_release();
        }
        let released = hold.release(self);
        syslog::tell(self.common, self.name(), "released", || {
            let lost = if lasted { "" } else { "lost" };
            [("why", lost.to_owned())]
        });
        if let Some(signal) = exec::interrupt() {
            return Ok(Exit::Signal(signal));
        }
        // Where it did not last, that is what counts, whatever the answer is and whether there is one.
        let was_ours = lasted && released?;
        let leased = self.engine.capabilities().lease;
        if !self.common.quiet && !self.args.json {
            let what = match (was_ours, leased) {
                (true, _) => "released",
                (false, true) => "it was lost before",
                (false, false) => "somebody else had released it already",
            };
            output::print(&format!("{}: {what}\n", shown(self.name())))?;
        }
        Ok(if was_ours || !leased { Exit::Done } else { Exit::Lost })
    }
}

/// The command that others are shown: of the process that the hold is bound to, else of the one that started this
/// program, which will have ended.
fn command_name(pid: Option<u32>) -> String {
    let pid = pid.unwrap_or_else(std::os::unix::process::parent_id);
    let name = if resourcelock::system::proc_is_own() {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()
    } else {
        String::new() // there the number may mean another process
    };
    let name = name.trim_end_matches('\n');
    if name.is_empty() {
        "resourcelock".to_owned()
    } else {
        name.to_owned()
    }
}
