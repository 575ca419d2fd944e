//! PostgreSQL: tokens grow, whatever happens to what they are drawn from.

use crate::engine_common::journal::{Journal, Run, binary};
use crate::engine_common::postgres::{Pooler, Postgres, stderr, stdout};
use crate::engine_common::{lock_name, wait_until};
use std::process::Output;
use std::thread;

/// Locks on one server, and the highest token of each.
struct Tokens {
    url: String,
    locks: Vec<(String, u64)>,
}

impl Tokens {
    fn of(url: String) -> Self {
        let locks = (0..3).map(|_| (lock_name("tokens"), 0)).collect();
        Self { url, locks }
    }

    fn ask(&self, name: &str) -> Output {
        let mut command = binary(&self.url);
        let output = command
            .args([name, "run", "sh", "-c", "echo $RESOURCELOCK_TOKEN"])
            .output();
        output.expect("it runs")
    }

    /// Draws some more tokens of each lock, all locks in parallel; asserts that each is higher than the one before.
    fn grow(&mut self, when: &str) {
        let drawn: Vec<Vec<u64>> = thread::scope(|scope| {
            let asked: Vec<_> = self
                .locks
                .iter()
                .map(|(name, _)| {
                    scope.spawn(|| {
                        (0..3)
                            .map(|_| {
                                let had = self.ask(name);
                                assert!(had.status.success(), "{when}: {}", stderr(&had));
                                stdout(&had).trim().parse().expect("a token")
                            })
                            .collect()
                    })
                })
                .collect();
            asked.into_iter().map(|asked| asked.join().expect("no panic")).collect()
        });
        for ((name, highest), drawn) in self.locks.iter_mut().zip(drawn) {
            for token in drawn {
                assert!(token > *highest, "{when}: {name}: {token} after {highest}");
                *highest = token;
            }
        }
    }
}

/// Ensures that what was not forced to disk is lost: nobody writes it in the background, and commits do not wait.
const FORGETFUL: &[&str] = &["wal_writer_delay=10s", "synchronous_commit=off", "autovacuum=off"];

#[test]
fn after_a_crash_of_the_server() {
    let mut server = Postgres::start();
    server.sql("CREATE ROLE plain LOGIN");
    server.sql("CREATE DATABASE bare");
    server.sql_in("bare", "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    server.set(FORGETFUL);
    let mut tokens = Tokens::of(server.url());
    let bare = server.local_url_as("plain", "bare");
    let mut bare = Tokens::of(bare);
    for _ in 0..4 {
        bare.grow("before a crash, without a table");
        // These come last, because the others force everything before them to disk.
        tokens.grow("before a crash");
        server.kill();
        server.restart();
        tokens.grow("after a crash");
        bare.grow("after a crash, without a table");
    }
    // When one of its processes crashes, the server ends all the others, and re-creates its memory.
    let checkpointer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    let before = server.sql(checkpointer);
    let crashed = server.try_sql(
        "jobs",
        "SELECT pg_reload_conf(); COPY (SELECT 1) TO PROGRAM 'kill -KILL $PPID'",
    );
    assert!(!crashed.status.success());
    wait_until("it serves again, with new processes", || {
        let now = server.try_sql("jobs", checkpointer);
        now.status.success() && ![&*before, ""].contains(&stdout(&now).trim())
    });
    tokens.grow("after a crash of one process");
}

/// A role without any right on the schema locks all the same, until there are tokens that it may not draw.
#[test]
fn without_a_right_on_the_schema() {
    let server = Postgres::shared();
    server.sql("CREATE ROLE shut LOGIN");
    server.sql("CREATE DATABASE shut_out");
    server.sql_in("shut_out", "REVOKE ALL ON SCHEMA public FROM PUBLIC");
    let url = |user: &str| server.local_url_as(user, "shut_out");
    let name = lock_name("shut-out");
    let run = |user: &str| {
        let mut run = binary(&url(user));
        run.args([&*name, "run", "--", "echo", "ran"])
            .output()
            .expect("it runs")
    };
    let bare = run("shut");
    assert_eq!(
        (bare.status.code(), &*stdout(&bare)),
        (Some(0), "ran\n"),
        "{}",
        stderr(&bare)
    );
    assert!(stderr(&bare).contains("waits for the disk"), "{}", stderr(&bare));
    assert!(run("trusted").status.success());
    let refused = run("shut");
    assert_eq!((refused.status.code(), &*stdout(&refused)), (Some(125), ""));
    assert!(
        stderr(&refused).contains("have the owner run: GRANT"),
        "{}",
        stderr(&refused)
    );
}

/// Grants do not wait for the disk: where tokens come from a sequence, only one in 32 needs it.
#[test]
fn the_disk_is_not_waited_for() {
    let mut server = Postgres::start();
    server.sql("CREATE ROLE plain LOGIN");
    server.sql("CREATE DATABASE bare");
    server.sql_in("bare", "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    server.set(&[
        "fsync=on",
        "wal_writer_delay=10s",
        "autovacuum=off",
        "checkpoint_timeout=1h",
    ]);
    let mut tokens = Tokens::of(server.url());
    let mut bare = Tokens::of(server.url_as("trusted", "jobs"));
    bare.url = server.local_url_as("plain", "bare");
    tokens.grow("first");
    let version: i64 = server.sql("SHOW server_version_num").parse().expect("a number");
    let counted = if version < 180_000 {
        "SELECT wal_sync FROM pg_stat_wal"
    } else {
        "SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'"
    };
    let writes = || -> i64 { server.sql(counted).parse().expect("a number") };
    let before = writes();
    tokens.grow("then");
    tokens.grow("then");
    let drawn = writes() - before;
    assert!(drawn < 9, "{drawn} writes for 18 grants");
    let before = writes();
    bare.grow("without a table");
    let counted = writes() - before;
    assert!(
        counted >= 3,
        "{counted} writes for 9 grants, three at a time, each of which has to be on disk"
    );
}

