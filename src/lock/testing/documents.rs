//! What is written twice is the same in both places.

use std::fs;
use std::path::Path;

/// The chapters of the protocol that stand in `docs/design.md` and at the head of `queue.rs`.
const CHAPTERS: [&str; 4] = [
    "State table of a request's word",
    "State table of the semaphore",
    "Invariants",
    "Commit rule",
];

/// A chapter's text, without line breaks.
fn chapter(lines: &[&str], title: &str) -> String {
    let heading = |line: &&&str| line.trim_start_matches('#').trim_start() == title && line.starts_with('#');
    let start = lines
        .iter()
        .position(|line| heading(&line))
        .unwrap_or_else(|| panic!("no chapter {title}"));
    let text = lines[start + 1..].iter().take_while(|line| !line.starts_with('#'));
    let words: Vec<&str> = text.flat_map(|line| line.split_whitespace()).collect();
    words.join(" ")
}

#[test]
fn the_design_says_what_the_protocol_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let design = fs::read_to_string(root.join("docs/design.md")).unwrap();
    let queue = fs::read_to_string(root.join("src/lock/protocol/queue.rs")).unwrap();
    let design: Vec<&str> = design.lines().collect();
    let queue: Vec<&str> = queue
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    for title in CHAPTERS {
        let text = chapter(&queue, title);
        assert!(!text.is_empty(), "{title}");
        assert_eq!(chapter(&design, title), text, "{title}");
    }
}
