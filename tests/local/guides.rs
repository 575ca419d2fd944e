//! Runs every command in the guides, and checks that it prints what the guide says: see `common::guide`.

use crate::common::guide::{blocks, check, crontab, named, script, steps};
use crate::common::{install, install_script, private_shm};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// Where a guide is tried out: a directory, programs that its examples name, users `alice` and `bob` in the group
/// `i2c`, and `carol` and `pi`.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: TempDir::new().unwrap(),
        };
        for folder in ["bin", "work"] {
            fs::create_dir(place.path(folder)).unwrap();
        }
        // What the examples run under their locks.
        for name in [
            "fetch-mail",
            "nightly",
            "backup",
            "check-disk",
            "reader",
            "make",
            "build-site",
            "rsync",
        ] {
            place.program(name, "exit 0");
        }
        let python = crate::common::peer::python();
        place.program("python3", &format!("exec '{}' \"$@\"", python.display()));
        place.program("sudo", "[ \"$1\" = -u ] || exit 1; user=$2; shift 2; exec setpriv --reuid $user --regid $user --init-groups \"$@\"");
        // By default, only root may enter the temporary directory.
        for folder in [place.folder.path().to_owned(), place.path("bin")] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let users = [("alice", 2001), ("bob", 2002), ("carol", 2003), ("pi", 2004)];
        let (mut passwd, mut group) = (read("/etc/passwd"), read("/etc/group"));
        for (name, number) in users {
            passwd.push_str(&format!("{name}:x:{number}:{number}::/:/bin/sh\n"));
            group.push_str(&format!("{name}:x:{number}:\n"));
        }
        group.push_str("i2c:x:3001:alice,bob\n");
        fs::write(place.path("passwd"), passwd).unwrap();
        fs::write(place.path("group"), group).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        install_script(&path, &format!("#!/bin/sh\n{script}\n"));
    }

    /// Runs a bash script here; returns what it printed, both streams together.
    fn run(&self, script: &str) -> String {
        // The binary is in a directory that other users may not enter: they get a copy.
        let binary = crate::common::binary().get_program().to_owned();
        let installed = self.path("bin/resourcelock");
        if !installed.exists() {
            install(&installed, binary.as_ref());
        }
        fs::write(self.path("script"), script).unwrap();
        let outer = r#"
            mount --bind "$PLACE/passwd" /etc/passwd && mount --bind "$PLACE/group" /etc/group || exit 98
            cd "$PLACE/work" && PATH=$PLACE/bin:$PATH exec bash "$PLACE/script" 2>&1
        "#;
        let output = private_shm(outer)
            .env("PLACE", self.folder.path())
            .env("HOME", self.path("work"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn try_out(guide: &str) {
    let steps = steps(guide);
    check(&steps, &Place::new().run(&script(&steps)));
}

#[test]
fn from_flock() {
    try_out("from-flock.md");
}

#[test]
fn from_sem() {
    try_out("from-sem.md");
}

#[test]
fn from_python() {
    try_out("from-python.md");
}

#[test]
fn systemd() {
    try_out("systemd.md");
}

#[test]
fn containers() {
    try_out("containers.md");
}

#[test]
fn users_and_groups() {
    try_out("users-and-groups.md");
}

#[test]
fn cron() {
    try_out("cron.md");
    let crontabs = blocks("cron.md", "crontab");
    let script: String = crontabs.iter().map(|(_, crontab)| as_cron(crontab)).collect();
    assert_eq!(script.lines().count(), 10, "{script}");
    Place::new().run(&script);
}

/// A crontab's jobs as a script: each is a command for /bin/sh.
fn as_cron(text: &str) -> String {
    let (_, jobs) = crontab(text);
    let job = |command: String| {
        let command = command.replace("cd /srv", "cd /");
        assert!(command.starts_with("resourcelock "), "{command}");
        let quoted = command.replace('\'', r"'\''");
        format!("env -i PATH=\"$PATH\" sh -c '{quoted}' || exit 97\n")
    };
    jobs.into_iter().map(job).collect()
}

fn recipe(language: &str, name: &str) -> String {
    named("recipes.md", language, name)
}

/// The sessions, with the recipes' scripts as they are. (Those for several hosts: `tests/engines/engine_guide.rs`.)
#[test]
fn recipes() {
    let steps = steps("recipes.md");
    let place = Place::new();
    for name in ["drain", "post-receive"] {
        install_script(&place.path("work").join(name), &recipe("sh", name));
    }
    place.program("systemctl", "[ \"$*\" = reboot ] && echo rebooting");
    place.program(
        "build-site",
        "echo begun >> builds; touch building; if [ -e quick ]; then touch built; else exec sleep 1000; fi",
    );
    check(&steps, &place.run(&script(&steps)));
}

/// The recipes' crontabs and the service, as cron and systemd start them.
#[test]
fn recipes_as_they_are_started() {
    let place = Place::new();
    let log = place.path("log");
    place.program("backup", &format!("echo ran >> {}", log.display()));
    let unit = recipe("systemd", "site-backup.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let start = start.replace("/usr/bin/", "").replace("/usr/local/bin/", "");
    let jobs = as_cron(&recipe("crontab", "jobs"));
    assert_eq!(jobs.lines().count(), 2);
    place.run(&jobs);
    assert_eq!(read(log.to_str().unwrap()), "ran\n");
    // The backup once, however often it is started, and not while another job has one of its locks.
    let others = as_cron(&recipe("crontab", "others"));
    let brief = start.replace("-t 1h", "-t 0.1");
    assert_ne!(brief, start);
    place.run(&format!(
        "resourcelock disk get -q; {brief}; resourcelock disk unget -q; grep -c . {0} | grep -x 1 || exit 97
        {start} || exit 97; {start} || exit 97; {others}",
        log.display()
    ));
    assert_eq!(read(log.to_str().unwrap()), "ran\nran\n");
}

#[test]
fn units_are_valid() {
    let place = Place::new();
    let folder = place.path("work");
    symlink(crate::common::binary().get_program(), place.path("bin/resourcelock")).unwrap();
    let bin = format!("{}/", place.path("bin").display());
    let mut names = Vec::new();
    for guide in ["systemd.md", "users-and-groups.md", "hosts.md", "recipes.md"] {
        for (name, unit) in blocks(guide, "systemd") {
            let unit = unit.replace("/usr/bin/resourcelock", &format!("{bin}resourcelock"));
            let unit = unit
                .replace("/usr/local/bin/", &bin)
                .replace(" -- true", " -- /bin/true");
            fs::write(folder.join(&name), unit).unwrap();
            names.push(name);
        }
    }
    assert_eq!(names.len(), 8, "{names:?}");
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(names.iter().map(|name| folder.join(name)))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
}

/// The README shows the crontab of the cluster that the guide sets up.
#[test]
fn the_readme_and_the_guide_have_one_engine() {
    let variables = |text: &str| -> Vec<String> {
        let block = text
            .split("\n```crontab\n")
            .find(|block| block.starts_with("RESOURCELOCK_BACKEND=etcd:"));
        let lines = block.expect("it has such a crontab").lines();
        lines
            .take_while(|line| !line.starts_with('0'))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(variables(&read("README.md")), variables(&read("docs/hosts.md")));
}
