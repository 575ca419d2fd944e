//! A pseudo-terminal: stands in for a person who types at a terminal and reads it.

use super::run::behind;
use super::{patience, without_variables};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A program that leads a session on its own terminal; killed and reaped on drop.
pub struct Pty {
    child: Child,
    keyboard: Option<File>,
    screen: Arc<Mutex<String>>,
    hung_up: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    /// How much of the screen has been read.
    seen: usize,
}

impl Pty {
    /// Starts `command` as the leader of a new session on a new terminal.
    pub fn spawn(command: &Command) -> Self {
        let (keyboard, slave) = open_terminal();
        let copy = || slave.try_clone().expect("a descriptor can be copied");
        let mut leader = behind(&["setsid", "--ctty"], command);
        let child = leader
            .stdin(copy())
            .stdout(copy())
            .stderr(copy())
            .spawn()
            .expect("setsid starts");
        // Now only the session has the terminal open: when it ends, reading does, too.
        drop(leader);
        drop(slave);
        let master = keyboard.try_clone().expect("a descriptor can be copied");
        let screen = Arc::new(Mutex::new(String::new()));
        let hung_up = Arc::new(AtomicBool::new(false));
        let (written, end) = (Arc::clone(&screen), Arc::clone(&hung_up));
        let reader = std::thread::spawn(move || read_screen(master, &written, &end));
        Self {
            child,
            keyboard: Some(keyboard),
            screen,
            hung_up,
            reader: Some(reader),
            seen: 0,
        }
    }

    /// An interactive shell with job control and the prompt `$ `. `binary`'s directory comes first in its PATH.
    pub fn shell() -> Self {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "--noprofile", "--noediting", "-i"]);
        bash.env("PS1", "$ ")
            .env("TERM", "dumb")
            .env_remove("PROMPT_COMMAND")
            .env("HISTFILE", "");
        let mut shell = Self::spawn(without_variables(&mut bash));
        shell.see("$ ");
        shell
    }

    /// The PID of the program.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Types `text` as it is: `\x03` is Ctrl-C, `\x1a` Ctrl-Z, `\x1c` Ctrl-\.
    pub fn keys(&mut self, text: &str) {
        let mut keyboard = self.keyboard.as_ref().expect("the terminal is still there");
        keyboard.write_all(text.as_bytes()).expect("the terminal takes keys");
    }

    /// Closes the terminal, as when its window is closed or the network connection breaks.
    pub fn hang_up(&mut self) {
        self.hung_up.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        self.keyboard = None;
    }

    /// Types a line.
    pub fn line(&mut self, text: &str) {
        self.keys(&format!("{text}\n"));
    }

    /// Waits until `text` appears after what has been read so far.
    pub fn see(&mut self, text: &str) {
        let start = Instant::now();
        loop {
            let screen = self.screen.lock().expect("nobody panics with it").clone();
            if let Some(at) = screen[self.seen..].find(text) {
                self.seen += at + text.len();
                return;
            }
            assert!(
                start.elapsed() < patience(),
                "'{text}' does not appear after {:?}",
                &screen[self.seen..]
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Everything that has appeared so far.
    pub fn screen(&self) -> String {
        self.screen.lock().expect("nobody panics with it").clone()
    }

    /// Waits until the program exits.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(
                start.elapsed() < patience(),
                "it does not exit; on its screen: {}",
                self.screen()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Both sides of a new terminal, close-on-exec from the start: a copy in another test's child would keep the terminal
/// from hanging up.
pub fn open_terminal() -> (File, File) {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("a terminal can be made");
    grantpt(&master)
        .and_then(|()| unlockpt(&master))
        .expect("the terminal can be used");
    let path = ptsname_r(&master).expect("the terminal has a name");
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits());
    let slave = options.open(path).expect("the terminal opens");
    let master = master.as_fd().try_clone_to_owned().expect("a descriptor can be copied");
    (File::from(master), slave)
}

/// Collects what is written to the terminal until it is hung up.
fn read_screen(mut master: File, written: &Mutex<String>, end: &AtomicBool) {
    let mut bytes = [0; 4096];
    while !end.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(20u8)) == Ok(0) {
            continue;
        }
        match master.read(&mut bytes) {
            Ok(count @ 1..) => {
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                written.lock().expect("nobody panics with it").push_str(&text);
            }
            // EIO: everybody has closed the other side.
            _ => return,
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        self.hung_up.store(true, Ordering::Relaxed);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
