//! How long a whole `resourcelock NAME run -- true` takes, from the caller's spawn to its wait, compared with flock(1).
//!
//! `cargo bench --bench startup [-- ROUNDS]`. The programs take turns, so that other load on the machine affects them
//! all alike. It reports medians and ratios and asserts nothing: what a figure means depends on the machine.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Default number of rounds. A tenth as many are run first, unmeasured, as a warm-up.
const ROUNDS: usize = 1000;

/// One of the programs compared.
struct Case {
    shown: &'static str,
    words: Vec<String>,
    /// The index of the case to compare with, and the target ratio.
    against: Option<(usize, f64)>,
    times: Vec<Duration>,
}

impl Case {
    fn new(shown: &'static str, words: &[&str], against: Option<(usize, f64)>) -> Self {
        Self {
            shown,
            words: words.iter().map(|&word| word.to_owned()).collect(),
            against,
            times: Vec::new(),
        }
    }

    fn run(&self) -> Duration {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).stdin(Stdio::null());
        let start = Instant::now();
        let status = command
            .status()
            .unwrap_or_else(|error| panic!("{}: {error}", self.words[0]));
        let time = start.elapsed();
        assert!(status.success(), "{} ended with {status}", self.shown);
        time
    }

    fn median(&self) -> Duration {
        self.part(0.5)
    }

    fn part(&self, part: f64) -> Duration {
        let mut sorted = self.times.clone();
        sorted.sort();
        sorted[((sorted.len() - 1) as f64 * part) as usize]
    }
}

fn main() {
    let rounds = std::env::args()
        .find_map(|word| word.parse().ok())
        .unwrap_or(ROUNDS)
        .max(1);
    // Measure a copy, as an installation would make. What the linker has just written is in the page cache as single
    // pages, which slows every start by some 50 µs until the file is rewritten.
    let folder = std::env::temp_dir().join(format!("bench-startup-{}.d", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let ours = folder.join("resourcelock");
    std::fs::copy(env!("CARGO_BIN_EXE_resourcelock"), &ours).expect("the program can be copied");
    let ours = &*ours.to_string_lossy();
    let name = format!("bench-startup-{}", std::process::id());
    // A lock of its own, so that no case cleans up what another one leaves behind.
    let no_fork = format!("{name}-F");
    let file = std::env::temp_dir().join(&name);
    let file = file.to_string_lossy();
    let (command, flock) = (&*find("true"), &*find("flock"));
    let mut cases = [
        Case::new("true", &[command], None),
        Case::new("flock FILE true", &[flock, &file, command], None),
        Case::new(
            "resourcelock NAME run -- true",
            &[ours, &name, "run", "--", command],
            Some((1, 0.80)),
        ),
        Case::new("flock -F FILE true", &[flock, "-F", &file, command], None),
        Case::new(
            "resourcelock NAME run -F -- true",
            &[ours, &no_fork, "run", "-F", "--", command],
            Some((3, 0.80)),
        ),
    ];
    for round in 0..rounds + rounds / 10 {
        for case in &mut cases {
            let time = case.run();
            if round >= rounds / 10 {
                case.times.push(time);
            }
        }
    }
    report(&cases, rounds);
    let _ = std::fs::remove_file(&*file);
    for name in [&name, &no_fork] {
        let _ = Command::new(ours).args([name, "remove", "--force", "-q"]).status();
    }
    let _ = std::fs::remove_dir_all(&folder);
}

/// The program's path, so that no case is charged for a search of PATH.
fn find(program: &str) -> String {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file());
    found
        .unwrap_or_else(|| panic!("{program} is not installed"))
        .to_string_lossy()
        .into_owned()
}

fn report(cases: &[Case], rounds: usize) {
    println!(
        "{} · {} CPUs · {rounds} rounds in turn",
        cpu(),
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    println!("{:34} {:>9} {:>9} {:>9}  ratio (aim)", "", "median", "10 %", "90 %");
    for case in cases {
        let ms = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1e3);
        let ratio = case.against.map(|(other, aim)| {
            let ratio = case.median().as_secs_f64() / cases[other].median().as_secs_f64();
            format!("{ratio:.2} (<= {aim:.2}) x {}", cases[other].shown)
        });
        println!(
            "{:34} {:>9} {:>9} {:>9}  {}",
            case.shown,
            ms(case.median()),
            ms(case.part(0.1)),
            ms(case.part(0.9)),
            ratio.unwrap_or_default()
        );
    }
}

/// The processor's name, for those who read the figures later.
fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": "))
        .map_or("unknown processor", |(_, name)| name)
        .to_owned()
}
