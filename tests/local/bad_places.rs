//! /dev/shm is full, read-only or missing, or a lock belongs to another user: a clear message, status 125, nothing left
//! behind.
//!
//! A mount namespace makes /dev/shm private; setpriv, which needs root, switches to another user.

use crate::common::{TestLock, binary, install, printed};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

/// Debian's user `nobody`.
const NOBODY: &str = "65534";

/// Runs a shell script, in which `$lock` is the binary, in a new mount namespace. Returns the status of its last
/// command, its standard output, and its standard error.
fn in_private_mounts(script: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !is_root() {
        command.arg("--map-root-user");
    }
    command
        .args(["sh", "-c", &format!("set -e; {script}")])
        .env("lock", binary().get_program());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn assert_one_line(status: Option<i32>, said: &str) {
    assert_eq!(status, Some(125), "{said}");
    assert!(
        said.starts_with("resourcelock: ") && said.lines().count() == 1,
        "{said:?}"
    );
}

/// From no room at all to enough: at every size, either everything works or nothing is left behind.
#[test]
fn a_full_dev_shm() {
    let mut refused = 0;
    for kilobytes in [4, 8, 12, 16, 32, 64, 96, 128, 192, 256, 1024] {
        let (status, left, said) = in_private_mounts(&format!(
            "mount -t tmpfs -o size={kilobytes}k tmpfs /dev/shm; status=0; $lock full get || status=$?;
             [ $status = 0 ] || ls -A /dev/shm; exit $status"
        ));
        if status != Some(0) {
            assert_one_line(status, &said);
            assert!(
                said.contains("No space left on device") || said.contains("full"),
                "{said}"
            );
            assert_eq!(left, "", "with room for {kilobytes} something is left behind");
            refused += 1;
        }
    }
    assert!(refused > 0, "the smallest sizes have no room for a lock");
}

#[test]
fn a_dev_shm_without_room_for_more_files() {
    for files in [2, 3] {
        let (status, left, said) = in_private_mounts(&format!(
            "mount -t tmpfs -o nr_inodes={files} tmpfs /dev/shm; status=0; $lock full get || status=$?;
             ls -A /dev/shm; exit $status"
        ));
        assert_one_line(status, &said);
        assert_eq!(left, "", "with room for {files} something is left behind");
    }
}

/// A signal interrupts the allocation of the files.
#[test]
fn an_allocation_that_is_interrupted() {
    let lock = TestLock::new("places");
    let get = lock.command(&["get"]);
    let mut interrupted = Command::new("strace");
    // Interrupt each allocation once: every other call is a second attempt.
    interrupted.args([
        "-f",
        "-qq",
        "-o/dev/null",
        "-e",
        "inject=fallocate:error=EINTR:when=1+2",
    ]);
    interrupted.arg(get.get_program()).args(get.get_args());
    printed(&mut interrupted);
    assert!(lock.state().locked && lock.objects().len() == 3);
}

/// Objects are allocated when they are created: it does no harm if /dev/shm becomes full later.
#[test]
fn a_dev_shm_that_becomes_full_under_a_lock() {
    let (status, printed, said) = in_private_mounts(
        "mount -t tmpfs -o size=2m tmpfs /dev/shm; $lock full get -q; $lock full unget -q
         dd if=/dev/zero of=/dev/shm/filler bs=4k 2>/dev/null || :
         for i in 1 2 3; do $lock full run -m \"job $i\" -- echo $i; done; $lock full get -q; $lock full state -q",
    );
    assert_eq!((status, printed.as_str(), said.as_str()), (Some(0), "1\n2\n3\n", ""));
}

/// The Python module sets its segment's size, but allocates nothing: memory is needed when the first letter is written.
#[test]
fn a_note_without_room() {
    let (status, printed, said) = in_private_mounts(
        "mount -t tmpfs -o size=400k tmpfs /dev/shm; $lock full run -q true
         rm /dev/shm/full; (umask 077; truncate -s 4096 /dev/shm/full)
         dd if=/dev/zero of=/dev/shm/filler bs=4k 2>/dev/null || :
         $lock full state -q || echo free; $lock full run -- echo inside; $lock full get -q; $lock full state -q
         rm /dev/shm/full; dd if=/dev/zero of=/dev/shm/more bs=4k 2>/dev/null || :
         $lock full unget -q; $lock full run -- echo without",
    );
    assert_eq!(
        (status, printed.as_str()),
        (Some(0), "free\ninside\nwithout\n"),
        "{said}"
    );
    let notes = said.lines().filter(|line| line.contains("note"));
    assert!(
        notes.count() == said.lines().count() && said.contains("No space left"),
        "{said}"
    );
    // Once there is room again, it is used.
    let (status, printed, said) = in_private_mounts(
        "mount -t tmpfs -o size=400k tmpfs /dev/shm; $lock full run -q true
         rm /dev/shm/full; (umask 077; truncate -s 4096 /dev/shm/full)
         dd if=/dev/zero of=/dev/shm/filler bs=4k 2>/dev/null || :; rm /dev/shm/filler
         $lock full get -q -m early; $lock full state",
    );
    assert_eq!((status, said.as_str()), (Some(0), ""));
    assert!(printed.contains("early"), "{printed}");
}

#[test]
fn a_read_only_dev_shm() {
    let (status, _, said) = in_private_mounts("mount -t tmpfs -o ro tmpfs /dev/shm; $lock ro get");
    assert_one_line(status, &said);
    assert!(said.contains("Read-only file system"), "{said}");

    // What is there can still be viewed.
    let (status, printed, said) = in_private_mounts(
        "mount -t tmpfs tmpfs /dev/shm; $lock ro get -q -m early; mount -o remount,ro /dev/shm; $lock ro state",
    );
    assert_eq!((status, said.as_str()), (Some(0), ""));
    assert!(printed.contains("early"), "{printed}");
    let (status, _, said) = in_private_mounts(
        "mount -t tmpfs tmpfs /dev/shm; $lock ro get -q; mount -o remount,ro /dev/shm; $lock ro unget",
    );
    assert_one_line(status, &said);
}

#[test]
fn no_dev_shm_at_all() {
    for command in ["get", "unget", "run true", "list"] {
        let (status, _, said) = in_private_mounts(&format!(
            "mount -t tmpfs tmpfs /mnt; touch /mnt/null; mount --bind /dev/null /mnt/null; mount --rbind /mnt /dev
             name=none; [ '{command}' != list ] || name=; $lock $name {command}"
        ));
        assert_one_line(status, &said);
        assert!(said.contains("/dev/shm"), "{said}");
    }
}

#[test]
fn a_lock_of_another_user() {
    let (lock, nobody) = (TestLock::new("places"), Nobody::new());
    printed(&mut lock.command(&["get", "-q"]));
    let before = lock.flag_word();
    for words in [&["get"][..], &["get", "-t", "0"], &["unget"], &["run", "--", "true"]] {
        let output = nobody.command(&[&[lock.name()], words].concat()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_one_line(output.status.code(), &said);
        assert!(said.contains("belongs to root"), "it names the owner: {said}");
    }
    assert_eq!(lock.flag_word(), before);
}

/// fs.protected_regular forbids root to open other users' files here with O_CREAT: so we first open without it.
#[test]
fn root_uses_a_users_lock() {
    let (lock, nobody) = (TestLock::new("places"), Nobody::new());
    assert_eq!(nobody.status(&[lock.name(), "get", "-q"]), Some(0));
    assert_eq!(lock.objects().len(), 3);
    let owned = |words: &[&str]| lock.command(&[&["--owner", "nobody"], words].concat());
    assert_eq!(owned(&["get", "-t", "0", "-q"]).status().unwrap().code(), Some(75));
    printed(&mut lock.command(&["unget", "-q"]));
    printed(&mut owned(&["run", "-q", "--", "true"]));
    for object in lock.objects() {
        let found = fs::metadata(&object).unwrap();
        assert_eq!(found.uid().to_string(), NOBODY, "{}", object.display());
        assert_eq!(found.mode() & 0o777, 0o600, "{}", object.display());
    }
    assert_eq!(nobody.status(&[lock.name(), "get", "-t", "0", "-q"]), Some(0));
}

/// If only the flag belongs to somebody else, no second lock is built around it.
#[test]
fn a_flag_of_another_user_alone() {
    let (lock, nobody) = (TestLock::new("places"), Nobody::new());
    printed(&mut lock.command(&["run", "-q", "--", "true"]));
    fs::remove_file(lock.paths().note_path()).unwrap();
    fs::remove_file(lock.paths().table_path()).unwrap();
    let output = nobody.command(&[lock.name(), "get"]).output().unwrap();
    assert_one_line(output.status.code(), &String::from_utf8(output.stderr).unwrap());
    assert_eq!(lock.objects(), [lock.paths().semaphore_path()]);
}

#[test]
fn a_lock_made_for_all_can_be_used_by_all() {
    let (lock, nobody) = (TestLock::new("places"), Nobody::new());
    printed(&mut lock.command(&["get", "-q", "--mode", "666"]));
    let by_nobody = |words: &[&str]| nobody.status(&[&["--mode", "666", lock.name()], words].concat());
    assert_eq!(by_nobody(&["get", "-t", "0", "-q"]), Some(75));
    assert_eq!(by_nobody(&["unget", "-q"]), Some(0));
    assert_eq!(by_nobody(&["run", "-q", "--", "true"]), Some(0));
    // Who does not say so does not use it, its owner included.
    assert_eq!(nobody.status(&[lock.name(), "run", "-q", "--", "true"]), Some(125));
    let output = lock.command(&["run", "-n", "-E", "0", "--", "true"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_one_line(output.status.code(), &said);
    assert!(
        said.contains("everybody may write ") && said.contains("resourcelock --mode 666 "),
        "{said}"
    );
}

#[test]
fn a_group_that_the_user_is_not_in() {
    let (lock, nobody) = (TestLock::new("places"), Nobody::new());
    let output = nobody
        .command(&[lock.name(), "get", "--mode", "660", "--group", "root"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_one_line(output.status.code(), &said);
    assert!(
        said.contains("not a member of group 'root'") && said.contains("usermod -aG"),
        "{said}"
    );
    assert!(lock.objects().is_empty(), "nothing is left half finished");
}

/// The user nobody, with a copy of the binary in a place where that user may execute it.
struct Nobody {
    folder: tempfile::TempDir,
}

impl Nobody {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        install(&folder.path().join("resourcelock"), binary().get_program().as_ref());
        Self { folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(if is_root() { "setpriv" } else { "sudo" });
        if !is_root() {
            command.args(["-n", "setpriv"]);
        }
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
        command.arg(self.folder.path().join("resourcelock")).args(arguments);
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn status(&self, arguments: &[&str]) -> Option<i32> {
        self.command(arguments).status().unwrap().code()
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}
