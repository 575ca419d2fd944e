//! Two builds of the program on one lock: this one, and the one that RESOURCELOCK_TEST_PROGRAM names, of another
//! architecture or for another libc (`scripts/cross.sh`). In the suite, both are the same.

use super::peer_load::Numbers;
use crate::common::lock::own_binary;
use crate::common::run::{lives, signal, wait_for_waiters};
use crate::common::{LineChild, TestLock, binary, example, own_example, printed, wait_until};
use nix::sys::signal::Signal;
use std::fs;
use std::process::Command;

/// Says when it has begun, and what it was told of earlier holders; then runs until it is sent a line.
const HOLD: [&str; 6] = [
    "run",
    "-q",
    "--",
    "sh",
    "-c",
    "echo $$ [$RESOURCELOCK_ABANDONED]; read line",
];

/// The two builds' programs, in both orders.
fn pairs() -> [[Command; 2]; 2] {
    [[own_binary(), binary()], [binary(), own_binary()]]
}

/// Its PID, and what it was told.
fn begun(run: &mut LineChild) -> (u32, String) {
    let line = run.line();
    let (pid, told) = line.split_once(' ').expect("two words");
    (pid.parse().unwrap(), told.to_owned())
}

#[test]
fn each_waits_for_the_other_and_sees_it() {
    for [mut first, mut second] in pairs() {
        let lock = TestLock::new("builds");
        let mut holder = LineChild::spawn(first.arg(lock.name()).args(HOLD));
        let (pid, told) = begun(&mut holder);
        assert_eq!(told, "[]");
        let mut waiter = LineChild::spawn(second.arg(lock.name()).args(HOLD));
        wait_for_waiters(&lock, 1);
        // The command may be quicker than the note of its PID.
        wait_until("both see who holds the lock", || {
            [own_binary(), binary()].iter_mut().all(|program| {
                let seen = printed(program.args([lock.name(), "state", "--json"]));
                seen.contains(&pid.to_string())
            })
        });
        assert_eq!(waiter.try_line(), None);
        holder.send("");
        assert!(holder.wait().success());
        assert_eq!(begun(&mut waiter).1, "[]");
        waiter.send("");
        assert!(waiter.wait().success());
        assert_eq!(lock.flag_word().value, 1);
    }
}

#[test]
fn each_follows_the_other_that_was_killed_and_is_told() {
    for [mut first, mut second] in pairs() {
        let lock = TestLock::new("builds");
        let mut holder = LineChild::spawn(first.arg(lock.name()).args(HOLD));
        let (command, _) = begun(&mut holder);
        let mut waiter = LineChild::spawn(second.arg(lock.name()).args(HOLD));
        wait_for_waiters(&lock, 1);
        let is_named = || {
            let state = lock.state();
            state.holders.iter().any(|holder| holder.bound_pid == Some(command))
        };
        wait_until("the table names the command", is_named);
        signal(holder.id(), Signal::SIGKILL);
        holder.wait();
        assert!(is_named(), "what is left holds it");
        assert_eq!(waiter.try_line(), None, "the command still runs");
        signal(command, Signal::SIGKILL);
        assert_eq!(begun(&mut waiter).1, "[1]");
        assert!(!lives(command));
        waiter.send("");
        assert!(waiter.wait().success());
    }
}

/// Users of both builds' libraries raise one counter; all of them are killed again and again, at any instant.
#[test]
fn both_builds_raise_a_counter_and_nothing_is_lost() {
    const KILLS: usize = 40;
    let (lock, folder) = (TestLock::new("builds"), tempfile::tempdir().unwrap());
    fs::write(folder.path().join("counter"), "0").unwrap();
    let start = |number: usize| {
        let mut count = if number.is_multiple_of(2) {
            own_example("count")
        } else {
            example("count")
        };
        LineChild::spawn(count.arg(lock.name()).arg(folder.path()).arg("1000000"))
    };
    let mut workers: Vec<LineChild> = (0..4).map(start).collect();
    let mut numbers = Numbers::default();
    for kill in 0..KILLS {
        let number = kill % 4;
        let victim = &mut workers[number];
        // It is at work by now.
        numbers.add(victim.line().parse().unwrap());
        std::thread::sleep(std::time::Duration::from_micros(kill as u64 * 7919 % 2000));
        numbers.add_lines_of_killed(victim);
        workers[number] = start(number);
    }
    for worker in &mut workers {
        numbers.add_lines_of_killed(worker);
    }
    let counter = numbers.assert_complete(folder.path(), KILLS + 4);
    println!("{counter} rounds, {KILLS} kills");
    for mut program in [own_binary(), binary()] {
        printed(program.args([lock.name(), "run", "-q", "--", "true"]));
    }
    assert_eq!(lock.flag_word().value, 1);
}