/// Who connects directly, through a pooler, or to a database with files elsewhere, says the same of the database and the
/// server: or else the sequence would be moved on each time.
#[test]
fn the_sequence_is_not_moved_on_without_need() {
    let server = Postgres::start();
    let elsewhere = server.folder().join("elsewhere").display().to_string();
    server.sql(&format!("COPY (SELECT 1) TO PROGRAM 'mkdir -m 700 {elsewhere}'"));
    server.sql(&format!("CREATE TABLESPACE elsewhere LOCATION '{elsewhere}'"));
    server.sql("CREATE DATABASE elsewhere TABLESPACE elsewhere");
    let pooler = Pooler::start(&server, "session");
    let local = |database: &str| server.local_url_as("trusted", database);
    let expected = "SELECT who, (SELECT oid FROM pg_database WHERE datname = current_database())::text || ' '
        || extract(epoch FROM pg_postmaster_start_time())::text FROM resourcelock_session WHERE name = ''";
    for (database, urls) in [
        ("jobs", vec![server.url(), pooler.url(), local("jobs"), server.url()]),
        (
            "elsewhere",
            vec![server.url_as("trusted", "elsewhere"), local("elsewhere")],
        ),
    ] {
        let mut last = None;
        for url in urls {
            let had = Tokens::of(url).ask("sequence");
            assert!(had.status.success(), "{}", stderr(&had));
            let token: u64 = stdout(&had).trim().parse().expect("a token");
            assert!(last.is_none_or(|last| token == last + 1), "{token} after {last:?}");
            last = Some(token);
        }
        let row = server.sql_in(database, expected);
        assert!(
            row.split_once('|').is_some_and(|(who, expected)| who == expected),
            "{row}"
        );
    }
}

/// Of several that find no table at the same time, one makes it, and the others wait for that. A table that is made in vain
/// leaves a file behind until the next checkpoint, which may keep PostgreSQL from starting after a crash.
#[test]
fn the_first_requests_make_one_table() {
    let server = Postgres::start();
    for i in 0..10 {
        let database = format!("first{i}");
        server.sql(&format!("CREATE DATABASE {database}"));
        let url = server.url_as("trusted", &database);
        let mut runs: Vec<Run> = (0..6)
            .map(|_| Run::start(binary(&url).args([&lock_name("first"), "run", "true"])))
            .collect();
        for run in &mut runs {
            assert_eq!(run.status(), 0);
        }
    }
    let log = std::fs::read_to_string(server.folder().join("log")).expect("the server's log");
    assert!(!log.contains("ERROR"), "{log}");
}

/// The statements that a message asks somebody to run: the rest of its line.
fn to_paste(said: &str) -> &str {
    let (_, statements) = said
        .split_once(" run: ")
        .unwrap_or_else(|| panic!("what to do: {said}"));
    statements.lines().next().unwrap_or_default()
}

