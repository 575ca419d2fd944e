//! Fault 2: a `get` that cannot report that it has taken the lock leaves nothing behind.

use crate::common::{TestLock, in_private_shm};
use std::fs::OpenOptions;
use std::process::Stdio;

/// All ways of asking that answer on standard output.
const WAYS: [&[&str]; 5] = [&[], &["--json"], &["-a", "600"], &["--ttl", "600"], &["-s"]];

#[test]
fn to_a_full_disk() {
    for way in WAYS {
        let lock = TestLock::new("f2");
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = lock
            .command(&[&["get", "-n"], way].concat())
            .stdout(full)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(125), "{way:?}");
        assert!(!lock.state().locked && lock.state().holders.is_empty(), "{way:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("No space left on device"), "{way:?}: {said}");
    }
}

#[test]
fn to_a_closed_pipe() {
    for way in WAYS {
        let lock = TestLock::new("f2");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = lock
            .command(&[&["get", "-n"], way].concat())
            .stdout(writer)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(125), "{way:?}");
        assert!(!lock.state().locked && lock.state().holders.is_empty(), "{way:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("Broken pipe"), "{way:?}: {said}");
    }
}

/// As typed in a shell. A reader that reads nothing may still have the pipe open when the answer is written: the status
/// tells.
#[test]
fn a_status_of_0_means_taken_and_another_one_free() {
    let output = in_private_shm(
        "for i in 1 2 3 4 5 6 7 8; do
             { \"$RL\" pipe get -n 2>/dev/null; echo $? >&3; } 3>/dev/shm/status | head -0
             \"$RL\" pipe state -q; echo \"$(cat /dev/shm/status) $?\"; \"$RL\" pipe unget -q
         done",
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().count(), 8, "{said}");
    for line in said.lines() {
        assert!(line == "0 0" || line == "125 1", "{said}");
    }
}

/// With nothing to print, nothing can fail.
#[test]
fn quietly() {
    let lock = TestLock::new("f2");
    let output = lock
        .command(&["get", "-n", "-q"])
        .stdout(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(lock.state().locked);
}
