//! `stop`: asks the command that runs under the lock to end, and waits until its hold has ended.

use super::job::{self, Job};
use super::support::ask_to_end::{self, NotAsked, STARTING, ask_marked_to_end, ask_to_end, when_started};
use super::{Failure, advice, bare};
use crate::cli::{Common, StopArgs};
use crate::exit::Exit;
use crate::output::{self, names, shown};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use resourcelock::engines::Engine;
use resourcelock::system::{Process, printable};
use resourcelock::{Cancel, Holder, LockName, State, Wait};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Between two views of the lock while what was asked still runs, here and on another machine. Its end is noticed at once.
const VIEW_EVERY: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// After its end, at first.
const VIEW_AGAIN: Duration = Duration::from_millis(5);
/// How many processes are named.
const MOST_NAMED: usize = 8;

/// Carries it out.
pub fn perform(engine: &dyn Engine, common: &Common, args: &StopArgs) -> Result<Exit, Failure> {
    let stop = Stopping {
        engine,
        common,
        args,
        lock: &super::name(&args.name)?,
        remote: engine.capabilities().remote,
    };
    if let (Some(kill_after), Wait::For(wait)) = (args.kill_after, args.wait)
        && kill_after >= wait
    {
        let what = format!(
            "the wait (-t) is over after {}, so KILL would never be sent: use a longer -t, or a shorter -k",
            output::duration(wait)
        );
        return Err(Failure::about(&args.name, what));
    }
    stop.perform()
}

struct Stopping<'a> {
    engine: &'a dyn Engine,
    common: &'a Common,
    args: &'a StopArgs,
    lock: &'a LockName,
    remote: bool,
}

/// A hold whose command was asked to end.
struct Asked {
    holder: Holder,
    /// Those that were signalled and have not ended.
    processes: Vec<Process>,
    /// The last signal.
    signal: i32,
}

