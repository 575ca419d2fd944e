//! A child process that the test talks to line by line.

use super::patience;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

/// A running child; killed and reaped on drop. It shares the test's standard error.
pub struct LineChild {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl LineChild {
    /// Starts `command` with its standard input and output connected to the test.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("its output is connected"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, input, lines }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends one line.
    pub fn send(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input is still open");
        writeln!(input, "{line}")
            .and_then(|()| input.flush())
            .expect("the child reads its input");
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// The next line it prints.
    pub fn line(&mut self) -> String {
        self.lines.recv_timeout(patience()).expect("the child prints a line")
    }

    /// Reads lines until one is `wanted`.
    pub fn wait_for_line(&mut self, wanted: &str) {
        while self.line() != wanted {}
    }

    /// Reads lines until one contains `wanted`, and returns it.
    pub fn wait_for_line_with(&mut self, wanted: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(wanted) {
                return line;
            }
        }
    }

    /// The next line, if it has already printed one.
    pub fn try_line(&mut self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// All remaining lines, up to the end of its output.
    pub fn rest(&mut self) -> Vec<String> {
        self.lines.iter().collect()
    }

    /// Sends SIGKILL, without waiting for it to exit.
    pub fn kill(&mut self) {
        self.child.kill().expect("the child can be killed");
    }

    /// Waits until it exits.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.try_wait() {
                return status;
            }
            assert!(start.elapsed() < patience(), "the child does not exit");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// Its exit status, if it has exited.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child can be waited for")
    }
}

impl Drop for LineChild {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
