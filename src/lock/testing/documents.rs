//! What is written twice is the same in both places.

use std::fs;
use std::path::{Path, PathBuf};

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

/// The files of tests and sources, with their text.
fn sources(directory: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        if path.is_dir() {
            return sources(&path);
        }
        let name = path.with_extension("").to_string_lossy().into_owned();
        fs::read_to_string(&path)
            .map(|text| vec![(name, text)])
            .unwrap_or_default()
    };
    entries.flat_map(read).collect()
}

/// A promise names the test that shows it: `FILE::FUNCTION`, where a directory's own tests are in its `tests.rs`.
#[test]
fn the_tests_that_the_security_page_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let sources: Vec<_> = ["src", "tests"]
        .into_iter()
        .flat_map(|part| sources(&root.join(part)))
        .collect();
    let named = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once("::"));
    let mut count = 0;
    for (file, test) in named {
        let is_meant = |path: &str| path.ends_with(&format!("/{file}")) || path.ends_with(&format!("/{file}/tests"));
        let has_it = |text: &str| text.contains(&format!("fn {test}("));
        let found = sources.iter().any(|(path, text)| is_meant(path) && has_it(text));
        assert!(found, "docs/security.md names {file}::{test}");
        count += 1;
    }
    assert!(count > 20, "{count}");
}
