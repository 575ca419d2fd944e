//! A step of the wall clock neither shortens nor lengthens a wait.
//!
//! The system's clock is not touched: libfaketime shows another wall clock to one process, which must be dynamically
//! linked, and leaves it the monotonic one. The system calls show by which clock the kernel counts.

use crate::common::{LineChild, Peer, TestLock, example, own_example, wait_until};
use crate::tested;
use resourcelock::{GetOptions, ResourceLock, UngetOptions};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const HOUR: u64 = 3600;

#[test]
fn a_clock_put_forward_does_not_shorten_a_wait() {
    let (lock, folder) = (TestLock::new("clock"), tempfile::tempdir().unwrap());
    let holder = held(&lock);
    // By the wall clock, half an hour is over at once.
    let mut waiter = waiter_with_a_clock_of_its_own(&lock, "1800", folder.path());
    let before = wall_clock(&waiter.0.line());
    wait_until("it waits", || lock.state().waiters.len() == 1);
    set_clock(folder.path(), "+1h");
    while wall_clock(&waiter.0.line()) < before + HOUR {}
    // A waiter checks at least once a second: it does so under the new time, and stays.
    for _ in 0..30 {
        assert!(waiter.0.line().starts_with("wall clock"), "it goes on waiting");
    }
    assert!(holder.unget_lock(UngetOptions::new()).unwrap());
    waiter.0.wait_for_line("granted");
}

#[test]
fn a_clock_put_back_does_not_lengthen_a_wait() {
    let (lock, folder) = (TestLock::new("clock"), tempfile::tempdir().unwrap());
    let _holder = held(&lock);
    let mut waiter = waiter_with_a_clock_of_its_own(&lock, "3", folder.path());
    let before = wall_clock(&waiter.0.line());
    set_clock(folder.path(), "-1h");
    let mut stepped = false;
    let last = loop {
        let line = waiter.0.line();
        if !line.starts_with("wall clock") {
            break line;
        }
        stepped |= wall_clock(&line) < before - HOUR / 2;
    };
    assert!(stepped, "the clock was put back while it waited");
    assert_eq!(last, "timed out");
}

/// The real binary never asks the kernel to sleep by the wall clock, neither in our queue nor behind Python.
#[test]
fn no_sleep_is_counted_on_the_wall_clock() {
    let (queue, flag) = (TestLock::new("clock"), TestLock::new("clock"));
    let _holder = held(&queue);
    let mut python = Peer::open(&flag);
    assert!(python.get(Some(0.0), "python"));
    for lock in [&queue, &flag] {
        let calls = sleeps_of_a_waiting_get(lock);
        let timed = calls
            .lines()
            .filter(|call| call.contains("futex") && call.contains("tv_nsec="))
            .count();
        assert!(timed > 0, "it slept in timed waits: {calls}");
        // FUTEX_WAIT_BITSET without a clock flag, and FUTEX_WAIT, use the monotonic clock.
        for wall in ["CLOCK_REALTIME", "ITIMER_REAL", "alarm("] {
            assert!(!calls.contains(wall), "{calls}");
        }
    }
}

fn sleeps_of_a_waiting_get(lock: &TestLock) -> String {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-o"]).arg(&trace).arg("-e");
    command.arg("trace=futex,?futex_wait,?futex_waitv,clock_nanosleep,timerfd_create,timer_create,setitimer,alarm");
    command
        .arg(crate::common::binary().get_program())
        .args([lock.name(), "get", "-t", "0.3", "-q"]);
    assert_eq!(command.status().unwrap().code(), Some(75));
    fs::read_to_string(&trace).unwrap()
}

fn held(lock: &TestLock) -> ResourceLock {
    let holder = lock.open();
    assert!(holder.get_lock(&GetOptions::new()).unwrap());
    holder
}

/// `examples/wait.rs` with libfaketime, whose clock [`set_clock`] sets.
fn waiter_with_a_clock_of_its_own(lock: &TestLock, seconds: &str, folder: &Path) -> Waiter {
    set_clock(folder, "+0");
    // With musl the examples are linked statically, and cannot be given another clock.
    let mut command = if tested::has("musl") {
        own_example("wait")
    } else {
        example("wait")
    };
    command
        .args([lock.name(), seconds])
        .env("LD_PRELOAD", libfaketime())
        .env("FAKETIME_TIMESTAMP_FILE", folder.join("clock"))
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    Waiter(LineChild::spawn(&mut command))
}

/// Removes what libfaketime leaves in /dev/shm for a killed process.
struct Waiter(LineChild);

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.kill();
        self.0.wait();
        for file in ["faketime_shm_", "sem.faketime_sem_"] {
            let _ = fs::remove_file(format!("/dev/shm/{file}{}", self.0.id()));
        }
    }
}

/// `+1h`, `-1h`: relative to the system's clock.
fn set_clock(folder: &Path, step: &str) {
    let new = folder.join("new");
    fs::write(&new, step).unwrap();
    fs::rename(new, folder.join("clock")).unwrap();
}

/// The seconds in a line of the example.
fn wall_clock(line: &str) -> u64 {
    let seconds = line.strip_prefix("wall clock ").and_then(|rest| rest.split(' ').next());
    seconds
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no clock in {line:?}"))
}

fn libfaketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib")
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()));
    folders
        .map(|folder| folder.join("faketime/libfaketime.so.1"))
        .find(|library| library.exists())
        .expect("libfaketime is installed: run scripts/test.sh once")
}
