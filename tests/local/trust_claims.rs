//! What a table claims of holders, deaths, times, processes and tokens is displayed, and nothing more: nobody is
//! signalled for it, nobody waits longer, nothing overflows (T4, T10). And what a member of a group can do to another.

use super::trust_t2::Stage;
use crate::common::forged::{ABANDONED, Forged, HELD, NEXT_TICKET, NEXT_TOKEN, OFFERED, Request, STALLED, WAITING};
use crate::common::machine::{ALICE, BOB, I2C, MALLORY, Machine, ROOT, User, finished, give, interrupted};
use crate::common::{LineChild, is_chosen, wait_until};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

/// A process that nobody may end for a lock.
struct Bystander(LineChild);

impl Bystander {
    fn new(machine: &Machine, user: User) -> Self {
        let mut command = machine.program(user, "sh");
        command.args(["-c", "echo up; read line; echo \"$line\""]);
        command.env("RESOURCELOCK_HELD", "7:another/8:bus2");
        let mut child = LineChild::spawn(&mut command);
        child.wait_for_line("up");
        Self(child)
    }

    /// Its number, and when it was started, as a table has them.
    fn process(&self) -> (u32, u64) {
        process(self.0.id())
    }

    /// It was not signalled: it still answers.
    fn answers(mut self) {
        self.0.send("unharmed");
        self.0.wait_for_line("unharmed");
        assert!(self.0.wait().success());
    }
}

fn process(pid: u32) -> (u32, u64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    (pid, rest.split(' ').nth(19).unwrap().parse().unwrap())
}

