//! The same job on three hosts, on a network of their own that can be cut. The checks are always the same: no two
//! commands ran at once, and tokens grew.

use crate::cluster::Cluster;
use crate::engine_common::journal::{Journal, Run, boottime, figure, ns_between};
use crate::engine_common::postgres::Postgres;
use crate::engine_common::wait_until;
use crate::island::{Cut, DB, Host, Island, NETWORK};

const TTL: &[&str] = &["--ttl", "5"];
const TTL_NS: u64 = 5_000_000_000;
/// A lease long enough to be kept even on a busy machine.
const KEPT: &[&str] = &["--ttl", "10"];
const KEPT_NS: u64 = 10_000_000_000;

/// On a host, starts `resourcelock NAME run` of a command that writes to the journal.
fn run(host: &Host, journal: &Journal, options: &[&str], seconds: u32, how: &[&str]) -> Run {
    let mut command = journal.command(&["run"]);
    command.args(options).arg("--").args(journal.beat(seconds, how));
    Run::start(&mut host.enter(&command))
}

/// A server, and a URL with the user `trusted`, who needs no password.
fn postgres() -> (Postgres, String) {
    let server = Postgres::listening(DB, NETWORK);
    let url = format!("postgres://trusted@{DB}:{}/jobs", server.port());
    (server, url)
}

/// The settings of each etcd server, in the form for the first host.
fn settings() -> String {
    [
        "ETCD_NAME=one",
        "ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379",
        "ETCD_LISTEN_PEER_URLS=http://0.0.0.0:2380",
        "ETCD_ADVERTISE_CLIENT_URLS=http://one:2379",
        "ETCD_INITIAL_ADVERTISE_PEER_URLS=http://one:2380",
        "ETCD_INITIAL_CLUSTER=one=http://one:2380,two=http://two:2380,three=http://three:2380",
    ]
    .join("\n")
}

/// Cuts off the holder's host. Its command, which does not exit by itself, must be ended before its time is over; the
/// next host's command starts later. Three times; `holder` chooses the host.
fn cut_while_holding(island: &Island, journal: &Journal, how: Cut, holder: impl Fn(usize) -> usize, healed: impl Fn()) {
    for round in 0..3 {
        let number = holder(round);
        let (here, there) = (&island.hosts[number], &island.hosts[(number + 1) % 3]);
        let mut holder = run(here, journal, TTL, 60, &["stubborn"]);
        journal.wait_for(2 * round + 1);
        let mut next = run(there, journal, TTL, 0, &[]);
        wait_until("the next one waits", || journal.waiting() == 1);
        here.cut(how);
        // Nobody can have requested a renewal later than this.
        let cut = boottime();
        assert_eq!(next.status(), 0);
        assert_eq!(holder.status(), 76);
        let intervals = journal.judge(2 * round + 2);
        let (gone, came) = (intervals[2 * round], intervals[2 * round + 1]);
        figure(
            &format!("{how:?} cut: the command's end before the latest end of its time"),
            ns_between(gone.last, cut + TTL_NS),
        );
        figure(
            &format!("{how:?} cut: until the next host's command"),
            ns_between(cut, came.first),
        );
        figure(
            &format!("{how:?} cut: between the two"),
            ns_between(gone.last, came.first),
        );
        here.connect();
        healed();
    }
}

#[test]
fn etcd_address_removed_while_holding() {
    crate::island::inside("engine_hosts::etcd_address_removed_while_holding", |island| {
        let cluster = Cluster::start(island, &settings());
        let journal = Journal::new(&cluster.url(), "address");
        cut_while_holding(island, &journal, Cut::Address, |round| round, || cluster.wait_ready());
    });
}

#[test]
fn etcd_link_down_while_holding() {
    crate::island::inside("engine_hosts::etcd_link_down_while_holding", |island| {
        let cluster = Cluster::start(island, &settings());
        let journal = Journal::new(&cluster.url(), "link");
        let follower = |_| (cluster.leader() + 1) % 3;
        cut_while_holding(island, &journal, Cut::Link, follower, || cluster.wait_ready());
    });
}

#[test]
fn postgres_address_removed_while_holding() {
    crate::island::inside("engine_hosts::postgres_address_removed_while_holding", |island| {
        let (_server, url) = postgres();
        let journal = Journal::new(&url, "address");
        cut_while_holding(island, &journal, Cut::Address, |round| round, || {});
    });
}

#[test]
fn postgres_link_down_while_holding() {
    crate::island::inside("engine_hosts::postgres_link_down_while_holding", |island| {
        let (_server, url) = postgres();
        cut_while_holding(island, &Journal::new(&url, "link"), Cut::Link, |round| round, || {});
    });
}

/// The leader's host is cut off while another host holds the lock: that one keeps it, and the third gets it next.
#[test]
fn etcd_leader_cut_off_while_another_host_holds() {
    crate::island::inside("engine_hosts::etcd_leader_cut_off_while_another_host_holds", |island| {
        let cluster = Cluster::start(island, &settings());
        let journal = Journal::new(&cluster.url(), "leader");
        for round in 0..3 {
            let leader = cluster.leader();
            let (here, there) = (&island.hosts[(leader + 1) % 3], &island.hosts[(leader + 2) % 3]);
            let mut holder = run(here, &journal, KEPT, 60, &[]);
            let token = journal.wait_for(2 * round + 1).token;
            let mut next = run(there, &journal, TTL, 0, &[]);
            wait_until("the next one waits", || journal.waiting() == 1);
            island.hosts[leader].cut(Cut::Link);
            journal.runs_on(KEPT_NS);
            journal.let_end(token);
            assert_eq!(holder.status(), 0, "the lock was kept");
            assert_eq!(next.status(), 0);
            let intervals = journal.judge(2 * round + 2);
            let (first, second) = (intervals[2 * round], intervals[2 * round + 1]);
            figure(
                "leader cut off: hand-over after the holder's end",
                ns_between(first.last, second.first),
            );
            island.hosts[leader].connect();
            cluster.wait_ready();
        }
    });
}

/// The leader's host is cut off while it holds the lock itself. Such a leader renews leases as usual until it notices
/// that it is alone: those renewals do not count.
#[test]
fn etcd_leader_cut_off_while_it_holds() {
    crate::island::inside("engine_hosts::etcd_leader_cut_off_while_it_holds", |island| {
        let cluster = Cluster::start(island, &settings());
        let journal = Journal::new(&cluster.url(), "leads");
        let leader = |_| cluster.leader();
        cut_while_holding(island, &journal, Cut::Link, leader, || cluster.wait_ready());
    });
}
