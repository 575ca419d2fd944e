//! A note segment may have any content: reads and writes stay within it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| resourcelock::fuzzing::note(bytes));
