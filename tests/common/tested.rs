//! Which program is tested.
// Every test program compiles this module and uses only part of it.
#![allow(dead_code)]

use std::ffi::OsString;

/// The program that was built with this test, or the one that RESOURCELOCK_TEST_PROGRAM names: another machine's
/// (`scripts/cross.sh`), or one with another choice of features (`scripts/test.sh`).
pub fn program() -> OsString {
    let other = std::env::var_os("RESOURCELOCK_TEST_PROGRAM");
    other.unwrap_or_else(own)
}

/// The program that was built with this test.
pub fn own() -> OsString {
    assert_cmd::cargo::cargo_bin!("resourcelock").into()
}

/// True if it was built with this feature. Those of another program are in RESOURCELOCK_TEST_FEATURES.
pub fn has(feature: &str) -> bool {
    if let Ok(features) = std::env::var("RESOURCELOCK_TEST_FEATURES") {
        return features.split(',').any(|one| one == feature);
    }
    match feature {
        "etcd" => cfg!(feature = "etcd"),
        "postgres" => cfg!(feature = "postgres"),
        "tls" => cfg!(feature = "tls"),
        other => panic!("no test asks for {other}"),
    }
}
