//! The commands on etcd as people use them; `etcdctl lock` in the same queue; users and passwords.

use crate::common::run::{output, said as stderr, stdout};
use crate::common::schema::Schema;
use crate::engine_common::etcd::Etcd;
use crate::engine_common::journal::{Journal, Run, binary};
use crate::engine_common::{lock_name, wait_until};
use serde_json::Value;

#[test]
fn the_commands_status_and_environment() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "status");
    let run = |words: &[&str]| output(&mut journal.command(&[&["run"], words].concat()));
    assert_eq!(run(&["--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    let killed = run(&["--", "sh", "-c", "kill -KILL $$"]).status;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed), Some(9));
    assert_eq!(run(&["/does/not/exist"]).status.code(), Some(127));
    let script = "echo $RESOURCELOCK_NAME $RESOURCELOCK_TOKEN $RESOURCELOCK_HELD; echo $PPID; ps -o pgid= -p $$ | tr -d ' '; echo $$";
    let said = stdout(&run(&["--", "sh", "-c", script]));
    let words: Vec<&str> = said.split_whitespace().collect();
    let [name, token, held, parent, group, pid] = words[..] else {
        panic!("{said}")
    };
    assert_eq!(name, journal.name());
    assert!(
        held.starts_with(&format!("{token}@{parent}@")) && held.ends_with(&format!(":{name}")),
        "{held}"
    );
    assert_eq!(group, pid, "its own process group");
    assert_eq!(run(&["--limit", "0.2", "sleep", "60"]).status.code(), Some(124));
    assert_eq!(etcd.ctl(&["get", "--prefix", "", "--keys-only"]), "", "nothing is left");
}

#[test]
fn a_lock_that_is_taken() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "taken");
    let mut holder = journal.run(&["-m", "a long job"], 60, &[]);
    journal.wait_for(1);
    let refused = output(&mut journal.command(&["run", "-n", "true"]));
    assert_eq!(refused.status.code(), Some(75));
    assert!(stderr(&refused).contains("a long job"), "{}", stderr(&refused));
    assert_eq!(
        output(&mut journal.command(&["run", "-n", "-E", "0", "true"]))
            .status
            .code(),
        Some(0)
    );
    assert_eq!(
        output(&mut journal.command(&["run", "-t", "0.1", "-E", "9", "true"]))
            .status
            .code(),
        Some(9)
    );
    let state: Value =
        serde_json::from_slice(&output(&mut journal.command(&["state", "--json"])).stdout).expect("JSON");
    assert_eq!(state["holders"][0]["pid"], holder.id());
    assert!(state["holders"][0]["host"].is_string());
    let listed = stdout(&output(binary(&etcd.url()).arg("list")));
    assert!(listed.contains(journal.name()), "{listed}");
    journal.signalled_while_it_waits();
    // A signal while the command runs is passed on to it.
    holder.signal("TERM");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&holder.wait()), Some(15));
    assert_eq!(output(&mut journal.command(&["state", "-q"])).status.code(), Some(1));
}

#[test]
fn get_and_unget() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "get");
    let call = |words: &[&str]| output(&mut journal.command(words));
    let without = call(&["get"]);
    assert_eq!(without.status.code(), Some(125));
    assert!(stderr(&without).contains("--ttl"), "{}", stderr(&without));
    assert_eq!(call(&["get", "--ttl", "2"]).status.code(), Some(125), "too short");
    assert_eq!(call(&["get", "--ttl", "60", "--pid", "1"]).status.code(), Some(125));
    let got: Value = serde_json::from_slice(&call(&["get", "--ttl", "60", "--json"]).stdout).expect("JSON");
    let token = got["token"].as_u64().expect("a token");
    assert_eq!(call(&["get", "--forever", "-n"]).status.code(), Some(75));
    assert_eq!(
        call(&["unget", "--token", &(token + 1).to_string()]).status.code(),
        Some(1)
    );
    assert_eq!(call(&["unget", "--token", &token.to_string()]).status.code(), Some(0));
    assert_eq!(
        call(&["unget"]).status.code(),
        Some(0),
        "a free lock is what was wanted"
    );
    assert_eq!(call(&["get", "--forever", "-q"]).status.code(), Some(0));
    let value = etcd.ctl(&["get", "--prefix", journal.name(), "-w", "json"]);
    let value: Value = serde_json::from_str(&value).expect("JSON");
    assert!(value["kvs"][0]["lease"].is_null(), "it depends on no lease: {value}");
    assert_eq!(call(&["unget"]).status.code(), Some(0));
    let kept = stdout(&call(&["get", "-a", "0.2"]));
    assert!(kept.contains("released"), "{kept}");
    assert_eq!(etcd.ctl(&["get", "--prefix", "", "--keys-only"]), "");
}

