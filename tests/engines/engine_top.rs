//! `top` over engines: what they tell of their locks, and what they do not.

use crate::common::{Tmux, printed};
use crate::engine_common::etcd::Etcd;
use crate::engine_common::journal::{Journal, binary};
use crate::engine_common::postgres::Postgres;
use crate::engine_common::wait_until;

/// `top` over the engine of this URL, in a terminal.
fn top(url: &str) -> Tmux {
    let tmux = Tmux::shell(120, 24);
    tmux.line(&format!("\"$RL\" --backend '{url}' top"));
    tmux
}

fn holders_and_waiters(url: &str, kind: &str) {
    let journal = Journal::new(url, "top");
    let holder = journal.run(&["-m", "a long job"], 1000, &[]);
    let began = journal.wait_for(1);
    let waiting = journal.run(&["-m", "the next one"], 1000, &[]);
    wait_until("it waits", || journal.waiting() == 1);
    let tmux = top(url);
    // Other tests may use the same server.
    tmux.until("something is listed", |screen| {
        screen.contains(" waiting\n") && !screen.contains("no locks")
    });
    tmux.keys(&format!("/{}", journal.name()));
    tmux.press("Enter");
    let screen = tmux.see_row(&[">", journal.name(), "1", "a", "long", "job"]);
    assert!(screen.contains(&format!(" {}@", holder.id())), "{screen}");
    // No engine keeps a history: what ends while the lock is shown.
    tmux.press("Enter");
    let screen = tmux.see(&format!("{kind} keeps no history: what has ended since"));
    assert!(
        screen.contains("\n  waiting    1. ") && screen.contains("nothing has ended yet"),
        "{screen}"
    );
    tmux.until("the server tells of it", |screen| screen.contains("  held by "));
    journal.let_end(began.token);
    tmux.see_row(&["released", "python3"]);
    tmux.see("the next one");
    tmux.press("Escape");
    tmux.see_row(&[">", journal.name(), "the", "next", "one"]);
    // Without a terminal: as a list, while a lock is listed for certain.
    let headings = |command: &str| {
        let listed = printed(binary(url).arg(command));
        let words = listed.lines().next().unwrap_or_default().split_whitespace();
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let once = headings("top");
    assert_eq!(once, headings("list"));
    assert_eq!(once, ["LOCK", "OWNER", "STATE", "FOR", "HOLDER", "WAITING", "NOTE"]);
    drop(waiting);
    tmux.keys("q");
    tmux.at_prompt();
}

#[test]
fn on_etcd() {
    let etcd = Etcd::one();
    holders_and_waiters(&etcd.url(), "etcd");
}

#[test]
fn on_postgres() {
    let server = Postgres::shared();
    holders_and_waiters(&server.url(), "postgres");
}

/// While an engine does not answer, that is said, and keys work.
#[test]
fn an_engine_that_goes_away() {
    let mut etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "away");
    let _holder = journal.run(&["-m", "a long job"], 1000, &[]);
    journal.wait_for(1);
    let tmux = top(&etcd.url());
    tmux.see_row(&[">", journal.name(), "a", "long", "job"]);
    etcd.kill(0);
    let screen = tmux.see("cannot be reached");
    assert!(screen.contains("a long job"), "what was known last: {screen}");
    tmux.keys("q");
    tmux.at_prompt();
}
