//! Help; and mistakes, invalid names and invalid objects: one line, status 125, nothing changed.

use crate::common::{TestLock, binary};
use crate::tested::has;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::{Output, Stdio};

fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().expect("the program runs")
}

/// The only line on standard error of a program that refused.
fn refusal(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    assert_eq!(output.status.code(), Some(125), "{text}");
    assert!(output.stdout.is_empty());
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("resourcelock: "), "{text}");
    text
}

#[test]
fn help_fits_one_screen_and_shows_examples() {
    for arguments in [&["-h"][..], &["--help"], &["help"], &["--h"]] {
        let output = run(arguments);
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(text.lines().count() <= 32, "{text}");
        assert!(text.contains("Examples:"));
    }
    let commands = [
        "run",
        "get",
        "unget",
        "state",
        "trace",
        "history",
        "remove",
        "list",
        "doctor",
        "completions",
    ];
    for command in commands {
        let by_word = run(&["help", command]);
        let by_option = run(&["bus", command, "-h"]);
        let text = String::from_utf8(by_word.stdout).expect("UTF-8");
        if !["list", "doctor", "completions"].contains(&command) {
            assert_eq!(text, String::from_utf8(by_option.stdout).expect("UTF-8"), "{command}");
        }
        let examples = text.lines().skip_while(|line| *line != "Examples:").skip(1);
        assert_eq!(examples.filter(|line| line.starts_with("  ")).count(), 2, "{text}");
        assert!(!text.contains('\u{1b}'), "colour in a pipe: {text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}

#[test]
fn the_version() {
    let expected = format!("resourcelock {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(run(&["-V"]).stdout).expect("UTF-8"), expected);
    assert_eq!(
        String::from_utf8(run(&["--version", "bus", "get"]).stdout).expect("UTF-8"),
        expected
    );
}

#[test]
fn mistakes_are_one_line() {
    for (arguments, part) in [
        (&[][..], "which lock"),
        (&["bus"], "what to do with bus?"),
        (&["bus", "gett"], "did you mean 'get'?"),
        (&["bus", "get", "-t", "nan"], "not a time"),
        (&["bus", "get", "-t", "-3"], "cannot be negative"),
        (&["bus", "get", "-E", "256"], "256"),
        (&["bus", "get", "--nope"], "there is no option '--nope'"),
        (&["bus", "run"], "which command?"),
        (&["bus", "get", "--mode", "640"], "both reads and writes"),
        (&["bus", "get", "--backend", "redis://localhost"], "cannot be used"),
        (&["a/b", "get"], "contains a '/'"),
        (&["sem.x", "state"], "'sem.'"),
        (&["resourcelock.x", "run", "true"], "'resourcelock.'"),
        (&["..", "unget"], "directory"),
        (&["", "get"], "it is empty"),
        (&["a\u{1b}[31mb", "get"], "a\\u{1b}[31mb"),
    ] {
        let line = refusal(&run(arguments));
        assert!(line.contains(part), "{arguments:?}: {line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
}

/// The message names all that the URL needs at once, not one feature after the other. What is built in goes on to the
/// server, which is not there.
#[test]
fn an_engine_and_encryption_that_are_not_built_in() {
    for (url, features) in [
        ("etcd://127.0.0.1:1", "etcd"),
        ("etcds://127.0.0.1:1", "etcd,tls"),
        ("postgres://127.0.0.1:1/db", "postgres"),
        (
            "postgres://127.0.0.1:1/db?sslmode=verify-full&sslrootcert=system",
            "postgres,tls",
        ),
        (
            "postgres://127.0.0.1:1/db?connect_timeout=3&sslmode=require",
            "postgres,tls",
        ),
    ] {
        let by_option = run(&["bus", "run", "--backend", url, "true"]);
        let mut from_environment = binary();
        from_environment.args(["bus", "state"]).env("RESOURCELOCK_BACKEND", url);
        for output in [by_option, from_environment.output().expect("it runs")] {
            let line = String::from_utf8_lossy(&output.stderr).into_owned();
            let (status, wanted) = if features.split(',').all(has) {
                (69, "127.0.0.1:1".to_owned())
            } else {
                (125, format!("build with --features {features}"))
            };
            assert_eq!(output.status.code(), Some(status), "{url}: {line}");
            assert!(line.contains(&wanted), "{url}: {line}");
        }
    }
}

/// If a variable left empty by mistake meant this machine, each would have its own lock instead of a common one.
#[test]
fn an_engine_that_is_empty() {
    let lock = TestLock::new("no-engine");
    let name = lock.name();
    for words in [&[name, "get"][..], &[name, "run", "true"], &["list"], &["doctor"]] {
        let by_variable = binary().args(words).env("RESOURCELOCK_BACKEND", "").output();
        let by_option = binary().args(["--backend", ""]).args(words).output();
        for (output, place) in [(by_variable, "RESOURCELOCK_BACKEND"), (by_option, "--backend")] {
            let line = refusal(&output.expect("it runs"));
            assert!(line.starts_with(&format!("resourcelock: {place} is empty")), "{line}");
            assert!(line.contains("local: for this machine"), "{line}");
        }
    }
    assert!(lock.objects().is_empty(), "nothing was created");
}

/// With a level that does not exist, less is logged than intended: a warning says so, once.
#[test]
fn a_log_that_is_not_understood() {
    for (filters, shown) in [
        ("foo", true),
        ("resourcelock=loud", true),
        ("info", false),
        ("off", false),
    ] {
        let output = binary()
            .arg("list")
            .env("RESOURCELOCK_LOG", filters)
            .output()
            .expect("it runs");
        assert!(output.status.success());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.contains("RESOURCELOCK_LOG"), shown, "{filters}: {said}");
        assert_eq!(said.lines().count(), usize::from(shown), "{said}");
    }
}

/// A line is written in one piece, so that lines of several processes do not mix. A socket that preserves message
/// boundaries shows the pieces.
#[test]
fn a_line_is_written_in_one_piece() {
    for (words, log) in [
        (&["bus", "get", "--no-such"][..], ""),
        (&["list"], "foo"),
        (&["-vv", "list"], ""),
    ] {
        let (theirs, ours) = std::os::unix::net::UnixDatagram::pair().expect("sockets");
        let status = binary()
            .args(words)
            .env("RESOURCELOCK_LOG", log)
            .stdout(Stdio::null())
            .stderr(std::os::fd::OwnedFd::from(theirs))
            .status();
        assert!(status.is_ok());
        ours.set_nonblocking(true).expect("a flag");
        let mut piece = [0; 4096];
        while let Ok(length) = ours.recv(&mut piece) {
            let piece = String::from_utf8_lossy(&piece[..length]).into_owned();
            assert!(piece.ends_with('\n'), "{piece:?}");
        }
    }
}

#[test]
fn this_machine_by_its_url() {
    let local = binary()
        .args(["list", "-q", "--backend", "local:"])
        .output()
        .expect("it runs");
    assert!(local.status.success());
}

#[test]
fn a_name_that_is_not_utf8() {
    let mut command = binary();
    command.arg(std::ffi::OsStr::from_bytes(b"a\xff")).arg("get");
    assert!(refusal(&command.output().expect("it runs")).contains("UTF-8"));
}

#[test]
fn an_unknown_group() {
    let lock = TestLock::new("group");
    let output = lock
        .command(&["get", "--group", "no such group"])
        .output()
        .expect("it runs");
    assert!(refusal(&output).contains("there is no group 'no such group'"));
    assert!(lock.objects().is_empty(), "nothing was created");
}

#[test]
fn objects_that_are_none() {
    let lock = TestLock::new("folder");
    fs::create_dir(lock.paths().semaphore_path()).expect("a folder can be made");
    for command in ["get", "state", "unget", "history", "trace"] {
        let line = refusal(&lock.command(&[command]).output().expect("it runs"));
        assert!(line.contains(lock.name()), "{line}");
    }
    assert_eq!(lock.objects().len(), 1, "nothing was created beside it");
    let short = TestLock::new("short");
    fs::write(short.paths().semaphore_path(), b"four").expect("a file can be made");
    refusal(&short.command(&["get"]).output().expect("it runs"));
    assert_eq!(fs::read(short.paths().semaphore_path()).expect("it is there"), b"four");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let lock = TestLock::new("pipe");
    assert!(lock.command(&["get", "-q"]).status().expect("it runs").success());
    for arguments in [
        &["state"][..],
        &["trace", "-u", "0.01"],
        &["history"],
        &["state", "--json"],
        &["-h"],
    ] {
        let mut child = lock
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{arguments:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let lock = TestLock::new("full");
    let full = fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("this system has one");
    let output = lock.command(&["state"]).stdout(full).output().expect("it runs");
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to standard output"));
}

#[test]
fn the_log_is_shown_to_those_who_ask() {
    let lock = TestLock::new("log");
    let logged = |arguments: &[&str], variable: &str| {
        let output = lock
            .command(arguments)
            .env("RESOURCELOCK_LOG", variable)
            .output()
            .expect("it runs");
        assert!(output.status.success());
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    assert_eq!(logged(&["get", "-q"], ""), "");
    assert_eq!(logged(&["unget", "-q", "-v"], ""), "");
    let granted = format!("<{}> lock request successful - Granted", lock.name());
    assert!(logged(&["get", "-q", "-vv"], "").contains(&granted));
    let released = format!("<{}> lock force released  <why>", lock.name());
    assert!(logged(&["unget", "-q", "-m", "why"], "debug").contains(&released));
    assert_eq!(logged(&["get", "-q", "-vv"], "off"), "");
}
