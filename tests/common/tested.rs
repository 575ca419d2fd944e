//! Which program is tested.
// Every test program compiles this module and uses only part of it.
#![allow(dead_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The program that RESOURCELOCK_TEST_PROGRAM names, to be tested instead of the one that was built with this test: another
/// machine's (`scripts/cross.sh`), or one with another choice of features (`scripts/test.sh`). Its examples lie beside it.
pub fn other() -> Option<OsString> {
    std::env::var_os("RESOURCELOCK_TEST_PROGRAM")
}

/// That one, or else the one that was built with this test.
pub fn program() -> OsString {
    other().unwrap_or_else(own)
}

/// The program that was built with this test.
pub fn own() -> OsString {
    assert_cmd::cargo::cargo_bin!("resourcelock").into()
}

/// The folder in which it was built, that of one profile: `target/debug`.
pub fn folder() -> PathBuf {
    let own = own();
    Path::new(&own).parent().expect("it lies in a folder").to_owned()
}

/// The folder of all that Cargo has built here, for builds that are to find it.
pub fn target() -> PathBuf {
    folder()
        .parent()
        .expect("Cargo's folder has one for each profile")
        .to_owned()
}

/// True if the tested program was built with this feature, or the examples beside it are linked with the C library `musl`.
/// Those of another program are in RESOURCELOCK_TEST_FEATURES.
pub fn has(feature: &str) -> bool {
    if let Ok(features) = std::env::var("RESOURCELOCK_TEST_FEATURES") {
        return features.split(',').any(|one| one == feature);
    }
    match feature {
        "etcd" => cfg!(feature = "etcd"),
        "postgres" => cfg!(feature = "postgres"),
        "tls" => cfg!(feature = "tls"),
        "musl" => cfg!(target_env = "musl"),
        other => panic!("no test asks for {other}"),
    }
}
