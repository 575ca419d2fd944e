//! What a lock occupies in /dev/shm, how that grows, and what happens if there is no space for a step.

use crate::common::{TestLock, in_private_shm, printed_in_private_shm};
use resourcelock::{GetOptions, Mode, ResourceLock};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};

/// Where the entries of the history begin in the table, their size, and where in them the time is when a hold ended.
const HISTORY: u64 = 34 * 4096;
const ENTRY: u64 = 176;
const ENDED: u64 = 48;

/// What the lock's files occupy, in KiB.
fn occupied(lock: &TestLock) -> u64 {
    let paths = [
        lock.paths().semaphore_path(),
        lock.paths().note_path(),
        lock.paths().table_path(),
    ];
    paths.iter().map(|path| fs::metadata(path).unwrap().blocks() / 2).sum()
}

fn use_it(handle: &ResourceLock, times: usize) {
    for _ in 0..times {
        drop(handle.try_acquire().unwrap().unwrap());
    }
}

fn refuse(handle: &ResourceLock, times: usize) {
    let guard = handle.try_acquire().unwrap().unwrap();
    for _ in 0..times {
        assert!(handle.try_acquire().unwrap().is_none());
    }
    drop(guard);
}

#[test]
fn a_lock_grows_by_what_it_is_used_for() {
    let lock = TestLock::new("size");
    let handle = lock.open();
    assert_eq!(occupied(&lock), 20);
    use_it(&handle, 22);
    assert_eq!(occupied(&lock), 20);
    refuse(&handle, 23);
    assert_eq!(occupied(&lock), 24);
    refuse(&handle, 1);
    assert_eq!(occupied(&lock), 32, "the 24th hold in a day, and the 24th refusal");
    use_it(&handle, 300);
    refuse(&handle, 100);
    assert_eq!(occupied(&lock), 8 + 8 + 44 + 12);
    let history = handle.history().unwrap();
    let gave_up = history.iter().filter(|record| record.token.is_none()).count();
    assert_eq!((history.len() - gave_up, gave_up), (256, 64));

    let shared = || GetOptions::new().mode(Mode::Shared);
    let guards: Vec<_> = (0..22)
        .map(|_| lock.open().acquire_with(&shared()).unwrap().unwrap())
        .collect();
    assert_eq!(lock.state().holders.len(), 22);
    assert_eq!(occupied(&lock), 76, "21 requests fit into the first pages");
    drop(guards);
    assert_eq!(occupied(&lock), 76, "it never shrinks");
}

/// A day later the oldest entries are overwritten instead.
#[test]
fn a_lock_that_is_used_now_and_then_stays_small() {
    let lock = TestLock::new("size");
    let handle = lock.open();
    let table = OpenOptions::new().write(true).open(lock.paths().table_path()).unwrap();
    let age = |entries: u64| {
        for entry in 0..entries {
            let at = HISTORY + ENTRY * entry + ENDED;
            table.write_all_at(&1_u64.to_ne_bytes(), at).unwrap();
        }
    };
    let sequences = || -> Vec<u64> {
        let history = lock.open().history().unwrap();
        history.iter().map(|record| record.sequence).collect()
    };
    for _ in 0..10 {
        use_it(&handle, 23);
        age(23);
    }
    assert_eq!(occupied(&lock), 20);
    assert_eq!(sequences(), (207..230).collect::<Vec<_>>());
    // Then it is used more often.
    use_it(&handle, 24);
    assert_eq!(occupied(&lock), 24);
    assert_eq!(sequences(), (230..254).collect::<Vec<_>>());
}

/// Fills /dev/shm but for so many pages, and uses a lock in every way in which it would grow: whichever step there is no
/// space for, nobody dies of it.
#[test]
fn no_space_for_any_of_its_steps() {
    for free in 0_usize..8 {
        let script = format!(
            r#"mount -o remount,size=1m /dev/shm; $RL a run -q -- true
            dd if=/dev/zero of=/dev/shm/filler bs=4k 2>/dev/null
            truncate -s $((1024 * 1024 - (5 + {free}) * 4096)) /dev/shm/filler
            for i in $(seq 30); do $RL a run -q -- true || echo "run: $?"; done
            $RL a get -q; for i in $(seq 30); do $RL a run -n -q -- echo no; [ $? = 75 ] || echo "refused: $?"; done
            $RL a unget -q; $RL a history | wc -l; rm /dev/shm/filler
            $RL a run -q -- true; $RL a history | wc -l"#
        );
        let output = in_private_shm(&script);
        let text = String::from_utf8(output.stdout).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        // 32 holds and 30 refusals. The first page of refusals comes after the second one of the history.
        let [holds, refusals] = [
            [23, 32][usize::from(free > 0)],
            [0, 23, 30][usize::min(2, free.saturating_sub(1))],
        ];
        assert_eq!(
            text,
            format!("{}\n{}\n", 1 + holds + refusals, 1 + holds + refusals + 1),
            "{free}: {said}"
        );
        assert_eq!(said, "", "{free}: {text}");
    }
}

