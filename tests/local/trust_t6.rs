//! T6: truncation does not end the supervision of a command, and nobody mistakes a lost table for a free lock.

use crate::common::run::{Running, signal};
use crate::common::worker::{Hands, Skill};
use crate::common::{Ask, Inside, LineChild, TestLock, Worker, printed, process_state, wait_until};
use nix::sys::signal::Signal;
use resourcelock::{Cancel, ResourceLock, Viewer};
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const PAGE: u64 = 4096;

/// What is done to the table.
#[derive(Debug, Clone, Copy)]
struct Damage {
    /// It is truncated to this size in bytes...
    to: u64,
    /// ...and, if true, at once extended to its old size.
    extended: bool,
}

impl Damage {
    fn to_file(self, path: &Path) {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let size = file.metadata().unwrap().len();
        file.set_len(self.to).unwrap();
        if self.extended {
            file.set_len(size).unwrap();
        }
    }

    fn to_table(self, lock: &TestLock) {
        self.to_file(&lock.paths().table_path());
    }
}

/// Damage that a table does not survive.
const FATAL: [Damage; 4] = [
    Damage { to: 0, extended: false },
    Damage { to: 0, extended: true },
    Damage {
        to: PAGE,
        extended: false,
    },
    Damage {
        to: PAGE,
        extended: true,
    },
];

/// Damage that spares the header, the words, and the records of a few requests.
const PARTIAL: [Damage; 2] = [
    Damage {
        to: 2 * PAGE,
        extended: false,
    },
    Damage {
        to: 2 * PAGE,
        extended: true,
    },
];

/// Each damage under each kind of supervision.
fn under_options(damages: impl IntoIterator<Item = Damage>) -> impl Iterator<Item = (Damage, &'static [&'static str])> {
    let options: [&[&str]; 3] = [&[], &["--limit", "1h"], &["--until", "tree"]];
    damages
        .into_iter()
        .flat_map(move |damage| options.map(|options| (damage, options)))
}

/// A file for a process's standard error.
struct Errors(tempfile::TempDir);

impl Errors {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> File {
        File::create(self.0.path().join("errors")).unwrap()
    }

    fn text(&self) -> String {
        fs::read_to_string(self.0.path().join("errors")).unwrap()
    }
}

/// Asserts that every command exits by itself with a documented status, and nobody gets the lock.
fn nobody_gets_it(lock: &TestLock, what: &str) {
    let commands: [&[&str]; 8] = [
        &["get", "-t", "0.1", "-q"],
        &["run", "-t", "0.1", "-q", "--", "true"],
        &["run", "-n", "-q", "--", "true"],
        &["state"],
        &["state", "--json"],
        &["history"],
        &["trace", "-u", "0.05", "-t", "0.2"],
        &["unget", "-q"],
    ];
    for words in commands {
        let output = lock.command(words).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let status = output.status.code();
        if words[0] == "get" || words[0] == "run" {
            assert!(matches!(status, Some(75 | 125)), "{what}: {words:?}: {status:?} {said}");
        }
        assert!(
            status.is_some_and(|status| status <= 125),
            "{what}: {words:?}: {output:?}"
        );
        if status == Some(125) {
            assert!(
                said.starts_with("resourcelock: ") && said.lines().count() == 1,
                "{words:?}: {said}"
            );
            assert!(said.contains("remove --force"), "{words:?}: {said}");
        }
    }
    let mut machine = crate::common::binary();
    assert!(machine.arg("list").output().unwrap().status.success(), "{what}");
    let doctor = crate::common::binary().args(["doctor", "--json"]).output().unwrap();
    assert!(matches!(doctor.status.code(), Some(0 | 1)), "{what}: {doctor:?}");
}

/// `remove --force` deletes only the table, as a holder may still be at work; after a forced release the lock is as
/// good as new.
fn is_as_new_after_removal(lock: &TestLock) {
    let said = printed(&mut lock.command(&["remove", "--force"]));
    assert!(said.contains("and nothing else"), "{said}");
    printed(&mut lock.command(&["unget"]));
    assert_eq!(printed(&mut lock.command(&["run", "-n", "--", "echo", "new"])), "new\n");
}

