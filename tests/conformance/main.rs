//! One suite for every engine: a lock does the same wherever it is kept.

#[path = "../engine_common/mod.rs"]
mod engine_common;

mod engine_conformance;