#[test]
fn a_hold_for_a_time_ends_by_itself() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "expires");
    assert!(output(&mut journal.command(&["get", "--ttl", "5"])).status.success());
    assert_eq!(journal.run(&[], 0, &[]).status(), 0);
    assert!(journal.judge(1)[0].first > 0);
}

#[test]
fn a_job_does_not_wait_for_itself() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "self");
    let program = binary("").get_program().to_string_lossy().into_owned();
    let script = r#""$0" "$1" run true 2>/dev/null; echo $?; "$0" "$1" run --same-process-ok echo in; "$0" "$1" state -q --mine; echo $?"#;
    let said = output(&mut journal.command(&["run", "--", "sh", "-c", script, &program, journal.name()]));
    assert_eq!(stdout(&said), "125\nin\n0\n", "{}", stderr(&said));
    assert_eq!(
        output(&mut journal.command(&["state", "-q", "--mine"])).status.code(),
        Some(1)
    );
}

#[test]
fn what_only_this_machine_has_is_refused() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "refused");
    for words in [
        &["run", "-F", "true"][..],
        &["run", "--replace", "true"],
        &["run", "--on-abandoned", "fail", "true"],
        &["run", "--recover", "true", "true"],
        &["run", "--mode", "666", "true"],
        &["run", "--ttl", "4", "true"],
        &["unget", "--pid", "1"],
        &["history"],
        &["remove"],
    ] {
        let refused = output(&mut journal.command(words));
        assert_eq!(refused.status.code(), Some(125), "{words:?}");
        assert!(stderr(&refused).contains("etcd"), "{words:?}: {}", stderr(&refused));
    }
}

#[test]
fn what_happens_is_followed() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "trace");
    let mut trace = journal.command(&["trace", "-f", "--json"]);
    let mut trace = trace.stdout(std::process::Stdio::piped()).spawn().expect("it starts");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(trace.stdout.take().expect("connected")));
    // Come and go until it follows.
    let seen = std::thread::spawn(move || lines.next().expect("a line").expect("UTF-8"));
    while !seen.is_finished() {
        assert!(output(&mut journal.command(&["run", "true"])).status.success());
    }
    let event: Value = serde_json::from_str(&seen.join().expect("no panic")).expect("JSON");
    Schema::of("event").check(&event.to_string());
    assert!(event["event"].is_string(), "{event}");
    crate::engine_common::signal(trace.id(), "INT");
    assert_eq!(trace.wait().expect("it ends").code(), Some(0));
}

/// `etcdctl lock` and this program take turns in one queue: order and exclusion.
#[test]
fn a_queue_mixed_with_etcdctl() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "mixed");
    let mut first = journal.run(&[], 60, &[]);
    journal.wait_for(1);
    let mut others: Vec<Run> = Vec::new();
    for i in 0..6 {
        let run = if i % 2 == 0 {
            // It has no token to report. Give it one that sorts according to its place in the queue.
            let mut words = vec!["lock".to_owned(), journal.name().to_owned(), "--".to_owned()];
            words.extend(["env".to_owned(), format!("RESOURCELOCK_TOKEN={}", u64::MAX - 1)]);
            words.extend(journal.beat(0, &[]));
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            Run::start(&mut etcd.etcdctl(&words))
        } else {
            journal.run(&[], 0, &[])
        };
        others.push(run);
        wait_until("it waits", || journal.waiting() == i + 1);
    }
    let pids: Vec<u32> = others.iter().map(Run::id).collect();
    first.signal("TERM");
    first.wait();
    for run in &mut others {
        assert_eq!(run.status(), 0);
    }
    let intervals = journal.intervals();
    assert_eq!(intervals.len(), 7);
    for pair in intervals.windows(2) {
        assert!(pair[0].last < pair[1].first, "two at once: {pair:#?}");
    }
    let ours: Vec<u64> = intervals
        .iter()
        .map(|i| i.token)
        .filter(|token| *token < u64::MAX - 1)
        .collect();
    assert_eq!(ours.len(), 4);
    assert!(ours.is_sorted());
    let turns: Vec<bool> = intervals.iter().skip(1).map(|i| i.token == u64::MAX - 1).collect();
    assert_eq!(turns, [true, false, true, false, true, false], "{pids:?}");
}

