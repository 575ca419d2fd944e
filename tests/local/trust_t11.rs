//! T11: unusual limits lead to a message. Under low limits on files, descriptors and memory, and in a sandbox that
//! refuses one system call after another, every command does without, or says in one line what is missing, with a
//! documented status. Nothing hangs, and nothing is left taken.

use crate::common::run::behind;
use crate::common::run::signal;
use crate::common::sandbox::Call;
use crate::common::{LineChild, TestLock, binary, printed, wait_until};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

/// Runs a command; asserts that it ends properly and prints at most one line besides warnings. Returns its output and
/// message.
fn ended(mut command: Command) -> (Output, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let warned = said
        .lines()
        .filter(|line| line.contains("cannot be seen, so all do"))
        .count();
    assert!(
        said.lines().count() - warned <= 1 && !said.contains("panicked"),
        "{command:?}: {said}"
    );
    assert!(
        !said.contains("report it") && output.status.signal().is_none(),
        "{command:?}: {}: {said}",
        output.status
    );
    (output, said)
}

// --- limits

/// prlimit(1) with one limit.
fn limited(limit: &str, command: &Command) -> Command {
    behind(&["prlimit", limit], command)
}

#[test]
fn a_lock_is_not_made_where_its_files_would_be_too_large() {
    for limit in [0, 1, 4096, 100_000] {
        for words in [&["run", "--", "true"][..], &["get"]] {
            let lock = TestLock::new("fsize");
            let (output, said) = ended(limited(&format!("--fsize={limit}"), &lock.command(words)));
            assert_eq!(output.status.code(), Some(125), "{limit}: {said}");
            assert!(said.contains("ulimit -f"), "{said}");
            assert!(lock.objects().is_empty(), "{limit}: {:?}", lock.objects());
        }
    }
}

#[test]
fn a_lock_that_stands_is_used_whatever_the_limit_of_files() {
    let lock = TestLock::new("fsize");
    printed(&mut lock.command(&["run", "--", "true"]));
    for words in [
        &["run", "--", "true"][..],
        &["get", "-q"],
        &["state", "-q"],
        &["unget", "-q"],
    ] {
        let (output, said) = ended(limited("--fsize=0", &lock.command(words)));
        assert_eq!(output.status.code(), Some(0), "{words:?}: {said}");
    }
    // Its own output may be what exceeds the limit.
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::create(folder.path().join("output")).unwrap();
    let mut state = limited("--fsize=0", &lock.command(&["state"]));
    let output = state
        .stdout(file)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(
        said.starts_with("resourcelock: cannot write to standard output"),
        "{said}"
    );
}

/// The command gets the signal's disposition from the caller.
#[test]
fn a_command_finds_the_signal_of_that_limit_as_it_was() {
    let lock = TestLock::new("xfsz");
    let ignored = |words: &[&str], ignore: bool| {
        let show = "sed -n 's/^SigIgn:[[:space:]]*//p' /proc/self/status";
        let mut command = behind(
            if ignore {
                &["env", "--ignore-signal=XFSZ"]
            } else {
                &["env", "--default-signal=XFSZ"]
            },
            &lock.command(&[words, &["sh", "-c", show]].concat()),
        );
        let mask = u64::from_str_radix(printed(&mut command).trim(), 16).unwrap();
        mask & 1 << (libc::SIGXFSZ - 1) != 0
    };
    for words in [
        &["run", "--"][..],
        &["run", "--no-fork", "--"],
        &["run", "--limit", "1h", "--"],
    ] {
        assert!(!ignored(words, false), "{words:?}");
        assert!(ignored(words, true), "{words:?}");
    }
}

