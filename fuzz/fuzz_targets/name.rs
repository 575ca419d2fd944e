//! Any bytes as a lock's name are either refused or give three files in /dev/shm that no other name has.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| resourcelock::fuzzing::name(bytes));
