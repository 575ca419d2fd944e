//! PostgreSQL over TLS: which server the client trusts, and which client the server trusts.

use crate::common::run::output;
use crate::engine_common::journal::binary;
use crate::engine_common::lock_name;
use crate::engine_common::postgres::{Postgres, stderr};
use crate::tested::has;

/// The server has no certificate: a build with TLS is told so by it, and one without refuses what asks for it.
#[test]
fn tls_that_is_not_there() {
    let server = Postgres::shared();
    let name = lock_name("no-tls");
    let run = |options: &str, variable: &str| {
        let url = format!("{}?{options}", server.url());
        let mut command = binary(&url);
        command.args([&name, "run", "-n", "true"]).env("PGSSLMODE", variable);
        output(&mut command)
    };
    let authority = "sslrootcert=/etc/ssl/certs/ca-certificates.crt";
    for (options, variable) in [
        ("sslmode=require", ""),
        ("sslmode=verify-full&sslrootcert=system", ""),
        (authority, ""),
        ("", "require"),
    ] {
        let tried = run(options, variable);
        let (status, why) = match (has("tls"), options) {
            (false, _) => (125, "build with --features postgres,tls"),
            // It encrypts if the server offers that.
            (true, _) if options == authority => (0, ""),
            (true, _) => (125, "it does not offer encryption, and sslmode asks for it"),
        };
        assert_eq!(
            tried.status.code(),
            Some(status),
            "{options} {variable}: {}",
            stderr(&tried)
        );
        assert!(stderr(&tried).contains(why), "{}", stderr(&tried));
    }
    for options in ["sslmode=disable", "sslmode=allow", "sslmode=prefer", ""] {
        let had = run(options, "");
        assert!(had.status.success(), "{options}: {}", stderr(&had));
    }
}

#[cfg(feature = "tls")]
mod with_tls {
    use super::*;
    use crate::engine_common::journal::{Journal, Run};
    use crate::engine_common::wait_until;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use tempfile::TempDir;

    /// Certificates of an authority that another test does not know.
    struct Authority(TempDir);

