//! One suite for every engine: what a lock does, wherever it is kept.

#[path = "../engine_common/mod.rs"]
mod engine_common;

mod engine_conformance;
