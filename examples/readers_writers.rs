//! Many may read a file at once; whoever writes it is alone.
//!
//! ```sh
//! cargo run --example readers_writers prices prices.txt 4 100
//! ```
//!
//! The writer writes the same number twice, with a pause in between: a reader that saw it halfway would find two different
//! ones.

use resourcelock::{GetOptions, Mode, ResourceLock, Wait};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::{fs, thread};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, file, readers, rounds] = arguments.as_slice() else {
        eprintln!("usage: readers_writers LOCK FILE READERS ROUNDS");
        return ExitCode::from(2);
    };
    match run(name, Path::new(file), readers, rounds) {
        Ok(reads) => {
            println!("{reads} reads, each of them whole");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("readers_writers: {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, file: &Path, readers: &str, rounds: &str) -> Result<u32, Box<dyn Error>> {
    let (readers, rounds) = (readers.parse::<u32>()?, rounds.parse::<u32>()?);
    fs::write(file, "0\n0\n")?;
    // Handles that are opened separately compete, as those of different programs do.
    let writer = ResourceLock::open(name)?;
    thread::scope(|scope| {
        let reading: Vec<_> = (0..readers)
            .map(|_| scope.spawn(|| read(name, file, rounds).map_err(|error| error.to_string())))
            .collect();
        for number in 1..=rounds {
            let _alone = writer.acquire()?;
            fs::write(file, format!("{number}\n"))?;
            thread::yield_now();
            fs::write(file, format!("{number}\n{number}\n"))?;
        }
        let mut reads = 0;
        for reader in reading {
            reads += reader.join().expect("the reader has not panicked")?;
        }
        Ok(reads)
    })
}

fn read(name: &str, file: &Path, rounds: u32) -> Result<u32, Box<dyn Error>> {
    let lock = ResourceLock::open(name)?;
    let together = GetOptions::new().mode(Mode::Shared).wait(Wait::Forever);
    for _ in 0..rounds {
        let _shared = lock.acquire_with(&together)?;
        let text = fs::read_to_string(file)?;
        let numbers: Vec<&str> = text.lines().collect();
        if numbers.len() != 2 || numbers[0] != numbers[1] {
            return Err(format!("read halfway: {numbers:?}").into());
        }
    }
    Ok(rounds)
}
