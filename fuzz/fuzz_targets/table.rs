//! A table file may have any content: opening, inspecting, repairing and dispatching neither panic nor loop.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| resourcelock::fuzzing::table(bytes));