/// A lock of this user with a forged table, whose semaphore is as that table says: taken, or free.
fn forge(name: &str, owner: User, semaphore: &[u8], taken: bool, table: &Forged) {
    let shm = Path::new("/dev/shm");
    let put = |path: &Path, content: &[u8]| {
        fs::write(path, content).unwrap();
        give(path, owner, owner.0);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let path = shm.join(format!("sem.{name}"));
    let mut word = semaphore.to_vec();
    if taken {
        word[..4].fill(0);
        word[6..8].copy_from_slice(&table.0[8..10]);
    }
    put(&path, &word);
    let inode = fs::metadata(&path).unwrap().ino();
    put(
        &shm.join(format!("resourcelock3.{name}")),
        &table.clone().for_semaphore(inode),
    );
    put(&shm.join(name), b"2026-01-01 00:00:00.000000 - forged\0");
}

/// Runs a command; how it ended. It may say what it likes, in lines of its own, but does not panic.
fn status(command: &mut Command) -> i32 {
    let output = finished(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{command:?}: {said}");
    assert!(
        said.lines().all(|line| line.starts_with("resourcelock: ")),
        "{command:?}: {said}"
    );
    output
        .status
        .code()
        .unwrap_or_else(|| panic!("{command:?}: {}", output.status))
}

/// Every command on the lock, by root.
fn try_all(machine: &Machine, name: &str, what: &str) {
    let root = |words: &[&str]| {
        let mut command = machine.command(ROOT);
        command.args(words);
        command
    };
    let on = |words: &[&str]| root(&[&["--mode", "666", name], words].concat());
    for words in [&["state", "--json"][..], &["history", "--json"]] {
        let output = finished(&mut on(words));
        assert!(output.status.success(), "{what}: {output:?}");
        let parsed: Result<Value, _> = serde_json::from_slice(&output.stdout);
        assert!(parsed.is_ok(), "{what}: {}", String::from_utf8_lossy(&output.stdout));
    }
    for words in [
        &["state"][..],
        &["history"],
        &["history", "--svg", "-"],
        &["history", "--html", "-"],
    ] {
        let output = finished(&mut on(words));
        assert!(output.status.success(), "{what} {words:?}: {output:?}");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            !shown.contains('\x1b') && !shown.contains('\u{202e}'),
            "{what} {words:?}: {shown}"
        );
    }
    assert!(
        interrupted(&mut on(&["trace", "-u", "0.001"])).status.success(),
        "{what}"
    );
    for words in [
        &["list"][..],
        &["list", "--json"],
        &["list", "--prometheus"],
        &["doctor"],
    ] {
        assert!([0, 1].contains(&status(&mut root(words))), "{what} {words:?}");
    }
    // None of them waits for what the table says of times.
    for words in [
        &["run", "-n", "--", "true"][..],
        &["run", "-t", "0.02", "--", "true"],
        &["run", "-s", "-t", "0.02", "--", "true"],
        &["run", "-j", "3", "-t", "0.02", "--", "true"],
        &["run", "--replace", "-t", "0.02", "--", "true"],
        &["get", "-q", "-t", "0.02"],
        &["unget", "--pid", "1"],
        &["unget", "--token", "18446744073709551615"],
        &["unget", "--token", "0"],
    ] {
        let status = status(&mut on(words));
        assert!([0, 1, 75, 125].contains(&status), "{what} {words:?}: {status}");
    }
    // By force it is released, and removed; then it is as new.
    assert_eq!(status(&mut on(&["unget", "-q"])), 0, "{what}");
    assert_eq!(status(&mut root(&[name, "remove", "--force"])), 0, "{what}");
    assert_eq!(status(&mut root(&[name, "run", "-n", "-q", "--", "true"])), 0, "{what}");
}

const TIMES: [u64; 6] = [0, 1, 1 << 40, i64::MAX as u64, u64::MAX - 1, u64::MAX];

/// Holders and waiters that name processes of anybody, with the right start time, for every stage and time; of a table of
/// root's own, or of a stranger's that root is told to use (both of them with `RESOURCELOCK_ALL_CASES=1`).
#[test]
fn processes_and_times() {
    Machine::run(|machine| {
        let stage = Stage::new(machine);
        let (good, semaphore) = (Forged(stage.table.clone()), fs::read("/dev/shm/sem.victim").unwrap());
        let bystanders = [ROOT, ALICE, MALLORY].map(|user| Bystander::new(machine, user));
        let mut processes: Vec<(u32, u64)> = bystanders.iter().map(Bystander::process).collect();
        processes.extend([
            process(1),
            process(std::process::id()),
            (0, 0),
            (u32::MAX, u64::MAX),
            (1, 0),
        ]);
        let mut number = 0;
        for (nth, stage) in [HELD, WAITING, OFFERED, STALLED].into_iter().enumerate() {
            for (at, time) in TIMES.into_iter().enumerate() {
                let mut table = good.clone().header(NEXT_TICKET, 100);
                for (record, (pid, start)) in processes.iter().enumerate() {
                    let request = Request {
                        stage,
                        kind: (record % 2) as u8,
                        ticket: record as u64 + 1,
                        token: [7, time][record % 2],
                        time,
                        expires: TIMES[(at + record) % TIMES.len()],
                        holder: [0, 1, u32::MAX][record % 3],
                        keeper: [0, u32::MAX][record % 2],
                        pid: *pid,
                        bound_pid: *pid,
                        bound_start: *start,
                        slots: [0, 3, u32::MAX][record % 3],
                    };
                    table = table.request(record, request);
                }
                for (whose, owner) in [ROOT, MALLORY].into_iter().enumerate() {
                    if !is_chosen(nth + at + whose, 2) {
                        continue;
                    }
                    let name = format!("claims-{number}");
                    number += 1;
                    forge(&name, owner, &semaphore, stage == HELD || stage == OFFERED, &table);
                    try_all(machine, &name, &format!("stage {stage}, time {time}, of {owner:?}"));
                }
            }
        }
        for bystander in bystanders {
            bystander.answers();
        }
    });
}

/// Requests that nobody made, and that look alive as nobody can tell: each is passed over once it has not accepted.
#[test]
fn requests_that_never_accept() {
    Machine::run(|machine| {
        let forge_stage = Stage::new(machine);
        let (good, semaphore) = (
            Forged(forge_stage.table.clone()),
            fs::read("/dev/shm/sem.victim").unwrap(),
        );
        for stage in [WAITING, OFFERED, STALLED] {
            let mut table = good.clone().header(NEXT_TICKET, 100);
            for record in 0..4 {
                let request = Request {
                    stage,
                    ticket: record + 1,
                    time: u64::MAX,
                    ..Request::default()
                };
                table = table.request(record as usize, request);
            }
            let name = format!("never-{stage}");
            forge(&name, ROOT, &semaphore, stage == OFFERED, &table);
            let mut run = machine.command(ROOT);
            run.args([&name, "run", "--", "echo", "ran"]);
            assert_eq!(
                String::from_utf8(finished(&mut run).stdout).unwrap(),
                "ran\n",
                "{stage}"
            );
        }
    });
}

/// A holder that names another's process, alone, so that it is the one that `--replace` asks: a bystander's start time
/// is no secret.
#[test]
fn nobody_is_signalled_for_a_claim() {
    Machine::run(|machine| {
        let stage = Stage::new(machine);
        let (good, semaphore) = (Forged(stage.table.clone()), fs::read("/dev/shm/sem.victim").unwrap());
        for (number, user) in [ROOT, ALICE, MALLORY].into_iter().enumerate() {
            let bystander = Bystander::new(machine, user);
            let (pid, start) = bystander.process();
            // By a handle's beacon, by a keeper that cannot be probed any more, by none.
            for (way, (holder, keeper)) in [(1, 0), (1, u32::MAX), (0, 0)].into_iter().enumerate() {
                let request = Request {
                    stage: HELD,
                    ticket: 1,
                    token: 7,
                    holder,
                    keeper,
                    pid,
                    bound_pid: pid,
                    bound_start: start,
                    ..Request::default()
                };
                let table = good
                    .clone()
                    .header(NEXT_TICKET, 2)
                    .header(NEXT_TOKEN, 8)
                    .request(0, request);
                for owner in [ROOT, MALLORY] {
                    let name = format!("claim-{number}-{way}-{}", owner.name());
                    forge(&name, owner, &semaphore, true, &table);
                    let mut replace = machine.command(ROOT);
                    replace.args(["--mode", "666", &name, "run", "--replace", "-t", "0.1", "--", "true"]);
                    assert_eq!(status(&mut replace), 75, "{name}");
                    let mut replace = machine.command(ROOT);
                    replace.args([&name, "run", "--replace", "-t", "0.1", "--", "true"]);
                    assert_eq!(status(&mut replace), if owner == ROOT { 75 } else { 125 }, "{name}");
                }
            }
            bystander.answers();
        }
    });
}

/// A mark that a holder died, and histories full of nonsense; of a lock that is taken, or free (both of them with
/// `RESOURCELOCK_ALL_CASES=1`).
#[test]
fn deaths_counters_and_histories() {
    Machine::run(|machine| {
        let stage = Stage::new(machine);
        let (good, semaphore) = (Forged(stage.table.clone()), fs::read("/dev/shm/sem.victim").unwrap());
        let mut number = 0;
        for (nth, value) in TIMES.into_iter().enumerate() {
            for (at, table) in [
                good.clone().header(ABANDONED, value),
                good.clone().all_numbers(value),
                good.clone().past(value, value),
                good.clone().past(value, 0x0003_0103),
                good.clone().all_numbers(value).past(value, 1).header(ABANDONED, value),
            ]
            .into_iter()
            .enumerate()
            {
                for taken in [false, true] {
                    if !is_chosen(nth + at + usize::from(taken), 2) {
                        continue;
                    }
                    let name = format!("past-{number}");
                    number += 1;
                    forge(&name, ROOT, &semaphore, taken, &table);
                    try_all(machine, &name, &format!("value {value}, taken: {taken}, {number}"));
                }
            }
        }
        // The command under the lock is told of a death; its text is a number, whatever the table says.
        for (value, told) in [(0, "none\n"), (u64::MAX, "1\n")] {
            let name = format!("death-{value}");
            forge(&name, ROOT, &semaphore, false, &good.clone().header(ABANDONED, value));
            let mut run = machine.command(ROOT);
            run.args([&name, "run", "--", "sh", "-c", "echo ${RESOURCELOCK_ABANDONED:-none}"]);
            assert_eq!(String::from_utf8(finished(&mut run).stdout).unwrap(), told);
        }
    });
}

/// What a member of a group can do to another one's hold, and what not.
#[test]
fn a_member_of_a_group_against_another() {
    Machine::run(|machine| {
        let by = |user: User, words: &[&str]| {
            let mut command = machine.member(user);
            command.args(["--group", "i2c", "--mode", "660", "scan"]).args(words);
            command
        };
        let start = || {
            let mut running = LineChild::spawn(&mut by(
                ALICE,
                &["run", "--", "sh", "-c", "echo up; read line; echo $line"],
            ));
            running.wait_for_line("up");
            wait_until("its process is recorded", || {
                let state: Value =
                    serde_json::from_slice(&finished(&mut by(BOB, &["state", "--json"])).stdout).unwrap();
                state["holders"][0]["bound_pid"].is_number()
            });
            running
        };
        let mut running = start();
        let file = fs::metadata("/dev/shm/sem.scan").unwrap();
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (ALICE.0, I2C, 0o660));
        // He does not get it beside her, and cannot end her command or delete the lock.
        assert_eq!(status(&mut by(BOB, &["run", "-n", "--", "true"])), 75);
        let replace = finished(&mut by(BOB, &["run", "--replace", "-t", "0.1", "--", "true"]));
        let said = String::from_utf8(replace.stderr).unwrap();
        assert_eq!(replace.status.code(), Some(75), "{said}");
        assert!(
            said.contains("belongs to another user and cannot be examined"),
            "{said}"
        );
        for words in [&["remove"][..], &["remove", "--force"]] {
            let output = finished(&mut by(BOB, words));
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(125), "{words:?}: {said}");
            assert!(Path::new("/dev/shm/sem.scan").exists());
        }
        running.send("unharmed");
        running.wait_for_line("unharmed");
        assert!(running.wait().success(), "the attempts changed nothing");
        // He can release it: her command goes on without, and she is told.
        let mut running = start();
        assert_eq!(status(&mut by(BOB, &["unget"])), 0);
        assert_eq!(status(&mut by(BOB, &["run", "-n", "--", "true"])), 0);
        running.send("on");
        running.wait_for_line("on");
        assert_eq!(running.wait().code(), Some(76));
        // He can overwrite the table: the lock is refused, to both, until its owner or root removes that.
        fs::write("/dev/shm/garbage", vec![7; 200_000]).unwrap();
        let mut write = machine.program(BOB, "sh");
        std::os::unix::process::CommandExt::gid(&mut write, I2C);
        write.args(["-c", "cat /dev/shm/garbage > /dev/shm/resourcelock3.scan"]);
        assert!(finished(&mut write).status.success());
        for user in [ALICE, BOB] {
            assert_eq!(status(&mut by(user, &["run", "-n", "-E", "0", "--", "true"])), 125);
        }
        assert_eq!(status(&mut by(BOB, &["remove", "--force"])), 125);
        assert_eq!(status(&mut by(ALICE, &["remove", "--force"])), 0);
        assert_eq!(
            status(&mut by(BOB, &["run", "-n", "--", "true"])),
            125,
            "half made: hers to complete"
        );
        assert_eq!(status(&mut by(ALICE, &["run", "-n", "--", "true"])), 0);
        assert_eq!(status(&mut by(BOB, &["run", "-n", "--", "true"])), 0);
    });
}
