//! The kinds of lock that are compared in loops: this library's, and what the system offers.
#![allow(unsafe_code)] // system calls that the standard library does not have

use resourcelock::{GetOptions, ResourceLock, UngetOptions, Wait};
use std::ffi::{CString, c_int};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ours,
    Flock,
    Ofd,
    SystemV,
    Robust,
    Posix,
}

impl Kind {
    /// Ours is the first.
    pub const ALL: [Self; 6] = [
        Self::Ours,
        Self::Flock,
        Self::Ofd,
        Self::SystemV,
        Self::Robust,
        Self::Posix,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "resourcelock",
            Self::Flock => "flock(2)",
            Self::Ofd => "OFD lock",
            Self::SystemV => "System V semaphore with undo",
            Self::Robust => "robust mutex",
            Self::Posix => "POSIX semaphore",
        }
    }
}

/// One lock of each kind, removed on drop.
pub struct Place {
    pub name: String,
    pub file: PathBuf,
    mutex: PathBuf,
    semaphores: c_int,
}

impl Place {
    pub fn new() -> Self {
        let name = format!("bench-{}", std::process::id());
        let file = PathBuf::from(format!("/dev/shm/{name}.flock"));
        File::create(&file).expect("/dev/shm is writable");
        let mutex = file.with_extension("mutex");
        let page = File::create_new(&mutex).expect("/dev/shm is writable");
        page.write_all_at(&[0; 4096], 0).expect("/dev/shm has space");
        init_mutex(map(&mutex));
        let posix = posix_name(&name);
        // SAFETY: the name ends with a NUL. The semaphore is closed at once: it stays until it is unlinked.
        unsafe {
            let semaphore = libc::sem_open(posix.as_ptr(), libc::O_CREAT | libc::O_EXCL, 0o600, 1);
            assert!(semaphore != libc::SEM_FAILED, "a semaphore can be made");
            libc::sem_close(semaphore);
        }
        // SAFETY: no memory is involved.
        let semaphores = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
        assert!(semaphores >= 0, "{}", std::io::Error::last_os_error());
        system_v(semaphores, 1, 0);
        Self {
            name,
            file,
            mutex,
            semaphores,
        }
    }

    /// The lock of this kind, as an argument for a worker.
    pub fn of(&self, kind: Kind) -> String {
        let at = match kind {
            Kind::Ours | Kind::Posix => self.name.clone(),
            Kind::Flock | Kind::Ofd => self.file.display().to_string(),
            Kind::SystemV => self.semaphores.to_string(),
            Kind::Robust => self.mutex.display().to_string(),
        };
        format!("{}:{at}", kind.name())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
        let _ = std::fs::remove_file(&self.mutex);
        let _ = resourcelock::remove(&self.name, true);
        // SAFETY: the name ends with a NUL; IPC_RMID takes no argument.
        unsafe {
            libc::sem_unlink(posix_name(&self.name).as_ptr());
            libc::semctl(self.semaphores, 0, libc::IPC_RMID);
        }
    }
}

/// A descriptor that can be read when this process has ended.
pub fn end_of(pid: u32) -> OwnedFd {
    // SAFETY: no memory is involved; the descriptor is new.
    unsafe {
        let descriptor = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        assert!(descriptor >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(descriptor as c_int)
    }
}

/// A lock, open in this process.
pub trait Contender {
    /// Acquires it, waiting without a limit.
    fn lock(&mut self);
    fn unlock(&mut self);
}

/// Opens what [`Place::of`] named.
pub fn open(place: &str) -> Box<dyn Contender> {
    let (word, at) = place.split_once(':').expect("kind:place");
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == word);
    match kind.expect("a kind") {
        Kind::Ours => Box::new(ResourceLock::open(at).expect("the lock opens")),
        Kind::Flock => Box::new(Flock(File::open(at).expect("the file is there"))),
        Kind::Ofd => Box::new(Ofd(File::options().write(true).open(at).expect("the file is there"))),
        Kind::SystemV => Box::new(SystemV(at.parse().expect("a number"))),
        Kind::Robust => Box::new(Robust(map(at.as_ref()))),
        Kind::Posix => {
            // SAFETY: the name ends with a NUL.
            let semaphore = unsafe { libc::sem_open(posix_name(at).as_ptr(), 0) };
            assert!(semaphore != libc::SEM_FAILED, "the semaphore is there");
            Box::new(Posix(semaphore))
        }
    }
}

