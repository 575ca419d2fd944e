//! The README's first command does its job, and its scripts do what the README says.

use crate::common::{TestLock, binary};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const README: &str = include_str!("../../README.md");

/// The first `sh` block that contains these words.
fn block(words: &str) -> &'static str {
    let blocks = README.split("```").skip(1).step_by(2);
    let mut scripts = blocks.filter_map(|block| block.strip_prefix("sh\n"));
    scripts
        .find(|script| script.contains(words))
        .expect("the README has it")
}

/// Runs a script in a new directory, with the binary as `resourcelock`.
fn shell(script: &str, folder: &Path) -> Output {
    let programs = Path::new(binary().get_program()).parent().unwrap().to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    Command::new("sh")
        .args(["-c", script])
        .env("PATH", path)
        .current_dir(folder)
        .output()
        .unwrap()
}

#[test]
fn the_first_command_reads_the_sensors() {
    let (lock, folder) = (TestLock::new("readme"), tempfile::tempdir().unwrap());
    let first = block("cargo run");
    let job = first
        .strip_prefix("cargo run --release -- sensors ")
        .expect("the command that this test knows");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    std::os::unix::fs::symlink(examples, folder.path().join("examples")).unwrap();
    let output = shell(&format!("resourcelock {} {job}", lock.name()), folder.path());
    assert!(output.status.success(), "{output:?}");
    let line = fs::read_to_string(folder.path().join("sensors.csv")).unwrap();
    assert!(
        line.starts_with("20") && line.split(',').count() >= 3 && line.ends_with('\n'),
        "{line}"
    );
}

#[test]
fn a_script_that_takes_a_lock_gives_it_back() {
    let (lock, folder) = (TestLock::new("readme"), tempfile::tempdir().unwrap());
    let script = block("get --pid $$")
        .split("\n\n")
        .next()
        .unwrap()
        .replace("i2c", lock.name());
    assert!(script.contains("get --pid $$") && script.contains("trap"), "{script}");
    let state = format!("resourcelock {} state -q && echo locked", lock.name());
    let output = shell(&format!("{script}\n{state}\nexit 7"), folder.path());
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("\nlocked\n"), "{output:?}");
    assert!(!lock.state().locked);
    assert_eq!(lock.state().counters.unwrap().abandoned, 0, "the trap released it");
}

#[test]
fn the_other_scripts_run() {
    let (lock, folder) = (TestLock::new("readme"), tempfile::tempdir().unwrap());
    let scripts = block("get --pid $$").split_once("\n\n").unwrap().1;
    for line in scripts.lines() {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[0], "resourcelock");
        words[1] = lock.name();
        let script = words
            .join(" ")
            .replace("backup.sh", "echo ran")
            .replace("train.sh", "echo ran");
        let output = shell(&script.replace("migrate.sh", "echo ran"), folder.path());
        assert_eq!(String::from_utf8_lossy(&output.stdout), "ran\n", "{script}: {output:?}");
    }
}

#[test]
fn every_guide_is_linked() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let guides = fs::read_dir(docs).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<String> = guides.map(|name| name.into_string().unwrap()).collect();
    let names: Vec<&String> = names.iter().filter(|name| name.ends_with(".md")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(README.contains(&format!("](docs/{name})")), "{name}");
    }
}
