//! `run --max-skips`: skips that go on are told.

use crate::common::TestLock;
use crate::common::run::{hold, run, said};
use std::process::{Output, Stdio};

/// A skip that says nothing: its status.
fn silent(output: &Output) -> Option<i32> {
    assert_eq!((said(output).as_str(), output.stdout.as_slice()), ("", &b""[..]));
    output.status.code()
}

/// Asserts that the run was skipped, as the last of so many in a row, and says so.
fn speaks(lock: &TestLock, output: &Output, skips: u32) {
    let line = format!(
        "resourcelock: {}: skipped {skips} times in a row: held by ",
        lock.name()
    );
    let said = said(output);
    assert!(said.starts_with(&line) && said.lines().count() == 1, "{said}");
    assert_eq!(output.status.code(), Some(75));
}

const EVERY_THIRD: [&str; 6] = ["-n", "-E", "0", "--max-skips", "3", "true"];

#[test]
fn every_third_skip_speaks() {
    let lock = TestLock::new("skips");
    let holder = hold(&lock, &[]);
    for round in 1..=2 {
        assert_eq!(silent(&run(&lock, &EVERY_THIRD)), Some(0));
        assert_eq!(silent(&run(&lock, &EVERY_THIRD)), Some(0));
        speaks(&lock, &run(&lock, &EVERY_THIRD), 3 * round);
    }
    let quiet = |lock: &TestLock| silent(&run(lock, &["-q", "-n", "-E", "0", "--max-skips", "7", "true"]));
    assert_eq!(quiet(&lock), Some(75), "-q has the status alone");
    holder.finish();
}

/// Between them it is silent whatever the status, but for `-v`; a wait that ends is a skip as well, of NAME, whichever lock
/// was missing.
#[test]
fn every_kind_of_skip_counts() {
    let lock = TestLock::new("skips-kinds");
    let job = TestLock::new("skips-job");
    let holder = hold(&lock, &[]);
    let other = lock.name();
    let skip = |words: &[&str]| run(&job, &[&["--with", other, "--max-skips", "4"], words].concat());
    assert_eq!(silent(&skip(&["-n", "-E", "7", "true"])), Some(7));
    assert_eq!(silent(&skip(&["-t", "0.01", "-E", "0", "true"])), Some(0));
    let spoken = skip(&["-n", "-E", "0", "-v", "true"]);
    assert_eq!(spoken.status.code(), Some(0));
    let line = format!("resourcelock: {other}: held by ");
    assert!(said(&spoken).lines().any(|said| said.starts_with(&line)), "{spoken:?}");
    speaks(&lock, &skip(&["-t", "0.01", "-E", "0", "true"]), 4);
    holder.finish();
}

#[test]
fn what_counts_and_what_begins_anew() {
    let lock = TestLock::new("skips-anew");
    let skip = |skips: u32| {
        let holder = hold(&lock, &[]);
        // Other requests are none of these skips.
        assert_eq!(silent(&run(&lock, &["-n", "-E", "0", "true"])), Some(0));
        for _ in 1..skips {
            assert_eq!(silent(&run(&lock, &EVERY_THIRD)), Some(0));
        }
        let last = run(&lock, &EVERY_THIRD);
        holder.finish();
        last
    };
    assert_eq!(silent(&skip(2)), Some(0));
    // A run that fails or is not due changes nothing.
    assert_eq!(run(&lock, &["false"]).status.code(), Some(1));
    speaks(&lock, &skip(1), 3);
    assert_eq!(silent(&skip(2)), Some(0));
    // One that succeeds does, with or without the option.
    assert_eq!(silent(&run(&lock, &["--once-every", "1h", "true"])), Some(0));
    let not_due = ["--once-every", "1h", "-E", "0", "--max-skips", "3", "true"];
    assert_eq!(silent(&run(&lock, &not_due)), Some(0));
    assert_eq!(silent(&skip(2)), Some(0));
    speaks(&lock, &skip(1), 3);
}

#[test]
fn of_several_at_once_one_is_the_last_straw() {
    let lock = TestLock::new("skips-many");
    let holder = hold(&lock, &[]);
    let runs: Vec<_> = (0..8)
        .map(|_| {
            let mut run = lock.command(&["run", "-n", "-E", "0", "--max-skips", "4", "true"]);
            run.stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut spoken: Vec<String> = runs
        .into_iter()
        .map(|run| run.wait_with_output().unwrap())
        .filter(|output| output.status.code() == Some(75))
        .map(|output| said(&output))
        .collect();
    spoken.sort();
    let lines = ["4", "8"].map(|skips| format!("skipped {skips} times in a row"));
    assert_eq!(spoken.len(), 2, "{spoken:?}");
    assert!(
        spoken.iter().zip(&lines).all(|(said, line)| said.contains(line)),
        "{spoken:?}"
    );
    holder.finish();
}

#[test]
fn refused() {
    let lock = TestLock::new("skips-refused");
    for (words, says) in [
        (&["--max-skips", "3", "true"][..], "means nothing without"),
        (
            &["-E", "0", "--max-skips", "0", "true"],
            "not a whole number greater than 0",
        ),
        (
            &["-E", "0", "-F", "--max-skips", "3", "true"],
            "not together with --no-fork",
        ),
    ] {
        let output = run(&lock, words);
        assert_eq!(output.status.code(), Some(125));
        assert!(said(&output).contains(says), "{}", said(&output));
    }
}
