//! Processes that acquire the lock again and again.

use crate::contenders::{Kind, Place};
use crate::figures::{Diagram, Line, Picture, Report, Target, median};
use crate::team::Worker;

/// How many processes; the first, the third and the fifth have a target.
const PROCESSES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

fn target(workers: usize) -> Option<f64> {
    [(2, 2.0), (8, 1.5), (32, 1.2)]
        .iter()
        .find_map(|(of, least)| (*of == workers).then_some(*least))
}

/// Millions of grants per second, summed over all workers.
fn million_grants(place: &Place, kind: Kind, workers: usize, ms: usize) -> f64 {
    let (at, time) = (place.of(kind), ms.to_string());
    let mut team: Vec<Worker> = (0..workers).map(|_| Worker::start(&["loop", &at, &time])).collect();
    team.iter_mut().for_each(Worker::go);
    let grants: f64 = team.iter_mut().map(|worker| worker.numbers()[0]).sum();
    grants / (ms as f64 * 1e3)
}

pub fn throughput(place: &Place, report: &mut Report) {
    let mut lines: Vec<Line> = Kind::ALL
        .map(|kind| Line {
            name: kind.name().to_owned(),
            points: Vec::new(),
        })
        .into();
    for workers in PROCESSES {
        let mut rates = Kind::ALL.map(|_| Vec::new());
        // Longer and more often where there is a target.
        let (repeats, ms) = if target(workers).is_some() {
            (report.times(16).min(5), 400)
        } else {
            (2, 250)
        };
        for _ in 0..repeats {
            for (kind, rates) in Kind::ALL.into_iter().zip(&mut rates) {
                rates.push(million_grants(place, kind, workers, ms));
            }
        }
        let what = format!("{workers} in tight loops, grants");
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            lines[at].points.push((workers as f64, median(&rates[at]) * 1e6));
            let aim = target(workers).filter(|_| kind == Kind::Flock);
            if at > 0 && target(workers).is_some() {
                let aim = aim.map_or(Target::None, Target::RatioAtLeast);
                report.compare(&what, "M/s", &rates[0], (kind.name(), &rates[at]), aim);
            }
        }
    }
    report.pictures.push(Picture {
        file: "benchmarks-processes",
        caption: "Processes that acquire and release one lock in tight loops: grants a second of all together",
        note: Some(
            "With so many that the queue is never empty, each grant wakes the next in line. The others serve whoever is running.",
        ),
        diagrams: vec![Diagram {
            title: "grants a second".to_owned(),
            across: "processes",
            unit: "",
            lines,
        }],
    });
}

/// One process holds for 2 ms and asks again at once; another asks every 0.5 ms. Reports the second one's share.
pub fn fairness(place: &Place, report: &mut Report) {
    let share = |kind| {
        let at = place.of(kind);
        let mut busy = Worker::start(&["turns", &at, "2000", "2000", "0"]);
        let mut modest = Worker::start(&["turns", &at, "2000", "0", "500"]);
        busy.go();
        modest.go();
        let (busy, modest) = (busy.numbers()[0], modest.numbers()[0]);
        100.0 * modest / (busy + modest)
    };
    report.compare(
        "share of one that asks every 0.5 ms, beside one that asks again at once",
        "%",
        &[share(Kind::Ours)],
        (Kind::Flock.name(), &[share(Kind::Flock)]),
        Target::AtLeast(45.0),
    );
}

/// The time from a release to the grant to a process asleep in the queue. The bare semaphore is the least that waking a process
/// by a futex takes.
pub fn handover(place: &Place, report: &mut Report) {
    let times = |kind| {
        let at = place.of(kind);
        let mut pair = [0; 2].map(|_| Worker::start(&["pass", &at, "50"]));
        pair.iter_mut().for_each(Worker::go);
        let [one, other] = pair.each_mut().map(|worker| worker.numbers());
        let mut turns: Vec<&[f64]> = one.chunks(2).chain(other.chunks(2)).collect();
        turns.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let times: Vec<f64> = turns.windows(2).map(|two| (two[1][0] - two[0][1]) / 1e3).collect();
        median(&times)
    };
    let kinds = [Kind::Ours, Kind::Flock, Kind::Posix];
    let mut all = kinds.map(|_| Vec::new());
    for _ in 0..report.times(16) {
        for (kind, medians) in kinds.into_iter().zip(&mut all) {
            medians.push(times(kind));
        }
    }
    for (at, target) in [(1, Target::RatioAtMost(0.8)), (2, Target::None)] {
        let peer = (kinds[at].name(), &*all[at]);
        report.compare("hand-over to a sleeper", "µs", &all[0], peer, target);
    }
}

/// How much a process that keeps reading the state slows down one that keeps getting and ungetting. Measured in CPU
/// time, so that the CPUs that the reader takes for itself do not count.
pub fn reader(place: &Place, report: &mut Report) {
    let at = place.of(Kind::Ours);
    let rate = || {
        let mut one = Worker::start(&["loop", &at, "500"]);
        one.go();
        one.numbers()[1] / 1e6
    };
    let (mut alone, mut watched) = (Vec::new(), Vec::new());
    for _ in 0..report.times(16).min(8) {
        alone.push(rate());
        let mut reader = Worker::start(&["reader", &place.name]);
        reader.go();
        watched.push(rate());
    }
    report.compare(
        "a loop beside a process that reads the state in a loop",
        "M/s",
        &watched,
        ("the loop alone", &alone),
        Target::RatioAtLeast(0.95),
    );
}
