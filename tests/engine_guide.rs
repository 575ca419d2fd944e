//! The guide for several hosts, carried out on three of them.
#![cfg(all(feature = "etcd", feature = "postgres"))]

#[path = "engine_hosts/cluster.rs"]
mod cluster;
mod common;
mod engine_common;
#[path = "engine_hosts/island.rs"]
mod island;

use cluster::Cluster;
use common::guide::{blocks, check, script, session};
use engine_common::postgres::{Postgres, stdout};
use engine_common::wait_until;
use island::{Island, NETWORK};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const GUIDE: &str = "hosts.md";

/// The `number`th block of that language.
fn block(language: &str, number: usize) -> String {
    let blocks = blocks(GUIDE, language);
    blocks.into_iter().nth(number).expect("the guide has it").1
}

/// A folder with the programs that the guide names. What jobs do stands in the file `log`.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().expect("a folder"));
        let bin = place.path("bin");
        std::fs::create_dir(&bin).expect("a folder");
        symlink(common::binary().get_program(), bin.join("resourcelock")).expect("a link");
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        symlink(examples, place.path("examples")).expect("a link");
        let log = place.path("log");
        let log = log.display();
        place.program("nightly", &format!("echo \"$(hostname)\" >> {log}"));
        // The minute is over when the test says so.
        let over = place.path("over");
        place.program(
            "sleep",
            &format!("until [ -e {} ]; do /bin/sleep 0.02; done", over.display()),
        );
        let rotate = format!(
            "echo \"begin $(hostname) $RESOURCELOCK_TOKEN\" >> {log}; /bin/sleep 0.05; echo \"end $(hostname)\" >> {log}"
        );
        place.program("rotate", &rotate);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    }

    /// A shell with these programs, in this folder, and nothing else in its environment but `RESOURCELOCK_BACKEND`, as
    /// cron starts it.
    fn shell(&self, backend: &str, script: &str) -> Command {
        let path = format!(
            "{}:{}",
            self.path("bin").display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let mut command = Command::new("env");
        command.args([
            "-i",
            &format!("PATH={path}"),
            "LC_ALL=C.UTF-8",
            "USER=root",
            "LOGNAME=root",
        ]);
        command.arg(format!("RESOURCELOCK_BACKEND={backend}"));
        let script = format!("cd {} && {{ {script}\n}}", self.path("").display());
        command.args(["bash", "-c", &script]).stdin(Stdio::null());
        command
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

/// The crontab's URL and its jobs' commands.
fn crontab(number: usize) -> (String, Vec<String>) {
    let text = block("crontab", number);
    let (first, jobs) = text.split_once('\n').expect("several lines");
    let url = first
        .strip_prefix("RESOURCELOCK_BACKEND=")
        .expect("the URL comes first");
    let command = |line: &str| line.split_whitespace().skip(5).collect::<Vec<_>>().join(" ");
    (url.to_owned(), jobs.lines().map(command).collect())
}

/// The night, on all hosts at once.
fn night(island: &Island, place: &Place, url: &str, jobs: &[String]) {
    let everywhere = |job: &str| -> Vec<Child> {
        let start = |host: &island::Host| {
            let mut command = host.enter(&place.shell(url, job));
            command.stderr(Stdio::piped()).spawn().expect("it starts")
        };
        island.hosts.iter().map(start).collect()
    };
    let succeeded = |child: Child| {
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
    };
    let [nightly, rotate] = jobs else {
        panic!("two jobs: {jobs:?}")
    };

    let mut asked = everywhere(nightly);
    wait_until("two have skipped it", || {
        asked
            .iter_mut()
            .filter_map(|child| child.try_wait().expect("a child"))
            .count()
            == 2
    });
    wait_until("the third one runs it", || !place.log().is_empty());
    std::fs::write(place.path("over"), "").expect("a file");
    asked.into_iter().for_each(succeeded);
    assert_eq!(place.log().lines().count(), 1, "{}", place.log());

    std::fs::remove_file(place.path("log")).expect("it is there");
    everywhere(rotate).into_iter().for_each(succeeded);
    let log = place.log();
    let lines: Vec<Vec<&str>> = log.lines().map(|line| line.split(' ').collect()).collect();
    let (mut hosts, mut token) = (Vec::new(), 0);
    for pair in lines.chunks(2) {
        let [begin, end] = pair else { panic!("{log}") };
        assert_eq!(
            (begin[0], end[0], begin[1]),
            ("begin", "end", end[1]),
            "one after the other: {log}"
        );
        let new: u64 = begin[2].parse().expect("a token");
        assert!(new > token, "{log}");
        token = new;
        hosts.push(begin[1]);
    }
    hosts.sort_unstable();
    assert_eq!(hosts, ["one", "three", "two"]);
}

/// The session under \"Who has it\".
fn looks(island: &Island, place: &Place, url: &str) {
    let steps = session(&block("console", 0));
    let output = island.hosts[0]
        .enter(&place.shell(url, &format!("exec 2>&1; {}", script(&steps))))
        .output()
        .expect("bash runs");
    check(&steps, &stdout(&output));
}

#[test]
fn etcd() {
    island::inside("etcd", |island| {
        let settings = block("ini", 0);
        let _cluster = Cluster::start(island, &settings);
        let place = Place::new();
        let output = island.hosts[0]
            .enter(&place.shell("", &format!("set -e; {}", block("sh", 0))))
            .output()
            .expect("bash runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (url, jobs) = crontab(0);
        night(island, &place, &url, &jobs);
        looks(island, &place, &url);
        // Other keys are not its business.
        let other = url.replace("/locks", "/other");
        let mut refused = island.hosts[0].enter(&place.shell(&other, "resourcelock rotate state"));
        let refused = refused.output().expect("bash runs");
        assert_eq!(
            refused.status.code(),
            Some(125),
            "{}",
            String::from_utf8_lossy(&refused.stderr)
        );
    });
}

#[test]
fn postgres() {
    island::inside("postgres", |island| {
        let server = Postgres::listening("*", NETWORK);
        for statement in block("sql", 0).lines() {
            server.sql(statement);
        }
        let place = Place::new();
        let (url, jobs) = crontab(1);
        let url = url.replace("@db/", &format!("@db:{}/", server.port()));
        night(island, &place, &url, &jobs);
        looks(island, &place, &url);

        for statement in block("sql", 1).lines() {
            server.sql_in("locks", statement);
        }
        let update = block("sql", 2);
        // How many rows it says it has changed.
        let counted = format!(
            "WITH changed AS ({} RETURNING 1) SELECT count(*) FROM changed",
            update.trim().trim_end_matches(';')
        );
        for (token, rows) in [(41, "1"), (42, "1"), (41, "0")] {
            let told = server.sql_in("locks", &counted.replace(":token", &token.to_string()));
            assert_eq!(told, rows, "token {token}");
        }
    });
}

/// A resource that refuses old tokens.
#[test]
fn accept() {
    let place = Place::new();
    std::fs::write(place.path("monday"), "monday\n").expect("a file");
    std::fs::write(place.path("tuesday"), "tuesday\n").expect("a file");
    let steps = session(&block("console", 1));
    let output = place
        .shell("etcd://nobody.invalid", &format!("exec 2>&1; {}", script(&steps)))
        .output()
        .expect("bash runs");
    check(&steps, &stdout(&output));
    let name = Command::new("sh")
        .args([
            "-c",
            "echo accept-$(realpath -m -- report.txt | cksum | cut -d ' ' -f 1)",
        ])
        .current_dir(place.path(""))
        .output();
    let name = stdout(&name.expect("sh runs"));
    let removed = common::binary().args([name.trim(), "remove"]).status();
    assert!(removed.is_ok_and(|status| status.success()), "{name}");
}
