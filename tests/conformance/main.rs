//! One suite for every engine: a lock does the same wherever it is kept.

#[path = "../common/mod.rs"]
mod common;
#[path = "../engine_common/mod.rs"]
mod engine_common;
#[path = "../common/tested.rs"]
mod tested;

mod deadlocks;
mod engine_conformance;
