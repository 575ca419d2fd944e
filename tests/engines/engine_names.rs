//! Servers given by name: how a statically linked program looks up their addresses.

use crate::common::install_script;
use crate::common::run::behind;
use crate::engine_common::etcd::{Etcd, Version};
use crate::engine_common::journal::binary;
use crate::engine_common::postgres::{Postgres, stderr};
use crate::engine_common::{lock_name, wait_until};
use crate::tested;
use std::path::Path;
use std::process::{Command, Output};

/// A directory with a `getent` that leaves its process id there and runs this script.
fn getent(script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("getent");
    let script = format!("#!/bin/sh\necho $$ >'{}.pid'\n{script}\n", file.display());
    install_script(&file, &script);
    folder
}

/// `run touch MARK` on the engine, with this PATH.
fn run_with(path: &Path, url: &str, mark: &Path) -> Command {
    let mut command = binary(url);
    command
        .env("PATH", path)
        .args([&lock_name("names"), "run", "/usr/bin/touch"]);
    command.arg(mark);
    command
}

fn run(url: &str, path: &Path, mark: &Path) -> Output {
    run_with(path, url, mark).output().expect("it runs")
}

/// The same with the `getent` of this folder in the place of the system's.
fn run_by(folder: &Path, url: &str, mark: &Path) -> Output {
    let script = "/usr/bin/mount --bind \"$0/getent\" /usr/bin/getent && exec \"$@\"";
    let folder = folder.to_str().expect("UTF-8");
    let launcher = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", script, folder];
    behind(&launcher, &run_with(Path::new("/usr/bin:/bin"), url, mark))
        .output()
        .expect("it runs")
}

fn urls(etcd: &Etcd, postgres: &Postgres, host: &str) -> [String; 2] {
    [etcd.url(), postgres.url()].map(|url| url.replace("127.0.0.1", host))
}

#[test]
fn the_program_is_linked_statically_with_every_choice_of_features() {
    let headers = Command::new("readelf")
        .arg("-lW")
        .arg(tested::program())
        .output()
        .expect("readelf runs");
    let headers = String::from_utf8_lossy(&headers.stdout);
    assert!(headers.contains("LOAD") && !headers.contains("INTERP"), "{headers}");
}

#[test]
fn hosts_are_known_by_their_names() {
    let (etcd, postgres) = (Etcd::shared(Version::System), Postgres::shared());
    let folder = tempfile::tempdir().expect("a folder");
    let others = getent("echo '127.99.0.1 STREAM localhost'");
    for (i, url) in urls(etcd, postgres, "localhost").iter().enumerate() {
        // Even if PATH does not lead to getent, or to somebody else's.
        for path in [Path::new("/usr/bin:/bin"), Path::new("/nonexistent"), others.path()] {
            let mark = folder.path().join(format!("{i}{}", path.as_os_str().len()));
            let output = run(url, path, &mark);
            assert!(output.status.success() && mark.exists(), "{url}: {}", stderr(&output));
        }
    }
}

#[test]
fn the_first_address_need_not_be_the_right_one() {
    let (etcd, postgres) = (Etcd::shared(Version::System), Postgres::shared());
    let script = "echo 'nonsense'; echo '127.99.0.1 STREAM one'; echo '127.0.0.1 STREAM'; echo '127.0.0.1 DGRAM'";
    let path = getent(script);
    for url in urls(etcd, postgres, "one") {
        let mark = path.path().join("mark");
        let output = run_by(path.path(), &url, &mark);
        assert!(output.status.success() && mark.exists(), "{url}: {}", stderr(&output));
        std::fs::remove_file(mark).expect("it is there");
    }
}

#[test]
fn a_host_that_nobody_knows() {
    let folder = tempfile::tempdir().expect("a folder");
    let mark = folder.path().join("mark");
    // A name that looks like an option is not one.
    for host in ["no-such-host.invalid", "--help"] {
        for url in [format!("etcd://{host}"), format!("postgres://user@{host}/database")] {
            let output = run(&url, Path::new("/usr/bin:/bin"), &mark);
            assert_eq!(output.status.code(), Some(69), "{url}: {}", stderr(&output));
            let why = format!("the address of {host} is not known: 'getent ahosts {host}' finds none\n");
            assert!(stderr(&output).ends_with(&why), "{}", stderr(&output));
            assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
            assert!(!mark.exists());
        }
    }
}

#[test]
fn one_host_of_several_is_known() {
    let etcd = Etcd::shared(Version::System);
    let folder = tempfile::tempdir().expect("a folder");
    let mark = folder.path().join("mark");
    let url = etcd.url().replace("127.0.0.1", "no-such-host.invalid:1,localhost");
    let output = run(&url, Path::new("/usr/bin:/bin"), &mark);
    assert!(output.status.success() && mark.exists(), "{}", stderr(&output));
}

#[test]
fn a_look_up_that_does_not_end_is_ended() {
    for url in ["etcd://one", "postgres://user@one/database"] {
        let path = getent("exec /usr/bin/sleep 1000");
        let mark = path.path().join("mark");
        let output = run_by(path.path(), url, &mark);
        assert_eq!(output.status.code(), Some(69), "{url}: {}", stderr(&output));
        assert!(stderr(&output).contains("no answer in time"), "{}", stderr(&output));
        assert!(!mark.exists());
        is_gone(&path);
    }
}

#[test]
fn a_look_up_that_says_too_much_is_ended() {
    let path = getent("exec /usr/bin/yes nonsense");
    let mark = path.path().join("mark");
    let output = run_by(path.path(), "etcd://one", &mark);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(!mark.exists());
    is_gone(&path);
}

fn is_gone(getent: &tempfile::TempDir) {
    let pid = std::fs::read_to_string(getent.path().join("getent.pid")).expect("it has been asked");
    let process = Path::new("/proc").join(pid.trim());
    wait_until("getent is gone", || !process.exists());
}
