//! Commands to run under a lock: bash programs that say what happens to them.

use super::{LineChild, TestLock, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Command;

/// Says `up WRAPPER-PID OWN-PID`, then `got NAME` for each trapped signal, and repeats what it is sent line by line.
/// Ends with status 9 when its input ends.
pub const LISTENER: &str = r#"
for s in TERM INT HUP QUIT USR1 USR2 ALRM CONT RTMIN RTMAX; do trap "echo got $s" $s; done
echo "up $PPID $$"
while true; do
    read -r -t 1 line; status=$?   # a signal that comes just before it blocks is noticed at the next one
    if [ $status -gt 128 ]; then continue; fi   # a signal
    if [ $status -ne 0 ]; then exit 9; fi
    echo "$line"
done
"#;

/// A command under the lock that has started.
pub struct Running {
    /// The wrapper.
    pub child: LineChild,
    /// Its PID.
    pub wrapper: u32,
    /// The command's PID.
    pub command: u32,
}

impl Running {
    /// `resourcelock NAME run OPTIONS bash -c LISTENER`.
    pub fn listener(lock: &TestLock, options: &[&str]) -> Self {
        let running = Self::started(lock.command(&[&["run"], options, &["bash", "-c", LISTENER]].concat()));
        running.wait_until_recorded(lock);
        running
    }

    /// Waits until the table names the command's process, which it does just after the command has been executed.
    pub fn wait_until_recorded(&self, lock: &TestLock) {
        wait_until("the command's process is recorded", || {
            lock.state()
                .holders
                .iter()
                .any(|holder| holder.bound_pid == Some(self.command))
        });
    }

    /// Waits for the line `up WRAPPER-PID OWN-PID` of the command.
    pub fn started(mut command: Command) -> Self {
        let mut child = LineChild::spawn(&mut command);
        let line = child.line();
        let pids: Vec<u32> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let &[wrapper, command] = pids.as_slice() else {
            panic!("it says {line}")
        };
        Self {
            child,
            wrapper,
            command,
        }
    }

    /// The next line is this one.
    pub fn says(&mut self, line: &str) {
        assert_eq!(self.child.line(), line);
    }

    /// Whatever was under way before is done when this returns; nothing else may have been said meanwhile. (The
    /// wrapper handles one signal after the other.)
    pub fn says_nothing_else(&mut self) {
        signal(self.wrapper, Signal::SIGUSR2);
        // A signal that reaches bash just before it sleeps in `read` is not noticed until a line comes: one is sent
        // until it has been.
        loop {
            self.child.send("ping");
            match self.child.line().as_str() {
                "ping" => {}
                line => {
                    assert_eq!(line, "got USR2");
                    break;
                }
            }
        }
        self.says("ping");
    }

    /// Ends the listener by the end of its input.
    pub fn finish(mut self) {
        self.child.close_input();
        assert_eq!(self.child.wait().code(), Some(9));
    }
}

/// Sends a signal.
pub fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("it can be signalled");
}

/// Whether the process exists and is no zombie.
pub fn lives(pid: u32) -> bool {
    state_letter(pid).is_some_and(|state| state != 'Z')
}

/// `R`, `S`, `T`, `Z`, …; `None`: it does not exist.
pub fn state_letter(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A hold by a command that ends when it is told to.
pub fn hold(lock: &TestLock, options: &[&str]) -> Running {
    Running::listener(lock, options)
}

/// Waits until that many requests wait for the lock.
pub fn wait_for_waiters(lock: &TestLock, count: usize) {
    wait_until(&format!("{count} wait"), || lock.state().waiters.len() == count);
}
