//! Programs that are started: ours, and the peers on the PATH.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A copy of the program with the default features, as an installation would make; removed on drop. What the linker has
/// just written is in the page cache as single pages, which slows every start by some 50 µs until the file is rewritten.
pub struct Installed {
    folder: PathBuf,
    pub program: String,
}

impl Installed {
    pub fn new() -> Self {
        Self::copy(&built())
    }

    /// The program that `cargo install` makes, if that is another one.
    pub fn from_source() -> Option<Self> {
        std::env::var_os("RESOURCELOCK_BENCH_FROM_SOURCE").map(|program| Self::copy(program.as_ref()))
    }

    fn copy(program: &Path) -> Self {
        static COPIES: AtomicU32 = AtomicU32::new(0);
        let copy = COPIES.fetch_add(1, Relaxed);
        let folder = std::env::temp_dir().join(format!("bench-program-{}-{copy}.d", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let bytes = std::fs::read(program).expect("the program can be read");
        let program = folder.join("resourcelock");
        // Written as dpkg(1) does: copy_file_range(2), which std's copy uses, leaves single pages as well.
        std::fs::write(&program, bytes).expect("the program can be copied");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, executable).expect("it is ours");
        let program = program.to_string_lossy().into_owned();
        Self { folder, program }
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The program with the default features, if it was prepared.
pub fn built() -> PathBuf {
    std::env::var_os("RESOURCELOCK_BENCH_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_resourcelock").into(), Into::into)
}

/// The program's path, so that no start is charged for a search of PATH.
pub fn find(program: &str) -> Option<String> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file());
    Some(found?.to_string_lossy().into_owned())
}

/// A command that reads nothing, and whose messages nobody sees.
pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null());
    command
}

/// What a program prints, without the last line's end; empty if it cannot be run.
pub fn output(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

/// Polls until a condition holds, for a minute at most.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How many requests wait for the flock(2) lock on this file.
pub fn waiting_for_file(file: &std::path::Path) -> usize {
    use std::os::unix::fs::MetadataExt as _;
    let inode = std::fs::metadata(file).expect("the file is there").ino();
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let of_file = format!(":{inode} ");
    locks
        .lines()
        .filter(|line| line.contains("->") && line.contains(&of_file))
        .count()
}

/// How many requests wait for a lock of ours.
pub fn waiting_for_name(name: &str) -> usize {
    let viewer = resourcelock::ResourceLock::builder(name).open_existing();
    viewer.map_or(0, |viewer| viewer.state().map_or(0, |state| state.waiters.len()))
}
