//! How soon the next in line gets the lock of a holder that was killed.

use crate::contenders::{Kind, Place};
use crate::figures::{print, quantile};
use crate::team::{ASLEEP, Worker, monotonic};

const ROUNDS: usize = 200;

pub fn measure(place: &Place) {
    let [mut ours, mut flock] = [Kind::Ours, Kind::Flock].map(|kind| {
        let at = place.of(kind);
        let start = || {
            let mut worker = Worker::start(&["once", &at]);
            worker.go();
            worker
        };
        let mut holder = start();
        holder.numbers();
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            let mut next = start();
            // By then it is asleep, and not always at the same point of its polling interval.
            std::thread::sleep(ASLEEP + std::time::Duration::from_micros(round as u64 * 37 % 2000));
            let killed = monotonic() as f64;
            holder.kill();
            times.push((next.numbers()[0] - killed) / 1e6);
            holder = next;
        }
        times
    });
    for (share, target) in [(0.5, "<= 3 ms"), (0.99, "<= 15 ms")] {
        let figure = format!("next in line after SIGKILL, {}th of 100", share * 100.0);
        print(
            &figure,
            quantile(&mut ours, share),
            Some(quantile(&mut flock, share)),
            "ms",
            target,
        );
    }
}
