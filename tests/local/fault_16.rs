//! Fault 16: a refusal does not advise anything that breaks a lock in use, and a forced release says who goes on
//! without the lock.

use crate::common::{LineChild, TestLock};

#[test]
fn a_refusal_says_where_to_read_more() {
    let lock = TestLock::new("f16");
    let mut run = LineChild::spawn(&mut lock.command(&["run", "--", "sh", "-c", "echo up; read line"]));
    run.wait_for_line("up");
    for words in [&["run", "-n", "true"][..], &["get", "-n"]] {
        let output = lock.command(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(75));
        assert!(
            said.contains(&format!("; see: resourcelock {} state\n", lock.name())),
            "{said}"
        );
        assert!(!said.contains("unget"), "{said}");
    }
    run.close_input();
    run.wait();
}

#[test]
fn a_forced_release_names_who_goes_on() {
    let lock = TestLock::new("f16");
    let mut run = LineChild::spawn(&mut lock.command(&["run", "--", "sh", "-c", "echo up; read line"]));
    run.wait_for_line("up");
    let output = lock.command(&["unget"]).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let begin = format!("resourcelock: {}: {} (sh, ", lock.name(), run.id());
    assert!(
        said.starts_with(&begin) && said.ends_with(" goes on without the lock\n"),
        "{said}"
    );
    assert!(said.contains("), which held it since "), "{said}");
    run.close_input();
    assert_eq!(run.wait().code(), Some(76));
}

#[test]
fn nobody_goes_on_after_a_detached_hold() {
    let lock = TestLock::new("f16");
    assert!(lock.command(&["get", "-q"]).status().unwrap().success());
    let output = lock.command(&["unget"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let mut run = LineChild::spawn(&mut lock.command(&["run", "--", "sh", "-c", "echo up; read line"]));
    run.wait_for_line("up");
    let output = lock.command(&["unget", "-q"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    run.close_input();
    run.wait();
}

/// Nor does `doctor` advise to release a lock that a command runs under.
#[test]
fn doctor_advises_no_release_of_a_lock_in_use() {
    let lock = TestLock::new("f16");
    lock.command(&["run", "--", "sh", "-c", "kill -SEGV $$"])
        .status()
        .unwrap();
    let mend = || {
        let output = crate::common::binary().args(["doctor", "--json"]).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut findings = json["findings"].as_array().unwrap().iter();
        let of_lock = findings.find(|finding| finding["lock"] == lock.name());
        of_lock.expect("it is marked as abandoned")["mend"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let unget = format!("resourcelock {} unget", lock.name());
    assert_eq!(mend(), format!("repair the resource, then: {unget}"));
    let mut run = LineChild::spawn(&mut lock.command(&["run", "-q", "--", "sh", "-c", "echo up; read line"]));
    run.wait_for_line("up");
    assert!(
        mend().ends_with(&format!("; if it does not, once the lock is free: {unget}")),
        "{}",
        mend()
    );
    run.close_input();
    run.wait();
}
