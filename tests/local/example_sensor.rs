//! The README's job: many sensor readers append to one file. Under the lock their lines do not mix; without it they do.

use crate::common::{TestLock, binary, printed, wait_until};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/read_sensor.sh");

#[test]
fn twenty_at_once_under_the_lock_keep_their_lines_apart() {
    let (lock, folder) = (TestLock::new("sensor"), tempfile::tempdir().unwrap());
    let file = folder.path().join("sensors.csv");
    let mut readers: Vec<Child> = (0..20).map(|_| under_lock(&lock, &file).spawn().unwrap()).collect();
    for reader in &mut readers {
        assert!(reader.wait().unwrap().success());
    }
    assert_eq!(whole_lines(&file), 20);
    assert_eq!(lock.state().counters.unwrap().acquisitions, 20);
}

/// A slow reader is held up in the middle of its line when a second one arrives.
#[test]
fn a_second_reader_waits_for_a_slow_one() {
    let (lock, folder) = (TestLock::new("sensor"), tempfile::tempdir().unwrap());
    let (file, go) = (folder.path().join("sensors.csv"), folder.path().join("go"));
    let mut slow = under_lock(&lock, &file)
        .env("READ_SENSOR_WAIT_FOR", &go)
        .spawn()
        .unwrap();
    wait_until("the slow reader has begun its line", || begun(&file));
    let mut second = under_lock(&lock, &file).spawn().unwrap();
    wait_until("the second reader waits", || lock.state().waiters.len() == 1);
    fs::write(&go, "").unwrap();
    assert!(slow.wait().unwrap().success() && second.wait().unwrap().success());
    assert_eq!(whole_lines(&file), 2);
}

/// The same without the lock: the second reader writes into the slow one's line.
#[test]
fn without_the_lock_lines_mix() {
    let folder = tempfile::tempdir().unwrap();
    let (file, go) = (folder.path().join("sensors.csv"), folder.path().join("go"));
    let mut slow = Command::new(SCRIPT)
        .arg(&file)
        .env("READ_SENSOR_WAIT_FOR", &go)
        .spawn()
        .unwrap();
    wait_until("the slow reader has begun its line", || begun(&file));
    printed(Command::new(SCRIPT).arg(&file));
    fs::write(&go, "").unwrap();
    assert!(slow.wait().unwrap().success());
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 2);
    let whole = names_of_a_reader_alone();
    assert!(!text.lines().any(|line| names(line) == whole), "{text}");
}

fn under_lock(lock: &TestLock, file: &Path) -> Command {
    let mut command = binary();
    command
        .args([lock.name(), "run", "--", SCRIPT])
        .arg(file)
        .stdin(Stdio::null());
    command
}

fn begun(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.len() > 0)
}

/// Asserts that all lines are whole; returns how many there are.
fn whole_lines(file: &Path) -> usize {
    let text = fs::read_to_string(file).unwrap();
    let whole = names_of_a_reader_alone();
    assert!(
        text.ends_with('\n') && text.lines().all(|line| names(line) == whole),
        "{text}"
    );
    text.lines().count()
}

fn names_of_a_reader_alone() -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alone.csv");
    printed(Command::new(SCRIPT).arg(&file));
    names(fs::read_to_string(&file).unwrap().trim_end())
}

/// The fields of `time,name,value,name,value...` without the values, and with the time's digits masked.
fn names(line: &str) -> Vec<String> {
    let (time, readings) = line.split_once(',').unwrap_or((line, ""));
    let time = time.replace(|c: char| c.is_ascii_digit(), "0");
    std::iter::once(time)
        .chain(readings.split(',').step_by(2).map(str::to_owned))
        .collect()
}
