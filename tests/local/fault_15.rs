//! Fault 15: what `doctor` finds, and which of its findings are problems.

use crate::common::machine::Machine;
use crate::common::run::signal;
use crate::common::schema::Schema;
use crate::common::{Ask, Inside, TestLock, Worker, binary, in_private_shm, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::Output;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The status, and what `doctor` finds about this lock.
fn findings(lock: &TestLock, options: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = binary().arg("doctor").arg("--json").args(options).output().unwrap();
    let json = Schema::of("doctor").check(text(&output).trim_end());
    let all = json["findings"].as_array().unwrap().iter();
    let of_lock = all.filter(|finding| finding["lock"] == lock.name());
    (output.status.code(), of_lock.cloned().collect())
}

/// A container's own /dev/shm may be intended.
#[test]
fn a_note_is_no_problem() {
    let output = in_private_shm(
        "$RL a run -- true; $RL doctor && $RL doctor -q && $RL doctor --json
         cp /dev/shm/resourcelock3.a /dev/shm/resourcelock7.a; $RL doctor; echo status $?
         $RL b get -q; chmod 640 /dev/shm/sem.b; $RL doctor; echo status $?",
    );
    let text = text(&output);
    let (healthy, worse) = text.split_once("}\n").unwrap();
    // Root, or a process in a container, sees that this /dev/shm is not the same as that of others.
    assert!(
        healthy.contains("\"findings\":[") && !healthy.contains("\"problem\""),
        "{text}"
    );
    let only_notes = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with([' ', '{']))
            .all(|line| line.starts_with("note: ") || line == "nothing found")
    };
    assert!(only_notes(healthy), "{text}");
    let (notes, problem) = worse.split_once("status 0\n").unwrap();
    assert!(
        notes.contains("note: a: /dev/shm/resourcelock7.a is the table of another version"),
        "{text}"
    );
    assert!(
        problem.starts_with("b: /dev/shm/b is 600 of user ") && problem.ends_with("status 1\n"),
        "{text}"
    );
}

#[test]
fn a_process_that_stands_still_in_the_table_is_named() {
    Machine::run(|_| {
        let lock = TestLock::new("f15");
        let mut worker = Worker::open(&lock);
        let pid = worker.id();
        assert_eq!(findings(&lock, &[]).1, [Value::Null; 0]);
        for holds in [false, true] {
            if holds {
                assert!(worker.get(Ask::now()).is_some());
            }
            lock.stop(worker.id());
            assert_eq!(findings(&lock, &[]).1, [Value::Null; 0], "stopped, but not there");
            let inside = Inside::of_only_handle(&lock);
            let (status, found) = findings(&lock, &["--fix"]);
            assert_eq!((status, found.len()), (Some(1), 1), "{found:?}");
            let finding = &found[0];
            assert_eq!(
                (&finding["kind"], &finding["level"]),
                (&"stopped inside".into(), &"problem".into())
            );
            assert!(
                finding["what"].as_str().unwrap().starts_with(&format!("{pid} (")),
                "{finding}"
            );
            assert!(
                finding["what"].as_str().unwrap().contains(", stopped) stands still"),
                "{finding}"
            );
            assert!(
                finding["mend"]
                    .as_str()
                    .unwrap()
                    .contains(&format!("kill -CONT {pid};")),
                "{finding}"
            );
            drop(inside);
            signal(pid, Signal::SIGCONT);
        }
        assert!(worker.release());
    });
}

/// The next process that comes repairs what a dead one has left.
#[test]
fn a_process_that_died_in_the_table_is_none() {
    let lock = TestLock::new("f15");
    let worker = Worker::open(&lock);
    lock.stop(worker.id());
    let inside = Inside::of_only_handle(&lock);
    signal(worker.id(), Signal::SIGKILL);
    wait_until("it is dead", || lock.state().inside.is_none());
    assert_eq!(findings(&lock, &[]).1, [Value::Null; 0]);
    drop(inside);
}

/// One lock that cannot be repaired does not keep the others from being repaired.
#[test]
fn what_cannot_be_mended_stays() {
    Machine::run(|_| {
        let locks = [0; 2].map(|_| TestLock::new("f15"));
        for lock in &locks {
            let mut holder = Worker::open(lock);
            assert!(holder.get(Ask::now()).is_some());
            holder.kill();
            wait_until("it is dead", || !lock.state().locked);
        }
        let inside = Inside::enter(&locks[0]);
        let output = binary().args(["doctor", "--fix", "--json"]).output().unwrap();
        drop(inside);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains(&format!("{}: the lock's table stayed busy", locks[0].name())),
            "{said}"
        );
        let holders = locks.each_ref().map(|lock| lock.state().holders.len());
        assert_eq!(holders, [1, 0]);
    });
}

#[test]
fn a_directory_where_nothing_can_be_created() {
    for (mount, kind, what) in [
        ("remount,ro", "read-only", "/dev/shm is mounted read-only"),
        ("remount,size=1m", "full", "/dev/shm has "),
        ("remount,nr_inodes=9", "full", "/dev/shm has room for "),
    ] {
        let script =
            format!("$RL a run -- true; mount -o {mount} /dev/shm && $RL doctor; echo status $?; $RL doctor --json");
        let output = in_private_shm(&script);
        let text = text(&output);
        assert!(text.starts_with(what) && text.contains("status 1\n"), "{text}");
        let json: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(json["findings"][0]["kind"], kind, "{text}");
    }
}
