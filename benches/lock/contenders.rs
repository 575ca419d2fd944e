//! The two kinds of lock that are compared: this library's, and flock(2) on a file.

use nix::fcntl::{Flock, FlockArg};
use resourcelock::{GetOptions, ResourceLock, UngetOptions, Wait};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A lock of ours and a file for flock(2), removed on drop.
pub struct Place {
    pub name: String,
    pub file: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let name = format!("bench-{}", std::process::id());
        let file = PathBuf::from(format!("/dev/shm/{name}.flock"));
        File::create(&file).expect("/dev/shm is writable");
        Self { name, file }
    }

    /// The lock's name or the file's path, as an argument for a worker.
    pub fn of(&self, kind: Kind) -> String {
        match kind {
            Kind::Ours => self.name.clone(),
            Kind::Flock => self.file.display().to_string(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
        let _ = resourcelock::remove(&self.name, true);
    }
}

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Ours,
    Flock,
}

/// A lock of either kind, open in this process.
#[allow(clippy::large_enum_variant)] // one for each thread
pub enum Contender {
    Ours(ResourceLock),
    /// `None` while locked.
    Flock(Option<File>, Option<Flock<File>>),
}

impl Contender {
    /// Opens what [`Place::of`] named.
    pub fn open(place: &str) -> Self {
        if Path::new(place).is_absolute() {
            let file = File::open(place).expect("the file is there");
            return Self::Flock(Some(file), None);
        }
        Self::Ours(ResourceLock::open(place).expect("the lock opens"))
    }

    /// Acquires the lock, waiting without a limit.
    pub fn lock(&mut self) {
        match self {
            Self::Ours(lock) => {
                let options = GetOptions::new().wait(Wait::Forever).lock_info("bench");
                assert!(lock.get_lock(&options).expect("no error"));
            }
            Self::Flock(file, held) => {
                let file = file.take().expect("not held");
                let locked = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno);
                *held = Some(locked.expect("no error"));
            }
        }
    }

    /// Releases the lock.
    pub fn unlock(&mut self) {
        match self {
            Self::Ours(lock) => assert!(lock.unget_lock(UngetOptions::new()).expect("no error")),
            Self::Flock(file, held) => {
                let held = held.take().expect("held");
                *file = Some(held.unlock().map_err(|(_, errno)| errno).expect("no error"));
            }
        }
    }
}
