//! What processes cost that wait, or whose command runs: wake-ups and memory.

use crate::contenders::Place;
use crate::figures::{Report, Target};
use crate::programs::{Installed, command, find, wait_until, waiting_for_file, waiting_for_name};
use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

/// As many wait as there were places with a pace of their own.
const WAITING: usize = 4;

/// Killed and reaped on drop.
struct Processes(Vec<Child>);

impl Drop for Processes {
    fn drop(&mut self) {
        // The holder first, by TERM, so that its command ends as well.
        let holder = nix::unistd::Pid::from_raw(i32::try_from(self.0[0].id()).expect("a PID"));
        for waiting in &mut self.0[1..] {
            let _ = waiting.kill();
            let _ = waiting.wait();
        }
        let _ = nix::sys::signal::killpg(holder, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0[0].wait();
    }
}

/// How often all threads of a process have gone to sleep.
fn sleeps(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
        .filter_map(|text| number(&text, "voluntary_ctxt_switches:"))
        .sum()
}

fn number(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The pages of a process that are in memory, KiB.
fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    number(&status, "VmRSS:").unwrap_or(f64::NAN)
}

pub fn measure(place: &Place, report: &mut Report) {
    let installed = Installed::new();
    let [flock, sleep, echo] = ["flock", "sleep", "true"].map(|name| find(name).expect("it is installed"));
    let (name, file) = (&*place.name, &*place.file.to_string_lossy());
    let kinds: [Vec<&str>; 2] = [vec![&installed.program, name, "run", "--"], vec![&flock, file]];
    let teams = kinds.map(|lock| {
        use std::os::unix::process::CommandExt as _;
        let waiting = || {
            if lock.len() == 2 {
                waiting_for_file(&place.file)
            } else {
                waiting_for_name(name)
            }
        };
        let start = |words: &[&str]| command(&[&*lock, words].concat()).process_group(0).spawn();
        let mut team = Processes(vec![start(&[&sleep, "600"]).expect("it starts")]);
        let holder = team.0[0].id();
        let children = format!("/proc/{holder}/task/{holder}/children");
        wait_until("the command runs", || {
            fs::read_to_string(&children).is_ok_and(|children| !children.is_empty())
        });
        for place in 1..=WAITING {
            team.0.push(start(&[&echo]).expect("it starts"));
            wait_until("it waits", || waiting() == place);
        }
        team
    });
    // What happens only at the beginning of a wait does not count.
    std::thread::sleep(Duration::from_secs(2));
    let all = || {
        teams
            .each_ref()
            .map(|team| team.0.iter().map(|child| sleeps(child.id())).collect::<Vec<f64>>())
    };
    let (before, start) = (all(), Instant::now());
    std::thread::sleep(Duration::from_secs(if report.quick { 5 } else { 20 }));
    let (after, time) = (all(), start.elapsed().as_secs_f64());
    let rate = |kind: usize, at: usize| (after[kind][at] - before[kind][at]) / time;
    for at in 0..=WAITING {
        let what = match at {
            0 => "wake-ups of a wrapper whose command runs".to_owned(),
            at => format!("wake-ups of a waiting process, place {at}"),
        };
        report.compare(
            &what,
            "/s",
            &[rate(0, at)],
            ("flock(1)", &[rate(1, at)]),
            Target::AtMost(0.2),
        );
    }
    for (what, at) in [
        ("memory of a waiting run (RSS)", 1),
        ("memory of a wrapper whose command runs (RSS)", 0),
    ] {
        let [ours, theirs] = teams.each_ref().map(|team| resident(team.0[at].id()));
        report.compare(what, "KiB", &[ours], ("flock(1)", &[theirs]), Target::RatioAtMost(1.2));
    }
}
