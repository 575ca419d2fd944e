//! Tests what users install: the crate and the Debian package.

#[path = "../common/mod.rs"]
mod common;

mod package_cargo;
mod package_deb;
