//! Everything at once, for a time: `run` with every option that changes the way of a hold, scripts, users of the library
//! and of the Python module, forced releases, removals, and processes that are killed or stopped at random instants.
//!
//! The judge is not the lock: each visitor locks bytes of a side file while it is at work, and whoever comes in while
//! somebody is there notes it. Only a forced release, a removal, or an expiry explains that. Tokens grow in the order of
//! the visits, and nobody waits while nobody holds.
//!
//! The suite runs it for 15 seconds with a few processes; `scripts/soak.sh 30m` runs it for half an hour with fifty,
//! among them users of the Python package.

mod figures;
mod occupancy;
mod step;
mod verdict;

use crate::common::lock::binary;
use crate::common::run::command_of;
use crate::common::worker::monotonic;
use crate::common::{Dice, Peer, TestLock, asked, wait_until};
use figures::{Counted, Lasting, shared_memory, started_now};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use occupancy::Occupancy;
use resourcelock::UngetOptions;
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use step::{Role, Task, any_mode, mode_options};
use verdict::Verdict;

/// How many take part.
struct Crowd {
    /// Threads that start commands and programs of ours, one after the other; most of these are two processes.
    sides: u64,
    /// Users of the Python module.
    peers: u64,
    /// Users of the Python package.
    packages: u64,
    /// Threads that look at the locks, and prune them.
    readers: u64,
}

impl Crowd {
    const SUITE: Self = Self {
        sides: 6,
        peers: 2,
        packages: 0,
        readers: 1,
    };

    /// About so many processes at once as RESOURCELOCK_STRESS_PROCESSES says.
    fn asked() -> Self {
        let Some(number) = asked::processes() else {
            return Self::SUITE;
        };
        Self {
            sides: number / 2,
            peers: number.div_ceil(10),
            packages: if package().is_some() { number.div_ceil(10) } else { 0 },
            readers: number.div_ceil(10),
        }
    }
}

/// Where the Python package is installed, if users of it take part.
fn package() -> Option<PathBuf> {
    std::env::var_os("RESOURCELOCK_STRESS_PACKAGE").map(PathBuf::from)
}