#[test]
fn etcdctl_waits_for_us_and_is_seen() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "seen");
    let mut words = vec!["lock", journal.name()];
    words.extend(["sleep", "60"]);
    let theirs = Run::start(&mut etcd.etcdctl(&words));
    let refused = || output(&mut journal.command(&["run", "-n", "true"])).status.code() == Some(75);
    wait_until("etcdctl has it", refused);
    let listed = stdout(&output(binary(&etcd.url()).arg("list")));
    assert!(listed.contains(journal.name()), "{listed}");
    let also = Run::start(&mut etcd.etcdctl(&words));
    wait_until("another one waits", || journal.waiting() == 1);
    // What is not known about it is not made up.
    let lease = format!("{:x}", lease_of_holder(&etcd, journal.name()));
    let state = stdout(&output(&mut journal.command(&["state"])));
    let traced = stdout(&output(binary(&etcd.url()).arg("list")));
    let busy = stderr(&output(&mut journal.command(&["run", "-n", "true"])));
    for text in [&state, &traced, &busy] {
        assert!(text.contains("another program (etcdctl lock?"), "{text}");
        for invented in ["1970", " 0@", " d ", "?, )", "µs"] {
            assert!(!text.contains(invented), "{invented}: {text}");
        }
    }
    assert!(state.contains(&lease) && state.contains("exclusive, token "), "{state}");
    assert_eq!(state.matches("another program").count(), 2, "{state}");
    let json: Value = serde_json::from_slice(&output(&mut journal.command(&["state", "--json"])).stdout).expect("JSON");
    Schema::of("lock").check(&json.to_string());
    let (holder, waiter) = (&json["holders"][0], &json["waiters"][0]);
    for unknown in ["pid", "uid", "user", "host", "since"] {
        assert!(holder.get(unknown).is_some_and(Value::is_null), "{unknown}: {holder}");
        assert!(waiter.get(unknown).is_some_and(Value::is_null), "{unknown}: {waiter}");
    }
    assert!(
        holder["held_seconds"].is_null() && waiter["waited_seconds"].is_null(),
        "{json}"
    );
    assert!(holder["token"].as_u64().is_some_and(|token| token > 0), "{holder}");
    let metrics = stdout(&output(binary(&etcd.url()).args(["list", "--prometheus"])));
    let oldest = format!("resourcelock_oldest_wait_seconds{{lock=\"{}\"}} 0\n", journal.name());
    assert!(metrics.contains(&oldest), "{metrics}");
    drop(also);
    wait_until("it has gone", || journal.waiting() == 0);
    assert!(output(&mut journal.command(&["unget"])).status.success());
    assert_eq!(
        output(&mut journal.command(&["run", "-n", "true"])).status.code(),
        Some(0)
    );
    drop(theirs);
}

/// The lease to which the holder's key is attached.
fn lease_of_holder(etcd: &Etcd, name: &str) -> u64 {
    let keys = etcd.ctl(&[
        "get",
        "--prefix",
        &format!("{name}/"),
        "--keys-only",
        "--sort-by=CREATE",
        "--limit=1",
    ]);
    let lease = keys.trim().rsplit('/').next().expect("a lease");
    u64::from_str_radix(lease, 16).expect("a number")
}

/// etcd counts nothing. So no metric, and no number in JSON, claims that nothing has happened.
#[test]
fn what_is_not_counted_is_left_out() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "metrics");
    let _holder = journal.run(&[], 60, &[]);
    journal.wait_for(1);
    let metrics = stdout(&output(binary(&etcd.url()).args(["list", "--prometheus"])));
    assert!(
        metrics.contains("resourcelock_held{") && metrics.contains("resourcelock_waiters{"),
        "{metrics}"
    );
    for absent in ["_total", "conflicts"] {
        assert!(!metrics.contains(absent), "{metrics}");
    }
    let json = |words: &[&str]| -> Value {
        let said = output(binary(&etcd.url()).args(words));
        serde_json::from_slice(&said.stdout).expect("JSON")
    };
    let listed = json(&["list", "--json"]);
    Schema::of("list").check(&listed.to_string());
    let name = journal.name();
    for lock in [
        &listed["locks"][0],
        &json(&[name, "state", "--json"]),
        &json(&[name, "get", "-n", "--ttl", "9", "--json"])["state"],
    ] {
        assert!(lock.get("counters").is_some_and(Value::is_null), "{lock}");
    }
}

