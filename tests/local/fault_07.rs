//! Fault 7: in a PID namespace whose /proc is another one's, the number of a process means one process to system calls and
//! another one to /proc. What the one says is no proof about the other.

use crate::common::run::same_variables;
use crate::common::{LineChild, TestLock, wait_until};
use std::process::Command;

/// `bash -c SCRIPT` in a PID namespace of its own that has the /proc of this one.
fn under_foreign_proc(lock: &TestLock, script: &str) -> Command {
    let plain = lock.command(&[]);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "bash", "-c", script]);
    same_variables(&mut command, &plain);
    command.env("RL", plain.get_program()).env("NAME", lock.name());
    command
}

/// The command's number is that of this process in the outer namespace, where /proc knows it under another start time: as
/// after a reuse of the number. It lives all the same, and has closed what it inherited; its wrapper is dead.
#[test]
fn a_living_process_is_not_taken_for_a_reused_number() {
    let lock = TestLock::new("f7");
    let command = r#"echo up $$ $PPID; for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ $fd -le 2 ] || eval "exec $fd>&-"; done
        echo closed; exec sleep 100000"#;
    let script = r#"
        echo $((OUTER - 2)) > /proc/sys/kernel/ns_last_pid
        unshare --mount-proc "$RL" "$NAME" run -- bash -c "$COMMAND" &
        read _
        kill -KILL $!; wait $! 2>/dev/null
        "$RL" "$NAME" run -n -q -- true; echo "status $?"
        read _"#;
    let mut inside = LineChild::spawn(
        under_foreign_proc(&lock, script)
            .env("OUTER", std::process::id().to_string())
            .env("COMMAND", command),
    );
    let line = inside.line();
    let numbers: Vec<&str> = line.split(' ').collect();
    assert_eq!(numbers[1], std::process::id().to_string(), "as arranged: {line}");
    inside.wait_for_line("closed");
    wait_until("it is recorded", || {
        lock.state().holders.iter().any(|holder| holder.bound_pid.is_some())
    });
    inside.send("");
    assert_eq!(inside.line(), "status 75", "the command lives");
}

/// What would have to be judged by both is refused before it begins.
#[test]
fn a_hold_is_not_bound_to_a_process_that_cannot_be_told() {
    let lock = TestLock::new("f7");
    let script = r#""$RL" "$NAME" get --pid $$; echo "status $?"; "$RL" "$NAME" run -F -- true; echo "status $?""#;
    let output = under_foreign_proc(&lock, script).output().unwrap();
    assert_eq!(output.stdout, b"status 125\nstatus 0\n", "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("/proc shows the processes of another PID namespace"),
        "{said}"
    );
}
