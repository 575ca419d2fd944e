//! Kill storm on the real program: several threads keep starting `run`, and the wrapper or its command is killed
//! (SIGKILL) at random instants. No two overlap, no update is lost, tokens grow, nothing ever hangs.
//!
//! 500 kills, or as many as `RESOURCELOCK_STORM_KILLS` says.

use crate::common::run::command_of;
use crate::common::witness::percentile;
use crate::common::worker::monotonic;
use crate::common::{TestLock, Witness, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Set in the environment of the command under `run` to the witness's directory.
const STEP: &str = "RESOURCELOCK_TEST_STEP";

/// As the command under `run`, makes one visit; as a test, runs one such command.
#[test]
fn step() {
    if let Some(folder) = std::env::var_os(STEP) {
        visit(Path::new(&folder));
        return;
    }
    let (lock, folder) = (TestLock::new("storm"), tempfile::tempdir().unwrap());
    assert!(run(&lock, folder.path()).spawn().unwrap().wait().unwrap().success());
    assert_eq!(Witness::open(folder.path()).read().value, 1);
    assert!(!folder.path().join("wrong").exists());
}

fn visit(folder: &Path) {
    let token = std::env::var("RESOURCELOCK_TOKEN")
        .expect("a token")
        .parse()
        .expect("a number");
    let visit = Witness::open(folder).visit(token, || std::thread::sleep(Duration::from_micros(monotonic() % 500)));
    let note = |file: &str, line: String| {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .append(true)
            .create(true)
            .open(folder.join(file))
            .expect("a file");
        file.write_all(line.as_bytes()).expect("written");
    };
    if let Some(wrong) = visit.wrong {
        note("wrong", format!("{wrong}\n"));
    }
    if std::env::var_os("RESOURCELOCK_ABANDONED").is_some() {
        note("gaps", format!("{}\n", visit.gap));
    }
}

/// `resourcelock NAME run -- …`, of a command that makes one visit.
fn run(lock: &TestLock, folder: &Path) -> Command {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = lock.command(&["run", "--", program.to_str().expect("UTF-8")]);
    command
        .args(["storm_commands::step", "--exact", "--quiet", "--nocapture"])
        .env(STEP, folder);
    command.stdout(std::process::Stdio::null());
    command
}

#[test]
fn a_storm_of_kills_is_survived() {
    let kills = std::env::var("RESOURCELOCK_STORM_KILLS").map_or(500, |kills| kills.parse().expect("a number"));
    let (lock, folder) = (TestLock::new("storm"), tempfile::tempdir().unwrap());
    let killed = [const { AtomicUsize::new(0) }; 2]; // wrappers, commands
    let all = || killed[0].load(SeqCst) + killed[1].load(SeqCst);
    std::thread::scope(|scope| {
        for side in 0..4u64 {
            let (lock, folder, killed, all) = (&lock, folder.path(), &killed, &all);
            scope.spawn(move || {
                let mut random = monotonic() | 1;
                while all() < kills {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(side * 2 + 1);
                    let mut wrapper = run(lock, folder).spawn().unwrap();
                    if random >> 40 & 3 != 0 {
                        let victim = (random >> 42 & 1) as usize;
                        let command = (victim == 1).then(|| command_of(&mut wrapper));
                        let soon = if victim == 0 { 9000 } else { 3000 };
                        std::thread::sleep(Duration::from_micros((random >> 44) % soon));
                        let pid = command.unwrap_or(Some(Pid::from_raw(wrapper.id() as i32)));
                        if pid.is_some_and(|pid| kill(pid, Signal::SIGKILL).is_ok()) {
                            killed[victim].fetch_add(1, SeqCst);
                        }
                    }
                    let status = wrapper.wait().unwrap();
                    assert!(
                        status.success() || status.signal() == Some(Signal::SIGKILL as i32),
                        "{status}"
                    );
                }
            });
        }
    });
    // A command whose wrapper was killed may still be inside.
    wait_until("the last command has exited", || !lock.state().locked);
    let witness = Witness::open(folder.path()).read();
    let lines = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    assert_eq!(lines("wrong"), "");
    let mut gaps: Vec<u64> = lines("gaps").lines().map(|gap| gap.parse().unwrap()).collect();
    println!(
        "{} wrappers and {} commands killed, {} visits, {} holds abandoned; the next visit (ms, starting it included) \
         p50 {:.1} p99 {:.1} worst {:.1} after the one before",
        killed[0].load(SeqCst),
        killed[1].load(SeqCst),
        witness.value,
        lock.state().counters.unwrap().abandoned,
        percentile(&mut gaps, 50),
        percentile(&mut gaps, 99),
        percentile(&mut gaps, 100),
    );
    lock.open().repair().unwrap();
    let state = lock.state();
    assert!(
        state.holders.is_empty() && state.waiters.is_empty() && lock.flag_word().value == 1,
        "{state:?}"
    );
    assert!(state.counters.as_ref().unwrap().acquisitions >= witness.value);
}
