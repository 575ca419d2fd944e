//! Checks real `--json` output against the schema in docs/schema.

use crate::common::schema::Schema;
use crate::common::{LineChild, Peer, TestLock, printed_in_private_shm, wait_until};
use serde_json::{Value, json};

/// The only line that the command prints, whatever its status.
fn line(lock: &TestLock, arguments: &[&str]) -> String {
    let output = lock.command(arguments).output().expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
    text
}

#[test]
fn the_schema_itself_is_strict() {
    let schema = Schema::of("lock");
    assert_ne!(schema.errors(&json!({})), [""; 0]);
    assert_ne!(
        schema.errors(&json!({"version": 1, "lock": "x", "more": true})),
        [""; 0]
    );
}

#[test]
fn state_of_every_kind_of_lock() {
    let lock = TestLock::new("json-state");
    let schema = Schema::of("lock");
    let absent = schema.check(&line(&lock, &["state", "--json"]));
    assert_eq!((&absent["exists"], &absent["locked"]), (&json!(false), &json!(false)));
    line(&lock, &["get", "--ttl", "1h", "--json", "-m", "a\u{1b}[31m note"]);
    let held = schema.check(&line(&lock, &["state", "--json"]));
    assert_eq!(
        (&held["exists"], &held["locked"], &held["value"]),
        (&json!(true), &json!(true), &json!(0))
    );
    assert!(
        held["note"].as_str().expect("text").ends_with(r" - a\u{1b}[31m note"),
        "{}",
        held["note"]
    );
    let holder = &held["holders"][0];
    assert_eq!(
        (&holder["mode"], &holder["detached"]),
        (&json!("exclusive"), &json!(true))
    );
    let left = holder["expires_in_seconds"].as_f64().expect("a number");
    assert!(left > 3000.0 && left <= 3600.0, "{left}");
    let mut waiter = LineChild::spawn(&mut lock.command(&["get", "-t", "-1", "-s", "-q"]));
    wait_until("it waits", || lock.state().waiters.len() == 1);
    let waited = schema.check(&line(&lock, &["state", "--json"]));
    assert_eq!(waited["waiters"][0]["pid"], json!(waiter.id()));
    assert_eq!(waited["waiters"][0]["mode"], json!("shared"));
    line(&lock, &["unget", "--json"]);
    assert!(waiter.wait().success());
    line(&lock, &["unget", "--json"]);
    let mut peer = Peer::open(&lock);
    assert!(peer.get(Some(5.0), "from Python"));
    let foreign = schema.check(&line(&lock, &["state", "--json"]));
    assert_eq!((&foreign["foreign"], &foreign["holders"]), (&json!(true), &json!([])));
}

#[test]
fn an_abandoned_hold() {
    let lock = TestLock::new("json-dead");
    let mut keeper = LineChild::spawn(&mut lock.command(&["get", "-a", "60"]));
    keeper.line();
    keeper.kill();
    keeper.wait();
    let schema = Schema::of("lock");
    let dead = schema.check(&line(&lock, &["state", "--json"]));
    assert_eq!(
        (&dead["locked"], &dead["holders"][0]["alive"]),
        (&json!(false), &json!(false))
    );
    let token = dead["holders"][0]["token"].clone();
    line(&lock, &["get", "--json"]);
    let mended = schema.check(&line(&lock, &["state", "--json"]));
    assert_eq!(
        (&mended["abandoned"], &mended["counters"]["abandoned"]),
        (&token, &json!(1))
    );
    let history = Schema::of("history").check(&line(&lock, &["history", "--json"]));
    assert_eq!(history["records"][0]["how"], json!("abandoned"));
}

