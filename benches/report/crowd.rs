//! Many waiters on one lock: what they cost while they sleep, and how long a hand-over among them takes.

use crate::contenders::{self, Kind, Place};
use crate::figures::{Diagram, Line, Picture, Report, Target, median};
use crate::programs::{wait_until, waiting_for_file, waiting_for_name};
use crate::team::Worker;
use std::time::{Duration, Instant};

/// Waiters per process, each a thread with its own handle.
const EACH: usize = 50;
/// How many hand-overs are measured: only the first, while there still is a crowd.
const FIRST: usize = 100;

const WAITERS: [usize; 7] = [1, 3, 10, 30, 100, 300, 1000];

/// CPU time used by all threads of a process, ns.
fn processor_time(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// The percentage of one CPU that the waiters use while they sleep, and the median time from a grant to the next one, µs;
/// the first one is from the release.
fn crowd(place: &Place, kind: Kind, waiters: usize, asleep: Duration) -> (f64, f64) {
    let at = place.of(kind);
    let mut lock = contenders::open(&at);
    lock.lock();
    let mut team = Vec::new();
    let mut left = waiters;
    while left > 0 {
        let threads = left.min(EACH);
        team.push(Worker::start(&["crowd", &at, &threads.to_string()]));
        left -= threads;
    }
    team.iter_mut().for_each(Worker::go);
    wait_until("all wait", || {
        waiters
            == match kind {
                Kind::Ours => waiting_for_name(&place.name),
                _ => waiting_for_file(&place.file),
            }
    });
    // What happens only at the beginning of a wait does not count.
    std::thread::sleep(asleep.min(Duration::from_secs(1)));
    let time = || team.iter().map(|worker| processor_time(worker.id())).sum::<u64>();
    let (before, start) = (time(), Instant::now());
    std::thread::sleep(asleep);
    let share = (time() - before) as f64 / start.elapsed().as_nanos() as f64 * 100.0;
    let mut grants = vec![crate::team::monotonic() as f64];
    lock.unlock();
    grants.extend(team.iter_mut().flat_map(Worker::numbers));
    grants.sort_by(f64::total_cmp);
    let gaps: Vec<f64> = grants
        .windows(2)
        .take(FIRST)
        .map(|two| (two[1] - two[0]) / 1e3)
        .collect();
    (share, median(&gaps))
}

/// Several times with few waiters, whose hand-overs are few.
fn repeated(place: &Place, kind: Kind, waiters: usize, times: usize) -> f64 {
    let gaps: Vec<f64> = (0..times)
        .map(|_| crowd(place, kind, waiters, Duration::from_millis(10)).1)
        .collect();
    median(&gaps)
}

pub fn measure(place: &Place, report: &mut Report) {
    let kinds = [Kind::Ours, Kind::Flock];
    let line = |kind: Kind| Line {
        name: kind.name().to_owned(),
        points: Vec::new(),
    };
    let (mut passed, mut slept) = (kinds.map(line), kinds.map(line));
    let most = WAITERS[WAITERS.len() - 1];
    for waiters in WAITERS {
        for (at, kind) in kinds.into_iter().enumerate() {
            // Long enough for the safety look, which comes once in 5 s, where there is a target.
            let asleep = match (report.quick, waiters == most) {
                (true, _) => Duration::from_millis(500),
                (false, true) if kind == Kind::Ours => Duration::from_secs(10),
                (false, _) => Duration::from_secs(2),
            };
            let (share, mut gap) = crowd(place, kind, waiters, asleep);
            if waiters < FIRST {
                gap = repeated(place, kind, waiters, report.times(200 / waiters).clamp(2, 16));
            }
            passed[at].points.push((waiters as f64, gap));
            slept[at].points.push((waiters as f64, share));
        }
    }
    let of =
        |line: &Line, waiters: usize| line.points[WAITERS.iter().position(|of| *of == waiters).expect("a point")].1;
    report.compare(
        "1,000 waiters asleep, of one CPU",
        "%",
        &[of(&slept[0], most)],
        (Kind::Flock.name(), &[of(&slept[1], most)]),
        Target::AtMost(0.1),
    );
    report.compare(
        "hand-over among 1,000 waiters",
        "µs",
        &[of(&passed[0], most)],
        ("among 10", &[of(&passed[0], 10)]),
        Target::RatioAtMost(2.0),
    );
    let diagram = |title: &str, unit, lines: [Line; 2]| Diagram {
        title: title.to_owned(),
        across: "waiters",
        unit,
        lines: lines.into(),
    };
    report.pictures.push(Picture {
        file: "benchmarks-waiters",
        caption: "Waiters on one lock: from one grant to the next, and the CPU time of all of them while they sleep",
        note: None,
        diagrams: vec![
            diagram("hand-over", "µs", passed),
            diagram("CPU time asleep, of one CPU", "%", slept),
        ],
    });
}
