//! How soon the next in line gets the lock of a holder that was killed.

use crate::contenders::{Kind, Place};
use crate::figures::{Report, Target};
use crate::programs::{Installed, command, find, wait_until, waiting_for_file, waiting_for_name};
use crate::team::{ASLEEP, Worker, monotonic};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::time::Duration;

pub fn measure(place: &Place, report: &mut Report) {
    in_the_library(place, report);
    whole_processes(place, report);
}

/// Not always at the same point of an interval, if it looks at intervals.
fn until_asleep(round: usize) {
    std::thread::sleep(ASLEEP + Duration::from_micros(round as u64 * 37 % 2000));
}

/// The bare event is the least that it takes without a lock whose waiter can do nothing else, as in flock(2).
const BARE: &str = "a thread that waits for the holder's end and wakes another";

fn in_the_library(place: &Place, report: &mut Report) {
    let kinds = [Some(Kind::Ours), Some(Kind::Flock), None];
    let start = |kind: Option<Kind>, holder: u32| {
        let mut worker = match kind {
            Some(kind) => Worker::start(&["once", &place.of(kind)]),
            None => Worker::start(&["told", &holder.to_string()]),
        };
        worker.go();
        worker
    };
    let mut holders = kinds.map(|kind| start(kind, 0));
    for holder in &mut holders {
        holder.numbers();
    }
    let mut times = kinds.map(|_| Vec::new());
    for round in 0..report.times(200) {
        for (at, kind) in kinds.into_iter().enumerate() {
            let mut next = start(kind, holders[at].id());
            until_asleep(round);
            let killed = monotonic() as f64;
            holders[at].kill();
            times[at].push((next.numbers()[0] - killed) / 1e3);
            holders[at] = next;
        }
    }
    drop(holders);
    let [ours, flock, bare] = &times;
    let what = "next in line after SIGKILL, library";
    report.compare(what, "µs", ours, (Kind::Flock.name(), flock), Target::RatioAtMost(1.25));
    report.compare(what, "µs", ours, (BARE, bare), Target::None);
    let most = |times| [crate::figures::quantile(times, 0.99)];
    report.compare(
        "… 99 of 100 within",
        "µs",
        &most(ours),
        (Kind::Flock.name(), &most(flock)),
        Target::None,
    );
}

fn whole_processes(place: &Place, report: &mut Report) {
    let installed = Installed::new();
    let [flock, sleep, echo] = ["flock", "sleep", "echo"].map(|name| find(name).expect("it is installed"));
    let (name, file) = (&*place.name, &*place.file.to_string_lossy());
    let ours: [&str; 4] = [&installed.program, name, "run", "--"];
    let theirs: [&str; 2] = [&flock, file];
    let under = |at: usize, words: &[&str]| {
        let lock: &[&str] = if at == 0 { &ours } else { &theirs };
        command(&[lock, words].concat())
    };
    let waiting = |at: usize| {
        if at == 0 {
            waiting_for_name(name)
        } else {
            waiting_for_file(&place.file)
        }
    };
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..report.times(120) {
        for (at, times) in times.iter_mut().enumerate() {
            // The wrapper and its command are a group, which is killed as a whole.
            let holder = under(at, &[&sleep, "600"]).process_group(0).spawn().expect("it starts");
            let mut holder = KilledOnDrop(holder);
            wait_until("the command sleeps", || sleeps(holder.0.id()));
            let next = under(at, &[&echo]).stdout(Stdio::piped()).spawn();
            let mut next = next.expect("it starts");
            wait_until("the next one waits", || waiting(at) == 1);
            until_asleep(round);
            let killed = monotonic() as f64;
            holder.kill();
            // Its command's first word.
            let read = next.stdout.as_mut().expect("a pipe").read(&mut [0; 8]);
            times.push((monotonic() as f64 - killed) / 1e3);
            assert!(read.is_ok_and(|length| length > 0), "the next one ran its command");
            next.wait().expect("it ends");
        }
    }
    let [ours, flock] = &times;
    report.compare(
        "command of the next in line after SIGKILL, whole processes",
        "µs",
        ours,
        ("flock(1)", flock),
        Target::RatioAtMost(1.0),
    );
}

/// True if a child of this process has executed sleep.
fn sleeps(wrapper: u32) -> bool {
    let children = std::fs::read_to_string(format!("/proc/{wrapper}/task/{wrapper}/children")).unwrap_or_default();
    children
        .split_whitespace()
        .any(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n"))
}

struct KilledOnDrop(Child);

impl KilledOnDrop {
    fn kill(&mut self) {
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).expect("a PID"));
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    }
}

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        self.kill();
        let _ = self.0.wait();
    }
}
