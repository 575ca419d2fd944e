//! PostgreSQL: who logs in with which password, and that it shows up nowhere.

use crate::common::run::output;
use crate::engine_common::journal::{Journal, binary};
use crate::engine_common::postgres::{Postgres, stderr, stdout};
use crate::engine_common::{lock_name, wait_until};
use std::process::Command;

const SECRET: &str = "s3cret";

/// Creates a user for this test alone, who may do everything.
fn user(server: &Postgres, name: &str, secret: &str) {
    server.sql(&format!("CREATE ROLE {name} LOGIN SUPERUSER PASSWORD '{secret}'"));
}

#[test]
fn it_is_shown_nowhere() {
    let server = Postgres::shared();
    user(server, "cat", SECRET);
    let with = server.url_as(&format!("cat:{SECRET}"), "jobs");
    let option = format!(
        "{}&sslmode=disable",
        server.url_as("cat", "jobs") + "?password=" + SECRET
    );
    let file = server.folder().join("cat.pgpass");
    std::fs::write(&file, format!("*:*:*:cat:{SECRET}\n")).expect("a file");
    assert!(
        Command::new("chmod")
            .arg("600")
            .arg(&file)
            .status()
            .expect("chmod runs")
            .success()
    );
    let bare = server.url_as("cat", "jobs");
    for (url, variables) in [
        (with.as_str(), &[][..]),
        (&option, &[]),
        (&bare, &[("PGPASSWORD", SECRET)]),
        (&bare, &[("PGPASSFILE", file.to_str().expect("plain"))]),
    ] {
        let name = lock_name("secrets");
        let mut said = String::new();
        for words in [
            &[
                "run",
                "--",
                "sh",
                "-c",
                "echo $RESOURCELOCK_HELD; env | grep -v ^PGPASS",
            ][..],
            &["run", "-n", "true"],
            &["state"],
            &["state", "--json"],
            &["history"],
            &["get"],
            &["unget"],
            &["run", "-j", "2", "true"],
        ] {
            // As an option, so that the URL is not in the command's environment.
            let mut command = binary("");
            command
                .env_remove("RESOURCELOCK_BACKEND")
                .envs(variables.iter().copied());
            command
                .env("RESOURCELOCK_LOG", "trace")
                .arg(format!("--backend={url}"))
                .arg(&name)
                .args(words);
            let output = output(&mut command);
            assert_ne!(output.status.code(), Some(69), "{}", stderr(&output));
            said += &(stdout(&output) + &stderr(&output));
        }
        let mut list = binary(url);
        said += &stdout(&output(list.envs(variables.iter().copied()).arg("list")));
        assert!(said.contains("TRACE") || said.contains("DEBUG"), "{said}");
        assert!(!said.contains(SECRET), "{said}");
    }
    for (url, status) in [
        (server.url_as(&format!("cat:x{SECRET}"), "jobs"), 125),
        (server.url_as(&format!("cat:{SECRET}"), "nowhere"), 125),
        (server.url_as(&format!("nobody:{SECRET}"), "jobs"), 125),
        (format!("postgres://u:{SECRET}@127.0.0.1:1/jobs"), 69),
        (format!("postgres://u:{SECRET}@127.0.0.1:x/jobs"), 125),
        (format!("postgres://u:{SECRET}@no-such-host.invalid/jobs"), 69),
        (format!("postgres://u:a@{SECRET}@127.0.0.1/jobs"), 125),
        (format!("postgres://u:a/{SECRET}@127.0.0.1/jobs"), 125),
        (format!("postgres://h/jobs?password={SECRET}&sslmode=x"), 125),
        (format!("postgres://h/jobs?password={SECRET}&port=x"), 125),
    ] {
        let mut command = binary(&url);
        command
            .args([&lock_name("mistake"), "run", "-n", "true"])
            .env("RESOURCELOCK_LOG", "trace");
        let said = output(&mut command);
        assert_eq!(said.status.code(), Some(status), "{}", stderr(&said));
        assert!(!stderr(&said).contains(SECRET), "{}", stderr(&said));
    }
}

#[test]
fn ps_does_not_show_it() {
    // No other test's: they give theirs to psql and etcdctl, which show it.
    const SECRET: &str = "what-dan-knows";
    let server = Postgres::shared();
    user(server, "dan", SECRET);
    let holder = Journal::new(&server.url(), "ps");
    let held = holder.run(&[], 60, &[]);
    holder.wait_for(1);
    for url in [
        server.url_as(&format!("dan:{SECRET}"), "jobs"),
        format!("{}?password={SECRET}&sslmode=allow", server.url_as("dan", "jobs")),
    ] {
        let mut command = binary("");
        command.env_remove("RESOURCELOCK_BACKEND");
        command.args(["--backend", &url, holder.name(), "run", "true"]);
        let mut waiting = crate::engine_common::journal::Run::start(&mut command);
        wait_until("it waits", || holder.waiting() == 1);
        let shown = std::fs::read(format!("/proc/{}/cmdline", waiting.id())).expect("it runs");
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert!(shown.contains("xxxxxx") && !shown.contains(SECRET), "{shown}");
        waiting.signal("TERM");
        waiting.wait();
        wait_until("it has left", || holder.waiting() == 0);
    }
    // Nor does the guard process, nor what the server shows about its sessions.
    let all = stdout(&output(Command::new("ps").args(["-eo", "args"])));
    let shown = all.lines().filter(|line| line.contains(SECRET)).collect::<Vec<_>>();
    assert!(shown.is_empty(), "{shown:?}");
    let sessions = server.sql(
        "SELECT string_agg(a::text || coalesce(r::text, ''), '') FROM pg_stat_activity a
        LEFT JOIN resourcelock_session r ON r.backend = a.pid",
    );
    assert!(!sessions.contains(SECRET), "{sessions}");
    drop(held);
}

