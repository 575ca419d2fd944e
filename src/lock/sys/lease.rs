//! Whether any process has a file open for writing, whoever it is and in whatever namespace: the kernel grants a read
//! lease on a file only if none has (fcntl(2), "Leases").

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `F_SETSIG` of fcntl(2).
const F_SETSIG: i32 = 10;

/// True if some process has the file open for writing, or has mapped it so. `file` is open for reading only.
///
/// While the kernel answers, for some microseconds, whoever opens the file for writing waits, or with O_NONBLOCK is told
/// to try again.
///
/// # Errors
/// The kernel does not tell: only a file's owner and processes with CAP_LEASE may ask.
pub(crate) fn is_open_for_writing(file: &impl AsFd) -> io::Result<bool> {
    let fd = file.as_fd().as_raw_fd();
    let control = |command: i32, argument: i32| {
        // SAFETY: these commands take a number; no memory is passed.
        let result = unsafe { libc::fcntl(fd, command, argument) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    };
    // Whoever opens the file meanwhile has this process notified: by a signal that is ignored unless it is asked for. (The
    // usual one, SIGIO, would end this process.)
    control(F_SETSIG, libc::SIGURG)?;
    match control(libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => control(libc::F_SETLEASE, libc::F_UNLCK).map(|()| false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};

    #[test]
    fn readers_do_not_count_and_mappings_do() {
        let shm = std::path::Path::new(crate::lock::types::name::SHM);
        let path = shm.join(format!(
            "{}lease-{}",
            crate::lock::types::name::TEMPORARY,
            std::process::id()
        ));
        let writer = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        writer.set_len(4096).unwrap();
        let reader = File::open(&path).unwrap();
        let other = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(is_open_for_writing(&reader).unwrap());
        let mapping = crate::lock::sys::Mapping::words(writer.as_fd(), 512).unwrap();
        drop(writer);
        assert!(is_open_for_writing(&reader).unwrap());
        drop(mapping);
        assert!(!is_open_for_writing(&reader).unwrap());
        drop(other);
    }
}
