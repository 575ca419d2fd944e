//! Carries out the guide for several hosts, on three of them.

use crate::cluster::Cluster;
use crate::common::guide::{self, blocks, check, named, script, session};
use crate::common::install_script;
use crate::engine_common::certificates::Certificates;
use crate::engine_common::postgres::{Postgres, stderr, stdout};
use crate::engine_common::{Process, wait_until, without_disk};
use crate::island::{Host, Island, NAMES};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

const GUIDE: &str = "hosts.md";

/// The only block in that language that contains these words.
fn block(language: &str, words: &str) -> String {
    let blocks = blocks(GUIDE, language).into_iter().map(|(_, block)| block);
    let mut found: Vec<String> = blocks.filter(|block| block.contains(words)).collect();
    assert_eq!(found.len(), 1, "{language} blocks with {words:?}: {found:?}");
    found.remove(0)
}

/// A directory with the programs that the guide names. Jobs record what they do in the file `log`.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().expect("a folder"));
        let bin = place.path("bin");
        std::fs::create_dir(&bin).expect("a folder");
        symlink(crate::common::binary().get_program(), bin.join("resourcelock")).expect("a link");
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        symlink(examples, place.path("examples")).expect("a link");
        let log = place.path("log");
        let log = log.display();
        // It is over when the test creates this file.
        let over = place.path("over");
        let waits = format!("until [ -e {} ]; do sleep 0.02; done", over.display());
        place.program("nightly", &format!("echo \"$(hostname)\" >> {log}; {waits}"));
        let rotate = format!(
            "echo \"begin $(hostname) $RESOURCELOCK_TOKEN\" >> {log}; sleep 0.05; echo \"end $(hostname)\" >> {log}"
        );
        place.program("rotate", &rotate);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        install_script(&path, &format!("#!/bin/sh\n{script}\n"));
    }

    /// A shell with these programs, in this directory, and with only these variables in its environment, as cron starts
    /// it. If they do not include PATH, it has an administrator's.
    fn shell(&self, variables: &[(String, String)], script: &str) -> Command {
        let bin = self.path("bin").display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("env");
        command.args(["-i", &format!("PATH={bin}:{path}")]);
        command.args(["LC_ALL=C.UTF-8", "USER=root", "LOGNAME=root"]);
        for (name, value) in variables {
            command.arg(format!("{name}={}", value.replace("/usr/local/bin", &bin)));
        }
        let script = format!("cd {} && {{ {script}\n}}", self.path("").display());
        command.args(["bash", "-c", &script]).stdin(Stdio::null());
        command
    }

    /// Runs a script in such a shell on a host.
    fn on(&self, host: &Host, variables: &[(String, String)], script: &str) -> Output {
        let output = host.enter(&self.shell(variables, script)).output();
        output.expect("bash runs")
    }

    /// The same, again while the server, on a busy machine, has not answered in time. Then nothing was started.
    fn asks(&self, host: &Host, variables: &[(String, String)], script: &str) -> Output {
        let mut output = None;
        wait_until(&format!("the server answers in time: {script}"), || {
            let asked = output.insert(self.on(host, variables, script));
            asked.status.code() != Some(69) || !is_late(&stderr(asked))
        });
        output.expect("it was asked")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

type Variables = Vec<(String, String)>;

/// The variables of the crontab that contains these words, and its jobs' commands.
fn crontab(words: &str) -> (Variables, Vec<String>) {
    guide::crontab(&block("crontab", words))
}

/// The same variables with one part of the URL replaced.
fn elsewhere(variables: &[(String, String)], part: &str, other: &str) -> Variables {
    assert!(variables.iter().any(|(_, value)| value.contains(part)), "{variables:?}");
    let changed = |(name, value): &(String, String)| (name.clone(), value.replacen(part, other, 1));
    variables.iter().map(changed).collect()
}

/// Variables that name a server that does not exist.
fn nobody() -> Variables {
    vec![("RESOURCELOCK_BACKEND".to_owned(), "etcd://nobody.invalid".to_owned())]
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}{}", stdout(output), stderr(output));
}

