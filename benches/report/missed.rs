//! Why a target is missed.

use crate::figures::Row;

/// What keeps figures from their targets, with what says so in the same run.
struct Reason {
    /// The figure, or the end of its name.
    what: &'static str,
    why: &'static str,
}

const REASONS: [Reason; 6] = [
    Reason {
        what: "get + unget, without contention",
        why: "The times that the history keeps and the steps that other threads and other processes see are 2 clock reads and \
              12 atomic exchanges. These alone take what the table below says; what is decided and written between them is \
              the rest. flock(2) is two system calls, for which some processors take twice as long as others. posix_ipc \
              exchanges a word twice: it keeps no order, no holder and no time, and the semaphore of a process that was \
              killed stays taken.",
    },
    Reason {
        what: "in tight loops, grants",
        why: "However many processes there are, pairs come one after another: together they make about as many as one process \
              alone, at best (see the pair without contention). The rest is the time that the lock's memory takes from one \
              processor to the other. Where an atomic exchange is slow and a system call is not, flock(2) comes closer, or \
              overtakes.",
    },
    Reason {
        what: "hand-over to a sleeper",
        why: "Both are one wake-up by the kernel, on a processor that slept. A bare POSIX semaphore takes as long (below).",
    },
    Reason {
        what: "next in line after SIGKILL, library",
        why: "The waiter sleeps on its place in the queue, where it can be served, superseded and cancelled; the event of a \
              process's end reaches another thread. A thread that only waits for that end and wakes another takes what the \
              table below says, without any lock.",
    },
    Reason {
        what: "run -- true on PostgreSQL",
        why: "Connecting, for which the server starts a process, takes most of it: psql, which asks for an advisory lock and \
              nothing else, runs no command and writes down neither token nor holder, takes what the table below says.",
    },
    Reason {
        what: "from the end of a command to the next one's start",
        why: "An absolute time, of which the start of a process and the server's own work are most: where flock(1) takes long \
              locally (above), so does this.",
    },
];

/// A line for each reason that keeps one of these rows from its target.
pub fn reasons(rows: &[&Row]) -> Vec<String> {
    let applies = |reason: &&Reason| {
        let mut meant = rows.iter().filter(|row| row.what.ends_with(reason.what));
        meant.any(|row| row.is_met() == Some(false))
    };
    let reasons = REASONS.iter().filter(applies);
    reasons
        .map(|reason| format!("- *{}*: {}", reason.what, reason.why))
        .collect()
}
