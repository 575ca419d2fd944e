//! `trace`: follow the lock, at an interval as the Python tool does, or event by event.

use super::{Failure, bare};
use crate::cli::TraceArgs;
use crate::exec;
use crate::exit::Exit;
use crate::output::{self, text, view};
use resourcelock::engines::Engine;
use resourcelock::{Cancel, Change, Error, LockName};
use std::io;
use std::time::{Duration, Instant};

/// The shortest interval, so that 0 is not a busy loop.
const SHORTEST: Duration = Duration::from_millis(1);

/// Ends the wait for the next event; triggered by the signal handler.
static CANCEL: Cancel = Cancel::new();

/// Carries it out.
pub fn perform(engine: &dyn Engine, args: &TraceArgs) -> Result<Exit, Failure> {
    exec::catch_interrupts(|| CANCEL.cancel());
    let lock = super::name(&args.name)?;
    let trace = Trace {
        engine,
        args,
        lock: &lock,
    };
    match if args.follow { trace.follow() } else { trace.repeat() } {
        Ok(()) | Err(Left::Cancelled) => Ok(exit()),
        Err(Left::Failed(failure)) => Err(failure),
    }
}

/// The status when the user has left it.
fn exit() -> Exit {
    match exec::interrupt() {
        // Ctrl-C is how one leaves it, as in the Python tool, which treats TERM alike.
        Some(signal) if signal != libc::SIGINT && signal != libc::SIGTERM => Exit::Signal(signal),
        _ => Exit::Done,
    }
}

/// Why it ended.
enum Left {
    /// By a signal, while it waited for an answer.
    Cancelled,
    Failed(Failure),
}

/// Standard output could not be written.
impl From<io::Error> for Left {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

struct Trace<'a> {
    engine: &'a dyn Engine,
    args: &'a TraceArgs,
    lock: &'a LockName,
}

impl Trace<'_> {
    fn failed(&self, error: Error) -> Left {
        match error {
            Error::Cancelled => Left::Cancelled,
            Error::NotFound { .. } => Left::Failed(Failure::about(
                &self.args.name,
                "there is no such lock yet, so there is nothing to follow: try again when it has been used",
            )),
            error => Left::Failed(Failure::lock(&self.args.name, error)),
        }
    }

    /// A line at each interval, until a signal comes or nobody reads any more.
    fn repeat(&self) -> Result<(), Left> {
        let interval = self.args.update.max(SHORTEST);
        let mut next = Instant::now();
        while exec::interrupt().is_none() && self.show()? {
            next += interval;
            pause_until(next);
        }
        Ok(())
    }

    /// One line; true if somebody still reads. A lock may be created, removed and created again meanwhile.
    fn show(&self) -> Result<bool, Left> {
        let state = self.engine.state(self.lock, &CANCEL).map_err(|e| self.failed(e))?;
        let name = bare(&self.args.name);
        Ok(match (state, self.args.json) {
            (Some(state), true) => output::print_json(&view::LockView::from(&state))?,
            (Some(state), false) => output::print(&format!("{}\n", text::trace(&state)))?,
            (None, true) => output::print_json(&view::LockView::absent(name))?,
            (None, false) => output::print(&format!("{}\n", text::trace_absent(name)))?,
        })
    }

    /// A line for each event.
    fn follow(&self) -> Result<(), Left> {
        let mut follow = self.engine.watch(self.lock, &CANCEL).map_err(|e| self.failed(e))?;
        while let Some(change) = follow.next(&CANCEL).map_err(|e| self.failed(e))? {
            if !print_event(bare(&self.args.name), &change, self.args.json)? {
                break;
            }
        }
        Ok(())
    }
}

/// Sleeps until then, or until a signal comes.
fn pause_until(deadline: Instant) {
    while exec::interrupt().is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        exec::pause(left);
    }
}

/// Prints one event of the lock `name`; true if somebody still reads.
fn print_event(name: &str, change: &Change, json: bool) -> io::Result<bool> {
    if json {
        output::print_json(&view::EventView::new(name, change))
    } else {
        output::print(&format!("{}\n", text::event(change)))
    }
}
