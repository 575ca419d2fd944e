//! Things that are not as they should be: servers that are not etcd or belong to another cluster, oversized values, an
//! etcd that has gone back in time.

use crate::engine_common::etcd::Etcd;
use crate::engine_common::journal::{Journal, Run, binary};
use crate::engine_common::relay::Relay;
use crate::engine_common::wait_until;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

/// Starts a server that answers every request with what `answer` makes of its body.
fn server(answer: fn(&Value) -> Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let place = listener.local_addr().expect("it has an address").to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || while serve(&client, answer).is_some() {});
        }
    });
    place
}

/// Serves one request.
fn serve(mut client: &TcpStream, answer: fn(&Value) -> Value) -> Option<()> {
    let mut reader = BufReader::new(client);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.to_ascii_lowercase().split_once(':') {
            Some(("content-length", number)) => length = number.trim().parse().ok()?,
            None if line.trim().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let said = answer(&serde_json::from_slice(&body).unwrap_or_default()).to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", said.len());
    client.write_all((head + &said).as_bytes()).ok()
}

#[test]
fn a_server_that_says_nothing_is_no_etcd() {
    let journal = Journal::new(&format!("etcd://{}", server(|_| json!({}))), "nothing");
    for words in [
        &["run", "-t", "5", "true"][..],
        &["run", "-n", "true"],
        &["state"],
        &["unget"],
    ] {
        let output = journal.command(words).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{words:?}: {said}");
        assert!(said.contains("it is no etcd"), "{words:?}: {said}");
    }
}

/// The server grants leases, but no request ever gets into its queue.
#[test]
fn a_request_that_is_removed_each_time() {
    let forgetful = server(|body| json!({"header": {"cluster_id": "1"}, "ID": body["ID"], "TTL": "10"}));
    let journal = Journal::new(&format!("etcd://{forgetful}"), "forgetful");
    let mut endless = Run::start(journal.command(&["run", "true"]).stderr(Stdio::null()));
    assert_eq!(
        Run::start(&mut journal.command(&["run", "-t", "1", "true"])).status(),
        75
    );
    assert!(endless.is_running());
    endless.signal("TERM");
    assert_eq!(endless.wait().signal(), Some(15));
}

/// Anybody may write to etcd.
#[test]
fn values_that_say_too_much() {
    let etcd = Etcd::one();
    let most = u64::MAX;
    let values = [
        format!(r#"{{"asked":{most},"host":"h"}}"#),
        format!(r#"{{"asked":1,"granted":{most},"expires":{most},"detached":true,"host":"h"}}"#),
        r#"{"asked":-1,"pid":-1,"host":"h"}"#.to_owned(),
        r#"{"mode":"slots:0","host":"h","asked":1}"#.to_owned(),
        format!(
            r#"{{"host":"{0}","user":"\u001b[2J","command":"{0}","message":"{0}"}}"#,
            "x".repeat(30_000)
        ),
    ];
    for value in values {
        let journal = Journal::new(&etcd.url(), "much");
        let lease = etcd.ctl(&["lease", "grant", "3600"]);
        // A request's key names its lease without the leading zeros that etcdctl prints.
        let lease = lease
            .split_whitespace()
            .nth(1)
            .expect("a lease")
            .trim_start_matches('0');
        let key = format!("{}/{lease}", journal.name());
        etcd.ctl(&["put", &key, &value, &format!("--lease={lease}")]);
        let start = &value[..value.len().min(60)];
        for (words, status) in [
            (&["state"][..], 0),
            (&["state", "--json"], 0),
            (&["get", "-n", "--ttl", "60", "--json"], 75),
            (&["run", "-n", "true"], 75),
            (&["run", "-n", "-j", "2", "true"], 75),
        ] {
            let output = journal.command(words).output().expect("it runs");
            assert_eq!(output.status.code(), Some(status), "{start} {words:?}: {output:?}");
            assert!(output.stdout.len() + output.stderr.len() < 20_000, "{start} {words:?}");
            assert!(!output.stdout.contains(&0x1b), "{start} {words:?}");
        }
    }
    for words in [&["list"][..], &["list", "--json"], &["list", "--prometheus"]] {
        let output = binary(&etcd.url()).args(words).output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    }
}

/// Every cluster counts from 1: a hold on another one is not this job's, even if it has the same token.
#[test]
fn a_job_does_not_own_what_another_cluster_says() {
    let (one, other) = (Etcd::one(), Etcd::one());
    let theirs = Journal::new(&other.url(), "strangers");
    let mut stranger = theirs.run(&[], 600, &[]);
    let token = theirs.wait_for(1).token.to_string();
    let program = binary("").get_program().to_string_lossy().into_owned();
    let script = r#"echo $RESOURCELOCK_TOKEN
        "$0" --backend "$2" "$1" run -n --same-process-ok echo in; echo $?
        "$0" --backend "$2" "$1" state -q --mine; echo $?
        "$0" --backend local: "$1" state -q --mine; echo $?
        "$0" "$1" run -n --same-process-ok "$0" "$1" run -n --same-process-ok echo own"#;
    let mut command = theirs.command_by(&one.url(), &["run", "--", "sh", "-c", script, &program, theirs.name()]);
    let output = command.arg(other.url()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, format!("{token}\n75\n1\n1\nown\n"), "{output:?}");
    assert!(stranger.is_running());
}

#[test]
fn servers_of_different_clusters_are_refused() {
    let (one, other) = (Etcd::one(), Etcd::one());
    let relay = Relay::to(&one.endpoint(0));
    // The first server grants the lease, and says nothing more.
    relay.hold_all_after("kv/txn", 0);
    let both = format!("{},{}", relay.endpoint(), other.endpoint(0));
    let journal = Journal::new(&one.url_of(&both), "clusters");
    let output = journal.command(&["run", "true"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("are different clusters"), "{said}");
    relay.let_go();
}

/// A holder that reaches only one of them is told at its first renewal.
#[test]
fn servers_of_different_clusters_are_noticed() {
    let (one, other, three) = (Etcd::one(), Etcd::one(), Etcd::three());
    let both = format!("{},{}", one.endpoint(0), other.endpoint(0));
    for (url, strange) in [(one.url_of(&both), true), (three.url(), false)] {
        let journal = Journal::new(&url, "noticed");
        let mut command = journal.command(&["run", "--ttl", "5", "--", "sleep", "3.5"]);
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(said.contains("it is another cluster"), strange, "{said}");
        assert_eq!(said.lines().count(), usize::from(strange), "{said}");
    }
}

/// `trace` goes on following after etcd has been restored from an old backup.
#[test]
fn an_etcd_that_has_gone_back_is_followed() {
    let mut etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "back");
    for i in 0..20 {
        etcd.ctl(&["put", "other", &i.to_string()]);
    }
    let relay = Relay::to(&etcd.endpoint(0));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("trace");
    let mut trace = journal.command_by(&etcd.url_of(&relay.endpoint()), &["trace", "-f", "--json"]);
    let trace = Run::start(trace.stdout(std::fs::File::create(&file).expect("a file")));
    let said = || std::fs::read_to_string(&file).unwrap_or_default();
    let run = |command: &[&str]| {
        let run = journal.command(&[&["run"], command].concat()).status();
        assert!(run.expect("it runs").success());
    };
    wait_until("it follows", || {
        run(&["true"]);
        said().contains(r#""command":"true""#)
    });
    trace.signal("STOP");
    etcd.kill(0);
    etcd.forget(0);
    etcd.start(0);
    etcd.wait_ready();
    trace.signal("CONT");
    relay.wait_seen("watch", 2);
    run(&["sleep", "0"]);
    wait_until("it is reported", || said().contains(r#""command":"sleep""#));
}

/// A watch that ends as soon as it has begun is not restarted in a busy loop.
#[test]
fn a_watch_that_ends_at_once_is_no_busy_loop() {
    let empty = server(|_| json!({"header": {"cluster_id": "1", "revision": "1"}}));
    let journal = Journal::new(&format!("etcd://{empty}"), "ends");
    let mut command = journal.command(&["trace", "-f"]);
    let mut trace = Run::start(command.stderr(Stdio::null()));
    let ticks = |pid: u32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
        stat.split_whitespace()
            .skip(13)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().expect("a number"))
            .sum()
    };
    let start = crate::engine_common::journal::boottime();
    wait_until("some time has passed", || {
        crate::engine_common::journal::boottime() > start + 2_000_000_000
    });
    assert!(trace.is_running());
    assert!(ticks(trace.id()) <= 40, "of 200 in two seconds: {}", ticks(trace.id()));
}

/// Whoever watches keys does not keep whatever a server sends.
#[test]
fn a_watch_that_is_answered_without_end() {
    let etcd = Etcd::one();
    let relay = Relay::to(&etcd.endpoint(0));
    relay.flood("watch");
    let journal = Journal::new(&etcd.url(), "flood");
    let mut holder = journal.run(&["--ttl", "600"], 600, &[]);
    let token = journal.wait_for(1).token;
    for words in [&["run", "true"][..], &["trace", "-f"]] {
        let mut command = journal.command_by(&etcd.url_of(&relay.endpoint()), words);
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{words:?}: {said}");
        assert!(said.contains("an answer of more than 10 MB"), "{words:?}: {said}");
    }
    journal.let_end(token);
    assert_eq!(holder.status(), 0);
}
