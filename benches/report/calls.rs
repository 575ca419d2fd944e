//! The system calls of `run -- true` on a lock that exists, as strace shows them, each with its reason.

use crate::contenders::Place;
use crate::figures::{Call, Report};
use crate::programs::{Installed, find, output};
use std::process::Command;

/// Calls that do the same, of which one C library makes the one and another one the other.
const SAME: &[(&str, &str)] = &[
    ("open(", "openat("),
    ("stat(", "newfstatat("),
    ("lstat(", "newfstatat("),
    ("fstat(", "newfstatat(AT_EMPTY_PATH, "),
];

/// What a call looks like (each of these words is in its line, NAME stands for the lock's), and why it is made. The first
/// one that fits counts.
const REASONS: &[(&[&str], &str)] = &[
    (&["execve(", "resourcelock"], "the caller starts the program"),
    (&["execve("], "the child becomes the command"),
    (&["brk("], "the C library: memory for the first allocations"),
    (&["arch_prctl("], "the C library: the thread's own variables"),
    (&["set_tid_address("], "the C library: threads"),
    (&["set_robust_list("], "the C library: threads"),
    (&["rseq("], "the C library: threads"),
    (&["prlimit64("], "the C library: the stack's size"),
    (
        &["readlink", "/proc/self/exe"],
        "the C library of a static program: where it is",
    ),
    (&["getrandom(", "GRND_NONBLOCK"], "the C library: seeds its allocator"),
    (
        &["mprotect("],
        "the C library: what was relocated is read-only from now on",
    ),
    (&["poll(", "POLLIN"], "it still lives"),
    (
        &["poll("],
        "are standard input, output and error open? A closed one must not become a file of the lock",
    ),
    (
        &["rt_sigaction(SIGXFSZ"],
        "a file that would grow beyond its limit is an error, not a death; the command finds that as it was",
    ),
    (
        &["rt_sigaction(SIGBUS"],
        "a file of the lock that somebody truncates is a lost lock, not a death",
    ),
    (
        &["rt_sigprocmask(SIG_BLOCK, []"],
        "what the caller has blocked: the command gets that",
    ),
    (
        &["rt_sigprocmask(SIG_UNBLOCK, [RT_1"],
        "the C library: signals that it keeps for itself",
    ),
    (
        &["rt_sigprocmask(SIG_BLOCK, [PIPE"],
        "signals that come early are kept for the command",
    ),
    (
        &["rt_sigaction(SIGCHLD"],
        "the command's end must be reported, even if the caller ignored that",
    ),
    (
        &["rt_sigaction(SIG"],
        "a signal ends the wait; from the grant on, it is the command's again",
    ),
    (
        &["rt_sigprocmask(SIG_BLOCK, [HUP"],
        "from now on signals are accepted one at a time, for the command",
    ),
    (
        &["rt_sigprocmask(SIG_SETMASK"],
        "what the caller has blocked is blocked again, for the command",
    ),
    (&["geteuid("], "whose files are trusted"),
    (
        &["openat(", "/sem.NAME", "O_RDWR"],
        "the semaphore: opened without creating and without following links",
    ),
    (
        &["openat(", "/sem.NAME", "O_RDONLY"],
        "the semaphore once more: what the command inherits, so that the lock is held until it has ended, too",
    ),
    (
        &["openat(", "/resourcelock", ".NAME"],
        "the table; a second time for the beacon, whose lock belongs to that description alone",
    ),
    (&["openat(", "\"/dev/shm/NAME\""], "the note"),
    (
        &["fstat", "AT_EMPTY_PATH"],
        "what was opened is examined: kind, owner, mode, links, size",
    ),
    (
        &["newfstatat(", "AT_EMPTY_PATH"],
        "what was opened is examined: kind, owner, mode, links, size",
    ),
    (
        &["newfstatat(", "\"/dev/shm\""],
        "the directory is trusted: root's or the caller's, and sticky",
    ),
    (
        &["newfstatat(", "NAME"],
        "the lock's name still means this lock: before the grant, before the command, after its end",
    ),
    (&["newfstatat(", "localtime"], "the time zone, for the note"),
    (&["openat(", "localtime"], "the time zone, for the note"),
    (
        &["newfstatat(", "/proc/self/ns"],
        "the namespaces that PIDs and times mean something in, recorded with the hold",
    ),
    (
        &["ioctl(", "PIDFD_GET_"],
        "the namespaces that PIDs and times mean something in, recorded with the hold",
    ),
    (
        &["ioctl(", "0xff"],
        "the namespaces that PIDs and times mean something in, recorded with the hold",
    ),
    (
        &["mmap(", "MAP_FIXED", "PROT_NONE"],
        "the C library: memory for the first allocations",
    ),
    (
        &["mmap(", "PROT_NONE"],
        "a mapping that a forked child does not have: tells it that it is a child",
    ),
    (
        &["madvise(", "DONTFORK"],
        "a mapping that a forked child does not have: tells it that it is a child",
    ),
    (&["mmap(", "MAP_SHARED"], "a part of the lock is mapped"),
    (&["mmap("], "memory"),
    (&["munmap("], "memory"),
    (
        &["fallocate("],
        "each page of what is mapped exists: else a full /dev/shm would be SIGBUS",
    ),
    (
        &["madvise(", "POPULATE"],
        "each page of what is mapped exists: else a full /dev/shm would be SIGBUS",
    ),
    (&["getpid("], "am I still the process that opened this, not its child?"),
    (
        &["getrandom("],
        "the random numbers of this handle: its beacon's place, its hold's ticket",
    ),
    (
        &["fcntl(", "F_OFD_SETLK", "F_WRLCK"],
        "the handle's beacon: the kernel removes it when this process is gone",
    ),
    (
        &["fcntl(", "F_OFD_SETLK", "F_RDLCK"],
        "the command's beacon, which it inherits",
    ),
    (&["fcntl(", "F_OFD_GETLK"], "does another one live?"),
    (
        &["fcntl(", "F_DUPFD"],
        "the inherited descriptor is out of the command's way",
    ),
    (
        &["fcntl(", "F_GETFD"],
        "the standard library, before it closes a descriptor",
    ),
    (
        &["fcntl(", "F_SETFD"],
        "the C library: not inherited by the command, on the oldest kernels either",
    ),
    (
        &["close("],
        "not needed any more; the last one releases the command's beacon",
    ),
    (
        &["clone(", "CLONE_VFORK"],
        "the child, in the same memory until it has executed the command",
    ),
    (&["clone3("], "the child"),
    (&["clone("], "the child"),
    (&["pidfd_open(OWN"], "this process, whose namespaces are asked for"),
    (
        &["pidfd_open("],
        "the command is recorded as what keeps the lock: the same process, not a later one with its PID",
    ),
    (&["readlink", "/proc/self\""], "are PIDs in /proc ours?"),
    (&["statx(", "/proc\""], "is there a /proc?"),
    (&["newfstatat(", "/proc\""], "is there a /proc?"),
    (
        &["openat(", "/proc/"],
        "when the command was started, and what its number is in other namespaces",
    ),
    (
        &["statx("],
        "when the command was started, and what its number is in other namespaces",
    ),
    (
        &["read("],
        "when the command was started, and what its number is in other namespaces",
    ),
    (&["wait4("], "has the command ended, and how?"),
    (&["waitid("], "has the command ended, and how?"),
    (
        &["rt_sigpending("],
        "what the terminal sent before the command was there is passed on to it",
    ),
    (&["rt_sigtimedwait("], "sleeps until the command ends or a signal comes"),
    (&["futex("], "a thread waits for another"),
    (&["uname("], "the machine's name, for the note"),
    (&["gettid("], "which thread this is"),
    (&["exit_group("], "the end, with the command's status"),
];

