//! The Python package beside others: what importing one costs, a pair without contention, and the way from one process to
//! the next.

use crate::contenders::Place;
use crate::figures::{Report, Target};
use crate::programs::output;
use crate::team::Worker;
use std::process::Command;
use std::time::Duration;

const PROGRAM: &str = include_str!("python.py");

/// A package as users import it.
struct Package {
    /// Its function in `python.py`.
    kind: &'static str,
    shown: &'static str,
    import: &'static str,
}

const PACKAGES: [Package; 7] = [
    Package {
        kind: "resourcelock_lock",
        shown: "Lock",
        import: "from resourcelock import Lock",
    },
    Package {
        kind: "resourcelock_drop_in",
        shown: "resource_lock",
        import: "from resourcelock import resource_lock",
    },
    Package {
        kind: "cjnfuncs",
        shown: "cjnfuncs",
        import: "from cjnfuncs.resourcelock import resource_lock",
    },
    Package {
        kind: "posix_ipc",
        shown: "posix_ipc",
        import: "from posix_ipc import Semaphore",
    },
    Package {
        kind: "filelock",
        shown: "filelock",
        import: "from filelock import FileLock",
    },
    Package {
        kind: "fasteners",
        shown: "fasteners",
        import: "from fasteners import InterProcessLock",
    },
    Package {
        kind: "portalocker",
        shown: "portalocker",
        import: "from portalocker import Lock",
    },
];

type Times = [Vec<f64>; PACKAGES.len()];

pub fn measure(place: &Place, report: &mut Report) {
    let Ok(python) = std::env::var("RESOURCELOCK_BENCH_PYTHON") else {
        return report.left_out("the Python packages", "RESOURCELOCK_BENCH_PYTHON is not set");
    };
    let name = |package: &Package| format!("{}-python-{}", place.name, package.kind);
    let start = |package: &Package| {
        let words = ["-c", PROGRAM, package.kind, &name(package)];
        Worker::of(Command::new(&python).args(words)).unwrap_or_else(|why| panic!("{}: {why}", package.shown))
    };
    let mut pairs = PACKAGES.each_ref().map(|package| [start(package), start(package)]);

    let mut imports = Times::default();
    for _ in 0..report.times(40) {
        for (package, times) in PACKAGES.iter().zip(&mut imports) {
            let program = format!(
                "import time; start = time.perf_counter_ns(); {}; print(time.perf_counter_ns() - start)",
                package.import
            );
            let time = output(&[&python, "-c", &program]);
            times.push(time.parse::<f64>().expect("a number") / 1e6);
        }
    }
    compare(report, "import", "ms", &imports);

    let mut alone = Times::default();
    for _ in 0..report.times(40) {
        for ([one, _], times) in pairs.iter_mut().zip(&mut alone) {
            times.push(one.answer("pairs") / 1e3);
        }
    }
    compare(report, "acquire + release, without contention", "µs", &alone);

    let mut handed_over = Times::default();
    for round in 0..report.times(60) as u64 {
        for (workers, times) in pairs.iter_mut().zip(&mut handed_over) {
            let [one, other] = workers;
            one.answer("acquire");
            other.tell("acquire");
            // Asleep by then; not always at the same point of an interval in which it asks again.
            std::thread::sleep(Duration::from_millis(20 + round * 37 % 60));
            let released = one.answer("release");
            times.push((other.number() - released) / 1e3);
            other.answer("release");
            workers.reverse();
        }
    }
    compare(
        report,
        "from a release to a process that waits for it",
        "µs",
        &handed_over,
    );

    for (package, mut workers) in PACKAGES.iter().zip(pairs) {
        workers[0].finish();
        if package.kind.starts_with("resourcelock") {
            let _ = resourcelock::remove(name(package), true);
        }
    }
}

/// `Lock` with all, `resource_lock` with what it takes the place of.
fn compare(report: &mut Report, what: &str, unit: &'static str, times: &Times) {
    let both = [(0, 2..PACKAGES.len()), (1, 2..3)];
    for (ours, peers) in both {
        for peer in peers {
            report.compare(
                &format!("{}: {what}", PACKAGES[ours].shown),
                unit,
                &times[ours],
                (PACKAGES[peer].shown, &times[peer]),
                Target::None,
            );
        }
    }
}
