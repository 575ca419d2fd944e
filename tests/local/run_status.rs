//! `run`: exit statuses, finding the command, messages, the command's environment.

use crate::common::run::{hold, wait_for_waiters};
use crate::common::{LineChild, TestLock, install_script, printed, wait_until};
use resourcelock::UngetOptions;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("the program starts")
}

fn status(lock: &TestLock, words: &[&str]) -> i32 {
    output(&mut lock.command(words))
        .status
        .code()
        .expect("it ends by itself")
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[test]
fn the_commands_own_status() {
    let lock = TestLock::new("status");
    for code in [0, 1, 7, 75, 125, 255] {
        assert_eq!(status(&lock, &["run", "--", "sh", "-c", &format!("exit {code}")]), code);
    }
    assert!(!lock.state().locked);
}

#[test]
fn what_follows_the_command_belongs_to_it() {
    let lock = TestLock::new("words");
    assert_eq!(
        printed(&mut lock.command(&["run", "-n", "echo", "-n", "-t", "5"])),
        "-t 5"
    );
    assert_eq!(
        printed(&mut lock.command(&["run", "--", "echo", "--", "-v"])),
        "-- -v\n"
    );
}

#[test]
fn dies_of_the_commands_signal_without_a_core_file() {
    let lock = TestLock::new("death");
    let folder = tempfile::tempdir().unwrap();
    for signal in [1, 2, 3, 6, 9, 11, 13, 14, 15, 34, 64] {
        let script = format!("ulimit -c 0; kill -{signal} $$");
        let mut shell = Command::new("sh");
        let inner = lock.command(&["run", "--", "sh", "-c", &script]);
        shell
            .args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"])
            .arg(inner.get_program())
            .args(inner.get_args());
        let status = output(shell.current_dir(&folder)).status;
        assert_eq!(status.signal(), Some(signal), "{status}");
        assert!(!status.core_dumped(), "signal {signal}");
        assert_eq!(
            fs::read_dir(&folder).unwrap().count(),
            0,
            "a core file after signal {signal}"
        );
    }
    assert!(!lock.state().locked);
}

#[test]
fn a_command_that_is_not_found_is_127_and_one_that_cannot_be_executed_126() {
    let lock = TestLock::new("notfound");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plain");
    fs::write(&file, "echo hello\n").unwrap();
    for (command, expected) in [
        ("no-such-command-here", 127),
        ("/no/such/file", 127),
        ("", 127),
        ("/etc/passwd/x", 126),
        (file.to_str().unwrap(), 126),
        (folder.path().to_str().unwrap(), 126),
    ] {
        let output = output(&mut lock.command(&["run", "--", command]));
        assert_eq!(output.status.code(), Some(expected), "{command:?}");
        let line = errors(&output);
        assert!(
            line.starts_with(&format!("resourcelock: {}: cannot execute", lock.name())),
            "{line}"
        );
        assert_eq!(line.lines().count(), 1);
    }
    // A bare name whose only file is not executable; and one that is found after such a file.
    let bin = tempfile::tempdir().unwrap();
    fs::copy(&file, bin.path().join("plain")).unwrap();
    let path = |folders: &str| format!("{folders}:/usr/bin:/bin");
    let run = |folders: &str| {
        let mut command = lock.command(&["run", "--", "plain"]);
        output(command.env("PATH", path(folders))).status.code()
    };
    assert_eq!(run(folder.path().to_str().unwrap()), Some(126));
    fs::set_permissions(bin.path().join("plain"), fs::Permissions::from_mode(0o755)).unwrap();
    let both = format!("{}:{}", folder.path().display(), bin.path().display());
    assert_eq!(run(&both), Some(0));
    assert!(!lock.state().locked);
}

#[test]
fn a_bare_name_is_looked_up_before_the_wait() {
    let lock = TestLock::new("early");
    let holder = hold(&lock, &[]);
    // It would wait forever.
    assert_eq!(status(&lock, &["run", "no-such-command-here"]), 127);
    assert!(lock.state().waiters.is_empty());
    holder.finish();
}

#[test]
fn a_path_with_a_slash_is_executed_after_the_grant() {
    let lock = TestLock::new("late");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("built");
    let holder = hold(&lock, &[]);
    let mut waiter = LineChild::spawn(&mut lock.command(&["run", file.to_str().unwrap()]));
    wait_for_waiters(&lock, 1);
    install_script(&file, "#!/bin/sh\necho built\nexit 4\n");
    holder.finish();
    assert_eq!(waiter.line(), "built");
    assert_eq!(waiter.wait().code(), Some(4));
}

#[test]
fn a_script_without_an_interpreter_line_is_given_to_sh() {
    let lock = TestLock::new("script");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script");
    fs::write(&file, "echo \"$0 $# $1\"\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let file = file.to_str().unwrap();
    for no_fork in [&[][..], &["-F"]] {
        let words = [&["run"], no_fork, &["--", file, "a b", "c"]].concat();
        assert_eq!(printed(&mut lock.command(&words)), format!("{file} 2 a b\n"));
    }
    let mut by_name = lock.command(&["run", "--", "script"]);
    by_name.env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()));
    assert_eq!(printed(&mut by_name), format!("{file} 0 \n"));
}

