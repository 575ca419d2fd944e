//! Messages of commands that fail, triggered with the real program and compared with a committed list: whoever changes
//! one sees it there, and reads it. (What is said about wrong command lines is in `src/cli/refusals.txt`.)
//!
//! `BLESS=1 cargo test --all-features --test local messages::` rewrites the list.

use crate::common::printed_in_private_shm;
use std::path::Path;

/// What happens first, and the command that fails; each begins with no lock at all.
const CASES: [(&str, &str); 48] = [
    ("resourcelock bus get -q", "resourcelock bus run -n -- true"),
    (
        "resourcelock bus get -q -m 'a scan'",
        "resourcelock bus run -t 0.01 -- true",
    ),
    ("resourcelock bus get -q --ttl 1h", "resourcelock bus get -n"),
    ("resourcelock bus get -q -s", "resourcelock bus get -n"),
    ("resourcelock bus get -q -j 3", "resourcelock bus get -n -j 2"),
    ("resourcelock bus get -q", "resourcelock bus get -n -E 7"),
    (
        "resourcelock bus get -q; resourcelock bus run -n -E 0 --max-skips 2 -- true",
        "resourcelock bus run -n -E 0 --max-skips 2 -- true",
    ),
    (
        "resourcelock bus run --hold-at-least 1h -- true",
        "resourcelock bus run -n -- true",
    ),
    ("resourcelock bus get -q", "resourcelock bus remove"),
    ("", "resourcelock bus remove"),
    ("", "resourcelock bus state"),
    ("", "resourcelock bus history"),
    ("", "resourcelock bus trace -f"),
    ("", "resourcelock bus unget"),
    ("resourcelock bus get -q", "resourcelock bus unget --token 1"),
    ("resourcelock bus get -q", "resourcelock bus unget --pid 1"),
    ("", "resourcelock bus stop"),
    ("resourcelock bus get -q", "resourcelock bus stop"),
    ("resourcelock bus get -q --pid $$", "resourcelock bus stop"),
    ("", "resourcelock bus run -- resourcelock bus stop"),
    ("", "resourcelock bus get --pid 2147483647"),
    ("", "resourcelock bus run -- /nonexistent/program"),
    ("", "resourcelock bus run -- nonexistent-program"),
    ("", "resourcelock bus run -- /etc/passwd"),
    ("", "resourcelock bus run --limit 0.01 -- sleep 60"),
    ("", "resourcelock bus run -- resourcelock bus run -- true"),
    ("", "resourcelock bus run -- resourcelock bus get -n"),
    (
        "resourcelock bus run -- sh -c 'kill -KILL $$'",
        "resourcelock bus run -- true",
    ),
    (
        "resourcelock bus run -- sh -c 'kill -KILL $$'",
        "resourcelock bus run --on-abandoned fail -- true",
    ),
    (
        "resourcelock bus run -- sh -c 'kill -KILL $$'",
        "resourcelock bus run --recover false -- true",
    ),
    (
        "resourcelock bus run -- sh -c 'kill -KILL $$'",
        "resourcelock bus run --recover true -- true",
    ),
    ("", "resourcelock a/b get"),
    ("", "resourcelock '' get"),
    ("", "resourcelock resourcelock3.bus get"),
    ("", "resourcelock bus get --group nonexistent-group"),
    ("", "resourcelock bus get --owner nonexistent-user"),
    ("", "resourcelock bus get --backend ''"),
    ("export RESOURCELOCK_BACKEND=", "resourcelock bus get"),
    (
        "unset RESOURCELOCK_BACKEND",
        "resourcelock bus get --backend nonexistent://host",
    ),
    ("mkdir /dev/shm/sem.bus", "resourcelock bus get"),
    ("ln -s /etc/passwd /dev/shm/sem.bus", "resourcelock bus get"),
    ("head -c 7 /dev/zero > /dev/shm/sem.bus", "resourcelock bus get"),
    ("head -c 16 /dev/zero > /dev/shm/sem.bus", "resourcelock bus get"),
    (
        "resourcelock bus get -q; : > /dev/shm/resourcelock3.bus",
        "resourcelock bus unget",
    ),
    (
        "resourcelock bus get -q; chmod 666 /dev/shm/sem.bus",
        "resourcelock bus get",
    ),
    ("echo other > /dev/shm/bus", "resourcelock bus get"),
    (
        "resourcelock bus get -q",
        "resourcelock bus history --svg /nonexistent/picture",
    ),
    (
        "resourcelock bus get -q",
        "sh -c 'exec resourcelock bus state >/dev/full'",
    ),
];

/// Numbers and times differ: they become `#`.
fn without_numbers(line: &str) -> String {
    let mut masked = String::new();
    for character in line.chars() {
        match character {
            '0'..='9' if masked.ends_with('#') => {}
            '0'..='9' => masked.push('#'),
            _ => masked.push(character),
        }
    }
    for time in ["#.# s", "# s", "# ms", "# µs"] {
        masked = masked.replace(&format!("for {time}:"), "for #:");
    }
    masked
}

#[test]
fn commands_that_fail_say_what_is_committed() {
    let mut script = "PATH=${RL%/*}:$PATH\n".to_owned();
    for (before, command) in CASES {
        // Each in a shell of its own, for what it exports.
        let before = if before.is_empty() { ":" } else { before };
        script.push_str(&format!(
            "(rm -rf /dev/shm/*; {{ {before}; }} >/dev/null 2>&1
              {command} </dev/null 2>&1 >/dev/null; echo \"status $?\"; echo ------)\n"
        ));
    }
    let output = printed_in_private_shm(&script);
    let said: Vec<&str> = output.split_terminator("------\n").collect();
    assert_eq!(said.len(), CASES.len(), "{output}");
    let mut text =
        "What commands say that fail; # is a number or a time. Rewritten by: BLESS=1 cargo test --all-features --test local messages::\n"
            .to_owned();
    for ((before, command), said) in CASES.iter().zip(said) {
        text.push_str(&format!(
            "\n{before}{}{command}\n",
            if before.is_empty() { "" } else { "; " }
        ));
        let (said, status) = said.trim_end().rsplit_once("status ").unwrap();
        for line in said.lines() {
            text.push_str(&format!("    {}\n", without_numbers(line)));
        }
        text.push_str(&format!("    status {status}\n"));
    }
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/local/messages.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&list, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&list).unwrap();
    let news: Vec<&str> = text
        .lines()
        .filter(|line| !committed.lines().any(|other| other == *line))
        .collect();
    assert!(text == committed, "new: {news:#?}\n(BLESS=1 rewrites the list)");
}