#[test]
fn while_a_request_waits() {
    for (damage, options) in under_options(FATAL) {
        let lock = TestLock::new("t6");
        printed(&mut lock.command(&["get"]));
        let errors = Errors::new();
        let mut command = lock.command(&[&["run"], options, &["--", "echo", "inside"]].concat());
        let mut waiter = LineChild::spawn(command.stderr(errors.file()));
        let mut getter = LineChild::spawn(lock.command(&["get", "-t", "-1"]).stderr(Stdio::null()));
        wait_until("both wait", || lock.state().waiters.len() == 2);
        damage.to_table(&lock);
        assert_eq!(waiter.wait().code(), Some(125), "{damage:?}");
        assert_eq!(getter.wait().code(), Some(125), "{damage:?}");
        assert_eq!(waiter.try_line(), None, "{damage:?}: not started without the lock");
        let said = errors.text();
        assert!(said.starts_with(&format!("resourcelock: {}: ", lock.name())), "{said}");
        assert!(said.contains("remove --force") && said.lines().count() == 1, "{said}");
        assert_eq!(lock.flag_word().value, 0, "the semaphore is left alone");
        if options.is_empty() {
            nobody_gets_it(&lock, &format!("{damage:?}"));
        }
        is_as_new_after_removal(&lock);
    }
}

/// The same for a request that waits for a holder of the semaphore itself.
#[test]
fn while_a_request_waits_for_a_foreign_holder() {
    for damage in FATAL {
        let lock = TestLock::new("t6");
        printed(&mut lock.command(&["run", "--", "true"]));
        let semaphore = OpenOptions::new()
            .write(true)
            .open(lock.paths().semaphore_path())
            .unwrap();
        std::os::unix::fs::FileExt::write_all_at(&semaphore, &[0; 8], 0).unwrap();
        let mut command = lock.command(&["run", "--", "echo", "inside"]);
        let mut waiter = LineChild::spawn(command.stderr(Stdio::null()));
        wait_until("it sleeps on the semaphore", || lock.flag_word().waiters == 1);
        damage.to_table(&lock);
        assert_eq!(waiter.wait().code(), Some(125), "{damage:?}");
        assert_eq!(waiter.try_line(), None, "{damage:?}");
    }
}

#[test]
fn between_grant_and_start() {
    for (damage, options) in under_options(FATAL.into_iter().chain(PARTIAL)) {
        let lock = TestLock::new("t6");
        let mut dead = Worker::open(&lock);
        assert!(dead.get(Ask::now()).is_some());
        dead.kill();
        let errors = Errors::new();
        let recover = ["run", "--recover", "echo gate; read line; echo $line"];
        let words = [&recover, options, &["--", "echo", "started"]].concat();
        let mut run = LineChild::spawn(lock.command(&words).stderr(errors.file()));
        run.wait_for_line("gate");
        damage.to_table(&lock);
        run.send("go");
        run.wait_for_line("go");
        let (status, rest) = (run.wait().code(), run.rest());
        if damage.to < 2 * PAGE {
            assert_eq!(
                (status, rest),
                (Some(76), vec![]),
                "{damage:?} {options:?}: {}",
                errors.text()
            );
            assert!(
                errors.text().contains("before the command was started"),
                "{}",
                errors.text()
            );
            if options.is_empty() {
                nobody_gets_it(&lock, &format!("{damage:?}"));
            }
        } else {
            assert!(matches!(status, Some(0 | 76)), "{damage:?} {options:?}: {status:?}");
        }
    }
}

/// The command gets its signals and exits by itself, and the loss is reported.
#[test]
fn while_the_command_runs() {
    for damage in FATAL {
        for options in [&[][..], &["--limit", "1h"], &["--until", "tree"], &["-s"], &["-j", "2"]] {
            let what = format!("{damage:?} {options:?}");
            let lock = TestLock::new("t6");
            let errors = Errors::new();
            let words = [&["run"], options, &["bash", "-c", crate::common::run::LISTENER]].concat();
            let mut command = lock.command(&words);
            command.stderr(errors.file());
            let mut running = Running::started(command);
            running.wait_until_recorded(&lock);
            damage.to_table(&lock);
            signal(running.wrapper, Signal::SIGUSR1);
            running.says("got USR1");
            running.says_nothing_else();
            wait_until("the loss is reported", || {
                errors.text().contains("truncated or overwritten")
            });
            if options.is_empty() {
                nobody_gets_it(&lock, &what);
            }
            signal(running.wrapper, Signal::SIGTERM);
            running.says("got TERM");
            running.child.close_input();
            assert_eq!(running.child.wait().code(), Some(76), "{what}");
            assert_eq!(errors.text().lines().count(), 1, "{what}: {}", errors.text());
            is_as_new_after_removal(&lock);
        }
    }
}

