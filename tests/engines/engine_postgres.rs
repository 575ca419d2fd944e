//! PostgreSQL: the commands, poolers, and other programs' locks.

use crate::common::run::output;
use crate::common::schema::Schema;
use crate::engine_common::journal::{Journal, binary};
use crate::engine_common::postgres::{Pooler, Postgres, stderr, stdout};
use crate::engine_common::{lock_name, wait_until};
use serde_json::Value;

#[test]
fn the_commands() {
    let server = Postgres::shared();
    let journal = Journal::new(&server.url(), "commands");
    let call = |words: &[&str]| output(&mut journal.command(words));
    assert_eq!(call(&["run", "--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    let said = stdout(&call(&[
        "run",
        "--",
        "sh",
        "-c",
        "echo $RESOURCELOCK_NAME $RESOURCELOCK_TOKEN",
    ]));
    assert!(said.starts_with(journal.name()), "{said}");
    let holder = journal.run(&["-m", "a 'long' job"], 60, &[]);
    journal.wait_for(1);
    let refused = call(&["run", "-n", "true"]);
    assert_eq!(refused.status.code(), Some(75));
    assert!(stderr(&refused).contains("a 'long' job"), "{}", stderr(&refused));
    assert_eq!(call(&["run", "-t", "0.1", "true"]).status.code(), Some(75));
    let state: Value = serde_json::from_str(&stdout(&call(&["state", "--json"]))).expect("JSON");
    assert_eq!(state["holders"][0]["pid"], holder.id());
    let listed = stdout(&output(binary(&server.url()).arg("list")));
    assert!(listed.contains(journal.name()), "{listed}");
    journal.signalled_while_it_waits();
    drop(holder);
    for words in [
        &["get"][..],
        &["get", "--forever"],
        &["run", "-j", "2", "true"],
        &["run", "-F", "true"],
        &["history"],
    ] {
        let refused = call(words);
        assert_eq!(refused.status.code(), Some(125), "{words:?}");
        assert!(stderr(&refused).contains("postgres"), "{}", stderr(&refused));
    }
    assert!(stderr(&call(&["get"])).contains("use run"));
    // What the message suggests is not refused in turn.
    let refused = stderr(&call(&["get", "--pid", "1"]));
    assert!(refused.contains("use run") && !refused.contains("--ttl"), "{refused}");
    let refused = stderr(&call(&["run", "-F", "true"]));
    assert!(refused.contains("-F") && !refused.contains("lease"), "{refused}");
    let refused = stderr(&output(binary(&server.url()).arg("doctor")));
    assert!(refused.contains("postgres"), "{refused}");
    let kept = stdout(&call(&["get", "-a", "0.2", "-t", "60"]));
    assert!(kept.contains("released"), "{kept}");
}

#[test]
fn a_pooler_in_between() {
    let server = Postgres::shared();
    let transactions = Pooler::start(server, "transaction");
    let name = lock_name("pooler");
    for url in [transactions.url(), transactions.local_url()] {
        let refused = output(binary(&url).args([&name, "run", "echo", "ran"]));
        assert_eq!(refused.status.code(), Some(125), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("pooler"), "{}", stderr(&refused));
        assert_eq!(stdout(&refused), "");
    }
    let sessions = Pooler::start(server, "session");
    let journal = Journal::new(&sessions.url(), "pooler");
    let mut one = journal.run(&[], 60, &[]);
    let token = journal.wait_for(1).token;
    let direct = binary(&server.url())
        .args([journal.name(), "run", "-n", "true"])
        .output()
        .expect("it runs");
    assert_eq!(
        direct.status.code(),
        Some(75),
        "they exclude each other: {}",
        stderr(&direct)
    );
    journal.let_end(token);
    assert_eq!(one.status(), 0);
    // The server itself and a pooler in session mode, by way of a local socket.
    let own = server.local_url_as("trusted", "jobs");
    for url in [own, sessions.local_url()] {
        let had = output(binary(&url).args([&name, "run", "echo", "ran"]));
        assert_eq!(stdout(&had), "ran\n", "{}", stderr(&had));
    }
}

