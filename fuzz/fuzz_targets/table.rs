//! A table file with any content: opening, looking, repairing and dispatching neither panic nor loop.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| resourcelock::fuzzing::table(bytes));
