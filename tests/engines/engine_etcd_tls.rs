//! etcd over TLS: server and client certificates, and what is not accepted.

use crate::engine_common::certificates::{Certificates, Issued};
use crate::engine_common::etcd::{Etcd, Secure, Version};
use crate::engine_common::journal::{Journal, binary};
use crate::engine_common::wait_until;
use std::process::Output;

fn server(version: Version, authority: &Certificates, issued: &Issued, clients_too: bool) -> Etcd {
    let secure = Secure {
        authority: authority.authority(),
        certificate: issued.certificate.clone(),
        key: issued.key.clone(),
        clients_too,
    };
    Etcd::with(version, 1, Some(secure), &[])
}

/// `run true` with these variables.
fn run(url: &str, variables: &[(&str, &std::path::Path)]) -> Output {
    let mut command = binary(url);
    command.args([&crate::engine_common::lock_name("tls"), "run", "true"]);
    command.envs(variables.iter().copied());
    command.output().expect("it runs")
}

fn said(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.lines().count() <= 1, "{said}");
    said
}

fn fails(url: &str, variables: &[(&str, &std::path::Path)], status: i32, why: &str) {
    let output = run(url, variables);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(said.contains(why), "{said}");
}

#[test]
fn a_server_with_a_certificate() {
    let (authority, other) = (Certificates::new(), Certificates::new());
    let issued = authority.issue("server", "IP:127.0.0.1");
    for version in Version::ALL {
        let etcd = server(version, &authority, &issued, false);
        let (known, unknown) = (authority.authority(), other.authority());
        let known = [("ETCDCTL_CACERT", known.as_path())];
        let good = run(&etcd.url(), &known);
        assert_eq!(good.status.code(), Some(0), "{}", said(&good));
        let advice = "name its authority in ETCDCTL_CACERT";
        fails(&etcd.url(), &[("ETCDCTL_CACERT", &unknown)], 125, advice);
        fails(&etcd.url(), &[], 125, advice);
        let missing = std::path::Path::new("/nonexistent");
        let why = "ETCDCTL_CACERT /nonexistent: No such file";
        fails(&etcd.url(), &[("ETCDCTL_CACERT", missing)], 125, why);
        fails(&etcd.url(), &[("ETCDCTL_CACERT", &issued.key)], 125, "no certificate");
        let port = etcd.endpoint(0).rsplit(':').next().expect("a port").to_owned();
        fails(&etcd.url_of(&format!("localhost:{port}")), &known, 125, "certificate");
        let plain = run(&format!("etcd://{}", etcd.endpoint(0)), &known);
        // The server hangs up (69), or says that it requires TLS (125).
        assert!(matches!(plain.status.code(), Some(69 | 125)), "{}", said(&plain));
        assert!(said(&plain).contains("etcds://"), "{}", said(&plain));
        a_queue(&etcd, &known);
    }
}

/// Tests a queue: waiting takes a second connection.
fn a_queue(etcd: &Etcd, variables: &[(&str, &std::path::Path)]) {
    let journal = Journal::with(&etcd.url(), "queue", variables);
    let mut first = journal.run(&[], 60, &[]);
    journal.wait_for(1);
    let mut next = journal.run(&[], 0, &[]);
    wait_until("the next one waits", || journal.waiting() == 1);
    first.signal("TERM");
    first.wait();
    assert_eq!(next.status(), 0);
    journal.judge(2);
}

#[test]
fn a_server_that_asks_for_certificates() {
    let authority = Certificates::new();
    let issued = authority.issue("server", "IP:127.0.0.1");
    let ours = authority.issue("client", "DNS:client");
    let stranger = Certificates::new().issue("stranger", "DNS:stranger");
    for version in Version::ALL {
        let etcd = server(version, &authority, &issued, true);
        let known = authority.authority();
        let of = |issued: &Issued| {
            [
                ("ETCDCTL_CACERT", known.clone()),
                ("ETCDCTL_CERT", issued.certificate.clone()),
                ("ETCDCTL_KEY", issued.key.clone()),
            ]
        };
        let good = of(&ours);
        let good: Vec<_> = good.iter().map(|(name, path)| (*name, path.as_path())).collect();
        let done = run(&etcd.url(), &good);
        assert_eq!(done.status.code(), Some(0), "{}", said(&done));
        a_queue(&etcd, &good);
        fails(&etcd.url(), &good[..1], 125, "ETCDCTL_CERT and ETCDCTL_KEY");
        fails(&etcd.url(), &good[..2], 125, "belong together");
        let missing = of(&stranger); // its directory has been removed
        let missing: Vec<_> = missing.iter().map(|(name, path)| (*name, path.as_path())).collect();
        fails(&etcd.url(), &missing, 125, "No such file");
    }
}

#[test]
fn a_server_without() {
    let etcd = Etcd::one();
    fails(&format!("etcds://{}", etcd.endpoint(0)), &[], 69, "write etcd://");
}
