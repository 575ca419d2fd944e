//! Fault 22: the picture of a lock's history can be read, and says what it shows.

use crate::common::peer::python;
use crate::common::{LineChild, TestLock, printed};
use resourcelock::{GetOptions, Mode, Wait};
use std::process::Command;

/// The width of the picture, and of its labels.
const WIDTH: f64 = 1000.0;
const LABELS: f64 = 230.0;
/// A character of an axis label, at least.
const CHARACTER: f64 = 6.0;

/// What a parser finds in it: kind, position, and more of each part.
const PARTS: &str = "
import sys, re, xml.dom.minidom as m
d = m.parseString(sys.stdin.buffer.read())
def within(e, name): return e.parentNode and (e.parentNode.nodeName == name or within(e.parentNode, name))
for t in d.getElementsByTagName('text'):
    kind = t.getAttribute('class') or ('tick' if t.getAttribute('text-anchor') else 'text')
    print(kind, t.getAttribute('x'), t.getAttribute('text-anchor') or '-', t.firstChild.data)
for g in d.getElementsByTagName('g'):
    if g.getAttribute('transform'):
        print('mark' if within(g, 'g') else 'legend', re.findall('[0-9.]+', g.getAttribute('transform'))[0], '-', '')
for r in d.getElementsByTagName('rect'):
    if within(r, 'g'): print('bar', r.getAttribute('x'), r.getAttribute('width'), r.getAttribute('fill'))
print('end', d.documentElement.getAttribute('height'), '-', '')
";

struct Part {
    kind: String,
    x: f64,
    anchor: String,
    text: String,
}

/// The parts of a picture, which is well formed.
fn parts(picture: &str) -> Vec<Part> {
    let mut parser = LineChild::spawn(Command::new(python()).args(["-c", PARTS]));
    parser.send(picture);
    parser.close_input();
    let mut parts = Vec::new();
    loop {
        let line = parser.line();
        let mut fields = line.splitn(4, ' ').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        let (kind, x, anchor, text) = (next(), next().parse().unwrap(), next(), next());
        let is_end = kind == "end";
        parts.push(Part { kind, x, anchor, text });
        if is_end {
            return parts;
        }
    }
}

fn picture(lock: &TestLock) -> String {
    let picture = printed(lock.command(&["history", "--svg", "-"]).env("TZ", "Asia/Kathmandu"));
    let parts = parts(&picture);
    for part in &parts {
        let Part { kind, x, anchor, text } = part;
        match kind.as_str() {
            "mark" => assert!(
                *x >= LABELS && *x <= WIDTH - 5.0,
                "a mark over the labels or cut off: {x}"
            ),
            "tick" => {
                let right = x + text.len() as f64 * CHARACTER / if anchor == "middle" { 2.0 } else { 1.0 };
                assert!(
                    anchor == "end" || right <= WIDTH,
                    "an axis label that is cut off: {text} at {x}"
                );
            }
            "bar" => assert!(
                *x >= LABELS - 0.01 && x + anchor.parse::<f64>().unwrap() <= WIDTH,
                "{x} {anchor}"
            ),
            _ => {}
        }
    }
    let ticks = || parts.iter().filter(|part| part.kind == "tick");
    for (one, next) in ticks().zip(ticks().skip(1)) {
        assert!(
            next.x - one.x > one.text.len() as f64 * CHARACTER,
            "{} touches {}",
            one.text,
            next.text
        );
    }
    picture
}

fn rows(picture: &str) -> Vec<String> {
    let parts = parts(picture).into_iter();
    parts.filter(|part| part.kind == "row").map(|part| part.text).collect()
}

fn status(lock: &TestLock, arguments: &[&str]) -> Option<i32> {
    lock.command(arguments).status().unwrap().code()
}