/// With logging, a successful run tells what it has done.
#[test]
fn a_run_tells_what_it_does() {
    let etcd = Etcd::one();
    let name = lock_name("told");
    let server = etcd.endpoint(0);
    let mut by_variable = binary(&etcd.url());
    by_variable
        .args([&name, "run", "true"])
        .env("RESOURCELOCK_LOG", "debug");
    let mut by_option = binary(&etcd.url());
    by_option.args([&name, "-vv", "run", "true"]);
    for mut command in [by_variable, by_option] {
        let said = output(&mut command);
        assert!(said.status.success());
        for part in [&server, "granted with token ", "released"] {
            assert!(stderr(&said).contains(part), "{part}: {}", stderr(&said));
        }
    }
}

#[test]
fn what_only_this_machine_has_names_the_engine() {
    let said = output(binary("etcd://127.0.0.1:1").arg("doctor"));
    assert_eq!(said.status.code(), Some(125));
    assert!(stderr(&said).contains("etcd"), "{}", stderr(&said));
}

/// Authentication switched on: user `ann` with password `s3cret`, who may use locks below `locks/`.
fn with_users() -> Etcd {
    let etcd = Etcd::one();
    for words in [
        &["user", "add", "root:r00t"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "locks"],
        &[
            "role",
            "grant-permission",
            "locks",
            "--prefix=true",
            "readwrite",
            "locks/",
        ],
        &["user", "add", "ann:s3cret"],
        &["user", "grant-role", "ann", "locks"],
        &["auth", "enable"],
    ] {
        etcd.ctl(words);
    }
    etcd
}

#[test]
fn users_and_passwords() {
    let etcd = with_users();
    let name = lock_name("users");
    let run = |url: &str| {
        let mut command = binary(url);
        command.args([&name, "-vv", "run", "-n", "true"]);
        command
    };
    let prefixed = |user: &str| format!("{}/locks", etcd.url_as(user));
    let good = output(&mut run(&prefixed("ann:s3cret")));
    assert!(good.status.success(), "{}", stderr(&good));
    let url = format!("{}/locks", etcd.url());
    let mut by_environment = run(&url);
    by_environment.env("ETCDCTL_USER", "ann:s3cret");
    assert!(output(&mut by_environment).status.success());
    let mut in_two = run(&url);
    in_two.env("ETCDCTL_USER", "ann").env("ETCDCTL_PASSWORD", "s3cret");
    assert!(output(&mut in_two).status.success());
    for (refused, why) in [
        (run(&prefixed("ann:wr0ng-s3cret")), "invalid user ID or password"),
        (run(&url), "give the user"),
        (
            run(&etcd.url_as("ann:s3cret")),
            &format!("user 'ann' may not read and write '{name}/'"),
        ),
        (
            run(&format!("{}/Locks", etcd.url_as("ann:s3cret"))),
            "etcdctl role grant-permission ROLE --prefix=true readwrite Locks/",
        ),
        (run(&prefixed("ann")), "no password was given"),
    ] {
        let mut refused = refused;
        let said = output(&mut refused);
        assert_eq!(said.status.code(), Some(125), "{why}: {}", stderr(&said));
        assert!(stderr(&said).contains(why), "{}", stderr(&said));
        assert!(!stderr(&said).contains("s3cret"), "{}", stderr(&said));
        assert!(!stderr(&said).contains('\\'), "{}", stderr(&said));
    }
    assert!(!stderr(&good).contains("s3cret"), "{}", stderr(&good));
    let all = output(binary(&etcd.url_as("ann:s3cret")).arg("list"));
    let why = "user 'ann' may not read all keys: the URL has to name the prefix";
    assert!(
        all.status.code() == Some(125) && stderr(&all).contains(why),
        "{}",
        stderr(&all)
    );
}

#[test]
fn a_password_does_not_show() {
    let etcd = with_users();
    let url = format!("{}/locks", etcd.url_as("ann:s3cret"));
    let journal = Journal::new("local:", "ps");
    let mut command = journal.command(&["--backend", &url, "run", "-m", "note", "--"]);
    command.args(journal.beat(60, &[]));
    let holder = Run::start(&mut command);
    journal.wait_for(1);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder.id())).expect("it lives");
    for pid in children.split_whitespace().chain([holder.id().to_string().as_str()]) {
        let shown = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    let seen = stdout(&output(&mut journal.command(&["--backend", &url, "state", "--json"])));
    assert!(seen.contains("note") && !seen.contains("s3cret"), "{seen}");
}

