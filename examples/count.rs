//! A counter in a file that many processes raise at once, without losing a count.
//!
//! ```sh
//! mkdir counting && echo 0 > counting/counter
//! for i in 1 2 3; do cargo run -q --example count my_lock counting 1000 & done; wait
//! cat counting/counter     # 3000
//! ```
//!
//! Reading, adding and writing back is not one step, so without the lock counts get lost. A second file, `inside`,
//! which must not exist when somebody enters, shows whether anybody else was there. Prints `overlaps N` at the end.

use resourcelock::{GetOptions, ResourceLock, Wait};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, folder, rounds] = arguments.as_slice() else {
        eprintln!("usage: count LOCK FOLDER ROUNDS");
        return ExitCode::from(2);
    };
    match count(name, Path::new(folder), rounds) {
        Ok(overlaps) => {
            println!("overlaps {overlaps}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("count: {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn count(name: &str, folder: &Path, rounds: &str) -> Result<u32, Box<dyn Error>> {
    let rounds: u32 = rounds.parse()?;
    let lock = ResourceLock::open(name)?;
    let mut overlaps = 0;
    for _ in 0..rounds {
        let guard = lock
            .try_acquire(GetOptions::new().wait(Wait::Forever).lock_info("count"))?
            .ok_or("a wait without a limit ended without the lock")?;
        overlaps += raise(folder)?;
        guard.release()?;
    }
    Ok(overlaps)
}

/// Adds 1 to `folder/counter`. Returns how many signs there were that somebody else did so at the same time.
fn raise(folder: &Path) -> Result<u32, Box<dyn Error>> {
    let (inside, counter) = (folder.join("inside"), folder.join("counter"));
    let mut overlaps = 0;
    overlaps += u32::from(fs::File::create_new(&inside).is_err());
    let value: u64 = fs::read_to_string(&counter)?.trim().parse()?;
    fs::write(&counter, (value + 1).to_string())?;
    overlaps += u32::from(fs::remove_file(&inside).is_err());
    Ok(overlaps)
}
