//! T1: only locks of owners whom the caller trusts are used: his own, root's, and those that he names each time. All else
//! is refused in one line, with a command that works; nothing is skipped silently.

use crate::common::is_chosen;
use crate::common::machine::{ALICE, BOB, I2C, MALLORY, Machine, PI, ROOT, User, finished, give};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How a command ends and what it says.
fn answer(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = finished(command);
    (status.code(), text(&stdout), text(&stderr))
}

/// Makes a lock of this user, which every member of the group could open if only the kernel were asked.
fn make(machine: &Machine, owner: User, name: &str) {
    make_with(machine, owner, name, &["--mode", "660", "--group", "i2c"]);
}

/// The same, which everybody could open.
fn make_for_everybody(machine: &Machine, owner: User, name: &str) {
    make_with(machine, owner, name, &["--mode", "666"]);
}

fn make_with(machine: &Machine, owner: User, name: &str, access: &[&str]) {
    let mut command = machine.member(owner);
    command.args([name, "run", "-q"]).args(access).args(["--", "true"]);
    assert_eq!(answer(&mut command), (Some(0), String::new(), String::new()));
}

/// What a caller says, in which way.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    Nothing,
    /// `--owner`, by name.
    Owner(User),
    /// By number.
    Number(User),
    /// By the variable, after another one.
    Variable(User),
    /// After another one.
    Second(User),
    Group,
    World,
}

impl Says {
    fn names_another_than(self, owner: User) -> bool {
        match self {
            Self::Owner(user) | Self::Number(user) | Self::Variable(user) | Self::Second(user) => user != owner,
            Self::Nothing | Self::Group | Self::World => false,
        }
    }

    fn to(self, command: &mut Command) {
        match self {
            Self::Nothing => {}
            Self::Owner(user) => drop(command.args(["--owner", user.name()])),
            Self::Number(user) => drop(command.arg(format!("--owner={}", user.0))),
            Self::Second(user) => drop(command.args(["--owner", "nobody", "--owner", user.name()])),
            Self::Variable(user) => drop(command.env("RESOURCELOCK_OWNER", format!("nobody, {}", user.name()))),
            Self::Group => drop(command.args(["--mode", "660", "--group", "i2c"])),
            Self::World => drop(command.args(["--mode", "666"])),
        }
    }
}

/// Every owner, every caller, every way to name one (in the suite, an owner who is not the lock's is named in one of the
/// ways); with all commands that rely on what a lock says. What everybody may
/// write is used by those who say so, and by nobody else.
#[test]
fn locks_of_trusted_owners_and_no_others() {
    Machine::run(|machine| {
        let owners = [ROOT, ALICE, BOB, PI, MALLORY];
        for owner in owners {
            make(machine, owner, owner.name());
            make_for_everybody(machine, owner, &for_everybody(owner));
        }
        let mut says = vec![Says::Nothing, Says::Group, Says::World];
        for owner in owners {
            says.extend([
                Says::Owner(owner),
                Says::Number(owner),
                Says::Second(owner),
                Says::Variable(owner),
            ]);
        }
        for (caller, owner) in [ROOT, ALICE]
            .into_iter()
            .flat_map(|caller| owners.map(|owner| (caller, owner)))
        {
            for (at, said) in says.iter().enumerate() {
                let (way, whose) = ((at + 1) % 4, (at + 1) / 4);
                let place = way + whose + owner.0 as usize + caller.0 as usize;
                if said.names_another_than(owner) && !is_chosen(place, 4) {
                    continue;
                }
                let named = match said {
                    Says::Owner(user) | Says::Number(user) | Says::Second(user) => *user == owner,
                    // A variable that root's jobs inherit by accident opens nothing.
                    Says::Variable(user) => *user == owner && caller != ROOT,
                    Says::Group | Says::World => true,
                    Says::Nothing => false,
                };
                let trusted = owner == ROOT || owner == caller || named;
                check(machine, caller, owner, owner.name(), *said, trusted);
                let trusted = *said == Says::World;
                check(machine, caller, owner, &for_everybody(owner), *said, trusted);
            }
        }
    });
}

