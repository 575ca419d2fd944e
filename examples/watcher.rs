//! Follows a lock that other programs use, and prints what happens, until so many holds have ended.
//!
//! ```sh
//! cargo run --example watcher i2c 3 &
//! for i in 1 2 3; do resourcelock i2c run -- true; done
//! ```
//!
//! Nothing is taken, and nobody is disturbed: the watcher sleeps until something happens.

use resourcelock::{Cancel, Change, Result, Viewer};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, holds] = arguments.as_slice() else {
        eprintln!("usage: watcher LOCK HOLDS");
        return ExitCode::from(2);
    };
    match watch(name, holds.parse().unwrap_or(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("watcher: {}", error.with_source());
            ExitCode::FAILURE
        }
    }
}

fn watch(name: &str, holds: u32) -> Result<()> {
    let mut watch = Viewer::open(name)?.watch()?;
    println!("watching");
    let never = Cancel::new(); // another thread may end the loop with it
    let mut ended = 0;
    while let Some(change) = watch.next(&never)? {
        match change {
            Change::Queued(waiter) => println!("waits: {:?}", waiter.requester.pid),
            Change::Granted(holder) => println!("has it: {:?}, {}", holder.requester.pid, holder.mode),
            Change::Ended(record) => {
                println!("{}: {:?}", record.how, record.requester.pid);
                ended += u32::from(!record.how.gave_up());
            }
            _ => {}
        }
        if ended >= holds {
            break;
        }
    }
    Ok(())
}