/// Whatever the number of descriptors, a command succeeds or says that there are too few.
#[test]
fn few_descriptors() {
    let lock = TestLock::new("nofile");
    let commands: [&[&str]; 6] = [
        &["run", "--", "true"],
        &["run", "--until", "tree", "--limit", "1h", "--", "true"],
        &["get", "-q"],
        &["unget", "-q"],
        &["state", "-q"],
        &["remove", "-q"],
    ];
    let mut worked = 0;
    for limit in 3..14 {
        for words in commands {
            let was_held = printed_state(&lock);
            let (output, said) = ended(limited(&format!("--nofile={limit}"), &lock.command(words)));
            let status = output.status.code();
            match status {
                Some(125) => assert!(said.contains("ulimit -n"), "{limit} {words:?}: {said}"),
                // The command's dynamic loader, or something else that the command needs.
                Some(127) if words[0] == "run" => {}
                Some(0 | 1) => worked += 1,
                other => panic!("{limit} {words:?}: {other:?} {said}"),
            }
            let expected = match (words[0], status) {
                ("get", Some(0)) => true,
                ("unget", Some(0)) => false,
                _ => was_held,
            };
            assert_eq!(printed_state(&lock), expected, "{limit} {words:?}");
        }
        printed(&mut lock.command(&["unget", "-q"]));
    }
    assert!(worked > 20, "{worked}");
}

fn printed_state(lock: &TestLock) -> bool {
    lock.command(&["state", "-q"]).status().unwrap().success()
}

/// Whatever the amount of address space, the kernel does not start it, or it says that there is too little, or it
/// works.
#[test]
fn little_address_space() {
    let lock = TestLock::new("as");
    printed(&mut lock.command(&["run", "--", "true"]));
    let mut worked = 0;
    let size = fs::metadata(binary().get_program()).unwrap().len();
    // In small steps from less than the program itself takes.
    for step in 0..64 {
        let limit = format!("--as={}", size / 4 + step * size / 32);
        for words in [
            &["get", "-q"][..],
            &["state", "-q"],
            &["unget", "-q"],
            &["run", "-n", "--", "/bin/true"],
        ] {
            let output = limited(&limit, &lock.command(words)).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let killed_by_kernel = matches!(output.status.signal(), Some(libc::SIGKILL | libc::SIGSEGV));
            match output.status.code() {
                Some(0 | 1) => worked += 1,
                Some(125) => assert!(said.contains("ulimit -v"), "{limit} {words:?}: {said}"),
                // Before our first instruction, or in the command's own dynamic loader.
                Some(126 | 127) => assert!(said.starts_with("Fatal glibc error") || words[0] == "run", "{said}"),
                None if killed_by_kernel && said.is_empty() => {}
                other => panic!("{limit} {words:?}: {other:?} {} {said}", output.status),
            }
            assert!(said.lines().count() <= 1, "{limit} {words:?}: {said}");
        }
        printed(&mut lock.command(&["unget", "-q"]));
        assert!(!printed_state(&lock));
    }
    assert!(worked > 20, "{worked}");
}

// --- a sandbox

