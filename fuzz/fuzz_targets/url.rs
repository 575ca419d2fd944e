//! Any bytes as the URL of an engine, with and without a password: opened or refused, and the password is not shown.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| resourcelock::fuzzing::url(bytes));
