//! Commands under one lock of an engine, while its servers are killed, stopped and started again, and holders are killed
//! and stopped: no two commands run at once, tokens grow, and after each fault the lock is granted again.
//!
//! In the suite one fault each, for both engines; `scripts/soak.sh 30m` goes on for half an hour, with more processes.

use crate::common::{Dice, asked};
use crate::engine_common::etcd::Etcd;
use crate::engine_common::journal::Journal;
use crate::engine_common::postgres::Postgres;
use crate::engine_common::{signal, wait_until};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How long a server is stopped at most: longer than a lease.
const LONGEST_STOP: u64 = 9000;

/// How long it goes on, and with what choices.
struct Soak {
    time: Duration,
    runners: u64,
    dice: Dice,
}

impl Soak {
    fn asked() -> Self {
        let time = asked::time();
        Self {
            time: time.unwrap_or_default(),
            runners: if time.is_some() { 5 } else { 3 },
            dice: Dice::new(asked::seed().unwrap_or_default()),
        }
    }

    /// Runs commands, and `fault` again and again, until the time is over.
    fn run(mut self, engine: &str, journal: &Journal, mut fault: impl FnMut(&mut Dice) -> &'static str) {
        let commands = Commands::default();
        let (mut faults, mut longest) = (BTreeMap::<_, usize>::new(), Duration::ZERO);
        std::thread::scope(|scope| {
            for runner in 0..self.runners {
                let (commands, mut dice) = (&commands, Dice::new(self.dice.below(1 << 40) + runner));
                scope.spawn(move || {
                    while !commands.stop.load(SeqCst) {
                        commands.one(journal, &mut dice);
                    }
                });
            }
            let stop = StopAtEnd(&commands.stop);
            let start = Instant::now();
            commands.go_on();
            loop {
                *faults.entry(fault(&mut self.dice)).or_default() += 1;
                let healed = Instant::now();
                commands.go_on();
                longest = longest.max(healed.elapsed());
                if start.elapsed() >= self.time {
                    break;
                }
                std::thread::sleep(Duration::from_millis(self.dice.below(3000)));
            }
            drop(stop);
        });
        let intervals = journal.intervals();
        let [mut overlaps, mut inversions] = [vec![], vec![]];
        for pair in intervals.windows(2) {
            if pair[0].last >= pair[1].first {
                overlaps.push(pair);
            }
            if pair[0].token >= pair[1].token {
                inversions.push(pair);
            }
        }
        let (grants, kills, stops) = (
            intervals.len(),
            commands.kills.load(SeqCst),
            commands.stops.load(SeqCst),
        );
        println!(
            "soak: {engine}: {grants} grants, {kills} kills, {stops} stops; faults: {faults:?}; {} overlaps, {} inversions; \
             the longest time until a grant after a fault {longest:.2?}",
            overlaps.len(),
            inversions.len(),
        );
        println!("soak: {engine}: ends: {:?}", commands.ends.lock().unwrap());
        assert!(
            overlaps.is_empty() && inversions.is_empty(),
            "{overlaps:#?}\n{inversions:#?}"
        );
        let wrong = commands.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// Lets the commands end, also when this thread panics.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// What the runners share.
#[derive(Default)]
struct Commands {
    stop: AtomicBool,
    kills: AtomicUsize,
    stops: AtomicUsize,
    successes: AtomicUsize,
    ends: Mutex<BTreeMap<i32, usize>>,
    /// Ends that nothing explains, and what was said.
    wrong: Mutex<Vec<String>>,
}

impl Commands {
    /// Runs one command, and perhaps kills or stops its wrapper or kills the command itself.
    fn one(&self, journal: &Journal, dice: &mut Dice) {
        let seconds = u32::from(dice.percent(30));
        let mut command = journal.command(&["run", "-q", "--ttl", "5", "-t", "20s", "--"]);
        command.args(journal.beat(seconds, &[])).stdin(Stdio::null());
        let mut wrapper = command.stderr(Stdio::piped()).spawn().expect("it starts");
        std::thread::sleep(Duration::from_millis(dice.below(1500)));
        let strike = dice.below(10);
        if wrapper.try_wait().expect("it can be waited for").is_none() {
            match strike {
                0 | 1 => {
                    wrapper.kill().expect("it can be killed");
                    self.kills.fetch_add(1, SeqCst);
                }
                2 => {
                    signal(wrapper.id(), "STOP");
                    std::thread::sleep(Duration::from_millis(dice.below(LONGEST_STOP)));
                    signal(wrapper.id(), "CONT");
                    self.stops.fetch_add(1, SeqCst);
                }
                3 => signal(wrapper.id(), "TERM"),
                _ => {}
            }
        }
        let output = wrapper.wait_with_output().expect("it can be waited for");
        let status = exit_status(output.status);
        *self.ends.lock().unwrap().entry(status).or_default() += 1;
        match status {
            0 => drop(self.successes.fetch_add(1, SeqCst)),
            // The engine is gone.
            69 => std::thread::sleep(Duration::from_millis(200)),
            // Not acquired in time; lost; killed.
            75 | 76 | 137 | 143 => {}
            _ => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                self.wrong.lock().unwrap().push(format!("status {status}: {said}"));
            }
        }
    }

    /// Waits until another command has run from beginning to end.
    fn go_on(&self) {
        let before = self.successes.load(SeqCst);
        wait_until("another command has run", || self.successes.load(SeqCst) > before);
    }
}

fn exit_status(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().expect("exited or killed"))
}

fn stopped_time(dice: &mut Dice) -> Duration {
    Duration::from_millis(dice.below(LONGEST_STOP))
}

#[test]
fn etcd_servers_come_and_go() {
    let soak = Soak::asked();
    let mut etcd = Etcd::three();
    let journal = Journal::new(&etcd.url(), "soak");
    soak.run("etcd", &journal, |dice| match dice.below(6) {
        0 | 1 => {
            let leader = etcd.leader();
            etcd.kill(leader);
            std::thread::sleep(stopped_time(dice));
            etcd.start(leader);
            etcd.wait_ready();
            "leader killed"
        }
        2 => {
            let member = dice.below(3) as usize;
            etcd.signal(member, "STOP");
            std::thread::sleep(stopped_time(dice));
            etcd.signal(member, "CONT");
            "member stopped"
        }
        3 => {
            let member = dice.below(3) as usize;
            etcd.signal(member, "TERM");
            etcd.wait_end(member);
            etcd.start(member);
            etcd.wait_ready();
            "member restarted"
        }
        4 => {
            etcd.signal_all("STOP");
            std::thread::sleep(stopped_time(dice));
            etcd.signal_all("CONT");
            "all stopped"
        }
        _ => {
            etcd.kill_all();
            std::thread::sleep(stopped_time(dice));
            (0..3).for_each(|member| etcd.start(member));
            etcd.wait_ready();
            "all killed"
        }
    });
}

#[test]
fn a_postgresql_server_comes_and_goes() {
    let soak = Soak::asked();
    let mut server = Postgres::start();
    let journal = Journal::new(&server.url(), "soak");
    soak.run("PostgreSQL", &journal, |dice| match dice.below(3) {
        0 => {
            server.signal_all("STOP");
            std::thread::sleep(stopped_time(dice));
            server.signal_all("CONT");
            "stopped"
        }
        1 => {
            server.stop();
            server.restart();
            "restarted"
        }
        _ => {
            server.kill();
            std::thread::sleep(stopped_time(dice));
            server.restart();
            "killed"
        }
    });
}