/// O_TMPFILE without the bits that it shares with O_DIRECTORY.
const TMPFILE: u32 = (libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;

/// The system calls of the program that a sandbox or an old kernel might refuse.
const CALLS: &[Call] = &[
    Call::any("openat", libc::SYS_openat),
    Call::with("openat with O_TMPFILE", libc::SYS_openat, (2, TMPFILE, TMPFILE)),
    Call::any("newfstatat", libc::SYS_newfstatat),
    // musl makes these calls, where the processor has them.
    #[cfg(target_arch = "x86_64")]
    Call::any("open", libc::SYS_open),
    #[cfg(target_arch = "x86_64")]
    Call::any("stat", libc::SYS_stat),
    #[cfg(target_arch = "x86_64")]
    Call::any("lstat", libc::SYS_lstat),
    Call::any("fstat", libc::SYS_fstat),
    Call::any("ioctl", libc::SYS_ioctl),
    Call::any("fallocate", libc::SYS_fallocate),
    Call::any("fcntl", libc::SYS_fcntl),
    Call::with("F_OFD_SETLK", libc::SYS_fcntl, (1, u32::MAX, libc::F_OFD_SETLK as u32)),
    Call::with("F_OFD_GETLK", libc::SYS_fcntl, (1, u32::MAX, libc::F_OFD_GETLK as u32)),
    Call::with("F_DUPFD", libc::SYS_fcntl, (1, u32::MAX, libc::F_DUPFD as u32)),
    Call::any("linkat", libc::SYS_linkat),
    Call::any("renameat2", libc::SYS_renameat2),
    Call::any("fchmod", libc::SYS_fchmod),
    Call::any("unlinkat", libc::SYS_unlinkat),
    Call::any("getdents64", libc::SYS_getdents64),
    Call::any("pread64", libc::SYS_pread64),
    Call::any("readlinkat", libc::SYS_readlinkat),
    Call::any("statx", libc::SYS_statx),
    Call::any("faccessat", libc::SYS_faccessat),
    Call::any("faccessat2", libc::SYS_faccessat2),
    Call::any("madvise", libc::SYS_madvise),
    Call::any("getrandom", libc::SYS_getrandom),
    Call::any("memfd_create", libc::SYS_memfd_create),
    Call::any("futex", libc::SYS_futex),
    Call::any("futex_waitv", libc::SYS_futex_waitv),
    Call::any("pidfd_open", libc::SYS_pidfd_open),
    Call::any("pidfd_send_signal", libc::SYS_pidfd_send_signal),
    Call::any("kill", libc::SYS_kill),
    Call::any("clone", libc::SYS_clone),
    Call::any("wait4", libc::SYS_wait4),
    Call::any("waitid", libc::SYS_waitid),
    Call::any("prctl", libc::SYS_prctl),
    Call::any("setpgid", libc::SYS_setpgid),
    Call::any("rt_sigaction", libc::SYS_rt_sigaction),
    Call::any("rt_sigprocmask", libc::SYS_rt_sigprocmask),
    Call::any("rt_sigpending", libc::SYS_rt_sigpending),
    Call::any("rt_sigtimedwait", libc::SYS_rt_sigtimedwait),
    Call::any("clock_nanosleep", libc::SYS_clock_nanosleep),
    Call::any("prlimit64", libc::SYS_prlimit64),
];

/// Tries each call refused in both ways: as a filter usually does, and as an old kernel does.
fn each_denied(mut try_one: impl FnMut(&Call, i32)) {
    for call in CALLS {
        for errno in [libc::EPERM, libc::ENOSYS] {
            try_one(call, errno);
        }
    }
}

/// Runs, as the command under the lock, the program itself, which needs no dynamic loader.
fn under(lock: &TestLock, words: &[&str]) -> Command {
    let mut command = lock.command(words);
    command.arg("--").arg(binary().get_program()).arg("--version");
    command
}

/// Calls that the program cannot do without.
const NEEDED: [&str; 11] = [
    "openat",
    "open",
    "newfstatat",
    "fstat",
    "stat",
    "lstat",
    "fcntl",
    "F_OFD_SETLK",
    "F_DUPFD",
    "fchmod",
    "clone",
];

/// Commands that inspect a lock, the last two before they change it: they read it instead of mapping files that others
/// could truncate.
const INSPECTING: [&str; 5] = ["state", "list", "history", "unget", "remove"];

/// Asserts that a command succeeds, or exits with a documented status and a line that names the refused call. Returns
/// the status.
fn documented(call: &Call, errno: i32, command: &Command) -> i32 {
    let (output, said) = ended(call.denied(errno, command));
    let status = output.status.code().unwrap_or(-1);
    let what = format!("{} {errno} {command:?}: {status} {said}", call.name);
    assert!([0, 1, 125, 126].contains(&status), "{what}");
    if status >= 125 {
        assert!(said.starts_with("resourcelock: "), "{what}");
        assert!(said.contains("(2)"), "which call? {what}");
        let is_list = call.name == "getdents64" && what.contains("list");
        let inspects = || command.get_args().any(|word| INSPECTING.iter().any(|one| word == *one));
        let is_copy = call.name == "pread64" && inspects();
        assert!(
            NEEDED.contains(&call.name) || is_list || is_copy,
            "it can do without: {what}"
        );
    }
    status
}

#[test]
fn a_new_lock_in_a_sandbox() {
    each_denied(|call, errno| {
        for words in [&["run"][..], &["get", "-q"]] {
            let lock = TestLock::new("deny-new");
            let command = if words[0] == "run" {
                under(&lock, words)
            } else {
                lock.command(words)
            };
            let status = documented(call, errno, &command);
            let is_held = !lock.objects().is_empty() && printed_state(&lock);
            assert_eq!(
                is_held,
                words[0] == "get" && status == 0,
                "{} {errno} {words:?}",
                call.name
            );
            let left: Vec<_> = fs::read_dir("/dev/shm")
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap_or_default())
                .filter(|file| file.contains(lock.name()))
                .collect();
            assert!([0, 3].contains(&left.len()), "half a lock: {left:?}");
        }
    });
}

