//! Everything at once, for a time: `run` with every option that changes the way of a hold, scripts, users of the library
//! and of the Python module, forced releases, removals, and processes that are killed or stopped at random instants.
//!
//! The judge is not the lock: each visitor locks bytes of a side file while it is at work, and whoever comes in while
//! somebody is there notes it. Only a forced release, a removal, or an expiry explains that. Tokens grow in the order of
//! the visits, and nobody waits while nobody holds.
//!
//! The suite runs it for 15 seconds; `scripts/stress.sh 30m` runs it for half an hour, with a seed if one is given.

mod occupancy;
mod step;
mod verdict;

use crate::common::run::command_of;
use crate::common::worker::monotonic;
use crate::common::{Dice, Peer, TestLock, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use occupancy::Occupancy;
use resourcelock::UngetOptions;
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use step::{Role, Task, any_mode, mode_options};
use verdict::Verdict;

/// Threads that start commands and programs of ours, one after the other.
const SIDES: u64 = 6;
/// Processes of Python.
const PEERS: u64 = 2;
/// Nobody is granted the lock for so long, though somebody waits and nobody holds it: it is stuck.
const STUCK: Duration = Duration::from_secs(20);

/// Everything that the threads share.
struct Stress<'a> {
    lock: &'a TestLock,
    folder: &'a Path,
    journal: Occupancy,
    stop: AtomicBool,
    /// Nothing new is begun, so that the lock is idle for a moment.
    pause: AtomicBool,
    /// Something is stuck: nobody's end is waited for any more.
    give_up: AtomicBool,
    stuck: AtomicUsize,
    kills: AtomicUsize,
    stops: AtomicUsize,
    /// Forced releases and removals: when each began and ended; `None` = it goes on.
    forces: Mutex<Vec<(u64, Option<u64>)>>,
    /// How things ended: what was done, and its status.
    ends: Mutex<BTreeMap<String, usize>>,
    /// Ends that nothing explains.
    wrong: Mutex<Vec<String>>,
}

/// What happens to a run.
#[derive(Debug, Clone, Copy)]
enum Strike {
    Nothing,
    Kill,
    Terminate,
    Stop(Duration),
    StopAndKill(Duration),
}

impl Strike {
    fn any(dice: &mut Dice) -> Self {
        let pause = Duration::from_micros(if dice.percent(80) {
            dice.below(20_000)
        } else {
            dice.below(300_000)
        });
        match dice.below(12) {
            0..=4 => Self::Nothing,
            5..=7 => Self::Kill,
            8 => Self::Terminate,
            9 | 10 => Self::Stop(pause),
            _ => Self::StopAndKill(pause),
        }
    }
}

