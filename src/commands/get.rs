//! `get`: take the lock and leave it taken, as the Python tool does; with `-a` keep it for a time only.

use super::job::{self, Job};
use super::{Failure, bare, open};
use crate::cli::{Common, GetArgs};
use crate::exec;
use crate::exit::Exit;
use crate::output::{self, view};
use nix::poll::{PollTimeout, poll};
use resourcelock::{Cancel, Detached, Error, GetOptions, ResourceLock, UngetOptions, Wait};
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A wait that lasts longer than this says so.
const PATIENCE: Duration = Duration::from_secs(1);

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
    };
    let own = Job::inherited().tokens(&get.lock);
    if let (true, Some(&token)) = (args.same_process_ok, own.last()) {
        return get.report(token, "held by this job already");
    }
    if job::waits_for_itself(&get.lock.state(), &own, args.mode) {
        get.warn_of_self_wait()?;
    }
    let got = match get.acquire() {
        Ok(got) => got,
        Err(Error::Cancelled) => return Ok(Exit::Signal(exec::interrupt().unwrap_or(libc::SIGTERM))),
        Err(error) => return Err(get.failed(error)),
    };
    if !got {
        return get.not_had();
    }
    let token = get.lock.token().unwrap_or_default();
    match (exec::interrupt(), args.auto_unget) {
        // It came when the lock was being granted.
        (Some(signal), _) => {
            get.release(token)?;
            Ok(Exit::Signal(signal))
        }
        (None, Some(time)) => get.keep(token, time),
        (None, None) => get.report(token, "taken"),
    }
}

struct Get<'a> {
    common: &'a Common,
    args: &'a GetArgs,
    lock: ResourceLock,
}

impl Get<'_> {
    fn name(&self) -> &str {
        bare(&self.args.name)
    }

    fn failed(&self, error: Error) -> Failure {
        Failure::lock(&self.args.name, error)
    }

    /// A request for what this very job holds already, in a way that excludes it.
    fn warn_of_self_wait(&self) -> Result<(), Failure> {
        match self.args.wait {
            Wait::Forever => Err(Failure::about(
                &self.args.name,
                "this job holds the lock itself and would wait for itself: use --same-process-ok, or limit the wait (-t)",
            )),
            Wait::For(_) if !self.common.quiet => {
                output::message(&format!(
                    "resourcelock: {}: this job holds the lock itself and now waits for itself, until its time is up",
                    self.name()
                ));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn acquire(&self) -> Result<bool, Error> {
        let args = self.args;
        let command = command_name(args.pid);
        let (quiet, wordy) = (self.common.quiet, self.common.verbose > 0);
        let said = AtomicBool::new(false);
        let mut options = GetOptions::new()
            .wait(args.wait)
            .mode(args.mode)
            .lock_info(&args.message)
            .command(&command)
            .cancel(&CANCEL)
            .queue_at_once(true)
            .on_wait(PATIENCE, |state| {
                if !quiet && (wordy || io::stderr().is_terminal()) {
                    output::message(&output::waiting(state));
                    said.store(true, Ordering::Relaxed);
                }
            });
        // With -a alone this process holds the lock itself: it is given back also if this process is killed.
        if args.auto_unget.is_none() || args.pid.is_some() || args.ttl.is_some() {
            options = options.detached(Detached {
                pid: args.pid,
                ttl: args.ttl,
            });
        }
        let asked = Instant::now();
        let got = self.lock.get_lock(options)?;
        if got && said.load(Ordering::Relaxed) {
            output::message(&format!("got {} after {}", self.name(), output::duration(asked.elapsed())));
        }
        Ok(got)
    }

    fn not_had(&self) -> Result<Exit, Failure> {
        let code = self.args.conflict_exit_code;
        let state = self.lock.state();
        if self.args.json {
            output::print_json(&view::GotView {
                version: view::VERSION,
                lock: self.name().to_owned(),
                got: false,
                token: None,
                state: Some(view::LockView::from(&state)),
            })?;
        }
        if !self.common.quiet && code != Some(0) {
            output::message(&format!("resourcelock: {}: {}", self.name(), output::refusal(&state)));
        }
        Ok(Exit::NotHad(code))
    }

    fn report(&self, token: u64, what: &str) -> Result<Exit, Failure> {
        if self.args.json {
            output::print_json(&view::GotView {
                version: view::VERSION,
                lock: self.name().to_owned(),
                got: true,
                token: Some(token),
                state: None,
            })?;
        } else if !self.common.quiet {
            output::print(&format!("{}: {what} (token {token})\n", self.name()))?;
        }
        Ok(Exit::Done)
    }

    /// `-a`: keeps the lock for `time`, or until a signal comes.
    fn keep(&self, token: u64, time: Duration) -> Result<Exit, Failure> {
        self.report(token, &format!("taken for {}", output::duration(time)))?;
        let since = Instant::now();
        while exec::interrupt().is_none()
            && let Some(left) = time.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
        {
            // Unlike std's sleep this ends early when a signal comes.
            let slice = left.min(LOOK).as_millis().max(1);
            let _ = poll(&mut [], PollTimeout::try_from(slice).unwrap_or(PollTimeout::ZERO));
        }
        let was_ours = self.release(token)?;
        if let Some(signal) = exec::interrupt() {
            return Ok(Exit::Signal(signal));
        }
        if !self.common.quiet && !self.args.json {
            let what = if was_ours { "released" } else { "somebody else had released it already" };
            output::print(&format!("{}: {what}\n", self.name()))?;
        }
        Ok(Exit::Done)
    }

    fn release(&self, token: u64) -> Result<bool, Failure> {
        let where_called = format!("{} - auto unget", self.args.message);
        self.lock
            .unget_lock(UngetOptions::new().token(token).where_called(&where_called))
            .map_err(|error| self.failed(error))
    }
}

/// On whose behalf: the process that the hold is bound to, else the one that started this program (this one is gone
/// when others look).
fn command_name(pid: Option<u32>) -> String {
    let pid = pid.unwrap_or_else(std::os::unix::process::parent_id);
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = name.trim_end_matches('\n');
    if name.is_empty() { "resourcelock".to_owned() } else { name.to_owned() }
}