#[test]
fn a_lock_that_stands_in_a_sandbox() {
    let lock = TestLock::new("deny");
    printed(&mut lock.command(&["run", "--", "true"]));
    each_denied(|call, errno| {
        documented(call, errno, &under(&lock, &["run", "-n"]));
        assert!(!printed_state(&lock), "{} {errno}", call.name);
        documented(
            call,
            errno,
            &under(&lock, &["run", "-n", "--until", "tree", "--limit", "1h"]),
        );
        assert!(!printed_state(&lock), "{} {errno}", call.name);
        let got = documented(call, errno, &lock.command(&["get", "-nq"])) == 0;
        assert_eq!(printed_state(&lock), got, "{} {errno}", call.name);
        documented(call, errno, &lock.command(&["state", "-q"]));
        let released = documented(call, errno, &lock.command(&["unget", "-q"])) == 0;
        assert!(!released || !printed_state(&lock), "{} {errno}", call.name);
        printed(&mut lock.command(&["unget", "-q"]));
    });
}

#[test]
fn looking_in_a_sandbox() {
    let lock = TestLock::new("deny-look");
    printed(&mut lock.command(&["get", "-q"]));
    each_denied(|call, errno| {
        for words in [&["list"][..], &["history"], &["state", "--json"]] {
            let mut command = if words[0] == "list" {
                binary()
            } else {
                lock.command(&[])
            };
            command.args(words);
            documented(call, errno, &command);
        }
    });
}

/// A table that cannot be read is not a damaged one. Of a lock with a damaged table, `remove --force` would delete only
/// that; here, it deletes the whole lock or nothing.
#[test]
fn removing_by_force_in_a_sandbox() {
    let removes = |denied: &dyn Fn(&Command) -> Command| {
        let lock = TestLock::new("deny-remove");
        printed(&mut lock.command(&["get", "-q"]));
        let (output, said) = ended(denied(&lock.command(&["remove", "--force"])));
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let left = lock.objects().len();
        match output.status.code() {
            Some(0) => assert_eq!(left, 0, "{printed}"),
            // Halfway through, only the refusal to delete may stop it.
            Some(125) => assert!(left == 3 || left > 0 && said.contains("delete"), "{left} left: {said}"),
            status => panic!("{status:?} {said}"),
        }
    };
    each_denied(|call, errno| removes(&|command| call.denied(errno, command)));
    for limit in 3..14 {
        removes(&|command| limited(&format!("--nofile={limit}"), command));
    }
}

/// A lock without a table, such as the Python module creates, is not shown as locked just because it cannot be read.
#[test]
fn a_semaphore_that_cannot_be_read() {
    let lock = TestLock::new("deny-semaphore");
    printed(&mut lock.command(&["run", "--", "true"]));
    fs::remove_file(lock.paths().table_path()).unwrap();
    each_denied(|call, errno| {
        let status = documented(call, errno, &lock.command(&["state", "-q"]));
        assert!([1, 125].contains(&status), "{} {errno}: {status}", call.name);
    });
}

/// qemu-user does not know MADV_DONTFORK. Locks work there, and deaths are noticed.
#[test]
fn an_emulator_that_does_not_know_dontfork() {
    let lock = TestLock::new("dontfork");
    let dontfork = Call::with(
        "MADV_DONTFORK",
        libc::SYS_madvise,
        (2, u32::MAX, libc::MADV_DONTFORK as u32),
    );
    let emulated = |words: &[&str]| dontfork.denied(libc::EINVAL, &lock.command(words));
    let killed = emulated(&["run", "--", "sh", "-c", "kill -KILL $PPID $$"])
        .output()
        .unwrap();
    assert!(!killed.status.success(), "{killed:?}");
    let told = printed(&mut emulated(&[
        "run",
        "-n",
        "--",
        "sh",
        "-c",
        "echo $RESOURCELOCK_ABANDONED",
    ]));
    assert_eq!(told, "1\n");
}

