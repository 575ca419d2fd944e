//! PostgreSQL: other roles may create things in the schema public, but nobody runs them.

use crate::engine_common::journal::{Journal, binary};
use crate::engine_common::postgres::{Postgres, stderr, stdout};
use crate::engine_common::{lock_name, wait_until};
use std::process::Output;

/// A database in which everybody may create things, as was usual before version 15. It has an owner, who locks, and
/// another role, `NAME_other`. If anything of the latter's is run, it records in the table `trap` as whom.
struct Shared<'a> {
    server: &'a Postgres,
    name: String,
}

impl<'a> Shared<'a> {
    fn new(server: &'a Postgres, name: &str) -> Self {
        server.sql(&format!("CREATE ROLE {name} LOGIN; CREATE ROLE {name}_other LOGIN"));
        server.sql(&format!("CREATE DATABASE {name} OWNER {name}"));
        let shared = Self {
            server,
            name: name.to_owned(),
        };
        server.sql_in(name, "GRANT CREATE ON SCHEMA public TO PUBLIC");
        shared.other(
            "CREATE TABLE public.trap (what text, who text DEFAULT current_user);
            GRANT INSERT ON public.trap TO PUBLIC;
            CREATE FUNCTION public.trigger() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO public.trap VALUES ('trigger'); RETURN new; END $$",
        );
        shared
    }

    /// Runs a script as the other role.
    fn other(&self, script: &str) {
        self.server.sql_in(
            &self.name,
            &format!("SET SESSION AUTHORIZATION {}_other; {script}", self.name),
        );
    }

    /// Runs a script as the owner.
    fn own(&self, script: &str) {
        self.server.sql_in(
            &self.name,
            &format!("SET SESSION AUTHORIZATION {}; {script}", self.name),
        );
    }

    fn url(&self) -> String {
        self.server.local_url_as(&self.name, &self.name)
    }

    fn ask(&self, words: &[&str]) -> Output {
        let output = binary(&self.url()).arg(lock_name("others")).args(words).output();
        output.expect("it runs")
    }

    fn trapped(&self) -> String {
        self.server.sql_in(
            &self.name,
            "SELECT string_agg(what || ' as ' || who, ', ') FROM public.trap",
        )
    }
}

/// Functions and operators that match better than the server's own, and a view in place of an old table.
#[test]
fn nothing_of_theirs_is_run() {
    let server = Postgres::shared();
    let shared = Shared::new(server, "everybodys");
    let function = |name: &str, kinds: &str, result: &str, value: &str| {
        format!(
            "CREATE FUNCTION public.{name}({kinds}) RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO public.trap VALUES ('{name}'); RETURN {value}; END $$;"
        )
    };
    let script = [
        function("to_jsonb", "pg_catalog.pg_locks", "jsonb", "'{}'::jsonb"),
        function("times", "numeric, integer", "numeric", "0"),
        "CREATE OPERATOR public.* (LEFTARG = numeric, RIGHTARG = integer, FUNCTION = public.times);".to_owned(),
        function("times_double", "double precision, integer", "double precision", "0"),
        "CREATE OPERATOR public.* (LEFTARG = double precision, RIGHTARG = integer, FUNCTION = public.times_double);"
            .to_owned(),
        function("is_name", "name, text", "boolean", "true"),
        "CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = text, FUNCTION = public.is_name);".to_owned(),
        function("joined", "text, text", "text", "''"),
        "CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = public.joined);".to_owned(),
        function("highest", "", "bigint", "9223372036854775000"),
        "CREATE VIEW public.resourcelock AS SELECT public.highest() AS token;
        GRANT SELECT ON public.resourcelock TO PUBLIC;"
            .to_owned(),
    ];
    shared.other(&script.concat());
    let journal = Journal::new(&shared.url(), "others");
    let call = |words: &[&str]| {
        let done = journal.command(words).output().expect("it runs");
        assert_eq!(done.status.code(), Some(0), "{words:?}: {}", stderr(&done));
    };
    call(&["run", "true"]);
    call(&["run", "-s", "true"]);
    let mut holder = journal.run(&[], 600, &[]);
    journal.wait_for(1);
    let mut waiter = journal.run(&["-s"], 0, &[]);
    wait_until("it waits", || journal.waiting() == 1);
    call(&["state"]);
    let listed = stdout(&binary(&shared.url()).arg("list").output().expect("it runs"));
    assert!(listed.contains(journal.name()), "{listed}");
    call(&["unget"]);
    assert_eq!(holder.status(), 76);
    assert_eq!(waiter.status(), 0);
    journal.judge(2);
    assert_eq!(shared.trapped(), "");
}

