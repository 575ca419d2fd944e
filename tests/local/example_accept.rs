//! The file that refuses old tokens: an invalid token or incomplete input changes nothing, and a late writer is
//! refused, however it came to be late.

use crate::common::{binary, wait_until};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/accept.sh");

/// A directory with the file, whose content was written with token 42.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        assert_eq!(place.write("42", &[], "first\n"), (Some(0), String::new()));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Starts a writer that waits for its input.
    fn writer(&self, token: &str, more: &[&str]) -> Child {
        let programs = PathBuf::from(binary().get_program());
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", programs.parent().unwrap().display());
        Command::new(SCRIPT)
            .arg(self.path("report"))
            .args(more)
            .env("RESOURCELOCK_TOKEN", token)
            // The engine of the caller's job does not matter here.
            .env("RESOURCELOCK_BACKEND", "etcd://nobody.invalid")
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs a writer; returns its status and message.
    fn write(&self, token: &str, more: &[&str], input: &str) -> (Option<i32>, String) {
        finish(self.writer(token, more), input)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Asserts that nothing has changed, and nothing is left behind.
    fn is_as_before(&self, token: &str, why: &str) {
        assert_eq!(
            (self.read("report").as_str(), self.read("report.token").as_str()),
            ("first\n", token),
            "{why}"
        );
        let files = fs::read_dir(self.0.path()).unwrap().count();
        assert_eq!(files, 2, "{why}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let sum = "echo accept-$(realpath -m -- \"$0\" | cksum | cut -d ' ' -f 1)";
        let name = crate::common::printed(Command::new("sh").args(["-c", sum]).arg(self.path("report")));
        let _ = binary().args([name.trim(), "remove", "-q"]).status();
    }
}

fn finish(mut writer: Child, input: &str) -> (Option<i32>, String) {
    // A writer that has refused the token does not read its input.
    let _ = writer.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stderr, .. } = writer.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn what_is_no_token_is_refused() {
    let place = Place::new();
    for token in ["abc", "", "-1", "4 3", "43x", "0x50", "43\n44", "٤٣"] {
        let (status, said) = place.write(token, &[], "new\n");
        assert_eq!(status, Some(2), "{token:?}: {said}");
        assert!(said.contains("token"), "{token:?}: {said}");
        place.is_as_before("42\n", token);
    }
}

#[test]
fn a_token_that_was_not_kept_whole_lets_nobody_in() {
    let place = Place::new();
    for kept in ["", "abc\n", "4\n2\n"] {
        fs::write(place.path("report.token"), kept).unwrap();
        let (status, said) = place.write("43", &[], "new\n");
        assert_eq!(status, Some(2), "{kept:?}: {said}");
        assert!(said.contains("report.token: '"), "{kept:?}: {said}");
        place.is_as_before(kept, kept);
    }
    fs::write(place.path("report.token"), "42").unwrap();
    assert_eq!(place.write("43", &[], "new\n").0, Some(0), "a line end is not needed");
    assert_eq!(place.read("report"), "new\n");
}

#[test]
fn tokens_are_compared_as_numbers_of_any_length() {
    let place = Place::new();
    for (token, status) in [
        ("5", 1),
        ("42", 0),
        ("1795494181036602", 0),
        ("999999999999999", 1),
        ("9223372036854775808", 0),
        ("9223372036854775807", 1),
        ("99999999999999999999999", 0),
        ("99999999999999999999998", 1),
    ] {
        let (told, said) = place.write(token, &[], token);
        assert_eq!(told, Some(status), "{token}: {said}");
        assert_eq!(said.contains("this holder has been replaced"), status == 1, "{said}");
        assert_eq!(place.read("report") == token, status == 0);
    }
}

/// `false | accept.sh FILE`, and a connection that breaks off.
#[test]
fn what_is_not_the_whole_input_replaces_nothing() {
    let place = Place::new();
    let (status, said) = place.write("43", &[], "");
    assert_eq!(status, Some(2), "{said}");
    place.is_as_before("42\n", &said);
    for input in ["", "ne", "new\nnew\n"] {
        let (status, said) = place.write("43", &["4"], input);
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains("not 4"), "{said}");
        place.is_as_before("42\n", &said);
    }
    assert_eq!(place.write("43", &["4"], "new\n"), (Some(0), String::new()));
    assert_eq!(place.read("report"), "new\n");
    assert_eq!(
        place.write("43", &["0"], ""),
        (Some(0), String::new()),
        "empty on purpose"
    );
    assert_eq!(place.read("report"), "");
}

#[test]
fn a_writer_that_hangs_does_not_hold_up_the_next_one() {
    let place = Place::new();
    let mut late = place.writer("43", &[]);
    late.stdin.as_mut().unwrap().write_all(b"half of it\n").unwrap();
    wait_until("half of it has arrived", || {
        let files = fs::read_dir(place.0.path()).unwrap().map(|file| file.unwrap().path());
        files
            .into_iter()
            .any(|file| fs::read_to_string(file).is_ok_and(|text| text == "half of it\n"))
    });
    let mut next = place.writer("44", &[]);
    next.stdin.as_mut().unwrap().write_all(b"new\n").unwrap();
    drop(next.stdin.take());
    wait_until("the next one has written", || next.try_wait().unwrap().is_some());
    assert!(next.wait().unwrap().success());
    let (status, said) = finish(late, "the other half\n");
    assert_eq!(status, Some(1), "{said}");
    assert_eq!(place.read("report"), "new\n");
}
