//! The program as `scripts/release.sh` builds it: hardened, without the paths of this machine, static or dynamic.
//! (Without optimization, which takes minutes and changes nothing of this.)

use crate::common::printed;
use crate::package_cargo::{FEATURES, turn};
use crate::tested;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the program in `folder`, with all engines, or for another target than this machine's own; says where it is. Its
/// dependencies are built once for all tests, and kept for the next time: if possible, where `scripts/test.sh` has built them
/// with the same flags.
fn build(folder: &Path, other_target: Option<&str>, environment: &[(&str, &str)]) -> PathBuf {
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let target = if flags.contains("--remap-path-prefix") && tested::other().is_some() {
        tested::target()
    } else {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("release script")
    };
    let program = folder.join("resourcelock");
    let _turn = turn();
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/release.sh"))
        .arg("--offline")
        .args(other_target.map_or(FEATURES, |target| ["--target", target]))
        .env_remove("RESOURCELOCK_DYNAMIC")
        .envs(environment.iter().copied())
        .env("CARGO_TARGET_DIR", &target)
        .env("RESOURCELOCK_PROFILE", "dev")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let built = target.join(other_target.unwrap_or_default()).join("debug/resourcelock");
    std::fs::copy(built, &program).unwrap();
    program
}

/// Program headers and dynamic section, as readelf(1) shows them.
fn headers(program: &Path) -> String {
    printed(
        Command::new("readelf")
            .args(["--wide", "--file-header", "--program-headers", "--dynamic"])
            .arg(program),
    )
}

fn assert_hardened(headers: &str) {
    let has = |words: &[&str]| headers.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["Type:", "DYN"]), "position-independent: {headers}");
    assert!(has(&["GNU_RELRO"]), "{headers}");
    assert!(
        has(&["FLAGS", "NOW"]),
        "relocated before it starts (BIND_NOW): {headers}"
    );
    assert!(has(&["GNU_STACK", " RW "]), "its stack is not executable: {headers}");
    assert!(!has(&["LOAD", " RWE "]) && !has(&["TEXTREL"]), "{headers}");
}

/// Where this machine keeps what went into it.
fn paths_of_this_machine() -> Vec<String> {
    let sysroot = printed(Command::new("rustc").args(["--print", "sysroot"]));
    let cargo = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| home + "/.cargo"));
    let folders = [
        env!("CARGO_MANIFEST_DIR").to_owned(),
        env!("CARGO_TARGET_TMPDIR").to_owned(),
        sysroot.trim().to_owned(),
        cargo.unwrap(),
    ];
    folders.to_vec()
}

/// The target of the artefacts, if this machine's compiler has its standard library: `scripts/test.sh` sees to that, or says
/// that it cannot.
fn musl() -> Option<String> {
    let version = printed(Command::new("rustc").arg("-vV"));
    let host = version.lines().find_map(|line| line.strip_prefix("host: "))?;
    let target = format!("{}-musl", host.strip_suffix("-gnu")?);
    let sysroot = printed(Command::new("rustc").args(["--print", "sysroot"]));
    let library = Path::new(sysroot.trim()).join("lib/rustlib").join(&target);
    library.exists().then_some(target)
}

fn assert_self_contained(program: &Path) {
    let headers = headers(program);
    assert_hardened(&headers);
    assert!(
        !headers.contains("INTERP") && !headers.contains("NEEDED"),
        "it needs no loader and no library: {headers}"
    );
    let bytes = std::fs::read(program).unwrap();
    for folder in paths_of_this_machine() {
        let found = bytes.windows(folder.len()).any(|part| part == folder.as_bytes());
        assert!(!found, "the program contains {folder}");
    }
    assert!(printed(Command::new(program).arg("--version")).starts_with("resourcelock "));
}

#[test]
fn static_and_dynamic() {
    let folder = tempfile::tempdir().unwrap();
    assert_self_contained(&build(folder.path(), None, &[]));
    if let Some(musl) = musl() {
        assert_self_contained(&build(folder.path(), Some(&musl), &[]));
    }

    let program = build(folder.path(), None, &[("RESOURCELOCK_DYNAMIC", "1")]);
    let linked_dynamically = headers(&program);
    assert_hardened(&linked_dynamically);
    assert!(
        linked_dynamically.contains("INTERP") && linked_dynamically.contains("[libc.so.6]"),
        "{linked_dynamically}"
    );
    assert!(printed(Command::new(&program).arg("--version")).starts_with("resourcelock "));
}