/// Waiting in vain, and acquiring a lock after waiting.
#[test]
fn waiting_in_a_sandbox() {
    each_denied(|call, errno| {
        let lock = TestLock::new("deny-wait");
        printed(&mut lock.command(&["get", "-q"]));
        let (output, said) = ended(call.denied(errno, &under(&lock, &["run", "-t", "0.05"])));
        assert!(
            matches!(output.status.code(), Some(75 | 125)),
            "{} {errno}: {said}",
            call.name
        );
        let mut waiter = LineChild::spawn(
            call.denied(errno, &under(&lock, &["run", "-t", "50"]))
                .stderr(Stdio::null()),
        );
        wait_until("it waits, or has failed", || {
            !lock.state().waiters.is_empty() || waiter.try_wait().is_some()
        });
        printed(&mut lock.command(&["unget", "-q"]));
        let status = waiter.wait().code();
        assert!(matches!(status, Some(0 | 125)), "{} {errno}: {status:?}", call.name);
        assert!(!printed_state(&lock), "{} {errno}", call.name);
    });
}

/// A limit is kept, by whatever means are left.
#[test]
fn a_limit_in_a_sandbox() {
    let lock = TestLock::new("deny-limit");
    printed(&mut lock.command(&["run", "--", "true"]));
    each_denied(|call, errno| {
        // Our own program as the command, because it needs no dynamic loader.
        for words in [
            &["run", "--limit", "0.05", "-k", "5"][..],
            &["run", "--until", "tree", "--limit", "0.05", "-k", "5"],
        ] {
            let mut command = lock.command(words);
            command.arg("--").arg(binary().get_program());
            command.args([lock.name(), "trace", "-u", "1h"]);
            let mut limited = LineChild::spawn(call.denied(errno, &command).stderr(Stdio::null()));
            let status = limited.wait().code();
            let failed = status == Some(125);
            assert!(status == Some(124) || failed, "{} {errno}: {status:?}", call.name);
        }
    });
}

/// `--replace` cannot do without the call that is refused, and says which one that is.
#[test]
fn asking_a_holder_to_end_in_a_sandbox() {
    let lock = TestLock::new("deny-ask");
    let mut run = LineChild::spawn(&mut lock.command(&["run", "--", "sh", "-c", "echo up; read line"]));
    run.wait_for_line("up");
    wait_until("its process is recorded", || {
        lock.state().holders.iter().any(|holder| holder.bound_pid.is_some())
    });
    for call in CALLS.iter().filter(|call| call.name.starts_with("pidfd")) {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let output = call
                .denied(errno, &lock.command(&["run", "--replace", "-t", "0.05", "--", "true"]))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(75), "{said}");
            assert!(
                said.contains(&format!("{}(2) is refused for process ", call.name)),
                "{said}"
            );
        }
    }
    run.send("");
    run.wait();
}

/// A wrapper that cannot accept signals cannot pass them on: they end it, and the command keeps the lock.
#[test]
fn a_wrapper_that_may_not_accept_signals() {
    let lock = TestLock::new("deny-signals");
    let call = Call::any("rt_sigtimedwait", libc::SYS_rt_sigtimedwait);
    let script = "echo up $PPID; read line; echo done";
    let mut run = LineChild::spawn(
        call.denied(libc::EPERM, &lock.command(&["run", "--", "sh", "-c", script]))
            .stderr(Stdio::piped()),
    );
    let line = run.line();
    let wrapper: u32 = line.strip_prefix("up ").unwrap().parse().unwrap();
    wait_until("it no longer blocks signals", || {
        let status = fs::read_to_string(format!("/proc/{wrapper}/status")).unwrap_or_default();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t"));
        blocked.is_none_or(|mask| mask.ends_with("0000000000000000"))
    });
    signal(wrapper, Signal::SIGTERM);
    wait_until("it has exited", || {
        !std::path::Path::new(&format!("/proc/{wrapper}")).exists()
    });
    assert!(lock.state().locked);
    run.send("");
    assert_eq!(run.line(), "done");
    wait_until("the lock is free", || !lock.state().locked);
}
