//! Objects in /dev/shm that are not what they should be: either there is a clear message and status 125, or what is
//! usable is used. Nothing is changed, and no call hangs or crashes.

use crate::common::{Dice, LineChild, TestLock, printed, wait_until};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs;
use std::os::unix::fs::{FileExt, FileTypeExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const COMMANDS: [&[&str]; 4] = [
    &["get", "-t", "0.1"],
    &["unget"],
    &["state"],
    &["run", "-t", "0.1", "--", "true"],
];

fn run(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(
        !said.contains("panicked") && !said.contains("RUST_BACKTRACE"),
        "{command:?}: {said}"
    );
    assert!(said.lines().count() <= 1, "{command:?}: one line is enough: {said}");
    (status.code(), said)
}

/// Asserts that every command refuses the lock and names the object.
fn refused_by_all(lock: &TestLock, object: &Path) {
    for words in COMMANDS {
        let (status, said) = run(&mut lock.command(words));
        assert_eq!(status, Some(125), "{words:?}: {said}");
        assert!(
            said.starts_with("resourcelock: ") && said.contains(object.to_str().unwrap()),
            "{words:?}: {said}"
        );
    }
}

fn paths(lock: &TestLock) -> [PathBuf; 3] {
    [
        lock.paths().semaphore_path(),
        lock.paths().note_path(),
        lock.paths().table_path(),
    ]
}

/// A lock that has been used and is free.
fn used_lock() -> TestLock {
    let lock = TestLock::new("objects");
    printed(&mut lock.command(&["run", "--", "true"]));
    lock
}

#[test]
fn a_folder() {
    for which in 0..3 {
        let lock = used_lock();
        let path = &paths(&lock)[which];
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        refused_by_all(&lock, path);
        assert!(fs::metadata(path).unwrap().is_dir());
        assert_eq!(lock.objects().len(), 3, "nothing was added or removed");
    }
}

#[test]
fn a_fifo() {
    for which in 0..3 {
        let lock = used_lock();
        let path = &paths(&lock)[which];
        fs::remove_file(path).unwrap();
        printed(Command::new("mkfifo").arg(path));
        refused_by_all(&lock, path);
        assert!(fs::metadata(path).unwrap().file_type().is_fifo());
    }
}

#[test]
fn a_socket() {
    for which in 0..3 {
        let lock = used_lock();
        let path = &paths(&lock)[which];
        fs::remove_file(path).unwrap();
        let _socket = UnixListener::bind(path).unwrap();
        refused_by_all(&lock, path);
        assert!(fs::metadata(path).unwrap().file_type().is_socket());
    }
}

/// A symbolic link could lead a privileged user's writes into any file: it is not followed.
#[test]
fn a_symbolic_link() {
    let folder = tempfile::tempdir().unwrap();
    let precious = folder.path().join("precious");
    for which in 0..3 {
        for dangling in [false, true] {
            let lock = used_lock();
            let path = &paths(&lock)[which];
            if dangling {
                fs::remove_file(&precious).unwrap();
                fs::remove_file(path).unwrap();
            } else {
                // Not even valid content is used through a link.
                fs::copy(path, &precious).unwrap();
                fs::remove_file(path).unwrap();
            }
            let before = fs::read(&precious).ok();
            symlink(&precious, path).unwrap();
            refused_by_all(&lock, path);
            assert_eq!(fs::read(&precious).ok(), before, "the link's target is untouched");
            assert!(fs::symlink_metadata(path).unwrap().is_symlink());
        }
    }
}

#[test]
fn a_flag_too_short_for_a_semaphore() {
    for size in [0, 1, 8, 31] {
        let lock = used_lock();
        let flag = lock.paths().semaphore_path();
        set_size(&flag, size);
        refused_by_all(&lock, &flag);
        assert_eq!(fs::metadata(&flag).unwrap().len(), size);
    }
}

/// A flag may contain any word; that is no reason to crash, to hang, or to let two in.
#[test]
fn a_flag_with_any_content() {
    let mut dice = Dice::new(1);
    for _ in 0..20 {
        let lock = used_lock();
        fs::write(lock.paths().semaphore_path(), dice.bytes(32)).unwrap();
        let (status, said) = run(lock.command(&["get", "-t", "0.1", "-q"]).env("RESOURCELOCK_LOG", "off"));
        assert!(matches!(status, Some(0 | 75 | 125)), "{status:?}: {said}");
        let (status, said) = run(&mut lock.command(&["get", "-t", "0", "-q"]));
        assert_ne!(status, Some(0), "somebody has it already: {said}");
    }
}

/// A note is only for people to read: a useless one never keeps anybody from the lock.
/// It is said whose it probably is: the two kinds of program do not exclude each other.
#[test]
fn a_flag_of_32_bit_programs() {
    let lock = TestLock::new("narrow");
    let semaphore = lock.paths().semaphore_path();
    fs::write(&semaphore, [0; 16]).unwrap();
    refused_by_all(&lock, &semaphore);
    let (_, said) = run(&mut lock.command(&["state"]));
    assert!(said.contains("16 bytes, as those of 32-bit programs"), "{said}");
}

#[test]
fn a_note_of_any_size() {
    for size in [0, 1, 29, 30, 4095, 1 << 33] {
        let lock = used_lock();
        let note = lock.paths().note_path();
        set_size(&note, size);
        for words in [
            &["get", "-q", "-t", "0", "-m", "text"][..],
            &["state", "-q"],
            &["unget", "-q"],
        ] {
            let (status, said) = run(&mut lock.command(words));
            assert_eq!(status, Some(0), "note of {size} bytes, {words:?}: {said}");
        }
        assert_eq!(fs::metadata(&note).unwrap().len(), size);
    }
}

#[test]
fn a_table_of_the_wrong_size() {
    let right = fs::metadata(used_lock().paths().table_path()).unwrap().len();
    for size in [0, 1, 63, 4096, right - 1, 1 << 33] {
        let lock = used_lock();
        let table = lock.paths().table_path();
        set_size(&table, size);
        serves_or_refuses(&lock, &format!("table of {size} bytes"));
    }
}

#[test]
fn a_table_of_random_bytes() {
    let right = fs::metadata(used_lock().paths().table_path()).unwrap().len();
    let mut dice = Dice::new(2);
    for _ in 0..10 {
        let lock = used_lock();
        fs::write(lock.paths().table_path(), dice.bytes(right as usize)).unwrap();
        serves_or_refuses(&lock, "random table");
    }
}

/// The head identifies the table as ours; the rest is random.
#[test]
fn a_table_that_is_random_behind_its_head() {
    let mut dice = Dice::new(3);
    for kept in [8, 16, 32, 64, 128, 256, 512, 1024, 4096] {
        for held in [false, true] {
            let lock = used_lock();
            if held {
                printed(&mut lock.command(&["get"]));
            }
            let table = lock.paths().table_path();
            let mut bytes = fs::read(&table).unwrap();
            let rest = bytes.len() - kept;
            bytes[kept..].copy_from_slice(&dice.bytes(rest));
            fs::write(&table, bytes).unwrap();
            serves_or_refuses(&lock, &format!("random behind {kept} bytes, held: {held}"));
        }
    }
}

/// Single bytes are wrong.
#[test]
fn a_table_with_wrong_bytes() {
    let mut dice = Dice::new(4);
    for _ in 0..30 {
        let lock = used_lock();
        printed(&mut lock.command(&["get"]));
        let table = lock.paths().table_path();
        let mut bytes = fs::read(&table).unwrap();
        for _ in 0..16 {
            let at = dice.below(bytes.len().min(8192) as u64) as usize;
            bytes[at] = dice.number() as u8;
        }
        fs::write(&table, bytes).unwrap();
        serves_or_refuses(&lock, "table with wrong bytes");
    }
}

/// Another version's layout would have another file name. So a table with an unknown head, or one that has lost its
/// second page, is not ours to touch.
#[test]
fn a_table_of_an_unknown_version() {
    for magic in [0, 5440] {
        let lock = used_lock();
        let table = lock.paths().table_path();
        let mut bytes = fs::read(&table).unwrap();
        for byte in &mut bytes[magic..magic + 8] {
            *byte ^= 0x5a;
        }
        fs::write(&table, &bytes).unwrap();
        refused_by_all(&lock, &table);
        assert_eq!(fs::read(&table).unwrap(), bytes, "it is left alone");
    }
}

/// Somebody truncates the table of a lock in use, for which the kernel would kill its users with SIGBUS.
#[test]
fn a_table_that_is_cut_off_under_a_running_command() {
    let lock = TestLock::new("objects");
    let mut command = lock.command(&["run", "--", "sh", "-c", "echo inside; read line; echo done"]);
    let mut holder = LineChild::spawn(command.stderr(Stdio::piped()));
    holder.wait_for_line("inside");
    set_size(&lock.paths().table_path(), 0);
    serves_or_refuses(&lock, "cut off");
    holder.send("");
    assert_eq!(holder.line(), "done", "the command is not disturbed");
    assert_eq!(holder.wait().code(), Some(76), "the loss is reported");
}

#[test]
fn a_table_that_is_cut_off_under_a_waiting_command() {
    let lock = TestLock::new("objects");
    printed(&mut lock.command(&["get"]));
    let mut command = lock.command(&["run", "--", "echo", "inside"]);
    let mut waiter = LineChild::spawn(command.stderr(Stdio::piped()));
    wait_until("it waits", || lock.state().waiters.len() == 1);
    set_size(&lock.paths().table_path(), 0);
    assert_eq!(waiter.wait().code(), Some(125));
    assert_eq!(waiter.try_line(), None, "the command was not started without the lock");
}

/// Beacons are bytes of the table that can be locked. Somebody with mere read access keeps all of them locked.
#[test]
fn a_table_all_of_whose_beacons_are_locked() {
    let lock = used_lock();
    let path = lock.paths().table_path();
    let table = fs::File::open(&path).unwrap();
    let all = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 1 << 40,
        l_len: 1 << 32,
        l_pid: 0,
    };
    fcntl(&table, FcntlArg::F_OFD_SETLK(&all)).unwrap();
    for words in [&["get", "-t", "0.1"][..], &["unget"], &["run", "--", "true"]] {
        let (status, said) = run(&mut lock.command(words));
        assert_eq!(status, Some(125), "{words:?}: {said}");
        assert!(said.contains(path.to_str().unwrap()), "{words:?}: {said}");
    }
    printed(&mut lock.command(&["state"])); // looking takes no beacon
    drop(table);
    // A child that another test has just forked may have the file open until it calls exec.
    wait_until("the beacons are free", || {
        run(&mut lock.command(&["get", "-t", "0"])).0 == Some(0)
    });
}

