//! What else is in etcd: other programs' keys below a lock's name, locks below another lock's name, requests that are
//! just being refused, and a great many of all these.

use crate::common::run::output;
use crate::engine_common::etcd::Etcd;
use crate::engine_common::journal::{Journal, Run, binary};
use crate::engine_common::relay::Relay;
use crate::engine_common::{signal, wait_until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

fn status(command: &mut Command) -> Option<i32> {
    output(command).status.code()
}

/// Puts keys that are not requests, each for its own reason: the key, the missing lease, the value, the lease's number.
fn put_others(etcd: &Etcd, name: &str) -> Vec<String> {
    let lease = etcd.ctl(&["lease", "grant", "3600"]);
    let lease = format!("--lease={}", lease.split_whitespace().nth(1).expect("a lease"));
    let keys = ["db", "42", "7", "1/2", "12345678901234567", "99"].map(|rest| format!("{name}/{rest}"));
    for (key, value) in keys
        .iter()
        .zip(["important", "important", r#"{"host":"db1","pid":1}"#, "x", "x"])
    {
        etcd.ctl(&["put", key, value]);
    }
    etcd.ctl(&["put", &keys[5], "", &lease]);
    keys.to_vec()
}

fn all_there(etcd: &Etcd, name: &str, keys: &[String]) -> bool {
    let listed = etcd.ctl(&["get", "--prefix", &format!("{name}/"), "--keys-only"]);
    keys.iter().all(|key| listed.lines().any(|line| line == key))
}

#[test]
fn keys_that_are_no_requests() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "config");
    let keys = put_others(&etcd, journal.name());
    assert_eq!(status(&mut journal.command(&["run", "-n", "true"])), Some(0));
    assert_eq!(journal.run(&["-t", "60"], 0, &[]).status(), 0);
    let seen: Value = serde_json::from_slice(&output(&mut journal.command(&["state", "--json"])).stdout).expect("JSON");
    assert_eq!(
        (&seen["locked"], seen["holders"].as_array().map(Vec::len)),
        (&false.into(), Some(0))
    );
    let listed = output(binary(&etcd.url()).arg("list"));
    assert!(!String::from_utf8_lossy(&listed.stdout).contains(journal.name()));
    assert_eq!(status(&mut journal.command(&["unget"])), Some(0));
    assert!(all_there(&etcd, journal.name(), &keys));
    // They do not get in the way of `unget` either.
    assert_eq!(status(&mut journal.command(&["get", "--ttl", "60"])), Some(0));
    assert_eq!(status(&mut journal.command(&["run", "-n", "true"])), Some(75));
    assert_eq!(status(&mut journal.command(&["unget"])), Some(0));
    assert_eq!(status(&mut journal.command(&["get", "--forever", "-n"])), Some(0));
    assert_eq!(status(&mut journal.command(&["run", "-n", "true"])), Some(75));
    assert_eq!(status(&mut journal.command(&["unget"])), Some(0));
    assert_eq!(status(&mut journal.command(&["run", "-n", "true"])), Some(0));
    assert!(all_there(&etcd, journal.name(), &keys));
}

/// `etcdctl lock` waits for such keys, too: to it, everything below the name counts. It and we wait for each other as
/// usual, even while it waits for such a key.
#[test]
fn etcdctl_beside_keys_that_are_no_requests() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "beside");
    let db = format!("{}/db", journal.name());
    etcd.ctl(&["put", &db, "important"]);
    let mut words = vec!["lock".to_owned(), journal.name().to_owned(), "--".to_owned()];
    words.extend(["env".to_owned(), "RESOURCELOCK_TOKEN=1".to_owned()]);
    words.extend(journal.beat(0, &[]));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut theirs = Run::start(&mut etcd.etcdctl(&words));
    wait_until("it is in the queue", || {
        status(&mut journal.command(&["run", "-n", "true"])) == Some(75)
    });
    let mut ours = journal.run(&[], 0, &[]);
    wait_until("we wait for it", || journal.waiting() == 1);
    etcd.ctl(&["del", &db]);
    assert_eq!((theirs.status(), ours.status()), (0, 0));
    journal.judge(2);
}

