//! T4: only a process that provably runs under the hold is signalled.

use crate::common::{LineChild, TestLock, process_state, wait_until};
use std::process::Command;

/// A process that nobody may end because of a lock.
struct Bystander(LineChild);

impl Bystander {
    fn new() -> Self {
        let mut child = LineChild::spawn(Command::new("sh").args(["-c", "echo up; read line; echo \"$line\""]));
        child.wait_for_line("up");
        Self(child)
    }

    /// Asserts that it still answers, hence was not signalled.
    fn answers(mut self) {
        self.0.send("unharmed");
        self.0.wait_for_line("unharmed");
        self.0.wait();
    }
}

fn replace(lock: &TestLock) -> String {
    let output = lock
        .command(&["run", "--replace", "-t", "0.3", "true"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A hold may be bound to any process: by a forged table, or, as here, through the library.
#[test]
fn a_hold_that_names_a_bystander() {
    let lock = TestLock::new("t4");
    let handle = lock.open();
    let bystander = Bystander::new();
    let guard = handle.acquire().unwrap();
    guard.bind(bystander.0.id()).unwrap();
    let said = replace(&lock);
    let expected = format!(
        "process {0} is not proven to run under the lock; if it is the one, end it with: kill {0}",
        bystander.0.id()
    );
    assert!(said.contains(&expected), "{said}");
    bystander.answers();
}

/// That a process runs under another hold of the same lock, or under another lock, proves nothing.
#[test]
fn other_holds_prove_nothing() {
    let (lock, other) = (TestLock::new("t4"), TestLock::new("t4"));
    let handle = lock.open();
    let mut worker =
        LineChild::spawn(&mut other.command(&["run", "--", "sh", "-c", "echo $$; read line; echo \"$line\""]));
    let pid: u32 = worker.line().parse().unwrap();
    let guard = handle.acquire().unwrap();
    guard.bind(pid).unwrap();
    let said = replace(&lock);
    assert!(said.contains("is not proven to run under the lock"), "{said}");
    worker.send("unharmed");
    worker.wait_for_line("unharmed");
    assert!(worker.wait().success());
}

/// A run whose command has emptied its environment, and that command's PID.
fn without_environment(lock: &TestLock) -> (LineChild, u32) {
    let script = "echo $$; exec env -i sleep 600";
    let mut run = LineChild::spawn(&mut lock.command(&["run", "--", "sh", "-c", script]));
    let pid: u32 = run.line().parse().unwrap();
    wait_until("it is recorded, and has emptied its environment", || {
        let recorded = lock.state().holders.iter().any(|holder| holder.bound_pid == Some(pid));
        recorded && std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| environment.is_empty())
    });
    (run, pid)
}

/// Programs that overwrite their environment are recognized by their parent process.
#[test]
fn an_emptied_environment() {
    let lock = TestLock::new("t4");
    let (mut run, pid) = without_environment(&lock);
    let output = lock.command(&["run", "--replace", "echo", "ran"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ran\n", "{output:?}");
    run.wait();
    assert_eq!(process_state(pid), None);
}

/// The same without that parent: the wrapper was killed.
#[test]
fn an_emptied_environment_without_its_parent() {
    let lock = TestLock::new("t4");
    let (mut run, pid) = without_environment(&lock);
    run.kill();
    run.wait();
    let said = replace(&lock);
    assert!(
        said.contains(&format!("process {pid} is not proven to run under the lock")),
        "{said}"
    );
    assert_eq!(process_state(pid), Some('S'));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.cast_signed()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
}
