//! A program of which one instance runs at a time: the second one says who is running, and ends.
//!
//! ```sh
//! cargo run --example single_instance nightly 10 &
//! cargo run --example single_instance nightly 10     # nightly runs already: process 4711 (single_instance), for 2 s
//! ```

use resourcelock::{GetOptions, ResourceLock, Result, Wait};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, seconds] = arguments.as_slice() else {
        eprintln!("usage: single_instance LOCK SECONDS");
        return ExitCode::from(2);
    };
    match run(name, seconds.parse().unwrap_or(1.0)) {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("single_instance: {}", error.with_source());
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, seconds: f64) -> Result<ExitCode> {
    let lock = ResourceLock::open(name)?;
    let options = GetOptions::new().wait(Wait::No).lock_info("the only instance");
    let Some(_guard) = lock.acquire_with(&options)? else {
        for holder in lock.state()?.holders {
            let (pid, held) = (holder.requester.pid.unwrap_or(0), holder.held.unwrap_or_default());
            let command = holder.requester.command.unwrap_or_default();
            eprintln!(
                "{name} runs already: process {pid} ({command}), for {:.0} s",
                held.as_secs_f64()
            );
        }
        return Ok(ExitCode::from(75));
    };
    println!("running");
    std::thread::sleep(Duration::from_secs_f64(seconds));
    Ok(ExitCode::SUCCESS) // the guard is dropped here; if the process is killed, the lock is free as well
}
