//! Any bytes as a lock's name: refused, or three files in /dev/shm that no other name has.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| resourcelock::fuzzing::name(bytes));
