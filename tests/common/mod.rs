//! What the end-to-end tests share: locks that clean up after themselves, the real binary, children that a test talks
//! to line by line, the real Python module as a peer, and waiting for a condition.
// Every test program compiles this module and uses only part of it.
#![allow(dead_code, unused_imports)]

pub mod asked;
pub mod child;
pub mod dice;
pub mod forged;
pub mod guide;
pub mod inside;
pub mod launched;
pub mod lock;
pub mod machine;
pub mod once_more;
pub mod peer;
pub mod private;
pub mod prompt;
pub mod pty;
pub mod run;
pub mod sandbox;
pub mod schema;
pub mod tmux;
pub mod witness;
pub mod worker;

use crate::tested;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use asked::patience;
pub use child::LineChild;
pub use dice::Dice;
pub use inside::Inside;
pub use lock::{FlagWord, TestLock, binary, without_variables};
pub use once_more::once_more;
pub use peer::Peer;
pub use private::{in_private_shm, printed_in_private_shm, private_shm};
pub use pty::Pty;
pub use tmux::Tmux;
pub use witness::Witness;
pub use worker::{Ask, Grant, Worker};

/// Polls until `condition` holds.
///
/// # Panics
/// If it does not hold within [`patience`]; the message names `what` was waited for.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < patience(), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// True if a generated test runs this case: in the suite one of `step`, with `RESOURCELOCK_ALL_CASES=1` every one.
/// `place` is the sum of the case's places in the lists that are combined, so that any two of them meet.
pub fn is_chosen(place: usize, step: usize) -> bool {
    place.is_multiple_of(step) || std::env::var_os("RESOURCELOCK_ALL_CASES").is_some()
}

/// Copies a program that is then executed. A process of its own does it: what another thread of this one starts in the
/// meantime would inherit the file open for writing, and for so long nobody could execute it.
pub fn install(program: &Path, from: &Path) {
    let mut copy = Command::new("cp");
    assert!(copy.arg(from).arg(program).status().unwrap().success());
}

/// Writes a script that is then executed, in the same way.
pub fn install_script(program: &Path, text: &str) {
    let mut write = Command::new("sh");
    write.args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]);
    assert!(write.arg(program).arg(text).status().unwrap().success());
}

/// A process's state as `ps` shows it: `S` asleep, `T` stopped, `Z` exited but not reaped; none = no such process.
pub fn process_state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The program of `examples/NAME.rs`, of the same build as `lock::binary`.
pub fn example(name: &'static str) -> Command {
    match tested::other() {
        Some(program) => example_beside(Path::new(&program), name),
        None => own_example(name),
    }
}

/// The program of `examples/NAME.rs`, built like the test itself. (Cargo tells a test where the package's binaries are,
/// but not where its examples are, and builds examples only when all tests are requested.)
pub fn own_example(name: &'static str) -> Command {
    static BUILT: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    let example = example_beside(Path::new(&tested::own()), name);
    // Ignore poisoning: one test that failed during the build must not fail the others.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if !built.contains(name) {
        build_example(name, tested::folder().ends_with("release"));
        built.insert(name);
    }
    example
}

/// An example in the folder that Cargo makes beside a program.
fn example_beside(program: &Path, name: &str) -> Command {
    let folder = program.parent().expect("the binary lies in a folder");
    Command::new(folder.join("examples").join(name))
}

fn build_example(name: &str, release: bool) {
    let mut cargo = Command::new(env!("CARGO"));
    // One choice of features for all of them, so that the library is built once.
    cargo.args([
        "build",
        "--quiet",
        "--features",
        "tokio",
        "--example",
        name,
        "--manifest-path",
    ]);
    cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    if release {
        cargo.arg("--release");
    }
    assert!(
        cargo.status().expect("cargo runs").success(),
        "example {name} does not build"
    );
}

/// Runs a command that must succeed and returns what it printed.
pub fn printed(command: &mut Command) -> String {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?} ended with {}", output.status);
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}
