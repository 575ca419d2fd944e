//! T7: one bad object spoils nothing else. What looks at all locks names what it cannot read, goes on, and needs time and
//! memory by the number of locks, whatever their tables claim.

use super::trust_t2::{Place, Stage, cells};
use crate::common::forged::{
    Forged, GAVE_UP_NEXT, HELD, HISTORY_NEXT, NEXT_TICKET, OFFERED, REQUESTS, Request, STALLED, WAITING,
};
use crate::common::machine::{ALICE, MALLORY, Machine, ROOT, User, finished, give};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

/// What looks at all locks of the machine, and how it may end.
const ALL: [(&[&str], &[i32]); 9] = [
    (&["list"], &[0]),
    (&["list", "--json"], &[0]),
    (&["list", "--prometheus"], &[0]),
    (&["completions", "bash", "--", "", ""], &[0]),
    (&["completions", "zsh", "--", ""], &[0]),
    (&["completions", "fish", "--", ""], &[0]),
    (&["doctor"], &[0, 1]),
    (&["doctor", "--json"], &[0, 1]),
    (&["doctor", "--fix"], &[0, 1]),
];

/// Runs one of them; returns what it printed. It says nothing else, unless it repairs something.
fn printed(command: &mut Command, statuses: &[i32]) -> String {
    let output = finished(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let status = output.status.code();
    assert!(
        status.is_some_and(|status| statuses.contains(&status)),
        "{command:?}: {status:?} {said}"
    );
    let repairs = command.get_args().any(|word| word == "--fix");
    assert!(
        said.is_empty() || repairs && !said.contains("panicked"),
        "{command:?}: {said}"
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Good locks between everything that may stand at a lock's paths.
#[test]
fn good_locks_among_bad_objects() {
    Machine::run(|machine| {
        let stage = Stage::new(machine);
        let mut number = 0;
        for caller in [ROOT, ALICE] {
            for place in [Place::Semaphore, Place::Note, Place::Table, Place::OlderTable] {
                for mut cell in cells(place, caller) {
                    // One name for each, over all places.
                    cell.number = number;
                    number += 1;
                    stage.set(&cell);
                }
            }
            let name = format!("good-{}", caller.name());
            let taken = finished(machine.command(caller).args([&name, "get", "-m", "in order"]));
            assert!(taken.status.success(), "{taken:?}");
        }
        for (caller, good) in [(ROOT, &["good-root"][..]), (ALICE, &["good-alice"])] {
            for (words, statuses) in ALL {
                let text = printed(machine.command(caller).args(words), statuses);
                let shown = |name: &str| text.contains(name);
                match words {
                    // All of them, whatever is wrong with them.
                    ["list"] | ["list", "--json"] | ["completions", ..] => {
                        assert!(
                            ["good-root", "good-alice"].into_iter().all(shown),
                            "{caller:?} {words:?}"
                        );
                    }
                    ["list", "--prometheus"] => {
                        for name in good {
                            assert!(
                                shown(&format!("resourcelock_held{{lock=\"{name}\"}} 1")),
                                "{caller:?} {name}"
                            );
                        }
                    }
                    _ => assert!(!shown("good-"), "nothing is wrong with those: {text}"),
                }
            }
            // What is wrong is said of each.
            let list: Value =
                serde_json::from_str(&printed(machine.command(caller).args(["list", "--json"]), &[0])).unwrap();
            let unreadable = list["unreadable"].as_array().unwrap();
            assert!(unreadable.len() > 50, "{}", unreadable.len());
            for one in unreadable {
                assert!(!one["reason"].as_str().unwrap().is_empty(), "{one}");
            }
            let doctor: Value =
                serde_json::from_str(&printed(machine.command(caller).args(["doctor", "--json"]), &[1])).unwrap();
            let findings = doctor["findings"].as_array().unwrap();
            let unusable: Vec<_> = findings
                .iter()
                .filter(|finding| finding["kind"] == "unusable")
                .collect();
            assert!(unusable.len() > 50, "{}", unusable.len());
            for finding in unusable {
                assert!(
                    finding["mend"].as_str().is_some_and(|mend| !mend.is_empty()),
                    "{finding}"
                );
            }
        }
    });
}

/// Tables that claim as much as fits.
fn forged(good: &Forged) -> Vec<Forged> {
    let mut all = Vec::new();
    for stage in [WAITING, OFFERED, HELD, STALLED] {
        for holder in [0, 1, u32::MAX] {
            let mut table = good.clone().header(NEXT_TICKET, u64::MAX);
            for number in 0..REQUESTS {
                let request = Request {
                    stage,
                    kind: (number % 4) as u8,
                    ticket: number as u64 + 1,
                    token: number as u64,
                    holder,
                    keeper: u32::MAX,
                    pid: number as u32,
                    bound_pid: number as u32,
                    slots: u32::MAX,
                    ..Request::default()
                };
                table = table.request(number, request);
            }
            all.push(table);
        }
    }
    for value in [1, 1 << 40, i64::MAX as u64, u64::MAX] {
        all.push(good.clone().all_numbers(value).past(value, value));
        all.push(good.clone().header(HISTORY_NEXT, value).header(GAVE_UP_NEXT, value));
    }
    all
}

/// Puts locks there whose tables are forged.
fn forge(name: &str, owner: User, semaphore: &[u8], table: Forged) {
    let put = |path: &Path, content: &[u8]| {
        fs::write(path, content).unwrap();
        give(path, owner, owner.0);
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    };
    let shm = Path::new("/dev/shm");
    let path = shm.join(format!("sem.{name}"));
    put(&path, semaphore);
    let inode = fs::metadata(&path).unwrap().ino();
    put(&shm.join(format!("resourcelock3.{name}")), &table.for_semaphore(inode));
    put(&shm.join(name), b"2026-01-01 00:00:00.000000 - forged\0");
}

/// How many system calls a command makes.
fn calls(machine: &Machine, caller: User, words: &[&str]) -> u64 {
    let report = Path::new("/dev/shm/.report");
    let mut traced = machine.program(caller, "strace");
    traced
        .args(["-f", "-c", "-o"])
        .arg(report)
        .arg(machine.folder().join("resourcelock"))
        .args(words);
    let output = finished(&mut traced);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    let report = fs::read_to_string(report).unwrap();
    let total = report.lines().find(|line| line.ends_with(" total")).expect("it counts");
    // Share of the time, seconds, µs for each, calls.
    let count = total.split_whitespace().nth(3).and_then(|word| word.parse().ok());
    count.unwrap_or_else(|| panic!("{report}"))
}

/// A look at an idle lock is three files: opened, examined, read and closed. Counted as what 100 more of them add.
#[test]
fn an_idle_lock_takes_few_system_calls() {
    Machine::run(|machine| {
        let used = finished(machine.command(ROOT).args(["idle", "run", "-m", "note", "--", "true"]));
        assert!(used.status.success(), "{used:?}");
        let counts = [10, 110].map(|locks| {
            for number in 0..locks {
                for prefix in ["sem.", "resourcelock3.", ""] {
                    let of = |name: &str| format!("/dev/shm/{prefix}{name}");
                    fs::copy(of("idle"), of(&format!("idle-{number}"))).unwrap();
                }
            }
            let of = |words: &[&str]| calls(machine, ROOT, words);
            [of(&["list"]), of(&["completions", "bash", "--", "", "idle"])]
        });
        for (few, many) in counts[0].into_iter().zip(counts[1]) {
            let each = (many - few) / 100;
            assert!((9..=30).contains(&each), "{each} system calls for each: {counts:?}");
        }
    });
}

/// 300 locks, each of which claims all that a table has room for: one's own and a stranger's. The work is counted in
/// system calls, the memory is limited.
#[test]
fn work_and_memory_are_bounded_by_the_number_of_locks() {
    Machine::run(|machine| {
        let stage = Stage::new(machine);
        let good = Forged(stage.table.clone());
        let taken = fs::read("/dev/shm/sem.victim").unwrap();
        let taken = [&[0; 4][..], &taken[4..6], &good.0[8..10], &taken[8..]].concat();
        let forged = forged(&good);
        const LOCKS: u64 = 300;
        for number in 0..LOCKS {
            let owner = if number % 2 == 0 { ROOT } else { MALLORY };
            forge(
                &format!("forged-{number}"),
                owner,
                &taken,
                forged[number as usize % forged.len()].clone(),
            );
        }
        for caller in [ROOT, MALLORY] {
            for (words, statuses) in ALL {
                let mut limited = machine.program(caller, "prlimit");
                // A copy of one table after the other, and what is printed of them.
                limited
                    .arg("--data=33554432")
                    .arg(machine.folder().join("resourcelock"))
                    .args(words);
                let text = printed(&mut limited, statuses);
                if words[0] != "doctor" && words != ["list", "--prometheus"] {
                    for number in 0..LOCKS {
                        assert!(
                            text.contains(&format!("forged-{number}")),
                            "{caller:?} {words:?} {number}"
                        );
                    }
                }
            }
        }
        // Of each lock, some holders and waiters are asked about: not a thousand.
        for words in [
            &["list"][..],
            &["list", "--prometheus"],
            &["completions", "zsh", "--", ""],
            &["doctor"],
        ] {
            let count = calls(machine, ROOT, words);
            assert!(count < LOCKS * 250, "{words:?}: {count} system calls");
        }
    });
}
