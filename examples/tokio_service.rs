//! A service on tokio: its tasks take a lock without blocking the runtime, give up when the service is asked to end, and
//! follow what happens to the lock.
//!
//! ```sh
//! cargo run --features tokio --example tokio_service nightly 3
//! ```

use resourcelock::{Change, GetOptions, ResourceLock, Result, Wait};
use std::process::ExitCode;
use std::time::Duration;

async fn job(lock: ResourceLock, number: u32) -> Result<()> {
    let options = GetOptions::new().wait(Wait::Forever).lock_info("a job of the service");
    let guard = tokio::select! {
        guard = lock.acquire_async(options) => guard?,
        _ = tokio::signal::ctrl_c() => return Ok(()), // the request has left the queue
    };
    println!("job {number} at work, the lock is held: {}", guard.is_some());
    tokio::time::sleep(Duration::from_millis(10)).await;
    Ok(()) // released here
}

async fn service(name: &str, jobs: u32) -> Result<()> {
    let lock = ResourceLock::open(name)?;
    let mut changes = lock.changes().await?;
    let tasks: Vec<_> = (0..jobs)
        .map(|number| tokio::spawn(job(lock.clone(), number)))
        .collect();
    for task in tasks {
        task.await.expect("the job has not panicked")?;
    }
    let mut ended = 0;
    while ended < jobs {
        match changes.next().await {
            Some(change) => ended += u32::from(matches!(change?, Change::Ended(_))),
            None => break,
        }
    }
    println!("{ended} jobs done, one at a time");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, jobs] = arguments.as_slice() else {
        eprintln!("usage: tokio_service LOCK JOBS");
        return ExitCode::from(2);
    };
    match service(name, jobs.parse().unwrap_or(1)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tokio_service: {}", error.with_source());
            ExitCode::FAILURE
        }
    }
}