/// With the first 21 records in use, further requests wait outside the queue until there is space, and the others go on.
#[test]
fn no_space_for_more_requests() {
    let script = r#"
        mount -o remount,size=1m /dev/shm; $RL a get -q
        dd if=/dev/zero of=/dev/shm/filler bs=4k 2>/dev/null
        for i in $(seq 20); do $RL a run -q -t 120 -- echo inside & done
        until [ $($RL a state --json | grep -o '"alive"' | wc -l) = 21 ]; do sleep 0.05; done
        $RL a run -n -q -- echo no; echo "status $?"
        $RL a run -t 0.2 -- echo no 2> /tmp/said.$$; echo "status $?"; cat /tmp/said.$$ >&2
        for i in $(seq 5); do $RL a run -t 120 -- echo outside & done 2>> /tmp/said.$$
        until [ $(grep -c outside /tmp/said.$$) = 6 ]; do sleep 0.05; done
        $RL a unget -q; wait; $RL a state -q || echo free; ls /dev/shm | wc -l; rm /tmp/said.$$"#;
    let output = in_private_shm(script);
    let (text, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let count = |line: &str| text.lines().filter(|other| *other == line).count();
    assert_eq!(
        (count("inside"), count("outside"), count("no")),
        (20, 5, 0),
        "{text}{said}"
    );
    assert!(
        text.starts_with("status 75\nstatus 125\n") && text.ends_with("free\n4\n"),
        "{text}{said}"
    );
    assert!(
        said.contains("cannot allocate space for /dev/shm/resourcelock3.a: No space left on device")
            && said.contains("free some space in /dev/shm"),
        "{said}"
    );
}

/// A table that claims pages which have no space: they get it, or the lock is refused.
#[test]
fn a_table_that_claims_more_than_there_is() {
    let script = r#"
        mount -o remount,size=1m /dev/shm
        claim() { printf '\377\377\377\377\377\377\377\377' | dd of=/dev/shm/resourcelock3.a bs=1 seek=$1 conv=notrunc 2>/dev/null; }
        all() {
            for words in state 'state --json' history 'history --json' 'run -- true' 'run -n -- true' get unget 'get -t 0.1' unget; do
                $RL a $words > /dev/null 2>&1; status=$?; [ $status -lt 126 ] || echo "$1 $words: $status"
            done
        }
        for field in 24 88 120 240; do
            for full in no yes; do
                $RL a run -q -- true; claim $field
                [ $full = no ] || dd if=/dev/zero of=/dev/shm/filler bs=4k 2>/dev/null
                all "$field, full: $full"
                rm -f /dev/shm/*
            done
        done
        $RL a run -q -- true; truncate -s 0 /dev/shm/resourcelock3.a; truncate -s 196608 /dev/shm/resourcelock3.a
        dd if=/dev/zero of=/dev/shm/filler bs=4k 2>/dev/null; all hole; echo done"#;
    assert_eq!(printed_in_private_shm(script), "done\n");
}

/// While a page is allocated for it, the table is truncated.
#[test]
fn truncated_while_it_grows() {
    let script = r#"
        late=delay_enter=300000
        for cut in 0 4096 8192 139264 139265; do
            # As the kernel allocates it today, and as an older one does.
            for how in "-e inject=madvise:$late" "-e inject=madvise:error=EINVAL -e inject=fallocate:$late:when=2+"; do
                for i in $(seq 23); do $RL a run -q -- true; done
                strace -f -qq -o /dev/null $how $RL a run -- sh -c ': > /dev/shm/.up' 2> /dev/null &
                until [ -e /dev/shm/.up ]; do sleep 0.01; done; truncate -s $cut /dev/shm/resourcelock3.a
                wait $!; status=$?; [ $status -lt 126 ] || echo "cut at $cut, $how: status $status"
                rm -f /dev/shm/* /dev/shm/.up
            done
        done; echo done"#;
    assert_eq!(printed_in_private_shm(script), "done\n");
}