/// The caller blocks SIGBUS, and the command inherits that.
#[test]
fn under_a_caller_that_blocks_the_signal() {
    let lock = TestLock::new("t6");
    let run = lock.command(&[
        "run",
        "--",
        "bash", // which leaves the mask alone
        "-c",
        "grep SigBlk /proc/self/status; read line; echo $line",
    ]);
    let block = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGBUS]); \
                 os.execv(sys.argv[1], sys.argv[1:])";
    let mut python = std::process::Command::new("python3");
    python.args(["-c", block]).arg(run.get_program()).args(run.get_args());
    let mut child = LineChild::spawn(python.stderr(Stdio::null()));
    let blocked = child
        .line()
        .split_whitespace()
        .last()
        .map(|set| u64::from_str_radix(set, 16).unwrap());
    assert_eq!(blocked, Some(1 << (libc::SIGBUS - 1)));
    FATAL[0].to_table(&lock);
    child.send("on");
    child.wait_for_line("on");
    assert_eq!(child.wait().code(), Some(76));
}

/// The limit is kept: its signal ends the command.
#[test]
fn the_limit_is_kept() {
    for damage in FATAL {
        for options in [&[][..], &["--until", "tree"]] {
            let lock = TestLock::new("t6");
            let script = "trap 'echo asked; exit 3' TERM; sleep 600 & echo up; wait";
            let words = [&["run", "--limit", "0.5"], options, &["--", "sh", "-c", script]].concat();
            let mut run = LineChild::spawn(lock.command(&words).stderr(Stdio::null()));
            run.wait_for_line("up");
            damage.to_table(&lock);
            run.wait_for_line("asked");
            let status = run.wait().code();
            assert_eq!(status, Some(76), "{damage:?} {options:?}");
        }
    }
}

/// `--until tree` waits for what the command leaves behind.
#[test]
fn the_tree_is_waited_for() {
    for damage in FATAL {
        let lock = TestLock::new("t6");
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        printed(std::process::Command::new("mkfifo").arg(&pipe));
        let script = format!("sh -c 'read line < {0}; echo left' & echo up", pipe.display());
        let words = ["run", "--until", "tree", "--", "sh", "-c", &script];
        let mut run = LineChild::spawn(lock.command(&words).stderr(Stdio::null()));
        run.wait_for_line("up");
        damage.to_table(&lock);
        wait_until("the loss is noticed", || {
            let word = lock.flag_word();
            word.value == 0
        });
        assert!(run.try_wait().is_none());
        fs::write(&pipe, "\n").unwrap();
        run.wait_for_line("left");
        assert_eq!(run.wait().code(), Some(76), "{damage:?}");
    }
}

/// The release must wait for the table, which is then lost.
#[test]
fn while_it_is_released() {
    for (damage, options) in under_options(FATAL) {
        let lock = TestLock::new("t6");
        let mut run = LineChild::spawn(
            lock.command(&[&["run"], options, &["--", "cat"]].concat())
                .stderr(Stdio::null()),
        );
        run.send("up");
        run.wait_for_line("up");
        wait_until("the command's process is recorded", || {
            lock.state().holders.iter().any(|holder| holder.bound_pid.is_some())
        });
        let command = lock.state().holders[0].bound_pid.unwrap();
        let inside = Inside::enter(&lock);
        run.close_input();
        wait_until("the command has been reaped", || process_state(command).is_none());
        damage.to_table(&lock);
        let status = run.wait().code();
        // If it had stopped waiting for the table, it had already released the lock.
        assert!(matches!(status, Some(0 | 76)), "{damage:?} {options:?}: {status:?}");
        drop(inside);
        if options.is_empty() {
            nobody_gets_it(&lock, &format!("{damage:?}"));
        }
    }
}

