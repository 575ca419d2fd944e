//! `prune`, and `remove` with several names and patterns: what they delete, and what they leave.

use crate::common::machine::{ALICE, BOB, MALLORY, Machine, ROOT, User, finished};
use crate::common::schema::Schema;
use crate::common::{LineChild, Peer, TestLock, in_private_shm, wait_until};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn locks() -> Vec<String> {
    let names = fs::read_dir("/dev/shm").unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .filter_map(|name| Some(name.strip_prefix("sem.")?.to_owned()))
        .collect();
    names.sort();
    names
}

fn make(machine: &Machine, user: User, names: &[&str]) {
    for name in names {
        let output = finished(machine.command(user).args([name, "run", "--", "true"]));
        assert!(output.status.success(), "{output:?}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The first word of each line: the locks that it names, and of the last line the number.
fn named(output: &Output) -> Vec<String> {
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let words = text(&output.stdout);
    words
        .lines()
        .map(|line| line.split([':', ' ']).next().unwrap().to_owned())
        .collect()
}

#[test]
fn each_user_prunes_their_own_and_root_all() {
    Machine::run(|machine| {
        make(machine, ALICE, &["a1", "a2"]);
        make(machine, BOB, &["b1"]);
        make(machine, ROOT, &["r1"]);
        let prune = |user: User, words: &[&str]| finished(machine.command(user).arg("prune").args(words));
        // They were all used a moment ago.
        for words in [&[][..], &["--idle", "1h"], &["--idle", "0", "c*"]] {
            assert_eq!(named(&prune(ROOT, words)), ["nothing"], "{words:?}");
        }
        assert_eq!(
            named(&prune(ROOT, &["--idle", "0", "--dry-run"])),
            ["a1", "a2", "b1", "r1", "4"]
        );
        assert_eq!(locks(), ["a1", "a2", "b1", "r1"]);
        assert_eq!(named(&prune(MALLORY, &["--idle", "0"])), ["nothing"]);
        assert_eq!(named(&prune(ALICE, &["--idle", "0", "a1", "b*"])), ["a1", "1"]);
        assert_eq!(named(&prune(ALICE, &["--idle", "0"])), ["a2", "1"]);
        assert_eq!(locks(), ["b1", "r1"]);
        let output = prune(ROOT, &["--idle", "0"]);
        assert_eq!(named(&output), ["b1", "r1", "2"]);
        let said = text(&output.stdout);
        assert!(
            said.starts_with("b1: removed (it belongs to bob), last used "),
            "{said}"
        );
        assert_eq!(fs::read_dir("/dev/shm").unwrap().count(), 0);
    });
}

/// Held, waited for, abandoned, open in a process of any user: none of these is removed.
#[test]
fn what_is_in_use_stays() {
    Machine::run(|machine| {
        let names = ["abandoned", "by-python", "detached", "held", "idle", "open", "strange"];
        make(machine, ALICE, &names);
        let mut held =
            LineChild::spawn(
                machine
                    .command(ALICE)
                    .args(["held", "run", "--", "sh", "-c", "echo in; read x"]),
            );
        held.wait_for_line("in");
        finished(machine.command(ALICE).args(["detached", "get"]));
        let died = finished(
            machine
                .command(ALICE)
                .args(["abandoned", "run", "--", "sh", "-c", "kill -9 $$"]),
        );
        assert!(!died.status.success());
        // Somebody who has the semaphore open, as a user of the Python module does: here root, whom alice cannot see.
        let open = "exec 3<> /dev/shm/sem.open; echo in; read x";
        let mut open = LineChild::spawn(machine.program(ROOT, "sh").args(["-c", open]));
        open.wait_for_line("in");
        let map = "import mmap,os\nf=os.open('/dev/shm/sem.by-python',os.O_RDWR)\nm=mmap.mmap(f,32)\nos.close(f)\nprint('in',flush=True)\ninput()";
        let mut mapped = LineChild::spawn(machine.program(ALICE, "python3").args(["-c", map]));
        mapped.wait_for_line("in");
        // What does not pass the rules is named, and left.
        fs::hard_link("/dev/shm/strange", "/dev/shm/other-name").unwrap();
        for user in [ALICE, ROOT] {
            let output = finished(machine.command(user).args(["prune", "--idle", "0", "--dry-run"]));
            assert_eq!(
                text(&output.stdout).lines().next().unwrap().split(':').next(),
                Some("idle")
            );
            assert_eq!(text(&output.stdout).lines().count(), 2, "{output:?}");
            let said = text(&output.stderr);
            assert!(
                said.contains("strange: not removed: ") && said.lines().count() == 1,
                "{said}"
            );
            assert_eq!(output.status.code(), Some(0));
        }
        // Whoever only looks is no user.
        let mut trace = LineChild::spawn(machine.command(ALICE).args(["idle", "trace", "-u", "1h"]));
        trace.line();
        finished(machine.command(ALICE).args(["prune", "--idle", "0", "-q"]));
        assert_eq!(
            locks(),
            ["abandoned", "by-python", "detached", "held", "open", "strange"]
        );
        for mut child in [held, open, mapped] {
            child.close_input();
            child.wait();
        }
        trace.kill();
        trace.wait();
        finished(machine.command(ALICE).args(["detached", "unget"]));
        finished(machine.command(ALICE).args(["abandoned", "unget"]));
        finished(machine.command(ALICE).args(["prune", "--idle", "0", "-q"]));
        assert_eq!(locks(), ["strange"]);
    });
}

/// A lock grows old.
#[test]
fn what_was_not_used_for_that_time() {
    let lock = TestLock::new("prune-old");
    let prune = |words: &[&str]| {
        let mut command = Command::new(lock.command(&[]).get_program());
        let output = command.arg("prune").args(words).arg(lock.name()).output().unwrap();
        text(&output.stdout)
    };
    assert!(lock.command(&["run", "--", "true"]).status().unwrap().success());
    assert_eq!(prune(&["--idle", "1h"]), "nothing to remove\n");
    wait_until("it is old enough", || {
        prune(&["--idle", "20ms", "--dry-run"]) != "nothing to remove\n"
    });
    let line = prune(&["--idle", "20ms", "--json"]);
    let pruned = Schema::of("prune").check(&line);
    assert_eq!(pruned["locks"][0]["lock"], lock.name());
    assert!(pruned["locks"][0]["unused_seconds"].as_f64() >= Some(0.02) && pruned["bytes"].as_u64() > Some(8192));
    assert!(lock.objects().is_empty());
}

/// One that only the Python module has used has no table: its note tells when that was.
#[test]
fn of_the_python_module() {
    let lock = TestLock::new("prune-python");
    let mut peer = Peer::open(&lock);
    assert!(peer.get(Some(5.0), "from Python"));
    peer.unget();
    let prune = |words: &[&str]| {
        let mut command = Command::new(lock.command(&[]).get_program());
        let output = command.arg("prune").args(words).arg(lock.name()).output().unwrap();
        text(&output.stdout).lines().count()
    };
    assert_eq!(prune(&["--idle", "0"]), 1, "it is open");
    drop(peer);
    assert_eq!(prune(&["--idle", "1h"]), 1);
    assert_eq!(prune(&["--idle", "0"]), 2);
    assert!(lock.objects().is_empty());
}

/// While one prunes over and over, others use the lock: they never overlap, and none fails.
#[test]
fn whoever_comes_meanwhile_gets_the_lock() {
    let lock = TestLock::new("prune-race");
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("counter");
    fs::write(&counter, "0").unwrap();
    let program = lock.command(&[]).get_program().to_owned();
    let script = format!(
        "i=0; while [ $i -lt 25 ]; do {} {} run -- sh -c 'read n < {2}; read x < /dev/null; echo $((n + 1)) > {2}' \
         || exit 1; i=$((i + 1)); done",
        program.to_string_lossy(),
        lock.name(),
        counter.display()
    );
    let mut users: Vec<_> = (0..2)
        .map(|_| Command::new("sh").args(["-c", &script]).spawn().unwrap())
        .collect();
    let mut removed = 0;
    while users.iter_mut().any(|user| user.try_wait().unwrap().is_none()) {
        let output = Command::new(&program)
            .args(["prune", "--idle", "0", lock.name()])
            .output()
            .unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
        removed += usize::from(output.stdout.starts_with(b"resourcelock-test"));
    }
    for mut user in users {
        assert!(user.wait().unwrap().success());
    }
    eprintln!("removed {removed} times");
    assert_eq!(fs::read_to_string(&counter).unwrap().trim(), "50");
}

#[test]
fn remove_takes_names_and_patterns() {
    Machine::run(|machine| {
        make(machine, ALICE, &["ci-1", "ci-2", "ci-3", "deploy", "nightly", "/c*"]);
        make(machine, BOB, &["ci-bob"]);
        finished(machine.command(ALICE).args(["ci-2", "get"]));
        let remove = |words: &[&str]| {
            let output = finished(machine.command(ALICE).args(words));
            (output.status.code(), text(&output.stdout), text(&output.stderr))
        };
        // The name of one; the others stay.
        assert_eq!(
            remove(&["/c*", "remove"]),
            (Some(0), "c*: removed\n".to_owned(), String::new())
        );
        let (status, out, err) = remove(&["ci-?", "remove", "nightly", "none-*", "nothing"]);
        assert_eq!(
            out,
            "ci-1: removed\nci-3: removed\nnightly: removed\nnone-*: there is no such lock\nnothing: there is no such lock\n"
        );
        assert!(
            err.starts_with("resourcelock: ci-2: not removed: held") && err.lines().count() == 1,
            "{err}"
        );
        assert_eq!(status, Some(125), "one of them stays");
        assert_eq!(locks(), ["ci-2", "ci-bob", "deploy"]);
        // A pattern means the caller's own locks.
        assert_eq!(remove(&["*bob", "remove"]).1, "*bob: there is no such lock\n");
        let (status, _, err) = remove(&["ci-*", "remove", "--force"]);
        assert_eq!(status, Some(125));
        assert!(err.contains("--force") && err.contains("no patterns"), "{err}");
        assert_eq!(remove(&["ci-2", "remove", "--force", "deploy"]).0, Some(0));
        assert_eq!(
            finished(machine.command(ROOT).args(["ci-*", "remove"])).status.code(),
            Some(0)
        );
        assert_eq!(locks(), [""; 0]);
    });
}

/// A lock that keeps when a job was done stays until the job's period is over.
#[test]
fn what_once_every_needs_stays() {
    Machine::run(|machine| {
        let run = |words: &[&str]| {
            let output = finished(machine.command(ALICE).args(words));
            assert!(output.status.success(), "{output:?}");
        };
        run(&["nightly", "run", "--once-every", "1d", "--", "true"]);
        run(&["often", "run", "--once-every", "1ms", "--", "true"]);
        run(&["other", "run", "--", "true"]);
        let prune = |user: User, words: &[&str]| finished(machine.command(user).arg("prune").args(words));
        wait_until("the short period is over", || {
            named(&prune(ROOT, &["--idle", "0", "--dry-run"])) == ["often", "other", "2"]
        });
        assert_eq!(named(&prune(ALICE, &["--idle", "0"])), ["often", "other", "2"]);
        assert_eq!(named(&prune(ROOT, &["--idle", "0", "nightly"])), ["nothing"]);
        assert_eq!(locks(), ["nightly"]);
        let again = finished(
            machine
                .command(ALICE)
                .args(["nightly", "run", "--once-every", "1d", "--", "true"]),
        );
        assert_eq!(again.status.code(), Some(75), "{again:?}");
        run(&["nightly", "remove"]);
        assert_eq!(locks(), [""; 0]);
    });
}

/// Where /dev/shm is full, the message counts the idle locks, and its command makes space.
#[test]
fn a_full_directory_names_the_command() {
    let script = r#"
        mount -o remount,size=2M /dev/shm
        i=0; while $RL lock-$i run -- true 2> /dev/shm/.said; do i=$((i + 1)); done
        cat /dev/shm/.said; $RL new run -- true; echo "status $? of $i"
        $RL prune --idle 0 -q && $RL new run -- echo ran; ls /dev/shm | wc -l"#;
    let output = in_private_shm(script);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let of = out
        .lines()
        .find_map(|line| line.strip_prefix("status 125 of "))
        .unwrap_or_else(|| panic!("{out}{err}"));
    let advised = format!(
        "free some space in /dev/shm: {of} locks are idle; remove what is no longer needed: resourcelock prune --idle 0"
    );
    assert!(err.contains(&advised), "{err} {advised}");
    assert!(out.ends_with("ran\n3\n"), "{out}{err}");
    assert!(!Path::new("/dev/shm/lock-0").exists());
}