/// The statements printed are all that is needed, and can be pasted as they are.
#[test]
fn what_a_role_needs_is_printed() {
    let server = Postgres::shared();
    server.sql("CREATE ROLE \"two words\" LOGIN");
    server.sql("CREATE DATABASE pasted");
    server.sql_in("pasted", "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let url = server.local_url_as("two%20words", "pasted");
    let mut tokens = Tokens::of(url);
    let had = tokens.ask(&tokens.locks[0].0);
    assert!(had.status.success());
    let said = stderr(&had);
    let statements = to_paste(&said);
    assert!(statements.ends_with("TO \"two words\";"), "{statements}");
    server.sql_in("pasted", statements);
    let had = tokens.ask(&tokens.locks[0].0);
    assert!(had.status.success() && had.stderr.is_empty(), "{}", stderr(&had));
    tokens.grow("with what was pasted");
}

#[test]
fn when_the_table_is_made_later_or_lost() {
    let server = Postgres::shared();
    server.sql("CREATE ROLE later LOGIN");
    server.sql("CREATE DATABASE later");
    let sql = |text: &str| server.sql_in("later", text);
    sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let url = server.local_url_as("later", "later");
    let mut tokens = Tokens::of(url);
    tokens.grow("without a right to make a table");
    // Somebody else creates it by hand, as the message says. Until that is complete, it is not used.
    let said = stderr(&tokens.ask(&tokens.locks[0].0));
    assert!(!said.contains("not shown"), "state shows the holder: {said}");
    let (create, _) = to_paste(&said).split_once(" GRANT ").expect("and what to allow");
    sql(create);
    let refused = tokens.ask(&tokens.locks[0].0);
    assert_eq!(refused.status.code(), Some(125), "{}", stderr(&refused));
    sql("GRANT SELECT, INSERT, UPDATE, DELETE ON resourcelock_session TO later");
    sql("GRANT USAGE ON SEQUENCE resourcelock_token TO later");
    let refused = tokens.ask(&tokens.locks[0].0);
    assert_eq!(refused.status.code(), Some(125), "{}", stderr(&refused));
    // As printed, with the role.
    sql(to_paste(&stderr(&refused)));
    tokens.grow("with the table made by hand");
    sql("DELETE FROM resourcelock_session");
    tokens.grow("with an emptied table");
    sql("GRANT CREATE ON SCHEMA public TO later");
    sql("DROP TABLE resourcelock_session");
    tokens.grow("without the table");
    sql("DROP TABLE resourcelock_session");
    sql("DROP SEQUENCE resourcelock_token");
    tokens.grow("with nothing left");
    let highest = tokens.locks[0].1;
    sql("DROP SEQUENCE resourcelock_token");
    tokens.grow("without the sequence");
    assert!(tokens.locks[0].1 > highest);
}

/// A process that began to wait before there was a table draws its token from what is there when the lock is granted.
#[test]
fn when_the_table_is_made_while_one_waits() {
    let server = Postgres::shared();
    server.sql("CREATE ROLE meanwhile LOGIN");
    server.sql("CREATE DATABASE meanwhile");
    let sql = |text: &str| server.sql_in("meanwhile", text);
    sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let url = server.local_url_as("meanwhile", "meanwhile");
    let journal = Journal::new(&url, "meanwhile");
    let mut holder = journal.run(&[], 600, &[]);
    journal.wait_for(1);
    let mut waiter = journal.run(&[], 0, &[]);
    wait_until("it waits", || journal.waiting() == 1);
    // Created by somebody who may.
    let made = binary(&server.url_as("trusted", "meanwhile"))
        .args([&lock_name("maker"), "run", "true"])
        .output();
    assert!(made.expect("it runs").status.success());
    sql("GRANT SELECT, INSERT, UPDATE, DELETE ON resourcelock_session TO meanwhile");
    sql("GRANT USAGE, UPDATE ON SEQUENCE resourcelock_token TO meanwhile");
    let highest: u64 = sql("SELECT last_value FROM resourcelock_token")
        .parse()
        .expect("a number");
    holder.signal("TERM");
    holder.wait();
    assert_eq!(waiter.status(), 0);
    assert!(journal.judge(2)[1].token > highest);
}

/// The database becomes older than the tokens drawn from it: replaced by a copy, and so is the whole server.
#[test]
fn after_a_restore() {
    let mut server = Postgres::start();
    let mut tokens = Tokens::of(server.url());
    tokens.grow("before the copy");
    server.sql_in("postgres", "CREATE DATABASE copy TEMPLATE jobs");
    tokens.grow("after the copy");
    server.sql_in("postgres", "DROP DATABASE jobs");
    server.sql_in("postgres", "CREATE DATABASE jobs TEMPLATE copy");
    tokens.grow("in a copy of the database");
    server.stop();
    let copy = server.folder().join("copy");
    let data = server.folder().join("data");
    let copied = std::process::Command::new("cp").arg("-a").args([&data, &copy]).status();
    assert!(copied.is_ok_and(|status| status.success()));
    server.restart();
    tokens.grow("after the copy of the server");
    server.stop();
    std::fs::remove_dir_all(&data).expect("it can be removed");
    std::fs::rename(&copy, &data).expect("it can be put in its place");
    server.restart();
    tokens.grow("in a copy of the server");
}

/// Data alone are restored into the server that has drawn the tokens, and runs on: the sequence must not be among them,
/// or the server has to be restarted. (The guide says so.)
#[test]
fn after_a_restore_of_the_data_alone() {
    let mut server = Postgres::start();
    let mut tokens = Tokens::of(server.url());
    tokens.grow("before the copy");
    server.sql("CREATE TABLE own AS SELECT 1 AS a");
    let without = server.dump_data("without", &["--exclude-table=public.resourcelock_*"]);
    let with = server.dump_data("with", &[]);
    tokens.grow("after the copy");
    let restore = |file: &std::path::Path| {
        let restored = server.psql("jobs", &["-f"]).arg(file).output().expect("psql runs");
        assert!(restored.status.success(), "{}", stderr(&restored));
    };
    let drawn = || server.sql("SELECT last_value FROM public.resourcelock_token");
    let last = drawn();
    restore(&without);
    assert_eq!(drawn(), last);
    assert_eq!(server.sql("SELECT count(*) FROM own"), "2", "the others are restored");
    tokens.grow("after the others were restored");
    let last = drawn();
    restore(&with);
    assert_ne!(drawn(), last, "the sequence has gone back");
    server.stop();
    server.restart();
    tokens.grow("after a restart");
}
