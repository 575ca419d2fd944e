//! `get`: take the lock and leave it taken, as the Python tool does; with `-a` keep it for a time only.

use super::waiting::{Waiting, own_tokens};
use super::{Failure, bare, open};
use crate::cli::{Common, GetArgs};
use crate::exec;
use crate::exit::Exit;
use crate::output::{self, view};
use nix::poll::{PollTimeout, poll};
use resourcelock::{Cancel, Detached, Error, GetOptions, Guard, ResourceLock, State, UngetOptions};
use std::time::{Duration, Instant};

/// While it keeps the lock for `-a`, it looks this often whether a signal came just before it fell asleep.
const LOOK: Duration = Duration::from_millis(200);

/// Ends the wait; triggered by the signal handler.
static CANCEL: Cancel = Cancel::new();

/// Carries it out.
pub fn perform(common: &Common, args: &GetArgs) -> Result<Exit, Failure> {
    exec::catch_interrupts(|| CANCEL.cancel());
    let get = Get {
        common,
        args,
        lock: open(&args.name, &args.create)?,
        waiting: Waiting::new(common, &args.name),
    };
    let own = own_tokens(&get.lock);
    if let (true, Some(&token)) = (args.same_process_ok, own.last()) {
        return get.report(token, "held by this job already");
    }
    get.waiting
        .check_self_wait(|| get.lock.state(), &own, args.mode, args.wait)?;
    let guard = match get.acquire() {
        Ok(Some(guard)) => guard,
        Ok(None) => return get.not_had(),
        Err(Error::Cancelled) => return Ok(Exit::Signal(exec::interrupt().unwrap_or(libc::SIGTERM))),
        Err(error) => return Err(get.failed(error)),
    };
    if !common.quiet && get.lock.state().abandoned.is_some() {
        output::message(&format!(
            "resourcelock: {}: {}",
            bare(&args.name).escape_debug(),
            output::ABANDONED
        ));
    }
    let hold = Hold::new(guard, &get);
    match (exec::interrupt(), args.auto_unget) {
        // It came when the lock was being granted.
        (Some(signal), _) => {
            hold.release(&get)?;
            Ok(Exit::Signal(signal))
        }
        (None, Some(time)) => get.keep(hold, time),
        (None, None) => get.report(hold.token(), "taken"),
    }
}

/// What was granted.
enum Hold<'a> {
    /// To this process: with `-a` alone. It is given back also if this process is killed.
    Own(Guard<'a>),
    /// To nobody in particular, under this token.
    Detached(u64),
}

impl<'a> Hold<'a> {
    fn new(guard: Guard<'a>, get: &Get<'_>) -> Self {
        if get.is_detached() {
            let token = guard.token();
            guard.leave_held();
            Self::Detached(token)
        } else {
            Self::Own(guard)
        }
    }

    fn token(&self) -> u64 {
        match self {
            Self::Own(guard) => guard.token(),
            Self::Detached(token) => *token,
        }
    }

    /// False: somebody else had done so already.
    fn release(self, get: &Get<'_>) -> Result<bool, Failure> {
        let where_called = format!("{} - auto unget", get.args.message);
        let released = match self {
            Self::Own(guard) => guard.release(),
            Self::Detached(token) => get
                .lock
                .unget_lock(UngetOptions::new().token(token).where_called(&where_called)),
        };
        released.map_err(|error| get.failed(error))
    }
}

struct Get<'a> {
    common: &'a Common,
    args: &'a GetArgs,
    lock: ResourceLock,
    waiting: Waiting<'a>,
}

impl Get<'_> {
    fn name(&self) -> &str {
        bare(&self.args.name)
    }

    fn failed(&self, error: Error) -> Failure {
        Failure::lock(&self.args.name, error)
    }

    fn is_detached(&self) -> bool {
        self.args.auto_unget.is_none() || self.args.pid.is_some() || self.args.ttl.is_some()
    }

    fn acquire(&self) -> Result<Option<Guard<'_>>, Error> {
        let args = self.args;
        let command = self.is_detached().then(|| command_name(args.pid));
        let mut options = GetOptions::new()
            .wait(args.wait)
            .mode(args.mode)
            .lock_info(&args.message)
            .cancel(&CANCEL)
            .queue_at_once(true);
        if let Some(command) = &command {
            options = options.command(command).detached(Detached {
                pid: args.pid,
                ttl: args.ttl,
            });
        }
        let guard = self.lock.try_acquire(self.waiting.told_by(options))?;
        if guard.is_some() {
            self.waiting.over();
        }
        Ok(guard)
    }

    fn not_had(&self) -> Result<Exit, Failure> {
        let view = |state: &State| view::LockView::from(state);
        not_had(&self.waiting, self.args, Ok(&self.lock.state()), view)
    }

    fn report(&self, token: u64, what: &str) -> Result<Exit, Failure> {
        report(self.common, self.args, token, what)
    }

    /// `-a`: keeps the lock for `time`, or until a signal comes.
    fn keep(&self, hold: Hold<'_>, time: Duration) -> Result<Exit, Failure> {
        self.report(hold.token(), &format!("taken for {}", output::duration(time)))?;
        let since = Instant::now();
        while exec::interrupt().is_none()
            && let Some(left) = time.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
        {
            pause(left);
        }
        let was_ours = hold.release(self)?;
        if let Some(signal) = exec::interrupt() {
            return Ok(Exit::Signal(signal));
        }
        if !self.common.quiet && !self.args.json {
            let what = if was_ours {
                "released"
            } else {
                "somebody else had released it already"
            };
            output::print(&format!("{}: {what}\n", self.name()))?;
        }
        Ok(Exit::Done)
    }
}

/// Not had in time: says why. `state`: who has it, or why that cannot be read. `view`: what is shown of it as JSON.
pub fn not_had(
    waiting: &Waiting<'_>,
    args: &GetArgs,
    state: Result<&State, &Error>,
    view: fn(&State) -> view::LockView,
) -> Result<Exit, Failure> {
    if args.json {
        output::print_json(&view::GotView {
            version: view::VERSION,
            lock: bare(&args.name).to_owned(),
            got: false,
            token: None,
            state: state.ok().map(view),
        })?;
    }
    Ok(waiting.in_vain(state, args.conflict_exit_code))
}

/// Had: says so.
pub fn report(common: &Common, args: &GetArgs, token: u64, what: &str) -> Result<Exit, Failure> {
    let name = bare(&args.name);
    if args.json {
        output::print_json(&view::GotView {
            version: view::VERSION,
            lock: name.to_owned(),
            got: true,
            token: Some(token),
            state: None,
        })?;
    } else if !common.quiet {
        output::print(&format!("{name}: {what} (token {token})\n"))?;
    }
    Ok(Exit::Done)
}

/// Sleeps that long, or less: unlike std's sleep it ends early when a signal comes.
pub fn pause(time: Duration) {
    let slice = time.min(LOOK).as_millis().max(1);
    let _ = poll(&mut [], PollTimeout::try_from(slice).unwrap_or(PollTimeout::ZERO));
}

/// On whose behalf: the process that the hold is bound to, else the one that started this program (this one is gone
/// when others look).
pub fn command_name(pid: Option<u32>) -> String {
    let pid = pid.unwrap_or_else(std::os::unix::process::parent_id);
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = name.trim_end_matches('\n');
    if name.is_empty() {
        "resourcelock".to_owned()
    } else {
        name.to_owned()
    }
}
