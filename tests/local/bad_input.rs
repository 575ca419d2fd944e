//! Invalid input is refused: one line on standard error, status 125, nothing changed, no panic.

use crate::common::{TestLock, binary};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Asserts that `command` is refused; returns its message.
fn refused(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(125), "{command:?}: {said}");
    assert_eq!(output.stdout, b"", "{command:?}");
    assert!(
        said.starts_with("resourcelock: ") && said.lines().count() == 1,
        "{command:?}: {said:?}"
    );
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn names_that_cannot_be() {
    let long = "x".repeat(201);
    let own = format!("test-bad-name-{}", std::process::id());
    let [of_a_flag, of_a_table, of_a_later_table] =
        ["sem", "resourcelock", "resourcelock7"].map(|beginning| format!("{beginning}.{own}"));
    let names = [
        "",
        "/",
        ".",
        "..",
        "a/b",
        "//a",
        "a\nb",
        "a\x1bb",
        &of_a_flag,
        &of_a_table,
        &of_a_later_table,
        &long,
    ];
    for name in names {
        for words in [
            &["get"][..],
            &["unget"],
            &["state"],
            &["trace"],
            &["run", "true"],
            &["history"],
            &["remove"],
        ] {
            let said = refused(binary().arg(name).args(words));
            assert!(!said.trim_end().chars().any(char::is_control), "{said:?}");
        }
    }
    for name in [&own, &of_a_flag, &of_a_table, &of_a_later_table] {
        for file in [name.clone(), format!("sem.{name}"), format!("resourcelock3.{name}")] {
            assert!(!Path::new("/dev/shm").join(&file).exists(), "{file} was created");
        }
    }
    refused(binary().arg(OsStr::from_bytes(b"not\xffUTF-8")).arg("get"));
}

#[test]
fn options_and_values_that_cannot_be() {
    let lock = TestLock::new("bad");
    let lines: &[&[&str]] = &[
        &[],
        &["get", "-t", "nan"],
        &["get", "-t", "inf"],
        &["get", "-t", "-5"],
        &["get", "-t", "soon"],
        &["get", "-t", ""],
        &["get", "-t", "1e400"],
        &["get", "-t"],
        &["get", "-a", "-1"],
        &["get", "-a", "nan"],
        &["get", "-E", "256"],
        &["get", "-E", "-1"],
        &["get", "-E", "x"],
        &["get", "-j", "0"],
        &["get", "-j", "-3"],
        &["get", "--pid", "0"],
        &["get", "--ttl", "forever"],
        &["get", "--mode", "999"],
        &["get", "--group", "no such group"],
        &["get", "--no-such-option"],
        &["get", "-Z"],
        &["get", "superfluous"],
        &["unget", "--token", "x"],
        &["trace", "-u", "nan"],
        &["trace", "-u", "-1"],
        &["run"],
        &["run", "--"],
        &["run", "-t", "nan", "--", "true"],
        &["run", "-E", "256", "--", "true"],
        &["run", "--no-such-option", "true"],
        &["run", "--limit", "nan", "true"],
        &["no-such-command"],
    ];
    for line in lines {
        refused(&mut lock.command(line));
    }
    assert!(lock.objects().is_empty(), "nothing was created: {:?}", lock.objects());
    refused(&mut binary());
}

/// This turns out only after the lock has been opened: it stays free.
#[test]
fn a_process_that_does_not_exist() {
    let lock = TestLock::new("bad");
    let said = refused(&mut lock.command(&["get", "--pid", "99999999"]));
    assert!(said.contains("99999999"), "{said}");
    assert!(!lock.state().locked);
}

#[test]
fn a_value_that_is_not_utf8() {
    let lock = TestLock::new("bad");
    let value: OsString = OsStr::from_bytes(b"\xff\xfe").into();
    refused(lock.command(&["get", "-t"]).arg(&value));
    assert!(lock.objects().is_empty());
}

/// A command name that is not text is fine: that is the command's own business.
#[test]
fn a_command_whose_arguments_are_not_utf8_runs() {
    let lock = TestLock::new("bad");
    let output = lock
        .command(&["run", "--", "printf", "%s"])
        .arg(OsStr::from_bytes(b"\xff\xfe"))
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"\xff\xfe");
}
