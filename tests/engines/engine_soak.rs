//! Commands under one lock of an engine, while its servers are killed, stopped and started again, and holders are killed
//! and stopped: no two commands run at once, tokens grow, and after each fault the lock is granted again.
//!
//! In the suite one fault each, for both engines; `scripts/soak.sh 30m` goes on for half an hour, with more processes.

use crate::common::{Dice, asked};
use crate::engine_common::etcd::Etcd;
use crate::engine_common::journal::Journal;
use crate::engine_common::postgres::Postgres;
use crate::engine_common::signal;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How long a server is stopped at most: longer than a lease.
const LONGEST_STOP: u64 = 9000;

/// The lock is stuck if no command has run for so long, though the engine has served others at once all that time.
const STUCK: Duration = Duration::from_secs(120);
/// What "at once" means: as long as the holds last that nobody renews.
const TTL: Duration = Duration::from_secs(5);
/// An engine that has not served anybody else for so long is given up, and with it the soak.
const LONGEST_OUTAGE: Duration = Duration::from_secs(900);

/// How long it goes on, and with what choices.
struct Soak {
    time: Duration,
    runners: u64,
    dice: Dice,
}

/// What its servers can be asked for.
struct Servers<E> {
    name: &'static str,
    servers: E,
    /// Makes something happen to them, and begins to heal it; returns its name.
    fault: fn(&mut E, &mut Dice) -> &'static str,
    /// True if they serve another client than us: a write.
    serve: fn(&E) -> bool,
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

    /// Runs commands, and makes one fault after the other, until the time is over.
    fn run<E>(mut self, mut engine: Servers<E>, journal: &Journal) {
        let name = engine.name;
        let commands = Commands::default();
        let (mut faults, mut longest) = (BTreeMap::<_, usize>::new(), Duration::ZERO);
        let mut outage = Duration::ZERO;
        let mut stuck = None;
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
            loop {
                match commands.go_on(|| (engine.serve)(&engine.servers)) {
                    Ok(waited) => {
                        longest = longest.max(waited.served);
                        outage += waited.outage;
                    }
                    Err(why) => stuck = Some(why),
                }
                if stuck.is_some() || start.elapsed() >= self.time && !faults.is_empty() {
                    break;
                }
                if !faults.is_empty() {
                    std::thread::sleep(Duration::from_millis(self.dice.below(3000)));
                }
                *faults
                    .entry((engine.fault)(&mut engine.servers, &mut self.dice))
                    .or_default() += 1;
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
            "soak: {name}: {grants} grants, {kills} kills, {stops} stops; faults: {faults:?}; {} overlaps, {} inversions, \
             stuck: {stuck:?}; the longest time until a command has run after a fault {longest:.2?}, not counted {outage:.2?} \
             in which the servers, once healed, did not serve others either",
            overlaps.len(),
            inversions.len(),
        );
        println!("soak: {name}: ends: {:?}", commands.ends.lock().unwrap());
        assert!(
            overlaps.is_empty() && inversions.is_empty(),
            "{overlaps:#?}\n{inversions:#?}"
        );
        let wrong = commands.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(stuck, None);
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

    /// Waits until another command has run from beginning to end. Only the time counts in which the engine serves another
    /// client at once. On a busy machine its servers may get a processor too rarely to elect a leader, or to renew a lease.
    fn go_on(&self, serves: impl Fn() -> bool) -> Result<Waited, String> {
        let before = self.successes.load(SeqCst);
        let mut waited = Waited::default();
        let mut served_since = Instant::now();
        let mut since_served = Instant::now();
        while self.successes.load(SeqCst) == before {
            let asked = Instant::now();
            let at_once = serves() && asked.elapsed() < TTL;
            std::thread::sleep(Duration::from_millis(200));
            if at_once {
                since_served = Instant::now();
            } else {
                waited.outage += asked.elapsed();
                served_since = Instant::now();
            }
            waited.served = waited.served.max(served_since.elapsed());
            if waited.served > STUCK {
                return Err(format!(
                    "no command has run for {:?}, though the engine serves others",
                    waited.served
                ));
            }
            if since_served.elapsed() > LONGEST_OUTAGE {
                return Err(format!(
                    "the engine has not served others for {:?} either",
                    since_served.elapsed()
                ));
            }
        }
        Ok(waited)
    }
}

/// Until a command has run.
#[derive(Default)]
struct Waited {
    /// The longest time in which the engine served others without interruption.
    served: Duration,
    /// While it did not.
    outage: Duration,
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

fn etcd_fault(etcd: &mut Etcd, dice: &mut Dice) -> &'static str {
    match dice.below(6) {
        0 | 1 => {
            let leader = etcd.leader();
            etcd.kill(leader);
            std::thread::sleep(stopped_time(dice));
            etcd.start(leader);
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
            "all killed"
        }
    }
}

#[test]
fn etcd_servers_come_and_go() {
    let servers = Etcd::three();
    let journal = Journal::new(&servers.url(), "soak");
    let engine = Servers {
        name: "etcd",
        servers,
        fault: etcd_fault,
        serve: |etcd| {
            let put = etcd.etcdctl(&["put", "soak", "served"]).output();
            put.is_ok_and(|output| output.status.success())
        },
    };
    Soak::asked().run(engine, &journal);
}

fn postgres_fault(server: &mut Postgres, dice: &mut Dice) -> &'static str {
    match dice.below(3) {
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
    }
}

#[test]
fn a_postgresql_server_comes_and_goes() {
    let servers = Postgres::start();
    let journal = Journal::new(&servers.url(), "soak");
    let engine = Servers {
        name: "PostgreSQL",
        servers,
        fault: postgres_fault,
        serve: |server| {
            server
                .try_sql("postgres", "SELECT pg_current_xact_id()")
                .status
                .success()
        },
    };
    Soak::asked().run(engine, &journal);
}