#[test]
fn locks_below_a_locks_name() {
    let etcd = Etcd::one();
    let outer = Journal::new(&etcd.url(), "outer");
    let below = format!("{}/{}", etcd.url(), outer.name());
    let inner = |words: &[&str]| {
        let mut command = binary(&below);
        command.arg("job").args(words);
        status(&mut command)
    };
    assert_eq!(inner(&["get", "--ttl", "60"]), Some(0));
    assert_eq!(status(&mut outer.command(&["run", "-n", "true"])), Some(0));
    assert_eq!(status(&mut outer.command(&["unget"])), Some(0));
    assert_eq!(inner(&["state", "-q"]), Some(0), "it is still taken");
    assert_eq!(status(&mut outer.command(&["get", "--ttl", "60"])), Some(0));
    assert_eq!(inner(&["unget"]), Some(0));
    assert_eq!(
        status(&mut outer.command(&["state", "-q"])),
        Some(0),
        "it is still taken"
    );
}

/// Starts `trace -f`; returns it and its lines.
fn follow(command: &mut Command) -> (Child, impl Iterator<Item = Value> + use<>) {
    let mut trace = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let lines = BufReader::new(trace.stdout.take().expect("connected")).lines();
    let events = lines.map(|line| serde_json::from_str(&line.expect("UTF-8")).expect("JSON"));
    (trace, events)
}

#[test]
fn keys_that_are_no_requests_are_not_followed() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "followed");
    let (mut trace, events) = follow(&mut journal.command(&["trace", "-f", "--json"]));
    let events = std::thread::spawn(move || events.take(4).collect::<Vec<Value>>());
    let key = format!("{}/db", journal.name());
    while !events.is_finished() {
        etcd.ctl(&["put", &key, "important"]);
        assert_eq!(status(&mut journal.command(&["run", "-n", "true"])), Some(0));
        etcd.ctl(&["del", &key]);
    }
    for event in events.join().expect("no panic") {
        assert!(
            event.to_string().contains(r#""host":"#) && !event.to_string().contains(r#""pid":0"#),
            "{event}"
        );
    }
    signal(trace.id(), "INT");
    assert_eq!(trace.wait().expect("it ends").code(), Some(0));
}

/// A request for a different number of slots is refused. Until it is gone, it has a place in the queue, but does not
/// cause others to be refused.
#[test]
fn wrong_slots_refuse_only_themselves() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "slots");
    let mut holders: Vec<Run> = (0..2).map(|_| journal.run(&["-j", "2"], 60, &[])).collect();
    journal.wait_for(2);
    // Keep it from leaving the queue.
    let relay = Relay::to(&etcd.endpoint(0));
    relay.hold_all_after("lease/revoke", 0);
    let mut wrong = Run::start(&mut journal.command_by(&etcd.url_of(&relay.endpoint()), &["run", "-j", "3", "true"]));
    relay.wait_held();
    let mut right = journal.run(&["-j", "2"], 0, &[]);
    // The wrong one is shown as a waiter, too.
    wait_until("both wait", || journal.waiting() == 2);
    for holder in &mut holders {
        holder.signal("TERM");
        holder.wait();
    }
    assert_eq!(right.status(), 0);
    relay.let_go();
    assert_eq!(wrong.status(), 125);
}

/// Puts many keys at once.
fn fill(etcd: &Etcd, keys: impl Iterator<Item = String>) {
    let keys: Vec<String> = keys.collect();
    for some in keys.chunks(128) {
        let mut put = etcd.etcdctl(&["txn"]);
        let mut put = put
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("etcdctl runs");
        let puts: String = some.iter().map(|key| format!("put {key} x\n")).collect();
        let mut input = put.stdin.take().expect("connected");
        write!(input, "\n{puts}\n\n").expect("it reads");
        drop(input);
        assert!(put.wait().expect("it ends").success());
    }
}