fn for_everybody(owner: User) -> String {
    format!("{}-for-everybody", owner.name())
}

fn check(machine: &Machine, caller: User, owner: User, lock: &str, said: Says, trusted: bool) {
    let commands: [&[&str]; 4] = [
        &["run", "-n", "-E", "0", "--", "echo", "ran"],
        &["run", "--replace", "-t", "1", "--", "echo", "ran"],
        &["state", "-q"],
        &["state", "--mine"],
    ];
    for words in commands {
        let mut command = machine.member(caller);
        said.to(&mut command);
        command.arg(lock).args(words);
        let (status, printed, complaint) = answer(&mut command);
        let what = format!("{caller:?} {lock} {said:?} {words:?}: {status:?} {printed}{complaint}");
        if trusted {
            let expected = if words[0] == "run" {
                (Some(0), "ran\n")
            } else {
                (Some(1), &*printed)
            };
            assert_eq!((status, &*printed), expected, "{what}");
            continue;
        }
        assert_eq!(status, Some(125), "{what}");
        assert!(words[0] == "state" || printed.is_empty(), "{what}");
        assert_eq!(complaint.lines().count(), 1, "{what}");
        assert!(complaint.contains(&format!("belongs to {}", owner.name())), "{what}");
        if lock != owner.name() {
            assert!(complaint.contains("; if the lock is for everybody: "), "{what}");
        }
        // Of several modes the last one counts.
        if lock != owner.name() && said == Says::Group {
            assert!(complaint.ends_with(": say --mode 666 instead\n"), "{what}");
            continue;
        }
        // The cure works as it stands there.
        let (_, cure) = complaint
            .trim_end()
            .rsplit_once(": ")
            .unwrap_or_else(|| panic!("no cure: {what}"));
        let mut pasted = machine.program(caller, "sh");
        if caller != ROOT {
            pasted.gid(I2C);
        }
        let path = format!("{}:/usr/bin:/bin", machine.folder().display());
        let (status, printed, complaint) = answer(pasted.args(["-c", cure]).env("PATH", path));
        let cured = if words[0] == "run" {
            status == Some(0) && printed == "ran\n"
        } else {
            status == Some(1)
        };
        assert!(cured, "{what}{cure}: {status:?} {printed}{complaint}");
    }
}

/// The locks of who has typed the command with sudo, or a shell for it, count as root's own; of who started a script,
/// they do not.
#[test]
fn who_typed_sudo() {
    Machine::run(|machine| {
        make(machine, PI, "pis");
        let own = machine.folder().join("resourcelock");
        let own = own.to_str().unwrap();
        for (command, trusted) in [
            (format!("{own} pis run -- true"), true),
            (own.to_owned(), true),
            ("/bin/bash".to_owned(), true),
            ("/bin/sh".to_owned(), true),
            ("/bin/bash /usr/local/bin/nightly".to_owned(), false),
            (format!("/bin/sh -c {own}"), false),
            ("/usr/local/bin/nightly".to_owned(), false),
            ("resourcelock".to_owned(), false),
            ("/tmp/resourcelock".to_owned(), false),
            (String::new(), false),
        ] {
            let run = |user: User, sudo_uid: &str| {
                let mut run = machine.member(user);
                run.env("SUDO_UID", sudo_uid).env("SUDO_COMMAND", &command);
                answer(run.args(["pis", "run", "-n", "-E", "0", "--", "echo", "ran"]))
            };
            let (status, printed, said) = run(ROOT, "2004");
            let expected = if trusted { (Some(0), "ran\n") } else { (Some(125), "") };
            assert_eq!((status, &*printed), expected, "{command}: {said}");
            // Another's number, no number, or another caller than root: nothing is opened.
            for (user, number) in [(ROOT, "2005"), (ROOT, "pi"), (ROOT, ""), (ROOT, "-1"), (ALICE, "2004")] {
                assert_eq!(run(user, number).0, Some(125), "{command} {user:?} {number}");
            }
        }
        // Its new lock is root's all the same.
        let mut new = machine.command(ROOT);
        new.env("SUDO_UID", "2004")
            .env("SUDO_COMMAND", "/bin/sh")
            .args(["new", "run", "--", "true"]);
        assert_eq!(answer(&mut new).0, Some(0));
        assert_eq!(fs::metadata("/dev/shm/sem.new").unwrap().uid(), 0);
    });
}

