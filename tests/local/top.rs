//! `top` as people see it, in a real terminal: what it shows, how that follows what happens, keys, sizes, colours.

use crate::common::tmux::has_words;
use crate::common::{Tmux, in_private_shm};

/// A holder with a waiter, a shared lock, a free one, and one whose holder has died.
const LOCKS: [&str; 5] = [
    "\"$RL\" gone run -- sh -c 'kill -KILL $PPID $$'; \"$RL\" free -q run -- true",
    "\"$RL\" i2c run -m 'bus scan' -- sleep 1000 &",
    "until [ -n \"$(\"$RL\" i2c state --json | grep bound_pid.:[1-9])\" ]; do sleep 0.01; done; \"$RL\" -q i2c get -n -E 0",
    "\"$RL\" i2c run -m 'read it' -- sleep 1000 &",
    "until \"$RL\" i2c state | grep -q 'waiting '; do sleep 0.01; done; \"$RL\" -q gpu get -s; \"$RL\" -q gpu get -s -m training",
];

/// A terminal in which these are.
fn terminal(columns: u16, lines: u16) -> Tmux {
    let tmux = Tmux::shell(columns, lines);
    for line in LOCKS {
        match line.strip_suffix('&') {
            Some(line) => tmux.in_background(line),
            None => tmux.beside(line),
        }
    }
    tmux
}

/// The row of this lock.
fn row<'a>(screen: &'a str, lock: &str) -> &'a str {
    let is_of = |line: &&str| line.get(2..).is_some_and(|line| line.split(' ').next() == Some(lock));
    screen.lines().find(is_of).unwrap_or_default()
}

#[test]
fn what_is_shown_follows_what_happens() {
    let tmux = terminal(80, 24);
    tmux.line("echo before; \"$RL\" top");
    let screen = tmux.see_row(&["i2c", "bus", "scan"]);
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines[0], "resourcelock on this machine: 4 locks, 2 held, 1 waiting");
    assert!(has_words(
        lines[1],
        &[
            "LOCK", "AGE", "PID", "USER", "COMMAND", "QUEUE", "LONGEST", "SKIPS", "NOTE"
        ]
    ));
    // Waited for, held, free; then by name.
    let names: Vec<&str> = lines[2..6]
        .iter()
        .map(|line| line[2..].split(' ').next().unwrap())
        .collect();
    assert_eq!(names, ["i2c", "gpu", "free", "gone"], "{screen}");
    assert!(
        lines[2].starts_with("> i2c ") && has_words(lines[2], &["sleep", "1", "1", "bus", "scan"]),
        "{screen}"
    );
    assert!(lines[3].contains(" +1 "), "{screen}");
    assert!(
        lines[5].starts_with(" !gone ") && has_words(lines[5], &["!gone", "free"]),
        "{screen}"
    );
    assert_eq!(lines[23], "↑↓: select   Enter: queue and history   /: filter   q: quit");

    // A lock that is new.
    tmux.beside("\"$RL\" new get -m fresh");
    tmux.see_row(&["new", "fresh"]);
    // The next one gets it; nothing waits any more.
    tmux.beside("\"$RL\" -q i2c stop");
    tmux.until("the waiter holds it", |screen| {
        let row = row(screen, "i2c");
        has_words(row, &["sleep", "read", "it"]) && screen.contains(" 0 waiting")
    });
    // What is free goes on the list behind what is held, and what is removed leaves it.
    tmux.beside("\"$RL\" new unget");
    tmux.see_row(&["new", "free", "fresh"]);
    tmux.beside("\"$RL\" new remove");
    tmux.until("it has left", |screen| {
        row(screen, "new").is_empty() && screen.contains(" 4 locks")
    });

    tmux.keys("q");
    let screen = tmux.at_prompt();
    assert!(screen.contains("before") && !screen.contains("LOCK"), "{screen}");
    tmux.line("echo sta\"\"tus=$?");
    tmux.see("status=0");
}

#[test]
fn keys() {
    let tmux = terminal(80, 24);
    tmux.line("\"$RL\" top");
    tmux.see_row(&[">", "i2c"]);
    tmux.press("Down");
    tmux.see_row(&[">", "gpu"]);
    tmux.press("End");
    tmux.see(">!gone");
    tmux.keys("k");
    tmux.see_row(&[">", "free"]);
    tmux.press("PPage");
    tmux.see_row(&[">", "i2c"]);

    // The list scrolls in a window that is too small for it.
    tmux.resize(80, 5);
    tmux.until("two have room", |screen| {
        !row(screen, "i2c").is_empty() && row(screen, "free").is_empty()
    });
    tmux.keys("G");
    let screen = tmux.see(">!gone");
    assert!(
        row(&screen, "i2c").is_empty() && !row(&screen, "free").is_empty(),
        "{screen}"
    );
    tmux.keys("g");
    tmux.see_row(&[">", "i2c"]);
    tmux.press("C-l");
    tmux.keys("q");
    tmux.at_prompt();
}

