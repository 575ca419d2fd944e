//! A bounded run, on stable Rust, of the entry functions that the targets in `fuzz/` explore without bound.

use crate::common::TestLock;
use proptest::collection::vec;
use proptest::prelude::*;
use resourcelock::{GetOptions, fuzzing};
use std::fs;

/// Random bytes at random places: pairs of place and bytes.
fn islands(within: usize) -> impl Strategy<Value = Vec<(usize, Vec<u8>)>> {
    let island = prop_oneof![vec(any::<u8>(), 1..16), vec(any::<u8>(), 1000..6000)];
    vec((0..within, island), 0..12)
}

fn overwrite(bytes: &mut [u8], islands: Vec<(usize, Vec<u8>)>) {
    for (at, island) in islands {
        let end = bytes.len().min(at + island.len());
        if at < end {
            bytes[at..end].copy_from_slice(&island[..end - at]);
        }
    }
}

/// The flag's word and the table of a real lock that is held.
fn real_table() -> Vec<u8> {
    let lock = TestLock::new("fuzz");
    let handle = lock.open();
    assert!(handle.get_lock(&GetOptions::new()).unwrap());
    let mut bytes = fs::read(lock.paths().semaphore_path()).unwrap();
    bytes.truncate(8);
    bytes.extend(fs::read(lock.paths().table_path()).unwrap());
    bytes
}

/// Size of the flag's word, and of what must be right for a table to be used at all: its first 16 bytes.
const TRUSTED: usize = 8 + 16;

/// In the suite a quarter of the cases, which are random each time; all with `RESOURCELOCK_ALL_CASES=1`.
fn settings() -> ProptestConfig {
    let all = ProptestConfig::default().cases;
    let every = std::env::var_os("RESOURCELOCK_ALL_CASES").is_some();
    ProptestConfig {
        failure_persistence: None,
        cases: if every { all } else { (all / 4).max(1) },
        ..ProptestConfig::default()
    }
}

/// Most of a table is rarely used: half of the islands go to its beginning, where the header and the request words are.
#[test]
fn a_real_table_with_wrong_bytes() {
    let real = real_table();
    let places = (islands(8192), islands(real.len()), any::<u64>());
    proptest!(settings(), |((head, anywhere, flag) in places)| {
        let mut bytes = real.clone();
        overwrite(&mut bytes[TRUSTED..], head);
        overwrite(&mut bytes[TRUSTED..], anywhere);
        if flag % 2 == 0 {
            bytes[..8].copy_from_slice(&flag.to_le_bytes());
        }
        fuzzing::table(&bytes);
    });
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn any_bytes_as_a_table(bytes in vec(any::<u8>(), 0..4096)) {
        fuzzing::table(&bytes);
    }

    #[test]
    fn any_note(bytes in vec(any::<u8>(), 0..8192)) {
        fuzzing::note(&bytes);
    }

    #[test]
    fn any_text_as_a_note(text in "\\PC{0,2000}[\0]?\\PC{0,100}") {
        fuzzing::note(text.as_bytes());
    }

    #[test]
    fn any_bytes_as_a_name(bytes in vec(any::<u8>(), 0..256)) {
        fuzzing::name(&bytes);
    }

    #[test]
    fn any_text_as_a_url(text in "((etcds?|postgres(ql)?|local)://?)?(\\PC{0,8}[:@/?&%=,]){0,6}\\PC{0,40}") {
        fuzzing::url(text.as_bytes());
    }

    #[test]
    fn any_text_as_a_name(text in "(sem|resourcelock)?[0-9]{0,2}[./]?\\PC{0,220}") {
        fuzzing::name(text.as_bytes());
    }
}

/// What the targets in `fuzz/` once found.
#[test]
fn inputs_that_broke_something_once() {
    let found = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/local/fuzz_found");
    let run = |kind: &str, entry: fn(&[u8])| -> usize {
        let inputs = fs::read_dir(format!("{found}/{kind}")).into_iter().flatten();
        inputs
            .map(|input| entry(&fs::read(input.unwrap().path()).unwrap()))
            .count()
    };
    let files = run("table", fuzzing::table) + run("note", fuzzing::note);
    assert!(files + run("name", fuzzing::name) + run("url", fuzzing::url) > 0);
}
