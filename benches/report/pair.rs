//! Get and unget without contention.

use crate::contenders::{self, Contender, Kind, Place};
use crate::figures::{Report, Target};
use crate::team::Worker;
use std::hint::black_box;
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::time::Instant;

const PAIRS: u32 = 10_000;

/// The Python modules, timed by Python itself: for each line, ns per pair of each.
const PYTHON: &str = r#"
import os, sys, time
try:
    import posix_ipc
    from cjnfuncs.resourcelock import resource_lock
    from filelock import FileLock
except ImportError as error:
    print(error, flush=True)
    sys.exit()
name = sys.argv[1]
lock = resource_lock(name + "-module")
semaphore = posix_ipc.Semaphore("/" + name + "-bare", posix_ipc.O_CREAT, initial_value=1)
path = "/dev/shm/" + name + ".filelock"
file = FileLock(path)
def module():
    lock.get_lock(timeout=1, lock_info="bench")
    lock.unget_lock()
def bare():
    semaphore.acquire()
    semaphore.release()
def by_file():
    file.acquire()
    file.release()
print("ready", flush=True)
for line in sys.stdin:
    if line != "go\n":
        break
    times = []
    for pair in module, bare, by_file:
        start = time.perf_counter_ns()
        for _ in range(1000):
            pair()
        times.append((time.perf_counter_ns() - start) / 1000)
    print(*times, flush=True)
lock.close()
semaphore.unlink()
posix_ipc.unlink_semaphore("/" + name + "-module")
posix_ipc.unlink_shared_memory("/" + name + "-module")
if os.path.exists(path):
    os.unlink(path)
"#;

/// Programs that time a pair themselves.
struct Others {
    names: Vec<(&'static str, Target)>,
    worker: Worker,
    times: Vec<Vec<f64>>,
}

impl Others {
    fn start(
        report: &mut Report,
        what: &str,
        variable: &str,
        words: &[&str],
        names: &[(&'static str, Target)],
    ) -> Option<Self> {
        let program = std::env::var(variable).map_err(|_| format!("{variable} is not set"));
        match program.and_then(|program| Worker::of(Command::new(program).args(words))) {
            Ok(worker) => Some(Self {
                names: names.to_vec(),
                worker,
                times: vec![Vec::new(); names.len()],
            }),
            Err(why) => {
                report.left_out(what, &why);
                None
            }
        }
    }
}

fn batch(contender: &mut dyn Contender) -> f64 {
    let start = Instant::now();
    for _ in 0..PAIRS {
        black_box(&mut *contender).lock();
        black_box(&mut *contender).unlock();
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(PAIRS)
}

/// What a pair of ours is made of that cannot be left out: the times that the history keeps, and the steps that other
/// threads (the handle's mutex) and other processes (latch, semaphore, the request's word) see. In µs; without all that is
/// decided and written between them.
fn steps() -> f64 {
    const CLOCK_READS: u32 = 2;
    const EXCHANGES: u32 = 12;
    let word = AtomicU32::new(0);
    let start = Instant::now();
    for _ in 0..PAIRS {
        for _ in 0..CLOCK_READS {
            black_box(Instant::now());
        }
        for from in 0..EXCHANGES {
            let to = (from + 1) % EXCHANGES;
            let _ = black_box(&word).compare_exchange(from, to, AcqRel, Relaxed);
        }
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(PAIRS)
}

pub fn measure(place: &Place, report: &mut Report) {
    let mut all = Kind::ALL.map(|kind| contenders::open(&place.of(kind)));
    let mut times = Kind::ALL.map(|_| Vec::new());
    let mut bare = Vec::new();
    let python = Others::start(
        report,
        "get + unget of the Python modules",
        "RESOURCELOCK_BENCH_PYTHON",
        &["-c", PYTHON, &place.name],
        &[
            ("Python module (cjnfuncs)", Target::RatioAtMost(0.05)),
            ("Python module posix_ipc", Target::RatioAtMost(1.0)),
            ("Python module filelock", Target::None),
        ],
    );
    let path = format!("{}.crates", place.file.display());
    let crates = Others::start(
        report,
        "get + unget of the crates",
        "RESOURCELOCK_BENCH_CRATES",
        &[&path, &place.name],
        &[("crate fd-lock", Target::None), ("crate named-lock", Target::None)],
    );
    let mut others: Vec<Others> = python.into_iter().chain(crates).collect();
    // In turn, so that other load on the machine affects all alike.
    for _ in 0..report.times(40) {
        for (contender, times) in all.iter_mut().zip(&mut times) {
            times.push(batch(&mut **contender));
        }
        bare.push(steps());
        for other in &mut others {
            other.worker.go();
            for (times, time) in other.times.iter_mut().zip(other.worker.numbers()) {
                times.push(time / 1e3);
            }
        }
    }
    let what = "get + unget, without contention";
    for (at, kind) in Kind::ALL.into_iter().enumerate().skip(1) {
        let target = if kind == Kind::Flock {
            Target::RatioAtMost(0.2)
        } else {
            Target::None
        };
        report.compare(what, "µs", &times[0], (kind.name(), &times[at]), target);
    }
    let name = "its 2 clock reads and 12 atomic exchanges alone";
    report.compare(what, "µs", &times[0], (name, &bare), Target::None);
    for other in &others {
        for ((name, target), theirs) in other.names.iter().zip(&other.times) {
            report.compare(what, "µs", &times[0], (name, theirs), *target);
        }
    }
    for other in &mut others {
        other.worker.finish();
    }
}
