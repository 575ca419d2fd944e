//! `cargo install --path .`, and the crate that `cargo package` makes.

use crate::common::{TestLock, printed};
use crate::tested;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whoever has Cargo build the program has a turn: each build overwrites the last one's program.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Arguments that build what the Python package is built of (`python/build_backend.py`), so that all builds of this machine
/// without test code share their dependencies.
pub const FEATURES: [&str; 2] = ["--features", "etcd,postgres,serde,tls,tokio"];

/// Cargo in this package, offline, reusing what has already been built.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(arguments)
        .args(["--offline", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", tested::target());
    cargo
}

#[test]
fn installs_from_its_folder() {
    let (root, lock) = (tempfile::tempdir().unwrap(), TestLock::new("install"));
    let folder = root.path().to_str().unwrap();
    let turn = turn();
    let output = cargo(&["install", "--debug", "--path", ".", "--root", folder])
        .args(FEATURES)
        .output()
        .unwrap();
    drop(turn);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut installed = Command::new(root.path().join("bin/resourcelock"));
    assert_eq!(
        printed(installed.args([lock.name(), "run", "--", "echo", "ran"])),
        "ran\n"
    );
}

#[test]
fn the_packaged_crate_builds_and_nothing_is_missing_for_publishing() {
    let turn = turn();
    let output = cargo(&["package", "--allow-dirty"]).args(FEATURES).output().unwrap();
    drop(turn);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("warning"), "{said}");
    let listed = printed(&mut cargo(&["package", "--allow-dirty", "--list"]));
    for file in [
        "src/main.rs",
        "src/lib.rs",
        "src/lock.rs",
        "build.rs",
        "completions/_resourcelock",
        "man/resourcelock.1",
        "README.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
    ] {
        assert!(listed.lines().any(|line| line == file), "no {file} in {listed}");
    }
    for part in [".venv/", ".tools/", "target/", ".ci/"] {
        assert!(!listed.lines().any(|line| line.starts_with(part)), "{part} in {listed}");
    }
}

/// The library alone, without the program: what a Rust program takes on with it.
#[test]
fn the_library_alone_needs_few_crates() {
    let tree = [
        "tree",
        "--no-default-features",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let listed = printed(&mut cargo(&tree));
    let mut crates: Vec<&str> = listed.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    crates.sort_unstable();
    crates.dedup();
    assert!(crates.len() <= 18, "{}: {crates:#?}", crates.len());
    for program in ["clap", "env_logger", "serde", "signal-hook", "tokio"] {
        assert!(
            !crates.iter().any(|name| name.starts_with(program)),
            "{program} in {crates:#?}"
        );
    }
}