/// Impossible times are shown as possible ones.
#[test]
fn a_table_with_impossible_times() {
    // Offsets of fields of `Layout` in `src/lock/shm/layout.rs`: when a request was queued (twice) and granted; and for
    // one that has ended, when it was queued, how long it waited and held, and when it ended.
    const REQUEST: u64 = 5504;
    const HISTORY: u64 = 34 * 4096;
    const GAVE_UP: u64 = 45 * 4096;
    let shown: [&[&str]; 6] = [
        &["state"],
        &["state", "--json"],
        &["history"],
        &["history", "--json"],
        &["history", "--svg", "-"],
        &["history", "--html", "-"],
    ];
    // The last µs of the year 9999, the last year that chrono knows, and the last µs that fits into a u64.
    for time in [253_402_300_799_999_999, 8_210_266_876_799_999_999, u64::MAX] {
        for (queued, granted, waited) in [(0, 0, 0), (0, u64::MAX, u64::MAX), (u64::MAX, 0, 1)] {
            let lock = used_lock();
            printed(&mut lock.command(&["get"]));
            assert_eq!(run(&mut lock.command(&["get", "-t", "0.01"])).0, Some(75));
            let table = fs::OpenOptions::new()
                .write(true)
                .open(lock.paths().table_path())
                .unwrap();
            let mut fields = vec![(REQUEST + 32, time), (REQUEST + 16, queued), (REQUEST + 24, granted)];
            for past in [HISTORY, GAVE_UP] {
                fields.extend([
                    (past + 24, time),
                    (past + 32, waited),
                    (past + 40, granted),
                    (past + 48, time),
                ]);
            }
            for (at, value) in fields {
                table.write_all_at(&value.to_ne_bytes(), at).unwrap();
            }
            for zone in ["UTC", "<+14>-14", "<-12>12"] {
                for words in shown {
                    let mut command = lock.command(words);
                    let (status, said) = run(command.env("TZ", zone));
                    assert_eq!(status, Some(0), "{time} {waited} {zone} {words:?}: {said}");
                }
            }
            let state = String::from_utf8(lock.command(&["state"]).env("TZ", "UTC").output().unwrap().stdout).unwrap();
            assert!(state.contains("since 9000-01-01 00:00:00"), "{state}");
        }
    }
}

/// Asserts that every command exits with a documented status, and that only one process gets the lock.
fn serves_or_refuses(lock: &TestLock, what: &str) {
    let looks: [&[&str]; 4] = [
        &["state"],
        &["state", "--json"],
        &["history"],
        &["history", "--svg", "-"],
    ];
    for words in looks.into_iter().chain([&["get", "-t", "0.1", "-q"][..]]) {
        let (status, said) = run(&mut lock.command(words));
        assert!(
            matches!(status, Some(0 | 1 | 75 | 125)),
            "{what}: {words:?}: {status:?} {said}"
        );
        if status == Some(125) {
            assert!(said.starts_with("resourcelock: "), "{what}: {words:?}: {said:?}");
        }
        if status == Some(0) && words[0] == "get" {
            let (status, said) = run(&mut lock.command(&["get", "-t", "0", "-q"]));
            assert_ne!(status, Some(0), "{what}: two holders: {said}");
        }
    }
    let (status, said) = run(&mut lock.command(&["unget", "-q"]));
    assert!(matches!(status, Some(0 | 125)), "{what}: unget: {status:?} {said}");
}

/// Extends the file by a hole, or truncates it.
fn set_size(path: &Path, size: u64) {
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(size)
        .unwrap();
}