    impl Authority {
        fn new(name: &str) -> Self {
            let authority = Self(
                tempfile::Builder::new()
                    .prefix("resourcelock-ca-")
                    .tempdir()
                    .expect("a folder"),
            );
            authority.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name}
                -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.crt"
            ));
            authority
        }

        fn openssl(&self, words: &str) {
            let made = Command::new("openssl")
                .args(words.split_whitespace())
                .current_dir(self.0.path())
                .output();
            let made = made.expect("openssl runs; scripts/test.sh installs what these tests need");
            assert!(
                made.status.success(),
                "{words}: {}",
                String::from_utf8_lossy(&made.stderr)
            );
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn read(&self, name: &str) -> Vec<u8> {
            std::fs::read(self.path(name)).expect("it was made")
        }

        /// `NAME.crt` and `NAME.key`.
        fn issue(&self, name: &str, alternatives: &str, digest: &str) {
            let alternatives = format!("subjectAltName={alternatives}\nbasicConstraints=CA:FALSE\n");
            std::fs::write(self.path("extensions"), alternatives).expect("a file");
            self.openssl(&format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name}
                -keyout {name}.key -out {name}.csr"
            ));
            self.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2
                -extfile extensions -{digest} -out {name}.crt"
            ));
        }
    }

    fn show(path: &Path) -> String {
        path.display().to_string()
    }

    /// A server with a certificate for 127.0.0.1 and db.example, and its authority.
    fn server(digest: &str, hba: &str) -> (Postgres, Authority) {
        let authority = Authority::new("authority");
        authority.issue("server", "IP:127.0.0.1,DNS:db.example", digest);
        let mut server = Postgres::start();
        for name in ["server.crt", "server.key", "ca.crt"] {
            server.put(name, &authority.read(name));
        }
        server.sql("CREATE ROLE ann LOGIN PASSWORD 's3cret'");
        server.sql("ALTER ROLE ann SUPERUSER");
        server.put("pg_hba.conf", format!("local all all trust\n{hba}").as_bytes());
        server.set(&["ssl=on", "ssl_ca_file=ca.crt"]);
        (server, authority)
    }

    fn run(url: &str) -> Command {
        let mut command = binary(url);
        command
            .args([&lock_name("tls"), "run", "-n", "true"])
            .env("HOME", "/nonexistent");
        command
    }

    fn good(command: &mut Command) {
        let had = output(command);
        assert!(had.status.success(), "{command:?}: {}", stderr(&had));
    }

    fn bad(command: &mut Command, why: &str) {
        let refused = output(command);
        assert_eq!(refused.status.code(), Some(125), "{command:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(why), "{why}: {}", stderr(&refused));
        assert_eq!(stderr(&refused).lines().count(), 1, "{}", stderr(&refused));
    }

    #[test]
    fn a_file_that_is_not_there() {
        for option in ["sslrootcert", "sslcert"] {
            let url = format!("postgres://h/d?sslmode=require&{option}=/nonexistent");
            let url = url.replace("require&sslrootcert", "verify-ca&sslrootcert");
            let why = format!("{option} /nonexistent: ");
            bad(&mut run(&url), &why);
        }
    }

    #[test]
    fn who_is_believed_to_be_the_server() {
        let (server, authority) = server(
            "sha256",
            "hostssl all trusted 127.0.0.1/32 trust\nhostssl all ann all scram-sha-256\n",
        );
        let stranger = Authority::new("stranger");
        let port = server.port();
        let root = show(&authority.path("ca.crt"));
        let at = |host: &str, options: &str| run(&format!("postgres://trusted@{host}:{port}/jobs?{options}"));
        // Whatever name is given, the server is reached by its address.
        let named = |name: &str, options: &str| at(name, &format!("hostaddr=127.0.0.1&{options}"));
        good(&mut at("127.0.0.1", &format!("sslmode=verify-full&sslrootcert={root}")));
        good(&mut named(
            "db.example",
            &format!("sslmode=verify-full&sslrootcert={root}"),
        ));
        good(
            at("127.0.0.1", "")
                .env("PGSSLMODE", "verify-full")
                .env("PGSSLROOTCERT", &root),
        );
        bad(
            &mut named("other.example", &format!("sslmode=verify-full&sslrootcert={root}")),
            "not valid for name",
        );
        good(&mut named(
            "other.example",
            &format!("sslmode=verify-ca&sslrootcert={root}"),
        ));
        let wrong = show(&stranger.path("ca.crt"));
        for mode in ["require", "verify-ca", "verify-full"] {
            bad(
                &mut at("127.0.0.1", &format!("sslmode={mode}&sslrootcert={wrong}")),
                "UnknownIssuer",
            );
        }
        bad(&mut at("127.0.0.1", "sslrootcert=system"), "UnknownIssuer");
        bad(&mut at("127.0.0.1", "sslmode=verify-ca"), "no authority is named");
        bad(
            &mut at("127.0.0.1", "sslmode=verify-ca&sslrootcert=/nonexistent"),
            "/nonexistent",
        );
        bad(&mut at("127.0.0.1", "sslmode=full"), "sslmode=full");
        bad(
            &mut run(&format!(
                "postgres://trusted@/jobs?hostaddr=127.0.0.1&port={port}&sslmode=verify-full&sslrootcert={root}"
            )),
            "needs the server's name",
        );
        // Only encrypted connections are let in here.
        for options in ["", "sslmode=allow", "sslmode=prefer", "sslmode=require"] {
            good(&mut at("127.0.0.1", options));
        }
        bad(&mut at("127.0.0.1", "sslmode=disable"), "no encryption");
        good(&mut at("127.0.0.1", "sslmode=require&ssl_max_protocol_version=TLSv1.2"));
        good(&mut at("127.0.0.1", "sslmode=require&ssl_min_protocol_version=TLSv1.3"));
        // As in libpq, a connection by socket is never encrypted.
        good(&mut run(&format!(
            "postgres:///jobs?host={}&port={port}&user=trusted&sslmode=require",
            server.folder().display()
        )));
        // The files in the home directory are found.
        let home = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(home.path().join(".postgresql")).expect("a folder");
        std::fs::copy(&root, home.path().join(".postgresql/root.crt")).expect("a copy");
        good(at("127.0.0.1", "sslmode=verify-full").env("HOME", home.path()));
        std::fs::copy(&wrong, home.path().join(".postgresql/root.crt")).expect("a copy");
        bad(
            at("127.0.0.1", "sslmode=require").env("HOME", home.path()),
            "UnknownIssuer",
        );
    }

    #[test]
    fn a_wait_over_tls_is_cancelled_and_a_hold_ends_with_its_session() {
        let (server, authority) = server("sha384", "hostssl all trusted 127.0.0.1/32 trust\n");
        let url = format!(
            "{}?sslmode=verify-full&sslrootcert={}",
            server.url(),
            authority.path("ca.crt").display()
        );
        let journal = Journal::new(&url, "tls");
        let mut holder = journal.run(&["--ttl", "5"], 60, &["stubborn"]);
        journal.wait_for(1);
        let encrypted =
            "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN resourcelock_session ON backend = pid WHERE token <> 0";
        assert_eq!(server.sql(encrypted), "t");
        let mut waiting = journal.run(&[], 0, &[]);
        wait_until("it waits", || journal.waiting() == 1);
        waiting.signal("TERM");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&waiting.wait()), Some(15));
        wait_until("it has left the queue", || journal.waiting() == 0);
        // The server was asked to cancel: it did not just find the connection closed.
        let log = std::fs::read_to_string(server.folder().join("log")).expect("the server's log");
        assert!(log.contains("canceling statement due to user request"), "{log}");
        let mut next = journal.run(&[], 0, &[]);
        wait_until("it waits", || journal.waiting() == 1);
        server.sql("SELECT pg_terminate_backend(backend) FROM resourcelock_session WHERE token <> 0");
        assert_eq!(next.status(), 0);
        assert_eq!(holder.status(), 76);
        // When the wrapper is killed while the command lives, the guard keeps the connection.
        let holder = journal.run(&["--ttl", "5"], 60, &["stubborn"]);
        journal.wait_for(3);
        let mut next: Run = journal.run(&[], 0, &[]);
        wait_until("it waits", || journal.waiting() == 1);
        holder.signal("KILL");
        assert_eq!(next.status(), 0);
        journal.judge(4);
    }

    #[test]
    fn whom_the_server_believes() {
        let (server, authority) = server(
            "sha512",
            "hostssl all trusted 127.0.0.1/32 trust clientcert=verify-ca\nhostssl all ann 127.0.0.1/32 scram-sha-256\n",
        );
        let stranger = Authority::new("stranger");
        authority.issue("trusted", "DNS:client", "sha256");
        stranger.issue("trusted", "DNS:client", "sha256");
        let own = |authority: &Authority| {
            format!(
                "{}?sslmode=require&sslcert={}&sslkey={}",
                server.url(),
                authority.path("trusted.crt").display(),
                authority.path("trusted.key").display()
            )
        };
        good(&mut run(&own(&authority)));
        good(
            run(&format!("{}?sslmode=require", server.url()))
                .env("PGSSLCERT", authority.path("trusted.crt"))
                .env("PGSSLKEY", authority.path("trusted.key")),
        );
        bad(
            &mut run(&format!("{}?sslmode=require", server.url())),
            "valid client certificate",
        );
        bad(
            &mut run(&format!("{}&sslcertmode=disable", own(&authority))),
            "valid client certificate",
        );
        bad(&mut run(&own(&stranger)), "UnknownCA");
        let open = Command::new("chmod")
            .arg("644")
            .arg(authority.path("trusted.key"))
            .status();
        assert!(open.expect("chmod runs").success());
        bad(&mut run(&own(&authority)), "others can read this private key");
        authority.openssl("pkcs8 -topk8 -in server.key -passout pass:x -out locked.key");
        let locked = own(&authority).replace("trusted.key", "locked.key");
        bad(&mut run(&locked), "without a password");
        // The password exchange is bound to the certificate.
        let ann = server.url_as("ann:s3cret", "jobs");
        good(&mut run(&format!("{ann}?sslmode=require&channel_binding=require")));
        good(&mut run(&format!("{ann}?sslmode=require&channel_binding=disable")));
        bad(
            &mut run(&format!("{ann}?sslmode=disable&channel_binding=require")),
            "no encryption",
        );
    }

    #[test]
    fn a_server_without_tls() {
        let server = Postgres::shared();
        for mode in ["disable", "allow", "prefer"] {
            good(&mut run(&format!("{}?sslmode={mode}", server.url())));
        }
        bad(
            &mut run(&format!("{}?sslmode=require", server.url())),
            "does not offer encryption",
        );
        server.sql("CREATE ROLE bea LOGIN PASSWORD 's3cret'");
        bad(
            &mut run(&format!(
                "{}?channel_binding=require",
                server.url_as("bea:s3cret", "jobs")
            )),
            "channel binding",
        );
    }
}
