//! The guard process where the system makes its work hard: no descriptors, no /proc, reused process ids.

use crate::common::run::behind;
use crate::engine_common::etcd::{Etcd, Version};
use crate::engine_common::journal::{Journal, Run, guard, runs};
use crate::engine_common::{signal, wait_until};
use std::process::Stdio;

/// A lease long enough for everything that is due before its end to be slow: the guard skips what it has no time left for.
const TTL: &[&str] = &["--ttl", "30"];

/// Interferes with some system calls of a process and its descendants, and leaves all others at full speed. The process
/// started is the traced one itself (-D), not strace.
const STRACE: [&str; 7] = ["strace", "--seccomp-bpf", "-D", "-f", "-qq", "-o/dev/null", "-e"];

/// Runs a command without /proc. (For everybody else, it stays mounted.)
const WITHOUT_PROC: [&str; 5] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mount -t tmpfs tmpfs /proc && exec \"$0\" \"$@\"",
];

/// Even a guard that cannot get a descriptor of the command, at first or ever, ends the command, and then exits.
#[test]
fn no_descriptor_of_the_command() {
    let etcd = Etcd::shared(Version::System);
    std::thread::scope(|scope| {
        for (how, signal) in [
            ("ENFILE:when=1", "STOP"),
            ("EMFILE", "STOP"),
            ("EPERM", "KILL"),
            ("ENOSYS", "KILL"),
        ] {
            let etcd = &etcd;
            scope.spawn(move || {
                let journal = Journal::new(&etcd.url(), "descriptor");
                let mut command = journal.command(&["run"]);
                command.args(TTL).arg("--").args(journal.beat(60, &["stubborn"]));
                // `when` counts per process.
                let how_it_fails = format!("inject=pidfd_open:error={how}");
                let words = [&STRACE[..], &[&how_it_fails]].concat();
                let mut holder = Run::start(&mut behind(&words, &command));
                journal.wait_for(1);
                let mut next = journal.run(TTL, 0, &[]);
                wait_until("the next one waits", || journal.waiting() == 1);
                let guard = guard(&holder, 0);
                holder.signal(signal);
                assert_eq!(next.status(), 0, "{how}");
                if signal == "STOP" {
                    holder.signal("CONT");
                    assert_eq!(holder.status(), 76, "{how}");
                }
                journal.judge(2);
                wait_until("the guard has ended", || !runs(guard));
            });
        }
    });
}

/// After the command has exited, while `--until tree` waits for what it left, its process id may become a stranger's.
#[test]
fn a_number_that_means_another_process() {
    /// Process 2 of a PID namespace of its own, so that it can choose the id of the next process.
    const SCRIPT: &str = r#"
import os, signal, subprocess, sys, time

def until(what, condition):
    for _ in range(24000):
        found = condition()
        if found:
            return found
        time.sleep(0.005)
    sys.exit(f"waited in vain until {what}")

def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""

def guard(holder, other_than=0):
    for pid in map(int, read(f"/proc/{holder}/task/{holder}/children").split()):
        if read(f"/proc/{pid}/comm") == "lock-guard\n" and pid != other_than:
            return pid

run, folder = sys.argv[1:-1], sys.argv[-1]
out = f"{folder}/left"
left = f"echo $$ > {out}.command; setsid sleep 300 & exit 0"
holder = subprocess.Popen([*run, "--until", "tree", "--", "sh", "-c", left]).pid
number = int(until("it has said its number", lambda: read(f"{out}.command").strip()))
until("it was reaped", lambda: not os.path.exists(f"/proc/{number}"))
stranger = None
while stranger is None or stranger.pid != number:
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(number - 1))
    stranger = subprocess.Popen(["sleep", "300"], start_new_session=True)
first = until("there is a guard", lambda: guard(holder))
os.kill(first, signal.SIGKILL)
until("there is another guard", lambda: guard(holder, first))
os.kill(holder, signal.SIGSTOP)
subprocess.run([*run, "--", "true"], check=True)  # granted when the guard has killed, or not
print("spared" if stranger.poll() is None else "killed")
"#;
    let etcd = Etcd::shared(Version::System);
    let journal = Journal::new(&etcd.url(), "number");
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = journal.command(&["run"]);
    run.args(TTL);
    let namespace = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let python = ["sh", "-c", "\"$@\"; exit $?", "sh", "python3", "-ISc", SCRIPT];
    let output = behind(&[&namespace[..], &python].concat(), &run)
        .arg(folder.path())
        .output()
        .expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "spared\n", "{output:?}");
}

