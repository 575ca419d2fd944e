//! A counter in a file that many processes raise at once, without losing a count.
//!
//! ```sh
//! mkdir counting && echo 0 > counting/counter
//! for i in 1 2 3; do cargo run -q --example count my_lock counting 1000 & done; wait
//! cat counting/counter     # 3000
//! ```
//!
//! Reading, adding and writing back is not one step, so without the lock counts get lost: two processes print the same
//! number. A second file, `inside`, which bears the pid of who is at work, shows whether anybody else is. That works
//! also when a process is killed in the middle: the next one finds the mark of a dead one, and goes on.

use resourcelock::{GetOptions, ResourceLock, Wait};
use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, folder, rounds] = arguments.as_slice() else {
        eprintln!("usage: count LOCK FOLDER ROUNDS");
        return ExitCode::from(2);
    };
    match count(name, Path::new(folder), rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("count: {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints each number that it has written.
fn count(name: &str, folder: &Path, rounds: &str) -> Result<(), Box<dyn Error>> {
    let rounds: u32 = rounds.parse()?;
    let lock = ResourceLock::open(name)?;
    let mark = Mark::new(folder)?;
    for _ in 0..rounds {
        let guard = lock.acquire(GetOptions::new().wait(Wait::Forever).lock_info("count"))?;
        mark.set()?;
        let number = raise(&folder.join("counter"))?;
        mark.remove()?;
        guard.release()?;
        println!("{number}");
    }
    Ok(())
}

/// Adds 1 to the number in a file, which is whole at every instant.
fn raise(counter: &Path) -> Result<u64, Box<dyn Error>> {
    let number = fs::read_to_string(counter)?.trim().parse::<u64>()? + 1;
    let new = counter.with_extension(std::process::id().to_string());
    fs::write(&new, number.to_string())?;
    fs::rename(&new, counter)?;
    Ok(number)
}

/// The mark of who is at work: a file with a pid in it.
struct Mark {
    own: PathBuf,
    inside: PathBuf,
}

impl Mark {
    fn new(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let pid = std::process::id();
        let own = folder.join(format!("pid.{pid}"));
        fs::write(&own, pid.to_string())?;
        Ok(Self {
            own,
            inside: folder.join("inside"),
        })
    }

    /// Fails if a living process has set it.
    fn set(&self) -> Result<(), Box<dyn Error>> {
        loop {
            match fs::hard_link(&self.own, &self.inside) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
            let pid = fs::read_to_string(&self.inside)?;
            // A process that is ending has no memory, and so no program, before it gives up its locks.
            if fs::read_link(format!("/proc/{pid}/exe")).is_ok() {
                return Err(format!("process {pid} is at work as well").into());
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