#[test]
fn a_string_for_the_shell() {
    let lock = TestLock::new("shell");
    assert_eq!(
        printed(
            lock.command(&["run", "-c", "echo $((1+1)); exit 0"])
                .env_remove("SHELL")
        ),
        "2\n"
    );
    let mut own = lock.command(&["run", "-c", "echo \"$BASH_VERSION\""]);
    assert_ne!(printed(own.env("SHELL", "/bin/bash")), "\n");
    assert_eq!(status(&lock, &["run", "--show-args", "-c", "exit 6"]), 6);
    let note = lock.note_text();
    assert!(note.ends_with(" -c 'exit 6'"), "{note}");
}

#[test]
fn the_note_is_the_commands_name_or_the_message() {
    let lock = TestLock::new("note");
    let note = || lock.note_text().split_once(" - ").map(|(_, text)| text.to_owned());
    printed(&mut lock.command(&["run", "/bin/true", "x"]));
    assert_eq!(note().as_deref(), Some("true"));
    printed(&mut lock.command(&["run", "-m", "bus scan", "true"]));
    assert_eq!(note().as_deref(), Some("bus scan"));
}

#[test]
fn not_acquired_in_time() {
    let lock = TestLock::new("busy");
    let holder = hold(&lock, &["-m", "bus scan"]);
    for words in [
        &["-n"][..],
        &["-t", "0"],
        &["-w", "0.05"],
        &["--timeout", "50ms"],
        &["--nb"],
    ] {
        assert_eq!(status(&lock, &[&["run"], words, &["true"]].concat()), 75, "{words:?}");
    }
    let output_of = |words: &[&str]| output(&mut lock.command(&[&["run"], words, &["true"]].concat()));
    let plain = output_of(&["-n"]);
    let line = errors(&plain);
    assert!(
        line.starts_with(&format!(
            "resourcelock: {}: held by {} (bash, ",
            lock.name(),
            holder.wrapper
        )),
        "{line}"
    );
    assert!(line.contains("bus scan"), "{line}");
    assert!(line.contains(&format!("resourcelock {} state", lock.name())), "{line}");
    assert_eq!(line.lines().count(), 1);
    for (words, code, silent) in [
        (&["-n", "-E", "3"][..], 3, false),
        (&["-n", "-E", "0"], 0, true),
        (&["-n", "-q"], 75, true),
        (&["-n", "-E", "255"], 255, false),
    ] {
        let output = output_of(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}");
        assert_eq!(output.stderr.is_empty(), silent, "{words:?}");
    }
    holder.finish();
}

