//! Processes that work at the same time: this program starts itself again as workers. A worker prints `ready`, waits
//! for a line, does its work, and prints its numbers on one line.

use crate::contenders::{self, Contender, Kind};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use resourcelock::{GetOptions, ResourceLock, Wait};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

/// How long each holder waits before it hands over, so that the next one is asleep.
pub const ASLEEP: Duration = Duration::from_millis(3);

/// A process that answers each line with a line of numbers; killed on drop.
pub struct Worker {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts this program as a worker, and waits until it is ready.
    pub fn start(order: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.arg("worker").args(order);
        Self::of(&mut command).expect("a worker starts")
    }

    /// Starts another program that works like one.
    ///
    /// # Errors
    /// What it says instead of `ready`.
    pub fn of(command: &mut Command) -> Result<Self, String> {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.map_err(|error| format!("{command:?}: {error}"))?;
        let output = BufReader::new(child.stdout.take().expect("its output is connected"));
        let mut worker = Self { child, output };
        match &*worker.line() {
            "ready" => Ok(worker),
            "" => Err("it does not start".to_owned()),
            line => Err(line.to_owned()),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets it begin.
    pub fn go(&mut self) {
        self.tell("go");
    }

    /// Lets it do something.
    pub fn tell(&mut self, order: &str) {
        writeln!(self.child.stdin.as_mut().expect("its input is open"), "{order}").expect("it reads");
    }

    /// The only number of the next line.
    pub fn number(&mut self) -> f64 {
        self.numbers()[0]
    }

    /// What it prints when it has done that.
    pub fn answer(&mut self, order: &str) -> f64 {
        self.tell(order);
        self.number()
    }

    /// The next line it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it speaks");
        line.trim_end().to_owned()
    }

    /// The numbers it prints.
    pub fn numbers(&mut self) -> Vec<f64> {
        self.line()
            .split(' ')
            .map(|word| word.parse().expect("a number"))
            .collect()
    }

    /// Lets it remove what it made.
    pub fn finish(&mut self) {
        let _ = writeln!(self.child.stdin.as_mut().expect("its input is open"), "end");
        let _ = self.child.wait();
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Monotonic time, ns.
pub fn monotonic() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("the clock runs");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// CPU time that this process has used.
fn processor_time() -> Duration {
    let clock = nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID;
    nix::time::clock_gettime(clock).expect("the clock runs").into()
}

fn say(text: &str) {
    println!("{text}");
    std::io::stdout().flush().expect("somebody listens");
}

fn begin() {
    say("ready");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).expect("a line");
}

/// Runs a worker.
pub fn work(order: &[String]) {
    let order: Vec<&str> = order.iter().map(String::as_str).collect();
    let number = |at: usize| order[at].parse::<u64>().expect("a number");
    match order[0] {
        "loop" => tight_loop(&mut *contenders::open(order[1]), number(2)),
        "turns" => turns(&mut *contenders::open(order[1]), number(2), [number(3), number(4)]),
        "pass" => pass(&mut *contenders::open(order[1]), number(2)),
        "once" => once(&mut *contenders::open(order[1])),
        "told" => told(number(1) as u32),
        "crowd" => crowd(order[1], number(2)),
        "reader" => reader(order[1]),
        other => panic!("no such work: {other}"),
    }
}

/// Gets and ungets for `ms` milliseconds. Prints how often, and how often per second of CPU time.
fn tight_loop(lock: &mut dyn Contender, ms: u64) {
    begin();
    let used = || processor_time().as_secs_f64();
    let (end, before) = (Instant::now() + Duration::from_millis(ms), used());
    let mut grants = 0u64;
    while Instant::now() < end {
        for _ in 0..20 {
            lock.lock();
            lock.unlock();
        }
        grants += 20;
    }
    say(&format!("{grants} {}", grants as f64 / (used() - before)));
}

/// The same, holding and pausing for the given microseconds. Prints how often.
fn turns(lock: &mut dyn Contender, ms: u64, [hold, pause]: [u64; 2]) {
    begin();
    let end = Instant::now() + Duration::from_millis(ms);
    let mut grants = 0u64;
    while Instant::now() < end {
        lock.lock();
        if hold > 0 {
            std::thread::sleep(Duration::from_micros(hold));
        }
        lock.unlock();
        if pause > 0 {
            std::thread::sleep(Duration::from_micros(pause));
        }
        grants += 1;
    }
    say(&grants.to_string());
}

/// Takes turns with a partner. Prints for each round when it acquired the lock and when it released it.
fn pass(lock: &mut dyn Contender, rounds: u64) {
    begin();
    let mut times = Vec::new();
    for _ in 0..rounds {
        lock.lock();
        times.push(monotonic());
        std::thread::sleep(ASLEEP);
        times.push(monotonic());
        lock.unlock();
        // The partner was asleep and takes the lock now; then it is our turn to wait asleep.
        std::thread::sleep(Duration::from_micros(200));
    }
    let words: Vec<String> = times.iter().map(u64::to_string).collect();
    say(&words.join(" "));
}

/// Acquires the lock once, prints when, and keeps it.
fn once(lock: &mut dyn Contender) {
    begin();
    lock.lock();
    say(&monotonic().to_string());
    std::thread::sleep(Duration::from_secs(3600));
}

/// Sleeps until a thread that waits for the end of this process wakes it, if there is one; prints when that was, and stays.
fn told(pid: u32) {
    let holder = (pid != 0).then(|| contenders::end_of(pid));
    begin();
    if let Some(holder) = holder {
        let (waits, ended) = (std::thread::current(), Arc::new(AtomicBool::new(false)));
        let tells = ended.clone();
        std::thread::spawn(move || {
            let mut watched = [PollFd::new(holder.as_fd(), PollFlags::POLLIN)];
            poll(&mut watched, PollTimeout::NONE).expect("it can be waited for");
            tells.store(true, Release);
            waits.unpark();
        });
        while !ended.load(Acquire) {
            std::thread::park();
        }
    }
    say(&monotonic().to_string());
    std::thread::sleep(Duration::from_secs(3600));
}

/// Starts threads, each with its own handle, that wait for the lock and hold it once. Prints when each got it.
fn crowd(place: &str, threads: u64) {
    begin();
    let ours = place.strip_prefix(Kind::Ours.name()).map(|at| at[1..].to_owned());
    let threads: Vec<_> = (0..threads)
        .map(|_| {
            let (place, ours) = (place.to_owned(), ours.clone());
            let one = move || {
                if let Some(name) = ours {
                    let lock = ResourceLock::open(&name).expect("the lock opens");
                    let options = GetOptions::new().wait(Wait::Forever).queue_at_once(true);
                    let _guard = lock.acquire_with(&options).unwrap().expect("a grant");
                    return monotonic();
                }
                let mut lock = contenders::open(&place);
                lock.lock();
                let time = monotonic();
                lock.unlock();
                time
            };
            let builder = std::thread::Builder::new().stack_size(128 * 1024);
            builder.spawn(one).expect("a thread")
        })
        .collect();
    let times: Vec<String> = threads
        .into_iter()
        .map(|t| t.join().expect("no error").to_string())
        .collect();
    say(&times.join(" "));
}

/// Keeps reading the lock's state.
fn reader(name: &str) {
    let viewer = ResourceLock::builder(name).open_existing().expect("the lock is there");
    begin();
    loop {
        std::hint::black_box(viewer.state().unwrap());
    }
}
