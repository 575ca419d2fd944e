//! The worked examples of the library's first page do what they say.

use crate::common::{Ask, LineChild, TestLock, Worker, example, printed, wait_until};
use std::time::Duration;

#[test]
fn a_single_instance_says_who_runs() {
    let lock = TestLock::new("example");
    let mut first = LineChild::spawn(example("single_instance").args([lock.name(), "60"]));
    assert_eq!(first.line(), "running");
    let output = example("single_instance").args([lock.name(), "60"]).output().unwrap();
    assert_eq!(output.status.code(), Some(75));
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = format!(
        "{} runs already: process {} (single_instance), for ",
        lock.name(),
        first.id()
    );
    assert!(said.starts_with(&expected), "{said}");
    first.kill();
    wait_until("a killed one is gone", || !lock.state().locked);
    assert_eq!(
        printed(example("single_instance").args([lock.name(), "0"])),
        "running\n"
    );
}

#[test]
fn a_daemon_with_threads() {
    let (device, bus) = (TestLock::new("example"), TestLock::new("example"));
    let mut dying = Worker::open(&device);
    assert!(dying.get(Ask::now()).is_some());
    dying.kill();
    wait_until("it is dead", || !device.state().locked);
    let printed = printed(example("daemon").args([device.name(), bus.name(), "3"]));
    assert!(printed.starts_with("repairing what the last one left\n"), "{printed}");
    let mut tokens: Vec<&str> = printed
        .lines()
        .filter_map(|line| line.split_once("under token "))
        .map(|l| l.1)
        .collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 9, "{printed}");
    assert!(!device.state().locked && device.state().abandoned.is_none());
}

#[test]
fn readers_and_writers() {
    let (lock, folder) = (TestLock::new("example"), tempfile::tempdir().unwrap());
    let mut example = example("readers_writers");
    example
        .arg(lock.name())
        .arg(folder.path().join("prices.txt"))
        .args(["4", "50"]);
    assert_eq!(printed(&mut example), "200 reads, each of them whole\n");
}

#[test]
fn a_watcher() {
    let lock = TestLock::new("example");
    let handle = lock.open();
    let mut watcher = LineChild::spawn(example("watcher").args([lock.name(), "1"]));
    assert_eq!(watcher.line(), "watching");
    let held = handle.acquire().unwrap();
    let own = std::process::id();
    assert_eq!(watcher.line(), format!("has it: Some({own}), exclusive"));
    assert!(handle.acquire_for(Duration::from_millis(1)).unwrap().is_none());
    drop(held);
    let mut lines = vec![watcher.line()];
    while lines.last().is_some_and(|line| !line.starts_with("released")) {
        lines.push(watcher.line());
    }
    assert_eq!(lines.last().unwrap(), &format!("released: Some({own})"), "{lines:?}");
    assert!(watcher.wait().success());
}

#[test]
fn a_service_on_tokio() {
    let lock = TestLock::new("example");
    let printed = printed(example("tokio_service").args([lock.name(), "3"]));
    assert_eq!(
        printed
            .lines()
            .filter(|line| line.ends_with("the lock is held: true"))
            .count(),
        3,
        "{printed}"
    );
    assert!(printed.ends_with("3 jobs done, one at a time\n"), "{printed}");
}