impl Stopping<'_> {
    fn perform(&self) -> Result<Exit, Failure> {
        self.engine
            .check_trust(self.lock)
            .map_err(|error| Failure::lock(&self.args.name, error))?;
        let since = Instant::now();
        let state = self.view()?;
        let holders = self.meant(state.as_ref());
        if holders.is_empty() {
            return Ok(self.nobody(state.as_ref()));
        }
        let job = Job::inherited();
        let own = state.map(|state| job.holds(&state, self.remote)).unwrap_or_default();
        let mut asked = Vec::new();
        let mut all_asked = true;
        for holder in holders {
            if holder.token.is_some_and(|token| own.contains(&token)) {
                self.say("not asked: this job itself holds the lock; use 'stop' outside of it");
                all_asked = false;
                continue;
            }
            match self.ask_when_started(&holder, since + STARTING)? {
                Ok(processes) => asked.push(Asked {
                    holder,
                    processes,
                    signal: self.args.signal,
                }),
                Err(why) => {
                    self.say(&format!(
                        "{} was not asked to end: {}",
                        output::holder(&holder),
                        self.advised(&holder, &why)
                    ));
                    all_asked = false;
                }
            }
        }
        let in_time = asked.is_empty() || self.wait(asked, since)?;
        Ok(match (in_time, all_asked) {
            (false, _) => Exit::NotAcquired(None),
            (true, false) => Exit::Failed,
            (true, true) => Exit::Done,
        })
    }

    fn view(&self) -> Result<Option<State>, Failure> {
        let state = self.engine.state(self.lock, &Cancel::new());
        state.map_err(|error| Failure::lock(&self.args.name, error))
    }

    /// The holds that are to end.
    fn meant(&self, state: Option<&State>) -> Vec<Holder> {
        let is_meant =
            |holder: &&Holder| holder.alive && self.args.token.is_none_or(|token| holder.token == Some(token));
        let holders = state.map(|state| state.holders.as_slice()).unwrap_or_default();
        holders.iter().filter(is_meant).cloned().collect()
    }

    /// No holder is meant that could be asked.
    fn nobody(&self, state: Option<&State>) -> Exit {
        match self.args.token {
            Some(token) => self.say(&format!("not held under token {token}")),
            None if state.is_some_and(|state| state.foreign) => {
                let unget = advice::command_line(self.common, bare(&self.args.name), "unget");
                self.say(&format!(
                    "its holder uses the Python module or the bare semaphore, so nobody knows which process it is: find \
                     it and end it; if it has died, release the lock: {unget}"
                ));
                return Exit::Failed;
            }
            None => self.say("nobody holds it"),
        }
        Exit::No
    }

    /// Asks the command of a holder, which may be about to start it.
    fn ask_when_started(&self, holder: &Holder, until: Instant) -> Result<Result<Vec<Process>, NotAsked>, Failure> {
        if self.remote {
            // It has no process as long as its command has not been started.
            loop {
                match self.ask(holder, self.args.signal) {
                    Err(NotAsked::Unproven(_)) if Instant::now() < until => pause(&[], VIEW_EVERY[0]),
                    asked => return Ok(asked),
                }
            }
        }
        match when_started(holder, until, || self.view())? {
            Some(holder) => Ok(self.ask(&holder, self.args.signal)),
            None => Ok(Ok(Vec::new())), // it has released the lock
        }
    }

    fn ask(&self, holder: &Holder, signal: i32) -> Result<Vec<Process>, NotAsked> {
        if !self.remote {
            let asked = ask_to_end(self.lock, holder, signal)?;
            if asked.is_some() || holder.kept_by.is_none() {
                return Ok(asked.into_iter().collect());
            }
        }
        ask_marked_to_end(self.lock, holder, self.remote, signal)
    }

    /// Waits for the end of the holds whose commands were asked to end; false = not in time.
    fn wait(&self, mut asked: Vec<Asked>, since: Instant) -> Result<bool, Failure> {
        let deadline = match self.args.wait {
            Wait::No => Some(since),
            Wait::For(time) => since.checked_add(time),
            Wait::Forever => None,
        };
        let mut kill_at = self.args.kill_after.and_then(|time| since.checked_add(time));
        let longest = VIEW_EVERY[usize::from(self.remote)];
        let mut interval = VIEW_AGAIN;
        loop {
            let state = self.view()?;
            let held = self.meant(state.as_ref());
            let (still, ended) = asked
                .into_iter()
                .partition(|asked: &Asked| held.iter().any(|holder| holder.token == asked.holder.token));
            asked = still;
            self.report(ended)?;
            if asked.is_empty() {
                return Ok(true);
            }
            let now = Instant::now();
            if kill_at.is_some_and(|at| at <= now) {
                kill_at = None;
                self.kill(&mut asked, &held);
            }
            if deadline.is_some_and(|at| at <= now) {
                self.report_late(&asked, state.as_ref(), since);
                return Ok(false);
            }
            let mut processes: Vec<&Process> = Vec::new();
            for asked in &mut asked {
                asked.processes.retain(|process| !process.has_ended());
                processes.extend(&asked.processes);
            }
            interval = match processes.is_empty() {
                true => (2 * interval).min(longest),
                false => longest,
            };
            let next = [deadline, kill_at].into_iter().flatten().min();
            let left = next.map(|at| at.saturating_duration_since(now));
            pause(&processes, left.map_or(interval, |left| left.min(interval)));
            if processes.iter().any(|process| process.has_ended()) {
                interval = VIEW_AGAIN;
            }
        }
    }

    /// `-k`: whoever still runs is killed.
    fn kill(&self, asked: &mut [Asked], held: &[Holder]) {
        for asked in asked {
            // As it is now: what is left may be another process.
            let holder = held.iter().find(|holder| holder.token == asked.holder.token);
            match self.ask(holder.unwrap_or(&asked.holder), libc::SIGKILL) {
                Ok(processes) => {
                    asked.signal = libc::SIGKILL;
                    asked.processes.extend(processes);
                }
                Err(why) => self.say(&format!("{} was not killed: {why}", output::holder(&asked.holder))),
            }
        }
    }

    /// Says which holds have ended, and what their commands have left behind.
    fn report(&self, ended: Vec<Asked>) -> Result<(), Failure> {
        for Asked { holder, signal, .. } in ended {
            if self.common.quiet {
                continue;
            }
            output::print(&format!(
                "{}: {} has ended (sent {})\n",
                shown(self.lock),
                output::holder(&holder),
                names::signal(signal)
            ))?;
            let left = self.left_behind(&holder);
            if !left.is_empty() {
                self.say(&format!("still running, without the lock: {left}"));
            }
        }
        Ok(())
    }

    /// The processes that run under the hold, for people; empty = none.
    fn left_behind(&self, holder: &Holder) -> String {
        let here = holder.requester.same_pid_namespace;
        let entry = job::entry_of(holder, self.lock, self.remote).filter(|_| here);
        let mut pids: Vec<u32> = entry
            .map(|entry| ask_to_end::running_under(&entry).into_iter().collect())
            .unwrap_or_default();
        pids.sort_unstable();
        let mut names: Vec<String> = pids.iter().take(MOST_NAMED).map(|pid| process(*pid)).collect();
        if pids.len() > MOST_NAMED {
            names.push(format!("and {} more", pids.len() - MOST_NAMED));
        }
        names.join(", ")
    }

    fn report_late(&self, asked: &[Asked], state: Option<&State>, since: Instant) {
        let sent = asked.first().map_or(self.args.signal, |asked| asked.signal);
        let waited = output::duration(since.elapsed());
        let more = advice::command_line(self.common, bare(&self.args.name), "state");
        let held = state.map(|state| output::refusal(state, &more)).unwrap_or_default();
        let kill = if self.args.kill_after.is_none() {
            " (-k would send KILL)"
        } else {
            ""
        };
        self.say(&format!(
            "{waited} after {}{kill}, it is still {held}",
            names::signal(sent)
        ));
    }

    /// Why a holder was not asked, and what to do instead.
    fn advised(&self, holder: &Holder, why: &NotAsked) -> String {
        let line = |words: &str| advice::command_line(self.common, bare(&self.args.name), words);
        let token = holder
            .token
            .map_or_else(String::new, |token| format!(" --token {token}"));
        match (why, holder.bound_pid.or(holder.requester.pid)) {
            (NotAsked::NoCommand, Some(pid)) if holder.bound_pid.is_some() => format!(
                "it holds the lock without 'run' (get --pid); end that process (kill {pid}), or release the lock while it runs: {}",
                line(&format!("unget{token}"))
            ),
            (NotAsked::NoCommand, _) if holder.detached => {
                format!(
                    "no process runs under it; release it: {}",
                    line(&format!("unget{token}"))
                )
            }
            (NotAsked::NoCommand, Some(pid)) if holder.requester.same_pid_namespace => {
                format!("it has no command that runs under the lock; end it with: kill {pid}")
            }
            (NotAsked::OtherHost(_) | NotAsked::OtherNamespace, _) => {
                format!("{why}; there: {}", line(&format!("stop{token}")))
            }
            _ => why.to_string(),
        }
    }

    /// One line about the lock on standard error.
    fn say(&self, what: &str) {
        if !self.common.quiet {
            output::message(&format!("resourcelock: {}: {what}", bare(&self.args.name)));
        }
    }
}

/// Waits until one of them has ended, or for so long.
fn pause(processes: &[&Process], time: Duration) {
    let mut watched: Vec<PollFd<'_>> = processes
        .iter()
        .map(|process| PollFd::new(process.as_fd(), PollFlags::POLLIN))
        .collect();
    // A little longer rather than shorter.
    let millis = time.as_millis().saturating_add(1).min(60_000);
    let _ = poll(
        &mut watched,
        PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX)),
    );
}

/// `2720 (sleep)`.
fn process(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{pid} ({})", printable(name.trim_end_matches('\n')))
}
