//! Whole processes, from the caller's spawn to its wait.

use crate::contenders::{self, Kind, Place};
use crate::figures::{Report, Target};
use crate::programs::{Installed, command, find};
use std::time::Instant;

/// As `cargo install` makes it.
const FROM_SOURCE: &str = "the same, from source (glibc)";

/// One of the programs compared.
struct Case {
    shown: &'static str,
    words: Vec<String>,
    status: i32,
    /// µs.
    times: Vec<f64>,
}

impl Case {
    fn new(shown: &'static str, words: &[&str], status: i32) -> Self {
        Self {
            shown,
            words: words.iter().map(|&word| word.to_owned()).collect(),
            status,
            times: Vec::new(),
        }
    }

    fn run(&mut self, measured: bool) {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let mut command = command(&words);
        let start = Instant::now();
        let status = command.status();
        let time = start.elapsed();
        let status = status.unwrap_or_else(|error| panic!("{}: {error}", self.words[0]));
        assert_eq!(status.code(), Some(self.status), "{} ended with {status}", self.shown);
        if measured {
            self.times.push(time.as_secs_f64() * 1e6);
        }
    }
}

pub fn measure(place: &Place, report: &mut Report) {
    let installed = Installed::new();
    let ours = &*installed.program;
    let (name, no_fork, taken) = (
        &*place.name,
        &*format!("{name}-F", name = place.name),
        &*format!("{}-n", place.name),
    );
    let file = &*place.file.to_string_lossy();
    let [free_file, taken_file] = [&*format!("{file}-F"), &*format!("{file}-n")];
    for file in [free_file, taken_file] {
        std::fs::File::create(file).expect("/dev/shm is writable");
    }
    let mut held = [
        contenders::open(&format!("{}:{taken}", Kind::Ours.name())),
        contenders::open(&format!("{}:{taken_file}", Kind::Flock.name())),
    ];
    held.iter_mut().for_each(|contender| contender.lock());
    let (command, flock) = (
        &*find("true").expect("true is there"),
        &*find("flock").expect("flock is installed"),
    );
    let mut cases = vec![
        Case::new("run -- true", &[ours, name, "run", "--", command], 0),
        Case::new("flock FILE true", &[flock, file, command], 0),
        Case::new(
            "run --no-fork -- true",
            &[ours, no_fork, "run", "--no-fork", "--", command],
            0,
        ),
        Case::new("flock -F FILE true", &[flock, "-F", free_file, command], 0),
        Case::new(
            "run -n -- true, lock taken",
            &[ours, taken, "run", "-n", "--", command],
            75,
        ),
        Case::new("flock -n FILE true, lock taken", &[flock, "-n", taken_file, command], 1),
        Case::new("true, without a lock", &[command], 0),
    ];
    let programs: [(&str, &[&str]); 3] = [
        ("lckdo FILE true", &["lckdo", "FILE", "true"]),
        ("setlock FILE true", &["setlock", "FILE", "true"]),
        ("chpst -L FILE true", &["chpst", "-L", "FILE", "true"]),
    ];
    for (shown, words) in programs {
        let Some(program) = find(words[0]) else {
            report.left_out(shown, "it is not installed");
            continue;
        };
        let words: Vec<&str> = words[1..]
            .iter()
            .map(|&word| match word {
                "FILE" => file,
                "true" => command,
                other => other,
            })
            .collect();
        cases.push(Case::new(shown, &[&[&*program], &*words].concat(), 0));
    }
    let from_source = Installed::from_source();
    if let Some(from_source) = &from_source {
        let words = [&*from_source.program, name, "run", "--", command];
        cases.push(Case::new(FROM_SOURCE, &words, 0));
    }
    let rounds = report.times(1600);
    for round in 0..rounds + rounds / 10 {
        for case in &mut cases {
            case.run(round >= rounds / 10);
        }
    }
    let targets = [(0, 0.7), (2, 0.75), (4, 0.9)];
    for (at, most) in targets {
        let [ours, peer] = [&cases[at], &cases[at + 1]];
        report.compare(
            ours.shown,
            "µs",
            &ours.times,
            (peer.shown, &peer.times),
            Target::RatioAtMost(most),
        );
    }
    for peer in &cases[6..] {
        // What only adds a lock to its own process is compared with what does the same.
        let whole = peer.words.len() == 1 || peer.shown == FROM_SOURCE;
        let ours = &cases[if whole { 0 } else { 2 }];
        report.compare(ours.shown, "µs", &ours.times, (peer.shown, &peer.times), Target::None);
    }
    match find("sem") {
        None => report.left_out("sem --fg --id NAME true", "it is not installed"),
        Some(sem) => {
            let mut sem = Case::new(
                "sem --fg --id NAME true",
                &[&sem, "--will-cite", "--fg", "--id", name, command],
                0,
            );
            cases[0].times.clear();
            for _ in 0..report.times(16) {
                cases[0].run(true);
                sem.run(true);
            }
            report.compare(
                cases[0].shown,
                "µs",
                &cases[0].times,
                (sem.shown, &sem.times),
                Target::None,
            );
        }
    }
    for file in [free_file, taken_file] {
        let _ = std::fs::remove_file(file);
    }
    for name in [no_fork, taken] {
        let _ = resourcelock::remove(name, true);
    }
}