impl Contender for ResourceLock {
    fn lock(&mut self) {
        let options = GetOptions::new().wait(Wait::Forever).lock_info("bench");
        assert!(self.get_lock(&options).expect("no error"));
    }
    fn unlock(&mut self) {
        assert!(self.unget_lock(UngetOptions::new()).expect("no error"));
    }
}

fn succeeded(status: c_int) {
    assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
}

struct Flock(File);

impl Flock {
    fn set(&self, operation: c_int) {
        // SAFETY: no memory is involved.
        succeeded(unsafe { libc::flock(self.0.as_raw_fd(), operation) });
    }
}

impl Contender for Flock {
    fn lock(&mut self) {
        self.set(libc::LOCK_EX);
    }
    fn unlock(&mut self) {
        self.set(libc::LOCK_UN);
    }
}

struct Ofd(File);

impl Ofd {
    fn set(&self, operation: c_int) {
        let whole = libc::flock {
            l_type: operation as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        // SAFETY: the structure lives until the call has returned.
        succeeded(unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_OFD_SETLKW, &whole) });
    }
}

impl Contender for Ofd {
    fn lock(&mut self) {
        self.set(libc::F_WRLCK);
    }
    fn unlock(&mut self) {
        self.set(libc::F_UNLCK);
    }
}

struct SystemV(c_int);

/// Changes the semaphore's value.
fn system_v(semaphores: c_int, by: i16, flags: c_int) {
    let mut change = libc::sembuf {
        sem_num: 0,
        sem_op: by,
        sem_flg: flags as i16,
    };
    // SAFETY: the structure lives until the call has returned.
    succeeded(unsafe { libc::semop(semaphores, &mut change, 1) });
}

impl Contender for SystemV {
    fn lock(&mut self) {
        system_v(self.0, -1, libc::SEM_UNDO);
    }
    fn unlock(&mut self) {
        system_v(self.0, 1, libc::SEM_UNDO);
    }
}

struct Robust(*mut libc::pthread_mutex_t);

/// Maps the first page of a file until the process ends.
fn map(file: &std::path::Path) -> *mut libc::pthread_mutex_t {
    let file = File::options().read(true).write(true).open(file);
    let file = file.expect("the file is there");
    let (rights, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: the kernel chooses an address that is free.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, rights, shared, file.as_raw_fd(), 0) };
    assert!(page != libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    page.cast()
}

fn init_mutex(mutex: *mut libc::pthread_mutex_t) {
    // SAFETY: the mutex is at the beginning of a page that nobody uses yet.
    unsafe {
        let mut kind = std::mem::zeroed();
        succeeded(libc::pthread_mutexattr_init(&mut kind));
        succeeded(libc::pthread_mutexattr_setpshared(
            &mut kind,
            libc::PTHREAD_PROCESS_SHARED,
        ));
        succeeded(libc::pthread_mutexattr_setrobust(&mut kind, libc::PTHREAD_MUTEX_ROBUST));
        succeeded(libc::pthread_mutex_init(mutex, &kind));
    }
}

impl Contender for Robust {
    fn lock(&mut self) {
        // SAFETY: the mutex was initialized by whoever made the place; nobody dies while it holds it.
        succeeded(unsafe { libc::pthread_mutex_lock(self.0) });
    }
    fn unlock(&mut self) {
        // SAFETY: this thread holds it.
        succeeded(unsafe { libc::pthread_mutex_unlock(self.0) });
    }
}

struct Posix(*mut libc::sem_t);

/// Not the name of a lock of ours.
fn posix_name(name: &str) -> CString {
    CString::new(format!("/{name}.posix")).expect("no NUL")
}

impl Contender for Posix {
    fn lock(&mut self) {
        // SAFETY: it stays open until the process ends.
        succeeded(unsafe { libc::sem_wait(self.0) });
    }
    fn unlock(&mut self) {
        // SAFETY: as above.
        succeeded(unsafe { libc::sem_post(self.0) });
    }
}