#[test]
fn everything_in_it_is_explained() {
    let lock = TestLock::new("f22");
    let in_picture = |parts: &[&str], others: &[&str]| {
        let picture = picture(&lock);
        for part in parts {
            assert!(picture.contains(part), "{part}: {picture}");
        }
        for other in others {
            assert!(!picture.contains(other), "{other}: {picture}");
        }
    };
    status(&lock, &["run", "--", "true"]);
    in_picture(
        &[">holding</text>", "(UTC+05:45)</text>"],
        &["holding (", ">refused<", ">released by force<"],
    );
    status(&lock, &["run", "-s", "--", "true"]);
    in_picture(
        &[">holding</text>", ">holding (shared)</text>", "url(#shared)"],
        &["(a slot)"],
    );
    status(&lock, &["run", "-j", "2", "--", "true"]);
    in_picture(&[">holding (a slot)</text>", "url(#slot)"], &[]);
    status(&lock, &["get", "-q"]);
    assert_eq!(status(&lock, &["run", "-n", "-q", "--", "true"]), Some(75));
    assert_eq!(status(&lock, &["run", "-t", "0.02", "-q", "--", "true"]), Some(75));
    let mut run = LineChild::spawn(&mut lock.command(&["run", "--", "sh", "-c", "echo up; read line"]));
    status(&lock, &["unget", "-q"]);
    run.wait_for_line("up");
    status(&lock, &["unget", "-q"]);
    run.close_input();
    run.wait();
    status(&lock, &["run", "-q", "--", "sh", "-c", "kill -SEGV $$"]);
    let mut keeper = LineChild::spawn(&mut lock.command(&["get", "-a", "600"]));
    keeper.line();
    keeper.kill();
    keeper.wait();
    status(&lock, &["run", "-q", "--", "true"]);
    let legend = [
        "refused",
        "timed out",
        "released by force",
        "crashed",
        "abandoned: its process died",
    ];
    in_picture(
        &legend
            .map(|text| format!(">{text}</text>"))
            .each_ref()
            .map(String::as_str),
        &["cancelled"],
    );
}

/// One row for each process would be a picture that nobody reads.
#[test]
fn many_processes_are_rows_of_commands() {
    let lock = TestLock::new("f22");
    for _ in 0..39 {
        status(&lock, &["run", "--", "true"]);
    }
    let few = rows(&picture(&lock));
    assert_eq!(few.len(), 39);
    assert!(few.iter().all(|row| row.starts_with("true ")), "{few:?}");
    for _ in 0..3 {
        status(&lock, &["run", "-s", "--", "sleep", "0"]);
    }
    let user = printed(Command::new("id").arg("-un"));
    let expected = [("true", 39), ("sleep", 3)].map(|(command, n)| format!("{command} ({}) \u{d7}{n}", user.trim()));
    assert_eq!(rows(&picture(&lock)), expected);
}

#[test]
fn no_more_than_forty_rows() {
    let lock = TestLock::new("f22");
    let handle = lock.open();
    for number in 0..256 {
        let command = format!("command{}", number % 100);
        let options = GetOptions::new().command(&command).wait(Wait::No);
        handle.acquire_with(&options).unwrap().unwrap().release().unwrap();
    }
    let picture = picture(&lock);
    let rows = rows(&picture);
    assert_eq!(rows.len(), 40, "{rows:?}");
    assert_eq!(
        rows.iter().filter(|row| row.starts_with("other commands ")).count(),
        1,
        "{rows:?}"
    );
    let parts = parts(&picture);
    assert!(parts.last().unwrap().x < 1100.0, "its height");
}

/// Requests of one process that overlap are beside each other.
#[test]
fn nothing_is_hidden_behind_another_bar() {
    let lock = TestLock::new("f22");
    let handle = lock.open();
    let shared = || {
        handle
            .acquire_with(&GetOptions::new().mode(Mode::Shared))
            .unwrap()
            .unwrap()
    };
    let holds = [shared(), shared(), shared()];
    drop(holds);
    let picture = picture(&lock);
    let tops: std::collections::BTreeSet<&str> = picture
        .split("<g class=\"request\">")
        .skip(1)
        .filter_map(|request| request.split("<rect").nth(1)?.split(" y=\"").nth(1)?.split('"').next())
        .collect();
    assert_eq!(tops.len(), 3, "{picture}");
    assert_eq!(rows(&picture).len(), 1);
}