#[test]
fn queue_and_history_of_one_lock() {
    let tmux = terminal(80, 24);
    tmux.line("\"$RL\" top");
    tmux.see_row(&[">", "i2c"]);
    tmux.press("Enter");
    let screen = tmux.see_row(&["refused", "cli"]);
    assert!(
        screen.starts_with("resourcelock on this machine: i2c\ni2c: locked for "),
        "{screen}"
    );
    assert!(
        screen.contains("\n  waiting    1. ") && screen.contains(" - bus scan\n"),
        "{screen}"
    );
    // The new end appears, and the queue is empty.
    tmux.beside("\"$RL\" -q i2c stop");
    tmux.see_row(&["released", "TERM", "bus", "scan"]);
    tmux.until("nobody waits", |screen| {
        !screen.contains("waiting    1. ") && screen.contains(" - read it\n")
    });
    tmux.press("Escape");
    tmux.see_row(&["gpu", "training"]);

    // Only what contains a text; a q there is a letter.
    tmux.keys("/q");
    tmux.see("no lock whose row contains 'q'");
    tmux.press("BSpace");
    tmux.keys("TRAIN");
    tmux.until("one is left", |screen| {
        has_words(row(screen, "gpu"), &["training"]) && row(screen, "i2c").is_empty()
    });
    tmux.press("Enter");
    tmux.see("(filter: TRAIN)");
    tmux.press("Escape");
    tmux.see_row(&["i2c", "read", "it"]);
    tmux.press("C-c");
    tmux.at_prompt(); // what is typed earlier would be keys of the view
    tmux.line("echo sta\"\"tus=$?");
    tmux.see("status=0");
}

#[test]
fn in_any_size() {
    let tmux = terminal(200, 50);
    tmux.line("\"$RL\" top");
    let screen = tmux.see_row(&["i2c", "bus", "scan"]);
    let headings = [
        "LOCK", "OWNER", "STATE", "AGE", "SINCE", "PID", "USER", "COMMAND", "QUEUE", "LONGEST", "SKIPS", "GRANTS",
        "TOKEN", "NOTE",
    ];
    assert!(has_words(screen.lines().nth(1).unwrap(), &headings), "{screen}");
    assert!(has_words(row(&screen, "gpu"), &["shared"]), "{screen}");
    assert_eq!(screen.lines().count(), 50);
    assert!(screen.lines().last().unwrap().contains("q: quit"), "{screen}");
    // It becomes smaller, and larger again.
    for (columns, lines) in [(80, 24), (30, 5), (8, 2), (132, 40)] {
        tmux.resize(columns, lines);
        tmux.until("the picture has this size", |screen| {
            let last = screen.lines().last().unwrap_or_default();
            screen.lines().count() == usize::from(lines)
                && screen.starts_with("resour")
                && last.starts_with("↑↓")
                && last.contains("q: quit") == (columns > 70)
        });
    }
    tmux.see_row(&["i2c", "locked", "bus", "scan"]);
    tmux.keys("q");
    tmux.at_prompt();
}

#[test]
fn colours_unless_they_are_not_wanted() {
    let tmux = terminal(80, 24);
    tmux.line("\"$RL\" top");
    tmux.see_row(&["i2c", "bus", "scan"]);
    let coloured = tmux.coloured_screen();
    assert!(coloured.contains("\x1b[31m"), "{coloured:?}");
    tmux.keys("q");
    tmux.at_prompt();
    tmux.line("NO_COLOR=1 \"$RL\" top");
    tmux.see_row(&["i2c", "bus", "scan"]);
    let plain = tmux.coloured_screen();
    assert!(!plain.contains("\x1b["), "{plain:?}");
    tmux.keys("q");
    tmux.at_prompt();
    // A terminal whose cursor cannot be moved.
    tmux.line("clear; TERM=dumb \"$RL\" top; echo sta\"\"tus=$?");
    let screen = tmux.see("status=0");
    assert!(
        has_words(&screen, &["LOCK", "OWNER", "STATE", "FOR", "HOLDER", "WAITING", "NOTE"]),
        "{screen}"
    );
}

/// What strangers wrote moves no cursor.
#[test]
fn escaped() {
    let tmux = Tmux::shell(160, 24);
    tmux.beside("\"$RL\" -q \"$(printf 'x\\342\\200\\256y')\" get -m \"$(printf 'a\\033[2Jb\\007c')\"");
    tmux.beside("\"$RL\" -q 備份 get -m 夜間備份");
    tmux.line("\"$RL\" top");
    let screen = tmux.see_row(&["備份", "夜間備份"]);
    assert!(
        screen.contains("x\\u{202e}y") && screen.contains("a\\u{1b}[2Jb\\u{7}c"),
        "{screen}"
    );
    tmux.keys("/備");
    tmux.until("the other one has gone", |screen| {
        screen.contains("filter: 備_") && !screen.contains("202e")
    });
    tmux.press("Enter");
    tmux.press("Enter");
    tmux.see(": 備份\n備份: locked for ");
}

#[test]
fn without_a_terminal_it_prints_once() {
    let output = in_private_shm(&format!(
        "{}\n\"$RL\" top < /dev/null; \"$RL\" list; pkill -P $$",
        LOCKS.join("\n")
    ));
    let printed = String::from_utf8(output.stdout).unwrap();
    let (once, list) = printed.split_at(printed.rfind("LOCK ").expect("list prints its headings"));
    let columns = |text: &str| {
        let lines = text.lines();
        lines
            .map(|line| line.split_whitespace().next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(columns(once), columns(list), "{printed}");
    assert_eq!(columns(once), ["LOCK", "free", "gone", "gpu", "i2c"]);
}