/// A pooler that uses its sessions in turn hands out the same one again now and then.
#[test]
fn a_pooler_that_takes_sessions_in_turn() {
    let server = Postgres::shared();
    for sessions in [1, 2, 3] {
        let more = format!("server_round_robin = 1\nmin_pool_size = {sessions}\ndefault_pool_size = 4\n");
        let pooler = Pooler::with(server, "transaction", &more);
        let name = lock_name("round-robin");
        for _ in 0..3 {
            let refused = output(binary(&pooler.url()).args([&name, "run", "echo", "ran"]));
            assert_eq!(refused.status.code(), Some(125), "{sessions}: {}", stderr(&refused));
            assert_eq!(stdout(&refused), "");
        }
    }
    let pooler = Pooler::start(server, "statement");
    let refused = output(binary(&pooler.url()).args([&lock_name("statement"), "run", "echo", "ran"]));
    assert_eq!(refused.status.code(), Some(125), "{}", stderr(&refused));
}

/// Another program may use the same key by chance: then both exclude each other, and `state` shows it.
#[test]
fn a_lock_of_another_program() {
    let server = Postgres::shared();
    let journal = Journal::new(&server.url(), "collision");
    let key = server.sql(&format!(
        "SELECT ('x' || left(encode(sha256('resourcelock:{}'), 'hex'), 16))::bit(64)::bigint",
        journal.name()
    ));
    let mut other = server.psql(
        "jobs",
        &[
            "-c",
            &format!("SELECT pg_advisory_lock({key}), 'has it'"),
            "-c",
            "SELECT pg_sleep(60)",
        ],
    );
    let mut other = crate::engine_common::Process(
        other
            .env("PGAPPNAME", "reports")
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("psql runs"),
    );
    wait_until("the other one has it", || {
        !output(&mut journal.command(&["run", "-n", "true"])).status.success()
    });
    // What is not known about it is not made up.
    let state = stdout(&output(&mut journal.command(&["state"])));
    let busy = stderr(&output(&mut journal.command(&["run", "-n", "true"])));
    for text in [state, busy] {
        assert!(
            text.contains("held by") && text.contains("another program (reports)"),
            "{text}"
        );
        for invented in ["1970", "0@", "?", "token", "since", " for "] {
            assert!(!text.contains(invented), "{invented}: {text}");
        }
    }
    let json: Value = serde_json::from_str(&stdout(&output(&mut journal.command(&["state", "--json"])))).expect("JSON");
    Schema::of("lock").check(&json.to_string());
    for unknown in [
        "pid",
        "uid",
        "user",
        "host",
        "since",
        "held_seconds",
        "waited_seconds",
        "token",
    ] {
        assert!(
            json["holders"][0].get(unknown).is_some_and(Value::is_null),
            "{unknown}: {json}"
        );
    }
    assert!(json.get("counters").is_some_and(Value::is_null), "{json}");
    let refused = output(&mut journal.command(&["run", "-n", "true"]));
    assert_eq!(refused.status.code(), Some(75), "{}", stderr(&refused));
    let mut next = journal.run(&[], 0, &[]);
    wait_until("it waits", || journal.waiting() == 1);
    // Force takes the lock away from anybody.
    assert!(output(&mut journal.command(&["unget"])).status.success());
    assert_eq!(next.status(), 0);
    other.kill();
}

/// A session is ended under its holder: the messages name the lock, and take one line each.
#[test]
fn a_session_that_is_ended_names_the_lock() {
    let server = Postgres::shared();
    let journal = Journal::new(&server.url(), "ended");
    let mut holder = journal.command(&["-vv", "run", "--"]);
    holder.args(journal.beat(60, &[])).stderr(std::process::Stdio::piped());
    let holder = holder.spawn().expect("it starts");
    journal.wait_for(1);
    assert!(output(&mut journal.command(&["unget"])).status.success());
    let ended = holder.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(76));
    let said = stderr(&ended);
    assert!(
        said.contains("granted with token ") && said.contains(" has ended"),
        "{said}"
    );
    for line in said.lines() {
        assert!(line.contains(journal.name()), "{line}");
    }
    assert!(said.contains(&server.port().to_string()), "which server: {said}");
}

