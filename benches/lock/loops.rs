//! Processes that acquire the lock again and again.

use crate::contenders::{Kind, Place};
use crate::figures::{median, print};
use crate::team::Worker;

const MS: u64 = 1000;
const REPEATS: usize = 3;

/// Millions of grants per second, summed over all workers.
fn million_grants(place: &Place, kind: Kind, workers: usize) -> f64 {
    let (at, ms) = (place.of(kind), MS.to_string());
    let mut team: Vec<Worker> = (0..workers).map(|_| Worker::start(&["loop", &at, &ms])).collect();
    team.iter_mut().for_each(Worker::go);
    let grants: f64 = team.iter_mut().map(|worker| worker.numbers()[0]).sum();
    grants / (MS as f64 * 1e3)
}

pub fn throughput(place: &Place) {
    for (workers, target) in [(2, ">= 1.5 x"), (8, ">= 1.2 x"), (32, ">= 1.0 x")] {
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..REPEATS {
            rates[0].push(million_grants(place, Kind::Ours, workers));
            rates[1].push(million_grants(place, Kind::Flock, workers));
        }
        let [mut ours, mut flock] = rates;
        let figure = format!("{workers} processes in tight loops, grants");
        print(&figure, median(&mut ours), Some(median(&mut flock)), "M/s", target);
    }
}

/// One process holds for 2 ms and asks again at once; another asks every 0.5 ms. Prints the second one's share.
pub fn fairness(place: &Place) {
    let share = |kind| {
        let at = place.of(kind);
        let mut busy = Worker::start(&["turns", &at, "2000", "2000", "0"]);
        let mut modest = Worker::start(&["turns", &at, "2000", "0", "500"]);
        busy.go();
        modest.go();
        let (busy, modest) = (busy.numbers()[0], modest.numbers()[0]);
        100.0 * modest / (busy + modest)
    };
    print(
        "share of the modest beside a busy one",
        share(Kind::Ours),
        Some(share(Kind::Flock)),
        "%",
        ">= 45 %",
    );
}

/// The time from a release to the grant to a process asleep in the queue.
pub fn handover(place: &Place) {
    let times = |kind| {
        let at = place.of(kind);
        let mut pair = [0; 2].map(|_| Worker::start(&["pass", &at, "150"]));
        pair.iter_mut().for_each(Worker::go);
        let [one, other] = pair.each_mut().map(|worker| worker.numbers());
        let mut turns: Vec<&[f64]> = one.chunks(2).chain(other.chunks(2)).collect();
        turns.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let mut times: Vec<f64> = turns.windows(2).map(|two| (two[1][0] - two[0][1]) / 1e3).collect();
        median(&mut times)
    };
    let (mut ours, mut flock) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        ours.push(times(Kind::Ours));
        flock.push(times(Kind::Flock));
    }
    print(
        "hand-over to a sleeper",
        median(&mut ours),
        Some(median(&mut flock)),
        "us",
        "<= 1.0 x",
    );
}

/// How much a process that keeps reading the state slows down one that keeps getting and ungetting. Measured in CPU
/// time, so that the CPUs that the reader takes for itself do not count.
pub fn reader(place: &Place) {
    let (at, ms) = (place.of(Kind::Ours), MS.to_string());
    let rate = || {
        let mut one = Worker::start(&["loop", &at, &ms]);
        one.go();
        one.numbers()[1] / 1e6
    };
    let (mut alone, mut watched) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        alone.push(rate());
        let mut reader = Worker::start(&["reader", &at]);
        reader.go();
        watched.push(rate());
    }
    let (watched, alone) = (median(&mut watched), median(&mut alone));
    print(
        "a loop beside a reader, alone",
        watched,
        Some(alone),
        "M/s",
        ">= 0.95 x",
    );
}