/// A semaphore or a note is truncated under a running command.
#[test]
fn the_other_objects() {
    for (which, expected) in [(0, 76), (1, 9)] {
        let lock = TestLock::new("t6");
        let errors = Errors::new();
        let mut command = lock.command(&["run", "bash", "-c", crate::common::run::LISTENER]);
        command.stderr(errors.file());
        let mut running = Running::started(command);
        running.wait_until_recorded(&lock);
        let waiting = lock
            .command(&["run", "--", "echo", "inside"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        wait_until("one waits", || lock.state().waiters.len() == 1);
        let path = [lock.paths().semaphore_path(), lock.paths().note_path()][which].clone();
        Damage { to: 0, extended: false }.to_file(&path);
        signal(running.wrapper, Signal::SIGUSR1);
        running.says("got USR1");
        running.says_nothing_else();
        running.child.close_input();
        assert_eq!(
            running.child.wait().code(),
            Some(expected),
            "{path:?}: {}",
            errors.text()
        );
        let waiter = waiting.unwrap().wait_with_output().unwrap();
        let (status, said) = if which == 0 { (125, "") } else { (0, "inside\n") };
        assert_eq!(waiter.status.code(), Some(status));
        assert_eq!(String::from_utf8(waiter.stdout).unwrap(), said);
    }
}

/// How often a process has gone to sleep.
fn sleeps_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// `trace -f` goes on, whatever happens to the lock's files.
#[test]
fn who_follows_goes_on() {
    for damage in FATAL.into_iter().chain(PARTIAL) {
        let lock = TestLock::new("t6");
        printed(&mut lock.command(&["run", "--", "true"]));
        let mut trace = LineChild::spawn(&mut lock.command(&["trace", "-f"]));
        wait_until("it follows", || {
            printed(&mut lock.command(&["run", "-q", "--", "true"]));
            trace.try_line().is_some()
        });
        printed(&mut lock.command(&["get"]));
        damage.to_table(&lock);
        if damage.to == 2 * PAGE && damage.extended {
            printed(&mut lock.command(&["unget"]));
            while !trace.line().contains("released") {}
        }
        let slept = sleeps_of(trace.id());
        wait_until("it has looked some times", || {
            assert!(trace.try_wait().is_none(), "{damage:?}");
            sleeps_of(trace.id()) >= slept + 4
        });
        signal(trace.id(), Signal::SIGTERM);
        assert!(trace.wait().success());
    }
}

/// How often the program's own handler has run.
static CALLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn on_bus_error(_: i32) {
    CALLED.fetch_add(1, Ordering::SeqCst);
}

/// A program that installs its own handler, then asks for ours, then gets the signal.
fn survive(_: &mut Hands, _: &[Value]) -> Value {
    // SAFETY: the handler makes one atomic addition.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGBUS, on_bus_error as *const () as usize)
    };
    resourcelock::survive_truncation().expect("a handler can be installed");
    resourcelock::survive_truncation().expect("once");
    nix::sys::signal::raise(Signal::SIGBUS).expect("it can be sent");
    json!(CALLED.load(Ordering::SeqCst))
}

/// A program that looks at a lock and follows it, and has not asked for a handler. Answers whether the lock is taken,
/// whether by an unknown holder, and how many of its files are mapped where the program could touch them.
fn look(_: &mut Hands, arguments: &[Value]) -> Value {
    static VIEWER: OnceLock<Viewer> = OnceLock::new();
    let name = arguments[0].as_str().expect("a name");
    let open = || ResourceLock::builder(name).open_existing().expect("it exists");
    let viewer = VIEWER.get_or_init(|| {
        std::thread::spawn({
            let viewer = open();
            move || {
                let mut watch = viewer.watch().unwrap();
                while watch.next(&Cancel::new()).unwrap().is_some() {}
            }
        });
        open()
    });
    let state = viewer.state().unwrap();
    let _ = viewer.history().unwrap();
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc");
    let table = viewer.name().table_path();
    let mapped = maps.lines().filter(|line| line.contains("/dev/shm/"));
    // To follow, one page of the table is mapped, which only the kernel touches.
    let others = mapped.filter(|line| !line.ends_with(table.to_str().expect("text")));
    json!([state.locked, state.foreign, others.count()])
}

pub const SKILLS: &[(&str, Skill)] = &[("survive", survive), ("look", look)];

#[test]
fn a_program_that_only_looks() {
    for damage in FATAL.into_iter().chain(PARTIAL) {
        let lock = TestLock::new("t6");
        printed(&mut lock.command(&["get"]));
        let mut viewer = Worker::start();
        assert_eq!(viewer.ask(json!(["look", lock.name()])), json!([true, false, 0]));
        damage.to_table(&lock);
        let lost = damage.to < 2 * PAGE;
        for _ in 0..20 {
            assert_eq!(
                viewer.ask(json!(["look", lock.name()])),
                json!([true, lost, 0]),
                "{damage:?}"
            );
        }
        Damage { to: 0, extended: false }.to_file(&lock.paths().semaphore_path());
        assert_eq!(
            viewer.ask(json!(["look", lock.name()])),
            json!([true, true, 0]),
            "{damage:?}"
        );
    }
}

/// A program that uses the library survives if it has asked to; for everything else its own handler is called.
#[test]
fn a_program_that_asks_for_it() {
    for damage in FATAL {
        let lock = TestLock::new("t6");
        let mut holder = Worker::start();
        assert_eq!(holder.ask(json!(["survive"])), json!(1));
        assert_eq!(holder.ask(json!(["open", lock.name()])), Value::Null);
        assert!(holder.get(Ask::now()).is_some());
        damage.to_table(&lock);
        assert_eq!(holder.ask(json!(["lost"])), json!("damaged"), "{damage:?}");
        assert_eq!(
            holder.ask(json!(["is_locked"])),
            json!(true),
            "{damage:?}: not mistaken for free"
        );
        assert!(!holder.release());
    }
}
