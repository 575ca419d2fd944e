//! T10: one deadline limits all waiting.

use crate::common::run::has_signal;
use crate::common::{LineChild, TestLock, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use resourcelock::{GetOptions, Mode};
use std::process::Stdio;

/// If a holder has not started a command, then, whatever times the table claims, `--replace` waits for that start no
/// longer than for the lock, and a signal ends the wait.
#[test]
fn replace_obeys_the_wait_and_signals() {
    let lock = TestLock::new("t10");
    let handle = lock.open();
    let _readers: Vec<_> = (0..20)
        .map(|_| {
            handle
                .acquire_with(&GetOptions::new().mode(Mode::Shared))
                .unwrap()
                .unwrap()
        })
        .collect();
    let output = lock
        .command(&["run", "--replace", "-t", "0.05", "true"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(75));
    let mut waiting = lock.command(&["run", "--replace", "true"]);
    let mut waiting = LineChild::spawn(waiting.stderr(Stdio::null()));
    wait_until("signals end its wait", || {
        has_signal(waiting.id(), "SigCgt", libc::SIGTERM)
    });
    kill(Pid::from_raw(waiting.id().cast_signed()), Signal::SIGTERM).unwrap();
    let status = waiting.wait();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(Signal::SIGTERM as i32)
    );
}