/// What root creates with `--owner` is the first one's, whoever comes first; what a user creates is his own.
#[test]
fn whose_a_new_lock_is() {
    Machine::run(|machine| {
        for (number, (caller, options, owner)) in [
            (ROOT, &["--owner", "pi"][..], PI),
            (ROOT, &["--owner", "2004"], PI),
            (ROOT, &["--owner", "pi", "--owner", "alice"], PI),
            (ROOT, &["--owner", "root", "--owner", "pi"], ROOT),
            (ROOT, &[], ROOT),
            (ALICE, &["--owner", "pi"], ALICE),
            (ALICE, &[], ALICE),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("new-{number}");
            let mut run = machine.command(caller);
            run.args(options).args([&name, "run", "--", "true"]);
            assert_eq!(answer(&mut run), (Some(0), String::new(), String::new()), "{options:?}");
            for part in ["sem.", "", "resourcelock3."] {
                let file = fs::metadata(Path::new("/dev/shm").join(format!("{part}{name}"))).unwrap();
                assert_eq!(
                    (file.uid(), file.gid(), file.mode() & 0o777),
                    (owner.0, owner.0, 0o600),
                    "{options:?}"
                );
            }
            // He uses it without any option, and so does whoever made it.
            let mut by_owner = machine.command(owner);
            assert_eq!(
                answer(by_owner.args([&name, "run", "-n", "--", "true"])).0,
                Some(0),
                "{options:?}"
            );
        }
        for unknown in ["nobody-here", "", "99999999999", "-1"] {
            let mut run = machine.command(ROOT);
            let (status, printed, said) = answer(run.args(["--owner", unknown, "never", "run", "--", "echo", "ran"]));
            assert_eq!(
                (status, &*printed, said.lines().count()),
                (Some(125), "", 1),
                "{unknown}: {said}"
            );
            assert!(!Path::new("/dev/shm/sem.never").exists());
        }
    });
}

/// Root's job and a user's Python program share a lock, whoever comes first, without any privilege of the program.
#[test]
fn a_users_python_program() {
    Machine::run(|machine| {
        // The module may lie where only root may read: the user is changed once it is there.
        let script = "import os, sys\nfrom cjnfuncs.resourcelock import resource_lock\nuser = int(sys.argv[2])\n\
                      os.setgroups([]); os.setgid(user); os.setuid(user)\nlock = resource_lock(sys.argv[1])\n\
                      print(lock.get_lock(timeout=0.1))\n\
                      if 'keep' not in sys.argv and lock.I_have_the_lock: lock.unget_lock()";
        let python = crate::common::peer::python();
        let by_pi = |words: &[&str]| {
            let mut program = machine.program(ROOT, python.to_str().unwrap());
            answer(program.args(["-c", script, words[0], "2004"]).args(&words[1..]))
        };
        let by_root = |name: &str, words: &[&str]| {
            let mut command = machine.command(ROOT);
            answer(command.args(["--owner", "pi", name]).args(words))
        };
        let run = ["run", "-n", "--", "echo", "ran"];
        assert_eq!(by_root("first", &run).1, "ran\n");
        assert_eq!(by_pi(&["second"]), (Some(0), "True\n".to_owned(), String::new()));
        for name in ["first", "second"] {
            assert_eq!(by_root(name, &["get", "-q"]).0, Some(0), "{name}");
            assert_eq!(by_pi(&[name]).1, "False\n", "{name}");
            assert_eq!(by_root(name, &["unget", "-q"]).0, Some(0), "{name}");
            assert_eq!(by_pi(&[name, "keep"]).1, "True\n", "{name}");
            assert_eq!(by_root(name, &run).0, Some(75), "{name}");
            assert_eq!(by_root(name, &["unget", "-q"]).0, Some(0), "{name}");
            assert_eq!(by_root(name, &run).1, "ran\n", "{name}");
        }
    });
}

