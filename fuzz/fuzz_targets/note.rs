//! A note segment with any content: reading and writing stay within it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| resourcelock::fuzzing::note(bytes));