/// Why the call is made.
fn reason(call: &str) -> Option<&'static str> {
    let same = SAME
        .iter()
        .find_map(|(name, usual)| Some(format!("{usual}{}", call.strip_prefix(name)?)));
    let call = same.as_deref().unwrap_or(call);
    let fits = |words: &[&str]| words.iter().all(|word| call.contains(word));
    let found = REASONS.iter().find(|(words, _)| fits(words));
    found.map(|(_, reason)| *reason)
}

/// A line without what changes from run to run.
fn plain(line: &str, name: &str) -> String {
    let line = line.replace(name, "NAME");
    let mut short: String = line
        .split(" = ")
        .next()
        .unwrap_or(&line)
        .trim_end()
        .chars()
        .take(90)
        .collect();
    if short.len() < line.trim_end().len() && !short.ends_with(')') {
        short.push('…');
    }
    short
}

pub fn measure(place: &Place, report: &mut Report) {
    let (Some(strace), Some(command)) = (find("strace"), find("true")) else {
        report.left_out("the system calls of run -- true", "strace is not installed");
        return;
    };
    let (installed, name) = (Installed::new(), &*place.name);
    let log = place.file.with_extension("strace");
    // The first run makes the lock.
    output(&[&installed.program, name, "run", "--", &command]);
    let mut traced = Command::new(&strace);
    traced.args(["-f", "-o"]).arg(&log);
    traced.args([&installed.program, name, "run", "--", &command]);
    let status = traced.status();
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let _ = std::fs::remove_file(&log);
    if !status.is_ok_and(|status| status.success()) {
        report.left_out("the system calls of run -- true", "strace fails");
        return;
    }
    // Each line begins with the process's number. The child counts until it is the command.
    let first = text.split_whitespace().next().unwrap_or_default().to_owned();
    let mut executed = false;
    for line in text.lines() {
        let Some((pid, call)) = line.split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        let by_child = pid != first;
        if by_child && executed || call.starts_with("<...") || call.starts_with(['+', '-']) {
            continue;
        }
        executed |= by_child && call.starts_with("execve(");
        let shown = plain(call, name);
        let own = format!("pidfd_open({first},");
        let reason = reason(&call.replace(name, "NAME").replace(&own, "pidfd_open(OWN,"));
        match report.calls.iter_mut().find(|known| known.shown == shown) {
            Some(known) => known.times += 1,
            None => report.calls.push(Call {
                times: 1,
                shown,
                reason,
            }),
        }
    }
    let all: usize = report.calls.iter().map(|call| call.times).sum();
    report.alone(
        "system calls of run -- true",
        "",
        all as f64,
        crate::figures::Target::None,
    );
    for call in report.calls.iter().filter(|call| call.reason.is_none()) {
        println!("without a reason: {}", call.shown);
    }
}
