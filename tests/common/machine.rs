//! A machine with users of its own: real users, who are known by name, and a /dev/shm of their own. A test that needs
//! it runs once more there: as root, in a mount namespace.

use super::lock::binary;
use super::once_more;
use super::patience;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};

/// A user, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct User(pub u32);

pub const ROOT: User = User(0);
pub const ALICE: User = User(2001);
/// Like alice a member of the group `i2c`.
pub const BOB: User = User(2002);
pub const PI: User = User(2004);
/// Nobody trusts him.
pub const MALLORY: User = User(2005);

const USERS: [(&str, User); 5] = [
    ("root", ROOT),
    ("alice", ALICE),
    ("bob", BOB),
    ("pi", PI),
    ("mallory", MALLORY),
];

/// The group of alice and bob.
pub const I2C: u32 = 3001;

impl User {
    pub fn name(self) -> &'static str {
        let known = USERS.iter().find(|(_, user)| *user == self);
        known.expect("a user of the machine").0
    }
}

/// Where the folder of the machine's programs is named.
const MACHINE: &str = "RESOURCELOCK_TEST_MACHINE";

/// /dev/shm, the users, and the program where each of them can execute it.
const SETUP: &str = r#"
mount -t tmpfs -o mode=1777 tmpfs /dev/shm && mount --bind "$RESOURCELOCK_TEST_MACHINE/passwd" /etc/passwd \
    && mount --bind "$RESOURCELOCK_TEST_MACHINE/group" /etc/group && mount --bind "$RL" "$RESOURCELOCK_TEST_MACHINE/resourcelock" || exit 99
exec "$@"
"#;

/// The machine, for whom runs on it.
pub struct Machine {
    folder: PathBuf,
}

impl Machine {
    /// Runs the calling test, which has to call this first and to do nothing else, on a machine of its own.
    ///
    /// # Panics
    /// The test fails there.
    pub fn run(test: impl FnOnce(&Self)) {
        match std::env::var_os(MACHINE) {
            Some(folder) => test(&Self { folder: folder.into() }),
            None => Self::start(),
        }
    }

    fn start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        let (mut passwd, mut group) = (read("/etc/passwd"), read("/etc/group"));
        for (name, User(number)) in &USERS[1..] {
            passwd.push_str(&format!("{name}:x:{number}:{number}::/:/bin/sh\n"));
            group.push_str(&format!("{name}:x:{number}:\n"));
        }
        group.push_str(&format!("i2c:x:{I2C}:alice,bob\n"));
        for (name, content) in [("passwd", &*passwd), ("group", &*group), ("resourcelock", "")] {
            fs::write(path.join(name), content).unwrap();
        }
        let mut command = if nix::unistd::geteuid().is_root() {
            Command::new("env")
        } else {
            let mut command = Command::new("sudo");
            command.args(["-n", "env"]);
            command
        };
        for (name, value) in [(MACHINE, path), ("RL", Path::new(binary().get_program()))] {
            command.arg(format!("{name}={}", value.display()));
        }
        let thread = std::thread::current();
        let test = thread.name().expect("a test's thread has its name");
        command.args(["unshare", "--mount", "sh", "-c", SETUP, "sh"]);
        once_more(command, test);
    }

    /// A folder that everybody may enter, and only root may write.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The program, run by this user, who belongs to his own group only.
    pub fn command(&self, user: User) -> Command {
        self.by(user, user.0, &self.folder.join("resourcelock"))
    }

    /// The same as a member of the group `i2c`.
    pub fn member(&self, user: User) -> Command {
        self.by(user, I2C, &self.folder.join("resourcelock"))
    }

    /// Any program, run by this user.
    pub fn program(&self, user: User, program: &str) -> Command {
        self.by(user, user.0, Path::new(program))
    }

    fn by(&self, user: User, group: u32, program: &Path) -> Command {
        let mut command = Command::new(program);
        if user != ROOT {
            command.uid(user.0).gid(group);
        }
        command.current_dir("/");
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap()
}

/// Runs the command to its end. It reads nothing.
///
/// # Panics
/// It does not end.
pub fn finished(command: &mut Command) -> Output {
    run(command, |child| child.wait_with_output())
}

/// The same, and interrupts the command as soon as it has printed a line.
pub fn interrupted(command: &mut Command) -> Output {
    run(command, |mut child| {
        let mut line = String::new();
        let printed = child.stdout.as_mut().expect("its output is connected");
        BufReader::new(printed).read_line(&mut line)?;
        if !line.is_empty() {
            // As long as it was not waited for, its number is its own.
            kill(pid(&child), Signal::SIGINT)?;
        }
        child.wait_with_output()
    })
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn run(command: &mut Command, follow: impl FnOnce(Child) -> io::Result<Output>) -> Output {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let pid = pid(&child);
    let (over, is_over) = channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let hangs = is_over.recv_timeout(patience()) == Err(RecvTimeoutError::Timeout);
        if hangs {
            let _ = kill(pid, Signal::SIGKILL);
        }
        hangs
    });
    let output = follow(child).expect("it can be waited for");
    drop(over);
    assert!(!watchdog.join().unwrap(), "it does not end: {command:?}");
    output
}

/// Gives what is at a path, not what a link there leads to, to a user and a group.
pub fn give(path: &Path, user: User, group: u32) {
    lchown(path, Some(user.0), Some(group)).unwrap();
}