/// A server that never answers may be something else: the message says so.
#[test]
fn another_servers_port() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    for mode in ["disable", "prefer"] {
        let silent = output(binary(&format!("postgres://u@{address}/d?sslmode={mode}")).args(["x", "run", "true"]));
        assert_eq!(silent.status.code(), Some(69), "{}", stderr(&silent));
        assert!(
            stderr(&silent).contains("(is it PostgreSQL's port, 5432?)"),
            "{}",
            stderr(&silent)
        );
    }
}

/// A standby has its own locks: it is never used, even if it comes first in the list.
#[test]
fn a_standby_is_passed_over() {
    let primary = Postgres::shared();
    let mut standby = Postgres::start();
    standby.put("standby.signal", b"");
    standby.set(&["hot_standby=on"]);
    let name = lock_name("standby");
    for words in [&["run", "true"][..], &["state"], &["unget"]] {
        let refused = output(binary(&standby.url()).arg(&name).args(words));
        assert_eq!(refused.status.code(), Some(125), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("standby"), "{}", stderr(&refused));
    }
    let both = format!(
        "postgres://trusted@127.0.0.1:{},127.0.0.1:{}/jobs",
        standby.port(),
        primary.port()
    );
    // While the primary is away, it is worth waiting for, wherever the standby is in the list.
    let port = crate::engine_common::free_port();
    for (first, second) in [(port, standby.port()), (standby.port(), port)] {
        let url = format!("postgres://trusted@127.0.0.1:{first},127.0.0.1:{second}/jobs");
        let refused = output(binary(&url).args([&name, "run", "true"]));
        assert_eq!(refused.status.code(), Some(69), "{}", stderr(&refused));
    }
    let journal = Journal::new(&both, "standby");
    let mut holder = journal.run(&[], 60, &[]);
    let token = journal.wait_for(1).token;
    let refused = output(binary(&primary.url()).args([journal.name(), "run", "-n", "true"]));
    assert_eq!(refused.status.code(), Some(75), "{}", stderr(&refused));
    journal.let_end(token);
    assert_eq!(holder.status(), 0);
}

/// The server drops a holder that has vanished no earlier than twice the time by which its command has exited. A column
/// added to the session table records the server's settings.
#[test]
fn how_long_the_server_waits_for_a_holder() {
    let server = Postgres::shared();
    server.sql("CREATE DATABASE settings");
    let url = server.url_as("trusted", "settings");
    let name = lock_name("settings");
    let run = |words: &[&str]| {
        let ran = output(binary(&url).arg(&name).args(["run"]).args(words));
        assert!(ran.status.success(), "{}", stderr(&ran));
    };
    run(&["true"]);
    let script = "CREATE TABLE seen (what text, value text);
        CREATE FUNCTION see() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.seen
                SELECT name, setting FROM pg_settings WHERE name LIKE 'tcp%' OR name LIKE '%timeout';
            RETURN true; END $$;
        ALTER TABLE resourcelock_session ADD COLUMN saw boolean;
        ALTER TABLE resourcelock_session ALTER COLUMN saw SET DEFAULT see()";
    server.sql_in("settings", script);
    for (ttl, seconds) in [("5", 5.0), ("7.3s", 7.3), ("10m", 600.0)] {
        server.sql_in("settings", "DELETE FROM seen");
        run(&["--ttl", ttl, "true"]);
        let value = |what: &str| -> f64 {
            // If a server does not know a setting, it has no such limit.
            let value = format!("SELECT coalesce((SELECT value FROM seen WHERE what = '{what}' LIMIT 1), '0')");
            let value = server.sql_in("settings", &value);
            value.parse().unwrap_or_else(|_| panic!("{what}: {value}"))
        };
        // By then the holder has killed its command.
        let ended = seconds - f64::max(0.5, seconds / 10.0);
        assert!(value("tcp_keepalives_idle") >= 2.0 * ended, "{ttl}");
        assert!(value("tcp_user_timeout") >= 2_000.0 * ended, "{ttl}");
        assert!(value("tcp_keepalives_count") >= 1.0 && value("tcp_keepalives_interval") >= 1.0);
        // But in the end it does drop it.
        assert!(value("tcp_user_timeout") <= 3_000.0 * seconds, "{ttl}");
        for never in [
            "statement_timeout",
            "idle_session_timeout",
            "idle_in_transaction_session_timeout",
        ] {
            assert_eq!(value(never), 0.0, "{never}");
        }
    }
}
