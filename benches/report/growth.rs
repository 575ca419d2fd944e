//! Many locks: how long it takes to list them, and to complete a name; what they occupy.

use crate::contenders::Place;
use crate::figures::{Diagram, Line, Picture, Report, Target, median};
use crate::programs::{Installed, command};
use resourcelock::ResourceLock;
use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

const LOCKS: [usize; 9] = [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000];

/// What the files in /dev/shm occupy whose names end like that, KiB.
fn occupied(prefix: &str) -> f64 {
    let entries = std::fs::read_dir("/dev/shm").expect("it is there");
    let blocks: u64 = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains(prefix))
        .filter_map(|entry| Some(entry.metadata().ok()?.blocks()))
        .sum();
    blocks as f64 / 2.0
}

pub fn measure(place: &Place, report: &mut Report) {
    let prefix = format!("{}-lock-", place.name);
    // Some use, so that its history is what it is for a lock that is used.
    let used = |number: usize| {
        let lock = ResourceLock::open(format!("{prefix}{number}")).expect("the lock opens");
        for _ in 0..3 {
            let options = resourcelock::GetOptions::new().lock_info("bench");
            drop(lock.acquire_with(&options).expect("no error"));
        }
    };
    let installed = Installed::new();
    let ours = &*installed.program;
    let (mut list, mut tab, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let mut made = 0;
    for locks in LOCKS {
        (made..locks).for_each(used);
        made = locks;
        let time = |words: &[&str]| {
            let times: Vec<f64> = (0..report.times(16))
                .map(|_| {
                    let mut command = command(words);
                    let start = Instant::now();
                    assert!(command.status().expect("it starts").success(), "{command:?}");
                    start.elapsed().as_secs_f64() * 1e3
                })
                .collect();
            (locks as f64, median(&times))
        };
        list.push(time(&[ours, "list"]));
        tab.push(time(&[ours, "completions", "bash", "--", "", &prefix]));
        memory.push((locks as f64, occupied(&prefix)));
    }
    (0..made).for_each(|number| {
        let _ = resourcelock::remove(format!("{prefix}{number}"), true);
    });
    report.alone(
        "memory of an idle lock in /dev/shm",
        "KiB",
        memory[0].1,
        Target::AtMost(24.0),
    );
    for (at, what, most) in [(6, "list with 1,000 locks", 30.0), (8, "list with 10,000 locks", 300.0)] {
        report.alone(what, "ms", list[at].1, Target::AtMost(most));
    }
    report.alone("one TAB with 1,000 locks", "ms", tab[6].1, Target::AtMost(50.0));
    report.alone("one TAB with 10,000 locks", "ms", tab[8].1, Target::AtMost(50.0));
    let line = |name: &str, points| Line {
        name: name.to_owned(),
        points,
    };
    let diagram = |title: &str, unit, lines| Diagram {
        title: title.to_owned(),
        across: "locks",
        unit,
        lines,
    };
    report.pictures.push(Picture {
        file: "benchmarks-locks",
        caption: "Idle locks on one machine: time of `list` and of one TAB, and what they occupy in /dev/shm",
        note: None,
        diagrams: vec![
            diagram("time", "ms", vec![line("list", list), line("one TAB", tab)]),
            diagram("memory", "KiB", vec![line("/dev/shm", memory)]),
        ],
    });
}
