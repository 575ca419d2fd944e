//! Get and unget without contention.

use crate::contenders::{Contender, Kind, Place};
use crate::figures::{median, print};
use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

const PAIRS: u32 = 20_000;
const BATCHES: usize = 25;

/// The Python module and the semaphore beneath it, timed by Python itself: ns per pair, median of batches.
const PYTHON: &str = r#"
import statistics, sys, time
import posix_ipc
from cjnfuncs.resourcelock import resource_lock
lock = resource_lock(sys.argv[1] + "-module")
semaphore = posix_ipc.Semaphore("/" + sys.argv[1] + "-bare", posix_ipc.O_CREAT, initial_value=1)
def module():
    lock.get_lock(&timeout=1, lock_info="bench")
    lock.unget_lock()
def bare():
    semaphore.acquire()
    semaphore.release()
for pair in module, bare:
    times = []
    for _ in range(15):
        start = time.perf_counter_ns()
        for _ in range(5000):
            pair()
        times.append((time.perf_counter_ns() - start) / 5000)
    print(statistics.median(times))
lock.close()
semaphore.unlink()
for name in sys.argv[1] + "-module",:
    posix_ipc.unlink_semaphore("/" + name)
    posix_ipc.unlink_shared_memory("/" + name)
"#;

pub fn measure(place: &Place) {
    let mut ours = Contender::open(&place.of(Kind::Ours));
    let mut flock = Contender::open(&place.of(Kind::Flock));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..BATCHES {
        // In turn, so that other load on the machine affects both alike.
        for (contender, times) in [&mut ours, &mut flock].into_iter().zip(&mut times) {
            let start = Instant::now();
            for _ in 0..PAIRS {
                black_box(&mut *contender).lock();
                black_box(&mut *contender).unlock();
            }
            times.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(PAIRS));
        }
    }
    let [mut ours, mut flock] = times;
    let ours = median(&mut ours);
    print(
        "get + unget, flock(2)",
        ours,
        Some(median(&mut flock)),
        "us",
        "<= 0.25 x",
    );
    match python(&place.name) {
        Ok([module, bare]) => {
            print(
                "get + unget, the Python module",
                ours,
                Some(module / 1e3),
                "us",
                "<= 0.06 x",
            );
            print("get + unget, posix_ipc alone", ours, Some(bare / 1e3), "us", "<= 1.5 x");
        }
        Err(why) => println!("get + unget, the Python module: left out: {why}"),
    }
}

fn python(name: &str) -> Result<[f64; 2], String> {
    let python = std::env::var("RESOURCELOCK_TEST_PYTHON").map_err(|_| "RESOURCELOCK_TEST_PYTHON is not set")?;
    let output = Command::new(&python)
        .args(["-c", PYTHON, name])
        .output()
        .map_err(|e| format!("{python}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    <[f64; 2]>::try_from(numbers).map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())
}