/// A directory in which others could replace a lock's files.
#[test]
fn an_unsafe_directory() {
    Machine::run(|machine| {
        for (owner, mode, safe_for) in [
            (ROOT, 0o1777, &[ROOT, ALICE][..]),
            (ROOT, 0o755, &[ROOT]),
            (ROOT, 0o777, &[]),
            (ROOT, 0o775, &[]),
            (ROOT, 0o3777, &[ROOT, ALICE]),
            // An emptyDir of Kubernetes is root's, and not sticky; with fsGroup, set-gid as well.
            (ROOT, 0o2777, &[]),
            (MALLORY, 0o1777, &[]),
            (MALLORY, 0o777, &[]),
            (ALICE, 0o1777, &[ALICE]),
            (ALICE, 0o700, &[ALICE]),
        ] {
            for caller in [ROOT, ALICE] {
                let is_closed = caller != ROOT && owner != caller && mode & 0o002 == 0;
                let mount = Command::new("mount")
                    .args(["-t", "tmpfs", "tmpfs", "/dev/shm"])
                    .status();
                assert!(mount.unwrap().success());
                let shm = Path::new("/dev/shm");
                give(shm, owner, owner.0);
                fs::set_permissions(shm, fs::Permissions::from_mode(mode)).unwrap();
                let what = format!("{owner:?} {mode:o} {caller:?}");
                let run = ["bus", "run", "-n", "-E", "0", "--", "echo", "ran"];
                let (status, printed, said) = answer(machine.command(caller).args(run));
                if safe_for.contains(&caller) {
                    assert_eq!((status, &*printed), (Some(0), "ran\n"), "{what}: {said}");
                } else if !is_closed {
                    assert_eq!(
                        (status, &*printed, said.lines().count()),
                        (Some(125), "", 1),
                        "{what}: {said}"
                    );
                    assert!(
                        said.contains("/dev/shm is not safe") && said.contains(owner.name()),
                        "{what}: {said}"
                    );
                    assert!(said.contains("chmod 1777 /dev/shm"), "{what}: {said}");
                    let left = fs::read_dir(shm).unwrap().count();
                    assert_eq!(left, 0, "{what}");
                    let (status, found, _) = answer(machine.command(caller).arg("doctor"));
                    assert_eq!(status, Some(1), "{what}: {found}");
                    assert!(found.contains("is not safe"), "{what}: {found}");
                    let (status, printed, said) = answer(machine.command(caller).args(["--mode", "666"]).args(run));
                    assert_eq!((status, &*printed), (Some(0), "ran\n"), "{what}: {said}");
                    let (status, _, said) = answer(machine.command(caller).args(["bus", "state", "-q"]));
                    assert_eq!(status, Some(125), "{what}: {said}");
                }
                assert!(Command::new("umount").arg("/dev/shm").status().unwrap().success());
            }
        }
    });
}