/// Neither the most verbose log nor anything else that others can see shows the password.
#[test]
fn a_password_is_not_logged() {
    let etcd = with_users();
    // Long enough to be noticed in a dump that shows a few bytes per line.
    let password = "s3cret".repeat(12);
    etcd.ctl(&["--user=root:r00t", "user", "add", &format!("bob:{password}")]);
    etcd.ctl(&["--user=root:r00t", "user", "grant-role", "bob", "locks"]);
    let url = format!("{}/locks", etcd.url_as(&format!("bob:{password}")));
    let name = lock_name("logged");
    let trace = std::cell::RefCell::new(String::new());
    let call = |words: &[&str], log: &str| {
        let mut command = binary(&url);
        command.arg(&name).args(words).env("RESOURCELOCK_LOG", log);
        let said = output(&mut command);
        trace.borrow_mut().push_str(&stdout(&said));
        trace.borrow_mut().push_str(&stderr(&said));
        said.status.code()
    };
    for log in ["", "trace", "ureq=trace,ureq_proto=trace,rustls=trace"] {
        assert_eq!(call(&["-vvv", "run", "true"], log), Some(0));
        assert_eq!(call(&["-vvv", "get", "--ttl", "60"], log), Some(0));
        assert_eq!(call(&["-vvv", "run", "-t", "0.2", "true"], log), Some(75), "it waits");
        assert_eq!(call(&["-vvv", "state", "--json"], log), Some(0));
        let stored = etcd.ctl(&["--user=root:r00t", "get", "--prefix", ""]);
        assert!(stored.contains(&name) && !stored.contains("s3cret"), "{stored}");
        assert_eq!(call(&["-vvv", "unget"], log), Some(0));
    }
    assert!(!trace.borrow().contains("s3cret"), "{}", trace.borrow());
    // The command finds what the caller has set, and nothing more.
    let mut command = binary("");
    command.args(["--backend", &url, &name, "run", "env"]);
    assert!(!stdout(&output(&mut command)).contains("s3cret"));
}

/// A hold that `unget` ends leaves no lease behind, however long it was meant to last.
#[test]
fn a_detached_hold_leaves_no_lease() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "no-lease");
    for words in [
        &["get", "--ttl", "3600"][..],
        &["unget"],
        &["get", "--forever"],
        &["unget"],
    ] {
        assert_eq!(output(&mut journal.command(words)).status.code(), Some(0), "{words:?}");
    }
    let leases = etcd.ctl(&["lease", "list"]);
    assert!(leases.contains("found 0 leases"), "{leases}");
}

#[test]
fn mistakes_in_the_url() {
    for (url, status, why) in [
        ("etcd://user:s3cret@host:x", 125, "port"),
        ("redis://user:s3cret@host", 125, "cannot be used"),
        // If a password is not escaped as URLs require, no piece of it is taken for a host, a port or a prefix.
        ("etcd://user:p@s3cret/w@127.0.0.1:1/locks", 125, "%40"),
        ("etcd://user:s3cret/x@127.0.0.1:1/locks", 125, "%2F"),
        ("etcd://user:p@s3cret@127.0.0.1:1/locks", 125, "%40"),
        ("etcd://user:s3cret?x@127.0.0.1:1/locks", 125, "%3F"),
        ("etcd://user:s3cret@127.0.0.1:1/lo?cks", 125, "'?'"),
        ("etcd://127.0.0.1:1", 69, "refused"),
        ("etcd://no-such-host.invalid", 69, "cannot be reached"),
    ] {
        let said = output(binary(url).args(["x", "run", "true"]));
        assert_eq!(said.status.code(), Some(status), "{url}: {}", stderr(&said));
        assert!(stderr(&said).contains(why), "{url}: {}", stderr(&said));
        assert!(!stderr(&said).contains("s3cret"));
        assert_eq!(stderr(&said).lines().count(), 1);
        assert!(!stderr(&said).contains('\\'), "{}", stderr(&said));
    }
}

/// If it is not an etcd server, or not the one that is meant, the message says what to check.
#[test]
fn another_servers_port() {
    let etcd = Etcd::one();
    // A server that closes every connection at once.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let rude = listener.local_addr().expect("it is bound").to_string();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    for (url, status, why) in [
        (
            etcd.url_of(&etcd.peer_endpoint(0)),
            125,
            "not an etcd client port (usually 2379): HTTP status 404",
        ),
        (
            etcd.url_of(&rude),
            69,
            "does it want TLS (etcds://)? is it etcd's client port (2379)?",
        ),
    ] {
        let said = output(binary(&url).args(["x", "run", "true"]));
        assert_eq!(said.status.code(), Some(status), "{url}: {}", stderr(&said));
        assert!(stderr(&said).contains(why), "{url}: {}", stderr(&said));
        assert_eq!(stderr(&said).lines().count(), 1);
    }
}