/// Nobody has visited for so long, and meanwhile so many commands have run one after the other under a lock that nobody
/// else uses: it is stuck. (On a busy machine, a visitor may get no processor for longer.)
const STUCK: (Duration, usize) = (Duration::from_secs(20), 200);

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
        // Somebody stands still inside the table, stopped or without a processor.
        let explained = ["--recover was killed", "the lock's table stayed busy"];
        let is_expected =
            expected.contains(&shown) || killed.contains(&shown) || explained.iter().any(|why| text.contains(why));
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
        let mut struck = Pid::from_raw(wrapper.id().cast_signed());
        if !no_fork && dice.percent(65) {
            // While it holds the lock: it, or its command.
            let Some(command) = command_of(wrapper) else { return };
            std::thread::sleep(Duration::from_micros(dice.below(5000)));
            // Its wrapper has not been told of its end, or it still runs.
            if command_of(wrapper) != Some(command) {
                return;
            }
            if dice.percent(50) {
                struck = command;
            }
        } else {
            std::thread::sleep(Duration::from_micros(dice.below(15_000)));
        }
        self.strike(struck, strike);
    }

    /// Asks a Python process for a visit, and lets something happen to it. True if that kills it.
    fn ask_for_visit(&self, peer: &mut Peer, dice: &mut Dice) -> bool {
        let timeout = dice.below(300) as f64 / 1000.0;
        let length = dice.below(5000) as f64 / 1e6;
        peer.send(json!(["visit", self.lock.name(), self.folder, timeout, length]));
        std::thread::sleep(Duration::from_micros(dice.below(10_000)));
        let strike = if dice.percent(80) {
            Strike::Nothing
        } else {
            Strike::any(dice)
        };
        self.strike(Pid::from_raw(peer.id().cast_signed()), strike);
        matches!(strike, Strike::Kill | Strike::StopAndKill(_) | Strike::Terminate)
    }

    /// A user of the Python package.
    fn package(&self, folder: &Path, mut dice: Dice) {
        let mut peer = Peer::start_package(folder);
        while self.goes_on() {
            if self.ask_for_visit(&mut peer, &mut dice) {
                peer.kill();
                peer = Peer::start_package(folder);
            } else if let Err(problem) = peer.answer_or_exception() {
                self.wrong
                    .lock()
                    .unwrap()
                    .push(format!("the Python package: {problem}"));
            }
        }
    }

    /// A user of the Python module.
    fn python(&self, mut dice: Dice) {
        let mut peer = Peer::start();
        while self.goes_on() {
            let since = monotonic();
            if self.ask_for_visit(&mut peer, &mut dice) {
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

    /// Looks at the locks in every way, and asks their commands to end; uses other locks beside this one, and prunes all
    /// of them that are idle.
    fn read(&self, reader: u64, mut dice: Dice) {
        let errors = self.folder.join(format!("errors.reader.{reader}"));
        let beside = format!("{}.{reader}-{}", self.lock.name(), dice.below(4));
        let all = format!("{}*", self.lock.name());
        while self.goes_on() {
            let name = self.lock.name();
            let (what, words, expected): (_, &[&str], _) = match dice.below(10) {
                0 => ("list", &["list"], &[0][..]),
                1 => ("list --prometheus", &["list", "--prometheus"], &[0]),
                2 => ("state", &[name, "state"], &[0, 1]),
                3 => ("state --json", &[name, "state", "--json"], &[0, 1]),
                4 => ("history --json", &[name, "history", "--json"], &[0, 1]),
                5 => ("history", &["history", "-n", "20"], &[0]),
                6 => ("run beside", &[&beside, "run", "-q", "true"], &[0]),
                // Nobody holds it; not in time; a holder without a command.
                7 => (
                    "stop",
                    &[name, "stop", "-q", "-t", "300ms", "-k", "100ms"],
                    &[0, 1, 75, 125],
                ),
                // Without a terminal, once.
                8 => ("top", &["top"], &[0]),
                _ => ("prune", &["prune", "-q", "--idle", "0", &all], &[0]),
            };
            let mut command = binary();
            command.args(words);
            self.tool_of(command, what, &errors, expected);
            std::thread::sleep(Duration::from_millis(20 + dice.below(100)));
        }
    }

    fn tool(&self, words: &[&str], expected: &[i32]) {
        let errors = self.folder.join(format!("errors.{}", words.join("")));
        self.tool_of(self.lock.command(words), &words.join(" "), &errors, expected);
    }

    fn tool_of(&self, mut command: Command, what: &str, errors: &Path, expected: &[i32]) {
        command
            .stderr(std::fs::File::create(errors).unwrap())
            .stdout(Stdio::null());
        let status = self.end_of(&mut command.spawn().unwrap());
        self.ended(what, status, expected, errors, what);
    }

    /// True if commands under a lock of their own have run meanwhile, as long as nobody has visited.
    fn others_run_on(&self, is_idle: impl Fn() -> bool) -> bool {
        let beside = format!("{}.watch", self.lock.name());
        (0..STUCK.1).all(|_| {
            let run = binary().args([&beside, "run", "-q", "true"]).status();
            assert!(run.unwrap().success());
            is_idle()
        })
    }

    /// Watches that the visits go on, until the time is over.
    fn watch(&self, time: Duration, mut trace: Child) -> Watched {
        let mut watched = Watched {
            longest: Duration::ZERO,
            most: 0,
            counted: Counted::default(),
            lasting: [("this program", std::process::id()), ("trace -f", trace.id())]
                .map(|(what, pid)| Lasting::new(what, pid)),
        };
        let journal = self.folder.join("journal");
        let length = || std::fs::metadata(&journal).map_or(0, |metadata| metadata.len());
        let (start, mut seen, mut since) = (Instant::now(), length(), Instant::now());
        let mut looks = 0_u64;
        while start.elapsed() < time && !self.give_up.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
            looks += 1;
            if looks.is_multiple_of(5) {
                watched.counted.look(self.lock.name());
            }
            if looks.is_multiple_of(50) {
                watched.most = watched.most.max(started_now());
                watched.lasting.iter_mut().for_each(Lasting::look);
            }
            if length() != seen {
                watched.longest = watched.longest.max(since.elapsed());
                (seen, since) = (length(), Instant::now());
            } else if since.elapsed() > STUCK.0 && self.others_run_on(|| length() == seen) {
                self.stuck.fetch_add(1, SeqCst);
                let state = resourcelock::ResourceLock::builder(self.lock.name()).open_existing();
                let state = state.map(|lock| lock.state());
                self.wrong.lock().unwrap().push(format!("nothing goes on: {state:?}"));
                self.give_up.store(true, SeqCst);
            }
        }
        self.stop.store(true, SeqCst);
        if let Some(status) = trace.try_wait().unwrap() {
            self.wrong.lock().unwrap().push(format!("trace -f has ended: {status}"));
        }
        let _ = trace.kill();
        let _ = trace.wait();
        watched
    }
}

/// What was seen while it went on.
struct Watched {
    /// The longest time without a visit.
    longest: Duration,
    /// The most processes at once.
    most: usize,
    counted: Counted,
    lasting: [Lasting; 2],
}

/// A `trace -f` that has the lock open by now.
fn followed(lock: &TestLock) -> Child {
    let _guard = lock.open().acquire().unwrap();
    let trace = lock.command(&["trace", "-f"]).stdout(Stdio::null()).spawn().unwrap();
    let descriptors = format!("/proc/{}/fd", trace.id());
    wait_until("it has the lock open", || {
        let open = std::fs::read_dir(&descriptors).unwrap();
        let paths = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        paths.into_iter().any(|path| path == lock.paths().table_path())
    });
    trace
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
    let seed = asked::seed().unwrap_or_else(|| monotonic() % 1_000_000);
    let time = asked::time().unwrap_or(Duration::from_secs(15));
    println!("stress: {time:?} with RESOURCELOCK_STRESS_SEED={seed}");
    let (crowd, package) = (Crowd::asked(), package());
    let before = shared_memory();
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
    let trace = followed(&lock);
    let watched = std::thread::scope(|scope| {
        let stress = &stress;
        for side in 0..crowd.sides {
            scope.spawn(move || stress.side(side, dice(side)));
        }
        for peer in 0..crowd.peers {
            scope.spawn(move || stress.python(dice(100 + peer)));
        }
        for peer in 0..crowd.packages {
            let folder = package.as_deref().expect("users of the package have one");
            scope.spawn(move || stress.package(folder, dice(300 + peer)));
        }
        for reader in 0..crowd.readers {
            scope.spawn(move || stress.read(reader, dice(400 + reader)));
        }
        scope.spawn(move || stress.by_hand(dice(200)));
        stress.watch(time, trace)
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
    let [kills, stops, stuck] = [&stress.kills, &stress.stops, &stress.stuck].map(|number| number.load(SeqCst));
    println!("stress: {kills} kills, {stops} stops; {verdict}");
    println!(
        "stress: as the lock has counted: {}; {stuck} times stuck",
        watched.counted
    );
    let (longest, most) = (watched.longest, watched.most);
    println!("stress: the longest time without a visit {longest:.2?}; up to {most} processes at once");
    for lasting in &watched.lasting {
        println!("stress: {lasting}");
    }
    println!("stress: {:?}", stress.ends.lock().unwrap());
    // By force, since users of the Python module that were killed have left themselves counted as waiting.
    stress.tool(&["remove", "-q", "--force"], &[0, 1]);
    let mut prune = binary();
    prune.args(["prune", "-q", "--idle", "0", &format!("{}*", lock.name())]);
    assert!(prune.status().unwrap().success());
    let after = shared_memory();
    let shown =
        |files: &BTreeMap<String, u64>| format!("{} bytes in {} files", files.values().sum::<u64>(), files.len());
    println!("stress: /dev/shm: {} before, {} after", shown(&before), shown(&after));
    let left: Vec<_> = after.keys().filter(|name| name.contains(lock.name())).collect();
    assert!(left.is_empty(), "left in /dev/shm: {left:?}");
    let wrong = stress.wrong.lock().unwrap();
    let found = [&wrong[..], &verdict.overlaps, &verdict.inversions, &verdict.losses].concat();
    let around = verdict.around(folder.path());
    assert!(
        found.is_empty(),
        "with seed {seed}:\n{}\nThe journal before that:\n{around}",
        found.join("\n")
    );
    assert!(verdict.visits > 0 && verdict.python_visits > 0);
    assert!(verdict.package_visits > 0 || crowd.packages == 0);
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
