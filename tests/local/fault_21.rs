//! Fault 21: small things that mislead on the command line.

use crate::common::{TestLock, binary, printed};
use std::os::unix::fs::MetadataExt;

/// A group that may not use its lock makes no sense.
#[test]
fn a_groups_lock_can_be_used_by_the_group() {
    // The groups of this process are those that it can give a lock to.
    let group = nix::unistd::getegid();
    for (options, mode) in [
        (&["--group"][..], 0o660),
        (&["--mode", "600", "--group"], 0o600),
        (&["--mode", "666", "--group"], 0o666),
    ] {
        let lock = TestLock::new("f21");
        let number = group.to_string();
        let options = [&["run"], options, &[&number, "--", "true"]].concat();
        assert!(lock.command(&options).status().unwrap().success());
        for path in lock.objects() {
            let file = path.metadata().unwrap();
            assert_eq!((file.mode() & 0o777, file.gid()), (mode, group.as_raw()), "{path:?}");
        }
    }
    let lock = TestLock::new("f21");
    drop(lock.open());
    assert!(
        lock.objects()
            .iter()
            .all(|path| path.metadata().unwrap().mode() & 0o777 == 0o600)
    );
}

/// The note says when the lock was taken, in the zone of whoever took it. The reader's may be another.
#[test]
fn a_notes_time_is_the_readers() {
    let lock = TestLock::new("f21");
    let in_zone = |zone: &str, words: &[&str]| printed(lock.command(words).env("TZ", zone));
    let note = |zone: &str| {
        let state = in_zone(zone, &["state"]);
        let line = state.lines().find_map(|line| line.split_once("note "));
        line.expect("a note").1.trim_start().to_owned()
    };
    for (take, release) in [
        (&["get", "-q", "-m", "x - y"][..], true),
        (&["run", "-m", "x - y", "true"], false),
    ] {
        in_zone("Asia/Kathmandu", take);
        let utc = note("UTC");
        let there = note("Asia/Kathmandu");
        assert!(utc.ends_with(" - x - y"), "{utc}");
        let written = lock.note_text();
        assert_eq!(there, written, "where it was written, it is shown as it is");
        let time = |text: &str| {
            chrono::NaiveDateTime::parse_and_remainder(text, "%Y-%m-%d %H:%M:%S%.f")
                .unwrap()
                .0
        };
        assert_eq!(time(&there) - time(&utc), chrono::TimeDelta::minutes(5 * 60 + 45));
        if release {
            in_zone("UTC", &["unget", "-q"]);
        }
    }
    // Not a time of a grant, but text that somebody has put there.
    lock.open().set_lock_info("2001-02-03 04:05:06.0 - mine").unwrap();
    assert_eq!(note("UTC"), "2001-02-03 04:05:06.0 - mine");
}

/// One name in the JSON and in the metrics.
#[test]
fn one_name_for_requests_in_a_row_that_went_without_the_lock() {
    let lock = TestLock::new("f21");
    printed(&mut lock.command(&["get", "-q"]));
    assert_eq!(
        lock.command(&["run", "-n", "-q", "true"]).status().unwrap().code(),
        Some(75)
    );
    let json: serde_json::Value = serde_json::from_str(&printed(&mut lock.command(&["state", "--json"]))).unwrap();
    assert_eq!(json["counters"]["consecutive_timeouts"], 1);
    let metrics = printed(binary().args(["list", "--prometheus"]));
    let line = format!("resourcelock_consecutive_timeouts{{lock=\"{}\"}} 1", lock.name());
    assert!(metrics.lines().any(|other| other == line), "{metrics}");
}