impl Stress<'_> {
    /// True until the time is over. A pause is waited for.
    fn goes_on(&self) -> bool {
        while self.pause.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        !self.stop.load(SeqCst)
    }

    /// Ends holds by force; the journal explains what comes of it.
    fn force(&self, what: &str, work: impl FnOnce()) {
        self.force_since(monotonic(), what, work);
    }

    /// The same; it has begun already.
    fn force_since(&self, begin: u64, what: &str, work: impl FnOnce()) {
        let index = {
            let mut forces = self.forces.lock().unwrap();
            forces.push((begin, None));
            forces.len() - 1
        };
        work();
        let end = monotonic();
        self.forces.lock().unwrap()[index].1 = Some(end);
        self.journal.note(&json!({ "what": what, "begin": begin, "end": end }));
    }

    fn was_forced_since(&self, since: u64) -> bool {
        let forces = self.forces.lock().unwrap();
        forces.iter().rev().any(|(_, end)| end.is_none_or(|end| end >= since))
    }

    fn strike(&self, pid: Pid, strike: Strike) {
        let send = |signal| kill(pid, signal).is_ok();
        let stop = |pause| {
            if send(Signal::SIGSTOP) {
                self.stops.fetch_add(1, SeqCst);
                std::thread::sleep(pause);
            }
        };
        match strike {
            Strike::Nothing => {}
            Strike::Terminate => drop(send(Signal::SIGTERM)),
            Strike::Stop(pause) => {
                stop(pause);
                send(Signal::SIGCONT);
            }
            Strike::Kill => drop(self.kills.fetch_add(usize::from(send(Signal::SIGKILL)), SeqCst)),
            Strike::StopAndKill(pause) => {
                stop(pause);
                self.kills.fetch_add(usize::from(send(Signal::SIGKILL)), SeqCst);
            }
        }
    }

    /// Its end, which is not waited for once the lock is stuck.
    fn end_of(&self, child: &mut Child) -> ExitStatus {
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if self.give_up.load(SeqCst) {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// Counts how something ended. `errors`: what it said.
    fn ended(&self, what: &str, status: ExitStatus, expected: &[i32], errors: &Path, words: &str) {
        let shown = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let text = std::fs::read_to_string(errors).unwrap_or_default();
        *self.ends.lock().unwrap().entry(format!("{what} {shown}")).or_default() += 1;
        let killed = [Signal::SIGKILL, Signal::SIGTERM].map(|signal| 128 + signal as i32);
        let is_expected = expected.contains(&shown) || killed.contains(&shown) || text.contains("--recover was killed");
        if !is_expected {
            let line = format!("{words}: status {shown}: {}", text.trim());
            self.wrong.lock().unwrap().push(line);
        }
    }

    fn task(&self, role: Role, dice: &mut Dice) -> Task {
        Task {
            role,
            name: self.lock.name().to_owned(),
            folder: self.folder.to_owned(),
            mode: any_mode(dice),
            work: Duration::from_micros(dice.below(8000)),
            seed: dice.below(u64::MAX),
            since: monotonic(),
        }
    }

    /// One of ours, from its start to its end.
    fn side(&self, side: u64, mut dice: Dice) {
        let errors = self.folder.join(format!("errors.{side}"));
        while self.goes_on() {
            match dice.below(10) {
                0 => self.program(Role::Script, &errors, &mut dice),
                1 => self.program(Role::Expiring, &errors, &mut dice),
                2 => self.program(Role::Library, &errors, &mut dice),
                _ => self.run(&errors, &mut dice),
            }
        }
    }

    fn program(&self, role: Role, errors: &Path, dice: &mut Dice) {
        let task = self.task(role, dice);
        let mut command = task.command();
        command.stderr(std::fs::File::create(errors).unwrap());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_micros(dice.below(40_000)));
        self.strike(Pid::from_raw(child.id().cast_signed()), Strike::any(dice));
        let status = self.end_of(&mut child);
        self.ended(&format!("{role:?}"), status, &[0], errors, &format!("{task:?}"));
    }

    fn run(&self, errors: &Path, dice: &mut Dice) {
        let mut task = self.task(Role::Command, dice);
        let mut options = mode_options(task.mode);
        match dice.below(10) {
            0 => options.push("--replace".to_owned()),
            1 | 2 => options.push("-n".to_owned()),
            3..=5 => options.extend(["-t".to_owned(), format!("{}ms", dice.below(200))]),
            _ => {}
        }
        let no_fork = dice.percent(20);
        if no_fork {
            options.push("-F".to_owned());
        } else {
            if dice.percent(20) {
                options.extend(["--until", "tree"].map(str::to_owned));
                task.role = Role::Parent;
            }
            if dice.percent(15) {
                options.extend(["--limit".to_owned(), format!("{}ms", 1 + dice.below(60))]);
                options.extend(["-k", "50ms"].map(str::to_owned));
                task.work *= 10;
            }
        }
        if dice.percent(10) {
            options.extend(["--recover", ":"].map(str::to_owned));
        }
        let mut command = self.lock.command(&["run", "-q"]);
        command.args(&options).arg("--").args(task.words());
        task.give_to(&mut command);
        command.stderr(std::fs::File::create(errors).unwrap());
        let mut wrapper = command.spawn().unwrap();
        self.strike_run(&mut wrapper, no_fork, dice);
        let status = self.end_of(&mut wrapper);
        if status.code() == Some(76) {
            let me = json!({ "since": task.since });
            self.journal
                .note(&json!({ "what": "lost", "at": monotonic(), "me": me }));
        }
        self.ended(
            "run",
            status,
            &[0, 75, 76, 124],
            errors,
            &format!("{} {task:?}", options.join(" ")),
        );
    }

    /// The wrapper, at any time; or the command, once there is one.
    fn strike_run(&self, wrapper: &mut Child, no_fork: bool, dice: &mut Dice) {
        let strike = Strike::any(dice);
        if matches!(strike, Strike::Nothing) {
            return;
        }
        let its_command = !no_fork && dice.percent(50);
        if its_command {
            let Some(command) = command_of(wrapper) else { return };
            std::thread::sleep(Duration::from_micros(dice.below(5000)));
            // Its wrapper has not been told of its end, or it still runs.
            if command_of(wrapper) == Some(command) {
                self.strike(command, strike);
            }
        } else {
            std::thread::sleep(Duration::from_micros(dice.below(15_000)));
            self.strike(Pid::from_raw(wrapper.id().cast_signed()), strike);
        }
    }

    /// A user of the Python module.
    fn python(&self, mut dice: Dice) {
        let mut peer = Peer::start();
        while self.goes_on() {
            let timeout = dice.below(300) as f64 / 1000.0;
            let length = dice.below(5000) as f64 / 1e6;
            let since = monotonic();
            peer.send(json!(["visit", self.lock.name(), self.folder, timeout, length]));
            std::thread::sleep(Duration::from_micros(dice.below(10_000)));
            let pid = Pid::from_raw(peer.id().cast_signed());
            let strike = if dice.percent(80) {
                Strike::Nothing
            } else {
                Strike::any(&mut dice)
            };
            self.strike(pid, strike);
            if matches!(strike, Strike::Kill | Strike::StopAndKill(_) | Strike::Terminate) {
                peer.kill();
                peer = Peer::start();
                // It may have released what was another's by then; nobody hears of it.
                let begin = if self.was_forced_since(since) {
                    since
                } else {
                    monotonic()
                };
                // What it held stays taken otherwise: that is in the nature of the module.
                self.force_since(begin, "force", || self.tool(&["unget", "-q"], &[0, 1]));
                continue;
            }
            // Removed while it opened the lock: it says so.
            let visit = peer.answer_or_exception().unwrap_or_default();
            if let Some(begin) = visit.as_u64()
                && self.was_forced_since(since)
            {
                // It does not know, and has released what was another's by then.
                self.force_since(begin, "force", || drop(self.lock.open().repair()));
            }
        }
    }

    /// Forced releases and removals.
    fn by_hand(&self, mut dice: Dice) {
        let mut peer = Peer::start();
        while self.goes_on() {
            std::thread::sleep(Duration::from_millis(100 + dice.below(900)));
            match dice.below(6) {
                0 => self.force("force", || self.tool(&["unget", "-q"], &[0, 1])),
                1 => self.force("force", || {
                    let _ = self.lock.open().unget_lock(UngetOptions::new().force(true));
                }),
                2 => self.force("force", || {
                    peer.send(json!(["force_anew", self.lock.name()]));
                    let _ = peer.answer_or_exception();
                    let _ = self.lock.open().repair();
                    self.wait_for_those_who_do_not_know();
                }),
                3 => self.force("remove", || self.tool(&["remove", "-q", "--force"], &[0, 1])),
                _ => {
                    // Refused while it is in use. It rarely is not: so others begin again just before.
                    self.pause.store(true, SeqCst);
                    std::thread::sleep(Duration::from_millis(300 + dice.below(400)));
                    self.pause.store(false, SeqCst);
                    let begin = monotonic();
                    self.tool(&["remove", "-q"], &[0, 1, 125]);
                    self.journal
                        .note(&json!({ "what": "idle", "begin": begin, "end": monotonic() }));
                }
            }
        }
    }

    /// The Python module's force tells nobody: whoever holds the lock goes on to do so, with others beside it, and its
    /// release gives away their lock. So the force is over when those holders are gone.
    fn wait_for_those_who_do_not_know(&self) {
        let holders = || -> Vec<u64> {
            let state = self.lock.open().state();
            let holders = state.map(|state| state.holders).unwrap_or_default();
            holders.iter().filter_map(|holder| holder.token).collect()
        };
        let victims = holders();
        while !self.give_up.load(SeqCst) && holders().iter().any(|token| victims.contains(token)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = self.lock.open().repair();
    }

    fn tool(&self, words: &[&str], expected: &[i32]) {
        let errors = self.folder.join(format!("errors.{}", words.join("")));
        let mut command = self.lock.command(words);
        command
            .stderr(std::fs::File::create(&errors).unwrap())
            .stdout(Stdio::null());
        let status = self.end_of(&mut command.spawn().unwrap());
        self.ended(&words.join(" "), status, expected, &errors, &words.join(" "));
    }

    /// Watches that the visits go on, until the time is over. The longest time without one.
    fn watch(&self, time: Duration) -> Duration {
        let journal = self.folder.join("journal");
        let length = || std::fs::metadata(&journal).map_or(0, |metadata| metadata.len());
        let (start, mut seen, mut since) = (Instant::now(), length(), Instant::now());
        let mut longest = Duration::ZERO;
        while start.elapsed() < time && !self.give_up.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
            if length() != seen {
                longest = longest.max(since.elapsed());
                (seen, since) = (length(), Instant::now());
            } else if since.elapsed() > STUCK {
                self.stuck.fetch_add(1, SeqCst);
                let state = resourcelock::ResourceLock::builder(self.lock.name()).open_existing();
                let state = state.map(|lock| lock.state());
                self.wrong.lock().unwrap().push(format!("nothing goes on: {state:?}"));
                self.give_up.store(true, SeqCst);
            }
        }
        self.stop.store(true, SeqCst);
        longest
    }
}

