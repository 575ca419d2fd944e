//! T3: a file that is not a lock's is never written or deleted. (What stands at a lock's paths from the beginning is the
//! matrix of T2.)

use crate::common::LineChild;
use crate::common::machine::{ALICE, I2C, Machine, PI, ROOT, finished, give};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn shm(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(name)
}

/// The files in /dev/shm, sorted.
fn listed() -> Vec<String> {
    let names = fs::read_dir("/dev/shm").unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Text counts as a note if there is a NUL in its first 64 KiB.
#[test]
fn where_a_note_ends() {
    Machine::run(|machine| {
        let text = vec![b'x'; 1 << 17];
        let with = |at: usize, byte: u8| {
            let mut text = text.clone();
            text[at] = byte;
            text
        };
        let end = (1 << 16) - 1;
        for (content, is_note) in [
            (text.clone(), false),
            (with(end + 1, 0), false),
            (with(end, 0), true),
            (with(0, 0), true),
            ([with(end, 0), vec![1]].concat(), true),
            ([with(0, 1), vec![0]].concat(), false),
            (["größe\t\r\n".as_bytes(), &[0, 0x1f]].concat(), false),
            (["größe\t\r\n".as_bytes(), &[0, 0xff, 0x7f]].concat(), true),
        ] {
            assert!(
                finished(machine.command(ROOT).args(["bus", "run", "--", "true"]))
                    .status
                    .success()
            );
            fs::remove_file(shm("resourcelock3.bus")).unwrap();
            fs::write(shm("bus"), &content).unwrap();
            let what = format!("{} bytes, a note: {is_note}", content.len());
            let output = finished(machine.command(ROOT).args(["bus", "run", "-n", "--", "echo", "ran"]));
            if is_note {
                assert!(output.status.success(), "{what}: {output:?}");
            } else {
                assert_eq!((output.status.code(), &*output.stdout), (Some(125), &b""[..]), "{what}");
                for words in [&["remove"][..], &["remove", "--force"], &["unget"], &["state", "-q"]] {
                    let output = finished(machine.command(ROOT).arg("bus").args(words));
                    assert_eq!(output.status.code(), Some(125), "{what} {words:?}: {output:?}");
                }
                assert_eq!(fs::read(shm("bus")).unwrap(), content, "{what}");
                assert_eq!(listed(), ["bus", "sem.bus"], "{what}");
                fs::remove_file(shm("bus")).unwrap();
            }
            for file in listed() {
                fs::remove_file(shm(&file)).unwrap();
            }
        }
    });
}

/// What may be another program's stays where it is, and the lock is removed all the same.
#[test]
fn what_remove_leaves() {
    Machine::run(|machine| {
        for words in [&["remove"][..], &["remove", "--force"]] {
            let remove = || {
                let output = finished(machine.command(ROOT).arg("bus").args(words));
                assert!(output.status.success(), "{words:?}: {output:?}");
                let said = String::from_utf8(output.stderr).unwrap();
                assert!(
                    said.contains("/dev/shm/bus is left: ") && said.lines().count() == 1,
                    "{said}"
                );
                assert_eq!(listed(), ["bus"], "{words:?}");
                fs::remove_file(shm("bus")).unwrap();
            };
            let make = || {
                assert!(
                    finished(machine.command(ROOT).args(["bus", "run", "--", "true"]))
                        .status
                        .success()
                )
            };
            // Empty: a program may have just created it.
            make();
            fs::write(shm("bus"), "").unwrap();
            remove();
            // Locked with flock(2).
            make();
            let mut flock = machine.program(ROOT, "flock");
            let mut locked = LineChild::spawn(flock.args(["/dev/shm/bus", "sh", "-c", "echo up; read line"]));
            locked.wait_for_line("up");
            remove();
            locked.close_input();
            locked.wait();
            // Put there since, with another name as well: the lock is refused, and nothing is removed.
            make();
            fs::hard_link(shm("bus"), shm("backup")).unwrap();
            let output = finished(machine.command(ROOT).arg("bus").args(words));
            assert_eq!(output.status.code(), Some(125), "{words:?}: {output:?}");
            assert_eq!(listed(), ["backup", "bus", "resourcelock3.bus", "sem.bus"]);
            for file in listed() {
                fs::remove_file(shm(&file)).unwrap();
            }
        }
    });
}

/// Where there is no lock, `remove` creates none, and deletes nothing.
#[test]
fn remove_where_there_is_no_lock() {
    Machine::run(|machine| {
        for content in [
            &b""[..],
            &[0; 100],
            b"some text\0",
            b"\x01\x02",
            b"2026-01-01 00:00:00.000000",
        ] {
            fs::write(shm("bus"), content).unwrap();
            for user in [ROOT, ALICE] {
                for words in [&["remove"][..], &["remove", "--force"], &["unget"]] {
                    let output = finished(machine.command(user).arg("bus").args(words));
                    assert!(matches!(output.status.code(), Some(0 | 125)), "{words:?}: {output:?}");
                    assert_eq!(listed(), ["bus"], "{words:?}");
                    assert_eq!(fs::read(shm("bus")).unwrap(), content);
                }
            }
        }
    });
}

/// `doctor --fix` acts on the locks of the caller and of those whom he names.
#[test]
fn whose_locks_doctor_repairs() {
    Machine::run(|machine| {
        for owner in [ROOT, ALICE, PI] {
            let name = owner.name();
            let mut run = machine.member(owner);
            assert!(
                finished(run.args([name, "run", "--group", "i2c", "--", "true"]))
                    .status
                    .success()
            );
        }
        let mut run = machine.command(ROOT);
        let made = finished(run.args(["for-everybody", "run", "--mode", "666", "--", "true"]));
        assert!(made.status.success(), "{made:?}");
        let locks = [
            ("root", ROOT, 0o660),
            ("alice", ALICE, 0o660),
            ("pi", PI, 0o660),
            ("for-everybody", ROOT, 0o666),
        ];
        // Values above 1 are repaired.
        let spoil = || {
            for (name, owner, mode) in locks {
                let path = shm(&format!("sem.{name}"));
                let mut word = fs::read(&path).unwrap();
                word[0] = 3;
                fs::write(&path, word).unwrap();
                give(&path, owner, I2C);
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
        };
        for (user, options, repaired) in [
            (ROOT, &[][..], &["root"][..]),
            (ROOT, &["--owner", "pi"], &["root", "pi"]),
            (ROOT, &["--mode", "666"], &["root", "for-everybody"]),
            (ALICE, &[], &["alice"]),
            (ALICE, &["--owner", "pi"], &["alice", "pi"]),
        ] {
            spoil();
            let output = finished(machine.member(user).args(options).args(["doctor", "--fix"]));
            assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
            for (name, ..) in locks {
                let value = fs::read(shm(&format!("sem.{name}"))).unwrap()[0];
                let expected = if repaired.contains(&name) { 1 } else { 3 };
                assert_eq!(value, expected, "{user:?} {options:?} {name}: {output:?}");
            }
        }
    });
}