/// A role that creates the table or the sequence first could make all users run something, or lower the tokens.
#[test]
fn what_they_made_is_refused() {
    let server = Postgres::shared();
    let shared = Shared::new(server, "firsts");
    let columns = "(name text NOT NULL, backend integer NOT NULL, token bigint NOT NULL, who text NOT NULL,
        PRIMARY KEY (name, backend))";
    let table = format!("CREATE TABLE public.resourcelock_session {columns}");
    let trigger = "CREATE TRIGGER t BEFORE INSERT OR DELETE OR UPDATE ON public.resourcelock_session
        EXECUTE FUNCTION public.trigger()";
    for (made, undone) in [
        (
            format!("{table}; {trigger}; GRANT ALL ON public.resourcelock_session TO PUBLIC"),
            "DROP TABLE public.resourcelock_session",
        ),
        (
            "CREATE SEQUENCE public.resourcelock_token; GRANT ALL ON SEQUENCE public.resourcelock_token TO PUBLIC"
                .to_owned(),
            "DROP SEQUENCE public.resourcelock_token",
        ),
        (
            "CREATE VIEW public.resourcelock_session AS SELECT FROM public.trap".to_owned(),
            "DROP VIEW public.resourcelock_session",
        ),
        (
            "CREATE TYPE public.resourcelock_token AS ENUM ()".to_owned(),
            "DROP TYPE public.resourcelock_token",
        ),
    ] {
        shared.other(&made);
        let in_sight = !made.starts_with("CREATE TYPE");
        for words in [&["run", "true"][..], &["run", "-s", "true"], &["state"], &["unget"]] {
            let refused = shared.ask(words);
            let said = stderr(&refused);
            if in_sight {
                assert_eq!(refused.status.code(), Some(125), "{made}: {words:?}: {said}");
                assert!(
                    said.contains("firsts_other") && said.contains("REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
                    "{said}"
                );
                assert_eq!(said.trim_end().lines().count(), 1, "{said}");
            }
        }
        shared.other(undone);
    }
    assert_eq!(shared.trapped(), "");
    // The owner's own table is used; not so with a trigger, which a role with that right may have added.
    assert_eq!(shared.ask(&["run", "true"]).status.code(), Some(0));
    shared.own("GRANT TRIGGER ON public.resourcelock_session TO PUBLIC");
    shared.other(trigger);
    for words in [&["run", "true"][..], &["state"]] {
        let refused = shared.ask(words);
        assert_eq!(refused.status.code(), Some(125), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("triggers"), "{}", stderr(&refused));
    }
    shared.own("DROP TRIGGER t ON public.resourcelock_session");
    assert_eq!(shared.ask(&["run", "true"]).status.code(), Some(0));
    // Another's sequence takes the place of the owner's.
    shared.own("DROP SEQUENCE public.resourcelock_token");
    shared
        .other("CREATE SEQUENCE public.resourcelock_token; GRANT ALL ON SEQUENCE public.resourcelock_token TO PUBLIC");
    for words in [&["run", "true"][..], &["run", "-s", "true"], &["run", "-n", "true"]] {
        let refused = shared.ask(words);
        assert_eq!(refused.status.code(), Some(125), "{words:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains("firsts_other"), "{}", stderr(&refused));
    }
    shared.other("DROP SEQUENCE public.resourcelock_token");
    assert_eq!(shared.ask(&["run", "true"]).status.code(), Some(0));
    // What an administrator created is used.
    shared.own("DROP TABLE public.resourcelock_session; DROP SEQUENCE public.resourcelock_token");
    server.sql_in(
        "firsts",
        &format!(
            "{table}; CREATE SEQUENCE public.resourcelock_token;
            GRANT SELECT, INSERT, UPDATE, DELETE ON public.resourcelock_session TO firsts;
            GRANT USAGE, UPDATE ON SEQUENCE public.resourcelock_token TO firsts"
        ),
    );
    assert_eq!(shared.ask(&["run", "true"]).status.code(), Some(0));
    assert_eq!(shared.trapped(), "");
}

/// A table with other columns leads to a refusal, not to a silent exit or an endless wait.
#[test]
fn a_table_of_another_form() {
    let server = Postgres::shared();
    server.sql("CREATE DATABASE other_form");
    server.sql_in(
        "other_form",
        "CREATE TABLE public.resourcelock_session (name text NOT NULL, backend integer NOT NULL,
            token integer NOT NULL, who text NOT NULL, PRIMARY KEY (name, backend))",
    );
    let url = server.url_as("trusted", "other_form");
    for words in [&["run", "-n", "true"][..], &["run", "-t", "1", "true"]] {
        let refused = binary(&url)
            .arg(lock_name("form"))
            .args(words)
            .output()
            .expect("it runs");
        assert_eq!(refused.status.code(), Some(125), "{}", stderr(&refused));
        assert!(!stderr(&refused).contains("panicked"), "{}", stderr(&refused));
    }
}

/// What keeps when a run was done: nobody else's table, nor one that runs something.
#[test]
fn what_they_made_for_once_every_is_refused() {
    let server = Postgres::shared();
    let shared = Shared::new(server, "onces");
    let once = ["run", "--once-every", "1h", "true"];
    let refused = |why: &str| {
        let refused = shared.ask(&once);
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(125), "{said}");
        assert!(said.contains(why) && said.trim_end().lines().count() == 1, "{said}");
    };
    let table = "CREATE TABLE public.resourcelock_done
        (name text PRIMARY KEY, began timestamptz NOT NULL, who text NOT NULL)";
    let trigger = "CREATE TRIGGER t BEFORE INSERT OR UPDATE ON public.resourcelock_done
        EXECUTE FUNCTION public.trigger()";
    shared.other(&format!(
        "{table}; {trigger}; GRANT ALL ON public.resourcelock_done TO PUBLIC"
    ));
    refused("onces_other");
    // Nobody else is kept from working by it.
    assert_eq!(shared.ask(&["run", "true"]).status.code(), Some(0));
    shared.other("DROP TABLE public.resourcelock_done");
    shared.other("CREATE VIEW public.resourcelock_done AS SELECT FROM public.trap");
    refused("onces_other");
    shared.other("DROP VIEW public.resourcelock_done");
    assert_eq!(shared.ask(&once).status.code(), Some(0));
    shared.own("GRANT TRIGGER ON public.resourcelock_done TO PUBLIC");
    shared.other(trigger);
    refused("triggers");
    shared.own("DROP TRIGGER t ON public.resourcelock_done; DROP TABLE public.resourcelock_done");
    shared.own("CREATE TABLE public.resourcelock_done (name text PRIMARY KEY)");
    refused("column \"began\" does not exist");
    assert_eq!(shared.trapped(), "");
}
