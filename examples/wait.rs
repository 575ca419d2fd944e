//! Waits for a lock with a time limit, and shows both clocks while it waits.
//!
//! ```sh
//! resourcelock my_lock get
//! cargo run --example wait my_lock 60     # set the wall clock meanwhile: it still waits for 60 seconds
//! ```
//!
//! Time limits use the monotonic clock, so setting the wall clock neither shortens nor lengthens them.

use resourcelock::{GetOptions, ResourceLock, Wait};
use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, seconds] = arguments.as_slice() else {
        eprintln!("usage: wait LOCK SECONDS");
        return ExitCode::from(2);
    };
    match wait(name, seconds) {
        Ok(granted) => {
            println!("{}", if granted { "granted" } else { "timed out" });
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("wait: {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wait(name: &str, seconds: &str) -> Result<bool, Box<dyn Error>> {
    let limit = Duration::try_from_secs_f64(seconds.parse()?)?;
    let lock = ResourceLock::open(name)?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| show_clocks(&done));
        let granted = lock.get_lock(&GetOptions::new().wait(Wait::For(limit)).lock_info("wait"));
        done.store(true, Ordering::Relaxed);
        Ok(granted?)
    })
}

/// Prints a line every 50 ms until `done`.
fn show_clocks(done: &AtomicBool) {
    let start = Instant::now();
    while !done.load(Ordering::Relaxed) {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        println!(
            "wall clock {} s, waiting for {:.2} s",
            wall.as_secs(),
            start.elapsed().as_secs_f64()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
