//! T5: what the command inherits cannot change the lock.

use crate::common::run::signal;
use crate::common::{Ask, LineChild, TestLock, Worker, lock::FlagWord, printed, wait_until};
use nix::sys::signal::Signal;
use resourcelock::UngetOptions;
use std::process::Command;

/// A Python script that finds the descriptors of files in /dev/shm that it has inherited, and tries on each of them
/// everything that could change the lock. It prints `NUMBER PATH ACCESS` (0 = read only), then a line for each attempt
/// that succeeded, then `up`. With an argument, it then keeps all that it could lock until the end of its input.
const ROGUE: &str = r#"
import ctypes, errno, fcntl, mmap, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)

def lock(fd, command, kind, start, length):
    fcntl.fcntl(fd, command, struct.pack('hhqqi4x', kind, os.SEEK_SET, start, length, 0))

def check(status):
    if status != 0:
        raise OSError(ctypes.get_errno(), 'refused')

def attempts(fd, path):
    own = f'/proc/self/fd/{fd}'
    yield 'write', lambda: os.write(fd, b'\0' * 32)
    yield 'pwrite', lambda: os.pwrite(fd, b'\1', 0)
    yield 'truncate', lambda: os.ftruncate(fd, 0)
    yield 'truncate its path', lambda: os.truncate(own, 0)
    yield 'allocate', lambda: os.posix_fallocate(fd, 0, 1 << 20)
    yield 'punch', lambda: check(libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(32)))
    yield 'map', lambda: mmap.mmap(fd, 32, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    yield 'reopen', lambda: os.open(own, os.O_RDWR)
    yield 'reopen the path', lambda: os.open(path, os.O_RDWR)
    yield 'write lock', lambda: lock(fd, fcntl.F_OFD_SETLK, fcntl.F_WRLCK, 0, 0)
    yield 'old write lock', lambda: lock(fd, fcntl.F_SETLK, fcntl.F_WRLCK, 0, 0)
    yield 'chmod', lambda: os.fchmod(fd, 0o666)
    yield 'chown', lambda: os.fchown(fd, os.getuid(), -1)
    yield 'seal', lambda: fcntl.fcntl(fd, 1033, 15)
    yield 'lease', lambda: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    yield 'attribute', lambda: os.setxattr(fd, 'user.rogue', b'1')

for number in sorted(map(int, os.listdir('/proc/self/fd'))):
    try:
        path = os.readlink(f'/proc/self/fd/{number}')
    except OSError:
        continue
    if not path.startswith('/dev/shm/'):
        continue
    print(number, path, fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE)
    for what, attempt in attempts(number, path):
        try:
            attempt()
            print('could', what)
        except OSError:
            pass
    # These two it may have; they must not do any harm.
    if len(sys.argv) > 1:
        lock(number, fcntl.F_OFD_SETLK, fcntl.F_RDLCK, 0, 0)
        lock(number, fcntl.F_SETLK, fcntl.F_RDLCK, 0, 0)
        fcntl.flock(number, fcntl.LOCK_EX)
print('up', flush=True)
if len(sys.argv) > 1:
    sys.stdin.read()
"#;

/// The arguments of `run` with that script as its command, run as an unprivileged user.
fn rogue<'a>(options: &[&'a str], then: &'a str) -> Vec<&'a str> {
    let setpriv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    [
        &["run"],
        options,
        &["--"],
        &setpriv,
        &["/usr/bin/python3", "-c", ROGUE, then],
    ]
    .concat()
}

/// Starts a command that has dropped its privileges, and keeps every lock that it could get on what it inherited.
fn keeping(lock: &TestLock) -> LineChild {
    let mut child = LineChild::spawn(&mut lock.command(&rogue(&[], "keep")));
    let line = child.line();
    assert!(
        line.ends_with(&format!(" {} 0", lock.paths().semaphore_path().display())),
        "{line}"
    );
    child.wait_for_line("up");
    child
}

#[test]
fn a_command_that_drops_its_privileges() {
    for options in [&[][..], &["-F"], &["-s"], &["--limit", "60"], &["--until", "tree"]] {
        let lock = TestLock::new("t5");
        // An open handle, so that there are beacons to lock.
        let _other = lock.open();
        let mut words = rogue(options, "");
        words.pop();
        let said = printed(&mut lock.command(&words));
        let lines: Vec<&str> = said.lines().collect();
        let [inherited, "up"] = lines[..] else {
            panic!("{options:?}: {said}");
        };
        let semaphore = lock.paths().semaphore_path();
        assert!(
            inherited.ends_with(&format!(" {} 0", semaphore.display())),
            "{inherited}"
        );
        let free = FlagWord {
            value: 1,
            waiters: 0,
            mark: 0,
        };
        if options != ["-F"] {
            assert_eq!(lock.flag_word(), free, "{options:?}");
        }
    }
}