#[test]
fn waits_and_says_so_with_v() {
    let lock = TestLock::new("wordy");
    let holder = hold(&lock, &["-m", "bus scan"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("errors");
    let mut command = lock.command(&["run", "-v", "true"]);
    let mut waiter = LineChild::spawn(command.stderr(fs::File::create(&file).unwrap()));
    let text = || fs::read_to_string(&file).unwrap();
    let expected = format!("waiting for {}: held by {} (bash, ", lock.name(), holder.wrapper);
    wait_until("it says that it waits", || text().contains(&expected));
    holder.finish();
    assert_eq!(waiter.wait().code(), Some(0));
    assert!(
        text().contains(&format!("acquired {} after ", lock.name())),
        "{}",
        text()
    );
}

#[test]
fn what_the_command_finds_in_its_environment() {
    let lock = TestLock::new("env");
    let mut command = lock.command(&["run", "env"]);
    command
        .env("RESOURCELOCK_ABANDONED", "1")
        .env("RESOURCELOCK_TOKEN", "0")
        .env("OTHER", "kept");
    let text = printed(&mut command);
    let value = |name: &str| {
        let prefix = format!("RESOURCELOCK_{name}=");
        let found: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
        assert!(found.len() <= 1, "{text}");
        found.first().map(|value| value.to_string())
    };
    let token = value("TOKEN").expect("a token");
    assert_ne!(token, "0");
    assert_eq!(value("NAME").as_deref(), Some(lock.name()));
    assert_eq!(value("HELD"), Some(format!("{token}:{}", lock.name())));
    assert_eq!(value("ABANDONED"), None);
    assert!(text.contains("OTHER=kept\n"));
    let second = printed(&mut lock.command(&["run", "sh", "-c", "echo $RESOURCELOCK_TOKEN"]));
    assert!(second.trim().parse::<u64>().unwrap() > token.parse().unwrap());
}

#[test]
fn one_lock_inside_another() {
    let (outer, inner) = (TestLock::new("outer"), TestLock::new("inner"));
    let script = format!(
        "\"$0\" {} run sh -c 'echo $RESOURCELOCK_NAME $RESOURCELOCK_HELD'",
        inner.name()
    );
    let binary = outer.command(&[]).get_program().to_owned();
    let mut command = outer.command(&["run", "sh", "-c", &script]);
    let text = printed(command.arg(binary));
    let (name, held) = text.trim().split_once(' ').expect("two words");
    assert_eq!(name, inner.name());
    let locks: Vec<&str> = held
        .split('/')
        .filter_map(|part| part.split_once(':'))
        .map(|(_, lock)| lock)
        .collect();
    assert_eq!(locks, [outer.name(), inner.name()]);
}

/// Runs `resourcelock NAME run OPTIONS -- SCRIPT` within a job that holds the lock in the mode given by `outer`.
fn nested(lock: &TestLock, outer: &[&str], inner: &[&str], script: &str) -> Output {
    let program = lock.command(&[]).get_program().to_str().unwrap().to_owned();
    let words = [
        &["run"],
        outer,
        &["--", &program, lock.name(), "run"],
        inner,
        &["--", "sh", "-c", script],
    ]
    .concat();
    output(&mut lock.command(&words))
}

#[test]
fn a_job_does_not_wait_for_itself() {
    let lock = TestLock::new("self");
    for (outer, inner) in [
        (&[][..], &[][..]),
        (&["-s"], &[]),
        (&[], &["-s"]),
        (&["-j", "1"], &["-j", "1"]),
    ] {
        let output = nested(&lock, outer, inner, "echo ran");
        assert_eq!(output.status.code(), Some(125), "{outer:?} {inner:?}");
        assert!(errors(&output).contains("wait for itself"), "{}", errors(&output));
    }
    let limited = nested(&lock, &[], &["-t", "0.05"], "echo ran");
    assert_eq!(limited.status.code(), Some(75));
    assert!(errors(&limited).contains("waits for itself"), "{}", errors(&limited));
    for (outer, inner) in [(&["-s"][..], &["-s"][..]), (&["-j", "2"], &["-j", "2"])] {
        assert_eq!(
            nested(&lock, outer, inner, "echo ran").stdout,
            b"ran\n",
            "{outer:?} {inner:?}"
        );
    }
}

#[test]
fn same_process_ok_runs_under_the_hold_that_the_job_has() {
    let lock = TestLock::new("same");
    let script = "echo $RESOURCELOCK_TOKEN $RESOURCELOCK_HELD; exit 5";
    let output = nested(&lock, &[], &["--same-process-ok"], script);
    assert_eq!(output.status.code(), Some(5), "{}", errors(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let (token, held) = text.trim().split_once(' ').unwrap();
    assert_eq!(held, format!("{token}:{}", lock.name()));
    // A token that is no longer held does not count.
    let mut stale = lock.command(&["run", "--same-process-ok", "sh", "-c", "echo $RESOURCELOCK_TOKEN"]);
    let fresh = printed(stale.env("RESOURCELOCK_HELD", held));
    assert_ne!(fresh.trim(), token);
    assert_eq!(lock.state().counters.unwrap().acquisitions, 2);
}

#[test]
fn shared_and_counting_holds_run_together() {
    for (options, third) in [(&["-s"][..], &["-x", "-n"][..]), (&["-j", "2"], &["-j", "2", "-n"])] {
        let lock = TestLock::new("together");
        let (one, two) = (hold(&lock, options), hold(&lock, options));
        assert_eq!(status(&lock, &[&["run"], third, &["true"]].concat()), 75, "{options:?}");
        one.finish();
        two.finish();
    }
}

#[test]
fn a_hold_that_was_released_by_force_ends_with_76() {
    let lock = TestLock::new("forced");
    let mut running = hold(&lock, &[]);
    assert!(lock.open().unget_lock(UngetOptions::new().force(true)).unwrap());
    running.child.close_input();
    assert_eq!(running.child.wait().code(), Some(76));
}

#[test]
fn deleted_objects_are_noticed_while_the_command_runs() {
    let lock = TestLock::new("deleted");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("errors");
    let mut command = lock.command(&["run", "sh", "-c", "echo up; read _; exit 0"]);
    let mut running = LineChild::spawn(command.stderr(fs::File::create(&file).unwrap()));
    running.wait_for_line("up");
    for object in lock.objects() {
        fs::remove_file(object).unwrap();
    }
    wait_until("it warns", || fs::read_to_string(&file).unwrap().contains("deleted"));
    running.close_input();
    assert_eq!(running.wait().code(), Some(76));
}