/// How long, from the environment: `90s`, `30m`, `2h`.
fn asked_time() -> Duration {
    let Ok(text) = std::env::var("RESOURCELOCK_STRESS") else {
        return Duration::from_secs(15);
    };
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => panic!("RESOURCELOCK_STRESS={text} is not a time"),
    };
    Duration::from_secs(number.parse::<u64>().expect("a number in RESOURCELOCK_STRESS") * unit)
}

/// Processes that have this folder in their environment: what the stress has started.
fn started_in(folder: &Path) -> Vec<u32> {
    let folder = folder.to_str().expect("UTF-8").as_bytes();
    let all = std::fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_one = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(folder.len()).any(|part| part == folder)
    };
    pids.filter(is_one).collect()
}

#[test]
fn everything_at_once_is_survived() {
    let seed = std::env::var("RESOURCELOCK_STRESS_SEED").map_or_else(
        |_| monotonic() % 1_000_000,
        |seed| seed.parse().expect("a number in RESOURCELOCK_STRESS_SEED"),
    );
    let time = asked_time();
    println!("stress: {time:?} with RESOURCELOCK_STRESS_SEED={seed}");
    let (lock, folder) = (TestLock::new("stress"), tempfile::tempdir().unwrap());
    let stress = Stress {
        lock: &lock,
        folder: folder.path(),
        journal: Occupancy::open(folder.path()),
        stop: AtomicBool::new(false),
        pause: AtomicBool::new(false),
        give_up: AtomicBool::new(false),
        stuck: AtomicUsize::new(0),
        kills: AtomicUsize::new(0),
        stops: AtomicUsize::new(0),
        forces: Mutex::default(),
        ends: Mutex::default(),
        wrong: Mutex::default(),
    };
    let dice = |number: u64| Dice::new(seed.wrapping_mul(1000).wrapping_add(number));
    let longest = std::thread::scope(|scope| {
        let stress = &stress;
        for side in 0..SIDES {
            scope.spawn(move || stress.side(side, dice(side)));
        }
        for peer in 0..PEERS {
            scope.spawn(move || stress.python(dice(100 + peer)));
        }
        scope.spawn(move || stress.by_hand(dice(200)));
        stress.watch(time)
    });
    // Commands whose wrapper was killed, and what they left behind.
    wait_until("all that was started has ended", || {
        started_in(folder.path()).is_empty()
    });
    wait_until("nothing holds the lock", || {
        let handle = lock.open();
        handle.repair().unwrap();
        let state = handle.state().unwrap();
        !state.locked && state.holders.is_empty() && state.waiters.is_empty()
    });
    let verdict = Verdict::of(folder.path());
    let (kills, stops, stuck) = (&stress.kills, &stress.stops, &stress.stuck);
    println!(
        "stress: {} kills, {} stops; {verdict}",
        kills.load(SeqCst),
        stops.load(SeqCst)
    );
    println!(
        "stress: {} times stuck; the longest time without a visit: {longest:?}",
        stuck.load(SeqCst)
    );
    println!("stress: {:?}", stress.ends.lock().unwrap());
    let wrong = stress.wrong.lock().unwrap();
    let found = [&wrong[..], &verdict.overlaps, &verdict.inversions, &verdict.losses].concat();
    let around = verdict.around(folder.path());
    assert!(
        found.is_empty(),
        "with seed {seed}:\n{}\nThe journal before that:\n{around}",
        found.join("\n")
    );
    assert!(verdict.visits > 0 && verdict.python_visits > 0);
}

