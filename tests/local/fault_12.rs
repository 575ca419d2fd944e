//! Fault 12: a command that reaches its limit is not terminated silently.

use crate::common::TestLock;

fn said(options: &[&str], script: &str) -> (Option<i32>, String) {
    let lock = TestLock::new("f12");
    let mut command = lock.command(&[&["run"], options, &["--", "sh", "-c", script]].concat());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said.replace(lock.name(), "NAME"))
}

#[test]
fn what_was_sent_and_when() {
    let (status, text) = said(&["--limit", "0.2"], "echo $$ >&2; exec sleep 600");
    assert_eq!(status, Some(124));
    let (pid, line) = text.split_once('\n').unwrap();
    let expected = format!("resourcelock: NAME: sent TERM to {pid} (sh), which reached its limit of 200 ms\n");
    assert_eq!(line, expected);
}

#[test]
fn the_kill_that_follows() {
    let script = "trap '' TERM INT; echo $$ >&2; sleep 600";
    let (status, text) = said(&["--limit", "0.2", "--signal", "INT", "-k", "0.1"], script);
    assert_eq!(status, Some(137));
    let lines: Vec<&str> = text.lines().collect();
    let [pid, asked, killed] = lines.as_slice() else {
        panic!("{text}")
    };
    assert_eq!(
        *asked,
        format!("resourcelock: NAME: sent INT to {pid} (sh), which reached its limit of 200 ms")
    );
    assert_eq!(
        *killed,
        format!("resourcelock: NAME: sent KILL to {pid} (sh), which still ran 100 ms later")
    );
}

#[test]
fn quiet_means_quiet() {
    assert_eq!(
        said(&["-q", "--limit", "0.1"], "exec sleep 600"),
        (Some(124), String::new())
    );
}

/// The signal goes to what still runs, which may not be the command.
#[test]
fn what_was_left_behind() {
    let (status, text) = said(&["--limit", "0.5", "--until", "tree"], "sleep 600 & echo $$ >&2");
    assert_eq!(status, Some(124));
    let (pid, line) = text.split_once('\n').unwrap();
    let expected = format!("sent TERM to what was left behind by {pid} (sh), which reached its limit of 500 ms\n");
    assert_eq!(line, format!("resourcelock: NAME: {expected}"));
}