/// True if a server was late, as it is on a busy machine: it had no time to answer, or the others had none for it. Whoever is
/// told so has to ask again.
fn is_late(said: &str) -> bool {
    let late = [
        "no answer in time",
        "timed out",
        "deadline exceeded",
        "no leader",
        "leader changed",
    ];
    late.iter().any(|late| said.contains(late))
}

/// A job with a longer TTL than the usual one: on a busy machine, it would be ended for want of a renewal.
fn patient(job: &str) -> String {
    assert!(job.contains(" run "), "{job}");
    job.replacen(" run ", " run --ttl 30 ", 1)
}

/// A script that runs a job again while the server has not answered in time.
fn persistent(job: &str) -> String {
    format!("while :; do {job}\ns=$?; [ $s -eq 69 ] || exit $s; done")
}

/// Starts a job on all hosts at once.
fn everywhere(island: &Island, place: &Place, variables: &[(String, String)], job: &str) -> Vec<Child> {
    let start = |host: &Host| {
        let mut command = host.enter(&place.shell(variables, &persistent(job)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("it starts")
    };
    island.hosts.iter().map(start).collect()
}

/// Runs the nightly jobs on all hosts at once.
fn night(island: &Island, place: &Place, variables: &[(String, String)], jobs: &[String]) {
    let quiet = |child: Child| {
        let output = child.wait_with_output().expect("it ends");
        let said = stderr(&output);
        let told = said.lines().filter(|line| !is_late(line)).count();
        assert_eq!((output.status.code(), told), (Some(0), 0), "{said}");
    };
    let [nightly, rotate] = jobs else {
        panic!("two jobs: {jobs:?}")
    };
    let (nightly, rotate) = (&patient(nightly), &patient(rotate));

    let mut asked = everywhere(island, place, variables, nightly);
    wait_until("two wait for the one that runs it", || {
        if asked
            .iter_mut()
            .any(|child| child.try_wait().expect("a child").is_some())
        {
            return true; // it says why
        }
        let state = place.on(&island.hosts[0], variables, "resourcelock nightly state --json");
        let state: serde_json::Value = serde_json::from_str(&stdout(&state)).unwrap_or_default();
        !place.log().is_empty() && state["waiters"].as_array().is_some_and(|waiters| waiters.len() == 2)
    });
    std::fs::write(place.path("over"), "").expect("a file");
    asked.into_iter().for_each(quiet);
    everywhere(island, place, variables, nightly)
        .into_iter()
        .for_each(quiet);
    assert_eq!(place.log().lines().count(), 1, "{}", place.log());

    std::fs::remove_file(place.path("log")).expect("it is there");
    everywhere(island, place, variables, rotate).into_iter().for_each(quiet);
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
    failing(island, place, variables, nightly);
    recipes(island, place, variables);
}

/// A job that fails is tried again by a host that comes later, until it succeeds. If it runs without the lock because the
/// engine is down, its status is still its own.
fn failing(island: &Island, place: &Place, variables: &[(String, String)], nightly: &str) {
    let log = place.path("log").display().to_string();
    let job = |status: u8| place.program("nightly", &format!("echo ran >> {log}; exit {status}"));
    std::fs::write(place.path("log"), "").expect("a file");
    // One that has not been done yet.
    let other = |line: &str| line.replace("resourcelock nightly", "resourcelock failing");
    let double = patient(&block("sh", "-eq 69"));
    for (at, (status, line, runs)) in [(7, nightly, 1), (7, &*double, 2), (0, nightly, 3), (0, nightly, 3)]
        .iter()
        .enumerate()
    {
        job(*status);
        let output = place.asks(&island.hosts[at % 3], variables, &other(line));
        assert_eq!(
            output.status.code(),
            Some((*status).into()),
            "{line}: {}",
            stderr(&output)
        );
        assert_eq!(place.log().lines().count(), *runs, "{line}");
    }
    job(7);
    let output = place.on(&island.hosts[0], &nobody(), nightly);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert_eq!(place.log().lines().count(), 3);
    once_in_any_case(island, place, variables);
    std::fs::write(place.path("log"), "ran\nran\nran\n").expect("a file");
    let output = place.on(&island.hosts[0], &nobody(), &double);
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    assert_eq!(place.log().lines().count(), 4, "without the lock");
}

/// The line for a job that is started once, even if it fails, where there is such a thing; here it does fail.
fn once_in_any_case(island: &Island, place: &Place, variables: &[(String, String)]) {
    const LINE: &str = "run -n -E 0 --hold-at-least 1m -- nightly";
    assert!(include_str!("../../docs/hosts.md").contains(&format!("`{LINE}`")));
    let refused = variables.iter().any(|(_, value)| value.starts_with("postgres:"));
    let (first, second) = if refused { (125, 125) } else { (7, 0) };
    // On a busy machine, a minute may be over before the second one asks.
    let line = patient(&format!("resourcelock once {}", LINE.replace(" 1m ", " 1h ")));
    std::fs::write(place.path("log"), "").expect("a file");
    for (host, status) in island.hosts.iter().zip([first, second]) {
        let output = place.asks(host, variables, &line);
        assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
    }
    assert_eq!(place.log().lines().count(), usize::from(!refused));
}

/// Carries out the recipes for several hosts: the job, which fails on the first one, and the alert for when nothing succeeds.
fn recipes(island: &Island, place: &Place, variables: &[(String, String)]) {
    let line = |name: &str| {
        let (names, mut jobs) = guide::crontab(&named("recipes.md", "crontab", name));
        let (same, _) = crontab("=etcd:");
        assert!(
            names.len() == 2 && names.iter().all(|name| same.contains(name)),
            "{names:?}"
        );
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        let job = jobs.remove(0);
        assert!(job.starts_with("resourcelock nightly "), "{job}");
        patient(&job.replace("resourcelock nightly", "resourcelock recipe"))
    };
    let (nightly, mut alert) = (line("once-a-night"), line("alert"));
    if variables.iter().any(|(_, value)| value.starts_with("postgres:")) {
        alert = alert.replace(" --max-skips 1", "");
    }
    let asks = || {
        let mut started = everywhere(island, place, variables, &alert).into_iter();
        let output = started.next().map(|child| child.wait_with_output().expect("it ends"));
        started.for_each(|child| drop(child.wait_with_output()));
        let output = output.expect("there are hosts");
        (output.status.code(), stdout(&output))
    };
    let fires = "nightly: nothing has succeeded for a day\n".to_owned();
    assert_eq!(asks(), (Some(1), fires));
    let (first, log) = (place.path("first"), place.path("log"));
    let _ = std::fs::remove_file(&log);
    let fails = format!(
        "mkdir {} 2>/dev/null && exit 7; echo ran >> {}",
        first.display(),
        log.display()
    );
    place.program("nightly", &fails);
    // Twelve starts, three at a time.
    let mut failed = 0;
    for child in (0..4).flat_map(|_| everywhere(island, place, variables, &nightly)) {
        let output = child.wait_with_output().expect("it ends");
        match output.status.code() {
            Some(0) => {}
            Some(7) => failed += 1,
            _ => panic!("{output:?}"),
        }
    }
    assert_eq!(failed, 1);
    assert_eq!(place.log(), "ran\n");
    assert_eq!(asks(), (Some(0), String::new()));
}

/// Runs the session under "Who holds the lock?", and the one that shows where a job's locks are.
fn looks(island: &Island, place: &Place, variables: &[(String, String)]) {
    for words in ["rotate state", "check state"] {
        let steps = session(&block("console", words));
        let mut said = String::new();
        wait_until("the server says who has it", || {
            let output = place.on(&island.hosts[0], variables, &format!("exec 2>&1; {}", script(&steps)));
            said = stdout(&output);
            !is_late(&said)
        });
        check(&steps, &said);
    }
    let check = session(&block("console", "check state")).remove(0).command;
    let shown = place.asks(&island.hosts[1], variables, &check);
    assert!(stdout(&shown).contains("@two ("), "{shown:?}");
    let misspelt = elsewhere(&[("RESOURCELOCK_BACKND".to_owned(), String::new())], "", "etcd://one");
    let output = place.on(&island.hosts[1], &misspelt, &check);
    succeeded(&output);
    assert!(!stdout(&output).contains('@'), "{}", stdout(&output));
}

/// Checks what engines.md says about `get`.
fn gets(island: &Island, place: &Place, variables: &[(String, String)]) {
    for (words, status) in [
        ("get -q -t 2m -a 0.1", 0),
        ("get --pid $$", 125),
        ("unget --pid $$", 125),
        ("get", 125),
    ] {
        let output = place.asks(&island.hosts[0], variables, &format!("resourcelock rotate {words}"));
        assert_eq!(output.status.code(), Some(status), "{words}: {}", stderr(&output));
    }
}

/// Debian's package starts each server as a cluster of its own; the guide undoes that.
fn installed(island: &Island, place: &Place, folder: &Path) -> Vec<Process> {
    let pid = place.path("$(hostname).pid");
    let pid = pid.display();
    place.program(
        "systemctl",
        &format!(
            "[ \"$*\" = 'stop etcd' ] || exit 1; kill $(cat {pid})\n\
             while kill -0 $(cat {pid}) 2>/dev/null; do /bin/sleep 0.02; done"
        ),
    );
    let etcd = without_disk(&Command::new("etcd"));
    let words = std::iter::once(etcd.get_program()).chain(etcd.get_args());
    let etcd: String = words.map(|word| format!("'{}' ", word.display())).collect();
    let start = |host: &Host| {
        let script = format!(
            "export ETCD_NAME=$(hostname) ETCD_DATA_DIR={}/$(hostname) ETCD_UNSUPPORTED_ARCH={}\n\
             echo $$ > {pid}; exec {etcd}",
            folder.display(),
            std::env::consts::ARCH
        );
        let log = tempfile::NamedTempFile::new().expect("a file");
        Process::start(&mut host.enter(&place.shell(&[], &script)), log.path())
    };
    let servers = island.hosts.iter().map(start).collect();
    let undo = block("sh", "rm -rf").replace("/var/lib/etcd/default", &format!("{}/$(hostname)", folder.display()));
    for host in &island.hosts {
        wait_until("it serves, alone", || members(host, place) == 1);
        succeeded(&place.on(host, &[], &format!("set -e; {undo}")));
    }
    servers
}

/// Runs lines of a setup that must succeed, each behind `export`, and again where the server was late.
fn set_up(host: &Host, place: &Place, export: &str, lines: &str) {
    for line in lines.lines() {
        let mut late = false;
        wait_until(&format!("it is done: {line}"), || {
            let output = place.on(host, &[], &format!("{export}\n{line}"));
            let said = stderr(&output);
            // What has been done all the same is refused the second time. (Once logins are required, so is all of this.)
            let done = ["already exist", "user name is empty"];
            if output.status.success() || late && done.iter().any(|done| said.contains(done)) {
                return true;
            }
            assert!(is_late(&said), "{line}: {said}");
            late = true;
            false
        });
    }
}

/// How many members the server on a host knows.
fn members(host: &Host, place: &Place) -> usize {
    let output = place.on(host, &[], &block("sh", "API=3 etcdctl member list"));
    stdout(&output).lines().count()
}

#[test]
fn etcd() {
    crate::island::inside("engine_guide::etcd", |island| {
        let (place, folder) = (Place::new(), Cluster::folder());
        let _alone = installed(island, &place, folder.path());
        let settings = block("ini", "URLS=http:");
        let _cluster = Cluster::start_in(folder, island, &settings, None);
        for host in &island.hosts {
            wait_until("it knows all three", || members(host, &place) == 3);
        }
        let setup = block("sh", "role add");
        let (export, setup) = setup.split_once('\n').expect("it begins with an export");
        set_up(&island.hosts[0], &place, export, setup);
        let (variables, jobs) = crontab("=etcd:");
        night(island, &place, &variables, &jobs);
        looks(island, &place, &variables);
        gets(island, &place, &variables);
        let named = elsewhere(&variables, "locks:lock-password@", "");
        let named = [named, vec![("ETCDCTL_USER".to_owned(), "locks".to_owned())]].concat();
        let password = ("ETCDCTL_PASSWORD".to_owned(), "lock-password".to_owned());
        let run = "resourcelock rotate run -- true";
        assert_eq!(place.asks(&island.hosts[0], &named, run).status.code(), Some(125));
        succeeded(&place.asks(&island.hosts[0], &[named, vec![password]].concat(), run));
        // It may not access other keys.
        let other = elsewhere(&variables, "/locks", "/other");
        let refused = place.asks(&island.hosts[0], &other, "resourcelock rotate state");
        assert_eq!(refused.status.code(), Some(125), "{}", stderr(&refused));
        let export = "export ETCDCTL_API=3 ETCDCTL_USER=root:root-password";
        let odd = "etcdctl user add 'odd:p@s/s?w%rd'\netcdctl user grant-role odd locks";
        set_up(&island.hosts[0], &place, export, odd);
        let odd = elsewhere(&variables, "locks:lock-password", "odd:p%40s%2Fs%3Fw%25rd");
        succeeded(&place.asks(&island.hosts[0], &odd, "resourcelock rotate run -- true"));
    });
}

#[test]
fn etcd_with_certificates() {
    crate::island::inside("engine_guide::etcd_with_certificates", |island| {
        let authority = Certificates::new();
        for name in NAMES {
            authority.issue(name, &format!("DNS:{name}"));
        }
        let here = |text: &str| text.replace("/etc/etcd", &authority.path().display().to_string());
        let settings = here(&block("ini", "ETCD_CERT_FILE"));
        let _cluster = Cluster::start_in(Cluster::folder(), island, &settings, Some(authority.authority()));
        let place = Place::new();
        let look = here(&block("sh", "ETCDCTL_CACERT"));
        let listed = || stdout(&place.on(&island.hosts[0], &[], &look)).lines().count();
        wait_until("it knows all three", || listed() == 3);
        let export = look.lines().next().expect("a line");
        let setup = block("sh", "role add");
        let setup = setup.split_once('\n').expect("it begins with its own export").1;
        set_up(&island.hosts[0], &place, export, setup);
        let (variables, _) = crontab("=etcds:");
        let variables = elsewhere(&variables, "/etc/etcd", &authority.path().display().to_string());
        succeeded(&place.asks(&island.hosts[2], &variables, "resourcelock rotate run -- true"));
        let unknown = place.asks(&island.hosts[2], &variables[..1], "resourcelock rotate run -- true");
        assert_eq!(unknown.status.code(), Some(125), "{}", stderr(&unknown));
        // Without a certificate, one gets nowhere on the servers' own port.
        let members = |more: &str| {
            let folder = authority.path().display();
            let script = format!(
                "cd {folder}; printf 'GET /members HTTP/1.0\\r\\n\\r\\n' |
                openssl s_client -quiet -CAfile ca.crt -connect one:2380 {more}"
            );
            stdout(&place.on(&island.hosts[1], &[], &script)).contains("https://three:2379")
        };
        assert!(members("-cert two.crt -key two.key"));
        assert!(!members(""));
    });
}

#[test]
fn postgres() {
    crate::island::inside("engine_guide::postgres", |island| {
        // As installed, it lets in nobody but the machine itself.
        let mut server = Postgres::listening("", "127.0.0.1/32");
        for statement in block("sql", "CREATE ROLE").lines() {
            server.sql(statement);
        }
        let place = Place::new();
        let (variables, jobs) = crontab("=postgres:");
        let variables = elsewhere(&variables, "@db/", &format!("@db:{}/", server.port()));
        let refused = place.on(&island.hosts[0], &variables, "resourcelock rotate run -- true");
        assert_eq!(refused.status.code(), Some(69), "{}", stderr(&refused));
        let lets_in = format!("local all all trust\n{}", block("", "host locks"));
        server.put("pg_hba.conf", lets_in.as_bytes());
        server.stop();
        server.restart();
        night(island, &place, &variables, &jobs);
        looks(island, &place, &variables);
        gets(island, &place, &variables);

        // By default, the database has the user's name.
        let short = elsewhere(&variables, "postgres://", "postgresql://");
        let short = elsewhere(
            &short,
            &format!(":{}/locks", server.port()),
            &format!(":{}", server.port()),
        );
        let state = "resourcelock list --json; resourcelock rotate run -- resourcelock rotate state -q --mine";
        succeeded(&place.asks(&island.hosts[0], &short, state));

        for statement in block("sql", "CREATE TABLE").lines() {
            server.sql_in("locks", statement);
        }
        let update = block("sql", "UPDATE report");
        // How many rows it changes.
        let counted = format!(
            "WITH changed AS ({} RETURNING 1) SELECT count(*) FROM changed",
            update.trim().trim_end_matches(';')
        );
        let told = |token: u64| server.sql_in("locks", &counted.replace(":token", &token.to_string()));
        for (token, rows) in [(41, "1"), (42, "1"), (41, "0")] {
            assert_eq!(told(token), rows, "token {token}");
        }
        server.sql_in("locks", "UPDATE report SET token = 0");
        assert_eq!(told(2), "1");

        restarted(island, &place, &variables, &mut server);

        server.sql("ALTER ROLE locks PASSWORD 'p@s/s?w%rd'");
        let odd = elsewhere(&variables, "lock-password", "p%40s%2Fs%3Fw%25rd");
        succeeded(&place.asks(&island.hosts[0], &odd, "resourcelock rotate run -- true"));
    });
}

/// A command that runs while the server is restarted is killed without TERM, whatever its `--ttl`.
fn restarted(island: &Island, place: &Place, variables: &[(String, String)], server: &mut Postgres) {
    let log = place.path("log").display().to_string();
    let job = format!(
        "resourcelock rotate run --ttl 600 -- bash -c '
            trap \"echo TERM >> {log}\" TERM; echo begun > {log}; while :; do /bin/sleep 0.02; done'"
    );
    let job = island.hosts[0]
        .enter(&place.shell(variables, &persistent(&job)))
        .stderr(Stdio::piped())
        .spawn();
    wait_until("it runs", || place.log() == "begun\n");
    server.stop();
    server.restart();
    let output = job.expect("it starts").wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(76), "{}", stderr(&output));
    assert_eq!(place.log(), "begun\n");
}

/// A resource that refuses old tokens, and the job that writes to it.
#[test]
fn accept() {
    let place = Place::new();
    std::fs::write(place.path("monday"), "monday\n").expect("a file");
    std::fs::write(place.path("tuesday"), "tuesday\n").expect("a file");
    let steps = session(&block("console", "accept.sh"));
    let output = place
        .shell(&nobody(), &format!("exec 2>&1; {}", script(&steps)))
        .output();
    check(&steps, &stdout(&output.expect("bash runs")));

    // The other host's directory.
    std::fs::create_dir(place.path("files")).expect("a folder");
    let files = place.path("files").display().to_string();
    place.program(
        "ssh",
        &format!("[ \"$1\" = files ] && shift && cd {files} && exec sh -c \"$*\""),
    );
    symlink(place.path("examples/accept.sh"), place.path("bin/accept.sh")).expect("a link");
    let job = block("sh", "make-report");
    let write = |token: &str, makes: &str| {
        place.program("make-report", makes);
        let mut variables = nobody();
        variables.push(("RESOURCELOCK_TOKEN".to_owned(), token.to_owned()));
        let output = place.shell(&variables, &job).output().expect("bash runs");
        let report = std::fs::read_to_string(place.path("files/report.txt")).expect("it is there");
        (output.status.code(), report)
    };
    assert_eq!(write("43", "echo wednesday"), (Some(0), "wednesday\n".to_owned()));
    assert_eq!(write("44", "echo half; exit 7"), (Some(7), "wednesday\n".to_owned()));
    assert_eq!(write("42", "echo tuesday"), (Some(1), "wednesday\n".to_owned()));
    place.program("ssh", &format!("shift && cd {files} && head -c 3 | exec sh -c \"$*\""));
    assert_eq!(write("44", "echo thursday"), (Some(2), "wednesday\n".to_owned()));

    for folder in [place.path(""), place.path("files")] {
        let name = Command::new("sh")
            .args([
                "-c",
                "echo accept-$(realpath -m -- report.txt | cksum | cut -d ' ' -f 1)",
            ])
            .current_dir(folder)
            .output();
        let name = stdout(&name.expect("sh runs"));
        let removed = crate::common::binary().args([name.trim(), "remove"]).status();
        assert!(removed.is_ok_and(|status| status.success()), "{name}");
    }
}