/// A journal with two visitors at once, the later one under this token.
fn two_at_once(token: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let start = |token: u64, work| {
        let task = Task {
            role: Role::Command,
            name: format!("test-stress-none-{}", std::process::id()),
            folder: folder.path().to_owned(),
            mode: resourcelock::Mode::Exclusive,
            work,
            seed: 0,
            since: monotonic(),
        };
        task.command()
            .env("RESOURCELOCK_TOKEN", token.to_string())
            .spawn()
            .unwrap()
    };
    let mut first = start(7, Duration::from_secs(3600));
    wait_until("it is at work", || Verdict::of(folder.path()).visits == 1);
    assert!(start(token, Duration::ZERO).wait().unwrap().success());
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(start(token, Duration::ZERO).wait().unwrap().success());
    folder
}

#[test]
fn the_judge_sees_two_at_once_and_tokens_that_do_not_grow() {
    let folder = two_at_once(8);
    let verdict = Verdict::of(folder.path());
    assert_eq!(
        (verdict.visits, verdict.overlaps.len(), verdict.inversions.len()),
        (2, 1, 0),
        "{verdict:?}"
    );
    let folder = two_at_once(7);
    let verdict = Verdict::of(folder.path());
    assert_eq!(
        (verdict.visits, verdict.overlaps.len(), verdict.inversions.len()),
        (2, 1, 1),
        "{verdict:?}"
    );
}

#[test]
fn only_a_forced_release_in_between_explains_them() {
    let folder = two_at_once(8);
    let journal = Occupancy::open(folder.path());
    journal.note(&json!({ "what": "force", "begin": 0, "end": 1 }));
    assert_eq!(Verdict::of(folder.path()).overlaps.len(), 1, "that was long ago");
    journal.note(&json!({ "what": "force", "begin": monotonic(), "end": monotonic() }));
    assert_eq!(Verdict::of(folder.path()).overlaps.len(), 1, "that came later");
    journal.note(&json!({ "what": "force", "begin": 1, "end": monotonic() }));
    let verdict = Verdict::of(folder.path());
    assert_eq!((verdict.explained, verdict.overlaps.len()), (1, 0), "{verdict:?}");
}
