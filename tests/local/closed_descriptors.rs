//! A program closes all descriptors, as daemons do, and opens its own files under their numbers. Neither the lock nor
//! those files must suffer.

use super::watching::has_watcher;
use crate::common::worker::{Hands, Skill};
use crate::common::{Ask, TestLock, Worker, wait_until};
use nix::sys::stat::fstat;
use nix::unistd::{ForkResult, fork};
use resourcelock::{GetOptions, ResourceLock, Wait};
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

/// Closes all descriptors but the standard streams; returns their numbers.
fn close_all() -> Vec<RawFd> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > 2)
        .collect();
    // The list includes the descriptor from which it was read, which has been closed by now.
    open.into_iter().filter(|&fd| nix::unistd::close(fd).is_ok()).collect()
}

/// Opens files of the program's own under these numbers; returns them and their inode.
fn reuse(numbers: &[RawFd]) -> (Vec<File>, u64) {
    let first = tempfile::tempfile().expect("a file");
    let inode = fstat(&first).expect("it is open").st_ino;
    let mut files = vec![first];
    while files
        .last()
        .is_some_and(|file| Some(&file.as_raw_fd()) < numbers.iter().max())
    {
        files.push(files[0].try_clone().expect("one more"));
    }
    (files, inode)
}

fn intact(files: &[File], inode: u64) -> bool {
    files.iter().all(|file| {
        // SAFETY: only used for fstat, which notices if it is closed.
        #[allow(unsafe_code)]
        let fd = unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) };
        fstat(fd).is_ok_and(|stat| stat.st_ino == inode)
    })
}

/// The worker's handle lives on, but from here on its descriptors are closed or refer to other files.
fn lose(_: &mut Hands, arguments: &[Value]) -> Value {
    let numbers = close_all();
    if arguments[0] == json!("reused") {
        let (files, inode) = reuse(&numbers);
        assert!(intact(&files, inode));
        std::mem::forget(files);
    }
    json!(numbers.len())
}

/// Opens handles and drops them after their descriptors' numbers have been reused, here and in a forked child.
fn spare(hands: &mut Hands, _: &[Value]) -> Value {
    let name = hands.lock().name().as_str();
    let open = || ResourceLock::open(name).expect("the lock opens");
    let (lock, other) = (open(), open());
    let guard = lock
        .acquire_with(&GetOptions::new().wait(Wait::No))
        .unwrap()
        .expect("it is free");
    guard.keep_alive_in_children().expect("there are descriptors");
    let (files, inode) = reuse(&close_all());
    // SAFETY: the harness's other thread is asleep; the child only makes system calls and exits.
    #[allow(unsafe_code)]
    let in_child = match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            drop(other);
            if intact(&files, inode) {
                nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL).ok();
            }
            std::process::abort();
        }
        ForkResult::Parent { child } => nix::sys::wait::waitpid(child, None).expect("it ends"),
    };
    let released = guard.release().expect("no error");
    drop((lock, other));
    let intact = intact(&files, inode);
    std::mem::forget(files);
    json!([released, intact, format!("{in_child:?}").contains("SIGKILL")])
}

/// Waits for the lock; then the thread that has told it of the holder's death still has descriptors, and their numbers are
/// reused: while it makes sure that it was heard, or while it waits with nothing to do, which is after so many ms.
fn spare_after_a_wait(hands: &mut Hands, arguments: &[Value]) -> Value {
    let options = GetOptions::new().wait(Wait::Forever).queue_at_once(true);
    let guard = hands.lock().acquire_with(&options).unwrap().expect("its turn");
    std::thread::sleep(Duration::from_millis(arguments[0].as_u64().expect("ms")));
    let (files, inode) = reuse(&close_all());
    wait_until("the thread has ended", || !has_watcher(std::process::id()));
    let intact = intact(&files, inode);
    std::mem::forget(files);
    json!([intact, guard.release().expect("no error")])
}

/// Further requests that this file's workers understand.
pub const SKILLS: &[(&str, Skill)] = &[
    ("lose", lose),
    ("spare", spare),
    ("spare_after_a_wait", spare_after_a_wait),
];

#[test]
fn a_hold_lasts() {
    for after in ["closed", "reused"] {
        let lock = TestLock::new("descriptors");
        let [mut holder, mut other] = [0; 2].map(|_| Worker::open(&lock));
        let grant = holder.get(Ask::default()).unwrap();
        assert!(holder.ask(json!(["lose", after])).as_u64() > Some(0));
        assert_eq!(other.get(Ask::now()), None, "{after}: its beacon is lit");
        assert_eq!(holder.ask(json!(["lost"])), json!("held"), "{after}");
        assert_eq!(holder.ask(json!(["is_locked"])), json!(true), "{after}");
        assert_eq!(other.ask(json!(["is_held", grant.token])), json!(true), "{after}");
        assert!(holder.release(), "{after}");
        let next = other.get(Ask::now()).unwrap();
        assert!(!next.abandoned && other.release(), "{after}");
        assert!(holder.get(Ask::now()).is_some(), "{after}: and gets it again");
        holder.kill();
        assert!(
            other.get(Ask::default()).is_some_and(|grant| grant.abandoned),
            "{after}: its death is noticed"
        );
    }
}

/// If asked about a file that is not the table, the kernel would say that nobody is alive.
#[test]
fn the_living_are_not_taken_for_dead_and_the_dead_are_found() {
    for after in ["closed", "reused"] {
        let lock = TestLock::new("descriptors");
        let [mut holder, mut closed] = [0; 2].map(|_| Worker::open(&lock));
        let grant = holder.get(Ask::default()).unwrap();
        assert!(closed.ask(json!(["lose", after])).as_u64() > Some(0));
        assert_eq!(closed.get(Ask::now()), None, "{after}");
        assert_eq!(closed.ask(json!(["is_held", grant.token])), json!(true), "{after}");
        assert_eq!(holder.ask(json!(["lost"])), json!("held"), "{after}");
        closed.send_get(Ask::default());
        wait_until("it waits", || lock.state().waiters.len() == 1);
        holder.kill();
        assert!(closed.granted().is_some_and(|grant| grant.abandoned), "{after}");
    }
}

#[test]
fn the_programs_own_files_are_left_alone() {
    let lock = TestLock::new("descriptors");
    let mut program = Worker::open(&lock);
    assert_eq!(
        program.ask(json!(["spare"])),
        json!([true, true, true]),
        "released; open here; open in a child"
    );
}

#[test]
fn the_programs_own_files_are_left_alone_after_a_wait() {
    for ms in [0, 20] {
        let lock = TestLock::new("descriptors");
        let [mut holder, mut program] = [0; 2].map(|_| Worker::open(&lock));
        holder.get(Ask::default()).unwrap();
        program.send(json!(["spare_after_a_wait", ms]));
        wait_until("it is told of deaths", || has_watcher(program.id()));
        holder.kill();
        assert_eq!(program.answer(), json!([true, true]), "{ms} ms: open; released");
    }
}
