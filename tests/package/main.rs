//! Tests what users install: the crate, the Debian package, and the program that is built for others.

#[path = "../common/mod.rs"]
mod common;
#[path = "../engine_common/mod.rs"]
mod engine_common;
#[path = "../common/tested.rs"]
mod tested;

mod package_cargo;
mod package_deb;
#[cfg(all(feature = "etcd", feature = "postgres"))]
mod package_python;
mod package_release;
mod public_interface;