/// A program that abandons its clean-up at a second TERM gets only one; so does what it has started, wherever that is.
#[test]
fn asked_once() {
    const COUNTS: &str = r#"
import os, signal, sys
out = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
who = "command"
signal.signal(signal.SIGTERM, lambda *_: os.write(out, f"{who} TERM\n".encode()))
if os.fork() == 0:
    who = "in its group"
elif os.fork() == 0:
    who = "in another session"
    os.setsid()
os.write(out, f"{who} runs\n".encode())
while True:
    signal.pause()
"#;
    let etcd = Etcd::shared(Version::System);
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::new(&etcd.url(), "once");
    let counts = folder.path().join("counts");
    let mut command = journal.command(&["run"]);
    command.args(TTL).args(["--", "python3", "-ISc", COUNTS]).arg(&counts);
    // Signals that arrive together merge into one. Tracing slows the guard down, so that a second one would show.
    let slowly = [&STRACE[..], &["trace=kill,pidfd_send_signal"]].concat();
    let mut holder = Run::start(&mut behind(&slowly, &command));
    let said = |what: &str| -> Vec<String> {
        let text = std::fs::read_to_string(&counts).unwrap_or_default();
        let mut who: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_suffix(what))
            .map(str::to_owned)
            .collect();
        who.sort();
        who
    };
    let all = ["command", "in another session", "in its group"];
    wait_until("all run", || said(" runs") == all);
    holder.signal("STOP");
    let next = journal.command(&["run", "true"]).status().expect("it runs");
    assert!(next.success());
    assert_eq!(said(" TERM"), all);
    holder.signal("CONT");
    assert_eq!(holder.status(), 76);
}

/// Without /proc nobody can see who is in the command's group. Members that ignore TERM are killed all the same,
/// whether the wrapper runs or not.
#[test]
fn a_group_that_cannot_be_seen() {
    let etcd = Etcd::shared(Version::System);
    std::thread::scope(|scope| {
        for command_obeys in [true, false] {
            let etcd = &etcd;
            scope.spawn(move || {
                let journal = Journal::new(&etcd.url(), "unseen");
                let deaf = journal.beat(60, &["stubborn"]).join(" ");
                let obeys = if command_obeys { "" } else { "trap '' TERM;" };
                let script = format!("{obeys} {deaf} & while :; do sleep 0.05; done");
                let mut command = journal.command(&["run"]);
                command.args(TTL).args(["--", "sh", "-c", &script]);
                let holder = Run::start(&mut behind(&WITHOUT_PROC, &command));
                journal.wait_for(1);
                let mut next = journal.run(TTL, 0, &[]);
                wait_until("the next one waits", || journal.waiting() == 1);
                holder.signal("STOP");
                assert_eq!(next.status(), 0, "obeys: {command_obeys}");
                journal.judge(2);
            });
        }
    });

    let mut etcd = Etcd::of(Version::System, 1);
    let journal = Journal::new(&etcd.url(), "unseen");
    let deaf = journal.beat(60, &["stubborn"]).join(" ");
    let mut command = journal.command(&["run"]);
    let script = format!("{deaf} & while :; do sleep 0.05; done");
    command.args(TTL).args(["--", "sh", "-c", &script]);
    let mut holder = Run::start(&mut behind(&WITHOUT_PROC, &command));
    let member = journal.wait_for(1).pid;
    etcd.kill_all();
    assert_eq!(holder.status(), 76);
    let left = runs(member);
    if left {
        signal(member, "KILL");
    }
    assert!(!left, "the guard was dismissed before the group was gone");
}

/// Without /proc nobody can tell the guard from what the command has left behind.
#[test]
fn a_tree_that_cannot_be_seen() {
    let etcd = Etcd::shared(Version::System);
    let journal = Journal::new(&etcd.url(), "unseen-tree");
    let mut command = journal.command(&["run", "--until", "tree", "--limit", "20", "echo", "never"]);
    command.stdin(Stdio::null());
    let output = behind(&WITHOUT_PROC, &command).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(125) && said.contains("/proc") && said.lines().count() == 1,
        "{output:?}"
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}

