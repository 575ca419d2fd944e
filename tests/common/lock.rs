//! A lock for one test alone.

use super::run::signal;
use super::{process_state, wait_until};
use crate::tested;
use nix::sys::signal::Signal;
use resourcelock::{LockName, ResourceLock, State};
use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A lock with a name that no other test uses. Dropping it removes the lock's objects.
pub struct TestLock {
    name: LockName,
}

/// The parts of the flag's 64-bit word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlagWord {
    /// 0 = taken, 1 = free.
    pub value: u32,
    /// Processes asleep in sem_wait(3), including those of the Python module.
    pub waiters: u16,
    /// The number of the table on whose behalf the flag was taken; 0 = none.
    pub mark: u16,
}

impl TestLock {
    /// Makes a name from `subject`, the process id and a serial number. Creates nothing.
    pub fn new(subject: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{subject}-{}-{number}", std::process::id());
        Self {
            name: LockName::new(&name).expect("a good name"),
        }
    }

    /// The name without its slash.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The checked name, which knows the objects' paths.
    pub fn paths(&self) -> &LockName {
        &self.name
    }

    /// Opens it through the library.
    pub fn open(&self) -> ResourceLock {
        ResourceLock::open(self.name()).expect("the lock opens")
    }

    /// Its state as the library sees it; creates nothing.
    pub fn state(&self) -> State {
        ResourceLock::builder(self.name())
            .open_existing()
            .expect("the lock exists")
            .state()
            .expect("it is of this machine")
    }

    /// `resourcelock NAME …` with the real binary.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = binary();
        command.arg(self.name()).args(arguments);
        command
    }

    /// Stops a process (SIGSTOP), but not while it is inside the lock's table, since that would keep everybody else out.
    pub fn stop(&self, pid: u32) {
        wait_until("it is stopped outside the table", || {
            signal(pid, Signal::SIGSTOP);
            wait_until("it is stopped", || process_state(pid) == Some('T'));
            let is_outside = self.state().inside.is_none();
            if !is_outside {
                signal(pid, Signal::SIGCONT);
            }
            is_outside
        });
    }

    /// The flag's word as it is in the file.
    pub fn flag_word(&self) -> FlagWord {
        let bytes = fs::read(self.name.semaphore_path()).expect("the flag is readable");
        let word = u64::from_le_bytes(bytes[..8].try_into().expect("the flag has 64 bits"));
        FlagWord {
            value: word as u32,
            waiters: (word >> 32) as u16,
            mark: (word >> 48) as u16,
        }
    }

    /// The note's text as it is in the file, up to the first NUL.
    pub fn note_text(&self) -> String {
        let bytes = fs::read(self.name.note_path()).expect("the note is readable");
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }

    /// Those of its objects that exist.
    pub fn objects(&self) -> Vec<std::path::PathBuf> {
        let all = [
            self.name.semaphore_path(),
            self.name.note_path(),
            self.name.table_path(),
        ];
        all.into_iter().filter(|path| path.symlink_metadata().is_ok()).collect()
    }
}

impl Drop for TestLock {
    fn drop(&mut self) {
        for path in self.objects() {
            // A test may have put a directory there.
            if fs::remove_file(&path).is_err() {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

/// The real binary, or another one ([`tested::program`]), without the environment variables that it would read.
pub fn binary() -> Command {
    undisturbed(&tested::program())
}

/// The real binary, whatever RESOURCELOCK_TEST_PROGRAM names.
pub fn own_binary() -> Command {
    undisturbed(&tested::own())
}

fn undisturbed(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    without_variables(&mut command);
    command
}

/// Without the environment variables that the program would read: the test may run under a lock itself.
pub fn without_variables(command: &mut Command) -> &mut Command {
    for name in [
        "NAME",
        "TOKEN",
        "HELD",
        "ABANDONED",
        "BACKEND",
        "LOG",
        "OWNER",
        "SYSLOG",
    ] {
        command.env_remove(format!("RESOURCELOCK_{name}"));
    }
    command
}
