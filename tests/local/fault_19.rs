//! Fault 19: a signal during `--recover` ends the program as signals usually do.

use crate::common::run::Running;
use crate::common::{TestLock, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt;

#[test]
fn term_while_the_resource_is_repaired() {
    let lock = TestLock::new("f19");
    let mut dies = lock.command(&["run", "-q", "--", "sh", "-c", "kill -9 $PPID $$"]);
    assert!(!dies.status().unwrap().success());
    wait_until("its death is noticed", || {
        lock.command(&["run", "-q", "-n", "--on-abandoned", "fail", "true"])
            .status()
            .unwrap()
            .code()
            == Some(65)
    });
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let recover = "echo up $PPID $$; exec sleep 600";
        let mut running = Running::started(lock.command(&["run", "--recover", recover, "echo", "ran"]));
        kill(Pid::from_raw(running.wrapper.cast_signed()), signal).unwrap();
        assert_eq!(running.child.rest(), Vec::<String>::new(), "the command was not run");
        assert_eq!(running.child.wait().signal(), Some(signal as i32));
        assert!(lock.state().abandoned.is_some(), "nobody has repaired the resource");
    }
}