/// Even if every byte is locked that the descriptor allows one to lock, others get the lock, and dead handles are
/// found.
#[test]
fn all_that_can_be_locked_is_locked() {
    let lock = TestLock::new("t5");
    let mut run = keeping(&lock);
    let mut waiter = Worker::open(&lock);
    waiter.send_get(Ask::default());
    wait_until("it waits", || lock.state().waiters.len() == 1);
    let mut dead = Worker::open(&lock);
    dead.send_get(Ask::default());
    wait_until("both wait", || lock.state().waiters.len() == 2);
    dead.kill();
    wait_until("the dead one is known", || !lock.state().waiters[1].alive);
    assert!(lock.open().unget_lock(UngetOptions::new().force(true)).unwrap());
    assert!(waiter.granted().is_some(), "the lock goes on to the next");
    waiter.kill();
    // A holder's death is noticed, and new commands run under the lock.
    assert_eq!(printed(&mut lock.command(&["run", "-q", "echo", "ran"])), "ran\n");
    run.close_input();
    assert_eq!(run.wait().code(), Some(76), "it was told of the release by force");
    assert_eq!(lock.flag_word().value, 1);
}

/// When the wrapper is gone, the descriptor keeps the command's hold, even if it is only read-locked.
#[test]
fn what_is_left_behind_keeps_the_lock() {
    let lock = TestLock::new("t5");
    let script = "sh -c 'read line' & echo $!; wait";
    let setpriv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut words = vec!["run", "--"];
    words.extend(setpriv);
    let fifo = tempfile::tempdir().unwrap();
    let pipe = fifo.path().join("pipe");
    printed(Command::new("mkfifo").args(["-m", "666"]).arg(&pipe));
    printed(Command::new("chmod").arg("755").arg(fifo.path()));
    let script = script.replace("read line", &format!("read line < {}", pipe.display()));
    words.extend(["sh", "-c", &script]);
    let mut run = LineChild::spawn(&mut lock.command(&words));
    let orphan: u32 = run.line().parse().unwrap();
    wait_until("the command is recorded", || {
        lock.state().holders.iter().any(|holder| holder.bound_pid.is_some())
    });
    let command = lock.state().holders[0].bound_pid.unwrap();
    run.kill();
    signal(command, Signal::SIGKILL);
    run.wait();
    wait_until("the command is gone", || !crate::common::run::lives(command));
    assert!(lock.state().holders[0].alive);
    assert_eq!(
        lock.command(&["get", "-t", "0", "-q"]).status().unwrap().code(),
        Some(75)
    );
    signal(orphan, Signal::SIGKILL);
    assert_eq!(printed(&mut lock.command(&["run", "-q", "echo", "next"])), "next\n");
}

/// If somebody deletes the semaphore, a new one is used, without the old command's beacon. So nobody can check that
/// command any more, and what cannot be proven dead counts as alive.
#[test]
fn the_semaphore_is_replaced_under_a_command() {
    let lock = TestLock::new("t5");
    let mut run = LineChild::spawn(&mut lock.command(&["run", "--", "sh", "-c", "sleep 600 & echo $!; wait"]));
    let orphan: u32 = run.line().parse().unwrap();
    wait_until("the command is recorded", || {
        lock.state().holders.iter().any(|holder| holder.bound_pid.is_some())
    });
    let command = lock.state().holders[0].bound_pid.unwrap();
    std::fs::remove_file(lock.paths().semaphore_path()).unwrap();
    assert_eq!(
        lock.command(&["get", "-t", "0", "-q"]).status().unwrap().code(),
        Some(75)
    );
    run.kill();
    signal(command, Signal::SIGKILL);
    run.wait();
    wait_until("the command is gone", || !crate::common::run::lives(command));
    assert_eq!(
        lock.command(&["get", "-t", "0", "-q"]).status().unwrap().code(),
        Some(75)
    );
    assert!(lock.state().holders[0].alive);
    signal(orphan, Signal::SIGKILL);
    printed(&mut lock.command(&["unget"]));
    assert_eq!(printed(&mut lock.command(&["run", "-q", "echo", "next"])), "next\n");
}
