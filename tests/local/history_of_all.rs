//! `history` without a name tells of all locks; with and without one, a part can be chosen.

use crate::common::schema::Schema;
use crate::common::{in_private_shm, printed_in_private_shm};
use serde_json::{Value, json};

/// Two locks: a run that succeeded, one that failed, one that crashed, and a refused one.
const NIGHT: &str = r#"set -e
"$RL" backup run -m dump -- true
"$RL" nightly run -- sh -c 'exit 3' || [ $? = 3 ]
"$RL" backup run -q -- sh -c 'ulimit -c 0; kill -SEGV $$' || [ $? -gt 128 ]
"$RL" nightly get -q
"$RL" nightly run -n -E 0 -q -- true
"$RL" nightly unget -q
"#;

fn printed(commands: &str) -> String {
    printed_in_private_shm(&format!("{NIGHT}{commands}"))
}

/// The words of the columns LOCK and HOW, and STATUS.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .map(|line| line.split_whitespace().skip(2).take(3).collect())
        .collect()
}

#[test]
fn all_locks_in_order_of_time() {
    let table = printed(r#""$RL" history"#);
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("ENDED ") && lines[0].contains("  LOCK  "),
        "{table}"
    );
    let expected = [
        vec!["backup", "released", "0"],
        vec!["nightly", "released", "3"],
        vec!["backup", "crashed", "SEGV"],
        vec!["nightly", "refused", "-"],
        vec!["nightly", "released", "-"],
    ];
    assert_eq!(rows(&table)[1..], expected, "{table}");
    assert!(lines[1].ends_with(" dump"), "{table}");
}

#[test]
fn a_part_of_it() {
    let printed = printed(
        r#""$RL" history --failed; echo; "$RL" history -n 2; echo; "$RL" nightly history -n1 --failed; echo
        "$RL" history --since 1h --last 1; echo; "$RL" history --since 2000-01-01 -n 9; echo
        sleep 0.01; "$RL" history --since 1ms; echo; "$RL" history --failed -n 0; echo; "$RL" unused history"#,
    );
    let parts: Vec<Vec<Vec<&str>>> = printed.split("\n\n").map(|part| rows(part)[1..].to_vec()).collect();
    let (failed, crashed) = (vec!["nightly", "released", "3"], vec!["backup", "crashed", "SEGV"]);
    let (refused, last) = (vec!["nightly", "refused", "-"], vec!["nightly", "released", "-"]);
    assert_eq!(parts[0], [failed, crashed, refused.clone()], "{printed}");
    assert_eq!(parts[1], [refused, last.clone()], "{printed}");
    assert_eq!(parts[2], [["refused", "-", "0"]], "{printed}");
    assert_eq!(parts[3], [last], "{printed}");
    assert_eq!(parts[4].len(), 5, "{printed}");
    assert!(
        printed.ends_with("nothing of that kind\n\nnothing of that kind\n\nnothing yet\n"),
        "{printed}"
    );
}

#[test]
fn as_json() {
    let json = Schema::of("histories").check(&printed(r#""$RL" history --json --failed"#));
    let told = |record: &Value| json!([record["lock"], record["how"], record["exit_status"], record["signal"]]);
    let records: Vec<Value> = json["records"].as_array().unwrap().iter().map(told).collect();
    let expected = [
        json!(["nightly", "released", 3, null]),
        json!(["backup", "crashed", null, libc::SIGSEGV]),
        json!(["nightly", "refused", null, null]),
    ];
    assert_eq!(records, expected);
}

/// A lock may be named like the command, and its options stand where they stood.
#[test]
fn a_lock_that_is_named_history() {
    let printed = printed_in_private_shm(
        r#""$RL" history run -n -- true; "$RL" /history history --json | grep -o '"lock":"history"'
        "$RL" history history -n 1 | wc -l; "$RL" history state | head -1"#,
    );
    assert_eq!(printed, "\"lock\":\"history\"\n2\nhistory: free\n", "{printed}");
}

#[test]
fn words_that_are_no_history() {
    for (line, says) in [
        ("history i2c", "the lock's name comes first: resourcelock i2c history"),
        (
            "history --since tomorrow",
            "invalid value 'tomorrow' for '--since': not a time",
        ),
        ("history -n many", "invalid value 'many' for '-n': not a number"),
        ("'' history", "name"),
    ] {
        let output = in_private_shm(&format!(r#""$RL" {line}"#));
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{line}: {message}");
        assert!(
            message.contains(says) && message.lines().count() == 1,
            "{line}: {message}"
        );
    }
}