/// More keys than fit into one answer.
#[test]
fn locks_among_many_keys() {
    let etcd = Etcd::one();
    let folder = "m".repeat(1000);
    fill(&etcd, (0..9000).map(|i| format!("{folder}/{i:x}-")));
    let locks = ["a-first", "z-last"];
    for lock in locks {
        assert_eq!(status(binary(&etcd.url()).args([lock, "get", "--ttl", "600"])), Some(0));
    }
    let listed = output(binary(&etcd.url()).args(["list", "--json"]));
    assert_eq!(
        listed.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let names: Vec<&str> = listed["locks"]
        .as_array()
        .expect("locks")
        .iter()
        .filter_map(|l| l["lock"].as_str())
        .collect();
    assert_eq!(names, locks);
}

/// An answer that is too large will not be any smaller at the next attempt.
#[test]
fn an_answer_that_is_too_large() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "large");
    for i in 0..7 {
        let mut put = etcd.etcdctl(&["put", &format!("{}/value-{i}", journal.name())]);
        let mut put = put
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("etcdctl runs");
        let mut input = put.stdin.take().expect("connected");
        input.write_all(&vec![b'x'; 1_300_000]).expect("it reads");
        drop(input);
        assert!(put.wait().expect("it ends").success());
    }
    let said = output(&mut journal.command(&["state"]));
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(125), "{words}");
    assert!(words.contains("MB"), "{words}");
}

/// What happens after a watch is cut and before the next one begins is reported, too.
#[test]
fn nothing_is_missed_between_two_watches() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "missed");
    let relay = Relay::to(&etcd.endpoint(0));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("trace");
    let mut trace = journal.command_by(&etcd.url_of(&relay.endpoint()), &["trace", "-f", "--json"]);
    let trace = Run::start(trace.stdout(std::fs::File::create(&file).expect("a file")));
    relay.wait_seen("watch", 1);
    trace.signal("STOP");
    relay.cut("watch");
    assert_eq!(status(&mut journal.command(&["run", "true"])), Some(0));
    trace.signal("CONT");
    relay.wait_seen("watch", 2);
    let said = || std::fs::read_to_string(&file).unwrap_or_default();
    // Later events are reported in any case.
    assert_eq!(status(&mut journal.command(&["run", "true"])), Some(0));
    wait_until("everything has been reported", || {
        said().matches(r#""event":"granted""#).count() == 2
    });
}

/// The keys of a lock are deleted together: none of its requests was granted the lock in between.
#[test]
fn what_is_deleted_at_once_goes_at_once() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "deleted");
    let relay = Relay::to(&etcd.endpoint(0));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("trace");
    let mut trace = journal.command_by(&etcd.url_of(&relay.endpoint()), &["trace", "-f", "--json"]);
    let _trace = Run::start(trace.stdout(std::fs::File::create(&file).expect("a file")));
    relay.wait_seen("watch", 1);
    assert_eq!(status(&mut journal.command(&["get", "--forever", "-q"])), Some(0));
    let mut waiter = journal
        .command(&["run", "-t", "60", "true"])
        .spawn()
        .expect("it starts");
    wait_until("it waits", || etcd.keys_of(journal.name()).len() == 2);
    etcd.ctl(&["del", "--prefix", &format!("{}/", journal.name())]);
    // It asks again.
    assert_eq!(waiter.wait().expect("it ends").code(), Some(0));
    let pid = format!(r#""pid":{},"#, waiter.id());
    let events = || {
        let said = std::fs::read_to_string(&file).unwrap_or_default();
        let of_waiter = said.lines().filter(|line| line.contains(&pid));
        let event = |line: &str| {
            serde_json::from_str::<Value>(line).ok()?["event"]
                .as_str()
                .map(str::to_owned)
        };
        of_waiter.filter_map(event).collect::<Vec<String>>()
    };
    wait_until("its end is reported", || {
        events().last().is_some_and(|event| event == "released")
    });
    let events = events();
    assert_eq!(
        events.iter().filter(|event| *event == "granted").count(),
        1,
        "{events:?}"
    );
    assert!(events.contains(&"timed out".to_owned()), "{events:?}");
}