/// The command inherits what is in the caller's environment: it may have to ask for locks itself.
#[test]
fn the_command_inherits_the_variable_and_nothing_more() {
    let server = Postgres::shared();
    user(server, "eve", SECRET);
    let url = server.url_as(&format!("eve:{SECRET}"), "jobs");
    let print = &["run", "sh", "-c", "echo backend=$RESOURCELOCK_BACKEND"];
    let had = output(binary(&url).arg(lock_name("inherit")).args(print));
    assert_eq!(stdout(&had).trim(), format!("backend={url}"), "{}", stderr(&had));
    let mut by_option = binary("");
    by_option
        .env_remove("RESOURCELOCK_BACKEND")
        .args(["--backend", &url, &lock_name("inherit")]);
    assert_eq!(stdout(&output(by_option.args(print))).trim(), "backend=");
}

/// The environment alone may say which server to use.
#[test]
fn a_url_with_nothing_in_it() {
    let server = Postgres::shared();
    for url in [
        "postgres://",
        "postgresql://",
        "postgres:///jobs",
        "postgresql://127.0.0.1/jobs",
    ] {
        let mut command = binary(url);
        command.args([&lock_name("nothing"), "run", "true"]);
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", server.port().to_string());
        command.env("PGUSER", "trusted").env("PGDATABASE", "jobs");
        let had = output(&mut command);
        assert!(had.status.success(), "{url}: {}", stderr(&had));
    }
}

#[test]
fn users_passwords_and_mistakes() {
    let server = Postgres::shared();
    let name = lock_name("users");
    let home = tempfile::tempdir().expect("a folder");
    let run = |url: &str| {
        let mut command = binary(url);
        command
            .args([&name, "-vv", "run", "-n", "true"])
            .env("HOME", home.path());
        command
    };
    server.sql("CREATE ROLE ann LOGIN PASSWORD 's3cret'");
    server.sql("ALTER ROLE ann SUPERUSER");
    let good = output(&mut run(&server.url_as("ann:s3cret", "jobs")));
    assert!(good.status.success(), "{}", stderr(&good));
    assert!(!stderr(&good).contains("s3cret"), "{}", stderr(&good));
    let bare = server.url_as("ann", "jobs");
    assert!(output(run(&bare).env("PGPASSWORD", "s3cret")).status.success());
    let file = home.path().join(".pgpass");
    std::fs::write(&file, "*:*:jobs:ann:s3cret\n").expect("a file");
    let status = Command::new("chmod")
        .arg("600")
        .arg(&file)
        .status()
        .expect("chmod runs");
    assert!(status.success());
    assert!(output(&mut run(&bare)).status.success(), "by the password file");
    let nobody = output(run(&bare).env("HOME", "/nonexistent"));
    assert_eq!(nobody.status.code(), Some(125), "{}", stderr(&nobody));
    let advice = "it wants a password: postgres://USER:PASSWORD@…, PGPASSWORD or ~/.pgpass";
    assert!(stderr(&nobody).contains(advice), "{}", stderr(&nobody));
    for (url, status, why) in [
        (
            server.url_as("ann:wr0ng-s3cret", "jobs"),
            125,
            "password authentication failed for user \"ann\"",
        ),
        (
            "postgres://u:s3cret@h/d?require_auth=none".to_owned(),
            125,
            "cannot be used: require_auth",
        ),
        (
            "postgres://u:s3cret@h/d?no_such=1".to_owned(),
            125,
            "the option 'no_such' is not known",
        ),
        // What follows a '&' may be part of a password.
        (
            "postgres://u@h/d?password=a&s3cret=1".to_owned(),
            125,
            "an option behind the '?' is not known",
        ),
        (server.url_as("ann:s3cret", "nowhere"), 125, "does not exist"),
        ("postgres://u:s3cret@127.0.0.1:1/jobs".to_owned(), 69, "refused"),
        ("postgres://u:s3cret@127.0.0.1:x/jobs".to_owned(), 125, "cannot be used"),
        (
            "postgres://u:s3cret@no-such-host.invalid/jobs".to_owned(),
            69,
            "cannot be reached",
        ),
    ] {
        let said = output(&mut run(&url));
        assert_eq!(said.status.code(), Some(status), "{why}: {}", stderr(&said));
        assert!(stderr(&said).contains(why), "{}", stderr(&said));
        assert!(!stderr(&said).contains("s3cret"), "{}", stderr(&said));
    }
}
