//! PostgreSQL: unusual settings of servers, databases and roles, and what else may go on there.

use crate::common::run::output;
use crate::engine_common::journal::{Journal, Run, binary};
use crate::engine_common::postgres::{self, Postgres, stderr, stdout};
use crate::engine_common::{Process, lock_name, wait_until};
use serde_json::Value;
use std::fs::File;
use std::process::{Command, Output, Stdio};

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

/// A session that runs this and then stays open until dropped.
fn session(server: &Postgres, database: &str, script: &str) -> Process {
    let mut psql = server.psql(database, &["-c", &format!("{script}; SELECT pg_sleep(600)")]);
    Process(psql.stdout(Stdio::null()).spawn().expect("psql runs"))
}

/// Creates a database in which only the owner may create tables; returns its URL for another user, `name`.
fn bare(server: &Postgres, name: &str) -> String {
    server.sql(&format!("CREATE ROLE {name} LOGIN"));
    server.sql(&format!("CREATE DATABASE {name}"));
    server.sql_in(name, "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    server.local_url_as(name, name)
}

/// A prepared transaction keeps its locks without a session.
#[test]
fn prepared_transactions() {
    let mut server = Postgres::start();
    server.set(&["max_prepared_transactions=10"]);
    let prepare = "BEGIN; SELECT pg_advisory_xact_lock(4242); PREPARE TRANSACTION 'left behind'";
    server.sql(prepare);
    let journal = Journal::new(&server.url(), "prepared");
    let holder = journal.run(&[], 600, &[]);
    journal.wait_for(1);
    let mut waiter = Run::start(journal.command(&["run", "-v", "--", "true"]).stderr(Stdio::null()));
    wait_until("it waits", || journal.waiting() == 1);
    assert_eq!(status(&output(&mut journal.command(&["run", "-n", "true"]))), 75);
    assert_eq!(status(&output(&mut journal.command(&["run", "-t", "2", "true"]))), 75);
    let listed = stdout(&output(binary(&server.url()).arg("list")));
    assert!(listed.contains(journal.name()), "{listed}");
    assert_eq!(status(&output(&mut journal.command(&["unget"]))), 0);
    assert_eq!(waiter.status(), 0);
    drop(holder);
}

#[test]
fn defaults_of_a_role() {
    let server = Postgres::shared();
    for (i, default) in [
        "default_transaction_isolation = 'serializable'",
        "default_transaction_isolation = 'repeatable read'",
        "default_transaction_read_only = on",
        "default_transaction_deferrable = on",
        "lock_timeout = '1ms'",
        "statement_timeout = '200ms'",
        "search_path = ''",
        "client_encoding = 'LATIN1'",
        "standard_conforming_strings = off",
        "bytea_output = 'escape'",
        "IntervalStyle = 'sql_standard'",
        "DateStyle = 'German'",
        "extra_float_digits = -15",
        "row_security = off",
    ]
    .iter()
    .enumerate()
    {
        let user = format!("defaults{i}");
        server.sql(&format!(
            "CREATE ROLE {user} LOGIN SUPERUSER; ALTER ROLE {user} SET {default}"
        ));
        let url = server.local_url_as(&user, "jobs");
        let journal = Journal::new(&url, "defaults");
        // Run commands in parallel, on one lock and on many.
        let mut runs: Vec<Run> = (0..3).map(|_| journal.run(&["-t", "100"], 0, &[])).collect();
        let others = (0..6).map(|_| Run::start(binary(&url).args([&lock_name("default"), "run", "true"])));
        runs.extend(others.collect::<Vec<_>>());
        for run in &mut runs {
            assert_eq!(run.status(), 0, "{default}");
        }
        journal.judge(3);
    }
}

/// A grant must not wait for a standby: meanwhile the session would keep the lock, and nobody could end it.
#[test]
fn a_standby_that_does_not_answer() {
    let mut server = Postgres::start();
    server.set(&["synchronous_standby_names=nobody"]);
    let url = server.url();
    let name = lock_name("ghost");
    for _ in 0..70 {
        let ran = output(binary(&url).args([&name, "run", "-t", "20", "true"]));
        assert_eq!(status(&ran), 0, "{}", stderr(&ran));
    }
}

#[test]
fn a_database_in_latin1() {
    let server = Postgres::shared();
    server.sql("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    let journal = Journal::new(&server.url_as("trusted", "latin"), "latin");
    let message = "schrittweise – 日本 \u{1f512} \"x\"";
    let holder = journal.run(&["-m", message], 600, &[]);
    journal.wait_for(1);
    let mut waiter = journal.run(&["-m", "naïve –"], 0, &[]);
    wait_until("it waits", || journal.waiting() == 1);
    let state: Value =
        serde_json::from_str(&stdout(&output(&mut journal.command(&["state", "--json"])))).expect("JSON");
    assert!(
        state["note"].as_str().is_some_and(|note| note.ends_with(message)),
        "{state}"
    );
    drop(holder);
    assert_eq!(waiter.status(), 0);
    // What that encoding cannot represent cannot be a name there.
    let refused = output(binary(&server.url_as("trusted", "latin")).args(["日本", "run", "true"]));
    assert_eq!(status(&refused), 125, "{}", stderr(&refused));
}

/// During maintenance: records meant for other people's eyes must not hold up those who wait or release.
#[test]
fn a_table_that_is_locked() {
    let server = Postgres::start();
    let journal = Journal::new(&server.url(), "locked");
    let mut holder = journal.run(&[], 600, &[]);
    journal.wait_for(1);
    let maintenance = session(&server, "jobs", "BEGIN; LOCK TABLE public.resourcelock_session");
    wait_until("the table is locked", || {
        server.sql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'public.resourcelock_session'::regclass") != "0"
    });
    let refused = output(&mut journal.command(&["run", "-t", "1", "true"]));
    assert_eq!(status(&refused), 75, "{}", stderr(&refused));
    // One that gets its lock and then waits for the table leaves nothing behind when it is killed, nor when it gives up.
    let locks = |count: &str| {
        wait_until("so many are held", || {
            server.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == count
        });
    };
    let free = Journal::new(&server.url(), "locked-free");
    let mut killed = free.run(&[], 600, &[]);
    locks("2");
    killed.signal("KILL");
    killed.wait();
    locks("1");
    let unanswered = output(&mut free.command(&["run", "-n", "true"]));
    assert_eq!(status(&unanswered), 69, "{}", stderr(&unanswered));
    assert!(stderr(&unanswered).contains("somebody has locked public.resourcelock_session"));
    locks("1");
    holder.signal("TERM");
    holder.wait();
    // It has released the lock, although it could not record that.
    wait_until("it is released", || {
        server.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"
    });
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE mode = 'AccessExclusiveLock'");
    drop(maintenance);
    assert_eq!(status(&output(&mut journal.command(&["run", "-t", "100", "true"]))), 0);
}

/// Even where it may not create a table, a job knows its own hold.
#[test]
fn a_job_without_a_table_knows_its_hold() {
    let server = Postgres::shared();
    let url = bare(server, "bareown");
    let journal = Journal::new(&url, "own");
    let program = binary("").get_program().to_string_lossy().into_owned();
    let script = r#""$0" "$1" run true 2>/dev/null; echo $?; "$0" "$1" run --same-process-ok echo in; "$0" "$1" state -q --mine; echo $?
        "$0" "$1" unget --token $((RESOURCELOCK_TOKEN + 1)) >/dev/null; echo $?; "$0" "$1" unget --token $RESOURCELOCK_TOKEN >/dev/null; echo $?"#;
    let said = output(&mut journal.command(&["run", "--", "sh", "-c", script, &program, journal.name()]));
    let lines = stdout(&said);
    assert!(lines.starts_with("125\nin\n0\n1\n"), "{lines}{}", stderr(&said));
    assert_eq!(
        status(&said),
        76,
        "the last command ended the session: {}",
        stderr(&said)
    );
}

#[test]
fn holders_without_a_token_are_followed() {
    let server = Postgres::start();
    let journal = Journal::new(&server.url(), "follow");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("trace");
    let mut trace = journal.command(&["trace", "-f"]);
    let _trace = Run::start(trace.stdout(File::create(&file).expect("a file")));
    let said = || std::fs::read_to_string(&file).unwrap_or_default();
    // Each look is two transactions.
    let looks = "SELECT query_start FROM pg_stat_activity WHERE application_name = 'resourcelock (looks)'";
    let mut seen = std::collections::BTreeSet::new();
    wait_until("it has begun", || {
        seen.insert(server.sql(looks));
        seen.len() > 4
    });
    let key = server.sql(&format!(
        "SELECT ('x' || left(encode(sha256('resourcelock:{}'), 'hex'), 16))::bit(64)::bigint",
        journal.name()
    ));
    let mut other = server.psql(
        "jobs",
        &["-c", &format!("SELECT pg_advisory_lock({key}); SELECT pg_sleep(600)")],
    );
    let other = Process(
        other
            .env("PGAPPNAME", "reports")
            .stdout(Stdio::null())
            .spawn()
            .expect("psql runs"),
    );
    wait_until("it is reported", || said().contains("reports"));
    drop(other);
}

/// A waiter checks that the server at which it waits is alive, not another one in the list.
#[test]
fn a_server_of_several_that_hangs() {
    let (server, other) = (Postgres::start(), Postgres::shared());
    let url = format!(
        "postgres://trusted@127.0.0.1:{},127.0.0.1:{}/jobs",
        server.port(),
        other.port()
    );
    let journal = Journal::new(&server.url(), "hangs");
    let _holder = journal.run(&["--ttl", "600"], 600, &[]);
    journal.wait_for(1);
    let mut waiter = Run::start(&mut journal.command_by(&url, &["run", "--ttl", "5", "true"]));
    wait_until("it waits", || journal.waiting() == 1);
    server.signal_all("STOP");
    assert_eq!(waiter.status(), 69);
    server.signal_all("CONT");
}

/// One answer that does not come in time must not end a wait of hours.
#[test]
fn a_server_that_hangs_for_a_while() {
    let server = Postgres::start();
    let journal = Journal::new(&server.url(), "hiccup");
    let mut holder = journal.run(&["--ttl", "600"], 600, &[]);
    journal.wait_for(1);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("log");
    let mut waiter = journal.command(&["run", "--ttl", "20", "true"]);
    waiter
        .env("RESOURCELOCK_LOG", "debug")
        .stderr(File::create(&file).expect("a file"));
    let mut waiter = Run::start(&mut waiter);
    wait_until("it waits", || journal.waiting() == 1);
    server.signal_all("STOP");
    wait_until("a request has gone unanswered", || {
        std::fs::read_to_string(&file).is_ok_and(|log| log.contains("no answer in time"))
    });
    server.signal_all("CONT");
    holder.signal("TERM");
    holder.wait();
    assert_eq!(
        waiter.status(),
        0,
        "{}",
        std::fs::read_to_string(&file).unwrap_or_default()
    );
}

/// Waiters need no further connection to see that the server is alive.
#[test]
fn no_connection_is_left() {
    let server = Postgres::start();
    server.sql("CREATE DATABASE few CONNECTION LIMIT 2");
    server.sql("CREATE ROLE plain LOGIN");
    server.sql_in("few", "GRANT ALL ON SCHEMA public TO plain");
    let url = server.local_url_as("plain", "few");
    let journal = Journal::new(&url, "few");
    let mut holder = journal.run(&["--ttl", "600"], 600, &[]);
    journal.wait_for(1);
    let mut waiter = journal.run(&["--ttl", "5"], 0, &[]);
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    wait_until("it waits", || server.sql(waits) == "1");
    // This refusal is not one of those counted below.
    let refused = output(&mut journal.command(&["run", "-n", "true"]));
    assert_eq!(status(&refused), 69, "{}", stderr(&refused));
    let log = || std::fs::read_to_string(server.folder().join("log")).unwrap_or_default();
    let before = log().matches("too many connections").count();
    wait_until("it has asked twice", || {
        log().matches("too many connections").count() >= before + 2
    });
    holder.signal("TERM");
    holder.wait();
    assert_eq!(waiter.status(), 0);
    journal.judge(2);
}

/// A lock on the table keeps nobody from knowing which holds are meant: tokens are available without it.
#[test]
fn holds_are_known_while_the_table_is_locked() {
    let server = Postgres::start();
    let journal = Journal::new(&server.url(), "known");
    let program = journal.command(&[]).get_program().to_owned();
    let script = r#"echo ready; read -r _; "$0" "$1" run --same-process-ok -- echo inside; echo "status $?""#;
    let mut job = journal.command(&["run", "--", "sh", "-c", script]);
    let mut job = job
        .arg(&program)
        .arg(journal.name())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = std::io::BufReader::new(job.stdout.take().expect("it is piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).expect("it says something");
    assert_eq!(line, "ready\n");
    let maintenance = || {
        let session = session(&server, "jobs", "BEGIN; LOCK TABLE public.resourcelock_session");
        let locked = "SELECT count(*) FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock'
            AND relation = 'public.resourcelock_session'::regclass";
        wait_until("the table is locked", || server.sql(locked) == "1");
        session
    };
    let over = |session: Process| {
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE mode = 'AccessExclusiveLock'");
        drop(session);
    };
    let session = maintenance();
    std::io::Write::write_all(&mut job.stdin.take().expect("it is piped"), b"go\n").expect("it reads");
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut said, &mut rest).expect("it is text");
    assert_eq!(rest, "inside\nstatus 0\n");
    over(session);
    assert!(job.wait().expect("it ends").success());
    let mut holder = journal.run(&[], 600, &[]);
    let token = journal.wait_for(1).token.to_string();
    let session = maintenance();
    let unget = |token: &str| status(&output(&mut journal.command(&["unget", "--token", token])));
    assert_eq!(unget("1"), 1);
    assert_eq!(unget(&token), 0);
    assert_eq!(holder.status(), 76);
    over(session);
}

/// As in libpq, `connect_timeout` is how long each server may take.
#[test]
fn a_limit_for_each_server() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("postgres://u@{}/d", silent.local_addr().expect("it is bound"));
    let ask = |url: &str| Run::start(binary(url).args([&lock_name("limit"), "run", "true"]));
    let mut other = ask(&url);
    let mut limited = ask(&format!("{url}?connect_timeout=1"));
    assert_eq!(limited.status(), 69);
    assert!(other.is_running(), "it waited longer than that");
    assert_eq!(other.status(), 69);
}

/// As in libpq, the password file lists a local socket that is not in the default place under its directory.
#[test]
fn the_password_of_a_local_socket() {
    let server = Postgres::start();
    server.sql("CREATE ROLE socket LOGIN SUPERUSER PASSWORD 'plugged'");
    let rules = "local all socket scram-sha-256\nlocal all all trust\nhost all trusted 127.0.0.1/32 trust\n";
    server.put("pg_hba.conf", rules.as_bytes());
    server.sql("SELECT pg_reload_conf()");
    let folder = server.folder().display().to_string();
    let url = server.local_url_as("socket", "jobs");
    let file = server.folder().join("pgpass");
    let (right, wrong) = (format!("{folder}:*:*:socket:plugged\n"), "localhost:*:*:socket:x\n");
    std::fs::write(&file, format!("{wrong}{right}")).expect("a file");
    assert!(
        Command::new("chmod")
            .arg("600")
            .arg(&file)
            .status()
            .is_ok_and(|status| status.success())
    );
    let asked = || {
        output(
            binary(&url)
                .args([&lock_name("socket"), "run", "true"])
                .env("PGPASSFILE", &file),
        )
    };
    wait_until("the rules are read", || {
        let psql = postgres::psql()
            .args(["-X", "-w", "-d", &url, "-c", "SELECT 1"])
            .output();
        psql.is_ok_and(|psql| !psql.status.success())
    });
    let had = asked();
    assert_eq!(status(&had), 0, "{}", stderr(&had));
}
