//! Fault 8: what a killed run leaves behind keeps the lock, and is named: not the wrapper, nor the command, which are dead.

use crate::common::run::{lives, signal};
use crate::common::{LineChild, TestLock, install, printed, wait_until};
use nix::sys::signal::Signal::SIGKILL;
use serde_json::{Value, json};

/// An orphan: the wrapper and the command that has started it are dead.
struct Left {
    main: LineChild,
    wrapper: u32,
    command: u32,
    orphan: u32,
}

fn leave(lock: &TestLock) -> Left {
    let script = "sleep 100000 & echo $PPID $$ $!; exec 1>&-; wait";
    let mut main = LineChild::spawn(&mut lock.command(&["run", "bash", "-c", script]));
    let line = main.line();
    let pids: Vec<u32> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    let &[wrapper, command, orphan] = pids.as_slice() else {
        panic!("it says {line}")
    };
    wait_until("it is recorded", || {
        lock.state()
            .holders
            .iter()
            .any(|holder| holder.bound_pid == Some(command))
    });
    Left {
        main,
        wrapper,
        command,
        orphan,
    }
}

#[test]
fn whoever_keeps_the_lock_is_named() {
    let lock = TestLock::new("f8");
    let mut left = leave(&lock);
    assert_eq!(lock.state().holders[0].kept_by, None, "whoever requested it lives");
    signal(left.wrapper, SIGKILL);
    left.main.wait();
    let state =
        || -> Value { serde_json::from_slice(&lock.command(&["state", "--json"]).output().unwrap().stdout).unwrap() };
    let text = || printed(&mut lock.command(&["state"]));
    let refusal = || {
        let refused = lock.command(&["run", "-n", "--", "true"]).output().unwrap();
        assert_eq!(refused.status.code(), Some(75));
        String::from_utf8(refused.stderr).unwrap()
    };
    let command = format!("held by {} (bash, ", left.command);
    assert!(refusal().contains(&command), "{}", refusal());
    assert_eq!(
        state()["holders"][0]["kept_by"],
        json!({"pid": left.command, "command": "bash"})
    );
    assert!(!text().contains(&left.wrapper.to_string()), "{}", text());

    signal(left.command, SIGKILL);
    wait_until("it is gone", || !lives(left.command));
    let orphan = format!("{} (sleep), left behind by {} (bash, ", left.orphan, left.command);
    assert!(refusal().contains(&orphan), "{}", refusal());
    assert!(text().contains(&orphan), "{}", text());
    let all = printed(crate::common::binary().arg("list"));
    assert!(
        all.contains(&format!("{} (sleep), left behind by", left.orphan)),
        "{all}"
    );
    let holder = &state()["holders"][0];
    assert_eq!(holder["kept_by"], json!({"pid": left.orphan, "command": "sleep"}));
    assert_eq!((&holder["alive"], &holder["presumed"]), (&json!(true), &json!(false)));

    signal(left.orphan, SIGKILL);
    wait_until("it is gone", || !lives(left.orphan));
    printed(&mut lock.command(&["run", "-n", "-q", "--", "true"]));
}

/// Descriptors of another user's processes are not shown.
#[test]
fn whoever_cannot_be_seen_is_not_named() {
    let lock = TestLock::new("f8");
    let mut left = leave(&lock);
    signal(left.wrapper, SIGKILL);
    left.main.wait();
    signal(left.command, SIGKILL);
    wait_until("it is gone", || !lives(left.command));
    let folder = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let copy = folder.path().join("resourcelock");
    install(&copy, lock.command(&[]).get_program().as_ref());
    for object in lock.objects() {
        std::fs::set_permissions(object, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    }
    let mut other = std::process::Command::new("setpriv");
    other
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy);
    let output = other.args([lock.name(), "state"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains(&format!(
            "a process that cannot be seen, left behind by {} (bash",
            left.command
        )),
        "{output:?}"
    );
    signal(left.orphan, SIGKILL);
}
