//! Commands to run under a lock: bash programs that report what happens to them.

use super::{LineChild, TestLock, process_state, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

pub use super::launched::{behind, same_variables};

/// Prints `up WRAPPER-PID OWN-PID`, then `got NAME` for each signal it traps, and echoes each line it is sent. Exits
/// with status 9 at the end of its input.
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

/// A command that has started under the lock.
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

    /// Waits until the table names the command's process, which happens just after the command has been executed.
    pub fn wait_until_recorded(&self, lock: &TestLock) {
        wait_until("the command's process is recorded", || {
            lock.state()
                .holders
                .iter()
                .any(|holder| holder.bound_pid == Some(self.command))
        });
    }

    /// Waits until the command prints its line `up WRAPPER-PID OWN-PID`.
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

    /// Asserts that this is the next line.
    pub fn says(&mut self, line: &str) {
        assert_eq!(self.child.line(), line);
    }

    /// Waits until everything sent before has been handled (the wrapper handles one signal at a time), and asserts that
    /// nothing else was printed meanwhile.
    pub fn says_nothing_else(&mut self) {
        signal(self.wrapper, Signal::SIGUSR2);
        // Bash does not notice a signal that arrives just before it sleeps in `read` until a line comes: keep sending
        // one until it has.
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

    /// Closes the listener's input, upon which it exits.
    pub fn finish(mut self) {
        self.child.close_input();
        assert_eq!(self.child.wait().code(), Some(9));
    }
}

/// Waits until a wrapper has started its command; none = it exited without one.
pub fn command_of(wrapper: &mut Child) -> Option<Pid> {
    let children = format!("/proc/{0}/task/{0}/children", wrapper.id());
    loop {
        let children = std::fs::read_to_string(&children).unwrap_or_default();
        if let Some(pid) = children.split_ascii_whitespace().next() {
            return pid.parse().ok().map(Pid::from_raw);
        }
        if wrapper.try_wait().unwrap().is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

pub fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("it can be signalled");
}

/// True if the process exists and is not a zombie.
pub fn lives(pid: u32) -> bool {
    process_state(pid).is_some_and(|state| state != 'Z')
}

/// True if `signal` is in this set of a process, as /proc names it: SigBlk, SigCgt, ShdPnd.
pub fn has_signal(pid: u32, set: &str, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut lines = status.lines();
    let set = lines.find_map(|line| line.strip_prefix(set)?.strip_prefix(":\t"));
    set.is_some_and(|set| u64::from_str_radix(set, 16).expect("hexadecimal") & 1 << (signal - 1) != 0)
}

/// A command that holds the lock until told to exit.
pub fn hold(lock: &TestLock, options: &[&str]) -> Running {
    Running::listener(lock, options)
}

/// Waits until exactly `count` requests wait for the lock.
pub fn wait_for_waiters(lock: &TestLock, count: usize) {
    wait_until(&format!("{count} wait"), || lock.state().waiters.len() == count);
}

/// `resourcelock NAME run WORDS`, to its end. It reads nothing.
pub fn run(lock: &TestLock, words: &[&str]) -> Output {
    let mut run = lock.command(&[&["run"], words].concat());
    run.stdin(Stdio::null()).output().unwrap()
}

/// Any command, to its end.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// What a program has printed.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a program has said on standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