/// The next guard knows that the previous one has already sent TERM.
#[test]
fn asked_once_by_two_guards() {
    let etcd = Etcd::one();
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::new(&etcd.url(), "once-more");
    let counts = folder.path().join("counts");
    let script = "trap 'echo TERM >> \"$0\"' TERM; echo runs >> \"$0\"; while :; do sleep 0.05; done";
    let mut command = journal.command(&["run"]);
    command.args(TTL).args(["--", "sh", "-c", script]).arg(&counts);
    let mut holder = Run::start(&mut command);
    let said = || std::fs::read_to_string(&counts).unwrap_or_default();
    wait_until("it runs", || said() == "runs\n");
    etcd.signal_all("STOP");
    wait_until("it was asked to end", || said() == "runs\nTERM\n");
    let first = guard(&holder, 0);
    signal(first, "KILL");
    guard(&holder, first);
    assert_eq!(holder.status(), 76);
    assert_eq!(said(), "runs\nTERM\n");
}

/// With `--until tree`, what the command has left behind in another session is ended in time, as the command would be,
/// even if its adoptive parent, the wrapper, has been killed.
#[test]
fn what_is_left_behind_is_ended_without_the_wrapper() {
    let etcd = Etcd::shared(Version::System);
    std::thread::scope(|scope| {
        for (how, signal) in [("stopped", "STOP"), ("killed", "KILL")] {
            scope.spawn(move || left_behind_is_ended(etcd, how, signal));
        }
    });
}

/// Whatever a holder's command has left behind is ended before the lease ends, even if the holder gets this signal.
fn left_behind_is_ended(etcd: &Etcd, how: &str, signal: &str) {
    let journal = Journal::new(&etcd.url(), "left-behind");
    let mut command = journal.command(&["run", "--until", "tree"]);
    command
        .args(TTL)
        .args(["--", "sh", "-c", "setsid \"$@\" & exit 0", "sh"]);
    let mut holder = Run::start(command.args(journal.beat(60, &["stubborn"])));
    let left = journal.wait_for(1).pid;
    wait_until("it is left to the wrapper", || {
        let stat = std::fs::read_to_string(format!("/proc/{left}/stat")).expect("it lives");
        stat.contains(&format!(" {} ", holder.id()))
    });
    holder.signal(signal);
    assert_eq!(journal.run(TTL, 0, &[]).status(), 0, "{how}");
    let ended = !runs(left);
    if !ended {
        crate::engine_common::signal(left, "KILL");
    }
    assert!(ended, "{how}: it outlived the lease");
    journal.judge(2);
    if signal == "STOP" {
        holder.signal("CONT");
        assert_eq!(holder.status(), 76);
    }
}

/// An option for strace.
const SLOW_SIGNALS: &str = "inject=pidfd_send_signal:delay_exit=50000";

/// When its command is killed, a shell must not get to start the next one, which would run without the lock.
#[test]
fn a_shell_that_is_killed_does_not_go_on() {
    let etcd = Etcd::shared(Version::System);
    let folder = tempfile::tempdir().expect("a folder");
    let names: Vec<Journal> = (0..2).map(|_| Journal::new(&etcd.url(), "go-on")).collect();
    let file = |journal: &Journal, what: &str| folder.path().join(format!("{}.{what}", journal.name()));
    let command = |journal: &Journal| -> Option<u32> {
        let number = std::fs::read_to_string(file(journal, "begun")).ok()?;
        number.trim().parse().ok()
    };
    let mut holders: Vec<Run> = names
        .iter()
        .map(|journal| {
            // Between two signals, it has time to go on.
            let slowly = [&STRACE[..], &[SLOW_SIGNALS]].concat();
            let script = "trap '' TERM; echo $$ > \"$0\"; sleep 600; : > \"$1\"";
            let mut command = journal.command(&["run"]);
            command.args(TTL).args(["--", "sh", "-c", script]);
            command.args([file(journal, "begun"), file(journal, "went-on")]);
            Run::start(&mut behind(&slowly, &command))
        })
        .collect();
    for (journal, holder) in names.iter().zip(&holders) {
        wait_until("its command runs", || command(journal).is_some());
        holder.signal("STOP");
    }
    for (journal, holder) in names.iter().zip(&mut holders) {
        let next = journal.command(&["run", "true"]).status().expect("it runs");
        assert!(next.success());
        // The holder would pass CONT on: wait until the shell has exited.
        let shell = command(journal).expect("it runs");
        wait_until("its command has ended", || !runs(shell));
        holder.signal("CONT");
        assert_eq!(holder.status(), 76);
        assert!(!file(journal, "went-on").exists());
    }
}