/// In a user namespace one number stands for everybody who is not known there: it is nobody's own.
#[test]
fn users_whom_a_user_namespace_does_not_know() {
    Machine::run(|machine| {
        make_for_everybody(machine, MALLORY, "stranger");
        make(machine, ALICE, "own");
        let inside = |map: &str, words: &[&str]| {
            let mut command = machine.program(ALICE, "unshare");
            command
                .args(["--user", map])
                .arg(machine.folder().join("resourcelock"))
                .args(words);
            answer(&mut command)
        };
        for map in ["--map-root-user", "--map-current-user", "--map-user=65534"] {
            let run = ["run", "-n", "-E", "0", "--", "echo", "ran"];
            // Who has that number himself cannot tell his own locks from others'.
            let own = if map.ends_with("65534") { "" } else { "ran\n" };
            assert_eq!(inside(map, &[&["own"], &run[..]].concat()).1, own, "{map}");
            for words in [&run[..], &["state", "-q"], &["get", "-n"]] {
                for options in [&[][..], &["--owner", "65534"], &["--owner", "nobody"]] {
                    let (status, printed, said) = inside(map, &[options, &["stranger"], words].concat());
                    let what = format!("{map} {options:?} {words:?}: {said}");
                    assert_eq!((status, &*printed, said.lines().count()), (Some(125), "", 1), "{what}");
                    assert!(said.contains("whom this user namespace does not know"), "{what}");
                    assert!(said.contains("--mode 666"), "{what}");
                }
            }
            let (status, printed, said) = inside(map, &[&["--mode", "666", "stranger"], &run[..]].concat());
            assert_eq!((status, &*printed), (Some(0), "ran\n"), "{map}: {said}");
            let (_, listed, said) = inside(map, &["list", "--json"]);
            assert!(listed.contains(r#""lock":"stranger""#), "{map}: {listed}{said}");
            let (status, _, said) = inside(map, &["stranger", "remove"]);
            assert_eq!(status, Some(125), "{map}: {said}");
        }
        assert!(Path::new("/dev/shm/sem.stranger").exists());
    });
}

/// With privileges that the caller does not have, the program does not read what the caller says in variables.
#[test]
fn a_program_with_the_privileges_of_another_user() {
    Machine::run(|machine| {
        make(machine, MALLORY, "stranger");
        let program = Path::new("/dev/shm/set-uid");
        fs::copy(machine.folder().join("resourcelock"), program).unwrap();
        give(program, PI, PI.0);
        fs::set_permissions(program, fs::Permissions::from_mode(0o4755)).unwrap();
        let by_variable = |program: &str| {
            let mut run = machine.program(ALICE, program);
            run.gid(I2C)
                .env("RESOURCELOCK_OWNER", "mallory")
                .args(["stranger", "run", "--", "echo", "ran"]);
            answer(&mut run)
        };
        let plain = machine.folder().join("resourcelock");
        assert_eq!(by_variable(plain.to_str().unwrap()).1, "ran\n");
        let (status, printed, said) = by_variable(program.to_str().unwrap());
        assert_eq!((status, &*printed), (Some(125), ""), "{said}");
        assert!(
            said.contains("belongs to mallory, but pi uses only locks of pi"),
            "{said}"
        );
    });
}

/// What others say of their locks is marked as theirs, and counts for nothing.
#[test]
fn what_others_claim() {
    Machine::run(|machine| {
        for owner in [ROOT, ALICE, MALLORY] {
            make(machine, owner, owner.name());
            let mut get = machine.command(owner);
            assert_eq!(answer(get.args([owner.name(), "get", "-q", "-m", "taken"])).0, Some(0));
        }
        // Whose what everybody may write is, says nothing.
        make_for_everybody(machine, ROOT, "open");
        let mut get = machine.command(ROOT);
        get.args(["--mode", "666", "open", "get", "-q", "-m", "taken"]);
        assert_eq!(answer(&mut get).0, Some(0));
        for (caller, trusted) in [(ROOT, &["root"][..]), (ALICE, &["alice", "root"])] {
            let (status, listed, _) = answer(machine.member(caller).arg("list"));
            assert_eq!(status, Some(0));
            for (lock, owner) in [
                ("root", "root"),
                ("alice", "alice"),
                ("mallory", "mallory"),
                ("open", "root"),
            ] {
                let line = listed.lines().find(|line| line.starts_with(lock)).unwrap();
                let claims = line.contains(&format!("{owner} (claims)"));
                assert_eq!(claims, !trusted.contains(&lock), "{caller:?}: {line}");
                let json = answer(machine.member(caller).args([lock, "state", "--json"])).1;
                let expected = format!("\"owner\":\"{owner}\"");
                assert!(
                    json.contains(&expected) && json.contains(&format!("\"trusted\":{}", !claims)),
                    "{json}"
                );
                let state = answer(machine.member(caller).args([lock, "state"])).1;
                assert_eq!(state.contains("claims"), claims, "{state}");
                let (status, ..) = answer(machine.member(caller).args([lock, "state", "-q"]));
                assert_eq!(status, Some(if claims { 125 } else { 0 }), "{caller:?} {lock}");
            }
            let metrics = answer(machine.member(caller).args(["list", "--prometheus"])).1;
            let held: Vec<&str> = metrics
                .lines()
                .filter(|line| line.starts_with("resourcelock_held{"))
                .collect();
            assert_eq!(held.len(), trusted.len(), "{metrics}");
            assert!(
                metrics.contains(&format!("resourcelock_other_locks {}", 4 - trusted.len())),
                "{metrics}"
            );
            let found = answer(machine.member(caller).arg("doctor")).1;
            assert!(found.contains("not examined: ") && !found.contains("taken"), "{found}");
        }
        // Root ends whatever a stranger claims, and is told whose it was.
        assert_eq!(
            answer(machine.command(ROOT).args(["mallory", "unget"])).1,
            "mallory: released (it belongs to mallory)\n"
        );
        assert_eq!(
            answer(machine.command(ROOT).args(["mallory", "remove"])).1,
            "mallory: removed (it belongs to mallory)\n"
        );
    });
}

/// Whoever may write a file may link it to any name. A stranger links what root, or alice, shares with everybody to the
/// name of a private lock, and holds it there once the shared names are deleted: whoever relies on the private lock is
/// told, and skips nothing silently.
#[test]
fn what_is_shared_with_everybody_under_another_name() {
    Machine::run(|machine| {
        for owner in [ROOT, ALICE] {
            make_for_everybody(machine, owner, "shared");
            let own = ["sem.", "", "resourcelock3."].map(|part| format!("/dev/shm/{part}shared"));
            for path in &own {
                let link = path.replace("shared", "nightly");
                let linked = answer(machine.program(MALLORY, "ln").args([path, &link]));
                assert_eq!(linked, (Some(0), String::new(), String::new()));
                fs::remove_file(path).unwrap();
            }
            let mut get = machine.command(MALLORY);
            get.args(["--mode", "666", "nightly", "get", "-q"]);
            assert_eq!(answer(&mut get).0, Some(0));
            for words in [
                &["run", "-n", "-E", "0", "--", "echo", "ran"][..],
                &["run", "--", "echo", "ran"],
                &["get"],
                &["state", "-q"],
            ] {
                let (status, printed, said) = answer(machine.command(owner).arg("nightly").args(words));
                let what = format!("{owner:?} {words:?}: {said}");
                assert_eq!((status, &*printed, said.lines().count()), (Some(125), "", 1), "{what}");
                assert!(said.contains("everybody may write /dev/shm/sem.nightly"), "{what}");
            }
            // Its owner removes it, and has the name for a lock of his own.
            let (status, _, said) = answer(machine.command(owner).args(["nightly", "unget"]));
            assert_eq!(status, Some(0), "{owner:?}: {said}");
            let (status, _, said) = answer(machine.command(owner).args(["nightly", "remove"]));
            assert_eq!(status, Some(0), "{owner:?}: {said}");
            let mut run = machine.command(owner);
            assert_eq!(
                answer(run.args(["nightly", "run", "-n", "--", "echo", "ran"])).1,
                "ran\n"
            );
            assert_eq!(answer(machine.command(owner).args(["nightly", "remove"])).0, Some(0));
        }
    });
}
