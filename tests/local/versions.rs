//! Another version of this program, whose table has another layout, runs beside this one: each sees the other as a user
//! of the semaphore.

use crate::common::{LineChild, TestLock, in_private_shm, printed, printed_in_private_shm, wait_until};
use std::fs::{self, OpenOptions};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

/// Uses the semaphore as the first version does. Its word is glibc's: (1, no mark) while it is free, (0, the mark of
/// the table) while it is held for that version's table, whose mark differs from ours.
struct FirstVersion {
    word: &'static AtomicU64,
    mark: u64,
}

const VALUE: u64 = 0xffff_ffff;
const MARK: u64 = 0xffff << 48;

impl FirstVersion {
    fn open(lock: &TestLock) -> Self {
        let path = lock.paths().semaphore_path();
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        // SAFETY: a new mapping, which lasts as long as this process; the file is 32 bytes long and keeps that size.
        #[allow(unsafe_code)]
        let word = unsafe {
            let at = libc::mmap(
                std::ptr::null_mut(),
                32,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            );
            assert_ne!(at, libc::MAP_FAILED);
            AtomicU64::from_ptr(at.cast())
        };
        let ours = u64::from(table_mark(lock));
        Self {
            word,
            mark: (ours % 0xffff + 1) << 48,
        }
    }

    /// Tries once, as that version would inside its latch.
    fn try_get(&self) -> bool {
        let taken = self.word.fetch_update(SeqCst, SeqCst, |word| {
            (word & VALUE != 0).then_some(word & !MARK & !VALUE | self.mark)
        });
        taken.is_ok()
    }

    /// Releases the semaphore and wakes a waiter.
    fn unget(&self) {
        let released = self.word.fetch_update(SeqCst, SeqCst, |word| {
            (word & (VALUE | MARK) == self.mark).then_some(word & !MARK | 1)
        });
        assert!(
            released.is_ok(),
            "nobody else has touched it: {:#x}",
            self.word.load(SeqCst)
        );
        // SAFETY: FUTEX_WAKE does not access the memory.
        #[allow(unsafe_code)]
        unsafe {
            libc::syscall(libc::SYS_futex, self.word.as_ptr().cast::<u32>(), libc::FUTEX_WAKE, 1)
        };
    }
}

fn table_mark(lock: &TestLock) -> u16 {
    let table = fs::read(lock.paths().table_path()).unwrap();
    u16::from_ne_bytes(table[8..10].try_into().unwrap())
}

fn used_lock() -> TestLock {
    let lock = TestLock::new("versions");
    printed(&mut lock.command(&["run", "--", "true"]));
    lock
}

#[test]
fn each_waits_for_the_other() {
    let lock = used_lock();
    let other = FirstVersion::open(&lock);
    assert!(other.try_get());
    assert_eq!(
        lock.command(&["get", "-t", "0", "-q"]).status().unwrap().code(),
        Some(75)
    );
    let state = lock.state();
    assert!(state.locked && state.foreign && state.holders.is_empty());
    let mut waiter = LineChild::spawn(&mut lock.command(&["run", "--", "sh", "-c", "echo in; read line"]));
    wait_until("it sleeps on the semaphore", || lock.flag_word().waiters == 1);
    other.unget();
    waiter.wait_for_line("in");
    assert!(!other.try_get(), "it is ours now");
    waiter.close_input();
    waiter.wait();
    assert!(other.try_get(), "free for the other one, too");
    other.unget();
    let word = lock.flag_word();
    assert_eq!((word.value, word.waiters, word.mark), (1, 0, 0));
}

/// Both loop: they never overlap, and each gets the lock again and again.
#[test]
fn they_take_turns() {
    let lock = used_lock();
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("counter");
    fs::write(&counter, "0").unwrap();
    let other = FirstVersion::open(&lock);
    // Read, let others run, and write: if two do that at once, updates get lost.
    let script = format!(
        "i=0; while [ $i -lt 40 ]; do {} {} run -- sh -c 'read n < {2}; read x < /dev/null; echo $((n + 1)) > {2}' \
         || exit 1; i=$((i + 1)); done",
        lock.command(&[]).get_program().to_string_lossy(),
        lock.name(),
        counter.display()
    );
    #[allow(clippy::zombie_processes)] // try_wait reaps it
    let mut ours = std::process::Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let (mut rounds, mut status) = (0u64, None);
    while status.is_none() {
        if other.try_get() {
            let n: u64 = fs::read_to_string(&counter).unwrap().trim().parse().unwrap();
            std::thread::yield_now();
            fs::write(&counter, format!("{}\n", n + 1)).unwrap();
            other.unget();
            rounds += 1;
        }
        std::thread::yield_now();
        status = ours.try_wait().unwrap();
    }
    assert!(status.unwrap().success());
    let total: u64 = fs::read_to_string(&counter).unwrap().trim().parse().unwrap();
    assert_eq!(total, 40 + rounds);
    assert!(rounds > 0);
}

/// If there already are tables of older versions, ours gets another mark.
#[test]
fn marks_differ() {
    // All versions keep the mark in the same place.
    let script = r#"
        older() { printf "reslock$1$2\0\0\0\0\0\0" > "$3"; }
        $RL a run -- true; mark=$(od -An -tu2 -j8 -N2 /dev/shm/resourcelock3.a)
        for i in 1 2 3 4 5 6 7 8; do
            older '\001' "$(printf '\\%03o\\%03o' $((mark % 256)) $((mark / 256)))" /dev/shm/resourcelock.b
            older '\002' "$(printf '\\%03o\\%03o' $i 1)" /dev/shm/resourcelock2.b
            $RL b run -- true; other=$(od -An -tu2 -j8 -N2 /dev/shm/resourcelock3.b)
            [ $mark != $other ] && [ $other != $((256 + i)) ] || echo the same
            $RL b remove > /dev/null
        done
        ls /dev/shm"#;
    assert_eq!(printed_in_private_shm(script), "a\nresourcelock3.a\nsem.a\n");
}

/// The table of an older version goes with its lock, whoever has used that last; another program's file, or another user's,
/// stays.
#[test]
fn older_tables_are_removed_with_the_lock() {
    let script = r#"
        older() { { printf "reslock\00$1"; head -c 196600 /dev/zero; } > "/dev/shm/resourcelock$2.$3"; }
        for lock in a b c d; do $RL $lock run -q -- true; older 2 2 $lock; done
        older 1 '' a; rm /dev/shm/resourcelock3.b; chown 1 /dev/shm/resourcelock2.c
        echo other > /dev/shm/resourcelock2.d; $RL prune --idle 0 | sed 's/last used [0-9:]*, //'
        ls /dev/shm; rm /dev/shm/*
        $RL held get -q; older 2 2 held; $RL held remove 2> /dev/null; echo "status $?"; ls /dev/shm; $RL held remove --force; ls /dev/shm"#;
    let output = in_private_shm(script);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "a: removed, 404 KiB\nb: removed, 200 KiB\nc: removed, 20 KiB\nd: removed, 20 KiB\n4 locks removed, 644 KiB\n\
         resourcelock2.c\nresourcelock2.d\nstatus 125\nheld\nresourcelock2.held\nresourcelock3.held\nsem.held\n\
         held: removed\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