#[test]
fn get_and_unget() {
    let lock = TestLock::new("json-get");
    let (get, unget) = (Schema::of("get"), Schema::of("unget"));
    let had = get.check(&line(&lock, &["get", "--json"]));
    assert_eq!((&had["got"], &had["state"]), (&json!(true), &Value::Null));
    let not_had = get.check(&line(&lock, &["get", "-n", "--json", "-q"]));
    assert_eq!((&not_had["got"], &not_had["token"]), (&json!(false), &Value::Null));
    assert_eq!(not_had["state"]["holders"][0]["token"], had["token"]);
    assert_eq!(unget.check(&line(&lock, &["unget", "--json"]))["released"], json!(true));
    assert_eq!(
        unget.check(&line(&lock, &["unget", "--json"]))["released"],
        json!(false)
    );
}

#[test]
fn history_in_order() {
    let lock = TestLock::new("json-history");
    let schema = Schema::of("history");
    assert_eq!(schema.check(&line(&lock, &["history", "--json"]))["records"], json!([]));
    for _ in 0..3 {
        line(&lock, &["get", "--json"]);
        line(&lock, &["unget", "--json"]);
    }
    let history = schema.check(&line(&lock, &["history", "--json"]));
    let records = history["records"].as_array().expect("a list");
    assert_eq!(records.len(), 3);
    let tokens: Vec<u64> = records
        .iter()
        .map(|record| record["token"].as_u64().expect("a token"))
        .collect();
    assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
}

#[test]
fn trace_prints_one_object_a_line() {
    let lock = TestLock::new("json-trace");
    let schema = Schema::of("lock");
    let mut trace = LineChild::spawn(&mut lock.command(&["trace", "--json", "-u", "0.01"]));
    assert_eq!(schema.check(&trace.line())["exists"], json!(false));
    line(&lock, &["get", "--json"]);
    while schema.check(&trace.line())["locked"] != json!(true) {}
    line(&lock, &["unget", "--json"]);
    while schema.check(&trace.line())["locked"] != json!(false) {}
}

#[test]
fn events() {
    let lock = TestLock::new("json-events");
    let schema = Schema::of("event");
    drop(lock.open());
    let mut trace = LineChild::spawn(&mut lock.command(&["trace", "-f", "--json"]));
    // It follows from its start on: take and release until it shows something.
    let mut seen = Vec::new();
    wait_until("it follows", || {
        line(&lock, &["get", "--json"]);
        line(&lock, &["unget", "--json"]);
        seen.extend(std::iter::from_fn(|| trace.try_line()));
        !seen.is_empty()
    });
    line(&lock, &["get", "--json"]);
    let mut waiter = LineChild::spawn(&mut lock.command(&["get", "-t", "-1", "-q"]));
    wait_until("it waits", || lock.state().waiters.len() == 1);
    line(&lock, &["unget", "--json"]);
    assert!(waiter.wait().success());
    line(&lock, &["get", "-t", "0.02", "--json", "-q"]);
    line(&lock, &["unget", "--json"]);
    let mut python = Peer::open(&lock);
    assert!(python.get(Some(5.0), ""));
    let mut words: Vec<String> = Vec::new();
    for text in seen.into_iter().chain(std::iter::from_fn(|| Some(trace.line()))) {
        let event = schema.check(&text);
        words.push(event["event"].as_str().expect("a word").to_owned());
        if words.last().is_some_and(|word| word == "foreign taken") {
            break;
        }
    }
    for word in ["granted", "released", "queued", "timed out"] {
        assert!(words.iter().any(|seen| seen == word), "{word}: {words:?}");
    }
}

#[test]
fn list_and_doctor() {
    let list = printed_in_private_shm(
        "$RL one get -q; $RL two get -q; $RL two unget -q; printf four > /dev/shm/sem.broken; : > /dev/shm/broken
         $RL list --json; $RL doctor --json",
    );
    let mut lines = list.lines();
    let locks = Schema::of("list").check(lines.next().expect("a line"));
    let names: Vec<&Value> = locks["locks"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|lock| &lock["lock"])
        .collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(locks["unreadable"][0]["lock"], json!("broken"));
    let findings = Schema::of("doctor").check(lines.next().expect("a line"));
    let findings = findings["findings"].as_array().expect("a list");
    assert!(
        findings
            .iter()
            .any(|finding| finding["kind"] == "unusable" && finding["lock"] == "broken"),
        "{findings:?}"
    );
}
