//! Many processes increment a counter in a file at once, and no increment is lost.
//!
//! ```sh
//! mkdir counting && echo 0 > counting/counter
//! for i in 1 2 3; do cargo run -q --example count my_lock counting 1000 & done; wait
//! cat counting/counter     # 3000
//! ```
//!
//! Reading, adding and writing back is not atomic, so without the lock increments get lost: two processes print the same
//! number. A second file, `inside`, contains the PID of the process at work, and so shows if another one is at work too.
//! That also works if a process is killed halfway: the next one finds the mark of a dead process and goes on.

use resourcelock::ResourceLock;
use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, directory, rounds] = arguments.as_slice() else {
        eprintln!("usage: count LOCK DIRECTORY ROUNDS");
        return ExitCode::from(2);
    };
    match count(name, Path::new(directory), rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("count: {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints each number that it writes.
fn count(name: &str, directory: &Path, rounds: &str) -> Result<(), Box<dyn Error>> {
    let rounds: u32 = rounds.parse()?;
    let lock = ResourceLock::open(name)?;
    let mark = Mark::new(directory)?;
    for _ in 0..rounds {
        let guard = lock.acquire()?;
        mark.set()?;
        let number = raise(&directory.join("counter"))?;
        mark.remove()?;
        guard.release()?;
        println!("{number}");
    }
    Ok(())
}

/// Adds 1 to the number in a file. The file is replaced, so it is complete at every instant.
fn raise(counter: &Path) -> Result<u64, Box<dyn Error>> {
    let number = fs::read_to_string(counter)?.trim().parse::<u64>()? + 1;
    let new = counter.with_extension(std::process::id().to_string());
    fs::write(&new, number.to_string())?;
    fs::rename(&new, counter)?;
    Ok(number)
}

/// The mark of the process at work: a file that contains its PID.
struct Mark {
    own: PathBuf,
    inside: PathBuf,
}

impl Mark {
    fn new(directory: &Path) -> Result<Self, Box<dyn Error>> {
        let pid = std::process::id();
        let own = directory.join(format!("pid.{pid}"));
        fs::write(&own, pid.to_string())?;
        Ok(Self {
            own,
            inside: directory.join("inside"),
        })
    }

    /// Fails if the mark of a living process is there.
    fn set(&self) -> Result<(), Box<dyn Error>> {
        loop {
            match fs::hard_link(&self.own, &self.inside) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
            let pid = fs::read_to_string(&self.inside)?;
            // A process that is exiting drops its memory, and with it /proc/PID/exe, before it releases its locks.
            if fs::read_link(format!("/proc/{pid}/exe")).is_ok() {
                return Err(format!("process {pid} is at work, too").into());
            }
            fs::remove_file(&self.inside)?;
        }
    }

    fn remove(&self) -> Result<(), Box<dyn Error>> {
        let pid = fs::read_to_string(&self.inside)?;
        if pid != std::process::id().to_string() {
            return Err(format!("process {pid} has taken over").into());
        }
        Ok(fs::remove_file(&self.inside)?)
    }
}
